// SPDX-License-Identifier: Apache-2.0
// Shapes: the JSON in which a function sees records and the fires of timers, as the vendors' platforms write it.
//
// Flow: an event of a trigger carries the word of its shape (ev.shape) and its record as it came (payload, headers,
//   ordering_key, source_kind, source_at). When it is run, alone or in a batch, shape_append writes what the function
//   gets. So a letter keeps the record itself, and a retry or a replay looks like the first delivery.
// Sources: docs/shapes.md lists every field; formats of Tencent SCF (Records[].Ckafka, Records[].CMQ),
//   AWS Lambda (aws:kafka, aws:rmq), Alibaba FC (array of CloudEvents strings) and CloudEvents 1.0 JSON; the timer events of
//   SCF and FC, EventBridge's scheduled event.
// Errors: ERR_TOO_LARGE when `out` is too small; `out` is as before then. Never fails for what a record contains: bytes
//   that are not UTF-8 become U+FFFD where the shape has text, and are kept where it has base64.
// Threads: any. Memory: nothing is kept.
#ifndef CORE_SHAPE_H
#define CORE_SHAPE_H

#include <jansson.h>

#include "core/base/buf.h"
#include "core/ev.h"

// X(name, word, most records of one call: 0 many)
#define SHAPES(X)                                                                        \
    X(SHAPE_RAW, "raw", 1)                 /* the record's own bytes */                  \
    X(SHAPE_SCF, "scf", 0)                 /* {"Records":[{"Ckafka":{…}}…]} */           \
    X(SHAPE_LAMBDA, "lambda", 0)           /* {"eventSource":"aws:kafka","records":…} */ \
    X(SHAPE_FC, "fc", 0)                   /* ["{cloud event}"…] */                      \
    X(SHAPE_CLOUDEVENTS, "cloudevents", 0) /* [{cloud event}…]; one alone: the object */
enum shape {
#define X(name, word, most) name,
    SHAPES(X)
#undef X
};
const char *shape_word(enum shape s);
int shape_parse(struct str word, enum shape *ret, struct err *err) must_use; // "" is raw; ERR_INVALID lists the words
bool shape_is_single(enum shape s);

// Appends what the function sees. The events are of one trigger and one shape, count >= 1 (raw, and timers: exactly 1).
int shape_append(struct buf *out, enum shape s, const struct ev *const *evs, size_t count, struct err *err) must_use;

// Which record a member of {"batchItemFailures":[{"itemIdentifier":…}]} names. Kafka: "topic-partition-offset", or AWS's
// {"partition":"topic-0","offset":7}; AMQP: the message-id property, else the event's id; any: the event's id.
bool shape_names_event(const json_t *item_identifier, const struct ev *ev);

// One member of source_at (flat JSON object text), as it stands there (a string without its quotes, still escaped);
// empty when there is none. For numbers and names of our own writing; hot.
struct str source_at_member(struct str source_at, const char *name);

#endif
