// SPDX-License-Identifier: Apache-2.0
// A growable byte buffer with a cap; bytes are appended at the end and consumed from the front.
//
// Owns: its memory. Errors: growth past the cap is refused and leaves the buffer as it was.
// Units: bytes. Threads: one at a time.
#ifndef CORE_BASE_BUF_H
#define CORE_BASE_BUF_H

#include "core/base/err.h"

struct buf {
    char *data;       // NULL while nothing was ever written
    size_t start;     // first byte not consumed
    size_t end;       // one past the last byte
    size_t room;      // bytes allocated
    size_t cap;       // most unconsumed bytes it may hold
};

void buf_init(struct buf *b, size_t cap);
void buf_done(struct buf *b);
static inline size_t buf_len(const struct buf *b) {
    return b->end - b->start;
}
static inline struct str buf_str(const struct buf *b) {
    return (struct str){b->data ? b->data + b->start : "", buf_len(b)};
}
// Makes `bytes` writable at the end and returns where, or NULL when that would pass the cap. Call buf_added after.
char *buf_reserve(struct buf *b, size_t bytes) must_use;
void buf_added(struct buf *b, size_t bytes);
int buf_append(struct buf *b, struct str s) must_use;      // 0 or ERR_TOO_LARGE
int buf_printf(struct buf *b, const char *fmt, ...) must_use printf_like(2, 3);
void buf_consume(struct buf *b, size_t bytes);
void buf_clear(struct buf *b);                             // keeps the memory
char *buf_take(struct buf *b, size_t *ret_len);            // hands out the bytes, NUL-terminated; caller frees

#endif
