// SPDX-License-Identifier: Apache-2.0
// weir fn: the functions of the server and their versions.
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "core/base/clock.h"

#define PAGE_MAX 1000

static const struct arg_spec no_specs[] = {{0}};

static char *function_path(const char *name) {
    char *path = path_new("/v1/functions");
    path_add(&path, name);
    return path;
}

static int get_function(const struct args *a, json_t **ret) {
    cleanup_client struct client *c = client_new(a);
    cleanup_free char *path = function_path(a->words[0]);
    return client_json(c, "GET", path, NULL, ret);
}

// --- list ---------------------------------------------------------------------------------------------------------

static void print_functions(const json_t *functions) {
    static const char *const titles[] = {"NAME", ">VERSION", "RUNTIME", "HANDLER", ">VERSIONS", ">AGE", "SHA256", NULL};
    struct table t;
    table_init(&t, titles);
    size_t i;
    const json_t *f;
    json_array_foreach(functions, i, f) {
        char age[OUT_SHORT_BYTES];
        table_add(&t, TONE_BOLD, "%s", member_text(f, "name", "?"));
        table_add(&t, TONE_PLAIN, "%lld", (long long)member_int(f, "current", 0));
        table_add(&t, TONE_PLAIN, "%s", member_text(f, "runtime", ""));
        table_add(&t, TONE_PLAIN, "%s", member_text(f, "handler", ""));
        table_add(&t, TONE_PLAIN, "%lld", (long long)member_int(f, "versions", 0));
        table_add(&t, TONE_PLAIN, "%s", out_age(member_int(f, "createdMs", 0), age));
        table_add(&t, TONE_DIM, "%.12s", member_text(f, "sha256", ""));
    }
    table_print(&t);
}

// Page after page.
static int fetch_all(struct client *c, json_t *functions) {
    cleanup_free char *cursor = NULL;
    do {
        cleanup_free char *path = path_new("/v1/functions");
        json_auto_t *page = NULL;
        path_query_number(&path, "limit", PAGE_MAX);
        path_query(&path, "cursor", cursor);
        int rc = client_json(c, "GET", path, NULL, &page);
        if (rc != EXIT_OK) return rc;
        json_array_extend(functions, json_object_get(page, "functions"));
        free(cursor);
        cursor = mem_strdup(member_text(page, "next", NULL));
    } while (cursor);
    return EXIT_OK;
}

static int run_list(const struct args *a) {
    cleanup_client struct client *c = client_new(a);
    json_auto_t *functions = json_array(), *shown = json_pack("{s:O}", "functions", functions);
    int rc = fetch_all(c, functions);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "json")) out_json(shown);
    else if (json_array_size(functions) == 0) out_note("no functions yet; make one with: weir deploy hello.py");
    else print_functions(functions);
    return EXIT_OK;
}

// --- show, versions -----------------------------------------------------------------------------------------------

static const json_t *current_version(const json_t *function) {
    size_t i;
    const json_t *v;
    json_array_foreach(json_object_get(function, "versions"), i, v) {
        if (member_true(v, "current") || member_int(v, "number", -1) == member_int(function, "current", 0)) return v;
    }
    return NULL;
}

static bool is_empty(const json_t *value) {
    return (json_is_string(value) && json_string_length(value) == 0) || (json_is_object(value) && json_object_size(value) == 0);
}

static void print_setting(const char *key, json_t *value) {
    if (is_empty(value)) return;
    char span[OUT_SHORT_BYTES];
    size_t n = strlen(key), i;
    const json_t *one;
    bool is_time = n > 2 && strcmp(key + n - 2, "Ms") == 0;
    printf("  %-14s", key);
    if (json_is_string(value)) {
        out_text(stdout, str_of(json_string_value(value)));
    } else if (is_time && json_is_array(value)) {
        json_array_foreach(value, i, one) printf("%s%s", i ? ", " : "", out_span(json_integer_value(one), span));
    } else if (is_time) {
        fputs(out_span(json_integer_value(value), span), stdout);
    } else {
        cleanup_free char *text = json_dumps(value, JSON_ENCODE_ANY);
        out_text(stdout, str_of(text));
    }
    putchar('\n');
}

static void print_function(const json_t *function) {
    const json_t *v = current_version(function);
    char created[CLOCK_TEXT_BYTES], age[OUT_SHORT_BYTES];
    int64_t created_ms = member_int(v, "createdMs", 0);
    clock_format_utc(created_ms, created);
    printf("%s%s:%lld%s  deployed %s (%s ago), %zu version%s\n", out_tone(stdout, TONE_BOLD),
           member_text(function, "name", "?"), (long long)member_int(function, "current", 0), out_tone(stdout, TONE_PLAIN),
           created, out_age(created_ms, age), json_array_size(json_object_get(function, "versions")),
           plural((int64_t)json_array_size(json_object_get(function, "versions"))));
    printf("  %-14s%s\n", "sha256", member_text(v, "sha256", ""));
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(v, "settings"), key, value) print_setting(key, value);
}

static int run_show(const struct args *a) {
    json_auto_t *function = NULL;
    int rc = get_function(a, &function);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "json")) out_json(function);
    else print_function(function);
    return EXIT_OK;
}

static void print_versions(const json_t *versions) {
    static const char *const titles[] = {">VERSION", "CURRENT", "RUNTIME", "HANDLER", ">AGE", "SHA256", NULL};
    struct table t;
    table_init(&t, titles);
    size_t i;
    const json_t *v;
    json_array_foreach(versions, i, v) {
        char age[OUT_SHORT_BYTES];
        const json_t *settings = json_object_get(v, "settings");
        bool current = member_true(v, "current");
        table_add(&t, current ? TONE_BOLD : TONE_PLAIN, "%lld", (long long)member_int(v, "number", 0));
        table_add(&t, TONE_GOOD, "%s", current ? "current" : "");
        table_add(&t, TONE_PLAIN, "%s", member_text(settings, "runtime", ""));
        table_add(&t, TONE_PLAIN, "%s", member_text(settings, "handler", ""));
        table_add(&t, TONE_PLAIN, "%s", out_age(member_int(v, "createdMs", 0), age));
        table_add(&t, TONE_DIM, "%.12s", member_text(v, "sha256", ""));
    }
    table_print(&t);
}

static int run_versions(const struct args *a) {
    json_auto_t *function = NULL;
    int rc = get_function(a, &function);
    if (rc != EXIT_OK) return rc;
    const json_t *versions = json_object_get(function, "versions");
    if (!args_has(a, "json")) {
        print_versions(versions);
        return EXIT_OK;
    }
    json_auto_t *shown = json_pack("{s:O}", "versions", versions);
    out_json(shown);
    return EXIT_OK;
}

// --- use, rollback, delete ---------------------------------------------------------------------------------------------

static const struct arg_spec rollback_specs[] = {
    {"to", 0, ARG_COUNT, "N", "the version that becomes the current one", NULL},
    {0},
};

static int set_current(const struct args *a, int64_t number) {
    cleanup_client struct client *c = client_new(a);
    cleanup_free char *path = function_path(a->words[0]);
    path_add(&path, "current");
    json_auto_t *answer = NULL;
    int rc = client_json(c, "POST", path, json_pack("{s:I}", "version", (json_int_t)number), &answer);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "json")) out_json(answer);
    else printf("%s is now %s:%lld\n", a->words[0], a->words[0], (long long)member_int(answer, "current", number));
    return EXIT_OK;
}

static int run_rollback(const struct args *a) {
    if (!args_has(a, "to"))
        return out_misuse("fn rollback: say which version with --to N; weir fn versions %s lists them", a->words[0]);
    return set_current(a, args_number(a, "to", 0));
}

static int run_use(const struct args *a) {
    const char *text = a->words[1];
    if (strspn(text, "0123456789") != strlen(text) || !*text || strlen(text) > 9)
        return out_misuse("fn use: '%s' is not the number of a version; weir fn versions %s lists them", text, a->words[0]);
    return set_current(a, strtoll(text, NULL, 10));
}

static const struct arg_spec delete_specs[] = {
    {"yes", 'y', ARG_FLAG, NULL, "do not ask", NULL},
    {0},
};

static int run_delete(const struct args *a) {
    const char *name = a->words[0];
    if (!args_has(a, "yes") && !out_confirm("Delete function %s with all its versions?", name))
        return out_fail("nothing was deleted");
    cleanup_client struct client *c = client_new(a);
    cleanup_free char *path = function_path(name);
    json_auto_t *answer = NULL;
    int rc = client_json(c, "DELETE", path, NULL, &answer);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "json")) out_json(answer);
    else printf("%s deleted\n", name);
    return EXIT_OK;
}

// --- the table ----------------------------------------------------------------------------------------------------

#define FN_COMMAND(verb, takes, what, table, n) \
    static const struct command fn_##verb = {   \
        .name = #verb,                          \
        .words = takes,                         \
        .summary = what,                        \
        .specs = table,                         \
        .uses = USES_SERVER | USES_JSON,        \
        .least = n,                             \
        .most = n,                              \
        .run = run_##verb,                      \
    }
FN_COMMAND(list, NULL, "Lists the functions", no_specs, 0);
FN_COMMAND(show, "FUNCTION", "Shows the current version of a function with its settings", no_specs, 1);
FN_COMMAND(versions, "FUNCTION", "Lists the versions of a function", no_specs, 1);
FN_COMMAND(use, "FUNCTION VERSION", "Makes this version the current one", no_specs, 2);
FN_COMMAND(rollback, "FUNCTION --to N", "Makes an earlier version the current one again", rollback_specs, 1);
FN_COMMAND(delete, "FUNCTION", "Deletes a function with all its versions", delete_specs, 1);

const struct command fn_command = {
    .name = "fn",
    .summary = "Lists, shows and deletes functions, and says which version is the current one",
    .subs = (const struct command *const[]){&fn_list, &fn_show, &fn_versions, &fn_use, &fn_rollback, &fn_delete, NULL},
};
