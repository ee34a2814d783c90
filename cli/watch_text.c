// SPDX-License-Identifier: Apache-2.0
// Text from anywhere as columns of a terminal: what is printed takes exactly the columns that it is said to take.
#include <stdarg.h>
#include <wchar.h>

#include "cli/watch.h"

#define TAB_COLUMNS 8
#define LINES_MAX 20000
#define MARKS_MAX 3 // combining characters that one character may carry; a cell of ncurses holds no more than four
#define REPLACEMENT 0xfffd

// --- characters ---------------------------------------------------------------------------------------------------

// The code point that s begins with (RFC 3629) and its bytes; a broken byte is U+FFFD.
static size_t decode(const char *s, uint32_t *ret) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *b = (const unsigned char *)s;
    size_t n = *b < 0x80 ? 1 : (*b & 0xe0) == 0xc0 ? 2 : (*b & 0xf0) == 0xe0 ? 3 : (*b & 0xf8) == 0xf0 ? 4 : 0;
    uint32_t c = n == 1 ? *b : *b & (0x7fu >> n);
    *ret = REPLACEMENT;
    if (n == 0) return 1;
    for (size_t i = 1; i < n; i++) {
        if ((b[i] & 0xc0) != 0x80) return 1;
        c = c << 6 | (b[i] & 0x3f);
    }
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return 1;
    *ret = c;
    return n;
}

// Invisible characters that turn text around, join characters into one, or choose how wide one is: terminals disagree about them.
static bool is_invisible(uint32_t c) {
    static const struct {
        uint32_t first, last;
    } ranges[] = {{0xad, 0xad},     {0x61c, 0x61c},   {0x115f, 0x1160}, {0x180b, 0x180f},   {0x200b, 0x200f},   {0x2028, 0x202e},
                  {0x2060, 0x206f}, {0xfe00, 0xfe0f}, {0xfeff, 0xfeff}, {0xfff0, 0xfffb}, {0xe0000, 0xe0fff}};
    for (size_t i = 0; i < array_len(ranges); i++)
        if (c >= ranges[i].first && c <= ranges[i].last) return true;
    return false;
}

// Columns of the character, which is replaced when it cannot be shown; -1: leave it out.
static int columns_of(uint32_t *c) {
    if (*c < 0x20 || (*c >= 0x7f && *c < 0xa0)) {
        *c = '?';
        return 1;
    }
    if (is_invisible(*c)) return -1;
    int n = wcwidth((wchar_t)*c);
    if (n >= 0) return n;
    *c = REPLACEMENT;
    return 1;
}

char *watch_encode(char *at, uint32_t c) {
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    *at++ = (char)(n == 1 ? c : (0xff00u >> n) | c >> (6 * (n - 1)));
    while (--n > 0) *at++ = (char)(0x80 | (c >> (6 * (n - 1)) & 0x3f));
    return at;
}

// --- one line -----------------------------------------------------------------------------------------------------

struct cut {
    size_t skip, width;
    size_t column;      // of the text, the next one
    char *out, *at;
    char *last;         // where what stands in the last column begins
    size_t shown;       // columns in `out`
    size_t last_column; // before `last`
    int marks;          // on the last character; MARKS_MAX: it is full, or there is none
};

// false: it does not fit any more.
static bool put(struct cut *c, uint32_t character, size_t columns) {
    if (columns == 0) {
        if (c->marks++ < MARKS_MAX) c->at = watch_encode(c->at, character);
        return true;
    }
    size_t begin = c->column;
    c->column += columns;
    c->marks = MARKS_MAX;
    if (c->column <= c->skip) return true;
    if (begin < c->skip) character = ' ', columns = c->column - c->skip; // half of a wide one
    if (c->shown + columns > c->width) return false;
    if (c->shown + columns == c->width) c->last = c->at, c->last_column = c->shown;
    c->at = watch_encode(c->at, character);
    c->shown += columns;
    if (character != ' ') c->marks = 0;
    return true;
}

static bool put_text(struct cut *c, const char *text) {
    while (*text) {
        uint32_t character;
        text += decode(text, &character);
        if (character == '\t') {
            do {
                if (!put(c, ' ', 1)) return false;
            } while (c->column % TAB_COLUMNS);
            continue;
        }
        int columns = columns_of(&character);
        if (columns >= 0 && !put(c, character, (size_t)columns)) return false;
    }
    return true;
}

// Puts "…" in place of the last column; a wide character there leaves a blank behind.
static void end_with_ellipsis(struct cut *c) {
    if (c->width == 0) return;
    if (c->shown == c->width) {
        c->at = c->last;
        c->shown = c->last_column;
    }
    while (c->shown + 1 < c->width) c->at = watch_encode(c->at, ' '), c->shown++;
    c->at = watch_encode(c->at, 0x2026);
    c->shown++;
}

size_t watch_clean(const char *text, size_t skip, size_t width, char **ret) {
    // A column has a character and its marks, of four bytes each.
    struct cut c = {.skip = skip, .width = width, .marks = MARKS_MAX, .out = mem_alloc((width + 1) * 4 * (1 + MARKS_MAX) + 1)};
    c.at = c.last = c.out;
    if (!put_text(&c, text)) end_with_ellipsis(&c);
    *c.at = '\0';
    *ret = c.out;
    return c.shown;
}

// --- lines --------------------------------------------------------------------------------------------------------

static void take_line(struct lines *l, enum tone tone, char *text) {
    if (l->count >= LINES_MAX) {
        free(text);
        return;
    }
    if (l->count == l->room) {
        l->room = l->room ? 2 * l->room : 64;
        l->list = mem_realloc(l->list, l->room * sizeof *l->list);
    }
    l->list[l->count++] = (struct line){tone, text};
}

void lines_add(struct lines *l, enum tone tone, const char *fmt, ...) {
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    MUST(vasprintf(&text, fmt, ap) >= 0);
    va_end(ap);
    for (char *c = text; *c; c++)
        if (*c == '\n') *c = ' ';
    take_line(l, tone, text);
}

void lines_add_block(struct lines *l, enum tone tone, const char *indent, struct str text) {
    while (text.len) {
        const char *end = memchr(text.data, '\n', text.len);
        size_t n = end ? (size_t)(end - text.data) : text.len;
        take_line(l, tone, mem_printf("%s%.*s", indent, (int)n, text.data));
        n += end != NULL;
        text = (struct str){text.data + n, text.len - n};
    }
}

void lines_clear(struct lines *l) {
    for (size_t i = 0; i < l->count; i++) free(l->list[i].text);
    free(l->list);
    *l = (struct lines){0};
}
