// SPDX-License-Identifier: Apache-2.0
// workers/dispatch with the fires of timers, all parts real: a SQLite store, queues in memory, instances of Python. A fire is acknowledged
// after its end is durable, and one that was cancelled is stopped wherever it is, without a letter and without harm to others.
#include "tests/unit/workers/dispatch_world.h"

// --- what a test does ---------------------------------------------------------------------------------------------------

// The event of the next minute's fire of the timer "tick".
static struct ev *next_event(struct world *w, const char *shape, const char *message) {
    w->scheduled_ms += 60000;
    char time[CLOCK_TEXT_BYTES];
    clock_format_utc(w->scheduled_ms, time);
    cleanup_free char *at = mem_printf("{\"time\":\"%.19sZ\"}", time);
    return ev_new(&(struct ev_fields){.id = fire_id(STR_LIT("tick"), CHANGED_MS, w->scheduled_ms),
                                      .function = STR_LIT("f"),
                                      .source_kind = STR_LIT(FIRE_SOURCE),
                                      .source_name = STR_LIT("tick"),
                                      .source_at = str_of(at),
                                      .shape = str_of(shape),
                                      .payload = str_of(message)});
}

// By hand, with a row: known to `fires` until it has ended.
static struct id put_event(struct world *w, struct ev *ev) {
    const struct fire fire = {.scheduled_ms = w->scheduled_ms, .cause = FIRE_MANUAL, .ev = ev};
    struct id id = ev->f.id;
    struct answer a = {0};
    fires_put(w->fires, "tick", &fire, on_answer, &a);
    TURN_UNTIL(w->loop, a.there);
    assert_int_equal(a.code, 0);
    return id;
}

static struct id put(struct world *w, const char *message) {
    return put_event(w, next_event(w, "scf", message));
}

static void on_sent(void *arg, int code, const struct err *err) {
    (void)arg, (void)err;
    assert_int_equal(code, 0);
}

// On its queue at once, without a row.
static struct id send_event(struct world *w, struct ev *ev) {
    struct id id = ev->f.id;
    ingest_async(w->ingest, ev, on_sent, NULL);
    return id;
}

static struct id send(struct world *w, const char *message) {
    return send_event(w, next_event(w, "scf", message));
}

// Neither the run nor what it started is there any more.
static bool is_unlocked(struct world *w) {
    cleanup_free char *path = mem_printf("%s/lock", w->dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    bool free_now = flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return free_now;
}

// The outcome of the fire with this id, of those of "tick".
static bool has_ended(struct world *w, const struct id *id, const char *outcome) {
    struct answer a = {0};
    char text[ID_TEXT_BYTES];
    id_format(id, text);
    fires_history(w->fires, STR_LIT("tick"), 0, 1000, on_json, &a);
    TURN_UNTIL(w->loop, a.there);
    assert_int_equal(a.code, 0);
    bool found = false;
    size_t i;
    const json_t *fire;
    json_array_foreach(json_object_get(a.json, "fires"), i, fire) {
        const char *request = json_string_value(json_object_get(fire, "requestId"));
        if (request && strcmp(request, text) == 0) found = strcmp(json_string_value(json_object_get(fire, "outcome")), outcome) == 0;
    }
    json_decref(a.json);
    return found;
}

// The store takes no letter, or no end of a fire.
static void refuse_letters(struct world *w) {
    execute(w, "CREATE TRIGGER no_letters BEFORE INSERT ON letters BEGIN SELECT RAISE(ABORT, 'no letters today'); END");
}

static void take_letters(struct world *w) {
    execute(w, "DROP TRIGGER no_letters");
}

static void refuse_ends(struct world *w) {
    execute(w, "CREATE TRIGGER no_ends BEFORE UPDATE ON fires BEGIN SELECT RAISE(ABORT, 'no ends today'); END");
}

static void take_ends(struct world *w) {
    execute(w, "DROP TRIGGER no_ends");
}

// Fires whose end is not known. It is asked after whatever the store was asked before, so what was refused has been by now.
static int64_t open_fires(struct world *w) {
    int64_t n = 0;
    for (int i = 0; i < 2; i++) n = execute(w, "SELECT count(*) FROM fires WHERE ended_ms IS NULL");
    return n;
}

static double ok(struct world *w) {
    return metrics_get(w->metrics, METRIC_EVENTS_OK, STR_LIT("f"));
}

static double failed(struct world *w) {
    return metrics_get(w->metrics, METRIC_ATTEMPTS_FAILED, STR_LIT("f"));
}

struct found {
    const char *text;
    const struct id *event;
    bool yes;
};

static void on_line(void *arg, const struct fnlog_line *line) {
    struct found *f = arg;
    if (id_eq(&line->event, f->event) && memmem(line->text.data, line->text.len, f->text, strlen(f->text))) f->yes = true;
}

static bool log_says(struct world *w, const struct id *event, const char *text) {
    struct found f = {text, event, false};
    fnlog_read(w->log, STR_LIT("f"), 0, 10000, on_line, &f);
    return f.yes;
}

// --- the end of a fire --------------------------------------------------------------------------------------------------

static void a_fire_that_returned_has_ended(void **state) {
    struct world *w = *state;
    struct id shaped = put(w, "one"), raw = put_event(w, next_event(w, "raw", "two"));
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_true(has_ended(w, &shaped, "ok"));
    assert_true(has_ended(w, &raw, "ok"));
    assert_int_equal(open_fires(w), 0);
    assert_int_equal(runs(w, "one"), 1); // it saw the shape: the message is in its place
    assert_int_equal(runs(w, "two"), 1);
    assert_true(ok(w) == 2);
}

static void a_fire_is_acknowledged_after_its_end_is_durable(void **state) {
    struct world *w = *state;
    refuse_ends(w);
    struct id id = put(w, "one");
    TURN_UNTIL(w->loop, ok(w) == 1);
    assert_int_equal(open_fires(w), 1);
    assert_int_equal(on_queue(w), 1);
    take_ends(w);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_true(has_ended(w, &id, "ok"));
    assert_int_equal(runs(w, "one"), 1); // the handler is not run again
    assert_true(ok(w) == 1);
}

static void a_dead_fire_is_acknowledged_after_its_letter_and_its_end(void **state) {
    struct world *w = *state;
    struct id id = put(w, "gate fail");
    TURN_UNTIL(w->loop, runs(w, "gate fail") == 1);
    refuse_letters(w);
    refuse_ends(w);
    open_gate(w);
    TURN_UNTIL(w->loop, failed(w) == 1);
    assert_int_equal(open_fires(w), 1);
    assert_int_equal(on_queue(w), 1);
    take_letters(w);
    TURN_UNTIL(w->loop, letters(w, "dead") == 1);
    assert_int_equal(open_fires(w), 1);
    assert_int_equal(on_queue(w), 1);
    take_ends(w);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_true(has_ended(w, &id, "dead"));
    assert_int_equal(letters(w, "dead"), 1);
    assert_int_equal(open_fires(w), 0);
    assert_int_equal(runs(w, "gate fail"), 1);
}

// Its event is not fit to run: refused.
static void a_fire_that_cannot_run_has_ended(void **state) {
    struct world *w = *state;
    struct id id = put_event(w, next_event(w, "no shape", "one"));
    TURN_UNTIL(w->loop, letters(w, "dead") == 1);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_true(has_ended(w, &id, "dead"));
    assert_int_equal(open_fires(w), 0);
    assert_int_equal(runs(w, "one"), 0);
}

static void a_fire_that_is_tried_again_goes_on(void **state) {
    struct world *w = *state;
    deploy(w, 1);
    struct id id = put(w, "fail");
    TURN_UNTIL(w->loop, letters(w, "due") == 1);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_true(has_ended(w, &id, "retrying"));
    assert_int_equal(open_fires(w), 1);
}

static void a_fire_is_no_batch(void **state) {
    struct world *w = *state;
    struct id id = put(w, "names");
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_true(has_ended(w, &id, "ok"));
}

// It has the timer as its source and its shape, but another id.
static void a_replay_ends_no_fire(void **state) {
    struct world *w = *state;
    execute(w, "ALTER TABLE fires RENAME TO away");
    struct ev *ev = next_event(w, "scf", "one");
    ev->f.origin_id = ev->f.id;
    ev->f.id = id_new();
    send_event(w, ev);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    execute(w, "ALTER TABLE away RENAME TO fires");
    assert_int_equal(runs(w, "one"), 1);
    assert_true(ok(w) == 1);
}

static void a_drain_gives_back_a_fire_that_cannot_be_ended(void **state) {
    struct world *w = *state;
    refuse_ends(w);
    put(w, "one");
    TURN_UNTIL(w->loop, ok(w) == 1);
    drain(w);
    assert_int_equal(on_queue(w), 1);
    take_ends(w);
    assert_int_equal(open_fires(w), 1);
}

// --- cancelling -----------------------------------------------------------------------------------------------------------

static size_t all_letters(struct world *w) {
    return letters(w, "due") + letters(w, "dead");
}

// Nothing of it is charged to anybody.
static void check_harmless(struct world *w) {
    assert_int_equal(all_letters(w), 0);
    assert_true(failed(w) == 0);
    json_t *status = dispatch_status(w->dispatch);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(status, 0), "failed")), 0);
    json_decref(status);
}

static void a_running_fire_is_stopped(void **state) {
    struct world *w = *state;
    struct id id = put(w, "hang");
    TURN_UNTIL(w->loop, exists(w, "hangs"));
    assert_false(is_unlocked(w));
    dispatch_cancel(w->dispatch, &id);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    TURN_UNTIL(w->loop, is_unlocked(w)); // what it had started is gone too
    check_harmless(w);
    assert_true(ok(w) == 0);
    assert_true(log_says(w, &id, "this fire was stopped"));
    put(w, "after");
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_int_equal(runs(w, "after"), 1);
}

// The next events go to an instance together once its handler is known to be fast.
static void warm_up(struct world *w) {
    for (int i = 0; i < 300; i++) send(w, "quick");
    TURN_UNTIL(w->loop, on_queue(w) == 0);
}

static void those_behind_a_stopped_one_are_not_to_blame(void **state) {
    struct world *w = *state;
    warm_up(w);
    struct id id = send(w, "hang");
    for (int i = 0; i < 5; i++) send(w, "other");
    TURN_UNTIL(w->loop, exists(w, "hangs"));
    dispatch_cancel(w->dispatch, &id);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_int_equal(runs(w, "hang"), 1);
    assert_int_equal(runs(w, "other"), 5);
    assert_true(ok(w) == 305);
    check_harmless(w);
}

static void the_one_before_a_cancelled_one_is_not_disturbed(void **state) {
    struct world *w = *state;
    warm_up(w);
    send(w, "gate");
    struct id id = send(w, "hang");
    send(w, "other");
    TURN_UNTIL(w->loop, runs(w, "gate") == 1);
    dispatch_cancel(w->dispatch, &id);
    open_gate(w);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    TURN_UNTIL(w->loop, is_unlocked(w));
    assert_int_equal(runs(w, "gate"), 1);
    assert_int_equal(runs(w, "other"), 1);
    assert_true(ok(w) == 302);
    assert_true(log_says(w, &id, "this fire was"));
    check_harmless(w);
}

static void a_waiting_fire_is_taken_out(void **state) {
    struct world *w = *state;
    send(w, "gate");
    struct id shaped = send(w, "two"), raw = send_event(w, next_event(w, "raw", "three"));
    TURN_UNTIL(w->loop, runs(w, "gate") == 1);
    dispatch_cancel(w->dispatch, &shaped);
    dispatch_cancel(w->dispatch, &raw);
    TURN_UNTIL(w->loop, on_queue(w) == 1); // while the other still runs
    open_gate(w);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_int_equal(runs(w, "two") + runs(w, "three"), 0);
    assert_true(log_says(w, &shaped, "this fire was not run"));
    assert_true(log_says(w, &raw, "this fire was not run"));
    assert_true(ok(w) == 1);
    check_harmless(w);
}

static void a_fire_that_is_not_here_concerns_nobody(void **state) {
    struct world *w = *state;
    struct id other = id_new(), gone = put(w, "one");
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    struct id id = put(w, "gate");
    TURN_UNTIL(w->loop, runs(w, "gate") == 1);
    dispatch_cancel(w->dispatch, &other);
    dispatch_cancel(w->dispatch, &gone);
    open_gate(w);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_true(has_ended(w, &id, "ok"));
    assert_true(has_ended(w, &gone, "ok"));
}

struct decided {
    bool there, made;
};

static void on_decided(void *arg, int code, const struct err *err, const struct fire_verdict *verdicts) {
    if (code) fail_msg("%s", err->text);
    *(struct decided *)arg = (struct decided){true, verdicts[0].made};
}

// The next fire, as the schedule of "tick" decides it.
static struct id decide(struct world *w, const char *message, enum fire_overlap overlap) {
    struct ev *ev = next_event(w, "scf", message);
    struct id id = ev->f.id;
    struct fire fire = {.scheduled_ms = w->scheduled_ms, .cause = FIRE_SCHEDULED, .ev = ev};
    const struct fire_plan plan = {.trigger = "tick",
                                   .changed_ms = CHANGED_MS,
                                   .from_ms = w->scheduled_ms - 60000,
                                   .to_ms = w->scheduled_ms,
                                   .overlap = overlap,
                                   .stale_ms = INT64_C(86400000),
                                   .fires = &fire,
                                   .count = 1};
    struct decided d = {0};
    fires_decide(w->fires, &plan, 1, on_decided, &d);
    TURN_UNTIL(w->loop, d.there);
    assert_true(d.made);
    return id;
}

static void the_next_fire_stops_the_one_before(void **state) {
    struct world *w = *state;
    struct id first = decide(w, "hang", FIRE_CANCEL);
    TURN_UNTIL(w->loop, exists(w, "hangs"));
    struct id second = decide(w, "one", FIRE_CANCEL);
    TURN_UNTIL(w->loop, runs(w, "one") == 1);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_true(has_ended(w, &first, "cancelled"));
    assert_true(has_ended(w, &second, "ok"));
    check_harmless(w);
    // Its queue did not learn of the acknowledgement, and delivers it again.
    w->scheduled_ms -= 2 * 60000;
    struct ev *again = next_event(w, "scf", "hang");
    assert_true(id_eq(&again->f.id, &first));
    send_event(w, again);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_int_equal(runs(w, "hang"), 1);
    assert_true(log_says(w, &first, "this fire was not run"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_fire_that_returned_has_ended),
        TEST(a_fire_is_acknowledged_after_its_end_is_durable),
        TEST(a_dead_fire_is_acknowledged_after_its_letter_and_its_end),
        TEST(a_fire_that_cannot_run_has_ended),
        TEST(a_fire_that_is_tried_again_goes_on),
        TEST(a_fire_is_no_batch),
        TEST(a_replay_ends_no_fire),
        TEST(a_drain_gives_back_a_fire_that_cannot_be_ended),
        TEST(a_running_fire_is_stopped),
        TEST(those_behind_a_stopped_one_are_not_to_blame),
        TEST(the_one_before_a_cancelled_one_is_not_disturbed),
        TEST(a_waiting_fire_is_taken_out),
        TEST(a_fire_that_is_not_here_concerns_nobody),
        TEST(the_next_fire_stops_the_one_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
