// SPDX-License-Identifier: Apache-2.0
// Event ids: UUID version 7 (RFC 9562): 48 bits of Unix milliseconds, then random bits; sortable by age.
//
// Units: 16 bytes in network order; text is the 36 characters of RFC 9562 in lower case.
// Threads: any. Ids of one process are strictly increasing.
#ifndef CORE_ID_H
#define CORE_ID_H

#include <stdint.h>

#include "core/base/err.h"

struct id {
    uint8_t bytes[16];
};

#define ID_TEXT_BYTES 37 // with the NUL

struct id id_new(void);
// An id that is the same for the same arguments: for a record that may be read twice. `a` and `b` tell records of one
// millisecond apart: 74 bits of what they mix to are kept, so feed them whatever names the record.
struct id id_derive(int64_t unix_ms, uint64_t a, uint64_t b);
bool id_is_none(const struct id *id); // all zero
bool id_eq(const struct id *a, const struct id *b);
void id_format(const struct id *id, char out[ID_TEXT_BYTES]);
int id_parse(struct str text, struct id *ret) must_use; // 0 or ERR_INVALID
int64_t id_unix_ms(const struct id *id);                // the time it was made

#endif
