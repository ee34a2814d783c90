// SPDX-License-Identifier: Apache-2.0
// weir dlq replay, discard and purge. The server takes up to 1,000 letters a call; the loops are here.
#include <inttypes.h>

#include "cli/commands.h"
#include "cli/dlq.h"
#include "cli/out.h"
#include "core/base/clock.h"

#define IDS_MAX 1000000

// --- which letters ------------------------------------------------------------------------------------------------

// The members for ids from `at` on; moves it behind the last one taken.
static json_t *ids_json(const struct args *a, size_t *at) {
    json_t *ids = json_array();
    while (*at < a->word_count && json_array_size(ids) < DLQ_PAGE) json_array_append_new(ids, json_string(a->words[(*at)++]));
    return json_pack("{s:o}", "ids", ids);
}

// The filter of one round. until_ms bounds the later ones: what was sent back and died again meanwhile is not taken
// again, else one poison event would keep the loop going. The server's clock rules the first round, which has no bound.
static json_t *round_json(const struct args *a, const char *state, int64_t until_ms, int64_t left) {
    json_t *filter = dlq_selection_json(a, state);
    if (until_ms && !args_has(a, "until")) json_object_set_new(filter, "untilMs", json_integer(until_ms));
    json_object_set_new(filter, "limit", json_integer(left && left < DLQ_PAGE ? left : DLQ_PAGE));
    return filter;
}

// --- replay -------------------------------------------------------------------------------------------------------

static const struct arg_spec replay_specs[] = {
    DLQ_SELECT_SPECS,
    {"all", 0, ARG_FLAG, NULL, "all dead letters", NULL},
    {"to", 0, ARG_TEXT, "NAME[:VERSION]", "send them to another function or version", NULL},
    {"to-origin", 0, ARG_FLAG, NULL, "send them to the topic or queue that they were read from", NULL},
    {"dry-run", 0, ARG_FLAG, NULL, "only list what would be sent back", NULL},
    {"yes", 'y', ARG_FLAG, NULL, "do not ask", NULL},
    {0},
};

struct totals {
    int64_t done, failed;
    char *error; // of the first failed one
};

static int show_dry_run(struct client *c, const struct args *a) {
    json_auto_t *letters = json_array();
    bool more = false;
    if (!a->word_count) {
        json_decref(letters);
        letters = NULL;
        int rc = dlq_fetch(c, a, "dead", args_number(a, "limit", 0), &letters, &more);
        if (rc != EXIT_OK) return rc;
    }
    for (size_t i = 0; i < a->word_count; i++) {
        json_t *letter = NULL;
        int rc = dlq_fetch_one(c, a->words[i], &letter);
        if (rc != EXIT_OK) return rc;
        json_array_append_new(letters, letter);
    }
    size_t n = json_array_size(letters);
    if (args_has(a, "json")) {
        json_auto_t *shown = json_pack("{s:O}", "letters", letters);
        out_json(shown);
        return EXIT_OK;
    }
    if (n) dlq_print_table(letters);
    printf("%zu letter%s would be replayed\n", n, plural((int64_t)n));
    return EXIT_OK;
}

static int replay_round(struct client *c, const struct args *a, json_t *body, struct totals *t, bool *ret_more,
                        int64_t *ret_done) {
    json_auto_t *answer = NULL;
    if (args_has(a, "to")) json_object_set_new(body, "to", json_string(args_text(a, "to")));
    if (args_has(a, "to-origin")) json_object_set_new(body, "toOrigin", json_true());
    int rc = client_json(c, "POST", "/v1/replays", body, &answer);
    if (rc != EXIT_OK) return rc;
    *ret_done = member_int(answer, "replayed", 0);
    *ret_more = member_true(answer, "more");
    t->done += *ret_done;
    t->failed += member_int(answer, "failed", 0);
    if (!t->error) t->error = mem_strdup(member_text(answer, "error", NULL));
    out_progress("%" PRId64 " letter%s replayed", t->done, plural(t->done));
    return EXIT_OK;
}

static int replay_ids(struct client *c, const struct args *a, struct totals *t) {
    int rc = EXIT_OK;
    bool more;
    int64_t done;
    for (size_t at = 0; rc == EXIT_OK && at < a->word_count;)
        rc = replay_round(c, a, ids_json(a, &at), t, &more, &done);
    return rc;
}

static int replay_filter(struct client *c, const struct args *a, struct totals *t) {
    int64_t limit = args_number(a, "limit", 0), until_ms = 0, done, began_ms = clock_unix_ms() + 1;
    bool more;
    do {
        int64_t left = limit ? limit - t->done : 0;
        t->failed = 0; // they stayed dead and are among the letters of this round again
        int rc = replay_round(c, a, round_json(a, NULL, until_ms, left), t, &more, &done);
        if (rc != EXIT_OK) return rc;
        until_ms = began_ms;
    } while (more && done > 0 && (!limit || t->done < limit));
    return EXIT_OK;
}

static int show_replayed(const struct args *a, const struct totals *t) {
    out_progress(NULL);
    if (args_has(a, "json")) {
        json_auto_t *shown = json_pack("{s:I, s:I, s:s?}", "replayed", (json_int_t)t->done, "failed", (json_int_t)t->failed,
                                       "error", t->error);
        out_json(shown);
    } else {
        printf("%" PRId64 " letter%s replayed\n", t->done, plural(t->done));
    }
    if (t->failed == 0) return EXIT_OK;
    return out_fail("%" PRId64 " letter%s could not be replayed and stay%s dead: %s", t->failed, plural(t->failed),
                    t->failed == 1 ? "s" : "", t->error ? t->error : "the server did not say why");
}

static int run_replay(const struct args *a) {
    int rc = dlq_check_selection(a, "replay");
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "to") && args_has(a, "to-origin"))
        return out_misuse("dlq replay: --to sends letters to a function, --to-origin to where they came from; give one of them");
    cleanup_client struct client *c = client_new(a);
    if (args_has(a, "dry-run")) return show_dry_run(c, a);
    if (!dlq_confirmed(a, "Replay")) return out_fail("nothing was replayed");
    struct totals t = {0};
    rc = a->word_count ? replay_ids(c, a, &t) : replay_filter(c, a, &t);
    int shown = show_replayed(a, &t); // what was done before a failure too
    free(t.error);
    return rc != EXIT_OK ? rc : shown;
}

extern const struct command dlq_replay;
const struct command dlq_replay = {
    .name = "replay",
    .words = "[ID]...",
    .summary = "Sends dead letters back as new events, or to the topic or queue that they came from",
    .about = "\n  weir dlq replay 0192f3c4-…\n"
             "  weir dlq replay --function orders --error KeyError\n"
             "  weir dlq replay --function orders --to-origin\n"
             "  weir dlq replay --all --dry-run\n",
    .specs = replay_specs,
    .uses = USES_SERVER | USES_JSON,
    .most = IDS_MAX,
    .run = run_replay,
};

// --- discard ------------------------------------------------------------------------------------------------------

static const struct arg_spec discard_specs[] = {
    DLQ_SELECT_SPECS,
    {"state", 's', ARG_WORD, "STATE", "only in this state (default dead)", "due|dead"},
    {"all", 0, ARG_FLAG, NULL, "all dead letters (with --state due: all that wait for a retry)", NULL},
    {"yes", 'y', ARG_FLAG, NULL, "do not ask", NULL},
    {0},
};

static int count_round(struct client *c, const char *path, json_t *body, const char *member, int64_t *total,
                       int64_t *ret_done) {
    json_auto_t *answer = NULL;
    int rc = client_json(c, "POST", path, body, &answer);
    if (rc != EXIT_OK) return rc;
    *ret_done = member_int(answer, member, 0);
    *total += *ret_done;
    out_progress("%" PRId64 " letter%s %s", *total, plural(*total), member);
    return EXIT_OK;
}

static int discard_all(struct client *c, const struct args *a, int64_t *total) {
    static const char path[] = "/v1/letters/discard";
    int64_t limit = args_number(a, "limit", 0), until_ms = 0, began_ms = clock_unix_ms() + 1, done = 0;
    int rc = EXIT_OK;
    for (size_t at = 0; rc == EXIT_OK && at < a->word_count;)
        rc = count_round(c, path, ids_json(a, &at), "discarded", total, &done);
    if (a->word_count) return rc;
    do {
        int64_t left = limit ? limit - *total : 0;
        rc = count_round(c, path, round_json(a, args_text(a, "state"), until_ms, left), "discarded", total, &done);
        until_ms = began_ms;
    } while (rc == EXIT_OK && done > 0 && (!limit || *total < limit));
    return rc;
}

static void show_count(const struct args *a, const char *member, int64_t total) {
    out_progress(NULL);
    if (args_has(a, "json")) {
        json_auto_t *shown = json_pack("{s:I}", member, (json_int_t)total);
        out_json(shown);
    } else {
        printf("%" PRId64 " letter%s %s\n", total, plural(total), member);
    }
}

static int run_discard(const struct args *a) {
    int rc = dlq_check_selection(a, "discard");
    if (rc != EXIT_OK) return rc;
    if (!dlq_confirmed(a, "Discard")) return out_fail("nothing was discarded");
    cleanup_client struct client *c = client_new(a);
    int64_t total = 0;
    rc = discard_all(c, a, &total);
    if (rc == EXIT_OK || total) show_count(a, "discarded", total);
    if (rc == EXIT_OK && total < (int64_t)a->word_count)
        return out_fail("%" PRId64 " of the letters do not exist, or are neither dead nor due", (int64_t)a->word_count - total);
    return rc;
}

const struct command dlq_discard = {
    .name = "discard",
    .words = "[ID]...",
    .summary = "Gives letters up; they stay visible as discarded until they are purged",
    .specs = discard_specs,
    .uses = USES_SERVER | USES_JSON,
    .most = IDS_MAX,
    .run = run_discard,
};

// --- purge --------------------------------------------------------------------------------------------------------

static const struct arg_spec purge_specs[] = {
    {"older-than", 0, ARG_DURATION, "AGE", "last changed longer ago than this, such as 30d", NULL},
    {"dead", 0, ARG_FLAG, NULL, "dead letters too, not only replayed and discarded ones", NULL},
    {"yes", 'y', ARG_FLAG, NULL, "do not ask", NULL},
    {0},
};

static int run_purge(const struct args *a) {
    if (!args_has(a, "older-than")) return out_misuse("dlq purge: say how old with --older-than AGE, such as 30d");
    bool dead = args_has(a, "dead");
    if (!args_has(a, "yes") &&
        !out_confirm("Delete letters older than %s%s for ever?", args_text(a, "older-than"), dead ? ", dead ones too," : ""))
        return out_fail("nothing was purged");
    cleanup_client struct client *c = client_new(a);
    int64_t total = 0, done = 0;
    int rc;
    do {
        json_t *body = json_pack("{s:I, s:b}", "olderThanMs", (json_int_t)args_number(a, "older-than", 0), "dead", (int)dead);
        rc = count_round(c, "/v1/letters/purge", body, "purged", &total, &done);
    } while (rc == EXIT_OK && done > 0);
    if (rc == EXIT_OK || total) show_count(a, "purged", total);
    return rc;
}

const struct command dlq_purge = {
    .name = "purge",
    .words = "--older-than AGE",
    .summary = "Deletes old letters for ever",
    .specs = purge_specs,
    .uses = USES_SERVER | USES_JSON,
    .run = run_purge,
};
