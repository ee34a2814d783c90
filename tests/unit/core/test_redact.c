// SPDX-License-Identifier: Apache-2.0
#include "core/redact.h"

#include <ctype.h>
#include <stdlib.h>

#include "core/json_text.h"
#include "tests/support/support.h"

#define NAMES "password, card.number,Authorization"

static struct redact *redact_of(const char *names) {
    struct redact *r = NULL;
    struct err err = {0};
    if (redact_new(names, &r, &err)) fail_msg("%s: %s", names, err.text);
    return r;
}

// The text after masking; caller frees.
static char *masked_with(const struct redact *r, struct str text, bool *ret_masked) {
    struct buf out;
    buf_init(&out, text.len * 3);
    *ret_masked = redact_append(r, text, &out);
    if (!*ret_masked) assert_true(str_eq(buf_str(&out), text));
    if (json_text_check(text, NULL) == 0) assert_int_equal(json_text_check(buf_str(&out), NULL), 0);
    return buf_take(&out, NULL);
}

struct example {
    const char *text, *shown; // NULL: as it was
};

static void check_all(const struct example *examples, size_t count) {
    struct redact *r = redact_of(NAMES);
    for (size_t i = 0; i < count; i++) {
        const struct example *e = &examples[i];
        bool masked;
        cleanup_free char *got = masked_with(r, str_of(e->text), &masked);
        const char *wanted = e->shown ? e->shown : e->text;
        if (strcmp(got, wanted) != 0) fail_msg("%s\n became %s\n wanted %s", e->text, got, wanted);
        if (masked != (e->shown != NULL)) fail_msg("%s: says masked = %d", e->text, masked);
    }
    redact_free(r);
}

static void test_text(void **state) {
    (void)state;
    static const struct example examples[] = {
        {"password=hunter2", "password=***"},
        {"password: \"hunter2\"", "password: \"***\""},
        {"x \"password\": \"hun\\\"ter2\", y", "x \"password\": \"***\", y"},
        {"{'password': 'x', 'user': 'bob'}", "{'password': '***', 'user': 'bob'}"},
        {"{'password': b'a b', 'user': 'bob'}", "{'password': ***, 'user': 'bob'}"},
        {"{'password': 'it''s x', 'user': 'bob'}", "{'password': '***', 'user': 'bob'}"},
        {"Password = abc;", "Password = ***;"},
        {"GET /login?password=x&y=1 HTTP/1.1", "GET /login?password=***&y=1 HTTP/1.1"},
        {"body {\\\"password\\\":\\\"x\\\",\\\"user\\\":1}", "body {\\\"password\\\":\\\"***\\\",\\\"user\\\":1}"},
        {"\\\"password\\\":\\\"a\\\\\\\"b\\\", c", "\\\"password\\\":\\\"***\\\", c"},
        {"\"{\\\"password\\\":\\\"cut off\" and more", "\"{\\\"password\\\":\\\"***\" and more"},
        {"PASSWORD=hunter2 user=bob", "PASSWORD=*** user=bob"},
        {"--password=hunter2 --user=bob", "--password=*** --user=bob"},
        {"one\\npassword=x two", "one\\npassword=*** two"},
        {"a%26password=x b", "a%26password=*** b"},
        {"\x1b[36mpassword\x1b[0m=x y", "\x1b[36mpassword\x1b[0m=*** y"},
        {"DB{password=hunter2, user=bob}", "DB{password=***, user=bob}"},
        {"map[password:hunter2 user:bob]", "map[password:*** user:bob]"},
        {"map[authorization:[Bearer a.b-c] host:[x]]", "map[authorization:*** host:[x]]"},
        {"Config { password: Some(\"hunter2\"), user: 1 }", "Config { password: ***, user: 1 }"},
        {"[\"password\"]=>\n  string(7) \"hunter2\"\n  x", "[\"password\"]=>\n  ***\n  x"},
        {"    [password] => hunter2\n    [user] => bob", "    [password] => ***\n    [user] => bob"},
        {"{:password=>\"x y\", :user=>1}", "{:password=>\"***\", :user=>1}"},
        {"  \"password\": {\"a\": [1, \"}\"]}, \"user\": 1", "  \"password\": ***, \"user\": 1"},
        {"card = {'number': 4111, 'name': 'bob'}", "card = {'number': ***, 'name': 'bob'}"},
        {"card.number=4111 ok", "card.number=*** ok"},
        {"password=hun)ter2'x) next", "password=***) next"},
        {"curl -H 'Authorization: Bearer a.b-c' https://x", "curl -H 'Authorization: ***' https://x"},
        {"Host: x\r\nAuthorization: Digest a=\"b\", c=\"d\"\r\nAccept: y", "Host: x\r\nAuthorization: ***\r\nAccept: y"},
        {"password: correct horse battery\nuser: bob", "password: ***\nuser: bob"},
        {"password = correct horse; \n", "password = ***; \n"},
        {"password=\"cut off and", "password=\"***"},
        {"{\"password\":{\"a\":\"cut", "{\"password\":***"},
        {"{\"password\":\"x\"}\n{\"password\":\"y\"}\n", "{\"password\":\"***\"}\n{\"password\":\"***\"}\n"},
        {"password=\"\"", "password=\"***\""},
        {"password=p\xc3\xa4ss\xff;x", "password=***;x"},
    };
    check_all(examples, array_len(examples));
}

static void test_text_without_secrets(void **state) {
    (void)state;
    static const struct example examples[] = {
        {"", NULL},
        {"the password was wrong", NULL},
        {"KeyError: 'password'", NULL},
        {"Enter password:", NULL},
        {"Enter password: \nok", NULL},
        {"password=&user=bob", NULL},
        {"password::reset(user)", NULL},
        {"password_hash=abc", NULL},
        {"my_password=abc", NULL},
        {"Passwort=abc", NULL},
        {"telephone.numbers=12", NULL},
        {"{\"user\":\"pass\\u0077ord\", \"x\": 1.0}", NULL},
        {"\xff\xfe password \xff", NULL},
    };
    check_all(examples, array_len(examples));
}

static void test_json(void **state) {
    (void)state;
    static const struct example examples[] = {
        {"{\"password\":\"x\"}", "{\"password\":\"***\"}"},
        {" { \"a\" : [ { \"PassWord\" : 12.50 , \"b\":1e400 } ] }\n", " { \"a\" : [ { \"PassWord\" : \"***\" , \"b\":1e400 } ] }\n"},
        {"{\"pass\\u0077ord\":null,\"a\":\"\\/\"}", "{\"pass\\u0077ord\":\"***\",\"a\":\"\\/\"}"},
        {"{\"password\":{\"a\":[1,\"}]\",{}]},\"password\":[[]]}", "{\"password\":\"***\",\"password\":\"***\"}"},
        {"{\"card\":{\"number\":4111,\"name\":\"bob\"},\"number\":5}", "{\"card\":{\"number\":\"***\",\"name\":\"bob\"},\"number\":5}"},
        {"{\"a\":{\"card\":[[{\"number\":4111}],{\"number\":1}]}}", "{\"a\":{\"card\":[[{\"number\":\"***\"}],{\"number\":\"***\"}]}}"},
        {"{\"card\":{\"more\":{\"number\":5}}}", NULL},
        {"{\"card.number\":4111,\"number\":1}", "{\"card.number\":\"***\",\"number\":1}"},
        {"{\"payload.card[0]\":{\"number\":1},\"user.password\":1}", "{\"payload.card[0]\":{\"number\":\"***\"},\"user.password\":\"***\"}"},
        {"{\"my_password\":1,\"passwor\":2,\"password_\":3}", NULL},
        {"[\"--password=hunter2\",\"password\",\"x\"]", "[\"--password=***\",\"password\",\"x\"]"},
        {"\"password=x y\"", "\"password=*** y\""},
        {"{\"log\":\"a\\npassword=x\\u0020y\\n\"}", "{\"log\":\"a\\npassword=*** y\\n\"}"},
        {"{\"body\":\"{\\\"password\\\": \\\"a\\\\\\\"b\\\", \\\"c\\\": 1}\"}", "{\"body\":\"{\\\"password\\\": \\\"***\\\", \\\"c\\\": 1}\"}"},
        {"{\"a\":\"\\ud800 password=x\"}", "{\"a\":\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd password=***\"}"},
        {"[1,2]", NULL},
    };
    check_all(examples, array_len(examples));
}

static void test_strings_that_hold_json_that_holds_json(void **state) {
    (void)state;
    struct redact *r = redact_of("password");
    cleanup_free char *text = mem_strdup("{\"password\":\"s3cr3t\"}");
    for (int level = 0; level < 8; level++) {
        bool masked;
        cleanup_free char *got = masked_with(r, str_of(text), &masked);
        assert_true(masked);
        assert_null(strstr(got, "s3cr3t"));
        assert_non_null(strstr(got, "***"));
        json_t *outer = json_pack("{s:s}", "body", text);
        free(text);
        text = json_dumps(outer, 0);
        json_decref(outer);
    }
    redact_free(r);
}

static void test_our_json(void **state) {
    (void)state;
    struct redact *r = redact_of(NAMES);
    json_auto_t *value = json_loads("{\"a\":[{\"Password\":{\"x\":1}},\"password=x\",7],\"card\":[{\"number\":1}],\"b\":\"c\"}", 0, NULL);
    json_auto_t *wanted = json_loads("{\"a\":[{\"Password\":\"***\"},\"password=***\",7],\"card\":[{\"number\":\"***\"}],\"b\":\"c\"}", 0, NULL);
    assert_true(redact_json(r, value));
    assert_true(json_equal(value, wanted));
    json_auto_t *plain = json_pack("{s:s}", "password_hash", "x");
    assert_false(redact_json(r, plain));
    assert_false(redact_json(NULL, plain));
    json_auto_t *patch = json_loads("[{\"op\":\"add\",\"path\":\"/payload/card/0/number\",\"value\":4111},"
                                    "{\"op\":\"add\",\"path\":\"/payload/card\",\"value\":{\"number\":4111,\"a\":1}},"
                                    "{\"op\":\"add\",\"path\":\"/payload/number\",\"value\":4111}]", 0, NULL);
    json_auto_t *shown = json_loads("[{\"op\":\"add\",\"path\":\"/payload/card/0/number\",\"value\":\"***\"},"
                                    "{\"op\":\"add\",\"path\":\"/payload/card\",\"value\":{\"number\":\"***\",\"a\":1}},"
                                    "{\"op\":\"add\",\"path\":\"/payload/number\",\"value\":4111}]", 0, NULL);
    assert_true(redact_json(r, patch));
    assert_true(json_equal(patch, shown));
    cleanup_free char *deep = mem_alloc(4001);
    memset(deep, '[', 2000);
    memset(deep + 2000, ']', 2000);
    deep[4000] = '\0';
    json_auto_t *nest = json_loads(deep, 0, NULL);
    if (nest) redact_json(r, nest); // goes no deeper than it has room
    redact_free(r);
}

static void test_names(void **state) {
    (void)state;
    static const char *const wrong[] = {",",   "a,",    "a,,b", " ", ".a",       "a.",           "a..b",      "a*",
                                        "\"a", "a=b", "a:b",  "[0]", "a\n", "a\\b", "a\xff"};
    for (size_t i = 0; i < array_len(wrong); i++) {
        struct redact *r = NULL;
        struct err err = {0};
        if (redact_new(wrong[i], &r, &err) != ERR_INVALID || !err.text[0]) fail_msg("'%s' was taken", wrong[i]);
        assert_null(r);
    }
    struct buf many;
    struct redact *r = NULL;
    struct err err = {0};
    buf_init(&many, 4096);
    for (int i = 0; i <= REDACT_NAMES_MAX; i++) assert_int_equal(buf_printf(&many, "%sn%d", i ? "," : "", i), 0);
    cleanup_free char *names = buf_take(&many, NULL);
    assert_int_equal(redact_new(names, &r, &err), ERR_INVALID);
    assert_null(redact_of(""));
    assert_null(redact_of(NULL));
}

static void test_nothing_to_mask(void **state) {
    (void)state;
    bool masked;
    cleanup_free char *got = masked_with(NULL, STR_LIT("password=x"), &masked);
    assert_string_equal(got, "password=x");
    assert_false(redact_is_secret(NULL, STR_LIT("password")));
    assert_false(redact_is_secret_path(NULL, &STR_LIT("password"), 1));
    redact_free(NULL);
}

static void test_headers_and_paths(void **state) {
    (void)state;
    struct redact *r = redact_of(NAMES);
    assert_true(redact_is_secret(r, STR_LIT("authorization")));
    assert_true(redact_is_secret(r, STR_LIT("PASSWORD")));
    assert_true(redact_is_secret(r, STR_LIT("card.number")));
    assert_false(redact_is_secret(r, STR_LIT("number")));
    assert_false(redact_is_secret(r, STR_LIT("passwor")));
    static const char *const written[] = {"payload.card.number", "payload.card[12].number", "/payload/card/0/number", "payload.card[\"number\"]"};
    for (size_t i = 0; i < array_len(written); i++) assert_true(redact_is_secret(r, str_of(written[i])));
    const struct str path[] = {STR_LIT("a"), STR_LIT("card"), STR_LIT("0"), STR_LIT("Number"), STR_LIT("x")};
    assert_false(redact_is_secret_path(r, path, 0));
    assert_false(redact_is_secret_path(r, path, 3));
    assert_true(redact_is_secret_path(r, path, 4));
    assert_true(redact_is_secret_path(r, path, 5)); // inside a masked value
    const struct str other[] = {STR_LIT("card"), STR_LIT("a"), STR_LIT("number")};
    assert_false(redact_is_secret_path(r, other, 3));
    redact_free(r);
}

// ---- properties ----------------------------------------------------------------------------------------------------------------

#define SECRET "s3cr3t"
#define ROUNDS 20000

static unsigned random_to(unsigned *seed, unsigned below) {
    return (unsigned)rand_r(seed) % below;
}

static void put(struct buf *b, const char *text) {
    assert_int_equal(buf_append(b, str_of(text)), 0);
}

// A letter for a letter, so that the names match without regard to case.
static void put_name(struct buf *b, const char *name, unsigned *seed) {
    for (; *name; name++) {
        char c = random_to(seed, 2) ? (char)toupper((unsigned char)*name) : *name;
        assert_int_equal(buf_append(b, (struct str){&c, 1}), 0);
    }
}

static const char *any_noise(unsigned *seed) {
    static const char *const noise[] = {"user=bob ", "\"a\": 1, ", "it's ", "{", "}", "[", "]", "(", ")", "\\", "\\\"", "\n", " ", ", ", "=", ":", "password is ",
                                        "\xc3\xa4", "\xff", "&", "'a' ", "\"b\" ", "x", "\x1b[1m"};
    return noise[random_to(seed, array_len(noise))];
}

static void put_noise(struct buf *b, unsigned *seed) {
    for (unsigned i = random_to(seed, 6); i > 0; i--) put(b, any_noise(seed));
}

static void put_planted(struct buf *b, unsigned *seed) {
    static const char *const shapes[] = {"%=" SECRET " ",         "\"%\": \"" SECRET "\"",   "'%': 'a\\'" SECRET "'",         "% = " SECRET "\n",
                                         "?%=" SECRET "&a=1",     "\\\"%\\\":\\\"a\\\\\\\"" SECRET "\\\"", "%: " SECRET "\n", "[%] => " SECRET "\n",
                                         "\"%\":{\"a\":\"" SECRET "\"}", "--%=" SECRET " ",  "%=f('" SECRET "')",            "\"%\" : [1, " SECRET "]"};
    const char *name = random_to(seed, 2) ? "password" : "number", *shape = shapes[random_to(seed, array_len(shapes))];
    for (; *shape; shape++) {
        if (*shape == '%') put_name(b, name, seed);
        else assert_int_equal(buf_append(b, (struct str){shape, 1}), 0);
    }
}

static void test_planted_secrets_never_appear_in_text(void **state) {
    (void)state;
    struct redact *r = redact_of(NAMES);
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned seed = round;
        struct buf text;
        buf_init(&text, 4096);
        for (int i = 0; i < 3; i++) {
            put_noise(&text, &seed);
            put(&text, " ");
            put_planted(&text, &seed);
        }
        put_noise(&text, &seed);
        bool masked;
        cleanup_free char *got = masked_with(r, buf_str(&text), &masked);
        if (strstr(got, SECRET)) fail_msg("round %u: %.*s\n became %s", round, STR_ARG(buf_str(&text)), got);
        assert_true(masked);
        buf_done(&text);
    }
    redact_free(r);
}

static json_t *any_json(unsigned *seed, unsigned depth, bool *ret_planted);

static json_t *any_object(unsigned *seed, unsigned depth, bool *ret_planted) {
    json_t *object = json_object();
    for (unsigned i = random_to(seed, 4); i > 0; i--) {
        char name[] = "m0";
        name[1] = (char)('0' + i);
        json_object_set_new(object, name, any_json(seed, depth + 1, ret_planted));
    }
    if (random_to(seed, 4) == 0) {
        json_object_set_new(object, "passWord", json_pack(random_to(seed, 2) ? "s" : "[s]", "\"\\" SECRET "\n"));
        *ret_planted = true;
    }
    return object;
}

// A body as a string.
static json_t *any_envelope(unsigned *seed, unsigned depth, bool *ret_planted) {
    json_auto_t *body = any_object(seed, depth + 1, ret_planted);
    cleanup_free char *text = json_dumps(body, random_to(seed, 2) ? JSON_COMPACT : JSON_INDENT(2));
    return json_string(text);
}

static json_t *any_json(unsigned *seed, unsigned depth, bool *ret_planted) {
    switch (random_to(seed, depth > 5 ? 3 : 6)) {
    case 0: return json_integer(rand_r(seed));
    case 1: return json_string("a \"quoted\" \\ text\n");
    case 2: return random_to(seed, 2) ? json_null() : json_string("password");
    case 3: return json_pack("[o,i]", any_json(seed, depth + 1, ret_planted), 1);
    case 4: return any_envelope(seed, depth, ret_planted);
    default: return any_object(seed, depth, ret_planted);
    }
}

static void test_planted_secrets_never_appear_in_json(void **state) {
    (void)state;
    struct redact *r = redact_of("x,password");
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned seed = round;
        bool planted = false, masked;
        json_auto_t *value = any_object(&seed, 0, &planted);
        cleanup_free char *text = json_dumps(value, random_to(&seed, 2) ? JSON_COMPACT : JSON_INDENT(1));
        cleanup_free char *got = masked_with(r, str_of(text), &masked); // which also sees that it is JSON
        if (strstr(got, SECRET) || masked != planted) fail_msg("round %u: %s\n became %s", round, text, got);
        assert_int_equal(redact_json(r, value), planted);
        json_auto_t *again = json_loads(got, 0, NULL);
        assert_true(json_equal(again, value));
    }
    redact_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_text_without_secrets),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_strings_that_hold_json_that_holds_json),
        cmocka_unit_test(test_our_json),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_nothing_to_mask),
        cmocka_unit_test(test_headers_and_paths),
        cmocka_unit_test(test_planted_secrets_never_appear_in_text),
        cmocka_unit_test(test_planted_secrets_never_appear_in_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
