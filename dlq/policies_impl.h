// SPDX-License-Identifier: Apache-2.0
// Shared between the files that make up dlq/policies: nobody else includes it, but tests.
//
//   policies.c         settings, looking, life
//   policies_keep.c    rounds: what is deleted, gauges, the warning
//   policies_sql.c     what a round does in the store
//   policies_deploy.c  the replay after a deploy
#ifndef DLQ_POLICIES_IMPL_H
#define DLQ_POLICIES_IMPL_H

#include <uthash.h>

#include "dlq/letters_impl.h"
#include "dlq/policies.h"

// What this process knows of a function.
struct function_note {
    char *name;
    uint32_t deployed;          // the highest version so far; 0: none seen
    bool warned;                // of its cap
    bool counted, capped;       // by the last round: its gauges are not 0
    int64_t over_age, over_cap; // letters deleted that the audit was not told of
    int64_t told_ns;            // when it was told last; 0: never
    UT_hash_handle hh;
};

struct round;

struct policies {
    struct policies_config c;
    struct function_note *functions;
    struct timer *timer;
    bool started, stopped;
    size_t jobs;                // store jobs, and replays being made
    struct round *round;        // NULL: none is under way
    int64_t seldom_at_ns;       // when letters were last looked at whose id is ahead of its time
};
struct function_note *policies_note(struct policies *p, struct str function); // made when missing
void policies_submit(struct policies *p, struct store *store, struct store_job *job); // its done lowers p->jobs

struct policy {                 // 0: not set
    char *function;
    int64_t keep_ms, cap;
};
// Of a row's settings: {} when they are broken.
json_t *policies_settings(struct str text) must_use;

// --- policies_keep.c ------------------------------------------------------------------------------------------------------
void policies_keep(void *policies); // a round; the timer's
void policies_tell(struct policies *p, bool all); // the audit, what was deleted; all: even if it was told of the function within the hour
void policies_round_free(struct round *round);

#endif
