// SPDX-License-Identifier: Apache-2.0
// Events to AMQP messages and back.
//
// Threads: any (no state). Memory: what mq_message_properties fills points into `m` and into the event.
#ifndef CORE_QUEUE_AMQP_MESSAGE_H
#define CORE_QUEUE_AMQP_MESSAGE_H

#include <amqp.h>
#include <amqp_framing.h>

#include "core/queue.h"

struct mq_message_text { // room for the texts of the properties
    char id[ID_TEXT_BYTES], expiration[24];
};
// Async events are persistent; sync ones are transient and expire when nobody waits for them any more.
void mq_message_properties(const struct ev *ev, int64_t now_ms, struct mq_message_text *m,
                           amqp_basic_properties_t *ret);

// Where a received message came from.
struct mq_message_origin {
    struct str function, queue, exchange, routing_key;
    bool redelivered;
};
// Fills everything of a message but its tag. Takes over `body` (malloc'ed).
void mq_message_read(const struct mq_message_origin *from, const amqp_basic_properties_t *p, char *body, size_t body_bytes,
                     struct queue_msg *ret);

#endif
