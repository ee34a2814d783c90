// SPDX-License-Identifier: Apache-2.0
// Invariants: `instances` holds those from fleet_take until on_gone; a pool starts instances only after registry_prepare said that the code is there.
#include "workers/pool.h"

#include <unistd.h>
#include <utlist.h>

#include "core/base/clock.h"
#include "core/base/log.h"

#define SLOW_NS 5000000  // handlers slower than this get instances for all that waits at once
#define TROUBLE_MS 1000  // pause after the system had no room for a process

struct pool {
    struct pool_config c;
    struct instance *instances;
    size_t instance_count, in_flight;
    struct delivery *sync_waiting, *async_waiting;
    size_t waiting;
    enum { CODE_UNKNOWN, CODE_PREPARING, CODE_THERE } code;
    bool retiring, killed, freed;
    struct defer pump;
    struct timer *tick; // idle instances; trouble
    struct log_repeat trouble;
    int64_t mean_service_ns;
};

static struct instance_links *links(struct instance *inst) {
    return instance_links(inst);
}

static struct delivery **list_of(struct pool *p, const struct delivery *d) {
    return delivery_is_sync(d) ? &p->sync_waiting : &p->async_waiting;
}

static struct delivery *first_waiting(struct pool *p) {
    return p->sync_waiting ? p->sync_waiting : p->async_waiting;
}

static struct delivery *pop_waiting(struct pool *p) {
    struct delivery *d = first_waiting(p);
    if (d) {
        struct delivery **list = list_of(p, d);
        DL_DELETE(*list, d);
        p->waiting--;
    }
    return d;
}

static void fail_first(struct pool *p, const struct outcome_report *report) {
    struct delivery *d = pop_waiting(p);
    if (!d) {
        log_warn("pool", "an instance did not start", LOG_STR("function", p->c.version->function),
                 LOG_SPAN("error", report->error_message));
        return;
    }
    delivery_move(d, DELIVERY_FINISHED);
    p->c.on_outcome(p->c.arg, d, report);
}

// --- the host of the instances --------------------------------------------------------------------------------------

static void on_ready(void *arg, struct instance *inst) {
    (void)inst;
    struct pool *p = arg;
    pool_pump(p);
    if (p->retiring) pool_retire(p);
    p->c.on_change(p->c.arg, p);
}

static void on_load_failed(void *arg, struct instance *inst, const struct outcome_report *report) {
    (void)inst;
    fail_first(arg, report);
}

static void on_outcome(void *arg, struct instance *inst, struct delivery *d, const struct outcome_report *report) {
    struct pool *p = arg;
    p->in_flight--;
    p->mean_service_ns = instance_service_ns(inst);
    p->c.on_outcome(p->c.arg, d, report);
}

static void on_unbegun(void *arg, struct instance *inst, struct delivery *d) {
    (void)inst;
    struct pool *p = arg;
    p->in_flight--;
    struct delivery **list = list_of(p, d);
    DL_PREPEND(*list, d);
    p->waiting++;
    loop_defer(p->c.loop, &p->pump);
}

static void on_room(void *arg, struct instance *inst) {
    struct pool *p = arg;
    (void)inst;
    pool_pump(p);
    if (p->retiring) pool_retire(p);
    p->c.on_change(p->c.arg, p);
}

static void on_gone(void *arg, struct instance *inst) {
    struct pool *p = arg;
    struct instance_links *l = links(inst);
    if (l->prev) links(l->prev)->next = l->next;
    else p->instances = l->next;
    if (l->next) links(l->next)->prev = l->prev;
    p->instance_count--;
    loop_defer(p->c.loop, &p->pump);
    fleet_gone(p->c.fleet);
    p->c.on_change(p->c.arg, p);
}

static const struct instance_host host = {
    .on_ready = on_ready,
    .on_load_failed = on_load_failed,
    .on_outcome = on_outcome,
    .on_unbegun = on_unbegun,
    .on_room = on_room,
    .on_gone = on_gone,
};

// --- starting instances ---------------------------------------------------------------------------------------------

static void fail_all(struct pool *p, enum outcome outcome, const char *type, const char *why) {
    const struct outcome_report report = {.outcome = outcome,
                                          .error_type = str_of(type),
                                          .error_message = str_of(why),
                                          .start_unix_ms = clock_unix_ms(),
                                          .version = p->c.version->number};
    while (first_waiting(p)) fail_first(p, &report);
}

static bool start_instance(struct pool *p) {
    struct instance *inst;
    struct err err = {0};
    int rc = fleet_take(p->c.fleet, p->c.version->settings.runtime, p->instance_count == 0, &host, p, &inst, &err);
    if (rc == ERR_INVALID) {
        fail_all(p, OUTCOME_PLATFORM, "RuntimeMissing", err.text);
        return false;
    }
    if (rc) {
        if (rc != ERR_BUSY) log_repeating(&p->trouble, LOG_LEVEL_WARN, "pool", "cannot start an instance", err.text);
        timer_start(p->tick, TROUBLE_MS);
        return false;
    }
    *links(inst) = (struct instance_links){.next = p->instances};
    if (p->instances) links(p->instances)->prev = inst;
    p->instances = inst;
    p->instance_count++;
    metrics_add(p->c.metrics, METRIC_COLD_STARTS, str_of(p->c.version->function), 1);
    instance_assign(inst, p->c.version);
    timer_start(p->tick, p->c.idle_ms);
    return true;
}

static void on_prepared(void *arg, int code, const struct err *err) {
    struct pool *p = arg;
    p->code = code ? CODE_UNKNOWN : CODE_THERE;
    if (p->freed) {
        p->code = CODE_UNKNOWN;
        pool_free(p);
        return;
    }
    if (code) fail_all(p, OUTCOME_PLATFORM, "CodeUnavailable", err->text);
    else pool_pump(p);
    p->c.on_change(p->c.arg, p);
}

static size_t count_starting(const struct pool *p) {
    size_t n = 0;
    for (struct instance *i = p->instances; i; i = links(i)->next) n += instance_state(i) == INSTANCE_LOADING;
    return n;
}

// How many may be starting at once: all that events wait for when the handler is slow, one when it is fast.
static size_t starts_wanted(const struct pool *p) {
    bool known_fast = p->mean_service_ns > 0 && p->mean_service_ns < SLOW_NS;
    return known_fast ? 1 : p->waiting;
}

static void grow(struct pool *p) {
    if (p->killed || (p->retiring && p->instance_count > 0)) return;
    if (p->code == CODE_UNKNOWN) {
        p->code = CODE_PREPARING;
        registry_prepare(p->c.registry, p->c.version, on_prepared, p);
    }
    if (p->code != CODE_THERE) return;
    size_t starting = count_starting(p);
    for (; p->waiting > 0 && p->instance_count < p->c.max_instances && starting < starts_wanted(p); starting++)
        if (!start_instance(p)) return;
}

// --- handing out ----------------------------------------------------------------------------------------------------

// The instance with room that has the least to do.
static struct instance *choose(const struct pool *p) {
    struct instance *best = NULL;
    for (struct instance *i = p->instances; i; i = links(i)->next) {
        if (instance_room(i) == 0) continue;
        if (instance_in_flight(i) == 0) return i;
        if (!best || instance_in_flight(i) < instance_in_flight(best)) best = i;
    }
    return best;
}

void pool_pump(struct pool *p) {
    struct instance *inst;
    while (p->waiting && (inst = choose(p))) {
        struct delivery *d = pop_waiting(p);
        if (p->c.on_handout(p->c.arg, d)) continue;
        p->in_flight++;
        instance_invoke(inst, d);
    }
    if (p->waiting) grow(p);
}

bool pool_is_hungry(const struct pool *p) {
    if (p->waiting || p->killed) return false;
    for (struct instance *i = p->instances; i; i = links(i)->next)
        if (instance_room(i) && instance_in_flight(i) == 0) return true;
    bool slow = p->mean_service_ns >= SLOW_NS;
    return p->instance_count == 0 || (slow && p->instance_count < p->c.max_instances && count_starting(p) == 0);
}

bool pool_has_waiting_of(const struct pool *p, const struct intake *in) {
    for (const struct delivery *d = p->async_waiting; d; d = d->next)
        if (d->intake == in) return true;
    return false;
}

static void on_pump(void *arg) {
    pool_pump(arg);
}

void pool_submit(struct pool *p, struct delivery *d) {
    if (d->state != DELIVERY_WAITING) delivery_move(d, DELIVERY_WAITING);
    struct delivery **list = list_of(p, d);
    DL_APPEND(*list, d);
    p->waiting++;
    p->retiring = false;
    loop_defer(p->c.loop, &p->pump);
}

struct delivery *pool_take_waiting(struct pool *p) {
    struct delivery *all = p->sync_waiting;
    DL_CONCAT(all, p->async_waiting);
    p->sync_waiting = p->async_waiting = NULL;
    p->waiting = 0;
    return all;
}

struct delivery *pool_take(struct pool *p, const struct id *id) {
    struct delivery *d;
    DL_FOREACH(p->async_waiting, d) {
        if (!id_eq(&d->ev->f.id, id)) continue;
        DL_DELETE(p->async_waiting, d);
        p->waiting--;
        return d;
    }
    return NULL;
}

bool pool_cancel(struct pool *p, const struct id *id) {
    for (struct instance *i = p->instances; i; i = links(i)->next)
        if (instance_cancel(i, id)) return true;
    return false;
}

// --- letting go -----------------------------------------------------------------------------------------------------

static bool is_idle(const struct instance *inst) {
    return instance_state(inst) == INSTANCE_READY && instance_in_flight(inst) == 0;
}

static void on_tick(void *arg) {
    struct pool *p = arg;
    int64_t now = loop_now_ns(p->c.loop);
    for (struct instance *i = p->instances; i; i = links(i)->next)
        if (is_idle(i) && !p->waiting && now - instance_idle_since_ns(i) >= p->c.idle_ms * NS_PER_MS) instance_stop(i);
    pool_pump(p);
    if (p->instance_count || p->waiting) timer_start(p->tick, p->waiting ? TROUBLE_MS : p->c.idle_ms / 2 + 1);
}

bool pool_evict_idle(struct pool *p) {
    struct instance *oldest = NULL;
    if (p->waiting) return false;
    for (struct instance *i = p->instances; i; i = links(i)->next)
        if (is_idle(i) && (!oldest || instance_idle_since_ns(i) < instance_idle_since_ns(oldest))) oldest = i;
    if (oldest) instance_stop(oldest);
    return oldest != NULL;
}

bool pool_yield(struct pool *p) {
    if (p->instance_count < 2) return false;
    for (struct instance *i = p->instances; i; i = links(i)->next) {
        if (instance_state(i) != INSTANCE_READY || instance_is_retiring(i)) continue;
        instance_retire(i);
        return true;
    }
    return false;
}

void pool_retire(struct pool *p) {
    p->retiring = true;
    for (struct instance *i = p->instances; i && !p->waiting; i = links(i)->next)
        if (is_idle(i)) instance_stop(i);
}

void pool_kill(struct pool *p) {
    p->killed = p->retiring = true;
    for (struct instance *i = p->instances; i; i = links(i)->next) instance_kill(i, true);
}

// --- life -----------------------------------------------------------------------------------------------------------

struct pool *pool_new(const struct pool_config *config) {
    struct pool *p = mem_zalloc(sizeof *p);
    p->c = *config;
    p->c.version = version_ref(config->version);
    p->pump = (struct defer){.fn = on_pump, .arg = p};
    p->tick = timer_new(config->loop, on_tick, p);
    return p;
}

struct version *pool_version(const struct pool *p) {
    return p->c.version;
}

size_t pool_waiting(const struct pool *p) {
    return p->waiting;
}

size_t pool_in_flight(const struct pool *p) {
    return p->in_flight;
}

size_t pool_instances(const struct pool *p) {
    return p->instance_count;
}

size_t pool_busy(const struct pool *p) {
    size_t n = 0;
    for (struct instance *i = p->instances; i; i = links(i)->next) n += instance_in_flight(i) > 0;
    return n;
}

void pool_free(struct pool *p) {
    if (!p) return;
    MUST(p->instance_count == 0 && p->waiting == 0);
    if (p->code == CODE_PREPARING) { // its answer is still to come
        p->freed = true;
        return;
    }
    loop_defer_cancel(p->c.loop, &p->pump);
    timer_free(p->tick);
    version_unref(p->c.version);
    free(p);
}
