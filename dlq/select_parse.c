// SPDX-License-Identifier: Apache-2.0
// The selection language to a tree: a recursive descent, one token ahead. The text was checked to be UTF-8 without NUL.
#include <ctype.h>
#include <stdarg.h>

#include "core/base/text.h"
#include "dlq/select_impl.h"

enum token { TOKEN_END, TOKEN_NAME, TOKEN_DIGITS, TOKEN_TEXT, TOKEN_SIGN };

struct parser {
    struct selection *s;
    struct err *err;
    struct str text;
    size_t next;         // behind the token
    enum token token;
    size_t at;           // where the token begins
    struct str word;     // the token as it is written; of a text, what it says
    unsigned depth, terms;
    struct buf shown;    // the expression up to shown_to, without its secrets
    size_t shown_to;
};

// --- errors -------------------------------------------------------------------------------------------------------------

static int refuse(const struct parser *p, size_t at, const char *fmt, ...) printf_like(3, 4);
static int refuse(const struct parser *p, size_t at, const char *fmt, ...) {
    char text[440];
    size_t column = 1;
    for (size_t i = 0; i < at; i++) column += (p->text.data[i] & 0xc0) != 0x80;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return err_set(p->err, ERR_INVALID, "column %zu: %s", column, text);
}

// The token as an error shows it: cut to 30 characters, or, where there are secrets, only what it is.
struct found {
    char text[160];
};
static struct found found(const struct parser *p) {
    struct found f = {"the end"};
    if (p->token == TOKEN_END) return f;
    bool is_ours = p->token == TOKEN_SIGN && p->word.len > 0;
    if (p->s->redact && !is_ours) return p->token == TOKEN_NAME ? (struct found){"this word"} : (struct found){"this"};
    const char *raw = p->text.data + p->at;
    size_t n = 0, len = p->next - p->at;
    for (unsigned characters = 0; n < len; n++) {
        if ((raw[n] & 0xc0) != 0x80 && ++characters > 30) break;
        f.text[n] = raw[n];
        if ((unsigned char)raw[n] < 0x20 || raw[n] == 0x7f) f.text[n] = ' ';
    }
    f.text[n] = '\0';
    return f;
}

// --- tokens -------------------------------------------------------------------------------------------------------------

static bool is_name_char(char c) {
    return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '@' || c == '-' || (c & 0x80);
}

static bool hex4(struct str s, size_t at, uint32_t *ret) {
    *ret = 0;
    for (size_t i = at; i < at + 4; i++) {
        if (i >= s.len || !isxdigit((unsigned char)s.data[i])) return false;
        *ret = *ret << 4 | (uint32_t)(isdigit((unsigned char)s.data[i]) ? s.data[i] - '0' : (s.data[i] | 32) - 'a' + 10);
    }
    return true;
}

static size_t put_utf8(uint32_t c, char out[4]) {
    if (c < 0x80) return out[0] = (char)c, 1;
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((0xf00 >> n & 0xff) | c);
    return n;
}

// \uXXXX at `at` (the backslash), or two of them that make one character. Bytes used, 0: it is none.
static size_t unicode_escape(struct str s, size_t at, uint32_t *ret) {
    uint32_t c, low;
    if (!hex4(s, at + 2, &c) || c == 0 || (c >= 0xdc00 && c < 0xe000)) return 0;
    *ret = c;
    if (c < 0xd800 || c >= 0xe000) return 6;
    bool pair = at + 7 < s.len && s.data[at + 6] == '\\' && s.data[at + 7] == 'u' && hex4(s, at + 8, &low);
    if (!pair || low < 0xdc00 || low >= 0xe000) return 0;
    *ret = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    return 12;
}

// Takes the escape at `at`, which is a backslash, and appends what it says to out[*len]. Bytes used, 0: it is none.
static size_t take_escape(struct str s, size_t at, char *out, size_t *len) {
    static const char escapes[] = "\"\"''\\\\//b\bf\fn\nr\rt\t";
    uint32_t c;
    if (s.data[at + 1] == 'u') {
        size_t used = unicode_escape(s, at, &c);
        if (used) *len += put_utf8(c, out + *len);
        return used;
    }
    const char *escape = escapes;
    while (*escape && *escape != s.data[at + 1]) escape += 2;
    if (*escape) out[(*len)++] = escape[1];
    return *escape ? 2 : 0;
}

// The text between the quotes at p->at. The terminating quote is known to be there before anything is taken.
static int read_text(struct parser *p) {
    struct str s = p->text;
    char quote = s.data[p->at];
    size_t at = p->at + 1, end = at, len = 0;
    while (end < s.len && s.data[end] != quote) end += s.data[end] == '\\' ? 2 : 1;
    if (end >= s.len) return refuse(p, p->at, "the text that begins here has no end: a %c is missing", quote);
    char *out = select_alloc(p->s, 1, end - at + 1);
    while (at < end) {
        if (s.data[at] != '\\') {
            out[len++] = s.data[at++];
            continue;
        }
        size_t used = take_escape((struct str){s.data, end}, at, out, &len);
        if (!used) return refuse(p, at, "behind a backslash stands one of \\ \" ' / b f n r t or uXXXX; a backslash itself is \\\\");
        at += used;
    }
    p->word = (struct str){out, len};
    p->next = end + 1;
    return 0;
}

static size_t sign_len(struct str rest) {
    static const char *const signs[] = {"==", "!=", "<>", "<=", ">=", "!~", "=", "<", ">", "~", "(", ")", ",", ".", "["};
    for (size_t i = 0; i < array_len(signs); i++)
        if (str_starts(rest, signs[i])) return strlen(signs[i]);
    return 0;
}

static int read_sign(struct parser *p) {
    size_t len = sign_len((struct str){p->text.data + p->at, p->text.len - p->at});
    p->next = p->at + (len ? len : 1);
    while (p->next < p->text.len && (p->text.data[p->next] & 0xc0) == 0x80) p->next++; // whole characters
    p->word.len = len;
    p->token = TOKEN_SIGN;
    return len ? 0 : refuse(p, p->at, "%s means nothing here; texts stand in quotes: \"acme\"", found(p).text);
}

static int advance(struct parser *p) {
    struct str s = p->text;
    size_t at = p->next;
    while (at < s.len && memchr(" \t\r\n", s.data[at], 4)) at++;
    p->at = p->next = at;
    p->word = (struct str){s.data + at, 0};
    p->token = TOKEN_END;
    if (at == s.len) return 0;
    char c = s.data[at];
    if (c == '"' || c == '\'') {
        p->token = TOKEN_TEXT;
        return read_text(p);
    }
    bool number = isdigit((unsigned char)c) || (c == '-' && at + 1 < s.len && isdigit((unsigned char)s.data[at + 1]));
    if (!number && !isalpha((unsigned char)c) && c != '_') return read_sign(p);
    p->token = number ? TOKEN_DIGITS : TOKEN_NAME;
    while (at < s.len && (is_name_char(s.data[at]) || (number && memchr(".:+", s.data[at], 3)))) at++;
    p->word.len = at - p->at;
    p->next = at;
    return 0;
}

static bool is_word(const struct parser *p, const char *word) {
    return p->token == TOKEN_NAME && p->word.len == strlen(word) && strncasecmp(p->word.data, word, p->word.len) == 0;
}

static bool is_sign(const struct parser *p, const char *sign) {
    return p->token == TOKEN_SIGN && str_is(p->word, sign);
}

static int expect_sign(struct parser *p, const char *sign, const char *where) {
    if (is_sign(p, sign)) return advance(p);
    return refuse(p, p->at, "a %s is wanted %s, not %s", sign, where, found(p).text);
}

// --- fields ---------------------------------------------------------------------------------------------------------------

static int refuse_field(struct parser *p) {
    struct found f = p->s->redact ? (struct found){"of this name"} : found(p);
    char known[300] = "";
    cleanup_free char *given = mem_strndup(p->word);
    struct text_nearest n = text_nearest_init(given);
    for (const struct select_column *c = select_columns; c->name; c++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", c->name);
        text_nearest_offer(&n, c->name);
    }
    if (n.name) return refuse(p, p->at, "there is no field %s; did you mean %s?", f.text, n.name);
    return refuse(p, p->at, "there is no field %s; there are %s", f.text, known);
}

// A name behind a dot, bare or in quotes. p->next stands behind the dot, and then behind the name.
static int read_name(struct parser *p, struct str *ret) {
    struct str s = p->text;
    size_t at = p->next;
    if (at < s.len && (s.data[at] == '"' || s.data[at] == '\'')) {
        p->at = at;
        int rc = read_text(p);
        if (rc) return rc;
        *ret = p->word;
        return 0;
    }
    while (at < s.len && is_name_char(s.data[at])) at++;
    if (at == p->next) return refuse(p, at, "a name is wanted behind the dot; one with other characters than letters, digits, _ - $ @ stands in quotes");
    *ret = (struct str){s.data + p->next, at - p->next};
    p->next = at;
    return 0;
}

static int read_index(struct parser *p, int64_t *ret) {
    struct str s = p->text;
    size_t at = p->next, digits = 0;
    *ret = 0;
    for (; at < s.len && isdigit((unsigned char)s.data[at]); at++, digits++)
        if (digits < 9) *ret = *ret * 10 + (s.data[at] - '0');
    if (digits == 0 || digits > 9 || at == s.len || s.data[at] != ']')
        return refuse(p, at, "in brackets stands the place in a list, from 0, as in [0]; a name is written .name or .\"a name\"");
    p->next = at + 1;
    return 0;
}

// Names that JSON writes as they are, whoever writes it (some escape / and all that is not ASCII). SQLite compares a path with what is written.
static bool is_plain(struct str name) {
    for (size_t i = 0; i < name.len; i++)
        if (name.data[i] < 0x20 || name.data[i] > 0x7e || memchr("\"\\/", name.data[i], 3)) return false;
    return name.len > 0;
}

static struct str path_of(struct selection *s, const struct select_field *f) {
    struct buf b;
    buf_init(&b, SELECT_TEXT_MAX * 4);
    MUST(buf_printf(&b, "$") == 0);
    for (size_t i = 0; i < f->step_count; i++) {
        const struct select_step *step = &f->steps[i];
        if (step->name.data && !is_plain(step->name)) {
            buf_done(&b);
            return STR_NONE;
        }
        int rc = step->name.data ? buf_printf(&b, ".\"%.*s\"", STR_ARG(step->name)) : buf_printf(&b, "[%lld]", (long long)step->index);
        MUST(rc == 0);
    }
    return select_keep(s, &b);
}

static struct str lower(struct selection *s, struct str name) {
    char *out = select_alloc(s, 1, name.len + 1);
    for (size_t i = 0; i < name.len; i++) out[i] = (char)(name.data[i] >= 'A' && name.data[i] <= 'Z' ? name.data[i] | 32 : name.data[i]);
    return (struct str){out, name.len};
}

static int read_steps(struct parser *p, struct select_field *f) {
    struct select_step steps[SELECT_STEPS_MAX];
    while (p->next < p->text.len && (p->text.data[p->next] == '.' || p->text.data[p->next] == '[')) {
        size_t at = p->next;
        bool named = p->text.data[p->next++] == '.';
        if (f->class == SELECT_HEADER && (!named || f->step_count))
            return refuse(p, at, "a header has no members; a name with dots stands in quotes: headers.\"a.b\"");
        if (f->step_count == SELECT_STEPS_MAX) return refuse(p, at, "a path has at most %d members", SELECT_STEPS_MAX);
        struct select_step step = {STR_NONE, 0};
        int rc = named ? read_name(p, &step.name) : read_index(p, &step.index);
        if (rc) return rc;
        if (f->class == SELECT_HEADER) step.name = lower(p->s, step.name);
        steps[f->step_count++] = step;
    }
    f->steps = select_alloc(p->s, f->step_count + 1, sizeof *f->steps);
    if (f->step_count) memcpy(f->steps, steps, f->step_count * sizeof *steps);
    return 0;
}

// Of headers and the payload, the names that follow.
static int read_path(struct parser *p, struct select_field *f) {
    bool header = f->class == SELECT_HEADER;
    int rc = read_steps(p, f);
    if (rc) return rc;
    if (header && f->step_count == 0) return refuse(p, p->at, "which header? headers.NAME or headers.\"a name\"");
    if (!header && f->step_count) f->class = SELECT_MEMBER;
    f->path = path_of(p->s, f);
    return 0;
}

static int parse_field(struct parser *p, struct select_field *ret) {
    if (p->token != TOKEN_NAME) return refuse(p, p->at, "a field is wanted here, such as error or payload.customer, not %s", found(p).text);
    struct select_field f = {.column = select_column_find(p->word)};
    if (!f.column) return refuse_field(p);
    f.class = f.column->class;
    int rc = 0;
    if (f.class == SELECT_HEADER || f.class == SELECT_BYTES) rc = read_path(p, &f);
    else if (p->next < p->text.len && memchr(".[", p->text.data[p->next], 2))
        rc = refuse(p, p->next, "%s has no members; headers and payload have", f.column->name);
    if (rc) return rc;
    *ret = f;
    return advance(p);
}

// --- values -----------------------------------------------------------------------------------------------------------------

// Behind a span.
static int parse_direction(struct parser *p, struct select_value *v) {
    bool ahead = is_word(p, "ahead");
    if (!v->is_span || (!ahead && !is_word(p, "ago"))) return 0;
    if (ahead) {
        int64_t now_ms = p->s->now_ms, span = now_ms - v->integer;
        if (__builtin_add_overflow(now_ms, span, &v->integer) || v->integer == INT64_MAX) return refuse(p, p->at, "that is too far ahead");
        v->end = v->integer + 1;
    }
    return advance(p);
}

static int parse_value(struct parser *p, struct select_value *ret) {
    static const struct {
        const char *word;
        enum select_type type;
    } words[] = {{"true", SELECT_IS_TRUE}, {"false", SELECT_IS_FALSE}, {"null", SELECT_IS_NOTHING}};
    struct select_value v = {.text = p->word};
    if (p->token == TOKEN_DIGITS && !select_value_read(p->s, p->word, &v))
        return refuse(p, p->at, "%s is neither a number, nor a span such as 2h, nor a time such as 2026-01-31; texts stand in quotes", found(p).text);
    if (p->token == TOKEN_NAME) {
        size_t i = 0;
        while (i < array_len(words) && !is_word(p, words[i].word)) i++;
        if (i == array_len(words)) return refuse(p, p->at, "texts stand in quotes: \"%s\"", p->s->redact ? "acme" : found(p).text);
        v.type = words[i].type;
    }
    if (p->token == TOKEN_END || p->token == TOKEN_SIGN)
        return refuse(p, p->at, "a value is wanted here: a text in quotes, a number, true, false, null, or a time; not %s", found(p).text);
    int rc = advance(p);
    if (rc == 0) rc = parse_direction(p, &v);
    *ret = v;
    return rc;
}

struct place { // in the text
    size_t from, to;
};
struct list { // of values, while they are read
    struct select_value *at;
    size_t count, room;
    struct place *places;
};

static int add_value(struct parser *p, struct list *list) {
    if (list->count == SELECT_OWN_MAX) return refuse(p, p->at, "a list has at most %d values", SELECT_OWN_MAX);
    if (list->count == list->room) {
        list->room = list->room ? list->room * 2 : 4;
        list->at = mem_realloc(list->at, list->room * sizeof *list->at);
        list->places = mem_realloc(list->places, list->room * sizeof *list->places);
    }
    list->places[list->count] = (struct place){p->at, p->next};
    int rc = parse_value(p, &list->at[list->count]);
    if (rc == 0) list->count++;
    return rc;
}

static int add_values(struct parser *p, struct list *list) {
    int rc = expect_sign(p, "(", "behind in");
    while (rc == 0) {
        rc = add_value(p, list);
        if (rc || !is_sign(p, ",")) break;
        rc = advance(p);
    }
    return rc ? rc : expect_sign(p, ")", "or a , between the values");
}

static void show_until(struct parser *p, size_t to) {
    MUST(buf_append(&p->shown, (struct str){p->text.data + p->shown_to, to - p->shown_to}) == 0);
    p->shown_to = to;
}

static void show_values(struct parser *p, const struct select_field *f, const struct list *list) {
    for (size_t i = 0; i < list->count; i++) {
        struct place at = list->places[i];
        show_until(p, at.from);
        select_show_value(p->s->redact, f, &list->at[i], (struct str){p->text.data + at.from, at.to - at.from}, &p->shown);
        p->shown_to = at.to;
    }
}

// Hands the values to the term, for its field and operator to see. at: of the operator.
static int finish_term(struct parser *p, struct select_node *term, const struct list *list, size_t at) {
    struct err why = {0};
    size_t wrong;
    term->value_count = list->count;
    term->values = select_alloc(p->s, list->count + 1, sizeof *term->values);
    if (list->count) memcpy(term->values, list->at, list->count * sizeof *list->at);
    if (select_values_check(p->s, term, &wrong, &why)) return refuse(p, wrong < list->count ? list->places[wrong].from : at, "%s", why.text);
    show_values(p, &term->field, list);
    return 0;
}

// --- comparisons ------------------------------------------------------------------------------------------------------------

static const struct {
    const char *sign;
    enum select_op op;
    bool negated;
} operators[] = {
    {"=", SELECT_IN, false},
    {"==", SELECT_IN, false},
    {"!=", SELECT_IN, true},
    {"<>", SELECT_IN, true},
    {"<", SELECT_LESS, false},
    {"<=", SELECT_LESS_EQUAL, false},
    {">", SELECT_MORE, false},
    {">=", SELECT_MORE_EQUAL, false},
    {"~", SELECT_FIND, false},
    {"!~", SELECT_FIND, true},
};

static int refuse_operator(const struct parser *p) {
    return refuse(p, p->at, "a comparison is wanted here (=, !=, <, <=, >, >=, ~, !~, in, contains, starts with, is null), not %s", found(p).text);
}

static int parse_word_operator(struct parser *p, struct select_node *term) {
    int rc = 0;
    if (is_word(p, "not")) {
        term->negated = true;
        rc = advance(p);
    }
    if (rc) return rc;
    if (is_word(p, "in")) term->op = SELECT_IN;
    else if (is_word(p, "contains")) term->op = SELECT_CONTAINS;
    else if (is_word(p, "starts")) term->op = SELECT_STARTS;
    else return refuse_operator(p);
    rc = advance(p);
    if (rc || term->op != SELECT_STARTS) return rc;
    return is_word(p, "with") ? advance(p) : refuse(p, p->at, "with is wanted behind starts, not %s", found(p).text);
}

static int check_missing(struct parser *p, const struct select_node *term, size_t at) {
    const struct select_column *c = term->field.column;
    if (c->may_miss || term->field.class == SELECT_MEMBER) return 0;
    bool text = term->field.class == SELECT_TEXT || term->field.class == SELECT_BYTES;
    return refuse(p, at, "%s is always there%s", c->name, text ? "; it may be empty: compare it with \"\"" : "");
}

static int parse_is(struct parser *p, struct select_node *term, size_t at) {
    int rc = advance(p);
    if (rc == 0 && is_word(p, "not")) {
        term->negated = true;
        rc = advance(p);
    }
    if (rc) return rc;
    if (!is_word(p, "null")) return refuse(p, p->at, "null or not null is wanted behind is, not %s", found(p).text);
    term->op = SELECT_IS_NULL;
    rc = check_missing(p, term, at);
    return rc ? rc : advance(p);
}

static int parse_exists(struct parser *p, struct select_node *term) {
    int rc = expect_sign(p, "(", "behind exists");
    size_t at = p->at;
    if (rc == 0) rc = parse_field(p, &term->field);
    if (rc == 0) rc = check_missing(p, term, at);
    term->op = SELECT_EXISTS;
    return rc ? rc : expect_sign(p, ")", "behind the field");
}

static int parse_search(struct parser *p, struct select_node *term, struct list *list) {
    int rc = expect_sign(p, "(", "behind search");
    if (rc) return rc;
    if (p->token != TOKEN_TEXT || p->word.len == 0) return refuse(p, p->at, "the text to search for is wanted here, in quotes");
    term->op = SELECT_SEARCH;
    rc = add_value(p, list);
    return rc ? rc : expect_sign(p, ")", "behind the text");
}

static int parse_operands(struct parser *p, struct select_node *term, struct list *list) {
    for (size_t i = 0; i < array_len(operators) && p->token == TOKEN_SIGN; i++) {
        if (!str_is(p->word, operators[i].sign)) continue;
        term->op = operators[i].op;
        term->negated = operators[i].negated;
        int rc = advance(p);
        return rc ? rc : add_value(p, list);
    }
    if (p->token != TOKEN_NAME) return refuse_operator(p);
    int rc = parse_word_operator(p, term);
    if (rc) return rc;
    return term->op == SELECT_IN ? add_values(p, list) : add_value(p, list);
}

static int parse_comparison(struct parser *p, struct select_node *term, struct list *list) {
    bool is_exists = is_word(p, "exists"), is_search = is_word(p, "search");
    size_t at = p->at;
    if (is_exists || is_search) {
        int rc = advance(p);
        if (rc == 0) rc = is_exists ? parse_exists(p, term) : parse_search(p, term, list);
        return rc ? rc : finish_term(p, term, list, at);
    }
    int rc = parse_field(p, &term->field);
    if (rc) return rc;
    size_t operator_at = p->at;
    if (is_word(p, "is")) return parse_is(p, term, at);
    rc = parse_operands(p, term, list);
    return rc ? rc : finish_term(p, term, list, operator_at);
}

// --- the tree -----------------------------------------------------------------------------------------------------------------

static int parse_or(struct parser *p, struct select_node **ret);

static struct select_node *new_node(struct parser *p, enum select_node_type type) {
    struct select_node *n = select_alloc(p->s, 1, sizeof *n);
    n->type = type;
    return n;
}

static int parse_term(struct parser *p, struct select_node **ret) {
    if (++p->terms > SELECT_TERMS_MAX) return refuse(p, p->at, "an expression has at most %d comparisons", SELECT_TERMS_MAX);
    struct list list = {0};
    struct select_node *term = *ret = new_node(p, SELECT_TERM);
    int rc = parse_comparison(p, term, &list);
    free(list.at);
    free(list.places);
    return rc;
}

static int parse_not(struct parser *p, struct select_node **ret) {
    bool negates = is_word(p, "not");
    if (!negates && !is_sign(p, "(")) return parse_term(p, ret);
    if (++p->depth > SELECT_DEPTH_MAX) return refuse(p, p->at, "brackets and nots go %d deep at most", SELECT_DEPTH_MAX);
    int rc = advance(p);
    if (rc == 0 && negates) {
        *ret = new_node(p, SELECT_NONE_OF);
        rc = parse_not(p, &(*ret)->first);
    } else if (rc == 0) {
        rc = parse_or(p, ret);
        if (rc == 0) rc = expect_sign(p, ")", "or and, or or");
    }
    p->depth--;
    return rc;
}

typedef int parse_fn(struct parser *p, struct select_node **ret);

static int parse_chain(struct parser *p, const char *word, enum select_node_type type, parse_fn *part, struct select_node **ret) {
    struct select_node *first, **last = &first;
    int rc = part(p, &first);
    while (rc == 0 && is_word(p, word)) {
        last = &(*last)->next;
        rc = advance(p);
        if (rc == 0) rc = part(p, last);
    }
    if (rc) return rc;
    *ret = first;
    if (!first->next) return 0;
    *ret = new_node(p, type);
    (*ret)->first = first;
    return 0;
}

static int parse_and(struct parser *p, struct select_node **ret) {
    return parse_chain(p, "and", SELECT_ALL_OF, parse_not, ret);
}

static int parse_or(struct parser *p, struct select_node **ret) {
    return parse_chain(p, "or", SELECT_ONE_OF, parse_and, ret);
}

static int parse_all(struct parser *p, struct select_node **ret) {
    int rc = advance(p);
    if (rc == 0) rc = parse_or(p, ret);
    if (rc || p->token == TOKEN_END) return rc;
    return refuse(p, p->at, "and, or, or the end is wanted here, not %s", found(p).text);
}

int select_parse(struct selection *s, struct str where, struct select_node **ret, struct err *err) {
    struct parser p = {.s = s, .err = err, .text = where};
    struct select_node *root;
    buf_init(&p.shown, SELECT_TEXT_MAX * 20); // a mask can treble a text, then a control character becomes six bytes
    int rc = parse_all(&p, &root);
    if (rc == 0) {
        show_until(&p, where.len);
        s->where_shown = select_copy(s, buf_str(&p.shown));
        *ret = root;
    }
    buf_done(&p.shown);
    return rc;
}
