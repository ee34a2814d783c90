// SPDX-License-Identifier: Apache-2.0
// Consumed bytes are reclaimed lazily: the rest moves to the front only when the end needs room, so that
// reading many small messages out of one big read costs one move at most.
#include "core/base/buf.h"

#include <stdarg.h>

void buf_init(struct buf *b, size_t cap) {
    *b = (struct buf){.cap = cap};
}

void buf_done(struct buf *b) {
    free(b->data);
    *b = (struct buf){.cap = b->cap};
}

char *buf_reserve(struct buf *b, size_t bytes) {
    size_t len = buf_len(b);
    if (bytes > b->cap || len > b->cap - bytes) return NULL;
    if (b->room - b->end >= bytes && b->data) return b->data + b->end;
    if (b->start > 0) {
        memmove(b->data, b->data + b->start, len);
        b->start = 0;
        b->end = len;
        if (b->room - b->end >= bytes) return b->data + b->end;
    }
    size_t room = b->room ? b->room : 256;
    while (room - len < bytes) room *= 2;
    b->data = mem_realloc(b->data, room);
    b->room = room;
    return b->data + b->end;
}

void buf_added(struct buf *b, size_t bytes) {
    MUST(b->room - b->end >= bytes);
    b->end += bytes;
}

int buf_append(struct buf *b, struct str s) {
    if (s.len == 0) return 0;
    char *at = buf_reserve(b, s.len);
    if (!at) return ERR_TOO_LARGE;
    memcpy(at, s.data, s.len);
    b->end += s.len;
    return 0;
}

int buf_printf(struct buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    char *text = NULL;
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    MUST(n >= 0);
    int rc = buf_append(b, (struct str){text, (size_t)n});
    free(text);
    return rc;
}

void buf_consume(struct buf *b, size_t bytes) {
    MUST(bytes <= buf_len(b));
    b->start += bytes;
    if (b->start == b->end) b->start = b->end = 0;
}

void buf_clear(struct buf *b) {
    b->start = b->end = 0;
}

char *buf_take(struct buf *b, size_t *ret_len) {
    size_t len = buf_len(b);
    char *out;
    if (b->start == 0 && b->data) {
        out = mem_realloc(b->data, len + 1);
    } else {
        out = mem_alloc(len + 1);
        if (len) memcpy(out, b->data + b->start, len);
        free(b->data);
    }
    out[len] = '\0';
    if (ret_len) *ret_len = len;
    *b = (struct buf){.cap = b->cap};
    return out;
}
