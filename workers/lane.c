// SPDX-License-Identifier: Apache-2.0
#include "workers/lane.h"

#include <unistd.h>
#include <utlist.h>

#include "core/base/clock.h"

// --- pools ----------------------------------------------------------------------------------------------------------

static void on_outcome(void *arg, struct delivery *d, const struct outcome_report *report) {
    struct lane *lane = arg;
    if (report->outcome == OUTCOME_OK) lane->ok++;
    else lane->failed++;
    settle_outcome(lane->settle, d, report);
}

static bool is_current(const struct lane *lane, const struct pool *pool) {
    const struct function *fn = registry_find(lane->c->registry, str_of(lane->name));
    return fn && function_version(fn, fn->current) == pool_version(pool); // the number may be another function's by now
}

static bool is_empty(const struct pool *pool) {
    return pool_instances(pool) == 0 && pool_waiting(pool) == 0 && pool_in_flight(pool) == 0;
}

static void free_empty_pools(struct lane *lane) {
    for (struct lane_pool **at = &lane->pools; *at;) {
        struct lane_pool *lp = *at;
        if (!is_empty(lp->pool) || is_current(lane, lp->pool)) {
            at = &lp->next;
            continue;
        }
        *at = lp->next;
        pool_free(lp->pool);
        free(lp);
    }
}

static void on_pool_change(void *arg, struct pool *pool) {
    (void)pool;
    free_empty_pools(arg);
}

static bool is_expired(const struct delivery *d, const struct version *v) {
    const struct ev_fields *f = &d->ev->f;
    return f->invocation == EV_ASYNC && clock_unix_ms() - f->accepted_ms > v->settings.max_age_ms;
}

// Ends a delivery that nobody wants any more; false: it is to be run.
static bool drop_unwanted(struct lane *lane, struct delivery *d, const struct version *v) {
    if (delivery_is_sync(d) && !ingest_is_awaited(lane->c->ingest, &d->ev->f.id)) {
        delivery_settle(d); // its caller went away
        return true;
    }
    if (!is_expired(d, v)) return false;
    settle_refuse(lane->settle, d, LETTER_EXPIRED, ERR_TIMEOUT, "Expired",
                  STR_LIT("it waited longer than the function's maximum age"));
    return true;
}

// It may have waited long for its turn.
static bool on_handout(void *arg, struct delivery *d) {
    return drop_unwanted(arg, d, d->version);
}

// The version's own word, else the server's setting, else one a processor.
static size_t max_instances(const struct lane *lane, const struct version *v) {
    if (v->settings.max_instances) return v->settings.max_instances;
    if (lane->c->options->function_instances.number) return (size_t)lane->c->options->function_instances.number;
    return (size_t)sysconf(_SC_NPROCESSORS_ONLN);
}

static struct pool *pool_for(struct lane *lane, struct version *v) {
    for (struct lane_pool *lp = lane->pools; lp; lp = lp->next)
        if (pool_version(lp->pool) == v) return lp->pool;
    const struct pool_config config = {.loop = lane->c->loop,
                                       .fleet = lane->fleet,
                                       .registry = lane->c->registry,
                                       .metrics = lane->c->metrics,
                                       .version = v,
                                       .idle_ms = lane->c->options->instance_idle_ms.number,
                                       .max_instances = max_instances(lane, v),
                                       .on_handout = on_handout,
                                       .on_outcome = on_outcome,
                                       .on_change = on_pool_change,
                                       .arg = lane};
    struct lane_pool *lp = mem_zalloc(sizeof *lp);
    *lp = (struct lane_pool){.next = lane->pools, .pool = pool_new(&config)};
    lane->pools = lp;
    return lp->pool;
}

// --- routing --------------------------------------------------------------------------------------------------------

void lane_route(struct lane *lane, struct delivery *d) {
    struct err err = {0};
    struct version *v;
    int rc = registry_resolve(lane->c->registry, str_of(lane->name), d->ev->f.qualifier, &v, &err);
    if (rc) {
        settle_refuse(lane->settle, d, LETTER_UNROUTABLE, rc, "Unroutable", str_of(err.text));
        return;
    }
    if (drop_unwanted(lane, d, v)) return;
    struct version *before = d->version;
    d->version = version_ref(v);
    version_unref(before);
    pool_submit(pool_for(lane, v), d);
}

static void receive(struct lane *lane, struct queue_consumer *consumer, const struct queue_msg *msg) {
    struct delivery *d = delivery_new(msg, consumer, lane, &lane->open);
    const struct ev_fields *f = &d->ev->f;
    if (msg->content == QUEUE_UNDECODABLE) {
        settle_refuse(lane->settle, d, LETTER_UNDECODABLE, ERR_CORRUPT, "Undecodable", msg->why);
    } else if (f->payload.len > EV_PAYLOAD_MAX) { // put on the broker by somebody else
        settle_refuse(lane->settle, d, LETTER_UNDECODABLE, ERR_TOO_LARGE, "TooLarge",
                      STR_LIT("its payload is larger than an event's may be"));
    } else if (msg->delivery_count >= (uint32_t)lane->c->options->max_deliveries.number) {
        settle_refuse(lane->settle, d, LETTER_PLATFORM, ERR_INTERNAL, "DeliveryLimit",
                      STR_LIT("the server died each time it had this event; see --max-deliveries"));
    } else {
        if (f->attempt == 0)
            metrics_observe(lane->c->metrics, METRIC_WAIT_SECONDS, str_of(lane->name),
                            (double)(clock_unix_ms() - f->accepted_ms) / 1e3);
        lane_route(lane, d);
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

// Gives back what waits in the pool, the sync ones too when `all`.
static void give_back(struct pool *pool, bool all) {
    struct delivery *list = pool_take_waiting(pool), *d, *next;
    DL_FOREACH_SAFE(list, d, next) {
        DL_DELETE(list, d);
        if (delivery_is_sync(d) && !all) pool_submit(pool, d);
        else delivery_release(d);
    }
}

// The broker delivers again what was not acknowledged: it must not wait here too.
static void on_lost(void *arg) {
    struct lane *lane = arg;
    for (struct lane_pool *lp = lane->pools; lp; lp = lp->next) give_back(lp->pool, false);
}

// --- life -----------------------------------------------------------------------------------------------------------

struct lane *lane_new(const struct dispatch_config *config, struct fleet *fleet, struct settle *settle, struct str name) {
    struct lane *lane = mem_zalloc(sizeof *lane);
    *lane = (struct lane){.c = config, .fleet = fleet, .settle = settle, .name = mem_strndup(name)};
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
    for (struct lane_pool *lp = lane->pools; lp; lp = lp->next) pool_retire(lp->pool);
}

void lane_pause_sync(struct lane *lane) {
    if (lane->sync) queue_consumer_pause(lane->sync);
}

void lane_reroute(struct lane *lane) {
    struct delivery *all = NULL, *d, *next;
    for (struct lane_pool *lp = lane->pools; lp; lp = lp->next) {
        struct delivery *waiting = pool_take_waiting(lp->pool);
        DL_CONCAT(all, waiting);
        if (!is_current(lane, lp->pool)) pool_retire(lp->pool);
    }
    DL_FOREACH_SAFE(all, d, next) {
        DL_DELETE(all, d);
        lane_route(lane, d);
    }
    free_empty_pools(lane);
}

void lane_pump(struct lane *lane) {
    for (struct lane_pool *lp = lane->pools; lp; lp = lp->next) pool_pump(lp->pool);
}

bool lane_yield(struct lane *lane) {
    for (struct lane_pool *lp = lane->pools; lp; lp = lp->next)
        if (pool_yield(lp->pool)) return true;
    return false;
}

bool lane_is_hungry(const struct lane *lane) {
    for (const struct lane_pool *lp = lane->pools; lp; lp = lp->next)
        if (pool_waiting(lp->pool) && pool_instances(lp->pool) == 0) return true;
    return false;
}

bool lane_evict_idle(struct lane *lane) {
    for (struct lane_pool *lp = lane->pools; lp; lp = lp->next)
        if (pool_evict_idle(lp->pool)) return true;
    return false;
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
}

void lane_pause(struct lane *lane) {
    if (lane->durable) queue_consumer_pause(lane->durable);
    for (struct lane_pool *lp = lane->pools; lp; lp = lp->next) give_back(lp->pool, false);
}

void lane_give_back(struct lane *lane) {
    for (struct lane_pool *lp = lane->pools; lp; lp = lp->next) give_back(lp->pool, true);
}

void lane_kill(struct lane *lane) {
    for (struct lane_pool *lp = lane->pools; lp; lp = lp->next) pool_kill(lp->pool);
}

bool lane_is_quiet(const struct lane *lane) {
    return lane->open == 0 && (!lane->durable || queue_unsettled(lane->durable) == 0);
}

size_t lane_instances(const struct lane *lane) {
    size_t n = 0;
    for (struct lane_pool *lp = lane->pools; lp; lp = lp->next) n += pool_instances(lp->pool);
    return n;
}

json_t *lane_status(const struct lane *lane) {
    size_t waiting = 0, in_flight = 0, busy = 0;
    for (struct lane_pool *lp = lane->pools; lp; lp = lp->next) {
        waiting += pool_waiting(lp->pool);
        in_flight += pool_in_flight(lp->pool);
        busy += pool_busy(lp->pool);
    }
    const struct function *fn = registry_find(lane->c->registry, str_of(lane->name));
    return json_pack("{ss sI sI sI sI sI sI sI sf sf}", "name", lane->name, "current", (json_int_t)(fn ? fn->current : 0),
                     "unsettled", (json_int_t)lane->open, "handedOut", (json_int_t)(waiting + in_flight), "instances",
                     (json_int_t)lane_instances(lane), "busy", (json_int_t)busy, "ok", (json_int_t)lane->ok, "failed",
                     (json_int_t)lane->failed, "okPerSecond", lane->ok_rate, "failedPerSecond", lane->failed_rate);
}

void lane_free(struct lane *lane) {
    if (!lane) return;
    metrics_set(lane->c->metrics, METRIC_INSTANCES, str_of(lane->name), 0); // a lane that came after it says so itself
    close_consumers(lane);
    while (lane->pools) {
        struct lane_pool *lp = lane->pools;
        lane->pools = lp->next;
        pool_free(lp->pool);
        free(lp);
    }
    free(lane->name);
    free(lane);
}
