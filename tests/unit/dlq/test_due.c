// SPDX-License-Identifier: Apache-2.0
// dlq/due: a letter goes back when its time has come, once; what cannot go back is never lost.
#include "dlq/due.h"

#include "tests/unit/dlq/world.h"

static struct due *start(struct world *w) {
    struct due *d = due_new(w->loop, w->letters, w->ingest);
    due_start(d);
    return d;
}

static void stop(struct world *w, struct due *d) {
    TURN_UNTIL(w->loop, due_stop(d));
    due_free(d);
}

static void a_due_letter_goes_back_as_it_was(void **state) {
    struct world *w = *state;
    const struct ev_header header = {STR_LIT("h"), STR_LIT("v")};
    const struct ev_fields f = {.function = STR_LIT("f"), .payload = STR_LIT("the payload"), .attempt = 2, .accepted_ms = 12345,
                                .qualifier = STR_LIT("1"), .source_kind = STR_LIT("http"), .ordering_key = STR_LIT("k"),
                                .headers = &header, .header_count = 1,
                                .history = STR_LIT("[{\"attempt\":1},{\"attempt\":2}]")};
    struct id id = put(w, &f, LETTER_DUE, clock_unix_ms() - 1);
    struct due *d = start(w);
    TURN_UNTIL(w->loop, w->got_count);
    const struct ev_fields *got = &w->got[0]->f;
    assert_true(id_eq(&got->id, &id));
    assert_int_equal(got->attempt, 2);
    assert_int_equal(got->accepted_ms, 12345);
    assert_int_equal(got->invocation, EV_ASYNC);
    assert_true(str_is(got->payload, "the payload"));
    assert_true(str_is(got->qualifier, "1"));
    assert_true(str_is(got->ordering_key, "k"));
    assert_true(str_eq(got->history, f.history));
    assert_int_equal(got->header_count, 1);
    TURN_UNTIL(w->loop, is(w, &id, "", NULL)); // its row is gone
    stop(w, d);
    assert_int_equal(w->got_count, 1);
}

static void one_that_is_not_due_yet_waits(void **state) {
    struct world *w = *state;
    const struct ev_fields later = {.function = STR_LIT("f"), .payload = STR_LIT("later")};
    struct id id = put(w, &later, LETTER_DUE, clock_unix_ms() + 3600000);
    struct id dead = put_simple(w, "f", LETTER_DEAD);
    struct due *d = start(w);
    put_simple(w, "g", LETTER_DUE);
    due_hint(d, clock_unix_ms());
    TURN_UNTIL(w->loop, w->got_count);
    assert_true(str_is(w->got[0]->f.function, "g"));
    stop(w, d);
    assert_int_equal(w->got_count, 1);
    assert_true(is(w, &id, "state", "due"));
    assert_true(is(w, &dead, "state", "dead"));
}

static void one_that_is_due_soon_goes_at_its_time(void **state) {
    struct world *w = *state;
    const struct ev_fields f = {.function = STR_LIT("f")};
    int64_t due_ms = clock_unix_ms() + 120;
    put(w, &f, LETTER_DUE, due_ms);
    struct due *d = start(w);
    TURN_UNTIL(w->loop, w->got_count);
    assert_true(clock_unix_ms() >= due_ms);
    stop(w, d);
}

static void many_go_each_once(void **state) {
    struct world *w = *state;
    struct id ids[6];
    for (size_t i = 0; i < array_len(ids); i++) ids[i] = put_simple(w, i % 2 ? "f" : "g", LETTER_DUE);
    struct due *d = start(w);
    TURN_UNTIL(w->loop, w->got_count >= array_len(ids));
    for (size_t i = 0; i < array_len(ids); i++) TURN_UNTIL(w->loop, is(w, &ids[i], "", NULL));
    stop(w, d);
    assert_int_equal(w->got_count, array_len(ids));
    for (size_t i = 0; i < array_len(ids); i++) {
        size_t seen = 0;
        for (size_t k = 0; k < w->got_count; k++) seen += id_eq(&w->got[k]->f.id, &ids[i]);
        assert_int_equal(seen, 1);
    }
}

// Its neighbours go; it stays due, and goes when there is room.
static void a_refused_one_is_tried_again(void **state) {
    struct world *w = *state;
    struct id refused = put_simple(w, "full", LETTER_DUE), other = put_simple(w, "f", LETTER_DUE);
    struct due *d = start(w);
    TURN_UNTIL(w->loop, w->got_count);
    assert_true(id_eq(&w->got[0]->f.id, &other));
    assert_true(metrics_get(w->metrics, METRIC_EVENTS_REFUSED, STR_LIT("TooManyRequests")) >= 1);
    TURN_UNTIL(w->loop, is(w, &other, "", NULL));
    assert_true(is(w, &refused, "state", "due"));
    room_for(w, "full");
    TURN_UNTIL(w->loop, is(w, &refused, "", NULL));
    stop(w, d);
    assert_int_equal(w->got_count, 1); // the other is on its own queue
}

static void without_its_function_it_is_unroutable(void **state) {
    struct world *w = *state;
    f_is_gone = true;
    struct id id = put_simple(w, "f", LETTER_DUE);
    const struct ev_fields versioned = {.function = STR_LIT("g"), .qualifier = STR_LIT("9")};
    struct id no_version = put(w, &versioned, LETTER_DUE, clock_unix_ms() - 1);
    struct due *d = start(w);
    TURN_UNTIL(w->loop, is(w, &id, "state", "dead") && is(w, &no_version, "state", "dead"));
    stop(w, d);
    assert_true(is(w, &id, "kind", "unroutable"));
    assert_true(is(w, &no_version, "kind", "unroutable"));
    json_t *letter = show(w, &id);
    assert_string_equal(json_string_value(json_object_get(letter, "payload")), "p"); // nothing of it is lost
    assert_int_equal(json_array_size(json_object_get(letter, "history")), 2);
    json_decref(letter);
    assert_int_equal(w->got_count, 0);
}

// Such a payload comes from a broker; trying it again for ever would help nobody and hold up the others.
static void what_no_queue_takes_is_dead(void **state) {
    struct world *w = *state;
    size_t len = EV_PAYLOAD_MAX + 1;
    char *payload = mem_zalloc(len);
    const struct ev_fields large = {.function = STR_LIT("f"), .payload = {payload, len}};
    const struct ev_fields odd = {.function = STR_LIT("f"), .qualifier = STR_LIT("latest")};
    struct id too_large = put(w, &large, LETTER_DUE, clock_unix_ms() - 1), no_number = put(w, &odd, LETTER_DUE, clock_unix_ms() - 1);
    struct due *d = start(w);
    TURN_UNTIL(w->loop, is(w, &too_large, "state", "dead") && is(w, &no_number, "state", "dead"));
    stop(w, d);
    free(payload);
    assert_int_equal(w->got_count, 0);
}

static void a_stopped_one_claims_nothing(void **state) {
    struct world *w = *state;
    struct due *d = due_new(w->loop, w->letters, w->ingest);
    due_start(d);
    assert_true(due_stop(d));
    struct id id = put_simple(w, "f", LETTER_DUE);
    due_hint(d, clock_unix_ms());
    for (int i = 0; i < 5; i++) loop_turn(w->loop, 1);
    assert_true(is(w, &id, "state", "due"));
    assert_int_equal(w->got_count, 0);
    due_free(d);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(a_due_letter_goes_back_as_it_was),
        CASE(one_that_is_not_due_yet_waits),
        CASE(one_that_is_due_soon_goes_at_its_time),
        CASE(many_go_each_once),
        CASE(a_refused_one_is_tried_again),
        CASE(without_its_function_it_is_unroutable),
        CASE(what_no_queue_takes_is_dead),
        CASE(a_stopped_one_claims_nothing),
    };
    return cmocka_run_group_tests_name("dlq/due", tests, NULL, NULL);
}
