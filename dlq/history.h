// SPDX-License-Identifier: Apache-2.0
// The history of an event: a JSON array with one member an attempt, as in schema/event.md, that travels with the event.
//
// Memory: at most HISTORY_MAX bytes; when it would grow past, the earlier attempts are replaced by one member
//   {"omitted": true}. Threads: any.
#ifndef DLQ_HISTORY_H
#define DLQ_HISTORY_H

#include <jansson.h>

#include "core/base/buf.h"
#include "core/outcome.h"

#define HISTORY_MAX (256u * 1024)

// Appends to `out` the history `old` (may be empty) with the attempt added.
void history_append(struct buf *out, struct str old, uint32_t attempt, const struct outcome_report *report);

json_t *history_parse(struct str history) must_use;  // NULL: it is not JSON
struct str history_last_stack(const json_t *history); // of the last attempt, as long as `history` lives; empty: it has none

#endif
