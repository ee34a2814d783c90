// SPDX-License-Identifier: Apache-2.0
// Frames of several channels come interleaved, so each link puts its own deliveries together. The body goes straight
// into the block that the event will keep.
#include "core/queue_amqp_link.h"

#include <unistd.h>

#include "core/base/clock.h"
#include "core/queue_amqp_message.h"

#define BATCH_FIRST 16
#define BATCH_MAX 256
#define QUIET_CHECK_MS 15000
#define SUSPECT_CHECK_MS 2000
#define RETUNE_MS 1000
#define OPEN_MS 20000 // for an answer
#define ACK_SHARE 16     // of the prefetch: acks that may be held back
#define ACK_BATCH_MAX 100
#define ACK_HOLD_NS (2 * NS_PER_MS)
#define ACK_GAP_NS (20 * NS_PER_MS) // for acks behind an event that still runs
#define BODY_MAX (512u * 1024 * 1024) // more than RabbitMQ can be told to take

struct mq_notice *mq_notice_new(enum mq_notice_kind kind, void *owner) {
    struct mq_notice *n = mem_zalloc(sizeof *n);
    n->kind = kind;
    n->owner = owner;
    return n;
}

static void free_why(struct str why) {
    union {
        const char *from;
        void *to;
    } p = {.from = why.data};
    free(p.to);
}

void mq_notice_free(struct mq_notice *n) {
    if (n->kind == MQ_MESSAGES) {
        for (size_t i = 0; i < n->count; i++) {
            ev_free(n->msgs[i].ev);
            if (n->msgs[i].content == QUEUE_UNDECODABLE) free_why(n->msgs[i].why);
        }
        free(n->msgs);
    }
    free(n);
}

struct mq_link *mq_link_new(struct str function, size_t credit, size_t credit_bytes, void *owner) {
    struct mq_link *l = mem_zalloc(sizeof *l);
    l->owner = owner;
    l->function = mem_strndup(function);
    l->queue = mq_queue_name(function);
    l->credit = credit;
    l->credit_bytes = credit_bytes;
    return l;
}

static void drop_delivery(struct mq_link *l) {
    free(l->body);
    l->body = NULL;
    l->deliver = NULL;
    l->properties = NULL;
}

void mq_link_free(struct mq_link *l) {
    drop_delivery(l);
    if (l->batch) mq_notice_free(l->batch);
    mq_unacked_done(&l->unacked);
    free(l->function);
    free(l->queue);
    free(l);
}

static uint16_t wanted_prefetch(const struct mq_link *l) {
    if (l->credit_bytes == 0 || l->average_bytes < 1) return (uint16_t)l->credit;
    double fit = (double)l->credit_bytes / l->average_bytes;
    if (fit < 1) return 1;
    return fit < (double)l->credit ? (uint16_t)fit : (uint16_t)l->credit;
}

#define TAG_BYTES 64
static void format_tag(const struct mq_link *l, char tag[TAG_BYTES]) {
    MUST(text_format(tag, TAG_BYTES, "weir-%d-%u-%u", (int)getpid(), (unsigned)l->channel, l->consumer_number) == 0);
}

static int send(struct mq_link *l, struct mq_conn *c, amqp_method_number_t id, void *method, struct err *err) {
    return mq_conn_sent(c, amqp_send_method(c->state, l->channel, id, method), err);
}

static int start_consumer(struct mq_link *l, struct mq_conn *c, struct err *err) {
    l->prefetch = wanted_prefetch(l);
    l->consumer_number++;
    char tag[TAG_BYTES];
    format_tag(l, tag);
    amqp_basic_qos_t qos = {.prefetch_count = l->prefetch};
    amqp_basic_consume_t consume = {.queue = amqp_cstring_bytes(l->queue), .consumer_tag = amqp_cstring_bytes(tag)};
    int rc = send(l, c, AMQP_BASIC_QOS_METHOD, &qos, err);
    return rc ? rc : send(l, c, AMQP_BASIC_CONSUME_METHOD, &consume, err);
}

static int send_declare(struct mq_link *l, struct mq_conn *c, bool passive, struct err *err) {
    struct mq_queue_arguments room;
    amqp_queue_declare_t declare = {.queue = amqp_cstring_bytes(l->queue), .passive = passive};
    if (!passive) {
        declare.durable = 1;
        declare.arguments = mq_queue_arguments(c->url, &room);
    }
    return send(l, c, AMQP_QUEUE_DECLARE_METHOD, &declare, err);
}

int mq_link_open(struct mq_link *l, struct mq_conn *c, amqp_channel_t channel, struct err *err) {
    if (strlen(l->queue) > 255) return err_set(err, ERR_INVALID, "the function's name is too long for a queue's name");
    l->channel = channel;
    l->open = true;
    l->ready = l->asked = l->suspect = l->stuck = false;
    l->quiet_ns = clock_mono_ns();
    amqp_channel_open_t open = {.out_of_band = amqp_empty_bytes};
    int rc = send(l, c, AMQP_CHANNEL_OPEN_METHOD, &open, err);
    if (rc == 0) rc = send_declare(l, c, l->passive, err);
    return rc ? rc : start_consumer(l, c, err);
}

void mq_link_flush(struct mq_link *l, struct mq_list *out) {
    if (!l->batch) return;
    mq_list_add(out, &l->batch->item);
    l->batch = NULL;
}

static struct queue_msg *next_in_batch(struct mq_link *l) {
    if (!l->batch) l->batch = mq_notice_new(MQ_MESSAGES, l->owner);
    struct mq_notice *n = l->batch;
    if (n->count == n->room) {
        n->room = n->room ? n->room * 2 : BATCH_FIRST;
        n->msgs = mem_realloc(n->msgs, n->room * sizeof *n->msgs);
    }
    return &n->msgs[n->count++];
}

static void complete_delivery(struct mq_link *l, struct mq_conn *c, struct mq_list *out) {
    const amqp_basic_deliver_t *d = l->deliver;
    struct mq_message_origin from = {
        .function = str_of(l->function),
        .queue = str_of(l->queue),
        .exchange = mq_str(d->exchange),
        .routing_key = mq_str(d->routing_key),
        .redelivered = d->redelivered,
    };
    struct queue_msg *m = next_in_batch(l);
    mq_message_read(&from, l->properties, TAKE_PTR(l->body), l->body_bytes, m);
    m->tag = (uint64_t)l->epoch << MQ_EPOCH_SHIFT | d->delivery_tag;
    mq_unacked_add(&l->unacked, d->delivery_tag);
    double bytes = (double)l->body_bytes + 256; // and what goes with it
    l->average_bytes = l->average_bytes < 1 ? bytes : l->average_bytes * 0.95 + bytes * 0.05;
    drop_delivery(l);
    amqp_maybe_release_buffers_on_channel(c->state, l->channel);
    if (l->batch->count >= BATCH_MAX) mq_link_flush(l, out);
}

static void begin_body(struct mq_link *l, const amqp_frame_t *frame) {
    if (frame->payload.properties.body_size > BODY_MAX) { // cannot be: then the frames are not what we think
        drop_delivery(l);
        return;
    }
    l->properties = frame->payload.properties.decoded;
    l->body_bytes = (size_t)frame->payload.properties.body_size;
    l->body_got = 0;
    l->body = mem_alloc(l->body_bytes);
}

static void add_body(struct mq_link *l, amqp_bytes_t part) {
    size_t room = l->body_bytes - l->body_got;
    size_t n = part.len < room ? part.len : room;
    memcpy(l->body + l->body_got, part.bytes, n);
    l->body_got += n;
}

static void handle_count(struct mq_link *l, uint32_t ready) {
    if (!l->asked) return; // the answer to the opening
    l->asked = false;
    l->stuck = l->suspect && ready > 0; // twice: the first may have come in just now
    l->suspect = ready > 0;
}

static void handle_method(struct mq_link *l, const amqp_frame_t *frame) {
    const void *decoded = frame->payload.method.decoded;
    switch (frame->payload.method.id) {
    case AMQP_BASIC_DELIVER_METHOD:
        drop_delivery(l);
        l->deliver = decoded;
        l->suspect = false;
        return;
    case AMQP_QUEUE_DECLARE_OK_METHOD:
        handle_count(l, ((const amqp_queue_declare_ok_t *)decoded)->message_count);
        return;
    case AMQP_BASIC_CONSUME_OK_METHOD:
        l->ready = true;
        l->failures = 0;
        return;
    default: return; // the other answers say nothing new
    }
}

void mq_link_frame(struct mq_link *l, struct mq_conn *c, const amqp_frame_t *frame, struct mq_list *out) {
    if (frame->frame_type == AMQP_FRAME_METHOD) {
        handle_method(l, frame);
        return;
    }
    if (!l->deliver) return;
    if (frame->frame_type == AMQP_FRAME_HEADER && !l->body) begin_body(l, frame);
    else if (frame->frame_type == AMQP_FRAME_BODY && l->body) add_body(l, frame->payload.body_fragment);
    if (l->body && l->body_got == l->body_bytes) complete_delivery(l, c, out);
}

static int send_ack(struct mq_link *l, struct mq_conn *c, uint64_t tag, bool multiple, struct err *err) {
    return mq_conn_sent(c, amqp_basic_ack(c->state, l->channel, tag, multiple), err);
}

int mq_link_settle(struct mq_link *l, struct mq_conn *c, const struct mq_settle *settles, size_t count, struct err *err) {
    int rc = 0;
    const uint64_t mask = (UINT64_C(1) << MQ_EPOCH_SHIFT) - 1;
    for (size_t i = 0; i < count; i++) {
        const struct mq_settle *s = &settles[i];
        bool held = l->open && s->tag >> MQ_EPOCH_SHIFT == l->epoch && mq_unacked_settle(&l->unacked, s->tag & mask, s->release);
        if (held && s->release && rc == 0 && !c->lost)
            rc = mq_conn_sent(c, amqp_basic_nack(c->state, l->channel, s->tag & mask, 0, 1), err);
        if (!held || s->release) l->told++;
    }
    l->quiet_ns = clock_mono_ns();
    if (l->unacked.held && l->held_ns == 0) l->held_ns = l->quiet_ns;
    return rc;
}

// A share of the prefetch, so that RabbitMQ always has leave to send more while acks are held back.
static size_t ack_batch(const struct mq_link *l) {
    size_t n = l->prefetch / ACK_SHARE;
    return n < 1 ? 1 : n > ACK_BATCH_MAX ? ACK_BATCH_MAX : n;
}

static int send_singles(struct mq_link *l, struct mq_conn *c, struct err *err) {
    uint64_t tag;
    size_t at = 0;
    int rc = 0;
    while (rc == 0 && mq_unacked_take_next(&l->unacked, &at, &tag)) {
        rc = send_ack(l, c, tag, false, err);
        l->told++;
    }
    return rc;
}

int mq_link_send_acks(struct mq_link *l, struct mq_conn *c, int64_t now_ns, bool all, struct err *err) {
    if (!l->open || c->lost || l->unacked.held == 0) return 0;
    if (!all && l->unacked.held < ack_batch(l) && now_ns < l->held_ns + ACK_HOLD_NS) return 0;
    uint64_t last;
    size_t prefix;
    int rc = 0;
    if (mq_unacked_take_prefix(&l->unacked, &last, &prefix)) {
        rc = send_ack(l, c, last, prefix > 1, err);
        l->told += prefix;
    }
    // What is left stands behind an event that still runs.
    bool crowded = l->unacked.held >= (size_t)l->prefetch / 2;
    if (l->unacked.held && l->gap_ns == 0) l->gap_ns = now_ns;
    if (rc == 0 && l->unacked.held && (all || crowded || now_ns >= l->gap_ns + ACK_GAP_NS)) rc = send_singles(l, c, err);
    if (l->unacked.held == 0) l->gap_ns = 0;
    l->held_ns = l->unacked.held ? now_ns : 0;
    return rc;
}

int64_t mq_link_acks_due_ns(const struct mq_link *l) {
    return l->open && l->unacked.held ? l->held_ns + ACK_HOLD_NS : INT64_MAX;
}

void mq_link_shut(struct mq_link *l, struct mq_list *out) {
    if (!l->open) return;
    l->open = false;
    drop_delivery(l);
    mq_link_flush(l, out);
    l->told += l->unacked.held;
    l->held_ns = l->gap_ns = 0;
    mq_unacked_done(&l->unacked);
    l->epoch++;
    mq_list_add(out, &mq_notice_new(MQ_LOST, l->owner)->item);
}

static int stop_consumer(struct mq_link *l, struct mq_conn *c, struct err *err) {
    char tag[TAG_BYTES];
    format_tag(l, tag);
    amqp_basic_cancel_t cancel = {.consumer_tag = amqp_cstring_bytes(tag)};
    return send(l, c, AMQP_BASIC_CANCEL_METHOD, &cancel, err);
}

int mq_link_pause(struct mq_link *l, struct mq_conn *c, struct err *err) {
    if (l->paused) return 0;
    l->paused = true;
    if (!l->open) return 0;
    int rc = mq_link_send_acks(l, c, clock_mono_ns(), true, err);
    return rc ? rc : stop_consumer(l, c, err);
}

int mq_link_cancel(struct mq_link *l, struct mq_conn *c, struct err *err) {
    int rc = mq_link_send_acks(l, c, clock_mono_ns(), true, err);
    if (rc == 0 && !l->paused) rc = stop_consumer(l, c, err);
    // Tag 0 and multiple: all that the channel holds.
    if (rc == 0 && l->unacked.waiting > 0) rc = mq_conn_sent(c, amqp_basic_nack(c->state, l->channel, 0, 1, 1), err);
    return rc;
}

int mq_link_retune(struct mq_link *l, struct mq_conn *c, int64_t now_ns, struct err *err) {
    unsigned want = wanted_prefetch(l), now = l->prefetch;
    bool fits = want < now * 2 && now < want * 2;
    if (!l->ready || fits || want == now || now_ns < l->retune_ns) return 0;
    l->retune_ns = now_ns + RETUNE_MS * NS_PER_MS;
    // RabbitMQ gives a prefetch to a consumer when it starts, so it takes a new one; the channel keeps what is unsettled.
    int rc = stop_consumer(l, c, err);
    return rc ? rc : start_consumer(l, c, err);
}

int mq_link_watch(struct mq_link *l, struct mq_conn *c, int64_t now_ns, struct err *err) {
    int64_t quiet_ms = (now_ns - l->quiet_ns) / NS_PER_MS;
    if (!l->ready || l->asked) { // the stuck one gets no more deliveries, so quiet_ns stands still
        if (quiet_ms >= OPEN_MS) l->stuck = true;
        return 0;
    }
    if (l->unacked.waiting > 0 || l->deliver || quiet_ms < (l->suspect ? SUSPECT_CHECK_MS : QUIET_CHECK_MS)) return 0;
    l->quiet_ns = now_ns;
    l->asked = true;
    return send_declare(l, c, true, err);
}
