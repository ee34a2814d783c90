// SPDX-License-Identifier: Apache-2.0
// What redact.c (names, JSON) and redact_text.c (plain text) share.
#ifndef CORE_REDACT_IMPL_H
#define CORE_REDACT_IMPL_H

#include "core/redact.h"

struct redact {
    size_t count;
    struct str names[REDACT_NAMES_MAX]; // owned; dots between the members of a path
    bool starts[256];                   // the first bytes of their last members, in both cases
};

struct str redact_last_member(struct str name);           // "number" of "card.number"
bool redact_same(const char *a, const char *b, size_t len); // without regard to the case of A-Z
void redact_put(struct buf *out, struct str s);
bool redact_text(const struct redact *r, struct str text, struct buf *out);

#endif
