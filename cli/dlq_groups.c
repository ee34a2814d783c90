// SPDX-License-Identifier: Apache-2.0
// weir dlq groups and group: what died of the same thing, as one thing.
#include "cli/commands.h"
#include "cli/dlq.h"

#define GROUPS_DEFAULT 50

// --- the sparkline ------------------------------------------------------------------------------------------------

// A mark a bucket; the lowest one is for none at all. Caller frees.
static char *spark_text(const json_t *counts) {
    static const char *const blocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    static const char *const ascii[] = {"_", ".", ":", "-", "=", "+", "*", "#"};
    const char *const *marks = out_is_utf8() ? blocks : ascii;
    double most = 0;
    size_t i, steps = array_len(blocks) - 1;
    const json_t *n;
    json_array_foreach(counts, i, n) if (json_number_value(n) > most) most = json_number_value(n);
    char *text = mem_zalloc(json_array_size(counts) * strlen(blocks[0]) + 1), *at = text;
    json_array_foreach(counts, i, n) {
        double part = most > 0 ? json_number_value(n) / most : 0;
        size_t level = part > 0 ? 1 + (size_t)(part * (double)steps) : 0;
        at = stpcpy(at, marks[level > steps ? steps : level]);
    }
    return text;
}

// --- values -------------------------------------------------------------------------------------------------------

static const char *called(const json_t *group) {
    const char *name = member_text(group, "name", "");
    return *name ? name : member_text(group, "group", "?");
}

// "orders", "orders, refunds +3"; caller frees.
static char *functions_text(const json_t *group) {
    const json_t *functions = json_object_get(group, "functions");
    const char *first = json_string_value(json_array_get(functions, 0)), *second = json_string_value(json_array_get(functions, 1));
    size_t n = json_array_size(functions);
    if (!second) return mem_strdup(first ? first : "-");
    return n > 2 ? mem_printf("%s, %s +%zu", first, second, n - 2) : mem_printf("%s, %s", first, second);
}

// "3", "3-8", "-": none ran; caller frees.
static char *versions_text(const json_t *group) {
    long long first = member_int(group, "firstVersion", 0), last = member_int(group, "lastVersion", 0);
    if (last == 0) return mem_strdup("-");
    return first == last ? mem_printf("%lld", last) : mem_printf("%lld-%lld", first, last);
}

// --- groups -------------------------------------------------------------------------------------------------------

static const struct arg_spec groups_specs[] = {
    {"function", 'f', ARG_TEXT, "FUNCTION", "only those with letters of this function", NULL},
    {"since", 0, ARG_WHEN, "WHEN", "only letters that died since then: 2h (ago) or 2026-01-31T12:00:00Z", NULL},
    {"muted", 0, ARG_FLAG, NULL, "the muted ones too", NULL},
    {"limit", 0, ARG_COUNT, "N", "at most so many, those with most letters (default 50)", NULL},
    {0},
};

static void print_groups(const json_t *groups) {
    static const char *const titles[] = {"GROUP", ">COUNT", "FUNCTION", "VERSIONS", ">FIRST", ">LAST", "24H", "ERROR", NULL};
    struct table t;
    table_init(&t, titles);
    t.cut = "ERROR";
    size_t i;
    const json_t *group;
    json_array_foreach(groups, i, group) {
        char age[OUT_SHORT_BYTES];
        bool muted = member_true(group, "muted");
        cleanup_free char *functions = functions_text(group), *versions = versions_text(group);
        cleanup_free char *spark = spark_text(json_object_get(group, "spark")), *error = dlq_error_text(group);
        table_add(&t, muted ? TONE_DIM : TONE_BOLD, "%s%s", called(group), muted ? " (muted)" : "");
        table_add(&t, TONE_PLAIN, "%lld", (long long)member_int(group, "count", 0));
        table_add(&t, TONE_PLAIN, "%s", functions);
        table_add(&t, TONE_PLAIN, "%s", versions);
        table_add(&t, TONE_PLAIN, "%s", out_age(member_int(group, "firstMs", 0), age));
        table_add(&t, TONE_PLAIN, "%s", out_age(member_int(group, "lastMs", 0), age));
        table_add(&t, TONE_WARN, "%s", spark);
        table_add(&t, TONE_PLAIN, "%s", error);
    }
    table_print(&t);
}

static void print_groups_end(const struct args *a, const json_t *answer) {
    const json_t *groups = json_object_get(answer, "groups");
    if (json_array_size(groups) == 0) {
        out_note("no dead letters%s%s%s%s", args_has(a, "function") ? " of " : "",
                 args_has(a, "function") ? args_text(a, "function") : "", args_has(a, "since") ? " since then" : "",
                 args_has(a, "muted") ? "" : "; --muted shows the muted groups too");
        return;
    }
    long long letters = member_int(answer, "letters", 0);
    if (member_true(answer, "more")) out_note("there are more than these %zu groups: --limit N", json_array_size(groups));
    const char *g = called(json_array_get(groups, 0));
    out_note("%lld letter%s; next: weir dlq group %s | weir dlq list -g %s | weir dlq try -g %s --to FUNCTION:VERSION", letters,
             plural(letters), g, g, g);
}

static int run_groups(const struct args *a) {
    int64_t limit = args_number(a, "limit", GROUPS_DEFAULT);
    if (limit == 0) return out_misuse("dlq groups: --limit must be at least 1");
    cleanup_client struct client *c = client_new(a);
    cleanup_free char *path = path_new("/v1/groups");
    path_query(&path, "function", args_text(a, "function"));
    if (args_has(a, "since")) path_query_number(&path, "sinceMs", args_number(a, "since", 0));
    if (args_has(a, "muted")) path_query(&path, "muted", "true");
    path_query_number(&path, "limit", limit);
    json_auto_t *answer = NULL;
    int rc = client_json(c, "GET", path, NULL, &answer);
    if (rc != EXIT_OK) return rc;
    size_t n = json_array_size(json_object_get(answer, "groups"));
    if (args_has(a, "json")) out_json(answer);
    else if (n) print_groups(json_object_get(answer, "groups"));
    if (!args_has(a, "json")) print_groups_end(a, answer);
    return n ? EXIT_OK : dlq_explain_empty(c, a);
}

const struct command dlq_groups = {
    .name = "groups",
    .summary = "Lists the dead letters in groups: what died of the same thing counts as one",
    .specs = groups_specs,
    .uses = USES_SERVER | USES_JSON,
    .run = run_groups,
};

// --- group --------------------------------------------------------------------------------------------------------

static const struct arg_spec group_specs[] = {
    {"name", 0, ARG_TEXT, "NAME", "call it so; '' takes the name away", NULL},
    {"note", 0, ARG_TEXT, "TEXT", "what is known about it; '' takes the note away", NULL},
    {"mute", 0, ARG_FLAG, NULL, "leave it out of 'weir dlq groups'", NULL},
    {"unmute", 0, ARG_FLAG, NULL, "show it there again", NULL},
    {0},
};

static void print_row(const char *label, const char *text) {
    if (!*text) return;
    printf("  %-12s", label);
    out_text(stdout, str_of(text));
    putchar('\n');
}

static void print_group(const json_t *group) {
    char first[OUT_SHORT_BYTES], last[OUT_SHORT_BYTES];
    const char *id = member_text(group, "group", "?"), *letter = member_text(group, "letter", NULL), *name = called(group);
    cleanup_free char *functions = functions_text(group), *versions = versions_text(group), *error = dlq_error_text(group);
    cleanup_free char *spark = spark_text(json_object_get(group, "spark"));
    long long count = member_int(group, "count", 0);
    cleanup_free char *letters = mem_printf("%lld of %s, version %s", count, functions, versions);
    cleanup_free char *when = mem_printf("first %s ago, last %s ago", out_age(member_int(group, "firstMs", 0), first),
                                         out_age(member_int(group, "lastMs", 0), last));
    printf("%s%s%s%s\n", out_tone(stdout, TONE_BOLD), id, out_tone(stdout, TONE_PLAIN),
           member_true(group, "muted") ? " (muted)" : "");
    print_row("name", member_text(group, "name", ""));
    print_row("error", error);
    print_row("place", member_text(group, "place", ""));
    print_row("letters", count ? letters : "none");
    if (count) print_row("seen", when);
    print_row("last 24 h", spark);
    print_row("note", member_text(group, "note", ""));
    if (!letter) return;
    print_row("newest", letter);
    out_note("next:\n  weir dlq show %s\n  weir dlq list -g %s\n  weir dlq try -g %s --to FUNCTION:VERSION\n  weir dlq replay -g %s",
             letter, name, name, name);
}

static json_t *description_json(const struct args *a) {
    json_t *o = json_object();
    if (args_has(a, "name")) json_object_set_new(o, "name", json_string(args_text(a, "name")));
    if (args_has(a, "note")) json_object_set_new(o, "note", json_string(args_text(a, "note")));
    if (args_has(a, "mute") || args_has(a, "unmute")) json_object_set_new(o, "muted", json_boolean(args_has(a, "mute")));
    return o;
}

static int run_group(const struct args *a) {
    if (args_has(a, "mute") && args_has(a, "unmute")) return out_misuse("dlq group: give --mute or --unmute, not both");
    cleanup_client struct client *c = client_new(a);
    cleanup_free char *path = path_new("/v1/groups");
    path_add(&path, a->words[0]);
    json_t *description = description_json(a);
    bool changes = json_object_size(description) > 0;
    if (!changes) json_decref(description);
    json_auto_t *group = NULL;
    int rc = client_json(c, changes ? "PATCH" : "GET", path, changes ? description : NULL, &group);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "json")) out_json(group);
    else print_group(group);
    return EXIT_OK;
}

const struct command dlq_group = {
    .name = "group",
    .words = "GROUP",
    .summary = "Shows a group of dead letters; names it, notes what is known about it, or mutes it",
    .about = "\nGROUP is its 16 hex digits or its name.\n\n"
             "  weir dlq group 9f86d081884c7d65 --name no-total --note 'orders without a total; WEB-311'\n"
             "  weir dlq group no-total --mute\n",
    .specs = group_specs,
    .uses = USES_SERVER | USES_JSON,
    .least = 1,
    .most = 1,
    .run = run_group,
};
