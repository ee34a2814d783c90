// SPDX-License-Identifier: Apache-2.0
// The two mailboxes between the loop and a connection's thread: lists that are handed over as a whole.
//
// Owns: a lock, an eventfd (inbox) or a posted call (outbox). Does not own the items: they are structs that begin with
//   struct mq_item. Flow: loop: mq_inbox_put(list) -> the thread's poll() wakes -> mq_inbox_take. Thread:
//   mq_outbox_put(list) -> one loop_post for everything that waits -> on_items on the loop.
// Threads: put and take from either side. Order is kept.
#ifndef CORE_QUEUE_AMQP_BOX_H
#define CORE_QUEUE_AMQP_BOX_H

#include <pthread.h>

#include "core/base/loop.h"

struct mq_item {
    struct mq_item *next;
};
struct mq_list { // a zeroed one is empty
    struct mq_item *first, *last;
};
void mq_list_add(struct mq_list *list, struct mq_item *item);
struct mq_item *mq_list_take_first(struct mq_list *list); // NULL when empty
void mq_list_move(struct mq_list *to, struct mq_list *from); // appends; `from` is empty after

struct mq_inbox {
    pthread_mutex_t lock;
    struct mq_list list; // under lock
    int wake_fd;         // readable when there is something
};
void mq_inbox_init(struct mq_inbox *box);
void mq_inbox_done(struct mq_inbox *box);
void mq_inbox_put(struct mq_inbox *box, struct mq_list *list);
void mq_inbox_wake(struct mq_inbox *box); // the thread looks up though nothing was put
void mq_inbox_take(struct mq_inbox *box, struct mq_list *to);

struct mq_outbox {
    pthread_mutex_t lock;
    struct mq_list list; // under lock
    bool posted;         // under lock
    struct post post;
    struct loop *loop;
    // On the loop; the items are the receiver's. May end the thread and free what the outbox is part of.
    void (*on_items)(void *arg, struct mq_list *items);
    void *arg;
};
void mq_outbox_init(struct mq_outbox *box, struct loop *loop, void (*on_items)(void *arg, struct mq_list *items),
                    void *arg);
void mq_outbox_done(struct mq_outbox *box);
void mq_outbox_put(struct mq_outbox *box, struct mq_list *list);

// A thread that takes no signals.
void mq_thread_start(pthread_t *ret, void *(*run)(void *arg), void *arg);

#endif
