// SPDX-License-Identifier: Apache-2.0
// core/ingest between two memory queues and a stand-in for the registry: every answer comes later and once.
#include "core/ingest.h"

#include "tests/support/registry_look.h"
#include "tests/support/support.h"

// --- a registry of one function "f" with version 1, which every version stands for ----------------------------------------------------------

static struct version version_1 = {.refs = 1, .function = (char[]){"f"}, .number = 1, .settings = {.timeout_ms = 30000}};

static bool version_2_is_there; // as far as this node knows

int registry_resolve(struct registry *r, struct str name, struct str qualifier, struct version **ret, struct err *err) {
    (void)r;
    if (!str_is(name, "f")) return err_set(err, ERR_NOT_FOUND, "there is no function %.*s", STR_ARG(name));
    bool known = qualifier.len == 0 || str_is(qualifier, "1") || (str_is(qualifier, "2") && version_2_is_there);
    if (!known) return err_set(err, ERR_NOT_FOUND, "no version");
    *ret = &version_1;
    return 0;
}

struct version *version_ref(struct version *v) {
    v->refs++;
    return v;
}

void version_unref(struct version *v) {
    v->refs--;
}

// --- the world --------------------------------------------------------------------------------------------------------

struct world {
    struct loop *loop;
    struct queue *queue, *lane;
    struct metrics *metrics;
    struct registry registry;
    struct ingest *in;
    struct queue_consumer *consumer;
    struct queue_msg got[8]; // of the consumer
    size_t got_count;
    int closed;
};

static void on_closed(void *arg) {
    ++*(int *)arg;
}

static struct queue *open_queue(struct world *w, uint64_t max_messages) {
    const struct queue_config config = {.loop = w->loop, .url = "memory:", .max_messages = max_messages};
    struct queue *q;
    assert_int_equal(queue_open(&config, &q, NULL), 0);
    return q;
}

static int setup(void **state) {
    struct world *w = mem_zalloc(sizeof *w);
    w->loop = loop_new();
    w->queue = open_queue(w, 2);
    w->lane = open_queue(w, 2);
    w->metrics = metrics_new();
    version_2_is_there = false;
    registry_look_init(&w->registry, w->loop);
    const struct ingest_config config = {.loop = w->loop, .registry = &w->registry, .queue = w->queue, .sync_lane = w->lane, .metrics = w->metrics};
    w->in = ingest_new(&config);
    version_1.settings.timeout_ms = 30000;
    *state = w;
    return 0;
}

static int teardown(void **state) {
    struct world *w = *state;
    for (size_t i = 0; i < w->got_count; i++) ev_free(w->got[i].ev);
    if (w->consumer) queue_consumer_close(w->consumer);
    queue_close(w->queue, on_closed, &w->closed);
    queue_close(w->lane, on_closed, &w->closed);
    TURN_UNTIL(w->loop, w->closed == 2);
    assert_int_equal(version_1.refs, 1);
    ingest_free(w->in);
    registry_look_done(&w->registry);
    metrics_free(w->metrics);
    loop_free(w->loop);
    free(w);
    return 0;
}

static void on_messages(void *arg, struct queue_msg *msgs, size_t count) {
    struct world *w = arg;
    for (size_t i = 0; i < count; i++) w->got[w->got_count++] = msgs[i];
}

static void consume(struct world *w, struct queue *q) {
    const struct queue_consumer_config config = {
        .function = STR_LIT("f"), .credit = 8, .credit_bytes = 64 << 20, .on_messages = on_messages, .arg = w};
    w->consumer = queue_consume(q, &config);
}

static struct ev *event(const char *function, const char *qualifier) {
    const struct ev_fields f = {.function = str_of(function), .qualifier = str_of(qualifier), .payload = STR_LIT("p")};
    return ev_new(&f);
}

struct answer {
    int calls, code;
    struct err err;
    char result[32];
    struct sync_call **cancel; // from inside the callback
};

static void on_accepted(void *arg, int code, const struct err *err) {
    struct answer *a = arg;
    a->calls++;
    a->code = code;
    if (code) a->err = *err;
}

static void on_result(void *arg, int code, const struct err *err, const struct outcome_report *report) {
    struct answer *a = arg;
    on_accepted(a, code, err);
    if (report) snprintf(a->result, sizeof a->result, "%.*s", STR_ARG(report->result));
    if (a->cancel) ingest_sync_cancel(*a->cancel);
}

static double refused(struct world *w, const char *reason) {
    return metrics_get(w->metrics, METRIC_EVENTS_REFUSED, str_of(reason));
}

// --- async ------------------------------------------------------------------------------------------------------------

static void an_event_is_accepted_when_the_queue_has_it(void **state) {
    struct world *w = *state;
    struct answer a = {0};
    struct ev *ev = event("f", "1");
    struct id id = ev->f.id;
    ingest_async(w->in, ev, on_accepted, &a);
    assert_int_equal(a.calls, 0);
    assert_int_equal(ingest_waiting(w->in), 1);
    TURN_UNTIL(w->loop, a.calls);
    assert_int_equal(a.code, 0);
    assert_int_equal(ingest_waiting(w->in), 0);
    consume(w, w->queue);
    TURN_UNTIL(w->loop, w->got_count);
    assert_true(id_eq(&w->got[0].ev->f.id, &id));
    assert_int_equal(w->got[0].ev->f.invocation, EV_ASYNC);
    assert_true(str_is(w->got[0].ev->f.qualifier, "1"));
    loop_turn(w->loop, 0);
    assert_int_equal(a.calls, 1);
    assert_float_equal(metrics_get(w->metrics, METRIC_EVENTS_ACCEPTED, STR_LIT("f")), 1, 0);
}

static void refusals_come_later_and_once(void **state) {
    struct world *w = *state;
    struct answer a[4] = {0};
    struct ev_header *headers = mem_array(EV_HEADERS_MAX + 1, sizeof *headers);
    char *payload = mem_zalloc(EV_PAYLOAD_MAX + 1);
    const struct ev_fields large = {.function = STR_LIT("f"), .payload = {payload, EV_PAYLOAD_MAX + 1}};
    const struct ev_fields many = {.function = STR_LIT("f"), .headers = headers, .header_count = EV_HEADERS_MAX + 1};
    ingest_async(w->in, event("nobody", ""), on_accepted, &a[0]);
    ingest_async(w->in, event("f", "9"), on_accepted, &a[1]);
    ingest_async(w->in, ev_new(&large), on_accepted, &a[2]);
    ingest_async(w->in, ev_new(&many), on_accepted, &a[3]);
    free(payload);
    free(headers);
    for (size_t i = 0; i < array_len(a); i++) assert_int_equal(a[i].calls, 0);
    loop_turn(w->loop, 0);
    loop_turn(w->loop, 0);
    for (size_t i = 0; i < array_len(a); i++) assert_int_equal(a[i].calls, 1);
    assert_int_equal(a[0].code, ERR_NOT_FOUND);
    assert_non_null(strstr(a[0].err.text, "nobody"));
    assert_int_equal(a[1].code, ERR_NOT_FOUND);
    assert_int_equal(a[2].code, ERR_TOO_LARGE);
    assert_int_equal(a[3].code, ERR_TOO_LARGE);
    assert_float_equal(refused(w, "NotFound"), 2, 0);
    assert_float_equal(refused(w, "TooLarge"), 2, 0);
    assert_float_equal(metrics_get(w->metrics, METRIC_EVENTS_ACCEPTED, STR_LIT("f")), 0, 0);
}

static void the_largest_event_is_taken(void **state) {
    struct world *w = *state;
    struct answer a = {0};
    char *payload = mem_zalloc(EV_PAYLOAD_MAX);
    const struct ev_fields large = {.function = STR_LIT("f"), .payload = {payload, EV_PAYLOAD_MAX}};
    ingest_async(w->in, ev_new(&large), on_accepted, &a);
    free(payload);
    TURN_UNTIL(w->loop, a.calls);
    assert_int_equal(a.code, 0);
}

static void a_full_queue_is_told(void **state) {
    struct world *w = *state;
    struct answer a[3] = {0};
    for (size_t i = 0; i < 3; i++) ingest_async(w->in, event("f", ""), on_accepted, &a[i]);
    TURN_UNTIL(w->loop, a[2].calls);
    assert_int_equal(a[0].code, 0);
    assert_int_equal(a[1].code, 0);
    assert_int_equal(a[2].code, ERR_BUSY);
    assert_float_equal(refused(w, "TooManyRequests"), 1, 0);
}

// --- versions that are not known here -----------------------------------------------------------------------------------

static void a_version_that_another_node_just_made_is_looked_for(void **state) {
    struct world *w = *state;
    struct answer async = {0}, sync = {0};
    w->registry.held = true;
    consume(w, w->lane);
    struct ev *ev = event("f", "2");
    struct id id = ev->f.id;
    ingest_async(w->in, event("f", "2"), on_accepted, &async);
    ingest_sync(w->in, ev, on_result, &sync);
    assert_true(ingest_is_awaited(w->in, &id));
    assert_int_equal(ingest_waiting(w->in), 3); // a call waits twice: for its lane too
    loop_turn(w->loop, 0);
    assert_int_equal(async.calls + sync.calls, 0);
    version_2_is_there = true;
    registry_look_end(&w->registry); // the call came after this look began
    registry_look_end(&w->registry);
    TURN_UNTIL(w->loop, async.calls && w->got_count);
    assert_int_equal(async.code, 0);
    assert_true(id_eq(&w->got[0].ev->f.id, &id));
    const struct outcome_report report = {.outcome = OUTCOME_OK};
    assert_true(ingest_reply(w->in, &id, 0, NULL, &report));
    assert_int_equal(w->registry.looks, 2);
    assert_int_equal(ingest_waiting(w->in), 0);
    assert_float_equal(refused(w, "NotFound"), 0, 0);
}

static void those_that_came_before_a_look_share_it(void **state) {
    struct world *w = *state;
    struct answer a[10] = {0};
    w->registry.held = true;
    for (size_t i = 0; i < array_len(a); i++) ingest_async(w->in, event(i % 2 ? "nobody" : "f", "9"), on_accepted, &a[i]);
    registry_look_end(&w->registry);
    assert_int_equal(a[0].code, ERR_NOT_FOUND);
    assert_int_equal(a[1].calls, 0);
    registry_look_end(&w->registry);
    for (size_t i = 0; i < array_len(a); i++) {
        assert_int_equal(a[i].calls, 1);
        assert_int_equal(a[i].code, ERR_NOT_FOUND);
    }
    assert_int_equal(w->registry.looks, 2);
}

// Nobody knows whether there is such a version: who sends letters tries again.
static void without_the_store_they_are_told_so(void **state) {
    struct world *w = *state;
    struct answer async = {0}, sync = {0};
    w->registry.code = ERR_UNAVAILABLE;
    ingest_async(w->in, event("f", "2"), on_accepted, &async);
    ingest_sync(w->in, event("f", "2"), on_result, &sync);
    TURN_UNTIL(w->loop, async.calls && sync.calls);
    assert_int_equal(async.code, ERR_UNAVAILABLE);
    assert_int_equal(sync.code, ERR_UNAVAILABLE);
    assert_int_equal(ingest_waiting(w->in), 0);
}

static void a_caller_that_waits_for_a_look_may_go_away(void **state) {
    struct world *w = *state;
    struct answer cancelled = {0}, late = {0};
    w->registry.held = true;
    ingest_sync_cancel(ingest_sync(w->in, event("f", "2"), on_result, &cancelled));
    const struct ev_fields f = {.function = STR_LIT("f"), .qualifier = STR_LIT("2"), .deadline_ms = clock_unix_ms() + 1};
    ingest_sync(w->in, ev_new(&f), on_result, &late);
    TURN_UNTIL(w->loop, late.calls);
    assert_int_equal(late.code, ERR_TIMEOUT);
    version_2_is_there = true;
    registry_look_end(&w->registry);
    registry_look_end(&w->registry);
    assert_int_equal(ingest_waiting(w->in), 0);
    assert_int_equal(cancelled.calls, 0);
    assert_int_equal(late.calls, 1);
}

static void what_waits_for_a_look_is_bounded(void **state) {
    struct world *w = *state;
    enum { MANY = 64 };
    struct answer a[MANY] = {0};
    char *payload = mem_zalloc(EV_PAYLOAD_MAX);
    const struct ev_fields large = {.function = STR_LIT("nobody"), .payload = {payload, EV_PAYLOAD_MAX}};
    size_t busy = 0;
    w->registry.held = true;
    for (size_t i = 0; i < MANY; i++) ingest_async(w->in, ev_new(&large), on_accepted, &a[i]);
    free(payload);
    loop_turn(w->loop, 0);
    for (size_t i = 0; i < MANY; i++) busy += a[i].code == ERR_BUSY;
    assert_in_range(busy, 1, MANY - 2);
    registry_look_end(&w->registry);
    registry_look_end(&w->registry);
    for (size_t i = 0; i < MANY; i++) assert_int_equal(a[i].calls, 1);
}

static void stopping_and_freeing_answer_those_too(void **state) {
    struct world *w = *state;
    struct answer a[4] = {0};
    w->registry.held = true;
    ingest_async(w->in, event("f", "2"), on_accepted, &a[0]); // a look for this one is under way
    ingest_async(w->in, event("f", "2"), on_accepted, &a[1]);
    ingest_sync(w->in, event("f", "2"), on_result, &a[2]);
    ingest_stop(w->in);
    for (size_t i = 0; i < 3; i++) assert_int_equal(a[i].code, ERR_UNAVAILABLE);
    assert_int_equal(ingest_waiting(w->in), 0);
    registry_look_end(&w->registry);
    for (size_t i = 0; i < 3; i++) assert_int_equal(a[i].calls, 1);

    ingest_free(w->in);
    w->in = ingest_new(&(struct ingest_config){
        .loop = w->loop, .registry = &w->registry, .queue = w->queue, .sync_lane = w->lane, .metrics = w->metrics});
    ingest_async(w->in, event("f", "2"), on_accepted, &a[3]);
    ingest_free(TAKE_PTR(w->in));
    assert_int_equal(a[3].code, ERR_UNAVAILABLE);
}

// --- sync -------------------------------------------------------------------------------------------------------------

static void a_call_gets_its_result_once(void **state) {
    struct world *w = *state;
    struct answer a = {0};
    consume(w, w->lane);
    struct ev *ev = event("f", "");
    struct id id = ev->f.id, other = id_new();
    ingest_sync(w->in, ev, on_result, &a);
    assert_true(ingest_is_awaited(w->in, &id));
    assert_false(ingest_is_awaited(w->in, &other));
    TURN_UNTIL(w->loop, w->got_count);
    assert_int_equal(w->got[0].ev->f.invocation, EV_SYNC);
    const struct outcome_report report = {.outcome = OUTCOME_OK, .result = STR_LIT("\"done\"")};
    assert_false(ingest_reply(w->in, &other, 0, NULL, &report));
    assert_int_equal(a.calls, 0);
    assert_true(ingest_reply(w->in, &id, 0, NULL, &report));
    assert_int_equal(a.calls, 1);
    assert_string_equal(a.result, "\"done\"");
    assert_false(ingest_is_awaited(w->in, &id));
    assert_false(ingest_reply(w->in, &id, 0, NULL, &report));
    assert_int_equal(a.calls, 1);
    assert_int_equal(ingest_waiting(w->in), 0);
}

static void a_cancelled_call_is_not_answered(void **state) {
    struct world *w = *state;
    struct answer a = {0}, b = {0}, refusal = {0};
    struct ev *ev = event("f", "");
    struct id id = ev->f.id;
    struct sync_call *call = ingest_sync(w->in, ev, on_result, &a);
    TURN_UNTIL(w->loop, ingest_waiting(w->in) == 1); // the lane has it
    ingest_sync_cancel(call);
    assert_false(ingest_is_awaited(w->in, &id));
    const struct outcome_report report = {.outcome = OUTCOME_OK};
    assert_false(ingest_reply(w->in, &id, 0, NULL, &report));
    ingest_sync_cancel(ingest_sync(w->in, event("f", ""), on_result, &b)); // before the lane has answered
    ingest_sync_cancel(ingest_sync(w->in, event("nobody", ""), on_result, &refusal));
    loop_turn(w->loop, 0);
    TURN_UNTIL(w->loop, ingest_waiting(w->in) == 0);
    assert_int_equal(a.calls + b.calls + refusal.calls, 0);
}

static void a_refused_call_is_told_later_and_once(void **state) {
    struct world *w = *state;
    struct answer a = {0};
    ingest_sync(w->in, event("nobody", ""), on_result, &a);
    assert_int_equal(a.calls, 0);
    loop_turn(w->loop, 0);
    loop_turn(w->loop, 0);
    assert_int_equal(a.calls, 1);
    assert_int_equal(a.code, ERR_NOT_FOUND);
    assert_int_equal(ingest_waiting(w->in), 0);
}

static void a_full_lane_is_busy(void **state) {
    struct world *w = *state;
    struct answer a[3] = {0};
    for (size_t i = 0; i < 3; i++) ingest_sync(w->in, event("f", ""), on_result, &a[i]);
    TURN_UNTIL(w->loop, a[2].calls);
    assert_int_equal(a[2].code, ERR_BUSY);
    assert_int_equal(a[0].calls + a[1].calls, 0); // these wait
    assert_int_equal(ingest_waiting(w->in), 2);
    loop_turn(w->loop, 0);
    assert_int_equal(a[2].calls, 1);
}

static struct ev *event_until(int64_t deadline_ms) {
    const struct ev_fields f = {.function = STR_LIT("f"), .deadline_ms = deadline_ms};
    return ev_new(&f);
}

static void a_caller_waits_as_long_as_it_said(void **state) {
    struct world *w = *state;
    struct answer soon = {0}, late = {0};
    ingest_sync(w->in, event_until(clock_unix_ms() + 1), on_result, &soon);
    ingest_sync(w->in, event_until(clock_unix_ms() + 3600000), on_result, &late);
    TURN_UNTIL(w->loop, soon.calls);
    assert_int_equal(soon.code, ERR_TIMEOUT);
    assert_int_equal(late.calls, 0);
    assert_int_equal(ingest_waiting(w->in), 1);
}

static void a_call_that_comes_after_others_ended_is_swept_too(void **state) {
    struct world *w = *state;
    struct answer first = {0}, second = {0};
    ingest_sync(w->in, event_until(clock_unix_ms() + 1), on_result, &first);
    TURN_UNTIL(w->loop, first.calls);
    ingest_sync(w->in, event_until(clock_unix_ms() + 1), on_result, &second);
    TURN_UNTIL(w->loop, second.calls);
    assert_int_equal(second.code, ERR_TIMEOUT);
}

// What a caller does when it hears one answer may end another call of its own.
static void an_answer_may_cancel_another_call(void **state) {
    struct world *w = *state;
    struct sync_call *timed[2], *refusals[2];
    struct answer a[2] = {{.cancel = &timed[1]}, {.cancel = &timed[0]}}, b[2] = {{.cancel = &refusals[1]}, {0}};
    int64_t deadline_ms = clock_unix_ms() + 1;
    for (size_t i = 0; i < 2; i++) timed[i] = ingest_sync(w->in, event_until(deadline_ms), on_result, &a[i]);
    for (size_t i = 0; i < 2; i++) refusals[i] = ingest_sync(w->in, event("nobody", ""), on_result, &b[i]);
    TURN_UNTIL(w->loop, a[0].calls + a[1].calls && b[0].calls);
    loop_turn(w->loop, 0);
    assert_int_equal(a[0].calls + a[1].calls, 1); // each would have ended the other
    assert_int_equal(b[0].calls, 1);
    assert_int_equal(b[1].calls, 0);
    assert_int_equal(ingest_waiting(w->in), 0);
}

// --- the end ----------------------------------------------------------------------------------------------------------

static void a_stopped_door_refuses(void **state) {
    struct world *w = *state;
    struct answer async = {0}, sync = {0};
    ingest_stop(w->in);
    ingest_async(w->in, event("f", ""), on_accepted, &async);
    ingest_sync(w->in, event("f", ""), on_result, &sync);
    assert_int_equal(async.calls + sync.calls, 0);
    TURN_UNTIL(w->loop, async.calls && sync.calls);
    assert_int_equal(async.code, ERR_UNAVAILABLE);
    assert_int_equal(sync.code, ERR_UNAVAILABLE);
    assert_int_equal(ingest_waiting(w->in), 0);
}

// The end of a drain: who still waits hears it, once, and what runs late finds nobody.
static void stopping_answers_who_waits(void **state) {
    struct world *w = *state;
    struct sync_call *calls[2];
    struct answer a[2] = {{.cancel = &calls[1]}, {.cancel = &calls[0]}};
    struct ev *ev = event("f", "");
    struct id id = ev->f.id;
    calls[0] = ingest_sync(w->in, ev, on_result, &a[0]);
    calls[1] = ingest_sync(w->in, event("f", ""), on_result, &a[1]);
    TURN_UNTIL(w->loop, ingest_waiting(w->in) == 2);
    ingest_stop(w->in);
    assert_int_equal(a[0].calls + a[1].calls, 1); // each ends the other
    assert_int_equal(a[0].calls ? a[0].code : a[1].code, ERR_UNAVAILABLE);
    const struct outcome_report report = {.outcome = OUTCOME_OK};
    assert_false(ingest_reply(w->in, &id, 0, NULL, &report));
    assert_int_equal(ingest_waiting(w->in), 0);
}

static void freeing_tells_refusals_and_drops_calls(void **state) {
    struct world *w = *state;
    struct answer refusal = {0}, waiting = {0};
    ingest_sync(w->in, event("f", ""), on_result, &waiting);
    TURN_UNTIL(w->loop, ingest_waiting(w->in) == 1);
    ingest_async(w->in, event("nobody", ""), on_accepted, &refusal);
    ingest_free(TAKE_PTR(w->in));
    registry_look_done(&w->registry);
    assert_int_equal(refusal.calls, 1);
    assert_int_equal(waiting.calls, 0);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(an_event_is_accepted_when_the_queue_has_it),
        CASE(refusals_come_later_and_once),
        CASE(the_largest_event_is_taken),
        CASE(a_full_queue_is_told),
        CASE(a_version_that_another_node_just_made_is_looked_for),
        CASE(those_that_came_before_a_look_share_it),
        CASE(without_the_store_they_are_told_so),
        CASE(a_caller_that_waits_for_a_look_may_go_away),
        CASE(what_waits_for_a_look_is_bounded),
        CASE(stopping_and_freeing_answer_those_too),
        CASE(a_call_gets_its_result_once),
        CASE(a_cancelled_call_is_not_answered),
        CASE(a_refused_call_is_told_later_and_once),
        CASE(a_full_lane_is_busy),
        CASE(a_caller_waits_as_long_as_it_said),
        CASE(a_call_that_comes_after_others_ended_is_swept_too),
        CASE(an_answer_may_cancel_another_call),
        CASE(a_stopped_door_refuses),
        CASE(stopping_answers_who_waits),
        CASE(freeing_tells_refusals_and_drops_calls),
    };
    return cmocka_run_group_tests_name("core/ingest", tests, NULL, NULL);
}
