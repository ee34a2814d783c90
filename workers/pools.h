// SPDX-License-Identifier: Apache-2.0
// The pools of a function: one for each of its versions that has events or, when it is the current one, had some.
//
// Owns: the pools. Flow, delivery, threads: as workers/pool says of each; its on_handout and on_outcome are the owner's.
#ifndef WORKERS_POOLS_H
#define WORKERS_POOLS_H

#include "workers/dispatch.h"
#include "workers/pool.h"

struct pools {
    // The owner's, set at first:
    const struct dispatch_config *c;
    struct fleet *fleet;
    const char *name; // of the function
    bool (*on_handout)(void *arg, struct delivery *d);
    void (*on_outcome)(void *arg, struct delivery *d, const struct outcome_report *report);
    void (*on_change)(void *arg); // one of them has more room, or less to do
    void *arg;

    struct pools_item {
        struct pools_item *next;
        struct pool *pool;
    } *list;
};

struct pools_count {
    size_t instances, busy, waiting, in_flight;
};

void pools_submit(struct pools *ps, struct version *v, struct delivery *d); // as pool_submit; makes v's pool
// Takes out what waits (utlist DL, WAITING) and is wanted; the rest stays as it is. wanted NULL: all.
struct delivery *pools_take_waiting(struct pools *ps, bool (*wanted)(const void *arg, const struct delivery *d), const void *arg) must_use;
// Takes out the one with this event id (*ret, else NULL), or has the instance that has it stop it. False: it is not here.
bool pools_cancel(struct pools *ps, const struct id *id, struct delivery **ret);
bool pools_have_room(const struct pools *ps);            // for what goes to the current version; it may have no pool yet
bool pools_have_waiting_of(const struct pools *ps, const struct intake *in);
bool pools_are_hungry(const struct pools *ps);           // something waits for a version without instances
struct pools_count pools_count(const struct pools *ps);
void pools_pump(struct pools *ps);
bool pools_yield(struct pools *ps);                      // gives up one of several instances of a version
bool pools_evict_idle(struct pools *ps);
void pools_retire(struct pools *ps, bool current_too);   // as pool_retire
void pools_drop_empty(struct pools *ps);                 // frees those that have nothing, but for the current version's
void pools_kill(struct pools *ps);
void pools_done(struct pools *ps);                       // only when they have no instances and nothing waits

#endif
