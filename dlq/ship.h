// SPDX-License-Identifier: Apache-2.0
// Sends claimed due letters to their queues, and marks each by what its queue said.
//
// Lease: held for as long as the queue takes to answer, by a renewal each third of lease_ms; after a crash it runs out.
// Flow: publish all -> confirmed: the letter is deleted; refused: unclaimed, due again in a second; refused for good (its function is gone):
//   a dead letter. Delivery: the queue has the event before the letter goes.
// Threads: the loop's. Memory: the letters under way, each event twice until the queue has it; whoever sends keeps a cap.
#ifndef DLQ_SHIP_H
#define DLQ_SHIP_H

#include "core/ingest.h"
#include "dlq/letters.h"

#define SHIP_AGAIN_MS 1000

struct ship;
// lease_ms: how long a letter is held that it is given.
struct ship *ship_new(struct loop *loop, struct letters *letters, struct ingest *ingest, int64_t lease_ms) must_use;
// Takes the array (malloc'ed) and the events in it. done runs later, once: away when something was refused or could not be marked.
void ship_send(struct ship *s, struct letter *claimed, size_t count, void (*done)(void *arg, bool away), void *arg);
size_t ship_open(const struct ship *s);    // sendings without an end
size_t ship_letters(const struct ship *s); // in them
void ship_free(struct ship *s);            // when none is open

#endif
