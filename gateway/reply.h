// SPDX-License-Identifier: Apache-2.0
// Answers to API calls: JSON bodies, error bodies, and the header that carries the request's id.
//
// Each function here answers and ends the call. Memory: JSON is taken over; everything else is copied.
#ifndef GATEWAY_REPLY_H
#define GATEWAY_REPLY_H

#include "gateway/call.h"

#define REPLY_HEADERS_MAX 8

void reply_json(struct call *call, int status, json_t *body);
// content_type: a literal. Up to REPLY_HEADERS_MAX - 3 more headers.
void reply_bytes(struct call *call, int status, struct str content_type, const struct http_field *headers, size_t count,
                 struct str body);
void reply_err(struct call *call, const struct err *err);
void reply_fail(struct call *call, enum err_code code, const char *fmt, ...) printf_like(3, 4);
void reply_json_or_err(void *call, int code, const struct err *err, json_t *result); // with status 200
// {"code","message","requestId"} plus the members of `more` (taken over, may be NULL).
void reply_problem(struct call *call, int status, const char *code, struct str message, json_t *more);

int reply_status_of(enum err_code code); // the HTTP status of an error
// A JSON string of any bytes: what is not UTF-8 becomes U+FFFD.
json_t *reply_text(struct str text) must_use;

#endif
