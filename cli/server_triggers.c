// SPDX-License-Identifier: Apache-2.0
// Where triggers and workers are joined: neither knows of the other. triggers/ makes the bindings, workers/ carries them out.
#include "cli/server_parts.h"

static void bind(void *arg, const struct binding *b) {
    struct server *s = arg;
    dispatch_bind(s->dispatch, b);
}

static void unbind(void *arg, const struct binding *b, void (*unbound)(void *arg), void *unbound_arg) {
    struct server *s = arg;
    dispatch_unbind(s->dispatch, b, unbound, unbound_arg);
}

static json_t *binding_status(void *arg, struct str function, struct str name) {
    const struct server *s = arg;
    return dispatch_binding_status(s->dispatch, function, name);
}

void server_make_bindings(struct server *s) {
    const struct bindings_config bindings = {.loop = s->loop,
                                             .ingest = s->ingest,
                                             .registry = s->registry,
                                             .metrics = s->metrics,
                                             .node = s->options->node.text,
                                             .arg = s,
                                             .bind = bind,
                                             .unbind = unbind,
                                             .status = binding_status};
    s->bindings = bindings_new(&bindings);
    const struct triggers_config triggers = server_triggers_config(s);
    s->triggers = triggers_new(&triggers);
    bindings_attach(s->bindings, s->triggers);
}

// The registry tells that the store's revision moved: a trigger may have changed.
void server_on_revision(void *arg) {
    struct server *s = arg;
    if (s->triggers) triggers_reload(s->triggers);
}
