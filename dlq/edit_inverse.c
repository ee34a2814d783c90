// SPDX-License-Identifier: Apache-2.0
// The way back: for each part of an event that differs, one operation that brings the old bytes back. In a payload it replaces the smallest
// value around all that was changed; taking back one operation after the other would lose blanks and the order of members.
#include "core/digest.h"
#include "dlq/edit_impl.h"

#define LEVELS_MAX 32 // that are gone down to find the smallest value; each goes through the value once more

static void append(struct buf *out, struct str s) {
    MUST(buf_append(out, s) == 0);
}

// ---- the payload -----------------------------------------------------------------------------------------------------------

struct descent {
    struct str now, then;      // both texts
    size_t same_front, same_back;
    struct str value;          // of `now`; all that differs is in it
    struct buf pointer;        // to it
    size_t index;              // of the array's member that is looked at
    struct str inner;          // a child of `value` with all that differs; its place is in `part`
    struct buf part;           // a pointer of one part
};

// What stands in `then` where `value` stands in `now`.
static struct str counterpart(const struct descent *d, struct str value) {
    size_t front = (size_t)(value.data - d->now.data), back = d->now.len - front - value.len;
    return (struct str){d->then.data + front, d->then.len - front - back};
}

static bool has_all(const struct descent *d, struct str value) {
    size_t front = (size_t)(value.data - d->now.data), back = d->now.len - front - value.len;
    return front <= d->same_front && back <= d->same_back && front + back <= d->then.len;
}

static bool on_member(void *arg, struct str name, struct str value) {
    struct descent *d = arg;
    if (!has_all(d, value)) return false;
    struct buf plain;
    buf_init(&plain, name.len);
    MUST(json_text_unescape(name, &plain) == 0);
    buf_clear(&d->part);
    edit_path_add(&d->part, buf_str(&plain));
    buf_done(&plain);
    d->inner = value;
    return false; // not into the value
}

static bool on_item(void *arg, struct str value) {
    struct descent *d = arg;
    if (has_all(d, value)) {
        char index[24];
        snprintf(index, sizeof index, "/%zu", d->index);
        buf_clear(&d->part);
        append(&d->part, str_of(index));
        d->inner = value;
    }
    d->index++;
    return true;
}

static bool is_bare_json(struct str text) {
    struct str value;
    return json_text_find(text, STR_LIT(""), &value, NULL) == 0 && value.len == text.len;
}

// Goes to a child that has all that differs too; false: there is none, or a path does not lead to it (a name that stands there twice), or
// what stood in its place was not one value.
static bool go_down(struct descent *d) {
    struct str found;
    d->inner = STR_NONE;
    d->index = 0;
    if (d->value.data[0] == '{') json_text_members(d->value, on_member, d);
    else if (d->value.data[0] == '[') json_text_items(d->value, on_item, d);
    if (!d->inner.data || !is_bare_json(counterpart(d, d->inner))) return false;
    if (json_text_find(d->value, buf_str(&d->part), &found, NULL) || found.data != d->inner.data) return false;
    append(&d->pointer, buf_str(&d->part));
    d->value = d->inner;
    return true;
}

// Both are JSON. False when no operation leads back: the blanks around the whole differ.
static bool go_back_inside(struct str now, struct str then, struct buf *patch) {
    size_t most = now.len < then.len ? now.len : then.len;
    struct descent d = {.now = now, .then = then};
    while (d.same_front < most && now.data[d.same_front] == then.data[d.same_front]) d.same_front++;
    while (d.same_back < most - d.same_front && now.data[now.len - 1 - d.same_back] == then.data[then.len - 1 - d.same_back]) d.same_back++;
    MUST(json_text_find(now, STR_LIT(""), &d.value, NULL) == 0);
    if (!has_all(&d, d.value) || !is_bare_json(counterpart(&d, d.value))) return false;
    buf_init(&d.pointer, SIZE_MAX / 2);
    buf_init(&d.part, SIZE_MAX / 2);
    append(&d.pointer, STR_LIT("/payload"));
    for (int level = 0; level < LEVELS_MAX && go_down(&d); level++) {}
    patch_add(patch, EDIT_REPLACE, STR_NONE, buf_str(&d.pointer), counterpart(&d, d.value));
    buf_done(&d.pointer);
    buf_done(&d.part);
    return true;
}

static void go_back_whole(struct str then, enum edit_form now_form, enum edit_form then_form, struct buf *patch) {
    struct buf value;
    buf_init(&value, SIZE_MAX / 2);
    if (then_form == FORM_JSON) append(&value, then);
    else if (then_form == FORM_TEXT) MUST(json_text_quote(then, &value) == 0);
    else {
        append(&value, STR_LIT("\""));
        MUST(base64_encode(then, &value) == 0);
        append(&value, STR_LIT("\""));
    }
    bool same = now_form == then_form;
    if (!same) patch_add(patch, EDIT_REMOVE, STR_NONE, str_of(draft_form_path(now_form)), STR_NONE);
    patch_add(patch, same ? EDIT_REPLACE : EDIT_ADD, STR_NONE, str_of(draft_form_path(then_form)), buf_str(&value));
    buf_done(&value);
}

// An operation's value can have some levels less than a payload.
static bool fits_in_patch(struct str json) {
    struct buf wrapped;
    buf_init(&wrapped, SIZE_MAX / 2);
    append(&wrapped, STR_LIT("[[[["));
    append(&wrapped, json);
    append(&wrapped, STR_LIT("]]]]"));
    bool fits = json_text_check(buf_str(&wrapped), NULL) == 0;
    buf_done(&wrapped);
    return fits;
}

static void payload_back(struct str now, struct str then, struct buf *patch) {
    if (str_eq(now, then)) return;
    enum edit_form now_form = draft_form_of_bytes(now), then_form = draft_form_of_bytes(then);
    if (then_form == FORM_JSON && !fits_in_patch(then)) then_form = FORM_TEXT;
    if (now_form == FORM_JSON && then_form == FORM_JSON && go_back_inside(now, then, patch)) return;
    if (then_form == FORM_JSON && !is_bare_json(then)) then_form = FORM_TEXT; // a text keeps the blanks around it
    go_back_whole(then, now_form, then_form, patch);
}

// ---- the rest --------------------------------------------------------------------------------------------------------------

static bool same_headers(const struct ev_header *a, size_t a_count, const struct ev_header *b, size_t b_count) {
    bool same = a_count == b_count;
    for (size_t i = 0; same && i < a_count; i++) same = str_eq(a[i].name, b[i].name) && str_eq(a[i].value, b[i].value);
    return same;
}

static void headers_back(const struct ev_fields *now, const struct ev_fields *then, struct buf *patch) {
    if (same_headers(now->headers, now->header_count, then->headers, then->header_count)) return;
    struct edit_headers back;
    struct buf value;
    buf_init(&value, SIZE_MAX / 2);
    edit_headers_write(then, &value);
    bool exact = edit_headers_read(buf_str(&value), now, &back, NULL) == 0;
    if (exact) {
        exact = same_headers(back.list, back.count, then->headers, then->header_count);
        edit_headers_done(&back);
    }
    if (!exact) {
        buf_clear(&value);
        edit_headers_write_in_order(then, &value);
    }
    patch_add(patch, EDIT_REPLACE, STR_NONE, STR_LIT("/headers"), buf_str(&value));
    buf_done(&value);
}

static void text_back(const char *path, struct str now, struct str then, struct buf *patch) {
    if (str_eq(now, then)) return;
    struct buf value;
    buf_init(&value, SIZE_MAX / 2);
    edit_text_write(then, &value);
    patch_add(patch, EDIT_REPLACE, STR_NONE, str_of(path), buf_str(&value));
    buf_done(&value);
}

void patch_inverse(const struct ev *now, const struct ev *before, struct buf *patch) {
    payload_back(now->f.payload, before->f.payload, patch);
    headers_back(&now->f, &before->f, patch);
    text_back("/contentType", now->f.content_type, before->f.content_type, patch);
    text_back("/orderingKey", now->f.ordering_key, before->f.ordering_key, patch);
}
