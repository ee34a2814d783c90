// SPDX-License-Identifier: Apache-2.0
// How far a reading of the store's clock moves what was known of it.
#include "dlq/fires_impl.h"
#include "tests/support/support.h"

static void a_reading_that_agrees_changes_nothing(void **state) {
    (void)state;
    assert_int_equal(fires_clock_step(1000, &(struct clock_reading){900, 1100}), 1000);
    assert_int_equal(fires_clock_step(1000, &(struct clock_reading){-5000000000, 5000000000}), 1000); // a slow answer
    assert_int_equal(fires_clock_step(1000, &(struct clock_reading){1000, 1000}), 1000);
}

static void a_reading_that_does_not_moves_it_no_further_than_it_must(void **state) {
    (void)state;
    assert_int_equal(fires_clock_step(1000, &(struct clock_reading){1500, 1600}), 1500);
    assert_int_equal(fires_clock_step(1000, &(struct clock_reading){-300, -200}), -200);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reading_that_agrees_changes_nothing),
        cmocka_unit_test(a_reading_that_does_not_moves_it_no_further_than_it_must),
    };
    return cmocka_run_group_tests_name("fires' clock", tests, NULL, NULL);
}
