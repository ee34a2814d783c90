// SPDX-License-Identifier: Apache-2.0
// Dispatch: takes messages from the functions' queues, finds the version and its pool, and sees each through to its end.
//
// Flow: queue -> delivery -> (refuse | pool) -> instance -> settle -> ack. One *lane* a function: a consumer on the
//   durable queue, one on the sync lane, and the pools of the versions that have events.
// Fires: one that was cancelled before it came is acknowledged without running.
// Deploys: what waits for the version that was current goes to the one that is; what runs finishes where it is.
// Drain: dispatch_drain stops intake, gives back what waits and lets run what runs.
// Threads: the loop's. Memory: bounded by credit (options.credit, options.credit_bytes) for each function.
#ifndef WORKERS_DISPATCH_H
#define WORKERS_DISPATCH_H

#include <jansson.h>

#include "core/binding.h"
#include "core/ingest.h"
#include "core/metrics.h"
#include "dlq/fires.h"
#include "dlq/letters.h"
#include "dlq/replays.h"
#include "workers/sandbox.h"

struct dispatch;
struct dispatch_config {
    struct loop *loop;
    const struct options *options;
    struct registry *registry;
    struct queue *queue, *sync_lane;
    struct letters *letters;
    struct fires *fires; // NULL: nobody asks how fires end
    struct replays *replays; // NULL: nobody asks what became of replays
    struct ingest *ingest;
    struct fnlog *log;
    struct metrics *metrics;
    const struct runtimes *runtimes;
    const struct sandbox *sandbox;
    void (*on_due)(void *arg, int64_t due_ms); // a due letter was stored
    void *due_arg;
};

struct dispatch *dispatch_new(const struct dispatch_config *config) must_use;
// From the registry: a function came, changed, or went (fn is NULL).
void dispatch_function_changed(struct dispatch *d, struct str name, struct function *fn);
// The registry's check: does an instance load this version? done runs later, once.
void dispatch_check(struct dispatch *d, struct version *v, void (*done)(void *arg, int code, const struct err *err), void *arg);
// [{"name","current","waiting","running","instances","busy",…}]
json_t *dispatch_status(const struct dispatch *d);
// Consumes b's source in place for its function, which exists. b stays the caller's, and unchanged, until unbound was called.
void dispatch_bind(struct dispatch *d, const struct binding *b);
// No new deliveries; what runs is finished and acknowledged, what waits goes back; then its consumer is closed and
// unbound(arg) called, later, once. A drain closes all bindings by itself, without calling it.
void dispatch_unbind(struct dispatch *d, const struct binding *b, void (*unbound)(void *arg), void *arg);
// {"inFlight","waiting","parkedKeys","retrying","ok","failed","filtered","breaker":{"state","why","sinceMs","probeMs"}|null,"why":text|null};
// NULL when it is not bound here.
json_t *dispatch_binding_status(const struct dispatch *d, struct str function, struct str name) must_use;
// The fire with this event id was cancelled: it is stopped if it runs here, taken out if it waits, and acknowledged without a letter;
// it counts as neither ok nor failed. When its handler returns after all, it did.
void dispatch_cancel(struct dispatch *d, const struct id *id);
// No new deliveries; what waits goes back. done runs when nothing runs and all is settled, or after grace_ms, when what
// still runs was killed and given back uncharged.
void dispatch_drain(struct dispatch *d, int64_t grace_ms, void (*done)(void *arg), void *arg);
void dispatch_free(struct dispatch *d); // after a drain

#endif
