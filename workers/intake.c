// SPDX-License-Identifier: Apache-2.0
// A record that was taken in is in exactly one place: the gate, a call or the pool (run), `rests` or `due` (its next try), or
// with settle and the outlet. Each of them ends it by delivery_settle or delivery_release, and on_end hears of it.
// Nothing is run inside a callback: they ask for intake_pump, once at the end of the turn.
#include "workers/intake_impl.h"

#include <utlist.h>

#include "core/base/clock.h"

int64_t intake_now_ms(const struct intake *in) {
    return loop_now_ns(in->c.loop) / NS_PER_MS;
}

void intake_wake_up(struct intake *in) {
    loop_defer(in->c.loop, &in->pump);
}

// --- running --------------------------------------------------------------------------------------------------------

// A replay in order has letters of its key, which come first.
static bool is_held(const struct intake *in, const struct delivery *d) {
    return in->c.is_held && in->b->order != ORDER_NONE && in->c.is_held(in->c.arg, d);
}

static struct delivery *find_held(const struct intake *in, struct delivery *list) {
    struct delivery *d;
    DL_FOREACH(list, d) if (is_held(in, d)) return d;
    return NULL;
}

static struct delivery *make_call(const struct intake *in, struct delivery *list) {
    struct delivery *d = list;
    if (in->b->shape != SHAPE_RAW) return call_new(list);
    DL_DELETE(list, d);
    return d;
}

// The records that are held rest, with all others of their key (or partition), which wait behind them; what is left may run.
static struct delivery *rest_held(struct intake *in, struct delivery *list) {
    struct delivery *first;
    while ((first = find_held(in, list))) {
        struct delivery *group = NULL, *d, *next;
        const struct gate_key *key = first->key;
        DL_FOREACH_SAFE(list, d, next) {
            if (d != first && (!key || d->key != key)) continue;
            DL_DELETE(list, d);
            DL_APPEND(group, d);
        }
        intake_rest(in, make_call(in, group), INTAKE_HELD_MS);
    }
    return list;
}

static void run(struct intake *in, struct delivery *list) {
    list = rest_held(in, list);
    if (list) in->c.run(in->c.arg, make_call(in, list));
}

// A call whose records were together before: it rests whole, as it is of one key or has failed.
static void run_call(struct intake *in, struct delivery *call) {
    if (find_held(in, call->batch->members)) intake_rest(in, call, INTAKE_HELD_MS);
    else in->c.run(in->c.arg, call);
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

void intake_run_again(struct intake *in, struct delivery *d) {
    if (d->batch) run_call(in, d);
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
    while ((d = take_due(in))) intake_run_again(in, d);
    while (gate_has_suspects(&in->gate) || is_full(in)) {
        run_next(in);
        in->ready_since_ns = 0;
    }
    if (in->gate.ready == 0) in->ready_since_ns = 0;
    else if (may_go_unfilled(in)) run_next(in);
}

// Records that have not failed first: they say more.
static void run_probes(struct intake *in) {
    while (breaker_room(&in->breaker, intake_now_ms(in)) > 0) {
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
    if (!intake_flows(in)) {
        int64_t at_ms = breaker_next_ms(&in->breaker, intake_now_ms(in));
        if (at_ms) delay_ms = at_ms - intake_now_ms(in) + 1;
    } else if (in->gate.ready) {
        int64_t waited = waited_ms(in);
        delay_ms = waited < in->b->window_ms ? in->b->window_ms - waited : INTAKE_PATIENCE_MS;
    }
    if (delay_ms > 0) timer_start(in->timer, delay_ms);
}

void intake_pump(void *arg) {
    struct intake *in = arg;
    if (in->paused) {
        intake_look_at_end(in);
        return;
    }
    if (intake_flows(in)) run_all(in);
    else run_probes(in);
    arm_timer(in);
}

void intake_wake(struct intake *in) {
    if (in->gate.ready && !in->paused) intake_wake_up(in);
}

// --- credit ---------------------------------------------------------------------------------------------------------

// So that neither a window full of retries nor a slow sink stops the flow, what cannot be handed out now does not count.
static size_t credit_wanted(const struct intake *in) {
    size_t calls = INTAKE_FRESH_CALLS * in->b->batch, fresh = calls > INTAKE_FRESH_LEAST ? calls : INTAKE_FRESH_LEAST;
    size_t parked = in->gate.waiting - in->gate.ready;
    size_t wanted = fresh + in->handed + parked + in->rest_records + in->due_count;
    return wanted < in->b->credit ? wanted : in->b->credit;
}

void intake_tell_credit(struct intake *in) {
    size_t wanted = credit_wanted(in), change = wanted > in->credit ? wanted - in->credit : in->credit - wanted;
    if (!in->consumer || change == 0) return;
    if (change <= INTAKE_FRESH_LEAST / 8 && wanted < in->b->credit) return;
    if (queue_set_credit(in->consumer, wanted)) in->credit = wanted;
}

void intake_unhand(struct intake *in, struct delivery *d) {
    in->handed -= d->handed;
    d->handed = false;
}

// --- arrival --------------------------------------------------------------------------------------------------------

static void on_end(struct delivery *d) {
    struct intake *in = d->intake;
    intake_lose_probe(in, d);
    intake_unhand(in, d);
    gate_done(&in->gate, d);
    if (in->gate.ready || in->paused) intake_wake_up(in);
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
    intake_tell_credit(in);
    intake_wake_up(in);
}

// --- life -----------------------------------------------------------------------------------------------------------

static void on_refused(void *arg, struct delivery *d, const struct err *why) {
    struct intake *in = arg;
    settle_refuse(in->c.settle, d, LETTER_FUNCTION, ERR_TOO_LARGE, "SinkTooLarge", str_of(why->text));
}

static void on_idle(void *arg) {
    struct intake *in = arg;
    if (in->paused) intake_wake_up(in);
}

static void on_lost(void *arg) {
    intake_drop_waiting(arg, true, 0);
}

static void on_revoked(void *arg, uint32_t partition) {
    intake_drop_waiting(arg, false, partition);
}

struct intake *intake_new(const struct intake_config *config) {
    struct intake *in = mem_zalloc(sizeof *in);
    in->c = *config;
    in->b = config->binding;
    in->expansion = 1.0;
    in->pump = (struct defer){.fn = intake_pump, .arg = in};
    in->timer = timer_new(config->loop, intake_pump, in);
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
    in->credit = in->b->credit;
    in->consumer = source_consume(in->b->source, &consumer);
    intake_tell_credit(in);
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
    int64_t ago_ms = intake_now_ms(in) - k->since_ms, left_ms = k->probe_at_ms - intake_now_ms(in);
    json_t *o = json_pack("{ss}", "state", breaker_word(k));
    json_object_set_new(o, "why", closed ? json_null() : json_string(k->why));
    json_object_set_new(o, "sinceMs", closed ? json_null() : json_integer(clock_unix_ms() - ago_ms));
    json_object_set_new(o, "probeMs", k->state != BREAKER_OPEN ? json_null() : json_integer(left_ms > 0 ? left_ms : 0));
    return o;
}

static json_t *why_json(const struct intake *in) {
    const char *trouble = outlet_trouble(in->outlet);
    if (in->paused) return json_string("it is being stopped");
    if (!intake_flows(in)) return json_sprintf("the circuit breaker is %s: %s", breaker_word(&in->breaker), in->breaker.why);
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
