// SPDX-License-Identifier: Apache-2.0
// The delivery tags of one channel that RabbitMQ waits for, and the fewest acks that settle them.
//
// Owns: an array of tags in ascending order. Flow: mq_unacked_add at delivery; mq_unacked_settle for each of a batch; then
//   one mq_unacked_take_prefix (send as multiple), and mq_unacked_take_next for what cannot wait for the prefix (send as
//   single).
// Threads: one. Memory: 8 bytes for each tag from the oldest unsettled on; compacted when mostly settled.
#ifndef CORE_QUEUE_AMQP_UNACKED_H
#define CORE_QUEUE_AMQP_UNACKED_H

#include <stdint.h>

#include "core/base/mem.h"

struct mq_unacked { // a zeroed one is empty
    uint64_t *slots;
    size_t head, end, room;
    size_t waiting; // tags that nobody settled yet
    size_t held;    // settled, their acks still to be sent
};
void mq_unacked_done(struct mq_unacked *u); // empty again
void mq_unacked_add(struct mq_unacked *u, uint64_t tag); // above all tags before
// False for a tag that is unknown or settled. A released one is the caller's to nack, before any ack is sent.
bool mq_unacked_settle(struct mq_unacked *u, uint64_t tag, bool release) must_use;
// The last settled tag before the first one that waits; *ret_count how many acks it stands for. False when there is none.
bool mq_unacked_take_prefix(struct mq_unacked *u, uint64_t *ret_tag, size_t *ret_count) must_use;
// The lowest tag whose ack is still to be sent; call it until it says false. *at is 0 at the first call.
bool mq_unacked_take_next(struct mq_unacked *u, size_t *at, uint64_t *ret_tag) must_use;

#endif
