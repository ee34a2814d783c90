// SPDX-License-Identifier: Apache-2.0
// JSON laid out anew, for reading or in one line: blanks change, every value stays as it is written.
//
// Threads: any; pure.
#ifndef CLI_PRETTY_H
#define CLI_PRETTY_H

#include <jansson.h>

#include "core/base/buf.h"

// json has passed json_text_check. indent: blanks a level, a line a value; 0: no blanks at all. ERR_TOO_LARGE: `out` is full, and
// holds the beginning.
int pretty_json(struct str json, size_t indent, struct buf *out) must_use;

// Bytes in JSON (dlq/json_bytes.h) as a text for people, U+FFFD for what is broken; "" for what is not there. Caller frees.
char *pretty_bytes(const json_t *value);

#endif
