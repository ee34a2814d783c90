// SPDX-License-Identifier: Apache-2.0
// Who asks: the tokens that the server takes, and what the audit calls who sends one.
//
// `token` is one token, of the name "token"; `tokens` are more, with names. A request must carry one of them; without any, everybody may ask,
//   and is "anonymous", or whom X-Weir-User names, with " (unverified)" behind it.
// Errors: ERR_INVALID (`tokens` is no list of NAME:SECRET); the text has no secret in it. Threads: any, after access_new.
#ifndef GATEWAY_ACCESS_H
#define GATEWAY_ACCESS_H

#include "core/audit.h"
#include "core/options.h"
#include "gateway/http.h"

#define ACCESS_WHO_BYTES (AUDIT_WHO_MAX + 1)
#define ACCESS_TOKENS_MAX 1000

struct access;
// The texts are those of `o`, which outlives it.
int access_new(const struct options *o, struct access **ret, struct err *err) must_use;
void access_free(struct access *a);
bool access_is_open(const struct access *a); // no token is asked for
// May the request be carried out? Who it is by.
bool access_check(const struct access *a, const struct http_request *req, char ret_who[ACCESS_WHO_BYTES]);

#endif
