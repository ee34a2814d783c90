// SPDX-License-Identifier: Apache-2.0
#include "workers/lane.h"

#include <utlist.h>

#include "core/base/log.h"

// --- cancelled fires ------------------------------------------------------------------------------------------------

static bool is_cancelled(const struct lane *lane, const struct delivery *d) {
    return d->cancelled || (lane->c->fires && fires_is_fire(d->ev) && fires_is_cancelled(lane->c->fires, &d->ev->f.id));
}

// Its row says what became of it.
static void end_cancelled(struct lane *lane, struct delivery *d, const char *what) {
    char id[ID_TEXT_BYTES];
    id_format(&d->ev->f.id, id);
    log_info("dispatch", "a fire was cancelled: the next one of its timer came", LOG_STR("function", lane->name),
             LOG_SPAN("trigger", d->ev->f.source_name), LOG_SPAN("event", str_of(id)), LOG_STR("it", what));
    char text[100];
    MUST(text_format(text, sizeof text, "weir: this fire %s, as the next one of its timer came\n", what) == 0);
    fnlog_append(lane->c->log, str_of(lane->name), d->version ? d->version->number : 0, &d->ev->f.id, str_of(text));
    if (d->batch) {
        struct batch *b = d->batch;
        d = call_take_all(b);
        call_free(b);
        delivery_move(d, DELIVERY_FINISHED);
    }
    delivery_settle(d);
}

static bool drop_cancelled(struct lane *lane, struct delivery *d) {
    if (!is_cancelled(lane, d)) return false;
    end_cancelled(lane, d, "was not run");
    return true;
}

bool lane_cancel(struct lane *lane, const struct id *id) {
    struct delivery *d = NULL;
    bool here = pools_cancel(&lane->pools, id, &d);
    if (d) end_cancelled(lane, d, "was not run");
    return here;
}

// --- what instances did ---------------------------------------------------------------------------------------------

// A call of one record that came by the function's own queue: a fire, a due retry, or a replay.
static void lone_call_outcome(struct lane *lane, struct delivery *call, const struct outcome_report *report) {
    struct batch *b = call->batch;
    struct outcome_report r = *report;
    bool failed = false;
    if (r.outcome == OUTCOME_OK && call_verdict(b, r.result, &failed) != VERDICT_DONE) call_item_failed(&r);
    struct delivery *d = call_take_all(b);
    d->version = version_ref(call->version);
    call_free(b);
    delivery_move(d, DELIVERY_FINISHED);
    settle_outcome(lane->settle, d, &r);
}

static void on_outcome(void *arg, struct delivery *d, const struct outcome_report *report) {
    struct lane *lane = arg;
    if (d->cancelled && report->outcome != OUTCOME_OK) {
        end_cancelled(lane, d, "was stopped");
        return;
    }
    if (report->outcome == OUTCOME_OK) lane->ok += d->batch ? d->batch->count : 1;
    else lane->failed++;
    if (d->intake) intake_outcome(d->intake, d, report);
    else if (d->batch) lone_call_outcome(lane, d, report);
    else settle_outcome(lane->settle, d, report);
}

static void wake_intakes(struct lane *lane) {
    for (struct lane_intake *li = lane->intakes; li; li = li->next) intake_wake(li->intake);
}

static void on_pools_change(void *arg) {
    wake_intakes(arg);
}

// --- what is to run -------------------------------------------------------------------------------------------------

static bool is_expired(const struct lane *lane, const struct delivery *d, const struct version *v) {
    const struct ev_fields *f = &d->ev->f;
    return f->invocation == EV_ASYNC && loop_unix_ms(lane->c->loop) - f->accepted_ms > v->settings.max_age_ms;
}

static void refuse_expired(struct lane *lane, struct delivery *d) {
    settle_refuse(lane->settle, d, LETTER_EXPIRED, ERR_TIMEOUT, "Expired",
                  STR_LIT("it waited longer than the function's maximum age"));
}

// Ends a delivery that nobody wants any more; false: it is to be run.
static bool drop_unwanted(struct lane *lane, struct delivery *d, const struct version *v) {
    if (delivery_is_sync(d) && !ingest_is_awaited(lane->c->ingest, &d->ev->f.id)) {
        delivery_settle(d); // its caller went away
        return true;
    }
    if (!is_expired(lane, d, v)) return false;
    refuse_expired(lane, d);
    return true;
}

// The same for the records of a call; true: none is left.
static bool drop_expired_records(struct lane *lane, struct delivery *call) {
    struct batch *b = call->batch;
    struct delivery *d, *next;
    DL_FOREACH_SAFE(b->members, d, next) {
        if (!is_expired(lane, d, call->version)) continue;
        call_take(b, d);
        refuse_expired(lane, d);
    }
    if (b->members) return false;
    call_free(b);
    return true;
}

static bool render_lone_call(struct lane *lane, struct delivery *call) {
    struct err err = {0};
    if (call_render(call->batch, EV_PAYLOAD_MAX, &err) == 0) return true;
    settle_refuse(lane->settle, call, LETTER_UNDECODABLE, err.code, err_word(err.code),
                  str_of(err.code == ERR_TOO_LARGE ? CALL_TOO_LARGE : err.text));
    return false;
}

// A replay in order has letters of its key, which come first.
static bool must_wait(const struct lane *lane, const struct delivery *d) {
    return lane->c->replays && !delivery_is_sync(d) && replays_holds(lane->c->replays, d->ev);
}

static void come_back_later(struct lane *lane, struct delivery *d, struct str why, bool age_anew) {
    struct batch *b = d->batch;
    if (b) {
        d = call_take_all(b);
        call_free(b);
    }
    settle_hold(lane->settle, d, why, age_anew);
}

// Of the function's own queue; the records of a binding are held by their intake.
static bool hold(struct lane *lane, struct delivery *d) {
    if (d->intake || !must_wait(lane, d->batch ? d->batch->members : d)) return false;
    come_back_later(lane, d, STR_LIT("a replay in order has letters of its ordering key"), true);
    return true;
}

// It may have waited long for its turn.
static bool on_handout(void *arg, struct delivery *d) {
    struct lane *lane = arg;
    if (drop_cancelled(lane, d) || hold(lane, d)) return true;
    if (d->batch ? drop_expired_records(lane, d) : drop_unwanted(lane, d, d->version)) return true;
    if (d->intake) return intake_handout(d->intake, d);
    return d->batch && !render_lone_call(lane, d);
}

// --- routing --------------------------------------------------------------------------------------------------------

// Another node may have made the version a moment ago: asks the store before it is refused.
static bool may_come(const struct delivery *d, int code) {
    return code == ERR_NOT_FOUND && d->ev->f.qualifier.len && !d->looked_for && !d->intake;
}

void lane_route(struct lane *lane, struct delivery *d) {
    if (drop_cancelled(lane, d)) return;
    struct err err = {0};
    struct version *v;
    int rc = registry_resolve(lane->c->registry, str_of(lane->name), d->ev->f.qualifier, &v, &err);
    if (may_come(d, rc)) {
        lookup_wait(&lane->lookup, d);
        return;
    }
    if (rc) {
        settle_refuse(lane->settle, d, LETTER_UNROUTABLE, rc, "Unroutable", str_of(err.text));
        return;
    }
    if (!d->batch && drop_unwanted(lane, d, v)) return;
    struct version *before = d->version;
    d->version = version_ref(v);
    version_unref(before);
    pools_submit(&lane->pools, v, d);
}

static void on_looked(void *arg, struct delivery *d, int code, const struct err *err) {
    struct lane *lane = arg;
    if (lane->killed || lane->closing) call_release(d);
    else if (code == 0) lane_route(lane, d);
    else if (delivery_is_sync(d)) settle_refuse(lane->settle, d, LETTER_UNROUTABLE, code, err_word(code), str_of(err->text));
    else come_back_later(lane, d, str_of(err->text), false);
}

static struct delivery *call_of_one(struct delivery *d) {
    struct delivery *list = NULL;
    DL_APPEND(list, d);
    return call_new(list);
}

static void receive(struct lane *lane, struct queue_consumer *consumer, const struct queue_msg *msg) {
    struct delivery *d = delivery_new(msg, consumer, lane, &lane->open);
    const struct ev_fields *f = &d->ev->f;
    if (lane->killed) {
        delivery_release(d);
    } else if (msg->content == QUEUE_UNDECODABLE) {
        settle_refuse(lane->settle, d, LETTER_UNDECODABLE, ERR_CORRUPT, "Undecodable", msg->why);
    } else if (f->payload.len > EV_PAYLOAD_MAX) { // put on the broker by somebody else
        settle_refuse(lane->settle, d, LETTER_UNDECODABLE, ERR_TOO_LARGE, "TooLarge",
                      STR_LIT("its payload is larger than an event's may be"));
    } else if (msg->delivery_count >= (uint32_t)lane->c->options->max_deliveries.number) {
        settle_refuse(lane->settle, d, LETTER_PLATFORM, ERR_INTERNAL, "DeliveryLimit",
                      STR_LIT("the server died each time it had this event; see --max-deliveries"));
    } else {
        if (f->attempt == 0)
            metrics_observe(lane->c->metrics, METRIC_WAIT_SECONDS, str_of(lane->name), delivery_waited_s(d, loop_unix_ms(lane->c->loop)));
        if (hold(lane, d)) return;
        if (is_shaped(f->shape)) lane_route(lane, call_of_one(d)); // a fire; a due retry, or a replay, of a binding's record
        else lane_route(lane, d);
    }
}

static void on_durable_messages(void *arg, struct queue_msg *msgs, size_t count) {
    struct lane *lane = arg;
    for (size_t i = 0; i < count; i++) {
        struct ev_fields *f = &msgs[i].ev->f; // whatever a foreign publisher says: nobody waits behind this queue
        f->invocation = EV_ASYNC;
        f->deadline_ms = 0;
        receive(lane, lane->durable, &msgs[i]);
    }
}

static void on_sync_messages(void *arg, struct queue_msg *msgs, size_t count) {
    struct lane *lane = arg;
    for (size_t i = 0; i < count; i++) receive(lane, lane->sync, &msgs[i]);
}

// Gives back what waits in the pools: of the durable queue, also of the bindings, or also the sync ones.
enum whose { WHOSE_DURABLE, WHOSE_ASYNC, WHOSE_ALL };

static bool is_whose(const void *arg, const struct delivery *d) {
    const enum whose *whose = arg;
    if (delivery_is_sync(d)) return *whose == WHOSE_ALL;
    return !d->intake || *whose != WHOSE_DURABLE;
}

static void give_back(struct lane *lane, enum whose whose) {
    struct delivery *list = pools_take_waiting(&lane->pools, is_whose, &whose), *d, *next;
    DL_FOREACH_SAFE(list, d, next) {
        DL_DELETE(list, d);
        call_release(d);
    }
}

// The broker delivers again what was not acknowledged: it must not wait here too.
static void on_lost(void *arg) {
    struct lane *lane = arg;
    give_back(lane, WHOSE_DURABLE);
    lookup_lost(&lane->lookup);
}

// --- bindings -------------------------------------------------------------------------------------------------------

static bool is_held(void *arg, const struct delivery *d) {
    return must_wait(arg, d);
}

static void run(void *arg, struct delivery *d) {
    lane_route(arg, d);
}

static bool has_room(void *arg) {
    struct lane *lane = arg;
    return pools_have_room(&lane->pools);
}

static bool is_waiting(void *arg, const struct intake *in) {
    struct lane *lane = arg;
    return pools_have_waiting_of(&lane->pools, in);
}

static bool is_of_intake(const void *in, const struct delivery *d) {
    return d->intake == in;
}

static struct delivery *take_waiting(void *arg, struct intake *in) {
    struct lane *lane = arg;
    return pools_take_waiting(&lane->pools, is_of_intake, in);
}

static void on_intake_gone(void *arg) {
    struct lane_intake *li = arg;
    struct lane_intake **at = &li->lane->intakes;
    while (*at != li) at = &(*at)->next;
    *at = li->next;
    intake_free(li->intake);
    if (li->unbound) li->unbound(li->unbound_arg);
    free(li);
}

static void on_intake_closed(void *arg, struct intake *in) {
    struct lane *lane = arg;
    struct lane_intake *li = lane->intakes;
    while (li->intake != in) li = li->next;
    loop_defer(lane->c->loop, &li->gone);
}

void lane_bind(struct lane *lane, const struct binding *b) {
    MUST(!lane->closing);
    const struct intake_config config = {.loop = lane->c->loop,
                                         .binding = b,
                                         .metrics = lane->c->metrics,
                                         .settle = lane->settle,
                                         .lane = lane,
                                         .max_deliveries = (uint32_t)lane->c->options->max_deliveries.number,
                                         .run = run,
                                         .is_held = is_held,
                                         .has_room = has_room,
                                         .is_waiting = is_waiting,
                                         .take_waiting = take_waiting,
                                         .on_closed = on_intake_closed,
                                         .arg = lane};
    struct lane_intake *li = mem_zalloc(sizeof *li);
    *li = (struct lane_intake){
        .next = lane->intakes, .intake = intake_new(&config), .gone = {.fn = on_intake_gone, .arg = li}, .lane = lane};
    lane->intakes = li;
}

bool lane_unbind(struct lane *lane, const struct binding *b, void (*unbound)(void *arg), void *arg) {
    for (struct lane_intake *li = lane->intakes; li; li = li->next) {
        if (intake_binding(li->intake) != b) continue;
        li->unbound = unbound;
        li->unbound_arg = arg;
        intake_close(li->intake);
        return true;
    }
    return false;
}

const struct intake *lane_intake(const struct lane *lane, struct str name) {
    for (const struct lane_intake *li = lane->intakes; li; li = li->next)
        if (!intake_is_closing(li->intake) && str_is(name, intake_binding(li->intake)->name)) return li->intake;
    return NULL;
}

struct outlet *lane_outlet(const struct lane *lane, const struct delivery *d, bool failure) {
    const struct intake *in = d->intake ? d->intake : lane->intakes ? lane_intake(lane, d->ev->f.source_name) : NULL;
    if (!in) return NULL;
    const struct binding *b = intake_binding(in);
    return (failure ? b->on_failure : b->on_success) ? intake_outlet(in) : NULL;
}

// --- life -----------------------------------------------------------------------------------------------------------

struct lane *lane_new(const struct dispatch_config *config, struct fleet *fleet, struct settle *settle, struct str name) {
    struct lane *lane = mem_zalloc(sizeof *lane);
    *lane = (struct lane){.c = config, .settle = settle, .name = mem_strndup(name)};
    lane->pools = (struct pools){.c = config,
                                 .fleet = fleet,
                                 .name = lane->name,
                                 .on_handout = on_handout,
                                 .on_outcome = on_outcome,
                                 .on_change = on_pools_change,
                                 .arg = lane};
    lookup_init(&lane->lookup, config->registry, on_looked, lane);
    return lane;
}

void lane_open(struct lane *lane) {
    MUST(!lane->closing);
    struct queue_consumer_config config = {.function = str_of(lane->name),
                                           .credit = (size_t)lane->c->options->credit.number,
                                           .credit_bytes = (size_t)lane->c->options->credit_bytes.number,
                                           .on_messages = on_durable_messages,
                                           .on_lost = on_lost,
                                           .arg = lane};
    if (!lane->durable) lane->durable = queue_consume(lane->c->queue, &config);
    config.on_messages = on_sync_messages;
    config.on_lost = NULL;
    if (!lane->sync) lane->sync = queue_consume(lane->c->sync_lane, &config);
}

static void close_consumers(struct lane *lane) {
    if (lane->durable) queue_consumer_close(lane->durable);
    if (lane->sync) queue_consumer_close(lane->sync);
    lane->durable = lane->sync = NULL;
}

void lane_close(struct lane *lane) {
    lane->closing = true;
    lane_pause(lane);
    lane_give_back(lane);
    for (struct lane_intake *li = lane->intakes; li; li = li->next) intake_close(li->intake);
    pools_retire(&lane->pools, true);
}

void lane_pause_sync(struct lane *lane) {
    if (lane->sync) queue_consumer_pause(lane->sync);
}

void lane_reroute(struct lane *lane) {
    struct delivery *all = pools_take_waiting(&lane->pools, NULL, NULL), *d, *next;
    pools_retire(&lane->pools, false);
    DL_FOREACH_SAFE(all, d, next) {
        DL_DELETE(all, d);
        lane_route(lane, d);
    }
    pools_drop_empty(&lane->pools);
}

void lane_pump(struct lane *lane) {
    pools_pump(&lane->pools);
}

bool lane_yield(struct lane *lane) {
    return pools_yield(&lane->pools);
}

bool lane_is_hungry(const struct lane *lane) {
    return pools_are_hungry(&lane->pools);
}

bool lane_evict_idle(struct lane *lane) {
    return pools_evict_idle(&lane->pools);
}

static double mean_rate(double before, uint64_t count, double seconds) {
    double now = (double)count / seconds;
    double mean = before * 0.6 + now * 0.4;
    return mean < 0.01 ? 0 : mean;
}

void lane_tick(struct lane *lane, double seconds) {
    metrics_set(lane->c->metrics, METRIC_INSTANCES, str_of(lane->name), (double)lane_instances(lane));
    lane->ok_rate = mean_rate(lane->ok_rate, lane->ok - lane->ok_before, seconds);
    lane->failed_rate = mean_rate(lane->failed_rate, lane->failed - lane->failed_before, seconds);
    lane->ok_before = lane->ok;
    lane->failed_before = lane->failed;
    wake_intakes(lane);
}

void lane_pause(struct lane *lane) {
    if (lane->durable) queue_consumer_pause(lane->durable);
    for (struct lane_intake *li = lane->intakes; li; li = li->next) intake_pause(li->intake);
    give_back(lane, WHOSE_ASYNC);
}

void lane_give_back(struct lane *lane) {
    give_back(lane, WHOSE_ALL);
}

void lane_kill(struct lane *lane) {
    lane->killed = true;
    pools_kill(&lane->pools);
}

size_t lane_open_count(const struct lane *lane) {
    size_t n = lane->open;
    for (const struct lane_intake *li = lane->intakes; li; li = li->next) n += intake_open(li->intake);
    return n;
}

bool lane_is_quiet(const struct lane *lane) {
    for (const struct lane_intake *li = lane->intakes; li; li = li->next)
        if (!intake_is_quiet(li->intake)) return false;
    return lane->open == 0 && (!lane->durable || queue_unsettled(lane->durable) == 0);
}

size_t lane_instances(const struct lane *lane) {
    return pools_count(&lane->pools).instances;
}

json_t *lane_status(const struct lane *lane) {
    const struct pools_count n = pools_count(&lane->pools);
    json_t *bindings = json_array();
    for (const struct lane_intake *li = lane->intakes; li; li = li->next)
        json_array_append_new(bindings, intake_status(li->intake));
    const struct function *fn = registry_find(lane->c->registry, str_of(lane->name));
    return json_pack("{ss sI sI sI sI sI sI sI sf sf so}", "name", lane->name, "current", (json_int_t)(fn ? fn->current : 0),
                     "unsettled", (json_int_t)lane_open_count(lane), "handedOut", (json_int_t)(n.waiting + n.in_flight), "instances",
                     (json_int_t)n.instances, "busy", (json_int_t)n.busy, "ok", (json_int_t)lane->ok, "failed",
                     (json_int_t)lane->failed, "okPerSecond", lane->ok_rate, "failedPerSecond", lane->failed_rate, "bindings", bindings);
}

void lane_free(struct lane *lane) {
    if (!lane) return;
    metrics_set(lane->c->metrics, METRIC_INSTANCES, str_of(lane->name), 0); // a lane that came after it says so itself
    close_consumers(lane);
    while (lane->intakes) {
        struct lane_intake *li = lane->intakes;
        lane->intakes = li->next;
        loop_defer_cancel(lane->c->loop, &li->gone);
        intake_free(li->intake);
        free(li);
    }
    pools_done(&lane->pools);
    free(lane->name);
    free(lane);
}
