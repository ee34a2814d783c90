// SPDX-License-Identifier: Apache-2.0
#include "dlq/select_write.h"

void select_sql_add(struct select_sql *q, const char *text) {
    MUST(buf_append(q->text, str_of(text)) == 0);
}

size_t select_hold(struct select_sql *q, struct sql_value v) {
    if (q->count < SELECT_VALUES_MAX) q->values[q->count] = v;
    return ++q->count;
}

void select_put(struct select_sql *q, size_t number) {
    MUST(buf_printf(q->text, "$%zu", number) == 0);
}

void select_add_value(struct select_sql *q, struct sql_value v) {
    select_put(q, select_hold(q, v));
}

void select_sql_value(struct select_sql *q, struct sql_value v) {
    select_add_value(q, v);
    MUST(q->count <= SELECT_VALUES_MAX);
}

void select_add_text(struct select_sql *q, struct str s) {
    select_add_value(q, SQL_T(s));
}

void select_add_integer(struct select_sql *q, int64_t n) {
    select_add_value(q, SQL_I(n));
    add(q, either(q, "::bigint", ""));
}

void select_add_number(struct select_sql *q, const struct select_value *v) {
    if (v->whole) {
        select_add_integer(q, v->integer);
        return;
    }
    add(q, either(q, "", "CAST("));
    select_add_text(q, v->text);
    add(q, either(q, "::numeric", " AS REAL)"));
}

// --- lists ------------------------------------------------------------------------------------------------------------

void select_add_equal(struct select_sql *q, const struct select_node *t, select_wants_fn *wants, select_put_fn *put_value) {
    size_t count = 0, done = 0;
    for (size_t i = 0; i < t->value_count; i++) count += wants(&t->values[i]);
    add(q, count == 1 ? " = " : " IN (");
    for (size_t i = 0; i < t->value_count; i++) {
        if (!wants(&t->values[i])) continue;
        if (done++) add(q, ", ");
        put_value(q, &t->values[i]);
    }
    if (count != 1) add(q, ")");
}

bool select_any(const struct select_value *v) {
    (void)v;
    return true;
}

bool select_has(const struct select_node *t, select_wants_fn *wants) {
    for (size_t i = 0; i < t->value_count; i++)
        if (wants(&t->values[i])) return true;
    return false;
}

void select_put_text(struct select_sql *q, const struct select_value *v) {
    select_add_text(q, v->text);
}

const char *select_order_sign(enum select_op op) {
    switch (op) {
    case SELECT_LESS: return " < ";
    case SELECT_LESS_EQUAL: return " <= ";
    case SELECT_MORE: return " > ";
    default: return " >= ";
    }
}

// --- texts --------------------------------------------------------------------------------------------------------------

void select_write_column(struct select_sql *q, const struct select_place *at) {
    add(q, at->column);
}

void select_find_text(struct select_sql *q, const struct select_place *at, const struct select_value *v, size_t number) {
    const char *fold = v->has_letters ? "lower(" : "(";
    add(q, either(q, "strpos(", ""));
    if (q->postgres) add(q, fold);
    at->write(q, at);
    add(q, either(q, " COLLATE \"C\"), ", " LIKE "));
    select_put(q, number);
    add(q, either(q, ") > 0", " ESCAPE '\\'"));
}

size_t select_hold_pattern(struct select_sql *q, const struct select_value *v) {
    return select_hold(q, SQL_T(q->postgres ? v->text : v->like));
}

static size_t characters(struct str s) {
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) n += (s.data[i] & 0xc0) != 0x80;
    return n;
}

void select_starts_text(struct select_sql *q, const struct select_place *at, struct str text) {
    add(q, either(q, "starts_with(", "substr("));
    at->write(q, at);
    add(q, ", ");
    if (!q->postgres) {
        add(q, "1, ");
        select_add_integer(q, (int64_t)characters(text));
        add(q, ") = ");
    }
    select_add_text(q, text);
    add(q, either(q, ")", ""));
}

static void contains_text(struct select_sql *q, const struct select_place *at, struct str text) {
    add(q, either(q, "strpos(", "instr("));
    at->write(q, at);
    add(q, ", ");
    select_add_text(q, text);
    add(q, ") > 0");
}

void select_compare_text(struct select_sql *q, const struct select_place *at, const struct select_node *t) {
    const struct select_value *v = &t->values[0];
    switch (t->op) {
    case SELECT_FIND: select_find_text(q, at, v, select_hold_pattern(q, v)); return;
    case SELECT_STARTS: select_starts_text(q, at, v->text); return;
    case SELECT_CONTAINS: contains_text(q, at, v->text); return;
    case SELECT_IN:
        at->write(q, at);
        select_add_equal(q, t, select_any, select_put_text);
        return;
    default:
        at->write(q, at);
        add(q, either(q, " COLLATE \"C\"", ""));
        add(q, select_order_sign(t->op));
        select_add_text(q, v->text);
    }
}

