// SPDX-License-Identifier: Apache-2.0
#include "dlq/pace.h"
#include "tests/support/support.h"

#define S INT64_C(1000000000) // in ns
#define BEGAN (5 * S)

// As a job does, each `step_ns` until `until_ns` after its begin; how many went.
static int64_t run(struct pace *p, int64_t from_ns, int64_t until_ns, int64_t step_ns, int64_t sent) {
    for (int64_t t = from_ns; t <= until_ns; t += step_ns) sent += (int64_t)pace_room(p, sent, BEGAN + t, 500);
    return sent;
}

static void without_a_rate_there_is_always_room(void **state) {
    (void)state;
    struct pace p = {.began_ns = BEGAN};
    assert_int_equal(pace_room(&p, 0, BEGAN, 500), 500);
    assert_int_equal(pace_room(&p, 1000000, BEGAN, 7), 7);
}

static void so_many_a_second_go(void **state) {
    (void)state;
    struct pace p = {.rate = 50, .began_ns = BEGAN};
    assert_int_equal(pace_room(&p, 0, BEGAN, 500), 0);
    assert_int_equal(pace_room(&p, 0, BEGAN + S / 50 - 1, 500), 0);
    assert_int_equal(pace_room(&p, 0, BEGAN + S / 50, 500), 1);
    assert_int_equal(run(&p, 0, 10 * S, S / 50, 0), 500);
    assert_int_equal(pace_room(&p, 500, BEGAN + 10 * S + S / 2, 500), 25);
    assert_int_equal(pace_room(&p, 500, BEGAN + 10 * S + S / 2, 3), 3);
    assert_int_equal(pace_room(&p, 600, BEGAN + 11 * S, 500), 0); // too many went
}

static void less_than_one_a_second_goes_too(void **state) {
    (void)state;
    struct pace p = {.rate = 0.001, .began_ns = BEGAN};
    assert_int_equal(pace_room(&p, 0, BEGAN + 999 * S, 500), 0);
    assert_int_equal(pace_room(&p, 0, BEGAN + 1000 * S, 500), 1);
    assert_int_equal(pace_room(&p, 1, BEGAN + 1999 * S, 500), 0);
}

static void a_ramp_grows_evenly_up_to_the_rate(void **state) {
    (void)state;
    struct pace p = {.rate = 100, .ramp_ms = 10000, .began_ns = BEGAN};
    assert_int_equal(run(&p, 0, 1 * S, S / 100, 0), 5);
    assert_int_equal(run(&p, 0, 5 * S, S / 100, 0), 125);
    assert_int_equal(run(&p, 0, 10 * S, S / 100, 0), 500);
    assert_int_equal(run(&p, 0, 20 * S, S / 100, 0), 1500);
    assert_int_equal(p.began_ns, BEGAN); // it was never behind
}

static void what_was_not_used_is_not_made_up_for_in_a_burst(void **state) {
    (void)state;
    struct pace p = {.rate = 50, .ramp_ms = 2000, .began_ns = BEGAN};
    int64_t sent = run(&p, 0, 10 * S, S / 50, 0);
    assert_int_equal(sent, 450);
    int64_t room = (int64_t)pace_room(&p, sent, BEGAN + 600 * S, 500); // the queue was away
    assert_int_equal(room, 51);
    sent += room;
    assert_int_equal(pace_room(&p, sent, BEGAN + 600 * S, 500), 0);
    assert_int_equal(pace_room(&p, sent, BEGAN + 601 * S, 500), 50);
    // And not while nothing is asked for: a second's worth at most waits.
    struct pace idle = {.rate = 50, .began_ns = BEGAN};
    for (int64_t t = 0; t <= 100 * S; t += S / 10) assert_true(pace_room(&idle, 0, BEGAN + t, 500) <= 51);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_rate_there_is_always_room),
        cmocka_unit_test(so_many_a_second_go),
        cmocka_unit_test(less_than_one_a_second_goes_too),
        cmocka_unit_test(a_ramp_grows_evenly_up_to_the_rate),
        cmocka_unit_test(what_was_not_used_is_not_made_up_for_in_a_burst),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
