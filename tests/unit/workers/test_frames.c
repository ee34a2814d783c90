// SPDX-License-Identifier: Apache-2.0
// workers/frames: the exact bytes, every truncation, and each reason to refuse a frame.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "workers/frames.h"

static const struct frame_header sample = {
    .body_len = 0x00010203, .version = 1, .type = FRAME_RESULT, .flags = 0, .seq = 0xa1b2c3d4};

static void encodes_little_endian(void **state) {
    (void)state;
    uint8_t out[FRAME_HEADER_BYTES];
    const uint8_t want[FRAME_HEADER_BYTES] = {3, 2, 1, 0, 1, 4, 0, 0, 0xd4, 0xc3, 0xb2, 0xa1};
    frame_header_encode(&sample, out);
    assert_memory_equal(out, want, sizeof(want));
}

static void decodes_what_it_encodes(void **state) {
    (void)state;
    uint8_t out[FRAME_HEADER_BYTES];
    struct frame_header back;
    frame_header_encode(&sample, out);
    assert_int_equal(frame_header_decode(out, FRAME_FROM_INSTANCE, &back, NULL), 0);
    assert_memory_equal(&back, &sample, sizeof(back));
}

static int decode(struct frame_header header, enum frame_side from, struct err *err) {
    uint8_t raw[FRAME_HEADER_BYTES];
    struct frame_header untouched, ret;
    memset(&untouched, 0x5a, sizeof(untouched));
    ret = untouched;
    frame_header_encode(&header, raw);
    int rc = frame_header_decode(raw, from, &ret, err);
    if (rc < 0) assert_memory_equal(&ret, &untouched, sizeof(ret));
    return rc;
}

#define refuse(change, want, word)                                            \
    do {                                                                      \
        struct frame_header header = sample;                                  \
        struct err err = {0};                                                 \
        header.change;                                                        \
        assert_int_equal(decode(header, FRAME_FROM_INSTANCE, &err), want);    \
        assert_int_equal(err.code, want);                                     \
        assert_non_null(strstr(err.text, word));                              \
    } while (0)

static void refuses_bad_headers(void **state) {
    (void)state;
    refuse(version = 0, ERR_INVALID, "version 0");
    refuse(version = 2, ERR_INVALID, "version 2");
    refuse(type = 0, ERR_INVALID, "unknown type 0");
    refuse(type = 10, ERR_INVALID, "unknown type 10");
    refuse(type = 255, ERR_INVALID, "unknown type 255");
    refuse(flags = 1, ERR_INVALID, "0x0001");
    refuse(flags = 0x8000, ERR_INVALID, "0x8000");
    refuse(seq = 0, ERR_INVALID, "number");
    refuse(body_len = FRAME_BODY_MAX + 1, ERR_TOO_LARGE, "at most");
    refuse(body_len = UINT32_MAX, ERR_TOO_LARGE, "4294967295");
}

static void takes_the_largest_body(void **state) {
    (void)state;
    struct frame_header header = sample;
    header.body_len = FRAME_BODY_MAX;
    assert_int_equal(decode(header, FRAME_FROM_INSTANCE, NULL), 0);
}

static void each_type_has_one_direction(void **state) {
    (void)state;
    const uint8_t from_instance[] = {FRAME_READY, FRAME_RESULT, FRAME_ERROR, FRAME_LOG, FRAME_PONG};
    for (int type = 1; type <= 9; type++) {
        struct frame_header header = sample;
        header.type = (uint8_t)type;
        bool instance = memchr(from_instance, type, sizeof(from_instance)) != NULL;
        struct err err = {0};
        assert_int_equal(decode(header, FRAME_FROM_INSTANCE, &err), instance ? 0 : ERR_INVALID);
        assert_int_equal(decode(header, FRAME_FROM_SERVER, &err), instance ? ERR_INVALID : 0);
        assert_non_null(strstr(err.text, frame_type_name(header.type)));
    }
}

static void some_types_may_lack_a_number(void **state) {
    (void)state;
    const uint8_t may[] = {FRAME_READY, FRAME_ERROR, FRAME_LOG, FRAME_PONG};
    for (size_t i = 0; i < array_len(may); i++) {
        struct frame_header header = sample;
        header.type = may[i];
        header.seq = 0;
        assert_int_equal(decode(header, FRAME_FROM_INSTANCE, NULL), 0);
    }
}

static void names_its_types(void **state) {
    (void)state;
    assert_string_equal(frame_type_name(FRAME_INIT), "INIT");
    assert_string_equal(frame_type_name(FRAME_STOP), "STOP");
    assert_string_equal(frame_type_name(0), "unknown");
    assert_string_equal(frame_type_name(10), "unknown");
    assert_string_equal(frame_type_name(255), "unknown");
}

// Three frames in a row: a log, its result, and a body-less answer. Returns the length.
static size_t three_frames(uint8_t *out) {
    size_t n = 0;
    assert_int_equal(frame_header_fill(FRAME_LOG, 7, 5, out, NULL), 0);
    memcpy(out + FRAME_HEADER_BYTES, "hello", 5);
    n += FRAME_HEADER_BYTES + 5;
    assert_int_equal(frame_header_fill(FRAME_RESULT, 7, 4, out + n, NULL), 0);
    memcpy(out + n + FRAME_HEADER_BYTES, "null", 4);
    n += FRAME_HEADER_BYTES + 4;
    assert_int_equal(frame_header_fill(FRAME_PONG, 0, 0, out + n, NULL), 0);
    return n + FRAME_HEADER_BYTES;
}

// Frames found in a heap copy of exactly `len` bytes, so that ASan sees a read past the end.
static int count_frames(const uint8_t *data, size_t len, size_t *ret_left) {
    char *copy = test_malloc(len + 1);
    struct str in = {copy + 1, len};
    memcpy(copy + 1, data, len);
    struct frame f;
    size_t used = 0;
    int n = 0;
    while (frame_parse(in, FRAME_FROM_INSTANCE, &f, &used, NULL) == 1) {
        assert_true(used >= FRAME_HEADER_BYTES && used <= in.len);
        assert_ptr_equal(f.body.data, in.data + FRAME_HEADER_BYTES);
        assert_int_equal(f.body.len, used - FRAME_HEADER_BYTES);
        in = (struct str){in.data + used, in.len - used};
        n++;
    }
    *ret_left = in.len;
    test_free(copy);
    return n;
}

static void parses_at_every_truncation(void **state) {
    (void)state;
    uint8_t data[64];
    size_t whole = three_frames(data), left = 0;
    const size_t ends[] = {FRAME_HEADER_BYTES + 5, 2 * FRAME_HEADER_BYTES + 9, whole};
    for (size_t len = 0; len <= whole; len++) {
        int want = (len >= ends[0]) + (len >= ends[1]) + (len >= ends[2]);
        assert_int_equal(count_frames(data, len, &left), want);
        assert_int_equal(left, len - (want ? ends[want - 1] : 0));
    }
}

static void needing_more_writes_nothing(void **state) {
    (void)state;
    uint8_t data[64];
    struct frame f = {.header = {.seq = 99}};
    size_t used = 77;
    three_frames(data);
    for (size_t len = 0; len < FRAME_HEADER_BYTES + 5; len++)
        assert_int_equal(frame_parse((struct str){(const char *)data, len}, FRAME_FROM_INSTANCE, &f, &used, NULL), 0);
    assert_int_equal(f.header.seq, 99);
    assert_int_equal(used, 77);
    assert_int_equal(frame_parse(STR_NONE, FRAME_FROM_INSTANCE, &f, &used, NULL), 0);
}

static void a_bad_header_is_told_before_its_body(void **state) {
    (void)state;
    uint8_t data[FRAME_HEADER_BYTES];
    struct frame_header header = sample;
    struct frame f;
    size_t used;
    header.body_len = UINT32_MAX;
    frame_header_encode(&header, data);
    assert_int_equal(frame_parse((struct str){(const char *)data, 12}, FRAME_FROM_INSTANCE, &f, &used, NULL), ERR_TOO_LARGE);
    assert_int_equal(frame_parse((struct str){(const char *)data, 11}, FRAME_FROM_INSTANCE, &f, &used, NULL), 0);
}

static void fills_and_splits_an_invoke(void **state) {
    (void)state;
    uint8_t data[64];
    struct frame f;
    struct str meta, payload;
    size_t used;
    assert_int_equal(frame_invoke_fill(3, 2, 4, data, NULL), 0);
    memcpy(data + FRAME_INVOKE_HEAD_BYTES, "{}true", 6);
    struct str in = {(const char *)data, FRAME_INVOKE_HEAD_BYTES + 6};
    assert_int_equal(frame_parse(in, FRAME_FROM_SERVER, &f, &used, NULL), 1);
    assert_int_equal(f.header.type, FRAME_INVOKE);
    assert_int_equal(f.header.seq, 3);
    assert_int_equal(frame_invoke_split(f.body, &meta, &payload, NULL), 0);
    assert_true(str_is(meta, "{}"));
    assert_true(str_is(payload, "true"));
}

static void splits_an_invoke_at_its_edges(void **state) {
    (void)state;
    struct str meta, payload;
    assert_int_equal(frame_invoke_split(STR_NONE, &meta, &payload, NULL), ERR_INVALID);
    assert_int_equal(frame_invoke_split((struct str){"\0", 1}, &meta, &payload, NULL), ERR_INVALID);
    assert_int_equal(frame_invoke_split((struct str){"\3\0{}", 4}, &meta, &payload, NULL), ERR_INVALID);
    assert_int_equal(frame_invoke_split((struct str){"\2\0{}", 4}, &meta, &payload, NULL), 0);
    assert_int_equal(payload.len, 0);
    assert_int_equal(frame_invoke_split((struct str){"\0\0x", 3}, &meta, &payload, NULL), 0);
    assert_int_equal(meta.len, 0);
    assert_true(str_is(payload, "x"));
}

static void caps_what_it_sends(void **state) {
    (void)state;
    uint8_t out[FRAME_INVOKE_HEAD_BYTES];
    assert_int_equal(frame_header_fill(FRAME_INIT, 0, FRAME_BODY_MAX, out, NULL), 0);
    assert_int_equal(frame_header_fill(FRAME_INIT, 0, (size_t)FRAME_BODY_MAX + 1, out, NULL), ERR_TOO_LARGE);
    assert_int_equal(frame_invoke_fill(1, FRAME_META_MAX, 0, out, NULL), 0);
    assert_int_equal(frame_invoke_fill(1, FRAME_META_MAX + 1, 0, out, NULL), ERR_TOO_LARGE);
    assert_int_equal(frame_invoke_fill(1, 2, FRAME_BODY_MAX - 4, out, NULL), 0);
    assert_int_equal(frame_invoke_fill(1, 2, FRAME_BODY_MAX - 3, out, NULL), ERR_TOO_LARGE);
    assert_int_equal(frame_invoke_fill(1, 2, SIZE_MAX, out, NULL), ERR_TOO_LARGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodes_little_endian),
        cmocka_unit_test(decodes_what_it_encodes),
        cmocka_unit_test(refuses_bad_headers),
        cmocka_unit_test(takes_the_largest_body),
        cmocka_unit_test(each_type_has_one_direction),
        cmocka_unit_test(some_types_may_lack_a_number),
        cmocka_unit_test(names_its_types),
        cmocka_unit_test(parses_at_every_truncation),
        cmocka_unit_test(needing_more_writes_nothing),
        cmocka_unit_test(a_bad_header_is_told_before_its_body),
        cmocka_unit_test(fills_and_splits_an_invoke),
        cmocka_unit_test(splits_an_invoke_at_its_edges),
        cmocka_unit_test(caps_what_it_sends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
