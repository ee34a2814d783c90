// SPDX-License-Identifier: Apache-2.0
// An instance: one process that runs one function version, as the server sees it.
//
//   generic ──assign──> loading ──READY──> ready ──stop/kill/end──> ending ──process gone──> (freed)
//      └──────────────────┴── stop/kill/end ──────────────────────────^
//
// Owns: the process, its socket, the deliveries in its socket. Flow: instance_invoke puts an event into the socket; it can
//   hold several and runs one at a time, in order; on_outcome comes for each.
// Delivery: every delivery given to it comes back exactly once: by on_outcome (it was run, or was running when the
//   process ended) or by on_unbegun (it was not).
// Threads: the loop's. Memory: bytes in the socket's buffers are capped; instance_room says 0 over it.
// Units: nanoseconds, monotonic.
#ifndef WORKERS_INSTANCE_H
#define WORKERS_INSTANCE_H

#include "core/fnlog.h"
#include "core/outcome.h"
#include "workers/delivery.h"
#include "workers/sandbox.h"

// An instance gets as many events as it will finish in about this time, so that it never sleeps between fast ones and
// nothing waits behind a slow one.
#define INSTANCE_PIPELINE_NS 2000000
#define INSTANCE_PIPELINE_MAX 512
#define INSTANCE_LOAD_MS 60000 // from INIT to READY
#define INSTANCE_STOP_MS 2000  // from STOP to SIGKILL

enum instance_state { INSTANCE_GENERIC, INSTANCE_LOADING, INSTANCE_READY, INSTANCE_ENDING };

struct instance;

// Who holds the instance. on_gone is the last call; the instance is freed after it.
struct instance_host {
    void (*on_ready)(void *arg, struct instance *inst);
    // The code does not load: the report says why. The instance ends by itself.
    void (*on_load_failed)(void *arg, struct instance *inst, const struct outcome_report *report);
    void (*on_outcome)(void *arg, struct instance *inst, struct delivery *d, const struct outcome_report *report);
    void (*on_unbegun)(void *arg, struct instance *inst, struct delivery *d);
    void (*on_room)(void *arg, struct instance *inst); // after outcomes: it may take more
    void (*on_gone)(void *arg, struct instance *inst);
};

// A generic instance, which has no code yet. ERR_UNAVAILABLE when the system has no room for a process.
int instance_start(struct loop *loop, const struct sandbox *sandbox, const struct runtime *rt, struct fnlog *log,
                   const struct instance_host *host, void *arg, struct instance **ret, struct err *err) must_use;
// Hands it to another host.
void instance_move(struct instance *inst, const struct instance_host *host, void *arg);
// Makes it an instance of v (which is kept by reference): generic -> loading.
void instance_assign(struct instance *inst, struct version *v);
// Takes d: waiting -> sent. Only while instance_room is not 0.
void instance_invoke(struct instance *inst, struct delivery *d);
size_t instance_room(const struct instance *inst);
size_t instance_in_flight(const struct instance *inst);
int64_t instance_service_ns(const struct instance *inst); // running mean time of one event; 0: unknown
int64_t instance_idle_since_ns(const struct instance *inst);
enum instance_state instance_state(const struct instance *inst);
int instance_pid(const struct instance *inst);
const struct runtime *instance_runtime(const struct instance *inst);
// Takes no more events, and ends when it has nothing in flight.
void instance_retire(struct instance *inst);
bool instance_is_retiring(const struct instance *inst);
// Asks it to end (it must have nothing in flight); it is killed when it does not.
void instance_stop(struct instance *inst);
// Kills it and all that it started. Its running event comes back as a crash, or by on_unbegun when `blameless`.
void instance_kill(struct instance *inst, bool blameless);

// Marks the event with this id as cancelled, and kills the process, as a timeout does, once it is the one that runs; the others
// come back by on_unbegun. False: it is not in its socket.
bool instance_cancel(struct instance *inst, const struct id *id);

// For the list of its holder.
struct instance_links {
    struct instance *prev, *next;
};
struct instance_links *instance_links(struct instance *inst);

#endif
