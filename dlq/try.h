// SPDX-License-Identifier: Apache-2.0
// Try: runs letters on a version without consequences, to see whether it handles them.
//
// Flow: letters_sample -> a sync event for each, with dry_run in its context, at most TRY_AT_A_TIME at a time -> a result for each. No queue, no
//   retries, no sinks, no letters: nothing is marked, published or acknowledged.
// Threads: the loop's. Memory: TRY_MAX letters, of TRY_BYTES at most.
// Errors: the store's; ERR_NOT_FOUND (no such letter). A letter that could not be run, for want of its function or version too, says why in its
//   own result.
#ifndef DLQ_TRY_H
#define DLQ_TRY_H

#include "core/ingest.h"
#include "core/redact.h"
#include "dlq/letters.h"

#define TRY_MAX 200
#define TRY_AT_A_TIME 8

struct trials;
struct trials *trials_new(struct loop *loop, struct letters *letters, struct ingest *ingest, const struct redact *redact) must_use;
void trials_free(struct trials *t); // what runs is cancelled, without its callback
// {"tried","passed","failed","notRun","results":[{"id","function","version","outcome","durationMs","result"|null,"errorType","errorMessage",
//  "stack","log","group","verdict"}…]}; verdict: passes | same (it dies of the same thing) | other (of another) | not-run; result: text, at
//  most 4 KiB. Takes sel. to: function or function:version; empty: the letter's own function, its current version.
void trials_run(struct trials *t, struct selection *sel, size_t sample, struct str to, letters_json_fn *fn, void *arg);

#endif
