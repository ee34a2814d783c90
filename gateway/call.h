// SPDX-License-Identifier: Apache-2.0
// One API request under way: what every handler gets, and the table of handlers.
//
// Flow: a handler must lead to exactly one reply_* (then the call is void) or, when it asked for call_on_gone, to its
//   callback when the client went away first. Without that a reply to nobody is fine.
// Threads: the loop's. Memory: the call and everything in it live until the reply.
#ifndef GATEWAY_CALL_H
#define GATEWAY_CALL_H

#include <jansson.h>

#include "core/id.h"
#include "gateway/access.h"
#include "gateway/gateway.h"
#include "gateway/http.h"

#define CALL_PARAM_BYTES 256

struct gateway {
    struct gateway_config c;
    struct http_server *http;
    struct access *access;
    struct call *calls;         // all that are open
    int64_t started_ms;
};

struct call;
typedef void call_fn(struct call *call);

struct call {
    struct gateway *gw;         // NULL after gateway_close: only a reply is left to do
    struct http_request *req;
    struct call *prev, *next;
    struct id id;               // X-Weir-Request-Id; of an invocation: its event's id
    char id_text[ID_TEXT_BYTES];
    char param_text[CALL_PARAM_BYTES];
    struct str param;           // the {} of the route, decoded
    char who[ACCESS_WHO_BYTES];
    struct audit *audit;        // api_audit.c
    int64_t audit_id;           // entry without an end; 0: none
    call_fn *audited;           // handler that waits for its entry
    call_fn *looking;           // handler that waits for a look at the store, once; call_target.c
    void (*on_gone)(void *arg); // of the handler
    void *gone_arg;
};

// The client went away: cancel what runs; the call is void after fn.
void call_on_gone(struct call *call, void (*fn)(void *arg), void *arg);
void call_end(struct call *call); // for reply.c

// A whole number from the query: 0 with *ret unchanged when it is missing, ERR_INVALID outside least..most.
int call_number(struct call *call, const char *name, int64_t least, int64_t most, int64_t *ret, struct err *err) must_use;
// The same for a time: Unix milliseconds, or RFC 3339.
int call_time(struct call *call, const char *name, int64_t *ret, struct err *err) must_use; // call_time.c
struct str call_text(struct call *call, const char *name); // empty when missing
// true or false from the query: the rest as call_number.
int call_flag(struct call *call, const char *name, bool *ret, struct err *err) must_use;
// The body, which must be a JSON object with no other members than `members` (ended by NULL); NULL: it was replied to.
json_t *call_body(struct call *call, const char *const members[]) must_use;
// The same of a text that stands for the body. flags: of jansson, JSON_ALLOW_NUL where texts may hold it.
json_t *call_body_of(struct call *call, struct str text, size_t flags, const char *const members[]) must_use;

// "function" or "function:version": is there such a one? Empty: yes.
int call_check_target(struct call *call, struct str to, struct err *err) must_use; // call_target.c
// rc is ERR_NOT_FOUND of a function or version: another node may have made it a moment ago. True: the store is looked at, then fn runs (or a
// reply goes that it is away). False: that was done before, or rc is another.
bool call_look_for(struct call *call, int rc, call_fn *fn) must_use;

struct str call_who(const struct call *call); // who asks, for the audit: the token's name
// Writes the entry, then runs the handler; a store that does not take it is the answer. dry_run: the body may ask for one, which has no entry.
void call_audit_begin(struct call *call, const char *action, bool dry_run, call_fn *fn); // api_audit.c
// reply_json_or_err of a change: the counts of the answer are the entry's outcome too, such as "ok: 595 discarded, 2 refused".
void call_changed(void *call, int code, const struct err *err, json_t *result);
// For reply.c. code: "ok", or the error's. Only the first counts.
void call_audit_end(struct call *call, const char *code, struct str message);

call_fn api_invoke;                                                                     // api_invoke.c
call_fn api_functions, api_function, api_deploy, api_delete, api_set_current, api_logs; // api_functions.c, api_logs.c
call_fn api_letters, api_letter, api_discard, api_restore, api_retry, api_purge, api_edit, api_import, api_try; // api_letters.c
call_fn api_replay_make, api_replays, api_replay, api_replay_pause, api_replay_resume, api_replay_cancel,
    api_replay_letters;                                                                 // api_replays.c
call_fn api_groups, api_group, api_group_describe;                                      // api_groups.c
call_fn api_policies, api_policy, api_policy_change, api_policy_remove;                 // api_policies.c
call_fn api_triggers, api_trigger, api_trigger_add, api_trigger_change, api_trigger_pause, api_trigger_resume, api_trigger_seek,
    api_trigger_lag, api_trigger_remove;                                                // api_triggers.c
call_fn api_timer_next, api_timer_fires, api_timer_fire;                                // api_timers.c
call_fn api_audit, api_audit_entry;                                                     // api_audit.c
call_fn api_status, api_config, api_metrics, api_health, api_ready;                     // api_server.c

#endif
