// SPDX-License-Identifier: Apache-2.0
// Fires: decides, for the whole installation, that a timer's scheduled time happens once, and keeps what became of it.
//
// Owns: the tables `fire_cursors` (how far each trigger is decided) and `fires` (unique: trigger, scheduled time). Flow:
//   fires_decide -> one transaction: the cursors move on (only from where the plan began), the rows and their letters (state due, held by
//   this node's lease) are written -> dlq/ship puts the events on their queues -> the letters go. The workers tell the end: fires_end -> ack.
// Delivery: the row and its letter are durable together before anything runs; a node that dies in between leaves a letter whose lease
//   runs out, and dlq/due of any node sends it. The event's id follows from the fire, so a second decision could not make another event.
// Clock: fires_now_ms is the store's (PostgreSQL's clock_timestamp, read once a second and carried on by the monotonic clock; with a store
//   of its own the node's), so nodes whose clocks differ agree. Leadership (a PostgreSQL advisory lock) only spares work: a node that does
//   not lead comes FIRES_FOLLOW_MS later and mostly finds everything decided.
// Threads: the loop's. Blocking: never. Memory: the plans under way; FIRES_SHIPPED_MAX events and the batches under way when they became
//   so many; FIRES_CANCELLED_MAX ids of fires that were stopped.
// Errors: the store's; ERR_CONFLICT (fires_put: that time has a fire already).
#ifndef DLQ_FIRES_H
#define DLQ_FIRES_H

#include "core/fire.h"
#include "core/ingest.h"
#include "dlq/letters.h"

#define FIRES_FOLLOW_MS 5000
#define FIRES_AHEAD_MS 3600000    // a cursor that is further ahead of the clock was written by a wrong one, and is not believed
#define FIRES_BATCH 1000          // most fires of one fires_decide
#define FIRES_SHIPPED_MAX 8000    // events that the queue has not confirmed yet: no further decision, no fire by hand
#define FIRES_CANCELLED_MAX 10000
#define FIRES_ROWS_MAX 5000000    // ended ones over it are deleted, oldest first

struct fires;
struct fires_config {
    struct loop *loop;
    struct store *store;
    struct letters *letters;
    struct ingest *ingest;
    int64_t keep_ms;              // ended fires are deleted after
    size_t rows_max;              // 0: FIRES_ROWS_MAX
    void (*on_cancel)(void *arg, const struct id *id); // this fire was cancelled, here or by another node: stop it if it is here
    void (*on_due)(void *arg, int64_t due_ms);         // a letter of a fire that waited is due then: for due_hint
    void *arg;
};
struct fires *fires_new(const struct fires_config *config) must_use;
// Begins its housekeeping: clock, leadership, cancels, deleting.
void fires_start(struct fires *f);
// No new work; true when nothing is under way. Ask again until it is. fires_end is still taken.
bool fires_stop(struct fires *f);
void fires_free(struct fires *f);

int64_t fires_now_ms(const struct fires *f);
bool fires_is_leader(const struct fires *f);

// Every cursor there is, at the start.
typedef void fires_cursor_fn(void *arg, struct str trigger, int64_t cursor_ms);
void fires_cursors(struct fires *f, fires_cursor_fn *fn, void (*done)(void *arg, int code, const struct err *err), void *arg);

// plans and all they point to are borrowed until done, except the events, which are taken. All or nothing when the store fails;
// else a verdict for each plan. At most FIRES_BATCH fires together. done runs later, when the rows are durable; the events are on
// their way to their queues then.
typedef void fires_decided_fn(void *arg, int code, const struct err *err, const struct fire_verdict *verdicts);
void fires_decide(struct fires *f, const struct fire_plan *plans, size_t count, fires_decided_fn *done, void *arg);
// FIRES_SHIPPED_MAX are on their way to the queue: whoever decides waits. The times are late then, not lost.
bool fires_is_busy(const struct fires *f);
// A fire by hand (manual, backfill): no cursor, no overlap, neither for it nor because of it. It may make up for one that never ran
// (missed, skipped). Takes fire->ev. ERR_NOT_FOUND: no such trigger. ERR_CONFLICT: that time has a fire, or its event a letter.
// ERR_BUSY: fires_is_busy.
void fires_put(struct fires *f, const char *trigger, const struct fire *fire, letter_done_fn *done, void *arg);

// --- the end ----------------------------------------------------------------------------------------------------------
// Is it the event of a fire? (Not one that replays it.)
bool fires_is_fire(const struct ev *ev);
// Ends the fire of this event, FIRE_OK or FIRE_DEAD; durable when done. One that ended before, or whose row is gone, stays as it is: no error.
// The one that waits for it (overlap=queue) is let go.
void fires_end(struct fires *f, const struct ev *ev, enum fire_outcome outcome, letter_done_fn *done, void *arg);
bool fires_is_cancelled(const struct fires *f, const struct id *id); // known here as cancelled: need not run

// --- looking ----------------------------------------------------------------------------------------------------------
// {"fires":[{"scheduledMs","firedMs","lagMs","cause","outcome","endedMs"|null,"durationMs"|null,"requestId"|null,"missed",
// "attempts","error":text|null}],"next":ms|null}; newest first, scheduled before `before_ms` (0: all), at most limit (1..1000).
void fires_history(struct fires *f, struct str trigger, int64_t before_ms, size_t limit, letters_json_fn *fn, void *arg);

#endif
