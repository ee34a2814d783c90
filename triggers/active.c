// SPDX-License-Identifier: Apache-2.0
// Invariant: the binding lives until the workers said `unbound`, the source until its consumer is closed, and the sinks until
// no delivery can use them any more.
#include "triggers/active.h"

#include "core/base/log.h"
#include "triggers/relay.h"

struct active {
    const struct bindings_config *config;
    struct spec spec;
    char *name, *function, *kind, *settings; // settings: as canonical JSON text, to see changes
    uint64_t epoch;
    struct binding binding;
    struct spec_sink success, failure;
    struct relay *relay; // instead of being bound
    bool closing, gone;
    size_t open; // what is still to close
    void (*on_closed)(void *arg, struct active *a);
    void *arg;
};

// --- settings to configurations ---------------------------------------------------------------------------------------

struct kafka_config spec_kafka_config(const struct bindings_config *config, const struct spec *s, const struct trigger *t,
                                      struct kafka_pair **ret_pairs) {
    struct kafka_pair *pairs = mem_array(s->extra_count + 1, sizeof *pairs);
    for (size_t i = 0; i < s->extra_count; i++) pairs[i] = (struct kafka_pair){s->extra[i].name, s->extra[i].value};
    struct kafka_config c;
    kafka_config_init(&c);
    c.brokers = s->brokers.text;
    c.topic = s->topic.text;
    c.group = s->group.text;
    c.from = s->from.text;
    c.member = config->node && config->node[0] ? config->node : NULL;
    c.trigger = t->name;
    c.shape = s->shape.text;
    c.epoch = t->epoch;
    c.commit_ms = s->commit_ms.number;
    c.revoke_ms = s->revoke_ms.number;
    c.extra = pairs;
    c.extra_count = s->extra_count;
    *ret_pairs = pairs;
    return c;
}

static const char *text_or_null(const struct spec_value *v) {
    return v->text[0] ? v->text : NULL;
}

struct amqp_source_config spec_amqp_config(const struct spec *s, const struct trigger *t) {
    return (struct amqp_source_config){.url = s->url.text,
                                       .queue = text_or_null(&s->queue),
                                       .exchange = text_or_null(&s->exchange),
                                       .binding = s->exchange.text[0] ? s->routing.text : NULL, // it has a default
                                       .declare = s->declare.number,
                                       .prefetch = (uint32_t)s->prefetch.number,
                                       .trigger = t->name,
                                       .shape = s->shape.text};
}

int spec_source_open(const struct bindings_config *config, const struct spec *s, const struct trigger *t, struct source **ret, struct err *err) {
    if (s->kind == SPEC_AMQP) {
        struct amqp_source_config c = spec_amqp_config(s, t);
        return amqp_source_open(config->loop, &c, ret, err);
    }
    struct kafka_pair *pairs;
    struct kafka_config c = spec_kafka_config(config, s, t, &pairs);
    int rc = kafka_source_open(config->loop, &c, ret, err);
    free(pairs);
    return rc;
}

static int open_kafka_sink(const struct bindings_config *config, const struct spec *s, const struct trigger *t, const struct spec_sink *sink,
                           struct sink **ret, struct err *err) {
    struct kafka_pair *pairs;
    struct kafka_config c = spec_kafka_config(config, s, t, &pairs);
    if (sink->address) { // of another cluster, where the trigger's security settings mean nothing
        c.brokers = sink->address;
        c.extra_count = 0;
        c.group = "weir"; // only consumers have one
    }
    c.topic = sink->to;
    int rc = kafka_sink_open(config->loop, &c, ret, err);
    free(pairs);
    return rc;
}

int spec_sink_open(const struct bindings_config *config, const struct spec *s, const struct trigger *t, const struct spec_sink *sink,
                   struct sink **ret, struct err *err) {
    *ret = NULL;
    switch (sink->kind) {
    case SPEC_SINK_NONE: return 0;
    case SPEC_SINK_KAFKA: return open_kafka_sink(config, s, t, sink, ret, err);
    case SPEC_SINK_AMQP: return amqp_sink_open(config->loop, sink->address ? sink->address : s->url.text, ret, err);
    case SPEC_SINK_FUNCTION: *ret = function_sink_open(config->loop, config->ingest, str_of(t->name)); return 0;
    }
    return 0;
}

// --- opening ----------------------------------------------------------------------------------------------------------

static void fill_binding(struct active *a) {
    const struct spec *s = &a->spec;
    struct binding *b = &a->binding;
    b->name = a->name;
    b->kind = a->kind;
    b->function = a->function;
    b->order = spec_order(s);
    b->shape = spec_shape(s);
    b->batch = (size_t)s->batch.number;
    b->batch_bytes = (size_t)s->batch_bytes.number;
    b->window_ms = s->window_ms.number;
    b->credit = (size_t)s->max_records.number;
    b->credit_bytes = (size_t)s->max_bytes.number;
    b->breaker = s->breaker.number > 0;
    b->breaker_share = (double)s->breaker.number / 100;
    b->success_to = a->success.to;
    b->success_key = a->success.key;
    b->failure_to = a->failure.to;
    b->failure_key = a->failure.key;
    b->failure_shape = s->failure_shape.text;
}

static int open_parts(struct active *a, const struct trigger *t, struct err *err) {
    struct spec *s = &a->spec;
    struct binding *b = &a->binding;
    int rc = spec_sink_parse(s->kind, "on_success", s->on_success.text, &a->success, err);
    if (rc == 0) rc = spec_sink_parse(s->kind, "on_failure", s->on_failure.text, &a->failure, err);
    if (rc == 0 && s->filter.text[0]) rc = filter_parse(str_of(s->filter.text), &b->filter, err);
    if (rc == 0) rc = spec_sink_open(a->config, s, t, &a->success, &b->on_success, err);
    if (rc == 0) rc = spec_sink_open(a->config, s, t, &a->failure, &b->on_failure, err);
    return rc ? rc : spec_source_open(a->config, s, t, &b->source, err);
}

static void free_active(struct active *a) {
    filter_free(a->binding.filter);
    spec_sink_done(&a->success);
    spec_sink_done(&a->failure);
    spec_done(&a->spec);
    free(a->name);
    free(a->function);
    free(a->kind);
    free(a->settings);
    free(a);
}

static void close_parts(struct active *a);

static void on_never_opened(void *arg, struct active *a) {
    (void)arg;
    (void)a;
}

int active_open(const struct bindings_config *config, const struct trigger *t, struct active **ret, struct err *err) {
    enum spec_kind kind;
    struct spec spec;
    int rc = spec_kind_parse(str_of(t->kind), &kind, err);
    if (rc == 0) rc = spec_parse(kind, t->settings, t->function, &spec, err);
    if (rc) return rc;
    struct active *a = mem_zalloc(sizeof *a);
    *a = (struct active){.config = config,
                         .spec = spec,
                         .name = mem_strdup(t->name),
                         .function = mem_strdup(t->function),
                         .kind = mem_strdup(t->kind),
                         .settings = json_dumps(t->settings, JSON_COMPACT | JSON_SORT_KEYS),
                         .epoch = t->epoch};
    rc = open_parts(a, t, err);
    if (rc) {
        a->on_closed = on_never_opened;
        close_parts(a);
        return rc;
    }
    fill_binding(a);
    if (spec.relay.number) a->relay = relay_start(config->loop, config->ingest, &a->binding);
    else config->bind(config->arg, &a->binding);
    *ret = a;
    return 0;
}

// --- closing ----------------------------------------------------------------------------------------------------------

static void on_forgotten(void *arg, int code, const struct err *err) {
    struct active *a = arg;
    if (code) log_warn("trigger", "the queue that was declared for a trigger is left behind", LOG_STR("trigger", a->name),
                       LOG_STR("error", err->text));
    a->on_closed(a->arg, a);
    free_active(a);
}

static void on_part_closed(void *arg) {
    struct active *a = arg;
    if (--a->open) return;
    if (a->gone && a->spec.kind == SPEC_AMQP && a->spec.exchange.text[0]) {
        const struct trigger t = {.name = a->name};
        struct amqp_source_config c = spec_amqp_config(&a->spec, &t);
        amqp_source_forget(a->config->loop, &c, on_forgotten, a);
        return;
    }
    a->on_closed(a->arg, a);
    free_active(a);
}

static void on_nothing_open(void *arg) {
    on_part_closed(arg);
}

static void close_parts(struct active *a) {
    struct binding *b = &a->binding;
    a->open = 1 + (b->source != NULL) + (b->on_success != NULL) + (b->on_failure != NULL);
    if (b->source) source_close(b->source, on_part_closed, a);
    if (b->on_success) sink_close(b->on_success, on_part_closed, a);
    if (b->on_failure) sink_close(b->on_failure, on_part_closed, a);
    on_nothing_open(a);
}

static void on_unbound(void *arg) {
    close_parts(arg);
}

void active_close(struct active *a, bool gone, bool workers_gone, void (*on_closed)(void *arg, struct active *a), void *arg) {
    a->gone = a->gone || gone;
    a->on_closed = on_closed;
    a->arg = arg;
    if (a->closing && !workers_gone) return;
    bool was_closing = a->closing, relays = active_is_relay(a);
    a->closing = true;
    if (relays && !was_closing) relay_stop(TAKE_PTR(a->relay), on_unbound, a);
    else if (workers_gone && !relays && a->open == 0) close_parts(a);
    else if (!workers_gone && !relays) a->config->unbind(a->config->arg, &a->binding, on_unbound, a);
}

bool active_is_closing(const struct active *a) {
    return a->closing;
}

bool active_is_relay(const struct active *a) {
    return a->spec.relay.number;
}

bool active_is_of(const struct active *a, const struct trigger *t) {
    cleanup_free char *settings = json_dumps(t->settings, JSON_COMPACT | JSON_SORT_KEYS);
    return a->epoch == t->epoch && strcmp(a->function, t->function) == 0 && strcmp(a->settings, settings) == 0;
}

struct source *active_source(const struct active *a) {
    return a->binding.source;
}
