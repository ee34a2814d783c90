// SPDX-License-Identifier: Apache-2.0
// What the three files of the fingerprint share; for them only.
//
// fingerprint.c hashes, fingerprint_mask.c makes the shape of a message, fingerprint_frames.c finds the frames of a stack.
// Memory: frames point into the stack.
#ifndef DLQ_FINGERPRINT_IMPL_H
#define DLQ_FINGERPRINT_IMPL_H

#include "dlq/fingerprint.h"

// A variable part is one of these bytes in a shape; a message has none of them, for its control characters become blanks.
enum mask { MASK_NONE, MASK_N, MASK_ID, MASK_STR, MASK_ADDR, MASK_TIME, MASK_PATH, MASK_LAST = MASK_PATH };

struct shape {
    size_t len;
    char text[FINGERPRINT_TITLE_BYTES]; // well-formed UTF-8
};

void fingerprint_shape(struct str message, struct shape *out);
// Bytes of the id (UUID, ULID, hex, other long opaque word) at the start of s, which is the start of a word; 0: none.
size_t fingerprint_id_length(struct str s);

enum language { LANGUAGE_OTHER, LANGUAGE_PYTHON, LANGUAGE_NODE, LANGUAGE_JAVA, LANGUAGE_PHP, LANGUAGE_GO };

struct frame {
    enum language language; // LANGUAGE_OTHER: `function` is a line of plain text
    struct str file;        // as it was printed, without line and column
    struct str function;    // as it was printed, without arguments
};

// The frames that count, the innermost first; how many.
size_t fingerprint_frames(struct str stack, struct frame top[FINGERPRINT_FRAMES]);

static inline struct str str_from(struct str s, size_t n) {
    return (struct str){s.data + n, s.len - n};
}
static inline struct str str_head(struct str s, size_t n) {
    return (struct str){s.data, n};
}
static inline bool is_digit(unsigned char c) {
    return c >= '0' && c <= '9';
}
static inline bool is_alnum(unsigned char c) {
    return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}
static inline bool is_hex(unsigned char c) {
    return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}
static inline size_t digits_length(struct str s) {
    size_t n = 0;
    while (n < s.len && is_digit((unsigned char)s.data[n])) n++;
    return n;
}
static inline size_t alnum_length(struct str s) {
    size_t n = 0;
    while (n < s.len && is_alnum((unsigned char)s.data[n])) n++;
    return n;
}

#endif
