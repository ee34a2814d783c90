// SPDX-License-Identifier: Apache-2.0
// weir dlq import: the lines of weir dlq export become dead letters. Lines go as they are, in batches; a line that is refused is told with its
// number, and the others go on. To import a file again is safe: letters that are there already are refused.
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

#define BODY_OPENING "{\"letters\":["
#define BODY_CLOSING "]}"

struct import {
    struct client *c;
    struct buf body;                 // the batch so far, its closing not written
    uint64_t numbers[BATCH_LETTERS]; // the line of each of its letters
    size_t count;
    int64_t imported, refused;
    bool stop;                       // the server cannot take more
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
    buf_clear(&m->body);
    m->count = 0;
    MUST(buf_append(&m->body, STR_LIT(BODY_OPENING)) == 0);
}

// "line" of an answer counts the letters of the request, from 1.
static void on_answer(struct import *m, const json_t *answer) {
    const json_t *refused = json_object_get(answer, "refused"), *one;
    size_t i;
    m->imported += member_int(answer, "imported", 0);
    json_array_foreach(refused, i, one) {
        int64_t at = member_int(one, "line", 0);
        uint64_t line = at >= 1 && at <= (int64_t)m->count ? m->numbers[at - 1] : m->numbers[0];
        refuse(m, line, member_text(one, "id", ""), member_text(one, "why", "refused"));
    }
}

// None of the batch is known to be in the store, and what follows would fare no better.
static void give_up(struct import *m, const char *why) {
    progress_end();
    out_fail("lines %" PRIu64 " to %" PRIu64 ": %s", m->numbers[0], m->numbers[m->count - 1], why);
    m->stop = true;
}

static bool is_busy(int status) {
    return status == 429 || status == 503;
}

static int send_once(struct import *m, struct reply *ret, int tries_left) {
    struct request request = {.method = "POST", .path = "/v1/letters/import", .body = buf_str(&m->body),
                              .content_type = "application/json"};
    struct err err;
    if (client_send(m->c, &request, ret, &err) < 0) {
        give_up(m, err.text);
        return -1;
    }
    if (!is_busy(ret->status) || tries_left == 0) return 0;
    reply_done(ret);
    struct timespec t = {.tv_sec = 1};
    (void)nanosleep(&t, NULL);
    return 1;
}

static void send_batch(struct import *m) {
    struct reply reply;
    int again = 1;
    if (m->count == 0 || m->stop) return;
    MUST(buf_append(&m->body, STR_LIT(BODY_CLOSING)) == 0);
    for (int left = BUSY_TRIES; again == 1; left--) again = send_once(m, &reply, left);
    if (again < 0) return;
    json_auto_t *answer = reply.status < 400 ? json_loadb(reply.body, reply.body_len, JSON_ALLOW_NUL, NULL) : NULL;
    if (answer) {
        on_answer(m, answer);
    } else {
        cleanup_free char *why = reply_error(&reply);
        give_up(m, why);
    }
    reply_done(&reply);
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
    if (m->count == BATCH_LETTERS || (m->count && buf_len(&m->body) + line.len > BATCH_BYTES)) send_batch(m);
    if (m->stop) return;
    if (m->count) MUST(buf_append(&m->body, STR_LIT(",")) == 0);
    MUST(buf_append(&m->body, line) == 0);
    m->numbers[m->count++] = number;
}

// --- lines --------------------------------------------------------------------------------------------------------

static void read_lines(struct import *m, struct lines *in) {
    struct str line;
    while (!m->stop) {
        switch (lines_next(in, false, &line)) {
        case LINES_LINE: add_line(m, in->number, line); break;
        case LINES_TOO_LONG: refuse(m, in->number, "", "over 24 MiB, the most that a letter can be"); break;
        case LINES_FAILED:
            send_batch(m);
            refuse(m, in->number + 1, "", strerror(errno));
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
        json_auto_t *shown = json_pack("{s:I, s:I, s:b}", "imported", (json_int_t)m->imported, "refused", (json_int_t)m->refused,
                                       "complete", (int)!m->stop);
        out_json(shown);
    } else {
        printf("%" PRId64 " letter%s imported", m->imported, plural(m->imported));
        if (m->refused) printf(", %" PRId64 " refused", m->refused);
        putchar('\n');
        fflush(stdout);
    }
    if (m->stop) return out_fail("stopped there; run it again when that is mended: what is imported already is refused then, and does no harm");
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
    buf_init(&m->body, BATCH_BYTES + LINE_BYTES_MAX + sizeof BODY_OPENING + sizeof BODY_CLOSING);
    begin_batch(m);
    progress_begin(&m->progress);
    lines_init(&in, fd, LINE_BYTES_MAX);
    read_lines(m, &in);
    lines_done(&in);
    buf_done(&m->body);
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
             "Letters keep their ids: one that is there already is refused, so a file can be imported again.\n",
    .uses = USES_SERVER | USES_JSON,
    .least = 1,
    .most = 1,
    .run = run_import,
};
