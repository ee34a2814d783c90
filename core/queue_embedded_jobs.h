// SPDX-License-Identifier: Apache-2.0
// The embedded queue's work in the database: what its jobs carry and what they do on the store's thread.
//
// Owns: the tables queues and queue_messages. Does not: know lanes, consumers or credit (core/queue_embedded.c does;
//   it fills the jobs and reads them when they are done).
// Threads: embedded_run_* on the store's thread, embedded_free_* on the loop's.
// Units: a message's id is its queue's id * 2^40 + its number in the queue; numbers begin at 1.
#ifndef CORE_QUEUE_EMBEDDED_JOBS_H
#define CORE_QUEUE_EMBEDDED_JOBS_H

#include "core/queue.h"
#include "core/store.h"

#define EMBEDDED_QUEUE_SHIFT 40

struct lane;
struct embedded;
struct embedded_consumer;

// The first part of every job: who is told when it is done.
struct embedded_job {
    struct store_job job;
    struct embedded *q;
    struct embedded_job *next; // of those that wait for another try
};

// The queue's row: made when missing, and its mark raised: what was or may be handed out before this commits.
struct embedded_mark {
    struct lane *lane;
    int64_t queue_id;
    struct str function;
    int64_t delivered_id;
};
int embedded_set_mark(struct sql *sql, const struct embedded_mark *mark, struct err *err) must_use;

// ---- load: what is there at the start; counts a delivery for what an unclean end left handed out ----
struct embedded_queue_row {
    int64_t queue_id, last_id, count;
    char *function;
};
struct embedded_load {
    struct embedded_job base;
    struct embedded_queue_row *rows;
    size_t count, room;
};
int embedded_run_load(struct store_job *job, struct sql *sql, struct err *err);
void embedded_free_load(struct embedded_load *l);

// ---- insert: the publishes of one turn ----
struct embedded_item {
    struct ev *ev;
    int64_t id;
    struct lane *lane;
    queue_confirm_fn *confirm;
    void *arg;
    size_t bytes;
    int code; // this event could not be encoded, the others are fine
};
struct embedded_insert {
    struct embedded_job base;
    struct embedded_item *items;
    size_t count;
    struct embedded_mark *marks;
    size_t mark_count;
};
int embedded_run_insert(struct store_job *job, struct sql *sql, struct err *err);
void embedded_free_insert(struct embedded_insert *in); // with the events that are still in it

// ---- ack: the acknowledgements of one turn ----
struct embedded_ack_part {
    struct embedded_consumer *consumer;
    size_t count;
};
struct embedded_ack {
    struct embedded_job base;
    int64_t *ids; // sorted by run
    size_t count;
    struct embedded_ack_part *parts;
    size_t part_count;
};
int embedded_run_ack(struct store_job *job, struct sql *sql, struct err *err);
void embedded_free_ack(struct embedded_ack *a);

// ---- fetch: messages that are only on disk, and the mark that must be there before they are handed out ----
struct embedded_back { // given back: its event is gone, so it is read again
    int64_t id;
    uint32_t deliveries;
};
struct embedded_held { // a message in memory, ready to be handed out
    struct ev *ev;
    int64_t id;
    size_t bytes;
    uint32_t deliveries;
    enum queue_content content;
    char *why; // for QUEUE_UNDECODABLE
};
struct embedded_fetch {
    struct embedded_job base;
    struct embedded_mark mark;   // raised by run over the first mark_rows messages that it read
    size_t mark_rows;
    struct embedded_back *backs; // these first
    size_t back_count;
    int64_t cursor;              // then those after it,
    size_t limit;                // so many; 0: none
    size_t bytes_limit;          // about so many bytes
    struct embedded_held *got;
    size_t got_count, got_bytes;
    size_t ranged;               // how many of them came after the cursor
    bool reached_end;            // there are no more after them
};
int embedded_run_fetch(struct store_job *job, struct sql *sql, struct err *err);
void embedded_free_fetch(struct embedded_fetch *f); // with the events that are still in it
void embedded_held_done(struct embedded_held *held);

// ---- the rest ----
struct embedded_depth {
    struct embedded_job base;
    char *function;
    queue_depth_fn *fn;
    void *arg;
    int64_t oldest_ms;
};
int embedded_run_depth(struct store_job *job, struct sql *sql, struct err *err);
struct embedded_drop {
    struct embedded_job base;
    int64_t queue_id;
};
int embedded_run_drop(struct store_job *job, struct sql *sql, struct err *err);
// A clean end: nothing is handed out any more.
int embedded_run_end(struct store_job *job, struct sql *sql, struct err *err);

#endif
