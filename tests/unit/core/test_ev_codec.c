// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>

#include "core/base/buf.h"
#include "core/ev.h"
#include "tests/support/support.h"

static struct ev *decode(struct str bytes, struct err *err) {
    struct ev *ev = NULL;
    int rc = ev_decode(mem_strndup(bytes), bytes.len, &ev, err);
    assert_true((rc == 0) == (ev != NULL));
    return ev;
}

static struct ev *round_trip(const struct ev *ev) {
    struct buf b;
    struct err err = {0};
    buf_init(&b, EV_ENCODED_MAX);
    assert_int_equal(ev_encode(ev, &b, &err), 0);
    struct ev *back = decode(buf_str(&b), &err);
    if (!back) fail_msg("%s", err.text);
    buf_done(&b);
    return back;
}

static void assert_same(const struct ev_fields *a, const struct ev_fields *b) {
    assert_true(id_eq(&a->id, &b->id) && id_eq(&a->origin_id, &b->origin_id));
    assert_int_equal(a->invocation, b->invocation);
    assert_int_equal(a->attempt, b->attempt);
    assert_int_equal(a->accepted_ms, b->accepted_ms);
    assert_int_equal(a->deadline_ms, b->deadline_ms);
    assert_int_equal(a->replay, b->replay);
    assert_int_equal(a->replay_seq, b->replay_seq);
    assert_int_equal(a->dry_run, b->dry_run);
    const struct str *x[] = {&a->function,     &a->qualifier,    &a->source_kind, &a->source_name, &a->source_at, &a->payload,
                             &a->ordering_key, &a->content_type, &a->trace,       &a->reply_to,    &a->history,     &a->shape};
    const struct str *y[] = {&b->function,     &b->qualifier,    &b->source_kind, &b->source_name, &b->source_at, &b->payload,
                             &b->ordering_key, &b->content_type, &b->trace,       &b->reply_to,    &b->history,     &b->shape};
    for (size_t i = 0; i < array_len(x); i++) assert_true(str_eq(*x[i], *y[i]));
    assert_int_equal(a->header_count, b->header_count);
    for (size_t i = 0; i < a->header_count; i++)
        assert_true(str_eq(a->headers[i].name, b->headers[i].name) && str_eq(a->headers[i].value, b->headers[i].value));
}

static struct ev *full_event(void) {
    const struct ev_header headers[] = {{STR_LIT("a"), STR_LIT("1")}, {STR_LIT(""), {"\0\xff", 2}}};
    const struct ev_fields f = {.origin_id = id_new(),
                                .invocation = EV_SYNC,
                                .attempt = 3,
                                .accepted_ms = 1767225600123,
                                .deadline_ms = 1767225700000,
                                .replay = INT64_MAX,
                                .replay_seq = 10000000,
                                .dry_run = true,
                                .function = STR_LIT("orders"),
                                .qualifier = STR_LIT("7"),
                                .source_kind = STR_LIT("kafka"),
                                .source_name = STR_LIT("t"),
                                .source_at = STR_LIT("{\"offset\":7}"),
                                .ordering_key = {"k\0k", 3},
                                .content_type = STR_LIT("application/json"),
                                .shape = STR_LIT("scf"),
                                .trace = STR_LIT("00-ab-cd-01"),
                                .reply_to = STR_LIT("here"),
                                .payload = STR_LIT("{\"n\":1}"),
                                .history = STR_LIT("[{}]"),
                                .headers = headers,
                                .header_count = 2};
    return ev_new(&f);
}

static void every_field_survives(void **state) {
    (void)state;
    struct ev *ev = full_event();
    struct ev *back = round_trip(ev);
    assert_same(&ev->f, &back->f);
    ev_free(ev);
    ev_free(back);
}

static void empty_fields_are_left_out(void **state) {
    (void)state;
    const struct ev_fields f = {.function = STR_LIT("f")};
    struct ev *ev = ev_new(&f);
    struct buf b;
    buf_init(&b, 4096);
    assert_int_equal(ev_encode(ev, &b, NULL), 0);
    assert_in_range(buf_len(&b), 20, 40);
    buf_done(&b);
    ev_free(ev);
}

// [1, {1: id, 7: "f", 99: ["x", 5], "later": nil}]
static const char from_the_future[] = "\x92\x01\x84\x01\xc4\x10"
                                      "0123456789abcdef"
                                      "\x07\xa1"
                                      "f"
                                      "\x63\x92\xa1"
                                      "x"
                                      "\x05\xa5"
                                      "later\xc0";

static void unknown_fields_are_kept_and_written_again(void **state) {
    (void)state;
    struct err err = {0};
    struct ev *ev = decode((struct str){from_the_future, sizeof from_the_future - 1}, &err);
    if (!ev) fail_msg("%s", err.text);
    assert_int_equal(ev->unknown_count, 2);
    struct ev *back = round_trip(ev);
    assert_int_equal(back->unknown_count, 2);
    assert_true(str_eq(ev->unknown, back->unknown));
    ev_free(ev);
    ev_free(back);
}

static void each_truncation_and_each_flipped_byte_is_refused_or_read_without_harm(void **state) {
    (void)state;
    struct ev *ev = full_event();
    struct buf b;
    struct err err = {0};
    buf_init(&b, EV_ENCODED_MAX);
    assert_int_equal(ev_encode(ev, &b, NULL), 0);
    for (size_t n = 0; n < buf_len(&b); n++) assert_null(decode((struct str){b.data, n}, &err));
    for (size_t i = 0; i < buf_len(&b); i++)
        for (int bit = 0; bit < 8; bit++) {
            b.data[i] ^= (char)(1 << bit);
            ev_free(decode(buf_str(&b), &err));
            b.data[i] ^= (char)(1 << bit);
        }
    buf_done(&b);
    ev_free(ev);
}

static void broken_messages_say_what_is_broken(void **state) {
    (void)state;
    const struct {
        struct str bytes;
        const char *says;
    } cases[] = {
        {STR_LIT(""), "array of two"},
        {STR_LIT("{\"a\":1}"), "array of two"},
        {STR_LIT("\x92\x01\x82\x01\xc4\x10" "0123456789abcdef\x07\xa1" "fx"), "bytes follow"},
        {STR_LIT("\x92\x02\x80"), "format 2"},
        {STR_LIT("\x92\x01\x80"), "no id"},
        {STR_LIT("\x92\x01\x81\x01\xc4\x02zz"), "16 bytes"},
        {STR_LIT("\x92\x01\x81\x10\x91\xa1x"), "array of pairs"},
        {STR_LIT("\x92\x01\x83\x01\xc4\x10" "0123456789abcdef\x07\xa1" "f\x10\x92\x01\x02"), "not text"},
        {STR_LIT("\xdd\xff\xff\xff\xff"), "array of two"},
        {STR_LIT("\x92\x01\xdf\xff\xff\xff\xff"), "not a map"},
        {STR_LIT("\x92\x01\x81\x63\xdd\x0f\xff\xff\xff"), "cut short"},
    };
    for (size_t i = 0; i < array_len(cases); i++) {
        struct err err = {0};
        assert_null(decode(cases[i].bytes, &err));
        if (!strstr(err.text, cases[i].says)) fail_msg("case %zu: '%s' does not say '%s'", i, err.text, cases[i].says);
    }
}

static void too_large_is_refused_and_leaves_the_buffer_as_it_was(void **state) {
    (void)state;
    char *big = mem_zalloc(EV_ENCODED_MAX);
    const struct ev_fields f = {.function = STR_LIT("f"), .payload = {big, EV_ENCODED_MAX}};
    struct ev *ev = ev_new(&f);
    struct buf b;
    buf_init(&b, 4u * EV_ENCODED_MAX);
    assert_int_equal(buf_append(&b, STR_LIT("before")), 0);
    assert_int_equal(ev_encode(ev, &b, NULL), ERR_TOO_LARGE);
    assert_int_equal(buf_len(&b), 6);
    buf_done(&b);
    ev_free(ev);
    free(big);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_survives),
        cmocka_unit_test(empty_fields_are_left_out),
        cmocka_unit_test(unknown_fields_are_kept_and_written_again),
        cmocka_unit_test(each_truncation_and_each_flipped_byte_is_refused_or_read_without_harm),
        cmocka_unit_test(broken_messages_say_what_is_broken),
        cmocka_unit_test(too_large_is_refused_and_leaves_the_buffer_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
