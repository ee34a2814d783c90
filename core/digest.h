// SPDX-License-Identifier: Apache-2.0
// SHA-256, Base64 and the comparison of secrets.
//
// Threads: any. Memory: nothing is kept; outputs go to the caller's buffer and respect its cap.
#ifndef CORE_DIGEST_H
#define CORE_DIGEST_H

#include "core/base/buf.h"

#define DIGEST_HEX_BYTES 65 // 64 lower-case hex digits and a NUL
void digest_sha256_hex(struct str bytes, char out[DIGEST_HEX_BYTES]);

// RFC 4648 section 4, with padding. ERR_TOO_LARGE past the cap of `out`, which is left as it was.
int base64_encode(struct str bytes, struct buf *out) must_use;
// Strict: no blanks, padding required, unused bits zero; else ERR_INVALID, which leaves `out` as it was.
int base64_decode(struct str text, struct buf *out, struct err *err) must_use;

// Takes the same time wherever the two differ, and whatever their lengths are.
bool digest_equal_secret(struct str a, struct str b);

#endif
