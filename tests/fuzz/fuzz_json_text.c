// SPDX-License-Identifier: Apache-2.0
// Any bytes are JSON or an error that says where; a change of JSON is JSON, and what was put in is found. The input is three parts between
// bytes 0xff, which no JSON has: the text, a path, and a value.
#include <stdint.h>

#include "core/json_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct str take_part(struct str *rest) {
    const char *end = rest->len ? memchr(rest->data, 0xff, rest->len) : NULL;
    struct str part = {rest->data, end ? (size_t)(end - rest->data) : rest->len};
    size_t used = end ? part.len + 1 : part.len;
    *rest = (struct str){rest->data + used, rest->len - used};
    return part;
}

static bool is_json(struct str text) {
    struct err err = {0};
    int rc = json_text_check(text, &err);
    MUST(rc == 0 || (rc == ERR_INVALID && strstr(err.text, "at byte ")));
    bool queryable = json_text_is_queryable(text), plain;
    MUST(rc == 0 || !queryable);
    MUST(json_text_queryable_names(text, &plain) == queryable);
    return rc == 0;
}

typedef int put_fn(struct str text, struct str path, struct str value, struct buf *out, struct err *err);

static void put(put_fn *fn, struct str text, struct str path, struct str value) {
    struct buf out;
    struct err err = {0};
    struct str found;
    buf_init(&out, 1 << 20);
    if (fn(text, path, value, &out, &err) == 0) {
        MUST(is_json(text) && is_json(value) && is_json(buf_str(&out)));
        // "-" is a place behind the last, where nothing is found.
        bool names_a_place = path.len == 0 || path.data[path.len - 1] != '-';
        int rc = json_text_find(buf_str(&out), path, &found, &err);
        MUST(rc == 0 ? json_text_equal(found, value) || !names_a_place : !names_a_place);
    } else {
        MUST(err.text[0] && buf_len(&out) == 0);
    }
    buf_done(&out);
}

static bool is_in_object(struct str text, struct str path) {
    struct str parent;
    while (path.len && path.data[path.len - 1] != '/') path.len--;
    if (path.len) path.len--;
    return json_text_find(text, path, &parent, NULL) == 0 && parent.data[0] == '{';
}

static void take_out(struct str text, struct str path) {
    struct buf out;
    struct err err = {0};
    struct str found;
    buf_init(&out, 1 << 20);
    bool was_there = json_text_find(text, path, &found, NULL) == 0;
    if (json_text_remove(text, path, &out, &err) == 0) {
        MUST(was_there && is_json(buf_str(&out)) && buf_len(&out) < text.len);
        if (is_in_object(text, path)) MUST(json_text_find(buf_str(&out), path, &found, NULL) == ERR_NOT_FOUND);
    } else {
        MUST(!was_there || path.len == 0);
    }
    buf_done(&out);
}

static bool on_member(void *arg, struct str name, struct str value) {
    struct buf *plain = arg;
    buf_clear(plain);
    MUST(json_text_unescape(name, plain) == 0 && buf_len(plain) <= name.len);
    MUST(json_text_check(value, NULL) == 0);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str rest = {(const char *)data, size};
    struct str text = take_part(&rest), path = take_part(&rest);
    if (is_json(text)) {
        struct buf plain;
        buf_init(&plain, size);
        MUST(json_text_equal(text, text));
        json_text_members(text, on_member, &plain);
        buf_done(&plain);
    }
    put(json_text_set, text, path, rest);
    put(json_text_insert, text, path, rest);
    take_out(text, path);
    bool same = json_text_equal(text, rest);
    MUST(json_text_equal(rest, text) == same);
    return 0;
}
