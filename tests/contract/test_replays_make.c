// SPDX-License-Identifier: Apache-2.0
// Making replays over both stores: whatever ends while the letters are being written down, a replay runs with all of them or not at all.
#include "tests/contract/replays_world.h"

#define PORTION 5000 // of dlq/replays_make.c

static struct replay_spec all_of_f(void) {
    return (struct replay_spec){.sel = where("function = 'f'"), .who = STR_LIT("anna"), .abort_share = -1};
}

// --- between two portions ---------------------------------------------------------------------------------------------------
// A job of the reader that is submitted behind the look for the letters is done right behind it, when the first portion waits for the
// writer: what it submits there runs before the second one.

struct between {
    struct store_job behind;
    struct store *store;
    struct call call;
    call_fn *fn;
    int64_t number;
};

static int do_nothing(struct store_job *job, struct sql *sql, struct err *err) {
    (void)job, (void)sql, (void)err;
    return 0;
}

static void submit_between(struct store_job *job, int code, const struct err *err) {
    struct between *b = container_of(job, struct between, behind);
    (void)err;
    assert_int_equal(code, 0);
    submit(b->store, &b->call, b->fn, b);
}

static void create_and_between(struct world *w, struct between *b, call_fn *fn, struct answer *made) {
    const struct replay_spec spec = all_of_f();
    *b = (struct between){.behind = {.run = do_nothing, .done = submit_between}, .store = w->lf.fx->store, .fn = fn};
    replays_create(w->a.replays, &spec, answer_json, made);
    store_submit(w->lf.reader, &b->behind);
}

static int count_selecting(void *arg, struct sql *sql, struct err *err) {
    struct between *b = arg;
    return sql_exec(sql, "SELECT count(*) FROM replays WHERE state = 'selecting' AND total = 5000", NULL, 0, read_int, &b->number, NULL, err);
}

static int cancel_selecting(void *arg, struct sql *sql, struct err *err) {
    struct between *b = arg;
    return sql_exec(sql, "UPDATE replays SET state = 'cancelled', ended_ms = 1 WHERE state = 'selecting'", NULL, 0, NULL, NULL, &b->number, err);
}

static void all_letters_are_written_down_before_one_goes(void **state) {
    struct world w;
    world_open(&w, *state);
    enum { COUNT = 2 * PORTION + 1 };
    put_many(&w, NULL, COUNT, "f", "x");
    struct between b;
    struct answer made = {0};
    create_and_between(&w, &b, count_selecting, &made);
    await(&w.lf, &made);
    assert_int_equal(b.number, 1);
    assert_string_equal(text_in(made.json, "state"), "running");
    assert_int_equal(number_in(made.json, "total"), COUNT);
    assert_int_equal(number_in(made.json, "pending"), COUNT);
    answer_free(&made);
    assert_int_equal(sql_number(&w.lf, "SELECT count(*) FROM replay_letters a JOIN replay_letters b ON b.replay = a.replay AND b.seq = a.seq + 1"
                                       " WHERE a.letter_id < b.letter_id"),
                     COUNT - 1);
    world_close(&w);
}

static void a_replay_that_is_cancelled_while_it_selects_sends_nothing(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, PORTION + 1, "f", "x");
    struct between b;
    struct answer made = {0};
    replays_start(w.a.replays);
    create_and_between(&w, &b, cancel_selecting, &made);
    await_refusal(&w.lf, &made, ERR_CONFLICT, "was cancelled while it selected");
    assert_int_equal(b.number, 1);
    int64_t replay = sql_number(&w.lf, "SELECT id FROM replays");
    expect_counts(&w, replay, PORTION, 0, 0, 0);
    put_many(&w, NULL, 1, "f2", "x");
    until_state(&w, create(&w, (struct replay_spec){.sel = where("function = 'f2'")}), "done"); // the node has looked for jobs
    assert_true(replay_is(&w, replay, "cancelled"));
    assert_int_equal(sql_number(&w.lf, "SELECT count(*) FROM letters WHERE state = 'dead'"), PORTION + 1);
    world_close(&w);
}

// --- its node ended ---------------------------------------------------------------------------------------------------------

static void nobody_runs_pauses_or_resumes_a_replay_that_selects(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, 3, "f", "x");
    int64_t replay = create(&w, all_of_f());
    sql(&w.lf, "UPDATE replays SET state = 'selecting', lease_ms = 4102444800000");
    replays_start(w.a.replays);
    put_many(&w, NULL, 1, "f2", "x");
    until_state(&w, create(&w, (struct replay_spec){.sel = where("function = 'f2'")}), "done");
    assert_true(replay_is(&w, replay, "selecting"));
    replay_act_fn *const acts[] = {replays_pause, replays_resume};
    for (size_t i = 0; i < array_len(acts); i++) {
        struct answer a = {0};
        acts[i](w.a.replays, replay, answer_json, &a);
        await_refusal(&w.lf, &a, ERR_CONFLICT, "still selects its letters");
    }
    act(&w, replays_cancel, replay);
    assert_true(replay_is(&w, replay, "cancelled"));
    assert_int_equal(sql_number(&w.lf, "SELECT count(*) FROM letters WHERE state = 'dead'"), 3);
    world_close(&w);
}

static void a_replay_whose_node_ended_while_it_selected_is_cancelled(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, 3, "f", "x");
    struct replay_spec spec = all_of_f();
    spec.cause = STR_LIT("deploy:f:4");
    int64_t replay = create(&w, spec);
    sql(&w.lf, "UPDATE replays SET state = 'selecting', owner = 'dead', lease_ms = 0");
    replays_start(w.a.replays);
    until_state(&w, replay, "cancelled");
    json_t *o = show_replay(&w, replay);
    assert_string_equal(text_in(o, "reason"), "the server stopped while it selected; nothing was sent");
    assert_true(number_in(o, "endedMs") > 0);
    json_decref(o);
    assert_int_equal(w.got_count, 0);
    assert_int_equal(sql_number(&w.lf, "SELECT count(*) FROM letters WHERE state = 'dead'"), 3);
    spec = all_of_f();
    spec.cause = STR_LIT("deploy:f:4");
    until_state(&w, create(&w, spec), "done"); // what it was made for is still to be done
    world_close(&w);
}

// Alone on its database, a server need not wait for the lease of the one before.
static void a_server_that_starts_again_cancels_what_it_was_selecting_at_once(void **state) {
    struct world w;
    world_open(&w, *state);
    put_many(&w, NULL, 3, "f", "x");
    int64_t replay = create(&w, all_of_f());
    sql(&w.lf, "UPDATE replays SET state = 'selecting', owner = 'before', lease_ms = 4102444800000");
    replays_start(w.a.replays);
    until_state(&w, replay, "cancelled");
    world_close(&w);
}

#define CASE(fn) {#fn, fn, STORE_BOTH}

int main(void) {
    const struct store_case cases[] = {
        CASE(all_letters_are_written_down_before_one_goes),
        CASE(a_replay_that_is_cancelled_while_it_selects_sends_nothing),
        CASE(nobody_runs_pauses_or_resumes_a_replay_that_selects),
        CASE(a_replay_whose_node_ended_while_it_selected_is_cancelled),
        {"a_server_that_starts_again_cancels_what_it_was_selecting_at_once", a_server_that_starts_again_cancels_what_it_was_selecting_at_once, STORE_SQLITE},
    };
    return store_run_cases(cases, array_len(cases));
}
