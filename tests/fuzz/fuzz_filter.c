// SPDX-License-Identifier: Apache-2.0
// Any bytes are a pattern or an error that says what is wrong; a pattern answers for any record, and the same twice. The
// input is three parts between NULs: the pattern, source_at, and the record's body (also its key and its header).
#include "core/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct str take_part(struct str *rest) {
    const char *end = rest->len ? memchr(rest->data, '\0', rest->len) : NULL;
    struct str part = {rest->data, end ? (size_t)(end - rest->data) : rest->len};
    size_t used = end ? part.len + 1 : part.len;
    *rest = (struct str){rest->data + used, rest->len - used};
    return part;
}

static void match(const struct filter *f, const char *kind, struct str at, struct str body) {
    struct ev_header header = {STR_LIT("type"), body};
    struct ev_fields fields = {
        .function = STR_LIT("f"),
        .source_kind = str_of(kind),
        .source_at = at,
        .ordering_key = body,
        .payload = body,
        .headers = &header,
        .header_count = 1,
    };
    struct ev *ev = ev_new(&fields);
    bool yes = filter_matches(f, ev);
    MUST(filter_matches(f, ev) == yes);
    ev_free(ev);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str rest = {(const char *)data, size};
    struct str pattern = take_part(&rest), at = take_part(&rest);
    struct err err = {0};
    struct filter *f = NULL;
    if (filter_parse(pattern, &f, &err)) {
        MUST(err.code == ERR_INVALID && err.text[0] != '\0' && f == NULL);
        return 0;
    }
    match(f, "kafka", at, rest);
    match(f, "amqp", at, rest);
    filter_free(f);
    return 0;
}
