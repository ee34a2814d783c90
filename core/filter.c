// SPDX-License-Identifier: Apache-2.0
// Compiled patterns on records. Nothing is allocated but the body's JSON, and that only when a pattern gets as far as to ask
// for it; every test takes time in proportion to the value that it looks at.
//
// A value that is not there is different from null: `exists` tells them apart. A list is its members, and an object is no
// value (only its members are), as in EventBridge.
#include "core/filter_impl.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <strings.h>

#include "core/shape_parts.h"

enum kind { ABSENT, NOTHING, WHETHER, NUMBER, TEXT };

struct value {
    enum kind kind;
    bool yes;
    bool unset;     // NOTHING: for `exists` it is not there (a record without a key, a tombstone)
    bool is_record; // TEXT: of the record itself, where a number is text too
    struct str text;
    struct filter_number number;
};

struct record {
    const struct ev *ev;
    struct shape_at at;
    bool tried; // to parse the body
    json_t *body;
};

// ---- tests -----------------------------------------------------------------------------------------------------------------

// Less, equal, greater: -1, 0, 1; 2 when one is no number.
static int compare(const struct filter_number *a, const struct filter_number *b) {
    if (a->is_integer && b->is_integer) return a->integer < b->integer ? -1 : a->integer > b->integer;
    return a->real < b->real ? -1 : a->real > b->real ? 1 : a->real <= b->real ? 0 : 2;
}

// The number that a text of the record is, as in "retries: 3" of a header.
static bool number_in(struct str text, struct filter_number *ret) {
    char z[64], *end;
    if (text.len == 0 || text.len >= sizeof z) return false;
    for (size_t i = 0; i < text.len; i++)
        if (!text.data[i] || !strchr("+-.0123456789eE", text.data[i])) return false;
    memcpy(z, text.data, text.len);
    z[text.len] = '\0';
    *ret = (struct filter_number){.real = strtod(z, &end)};
    ret->is_integer = shape_integer(text, &ret->integer);
    return *end == '\0';
}

static bool number_of(const struct value *v, struct filter_number *ret) {
    if (v->kind == TEXT && v->is_record) return number_in(v->text, ret);
    *ret = v->number;
    return v->kind == NUMBER;
}

static bool same_bytes(const char *a, const char *b, size_t len, bool fold) {
    if (len == 0) return true;
    if (!fold) return memcmp(a, b, len) == 0;
    for (size_t i = 0; i < len; i++) { // strncasecmp would stop at a NUL, and follow the locale
        char x = a[i], y = b[i];
        if (x >= 'A' && x <= 'Z') x = (char)(x + 32);
        if (y >= 'A' && y <= 'Z') y = (char)(y + 32);
        if (x != y) return false;
    }
    return true;
}

static bool starts(struct str s, struct str with, bool fold) {
    return s.len >= with.len && same_bytes(s.data, with.data, with.len, fold);
}

static bool ends(struct str s, struct str with, bool fold) {
    return s.len >= with.len && (with.len == 0 || same_bytes(s.data + s.len - with.len, with.data, with.len, fold));
}

// Each literal is looked for once, behind the one before: the leftmost place is never worse than a later one.
static bool matches_wildcard(const struct filter_test *t, struct str s) {
    struct str first = t->parts[0], last = t->parts[t->count - 1];
    if (t->count == 1) return str_eq(s, first);
    if (s.len < first.len + last.len || !starts(s, first, false) || !ends(s, last, false)) return false;
    struct str rest = {s.data + first.len, s.len - first.len - last.len};
    for (size_t i = 1; i + 1 < t->count; i++) {
        const char *at = memmem(rest.data, rest.len, t->parts[i].data, t->parts[i].len);
        if (!at) return false;
        size_t used = (size_t)(at - rest.data) + t->parts[i].len;
        rest = (struct str){rest.data + used, rest.len - used};
    }
    return true;
}

static bool matches_cidr(const struct filter_test *t, struct str s) {
    char z[INET6_ADDRSTRLEN];
    unsigned char address[16];
    if (s.len == 0 || s.len >= sizeof z || memchr(s.data, '\0', s.len)) return false;
    memcpy(z, s.data, s.len);
    z[s.len] = '\0';
    if (inet_pton(t->address_bytes == 4 ? AF_INET : AF_INET6, z, address) != 1) return false;
    size_t whole = t->bits / 8;
    if (memcmp(address, t->address, whole) != 0) return false;
    unsigned char mask = (unsigned char)(0xff00u >> t->bits % 8);
    return t->bits % 8 == 0 || ((address[whole] ^ t->address[whole]) & mask) == 0;
}

static bool matches_numeric(const struct filter_test *t, const struct value *v) {
    struct filter_number n;
    if (!number_of(v, &n)) return false;
    for (size_t i = 0; i < t->count; i++) {
        int c = compare(&n, &t->numbers[i]);
        switch (t->compares[i]) {
        case FILTER_LESS:
            if (c != -1) return false;
            break;
        case FILTER_LESS_EQUAL:
            if (c != -1 && c != 0) return false;
            break;
        case FILTER_EQUAL:
            if (c != 0) return false;
            break;
        case FILTER_MORE_EQUAL:
            if (c != 1 && c != 0) return false;
            break;
        case FILTER_MORE:
            if (c != 1) return false;
            break;
        }
    }
    return true;
}

static bool matches_text(const struct filter_test *t, struct str s) {
    struct str wanted = filter_span(&t->text);
    switch (t->op) {
    case FILTER_TEXT: return s.len == wanted.len && same_bytes(s.data, wanted.data, s.len, t->fold);
    case FILTER_PREFIX: return starts(s, wanted, t->fold);
    case FILTER_SUFFIX: return ends(s, wanted, t->fold);
    case FILTER_WILDCARD: return matches_wildcard(t, s);
    case FILTER_CIDR: return matches_cidr(t, s);
    default: return false;
    }
}

static bool test_value(const struct filter_test *t, const struct value *v) {
    struct filter_number n;
    switch (t->op) {
    case FILTER_EXISTS: return t->yes == (v->kind != ABSENT && !v->unset);
    case FILTER_NULL: return v->kind == NOTHING;
    case FILTER_TRUE: return v->kind == WHETHER && v->yes;
    case FILTER_FALSE: return v->kind == WHETHER && !v->yes;
    case FILTER_NUMBER: return number_of(v, &n) && compare(&n, &t->numbers[0]) == 0;
    case FILTER_NUMERIC: return matches_numeric(t, v);
    case FILTER_NOT:
        for (size_t i = 0; i < t->count; i++)
            if (test_value(&t->tests[i], v)) return false;
        return v->kind != ABSENT;
    default: return v->kind == TEXT && matches_text(t, v->text);
    }
}

static bool matches_one(const struct filter_member *m, const struct value *v) {
    for (size_t i = 0; i < m->test_count; i++)
        if (test_value(&m->tests[i], v)) return true;
    return false;
}

// ---- JSON ------------------------------------------------------------------------------------------------------------------

static struct value value_of(const json_t *j) {
    if (!j) return (struct value){.kind = ABSENT};
    switch (json_typeof(j)) {
    case JSON_STRING: return (struct value){.kind = TEXT, .text = {json_string_value(j), json_string_length(j)}};
    case JSON_TRUE:
    case JSON_FALSE: return (struct value){.kind = WHETHER, .yes = json_is_true(j)};
    case JSON_NULL: return (struct value){.kind = NOTHING};
    case JSON_INTEGER:
        return (struct value){.kind = NUMBER, .number = {true, json_integer_value(j), (double)json_integer_value(j)}};
    case JSON_REAL: return (struct value){.kind = NUMBER, .number = {.real = json_real_value(j)}};
    default: return (struct value){.kind = ABSENT}; // an object
    }
}

// A list matches when a member of it does, however deep in lists; an empty one is not there.
static bool matches_leaf(const struct filter_member *m, const json_t *j) {
    if (json_array_size(j) == 0) {
        struct value v = value_of(json_is_array(j) ? NULL : j);
        return matches_one(m, &v);
    }
    for (size_t i = 0; i < json_array_size(j); i++)
        if (matches_leaf(m, json_array_get(j, i))) return true;
    return false;
}

static bool matches_object(const struct filter_object *o, const json_t *j);

static bool matches_json(const struct filter_member *m, const json_t *j) {
    return m->is_leaf ? matches_leaf(m, j) : matches_object(&m->object, j);
}

static bool matches_members(const struct filter_object *o, const json_t *j) {
    for (size_t i = 0; i < o->member_count; i++)
        if (!matches_json(&o->members[i], json_object_get(j, o->members[i].name.data))) return false;
    for (size_t i = 0; i < o->choice_count; i++) {
        bool any = false;
        for (size_t k = 0; k < o->choices[i].count && !any; k++) any = matches_members(&o->choices[i].objects[k], j);
        if (!any) return false;
    }
    return true;
}

static bool matches_object(const struct filter_object *o, const json_t *j) {
    if (json_array_size(j) == 0) return matches_members(o, j);
    for (size_t i = 0; i < json_array_size(j); i++) // one member has all that is asked
        if (matches_object(o, json_array_get(j, i))) return true;
    return false;
}

// ---- records ---------------------------------------------------------------------------------------------------------------

// NULL when the body is not JSON. Numbers beyond 64 bits make every number of the body a double.
static const json_t *body_of(struct record *r) {
    if (r->tried) return r->body;
    r->tried = true;
    struct str s = r->ev->f.payload;
    if (r->at.tombstone) return r->body = json_null();
    if (s.len == 0 || s.len > EV_PAYLOAD_MAX) return NULL;
    size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL;
    r->body = json_loadb(s.data, s.len, flags, NULL);
    if (!r->body) r->body = json_loadb(s.data, s.len, flags | JSON_DECODE_INT_AS_REAL, NULL);
    return r->body;
}

// The whole body: its JSON when that is a value or a list of values, else its text.
static bool matches_whole_body(const struct filter_member *m, struct record *r) {
    struct str s = r->ev->f.payload;
    if (r->at.tombstone) return matches_one(m, &(struct value){.kind = NOTHING, .unset = true});
    size_t blanks = 0;
    while (blanks < s.len && strchr(" \t\r\n", s.data[blanks]) && s.data[blanks]) blanks++;
    bool parse = blanks < s.len && s.data[blanks] && strchr("\"[-0123456789tfn", s.data[blanks]); // never for an object
    const json_t *j = parse ? body_of(r) : NULL;
    return j ? matches_leaf(m, j) : matches_one(m, &(struct value){.kind = TEXT, .text = s});
}

static bool matches_body(const struct filter_member *m, struct record *r) {
    if (m->is_leaf) return matches_whole_body(m, r);
    const json_t *j = body_of(r);
    return j && matches_object(&m->object, j);
}

static bool matches_header(const struct filter_member *m, const struct ev *ev) {
    struct str name = filter_span(&m->name);
    bool any = false;
    for (size_t i = 0; i < ev->f.header_count; i++) {
        if (!str_eq(ev->f.headers[i].name, name)) continue;
        any = true;
        if (matches_one(m, &(struct value){.kind = TEXT, .is_record = true, .text = ev->f.headers[i].value})) return true;
    }
    return !any && matches_one(m, &(struct value){.kind = ABSENT});
}

static bool matches_headers(const struct filter_object *o, const struct ev *ev) {
    for (size_t i = 0; i < o->member_count; i++)
        if (!matches_header(&o->members[i], ev)) return false;
    for (size_t i = 0; i < o->choice_count; i++) {
        bool any = false;
        for (size_t k = 0; k < o->choices[i].count && !any; k++) any = matches_headers(&o->choices[i].objects[k], ev);
        if (!any) return false;
    }
    return true;
}

static bool matches_integer(const struct filter_member *m, struct str digits) {
    struct value v = {.kind = NUMBER, .number = {.is_integer = true}};
    if (!shape_integer(digits, &v.number.integer)) v.kind = ABSENT;
    v.number.real = (double)v.number.integer;
    return matches_one(m, &v);
}

// A name of source_at, which is escaped there.
static bool matches_name(const struct filter_member *m, struct str escaped) {
    if (!escaped.data) return matches_one(m, &(struct value){.kind = ABSENT});
    if (escaped.len == 0 || !memchr(escaped.data, '\\', escaped.len))
        return matches_one(m, &(struct value){.kind = TEXT, .is_record = true, .text = escaped});
    json_t *j = shape_decode(escaped);
    bool yes = matches_leaf(m, j);
    json_decref(j);
    return yes;
}

static bool matches_member(const struct filter_member *m, struct record *r) {
    struct str key = r->ev->f.ordering_key;
    switch (m->field) {
    case FILTER_KEY:
        return matches_one(m, key.len ? &(struct value){.kind = TEXT, .is_record = true, .text = key}
                                      : &(struct value){.kind = NOTHING, .unset = true});
    case FILTER_HEADERS: return matches_headers(&m->object, r->ev);
    case FILTER_TOPIC: return matches_name(m, r->at.topic);
    case FILTER_PARTITION: return matches_integer(m, r->at.partition);
    case FILTER_OFFSET: return matches_integer(m, r->at.offset);
    case FILTER_TIMESTAMP: return matches_integer(m, r->at.timestamp);
    case FILTER_QUEUE: return matches_name(m, r->at.queue);
    case FILTER_EXCHANGE: return matches_name(m, r->at.exchange);
    case FILTER_ROUTING_KEY: return matches_name(m, r->at.routing_key);
    case FILTER_BODY: return matches_body(m, r);
    }
    return false;
}

static bool matches_record(const struct filter_object *o, struct record *r) {
    for (size_t i = 0; i < o->member_count; i++)
        if (!matches_member(&o->members[i], r)) return false;
    for (size_t i = 0; i < o->choice_count; i++) {
        bool any = false;
        for (size_t k = 0; k < o->choices[i].count && !any; k++) any = matches_record(&o->choices[i].objects[k], r);
        if (!any) return false;
    }
    return true;
}

bool filter_matches(const struct filter *f, const struct ev *ev) {
    struct record r = {.ev = ev};
    shape_at_read(ev, &r.at);
    bool yes = matches_record(&f->record, &r);
    json_decref(r.body);
    return yes;
}

// ---- the end ---------------------------------------------------------------------------------------------------------------

static void tests_free(struct filter_test *tests, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free(tests[i].text.data);
        free(tests[i].parts);
        if (tests[i].tests) tests_free(tests[i].tests, tests[i].count);
    }
    free(tests);
}

void filter_object_done(struct filter_object *o) {
    for (size_t i = 0; i < o->member_count; i++) {
        free(o->members[i].name.data);
        tests_free(o->members[i].tests, o->members[i].test_count);
        filter_object_done(&o->members[i].object);
    }
    for (size_t i = 0; i < o->choice_count; i++) {
        for (size_t k = 0; k < o->choices[i].count; k++) filter_object_done(&o->choices[i].objects[k]);
        free(o->choices[i].objects);
    }
    free(o->members);
    free(o->choices);
}

void filter_free(struct filter *f) {
    if (!f) return;
    filter_object_done(&f->record);
    free(f);
}
