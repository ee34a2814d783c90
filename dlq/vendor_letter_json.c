// SPDX-License-Identifier: Apache-2.0
// From a letter's JSON to the vendors' JSON.
#include "dlq/json_bytes.h"
#include "dlq/letters_impl.h"
#include "dlq/vendor_letter.h"

static int append_error(struct buf *out, const struct err *why, const json_t *letter) {
    json_t *o = json_pack("{ss sO}", "error", why->text, "id", json_object_get(letter, "id"));
    char *text = json_dumps(o, JSON_COMPACT);
    int rc = text ? buf_append(out, str_of(text)) : ERR_TOO_LARGE;
    free(text);
    json_decref(o);
    return rc;
}

int vendor_letter_append_json(struct buf *out, enum vendor v, const json_t *letter) {
    struct letter_draft draft = {.ev = NULL};
    struct err err = {0};
    int rc = letter_draft_of_json(letter, &draft, &err);
    const struct vendor_failure failure = {.ev = draft.ev,
                                           .kind = json_member_text(letter, "kind"),
                                           .error_type = draft.error_type,
                                           .error_message = draft.error_message,
                                           .stack = draft.stack,
                                           .version = draft.version,
                                           .died_ms = json_integer_value(json_object_get(letter, "diedMs"))};
    rc = rc ? append_error(out, &err, letter) : vendor_letter_append(out, v, &failure, &err);
    ev_free(draft.ev);
    return rc;
}
