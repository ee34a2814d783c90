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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_bytes_become_replacement_characters),
        cmocka_unit_test(a_cut_never_splits_a_character),
        cmocka_unit_test(json_strings_are_escaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
