// SPDX-License-Identifier: Apache-2.0
#include "cli/pretty.h"

#include <stdint.h>

#include "core/base/text.h"
#include "dlq/json_bytes.h"

struct layout {
    struct buf *out;
    size_t indent, depth;
};

static int new_line(const struct layout *l) {
    if (l->indent == 0) return 0;
    size_t blanks = l->indent * l->depth;
    char *at = buf_reserve(l->out, 1 + blanks);
    if (!at) return ERR_TOO_LARGE;
    *at = '\n';
    memset(at + 1, ' ', blanks);
    buf_added(l->out, 1 + blanks);
    return 0;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

// Bytes of the token that begins the text: a string, a mark, or a number or word.
static size_t token_bytes(struct str s) {
    size_t n = 1;
    if (s.data[0] == '"') {
        while (n < s.len && s.data[n] != '"') n += s.data[n] == '\\' ? 2 : 1;
        return n + 1 < s.len ? n + 1 : s.len;
    }
    if (strchr("{}[],:", s.data[0])) return 1;
    while (n < s.len && !is_blank(s.data[n]) && !strchr("{}[],:", s.data[n])) n++;
    return n;
}

static int put(struct layout *l, struct str token, char before) {
    int rc = 0;
    char c = token.data[0];
    bool opens = c == '{' || c == '[', closes = c == '}' || c == ']', was_opened = before == '{' || before == '[';
    if (closes) l->depth--;
    if (before == ',' || (closes && !was_opened) || (was_opened && !closes)) rc = new_line(l);
    if (rc == 0 && before == ':' && l->indent) rc = buf_append(l->out, STR_LIT(" "));
    if (opens) l->depth++;
    return rc == 0 ? buf_append(l->out, token) : rc;
}

int pretty_json(struct str json, size_t indent, struct buf *out) {
    struct layout l = {.out = out, .indent = indent};
    char before = '\0';
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < json.len;) {
        if (is_blank(json.data[at])) {
            at++;
            continue;
        }
        struct str token = {json.data + at, token_bytes((struct str){json.data + at, json.len - at})};
        rc = put(&l, token, before);
        before = token.data[0];
        at += token.len;
    }
    return rc;
}

char *pretty_bytes(const json_t *value) {
    struct buf room, clean;
    struct str bytes = STR_LIT("");
    buf_init(&room, SIZE_MAX / 2);
    buf_init(&clean, SIZE_MAX / 2);
    if (json_bytes_read(value, &room, &bytes, NULL) == 0) MUST(text_append_clean(&clean, bytes, SIZE_MAX / 4) == 0);
    buf_done(&room);
    return buf_take(&clean, NULL);
}
