// SPDX-License-Identifier: Apache-2.0
// Runs a blocking function on a thread of its own and calls back on the loop.
//
// Flow: offload_run -> work(arg) on some thread -> done(arg) on the loop's thread.
// Threads: offload_run and offload_wait on the loop's thread. At most OFFLOAD_THREADS_MAX works run at a time; the
//   others wait in the order in which they came. A thread ends when nothing waits.
// Memory: the queue has no cap of its own: the callers limit what they start.
#ifndef CORE_OFFLOAD_H
#define CORE_OFFLOAD_H

#include "core/base/loop.h"

#define OFFLOAD_THREADS_MAX 4

// The loop must live until done has run.
void offload_run(struct loop *loop, void (*work)(void *arg), void (*done)(void *arg), void *arg);
// Turns the loop until nothing is under way any more; before loop_free. Blocks.
void offload_wait(struct loop *loop);

#endif
