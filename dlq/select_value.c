// SPDX-License-Identifier: Apache-2.0
// What a value says to a field: times and numbers from their text, and what each class of fields makes of a value.
#include <ctype.h>
#include <stdarg.h>

#include "core/base/text.h"
#include "core/when.h"
#include "dlq/fingerprint.h"
#include "dlq/letters.h"
#include "dlq/select_impl.h"

#define NUMBER_MAX 400     // characters, as core/json_text says of payloads
#define EXPONENT_MAX 4000
#define ID_DIGITS 32
#define SHOWN 60           // bytes of a value in an error

// --- from text --------------------------------------------------------------------------------------------------------

static size_t digits_at(struct str s, size_t at) {
    size_t n = 0;
    while (at + n < s.len && isdigit((unsigned char)s.data[at + n])) n++;
    return n;
}

static bool is_at(struct str s, size_t at, char c) {
    return at < s.len && s.data[at] == c;
}

// RFC 8259, 6.
static bool is_number(struct str s, bool *ret_whole) {
    size_t at = is_at(s, 0, '-'), n = digits_at(s, at);
    if (n == 0 || (n > 1 && s.data[at] == '0')) return false;
    at += n;
    *ret_whole = at == s.len;
    if (is_at(s, at, '.')) {
        if ((n = digits_at(s, at + 1)) == 0) return false;
        at += 1 + n;
    }
    if (is_at(s, at, 'e') || is_at(s, at, 'E')) {
        at += 1;
        if (is_at(s, at, '-') || is_at(s, at, '+')) at++;
        n = digits_at(s, at);
        if (n == 0 || n > 4 || strtol(s.data + at, NULL, 10) > EXPONENT_MAX) return false;
        at += n;
    }
    return at == s.len && s.len <= NUMBER_MAX;
}

static bool read_number(struct str s, struct select_value *ret) {
    bool whole;
    if (!is_number(s, &whole)) return false;
    *ret = (struct select_value){.type = SELECT_IS_NUMBER, .text = s, .whole = whole};
    bool minus = s.data[0] == '-';
    for (size_t i = minus; i < s.len && ret->whole; i++) {
        int digit = s.data[i] - '0';
        ret->whole = !__builtin_mul_overflow(ret->integer, 10, &ret->integer) &&
                     !__builtin_add_overflow(ret->integer, minus ? -digit : digit, &ret->integer);
    }
    return true;
}

// 1h30m, 7d: numbers with units, one behind the other.
static bool read_span(struct str s, int64_t now_ms, struct select_value *ret) {
    static const struct {
        const char *word;
        int64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}, {"w", 604800000}};
    int64_t total = 0;
    for (size_t at = 0; at < s.len;) {
        size_t digits = digits_at(s, at), letters = 0, u = 0;
        while (at + digits + letters < s.len && isalpha((unsigned char)s.data[at + digits + letters])) letters++;
        while (u < array_len(units) && !str_is((struct str){s.data + at + digits, letters}, units[u].word)) u++;
        if (digits == 0 || digits > 9 || u == array_len(units)) return false;
        int64_t ms;
        if (__builtin_mul_overflow(strtoll(s.data + at, NULL, 10), units[u].ms, &ms) || __builtin_add_overflow(total, ms, &total)) return false;
        at += digits + letters;
    }
    if (s.len == 0 || __builtin_sub_overflow(now_ms, total, &ret->integer)) return false;
    ret->end = ret->integer + 1;
    ret->is_span = true;
    return true;
}

static bool read_time(struct str s, struct select_value *ret) {
    struct when w;
    if (when_take(&s, &w) || s.len) return false;
    ret->integer = when_unix_ms(&w);
    ret->end = ret->integer + w.unit_ms;
    return true;
}

bool select_value_read(struct selection *s, struct str text, struct select_value *ret) {
    struct select_value v = {0};
    if (!read_number(text, &v) && !read_span(text, s->now_ms, &v) && !read_time(text, &v)) return false;
    if (v.type != SELECT_IS_NUMBER) v.type = SELECT_IS_MOMENT;
    v.text = text;
    *ret = v;
    return true;
}

// --- for the fields -----------------------------------------------------------------------------------------------------

static const char *const state_words[] = {
#define X(name, word) word,
    LETTER_STATES(X)
#undef X
        NULL};
static const char *const kind_words[] = {
#define X(name, word) word,
    LETTER_KINDS(X)
#undef X
        NULL};

struct check {
    struct selection *s;
    const struct select_node *term;
    struct err *err;
};

static int refuse(const struct check *c, const char *fmt, ...) printf_like(2, 3);
static int refuse(const struct check *c, const char *fmt, ...) {
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return err_set(c->err, ERR_INVALID, "%s %s", c->term->field.column ? c->term->field.column->name : "search", text);
}

// The value for an error: short, and whole characters of it; of an expression that may have secrets, nothing.
struct shown {
    char text[SHOWN + 1];
};
static struct shown show(const struct check *c, struct str s) {
    struct shown shown = {""};
    if (c->s->redact) return (struct shown){"…"};
    struct buf b;
    buf_init(&b, SHOWN + 1);
    if (text_append_clean(&b, s, SHOWN) == 0) memcpy(shown.text, buf_str(&b).data, buf_len(&b));
    buf_done(&b);
    for (char *ch = shown.text; *ch; ch++)
        if ((unsigned char)*ch < 0x20 || *ch == 0x7f) *ch = ' ';
    return shown;
}

static int want_text(const struct check *c, const struct select_value *v) {
    if (v->type == SELECT_IS_TEXT) return 0;
    if (v->type == SELECT_IS_NOTHING) return refuse(c, "is never null; `is null` and `exists` ask for what may be missing");
    return refuse(c, "is compared with texts: write \"%s\"", show(c, v->text).text);
}

static int check_word(const struct check *c, struct select_value *v) {
    int rc = want_text(c, v);
    if (rc) return rc;
    const char *const *words = str_is(str_of(c->term->field.column->name), "state") ? state_words : kind_words;
    char known[200] = "";
    for (size_t i = 0; words[i]; i++) {
        if (str_is(v->text, words[i])) {
            v->word = words[i];
            return 0;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", words[i]);
    }
    return refuse(c, "is one of %s; not \"%s\"", known, show(c, v->text).text);
}

static int check_number(const struct check *c, struct select_value *v) {
    return v->type == SELECT_IS_NUMBER ? 0 : refuse(c, "is compared with numbers, such as 3");
}

static int check_moment(const struct check *c, struct select_value *v) {
    if (v->type == SELECT_IS_MOMENT) return 0;
    struct str text = v->text;
    bool reads = v->type == SELECT_IS_TEXT && (read_span(text, c->s->now_ms, v) || read_time(text, v));
    if (!reads) return refuse(c, "is compared with times: a span before now (2h, 7d ago), 2026-01-31, or 2026-01-31T10:30:00Z");
    v->type = SELECT_IS_MOMENT;
    return 0;
}

// The digits of a UUID, with or without its dashes; how many, or -1.
static int read_id(struct str text, uint8_t out[ID_DIGITS]) {
    bool dashed = text.len > 8 && text.data[8] == '-';
    int count = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char ch = (unsigned char)text.data[i];
        if (dashed && (i == 8 || i == 13 || i == 18 || i == 23)) {
            if (ch != '-') return -1;
            continue;
        }
        if (count == ID_DIGITS || !isxdigit(ch)) return -1;
        out[count++] = (uint8_t)(isdigit(ch) ? ch - '0' : (ch | 32) - 'a' + 10);
    }
    return count;
}

static struct str id_bytes(struct selection *s, const uint8_t digits[ID_DIGITS], int count, uint8_t rest) {
    uint8_t *id = select_alloc(s, 1, sizeof(struct id));
    for (int i = 0; i < ID_DIGITS; i++) id[i / 2] = (uint8_t)(id[i / 2] << 4 | (i < count ? digits[i] : rest));
    return (struct str){(char *)id, sizeof(struct id)};
}

static int check_id(const struct check *c, struct select_value *v) {
    int rc = want_text(c, v);
    if (rc) return rc;
    uint8_t digits[ID_DIGITS];
    int count = read_id(v->text, digits);
    bool begins = c->term->op == SELECT_STARTS;
    if (count < 0 || (!begins && count != ID_DIGITS))
        return refuse(c, "is compared with an id such as \"0198c1f2-6f2b-7c3a-9d1e-2b7f00aa10cc\"%s; not with \"%s\"",
            begins ? " or its beginning" : "", show(c, v->text).text);
    v->low = id_bytes(c->s, digits, count, 0x0);
    v->high = id_bytes(c->s, digits, count, 0xf);
    return 0;
}

static int check_group(const struct check *c, struct select_value *v) {
    int rc = want_text(c, v);
    if (rc) return rc;
    if (v->text.len == 0) return refuse(c, "is 16 hex digits, or the name of a group");
    uint64_t fingerprint;
    v->whole = fingerprint_parse(v->text, &fingerprint) == 0;
    if (v->whole) v->integer = (int64_t)fingerprint; // stored as two's complement
    return 0;
}

// The beginning of the source_at that core/kafka_record and core/queue_amqp_message write.
static struct str source_at(struct selection *s, struct str kind, struct str name, struct str partition) {
    struct buf b;
    buf_init(&b, SELECT_TEXT_MAX * 8);
    bool amqp = str_is(kind, "amqp");
    MUST(buf_printf(&b, amqp ? "{\"queue\":" : "{\"topic\":") == 0 && text_append_json(&b, name) == 0 && buf_printf(&b, ",") == 0);
    if (partition.len) MUST(buf_printf(&b, "\"partition\":%.*s,", STR_ARG(partition)) == 0);
    return select_keep(s, &b);
}

static int check_source(const struct check *c, struct select_value *v) {
    int rc = want_text(c, v);
    if (rc) return rc;
    const char *colon = v->text.len ? memchr(v->text.data, ':', v->text.len) : NULL;
    v->kind = colon ? (struct str){v->text.data, (size_t)(colon - v->text.data)} : v->text;
    struct str name = colon ? (struct str){colon + 1, v->text.len - v->kind.len - 1} : STR_NONE, partition = STR_NONE;
    if (v->kind.len == 0 || (colon && name.len == 0))
        return refuse(c, "is KIND, KIND:NAME or kafka:TOPIC/PARTITION; not \"%s\"", show(c, v->text).text);
    bool kafka = str_is(v->kind, "kafka");
    const char *slash = kafka && name.len ? memrchr(name.data, '/', name.len) : NULL;
    if (slash) {
        partition = (struct str){slash + 1, name.len - (size_t)(slash - name.data) - 1};
        name.len -= partition.len + 1;
        bool number = partition.len > 0 && partition.len < 10 && digits_at(partition, 0) == partition.len &&
                      (partition.len == 1 || partition.data[0] != '0');
        if (!number || name.len == 0) return refuse(c, "\"%s\": a partition is a number, as in kafka:orders/3", show(c, v->text).text);
    }
    if (!partition.len) v->name = name;
    if (name.len && (kafka || str_is(v->kind, "amqp"))) v->at = source_at(c->s, v->kind, name, partition);
    return 0;
}

static int check_text(const struct check *c, struct select_value *v) {
    return want_text(c, v);
}

static int check_member(const struct check *c, struct select_value *v) {
    bool orders = c->term->op >= SELECT_LESS && c->term->op <= SELECT_MORE_EQUAL;
    if (v->type == SELECT_IS_MOMENT) return refuse(c, "has no times: in JSON they are texts or numbers; write \"%s\"", show(c, v->text).text);
    if (orders && v->type > SELECT_IS_MOMENT) return refuse(c, "compares true, false and null with = and != only");
    return 0;
}

typedef int check_fn(const struct check *c, struct select_value *v);
#define PATTERNS (1u << SELECT_CONTAINS | 1u << SELECT_STARTS | 1u << SELECT_FIND)
#define ORDERS (1u << SELECT_LESS | 1u << SELECT_LESS_EQUAL | 1u << SELECT_MORE | 1u << SELECT_MORE_EQUAL)
#define IN (1u << SELECT_IN)
static const struct {
    check_fn *check;
    unsigned ops;
    const char *takes;
} classes[] = {
    [SELECT_TEXT] = {check_text, IN | ORDERS | PATTERNS, ""},
    [SELECT_WORD] = {check_word, IN, "=, != and in"},
    [SELECT_NUMBER] = {check_number, IN | ORDERS, "=, !=, <, <=, >, >= and in"},
    [SELECT_TIME] = {check_moment, IN | ORDERS, "=, !=, <, <=, >, >= and in"},
    [SELECT_ID] = {check_id, IN | ORDERS | 1u << SELECT_STARTS, "=, !=, <, <=, >, >=, in and starts with"},
    [SELECT_GROUP] = {check_group, IN, "=, != and in"},
    [SELECT_SOURCE] = {check_source, IN | PATTERNS, "=, !=, in, contains, starts with and ~"},
    [SELECT_BYTES] = {check_text, IN | ORDERS | PATTERNS, ""},
    [SELECT_HEADER] = {check_text, IN | ORDERS | PATTERNS, ""},
    [SELECT_MEMBER] = {check_member, IN | ORDERS | PATTERNS, ""},
};

// --- to find without regard of case ---------------------------------------------------------------------------------------

static void make_find(struct selection *s, struct select_value *v) {
    struct buf lower, like, octal;
    buf_init(&lower, v->text.len);
    buf_init(&like, v->text.len * 2 + 2);
    buf_init(&octal, v->text.len * 4);
    int rc = buf_append(&like, STR_LIT("%"));
    for (size_t i = 0; i < v->text.len; i++) {
        unsigned char raw = (unsigned char)v->text.data[i];
        char ch = (char)(raw >= 'A' && raw <= 'Z' ? raw | 32 : raw);
        struct str one = {&ch, 1};
        if (ch >= 'a' && ch <= 'z') v->has_letters = true;
        rc |= buf_append(&lower, one);
        if (ch == '%' || ch == '_' || ch == '\\') rc |= buf_append(&like, STR_LIT("\\"));
        rc |= buf_append(&like, one);
        if (raw >= 0x80) rc |= buf_printf(&octal, "\\%03o", raw);
        else rc |= buf_append(&octal, ch == '\\' ? STR_LIT("\\\\") : one);
    }
    rc |= buf_append(&like, STR_LIT("%"));
    MUST(rc == 0);
    v->text = select_keep(s, &lower);
    v->like = select_keep(s, &like);
    v->octal = select_keep(s, &octal);
}

int select_values_check(struct selection *s, struct select_node *term, size_t *ret_wrong, struct err *err) {
    const struct check c = {s, term, err};
    // What is looked for in a text may be any; but what an id starts with are digits.
    bool parts = term->op == SELECT_SEARCH || (1u << term->op & PATTERNS && term->field.class != SELECT_ID);
    *ret_wrong = term->value_count; // none of them
    if (term->op == SELECT_IS_NULL || term->op == SELECT_EXISTS) return 0;
    if (term->op != SELECT_SEARCH && !(classes[term->field.class].ops & 1u << term->op))
        return refuse(&c, "is compared with %s", classes[term->field.class].takes);
    for (size_t i = 0; i < term->value_count; i++) {
        struct select_value *v = &term->values[i];
        *ret_wrong = i;
        int rc = parts ? check_text(&c, v) : classes[term->field.class].check(&c, v);
        if (rc) return rc;
        if (term->op == SELECT_FIND || term->op == SELECT_SEARCH) make_find(s, v);
    }
    return 0;
}
