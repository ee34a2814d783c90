// SPDX-License-Identifier: Apache-2.0
// What the two halves of the embedded queue's loop side share: core/queue_embedded.c (publishing, opening, closing) and
// core/queue_embedded_consumer.c (handing out, fetching, acknowledging). Nobody else includes it.
//
// Threads: the loop's.
#ifndef CORE_QUEUE_EMBEDDED_H
#define CORE_QUEUE_EMBEDDED_H

#include <uthash.h>

#include "core/base/log.h"
#include "core/queue_embedded_jobs.h"

struct lane {
    struct embedded *q;
    char *function;
    int64_t queue_id;           // 0 until the load
    int64_t last_id;            // the last that was given to a message
    int64_t cursor;             // every message up to it was handed out, is held, or is in backs
    int64_t mark;               // durable: what is handed out lies below it
    uint64_t count;             // on disk
    uint64_t publishing;        // on their way there
    uint64_t unsettled;         // handed out, or acknowledged but still on disk
    bool stored;                // it has its row in `queues`
    bool on_disk;               // there may be messages after the cursor that are not held
    bool fetching, serving, touched, deleted;
    bool in_batch;              // while a batch is put together
    struct lane *next_touched, *next_dead;

    struct embedded_held *held; // held[held_start .. held_start + held_count), in the order of handing out
    size_t held_start, held_count, held_room, held_bytes;
    struct embedded_back *backs;
    size_t back_count, back_room;

    struct embedded_consumer *consumers; // the first is the next to be served
    size_t credit, credit_bytes;         // of all of them
    UT_hash_handle hh;
};

enum embedded_phase { PHASE_IDLE, PHASE_SERVING, PHASE_SENDING };

struct embedded {
    struct queue base;
    struct loop *loop;
    struct store *store;
    uint64_t max_messages;
    bool loaded, closing, ending, backing_off, again_set;
    int64_t next_queue_id;
    struct lane *lanes;         // by function
    struct lane *graveyard;     // deleted; jobs and consumers may still point there
    struct lane *touched;
    struct early_delete *early_deletes; // asked for before the load
    size_t jobs;                // at the store
    size_t open_consumers;

    enum embedded_phase phase;  // of flush
    struct defer flush;
    struct timer *again;        // a flush in the next turn

    struct embedded_item *items; // published in this turn
    size_t item_count, item_room;
    size_t publishing, publishing_bytes;
    struct embedded_consumer *acking; // with acks of this turn

    struct embedded_job *failed, **failed_last;
    struct timer *retry;
    int64_t retry_ms;
    struct log_repeat trouble_log;

    void (*on_closed)(void *arg);
    void *on_closed_arg;
};

static inline struct embedded *embedded_of(struct queue *q) {
    return container_of(q, struct embedded, base);
}

// ---- core/queue_embedded.c ----
typedef int embedded_run_fn(struct store_job *job, struct sql *sql, struct err *err);
typedef void embedded_done_fn(struct store_job *job, int code, const struct err *err);
void embedded_submit(struct embedded *q, struct embedded_job *job, embedded_run_fn *run, embedded_done_fn *done);
// The last thing in every done callback.
void embedded_job_done(struct embedded *q, int code);
// Keeps the job and submits it again later; false when the queue is closing (then it is the caller's to free).
bool embedded_retry_job(struct embedded *q, struct embedded_job *job, const char *what, const struct err *err) must_use;
void embedded_back_off(struct embedded *q);
struct lane *embedded_lane(struct embedded *q, struct str function); // made when missing
void embedded_touch(struct lane *lane);      // serve it at the end of the turn
void embedded_wake(struct embedded *q);      // something was gathered: send it at the end of the turn

// ---- core/queue_embedded_consumer.c ----
struct queue_consumer *embedded_consume(struct queue *q, const struct queue_consumer_config *config);
size_t embedded_held_cap(const struct lane *lane);
// How far the mark should go: one credit beyond what is handed out, so that handing out seldom waits for the disk, and
// no further, because after an unclean end all that it covers counts one more delivery.
int64_t embedded_mark_target(const struct lane *lane);
// Keeps a published event for the consumers of its lane, if there are any and there is room.
bool embedded_hold(struct lane *lane, const struct embedded_held *held);
void embedded_drop_held(struct lane *lane);  // they stay on disk
void embedded_serve(struct lane *lane);      // hands out, then fetches what is missing
void embedded_flush_acks(struct embedded *q);

#endif
