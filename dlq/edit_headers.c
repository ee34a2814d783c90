// SPDX-License-Identifier: Apache-2.0
// Headers and other texts of an event as JSON, and back to the same bytes.
#include <strings.h>

#include "core/base/text.h"
#include "core/digest.h"
#include "dlq/edit_impl.h"

static void append(struct buf *out, struct str s) {
    MUST(buf_append(out, s) == 0);
}

static bool same_name(struct str a, struct str b) {
    return a.len == b.len && (a.len == 0 || strncasecmp(a.data, b.data, a.len) == 0);
}

// ---- texts -----------------------------------------------------------------------------------------------------------------

void edit_text_write(struct str text, struct buf *out) {
    if (text_is_utf8(text)) {
        MUST(json_text_quote(text, out) == 0);
        return;
    }
    append(out, STR_LIT("{\"base64\":\""));
    MUST(base64_encode(text, out) == 0);
    append(out, STR_LIT("\"}"));
}

static int read_string(struct str json, struct buf *out, struct err *err) {
    size_t before = buf_len(out);
    if (json.data[0] != '"') return err_set(err, ERR_INVALID, "a text is wanted, in quotes");
    if (json_text_unescape((struct str){json.data + 1, json.len - 2}, out)) return err_set(err, ERR_TOO_LARGE, "it is too large");
    struct str text = buf_str(out);
    if (text_is_utf8((struct str){text.data + before, text.len - before})) return 0;
    return err_set(err, ERR_INVALID, "half of a surrogate pair is no character");
}

int edit_text_read(struct str json, struct buf *out, struct err *err) {
    struct str base64;
    if (json.data[0] != '{' || json_text_find(json, STR_LIT("/base64"), &base64, NULL)) return read_string(json, out, err);
    struct buf text;
    buf_init(&text, base64.len);
    int rc = read_string(base64, &text, err);
    if (rc == 0) rc = base64_decode(buf_str(&text), out, err);
    buf_done(&text);
    return rc;
}

// ---- to JSON ---------------------------------------------------------------------------------------------------------------

static bool stands_before(const struct ev_fields *f, size_t i) {
    for (size_t k = 0; k < i; k++)
        if (same_name(f->headers[k].name, f->headers[i].name)) return true;
    return false;
}

static void write_values(const struct ev_fields *f, size_t first, struct buf *out) {
    size_t count = 0;
    for (size_t i = first; i < f->header_count; i++) count += same_name(f->headers[i].name, f->headers[first].name);
    if (count > 1) append(out, STR_LIT("["));
    for (size_t i = first; i < f->header_count; i++) {
        if (!same_name(f->headers[i].name, f->headers[first].name)) continue;
        if (i > first) append(out, STR_LIT(","));
        edit_text_write(f->headers[i].value, out);
    }
    if (count > 1) append(out, STR_LIT("]"));
}

// A header whose name is not UTF-8 is not among them.
void edit_headers_write(const struct ev_fields *f, struct buf *out) {
    const char *comma = "";
    append(out, STR_LIT("{"));
    for (size_t i = 0; i < f->header_count; i++) {
        if (!text_is_utf8(f->headers[i].name) || stands_before(f, i)) continue;
        append(out, str_of(comma));
        comma = ",";
        MUST(json_text_quote(f->headers[i].name, out) == 0);
        append(out, STR_LIT(":"));
        write_values(f, i, out);
    }
    append(out, STR_LIT("}"));
}

void edit_headers_write_in_order(const struct ev_fields *f, struct buf *out) {
    append(out, STR_LIT("["));
    for (size_t i = 0; i < f->header_count; i++) {
        append(out, i ? STR_LIT(",[") : STR_LIT("["));
        edit_text_write(f->headers[i].name, out);
        append(out, STR_LIT(","));
        edit_text_write(f->headers[i].value, out);
        append(out, STR_LIT("]"));
    }
    append(out, STR_LIT("]"));
}

// ---- from JSON -------------------------------------------------------------------------------------------------------------

struct reader {
    struct edit_headers *headers; // as the JSON has them, then as the event will
    size_t room;
    struct str name; // of what is being read
    size_t texts;    // of a pair
    int rc;
    struct err *err;
};

static bool fail(struct reader *r, const char *why) {
    r->rc = err_set(r->err, ERR_INVALID, "%s", why);
    return false;
}

static int too_many(struct err *err) {
    return err_set(err, ERR_TOO_LARGE, "an event has at most %d headers", EV_HEADERS_MAX);
}

// The text is kept where it is: there is room for all from the beginning.
static bool read_text(struct reader *r, struct str json, struct str *ret) {
    struct buf *text = &r->headers->text;
    size_t before = buf_len(text);
    r->rc = edit_text_read(json, text, r->err);
    *ret = (struct str){text->data + before, buf_len(text) - before};
    return r->rc == 0;
}

static bool add_header(struct reader *r, struct str name, struct str value) {
    struct edit_headers *h = r->headers;
    if (h->count == EV_HEADERS_MAX) {
        r->rc = too_many(r->err);
        return false;
    }
    if (h->count == r->room) {
        r->room = r->room ? 2 * r->room : 16;
        h->list = mem_realloc(h->list, r->room * sizeof *h->list);
    }
    h->list[h->count++] = (struct ev_header){name, value};
    return true;
}

static bool on_value(void *arg, struct str json) {
    struct reader *r = arg;
    struct str value;
    return read_text(r, json, &value) && add_header(r, r->name, value);
}

static bool on_member(void *arg, struct str name, struct str json) {
    struct reader *r = arg;
    struct buf *text = &r->headers->text;
    size_t before = buf_len(text);
    if (r->rc) return false;
    MUST(json_text_unescape(name, text) == 0);
    r->name = (struct str){text->data + before, buf_len(text) - before};
    for (size_t i = 0; i < r->headers->count; i++)
        if (same_name(r->headers->list[i].name, r->name)) return fail(r, "a header stands there twice; make its value an array of texts");
    if (!text_is_utf8(r->name)) return fail(r, "half of a surrogate pair is no character");
    if (json.data[0] == '[') json_text_items(json, on_value, r);
    else on_value(r, json);
    return false; // not into the value
}

static bool on_pair_text(void *arg, struct str json) {
    struct reader *r = arg;
    struct str text;
    if (!read_text(r, json, &text)) return false;
    if (++r->texts == 1) r->name = text;
    return r->texts == 1 || (r->texts == 2 && add_header(r, r->name, text));
}

static bool on_pair(void *arg, struct str json) {
    struct reader *r = arg;
    r->texts = 0;
    json_text_items(json, on_pair_text, r);
    if (r->rc == 0 && r->texts != 2) return fail(r, "a list of headers is [[\"name\",\"value\"],…]");
    return r->rc == 0;
}

// The first header that is called so and was not taken.
static struct ev_header *next_of(struct edit_headers *h, const bool *taken, struct str name) {
    for (size_t i = 0; i < h->count; i++)
        if (!taken[i] && same_name(h->list[i].name, name)) return &h->list[i];
    return NULL;
}

// The order of an object means nothing: each value goes where one of its name stood before; what is left comes last.
static int put_in_order(struct edit_headers *h, const struct ev_fields *before, struct err *err) {
    struct ev_header *list = mem_array(h->count + before->header_count + 1, sizeof *list);
    bool *taken = mem_array(h->count + 1, sizeof *taken);
    size_t count = 0;
    for (size_t i = 0; i < before->header_count; i++) {
        const struct ev_header *was = &before->headers[i];
        struct ev_header *is = next_of(h, taken, was->name);
        if (is) {
            taken[is - h->list] = true;
            list[count++] = (struct ev_header){was->name, is->value};
        } else if (!text_is_utf8(was->name)) {
            list[count++] = *was;
        }
    }
    for (size_t i = 0; i < h->count; i++)
        if (!taken[i]) list[count++] = h->list[i];
    free(taken);
    free(h->list);
    h->list = list;
    h->count = count;
    return count <= EV_HEADERS_MAX ? 0 : too_many(err);
}

int edit_headers_read(struct str json, const struct ev_fields *before, struct edit_headers *ret, struct err *err) {
    *ret = (struct edit_headers){0};
    buf_init(&ret->text, 2 * json.len + 64); // a text is never longer than its JSON; Base64 is decoded in steps of 3
    MUST(buf_reserve(&ret->text, 2 * json.len + 64));
    struct reader r = {.headers = ret, .err = err};
    if (json.data[0] == '{') {
        json_text_members(json, on_member, &r);
        if (r.rc == 0) r.rc = put_in_order(ret, before, err);
    } else if (json.data[0] == '[') {
        json_text_items(json, on_pair, &r);
    } else {
        fail(&r, "headers are an object");
    }
    if (r.rc) edit_headers_done(ret);
    return r.rc;
}

void edit_headers_done(struct edit_headers *h) {
    free(h->list);
    buf_done(&h->text);
    *h = (struct edit_headers){0};
}
