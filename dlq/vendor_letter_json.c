// SPDX-License-Identifier: Apache-2.0
// From a letter's JSON to the vendors' JSON.
#include "dlq/letters_impl.h"
#include "dlq/vendor_letter.h"

static struct str text_of(const json_t *o, const char *name) {
    const json_t *value = json_object_get(o, name);
    return json_is_string(value) ? (struct str){json_string_value(value), json_string_length(value)} : STR_LIT("");
}

json_t *vendor_letter_of_json(enum vendor v, const json_t *letter) {
    struct letter_draft draft = {.ev = NULL};
    struct err err = {0};
    struct buf out;
    json_t *made = NULL;
    buf_init(&out, 8 * EV_ENCODED_MAX);
    int rc = letter_draft_of_json(letter, &draft, &err);
    const struct vendor_failure failure = {.ev = draft.ev,
                                           .kind = text_of(letter, "kind"),
                                           .error_type = draft.error_type,
                                           .error_message = draft.error_message,
                                           .stack = draft.stack,
                                           .version = draft.version,
                                           .died_ms = json_integer_value(json_object_get(letter, "diedMs"))};
    if (rc == 0) rc = vendor_letter_append(&out, v, &failure, &err);
    if (rc == 0) made = json_loadb(out.data + out.start, buf_len(&out), JSON_ALLOW_NUL, NULL);
    if (!made) made = json_pack("{ss sO}", "error", err.text, "id", json_object_get(letter, "id"));
    ev_free(draft.ev);
    buf_done(&out);
    return made;
}
