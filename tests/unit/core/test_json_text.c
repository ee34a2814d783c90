// SPDX-License-Identifier: Apache-2.0
#include "core/json_text.h"

#include <jansson.h>

#include "tests/support/support.h"

static void good(const char *text) {
    struct err err = {0};
    if (json_text_check(str_of(text), &err)) fail_msg("%s: %s", text, err.text);
}

// at: the byte, from 1, that the error names
static void bad(struct str text, size_t at) {
    struct err err = {0};
    char place[40];
    snprintf(place, sizeof place, "at byte %zu: ", at);
    if (json_text_check(text, &err) == 0) fail_msg("%.*s is taken for JSON", STR_ARG(text));
    assert_int_equal(err.code, ERR_INVALID);
    if (!strstr(err.text, place)) fail_msg("%.*s: %s", STR_ARG(text), err.text);
}

static char *levels(size_t count) {
    char *text = mem_alloc(2 * count + 1);
    memset(text, '[', count);
    memset(text + count, ']', count);
    text[2 * count] = '\0';
    return text;
}

static char *repeat(const char *before, char c, size_t count, const char *after) {
    char *text = mem_alloc(strlen(before) + count + strlen(after) + 1);
    memcpy(text, before, strlen(before));
    memset(text + strlen(before), c, count);
    memcpy(text + strlen(before) + count, after, strlen(after) + 1);
    return text;
}

// ---- is it JSON ------------------------------------------------------------------------------------------------------------

static void test_check_accepts(void **state) {
    (void)state;
    const char *const texts[] = {
        "0", "-0", "1.5e+10", "1E-999999999999", "\"\"", "null", "true", "false", "{}", "[]", " \t\r\n[ ] ", "[1,[2,{}],\"x\"]",
        "{\"a\":{\"b\":[{}]},\"a\":1,\"\":2}", "\"\\u0000 \\ud800 \\\\ \\\" \\/ \\b\\f\\n\\r\\t\"", "\"\x7f\"", "\"h\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80\"",
        "{ \"a\" : 1 , \"b\" : [ 1 , 2 ] }", "\"12345678\"", "\"1234567\\n\"",
    };
    for (size_t i = 0; i < array_len(texts); i++) good(texts[i]);
}

static void test_check_refuses_with_the_place(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t at;
    } cases[] = {
        {"", 1}, {"  ", 3}, {"nul", 1}, {"nulL", 1}, {"True", 1}, {"01", 2}, {"-", 2}, {"+1", 1}, {".5", 1}, {"1.", 3}, {"1.e5", 3},
        {"1e", 3}, {"1e+", 4}, {"0x10", 2}, {"NaN", 1}, {"-Infinity", 2}, {"'a'", 1}, {"\"a", 3}, {"\"a\tb\"", 3}, {"\"12345678\x01\"", 10},
        {"\"\\x\"", 2}, {"\"\\u12g4\"", 2}, {"\"\\u123", 2}, {"\"\\", 2}, {"[1,]", 4}, {"[1 2]", 4}, {"[1", 3}, {"[,1]", 2}, {"]", 1}, {"[}", 2},
        {"[1}", 3}, {"{\"a\":1]", 7}, {"{\"a\":1,}", 8}, {"{\"a\"}", 5}, {"{\"a\":}", 6}, {"{a:1}", 2}, {"{1:1}", 2}, {"{\"a\" 1}", 6},
        {"{\"a\":1 \"b\":2}", 8}, {"{,}", 2}, {"1 2", 3}, {"{} x", 4}, {"[1]]", 4}, {"/*c*/1", 1}, {"\xef\xbb\xbf""1", 1}, {"\xa0""1", 1},
        {"\"12345678\xff\"", 2}, {"\"\xc0\x80\"", 2}, {"\"\xed\xa0\x80\"", 2}, {"[\"ok\",\"\xe4\xb8\"]", 8}, {"\v1", 1},
        {"[\"\xff\", 1, 2, 3]", 3},
    };
    for (size_t i = 0; i < array_len(cases); i++) bad(str_of(cases[i].text), cases[i].at);
    bad((struct str){"1\0", 2}, 2);
    bad((struct str){"\"a\0b\"", 5}, 3);
    bad((struct str){"[\0]", 3}, 2);
    bad(STR_NONE, 1);
}

static void test_check_counts_levels(void **state) {
    (void)state;
    cleanup_free char *most = levels(JSON_TEXT_DEPTH), *more = levels(JSON_TEXT_DEPTH + 1);
    good(most);
    bad(str_of(more), JSON_TEXT_DEPTH + 1);
}

// The text ends at the end of its memory, wherever it is cut.
static void test_check_reads_nothing_behind_the_end(void **state) {
    (void)state;
    const char *text = "{\"name\\u00e9\": [-1.5e+10, true, \"h\xc3\xa9 there, long enough\", null], \"z\": {}}";
    for (size_t len = 0; len < strlen(text); len++) {
        char *exact = malloc(len ? len : 1);
        memcpy(exact, text, len);
        assert_int_equal(json_text_check((struct str){exact, len}, NULL), ERR_INVALID);
        free(exact);
    }
}

static uint64_t random_state;

static unsigned random_below(unsigned n) { // xorshift
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 11) % n;
}

// Pieces that make JSON, or nearly, when they are put one behind the other.
static struct str random_text(struct buf *out) {
    static const char *const pieces[] = {"{", "}", "[", "]", ",", ":", "\"a\":", "\"b\":", "\"a\"", "\"\\u00e9\\n\"", "\"\xc3\xa9\"", "\"\xc3\"", "1", "-2.5",
                                         "1e5", "0", "01", "true", "null", " ", "\n", "\"", "\\", "\"\\u0000\"", "\"\\ud83d\\ude00\"", "x", "\t", "-", "false"};
    buf_clear(out);
    for (unsigned n = 1 + random_below(8); n; n--) assert_int_equal(buf_append(out, str_of(pieces[random_below(array_len(pieces))])), 0);
    return buf_str(out);
}

static void test_check_agrees_with_jansson(void **state) {
    (void)state;
    struct buf text;
    buf_init(&text, 4096);
    random_state = 42;
    unsigned both = 0;
    for (int i = 0; i < 300000; i++) {
        struct str s = random_text(&text);
        json_error_t why;
        json_t *j = json_loadb(s.data, s.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
        // jansson has no room for such numbers and names
        if (!j && (json_error_code(&why) == json_error_numeric_overflow || json_error_code(&why) == json_error_null_byte_in_key)) continue;
        if ((j != NULL) != (json_text_check(s, NULL) == 0)) fail_msg("%.*s: jansson: %s", STR_ARG(s), j ? "yes" : why.text);
        both += j != NULL;
        json_decref(j);
    }
    assert_true(both > 3000);
    buf_done(&text);
}

// ---- does a database take it -----------------------------------------------------------------------------------------------

static void test_queryable_names(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool yes, plain;
    } cases[] = {
        {"{\"a\":1,\"b\":{\"a\":1},\"c\":[{\"a\":1},{\"a\":{\"a\":\"a\"}}],\"\":0}", true, true}, {"[1,1]", true, true}, {"\"a\"", true, true},
        {"{\"a\":1,\"a\":1}", true, false}, {" [0,{\"b\":{\"a\":{\"b\":1},\"c\":2,\"a\":3}}]", true, false}, {"{\"\":1,\"\":2}", true, false},
        {"{\"a\":{\"b\":1},\"b\":{\"c\":1},\"a\":2}", true, false}, {"{\"\\u0061\":1}", true, false}, {"{\"x\\u0020y\":1}", true, false},
        {"{\"\xc3\xa9\":1,\"\\u00e9\":2}", true, false}, {"{\"\\u00e9\":1,\"\\n\":2,\"\\/\":3,\"\\\"\":4,\"\\ud83d\\ude00\":5}", true, true},
        {"{\"\\/\":1,\"/\":2}", true, false}, {"{\"a\":1,\"a\":1", false, true}, {"{\"\\u0000\":1}", false, true}, {"", false, true},
    };
    for (size_t i = 0; i < array_len(cases); i++) {
        bool plain = true;
        bool yes = json_text_queryable_names(str_of(cases[i].text), &plain);
        if (yes != cases[i].yes || plain != cases[i].plain) fail_msg("%s", cases[i].text);
    }
    struct buf many; // of one object, and one of each of many
    buf_init(&many, JSON_TEXT_QUERYABLE_MAX);
    for (int i = 0; i < 50000; i++) MUST(buf_printf(&many, "%c\"%d\":[{\"0\":0}]", i ? ',' : '{', i) == 0);
    MUST(buf_append(&many, STR_LIT("}")) == 0);
    bool plain = false;
    assert_true(json_text_queryable_names(buf_str(&many), &plain) && plain);
    buf_done(&many);
}

static void test_queryable(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool yes;
    } cases[] = {
        {"{\"a\":[1,-2.5e10,\"\\u00e9\",null]}", true}, {"{\"a\":", false}, {"", false}, {"1e4000", true}, {"1e-4000", true}, {"1E+0004000", true},
        {"1e4001", false}, {"1e-4001", false}, {"1e99999999999999999999", false}, {"\"\\u0001\"", true}, {"\"\\u0000\"", false},
        {"{\"\\u0000\":1}", false}, {"\"\\\\u0000\"", true}, {"\"\\ud83d\\ude00\"", true}, {"\"\\uD83D\\uDE00\"", true}, {"\"\\ud83d\"", false},
        {"\"\\ude00\"", false}, {"\"\\ud83dx\\ude00\"", false}, {"\"\\ud83d\\ud83d\\ude00\"", false}, {"\"\\ud83d\\n\"", false}, {"\"\\ud83d\\u0041\"", false},
        {"\"\\ude00\\ud83d\"", false},
    };
    for (size_t i = 0; i < array_len(cases); i++)
        if (json_text_is_queryable(str_of(cases[i].text)) != cases[i].yes) fail_msg("%s", cases[i].text);
    cleanup_free char *most_digits = repeat("", '9', 400, ""), *more_digits = repeat("", '9', 401, ""), *more_small = repeat("-0.", '9', 398, "");
    cleanup_free char *most_levels = levels(128), *more_levels = levels(129);
    cleanup_free char *most_bytes = repeat("\"", 'x', 1024 * 1024 - 2, "\""), *more_bytes = repeat("\"", 'x', 1024 * 1024 - 1, "\"");
    assert_true(json_text_is_queryable(str_of(most_digits)));
    assert_false(json_text_is_queryable(str_of(more_digits)));
    assert_false(json_text_is_queryable(str_of(more_small)));
    assert_true(json_text_is_queryable(str_of(most_levels)));
    assert_false(json_text_is_queryable(str_of(more_levels)));
    assert_true(json_text_is_queryable(str_of(most_bytes)));
    assert_false(json_text_is_queryable(str_of(more_bytes)));
}

// ---- find ------------------------------------------------------------------------------------------------------------------

static void found(const char *text, const char *path, const char *value) {
    struct str got;
    struct err err = {0};
    if (json_text_find(str_of(text), str_of(path), &got, &err)) fail_msg("%s in %s: %s", path, text, err.text);
    if (!str_is(got, value)) fail_msg("%s in %s: %.*s", path, text, STR_ARG(got));
}

static void not_found(const char *text, const char *path, enum err_code code, const char *why) {
    struct str got;
    struct err err = {0};
    assert_int_equal(json_text_find(str_of(text), str_of(path), &got, &err), code);
    if (!strstr(err.text, why)) fail_msg("%s in %s: %s", path, text, err.text);
}

static void test_find(void **state) {
    (void)state;
    found(" {\"a\": 1.50 } ", "", "{\"a\": 1.50 }");
    found(" {\"a\": 1.50 } ", "/a", "1.50");
    found("{\"items\":[{\"sku\":\"x\"}, {\"sku\" : \"y\"}]}", "/items/1/sku", "\"y\"");
    found("{\"\":{\"\":7}}", "//", "7");
    found("{\"a/b\":1,\"m~n\":2,\"~1\":3}", "/a~1b", "1");
    found("{\"a/b\":1,\"m~n\":2,\"~1\":3}", "/m~0n", "2");
    found("{\"a/b\":1,\"m~n\":2,\"~1\":3}", "/~01", "3");
    found("{\"\\u0061\\/\\n\":1}", "/a~1\n", "1");
    found("{\"\\ud83d\\ude00\":1}", "/\xf0\x9f\x98\x80", "1");
    found("{\"\\u00e9\":1}", "/\xc3\xa9", "1");
    found("{\"a\":1,\"b\":2,\"\\u0061\":3}", "/a", "3");
    found("{\"a\":{\"x\":1},\"a\":{\"y\":2}}", "/a/y", "2");
    found("{\"0\":[5]}", "/0/0", "5");
}

static void test_find_says_what_is_missing(void **state) {
    (void)state;
    not_found("{\"a\":{\"x\":1},\"a\":{\"y\":2}}", "/a/x", ERR_NOT_FOUND, "no member \"x\"");
    not_found("{\"a\":1}", "/A", ERR_NOT_FOUND, "no member \"A\"");
    not_found("{\"ab\":1}", "/a", ERR_NOT_FOUND, "no member \"a\"");
    not_found("{\"\\u0061\":1}", "/ab", ERR_NOT_FOUND, "no member \"ab\"");
    not_found("{\"a\":1}", "/a/b", ERR_NOT_FOUND, "no object or array");
    not_found("[1,2]", "/2", ERR_NOT_FOUND, "the array has 2 members");
    not_found("[1]", "/18446744073709551616", ERR_NOT_FOUND, "the array has 1 member");
    not_found("[1,2]", "/01", ERR_NOT_FOUND, "no index");
    not_found("[1,2]", "/-", ERR_NOT_FOUND, "no index");
    not_found("[1,2]", "/1x", ERR_NOT_FOUND, "no index");
    not_found("{\"a\":1}", "a", ERR_INVALID, "begins with /");
    not_found("{\"a\":1}", "/~2", ERR_INVALID, "~");
    not_found("{\"a\":1}", "/a~", ERR_INVALID, "~");
    char odd[101] = "/"; // what no name is shortened to
    memset(odd + 1, 0xae, 99);
    not_found("{}", odd, ERR_NOT_FOUND, "no member \"\xef\xbf\xbd\xef");
    not_found("{\"a\":1} x", "/a", ERR_INVALID, "byte 9");
}

// ---- changes ---------------------------------------------------------------------------------------------------------------

typedef int change_fn(struct str text, struct str path, struct str value, struct buf *out, struct err *err);

static int remove_it(struct str text, struct str path, struct str value, struct buf *out, struct err *err) {
    (void)value;
    return json_text_remove(text, path, out, err);
}

static void becomes(change_fn *fn, const char *text, const char *path, const char *value, const char *expected) {
    struct buf out;
    struct err err = {0};
    buf_init(&out, 4096);
    if (fn(str_of(text), str_of(path), str_of(value), &out, &err)) fail_msg("%s in %s: %s", path, text, err.text);
    if (!str_is(buf_str(&out), expected)) fail_msg("%s in %s: %.*s", path, text, STR_ARG(buf_str(&out)));
    buf_done(&out);
}

static void refuses(change_fn *fn, const char *text, const char *path, const char *value, enum err_code code, const char *why) {
    struct buf out;
    struct err err = {0};
    buf_init(&out, 4096);
    assert_int_equal(buf_append(&out, STR_LIT("before")), 0);
    assert_int_equal(fn(str_of(text), str_of(path), str_of(value), &out, &err), code);
    if (!strstr(err.text, why)) fail_msg("%s in %s: %s", path, text, err.text);
    assert_true(str_is(buf_str(&out), "before"));
    buf_done(&out);
}

static void test_set(void **state) {
    (void)state;
    becomes(json_text_set, " { \"n\" : 1.000 , \"b\":12345678901234567890123 } ", "/n", " [2] ", " { \"n\" : [2] , \"b\":12345678901234567890123 } ");
    becomes(json_text_set, "{\"a\":1,\"\\u0061\":2}", "/a", "3", "{\"a\":1,\"\\u0061\":3}");
    becomes(json_text_set, "{ \"a\":1 }", "/b", "2", "{ \"a\":1,\"b\":2 }");
    becomes(json_text_set, "{ }", "/b", "2", "{\"b\":2 }");
    becomes(json_text_set, "{}", "/q\"\\\n\x01~1", "2", "{\"q\\\"\\\\\\u000a\\u0001/\":2}");
    becomes(json_text_set, "[1, 2]", "/0", "9", "[9, 2]");
    becomes(json_text_set, "[1, 2]", "/2", "9", "[1, 2,9]");
    becomes(json_text_set, "[1, 2]", "/-", "9", "[1, 2,9]");
    becomes(json_text_set, "[]", "/0", "9", "[9]");
    becomes(json_text_set, "{\"-\":1}", "/-", "9", "{\"-\":9}");
    becomes(json_text_set, " 7 ", "", "{}", " {} ");
    becomes(json_text_set, "{\"a\":[{\"b\":0}]}", "/a/0/b", "1e400", "{\"a\":[{\"b\":1e400}]}");
}

static void test_insert(void **state) {
    (void)state;
    becomes(json_text_insert, "[1, 2]", "/0", "9", "[9,1, 2]");
    becomes(json_text_insert, "[1, 2]", "/1", "9", "[1,9, 2]");
    becomes(json_text_insert, "[1, 2]", "/2", "9", "[1, 2,9]");
    becomes(json_text_insert, "[1, 2]", "/-", "9", "[1, 2,9]");
    becomes(json_text_insert, "{\"a\":1}", "/a", "9", "{\"a\":9}");
    becomes(json_text_insert, "{\"a\":1}", "", "9", "9");
}

static void test_remove(void **state) {
    (void)state;
    becomes(remove_it, "{ \"a\":1 , \"b\":2 , \"c\":3 }", "/a", "", "{ \"b\":2 , \"c\":3 }");
    becomes(remove_it, "{ \"a\":1 , \"b\":2 , \"c\":3 }", "/b", "", "{ \"a\":1 , \"c\":3 }");
    becomes(remove_it, "{ \"a\":1 , \"b\":2 , \"c\":3 }", "/c", "", "{ \"a\":1 , \"b\":2 }");
    becomes(remove_it, "{ \"a\":1 }", "/a", "", "{  }");
    becomes(remove_it, "[1, 2, 3]", "/0", "", "[2, 3]");
    becomes(remove_it, "[1, 2, 3]", "/1", "", "[1, 3]");
    becomes(remove_it, "[1, 2, 3]", "/2", "", "[1, 2]");
    becomes(remove_it, "[1]", "/0", "", "[]");
    // A name that stands there twice is gone afterwards.
    becomes(remove_it, "{\"a\":1,\"b\":2,\"\\u0061\":3,\"a\":4}", "/a", "", "{\"b\":2}");
    becomes(remove_it, "{\"b\":1, \"a\":2, \"c\":3, \"a\":4}", "/a", "", "{\"b\":1, \"c\":3}");
    becomes(remove_it, "{\"a\":1,\"a\":4}", "/a", "", "{}");
    becomes(remove_it, "{\"o\":{\"a\":1},\"o\":{\"a\":2}}", "/o/a", "", "{\"o\":{\"a\":1},\"o\":{}}");
}

static void test_changes_are_refused(void **state) {
    (void)state;
    refuses(json_text_set, "[1,2]", "/3", "9", ERR_NOT_FOUND, "the array has 2 members");
    refuses(json_text_set, "[1,2]", "/x", "9", ERR_NOT_FOUND, "no index");
    refuses(json_text_set, "{\"a\":1}", "/a/b", "9", ERR_NOT_FOUND, "no object or array");
    refuses(json_text_set, "{\"a\":1}", "/x/b", "9", ERR_NOT_FOUND, "no member \"x\"");
    refuses(json_text_set, "{\"a\":1}", "/a", "9 9", ERR_INVALID, "the value is not JSON at byte 3");
    refuses(json_text_set, "{\"a\":1", "/a", "9", ERR_INVALID, "byte 7");
    refuses(json_text_set, "{}", "/\xff", "9", ERR_INVALID, "UTF-8");
    refuses(json_text_insert, "[1,2]", "/3", "9", ERR_NOT_FOUND, "the array has 2 members");
    refuses(remove_it, "[1,2]", "/2", "", ERR_NOT_FOUND, "the array has");
    refuses(remove_it, "[1,2]", "/-", "", ERR_NOT_FOUND, "the array has");
    refuses(remove_it, "{\"a\":1}", "/b", "", ERR_NOT_FOUND, "no member \"b\"");
    refuses(remove_it, "{\"a\":1}", "", "", ERR_INVALID, "the whole");
}

static void test_changes_keep_to_the_levels(void **state) {
    (void)state;
    cleanup_free char *deep = levels(JSON_TEXT_DEPTH - 1);
    struct buf out;
    buf_init(&out, 4096);
    assert_int_equal(json_text_set(STR_LIT("[0]"), STR_LIT("/0"), str_of(deep), &out, NULL), 0);
    assert_int_equal(json_text_check(buf_str(&out), NULL), 0);
    assert_int_equal(json_text_insert(STR_LIT("[[0]]"), STR_LIT("/0/0"), str_of(deep), &out, NULL), ERR_TOO_LARGE);
    buf_done(&out);
}

// A value that is put in and taken out again leaves no trace, whatever the blanks are.
static void test_remove_undoes_insert(void **state) {
    (void)state;
    static const char *const texts[] = {"[1, 2 ,3 ]", "[ ]", "[ 1]", "[\n1,\n2\n]"};
    static const char *const paths[] = {"/0", "/1", "/2", "/3"};
    for (size_t i = 0; i < array_len(texts); i++) {
        for (size_t k = 0; k < array_len(paths); k++) {
            struct buf more, back;
            buf_init(&more, 4096);
            buf_init(&back, 4096);
            if (json_text_insert(str_of(texts[i]), str_of(paths[k]), STR_LIT("9"), &more, NULL) == 0) {
                assert_int_equal(json_text_remove(buf_str(&more), str_of(paths[k]), &back, NULL), 0);
                if (!str_is(buf_str(&back), texts[i])) fail_msg("%s in %s: %.*s", paths[k], texts[i], STR_ARG(buf_str(&back)));
            }
            buf_done(&more);
            buf_done(&back);
        }
    }
}

static void test_a_full_buffer_stays_as_it_was(void **state) {
    (void)state;
    const char *text = "{\"a\":1,\"b\":[1,2]}";
    for (size_t cap = 6; cap < 6 + strlen(text) + 3; cap++) {
        struct buf out;
        buf_init(&out, cap);
        assert_int_equal(buf_append(&out, STR_LIT("before")), 0);
        assert_int_equal(json_text_set(str_of(text), STR_LIT("/b/0"), STR_LIT("1234"), &out, NULL), ERR_TOO_LARGE);
        assert_true(str_is(buf_str(&out), "before"));
        buf_done(&out);
    }
}

// ---- equality --------------------------------------------------------------------------------------------------------------

static void test_equal(void **state) {
    (void)state;
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        {"1", "1.0", true}, {"1e2", "100", true}, {"100", "1E+0002", true}, {"0.001", "1e-3", true}, {"-0", "0", true}, {"0e5", "0.00", true},
        {"12.50", "1.25e1", true}, {"1200", "12e2", true}, {"1", "-1", false}, {"1", "10", false}, {"0.1", "0.01", false}, {"10.1", "1.01", false},
        {"12345678901234567890123", "12345678901234567890124", false}, {"12345678901234567890123", "1.2345678901234567890123e22", true},
        {"0.1", "0.10000000000000000555", false}, {"1e400", "1e401", false}, {"10e400", "1e401", true},
        {"1e99999999999999999999", "1e99999999999999999999", true}, {"1e99999999999999999999", "1e99999999999999999998", false},
        {"1e99999999999999999999", "1.0e+99999999999999999999", true}, {"1e99999999999999999999", "1e-99999999999999999999", false},
        {"1e18446744073709551616", "1", false},
        {"1", "\"1\"", false}, {"true", "false", false}, {"null", "null", true}, {"null", "0", false}, {"[]", "{}", false}, {"1", "true", false},
        {"\"a\"", "\"\\u0061\"", true}, {"\"a\\/b\"", "\"a/b\"", true}, {"\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\"", true}, {"\"a\"", "\"ab\"", false},
        {"\"\\u0000\"", "\"\"", false}, {"\"\\n\"", "\"\\u000A\"", true}, {"\"\\ud83d\"", "\"\\ude00\"", false},
        {"[1,2]", " [ 1.0 , 2 ] ", true}, {"[1,2]", "[2,1]", false}, {"[1,2]", "[1]", false}, {"[1]", "[1,2]", false}, {"[]", "[]", true},
        {"{\"a\":1,\"b\":2}", "{\"b\":2,\"\\u0061\":1}", true}, {"{\"a\":1}", "{\"a\":1,\"b\":2}", false}, {"{\"a\":1}", "{\"b\":1}", false},
        {"{\"a\":9,\"a\":1}", "{\"a\":1}", true}, {"{\"a\":1,\"a\":9}", "{\"a\":1}", false}, {"{\"a\":1,\"a\":2}", "{\"a\":2,\"b\":1}", false},
        {"{\"a\":{\"x\":[1,{}]}}", "{\"a\":{\"x\":[1e0,{ }]}}", true}, {"{\"a\":{\"x\":[1,{}]}}", "{\"a\":{\"x\":[1,[]]}}", false}, {"1", "x", false},
    };
    for (size_t i = 0; i < array_len(cases); i++) {
        struct str a = str_of(cases[i].a), b = str_of(cases[i].b);
        if (json_text_equal(a, b) != cases[i].same) fail_msg("%s and %s", cases[i].a, cases[i].b);
        assert_int_equal(json_text_equal(b, a), cases[i].same);
    }
    cleanup_free char *a = levels(JSON_TEXT_DEPTH), *b = levels(JSON_TEXT_DEPTH);
    assert_true(json_text_equal(str_of(a), str_of(b)));
}

// ---- members ---------------------------------------------------------------------------------------------------------------

static bool note_member(void *arg, struct str name, struct str value) {
    assert_int_equal(buf_printf(arg, "%.*s=%.*s;", STR_ARG(name), STR_ARG(value)), 0);
    return !str_is(name, "closed");
}

static bool note_item(void *arg, struct str value) {
    assert_int_equal(buf_printf(arg, "%.*s;", STR_ARG(value)), 0);
    return !str_is(value, "\"end\"");
}

static void test_members_and_items(void **state) {
    (void)state;
    struct buf seen;
    buf_init(&seen, 4096);
    json_text_members(STR_LIT(" {\"a\" : {\"\\u0062\": 1},\"l\":[[{\"c\":2}],3],\"closed\":{\"d\":4},\"a\":5} "), note_member, &seen);
    json_text_items(STR_LIT(" [ 1 ,[2,3],\"end\", 4] "), note_item, &seen);
    json_text_members(STR_LIT("3"), note_member, &seen);
    json_text_members(STR_LIT("[1,\"x\"]"), note_member, &seen);
    json_text_members(STR_LIT("{ }"), note_member, &seen);
    json_text_items(STR_LIT("{\"a\":1}"), note_item, &seen);
    json_text_items(STR_LIT("[ ]"), note_item, &seen);
    assert_true(str_is(buf_str(&seen), "a={\"\\u0062\": 1};\\u0062=1;l=[[{\"c\":2}],3];c=2;closed={\"d\":4};a=5;1;[2,3];\"end\";"));
    buf_done(&seen);
}

static void test_quote(void **state) {
    (void)state;
    struct buf out;
    buf_init(&out, 64);
    assert_int_equal(json_text_quote((struct str){"a\"b\\\n\0\x7f\xc3\xa9", 9}, &out), 0);
    assert_true(str_is(buf_str(&out), "\"a\\\"b\\\\\\u000a\\u0000\x7f\xc3\xa9\""));
    buf_done(&out);
}

static void test_unescape(void **state) {
    (void)state;
    struct buf out;
    buf_init(&out, 64);
    assert_int_equal(json_text_unescape(STR_LIT("a\\u0041\\n\\/\\\"\\ud83d\\ude00\\u00e9\xc3\xa9\\ud83d"), &out), 0);
    assert_true(str_is(buf_str(&out), "aA\n/\"\xf0\x9f\x98\x80\xc3\xa9\xc3\xa9\xed\xa0\xbd"));
    buf_done(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_accepts),
        cmocka_unit_test(test_check_refuses_with_the_place),
        cmocka_unit_test(test_check_counts_levels),
        cmocka_unit_test(test_check_reads_nothing_behind_the_end),
        cmocka_unit_test(test_check_agrees_with_jansson),
        cmocka_unit_test(test_queryable),
        cmocka_unit_test(test_queryable_names),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_find_says_what_is_missing),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_insert),
        cmocka_unit_test(test_remove),
        cmocka_unit_test(test_changes_are_refused),
        cmocka_unit_test(test_changes_keep_to_the_levels),
        cmocka_unit_test(test_remove_undoes_insert),
        cmocka_unit_test(test_a_full_buffer_stays_as_it_was),
        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_members_and_items),
        cmocka_unit_test(test_quote),
        cmocka_unit_test(test_unescape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
