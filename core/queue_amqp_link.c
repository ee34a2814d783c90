// SPDX-License-Identifier: Apache-2.0
// Frames of several channels come interleaved, so each link puts its own deliveries together. The body goes straight
// into the block that the event will keep.
#include "core/queue_amqp_link.h"

#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/queue_amqp_message.h"

#define BATCH_FIRST 16
#define BATCH_MAX 256
#define QUIET_CHECK_MS 15000
#define SUSPECT_CHECK_MS 2000
#define REPLACED_MAX 4 // doublings of the quiet time
#define RETUNE_MS 250
#define OPEN_MS 20000 // for an answer
#define ACK_SHARE 16     // of the prefetch: acks that may be held back
#define ACK_BATCH_MAX 100
#define ACK_HOLD_NS (2 * NS_PER_MS)
#define ACK_GAP_NS (20 * NS_PER_MS) // for acks behind an event that still runs
#define PROBE_TYPE "weir-probe" // a queue type that there is not: RabbitMQ's refusal names the one that the queue has
#define IS_STREAM "current is 'stream'"

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
    free(n->look);
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

char *mq_foreign_queue_name(const struct mq_foreign *from) {
    if (from->exchange.len == 0) return mem_strndup(from->queue);
    return mem_printf("weir.trigger.%.*s", STR_ARG(from->trigger));
}

struct mq_link *mq_link_new_foreign(const struct mq_foreign *from, struct str function, size_t credit, size_t credit_bytes,
                                    void *owner) {
    struct mq_link *l = mq_link_new(function, credit, credit_bytes, owner);
    free(l->queue);
    l->queue = mq_foreign_queue_name(from);
    l->trigger = mem_strndup(from->trigger);
    l->shape = mem_strndup(from->shape);
    if (from->exchange.len) {
        l->exchange = mem_strndup(from->exchange);
        l->binding = mem_strndup(from->binding);
    }
    l->declares = from->declare || from->exchange.len > 0;
    l->fixed_prefetch = from->prefetch;
    return l;
}

static void drop_delivery(struct mq_link *l) {
    free(l->body);
    l->body = NULL;
    l->deliver = NULL;
    l->properties = NULL;
    l->skipped_bytes = 0;
}

void mq_link_free(struct mq_link *l) {
    drop_delivery(l);
    if (l->batch) mq_notice_free(l->batch);
    mq_unacked_done(&l->unacked);
    free(l->function);
    free(l->queue);
    free(l->trigger);
    free(l->shape);
    free(l->exchange);
    free(l->binding);
    free(l);
}

static size_t least_of(size_t a, size_t b) {
    return a < b ? a : b;
}

static uint16_t wanted_prefetch(struct mq_link *l, int64_t now_ns) {
    size_t most = l->credit;
    if (l->fixed_prefetch) most = least_of(most, l->fixed_prefetch);
    if (l->credit_bytes && l->average_bytes >= 1) {
        double fit = (double)l->credit_bytes / l->average_bytes;
        most = fit < 1 ? 1 : fit < (double)most ? (size_t)fit : most;
    }
    if (l->trigger && !l->fixed_prefetch)
        most = l->prefetch == 0 ? least_of(most, MQ_PACE_FIRST)
                                : mq_pace_next(&l->pace, l->prefetch, most, l->unacked.waiting, l->settled, now_ns);
    return (uint16_t)most;
}

#define TAG_BYTES 64
static void format_tag(const struct mq_link *l, char tag[TAG_BYTES]) {
    MUST(text_format(tag, TAG_BYTES, "weir-%d-%u-%u", (int)getpid(), (unsigned)l->channel, l->consumer_number) == 0);
}

static int send(struct mq_link *l, struct mq_conn *c, amqp_method_number_t id, void *method, struct err *err) {
    return mq_conn_sent(c, amqp_send_method(c->state, l->channel, id, method), err);
}

static int start_consumer(struct mq_link *l, struct mq_conn *c, size_t prefetch, struct err *err) {
    l->prefetch = (uint16_t)prefetch;
    l->tuning = MQ_TUNED;
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

// Sent after the declaration has found the queue or made it. Never makes one: there is no such type.
static int send_probe(struct mq_link *l, struct mq_conn *c, struct err *err) {
    amqp_table_entry_t type = {amqp_cstring_bytes("x-queue-type"),
                               {AMQP_FIELD_KIND_UTF8, {.bytes = amqp_cstring_bytes(PROBE_TYPE)}}};
    amqp_queue_declare_t declare = {.queue = amqp_cstring_bytes(l->queue), .durable = 1, .arguments = {1, &type}};
    return send(l, c, AMQP_QUEUE_DECLARE_METHOD, &declare, err);
}

static int send_bind(struct mq_link *l, struct mq_conn *c, struct err *err) {
    if (!l->exchange) return 0;
    amqp_queue_bind_t bind = {.queue = amqp_cstring_bytes(l->queue),
                              .exchange = amqp_cstring_bytes(l->exchange),
                              .routing_key = amqp_cstring_bytes(l->binding)};
    return send(l, c, AMQP_QUEUE_BIND_METHOD, &bind, err);
}

int mq_link_open(struct mq_link *l, struct mq_conn *c, amqp_channel_t channel, struct err *err) {
    if (strlen(l->queue) > 255) return err_set(err, ERR_INVALID, "the queue's name is longer than AMQP allows (255 bytes)");
    l->channel = channel;
    l->open = true;
    l->ready = l->asked = l->suspect = l->stuck = false;
    l->tuning = MQ_TUNED;
    if (l->why.code == ERR_TOO_LARGE) l->why = (struct err){0}; // if the message is still there, it comes again
    l->quiet_ns = clock_mono_ns();
    amqp_channel_open_t open = {.out_of_band = amqp_empty_bytes};
    int rc = send(l, c, AMQP_CHANNEL_OPEN_METHOD, &open, err);
    if (rc == 0) rc = send_declare(l, c, l->passive || (l->trigger && !l->declares), err);
    if (rc == 0 && l->trigger && l->probe == MQ_PROBE_NEEDED) return send_probe(l, c, err);
    if (rc == 0) rc = send_bind(l, c, err);
    return rc ? rc : start_consumer(l, c, wanted_prefetch(l, l->quiet_ns), err);
}

// What the refusal says when the probe was asked for; true: go on at once.
static bool learn_from_probe(struct mq_link *l, const struct err *why) {
    if (why->code == ERR_CONFLICT && strstr(why->text, PROBE_TYPE)) {
        l->refused = strstr(why->text, IS_STREAM) != NULL;
        if (!l->refused) l->probe = MQ_PROBE_DONE;
        return !l->refused;
    }
    if (why->code != ERR_DENIED || (l->declares && !l->passive)) return false;
    l->probe = MQ_PROBE_DENIED;
    return true;
}

bool mq_link_learn(struct mq_link *l, const struct err *why) {
    l->refused = false;
    if (l->trigger && l->probe == MQ_PROBE_NEEDED && learn_from_probe(l, why)) return true;
    // Declaring met a queue that is declared otherwise: it is taken as it is. Or that is gone again: it is made.
    bool declared = !l->trigger || l->declares;
    bool other = declared && !l->ready && why->code == ERR_CONFLICT && !l->passive && !l->refused;
    l->passive = other || (l->passive && why->code != ERR_NOT_FOUND);
    if (other)
        log_warn("queue", "a queue exists with other arguments and is used as it is", LOG_STR("queue", l->queue),
                 LOG_STR("broker", why->text));
    return other;
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
        .vhost = str_of(c->url->at.vhost),
        .exchange = mq_str(d->exchange),
        .routing_key = mq_str(d->routing_key),
        .redelivered = d->redelivered,
        .foreign = l->trigger != NULL,
        .trigger = str_of(l->trigger),
        .shape = str_of(l->shape),
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

// A body that is too large is not taken. Its message stays unacknowledged, in the way of nothing but the prefetch.
static void skip_delivery(struct mq_link *l, uint64_t bytes) {
    mq_unacked_add(&l->unacked, l->deliver->delivery_tag);
    err_set(&l->why, ERR_TOO_LARGE, "a message of %llu bytes in queue %s is larger than %u; it waits there: move it away",
            (unsigned long long)bytes, l->queue, MQ_BODY_MAX);
    log_error("queue", "a message is too large to be consumed", LOG_STR("why", l->why.text));
    drop_delivery(l);
    l->skipped_bytes = bytes;
}

// A stream that could not be told by the probe: each of its messages says where it stands in it.
static bool is_of_stream(const struct mq_link *l, const amqp_basic_properties_t *p) {
    if (l->probe != MQ_PROBE_DENIED || !(p->_flags & AMQP_BASIC_HEADERS_FLAG)) return false;
    for (int i = 0; i < p->headers.num_entries; i++)
        if (str_is(mq_str(p->headers.entries[i].key), "x-stream-offset")) return true;
    return false;
}

static void begin_body(struct mq_link *l, const amqp_frame_t *frame) {
    uint64_t bytes = frame->payload.properties.body_size;
    l->properties = frame->payload.properties.decoded;
    if (is_of_stream(l, l->properties)) {
        l->refused = l->stuck = true; // the thread closes the channel
        drop_delivery(l);
    } else if (bytes > MQ_BODY_MAX) {
        skip_delivery(l, bytes);
    } else {
        l->body_bytes = (size_t)bytes;
        l->body_got = 0;
        l->body = mem_alloc(l->body_bytes);
    }
}

static void add_body(struct mq_link *l, amqp_bytes_t part) {
    size_t room = l->body_bytes - l->body_got;
    size_t n = part.len < room ? part.len : room;
    memcpy(l->body + l->body_got, part.bytes, n);
    l->body_got += n;
}

static void answer_looks(struct mq_link *l, struct mq_list *out) {
    for (; l->looks > 0; l->looks--) {
        struct mq_notice *n = mq_notice_new(MQ_LOOKED, l->owner);
        n->look = mem_zalloc(sizeof *n->look);
        *n->look = (struct mq_look){
            .up = l->open && l->ready,
            .paused = l->paused,
            .why = l->why,
            .ready = l->ready_count,
            .consumers = l->consumers,
            .in_flight = l->unacked.waiting,
            .prefetch = l->prefetch,
        };
        mq_list_add(out, &n->item);
    }
}

static void handle_count(struct mq_link *l, const amqp_queue_declare_ok_t *ok, struct mq_list *out) {
    l->ready_count = ok->message_count;
    l->consumers = ok->consumer_count;
    if (l->ready) answer_looks(l, out);
    if (!l->asked) return; // the answer to the opening, or to a look
    l->asked = false;
    l->stuck = l->suspect && l->ready_count > 0; // twice: the first may have come in just now
    l->suspect = l->ready_count > 0;
}

static void handle_method(struct mq_link *l, const amqp_frame_t *frame, struct mq_list *out) {
    const void *decoded = frame->payload.method.decoded;
    switch (frame->payload.method.id) {
    case AMQP_BASIC_DELIVER_METHOD:
        drop_delivery(l);
        l->deliver = decoded;
        l->suspect = false;
        l->replaced = 0;
        return;
    case AMQP_QUEUE_DECLARE_OK_METHOD:
        handle_count(l, decoded, out);
        return;
    case AMQP_BASIC_CONSUME_OK_METHOD:
        l->ready = true;
        l->failures = 0;
        if (l->why.code != ERR_TOO_LARGE) l->why = (struct err){0};
        return;
    case AMQP_BASIC_CANCEL_OK_METHOD:
        if (l->tuning == MQ_TUNING_STOPS) l->tuning = MQ_TUNING_STOPPED;
        return;
    default: return; // the other answers say nothing new
    }
}

void mq_link_frame(struct mq_link *l, struct mq_conn *c, const amqp_frame_t *frame, struct mq_list *out) {
    if (frame->frame_type == AMQP_FRAME_METHOD) {
        handle_method(l, frame, out);
        return;
    }
    if (l->skipped_bytes && frame->frame_type == AMQP_FRAME_BODY) {
        size_t n = frame->payload.body_fragment.len;
        l->skipped_bytes -= n < l->skipped_bytes ? n : l->skipped_bytes;
        amqp_maybe_release_buffers_on_channel(c->state, l->channel);
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
    l->settled += count;
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
    if (!l->open) {
        answer_looks(l, out);
        return;
    }
    bool probing = l->trigger && l->probe == MQ_PROBE_NEEDED; // nothing was consumed
    l->open = l->ready = false;
    l->probe = MQ_PROBE_NEEDED;
    drop_delivery(l);
    mq_link_flush(l, out);
    answer_looks(l, out);
    l->told += l->unacked.held;
    l->held_ns = l->gap_ns = 0;
    mq_unacked_done(&l->unacked);
    if (probing) return;
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
    return rc || l->tuning != MQ_TUNED ? rc : stop_consumer(l, c, err);
}

int mq_link_cancel(struct mq_link *l, struct mq_conn *c, struct err *err) {
    int rc = mq_link_send_acks(l, c, clock_mono_ns(), true, err);
    if (rc == 0 && !l->paused && l->tuning == MQ_TUNED) rc = stop_consumer(l, c, err);
    // Tag 0 and multiple: all that the channel holds.
    if (rc == 0 && l->unacked.waiting > 0) rc = mq_conn_sent(c, amqp_basic_nack(c->state, l->channel, 0, 1, 1), err);
    return rc;
}

static int restart_consumer(struct mq_link *l, struct mq_conn *c, int64_t now_ns, struct err *err) {
    size_t want = wanted_prefetch(l, now_ns), out = l->unacked.waiting;
    size_t room = out < l->credit ? least_of(want, l->credit - out) : 0;
    if (room == 0 || (room * 2 <= want && want > 1)) return 0;
    return start_consumer(l, c, room, err);
}

int mq_link_retune(struct mq_link *l, struct mq_conn *c, int64_t now_ns, struct err *err) {
    if (!l->ready || l->tuning == MQ_TUNING_STOPS) return 0;
    if (l->tuning == MQ_TUNING_STOPPED) return restart_consumer(l, c, now_ns, err);
    unsigned want = wanted_prefetch(l, now_ns), now = l->prefetch;
    bool fits = want < now * 2 && now < want * 2;
    if (fits || want == now || now_ns < l->retune_ns) return 0;
    l->retune_ns = now_ns + RETUNE_MS * NS_PER_MS;
    // RabbitMQ gives a prefetch to a consumer when it starts, so it takes a new one; the channel keeps what is unsettled.
    l->tuning = MQ_TUNING_STOPS;
    return stop_consumer(l, c, err);
}

int mq_link_look(struct mq_link *l, struct mq_conn *c, struct mq_list *out, struct err *err) {
    l->looks++;
    if (l->open && l->ready && !c->lost) return send_declare(l, c, true, err);
    answer_looks(l, out);
    return 0;
}

// Longer for one that was replaced and still gets nothing: it may be meant to wait (a single active consumer elsewhere).
static int64_t quiet_limit_ms(const struct mq_link *l) {
    if (l->suspect) return SUSPECT_CHECK_MS;
    return (int64_t)QUIET_CHECK_MS << (l->replaced < REPLACED_MAX ? l->replaced : REPLACED_MAX);
}

int mq_link_watch(struct mq_link *l, struct mq_conn *c, int64_t now_ns, struct err *err) {
    int64_t quiet_ms = (now_ns - l->quiet_ns) / NS_PER_MS;
    if (!l->ready || l->asked) { // the stuck one gets no more deliveries, so quiet_ns stands still
        if (quiet_ms >= OPEN_MS) l->stuck = true;
        return 0;
    }
    if (l->unacked.waiting > 0 || l->deliver || quiet_ms < quiet_limit_ms(l)) return 0;
    l->quiet_ns = now_ns;
    l->asked = true;
    return send_declare(l, c, true, err);
}
