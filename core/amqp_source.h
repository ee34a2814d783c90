// SPDX-License-Identifier: Apache-2.0
// An AMQP 0-9-1 queue of somebody else's as a source (core/source.h), on rabbitmq-c: classic and quorum queues.
//
// Flow: a thread with one connection of its own -> (declares what is asked for) -> consumes -> messages in batches on the loop ->
//   acks in batches. After a lost connection, a cancelled consumer or a deleted queue: everything is declared
//   and consumed again, with back-off; tags handed out before are void (on_lost) and the broker delivers them again.
// With `queue`: the queue must exist (it is looked for passively) unless `declare`; with `exchange`: a durable queue
//   named weir.trigger.<trigger> is declared (quorum, or classic with ?queue_type=classic) and bound with `binding`.
//   A queue that exists with other arguments than would be declared is used as it is.
// A stream queue is refused (ERR_INVALID in amqp_check; logged and looked at again every minute later): it is read by
//   offset, use the Kafka trigger or a stream client. RabbitMQ would let it be consumed like a queue, so it is asked what
//   the queue is before it is consumed. One who may not declare cannot ask: a stream is then known by its first message.
// Events: properties and headers become event headers (core/queue_amqp_message.h has their names); source_at
//   {"queue","exchange","routingKey","redelivered","timestamp"? (ms),"vhost"? (when not "/")}; content is QUEUE_RAW whatever
//   the content type, weir's own included; x-death is a header of JSON text. msg.delivery_count from x-delivery-count
//   (quorum) or 1 for redelivered; RabbitMQ 3.10 counts what is given back, and what a closed consumer held, as a delivery.
// Ids: each delivery is an event of its own id, for a message-id is the publisher's and may come twice.
// Large messages: up to 64 MiB are handed out, over EV_PAYLOAD_MAX too (the workers make a letter of them). Larger ones stay
//   unacknowledged in their queue, take one place of the prefetch, and are told by the log and by source_lag's "error".
// Prefetch: `prefetch` 0 is auto: starts at 100, follows what the consumer settles (core/queue_amqp_pace.h), between 1 and
//   4000 and its credit: a slow pool leaves messages for other nodes, a fast one has all it can use within a second. Never more
//   than credit, nor about credit_bytes, is out; also while it changes.
// A consumer that sits idle while its queue has messages is replaced and logged.
#ifndef CORE_AMQP_SOURCE_H
#define CORE_AMQP_SOURCE_H

#include "core/source.h"

struct amqp_source_config { // copied
    const char *url;        // amqp[s]://…, see core/queue_amqp_conn.h
    const char *queue;      // or:
    const char *exchange, *binding;
    bool declare;           // make the queue when it is not there
    uint32_t prefetch;      // 0: auto; 1..65535
    const char *trigger;    // source_name of the events
    const char *shape;
};
// Connects and looks, on a thread: ERR_UNAVAILABLE, ERR_DENIED, ERR_NOT_FOUND (no such queue or exchange), ERR_INVALID (bad url, a stream).
typedef void amqp_done_fn(void *arg, int code, const struct err *err);
void amqp_check(struct loop *loop, const struct amqp_source_config *c, amqp_done_fn *fn, void *arg);
int amqp_source_open(struct loop *loop, const struct amqp_source_config *c, struct source **ret, struct err *err) must_use;
// Deletes the queue that was declared for `exchange` (the trigger was removed).
void amqp_source_forget(struct loop *loop, const struct amqp_source_config *c, amqp_done_fn *fn, void *arg);

#endif
