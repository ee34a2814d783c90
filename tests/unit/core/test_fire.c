// SPDX-License-Identifier: Apache-2.0
// The id of a fire follows from what it is, and tells when it was scheduled.
#include "core/fire.h"
#include "tests/support/support.h"

#define TIME_MS INT64_C(1767225900000)

static struct id of(const char *trigger, int64_t created_ms, int64_t scheduled_ms) {
    return fire_id(str_of(trigger), created_ms, scheduled_ms);
}

static void the_same_fire_has_the_same_id_on_every_node(void **state) {
    (void)state;
    struct id id = of("report", 5, TIME_MS), again = of("report", 5, TIME_MS);
    assert_true(id_eq(&id, &again));
    char text[ID_TEXT_BYTES];
    id_format(&id, text);
    assert_string_equal(text, "019b76df-3be0-7e05-a371-29e6223ff471"); // nodes of several versions agree
}

static void another_fire_has_another_id(void **state) {
    (void)state;
    struct id id = of("report", 5, TIME_MS), name = of("reporu", 5, TIME_MS), made = of("report", 6, TIME_MS), time = of("report", 5, TIME_MS + 1);
    assert_true(!id_eq(&id, &name) && !id_eq(&id, &made) && !id_eq(&id, &time));
}

static void the_id_has_the_scheduled_time(void **state) {
    (void)state;
    struct id id = of("report", 5, TIME_MS), first = of("x", 0, 1), last = of("x", 0, INT64_C(4102444799000));
    assert_int_equal(id_unix_ms(&id), TIME_MS);
    assert_int_equal(id_unix_ms(&first), 1);
    assert_int_equal(id_unix_ms(&last), INT64_C(4102444799000));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_fire_has_the_same_id_on_every_node),
        cmocka_unit_test(another_fire_has_another_id),
        cmocka_unit_test(the_id_has_the_scheduled_time),
    };
    return cmocka_run_group_tests_name("fire ids", tests, NULL, NULL);
}
