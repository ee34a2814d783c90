// SPDX-License-Identifier: Apache-2.0
// weir dlq import: the lines of weir dlq export become dead letters. Lines go as they are, in batches; a line that is refused is told with its
// number, and the others go on. To import a file again is safe, also one that was broken off: letters that are there already stay as they are.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/dlq_replay.h"
#include "cli/lines.h"
#include "cli/out.h"
#include "cli/progress.h"
#include "core/json_text.h"

#define LINE_BYTES_MAX ((size_t)24 * 1024 * 1024)
#define BATCH_LETTERS 999
#define BATCH_BYTES ((size_t)32 * 1024 * 1024)
#define BUSY_TRIES 60 // a second apart, while the server has no room
#define REFUSED_SHOWN 100

struct import {
    struct client *c;
    struct buf text;                // the lines of the batch, one behind the other
    struct piece {
        uint64_t number;            // of the line
        size_t start, len;
    } pieces[BATCH_LETTERS];
    size_t count;
    int64_t imported, there, refused;
    bool stop;                      // the server cannot take more
    struct progress progress;
};

static void refuse(struct import *m, uint64_t line, const char *id, const char *why) {
    m->refused++;
    if (m->refused > REFUSED_SHOWN) return;
    progress_end();
    out_fail("line %" PRIu64 ": %s%s%s", line, id, *id ? ": " : "", why);
}

// --- batches ------------------------------------------------------------------------------------------------------

static void begin_batch(struct import *m) {
    buf_clear(&m->text);
    m->count = 0;
}

// Letters [from, to) of the batch as a request's body.
static void put_body(const struct import *m, size_t from, size_t to, struct buf *body) {
    int rc = buf_append(body, STR_LIT("{\"letters\":["));
    for (size_t i = from; i < to; i++) {
        if (i > from) rc |= buf_append(body, STR_LIT(","));
        rc |= buf_append(body, (struct str){buf_str(&m->text).data + m->pieces[i].start, m->pieces[i].len});
    }
    rc |= buf_append(body, STR_LIT("]}"));
    MUST(rc == 0);
}

static bool is_busy(int status) {
    return status == 429 || status == 503;
}

// Again while the server has no room, up to BUSY_TRIES times.
static int send_body(struct import *m, struct str body, struct reply *ret, struct err *err) {
    struct request request = {.method = "POST", .path = "/v1/letters/import", .body = body, .content_type = "application/json"};
    for (int left = BUSY_TRIES;; left--) {
        int rc = client_send(m->c, &request, ret, err);
        if (rc < 0 || !is_busy(ret->status) || left == 0) return rc;
        reply_done(ret);
        struct timespec t = {.tv_sec = 1};
        (void)nanosleep(&t, NULL);
    }
}

// "line" of an answer counts the letters of the request, from 1.
static void on_answer(struct import *m, size_t from, size_t to, const json_t *answer) {
    const json_t *one;
    size_t i;
    m->imported += member_int(answer, "imported", 0);
    m->there += member_int(answer, "there", 0);
    json_array_foreach(json_object_get(answer, "refused"), i, one) {
        int64_t at = member_int(one, "line", 1);
        size_t place = at >= 1 && (size_t)at <= to - from ? from + (size_t)at - 1 : from;
        refuse(m, m->pieces[place].number, member_text(one, "id", ""), member_text(one, "why", "refused"));
    }
}

// It is not known that these are in the store, and what follows would fare no better.
static void give_up(struct import *m, size_t from, size_t to, const char *why) {
    progress_end();
    out_fail("lines %" PRIu64 " to %" PRIu64 ": %s", m->pieces[from].number, m->pieces[to - 1].number, why);
    m->stop = true;
}

// A request that is refused as a whole for what is in it is sent again in halves, down to the line that is to blame.
static void send_range(struct import *m, size_t from, size_t to) {
    struct buf body;
    struct reply reply;
    struct err err;
    if (from == to || m->stop) return;
    buf_init(&body, 2 * (BATCH_BYTES + LINE_BYTES_MAX));
    put_body(m, from, to, &body);
    int rc = send_body(m, buf_str(&body), &reply, &err);
    buf_done(&body);
    if (rc < 0) {
        give_up(m, from, to, err.text);
        return;
    }
    bool blamed = reply.status == 400 || reply.status == 413;
    json_auto_t *answer = reply.status < 400 ? json_loadb(reply.body, reply.body_len, JSON_ALLOW_NUL, NULL) : NULL;
    cleanup_free char *why = answer ? NULL : reply_error(&reply);
    reply_done(&reply);
    if (answer) {
        on_answer(m, from, to, answer);
    } else if (blamed && to - from > 1) {
        send_range(m, from, from + (to - from) / 2);
        send_range(m, from + (to - from) / 2, to);
    } else if (blamed) {
        refuse(m, m->pieces[from].number, "", why);
    } else {
        give_up(m, from, to, why);
    }
}

static void send_batch(struct import *m) {
    send_range(m, 0, m->count);
    begin_batch(m);
    if (progress_due(&m->progress)) progress_show("%" PRId64 " letters imported", m->imported);
}

static void add_line(struct import *m, uint64_t number, struct str line) {
    struct err err;
    size_t blanks = 0;
    while (blanks < line.len && (line.data[blanks] == ' ' || line.data[blanks] == '\t')) blanks++;
    if (blanks == line.len) return;
    if (json_text_check(line, &err) < 0) {
        refuse(m, number, "", err.text);
        return;
    }
    if (line.data[blanks] != '{') {
        refuse(m, number, "", "not a letter: it must be a JSON object, as weir dlq export writes it");
        return;
    }
    if (m->count == BATCH_LETTERS || (m->count && buf_len(&m->text) + line.len > BATCH_BYTES)) send_batch(m);
    if (m->stop) return;
    m->pieces[m->count++] = (struct piece){number, buf_len(&m->text), line.len};
    MUST(buf_append(&m->text, line) == 0);
}

// --- lines --------------------------------------------------------------------------------------------------------

static void read_lines(struct import *m, struct lines *in, const char *name) {
    struct str line;
    int failed;
    while (!m->stop) {
        switch (lines_next(in, false, &line)) {
        case LINES_LINE: add_line(m, in->number, line); break;
        case LINES_TOO_LONG: refuse(m, in->number, "", "over 24 MiB, the most that a letter can be"); break;
        case LINES_FAILED:
            failed = errno;
            send_batch(m);
            progress_end();
            out_fail("%s: after line %" PRIu64 ": %s", name, in->number, strerror(failed));
            m->stop = true;
            break;
        case LINES_IDLE:
        case LINES_END: send_batch(m); return;
        }
    }
}

static int show(const struct args *a, const struct import *m) {
    progress_end();
    if (m->refused > REFUSED_SHOWN) out_fail("and %" PRId64 " more lines", m->refused - REFUSED_SHOWN);
    if (args_has(a, "json")) {
        json_auto_t *shown = json_pack("{s:I, s:I, s:I, s:b}", "imported", (json_int_t)m->imported, "there", (json_int_t)m->there, "refused", (json_int_t)m->refused,
                                       "complete", (int)!m->stop);
        out_json(shown);
    } else {
        printf("%" PRId64 " letter%s imported", m->imported, plural(m->imported));
        if (m->there) printf(", %" PRId64 " %s there already", m->there, m->there == 1 ? "was" : "were");
        if (m->refused) printf(", %" PRId64 " refused", m->refused);
        putchar('\n');
        fflush(stdout);
    }
    if (m->stop) return out_fail("stopped there; run it again when that is mended: letters that are there already stay as they are");
    return m->refused ? EXIT_FAILED : EXIT_OK;
}

static int run_import(const struct args *a) {
    const char *name = a->words[0];
    bool from_stdin = strcmp(name, "-") == 0;
    int fd = from_stdin ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return out_fail("%s: %s", name, strerror(errno));
    cleanup_client struct client *c = client_new(a);
    cleanup_free struct import *m = mem_zalloc(sizeof *m);
    struct lines in;
    m->c = c;
    buf_init(&m->text, BATCH_BYTES + LINE_BYTES_MAX);
    progress_begin(&m->progress);
    lines_init(&in, fd, LINE_BYTES_MAX);
    read_lines(m, &in, name);
    lines_done(&in);
    buf_done(&m->text);
    if (!from_stdin) close(fd);
    return show(a, m);
}

const struct command dlq_import = {
    .name = "import",
    .words = "FILE|-",
    .summary = "Makes dead letters of the lines that weir dlq export wrote",
    .about = "\n  weir dlq import letters.ndjson\n"
             "  weir dlq export --server http://old:9000 --function orders | weir dlq import -\n"
             "\n"
             "Letters keep their ids, times and versions. One that is there already stays as it is, so a file can be imported again.\n"
             "A line that is no letter is told with its number, and the others go in; the exit code is 1 then.\n",
    .uses = USES_SERVER | USES_JSON,
    .least = 1,
    .most = 1,
    .run = run_import,
};
