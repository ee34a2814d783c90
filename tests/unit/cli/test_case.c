// SPDX-License-Identifier: Apache-2.0
// cli/case: a letter, as the server answers with it, written and read again.
#include "cli/case.h"

#include <unistd.h>

#include "core/json_text.h"
#include "core/digest.h"
#include "tests/support/support.h"

#define ID "0197a5b2-7c1e-7d40-8f3a-2b6c9d0e1f11"

static json_t *letter_of(struct str payload, bool base64) {
    json_t *letter = json_pack(
        "{s:s, s:s, s:i, s:i, s:s, s:s, s:I, s:{s:s, s:s, s:s}, s:s, s:s, s:s, s:[[s, s], [s, s]], s:[{s:s}, {s:s}], s:n, s:i}", "id", ID,
        "function", "orders", "version", 2, "attempts", 4, "errorType", "KeyError", "errorMessage", "'currency'", "acceptedMs",
        (json_int_t)1700000000000, "source", "kind", "kafka", "name", "in", "at", "{\"offset\":7}", "orderingKey", "k", "contentType",
        "application/json", "shape", "scf", "headers", "a", "1", "a", "2", "history", "stack", "first", "stack", "last", "replayId",
        "payloadBytes", 3);
    assert_non_null(letter);
    if (base64) {
        struct buf out;
        buf_init(&out, CASE_BYTES_MAX);
        assert_int_equal(base64_encode(payload, &out), 0);
        json_object_set_new(letter, "payloadBase64", json_stringn(buf_str(&out).data, buf_len(&out)));
        buf_done(&out);
    } else {
        json_object_set_new(letter, "payload", json_stringn(payload.data, payload.len));
    }
    return letter;
}

static json_t *function_of_two(void) {
    return json_pack("{s:s, s:i, s:[{s:i, s:{s:s, s:s, s:i}}, {s:i, s:{s:s, s:s, s:i, s:i, s:{s:s}, s:i, s:s}}]}", "name", "orders", "current", 1,
                     "versions", "number", 1, "settings", "runtime", "python", "handler", "old.main_handler", "timeoutMs", 1, "number", 2,
                     "settings", "runtime", "python", "handler", "orders.main_handler", "timeoutMs", 4321, "memoryMb", 99, "env", "REGION",
                     "north", "retries", 9, "description", "not needed");
}

// What is read from the file that was written; the text stays in *text.
static struct case_file through_a_file(json_t *letter, json_t *function, struct buf *text) {
    struct err err;
    struct case_file c;
    char *dir = temp_dir_new();
    cleanup_free char *path = mem_printf("%s/case.json", dir);
    buf_init(text, CASE_BYTES_MAX);
    if (case_write(letter, function, text, &err)) fail_msg("%s", err.text);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_int_equal(fwrite(buf_str(text).data, 1, buf_len(text), f), buf_len(text));
    assert_int_equal(fclose(f), 0);
    if (case_read(path, &c, &err)) fail_msg("%s", err.text);
    temp_dir_remove(dir);
    json_decref(letter);
    json_decref(function);
    return c;
}

static bool has(const struct buf *text, const char *path) {
    struct str found;
    return json_text_find(buf_str(text), str_of(path), &found, NULL) == 0;
}

static void a_letter_comes_back_whole(void **state) {
    (void)state;
    struct buf text;
    struct case_file c = through_a_file(letter_of(STR_LIT("{\"n\": 1.50}"), false), function_of_two(), &text);
    const struct ev_fields *f = &c.ev->f;
    char id[ID_TEXT_BYTES];
    id_format(&f->id, id);
    assert_string_equal(id, ID);
    assert_true(str_is(f->function, "orders") && str_is(f->source_kind, "kafka") && str_is(f->source_name, "in"));
    assert_true(str_is(f->source_at, "{\"offset\":7}") && str_is(f->ordering_key, "k") && str_is(f->shape, "scf"));
    assert_true(str_is(f->content_type, "application/json") && str_is(f->payload, "{\"n\": 1.50}"));
    assert_int_equal(f->header_count, 2);
    assert_true(str_is(f->headers[0].name, "a") && str_is(f->headers[1].name, "a") && str_is(f->headers[1].value, "2"));
    assert_int_equal(f->attempt, 3); // charged before the one that the handler saw last
    assert_int_equal(f->accepted_ms, 1700000000000);
    assert_int_equal(c.version, 2);
    assert_string_equal(c.settings.handler, "orders.main_handler"); // of its version, not of the current one
    assert_int_equal(c.settings.timeout_ms, 4321);
    assert_int_equal(c.settings.memory_mb, 99);
    assert_string_equal(c.settings.env, "{\"REGION\":\"north\"}");
    assert_int_equal(c.settings.retries, 3); // what a case does not have is as always
    assert_string_equal(json_string_value(json_object_get(c.error, "type")), "KeyError");
    assert_string_equal(json_string_value(json_object_get(c.error, "message")), "'currency'");
    assert_string_equal(json_string_value(json_object_get(c.error, "stack")), "last");
    case_done(&c);
    buf_done(&text);
}

static void expect_payload(struct str payload, bool base64, const char *member) {
    struct buf text;
    struct case_file c = through_a_file(letter_of(payload, base64), NULL, &text);
    if (!str_eq(c.ev->f.payload, payload)) fail_msg("%zu bytes came back as %zu", payload.len, c.ev->f.payload.len);
    if (!has(&text, member)) fail_msg("no %s in: %.*s", member, 300, buf_str(&text).data);
    case_done(&c);
    buf_done(&text);
}

static void payloads_come_back_byte_for_byte(void **state) {
    (void)state;
    static const char *const json[] = {"1e999", "{\"a\":1,\"a\":-0.00,\"b\":123456789012345678901234567890}", "\"\\ud800\"", "[ 1 ,\r\n2 ]", "null"};
    // Not JSON, blanks around it that a member would lose, and what would break out of the member.
    static const char *const plain[] = {"", "plain", " 1", "1\n", "1, \"x\": 2", "}", "{\"a\":1}}", "\xc3\xa4\x01"};
    for (size_t i = 0; i < array_len(json); i++) expect_payload(str_of(json[i]), false, "/event/payload");
    for (size_t i = 0; i < array_len(plain); i++) expect_payload(str_of(plain[i]), false, "/event/payloadText");
    expect_payload(STR_LIT("a\0b"), false, "/event/payloadText");
    expect_payload(STR_LIT("\xff\xfe\0"), true, "/event/payloadBase64");
    expect_payload(STR_LIT("{\"n\":1}"), true, "/event/payload");
}

static void headers_and_keys_of_any_bytes_come_back(void **state) {
    (void)state;
    struct buf text;
    json_t *letter = letter_of(STR_LIT("{}"), false);
    json_object_set_new(letter, "headers", json_pack("[[s,{ss}],[{ss},s]]", "a", "base64", "/wA=", "base64", "w4M=", "b"));
    json_object_set_new(letter, "orderingKey", json_pack("{ss}", "base64", "gA=="));
    struct case_file c = through_a_file(letter, NULL, &text);
    const struct ev_fields *f = &c.ev->f;
    assert_int_equal(f->header_count, 2);
    assert_true(str_is(f->headers[0].name, "a") && str_eq(f->headers[0].value, STR_LIT("\xff\0")));
    assert_true(str_is(f->headers[1].name, "\xc3\x83") && str_is(f->headers[1].value, "b"));
    assert_true(str_is(f->ordering_key, "\x80"));
    case_done(&c);
    buf_done(&text);
}

static void as_deep_as_json_may_be(void **state) {
    (void)state;
    char deep[2 * JSON_TEXT_DEPTH];
    memset(deep, '[', JSON_TEXT_DEPTH);
    memset(deep + JSON_TEXT_DEPTH, ']', JSON_TEXT_DEPTH);
    // Two levels are the case's own.
    expect_payload((struct str){deep + 2, sizeof deep - 4}, false, "/event/payload");
    expect_payload((struct str){deep + 1, sizeof deep - 2}, false, "/event/payloadText");
    expect_payload((struct str){deep, sizeof deep}, false, "/event/payloadText");
}

static void the_largest_payload(void **state) {
    (void)state;
    char *bytes = mem_alloc(EV_PAYLOAD_MAX);
    struct str all = {bytes, EV_PAYLOAD_MAX};
    memset(bytes, 'x', EV_PAYLOAD_MAX);
    bytes[0] = bytes[EV_PAYLOAD_MAX - 1] = '"';
    expect_payload(all, false, "/event/payload");
    memset(bytes, '\x01', EV_PAYLOAD_MAX); // six bytes for one
    expect_payload(all, false, "/event/payloadText");
    memset(bytes, '\xff', EV_PAYLOAD_MAX);
    expect_payload(all, true, "/event/payloadBase64");
    free(bytes);
}

static void what_the_server_no_longer_has(void **state) {
    (void)state;
    struct buf text;
    json_t *letter = letter_of(STR_LIT("1"), false);
    json_object_set_new(letter, "version", json_integer(7)); // gone: the current one's settings
    json_object_set_new(letter, "attempts", json_integer(0)); // a delayed event
    json_object_set_new(letter, "errorType", json_string(""));
    struct case_file c = through_a_file(letter, function_of_two(), &text);
    assert_string_equal(c.settings.handler, "old.main_handler");
    assert_int_equal(c.ev->f.attempt, 0);
    assert_null(c.error);
    case_done(&c);
    buf_done(&text);
    c = through_a_file(letter_of(STR_LIT("1"), false), NULL, &text);
    assert_false(has(&text, "/function"));
    assert_string_equal(c.settings.handler, "");
    case_done(&c);
    buf_done(&text);
}

static void a_letter_without_its_payload_is_refused(void **state) {
    (void)state;
    struct err err;
    struct buf out;
    json_t *letter = letter_of(STR_LIT("1"), false);
    buf_init(&out, CASE_BYTES_MAX);
    json_object_del(letter, "payload");
    assert_int_equal(case_write(letter, NULL, &out, &err), ERR_INVALID);
    json_object_set_new(letter, "payloadBase64", json_string("%%%"));
    assert_int_equal(case_write(letter, NULL, &out, &err), ERR_INVALID);
    assert_int_equal(buf_len(&out), 0);
    json_decref(letter);
    buf_done(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_letter_comes_back_whole),          cmocka_unit_test(payloads_come_back_byte_for_byte),
        cmocka_unit_test(headers_and_keys_of_any_bytes_come_back),
        cmocka_unit_test(as_deep_as_json_may_be),             cmocka_unit_test(the_largest_payload),
        cmocka_unit_test(what_the_server_no_longer_has),      cmocka_unit_test(a_letter_without_its_payload_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
