// SPDX-License-Identifier: Apache-2.0
// Owns the lanes, the fleet and the settler, and the two things that concern them all: the pressure on instances, and
// the drain. A drain goes through the phases of `enum drain`, looked at every DRAIN_LOOK_MS.
#include "workers/dispatch.h"

#include <utlist.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "workers/check.h"
#include "workers/lane.h"

#define TICK_MS 1000
#define DRAIN_LOOK_MS 10

enum drain {
    DRAIN_NONE,
    DRAIN_FINISH, // what runs may finish
    DRAIN_KILL,   // the grace is over: instances are killed, events given back
    DRAIN_LAST,   // idle instances end
};

struct dispatch {
    struct dispatch_config c;
    struct fleet *fleet;
    struct settle *settle;
    struct lane *lanes;   // by name
    struct lane *retired; // of deleted functions: they finish what runs; a function of that name gets a new one
    struct check *checks; // of deploys under way
    struct timer *tick, *drain_timer;
    enum drain drain;
    int64_t drain_until_ns;
    void (*drained)(void *arg);
    void *drained_arg;
};

static struct lane *find_lane(const struct dispatch *d, struct str name) {
    struct lane *lane;
    HASH_FIND(hh, d->lanes, name.data, name.len, lane);
    return lane;
}

static void each_lane(struct dispatch *d, void (*fn)(struct lane *lane)) {
    for (struct lane *lane = d->lanes; lane; lane = lane->hh.next) fn(lane);
    for (struct lane *lane = d->retired; lane; lane = lane->next_retired) fn(lane);
}

static void pump_hungry(struct lane *lane) {
    if (lane_is_hungry(lane)) lane_pump(lane);
}

// Whoever has no instance comes first, or the one that gave a place up would have it again.
static void on_room(void *arg) {
    each_lane(arg, pump_hungry);
    each_lane(arg, lane_pump);
}

static bool on_pressure(void *arg) {
    struct dispatch *d = arg;
    for (struct lane *lane = d->lanes; lane; lane = lane->hh.next)
        if (lane_evict_idle(lane)) return true;
    return false;
}

static bool on_hunger(void *arg) {
    struct dispatch *d = arg;
    struct lane *richest = NULL;
    for (struct lane *lane = d->lanes; lane; lane = lane->hh.next)
        if (!richest || lane_instances(lane) > lane_instances(richest)) richest = lane;
    return richest && lane_yield(richest);
}

static void on_again(void *arg, struct delivery *delivery) {
    (void)arg;
    lane_route(delivery->lane, delivery);
}

static void on_rest(void *arg, struct delivery *delivery, int64_t delay_ms) {
    (void)arg;
    intake_rest(delivery->intake, delivery, delay_ms);
}

static struct outlet *outlet_of(void *arg, const struct delivery *delivery, bool failure) {
    (void)arg;
    return lane_outlet(delivery->lane, delivery, failure);
}

static void on_due(void *arg, int64_t due_ms) {
    struct dispatch *d = arg;
    d->c.on_due(d->c.due_arg, due_ms);
}

static void free_retired(struct dispatch *d) {
    for (struct lane **at = &d->retired; *at;) {
        struct lane *lane = *at;
        if (!lane_is_quiet(lane) || lane_instances(lane) || lane->intakes) {
            at = &lane->next_retired;
            continue;
        }
        *at = lane->next_retired;
        lane_free(lane);
    }
}

static void on_tick(void *arg) {
    struct dispatch *d = arg;
    for (struct lane *lane = d->lanes; lane; lane = lane->hh.next) lane_tick(lane, TICK_MS / 1e3);
    free_retired(d);
    timer_start(d->tick, TICK_MS);
}

static void look_at_drain(void *arg);

struct dispatch *dispatch_new(const struct dispatch_config *config) {
    struct dispatch *d = mem_zalloc(sizeof *d);
    d->c = *config;
    const struct fleet_config fleet = {.loop = config->loop,
                                       .options = config->options,
                                       .runtimes = config->runtimes,
                                       .sandbox = config->sandbox,
                                       .log = config->log,
                                       .on_room = on_room,
                                       .on_pressure = on_pressure,
                                       .on_hunger = on_hunger,
                                       .arg = d};
    d->fleet = fleet_new(&fleet);
    const struct settle_config settle = {.loop = config->loop,
                                         .letters = config->letters,
                                         .fires = config->fires,
                                         .replays = config->replays,
                                         .ingest = config->ingest,
                                         .metrics = config->metrics,
                                         .on_due = on_due,
                                         .on_again = on_again,
                                         .on_rest = on_rest,
                                         .outlet_of = outlet_of,
                                         .arg = d};
    d->settle = settle_new(&settle);
    d->tick = timer_new(config->loop, on_tick, d);
    d->drain_timer = timer_new(config->loop, look_at_drain, d);
    timer_start(d->tick, TICK_MS);
    return d;
}

static void retire(struct dispatch *d, struct lane *lane) {
    HASH_DEL(d->lanes, lane);
    lane->next_retired = d->retired;
    d->retired = lane;
    lane_close(lane);
}

void dispatch_function_changed(struct dispatch *d, struct str name, struct function *fn) {
    if (d->drain != DRAIN_NONE) return;
    struct lane *lane = find_lane(d, name);
    if (!fn) {
        if (lane) retire(d, lane);
        return;
    }
    if (!lane) {
        for (struct lane *old = d->retired; old; old = old->next_retired)
            if (str_is(name, old->name)) lane_pause_sync(old);
        lane = lane_new(&d->c, d->fleet, d->settle, name);
        HASH_ADD_KEYPTR(hh, d->lanes, lane->name, strlen(lane->name), lane);
    }
    lane_open(lane);
    lane_reroute(lane);
}

void dispatch_check(struct dispatch *d, struct version *v, check_done_fn *done, void *arg) {
    check_version(d->fleet, v, &d->checks, done, arg);
}

json_t *dispatch_status(const struct dispatch *d) {
    json_t *functions = json_array();
    for (struct lane *lane = d->lanes; lane; lane = lane->hh.next)
        json_array_append_new(functions, lane_status(lane));
    return functions;
}

// --- bindings -------------------------------------------------------------------------------------------------------

void dispatch_bind(struct dispatch *d, const struct binding *b) {
    struct lane *lane = find_lane(d, str_of(b->function));
    if (d->drain != DRAIN_NONE) return;
    if (lane) lane_bind(lane, b);
    else log_error("dispatch", "no such function to bind to", LOG_STR("trigger", b->name), LOG_STR("function", b->function));
}

// Of a binding that is not here: it never was, or its function was deleted and it has closed since.
struct goodbye {
    struct defer defer;
    void (*unbound)(void *arg);
    void *arg;
};

static void say_goodbye(void *arg) {
    struct goodbye *g = arg;
    g->unbound(g->arg);
    free(g);
}

void dispatch_unbind(struct dispatch *d, const struct binding *b, void (*unbound)(void *arg), void *arg) {
    struct lane *lane = find_lane(d, str_of(b->function));
    if (lane && lane_unbind(lane, b, unbound, arg)) return;
    for (lane = d->retired; lane; lane = lane->next_retired)
        if (lane_unbind(lane, b, unbound, arg)) return;
    struct goodbye *g = mem_zalloc(sizeof *g);
    *g = (struct goodbye){.defer = {.fn = say_goodbye, .arg = g}, .unbound = unbound, .arg = arg};
    loop_defer(d->c.loop, &g->defer);
}

json_t *dispatch_binding_status(const struct dispatch *d, struct str function, struct str name) {
    const struct lane *lane = find_lane(d, function);
    const struct intake *in = lane ? lane_intake(lane, name) : NULL;
    return in ? intake_status(in) : NULL;
}

// --- fires ----------------------------------------------------------------------------------------------------------

void dispatch_cancel(struct dispatch *d, const struct id *id) {
    for (struct lane *lane = d->lanes; lane; lane = lane->hh.next)
        if (lane_cancel(lane, id)) return;
    for (struct lane *lane = d->retired; lane; lane = lane->next_retired)
        if (lane_cancel(lane, id)) return;
}

// --- drain ----------------------------------------------------------------------------------------------------------

static bool is_quiet(const struct lane *lane, bool acks) {
    return acks ? lane_is_quiet(lane) : lane_open_count(lane) == 0;
}

// Nothing runs or is being stored; with `acks`, the queue also knows of every acknowledgement.
static bool all_quiet(const struct dispatch *d, bool acks) {
    for (struct lane *lane = d->lanes; lane; lane = lane->hh.next)
        if (!is_quiet(lane, acks)) return false;
    for (struct lane *lane = d->retired; lane; lane = lane->next_retired)
        if (!is_quiet(lane, acks)) return false;
    return settle_pending(d->settle) == 0;
}

// From here on nothing is taken: sync callers that still wait are told so.
static void close_door(struct dispatch *d) {
    each_lane(d, lane_pause_sync);
    ingest_stop(d->c.ingest);
}

static void enter_kill(struct dispatch *d) {
    log_warn("dispatch", "the grace time is over: events that still run are given back to their queues");
    d->drain = DRAIN_KILL;
    close_door(d);
    each_lane(d, lane_kill);
}

static void enter_last(struct dispatch *d) {
    d->drain = DRAIN_LAST;
    close_door(d);
    each_lane(d, lane_kill); // idle: nothing is lost by the quick way
    check_kill_all(d->checks);
}

static void look_at_drain(void *arg) {
    struct dispatch *d = arg;
    if (d->drain == DRAIN_FINISH) {
        each_lane(d, lane_pause); // amqp may still hand out what was on the way
        if (all_quiet(d, true)) enter_last(d);
        else if (loop_now_ns(d->c.loop) >= d->drain_until_ns) enter_kill(d);
    } else if (d->drain == DRAIN_KILL) {
        each_lane(d, lane_kill); // also what a pool of this very moment has started
        check_kill_all(d->checks);
        each_lane(d, lane_give_back);
        settle_abandon(d->settle);
        if (all_quiet(d, false) && fleet_size(d->fleet) == 0) enter_last(d);
    }
    bool spares_gone = d->drain == DRAIN_LAST && fleet_stop(d->fleet);
    if (spares_gone && fleet_size(d->fleet) == 0) {
        timer_stop(d->tick);
        d->drained(d->drained_arg);
        return;
    }
    timer_start(d->drain_timer, DRAIN_LOOK_MS);
}

void dispatch_drain(struct dispatch *d, int64_t grace_ms, void (*done)(void *arg), void *arg) {
    d->drain = DRAIN_FINISH;
    d->drain_until_ns = loop_now_ns(d->c.loop) + grace_ms * NS_PER_MS;
    d->drained = done;
    d->drained_arg = arg;
    timer_start(d->drain_timer, 0);
}

void dispatch_free(struct dispatch *d) {
    if (!d) return;
    struct lane *lane, *next;
    HASH_ITER(hh, d->lanes, lane, next) {
        HASH_DEL(d->lanes, lane);
        lane_free(lane);
    }
    while (d->retired) {
        lane = d->retired;
        d->retired = lane->next_retired;
        lane_free(lane);
    }
    fleet_free(d->fleet);
    settle_free(d->settle);
    timer_free(d->tick);
    timer_free(d->drain_timer);
    free(d);
}
