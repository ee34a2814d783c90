// SPDX-License-Identifier: Apache-2.0
// weir dlq discard, restore, retry and purge. The server takes some letters a call; the loop is here.
#include <inttypes.h>

#include "cli/commands.h"
#include "cli/dlq.h"

#define IDS_MAX 1000000 // words; dlq_check_selection says how many a selection may have
#define REFUSED_MAX 1000

struct change {
    const char *name;   // of the command
    const char *verb;   // of the question
    const char *path;
    const char *member; // how the answer calls the letters that it was done to; also what is said
    const char *only;   // of struct dlq_question
};

struct totals {
    int64_t done;
    json_t *refused;
};

// --- the loop -----------------------------------------------------------------------------------------------------

// Takes over body. *cursor: where the next call goes on; NULL after the last one.
static int change_once(struct client *c, const struct change *change, json_t *body, struct totals *t, char **cursor) {
    json_auto_t *answer = NULL;
    int rc = client_json(c, "POST", change->path, body, &answer);
    if (rc != EXIT_OK) return rc;
    const json_t *refused = json_object_get(answer, "refused");
    for (size_t i = 0; i < json_array_size(refused) && json_array_size(t->refused) < REFUSED_MAX; i++)
        json_array_append(t->refused, json_array_get(refused, i));
    t->done += member_int(answer, change->member, 0);
    const char *next = member_true(answer, "more") ? member_text(answer, "next", NULL) : NULL;
    free(*cursor);
    *cursor = next ? mem_strdup(next) : NULL;
    out_progress("%" PRId64 " letter%s %s", t->done, plural(t->done), change->member);
    return EXIT_OK;
}

// limit: 0: as many as there are; of those that came after the first call the server takes none.
static int change_all(struct client *c, const struct change *change, const json_t *selection, int64_t limit, struct totals *t) {
    cleanup_free char *cursor = NULL;
    int rc;
    do {
        json_t *body = json_copy((json_t *)(uintptr_t)selection);
        int64_t left = limit - t->done;
        if (limit) json_object_set_new(body, "limit", json_integer(left < DLQ_PAGE ? left : DLQ_PAGE));
        if (cursor) json_object_set_new(body, "cursor", json_string(cursor));
        rc = change_once(c, change, body, t, &cursor);
    } while (rc == EXIT_OK && cursor && (!limit || t->done < limit));
    return rc;
}

static int show_totals(const struct args *a, const struct change *change, const struct totals *t) {
    out_progress(NULL);
    if (args_has(a, "json")) {
        json_auto_t *shown = json_pack("{s:I, s:O}", change->member, (json_int_t)t->done, "refused", t->refused);
        out_json(shown);
    } else {
        printf("%" PRId64 " letter%s %s\n", t->done, plural(t->done), change->member);
    }
    return dlq_print_refused(t->refused) ? EXIT_FAILED : EXIT_OK;
}

// Takes over selection.
static int run_change(const struct args *a, struct client *c, const struct change *change, json_t *selection, int64_t limit) {
    struct totals t = {.refused = json_array()};
    int rc = change_all(c, change, selection, limit, &t);
    int shown = rc == EXIT_OK || t.done ? show_totals(a, change, &t) : rc; // what was done before a failure too
    json_decref(selection);
    json_decref(t.refused);
    return rc == EXIT_OK ? shown : rc;
}

static int run_selected(const struct args *a, const struct change *change, const char *state) {
    int rc = dlq_check_selection(a, change->name);
    if (rc != EXIT_OK) return rc;
    cleanup_client struct client *c = client_new(a);
    const struct dlq_question q = {.verb = change->verb, .state = state, .done = change->member, .only = change->only};
    rc = dlq_confirm(c, a, &q);
    if (rc != EXIT_OK) return rc;
    json_t *selection = dlq_selection_json(a, state);
    if (args_takes(a, "why") && args_has(a, "why")) json_object_set_new(selection, "why", json_string(args_text(a, "why")));
    return run_change(a, c, change, selection, args_number(a, "limit", 0));
}

// --- discard, restore, retry --------------------------------------------------------------------------------------

static const struct arg_spec discard_specs[] = {
    DLQ_SELECT_SPECS,
    {"state", 's', ARG_WORD, "STATE", "only in this state (default dead)", "due|dead"},
    DLQ_ALL_SPEC,
    DLQ_WHY_SPEC,
    DLQ_YES_SPEC,
    {0},
};

static int run_discard(const struct args *a) {
    static const struct change change = {"discard", "Discard", "/v1/letters/discard", "discarded", NULL};
    return run_selected(a, &change, args_text(a, "state"));
}

const struct command dlq_discard = {
    .name = "discard",
    .words = "[ID]...",
    .summary = "Gives letters up; they stay visible as discarded until they are purged",
    .about = "\n  weir dlq discard 0192f3c4-… --why 'the order was cancelled'\n"
             "  weir dlq discard --group no-total --why 'WEB-311'\n",
    .specs = discard_specs,
    .uses = USES_SERVER | USES_JSON,
    .most = IDS_MAX,
    .run = run_discard,
};

static const struct arg_spec restore_specs[] = {DLQ_SELECT_SPECS, DLQ_ALL_SPEC, DLQ_WHY_SPEC, DLQ_YES_SPEC, {0}};

static int run_restore(const struct args *a) {
    static const struct change change = {"restore", "Restore", "/v1/letters/restore", "restored", NULL};
    return run_selected(a, &change, a->word_count ? NULL : "discarded");
}

const struct command dlq_restore = {
    .name = "restore",
    .words = "[ID]...",
    .summary = "Makes discarded or replayed letters dead again, so that they can be replayed",
    .about = "\n  weir dlq restore 0192f3c4-… 0192f3c5-…             # discarded, or replayed\n"
             "  weir dlq restore --where 'why = \"test orders\"'    # a selection is of discarded ones\n"
             "\n"
             "weir dlq list --state discarded tells why each was discarded.\n",
    .specs = restore_specs,
    .uses = USES_SERVER | USES_JSON,
    .most = IDS_MAX,
    .run = run_restore,
};

static const struct arg_spec retry_specs[] = {DLQ_SELECT_SPECS, DLQ_ALL_SPEC, DLQ_YES_SPEC, {0}};

#define WAITS "due > 0s and due < 9999-12-31" // not on its way already, and not behind another fire of its timer

static int run_retry(const struct args *a) {
    const char *where = args_text(a, "where");
    bool takes_delayed = where && strstr(where, "kind") && strstr(where, "delayed");
    const struct change change = {"retry", "Retry", "/v1/letters/retry", "retried", takes_delayed ? WAITS : WAITS " and kind != \"delayed\""};
    return run_selected(a, &change, a->word_count ? NULL : "due");
}

const struct command dlq_retry = {
    .name = "retry",
    .words = "[ID]...",
    .summary = "Retries letters that wait for their time (due) at once",
    .about = "\nEvents that were put off on purpose (weir run-at) are left out, unless they are named:\n"
             "by their ids, or with --where 'kind = \"delayed\"'.\n",
    .specs = retry_specs,
    .uses = USES_SERVER | USES_JSON,
    .most = IDS_MAX,
    .run = run_retry,
};

// --- purge --------------------------------------------------------------------------------------------------------

static const struct arg_spec purge_specs[] = {
    {"older-than", 0, ARG_DURATION, "AGE", "last changed longer ago than this, such as 30d", NULL},
    DLQ_FIELD_SPECS,
    {"dead", 0, ARG_FLAG, NULL, "dead letters too, not only replayed and discarded ones", NULL},
    DLQ_YES_SPEC,
    {0},
};

// -1: not known.
static int64_t count_old(struct client *c, const struct args *a) {
    static const char *const states[] = {"replayed", "discarded", "dead"};
    int64_t age_ms = args_number(a, "older-than", 0), day_ms = 86400000, sum = 0;
    for (size_t i = 0; i < array_len(states) - !args_has(a, "dead"); i++) {
        const char *time = strcmp(states[i], "dead") == 0 ? "died" : "changed";
        cleanup_free char *old = mem_printf("%s < %" PRId64 "d%" PRId64 "ms", time, age_ms / day_ms, age_ms % day_ms);
        int64_t count = dlq_count_also(c, a, states[i], old);
        if (count < 0) return -1;
        sum += count;
    }
    return sum;
}

static int confirm_purge(struct client *c, const struct args *a) {
    if (args_has(a, "yes")) return EXIT_OK;
    cleanup_free char *which = dlq_selection_text(a), *share = NULL;
    char n[OUT_NUMBER_BYTES];
    out_progress("looking …");
    int64_t count = count_old(c, a), all;
    int rc = count < 0 ? dlq_count(c, a, "discarded", &all) : EXIT_OK; // which says what is wrong with the selection
    out_progress(NULL);
    if (rc != EXIT_OK) return rc;
    if (!dlq_can_ask()) return dlq_refuse(count, "purged");
    share = count < 0 ? mem_strdup("") : mem_printf(": %s letter%s", out_number(count, n), plural(count));
    dlq_forget_typed();
    const char *dead = args_has(a, "dead") ? ", dead ones too" : "";
    return out_confirm("Delete %s, older than %s%s, for ever%s?", which, args_text(a, "older-than"), dead, share) ? EXIT_OK : out_fail("nothing was purged");
}

static int run_purge(const struct args *a) {
    static const struct change change = {"purge", "Purge", "/v1/letters/purge", "purged", NULL};
    if (!args_has(a, "older-than")) return out_misuse("dlq purge: say how old with --older-than AGE, such as 30d");
    int rc = dlq_check_options(a, "purge");
    if (rc != EXIT_OK) return rc;
    cleanup_client struct client *c = client_new(a);
    rc = confirm_purge(c, a);
    if (rc != EXIT_OK) return rc;
    json_t *body = dlq_selection_json(a, NULL);
    if (!dlq_has_selection(a)) json_object_set_new(body, "all", json_true());
    json_object_set_new(body, "olderThanMs", json_integer(args_number(a, "older-than", 0)));
    json_object_set_new(body, "dead", json_boolean(args_has(a, "dead")));
    return run_change(a, c, &change, body, 0);
}

const struct command dlq_purge = {
    .name = "purge",
    .words = "--older-than AGE",
    .summary = "Deletes old letters for ever",
    .specs = purge_specs,
    .uses = USES_SERVER | USES_JSON,
    .run = run_purge,
};
