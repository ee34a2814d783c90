// SPDX-License-Identifier: Apache-2.0
// weir dlq edit: what would change is shown first; the server makes the edits, some letters a call.
#include "cli/dlq_edit.h"

#include <inttypes.h>

#include "cli/commands.h"
#include "cli/diff.h"
#include "cli/dlq.h"
#include "cli/pretty.h"
#include "core/json_text.h"

#define PAGE 100         // letters a call
#define DIFFS_SHOWN 3
#define CONTEXT 2        // lines around what changed
#define LISTED_MAX 1000  // letters and refusals that are kept for the end
#define IDS_MAX 1000000  // words

struct edits {
    const struct args *a;
    struct client *client;
    struct buf members;     // of the request: what to change
    int64_t edited, unchanged, refusals;
    json_t *refused, *letters; // the first LISTED_MAX
    size_t shown;           // diffs
};

// --- one call -----------------------------------------------------------------------------------------------------

// The request's body. cursor: NULL at first. limit: 0: none.
static char *body_text(const struct edits *e, bool dry_run, const char *cursor, int64_t limit) {
    json_auto_t *o = dlq_selection_json(e->a, args_text(e->a, "state"));
    if (args_has(e->a, "why")) json_object_set_new(o, "why", json_string(args_text(e->a, "why")));
    if (dry_run) json_object_set_new(o, "dryRun", json_true());
    if (cursor) json_object_set_new(o, "cursor", json_string(cursor));
    if (limit) json_object_set_new(o, "limit", json_integer(limit));
    cleanup_free char *text = json_dumps(o, JSON_COMPACT);
    MUST(text);
    return mem_printf("%.*s%.*s}", (int)strlen(text) - 1, text, STR_ARG(buf_str(&e->members)));
}

static int ask(struct edits *e, bool dry_run, const char *cursor, int64_t limit, json_t **ret) {
    cleanup_free char *body = body_text(e, dry_run, cursor, limit);
    struct request request = {.method = "POST", .path = "/v1/letters/edit", .body = str_of(body), .content_type = "application/json"};
    struct reply reply;
    struct err err;
    if (client_send(e->client, &request, &reply, &err) < 0) return out_fail("%s", err.text);
    int rc = EXIT_OK;
    if (reply.status >= 400) {
        cleanup_free char *why = reply_error(&reply);
        rc = out_fail("%s", why);
    } else {
        *ret = json_loadb(reply.body, reply.body_len, JSON_ALLOW_NUL, NULL);
        if (!*ret) rc = out_fail("the answer of %s is not JSON; is it a weir server?", client_url(e->client));
    }
    reply_done(&reply);
    return rc;
}

// --- the diff -----------------------------------------------------------------------------------------------------

// The document, laid out for reading; false: it did not come, or is too large to be compared.
static bool lay_out(const json_t *document, struct buf *out) {
    struct str text = {json_string_value(document), json_string_length(document)};
    return text.data && json_text_check(text, NULL) == 0 && pretty_json(text, 2, out) == 0;
}

static void print_diff_line(struct str line) {
    enum tone tone = line.data[0] == '-' ? TONE_BAD : line.data[0] == '+' ? TONE_GOOD : line.data[0] == '@' ? TONE_DIM : TONE_PLAIN;
    if (tone != TONE_PLAIN) fputs(out_tone(stdout, tone), stdout);
    out_text(stdout, line);
    if (tone != TONE_PLAIN) fputs(out_tone(stdout, TONE_PLAIN), stdout);
    putchar('\n');
}

static void print_diff(const json_t *letter) {
    struct buf before, after, diff;
    buf_init(&before, DIFF_BYTES_MAX);
    buf_init(&after, DIFF_BYTES_MAX);
    buf_init(&diff, (size_t)4 * DIFF_BYTES_MAX);
    printf("%s%s%s\n", out_tone(stdout, TONE_BOLD), member_text(letter, "id", "?"), out_tone(stdout, TONE_PLAIN));
    bool both = lay_out(json_object_get(letter, "before"), &before) && lay_out(json_object_get(letter, "after"), &after);
    if (both && diff_unified(buf_str(&before), buf_str(&after), CONTEXT, &diff) == 0) {
        struct str text = buf_str(&diff);
        for (const char *end; text.len && (end = memchr(text.data, '\n', text.len));) {
            size_t n = (size_t)(end - text.data);
            print_diff_line((struct str){text.data, n});
            text = (struct str){end + 1, text.len - n - 1};
        }
    } else {
        dlq_print_patch(json_object_get(letter, "patch"), "  ");
    }
    buf_done(&before);
    buf_done(&after);
    buf_done(&diff);
}

// --- all of them --------------------------------------------------------------------------------------------------

static void keep(json_t *list, const json_t *more) {
    for (size_t i = 0; i < json_array_size(more) && json_array_size(list) < LISTED_MAX; i++)
        json_array_append(list, json_array_get(more, i));
}

static void take_letters(struct edits *e, const json_t *letters) {
    size_t i;
    json_t *letter;
    json_array_foreach(letters, i, letter) {
        if (!args_has(e->a, "json") && e->shown < DIFFS_SHOWN) {
            print_diff(letter);
            e->shown++;
        }
        json_object_del(letter, "before"); // the patch says it in less
        json_object_del(letter, "after");
    }
    keep(e->letters, letters);
}

static int64_t looked_at(const struct edits *e) {
    return e->edited + e->unchanged + e->refusals;
}

static int edit_all(struct edits *e, bool dry_run) {
    int64_t limit = args_number(e->a, "limit", 0);
    cleanup_free char *cursor = NULL;
    do {
        json_auto_t *answer = NULL;
        int64_t left = limit ? limit - looked_at(e) : 0;
        int rc = ask(e, dry_run, cursor, left < PAGE ? left : PAGE, &answer);
        if (rc != EXIT_OK) return rc;
        e->edited += member_int(answer, "edited", 0);
        e->unchanged += member_int(answer, "unchanged", 0);
        e->refusals += (int64_t)json_array_size(json_object_get(answer, "refused"));
        keep(e->refused, json_object_get(answer, "refused"));
        take_letters(e, json_object_get(answer, "letters"));
        free(cursor);
        cursor = member_true(answer, "more") ? mem_strdup(member_text(answer, "next", NULL)) : NULL;
        out_progress("%" PRId64 " letter%s %s", e->edited, plural(e->edited), dry_run ? "looked at" : "edited");
    } while (cursor && (!limit || looked_at(e) < limit));
    out_progress(NULL);
    return EXIT_OK;
}

static void start_over(struct edits *e) {
    e->edited = e->unchanged = e->refusals = 0;
    json_array_clear(e->refused);
    json_array_clear(e->letters);
}

static int print_end(struct edits *e, bool dry_run) {
    if (args_has(e->a, "json")) {
        json_auto_t *shown = json_pack("{s:I, s:I, s:O, s:O, s:b}", "edited", (json_int_t)e->edited, "unchanged", (json_int_t)e->unchanged,
                                       "refused", e->refused, "letters", e->letters, "dryRun", (int)dry_run);
        out_json(shown);
    } else {
        if (e->edited > (int64_t)e->shown) printf("… and %" PRId64 " more\n", e->edited - (int64_t)e->shown);
        printf("%" PRId64 " letter%s %s", e->edited, plural(e->edited), dry_run ? "would be edited" : "edited");
        if (e->unchanged) printf(", %" PRId64 " had it already", e->unchanged);
        putchar('\n');
    }
    return dlq_print_refused(e->refused) ? EXIT_FAILED : EXIT_OK;
}

static bool confirmed(struct edits *e) {
    const char *state = args_text(e->a, "state");
    char n[OUT_NUMBER_BYTES], all[OUT_NUMBER_BYTES];
    int64_t of = dlq_has_selection(e->a) ? dlq_count_quietly(e->client, state, NULL) : -1;
    dlq_hint_missing(e->client, e->a, state);
    dlq_forget_typed();
    if (of < e->edited) return out_confirm("Edit %s letters?", out_number(e->edited, n));
    return out_confirm("Edit %s of %s %s letters?", out_number(e->edited, n), out_number(of, all), state ? state : "dead");
}

static int refuse_unasked(const struct edits *e) {
    int64_t count = -1;
    int rc = dlq_count(e->client, e->a, args_text(e->a, "state"), &count);
    return rc == EXIT_OK ? dlq_refuse(count, "edited") : rc;
}

static int look_and_edit(struct edits *e) {
    bool dry_run = args_has(e->a, "dry-run"), asks = !dry_run && !args_has(e->a, "yes") && e->a->word_count != 1;
    if (asks && !dlq_can_ask() && !e->a->word_count) return refuse_unasked(e);
    if (asks && dlq_can_ask()) {
        int rc = edit_all(e, true);
        if (rc != EXIT_OK) return rc;
        if (e->edited == 0) return print_end(e, true);
        if (e->edited > (int64_t)e->shown) printf("… and %" PRId64 " more\n", e->edited - (int64_t)e->shown);
        fflush(stdout);
        if (e->edited > 1 && !confirmed(e)) return out_fail("nothing was edited");
        start_over(e);
        e->shown = DIFFS_SHOWN; // they have been seen
    }
    int rc = edit_all(e, dry_run);
    if (rc == EXIT_OK) return print_end(e, dry_run);
    if (looked_at(e)) (void)print_end(e, dry_run); // what was done before the failure
    return rc;
}

// --- the command --------------------------------------------------------------------------------------------------

static const struct arg_spec specs[] = {
    {"set", 0, ARG_TEXT, "PATH=JSON", "put this value there: payload.currency='\"EUR\"', headers.x-tenant='\"a\"'; may be repeated", NULL},
    {"unset", 0, ARG_TEXT, "PATH", "take this away where it is: payload.items[0].sku, headers.x; may be repeated", NULL},
    {"patch", 0, ARG_TEXT, "FILE", "a JSON Patch (RFC 6902); - reads stdin", NULL},
    DLQ_SELECT_SPECS,
    {"state", 's', ARG_WORD, "STATE", "only in this state (default dead)", "due|dead"},
    DLQ_ALL_SPEC,
    DLQ_WHY_SPEC,
    {"dry-run", 0, ARG_FLAG, NULL, "only show what would change", NULL},
    DLQ_YES_SPEC,
    {0},
};

static int read_change(struct edits *e) {
    int rc = edit_read_options(e->a, &e->members);
    if (rc != EXIT_OK || buf_len(&e->members)) return rc;
    if (e->a->word_count != 1) return out_misuse("dlq edit: say what to change: --set PATH=JSON, --unset PATH or --patch FILE");
    json_auto_t *letter = NULL;
    rc = dlq_fetch_one(e->client, e->a->words[0], &letter);
    return rc == EXIT_OK ? edit_in_editor(letter, &e->members) : rc;
}

static int run_edit(const struct args *a) {
    int rc = dlq_check_selection(a, "edit");
    if (rc != EXIT_OK) return rc;
    cleanup_client struct client *c = client_new(a);
    struct edits e = {.a = a, .client = c, .refused = json_array(), .letters = json_array()};
    buf_init(&e.members, EDIT_CHANGE_MAX);
    rc = read_change(&e);
    if (rc == EXIT_OK && buf_len(&e.members) == 0) out_note("nothing was changed");
    else if (rc == EXIT_OK) rc = look_and_edit(&e);
    buf_done(&e.members);
    json_decref(e.refused);
    json_decref(e.letters);
    return rc;
}

const struct command dlq_edit = {
    .name = "edit",
    .words = "[ID]...",
    .summary = "Changes payload and headers of letters; the original and each revision are kept",
    .about = "\nWith one ID and nothing to set it opens $EDITOR with the payload.\n\n"
             "  weir dlq edit 0192f3c4-… --set payload.currency='\"EUR\"' --unset headers.x-debug --why WEB-311\n"
             "  weir dlq edit --where 'payload.currency is null' --set payload.currency='\"EUR\"' --dry-run\n"
             "  weir dlq edit 0192f3c4-…\n",
    .specs = specs,
    .uses = USES_SERVER | USES_JSON,
    .most = IDS_MAX,
    .run = run_edit,
};
