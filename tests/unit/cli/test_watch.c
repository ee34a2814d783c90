// SPDX-License-Identifier: Apache-2.0
// cli/watch: text from anywhere stays in its columns; what is asked for when; what a question meant is what is done.
#include "cli/watch.h"

#include <locale.h>
#include <wchar.h>

#include "cli/client.h"
#include "core/base/text.h"
#include "tests/support/support.h"

// --- text ---------------------------------------------------------------------------------------------------------

static void expect_clean(const char *text, size_t skip, size_t width, const char *expected) {
    cleanup_free char *clean = NULL;
    size_t n = watch_clean(text, skip, width, &clean);
    assert_string_equal(clean, expected);
    assert_true(n <= width);
}

static void test_plain_text_is_cut_at_its_width(void **state) {
    (void)state;
    expect_clean("KeyError", 0, 20, "KeyError");
    expect_clean("KeyError", 0, 8, "KeyError");
    expect_clean("KeyError", 0, 7, "KeyErr…");
    expect_clean("KeyError", 3, 20, "Error");
    expect_clean("KeyError", 3, 3, "Er…");
    expect_clean("KeyError", 20, 3, "");
    expect_clean("KeyError", 0, 1, "…");
    expect_clean("KeyError", 0, 0, "");
    expect_clean("", 0, 5, "");
    expect_clean("a\tb", 0, 20, "a       b");
    expect_clean("a\tb", 0, 4, "a  …");
}

static void test_text_cannot_command_the_terminal(void **state) {
    (void)state;
    expect_clean("\033[2J\033]0;x\a\r\n", 0, 20, "?[2J?]0;x???");
    expect_clean("a\x7f" "b\xc2\x9b" "31mc", 0, 20, "a?b?31mc");         // DEL, and CSI as one C1 character
    expect_clean("\xff\xc0\xaf\xed\xa0\x80|\xe2\x82", 0, 20, "\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd|\ufffd\ufffd"); // no UTF-8: each byte
    expect_clean("a\u202e\u2066b\u200d\ufe0f\ufeff", 0, 20, "ab");
}

static void test_wide_characters_take_two_columns(void **state) {
    (void)state;
    expect_clean("日本語", 0, 6, "日本語");
    expect_clean("日本語", 0, 5, "日本…");
    expect_clean("日本語", 0, 4, "日 …");
    expect_clean("日本語", 0, 1, "…");
    expect_clean("日本語", 1, 10, " 本語"); // half of the first
    expect_clean("日本語", 2, 10, "本語");
}

static void test_marks_stay_on_their_character(void **state) {
    (void)state;
    expect_clean("e\u0301x", 0, 2, "e\u0301x");
    expect_clean("\u0301\u0301x", 0, 5, "x"); // they would change what stands before
    expect_clean("e\u0301\u0302\u0303\u0304\u0305\u0306x", 0, 5, "e\u0301\u0302\u0303x");
}

static size_t columns_of(const char *text) {
    size_t n = 0;
    wchar_t c;
    mbstate_t s = {0};
    for (size_t k; (k = mbrtowc(&c, text, 4, &s)) != 0; text += k) {
        assert_true(k <= 4);
        assert_true(wcwidth(c) >= 0);
        n += (size_t)wcwidth(c);
    }
    return n;
}

static void test_any_bytes_take_the_columns_that_are_said(void **state) {
    (void)state;
    static const char *const pieces[] = {"日", "e\u0301", "\u0301", "\033[2J", "\xff", "\xe2\x82", "\t", "x", "\u202e", "👩\u200d💻", "\xf4\x90\x80\x80"};
    unsigned random = 1;
    for (size_t i = 0; i < 20000; i++) {
        char text[128] = "";
        for (size_t j = 0; j < 12; j++) {
            random = random * 1103515245 + 12345;
            strcat(text, pieces[(random >> 16) % array_len(pieces)]);
        }
        cleanup_free char *clean = NULL;
        size_t width = (random >> 8) % 14, n = watch_clean(text, i % 5, width, &clean);
        assert_true(text_is_utf8(str_of(clean)));
        assert_int_equal(columns_of(clean), n);
        assert_true(n <= width);
    }
}

// --- a model with groups ------------------------------------------------------------------------------------------

static void take(struct watch *w, int status, const char *json, const char *why, int64_t now_ms) {
    struct watch_answer a = {.status = status, .json = json ? json_loads(json, 0, NULL) : NULL, .why = mem_strdup(why)};
    assert_true(!json || a.json);
    watch_take_poll(w, &a, now_ms);
    json_decref(a.json);
    free(a.why);
}

#define GROUP(id, count, last) "{\"group\":\"" id "\",\"count\":" #count ",\"lastMs\":" #last ",\"functions\":[\"orders\"],\"title\":\"no " id "\"}"
#define GROUPS(list) "{\"groups\":[" list "],\"letters\":9,\"more\":false}"

static void expect_poll(struct watch *w, int64_t now_ms, const char *begin) {
    cleanup_free char *path = watch_next_poll(w, now_ms);
    if (!begin) assert_null(path);
    else assert_true(path && strncmp(path, begin, strlen(begin)) == 0);
}

static void begin(struct watch *w) {
    watch_init(w, "http://x");
    expect_poll(w, 0, "/v1/groups?");
    take(w, 200, GROUPS(GROUP("a", 5, 1) "," GROUP("b", 3, 9) "," GROUP("c", 1, 5)), NULL, 0);
}

static void type(struct watch *w, const char *text) {
    for (; *text; text++) watch_key(w, *text == '\r' ? WATCH_KEY_ENTER : (uint32_t)(unsigned char)*text);
}

static const char *chosen(const struct watch *w) {
    return member_text(watch_row(watch_top(w)), "group", "none");
}

static void change_answer(struct watch *w, int status, const char *json) {
    struct watch_answer a = {.status = status, .json = json_loads(json, 0, NULL)};
    watch_take_change(w, &a);
    json_decref(a.json);
}

static void test_questions_come_every_two_seconds_and_seldom_without_answers(void **state) {
    (void)state;
    struct watch w;
    begin(&w);
    expect_poll(&w, 1999, NULL);
    expect_poll(&w, 2000, "/v1/groups?");
    expect_poll(&w, 9000, NULL); // one at a time
    static const int64_t pauses[] = {2000, 4000, 8000, 16000, 16000};
    int64_t now = 9000;
    for (size_t i = 0; i < array_len(pauses); i++) {
        take(&w, 0, NULL, "no answer", now);
        assert_string_equal(w.poll.why, "no answer");
        expect_poll(&w, now + pauses[i] - 1, NULL);
        now += pauses[i];
        expect_poll(&w, now, "/v1/groups?");
    }
    assert_string_equal(chosen(&w), "a"); // what was there stays
    take(&w, 200, GROUPS(""), NULL, now);
    assert_null(w.poll.why);
    expect_poll(&w, now + 2000, "/v1/groups?");
    watch_done(&w);
}

static void test_what_the_server_refuses_is_not_asked_again(void **state) {
    (void)state;
    struct watch w;
    begin(&w);
    type(&w, "\r" "wattempt >\r");
    expect_poll(&w, 1, "/v1/letters?group=a&where=attempt%20%3E&");
    take(&w, 400, NULL, "where: column 10", 1);
    expect_poll(&w, 1000000, NULL);
    type(&w, "w 2\r"); // the text is there to be mended
    expect_poll(&w, 1, "/v1/letters?group=a&where=attempt%20%3E%202&");
    watch_done(&w);
}

static void test_the_chosen_row_stays_on_its_item(void **state) {
    (void)state;
    struct watch w;
    begin(&w);
    type(&w, "j");
    assert_string_equal(chosen(&w), "b");
    expect_poll(&w, 2000, "/v1/groups?");
    take(&w, 200, GROUPS(GROUP("c", 7, 5) "," GROUP("a", 5, 1) "," GROUP("b", 3, 9)), NULL, 2000);
    assert_string_equal(chosen(&w), "b");
    expect_poll(&w, 4000, "/v1/groups?");
    take(&w, 200, GROUPS(GROUP("c", 7, 5)), NULL, 4000);
    assert_string_equal(chosen(&w), "c");
    watch_done(&w);
}

static void test_sorts_and_finds(void **state) {
    (void)state;
    struct watch w;
    begin(&w);
    type(&w, "s"); // last seen first
    assert_string_equal(chosen(&w), "b");
    type(&w, "/no c\r");
    assert_int_equal(json_array_size(watch_top(&w)->rows), 1);
    assert_string_equal(chosen(&w), "c");
    watch_key(&w, WATCH_KEY_ESCAPE);
    assert_int_equal(json_array_size(watch_top(&w)->rows), 3);
    assert_false(w.over);
    watch_done(&w);
}

// --- changes ------------------------------------------------------------------------------------------------------

static void test_a_replay_sends_what_was_asked_about(void **state) {
    (void)state;
    struct watch w;
    begin(&w);
    type(&w, "rorders:8\r");
    expect_poll(&w, 2000, "/v1/groups?");
    take(&w, 200, GROUPS(GROUP("c", 99, 5)), NULL, 2000); // the list moves under the question
    type(&w, "fast\r");
    assert_true(act_wants_text(&w)); // not a rate
    for (size_t i = 0; i < 4; i++) watch_key(&w, WATCH_KEY_BACKSPACE);
    type(&w, "3000/m\r");
    cleanup_free char *room = NULL;
    assert_string_equal(act_question(&w, &room), "Replay 5 letters of group a to orders:8 at 3000/m?");
    assert_false(watch_next_change(&w));
    type(&w, "y");
    assert_true(watch_next_change(&w));
    assert_false(watch_next_change(&w));
    assert_string_equal(w.change.path, "/v1/replays");
    json_auto_t *expected = json_pack("{s:s, s:s, s:f}", "group", "a", "to", "orders:8", "rate", 50.0);
    assert_true(json_equal(w.change.body, expected));
    change_answer(&w, 201, "{\"replay\":7,\"total\":5}");
    assert_string_equal(w.status, "replay 7 began: 5 letters");
    assert_int_equal(watch_top(&w)->kind, VIEW_REPLAYS);
    watch_done(&w);
}

static void test_no_key_but_y_says_yes(void **state) {
    (void)state;
    struct watch w;
    for (uint32_t key = 0; key <= WATCH_KEY_OTHER; key = key == 0x7f ? WATCH_KEY_UP : key + 1) {
        begin(&w);
        type(&w, "dwhy\r");
        watch_key(&w, key);
        assert_int_equal(watch_next_change(&w), key == 'y' || key == 'Y');
        watch_done(&w);
    }
}

static void test_a_discard_goes_on_until_all_are_done(void **state) {
    (void)state;
    struct watch w;
    begin(&w);
    type(&w, "dold\ry");
    for (size_t i = 0; i < 3; i++) {
        assert_true(watch_next_change(&w));
        json_auto_t *expected = json_pack("{s:s, s:s, s:i}", "group", "a", "why", "old", "limit", 1000);
        if (i) json_object_set_new(expected, "cursor", json_string("c.1"));
        assert_true(json_equal(w.change.body, expected));
        change_answer(&w, 200, i < 2 ? "{\"discarded\":1000,\"more\":true,\"next\":\"c.1\",\"refused\":[]}" : "{\"discarded\":1,\"more\":false,\"refused\":[]}");
    }
    assert_false(watch_next_change(&w));
    assert_string_equal(w.status, "2001 letters discarded");
    type(&w, "d\ry");
    assert_true(watch_next_change(&w));
    watch_key(&w, WATCH_KEY_ESCAPE); // stops it after this
    change_answer(&w, 200, "{\"discarded\":1000,\"more\":true,\"next\":\"c.1\",\"refused\":[]}");
    assert_false(watch_next_change(&w));
    watch_done(&w);
}

static void test_the_whole_filter_is_meant_by_capital_letters(void **state) {
    (void)state;
    struct watch w;
    begin(&w);
    w.function = "orders";
    type(&w, "\r/late\rwattempt > 2\r");
    expect_poll(&w, 1, "/v1/letters?");
    take(&w, 200, "{\"letters\":[{\"id\":\"i1\"},{\"id\":\"i2\"}],\"next\":null}", NULL, 1);
    type(&w, "Dx\ry");
    json_auto_t *all = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i}", "group", "a", "function", "orders", "search", "late", "where", "attempt > 2",
                                 "why", "x", "limit", 1000);
    assert_true(json_equal(w.change.body, all));
    assert_true(watch_next_change(&w));
    change_answer(&w, 200, "{\"discarded\":2,\"more\":false}");
    type(&w, "jdx\ry");
    json_auto_t *one = json_pack("{s:[s], s:s, s:i}", "ids", "i2", "why", "x", "limit", 1000);
    assert_true(json_equal(w.change.body, one));
    watch_done(&w);
}

// --- drawing ------------------------------------------------------------------------------------------------------

static void test_a_frame_stays_in_its_bounds(void **state) {
    (void)state;
    static const char *const keys[] = {"", "r", "rorders:8\r50/s\r", "\r", "?", "?/keys\r", "/日本\r"};
    for (size_t k = 0; k < array_len(keys); k++)
        for (size_t rows = 1; rows < 40; rows += 3)
            for (size_t cols = 1; cols < 150; cols += 7) {
                struct watch w;
                struct frame f;
                begin(&w);
                type(&w, keys[k]);
                frame_init(&f, rows, cols);
                watch_draw(&w, &f, 0);
                assert_true(f.count > 0);
                for (size_t i = 0; i < f.count; i++) {
                    assert_true(f.list[i].row < rows);
                    assert_true(f.list[i].col + columns_of(f.list[i].text) <= cols);
                }
                assert_true(!f.has_caret || (f.caret_row < rows && f.caret_col < cols));
                frame_done(&f);
                watch_done(&w);
            }
}

int main(void) {
    if (!setlocale(LC_CTYPE, "C.UTF-8")) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_text_is_cut_at_its_width),
        cmocka_unit_test(test_text_cannot_command_the_terminal),
        cmocka_unit_test(test_wide_characters_take_two_columns),
        cmocka_unit_test(test_marks_stay_on_their_character),
        cmocka_unit_test(test_any_bytes_take_the_columns_that_are_said),
        cmocka_unit_test(test_questions_come_every_two_seconds_and_seldom_without_answers),
        cmocka_unit_test(test_what_the_server_refuses_is_not_asked_again),
        cmocka_unit_test(test_the_chosen_row_stays_on_its_item),
        cmocka_unit_test(test_sorts_and_finds),
        cmocka_unit_test(test_a_replay_sends_what_was_asked_about),
        cmocka_unit_test(test_no_key_but_y_says_yes),
        cmocka_unit_test(test_a_discard_goes_on_until_all_are_done),
        cmocka_unit_test(test_the_whole_filter_is_meant_by_capital_letters),
        cmocka_unit_test(test_a_frame_stays_in_its_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
