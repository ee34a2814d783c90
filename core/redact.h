// SPDX-License-Identifier: Apache-2.0
// Redaction: masks the values of fields that an operator has named as secret (option `redact`), in JSON and in plain text.
//
// Names: `password,card.number`: a name matches a member of that name at any depth, without regard to case; with dots, the member at the
//   end of such a path, at any depth, whatever indexes stand between. A member whose name is a path itself (user.password, /card/number) is
//   taken as that path. In plain text (log lines, error messages, tracebacks): what follows the last part of a name and = or :,
//   with or without quotes around either, up to the end of the value. Headers: the header of that name.
// A masked value is the string "***". Masking never makes a text longer than three times what it was.
// Threads: any, after redact_new. Errors: ERR_INVALID (a name that is empty or has characters that no field has).
#ifndef CORE_REDACT_H
#define CORE_REDACT_H

#include <jansson.h>

#include "core/base/buf.h"

#define REDACT_MASK "***"
#define REDACT_NAMES_MAX 100

struct redact;
// names: separated by commas; empty: nothing is masked, and *ret is NULL. Every function below takes NULL for "mask nothing".
int redact_new(const char *names, struct redact **ret, struct err *err) must_use;
void redact_free(struct redact *r);

bool redact_is_secret(const struct redact *r, struct str name); // a header or one member's name
// Is the value at this path (names from the top, no escapes) masked?
bool redact_is_secret_path(const struct redact *r, const struct str *names, size_t count);
// Appends a payload or any other text: JSON is masked by its members and stays JSON, other text is masked as text. Returns whether
// something was masked. `out` must have room for three times the text; MUST otherwise.
bool redact_append(const struct redact *r, struct str text, struct buf *out);
// Masks inside a JSON value of ours, in place: members by name, the text of strings, and the "value" of an operation of a JSON Patch by its
// "path". Deeper than JSON_TEXT_DEPTH levels nothing is left.
bool redact_json(const struct redact *r, json_t *value);

#endif
