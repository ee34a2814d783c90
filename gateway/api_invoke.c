// SPDX-License-Identifier: Apache-2.0
// POST /v1/functions/{name}/invocations: a request becomes an event, now or at a given time.
//
// A sync call waits in the memory lane and is cancelled when its client goes away. An async one is answered when the
// queue has it durably; when its client goes away before, it is accepted all the same.
#include <strings.h>

#include "core/base/clock.h"
#include "core/digest.h"
#include "gateway/reply.h"

#define HEADER_PREFIX "x-weir-header-"
#define DEADLINE_MAX_MS INT64_C(3600000)
#define LINES_MAX 10000
#define LATER_MAX_MS INT64_C(31622400000) // 366 days

struct sync_wait {
    struct call *call;
    struct sync_call *sync;
    bool wants_log;
    char function[CALL_PARAM_BYTES];
};

// Headers of the request that become headers of the event; out has room for all.
static size_t event_headers(const struct http_request *req, struct ev_header *out) {
    size_t n = 0, prefix = sizeof HEADER_PREFIX - 1;
    for (size_t i = 0; i < req->header_count; i++) {
        struct http_field h = req->headers[i];
        if (h.name.len <= prefix || strncasecmp(h.name.data, HEADER_PREFIX, prefix) != 0) continue;
        out[n++] = (struct ev_header){{h.name.data + prefix, h.name.len - prefix}, h.value};
    }
    return n;
}

// Of one event: each line of an NDJSON body is JSON.
static struct str content_type_of(struct str body) {
    return str_starts(body, "application/x-ndjson") ? STR_LIT("application/json") : body;
}

static struct ev_fields fields_of(struct call *call) {
    const struct http_request *req = call->req;
    return (struct ev_fields){
        .id = call->id,
        .function = call->param,
        .qualifier = call_text(call, "qualifier"),
        .source_kind = STR_LIT("http"),
        .ordering_key = http_header(req, "x-weir-ordering-key"),
        .content_type = content_type_of(http_header(req, "content-type")),
        .trace = http_header(req, "traceparent"),
        .payload = req->body,
    };
}

// --- sync ---------------------------------------------------------------------------------------------------------

static bool returns_json(const struct gateway *gw, const struct sync_wait *w, uint32_t number) {
    struct function *fn = registry_find(gw->c.registry, str_of(w->function));
    struct version *v = fn ? function_version(fn, number) : NULL;
    return !v || !v->settings.runtime || strcmp(v->settings.runtime, "exec") != 0;
}

static void reply_result(struct sync_wait *w, const struct outcome_report *r) {
    char version[16], duration[32];
    struct buf log;
    buf_init(&log, OUTCOME_LOG_TAIL * 2);
    snprintf(version, sizeof version, "%u", r->version);
    snprintf(duration, sizeof duration, "%lld.%03lld", (long long)(r->duration_us / 1000), (long long)(r->duration_us % 1000));
    struct http_field headers[3] = {
        {STR_LIT("X-Weir-Version"), str_of(version)},
        {STR_LIT("X-Weir-Duration-Ms"), str_of(duration)},
    };
    size_t count = 2;
    if (w->wants_log && base64_encode(r->log_tail, &log) == 0) {
        headers[count++] = (struct http_field){STR_LIT("X-Weir-Log"), buf_str(&log)};
    }
    bool json = returns_json(w->call->gw, w, r->version);
    reply_bytes(w->call, 200, json ? STR_LIT("application/json") : STR_LIT("application/octet-stream"), headers, count, r->result);
    buf_done(&log);
}

static void reply_failure(struct call *call, int status, const char *code, const struct outcome_report *r) {
    json_t *more = json_pack("{s:o, s:o, s:o}", "errorType", reply_text(r->error_type), "stack", reply_text(r->stack), "log",
                             reply_text(r->log_tail));
    reply_problem(call, status, code, r->error_message, more);
}

static void reply_outcome(struct sync_wait *w, const struct outcome_report *r) {
    switch (r->outcome) {
    case OUTCOME_OK: reply_result(w, r); break;
    case OUTCOME_ERROR: reply_failure(w->call, 502, "FunctionError", r); break;
    case OUTCOME_CRASH: reply_failure(w->call, 502, "FunctionCrashed", r); break;
    case OUTCOME_TIMEOUT: reply_failure(w->call, 504, "FunctionTimeout", r); break;
    case OUTCOME_THROTTLED: reply_problem(w->call, 429, err_word(ERR_BUSY), r->error_message, NULL); break;
    case OUTCOME_PLATFORM: reply_problem(w->call, 503, err_word(ERR_UNAVAILABLE), r->error_message, NULL); break;
    }
}

static void on_result(void *arg, int code, const struct err *err, const struct outcome_report *result) {
    struct sync_wait *w = arg;
    if (code == 0) reply_outcome(w, result);
    else reply_err(w->call, err);
    free(w);
}

static void on_caller_gone(void *arg) {
    struct sync_wait *w = arg;
    ingest_sync_cancel(w->sync);
    free(w);
}

static void invoke_sync(struct call *call, struct ev_fields *f, int64_t wait_ms) {
    struct sync_wait *w = mem_zalloc(sizeof *w);
    w->call = call;
    w->wants_log = str_is(call_text(call, "logType"), "Tail");
    memcpy(w->function, call->param.data, call->param.len);
    f->invocation = EV_SYNC;
    f->deadline_ms = wait_ms ? clock_unix_ms() + wait_ms : 0;
    w->sync = ingest_sync(call->gw->c.ingest, ev_new(f), on_result, w);
    call_on_gone(call, on_caller_gone, w);
}

// --- async --------------------------------------------------------------------------------------------------------

static void on_accepted(void *arg, int code, const struct err *err) {
    struct call *call = arg;
    char body[64];
    if (code) {
        reply_err(call, err);
        return;
    }
    int n = snprintf(body, sizeof body, "{\"requestId\":\"%s\"}", call->id_text);
    reply_bytes(call, 202, STR_LIT("application/json"), NULL, 0, (struct str){body, (size_t)n});
}

struct lines {
    struct call *call;
    size_t count, room, open;
    struct line {
        struct lines *lines;
        struct id id;
        int code;
    } *line;
    struct err first; // refusal, in the order of the lines
    size_t first_at;
};

static void reply_lines(struct lines *all) {
    json_t *ids = json_array(), *refused_at = json_array();
    for (size_t i = 0; i < all->count; i++) {
        char text[ID_TEXT_BYTES];
        id_format(&all->line[i].id, text);
        if (all->line[i].code) MUST(json_array_append_new(refused_at, json_integer((json_int_t)i)) == 0);
        else MUST(json_array_append_new(ids, json_string(text)) == 0);
    }
    size_t refused = json_array_size(refused_at);
    if (refused == 0) {
        json_decref(refused_at);
        reply_json(all->call, 202, json_pack("{s:o}", "requestIds", ids));
    } else {
        json_t *more =
            json_pack("{s:o, s:I, s:o}", "accepted", ids, "refused", (json_int_t)refused, "refusedAt", refused_at);
        reply_problem(all->call, reply_status_of(all->first.code), err_word(all->first.code), str_of(all->first.text), more);
    }
    free(all->line);
    free(all);
}

static void on_line_accepted(void *arg, int code, const struct err *err) {
    struct line *line = arg;
    struct lines *all = line->lines;
    size_t at = (size_t)(line - all->line);
    line->code = code;
    if (code && at < all->first_at) {
        all->first = *err;
        all->first_at = at;
    }
    if (--all->open == 0) reply_lines(all);
}

// The next line of the body that is not empty, without its line end.
static bool next_line(struct str *left, struct str *ret) {
    while (left->len > 0) {
        const char *end = memchr(left->data, '\n', left->len);
        struct str line = {left->data, end ? (size_t)(end - left->data) : left->len};
        size_t used = end ? line.len + 1 : line.len;
        *left = (struct str){left->data + used, left->len - used};
        if (line.len > 0 && line.data[line.len - 1] == '\r') line.len--;
        if (line.len == 0) continue;
        *ret = line;
        return true;
    }
    return false;
}

static void invoke_lines(struct call *call, struct ev_fields *f) {
    struct lines *all = mem_zalloc(sizeof *all);
    struct str left = call->req->body, line;
    *all = (struct lines){.call = call, .first_at = SIZE_MAX, .open = 1};
    while (next_line(&left, &line)) all->count++;
    if (all->count > LINES_MAX) {
        reply_fail(call, ERR_TOO_LARGE, "the body has %zu lines; send at most %d in a request", all->count, LINES_MAX);
        free(all);
        return;
    }
    all->line = mem_array(all->count, sizeof *all->line);
    left = call->req->body;
    for (size_t i = 0; next_line(&left, &line); i++) {
        f->id = id_new();
        f->payload = line;
        all->line[i] = (struct line){.lines = all, .id = f->id};
        all->open++;
        ingest_async(call->gw->c.ingest, ev_new(f), on_line_accepted, &all->line[i]);
    }
    if (--all->open == 0) reply_lines(all);
}

// --- later --------------------------------------------------------------------------------------------------------

struct delayed {
    struct call *call;
    struct ev *ev;
    int64_t due_ms;
};

static void on_later_accepted(void *arg, int code, const struct err *err) {
    struct delayed *d = arg;
    if (code) reply_err(d->call, err);
    else reply_json(d->call, 202, json_pack("{s:s, s:I}", "requestId", d->call->id_text, "dueMs", (json_int_t)d->due_ms));
    ev_free(d->ev);
    free(d);
}

// core/ingest looks at it again when it is due; what can be seen to be wrong now is said now.
static int check_later(struct call *call, const struct ev_fields *f, int64_t due_ms, int64_t now_ms, struct err *err) {
    struct version *v;
    if (due_ms > now_ms + LATER_MAX_MS)
        return err_set(err, ERR_INVALID, "runAt is more than a year ahead; a timer with start= can wait longer");
    if (f->payload.len > EV_PAYLOAD_MAX)
        return err_set(err, ERR_TOO_LARGE, "the payload has %zu bytes; the limit is %u", f->payload.len, EV_PAYLOAD_MAX);
    return registry_resolve(call->gw->c.registry, f->function, f->qualifier, &v, err);
}

// Waits as a due letter; its age counts from when it is due. One that is due already runs at once.
static void invoke_later(struct call *call, struct ev_fields *f, int64_t due_ms) {
    struct err err;
    int64_t now_ms = clock_unix_ms();
    int rc = check_later(call, f, due_ms, now_ms, &err);
    if (rc) {
        if (!call_look_for(call, rc, api_invoke)) reply_err(call, &err);
        return;
    }
    struct delayed *d = mem_zalloc(sizeof *d);
    *d = (struct delayed){.call = call, .due_ms = due_ms};
    if (due_ms <= now_ms) {
        ingest_async(call->gw->c.ingest, ev_new(f), on_later_accepted, d);
        return;
    }
    f->accepted_ms = due_ms;
    d->ev = ev_new(f);
    const struct letter_draft draft = {.ev = d->ev, .state = LETTER_DUE, .kind = LETTER_DELAYED, .due_ms = due_ms};
    letters_put(call->gw->c.letters, &draft, on_later_accepted, d);
}

void api_invoke(struct call *call) {
    struct err err;
    int64_t wait_ms = 0, due_ms = -1;
    struct ev_header headers[HTTP_HEADERS_MAX];
    struct ev_fields f = fields_of(call);
    struct str type = call_text(call, "invokeType"), each = call_text(call, "each");
    bool sync = type.len == 0 || str_is(type, "RequestResponse");
    f.headers = headers;
    f.header_count = event_headers(call->req, headers);
    if (!sync && !str_is(type, "Event")) {
        reply_fail(call, ERR_INVALID, "invokeType must be RequestResponse or Event");
    } else if (each.len && (sync || !str_is(each, "line"))) {
        reply_fail(call, ERR_INVALID, "each takes only the value line, together with invokeType=Event");
    } else if (call_number(call, "deadlineMs", 1, DEADLINE_MAX_MS, &wait_ms, &err) < 0 ||
               call_time(call, "runAt", &due_ms, &err) < 0) {
        reply_err(call, &err);
    } else if (due_ms >= 0 && (sync || each.len)) {
        reply_fail(call, ERR_INVALID, "runAt is for one event that nobody waits for: give it invokeType=Event, and no each");
    } else if (due_ms >= 0) {
        invoke_later(call, &f, due_ms);
    } else if (sync) {
        invoke_sync(call, &f, wait_ms);
    } else if (each.len) {
        invoke_lines(call, &f);
    } else {
        ingest_async(call->gw->c.ingest, ev_new(&f), on_accepted, call);
    }
}
