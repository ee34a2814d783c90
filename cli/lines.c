// SPDX-License-Identifier: Apache-2.0
#include "cli/lines.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define READ_BYTES ((size_t)256 * 1024)
#define IDLE_AFTER_MS 50

void lines_init(struct lines *l, int fd, size_t line_max) {
    *l = (struct lines){.fd = fd, .line_max = line_max};
    buf_init(&l->in, line_max + 2 * READ_BYTES);
}

void lines_done(struct lines *l) {
    buf_done(&l->in);
}

// Takes the line that ends at `len` (its line feed, if any, is one byte more).
static enum lines_found take(struct lines *l, size_t len, size_t end_bytes, struct str *ret) {
    struct str line = {buf_str(&l->in).data, len};
    l->number++;
    l->seen = 0;
    l->used = len + end_bytes;
    if (l->skipping || len > l->line_max) {
        l->skipping = false;
        return LINES_TOO_LONG;
    }
    if (line.len && line.data[line.len - 1] == '\r') line.len--;
    *ret = line;
    return LINES_LINE;
}

// More input: 1, the end: 0, nothing now: -1, failed: -2.
static int more(struct lines *l, bool may_idle) {
    struct pollfd p = {.fd = l->fd, .events = POLLIN};
    if (may_idle && poll(&p, 1, IDLE_AFTER_MS) == 0) return -1;
    char *room = buf_reserve(&l->in, READ_BYTES);
    MUST(room);
    ssize_t n;
    do n = read(l->fd, room, READ_BYTES);
    while (n < 0 && errno == EINTR);
    if (n < 0) return -2;
    buf_added(&l->in, (size_t)n);
    return n > 0;
}

static enum lines_found find(struct lines *l, bool may_idle, struct str *ret) {
    for (;;) {
        struct str in = buf_str(&l->in);
        const char *end = in.len > l->seen ? memchr(in.data + l->seen, '\n', in.len - l->seen) : NULL;
        if (end) return take(l, (size_t)(end - in.data), 1, ret);
        if (l->ended) return in.len || l->skipping ? take(l, in.len, 0, ret) : LINES_END;
        if (in.len > l->line_max + 1) { // + 1: its end may be "\r\n"
            l->skipping = true;
            buf_clear(&l->in);
        }
        l->seen = buf_len(&l->in);
        int got = more(l, may_idle);
        if (got == -1) return LINES_IDLE;
        if (got == -2) return LINES_FAILED;
        l->ended = got == 0;
    }
}

enum lines_found lines_next(struct lines *l, bool may_idle, struct str *ret) {
    for (;;) {
        buf_consume(&l->in, l->used);
        l->used = 0;
        enum lines_found found = find(l, may_idle, ret);
        if (found != LINES_LINE || ret->len > 0) return found;
    }
}
