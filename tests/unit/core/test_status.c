// SPDX-License-Identifier: Apache-2.0
// core/status and core/outcome: answers now, later, never and too late.

#include "core/outcome.h"
#include "core/status.h"
#include "tests/support/support.h"

struct fixture {
    struct loop *loop;
    struct status *s;
    struct status_reply *held;
    json_t *all;
};

static int setup(void **state) {
    struct fixture *f = mem_zalloc(sizeof *f);
    f->loop = loop_new();
    f->s = status_new(f->loop);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    json_decref(f->all);
    status_free(f->s);
    loop_free(f->loop);
    free(f);
    return 0;
}

static void answer_now(void *arg, struct status_reply *reply) {
    (void)arg;
    status_answer(reply, json_string("now"));
}

static void answer_nothing(void *arg, struct status_reply *reply) {
    (void)arg;
    status_answer(reply, NULL);
}

static void hold(void *arg, struct status_reply *reply) {
    ((struct fixture *)arg)->held = reply;
}

static void on_all(void *arg, json_t *all) {
    struct fixture *f = arg;
    assert_null(f->all);
    f->all = all;
}

static void collects(void **state) {
    struct fixture *f = *state;
    status_add(f->s, "one", answer_now, f);
    status_add(f->s, "none", answer_nothing, f);
    status_add(f->s, "two", hold, f);
    status_collect(f->s, 60000, on_all, f);
    loop_turn(f->loop, 1);
    assert_null(f->all);
    status_answer(f->held, json_integer(2));
    TURN_UNTIL(f->loop, f->all);
    assert_int_equal(json_object_size(f->all), 2);
    assert_string_equal(json_string_value(json_object_get(f->all, "one")), "now");
    assert_int_equal(json_integer_value(json_object_get(f->all, "two")), 2);
}

static void all_at_once_is_later(void **state) {
    struct fixture *f = *state;
    status_collect(f->s, 60000, on_all, f);
    assert_null(f->all);
    TURN_UNTIL(f->loop, f->all);
    assert_int_equal(json_object_size(f->all), 0);
}

static void the_late_are_left_out(void **state) {
    struct fixture *f = *state;
    status_add(f->s, "one", answer_now, f);
    status_add(f->s, "late", hold, f);
    status_collect(f->s, 5, on_all, f);
    TURN_UNTIL(f->loop, f->all);
    assert_int_equal(json_object_size(f->all), 1);
    status_answer(f->held, json_integer(1));
    assert_int_equal(json_object_size(f->all), 1);
}

static void freed_while_collecting(void **state) {
    struct fixture *f = *state;
    status_add(f->s, "late", hold, f);
    status_collect(f->s, 60000, on_all, f);
    status_free(TAKE_PTR(f->s));
    status_answer(f->held, json_integer(1));
    loop_turn(f->loop, 1);
    assert_null(f->all);
}

static void outcomes_have_words(void **state) {
    (void)state;
    assert_string_equal(outcome_word(OUTCOME_OK), "ok");
    assert_string_equal(outcome_word(OUTCOME_PLATFORM), "platform");
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        test(collects), test(all_at_once_is_later), test(the_late_are_left_out), test(freed_while_collecting),
        cmocka_unit_test(outcomes_have_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
