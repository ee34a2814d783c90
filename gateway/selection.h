// SPDX-License-Identifier: Apache-2.0
// Which letters a request means: the members of a selection in its query or in its body.
//
// Members: function, error, group, state, source, where, search, sinceMs, untilMs; in a body also ids, and all: true.
// A change must say which letters it means: an empty selection is an error, and so is an empty text in it, so that a forgotten member, or
// a variable of a script that was not set, does not hit all.
// Secrets: what the gateway's `redact` names stands neither in a selection's text nor in an error of its expression.
// Errors: ERR_INVALID names the member. Threads: the loop's. Memory: the selection owns copies; the caller frees it.
#ifndef GATEWAY_SELECTION_H
#define GATEWAY_SELECTION_H

#include "dlq/select.h"
#include "gateway/call.h"

// state: when none is given; empty: any.
int selection_of_query(struct call *call, const char *state, struct selection **ret, struct err *err) must_use;
int selection_of_body(const struct call *call, const json_t *body, const char *state, struct selection **ret, struct err *err) must_use;

// For the lists of members that call_body takes.
#define SELECTION_FILTERS "all", "function", "error", "group", "state", "source", "where", "search", "sinceMs", "untilMs"
#define SELECTION_MEMBERS "ids", SELECTION_FILTERS

// A member of a body: missing leaves *ret. ERR_INVALID: another type, or outside least..most.
int body_text(const json_t *body, const char *name, struct str *ret, struct err *err) must_use;
int body_number(const json_t *body, const char *name, int64_t least, int64_t most, int64_t *ret, struct err *err) must_use;
int body_real(const json_t *body, const char *name, double least, double most, double *ret, struct err *err) must_use;
int body_flag(const json_t *body, const char *name, bool *ret, struct err *err) must_use;

#endif
