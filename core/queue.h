// SPDX-License-Identifier: Apache-2.0
// Queues of events, one for each function, on one backend: memory, embedded (SQLite) or amqp (RabbitMQ).
//
// Owns: the connections and threads of the backend. Flow: queue_publish -> confirm callback; queue_consume ->
//   on_messages callback -> queue_ack or queue_release for each message.
// Delivery: at least once. A confirm with ERR_OK means durable (memory: means accepted). A message that was neither
//   acknowledged nor released is delivered again after a restart, with its delivery_count raised.
// Threads: all calls and callbacks on the loop's thread. Blocking: never; work is batched at the end of the turn.
// Memory: publishes in flight and deliveries are capped; over the cap a publish is refused with ERR_BUSY.
// Errors: ERR_BUSY no room, ERR_UNAVAILABLE the broker is away, ERR_FULL the disk is full, ERR_TOO_LARGE.
#ifndef CORE_QUEUE_H
#define CORE_QUEUE_H

#include "core/base/loop.h"
#include "core/ev.h"

struct queue;
struct queue_consumer;
struct store;

// How a message reached the consumer.
enum queue_content {
    QUEUE_EVENT,       // an event of ours
    QUEUE_RAW,         // another content type: ev was made around it (payload, properties as headers)
    QUEUE_UNDECODABLE, // broken bytes: ev carries them as payload, `why` says what is wrong
};

struct queue_msg {
    uint64_t tag;            // names the message to queue_ack and queue_release
    struct ev *ev;           // belongs to the receiver
    uint32_t delivery_count; // earlier deliveries that ended without ack, as the backend counts them
    enum queue_content content;
    struct str why;          // for QUEUE_UNDECODABLE; valid during the callback
    uint32_t partition;      // of a topic; 0 for queues
};

struct queue_consumer_config {
    struct str function;     // whose queue; copied
    size_t credit;           // most unsettled messages at a time, 1..65535
    size_t credit_bytes;     // about so many bytes of them, at the most
    // A batch of messages; the array lives during the call, the events in it belong to the receiver.
    void (*on_messages)(void *arg, struct queue_msg *msgs, size_t count);
    // The connection was lost: tags handed out before are void; settling them does nothing, the broker delivers them
    // again when the backend has reconnected (which it does by itself). May be NULL.
    void (*on_lost)(void *arg);
    // A partition is to be handed over: what waits of it is released inside the call, what runs is finished and acked. May be NULL.
    void (*on_revoked)(void *arg, uint32_t partition);
    void *arg;
};

// code is ERR_OK or why not; err is set when it is not.
typedef void queue_confirm_fn(void *arg, int code, const struct err *err);
typedef void queue_depth_fn(void *arg, int code, uint64_t ready, uint64_t unsettled, int64_t oldest_ms);

struct queue_config {
    struct loop *loop;
    const char *url;          // "memory:", "embedded:" or "amqp://user:pass@host:port/vhost"
    struct store *store;      // embedded: the SQLite store that it shares (one file, one writer)
    uint64_t max_messages;    // cap of one function's queue: a publish over it gets ERR_BUSY; 0: none (amqp: the broker's)
};

// Starts to connect; returns before the broker has answered. ERR_INVALID for a bad URL.
int queue_open(const struct queue_config *config, struct queue **ret, struct err *err) must_use;
// Confirms what is outstanding (durably or with ERR_UNAVAILABLE), then lets go. Consumers are closed first by their
// owners. `on_closed` runs on the loop; the queue is gone then.
void queue_close(struct queue *q, void (*on_closed)(void *arg), void *arg);
bool queue_is_up(const struct queue *q);

// Takes ev in any case. `confirm` runs later, never inside the call.
void queue_publish(struct queue *q, struct ev *ev, queue_confirm_fn *confirm, void *arg);

struct queue_consumer *queue_consume(struct queue *q, const struct queue_consumer_config *config) must_use;
// No more deliveries; what was handed out can still be settled (a drain).
void queue_consumer_pause(struct queue_consumer *c);
// Deliveries stop now; what is unsettled goes back to the queue, with no delivery counted.
void queue_consumer_close(struct queue_consumer *c);
void queue_ack(struct queue_consumer *c, uint64_t tag);
// Gives it back, to be delivered again soon, here or elsewhere.
void queue_release(struct queue_consumer *c, uint64_t tag);
// Another credit from now on; what is out beyond it stays out. False: this consumer's is fixed.
bool queue_set_credit(struct queue_consumer *c, size_t credit);
// How many acks and releases are not yet known to the backend; 0 when a drain may end.
size_t queue_unsettled(const struct queue_consumer *c);

// Asks how many messages wait and how many are handed out; oldest_ms is the accept time of the oldest, 0 unknown.
void queue_depth(struct queue *q, struct str function, queue_depth_fn *fn, void *arg);
// Drops the function's queue and what is in it (after the function was deleted).
void queue_delete(struct queue *q, struct str function);

// --- for backends -----------------------------------------------------------------------------------------------
// A backend is one exported table; its objects begin with these structs.
struct queue_ops {
    const char *scheme; // of the URL, without "://" or ":"
    int (*open)(const struct queue_config *config, struct queue **ret, struct err *err);
    void (*close)(struct queue *q, void (*on_closed)(void *arg), void *arg);
    bool (*is_up)(const struct queue *q);
    void (*publish)(struct queue *q, struct ev *ev, queue_confirm_fn *confirm, void *arg);
    struct queue_consumer *(*consume)(struct queue *q, const struct queue_consumer_config *config);
    void (*depth)(struct queue *q, struct str function, queue_depth_fn *fn, void *arg);
    void (*delete)(struct queue *q, struct str function);
};
struct queue {
    const struct queue_ops *ops;
};
// A consumer by itself: what a topic or a foreign queue that is consumed in place offers too (core/source.h).
struct queue_consumer_ops {
    void (*pause)(struct queue_consumer *c);
    void (*close)(struct queue_consumer *c);
    void (*ack)(struct queue_consumer *c, uint64_t tag);
    void (*release)(struct queue_consumer *c, uint64_t tag);
    size_t (*unsettled)(const struct queue_consumer *c);
    void (*set_credit)(struct queue_consumer *c, size_t credit); // NULL: it has a fixed one
};
struct queue_consumer {
    const struct queue_consumer_ops *ops;
};
extern const struct queue_ops queue_memory_ops, queue_embedded_ops, queue_amqp_ops;

#endif
