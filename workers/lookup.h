// SPDX-License-Identifier: Apache-2.0
// The lookup: deliveries whose version is not known here wait for one look at the store, as another node may have made it a moment ago.
//
// Owns: the deliveries that wait. Flow: lookup_wait -> registry_refresh -> on_looked. One look is under way at a time; who comes
//   meanwhile waits for the next one, for this one may have read before the version was there.
// Delivery: each delivery comes back exactly once, by on_looked, or goes back to its queue by lookup_lost.
// Threads: the loop's. Memory: what waits is bounded by the consumers' credit.
#ifndef WORKERS_LOOKUP_H
#define WORKERS_LOOKUP_H

#include "core/registry.h"
#include "workers/delivery.h"

struct lookup {
    struct registry *registry;
    // code 0: the store was read, and d->looked_for says so; else it could not be. What d belongs to may end the lookup's owner.
    void (*on_looked)(void *arg, struct delivery *d, int code, const struct err *err);
    void *arg;
    struct delivery *next, *under_way; // of the look that begins later, and of this one
};

static inline void lookup_init(struct lookup *l, struct registry *registry,
                               void (*on_looked)(void *arg, struct delivery *d, int code, const struct err *err), void *arg) {
    *l = (struct lookup){.registry = registry, .on_looked = on_looked, .arg = arg};
}

void lookup_wait(struct lookup *l, struct delivery *d); // takes d
// The durable queue delivers all of its messages again: they go back, those of the look under way when it has ended.
void lookup_lost(struct lookup *l);

#endif
