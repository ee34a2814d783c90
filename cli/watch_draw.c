// SPDX-License-Identifier: Apache-2.0
// The model as a frame: a title, a line about the view, a list or a text, what came of the last key, and the keys or a question.
#include <inttypes.h>

#include "cli/client.h"
#include "cli/dlq.h"
#include "cli/watch.h"
#include "core/base/clock.h"

#define SPANS_MAX 20000
#define LEAST_ROWS 8
#define LEAST_COLS 40
#define WIDE_COLS 120
#define SPARK_COLS 12 // 24 when there is room
#define BAR_COLS 12
#define INPUT_LEAST 20 // columns
#define YES_OR_NO " [y/N] "

// --- the frame ----------------------------------------------------------------------------------------------------

void frame_init(struct frame *f, size_t rows, size_t cols) {
    *f = (struct frame){.rows = rows, .cols = cols};
}

void frame_done(struct frame *f) {
    for (size_t i = 0; i < f->count; i++) free(f->list[i].text);
    free(f->list);
    *f = (struct frame){0};
}

struct style {
    enum tone tone;
    bool reversed;
};

// The columns skip… of the text, at most width of them, filled up with blanks when it is reversed. Returns the columns it takes.
static size_t put(struct frame *f, size_t row, size_t col, size_t width, struct style style, const char *text, size_t skip) {
    if (row >= f->rows || col >= f->cols || f->count == SPANS_MAX) return 0;
    if (width > f->cols - col) width = f->cols - col;
    if (f->count == f->room) {
        f->room = f->room ? 2 * f->room : 128;
        f->list = mem_realloc(f->list, f->room * sizeof *f->list);
    }
    cleanup_free char *clean = NULL;
    size_t n = watch_clean(text, skip, width, &clean);
    char *shown = style.reversed ? mem_printf("%s%*s", clean, (int)(width - n), "") : TAKE_PTR(clean);
    f->list[f->count++] = (struct span){row, col, style.tone, style.reversed, shown};
    return n;
}

static const struct style plain = {TONE_PLAIN, false}, bold = {TONE_BOLD, false}, dim = {TONE_DIM, false}, bad = {TONE_BAD, false};

// --- tables -------------------------------------------------------------------------------------------------------

#define CELLS_MAX 9
struct column {
    const char *title;
    size_t width; // 0: what is left; of the last one
    bool right;
};
struct cell {
    enum tone tone;
    char *text; // owned
};

static void put_row(struct frame *f, size_t row, const struct column *columns, const struct cell *cells, bool chosen) {
    size_t col = 0;
    if (chosen) (void)put(f, row, 0, f->cols, (struct style){TONE_PLAIN, true}, "", 0);
    for (size_t i = 0; columns[i].title && col < f->cols; i++) {
        size_t width = columns[i].width ? columns[i].width : f->cols - col, shift = 0;
        struct style style = {cells[i].tone, chosen};
        cleanup_free char *clean = NULL;
        size_t n = watch_clean(cells[i].text, 0, width, &clean);
        if (columns[i].right && n < width) shift = width - n;
        (void)put(f, row, col + shift, n, style, clean, 0);
        col += width + 1;
    }
}

static void put_titles(struct frame *f, size_t row, const struct column *columns) {
    struct cell cells[CELLS_MAX];
    for (size_t i = 0; columns[i].title; i++) cells[i] = (struct cell){TONE_BOLD, (char *)(uintptr_t)columns[i].title};
    put_row(f, row, columns, cells, false);
}

static void free_cells(const struct column *columns, struct cell *cells) {
    for (size_t i = 0; columns[i].title; i++) free(cells[i].text);
}

// --- values -------------------------------------------------------------------------------------------------------

static char *age_text(int64_t unix_ms) {
    char age[OUT_SHORT_BYTES];
    return mem_strdup(out_age(unix_ms, age));
}

static char *number_text(int64_t n) {
    return mem_printf("%" PRId64, n);
}

// The counts in `width` marks, neighbours added up.
static char *spark_text(const json_t *counts, size_t width) {
    static const char *const blocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"}, *const ascii[] = {"_", ".", ":", "-", "=", "+", "*", "#"};
    const char *const *marks = out_is_utf8() ? blocks : ascii;
    size_t n = json_array_size(counts), steps = array_len(blocks) - 1, each = n > width ? (n + width - 1) / width : 1;
    double sums[64] = {0}, most = 0;
    if (n > array_len(sums)) n = array_len(sums);
    for (size_t i = 0; i < n; i++) sums[i / each] += json_number_value(json_array_get(counts, i));
    n = (n + each - 1) / each;
    for (size_t i = 0; i < n; i++) most = sums[i] > most ? sums[i] : most;
    char *text = mem_zalloc(n * strlen(blocks[0]) + 1), *at = text;
    for (size_t i = 0; i < n; i++) {
        size_t level = sums[i] > 0 ? 1 + (size_t)(sums[i] / most * (double)steps) : 0;
        at = stpcpy(at, marks[level > steps ? steps : level]);
    }
    return text;
}

static char *functions_text(const json_t *group) {
    const json_t *functions = json_object_get(group, "functions");
    const char *first = json_string_value(json_array_get(functions, 0));
    size_t n = json_array_size(functions);
    return n > 1 ? mem_printf("%s +%zu", first ? first : "-", n - 1) : mem_strdup(first ? first : "-");
}

static char *versions_text(const json_t *group) {
    int64_t first = member_int(group, "firstVersion", 0), last = member_int(group, "lastVersion", 0);
    if (last == 0) return mem_strdup("-");
    return first == last ? number_text(last) : mem_printf("%" PRId64 "-%" PRId64, first, last);
}

static char *group_title(const json_t *group) {
    const char *name = member_text(group, "name", "");
    cleanup_free char *error = dlq_error_text(group);
    return mem_printf("%s%s%s%s%s", member_true(group, "muted") ? "(muted) " : "", *name ? "[" : "", name, *name ? "] " : "", error);
}

static char *bar_text(int64_t done, int64_t total) {
    char bar[BAR_COLS + 1] = "[";
    size_t inner = BAR_COLS - 2, filled = total > 0 ? (size_t)((double)done / (double)total * (double)inner) : inner;
    for (size_t i = 0; i < inner; i++) bar[i + 1] = i < filled ? '#' : '-';
    bar[BAR_COLS - 1] = ']';
    bar[BAR_COLS] = '\0';
    return mem_strdup(bar);
}

// --- rows of lists ------------------------------------------------------------------------------------------------

typedef void cells_fn(const json_t *row, const struct column *columns, struct cell *cells);

static void group_cells(const json_t *group, const struct column *columns, struct cell *cells) {
    cells[0] = (struct cell){TONE_BOLD, number_text(member_int(group, "count", 0))};
    cells[1] = (struct cell){TONE_WARN, spark_text(json_object_get(group, "spark"), columns[1].width)};
    cells[2] = (struct cell){TONE_PLAIN, functions_text(group)};
    cells[3] = (struct cell){TONE_PLAIN, versions_text(group)};
    cells[4] = (struct cell){TONE_PLAIN, age_text(member_int(group, "firstMs", 0))};
    cells[5] = (struct cell){TONE_PLAIN, age_text(member_int(group, "lastMs", 0))};
    cells[6] = (struct cell){member_true(group, "muted") ? TONE_DIM : TONE_PLAIN, group_title(group)};
}

static void letter_cells(const json_t *letter, const struct column *columns, struct cell *cells) {
    const char *id = member_text(letter, "id", "?");
    size_t n = strlen(id), shown = columns[0].width;
    int64_t version = member_int(letter, "version", 0);
    const char *function = member_text(letter, "function", "?");
    cells[0] = (struct cell){TONE_BOLD, mem_strdup(n > shown ? id + n - shown : id)}; // its end tells it from its neighbours
    cells[1] = (struct cell){TONE_PLAIN, version ? mem_printf("%s:%" PRId64, function, version) : mem_strdup(function)};
    cells[2] = (struct cell){TONE_PLAIN, number_text(member_int(letter, "attempts", 0))};
    cells[3] = (struct cell){TONE_PLAIN, age_text(member_int(letter, "diedMs", member_int(letter, "changedMs", 0)))};
    cells[4] = (struct cell){TONE_DIM, mem_strdup(member_text(letter, "orderingKey", ""))};
    cells[5] = (struct cell){member_true(letter, "edited") ? TONE_WARN : TONE_PLAIN, dlq_error_text(letter)};
}

static enum tone replay_tone(const char *state) {
    if (strcmp(state, "aborted") == 0) return TONE_BAD;
    if (strcmp(state, "done") == 0) return TONE_GOOD;
    return strcmp(state, "cancelled") == 0 ? TONE_DIM : TONE_WARN;
}

static char *left_text(const json_t *replay) {
    char span[OUT_SHORT_BYTES];
    int64_t eta_ms = member_int(replay, "etaMs", -1);
    bool running = strcmp(member_text(replay, "state", ""), "running") == 0;
    return running && eta_ms >= 0 ? mem_strdup(out_span(eta_ms, span)) : mem_strdup("");
}

// "5 skipped, 2 not sent, orders:8" of those that there are; caller frees.
static char *notes_text(const json_t *replay) {
    const char *reason = member_text(replay, "reason", ""), *note = *reason ? reason : member_text(replay, "to", "");
    int64_t skipped = member_int(replay, "skipped", 0), failed = member_int(replay, "failed", 0);
    cleanup_free char *first = skipped ? mem_printf("%" PRId64 " skipped", skipped) : mem_strdup("");
    cleanup_free char *then = failed ? mem_printf("%s%" PRId64 " not sent", *first ? ", " : "", failed) : mem_strdup("");
    return mem_printf("%s%s%s%s", first, then, (skipped || failed) && *note ? ", " : "", note);
}

static void replay_cells(const json_t *replay, const struct column *columns, struct cell *cells) {
    (void)columns;
    const char *state = member_text(replay, "state", "?");
    int64_t total = member_int(replay, "total", 0), sent = member_int(replay, "sent", 0);
    int64_t failed = member_int(replay, "failing", 0) + member_int(replay, "dead", 0);
    bool running = strcmp(state, "running") == 0;
    cells[0] = (struct cell){TONE_BOLD, number_text(member_int(replay, "replay", 0))};
    cells[1] = (struct cell){replay_tone(state), mem_strdup(state)};
    cells[2] = (struct cell){TONE_PLAIN, bar_text(sent, total)};
    cells[3] = (struct cell){TONE_PLAIN, mem_printf("%" PRId64 "/%" PRId64, sent, total)};
    cells[4] = (struct cell){TONE_PLAIN, running ? mem_printf("%.0f/s", member_real(replay, "perSecond", 0)) : mem_strdup("")};
    cells[5] = (struct cell){TONE_GOOD, number_text(member_int(replay, "ok", 0))};
    cells[6] = (struct cell){failed ? TONE_BAD : TONE_PLAIN, number_text(failed)};
    cells[7] = (struct cell){TONE_PLAIN, left_text(replay)};
    cells[8] = (struct cell){TONE_DIM, notes_text(replay)};
}

// Scrolls so that the chosen row is among the `rows` that are shown.
static void scroll(struct view *v, size_t rows) {
    size_t n = json_array_size(v->rows);
    if (v->at < v->top) v->top = v->at;
    if (v->at >= v->top + rows) v->top = v->at - rows + 1;
    if (n <= rows) v->top = 0;
    else if (v->top > n - rows) v->top = n - rows;
}

static void draw_list(struct view *v, struct frame *f, size_t first, size_t rows, const struct column *columns, cells_fn *cells_of) {
    struct cell cells[CELLS_MAX + 1];
    size_t shown = rows - 1;
    scroll(v, shown);
    put_titles(f, first, columns);
    for (size_t i = v->top; i < json_array_size(v->rows) && i < v->top + shown; i++) {
        cells_of(json_array_get(v->rows, i), columns, cells);
        put_row(f, first + 1 + i - v->top, columns, cells, i == v->at);
        free_cells(columns, cells);
    }
}

static void draw_groups(struct view *v, struct frame *f, size_t first, size_t rows) {
    size_t more = f->cols >= WIDE_COLS;
    const struct column columns[] = {{"COUNT", 7, true}, {"24H", SPARK_COLS * (1 + more), false}, {"FUNCTION", 12 + 8 * more, false},
                                     {"VERS", 5, false}, {"FIRST", 5, true}, {"LAST", 5, true}, {"ERROR", 0, false}, {0}};
    draw_list(v, f, first, rows, columns, group_cells);
}

static void draw_letters(struct view *v, struct frame *f, size_t first, size_t rows) {
    size_t more = f->cols >= WIDE_COLS;
    const struct column columns[] = {{"ID", more ? 36 : 12, false}, {"FUNCTION", 14 + 8 * more, false}, {"TRIES", 5, true}, {"AGE", 5, true},
                                     {"KEY", 10 + 6 * more, false}, {"ERROR", 0, false}, {0}};
    draw_list(v, f, first, rows, columns, letter_cells);
}

static void draw_replays(struct view *v, struct frame *f, size_t first, size_t rows) {
    static const struct column columns[] = {{"NO", 4, true}, {"STATE", 9, false}, {"PROGRESS", BAR_COLS, false}, {"SENT", 11, true},
                                            {"RATE", 6, true}, {"OK", 6, true}, {"FAILED", 6, true}, {"LEFT", 5, true}, {"TO", 0, false}, {0}};
    draw_list(v, f, first, rows, columns, replay_cells);
}

static void draw_lines(struct view *v, struct frame *f, size_t first, size_t rows) {
    size_t n = v->lines.count;
    if (v->top >= n) v->top = n ? n - 1 : 0;
    for (size_t i = v->top; i < n && i < v->top + rows; i++) {
        const struct line *line = &v->lines.list[i];
        bool found = *v->search && strcasestr(line->text, v->search);
        (void)put(f, first + i - v->top, 0, f->cols, (struct style){line->tone, found}, line->text, v->left);
    }
}

// --- around it ----------------------------------------------------------------------------------------------------

static char *count_text(const struct view *v) {
    size_t n = json_array_size(v->rows);
    int64_t letters = member_int(v->data, "letters", 0);
    if (!v->data) return mem_strdup(v->kind == VIEW_PAGE ? "" : "…");
    if (v->kind == VIEW_GROUPS) return mem_printf("%zu group%s, %" PRId64 " letter%s", n, plural((int64_t)n), letters, plural(letters));
    if (v->kind == VIEW_LETTER) return mem_strdup("");
    bool more = member_text(v->data, "next", NULL) != NULL;
    return mem_printf("%s%zu %s%s", more ? "the first " : "", n, v->kind == VIEW_LETTERS ? "letter" : "replay", plural((int64_t)n));
}

static void draw_title(const struct watch *w, struct frame *f) {
    const struct view *v = watch_top(w);
    cleanup_free char *count = count_text(v);
    cleanup_free char *title = mem_printf(" %s  %s%s%s  %s", v->title, count, w->function ? "  only of " : "", w->function ? w->function : "",
                                          w->url);
    (void)put(f, 0, 0, f->cols, (struct style){TONE_BOLD, true}, title, 0);
}

// What is wrong with the server, or how the view is filtered and sorted.
static void draw_about(const struct watch *w, struct frame *f, int64_t now_ms) {
    static const char *const group_sorts[] = {"most letters first", "last seen first", "newest first", "by function"};
    static const char *const letter_sorts[] = {"newest first", "oldest first"};
    const struct view *v = watch_top(w);
    if (w->poll.why) {
        int64_t left_ms = w->poll.next_ms > now_ms ? w->poll.next_ms - now_ms : 0;
        cleanup_free char *when = w->poll.refused ? mem_strdup("") : mem_printf("; again in %" PRId64 " s", (left_ms + 999) / 1000);
        size_t most = f->cols > strlen(when) ? f->cols - strlen(when) : 0;
        cleanup_free char *why = out_cut(w->poll.why, most);
        cleanup_free char *banner = mem_printf("%s%s", why, when);
        (void)put(f, 1, 0, f->cols, (struct style){TONE_BAD, true}, banner, 0);
        return;
    }
    const char *sort = v->kind == VIEW_GROUPS ? group_sorts[v->sort] : v->kind == VIEW_LETTERS ? letter_sorts[v->sort] : "";
    cleanup_free char *about = mem_printf("%s%s%s%s%s%s", sort, *v->search ? "  search: " : "", v->search, *v->where ? "  where: " : "", v->where,
                                          v->kind == VIEW_GROUPS && w->muted ? "  with muted ones" : "");
    (void)put(f, 1, 0, f->cols, dim, about, 0);
}

// The question and the text with its caret, which is always in sight.
static void draw_text_question(const struct watch *w, struct frame *f, size_t row, const char *question) {
    const struct prompt *p = &w->prompt;
    size_t n = put(f, row, 0, f->cols > INPUT_LEAST ? f->cols - INPUT_LEAST : 1, bold, question, 0), width = f->cols - n;
    cleanup_free char *head = mem_strndup((struct str){p->input, p->at}), *clean = NULL;
    size_t caret = watch_clean(head, 0, (size_t)2 * WATCH_INPUT_BYTES, &clean), skip = caret >= width ? caret - width + 1 : 0;
    (void)put(f, row, n, width, plain, p->input, skip);
    f->caret_col = n + caret - skip;
}

static void draw_prompt(const struct watch *w, struct frame *f) {
    size_t row = f->rows - 1;
    cleanup_free char *room = NULL;
    const char *question = act_question(w, &room);
    bool complaint = w->status_tone == TONE_BAD && *w->status;
    (void)put(f, row - 1, 0, f->cols, complaint ? bad : bold, complaint ? w->status : w->prompt.title, 0);
    f->has_caret = true;
    f->caret_row = row;
    if (act_wants_text(w)) {
        draw_text_question(w, f, row, question);
    } else {
        size_t n = put(f, row, 0, f->cols - strlen(YES_OR_NO) - 1, bold, question, 0);
        f->caret_col = n + put(f, row, n, f->cols - n, bold, YES_OR_NO, 0);
    }
}

static void draw_empty(const struct view *v, struct frame *f, size_t first) {
    bool list = v->kind == VIEW_GROUPS || v->kind == VIEW_LETTERS || v->kind == VIEW_REPLAYS;
    if (!v->data || !list || json_array_size(v->rows)) return;
    const char *what = v->kind == VIEW_REPLAYS ? "no replays" : *v->search || *v->where ? "nothing is found" : "no dead letters";
    (void)put(f, first + 1, 2, f->cols, dim, what, 0);
}

void watch_draw(struct watch *w, struct frame *f, int64_t now_ms) {
    static void (*const bodies[])(struct view *, struct frame *, size_t, size_t) = {
        [VIEW_GROUPS] = draw_groups, [VIEW_LETTERS] = draw_letters, [VIEW_LETTER] = draw_lines, [VIEW_REPLAYS] = draw_replays,
        [VIEW_PAGE] = draw_lines};
    struct view *v = watch_top(w);
    if (f->rows < LEAST_ROWS || f->cols < LEAST_COLS) {
        (void)put(f, 0, 0, f->cols, plain, "too small", 0);
        return;
    }
    const size_t first = 2;
    size_t rows = f->rows - first - 2;
    w->body_rows = v->kind == VIEW_LETTER || v->kind == VIEW_PAGE ? rows : rows - 1;
    draw_title(w, f);
    draw_about(w, f, now_ms);
    bodies[v->kind](v, f, first, rows);
    draw_empty(v, f, first);
    if (w->prompt.act) {
        draw_prompt(w, f);
        return;
    }
    (void)put(f, f->rows - 2, 0, f->cols, (struct style){w->status_tone, false}, w->status, 0);
    (void)put(f, f->rows - 1, 0, f->cols, dim, watch_hints(w), 0);
}
