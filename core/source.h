// SPDX-License-Identifier: Apache-2.0
// Sources: topics and queues of others that a function consumes in place, without a second hop.
//
// Owns: the connection, threads and (Kafka) group membership. Flow: *_source_open -> source_consume -> on_messages, with
//   each message an event (QUEUE_RAW): payload and headers of the record, ordering_key its key, source_kind and
//   source_name (the trigger), source_at the coordinates as JSON, shape as given; Kafka: the same id whenever
//   the same record is read again -> queue_ack when it is finished -> source_close.
// Delivery: at least once. An acked Kafka record is not read again once the ack is committed; a released one, and one that was
//   neither, is. queue_consumer_pause: no more deliveries, acks are still taken (and committed at once).
//   queue_consumer_close: what is unsettled goes back. queue_unsettled: acks that the broker does not know yet.
// source_at: Kafka {"topic":"t","partition":3,"offset":7,"timestamp":1767225600000,"timestampType":"CREATE_TIME"}, with "tombstone":true for a
//   null value; AMQP {"queue":"q","exchange":"e","routingKey":"k","redelivered":false}. Members in this order, no spaces.
// Threads: the loop's. Blocking: never. Memory: credit_bytes of the consumer's config is the cap for records in flight;
//   the library's own fetch buffers come on top and are set to fit (see each).
// Errors: a broker that is away is no error: the source reconnects for ever, with back-off; source_lag tells.
#ifndef CORE_SOURCE_H
#define CORE_SOURCE_H

#include <jansson.h>

#include "core/queue.h"

struct source;
// {"up":bool,"error":text or null,"partitions":[{"partition":n,"assigned":bool,"committed":n,"position":n,"end":n,"lag":n,
//  "inFlight":n,"paused":why or null}…]}; AMQP: one member with "queue","ready","unacked","prefetch". Owns result.
typedef void source_lag_fn(void *arg, int code, const struct err *err, json_t *result);
struct source_ops {
    struct queue_consumer *(*consume)(struct source *s, const struct queue_consumer_config *config);
    void (*lag)(struct source *s, source_lag_fn *fn, void *arg);
    void (*close)(struct source *s, void (*on_closed)(void *arg), void *arg);
};
struct source {
    const struct source_ops *ops;
};

// One consumer for a source; config.function is the function that the events are for.
static inline struct queue_consumer *source_consume(struct source *s, const struct queue_consumer_config *config) {
    return s->ops->consume(s, config);
}
static inline void source_lag(struct source *s, source_lag_fn *fn, void *arg) { // fn runs later, once
    s->ops->lag(s, fn, arg);
}
// After its consumer was closed. Commits what was acked, leaves the group, frees; on_closed runs later on the loop.
static inline void source_close(struct source *s, void (*on_closed)(void *arg), void *arg) {
    s->ops->close(s, on_closed, arg);
}

#endif
