// SPDX-License-Identifier: Apache-2.0
// A record that was taken in is in exactly one place: the gate, a call or the pool (run), `rests` or `due` (its next try), or
// with settle and the outlet. Each of them ends it by delivery_settle or delivery_release, and on_end hears of it.
// Nothing is run inside a callback: they ask for on_pump, once at the end of the turn.
#include "workers/intake.h"

#include <utlist.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "dlq/retry.h"
#include "workers/breaker.h"
#include "workers/gate.h"

#define CLOSE_LOOK_MS 10
#define ESTIMATE_SLACK 1.05

// A record, or a call that is to go again whole, until its next try.
struct rest {
    struct rest *prev, *next;
    struct intake *intake;
    struct delivery *d;
    struct timer *timer;
};

struct intake {
    struct intake_config c;
    const struct binding *b;
    struct queue_consumer *consumer; // NULL: closed
    struct gate gate;
    struct breaker breaker;
    struct outlet *outlet;
    struct rest *rests;
    struct delivery *due;            // their time has come, but the breaker is not closed
    size_t rest_count, due_count;
    size_t open;
    bool paused, closing, closed;
    int64_t ready_since_ns;          // records wait in the gate since then; 0: none
    double expansion;                // bytes that the function gets for one of ev_memory_bytes
    uint64_t ok, failed, filtered;
    struct defer pump;
    struct timer *timer;             // window, probe, the look at the end
};

static int64_t now_ms(const struct intake *in) {
    return loop_now_ns(in->c.loop) / NS_PER_MS;
}

static void wake(struct intake *in) {
    loop_defer(in->c.loop, &in->pump);
}

// --- the breaker ----------------------------------------------------------------------------------------------------

static bool is_closed(const struct intake *in) {
    return !in->b->breaker || in->breaker.state == BREAKER_CLOSED;
}

static void tell_breaker(struct intake *in) {
    struct str name = str_of(in->b->name);
    bool open = in->breaker.state != BREAKER_CLOSED;
    metrics_set(in->c.metrics, METRIC_BREAKER_OPEN, name, open);
    if (in->breaker.state == BREAKER_OPEN) {
        metrics_add(in->c.metrics, METRIC_BREAKER_OPENED, name, 1);
        log_warn("breaker", "open: nothing is handed out but probes", LOG_SPAN("trigger", name), LOG_STR("why", in->breaker.why));
    } else if (!open) {
        log_info("breaker", "closed: records flow again", LOG_SPAN("trigger", name));
    }
    wake(in);
}

static struct str type_of(const struct outcome_report *r) {
    if (r->outcome == OUTCOME_OK) return STR_NONE;
    return r->error_type.len ? r->error_type : str_of(outcome_word(r->outcome));
}

static void lose_probe(struct intake *in, struct delivery *d) {
    if (!d->probe) return;
    d->probe = false;
    breaker_probe_lost(&in->breaker);
    wake(in);
}

// What one record's own attempt says.
static void judge(struct intake *in, struct delivery *d, const struct outcome_report *r) {
    bool says = r->outcome == OUTCOME_OK || retry_is_charged(r->outcome);
    if (!says) {
        lose_probe(in, d);
    } else if (d->probe) {
        d->probe = false;
        if (breaker_probed(&in->breaker, type_of(r), now_ms(in))) tell_breaker(in);
        wake(in);
    } else if (d->ev->f.attempt == 0 && in->b->breaker) {
        if (breaker_note(&in->breaker, 1, type_of(r), now_ms(in))) tell_breaker(in);
    }
}

// --- running --------------------------------------------------------------------------------------------------------

static void run(struct intake *in, struct delivery *list) {
    struct delivery *d = list;
    if (in->b->shape != SHAPE_RAW) d = call_new(list);
    else DL_DELETE(list, d);
    in->c.run(in->c.arg, d);
}

static void run_one(struct intake *in, struct delivery *d) {
    struct delivery *list = NULL;
    DL_APPEND(list, d);
    run(in, list);
}

static size_t bytes_of_call(const struct intake *in) {
    return (size_t)((double)in->b->batch_bytes / in->expansion);
}

static void run_next(struct intake *in) {
    size_t count = 0;
    struct delivery *list = gate_take(&in->gate, in->b->batch, bytes_of_call(in), &count);
    if (list) run(in, list);
}

static bool is_full(const struct intake *in) {
    return in->gate.ready >= in->b->batch || (in->gate.ready && in->gate.ready_bytes >= bytes_of_call(in));
}

static int64_t waited_ms(struct intake *in) {
    if (in->ready_since_ns == 0) in->ready_since_ns = loop_now_ns(in->c.loop);
    return (loop_now_ns(in->c.loop) - in->ready_since_ns) / NS_PER_MS;
}

// A call that is not full: when somebody is idle. When nobody ever is, as there is always something else to run, in its turn.
static bool may_go_unfilled(struct intake *in) {
    int64_t waited = waited_ms(in);
    if (waited < in->b->window_ms) return false;
    if (in->c.has_room(in->c.arg)) return true;
    return waited >= in->b->window_ms + INTAKE_PATIENCE_MS && !in->c.is_waiting(in->c.arg, in);
}

static void run_again(struct intake *in, struct delivery *d) {
    if (d->batch) in->c.run(in->c.arg, d);
    else run_one(in, d);
}

static struct delivery *take_due(struct intake *in) {
    struct delivery *d = in->due;
    if (!d) return NULL;
    DL_DELETE(in->due, d);
    in->due_count--;
    return d;
}

static void run_all(struct intake *in) {
    struct delivery *d;
    while ((d = take_due(in))) run_again(in, d);
    while (gate_has_suspects(&in->gate) || is_full(in)) {
        run_next(in);
        in->ready_since_ns = 0;
    }
    if (in->gate.ready == 0) in->ready_since_ns = 0;
    else if (may_go_unfilled(in)) run_next(in);
}

// Records that have not failed first: they say more.
static void run_probes(struct intake *in) {
    while (breaker_room(&in->breaker, now_ms(in)) > 0) {
        struct delivery *list = gate_take_probe(&in->gate), *d = list;
        if (list) DL_DELETE(list, d);
        else d = take_due(in);
        if (!d) return;
        d->probe = true;
        breaker_probe_sent(&in->breaker);
        run_one(in, d);
    }
}

static void arm_timer(struct intake *in) {
    int64_t delay_ms = 0;
    if (!is_closed(in)) {
        int64_t at_ms = breaker_next_ms(&in->breaker, now_ms(in));
        if (at_ms) delay_ms = at_ms - now_ms(in) + 1;
    } else if (in->gate.ready) {
        int64_t waited = waited_ms(in);
        delay_ms = waited < in->b->window_ms ? in->b->window_ms - waited : INTAKE_PATIENCE_MS;
    }
    if (delay_ms > 0) timer_start(in->timer, delay_ms);
}

static void look_at_end(struct intake *in);

static void on_pump(void *arg) {
    struct intake *in = arg;
    if (in->paused) {
        look_at_end(in);
        return;
    }
    if (is_closed(in)) run_all(in);
    else run_probes(in);
    arm_timer(in);
}

void intake_wake(struct intake *in) {
    if (in->gate.ready && !in->paused) wake(in);
}

// --- back to the gate -----------------------------------------------------------------------------------------------

static void back_to_gate(struct intake *in, struct delivery *d) {
    lose_probe(in, d);
    if (d->state != DELIVERY_WAITING) delivery_move(d, DELIVERY_WAITING);
    gate_return(&in->gate, d);
    wake(in);
}

// The last first, so that all stand in their order before the others of their keys.
static void all_back_to_gate(struct intake *in, struct delivery *list, uint32_t joins) {
    while (list) {
        struct delivery *d = list->prev; // the last
        DL_DELETE(list, d);
        if (d->joins > joins) d->joins = joins;
        back_to_gate(in, d);
    }
}

static void take_apart(struct intake *in, struct delivery *call, uint32_t joins) {
    struct delivery *list = call_take_all(call->batch);
    call_free(call->batch);
    all_back_to_gate(in, list, joins);
}

static uint32_t half(size_t count) {
    return (uint32_t)(count + 1) / 2;
}

static void split(struct intake *in, struct delivery *call) {
    metrics_add(in->c.metrics, METRIC_CALLS_SPLIT, str_of(in->b->name), 1);
    take_apart(in, call, half(call->batch->count));
}

// --- before the run -------------------------------------------------------------------------------------------------

// What its records become in their shape: up at once, down slowly.
static void learn_expansion(struct intake *in, const struct batch *b) {
    size_t before = 0;
    const struct delivery *d;
    DL_FOREACH(b->members, d) before += d->bytes;
    double now = (double)b->call.ev->f.payload.len / (double)(before + 1) * ESTIMATE_SLACK;
    in->expansion = now > in->expansion ? now : in->expansion * 0.9 + now * 0.1;
    if (in->expansion < 0.05) in->expansion = 0.05;
}

static bool render(struct intake *in, struct delivery *call) {
    struct batch *b = call->batch;
    size_t most = b->count > 1 ? in->b->batch_bytes : EV_PAYLOAD_MAX;
    struct err err = {0};
    int rc = call_render(b, most, &err);
    if (rc == 0) {
        learn_expansion(in, b);
        return true;
    }
    if (b->count > 1) {
        in->expansion *= 1.2;
        take_apart(in, call, half(b->count));
    } else {
        settle_refuse(in->c.settle, call, LETTER_UNDECODABLE, ERR_TOO_LARGE, "TooLarge", str_of(CALL_TOO_LARGE));
    }
    return false;
}

bool intake_handout(struct intake *in, struct delivery *d) {
    if (!is_closed(in) && !d->probe) {
        if (d->batch) take_apart(in, d, UINT32_MAX);
        else back_to_gate(in, d);
        return true;
    }
    const struct ev_fields *f = &d->ev->f;
    if (f->attempt == 0)
        metrics_observe(in->c.metrics, METRIC_WAIT_SECONDS, f->function, (double)(clock_unix_ms() - f->accepted_ms) / 1e3);
    return d->batch && !render(in, d);
}

// --- after the run --------------------------------------------------------------------------------------------------

// d is FINISHED: its own attempt.
static void one_outcome(struct intake *in, struct delivery *d, const struct outcome_report *r) {
    judge(in, d, r);
    if (r->outcome == OUTCOME_OK) in->ok++;
    else if (retry_is_charged(r->outcome)) in->failed++;
    settle_outcome(in->c.settle, d, r);
}

static void take_version(struct delivery *d, struct version *v) {
    struct version *before = d->version;
    d->version = version_ref(v);
    version_unref(before);
}

static void records_ok(struct intake *in, struct delivery *list, size_t count, const struct id *id, const struct outcome_report *r) {
    struct delivery *d;
    DL_FOREACH(list, d) delivery_move(d, DELIVERY_FINISHED);
    in->ok += count;
    if (list->probe) judge(in, list, r);
    else if (in->b->breaker) breaker_note(&in->breaker, count, STR_NONE, now_ms(in));
    metrics_observe(in->c.metrics, METRIC_RUN_SECONDS, str_of(in->b->function), (double)r->duration_us / 1e6);
    settle_done(in->c.settle, list, count, id, r);
}

static void call_ok(struct intake *in, struct batch *b, const struct outcome_report *r) {
    size_t count = b->count;
    const struct id id = b->call.ev->f.id;
    struct delivery *list = call_take_all(b);
    call_free(b);
    records_ok(in, list, count, &id, r);
}

// Sorts the records of a call whose result names some: what ran is done or failed; what follows a failed one of its key is
// to run again behind it.
static void some_failed(struct intake *in, struct batch *b, const bool *failed, const struct outcome_report *r) {
    struct outcome_report bad = *r;
    call_item_failed(&bad);
    const struct id id = b->call.ev->f.id;
    struct version *v = version_ref(b->call.version);
    struct delivery *all = call_take_all(b), *done = NULL, *ill = NULL, *behind = NULL, *d, *next;
    call_free(b);
    const struct gate_key *broken = NULL; // a key's records stand together
    size_t i = 0, done_count = 0;
    DL_FOREACH_SAFE(all, d, next) {
        bool is_failed = failed[i++], follows = d->key && d->key == broken;
        DL_DELETE(all, d);
        if (follows) {
            DL_APPEND(behind, d);
        } else if (is_failed) {
            broken = d->key;
            DL_APPEND(ill, d);
        } else {
            DL_APPEND(done, d);
            done_count++;
        }
    }
    all_back_to_gate(in, behind, UINT32_MAX);
    DL_FOREACH_SAFE(ill, d, next) {
        DL_DELETE(ill, d);
        take_version(d, v);
        delivery_move(d, DELIVERY_FINISHED);
        one_outcome(in, d, &bad);
    }
    if (done) records_ok(in, done, done_count, &id, r);
    version_unref(v);
}

static void call_failed(struct intake *in, struct delivery *call, const struct outcome_report *r) {
    struct batch *b = call->batch;
    if (b->count > 1) {
        metrics_add(in->c.metrics, METRIC_ATTEMPTS_FAILED, str_of(in->b->function), 1);
        if (retry_is_charged(r->outcome)) split(in, call);
        else intake_rest(in, call, RETRY_UNCHARGED_PACE_MS);
        return;
    }
    struct version *v = version_ref(call->version);
    struct delivery *d = call_take_all(b);
    call_free(b);
    take_version(d, v);
    delivery_move(d, DELIVERY_FINISHED);
    one_outcome(in, d, r);
    version_unref(v);
}

void intake_outcome(struct intake *in, struct delivery *d, const struct outcome_report *r) {
    struct batch *b = d->batch;
    if (!b) {
        one_outcome(in, d, r);
        return;
    }
    if (r->outcome != OUTCOME_OK) {
        call_failed(in, d, r);
        return;
    }
    cleanup_free bool *failed = mem_array(b->count, sizeof *failed);
    enum verdict v = call_verdict(b, r->result, failed);
    if (v == VERDICT_DONE) {
        call_ok(in, b, r);
    } else if (v == VERDICT_SOME) {
        some_failed(in, b, failed, r);
    } else {
        struct outcome_report bad = *r;
        call_item_failed(&bad);
        bad.error_message = STR_LIT("the batchItemFailures of the function's result do not name records that it got");
        call_failed(in, d, &bad);
    }
}

// --- the next try ---------------------------------------------------------------------------------------------------

static struct delivery *end_rest(struct rest *rest) {
    struct intake *in = rest->intake;
    struct delivery *d = rest->d;
    DL_DELETE(in->rests, rest);
    in->rest_count--;
    timer_free(rest->timer);
    free(rest);
    return d;
}

static void on_rested(void *arg) {
    struct rest *rest = arg;
    struct intake *in = rest->intake;
    struct delivery *d = end_rest(rest);
    if (is_closed(in)) {
        run_again(in, d);
    } else if (d->batch) {
        take_apart(in, d, UINT32_MAX);
    } else {
        DL_APPEND(in->due, d);
        in->due_count++;
        wake(in);
    }
}

void intake_rest(struct intake *in, struct delivery *d, int64_t delay_ms) {
    delivery_move(d, DELIVERY_WAITING);
    d->joins = 1;
    struct rest *rest = mem_zalloc(sizeof *rest);
    *rest = (struct rest){.intake = in, .d = d, .timer = timer_new(in->c.loop, on_rested, rest)};
    timer_start(rest->timer, delay_ms > 0 ? delay_ms : 0);
    DL_APPEND(in->rests, rest);
    in->rest_count++;
    if (in->paused) wake(in);
}

// --- letting go -----------------------------------------------------------------------------------------------------

// All that has been run and has not begun goes back to the gate.
static void recall(struct intake *in) {
    struct delivery *list = in->c.take_waiting(in->c.arg, in);
    while (list) {
        struct delivery *d = list->prev;
        DL_DELETE(list, d);
        if (d->batch) take_apart(in, d, UINT32_MAX);
        else back_to_gate(in, d);
    }
}

static void drop_tries(struct intake *in, bool all, uint32_t partition) {
    struct rest *rest, *next;
    DL_FOREACH_SAFE(in->rests, rest, next) {
        struct delivery *d = rest->d;
        if (d->batch) take_apart(in, end_rest(rest), UINT32_MAX);
        else if (all || d->partition == partition) delivery_release(end_rest(rest));
    }
    struct delivery *d, *after;
    DL_FOREACH_SAFE(in->due, d, after) {
        if (!all && d->partition != partition) continue;
        DL_DELETE(in->due, d);
        in->due_count--;
        delivery_release(d);
    }
}

// Gives back all that does not run, or what of it is of one partition.
static void drop_waiting(struct intake *in, bool all, uint32_t partition) {
    recall(in);
    drop_tries(in, all, partition);
    struct delivery *list = gate_drop(&in->gate, all, partition), *d, *next;
    DL_FOREACH_SAFE(list, d, next) {
        DL_DELETE(list, d);
        delivery_release(d);
    }
}

static void on_lost(void *arg) {
    drop_waiting(arg, true, 0);
}

static void on_revoked(void *arg, uint32_t partition) {
    drop_waiting(arg, false, partition);
}

void intake_pause(struct intake *in) {
    in->paused = true;
    if (!in->consumer) return;
    queue_consumer_pause(in->consumer);
    outlet_stop(in->outlet);
    drop_waiting(in, true, 0);
}

static void look_at_end(struct intake *in) {
    if (in->closed) return;
    intake_pause(in);
    if (in->closing) settle_abandon_intake(in->c.settle, in);
    if (!intake_is_quiet(in)) {
        if (in->closing) timer_start(in->timer, CLOSE_LOOK_MS);
        return;
    }
    if (in->consumer) queue_consumer_close(in->consumer);
    in->consumer = NULL;
    if (!in->closing) return;
    in->closed = true;
    in->c.on_closed(in->c.arg, in);
}

void intake_close(struct intake *in) {
    in->closing = true;
    intake_pause(in);
    wake(in);
}

// --- arrival --------------------------------------------------------------------------------------------------------

static void on_end(struct delivery *d) {
    struct intake *in = d->intake;
    lose_probe(in, d);
    gate_done(&in->gate, d);
    if (in->gate.ready || in->paused) wake(in);
}

static void receive(struct intake *in, const struct queue_msg *msg) {
    struct delivery *d = delivery_new(msg, in->consumer, in->c.lane, &in->open);
    d->intake = in;
    d->on_end = on_end;
    d->partition = msg->partition;
    d->joins = (uint32_t)in->b->batch;
    d->in_place = in->b->order != ORDER_NONE;
    d->bytes = ev_memory_bytes(d->ev);
    if (msg->content == QUEUE_UNDECODABLE)
        settle_refuse(in->c.settle, d, LETTER_UNDECODABLE, ERR_CORRUPT, "Undecodable", msg->why);
    else if (d->ev->f.payload.len > EV_PAYLOAD_MAX)
        settle_refuse(in->c.settle, d, LETTER_UNDECODABLE, ERR_TOO_LARGE, "TooLarge",
                      STR_LIT("its payload is larger than an event's may be"));
    else if (msg->delivery_count >= in->c.max_deliveries)
        settle_refuse(in->c.settle, d, LETTER_PLATFORM, ERR_INTERNAL, "DeliveryLimit",
                      STR_LIT("the server died each time it had this record; see --max-deliveries"));
    else
        gate_add(&in->gate, d);
}

// Records that nobody wants, and all of them while it lets go, are settled at once.
static bool pass_by(struct intake *in, const struct queue_msg *msg) {
    bool wanted = msg->content == QUEUE_UNDECODABLE || !in->b->filter || filter_matches(in->b->filter, msg->ev);
    if (!in->paused && wanted) return false;
    if (in->paused) queue_release(in->consumer, msg->tag);
    else queue_ack(in->consumer, msg->tag);
    ev_free(msg->ev);
    return true;
}

static void on_messages(void *arg, struct queue_msg *msgs, size_t count) {
    struct intake *in = arg;
    size_t passed = 0;
    for (size_t i = 0; i < count; i++) {
        if (pass_by(in, &msgs[i])) {
            passed++;
            continue;
        }
        struct ev_fields *f = &msgs[i].ev->f; // nobody waits behind this source, whatever its headers say
        f->invocation = EV_ASYNC;
        f->deadline_ms = 0;
        receive(in, &msgs[i]);
    }
    if (passed && !in->paused) {
        in->filtered += passed;
        metrics_add(in->c.metrics, METRIC_RECORDS_FILTERED, str_of(in->b->name), (double)passed);
    }
    wake(in);
}

// --- life -----------------------------------------------------------------------------------------------------------

static void on_refused(void *arg, struct delivery *d, const struct err *why) {
    struct intake *in = arg;
    settle_refuse(in->c.settle, d, LETTER_FUNCTION, ERR_TOO_LARGE, "SinkTooLarge", str_of(why->text));
}

static void on_idle(void *arg) {
    struct intake *in = arg;
    if (in->paused) wake(in);
}

static void on_timer(void *arg) {
    on_pump(arg);
}

struct intake *intake_new(const struct intake_config *config) {
    struct intake *in = mem_zalloc(sizeof *in);
    in->c = *config;
    in->b = config->binding;
    in->expansion = 1.0;
    in->pump = (struct defer){.fn = on_pump, .arg = in};
    in->timer = timer_new(config->loop, on_timer, in);
    gate_init(&in->gate, in->b->order, in->b->batch);
    breaker_init(&in->breaker, in->b->breaker_share);
    const struct outlet_config outlet = {
        .loop = config->loop, .binding = in->b, .on_refused = on_refused, .on_idle = on_idle, .arg = in};
    in->outlet = outlet_new(&outlet);
    const struct queue_consumer_config consumer = {.function = str_of(in->b->function),
                                                   .credit = in->b->credit,
                                                   .credit_bytes = in->b->credit_bytes,
                                                   .on_messages = on_messages,
                                                   .on_lost = on_lost,
                                                   .on_revoked = on_revoked,
                                                   .arg = in};
    in->consumer = source_consume(in->b->source, &consumer);
    return in;
}

const struct binding *intake_binding(const struct intake *in) {
    return in->b;
}

struct outlet *intake_outlet(const struct intake *in) {
    return in->closed ? NULL : in->outlet;
}

size_t intake_open(const struct intake *in) {
    return in->open;
}

bool intake_is_closing(const struct intake *in) {
    return in->closing;
}

bool intake_is_quiet(const struct intake *in) {
    return in->open == 0 && outlet_pending(in->outlet) == 0 && (!in->consumer || queue_unsettled(in->consumer) == 0);
}

void intake_free(struct intake *in) {
    if (!in) return;
    MUST(in->open == 0);
    if (in->consumer) queue_consumer_close(in->consumer);
    metrics_set(in->c.metrics, METRIC_BREAKER_OPEN, str_of(in->b->name), 0);
    loop_defer_cancel(in->c.loop, &in->pump);
    timer_free(in->timer);
    gate_free(&in->gate);
    outlet_free(in->outlet);
    free(in);
}

// --- what to tell ---------------------------------------------------------------------------------------------------

static json_t *breaker_json(const struct intake *in) {
    if (!in->b->breaker) return json_null();
    const struct breaker *k = &in->breaker;
    bool closed = k->state == BREAKER_CLOSED;
    int64_t ago_ms = now_ms(in) - k->since_ms, left_ms = k->probe_at_ms - now_ms(in);
    json_t *o = json_pack("{ss}", "state", breaker_word(k));
    json_object_set_new(o, "why", closed ? json_null() : json_string(k->why));
    json_object_set_new(o, "sinceMs", closed ? json_null() : json_integer(clock_unix_ms() - ago_ms));
    json_object_set_new(o, "probeMs", k->state != BREAKER_OPEN ? json_null() : json_integer(left_ms > 0 ? left_ms : 0));
    return o;
}

static json_t *why_json(const struct intake *in) {
    const char *trouble = outlet_trouble(in->outlet);
    if (in->paused) return json_string("it is being stopped");
    if (!is_closed(in)) return json_sprintf("the circuit breaker is %s: %s", breaker_word(&in->breaker), in->breaker.why);
    if (trouble) return json_sprintf("a sink does not take results: %s", trouble);
    if (in->rest_count) return json_sprintf("%zu records wait for their next try, and hold their keys", in->rest_count);
    return json_null();
}

json_t *intake_status(const struct intake *in) {
    return json_pack("{ss sI sI sI sI sI sI sI so so}", "name", in->b->name, "inFlight", (json_int_t)in->open, "waiting",
                     (json_int_t)in->gate.waiting, "parkedKeys", (json_int_t)gate_parked_keys(&in->gate), "retrying",
                     (json_int_t)(in->rest_count + in->due_count), "ok", (json_int_t)in->ok, "failed", (json_int_t)in->failed,
                     "filtered", (json_int_t)in->filtered, "breaker", breaker_json(in), "why", why_json(in));
}
