// SPDX-License-Identifier: Apache-2.0
// The timers of this node: knows when each schedule is next, and when that time has come has dlq/fires decide it.
//
// Owns: a schedule for each timer trigger, and a heap of their next times. Flow: the earliest time comes -> plans of all that are due, in
//   batches -> fires_decide (one transaction) -> the cursors go on. A node that does not lead comes FIRES_FOLLOW_MS later.
// Clock: the store's (fires_now_ms), looked at again after at most TIMERS_LOOK_MS, so that a clock which is set has no effect for long.
// Delivery: a time counts as done only when the store said so; while the store is away the plan is made anew, from where the cursor stands.
// Threads: the loop's. Blocking: never. Memory: about 400 bytes a timer besides its trigger.
#ifndef TRIGGERS_TIMERS_H
#define TRIGGERS_TIMERS_H

#include "core/metrics.h"
#include "core/registry.h"
#include "core/trigger.h"
#include "dlq/fires.h"

#define TIMERS_LOOK_MS 1000
#define TIMERS_AWAY_MS 1000
#define TIMERS_SHOW_MAX 1000 // next times of one question

struct timers;
struct timers_config {
    struct loop *loop;
    struct fires *fires;
    struct registry *registry;  // a function's longest time to its end
    struct metrics *metrics;
};
struct timers *timers_new(const struct timers_config *config) must_use;
// Reads the cursors; nothing fires before. Then timers_change of every trigger.
void timers_load(struct timers *t, void (*done)(void *arg, int code, const struct err *err), void *arg);
void timers_stop(struct timers *t); // no new fires
void timers_free(struct timers *t); // when fires_stop said true

bool timers_are_for(const struct trigger *t);                       // kind timer
int timers_check(const struct trigger *draft, struct err *err) must_use; // settings, zone
char *timers_default_name(const struct trigger *draft) must_use;    // the function's
void timers_change(struct timers *t, struct str name, const struct trigger *trigger); // NULL: it went
void timers_reload_zones(struct timers *t);                         // SIGHUP

// {"trigger","function","zone","expression","words","fires":[{"scheduledMs","local","utc","mark":"gap-end"|"first"|"second"|null}]};
// count 1..TIMERS_SHOW_MAX, after_ms 0: now; until_ms 0: no end. ERR_NOT_FOUND: no such timer.
int timers_next(struct timers *t, struct str name, int64_t after_ms, int64_t until_ms, size_t count, json_t **ret, struct err *err) must_use;
// A fire by hand: scheduled_ms 0 is now (manual), else one of the schedule's times (backfill; ERR_INVALID when it is none).
// data: instead of the trigger's message; empty data.data: the message. {"trigger","scheduledMs","requestId"}; ERR_CONFLICT.
void timers_fire(struct timers *t, struct str name, int64_t scheduled_ms, struct str data, trigger_json_fn *fn, void *arg);
// What `weir trigger lag` shows: {"timer":{"nextMs"|null,"cursorMs"|null,…}}; called with the trigger of the name.
void timers_lag(struct timers *t, const struct trigger *trigger, trigger_json_fn *fn, void *arg);

#endif
