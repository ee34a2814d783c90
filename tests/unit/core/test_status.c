// SPDX-License-Identifier: Apache-2.0
// core/status: parts that answer at once, later, never, and after everything is over.
#include "core/status.h"
#include "tests/support/support.h"

struct world {
    struct loop *loop;
    struct status *status;
    struct status_reply *kept[4]; // of parts that answer later
    size_t kept_count;
};

struct got {
    int calls;
    json_t *all;
};

static int setup(void **state) {
    struct world *w = mem_zalloc(sizeof *w);
    w->loop = loop_new();
    w->status = status_new(w->loop);
    *state = w;
    return 0;
}

static int teardown(void **state) {
    struct world *w = *state;
    status_free(w->status);
    loop_free(w->loop);
    free(w);
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

static void answer_later(void *arg, struct status_reply *reply) {
    struct world *w = arg;
    w->kept[w->kept_count++] = reply;
}

static void on_done(void *arg, json_t *all) {
    struct got *g = arg;
    g->calls++;
    json_decref(g->all);
    g->all = all;
}

static const char *section(const struct got *g, const char *name) {
    return json_string_value(json_object_get(g->all, name));
}

static bool misses_only(const struct got *g, const char *name) {
    const json_t *missing = json_object_get(g->all, "missing");
    return json_array_size(missing) == 1 && strcmp(json_string_value(json_array_get(missing, 0)), name) == 0;
}

static void all_answers_at_once_still_come_later(void **state) {
    struct world *w = *state;
    struct got g = {0};
    status_add(w->status, "a", answer_now, w);
    status_add(w->status, "b", answer_nothing, w);
    status_collect(w->status, 3600000, on_done, &g);
    assert_int_equal(g.calls, 0);
    loop_turn(w->loop, 0);
    assert_int_equal(g.calls, 1);
    assert_string_equal(section(&g, "a"), "now");
    assert_null(json_object_get(g.all, "b"));
    assert_true(misses_only(&g, "b"));
    json_decref(g.all);
}

static void no_part_at_all_is_an_empty_object(void **state) {
    struct world *w = *state;
    struct got g = {0};
    status_collect(w->status, 3600000, on_done, &g);
    loop_turn(w->loop, 0);
    assert_int_equal(g.calls, 1);
    assert_int_equal(json_object_size(g.all), 0);
    json_decref(g.all);
}

static void it_waits_for_the_last_answer(void **state) {
    struct world *w = *state;
    struct got g = {0};
    status_add(w->status, "slow", answer_later, w);
    status_add(w->status, "fast", answer_now, w);
    status_collect(w->status, 3600000, on_done, &g);
    loop_turn(w->loop, 0);
    assert_int_equal(g.calls, 0);
    status_answer(w->kept[0], json_string("late"));
    assert_int_equal(g.calls, 0);
    loop_turn(w->loop, 0);
    assert_int_equal(g.calls, 1);
    assert_string_equal(section(&g, "slow"), "late");
    assert_null(json_object_get(g.all, "missing"));
    assert_string_equal(section(&g, "fast"), "now");
    json_decref(g.all);
}

static void who_is_too_late_is_left_out(void **state) {
    struct world *w = *state;
    struct got g = {0};
    status_add(w->status, "slow", answer_later, w);
    status_add(w->status, "fast", answer_now, w);
    status_collect(w->status, 1, on_done, &g);
    TURN_UNTIL(w->loop, g.calls);
    assert_null(json_object_get(g.all, "slow"));
    assert_true(misses_only(&g, "slow"));
    assert_string_equal(section(&g, "fast"), "now");
    status_answer(w->kept[0], json_string("much too late")); // frees what waited for it
    loop_turn(w->loop, 0);
    assert_int_equal(g.calls, 1);
    json_decref(g.all);
}

static void two_collections_do_not_mix(void **state) {
    struct world *w = *state;
    struct got a = {0}, b = {0};
    status_add(w->status, "s", answer_later, w);
    status_collect(w->status, 3600000, on_done, &a);
    status_collect(w->status, 3600000, on_done, &b);
    status_answer(w->kept[1], json_string("for b"));
    loop_turn(w->loop, 0);
    assert_int_equal(a.calls, 0);
    assert_string_equal(section(&b, "s"), "for b");
    status_answer(w->kept[0], json_string("for a"));
    loop_turn(w->loop, 0);
    assert_string_equal(section(&a, "s"), "for a");
    json_decref(a.all);
    json_decref(b.all);
}

static void freeing_drops_what_is_under_way(void **state) {
    struct world *w = *state;
    struct got g = {0};
    status_add(w->status, "slow", answer_later, w);
    status_add(w->status, "fast", answer_now, w);
    status_collect(w->status, 1, on_done, &g);
    status_free(TAKE_PTR(w->status));
    loop_turn(w->loop, 5);
    status_answer(w->kept[0], json_string("late"));
    loop_turn(w->loop, 0);
    assert_int_equal(g.calls, 0);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(all_answers_at_once_still_come_later),
        CASE(no_part_at_all_is_an_empty_object),
        CASE(it_waits_for_the_last_answer),
        CASE(who_is_too_late_is_left_out),
        CASE(two_collections_do_not_mix),
        CASE(freeing_drops_what_is_under_way),
    };
    return cmocka_run_group_tests_name("core/status", tests, NULL, NULL);
}
