// SPDX-License-Identifier: Apache-2.0
// A thread that has finished its work takes the next one that waits, so a thread is started only when fewer than the
// most are alive. The state is one for the process, under one lock.
#include "core/offload.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "core/base/log.h"

struct task {
    struct post post;
    struct loop *loop;
    void (*work)(void *arg);
    void (*done)(void *arg);
    void *arg;
    struct task *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct task *first_waiting, **last_waiting = &first_waiting; // under lock
static unsigned threads_alive;                                      // under lock
static atomic_size_t under_way; // from offload_run until done has returned

static void on_worked(struct post *post) {
    struct task *t = container_of(post, struct task, post);
    t->done(t->arg);
    free(t);
    under_way--;
}

// NULL: nothing waits, and the calling thread counts as gone.
static struct task *next_task(void) {
    pthread_mutex_lock(&lock);
    struct task *t = first_waiting;
    if (t) {
        first_waiting = t->next;
        if (!first_waiting) last_waiting = &first_waiting;
    } else {
        threads_alive--;
    }
    pthread_mutex_unlock(&lock);
    return t;
}

static void *run_tasks(void *arg) {
    (void)arg;
    struct task *t;
    while ((t = next_task())) {
        t->work(t->arg);
        loop_post(t->loop, &t->post);
    }
    return NULL;
}

static int start_thread(void) {
    sigset_t all, before;
    sigfillset(&all); // signals are the loop's
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    int rc = pthread_create(&thread, &attr, run_tasks, NULL);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

void offload_run(struct loop *loop, void (*work)(void *arg), void (*done)(void *arg), void *arg) {
    struct task *t = mem_zalloc(sizeof *t);
    *t = (struct task){.post = {.fn = on_worked}, .loop = loop, .work = work, .done = done, .arg = arg};
    under_way++;
    pthread_mutex_lock(&lock);
    *last_waiting = t;
    last_waiting = &t->next;
    bool one_more = threads_alive < OFFLOAD_THREADS_MAX;
    if (one_more) threads_alive++;
    pthread_mutex_unlock(&lock);
    if (!one_more || start_thread() == 0) return;
    log_warn("offload", "cannot start a thread; working on the loop's");
    run_tasks(NULL); // slow, but it is done
}

void offload_wait(struct loop *loop) {
    while (under_way > 0) loop_turn(loop, 50);
}
