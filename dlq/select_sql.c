// SPDX-License-Identifier: Apache-2.0
// The tree to SQL. All text is a literal of this file or of select_impl.h's table; what a user gave goes in as a parameter.
//
// No statement fails for what a row holds: PostgreSQL's jsonb is compared as jsonb, or as text behind a look at its type, never cast; payloads
//   are bytes unless `json` says that they are JSON, and so UTF-8.
// Case: A-Z as a-z, other letters as they are, which is what lower() of the collation "C" and SQLite's LIKE do. SQLite's LIKE is the fastest
//   there, but ends at a NUL; only a payload that is not JSON can hold one.
#include "dlq/select_impl.h"

static void add(struct select_sql *q, const char *text) {
    MUST(buf_append(q->text, str_of(text)) == 0);
}

void select_sql_add(struct select_sql *q, const char *text) {
    add(q, text);
}

static const char *either(const struct select_sql *q, const char *postgres, const char *sqlite) {
    return q->postgres ? postgres : sqlite;
}

// A parameter whose place in the text comes later, with put(). Its number. Those over the cap are counted only.
static size_t hold(struct select_sql *q, struct sql_value v) {
    if (q->count < SELECT_VALUES_MAX) q->values[q->count] = v;
    return ++q->count;
}

static void put(struct select_sql *q, size_t number) {
    MUST(buf_printf(q->text, "$%zu", number) == 0);
}

static void add_value(struct select_sql *q, struct sql_value v) {
    put(q, hold(q, v));
}

void select_sql_value(struct select_sql *q, struct sql_value v) {
    add_value(q, v);
    MUST(q->count <= SELECT_VALUES_MAX);
}

static void add_text(struct select_sql *q, struct str s) {
    add_value(q, SQL_T(s));
}

static void add_integer(struct select_sql *q, int64_t n) {
    add_value(q, SQL_I(n));
    add(q, either(q, "::bigint", ""));
}

static void add_number(struct select_sql *q, const struct select_value *v) {
    if (v->whole) {
        add_integer(q, v->integer);
        return;
    }
    add(q, either(q, "", "CAST("));
    add_text(q, v->text);
    add(q, either(q, "::numeric", " AS REAL)"));
}

// --- lists ------------------------------------------------------------------------------------------------------------

typedef void put_fn(struct select_sql *q, const struct select_value *v);
typedef bool wants_fn(const struct select_value *v);

// " = v" or " IN (v, v)", of the values that are wanted. `= 'dead'` is what the partial indexes are recognized by.
static void add_equal(struct select_sql *q, const struct select_node *t, wants_fn *wants, put_fn *put_value) {
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

static bool any(const struct select_value *v) {
    (void)v;
    return true;
}

static bool has(const struct select_node *t, wants_fn *wants) {
    for (size_t i = 0; i < t->value_count; i++)
        if (wants(&t->values[i])) return true;
    return false;
}

static void put_word(struct select_sql *q, const struct select_value *v) {
    add(q, "'");
    add(q, v->word);
    add(q, "'");
}

static void put_text(struct select_sql *q, const struct select_value *v) {
    add_text(q, v->text);
}

static void put_bytes(struct select_sql *q, const struct select_value *v) {
    add_value(q, SQL_B(v->text));
}

static void put_id(struct select_sql *q, const struct select_value *v) {
    add_value(q, SQL_B(v->low));
}

static void put_integer(struct select_sql *q, const struct select_value *v) {
    add_integer(q, v->integer);
}

static const char *order_sign(enum select_op op) {
    switch (op) {
    case SELECT_LESS: return " < ";
    case SELECT_LESS_EQUAL: return " <= ";
    case SELECT_MORE: return " > ";
    default: return " >= ";
    }
}

// --- texts --------------------------------------------------------------------------------------------------------------

// Where a text is, and how to write it into the statement.
struct place {
    void (*write)(struct select_sql *q, const struct place *at);
    const struct select_field *field;
    const char *column;
    size_t first; // the number of the first parameter of a path
};

static void write_column(struct select_sql *q, const struct place *at) {
    add(q, at->column);
}

static void find_text(struct select_sql *q, const struct place *at, const struct select_value *v, size_t number) {
    const char *fold = v->has_letters ? "lower(" : "(";
    add(q, either(q, "strpos(", ""));
    if (q->postgres) add(q, fold);
    at->write(q, at);
    add(q, either(q, " COLLATE \"C\"), ", " LIKE "));
    put(q, number);
    add(q, either(q, ") > 0", " ESCAPE '\\'"));
}

static size_t hold_pattern(struct select_sql *q, const struct select_value *v) {
    return hold(q, SQL_T(q->postgres ? v->text : v->like));
}

static size_t characters(struct str s) {
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) n += (s.data[i] & 0xc0) != 0x80;
    return n;
}

static void starts_text(struct select_sql *q, const struct place *at, struct str text) {
    add(q, either(q, "starts_with(", "substr("));
    at->write(q, at);
    add(q, ", ");
    if (!q->postgres) {
        add(q, "1, ");
        add_integer(q, (int64_t)characters(text));
        add(q, ") = ");
    }
    add_text(q, text);
    add(q, either(q, ")", ""));
}

static void contains_text(struct select_sql *q, const struct place *at, struct str text) {
    add(q, either(q, "strpos(", "instr("));
    at->write(q, at);
    add(q, ", ");
    add_text(q, text);
    add(q, ") > 0");
}

static void compare_text(struct select_sql *q, const struct place *at, const struct select_node *t) {
    const struct select_value *v = &t->values[0];
    switch (t->op) {
    case SELECT_FIND: find_text(q, at, v, hold_pattern(q, v)); return;
    case SELECT_STARTS: starts_text(q, at, v->text); return;
    case SELECT_CONTAINS: contains_text(q, at, v->text); return;
    case SELECT_IN:
        at->write(q, at);
        add_equal(q, t, any, put_text);
        return;
    default:
        at->write(q, at);
        add(q, either(q, " COLLATE \"C\"", ""));
        add(q, order_sign(t->op));
        add_text(q, v->text);
    }
}

// --- the payload as bytes -----------------------------------------------------------------------------------------------

// It is not JSON, so it may be anything. number: the parameter with its text, when there is one already.
static void find_bytes(struct select_sql *q, const struct select_value *v, size_t number) {
    const struct place sqlite = {write_column, .column = "CAST(letters.payload AS TEXT)"};
    const struct place postgres = {write_column, .column = "convert_from(letters.payload, 'UTF8')"};
    if (q->postgres && !v->has_letters) { // bytes then, and that is faster
        add(q, "position(");
        put_bytes(q, v);
        add(q, "::bytea IN letters.payload) > 0");
        return;
    }
    add(q, "CASE WHEN letters.json = 1 THEN ");
    find_text(q, q->postgres ? &postgres : &sqlite, v, number ? number : hold_pattern(q, v));
    add(q, either(q, " ELSE strpos(lower(encode(letters.payload, 'escape') COLLATE \"C\"), ", " ELSE instr(lower(letters.payload), "));
    add_text(q, q->postgres ? v->octal : v->text);
    add(q, ") > 0 END");
}

static void starts_bytes(struct select_sql *q, struct str bytes) {
    add(q, either(q, "substring(letters.payload FROM 1 FOR ", "substr(letters.payload, 1, "));
    add_value(q, SQL_I(bytes.len));
    add(q, either(q, "::int) = ", ") = "));
    add_value(q, SQL_B(bytes));
}

static void contains_bytes(struct select_sql *q, struct str bytes) {
    add(q, either(q, "position(", "instr(letters.payload, "));
    add_value(q, SQL_B(bytes));
    add(q, either(q, "::bytea IN letters.payload) > 0", ") > 0"));
}

static void compare_payload(struct select_sql *q, const struct select_node *t) {
    const struct select_value *v = &t->values[0];
    switch (t->op) {
    case SELECT_FIND: find_bytes(q, v, 0); return;
    case SELECT_STARTS: starts_bytes(q, v->text); return;
    case SELECT_CONTAINS: contains_bytes(q, v->text); return;
    case SELECT_IN:
        add(q, "letters.payload");
        add_equal(q, t, any, put_bytes);
        return;
    default:
        add(q, "letters.payload");
        add(q, order_sign(t->op));
        put_bytes(q, v);
    }
}

static void search(struct select_sql *q, const struct select_node *t) {
    static const char *const columns[] = {"letters.error_message", "letters.error_type", "letters.ordering_key", "letters.source_name"};
    const struct select_value *v = &t->values[0];
    size_t number = hold_pattern(q, v);
    for (size_t i = 0; i < array_len(columns); i++) {
        find_text(q, &(struct place){write_column, .column = columns[i]}, v, number);
        add(q, " OR ");
    }
    find_bytes(q, v, number);
}

// --- members of the payload ----------------------------------------------------------------------------------------------

// PostgreSQL: body -> $1::text -> $2::int. SQLite: its functions with a path, which is $1; when no path can say a name, json_each goes through
// the members of each level, m1, m2, …
static bool by_each(const struct select_sql *q, const struct select_field *f) {
    return !q->postgres && !f->path.data;
}

static void hold_path(struct select_sql *q, struct place *at) {
    const struct select_field *f = at->field;
    at->first = q->count + 1;
    if (by_each(q, f)) return;
    if (!q->postgres) {
        hold(q, SQL_T(f->path));
        return;
    }
    for (size_t i = 0; i < f->step_count; i++) hold(q, f->steps[i].name.data ? SQL_T(f->steps[i].name) : SQL_I(f->steps[i].index));
}

static void write_jsonb(struct select_sql *q, const struct place *at) {
    add(q, "(letters.body");
    for (size_t i = 0; i < at->field->step_count; i++) {
        add(q, " -> ");
        put(q, at->first + i);
        add(q, at->field->steps[i].name.data ? "::text" : "::int");
    }
    add(q, ")");
}

// `function` of SQLite, or `column` of its json_each.
static void write_sqlite(struct select_sql *q, const struct place *at, const char *function, const char *column) {
    if (by_each(q, at->field)) {
        MUST(buf_printf(q->text, "m%zu.", at->field->step_count) == 0);
        add(q, column);
        return;
    }
    add(q, function);
    add(q, "(CAST(letters.payload AS TEXT), ");
    put(q, at->first);
    add(q, ")");
}

static void write_type(struct select_sql *q, const struct place *at) {
    if (!q->postgres) {
        write_sqlite(q, at, "json_type", "type");
        return;
    }
    add(q, "jsonb_typeof");
    write_jsonb(q, at);
}

// Of a member that is known to be a text. In SQLite of a number too.
static void write_member(struct select_sql *q, const struct place *at) {
    if (!q->postgres) {
        write_sqlite(q, at, "json_extract", "atom");
        return;
    }
    add(q, "(");
    write_jsonb(q, at);
    add(q, " #>> '{}')");
}

// What stands around a question to a member, so that it is asked of JSON only.
static void open_member(struct select_sql *q, const struct place *at) {
    if (!q->postgres) add(q, by_each(q, at->field) ? "(SELECT " : "CASE WHEN letters.json = 1 THEN ");
}

static void close_member(struct select_sql *q, const struct place *at) {
    const struct select_field *f = at->field;
    if (!by_each(q, f)) {
        add(q, either(q, "", " END"));
        return;
    }
    add(q, " FROM json_each(CASE WHEN letters.json = 1 THEN CAST(letters.payload AS TEXT) END) AS m1");
    for (size_t i = 1; i < f->step_count; i++) // only objects and arrays are JSON text again
        MUST(buf_printf(q->text, ", json_each(CASE WHEN m%zu.type IN ('object', 'array') THEN m%zu.value END) AS m%zu", i, i, i + 1) == 0);
    for (size_t i = 0; i < f->step_count; i++) {
        MUST(buf_printf(q->text, "%sm%zu.key = ", i ? " AND " : " WHERE ", i + 1) == 0);
        add_value(q, f->steps[i].name.data ? SQL_T(f->steps[i].name) : SQL_I(f->steps[i].index));
    }
    add(q, " LIMIT 1)");
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

static void put_number(struct select_sql *q, const struct select_value *v) {
    add_number(q, v);
}

static void put_jsonb(struct select_sql *q, const struct select_value *v) {
    if (is_json_word(v)) {
        put_type_word(q, v);
        add(q, "::jsonb");
        return;
    }
    add(q, "to_jsonb(");
    add_text(q, v->text);
    add(q, is_number(v) ? "::numeric)" : "::text)");
}

static void add_type_is(struct select_sql *q, const struct place *at, bool number) {
    write_type(q, at);
    add(q, number ? either(q, " = 'number' AND ", " IN ('integer', 'real') AND ") : either(q, " = 'string' AND ", " = 'text' AND "));
}

// One of the values, each compared with members of its own type.
static void member_in(struct select_sql *q, const struct place *at, const struct select_node *t) {
    static const struct {
        wants_fn *wants;
        put_fn *put;
    } kinds[] = {{is_number, put_number}, {is_text, put_text}, {is_json_word, put_type_word}};
    if (q->postgres) {
        write_jsonb(q, at);
        add_equal(q, t, any, put_jsonb);
        return;
    }
    const char *between = "";
    for (size_t i = 0; i < array_len(kinds); i++) {
        if (!has(t, kinds[i].wants)) continue;
        add(q, between);
        between = " OR ";
        if (kinds[i].wants == is_json_word) {
            write_type(q, at);
        } else {
            add_type_is(q, at, kinds[i].wants == is_number);
            write_member(q, at);
        }
        add_equal(q, t, kinds[i].wants, kinds[i].put);
    }
}

static void member_order(struct select_sql *q, const struct place *at, const struct select_node *t) {
    bool number = is_number(&t->values[0]);
    add_type_is(q, at, number);
    if (!number) {
        compare_text(q, at, t);
        return;
    }
    if (q->postgres) write_jsonb(q, at);
    else write_member(q, at);
    add(q, order_sign(t->op));
    if (q->postgres) put_jsonb(q, &t->values[0]);
    else put_number(q, &t->values[0]);
}

static void compare_member(struct select_sql *q, const struct select_node *t) {
    struct place at = {write_member, .field = &t->field};
    hold_path(q, &at);
    if (t->op == SELECT_IS_NULL) add(q, "coalesce(");
    open_member(q, &at);
    if (t->op == SELECT_IS_NULL || t->op == SELECT_EXISTS) write_type(q, &at);
    else if (t->op == SELECT_IN) member_in(q, &at, t);
    else member_order(q, &at, t);
    close_member(q, &at);
    if (t->op == SELECT_IS_NULL) add(q, ", 'null') = 'null'");
    if (t->op == SELECT_EXISTS) add(q, " IS NOT NULL");
}

// --- the other classes -----------------------------------------------------------------------------------------------------

static void write_header(struct select_sql *q, const struct place *at) {
    if (q->postgres) add(q, "(letters.headers ->> ");
    else add(q, at->field->path.data ? "json_extract(letters.headers, " : "(SELECT m.atom FROM json_each(letters.headers) AS m WHERE m.key = ");
    put(q, at->first);
    add(q, q->postgres ? "::text)" : at->field->path.data ? ")" : " LIMIT 1)");
}

static void compare_header(struct select_sql *q, const struct select_node *t) {
    struct place at = {write_header, .field = &t->field};
    at.first = hold(q, SQL_T(!q->postgres && t->field.path.data ? t->field.path : t->field.steps[0].name));
    if (t->op != SELECT_IS_NULL && t->op != SELECT_EXISTS) {
        compare_text(q, &at, t);
        return;
    }
    write_header(q, &at);
    add(q, t->op == SELECT_IS_NULL ? " IS NULL" : " IS NOT NULL");
}

static void compare_column(struct select_sql *q, const struct select_node *t) {
    compare_text(q, &(struct place){write_column, .column = t->field.column->sql}, t);
}

static void compare_word(struct select_sql *q, const struct select_node *t) {
    add(q, t->field.column->sql);
    add_equal(q, t, any, put_word);
}

static void compare_number(struct select_sql *q, const struct select_node *t) {
    add(q, t->field.column->sql);
    if (t->op == SELECT_IN) {
        add_equal(q, t, any, put_number);
        return;
    }
    add(q, order_sign(t->op));
    put_number(q, &t->values[0]);
}

static void compare_edge(struct select_sql *q, const struct select_node *t, const char *sign, int64_t ms) {
    add(q, t->field.column->sql);
    add(q, sign);
    add_integer(q, ms);
}

// A moment is from its first millisecond to before its end.
static void compare_time(struct select_sql *q, const struct select_node *t) {
    const struct select_value *v = &t->values[0];
    switch (t->op) {
    case SELECT_LESS: compare_edge(q, t, " < ", v->integer); return;
    case SELECT_LESS_EQUAL: compare_edge(q, t, " < ", v->end); return;
    case SELECT_MORE: compare_edge(q, t, " >= ", v->end); return;
    case SELECT_MORE_EQUAL: compare_edge(q, t, " >= ", v->integer); return;
    default: break;
    }
    for (size_t i = 0; i < t->value_count; i++) {
        add(q, i ? " OR (" : "(");
        compare_edge(q, t, " >= ", v[i].integer);
        add(q, " AND ");
        compare_edge(q, t, " < ", v[i].end);
        add(q, ")");
    }
}

static void compare_id(struct select_sql *q, const struct select_node *t) {
    add(q, t->field.column->sql);
    if (t->op == SELECT_IN) {
        add_equal(q, t, any, put_id);
        return;
    }
    add(q, t->op == SELECT_STARTS ? " BETWEEN " : order_sign(t->op));
    put_id(q, &t->values[0]);
    if (t->op != SELECT_STARTS) return;
    add(q, " AND ");
    add_value(q, SQL_B(t->values[0].high));
}

static bool is_fingerprint(const struct select_value *v) {
    return v->whole;
}

static bool is_group_name(const struct select_value *v) {
    return !v->whole;
}

static void compare_group(struct select_sql *q, const struct select_node *t) {
    bool numbers = has(t, is_fingerprint), names = has(t, is_group_name);
    if (numbers) {
        add(q, "letters.fingerprint");
        add_equal(q, t, is_fingerprint, put_integer);
    }
    if (numbers && names) add(q, " OR ");
    if (names) {
        add(q, "letters.fingerprint IN (SELECT g.fingerprint FROM letter_groups g WHERE g.name <> '' AND g.name");
        add_equal(q, t, is_group_name, put_text);
        add(q, ")");
    }
}

static void add_source(struct select_sql *q, const struct select_value *v) {
    add(q, "(letters.source_kind = ");
    add_text(q, v->kind);
    if (v->name.len || v->at.len) add(q, " AND (");
    if (v->name.len) {
        add(q, "letters.source_name = ");
        add_text(q, v->name);
    }
    if (v->name.len && v->at.len) add(q, " OR ");
    if (v->at.len) starts_text(q, &(struct place){write_column, .column = "letters.source_at"}, v->at);
    if (v->name.len || v->at.len) add(q, ")");
    add(q, ")");
}

static void compare_source(struct select_sql *q, const struct select_node *t) {
    if (t->op != SELECT_IN) {
        compare_text(q, &(struct place){write_column, .column = "(letters.source_kind || ':' || letters.source_name)"}, t);
        return;
    }
    for (size_t i = 0; i < t->value_count; i++) {
        if (i) add(q, " OR ");
        add_source(q, &t->values[i]);
    }
}

// --- the tree -----------------------------------------------------------------------------------------------------------------

typedef void compare_fn(struct select_sql *q, const struct select_node *t);
static compare_fn *const classes[] = {
    [SELECT_TEXT] = compare_column,   [SELECT_WORD] = compare_word,     [SELECT_NUMBER] = compare_number, [SELECT_TIME] = compare_time,
    [SELECT_ID] = compare_id,         [SELECT_GROUP] = compare_group,   [SELECT_SOURCE] = compare_source, [SELECT_BYTES] = compare_payload,
    [SELECT_HEADER] = compare_header, [SELECT_MEMBER] = compare_member,
};

static void add_term(struct select_sql *q, const struct select_node *t) {
    bool asks = t->op == SELECT_IS_NULL || t->op == SELECT_EXISTS;
    bool column = t->field.class == SELECT_TIME || t->field.class == SELECT_ID; // that may be null
    add(q, t->negated ? "NOT (" : "(");
    if (t->op == SELECT_SEARCH) {
        search(q, t);
    } else if (asks && column) {
        add(q, t->field.column->sql);
        add(q, t->op == SELECT_IS_NULL ? " IS NULL" : " IS NOT NULL");
    } else {
        classes[t->field.class](q, t);
    }
    add(q, ")");
}

static void add_node(struct select_sql *q, const struct select_node *n) { // as deep as brackets may be
    if (n->type == SELECT_TERM) {
        add_term(q, n);
        return;
    }
    add(q, n->type == SELECT_NONE_OF ? "NOT (" : "(");
    for (const struct select_node *child = n->first; child; child = child->next) {
        if (child != n->first) add(q, n->type == SELECT_ALL_OF ? " AND " : " OR ");
        add_node(q, child);
    }
    add(q, ")");
}

static void add_period(struct select_sql *q, const struct selection *s, const char *sign, int64_t ms) {
    add(q, s->is_dead ? "letters.died_ms" : "CASE WHEN letters.state = 'dead' THEN letters.died_ms ELSE letters.changed_ms END");
    add(q, sign);
    add_integer(q, ms);
}

static void add_ids(struct select_sql *q, const struct selection *s) {
    add(q, "letters.id IN (");
    for (size_t i = 0; i < s->id_count; i++) {
        if (i) add(q, ", ");
        add_value(q, SQL_B(((struct str){(const char *)s->ids[i].bytes, sizeof s->ids[i].bytes})));
    }
    add(q, ")");
}

static void begin_part(struct select_sql *q, size_t *parts) {
    add(q, (*parts)++ ? " AND " : "(");
}

void select_compile(const struct selection *s, struct select_sql *q) {
    size_t parts = 0;
    for (const struct select_node *word = s->words; word; word = word->next) {
        begin_part(q, &parts);
        add_term(q, word);
    }
    if (s->since_ms) {
        begin_part(q, &parts);
        add_period(q, s, " >= ", s->since_ms);
    }
    if (s->until_ms) {
        begin_part(q, &parts);
        add_period(q, s, " < ", s->until_ms);
    }
    if (s->id_count) {
        begin_part(q, &parts);
        add_ids(q, s);
    }
    if (s->where) {
        begin_part(q, &parts);
        add_node(q, s->where);
    }
    add(q, parts ? ")" : "true");
}

void selection_sql(const struct selection *s, struct select_sql *q) {
    select_compile(s, q);
    MUST(q->count <= SELECT_VALUES_MAX);
}
