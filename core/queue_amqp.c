// SPDX-License-Identifier: Apache-2.0
// The queue backend on RabbitMQ, the loop's side: callers' calls become requests and commands that go to the publishing
// and the consuming thread once a turn, and what comes back becomes callbacks.
//
// Each function has the durable queue "weir.fn.<function>" (quorum, unless the URL says ?queue_type=classic).
// Where RabbitMQ cannot do what core/queue.h says:
//   - it has no credit in bytes: prefetch is lowered to credit_bytes / the average size of what came so far;
//   - a quorum queue counts a release, and what a closed consumer gives back, as a delivery (RabbitMQ 3.10);
//   - a classic queue only tells that there was an earlier delivery: delivery_count is then 1;
//   - queue_depth counts as unsettled what this process holds; the age of the oldest is unknown (0);
//   - config.max_messages is not used: the broker's policy, or ?max_length= in the URL, is the cap.
// A single RabbitMQ 3.10 node that is killed within about a second after it declared a quorum queue may come back with an
// empty queue of that name: it writes the directory of its queues with a delay. Clusters keep it on the other nodes.
// Invariants: in_flight counts requests that are with the publisher or about to be; a consumer is freed when its thread
// has said MQ_UNSUBSCRIBED; `epoch` follows the link's, so that void tags are dropped here.
#include "core/queue_amqp_conn.h"
#include "core/queue_amqp_consumer.h"
#include "core/queue_amqp_publisher.h"

struct consumer {
    struct queue_consumer base;
    struct amqp *amqp;
    struct consumer *next;
    struct queue_consumer_config config;
    char *function;
    struct mq_link *link;
    struct mq_command *settling; // acks and releases of this turn
    size_t handed_out, unsettled;
    uint16_t epoch;
    bool closed, paused;
};

struct amqp {
    struct queue base;
    struct loop *loop;
    struct mq_url url;
    struct mq_publisher *publisher;
    struct mq_consumer *consuming;
    struct mq_list requests, commands; // of this turn
    struct mq_list refused;            // requests that never leave; answered by refused_post
    struct post refused_post;
    bool refused_posted, closing;
    size_t in_flight, in_flight_bytes;
    struct consumer *consumers;
    struct defer flush;
    int threads; // running
    void (*on_closed)(void *arg);
    void *closed_arg;
};

static struct amqp *amqp_of(const struct queue *q) {
    union { // a const queue is asked only for what does not change
        const struct queue *from;
        struct queue *to;
    } p = {.from = q};
    return container_of(p.to, struct amqp, base);
}

static struct consumer *consumer_of(struct queue_consumer *c) {
    return container_of(c, struct consumer, base);
}

static void end_if_done(struct amqp *a) {
    if (a->threads > 0 || a->refused_posted) return;
    MUST(!a->consumers);
    mq_publisher_free(a->publisher);
    mq_consumer_free(a->consuming);
    mq_url_done(&a->url);
    loop_defer_cancel(a->loop, &a->flush);
    if (a->on_closed) a->on_closed(a->closed_arg);
    free(a);
}

// --- publishing -----------------------------------------------------------------------------------------------------

static size_t held_by_us(const struct amqp *a, struct str function) {
    size_t n = 0;
    for (const struct consumer *c = a->consumers; c; c = c->next)
        if (!c->closed && str_eq(c->config.function, function)) n += c->handed_out;
    return n;
}

static void answer(struct amqp *a, struct mq_request *r) {
    static const struct err none = {0};
    if (r->kind == MQ_PUBLISH) r->fn.confirm(r->arg, r->code, r->code ? r->err : &none);
    else if (r->kind == MQ_DEPTH) r->fn.depth(r->arg, r->code, r->ready, held_by_us(a, r->function), 0);
    ev_free(r->ev);
    free(r->err);
    free(r);
}

static void on_done(void *arg, struct mq_list *requests) {
    struct amqp *a = arg;
    struct mq_item *item;
    while ((item = mq_list_take_first(requests))) {
        struct mq_request *r = container_of(item, struct mq_request, item);
        a->in_flight--;
        a->in_flight_bytes -= r->bytes;
        answer(a, r);
    }
}

static void on_refused(struct post *post) {
    struct amqp *a = container_of(post, struct amqp, refused_post);
    struct mq_list list = {0};
    a->refused_posted = false;
    mq_list_move(&list, &a->refused);
    struct mq_item *item;
    while ((item = mq_list_take_first(&list))) answer(a, container_of(item, struct mq_request, item));
    if (a->closing) end_if_done(a);
}

static void refuse(struct amqp *a, struct mq_request *r, enum err_code code, const char *why) {
    r->err = mem_alloc(sizeof *r->err);
    r->code = err_set(r->err, code, "%s", why);
    mq_list_add(&a->refused, &r->item);
    if (a->refused_posted) return;
    a->refused_posted = true;
    loop_post(a->loop, &a->refused_post);
}

static void submit(struct amqp *a, struct mq_request *r) {
    if (a->closing) {
        refuse(a, r, ERR_UNAVAILABLE, "the queue is closing");
    } else if (!mq_publisher_is_up(a->publisher)) {
        refuse(a, r, ERR_UNAVAILABLE, "RabbitMQ is not available");
    } else if (a->in_flight >= MQ_IN_FLIGHT_MAX || a->in_flight_bytes + r->bytes > MQ_IN_FLIGHT_BYTES_MAX) {
        refuse(a, r, ERR_BUSY, "too many messages wait for RabbitMQ's confirmation");
    } else {
        a->in_flight++;
        a->in_flight_bytes += r->bytes;
        mq_list_add(&a->requests, &r->item);
        loop_defer(a->loop, &a->flush);
    }
}

static void publish(struct queue *q, struct ev *ev, queue_confirm_fn *confirm, void *arg) {
    struct mq_request *r = mem_zalloc(sizeof *r);
    r->kind = MQ_PUBLISH;
    r->ev = ev;
    r->id = ev->f.id;
    r->bytes = ev_memory_bytes(ev);
    r->function = ev->f.function;
    r->fn.confirm = confirm;
    r->arg = arg;
    submit(amqp_of(q), r);
}

static struct mq_request *new_request(enum mq_request_kind kind, struct str function) {
    struct mq_request *r = mem_zalloc(sizeof *r + function.len + 1);
    char *name = (char *)(r + 1);
    memcpy(name, function.data, function.len);
    r->kind = kind;
    r->function = (struct str){name, function.len};
    return r;
}

static void depth(struct queue *q, struct str function, queue_depth_fn *fn, void *arg) {
    struct mq_request *r = new_request(MQ_DEPTH, function);
    r->fn.depth = fn;
    r->arg = arg;
    submit(amqp_of(q), r);
}

static void delete_queue(struct queue *q, struct str function) {
    submit(amqp_of(q), new_request(MQ_DELETE, function));
}

// --- consuming ------------------------------------------------------------------------------------------------------

static void command(struct amqp *a, enum mq_command_kind kind, struct mq_link *link) {
    struct mq_command *cmd = mem_zalloc(sizeof *cmd);
    cmd->kind = kind;
    cmd->link = link;
    mq_list_add(&a->commands, &cmd->item);
    loop_defer(a->loop, &a->flush);
}

static const struct queue_consumer_ops consumer_ops;

static struct queue_consumer *consume(struct queue *q, const struct queue_consumer_config *config) {
    struct amqp *a = amqp_of(q);
    MUST(!a->closing);
    struct consumer *c = mem_zalloc(sizeof *c);
    c->base.ops = &consumer_ops;
    c->amqp = a;
    c->config = *config;
    c->function = mem_strndup(config->function);
    c->config.function = (struct str){c->function, config->function.len};
    c->link = mq_link_new(config->function, config->credit, config->credit_bytes, c);
    c->next = a->consumers;
    a->consumers = c;
    command(a, MQ_SUBSCRIBE, c->link);
    return &c->base;
}

static void settle(struct queue_consumer *base, uint64_t tag, bool release) {
    struct consumer *c = consumer_of(base);
    if (tag >> MQ_EPOCH_SHIFT != c->epoch) return; // void since the connection was lost
    struct mq_command *cmd = c->settling;
    if (!cmd) {
        cmd = c->settling = mem_zalloc(sizeof *cmd);
        cmd->kind = MQ_SETTLE;
        cmd->link = c->link;
        loop_defer(c->amqp->loop, &c->amqp->flush);
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

static void send_settling(struct amqp *a, struct consumer *c) {
    if (c->settling) mq_list_add(&a->commands, &c->settling->item);
    c->settling = NULL;
}

static void consumer_pause(struct queue_consumer *base) {
    struct consumer *c = consumer_of(base);
    if (!c->paused) command(c->amqp, MQ_PAUSE, c->link);
    c->paused = true;
}

static void consumer_close(struct queue_consumer *base) {
    struct consumer *c = consumer_of(base);
    struct amqp *a = c->amqp;
    MUST(!c->closed);
    c->closed = true;
    send_settling(a, c);
    command(a, MQ_UNSUBSCRIBE, c->link);
}

static const struct queue_consumer_ops consumer_ops = {
    .pause = consumer_pause, .close = consumer_close, .ack = ack, .release = release, .unsettled = unsettled};

static void free_consumer(struct amqp *a, struct consumer *c) {
    struct consumer **at = &a->consumers;
    while (*at != c) at = &(*at)->next;
    *at = c->next;
    MUST(!c->settling);
    free(c->function);
    free(c);
}

static void hand_out(struct consumer *c, struct mq_notice *n) {
    c->handed_out += n->count;
    c->config.on_messages(c->config.arg, n->msgs, n->count);
    for (size_t i = 0; i < n->count; i++) n->msgs[i].ev = NULL; // the receiver's now
}

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
    case MQ_UNSUBSCRIBED: free_consumer(arg, c); return;
    case MQ_LOOKED:            // nobody asks
    case MQ_STOPPED: return; // handled by the thread's owner side
    }
}

// --- life -----------------------------------------------------------------------------------------------------------

static void on_flush(void *arg) {
    struct amqp *a = arg;
    for (struct consumer *c = a->consumers; c; c = c->next) send_settling(a, c);
    mq_publisher_submit(a->publisher, &a->requests);
    mq_consumer_submit(a->consuming, &a->commands);
}

static void on_stopped(void *arg) {
    struct amqp *a = arg;
    a->threads--;
    end_if_done(a);
}

static void close_queue(struct queue *q, void (*on_closed)(void *arg), void *arg) {
    struct amqp *a = amqp_of(q);
    MUST(!a->closing);
    for (const struct consumer *c = a->consumers; c; c = c->next) MUST(c->closed);
    on_flush(a);
    a->closing = true;
    a->on_closed = on_closed;
    a->closed_arg = arg;
    mq_publisher_stop(a->publisher);
    mq_consumer_stop(a->consuming);
}

static bool is_up(const struct queue *q) {
    const struct amqp *a = amqp_of(q);
    return !a->closing && mq_publisher_is_up(a->publisher);
}

static int open_queue(const struct queue_config *config, struct queue **ret, struct err *err) {
    struct mq_url url;
    int rc = mq_url_parse(config->url, &url, err);
    if (rc) return rc;
    struct amqp *a = mem_zalloc(sizeof *a);
    a->base.ops = &queue_amqp_ops;
    a->loop = config->loop;
    a->url = url;
    a->flush = (struct defer){.fn = on_flush, .arg = a};
    a->refused_post = (struct post){.fn = on_refused};
    a->threads = 2;
    a->publisher = mq_publisher_start(config->loop, &a->url, on_done, on_stopped, a);
    a->consuming = mq_consumer_start(config->loop, &a->url, on_notice, on_stopped, a);
    *ret = &a->base;
    return 0;
}

const struct queue_ops queue_amqp_ops = {
    .scheme = "amqp",
    .open = open_queue,
    .close = close_queue,
    .is_up = is_up,
    .publish = publish,
    .consume = consume,
    .depth = depth,
    .delete = delete_queue,
};
