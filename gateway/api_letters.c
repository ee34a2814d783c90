// SPDX-License-Identifier: Apache-2.0
// /v1/letters: look at letters, and change them.
#include "core/base/clock.h"
#include "core/json_text.h"
#include "dlq/edit.h"
#include "dlq/fingerprint.h"
#include "dlq/try.h"
#include "dlq/vendor_letter.h"
#include "gateway/reply.h"
#include "gateway/selection.h"

#define PAGE_DEFAULT 100
#define PAGE_MAX 1000
#define SAMPLE_DEFAULT 20

// --- looking ------------------------------------------------------------------------------------------------------

static int read_page(struct call *call, struct letter_page *page, struct err *err) {
    int64_t limit = PAGE_DEFAULT;
    struct str order = call_text(call, "order");
    int rc = call_number(call, "limit", 1, PAGE_MAX, &limit, err);
    *page = (struct letter_page){.after = call_text(call, "cursor"), .oldest_first = str_is(order, "oldest"), .limit = (size_t)limit};
    if (rc == 0 && order.len && !page->oldest_first && !str_is(order, "newest")) rc = err_set(err, ERR_INVALID, "order is newest or oldest");
    if (rc == 0) rc = call_flag(call, "count", &page->count, err);
    return rc ? rc : call_flag(call, "full", &page->full, err);
}

static void on_vendor_letters(void *arg, int code, const struct err *err, json_t *result) {
    struct call *call = arg;
    enum vendor vendor = VENDOR_WEIR;
    if (code) {
        reply_err(call, err);
        return;
    }
    MUST(vendor_parse(call_text(call, "as"), &vendor, NULL) == 0);
    struct buf out; // as text: the numbers in a payload stay as they are written
    const json_t *letters = json_object_get(result, "letters"), *letter;
    const char *next = json_string_value(json_object_get(result, "next"));
    size_t i;
    buf_init(&out, SIZE_MAX / 2);
    int rc = buf_append(&out, STR_LIT("{\"letters\":["));
    json_array_foreach(letters, i, letter) rc |= (i ? buf_append(&out, STR_LIT(",")) : 0) | vendor_letter_append_json(&out, vendor, letter);
    rc |= next ? buf_printf(&out, "],\"next\":\"%s\"}", next) : buf_append(&out, STR_LIT("],\"next\":null}"));
    MUST(rc == 0);
    reply_bytes(call, 200, STR_LIT("application/json"), NULL, 0, buf_str(&out));
    buf_done(&out);
    json_decref(result);
}

void api_letters(struct call *call) {
    struct err err;
    struct selection *sel = NULL;
    struct letter_page page;
    enum vendor vendor = VENDOR_WEIR;
    struct str as = call_text(call, "as");
    int rc = read_page(call, &page, &err);
    if (rc == 0 && as.len) rc = vendor_parse(as, &vendor, &err);
    if (rc == 0) rc = selection_of_query(call, "dead", &sel, &err);
    if (rc) {
        reply_err(call, &err);
        return;
    }
    page.full |= vendor != VENDOR_WEIR;
    letters_list(call->gw->c.letters, sel, &page, vendor == VENDOR_WEIR ? reply_json_or_err : on_vendor_letters, call);
}

void api_letter(struct call *call) {
    struct id id;
    if (id_parse(call->param, &id) < 0) reply_fail(call, ERR_NOT_FOUND, "'%.*s' is not the id of a letter", STR_ARG(call->param));
    else letters_show(call->gw->c.letters, &id, reply_json_or_err, call);
}

// --- changing -----------------------------------------------------------------------------------------------------

// What all changes take. Their spans point into the body.
static int read_change(struct call *call, const json_t *body, const char *state, struct letter_change *c, struct err *err) {
    int64_t limit = PAGE_MAX;
    int rc = body_number(body, "limit", 1, LETTERS_CHANGE_MAX, &limit, err);
    if (rc == 0) rc = body_text(body, "why", &c->why, err);
    if (rc == 0) rc = body_text(body, "cursor", &c->after, err);
    if (rc == 0) rc = selection_of_body(call, body, state, &c->sel, err);
    c->limit = (size_t)limit;
    c->who = call_who(call);
    return rc;
}

typedef void change_fn(struct letters *l, const struct letter_change *c, letters_json_fn *fn, void *arg);

static void change(struct call *call, const char *state, change_fn *fn) {
    static const char *const members[] = {SELECTION_MEMBERS, "limit", "why", "cursor", NULL};
    struct err err;
    struct letter_change c = {0};
    json_t *body = call_body(call, members);
    if (!body) return;
    if (read_change(call, body, state, &c, &err)) reply_err(call, &err);
    else fn(call->gw->c.letters, &c, call_changed, call);
    json_decref(body);
}

void api_discard(struct call *call) {
    change(call, "dead", letters_discard);
}

void api_restore(struct call *call) {
    change(call, "discarded", letters_restore);
}

void api_retry(struct call *call) {
    change(call, "due", letters_retry);
}

// The age is a part of the selection, by the time of the last change: what is older and before untilMs.
static void set_age(json_t *body, int64_t age_ms) {
    const json_t *until = json_object_get(body, "untilMs");
    int64_t now_ms = clock_unix_ms(), until_ms = age_ms < now_ms ? now_ms - age_ms : 1, asked_ms = json_integer_value(until);
    if (until && (!json_is_integer(until) || (asked_ms > 0 && asked_ms < until_ms))) return; // earlier still, or an error
    json_object_set_new(body, "untilMs", json_integer(until_ms));
}

// {"olderThanMs", "dead", selection without ids}
void api_purge(struct call *call) {
    static const char *const members[] = {SELECTION_FILTERS, "limit", "cursor", "olderThanMs", "dead", NULL};
    struct err err;
    struct letter_change c = {0};
    int64_t age_ms = -1;
    bool dead = false;
    json_t *body = call_body(call, members);
    if (!body) return;
    int rc = body_number(body, "olderThanMs", 0, INT64_MAX, &age_ms, &err);
    if (rc == 0) rc = body_flag(body, "dead", &dead, &err);
    if (rc == 0 && age_ms < 0) rc = err_set(&err, ERR_INVALID, "olderThanMs is needed: the least age of what is deleted");
    if (rc == 0) {
        set_age(body, age_ms);
        rc = read_change(call, body, "", &c, &err);
    }
    if (rc) reply_err(call, &err);
    else letters_purge(call->gw->c.letters, &c, dead, call_changed, call);
    json_decref(body);
}

// jansson takes neither every number nor every text that JSON has, so the edit itself, which edit_parse reads, is null here.
static bool add_member(void *arg, struct str name, struct str value) {
    struct buf *out = arg;
    bool edit = str_is(name, "set") || str_is(name, "unset") || str_is(name, "patch");
    if (edit) value = STR_LIT("null");
    MUST(buf_printf(out, "%s\"%.*s\":%.*s", buf_len(out) ? "," : "{", STR_ARG(name), STR_ARG(value)) == 0);
    return false; // not into the value
}

static json_t *edit_body(struct call *call, const char *const members[]) {
    struct str text = call->req->body;
    struct err err;
    struct buf rest;
    if (json_text_check(text, &err)) {
        reply_fail(call, ERR_INVALID, "the body is not JSON: %s", err.text);
        return NULL;
    }
    buf_init(&rest, SIZE_MAX / 2);
    json_text_members(text, add_member, &rest);
    if (buf_len(&rest)) MUST(buf_append(&rest, STR_LIT("}")) == 0);
    json_t *body = call_body_of(call, buf_len(&rest) ? buf_str(&rest) : text, 0, members);
    buf_done(&rest);
    return body;
}

void api_edit(struct call *call) {
    static const char *const members[] = {SELECTION_MEMBERS, "limit", "why", "cursor", "set", "unset", "patch", "dryRun", NULL};
    struct err err;
    struct letter_change c = {0};
    struct edit *edit = NULL;
    bool dry_run = false;
    json_t *body = edit_body(call, members);
    if (!body) return;
    int rc = body_flag(body, "dryRun", &dry_run, &err);
    if (rc == 0) rc = edit_parse(call->req->body, &edit, &err); // out of the text: numbers stay as they are written
    if (rc == 0) rc = read_change(call, body, "dead", &c, &err);
    if (rc == 0) {
        letters_edit(call->gw->c.letters, &c, edit, dry_run, dry_run ? reply_json_or_err : call_changed, call);
    } else {
        edit_free(edit);
        reply_err(call, &err);
    }
    json_decref(body);
}

void api_import(struct call *call) {
    static const char *const members[] = {"letters", "next", NULL}; // a page of a listing, as it is
    json_t *body = call_body_of(call, call->req->body, JSON_ALLOW_NUL, members); // as payloads and errors are exported
    if (!body) return;
    letters_import(call->gw->c.letters, json_incref(json_object_get(body, "letters")), call_changed, call);
    json_decref(body);
}

// --- trying -------------------------------------------------------------------------------------------------------

void api_try(struct call *call) {
    static const char *const members[] = {SELECTION_MEMBERS, "sample", "to", NULL};
    struct err err;
    struct selection *sel = NULL;
    struct str to = STR_LIT("");
    int64_t sample = SAMPLE_DEFAULT;
    json_t *body = call_body(call, members);
    if (!body) return;
    if (json_array_size(json_object_get(body, "ids"))) sample = TRY_MAX;
    int rc = body_number(body, "sample", 1, TRY_MAX, &sample, &err);
    if (rc == 0) rc = body_text(body, "to", &to, &err);
    if (rc == 0) rc = selection_of_body(call, body, "dead", &sel, &err);
    if (rc == 0) rc = call_check_target(call, to, &err);
    if (rc == 0) {
        trials_run(call->gw->c.trials, sel, (size_t)sample, to, reply_json_or_err, call);
    } else {
        selection_free(sel);
        if (!call_look_for(call, rc, api_try)) reply_err(call, &err);
    }
    json_decref(body);
}
