// SPDX-License-Identifier: Apache-2.0
// core/offload: work runs off the loop's thread, done on it; no more than the cap at a time.

#include <pthread.h>
#include <stdatomic.h>

#include "core/offload.h"
#include "tests/support/support.h"

#define JOBS 50

static atomic_int now, most;
static atomic_bool go;
static pthread_t loop_thread;
static int done_count;

static void work(void *arg) {
    (void)arg;
    assert_false(pthread_equal(pthread_self(), loop_thread));
    int n = ++now, seen = most;
    while (n > seen && !atomic_compare_exchange_weak(&most, &seen, n)) {
    }
    while (!go) sched_yield();
    now--;
}

static void done(void *arg) {
    assert_true(pthread_equal(pthread_self(), loop_thread));
    ++*(int *)arg;
    done_count++;
}

static void runs_all_capped(void **state) {
    (void)state;
    struct loop *loop = loop_new();
    int calls[JOBS] = {0};
    loop_thread = pthread_self();
    for (int i = 0; i < JOBS; i++) offload_run(loop, work, done, &calls[i]);
    TURN_UNTIL(loop, now == OFFLOAD_THREADS_MAX);
    go = true;
    TURN_UNTIL(loop, done_count == JOBS);
    for (int i = 0; i < JOBS; i++) assert_int_equal(calls[i], 1);
    assert_int_equal(most, OFFLOAD_THREADS_MAX);
    offload_run(loop, work, done, &calls[0]);
    offload_wait(loop);
    assert_int_equal(calls[0], 2);
    loop_free(loop);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(runs_all_capped)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
