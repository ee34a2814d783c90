// SPDX-License-Identifier: Apache-2.0
// The tree to SQL. All text is a literal of this file, of dlq/select_write, dlq/select_member or the table in select_impl.h; what a user gave
// goes in as a parameter. Payloads are bytes unless `json` says that they are JSON, and so UTF-8.
#include "dlq/select_write.h"

static void put_word(struct select_sql *q, const struct select_value *v) {
    add(q, "'");
    add(q, v->word);
    add(q, "'");
}

static void put_bytes(struct select_sql *q, const struct select_value *v) {
    select_add_value(q, SQL_B(v->text));
}

static void put_id(struct select_sql *q, const struct select_value *v) {
    select_add_value(q, SQL_B(v->low));
}

static void put_integer(struct select_sql *q, const struct select_value *v) {
    select_add_integer(q, v->integer);
}

// --- the payload as bytes -----------------------------------------------------------------------------------------------

// It is not JSON, so it may be anything. number: the parameter with its text, when there is one already.
static void find_bytes(struct select_sql *q, const struct select_value *v, size_t number) {
    const struct select_place sqlite = {select_write_column, .column = "CAST(letters.payload AS TEXT)"};
    const struct select_place postgres = {select_write_column, .column = "convert_from(letters.payload, 'UTF8')"};
    if (q->postgres && !v->has_letters) { // bytes then, and that is faster
        add(q, "position(");
        put_bytes(q, v);
        add(q, "::bytea IN letters.payload) > 0");
        return;
    }
    add(q, "CASE WHEN letters.json > 0 THEN ");
    select_find_text(q, q->postgres ? &postgres : &sqlite, v, number ? number : select_hold_pattern(q, v));
    add(q, either(q, " ELSE strpos(lower(encode(letters.payload, 'escape') COLLATE \"C\"), ", " ELSE instr(lower(letters.payload), "));
    select_add_text(q, q->postgres ? v->octal : v->text);
    add(q, ") > 0 END");
}

static void starts_bytes(struct select_sql *q, struct str bytes) {
    add(q, either(q, "substring(letters.payload FROM 1 FOR ", "substr(letters.payload, 1, "));
    select_add_value(q, SQL_I(bytes.len));
    add(q, either(q, "::int) = ", ") = "));
    select_add_value(q, SQL_B(bytes));
}

static void contains_bytes(struct select_sql *q, struct str bytes) {
    add(q, either(q, "position(", "instr(letters.payload, "));
    select_add_value(q, SQL_B(bytes));
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
        select_add_equal(q, t, select_any, put_bytes);
        return;
    default:
        add(q, "letters.payload");
        add(q, select_order_sign(t->op));
        put_bytes(q, v);
    }
}

static void search(struct select_sql *q, const struct select_node *t) {
    static const char *const columns[] = {"letters.error_message", "letters.error_type", "letters.ordering_key", "letters.source_name"};
    const struct select_value *v = &t->values[0];
    size_t number = select_hold_pattern(q, v);
    for (size_t i = 0; i < array_len(columns); i++) {
        select_find_text(q, &(struct select_place){select_write_column, .column = columns[i]}, v, number);
        add(q, " OR ");
    }
    find_bytes(q, v, number);
}

// --- the other classes -----------------------------------------------------------------------------------------------------

static void compare_column(struct select_sql *q, const struct select_node *t) {
    select_compare_text(q, &(struct select_place){select_write_column, .column = t->field.column->sql}, t);
}

static void compare_word(struct select_sql *q, const struct select_node *t) {
    add(q, t->field.column->sql);
    select_add_equal(q, t, select_any, put_word);
}

static void compare_number(struct select_sql *q, const struct select_node *t) {
    add(q, t->field.column->sql);
    if (t->op == SELECT_IN) {
        select_add_equal(q, t, select_any, select_add_number);
        return;
    }
    add(q, select_order_sign(t->op));
    select_add_number(q, &t->values[0]);
}

static void compare_edge(struct select_sql *q, const struct select_node *t, const char *sign, int64_t ms) {
    add(q, t->field.column->sql);
    add(q, sign);
    select_add_integer(q, ms);
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
        select_add_equal(q, t, select_any, put_id);
        return;
    }
    add(q, t->op == SELECT_STARTS ? " BETWEEN " : select_order_sign(t->op));
    put_id(q, &t->values[0]);
    if (t->op != SELECT_STARTS) return;
    add(q, " AND ");
    select_add_value(q, SQL_B(t->values[0].high));
}

static bool is_fingerprint(const struct select_value *v) {
    return v->whole;
}

static bool is_group_name(const struct select_value *v) {
    return !v->whole;
}

static void compare_group(struct select_sql *q, const struct select_node *t) {
    bool numbers = select_has(t, is_fingerprint), names = select_has(t, is_group_name);
    if (numbers) {
        add(q, "letters.fingerprint");
        select_add_equal(q, t, is_fingerprint, put_integer);
    }
    if (numbers && names) add(q, " OR ");
    if (names) {
        add(q, "letters.fingerprint IN (SELECT g.fingerprint FROM letter_groups g WHERE g.name <> '' AND g.name");
        select_add_equal(q, t, is_group_name, select_put_text);
        add(q, ")");
    }
}

static void add_source(struct select_sql *q, const struct select_value *v) {
    add(q, "(letters.source_kind = ");
    select_add_text(q, v->kind);
    if (v->name.len || v->at.len) add(q, " AND (");
    if (v->name.len) {
        add(q, "letters.source_name = ");
        select_add_text(q, v->name);
    }
    if (v->name.len && v->at.len) add(q, " OR ");
    if (v->at.len) select_starts_text(q, &(struct select_place){select_write_column, .column = "letters.source_at"}, v->at);
    if (v->name.len || v->at.len) add(q, ")");
    add(q, ")");
}

static void compare_source(struct select_sql *q, const struct select_node *t) {
    if (t->op != SELECT_IN) {
        select_compare_text(q, &(struct select_place){select_write_column, .column = "(letters.source_kind || ':' || letters.source_name)"}, t);
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
    [SELECT_HEADER] = select_compare_header, [SELECT_MEMBER] = select_compare_member,
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
    select_add_integer(q, ms);
}

static void add_ids(struct select_sql *q, const struct selection *s) {
    add(q, "letters.id IN (");
    for (size_t i = 0; i < s->id_count; i++) {
        if (i) add(q, ", ");
        select_add_value(q, SQL_B(((struct str){(const char *)s->ids[i].bytes, sizeof s->ids[i].bytes})));
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

static bool is_key(const struct select_node *t) {
    if (t->op != SELECT_IN || t->negated) return false; // a search has no field
    if (t->field.class == SELECT_GROUP) return select_has(t, is_fingerprint);
    return t->field.class == SELECT_WORD || (t->field.class == SELECT_TEXT && strcmp(t->field.column->name, "function") == 0);
}

void selection_keys_sql(const struct selection *s, struct select_sql *q) {
    size_t parts = 0;
    for (const struct select_node *word = s->words; word; word = word->next) {
        if (!is_key(word)) continue;
        begin_part(q, &parts);
        add_term(q, word);
    }
    add(q, parts ? ")" : "true");
    MUST(q->count <= SELECT_VALUES_MAX);
}

bool selection_is_narrow(const struct selection *s) {
    for (const struct select_node *word = s->words; word; word = word->next)
        if (word->field.column && word->field.class == SELECT_GROUP) return true;
    return s->id_count > 0;
}
