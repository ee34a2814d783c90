// SPDX-License-Identifier: Apache-2.0
// Sinks: where messages leave to: Kafka topics, AMQP exchanges, other functions.
//
// Flow: sink_send -> done with ERR_OK when the broker has it durably (Kafka acks=all; AMQP publisher confirm and
//   routed, mandatory; function: on its queue).
// Delivery: at least once; done comes exactly once for each send, at the latest after SINK_TIMEOUT_MS.
// Threads: the loop's. Blocking: never. Memory: what is under way is capped; over it a send is done with ERR_BUSY.
// Errors: ERR_UNAVAILABLE (try again), ERR_NOT_FOUND (no such topic, exchange, or nothing is bound to it), ERR_TOO_LARGE,
//   ERR_BUSY, ERR_DENIED.
#ifndef CORE_SINK_H
#define CORE_SINK_H

#include "core/ev.h"

#define SINK_TIMEOUT_MS 30000

struct sink;
struct sink_message {            // borrowed for the call
    struct str to;               // topic; exchange; function
    struct str key;              // Kafka: the record's key; AMQP: the routing key
    struct str content_type;     // AMQP property; Kafka: header content-type
    struct str message_id;       // AMQP property
    const struct ev_header *headers;
    size_t header_count;
    struct str payload;
    bool null_payload;           // Kafka: a tombstone
    bool to_partition;           // Kafka: into `partition`; else where the key leads
    uint32_t partition;
};
typedef void sink_done_fn(void *arg, int code, const struct err *err);

struct sink_ops {
    const char *ce_prefix; // of CloudEvents attributes as headers: NULL "ce_" (Kafka), "cloudEvents:" (AMQP), "ce-" (functions)
    void (*send)(struct sink *s, const struct sink_message *m, sink_done_fn *done, void *arg);
    void (*close)(struct sink *s, void (*on_closed)(void *arg), void *arg);
};
struct sink {
    const struct sink_ops *ops;
};

static inline void sink_send(struct sink *s, const struct sink_message *m, sink_done_fn *done, void *arg) {
    s->ops->send(s, m, done, arg); // done runs later, never inside the call
}
// What is under way is flushed (at most SINK_TIMEOUT_MS) and done before on_closed.
static inline void sink_close(struct sink *s, void (*on_closed)(void *arg), void *arg) {
    s->ops->close(s, on_closed, arg);
}

// An AMQP exchange ("" the default one, which takes a queue's name as routing key). url as core/queue_amqp_conn says.
struct loop;
int amqp_sink_open(struct loop *loop, const char *url, struct sink **ret, struct err *err) must_use;
// Another function: `to` is its name, headers and payload those of the event.
struct ingest;
struct sink *function_sink_open(struct loop *loop, struct ingest *ingest, struct str source_name) must_use;

#endif
