// SPDX-License-Identifier: Apache-2.0
#include "workers/pools.h"

#include <unistd.h>
#include <utlist.h>

// --- one of them ------------------------------------------------------------------------------------------------------

static bool is_current(const struct pools *ps, const struct pool *pool) {
    const struct function *fn = registry_find(ps->c->registry, str_of(ps->name));
    return fn && function_version(fn, fn->current) == pool_version(pool); // the number may be another function's by now
}

static bool is_empty(const struct pool *pool) {
    return pool_instances(pool) == 0 && pool_waiting(pool) == 0 && pool_in_flight(pool) == 0;
}

void pools_drop_empty(struct pools *ps) {
    for (struct pools_item **at = &ps->list; *at;) {
        struct pools_item *item = *at;
        if (!is_empty(item->pool) || is_current(ps, item->pool)) {
            at = &item->next;
            continue;
        }
        *at = item->next;
        pool_free(item->pool);
        free(item);
    }
}

static bool on_handout(void *arg, struct delivery *d) {
    struct pools *ps = arg;
    return ps->on_handout(ps->arg, d);
}

static void on_outcome(void *arg, struct delivery *d, const struct outcome_report *report) {
    struct pools *ps = arg;
    ps->on_outcome(ps->arg, d, report);
}

static void on_change(void *arg, struct pool *pool) {
    struct pools *ps = arg;
    (void)pool;
    ps->on_change(ps->arg);
    pools_drop_empty(ps);
}

// The version's own word, else the server's setting, else one a processor.
static size_t max_instances(const struct pools *ps, const struct version *v) {
    if (v->settings.max_instances) return v->settings.max_instances;
    if (ps->c->options->function_instances.number) return (size_t)ps->c->options->function_instances.number;
    return (size_t)sysconf(_SC_NPROCESSORS_ONLN);
}

static struct pool *pool_for(struct pools *ps, struct version *v) {
    for (struct pools_item *item = ps->list; item; item = item->next)
        if (pool_version(item->pool) == v) return item->pool;
    const struct pool_config config = {.loop = ps->c->loop,
                                       .fleet = ps->fleet,
                                       .registry = ps->c->registry,
                                       .metrics = ps->c->metrics,
                                       .version = v,
                                       .idle_ms = ps->c->options->instance_idle_ms.number,
                                       .max_instances = max_instances(ps, v),
                                       .on_handout = on_handout,
                                       .on_outcome = on_outcome,
                                       .on_change = on_change,
                                       .arg = ps};
    struct pools_item *item = mem_zalloc(sizeof *item);
    *item = (struct pools_item){.next = ps->list, .pool = pool_new(&config)};
    ps->list = item;
    return item->pool;
}

// --- deliveries -------------------------------------------------------------------------------------------------------

void pools_submit(struct pools *ps, struct version *v, struct delivery *d) {
    pool_submit(pool_for(ps, v), d);
}

struct delivery *pools_take_waiting(struct pools *ps, bool (*wanted)(const void *arg, const struct delivery *d), const void *arg) {
    struct delivery *taken = NULL;
    for (struct pools_item *item = ps->list; item; item = item->next) {
        struct delivery *list = pool_take_waiting(item->pool), *d, *next;
        DL_FOREACH_SAFE(list, d, next) {
            DL_DELETE(list, d);
            if (!wanted || wanted(arg, d)) DL_APPEND(taken, d);
            else pool_submit(item->pool, d);
        }
    }
    return taken;
}

bool pools_cancel(struct pools *ps, const struct id *id, struct delivery **ret) {
    for (struct pools_item *item = ps->list; item; item = item->next) {
        *ret = pool_take(item->pool, id);
        if (*ret || pool_cancel(item->pool, id)) return true;
    }
    return false;
}

// --- all of them ------------------------------------------------------------------------------------------------------

bool pools_have_room(const struct pools *ps) {
    for (const struct pools_item *item = ps->list; item; item = item->next)
        if (is_current(ps, item->pool)) return pool_is_hungry(item->pool);
    return true;
}

bool pools_have_waiting_of(const struct pools *ps, const struct intake *in) {
    for (const struct pools_item *item = ps->list; item; item = item->next)
        if (pool_has_waiting_of(item->pool, in)) return true;
    return false;
}

bool pools_are_hungry(const struct pools *ps) {
    for (const struct pools_item *item = ps->list; item; item = item->next)
        if (pool_waiting(item->pool) && pool_instances(item->pool) == 0) return true;
    return false;
}

struct pools_count pools_count(const struct pools *ps) {
    struct pools_count n = {0};
    for (const struct pools_item *item = ps->list; item; item = item->next) {
        n.instances += pool_instances(item->pool);
        n.busy += pool_busy(item->pool);
        n.waiting += pool_waiting(item->pool);
        n.in_flight += pool_in_flight(item->pool);
    }
    return n;
}

void pools_pump(struct pools *ps) {
    for (struct pools_item *item = ps->list; item; item = item->next) pool_pump(item->pool);
}

bool pools_yield(struct pools *ps) {
    for (struct pools_item *item = ps->list; item; item = item->next)
        if (pool_yield(item->pool)) return true;
    return false;
}

bool pools_evict_idle(struct pools *ps) {
    for (struct pools_item *item = ps->list; item; item = item->next)
        if (pool_evict_idle(item->pool)) return true;
    return false;
}

void pools_retire(struct pools *ps, bool current_too) {
    for (struct pools_item *item = ps->list; item; item = item->next)
        if (current_too || !is_current(ps, item->pool)) pool_retire(item->pool);
}

void pools_kill(struct pools *ps) {
    for (struct pools_item *item = ps->list; item; item = item->next) pool_kill(item->pool);
}

void pools_done(struct pools *ps) {
    while (ps->list) {
        struct pools_item *item = ps->list;
        ps->list = item->next;
        pool_free(item->pool);
        free(item);
    }
}
