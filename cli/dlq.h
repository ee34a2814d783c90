// SPDX-License-Identifier: Apache-2.0
// Inside of weir dlq: the options that select letters, and the table, which list and replay --dry-run share.
//
// Threads: one. Blocking: yes.
#ifndef CLI_DLQ_H
#define CLI_DLQ_H

#include "cli/client.h"

#define DLQ_PAGE 1000 // letters a call

// Rows for the tables of commands that select letters.
#define DLQ_FILTER_SPECS                                                                                       \
    {"function", 'F', ARG_TEXT, "NAME", "only letters of this function", NULL},                                \
        {"error", 'E', ARG_TEXT, "TYPE", "only with this error type, such as KeyError", NULL},                 \
        {"since", 0, ARG_WHEN, "WHEN", "only changed since then: 2h (ago) or 2026-01-31T12:00:00Z", NULL},     \
        {"until", 0, ARG_WHEN, "WHEN", "only changed before", NULL},                                           \
        {"limit", 0, ARG_COUNT, "N", "at most so many", NULL}
#define DLQ_STATE_SPEC(what) \
    {"state", 's', ARG_WORD, "STATE", what, "due|dead|replaying|replayed|discarded"}

// Fetches up to `limit` letters (0: all) of the filter over as many pages as that takes. state: NULL for the server's
// default (dead). *ret_more: there are others.
int dlq_fetch(struct client *c, const struct args *a, const char *state, int64_t limit, json_t **ret_letters, bool *ret_more)
    must_use;
int dlq_fetch_one(struct client *c, const char *id, json_t **ret) must_use;
void dlq_print_table(const json_t *letters);

// The filter as members of a request; an empty object when none was given.
json_t *dlq_filter_json(const struct args *a, const char *state) must_use;
// One option of the filter was given (--limit is none).
bool dlq_has_filter(const struct args *a);
// "letters of hello with error KeyError"; caller frees.
char *dlq_filter_text(const struct args *a) must_use;

extern const struct command dlq_show, dlq_replay, dlq_discard, dlq_purge;

#endif
