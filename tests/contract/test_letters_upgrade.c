// SPDX-License-Identifier: Apache-2.0
// Promise of letters_upgrade: letters from before groups become what they would be had they been written today, all of them, whenever it is
// ended and begun again; one whose event cannot be read holds up no other.
#include "core/base/buf.h"
#include "core/base/mem.h"
#include "tests/support/letters_fixture.h"

#define MANY 120 // more than two portions
#define STACK "Traceback (most recent call last):\n  File \"orders.py\", line 7, in price\n    return RATES[x]\nKeyError: 'x'"
#define HISTORY "[{\"attempt\":1,\"stack\":\"\"},{\"attempt\":2,\"stack\":\"Traceback (most recent call last):\\n  File \\\"orders.py\\\", line 7, in price\\n    return RATES[x]\\nKeyError: 'x'\"}]"

// What it tells, of all letters.
static int append_row(void *arg, const struct sql_row *row) {
    struct str headers = sql_row_bytes(row, 2);
    return buf_printf(arg, "%llx %lld %.*s\n", (unsigned long long)sql_row_int(row, 0), (long long)sql_row_int(row, 1), (int)headers.len, headers.data);
}

static int read_rows(void *arg, struct sql *sql, struct err *err) {
    return sql_exec(sql, "SELECT fingerprint, json, headers FROM letters ORDER BY id", NULL, 0, append_row, arg, NULL, err);
}

static char *rows(struct letters_fixture *lf) {
    struct buf text;
    buf_init(&text, SIZE_MAX / 2);
    assert_int_equal(call(lf->fx, read_rows, &text), 0);
    return buf_take(&text, NULL);
}

static int64_t old_rows(struct letters_fixture *lf) {
    return sql_number(lf, "SELECT count(*) FROM letters WHERE fingerprint = 0");
}

static void put(struct letters_fixture *lf, const char *function, struct str payload, const struct ev_header *header) {
    static const enum letter_state states[] = {LETTER_DEAD, LETTER_DEAD, LETTER_DUE};
    static unsigned n;
    const struct ev_fields f = {.function = str_of(function), .payload = payload, .headers = header, .header_count = header ? 1 : 0,
                                .history = STR_LIT(HISTORY), .attempt = 2};
    struct answer a = {0};
    struct ev *ev = ev_new(&f);
    const struct letter_draft draft = {.ev = ev, .state = states[n++ % array_len(states)], .kind = LETTER_FUNCTION, .due_ms = INT64_C(4102444800000),
                                       .version = 3, .error_type = STR_LIT("KeyError"), .error_message = STR_LIT("'x'"), .stack = STR_LIT(STACK)};
    letters_put(lf->letters, &draft, answer_done, &a);
    await(lf, &a);
    ev_free(ev);
}

static void fill(struct letters_fixture *lf) {
    const struct ev_header header = {STR_LIT("X-Shop"), STR_LIT("berlin \xff")};
    char *large = mem_alloc(2 * 1024 * 1024);
    memset(large, ' ', 2 * 1024 * 1024);
    large[0] = '1';
    put(lf, "orders", STR_LIT("\xff\xfe not JSON"), &header);
    put(lf, "mail", STR_LIT("{\"a\":\"\\u0000\"}"), NULL);
    put(lf, "mail", (struct str){large, 2 * 1024 * 1024}, &header);
    put(lf, "orders", STR_NONE, NULL);
    for (size_t i = 0; i < MANY; i++) put(lf, i % 2 ? "mail" : "orders", STR_LIT("{\"a\": [1, \"x\", 1e3]}"), i % 3 ? &header : NULL);
    free(large);
}

static void make_old(struct letters_fixture *lf) {
    sql(lf, "UPDATE letters SET fingerprint = 0, headers = '{}', json = 0");
}

static void upgrade(struct letters_fixture *lf) {
    letters_upgrade(lf->letters);
    TURN_UNTIL(lf->fx->loop, old_rows(lf) == 0);
    TURN_UNTIL(lf->fx->loop, letters_stop(lf->letters));
}

static void they_become_what_they_would_be(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    fill(&lf);
    cleanup_free char *expected = rows(&lf);
    make_old(&lf);
    upgrade(&lf);
    cleanup_free char *found = rows(&lf);
    assert_string_equal(found, expected);
    letters_close(&lf);
}

static void ended_and_begun_again_it_reaches_all(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    fill(&lf);
    make_old(&lf);
    letters_upgrade(lf.letters);
    TURN_UNTIL(lf.fx->loop, letters_stop(lf.letters));
    int64_t left = old_rows(&lf);
    assert_true(left > 0);
    assert_true(left < MANY + 4);
    letters_close(&lf);
    letters_open(&lf, *state, NULL);
    upgrade(&lf);
    letters_close(&lf);
}

static void an_unreadable_one_holds_up_no_other(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    fill(&lf);
    cleanup_free char *expected = rows(&lf);
    make_old(&lf);
    sql(&lf, "UPDATE letter_bodies SET event = id WHERE id = (SELECT id FROM letters ORDER BY id LIMIT 1)");
    upgrade(&lf);
    cleanup_free char *found = rows(&lf);
    assert_string_equal(strchr(found, '\n'), strchr(expected, '\n'));
    letters_close(&lf);
}

int main(void) {
    const struct store_case cases[] = {
        {"they_become_what_they_would_be", they_become_what_they_would_be, STORE_BOTH},
        {"ended_and_begun_again_it_reaches_all", ended_and_begun_again_it_reaches_all, STORE_BOTH},
        {"an_unreadable_one_holds_up_no_other", an_unreadable_one_holds_up_no_other, STORE_BOTH},
    };
    return store_run_cases(cases, array_len(cases));
}
