// SPDX-License-Identifier: Apache-2.0
// Questions to members of the payload, and to headers.
//
// PostgreSQL: body -> $1::text -> $2::int, compared as jsonb, or as text behind a look at its type: no cast that a row could make fail.
// SQLite: where letters.json is 1, its functions with a path, which is $1. They find the first of the members that have one name, and none that is
// written with needless escapes; where that matters (2), and when no path can say a name, json_each goes through the members of each level, and
// the last one counts.
#include "dlq/select_write.h"

static void hold_path(struct select_sql *q, struct select_place *at) {
    const struct select_field *f = at->field;
    at->first = q->count + 1;
    if (!q->postgres) {
        if (f->path.data) select_hold(q, SQL_T(f->path));
        return;
    }
    for (size_t i = 0; i < f->step_count; i++) select_hold(q, f->steps[i].name.data ? SQL_T(f->steps[i].name) : SQL_I(f->steps[i].index));
}

static void write_jsonb(struct select_sql *q, const struct select_place *at) {
    add(q, "(letters.body");
    for (size_t i = 0; i < at->field->step_count; i++) {
        add(q, " -> ");
        select_put(q, at->first + i);
        add(q, at->field->steps[i].name.data ? "::text" : "::int");
    }
    add(q, ")");
}

// `function` of SQLite, or `column` of its json_each.
static void write_sqlite(struct select_sql *q, const struct select_place *at, const char *function, const char *column) {
    if (at->by_each) {
        MUST(buf_printf(q->text, "m%zu.", at->field->step_count) == 0);
        add(q, column);
        return;
    }
    add(q, function);
    add(q, "(CAST(letters.payload AS TEXT), ");
    select_put(q, at->first);
    add(q, ")");
}

static void write_type(struct select_sql *q, const struct select_place *at) {
    if (!q->postgres) {
        write_sqlite(q, at, "json_type", "type");
        return;
    }
    add(q, "jsonb_typeof");
    write_jsonb(q, at);
}

// Of a member that is known to be a text. In SQLite of a number too.
static void write_member(struct select_sql *q, const struct select_place *at) {
    if (!q->postgres) {
        write_sqlite(q, at, "json_extract", "atom");
        return;
    }
    add(q, "(");
    write_jsonb(q, at);
    add(q, " #>> '{}')");
}

static bool is_text(const struct select_value *v) {
    return v->type == SELECT_IS_TEXT;
}

static bool is_number(const struct select_value *v) {
    return v->type == SELECT_IS_NUMBER;
}

static bool is_json_word(const struct select_value *v) {
    return v->type > SELECT_IS_MOMENT;
}

static void put_type_word(struct select_sql *q, const struct select_value *v) {
    add(q, v->type == SELECT_IS_TRUE ? "'true'" : v->type == SELECT_IS_FALSE ? "'false'" : "'null'");
}

static void put_jsonb(struct select_sql *q, const struct select_value *v) {
    if (is_json_word(v)) {
        put_type_word(q, v);
        add(q, "::jsonb");
        return;
    }
    add(q, "to_jsonb(");
    select_add_text(q, v->text);
    add(q, is_number(v) ? "::numeric)" : "::text)");
}

static void add_type_is(struct select_sql *q, const struct select_place *at, bool number) {
    write_type(q, at);
    add(q, number ? either(q, " = 'number' AND ", " IN ('integer', 'real') AND ") : either(q, " = 'string' AND ", " = 'text' AND "));
}

// One of the values, each compared with members of its own type.
static void member_in(struct select_sql *q, const struct select_place *at, const struct select_node *t) {
    static const struct {
        select_wants_fn *wants;
        select_put_fn *put;
    } kinds[] = {{is_number, select_add_number}, {is_text, select_put_text}, {is_json_word, put_type_word}};
    if (q->postgres) {
        write_jsonb(q, at);
        select_add_equal(q, t, select_any, put_jsonb);
        return;
    }
    const char *between = "";
    for (size_t i = 0; i < array_len(kinds); i++) {
        if (!select_has(t, kinds[i].wants)) continue;
        add(q, between);
        between = " OR ";
        if (kinds[i].wants == is_json_word) {
            write_type(q, at);
        } else {
            add_type_is(q, at, kinds[i].wants == is_number);
            write_member(q, at);
        }
        select_add_equal(q, t, kinds[i].wants, kinds[i].put);
    }
}

static void member_order(struct select_sql *q, const struct select_place *at, const struct select_node *t) {
    bool number = is_number(&t->values[0]);
    add_type_is(q, at, number);
    if (!number) {
        select_compare_text(q, at, t);
        return;
    }
    if (q->postgres) write_jsonb(q, at);
    else write_member(q, at);
    add(q, select_order_sign(t->op));
    if (q->postgres) put_jsonb(q, &t->values[0]);
    else select_add_number(q, &t->values[0]);
}

static void ask(struct select_sql *q, const struct select_place *at, const struct select_node *t) {
    if (t->op == SELECT_IS_NULL || t->op == SELECT_EXISTS) write_type(q, at);
    else if (t->op == SELECT_IN) member_in(q, at, t);
    else member_order(q, at, t);
}

// The last member at the end of the path, m1 at its first step; only objects and arrays are JSON text again. A member that is the last of its
// name counts without those below too, so they are joined from the left.
static void from_last(struct select_sql *q, const struct select_field *f) {
    add(q, " FROM (SELECT 1)");
    for (size_t i = 1; i <= f->step_count; i++) {
        const struct select_step *step = &f->steps[i - 1];
        add(q, " LEFT JOIN json_each(");
        if (i == 1) add(q, "CAST(letters.payload AS TEXT)");
        else MUST(buf_printf(q->text, "CASE WHEN m%zu.type IN ('object', 'array') THEN m%zu.value END", i - 1, i - 1) == 0);
        MUST(buf_printf(q->text, ") AS m%zu ON m%zu.key = ", i, i) == 0);
        select_add_value(q, step->name.data ? SQL_T(step->name) : SQL_I(step->index));
    }
    for (size_t i = 1; i <= f->step_count; i++) MUST(buf_printf(q->text, "%sm%zu.id DESC", i == 1 ? " ORDER BY " : ", ", i) == 0);
    add(q, " LIMIT 1");
}

// Both ways ask the same; their values stand in the same parameters.
static void ask_sqlite(struct select_sql *q, struct select_place *at, const struct select_node *t) {
    size_t before = q->count;
    add(q, "CASE letters.json");
    if (t->field.path.data) {
        add(q, " WHEN 1 THEN ");
        ask(q, at, t);
        q->count = before;
    } else {
        add(q, " WHEN 0 THEN NULL");
    }
    at->by_each = true;
    add(q, t->field.path.data ? " WHEN 2 THEN (SELECT " : " ELSE (SELECT ");
    ask(q, at, t);
    from_last(q, &t->field);
    add(q, ") END");
}

void select_compare_member(struct select_sql *q, const struct select_node *t) {
    struct select_place at = {write_member, .field = &t->field};
    hold_path(q, &at);
    if (t->op == SELECT_IS_NULL) add(q, "coalesce(");
    if (q->postgres) ask(q, &at, t);
    else ask_sqlite(q, &at, t);
    if (t->op == SELECT_IS_NULL) add(q, ", 'null') = 'null'");
    if (t->op == SELECT_EXISTS) add(q, " IS NOT NULL");
}

// --- headers --------------------------------------------------------------------------------------------------------------

static void write_header(struct select_sql *q, const struct select_place *at) {
    if (q->postgres) add(q, "(letters.headers ->> ");
    else add(q, at->field->path.data ? "json_extract(letters.headers, " : "(SELECT m.atom FROM json_each(letters.headers) AS m WHERE m.key = ");
    select_put(q, at->first);
    add(q, q->postgres ? "::text)" : at->field->path.data ? ")" : " LIMIT 1)");
}

void select_compare_header(struct select_sql *q, const struct select_node *t) {
    struct select_place at = {write_header, .field = &t->field};
    at.first = select_hold(q, SQL_T(!q->postgres && t->field.path.data ? t->field.path : t->field.steps[0].name));
    if (t->op != SELECT_IS_NULL && t->op != SELECT_EXISTS) {
        select_compare_text(q, &at, t);
        return;
    }
    write_header(q, &at);
    add(q, t->op == SELECT_IS_NULL ? " IS NULL" : " IS NOT NULL");
}
