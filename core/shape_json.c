// SPDX-License-Identifier: Apache-2.0
// Is this one JSON text (RFC 8259)? Asked of every value that is spliced into another text, so it only looks: nothing is
// allocated or converted. What some readers refuse (half surrogate pairs, NUL in names, numbers beyond a double, great depth) is
// refused here too: the function must be able to read what it is given.
#include "core/base/text.h"
#include "core/shape_parts.h"

#define DEPTH_MAX 512   // jansson reads 2,048 levels and Python about 1,000
#define NUMBER_MAX 400u // characters of a number that has to be computed

struct reader {
    const char *at, *end;
    unsigned depth;
};

static bool read_value(struct reader *r);

static void skip_blanks(struct reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\t' || *r->at == '\r')) r->at++;
}

static bool take(struct reader *r, char c) {
    if (r->at == r->end || *r->at != c) return false;
    r->at++;
    return true;
}

// Four hex digits; -1 when they are none.
static int read_hex(struct reader *r) {
    int n = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        if (r->at == r->end) return -1;
        char c = *r->at;
        if (c >= '0' && c <= '9') n = n * 16 + c - '0';
        else if ((c | 32) >= 'a' && (c | 32) <= 'f') n = n * 16 + (c | 32) - 'a' + 10;
        else return -1;
    }
    return n;
}

// Behind the backslash.
static bool read_escape(struct reader *r, bool is_name) {
    if (r->at == r->end) return false;
    char c = *r->at++;
    if (c != 'u') return c && strchr("\"\\/bfnrt", c);
    int n = read_hex(r);
    if (n < 0 || (n == 0 && is_name)) return false;
    if (n < 0xd800 || n > 0xdfff) return true;
    if (n > 0xdbff || !take(r, '\\') || !take(r, 'u')) return false;
    n = read_hex(r);
    return n >= 0xdc00 && n <= 0xdfff;
}

// UTF-8 was checked before, for the whole text.
static bool read_string(struct reader *r, bool is_name) {
    if (!take(r, '"')) return false;
    while (r->at < r->end) {
        char c = *r->at++;
        if (c == '"') return true;
        if (c == '\\' ? !read_escape(r, is_name) : (unsigned char)c < 0x20) return false;
    }
    return false;
}

static size_t read_digits(struct reader *r) {
    const char *from = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return (size_t)(r->at - from);
}

static bool is_finite(const char *from, size_t len) {
    char text[NUMBER_MAX + 1];
    if (len > NUMBER_MAX) return false;
    memcpy(text, from, len);
    text[len] = '\0';
    return __builtin_isfinite(strtod(text, NULL));
}

static bool read_number(struct reader *r) {
    const char *from = r->at;
    bool exponent = false;
    take(r, '-');
    if (!take(r, '0') && read_digits(r) == 0) return false;
    if (take(r, '.') && read_digits(r) == 0) return false;
    if (r->at < r->end && (*r->at | 32) == 'e') {
        exponent = true;
        r->at++;
        if (!take(r, '+')) take(r, '-');
        if (read_digits(r) == 0) return false;
    }
    size_t len = (size_t)(r->at - from);
    return (!exponent && len < 300) || is_finite(from, len);
}

static bool read_word(struct reader *r, const char *word) {
    size_t n = strlen(word);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0) return false;
    r->at += n;
    return true;
}

// The members of an object or a list, behind its opening.
static bool read_members(struct reader *r, bool object) {
    char closing = object ? '}' : ']';
    skip_blanks(r);
    if (take(r, closing)) return true;
    do {
        if (object) {
            skip_blanks(r);
            if (!read_string(r, true)) return false;
            skip_blanks(r);
            if (!take(r, ':')) return false;
        }
        if (!read_value(r)) return false;
        skip_blanks(r);
    } while (take(r, ','));
    return take(r, closing);
}

static bool read_value(struct reader *r) {
    skip_blanks(r);
    if (r->at == r->end) return false;
    switch (*r->at) {
    case '{':
    case '[': {
        bool object = *r->at++ == '{';
        bool good = ++r->depth <= DEPTH_MAX && read_members(r, object);
        r->depth--;
        return good;
    }
    case '"': return read_string(r, false);
    case 't': return read_word(r, "true");
    case 'f': return read_word(r, "false");
    case 'n': return read_word(r, "null");
    default: return read_number(r);
    }
}

bool shape_is_json(struct str bytes) {
    struct reader r = {.at = bytes.data, .end = bytes.data + bytes.len};
    if (bytes.len == 0 || !read_value(&r)) return false;
    skip_blanks(&r);
    return r.at == r.end && text_is_utf8(bytes);
}
