// SPDX-License-Identifier: Apache-2.0
// core/fnlog: lines, the cap, reading on from a cursor, and waiting.

#include "core/base/buf.h"
#include "core/fnlog.h"
#include "tests/support/support.h"

#define CAP 4096

struct fixture {
    struct loop *loop;
    struct fnlog *log;
    struct buf read; // lines joined with |
    uint64_t last;
    size_t bytes;
};

static int setup(void **state) {
    struct fixture *f = mem_zalloc(sizeof *f);
    f->loop = loop_new();
    f->log = fnlog_new(f->loop, CAP);
    buf_init(&f->read, 1 << 20);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    fnlog_free(f->log);
    loop_free(f->loop);
    buf_done(&f->read);
    free(f);
    return 0;
}

static void put(struct fixture *f, const char *function, const char *text) {
    fnlog_append(f->log, str_of(function), 3, NULL, str_of(text));
}

static void on_line(void *arg, const struct fnlog_line *line) {
    struct fixture *f = arg;
    assert_true(line->cursor > f->last);
    f->last = line->cursor;
    f->bytes += line->text.len;
    assert_int_equal(buf_append(&f->read, line->text), 0);
    assert_int_equal(buf_append(&f->read, STR_LIT("|")), 0);
}

static void expect(struct fixture *f, const char *function, uint64_t after, size_t limit, const char *want) {
    buf_clear(&f->read);
    f->last = after;
    f->bytes = 0;
    fnlog_read(f->log, str_of(function), after, limit, on_line, f);
    struct str got = buf_str(&f->read);
    if (!str_is(got, want)) fail_msg("'%.*s', not '%s'", STR_ARG(got), want);
}

static void splits_lines(void **state) {
    struct fixture *f = *state;
    put(f, "a", "one\ntwo\r\n\nfour");
    put(f, "b", "other\n");
    put(f, "a", "");
    put(f, "a", "five\n");
    expect(f, "a", 0, 100, "one|two||four|five|");
    expect(f, "b", 0, 100, "other|");
    expect(f, "c", 0, 100, "");
    expect(f, "a", 0, 2, "one|two|");
    expect(f, "a", 2, 2, "|four|");
    expect(f, "a", fnlog_end(f->log), 100, "");
    assert_int_equal(fnlog_end(f->log), 6);
}

static void oldest_go_first(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 1000; i++) put(f, "a", "0123456789012345678901234567890123456789\n");
    put(f, "a", "newest");
    expect(f, "a", 1000, 100, "newest|");
    f->bytes = 0;
    f->last = 0;
    size_t lines = fnlog_read(f->log, STR_LIT("a"), 0, 10000, on_line, f);
    assert_true(lines > 10 && lines < 200);
    assert_true(f->bytes < CAP);
}

static void huge_text_is_cut(void **state) {
    struct fixture *f = *state;
    size_t len = 1 << 20;
    char *text = mem_alloc(len);
    for (size_t i = 0; i < len; i++) text[i] = "\xc3\xa4"[i % 2];
    fnlog_append(f->log, STR_LIT("a"), 1, NULL, (struct str){text, len});
    free(text);
    size_t lines = fnlog_read(f->log, STR_LIT("a"), 0, 10000, on_line, f);
    assert_true(lines >= 1);
    assert_true(f->bytes > 1000 && f->bytes < CAP);
    struct str all = buf_str(&f->read);
    assert_int_equal(f->bytes % 2, 0);
    for (size_t i = 0; i + 1 < all.len; i++) // no piece begins or ends within a character
        if (i == 0 || all.data[i - 1] == '|') assert_int_equal((unsigned char)all.data[i], 0xc3);
    char zeros[CAP * 3];
    memset(zeros, 0x80, sizeof zeros); // never a first byte: no endless loop, no line
    fnlog_append(f->log, STR_LIT("b"), 1, NULL, (struct str){zeros, sizeof zeros});
}

static void count_call(void *arg) {
    ++*(unsigned *)arg;
}

static void waits_for_a_line(void **state) {
    struct fixture *f = *state;
    unsigned a = 0, b = 0, late = 0;
    struct fnlog_wait *wa = fnlog_wait_new(f->log, STR_LIT("a"), 60000, count_call, &a);
    struct fnlog_wait *wb = fnlog_wait_new(f->log, STR_LIT("b"), 60000, count_call, &b);
    struct fnlog_wait *wl = fnlog_wait_new(f->log, STR_LIT("late"), 10, count_call, &late);
    put(f, "a", "one\ntwo\n");
    put(f, "a", "three\n");
    assert_int_equal(a, 0); // not inside
    TURN_UNTIL(f->loop, late == 1);
    assert_int_equal(a, 1);
    assert_int_equal(b, 0);
    put(f, "late", "x\n");
    loop_turn(f->loop, 1);
    assert_int_equal(late, 1);
    fnlog_wait_free(wa);
    fnlog_wait_free(wb);
    fnlog_wait_free(wl);
    fnlog_wait_free(NULL);
    put(f, "b", "x\n");
    loop_turn(f->loop, 1);
    assert_int_equal(b, 0);
}

struct freeing {
    struct fnlog_wait *own, *other;
    unsigned calls;
};

static void free_both(void *arg) {
    struct freeing *x = arg;
    x->calls++;
    fnlog_wait_free(x->own);
    fnlog_wait_free(x->other);
}

static void waits_may_be_freed_in_the_call(void **state) {
    struct fixture *f = *state;
    struct freeing x = {0}, y = {0};
    x.own = y.other = fnlog_wait_new(f->log, STR_LIT("a"), 60000, free_both, &x);
    y.own = x.other = fnlog_wait_new(f->log, STR_LIT("a"), 60000, free_both, &y);
    put(f, "a", "line\n");
    TURN_UNTIL(f->loop, x.calls + y.calls == 1);
    loop_turn(f->loop, 1);
    assert_int_equal(x.calls + y.calls, 1);
}

static void forgets(void **state) {
    struct fixture *f = *state;
    unsigned calls = 0;
    put(f, "a", "one\n");
    struct fnlog_wait *w = fnlog_wait_new(f->log, STR_LIT("a"), 60000, count_call, &calls);
    fnlog_forget(f->log, STR_LIT("a"));
    fnlog_forget(f->log, STR_LIT("nobody"));
    expect(f, "a", 0, 10, "");
    put(f, "a", "two\n");
    expect(f, "a", 0, 10, "two|");
    TURN_UNTIL(f->loop, calls == 1);
    fnlog_wait_free(w);
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        test(splits_lines), test(oldest_go_first), test(huge_text_is_cut), test(waits_for_a_line), test(waits_may_be_freed_in_the_call),
        test(forgets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
