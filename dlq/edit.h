// SPDX-License-Identifier: Apache-2.0
// An edit: changes the payload and headers of a letter, and says what it changed as a JSON Patch (RFC 6902).
//
// The document that paths lead into: {"payload": JSON, "headers": {"name": "value", …}, "contentType": "…", "orderingKey": "…"}. A payload
//   that is not JSON is "payloadText" when it is UTF-8, else "payloadBase64"; it can only be replaced whole. A header that stands there
//   several times is an array of strings.
// Paths as people write them: payload.customer.name, payload.items[0].sku, payload."a.b", headers.x-tenant. Names of headers do not
//   regard case. JSON Pointers (/payload/customer/name) are taken too.
// Exact: all bytes of the payload that the edit does not name stay as they are (core/json_text).
// Threads: any; pure. Errors: ERR_INVALID (which operation, and why), ERR_NOT_FOUND (nothing to remove at a path; a `test` that fails is
//   ERR_CONFLICT), ERR_TOO_LARGE (over EV_PAYLOAD_MAX, EV_HEADERS_MAX).
#ifndef DLQ_EDIT_H
#define DLQ_EDIT_H

#include <jansson.h>

#include "core/ev.h"

#define EDIT_OPERATIONS_MAX 1000

struct edit;
// From {"set":{path: value,…},"unset":[path…],"patch":[RFC 6902 operations]}, any of them; values of set are JSON values. A header's value is
// a string. Numbers in it are kept as they are written when `json` is the text they came in.
int edit_parse(struct str json, struct edit **ret, struct err *err) must_use;
void edit_free(struct edit *e);

struct edited {
    struct ev *ev;    // a new event: everything but what was edited as it was; the caller frees it. NULL: the edit changes nothing
    char *patch;      // JSON Patch text that leads from the event before to this one; malloc'ed
    char *inverse;    // and back
};
int edit_apply(const struct edit *e, const struct ev *ev, struct edited *ret, struct err *err) must_use;
void edited_done(struct edited *ed);

// The document of an event, as text; for showing and for diffs.
void edit_document(const struct ev *ev, struct buf *out);

#endif
