// SPDX-License-Identifier: Apache-2.0
// The child is made with vfork: the server may be large, and nothing but system calls happens between fork and exec.
#include "workers/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/log.h"

#define FENCE_MAX 48
#define TMP_BYTES "536870912" // of an instance's /tmp, which lives in memory
#define SOCKET_BYTES (1 << 20)

struct sandbox {
    char *fence[FENCE_MAX + 1]; // the bubblewrap command before an instance's own; empty: none
    size_t fence_len;
};

// What an instance finds in its environment before INIT adds the function's own.
static char env_path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
static char env_home[] = "HOME=/tmp";
static char env_lang[] = "LANG=C.UTF-8";
static char env_fd[] = "WEIR_FD=3";
static char *const child_env[] = {env_path, env_home, env_lang, env_fd, NULL};

static void fence_add(struct sandbox *s, const char *word) {
    MUST(s->fence_len < FENCE_MAX);
    s->fence[s->fence_len++] = mem_strdup(word);
}

// Its path, so that not every start searches PATH; the bare name when it is not there.
static char *find_program(const char *name) {
    cleanup_free char *folders = mem_strdup(getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin");
    char *save = NULL;
    for (char *dir = strtok_r(folders, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
        char *path = mem_printf("%s/%s", dir, name);
        if (access(path, X_OK) == 0) return path;
        free(path);
    }
    return mem_strdup(name);
}

static void fence_build(struct sandbox *s, const char *data_dir, const char *code_dir, const char *runtimes_dir) {
    cleanup_free char *bwrap = find_program("bwrap");
    const char *const words[] = {
        bwrap,         "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--new-session",
        "--cap-drop",  "ALL",               "--ro-bind",     "/",             "/",             "--dev",
        "/dev",        "--proc",            "/proc",         "--size",        TMP_BYTES,       "--tmpfs",
        "/tmp",        "--tmpfs",           data_dir,        "--ro-bind",     code_dir,        code_dir,
        "--ro-bind",   runtimes_dir,        runtimes_dir,    "--chdir",       "/tmp",          "--",
    };
    for (size_t i = 0; i < array_len(words); i++) fence_add(s, words[i]);
}

// --- the child ------------------------------------------------------------------------------------------------------

struct plan {
    char *const *argv, *const *env;
    int socket_fd, output_fd;
    pid_t parent;
    volatile int failed; // errno of what failed; shared with the parent until exec
};

// Between vfork and exec: system calls only.
static void become(struct plan *p) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setsid();
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != p->parent || null_fd < 0 || dup2(null_fd, 0) < 0 ||
        dup2(p->output_fd, 1) < 0 || dup2(p->output_fd, 2) < 0 || dup2(p->socket_fd, 3) < 0) {
        p->failed = errno ? errno : ESRCH;
        _exit(127);
    }
    execvpe(p->argv[0], p->argv, p->env);
    p->failed = errno;
    _exit(127);
}

static pid_t __attribute__((noinline)) start(struct plan *p) {
    pid_t pid = vfork();
    if (pid == 0) become(p);
    return pid;
}

static void close_two(const int fds[2]) {
    if (fds[0] >= 0) close(fds[0]);
    if (fds[1] >= 0) close(fds[1]);
}

// fd 3 is the child's socket: descriptors that are open here must not be there, or dup2 would keep CLOEXEC on them.
static int above_three(int fd) {
    if (fd > 3) return fd;
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, 4);
    close(fd);
    return moved;
}

static int make_pipes(int socket_fds[2], int output_fds[2], struct err *err) {
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socket_fds) || pipe2(output_fds, O_CLOEXEC))
        return err_set_errno(err, ERR_UNAVAILABLE, errno, "cannot make the sockets of an instance");
    int bytes = SOCKET_BYTES;
    for (int i = 0; i < 2; i++) setsockopt(socket_fds[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    socket_fds[1] = above_three(socket_fds[1]);
    output_fds[1] = above_three(output_fds[1]);
    return 0;
}

static char **full_argv(const struct sandbox *s, const struct runtime *rt) {
    size_t n = 0;
    while (rt->argv[n]) n++;
    char **argv = mem_array(s->fence_len + n + 1, sizeof *argv);
    memcpy(argv, s->fence, s->fence_len * sizeof *argv);
    memcpy(argv + s->fence_len, rt->argv, n * sizeof *argv);
    return argv;
}

int sandbox_spawn(const struct sandbox *s, const struct runtime *rt, struct child *ret, struct err *err) {
    int socket_fds[2] = {-1, -1}, output_fds[2] = {-1, -1};
    int rc = make_pipes(socket_fds, output_fds, err);
    struct child child = {.pid = -1, .pid_fd = -1, .socket_fd = socket_fds[0], .output_fd = output_fds[0]};
    if (rc == 0) {
        char **argv = full_argv(s, rt);
        struct plan plan = {
            .argv = argv, .env = child_env, .socket_fd = socket_fds[1], .output_fd = output_fds[1], .parent = getpid()};
        child.pid = start(&plan);
        if (child.pid > 0) child.pid_fd = pidfd_open(child.pid, 0);
        if (child.pid < 0 || plan.failed || child.pid_fd < 0)
            rc = err_set_errno(err, ERR_UNAVAILABLE, plan.failed ? plan.failed : errno, "cannot start %s", argv[0]);
        free(argv);
    }
    if (rc) {
        if (child.pid > 0) {
            kill(-child.pid, SIGKILL);
            waitpid(child.pid, NULL, 0);
        }
        if (child.pid_fd >= 0) close(child.pid_fd);
        close_two(socket_fds);
        close_two(output_fds);
        return rc;
    }
    close(socket_fds[1]);
    close(output_fds[1]);
    *ret = child;
    return 0;
}

// --- choosing -------------------------------------------------------------------------------------------------------

// Does the fence hold on this machine? (User namespaces may be off, as in many containers.)
static bool fence_works(const struct sandbox *s, struct err *err) {
    char program[] = "/bin/true";
    char *argv[] = {program, NULL};
    const struct runtime nothing = {.argv = argv};
    struct child child;
    if (sandbox_spawn(s, &nothing, &child, err)) return false;
    int status = -1;
    waitpid(child.pid, &status, 0);
    char text[300];
    ssize_t n = read(child.output_fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    close(child.pid_fd);
    close(child.socket_fd);
    close(child.output_fd);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
    err_set(err, ERR_UNAVAILABLE, "bubblewrap does not work here: %s", text[0] ? text : "it failed without a word");
    return false;
}

static void fence_clear(struct sandbox *s) {
    for (size_t i = 0; i < s->fence_len; i++) free(s->fence[i]);
    s->fence_len = 0;
}

int sandbox_open(const char *mode, const char *data_dir, const char *code_dir, const struct runtimes *runtimes,
                 struct sandbox **ret, struct err *err) {
    struct sandbox *s = mem_zalloc(sizeof *s);
    if (strcmp(mode, "none") != 0) {
        struct err why = {0};
        fence_build(s, data_dir, code_dir, runtimes->dir);
        if (!fence_works(s, &why)) {
            fence_clear(s);
            if (strcmp(mode, "bubblewrap") == 0) {
                sandbox_free(s);
                return err_set(err, why.code, "%s; install bubblewrap, or run with --sandbox none", why.text);
            }
            log_warn("sandbox", "instances run without a sandbox", LOG_STR("error", why.text));
        }
    }
    *ret = s;
    return 0;
}

void sandbox_free(struct sandbox *s) {
    if (!s) return;
    fence_clear(s);
    free(s);
}

const char *sandbox_kind(const struct sandbox *s) {
    return s->fence_len ? "bubblewrap" : "none";
}
