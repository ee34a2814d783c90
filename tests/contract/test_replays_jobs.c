// SPDX-License-Identifier: Apache-2.0
// The life of a replay's job over both stores: who goes on with it and where, what it says while it waits, what a cancel frees, and its end at
// the end of a server. What goes and in which order is in test_replays.c and test_replays_order.c.
#include "tests/contract/replays_world.h"

static struct replay_spec all_of_f(void) {
    return (struct replay_spec){.sel = where("function = 'f'"), .who = STR_LIT("anna"), .abort_share = -1};
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

static void put_of_key(struct world *w, const char *key) {
    put_letter(&w->lf, &(struct ev_fields){.function = STR_LIT("f"), .ordering_key = str_of(key)}, LETTER_DEAD);
}

static int64_t letters_that_are(struct world *w, const char *state) {
    cleanup_free char *text = mem_printf("SELECT count(*) FROM letters WHERE state = '%s'", state);
    return sql_number(&w->lf, text);
}

// --- waiting --------------------------------------------------------------------------------------------------------------

#define SILENCE_MS 400

// Where everything takes long, a job may be paused before all is told; then it is resumed.
static bool is_or_goes_on(struct world *w, int64_t replay, const char *state, const char *reason) {
    json_t *o = show_replay(w, replay);
    bool paused = strcmp(text_in(o, "state"), "paused") == 0;
    bool is = strcmp(text_in(o, "state"), state) == 0 && strstr(text_in(o, "reason"), reason);
    json_decref(o);
    if (paused && !is) act(w, replays_resume, replay);
    return is;
}

static void until_silence(struct world *w, int64_t replay, int64_t since_ns, const char *says) {
    TURN_UNTIL(w->loop, is_or_goes_on(w, replay, "paused", says));
    assert_true(clock_mono_ns() - since_ns >= SILENCE_MS * NS_PER_MS);
}

static void a_job_that_hears_of_no_end_is_paused_and_says_why(void **state) {
    struct world w;
    world_open(&w, *state);
    node_close(&w, &w.a);
    world_silence_ms = SILENCE_MS;
    node_open(&w, &w.a, "a");
    for (int i = 0; i < 2; i++) put_of_key(&w, "k");
    put_of_key(&w, "other");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    struct replay_spec spec = all_of_f();
    spec.in_order = true;
    int64_t replay = create(&w, spec), since_ns = clock_mono_ns();
    until_silence(&w, replay, since_ns, "2 events came to no end for");
    expect_counts(&w, replay, 1, 2, 0, 0);
    assert_int_equal(letters_that_are(&w, "dead"), 1);
    since_ns = clock_mono_ns();
    act(&w, replays_resume, replay);
    until_silence(&w, replay, since_ns, "2 events came to no end for"); // it waited again
    act(&w, replays_resume, replay);
    w.telling = TELL_OK;
    for (size_t i = 0; i < 2; i++) tell_and_wait(&w, w.got[i], REPLAY_OUTCOME_OK);
    TURN_UNTIL(w.loop, is_or_goes_on(&w, replay, "done", ""));
    assert_int_equal(w.got_count, 3);
    world_close(&w);
}

static void a_sample_of_which_nothing_is_heard_pauses_its_job(void **state) {
    struct world w;
    world_open(&w, *state);
    node_close(&w, &w.a);
    world_silence_ms = SILENCE_MS;
    node_open(&w, &w.a, "a");
    put_many(&w, NULL, 5, "f", "x");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    struct replay_spec spec = all_of_f();
    spec.sample = 3;
    int64_t replay = create(&w, spec), since_ns = clock_mono_ns();
    TURN_UNTIL(w.loop, w.got_count == 3);
    tell_and_wait(&w, w.got[0], REPLAY_OUTCOME_OK);
    until_silence(&w, replay, since_ns, "2 events came to no end for");
    assert_int_equal(letters_that_are(&w, "dead"), 2);
    world_close(&w);
}

// One of it is not dead any more, and one is never heard of.
static void a_sample_of_more_than_there_is_pauses_its_job_too(void **state) {
    struct world w;
    world_open(&w, *state);
    node_close(&w, &w.a);
    world_silence_ms = SILENCE_MS;
    node_open(&w, &w.a, "a");
    struct id ids[4];
    put_many(&w, ids, 4, "f", "x");
    w.telling = TELL_NOTHING;
    struct replay_spec spec = all_of_f();
    spec.sample = 4;
    int64_t replay = create(&w, spec), since_ns = clock_mono_ns();
    sql_of(&w.lf, "UPDATE letters SET state = 'discarded' WHERE id = $1", &ids[1]);
    replays_start(w.a.replays);
    TURN_UNTIL(w.loop, w.got_count == 3);
    for (size_t i = 0; i < 2; i++) tell_and_wait(&w, w.got[i], REPLAY_OUTCOME_OK);
    until_silence(&w, replay, since_ns, "1 events came to no end for");
    expect_counts(&w, replay, 0, 3, 1, 0);
    world_close(&w);
}

static bool has_reason(struct world *w, int64_t replay) {
    json_t *o = show_replay(w, replay);
    bool has = strcmp(text_in(o, "reason"), "") != 0;
    json_decref(o);
    return has;
}

static void a_job_that_waits_for_its_turn_says_so(void **state) {
    struct world w;
    world_open(&w, *state);
    int64_t replays[REPLAY_JOBS_MAX + 1];
    for (size_t i = 0; i <= REPLAY_JOBS_MAX; i++) {
        struct id id;
        put_many(&w, &id, 1, "f", "x");
        struct replay_spec spec = {.sel = these(&id, 1), .rate = i < REPLAY_JOBS_MAX ? 0.001 : 0}; // its letter goes in a quarter of an hour
        replays[i] = create(&w, spec);
    }
    expect_reason(&w, replays[REPLAY_JOBS_MAX], "");
    replays_start(w.a.replays);
    TURN_UNTIL(w.loop, has_reason(&w, replays[REPLAY_JOBS_MAX]));
    cleanup_free char *says = mem_printf("waits for its turn: %d replays run on this node", REPLAY_JOBS_MAX);
    json_t *o = show_replay(&w, replays[REPLAY_JOBS_MAX]);
    assert_string_equal(text_in(o, "reason"), says);
    assert_string_equal(text_in(o, "state"), "running");
    json_decref(o);
    o = show_replay(&w, replays[0]);
    assert_string_equal(text_in(o, "reason"), "");
    json_decref(o);
    struct answer a = {0};
    replays_list(w.a.replays, true, 0, 100, answer_json, &a);
    await(&w.lf, &a);
    const json_t *list = array_in(a.json, "replays", REPLAY_JOBS_MAX + 1);
    assert_string_equal(text_in(json_array_get(list, 0), "reason"), says);
    assert_string_equal(text_in(json_array_get(list, 1), "reason"), "");
    answer_free(&a);
    act(&w, replays_cancel, replays[3]);
    until_state(&w, replays[REPLAY_JOBS_MAX], "done"); // its turn has come
    expect_reason(&w, replays[REPLAY_JOBS_MAX], "");
    world_close(&w);
}

static double per_second(struct world *w, int64_t replay) {
    json_t *o = show_replay(w, replay);
    double is = json_real_value(json_object_get(o, "perSecond"));
    json_decref(o);
    return is;
}

static void a_pause_does_not_slow_a_job_down(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, 100, "f", "x");
    int64_t began_ns = clock_mono_ns();
    int64_t replay = create(&w, all_of_f()); // which nobody runs, so that it is just as fast as this says:
    sql(&w.lf, "UPDATE replay_letters SET state = 'sent' WHERE seq <= 50");
    sql(&w.lf, "UPDATE replays SET created_ms = created_ms - 10000, ran_ms = ran_ms - 10000");
    act(&w, replays_pause, replay);
    int64_t paused_ns = clock_mono_ns();
    double before = per_second(&w, replay);
    assert_true(before > 0 && before <= 5);
    turn_looks(&w, 25);
    assert_true(per_second(&w, replay) == before);
    act(&w, replays_pause, replay); // it is: nothing changes
    assert_true(per_second(&w, replay) == before);
    int64_t resumed_ns = clock_mono_ns();
    act(&w, replays_resume, replay);
    double after = per_second(&w, replay), most_s = 10 + (double)(clock_mono_ns() - began_ns - (resumed_ns - paused_ns)) / 1e9;
    if (after > before || after < 50 / (most_s + 0.005)) fail_msg("%f a second after %f, in at most %f s", after, before, most_s);
    json_t *o = show_replay(&w, replay);
    assert_true(number_in(o, "etaMs") >= 10000 && number_in(o, "etaMs") <= 1000 * most_s + 1000);
    json_decref(o);
    act(&w, replays_pause, replay);
    before = per_second(&w, replay);
    turn_looks(&w, 5);
    act(&w, replays_cancel, replay);
    assert_true(per_second(&w, replay) == before);
    turn_looks(&w, 5);
    assert_true(per_second(&w, replay) == before);
    world_close(&w);
}

// --- going on ---------------------------------------------------------------------------------------------------------------

#define SAMPLE 5
#define SAMPLED 30

static void another_node_waits_for_the_sample_that_went(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, SAMPLED, "f", "x");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    struct replay_spec spec = all_of_f();
    spec.sample = SAMPLE;
    int64_t replay = create(&w, spec);
    TURN_UNTIL(w.loop, letters_that_are(&w, "replayed") == SAMPLE);
    take_over(&w);
    turn_looks(&w, 5);
    assert_int_equal(w.got_count, SAMPLE);
    for (size_t i = 0; i < SAMPLE - 1; i++) tell_and_wait(&w, w.got[i], REPLAY_OUTCOME_OK);
    turn_looks(&w, 5);
    assert_int_equal(w.got_count, SAMPLE);
    w.telling = TELL_OK;
    tell_and_wait(&w, w.got[SAMPLE - 1], REPLAY_OUTCOME_OK);
    until_state(&w, replay, "done");
    TURN_UNTIL(w.loop, w.got_count == SAMPLED);
    world_close(&w);
}

// Of a job that is paused: as if so many more, or fewer, of it had gone before the pause.
static void sql_sample(struct world *w, int sample) {
    cleanup_free char *text = mem_printf("UPDATE replays SET sample = %d", sample);
    sql(&w->lf, text);
}

static void the_rest_of_a_sample_goes_when_its_job_is_taken_up(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, SAMPLED, "f", "x");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    struct replay_spec spec = all_of_f();
    spec.sample = SAMPLE - 2; // of which nothing is heard, so that just these go
    int64_t replay = create(&w, spec);
    TURN_UNTIL(w.loop, letters_that_are(&w, "replayed") == SAMPLE - 2);
    act(&w, replays_pause, replay);
    TURN_UNTIL(w.loop, sql_number(&w.lf, "SELECT lease_ms FROM replays") == 0);
    sql_sample(&w, SAMPLE);
    act(&w, replays_resume, replay);
    TURN_UNTIL(w.loop, letters_that_are(&w, "replayed") == SAMPLE);
    turn_looks(&w, 5);
    assert_int_equal(w.got_count, SAMPLE);
    tell_and_wait(&w, w.got[0], REPLAY_OUTCOME_DEAD);
    until_state(&w, replay, "aborted"); // it is judged as a whole
    assert_int_equal(letters_that_are(&w, "dead"), SAMPLED - SAMPLE);
    world_close(&w);
}

static void a_sample_that_was_through_is_not_waited_for_again(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, SAMPLED, "f", "x");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    struct replay_spec spec = all_of_f();
    spec.sample = SAMPLE;
    int64_t replay = create(&w, spec);
    TURN_UNTIL(w.loop, letters_that_are(&w, "replayed") == SAMPLE);
    act(&w, replays_pause, replay);
    TURN_UNTIL(w.loop, sql_number(&w.lf, "SELECT lease_ms FROM replays") == 0);
    sql_sample(&w, 2);
    act(&w, replays_resume, replay);
    until_state(&w, replay, "done"); // though nobody tells what became of the others
    TURN_UNTIL(w.loop, w.got_count == SAMPLED);
    world_close(&w);
}

// The letters of a sample that another replay took count as neither sent nor heard of.
static void a_sample_is_heard_of_though_others_took_letters(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id ids[SAMPLED];
    put_many(&w, ids, SAMPLED, "f", "x");
    w.telling = TELL_NOTHING;
    int64_t replay = create(&w, (struct replay_spec){.sel = these(ids, SAMPLED), .sample = SAMPLE});
    for (size_t i = 0; i < SAMPLE; i++) sql_of(&w.lf, "UPDATE letters SET state = 'discarded' WHERE id = $1", &ids[i]);
    replays_start(w.a.replays);
    TURN_UNTIL(w.loop, w.got_count == SAMPLE);
    turn_looks(&w, 10);
    assert_int_equal(w.got_count, SAMPLE);
    w.telling = TELL_OK;
    for (size_t i = 0; i < SAMPLE; i++) tell_and_wait(&w, w.got[i], REPLAY_OUTCOME_OK);
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, SAMPLED - SAMPLE, SAMPLE, 0);
    world_close(&w);
}

// The lease of one ran out while the queue took its time, and it became another's: the job does not wait for its end.
static void a_sample_is_heard_of_though_a_letter_of_it_was_lost(void **state) {
    struct world w;
    world_open(&w, *state);
    struct id ids[SAMPLED];
    put_many(&w, ids, SAMPLED, "f", "x");
    w.a.gate.mode = GATE_KEEP;
    w.telling = TELL_OK;
    replays_start(w.a.replays);
    int64_t replay = create(&w, (struct replay_spec){.sel = these(ids, SAMPLED), .sample = SAMPLE});
    TURN_UNTIL(w.loop, w.a.gate.kept_count == SAMPLE);
    sql_of(&w.lf, "UPDATE letters SET state = 'discarded', lease_ms = 0 WHERE id = $1", &ids[2]);
    gate_open(&w.a.gate);
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, SAMPLED - 1, 1, 0);
    world_close(&w);
}

// As the database is when it committed a claim and went away before it could say so: the run claims once more.
static void a_claim_whose_answer_was_lost_is_made_again(void **state) {
    struct world w;
    world_open(&w, *state);
    static struct id ids[SAMPLED];
    put_many(&w, ids, SAMPLED, "f", "x");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    struct replay_spec spec = all_of_f();
    spec.sample = 1; // the run claims no more until it hears of that
    int64_t replay = create(&w, spec);
    TURN_UNTIL(w.loop, letters_that_are(&w, "replayed") == 1);
    sql(&w.lf, "UPDATE letters SET state = 'replaying', lease_ms = 4102444800000, replay = (SELECT max(id) FROM replays) WHERE state = 'dead'");
    w.telling = TELL_OK;
    tell_and_wait(&w, w.got[0], REPLAY_OUTCOME_OK);
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, SAMPLED, 0, 0);
    TURN_UNTIL(w.loop, w.got_count == SAMPLED);
    for (size_t i = 0; i < SAMPLED; i++) assert_int_equal(times(&w, &ids[i]), 1);
    assert_int_equal(letters_that_are(&w, "replayed"), SAMPLED);
    world_close(&w);
}

// A node that was stopped for long claims before it looks: its letters are another's by now, or it was paused.
static void a_node_claims_nothing_of_a_job_that_is_not_its_any_more(void **state) {
    enum { SENT = REPLAY_BATCHES * REPLAY_BATCH, LEFT = 50 };
    static const char *const changes[] = {"owner = 'b', lease_ms = 4102444800000", "state = 'paused'"};
    for (size_t i = 0; i < array_len(changes); i++) {
        struct world w;
        world_open(&w, *state);
        put_many(&w, NULL, SENT + LEFT, "f", "x");
        node_close(&w, &w.a);
        world_look_ms = 600000; // but for the first one
        node_open(&w, &w.a, "a");
        w.a.gate.mode = GATE_KEEP;
        int64_t replay = create(&w, all_of_f());
        replays_start(w.a.replays);
        TURN_UNTIL(w.loop, w.a.gate.kept_count == SENT);
        cleanup_free char *change = mem_printf("UPDATE replays SET %s", changes[i]);
        sql(&w.lf, change);
        if (i == 0)
            sql(&w.lf, "UPDATE letters SET state = 'replaying', lease_ms = 4102444800000, replay = (SELECT max(id) FROM replays) WHERE state = 'dead'");
        gate_open(&w.a.gate);
        TURN_UNTIL(w.loop, letters_that_are(&w, "replayed") >= SENT);
        turn_looks(&w, 5);
        assert_int_equal(w.got_count, SENT);
        assert_int_equal(letters_that_are(&w, i == 0 ? "replaying" : "dead"), LEFT);
        expect_counts(&w, replay, LEFT, SENT, 0, 0);
        world_close(&w);
        sql(&w.lf, "DELETE FROM letters");
    }
}

// The queue confirms nothing for longer than a claim's lease; the job is held all the while.
static void what_is_being_sent_stays_so_while_its_job_is_held(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, 3, "f", "x");
    w.a.gate.mode = GATE_KEEP;
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_of_f());
    TURN_UNTIL(w.loop, w.a.gate.kept_count == 3);
    sql(&w.lf, "UPDATE letters SET lease_ms = lease_ms - 100000");
    turn_looks(&w, 30); // letters are looked for that nobody sends
    assert_int_equal(letters_that_are(&w, "replaying"), 3);
    sql(&w.lf, "UPDATE letters SET lease_ms = lease_ms + 100000");
    gate_open(&w.a.gate);
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, 3, 0, 0);
    assert_int_equal(w.got_count, 3);
    world_close(&w);
}

// --- what a cancel frees ----------------------------------------------------------------------------------------------------

// Letters of a job whose node died: it has the lease for so many ms.
static int64_t orphan(struct world *w, int64_t lease_ms) {
    put_many(w, NULL, 3, "f", "x");
    int64_t replay = create(w, all_of_f());
    cleanup_free char *job = mem_printf("UPDATE replays SET owner = 'dead', lease_ms = %lld", (long long)(clock_unix_ms() + lease_ms));
    sql(&w->lf, job);
    sql(&w->lf, "UPDATE letters SET state = 'replaying', lease_ms = 4102444800000, replay = (SELECT max(id) FROM replays) WHERE state = 'dead'");
    return replay;
}

static void what_nobody_sends_is_free_when_its_job_is_cancelled_or_paused(void **state) {
    struct world w;
    replay_act_fn *const acts[] = {replays_cancel, replays_pause};
    for (size_t i = 0; i < array_len(acts); i++) {
        world_open(&w, *state);
        int64_t replay = orphan(&w, -1);
        act(&w, acts[i], replay);
        assert_int_equal(letters_that_are(&w, "dead"), 3);
        expect_counts(&w, replay, 3, 0, 0, 0);
        world_close(&w);
        sql(&w.lf, "DELETE FROM letters");
    }
}

static void what_a_dead_node_sent_is_free_when_its_lease_is_over(void **state) {
    struct world w;
    world_open(&w, *state);
    enum { LEASE_MS = 500 };
    act(&w, replays_cancel, orphan(&w, 600000));
    assert_int_equal(letters_that_are(&w, "replaying"), 3); // it may live, and be sending them
    int64_t until_ms = clock_unix_ms() + LEASE_MS;
    cleanup_free char *lease = mem_printf("UPDATE replays SET lease_ms = %lld", (long long)until_ms);
    sql(&w.lf, lease);
    replays_start(w.a.replays);
    TURN_UNTIL(w.loop, letters_that_are(&w, "replaying") == 0);
    // Alone on its database, a server knows at once that no other lives.
    if (w.lf.fx->postgres) assert_true(clock_unix_ms() >= until_ms);
    assert_int_equal(letters_that_are(&w, "dead"), 3);
    world_close(&w);
}

static void a_node_that_still_sends_letters_of_a_cancelled_job_keeps_them(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, 3, "f", "x");
    w.a.gate.mode = GATE_KEEP;
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_of_f());
    TURN_UNTIL(w.loop, w.a.gate.kept_count == 3);
    act(&w, replays_cancel, replay);
    sql(&w.lf, "UPDATE replays SET lease_ms = lease_ms - 14000"); // it takes long
    TURN_UNTIL(w.loop, sql_number(&w.lf, "SELECT lease_ms FROM replays") > clock_unix_ms() + 5000);
    turn_looks(&w, 20); // letters are looked for that nobody sends
    assert_int_equal(letters_that_are(&w, "replaying"), 3);
    gate_open(&w.a.gate);
    TURN_UNTIL(w.loop, letters_that_are(&w, "replayed") == 3);
    TURN_UNTIL(w.loop, sql_number(&w.lf, "SELECT lease_ms FROM replays") == 0);
    expect_counts(&w, replay, 0, 3, 0, 0);
    world_close(&w);
}

static void a_node_that_stops_keeps_its_job_until_the_queue_has_confirmed(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, 3, "f", "x");
    w.a.gate.mode = GATE_KEEP;
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_of_f());
    TURN_UNTIL(w.loop, w.a.gate.kept_count == 3);
    assert_false(replays_stop(w.a.replays));
    sql(&w.lf, "UPDATE replays SET lease_ms = lease_ms - 14000"); // it takes long
    TURN_UNTIL(w.loop, sql_number(&w.lf, "SELECT lease_ms FROM replays") > clock_unix_ms() + 5000);
    gate_open(&w.a.gate);
    TURN_UNTIL(w.loop, replays_stop(w.a.replays));
    expect_counts(&w, replay, 0, 3, 0, 0);
    assert_int_equal(sql_number(&w.lf, "SELECT lease_ms FROM replays"), 0);
    world_close(&w);
}

// --- the end of a server ------------------------------------------------------------------------------------------------------

static void on_count(void *arg, int code, const struct err *err) {
    (void)err;
    assert_int_equal(code, 0);
    ++*(size_t *)arg;
}

// At any moment of a job in order: its order and the held keys are being read, letters are claimed, sent, marked; and somebody has just told of
// an end, and another looks.
static void a_server_ends_whatever_is_under_way(void **state) {
    struct world w;
    world_open(&w, *state);
    for (int i = 0; i < 40; i++) put_of_key(&w, i % 4 ? "k" : "other");
    w.telling = TELL_NOTHING;
    struct replay_spec spec = all_of_f();
    spec.in_order = true;
    int64_t replay = create(&w, spec);
    size_t told = 0, tells = 0;
    for (int moment = 0; moment < 40; moment++) {
        struct answer shown = {0};
        replays_start(w.a.replays);
        for (int turn = 0; turn < moment; turn++) loop_turn(w.loop, 5);
        if (moment % 2) w.a.gate.mode = GATE_KEEP;
        replays_show(w.a.replays, replay, answer_json, &shown);
        if (w.got_count) {
            replays_outcome(w.a.replays, w.got[w.got_count - 1], moment % 3 ? REPLAY_OUTCOME_OK : REPLAY_OUTCOME_FAILING, on_count, &told);
            tells++;
        }
        assert_false(replays_stop(w.a.replays));
        node_close(&w, &w.a);
        assert_int_equal(told, tells);
        assert_true(shown.done);
        answer_free(&shown);
        assert_int_equal(letters_that_are(&w, "replaying"), 0);
        node_open(&w, &w.a, "a");
    }
    assert_true(tells > 0);
    w.telling = TELL_OK;
    for (size_t i = 0; i < w.got_count; i++) tell_and_wait(&w, w.got[i], REPLAY_OUTCOME_OK);
    replays_start(w.a.replays);
    until_state(&w, replay, "done");
    expect_counts(&w, replay, 0, 40, 0, 0);
    world_close(&w);
}

// Nothing else is under way.
static void an_end_that_was_just_told_is_written_before_a_server_ends(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, 1, "f", "x");
    w.telling = TELL_NOTHING;
    replays_start(w.a.replays);
    int64_t replay = create(&w, all_of_f());
    until_state(&w, replay, "done");
    TURN_UNTIL(w.loop, w.got_count == 1);
    TURN_UNTIL(w.loop, replays_stop(w.a.replays));
    tell(&w, w.got[0], REPLAY_OUTCOME_OK);
    assert_false(replays_stop(w.a.replays));
    node_close(&w, &w.a);
    assert_int_equal(w.told, 1);
    assert_int_equal(sql_number(&w.lf, "SELECT count(*) FROM replay_letters WHERE outcome = 'ok'"), 1);
    world_close(&w);
}

#define CASE(fn) {#fn, fn, STORE_BOTH}

int main(void) {
    const struct store_case cases[] = {
        CASE(a_job_that_hears_of_no_end_is_paused_and_says_why),
        CASE(a_sample_of_which_nothing_is_heard_pauses_its_job),
        CASE(a_sample_of_more_than_there_is_pauses_its_job_too),
        CASE(a_job_that_waits_for_its_turn_says_so),
        CASE(a_pause_does_not_slow_a_job_down),
        CASE(another_node_waits_for_the_sample_that_went),
        CASE(the_rest_of_a_sample_goes_when_its_job_is_taken_up),
        CASE(a_sample_that_was_through_is_not_waited_for_again),
        CASE(a_sample_is_heard_of_though_others_took_letters),
        CASE(a_sample_is_heard_of_though_a_letter_of_it_was_lost),
        CASE(a_claim_whose_answer_was_lost_is_made_again),
        CASE(a_node_claims_nothing_of_a_job_that_is_not_its_any_more),
        CASE(what_is_being_sent_stays_so_while_its_job_is_held),
        CASE(what_nobody_sends_is_free_when_its_job_is_cancelled_or_paused),
        CASE(what_a_dead_node_sent_is_free_when_its_lease_is_over),
        CASE(a_node_that_still_sends_letters_of_a_cancelled_job_keeps_them),
        CASE(a_node_that_stops_keeps_its_job_until_the_queue_has_confirmed),
        CASE(a_server_ends_whatever_is_under_way),
        CASE(an_end_that_was_just_told_is_written_before_a_server_ends),
    };
    return store_run_cases(cases, array_len(cases));
}
