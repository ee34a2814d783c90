// SPDX-License-Identifier: Apache-2.0
// Writing SQL: parameters, lists of values, and questions to texts. For the files of dlq/select that make up the statement.
//
// Case: A-Z as a-z, other letters as they are, which is what lower() of the collation "C" and SQLite's LIKE do. LIKE is the fastest there, but
//   ends at a NUL; only a payload that is not JSON can hold one.
#ifndef DLQ_SELECT_WRITE_H
#define DLQ_SELECT_WRITE_H

#include "dlq/select_impl.h"

// It stands in nearly every line.
static inline void add(struct select_sql *q, const char *literal) {
    select_sql_add(q, literal);
}
static inline const char *either(const struct select_sql *q, const char *postgres, const char *sqlite) {
    return q->postgres ? postgres : sqlite;
}

// A parameter whose place in the text comes later, as often as wanted, with select_put. Its number. Those over the cap are counted only.
size_t select_hold(struct select_sql *q, struct sql_value v);
void select_put(struct select_sql *q, size_t number);
void select_add_value(struct select_sql *q, struct sql_value v); // both
void select_add_text(struct select_sql *q, struct str s);
void select_add_integer(struct select_sql *q, int64_t n);
void select_add_number(struct select_sql *q, const struct select_value *v);

// --- lists ------------------------------------------------------------------------------------------------------------
typedef void select_put_fn(struct select_sql *q, const struct select_value *v);
typedef bool select_wants_fn(const struct select_value *v);
// " = v" or " IN (v, v)", of the values that are wanted. `= 'dead'` is what the partial indexes are recognized by.
void select_add_equal(struct select_sql *q, const struct select_node *t, select_wants_fn *wants, select_put_fn *put_value);
bool select_has(const struct select_node *t, select_wants_fn *wants);
select_wants_fn select_any;
select_put_fn select_put_text;
const char *select_order_sign(enum select_op op);

// --- texts --------------------------------------------------------------------------------------------------------------
// Where a text is, and how to write it into the statement.
struct select_place {
    void (*write)(struct select_sql *q, const struct select_place *at);
    const struct select_field *field;
    const char *column;
    size_t first; // the number of the first parameter of a path
    bool by_each; // it is a row of SQLite's json_each
};
void select_write_column(struct select_sql *q, const struct select_place *at);
void select_compare_text(struct select_sql *q, const struct select_place *at, const struct select_node *t);
size_t select_hold_pattern(struct select_sql *q, const struct select_value *v);
void select_find_text(struct select_sql *q, const struct select_place *at, const struct select_value *v, size_t pattern);
void select_starts_text(struct select_sql *q, const struct select_place *at, struct str text);

// --- JSON: dlq/select_member.c --------------------------------------------------------------------------------------------
void select_compare_member(struct select_sql *q, const struct select_node *t);
void select_compare_header(struct select_sql *q, const struct select_node *t);

#endif
