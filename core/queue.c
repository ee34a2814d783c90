// SPDX-License-Identifier: Apache-2.0
// The wrappers of core/queue.h: they find the backend of a URL, check what callers pass, and call its table.
// Invariant: every object that a backend returns carries the table it came from.
#include "core/queue.h"

static const struct queue_ops amqps_ops_name = {.scheme = "amqps"}; // the table behind it is queue_amqp_ops

static const struct {
    const struct queue_ops *name, *ops;
} backends[] = {
    {&queue_memory_ops, &queue_memory_ops},
    {&queue_embedded_ops, &queue_embedded_ops},
    {&queue_amqp_ops, &queue_amqp_ops},
    {&amqps_ops_name, &queue_amqp_ops},
};

static const struct queue_ops *find_backend(const char *url) {
    size_t len = strcspn(url, ":");
    if (url[len] != ':') return NULL;
    for (size_t i = 0; i < array_len(backends); i++)
        if (str_is((struct str){url, len}, backends[i].name->scheme)) return backends[i].ops;
    return NULL;
}

int queue_open(const struct queue_config *config, struct queue **ret, struct err *err) {
    MUST(config && config->loop && config->url && ret);
    const struct queue_ops *ops = find_backend(config->url);
    // The URL may hold a password: only its scheme is shown.
    if (!ops)
        return err_set(err, ERR_INVALID, "no queue backend \"%.*s\"; known are memory:, embedded:, amqp:// and amqps://",
                       (int)strcspn(config->url, ":/"), config->url);
    struct queue *q = NULL;
    int rc = ops->open(config, &q, err);
    if (rc) return rc;
    MUST(q && q->ops);
    *ret = q;
    return 0;
}

void queue_close(struct queue *q, void (*on_closed)(void *arg), void *arg) {
    MUST(q);
    q->ops->close(q, on_closed, arg);
}

bool queue_is_up(const struct queue *q) {
    return q->ops->is_up(q);
}

void queue_publish(struct queue *q, struct ev *ev, queue_confirm_fn *confirm, void *arg) {
    MUST(q && ev && confirm && ev->f.function.len > 0);
    q->ops->publish(q, ev, confirm, arg);
}

struct queue_consumer *queue_consume(struct queue *q, const struct queue_consumer_config *config) {
    MUST(q && config && config->on_messages && config->function.len > 0);
    MUST(config->credit >= 1 && config->credit <= 65535);
    struct queue_consumer *c = q->ops->consume(q, config);
    MUST(c && c->ops);
    return c;
}

void queue_consumer_pause(struct queue_consumer *c) {
    MUST(c);
    c->ops->pause(c);
}

void queue_consumer_close(struct queue_consumer *c) {
    MUST(c);
    c->ops->close(c);
}

void queue_ack(struct queue_consumer *c, uint64_t tag) {
    c->ops->ack(c, tag);
}

void queue_release(struct queue_consumer *c, uint64_t tag) {
    c->ops->release(c, tag);
}

bool queue_set_credit(struct queue_consumer *c, size_t credit) {
    MUST(credit >= 1 && credit <= 65535);
    if (!c->ops->set_credit) return false;
    c->ops->set_credit(c, credit);
    return true;
}

size_t queue_unsettled(const struct queue_consumer *c) {
    return c->ops->unsettled(c);
}

void queue_depth(struct queue *q, struct str function, queue_depth_fn *fn, void *arg) {
    MUST(q && fn && function.len > 0);
    q->ops->depth(q, function, fn, arg);
}

void queue_delete(struct queue *q, struct str function) {
    MUST(q && function.len > 0);
    q->ops->delete(q, function);
}
