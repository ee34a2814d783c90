// SPDX-License-Identifier: Apache-2.0
// What json_text_is_queryable says yes to, both stores take as JSON: a letter would else not be written.
#include "core/json_text.h"

#include "tests/support/store_fixture.h"

static uint64_t random_state;

static unsigned random_below(unsigned n) { // xorshift
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 11) % n;
}

static int take(void *arg, struct sql *sql, struct err *err) {
    const struct str *text = arg;
    struct sql_value value = SQL_B(*text);
    int64_t yes = 0;
    int rc = sql_exec(sql, sql_is_postgres(sql) ? "SELECT CASE WHEN jsonb_typeof(convert_from($1, 'UTF8')::jsonb) <> '' THEN 1 ELSE 0 END"
                                                : "SELECT json_valid(CAST($1 AS TEXT))",
                      &value, 1, read_int, &yes, NULL, err);
    return rc || yes ? rc : err_set(err, ERR_INVALID, "not JSON");
}

static void taken(struct store_fixture *fx, struct str text) {
    assert_true(json_text_is_queryable(text));
    if (call(fx, take, &text)) fail_msg("%.*s", text.len < 500 ? (int)text.len : 500, text.data);
}

static void append(struct buf *out, const char *text, size_t times) {
    while (times--) assert_int_equal(buf_append(out, str_of(text)), 0);
}

static void test_the_most_of_everything(void **state) {
    static const struct {
        const char *before, *part;
        size_t times;
        const char *between, *part_behind;
    } cases[] = {
        {"", "9", 400, "", ""},                  // digits
        {"-0.", "9", 397, "", ""},
        {"0.", "9", 392, "e-4000", ""},
        {"", "9", 395, "e4000", ""},
        {"", "[", 128, "", "]"},                 // levels
        {"", "{\"a\":", 128, "1", "}"},
        {"\"", "x", 1024 * 1024 - 2, "\"", ""},  // bytes
        {"[0", ",0", 512 * 1024 - 2, "]", ""},
        {"{\"a\":0", ",\"a\":1", 100000, "}", ""},
        {"\"", "\\ud83d\\ude00", 1000, "\"", ""},
        {"\"", "\\u0001\x7f\\uffff\xef\xbf\xbf\xf4\x8f\xbf\xbf", 10, "\"", ""},
        {"{\"", "n", 100000, "\":1}", ""},       // a name
    };
    struct buf text;
    buf_init(&text, 1024 * 1024);
    for (size_t i = 0; i < array_len(cases); i++) {
        buf_clear(&text);
        append(&text, cases[i].before, 1);
        append(&text, cases[i].part, cases[i].times);
        append(&text, cases[i].between, 1);
        append(&text, cases[i].part_behind, cases[i].part_behind[0] ? cases[i].times : 0);
        taken(*state, buf_str(&text));
    }
    buf_done(&text);
}

static void test_texts_at_random(void **state) {
    static const char *const pieces[] = {"{", "}", "[", "]", ",", ":", "\"a\":", "\"\\u0061\":", "\"a\"", "\"\\b\\f\\/\"", "\"\\ud83d\\ude00\"", "\"\\u0000\"", "\"\\ud800\"",
                                         "\"\\udc00\"", "\"\xc3\xa9\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xc1\x81\"", "-0", "1e4000", "1E-4000", "1e4001",
                                         "0.000000000000000000000001", "null", "true", " ", "\r\n\t", "\"\x7f\"", "\"\x01\""};
    struct buf text;
    buf_init(&text, 4096);
    random_state = 99;
    unsigned count = 0;
    for (int i = 0; i < 100000 && count < 2000; i++) {
        buf_clear(&text);
        for (unsigned n = 1 + random_below(6); n; n--) append(&text, pieces[random_below(array_len(pieces))], 1);
        if (!json_text_is_queryable(buf_str(&text))) continue;
        count++;
        taken(*state, buf_str(&text));
    }
    assert_int_equal(count, 2000);
    buf_done(&text);
}

int main(void) {
    const struct store_case cases[] = {
        {"the most of everything", test_the_most_of_everything, STORE_BOTH},
        {"texts at random", test_texts_at_random, STORE_BOTH},
    };
    return store_run_cases(cases, array_len(cases));
}
