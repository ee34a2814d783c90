// SPDX-License-Identifier: Apache-2.0
// Sends due letters back to their queues when their time has come.
//
// Flow: wait for the earliest due time (at most DUE_LOOK_MS: another node may have put one) -> claim some -> dlq/ship.
// Threads: the loop's.
// Memory: one claim of DUE_CLAIM letters at a time.
#ifndef DLQ_DUE_H
#define DLQ_DUE_H

#include "core/ingest.h"
#include "dlq/letters.h"

#define DUE_LOOK_MS 500
#define DUE_CLAIM 500
#define DUE_LEASE_MS 60000

struct due;
struct due *due_new(struct loop *loop, struct letters *letters, struct ingest *ingest) must_use;
void due_start(struct due *d);
// A letter was put that is due then: looks no later.
void due_hint(struct due *d, int64_t due_ms);
// No new claims; true when nothing is under way. Ask again until it is.
bool due_stop(struct due *d);
void due_free(struct due *d); // after due_stop said true

#endif
