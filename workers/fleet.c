// SPDX-License-Identifier: Apache-2.0
#include "workers/fleet.h"

#include <unistd.h>

#include "core/base/log.h"

#define REFILL_MS 20 // after a spare was taken: its taker loads first
#define INSTANCES_PER_CPU 4

struct spares {
    struct fleet *fleet;
    const struct runtime *runtime;
    struct instance *list; // generic
    size_t count;
    bool wanted;           // somebody has used this runtime
};

struct fleet {
    struct fleet_config c;
    size_t taken, max, ending;
    struct spares *spares; // one a runtime
    struct timer *refill;
    bool stopped;
    bool evicting, yielding; // one at a time: a place is being made
    struct log_repeat trouble;
};

static struct instance_links *links(struct instance *inst) {
    return instance_links(inst);
}

static void spare_remove(struct spares *s, struct instance *inst) {
    struct instance_links *l = links(inst);
    if (l->prev) links(l->prev)->next = l->next;
    else s->list = l->next;
    if (l->next) links(l->next)->prev = l->prev;
    *l = (struct instance_links){0};
    s->count--;
}

static void spare_add(struct spares *s, struct instance *inst) {
    *links(inst) = (struct instance_links){.next = s->list};
    if (s->list) links(s->list)->prev = inst;
    s->list = inst;
    s->count++;
}

// A spare ended by itself or because we said so.
static void on_spare_gone(void *arg, struct instance *inst) {
    struct spares *s = arg;
    if (s->fleet->stopped) {
        s->fleet->ending--;
        return;
    }
    spare_remove(s, inst);
    timer_start(s->fleet->refill, 1000); // slowly: something is wrong with it
}

static const struct instance_host spare_host = {.on_gone = on_spare_gone};

static void refill_one(struct spares *s) {
    struct fleet *f = s->fleet;
    while (s->wanted && s->count < (size_t)f->c.options->spare_instances.number) {
        struct instance *inst;
        struct err err = {0};
        if (instance_start(f->c.loop, f->c.sandbox, s->runtime, f->c.log, &spare_host, s, &inst, &err)) {
            log_repeating(&f->trouble, LOG_LEVEL_WARN, "fleet", "cannot start a spare instance", err.text);
            return;
        }
        spare_add(s, inst);
    }
}

static void on_refill(void *arg) {
    struct fleet *f = arg;
    for (size_t i = 0; i < f->c.runtimes->count && !f->stopped; i++) refill_one(&f->spares[i]);
}

struct fleet *fleet_new(const struct fleet_config *config) {
    struct fleet *f = mem_zalloc(sizeof *f);
    f->c = *config;
    f->max = (size_t)config->options->max_instances.number;
    if (f->max == 0) f->max = INSTANCES_PER_CPU * (size_t)sysconf(_SC_NPROCESSORS_ONLN);
    f->spares = mem_array(config->runtimes->count, sizeof *f->spares);
    for (size_t i = 0; i < config->runtimes->count; i++)
        f->spares[i] = (struct spares){.fleet = f, .runtime = &config->runtimes->list[i]};
    f->refill = timer_new(config->loop, on_refill, f);
    return f;
}

static void make_room(struct fleet *f, bool first) {
    if (!f->evicting) f->evicting = f->c.on_pressure(f->c.arg);
    if (first && !f->evicting && !f->yielding) f->yielding = f->c.on_hunger(f->c.arg);
}

int fleet_take(struct fleet *f, const char *runtime, bool first, const struct instance_host *host, void *arg,
               struct instance **ret, struct err *err) {
    if (f->taken < f->max) return fleet_borrow(f, runtime, host, arg, ret, err);
    make_room(f, first);
    return err_set(err, ERR_BUSY, "all %zu instances are in use; see --max-instances", f->max);
}

int fleet_borrow(struct fleet *f, const char *runtime, const struct instance_host *host, void *arg, struct instance **ret,
                 struct err *err) {
    if (f->stopped) return err_set(err, ERR_UNAVAILABLE, "the server is stopping");
    const struct runtime *rt;
    int rc = runtimes_find(f->c.runtimes, runtime, &rt, err);
    if (rc) return rc;
    struct spares *s = &f->spares[rt - f->c.runtimes->list];
    s->wanted = true;
    timer_start(f->refill, REFILL_MS);
    if (s->list) {
        *ret = s->list;
        spare_remove(s, s->list);
        instance_move(*ret, host, arg);
    } else {
        rc = instance_start(f->c.loop, f->c.sandbox, rt, f->c.log, host, arg, ret, err);
        if (rc) return rc;
    }
    f->taken++;
    return 0;
}

void fleet_gone(struct fleet *f) {
    MUST(f->taken > 0);
    f->taken--;
    f->evicting = f->yielding = false;
    if (!f->stopped) f->c.on_room(f->c.arg);
}

size_t fleet_size(const struct fleet *f) {
    return f->taken;
}

size_t fleet_max(const struct fleet *f) {
    return f->max;
}

bool fleet_stop(struct fleet *f) {
    if (!f->stopped) {
        f->stopped = true;
        timer_stop(f->refill);
        for (size_t i = 0; i < f->c.runtimes->count; i++) {
            struct spares *s = &f->spares[i];
            while (s->list) {
                struct instance *inst = s->list;
                spare_remove(s, inst);
                f->ending++;
                instance_kill(inst, true);
            }
        }
    }
    return f->ending == 0;
}

void fleet_free(struct fleet *f) {
    if (!f) return;
    timer_free(f->refill);
    free(f->spares);
    free(f);
}
