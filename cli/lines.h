// SPDX-License-Identifier: Apache-2.0
// Lines of a file or a stream of any length, in bounded memory.
//
// Owns: its buffer, not the fd. Blocking: yes; it tells when the next line would have to be waited for, so that a caller
//   that gathers lines can send what it has. Empty lines are skipped, "\r\n" ends a line too. Threads: one.
#ifndef CLI_LINES_H
#define CLI_LINES_H

#include <stdint.h>

#include "core/base/buf.h"

enum lines_found { LINES_LINE, LINES_IDLE, LINES_TOO_LONG, LINES_END, LINES_FAILED };

struct lines {
    int fd;
    struct buf in;
    size_t line_max;  // bytes
    size_t seen;      // bytes of `in` that hold no line end
    size_t used;      // bytes to consume before the next line
    uint64_t number;  // of the line that was found last, from 1, empty ones counted
    bool ended, skipping;
};

void lines_init(struct lines *l, int fd, size_t line_max);
void lines_done(struct lines *l);
// LINES_LINE: *ret is valid until the next call. LINES_IDLE comes only when may_idle and there is nothing to read now.
// LINES_TOO_LONG: line `number` was skipped. LINES_FAILED: errno.
enum lines_found lines_next(struct lines *l, bool may_idle, struct str *ret);

#endif
