// SPDX-License-Identifier: Apache-2.0
// Shared between the files that make up dlq/replays: nobody else includes it.
//
//   replays.c          life; what runs here: taking jobs over, letting them go
//   replays_make.c     making one: select once
//   replays_show.c     looking at them; pause, resume, cancel
//   replays_run.c      running one: pace, claim, send
//   replays_claim.c    what a run does in the store: claim and mark
//   replays_order.c    in order: which letters of a run may go
//   replays_run_order.c  what a run does for the sake of that
//   replays_holds.c    which live events wait for letters in order
//   replays_outcome.c  what became of the events
//
// A run is what one node does for one job while it holds the job's lease.
#ifndef DLQ_REPLAYS_IMPL_H
#define DLQ_REPLAYS_IMPL_H

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "dlq/letters_impl.h"
#include "dlq/pace.h"
#include "dlq/replays.h"

#define REPLAY_LETTER_LEASE_MS 60000
#define REPLAY_AGAIN_LOOKS_MAX 32  // most looks of a pause after a queue or the store was away; it begins with one, and doubles

struct outcome_item;

struct replays {
    struct replays_config c;
    void (*to_origin)(void *arg, const struct ev *ev, sink_done_fn *done, void *done_arg); // NULL: nobody can
    void *to_origin_arg;
    bool started, stopped;
    bool looking, look_again;   // a look for jobs is under way; another is wanted
    bool everyone;              // the leases of this store's jobs are all void: at the start, alone on it
    struct timer *timer;
    struct run *runs;
    size_t jobs;                // store jobs under way
    int64_t recover_at_ns;
    // outcomes that are to be written next
    struct outcome_item *outcome_first, **outcome_last;
    size_t outcome_count;
    bool outcome_busy;          // others are being written
    struct defer outcome_flush;
    struct holds *holds;        // replays_holds.c
};

// One row of `replays`.
struct replay_row {
    int64_t replay, created_ms, rate, ramp_ms, abort_share, sample, total;
    bool to_origin, in_order, automatic;
    char *target;
};
void replay_row_done(struct replay_row *row);
#define REPLAY_COLUMNS                                                                                              \
    "id, created_ms, rate, ramp_ms, abort_share, sample, total, to_origin, in_order, cause IS NOT NULL, target"

// The time that a job runs, its pauses left out. $1: its new state, $2: now.
#define REPLAY_TELL_TIME "ran_ms = CASE WHEN (state = 'paused') <> ($1 = 'paused') THEN $2 - ran_ms ELSE ran_ms END"

// Counts of a job's letters.
struct replay_counts {
    int64_t pending, sent, skipped, failed; // by state
    int64_t ok, failing, dead;              // by outcome
    int64_t same;                           // failing or dead of the same thing as before; of automatic ones only
};
int replays_sql_counts(struct sql *sql, int64_t replay, bool automatic, struct replay_counts *ret, struct err *err) must_use;

// --- the store thread: replays_claim.c ------------------------------------------------------------------------------------
struct claimed {                // letters that a run has claimed
    struct letter letter;
    int64_t seq;
};
// One batch of a run: seqs -> claimed -> answers -> marked.
struct piece {                  // one claimed letter on its way
    struct batch_out *batch;
    struct id event_id;         // none: to the origin
    char *function;             // that it was sent to
    size_t bytes;
    int code;
    struct err err;
};
struct batch_out {
    struct batch_out *prev, *next;
    struct run *run;
    struct claimed *claimed;
    struct piece *pieces;
    size_t count, open;         // letters; answers that are missing
    size_t bytes;
    size_t sent, under_way;     // to the origin
    int64_t send_until_ns;
    bool sending;
};

struct claim_job {
    struct store_job job;
    struct run *run;
    int64_t replay, after;
    size_t limit;
    size_t bytes;               // of payloads: there is room for so many, and always for one
    int64_t *seqs;              // in order: exactly these, ascending; owned
    size_t seq_count;
    // results:
    struct claimed *claimed;
    size_t count;
    int64_t last_seq;           // of those that were looked at; `after` when there were none
    bool lost;                  // the job is another node's, or not to run any more: nothing was claimed
    bool found;                 // there were any
    int64_t first_left;         // from here on they were left for later, as they would take too much memory; INT64_MAX: none
};
void replays_drop_claimed(struct claim_job *c);
int replays_claim_run(struct store_job *job, struct sql *sql, struct err *err);

struct mark_row {
    struct id letter, event_id;
    int64_t lease_ms, seq;
    bool sent;                  // else it is dead again, and
    bool failed;                // never sent by this job (why), or pending
    char *why;
};
struct marks_job {
    struct store_job job;
    struct run *run;
    struct marks_job *next;     // of those that the store could not take yet
    struct batch_out *batch;
    int64_t replay;
    struct mark_row *rows;
    size_t count;
    bool any_sent;
    int64_t not_marked;         // result: sent, but the letter is no longer this claim's
};
int replays_mark_run(struct store_job *job, struct sql *sql, struct err *err);
void replays_marks_free(struct marks_job *m);
// Letters of the job that were under way when its node died are dead again.
int replays_sql_release(struct sql *sql, int64_t replay, struct err *err) must_use;

// --- runs: replays_run.c ------------------------------------------------------------------------------------------------
struct run {
    struct run *prev, *next;
    struct replays *replays;
    struct replay_row row;
    bool owned;                 // as of the last look: the lease is ours
    char *aborting;             // why; takes no more letters, and ends when nothing is under way
    bool leaving;               // takes no more letters; ends when nothing is under way
    bool ready;                 // its letters of a former owner were released
    bool claiming, exhausted;   // a claim is under way; there are no more pending letters behind `after`
    bool left;                  // some letters could not be sent for now, and are pending before `after`; not in order
    bool ending;                // its last word is on the way to the store
    bool counting;              // a look at the outcomes is under way
    int64_t after;
    int64_t sent;               // by this run
    int64_t before;             // while there is a sample: of it, before this run
    struct pace pace;
    int64_t again_at_ns;
    int again_looks;            // length of the last such pause
    int64_t count_at_ns;        // when the outcomes are looked at next
    struct replay_counts counts;
    bool counted;
    struct timer *timer;
    struct batch_out *batches;
    size_t batch_count, bytes;
    size_t jobs;                // of the store, under way
    struct marks_job *unmarked; // of batches that are sent: the store was away, or full
    struct order *order;        // in order only, once all of it was read
    int64_t taken_ns;           // since when that is so
    bool looking;               // for ends of events on other nodes
    int64_t look_at_ns;
    bool tending;               // a look for events whose end nobody tells is under way
    int64_t tend_at_ns, quiet_since_ns;
};
struct run *run_new(struct replays *r, struct replay_row *row); // takes the row
void run_go(void *run);         // does what can be done now; the timer's
void run_leave(struct run *run);
bool run_is_over(const struct run *run); // it leaves and nothing is under way: run_free
void run_free(struct run *run);
void run_ended(struct replays *r, struct run *run); // replays.c: takes it out

// --- sending: replays_send.c --------------------------------------------------------------------------------------------
// Sends the batch; batch_sent when all have their answers.
void replays_send(struct batch_out *b);
void run_batch_sent(struct batch_out *b); // replays_run.c

// --- runs in order: replays_run_order.c -----------------------------------------------------------------------------------
void run_order_begin(struct run *run);                            // reads the order, then run_begin
bool run_order_may_begin(const struct run *run, int64_t now_ns);  // live events wait for its keys
void run_order_claimed(struct run *run, const struct claim_job *c, bool failed);
void run_order_marked(struct run *run, const struct marks_job *m);
void run_order_look(struct run *run, int64_t now_ns);             // for ends of events, when it is time
// An event of a job came to its end, and that is written.
void replays_event_ended(struct replays *r, int64_t replay, int64_t seq, enum replay_outcome outcome);
// replays_run.c:
void run_begin(struct run *run);                                  // all is ready for its first letter
void run_cannot_begin(struct run *run, const struct err *err);
void run_pause(struct run *run, const char *why);                 // a while

// --- live events that wait: replays_holds.c -------------------------------------------------------------------------------
// The held keys are read from the store: all keys of a job once, a window at a time, then only whether the last letter of each has ended.
#define REPLAY_HOLDS_MAX 100000 // keys; live events of more do not wait, and the job's reason says so
void replays_holds_init(struct replays *r);
void replays_holds_done(struct replays *r);
void replays_read_holds(struct replays *r);                 // when it is time: reading takes at most a tenth of it
int64_t replays_holds_known_ns(const struct replays *r);    // what is held is as of then, or later

// --- in order: replays_order.c ------------------------------------------------------------------------------------------------
// The letters of a run by their keys; one of each key is busy at a time. Threads: the loop's, but for order_sql_read. Memory: 8 bytes for a
// letter that nothing orders, 16 for another, some 150 for a key.
#define REPLAY_ORDER_BUSY 2000   // most letters on their way
#define REPLAY_ORDER_WINDOW 20000
struct order_row {               // a letter that has not ended
    int64_t seq;
    uint64_t key;                // 0: nothing orders it
    bool is_partition;           // that is its key: it has no ordering key
    bool sent;                   // by a node that died
};
// Those with after < seq <= after + REPLAY_ORDER_WINDOW, ascending; rows: room for REPLAY_ORDER_WINDOW.
int order_sql_read(struct sql *sql, const struct replay_row *row, int64_t after, struct order_row *rows, size_t *ret_count,
                   struct err *err) must_use;
// Never 0. Two keys of one hash are ordered as if they were one: harmless.
uint64_t order_hash(struct str function, struct str key);
struct order *order_new(void) must_use;
void order_add(struct order *o, const struct order_row *row);   // ascending by seq, before the first is taken
void order_free(struct order *o);
size_t order_take(struct order *o, int64_t *seqs, size_t room); // the next ones, ascending; busy from now on
void order_return(struct order *o, int64_t seq);                // it could not be sent for now
void order_done(struct order *o, int64_t seq);                  // it ended, or never goes: the next of its key may
// It failed again: no other of its key goes. Those, as a list that the caller frees; how many.
size_t order_stop(struct order *o, int64_t seq, int64_t **ret_seqs) must_use;
bool order_is_over(const struct order *o);                      // nothing is left and nothing is busy
size_t order_may_take(const struct order *o, size_t room);      // at most room; 0: none may go now
size_t order_busy_count(const struct order *o);
char *order_busy(const struct order *o) must_use;               // {"0":{"s":seq},…}; caller frees
void replays_outcomes_init(struct replays *r); // replays_outcome.c
void replays_outcomes_done(struct replays *r);
void replays_submit(struct replays *r, struct store_job *job);      // writer; its done lowers r->jobs
void replays_look(struct replays *r);                               // now
void replays_recover_in(struct replays *r, int64_t delay_ms);       // by then a look frees letters that nobody sends any more
// So many looks, in ns.
static inline int64_t replays_looks(const struct replays *r, double looks) {
    return (int64_t)(looks * (double)(r->c.look_ms * NS_PER_MS));
}

#endif
