// SPDX-License-Identifier: Apache-2.0
// A lane: all that this node does for one function: its consumers, its bindings' intakes, and its pools.
//
// Owns: the consumers, the intakes, the pools, and the lookup of versions that are not known here. Used by workers/dispatch only. Threads: the loop's.
#ifndef WORKERS_LANE_H
#define WORKERS_LANE_H

#include "workers/dispatch.h"
#include "workers/intake.h"
#include "workers/lookup.h"
#include "workers/pools.h"
#include "workers/settle.h"

struct lane_intake {
    struct lane_intake *next;
    struct intake *intake;
    void (*unbound)(void *arg); // NULL: nobody asked
    void *unbound_arg;
    struct defer gone;          // it has closed
    struct lane *lane;
};

struct lane {
    const struct dispatch_config *c;
    struct settle *settle;
    char *name;
    struct queue_consumer *durable, *sync; // NULL: closed
    struct pools pools;
    struct lane_intake *intakes;
    struct lookup lookup;
    size_t open;                  // deliveries that have not ended
    bool closing;                 // the function is gone: no deliveries, what runs is finished
    bool killed;                  // the end of a drain: what still comes goes back at once
    uint64_t ok, failed;          // attempts since the start
    uint64_t ok_before, failed_before;
    double ok_rate, failed_rate;  // a second, running mean
    struct lane *next_retired;
    UT_hash_handle hh;
};

struct lane *lane_new(const struct dispatch_config *config, struct fleet *fleet, struct settle *settle, struct str name) must_use;
void lane_open(struct lane *lane);                       // consumes; fine when it does already; not after lane_close
void lane_close(struct lane *lane);                      // gives back what waits; what runs is finished
void lane_pause_sync(struct lane *lane);                 // takes no more sync calls: a lane of the same name does, or nobody
void lane_route(struct lane *lane, struct delivery *d);  // has not begun, or its next try: to its pool, or refused
void lane_reroute(struct lane *lane);                    // versions changed: what waits is routed anew
void lane_pump(struct lane *lane);
bool lane_cancel(struct lane *lane, const struct id *id); // dispatch_cancel; false: it is not here
bool lane_evict_idle(struct lane *lane);
bool lane_yield(struct lane *lane);                      // gives up one of several instances of a version
bool lane_is_hungry(const struct lane *lane);            // something waits, and it has no instance
void lane_tick(struct lane *lane, double seconds);       // rates, the gauge
void lane_pause(struct lane *lane);                      // drain: no deliveries, async waiting goes back
void lane_kill(struct lane *lane);                       // drain: ends all instances
void lane_give_back(struct lane *lane);                  // drain: all that waits goes back
size_t lane_open_count(const struct lane *lane);         // deliveries that have not ended, the bindings' included
bool lane_is_quiet(const struct lane *lane);             // nothing open, every ack is known to the queue
void lane_bind(struct lane *lane, const struct binding *b);
// False when it is not bound here.
bool lane_unbind(struct lane *lane, const struct binding *b, void (*unbound)(void *arg), void *arg);
const struct intake *lane_intake(const struct lane *lane, struct str name); // NULL: not bound, or on its way out
// The outlet with the sink for what became of d; NULL: none.
struct outlet *lane_outlet(const struct lane *lane, const struct delivery *d, bool failure);
size_t lane_instances(const struct lane *lane);
json_t *lane_status(const struct lane *lane);
void lane_free(struct lane *lane);                       // when quiet and without instances

#endif
