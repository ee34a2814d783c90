// SPDX-License-Identifier: Apache-2.0
// weir dlq watch: the loop that joins keys, answers and the screen, and the signals that end or resize it.
#include "cli/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/dlq.h"
#include "cli/watch_http.h"
#include "cli/watch_screen.h"
#include "core/base/clock.h"

#define TICK_MS 1000 // ages and the time to the next try are drawn anew
#define LOOK_TIMEOUT_MS 10000
#define CHANGE_TIMEOUT_MS 60000

struct loop_of {
    const struct args *args;
    struct watch model;
    struct screen *screen;
    struct http *http;
};

static int64_t now_ms(void) {
    return clock_mono_ns() / NS_PER_MS;
}

// --- signals ------------------------------------------------------------------------------------------------------

static volatile sig_atomic_t stopped, resized; // stopped: by this signal
static int wake[2] = {-1, -1};

static void on_signal(int signo) {
    int before = errno;
    if (signo == SIGWINCH) resized = 1;
    else stopped = signo;
    (void)!write(wake[1], "", 1);
    errno = before;
}

static int catch_signals(void) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH};
    struct sigaction act = {.sa_handler = on_signal};
    if (pipe2(wake, O_CLOEXEC | O_NONBLOCK) < 0) return out_fail("there is no room for a pipe: %s", strerror(errno));
    for (size_t i = 0; i < array_len(signals); i++) (void)sigaction(signals[i], &act, NULL);
    (void)signal(SIGPIPE, SIG_IGN); // a connection that broke
    return EXIT_OK;
}

static void take_signals(struct loop_of *l) {
    char bytes[64];
    while (read(wake[0], bytes, sizeof bytes) > 0) continue;
    if (resized) {
        resized = 0;
        screen_resize(l->screen);
    }
    if (stopped) l->model.over = true;
}

// As if nobody had caught it, so that the shell sees what ended the command.
static void end_by_signal(void) {
    if (!stopped) return;
    (void)signal(stopped, SIG_DFL);
    (void)raise(stopped);
}

// --- the editor ---------------------------------------------------------------------------------------------------

static const struct command edit_root = {.name = "weir", .subs = (const struct command *const[]){&dlq_edit, NULL}};

// weir dlq edit ID, in a process of its own: whatever becomes of it, this one goes on. Does not return.
static void run_edit(const struct loop_of *l, const char *id, const char *why) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGQUIT, SIGABRT, SIGTSTP, SIGPIPE};
    const char *token = args_text(l->args, "token");
    char *words[8] = {mem_strdup("weir"), mem_strdup("edit"), mem_strdup(id), mem_printf("--server=%s", l->model.url)};
    int n = 4;
    if (token) words[n++] = mem_printf("--token=%s", token);
    if (*why) words[n++] = mem_printf("--why=%s", why);
    for (size_t i = 0; i < array_len(signals); i++) (void)signal(signals[i], SIG_DFL);
    int rc = args_run(&edit_root, n, words);
    fputs("\nEnter goes back to the dead letters ", stdout);
    fflush(stdout);
    for (int c = 0; c != '\n' && c != EOF;) c = getchar();
    _exit(rc);
}

static void edit(struct loop_of *l) {
    cleanup_free char *id = TAKE_PTR(l->model.edit_id), *why = TAKE_PTR(l->model.edit_why);
    int status = 0;
    screen_leave(l->screen);
    // Ctrl-C is for the editor.
    void (*before)(int) = signal(SIGINT, SIG_IGN);
    pid_t pid = fork();
    if (pid == 0) run_edit(l, id, why);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        if (stopped) (void)kill(pid, SIGTERM);
    (void)signal(SIGINT, before);
    screen_return(l->screen);
    watch_edited(&l->model, pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_OK);
}

// --- the loop -----------------------------------------------------------------------------------------------------

static void take_answers(struct loop_of *l) {
    struct watch_answer answer;
    if (l->model.poll.open && http_take(l->http, HTTP_LOOK, &answer)) {
        watch_take_poll(&l->model, &answer, now_ms());
        answer_done(&answer);
    }
    if (l->model.change.act && http_take(l->http, HTTP_CHANGE, &answer)) {
        watch_take_change(&l->model, &answer);
        answer_done(&answer);
    }
}

static void take_keys(struct loop_of *l) {
    uint32_t key;
    while (!l->model.over && !l->model.edit_id && screen_key(l->screen, &key)) watch_key(&l->model, key);
    if (l->model.edit_id) edit(l);
}

static void send_requests(struct loop_of *l) {
    const struct change *change = &l->model.change;
    if (!l->model.poll.open) http_cancel(l->http, HTTP_LOOK);
    if (!change->act) http_cancel(l->http, HTTP_CHANGE);
    cleanup_free char *path = watch_next_poll(&l->model, now_ms());
    if (path) http_start(l->http, HTTP_LOOK, "GET", path, NULL, LOOK_TIMEOUT_MS);
    if (!watch_next_change(&l->model)) return;
    bool tries = strcmp(change->path, "/v1/letters/try") == 0; // functions run in it
    http_start(l->http, HTTP_CHANGE, change->method, change->path, change->body, tries ? 0 : CHANGE_TIMEOUT_MS);
}

static void draw(struct loop_of *l) {
    struct frame f;
    size_t rows, cols;
    screen_size(l->screen, &rows, &cols);
    frame_init(&f, rows, cols);
    watch_draw(&l->model, &f, now_ms());
    screen_show(l->screen, &f);
    frame_done(&f);
}

static void wait_for_something(struct loop_of *l) {
    const int fds[] = {STDIN_FILENO, wake[0]};
    int64_t now = now_ms(), due = watch_poll_ms(&l->model), left_ms = due > now ? due - now : 0;
    http_wait(l->http, fds, array_len(fds), left_ms < TICK_MS ? left_ms : TICK_MS);
    struct pollfd terminal = {.fd = STDIN_FILENO, .events = POLLIN};
    if (poll(&terminal, 1, 0) > 0 && terminal.revents & (POLLHUP | POLLERR | POLLNVAL)) l->model.over = true; // it is gone
}

static void run_loop(struct loop_of *l) {
    while (!l->model.over) {
        draw(l);
        wait_for_something(l);
        take_signals(l);
        take_answers(l);
        take_keys(l);
        send_requests(l);
    }
}

// --- the command --------------------------------------------------------------------------------------------------

static const struct arg_spec specs[] = {
    {"function", 'f', ARG_TEXT, "FUNCTION", "only letters of this function", NULL},
    {"since", 0, ARG_WHEN, "WHEN", "only letters that died since then: 2h (ago) or 2026-01-31T12:00:00Z", NULL},
    {"muted", 0, ARG_FLAG, NULL, "the muted groups too", NULL},
    {0},
};

static int run_watch(const struct args *a) {
    if (!out_is_terminal(stdin) || !out_is_terminal(stdout))
        return out_misuse("dlq watch: it fills the screen of a terminal, and this is none; for scripts: weir dlq groups --json");
    cleanup_client struct client *c = client_new(a);
    struct loop_of l = {.args = a};
    struct err err;
    int rc = catch_signals();
    if (rc != EXIT_OK) return rc;
    if (screen_open(&l.screen, &err) < 0) return out_misuse("dlq watch: %s; weir dlq groups lists them", err.text);
    l.http = http_new(c);
    watch_init(&l.model, client_url(c));
    l.model.function = args_text(a, "function");
    l.model.since_ms = args_number(a, "since", 0);
    l.model.muted = args_has(a, "muted");
    run_loop(&l);
    screen_close(l.screen);
    watch_done(&l.model);
    http_free(l.http);
    end_by_signal();
    return EXIT_OK;
}

const struct command dlq_watch = {
    .name = "watch",
    .summary = "Shows the dead letters in a full-screen view, live; keys open, try, replay and discard them",
    .about = "\nEnter opens, q goes back, ? lists the keys. Whatever changes something asks first.\n",
    .specs = specs,
    .uses = USES_SERVER,
    .run = run_watch,
};
