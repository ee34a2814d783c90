// SPDX-License-Identifier: Apache-2.0
// Replay: sends dead letters back through core/ingest as new events that are linked to their origin.
//
// Delivery: claim, publish, confirm, then mark. After a crash in between a letter is dead again: it may run twice, it is
//   never lost. Threads: the loop's. Errors: those of the store and of the queue.
#ifndef DLQ_REPLAY_H
#define DLQ_REPLAY_H

#include "core/ingest.h"
#include "core/metrics.h"
#include "dlq/letters.h"

#define REPLAY_LIMIT 1000 // letters a call; callers loop until `more` is false

struct replay;
struct replay *replay_new(struct loop *loop, struct letters *letters, struct ingest *ingest, struct metrics *metrics) must_use;
void replay_free(struct replay *r); // what has not begun to send then ends with ERR_UNAVAILABLE; the publishes have their answers

struct replay_result {
    size_t replayed, failed;
    bool more;           // the filter matched more than were taken
    struct err first_error; // why the first of the failed ones failed
};
// to: function or function:version that gets the events instead of their own; empty: their own function, its current
// version. filter.state must be empty or "dead".
void replay_run(struct replay *r, const struct letter_filter *filter, struct str to,
                void (*done)(void *arg, int code, const struct err *err, const struct replay_result *result), void *arg);

#endif
