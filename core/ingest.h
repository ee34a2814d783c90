// SPDX-License-Identifier: Apache-2.0
// The only door in: checks an event, stamps what is missing, admits or refuses it, and puts it on its queue.
//
// Flow: async: ingest_async -> durable queue -> accepted. sync: ingest_sync -> memory queue (the sync lane) -> a worker
//   runs it -> ingest_reply -> result callback.
//   An event of a function or version that is not known here waits for one look at the store (registry_refresh): another node may
//   have made it a moment ago. It is refused after that; with the store's error when nobody could look.
// Memory: those that wait have at most some 64 MiB; more are refused with ERR_BUSY.
// Delivery: `accepted` with ERR_OK comes only when the queue has the event durably.
// Threads: the loop's. Blocking: never.
// Errors: ERR_NOT_FOUND (function or version), the store's, ERR_TOO_LARGE, ERR_BUSY (429), ERR_UNAVAILABLE (503), ERR_FULL (507).
#ifndef CORE_INGEST_H
#define CORE_INGEST_H

#include "core/metrics.h"
#include "core/outcome.h"
#include "core/queue.h"
#include "core/registry.h"

struct ingest;
struct sync_call;

struct ingest_config {
    struct loop *loop;
    struct registry *registry;
    struct queue *queue;     // durable
    struct queue *sync_lane; // memory
    struct metrics *metrics;
};

struct ingest *ingest_new(const struct ingest_config *config) must_use;
// Before registry_free, with no turn of the loop between. The queues are closed by then.
void ingest_free(struct ingest *in);
// Refuses everything from now on with ERR_UNAVAILABLE, and what waits too: sync calls, and events whose version is looked for (the
// end of a drain).
void ingest_stop(struct ingest *in);
size_t ingest_waiting(const struct ingest *in); // sync calls and publishes that have no answer yet

// Takes ev in any case; accepted runs later, never inside the call (it gets what the queue said).
typedef queue_confirm_fn ingest_accepted_fn;
void ingest_async(struct ingest *in, struct ev *ev, ingest_accepted_fn *accepted, void *arg);

// What a sync caller gets: code is ERR_OK when the function ran (see result->outcome), else why it could not.
typedef void ingest_result_fn(void *arg, int code, const struct err *err, const struct outcome_report *result);
// Takes ev. The callback runs once, unless the call was cancelled. f.deadline_ms: how long the caller waits, retries
// included; 0: one attempt of the function's timeout.
struct sync_call *ingest_sync(struct ingest *in, struct ev *ev, ingest_result_fn *fn, void *arg);
void ingest_sync_cancel(struct sync_call *call); // the caller went away

// For the workers: does somebody still wait for this sync event?
bool ingest_is_awaited(struct ingest *in, const struct id *id);
// The end of a sync event: ERR_OK with the outcome, or why it could not run. False when nobody waits any more.
bool ingest_reply(struct ingest *in, const struct id *id, int code, const struct err *err, const struct outcome_report *result);

#endif
