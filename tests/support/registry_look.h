// SPDX-License-Identifier: Apache-2.0
// The stand-in of a registry for tests of core/ingest that bring a registry_resolve of their own: registry_refresh, which finds nothing new, and
// calls back at the end of the turn.
//
// Threads: the loop's. Memory: the test's; registry_look_done before it and the loop are gone.
#ifndef TESTS_SUPPORT_REGISTRY_LOOK_H
#define TESTS_SUPPORT_REGISTRY_LOOK_H

#include "core/registry.h"

struct registry {
    struct loop *loop;
    size_t looks;           // that have begun
    int code;               // what a look ends with
    bool held;              // looks wait for registry_look_end
    registry_done_fn *done; // NULL: none is under way
    void *arg;
    struct defer defer;
};

static inline void registry_look_end(void *arg) {
    struct registry *r = arg;
    struct err err = {0};
    registry_done_fn *done = r->done;
    r->done = NULL;
    if (r->code) err_set(&err, (enum err_code)r->code, "the store is away");
    done(r->arg, r->code, &err);
}

static inline void registry_look_init(struct registry *r, struct loop *loop) {
    *r = (struct registry){.loop = loop, .defer = {.fn = registry_look_end, .arg = r}};
}

static inline void registry_look_done(struct registry *r) {
    if (r->loop) loop_defer_cancel(r->loop, &r->defer);
}

void registry_refresh(struct registry *r, registry_done_fn *done, void *arg) {
    MUST(!r->done); // looks are shared
    r->looks++;
    r->done = done;
    r->arg = arg;
    if (!r->held) loop_defer(r->loop, &r->defer);
}

#endif
