// SPDX-License-Identifier: Apache-2.0
#include "core/base/buf.h"

#include "tests/support/support.h"

static void test_append_and_consume(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 100);
    assert_true(str_is(buf_str(&b), ""));
    assert_int_equal(buf_append(&b, STR_LIT("hello ")), 0);
    assert_int_equal(buf_printf(&b, "%s %d", "world", 7), 0);
    assert_int_equal(buf_append(&b, STR_NONE), 0);
    assert_true(str_is(buf_str(&b), "hello world 7"));
    buf_consume(&b, 6);
    assert_true(str_is(buf_str(&b), "world 7"));
    buf_consume(&b, 7);
    assert_int_equal(buf_len(&b), 0);
    assert_int_equal(b.start, 0); // all room is back
    buf_done(&b);
}

static void test_cap(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 10);
    assert_int_equal(buf_append(&b, STR_LIT("0123456789")), 0);
    assert_int_equal(buf_append(&b, STR_LIT("x")), ERR_TOO_LARGE);
    assert_int_equal(buf_printf(&b, "%s", "x"), ERR_TOO_LARGE);
    assert_null(buf_reserve(&b, 1));
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_true(str_is(buf_str(&b), "0123456789")); // as it was
    buf_consume(&b, 4); // what is consumed does not count
    assert_int_equal(buf_append(&b, STR_LIT("abcd")), 0);
    assert_true(str_is(buf_str(&b), "456789abcd"));
    buf_done(&b);
}

// Compares with a plain array while appends and consumes of many sizes alternate.
static void test_against_model(void **state) {
    (void)state;
    enum { CAP = 5000, STEPS = 20000 };
    static char model[2 * CAP];
    size_t model_len = 0;
    unsigned random = 1, next = 0;
    struct buf b;
    buf_init(&b, CAP);
    for (int i = 0; i < STEPS; i++) {
        random = random * 1664525u + 1013904223u;
        size_t n = (random >> 8) % 700;
        if (random >> 31) {
            char piece[700];
            for (size_t k = 0; k < n; k++) piece[k] = (char)next++;
            int rc = buf_append(&b, (struct str){piece, n});
            assert_int_equal(rc, n && model_len + n > CAP ? ERR_TOO_LARGE : 0);
            if (rc == 0) memcpy(model + model_len, piece, n), model_len += n;
        } else {
            if (n > model_len) n = model_len;
            buf_consume(&b, n);
            memmove(model, model + n, model_len - n);
            model_len -= n;
        }
        assert_int_equal(buf_len(&b), model_len);
        if (model_len) assert_memory_equal(buf_str(&b).data, model, model_len);
    }
    buf_done(&b);
}

static void test_reserve(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 1000);
    char *at = buf_reserve(&b, 1000);
    assert_non_null(at);
    memset(at, 'x', 1000);
    buf_added(&b, 3);
    assert_true(str_is(buf_str(&b), "xxx"));
    buf_clear(&b);
    assert_int_equal(buf_len(&b), 0);
    buf_done(&b);
}

static void test_take(void **state) {
    (void)state;
    struct buf b;
    size_t len;
    buf_init(&b, 100);
    char *z = buf_take(&b, &len); // of an empty one
    assert_string_equal(z, "");
    assert_int_equal(len, 0);
    free(z);
    assert_int_equal(buf_append(&b, STR_LIT("skip this")), 0);
    buf_consume(&b, 5);
    z = buf_take(&b, &len);
    assert_string_equal(z, "this");
    assert_int_equal(len, 4);
    free(z);
    assert_int_equal(buf_append(&b, STR_LIT("again")), 0); // it can be used on
    z = buf_take(&b, NULL);
    assert_string_equal(z, "again");
    free(z);
    buf_done(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_and_consume), cmocka_unit_test(test_cap),  cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_reserve),            cmocka_unit_test(test_take),
    };
    return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
