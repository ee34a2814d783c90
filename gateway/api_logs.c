// SPDX-License-Identifier: Apache-2.0
// GET /v1/functions/{name}/logs: what a function's handlers wrote, at once or as soon as there is something.
#include "gateway/reply.h"

#define LINES_DEFAULT 1000
#define LINES_MAX 10000
#define WAIT_MAX_MS 30000

struct log_read {
    struct call *call;
    struct fnlog_wait *wait;
    json_t *lines;
    uint64_t after;
    size_t limit;
};

static void add_line(void *arg, const struct fnlog_line *line) {
    struct log_read *r = arg;
    char id[ID_TEXT_BYTES];
    id_format(&line->event, id);
    json_t *json = json_pack("{s:I, s:I, s:s?, s:I, s:o}", "cursor", (json_int_t)line->cursor, "timeMs",
                             (json_int_t)line->unix_ms, "requestId", id_is_none(&line->event) ? NULL : id, "version",
                             (json_int_t)line->version, "text", reply_text(line->text));
    redact_json(r->call->gw->c.redact, json_object_get(json, "text"));
    MUST(json_array_append_new(r->lines, json) == 0);
    r->after = line->cursor;
}

static size_t read_lines(struct log_read *r) {
    return fnlog_read(r->call->gw->c.fnlog, r->call->param, r->after, r->limit, add_line, r);
}

static void reply_lines(struct log_read *r) {
    reply_json(r->call, 200, json_pack("{s:o, s:I}", "lines", r->lines, "next", (json_int_t)r->after));
    free(r);
}

static void on_lines(void *arg) {
    struct log_read *r = arg;
    fnlog_wait_free(r->wait);
    read_lines(r);
    reply_lines(r);
}

static void on_reader_gone(void *arg) {
    struct log_read *r = arg;
    fnlog_wait_free(r->wait);
    json_decref(r->lines);
    free(r);
}

void api_logs(struct call *call) {
    struct err err;
    int64_t after = 0, limit = LINES_DEFAULT, wait_ms = 0;
    struct fnlog *log = call->gw->c.fnlog;
    if (call_number(call, "after", 0, INT64_MAX, &after, &err) < 0 || call_number(call, "limit", 1, LINES_MAX, &limit, &err) < 0 ||
        call_number(call, "waitMs", 0, WAIT_MAX_MS, &wait_ms, &err) < 0) {
        reply_err(call, &err);
        return;
    }
    if (!registry_find(call->gw->c.registry, call->param)) {
        reply_fail(call, ERR_NOT_FOUND, "there is no function '%.*s'", STR_ARG(call->param));
        return;
    }
    struct log_read *r = mem_alloc(sizeof *r);
    *r = (struct log_read){.call = call, .lines = json_array(), .after = (uint64_t)after, .limit = (size_t)limit};
    if (r->after > fnlog_end(log)) r->after = 0; // a cursor of the server's former life
    if (read_lines(r) > 0 || wait_ms == 0) {
        reply_lines(r);
        return;
    }
    r->wait = fnlog_wait_new(log, call->param, wait_ms, on_lines, r);
    call_on_gone(call, on_reader_gone, r);
}
