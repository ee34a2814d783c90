// SPDX-License-Identifier: Apache-2.0
#include "workers/delivery.h"

#include "core/base/fault.h"

#define BIT(state) (1u << (state))

static const struct {
    const char *word;
    unsigned next;
} states[] = {
#define X(name, word, next) [name] = {word, next},
    DELIVERY_STATES(X)
#undef X
};

const char *delivery_state_word(enum delivery_state s) {
    return states[s].word;
}

struct delivery *delivery_new(const struct queue_msg *msg, struct queue_consumer *consumer, struct lane *lane, size_t *open) {
    struct delivery *d = mem_zalloc(sizeof *d);
    *d = (struct delivery){
        .state = DELIVERY_RECEIVED, .ev = msg->ev, .consumer = consumer, .tag = msg->tag, .lane = lane, .open = open};
    ++*open;
    return d;
}

void delivery_move(struct delivery *d, enum delivery_state to) {
    MUST(states[d->state].next & BIT(to));
    d->state = to;
    FAULT2("delivery.", states[to].word);
}

static void done_with(struct delivery *d) {
    if (d->on_end) d->on_end(d);
    --*d->open;
    version_unref(d->version);
    ev_free(d->ev);
    free(d);
}

void delivery_settle(struct delivery *d) {
    delivery_move(d, DELIVERY_SETTLED);
    queue_ack(d->consumer, d->tag);
    done_with(d);
}

void delivery_release(struct delivery *d) {
    delivery_move(d, DELIVERY_RELEASED);
    queue_release(d->consumer, d->tag);
    done_with(d);
}
