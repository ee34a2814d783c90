// SPDX-License-Identifier: Apache-2.0
// What handlers wrote: the newest lines of each function, in memory, for `weir logs`.
//
// Memory: at most bytes_per_function for each function; the oldest lines go first. A line over 8 KiB becomes several.
// Threads: the loop's.
#ifndef CORE_FNLOG_H
#define CORE_FNLOG_H

#include "core/base/loop.h"
#include "core/id.h"

struct fnlog;
struct fnlog_line {
    uint64_t cursor;      // strictly increasing within the server's life
    int64_t unix_ms;
    struct id event;      // none: the instance wrote it outside an event
    uint32_t version;
    struct str text;      // without its newline
};

struct fnlog *fnlog_new(struct loop *loop, size_t bytes_per_function) must_use;
void fnlog_free(struct fnlog *log); // every wait was freed before
// Text of any length; it is split into lines. An unfinished last line is a line of its own.
void fnlog_append(struct fnlog *log, struct str function, uint32_t version, const struct id *event, struct str text);
// Calls fn for at most `limit` lines with cursor > after, oldest first; returns how many.
typedef void fnlog_line_fn(void *arg, const struct fnlog_line *line);
size_t fnlog_read(struct fnlog *log, struct str function, uint64_t after, size_t limit, fnlog_line_fn *fn, void *arg);
uint64_t fnlog_end(const struct fnlog *log); // cursor of the newest line of any function
// One call of fn when the function has a new line or wait_ms passed, whichever is first; never inside fnlog_append. The
// owner frees the wait, also after fn ran.
struct fnlog_wait;
struct fnlog_wait *fnlog_wait_new(struct fnlog *log, struct str function, int64_t wait_ms, void (*fn)(void *arg), void *arg);
void fnlog_wait_free(struct fnlog_wait *w); // before fn ran: cancels; after: frees
void fnlog_forget(struct fnlog *log, struct str function);

#endif
