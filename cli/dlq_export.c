// SPDX-License-Identifier: Apache-2.0
// weir dlq export: letters to stdout, one line of JSON each. A page at a time is in memory, and its letters are cut out of the answer as they
// stand there: reading them into numbers and writing them again could change a payload.
#include <errno.h>
#include <inttypes.h>

#include "cli/commands.h"
#include "cli/dlq.h"
#include "cli/dlq_replay.h"
#include "cli/out.h"
#include "cli/progress.h"
#include "core/json_text.h"

#define PAGE_LETTERS 500 // the server ends a page of large ones earlier

static const struct arg_spec export_specs[] = {
    DLQ_SELECT_SPECS,
    DLQ_STATE_SPEC("only in this state (default dead)"),
    DLQ_ALL_SPEC,
    {"as", 0, ARG_WORD, "FORM", "weir (default; import reads it), or as a vendor writes them", "weir|scf|lambda"},
    {0},
};

struct export {
    const struct args *a;
    struct client *c;
    bool weir;       // not a vendor's form
    int64_t limit, count, masked; // limit 0: all
    int failed;      // errno of stdout
    struct progress progress;
};

static bool is_masked(struct str letter) {
    struct str value;
    return json_text_find(letter, STR_LIT("/redacted"), &value, NULL) == 0 && str_is(value, "true");
}

// In one line: a line feed of a checked text stands between its values.
static bool write_letter(void *arg, struct str letter) {
    struct export *e = arg;
    if (e->limit && e->count == e->limit) return false;
    while (letter.len) {
        const char *end = memchr(letter.data, '\n', letter.len);
        size_t n = end ? (size_t)(end - letter.data) : letter.len;
        if (fwrite(letter.data, 1, n, stdout) != n) break;
        n += end != NULL;
        letter = (struct str){letter.data + n, letter.len - n};
    }
    if (letter.len || putchar('\n') == EOF) e->failed = errno;
    e->count += e->failed == 0;
    return e->failed == 0;
}

static bool count_masked(void *arg, struct str letter) {
    struct export *e = arg;
    e->masked += is_masked(letter);
    return true;
}

static int fetch_page(struct export *e, const char *cursor, struct reply *ret) {
    cleanup_free char *path = path_new("/v1/letters");
    int64_t left = e->limit ? e->limit - e->count : PAGE_LETTERS;
    dlq_selection_query(e->a, args_text(e->a, "state"), NULL, &path);
    path_query(&path, "order", "oldest");
    path_query(&path, "full", "true");
    path_query(&path, "as", e->weir ? NULL : args_text(e->a, "as"));
    path_query_number(&path, "limit", left < PAGE_LETTERS ? left : PAGE_LETTERS);
    path_query(&path, "cursor", cursor);
    struct request request = {.method = "GET", .path = path};
    struct err err;
    if (client_send(e->c, &request, ret, &err) < 0) return out_fail("%s", err.text);
    if (ret->status < 400) return EXIT_OK;
    cleanup_free char *why = reply_error(ret);
    reply_done(ret);
    return out_fail("%s", why);
}

// The next page's cursor; NULL: there is none. Caller frees.
static char *next_cursor(struct str page) {
    struct str text;
    if (json_text_find(page, STR_LIT("/next"), &text, NULL) < 0) return NULL;
    json_auto_t *next = json_loadb(text.data, text.len, JSON_DECODE_ANY, NULL);
    return mem_strdup(json_string_value(next));
}

static int write_page(struct export *e, struct str page) {
    struct str letters;
    struct err err;
    if (json_text_check(page, &err) < 0 || json_text_find(page, STR_LIT("/letters"), &letters, &err) < 0)
        return out_fail("the answer of %s is not a page of letters: %s", client_url(e->c), err.text);
    if (e->weir) json_text_items(letters, count_masked, e);
    json_text_items(letters, write_letter, e);
    if (e->failed == 0 && fflush(stdout) != 0) e->failed = errno;
    if (e->failed) return out_fail("stdout: %s", strerror(e->failed));
    if (!out_is_terminal(stdout) && progress_due(&e->progress)) progress_show("%" PRId64 " letters exported", e->count);
    return EXIT_OK;
}

static int export_all(struct export *e) {
    cleanup_free char *cursor = NULL;
    do {
        struct reply reply;
        int rc = fetch_page(e, cursor, &reply);
        if (rc != EXIT_OK) return rc;
        struct str page = {reply.body, reply.body_len};
        rc = write_page(e, page);
        free(cursor);
        cursor = rc == EXIT_OK ? next_cursor(page) : NULL;
        reply_done(&reply);
        if (rc != EXIT_OK) return rc;
    } while (cursor && (!e->limit || e->count < e->limit));
    return EXIT_OK;
}

static int run_export(const struct args *a) {
    int rc = dlq_check_options(a, "export");
    if (rc == EXIT_OK && args_has(a, "all") && dlq_has_selection(a))
        rc = out_misuse("dlq export: --all means all; leave the selection out, or --all");
    if (rc != EXIT_OK) return rc;
    cleanup_client struct client *c = client_new(a);
    const char *as = args_text(a, "as");
    struct export e = {.a = a, .c = c, .weir = !as || strcmp(as, "weir") == 0, .limit = args_number(a, "limit", 0)};
    progress_begin(&e.progress);
    rc = export_all(&e);
    progress_end();
    if (rc != EXIT_OK) return out_fail("the export is not complete: it ended after %" PRId64 " letter%s", e.count, plural(e.count));
    if (e.masked)
        out_note("%" PRId64 " of the letters are masked (the server's option redact); they cannot be imported", e.masked);
    if (!out_is_terminal(stdout) || e.count == 0) out_note("%" PRId64 " letter%s exported", e.count, plural(e.count));
    return e.count ? EXIT_OK : dlq_explain_empty(c, a);
}

const struct command dlq_export = {
    .name = "export",
    .summary = "Writes letters to stdout, one line of JSON each, oldest first",
    .about = "\n  weir dlq export --function orders > letters.ndjson\n"
             "  weir dlq export --group 5e1d… --as lambda | producer\n"
             "\n"
             "Letters of the form weir are whole: weir dlq import reads them, into this server or another one.\n"
             "--as scf is the dead-letter message of Tencent SCF, --as lambda the on-failure record of AWS Lambda.\n",
    .specs = export_specs,
    .uses = USES_SERVER,
    .run = run_export,
};
