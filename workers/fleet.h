// SPDX-License-Identifier: Apache-2.0
// All instances of this node: how many there may be, and pre-started generic ones for each runtime in use.
//
// Flow: fleet_take gives a spare (a cold start is then only the loading of code) or a new process; the taker calls
//   fleet_gone from its on_gone. Threads: the loop's. Blocking: as sandbox_spawn.
#ifndef WORKERS_FLEET_H
#define WORKERS_FLEET_H

#include "core/options.h"
#include "workers/instance.h"

struct fleet;
struct fleet_config {
    struct loop *loop;
    const struct options *options;
    const struct runtimes *runtimes;
    const struct sandbox *sandbox;
    struct fnlog *log;
    // There is room for an instance again.
    void (*on_room)(void *arg);
    // All places are taken and somebody wants one: let go of an idle instance. True when one ends now.
    bool (*on_pressure)(void *arg);
    // The same from somebody who has none, and no instance is idle: whoever has most must give one up. True when one will
    // end after its events.
    bool (*on_hunger)(void *arg);
    void *arg;
};

struct fleet *fleet_new(const struct fleet_config *config) must_use;
// `first`: the taker has no instance yet. ERR_BUSY: as many as there may be; on_room tells when to come again. ERR_INVALID: no such runtime. ERR_UNAVAILABLE: the
// system has no room for a process.
int fleet_take(struct fleet *f, const char *runtime, bool first, const struct instance_host *host, void *arg,
               struct instance **ret, struct err *err) must_use;
// The same beyond the maximum: for something short, such as a check.
int fleet_borrow(struct fleet *f, const char *runtime, const struct instance_host *host, void *arg, struct instance **ret,
                 struct err *err) must_use;
void fleet_gone(struct fleet *f);
size_t fleet_size(const struct fleet *f);     // taken and not gone
size_t fleet_max(const struct fleet *f);
// Ends the spares and keeps none any more; true when all are gone.
bool fleet_stop(struct fleet *f);
void fleet_free(struct fleet *f);

#endif
