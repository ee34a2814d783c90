// SPDX-License-Identifier: Apache-2.0
// The automatic prefetch against consumers whose speed is known: pools of so many instances that take so long.
#include "core/queue_amqp_pace.h"

#include "tests/support/support.h"

enum { MOST = 1000, SLOTS = 256 };

struct pool {
    size_t slots;
    int64_t service_ns;
    int64_t busy_until[SLOTS];
    size_t running, waiting, settled;
};

// One turn later: who is ready settles, who waits begins, and the broker fills up what may be out.
static void turn(struct pool *p, size_t prefetch, int64_t now_ns) {
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
    size_t settled;
    int64_t now_ns;
};

static void run(struct course *c, struct pool *p, int64_t seconds, int64_t step_ns) {
    int64_t begin = c->now_ns, end = begin + seconds * 1000 * NS_PER_MS;
    size_t settled = p->settled;
    c->least = MOST + 1;
    c->most = 0;
    for (; c->now_ns < end; c->now_ns += step_ns) {
        turn(p, c->prefetch, c->now_ns);
        c->prefetch = mq_pace_next(&c->pace, c->prefetch, MOST, p->running + p->waiting, p->settled, c->now_ns);
        assert_true(c->prefetch >= 1 && c->prefetch <= MOST);
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

static void test_fast_pool_is_never_short(void **state) {
    (void)state;
    struct pool p = {.slots = 10, .service_ns = NS_PER_MS}; // 10,000 a second
    struct course c = {.prefetch = MQ_PACE_FIRST, .now_ns = 1};
    run(&c, &p, 30, NS_PER_MS);
    print_message("a fast one: %zu to %zu\n", c.least, c.most);
    assert_true(c.least >= MOST / 2); // what it settles in 200 ms, and the credit is no more than half of that
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
        cmocka_unit_test(test_fast_pool_is_never_short),
        cmocka_unit_test(test_empty_queue_changes_nothing),
    };
    return cmocka_run_group_tests_name("queue: amqp, prefetch", tests, NULL, NULL);
}
