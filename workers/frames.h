// SPDX-License-Identifier: Apache-2.0
// Frames: what the server and an instance say to each other on the instance's socket, as bytes.
//
// Owns: nothing; a parsed frame's body points into the input.
// Does not: read or write a socket, look into JSON, or know which events are in flight (that is workers/instance).
// Flow: server INIT -> instance READY -> { server INVOKE -> instance LOG* (RESULT | ERROR) }* -> server STOP.
// Threads: any, it is all pure functions. Blocking: never.
// Errors: a bad frame is ERR_INVALID, a frame over its cap ERR_TOO_LARGE. The stream has lost its place after either: the
//   caller ends the instance.
// Units: bytes; integers on the wire are little-endian. The format and its reasons are in schema/frames.md.
#ifndef WORKERS_FRAMES_H
#define WORKERS_FRAMES_H

#include <stdint.h>

#include "core/base/err.h"
#include "core/base/str.h"

#define FRAME_VERSION 1
#define FRAME_HEADER_BYTES 12
#define FRAME_BODY_MAX ((8u << 20) + (64u << 10))
#define FRAME_META_MAX UINT16_MAX
#define FRAME_RESULT_MAX (6u << 20)
// An INVOKE's header together with the length of its meta.
#define FRAME_INVOKE_HEAD_BYTES (FRAME_HEADER_BYTES + 2)

enum frame_side { FRAME_FROM_SERVER = 1, FRAME_FROM_INSTANCE = 2 };

// X(name, code, side): the only side that may send it.
#define FRAME_TYPES(X)                   \
    X(INIT, 1, FRAME_FROM_SERVER)        \
    X(READY, 2, FRAME_FROM_INSTANCE)     \
    X(INVOKE, 3, FRAME_FROM_SERVER)      \
    X(RESULT, 4, FRAME_FROM_INSTANCE)    \
    X(ERROR, 5, FRAME_FROM_INSTANCE)     \
    X(LOG, 6, FRAME_FROM_INSTANCE)       \
    X(PING, 7, FRAME_FROM_SERVER)        \
    X(PONG, 8, FRAME_FROM_INSTANCE)      \
    X(STOP, 9, FRAME_FROM_SERVER)

enum frame_type {
#define X(name, code, side) FRAME_##name = code,
    FRAME_TYPES(X)
#undef X
};

struct frame_header {
    uint32_t body_len;    // without the header
    uint8_t version;
    uint8_t type;         // enum frame_type
    uint16_t flags;       // 0
    uint32_t seq;         // the invocation on this connection, 0 for none
};

struct frame {
    struct frame_header header;
    struct str body;      // points into the parsed input
};

// "INVOKE", or "unknown".
const char *frame_type_name(uint8_t type);

// Writes what it is given, unchecked: also tests want to send nonsense.
void frame_header_encode(const struct frame_header *header, uint8_t out[FRAME_HEADER_BYTES]);
// Header of a frame that has body_len bytes of body and FRAME_VERSION. ERR_TOO_LARGE over FRAME_BODY_MAX.
int frame_header_fill(enum frame_type type, uint32_t seq, size_t body_len, uint8_t out[FRAME_HEADER_BYTES],
                      struct err *err) must_use;
// What comes before meta and payload, so that one writev sends {out, meta, payload} without copying either.
int frame_invoke_fill(uint32_t seq, size_t meta_len, size_t payload_len, uint8_t out[FRAME_INVOKE_HEAD_BYTES],
                      struct err *err) must_use;

// `from` is the side that sent the bytes. Refuses an unknown version or type, flags, a type that side may not send, a body
// over the cap, and seq 0 where an invocation is meant.
int frame_header_decode(const uint8_t in[FRAME_HEADER_BYTES], enum frame_side from, struct frame_header *ret,
                        struct err *err) must_use;
// The frame at the start of `in`: 1 with *ret and the bytes it took in *ret_used, 0 when more bytes are needed (then nothing
// is written), negative when it is bad; a bad header is told as soon as its 12 bytes are there.
int frame_parse(struct str in, enum frame_side from, struct frame *ret, size_t *ret_used, struct err *err) must_use;
// Splits an INVOKE's body.
int frame_invoke_split(struct str body, struct str *ret_meta, struct str *ret_payload, struct err *err) must_use;

#endif
