// SPDX-License-Identifier: Apache-2.0
// A delivery: one message from a queue on its way through this node, and the states it may be in.
//
//   received ──> waiting ──> sent ──> finished ──> storing ──> settled
//      │            │ ^        │          └───────────────────────^
//      │            │ └────────┘ (its instance ended before it began)
//      │            ├──────> released     (given back to the queue)
//      └────────────┴──────> storing / settled (undecodable, unroutable, expired; nobody waits)
//
// Owns: the event, a reference to the version. Threads: the loop's.
#ifndef WORKERS_DELIVERY_H
#define WORKERS_DELIVERY_H

#include "core/queue.h"
#include "core/registry.h"

// X(name, word, states it may become)
#define DELIVERY_STATES(X)                                                                                              \
    X(DELIVERY_RECEIVED, "received", BIT(DELIVERY_WAITING) | BIT(DELIVERY_STORING) | BIT(DELIVERY_SETTLED) | BIT(DELIVERY_RELEASED)) \
    X(DELIVERY_WAITING, "waiting", BIT(DELIVERY_SENT) | BIT(DELIVERY_FINISHED) | BIT(DELIVERY_STORING) | BIT(DELIVERY_SETTLED) | BIT(DELIVERY_RELEASED)) \
    X(DELIVERY_SENT, "sent", BIT(DELIVERY_FINISHED) | BIT(DELIVERY_WAITING) | BIT(DELIVERY_RELEASED))                    \
    X(DELIVERY_FINISHED, "finished", BIT(DELIVERY_STORING) | BIT(DELIVERY_SETTLED) | BIT(DELIVERY_WAITING))              \
    X(DELIVERY_STORING, "storing", BIT(DELIVERY_SETTLED) | BIT(DELIVERY_RELEASED))                                       \
    X(DELIVERY_SETTLED, "settled", 0)                                                                                   \
    X(DELIVERY_RELEASED, "released", 0)

enum delivery_state {
#define X(name, word, next) name,
    DELIVERY_STATES(X)
#undef X
};
const char *delivery_state_word(enum delivery_state s);

struct lane; // the function that it belongs to (workers/dispatch)

struct delivery {
    struct delivery *prev, *next;      // of the list it is in: a pool's or an instance's
    enum delivery_state state;
    struct ev *ev;
    struct queue_consumer *consumer;
    uint64_t tag;
    struct lane *lane;
    size_t *open;                      // the lane's count of deliveries that have not ended
    struct version *version;           // that it goes to; NULL when none exists
};

// `open` is raised now and lowered when the delivery has ended.
struct delivery *delivery_new(const struct queue_msg *msg, struct queue_consumer *consumer, struct lane *lane, size_t *open)
    must_use;
// Moves to a state; a move that the table does not allow ends the process.
void delivery_move(struct delivery *d, enum delivery_state to);
// Settled: acknowledges. Released: gives back. Then frees it, the event included.
void delivery_settle(struct delivery *d);
void delivery_release(struct delivery *d);

static inline bool delivery_is_sync(const struct delivery *d) {
    return d->ev->f.invocation == EV_SYNC;
}

#endif
