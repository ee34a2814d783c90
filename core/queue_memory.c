// SPDX-License-Identifier: Apache-2.0
// The queue backend in memory: the sync lane, and tests.
//
// A message is a node in its function's ready list (FIFO by `seq`) or in the hash of its consumer's unsettled ones. The
// receiver of a delivery owns the event and may free it long before it acknowledges, so the node keeps a copy.
// Everything happens in flush(), at the end of the turn: confirms first, then deliveries. What a callback of flush()
// adds waits for the next turn (a post), so that a publisher that answers each confirm does not starve the loop.
// Consumers closed in a callback are freed after it. delivery_count is always 0: nothing here survives a crash.
#include <uthash.h>

#include "core/base/clock.h"
#include "core/queue.h"

#define BATCH_MAX 256

struct node {
    struct node *next;
    uint64_t seq;
    size_t bytes;
    struct ev *ev; // handed out at delivery, then the copy takes its place
    UT_hash_handle hh; // in consumer.unsettled, by seq
};

struct lane { // one function's queue
    char *name;
    struct node *first, **last;
    uint64_t ready, unsettled;
    struct consumer *consumers; // round robin: the first is the next to be served
    UT_hash_handle hh;
};

struct consumer {
    struct queue_consumer base;
    struct memory *memory;
    struct consumer *next; // in lane.consumers, or in memory.closed
    struct lane *lane;
    struct queue_consumer_config config; // function points into lane->name
    struct node *unsettled;
    size_t unsettled_bytes;
    bool closed, paused;
};

enum answer_kind { ANSWER_CONFIRM, ANSWER_DEPTH };

struct answer { // a callback that is due
    struct answer *next;
    enum answer_kind kind;
    queue_confirm_fn *confirm;
    queue_depth_fn *depth;
    void *arg;
    bool busy; // the publish was refused
    uint64_t ready, unsettled;
    int64_t oldest_ms;
};

struct memory {
    struct queue base;
    struct loop *loop;
    uint64_t max_messages, next_seq;
    struct lane *lanes;
    struct answer *answers, **last_answer;
    struct consumer *closed;
    struct defer flush;
    struct post again;
    bool flushing, posted, closing;
    void (*on_closed)(void *arg);
    void *closed_arg;
};

static void wake(struct memory *m) {
    if (!m->flushing) {
        loop_defer(m->loop, &m->flush);
    } else if (!m->posted) {
        m->posted = true;
        loop_post(m->loop, &m->again);
    }
}

static struct lane *find_lane(struct memory *m, struct str function) {
    struct lane *lane;
    HASH_FIND(hh, m->lanes, function.data, function.len, lane);
    return lane;
}

static struct lane *need_lane(struct memory *m, struct str function) {
    struct lane *lane = find_lane(m, function);
    if (lane) return lane;
    lane = mem_zalloc(sizeof *lane);
    lane->name = mem_strndup(function);
    lane->last = &lane->first;
    HASH_ADD_KEYPTR(hh, m->lanes, lane->name, function.len, lane);
    return lane;
}

static struct answer *add_answer(struct memory *m, enum answer_kind kind, void *arg) {
    struct answer *a = mem_zalloc(sizeof *a);
    a->kind = kind;
    a->arg = arg;
    *m->last_answer = a;
    m->last_answer = &a->next;
    wake(m);
    return a;
}

static void publish(struct queue *q, struct ev *ev, queue_confirm_fn *confirm, void *arg) {
    struct memory *m = container_of(q, struct memory, base);
    struct lane *lane = need_lane(m, ev->f.function);
    struct answer *a = add_answer(m, ANSWER_CONFIRM, arg);
    a->confirm = confirm;
    a->busy = m->max_messages && lane->ready + lane->unsettled >= m->max_messages;
    if (a->busy) {
        ev_free(ev);
        return;
    }
    struct node *n = mem_zalloc(sizeof *n);
    *n = (struct node){.seq = ++m->next_seq, .bytes = ev_memory_bytes(ev), .ev = ev};
    *lane->last = n;
    lane->last = &n->next;
    lane->ready++;
}

static void give_answer(const struct answer *a) {
    if (a->kind == ANSWER_DEPTH) {
        a->depth(a->arg, ERR_OK, a->ready, a->unsettled, a->oldest_ms);
    } else if (!a->busy) {
        a->confirm(a->arg, ERR_OK, NULL);
    } else {
        struct err err;
        a->confirm(a->arg, err_set(&err, ERR_BUSY, "the function's queue is full"), &err);
    }
}

static void give_answers(struct memory *m) {
    struct answer *a = m->answers;
    m->answers = NULL;
    m->last_answer = &m->answers;
    while (a) {
        struct answer *next = a->next;
        give_answer(a);
        free(a);
        a = next;
    }
}

static bool has_credit(const struct consumer *c) {
    // A message bigger than all credit still goes out when nothing else is.
    return !c->paused && HASH_COUNT(c->unsettled) < c->config.credit &&
           (!c->unsettled || !c->config.credit_bytes || c->unsettled_bytes < c->config.credit_bytes);
}

static struct ev *copy_event(const struct ev *ev) {
    struct ev *copy = ev_new(&ev->f);
    if (ev->unknown.len) {
        copy->block = mem_strndup(ev->unknown);
        copy->unknown = (struct str){copy->block, ev->unknown.len};
    }
    return copy;
}

static void unlink_first(struct lane *lane) {
    struct node *n = lane->first;
    lane->first = n->next;
    if (!lane->first) lane->last = &lane->first;
    n->next = NULL;
    lane->ready--;
}

// Hands a batch to one consumer.
static void serve(struct consumer *c) {
    struct lane *lane = c->lane;
    struct queue_msg msgs[BATCH_MAX];
    size_t count = 0;
    while (count < BATCH_MAX && lane->first && has_credit(c)) {
        struct node *n = lane->first;
        unlink_first(lane);
        msgs[count++] = (struct queue_msg){.tag = n->seq, .ev = n->ev, .content = QUEUE_EVENT};
        n->ev = copy_event(n->ev);
        HASH_ADD(hh, c->unsettled, seq, sizeof n->seq, n);
        c->unsettled_bytes += n->bytes;
        lane->unsettled++;
    }
    c->config.on_messages(c->config.arg, msgs, count);
}

// The first consumer with credit, moved to the end of the round; NULL when there is none.
static struct consumer *next_consumer(struct lane *lane) {
    for (struct consumer **at = &lane->consumers; *at; at = &(*at)->next) {
        struct consumer *c = *at;
        if (!has_credit(c)) continue;
        *at = c->next;
        while (*at) at = &(*at)->next;
        *at = c;
        c->next = NULL;
        return c;
    }
    return NULL;
}

static void free_closed(struct memory *m) {
    while (m->closed) {
        struct consumer *c = m->closed;
        m->closed = c->next;
        free(c);
    }
}

static void free_node(struct node *n) {
    ev_free(n->ev);
    free(n);
}

static void drop_ready(struct lane *lane) {
    while (lane->first) {
        struct node *n = lane->first;
        unlink_first(lane);
        free_node(n);
    }
}

static void end(struct memory *m) {
    struct lane *lane, *tmp;
    HASH_ITER(hh, m->lanes, lane, tmp) {
        drop_ready(lane);
        HASH_DEL(m->lanes, lane);
        free(lane->name);
        free(lane);
    }
    if (m->on_closed) m->on_closed(m->closed_arg);
    loop_defer_cancel(m->loop, &m->flush);
    free(m);
}

// One batch a consumer a turn: what is left, or comes in by the callbacks, is for the next turn.
static void flush(void *arg) {
    struct memory *m = arg;
    m->flushing = true;
    give_answers(m);
    struct lane *lane, *tmp;
    HASH_ITER(hh, m->lanes, lane, tmp) {
        struct consumer *c;
        unsigned left = 64; // batches of one function a turn
        while (lane->first && left > 0 && (c = next_consumer(lane))) {
            serve(c);
            left--;
        }
        if (left == 0) wake(m);
    }
    free_closed(m);
    m->flushing = false;
    if (m->closing && !m->answers && !m->posted) end(m);
}

static void on_again(struct post *post) {
    struct memory *m = container_of(post, struct memory, again);
    m->posted = false;
    flush(m);
}

static const struct queue_consumer_ops consumer_ops;

static struct queue_consumer *consume(struct queue *q, const struct queue_consumer_config *config) {
    struct memory *m = container_of(q, struct memory, base);
    struct consumer *c = mem_zalloc(sizeof *c);
    c->base.ops = &consumer_ops;
    c->memory = m;
    c->lane = need_lane(m, config->function);
    c->config = *config;
    c->config.function = str_of(c->lane->name);
    c->next = c->lane->consumers;
    c->lane->consumers = c;
    wake(m);
    return &c->base;
}

static struct node *take_unsettled(struct consumer *c, uint64_t tag) {
    struct node *n;
    HASH_FIND(hh, c->unsettled, &tag, sizeof tag, n);
    if (!n) return NULL; // settled before
    HASH_DEL(c->unsettled, n);
    c->unsettled_bytes -= n->bytes;
    c->lane->unsettled--;
    wake(c->memory); // there is credit
    return n;
}

static void ack(struct queue_consumer *base, uint64_t tag) {
    struct node *n = take_unsettled(container_of(base, struct consumer, base), tag);
    if (n) free_node(n);
}

// To where it was: before everything that was published later.
static void put_back(struct lane *lane, struct node *n) {
    struct node **at = &lane->first;
    while (*at && (*at)->seq < n->seq) at = &(*at)->next;
    n->next = *at;
    *at = n;
    if (!n->next) lane->last = &n->next;
    lane->ready++;
}

static void release(struct queue_consumer *base, uint64_t tag) {
    struct consumer *c = container_of(base, struct consumer, base);
    struct node *n = take_unsettled(c, tag);
    if (n) put_back(c->lane, n);
}

static size_t unsettled(const struct queue_consumer *c) {
    (void)c; // an ack takes effect at once
    return 0;
}

static void consumer_pause(struct queue_consumer *base) {
    container_of(base, struct consumer, base)->paused = true;
}

static void consumer_close(struct queue_consumer *base) {
    struct consumer *c = container_of(base, struct consumer, base);
    struct memory *m = c->memory;
    MUST(!c->closed);
    c->closed = true;
    struct node *n, *tmp;
    HASH_ITER(hh, c->unsettled, n, tmp) release(base, n->seq);
    struct consumer **at = &c->lane->consumers;
    while (*at != c) at = &(*at)->next;
    *at = c->next;
    c->next = m->closed;
    m->closed = c;
    wake(m);
}

static const struct queue_consumer_ops consumer_ops = {
    .pause = consumer_pause, .close = consumer_close, .ack = ack, .release = release, .unsettled = unsettled};

static void depth(struct queue *q, struct str function, queue_depth_fn *fn, void *arg) {
    struct memory *m = container_of(q, struct memory, base);
    struct lane *lane = find_lane(m, function);
    struct answer *a = add_answer(m, ANSWER_DEPTH, arg);
    a->depth = fn;
    if (!lane) return;
    a->ready = lane->ready;
    a->unsettled = lane->unsettled;
    a->oldest_ms = lane->first ? lane->first->ev->f.accepted_ms : 0;
}

// The lane itself stays: consumers may point to it.
static void delete_lane(struct queue *q, struct str function) {
    struct lane *lane = find_lane(container_of(q, struct memory, base), function);
    if (lane) drop_ready(lane);
}

static bool is_up(const struct queue *q) {
    (void)q;
    return true;
}

static void close_queue(struct queue *q, void (*on_closed)(void *arg), void *arg) {
    struct memory *m = container_of(q, struct memory, base);
    struct lane *lane, *tmp;
    HASH_ITER(hh, m->lanes, lane, tmp) MUST(!lane->consumers);
    m->closing = true;
    m->on_closed = on_closed;
    m->closed_arg = arg;
    wake(m);
}

static int open_queue(const struct queue_config *config, struct queue **ret, struct err *err) {
    if (strcmp(config->url, "memory:") != 0)
        return err_set(err, ERR_INVALID, "the URL of the memory queue is \"memory:\", not \"%s\"", config->url);
    struct memory *m = mem_zalloc(sizeof *m);
    m->base.ops = &queue_memory_ops;
    m->loop = config->loop;
    m->max_messages = config->max_messages;
    m->last_answer = &m->answers;
    m->flush = (struct defer){.fn = flush, .arg = m};
    m->again = (struct post){.fn = on_again};
    *ret = &m->base;
    return 0;
}

const struct queue_ops queue_memory_ops = {
    .scheme = "memory",
    .open = open_queue,
    .close = close_queue,
    .is_up = is_up,
    .publish = publish,
    .consume = consume,
    .depth = depth,
    .delete = delete_lane,
};
