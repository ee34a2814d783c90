// SPDX-License-Identifier: Apache-2.0
// A draft: an event as a document that operations change. The payload stays apart from the rest: it is large, and it need not be JSON.
#include <strings.h>

#include "core/base/text.h"
#include "core/digest.h"
#include "dlq/edit_impl.h"

#define WORK_MAX (256u * 1024 * 1024) // bytes that one edit goes through: about a second

static void append(struct buf *out, struct str s) {
    MUST(buf_append(out, s) == 0);
}

// ---- the document ----------------------------------------------------------------------------------------------------------

const char *draft_form_path(enum edit_form form) {
    static const char *const paths[] = {"", "/payload", "/payloadText", "/payloadBase64"};
    return paths[form];
}

enum edit_form draft_form_of(struct str pointer) {
    for (enum edit_form form = FORM_JSON; form <= FORM_BASE64; form++)
        if (str_is(pointer, draft_form_path(form))) return form;
    return FORM_NONE;
}

enum edit_form draft_form_of_bytes(struct str payload) {
    if (json_text_check(payload, NULL) == 0) return FORM_JSON;
    return text_is_utf8(payload) ? FORM_TEXT : FORM_BASE64;
}

static void write_rest(const struct ev_fields *f, struct buf *out) {
    append(out, STR_LIT("{\"headers\":"));
    edit_headers_write(f, out);
    append(out, STR_LIT(",\"contentType\":"));
    edit_text_write(f->content_type, out);
    append(out, STR_LIT(",\"orderingKey\":"));
    edit_text_write(f->ordering_key, out);
    append(out, STR_LIT("}"));
}

static void write_payload(struct str payload, enum edit_form form, struct buf *out) {
    if (form == FORM_JSON) append(out, payload);
    else if (form == FORM_TEXT) MUST(json_text_quote(payload, out) == 0);
    else {
        append(out, STR_LIT("\""));
        MUST(base64_encode(payload, out) == 0);
        append(out, STR_LIT("\""));
    }
}

void edit_document(const struct ev *ev, struct buf *out) {
    enum edit_form form = draft_form_of_bytes(ev->f.payload);
    struct buf rest;
    buf_init(&rest, EDIT_DOCUMENT_MAX);
    write_rest(&ev->f, &rest);
    append(out, STR_LIT("{\""));
    append(out, str_of(draft_form_path(form) + 1));
    append(out, STR_LIT("\":"));
    write_payload(ev->f.payload, form, out);
    append(out, STR_LIT(","));
    append(out, (struct str){buf_str(&rest).data + 1, buf_len(&rest) - 1});
    buf_done(&rest);
}

void draft_init(struct draft *d, const struct ev *ev) {
    *d = (struct draft){.ev = ev, .form = draft_form_of_bytes(ev->f.payload)};
    buf_init(&d->payload, EV_PAYLOAD_MAX > ev->f.payload.len ? EV_PAYLOAD_MAX : ev->f.payload.len);
    buf_init(&d->rest, EDIT_DOCUMENT_MAX);
    append(&d->payload, ev->f.payload);
    write_rest(&ev->f, &d->rest);
}

void draft_done(struct draft *d) {
    buf_done(&d->payload);
    buf_done(&d->rest);
}

// ---- places ----------------------------------------------------------------------------------------------------------------

// Is it inside the payload's JSON? ret: the pointer from there.
static bool in_payload(struct str pointer, struct str *ret) {
    if (!str_is(pointer, "/payload") && !str_starts(pointer, "/payload/")) return false;
    *ret = (struct str){pointer.data + strlen("/payload"), pointer.len - strlen("/payload")};
    return true;
}

// Every other pointer at payloadText and payloadBase64 leads nowhere.
static bool in_text(struct str pointer) {
    return str_starts(pointer, "/payloadText") || str_starts(pointer, "/payloadBase64");
}

static int no_such_payload(const struct draft *d, struct err *err) {
    static const char *const forms[] = {"gone", "JSON", "text that is not JSON", "bytes that are not text"};
    return err_set(err, ERR_NOT_FOUND, "the payload is %s%s", forms[d->form], d->form == FORM_JSON ? "" : "; it can only be replaced whole");
}

static int count_work(struct draft *d, const struct buf *part, struct err *err) {
    d->work += buf_len(part);
    return d->work <= WORK_MAX ? 0 : err_set(err, ERR_TOO_LARGE, "so many operations are too much for so large an event");
}

struct find_name {
    struct str wanted;
    struct buf *found;
};

static bool on_header(void *arg, struct str name, struct str value) {
    struct find_name *f = arg;
    (void)value;
    struct buf plain;
    buf_init(&plain, name.len);
    MUST(json_text_unescape(name, &plain) == 0);
    struct str s = buf_str(&plain);
    if (s.len == f->wanted.len && strncasecmp(s.data, f->wanted.data, s.len) == 0) {
        buf_clear(f->found);
        append(f->found, s);
    }
    buf_done(&plain);
    return false; // not into the value
}

static void unescape_part(struct str part, struct buf *out) {
    for (size_t i = 0; i < part.len; i++) {
        bool escape = part.data[i] == '~';
        append(out, escape ? str_of(part.data[++i] == '0' ? "~" : "/") : (struct str){part.data + i, 1});
    }
}

void draft_resolve(const struct draft *d, struct str pointer, struct buf *out) {
    size_t root = strlen("/headers/");
    struct str headers, part = {pointer.data + root, pointer.len - root};
    if (!str_starts(pointer, "/headers/") || json_text_find(buf_str(&d->rest), STR_LIT("/headers"), &headers, NULL) || headers.data[0] != '{') {
        append(out, pointer);
        return;
    }
    const char *slash = part.len ? memchr(part.data, '/', part.len) : NULL;
    if (slash) part.len = (size_t)(slash - part.data);
    struct buf wanted, found;
    buf_init(&wanted, part.len);
    buf_init(&found, part.len + headers.len);
    unescape_part(part, &wanted);
    append(&found, buf_str(&wanted));
    struct find_name f = {buf_str(&wanted), &found};
    json_text_members(headers, on_header, &f);
    append(out, STR_LIT("/headers"));
    edit_path_add(out, buf_str(&found));
    append(out, (struct str){part.data + part.len, pointer.len - root - part.len});
    buf_done(&wanted);
    buf_done(&found);
}

// ---- reading and changing --------------------------------------------------------------------------------------------------

int draft_read(struct draft *d, struct str pointer, struct buf *out, struct err *err) {
    struct str inner, value;
    if (in_payload(pointer, &inner)) {
        if (d->form != FORM_JSON) return no_such_payload(d, err);
        int rc = count_work(d, &d->payload, err);
        if (rc == 0) rc = json_text_find(buf_str(&d->payload), inner, &value, err);
        if (rc == 0) append(out, value);
        return rc;
    }
    if (in_text(pointer)) {
        if (d->form == FORM_NONE || d->form != draft_form_of(pointer)) return no_such_payload(d, err);
        write_payload(buf_str(&d->payload), d->form, out);
        return 0;
    }
    int rc = json_text_find(buf_str(&d->rest), pointer, &value, err);
    if (rc == 0) append(out, value);
    return rc;
}

static void put(struct draft *d, struct buf *old, struct buf *new) {
    d->changed = !str_eq(buf_str(old), buf_str(new));
    buf_done(old);
    *old = *new;
    buf_init(new, 0);
}

// Is every part of it such as an event can have?
static int check_rest(const struct draft *d, struct buf *rest, struct err *err) {
    struct edit_headers headers;
    struct str part;
    struct buf text;
    int rc = 0;
    buf_init(&text, EDIT_DOCUMENT_MAX);
    if (json_text_find(buf_str(rest), STR_LIT("/headers"), &part, NULL) == 0) {
        rc = edit_headers_read(part, &d->ev->f, &headers, err);
        if (rc == 0) edit_headers_done(&headers);
    }
    if (rc == 0 && json_text_find(buf_str(rest), STR_LIT("/contentType"), &part, NULL) == 0) rc = edit_text_read(part, &text, err);
    if (rc == 0 && json_text_find(buf_str(rest), STR_LIT("/orderingKey"), &part, NULL) == 0) rc = edit_text_read(part, &text, err);
    buf_done(&text);
    return rc;
}

// Takes `next` when it is as it must be.
static int put_rest(struct draft *d, struct buf *next, int rc, struct err *err) {
    if (rc == 0) rc = count_work(d, next, err);
    if (rc == 0) rc = check_rest(d, next, err);
    if (rc == 0) put(d, &d->rest, next);
    buf_done(next);
    return rc;
}

static int write_json(struct draft *d, struct str inner, struct str value, bool insert, struct err *err) {
    struct buf next;
    int rc = count_work(d, &d->payload, err);
    if (rc) return rc;
    buf_init(&next, EV_PAYLOAD_MAX);
    if (d->form != FORM_JSON) rc = buf_append(&next, value) ? err_set(err, ERR_TOO_LARGE, "a payload has at most %u bytes", EV_PAYLOAD_MAX) : 0;
    else if (insert) rc = json_text_insert(buf_str(&d->payload), inner, value, &next, err);
    else rc = json_text_set(buf_str(&d->payload), inner, value, &next, err);
    if (rc == 0) put(d, &d->payload, &next);
    if (rc == 0) d->form = FORM_JSON;
    buf_done(&next);
    return rc;
}

static int write_bytes(struct draft *d, enum edit_form form, struct str value, struct err *err) {
    struct buf text, next;
    buf_init(&text, value.len);
    buf_init(&next, EV_PAYLOAD_MAX + 3); // Base64 is decoded in steps of 3
    int rc = value.data[0] == '"' ? 0 : err_set(err, ERR_INVALID, "a text is wanted, in quotes");
    if (rc == 0) rc = edit_text_read(value, form == FORM_TEXT ? &next : &text, err);
    if (rc == 0 && form == FORM_BASE64) rc = base64_decode(buf_str(&text), &next, err);
    if (rc == ERR_TOO_LARGE || (rc == 0 && buf_len(&next) > EV_PAYLOAD_MAX))
        rc = err_set(err, ERR_TOO_LARGE, "a payload has at most %u bytes", EV_PAYLOAD_MAX);
    if (rc == 0) put(d, &d->payload, &next);
    if (rc == 0) d->form = draft_form_of_bytes(buf_str(&d->payload));
    buf_done(&text);
    buf_done(&next);
    return rc;
}

int draft_write(struct draft *d, struct str pointer, struct str value, bool insert, struct err *err) {
    struct str inner;
    struct buf next;
    if (in_payload(pointer, &inner)) {
        if (d->form != FORM_JSON && inner.len) return no_such_payload(d, err);
        return write_json(d, inner, value, insert, err);
    }
    if (in_text(pointer)) {
        enum edit_form form = draft_form_of(pointer);
        return form == FORM_NONE ? no_such_payload(d, err) : write_bytes(d, form, value, err);
    }
    buf_init(&next, EDIT_DOCUMENT_MAX);
    int rc = insert ? json_text_insert(buf_str(&d->rest), pointer, value, &next, err) : json_text_set(buf_str(&d->rest), pointer, value, &next, err);
    return put_rest(d, &next, rc, err);
}

int draft_remove(struct draft *d, struct str pointer, struct err *err) {
    struct str inner;
    struct buf next;
    enum edit_form form = draft_form_of(pointer);
    if (form != FORM_NONE && form == d->form) {
        buf_clear(&d->payload);
        d->form = FORM_NONE;
        d->changed = true;
        return 0;
    }
    if (in_text(pointer)) return no_such_payload(d, err);
    if (in_payload(pointer, &inner)) {
        if (d->form != FORM_JSON) return no_such_payload(d, err);
        int rc = count_work(d, &d->payload, err);
        if (rc) return rc;
        buf_init(&next, EV_PAYLOAD_MAX);
        rc = json_text_remove(buf_str(&d->payload), inner, &next, err);
        if (rc == 0) put(d, &d->payload, &next);
        buf_done(&next);
        return rc;
    }
    buf_init(&next, EDIT_DOCUMENT_MAX);
    return put_rest(d, &next, json_text_remove(buf_str(&d->rest), pointer, &next, err), err);
}

// ---- the event -------------------------------------------------------------------------------------------------------------

// What was removed is empty.
static int read_rest(const struct draft *d, const char *pointer, struct buf *out, struct err *err) {
    struct str value;
    return json_text_find(buf_str(&d->rest), str_of(pointer), &value, NULL) ? 0 : edit_text_read(value, out, err);
}

static struct ev *make_event(const struct ev *was, const struct ev_fields *f) {
    struct ev *ev = ev_new(f);
    ev->f.id = was->f.id; // as they were, also when they are none
    ev->f.accepted_ms = was->f.accepted_ms;
    if (was->unknown.len) {
        ev->block = mem_strndup(was->unknown);
        ev->unknown = (struct str){ev->block, was->unknown.len};
        ev->unknown_count = was->unknown_count;
    }
    return ev;
}

static int check_size(const struct ev_fields *f, struct err *err) {
    size_t bytes = f->payload.len + f->history.len + f->content_type.len + f->ordering_key.len;
    for (size_t i = 0; i < f->header_count; i++) bytes += f->headers[i].name.len + f->headers[i].value.len;
    return bytes <= EV_ENCODED_MAX ? 0 : err_set(err, ERR_TOO_LARGE, "the event would have more than %u bytes", EV_ENCODED_MAX);
}

int draft_event(const struct draft *d, struct ev **ret, struct err *err) {
    struct ev_fields f = d->ev->f;
    struct edit_headers headers = {0};
    struct buf type, key;
    struct str json;
    buf_init(&type, EDIT_DOCUMENT_MAX);
    buf_init(&key, EDIT_DOCUMENT_MAX);
    int rc = json_text_find(buf_str(&d->rest), STR_LIT("/headers"), &json, NULL) ? 0 : edit_headers_read(json, &d->ev->f, &headers, err);
    if (rc == 0) rc = read_rest(d, "/contentType", &type, err);
    if (rc == 0) rc = read_rest(d, "/orderingKey", &key, err);
    f.payload = buf_str(&d->payload);
    f.headers = headers.list;
    f.header_count = headers.count;
    f.content_type = buf_str(&type);
    f.ordering_key = buf_str(&key);
    if (rc == 0) rc = check_size(&f, err);
    if (rc == 0) *ret = make_event(d->ev, &f);
    edit_headers_done(&headers);
    buf_done(&type);
    buf_done(&key);
    return rc;
}
