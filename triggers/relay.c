// SPDX-License-Identifier: Apache-2.0
// Invariant: each record taken is in `records` until it was acknowledged or given back; `sending` counts those at the queue.
#include "triggers/relay.h"

#include <utlist.h>

#include "core/base/log.h"

struct record {
    struct record *prev, *next;
    struct relay *relay;
    uint64_t tag;
    struct ev *ev;      // kept until the queue has its copy
    bool sent;
};

struct relay {
    struct loop *loop;
    struct ingest *ingest;
    const struct binding *binding;
    struct queue_consumer *consumer;
    struct record *records;
    size_t sending;
    struct timer *again;
    struct defer end;
    struct log_repeat trouble;
    bool stopping;
    void (*on_stopped)(void *arg);
    void *arg;
};

static void done_with(struct record *rec) {
    DL_DELETE(rec->relay->records, rec);
    ev_free(rec->ev);
    free(rec);
}

static void on_accepted(void *arg, int code, const struct err *err) {
    struct record *rec = arg;
    struct relay *r = rec->relay;
    rec->sent = false;
    r->sending--;
    if (code == ERR_OK) {
        queue_ack(r->consumer, rec->tag);
        done_with(rec);
    } else {
        log_repeating(&r->trouble, LOG_LEVEL_ERROR, "trigger", "the function's queue refuses a relayed record; it is offered again", err->text);
        timer_start(r->again, RELAY_AGAIN_MS);
    }
    if (r->stopping) loop_defer(r->loop, &r->end);
}

static void offer(struct record *rec) {
    rec->sent = true;
    rec->relay->sending++;
    ingest_async(rec->relay->ingest, ev_new(&rec->ev->f), on_accepted, rec);
}

static void on_again(void *arg) {
    struct relay *r = arg;
    struct record *rec;
    DL_FOREACH(r->records, rec) if (!rec->sent && !r->stopping) offer(rec);
}

static void on_messages(void *arg, struct queue_msg *msgs, size_t count) {
    struct relay *r = arg;
    for (size_t i = 0; i < count; i++) {
        if (r->binding->filter && !filter_matches(r->binding->filter, msgs[i].ev)) {
            queue_ack(r->consumer, msgs[i].tag);
            ev_free(msgs[i].ev);
            continue;
        }
        struct record *rec = mem_zalloc(sizeof *rec);
        *rec = (struct record){.relay = r, .tag = msgs[i].tag, .ev = msgs[i].ev};
        DL_APPEND(r->records, rec);
        offer(rec);
    }
}

static void on_end(void *arg) {
    struct relay *r = arg;
    struct record *rec, *next;
    DL_FOREACH_SAFE(r->records, rec, next) {
        if (rec->sent) continue;
        queue_release(r->consumer, rec->tag);
        done_with(rec);
    }
    if (r->sending) return;
    queue_consumer_close(r->consumer);
    timer_free(r->again);
    r->on_stopped(r->arg);
    free(r);
}

struct relay *relay_start(struct loop *loop, struct ingest *ingest, const struct binding *b) {
    struct relay *r = mem_zalloc(sizeof *r);
    *r = (struct relay){.loop = loop, .ingest = ingest, .binding = b, .again = timer_new(loop, on_again, r)};
    r->end = (struct defer){.fn = on_end, .arg = r};
    const struct queue_consumer_config config = {.function = str_of(b->function),
                                                 .credit = b->credit,
                                                 .credit_bytes = b->credit_bytes / 2, // each record is here twice
                                                 .on_messages = on_messages,
                                                 .arg = r};
    r->consumer = source_consume(b->source, &config);
    return r;
}

void relay_stop(struct relay *r, void (*on_stopped)(void *arg), void *arg) {
    r->stopping = true;
    r->on_stopped = on_stopped;
    r->arg = arg;
    queue_consumer_pause(r->consumer);
    loop_defer(r->loop, &r->end);
}
