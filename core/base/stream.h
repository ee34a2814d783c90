// SPDX-License-Identifier: Apache-2.0
// A non-blocking stream socket (or the read end of a pipe) on the loop, with buffered reads and joined writes.
//
// Owns: the fd and both buffers. Flow: bytes arrive -> on_read, which consumes what it can from stream_input;
//   stream_write only buffers, and one writev a turn sends what was gathered. on_close comes once, when the peer is
//   gone, an error happened or the output cap was passed; the owner then calls stream_free.
// Does not: reconnect, frame or time out. Threads: the loop's.
// Memory: input and output are capped; an input that is full without a complete message ends the stream (ERR_TOO_LARGE).
//   stream_free is fine inside any callback.
#ifndef CORE_BASE_STREAM_H
#define CORE_BASE_STREAM_H

#include "core/base/buf.h"
#include "core/base/loop.h"

struct stream;

struct stream_events {
    void (*on_read)(void *arg);                       // there is new input
    void (*on_close)(void *arg, const struct err *why); // why->code is ERR_OK at a clean end of input
    void (*on_drained)(void *arg);                    // all output was handed to the kernel; may be NULL
};

// Takes the fd over and makes it non-blocking. Caps in bytes.
struct stream *stream_new(struct loop *loop, int fd, size_t in_cap, size_t out_cap, const struct stream_events *events,
                          void *arg) must_use;
// Unsent output is lost.
void stream_free(struct stream *s);

// The unconsumed input; valid until the next stream_consume or return to the loop.
struct str stream_input(const struct stream *s);
void stream_consume(struct stream *s, size_t bytes);
// Reads once now, without calling on_read or on_close, also after on_close; false when there was nothing (or the end).
bool stream_read_now(struct stream *s);
// Reading goes on (or stops): back-pressure.
void stream_pause(struct stream *s, bool paused);

// Queues a copy of the bytes. ERR_TOO_LARGE when the output cap would be passed (nothing is queued then).
int stream_write(struct stream *s, struct str bytes) must_use;
size_t stream_unsent(const struct stream *s);
// Sends what is queued now, as far as the kernel takes it.
void stream_flush(struct stream *s);

#endif
