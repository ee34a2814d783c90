// SPDX-License-Identifier: Apache-2.0
// A fire: one run of a timer, known in the whole installation by its trigger and its scheduled time.
//
// Data only: triggers/timers plans fires, dlq/fires decides which of them happen and keeps them. Units: Unix milliseconds.
#ifndef CORE_FIRE_H
#define CORE_FIRE_H

#include "core/ev.h"

#define FIRE_SOURCE "timer" // ev.source_kind; source_name is the trigger, source_at {"time":"2026-01-01T00:05:00Z"}: the scheduled time

// X(name, word): what to do while the fire before is not over (its retries included).
#define FIRE_OVERLAPS(X)                                                        \
    X(FIRE_ALLOW, "allow")   /* run both */                                     \
    X(FIRE_SKIP, "skip")     /* leave this one out */                           \
    X(FIRE_QUEUE, "queue")   /* one waits until it is over; more are left out */ \
    X(FIRE_CANCEL, "cancel") /* the running one is stopped */
enum fire_overlap {
#define X(name, word) name,
    FIRE_OVERLAPS(X)
#undef X
};
const char *fire_overlap_word(enum fire_overlap o);

// X(name, word): why it happens.
#define FIRE_CAUSES(X)                                                 \
    X(FIRE_SCHEDULED, "schedule")                                      \
    X(FIRE_CATCHUP, "catchup")   /* its time passed while nobody ran */ \
    X(FIRE_BACKFILL, "backfill") /* asked for, of a time in the past */ \
    X(FIRE_MANUAL, "manual")     /* asked for, now */
enum fire_cause {
#define X(name, word) name,
    FIRE_CAUSES(X)
#undef X
};
const char *fire_cause_word(enum fire_cause c);

// X(name, word): what became of it, as its row and its letter tell.
#define FIRE_OUTCOMES(X)                                                            \
    X(FIRE_RUNNING, "running")     /* its event is on the queue or at work */       \
    X(FIRE_WAITING, "waiting")     /* overlap=queue: for the one before */          \
    X(FIRE_RETRYING, "retrying")   /* failed; a due letter */                       \
    X(FIRE_OK, "ok")                                                                \
    X(FIRE_DEAD, "dead")           /* failed for good; a dead letter */             \
    X(FIRE_SKIPPED, "skipped")     /* overlap: never ran */                         \
    X(FIRE_CANCELLED, "cancelled") /* overlap=cancel: stopped by the next */        \
    X(FIRE_DISCARDED, "discarded") /* an operator discarded its letter */           \
    X(FIRE_MISSED, "missed")       /* catchup: its time passed while nobody ran */  \
    X(FIRE_UNKNOWN, "unknown")     /* its end was never heard of, and it is too old to run still */
enum fire_outcome {
#define X(name, word) name,
    FIRE_OUTCOMES(X)
#undef X
};
const char *fire_outcome_word(enum fire_outcome o);

struct fire {
    int64_t scheduled_ms;
    enum fire_cause cause;
    struct ev *ev;      // its id follows from trigger and scheduled time (fire_id); NULL: it does not happen (missed)
    uint64_t missed;    // scheduled times right before this one that do not happen and have no row
};

// What one trigger has to do, as a node sees it.
struct fire_plan {
    const char *trigger;
    int64_t changed_ms;      // of the trigger's row that it was planned from; when the row is another by now, the plan is void
    int64_t from_ms, to_ms;  // decides every scheduled time in (from_ms, to_ms]; void when the trigger's cursor is not from_ms
    enum fire_overlap overlap;
    int64_t stale_ms;        // a fire without an end that is older is not counted as running
    struct fire *fires;      // ascending
    size_t count;
};
struct fire_verdict {
    bool made;          // the plan was carried out
    bool gone;          // the trigger is not active any more, or was changed
    int64_t cursor_ms;  // where the trigger stands now
};

// UUID of (trigger, when it was created, scheduled time): the same on every node. id_unix_ms of it is the scheduled time.
struct id fire_id(struct str trigger, int64_t created_ms, int64_t scheduled_ms);

#endif
