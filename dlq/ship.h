// SPDX-License-Identifier: Apache-2.0
// Sends claimed due letters to their queues, and marks each by what its queue said.
//
// Flow: publish all -> confirmed: the letter is deleted; refused: unclaimed, due again in a second; refused for good (its function is gone):
//   a dead letter. Delivery: the queue has the event before the letter goes.
// Threads: the loop's. Memory: the letters under way.
#ifndef DLQ_SHIP_H
#define DLQ_SHIP_H

#include "core/ingest.h"
#include "dlq/letters.h"

#define SHIP_AGAIN_MS 1000

struct ship;
struct ship *ship_new(struct letters *letters, struct ingest *ingest) must_use;
// Takes the array (malloc'ed) and the events in it. done runs later, once: away when something was refused or could not be marked.
void ship_send(struct ship *s, struct letter *claimed, size_t count, void (*done)(void *arg, bool away), void *arg);
size_t ship_open(const struct ship *s); // sendings without an end
void ship_free(struct ship *s);         // when none is open

#endif
