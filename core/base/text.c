// SPDX-License-Identifier: Apache-2.0
// JSON is written on the way of every record, so its plain bytes are copied eight at a time into room that was made before.
#include "core/base/text.h"

#include <ctype.h>
#include <endian.h>
#include <stdint.h>

// Length of the well-formed UTF-8 character at the start of s, or 0 (table 3-7 of the Unicode standard).
static size_t utf8_char(struct str s) {
    const uint8_t *p = (const uint8_t *)s.data;
    if (s.len == 0) return 0;
    if (p[0] < 0x80) return 1;
    size_t n = p[0] >= 0xc2 && p[0] <= 0xdf ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : 0;
    if (n == 0 || s.len < n) return 0;
    uint8_t low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    uint8_t high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high) return 0;
    for (size_t i = 2; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return n;
}

static struct str skip(struct str s, size_t n) {
    return (struct str){s.data + n, s.len - n};
}

bool text_is_utf8(struct str s) {
    while (s.len) {
        size_t n = utf8_char(s);
        if (n == 0) return false;
        s = skip(s, n);
    }
    return true;
}

// The next character of s as clean text, and how many bytes of s it stands for.
static struct str next_clean(struct str s, size_t *ret_used) {
    size_t n = utf8_char(s);
    *ret_used = n ? n : 1;
    if (n == 0 || s.data[0] == '\0') return STR_LIT("\xef\xbf\xbd");
    return (struct str){s.data, n};
}

int text_append_clean(struct buf *out, struct str s, size_t max_bytes) {
    size_t used, put = 0;
    int rc = 0;
    for (; s.len && rc == 0; s = skip(s, used)) {
        struct str c = next_clean(s, &used);
        if (put + c.len > max_bytes) break;
        put += c.len;
        rc = buf_append(out, c);
    }
    return rc;
}

// A JSON escape is at most six bytes: \u001f.
static struct str json_escape(struct str c, char escape[8]) {
    unsigned char b = (unsigned char)c.data[0];
    if (c.len > 1 || (b >= 0x20 && b != '"' && b != '\\')) return c;
    switch (b) {
    case '"': return STR_LIT("\\\"");
    case '\\': return STR_LIT("\\\\");
    case '\n': return STR_LIT("\\n");
    case '\r': return STR_LIT("\\r");
    case '\t': return STR_LIT("\\t");
    default: break;
    }
    snprintf(escape, 8, "\\u%04x", b);
    return (struct str){escape, 6};
}

#define ONES UINT64_C(0x0101010101010101)
#define HIGHS UINT64_C(0x8080808080808080)

// How many of the eight bytes at p, from the first on, stand for themselves in JSON: nearly all bytes do. The bits that a
// subtraction borrows lie above the first byte that is meant, so the lowest bit that is set tells (Mycroft's test).
static size_t plain_of_eight(uint64_t little_endian) {
    uint64_t w = little_endian, quote = w ^ (ONES * '"'), backslash = w ^ (ONES * '\\');
    uint64_t not_plain = (w | (w - ONES * 0x20) | (quote - ONES) | (backslash - ONES)) & HIGHS;
    return not_plain ? (size_t)__builtin_ctzll(not_plain) / 8 : 8;
}

#define CHUNK 512u   // bytes of s for which room is made at once
#define LONGEST 6u   // bytes that one byte can become
#define WORD 8u      // bytes that are written together, and so may be written past what counts

// Copies plain bytes from s to *to; how many. There are s.len + WORD bytes of room.
static size_t copy_plain(struct str s, char *to) {
    size_t n = 0;
    while (s.len - n >= WORD) {
        uint64_t w;
        memcpy(&w, s.data + n, WORD);
        memcpy(to + n, &w, WORD);
        size_t plain = plain_of_eight(le64toh(w));
        n += plain;
        if (plain < WORD) return n;
    }
    for (; n < s.len && s.data[n] >= 0x20 && s.data[n] < 0x7f && s.data[n] != '"' && s.data[n] != '\\'; n++) to[n] = s.data[n];
    return n;
}

// Appends at least CHUNK bytes of s, or all; how many, or 0 when there is no room for the worst case.
static size_t append_chunk(struct buf *out, struct str s) {
    size_t chunk = s.len < CHUNK ? s.len : CHUNK, from = 0, put = 0;
    char *to = buf_reserve(out, LONGEST * chunk + WORD);
    if (!to) return 0;
    while (from < chunk) {
        size_t plain = copy_plain((struct str){s.data + from, chunk - from}, to + put);
        from += plain;
        put += plain;
        if (from == chunk) break;
        if (s.data[from] == '"' || s.data[from] == '\\') { // by far the most frequent
            to[put++] = '\\';
            to[put++] = s.data[from++];
            continue;
        }
        char escape[8];
        size_t used;
        struct str c = json_escape(next_clean(skip(s, from), &used), escape);
        memcpy(to + put, c.data, c.len);
        from += used;
        put += c.len;
    }
    buf_added(out, put);
    return from;
}

static int append_exactly(struct buf *out, struct str s) {
    int rc = 0;
    while (s.len && rc == 0) {
        char escape[8];
        size_t used;
        rc = buf_append(out, json_escape(next_clean(s, &used), escape));
        s = skip(s, used);
    }
    return rc;
}

int text_append_json(struct buf *out, struct str s) {
    int rc = buf_append(out, STR_LIT("\""));
    while (s.len && rc == 0) {
        size_t used = append_chunk(out, s);
        if (used) {
            s = skip(s, used);
        } else {
            rc = append_exactly(out, s);
            break;
        }
    }
    return rc ? rc : buf_append(out, STR_LIT("\""));
}

// --- the nearest name ---------------------------------------------------------------------------------------------------

static size_t least(size_t a, size_t b, size_t c) {
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

static bool same_letter(char a, char b) {
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

// Optimal string alignment, with the last two rows of the table and the one in work.
size_t text_distance(const char *a, const char *b) {
    size_t rows[3][TEXT_DISTANCE_MAX + 1];
    size_t a_len = strnlen(a, TEXT_DISTANCE_MAX), b_len = strnlen(b, TEXT_DISTANCE_MAX);
    size_t *before = rows[0], *last = rows[1], *row = rows[2];
    for (size_t j = 0; j <= b_len; j++) last[j] = before[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            row[j] = least(last[j] + 1, row[j - 1] + 1, last[j - 1] + !same_letter(a[i - 1], b[j - 1]));
            bool swapped = i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) && same_letter(a[i - 2], b[j - 1]);
            if (swapped && before[j - 2] + 1 < row[j]) row[j] = before[j - 2] + 1;
        }
        size_t *spare = before;
        before = last;
        last = row;
        row = spare;
    }
    return last[b_len];
}

struct text_nearest text_nearest_init(const char *given) {
    return (struct text_nearest){.given = given, .distance = strnlen(given, TEXT_DISTANCE_MAX) / 3 + 2};
}

bool text_nearest_offer(struct text_nearest *n, const char *name) {
    size_t distance = text_distance(n->given, name);
    if (distance >= n->distance) return false;
    n->distance = distance;
    n->name = name;
    return true;
}

bool text_is_similar(const char *given, const char *name, size_t *ret_rank) {
    size_t distance = text_distance(given, name), len = strnlen(given, TEXT_DISTANCE_MAX);
    bool within = len >= 4 && (strcasestr(name, given) || (strlen(name) >= 4 && strcasestr(given, name)));
    if (distance > 1 + len / 4 && !within) return false;
    *ret_rank = distance;
    return true;
}
