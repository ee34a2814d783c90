// SPDX-License-Identifier: Apache-2.0
// Back to the origin: sends a letter's record to the topic or queue that it was read from, by its trigger's settings.
//
// Flow: origins_send -> a sink of that trigger, opened at the first use and kept -> done.
// Kafka: the record's topic, partition, key, headers and value. AMQP: straight to the queue (the default
//   exchange), so that other queues of its exchange do not get it a second time.
// Errors: those of the sink; ERR_NOT_FOUND when the trigger is gone; ERR_INVALID when the letter came from no topic or queue.
// Threads: the loop's. Memory: one sink a trigger.
#ifndef TRIGGERS_ORIGIN_H
#define TRIGGERS_ORIGIN_H

#include "triggers/bindings.h"

struct origins;
struct origins *origins_new(const struct bindings_config *config) must_use;
void origins_send(struct origins *o, const struct triggers *triggers, const struct ev *ev, sink_done_fn *done, void *arg);
// The trigger changed or went: its sink is let go of.
void origins_forget(struct origins *o, struct str trigger);
void origins_stop(struct origins *o, void (*on_stopped)(void *arg), void *arg);
void origins_free(struct origins *o); // after on_stopped

#endif
