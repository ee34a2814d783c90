// SPDX-License-Identifier: Apache-2.0
// Invariant: `live` holds one object for each trigger that is at work here or is being let go of. What a trigger says is looked at again
// when its object is gone, so that changes that come meanwhile are not lost.
#include "triggers/bindings.h"

#include <uthash.h>

#include "core/base/log.h"
#include "triggers/active.h"
#include "triggers/later.h"
#include "triggers/origin.h"

#define LAG_EVERY_MS 15000 // the metric
#define SEEK_WAIT_MS 60000 // for the group's members to leave

struct live {
    struct bindings *all;
    char *name;
    struct active *active;
    UT_hash_handle hh;
};

struct bindings {
    struct bindings_config c;
    const struct triggers *triggers;
    struct live *live;
    struct origins *origins;
    struct timer *lag_timer;
    size_t measuring; // answers to come
    bool stopping, ended;
    void (*on_stopped)(void *arg);
    void *arg;
};

static void measure_lags(void *arg);

struct bindings *bindings_new(const struct bindings_config *config) {
    struct bindings *b = mem_zalloc(sizeof *b);
    b->c = *config;
    b->origins = origins_new(&b->c);
    b->lag_timer = timer_new(config->loop, measure_lags, b);
    timer_start(b->lag_timer, LAG_EVERY_MS);
    return b;
}

void bindings_attach(struct bindings *b, const struct triggers *triggers) {
    b->triggers = triggers;
}

static struct live *find_live(const struct bindings *b, struct str name) {
    struct live *live;
    HASH_FIND(hh, b->live, name.data, name.len, live);
    return live;
}

// --- changes ----------------------------------------------------------------------------------------------------------

static void begin(struct bindings *b, const struct trigger *t) {
    struct err err = {0};
    struct active *active;
    if (!registry_find(b->c.registry, str_of(t->function))) {
        log_warn("trigger", "its function does not exist: the trigger rests", LOG_STR("trigger", t->name), LOG_STR("function", t->function));
        return;
    }
    if (active_open(&b->c, t, &active, &err)) {
        log_error("trigger", "a trigger cannot work", LOG_STR("trigger", t->name), LOG_STR("error", err.text));
        return;
    }
    struct live *live = mem_zalloc(sizeof *live);
    *live = (struct live){.all = b, .name = mem_strdup(t->name), .active = active};
    HASH_ADD_KEYPTR(hh, b->live, live->name, strlen(live->name), live);
    log_info("trigger", "a trigger is at work", LOG_STR("trigger", t->name), LOG_STR("function", t->function), LOG_STR("kind", t->kind));
}

static void end_if_stopped(struct bindings *b);

// The name may be a timer's by now.
static bool is_wanted(const struct trigger *t) {
    return t && t->state == TRIGGER_ACTIVE && strcmp(t->kind, spec_kind_word(SPEC_TIMER)) != 0;
}

static void on_closed(void *arg, struct active *active) {
    (void)active;
    struct live *live = arg;
    struct bindings *b = live->all;
    HASH_DEL(b->live, live);
    metrics_set(b->c.metrics, METRIC_TRIGGER_LAG, str_of(live->name), 0);
    const struct trigger *t = b->triggers ? triggers_find(b->triggers, str_of(live->name)) : NULL;
    if (b->stopping) end_if_stopped(b);
    else if (is_wanted(t)) begin(b, t);
    free(live->name);
    free(live);
}

void bindings_on_change(void *arg, struct str name, const struct trigger *t) {
    struct bindings *b = arg;
    struct live *live = find_live(b, name);
    if (b->stopping) return;
    bool wanted = is_wanted(t);
    if (!live) {
        if (wanted) begin(b, t);
    } else if (!wanted || !active_is_of(live->active, t)) {
        origins_forget(b->origins, name);
        active_close(live->active, t == NULL, false, on_closed, live);
    }
}

// --- checking ---------------------------------------------------------------------------------------------------------

static int check_sink(const struct bindings *b, const struct spec *s, const char *name, const char *text, struct err *err) {
    struct spec_sink sink;
    int rc = spec_sink_parse(s->kind, name, text, &sink, err);
    if (rc) return rc;
    if (sink.kind == SPEC_SINK_FUNCTION && !registry_find(b->c.registry, str_of(sink.to)))
        rc = err_set(err, ERR_NOT_FOUND, "%s: there is no function \"%s\"", name, sink.to);
    spec_sink_done(&sink);
    return rc;
}

static int check_words(const struct bindings *b, const struct spec *s, struct err *err) {
    int rc = check_sink(b, s, "on_success", s->on_success.text, err);
    return rc ? rc : check_sink(b, s, "on_failure", s->on_failure.text, err);
}

// A login that the broker refuses is the draft's fault, not that of the client's token.
struct check {
    trigger_checked_fn *done;
    void *arg;
};

static void on_network_checked(void *arg, int code, const struct err *err) {
    struct check c = *(struct check *)arg;
    free(arg);
    if (code != ERR_DENIED) {
        c.done(c.arg, code, err);
        return;
    }
    struct err said = *err;
    said.code = ERR_INVALID;
    c.done(c.arg, ERR_INVALID, &said);
}

static struct check *check_new(trigger_checked_fn *done, void *arg) {
    struct check *c = mem_alloc(sizeof *c);
    *c = (struct check){done, arg};
    return c;
}

static int check_kafka(struct bindings *b, const struct spec *s, const struct trigger *draft, trigger_checked_fn *done, void *arg,
                       struct err *err) {
    struct kafka_pair *pairs;
    struct kafka_config c = spec_kafka_config(&b->c, s, draft, &pairs);
    int rc = kafka_config_check(&c, err);
    if (rc == 0 && s->check.number) kafka_check(b->c.loop, &c, on_network_checked, check_new(done, arg));
    free(pairs);
    return rc;
}

void bindings_check(void *arg, const struct trigger *draft, trigger_checked_fn *done, void *done_arg) {
    struct bindings *b = arg;
    struct err err = {0};
    enum spec_kind kind;
    struct spec spec = {0};
    int rc = spec_kind_parse(str_of(draft->kind), &kind, &err);
    if (rc == 0) rc = spec_parse(kind, draft->settings, draft->function, &spec, &err);
    if (rc == 0) rc = check_words(b, &spec, &err);
    if (rc == 0 && kind == SPEC_KAFKA) {
        json_object_set_new(draft->settings, "group", json_string(spec.group.text)); // must not follow a later default
        rc = check_kafka(b, &spec, draft, done, done_arg, &err);
    } else if (rc == 0 && spec.check.number) {
        struct amqp_source_config c = spec_amqp_config(&spec, draft);
        amqp_check(b->c.loop, &c, on_network_checked, check_new(done, done_arg));
    }
    if (rc || !spec.check.number) later(b->c.loop, done, done_arg, rc, &err);
    spec_done(&spec);
}

char *bindings_default_name(void *arg, const struct trigger *draft) {
    (void)arg;
    static const char *const sources[] = {"topic", "queue", "exchange"};
    const char *source = NULL;
    for (size_t i = 0; i < array_len(sources) && !source; i++)
        source = json_string_value(json_object_get(draft->settings, sources[i]));
    char *name = mem_printf("%.20s-%.70s", draft->kind, source && *source ? source : draft->function);
    for (char *at = name; *at; at++)
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", *at)) *at = '-';
    return name;
}

// --- lag --------------------------------------------------------------------------------------------------------------

struct lag_call {
    struct bindings *all;
    json_t *answer;
    struct source *own; // opened for the question: the trigger is not at work here
    trigger_json_fn *fn;
    void *arg;
    int code;
    struct err err;
};

static void lag_done(void *arg) {
    struct lag_call *call = arg;
    if (call->code) json_decref(call->answer);
    call->fn(call->arg, call->code, &call->err, call->code ? NULL : call->answer);
    free(call);
}

static void on_lag(void *arg, int code, const struct err *err, json_t *result) {
    struct lag_call *call = arg;
    if (code) {
        call->code = code;
        call->err = *err;
    } else json_object_set_new(call->answer, "source", result);
    if (call->own) source_close(call->own, lag_done, call);
    else lag_done(call);
}

static int open_for_lag(struct lag_call *call, const struct trigger *t, struct err *err) {
    enum spec_kind kind;
    struct spec spec;
    int rc = spec_kind_parse(str_of(t->kind), &kind, err);
    if (rc == 0) rc = spec_parse(kind, t->settings, t->function, &spec, err);
    if (rc) return rc;
    rc = spec_source_open(&call->all->c, &spec, t, &call->own, err);
    spec_done(&spec);
    return rc;
}

static void on_no_source(void *arg, int code, const struct err *err) {
    on_lag(arg, code, err, NULL);
}

void bindings_lag(void *arg, const struct trigger *t, trigger_json_fn *fn, void *fn_arg) {
    struct bindings *b = arg;
    struct live *live = find_live(b, str_of(t->name));
    struct source *source = live && !active_is_closing(live->active) ? active_source(live->active) : NULL;
    struct lag_call *call = mem_zalloc(sizeof *call);
    json_t *binding = source ? b->c.status(b->c.arg, str_of(t->function), str_of(t->name)) : NULL;
    *call = (struct lag_call){.all = b, .fn = fn, .arg = fn_arg};
    call->answer = json_pack("{ss ss ss ss so}", "trigger", t->name, "function", t->function, "kind", t->kind, "state",
                             trigger_state_word(t->state), "binding", binding ? binding : json_null());
    struct err err = {0};
    int rc = source ? 0 : open_for_lag(call, t, &err);
    if (rc) later(b->c.loop, on_no_source, call, rc, &err);
    else source_lag(source ? source : call->own, on_lag, call);
}

// The metric, of what this node consumes.
struct measure {
    struct bindings *all;
    char *name;
};

static void on_measured(void *arg, int code, const struct err *err, json_t *result) {
    (void)err;
    struct measure *m = arg;
    struct bindings *b = m->all;
    json_t *partition;
    size_t i;
    double lag = 0;
    json_array_foreach(json_object_get(result, "partitions"), i, partition) {
        json_t *assigned = json_object_get(partition, "assigned"), *n = json_object_get(partition, "lag");
        if (!json_is_false(assigned) && json_integer_value(n) > 0) lag += (double)json_integer_value(n);
    }
    if (code == ERR_OK && find_live(b, str_of(m->name))) metrics_set(b->c.metrics, METRIC_TRIGGER_LAG, str_of(m->name), lag);
    json_decref(result);
    free(m->name);
    free(m);
    b->measuring--;
    if (b->stopping) end_if_stopped(b);
}

static void measure_lags(void *arg) {
    struct bindings *b = arg;
    for (struct live *live = b->live; live && !b->stopping; live = live->hh.next) {
        if (active_is_closing(live->active)) continue;
        struct measure *m = mem_zalloc(sizeof *m);
        *m = (struct measure){.all = b, .name = mem_strdup(live->name)};
        b->measuring++;
        source_lag(active_source(live->active), on_measured, m);
    }
    if (!b->stopping) timer_start(b->lag_timer, LAG_EVERY_MS);
}

// --- seeking ----------------------------------------------------------------------------------------------------------

static int seek(struct bindings *b, const struct trigger *t, const char *to, trigger_checked_fn *done, void *arg, struct err *err) {
    enum spec_kind kind;
    struct spec spec;
    cleanup_free char *place = NULL;
    int rc = spec_kind_parse(str_of(t->kind), &kind, err);
    if (rc == 0 && kind != SPEC_KAFKA)
        rc = err_set(err, ERR_INVALID, "an AMQP queue has no positions to seek to: what was acknowledged is gone");
    if (rc == 0) rc = spec_seek_parse(to, &place, err);
    if (rc == 0) rc = spec_parse(kind, t->settings, t->function, &spec, err);
    if (rc) return rc;
    struct kafka_pair *pairs;
    struct kafka_config c = spec_kafka_config(&b->c, &spec, t, &pairs);
    kafka_seek(b->c.loop, &c, place, SEEK_WAIT_MS, done, arg);
    free(pairs);
    spec_done(&spec);
    return 0;
}

void bindings_seek(void *arg, const struct trigger *t, const char *to, trigger_checked_fn *done, void *done_arg) {
    struct bindings *b = arg;
    struct err err = {0};
    int rc = seek(b, t, to, done, done_arg, &err);
    if (rc) later(b->c.loop, done, done_arg, rc, &err);
}

void bindings_to_origin(void *arg, const struct ev *ev, sink_done_fn *done, void *done_arg) {
    struct bindings *b = arg;
    origins_send(b->origins, b->triggers, ev, done, done_arg);
}

// --- the end ----------------------------------------------------------------------------------------------------------

static void on_origins_stopped(void *arg) {
    struct bindings *b = arg;
    b->on_stopped(b->arg);
}

static void end_if_stopped(struct bindings *b) {
    if (b->live || b->measuring || !b->on_stopped || b->ended) return;
    b->ended = true;
    origins_stop(b->origins, on_origins_stopped, b);
}

static void stop_all(void *arg, int code, const struct err *err) {
    (void)code;
    (void)err;
    struct bindings *b = arg;
    struct live *live, *next;
    if (!b->live) end_if_stopped(b);
    else HASH_ITER(hh, b->live, live, next) active_close(live->active, false, true, on_closed, live);
}

void bindings_drain(struct bindings *b) {
    b->stopping = true;
    struct live *live, *next;
    HASH_ITER(hh, b->live, live, next) if (active_is_relay(live->active)) active_close(live->active, false, false, on_closed, live);
}

void bindings_stop(struct bindings *b, void (*on_stopped)(void *arg), void *arg) {
    b->stopping = true;
    b->on_stopped = on_stopped;
    b->arg = arg;
    const struct err none = {0};
    later(b->c.loop, stop_all, b, 0, &none); // on_stopped never runs inside the call
}

void bindings_free(struct bindings *b) {
    if (!b) return;
    timer_free(b->lag_timer);
    origins_free(b->origins);
    free(b);
}
