// SPDX-License-Identifier: Apache-2.0
// cli/diff: applied to the first text a diff gives the second, and it is as short as can be; cli/pretty: values stay as they are.
#include "cli/diff.h"

#include "cli/pretty.h"
#include "core/json_text.h"
#include "tests/support/support.h"

#define LINES_MAX 40

static char *diff_of(const char *before, const char *after, size_t context) {
    struct buf out;
    buf_init(&out, (size_t)1 << 20);
    assert_int_equal(diff_unified(str_of(before), str_of(after), context, &out), 0);
    size_t len;
    return buf_take(&out, &len);
}

static const char *next_line(const char *at) {
    const char *end = strchr(at, '\n');
    return end ? end + 1 : at + strlen(at);
}

// What a diff says of its hunk: "@@ -3,5 +3,6 @@".
static void read_head(const char *at, size_t *ret_line, size_t *ret_from, size_t *ret_to) {
    size_t to_line;
    assert_int_equal(sscanf(at, "@@ -%zu,%zu +%zu,%zu @@", ret_line, ret_from, &to_line, ret_to), 4);
    *ret_line -= *ret_from > 0;
}

// The text that the diff makes of `before`, as patch(1) would; checks what it takes out, what stands around it, and the counts.
static char *apply(const char *before, const char *diff) {
    struct buf out;
    buf_init(&out, (size_t)1 << 20);
    const char *at = before;
    size_t line = 0;
    while (*diff) {
        size_t begin, from, to;
        read_head(diff, &begin, &from, &to);
        diff = next_line(diff);
        for (; line < begin; line++, at = next_line(at))
            assert_int_equal(buf_append(&out, (struct str){at, (size_t)(next_line(at) - at)}), 0);
        for (; *diff && *diff != '@'; diff = next_line(diff)) {
            struct str text = {diff + 1, (size_t)(next_line(diff) - diff - 1)};
            if (*diff != '+') {
                assert_memory_equal(at, text.data, text.len);
                at = next_line(at);
                line++;
                from--;
            }
            if (*diff == '-') continue;
            assert_int_equal(buf_append(&out, text), 0);
            to--;
        }
        assert_int_equal(from, 0);
        assert_int_equal(to, 0);
    }
    assert_int_equal(buf_append(&out, str_of(at)), 0);
    size_t len;
    return buf_take(&out, &len);
}

static size_t changes_in(const char *diff) {
    size_t n = 0;
    for (; *diff; diff = next_line(diff)) n += *diff == '-' || *diff == '+';
    return n;
}

// One letter a line. The length of the longest common subsequence tells the fewest changes.
static size_t fewest_changes(const char *a, const char *b) {
    size_t table[LINES_MAX + 1][LINES_MAX + 1] = {0}, n = strlen(a) / 2, m = strlen(b) / 2;
    for (size_t i = 1; i <= n; i++)
        for (size_t j = 1; j <= m; j++) {
            size_t longer = table[i - 1][j] > table[i][j - 1] ? table[i - 1][j] : table[i][j - 1];
            table[i][j] = a[2 * i - 2] == b[2 * j - 2] ? table[i - 1][j - 1] + 1 : longer;
        }
    return n + m - 2 * table[n][m];
}

static uint32_t rolled = 12345;
static size_t roll(size_t below) {
    rolled = rolled * 1103515245u + 12345u;
    return (rolled >> 16) % below;
}

// Some lines of the text are left out: what is left begins and ends as the text does, often with the same lines.
static void random_part(const char *text, char out[2 * LINES_MAX + 1]) {
    size_t n = 0;
    for (; *text; text += 2) {
        if (roll(6) == 0) continue;
        out[n++] = *text;
        out[n++] = '\n';
    }
    out[n] = '\0';
}

static void random_text(char out[2 * LINES_MAX + 1]) {
    size_t n = roll(LINES_MAX + 1);
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = (char)('a' + roll(5));
        out[2 * i + 1] = '\n';
    }
    out[2 * n] = '\0';
}

static void test_a_diff_leads_to_the_second_text_and_is_the_shortest(void **state) {
    (void)state;
    for (size_t i = 0; i < 5000; i++) {
        char before[2 * LINES_MAX + 1], after[2 * LINES_MAX + 1];
        random_text(before);
        if (i % 2) random_text(after);
        else random_part(before, after);
        cleanup_free char *diff = diff_of(before, after, roll(4)), *made = apply(before, diff);
        assert_string_equal(made, after);
        assert_int_equal(changes_in(diff), fewest_changes(before, after));
    }
}

static void test_hunks(void **state) {
    (void)state;
    cleanup_free char *same = diff_of("a\nb\n", "a\nb\n", 2);
    assert_string_equal(same, "");
    cleanup_free char *one = diff_of("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nfive\n6\n7\n8\n9\n", 2);
    assert_string_equal(one, "@@ -3,5 +3,5 @@\n 3\n 4\n-5\n+five\n 6\n 7\n");
    cleanup_free char *two = diff_of("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "one\n2\n3\n4\n5\n6\n7\n8\n", 1);
    assert_string_equal(two, "@@ -1,2 +1,2 @@\n-1\n+one\n 2\n@@ -8,2 +8,1 @@\n 8\n-9\n");
    cleanup_free char *near = diff_of("1\n2\n3\n4\n5\n6\n", "one\n2\n3\n4\n5\nsix\n", 2);
    assert_string_equal(near, "@@ -1,6 +1,6 @@\n-1\n+one\n 2\n 3\n 4\n 5\n-6\n+six\n");
    cleanup_free char *twice = diff_of("a\na\n", "a\n", 2);
    assert_string_equal(twice, "@@ -1,2 +1,1 @@\n a\n-a\n");
    cleanup_free char *first = diff_of("", "a\n", 2);
    assert_string_equal(first, "@@ -0,0 +1,1 @@\n+a\n");
}

static void test_texts_that_share_nothing_are_shown_whole(void **state) {
    (void)state;
    struct buf before, after;
    buf_init(&before, DIFF_BYTES_MAX);
    buf_init(&after, DIFF_BYTES_MAX);
    for (int i = 0; i < 3 * DIFF_CHANGES_MAX; i++) {
        assert_int_equal(buf_printf(&before, "a%d\n", i), 0);
        assert_int_equal(buf_printf(&after, "b%d\n", i), 0);
    }
    cleanup_free char *from = buf_take(&before, &(size_t){0}), *to = buf_take(&after, &(size_t){0});
    cleanup_free char *diff = diff_of(from, to, 2), *made = apply(from, diff);
    assert_string_equal(made, to);
}

static void test_a_text_over_the_cap_is_refused(void **state) {
    (void)state;
    cleanup_free char *large = mem_alloc(DIFF_BYTES_MAX + 1);
    memset(large, 'x', DIFF_BYTES_MAX + 1);
    struct buf out;
    buf_init(&out, 1000);
    assert_int_equal(diff_unified((struct str){large, DIFF_BYTES_MAX + 1}, STR_LIT("x"), 2, &out), ERR_TOO_LARGE);
    buf_done(&out);
}

// --- pretty -------------------------------------------------------------------------------------------------------

static char *laid_out(const char *json, size_t indent) {
    struct buf out;
    buf_init(&out, 100000);
    assert_int_equal(pretty_json(str_of(json), indent, &out), 0);
    size_t len;
    return buf_take(&out, &len);
}

static void test_json_is_laid_out_and_its_values_stay(void **state) {
    (void)state;
    static const char json[] = "{\"a\":[1.10, 12345678901234567890123,{}],\"b\\\"{\":\"x, [y]: \\u00e9\\\\\",\"c\":[ ],\"a\":-0e5}";
    cleanup_free char *pretty = laid_out(json, 2), *line = laid_out(pretty, 0);
    assert_string_equal(pretty, "{\n  \"a\": [\n    1.10,\n    12345678901234567890123,\n    {}\n  ],\n  \"b\\\"{\": \"x, [y]: \\u00e9\\\\\",\n"
                                "  \"c\": [],\n  \"a\": -0e5\n}");
    assert_string_equal(line, "{\"a\":[1.10,12345678901234567890123,{}],\"b\\\"{\":\"x, [y]: \\u00e9\\\\\",\"c\":[],\"a\":-0e5}");
    assert_int_equal(json_text_check(str_of(pretty), NULL), 0);
}

static void test_what_does_not_fit_is_told_with_its_beginning(void **state) {
    (void)state;
    struct buf out;
    buf_init(&out, 64);
    char deep[2 * JSON_TEXT_DEPTH + 1];
    memset(deep, '[', JSON_TEXT_DEPTH);
    memset(deep + JSON_TEXT_DEPTH, ']', JSON_TEXT_DEPTH);
    deep[sizeof deep - 1] = '\0';
    assert_int_equal(pretty_json(str_of(deep), 2, &out), ERR_TOO_LARGE);
    assert_true(buf_len(&out) > 0 && buf_len(&out) <= 64);
    buf_done(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_diff_leads_to_the_second_text_and_is_the_shortest),
        cmocka_unit_test(test_hunks),
        cmocka_unit_test(test_texts_that_share_nothing_are_shown_whole),
        cmocka_unit_test(test_a_text_over_the_cap_is_refused),
        cmocka_unit_test(test_json_is_laid_out_and_its_values_stay),
        cmocka_unit_test(test_what_does_not_fit_is_told_with_its_beginning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
