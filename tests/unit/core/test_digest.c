// SPDX-License-Identifier: Apache-2.0
// core/digest: known sums (FIPS 180-4's examples), RFC 4648's vectors, and refused Base64.

#include "core/digest.h"
#include "tests/support/support.h"

static void sums(void **state) {
    (void)state;
    char hex[DIGEST_HEX_BYTES];
    digest_sha256_hex(STR_NONE, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    digest_sha256_hex(STR_LIT("abc"), hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void secrets(void **state) {
    (void)state;
    assert_true(digest_equal_secret(STR_LIT("token"), STR_LIT("token")));
    assert_false(digest_equal_secret(STR_LIT("token"), STR_LIT("tokeN")));
    assert_false(digest_equal_secret(STR_LIT("token"), STR_LIT("token ")));
    assert_false(digest_equal_secret(STR_LIT("token"), STR_NONE));
    assert_true(digest_equal_secret(STR_NONE, STR_LIT("")));
}

static void base64_vectors(void **state) {
    (void)state;
    static const char *const pairs[][2] = {{"", ""},         {"f", "Zg=="},         {"fo", "Zm8="},       {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < array_len(pairs); i++) {
        struct buf b;
        struct err err;
        buf_init(&b, 100);
        assert_int_equal(base64_encode(str_of(pairs[i][0]), &b), 0);
        assert_true(str_is(buf_str(&b), pairs[i][1]));
        buf_clear(&b);
        assert_int_equal(base64_decode(str_of(pairs[i][1]), &b, &err), 0);
        assert_true(str_is(buf_str(&b), pairs[i][0]));
        buf_done(&b);
    }
}

static void base64_all_bytes(void **state) {
    (void)state;
    char bytes[256];
    for (int i = 0; i < 256; i++) bytes[i] = (char)i;
    struct buf text, back;
    struct err err;
    buf_init(&text, 1000);
    buf_init(&back, 1000);
    assert_int_equal(base64_encode((struct str){bytes, 256}, &text), 0);
    assert_int_equal(base64_decode(buf_str(&text), &back, &err), 0);
    assert_true(str_eq(buf_str(&back), (struct str){bytes, 256}));
    buf_done(&text);
    buf_done(&back);
}

static void base64_refuses(void **state) {
    (void)state;
    static const char *const wrong[] = {"Z", "Zg", "Zg=", "Zg==Zg==", "Z===", "====", "Zh==", "Zm9=", "Zm 9v", "Zm9v\n", "Zm-_", "=Zg="};
    for (size_t i = 0; i < array_len(wrong); i++) {
        struct buf b;
        struct err err;
        buf_init(&b, 100);
        if (base64_decode(str_of(wrong[i]), &b, &err) != ERR_INVALID) fail_msg("%s", wrong[i]);
        assert_int_equal(buf_len(&b), 0);
        buf_done(&b);
    }
}

static void base64_keeps_the_cap(void **state) {
    (void)state;
    struct buf b;
    struct err err;
    buf_init(&b, 4);
    assert_int_equal(base64_encode(STR_LIT("foob"), &b), ERR_TOO_LARGE);
    assert_int_equal(base64_decode(STR_LIT("Zm9vYmFy"), &b, &err), ERR_TOO_LARGE);
    assert_int_equal(buf_len(&b), 0);
    buf_done(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums),           cmocka_unit_test(secrets),        cmocka_unit_test(base64_vectors), cmocka_unit_test(base64_all_bytes),
        cmocka_unit_test(base64_refuses), cmocka_unit_test(base64_keeps_the_cap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
