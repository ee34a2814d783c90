// SPDX-License-Identifier: Apache-2.0
// weir cron next: the coming times of a timer, which the server tells, or of an expression, which needs no server. Both are the
// JSON of GET /v1/triggers/{name}/next by the time they are printed.
#include "cli/commands.h"
#include "cli/cron_expression.h"
#include "core/base/clock.h"

#define COUNT_DEFAULT 20
#define COUNT_MAX 1000

static const struct arg_spec specs[] = {
    {"count", 'n', ARG_COUNT, "N", "how many times (default 20, at most 1000)", NULL},
    {"from", 0, ARG_TEXT, "TIME", "from then on (default now): 2026-10-25, '2026-10-25 01:30', +3d, RFC 3339", NULL},
    {"to", 0, ARG_TEXT, "TIME", "only before then", NULL},
    {"tz", 0, ARG_TEXT, "ZONE", "of an expression: its time zone, such as Europe/Berlin (default UTC)", NULL},
    {"dst", 0, ARG_WORD, "RULE", "of an expression: cron, skip, once or both (default cron)", "cron|skip|once|both"},
    {0},
};

struct period {
    int64_t from_ms, to_ms; // 0: not given
    size_t count;
};

static int read_period(const struct args *a, const struct zone *z, struct period *ret) {
    int64_t count = args_number(a, "count", COUNT_DEFAULT);
    if (count < 1 || count > COUNT_MAX) return out_misuse("cron next: --count must be from 1 to %d", COUNT_MAX);
    *ret = (struct period){.count = (size_t)count};
    int rc = cron_cmd_when(a, "from", z, &ret->from_ms);
    return rc == EXIT_OK ? cron_cmd_when(a, "to", z, &ret->to_ms) : rc;
}

// --- printing ---------------------------------------------------------------------------------------------------------

static const char *note_of(const json_t *fire) {
    const char *mark = member_text(fire, "mark", "");
    if (strcmp(mark, "gap-end") == 0) return "moved: the clocks go forward over its time";
    if (strcmp(mark, "first") == 0) return "the first of two: the clocks go back";
    if (strcmp(mark, "second") == 0) return "the second of two: the clocks went back";
    return mark;
}

static void print_head(const json_t *next) {
    const char *trigger = member_text(next, "trigger", NULL), *state = member_text(next, "state", "active");
    if (trigger) {
        fputs(out_tone(stdout, TONE_BOLD), stdout);
        out_text(stdout, str_of(trigger));
        printf("%s: ", out_tone(stdout, TONE_PLAIN));
    }
    cleanup_free char *text = mem_printf("%s  (%s, %s)", member_text(next, "words", ""), member_text(next, "expression", "?"),
                                         member_text(next, "zone", "?"));
    out_text(stdout, str_of(text));
    if (strcmp(state, "active") != 0) printf("  %s%s%s", out_tone(stdout, TONE_WARN), state, out_tone(stdout, TONE_PLAIN));
    putchar('\n');
}

static bool any_note(const json_t *fires) {
    const json_t *fire;
    size_t i;
    json_array_foreach(fires, i, fire) if (*note_of(fire)) return true;
    return false;
}

static void print_next(const json_t *next) {
    const json_t *fires = json_object_get(next, "fires"), *fire;
    bool notes = any_note(fires);
    const char *const titles[] = {"LOCAL", "UTC", "IN", notes ? "NOTE" : NULL, NULL};
    struct table t;
    size_t i;
    print_head(next);
    if (json_array_size(fires) == 0) {
        out_note("there is no such time");
        return;
    }
    table_init(&t, titles);
    json_array_foreach(fires, i, fire) {
        char local[CRON_CMD_TIME_BYTES], utc[CRON_CMD_TIME_BYTES], in[CRON_CMD_TIME_BYTES];
        int64_t ms = member_int(fire, "scheduledMs", 0);
        cron_cmd_pretty(member_text(fire, "local", "?"), local);
        cron_cmd_utc(ms, utc);
        cron_cmd_in(ms, in);
        table_add(&t, TONE_BOLD, "%s", local);
        table_add(&t, TONE_PLAIN, "%s", utc);
        table_add(&t, TONE_DIM, "%s", in);
        if (notes) table_add(&t, TONE_WARN, "%s", note_of(fire));
    }
    table_print(&t);
}

static int show(const struct args *a, const json_t *next) {
    if (args_has(a, "json")) out_json(next);
    else print_next(next);
    return EXIT_OK;
}

// --- where they come from ---------------------------------------------------------------------------------------------

static int next_of_expression(const struct args *a) {
    struct expression e;
    struct period p;
    int rc = expression_open(a, a->words[0], &e);
    if (rc != EXIT_OK) return rc;
    rc = read_period(a, e.zone, &p);
    if (rc == EXIT_OK) {
        json_auto_t *next = expression_next(&e, p.from_ms, p.to_ms, p.count);
        rc = show(a, next);
    }
    expression_done(&e);
    return rc;
}

static int next_of_trigger(const struct args *a) {
    if (args_has(a, "tz") || args_has(a, "dst"))
        return out_misuse("cron next: --tz and --dst are for expressions; trigger %s has its own (weir trigger change)", a->words[0]);
    cleanup_client struct client *c = client_new(a);
    json_auto_t *first = NULL, *next = NULL;
    struct period p;
    int rc = cron_cmd_ask_next(c, a->words[0], 0, 0, 1, &first); // tells the zone in which --from and --to are meant
    if (rc != EXIT_OK) return rc;
    struct zone *zone = cron_cmd_zone_of(first);
    rc = read_period(a, zone, &p);
    zone_close(zone);
    if (rc == EXIT_OK) rc = cron_cmd_ask_next(c, a->words[0], p.from_ms ? p.from_ms - 1 : 0, p.to_ms, p.count, &next);
    return rc == EXIT_OK ? show(a, next) : rc;
}

static int run_next(const struct args *a) {
    int rc = expression_one_word(a);
    if (rc != EXIT_OK) return rc;
    return is_expression(a->words[0]) ? next_of_expression(a) : next_of_trigger(a);
}

const struct command cron_cmd_next = {
    .name = "next",
    .words = "TRIGGER|EXPRESSION",
    .summary = "Shows the coming times, in the zone and in UTC, and what daylight saving does to them",
    .about = "\nWhat has a blank or begins with @ is an expression, which needs no server:\n\n"
             "  weir cron next report\n"
             "  weir cron next '0 30 2 * * * *' --tz Europe/Berlin --from 2026-03-28 --count 3\n"
             "  weir cron next '@every 90m'\n",
    .specs = specs,
    .uses = USES_SERVER | USES_JSON,
    .least = 1,
    .most = EXPRESSION_WORDS_MAX,
    .run = run_next,
};
