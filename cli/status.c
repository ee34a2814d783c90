// SPDX-License-Identifier: Apache-2.0
// weir status: what waits, what runs, how fast, what failed.
#include <time.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/out.h"

#define WATCH_EVERY_S 2

static const struct arg_spec specs[] = {
    {"watch", 'w', ARG_FLAG, NULL, "show it again every 2 seconds, until Ctrl-C", NULL},
    {0},
};

static void print_part(const json_t *status, const char *key) {
    const json_t *part = json_object_get(status, key);
    if (!json_is_object(part)) return;
    bool up = member_true(part, "up");
    printf(", %s %s %s%s%s", key, member_text(part, "kind", "?"), out_tone(stdout, up ? TONE_GOOD : TONE_BAD),
           up ? "up" : "away", out_tone(stdout, TONE_PLAIN));
}

static void print_head(const json_t *status) {
    char age[OUT_SHORT_BYTES];
    const json_t *ready = json_object_get(status, "ready");
    printf("weir %s, up %s", member_text(status, "version", "?"), out_age(member_int(status, "startedMs", 0), age));
    if (ready) {
        bool is = json_is_true(ready);
        printf(", %s%s%s", out_tone(stdout, is ? TONE_GOOD : TONE_BAD), is ? "ready" : "not ready",
               out_tone(stdout, TONE_PLAIN));
    }
    print_part(status, "queue");
    print_part(status, "store");
    const char *sandbox = member_text(status, "sandbox", NULL);
    if (sandbox) printf(", sandbox %s", sandbox);
    putchar('\n');
}

static void add_count(struct table *t, const json_t *fn, const char *key, enum tone tone) {
    const json_t *v = json_object_get(fn, key);
    int64_t n = member_int(fn, key, 0);
    if (v) table_add(t, n > 0 ? tone : TONE_PLAIN, "%lld", (long long)n);
    else table_add(t, TONE_DIM, "-");
}

// Letters that are due for a retry: those put off on purpose are counted apart. Negative: not known.
static int64_t retries_of(const json_t *fn) {
    return json_object_get(fn, "due") ? member_int(fn, "due", 0) - member_int(fn, "delayed", 0) : -1;
}

static void add_retries(struct table *t, const json_t *fn) {
    int64_t n = retries_of(fn);
    if (n < 0) table_add(t, TONE_DIM, "-");
    else table_add(t, n > 0 ? TONE_WARN : TONE_PLAIN, "%lld", (long long)n);
}

static void add_rate(struct table *t, const json_t *fn, const char *key, enum tone tone) {
    const json_t *v = json_object_get(fn, key);
    double n = member_real(fn, key, 0);
    if (v) table_add(t, n > 0 ? tone : TONE_PLAIN, n > 0 && n < 9.95 ? "%.1f" : "%.0f", n);
    else table_add(t, TONE_DIM, "-");
}

static void print_functions(const json_t *functions) {
    static const char *const titles[] = {"FUNCTION", ">VERSION", ">WAITING", ">OLDEST", ">RUNNING", ">INSTANCES",
                                         ">OK/S",    ">FAILED/S", ">RETRIES", ">DELAYED", ">DEAD", NULL};
    struct table t;
    table_init(&t, titles);
    size_t i;
    const json_t *fn;
    json_array_foreach(functions, i, fn) {
        char age[OUT_SHORT_BYTES];
        table_add(&t, TONE_BOLD, "%s", member_text(fn, "name", "?"));
        add_count(&t, fn, "current", TONE_PLAIN);
        add_count(&t, fn, "waiting", TONE_PLAIN);
        table_add(&t, TONE_PLAIN, "%s", out_age(member_int(fn, "oldestMs", 0), age));
        add_count(&t, fn, "busy", TONE_PLAIN);
        add_count(&t, fn, "instances", TONE_PLAIN);
        add_rate(&t, fn, "okPerSecond", TONE_GOOD);
        add_rate(&t, fn, "failedPerSecond", TONE_BAD);
        add_retries(&t, fn);
        add_count(&t, fn, "delayed", TONE_PLAIN);
        add_count(&t, fn, "dead", TONE_BAD);
    }
    table_print(&t);
}

static int64_t sum(const json_t *functions, const char *key) {
    int64_t n = 0;
    size_t i;
    const json_t *fn;
    json_array_foreach(functions, i, fn) n += member_int(fn, key, 0);
    return n;
}

static void print_letters(const json_t *functions) {
    long long delayed = sum(functions, "delayed"), due = sum(functions, "due") - delayed, dead = sum(functions, "dead");
    if (due || delayed || dead)
        printf("\n%lld letter%s due for a retry, %lld delayed, %lld dead%s\n", due, plural(due), delayed, dead,
               dead ? " (weir dlq list shows them)" : "");
}

static void print_status(const json_t *status) {
    const json_t *functions = json_object_get(status, "functions");
    print_head(status);
    putchar('\n');
    if (!functions) return;
    if (json_array_size(functions) == 0) {
        puts("No functions yet; make one with: weir deploy hello.py");
        return;
    }
    print_functions(functions);
    print_letters(functions);
}

// What is missing in the answer, and what to do; then it is a failure.
static int tell_missing(const json_t *status) {
    bool letters = member_lists(status, "missing", "letters"), depths = member_lists(status, "missing", "depths");
    const char *late = letters && depths ? "the store and the queue" : letters ? "the store" : depths ? "the queue" : NULL;
    if (!json_object_get(status, "functions")) return out_fail("the server did not say which functions there are; try again");
    if (!late) return EXIT_OK;
    return out_fail("%s did not answer in time, so what is shown as - is not known\n      try again; if it stays, weir doctor and the "
                    "server's log say more", late);
}

// ret_partial: the server answered, but not everything.
static int show_once(struct client *c, const struct args *a, bool repaint, int *ret_partial) {
    json_auto_t *status = NULL;
    int rc = client_json(c, "GET", "/v1/status", NULL, &status);
    if (rc != EXIT_OK) return rc;
    if (repaint) fputs("\033[H\033[2J", stdout);
    if (args_has(a, "json") && args_has(a, "watch")) out_json_line(status);
    else if (args_has(a, "json")) out_json(status);
    else print_status(status);
    if (fflush(stdout) != 0) return EXIT_FAILED;
    *ret_partial = tell_missing(status);
    return EXIT_OK;
}

static int run_status(const struct args *a) {
    cleanup_client struct client *c = client_new(a);
    bool watch = args_has(a, "watch"), repaint = watch && out_is_terminal(stdout) && !args_has(a, "json");
    int partial = EXIT_OK;
    int rc = show_once(c, a, repaint, &partial);
    while (watch && rc == EXIT_OK) {
        nanosleep(&(struct timespec){.tv_sec = WATCH_EVERY_S}, NULL);
        rc = show_once(c, a, repaint, &partial);
    }
    return rc == EXIT_OK ? partial : rc;
}

const struct command status_command = {
    .name = "status",
    .summary = "Shows what waits, what runs, how fast, and what failed",
    .specs = specs,
    .uses = USES_SERVER | USES_JSON,
    .run = run_status,
};
