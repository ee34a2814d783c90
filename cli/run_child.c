// SPDX-License-Identifier: Apache-2.0
// The process of weir run: INIT, one INVOKE, STOP. It ends with this one, and everything that it started with it.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "cli/out.h"
#include "cli/run.h"
#include "core/base/clock.h"
#include "workers/frames.h"
#include "workers/instance.h"
#include "workers/invoke_meta.h"

#define LAST_WORDS_MS 200 // from SIGQUIT, at which the Python runtime says where the handler is, to SIGKILL
#define SEND_SECONDS 10

struct running {
    const struct run_plan *plan;
    struct run_end *end;
    pid_t pid;
    int pid_fd, socket_fd, signal_fd;
    sigset_t before;     // the signals that were blocked before
    struct buf in;
    int64_t began_ns;    // the handler
    int64_t limit_ns;    // when it is asked to end, or killed; 0: never
    bool ready, answered, gone, timed_out, closed;
    int status;          // of the process, when it is gone
    struct err broken;   // why its frames cannot be followed
};

// --- starting -----------------------------------------------------------------------------------------------------------

static void become(const struct running *c, int socket_fd, pid_t parent) {
    static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", home[] = "HOME=/tmp", lang[] = "LANG=C.UTF-8",
                fd[] = "WEIR_FD=3", debug[] = "WEIR_DEBUG=pdb";
    char *term = mem_printf("TERM=%s", getenv("TERM") ? getenv("TERM") : "dumb");
    char *env[] = {path, home, lang, fd, c->plan->debug ? debug : NULL, term, NULL};
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (c->plan->debug) {
        signal(SIGINT, SIG_IGN); // the parent ends both
    } else {
        int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        setsid();
        dup2(null_fd, 0);
        dup2(2, 1); // stdout is for the result
    }
    sigprocmask(SIG_SETMASK, &c->before, NULL);
    if (getppid() != parent || dup2(socket_fd, 3) < 0) _exit(127);
    execve(c->plan->runtime->argv[0], c->plan->runtime->argv, env);
    dprintf(2, "%s: %s\n", c->plan->runtime->argv[0], strerror(errno));
    _exit(127);
}

static int spawn(struct running *c, struct err *err) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)) return err_set_errno(err, ERR_UNAVAILABLE, errno, "cannot make a socket");
    const struct timeval patience = {.tv_sec = SEND_SECONDS};
    setsockopt(fds[0], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    int theirs = fcntl(fds[1], F_DUPFD_CLOEXEC, 4); // not 3: dup2 would keep CLOEXEC on it
    close(fds[1]);
    pid_t parent = getpid();
    c->pid = theirs < 0 ? -1 : fork();
    if (c->pid == 0) become(c, theirs, parent);
    c->pid_fd = c->pid < 0 ? -1 : pidfd_open(c->pid, 0);
    c->socket_fd = fds[0];
    if (theirs >= 0) close(theirs);
    return c->pid_fd < 0 ? err_set_errno(err, ERR_UNAVAILABLE, errno, "cannot start %s", c->plan->runtime->argv[0]) : 0;
}

// The signals that end the program come by a descriptor while the child lives, so that it never outlives this process.
static void watch_signals(struct running *c) {
    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGINT);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGHUP);
    sigprocmask(SIG_BLOCK, &ending, &c->before);
    c->signal_fd = signalfd(-1, &ending, SFD_CLOEXEC);
    MUST(c->signal_fd >= 0);
}

// --- frames from the child ----------------------------------------------------------------------------------------------

static void set_error(struct running *c, enum outcome outcome, const char *type, const char *message) {
    c->end->outcome = outcome;
    c->end->error = json_pack("{s:s, s:s, s:s}", "type", type, "message", message, "stack", "");
}

static void handle_ready(struct running *c, const struct frame *f) {
    (void)f;
    c->ready = true;
}

static void take_time(struct running *c) {
    if (c->began_ns) c->end->duration_us = (clock_mono_ns() - c->began_ns) / 1000;
}

static void handle_result(struct running *c, const struct frame *f) {
    if (c->timed_out || c->answered) return;
    take_time(c);
    c->answered = true;
    c->end->outcome = OUTCOME_OK;
    MUST(buf_append(&c->end->result, f->body) == 0); // a frame's cap is below its own
}

static void handle_error(struct running *c, const struct frame *f) {
    if (c->timed_out || c->answered) return;
    take_time(c);
    c->answered = true;
    c->end->outcome = OUTCOME_ERROR;
    c->end->error = json_loadb(f->body.data, f->body.len, JSON_ALLOW_NUL, NULL);
    if (!c->end->error) set_error(c, OUTCOME_ERROR, "Error", "the runtime told an error that cannot be read");
}

static void handle_log(struct running *c, const struct frame *f) {
    (void)c;
    out_text(stderr, f->body);
}

static void handle_pong(struct running *c, const struct frame *f) {
    (void)c, (void)f; // none was asked for
}

static void (*const handlers[])(struct running *, const struct frame *) = {
    [FRAME_READY] = handle_ready, [FRAME_RESULT] = handle_result, [FRAME_ERROR] = handle_error,
    [FRAME_LOG] = handle_log,     [FRAME_PONG] = handle_pong,
};

// It, and all that it started; under the debugger it is in our own group, whose others the terminal tells.
static void kill_all(const struct running *c) {
    kill(c->pid, SIGKILL);
    if (!c->plan->debug) kill(-c->pid, SIGKILL);
}

static void parse(struct running *c) {
    struct frame f;
    size_t used;
    int rc;
    while ((rc = frame_parse(buf_str(&c->in), FRAME_FROM_INSTANCE, &f, &used, &c->broken)) > 0) {
        handlers[f.header.type](c, &f);
        buf_consume(&c->in, used);
    }
    if (rc < 0) kill_all(c);
}

// One read; false at the end of the stream.
static bool receive(struct running *c, int flags) {
    char *room = buf_reserve(&c->in, 65536);
    MUST(room); // `in` holds more than one frame
    ssize_t n = recv(c->socket_fd, room, 65536, flags);
    if (n < 0 && errno == EINTR) return true;
    if (n <= 0) return false;
    buf_added(&c->in, (size_t)n);
    if (!c->broken.code) parse(c);
    return true;
}

// --- waiting ------------------------------------------------------------------------------------------------------------

static void set_limit(struct running *c, int64_t ms) {
    c->limit_ns = c->plan->debug ? 0 : clock_mono_ns() + ms * NS_PER_MS;
}

static void on_limit(struct running *c) {
    if (c->timed_out || c->answered) {
        c->limit_ns = 0;
        kill_all(c);
        return;
    }
    c->timed_out = true;
    take_time(c);
    kill(c->pid, SIGQUIT);
    set_limit(c, LAST_WORDS_MS);
}

static void on_gone(struct running *c) {
    kill_all(c); // what it left behind, and might go on writing to us
    while (!c->closed && receive(c, MSG_DONTWAIT)) continue;
    waitpid(c->pid, &c->status, 0);
    c->gone = true;
}

static void on_signal(struct running *c) {
    struct signalfd_siginfo info;
    if (read(c->signal_fd, &info, sizeof info) != sizeof info) return;
    c->end->signal = (int)info.ssi_signo;
    kill_all(c);
}

// Until *done, or the process is gone.
static void wait_until(struct running *c, const bool *done) {
    while (!*done && !c->gone) {
        struct pollfd fds[] = {{.fd = c->closed ? -1 : c->socket_fd, .events = POLLIN},
                               {.fd = c->pid_fd, .events = POLLIN},
                               {.fd = c->signal_fd, .events = POLLIN}};
        int64_t left_ms = (c->limit_ns - clock_mono_ns()) / NS_PER_MS + 1;
        int n = poll(fds, array_len(fds), !c->limit_ns ? -1 : left_ms > 0 ? (int)left_ms : 0);
        if (n == 0) on_limit(c);
        if (n <= 0) continue;
        if (fds[0].revents) c->closed = !receive(c, 0);
        if (fds[2].revents) on_signal(c);
        if (fds[1].revents) on_gone(c);
    }
}

// --- frames to the child ------------------------------------------------------------------------------------------------

// A child that does not read is told by its end, or by its limit.
static void send_all(struct running *c, struct str bytes) {
    while (bytes.len) {
        ssize_t n = send(c->socket_fd, bytes.data, bytes.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return;
        bytes = (struct str){bytes.data + n, bytes.len - (size_t)n};
    }
}

static void send_init(struct running *c) {
    struct buf body;
    uint8_t head[FRAME_HEADER_BYTES];
    buf_init(&body, FRAME_BODY_MAX);
    init_body_append(&body, c->plan->version);
    MUST(frame_header_fill(FRAME_INIT, 0, buf_len(&body), head, NULL) == 0);
    send_all(c, (struct str){(const char *)head, sizeof head});
    send_all(c, buf_str(&body));
    buf_done(&body);
}

static void send_invoke(struct running *c) {
    struct buf meta;
    struct str payload = c->plan->ev->f.payload;
    uint8_t head[FRAME_INVOKE_HEAD_BYTES];
    buf_init(&meta, FRAME_META_MAX);
    invoke_meta_append(&meta, c->plan->ev, &c->plan->version->settings, clock_unix_ms());
    MUST(frame_invoke_fill(1, buf_len(&meta), payload.len, head, NULL) == 0);
    send_all(c, (struct str){(const char *)head, sizeof head});
    send_all(c, buf_str(&meta));
    send_all(c, payload);
    buf_done(&meta);
}

static void send_stop(struct running *c) {
    uint8_t head[FRAME_HEADER_BYTES];
    MUST(frame_header_fill(FRAME_STOP, 0, 0, head, NULL) == 0);
    send_all(c, (struct str){(const char *)head, sizeof head});
}

// --- one event ----------------------------------------------------------------------------------------------------------

// In the words of workers/instance.c.
static void blame(struct running *c) {
    char text[160];
    int signo = WIFSIGNALED(c->status) ? WTERMSIG(c->status) : 0;
    if (c->timed_out && !c->ready) {
        set_error(c, OUTCOME_TIMEOUT, "Timeout", "the code did not load within 60 s");
    } else if (c->timed_out) {
        snprintf(text, sizeof text, "it ran longer than its limit of %lld ms and was killed", (long long)c->plan->version->settings.timeout_ms);
        set_error(c, OUTCOME_TIMEOUT, "Timeout", text);
    } else if (c->broken.code) {
        snprintf(text, sizeof text, "%.150s", c->broken.text);
        set_error(c, OUTCOME_CRASH, "ProtocolError", text);
    } else if (c->plan->debug && !signo && WEXITSTATUS(c->status) == 0) {
        c->end->left = true;
    } else if (signo) {
        const char *name = sigabbrev_np(signo);
        snprintf(text, sizeof text, "the process was ended by SIG%s%s", name ? name : "?",
                 signo == SIGKILL ? " (killed, or out of memory)" : "");
        set_error(c, OUTCOME_CRASH, "InstanceCrashed", text);
    } else {
        snprintf(text, sizeof text, "the process ended with status %d before the handler returned", WEXITSTATUS(c->status));
        set_error(c, OUTCOME_CRASH, "InstanceCrashed", text);
    }
}

static void talk(struct running *c) {
    set_limit(c, INSTANCE_LOAD_MS);
    send_init(c);
    wait_until(c, &c->ready);
    if (c->ready && !c->gone) {
        c->began_ns = clock_mono_ns();
        set_limit(c, c->plan->version->settings.timeout_ms);
        send_invoke(c);
        wait_until(c, &c->answered);
    }
    if (!c->gone) {
        send_stop(c);
        c->limit_ns = clock_mono_ns() + INSTANCE_STOP_MS * NS_PER_MS;
    }
    const bool never = false;
    wait_until(c, &never);
    if (!c->answered && !c->end->signal) blame(c);
}

int run_event(const struct run_plan *plan, struct run_end *ret, struct err *err) {
    struct running c = {.plan = plan, .end = ret, .socket_fd = -1};
    struct termios terminal;
    bool has_terminal = plan->debug && tcgetattr(STDIN_FILENO, &terminal) == 0;
    *ret = (struct run_end){0};
    buf_init(&ret->result, FRAME_BODY_MAX);
    buf_init(&c.in, FRAME_HEADER_BYTES + FRAME_BODY_MAX + 65536);
    watch_signals(&c);
    int rc = spawn(&c, err);
    if (rc == 0) talk(&c);
    if (rc == 0) close(c.pid_fd);
    if (c.socket_fd >= 0) close(c.socket_fd);
    close(c.signal_fd);
    sigprocmask(SIG_SETMASK, &c.before, NULL);
    if (has_terminal) tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal); // the debugger's line editor may have been killed
    buf_done(&c.in);
    return rc;
}

void run_end_done(struct run_end *end) {
    buf_done(&end->result);
    json_decref(end->error);
}
