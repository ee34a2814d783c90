// SPDX-License-Identifier: Apache-2.0
// The end of librdkafka's clients. Destroying one joins its threads, and they may wait for a broker or a coordinator for minutes.
// So it is done on a thread of its own that nobody waits for, but the process for a short while at its own end.
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/kafka_impl.h"

struct ending {
    void (*work)(void *arg);
    void *arg;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static size_t under_way; // under lock

static void *run(void *arg) {
    struct ending e = *(struct ending *)arg;
    free(arg);
    e.work(e.arg);
    pthread_mutex_lock(&lock);
    under_way--;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return NULL;
}

void kafka_end(void (*work)(void *arg), void *arg) {
    struct ending *e = mem_alloc(sizeof *e);
    *e = (struct ending){work, arg};
    pthread_mutex_lock(&lock);
    under_way++;
    pthread_mutex_unlock(&lock);
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all); // signals are the loop's
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread, NULL, run, e);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0) pthread_detach(thread);
    else (void)run(e);
}

bool kafka_ended(int64_t wait_ms) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += wait_ms / 1000;
    pthread_mutex_lock(&lock);
    int rc = 0;
    while (under_way && rc == 0) rc = pthread_cond_timedwait(&changed, &lock, &until);
    bool ended = under_way == 0;
    pthread_mutex_unlock(&lock);
    return ended;
}
