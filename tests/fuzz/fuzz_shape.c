// SPDX-License-Identifier: Apache-2.0
// Whatever a record contains, every shape but raw is JSON, and a buffer that is too small is left as it was. The input is parts
// between newlines: a letter (k Kafka, a AMQP, t timer), source_at, key, content type, then pairs of a header's name and value up to
// an empty line, and the rest is the payload. What is taken for JSON is what jansson takes for it.
#include "core/fire.h"
#include "core/shape_parts.h"

#define HEADERS 6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct str take_part(struct str *rest) {
    const char *end = rest->len ? memchr(rest->data, '\n', rest->len) : NULL;
    struct str part = {rest->data, end ? (size_t)(end - rest->data) : rest->len};
    size_t used = end ? part.len + 1 : part.len;
    *rest = (struct str){rest->data + used, rest->len - used};
    return part;
}

static void check_json(struct str text) {
    json_t *j = json_loadb(text.data, text.len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
    MUST(j != NULL);
    json_decref(j);
}

static void check_shape(enum shape s, const struct ev *const *evs, size_t count) {
    struct buf whole, tight;
    struct err err = {0};
    buf_init(&whole, 1u << 24);
    MUST(shape_append(&whole, s, evs, count, &err) == 0);
    if (s != SHAPE_RAW) check_json(buf_str(&whole));
    size_t need = buf_len(&whole);
    buf_init(&tight, need / 2 + 1);
    int rc = buf_append(&tight, STR_LIT("x"));
    MUST(rc == 0);
    rc = shape_append(&tight, s, evs, count, &err);
    if (need > need / 2) MUST(rc == ERR_TOO_LARGE && str_is(buf_str(&tight), "x"));
    buf_done(&tight);
    buf_done(&whole);
}

static void check_same_as_jansson(struct str text) {
    json_t *j = json_loadb(text.data, text.len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL | JSON_DECODE_ANY, NULL);
    bool ours = shape_is_json(text);
    MUST(j || !ours);
    bool has_nul = text.len && memchr(text.data, '\0', text.len);
    if (has_nul) MUST(!ours); // jansson loses one behind a number, and takes the rest
    else if (text.len < 400) MUST(ours == (j != NULL)); // ours has lower limits
    json_decref(j);
}

static void check_names(const struct ev *ev) {
    json_t *j = json_stringn(ev->f.ordering_key.data, ev->f.ordering_key.len);
    if (j) (void)shape_names_event(j, ev);
    json_decref(j);
    j = json_loadb(ev->f.payload.data, ev->f.payload.len, JSON_DECODE_ANY, NULL);
    (void)shape_names_event(j, ev);
    json_decref(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str rest = {(const char *)data, size};
    struct ev_header headers[HEADERS];
    struct str kind = take_part(&rest);
    bool timer = str_is(kind, "t");
    struct ev_fields f = {
        .function = STR_LIT("f"),
        .shape = STR_LIT("cloudevents"),
        .source_kind = str_is(kind, "a") ? STR_LIT("amqp") : timer ? STR_LIT(FIRE_SOURCE) : STR_LIT("kafka"),
        .headers = headers,
        .accepted_ms = 1,
    };
    f.source_at = take_part(&rest);
    f.ordering_key = f.source_name = take_part(&rest);
    f.content_type = take_part(&rest);
    while (f.header_count < HEADERS) {
        struct str name = take_part(&rest);
        if (name.len == 0) break;
        headers[f.header_count++] = (struct ev_header){name, take_part(&rest)};
    }
    f.payload = rest;
    struct ev *ev = ev_new(&f);
    const struct ev *const evs[] = {ev, ev, ev};
    for (int s = SHAPE_RAW; s <= SHAPE_CLOUDEVENTS; s++) {
        check_shape((enum shape)s, evs, 1);
        if (s != SHAPE_RAW && !timer) check_shape((enum shape)s, evs, 3);
    }
    check_names(ev);
    check_same_as_jansson(rest);
    ev_free(ev);
    return 0;
}
