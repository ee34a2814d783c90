// SPDX-License-Identifier: Apache-2.0
// A slot is a tag with its state in the low two bits. A multiple ack must end at a tag that RabbitMQ still holds, or it
// closes the channel: so the prefix ends at the last slot in state ACKED, not at any GONE one behind it.
#include "core/queue_amqp_unacked.h"

enum slot_state { WAITING, ACKED /* its ack is to be sent */, GONE /* acked or nacked on the wire */ };

#define STATE_BITS 2
#define STATE(slot) ((slot) & 3)

void mq_unacked_done(struct mq_unacked *u) {
    free(u->slots);
    *u = (struct mq_unacked){0};
}

static void make_room(struct mq_unacked *u) {
    size_t kept = 0;
    for (size_t i = u->head; i < u->end; i++)
        if (STATE(u->slots[i]) != GONE) u->slots[kept++] = u->slots[i];
    u->head = 0;
    u->end = kept;
    if (kept < u->room / 2) return;
    u->room = u->room ? u->room * 2 : 64;
    u->slots = mem_realloc(u->slots, u->room * sizeof *u->slots);
}

void mq_unacked_add(struct mq_unacked *u, uint64_t tag) {
    if (u->end == u->room) make_room(u);
    MUST(u->head == u->end || u->slots[u->end - 1] >> STATE_BITS < tag);
    u->slots[u->end++] = tag << STATE_BITS | WAITING;
    u->waiting++;
}

static uint64_t *find(struct mq_unacked *u, uint64_t tag) {
    size_t low = u->head, high = u->end;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (u->slots[mid] >> STATE_BITS < tag) low = mid + 1;
        else high = mid;
    }
    return low < u->end && u->slots[low] >> STATE_BITS == tag ? &u->slots[low] : NULL;
}

bool mq_unacked_settle(struct mq_unacked *u, uint64_t tag, bool release) {
    uint64_t *slot = find(u, tag);
    if (!slot || STATE(*slot) != WAITING) return false;
    *slot |= release ? GONE : ACKED;
    u->waiting--;
    u->held += !release;
    return true;
}

bool mq_unacked_take_prefix(struct mq_unacked *u, uint64_t *ret_tag, size_t *ret_count) {
    size_t count = 0;
    for (; u->head < u->end && STATE(u->slots[u->head]) != WAITING; u->head++) {
        if (STATE(u->slots[u->head]) == GONE) continue;
        count++;
        *ret_tag = u->slots[u->head] >> STATE_BITS;
    }
    if (u->head == u->end) u->head = u->end = 0;
    u->held -= count;
    *ret_count = count;
    return count > 0;
}

bool mq_unacked_take_next(struct mq_unacked *u, size_t *at, uint64_t *ret_tag) {
    for (; u->held > 0 && u->head + *at < u->end; ++*at) {
        uint64_t *slot = &u->slots[u->head + *at];
        if (STATE(*slot) != ACKED) continue;
        *ret_tag = *slot >> STATE_BITS;
        *slot = *ret_tag << STATE_BITS | GONE;
        u->held--;
        return true;
    }
    return false;
}
