// SPDX-License-Identifier: Apache-2.0
// A case: one event, the settings of its function and how it failed, as a JSON file; so that what failed on a server can be run
// anywhere (weir dlq pull writes it, weir run reads it).
//
//   {"case": 1, "letter": ID,
//    "event": {"id", "function", "version", "attempt", "headers": [[NAME, VALUE]…] or {NAME: VALUE…},
//              "source": {"kind", "name", "at"}, "orderingKey", "contentType", "shape", "acceptedMs",
//              and one of "payload" (any JSON), "payloadText", "payloadBase64"},
//    "function": {"runtime", "handler", "timeoutMs", "memoryMb", "env"},
//    "error": {"type", "message", "stack"}}
//
// Only the payload must be there. It is kept byte for byte: "payload" is what stands in the file, blanks around it left out. "attempt" is
//   the one that the handler sees, 1 for the first. A JSON file without "case", and without an "event" that has a payload, is a payload
//   itself, and so is a file that does not look like JSON. An empty file is refused.
// Errors: ERR_INVALID says which member is wrong; names that a case does not have are refused in "event" and "function", where
//   they would be missed. Blocking: case_read reads a file. Threads: any.
#ifndef CLI_CASE_H
#define CLI_CASE_H

#include <jansson.h>

#include "core/ev.h"
#include "core/registry.h"

#define CASE_VERSION 1
#define CASE_BYTES_MAX ((size_t)64 << 20) // a payload at its cap with each byte escaped, and the rest

struct case_file {
    struct ev *ev;            // with its payload as it came, and attempt as in every event: how many were charged
    uint32_t version;         // of the function; 0: not said
    struct settings settings; // runtime and handler are empty where they were not said
    json_t *error;            // {"type", "message", "stack"}; NULL: none
};

// path: "-" is stdin. case_done frees *ret.
int case_read(const char *path, struct case_file *ret, struct err *err) must_use;
// A case of no file: an empty payload.
void case_init(struct case_file *c);
void case_done(struct case_file *c);

// Appends the case of a letter. letter: the answer to GET /v1/letters/{id}; function: that to GET /v1/functions/{name}, NULL when
// there is no such function any more. out: of CASE_BYTES_MAX. ERR_INVALID: an answer is not as it should be.
int case_write(const json_t *letter, const json_t *function, struct buf *out, struct err *err) must_use;

// Appends `root` as JSON text with `bytes` put into its member `into` ("": into itself) as NAME when they are JSON, as NAMEText
// when they are text, else as NAMEBase64. Such bytes come back exactly.
int case_put_bytes(json_t *root, const char *into, const char *name, struct str bytes, struct buf *out, struct err *err) must_use;

#endif
