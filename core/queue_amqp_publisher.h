// SPDX-License-Identifier: Apache-2.0
// The publishing side of the amqp queue: one thread with one connection that sends, counts confirms, and asks the broker
// for depths and deletions.
//
// Flow: mq_publisher_submit (loop) -> thread -> mq_request.done on the loop, in batches of one post.
// Delivery: a request is done with ERR_OK when RabbitMQ confirmed it. ERR_UNAVAILABLE: not connected, connection lost
//   before the confirm (it may have arrived all the same), memory or disk alarm, refused. ERR_BUSY: refused by a queue
//   that is full. ERR_TOO_LARGE. ERR_TIMEOUT: a sync event whose deadline passed before it was sent.
//   A message that no queue takes (its queue was deleted), or that its queue refuses, makes the queue anew and is sent once
//   more before that is said.
// Threads: the functions on the loop. Blocking: only the thread.
// Memory: the caller bounds what it submits; the thread keeps it until it is done.
#ifndef CORE_QUEUE_AMQP_PUBLISHER_H
#define CORE_QUEUE_AMQP_PUBLISHER_H

#include "core/queue.h"
#include "core/queue_amqp_box.h"

struct mq_url;
struct mq_publisher;

#define MQ_IN_FLIGHT_MAX 16384 // messages submitted and not done
#define MQ_IN_FLIGHT_BYTES_MAX (64u * 1024 * 1024)

enum mq_request_kind { MQ_PUBLISH, MQ_DEPTH, MQ_DELETE };
struct mq_request {
    struct mq_item item; // first
    enum mq_request_kind kind;
    struct ev *ev;       // MQ_PUBLISH; freed by the thread
    size_t bytes;        // what the caller counted for it
    struct str function; // of ev, or allocated with the request
    union {
        queue_confirm_fn *confirm;
        queue_depth_fn *depth;
    } fn;
    void *arg;
    int code;
    struct err *err;     // when code is not ERR_OK; freed by the receiver
    uint64_t ready;      // MQ_DEPTH
    struct id id;
    bool returned, retried; // for the thread
};

// on_done takes over the requests; on_stopped comes after mq_publisher_stop, when nothing is left; then free it.
struct mq_publisher *mq_publisher_start(struct loop *loop, const struct mq_url *url,
                                        void (*on_done)(void *arg, struct mq_list *requests),
                                        void (*on_stopped)(void *arg), void *arg) must_use;
void mq_publisher_submit(struct mq_publisher *p, struct mq_list *requests);
bool mq_publisher_is_up(const struct mq_publisher *p);
void mq_publisher_stop(struct mq_publisher *p); // waits for confirms for a while, without blocking the caller
void mq_publisher_free(struct mq_publisher *p);

#endif
