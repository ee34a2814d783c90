// SPDX-License-Identifier: Apache-2.0
// Replays: jobs that send dead letters back, as new events through core/ingest or as records to the topic or queue that they were read from.
//
// Owns: the tables `replays` and `replay_letters`. Flow: replays_create selects once (on the reader) -> the node that holds the job's lease takes letters in
//   their order: claim (dead -> replaying) -> send -> confirmed -> mark (replaying -> replayed). The workers tell what became of the events:
//   replays_outcome -> ack.
// Delivery: confirmed first, marked second, so each letter goes at least once; a second sending after a crash is the same event (its id follows
//   from job and letter). Nothing is marked that was not confirmed. A job whose node died goes on, on any node, when its lease has run out;
//   letters that were under way are taken again, or, of a job that was paused or cancelled, dead again. A claim asks in the store whether the job is
//   still this node's and runs, and letters stay claimed for as long as their job is held. Two jobs never send one letter: the second finds it not
//   dead, and says so (skipped).
// Order: in_order sends the letters of one ordering key (else partition) by topic, partition and offset, one at a time: the next when the one
//   before has ended; when that failed again, the others of its key stay dead. Live events of such a key wait meanwhile (replays_holds).
// Pace: rate, reached after ramp_ms; sample: so many first (or all, when there are fewer), whose outcomes are waited for; abort_share ends a job that
//   fails too much.
// Threads: the loop's. Blocking: never. Memory: REPLAY_BATCHES of REPLAY_BATCH letters, REPLAY_BYTES together and one
//   letter, for each job that runs here; REPLAY_JOBS_MAX jobs run at a time.
// Errors: the store's; ERR_INVALID; ERR_NOT_FOUND (no such job); ERR_CONFLICT (it has ended).
#ifndef DLQ_REPLAYS_H
#define DLQ_REPLAYS_H

#include "core/ingest.h"
#include "core/metrics.h"
#include "core/sink.h"
#include "dlq/letters.h"

#define REPLAY_BATCH 1000
#define REPLAY_BATCHES 4
#define REPLAY_BYTES (16u * 1024 * 1024)
#define REPLAY_JOBS_MAX 8
#define REPLAY_LETTERS_MAX 1000000 // of one job; 16 bytes each while it selects
#define REPLAY_LEASE_MS 15000
#define REPLAY_LOOK_MS 1000
#define REPLAY_SILENCE_MS 1800000
#define REPLAY_RATE_MAX 1000000 // letters a second

// X(name, word)
#define REPLAY_STATES(X)                                            \
    X(REPLAY_SELECTING, "selecting") /* its letters are being written down; none goes yet */ \
    X(REPLAY_RUNNING, "running")                                    \
    X(REPLAY_PAUSED, "paused")                                      \
    X(REPLAY_DONE, "done")           /* every letter was sent, or skipped */ \
    X(REPLAY_CANCELLED, "cancelled") /* by an operator; what was not sent is dead */ \
    X(REPLAY_ABORTED, "aborted")     /* too many failed; the same */

struct replays;
struct replays_config {
    struct loop *loop;
    struct store *store, *reader;
    struct letters *letters;
    struct ingest *ingest;
    struct metrics *metrics;
    const char *node;           // this process; unique
    int64_t look_ms;            // how often it looks for jobs, held keys and outcomes; its other waits are so many looks. 0: REPLAY_LOOK_MS
    int64_t silence_ms;         // a job that waits for ends of events, and hears of none for so long, is paused. 0: REPLAY_SILENCE_MS
};
struct replays *replays_new(const struct replays_config *config) must_use;
// Who sends the record that ev was made from to where it came from; ev is borrowed for the call, done comes once. Before replays_start; without
// it this server has no triggers.
void replays_set_origin(struct replays *r, void (*to_origin)(void *arg, const struct ev *ev, sink_done_fn *done, void *done_arg), void *arg);
void replays_start(struct replays *r);
bool replays_stop(struct replays *r); // no new letters; true when nothing is under way. Ask again until it is. Outcomes are still taken
void replays_free(struct replays *r);

struct replay_spec {
    struct selection *sel;      // taken; state must be any or dead
    size_t limit;               // 0: all that match, up to REPLAY_LETTERS_MAX
    struct str to;              // function or function:version; empty: each letter's own function, its current version
    bool to_origin;
    double rate;                // letters a second; 0: as fast as it goes
    int64_t ramp_ms;
    double abort_share;         // 0..1 of the events that came to an end (after REPLAY_ABORT_LEAST of them); negative: never
    size_t sample;              // 0: none. A sample whose events fail over abort_share (negative: at all) aborts
    bool in_order;
    struct str who, cause;      // cause: empty, or one of a kind: ERR_CONFLICT when there is a job of it
};
#define REPLAY_ABORT_LEAST 20
// {"replay","state","who","selection","to","toOrigin","rate","rampMs","abortShare","sample","inOrder","createdMs","endedMs"|null,"reason","node",
//  "total","pending","sent","skipped","failed","ok","failing","dead","perSecond","etaMs"|null}; perSecond: sent in the time that it was not paused
void replays_create(struct replays *r, const struct replay_spec *spec, letters_json_fn *fn, void *arg);
void replays_show(struct replays *r, int64_t replay, letters_json_fn *fn, void *arg);
// {"replays":[…],"next":cursor|null}, newest first, those before `before` (0: all).
void replays_list(struct replays *r, bool open_only, int64_t before, size_t limit, letters_json_fn *fn, void *arg);
// Its letters, in order, from seq `after` on: {"letters":[{"seq","id","state","eventId","outcome","why"}…],"next":seq|null}; state: pending, sent,
// skipped, failed; or an outcome: ok, failing, dead; empty: all.
void replays_letters(struct replays *r, int64_t replay, struct str state, int64_t after, size_t limit, letters_json_fn *fn, void *arg);
void replays_pause(struct replays *r, int64_t replay, letters_json_fn *fn, void *arg);
void replays_resume(struct replays *r, int64_t replay, letters_json_fn *fn, void *arg);
void replays_cancel(struct replays *r, int64_t replay, letters_json_fn *fn, void *arg);

// --- for the workers --------------------------------------------------------------------------------------------------
// Is it the event of a replay whose outcome is wanted?
static inline bool replays_is_replay(const struct ev *ev) {
    return ev->f.replay != 0;
}
// What became of it: REPLAY_OUTCOME_FAILING (it failed and is tried again), _OK or _DEAD (then it is told before the ack). Durable when done.
enum replay_outcome { REPLAY_OUTCOME_FAILING, REPLAY_OUTCOME_OK, REPLAY_OUTCOME_DEAD };
void replays_outcome(struct replays *r, const struct ev *ev, enum replay_outcome outcome, letter_done_fn *done, void *arg);
// Must this event wait, since a replay in order has letters of its key? Looked up in memory (refreshed from the store once a second).
bool replays_holds(const struct replays *r, const struct ev *ev);

#endif
