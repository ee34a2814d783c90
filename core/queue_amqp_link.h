// SPDX-License-Identifier: Apache-2.0
// One consumer's channel, on the consuming thread: opening it, putting deliveries together, acknowledging.
//
// Flow: mq_link_open -> mq_link_frame for each of its frames -> notices in `out` -> mq_link_settle -> mq_link_shut.
//   Nothing waits for an answer: methods are sent in one go, and answers are frames like any other. So a queue that does
//   not answer (a quorum queue without a leader) holds up nobody else.
// Delivery: `epoch` is part of every tag, so that tags of an earlier channel are recognised as void.
// Threads: the consuming one. Blocking: never.
// Errors: ERR_UNAVAILABLE when the connection is lost; what RabbitMQ refuses comes as a channel.close frame.
#ifndef CORE_QUEUE_AMQP_LINK_H
#define CORE_QUEUE_AMQP_LINK_H

#include "core/queue_amqp_conn.h"
#include "core/queue_amqp_consumer.h"
#include "core/queue_amqp_pace.h"
#include "core/queue_amqp_unacked.h"

// What a foreign queue was found to be. It is looked at on a channel of its own before it is consumed: a stream would take
// the consumer, but never lets go of a message that was acknowledged.
enum mq_probe {
    MQ_PROBE_NEEDED,
    MQ_PROBE_DONE,
    MQ_PROBE_DENIED, // no permission; a stream is known by its messages then
};
// A change of prefetch: RabbitMQ gives it to a consumer when it starts.
enum mq_tuning {
    MQ_TUNED,
    MQ_TUNING_STOPS, // asked the consumer to end
    MQ_TUNING_STOPPED,  // it has: a new one starts when it fits in the credit beside what is still unsettled
};

struct mq_link {
    struct mq_link *next; // in the thread's list
    void *owner;
    char *function, *queue;
    // A foreign queue; trigger is NULL for one of ours. exchange and binding: it is declared and bound to that.
    char *trigger, *shape, *exchange, *binding;
    bool declares;            // the queue is made when it is not there
    enum mq_probe probe;
    bool refused;             // it is a stream
    uint16_t fixed_prefetch;  // 0: follows what is settled
    struct mq_pace pace;
    size_t settled;           // acks and releases that came in, ever
    size_t credit, credit_bytes;
    bool open;                // a channel is in use
    bool ready;               // and RabbitMQ has said that it consumes
    bool passive;             // the queue exists with other arguments: only look whether it is there
    bool paused;              // no deliveries any more; only settles
    amqp_channel_t channel;   // while open
    uint16_t epoch;
    uint16_t prefetch;
    enum mq_tuning tuning;
    uint64_t ready_count, consumers; // in its queue, at the last look
    size_t looks;             // MQ_LOOK commands that wait for an answer
    unsigned replaced;        // for being stuck, in a row
    struct err why;           // it is not consuming; code 0: it is
    unsigned consumer_number; // makes the consumer tag unique on the channel
    unsigned failures;        // to open, in a row
    int64_t retry_ns;         // not opened before
    int64_t quiet_ns;         // when it last got something, or was looked at
    bool asked;               // a look at the queue is under way
    bool suspect;             // its queue had messages at the last look
    bool stuck;               // and at the one before
    int64_t retune_ns;
    double average_bytes;     // of a message; 0 unknown
    struct mq_unacked unacked;
    int64_t held_ns;          // since when acks are held back; 0: none are
    int64_t gap_ns;           // since when some are held back behind one that still runs; 0: none are
    size_t told;              // acks and releases that were sent or are void, for the next MQ_SETTLED
    struct mq_notice *batch;  // being filled
    // The delivery that is being put together; what these point to lives in the channel's pool until it is complete.
    const amqp_basic_deliver_t *deliver;
    const amqp_basic_properties_t *properties;
    char *body;
    size_t body_bytes, body_got;
    uint64_t skipped_bytes;   // still to come of a body that is too large
};

void mq_link_free(struct mq_link *l);
int mq_link_open(struct mq_link *l, struct mq_conn *c, amqp_channel_t channel, struct err *err) must_use;
// Its frames but those that end the channel; complete messages go into the batch, and full batches into `out`.
void mq_link_frame(struct mq_link *l, struct mq_conn *c, const amqp_frame_t *frame, struct mq_list *out);
void mq_link_flush(struct mq_link *l, struct mq_list *out); // the batch, full or not
// Sends nacks; acks are held back for mq_link_send_acks. Void tags are skipped.
int mq_link_settle(struct mq_link *l, struct mq_conn *c, const struct mq_settle *settles, size_t count, struct err *err);
// Sends the acks that are due, as few frames as possible: many together, or after a short while; all of them at once.
int mq_link_send_acks(struct mq_link *l, struct mq_conn *c, int64_t now_ns, bool all, struct err *err) must_use;
// When the acks that are held back will be due; INT64_MAX: none are.
int64_t mq_link_acks_due_ns(const struct mq_link *l);
// The channel is gone, or is asked to go: tells the owner that its tags are void.
void mq_link_shut(struct mq_link *l, struct mq_list *out);
// No more deliveries; what is unsettled can still be settled.
int mq_link_pause(struct mq_link *l, struct mq_conn *c, struct err *err);
// No more deliveries, and what is unsettled goes back. The channel has to live on for a while, see the consumer's thread.
int mq_link_cancel(struct mq_link *l, struct mq_conn *c, struct err *err) must_use;
// Consumes with another prefetch when messages turned out to be much bigger or smaller than credit_bytes allows for, or its
// consumer much faster or slower. Never more than credit is unsettled.
int mq_link_retune(struct mq_link *l, struct mq_conn *c, int64_t now_ns, struct err *err) must_use;
// When it is quiet for long and all credit is free: asks how many messages its queue has. Two looks that found some while
// nothing came make it `stuck`; so does an opening that gets no answer.
int mq_link_watch(struct mq_link *l, struct mq_conn *c, int64_t now_ns, struct err *err) must_use;

// RabbitMQ closed its channel for that reason. True: open it again at once (it knows more now); false: later.
bool mq_link_learn(struct mq_link *l, const struct err *why) must_use;
// For MQ_LOOK: asks for the queue's figures; the answer is an MQ_LOOKED in `out`, at once when there is no channel.
int mq_link_look(struct mq_link *l, struct mq_conn *c, struct mq_list *out, struct err *err);

struct mq_notice *mq_notice_new(enum mq_notice_kind kind, void *owner) must_use;
void mq_notice_free(struct mq_notice *n); // with the events that nobody took

#endif
