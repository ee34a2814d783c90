// SPDX-License-Identifier: Apache-2.0
#include "gateway/reply.h"

#include <stdarg.h>
#include <stdint.h>

#include "core/base/text.h"

#define JSON_TYPE STR_LIT("application/json")

int reply_status_of(enum err_code code) {
    switch (code) {
    case ERR_OK: return 200;
    case ERR_INVALID: return 400;
    case ERR_DENIED: return 401;
    case ERR_NOT_FOUND: return 404;
    case ERR_CONFLICT: return 409;
    case ERR_TOO_LARGE: return 413;
    case ERR_BUSY: return 429;
    case ERR_UNAVAILABLE: return 503;
    case ERR_TIMEOUT: return 504;
    case ERR_FULL: return 507;
    case ERR_CORRUPT:
    case ERR_INTERNAL: break;
    }
    return 500;
}

json_t *reply_text(struct str text) {
    json_t *json = json_stringn(text.data ? text.data : "", text.len);
    if (json) return json;
    struct buf clean; // a broken byte becomes three
    buf_init(&clean, text.len * 3);
    MUST(text_append_clean(&clean, text, SIZE_MAX) == 0);
    json = json_stringn(buf_str(&clean).data, buf_len(&clean));
    MUST(json);
    buf_done(&clean);
    return json;
}

void reply_bytes(struct call *call, int status, struct str content_type, const struct http_field *headers, size_t count,
                 struct str body) {
    struct http_field all[REPLY_HEADERS_MAX] = {
        {STR_LIT("Content-Type"), content_type},
        {STR_LIT("X-Weir-Request-Id"), str_of(call->id_text)},
    };
    size_t n = 2;
    MUST(count <= REPLY_HEADERS_MAX - 3);
    for (size_t i = 0; i < count; i++) all[n++] = headers[i];
    if (status == 429 || status == 503) all[n++] = (struct http_field){STR_LIT("Retry-After"), STR_LIT("1")};
    struct http_request *req = call->req;
    call_audit_end(call, status < 400 ? "ok" : "failed", STR_NONE);
    http_respond(req, status, all, n, body); // first: the id is in the call
    call_end(call);
}

static void reply_json_with(struct call *call, int status, const struct http_field *headers, size_t count, json_t *body) {
    char *text = json_dumps(body, JSON_COMPACT | JSON_REAL_PRECISION(15));
    json_decref(body);
    MUST(text);
    reply_bytes(call, status, JSON_TYPE, headers, count, str_of(text));
    free(text);
}

void reply_json(struct call *call, int status, json_t *body) {
    reply_json_with(call, status, NULL, 0, body);
}

void reply_problem(struct call *call, int status, const char *code, struct str message, json_t *more) {
    const struct http_field challenge = {STR_LIT("WWW-Authenticate"), STR_LIT("Bearer")};
    json_t *body = json_pack("{s:s, s:o, s:s}", "code", code, "message", reply_text(message), "requestId", call->id_text);
    MUST(body);
    call_audit_end(call, code, message);
    if (more) json_object_update_missing(body, more);
    json_decref(more);
    reply_json_with(call, status, &challenge, status == 401, body);
}

void reply_err(struct call *call, const struct err *err) {
    reply_problem(call, reply_status_of(err->code), err_word(err->code), str_of(err->text), NULL);
}

void reply_fail(struct call *call, enum err_code code, const char *fmt, ...) {
    struct err err = {.code = code};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err.text, sizeof err.text, fmt, ap); // a truncated message is still a message
    va_end(ap);
    reply_err(call, &err);
}

void reply_json_or_err(void *call, int code, const struct err *err, json_t *result) {
    if (code) reply_err(call, err);
    else reply_json(call, 200, result);
}
