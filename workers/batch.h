// SPDX-License-Identifier: Apache-2.0
// A call: one delivery that stands for the records it is made of, which the function gets in one piece, in their shape.
//
// Owns: the records (utlist DL, JOINED) until they are taken out. Flow: call_new -> pool (sees a delivery like any other) ->
//   call_render right before it is handed out, so that what waits does not hold its bytes twice -> outcome -> the records are
//   taken and settled each -> call_free. Until it is rendered, `call->ev` is the first record's event.
// A call of one record has its id, attempt and headers; one of several has an id of its own, and no headers.
// Threads: the loop's. Errors: ERR_TOO_LARGE.
#ifndef WORKERS_BATCH_H
#define WORKERS_BATCH_H

#include "core/outcome.h"
#include "core/shape.h"
#include "workers/delivery.h"

struct batch {
    struct delivery call;
    struct delivery *members;
    size_t count;
    bool rendered;
};

// Does the function see events of this shape otherwise than they are?
static inline bool is_shaped(struct str shape) {
    return shape.len > 0 && !str_is(shape, "raw");
}

// Takes the list; all of one intake (or one record of none) and one shape.
struct delivery *call_new(struct delivery *members) must_use;
// Writes what the function gets, at most max_bytes; ERR_TOO_LARGE leaves the call as it was.
#define CALL_TOO_LARGE "in the shape of its trigger it is larger than an event may be; the trigger's setting shape=raw passes it as it is"
int call_render(struct batch *b, size_t max_bytes, struct err *err) must_use;
// Takes out one, or all of them (a list); the call itself stays. A call without records is only good for call_free.
void call_take(struct batch *b, struct delivery *member);
struct delivery *call_take_all(struct batch *b);
void call_free(struct batch *b); // it has no records any more
// Gives back what waits, a call or not, to its queue or source.
void call_release(struct delivery *d);

// What {"batchItemFailures":[{"itemIdentifier":…}…]} in a result says (AWS Lambda Developer Guide, "Reporting batch item
// failures"): no such thing or an empty list: all are done; named ones have failed, and are marked in failed[count]; an
// identifier that is empty, null or names no record: all failed. A fire of a timer is no batch: done, whatever it says.
enum verdict { VERDICT_DONE, VERDICT_SOME, VERDICT_FAILED };
// Makes the report on a call the one on a record that it named.
void call_item_failed(struct outcome_report *r);
enum verdict call_verdict(const struct batch *b, struct str result, bool *failed);

#endif
