// SPDX-License-Identifier: Apache-2.0
// The pool: the instances of one function version, and the deliveries that wait for one.
//
// Flow: pool_submit -> an instance with room gets it (sync events first) -> on_outcome. More instances are started while
//   events wait, up to the version's maximum and the fleet's; idle ones are let go after options.instance_idle_ms.
// Delivery: each delivery comes back exactly once, by on_outcome, on_handout or out of pool_take and pool_take_waiting.
// Threads: the loop's. Memory: what waits is bounded by the consumers' credit.
#ifndef WORKERS_POOL_H
#define WORKERS_POOL_H

#include "core/metrics.h"
#include "workers/fleet.h"

struct pool;
struct pool_config {
    struct loop *loop;
    struct fleet *fleet;
    struct registry *registry;
    struct metrics *metrics;
    struct version *version;
    int64_t idle_ms;
    size_t max_instances;      // on this node
    // Is asked right before d is handed out; true: it was taken back, as nobody wants it any more.
    bool (*on_handout)(void *arg, struct delivery *d);
    // d is FINISHED, or (outcome platform) still WAITING -> FINISHED without having run.
    void (*on_outcome)(void *arg, struct delivery *d, const struct outcome_report *report);
    // An instance came or ended, or something was answered: there may be room, or the pool can be let go.
    void (*on_change)(void *arg, struct pool *pool);
    void *arg;
};

struct pool *pool_new(const struct pool_config *config) must_use;
// Takes d: -> waiting. It is handed out at the end of the turn.
void pool_submit(struct pool *p, struct delivery *d);
// Hands out what waits as far as there is room.
void pool_pump(struct pool *p);
// The list (utlist DL) of all that waits, now the caller's; they are WAITING.
struct delivery *pool_take_waiting(struct pool *p);
// Takes out the one with this event id: the caller's, WAITING. NULL: it does not wait here.
struct delivery *pool_take(struct pool *p, const struct id *id);
// As instance_cancel, of whichever instance has it.
bool pool_cancel(struct pool *p, const struct id *id);
struct version *pool_version(const struct pool *p);
// Something that is submitted now begins at once, or is a reason to start an instance.
bool pool_is_hungry(const struct pool *p);
bool pool_has_waiting_of(const struct pool *p, const struct intake *in);
size_t pool_waiting(const struct pool *p);
size_t pool_in_flight(const struct pool *p);
size_t pool_instances(const struct pool *p);
size_t pool_busy(const struct pool *p); // instances with something to do
// Lets go of the longest idle instance, if there is one.
bool pool_evict_idle(struct pool *p);
// Gives one of at least two instances up for another pool; false when it has fewer.
bool pool_yield(struct pool *p);
// Ends idle instances now and the others when they are done, unless something is submitted again.
void pool_retire(struct pool *p);
void pool_kill(struct pool *p); // ends all; what runs comes back blameless, as waiting
void pool_free(struct pool *p); // only when it has no instance and nothing waits

#endif
