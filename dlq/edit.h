// SPDX-License-Identifier: Apache-2.0
// An edit: changes the payload and headers of a letter, and says what it changed as a JSON Patch (RFC 6902).
//
// The document that paths lead into: {"payload": JSON, "headers": {"name": "value", …}, "contentType": "…", "orderingKey": "…"}. A payload
//   that is not JSON is "payloadText" when it is UTF-8, else "payloadBase64"; it can only be replaced whole, and any payload can be replaced by
//   each of the three. A header that stands there several times is an array of texts. A text that is not UTF-8 is {"base64": "…"}. Where
//   the order of headers matters, "headers" can be given as [["name", "value"], …].
// Paths as people write them: payload.customer.name, payload.items[0].sku, payload."a.b", headers.x-tenant. Names of headers do not
//   regard case. JSON Pointers (/payload/customer/name) are taken too.
// Exact: all bytes of the payload that the edit does not name stay as they are (core/json_text). Headers keep their order; new ones come last.
// Threads: any; pure. Errors: ERR_INVALID (which operation, and why), ERR_NOT_FOUND (nothing at a path, or in a payload of another kind; a `test` that fails is
//   ERR_CONFLICT), ERR_TOO_LARGE (over EV_PAYLOAD_MAX, EV_HEADERS_MAX).
#ifndef DLQ_EDIT_H
#define DLQ_EDIT_H

#include "core/ev.h"

#define EDIT_OPERATIONS_MAX 1000
#define EDIT_DOCUMENT_MAX (7 * EV_ENCODED_MAX) // bytes of a document; a byte of a text can become six

struct edit;
// From {"set":{path: value,…},"unset":[path…],"patch":[RFC 6902 operations]}, at least one of them; other members are the caller's. They are
// done in the order patch, set, unset. To unset what is not there changes nothing; a patch's remove of it fails. Values of set are JSON values, kept as they are written; a header's value is a string, or several.
int edit_parse(struct str json, struct edit **ret, struct err *err) must_use;
void edit_free(struct edit *e);

struct edited {
    struct ev *ev;    // a new event: everything but what was edited as it was; NULL: the edit changes nothing
    char *patch;      // JSON Patch text that leads from the event before to this one, through edit_parse
    char *inverse;    // and back, to the same bytes
};
int edit_apply(const struct edit *e, const struct ev *ev, struct edited *ret, struct err *err) must_use;
void edited_done(struct edited *ed); // frees all three

// Appends the document of an event, as text; for showing and for diffs. `out` must have room for EDIT_DOCUMENT_MAX; MUST otherwise.
void edit_document(const struct ev *ev, struct buf *out);

#endif
