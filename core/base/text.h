// SPDX-License-Identifier: Apache-2.0
// Text that came from outside, made safe for JSON and for SQL text columns.
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
// up to TEXT_DISTANCE_MAX bytes. Pure: for "did you mean …?".
#define TEXT_DISTANCE_MAX 255
size_t text_distance(const char *a, const char *b);

#endif
