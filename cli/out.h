// SPDX-License-Identifier: Apache-2.0
// What the commands print: tables, colours, ages and sizes, JSON, errors.
//
// Does not: trust text that came from a function or a server; control characters never reach a terminal.
// Errors: messages go to stderr and begin with "weir:". Threads: one.
#ifndef CLI_OUT_H
#define CLI_OUT_H

#include <jansson.h>
#include <stdint.h>

#include "core/base/mem.h"

enum tone { TONE_PLAIN, TONE_GOOD, TONE_WARN, TONE_BAD, TONE_DIM, TONE_BOLD };

bool out_is_terminal(FILE *f);
// The escape sequence that begins the tone (TONE_PLAIN ends it), "" when f shows no colours (no terminal, NO_COLOR).
const char *out_tone(FILE *f, enum tone tone);
size_t out_columns(FILE *f);     // of the terminal; 0 when f is none
bool out_is_utf8(void);          // by the locale of the environment
// Text from elsewhere: control characters but tab and line feed become '?' when f is a terminal.
void out_text(FILE *f, struct str text);
// The same, each line behind `indent`; ends with a line feed.
void out_block(FILE *f, const char *indent, struct str text);

int out_fail(const char *fmt, ...) printf_like(1, 2);   // says it on stderr; returns 1
int out_misuse(const char *fmt, ...) printf_like(1, 2); // says it on stderr; returns 2
void out_note(const char *fmt, ...) printf_like(1, 2);  // a hint on stderr
void out_more(int64_t shown);                           // the hint that a list goes on
// The one line that shows how far it is, rewritten in place; nothing when stderr is no terminal. NULL wipes it.
void out_progress(const char *fmt, ...) printf_like(1, 2);
// Asks on the terminal; true without asking when stdin or stderr is none.
bool out_confirm(const char *fmt, ...) printf_like(1, 2);

void out_json(const json_t *value);      // stdout, indented
void out_json_line(const json_t *value); // stdout, in one line

#define OUT_SHORT_BYTES 24
#define OUT_NUMBER_BYTES 32
const char *out_number(int64_t n, char out[OUT_NUMBER_BYTES]); // 39,600; not negative
// 340ms, 12s, 5m, 3h, 12d
const char *out_span(int64_t ms, char out[OUT_SHORT_BYTES]);
// The span since then; "-" for 0 (no such time).
const char *out_age(int64_t unix_ms, char out[OUT_SHORT_BYTES]);
// 812 B, 1.2 kB, 64 MB
const char *out_size(int64_t bytes, char out[OUT_SHORT_BYTES]);
// The first line of the text, at most `width` characters; "…" stands for what was cut off. Caller frees.
char *out_cut(const char *text, size_t width) must_use;
// "1 letter", "2 letters": the letter s when n is not 1
static inline const char *plural(int64_t n) {
    return n == 1 ? "" : "s";
}

#define TABLE_COLUMNS_MAX 12
struct table {
    const char *titles[TABLE_COLUMNS_MAX];
    bool right[TABLE_COLUMNS_MAX];
    size_t columns, cells, room;
    const char *cut; // title of the column that is cut so that rows fit the terminal; NULL: none
    struct table_cell *cell;
};
// titles: ended by NULL; '>' before one aligns its column to the right. At most TABLE_COLUMNS_MAX.
void table_init(struct table *t, const char *const titles[]);
// Cells come in reading order; a row ends by itself.
void table_add(struct table *t, enum tone tone, const char *fmt, ...) printf_like(3, 4);
void table_print(struct table *t); // to stdout; also frees

#endif
