// SPDX-License-Identifier: Apache-2.0
#include "core/base/loop.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "tests/support/support.h"

struct count {
    struct loop *loop;
    struct timer *timer;
    struct io *io;
    struct defer defer;
    int calls, again;
    int64_t seen_ms;
    int fd, ready;
};

static void on_count(void *arg) {
    ((struct count *)arg)->calls++;
}

static void test_timers(void **state) {
    struct loop *loop = *state;
    struct count a = {0}, b = {0}, c = {0};
    struct timer *ta = timer_new(loop, on_count, &a), *tb = timer_new(loop, on_count, &b), *tc = timer_new(loop, on_count, &c);
    int64_t start = clock_mono_ns();
    timer_start(ta, 30);
    timer_start(tb, 10000);
    timer_start(tb, -5); // set anew, and at once
    timer_start(tc, 1);
    timer_stop(tc);
    TURN_UNTIL(loop, a.calls == 1);
    assert_true(clock_mono_ns() - start >= 30 * NS_PER_MS);
    assert_int_equal(b.calls, 1);
    assert_int_equal(c.calls, 0);
    loop_turn(loop, 0);
    assert_int_equal(a.calls, 1); // one shot
    timer_free(ta);
    timer_free(tb);
    timer_free(tc);
    timer_free(NULL);
}

static void on_look_at_clock(void *arg) {
    struct count *c = arg;
    int64_t before = loop_unix_ms(c->loop), now = clock_unix_ms();
    while (clock_unix_ms() == now) {
        // a millisecond passes
    }
    c->again = loop_unix_ms(c->loop) == before && before <= now;
    c->seen_ms = before;
    c->calls++;
}

// It stands still within a callback, and each callback has its own.
static void test_unix_time(void **state) {
    struct loop *loop = *state;
    struct count c = {.loop = loop};
    struct timer *t = timer_new(loop, on_look_at_clock, &c);
    for (int i = 1; i <= 2; i++) {
        int64_t before_ms = clock_unix_ms();
        timer_start(t, 0);
        TURN_UNTIL(loop, c.calls == i);
        assert_true(c.again);
        assert_true(c.seen_ms >= before_ms);
    }
    timer_free(t);
}

static void on_free_own_timer(void *arg) {
    struct count *c = arg;
    c->calls++;
    timer_free(c->timer);
}

static void test_timer_freed_inside(void **state) {
    struct loop *loop = *state;
    struct count c = {0};
    c.timer = timer_new(loop, on_free_own_timer, &c);
    timer_start(c.timer, 0);
    TURN_UNTIL(loop, c.calls == 1);
    loop_turn(loop, 0);
    assert_int_equal(c.calls, 1);
}

static void on_defer(void *arg) {
    struct count *c = arg;
    c->calls++;
    if (c->again-- > 0) loop_defer(c->loop, &c->defer);
}

static void test_defer(void **state) {
    struct loop *loop = *state;
    struct count c[3] = {0};
    for (size_t i = 0; i < 3; i++) c[i] = (struct count){.loop = loop, .defer = {.fn = on_defer, .arg = &c[i]}};
    for (size_t i = 0; i < 3; i++) loop_defer(loop, &c[i].defer);
    loop_defer(loop, &c[0].defer); // asked twice, runs once
    loop_defer_cancel(loop, &c[1].defer);
    loop_defer_cancel(loop, &c[1].defer);
    c[2].again = 2; // asked for inside: runs in this turn too
    assert_int_equal(c[0].calls, 0);
    loop_turn(loop, 0);
    assert_int_equal(c[0].calls, 1);
    assert_int_equal(c[1].calls, 0);
    assert_int_equal(c[2].calls, 3);
    // Cancelling the last leaves a list that can be added to.
    loop_defer(loop, &c[0].defer);
    loop_defer(loop, &c[1].defer);
    loop_defer_cancel(loop, &c[1].defer);
    loop_defer(loop, &c[2].defer);
    loop_turn(loop, 0);
    assert_int_equal(c[0].calls, 2);
    assert_int_equal(c[1].calls, 0);
    assert_int_equal(c[2].calls, 4);
}

static void on_io(void *arg, int ready) {
    struct count *c = arg;
    char byte;
    c->calls++;
    c->ready |= ready;
    if (ready & IO_READ) assert_int_equal(read(c->fd, &byte, 1), 1);
    else io_want(c->io, 0);
}

static void test_io(void **state) {
    struct loop *loop = *state;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    struct count in = {.fd = fds[0]}, out = {.fd = fds[1]};
    in.io = io_new(loop, fds[0], on_io, &in);
    out.io = io_new(loop, fds[1], on_io, &out);
    loop_turn(loop, 0);
    assert_int_equal(in.calls + out.calls, 0); // nothing is wanted yet
    io_want(in.io, IO_READ);
    io_want(out.io, IO_WRITE);
    TURN_UNTIL(loop, out.calls == 1);
    assert_int_equal(out.ready, IO_WRITE);
    assert_int_equal(write(fds[1], "ab", 2), 2);
    TURN_UNTIL(loop, in.calls == 2); // level-triggered: once for each byte that it takes
    assert_int_equal(in.ready, IO_READ);
    io_want(in.io, 0);
    assert_int_equal(write(fds[1], "c", 1), 1);
    loop_turn(loop, 0);
    assert_int_equal(in.calls, 2);
    io_free(in.io);
    io_free(out.io);
    io_free(NULL);
    close(fds[0]);
    close(fds[1]);
}

enum { THREADS = 3, POSTS = 5000 };
struct posted {
    struct post post; // first
    int thread, number;
};
static int next_number[THREADS], posts_run;
static pthread_t loop_thread;

static void on_post(struct post *post) {
    struct posted *p = container_of(post, struct posted, post);
    assert_true(pthread_equal(pthread_self(), loop_thread));
    assert_int_equal(p->number, next_number[p->thread]); // in the order of each thread
    next_number[p->thread]++;
    posts_run++;
    free(p);
}

struct poster {
    struct loop *loop;
    int thread;
};

static void *post_many(void *arg) {
    const struct poster *me = arg;
    for (int i = 0; i < POSTS; i++) {
        struct posted *p = mem_zalloc(sizeof *p);
        *p = (struct posted){.post = {.fn = on_post}, .thread = me->thread, .number = i};
        loop_post(me->loop, &p->post);
    }
    return NULL;
}

static void test_posts(void **state) {
    struct loop *loop = *state;
    pthread_t threads[THREADS];
    struct poster posters[THREADS];
    loop_thread = pthread_self();
    for (int i = 0; i < THREADS; i++) {
        posters[i] = (struct poster){loop, i};
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, &posters[i]), 0);
    }
    TURN_UNTIL(loop, posts_run == THREADS * POSTS);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
}

static void on_stop(void *arg) {
    struct count *c = arg;
    c->calls++;
    loop_stop(c->loop);
}

static void on_usr1(void *arg, int signo) {
    struct count *c = arg;
    assert_int_equal(signo, SIGUSR1);
    timer_start(c->timer, 1);
}

static void test_run_until_stopped(void **state) {
    struct loop *loop = *state;
    struct count c = {.loop = loop};
    c.timer = timer_new(loop, on_stop, &c);
    loop_on_signal(loop, SIGUSR1, on_usr1, &c);
    assert_int_equal(raise(SIGUSR1), 0);
    int64_t before = loop_now_ns(loop);
    loop_run(loop);
    assert_int_equal(c.calls, 1);
    assert_true(loop_now_ns(loop) > before);
    timer_free(c.timer);
}

static int set_up(void **state) {
    *state = loop_new();
    return 0;
}

static int tear_down(void **state) {
    loop_free(*state);
    return 0;
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(timers), CASE(unix_time), CASE(timer_freed_inside), CASE(defer), CASE(io), CASE(posts), CASE(run_until_stopped),
    };
    return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
