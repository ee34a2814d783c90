// SPDX-License-Identifier: Apache-2.0
// A selection from its spec: the words become comparisons of the language, so that both are checked and compiled in one way.
#include <stdalign.h>

#include "core/base/text.h"
#include "dlq/select_impl.h"

const struct select_column select_columns[] = {
#define X(name, class, sql, may_miss) {name, class, sql, may_miss},
    SELECT_FIELDS(X)
#undef X
    {0}};

const struct select_column *select_column_find(struct str name) {
    for (const struct select_column *c = select_columns; c->name; c++)
        if (strlen(c->name) == name.len && strncasecmp(c->name, name.data, name.len) == 0) return c;
    return NULL;
}

// --- memory -----------------------------------------------------------------------------------------------------------

struct select_block {
    struct select_block *next;
    alignas(max_align_t) char data[];
};

void *select_alloc(struct selection *s, size_t count, size_t bytes) {
    MUST(bytes > 0 && count <= SELECT_SQL_MAX);
    struct select_block *b = mem_zalloc(sizeof *b + count * bytes);
    b->next = s->blocks;
    s->blocks = b;
    return b->data;
}

struct str select_copy(struct selection *s, struct str text) {
    char *copy = select_alloc(s, 1, text.len + 1);
    if (text.len) memcpy(copy, text.data, text.len);
    return (struct str){copy, text.len};
}

struct str select_keep(struct selection *s, struct buf *b) {
    struct str copy = select_copy(s, buf_str(b));
    buf_done(b);
    return copy;
}

void selection_free(struct selection *s) {
    if (!s) return;
    while (s->blocks) {
        struct select_block *b = s->blocks;
        s->blocks = b->next;
        free(b);
    }
    free(s->text);
    free(s);
}

// --- from the spec ------------------------------------------------------------------------------------------------------

static int check_text(const char *name, struct str text, struct err *err) {
    if (text.len > SELECT_TEXT_MAX) return err_set(err, ERR_INVALID, "%s: %zu bytes are too many, %d are allowed", name, text.len, SELECT_TEXT_MAX);
    if (!text_is_utf8(text)) return err_set(err, ERR_INVALID, "%s: it is not UTF-8", name);
    if (text.len && memchr(text.data, '\0', text.len)) return err_set(err, ERR_INVALID, "%s: there is a NUL in it", name);
    return 0;
}

// `name = "text"`, or search("text") without a column.
static int add_word(struct selection *s, const char *name, const char *column, struct str text, struct err *err) {
    if (text.len == 0) return 0;
    int rc = check_text(name, text, err);
    if (rc) return rc;
    struct select_node *n = select_alloc(s, 1, sizeof *n);
    n->type = SELECT_TERM;
    n->op = column ? SELECT_IN : SELECT_SEARCH;
    const struct select_column *found = column ? select_column_find(str_of(column)) : NULL;
    if (found) n->field = (struct select_field){.column = found, .class = found->class};
    n->values = select_alloc(s, 1, sizeof *n->values);
    n->values[0] = (struct select_value){.type = SELECT_IS_TEXT, .text = select_copy(s, text)};
    n->value_count = 1;
    n->next = s->words;
    s->words = n;
    size_t wrong;
    return select_values_check(s, n, &wrong, err);
}

// In the statement they stand in the opposite order: what is quick to look at, and indexed, first.
static int add_words(struct selection *s, const struct select_spec *spec, struct err *err) {
    int rc = add_word(s, "search", NULL, spec->search, err);
    if (rc == 0) rc = add_word(s, "source", "source", spec->source, err);
    if (rc == 0) rc = add_word(s, "error", "error", spec->error_type, err);
    if (rc == 0) rc = add_word(s, "group", "group", spec->group, err);
    if (rc == 0) rc = add_word(s, "function", "function", spec->function, err);
    if (rc == 0) rc = add_word(s, "state", "state", spec->state, err);
    s->is_dead = str_is(spec->state, "dead");
    return rc;
}

static int add_ids(struct selection *s, const struct select_spec *spec, struct err *err) {
    if (spec->id_count > SELECT_IDS_MAX) return err_set(err, ERR_INVALID, "%zu ids are too many for one request, %d are allowed", spec->id_count, SELECT_IDS_MAX);
    if (spec->id_count == 0) return 0;
    s->ids = select_alloc(s, spec->id_count, sizeof *s->ids);
    memcpy(s->ids, spec->ids, spec->id_count * sizeof *s->ids);
    s->id_count = spec->id_count;
    return 0;
}

bool select_is_blank(struct str s) {
    for (size_t i = 0; i < s.len; i++)
        if (!memchr(" \t\r\n", s.data[i], 4)) return false;
    return true;
}

static int add_where(struct selection *s, struct str where, const struct redact *redact, struct err *err) {
    if (select_is_blank(where)) return 0;
    int rc = check_text("where", where, err);
    if (rc) return rc;
    s->redact = redact;
    rc = select_parse(s, select_copy(s, where), &s->where, err);
    s->redact = NULL;
    return rc;
}

// What is too large is refused here, not when it is used.
static int check_size(const struct selection *s, struct err *err) {
    struct select_sql *q = mem_zalloc(sizeof *q);
    struct buf text;
    size_t bytes = 0, values = 0;
    for (int postgres = 0; postgres < 2; postgres++) {
        buf_init(&text, SELECT_SQL_MAX * 8);
        *q = (struct select_sql){.text = &text, .postgres = postgres};
        select_compile(s, q);
        bytes = buf_len(&text) > bytes ? buf_len(&text) : bytes;
        values = q->count > values ? q->count : values;
        buf_done(&text);
    }
    free(q);
    if (values <= SELECT_OWN_MAX && bytes <= SELECT_SQL_MAX) return 0;
    return err_set(err, ERR_INVALID, "the selection is too large: %zu values, members and ids, and %zu bytes of SQL; %d and %d are allowed", values,
        bytes, SELECT_OWN_MAX, SELECT_SQL_MAX);
}

// --- all of it ------------------------------------------------------------------------------------------------------------

int selection_new(const struct select_spec *spec, struct selection **ret, struct err *err) {
    struct selection *s = mem_zalloc(sizeof *s);
    s->now_ms = spec->now_ms;
    s->since_ms = spec->since_ms;
    s->until_ms = spec->until_ms;
    int rc = add_words(s, spec, err);
    if (rc == 0) rc = add_ids(s, spec, err);
    if (rc == 0) rc = add_where(s, spec->where, spec->redact, err);
    if (rc == 0) rc = check_size(s, err);
    if (rc) {
        selection_free(s);
        return rc;
    }
    s->text = select_describe(s, spec);
    *ret = s;
    return 0;
}

bool selection_is_all(const struct selection *s) {
    return !s->words && !s->where && !s->id_count && !s->since_ms && !s->until_ms;
}

const struct id *selection_ids(const struct selection *s, size_t *ret_count) {
    *ret_count = s->id_count;
    return s->ids;
}

const char *selection_text(const struct selection *s) {
    return s->text;
}

struct str selection_where(const struct selection *s) {
    return s->where_shown;
}

static bool asks_for_kind(const struct select_node *n, const char *kind) {
    if (n->type == SELECT_NONE_OF) return false;
    for (const struct select_node *child = n->first; child; child = child->next)
        if (asks_for_kind(child, kind)) return true;
    if (n->type != SELECT_TERM || n->negated || n->op != SELECT_IN || strcmp(n->field.column->name, "kind") != 0) return false;
    for (size_t i = 0; i < n->value_count; i++)
        if (n->values[i].word && strcmp(n->values[i].word, kind) == 0) return true;
    return false;
}

bool selection_names_kind(const struct selection *s, const char *kind) {
    return s->where && asks_for_kind(s->where, kind);
}
