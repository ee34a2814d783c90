// SPDX-License-Identifier: Apache-2.0
// Text that came from outside, made safe for JSON and for SQL text columns; and which known name a mistyped one was meant to be.
//
// Errors: ERR_TOO_LARGE when `out` is full. Threads: any.
#ifndef CORE_BASE_TEXT_H
#define CORE_BASE_TEXT_H

#include "core/base/buf.h"

bool text_is_utf8(struct str s); // well-formed UTF-8 (RFC 3629)
// Appends s as well-formed UTF-8 without NUL: each broken byte and each NUL becomes U+FFFD. At most max_bytes are
// appended, cut between characters.
int text_append_clean(struct buf *out, struct str s, size_t max_bytes) must_use;
// Appends s as a JSON string with its quotes, cleaned as above.
int text_append_json(struct buf *out, struct str s) must_use;

// How many letters must be added, removed, changed or swapped with their neighbour to make b of a, A-Z being a-z; both are compared
// up to TEXT_DISTANCE_MAX bytes. Pure, as all that follows.
#define TEXT_DISTANCE_MAX 255
size_t text_distance(const char *a, const char *b);

// For "did you mean …?": the nearest of the names that were offered, of several the first; NULL while none is near enough.
struct text_nearest {
    const char *given, *name; // the caller's
    size_t distance;          // a name must be below it
};
struct text_nearest text_nearest_init(const char *given); // near enough: a third of its letters, and one more
bool text_nearest_offer(struct text_nearest *n, const char *name); // true: it is the nearest now
// For names of several parts ("Berlin" of "Europe/Berlin"): near is also one that holds the other. Smaller *ret_rank is nearer.
bool text_is_similar(const char *given, const char *name, size_t *ret_rank);

#endif
