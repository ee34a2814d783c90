// SPDX-License-Identifier: Apache-2.0
// weir cron history and list: what timers did, and which there are.
#include "cli/commands.h"
#include "cli/cron.h"
#include "cli/trigger.h"

#define LIMIT_DEFAULT 20
#define LIMIT_MAX 100000
#define PAGE_MAX 1000
#define LIST_MAX 200
#define ERROR_WIDTH 60

// --- history ----------------------------------------------------------------------------------------------------------

static const struct arg_spec history_specs[] = {
    {"limit", 'n', ARG_COUNT, "N", "at most so many, the newest (default 20)", NULL},
    {"outcome", 0, ARG_WORD, "OUTCOME", "only those that ended so, or are so",
     "running|waiting|retrying|ok|dead|skipped|cancelled|discarded|missed|unknown"},
    {0},
};

// Fills `all` with up to `limit` rows of that outcome (NULL: any) over as many pages as that takes.
static int fetch(struct client *c, const char *trigger, const char *outcome, size_t limit, json_t *all, bool *ret_more) {
    int64_t before_ms = 0;
    do {
        cleanup_free char *path = trigger_path(trigger, "fires");
        json_auto_t *page = NULL;
        size_t i, wanted = limit - json_array_size(all) + 1; // one more shows whether there is more
        json_t *row;
        path_query_number(&path, "limit", outcome || wanted > PAGE_MAX ? PAGE_MAX : (int64_t)wanted);
        if (before_ms) path_query_number(&path, "before", before_ms);
        int rc = client_json(c, "GET", path, NULL, &page);
        if (rc != EXIT_OK) return rc;
        json_array_foreach(json_object_get(page, "fires"), i, row) {
            if (outcome && strcmp(member_text(row, "outcome", ""), outcome) != 0) continue;
            *ret_more = json_array_size(all) == limit;
            if (*ret_more) return EXIT_OK;
            json_array_append(all, row);
        }
        before_ms = member_int(page, "next", 0);
    } while (before_ms);
    return EXIT_OK;
}

static void add_span(struct table *t, const json_t *row, const char *key) {
    char span[OUT_SHORT_BYTES];
    int64_t ms = member_int(row, key, -1);
    table_add(t, TONE_PLAIN, "%s", ms < 0 ? "-" : out_span(ms, span));
}

// "+41 missed, 3 attempts, KeyError: 'total'"; caller frees.
static char *note_of(const json_t *row) {
    int64_t missed = member_int(row, "missed", 0), attempts = member_int(row, "attempts", 0);
    const char *error = member_text(row, "error", "");
    int width = 0;
    for (size_t columns = 0; error[width] && error[width] != '\n'; width++) // without tearing a character apart
        if (((unsigned char)error[width] & 0xc0) != 0x80 && columns++ == ERROR_WIDTH) break;
    cleanup_free char *first = missed ? mem_printf("+%lld missed", (long long)missed) : mem_strdup("");
    cleanup_free char *second = attempts > 1 ? mem_printf("%s%lld attempts", *first ? ", " : "", (long long)attempts) : mem_strdup("");
    return mem_printf("%s%s%s%.*s", first, second, *error && (*first || *second) ? ", " : "", width, error);
}

static void add_row(struct table *t, const json_t *row, const struct zone *z) {
    char scheduled[CRON_CMD_TIME_BYTES], fired[CRON_CMD_TIME_BYTES] = "-";
    enum fire_outcome outcome = cron_cmd_outcome(row);
    int64_t fired_ms = member_int(row, "firedMs", 0);
    cleanup_free char *note = note_of(row);
    cron_cmd_local(z, member_int(row, "scheduledMs", 0), scheduled);
    if (fired_ms) cron_cmd_local(z, fired_ms, fired);
    table_add(t, TONE_BOLD, "%s", scheduled);
    table_add(t, TONE_PLAIN, "%.19s", fired_ms ? fired + 4 : fired); // without weekday and offset, which the first column has
    add_span(t, row, "lagMs");
    table_add(t, TONE_PLAIN, "%s", member_text(row, "cause", "?"));
    table_add(t, cron_cmd_outcome_tone(outcome), "%s", member_text(row, "outcome", "?"));
    add_span(t, row, "durationMs");
    table_add(t, TONE_PLAIN, "%s", member_text(row, "requestId", "-"));
    table_add(t, TONE_WARN, "%s", note);
}

static void print_history(const json_t *rows, const struct zone *z) {
    static const char *const titles[] = {"SCHEDULED", "FIRED", ">LAG", "CAUSE", "OUTCOME", ">TOOK", "REQUEST ID", "NOTE", NULL};
    struct table t;
    size_t i;
    const json_t *row;
    table_init(&t, titles);
    json_array_foreach(rows, i, row) add_row(&t, row, z);
    table_print(&t);
}

static int run_history(const struct args *a) {
    const char *trigger = a->words[0], *outcome = args_text(a, "outcome");
    int64_t limit = args_number(a, "limit", LIMIT_DEFAULT);
    if (limit < 1 || limit > LIMIT_MAX) return out_misuse("cron history: --limit must be from 1 to %d", LIMIT_MAX);
    cleanup_client struct client *c = client_new(a);
    json_auto_t *next = NULL, *rows = json_array();
    bool more = false;
    int rc = cron_cmd_ask_next(c, trigger, 0, 0, 1, &next);
    if (rc == EXIT_OK) rc = fetch(c, trigger, outcome, (size_t)limit, rows, &more);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "json")) {
        json_auto_t *shown = json_pack("{s:s, s:s, s:O, s:b}", "trigger", trigger, "zone", member_text(next, "zone", "UTC"), "fires", rows,
                                       "more", (int)more);
        out_json(shown);
        return EXIT_OK;
    }
    struct zone *zone = cron_cmd_zone_of(next);
    if (json_array_size(rows)) print_history(rows, zone);
    else out_note("%s has no %s%sfires; weir cron next %s shows when it fires", trigger, outcome ? outcome : "", outcome ? " " : "", trigger);
    if (more) out_more(limit);
    zone_close(zone);
    return EXIT_OK;
}

const struct command cron_cmd_history = {
    .name = "history",
    .words = "TRIGGER",
    .summary = "Shows what a timer did, the newest first: scheduled, fired, how it ended, and what was missed",
    .specs = history_specs,
    .uses = USES_SERVER | USES_JSON,
    .least = 1,
    .most = 1,
    .run = run_history,
};

// --- list -------------------------------------------------------------------------------------------------------------

// Adds what cron next says of the timer: {…trigger…, "zone", "expression", "words", "next": {fire} or null}.
static int complete(struct client *c, json_t *timer) {
    static const char *const keys[] = {"zone", "expression", "words"};
    json_auto_t *next = NULL;
    int rc = cron_cmd_ask_next(c, member_text(timer, "name", ""), 0, 0, 1, &next);
    if (rc != EXIT_OK) return rc;
    json_t *fire = json_array_get(json_object_get(next, "fires"), 0);
    json_object_set_new(timer, "next", fire ? json_incref(fire) : json_null());
    for (size_t i = 0; i < array_len(keys); i++) json_object_set(timer, keys[i], json_object_get(next, keys[i]));
    return EXIT_OK;
}

// At most LIST_MAX.
static int fetch_timers(struct client *c, const char *function, json_t **ret, bool *ret_more) {
    json_auto_t *timers = NULL;
    size_t i;
    json_t *timer;
    int rc = trigger_fetch(c, &(struct trigger_query){.function = function, .kind = FIRE_SOURCE, .most = LIST_MAX + 1}, &timers);
    if (rc != EXIT_OK) return rc;
    *ret_more = json_array_size(timers) > LIST_MAX;
    if (*ret_more) json_array_remove(timers, LIST_MAX);
    json_array_foreach(timers, i, timer) {
        rc = complete(c, timer);
        if (rc != EXIT_OK) return rc;
    }
    *ret = json_incref(timers);
    return EXIT_OK;
}

static void print_timers(const json_t *timers) {
    static const char *const titles[] = {"NAME", "FUNCTION", "STATE", "SCHEDULE", "ZONE", "NEXT", "IN", NULL};
    struct table t;
    size_t i;
    const json_t *timer;
    table_init(&t, titles);
    json_array_foreach(timers, i, timer) {
        char local[CRON_CMD_TIME_BYTES] = "-", in[CRON_CMD_TIME_BYTES] = "-";
        const char *state = member_text(timer, "state", "?");
        const json_t *next = json_object_get(timer, "next");
        bool fires = json_is_object(next) && strcmp(state, "active") == 0;
        if (fires) cron_cmd_pretty(member_text(next, "local", "?"), local);
        if (fires) cron_cmd_in(member_int(next, "scheduledMs", 0), in);
        table_add(&t, TONE_BOLD, "%s", member_text(timer, "name", "?"));
        table_add(&t, TONE_PLAIN, "%s", member_text(timer, "function", "?"));
        table_add(&t, trigger_state_tone(state), "%s", state);
        table_add(&t, TONE_PLAIN, "%s", member_text(timer, "expression", "?"));
        table_add(&t, TONE_PLAIN, "%s", member_text(timer, "zone", "?"));
        table_add(&t, TONE_PLAIN, "%s", local);
        table_add(&t, TONE_DIM, "%s", in);
    }
    table_print(&t);
}

static int run_list(const struct args *a) {
    cleanup_client struct client *c = client_new(a);
    json_auto_t *timers = NULL;
    const char *function = a->word_count ? a->words[0] : NULL;
    bool more = false;
    int rc = fetch_timers(c, function, &timers, &more);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "json")) {
        json_auto_t *shown = json_pack("{s:O, s:b}", "timers", timers, "more", (int)more);
        out_json(shown);
    } else if (json_array_size(timers) == 0) {
        out_note("%s%s no timers; weir trigger add --help shows how to add one", function ? function : "there are", function ? " has" : "");
    } else {
        print_timers(timers);
    }
    if (more) out_note("there are more than these %d; name a function, or see weir trigger list", LIST_MAX);
    return EXIT_OK;
}

static const struct arg_spec no_specs[] = {{0}};

const struct command cron_cmd_list = {
    .name = "list",
    .words = "[FUNCTION]",
    .summary = "Lists the timers, of one function or all, and when each fires next",
    .specs = no_specs,
    .uses = USES_SERVER | USES_JSON,
    .most = 1,
    .run = run_list,
};
