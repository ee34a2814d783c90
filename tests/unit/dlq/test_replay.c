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
    const struct replay_config config = {.loop = w->loop, .letters = w->letters, .ingest = w->ingest, .metrics = w->metrics};
    struct replay *r = replay_new(&config);
    struct replayed a = {0};
    replay_run(r, filter, str_of(to), false, on_replayed, &a);
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

// --- to the origin --------------------------------------------------------------------------------------------------

// Where records came from: takes them at once, later, or not at all.
struct origin {
    struct loop *loop;
    struct defer defer;
    bool at_once, refuses;
    size_t count, most, under_way;
    struct held {
        sink_done_fn *done;
        void *arg;
    } held[REPLAY_LIMIT];
    size_t held_count;
    struct ev_fields last; // its spans are gone
    char payload[64], key[64], header[64];
};

static void tell_origin(void *arg) {
    struct origin *o = arg;
    struct err err = {0};
    int code = o->refuses ? err_set(&err, ERR_NOT_FOUND, "there is no trigger 't' any more") : 0;
    size_t count = o->held_count;
    struct held held[REPLAY_LIMIT];
    memcpy(held, o->held, sizeof held);
    o->held_count = 0;
    for (size_t i = 0; i < count; i++) {
        o->under_way--;
        held[i].done(held[i].arg, code, &err);
    }
}

static void copy_text(char *to, struct str s) {
    assert_true(s.len < 64);
    memcpy(to, s.data ? s.data : "", s.len);
    to[s.len] = '\0';
}

static void to_origin(void *arg, const struct ev *ev, sink_done_fn *done, void *done_arg) {
    struct origin *o = arg;
    o->count++;
    copy_text(o->payload, ev->f.payload);
    copy_text(o->key, ev->f.ordering_key);
    if (ev->f.header_count) copy_text(o->header, ev->f.headers[0].value);
    if (o->at_once) {
        done(done_arg, 0, NULL);
        return;
    }
    if (++o->under_way > o->most) o->most = o->under_way;
    o->held[o->held_count++] = (struct held){done, done_arg};
    o->defer = (struct defer){.fn = tell_origin, .arg = o, .queued = o->defer.queued, .next = o->defer.next};
    if (o->held_count == 1) loop_defer(o->loop, &o->defer);
}

static struct replayed replay_to(struct world *w, const struct letter_filter *filter, struct origin *o) {
    struct replay_config config = {.loop = w->loop, .letters = w->letters, .ingest = w->ingest, .metrics = w->metrics};
    if (o) {
        o->loop = w->loop;
        config.to_origin = to_origin;
        config.to_origin_arg = o;
    }
    struct replay *r = replay_new(&config);
    struct replayed a = {0};
    replay_run(r, filter, STR_NONE, true, on_replayed, &a);
    TURN_UNTIL(w->loop, a.done);
    replay_free(r);
    return a;
}

static struct id put_from(struct world *w, const char *kind) {
    const struct ev_header header = {STR_LIT("h"), STR_LIT("v")};
    const struct ev_fields f = {.function = STR_LIT("f"), .payload = STR_LIT("the record"), .ordering_key = STR_LIT("k"),
                                .source_kind = str_of(kind), .source_name = STR_LIT("t"), .headers = &header, .header_count = 1,
                                .history = STR_LIT("[]")};
    return put(w, &f, LETTER_DEAD, 0);
}

static void a_letter_goes_to_its_origin(void **state) {
    struct world *w = *state;
    struct id id = put_from(w, "kafka");
    const struct letter_filter all = {.limit = 10};
    struct origin o = {0};
    struct replayed a = replay_to(w, &all, &o);
    assert_int_equal(a.code, 0);
    assert_int_equal(a.result.replayed, 1);
    assert_int_equal(a.result.failed, 0);
    assert_int_equal(o.count, 1);
    assert_string_equal(o.payload, "the record");
    assert_string_equal(o.key, "k");
    assert_string_equal(o.header, "v");
    assert_true(is(w, &id, "state", "replayed"));
    assert_true(is(w, &id, "to", "origin"));
    json_t *letter = show(w, &id);
    assert_true(json_is_null(json_object_get(letter, "replayId")));
    json_decref(letter);
    assert_int_equal(w->got_count, 0); // no new event
    assert_int_equal(replay_to(w, &all, &o).result.replayed, 0);
    id = put_simple(w, "f", LETTER_DEAD);
    assert_int_equal(replay(w, &all, "").result.replayed, 1);
    letter = show(w, &id);
    assert_true(json_is_null(json_object_get(letter, "to")));
    json_decref(letter);
}

static void without_an_origin_it_stays_dead(void **state) {
    struct world *w = *state;
    struct id http = put_from(w, "http"), kafka = put_from(w, "kafka"), amqp = put_from(w, "amqp");
    const struct letter_filter all = {.limit = 10};
    struct origin o = {0};
    struct replayed a = replay_to(w, &all, &o);
    assert_int_equal(a.result.replayed, 2);
    assert_int_equal(a.result.failed, 1);
    assert_int_equal(a.result.first_error.code, ERR_INVALID);
    assert_non_null(strstr(a.result.first_error.text, "its source is 'http'"));
    assert_true(is(w, &http, "state", "dead"));
    assert_true(is(w, &kafka, "state", "replayed"));
    assert_true(is(w, &amqp, "to", "origin"));
}

static void what_the_origin_refuses_stays_dead(void **state) {
    struct world *w = *state;
    struct id id = put_from(w, "kafka");
    const struct letter_filter all = {.limit = 10};
    struct origin o = {.refuses = true};
    struct replayed a = replay_to(w, &all, &o);
    assert_int_equal(a.code, 0);
    assert_int_equal(a.result.failed, 1);
    assert_string_equal(a.result.first_error.text, "there is no trigger 't' any more");
    assert_true(is(w, &id, "state", "dead"));
    a = replay_to(w, &all, NULL);
    assert_int_equal(a.result.failed, 1);
    assert_non_null(strstr(a.result.first_error.text, "this server has no triggers"));
    assert_true(is(w, &id, "state", "dead"));
    o.refuses = false;
    assert_int_equal(replay_to(w, &all, &o).result.replayed, 1);
}

static void an_origin_gets_only_so_many_at_a_time(void **state) {
    struct world *w = *state;
    enum { COUNT = REPLAY_ORIGIN_MAX + 10 };
    for (int i = 0; i < COUNT; i++) put_from(w, "amqp");
    const struct letter_filter all = {.limit = REPLAY_LIMIT};
    struct origin *o = mem_zalloc(sizeof *o);
    struct replayed a = replay_to(w, &all, o);
    assert_int_equal(a.result.replayed, COUNT);
    assert_int_equal(o->count, COUNT);
    assert_int_equal(o->most, REPLAY_ORIGIN_MAX);
    *o = (struct origin){.at_once = true};
    for (int i = 0; i < 3; i++) put_from(w, "amqp");
    assert_int_equal(replay_to(w, &all, o).result.replayed, 3);
    free(o);
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
        CASE(a_letter_goes_to_its_origin),
        CASE(without_an_origin_it_stays_dead),
        CASE(what_the_origin_refuses_stays_dead),
        CASE(an_origin_gets_only_so_many_at_a_time),
    };
    return cmocka_run_group_tests_name("dlq/replay", tests, NULL, NULL);
}
