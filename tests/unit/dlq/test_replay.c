// SPDX-License-Identifier: Apache-2.0
// dlq/replay: a dead letter becomes a new event, linked both ways; what could not be sent is dead again.
#include "dlq/replay.h"

#include "tests/unit/dlq/world.h"

struct replayed {
    bool done;
    int code;
    struct err err;
    struct replay_result result;
};

static void on_replayed(void *arg, int code, const struct err *err, const struct replay_result *result) {
    struct replayed *a = arg;
    assert_false(a->done);
    a->done = true;
    a->code = code;
    if (code) a->err = *err;
    if (result) a->result = *result;
}

static struct replayed replay(struct world *w, const struct letter_filter *filter, const char *to) {
    struct replay *r = replay_new(w->loop, w->letters, w->ingest, w->metrics);
    struct replayed a = {0};
    replay_run(r, filter, str_of(to), on_replayed, &a);
    TURN_UNTIL(w->loop, a.done);
    replay_free(r);
    return a;
}

static struct letter_filter of(const char *function) {
    return (struct letter_filter){.function = str_of(function), .limit = REPLAY_LIMIT};
}

static void assert_replay_id(struct world *w, const struct id *letter_id, const struct id *event_id) {
    char text[ID_TEXT_BYTES];
    id_format(event_id, text);
    json_t *letter = show(w, letter_id), *value;
    const char *key;
    bool found = false;
    json_object_foreach(letter, key, value) found |= json_is_string(value) && strcmp(json_string_value(value), text) == 0;
    json_decref(letter);
    assert_true(found);
}

static void a_letter_becomes_a_new_event(void **state) {
    struct world *w = *state;
    const struct ev_fields f = {.function = STR_LIT("f"), .qualifier = STR_LIT("9"), .payload = STR_LIT("the payload"), .attempt = 4,
                                .accepted_ms = 12345, .ordering_key = STR_LIT("k"), .history = STR_LIT("[{\"attempt\":1}]")};
    struct id id = put(w, &f, LETTER_DEAD, 0);
    int64_t before_ms = clock_unix_ms();
    struct letter_filter filter = of("f");
    struct replayed a = replay(w, &filter, "");
    assert_int_equal(a.code, 0);
    assert_int_equal(a.result.replayed, 1);
    assert_int_equal(a.result.failed, 0);
    assert_false(a.result.more);
    TURN_UNTIL(w->loop, w->got_count);
    const struct ev_fields *got = &w->got[0]->f;
    assert_false(id_eq(&got->id, &id));
    assert_true(id_eq(&got->origin_id, &id));
    assert_int_equal(got->attempt, 0);
    assert_true(got->accepted_ms >= before_ms);
    assert_int_equal(got->history.len, 0);
    assert_int_equal(got->qualifier.len, 0); // the current version, not the one it died of
    assert_true(str_is(got->payload, "the payload"));
    assert_true(str_is(got->ordering_key, "k"));
    assert_true(is(w, &id, "state", "replayed"));
    assert_replay_id(w, &id, &got->id);
    a = replay(w, &filter, ""); // it is not dead any more
    assert_int_equal(a.code, 0);
    assert_int_equal(a.result.replayed, 0);
    assert_int_equal(w->got_count, 1);
}

static void only_what_the_filter_means(void **state) {
    struct world *w = *state;
    struct id f1 = put_simple(w, "f", LETTER_DEAD), f2 = put_simple(w, "f", LETTER_DEAD), g = put_simple(w, "g", LETTER_DEAD);
    struct id due = put_simple(w, "f", LETTER_DUE);
    const struct letter_filter by_id = {.ids = &f2, .id_count = 1, .limit = 10};
    assert_int_equal(replay(w, &by_id, "").result.replayed, 1);
    assert_true(is(w, &f1, "state", "dead"));
    assert_true(is(w, &f2, "state", "replayed"));
    struct letter_filter none = of("f");
    none.error_type = STR_LIT("ValueError");
    assert_int_equal(replay(w, &none, "").result.replayed, 0);
    none.error_type = STR_LIT("KeyError");
    assert_int_equal(replay(w, &none, "").result.replayed, 1);
    assert_true(is(w, &f1, "state", "replayed"));
    assert_true(is(w, &g, "state", "dead"));
    assert_true(is(w, &due, "state", "due"));
}

static void more_than_the_limit_is_told(void **state) {
    struct world *w = *state;
    for (int i = 0; i < 3; i++) put_simple(w, "f", LETTER_DEAD);
    struct letter_filter two = of("f");
    two.limit = 2;
    struct replayed a = replay(w, &two, "");
    assert_int_equal(a.result.replayed, 2);
    assert_true(a.result.more);
    a = replay(w, &two, "");
    assert_int_equal(a.result.replayed, 1);
    assert_false(a.result.more);
    TURN_UNTIL(w->loop, w->got_count == 3);
}

static void it_may_go_to_another_function(void **state) {
    struct world *w = *state;
    put_simple(w, "f", LETTER_DEAD);
    put_simple(w, "f", LETTER_DEAD);
    struct letter_filter one = of("f");
    one.limit = 1;
    assert_int_equal(replay(w, &one, "g").result.replayed, 1);
    TURN_UNTIL(w->loop, w->got_count == 1);
    assert_true(str_is(w->got[0]->f.function, "g"));
    assert_int_equal(w->got[0]->f.qualifier.len, 0);
    assert_int_equal(replay(w, &one, "g:1").result.replayed, 1);
    TURN_UNTIL(w->loop, w->got_count == 2);
    assert_true(str_is(w->got[1]->f.function, "g"));
    assert_true(str_is(w->got[1]->f.qualifier, "1"));
}

static void a_refused_one_is_dead_again(void **state) {
    struct world *w = *state;
    struct id refused = put_simple(w, "full", LETTER_DEAD), good = put_simple(w, "f", LETTER_DEAD);
    const struct letter_filter all = {.limit = 10};
    struct replayed a = replay(w, &all, "");
    assert_int_equal(a.code, 0);
    assert_int_equal(a.result.replayed, 1);
    assert_int_equal(a.result.failed, 1);
    assert_int_equal(a.result.first_error.code, ERR_BUSY);
    assert_true(is(w, &refused, "state", "dead"));
    assert_true(is(w, &refused, "errorType", "KeyError")); // why it died first
    assert_true(is(w, &good, "state", "replayed"));
    room_for(w, "full");
    a = replay(w, &all, "");
    assert_int_equal(a.result.replayed, 1);
    assert_int_equal(a.result.failed, 0);
    assert_true(is(w, &refused, "state", "replayed"));
}

static void without_its_function_it_stays_dead(void **state) {
    struct world *w = *state;
    f_is_gone = true;
    struct id id = put_simple(w, "f", LETTER_DEAD);
    struct letter_filter filter = of("f");
    struct replayed a = replay(w, &filter, "");
    assert_int_equal(a.result.failed, 1);
    assert_int_equal(a.result.first_error.code, ERR_NOT_FOUND);
    assert_non_null(strstr(a.result.first_error.text, "no function f"));
    assert_true(is(w, &id, "state", "dead"));
    a = replay(w, &filter, "g:9");
    assert_int_equal(a.result.failed, 1);
    assert_true(is(w, &id, "state", "dead"));
    assert_int_equal(replay(w, &filter, "g").result.replayed, 1);
}

static void only_dead_ones_can_be_meant(void **state) {
    struct world *w = *state;
    struct id id = put_simple(w, "f", LETTER_DUE);
    struct letter_filter filter = of("f");
    filter.state = STR_LIT("due");
    assert_int_equal(replay(w, &filter, "").code, ERR_CONFLICT);
    filter.state = STR_LIT("nonsense");
    assert_int_equal(replay(w, &filter, "").code, ERR_INVALID);
    filter = (struct letter_filter){.limit = 0};
    assert_int_equal(replay(w, &filter, "").code, ERR_INVALID);
    assert_true(is(w, &id, "state", "due"));
    assert_int_equal(w->got_count, 0);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(a_letter_becomes_a_new_event),
        CASE(only_what_the_filter_means),
        CASE(more_than_the_limit_is_told),
        CASE(it_may_go_to_another_function),
        CASE(a_refused_one_is_dead_again),
        CASE(without_its_function_it_stays_dead),
        CASE(only_dead_ones_can_be_meant),
    };
    return cmocka_run_group_tests_name("dlq/replay", tests, NULL, NULL);
}
