// SPDX-License-Identifier: Apache-2.0
// What `weir status` shows: every part that knows something adds its section; the gateway asks for all of them.
//
// Flow: status_add(name, fn) at start; status_collect calls each fn, which fills a JSON value now or later.
// Threads: the loop's. Memory: the collected object belongs to the caller.
#ifndef CORE_STATUS_H
#define CORE_STATUS_H

#include <jansson.h>

#include "core/base/loop.h"

struct status;
struct status_reply; // one collection under way
// Must lead to exactly one status_answer(reply, section), soon; `section` is taken over (NULL: it is not known).
typedef void status_fn(void *arg, struct status_reply *reply);

struct status *status_new(struct loop *loop) must_use;
// Collections under way are dropped; their `done` does not run.
void status_free(struct status *s);
void status_add(struct status *s, const char *section, status_fn *fn, void *arg);
void status_answer(struct status_reply *reply, json_t *section);
// done gets the object when all have answered, or after wait_ms without the late ones; it owns the reference. It never
// runs inside the call. "missing":[names] is in the object when sections are late or not known.
void status_collect(struct status *s, int64_t wait_ms, void (*done)(void *arg, json_t *all), void *arg);

#endif
