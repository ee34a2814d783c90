// SPDX-License-Identifier: Apache-2.0
// The consuming side of the amqp queue: one thread with one connection, a channel for each consumer.
//
// A channel for each: prefetch counts, multiple acks, and closing one consumer (which gives back what it held) are then
// its own, and one that RabbitMQ closes for an error takes no other with it.
// Flow: mq_consumer_submit(commands) -> thread -> notices on the loop, in batches of one post.
// Delivery: what was handed out and not acknowledged when a channel or the connection ends is void (MQ_LOST) and comes
//   again; the thread reconnects, declares and consumes again by itself. A queue that was deleted is declared anew. A
//   consumer that gets nothing while its queue has messages is replaced.
// A foreign queue that is not there is looked for again and again, with back-off; a stream is refused, and looked at again
//   every minute. A message over MQ_BODY_MAX is not handed out: it stays unacknowledged, is logged, and goes back in the end.
// Threads: the functions on the loop. Blocking: only the thread.
// Memory: about credit messages for each consumer.
#ifndef CORE_QUEUE_AMQP_CONSUMER_H
#define CORE_QUEUE_AMQP_CONSUMER_H

#include "core/queue.h"
#include "core/queue_amqp_box.h"

struct mq_url;
struct mq_consumer;
struct mq_link; // one consumer's channel, for the thread; for the loop only a name

#define MQ_BODY_MAX (64u * 1024 * 1024)
#define MQ_EPOCH_SHIFT 48 // a tag: which channel of the link (counted, 16 bits), then RabbitMQ's delivery tag

enum mq_command_kind { MQ_SUBSCRIBE, MQ_SETTLE, MQ_PAUSE, MQ_LOOK, MQ_UNSUBSCRIBE };
struct mq_settle {
    uint64_t tag;
    bool release;
};
struct mq_command {
    struct mq_item item; // first
    enum mq_command_kind kind;
    struct mq_link *link;
    size_t count, room; // MQ_SETTLE
    struct mq_settle *settles;
};

enum mq_notice_kind { MQ_MESSAGES, MQ_LOST, MQ_SETTLED, MQ_LOOKED, MQ_UNSUBSCRIBED, MQ_STOPPED };
struct mq_look { // MQ_LOOKED
    bool up, paused;
    struct err why; // code 0: nothing is wrong
    uint64_t ready, consumers;
    size_t in_flight;
    unsigned prefetch;
};
struct mq_notice {
    struct mq_item item; // first
    enum mq_notice_kind kind;
    void *owner;        // as given to mq_link_new
    size_t count, room; // MQ_MESSAGES; MQ_SETTLED: how many acks and releases were sent (or are void)
    struct queue_msg *msgs; // `why` is allocated: free it after use
    struct mq_look *look;   // MQ_LOOKED
};

// Belongs to the thread once an MQ_SUBSCRIBE with it was submitted; MQ_UNSUBSCRIBE frees it.
struct mq_link *mq_link_new(struct str function, size_t credit, size_t credit_bytes, void *owner) must_use;
// A queue of somebody else's. Spans may be empty; copied.
struct mq_foreign {
    struct str queue;             // or empty, with:
    struct str exchange, binding; // the durable queue weir.trigger.<trigger> is declared and bound
    bool declare;                 // make the queue when it is not there
    struct str trigger, shape;    // of the events
    uint16_t prefetch;            // 0: follows what is settled
};
struct mq_link *mq_link_new_foreign(const struct mq_foreign *from, struct str function, size_t credit, size_t credit_bytes,
                                    void *owner) must_use;
char *mq_foreign_queue_name(const struct mq_foreign *from) must_use; // caller frees

// on_notice gets each notice, which is freed after it. on_stopped comes after mq_consumer_stop; then free it.
struct mq_consumer *mq_consumer_start(struct loop *loop, const struct mq_url *url,
                                      void (*on_notice)(void *arg, struct mq_notice *notice),
                                      void (*on_stopped)(void *arg), void *arg) must_use;
void mq_consumer_submit(struct mq_consumer *t, struct mq_list *commands);
void mq_consumer_stop(struct mq_consumer *t); // after every link was unsubscribed
void mq_consumer_free(struct mq_consumer *t);

#endif
