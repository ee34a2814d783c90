// SPDX-License-Identifier: Apache-2.0
// weir audit: who changed what, when, from where, and what came of it.
#include <time.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/out.h"

#define LIMIT_DEFAULT 50
#define LIMIT_MAX 100000
#define PAGE_MAX 1000
#define OUTCOME_WIDTH 60
#define TIME_BYTES 32

static const struct arg_spec specs[] = {
    {"who", 0, ARG_TEXT, "NAME", "only what this one did: the name of a token, or weir for the server itself", NULL},
    {"action", 0, ARG_TEXT, "WORD", "only actions that begin so: letters.discard, or letters. for all with letters", NULL},
    {"target", 0, ARG_TEXT, "NAME", "only what was done to this function, trigger, letter, …", NULL},
    {"since", 0, ARG_WHEN, "WHEN", "only since then: 2h (ago) or 2026-01-31T12:00:00Z", NULL},
    {"until", 0, ARG_WHEN, "WHEN", "only before", NULL},
    {"limit", 'n', ARG_COUNT, "N", "at most so many, the newest (default 50)", NULL},
    {0},
};

static const char *local_time(int64_t unix_ms, char out[TIME_BYTES]) {
    time_t s = (time_t)(unix_ms / 1000);
    struct tm tm;
    localtime_r(&s, &tm);
    strftime(out, TIME_BYTES, "%Y-%m-%d %H:%M:%S", &tm);
    return out;
}

static const char *shown_outcome(const json_t *entry) {
    const char *outcome = member_text(entry, "outcome", "");
    return *outcome ? outcome : "unknown";
}

static enum tone outcome_tone(const char *outcome) {
    if (strcmp(outcome, "ok") == 0 || strncmp(outcome, "ok: ", 4) == 0) return TONE_GOOD;
    return strcmp(outcome, "unknown") == 0 ? TONE_WARN : TONE_BAD;
}

// --- list ---------------------------------------------------------------------------------------------------------

static char *list_path(const struct args *a, int64_t limit, int64_t cursor) {
    char *path = path_new("/v1/audit");
    path_query(&path, "who", args_text(a, "who"));
    path_query(&path, "action", args_text(a, "action"));
    path_query(&path, "target", args_text(a, "target"));
    if (args_has(a, "since")) path_query_number(&path, "sinceMs", args_number(a, "since", 0));
    if (args_has(a, "until")) path_query_number(&path, "untilMs", args_number(a, "until", 0));
    path_query_number(&path, "limit", limit);
    if (cursor) path_query_number(&path, "cursor", cursor);
    return path;
}

static int fetch(struct client *c, const struct args *a, int64_t limit, json_t *all, bool *ret_more) {
    int64_t cursor = 0;
    do {
        int64_t left = limit - (int64_t)json_array_size(all);
        cleanup_free char *path = list_path(a, left < PAGE_MAX ? left : PAGE_MAX, cursor);
        json_auto_t *page = NULL;
        int rc = client_json(c, "GET", path, NULL, &page);
        if (rc != EXIT_OK) return rc;
        json_array_extend(all, json_object_get(page, "entries"));
        cursor = member_int(page, "next", 0);
    } while (cursor && (int64_t)json_array_size(all) < limit);
    *ret_more = cursor != 0;
    return EXIT_OK;
}

static const char *or_dash(const json_t *entry, const char *name) {
    const char *text = member_text(entry, name, "");
    return *text ? text : "-";
}

static void print_entries(const json_t *entries) {
    static const char *const titles[] = {">N", "TIME", "WHO", "FROM", "ACTION", "TARGET", "OUTCOME", NULL};
    struct table t;
    size_t i;
    const json_t *entry;
    table_init(&t, titles);
    json_array_foreach(entries, i, entry) {
        char at[TIME_BYTES];
        const char *whole = shown_outcome(entry);
        cleanup_free char *outcome = out_cut(whole, OUTCOME_WIDTH);
        table_add(&t, TONE_DIM, "%lld", (long long)member_int(entry, "id", 0));
        table_add(&t, TONE_PLAIN, "%s", local_time(member_int(entry, "atMs", 0), at));
        table_add(&t, TONE_BOLD, "%s", or_dash(entry, "who"));
        table_add(&t, TONE_PLAIN, "%s", or_dash(entry, "remote"));
        table_add(&t, TONE_PLAIN, "%s", or_dash(entry, "action"));
        table_add(&t, TONE_BOLD, "%s", or_dash(entry, "target"));
        table_add(&t, outcome_tone(whole), "%s", outcome);
    }
    table_print(&t);
}

static int run_list(const struct args *a) {
    int64_t limit = args_number(a, "limit", LIMIT_DEFAULT);
    if (limit < 1 || limit > LIMIT_MAX) return out_misuse("audit: --limit must be from 1 to %d", LIMIT_MAX);
    cleanup_client struct client *c = client_new(a);
    json_auto_t *entries = json_array();
    bool more = false;
    int rc = fetch(c, a, limit, entries, &more);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "json")) {
        json_auto_t *shown = json_pack("{s:O, s:b}", "entries", entries, "more", (int)more);
        out_json(shown);
        return EXIT_OK;
    }
    if (json_array_size(entries)) print_entries(entries);
    else out_note("there is no such entry");
    if (more) out_more(limit);
    return EXIT_OK;
}

// --- show ---------------------------------------------------------------------------------------------------------

static void print_line(const char *name, enum tone tone, const char *text) {
    printf("%-9s %s", name, out_tone(stdout, tone));
    out_text(stdout, str_of(text));
    printf("%s\n", out_tone(stdout, TONE_PLAIN));
}

static void print_entry(const json_t *entry) {
    char at[TIME_BYTES];
    const char *outcome = shown_outcome(entry);
    cleanup_free char *detail = json_dumps(json_object_get(entry, "detail"), JSON_INDENT(2) | JSON_ENCODE_ANY);
    print_line("time", TONE_PLAIN, local_time(member_int(entry, "atMs", 0), at));
    print_line("who", TONE_BOLD, or_dash(entry, "who"));
    print_line("from", TONE_PLAIN, or_dash(entry, "remote"));
    print_line("action", TONE_PLAIN, or_dash(entry, "action"));
    print_line("target", TONE_BOLD, or_dash(entry, "target"));
    print_line("outcome", outcome_tone(outcome), outcome);
    puts("detail");
    out_block(stdout, "  ", str_of(detail));
    if (strcmp(outcome, "unknown") == 0)
        out_note("it is under way, or the server stopped meanwhile: it may or may not have happened");
}

static int run_show(const struct args *a) {
    const char *number = a->words[1];
    if (!*number || strlen(number) > 18 || number[strspn(number, "0123456789")])
        return out_misuse("audit show: '%s' is not the number of an entry; weir audit lists them", number);
    cleanup_client struct client *c = client_new(a);
    cleanup_free char *path = path_new("/v1/audit");
    json_auto_t *entry = NULL;
    path_add(&path, number);
    int rc = client_json(c, "GET", path, NULL, &entry);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "json")) out_json(entry);
    else print_entry(entry);
    return EXIT_OK;
}

static int run(const struct args *a) {
    if (a->word_count == 0) return run_list(a);
    if (strcmp(a->words[0], "show") == 0 && a->word_count == 2) return run_show(a);
    return out_misuse("audit: give no words, or show N, the number of an entry");
}

const struct command audit_command = {
    .name = "audit",
    .words = "[show N]",
    .summary = "Shows who changed what, when, from where, and what came of it; show N: what was asked for",
    .about = "An outcome is ok, for letters with how many, the error, or unknown: the change is under way, or the server stopped\n"
             "meanwhile. A command may take several calls, of 1000 letters each, and each call is an entry; a dry run is none.\n",
    .specs = specs,
    .uses = USES_SERVER | USES_JSON,
    .most = 2,
    .run = run,
};
