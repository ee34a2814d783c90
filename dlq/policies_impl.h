// SPDX-License-Identifier: Apache-2.0
// Shared between the files that make up dlq/policies: nobody else includes it.
//
//   policies.c         settings, looking, life
//   policies_keep.c    rounds: what is deleted when, gauges, the warning, what the audit is told
//   policies_sql.c     what a round does in the store
//   policies_deploy.c  the replay after a deploy
#ifndef DLQ_POLICIES_IMPL_H
#define DLQ_POLICIES_IMPL_H

#include <uthash.h>

#include "dlq/letters_impl.h"
#include "dlq/policies.h"

#define POLICY_STEP 2000                                 // rows that one job deletes
#define POLICY_FUNCTIONS_MAX METRIC_SERIES_MAX           // whose letters are counted
#define POLICY_EDITS_KEEP_MS (INT64_C(30) * 86400000)    // of letters that are gone: their event may come back
#define POLICY_REPLAYS_KEEP_MS (INT64_C(90) * 86400000)  // after they ended

// What this process knows of a function.
struct function_note {
    char *name;
    int64_t dead, cap;          // by the last round; cap 0: none
    bool shown_dead, shown_cap; // its gauges are not 0
    bool warned;
    int64_t over_age, over_cap; // letters deleted that the audit was not told of
    int64_t told_ns;            // when it was told last; 0: never
    UT_hash_handle hh;
};

struct round;
struct deploys;

struct policies {
    struct policies_config c;
    struct function_note *functions;
    struct timer *timer;
    bool started, stopped;
    size_t jobs;                // store jobs, and replays being made
    struct round *round;        // NULL: none is under way
    struct deploys *deploys;    // of the look that is under way; NULL: none is
    bool look_again;            // when that one has ended
    int64_t thorough_at_ns;     // when the last thorough round began; 0: there was none
};
struct function_note *policies_note(struct policies *p, struct str function); // made when missing
void policies_submit(struct policies *p, struct store *store, struct store_job *job); // its done lowers p->jobs
json_t *policies_settings(struct str text) must_use; // of a row: {} when they are broken

// --- rounds: policies_keep.c ------------------------------------------------------------------------------------------------
void policies_keep(void *policies); // begins one, or goes on with it; the timer's
void policies_tell(struct policies *p, bool all); // tells the audit; all: also of functions that it was told of within the hour
void policies_round_free(struct round *round);

// --- the store thread: policies_sql.c ---------------------------------------------------------------------------------------
struct policy {
    char *function;
    int64_t keep_ms, cap;       // 0: not set
    int64_t dead;
};
struct counted {
    char *function;
    int64_t dead;
};
struct round {
    struct store_job job;       // one at a time
    struct policies *policies;
    int stage;
    int64_t began_ns, job_began_ns;
    // Looks everywhere. Other rounds trust that what becomes too old does so in the order of ids, and of changes.
    bool thorough;
    struct policy *rules;       // those with keep_ms or cap come to their turn
    size_t rule_count, rule;    // rule: whose turn it is
    struct counted *counts;     // of every function
    size_t count_count;
    // what a look found, for the job that deletes it
    struct id ids[POLICY_STEP];
    size_t found;
    bool over_cap;              // they are too many, not too old
    int64_t before_ms;          // they are too old if before that
    struct id after;            // orphans: looked at so far
    bool more;                  // there may be more of them
    int64_t replay;
    struct id gone[POLICY_STEP]; // what was deleted
    size_t deleted;
};
// On the reader.
int policies_sql_count(struct round *r, struct sql *sql, struct err *err) must_use;   // rules, counts
int policies_sql_find(struct round *r, struct sql *sql, struct err *err) must_use;    // letters that the rule wants deleted
int policies_sql_find_orphans(struct round *r, struct sql *sql, struct err *err) must_use; // edited letters that are gone
int policies_sql_find_replay(struct round *r, struct sql *sql, struct err *err) must_use;    // one that is to go; 0: none
// On the writer. With a store that is shared letters are deleted by one node at a time: else nothing happens (deleted: 0).
int policies_sql_delete(struct round *r, struct sql *sql, struct err *err) must_use;
int policies_sql_delete_orphans(struct round *r, struct sql *sql, struct err *err) must_use;
int policies_sql_delete_replay(struct round *r, struct sql *sql, struct err *err) must_use;  // a step of it
void policies_sql_clear(struct round *r); // rules and counts

#endif
