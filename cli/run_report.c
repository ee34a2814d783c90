// SPDX-License-Identifier: Apache-2.0
// What weir run says at the end.
#include "cli/case.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/run.h"
#include "dlq/fingerprint.h"

static struct str text_of(const json_t *error, const char *key) {
    return str_of(member_text(error, key, ""));
}

static uint64_t fingerprint(struct str function, const json_t *error) {
    return fingerprint_of(function, text_of(error, "type"), text_of(error, "message"), text_of(error, "stack"));
}

// The error of the case, and now: "fixed", "same" or "other"; NULL: the case has none, or it was not run to its end.
static const char *compare(const struct run_end *end, struct str function, const json_t *case_error) {
    if (!case_error || end->left) return NULL;
    if (!end->error) return "fixed";
    return fingerprint(function, end->error) == fingerprint(function, case_error) ? "same" : "other";
}

static void print_error(const json_t *error) {
    out_fail("%s: %s", member_text(error, "type", "Error"), member_text(error, "message", ""));
    out_block(stderr, "  ", text_of(error, "stack"));
}

static void print_result(struct str result) {
    out_text(stdout, result);
    if (result.len == 0 || result.data[result.len - 1] != '\n') putchar('\n');
    fflush(stdout);
}

static void print_end(const struct run_end *end, const char *verdict, const json_t *case_error) {
    const char *type = member_text(case_error, "type", ""), *message = member_text(case_error, "message", "");
    char span[OUT_SHORT_BYTES];
    out_span(end->duration_us / 1000, span);
    if (end->left) out_note("the debugger was left before the handler ended");
    else if (!verdict) out_note("%s after %s", end->error ? "failed" : "ok", span);
    else if (strcmp(verdict, "fixed") == 0) out_note("ok after %s; fixed: the case had %s: %s", span, type, message);
    else if (strcmp(verdict, "same") == 0) out_note("failed after %s; the same error as in the case", span);
    else out_note("failed after %s; another error: the case had %s: %s", span, type, message);
}

static int print_json(const struct run_end *end, const char *verdict) {
    struct buf out;
    struct err err;
    buf_init(&out, CASE_BYTES_MAX);
    json_auto_t *root = json_pack("{s:s, s:f, s:O*, s:s*}", "outcome", outcome_word(end->outcome), "durationMs",
                                  (double)end->duration_us / 1000, "error", end->error, "verdict", verdict);
    int rc = end->error ? 0 : case_put_bytes(root, "", "result", buf_str(&end->result), &out, &err);
    cleanup_free char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(15)); // 9.892, not 9.8919999999999995
    if (rc) out_fail("%s", err.text);
    else print_result(end->error ? str_of(text) : buf_str(&out));
    buf_done(&out);
    return rc ? EXIT_FAILED : EXIT_OK;
}

int run_report(const struct run_end *end, struct str function, const json_t *case_error, bool json) {
    const char *verdict = compare(end, function, case_error);
    bool failed = end->error || end->left;
    if (json) return print_json(end, verdict) == EXIT_OK && !failed ? EXIT_OK : EXIT_FAILED;
    if (end->error) print_error(end->error);
    else if (!end->left) print_result(buf_str(&end->result));
    print_end(end, verdict, case_error);
    return failed ? EXIT_FAILED : EXIT_OK;
}
