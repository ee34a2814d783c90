// SPDX-License-Identifier: Apache-2.0
// Replay: sends dead letters back through core/ingest as new events that are linked to their origin, or sends what they
// hold to the topic or queue that it was read from.
//
// Delivery: claim, publish, confirm, then mark. After a crash in between a letter is dead again: it may run twice, it is
//   never lost. A letter that went to its origin is marked with the id of no event (zero): what comes of it, and for whom,
//   is the origin's consumers' affair.
// Threads: the loop's. Memory: to the origin at most REPLAY_ORIGIN_MAX letters and about REPLAY_ORIGIN_BYTES of them at a time.
// Errors: those of the store and of the queue or sink. A letter that cannot be sent stays dead.
#ifndef DLQ_REPLAY_H
#define DLQ_REPLAY_H

#include "core/ingest.h"
#include "core/metrics.h"
#include "core/sink.h"
#include "dlq/letters.h"

#define REPLAY_LIMIT 1000 // letters a call; callers loop until `more` is false
#define REPLAY_ORIGIN_MAX 256
#define REPLAY_ORIGIN_BYTES (16u * 1024 * 1024)
#define REPLAY_ORIGIN_MS 20000 // no letter is sent to its origin later after its claim; it stays dead

struct replay_config {
    struct loop *loop;
    struct letters *letters;
    struct ingest *ingest;
    struct metrics *metrics;
    // Sends the record that ev was made from to where it came from; ev is borrowed for the call, done comes once. NULL: this
    // server has no triggers.
    void (*to_origin)(void *arg, const struct ev *ev, sink_done_fn *done, void *done_arg);
    void *to_origin_arg;
};
struct replay;
struct replay *replay_new(const struct replay_config *config) must_use;
void replay_free(struct replay *r); // what has not begun to send then ends with ERR_UNAVAILABLE; the publishes have their answers

struct replay_result {
    size_t replayed, failed;
    bool more;           // the filter matched more than were taken
    struct err first_error; // why the first of the failed ones failed
};
// to: function or function:version that gets the events instead of their own; empty: their own function, its current
// version; not looked at with to_origin. filter.state must be empty or "dead".
void replay_run(struct replay *r, const struct letter_filter *filter, struct str to, bool to_origin,
                void (*done)(void *arg, int code, const struct err *err, const struct replay_result *result), void *arg);

#endif
