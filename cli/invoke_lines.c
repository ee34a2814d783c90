// SPDX-License-Identifier: Apache-2.0
// One event a line, for input of any length. Async lines go in chunks; of a chunk that the server took in part, only the
// refused lines are sent again, so that nothing is handed over twice on purpose.
#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/invoke.h"
#include "cli/lines.h"
#include "cli/out.h"

#define CHUNK_LINES 1000
#define CHUNK_BYTES ((size_t)4 * 1024 * 1024) // a single longer line is a chunk of its own
#define TRIES_MAX 10                         // refusals in a row without one line taken
#define RETRY_AFTER_MAX_S 30
#define FAILURES_SHOWN 20

struct failure {
    uint64_t from, to; // line numbers
    char *why;
};
struct run {
    const struct invocation *inv;
    struct buf text;   // the chunk: its lines with line feeds
    struct piece {
        uint64_t number;
        size_t len;    // with its line feed
    } pieces[CHUNK_LINES];
    size_t count;
    uint64_t accepted, failed;
    struct failure failures[FAILURES_SHOWN];
    size_t failure_count;
    bool stop;         // it makes no sense to go on
    struct timespec last_shown;
};

static void note_failure(struct run *r, uint64_t from, uint64_t to, uint64_t count, const char *why) {
    r->failed += count;
    struct failure *last = r->failure_count ? &r->failures[r->failure_count - 1] : NULL;
    if (last && strcmp(last->why, why) == 0 && last->to + 1 == from) last->to = to;
    else if (r->failure_count < FAILURES_SHOWN)
        r->failures[r->failure_count++] = (struct failure){from, to, mem_strdup(why)};
}

// All lines of the chunk, `count` of which failed.
static void fail_chunk(struct run *r, uint64_t count, const char *why) {
    if (r->count) note_failure(r, r->pieces[0].number, r->pieces[r->count - 1].number, count, why);
    r->count = 0;
    buf_clear(&r->text);
}

static int show_failures(struct run *r) {
    out_progress(NULL);
    for (size_t i = 0; i < r->failure_count; i++) {
        struct failure *f = &r->failures[i];
        if (f->from == f->to) out_fail("line %llu: %s", (unsigned long long)f->from, f->why);
        else out_fail("lines %llu-%llu: %s", (unsigned long long)f->from, (unsigned long long)f->to, f->why);
        free(f->why);
    }
    if (r->failed == 0) return EXIT_OK;
    return out_fail("%llu line%s failed, %llu accepted%s", (unsigned long long)r->failed, plural((int64_t)r->failed),
                    (unsigned long long)r->accepted, r->stop ? "; stopped there, what follows was not read" : "");
}

static void show_progress(struct run *r) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec == r->last_shown.tv_sec) return; // once a second is enough
    r->last_shown = now;
    out_progress("%llu accepted", (unsigned long long)r->accepted);
}

// --- chunks -------------------------------------------------------------------------------------------------------

// Keeps those lines of the chunk whose index is true in `keep`.
static void keep_lines(struct run *r, const bool *keep) {
    struct buf kept;
    buf_init(&kept, r->text.cap);
    const char *at = buf_str(&r->text).data;
    size_t count = 0;
    for (size_t i = 0; i < r->count; i++) {
        size_t len = r->pieces[i].len;
        if (keep[i]) {
            MUST(buf_append(&kept, (struct str){at, len}) == 0);
            r->pieces[count++] = r->pieces[i];
        }
        at += len;
    }
    buf_done(&r->text);
    r->text = kept;
    r->count = count;
}

static void print_ids(struct run *r, const json_t *ids) {
    size_t i;
    const json_t *id;
    json_array_foreach(ids, i, id) puts(json_string_value(id) ? json_string_value(id) : "");
    r->accepted += json_array_size(ids);
    fflush(stdout);
}

// Which lines were refused: "refusedAt" lists their places. Without it that is known only when all or none were.
static bool mark_refused(const struct run *r, const json_t *answer, bool *refused) {
    const json_t *places = json_object_get(answer, "refusedAt"), *place;
    size_t i;
    if (json_array_size(json_object_get(answer, "accepted")) == 0) {
        memset(refused, true, r->count);
        return true;
    }
    if (!json_is_array(places)) return false;
    json_array_foreach(places, i, place) {
        json_int_t at = json_integer_value(place);
        if (!json_is_integer(place) || at < 0 || (size_t)at >= r->count) return false;
        refused[at] = true;
    }
    return true;
}

static void wait_before_retry(const struct reply *reply) {
    int64_t s = reply->retry_after_s < 0 ? 1 : reply->retry_after_s;
    struct timespec left = {.tv_sec = s < RETRY_AFTER_MAX_S ? s : RETRY_AFTER_MAX_S};
    while (nanosleep(&left, &left) < 0 && errno == EINTR) {
    }
}

static bool may_retry(int status) {
    return status == 429 || status == 503;
}

// A refusal. The refused lines stay in the chunk; `tries` counts refusals in a row without progress.
static void on_refused(struct run *r, const struct reply *reply, int *tries) {
    json_auto_t *answer = json_loadb(reply->body, reply->body_len, 0, NULL);
    const json_t *ids = json_object_get(answer, "accepted");
    cleanup_free char *why = reply_error(reply);
    bool refused[CHUNK_LINES] = {false};
    if (!ids && !may_retry(reply->status)) { // the request as a whole is wrong, and so will be the next
        fail_chunk(r, r->count, why);
        r->stop = true;
        return;
    }
    print_ids(r, ids);
    if (!mark_refused(r, answer, refused)) {
        cleanup_free char *text = mem_printf("some of these were refused, the server did not say which: %s", why);
        fail_chunk(r, r->count - json_array_size(ids), text);
        return;
    }
    keep_lines(r, refused);
    *tries = json_array_size(ids) ? 1 : *tries + 1;
    if (may_retry(reply->status) && *tries > TRIES_MAX) {
        fail_chunk(r, r->count, why);
        r->stop = true;
    } else if (may_retry(reply->status)) {
        wait_before_retry(reply);
    } else if (r->count) { // the status is that of the first refused line: it will never pass
        note_failure(r, r->pieces[0].number, r->pieces[0].number, 1, why);
        memset(refused, true, r->count);
        refused[0] = false;
        keep_lines(r, refused);
        *tries = 0;
    }
}

static void on_accepted(struct run *r, const struct reply *reply) {
    json_auto_t *answer = json_loadb(reply->body, reply->body_len, 0, NULL);
    print_ids(r, json_object_get(answer, "requestIds"));
    r->count = 0;
    buf_clear(&r->text);
}

// The server gives every event of a request the same content type: that of the first line.
static const char *chunk_type(const struct run *r) {
    return invoke_content_type((struct str){buf_str(&r->text).data, r->pieces[0].len});
}

static void send_chunk(struct run *r) {
    int tries = 0;
    while (r->count && !r->stop) {
        struct reply reply;
        struct err err;
        if (invoke_send(r->inv, buf_str(&r->text), chunk_type(r), &reply, &err) < 0) {
            bool sent = err.code == ERR_TIMEOUT;
            cleanup_free char *why = mem_printf("%s%s", sent ? "not known whether they were accepted: " : "", err.text);
            fail_chunk(r, r->count, why);
            r->stop = true;
            return;
        }
        if (reply.status < 400) on_accepted(r, &reply);
        else on_refused(r, &reply, &tries);
        reply_done(&reply);
        show_progress(r);
    }
}

static void add_line(struct run *r, uint64_t number, struct str line) {
    if (r->count == CHUNK_LINES || (r->count && buf_len(&r->text) + line.len > CHUNK_BYTES)) send_chunk(r);
    if (r->stop) return;
    MUST(buf_append(&r->text, line) == 0 && buf_append(&r->text, STR_LIT("\n")) == 0);
    r->pieces[r->count++] = (struct piece){number, line.len + 1};
}

// --- one call a line ----------------------------------------------------------------------------------------------

static void call_line(struct run *r, uint64_t number, struct str line) {
    struct reply reply;
    struct err err;
    if (invoke_send(r->inv, line, invoke_content_type(line), &reply, &err) < 0) {
        note_failure(r, number, number, 1, err.text);
        r->stop = true;
        return;
    }
    char where[40];
    snprintf(where, sizeof where, "line %llu: ", (unsigned long long)number);
    if (invoke_show(r->inv, &reply, where) == EXIT_OK) r->accepted++;
    else r->failed++;
    r->stop = reply.status == 401 || reply.status == 404; // so it will be for every line
    reply_done(&reply);
}

// --- both ---------------------------------------------------------------------------------------------------------

static void read_lines(struct run *r, struct lines *in, const char *name, bool async) {
    struct str line;
    while (!r->stop) {
        switch (lines_next(in, r->count > 0, &line)) {
        case LINES_LINE:
            if (async) add_line(r, in->number, line);
            else call_line(r, in->number, line);
            break;
        case LINES_IDLE: send_chunk(r); break;
        case LINES_TOO_LONG:
            note_failure(r, in->number, in->number, 1, "over 6 MiB, the most that one event can carry");
            break;
        case LINES_FAILED:
            note_failure(r, in->number + 1, in->number + 1, 1, strerror(errno));
            out_fail("%s: %s", name, strerror(errno));
            r->stop = true;
            break;
        case LINES_END: send_chunk(r); return;
        }
    }
}

static int read_text(struct run *r, const char *text, bool async) {
    uint64_t number = 0;
    while (*text && !r->stop) {
        size_t len = strcspn(text, "\n");
        struct str line = {text, len && text[len - 1] == '\r' ? len - 1 : len};
        number++;
        if (line.len && async) add_line(r, number, line);
        else if (line.len) call_line(r, number, line);
        text += len + (text[len] == '\n');
    }
    send_chunk(r);
    return show_failures(r);
}

int invoke_each_line(const struct invocation *inv, bool async) {
    cleanup_free struct run *r = mem_zalloc(sizeof *r);
    r->inv = inv;
    buf_init(&r->text, CHUNK_BYTES + EVENT_BYTES_MAX + 2);
    int rc;
    if (inv->source[0] != '@' && strcmp(inv->source, "-") != 0) {
        rc = read_text(r, inv->source, async);
    } else {
        const char *name;
        int fd = invoke_open(inv->source, &name);
        if (fd < 0) return EXIT_FAILED;
        struct lines in;
        lines_init(&in, fd, EVENT_BYTES_MAX);
        read_lines(r, &in, name, async);
        lines_done(&in);
        if (fd != STDIN_FILENO) close(fd);
        rc = show_failures(r);
    }
    buf_done(&r->text);
    return rc;
}
