// SPDX-License-Identifier: Apache-2.0
// Invariant: a wake-up (eventfd or post) is made only when the list was empty, so a busy queue costs one a batch.
#include "core/queue_amqp_box.h"

#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

void mq_list_add(struct mq_list *list, struct mq_item *item) {
    item->next = NULL;
    if (list->last) list->last->next = item;
    else list->first = item;
    list->last = item;
}

struct mq_item *mq_list_take_first(struct mq_list *list) {
    struct mq_item *item = list->first;
    if (!item) return NULL;
    list->first = item->next;
    if (!list->first) list->last = NULL;
    item->next = NULL;
    return item;
}

void mq_list_move(struct mq_list *to, struct mq_list *from) {
    if (!from->first) return;
    if (to->last) to->last->next = from->first;
    else to->first = from->first;
    to->last = from->last;
    *from = (struct mq_list){0};
}

void mq_inbox_init(struct mq_inbox *box) {
    *box = (struct mq_inbox){0};
    pthread_mutex_init(&box->lock, NULL);
    box->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    MUST(box->wake_fd >= 0);
}

void mq_inbox_done(struct mq_inbox *box) {
    pthread_mutex_destroy(&box->lock);
    close(box->wake_fd);
}

void mq_inbox_put(struct mq_inbox *box, struct mq_list *list) {
    if (!list->first) return;
    pthread_mutex_lock(&box->lock);
    bool was_empty = box->list.first == NULL;
    mq_list_move(&box->list, list);
    pthread_mutex_unlock(&box->lock);
    if (was_empty) mq_inbox_wake(box);
}

void mq_inbox_wake(struct mq_inbox *box) {
    uint64_t one = 1;
    while (write(box->wake_fd, &one, sizeof one) < 0 && errno == EINTR) {
        // A full counter is as good as a written one.
    }
}

void mq_inbox_take(struct mq_inbox *box, struct mq_list *to) {
    uint64_t count;
    if (read(box->wake_fd, &count, sizeof count) < 0) return; // nothing was put since
    pthread_mutex_lock(&box->lock);
    mq_list_move(to, &box->list);
    pthread_mutex_unlock(&box->lock);
}

static void on_post(struct post *post) {
    struct mq_outbox *box = container_of(post, struct mq_outbox, post);
    struct mq_list items = {0};
    pthread_mutex_lock(&box->lock);
    box->posted = false;
    mq_list_move(&items, &box->list);
    pthread_mutex_unlock(&box->lock);
    box->on_items(box->arg, &items);
}

void mq_outbox_init(struct mq_outbox *box, struct loop *loop, void (*on_items)(void *arg, struct mq_list *items),
                    void *arg) {
    *box = (struct mq_outbox){.loop = loop, .on_items = on_items, .arg = arg, .post = {.fn = on_post}};
    pthread_mutex_init(&box->lock, NULL);
}

void mq_outbox_done(struct mq_outbox *box) {
    pthread_mutex_destroy(&box->lock);
}

void mq_outbox_put(struct mq_outbox *box, struct mq_list *list) {
    if (!list->first) return;
    pthread_mutex_lock(&box->lock);
    mq_list_move(&box->list, list);
    bool post = !box->posted;
    box->posted = true;
    pthread_mutex_unlock(&box->lock);
    if (post) loop_post(box->loop, &box->post);
}

void mq_thread_start(pthread_t *ret, void *(*run)(void *arg), void *arg) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    MUST(pthread_create(ret, NULL, run, arg) == 0);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}
