// SPDX-License-Identifier: Apache-2.0
#include "triggers/origin.h"

#include <uthash.h>

#include "triggers/active.h"
#include "triggers/later.h"

struct origin {
    struct origins *all;
    char *name;
    struct sink *sink;
    enum spec_kind kind;
    char *to, *key; // topic; "" and the queue
    UT_hash_handle hh;
};

struct origins {
    const struct bindings_config *config;
    struct origin *list;
    size_t closing;
    void (*on_stopped)(void *arg);
    void *arg;
};

struct origins *origins_new(const struct bindings_config *config) {
    struct origins *o = mem_zalloc(sizeof *o);
    o->config = config;
    return o;
}

static char *queue_of(const struct spec *s, const struct trigger *t) {
    return s->queue.text[0] ? mem_strdup(s->queue.text) : mem_printf("weir.trigger.%s", t->name);
}

static int open_origin(struct origins *o, const struct trigger *t, struct origin **ret, struct err *err) {
    enum spec_kind kind;
    struct spec spec;
    int rc = spec_kind_parse(str_of(t->kind), &kind, err);
    if (rc == 0 && kind == SPEC_TIMER) rc = err_set(err, ERR_INVALID, "%s is a timer: its events came from no topic or queue", t->name);
    if (rc == 0) rc = spec_parse(kind, t->settings, t->function, &spec, err);
    if (rc) return rc;
    bool kafka = kind == SPEC_KAFKA;
    struct spec_sink sink = {.kind = kafka ? SPEC_SINK_KAFKA : SPEC_SINK_AMQP, .to = kafka ? spec.topic.text : NULL};
    struct sink *opened;
    rc = spec_sink_open(o->config, &spec, t, &sink, &opened, err);
    if (rc == 0) {
        struct origin *origin = mem_zalloc(sizeof *origin);
        *origin = (struct origin){.all = o,
                                  .name = mem_strdup(t->name),
                                  .sink = opened,
                                  .kind = kind,
                                  .to = mem_strdup(kafka ? spec.topic.text : ""),
                                  .key = kafka ? NULL : queue_of(&spec, t)};
        HASH_ADD_KEYPTR(hh, o->list, origin->name, strlen(origin->name), origin);
        *ret = origin;
    }
    spec_done(&spec);
    return rc;
}

static int find_origin(struct origins *o, const struct triggers *triggers, const struct ev *ev, struct origin **ret, struct err *err) {
    const struct ev_fields *f = &ev->f;
    if (!str_is(f->source_kind, "kafka") && !str_is(f->source_kind, "amqp"))
        return err_set(err, ERR_INVALID, "it came from no topic or queue (its source is \"%.*s\"): replay it to its function",
                       STR_ARG(f->source_kind));
    HASH_FIND(hh, o->list, f->source_name.data, f->source_name.len, *ret);
    if (*ret) return 0;
    const struct trigger *t = triggers ? triggers_find(triggers, f->source_name) : NULL;
    if (t && str_is(f->source_kind, t->kind)) return open_origin(o, t, ret, err);
    return err_set(err, ERR_NOT_FOUND, "its trigger \"%.*s\" does not exist any more, so the way back is not known",
                   STR_ARG(f->source_name));
}

void origins_send(struct origins *o, const struct triggers *triggers, const struct ev *ev, sink_done_fn *done, void *arg) {
    struct err err = {0};
    struct origin *origin = NULL;
    int rc = find_origin(o, triggers, ev, &origin, &err);
    if (rc || !origin) {
        later(o->config->loop, done, arg, rc, &err);
        return;
    }
    bool kafka = origin->kind == SPEC_KAFKA;
    char id[ID_TEXT_BYTES], partition[12];
    id_format(&ev->f.id, id);
    struct str number = source_at_member(ev->f.source_at, "partition");
    bool known = kafka && number.len && text_format(partition, sizeof partition, "%.*s", STR_ARG(number)) == 0;
    const struct sink_message m = {.to = str_of(origin->to),
                                   .key = kafka ? ev->f.ordering_key : str_of(origin->key),
                                   .content_type = kafka ? STR_NONE : ev->f.content_type, // Kafka: it is among the headers
                                   .message_id = kafka ? STR_NONE : str_of(id),
                                   .headers = ev->f.headers,
                                   .header_count = ev->f.header_count,
                                   .payload = ev->f.payload,
                                   .to_partition = known, // whoever wrote it may have another rule from key to partition
                                   .partition = known ? (uint32_t)strtoul(partition, NULL, 10) : 0,
                                   .null_payload = str_is(source_at_member(ev->f.source_at, "tombstone"), "true")};
    sink_send(origin->sink, &m, done, arg);
}

static void on_closed(void *arg) {
    struct origin *origin = arg;
    struct origins *o = origin->all;
    free(origin->name);
    free(origin->to);
    free(origin->key);
    free(origin);
    if (--o->closing == 0 && o->on_stopped) o->on_stopped(o->arg);
}

static void close_origin(struct origins *o, struct origin *origin) {
    HASH_DEL(o->list, origin);
    o->closing++;
    sink_close(origin->sink, on_closed, origin);
}

void origins_forget(struct origins *o, struct str trigger) {
    struct origin *origin;
    HASH_FIND(hh, o->list, trigger.data, trigger.len, origin);
    if (origin) close_origin(o, origin);
}

void origins_stop(struct origins *o, void (*on_stopped)(void *arg), void *arg) {
    struct origin *origin, *next;
    HASH_ITER(hh, o->list, origin, next) close_origin(o, origin);
    o->on_stopped = on_stopped;
    o->arg = arg;
    if (o->closing == 0) on_stopped(arg);
}

void origins_free(struct origins *o) {
    free(o);
}
