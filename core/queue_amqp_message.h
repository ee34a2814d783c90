// SPDX-License-Identifier: Apache-2.0
// Events to AMQP messages and back.
//
// A message that is no event of ours becomes an event around its body. Its properties are headers: content-type,
//   content-encoding, delivery-mode (1 or 2), priority, correlation-id, reply-to, expiration (ms), message-id, timestamp
//   (seconds), type, user-id, app-id, each only when it is set. Then its headers under their own names: texts and bytes as
//   they are, numbers in decimal, booleans true or false, lists and tables as JSON text (so x-death is
//   [{"count":1,"reason":"expired","queue":…}]); empty ones (void) and x-delivery-count are left out. The names are not
//   changed, and a header may be named like a property; the property comes first.
// In a queue of ours a message with our content type is decoded. In a queue of somebody else's (foreign) it is a raw
//   message like any other, bytes and content type kept: nobody else's message becomes an event with an id, a function
//   and a history that weir did not give it.
// source_at: {"queue":…,"exchange":…,"routingKey":…,"redelivered":…}, "timestamp" in milliseconds when there is one, and
//   "vhost" when it is not "/".
// Ids: in a queue of ours a message-id that is a UUID is the event's id. In a foreign one every delivery has a new id: the
//   publisher may have sent that message-id twice, or to two queues, and two events of one id would share one letter.
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
    struct str function, vhost, queue, exchange, routing_key;
    bool redelivered;
    bool foreign;              // not from a queue of ours:
    struct str trigger, shape; // source_name and shape
};
// Fills everything of a message but its tag. Takes over `body` (malloc'ed). QUEUE_UNDECODABLE also for a message with more
// headers than an event may have, and headers nested too deep or too long to be JSON text.
void mq_message_read(const struct mq_message_origin *from, const amqp_basic_properties_t *p, char *body, size_t body_bytes,
                     struct queue_msg *ret);

#endif
