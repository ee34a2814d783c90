// SPDX-License-Identifier: Apache-2.0
// Masking in plain text: `password=x`, "password": "x", \"password\":\"x\", 'password' => 'x', ?password=x&, Password: x.
//
// There is no grammar that all such texts follow, so where it is doubtful how far a value goes, the longer one is masked: an open quote or
// bracket that nothing closes masks all that follows. A name counts when no letter, digit or _ stands in front of it, except the end of an
// escape (\npassword=x). One pass: whatever is looked at more than once is bounded by LOOK_BYTES or is passed over then.
#include <ctype.h>

#include "core/redact_impl.h"

#define LOOK_BYTES 1000

struct place { // what the mask stands for
    size_t from, to;
};

static char byte_at(struct str t, size_t at) {
    return at < t.len ? t.data[at] : '\0';
}

static bool is_one_of(char c, const char *set) {
    return c && strchr(set, c);
}

static bool is_word(char c) {
    return isalnum((unsigned char)c) || c == '_';
}

static bool is_line_end(char c) {
    return c == '\n' || c == '\r';
}

static size_t past_any(struct str t, size_t at, const char *set) {
    while (is_one_of(byte_at(t, at), set)) at++;
    return at;
}

// ---- in front of a name ------------------------------------------------------------------------------------------------------

static bool are_hex(struct str t, size_t from, size_t to) {
    for (; from < to; from++)
        if (!isxdigit((unsigned char)t.data[from])) return false;
    return true;
}

// Is the letter or digit before `at` the end of \n, \x0a, \u000a, %0a or of a terminal's colour (ESC[36m)?
static bool is_after_escape(struct str t, size_t at) {
    if (at >= 2 && t.data[at - 2] == '\\') return true;
    if (at >= 3 && t.data[at - 3] == '%' && are_hex(t, at - 2, at)) return true;
    if (at >= 4 && t.data[at - 4] == '\\' && t.data[at - 3] == 'x' && are_hex(t, at - 2, at)) return true;
    if (at >= 6 && t.data[at - 6] == '\\' && t.data[at - 5] == 'u' && are_hex(t, at - 4, at)) return true;
    size_t from = at - 1;
    while (from > 0 && at - from < 16 && is_one_of(t.data[from - 1], "0123456789;")) from--;
    return t.data[at - 1] == 'm' && from > 0 && t.data[from - 1] == '[';
}

static bool begins_name(struct str t, size_t at) {
    return at == 0 || !is_word(t.data[at - 1]) || is_after_escape(t, at);
}

static bool is_first_on_line(struct str t, size_t at) {
    while (at > 0 && is_one_of(t.data[at - 1], " \t<>")) at--;
    return at == 0 || is_line_end(t.data[at - 1]);
}

// ---- quotes and brackets ---------------------------------------------------------------------------------------------------

struct quote {
    size_t from, to;    // of its backslashes and the quote itself
    size_t backslashes; // in front of it: 0, 1 inside a string, 3 inside a string of a string, …
    char mark;
};

// A quote at `at`, with the backslashes that begin there.
static bool quote_at(struct str t, size_t at, struct quote *ret) {
    size_t end = past_any(t, at, "\\");
    if (!is_one_of(byte_at(t, end), "\"'`")) return false;
    *ret = (struct quote){at, end + 1, end - at, t.data[end]};
    return true;
}

// Where the text in `open` quotes ends, and where the text goes on after it. A quote with fewer backslashes closes it too: then the
// string around it ends. Nothing closes it: both are the end.
static struct place quoted(struct str t, struct quote open) {
    size_t at = open.to, k = open.backslashes;
    struct quote q;
    while (at < t.len) {
        if (!quote_at(t, at, &q)) {
            at = t.data[at] == '\\' ? past_any(t, at, "\\") : at + 1;
            continue;
        }
        at = q.to;
        if (q.mark != open.mark) continue;
        if (q.backslashes < k) return (struct place){q.from, q.from};
        if (q.backslashes % (2 * (k + 1)) != k) continue;                                 // it is escaped itself
        if (k == 0 && q.backslashes == 0 && byte_at(t, at) == open.mark && q.from > open.to) at++; // 'it''s'
        else return (struct place){q.to - 1 - k, q.to};
    }
    return (struct place){t.len, t.len};
}

// Behind the bracket that closes the one at `at`; 0: none does.
static size_t past_brackets(struct str t, size_t at) {
    size_t depth = 0;
    while (at < t.len) {
        struct quote q;
        char c = t.data[at];
        if (quote_at(t, at, &q)) {
            at = quoted(t, q).to;
            if (at < q.to) at = q.to;
            continue;
        }
        if (is_one_of(c, "([{")) depth++;
        if (is_one_of(c, ")]}") && --depth == 0) return at + 1;
        at = c == '\\' ? past_any(t, at, "\\") : at + 1;
    }
    return 0;
}

// ---- values ----------------------------------------------------------------------------------------------------------------

static size_t line_end(struct str t, size_t at) {
    while (at < t.len && !is_line_end(t.data[at])) at++;
    return at;
}

static bool goes_on(struct str t, size_t at) {
    char c = byte_at(t, at);
    return is_word(c) || (c & 0x80);
}

// b'…', u"…"
static bool is_prefix(struct str t, size_t from, size_t to) {
    return to - from <= 2 && past_any(t, from, "bBfFrRuU") >= to;
}

// Behind the brackets at `at`, which is in a value that began at `from`, and behind the string that PHP writes after its length: string(1) "x".
// 0: they are not closed, at least not near.
static size_t past_group(struct str t, size_t from, size_t at) {
    struct str near = {t.data, t.len - at > LOOK_BYTES ? at + LOOK_BYTES : t.len};
    size_t end = past_brackets(at == from ? t : near, at);
    if (end == 0) return at == from ? t.len : 0;
    struct quote q;
    bool counted = t.data[at] == '(' && end > at + 2 && past_any(t, at + 1, "0123456789") + 1 == end && byte_at(t, end) == ' ';
    return counted && quote_at(t, end + 1, &q) ? quoted(t, q).to : end;
}

// The end of a value without quotes. Quotes and closing brackets belong to what is around it, unless it goes on right after them.
static size_t past_bare(struct str t, size_t from) {
    const char *open = "([{";
    size_t at = from;
    while (at < t.len) {
        struct quote q;
        char c = t.data[at];
        if (is_one_of(c, " \t\r\n,;&") || c == '\0') break;
        if (is_one_of(c, open)) {
            size_t behind = past_group(t, from, at);
            if (!behind) open = ""; // one look is enough
            at = behind ? behind : at + 1;
        } else if (quote_at(t, at, &q)) {
            if (at > from && is_prefix(t, from, at)) return quoted(t, q).to;
            if (!goes_on(t, q.to)) break;
            at = q.to;
        } else if (is_one_of(c, ")]}") && !goes_on(t, at + 1)) {
            break;
        } else {
            at = c == '\\' ? past_any(t, at, "\\") : at + 1;
        }
    }
    return at;
}

// Bearer abc, Basic abc: the secret is the second word.
static bool is_scheme(struct str t, size_t from, size_t to) {
    static const char *const schemes[] = {"bearer",    "basic", "digest",           "negotiate",       "ntlm",
                                          "signature", "token", "aws4-hmac-sha256", "tc3-hmac-sha256", "apikey"};
    if (byte_at(t, to) != ' ') return false;
    for (size_t i = 0; i < array_len(schemes); i++)
        if (strlen(schemes[i]) == to - from && redact_same(schemes[i], t.data + from, to - from)) return true;
    return false;
}

static size_t trim(struct str t, size_t from, size_t to) {
    while (to > from && is_one_of(t.data[to - 1], " \t,;")) to--;
    return to;
}

// The value that begins at `from`. to_line_end: it is that of a header or a configuration, which has blanks in it.
static bool value_at(struct str t, size_t from, bool to_line_end, struct place *ret) {
    struct quote q;
    if (quote_at(t, from, &q)) {
        *ret = (struct place){q.to, quoted(t, q).from};
        return true;
    }
    *ret = (struct place){from, from};
    if (to_line_end && !is_one_of(byte_at(t, from), "([{")) {
        ret->to = trim(t, from, line_end(t, from));
    } else {
        ret->to = past_bare(t, from);
        if (is_scheme(t, from, ret->to))
            while (ret->to < t.len && !is_one_of(t.data[ret->to], "\"'`\r\n")) ret->to++;
    }
    return ret->to > from;
}

// ---- names -----------------------------------------------------------------------------------------------------------------

// Past what may stand between a name and its = or: quotes, backslashes, a bracket, a terminal's colour.
static size_t past_name_end(struct str t, size_t at) {
    for (;;) {
        size_t end = past_any(t, at, "\\\"'`]");
        if (byte_at(t, end) == '\x1b' && byte_at(t, end + 1) == '[') end = past_any(t, end + 2, "0123456789;") + 1;
        if (end == at) return at;
        if (end >= t.len) return t.len;
        at = end;
    }
}

// The value of the name that stands from `from` to `to`.
static bool secret_of(struct str t, size_t from, size_t to, struct place *ret) {
    size_t end = past_name_end(t, to);
    const char *blanks = end > to ? " \t\r\n" : " \t";
    size_t sign = past_any(t, end, blanks);
    char c = byte_at(t, sign);
    if ((c != '=' && c != ':') || (c == ':' && byte_at(t, sign + 1) == ':')) return false;
    size_t behind = past_any(t, sign + 1, "=>~");
    if (behind > sign + 1) blanks = " \t\r\n";
    size_t value = past_any(t, behind, blanks);
    bool alone = end == to && is_first_on_line(t, from);
    bool to_line_end = alone && value > behind && (c == ':' || sign > to);
    return value_at(t, value, to_line_end, ret);
}

static bool secret_at(const struct redact *r, struct str t, size_t at, struct place *ret) {
    if (!r->starts[(unsigned char)t.data[at]]) return false;
    for (size_t i = 0; i < r->count; i++) {
        struct str name = redact_last_member(r->names[i]);
        if (name.len > t.len - at || !redact_same(name.data, t.data + at, name.len)) continue;
        if (begins_name(t, at) && secret_of(t, at, at + name.len, ret)) return true;
    }
    return false;
}

bool redact_text(const struct redact *r, struct str text, struct buf *out) {
    size_t kept = 0;
    for (size_t at = 0; at < text.len;) {
        struct place secret;
        if (!secret_at(r, text, at, &secret)) {
            at++;
            continue;
        }
        redact_put(out, (struct str){text.data + kept, secret.from - kept});
        redact_put(out, STR_LIT(REDACT_MASK));
        at = kept = secret.to;
    }
    if (kept < text.len) redact_put(out, (struct str){text.data + kept, text.len - kept});
    return kept > 0;
}
