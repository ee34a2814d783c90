// SPDX-License-Identifier: Apache-2.0
// weir doctor: checks of this machine and of the server, each with what to do about it. A warning is no failure.
#include <errno.h>
#include <spawn.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/out.h"

#define SPACE_WARN_BYTES ((int64_t)1 << 30)
#define SPACE_FAIL_BYTES ((int64_t)64 << 20)
#define QUICK_TIMEOUT_MS 5000

static const struct arg_spec specs[] = {
    {"data", 0, ARG_TEXT, "FOLDER", "the server's data folder on this machine (default ./weir-data)", NULL},
    {0},
};

enum verdict { CHECK_OK, CHECK_WARN, CHECK_FAIL };
struct doctor {
    const struct args *args;
    struct client *client;
    json_t *checks;
    int failed;
};

static void say(struct doctor *d, enum verdict verdict, const char *check, const char *fmt, ...) printf_like(4, 5);
static void say(struct doctor *d, enum verdict verdict, const char *check, const char *fmt, ...) {
    static const char *const words[] = {"ok", "warn", "fail"};
    static const enum tone tones[] = {TONE_GOOD, TONE_WARN, TONE_BAD};
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    MUST(vasprintf(&text, fmt, ap) >= 0);
    va_end(ap);
    d->failed += verdict == CHECK_FAIL;
    if (args_has(d->args, "json")) {
        json_array_append_new(d->checks, json_pack("{s:s, s:s, s:s}", "check", check, "verdict", words[verdict], "text", text));
    } else {
        printf("%s%-4s%s  %-10s  ", out_tone(stdout, tones[verdict]), words[verdict], out_tone(stdout, TONE_PLAIN), check);
        out_text(stdout, str_of(text));
        putchar('\n');
    }
    free(text);
}

// --- this machine -------------------------------------------------------------------------------------------------

extern char **environ;

// The exit code of the program, run without input or output; -1: it could not be started.
static int try_program(const char *const argv[]) {
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    char *words[16] = {0};
    for (size_t i = 0; argv[i] && i + 1 < array_len(words); i++) words[i] = mem_strdup(argv[i]);
    int rc = posix_spawnp(&pid, words[0], &actions, NULL, words, environ);
    for (size_t i = 0; words[i]; i++) free(words[i]);
    posix_spawn_file_actions_destroy(&actions);
    if (rc != 0) return -1;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void check_python(struct doctor *d) {
    static const char *const argv[] = {"python3", "-c", "import sys; sys.exit(sys.version_info < (3, 9))", NULL};
    int rc = try_program(argv);
    if (rc == 0) say(d, CHECK_OK, "python", "python3 is there");
    else if (rc == 1) say(d, CHECK_FAIL, "python", "python3 is older than 3.9; the runtimes need 3.9 or newer");
    else say(d, CHECK_FAIL, "python", "python3 does not run; install it: apt-get install python3");
}

static void check_bubblewrap(struct doctor *d) {
    static const char *const argv[] = {"bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "true", NULL};
    int rc = try_program(argv);
    if (rc == 0)
        say(d, CHECK_OK, "sandbox", "bubblewrap works");
    else if (rc == -1 || rc == 127)
        say(d, CHECK_WARN, "sandbox", "bubblewrap is not installed; functions run with the rights of the server. "
                                      "Install it: apt-get install bubblewrap");
    else
        say(d, CHECK_WARN, "sandbox", "bubblewrap cannot make namespaces here (a container?); functions run with the rights "
                                      "of the server. Allow user namespaces, or set sandbox = none to say that you know");
}

static void check_space(struct doctor *d) {
    const char *folder = args_text(d->args, "data");
    if (!folder) folder = "./weir-data";
    struct statvfs fs;
    char size[OUT_SHORT_BYTES];
    if (statvfs(folder, &fs) < 0) {
        if (errno == ENOENT) say(d, CHECK_OK, "disk", "%s is not there yet; weir serve makes it (--data checks another)", folder);
        else say(d, CHECK_FAIL, "disk", "%s: %s", folder, strerror(errno));
        return;
    }
    int64_t bytes = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
    out_size(bytes, size);
    if (bytes < SPACE_FAIL_BYTES) say(d, CHECK_FAIL, "disk", "%s has only %s left; make room", folder, size);
    else if (bytes < SPACE_WARN_BYTES) say(d, CHECK_WARN, "disk", "%s has %s left; make room soon", folder, size);
    else say(d, CHECK_OK, "disk", "%s has %s left", folder, size);
    if (access(folder, W_OK) < 0) say(d, CHECK_WARN, "disk", "%s cannot be written by this user", folder);
}

// --- the server ---------------------------------------------------------------------------------------------------

static bool check_reachable(struct doctor *d) {
    struct request request = {.method = "GET", .path = "/readyz", .timeout_ms = QUICK_TIMEOUT_MS};
    struct reply reply;
    struct err err;
    if (client_send(d->client, &request, &reply, &err) < 0) {
        say(d, CHECK_FAIL, "server", "%s", err.text);
        return false;
    }
    size_t n = strcspn(reply.body, "\n");
    if (reply.status == 200) say(d, CHECK_OK, "server", "%s answers and is ready", client_url(d->client));
    else if (reply.status == 503)
        say(d, CHECK_FAIL, "server", "%s is not ready: %.*s; its log says more", client_url(d->client), (int)n, reply.body);
    else
        say(d, CHECK_FAIL, "server", "%s answered with HTTP status %d; is it a weir server?", client_url(d->client),
            reply.status);
    bool weir = reply.status == 200 || reply.status == 503;
    reply_done(&reply);
    return weir;
}

static void check_part(struct doctor *d, const json_t *status, const char *key) {
    const json_t *part = json_object_get(status, key);
    if (!json_is_object(part)) return;
    const char *kind = member_text(part, "kind", "?");
    if (member_true(part, "up")) say(d, CHECK_OK, key, "%s is up", kind);
    else say(d, CHECK_FAIL, key, "%s is away; check that it runs and that the server's %s option is right", kind, key);
}

static void check_letters(struct doctor *d, const json_t *status) {
    int64_t dead = 0;
    size_t i;
    const json_t *fn, *store = json_object_get(status, "store");
    if (member_lists(status, "missing", "letters")) {
        bool away = store && !member_true(store, "up");
        say(d, CHECK_WARN, "letters", "unknown: the store %s", away ? "is away" : "did not answer in time; try again");
        return;
    }
    json_array_foreach(json_object_get(status, "functions"), i, fn) dead += member_int(fn, "dead", 0);
    if (dead)
        say(d, CHECK_WARN, "letters", "%lld dead letter%s; see weir dlq list", (long long)dead, plural(dead));
    else
        say(d, CHECK_OK, "letters", "no dead letters");
}

static void check_status(struct doctor *d) {
    struct request request = {.method = "GET", .path = "/v1/status", .timeout_ms = QUICK_TIMEOUT_MS};
    struct reply reply;
    struct err err;
    if (client_send(d->client, &request, &reply, &err) < 0) {
        say(d, CHECK_FAIL, "status", "%s", err.text);
        return;
    }
    json_auto_t *status = json_loadb(reply.body, reply.body_len, 0, NULL);
    if (reply.status >= 400 || !status) {
        cleanup_free char *why = reply_error(&reply);
        say(d, CHECK_FAIL, "status", "%s", why);
        reply_done(&reply);
        return;
    }
    const char *version = member_text(status, "version", "?");
    if (strcmp(version, WEIR_VERSION) == 0) say(d, CHECK_OK, "version", "server and client are %s", version);
    else
        say(d, CHECK_WARN, "version", "the server is %s, this program is %s; use the same", version, WEIR_VERSION);
    check_part(d, status, "queue");
    check_part(d, status, "store");
    check_letters(d, status);
    reply_done(&reply);
}

static int run_doctor(const struct args *a) {
    cleanup_client struct client *c = client_new(a);
    json_auto_t *checks = json_array();
    struct doctor d = {.args = a, .client = c, .checks = checks};
    check_python(&d);
    check_bubblewrap(&d);
    check_space(&d);
    if (check_reachable(&d)) check_status(&d);
    if (args_has(a, "json")) {
        json_auto_t *shown = json_pack("{s:b, s:O}", "ok", d.failed == 0, "checks", checks);
        out_json(shown);
    }
    return d.failed ? EXIT_FAILED : EXIT_OK;
}

const struct command doctor_command = {
    .name = "doctor",
    .summary = "Checks this machine and the server, and says what to do about what is wrong",
    .specs = specs,
    .uses = USES_SERVER | USES_JSON,
    .run = run_doctor,
};
