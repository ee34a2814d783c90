// SPDX-License-Identifier: Apache-2.0
// Any text is an expression or an error that points at a column. Of what was given, nothing stands in the SQL: each word of it is one of those
// below, each number is a parameter's, and parameters appear in their order. The input is two parts: the expression, and behind a NUL a
// text for every word of the spec.
#include <ctype.h>

#include "core/base/text.h"
#include "dlq/select.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const words[] = {
    "letters", "letter_groups", "id", "function", "version", "state", "kind", "attempts", "error_type", "error_message", "why", "fingerprint",
    "source_kind", "source_name", "source_at", "ordering_key", "content_type", "payload", "accepted_ms", "died_ms", "changed_ms", "due_ms",
    "origin_id", "replay_id", "headers", "body", "json", "name", "g", "m", "type", "atom", "value", "key", "true", "AND", "OR", "NOT", "IN",
    "IS", "NULL", "CASE", "WHEN", "THEN", "ELSE", "END", "SELECT", "FROM", "WHERE", "AS", "LEFT", "JOIN", "ON", "ORDER", "BY", "DESC", "LIMIT", "FOR", "BETWEEN", "LIKE", "ESCAPE",
    "COLLATE", "CAST", "TEXT", "REAL", "bigint", "numeric", "int", "text", "bytea", "jsonb", "lower", "length", "strpos", "instr", "substr",
    "substring", "starts_with", "position", "encode", "convert_from", "coalesce", "to_jsonb", "jsonb_typeof", "json_type", "json_extract",
    "json_each",
};
static const char *const texts[] = {
    "", "due", "dead", "replaying", "replayed", "discarded", "function", "throttled", "platform", "expired", "undecodable", "unroutable",
    "delayed", "string", "number", "integer", "real", "text", "object", "array", "true", "false", "null", "escape", "UTF8", "{}", ":", "\\",
};

static bool is_one_of(struct str s, const char *const *list, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (str_is(s, list[i])) return true;
    return false;
}

static size_t run_of(struct str s, size_t at, bool digits) {
    size_t n = 0;
    while (at + n < s.len && (digits ? isdigit((unsigned char)s.data[at + n]) : isalnum((unsigned char)s.data[at + n]) || s.data[at + n] == '_')) n++;
    return n;
}

// m1, m2, …: rows of json_each.
static bool is_level(struct str word) {
    return word.len > 1 && word.data[0] == 'm' && run_of(word, 1, true) == word.len - 1;
}

// The text in quotes at `at`; bytes with the quotes.
static size_t check_quoted(struct str sql, size_t at) {
    const char *end = memchr(sql.data + at + 1, sql.data[at], sql.len - at - 1);
    MUST(end);
    struct str text = {sql.data + at + 1, (size_t)(end - sql.data) - at - 1};
    MUST(sql.data[at] == '"' ? str_is(text, "C") : is_one_of(text, texts, array_len(texts)));
    return text.len + 2;
}

static void check_sql(struct str sql, size_t count) {
    size_t seen = 0;
    int depth = 0;
    for (size_t at = 0; at < sql.len;) {
        char c = sql.data[at];
        size_t n = 1;
        if (c == '\'' || c == '"') {
            n = check_quoted(sql, at);
        } else if (c == '$') {
            n += run_of(sql, at + 1, true);
            size_t number = strtoul(sql.data + at + 1, NULL, 10);
            MUST(number >= 1 && number <= seen + 1);
            if (number > seen) seen = number;
        } else if (isalpha((unsigned char)c)) {
            n = run_of(sql, at, false);
            struct str word = {sql.data + at, n};
            MUST(is_one_of(word, words, array_len(words)) || is_level(word));
        } else if (isdigit((unsigned char)c)) {
            n = run_of(sql, at, true);
            MUST(n == 1 && c <= '2'); // json 1 or 2, > 0, LIMIT 1
        } else {
            MUST(memchr(" ().,:=<>-#|", c, 12));
            if (c == '(') depth++;
            if (c == ')') MUST(--depth >= 0);
        }
        at += n;
    }
    MUST(depth == 0 && seen == count);
}

static void compile(const struct selection *s, bool postgres) {
    static struct select_sql q;
    struct buf text;
    buf_init(&text, SELECT_SQL_MAX);
    q = (struct select_sql){.text = &text, .postgres = postgres};
    selection_sql(s, &q);
    check_sql(buf_str(&text), q.count);
    MUST(q.count <= SELECT_VALUES_MAX - SELECT_CALLER_VALUES);
    for (size_t i = 0; i < q.count; i++) // PostgreSQL takes no other texts
        MUST(q.values[i].type != SQL_TEXT || (text_is_utf8(q.values[i].bytes) && (!q.values[i].bytes.len || !memchr(q.values[i].bytes.data, 0, q.values[i].bytes.len))));
    buf_done(&text);
}

static void try_spec(const struct select_spec *spec, struct str where) {
    struct err err = {0};
    struct selection *s = NULL;
    if (selection_new(spec, &s, &err)) {
        MUST(err.code == ERR_INVALID && s == NULL && text_is_utf8(str_of(err.text)));
        size_t column = str_starts(str_of(err.text), "column ") ? strtoul(err.text + 7, NULL, 10) : 1;
        MUST(column >= 1 && column <= where.len + 1);
        return;
    }
    compile(s, true);
    compile(s, false);
    for (const char *c = selection_text(s); *c; c++) MUST((unsigned char)*c >= 0x20);
    selection_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str where = {(const char *)data, size}, word = STR_NONE;
    const char *end = size ? memchr(data, '\0', size) : NULL;
    if (end) {
        where.len = (size_t)(end - where.data);
        word = (struct str){end + 1, size - where.len - 1};
    }
    try_spec(&(struct select_spec){.where = where, .now_ms = INT64_C(1769860800000)}, where);
    try_spec(&(struct select_spec){.where = where, .function = word, .error_type = word, .search = word, .since_ms = 5, .until_ms = 7}, where);
    try_spec(&(struct select_spec){.group = word}, STR_NONE);
    try_spec(&(struct select_spec){.source = word}, STR_NONE);
    try_spec(&(struct select_spec){.state = word}, STR_NONE);
    return 0;
}
