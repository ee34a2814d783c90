// SPDX-License-Identifier: Apache-2.0
// weir dlq replays, pause, resume and cancel; what a replay is, and what came of it.
#include <inttypes.h>

#include "cli/commands.h"
#include "cli/dlq.h"
#include "cli/dlq_replay.h"
#include "cli/out.h"
#include "core/base/clock.h"

#define LIST_DEFAULT 50
#define LIST_MAX 100 // the server's
#define PROBLEMS_SHOWN 20
#define ERROR_WIDTH 50
#define GROUPED_MAX 50 // letters that failed again whose groups are looked up: their ids go in one query

static int64_t count(const json_t *replay, const char *member) {
    return member_int(replay, member, 0);
}

static enum tone state_tone(const char *state) {
    if (strcmp(state, "aborted") == 0) return TONE_BAD;
    if (strcmp(state, "done") == 0) return TONE_GOOD;
    return strcmp(state, "cancelled") == 0 ? TONE_DIM : TONE_WARN;
}

static bool is_number(const char *text) {
    size_t n = strlen(text);
    return n > 0 && n < 19 && strspn(text, "0123456789") == n && *text != '0';
}

static int check_number(const struct args *a, const char *text) {
    if (is_number(text)) return EXIT_OK;
    return out_misuse("%s: '%s' is not the number of a replay; weir dlq replays lists them", a->path, text);
}

// --- letters of a replay ------------------------------------------------------------------------------------------

static int fetch_letters(struct client *c, int64_t number, const char *state, int64_t limit, json_t **ret) {
    cleanup_free char *path = mem_printf("/v1/replays/%" PRId64 "/letters", number);
    json_auto_t *page = NULL;
    path_query(&path, "state", state);
    path_query_number(&path, "limit", limit);
    int rc = client_json(c, "GET", path, NULL, &page);
    if (rc != EXIT_OK) return rc;
    json_t *letters = json_object_get(page, "letters");
    *ret = letters ? json_incref(letters) : json_array();
    return EXIT_OK;
}

// What went wrong, in the order in which it is told.
static const struct problem {
    const char *state, *title;
    bool ran; // there is an event, which failed
} problems[] = {
    {"skipped", "Skipped: not dead any more", false},
    {"failed", "Not sent: still dead", false},
    {"failing", "Failed again, being retried", true},
    {"dead", "Failed again for good", true},
};

// The letters of the events, in one query; they are in the state `state`.
static int fetch_failed(struct client *c, const json_t *sent, const char *state, json_t **ret) {
    cleanup_free char *where = mem_strdup("id in ("), *path = path_new("/v1/letters");
    size_t i;
    const json_t *one;
    json_array_foreach(sent, i, one) {
        char *longer = mem_printf("%s%s\"%.36s\"", where, i ? ", " : "", member_text(one, "eventId", ""));
        free(where);
        where = longer;
    }
    char *closed = mem_printf("%s)", where);
    free(where);
    where = closed;
    path_query(&path, "where", where);
    path_query(&path, "state", state);
    path_query_number(&path, "limit", GROUPED_MAX);
    return client_json(c, "GET", path, NULL, ret);
}

// Of the letters that its events left.
static const char *letters_state(const struct problem *p) {
    return strcmp(p->state, "dead") == 0 ? "dead" : "due";
}

static void print_title(const char *title, int64_t n) {
    printf("\n%s%s (%" PRId64 ")%s\n", out_tone(stdout, TONE_BOLD), title, n, out_tone(stdout, TONE_PLAIN));
}

// What its event failed with, by the letter that it left; else what the replay says. Caller frees.
static char *why_text(const json_t *letter, const json_t *failed) {
    const char *event = member_text(letter, "eventId", ""), *why = member_text(letter, "why", "");
    size_t i;
    const json_t *one;
    json_array_foreach(failed, i, one) {
        if (strcmp(member_text(one, "id", "?"), event) != 0) continue;
        cleanup_free char *error = dlq_error_text(one);
        return out_cut(error, ERROR_WIDTH);
    }
    return mem_strdup(*why ? why : "-");
}

static void print_letters(const struct problem *p, const json_t *letters, const json_t *failed) {
    static const char *const titles[] = {"ID", "WHY", NULL}, *const ran_titles[] = {"ID", "SENT AS", "WHY", NULL};
    struct table t;
    size_t i;
    const json_t *letter;
    table_init(&t, p->ran ? ran_titles : titles);
    json_array_foreach(letters, i, letter) {
        cleanup_free char *why = why_text(letter, failed);
        table_add(&t, TONE_PLAIN, "%s", member_text(letter, "id", "?"));
        if (p->ran) table_add(&t, TONE_PLAIN, "%s", member_text(letter, "eventId", "?"));
        table_add(&t, TONE_PLAIN, "%s", why);
    }
    table_print(&t);
}

static int print_problem(struct client *c, const json_t *replay, const struct problem *p) {
    json_auto_t *letters = NULL, *failed = NULL;
    int64_t n = count(replay, p->state);
    if (n == 0) return EXIT_OK;
    int rc = fetch_letters(c, count(replay, "replay"), p->state, PROBLEMS_SHOWN, &letters);
    if (rc == EXIT_OK && p->ran && json_array_size(letters)) rc = fetch_failed(c, letters, letters_state(p), &failed);
    if (rc != EXIT_OK) return rc;
    print_title(p->title, n);
    print_letters(p, letters, json_object_get(failed, "letters"));
    if (n > PROBLEMS_SHOWN) printf("and %" PRId64 " more\n", n - PROBLEMS_SHOWN);
    return EXIT_OK;
}

// The replay, with "letters": the first ones of each problem.
static int with_problems(struct client *c, const json_t *replay, json_t **ret) {
    json_auto_t *lists = json_object();
    for (size_t i = 0; i < array_len(problems); i++) {
        json_t *letters = NULL;
        if (count(replay, problems[i].state) == 0) continue;
        int rc = fetch_letters(c, count(replay, "replay"), problems[i].state, PROBLEMS_SHOWN, &letters);
        if (rc != EXIT_OK) return rc;
        json_object_set_new(lists, problems[i].state, letters);
    }
    *ret = json_copy((json_t *)(uintptr_t)replay);
    json_object_set(*ret, "letters", lists);
    return EXIT_OK;
}

static int show_json(struct client *c, const json_t *replay) {
    json_auto_t *shown = NULL;
    int rc = with_problems(c, replay, &shown);
    if (rc == EXIT_OK) out_json(shown);
    return rc;
}

// --- the groups of what failed again ------------------------------------------------------------------------------

static void print_groups(const json_t *letters, const char *state) {
    static const char *const titles[] = {"GROUP", ">LETTERS", "ERROR", "SEE THEM", NULL};
    struct table t;
    json_auto_t *counts = json_object();
    size_t i;
    const json_t *letter;
    table_init(&t, titles);
    json_array_foreach(letters, i, letter) {
        const char *group = member_text(letter, "group", "-");
        json_object_set_new(counts, group, json_integer(member_int(counts, group, 0) + 1));
    }
    json_array_foreach(letters, i, letter) {
        const char *group = member_text(letter, "group", "-");
        int64_t n = member_int(counts, group, 0);
        if (n == 0) continue; // said
        json_object_del(counts, group);
        table_add(&t, TONE_PLAIN, "%s", group);
        table_add(&t, TONE_PLAIN, "%" PRId64, n);
        cleanup_free char *whole = dlq_error_text(letter), *error = out_cut(whole, ERROR_WIDTH);
        table_add(&t, TONE_BAD, "%s", error);
        table_add(&t, TONE_DIM, "weir dlq list --group %s%s", group, strcmp(state, "due") == 0 ? " --state due" : "");
    }
    table_print(&t);
}

// Of the events that failed again: their groups, and how to see them.
static int print_failed_groups(struct client *c, const json_t *replay, const struct problem *p) {
    json_auto_t *sent = NULL, *found = NULL;
    const char *state = letters_state(p);
    int64_t n = count(replay, p->state);
    if (n == 0) return EXIT_OK;
    int rc = fetch_letters(c, count(replay, "replay"), p->state, GROUPED_MAX, &sent);
    if (rc == EXIT_OK && json_array_size(sent)) rc = fetch_failed(c, sent, state, &found);
    if (rc != EXIT_OK) return rc;
    print_title(p->title, n);
    print_groups(json_object_get(found, "letters"), state);
    if (n > GROUPED_MAX) out_note("the first %d were looked at", GROUPED_MAX);
    return EXIT_OK;
}

// --- the report ---------------------------------------------------------------------------------------------------

static void print_count(const char *label, int64_t n, enum tone tone) {
    if (n) printf("  %-15s%s%8" PRId64 "%s\n", label, out_tone(stdout, tone), n, out_tone(stdout, TONE_PLAIN));
}

static void print_counts(const json_t *replay, int64_t unknown) {
    print_count("ok", count(replay, "ok"), TONE_GOOD);
    print_count("failing again", count(replay, "failing") + count(replay, "dead"), TONE_BAD);
    int64_t running = unknown - count(replay, "failing");
    print_count("still running", running > 0 ? running : 0, TONE_WARN);
    print_count("skipped", count(replay, "skipped"), TONE_WARN);
    print_count("not sent", count(replay, "failed"), TONE_BAD);
    print_count("left", count(replay, "pending"), TONE_WARN);
}

static void print_summary(const json_t *replay, int64_t unknown) {
    const char *state = member_text(replay, "state", "?"), *reason = member_text(replay, "reason", "");
    int64_t until_ms = count(replay, "endedMs") ? count(replay, "endedMs") : clock_unix_ms(), total = count(replay, "total");
    char span[OUT_SHORT_BYTES];
    printf("replay %" PRId64 " %s%s%s after %s: %" PRId64 " of %" PRId64 " letter%s sent", count(replay, "replay"),
           out_tone(stdout, state_tone(state)), state, out_tone(stdout, TONE_PLAIN),
           out_span(until_ms - count(replay, "createdMs"), span), count(replay, "sent"), total, plural(total));
    if (*reason) {
        fputs(" (", stdout);
        out_text(stdout, str_of(reason));
        fputs(")", stdout);
    }
    putchar('\n');
    print_counts(replay, unknown);
}

static void print_hints(const json_t *replay, int64_t unknown) {
    int64_t number = count(replay, "replay");
    if (strcmp(member_text(replay, "state", ""), "paused") == 0)
        out_note("it is paused: weir dlq resume %" PRId64 ", and weir dlq replays --watch %" PRId64 " to follow it", number, number);
    else if (unknown)
        out_note("%" PRId64 " of its events have not come to an end: weir dlq replays --watch %" PRId64 " waits again", unknown, number);
}

static bool is_good(const json_t *replay, int64_t unknown) {
    return unknown == 0 && strcmp(member_text(replay, "state", ""), "done") == 0 && count(replay, "skipped") == 0 &&
           count(replay, "failed") == 0 && count(replay, "failing") == 0 && count(replay, "dead") == 0;
}

int dlq_report_replay(const struct args *a, struct client *c, const json_t *replay, int64_t unknown) {
    int good = is_good(replay, unknown) ? EXIT_OK : EXIT_FAILED, rc = EXIT_OK;
    if (args_has(a, "json")) {
        rc = show_json(c, replay);
        return rc == EXIT_OK ? good : rc;
    }
    print_summary(replay, unknown);
    for (size_t i = 0; i < array_len(problems) && rc == EXIT_OK; i++)
        rc = problems[i].ran ? print_failed_groups(c, replay, &problems[i]) : print_problem(c, replay, &problems[i]);
    fflush(stdout);
    print_hints(replay, unknown);
    return rc == EXIT_OK ? good : rc;
}

// --- show ---------------------------------------------------------------------------------------------------------

static void print_text(const char *label, const char *text) {
    if (!text || !*text) return;
    printf("  %-15s", label);
    out_text(stdout, str_of(text));
    putchar('\n');
}

static void print_how(const json_t *replay) {
    char ramp[OUT_SHORT_BYTES];
    double rate = member_real(replay, "rate", 0), abort_share = member_real(replay, "abortShare", -1);
    cleanup_free char *pace = rate > 0 ? mem_printf("%g/s, ", rate) : mem_strdup("");
    cleanup_free char *slow = count(replay, "rampMs") ? mem_printf("reached after %s, ", out_span(count(replay, "rampMs"), ramp)) : mem_strdup("");
    cleanup_free char *first = count(replay, "sample") ? mem_printf("a sample of %" PRId64 " first, ", count(replay, "sample")) : mem_strdup("");
    cleanup_free char *stop = abort_share >= 0 ? mem_printf("aborts when over %g%% fail, ", abort_share * 100) : mem_strdup("");
    cleanup_free char *text = mem_printf("%s%s%s%s%s", pace, slow, first, stop, member_true(replay, "inOrder") ? "in order, " : "");
    if (*text) text[strlen(text) - 2] = '\0';
    print_text("how", text);
}

static void print_replay(const json_t *replay) {
    const char *state = member_text(replay, "state", "?");
    char at[CLOCK_TEXT_BYTES], age[OUT_SHORT_BYTES];
    printf("%sreplay %" PRId64 "%s\n", out_tone(stdout, TONE_BOLD), count(replay, "replay"), out_tone(stdout, TONE_PLAIN));
    printf("  %-15s%s%s%s\n", "state", out_tone(stdout, state_tone(state)), state, out_tone(stdout, TONE_PLAIN));
    print_text("reason", member_text(replay, "reason", NULL));
    print_text("letters", member_text(replay, "selection", NULL));
    print_text("to", member_true(replay, "toOrigin") ? "where they came from" : member_text(replay, "to", NULL));
    print_how(replay);
    print_text("by", member_text(replay, "who", NULL));
    clock_format_utc(count(replay, "createdMs"), at);
    printf("  %-15s%s (%s ago)\n", "began", at, out_age(count(replay, "createdMs"), age));
    if (count(replay, "endedMs")) {
        clock_format_utc(count(replay, "endedMs"), at);
        printf("  %-15s%s (%s ago)\n", "ended", at, out_age(count(replay, "endedMs"), age));
    }
    printf("  %-15s%8" PRId64 " of %" PRId64, "sent", count(replay, "sent"), count(replay, "total"));
    if (strcmp(state, "running") == 0) printf(", %.0f/s", member_real(replay, "perSecond", 0));
    if (strcmp(state, "running") == 0 && member_int(replay, "etaMs", -1) >= 0)
        printf(", %s left", out_span(count(replay, "etaMs"), age));
    putchar('\n');
    int64_t unknown = count(replay, "sent") - count(replay, "ok") - count(replay, "dead");
    print_counts(replay, member_true(replay, "toOrigin") ? 0 : unknown);
}

static int fetch_replay(struct client *c, const char *number, json_t **ret) {
    cleanup_free char *path = path_new("/v1/replays");
    path_add(&path, number);
    return client_json(c, "GET", path, NULL, ret);
}

int dlq_show_replay(const struct args *a, struct client *c, const char *number) {
    json_auto_t *replay = NULL;
    int rc = check_number(a, number);
    if (rc == EXIT_OK) rc = fetch_replay(c, number, &replay);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "json")) return show_json(c, replay);
    print_replay(replay);
    for (size_t i = 0; i < array_len(problems) && rc == EXIT_OK; i++) rc = print_problem(c, replay, &problems[i]);
    return rc;
}

// --- replays ------------------------------------------------------------------------------------------------------

static void add_row(struct table *t, const json_t *replay) {
    const char *state = member_text(replay, "state", "?");
    char age[OUT_SHORT_BYTES];
    table_add(t, TONE_BOLD, "%" PRId64, count(replay, "replay"));
    table_add(t, state_tone(state), "%s", state);
    table_add(t, TONE_PLAIN, "%" PRId64 "/%" PRId64, count(replay, "sent"), count(replay, "total"));
    table_add(t, TONE_PLAIN, "%" PRId64, count(replay, "ok"));
    table_add(t, count(replay, "failing") + count(replay, "dead") ? TONE_BAD : TONE_PLAIN, "%" PRId64,
              count(replay, "failing") + count(replay, "dead"));
    table_add(t, TONE_PLAIN, "%s", member_text(replay, "who", "-"));
    table_add(t, TONE_PLAIN, "%s", out_age(count(replay, "createdMs"), age));
    table_add(t, TONE_PLAIN, "%s", member_text(replay, "selection", "-"));
}

static int list_replays(const struct args *a, struct client *c) {
    static const char *const titles[] = {"REPLAY", "STATE", ">SENT", ">OK", ">FAILED", "BY", ">AGE", "LETTERS", NULL};
    cleanup_free char *path = path_new("/v1/replays");
    json_auto_t *page = NULL;
    int64_t limit = args_number(a, "limit", LIST_DEFAULT);
    path_query(&path, "open", args_has(a, "open") ? "true" : NULL);
    path_query_number(&path, "limit", limit);
    int rc = client_json(c, "GET", path, NULL, &page);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "json")) {
        out_json(page);
        return EXIT_OK;
    }
    const json_t *replays = json_object_get(page, "replays"), *replay;
    size_t i;
    struct table t;
    table_init(&t, titles);
    t.cut = "LETTERS";
    json_array_foreach(replays, i, replay) add_row(&t, replay);
    if (json_array_size(replays)) table_print(&t);
    else out_note("no %sreplays", args_has(a, "open") ? "open " : "");
    if (member_text(page, "next", NULL) || member_int(page, "next", 0)) out_more(limit);
    return EXIT_OK;
}

static int watch(const struct args *a, struct client *c, const char *number) {
    json_auto_t *replay = NULL;
    int rc = check_number(a, number);
    if (rc == EXIT_OK) rc = fetch_replay(c, number, &replay);
    return rc == EXIT_OK ? dlq_follow_replay(a, c, replay) : rc;
}

static int run_replays(const struct args *a) {
    cleanup_client struct client *c = client_new(a);
    const char *watched = args_text(a, "watch");
    if (watched && a->word_count) return out_misuse("dlq replays: --watch takes the number itself: --watch %s", a->words[0]);
    int64_t limit = args_number(a, "limit", 1);
    if (limit < 1 || limit > LIST_MAX) return out_misuse("dlq replays: --limit must be 1 to %d", LIST_MAX);
    if (watched) return watch(a, c, watched);
    return a->word_count ? dlq_show_replay(a, c, a->words[0]) : list_replays(a, c);
}

static const struct arg_spec replays_specs[] = {
    {"open", 0, ARG_FLAG, NULL, "only those that run or are paused", NULL},
    {"watch", 0, ARG_TEXT, "N", "follow this one to its end", NULL},
    {"limit", 0, ARG_COUNT, "N", "at most so many (default 50, at most 100)", NULL},
    {0},
};

const struct command dlq_replays = {
    .name = "replays",
    .words = "[N]",
    .summary = "Lists the replays, newest first, shows one of them, or follows it",
    .about = "\n  weir dlq replays --open\n"
             "  weir dlq replays 17            # the same: weir dlq show 17\n"
             "  weir dlq replays --watch 17\n",
    .specs = replays_specs,
    .uses = USES_SERVER | USES_JSON,
    .most = 1,
    .run = run_replays,
};

// --- pause, resume, cancel ----------------------------------------------------------------------------------------

static int steer(const struct args *a, const char *verb) {
    int rc = check_number(a, a->words[0]);
    if (rc != EXIT_OK) return rc;
    cleanup_client struct client *c = client_new(a);
    cleanup_free char *path = path_new("/v1/replays");
    json_auto_t *replay = NULL;
    path_add(&path, a->words[0]);
    path_add(&path, verb);
    rc = client_json(c, "POST", path, json_object(), &replay);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "json")) {
        out_json(replay);
        return EXIT_OK;
    }
    printf("replay %s is %s: %" PRId64 " of %" PRId64 " letters sent\n", a->words[0], member_text(replay, "state", "?"),
           count(replay, "sent"), count(replay, "total"));
    return EXIT_OK;
}

static int run_pause(const struct args *a) {
    return steer(a, "pause");
}

static int run_resume(const struct args *a) {
    return steer(a, "resume");
}

static int run_cancel(const struct args *a) {
    return steer(a, "cancel");
}

#define STEERS .words = "N", .uses = USES_SERVER | USES_JSON, .least = 1, .most = 1

const struct command dlq_pause = {
    .name = "pause",
    .summary = "Pauses a replay; what was sent already runs on",
    .about = "\n  weir dlq pause 17\n",
    .run = run_pause,
    STEERS,
};
const struct command dlq_resume = {
    .name = "resume",
    .summary = "Goes on with a replay that was paused",
    .about = "\n  weir dlq resume 17\n",
    .run = run_resume,
    STEERS,
};
const struct command dlq_cancel = {
    .name = "cancel",
    .summary = "Ends a replay; the letters that were not sent stay dead",
    .about = "\n  weir dlq cancel 17\n",
    .run = run_cancel,
    STEERS,
};
