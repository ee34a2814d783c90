// SPDX-License-Identifier: Apache-2.0
// The bindings of this node: makes each active trigger's source, sinks and binding, and lets go of them again.
//
// Owns: every struct binding, its source and its sinks. Flow: core/trigger's callbacks -> bindings_* -> the workers, through the
//   callbacks of the config (triggers and workers never see each other).
//   A trigger that changed is let go of (what runs finishes, offsets are committed, the group is left) and made anew.
// Delivery: a source is closed only after its consumer; a relay acknowledges after the function's queue has the event durably.
// Threads: the loop's. Blocking: never.
#ifndef TRIGGERS_BINDINGS_H
#define TRIGGERS_BINDINGS_H

#include "core/amqp_source.h"
#include "core/ingest.h"
#include "core/kafka.h"
#include "core/trigger.h"
#include "triggers/spec.h"

typedef void trigger_checked_fn(void *arg, int code, const struct err *err); // of check and seek

struct bindings;
struct bindings_config {
    struct loop *loop;
    struct ingest *ingest;
    struct registry *registry;
    struct metrics *metrics;
    const char *node; // stable name of this node, for static membership; "" none
    void *arg; // of the callbacks: the workers
    void (*bind)(void *arg, const struct binding *b);
    void (*unbind)(void *arg, const struct binding *b, void (*unbound)(void *unbound_arg), void *unbound_arg);
    json_t *(*status)(void *arg, struct str function, struct str name);
};

struct bindings *bindings_new(const struct bindings_config *config) must_use;
// To be set before the first change: where a trigger is looked up again when what it was before has ended.
void bindings_attach(struct bindings *b, const struct triggers *triggers);
// The server is stopping: nothing begins any more, and relays end. The workers' drain sees to the bindings.
void bindings_drain(struct bindings *b);
// Closes every source and sink; on_stopped runs later. The workers have drained by then and are gone.
void bindings_stop(struct bindings *b, void (*on_stopped)(void *arg), void *arg);
void bindings_free(struct bindings *b);

// The callbacks of struct triggers_config; arg is the struct bindings.
void bindings_check(void *arg, const struct trigger *draft, trigger_checked_fn *done, void *done_arg);
void bindings_on_change(void *arg, struct str name, const struct trigger *t);
char *bindings_default_name(void *arg, const struct trigger *draft) must_use;
void bindings_lag(void *arg, const struct trigger *t, trigger_json_fn *fn, void *fn_arg);
void bindings_seek(void *arg, const struct trigger *t, const char *to, trigger_checked_fn *done, void *done_arg);
// Sends a letter's record back to the topic or queue that it came from.
void bindings_to_origin(void *arg, const struct ev *ev, sink_done_fn *done, void *done_arg);

#endif
