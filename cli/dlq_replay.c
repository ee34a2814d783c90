// SPDX-License-Identifier: Apache-2.0
// weir dlq replay: asks, makes the job, and follows it. The server does the work: it goes on when this process ends.
#include <inttypes.h>

#include "cli/commands.h"
#include "cli/dlq.h"
#include "cli/dlq_replay.h"
#include "cli/out.h"
#include "cli/progress.h"

#define TALLIED_MAX DLQ_PAGE // letters that are counted by their groups before it asks
#define GROUPS_SHOWN 10
#define LISTED 50 // letters of a dry run, unless --limit says how many
#define ERROR_WIDTH 60

static const struct arg_spec replay_specs[] = {
    DLQ_SELECT_SPECS,
    DLQ_ALL_SPEC,
    {"to", 0, ARG_TEXT, "NAME[:VERSION]", "send them to another function or version", NULL},
    {"to-origin", 0, ARG_FLAG, NULL, "send them to the topic or queue that they were read from", NULL},
    {"rate", 0, ARG_RATE, "N/s", "at most so many letters a second: 50/s, 3000/m", NULL},
    {"ramp", 0, ARG_DURATION, "TIME", "begin slowly and reach the rate after this time, such as 30s", NULL},
    {"abort-if-failing", 0, ARG_TEXT, "SHARE", "stop when more of them than this fail again: 5% or 0.05", NULL},
    {"sample", 0, ARG_COUNT, "N", "send so many first, and the others when these went well", NULL},
    {"in-order", 0, ARG_FLAG, NULL, "one after the other of each key, by topic, partition and offset; live events of the key wait", NULL},
    {"dry-run", 0, ARG_FLAG, NULL, "only list what would be sent back", NULL},
    {"detach", 0, ARG_FLAG, NULL, "do not wait for it", NULL},
    DLQ_YES_SPEC,
    {0},
};

// --- what it would do ---------------------------------------------------------------------------------------------

static int fetch_ids(struct client *c, const struct args *a, json_t **ret) {
    json_auto_t *letters = json_array();
    for (size_t i = 0; i < a->word_count; i++) {
        json_t *letter = NULL;
        int rc = dlq_fetch_one(c, a->words[i], &letter);
        if (rc != EXIT_OK) return rc;
        json_array_append_new(letters, letter);
    }
    *ret = json_incref(letters);
    return EXIT_OK;
}

static int show_dry_run(struct client *c, const struct args *a) {
    json_auto_t *letters = NULL;
    bool more = false;
    int64_t count = -1;
    int rc = a->word_count ? fetch_ids(c, a, &letters) : dlq_fetch(c, a, "dead", args_number(a, "limit", LISTED), &letters, &more);
    int64_t shown = (int64_t)json_array_size(letters);
    if (rc == EXIT_OK && more) rc = dlq_count(c, a, NULL, &count);
    if (rc == EXIT_OK && more && count < 0) return out_fail("the server could not count the letters: narrow the selection, by a function, a group or times");
    if (rc != EXIT_OK) return rc;
    if (count < shown) count = shown;
    if (args_has(a, "json")) {
        json_auto_t *answer = json_pack("{s:O, s:I}", "letters", letters, "count", (json_int_t)count);
        out_json(answer);
        return EXIT_OK;
    }
    if (shown) dlq_print_table(letters);
    if (count > shown) printf("… and %" PRId64 " more\n", count - shown);
    printf("%" PRId64 " letter%s would be replayed\n", count, plural(count));
    return shown || a->word_count ? EXIT_OK : dlq_explain_empty(c, a);
}

// --- asking -------------------------------------------------------------------------------------------------------

// {"group": {"count": n, "letter": its first one}…} of the letters.
static json_t *tally(const json_t *letters) {
    json_t *groups = json_object();
    size_t i;
    json_t *letter;
    json_array_foreach(letters, i, letter) {
        const char *name = member_text(letter, "group", "-");
        json_t *group = json_object_get(groups, name);
        if (group) json_object_set_new(group, "count", json_integer(member_int(group, "count", 0) + 1));
        else json_object_set_new(groups, name, json_pack("{s:i, s:O}", "count", 1, "letter", letter));
    }
    return groups;
}

static void print_group(const char *name, const json_t *group) {
    const json_t *letter = json_object_get(group, "letter");
    cleanup_free char *whole = dlq_error_text(letter), *error = out_cut(whole, ERROR_WIDTH);
    out_note("%8" PRId64 "  %s  %s  %s", member_int(group, "count", 0), name, member_text(letter, "function", "?"), error);
}

// Which groups the newest letters are of, on stderr.
static int print_groups(struct client *c, const struct args *a) {
    json_auto_t *letters = NULL;
    bool more;
    int64_t limit = args_number(a, "limit", TALLIED_MAX);
    out_progress("looking …");
    int rc = dlq_fetch(c, a, "dead", limit < TALLIED_MAX ? limit : TALLIED_MAX, &letters, &more);
    if (rc != EXIT_OK) return rc;
    json_auto_t *groups = tally(letters);
    size_t n = json_array_size(letters), shown = 0;
    out_note("%s%zu letter%s in %zu group%s:", more && limit > TALLIED_MAX ? "the newest " : "", n, plural((int64_t)n),
             json_object_size(groups), plural((int64_t)json_object_size(groups)));
    const char *name;
    json_t *group;
    json_object_foreach(groups, name, group) {
        if (shown++ == GROUPS_SHOWN) break;
        print_group(name, group);
    }
    if (shown > GROUPS_SHOWN) out_note("          and others");
    return EXIT_OK;
}

static int confirm(struct client *c, const struct args *a) {
    bool asks = !a->word_count && !args_has(a, "yes") && dlq_can_ask();
    int rc = asks ? print_groups(c, a) : EXIT_OK;
    return rc == EXIT_OK ? dlq_confirm(c, a, &(struct dlq_question){.verb = "Replay", .done = "replayed"}) : rc;
}

// --- making the job -----------------------------------------------------------------------------------------------

static void set_real(json_t *o, const char *key, double n) {
    json_object_set_new(o, key, json_real(n));
}

static void set_number(json_t *o, const char *key, const struct args *a, const char *option) {
    if (args_has(a, option)) json_object_set_new(o, key, json_integer(args_number(a, option, 0)));
}

static json_t *job_json(const struct args *a, double abort_share) {
    json_t *o = dlq_selection_json(a, NULL);
    if (args_has(a, "to")) json_object_set_new(o, "to", json_string(args_text(a, "to")));
    if (args_has(a, "to-origin")) json_object_set_new(o, "toOrigin", json_true());
    if (args_has(a, "in-order")) json_object_set_new(o, "inOrder", json_true());
    if (args_has(a, "rate")) set_real(o, "rate", args_real(a, "rate", 0));
    if (args_has(a, "abort-if-failing")) set_real(o, "abortShare", abort_share);
    set_number(o, "rampMs", a, "ramp");
    set_number(o, "sample", a, "sample");
    set_number(o, "limit", a, "limit");
    return o;
}

// "5%", or a part of 1 such as "0.05".
static int parse_abort_share(const char *text, double *ret) {
    struct err err;
    if (strchr(text, '%')) {
        if (args_parse_share(text, ret, &err) == 0) return EXIT_OK;
        return out_misuse("dlq replay: --abort-if-failing: %s", err.text);
    }
    size_t n = strlen(text);
    bool plain = n > 0 && n < 20 && strspn(text, "0123456789.") == n && strspn(text, "0") <= 1;
    char *end = NULL;
    double share = plain ? strtod(text, &end) : -1;
    if (!plain || *end || share < 0 || share >= 1)
        return out_misuse("dlq replay: --abort-if-failing: '%s' is not a share; it looks like 5%% or 0.05", text);
    *ret = share;
    return EXIT_OK;
}

static int check(const struct args *a, double *ret_abort_share) {
    int rc = dlq_check_selection(a, "replay");
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "to") && args_has(a, "to-origin"))
        return out_misuse("dlq replay: --to sends letters to a function, --to-origin to where they came from; give one of them");
    if (args_has(a, "ramp") && !args_has(a, "rate")) return out_misuse("dlq replay: --ramp is the way to a rate; give --rate too");
    if (args_has(a, "to-origin") && (args_has(a, "sample") || args_has(a, "abort-if-failing")))
        return out_misuse("dlq replay: what becomes of letters that go --to-origin is not known; leave --sample and "
                          "--abort-if-failing out");
    return args_has(a, "abort-if-failing") ? parse_abort_share(args_text(a, "abort-if-failing"), ret_abort_share) : EXIT_OK;
}

static int show_detached(const struct args *a, const json_t *replay) {
    int64_t number = member_int(replay, "replay", 0), total = member_int(replay, "total", 0);
    if (args_has(a, "json")) out_json(replay);
    else printf("replay %" PRId64 ": %" PRId64 " letter%s\n", number, total, plural(total));
    out_note("weir dlq replays --watch %" PRId64 " follows it", number);
    return EXIT_OK;
}

static int run_replay(const struct args *a) {
    double abort_share = 0;
    int rc = check(a, &abort_share);
    if (rc != EXIT_OK) return rc;
    cleanup_client struct client *c = client_new(a);
    if (args_has(a, "dry-run")) return show_dry_run(c, a);
    rc = confirm(c, a);
    if (rc != EXIT_OK) return rc;
    json_auto_t *replay = NULL;
    rc = client_json(c, "POST", "/v1/replays", job_json(a, abort_share), &replay);
    if (rc != EXIT_OK) return rc;
    return args_has(a, "detach") ? show_detached(a, replay) : dlq_follow_replay(a, c, replay);
}

const struct command dlq_replay = {
    .name = "replay",
    .words = "[ID]...",
    .summary = "Sends dead letters back as new events, or to the topic or queue that they came from",
    .about = "\n  weir dlq replay 0192f3c4-…\n"
             "  weir dlq replay --group 5e1d… --to orders:8 --rate 50/s --ramp 30s --abort-if-failing 5%\n"
             "  weir dlq replay --where 'payload.customer = \"acme\"' --sample 20 --yes\n"
             "  weir dlq replay --source kafka:orders/3 --in-order\n"
             "  weir dlq replay --function orders --to-origin\n"
             "  weir dlq replay --all --dry-run\n"
             "\n"
             "It follows the replay to its end and tells what became of the letters: the exit code is 0 when all of them\n"
             "were sent and none failed again. Ctrl-C ends the following, not the replay.\n",
    .specs = replay_specs,
    .uses = USES_SERVER | USES_JSON,
    .most = 1000000,
    .run = run_replay,
};
