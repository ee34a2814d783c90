// SPDX-License-Identifier: Apache-2.0
// Texts that may have any bytes, as JSON: "…", and what is not UTF-8 as {"base64": "…"}.
//
// Threads: any; pure.
#ifndef DLQ_JSON_BYTES_H
#define DLQ_JSON_BYTES_H

#include <jansson.h>

#include "core/base/buf.h"

json_t *json_bytes_new(struct str bytes) must_use;
// Appends the bytes to `room`, and *ret points to them there: of nothing and of null none. Who reads several texts reserves all of the room before,
// so that none moves. ERR_INVALID: it is neither form; ERR_TOO_LARGE: past the cap of `room`.
int json_bytes_read(const json_t *value, struct buf *room, struct str *ret, struct err *err) must_use;
// A member's text; "" when it is none.
struct str json_member_text(const json_t *o, const char *name);

#endif
