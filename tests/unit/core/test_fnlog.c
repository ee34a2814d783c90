// SPDX-License-Identifier: Apache-2.0
// core/fnlog: lines and cursors, the cap of each function, and who waits for what.
#include "core/fnlog.h"
#include "tests/support/support.h"

#define CAP 8192
#define F STR_LIT("f")

struct world {
    struct loop *loop;
    struct fnlog *log;
};

static int setup(void **state) {
    struct world *w = mem_zalloc(sizeof *w);
    w->loop = loop_new();
    w->log = fnlog_new(w->loop, CAP);
    *state = w;
    return 0;
}

static int teardown(void **state) {
    struct world *w = *state;
    fnlog_free(w->log);
    loop_free(w->loop);
    free(w);
    return 0;
}

static void append(struct world *w, const char *text) {
    fnlog_append(w->log, F, 1, NULL, str_of(text));
}

// What a reader gets: its lines joined by '|', the first and last cursors, and the bytes.
struct seen {
    char text[400];
    uint64_t first, last;
    size_t count, bytes;
    struct id event;
    uint32_t version;
};

static void on_line(void *arg, const struct fnlog_line *line) {
    struct seen *s = arg;
    assert_true(line->cursor > s->last);
    if (s->count++ == 0) s->first = line->cursor;
    s->last = line->cursor;
    s->bytes += line->text.len;
    s->event = line->event;
    s->version = line->version;
    size_t used = strlen(s->text);
    snprintf(s->text + used, sizeof s->text - used, "%s%.*s", used ? "|" : "", STR_ARG(line->text));
}

static struct seen read_lines(struct world *w, struct str function, uint64_t after, size_t limit) {
    struct seen s = {0};
    size_t count = fnlog_read(w->log, function, after, limit, on_line, &s);
    assert_int_equal(count, s.count);
    return s;
}

static void text_becomes_lines(void **state) {
    struct world *w = *state;
    struct id id = id_new();
    fnlog_append(w->log, F, 7, &id, STR_LIT("one\ntwo\r\n\nno newline"));
    struct seen s = read_lines(w, F, 0, 100);
    assert_string_equal(s.text, "one|two||no newline");
    assert_int_equal(s.count, 4);
    assert_int_equal(s.version, 7);
    assert_true(id_eq(&s.event, &id));
    append(w, "x\n");
    s = read_lines(w, F, s.last, 100);
    assert_string_equal(s.text, "x");
    assert_true(id_is_none(&s.event));
}

static void a_cursor_takes_up_where_it_stopped(void **state) {
    struct world *w = *state;
    append(w, "1\n2\n3\n4\n5\n");
    struct seen s = read_lines(w, F, 0, 2);
    assert_string_equal(s.text, "1|2");
    s = read_lines(w, F, s.last, 2);
    assert_string_equal(s.text, "3|4");
    s = read_lines(w, F, s.last, 2);
    assert_string_equal(s.text, "5");
    assert_int_equal(read_lines(w, F, s.last, 2).count, 0);
    assert_int_equal(s.last, fnlog_end(w->log));
    assert_int_equal(read_lines(w, F, 0, 0).count, 0);
    assert_int_equal(read_lines(w, STR_LIT("unknown"), 0, 9).count, 0);
}

static void functions_do_not_mix(void **state) {
    struct world *w = *state;
    append(w, "mine\n");
    fnlog_append(w->log, STR_LIT("g"), 1, NULL, STR_LIT("theirs\n"));
    append(w, "mine again\n");
    assert_string_equal(read_lines(w, F, 0, 9).text, "mine|mine again");
    assert_string_equal(read_lines(w, STR_LIT("g"), 0, 9).text, "theirs");
    fnlog_forget(w->log, F);
    assert_int_equal(read_lines(w, F, 0, 9).count, 0);
    assert_int_equal(read_lines(w, STR_LIT("g"), 0, 9).count, 1);
}

static void the_oldest_lines_make_room(void **state) {
    struct world *w = *state;
    fnlog_append(w->log, STR_LIT("g"), 1, NULL, STR_LIT("stays\n"));
    for (int i = 0; i < 10000; i++) append(w, "a line of some length\n");
    struct seen s = read_lines(w, F, 0, 100000);
    assert_int_equal(s.last, fnlog_end(w->log));
    assert_int_equal(s.count, s.last - s.first + 1);
    assert_true(s.bytes <= CAP);
    assert_in_range(s.count, 20, 400); // the bookkeeping of a line counts too
    assert_string_equal(read_lines(w, STR_LIT("g"), 0, 9).text, "stays");
}

static void a_long_line_comes_in_whole_pieces(void **state) {
    struct world *w = *state;
    cleanup_free char *text = mem_alloc(6002);
    for (size_t i = 0; i < 6000; i += 2) memcpy(text + i, "\xc3\xa9", 2);
    fnlog_append(w->log, F, 1, NULL, (struct str){text, 6000});
    struct seen s = read_lines(w, F, 0, 100);
    assert_true(s.count >= 2);
    assert_int_equal(s.bytes, 6000);
}

static void check_piece(void *arg, const struct fnlog_line *line) {
    *(size_t *)arg += line->text.len;
    assert_int_equal((unsigned char)line->text.data[0], 0xe2);
    assert_int_equal(line->text.len % 3, 0);
}

static void no_piece_cuts_a_character(void **state) {
    struct world *w = *state;
    cleanup_free char *text = mem_alloc(6000);
    for (size_t i = 0; i < 6000; i += 3) memcpy(text + i, "\xe2\x82\xac", 3);
    fnlog_append(w->log, F, 1, NULL, (struct str){text, 6000});
    size_t bytes = 0;
    fnlog_read(w->log, F, 0, 100, check_piece, &bytes);
    assert_int_equal(bytes, 6000);
}

static void more_than_the_cap_keeps_its_end(void **state) {
    struct world *w = *state;
    size_t len = CAP * 20;
    cleanup_free char *text = mem_alloc(len + 4);
    memset(text, 'x', len);
    memcpy(text + len, "\nend", 4);
    fnlog_append(w->log, F, 1, NULL, (struct str){text, len + 4});
    struct seen s = read_lines(w, F, fnlog_end(w->log) - 1, 9);
    assert_string_equal(s.text, "end");
    s = read_lines(w, F, 0, 1000);
    assert_true(s.bytes > CAP / 4 && s.bytes <= CAP);
}

// --- waits ------------------------------------------------------------------------------------------------------------

struct waiting {
    struct fnlog_wait *wait;
    int calls;
};

static void on_wait(void *arg) {
    ((struct waiting *)arg)->calls++;
}

static void on_wait_and_free(void *arg) {
    struct waiting *x = arg;
    x->calls++;
    fnlog_wait_free(TAKE_PTR(x->wait));
}

static void a_wait_ends_once_with_the_first_line(void **state) {
    struct world *w = *state;
    struct waiting a = {0}, b = {0}, other = {0};
    a.wait = fnlog_wait_new(w->log, F, 3600000, on_wait, &a);
    b.wait = fnlog_wait_new(w->log, F, 3600000, on_wait_and_free, &b);
    other.wait = fnlog_wait_new(w->log, STR_LIT("g"), 3600000, on_wait, &other);
    loop_turn(w->loop, 0);
    assert_int_equal(a.calls + b.calls, 0);
    append(w, "1\n2\n3\n");
    assert_int_equal(a.calls + b.calls, 0); // never inside the call
    loop_turn(w->loop, 0);
    append(w, "4\n");
    loop_turn(w->loop, 0);
    assert_int_equal(a.calls, 1);
    assert_int_equal(b.calls, 1);
    assert_null(b.wait);
    assert_int_equal(other.calls, 0);
    fnlog_wait_free(a.wait);
    fnlog_wait_free(other.wait);
}

static void a_wait_ends_with_its_time(void **state) {
    struct world *w = *state;
    struct waiting a = {0}, b = {0};
    a.wait = fnlog_wait_new(w->log, F, 1, on_wait, &a);
    b.wait = fnlog_wait_new(w->log, F, 1, on_wait_and_free, &b);
    TURN_UNTIL(w->loop, a.calls && b.calls);
    append(w, "late\n");
    loop_turn(w->loop, 0);
    assert_int_equal(a.calls, 1);
    assert_int_equal(b.calls, 1);
    fnlog_wait_free(a.wait);
}

static void a_freed_wait_is_not_called(void **state) {
    struct world *w = *state;
    struct waiting a = {0}, b = {0};
    a.wait = fnlog_wait_new(w->log, F, 3600000, on_wait, &a);
    b.wait = fnlog_wait_new(w->log, F, 3600000, on_wait, &b);
    fnlog_wait_free(a.wait); // before the line
    append(w, "x\n");
    fnlog_wait_free(b.wait); // between the line and the end of the turn
    loop_turn(w->loop, 0);
    assert_int_equal(a.calls + b.calls, 0);
}

static void forgetting_keeps_who_waits(void **state) {
    struct world *w = *state;
    struct waiting a = {0};
    append(w, "old\n");
    a.wait = fnlog_wait_new(w->log, F, 3600000, on_wait, &a);
    fnlog_forget(w->log, F);
    append(w, "new\n");
    loop_turn(w->loop, 0);
    assert_int_equal(a.calls, 1);
    fnlog_wait_free(a.wait);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(text_becomes_lines),
        CASE(a_cursor_takes_up_where_it_stopped),
        CASE(functions_do_not_mix),
        CASE(the_oldest_lines_make_room),
        CASE(a_long_line_comes_in_whole_pieces),
        CASE(no_piece_cuts_a_character),
        CASE(more_than_the_cap_keeps_its_end),
        CASE(a_wait_ends_once_with_the_first_line),
        CASE(a_wait_ends_with_its_time),
        CASE(a_freed_wait_is_not_called),
        CASE(forgetting_keeps_who_waits),
    };
    return cmocka_run_group_tests_name("core/fnlog", tests, NULL, NULL);
}
