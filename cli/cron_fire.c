// SPDX-License-Identifier: Apache-2.0
// weir trigger fire: a fire by hand, and its end.
#include "cli/commands.h"
#include "cli/cron.h"
#include "cli/trigger.h"
#include "core/base/clock.h"

#define TIMEOUT_DEFAULT_MS INT64_C(300000)
#define LOOK_MS 100
#define LOOK_MAX_MS 1000

static const struct arg_spec specs[] = {
    CRON_CMD_DATA_SPECS,
    {"wait", 'w', ARG_FLAG, NULL, "wait until it ended, retries included; exit code 1 unless it ended well", NULL},
    {"timeout", 0, ARG_DURATION, "TIME", "how long to wait (default 5m)", NULL},
    {0},
};

static int make_body(const struct args *a, json_t **ret) {
    struct buf data;
    bool given;
    json_t *body = json_object();
    int rc = cron_cmd_data(a, &data, &given);
    struct str text = buf_str(&data);
    if (rc == EXIT_OK && given && json_object_set_new(body, "data", json_stringn(text.data, text.len)))
        rc = out_misuse("trigger fire: what a timer gives to its function is text, and this is not UTF-8");
    buf_done(&data);
    if (rc == EXIT_OK) *ret = body;
    else json_decref(body);
    return rc;
}

// Until it ended, or NULL when the time is up.
static int await(struct client *c, const char *trigger, int64_t scheduled_ms, int64_t timeout_ms, json_t **ret_row) {
    int64_t until_ns = clock_mono_ns() + timeout_ms * NS_PER_MS, pause_ms = LOOK_MS;
    for (;;) {
        json_auto_t *row = NULL;
        int rc = cron_cmd_ask_fire(c, trigger, scheduled_ms, &row);
        if (rc != EXIT_OK) return rc;
        if (row && cron_cmd_has_ended(cron_cmd_outcome(row))) {
            *ret_row = json_incref(row);
            return EXIT_OK;
        }
        if (clock_mono_ns() >= until_ns) return EXIT_OK;
        cron_cmd_pause(pause_ms);
        if (pause_ms < LOOK_MAX_MS) pause_ms *= 2;
    }
}

static int tell_end(const struct args *a, const json_t *row) {
    char span[OUT_SHORT_BYTES];
    enum fire_outcome outcome = cron_cmd_outcome(row);
    const char *word = member_text(row, "outcome", "?"), *error = member_text(row, "error", "");
    if (args_has(a, "json")) out_json(row);
    else printf("%s%s%s after %s\n", out_tone(stdout, cron_cmd_outcome_tone(outcome)), word, out_tone(stdout, TONE_PLAIN),
                out_span(member_int(row, "durationMs", 0), span));
    if (outcome == FIRE_OK) return EXIT_OK;
    const char *id = member_text(row, "requestId", "");
    return out_fail("the fire ended %s%s%s%s%s", word, *error ? ": " : "", error, outcome == FIRE_DEAD ? "\n      weir dlq show " : "",
                    outcome == FIRE_DEAD ? id : "");
}

static int follow(const struct args *a, struct client *c, const json_t *fired) {
    json_auto_t *row = NULL;
    int64_t timeout_ms = args_number(a, "timeout", TIMEOUT_DEFAULT_MS);
    int rc = await(c, a->words[0], member_int(fired, "scheduledMs", 0), timeout_ms, &row);
    if (rc != EXIT_OK) return rc;
    if (row) return tell_end(a, row);
    char span[OUT_SHORT_BYTES];
    return out_fail("it has not ended in %s and goes on; weir cron history %s shows it", out_span(timeout_ms, span), a->words[0]);
}

static int run_fire(const struct args *a) {
    if (args_has(a, "timeout") && !args_has(a, "wait")) return out_misuse("trigger fire: --timeout is for --wait");
    json_t *body;
    int rc = make_body(a, &body);
    if (rc != EXIT_OK) return rc;
    cleanup_client struct client *c = client_new(a);
    cleanup_free char *path = trigger_path(a->words[0], "fires");
    json_auto_t *fired = NULL;
    rc = client_json(c, "POST", path, body, &fired);
    if (rc != EXIT_OK) return rc;
    bool wait = args_has(a, "wait");
    if (!args_has(a, "json")) printf("%s fired: %s\n", a->words[0], member_text(fired, "requestId", "?"));
    else if (!wait) out_json(fired);
    fflush(stdout);
    return wait ? follow(a, c, fired) : EXIT_OK;
}

const struct command trigger_fire = {
    .name = "fire",
    .words = "NAME",
    .summary = "Fires a timer now, whatever its schedule says, also a paused one",
    .about = "\nThe data goes to the function in place of the trigger's message:\n\n"
             "  weir trigger fire report\n"
             "  weir trigger fire report --data '{\"kind\":\"again\"}' --wait\n",
    .specs = specs,
    .uses = USES_SERVER | USES_JSON,
    .least = 1,
    .most = 1,
    .run = run_fire,
};
