// SPDX-License-Identifier: Apache-2.0
#include "cli/out.h"

#include <inttypes.h>
#include <stdarg.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/commands.h"
#include "core/base/clock.h"

// --- terminals ----------------------------------------------------------------------------------------------------

bool out_is_terminal(FILE *f) {
    return isatty(fileno(f)) == 1;
}

const char *out_tone(FILE *f, enum tone tone) {
    static const char *const escapes[] = {
        [TONE_PLAIN] = "\033[0m", [TONE_GOOD] = "\033[32m", [TONE_WARN] = "\033[33m",
        [TONE_BAD] = "\033[31m",  [TONE_DIM] = "\033[2m",   [TONE_BOLD] = "\033[1m",
    };
    const char *no_color = getenv("NO_COLOR"); // no-color.org
    const char *term = getenv("TERM");
    if ((no_color && *no_color) || (term && strcmp(term, "dumb") == 0) || !out_is_terminal(f)) return "";
    return escapes[tone];
}

size_t out_columns(FILE *f) {
    struct winsize size;
    if (!out_is_terminal(f) || ioctl(fileno(f), TIOCGWINSZ, &size) < 0) return 0;
    return size.ws_col;
}

bool out_is_utf8(void) {
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"}; // the first that is set counts
    for (size_t i = 0; i < array_len(names); i++) {
        const char *value = getenv(names[i]);
        if (value && *value) return strcasestr(value, "utf-8") || strcasestr(value, "utf8");
    }
    return false;
}

static unsigned char byte_at(struct str text, size_t i) {
    return i < text.len ? (unsigned char)text.data[i] : 0;
}

// Bytes of the control character that begins there: C0, DEL, C1 (0xC2 0x80…0x9F), and those that turn the direction of text (U+202A…202E,
// U+2066…2069), which could make a line read as another. 0: none.
static size_t control_bytes(struct str text, size_t i) {
    unsigned char c = byte_at(text, i), second = byte_at(text, i + 1), third = byte_at(text, i + 2);
    if (c == '\t' || c == '\n') return 0;
    if (c < 0x20 || c == 0x7f) return 1;
    if (c == 0xc2 && second >= 0x80 && second < 0xa0) return 2;
    if (c == 0xe2 && second == 0x80 && third >= 0xaa && third <= 0xae) return 3;
    return c == 0xe2 && second == 0x81 && third >= 0xa6 && third <= 0xa9 ? 3 : 0;
}

void out_text(FILE *f, struct str text) {
    if (!out_is_terminal(f)) {
        if (text.len) fwrite(text.data, 1, text.len, f);
        return;
    }
    for (size_t i = 0; i < text.len;) {
        size_t bad = control_bytes(text, i);
        fputc(bad ? '?' : text.data[i], f);
        i += bad ? bad : 1;
    }
}

void out_block(FILE *f, const char *indent, struct str text) {
    while (text.len) {
        const char *end = memchr(text.data, '\n', text.len);
        size_t n = end ? (size_t)(end - text.data) : text.len;
        fputs(indent, f);
        out_text(f, (struct str){text.data, n});
        fputc('\n', f);
        n += end != NULL;
        text = (struct str){text.data + n, text.len - n};
    }
}

// --- messages -----------------------------------------------------------------------------------------------------

static bool progress_shown;

static void progress_wipe(void) {
    if (progress_shown) fputs("\r\033[K", stderr);
    progress_shown = false;
}

// head: what the tone is for; NULL: the whole text
static void say(const char *head, enum tone tone, const char *fmt, va_list ap) {
    char *text = NULL;
    MUST(vasprintf(&text, fmt, ap) >= 0);
    fflush(stdout);
    progress_wipe();
    fputs(out_tone(stderr, tone), stderr);
    if (head) fprintf(stderr, "%s%s", head, out_tone(stderr, TONE_PLAIN));
    struct str shown = str_of(text);
    while (shown.len && shown.data[shown.len - 1] == '\n') shown.len--;
    out_text(stderr, shown);
    fprintf(stderr, "%s\n", head ? "" : out_tone(stderr, TONE_PLAIN));
    free(text);
}

int out_fail(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    say("weir: ", TONE_BAD, fmt, ap);
    va_end(ap);
    return EXIT_FAILED;
}

int out_misuse(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    say("weir: ", TONE_BAD, fmt, ap);
    va_end(ap);
    return EXIT_MISUSE;
}

void out_note(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    say(NULL, TONE_DIM, fmt, ap);
    va_end(ap);
}

void out_more(int64_t shown) {
    if (shown == 1) out_note("there are more than this one: --limit N");
    else out_note("there are more than these %" PRId64 ": --limit N", shown);
}

void out_progress(const char *fmt, ...) {
    if (!out_is_terminal(stderr)) return;
    progress_wipe();
    if (!fmt) return;
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fflush(stderr);
    progress_shown = true;
}

bool out_confirm(const char *fmt, ...) {
    if (!out_is_terminal(stdin) || !out_is_terminal(stderr)) return true;
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputs(" [y/N] ", stderr);
    char answer[16];
    if (!fgets(answer, sizeof answer, stdin)) return false;
    return answer[0] == 'y' || answer[0] == 'Y';
}

// --- values -------------------------------------------------------------------------------------------------------

static void dump(const json_t *value, size_t flags) {
    char *text = json_dumps(value, flags | JSON_ENCODE_ANY);
    MUST(text);
    puts(text);
    free(text);
}

void out_json(const json_t *value) {
    dump(value, JSON_INDENT(2));
}

void out_json_line(const json_t *value) {
    dump(value, JSON_COMPACT);
}

const char *out_number(int64_t n, char out[OUT_NUMBER_BYTES]) {
    char digits[OUT_NUMBER_BYTES];
    size_t len = (size_t)snprintf(digits, sizeof digits, "%" PRId64, n), at = 0;
    for (size_t i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0) out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = '\0';
    return out;
}

const char *out_span(int64_t ms, char out[OUT_SHORT_BYTES]) {
    static const struct {
        int64_t ms, below;
        const char *unit;
    } units[] = {{1, 1000, "ms"}, {1000, 120000, "s"}, {60000, 7200000, "m"}, {3600000, 172800000, "h"}, {86400000, INT64_MAX, "d"}};
    if (ms < 0) ms = 0;
    size_t i = 0;
    while (ms >= units[i].below) i++;
    snprintf(out, OUT_SHORT_BYTES, "%lld%s", (long long)(ms / units[i].ms), units[i].unit);
    return out;
}

const char *out_age(int64_t unix_ms, char out[OUT_SHORT_BYTES]) {
    if (unix_ms <= 0) return strcpy(out, "-");
    int64_t ms = clock_unix_ms() - unix_ms;
    return ms < 1000 ? strcpy(out, "0s") : out_span(ms, out);
}

const char *out_size(int64_t bytes, char out[OUT_SHORT_BYTES]) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double n = (double)bytes;
    size_t i = 0;
    for (; n >= 999.5 && i + 1 < array_len(units); i++) n /= 1000;
    snprintf(out, OUT_SHORT_BYTES, "%.*f %s", i > 0 && n < 9.95 ? 1 : 0, n, units[i]);
    return out;
}

char *out_cut(const char *text, size_t width) {
    size_t end = 0, shown = 0, fits = 0; // fits: bytes of the first width - 1 characters
    for (; text[end] && text[end] != '\n'; end++) {
        if (((unsigned char)text[end] & 0xc0) == 0x80) continue;
        if (shown + 1 == width) fits = end;
        if (shown++ == width) break;
    }
    if (!text[end]) return mem_strdup(text);
    return mem_printf("%.*s…", (int)(shown > width ? fits : end), text);
}

// --- tables -------------------------------------------------------------------------------------------------------

struct table_cell {
    char *text;
    enum tone tone;
};

void table_init(struct table *t, const char *const titles[]) {
    *t = (struct table){0};
    for (; titles[t->columns]; t->columns++) {
        MUST(t->columns < TABLE_COLUMNS_MAX);
        const char *title = titles[t->columns];
        t->right[t->columns] = title[0] == '>';
        t->titles[t->columns] = title + (title[0] == '>');
    }
}

void table_add(struct table *t, enum tone tone, const char *fmt, ...) {
    if (t->cells == t->room) {
        t->room = t->room ? t->room * 2 : 64;
        t->cell = mem_realloc(t->cell, t->room * sizeof *t->cell);
    }
    struct table_cell *cell = &t->cell[t->cells++];
    cell->tone = tone;
    va_list ap;
    va_start(ap, fmt);
    MUST(vasprintf(&cell->text, fmt, ap) >= 0);
    va_end(ap);
    for (char *c = cell->text; *c; c++) // a cell is one line
        if (*c == '\n' || *c == '\t' || *c == '\r') *c = ' ';
}

// Characters, not bytes: UTF-8 continuation bytes take no room.
static size_t width_of(const char *text) {
    size_t n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void print_cell(const struct table *t, size_t column, size_t width, const char *text, enum tone tone) {
    size_t gap = width - width_of(text);
    bool last = column + 1 == t->columns;
    if (t->right[column]) printf("%*s", (int)gap, "");
    if (tone != TONE_PLAIN) fputs(out_tone(stdout, tone), stdout);
    out_text(stdout, str_of(text));
    if (tone != TONE_PLAIN) fputs(out_tone(stdout, TONE_PLAIN), stdout);
    if (!t->right[column] && !last) printf("%*s", (int)gap, "");
    fputs(last ? "\n" : "  ", stdout);
}

#define CUT_COLUMN_LEAST 12 // no shorter than such a column's title

// Leaves to the column that may be cut what the terminal has left.
static void cut_column(const struct table *t, size_t *width) {
    size_t room = out_columns(stdout), cut = 0;
    if (!t->cut || room == 0) return;
    while (strcmp(t->titles[cut], t->cut) != 0) MUST(++cut < t->columns);
    for (size_t c = 0; c < t->columns; c++)
        if (c != cut) room = room > width[c] + 2 ? room - width[c] - 2 : 0;
    if (room < CUT_COLUMN_LEAST) room = CUT_COLUMN_LEAST;
    if (room < width[cut]) width[cut] = room;
}

void table_print(struct table *t) {
    size_t width[TABLE_COLUMNS_MAX];
    for (size_t c = 0; c < t->columns; c++) width[c] = width_of(t->titles[c]);
    for (size_t i = 0; i < t->cells; i++) {
        size_t n = width_of(t->cell[i].text);
        if (n > width[i % t->columns]) width[i % t->columns] = n;
    }
    cut_column(t, width);
    for (size_t c = 0; c < t->columns; c++) print_cell(t, c, width[c], t->titles[c], TONE_BOLD);
    for (size_t i = 0; i < t->cells; i++) {
        cleanup_free char *text = out_cut(t->cell[i].text, width[i % t->columns]);
        print_cell(t, i % t->columns, width[i % t->columns], text, t->cell[i].tone);
        free(t->cell[i].text);
    }
    free(t->cell);
    *t = (struct table){0};
}
