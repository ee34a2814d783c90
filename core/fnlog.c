// SPDX-License-Identifier: Apache-2.0
// A function's lines are a list from the oldest to the newest, each line in one allocation with its text.
//
// Invariants: the bytes of a channel's lines never pass the cap; a channel without lines and waits does not exist;
// waiters are called at the end of the turn, once, however many lines came.
#include "core/fnlog.h"

#include <sys/queue.h>
#include <uthash.h>

#include "core/base/clock.h"

#define PIECE_MAX_BYTES 8192 // a longer line becomes several

struct line {
    TAILQ_ENTRY(line) link;
    struct fnlog_line pub; // pub.text points behind the struct
};

struct channel {
    char *function;
    size_t bytes;
    TAILQ_HEAD(lines, line) lines;
    LIST_HEAD(waits, fnlog_wait) waits;
    UT_hash_handle hh;
};

struct fnlog {
    struct loop *loop;
    size_t cap;
    uint64_t cursor;
    struct channel *channels;
    struct waits ready; // to be called at the end of the turn
    struct defer defer;
};

struct fnlog_wait {
    LIST_ENTRY(fnlog_wait) link; // in channel->waits or log->ready; in none when it was called
    struct fnlog *log;
    struct channel *channel;     // while it is in channel->waits
    bool listed;
    struct timer *timer;
    void (*fn)(void *arg);
    void *arg;
};

static size_t line_bytes(const struct line *l) {
    return sizeof *l + l->pub.text.len;
}

static void drop_oldest(struct channel *ch) {
    struct line *l = TAILQ_FIRST(&ch->lines);
    TAILQ_REMOVE(&ch->lines, l, link);
    ch->bytes -= line_bytes(l);
    free(l);
}

static struct channel *channel_find(const struct fnlog *log, struct str function) {
    struct channel *ch;
    HASH_FIND(hh, log->channels, function.data, function.len, ch);
    return ch;
}

static struct channel *channel_get(struct fnlog *log, struct str function) {
    struct channel *ch = channel_find(log, function);
    if (ch) return ch;
    ch = mem_zalloc(sizeof *ch);
    ch->function = mem_strndup(function);
    TAILQ_INIT(&ch->lines);
    LIST_INIT(&ch->waits);
    HASH_ADD_KEYPTR(hh, log->channels, ch->function, function.len, ch);
    return ch;
}

static void channel_drop_if_unused(struct fnlog *log, struct channel *ch) {
    if (!TAILQ_EMPTY(&ch->lines) || !LIST_EMPTY(&ch->waits)) return;
    HASH_DELETE(hh, log->channels, ch);
    free(ch->function);
    free(ch);
}

static void wait_unlist(struct fnlog_wait *w) {
    if (!w->listed) return;
    LIST_REMOVE(w, link);
    w->listed = false;
}

static void call_waits(void *arg) {
    struct fnlog *log = arg;
    struct fnlog_wait *w;
    while ((w = LIST_FIRST(&log->ready))) { // fn may free this wait and others, and add new ones
        wait_unlist(w);
        timer_stop(w->timer);
        w->fn(w->arg);
    }
}

static void wake(struct fnlog *log, struct channel *ch) {
    struct fnlog_wait *w;
    while ((w = LIST_FIRST(&ch->waits))) {
        LIST_REMOVE(w, link);
        w->channel = NULL;
        LIST_INSERT_HEAD(&log->ready, w, link);
        loop_defer(log->loop, &log->defer);
    }
}

struct fnlog *fnlog_new(struct loop *loop, size_t bytes_per_function) {
    struct fnlog *log = mem_zalloc(sizeof *log);
    *log = (struct fnlog){.loop = loop, .cap = bytes_per_function, .defer = {.fn = call_waits, .arg = log}};
    MUST(log->cap >= 2 * sizeof(struct line));
    LIST_INIT(&log->ready);
    return log;
}

void fnlog_free(struct fnlog *log) {
    if (!log) return;
    loop_defer_cancel(log->loop, &log->defer);
    MUST(LIST_EMPTY(&log->ready));
    struct channel *ch, *next;
    HASH_ITER(hh, log->channels, ch, next) {
        MUST(LIST_EMPTY(&ch->waits)); // their owners free them first
        while (!TAILQ_EMPTY(&ch->lines)) drop_oldest(ch);
        channel_drop_if_unused(log, ch);
    }
    free(log);
}

static void put_line(struct fnlog *log, struct channel *ch, const struct fnlog_line *like, struct str text) {
    struct line *l = mem_alloc(sizeof *l + text.len);
    l->pub = *like;
    l->pub.cursor = ++log->cursor;
    l->pub.text = (struct str){(char *)(l + 1), text.len};
    if (text.len) memcpy(l + 1, text.data, text.len);
    while (ch->bytes + line_bytes(l) > log->cap) drop_oldest(ch);
    TAILQ_INSERT_TAIL(&ch->lines, l, link);
    ch->bytes += line_bytes(l);
}

// How much of a line to put at once: all of it, or a piece that does not end within a character.
static size_t piece_of(const struct fnlog *log, struct str line) {
    size_t most = log->cap / 2 - sizeof(struct line);
    if (most > PIECE_MAX_BYTES) most = PIECE_MAX_BYTES;
    if (most == 0) most = 1;
    if (line.len <= most) return line.len;
    size_t n = most;
    while (n > 0 && most - n < 4 && ((unsigned char)line.data[n] & 0xc0) == 0x80) n--;
    return n > 0 && most - n < 4 ? n : most;
}

static void put_pieces(struct fnlog *log, struct channel *ch, const struct fnlog_line *like, struct str line) {
    if (line.len > 0 && line.data[line.len - 1] == '\r') line.len--;
    do {
        size_t n = piece_of(log, line);
        put_line(log, ch, like, (struct str){line.data, n});
        line = (struct str){line.data + n, line.len - n};
    } while (line.len > 0);
}

void fnlog_append(struct fnlog *log, struct str function, uint32_t version, const struct id *event, struct str text) {
    if (text.len == 0) return;
    if (text.len > log->cap) { // what comes before would be dropped again at once
        text.data += text.len - log->cap;
        text.len = log->cap;
        while (text.len > 0 && ((unsigned char)*text.data & 0xc0) == 0x80) text.data++, text.len--;
        if (text.len == 0) return;
    }
    struct channel *ch = channel_get(log, function);
    struct fnlog_line like = {.unix_ms = clock_unix_ms(), .version = version};
    if (event) like.event = *event;
    while (text.len > 0) {
        const char *end = memchr(text.data, '\n', text.len);
        size_t len = end ? (size_t)(end - text.data) : text.len;
        put_pieces(log, ch, &like, (struct str){text.data, len});
        size_t used = len + (end ? 1 : 0);
        text = (struct str){text.data + used, text.len - used};
    }
    wake(log, ch);
}

size_t fnlog_read(struct fnlog *log, struct str function, uint64_t after, size_t limit, fnlog_line_fn *fn, void *arg) {
    struct channel *ch = channel_find(log, function);
    if (!ch || limit == 0) return 0;
    // Backwards from the newest: a reader that follows is never far behind.
    struct line *start = NULL, *l;
    TAILQ_FOREACH_REVERSE(l, &ch->lines, lines, link) {
        if (l->pub.cursor <= after) break;
        start = l;
    }
    size_t count = 0;
    for (l = start; l && count < limit; l = TAILQ_NEXT(l, link), count++) fn(arg, &l->pub);
    return count;
}

uint64_t fnlog_end(const struct fnlog *log) {
    return log->cursor;
}

static void on_wait_over(void *arg) {
    struct fnlog_wait *w = arg;
    struct channel *ch = w->channel;
    wait_unlist(w);
    w->channel = NULL;
    if (ch) channel_drop_if_unused(w->log, ch);
    w->fn(w->arg);
}

struct fnlog_wait *fnlog_wait_new(struct fnlog *log, struct str function, int64_t wait_ms, void (*fn)(void *arg),
                                  void *arg) {
    struct fnlog_wait *w = mem_zalloc(sizeof *w);
    struct channel *ch = channel_get(log, function);
    *w = (struct fnlog_wait){.log = log, .channel = ch, .listed = true, .fn = fn, .arg = arg};
    w->timer = timer_new(log->loop, on_wait_over, w);
    timer_start(w->timer, wait_ms);
    LIST_INSERT_HEAD(&ch->waits, w, link);
    return w;
}

void fnlog_wait_free(struct fnlog_wait *w) {
    if (!w) return;
    wait_unlist(w);
    if (w->channel) channel_drop_if_unused(w->log, w->channel);
    timer_free(w->timer);
    free(w);
}

void fnlog_forget(struct fnlog *log, struct str function) {
    struct channel *ch = channel_find(log, function);
    if (!ch) return;
    while (!TAILQ_EMPTY(&ch->lines)) drop_oldest(ch);
    channel_drop_if_unused(log, ch);
}
