// SPDX-License-Identifier: Apache-2.0
// The HTTP API of the server: invocations, functions, triggers, letters, replays, status, metrics. Described in schema/openapi.yaml.
//
// Owns: the HTTP server and the requests that run. Flow: request -> token -> route -> handler (api_*.c) -> reply.
// Does not: run or store anything itself. Threads: the loop's. Blocking: never.
// Errors: gateway_open: ERR_INVALID (an address that is not understood, or off loopback without a token), ERR_CONFLICT
//   (address in use), ERR_DENIED.
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include "core/fnlog.h"
#include "core/ingest.h"
#include "core/metrics.h"
#include "core/options.h"
#include "core/registry.h"
#include "core/status.h"
#include "core/trigger.h"
#include "dlq/groups.h"
#include "dlq/letters.h"
#include "dlq/policies.h"
#include "dlq/replays.h"
#include "dlq/try.h"

struct fires; // dlq/fires.h
struct gateway;

struct gateway_config {         // everything but `redact`, `triggers`, `timer_*`, `fires` and `ready` is needed and outlives the gateway
    struct loop *loop;
    const struct options *options;
    struct registry *registry;
    struct ingest *ingest;
    struct letters *letters;
    struct groups *groups;
    struct replays *replays;
    struct trials *trials;
    struct policies *policies;
    struct audit *audit;        // NULL: nothing is audited
    const struct redact *redact; // NULL: selections have no secrets
    struct fnlog *fnlog;
    struct metrics *metrics;
    struct status *status;
    struct triggers *triggers;  // NULL: /v1/triggers answers 503
    // Timers (triggers/timers, joined in cli/); NULL: their paths answer 503. What they give, and when, is told there.
    int (*timer_next)(void *arg, struct str name, int64_t after_ms, int64_t until_ms, size_t count, json_t **ret, struct err *err);
    void (*timer_fire)(void *arg, struct str name, int64_t scheduled_ms, struct str data, trigger_json_fn *fn, void *fn_arg);
    void *timer_arg;
    struct fires *fires;        // NULL: no history
    bool (*ready)(void *arg, const char **why); // false: why not, for /readyz; may be NULL
    void *ready_arg;
};

int gateway_open(const struct gateway_config *config, struct gateway **ret, struct err *err) must_use;
int gateway_port(const struct gateway *gw); // the real one when options.listen says port 0
// Stops accepting; answers to running requests still go out, then their connections are closed.
void gateway_drain(struct gateway *gw);
// Requests without an answer, or with one that is not out yet.
size_t gateway_open_requests(const struct gateway *gw);
// Running sync calls are cancelled, their clients cut off. Before the parts in the config are freed.
void gateway_close(struct gateway *gw);

#endif
