// SPDX-License-Identifier: Apache-2.0
// Reads msgpack in place, without allocating: for messages from outside, whose length fields may claim anything.
// (msgpack-c's unpacker allocates what a length field claims before it looks whether so many bytes are there.)
//
// Owns: nothing; strings point into the input. Source: the msgpack specification (github.com/msgpack/msgpack, spec.md).
// Errors: false when the next value is of another type, is cut short, or claims more than the input can hold; the reader
//   then stays where it was. Threads: any.
#ifndef CORE_UNPACK_H
#define CORE_UNPACK_H

#include <stdint.h>

#include "core/base/mem.h"

#define UNPACK_DEPTH_MAX 32

struct unpack {
    struct str left; // not read yet
};

bool unpack_array(struct unpack *u, uint32_t *ret_count) must_use;  // then read so many values
bool unpack_map(struct unpack *u, uint32_t *ret_pairs) must_use;    // then read so many keys and values
bool unpack_int(struct unpack *u, int64_t *ret) must_use;           // integers up to INT64_MAX
bool unpack_bytes(struct unpack *u, struct str *ret) must_use;      // str or bin
bool unpack_skip(struct unpack *u) must_use;                        // any value, nested to UNPACK_DEPTH_MAX

#endif
