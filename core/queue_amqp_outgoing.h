// SPDX-License-Identifier: Apache-2.0
// A sink's message as AMQP sends it.
//
// The first header that is named like a property (content-type, content-encoding, correlation-id, reply-to, expiration, type,
//   app-id, priority, timestamp, message-id) becomes that property unless the message says it itself: what
//   core/queue_amqp_message reads is written back the same. All others are text headers. Left out: delivery-mode (it is always
//   persistent), user-id (the broker takes its own user's only), CC and BCC (they route), and what brokers note about
//   dead-lettering (x-death, x-first-death-*, x-last-death-*, x-delivery-count).
// Threads: one at a time. Memory: a copy of everything.
#ifndef CORE_QUEUE_AMQP_OUTGOING_H
#define CORE_QUEUE_AMQP_OUTGOING_H

#include <amqp.h>
#include <amqp_framing.h>

#include "core/sink.h"

struct mq_outgoing {
    struct str exchange, routing_key, payload;
    amqp_basic_properties_t properties;
    amqp_table_entry_t *entries; // of properties.headers
    char *block;                 // what all spans point into
};
// ERR_TOO_LARGE: a name over 255 bytes, or headers that do not fit into one frame.
int mq_outgoing_init(struct mq_outgoing *o, const struct sink_message *m, struct err *err) must_use;
void mq_outgoing_done(struct mq_outgoing *o);

#endif
