// SPDX-License-Identifier: Apache-2.0
// What the shapes share: a record's coordinates, and members of JSON that are right whatever the record contains.
//
// Errors: functions that append return 0 or ERR_TOO_LARGE and may have appended a part then; shape_append mends that.
// Threads: any. Memory: spans point into the event.
#ifndef CORE_SHAPE_PARTS_H
#define CORE_SHAPE_PARTS_H

#include "core/shape.h"

// source_at in one pass. Strings are still escaped, and numbers may be anything: append them with the functions below.
struct shape_at {
    bool amqp;
    bool redelivered, tombstone;
    struct str topic, partition, offset, timestamp, timestamp_type;
    struct str queue, exchange, routing_key, vhost;
};
void shape_at_read(const struct ev *ev, struct shape_at *ret);

// The next member of a flat JSON object, and the rest of it; false at its end and where it is broken.
bool shape_at_next(struct str *rest, struct str *ret_name, struct str *ret_value);

struct str shape_header(const struct ev *ev, const char *name); // the first of that name; data NULL when there is none
int64_t shape_unix_ms(const struct ev *ev, const struct shape_at *at); // of the record, else when it was accepted
bool shape_integer(struct str digits, int64_t *ret);
json_t *shape_decode(struct str escaped); // a string of source_at as text; NULL when it is none

int shape_put_escaped(struct buf *out, struct str escaped) must_use; // a string of source_at, with quotes
int shape_put_integer(struct buf *out, struct str digits) must_use;  // 0 when it is none
int shape_put_time(struct buf *out, int64_t unix_ms) must_use;       // RFC 3339 with quotes
int shape_put_base64(struct buf *out, struct str bytes) must_use;    // with quotes
int shape_put_id(struct buf *out, const struct ev *ev) must_use;     // the event's id, with quotes
int shape_put_message_id(struct buf *out, const struct ev *ev) must_use; // AMQP: the message-id, else the event's id
// Lengthens the JSON string that `out` ends with; rc is what came before, and is returned when it is not 0.
int shape_more_text(struct buf *out, int rc, struct str text) must_use;
int shape_more_escaped(struct buf *out, int rc, struct str escaped) must_use;
// "topic-partition-offset" with quotes.
int shape_put_coordinates(struct buf *out, const struct shape_at *at) must_use;
// True when the bytes are one JSON text that can stand inside another one.
bool shape_is_json(struct str bytes);

// The renderers; count >= 1.
typedef int shape_render_fn(struct buf *out, const struct ev *const *evs, size_t count);
shape_render_fn shape_put_scf, shape_put_lambda, shape_put_fc, shape_put_cloudevents;
shape_render_fn shape_put_timer_scf, shape_put_timer_lambda, shape_put_timer_fc; // of a fire: count == 1
// The opening, and a fire's scheduled time with quotes; when it was accepted, where an event from outside has none.
int shape_put_scheduled(struct buf *out, struct str opening, const struct ev *ev) must_use;
// True when the text is the id that a cloud event has of its own.
bool shape_cloudevents_names(struct str text, const struct ev *ev);

#endif
