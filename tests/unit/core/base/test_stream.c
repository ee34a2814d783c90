// SPDX-License-Identifier: Apache-2.0
#include "core/base/stream.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/support.h"

enum { IN_CAP = 100000, OUT_CAP = 300000 };

struct end {
    struct loop *loop;
    struct stream *s;
    int peer; // the other side of the socket, non-blocking
    int reads, closes, drains;
    int code;
    bool keep_input, free_on_read, free_on_close, free_on_drained;
    size_t got;
};

static void on_read(void *arg) {
    struct end *e = arg;
    e->reads++;
    if (e->free_on_read) {
        stream_free(e->s);
        return;
    }
    if (e->keep_input) return;
    e->got += stream_input(e->s).len;
    stream_consume(e->s, stream_input(e->s).len);
}

static void on_close(void *arg, const struct err *why) {
    struct end *e = arg;
    e->closes++;
    e->code = why->code;
    if (e->free_on_close) stream_free(e->s);
}

static void on_drained(void *arg) {
    struct end *e = arg;
    e->drains++;
    if (e->free_on_drained) stream_free(e->s);
}

static const struct stream_events events = {on_read, on_close, on_drained};

static int set_up(void **state) {
    struct end *e = mem_zalloc(sizeof *e);
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
    e->loop = loop_new();
    e->peer = fds[1];
    e->s = stream_new(e->loop, fds[0], IN_CAP, OUT_CAP, &events, e);
    *state = e;
    return 0;
}

static int tear_down(void **state) {
    struct end *e = *state;
    bool freed = e->free_on_read || e->free_on_close || e->free_on_drained;
    if (!freed) stream_free(e->s);
    if (e->peer >= 0) close(e->peer);
    loop_free(e->loop);
    free(e);
    return 0;
}

static size_t peer_read(struct end *e) {
    static char bytes[65536];
    ssize_t n = recv(e->peer, bytes, sizeof bytes, 0);
    return n > 0 ? (size_t)n : 0;
}

static void test_reads(void **state) {
    struct end *e = *state;
    assert_int_equal(write(e->peer, "hello", 5), 5);
    TURN_UNTIL(e->loop, e->got == 5);
    e->keep_input = true;
    assert_int_equal(write(e->peer, "abc", 3), 3);
    TURN_UNTIL(e->loop, e->reads == 2);
    assert_int_equal(write(e->peer, "def", 3), 3);
    TURN_UNTIL(e->loop, e->reads == 3);
    assert_true(str_is(stream_input(e->s), "abcdef"));
    stream_consume(e->s, 2);
    assert_true(str_is(stream_input(e->s), "cdef"));
    assert_int_equal(e->closes, 0);
}

static void test_pause(void **state) {
    struct end *e = *state;
    stream_pause(e->s, true);
    assert_int_equal(write(e->peer, "x", 1), 1);
    loop_turn(e->loop, 0);
    loop_turn(e->loop, 0);
    assert_int_equal(e->reads, 0);
    stream_pause(e->s, false);
    TURN_UNTIL(e->loop, e->got == 1);
}

static void test_writes_are_joined(void **state) {
    struct end *e = *state;
    for (int i = 0; i < 100; i++) assert_int_equal(stream_write(e->s, STR_LIT("0123456789")), 0);
    assert_int_equal(stream_unsent(e->s), 1000);
    assert_int_equal(peer_read(e), 0); // only at the end of the turn
    TURN_UNTIL(e->loop, e->drains == 1);
    assert_int_equal(stream_unsent(e->s), 0);
    assert_int_equal(peer_read(e), 1000);
}

static void test_slow_peer(void **state) {
    struct end *e = *state;
    static char big[OUT_CAP];
    int small = 4096;
    assert_int_equal(setsockopt(e->peer, SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
    assert_int_equal(stream_write(e->s, (struct str){big, sizeof big}), 0);
    assert_int_equal(stream_write(e->s, STR_LIT("x")), ERR_TOO_LARGE);
    assert_int_equal(stream_unsent(e->s), sizeof big); // nothing of it was queued
    size_t got = 0;
    TURN_UNTIL(e->loop, (got += peer_read(e)) == sizeof big);
    TURN_UNTIL(e->loop, e->drains == 1);
    assert_int_equal(e->closes, 0);
}

static void test_end_of_input(void **state) {
    struct end *e = *state;
    assert_int_equal(write(e->peer, "bye", 3), 3);
    close(e->peer);
    e->peer = -1;
    TURN_UNTIL(e->loop, e->closes == 1);
    assert_int_equal(e->got, 3);
    assert_int_equal(e->code, ERR_OK);
    assert_int_equal(stream_write(e->s, STR_LIT("x")), 0); // swallowed
    loop_turn(e->loop, 0);
    loop_turn(e->loop, 0);
    assert_int_equal(e->closes, 1); // said once
}

static void test_input_over_cap(void **state) {
    struct end *e = *state;
    static char big[8192];
    e->keep_input = true;
    TURN_UNTIL(e->loop, write(e->peer, big, sizeof big) < 0 && e->closes == 1);
    assert_int_equal(e->code, ERR_TOO_LARGE);
    assert_true(stream_input(e->s).len <= IN_CAP);
}

static void test_free_in_on_read(void **state) {
    struct end *e = *state;
    e->free_on_read = true;
    assert_int_equal(stream_write(e->s, STR_LIT("lost")), 0);
    assert_int_equal(write(e->peer, "x", 1), 1);
    TURN_UNTIL(e->loop, e->reads == 1);
    loop_turn(e->loop, 0);
    assert_int_equal(e->closes, 0);
}

static void test_free_in_on_close(void **state) {
    struct end *e = *state;
    e->free_on_close = true;
    close(e->peer);
    e->peer = -1;
    TURN_UNTIL(e->loop, e->closes == 1);
    loop_turn(e->loop, 0);
}

static void test_free_in_on_drained(void **state) {
    struct end *e = *state;
    e->free_on_drained = true;
    assert_int_equal(stream_write(e->s, STR_LIT("x")), 0);
    TURN_UNTIL(e->loop, e->drains == 1);
    loop_turn(e->loop, 0);
    assert_int_equal(peer_read(e), 1);
}

static void test_write_to_closed_peer(void **state) {
    struct end *e = *state;
    stream_pause(e->s, true); // so that only the write can notice
    close(e->peer);
    e->peer = -1;
    assert_int_equal(stream_write(e->s, STR_LIT("x")), 0);
    TURN_UNTIL(e->loop, e->closes == 1);
    assert_int_equal(e->code, ERR_UNAVAILABLE);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(reads),           CASE(pause),         CASE(writes_are_joined), CASE(slow_peer),        CASE(end_of_input),
        CASE(input_over_cap),  CASE(free_in_on_read), CASE(free_in_on_close), CASE(free_in_on_drained),
        CASE(write_to_closed_peer),
    };
    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
