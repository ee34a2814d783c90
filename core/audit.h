// SPDX-License-Identifier: Apache-2.0
// The audit: who changed what, when, from where, what was asked for, and what came of it.
//
// Owns: the table `audit`. Flow: audit_begin -> the entry is durable -> the change is carried out -> audit_end. What the server does by itself
//   is noted in one go.
// Delivery: no change without a trace: whoever wants to change something goes on only after audit_begin has said 0. An entry without an
//   outcome is of a change that is under way, or whose server died, or whose end the store did not take for long: it may or may not have
//   happened. Ends and notes are written in batches, and again while the store is away; AUDIT_WAITING_MAX of them wait, more are dropped and
//   logged. A note can be there twice when the store broke off while it took it.
// Secrets: `detail` is masked by core/redact, and where the name of a member or a URL says that it is secret (trigger_mask_setting); then
//   it is cut to AUDIT_DETAIL_MAX and is still JSON: {"cut": "the beginning of its text"}.
// Housekeeping: at once, then each minute, what is older than keep_ms or over rows_max is deleted, the oldest first, AUDIT_TIDY_ROWS at a time.
// Clock: the store's. Threads: the loop's. Blocking: never. Memory: what is under way, and what waits.
// Errors: the store's; ERR_NOT_FOUND (audit_show); ERR_INVALID (audit_list: limit).
#ifndef CORE_AUDIT_H
#define CORE_AUDIT_H

#include <jansson.h>

#include "core/redact.h"
#include "core/store.h"

#define AUDIT_SELF "weir"             // who: the server by itself
#define AUDIT_WHO_MAX 100             // bytes; longer ones are cut
#define AUDIT_TARGET_MAX 256
#define AUDIT_OUTCOME_MAX 600
#define AUDIT_DETAIL_MAX 4096
#define AUDIT_KEEP_MS INT64_C(34560000000) // 400 days
#define AUDIT_ROWS_MAX 1000000
#define AUDIT_TIDY_ROWS 1000
#define AUDIT_WAITING_MAX 10000
#define AUDIT_LIST_MAX 1000

struct audit;
struct audit_config {
    struct loop *loop;
    struct store *store, *reader;     // reader: for lists
    const struct redact *redact;      // may be NULL
    int64_t keep_ms, rows_max;        // 0: AUDIT_KEEP_MS, AUDIT_ROWS_MAX
};
struct audit *audit_new(const struct audit_config *config) must_use;
// No more housekeeping; true when nothing waits or is under way. Ask again until it is. Entries are still taken.
bool audit_stop(struct audit *a);
void audit_free(struct audit *a);     // after the stores are closed: their last answers end entries

struct audit_entry {                  // texts are borrowed and cleaned
    struct str who, remote, action, target;
    json_t *detail;                   // taken over; NULL: {}
};
typedef void audit_begun_fn(void *arg, int code, const struct err *err, int64_t id); // id: from 1
void audit_begin(struct audit *a, const struct audit_entry *entry, audit_begun_fn *done, void *arg);
void audit_end(struct audit *a, int64_t id, struct str outcome); // "ok", "ok: " and counts, or the error's code and text; not empty
// By AUDIT_SELF; detail is taken over (NULL: {}). a may be NULL: nothing is noted.
void audit_note(struct audit *a, const char *action, struct str target, json_t *detail, struct str outcome);

struct audit_filter {
    struct str who, target;           // exactly; empty: any
    struct str action;                // how it begins: "letters."
    int64_t since_ms, until_ms;       // begun since, and before; 0: any
    int64_t before_id;                // older than this entry; 0: from the newest on
    size_t limit;                     // 1..AUDIT_LIST_MAX
};
// result: owned by the callee; NULL with an error. {"entries":[{"id","atMs","who","remote","action","target","detail":JSON,"outcome"}…],
// "next":id|null}, newest first; next: the before_id of the next page. "outcome" is "" while it is not known.
typedef void audit_json_fn(void *arg, int code, const struct err *err, json_t *result);
void audit_list(struct audit *a, const struct audit_filter *f, audit_json_fn *fn, void *arg);
void audit_show(struct audit *a, int64_t id, audit_json_fn *fn, void *arg); // one entry

#endif
