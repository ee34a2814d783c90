// SPDX-License-Identifier: Apache-2.0
// The scanner: one pass, no recursion, eight bytes of a string at a time. It is asked about each letter that is written.
#include <endian.h>

#include "core/base/text.h"
#include "core/json_text_impl.h"

#define QUERYABLE_DEPTH 128
#define QUERYABLE_NUMBER 400
#define QUERYABLE_EXPONENT 4000

static char peek(const struct json_scan *s) {
    return s->at < s->end ? *s->at : '\0'; // a NUL is wrong wherever this is asked
}

static bool wrong(struct json_scan *s, const char *what) {
    s->wrong = what;
    return false;
}

static void pass_blanks(struct json_scan *s) {
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t' || *s->at == '\r')) s->at++;
}

// ---- strings ---------------------------------------------------------------------------------------------------------------

#define ONES UINT64_C(0x0101010101010101)
#define HIGHS UINT64_C(0x8080808080808080)

// How many of eight bytes come before the first quote, backslash or control character. The bits that a subtraction borrows lie above
// the first byte that is meant, so the lowest bit that is set tells (Mycroft's test).
static size_t plain_of_eight(uint64_t w) {
    uint64_t quote = w ^ (ONES * '"'), backslash = w ^ (ONES * '\\');
    uint64_t meant = ((w - ONES * 0x20) | (quote - ONES) | (backslash - ONES)) & ~w & HIGHS;
    return meant ? (size_t)__builtin_ctzll(meant) / 8 : 8;
}

// Passes to the first quote, backslash or control character; true when there were bytes beyond ASCII among what was passed.
static bool pass_plain(struct json_scan *s) {
    const char *at = s->at;
    uint64_t seen = 0;
    while (s->end - at >= 8) {
        uint64_t w;
        memcpy(&w, at, 8);
        w = le64toh(w);
        size_t plain = plain_of_eight(w);
        at += plain;
        if (plain == 8) {
            seen |= w;
            continue;
        }
        seen |= w & ((UINT64_C(1) << 8 * plain) - 1);
        s->at = at;
        return (seen & HIGHS) != 0;
    }
    for (; at < s->end && (unsigned char)*at >= 0x20 && *at != '"' && *at != '\\'; at++) seen |= (unsigned char)*at;
    s->at = at;
    return (seen & HIGHS) != 0;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// The code unit of \uXXXX at p, or -1.
static int code_unit(const char *p, const char *end) {
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u') return -1;
    int unit = 0;
    for (int i = 2; i < 6; i++) {
        int digit = hex_digit(p[i]);
        if (digit < 0) return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

static bool is_high(int unit) {
    return unit >= 0xd800 && unit < 0xdc00;
}

static bool is_low(int unit) {
    return unit >= 0xdc00 && unit < 0xe000;
}

static bool pass_escape(struct json_scan *s) {
    char c = s->end - s->at >= 2 ? s->at[1] : '\0';
    if (c != 'u') {
        if (c == '\0' || !strchr("\"\\/bfnrt", c)) return wrong(s, "there is no such escape");
        s->at += 2;
        return true;
    }
    int unit = code_unit(s->at, s->end);
    if (unit < 0) return wrong(s, "\\u wants four hexadecimal digits");
    if (s->queryable && (unit == 0 || is_low(unit))) return wrong(s, "no database takes it");
    s->at += 6;
    if (s->queryable && is_high(unit)) {
        if (!is_low(code_unit(s->at, s->end))) return wrong(s, "no database takes it");
        s->at += 6;
    }
    return true;
}

static bool pass_string(struct json_scan *s) {
    const char *from = ++s->at;
    bool beyond_ascii = false;
    for (;;) {
        beyond_ascii |= pass_plain(s);
        char c = peek(s);
        if (c == '"') break;
        if (c != '\\') return wrong(s, s->at == s->end ? "a string has no end" : "a control character stands in a string");
        if (!pass_escape(s)) return false;
    }
    if (beyond_ascii && !text_is_utf8((struct str){from, (size_t)(s->at - from)})) {
        s->at = from;
        return wrong(s, "the string that begins here is not UTF-8");
    }
    s->at++;
    return true;
}

// ---- numbers and words -----------------------------------------------------------------------------------------------------

static size_t pass_digits(struct json_scan *s) {
    const char *from = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9') s->at++;
    return (size_t)(s->at - from);
}

static bool pass_exponent(struct json_scan *s) {
    s->at++;
    if (peek(s) == '-' || peek(s) == '+') s->at++;
    const char *digits = s->at;
    if (!pass_digits(s)) return wrong(s, "a digit is wanted");
    if (!s->queryable) return true;
    unsigned exponent = 0;
    for (const char *p = digits; p < s->at && exponent <= QUERYABLE_EXPONENT; p++) exponent = exponent * 10 + (unsigned)(*p - '0');
    return exponent <= QUERYABLE_EXPONENT || wrong(s, "no database takes it");
}

static bool pass_number(struct json_scan *s) {
    const char *from = s->at;
    if (*s->at == '-') s->at++;
    if (peek(s) == '0') s->at++;
    else if (!pass_digits(s)) return wrong(s, "a digit is wanted");
    if (peek(s) == '.') {
        s->at++;
        if (!pass_digits(s)) return wrong(s, "a digit is wanted");
    }
    if ((peek(s) | 0x20) == 'e' && !pass_exponent(s)) return false;
    return !s->queryable || s->at - from <= QUERYABLE_NUMBER || wrong(s, "no database takes it");
}

static bool pass_word(struct json_scan *s, struct str word) {
    if ((size_t)(s->end - s->at) < word.len || memcmp(s->at, word.data, word.len) != 0) return wrong(s, "a value is wanted");
    s->at += word.len;
    return true;
}

// ---- names, to tell which are there twice ------------------------------------------------------------------------------------

struct json_names {
    uint64_t *mixed; // a name and its object
    size_t count, room;
    uint64_t objects; // that have begun
    uint64_t object[QUERYABLE_DEPTH]; // that is open at each level
    bool escaped;     // a name has an escape that it does not need
};

static void keep_name(struct json_names *n, uint64_t object, struct str name) {
    uint64_t mixed = (UINT64_C(0xcbf29ce484222325) ^ object) * UINT64_C(0x100000001b3); // FNV-1a
    while (name.len) {
        char bytes[4];
        bool escape = name.data[0] == '\\';
        size_t len = json_take_char(&name, bytes);
        n->escaped |= escape && bytes[0] >= 0x20 && bytes[0] < 0x7f && !strchr("\"\\/", bytes[0]);
        for (size_t i = 0; i < len; i++) mixed = (mixed ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
    }
    if (n->count == n->room) {
        n->room = n->room ? 2 * n->room : 32;
        n->mixed = mem_realloc(n->mixed, n->room * sizeof *n->mixed);
    }
    n->mixed[n->count++] = mixed;
}

static int by_number(const void *a, const void *b) {
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static bool has_twice(struct json_names *n) {
    if (n->count) qsort(n->mixed, n->count, sizeof *n->mixed, by_number);
    for (size_t i = 1; i < n->count; i++)
        if (n->mixed[i] == n->mixed[i - 1]) return true;
    return false;
}

// ---- values ----------------------------------------------------------------------------------------------------------------

static bool in_object(const struct json_scan *s) {
    unsigned level = s->depth - 1;
    return s->objects[level / 64] >> level % 64 & 1;
}

static bool open_level(struct json_scan *s, bool object) {
    if (s->depth == s->depth_max) return wrong(s, "there are too many levels");
    unsigned level = s->depth++;
    if (object && s->names) s->names->object[level] = s->names->objects++;
    if (s->depth > s->deepest) s->deepest = s->depth;
    uint64_t bit = UINT64_C(1) << level % 64;
    if (object) s->objects[level / 64] |= bit;
    else s->objects[level / 64] &= ~bit;
    s->at++;
    pass_blanks(s);
    return true;
}

static bool pass_name(struct json_scan *s) {
    pass_blanks(s);
    if (peek(s) != '"') return wrong(s, "a name in quotes is wanted");
    const char *from = s->at + 1;
    if (!pass_string(s)) return false;
    if (s->names) keep_name(s->names, s->names->object[s->depth - 1], (struct str){from, (size_t)(s->at - from) - 1});
    pass_blanks(s);
    if (peek(s) != ':') return wrong(s, "a colon is wanted");
    s->at++;
    return true;
}

static bool pass_scalar(struct json_scan *s) {
    char c = peek(s);
    if (c == '"') return pass_string(s);
    if (c == '-' || (c >= '0' && c <= '9')) return pass_number(s);
    if (c == 't') return pass_word(s, STR_LIT("true"));
    if (c == 'f') return pass_word(s, STR_LIT("false"));
    return pass_word(s, STR_LIT("null"));
}

// Passes over what follows a value: the ends of levels above `outer`, or a comma and the next name, before the next value.
static bool pass_ends(struct json_scan *s, unsigned outer) {
    while (s->depth > outer) {
        pass_blanks(s);
        bool object = in_object(s);
        char c = peek(s);
        if (c == ',') {
            s->at++;
            return !object || pass_name(s);
        }
        if (c != (object ? '}' : ']')) return wrong(s, object ? "a comma or } is wanted" : "a comma or ] is wanted");
        s->at++;
        s->depth--;
    }
    return true;
}

bool json_scan_value(struct json_scan *s) {
    unsigned outer = s->depth;
    do {
        pass_blanks(s);
        char c = peek(s);
        if (c == '{' || c == '[') {
            if (!open_level(s, c == '{')) return false;
            if (peek(s) != (c == '{' ? '}' : ']')) {
                if (c == '{' && !pass_name(s)) return false;
                continue;
            }
            s->at++;
            s->depth--;
        } else if (!pass_scalar(s)) {
            return false;
        }
        if (!pass_ends(s, outer)) return false;
    } while (s->depth > outer);
    return true;
}

static bool scan_text(struct json_scan *s, struct str text, bool queryable, struct json_names *names, struct str *ret_value) {
    *s = (struct json_scan){.at = text.data, .end = text.data, .queryable = queryable, .names = names};
    s->depth_max = queryable ? QUERYABLE_DEPTH : JSON_TEXT_DEPTH;
    if (text.len == 0) return wrong(s, "a value is wanted");
    s->end += text.len;
    pass_blanks(s);
    ret_value->data = s->at;
    if (!json_scan_value(s)) return false;
    ret_value->len = (size_t)(s->at - ret_value->data);
    pass_blanks(s);
    return s->at == s->end || wrong(s, "nothing is wanted behind the value");
}

bool json_scan_text(struct json_scan *s, struct str text, bool queryable, struct str *ret_value) {
    return scan_text(s, text, queryable, NULL, ret_value);
}

int json_checked_value(struct str text, struct str *ret_value, unsigned *ret_levels, struct err *err) {
    struct json_scan s;
    if (json_scan_text(&s, text, false, ret_value)) {
        if (ret_levels) *ret_levels = s.deepest;
        return 0;
    }
    return err_set(err, ERR_INVALID, "not JSON at byte %zu: %s", (size_t)(s.at - text.data) + 1, s.wrong);
}

bool json_text_is_queryable(struct str text) {
    struct json_scan s;
    struct str value;
    return text.len <= JSON_TEXT_QUERYABLE_MAX && json_scan_text(&s, text, true, &value);
}

bool json_text_queryable_names(struct str text, bool *ret_plain) {
    struct json_scan s;
    struct str value;
    struct json_names names = {0};
    bool queryable = text.len <= JSON_TEXT_QUERYABLE_MAX && scan_text(&s, text, true, &names, &value);
    if (queryable) *ret_plain = !names.escaped && !has_twice(&names);
    free(names.mixed);
    return queryable;
}

// ---- children --------------------------------------------------------------------------------------------------------------

struct str json_trim(struct str text) {
    struct json_scan s = {.at = text.data, .end = text.data + text.len};
    pass_blanks(&s);
    while (s.end > s.at && strchr(" \n\t\r", s.end[-1])) s.end--;
    return (struct str){s.at, (size_t)(s.end - s.at)};
}

bool json_children_open(struct json_children *c, struct str value) {
    if (value.data[0] != '{' && value.data[0] != '[') return false;
    c->scan = (struct json_scan){.at = value.data + 1, .end = value.data + value.len, .depth_max = JSON_TEXT_DEPTH};
    c->count = 0;
    c->is_object = value.data[0] == '{';
    return true;
}

bool json_children_next(struct json_children *c, struct json_child *ret) {
    struct json_scan *s = &c->scan;
    pass_blanks(s);
    if (s->end - s->at <= 1) return false; // the closing bracket
    if (c->count) s->at++; // a comma
    pass_blanks(s);
    *ret = (struct json_child){.index = c->count++, .from = s->at};
    if (c->is_object) {
        MUST(pass_string(s));
        ret->name = (struct str){ret->from + 1, (size_t)(s->at - ret->from) - 2};
        pass_blanks(s);
        s->at++; // a colon
        pass_blanks(s);
    }
    ret->value.data = s->at;
    MUST(json_scan_value(s));
    ret->value.len = (size_t)(s->at - ret->value.data);
    return true;
}

// ---- names -----------------------------------------------------------------------------------------------------------------

static size_t put_utf8(unsigned c, char to[4]) {
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xc0 | c >> 6);
        to[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (char)(0xe0 | c >> 12);
        to[1] = (char)(0x80 | (c >> 6 & 0x3f));
        to[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | c >> 18);
    to[1] = (char)(0x80 | (c >> 12 & 0x3f));
    to[2] = (char)(0x80 | (c >> 6 & 0x3f));
    to[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

static void skip(struct str *s, size_t n) {
    s->data += n;
    s->len -= n;
}

size_t json_take_char(struct str *content, char ret[4]) {
    const char *p = content->data, *end = p + content->len;
    if (*p != '\\') { // a byte at a time: the text is UTF-8 already
        ret[0] = *p;
        skip(content, 1);
        return 1;
    }
    if (p[1] != 'u') {
        static const char letters[] = "bfnrt", meant[] = "\b\f\n\r\t";
        const char *found = strchr(letters, p[1]);
        ret[0] = found ? meant[found - letters] : p[1];
        skip(content, 2);
        return 1;
    }
    int unit = code_unit(p, end), low = is_high(unit) ? code_unit(p + 6, end) : -1;
    skip(content, is_low(low) ? 12 : 6);
    if (is_low(low)) return put_utf8(0x10000 + ((unsigned)unit - 0xd800) * 0x400 + ((unsigned)low - 0xdc00), ret);
    return put_utf8((unsigned)unit, ret);
}

bool json_name_is(struct str name, struct str plain) {
    if (name.len == 0 || !memchr(name.data, '\\', name.len)) return str_eq(name, plain);
    while (name.len) {
        char bytes[4];
        size_t n = json_take_char(&name, bytes);
        if (n > plain.len || memcmp(bytes, plain.data, n) != 0) return false;
        skip(&plain, n);
    }
    return plain.len == 0;
}
