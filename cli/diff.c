// SPDX-License-Identifier: Apache-2.0
// Lines that both texts begin or end with are set aside; the script for the rest is found, then printed in hunks.
#include "cli/diff.h"

struct text {
    struct str *line;
    size_t count;
};

static struct text split(struct str text) {
    struct text t = {.line = mem_array(text.len + 1, sizeof *t.line)};
    while (text.len) {
        const char *end = memchr(text.data, '\n', text.len);
        size_t n = end ? (size_t)(end - text.data) : text.len;
        t.line[t.count++] = (struct str){text.data, n};
        n += end != NULL;
        text = (struct str){text.data + n, text.len - n};
    }
    return t;
}

// One mark for each line that is printed: ' ' moves on in both texts, '-' in the first, '+' in the second.
struct script {
    char *mark;
    size_t count;
};

// --- the shortest script ------------------------------------------------------------------------------------------

struct search {
    const struct str *a, *b; // the parts that differ
    long n, m;
    // reach[d] + k: how far in `a` d changes get on diagonal k (a's line minus b's), k = -d, -d + 2, …, d.
    long *reach[DIFF_CHANGES_MAX + 1];
};

// On diagonal k, does the best path with d changes come from above, by a line put in (true), or by one taken out?
static bool comes_from_put_in(const long *before, long d, long k) {
    return k == -d || (k != d && before[k - 1] < before[k + 1]);
}

static long *reach_of(const struct search *s, long d) {
    return s->reach[d] + d;
}

// The number of changes of the shortest script, or -1: more than DIFF_CHANGES_MAX.
static long find(struct search *s) {
    for (long d = 0; d <= DIFF_CHANGES_MAX; d++) {
        s->reach[d] = mem_array(2 * (size_t)d + 1, sizeof **s->reach);
        for (long k = -d; k <= d; k += 2) {
            long x = 0;
            if (d > 0) {
                const long *before = reach_of(s, d - 1);
                x = comes_from_put_in(before, d, k) ? before[k + 1] : before[k - 1] + 1;
            }
            while (x < s->n && x - k < s->m && str_eq(s->a[x], s->b[x - k])) x++;
            reach_of(s, d)[k] = x;
            if (x >= s->n && x - k >= s->m) return d;
        }
    }
    return -1;
}

// Writes the marks from the last to the first, so that they end before `end`; returns where they begin.
static char *walk_back(const struct search *s, long d, char *end) {
    long x = s->n, y = s->m;
    for (; d > 0; d--) {
        const long *before = reach_of(s, d - 1);
        bool put_in = comes_from_put_in(before, d, x - y);
        long k = x - y + (put_in ? 1 : -1), from_x = before[k], from_y = from_x - k;
        for (; x > from_x && y > from_y; x--, y--) *--end = ' ';
        *--end = put_in ? '+' : '-';
        x = from_x;
        y = from_y;
    }
    for (; x > 0; x--) *--end = ' ';
    return end;
}

static void append(struct script *s, char mark, size_t count) {
    memset(s->mark + s->count, mark, count);
    s->count += count;
}

static void append_middle(struct script *out, const struct str *a, size_t n, const struct str *b, size_t m) {
    struct search s = {.a = a, .b = b, .n = (long)n, .m = (long)m};
    long d = find(&s);
    if (d < 0) {
        append(out, '-', n);
        append(out, '+', m);
    } else {
        char *at = out->mark + out->count, *begin = walk_back(&s, d, at + n + m);
        size_t count = n + m - (size_t)(begin - at);
        memmove(at, begin, count);
        out->count += count;
    }
    for (size_t i = 0; i < array_len(s.reach) && s.reach[i]; i++) free(s.reach[i]);
}

static struct script compare(const struct text *a, const struct text *b) {
    struct script s = {.mark = mem_alloc(a->count + b->count + 1)};
    size_t most = a->count < b->count ? a->count : b->count, head = 0, tail = 0;
    while (head < most && str_eq(a->line[head], b->line[head])) head++;
    while (tail < most - head && str_eq(a->line[a->count - tail - 1], b->line[b->count - tail - 1])) tail++;
    append(&s, ' ', head);
    append_middle(&s, a->line + head, a->count - head - tail, b->line + head, b->count - head - tail);
    append(&s, ' ', tail);
    return s;
}

// --- hunks --------------------------------------------------------------------------------------------------------

// The end of the hunk whose first change is at `at`: behind the context of the last change that is near enough.
static size_t hunk_end(const struct script *s, size_t at, size_t context) {
    size_t last = at;
    for (size_t i = at; i < s->count && i - last <= 2 * context + 1; i++)
        if (s->mark[i] != ' ') last = i;
    size_t end = last + 1 + context;
    return end < s->count ? end : s->count;
}

static size_t count_lines(const struct script *s, size_t from, size_t to, char other) {
    size_t n = 0;
    for (size_t i = from; i < to; i++) n += s->mark[i] != other;
    return n;
}

// x, y: the lines of both texts that stand at `from`. (As diff does: where nothing is, the line before counts.)
static int print_hunk(const struct script *s, size_t from, size_t to, const struct str *x, const struct str *y, size_t line_x,
                      size_t line_y, struct buf *out) {
    size_t n = count_lines(s, from, to, '+'), m = count_lines(s, from, to, '-');
    int rc = buf_printf(out, "@@ -%zu,%zu +%zu,%zu @@\n", line_x + (n > 0), n, line_y + (m > 0), m);
    for (size_t i = from; rc == 0 && i < to; i++) {
        struct str line = s->mark[i] == '+' ? *y : *x;
        x += s->mark[i] != '+';
        y += s->mark[i] != '-';
        rc = buf_printf(out, "%c%.*s\n", s->mark[i], STR_ARG(line));
    }
    return rc;
}

static int print_hunks(const struct script *s, const struct text *a, const struct text *b, size_t context, struct buf *out) {
    size_t x = 0, y = 0, from = 0;
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < s->count; at++) {
        if (s->mark[at] == ' ') continue;
        size_t begin = at - from > context ? at - context : from, end = hunk_end(s, at, context);
        x += count_lines(s, from, begin, '+');
        y += count_lines(s, from, begin, '-');
        rc = print_hunk(s, begin, end, a->line + x, b->line + y, x, y, out);
        x += count_lines(s, begin, end, '+');
        y += count_lines(s, begin, end, '-');
        from = end;
        at = end - 1;
    }
    return rc;
}

int diff_unified(struct str before, struct str after, size_t context, struct buf *out) {
    if (before.len > DIFF_BYTES_MAX || after.len > DIFF_BYTES_MAX) return ERR_TOO_LARGE;
    struct text a = split(before), b = split(after);
    struct script s = compare(&a, &b);
    int rc = print_hunks(&s, &a, &b, context, out);
    free(s.mark);
    free(a.line);
    free(b.line);
    return rc;
}
