// SPDX-License-Identifier: Apache-2.0
#include "core/base/text.h"
#include "tests/support/support.h"

static void assert_clean(struct str in, const char *expected) {
    struct buf b;
    buf_init(&b, 256);
    assert_int_equal(text_append_clean(&b, in, 256), 0);
    char *z = buf_take(&b, NULL);
    assert_string_equal(z, expected);
    free(z);
}

static void broken_bytes_become_replacement_characters(void **state) {
    (void)state;
    assert_clean(STR_LIT("gr\xc3\xbc\xc3\x9f"), "gr\xc3\xbc\xc3\x9f");
    assert_clean((struct str){"a\0b", 3}, "a\xef\xbf\xbd" "b");
    assert_clean(STR_LIT("\xc0\x80"), "\xef\xbf\xbd\xef\xbf\xbd");                     // overlong
    assert_clean(STR_LIT("\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");     // surrogate
    assert_clean(STR_LIT("\xf4\x90\x80\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    assert_clean(STR_LIT("\xe2\x82"), "\xef\xbf\xbd\xef\xbf\xbd");                     // cut short
}

static void a_cut_never_splits_a_character(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 256);
    assert_int_equal(text_append_clean(&b, STR_LIT("ab\xe2\x82\xac"), 4), 0);
    assert_true(str_is(buf_str(&b), "ab"));
    buf_done(&b);
}

static void json_strings_are_escaped(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 256);
    assert_int_equal(text_append_json(&b, (struct str){"\"\\\n\t\x01\xff/", 7}), 0);
    assert_true(str_is(buf_str(&b), "\"\\\"\\\\\\n\\t\\u0001\xef\xbf\xbd/\""));
    buf_done(&b);
}

// One byte or character at a time, as the fast way must not differ from the plain one wherever its words and chunks end.
static void json_is_the_same_however_it_is_cut(void **state) {
    (void)state;
    static const char *const pieces[] = {"a", "\"", "\\", "\n", "\x7f", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xff", "\x1f", "bcdefghij"};
    struct buf in, fast, slow;
    buf_init(&in, 4096);
    buf_init(&fast, 1u << 16);
    buf_init(&slow, 1u << 16);
    for (unsigned n = 0; n < 1300; n++) {
        buf_clear(&fast);
        buf_clear(&slow);
        assert_int_equal(buf_append(&in, str_of(pieces[n * n % 23 % array_len(pieces)])), 0);
        struct str s = buf_str(&in);
        if (s.len > 3000) break;
        assert_int_equal(text_append_json(&fast, s), 0);
        for (size_t i = 0; i < s.len;) { // one character a call, so that none is among others
            size_t len = 1;
            while (i + len < s.len && (s.data[i + len] & 0xc0) == 0x80 && (unsigned char)s.data[i] != 0xff) len++;
            size_t quote = buf_len(&slow);
            assert_int_equal(text_append_json(&slow, (struct str){s.data + i, len}), 0);
            memmove(slow.data + quote, slow.data + quote + 1, buf_len(&slow) - quote - 1);
            slow.end -= 2;
            i += len;
        }
        assert_int_equal(buf_len(&fast), buf_len(&slow) + 2);
        assert_memory_equal(fast.data + 1, slow.data, buf_len(&slow));
        struct buf tight; // room for exactly what it becomes
        buf_init(&tight, buf_len(&fast));
        assert_int_equal(text_append_json(&tight, s), 0);
        assert_true(str_eq(buf_str(&tight), buf_str(&fast)));
        buf_done(&tight);
        buf_init(&tight, buf_len(&fast) - 1);
        assert_int_equal(text_append_json(&tight, s), ERR_TOO_LARGE);
        buf_done(&tight);
    }
    buf_done(&in);
    buf_done(&fast);
    buf_done(&slow);
}

static void distances(void **state) {
    (void)state;
    assert_int_equal(text_distance("", ""), 0);
    assert_int_equal(text_distance("", "abc"), 3);
    assert_int_equal(text_distance("abc", ""), 3);
    assert_int_equal(text_distance("orders", "order"), 1);
    assert_int_equal(text_distance("orders", "odrers"), 1);
    assert_int_equal(text_distance("Orders", "orders"), 0);
    assert_int_equal(text_distance("kitten", "sitting"), 3);
    char a[600], b[600];
    memset(a, 'a', sizeof a);
    memset(b, 'b', sizeof b);
    a[599] = b[599] = '\0';
    assert_int_equal(text_distance(a, b), TEXT_DISTANCE_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_bytes_become_replacement_characters),
        cmocka_unit_test(a_cut_never_splits_a_character),
        cmocka_unit_test(json_strings_are_escaped),
        cmocka_unit_test(json_is_the_same_however_it_is_cut),
        cmocka_unit_test(distances),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
