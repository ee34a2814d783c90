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

static const char *nearest(const char *given) {
    static const char *const names[] = {"orders", "border", "timeout", "batch"};
    struct text_nearest n = text_nearest_init(given);
    for (size_t i = 0; i < array_len(names); i++) text_nearest_offer(&n, names[i]);
    return n.name ? n.name : "none";
}

static void the_nearest_name(void **state) {
    (void)state;
    assert_string_equal(nearest("ordres"), "orders");
    assert_string_equal(nearest("order"), "orders"); // border is as near, and later
    assert_string_equal(nearest("TIMEOUT"), "timeout");
    assert_string_equal(nearest("bacth"), "batch");
    assert_string_equal(nearest("bxxch"), "batch"); // a third of five letters, and one more, is two
    assert_string_equal(nearest("bxxxh"), "none");
    assert_string_equal(nearest(""), "none");
    char longest[2000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_string_equal(nearest(longest), "none"); // a third of it is more than is compared
    struct text_nearest n = text_nearest_init("orders");
    assert_true(text_nearest_offer(&n, "odrers"));
    assert_false(text_nearest_offer(&n, "ordersx"));
    assert_string_equal(n.name, "odrers");
}

static void similar_names(void **state) {
    (void)state;
    size_t near = 99, far = 99;
    assert_true(text_is_similar("Berlni", "berlin", &near));
    assert_int_equal(near, 1);
    assert_true(text_is_similar("Berlin", "Europe/Berlin", &far)); // within
    assert_int_equal(far, 7);
    assert_true(text_is_similar("my-orders-2", "orders", &far));
    far = 99;
    assert_false(text_is_similar("Ber", "Europe/Berlin", &far)); // too short to be looked for within
    assert_false(text_is_similar("Bremen", "Berlin", &far));
    char longest[2000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_false(text_is_similar(longest, "orders", &far));
    assert_int_equal(far, 99);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_bytes_become_replacement_characters),
        cmocka_unit_test(a_cut_never_splits_a_character),
        cmocka_unit_test(json_strings_are_escaped),
        cmocka_unit_test(json_is_the_same_however_it_is_cut),
        cmocka_unit_test(distances),
        cmocka_unit_test(the_nearest_name),
        cmocka_unit_test(similar_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
