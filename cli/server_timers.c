// SPDX-License-Identifier: Apache-2.0
// Which triggers are timers and which are bindings is told apart here, and timers are joined with what they need of the others.
#include "cli/server_parts.h"
#include "triggers/later.h"

// --- for core/trigger -------------------------------------------------------------------------------------------------

static bool function_exists(void *arg, struct str function) {
    const struct server *s = arg;
    return registry_find(s->registry, function) != NULL;
}

static void check(void *arg, const struct trigger *draft, trigger_checked_fn *done, void *done_arg) {
    struct server *s = arg;
    if (!timers_are_for(draft)) {
        bindings_check(s->bindings, draft, done, done_arg);
        return;
    }
    struct err err = {0};
    int rc = timers_check(draft, &err);
    later(s->loop, done, done_arg, rc, &err);
}

// A trigger that went, and one of another kind that came with its name, may be told as one change.
static void on_change(void *arg, struct str name, const struct trigger *t) {
    struct server *s = arg;
    bool timer = t && timers_are_for(t);
    timers_change(s->timers, name, timer ? t : NULL);
    bindings_on_change(s->bindings, name, timer ? NULL : t);
}

static char *default_name(void *arg, const struct trigger *draft) {
    struct server *s = arg;
    return timers_are_for(draft) ? timers_default_name(draft) : bindings_default_name(s->bindings, draft);
}

static void lag(void *arg, const struct trigger *t, trigger_json_fn *fn, void *fn_arg) {
    struct server *s = arg;
    if (timers_are_for(t)) timers_lag(s->timers, t, fn, fn_arg);
    else bindings_lag(s->bindings, t, fn, fn_arg);
}

static void seek(void *arg, const struct trigger *t, const char *to, trigger_checked_fn *done, void *done_arg) {
    struct server *s = arg;
    if (!timers_are_for(t)) {
        bindings_seek(s->bindings, t, to, done, done_arg);
        return;
    }
    struct err err;
    int rc = err_set(&err, ERR_INVALID, "a timer has no offsets to seek to; weir cron backfill %s runs times of the past", t->name);
    later(s->loop, done, done_arg, rc, &err);
}

struct triggers_config server_triggers_config(struct server *s) {
    return (struct triggers_config){.loop = s->loop,
                                    .store = s->store,
                                    .arg = s,
                                    .function_exists = function_exists,
                                    .check = check,
                                    .on_change = on_change,
                                    .default_name = default_name,
                                    .lag = lag,
                                    .seek = seek};
}

// --- making -----------------------------------------------------------------------------------------------------------

static void on_cancel(void *arg, const struct id *id) {
    struct server *s = arg;
    dispatch_cancel(s->dispatch, id);
}

static void on_due(void *arg, int64_t due_ms) {
    struct server *s = arg;
    due_hint(s->due, due_ms);
}

void server_make_fires(struct server *s) {
    const struct fires_config fires = {.loop = s->loop,
                                       .store = s->store,
                                       .letters = s->letters,
                                       .ingest = s->ingest,
                                       .keep_ms = s->options->timer_history_ms.number,
                                       .on_cancel = on_cancel,
                                       .on_due = on_due,
                                       .arg = s};
    s->fires = fires_new(&fires);
    const struct timers_config timers = {.loop = s->loop, .fires = s->fires, .registry = s->registry, .metrics = s->metrics};
    s->timers = timers_new(&timers);
}

// --- for the gateway --------------------------------------------------------------------------------------------------

static int timer_next(void *arg, struct str name, int64_t after_ms, int64_t until_ms, size_t count, json_t **ret, struct err *err) {
    struct server *s = arg;
    return timers_next(s->timers, name, after_ms, until_ms, count, ret, err);
}

static void timer_fire(void *arg, struct str name, int64_t scheduled_ms, struct str data, trigger_json_fn *fn, void *fn_arg) {
    struct server *s = arg;
    timers_fire(s->timers, name, scheduled_ms, data, fn, fn_arg);
}

void server_give_timers(struct server *s, struct gateway_config *gateway) {
    gateway->timer_next = timer_next;
    gateway->timer_fire = timer_fire;
    gateway->timer_arg = s;
    gateway->fires = s->fires;
}

void server_on_reload_signal(void *arg, int signo) {
    (void)signo;
    struct server *s = arg;
    if (!s->draining) timers_reload_zones(s->timers);
}
