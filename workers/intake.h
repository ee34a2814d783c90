// SPDX-License-Identifier: Apache-2.0
// The intake: one binding of a lane at work: the consumer of its source, and the rules by which its records are run.
//
// Owns: the consumer, the gate, the breaker, the outlet; the records from their arrival until they run or rest, and those that
//   rest. Flow: record -> too large, delivery limit, filter -> gate -> call (or the record itself, shape raw) -> config.run ->
//   pool -> intake_handout -> instance -> intake_outcome -> settle -> ack -> the next of its key.
// Calls: those that are full go at once; one that is not when window_ms has passed and has_room says that it begins at once
//   (or, behind others' events, when it has waited INTAKE_PATIENCE_MS more).
//   A call of several that fails charges nobody: its records go back to the gate, where each may join only half as many, until the
//   failing ones stand alone. One that weir itself could not run rests and goes again whole.
// Retries: order none: a due letter, and back by the function's own queue. Else in place: the record rests here, unacknowledged,
//   its key held; then it runs alone.
// Delivery: a record is settled or released exactly once. on_lost: what does not run is dropped, the broker delivers it again.
// Threads: the loop's. Memory: bounded by the consumer's credit, credit_bytes. A source that lets its credit be set (core/queue.h) gets
//   one that follows what can be handed out, up to the binding's.
#ifndef WORKERS_INTAKE_H
#define WORKERS_INTAKE_H

#include "workers/batch.h"
#include "workers/settle.h"

#define INTAKE_PATIENCE_MS 100
#define INTAKE_HELD_MS 500 // how often a record that waits for a replay is looked at
// Records that have not been handed out and could be: so many are asked of the source, and no more, as what lies in memory for
// long is out of the processor's caches when its turn comes.
#define INTAKE_FRESH_LEAST 1000
#define INTAKE_FRESH_CALLS 4

struct intake_config {
    struct loop *loop;
    const struct binding *binding;
    struct metrics *metrics;
    struct settle *settle;
    struct lane *lane;
    uint32_t max_deliveries;
    // Takes d, a record (raw) or a call; it comes back by intake_outcome, intake_handout or intake_give_back.
    void (*run)(void *arg, struct delivery *d);
    bool (*is_held)(void *arg, const struct delivery *d); // a record that must wait for a replay in order; NULL: none ever
    bool (*has_room)(void *arg);       // what is run now begins at once, or makes the pool grow
    bool (*is_waiting)(void *arg, const struct intake *in); // something of its own was run and has not begun
    struct delivery *(*take_waiting)(void *arg, struct intake *in); // what was run and has not begun: a list
    void (*on_closed)(void *arg, struct intake *in);  // after intake_close, once; it may be freed in it
    void *arg;
};

struct intake *intake_new(const struct intake_config *config) must_use; // consumes
const struct binding *intake_binding(const struct intake *in);
// d is about to be handed out; true: it was taken back or refused.
bool intake_handout(struct intake *in, struct delivery *d);
// d is FINISHED; taken.
void intake_outcome(struct intake *in, struct delivery *d, const struct outcome_report *report);
// d is FINISHED and comes back from settle, or is a call that is to go again whole: it runs again after delay_ms.
void intake_rest(struct intake *in, struct delivery *d, int64_t delay_ms);
void intake_wake(struct intake *in);               // the pool may have room
struct outlet *intake_outlet(const struct intake *in);
// No new deliveries; what does not run goes back. What runs is finished. Fine to call again.
void intake_pause(struct intake *in);
// The same, then on_closed.
void intake_close(struct intake *in);
bool intake_is_closing(const struct intake *in);
bool intake_is_quiet(const struct intake *in);     // nothing open, every ack is known to the source
size_t intake_open(const struct intake *in);       // records that have not ended
json_t *intake_status(const struct intake *in) must_use;
void intake_free(struct intake *in);               // nothing is open

#endif
