// SPDX-License-Identifier: Apache-2.0
// The automatic prefetch against consumers whose speed is known: pools of so many instances that take so long.
#include "core/queue_amqp_pace.h"

#include "tests/support/support.h"

enum { MOST = 20000, SLOTS = 256 };

struct pool {
    size_t slots;
    int64_t service_ns;
    size_t a_turn; // instead of slots: takes and settles so many at every turn
    int64_t busy_until[SLOTS];
    size_t running, waiting, settled;
};

// One turn later: who is ready settles, who waits begins, and the broker fills up what may be out.
static void turn(struct pool *p, size_t prefetch, int64_t now_ns) {
    if (p->a_turn) {
        size_t done = p->waiting < p->a_turn ? p->waiting : p->a_turn;
        p->settled += done;
        p->waiting = prefetch > p->waiting - done ? prefetch : p->waiting - done;
        return;
    }
    for (size_t i = 0; i < p->slots; i++) {
        if (p->busy_until[i] == 0 || p->busy_until[i] > now_ns) continue;
        p->busy_until[i] = 0;
        p->running--;
        p->settled++;
    }
    while (p->running + p->waiting < prefetch) p->waiting++;
    for (size_t i = 0; i < p->slots && p->waiting; i++) {
        if (p->busy_until[i]) continue;
        p->busy_until[i] = now_ns + p->service_ns;
        p->running++;
        p->waiting--;
    }
}

struct course {
    struct mq_pace pace;
    size_t prefetch, least, most; // of the second half
    size_t settled, changes, peak;
    int64_t now_ns;
};

static void run(struct course *c, struct pool *p, int64_t seconds, int64_t step_ns) {
    int64_t begin = c->now_ns, end = begin + seconds * 1000 * NS_PER_MS;
    size_t settled = p->settled;
    c->least = MOST + 1;
    c->most = c->changes = c->peak = 0;
    for (; c->now_ns < end; c->now_ns += step_ns) {
        turn(p, c->prefetch, c->now_ns);
        size_t next = mq_pace_next(&c->pace, c->prefetch, MOST, p->running + p->waiting, p->settled, c->now_ns);
        assert_true(next >= 1 && next <= MQ_PACE_MOST);
        c->changes += next != c->prefetch;
        c->prefetch = next;
        if (next > c->peak) c->peak = next;
        if (c->now_ns < begin + (end - begin) / 2) continue;
        if (c->prefetch < c->least) c->least = c->prefetch;
        if (c->prefetch > c->most) c->most = c->prefetch;
    }
    c->settled = p->settled - settled;
}

static void test_slow_pool_leaves_messages(void **state) {
    (void)state;
    struct pool p = {.slots = 1, .service_ns = 1000 * NS_PER_MS};
    struct course c = {.prefetch = MQ_PACE_FIRST, .now_ns = 1};
    run(&c, &p, 2000, 50 * NS_PER_MS);
    print_message("one slow instance: %zu to %zu\n", c.least, c.most);
    assert_true(c.most <= 6);
    assert_true(c.settled >= 1900); // and is never short
}

static void test_parallel_pool_is_kept_busy(void **state) {
    (void)state;
    struct pool p = {.slots = 64, .service_ns = 5000 * NS_PER_MS};
    struct course c = {.prefetch = MQ_PACE_FIRST, .now_ns = 1};
    run(&c, &p, 1000, 50 * NS_PER_MS);
    print_message("64 slow instances: %zu to %zu, %zu settled of %d\n", c.least, c.most, c.settled, 64 * 200);
    assert_true(c.most <= 256);
    assert_true(c.settled >= 64 * 200 * 90 / 100); // what trials cost
}

static void test_pool_that_grew(void **state) {
    (void)state;
    struct pool p = {.slots = 1, .service_ns = 200 * NS_PER_MS};
    struct course c = {.prefetch = MQ_PACE_FIRST, .now_ns = 1};
    run(&c, &p, 1000, 10 * NS_PER_MS);
    assert_true(c.most <= 8);
    p.slots = 128;
    run(&c, &p, 1000, 10 * NS_PER_MS);
    print_message("grown to 128: %zu to %zu\n", c.least, c.most);
    run(&c, &p, 100, 10 * NS_PER_MS);
    assert_true(c.settled >= 128 * 5 * 100 * 85 / 100);
}

// What other nodes may count on: two instances that take 100 ms for each.
static void test_slow_pool_keeps_tens(void **state) {
    (void)state;
    struct pool p = {.slots = 2, .service_ns = 100 * NS_PER_MS};
    struct course c = {.prefetch = MQ_PACE_FIRST, .now_ns = 1};
    run(&c, &p, 60, 5 * NS_PER_MS);
    print_message("two slow instances: %zu to %zu, never over %zu\n", c.least, c.most, c.peak);
    assert_true(c.peak <= MQ_PACE_FIRST && c.most <= 40);
    assert_true(c.settled >= 1150);
    run(&c, &p, 3600, 5 * NS_PER_MS); // upward trials included
    assert_true(c.peak <= 80);
}

static void test_fast_pool_has_all_within_a_second(void **state) {
    (void)state;
    struct pool p = {.a_turn = 50}; // 50,000 a second
    struct course c = {.prefetch = MQ_PACE_FIRST, .now_ns = 1};
    run(&c, &p, 1, NS_PER_MS);
    print_message("a very fast one: %zu to %zu, %zu changes\n", c.least, c.most, c.changes);
    assert_true(c.least == MQ_PACE_MOST && c.changes <= 3);
    run(&c, &p, 600, NS_PER_MS);
    assert_int_equal(c.changes, 0); // no trials
}

// The instance starts for two seconds, and rounds have begun; then it is fast.
static void test_cold_start_holds_up_nothing(void **state) {
    (void)state;
    struct pool p = {.slots = 1, .service_ns = 2000 * NS_PER_MS};
    struct course c = {.prefetch = MQ_PACE_FIRST, .now_ns = 1};
    run(&c, &p, 2, NS_PER_MS);
    assert_int_equal(c.prefetch, MQ_PACE_FIRST);
    p = (struct pool){.a_turn = 50, .waiting = MQ_PACE_FIRST, .settled = p.settled};
    run(&c, &p, 1, NS_PER_MS);
    assert_int_equal(c.least, MQ_PACE_MOST);
}

static void test_fast_pool_is_never_short(void **state) {
    (void)state;
    struct pool p = {.slots = 5, .service_ns = 4 * NS_PER_MS}; // 1,250 a second
    struct course c = {.prefetch = MQ_PACE_FIRST, .now_ns = 1};
    run(&c, &p, 600, NS_PER_MS);
    print_message("a fast one: %zu to %zu\n", c.least, c.most);
    assert_true(c.least >= 1250 * MQ_PACE_MS / 1000);
    assert_true(c.settled >= 1250 * 599);
}

// All calls of a pool end at the same time: so many at once are settled, but it is no faster for that.
static void test_slow_calls_together_are_not_fast(void **state) {
    (void)state;
    struct pool p = {.slots = MQ_PACE_FIRST, .service_ns = 5000 * NS_PER_MS};
    struct course c = {.prefetch = MQ_PACE_FIRST, .now_ns = 1};
    turn(&p, c.prefetch, 1);
    c.now_ns += 4999 * NS_PER_MS; // the first look is just before the end
    run(&c, &p, 12, NS_PER_MS);
    assert_int_equal(c.peak, MQ_PACE_FIRST);
}

static void test_fast_pool_that_turns_slow_lets_go(void **state) {
    (void)state;
    struct pool p = {.slots = 1, .service_ns = 1000 * NS_PER_MS};
    struct course c = {.prefetch = MQ_PACE_FIRST, .now_ns = 1};
    for (unsigned i = 0; i < 1000 && c.pace.wait < 20; i++) run(&c, &p, 2, 10 * NS_PER_MS); // slow: trials become rare
    assert_true(c.pace.wait >= 20);
    p = (struct pool){.a_turn = 50, .waiting = p.waiting + p.running, .settled = p.settled};
    run(&c, &p, 5, NS_PER_MS);
    assert_int_equal(c.prefetch, MQ_PACE_MOST);
    p = (struct pool){.slots = 20, .service_ns = 200 * NS_PER_MS, .waiting = p.waiting, .settled = p.settled}; // 100 a second
    run(&c, &p, 600, 10 * NS_PER_MS);
    print_message("turned slow: %zu to %zu\n", c.least, c.most);
    assert_true(c.most <= 200);
    assert_true(c.settled >= 100 * 590);
}

// The thread that asks may have slept meanwhile.
static void test_late_look_takes_none_for_fast(void **state) {
    (void)state;
    struct mq_pace p = {0};
    assert_int_equal(mq_pace_next(&p, 100, MOST, 0, 0, NS_PER_MS), 100);
    assert_int_equal(mq_pace_next(&p, 100, MOST, 10, 300, 2001 * NS_PER_MS), 100);
    assert_int_equal(mq_pace_next(&p, 100, MOST, 100, 500, 2101 * NS_PER_MS), 1000); // 200 in 100 ms
    assert_int_equal(mq_pace_next(&p, 100, 300, 100, 500, 2102 * NS_PER_MS), 300);
}

static void test_empty_queue_changes_nothing(void **state) {
    (void)state;
    struct mq_pace p = {0};
    size_t settled = 0;
    for (int64_t ms = 1; ms < 600000; ms += 100) { // one at a time, now and then
        settled += ms % 1000 < 100;
        assert_int_equal(mq_pace_next(&p, 100, MOST, ms % 1000 < 100, settled, ms * NS_PER_MS), 100);
    }
    assert_int_equal(mq_pace_next(&p, 100, 10, 0, settled, 600000 * NS_PER_MS), 10); // never more than it may be
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slow_pool_leaves_messages),
        cmocka_unit_test(test_parallel_pool_is_kept_busy),
        cmocka_unit_test(test_pool_that_grew),
        cmocka_unit_test(test_slow_pool_keeps_tens),
        cmocka_unit_test(test_fast_pool_has_all_within_a_second),
        cmocka_unit_test(test_cold_start_holds_up_nothing),
        cmocka_unit_test(test_fast_pool_is_never_short),
        cmocka_unit_test(test_slow_calls_together_are_not_fast),
        cmocka_unit_test(test_fast_pool_that_turns_slow_lets_go),
        cmocka_unit_test(test_late_look_takes_none_for_fast),
        cmocka_unit_test(test_empty_queue_changes_nothing),
    };
    return cmocka_run_group_tests_name("queue: amqp, prefetch", tests, NULL, NULL);
}
