// SPDX-License-Identifier: Apache-2.0
// Replays over both stores: what was selected goes, each letter at least once and marked only when it was confirmed, whatever dies, pauses or
// is away meanwhile. Outcomes, samples, aborts and order are in test_replays_order.c.
#include <math.h>

#include "dlq/edit.h"
#include "tests/contract/replays_world.h"

static struct replay_spec spec_of(struct selection *sel) {
    return (struct replay_spec){.sel = sel, .who = STR_LIT("anna")};
}

static struct replay_spec all_of_f(void) {
    return spec_of(where("function = 'f'"));
}

// --- what goes ----------------------------------------------------------------------------------------------------------

static void a_letter_goes_as_a_new_event_that_is_linked_to_it(void **state) {
    struct world w;
    world_open(&w, *state);
    const struct ev_header header = {STR_LIT("h"), STR_LIT("v")};
    const struct ev_fields f = {.function = STR_LIT("f"), .qualifier = STR_LIT("9"), .payload = {"\0\xff", 2}, .attempt = 4, .accepted_ms = 12345,
                                .source_kind = STR_LIT("kafka"), .source_name = STR_LIT("t"), .source_at = STR_LIT("{\"offset\":1}"),
                                .ordering_key = {"k\0", 2}, .content_type = STR_LIT("text/x"), .shape = STR_LIT("scf"),
                                .trace = STR_LIT("00-ab-cd-01"), .headers = &header, .header_count = 1, .origin_id = id_new()};
    struct id id = put_letter(&w.lf, &f, LETTER_DEAD);
    int64_t before_ms = clock_unix_ms();
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_of_f());
    TURN_UNTIL(w.loop, w.got_count);
    const struct ev_fields *got = &w.got[0]->f;
    assert_false(id_eq(&got->id, &id));
    assert_true(id_eq(&got->origin_id, &id));
    assert_true(got->replay == replay && got->replay_seq == 1);
    assert_true(got->attempt == 0 && got->accepted_ms >= before_ms && !got->dry_run);
    assert_true(got->history.len == 0 && got->qualifier.len == 0); // the current version, not the one it died of
    assert_true(str_eq(got->payload, f.payload) && str_eq(got->ordering_key, f.ordering_key) && str_eq(got->shape, f.shape));
    assert_true(str_eq(got->content_type, f.content_type) && str_eq(got->trace, f.trace));
    assert_true(str_eq(got->source_kind, f.source_kind) && str_eq(got->source_at, f.source_at));
    assert_true(got->header_count == 1 && str_is(got->headers[0].value, "v"));
    until_state(&w, replay, "done");
    char event[ID_TEXT_BYTES];
    id_format(&got->id, event);
    json_t *o = show_letter(&w.lf, &id);
    assert_string_equal(text_in(o, "state"), "replayed");
    assert_string_equal(text_in(o, "replayId"), event);
    const json_t *by = json_array_get(array_in(o, "replays", 1), 0);
    assert_int_equal(number_in(by, "replay"), replay);
    assert_string_equal(text_in(by, "state"), "sent");
    assert_string_equal(text_in(by, "eventId"), event);
    json_decref(o);
    o = show_replay(&w, replay);
    assert_string_equal(text_in(o, "who"), "anna");
    assert_non_null(strstr(text_in(o, "selection"), "function = 'f'"));
    assert_string_equal(text_in(o, "node"), "a");
    assert_true(number_in(o, "endedMs") >= number_in(o, "createdMs"));
    json_decref(o);
    world_close(&w);
}

static void each_selected_letter_goes_once_in_the_order_of_ids(void **state) {
    struct world w;
    world_open(&w, *state);
    enum { COUNT = 3400 }; // more batches than go at a time
    static struct id ids[COUNT];
    put_many(&w, ids, COUNT, "f", "x");
    put_many(&w, NULL, 3, "f2", "x");
    int64_t replay = create(&w, all_of_f());
    struct id later[2]; // is not part of it
    put_many(&w, later, 2, "f", "later");
    replays_start(w.a.replays);
    until_state(&w, replay, "done");
    TURN_UNTIL(w.loop, w.got_count >= COUNT);
    assert_int_equal(w.got_count, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(id_eq(&w.got[i]->f.origin_id, &ids[i]));
        assert_int_equal(w.got[i]->f.replay_seq, i + 1);
    }
    expect_counts(&w, replay, 0, COUNT, 0, 0);
    assert_true(letter_is(&w.lf, &later[0], "dead"));
    assert_int_equal(count_letters(&w.lf, "dead"), 5);
    world_close(&w);
}

static void a_limit_takes_the_oldest(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id ids[5];
    put_many(&w, ids, 5, "f", "x");
    struct replay_spec spec = all_of_f();
    spec.limit = 2;
    replays_start(w.a.replays);
    int64_t replay = create(&w, spec);
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, 2, 0, 0);
    assert_true(letter_is(&w.lf, &ids[1], "replayed"));
    assert_true(letter_is(&w.lf, &ids[2], "dead"));
    world_close(&w);
}

static void letters_go_to_another_function_or_version(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, 1, "f", "x");
    replays_start(w.a.replays);
    struct replay_spec spec = all_of_f();
    spec.to = STR_LIT("f2");
    until_state(&w, create(&w, spec), "done");
    put_many(&w, NULL, 1, "f", "x");
    spec = all_of_f();
    spec.to = STR_LIT("f2:1");
    until_state(&w, create(&w, spec), "done");
    TURN_UNTIL(w.loop, w.got_count == 2);
    assert_true(str_is(w.got[0]->f.function, "f2") && w.got[0]->f.qualifier.len == 0);
    assert_true(str_is(w.got[1]->f.function, "f2") && str_is(w.got[1]->f.qualifier, "1"));
    world_close(&w);
}

static void what_can_never_be_sent_failed_and_stays_dead(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id good, hopeless;
    put_many(&w, &good, 1, "f", "x");
    put_many(&w, &hopeless, 1, "gone", "x");
    replays_start(w.a.replays);
    int64_t replay = create(&w, spec_of(where("state = 'dead'")));
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, 1, 0, 1);
    assert_true(letter_is(&w.lf, &good, "replayed"));
    json_t *o = show_letter(&w.lf, &hopeless);
    assert_string_equal(text_in(o, "state"), "dead");
    assert_string_equal(text_in(o, "errorType"), "KeyError"); // why it died first
    const json_t *by = json_array_get(array_in(o, "replays", 1), 0);
    assert_string_equal(text_in(by, "state"), "failed");
    assert_non_null(strstr(text_in(by, "why"), "no function gone"));
    json_decref(o);
    struct replay_spec spec = spec_of(these(&hopeless, 1));
    spec.to = STR_LIT("f:9");
    replay = create(&w, spec);
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, 0, 0, 1);
    assert_true(letter_is(&w.lf, &hopeless, "dead"));
    world_close(&w);
}

static void a_letter_whose_event_cannot_be_read_is_skipped_and_stays_dead(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id ids[3];
    put_many(&w, ids, 3, "f", "x");
    sql_of(&w.lf, "UPDATE letter_bodies SET event = payload FROM letters WHERE letters.id = letter_bodies.id AND letters.id = $1", &ids[1]);
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_of_f());
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, 2, 1, 0);
    assert_int_equal(sql_number(&w.lf, "SELECT count(*) FROM letters WHERE state = 'dead'"), 1);
    world_close(&w);
}

static void a_second_replay_of_a_letter_is_another_event(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id id;
    put_many(&w, &id, 1, "f", "x");
    replays_start(w.a.replays);
    until_state(&w, create(&w, all_of_f()), "done");
    struct answer a = {0};
    letters_restore(w.lf.letters, &(struct letter_change){.sel = these(&id, 1), .limit = 1}, answer_json, &a);
    await(&w.lf, &a);
    answer_free(&a);
    until_state(&w, create(&w, all_of_f()), "done");
    TURN_UNTIL(w.loop, w.got_count == 2);
    assert_false(id_eq(&w.got[0]->f.id, &w.got[1]->f.id));
    world_close(&w);
}

static void letters_in_memory_are_bounded_by_their_bytes(void **state) {
    struct world w;
    world_open(&w, *state);
    enum { BYTES = 6000000, COUNT = 5 };
    char *big = mem_alloc(BYTES);
    memset(big, 'x', BYTES);
    for (int i = 0; i < COUNT; i++) put_letter(&w.lf, &(struct ev_fields){.function = STR_LIT("f"), .payload = {big, BYTES}}, LETTER_DEAD);
    free(big);
    w.a.gate.mode = GATE_KEEP;
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_of_f());
    size_t most = 0;
    for (int round = 0; round < 50 && !replay_is(&w, replay, "done"); round++) {
        turn_looks(&w, 4);
        if (w.a.gate.kept_bytes > most) most = w.a.gate.kept_bytes;
        gate_open(&w.a.gate);
        w.a.gate.mode = GATE_KEEP;
    }
    until_state(&w, replay, "done");
    assert_true(most >= 2 * BYTES && most <= REPLAY_BYTES + BYTES); // there is always room for one
    TURN_UNTIL(w.loop, w.got_count == COUNT);
    world_close(&w);
}

// --- to the origin --------------------------------------------------------------------------------------------------------

// Where records came from: takes them at once, later, or not at all.
struct origin {
    struct loop *loop;
    bool at_once;
    enum err_code refuses;
    size_t count, most, held_count;
    struct {
        sink_done_fn *done;
        void *arg;
    } held[600];
    struct defer defer;
    char payload[16], key[16], header[16];
};

static void copy_text(char to[16], struct str s) {
    assert_true(s.len < 16);
    memcpy(to, s.data ? s.data : "", s.len);
    to[s.len] = '\0';
}

static void origin_answer(void *arg) {
    struct origin *o = arg;
    struct err err = {0};
    if (o->refuses) err_set(&err, o->refuses, "the topic says no");
    while (o->held_count) {
        o->held_count--;
        o->held[o->held_count].done(o->held[o->held_count].arg, o->refuses, &err);
    }
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
    assert_true(o->held_count < array_len(o->held));
    o->held[o->held_count].done = done;
    o->held[o->held_count++].arg = done_arg;
    if (o->held_count > o->most) o->most = o->held_count;
    if (o->loop) loop_defer(o->loop, &o->defer);
}

static struct origin *origin_new(struct world *w, bool answers) {
    struct origin *o = mem_zalloc(sizeof *o);
    o->loop = answers ? w->loop : NULL;
    o->defer = (struct defer){.fn = origin_answer, .arg = o};
    replays_set_origin(w->a.replays, to_origin, o);
    return o;
}

static void put_record(struct world *w, const char *kind, struct id *ret) {
    const struct ev_header header = {STR_LIT("h"), STR_LIT("v")};
    *ret = put_letter(&w->lf, &(struct ev_fields){.function = STR_LIT("f"), .payload = STR_LIT("the record"), .ordering_key = STR_LIT("k"),
                                                  .source_kind = str_of(kind), .source_name = STR_LIT("t"), .headers = &header, .header_count = 1},
                      LETTER_DEAD);
}

static struct replay_spec all_to_origin(void) {
    struct replay_spec spec = all_of_f();
    spec.to_origin = true;
    return spec;
}

static void a_record_goes_back_to_where_it_came_from(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id kafka, amqp, http;
    put_record(&w, "kafka", &kafka);
    put_record(&w, "amqp", &amqp);
    put_record(&w, "http", &http);
    struct origin *o = origin_new(&w, true);
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_to_origin());
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, 2, 0, 1);
    assert_int_equal(o->count, 2);
    assert_string_equal(o->payload, "the record");
    assert_string_equal(o->key, "k");
    assert_string_equal(o->header, "v");
    assert_int_equal(w.got_count, 0); // no new event
    json_t *letter = show_letter(&w.lf, &kafka);
    assert_string_equal(text_in(letter, "to"), "origin");
    assert_true(json_is_null(json_object_get(letter, "replayId")));
    json_decref(letter);
    assert_true(letter_is(&w.lf, &amqp, "replayed"));
    letter = show_letter(&w.lf, &http);
    assert_string_equal(text_in(letter, "state"), "dead");
    assert_non_null(strstr(text_in(json_array_get(array_in(letter, "replays", 1), 0), "why"), "'http'"));
    json_decref(letter);
    world_close(&w);
    free(o);
}

static void what_an_origin_refuses_stays_dead_or_is_tried_again(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id id;
    put_record(&w, "kafka", &id);
    struct origin *o = origin_new(&w, true);
    replays_start(w.a.replays);
    o->refuses = ERR_NOT_FOUND;
    int64_t replay = create(&w, all_to_origin());
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, 0, 0, 1);
    assert_true(letter_is(&w.lf, &id, "dead"));
    o->refuses = ERR_UNAVAILABLE;
    o->count = 0;
    replay = create(&w, all_to_origin());
    TURN_UNTIL(w.loop, o->count >= 2); // it is asked again
    assert_true(replay_is(&w, replay, "running"));
    o->refuses = ERR_OK;
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, 1, 0, 0);
    replays_set_origin(w.a.replays, NULL, NULL);
    put_record(&w, "kafka", &id);
    replay = create(&w, all_to_origin());
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, 0, 0, 1);
    assert_true(letter_is(&w.lf, &id, "dead"));
    world_close(&w);
    free(o);
}

static void an_origin_gets_only_so_many_at_a_time(void **state) {
    struct world w;
    world_open(&w, *state);
    enum { COUNT = 400 };
    put_many_of(&w, NULL, COUNT, &(struct ev_fields){.function = STR_LIT("f"), .source_kind = STR_LIT("amqp"), .source_name = STR_LIT("t")});
    struct origin *o = origin_new(&w, false); // slow
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_to_origin());
    TURN_UNTIL(w.loop, o->held_count == 256);
    turn_looks(&w, 3);
    assert_int_equal(o->held_count, 256);
    o->loop = w.loop;
    origin_answer(o);
    until_state(&w, replay, "done");
    assert_int_equal(o->count, COUNT);
    assert_int_equal(o->most, 256);
    o->at_once = true;
    for (size_t i = 0; i < 3; i++) {
        struct id id;
        put_record(&w, "amqp", &id);
    }
    replay = create(&w, all_to_origin());
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, 3, 0, 0);
    world_close(&w);
    free(o);
}

// --- pace ---------------------------------------------------------------------------------------------------------------------

static void never_more_go_than_the_rate_and_its_ramp_allow(void **state) {
    struct world w;
    world_open(&w, *state);
    enum { RATE = 100, RAMP_MS = 1000, COUNT = 80 };
    put_many(&w, NULL, COUNT, "f", "x");
    replays_start(w.a.replays);
    struct replay_spec spec = all_of_f();
    spec.rate = RATE;
    spec.ramp_ms = RAMP_MS;
    int64_t before = clock_mono_ns();
    int64_t replay = create(&w, spec);
    while (w.got_count < COUNT) {
        loop_turn(w.loop, 20);
        double t = (double)(clock_mono_ns() - before) / 1e9, ramp = RAMP_MS / 1e3;
        double allowed = t < ramp ? RATE * t * t / (2 * ramp) : RATE * (t - ramp / 2);
        if ((double)w.got_count > allowed + 1) fail_msg("%zu went in %.3f s, %.1f may", w.got_count, t, allowed);
        assert_true(t < 60);
    }
    until_state(&w, replay, "done");
    world_close(&w);
}

// --- pause, resume, cancel ------------------------------------------------------------------------------------------------------

static void a_paused_replay_ends_what_is_under_way_and_goes_on_when_resumed(void **state) {
    struct world w;
    world_open(&w, *state);
    enum { COUNT = REPLAY_BATCH * REPLAY_BATCHES + 1000 };
    static struct id ids[COUNT];
    put_many(&w, ids, COUNT, "f", "x");
    w.a.gate.mode = GATE_KEEP;
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_of_f());
    TURN_UNTIL(w.loop, w.a.gate.kept_count == REPLAY_BATCH * REPLAY_BATCHES);
    act(&w, replays_pause, replay);
    gate_open(&w.a.gate);
    TURN_UNTIL(w.loop, sql_number(&w.lf, "SELECT count(*) FROM letters WHERE state = 'replaying'") == 0);
    turn_looks(&w, 6); // longer than a look for jobs
    assert_int_equal(w.got_count, REPLAY_BATCH * REPLAY_BATCHES);
    assert_true(replay_is(&w, replay, "paused"));
    expect_counts(&w, replay, COUNT - REPLAY_BATCH * REPLAY_BATCHES, REPLAY_BATCH * REPLAY_BATCHES, 0, 0);
    assert_int_equal(sql_number(&w.lf, "SELECT count(*) FROM letters WHERE state = 'dead'"), COUNT - REPLAY_BATCH * REPLAY_BATCHES);
    act(&w, replays_resume, replay);
    until_state(&w, replay, "done");
    TURN_UNTIL(w.loop, w.got_count == COUNT);
    for (size_t i = 0; i < COUNT; i += 97) assert_int_equal(times(&w, &ids[i]), 1);
    expect_counts(&w, replay, 0, COUNT, 0, 0);
    world_close(&w);
}

// Its claim ran out and another one holds it: that it was confirmed does not mark it, and its job sends the same event again.
static void a_letter_whose_claim_was_lost_is_not_marked_and_goes_again(void **state) {
    struct world w;
    world_open(&w, *state);
    enum { COUNT = 3 };
    static struct id ids[COUNT];
    put_many(&w, ids, COUNT, "f", "x");
    w.a.gate.mode = GATE_KEEP;
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_of_f());
    TURN_UNTIL(w.loop, w.a.gate.kept_count == COUNT);
    sql_of(&w.lf, "UPDATE letters SET lease_ms = lease_ms + 1 WHERE id = $1", &ids[1]);
    gate_open(&w.a.gate);
    until_state(&w, replay, "done");
    TURN_UNTIL(w.loop, w.got_count == COUNT + 1);
    assert_int_equal(times(&w, &ids[1]), 2);
    assert_true(letter_is(&w.lf, &ids[1], "replayed"));
    expect_counts(&w, replay, 0, COUNT, 0, 0);
    world_close(&w);
}

static void a_cancelled_replay_keeps_every_letter(void **state) {
    struct world w;
    world_open(&w, *state);
    enum { COUNT = REPLAY_BATCH * REPLAY_BATCHES + 1000 };
    put_many(&w, NULL, COUNT, "f", "x");
    w.a.gate.mode = GATE_KEEP;
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_of_f());
    TURN_UNTIL(w.loop, w.a.gate.kept_count == REPLAY_BATCH * REPLAY_BATCHES);
    act(&w, replays_cancel, replay);
    gate_open(&w.a.gate);
    TURN_UNTIL(w.loop, sql_number(&w.lf, "SELECT count(*) FROM letters WHERE state = 'replaying'") == 0);
    turn_looks(&w, 6);
    expect_counts(&w, replay, COUNT - REPLAY_BATCH * REPLAY_BATCHES, REPLAY_BATCH * REPLAY_BATCHES, 0, 0);
    assert_int_equal(w.got_count, REPLAY_BATCH * REPLAY_BATCHES);
    assert_int_equal(sql_number(&w.lf, "SELECT count(*) FROM letters WHERE state = 'dead'"), COUNT - REPLAY_BATCH * REPLAY_BATCHES);
    replay_act_fn *const all[] = {replays_pause, replays_resume, replays_cancel};
    for (size_t i = 0; i < array_len(all); i++) {
        struct answer a = {0};
        all[i](w.a.replays, replay, answer_json, &a);
        await_refusal(&w.lf, &a, ERR_CONFLICT, "has ended: it is cancelled");
    }
    until_state(&w, create(&w, all_of_f()), "done"); // the rest can go
    TURN_UNTIL(w.loop, w.got_count == COUNT);
    world_close(&w);
}

static void a_replay_that_is_paused_and_resumed_at_any_moment_loses_nothing(void **state) {
    struct world w;
    world_open(&w, *state);
    enum { COUNT = 4000 };
    put_many(&w, NULL, COUNT, "f", "x");
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_of_f());
    for (int i = 0; i < 60 && !replay_is(&w, replay, "done"); i++) {
        struct answer a = {0};
        (i % 2 ? replays_resume : replays_pause)(w.a.replays, replay, answer_json, &a);
        TURN_UNTIL(w.loop, a.done); // it may have ended
        answer_free(&a);
        for (int turn = 0; turn < i % 7; turn++) loop_turn(w.loop, 5);
    }
    if (!replay_is(&w, replay, "done")) act(&w, replays_resume, replay);
    until_state(&w, replay, "done");
    TURN_UNTIL(w.loop, w.got_count >= COUNT);
    expect_counts(&w, replay, 0, COUNT, 0, 0);
    assert_int_equal(w.got_count, COUNT); // nobody died: each once
    world_close(&w);
}

static void a_stopped_server_leaves_nothing_half_done_and_the_next_goes_on(void **state) {
    struct world w;
    world_open(&w, *state);
    enum { COUNT = REPLAY_BATCH * REPLAY_BATCHES + 1000 };
    put_many(&w, NULL, COUNT, "f", "x");
    w.a.gate.mode = GATE_KEEP_ANSWERS;
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_of_f());
    TURN_UNTIL(w.loop, w.a.gate.kept_count == REPLAY_BATCH * REPLAY_BATCHES);
    assert_false(replays_stop(w.a.replays));
    node_close(&w, &w.a);
    assert_int_equal(sql_number(&w.lf, "SELECT count(*) FROM letters WHERE state = 'replaying'"), 0);
    assert_int_equal(sql_number(&w.lf, "SELECT count(*) FROM letters WHERE state = 'replayed'"), REPLAY_BATCH * REPLAY_BATCHES);
    node_open(&w, &w.a, "a");
    replays_start(w.a.replays);
    until_state(&w, replay, "done");
    TURN_UNTIL(w.loop, w.got_count == COUNT);
    expect_counts(&w, replay, 0, COUNT, 0, 0);
    world_close(&w);
}

// --- what is away ------------------------------------------------------------------------------------------------------------

static void while_the_queue_is_away_letters_are_dead_and_tried_again(void **state) {
    struct world w;
    world_open(&w, *state);
    enum { COUNT = 20 };
    put_many(&w, NULL, COUNT, "f", "x");
    w.a.gate.mode = GATE_REFUSE;
    w.a.gate.code = ERR_UNAVAILABLE;
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_of_f());
    TURN_UNTIL(w.loop, w.a.gate.refused >= 2 * COUNT);
    TURN_UNTIL(w.loop, sql_number(&w.lf, "SELECT count(*) FROM letters WHERE state = 'dead'") == COUNT);
    assert_true(replay_is(&w, replay, "running"));
    expect_counts(&w, replay, COUNT, 0, 0, 0);
    w.a.gate.mode = GATE_OPEN;
    until_state(&w, replay, "done");
    TURN_UNTIL(w.loop, w.got_count >= COUNT);
    assert_int_equal(w.got_count, COUNT);
    expect_counts(&w, replay, 0, COUNT, 0, 0);
    world_close(&w);
}

static bool can_be_shown(struct world *w, int64_t replay) {
    struct answer a = {0};
    replays_show(w->a.replays, replay, answer_json, &a);
    TURN_UNTIL(w->loop, a.done);
    bool shown = a.code == 0;
    answer_free(&a);
    return shown;
}

static void while_the_store_is_away_nothing_is_lost(void **state) {
    struct world w;
    world_open(&w, *state);
    struct store_fixture *fx = *state;
    enum { COUNT = REPLAY_BATCH * REPLAY_BATCHES + 500 };
    static struct id ids[COUNT];
    put_many(&w, ids, COUNT, "f", "x");
    w.telling = TELL_NOTHING; // as nothing could be written
    w.a.gate.mode = GATE_KEEP;
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_of_f());
    TURN_UNTIL(w.loop, w.a.gate.kept_count == REPLAY_BATCH * REPLAY_BATCHES);
    free(service_run("postgres", "kill", fx->dir));
    gate_open(&w.a.gate); // confirmed, and cannot be marked
    TURN_UNTIL(w.loop, !store_is_up(fx->store));
    turn_looks(&w, 3);
    free(service_run("postgres", "start", fx->dir));
    TURN_UNTIL(w.loop, store_is_up(fx->store));
    TURN_UNTIL(w.loop, can_be_shown(&w, replay)); // the reader is back too
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, COUNT, 0, 0);
    assert_int_equal(sql_number(&w.lf, "SELECT count(*) FROM letters WHERE state = 'replayed'"), COUNT);
    assert_int_equal(w.got_count, COUNT); // the node lived: nothing went twice
    world_close(&w);
}

// As on a full disk.
static void what_was_sent_and_cannot_be_marked_is_marked_later_and_not_sent_again(void **state) {
    struct world w;
    world_open(&w, *state);
    enum { COUNT = 2 * REPLAY_BATCH + 10 };
    static struct id ids[COUNT];
    put_many(&w, ids, COUNT, "f", "x");
    w.telling = TELL_NOTHING;
    w.a.gate.mode = GATE_KEEP;
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_of_f());
    TURN_UNTIL(w.loop, w.a.gate.kept_count == COUNT);
    sql(&w.lf, "ALTER TABLE replay_letters RENAME COLUMN event_id TO event");
    gate_open(&w.a.gate);
    TURN_UNTIL(w.loop, w.got_count == COUNT);
    turn_looks(&w, 10);
    assert_int_equal(sql_number(&w.lf, "SELECT count(*) FROM letters WHERE state = 'replaying'"), COUNT);
    sql(&w.lf, "ALTER TABLE replay_letters RENAME COLUMN event TO event_id");
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, COUNT, 0, 0);
    assert_int_equal(sql_number(&w.lf, "SELECT count(*) FROM letters WHERE state = 'replayed'"), COUNT);
    assert_int_equal(w.got_count, COUNT);
    world_close(&w);
}

// --- nodes that die ------------------------------------------------------------------------------------------------------------

static void expect_all_sent(struct world *w, int64_t replay, const struct id *ids, size_t count) {
    until_state(w, replay, "done");
    expect_counts(w, replay, 0, (int64_t)count, 0, 0);
    TURN_UNTIL(w->loop, w->got_count >= count);
    gate_open(&w->a.gate); // the dead one was only slow
    turn_looks(w, 3);
    assert_int_equal(sql_number(&w->lf, "SELECT count(*) FROM letters WHERE state = 'replayed'"), count);
    for (size_t i = 0; i < count; i += 7) assert_true(times(w, &ids[i]) >= 1);
    // A second event of a letter is the first one again, and the one that the letter is linked to.
    for (size_t i = 0; i < count; i += 53) {
        json_t *o = show_letter(&w->lf, &ids[i]);
        for (size_t k = 0; k < w->got_count; k++) {
            char text[ID_TEXT_BYTES];
            if (!id_eq(&w->got[k]->f.origin_id, &ids[i])) continue;
            id_format(&w->got[k]->f.id, text);
            assert_string_equal(text_in(o, "replayId"), text);
        }
        json_decref(o);
    }
}

#define TAKEN 1200

static void a_job_whose_node_died_after_a_claim_goes_on(void **state) {
    struct world w;
    world_open(&w, *state);
    static struct id ids[TAKEN];
    put_many(&w, ids, TAKEN, "f", "x");
    w.a.gate.mode = GATE_KEEP;
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_of_f());
    TURN_UNTIL(w.loop, w.a.gate.kept_count >= REPLAY_BATCH);
    take_over(&w);
    expect_all_sent(&w, replay, ids, TAKEN);
    world_close(&w);
}

static void a_job_whose_node_died_before_it_marked_goes_on(void **state) {
    struct world w;
    world_open(&w, *state);
    static struct id ids[TAKEN];
    put_many(&w, ids, TAKEN, "f", "x");
    w.a.gate.mode = GATE_KEEP_ANSWERS;
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_of_f());
    TURN_UNTIL(w.loop, w.got_count >= REPLAY_BATCH);
    take_over(&w);
    expect_all_sent(&w, replay, ids, TAKEN);
    assert_true(w.got_count > TAKEN); // some went twice
    world_close(&w);
}

static void a_job_whose_node_died_after_it_marked_goes_on(void **state) {
    struct world w;
    world_open(&w, *state);
    static struct id ids[TAKEN];
    put_many(&w, ids, TAKEN, "f", "x");
    replays_start(w.a.replays);
    struct replay_spec spec = all_of_f();
    spec.rate = 400;
    int64_t replay = create(&w, spec);
    TURN_UNTIL(w.loop, w.got_count >= 50);
    w.a.gate.mode = GATE_KEEP;
    TURN_UNTIL(w.loop, w.a.gate.kept_count > 0);
    assert_true(sql_number(&w.lf, "SELECT count(*) FROM letters WHERE state = 'replayed'") >= 50);
    sql(&w.lf, "UPDATE replays SET rate = 0");
    take_over(&w);
    expect_all_sent(&w, replay, ids, TAKEN);
    world_close(&w);
}

static void letters_that_nobody_sends_any_more_are_dead_again(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id ids[3];
    put_many(&w, ids, 3, "f", "x");
    for (int i = 0; i < 2; i++) {
        int64_t replay = create(&w, (struct replay_spec){.sel = these(&ids[i], 1)});
        cleanup_free char *job = mem_printf("UPDATE replays SET state = 'paused', lease_ms = %s WHERE id = %lld", i ? "4102444800000" : "1000",
                                            (long long)replay);
        sql(&w.lf, job);
        cleanup_free char *letter = mem_printf("UPDATE letters SET state = 'replaying', lease_ms = %s, replay = %lld WHERE id = $1",
                                               i ? "1000" : "4102444800000", (long long)replay);
        sql_of(&w.lf, letter, &ids[i]);
    }
    sql_of(&w.lf, "UPDATE letters SET state = 'replaying', lease_ms = 1000 WHERE id = $1", &ids[2]); // of no job
    replays_start(w.a.replays);
    TURN_UNTIL(w.loop, sql_number(&w.lf, "SELECT count(*) FROM letters WHERE state = 'dead'") == 2);
    assert_true(letter_is(&w.lf, &ids[0], "dead") && letter_is(&w.lf, &ids[2], "dead"));
    assert_true(letter_is(&w.lf, &ids[1], "replaying")); // its job's lease runs
    world_close(&w);
}

static void more_jobs_than_run_at_a_time_all_come_to_their_turn(void **state) {
    struct world w;
    world_open(&w, *state);
    enum { JOBS = REPLAY_JOBS_MAX + 3 };
    int64_t replays[JOBS];
    for (size_t i = 0; i < JOBS; i++) {
        struct id id;
        put_many(&w, &id, 1, "f", "x");
        replays[i] = create(&w, spec_of(these(&id, 1)));
    }
    replays_start(w.a.replays);
    for (size_t i = 0; i < JOBS; i++) until_state(&w, replays[i], "done");
    TURN_UNTIL(w.loop, w.got_count == JOBS);
    world_close(&w);
}

// --- two who want the same letter ------------------------------------------------------------------------------------------------

static void of_two_jobs_with_the_same_letters_each_letter_goes_with_one(void **state) {
    struct world w;
    world_open(&w, *state);
    enum { COUNT = 2000 };
    static struct id ids[COUNT];
    put_many(&w, ids, COUNT, "f", "x");
    int64_t first = create(&w, all_of_f()), second = create(&w, all_of_f());
    replays_start(w.a.replays);
    until_state(&w, first, "done");
    until_state(&w, second, "done");
    TURN_UNTIL(w.loop, w.got_count >= COUNT);
    assert_int_equal(w.got_count, COUNT);
    for (size_t i = 0; i < COUNT; i += 31) assert_int_equal(times(&w, &ids[i]), 1);
    assert_int_equal(replay_number(&w, first, "sent") + replay_number(&w, second, "sent"), COUNT);
    assert_int_equal(replay_number(&w, first, "skipped") + replay_number(&w, second, "skipped"), COUNT);
    json_t *skipped = letters_of(&w, second, "skipped");
    const char *why = text_in(json_array_get(json_object_get(skipped, "letters"), 0), "why");
    assert_true(strstr(why, "replay") != NULL);
    json_decref(skipped);
    world_close(&w);
}

static void letters_that_another_job_sends_are_told_when_a_job_is_made(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id ids[3];
    put_many(&w, ids, 3, "f", "x");
    w.a.gate.mode = GATE_KEEP;
    replays_start(w.a.replays);
    int64_t first = create(&w, spec_of(these(ids, 2)));
    TURN_UNTIL(w.loop, w.a.gate.kept_count == 2);
    char says[32];
    snprintf(says, sizeof says, "replay %lld", (long long)first);
    create_refused(&w, spec_of(these(ids, 1)), ERR_CONFLICT, says);
    create_refused(&w, spec_of(these(ids, 2)), ERR_CONFLICT, says);
    create_refused(&w, spec_of(where("function = 'nobody'")), ERR_NOT_FOUND, "no dead letter");
    assert_int_equal(sql_number(&w.lf, "SELECT count(*) FROM replays"), 1);
    json_t *o = create_json(&w, spec_of(these(ids, 3)));
    assert_int_equal(number_in(o, "total"), 1);
    array_in(o, "refused", 2);
    json_decref(o);
    world_close(&w);
}

static json_t *edit_one(struct world *w, const struct id *id) {
    struct edit *e = NULL;
    struct err err = {0};
    struct answer a = {0};
    if (edit_parse(STR_LIT("{\"set\":{\"payloadText\":\"edited\"}}"), &e, &err)) fail_msg("%s", err.text);
    letters_edit(w->lf.letters, &(struct letter_change){.sel = these(id, 1), .limit = 1}, e, false, answer_json, &a);
    await(&w->lf, &a);
    return a.json;
}

static void a_letter_that_is_being_sent_is_not_changed_and_who_wants_to_is_told(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id id;
    put_many(&w, &id, 1, "f", "x");
    w.a.gate.mode = GATE_KEEP;
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_of_f());
    TURN_UNTIL(w.loop, w.a.gate.kept_count == 1);
    json_t *o = edit_one(&w, &id);
    array_in(o, "refused", 1);
    assert_int_equal(number_in(o, "edited"), 0);
    json_decref(o);
    struct answer a = {0};
    letters_discard(w.lf.letters, &(struct letter_change){.sel = these(&id, 1), .limit = 1}, answer_json, &a);
    await(&w.lf, &a);
    char says[32];
    snprintf(says, sizeof says, "replay %lld", (long long)replay);
    assert_non_null(strstr(text_in(json_array_get(array_in(a.json, "refused", 1), 0), "why"), says));
    answer_free(&a);
    gate_open(&w.a.gate);
    until_state(&w, replay, "done");
    TURN_UNTIL(w.loop, w.got_count == 1);
    assert_true(str_is(w.got[0]->f.payload, "x"));
    world_close(&w);
}

static void a_letter_that_is_changed_first_goes_as_it_is_then_or_not_at_all(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id ids[3];
    put_many(&w, ids, 3, "f", "x");
    int64_t replay = create(&w, all_of_f());
    json_decref(edit_one(&w, &ids[0]));
    struct answer a = {0};
    letters_discard(w.lf.letters, &(struct letter_change){.sel = these(&ids[1], 1), .limit = 1}, answer_json, &a);
    await(&w.lf, &a);
    answer_free(&a);
    letters_purge(w.lf.letters, &(struct letter_change){.sel = these(&ids[2], 1), .limit = 1}, true, answer_json, &a);
    await(&w.lf, &a);
    answer_free(&a);
    replays_start(w.a.replays);
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, 1, 2, 0);
    TURN_UNTIL(w.loop, w.got_count == 1);
    assert_true(str_is(w.got[0]->f.payload, "edited"));
    json_t *skipped = letters_of(&w, replay, "skipped");
    const json_t *list = array_in(skipped, "letters", 2);
    assert_non_null(strstr(text_in(json_array_get(list, 0), "why"), "discarded"));
    assert_non_null(strstr(text_in(json_array_get(list, 1), "why"), "no such letter"));
    json_decref(skipped);
    world_close(&w);
}

// Through a store of its own, as another node has it.
static void of_an_edit_and_a_replay_at_the_same_time_one_is_first(void **state) {
    struct world w;
    world_open(&w, *state);
    struct store *other_store;
    struct err err = {0};
    size_t edits = 0;
    if (store_open(w.loop, w.lf.fx->url, &other_store, &err)) fail_msg("%s", err.text);
    struct letters *other = letters_new(w.loop, other_store, w.lf.reader, NULL);
    replays_start(w.a.replays);
    for (size_t round = 0; round < 20; round++) {
        struct id id;
        put_many(&w, &id, 1, "f", "x");
        struct edit *e = NULL;
        struct answer made = {0}, edited = {0};
        if (edit_parse(STR_LIT("{\"set\":{\"payloadText\":\"edited\"}}"), &e, &err)) fail_msg("%s", err.text);
        struct replay_spec spec = spec_of(these(&id, 1));
        spec.abort_share = -1;
        replays_create(w.a.replays, &spec, answer_json, &made);
        for (size_t i = 0; i < round; i++) loop_turn(w.loop, 2);
        letters_edit(other, &(struct letter_change){.sel = these(&id, 1), .limit = 2}, e, false, answer_json, &edited);
        await(&w.lf, &made);
        await(&w.lf, &edited);
        bool was_first = number_in(edited.json, "edited") == 1;
        array_in(edited.json, "refused", was_first ? 0 : 1);
        TURN_UNTIL(w.loop, w.got_count == round + 1);
        assert_true(str_is(w.got[round]->f.payload, was_first ? "edited" : "x"));
        edits += was_first;
        until_state(&w, number_in(made.json, "replay"), "done");
        answer_free(&made);
        answer_free(&edited);
    }
    print_message("# the edit was first %zu times of 20\n", edits);
    store_close(other_store);
    letters_free(other);
    world_close(&w);
}

// --- making and looking ---------------------------------------------------------------------------------------------------------

static void a_wrong_replay_is_refused_in_words(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, 1, "f", "x");
    const struct {
        struct replay_spec spec;
        const char *says;
    } cases[] = {
        {{.rate = -1}, "rate"},
        {{.rate = NAN}, "rate"},
        {{.rate = INFINITY}, "rate"},
        {{.rate = 0.0001}, "rate"},
        {{.rate = REPLAY_RATE_MAX + 1.0}, "rate"},
        {{.rate = 1, .ramp_ms = -1}, "ramp"},
        {{.rate = 1, .ramp_ms = 86400001}, "ramp"},
        {{.ramp_ms = 1}, "ramp"},
        {{.abort_share = 1.1}, "abortShare"},
        {{.abort_share = NAN}, "abortShare"},
        {{.to_origin = true, .to = STR_LIT("f2")}, "either"},
        {{.to_origin = true, .sample = 1}, "origin"},
        {{.to_origin = true, .abort_share = 0.5}, "origin"},
        {{.sample = 100001}, "sample"},
    };
    for (size_t i = 0; i < array_len(cases); i++) {
        struct replay_spec spec = cases[i].spec;
        spec.sel = where("");
        create_refused(&w, spec, ERR_INVALID, cases[i].says);
    }
    assert_int_equal(sql_number(&w.lf, "SELECT count(*) FROM replays"), 0);
    world_close(&w);
}

static void a_cause_has_one_replay(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, 2, "f", "x");
    struct replay_spec spec = all_of_f();
    spec.cause = STR_LIT("deploy:f:4");
    replays_start(w.a.replays);
    until_state(&w, create(&w, spec), "done");
    put_many(&w, NULL, 2, "f", "x");
    spec = all_of_f();
    spec.cause = STR_LIT("deploy:f:4");
    create_refused(&w, spec, ERR_CONFLICT, "deploy:f:4");
    assert_int_equal(count_letters(&w.lf, "dead"), 2);
    until_state(&w, create(&w, all_of_f()), "done"); // of no cause there may be many
    world_close(&w);
}

static void jobs_and_their_letters_are_listed_in_pages(void **state) {
    struct world w;
    world_open(&w, *state);
    int64_t made[3];
    for (size_t i = 0; i < 3; i++) {
        put_many(&w, NULL, 5, "f", "x");
        made[i] = create(&w, all_of_f());
    }
    act(&w, replays_cancel, made[1]);
    struct answer a = {0};
    replays_list(w.a.replays, false, 0, 2, answer_json, &a);
    await(&w.lf, &a);
    assert_int_equal(number_in(json_array_get(array_in(a.json, "replays", 2), 0), "replay"), made[2]);
    int64_t next = number_in(a.json, "next");
    answer_free(&a);
    replays_list(w.a.replays, false, next, 2, answer_json, &a);
    await(&w.lf, &a);
    assert_int_equal(number_in(json_array_get(array_in(a.json, "replays", 1), 0), "replay"), made[0]);
    assert_true(json_is_null(json_object_get(a.json, "next")));
    answer_free(&a);
    replays_list(w.a.replays, true, 0, 10, answer_json, &a);
    await(&w.lf, &a);
    array_in(a.json, "replays", 2);
    answer_free(&a);
    replays_letters(w.a.replays, made[2], STR_LIT("pending"), 12, 2, answer_json, &a);
    await(&w.lf, &a);
    assert_int_equal(number_in(json_array_get(array_in(a.json, "letters", 2), 0), "seq"), 13);
    assert_int_equal(number_in(a.json, "next"), 14);
    answer_free(&a);
    replays_letters(w.a.replays, made[2], STR_LIT("sent"), 0, 2, answer_json, &a);
    await(&w.lf, &a);
    array_in(a.json, "letters", 0);
    answer_free(&a);
    replay_act_fn *const all[] = {replays_show, replays_pause, replays_resume, replays_cancel};
    for (size_t i = 0; i < array_len(all); i++) {
        all[i](w.a.replays, made[2] + 1000, answer_json, &a);
        await_refusal(&w.lf, &a, ERR_NOT_FOUND, "there is no replay");
    }
    world_close(&w);
}

#define CASE(fn) {#fn, fn, STORE_BOTH}

int main(void) {
    const struct store_case cases[] = {
        CASE(a_letter_goes_as_a_new_event_that_is_linked_to_it),
        CASE(each_selected_letter_goes_once_in_the_order_of_ids),
        CASE(a_limit_takes_the_oldest),
        CASE(letters_go_to_another_function_or_version),
        CASE(what_can_never_be_sent_failed_and_stays_dead),
        CASE(a_letter_whose_event_cannot_be_read_is_skipped_and_stays_dead),
        CASE(a_second_replay_of_a_letter_is_another_event),
        CASE(letters_in_memory_are_bounded_by_their_bytes),
        CASE(a_record_goes_back_to_where_it_came_from),
        CASE(what_an_origin_refuses_stays_dead_or_is_tried_again),
        CASE(an_origin_gets_only_so_many_at_a_time),
        CASE(never_more_go_than_the_rate_and_its_ramp_allow),
        CASE(a_paused_replay_ends_what_is_under_way_and_goes_on_when_resumed),
        CASE(a_letter_whose_claim_was_lost_is_not_marked_and_goes_again),
        CASE(a_cancelled_replay_keeps_every_letter),
        CASE(a_replay_that_is_paused_and_resumed_at_any_moment_loses_nothing),
        CASE(a_stopped_server_leaves_nothing_half_done_and_the_next_goes_on),
        CASE(while_the_queue_is_away_letters_are_dead_and_tried_again),
        CASE(what_was_sent_and_cannot_be_marked_is_marked_later_and_not_sent_again),
        {"while_the_store_is_away_nothing_is_lost", while_the_store_is_away_nothing_is_lost, STORE_POSTGRES},
        CASE(a_job_whose_node_died_after_a_claim_goes_on),
        CASE(a_job_whose_node_died_before_it_marked_goes_on),
        CASE(a_job_whose_node_died_after_it_marked_goes_on),
        CASE(letters_that_nobody_sends_any_more_are_dead_again),
        CASE(more_jobs_than_run_at_a_time_all_come_to_their_turn),
        CASE(of_two_jobs_with_the_same_letters_each_letter_goes_with_one),
        CASE(letters_that_another_job_sends_are_told_when_a_job_is_made),
        CASE(a_letter_that_is_being_sent_is_not_changed_and_who_wants_to_is_told),
        CASE(a_letter_that_is_changed_first_goes_as_it_is_then_or_not_at_all),
        {"of_an_edit_and_a_replay_at_the_same_time_one_is_first", of_an_edit_and_a_replay_at_the_same_time_one_is_first, STORE_POSTGRES},
        CASE(a_wrong_replay_is_refused_in_words),
        CASE(a_cause_has_one_replay),
        CASE(jobs_and_their_letters_are_listed_in_pages),
    };
    return store_run_cases(cases, array_len(cases));
}
