// SPDX-License-Identifier: Apache-2.0
// How far a reading of the store's clock moves what was known of it; which events are those of fires.
#include "core/trigger.h"
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

static bool is_fire(const char *kind, struct str name, struct id origin) {
    const struct ev_fields f = {.function = STR_LIT("f"), .source_kind = str_of(kind), .source_name = name, .origin_id = origin};
    struct ev *ev = ev_new(&f);
    bool is = fires_is_fire(ev);
    ev_free(ev);
    return is;
}

// What cannot be the name of a trigger never goes to the store, where it would spoil the ends of other fires.
static void only_events_of_timers_are_fires(void **state) {
    (void)state;
    const struct id none = {0};
    char big[TRIGGER_NAME_MAX + 1];
    memset(big, 'x', sizeof big);
    assert_true(is_fire("timer", STR_LIT("report"), none));
    assert_true(is_fire("timer", (struct str){big, TRIGGER_NAME_MAX}, none));
    assert_false(is_fire("kafka", STR_LIT("report"), none));
    assert_false(is_fire("timer", STR_LIT("report"), id_new()));
    assert_false(is_fire("timer", STR_LIT(""), none));
    assert_false(is_fire("timer", STR_LIT("\xff"), none));
    assert_false(is_fire("timer", (struct str){big, sizeof big}, none));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reading_that_agrees_changes_nothing),
        cmocka_unit_test(a_reading_that_does_not_moves_it_no_further_than_it_must),
        cmocka_unit_test(only_events_of_timers_are_fires),
    };
    return cmocka_run_group_tests_name("fires without a store", tests, NULL, NULL);
}
