// SPDX-License-Identifier: Apache-2.0
// weir cron backfill: fires for times of the schedule that have passed, so many at once.
//
// Invariant: the server keeps one fire for each scheduled time, so that running this again goes on where it stopped.
#include <signal.h>

#include "cli/commands.h"
#include "cli/cron.h"
#include "cli/trigger.h"
#include "core/base/clock.h"

#define TIMES_MAX 100000
#define PAGE 1000
#define PARALLEL_DEFAULT 4
#define PARALLEL_MAX 100
#define BUSY_TRIES 30     // refusals one after the other
#define BUSY_DEFAULT_S 1
#define LOOK_MS 100
#define LOOK_MAX_MS 1000
#define OUTCOMES (FIRE_UNKNOWN + 1)

static const struct arg_spec specs[] = {
    {"from", 0, ARG_TEXT, "TIME", "the first time: 2026-10-01, '2026-10-01 12:00', -7d, RFC 3339", NULL},
    {"to", 0, ARG_TEXT, "TIME", "only before this time (default now)", NULL},
    {"parallel", 'p', ARG_COUNT, "N", "so many run at once (default 4, at most 100)", NULL},
    {"dry-run", 0, ARG_FLAG, NULL, "only list the times", NULL},
    {"yes", 'y', ARG_FLAG, NULL, "do not ask", NULL},
    {0},
};

struct backfill {
    const struct args *a;
    struct client *client;
    const char *trigger;
    json_t *about;           // what cron next says of the trigger
    struct zone *zone;
    int64_t from_ms, to_ms;
    int64_t *times;
    size_t count, at;        // times before `at` were sent, or had run
    int64_t running[PARALLEL_MAX];
    size_t running_count, parallel;
    size_t had_run, ended[OUTCOMES];
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signo) {
    (void)signo;
    interrupted = 1;
}

// --- which times ------------------------------------------------------------------------------------------------------

static int read_period(struct backfill *b) {
    int64_t now_ms = clock_unix_ms(), parallel = args_number(b->a, "parallel", PARALLEL_DEFAULT);
    if (!args_has(b->a, "from")) return out_misuse("cron backfill: it needs the first time: --from 2026-10-01");
    if (parallel < 1 || parallel > PARALLEL_MAX) return out_misuse("cron backfill: --parallel must be from 1 to %d", PARALLEL_MAX);
    b->parallel = (size_t)parallel;
    b->to_ms = now_ms;
    int rc = cron_cmd_when(b->a, "from", b->zone, &b->from_ms);
    if (rc == EXIT_OK) rc = cron_cmd_when(b->a, "to", b->zone, &b->to_ms);
    if (rc != EXIT_OK) return rc;
    if (b->to_ms > now_ms) {
        out_note("--to is still to come: only the times until now are taken, the timer does the others");
        b->to_ms = now_ms;
    }
    if (b->from_ms >= b->to_ms) return out_misuse("cron backfill: --from must be before --to, and in the past");
    return EXIT_OK;
}

// The times of [from, to).
static int fetch_times(struct backfill *b) {
    int64_t after_ms = b->from_ms > 1 ? b->from_ms - 1 : 1;
    for (size_t got = PAGE; got == PAGE;) {
        json_auto_t *page = NULL;
        size_t i;
        json_t *fire;
        int rc = cron_cmd_ask_next(b->client, b->trigger, after_ms, b->to_ms, PAGE, &page);
        if (rc != EXIT_OK) return rc;
        const json_t *fires = json_object_get(page, "fires");
        got = json_array_size(fires);
        if (b->count + got > TIMES_MAX)
            return out_fail("there are more than %d times in this period; take a shorter one, and go on with the next", TIMES_MAX);
        b->times = mem_realloc(b->times, (b->count + got + 1) * sizeof *b->times);
        json_array_foreach(fires, i, fire) b->times[b->count++] = after_ms = member_int(fire, "scheduledMs", 0);
        out_progress("%zu times", b->count);
    }
    out_progress(NULL);
    return EXIT_OK;
}

static void print_times(const struct backfill *b) {
    char first[CRON_CMD_TIME_BYTES], last[CRON_CMD_TIME_BYTES];
    if (b->count == 0) {
        printf("%s has no times in this period\n", b->trigger);
        return;
    }
    cron_cmd_local(b->zone, b->times[0], first);
    cron_cmd_local(b->zone, b->times[b->count - 1], last);
    if (b->count == 1) printf("%s has 1 time: %s (%s)\n", b->trigger, first, b->zone->name);
    else printf("%s has %zu times: %s to %s (%s)\n", b->trigger, b->count, first, last, b->zone->name);
}

static int show_times(const struct backfill *b) {
    json_auto_t *times = json_array();
    for (size_t i = 0; i < b->count; i++) {
        char local[CRON_CMD_TIME_BYTES];
        cron_cmd_local(b->zone, b->times[i], local);
        if (args_has(b->a, "json")) json_array_append_new(times, json_integer(b->times[i]));
        else printf("%s\n", local);
    }
    if (args_has(b->a, "json")) {
        json_auto_t *shown = json_pack("{s:s, s:s, s:O}", "trigger", b->trigger, "zone", b->zone->name, "times", times);
        out_json(shown);
    } else {
        print_times(b);
    }
    return EXIT_OK;
}

// --- running ----------------------------------------------------------------------------------------------------------

static size_t total(const struct backfill *b) {
    size_t sum = 0;
    for (size_t i = 0; i < OUTCOMES; i++) sum += b->ended[i];
    return sum;
}

static void show_progress(const struct backfill *b) {
    out_progress("%zu of %zu: %zu ok, %zu died, %zu had run, %zu running", total(b) + b->had_run, b->count, b->ended[FIRE_OK],
                 b->ended[FIRE_DEAD], b->had_run, b->running_count);
}

// *ret_pause_s: the server has no room now.
static int send_one(struct backfill *b, int64_t scheduled_ms, int64_t *ret_pause_s) {
    cleanup_free char *path = trigger_path(b->trigger, "fires"), *body = mem_printf("{\"scheduledMs\":%lld}", (long long)scheduled_ms);
    const struct request request = {.method = "POST", .path = path, .body = str_of(body), .content_type = "application/json"};
    struct reply reply;
    struct err err;
    int rc = EXIT_OK;
    *ret_pause_s = 0;
    if (client_send(b->client, &request, &reply, &err) < 0) return out_fail("%s", err.text);
    if (reply.status == 409) {
        b->had_run++;
    } else if (reply.status == 429 || reply.status == 503) {
        *ret_pause_s = reply.retry_after_s > 0 ? reply.retry_after_s : BUSY_DEFAULT_S;
    } else if (reply.status >= 400) {
        cleanup_free char *why = reply_error(&reply);
        rc = out_fail("%s", why);
    } else {
        b->running[b->running_count++] = scheduled_ms;
    }
    reply_done(&reply);
    return rc;
}

static int send_some(struct backfill *b) {
    for (int tries = 0; b->at < b->count && b->running_count < b->parallel && !interrupted;) {
        int64_t pause_s;
        int rc = send_one(b, b->times[b->at], &pause_s);
        if (rc != EXIT_OK) return rc;
        if (pause_s == 0) {
            b->at++;
            tries = 0;
            show_progress(b);
        } else if (++tries > BUSY_TRIES) {
            return out_fail("the server has no room, %d times one after the other", BUSY_TRIES);
        } else {
            cron_cmd_pause(pause_s * 1000);
        }
    }
    return EXIT_OK;
}

static int look_at_running(struct backfill *b) {
    for (size_t i = 0; i < b->running_count && !interrupted;) {
        json_auto_t *row = NULL;
        int rc = cron_cmd_ask_fire(b->client, b->trigger, b->running[i], &row);
        if (rc != EXIT_OK) return rc;
        enum fire_outcome outcome = cron_cmd_outcome(row); // a row that is gone: unknown
        if (cron_cmd_has_ended(outcome)) {
            b->ended[outcome]++;
            b->running[i] = b->running[--b->running_count];
        } else {
            i++;
        }
    }
    show_progress(b);
    return EXIT_OK;
}

static int run_all(struct backfill *b) {
    int64_t pause_ms = LOOK_MS;
    while (!interrupted && (b->at < b->count || b->running_count)) {
        int rc = send_some(b);
        size_t before = b->running_count;
        if (rc == EXIT_OK) rc = look_at_running(b);
        if (rc != EXIT_OK) return rc;
        pause_ms = b->running_count < before ? LOOK_MS : pause_ms * 2 > LOOK_MAX_MS ? LOOK_MAX_MS : pause_ms * 2;
        if (b->running_count == b->parallel || b->at == b->count) cron_cmd_pause(b->running_count ? pause_ms : 0);
    }
    return EXIT_OK;
}

// --- the end ----------------------------------------------------------------------------------------------------------

static json_t *summary_json(const struct backfill *b) {
    static const char *const words[] = {
#define X(name, word) word,
        FIRE_OUTCOMES(X)
#undef X
    };
    json_t *outcomes = json_object();
    for (size_t i = 0; i < OUTCOMES; i++)
        if (b->ended[i]) json_object_set_new(outcomes, words[i], json_integer((json_int_t)b->ended[i]));
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:o}", "trigger", b->trigger, "times", (json_int_t)b->count, "hadRun",
                     (json_int_t)b->had_run, "running", (json_int_t)b->running_count, "left", (json_int_t)(b->count - b->at), "outcomes",
                     outcomes);
}

static void print_summary(const struct backfill *b) {
    size_t others = total(b) - b->ended[FIRE_OK] - b->ended[FIRE_DEAD];
    printf("%zu of %zu: %zu ok", total(b) + b->had_run, b->count, b->ended[FIRE_OK]);
    if (b->ended[FIRE_DEAD]) printf(", %s%zu died%s", out_tone(stdout, TONE_BAD), b->ended[FIRE_DEAD], out_tone(stdout, TONE_PLAIN));
    if (others) printf(", %zu ended otherwise", others);
    if (b->had_run) printf(", %zu had run", b->had_run);
    if (b->running_count) printf(", %zu still running", b->running_count);
    if (b->at < b->count) printf(", %zu not sent", b->count - b->at);
    putchar('\n');
}

static int finish(const struct backfill *b, int rc) {
    out_progress(NULL);
    json_auto_t *summary = summary_json(b);
    if (args_has(b->a, "json")) out_json(summary);
    else print_summary(b);
    if (rc != EXIT_OK || b->at < b->count || b->running_count) {
        out_note("what was sent runs; the same command again goes on from here");
        return EXIT_FAILED;
    }
    if (b->ended[FIRE_DEAD] == 0) return EXIT_OK;
    return out_fail("%zu died; weir dlq list --function %s shows them", b->ended[FIRE_DEAD], member_text(b->about, "function", "NAME"));
}

static int run_times(struct backfill *b) {
    if (!args_has(b->a, "json")) print_times(b);
    fflush(stdout);
    if (b->count && !args_has(b->a, "yes") && !out_confirm("Fire %s for %zu time%s?", b->trigger, b->count, plural((int64_t)b->count)))
        return out_fail("nothing was fired");
    const struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND}; // a second one ends it at once
    sigaction(SIGINT, &action, NULL);
    return finish(b, run_all(b));
}

static int run_backfill(const struct args *a) {
    struct backfill b = {.a = a, .trigger = a->words[0], .client = client_new(a)};
    int rc = cron_cmd_ask_next(b.client, b.trigger, 0, 0, 1, &b.about);
    if (rc == EXIT_OK) {
        b.zone = cron_cmd_zone_of(b.about);
        rc = read_period(&b);
    }
    if (rc == EXIT_OK) rc = fetch_times(&b);
    if (rc == EXIT_OK) rc = args_has(a, "dry-run") ? show_times(&b) : run_times(&b);
    zone_close(b.zone);
    json_decref(b.about);
    free(b.times);
    client_free(b.client);
    return rc;
}

const struct command cron_cmd_backfill = {
    .name = "backfill",
    .words = "TRIGGER --from TIME",
    .summary = "Fires for times of the schedule that have passed and have no fire, so many at once",
    .about = "\nTimes without a zone are those of the trigger's. What has a fire already is passed over, so that the same command goes\n"
             "on where it stopped. Exit code 1 when one died.\n\n"
             "  weir cron backfill report --from 2026-10-01 --to 2026-11-01 --parallel 4 --dry-run\n",
    .specs = specs,
    .uses = USES_SERVER | USES_JSON,
    .least = 1,
    .most = 1,
    .run = run_backfill,
};
