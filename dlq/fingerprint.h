// SPDX-License-Identifier: Apache-2.0
// Fingerprint: a number that is the same for letters that died of the same thing. Letters of one fingerprint are a group.
//
// It covers the function, the error's type, the message with its variable parts masked, and the top FINGERPRINT_FRAMES frames of the stack
//   that are in the user's code, by file and function name; line and column numbers, addresses and the folders of libraries do not count.
//   When a stack has no frame of the user's code, the frames of libraries count instead. docs/fingerprints.md tells the rules.
// Stable: the value is stored. Another rule is another FINGERPRINT_VERSION, which is part of what is hashed (FNV-1a, 64 bits).
// Tracebacks: Python, Node.js, Java, PHP, Go, and lines of other languages as plain text.
// Threads: any; pure. Memory: reads at most FINGERPRINT_BYTES of the message and of the stack.
#ifndef DLQ_FINGERPRINT_H
#define DLQ_FINGERPRINT_H

#include <stdint.h>

#include "core/base/buf.h"

#define FINGERPRINT_VERSION 1
#define FINGERPRINT_FRAMES 3
#define FINGERPRINT_BYTES 65536
#define FINGERPRINT_TITLE_BYTES 300
#define FINGERPRINT_TEXT_BYTES 17 // 16 lower-case hex digits and a NUL

// Never 0: that is the fingerprint of letters that were written before there were any.
uint64_t fingerprint_of(struct str function, struct str error_type, struct str message, struct str stack);
// The message as it counts: numbers, ids (UUID, hex, ULID), quoted parts, addresses (IP, e-mail, URL, memory), dates and times and paths
// are <n>, <id>, <str>, <addr>, <time>, <path>; well-formed UTF-8, at most FINGERPRINT_TITLE_BYTES, for which `out` must have room (MUST). The
// title of a group. In the value all of them count as the same, for a number and an id cannot always be told apart.
void fingerprint_mask(struct str message, struct buf *out);

// The top frame that counts, for people: "total (orders.py)"; nothing when the stack has none.
void fingerprint_place(struct str stack, struct buf *out);

void fingerprint_format(uint64_t fingerprint, char out[FINGERPRINT_TEXT_BYTES]);
int fingerprint_parse(struct str text, uint64_t *ret) must_use; // 16 hex digits; ERR_INVALID

#endif
