// SPDX-License-Identifier: Apache-2.0
// A relay: copies the records of a source into the function's own queue (a trigger with relay=yes).
//
// Delivery: a record is acknowledged when the queue has it durably. One that the queue refuses is offered again every
//   RELAY_AGAIN_MS until it is taken; it is never dropped. Threads: the loop's. Memory: the binding's credit.
#ifndef TRIGGERS_RELAY_H
#define TRIGGERS_RELAY_H

#include "core/binding.h"
#include "core/ingest.h"

#define RELAY_AGAIN_MS 1000

struct relay;
struct relay *relay_start(struct loop *loop, struct ingest *ingest, const struct binding *b) must_use;
// What is on its way is waited for, the rest goes back; on_stopped runs later, after the consumer was closed.
void relay_stop(struct relay *r, void (*on_stopped)(void *arg), void *arg);

#endif
