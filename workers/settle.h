// SPDX-License-Identifier: Apache-2.0
// What follows an outcome: answer the caller, or write a letter, and only then acknowledge.
//
// Flow: ok -> reply (sync), or the sink of its binding has the result -> ack. Failed -> dlq/retry decides -> due or dead letter
//   -> durable -> (dead: the sink of its binding has it) -> ack. The fire of a timer is ended when its handler returned, or its
//   dead letter is durable -> durable -> ack; what became of a replay's event is told to its replay in the same place. A sync event is tried again in memory within its caller's
//   deadline and never becomes a letter. A record whose key others wait for (d->in_place) is tried again in memory too,
//   with its history, and becomes a letter when it is dead.
// Delivery: a delivery is acknowledged last. While the store is away, deliveries stay unacknowledged in state storing
//   and are stored again every SETTLE_AGAIN_MS; the consumers' credit bounds how many.
// Threads: the loop's.
#ifndef WORKERS_SETTLE_H
#define WORKERS_SETTLE_H

#include "core/ingest.h"
#include "core/metrics.h"
#include "dlq/fires.h"
#include "dlq/letters.h"
#include "dlq/replays.h"
#include "workers/delivery.h"
#include "workers/outlet.h"

#define SETTLE_AGAIN_MS 1000

struct settle;
struct settle_config {
    struct loop *loop;
    struct letters *letters;
    struct fires *fires;                               // NULL: nobody asks how fires end
    struct replays *replays;                           // NULL: nobody asks what became of replays
    struct ingest *ingest;
    struct metrics *metrics;
    void (*on_due)(void *arg, int64_t due_ms);         // a due letter was stored
    void (*on_again)(void *arg, struct delivery *d);   // FINISHED: a sync event's next attempt is now
    void (*on_rest)(void *arg, struct delivery *d, int64_t delay_ms); // FINISHED, in place: its next attempt is then
    // The outlet with the sink for what became of d; NULL: none.
    struct outlet *(*outlet_of)(void *arg, const struct delivery *d, bool failure);
    void *arg;
};

struct settle *settle_new(const struct settle_config *config) must_use;
// d is FINISHED; taken.
void settle_outcome(struct settle *s, struct delivery *d, const struct outcome_report *report);
// The records (utlist DL, FINISHED, async, of one call with this id) whose function returned; taken.
void settle_done(struct settle *s, struct delivery *list, size_t count, const struct id *id, const struct outcome_report *report);
// d (or each record of a call) has not begun and cannot be run at all; taken. Sync: the caller gets `code`; else it becomes a dead letter of `kind`.
void settle_refuse(struct settle *s, struct delivery *d, enum letter_kind kind, int code, const char *type, struct str why);
// d has not begun and cannot now, for the reason `why`: it becomes a due letter, uncharged; taken. Of the function's own queue. age_anew: its
// maximum age counts from now on (it had to wait), else from where it counted before. All that wait come due together, at each multiple of
// SETTLE_HOLD_MS, and due letters go by their ids: in the order in which they were accepted.
#define SETTLE_HOLD_MS 3000
void settle_hold(struct settle *s, struct delivery *d, struct str why, bool age_anew);
size_t settle_pending(const struct settle *s);         // deliveries that are not settled yet
// Gives back what could not be stored (a drain's end), and answers waiting sync retries with what they have.
void settle_abandon(struct settle *s);
// Gives back the records of an intake that could not be stored.
void settle_abandon_intake(struct settle *s, const struct intake *in);
void settle_free(struct settle *s);

#endif
