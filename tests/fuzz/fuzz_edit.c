// SPDX-License-Identifier: Apache-2.0
// Any edit of any payload is applied or refused in words. An edit that is applied leaves JSON to be JSON and all bytes outside of what it names as
// they were; its patch leads to the same event again, and its inverse back to the same bytes. The input is the edit, a NUL, and the payload.
#include "core/base/buf.h"
#include "core/json_text.h"
#include "dlq/edit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct ev *event_of(struct str payload) {
    const struct ev_header headers[] = {{STR_LIT("A"), STR_LIT("1")}, {STR_LIT("b"), STR_LIT("\xff\0")}, {STR_LIT("a"), STR_LIT("")},
                                        {STR_LIT("\x80"), STR_LIT("x")}, {STR_LIT("~/"), STR_LIT("{\"base64\":1}")}};
    return ev_new(&(struct ev_fields){.payload = payload, .headers = headers, .header_count = array_len(headers), .ordering_key = STR_LIT("\xc3("),
                                      .content_type = STR_LIT("t")});
}

static bool same(const struct ev *a, const struct ev *b) {
    bool is = str_eq(a->f.payload, b->f.payload) && str_eq(a->f.ordering_key, b->f.ordering_key) && str_eq(a->f.content_type, b->f.content_type) &&
              a->f.header_count == b->f.header_count && id_eq(&a->f.id, &b->f.id);
    for (size_t i = 0; is && i < a->f.header_count; i++)
        is = str_eq(a->f.headers[i].name, b->f.headers[i].name) && str_eq(a->f.headers[i].value, b->f.headers[i].value);
    return is;
}

// The patch leads from one to the other.
static void check_leads(const char *patch, const struct ev *from, const struct ev *to) {
    struct buf text;
    struct edit *e;
    struct edited ed = {0};
    struct err err = {0};
    buf_init(&text, SIZE_MAX / 2);
    MUST(buf_append(&text, STR_LIT("{\"patch\":")) == 0 && buf_append(&text, str_of(patch)) == 0 && buf_append(&text, STR_LIT("}")) == 0);
    MUST(edit_parse(buf_str(&text), &e, &err) == 0);
    MUST(edit_apply(e, from, &ed, &err) == 0);
    MUST(ed.ev && same(ed.ev, to));
    edited_done(&ed);
    edit_free(e);
    buf_done(&text);
}

struct one_operation {
    size_t count;
    struct str pointer; // in the payload, without the quotes
};

static bool on_operation(void *arg, struct str json) {
    struct one_operation *one = arg;
    struct str op, path;
    MUST(json_text_find(json, STR_LIT("/op"), &op, NULL) == 0 && json_text_find(json, STR_LIT("/path"), &path, NULL) == 0);
    bool here = str_is(op, "\"add\"") || str_is(op, "\"remove\"") || str_is(op, "\"replace\"");
    one->count++;
    one->pointer = here ? (struct str){path.data + 1, path.len - 2} : STR_LIT("");
    return true;
}

// Of one operation inside a JSON payload, all bytes around the value that holds what it names.
static void check_around(const char *patch, struct str before, struct str after) {
    struct one_operation one = {0};
    struct str was, is;
    json_text_items(str_of(patch), on_operation, &one);
    if (one.count != 1 || !str_starts(one.pointer, "/payload/") || memchr(one.pointer.data, '\\', one.pointer.len)) return;
    struct str outer = {one.pointer.data + strlen("/payload"), one.pointer.len - strlen("/payload")};
    while (outer.data[outer.len - 1] != '/') outer.len--;
    outer.len--;
    MUST(json_text_find(before, outer, &was, NULL) == 0 && json_text_find(after, outer, &is, NULL) == 0);
    size_t front = (size_t)(was.data - before.data), back = before.len - front - was.len;
    MUST((size_t)(is.data - after.data) == front && after.len - front - is.len == back);
    MUST(memcmp(before.data, after.data, front) == 0 && memcmp(was.data + was.len, is.data + is.len, back) == 0);
}

static void check_edited(const struct edited *ed, const struct ev *before) {
    if (!ed->ev) {
        MUST(strcmp(ed->patch, "[]") == 0 && strcmp(ed->inverse, "[]") == 0);
        return;
    }
    struct str was = before->f.payload, is = ed->ev->f.payload;
    bool was_json = json_text_check(was, NULL) == 0, is_json = json_text_check(is, NULL) == 0;
    MUST(json_text_check(str_of(ed->patch), NULL) == 0 && json_text_check(str_of(ed->inverse), NULL) == 0);
    MUST(!was_json || is_json || is.len == 0 || strstr(ed->patch, "payloadText") || strstr(ed->patch, "payloadBase64"));
    if (was_json && is_json) check_around(ed->patch, was, is);
    check_leads(ed->patch, before, ed->ev);
    check_leads(ed->inverse, ed->ev, before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str all = {(const char *)data, size}, text = all, payload = STR_LIT("");
    const char *nul = size ? memchr(data, '\0', size) : NULL;
    struct edit *e;
    struct edited ed = {0};
    struct err err = {0};
    struct buf document;
    if (nul) {
        text.len = (size_t)(nul - text.data);
        payload = (struct str){nul + 1, all.len - text.len - 1};
    }
    if (edit_parse(text, &e, &err)) {
        MUST(*err.text);
        return 0;
    }
    struct ev *ev = event_of(payload);
    buf_init(&document, EDIT_DOCUMENT_MAX);
    edit_document(ev, &document);
    MUST(json_text_check(buf_str(&document), NULL) == 0);
    if (edit_apply(e, ev, &ed, &err)) MUST(*err.text);
    else check_edited(&ed, ev);
    buf_done(&document);
    edited_done(&ed);
    ev_free(ev);
    edit_free(e);
    return 0;
}
