// SPDX-License-Identifier: Apache-2.0
// Filters: which records of a topic or queue a function wants. A JSON pattern with the matching rules of EventBridge event
// patterns (AWS EventBridge User Guide, "Comparison operators for use in event patterns").
//
// The record is matched as {"key":text,"headers":{name:text},"partition":n,"offset":n,"timestamp":n,"topic":…,"queue":…,
//   "exchange":…,"routing_key":…,"body":JSON or text}: an object in the pattern descends, an array lists alternatives, of which one must
//   match; all members of an object must. Alternatives: literals, null, {"prefix"}, {"suffix"}, {"anything-but"},
//   {"numeric":[">",0,"<=",5]}, {"exists"}, {"equals-ignore-case"}, {"wildcard"}, {"cidr"}; "$or" at any object.
//   Arrays in the body match when one of their members does.
// Errors: ERR_INVALID says what is wrong and where (a path such as body.amount[0]). A body that is not JSON matches only
//   patterns that ask nothing of its members. Threads: any, one at a time for each filter. Memory: the body is parsed only when the
//   pattern asks for its members; depth and size are capped by EV_PAYLOAD_MAX and jansson's own depth limit.
#ifndef CORE_FILTER_H
#define CORE_FILTER_H

#include "core/ev.h"

#define FILTER_MAX_BYTES 65536

struct filter;
int filter_parse(struct str pattern, struct filter **ret, struct err *err) must_use;
bool filter_matches(const struct filter *f, const struct ev *ev);
void filter_free(struct filter *f);

#endif
