// SPDX-License-Identifier: Apache-2.0
#include "dlq/json_bytes.h"

#include "core/base/text.h"
#include "core/digest.h"

static struct str text_of(const json_t *value) {
    return (struct str){json_string_value(value), json_string_length(value)};
}

json_t *json_bytes_new(struct str bytes) {
    if (text_is_utf8(bytes)) return json_stringn(bytes.data ? bytes.data : "", bytes.len);
    struct buf base64;
    buf_init(&base64, 2 * bytes.len + 4);
    MUST(base64_encode(bytes, &base64) == 0);
    json_t *o = json_pack("{s:s%}", "base64", buf_str(&base64).data, buf_len(&base64));
    buf_done(&base64);
    return o;
}

static int append(const json_t *value, struct buf *room, struct err *err) {
    const json_t *base64 = json_object_get(value, "base64");
    if (!value || json_is_null(value)) return 0;
    if (json_is_string(value)) return buf_append(room, text_of(value)) ? err_set(err, ERR_TOO_LARGE, "it is too large") : 0;
    if (!json_is_string(base64) || json_object_size(value) != 1) return err_set(err, ERR_INVALID, "a text is wanted, or {\"base64\": \"…\"}");
    return base64_decode(text_of(base64), room, err);
}

int json_bytes_read(const json_t *value, struct buf *room, struct str *ret, struct err *err) {
    size_t before = buf_len(room);
    int rc = append(value, room, err);
    if (rc == 0) *ret = (struct str){buf_str(room).data + before, buf_len(room) - before};
    return rc;
}

struct str json_member_text(const json_t *o, const char *name) {
    const json_t *value = json_object_get(o, name);
    return json_is_string(value) ? text_of(value) : STR_LIT("");
}
