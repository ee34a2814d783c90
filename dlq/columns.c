// SPDX-License-Identifier: Apache-2.0
#include "dlq/columns.h"

#include <inttypes.h>

#include "core/base/mem.h"

void column_init(struct column *c) {
    buf_init(&c->text, SIZE_MAX / 2);
}

void column_done(struct column *c) {
    buf_done(&c->text);
}

static void add(struct column *c, struct str s) {
    MUST(buf_append(&c->text, s) == 0);
}

static void next(struct column *c) {
    add(c, buf_len(&c->text) ? STR_LIT(",") : STR_LIT("{"));
}

void column_add_number(struct column *c, int64_t n) {
    next(c);
    MUST(buf_printf(&c->text, "%" PRId64, n) == 0);
}

void column_add_word(struct column *c, const char *word) {
    next(c);
    add(c, str_of(word));
}

void column_add_id(struct column *c, const struct id *id) {
    static const char digits[] = "0123456789abcdef";
    char text[4 + 2 * sizeof id->bytes] = "\"\\\\x", *at = text + 4;
    next(c);
    if (id_is_none(id)) {
        add(c, STR_LIT("NULL"));
        return;
    }
    for (size_t i = 0; i < sizeof id->bytes; i++) {
        *at++ = digits[id->bytes[i] >> 4];
        *at++ = digits[id->bytes[i] & 15];
    }
    add(c, (struct str){text, sizeof text});
    add(c, STR_LIT("\""));
}

struct sql_value column_value(struct column *c) {
    add(c, buf_len(&c->text) ? STR_LIT("}") : STR_LIT("{}"));
    return SQL_T(buf_str(&c->text));
}
