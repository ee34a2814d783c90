// SPDX-License-Identifier: Apache-2.0
// What becomes of replayed events, over both stores: counted once, waited for after a sample, a reason to abort, and in order the leave of the
// next letter of the same key.
#include "tests/contract/replays_world.h"

static struct replay_spec spec_of(struct selection *sel) {
    return (struct replay_spec){.sel = sel, .who = STR_LIT("anna")};
}

static struct replay_spec all_of_f(void) {
    return spec_of(where("function = 'f'"));
}

static void expect_outcomes(struct world *w, int64_t replay, int64_t ok, int64_t failing, int64_t dead) {
    json_t *o = show_replay(w, replay);
    assert_int_equal(number_in(o, "ok"), ok);
    assert_int_equal(number_in(o, "failing"), failing);
    assert_int_equal(number_in(o, "dead"), dead);
    json_decref(o);
}

static void tell_and_wait(struct world *w, const struct ev *ev, enum replay_outcome outcome) {
    size_t before = w->told;
    tell(w, ev, outcome);
    TURN_UNTIL(w->loop, w->told > before);
}

static void expect_reason(struct world *w, int64_t replay, const char *says) {
    json_t *o = show_replay(w, replay);
    if (!strstr(text_in(o, "reason"), says)) fail_msg("'%s' does not say '%s'", text_in(o, "reason"), says);
    json_decref(o);
}

// --- outcomes -------------------------------------------------------------------------------------------------------------

static void what_becomes_of_an_event_is_counted_once(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id ids[3];
    put_many(&w, ids, 3, "f", "x");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_of_f());
    until_state(&w, replay, "done"); // everything was sent; the outcomes come later
    TURN_UNTIL(w.loop, w.got_count == 3);
    expect_outcomes(&w, replay, 0, 0, 0);
    tell_and_wait(&w, w.got[0], REPLAY_OUTCOME_FAILING);
    tell_and_wait(&w, w.got[0], REPLAY_OUTCOME_FAILING);
    expect_outcomes(&w, replay, 0, 1, 0);
    tell_and_wait(&w, w.got[0], REPLAY_OUTCOME_OK);
    tell_and_wait(&w, w.got[0], REPLAY_OUTCOME_DEAD); // of a second delivery
    tell_and_wait(&w, w.got[0], REPLAY_OUTCOME_FAILING);
    expect_outcomes(&w, replay, 1, 0, 0);
    tell_and_wait(&w, w.got[1], REPLAY_OUTCOME_DEAD);
    expect_outcomes(&w, replay, 1, 0, 1);
    json_t *o = letters_of(&w, replay, "dead");
    char id[ID_TEXT_BYTES];
    id_format(&ids[1], id);
    const json_t *letter = json_array_get(array_in(o, "letters", 1), 0);
    assert_string_equal(text_in(letter, "id"), id);
    assert_string_equal(text_in(letter, "outcome"), "dead");
    assert_string_equal(text_in(letter, "state"), "sent");
    json_decref(o);
    o = show_letter(&w.lf, &ids[0]);
    assert_string_equal(text_in(json_array_get(array_in(o, "replays", 1), 0), "outcome"), "ok");
    json_decref(o);
    world_close(&w);
}

static void an_outcome_of_another_letter_counts_nothing(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, 2, "f", "x");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_of_f());
    until_state(&w, replay, "done");
    TURN_UNTIL(w.loop, w.got_count == 2);
    struct ev forged = *w.got[0];
    forged.f.origin_id = w.got[1]->f.origin_id;
    tell_and_wait(&w, &forged, REPLAY_OUTCOME_DEAD);
    forged.f.origin_id = id_new();
    tell_and_wait(&w, &forged, REPLAY_OUTCOME_DEAD);
    forged = *w.got[0];
    forged.f.replay_seq = 77;
    tell_and_wait(&w, &forged, REPLAY_OUTCOME_DEAD);
    forged = *w.got[0];
    forged.f.replay = replay + 1;
    tell_and_wait(&w, &forged, REPLAY_OUTCOME_DEAD);
    expect_outcomes(&w, replay, 0, 0, 0);
    world_close(&w);
}

// --- samples and aborts -----------------------------------------------------------------------------------------------------

#define SAMPLE 5
#define SAMPLED 30

static void the_rest_goes_when_the_sample_is_through(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, SAMPLED, "f", "x");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    struct replay_spec spec = all_of_f();
    spec.sample = SAMPLE;
    int64_t replay = create(&w, spec);
    TURN_UNTIL(w.loop, w.got_count == SAMPLE);
    for (size_t i = 0; i < SAMPLE - 1; i++) tell_and_wait(&w, w.got[i], REPLAY_OUTCOME_OK);
    turn_looks(&w, 5); // longer than a look at the outcomes
    assert_int_equal(w.got_count, SAMPLE);
    w.telling = TELL_DEAD; // after the sample nothing is looked at
    tell_and_wait(&w, w.got[SAMPLE - 1], REPLAY_OUTCOME_OK);
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, SAMPLED, 0, 0);
    world_close(&w);
}

static void a_sample_that_fails_ends_the_replay(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, SAMPLED, "f", "x");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    struct replay_spec spec = all_of_f();
    spec.sample = SAMPLE;
    int64_t replay = create(&w, spec);
    TURN_UNTIL(w.loop, w.got_count == SAMPLE);
    tell_and_wait(&w, w.got[2], REPLAY_OUTCOME_FAILING); // one is enough
    until_state(&w, replay, "aborted");
    expect_reason(&w, replay, "1 of 5 failed");
    expect_counts(&w, replay, SAMPLED - SAMPLE, SAMPLE, 0, 0);
    assert_int_equal(count_letters(&w.lf, "dead"), SAMPLED - SAMPLE);
    assert_int_equal(w.got_count, SAMPLE);
    world_close(&w);
}

// Those that fail do so sooner than the others: they are a part of the whole sample.
static void a_sample_may_fail_up_to_the_share(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, SAMPLED, "f", "x");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    struct replay_spec spec = all_of_f();
    spec.sample = SAMPLE;
    spec.abort_share = 0.4;
    int64_t replay = create(&w, spec);
    TURN_UNTIL(w.loop, w.got_count == SAMPLE);
    w.telling = TELL_OK;
    for (size_t i = 0; i < 2; i++) tell_and_wait(&w, w.got[i], REPLAY_OUTCOME_DEAD);
    turn_looks(&w, 5); // longer than a look at the outcomes
    assert_true(replay_is(&w, replay, "running"));
    for (size_t i = 2; i < SAMPLE; i++) tell_and_wait(&w, w.got[i], REPLAY_OUTCOME_OK);
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, SAMPLED, 0, 0);
    world_close(&w);
}

static void a_sample_ends_as_soon_as_too_many_of_it_failed(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, SAMPLED, "f", "x");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    struct replay_spec spec = all_of_f();
    spec.sample = SAMPLE;
    spec.abort_share = 0.4;
    int64_t replay = create(&w, spec);
    TURN_UNTIL(w.loop, w.got_count == SAMPLE);
    for (size_t i = 0; i < 3; i++) tell_and_wait(&w, w.got[i], REPLAY_OUTCOME_DEAD);
    until_state(&w, replay, "aborted"); // whatever becomes of the other two
    expect_reason(&w, replay, "3 of 5 failed (60.0 %)");
    expect_counts(&w, replay, SAMPLED - SAMPLE, SAMPLE, 0, 0);
    world_close(&w);
}

static void a_sample_that_is_all_there_is_ends_well(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, 3, "f", "x");
    replays_start(w.a.replays);
    struct replay_spec spec = all_of_f();
    spec.sample = SAMPLE;
    int64_t replay = create(&w, spec);
    until_state(&w, replay, "done");
    expect_outcomes(&w, replay, 3, 0, 0);
    world_close(&w);
}

static void a_sample_that_is_all_there_is_is_judged(void **state) {
    struct world w;
    for (int in_order = 0; in_order < 2; in_order++) {
        world_open(&w, *state);
        for (int i = 0; i < 4; i++) put_letter(&w.lf, &(struct ev_fields){.function = STR_LIT("f"), .payload = i == 2 ? STR_LIT("bad") : STR_LIT("x"),
                                                                          .ordering_key = STR_LIT("k")}, LETTER_DEAD);
        w.telling = TELL_BY_PAYLOAD;
        struct replay_spec spec = all_of_f();
        spec.sample = SAMPLE;
        spec.in_order = in_order;
        int64_t replay = create(&w, spec);
        replays_start(w.a.replays);
        until_state(&w, replay, "aborted");
        expect_reason(&w, replay, "failed");
        world_close(&w);
        sql(&w.lf, "DELETE FROM letters");
    }
}

static void too_many_failures_end_the_replay_and_keep_the_rest(void **state) {
    struct world w;
    world_open(&w, *state);
    enum { COUNT = 2000 };
    put_many(&w, NULL, COUNT, "f", "x");
    w.telling = TELL_DEAD;
    replays_start(w.a.replays);
    struct replay_spec spec = all_of_f();
    spec.rate = 200;
    spec.abort_share = 0.1;
    int64_t replay = create(&w, spec);
    until_state(&w, replay, "aborted");
    expect_reason(&w, replay, "more than 10.0 %");
    json_t *o = show_replay(&w, replay);
    int64_t sent = number_in(o, "sent");
    assert_true(sent >= REPLAY_ABORT_LEAST && sent < COUNT);
    assert_int_equal(number_in(o, "pending"), COUNT - sent);
    json_decref(o);
    assert_int_equal(sql_number(&w.lf, "SELECT count(*) FROM letters WHERE state = 'replaying'"), 0);
    assert_int_equal(sql_number(&w.lf, "SELECT count(*) FROM letters WHERE state = 'replayed'"), sent);
    assert_int_equal(w.got_count, sent);
    world_close(&w);
}

static void a_few_failures_do_not_end_it(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, REPLAY_ABORT_LEAST - 1, "f", "bad"); // fewer than count
    w.telling = TELL_BY_PAYLOAD;
    replays_start(w.a.replays);
    struct replay_spec spec = all_of_f();
    spec.abort_share = 0.1;
    spec.rate = 100;
    int64_t replay = create(&w, spec);
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, REPLAY_ABORT_LEAST - 1, 0, 0);
    world_close(&w);
}

static void a_replay_of_its_own_accord_ends_when_the_same_failure_comes_back(void **state) {
    struct world w;
    for (int same = 0; same < 2; same++) {
        world_open(&w, *state);
        put_many(&w, NULL, SAMPLED, "f", "x");
        w.telling = TELL_DEAD;
        w.dies_as_before = same;
        replays_start(w.a.replays);
        struct replay_spec spec = all_of_f();
        spec.sample = SAMPLE;
        spec.abort_share = 1;
        spec.cause = STR_LIT("deploy:f:4");
        int64_t replay = create(&w, spec);
        until_state(&w, replay, same ? "aborted" : "done");
        if (same) expect_reason(&w, replay, "of the same thing as before");
        assert_int_equal(replay_number(&w, replay, "sent"), same ? SAMPLE : SAMPLED);
        world_close(&w);
    }
}

// --- in order ---------------------------------------------------------------------------------------------------------------

static struct id put_record(struct world *w, const char *topic, int partition, int offset, const char *key, const char *payload) {
    cleanup_free char *at = mem_printf("{\"topic\":\"%s\",\"partition\":%d,\"offset\":%d,\"timestamp\":1}", topic, partition, offset);
    return put_letter(&w->lf, &(struct ev_fields){.function = STR_LIT("f"), .payload = str_of(payload), .ordering_key = str_of(key),
                                                  .source_kind = STR_LIT("kafka"), .source_name = STR_LIT("t"), .source_at = str_of(at)},
                      LETTER_DEAD);
}

static struct replay_spec in_order(void) {
    struct replay_spec spec = all_of_f();
    spec.in_order = true;
    return spec;
}

static bool came(const struct world *w, size_t at, const struct id *letter) {
    return at < w->got_count && id_eq(&w->got[at]->f.origin_id, letter);
}

static void letters_of_a_key_go_one_at_a_time_by_their_place(void **state) {
    struct world w;
    world_open(&w, *state);
    // The later the record, the earlier it died; 10 comes after 9.
    struct id k10 = put_record(&w, "t", 0, 10, "k", "x"), k9 = put_record(&w, "t", 0, 9, "k", "x"), k2 = put_record(&w, "t", 0, 2, "k", "x");
    struct id other = put_record(&w, "t", 0, 5, "other", "x");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    int64_t replay = create(&w, in_order());
    TURN_UNTIL(w.loop, w.got_count == 2);
    turn_looks(&w, 5);
    assert_int_equal(w.got_count, 2); // one of each key
    assert_true(came(&w, 0, &k2) && came(&w, 1, &other));
    tell_and_wait(&w, w.got[0], REPLAY_OUTCOME_FAILING); // it is tried again: not its end
    turn_looks(&w, 5);
    assert_int_equal(w.got_count, 2);
    tell_and_wait(&w, w.got[0], REPLAY_OUTCOME_OK);
    TURN_UNTIL(w.loop, w.got_count == 3);
    turn_looks(&w, 3);
    assert_true(w.got_count == 3 && came(&w, 2, &k9));
    tell_and_wait(&w, w.got[1], REPLAY_OUTCOME_DEAD);
    tell_and_wait(&w, w.got[2], REPLAY_OUTCOME_OK);
    TURN_UNTIL(w.loop, w.got_count == 4);
    assert_true(came(&w, 3, &k10));
    assert_true(replay_is(&w, replay, "running"));
    tell_and_wait(&w, w.got[3], REPLAY_OUTCOME_OK);
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, 4, 0, 0);
    world_close(&w);
}

static void without_a_key_a_partition_is_what_is_in_order(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id p1 = put_record(&w, "t", 1, 3, "", "x"), p0b = put_record(&w, "t", 0, 8, "", "x"), p0a = put_record(&w, "t", 0, 7, "", "x");
    struct id u1 = put_record(&w, "u", 1, 1, "", "x");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    int64_t replay = create(&w, in_order());
    TURN_UNTIL(w.loop, w.got_count == 3);
    turn_looks(&w, 5);
    assert_int_equal(w.got_count, 3);
    assert_true(times(&w, &p0a) == 1 && times(&w, &p1) == 1 && times(&w, &u1) == 1 && times(&w, &p0b) == 0);
    w.telling = TELL_OK;
    for (size_t i = 0; i < 3; i++) tell_and_wait(&w, w.got[i], REPLAY_OUTCOME_OK);
    until_state(&w, replay, "done");
    assert_true(came(&w, 3, &p0b));
    world_close(&w);
}

static void what_nothing_orders_goes_at_once(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, 4, "f", "x"); // over HTTP, without a key
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    int64_t replay = create(&w, in_order());
    TURN_UNTIL(w.loop, w.got_count == 4);
    for (size_t i = 0; i < 4; i++) tell_and_wait(&w, w.got[i], i ? REPLAY_OUTCOME_OK : REPLAY_OUTCOME_DEAD);
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, 4, 0, 0);
    world_close(&w);
}

static void what_nothing_orders_goes_once_the_queue_is_back(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id keyed = put_record(&w, "t", 0, 1, "k", "x"), free_ones[4];
    put_many(&w, free_ones, 4, "f", "x");
    w.a.gate.mode = GATE_REFUSE;
    w.a.gate.code = ERR_UNAVAILABLE;
    replays_start(w.a.replays);
    int64_t replay = create(&w, in_order());
    TURN_UNTIL(w.loop, w.a.gate.refused >= 5);
    gate_open(&w.a.gate);
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, 5, 0, 0);
    assert_int_equal(w.got_count, 5);
    assert_int_equal(times(&w, &keyed), 1);
    for (size_t i = 0; i < 4; i++) assert_int_equal(times(&w, &free_ones[i]), 1);
    world_close(&w);
}

static void what_nothing_orders_is_waited_for_by_another_node(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, 3, "f", "x");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    int64_t replay = create(&w, in_order());
    TURN_UNTIL(w.loop, w.got_count == 3);
    TURN_UNTIL(w.loop, count_letters(&w.lf, "replayed") == 3);
    take_over(&w);
    turn_looks(&w, 10); // longer than it waits before it sends
    assert_true(replay_is(&w, replay, "running"));
    for (size_t i = 0; i < 3; i++) tell_and_wait(&w, w.got[i], REPLAY_OUTCOME_OK);
    until_state(&w, replay, "done");
    assert_int_equal(w.got_count, 3);
    world_close(&w);
}

static void letters_of_two_functions_that_go_to_one_are_in_one_order(void **state) {
    struct world w;
    world_open(&w, *state);
    struct ev_fields f = {.function = STR_LIT("f"), .ordering_key = STR_LIT("k")};
    put_letter(&w.lf, &f, LETTER_DEAD);
    f.function = STR_LIT("f2");
    put_letter(&w.lf, &f, LETTER_DEAD);
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    struct replay_spec spec = in_order();
    selection_free(spec.sel);
    spec.sel = where("function = 'f' or function = 'f2'");
    spec.to = STR_LIT("f:3");
    int64_t replay = create(&w, spec);
    TURN_UNTIL(w.loop, w.got_count == 1);
    turn_looks(&w, 5);
    assert_int_equal(w.got_count, 1);
    w.telling = TELL_OK;
    tell_and_wait(&w, w.got[0], REPLAY_OUTCOME_OK);
    until_state(&w, replay, "done");
    assert_int_equal(w.got_count, 2);
    world_close(&w);
}

static void a_key_whose_letter_failed_again_stops_and_others_go_on(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id first = put_record(&w, "t", 0, 1, "k", "x"), bad = put_record(&w, "t", 0, 2, "k", "bad"), behind[2];
    for (int i = 0; i < 2; i++) behind[i] = put_record(&w, "t", 0, 3 + i, "k", "x");
    struct id others[4];
    for (int i = 0; i < 4; i++) others[i] = put_record(&w, "t", 0, 10 + i, "other", "x");
    w.telling = TELL_BY_PAYLOAD;
    replays_start(w.a.replays);
    int64_t replay = create(&w, in_order());
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, 6, 2, 0);
    expect_outcomes(&w, replay, 5, 0, 1);
    assert_true(letter_is(&w.lf, &first, "replayed") && letter_is(&w.lf, &bad, "replayed"));
    for (int i = 0; i < 4; i++) assert_true(letter_is(&w.lf, &others[i], "replayed"));
    for (int i = 0; i < 2; i++) assert_true(letter_is(&w.lf, &behind[i], "dead"));
    json_t *o = letters_of(&w, replay, "skipped");
    assert_non_null(strstr(text_in(json_array_get(array_in(o, "letters", 2), 0), "why"), "failed again"));
    json_decref(o);
    world_close(&w);
}

static void a_key_whose_letter_cannot_be_sent_stops(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id ids[2];
    for (int i = 0; i < 2; i++) ids[i] = put_record(&w, "t", 0, i, "k", "x");
    functions_are_gone = true;
    replays_start(w.a.replays);
    int64_t replay = create(&w, in_order());
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, 0, 1, 1);
    for (int i = 0; i < 2; i++) assert_true(letter_is(&w.lf, &ids[i], "dead"));
    functions_are_gone = false;
    world_close(&w);
}

// The store could not write that it failed: it goes again, and those behind it are not given up.
static void a_key_whose_letter_was_not_marked_goes_on(void **state) {
    struct world w;
    world_open(&w, *state);
    put_record(&w, "t", 0, 0, "other", "x");
    functions_are_gone = true;
    replays_start(w.a.replays);
    until_state(&w, create(&w, in_order()), "done");
    sql(&w.lf, "CREATE UNIQUE INDEX only_one_failed ON replay_letters (state) WHERE state = 'failed'");
    for (int i = 0; i < 2; i++) put_record(&w, "t", 0, 1 + i, "k", "x");
    struct replay_spec spec = spec_of(where("key = 'k'"));
    spec.in_order = true;
    int64_t replay = create(&w, spec);
    size_t before = functions_missed;
    TURN_UNTIL(w.loop, functions_missed >= before + 3); // twice for one sending: it was taken up anew
    expect_counts(&w, replay, 2, 0, 0, 0);
    functions_are_gone = false;
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, 2, 0, 0);
    sql(&w.lf, "DROP INDEX only_one_failed");
    world_close(&w);
}

static void a_letter_that_is_not_dead_any_more_lets_the_next_of_its_key_go(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id ids[4];
    for (int i = 0; i < 4; i++) ids[i] = put_record(&w, "t", 0, i, "k", "x");
    int64_t replay = create(&w, in_order());
    sql_of(&w.lf, "UPDATE letters SET state = 'discarded' WHERE id = $1", &ids[0]);
    struct answer a = {0};
    letters_purge(w.lf.letters, &(struct letter_change){.sel = these(&ids[2], 1), .limit = 1}, true, answer_json, &a);
    await(&w.lf, &a);
    answer_free(&a);
    replays_start(w.a.replays);
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, 2, 2, 0);
    assert_true(came(&w, 0, &ids[1]) && came(&w, 1, &ids[3]));
    world_close(&w);
}

static void the_order_holds_when_another_node_goes_on(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id ids[4];
    for (int i = 0; i < 4; i++) ids[i] = put_record(&w, "t", 0, i, "k", "x");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    int64_t replay = create(&w, in_order());
    TURN_UNTIL(w.loop, w.got_count == 1);
    tell_and_wait(&w, w.got[0], REPLAY_OUTCOME_OK);
    TURN_UNTIL(w.loop, w.got_count == 2);
    TURN_UNTIL(w.loop, letter_is(&w.lf, &ids[1], "replayed"));
    take_over(&w);
    turn_looks(&w, 10); // longer than it waits before it sends
    assert_int_equal(w.got_count, 2); // the event of the dead node has not ended
    w.telling = TELL_OK;
    tell_and_wait(&w, w.got[1], REPLAY_OUTCOME_OK);
    until_state(&w, replay, "done");
    assert_int_equal(w.got_count, 4);
    for (size_t i = 0; i < 4; i++) assert_true(came(&w, i, &ids[i]));
    world_close(&w);
}

static void an_end_that_another_node_told_lets_the_next_go(void **state) {
    struct world w;
    world_open(&w, *state);
    for (int i = 0; i < 2; i++) put_record(&w, "t", 0, i, "k", "x");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    int64_t replay = create(&w, in_order());
    node_open(&w, &w.b, "b"); // it runs no jobs; tell goes through it
    TURN_UNTIL(w.loop, w.got_count == 1);
    tell_and_wait(&w, w.got[0], REPLAY_OUTCOME_OK);
    w.telling = TELL_OK;
    until_state(&w, replay, "done");
    assert_int_equal(w.got_count, 2);
    world_close(&w);
}

static void a_paused_replay_in_order_goes_on_in_order(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id ids[6];
    for (int i = 0; i < 6; i++) ids[i] = put_record(&w, "t", 0, i, "k", "x");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    int64_t replay = create(&w, in_order());
    TURN_UNTIL(w.loop, w.got_count == 1);
    tell_and_wait(&w, w.got[0], REPLAY_OUTCOME_OK);
    TURN_UNTIL(w.loop, w.got_count == 2);
    act(&w, replays_pause, replay);
    tell_and_wait(&w, w.got[1], REPLAY_OUTCOME_OK);
    turn_looks(&w, 6);
    assert_int_equal(w.got_count, 2);
    w.telling = TELL_OK;
    act(&w, replays_resume, replay);
    until_state(&w, replay, "done");
    assert_int_equal(w.got_count, 6);
    for (size_t i = 0; i < 6; i++) assert_true(came(&w, i, &ids[i]));
    world_close(&w);
}

static void in_order_to_an_origin_a_letter_waits_only_for_the_answer(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id ids[3];
    for (int i = 0; i < 3; i++) ids[i] = put_record(&w, "t", 0, i, "k", "x");
    replays_start(w.a.replays);
    struct replay_spec spec = in_order();
    spec.to_origin = true; // which this server has not: the first fails, the others stay
    int64_t replay = create(&w, spec);
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, 0, 2, 1);
    assert_true(letter_is(&w.lf, &ids[2], "dead"));
    world_close(&w);
}

// --- live events of a key -------------------------------------------------------------------------------------------------------

static bool held(struct world *w, const char *function, const char *key) {
    struct ev *ev = ev_new(&(struct ev_fields){.function = str_of(function), .ordering_key = str_of(key)});
    bool is = replays_holds(w->a.replays, ev);
    ev_free(ev);
    return is;
}

static void live_events_wait_only_for_letters_of_their_key(void **state) {
    struct world w;
    world_open(&w, *state);
    put_record(&w, "t", 0, 1, "k", "x");
    put_record(&w, "t", 0, 2, "k", "x");
    struct id unordered = put_record(&w, "t", 0, 3, "free", "x");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    assert_false(held(&w, "f", "k"));
    struct replay_spec not_in_order = spec_of(these(&unordered, 1));
    not_in_order.rate = 0.001; // it stays open
    create(&w, not_in_order);
    struct replay_spec spec = spec_of(where("key = 'k'"));
    spec.in_order = true;
    int64_t replay = create(&w, spec);
    TURN_UNTIL(w.loop, held(&w, "f", "k"));
    assert_false(held(&w, "f", "other") || held(&w, "f2", "k") || held(&w, "f", "") || held(&w, "f", "free"));
    TURN_UNTIL(w.loop, w.got_count == 1);
    assert_false(replays_holds(w.a.replays, w.got[0])); // the replay's own
    assert_true(held(&w, "f", "k"));
    act(&w, replays_pause, replay); // it is still open
    turn_looks(&w, 6);
    assert_true(held(&w, "f", "k"));
    act(&w, replays_resume, replay);
    w.telling = TELL_OK;
    tell_and_wait(&w, w.got[0], REPLAY_OUTCOME_OK);
    until_state(&w, replay, "done");
    TURN_UNTIL(w.loop, !held(&w, "f", "k"));
    world_close(&w);
}

static void a_key_is_free_when_its_letters_are_through(void **state) {
    struct world w;
    world_open(&w, *state);
    put_record(&w, "t", 0, 1, "k", "x");
    put_record(&w, "t", 0, 2, "k", "x");
    put_record(&w, "t", 0, 3, "bad", "bad");
    put_record(&w, "t", 0, 4, "bad", "x");
    put_record(&w, "t", 0, 5, "slow", "slow");
    w.telling = TELL_BY_PAYLOAD;
    replays_start(w.a.replays);
    int64_t replay = create(&w, in_order());
    TURN_UNTIL(w.loop, held(&w, "f", "k") && held(&w, "f", "bad") && held(&w, "f", "slow"));
    TURN_UNTIL(w.loop, !held(&w, "f", "k") && !held(&w, "f", "bad"));
    assert_int_equal(sql_number(&w.lf, "SELECT count(*) FROM replay_letters WHERE outcome IN ('ok', 'dead') OR state = 'skipped'"), 4);
    assert_true(held(&w, "f", "slow") && replay_is(&w, replay, "running"));
    act(&w, replays_cancel, replay);
    TURN_UNTIL(w.loop, !held(&w, "f", "slow"));
    world_close(&w);
}

// Many others are between the two of the key.
static void letters_that_are_far_apart_are_in_order(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id first = put_record(&w, "t", 0, 1, "k", "x"), second = put_record(&w, "t", 0, 2, "k", "x");
    int64_t replay = create(&w, in_order());
    sql(&w.lf, "UPDATE replay_letters SET seq = 1000000 WHERE seq = 2");
    sql(&w.lf, "UPDATE replays SET total = 1000000");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    TURN_UNTIL(w.loop, w.got_count == 1);
    assert_true(came(&w, 0, &first) && held(&w, "f", "k"));
    turn_looks(&w, 5);
    assert_int_equal(w.got_count, 1);
    tell_and_wait(&w, w.got[0], REPLAY_OUTCOME_OK);
    TURN_UNTIL(w.loop, w.got_count == 2);
    turn_looks(&w, 6);
    assert_true(came(&w, 1, &second) && held(&w, "f", "k"));
    tell_and_wait(&w, w.got[1], REPLAY_OUTCOME_OK);
    until_state(&w, replay, "done");
    TURN_UNTIL(w.loop, !held(&w, "f", "k"));
    world_close(&w);
}

#define COPIES "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000) "

static void over_so_many_keys_the_replay_says_that_some_do_not_wait(void **state) {
    struct world w;
    world_open(&w, *state);
    bool postgres = w.lf.fx->postgres;
    put_record(&w, "t", 0, 1, "k", "x");
    int64_t replay = create(&w, in_order());
    act(&w, replays_pause, replay);
    sql(&w.lf, postgres ? "CREATE TABLE copies AS " COPIES
                          "SELECT n + 1 AS seq, convert_to(lpad(CAST(n AS TEXT), 16, '0'), 'UTF8') AS id FROM numbers"
                        : "CREATE TABLE copies AS " COPIES "SELECT n + 1 AS seq, CAST(printf('%016d', n) AS BLOB) AS id FROM numbers");
    sql(&w.lf, "INSERT INTO letters (id, function, state, kind, accepted_ms, died_ms, changed_ms, attempts, version, fingerprint, error_type,"
               " error_message, source_kind, source_name, source_at, ordering_key, content_type, headers, payload)"
               " SELECT c.id, function, state, kind, accepted_ms, died_ms, changed_ms, attempts, version, fingerprint, error_type, error_message,"
               " source_kind, source_name, source_at, 'k' || CAST(c.seq AS TEXT), content_type, headers, payload FROM letters, copies c");
    sql(&w.lf, "INSERT INTO replay_letters (replay, seq, letter_id, state) SELECT r.id, c.seq, c.id, 'pending' FROM copies c, replays r");
    sql(&w.lf, "UPDATE replays SET total = 100001");
    sql(&w.lf, "DROP TABLE copies");
    replays_start(w.a.replays);
    TURN_UNTIL(w.loop, held(&w, "f", "k") && held(&w, "f", "k100000"));
    assert_false(held(&w, "f", "k100001"));
    TURN_UNTIL(w.loop, sql_number(&w.lf, "SELECT count(*) FROM replays WHERE reason LIKE 'more than 100000 keys wait%'") == 1);
    expect_reason(&w, replay, "do not wait");
    world_close(&w);
}

static void a_replay_to_another_function_holds_that_functions_events(void **state) {
    struct world w;
    world_open(&w, *state);
    put_record(&w, "t", 0, 1, "k", "x");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    struct replay_spec spec = in_order();
    spec.to = STR_LIT("f2:1");
    int64_t replay = create(&w, spec);
    TURN_UNTIL(w.loop, held(&w, "f2", "k"));
    assert_false(held(&w, "f", "k"));
    act(&w, replays_cancel, replay);
    TURN_UNTIL(w.loop, !held(&w, "f2", "k"));
    world_close(&w);
}

// Those that waited come due together (settle_hold), and go in the order in which they were accepted, whichever was stored first.
static void due_letters_of_one_time_go_in_their_order(void **state) {
    struct world w;
    world_open(&w, *state);
    enum { COUNT = 6 };
    struct id ids[COUNT];
    for (size_t i = 0; i < COUNT; i++) ids[i] = id_new();
    for (size_t i = COUNT; i-- > 0;) {
        struct ev *ev = ev_new(&(struct ev_fields){.id = ids[i], .function = STR_LIT("f"), .ordering_key = STR_LIT("k")});
        const struct letter_draft draft = {.ev = ev, .state = LETTER_DUE, .kind = LETTER_DELAYED, .due_ms = 1000};
        struct answer a = {0};
        letters_put(w.lf.letters, &draft, answer_done, &a);
        await(&w.lf, &a);
        ev_free(ev);
    }
    for (size_t i = 0; i < COUNT; i += 2) {
        struct answer a = {0};
        letters_claim_due(w.lf.letters, 1000, 60000, 2, answer_claim, &a);
        await(&w.lf, &a);
        assert_int_equal(a.count, 2);
        for (size_t j = 0; j < 2; j++) assert_true(id_eq(&a.letters[j].id, &ids[i + j]));
        answer_free(&a);
    }
    world_close(&w);
}

#define CASE(fn) {#fn, fn, STORE_BOTH}

int main(void) {
    const struct store_case cases[] = {
        CASE(what_becomes_of_an_event_is_counted_once),
        CASE(an_outcome_of_another_letter_counts_nothing),
        CASE(the_rest_goes_when_the_sample_is_through),
        CASE(a_sample_that_fails_ends_the_replay),
        CASE(a_sample_may_fail_up_to_the_share),
        CASE(a_sample_ends_as_soon_as_too_many_of_it_failed),
        CASE(a_sample_that_is_all_there_is_ends_well),
        CASE(a_sample_that_is_all_there_is_is_judged),
        CASE(too_many_failures_end_the_replay_and_keep_the_rest),
        CASE(a_few_failures_do_not_end_it),
        CASE(a_replay_of_its_own_accord_ends_when_the_same_failure_comes_back),
        CASE(letters_of_a_key_go_one_at_a_time_by_their_place),
        CASE(without_a_key_a_partition_is_what_is_in_order),
        CASE(what_nothing_orders_goes_at_once),
        CASE(what_nothing_orders_goes_once_the_queue_is_back),
        CASE(what_nothing_orders_is_waited_for_by_another_node),
        CASE(letters_of_two_functions_that_go_to_one_are_in_one_order),
        CASE(a_key_whose_letter_failed_again_stops_and_others_go_on),
        CASE(a_key_whose_letter_cannot_be_sent_stops),
        CASE(a_key_whose_letter_was_not_marked_goes_on),
        CASE(a_letter_that_is_not_dead_any_more_lets_the_next_of_its_key_go),
        CASE(the_order_holds_when_another_node_goes_on),
        CASE(an_end_that_another_node_told_lets_the_next_go),
        CASE(a_paused_replay_in_order_goes_on_in_order),
        CASE(in_order_to_an_origin_a_letter_waits_only_for_the_answer),
        CASE(live_events_wait_only_for_letters_of_their_key),
        CASE(a_key_is_free_when_its_letters_are_through),
        CASE(letters_that_are_far_apart_are_in_order),
        CASE(over_so_many_keys_the_replay_says_that_some_do_not_wait),
        CASE(a_replay_to_another_function_holds_that_functions_events),
        CASE(due_letters_of_one_time_go_in_their_order),
    };
    return store_run_cases(cases, array_len(cases));
}
