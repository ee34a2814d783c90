// SPDX-License-Identifier: Apache-2.0
// The event: one invocation of one function, from its trigger to its grave.
//
// Owns: one block of memory that all its spans point into (plus, after decoding, the bytes it came from).
// Delivery: an event has exactly one owner at a time; functions that take it say so.
// Threads: one at a time; it may move between threads. Units: Unix milliseconds.
// (The type is `struct ev` and the prefix `ev_`: `event_` belongs to libevent.)
#ifndef CORE_EV_H
#define CORE_EV_H

#include "core/base/str.h"
#include "core/id.h"

#define EV_PAYLOAD_MAX (6u * 1024 * 1024)          // bytes; the vendors' limit for a sync call
#define EV_HEADERS_MAX 1024                        // headers of one event
#define EV_ENCODED_MAX (EV_PAYLOAD_MAX + 2u * 1024 * 1024) // payload, headers and history together

enum ev_invocation { EV_ASYNC = 0, EV_SYNC = 1 };

struct ev_header {
    struct str name, value;
};

// Every span may be empty. Filled by the caller to make an event, and read by everybody after.
struct ev_fields {
    struct id id;                   // none: ev_new makes one
    struct id origin_id;            // the letter it replays; none otherwise
    enum ev_invocation invocation;
    uint32_t attempt;               // attempts that were charged to it so far; 0 before the first
    int64_t accepted_ms;            // when it was first accepted; 0: ev_new takes the time of the call
    int64_t deadline_ms;            // sync: nobody waits for it after; 0: none
    int64_t replay, replay_seq;     // the replay that sent it and its letter's place in that (dlq/replays); 0: none
    bool dry_run;                   // sync: a try; whoever runs it is told, and nothing comes of it
    struct str function;            // name
    struct str qualifier;           // "" the current version, or a number
    struct str source_kind;         // "http", "timer", "kafka", "replay", ...
    struct str source_name;         // the trigger's name
    struct str source_at;           // coordinates as JSON text, such as {"topic":"t","partition":3,"offset":7}
    struct str ordering_key;
    struct str content_type;
    struct str shape;               // how the function sees it (core/shape.h); "" as the payload is
    struct str trace;               // W3C traceparent
    struct str reply_to;            // sync: where the outcome goes
    struct str payload;
    struct str history;             // JSON array text: the attempts so far (dlq/attempts.h)
    const struct ev_header *headers;
    size_t header_count;
};

struct ev {
    struct ev_fields f;             // spans point into memory of this event
    struct str unknown;             // msgpack keys and values from a newer writer, kept for the next encoder
    uint32_t unknown_count;         // how many pairs
    void *block;                    // freed with the event
};

// Copies everything that `f` points to.
struct ev *ev_new(const struct ev_fields *f) must_use;
void ev_free(struct ev *ev);
size_t ev_memory_bytes(const struct ev *ev); // about what it occupies

// The message format of schema/event.md. Appends to `out`; ERR_TOO_LARGE past the cap of `out` or EV_ENCODED_MAX.
struct buf;
#define EV_CONTENT_TYPE "application/vnd.weir.event+msgpack"
int ev_encode(const struct ev *ev, struct buf *out, struct err *err) must_use;
// Takes over `bytes` (malloc'ed; freed on error too). ERR_CORRUPT says what is broken and where.
int ev_decode(char *bytes, size_t len, struct ev **ret, struct err *err) must_use;

#endif
