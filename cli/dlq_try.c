// SPDX-License-Identifier: Apache-2.0
// weir dlq try: runs letters on a version without consequences, and shows what would change.
#include <inttypes.h>

#include "cli/commands.h"
#include "cli/dlq.h"
#include "cli/dlq_replay.h"
#include "cli/out.h"

#define SAMPLE_MAX 200
#define CELL_CHARACTERS 60

static const struct arg_spec try_specs[] = {
    DLQ_SELECT_SPECS,
    DLQ_ALL_SPEC,
    {"sample", 0, ARG_COUNT, "N", "so many of them, spread over all (default 20, at most 200)", NULL},
    {"to", 0, ARG_TEXT, "NAME[:VERSION]", "the function or version that runs them (default: their function as it is now)", NULL},
    {0},
};

// --- a table ------------------------------------------------------------------------------------------------------

// "KeyError: 'total'", as wide as a cell; caller frees.
static char *short_error(const json_t *o) {
    cleanup_free char *whole = dlq_error_text(o);
    return out_cut(whole, CELL_CHARACTERS);
}

static bool is_verdict(const json_t *result, const char *verdict) {
    return strcmp(member_text(result, "verdict", ""), verdict) == 0;
}

// What it died of, and what came of it now; caller frees.
static char *change_of(struct client *c, const json_t *result) {
    cleanup_free char *after = is_verdict(result, "passes") ? out_cut(member_text(result, "result", ""), CELL_CHARACTERS) : short_error(result);
    if (is_verdict(result, "same") || is_verdict(result, "not-run")) return mem_strdup(after);
    json_auto_t *letter = NULL;
    if (dlq_fetch_one(c, member_text(result, "id", ""), &letter) != EXIT_OK) return mem_strdup(after);
    cleanup_free char *before = short_error(letter);
    return mem_printf("%s -> %s", before, *after ? after : "(nothing returned)");
}

static enum tone verdict_tone(const json_t *result) {
    if (is_verdict(result, "passes")) return TONE_GOOD;
    return is_verdict(result, "same") ? TONE_BAD : TONE_WARN;
}

static void print_results(struct client *c, const json_t *results) {
    static const char *const titles[] = {"ID", "ON", "VERDICT", ">TIME", "WHAT CHANGED", NULL};
    struct table t;
    size_t i;
    const json_t *result;
    table_init(&t, titles);
    t.cut = "WHAT CHANGED";
    json_array_foreach(results, i, result) {
        char span[OUT_SHORT_BYTES];
        cleanup_free char *change = change_of(c, result);
        table_add(&t, TONE_PLAIN, "%s", member_text(result, "id", "?"));
        table_add(&t, TONE_PLAIN, "%s:%" PRId64, member_text(result, "function", "?"), member_int(result, "version", 0));
        table_add(&t, verdict_tone(result), "%s", member_text(result, "verdict", "?"));
        table_add(&t, TONE_PLAIN, "%s", out_span(member_int(result, "durationMs", 0), span));
        table_add(&t, TONE_PLAIN, "%s", change);
    }
    table_print(&t);
}

static void print_part(const char *label, const char *text) {
    if (!*text) return;
    printf("\n%s%s%s\n", out_tone(stdout, TONE_BOLD), label, out_tone(stdout, TONE_PLAIN));
    out_block(stdout, "  ", str_of(text));
}

// --- the summary --------------------------------------------------------------------------------------------------

static int64_t count_verdict(const json_t *results, const char *verdict) {
    size_t i;
    const json_t *result;
    int64_t n = 0;
    json_array_foreach(results, i, result) n += is_verdict(result, verdict);
    return n;
}

static void print_verdicts(const json_t *results, const char *verdict, const char *one, const char *many) {
    int64_t n = count_verdict(results, verdict);
    if (n) printf("; %" PRId64 " %s", n, n == 1 ? one : many);
}

static void print_summary(const json_t *results) {
    int64_t passed = count_verdict(results, "passes");
    printf("%" PRId64 " of %zu pass%s", passed, json_array_size(results), json_array_size(results) == 1 && passed == 1 ? "es" : "");
    print_verdicts(results, "same", "fails as before", "fail as before");
    print_verdicts(results, "other", "fails otherwise", "fail otherwise");
    print_verdicts(results, "not-run", "was not run", "were not run");
    putchar('\n');
}

static int show(const struct args *a, struct client *c, const json_t *answer) {
    const json_t *results = json_object_get(answer, "results"), *only = json_array_get(results, 0);
    size_t n = json_array_size(results);
    bool good = n > 0 && count_verdict(results, "passes") == (int64_t)n;
    if (args_has(a, "json")) {
        out_json(answer);
        return good ? EXIT_OK : EXIT_FAILED;
    }
    if (n == 0) return out_fail("no dead letters match; nothing was tried");
    print_results(c, results);
    if (n == 1) { // there is room for all of it
        print_part("Stack", member_text(only, "stack", ""));
        print_part("Log", member_text(only, "log", ""));
        if (*member_text(only, "log", "") || *member_text(only, "stack", "")) putchar('\n');
    }
    print_summary(results);
    return good ? EXIT_OK : EXIT_FAILED;
}

static int run_try(const struct args *a) {
    int rc = dlq_check_selection(a, "try");
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "limit")) return out_misuse("dlq try: --sample N says how many");
    int64_t sample = args_number(a, "sample", 1);
    if (sample < 1 || sample > SAMPLE_MAX) return out_misuse("dlq try: --sample must be 1 to %d", SAMPLE_MAX);
    cleanup_client struct client *c = client_new(a);
    json_auto_t *answer = NULL;
    json_t *body = dlq_selection_json(a, NULL);
    if (args_has(a, "sample")) json_object_set_new(body, "sample", json_integer(sample));
    else if (a->word_count > 1) json_object_set_new(body, "sample", json_integer((json_int_t)(a->word_count < SAMPLE_MAX ? a->word_count : SAMPLE_MAX)));
    if (args_has(a, "to")) json_object_set_new(body, "to", json_string(args_text(a, "to")));
    out_progress("running them …");
    rc = client_json(c, "POST", "/v1/letters/try", body, &answer);
    out_progress(NULL);
    return rc == EXIT_OK ? show(a, c, answer) : rc;
}

const struct command dlq_try = {
    .name = "try",
    .words = "[ID]...",
    .summary = "Runs dead letters on a version without consequences, and shows which of them pass",
    .about = "\n  weir dlq try 0192f3c4-… --to orders:8\n"
             "  weir dlq try --group 5e1d… --sample 20 --to orders:8\n"
             "\n"
             "The function sees dry_run = true in its context. Nothing is marked, published or acknowledged.\n"
             "The exit code is 0 when all of them pass.\n",
    .specs = try_specs,
    .uses = USES_SERVER | USES_JSON,
    .most = 1000000,
    .run = run_try,
};
