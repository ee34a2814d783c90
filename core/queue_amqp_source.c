// SPDX-License-Identifier: Apache-2.0
// A foreign queue as a source, the loop's side: one thread (core/queue_amqp_consumer) with one link. Acks of a turn go to it
// in one command; what comes back becomes callbacks.
// Invariants: `epoch` follows the link's, so that void tags are dropped here; the consumer is freed when the thread has said
// MQ_UNSUBSCRIBED, the source when the thread has ended and no answer is owed.
#include "core/queue_amqp_source.h"

#include <utlist.h>

#include "core/amqp_source.h"
#include "core/queue_amqp_consumer.h"

struct amqp_source;

struct consumer {
    struct queue_consumer base;
    struct amqp_source *source;
    struct queue_consumer_config config;
    char *function;
    struct mq_link *link;
    struct mq_command *settling; // acks and releases of this turn
    size_t handed_out, unsettled;
    uint16_t epoch;
    bool closed, paused;
};

struct question { // a source_lag
    struct question *next;
    source_lag_fn *fn;
    void *arg;
};

struct amqp_source {
    struct source base;
    struct loop *loop;
    struct mq_source_config *config;
    struct mq_consumer *thread;
    struct consumer *consumer;
    struct mq_list commands; // of this turn
    struct defer flush;
    struct question *asked;  // of the thread, in order
    struct question *early;  // that no consumer can answer
    struct post early_post;
    bool early_posted, closing, stopped;
    void (*on_closed)(void *arg);
    void *closed_arg;
};

static struct amqp_source *source_of(struct source *s) {
    return container_of(s, struct amqp_source, base);
}

static struct consumer *consumer_of(struct queue_consumer *c) {
    return container_of(c, struct consumer, base);
}

static void end_if_done(struct amqp_source *s) {
    if (!s->stopped || s->early_posted) return;
    MUST(!s->consumer && !s->asked);
    mq_consumer_free(s->thread);
    mq_source_config_free(s->config);
    loop_defer_cancel(s->loop, &s->flush);
    if (s->on_closed) s->on_closed(s->closed_arg);
    free(s);
}

// --- commands -------------------------------------------------------------------------------------------------------

static void command(struct consumer *c, enum mq_command_kind kind) {
    struct mq_command *cmd = mem_zalloc(sizeof *cmd);
    cmd->kind = kind;
    cmd->link = c->link;
    mq_list_add(&c->source->commands, &cmd->item);
    loop_defer(c->source->loop, &c->source->flush);
}

static void send_settling(struct consumer *c) {
    if (c->settling) mq_list_add(&c->source->commands, &c->settling->item);
    c->settling = NULL;
}

static void on_flush(void *arg) {
    struct amqp_source *s = arg;
    if (s->consumer) send_settling(s->consumer);
    mq_consumer_submit(s->thread, &s->commands);
}

// --- consuming ------------------------------------------------------------------------------------------------------

static void settle(struct queue_consumer *base, uint64_t tag, bool release) {
    struct consumer *c = consumer_of(base);
    if (tag >> MQ_EPOCH_SHIFT != c->epoch) return; // void since the channel was lost
    struct mq_command *cmd = c->settling;
    if (!cmd) {
        cmd = c->settling = mem_zalloc(sizeof *cmd);
        cmd->kind = MQ_SETTLE;
        cmd->link = c->link;
        loop_defer(c->source->loop, &c->source->flush);
    }
    if (cmd->count == cmd->room) {
        cmd->room = cmd->room ? cmd->room * 2 : 16;
        cmd->settles = mem_realloc(cmd->settles, cmd->room * sizeof *cmd->settles);
    }
    cmd->settles[cmd->count++] = (struct mq_settle){tag, release};
    c->unsettled++;
    if (c->handed_out > 0) c->handed_out--;
}

static void ack(struct queue_consumer *c, uint64_t tag) {
    settle(c, tag, false);
}

static void release(struct queue_consumer *c, uint64_t tag) {
    settle(c, tag, true);
}

static size_t unsettled(const struct queue_consumer *c) {
    return ((const struct consumer *)(const void *)c)->unsettled; // base comes first
}

static void consumer_pause(struct queue_consumer *base) {
    struct consumer *c = consumer_of(base);
    send_settling(c);
    if (!c->paused) command(c, MQ_PAUSE);
    c->paused = true;
}

static void consumer_close(struct queue_consumer *base) {
    struct consumer *c = consumer_of(base);
    MUST(!c->closed);
    c->closed = true;
    send_settling(c);
    command(c, MQ_UNSUBSCRIBE);
}

static const struct queue_consumer_ops consumer_ops = {
    .pause = consumer_pause, .close = consumer_close, .ack = ack, .release = release, .unsettled = unsettled};

static struct queue_consumer *consume(struct source *base, const struct queue_consumer_config *config) {
    struct amqp_source *s = source_of(base);
    MUST(!s->closing && !s->consumer);
    struct consumer *c = s->consumer = mem_zalloc(sizeof *c);
    c->base.ops = &consumer_ops;
    c->source = s;
    c->config = *config;
    c->function = mem_strndup(config->function);
    c->config.function = (struct str){c->function, config->function.len};
    c->link = mq_link_new_foreign(&s->config->from, config->function, config->credit, config->credit_bytes, c);
    command(c, MQ_SUBSCRIBE);
    return &c->base;
}

static void hand_out(struct consumer *c, struct mq_notice *n) {
    c->handed_out += n->count;
    c->config.on_messages(c->config.arg, n->msgs, n->count);
    for (size_t i = 0; i < n->count; i++) n->msgs[i].ev = NULL; // the receiver's now
}

static void free_consumer(struct consumer *c) {
    MUST(!c->settling);
    c->source->consumer = NULL;
    free(c->function);
    free(c);
}

// --- how far behind -------------------------------------------------------------------------------------------------

static json_t *describe(const struct amqp_source *s, const struct mq_look *look, const char *why) {
    const struct consumer *c = s->consumer;
    size_t in_flight = c ? c->handed_out : 0;
    cleanup_free char *queue = mq_foreign_queue_name(&s->config->from);
    return json_pack("{s:b, s:s?, s:[{s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:s?}]}", //
                     "up", look->up ? 1 : 0, "error", why, "partitions", //
                     "partition", 0, "queue", queue, "ready", (json_int_t)look->ready, "unacked",
                     (json_int_t)look->in_flight, "consumers", (json_int_t)look->consumers, "prefetch",
                     (json_int_t)look->prefetch, "lag", (json_int_t)look->ready, "inFlight", (json_int_t)in_flight,
                     "paused", look->paused ? "paused" : NULL);
}

static void answer(struct amqp_source *s, struct question *q, const struct mq_look *look, const char *why) {
    static const struct err none = {0};
    json_t *result = describe(s, look, why);
    q->fn(q->arg, ERR_OK, &none, result);
    free(q);
}

static void on_early(struct post *post) {
    struct amqp_source *s = container_of(post, struct amqp_source, early_post);
    static const struct mq_look nothing = {0};
    struct question *early = TAKE_PTR(s->early), *q, *next;
    s->early_posted = false;
    LL_FOREACH_SAFE(early, q, next) answer(s, q, &nothing, "the queue is not being consumed");
    if (s->closing) end_if_done(s);
}

static void on_looked(struct amqp_source *s, const struct mq_look *look) {
    struct question *q = s->asked;
    MUST(q);
    LL_DELETE(s->asked, q);
    answer(s, q, look, look->why.code ? look->why.text : NULL);
}

static void lag(struct source *base, source_lag_fn *fn, void *arg) {
    struct amqp_source *s = source_of(base);
    struct question *q = mem_zalloc(sizeof *q);
    q->fn = fn;
    q->arg = arg;
    if (s->consumer && !s->consumer->closed) {
        LL_APPEND(s->asked, q);
        command(s->consumer, MQ_LOOK);
        return;
    }
    LL_APPEND(s->early, q);
    if (s->early_posted) return;
    s->early_posted = true;
    loop_post(s->loop, &s->early_post);
}

// --- life -----------------------------------------------------------------------------------------------------------

static void on_notice(void *arg, struct mq_notice *n) {
    struct consumer *c = n->owner;
    switch (n->kind) {
    case MQ_MESSAGES:
        if (!c->closed) hand_out(c, n);
        return;
    case MQ_LOST:
        c->epoch++;
        c->handed_out = 0;
        if (!c->closed && c->config.on_lost) c->config.on_lost(c->config.arg);
        return;
    case MQ_SETTLED: c->unsettled -= n->count; return;
    case MQ_LOOKED: on_looked(arg, n->look); return;
    case MQ_UNSUBSCRIBED: free_consumer(c); return;
    case MQ_STOPPED: return; // handled by the thread's owner side
    }
}

static void on_stopped(void *arg) {
    struct amqp_source *s = arg;
    s->stopped = true;
    end_if_done(s);
}

static void close_source(struct source *base, void (*on_closed)(void *arg), void *arg) {
    struct amqp_source *s = source_of(base);
    MUST(!s->closing && (!s->consumer || s->consumer->closed));
    on_flush(s);
    s->closing = true;
    s->on_closed = on_closed;
    s->closed_arg = arg;
    mq_consumer_stop(s->thread);
}

static const struct source_ops ops = {.consume = consume, .lag = lag, .close = close_source};

int amqp_source_open(struct loop *loop, const struct amqp_source_config *c, struct source **ret, struct err *err) {
    struct mq_source_config *config;
    int rc = mq_source_config_read(c, &config, err);
    if (rc) return rc;
    struct amqp_source *s = mem_zalloc(sizeof *s);
    s->base.ops = &ops;
    s->loop = loop;
    s->config = config;
    s->flush = (struct defer){.fn = on_flush, .arg = s};
    s->early_post = (struct post){.fn = on_early};
    s->thread = mq_consumer_start(loop, &config->url, on_notice, on_stopped, s);
    *ret = &s->base;
    return 0;
}
