// SPDX-License-Identifier: Apache-2.0
// The loop on libevent. The only file that knows libevent.
//
// Invariants: posted calls run in the order in which they were posted; the deferred list is emptied before the loop
// waits again; the wake-up eventfd is written only when the posted list was empty.
#include "core/base/loop.h"

#include <event2/event.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/clock.h"

#define SIGNALS_MAX 8

struct signal_slot {
    struct event *ev;
    signal_fn *fn;
    void *arg;
};

struct loop {
    struct event_base *base;
    int64_t now_ns, unix_ms;
    bool stop;
    struct defer *defer_first, **defer_last;
    pthread_mutex_t post_lock;
    struct post *post_first, **post_last; // under post_lock
    int wake_fd;
    struct io *wake_io;
    struct signal_slot signals[SIGNALS_MAX];
    size_t signal_count;
};

struct io {
    struct loop *loop;
    struct event *read_ev, *write_ev;
    io_fn *fn;
    void *arg;
    int want;
};

struct timer {
    struct loop *loop;
    struct event *ev;
    int64_t due_ns;
    timer_fn *fn;
    void *arg;
};

static void read_clocks(struct loop *loop) {
    loop->now_ns = clock_mono_ns();
    loop->unix_ms = clock_unix_ms();
}

static void run_posts(struct loop *loop) {
    pthread_mutex_lock(&loop->post_lock);
    struct post *p = loop->post_first;
    loop->post_first = NULL;
    loop->post_last = &loop->post_first;
    pthread_mutex_unlock(&loop->post_lock);
    while (p) {
        struct post *next = p->next; // fn may free p
        p->fn(p);
        p = next;
    }
}

static void on_wake(void *arg, int ready) {
    (void)ready;
    struct loop *loop = arg;
    uint64_t count;
    if (read(loop->wake_fd, &count, sizeof count) < 0) {
        // Taken already; the list is what counts.
    }
    run_posts(loop);
}

struct loop *loop_new(void) {
    struct loop *loop = mem_zalloc(sizeof *loop);
    loop->base = event_base_new();
    MUST(loop->base);
    loop->defer_last = &loop->defer_first;
    loop->post_last = &loop->post_first;
    pthread_mutex_init(&loop->post_lock, NULL);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    MUST(loop->wake_fd >= 0);
    loop->wake_io = io_new(loop, loop->wake_fd, on_wake, loop);
    io_want(loop->wake_io, IO_READ);
    read_clocks(loop);
    return loop;
}

static void run_deferred(struct loop *loop);

void loop_free(struct loop *loop) {
    if (!loop) return;
    run_deferred(loop); // what was freed in the last turn
    for (size_t i = 0; i < loop->signal_count; i++) event_free(loop->signals[i].ev);
    io_free(loop->wake_io);
    close(loop->wake_fd);
    pthread_mutex_destroy(&loop->post_lock);
    event_base_free(loop->base);
    free(loop);
}

static void run_deferred(struct loop *loop) {
    while (loop->defer_first) {
        struct defer *d = loop->defer_first;
        loop->defer_first = d->next;
        if (!loop->defer_first) loop->defer_last = &loop->defer_first;
        d->next = NULL;
        d->queued = false;
        d->fn(d->arg);
    }
}

static void turn(struct loop *loop, int flags) {
    run_deferred(loop);
    event_base_loop(loop->base, flags);
    read_clocks(loop);
    run_deferred(loop);
}

void loop_run(struct loop *loop) {
    read_clocks(loop);
    while (!loop->stop) turn(loop, EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY);
    loop->stop = false;
}

void loop_stop(struct loop *loop) {
    loop->stop = true;
}

static void on_turn_limit(void *arg) {
    (void)arg; // waking up was the point
}

void loop_turn(struct loop *loop, int wait_ms) {
    struct timer *limit = timer_new(loop, on_turn_limit, NULL);
    timer_start(limit, wait_ms);
    turn(loop, EVLOOP_ONCE);
    timer_free(limit);
}

int64_t loop_now_ns(const struct loop *loop) {
    return loop->now_ns;
}

int64_t loop_unix_ms(const struct loop *loop) {
    return loop->unix_ms;
}

static void on_fd(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    struct io *io = arg;
    read_clocks(io->loop);
    io->fn(io->arg, what & EV_READ ? IO_READ : IO_WRITE);
}

struct io *io_new(struct loop *loop, int fd, io_fn *fn, void *arg) {
    struct io *io = mem_zalloc(sizeof *io);
    *io = (struct io){.loop = loop, .fn = fn, .arg = arg};
    io->read_ev = event_new(loop->base, fd, EV_READ | EV_PERSIST, on_fd, io);
    io->write_ev = event_new(loop->base, fd, EV_WRITE | EV_PERSIST, on_fd, io);
    MUST(io->read_ev && io->write_ev);
    return io;
}

static void set_watch(struct event *ev, bool on) {
    if (on) MUST(event_add(ev, NULL) == 0);
    else event_del(ev);
}

void io_want(struct io *io, int want) {
    int changed = want ^ io->want;
    if (changed & IO_READ) set_watch(io->read_ev, want & IO_READ);
    if (changed & IO_WRITE) set_watch(io->write_ev, want & IO_WRITE);
    io->want = want;
}

void io_free(struct io *io) {
    if (!io) return;
    event_free(io->read_ev);
    event_free(io->write_ev);
    free(io);
}

static void add_timer(struct timer *t, int64_t delay_ns) {
    int64_t us = (delay_ns + 999) / 1000;
    struct timeval tv = {.tv_sec = us / 1000000, .tv_usec = us % 1000000};
    MUST(event_add(t->ev, &tv) == 0);
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    struct timer *t = arg;
    read_clocks(t->loop);
    int64_t left_ns = t->due_ns - t->loop->now_ns;
    if (left_ns > 0) add_timer(t, left_ns); // libevent reads a coarse clock and may be some milliseconds early
    else t->fn(t->arg);
}

struct timer *timer_new(struct loop *loop, timer_fn *fn, void *arg) {
    struct timer *t = mem_zalloc(sizeof *t);
    *t = (struct timer){.loop = loop, .fn = fn, .arg = arg};
    t->ev = event_new(loop->base, -1, 0, on_timer, t);
    MUST(t->ev);
    return t;
}

void timer_start(struct timer *t, int64_t delay_ms) {
    if (delay_ms < 0) delay_ms = 0;
    t->due_ns = clock_mono_ns() + delay_ms * NS_PER_MS;
    add_timer(t, delay_ms * NS_PER_MS);
}

void timer_stop(struct timer *t) {
    event_del(t->ev);
}

void timer_free(struct timer *t) {
    if (!t) return;
    event_free(t->ev);
    free(t);
}

void loop_defer(struct loop *loop, struct defer *d) {
    if (d->queued) return;
    d->queued = true;
    d->next = NULL;
    *loop->defer_last = d;
    loop->defer_last = &d->next;
}

void loop_defer_cancel(struct loop *loop, struct defer *d) {
    if (!d->queued) return;
    struct defer **at = &loop->defer_first;
    while (*at != d) at = &(*at)->next;
    *at = d->next;
    if (loop->defer_last == &d->next) loop->defer_last = at;
    d->queued = false;
    d->next = NULL;
}

void loop_post(struct loop *loop, struct post *post) {
    post->next = NULL;
    pthread_mutex_lock(&loop->post_lock);
    bool was_empty = loop->post_first == NULL;
    *loop->post_last = post;
    loop->post_last = &post->next;
    pthread_mutex_unlock(&loop->post_lock);
    if (!was_empty) return;
    uint64_t one = 1;
    while (write(loop->wake_fd, &one, sizeof one) < 0) {
        // Only EINTR or a full counter, which means awake already; the next try settles it.
    }
}

static void on_signal(evutil_socket_t signo, short what, void *arg) {
    (void)what;
    struct signal_slot *slot = arg;
    slot->fn(slot->arg, (int)signo);
}

void loop_on_signal(struct loop *loop, int signo, signal_fn *fn, void *arg) {
    MUST(loop->signal_count < SIGNALS_MAX);
    struct signal_slot *slot = &loop->signals[loop->signal_count++];
    *slot = (struct signal_slot){.fn = fn, .arg = arg};
    slot->ev = evsignal_new(loop->base, signo, on_signal, slot);
    MUST(slot->ev && event_add(slot->ev, NULL) == 0);
}
