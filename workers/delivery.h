// SPDX-License-Identifier: Apache-2.0
// A delivery: one message from a queue or source on its way through this node, and the states it may be in.
//
//   received ──> waiting ──> sent ──> finished ──> storing ──> settled
//    │    │         │ ^        │        │ │  └─> sending ─────────^
//    │    └─joined──┼─┼────────┼────────┘ └──> waiting (its next try here)
//    │              │ └────────┘ (its instance ended before it began)
//    │              ├──────> released     (given back to the queue)
//    └──────────────┴──────> storing / settled (undecodable, unroutable, expired; nobody waits)
//
// A record that is run together with others is *joined*: the call that stands for them (workers/batch) waits and is sent.
// Sending: its result, or what became of it, is on the way to a sink.
// Owns: the event, a reference to the version. Threads: the loop's.
#ifndef WORKERS_DELIVERY_H
#define WORKERS_DELIVERY_H

#include "core/queue.h"
#include "core/registry.h"

// X(name, word, states it may become)
#define DELIVERY_STATES(X)                                                                                              \
    X(DELIVERY_RECEIVED, "received", BIT(DELIVERY_WAITING) | BIT(DELIVERY_JOINED) | BIT(DELIVERY_STORING) | BIT(DELIVERY_SETTLED) | BIT(DELIVERY_RELEASED)) \
    X(DELIVERY_WAITING, "waiting", BIT(DELIVERY_SENT) | BIT(DELIVERY_JOINED) | BIT(DELIVERY_FINISHED) | BIT(DELIVERY_STORING) | BIT(DELIVERY_SETTLED) | BIT(DELIVERY_RELEASED)) \
    X(DELIVERY_JOINED, "joined", BIT(DELIVERY_FINISHED) | BIT(DELIVERY_WAITING) | BIT(DELIVERY_STORING) | BIT(DELIVERY_RELEASED)) \
    X(DELIVERY_SENT, "sent", BIT(DELIVERY_FINISHED) | BIT(DELIVERY_WAITING) | BIT(DELIVERY_RELEASED))                    \
    X(DELIVERY_FINISHED, "finished", BIT(DELIVERY_STORING) | BIT(DELIVERY_SENDING) | BIT(DELIVERY_SETTLED) | BIT(DELIVERY_WAITING)) \
    X(DELIVERY_STORING, "storing", BIT(DELIVERY_SENDING) | BIT(DELIVERY_SETTLED) | BIT(DELIVERY_RELEASED))               \
    X(DELIVERY_SENDING, "sending", BIT(DELIVERY_STORING) | BIT(DELIVERY_SETTLED) | BIT(DELIVERY_RELEASED))               \
    X(DELIVERY_SETTLED, "settled", 0)                                                                                   \
    X(DELIVERY_RELEASED, "released", 0)

enum delivery_state {
#define X(name, word, next) name,
    DELIVERY_STATES(X)
#undef X
};
const char *delivery_state_word(enum delivery_state s);

struct lane;     // the function that it belongs to (workers/dispatch)
struct intake;   // workers/intake
struct batch;    // workers/batch
struct gate_key; // workers/gate

struct delivery {
    struct delivery *prev, *next;      // of the list it is in: a pool's or an instance's
    enum delivery_state state;
    struct ev *ev;
    struct queue_consumer *consumer;
    uint64_t tag;
    struct lane *lane;
    size_t *open;                      // the lane's count of deliveries that have not ended
    struct version *version;           // that it goes to; NULL when none exists
    struct batch *batch;               // it is the call that stands for these; NULL: for itself
    bool cancelled;                    // a fire that was stopped: it needs no end
    bool looked_for;                   // its version was not known here, and the store was asked
    bool lost;                         // its queue delivers it again: this one goes back when the store has answered
    // Of the records of a binding:
    struct intake *intake;             // that took it in; NULL: the function's own queues did
    void (*on_end)(struct delivery *d); // it was settled or released, and is freed after; NULL: nobody asks
    struct gate_key *key;              // that it waits for or holds; NULL: no order
    struct delivery *behind;           // the next that waits for the same key
    size_t bytes;                      // about what it occupies
    uint32_t partition;
    uint32_t joins;                    // the most records of a call that it may be in
    bool in_place;                     // it is tried again here, and holds its key meanwhile
    bool handed;                       // to an instance, and not back in the gate or at rest since
    bool probe;                        // lets the breaker know how it went
};

// `open` is raised now and lowered when the delivery has ended.
struct delivery *delivery_new(const struct queue_msg *msg, struct queue_consumer *consumer, struct lane *lane, size_t *open)
    must_use;
// Moves to a state; a move that the table does not allow ends the process.
void delivery_move(struct delivery *d, enum delivery_state to);
// Settled: acknowledges. Released: gives back. Then frees it, the event included.
void delivery_settle(struct delivery *d);
void delivery_release(struct delivery *d);

// Since it was accepted; 0 when the clock was set back, or the turn began before.
static inline double delivery_waited_s(const struct delivery *d, int64_t unix_ms) {
    int64_t ms = unix_ms - d->ev->f.accepted_ms;
    return ms > 0 ? (double)ms / 1e3 : 0;
}

static inline bool delivery_is_sync(const struct delivery *d) {
    return d->ev->f.invocation == EV_SYNC;
}

#endif
