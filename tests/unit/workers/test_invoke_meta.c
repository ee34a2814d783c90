// SPDX-License-Identifier: Apache-2.0
// workers/invoke_meta: the JSON that a runtime gets, read back with a JSON library; nothing in an event may break it.
#include "workers/invoke_meta.h"

#include <jansson.h>

#include "tests/support/support.h"
#include "workers/frames.h"

#define NOW INT64_C(1700000000000)

static json_t *meta_after(const struct ev_fields *f, int64_t timeout_ms, const char *before) {
    struct ev *ev = ev_new(f);
    struct settings s;
    settings_init(&s);
    s.timeout_ms = timeout_ms;
    struct buf out;
    buf_init(&out, 1 << 20);
    assert_int_equal(buf_append(&out, str_of(before)), 0);
    invoke_meta_append(&out, ev, &s, NOW);
    assert_true(buf_len(&out) - strlen(before) <= FRAME_META_MAX);
    assert_memory_equal(buf_str(&out).data, before, strlen(before)); // what was there stays
    json_error_t why;
    json_t *meta = json_loadb(buf_str(&out).data + strlen(before), buf_len(&out) - strlen(before), JSON_REJECT_DUPLICATES, &why);
    if (!meta) fail_msg("%s: %.*s", why.text, STR_ARG(buf_str(&out)));
    buf_done(&out);
    settings_done(&s);
    ev_free(ev);
    return meta;
}

static json_t *meta_of(const struct ev_fields *f) {
    return meta_after(f, 30000, "");
}

static int64_t number(const json_t *o, const char *key) {
    json_t *v = json_object_get(o, key);
    assert_true(json_is_integer(v));
    return json_integer_value(v);
}

static const char *text(const json_t *o, const char *key) {
    return json_string_value(json_object_get(o, key));
}

static void the_least_there_is(void **state) {
    (void)state;
    const struct ev_fields f = {.id = id_new(), .function = STR_LIT("f")};
    json_t *meta = meta_of(&f);
    char id[ID_TEXT_BYTES];
    id_format(&f.id, id);
    assert_string_equal(text(meta, "request_id"), id);
    assert_int_equal(number(meta, "attempt"), 1);
    assert_int_equal(number(meta, "deadline_ms"), NOW + 30000);
    assert_int_equal(number(meta, "time_limit_in_ms"), 30000);
    assert_int_equal(json_object_size(meta), 4);
    json_decref(meta);
}

static void the_attempt_is_the_one_that_begins(void **state) {
    (void)state;
    const struct ev_fields f = {.function = STR_LIT("f"), .attempt = 3};
    json_t *meta = meta_of(&f);
    assert_int_equal(number(meta, "attempt"), 4);
    json_decref(meta);
}

static void the_earlier_of_timeout_and_caller_counts(void **state) {
    (void)state;
    struct ev_fields f = {.function = STR_LIT("f"), .invocation = EV_SYNC, .deadline_ms = NOW + 1500};
    json_t *meta = meta_of(&f);
    assert_int_equal(number(meta, "deadline_ms"), NOW + 1500);
    assert_int_equal(number(meta, "time_limit_in_ms"), 1500);
    json_decref(meta);
    f.deadline_ms = NOW + 60000;
    meta = meta_of(&f);
    assert_int_equal(number(meta, "deadline_ms"), NOW + 30000);
    json_decref(meta);
}

// Whatever a caller claims.
static void numbers_of_any_size_are_right(void **state) {
    (void)state;
    const int64_t deadlines[] = {INT64_MIN + NOW, -1, 1, NOW - 1, NOW, NOW + 9, NOW + 10};
    for (size_t i = 0; i < array_len(deadlines); i++) {
        const struct ev_fields f = {.function = STR_LIT("f"), .deadline_ms = deadlines[i], .attempt = UINT32_MAX - 1};
        json_t *meta = meta_of(&f);
        assert_int_equal(number(meta, "deadline_ms"), deadlines[i]);
        assert_int_equal(number(meta, "time_limit_in_ms"), deadlines[i] - NOW);
        assert_int_equal(number(meta, "attempt"), UINT32_MAX);
        json_decref(meta);
    }
}

static void headers_and_source_arrive(void **state) {
    (void)state;
    const struct ev_header headers[] = {{STR_LIT("a"), STR_LIT("1")},
                                        {STR_LIT("q\"uote\\"), STR_LIT("line\nbreak\ttab\x01")},
                                        {STR_LIT("umlaut"), STR_LIT("\xc3\xa4")},
                                        {STR_LIT("empty"), STR_NONE}};
    const struct ev_fields f = {.function = STR_LIT("f"),
                                .headers = headers,
                                .header_count = array_len(headers),
                                .source_kind = STR_LIT("kafka"),
                                .source_name = STR_LIT("in\"put"),
                                .source_at = STR_LIT("{\"topic\":\"t\"}")};
    json_t *meta = meta_after(&f, 30000, "before"), *got = json_object_get(meta, "headers"), *source = json_object_get(meta, "source");
    assert_int_equal(json_object_size(got), 4);
    assert_string_equal(text(got, "a"), "1");
    assert_string_equal(text(got, "q\"uote\\"), "line\nbreak\ttab\x01");
    assert_string_equal(text(got, "umlaut"), "\xc3\xa4");
    assert_string_equal(text(got, "empty"), "");
    assert_string_equal(text(source, "kind"), "kafka");
    assert_string_equal(text(source, "name"), "in\"put");
    assert_string_equal(text(source, "at"), "{\"topic\":\"t\"}");
    json_decref(meta);
}

// From a foreign publisher: neither is text.
static void broken_bytes_still_make_json(void **state) {
    (void)state;
    const struct ev_header header = {{"n\xff\xfe", 3}, {"v\xc3\0w", 4}};
    const struct ev_fields f = {.function = STR_LIT("f"), .headers = &header, .header_count = 1, .source_kind = STR_LIT("amqp"),
                                .source_name = {"\xed\xa0\x80", 3}};
    json_t *meta = meta_of(&f);
    assert_int_equal(json_object_size(json_object_get(meta, "headers")), 1);
    json_decref(meta);
}

static void too_many_headers_are_left_out(void **state) {
    (void)state;
    cleanup_free char *value = mem_zalloc(1001);
    memset(value, 'v', 1000);
    struct ev_header headers[70];
    char names[70][8];
    for (size_t i = 0; i < array_len(headers); i++) {
        assert_int_equal(text_format(names[i], sizeof names[i], "h%zu", i), 0);
        headers[i] = (struct ev_header){str_of(names[i]), str_of(value)};
    }
    struct ev_fields f = {.id = id_new(), .function = STR_LIT("f"), .headers = headers, .header_count = array_len(headers),
                          .source_kind = STR_LIT("http")};
    json_t *meta = meta_after(&f, 30000, "before");
    assert_null(json_object_get(meta, "headers"));
    assert_string_equal(text(json_object_get(meta, "source"), "kind"), "http"); // the rest is there
    assert_int_equal(number(meta, "attempt"), 1);
    json_decref(meta);
    f.header_count = 60;
    meta = meta_of(&f);
    assert_int_equal(json_object_size(json_object_get(meta, "headers")), 60);
    json_decref(meta);
}

// A foreign publisher may claim any coordinates.
static void a_huge_source_does_not_end_the_server(void **state) {
    (void)state;
    cleanup_free char *at = mem_zalloc(200001);
    memset(at, '\x01', 200000); // six characters each in JSON
    const struct ev_fields f = {.function = STR_LIT("f"), .source_kind = STR_LIT("amqp"), .source_at = {at, 200000}};
    json_t *meta = meta_of(&f);
    assert_int_equal(number(meta, "attempt"), 1);
    json_decref(meta);
}

static void init_tells_the_version(void **state) {
    (void)state;
    char name[] = "f\xc3\xa9", dir[] = "/data/versions/abc \"quoted\"";
    struct version v = {.refs = 1, .function = name, .number = 7, .code_dir = dir};
    struct err err;
    settings_init(&v.settings);
    assert_int_equal(settings_from_json(STR_LIT("{\"runtime\":\"python\",\"handler\":\"m.h\",\"env\":{\"A\":\"x\\\"y\"},\"timeoutMs\":900000,"
                                                "\"memoryMb\":65536}"),
                                        &v.settings, &err),
                     0);
    struct buf out;
    buf_init(&out, 1 << 20);
    init_body_append(&out, &v);
    json_t *init = json_loadb(buf_str(&out).data, buf_len(&out), 0, NULL);
    assert_non_null(init);
    assert_string_equal(text(init, "function"), name);
    assert_int_equal(number(init, "version"), 7);
    assert_string_equal(text(init, "handler"), "m.h");
    assert_string_equal(text(init, "code_dir"), dir);
    assert_string_equal(text(json_object_get(init, "env"), "A"), "x\"y");
    assert_int_equal(number(init, "timeout_ms"), 900000);
    assert_int_equal(number(init, "memory_mb"), 65536);
    assert_string_equal(text(json_object_get(init, "context"), "namespace"), "default");
    assert_string_equal(text(json_object_get(init, "context"), "tencentcloud_region"), "local");
    json_decref(init);
    buf_done(&out);
    settings_done(&v.settings);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_there_is),
        cmocka_unit_test(the_attempt_is_the_one_that_begins),
        cmocka_unit_test(the_earlier_of_timeout_and_caller_counts),
        cmocka_unit_test(numbers_of_any_size_are_right),
        cmocka_unit_test(headers_and_source_arrive),
        cmocka_unit_test(broken_bytes_still_make_json),
        cmocka_unit_test(too_many_headers_are_left_out),
        cmocka_unit_test(a_huge_source_does_not_end_the_server),
        cmocka_unit_test(init_tells_the_version),
    };
    return cmocka_run_group_tests_name("workers/invoke_meta", tests, NULL, NULL);
}
