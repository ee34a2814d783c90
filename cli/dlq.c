// SPDX-License-Identifier: Apache-2.0
// weir dlq: the table of commands, and list.
#include "cli/dlq.h"

#include "cli/commands.h"
#include "cli/dlq_replay.h"
#include "cli/out.h"
#include "cli/watch.h"
#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/id.h"

#define LIST_DEFAULT 50
#define ERROR_WIDTH 60

// --- reading ------------------------------------------------------------------------------------------------------

static int fetch_page(struct client *c, const struct args *a, const char *state, int64_t limit, const char *cursor,
                      json_t **ret) {
    cleanup_free char *path = path_new("/v1/letters");
    dlq_selection_query(a, state, NULL, &path);
    if (args_takes(a, "order")) path_query(&path, "order", args_text(a, "order"));
    path_query_number(&path, "limit", limit);
    path_query(&path, "cursor", cursor);
    return client_json(c, "GET", path, NULL, ret);
}

int dlq_fetch(struct client *c, const struct args *a, const char *state, int64_t limit, json_t **ret_letters,
              bool *ret_more) {
    json_auto_t *all = json_array();
    cleanup_free char *cursor = NULL;
    for (;;) {
        json_auto_t *page = NULL;
        int64_t left = limit ? limit - (int64_t)json_array_size(all) : DLQ_PAGE;
        int rc = fetch_page(c, a, state, left < DLQ_PAGE ? left : DLQ_PAGE, cursor, &page);
        if (rc != EXIT_OK) return rc;
        json_array_extend(all, json_object_get(page, "letters"));
        free(cursor);
        cursor = mem_strdup(member_text(page, "next", NULL));
        if (!cursor || (limit && (int64_t)json_array_size(all) >= limit)) break;
    }
    *ret_more = cursor != NULL;
    *ret_letters = json_incref(all);
    return EXIT_OK;
}

int dlq_fetch_one(struct client *c, const char *id, json_t **ret) {
    cleanup_free char *path = path_new("/v1/letters");
    path_add(&path, id);
    return client_json(c, "GET", path, NULL, ret);
}

// --- list ---------------------------------------------------------------------------------------------------------

char *dlq_error_text(const json_t *o) {
    const char *type = member_text(o, "errorType", ""), *message = member_text(o, "errorMessage", member_text(o, "title", ""));
    return mem_printf("%s%s%s", type, *type && *message ? ": " : "", message);
}

enum tone dlq_state_tone(const char *state) {
    if (strcmp(state, "dead") == 0) return TONE_BAD;
    if (strcmp(state, "due") == 0 || strcmp(state, "replaying") == 0) return TONE_WARN;
    return TONE_DIM;
}

static bool is_due(const json_t *letter) {
    return strcmp(member_text(letter, "state", ""), "due") == 0;
}

static void add_due(struct table *t, const json_t *letter) {
    char span[OUT_SHORT_BYTES];
    int64_t left_ms = member_int(letter, "dueMs", 0) - clock_unix_ms();
    if (left_ms > 0) table_add(t, TONE_PLAIN, "in %s", out_span(left_ms, span));
    else table_add(t, TONE_PLAIN, "now");
}

// What never ran has no error by which it could be in a group.
static bool is_in_group(const json_t *letter) {
    return member_int(letter, "attempts", 0) > 0 || strcmp(member_text(letter, "kind", ""), "delayed") != 0;
}

static bool is_discarded(const json_t *letter) {
    return strcmp(member_text(letter, "state", ""), "discarded") == 0;
}

static void add_why(struct table *t, const json_t *letter) {
    const char *whole = member_text(letter, "why", "");
    cleanup_free char *why = out_cut(*whole ? whole : "-", ERROR_WIDTH);
    table_add(t, TONE_PLAIN, "%s", why);
}

// Of the event, by its id, as the list is sorted.
static void add_age(struct table *t, const json_t *letter) {
    char age[OUT_SHORT_BYTES];
    struct id id;
    bool good = id_parse(str_of(member_text(letter, "id", "")), &id) == 0;
    table_add(t, TONE_PLAIN, "%s", out_age(good ? id_unix_ms(&id) : 0, age));
}

// With the column DUE when all letters wait for their time, and WHY when all are discarded.
void dlq_print_table(const json_t *letters) {
    static const char *const titles[] = {"ID", "FUNCTION", "STATE", ">ATTEMPTS", "GROUP", "ERROR", ">AGE", NULL};
    static const char *const due_titles[] = {"ID", "FUNCTION", "STATE", ">DUE", ">ATTEMPTS", "GROUP", "ERROR", ">AGE", NULL};
    static const char *const discarded_titles[] = {"ID", "FUNCTION", "STATE", ">ATTEMPTS", "GROUP", "ERROR", "WHY", ">AGE", NULL};
    struct table t;
    size_t i;
    const json_t *letter;
    bool due = true, discarded = true;
    json_array_foreach(letters, i, letter) due &= is_due(letter), discarded &= is_discarded(letter);
    table_init(&t, due ? due_titles : discarded ? discarded_titles : titles);
    t.cut = "ERROR";
    json_array_foreach(letters, i, letter) {
        const char *state = member_text(letter, "state", "?");
        cleanup_free char *whole = dlq_error_text(letter), *error = out_cut(whole, ERROR_WIDTH);
        table_add(&t, TONE_PLAIN, "%s", member_text(letter, "id", "?"));
        table_add(&t, TONE_BOLD, "%s", member_text(letter, "function", "?"));
        table_add(&t, dlq_state_tone(state), "%s", state);
        if (due) add_due(&t, letter);
        table_add(&t, TONE_PLAIN, "%lld", (long long)member_int(letter, "attempts", 0));
        table_add(&t, TONE_DIM, "%s", is_in_group(letter) ? member_text(letter, "group", "-") : "-");
        table_add(&t, TONE_PLAIN, "%s", error);
        if (discarded) add_why(&t, letter);
        add_age(&t, letter);
    }
    table_print(&t);
}

#define REFUSED_SHOWN 20

size_t dlq_print_refused(const json_t *refused) {
    size_t n = json_array_size(refused);
    for (size_t i = 0; i < n && i < REFUSED_SHOWN; i++) {
        const json_t *one = json_array_get(refused, i);
        (void)out_fail("%s: %s", member_text(one, "id", "?"), member_text(one, "why", member_text(one, "state", "refused")));
    }
    if (n > REFUSED_SHOWN) (void)out_fail("and %zu more", n - REFUSED_SHOWN);
    return n;
}

static const struct arg_spec list_specs[] = {
    DLQ_SELECT_SPECS,
    DLQ_ALL_SPEC,
    DLQ_STATE_SPEC("only in this state (default dead)"),
    {"order", 0, ARG_WORD, "ORDER", "newest events first (the default), or oldest", "newest|oldest"},
    {0},
};

static int run_list(const struct args *a) {
    cleanup_client struct client *c = client_new(a);
    json_auto_t *letters = NULL;
    const char *state = args_text(a, "state");
    int64_t limit = args_number(a, "limit", LIST_DEFAULT);
    bool more;
    int rc = dlq_check_options(a, "list");
    if (rc == EXIT_OK && args_has(a, "all") && dlq_has_selection(a))
        rc = out_misuse("dlq list: --all means all; leave the selection out, or --all");
    if (rc == EXIT_OK) rc = dlq_fetch(c, a, state, limit, &letters, &more);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "json")) {
        json_auto_t *shown = json_pack("{s:O, s:b}", "letters", letters, "more", (int)more);
        out_json(shown);
    } else if (json_array_size(letters)) {
        dlq_print_table(letters);
        if (more) out_more(limit);
    } else {
        out_note("no %s letters", state ? state : "dead");
    }
    return json_array_size(letters) ? EXIT_OK : dlq_explain_empty(c, a);
}

static const struct command dlq_list = {
    .name = "list",
    .summary = "Lists letters: events that failed for good (dead), or wait for a retry (--state due)",
    .specs = list_specs,
    .uses = USES_SERVER | USES_JSON,
    .run = run_list,
};

const struct command dlq_command = {
    .name = "dlq",
    .summary = "Dead letters: in groups, one by one; mends them, sends them back, or gives them up",
    .subs = (const struct command *const[]){
        &dlq_groups, &dlq_group, &dlq_list, &dlq_show, &dlq_edit, &dlq_try, &dlq_replay, &dlq_replays, &dlq_pause, &dlq_resume,
        &dlq_cancel, &dlq_discard, &dlq_restore, &dlq_retry, &dlq_purge, &dlq_export, &dlq_import, &dlq_pull,
        &dlq_watch,
        &dlq_policy, NULL},
};
