// SPDX-License-Identifier: Apache-2.0
// The event loop: file descriptors, timers, work at the end of a turn, and calls posted from other threads.
//
// Owns: one epoll set (libevent). Flow: a *turn* waits for something to happen, runs its callbacks, then runs the
//   deferred calls once (where small writes are joined into one writev and small publishes into one batch).
// Threads: everything belongs to the thread in loop_run, except loop_post. Blocking: callbacks must not.
// Memory: io and timer objects may be freed inside any callback, their own too.
// Units: timers in milliseconds; loop_now_ns is monotonic nanoseconds, loop_unix_ms Unix milliseconds: both are read before a callback
//   of a descriptor or timer and before the deferred calls, so they stand still within one.
#ifndef CORE_BASE_LOOP_H
#define CORE_BASE_LOOP_H

#include <stdint.h>

#include "core/base/err.h"

struct loop;
struct io;
struct timer;

struct loop *loop_new(void) must_use;
void loop_free(struct loop *loop);
// Returns after loop_stop, when the turn is over.
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
// One turn that waits at most wait_ms; for tests.
void loop_turn(struct loop *loop, int wait_ms);
int64_t loop_now_ns(const struct loop *loop);
int64_t loop_unix_ms(const struct loop *loop);

enum io_want { IO_READ = 1, IO_WRITE = 2 };
typedef void io_fn(void *arg, int ready); // ready: bits of enum io_want; errors and hang-ups show as ready
struct io *io_new(struct loop *loop, int fd, io_fn *fn, void *arg) must_use;
void io_want(struct io *io, int want);    // level-triggered; 0 stops
void io_free(struct io *io);              // does not close the fd

typedef void timer_fn(void *arg);
struct timer *timer_new(struct loop *loop, timer_fn *fn, void *arg) must_use;
void timer_start(struct timer *t, int64_t delay_ms); // one shot, never early; a running timer is set anew
void timer_stop(struct timer *t);
void timer_free(struct timer *t);

// A call that runs once at the end of this turn, however often it was asked for. Embed it in the object it serves.
// A deferred call may ask for others, which run in the same turn; one that asks for itself anew keeps the turn from ending.
typedef void defer_fn(void *arg);
struct defer {
    defer_fn *fn;
    void *arg;
    struct defer *next;
    bool queued;
};
void loop_defer(struct loop *loop, struct defer *d);
void loop_defer_cancel(struct loop *loop, struct defer *d); // before its object is freed

// From any thread: run post->fn(post) on the loop thread. The caller's object embeds it and stays alive until then.
struct post {
    void (*fn)(struct post *post);
    struct post *next;
};
void loop_post(struct loop *loop, struct post *post);

// Calls fn(arg, signo) on the loop thread; the signal is taken over until loop_free.
typedef void signal_fn(void *arg, int signo);
void loop_on_signal(struct loop *loop, int signo, signal_fn *fn, void *arg);

#endif
