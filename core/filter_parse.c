// SPDX-License-Identifier: Apache-2.0
// Patterns to their compiled form. The walk carries the path of where it is, so that an error can say it; what is not
// understood is refused, as a filter that silently matches nothing would lose records for good.
#include <arpa/inet.h>
#include <jansson.h>
#include <stdarg.h>

#include "core/filter_impl.h"

#define DEPTH_MAX 32
#define PATH_BYTES 160

struct walk {
    struct err *err;
    char path[PATH_BYTES]; // such as body.amount[0]; cut at its end when it is longer
    unsigned depth;
};

enum scope { RECORD, HEADERS, MEMBERS };

static int refuse(struct walk *w, const char *fmt, ...) printf_like(2, 3);
static int refuse(struct walk *w, const char *fmt, ...) {
    char text[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (w->path[0] == '\0') return err_set(w->err, ERR_INVALID, "filter: %s", text);
    return err_set(w->err, ERR_INVALID, "filter at %s: %s", w->path, text);
}

static size_t path_push(struct walk *w, const char *fmt, ...) printf_like(2, 3);
static size_t path_push(struct walk *w, const char *fmt, ...) {
    size_t len = strlen(w->path);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(w->path + len, sizeof w->path - len, fmt, ap);
    va_end(ap);
    return len;
}

static void path_pop(struct walk *w, size_t len) {
    w->path[len] = '\0';
}

static struct filter_text copy(json_t *string) {
    struct str s = {json_string_value(string), json_string_length(string)};
    return (struct filter_text){mem_strndup(s), s.len};
}

static struct filter_number number_of(json_t *j) {
    struct filter_number n = {.is_integer = json_is_integer(j), .real = json_number_value(j)};
    if (n.is_integer) n.integer = json_integer_value(j);
    return n;
}

static const char *kind_of(json_t *j) {
    static const char *const kinds[] = {"an object", "a list", "text", "a number", "a number", "true", "false", "null"};
    return j ? kinds[json_typeof(j)] : "nothing";
}

// ---- operators -------------------------------------------------------------------------------------------------------------

static int want_text(struct walk *w, const char *op, json_t *j) {
    return json_is_string(j) ? 0 : refuse(w, "\"%s\" wants text, not %s", op, kind_of(j));
}

// "text", or {"equals-ignore-case":"text"}
static int parse_affix(struct walk *w, const char *op, enum filter_op code, json_t *j, struct filter_test *ret) {
    json_t *inner = json_object_get(j, "equals-ignore-case");
    if (json_is_object(j) && (!inner || json_object_size(j) != 1))
        return refuse(w, "\"%s\" wants text or {\"equals-ignore-case\":text}", op);
    int rc = want_text(w, op, inner ? inner : j);
    if (rc) return rc;
    *ret = (struct filter_test){.op = code, .fold = inner != NULL, .text = copy(inner ? inner : j)};
    return 0;
}

static int parse_prefix(struct walk *w, json_t *j, struct filter_test *ret) {
    return parse_affix(w, "prefix", FILTER_PREFIX, j, ret);
}

static int parse_suffix(struct walk *w, json_t *j, struct filter_test *ret) {
    return parse_affix(w, "suffix", FILTER_SUFFIX, j, ret);
}

static int parse_ignore_case(struct walk *w, json_t *j, struct filter_test *ret) {
    int rc = want_text(w, "equals-ignore-case", j);
    if (rc) return rc;
    *ret = (struct filter_test){.op = FILTER_TEXT, .fold = true, .text = copy(j)};
    return 0;
}

// Literals between the stars; \* and \\ are a star and a backslash of the text.
static int parse_wildcard(struct walk *w, json_t *j, struct filter_test *ret) {
    int rc = want_text(w, "wildcard", j);
    if (rc) return rc;
    const char *s = json_string_value(j);
    size_t len = json_string_length(j), parts = 1;
    for (size_t i = 0; i < len; i++) {
        if (s[i] != '\\') parts += s[i] == '*';
        else if (++i == len || (s[i] != '*' && s[i] != '\\'))
            return refuse(w, "in \"wildcard\" a backslash stands before * or another backslash only");
    }
    *ret = (struct filter_test){.op = FILTER_WILDCARD, .count = 1, .parts = mem_array(parts, sizeof *ret->parts)};
    char *to = ret->text.data = mem_alloc(len + 1);
    ret->parts[0] = (struct str){to, 0};
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '*') {
            if (i + 1 < len && s[i + 1] == '*') return refuse(w, "in \"wildcard\" two stars stand together; one is enough");
            ret->parts[ret->count++] = (struct str){to, 0};
        } else {
            if (s[i] == '\\') i++;
            *to++ = s[i];
            ret->parts[ret->count - 1].len++;
        }
    }
    return 0;
}

static int parse_exists(struct walk *w, json_t *j, struct filter_test *ret) {
    if (!json_is_boolean(j)) return refuse(w, "\"exists\" wants true or false, not %s", kind_of(j));
    *ret = (struct filter_test){.op = FILTER_EXISTS, .yes = json_is_true(j)};
    return 0;
}

static int parse_cidr(struct walk *w, json_t *j, struct filter_test *ret) {
    int rc = want_text(w, "cidr", j);
    if (rc) return rc;
    const char *text = json_string_value(j), *slash = strchr(text, '/');
    struct filter_test t = {.op = FILTER_CIDR};
    char address[INET6_ADDRSTRLEN];
    size_t len = slash ? (size_t)(slash - text) : 0;
    if (slash && len < sizeof address) {
        memcpy(address, text, len);
        address[len] = '\0';
        t.address_bytes = inet_pton(AF_INET, address, t.address) == 1    ? 4
                          : inet_pton(AF_INET6, address, t.address) == 1 ? 16
                                                                         : 0;
    }
    size_t digits = slash ? strspn(slash + 1, "0123456789") : 0;
    if (t.address_bytes == 0 || digits == 0 || digits > 3 || slash[1 + digits] != '\0' || json_string_length(j) != strlen(text))
        return refuse(w, "\"cidr\" wants an address and a length such as \"10.0.0.0/8\" or \"2001:db8::/32\"");
    t.bits = (unsigned)strtoul(slash + 1, NULL, 10);
    if (t.bits > t.address_bytes * 8) return refuse(w, "\"cidr\": the length is at most %zu", t.address_bytes * 8);
    *ret = t;
    return 0;
}

static bool compare_of(json_t *j, enum filter_compare *ret) {
    static const char *const words[] = {"<", "<=", "=", ">=", ">"};
    for (size_t i = 0; i < array_len(words) && json_is_string(j); i++)
        if (strcmp(json_string_value(j), words[i]) == 0) {
            *ret = (enum filter_compare)i;
            return true;
        }
    return false;
}

// Two bounds are one below and one above, with numbers between them.
static int check_range(struct walk *w, const struct filter_test *t) {
    bool up = t->compares[0] > FILTER_EQUAL; // the first is the lower bound
    const struct filter_number *low = &t->numbers[up ? 0 : 1], *high = &t->numbers[up ? 1 : 0];
    enum filter_compare low_op = t->compares[up ? 0 : 1], high_op = t->compares[up ? 1 : 0];
    if (low_op <= FILTER_EQUAL || high_op >= FILTER_EQUAL)
        return refuse(w, "two comparisons of \"numeric\" are one of > or >= and one of < or <=");
    bool both = low->is_integer && high->is_integer;
    bool empty = both ? low->integer > high->integer : low->real > high->real;
    bool same = both ? low->integer == high->integer : low->real == high->real;
    if (empty || (same && (low_op == FILTER_MORE || high_op == FILTER_LESS)))
        return refuse(w, "no number lies between the bounds of \"numeric\"");
    return 0;
}

static int parse_numeric(struct walk *w, json_t *j, struct filter_test *ret) {
    size_t n = json_array_size(j);
    struct filter_test t = {.op = FILTER_NUMERIC, .count = n / 2};
    if (n != 2 && n != 4) return refuse(w, "\"numeric\" wants a list such as [\">\",0] or [\">\",0,\"<=\",5]");
    for (size_t i = 0; i < t.count; i++) {
        json_t *number = json_array_get(j, 2 * i + 1);
        if (!compare_of(json_array_get(j, 2 * i), &t.compares[i])) return refuse(w, "\"numeric\" compares by <, <=, =, >= and >");
        if (!json_is_number(number)) return refuse(w, "\"numeric\" compares with numbers, not with %s", kind_of(number));
        t.numbers[i] = number_of(number);
    }
    *ret = t;
    return t.count == 2 ? check_range(w, &t) : 0;
}

static int parse_literal(struct walk *w, json_t *j, struct filter_test *ret) {
    switch (json_typeof(j)) {
    case JSON_STRING: *ret = (struct filter_test){.op = FILTER_TEXT, .text = copy(j)}; return 0;
    case JSON_NULL: *ret = (struct filter_test){.op = FILTER_NULL}; return 0;
    case JSON_TRUE: *ret = (struct filter_test){.op = FILTER_TRUE}; return 0;
    case JSON_FALSE: *ret = (struct filter_test){.op = FILTER_FALSE}; return 0;
    case JSON_INTEGER:
    case JSON_REAL: *ret = (struct filter_test){.op = FILTER_NUMBER, .numbers = {number_of(j)}}; return 0;
    default: return refuse(w, "text, a number, true, false or null is wanted here, not %s", kind_of(j));
    }
}

typedef int parse_fn(struct walk *w, json_t *j, struct filter_test *ret);

// One test for j, or one for each member when j is a list.
static int parse_list(struct walk *w, json_t *j, parse_fn *parse, struct filter_test *ret) {
    size_t count = json_is_array(j) ? json_array_size(j) : 1;
    if (count == 0) return refuse(w, "the list of \"anything-but\" is empty");
    ret->tests = mem_array(count, sizeof *ret->tests);
    for (size_t i = 0; i < count; i++) {
        ret->count = i + 1; // what was half made is freed too
        int rc = parse(w, json_is_array(j) ? json_array_get(j, i) : j, &ret->tests[i]);
        if (rc) return rc;
    }
    return 0;
}

struct operator_name {
    const char *name;
    parse_fn *parse;
    bool negated; // "anything-but" takes it too
};
static const struct operator_name *operator_of(json_t *j, json_t **ret_value);

static int parse_anything_but(struct walk *w, json_t *j, struct filter_test *ret) {
    *ret = (struct filter_test){.op = FILTER_NOT};
    if (!json_is_object(j)) return parse_list(w, j, parse_literal, ret);
    json_t *value;
    const struct operator_name *o = operator_of(j, &value);
    if (!o || !o->negated)
        return refuse(w, "\"anything-but\" wants a value, a list of values, or one of {\"prefix\"}, {\"suffix\"}, {\"wildcard\"},"
                         " {\"equals-ignore-case\"}");
    return parse_list(w, value, o->parse, ret);
}

static const struct operator_name operators[] = {
    {"prefix", parse_prefix, true},
    {"suffix", parse_suffix, true},
    {"wildcard", parse_wildcard, true},
    {"equals-ignore-case", parse_ignore_case, true},
    {"anything-but", parse_anything_but, false},
    {"numeric", parse_numeric, false},
    {"exists", parse_exists, false},
    {"cidr", parse_cidr, false},
};

// The operator of an object with one member; NULL when it is none.
static const struct operator_name *operator_of(json_t *j, json_t **ret_value) {
    for (size_t i = 0; i < array_len(operators) && json_object_size(j) == 1; i++)
        if ((*ret_value = json_object_get(j, operators[i].name)) != NULL) return &operators[i];
    return NULL;
}

static int parse_alternative(struct walk *w, json_t *j, struct filter_test *ret) {
    if (json_is_array(j)) return refuse(w, "a list within a list of alternatives; write its members without it");
    if (!json_is_object(j)) return parse_literal(w, j, ret);
    json_t *value;
    const struct operator_name *o = operator_of(j, &value);
    if (o) return o->parse(w, value, ret);
    if (json_object_size(j) != 1) return refuse(w, "an operator is an object with one member, such as {\"prefix\":\"a\"}");
    return refuse(w, "\"%.60s\" is no operator; there are prefix, suffix, wildcard, equals-ignore-case, anything-but, numeric,"
                     " exists and cidr", json_object_iter_key(json_object_iter(j)));
}

// ---- objects ---------------------------------------------------------------------------------------------------------------

static int parse_object(struct walk *w, json_t *j, enum scope scope, struct filter_object *ret);

static int parse_leaf(struct walk *w, json_t *j, struct filter_member *ret) {
    ret->is_leaf = true;
    if (json_array_size(j) == 0) return refuse(w, "the list of alternatives is empty, so nothing can match");
    ret->tests = mem_array(json_array_size(j), sizeof *ret->tests);
    for (size_t i = 0; i < json_array_size(j); i++) {
        size_t len = path_push(w, "[%zu]", i);
        ret->test_count = i + 1;
        int rc = parse_alternative(w, json_array_get(j, i), &ret->tests[i]);
        if (rc) return rc;
        path_pop(w, len);
    }
    return 0;
}

static int field_of(struct walk *w, const char *name, enum filter_field *ret) {
    static const char *const words[] = {
#define X(name, word) [name] = (word),
        FILTER_FIELDS(X)
#undef X
    };
    for (size_t i = 0; i < array_len(words); i++)
        if (strcmp(name, words[i]) == 0) {
            *ret = (enum filter_field)i;
            return 0;
        }
#define X(name, word) " " word
    return refuse(w, "a record has no such member; it has" FILTER_FIELDS(X));
#undef X
}

static int parse_value(struct walk *w, json_t *j, enum scope scope, struct filter_member *m) {
    bool may_descend = scope == MEMBERS || (scope == RECORD && (m->field == FILTER_BODY || m->field == FILTER_HEADERS));
    bool may_list = scope != RECORD || m->field != FILTER_HEADERS;
    if (json_is_array(j) && may_list) return parse_leaf(w, j, m);
    if (json_is_object(j) && may_descend)
        return parse_object(w, j, scope == RECORD && m->field == FILTER_HEADERS ? HEADERS : MEMBERS, &m->object);
    if (json_is_object(j)) return refuse(w, "this has no members; alternatives stand in a list, such as [{\"prefix\":\"a\"}]");
    if (!may_list) return refuse(w, "headers are matched by name, such as {\"headers\":{\"type\":[\"new\"]}}");
    return refuse(w, "alternatives stand in a list, such as [\"a\",\"b\"]; here is %s", kind_of(j));
}

static int parse_choice(struct walk *w, json_t *j, enum scope scope, struct filter_choice *ret) {
    if (json_array_size(j) == 0) return refuse(w, "\"$or\" wants a list of patterns, such as [{\"key\":[\"a\"]},{\"topic\":[\"b\"]}]");
    ret->objects = mem_array(json_array_size(j), sizeof *ret->objects);
    for (size_t i = 0; i < json_array_size(j); i++) {
        size_t len = path_push(w, "[%zu]", i);
        ret->count = i + 1;
        json_t *one = json_array_get(j, i);
        int rc = json_is_object(one) ? parse_object(w, one, scope, &ret->objects[i])
                                     : refuse(w, "\"$or\" wants patterns in its list, not %s", kind_of(one));
        if (rc) return rc;
        path_pop(w, len);
    }
    return 0;
}

static int parse_member(struct walk *w, const char *name, json_t *j, enum scope scope, struct filter_object *o) {
    if (strcmp(name, "$or") == 0) return parse_choice(w, j, scope, &o->choices[o->choice_count++]);
    struct filter_member *m = &o->members[o->member_count++];
    m->name = (struct filter_text){mem_strdup(name), strlen(name)};
    int rc = scope == RECORD ? field_of(w, name, &m->field) : 0;
    return rc ? rc : parse_value(w, j, scope, m);
}

// The body comes last: the other members may save parsing it.
static void body_last(struct filter_object *o) {
    for (size_t i = 0; i + 1 < o->member_count; i++) {
        if (o->members[i].field != FILTER_BODY) continue;
        struct filter_member body = o->members[i];
        o->members[i] = o->members[o->member_count - 1];
        o->members[o->member_count - 1] = body;
        return;
    }
}

static int parse_object(struct walk *w, json_t *j, enum scope scope, struct filter_object *ret) {
    size_t size = json_object_size(j);
    if (size == 0) return refuse(w, "an empty pattern asks nothing; leave it out");
    if (++w->depth > DEPTH_MAX) return refuse(w, "patterns within patterns go %d deep at most", DEPTH_MAX);
    ret->members = mem_array(size, sizeof *ret->members);
    ret->choices = mem_array(1, sizeof *ret->choices); // a name stands once in an object
    const char *name;
    json_t *value;
    json_object_foreach(j, name, value) {
        size_t len = path_push(w, "%s%s", w->path[0] ? "." : "", name);
        int rc = parse_member(w, name, value, scope, ret);
        if (rc) return rc;
        path_pop(w, len);
    }
    if (scope == RECORD) body_last(ret);
    w->depth--;
    return 0;
}

int filter_parse(struct str pattern, struct filter **ret, struct err *err) {
    if (pattern.len > FILTER_MAX_BYTES)
        return err_set(err, ERR_INVALID, "filter: %zu bytes are more than a filter may have (%d)", pattern.len, FILTER_MAX_BYTES);
    json_error_t why;
    struct walk w = {.err = err};
    json_t *j = json_loadb(pattern.data ? pattern.data : "", pattern.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (!j) return err_set(err, ERR_INVALID, "filter: no JSON at line %d column %d: %s", why.line, why.column, why.text);
    struct filter *f = mem_zalloc(sizeof *f);
    int rc = json_is_object(j) ? parse_object(&w, j, RECORD, &f->record)
                               : refuse(&w, "a pattern is an object, such as {\"key\":[\"a\"]}, not %s", kind_of(j));
    json_decref(j);
    if (rc) {
        filter_free(f);
        return rc;
    }
    *ret = f;
    return 0;
}
