// SPDX-License-Identifier: Apache-2.0
// AMQP exchanges as a sink (core/sink.h): a thread with one connection and one channel in confirm mode.
//
// Invariants: `ring` holds the message of delivery tag t in slot t % RING while it is unconfirmed; a message is in exactly one of:
// the turn's batch, the inbox, pending, ring, settled, the outbox.
// A channel that the broker closes (no such exchange, no right, a message over its limit) does not say for which message, and
// takes the unconfirmed ones with it. The channel is opened again, and those are sent once more, one at a time: where only
// one is under way the broker means that one. So one bad message costs the others time only (and maybe a duplicate).
// A basic.return comes before the ack of its message, and shows its exchange, routing key, message-id and size; the oldest
// message of that description is taken, which is right also where several are alike: they are routed alike.
#include <stdatomic.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/queue_amqp_box.h"
#include "core/queue_amqp_conn.h"
#include "core/queue_amqp_outgoing.h"
#include "core/sink_room.h"

#define RING (2u * SINK_MESSAGES_MAX)
#define CHANNEL 1
#define FRAMES_A_ROUND 1024
#define SENDS_A_ROUND 512
#define IDLE_WAIT_MS 2000     // heartbeats are served at least as often
#define DEADLINE_WAIT_MS 500  // how exact the time limit is
#define LIMIT_MS (SINK_TIMEOUT_MS - 2 * DEADLINE_WAIT_MS)

_Static_assert((RING & (RING - 1)) == 0, "slots are found by a mask");

struct message {
    struct mq_item item; // first
    struct mq_outgoing out;
    size_t bytes; // in the sink's room
    sink_done_fn *done;
    void *arg;
    int64_t until_ns;
    bool returned, alone;
    int code;
    struct err *err; // when code is not ERR_OK
};

struct returned { // a basic.return that is being read
    bool reading;
    char exchange[256], routing_key[256];
    size_t exchange_len, routing_key_len;
};

struct amqp_sink {
    struct sink sink; // first
    struct sink_room room;
    struct mq_url url;
    struct mq_list batch; // of this turn
    struct defer hand_over;
    struct mq_inbox inbox;
    struct mq_outbox outbox;
    pthread_t thread;
    void (*on_closed)(void *arg);
    void *arg;
    _Atomic bool stop;
    // The thread's:
    struct mq_conn conn;
    bool blocked;
    struct mq_list pending, settled;
    struct mq_item last; // in the last batch that the thread hands over
    struct message *ring[RING];
    uint64_t oldest, next; // delivery tags
    size_t in_flight;
    struct returned returned;
    struct err why; // of the last connection's end
    unsigned failures;
    int64_t retry_ns;
    uint32_t random;
    struct log_repeat connect_failures;
};

static struct message *message_of(struct mq_item *item) {
    return item ? container_of(item, struct message, item) : NULL;
}

static void settle(struct amqp_sink *s, struct message *m, int code, const struct err *why) {
    m->code = code;
    if (code) {
        m->err = mem_alloc(sizeof *m->err);
        *m->err = *why;
    }
    mq_outgoing_done(&m->out);
    mq_list_add(&s->settled, &m->item);
}

static void fail_pending(struct amqp_sink *s, const struct err *why) {
    struct message *m;
    while ((m = message_of(mq_list_take_first(&s->pending)))) settle(s, m, why->code, why);
}

// --- what is unconfirmed --------------------------------------------------------------------------------------------

static struct message **slot_of(struct amqp_sink *s, uint64_t tag) {
    return &s->ring[tag & (RING - 1)];
}

static struct message *take_tag(struct amqp_sink *s, uint64_t tag) {
    struct message **slot = slot_of(s, tag), *m = *slot;
    if (m) s->in_flight--;
    *slot = NULL;
    while (s->oldest < s->next && !*slot_of(s, s->oldest)) s->oldest++;
    return m;
}

static void take_unconfirmed(struct amqp_sink *s, struct mq_list *to) {
    while (s->oldest < s->next) {
        struct message *m = take_tag(s, s->oldest);
        if (m) mq_list_add(to, &m->item);
    }
}

static void fail_unconfirmed(struct amqp_sink *s, const struct err *why) {
    struct mq_list list = {0};
    struct message *m;
    take_unconfirmed(s, &list);
    while ((m = message_of(mq_list_take_first(&list)))) settle(s, m, ERR_UNAVAILABLE, why);
}

// --- connection -----------------------------------------------------------------------------------------------------

static void drop_connection(struct amqp_sink *s) {
    fail_unconfirmed(s, &s->why);
    fail_pending(s, &s->why);
    mq_conn_close(&s->conn);
    s->blocked = s->returned.reading = false;
    s->random = s->random * 1664525u + 1013904223u; // enough for jitter
    s->failures++;
    s->retry_ns = clock_mono_ns() + mq_backoff_ms(s->failures, s->random >> 8) * NS_PER_MS;
}

static int open_channel(struct amqp_sink *s, struct err *err) {
    int rc = mq_conn_channel_open(&s->conn, CHANNEL, err);
    if (rc) return rc;
    amqp_confirm_select(s->conn.state, CHANNEL);
    s->oldest = s->next = 1;
    return mq_conn_reply(&s->conn, CHANNEL, err);
}

static void connect(struct amqp_sink *s) {
    int rc = mq_conn_open(&s->conn, &s->url, "weir sink", &s->why);
    if (rc) s->why.code = s->conn.refused ? ERR_DENIED : ERR_UNAVAILABLE;
    else if ((rc = open_channel(s, &s->why))) s->why.code = ERR_UNAVAILABLE;
    if (rc == 0) {
        s->failures = 0;
        s->connect_failures = (struct log_repeat){0};
        return;
    }
    log_repeating(&s->connect_failures, LOG_LEVEL_WARN, "sink", "cannot publish to RabbitMQ", s->why.text);
    drop_connection(s);
}

// --- sending --------------------------------------------------------------------------------------------------------

// Is there a message that only waits for room on the socket?
static bool is_next_due(struct amqp_sink *s) {
    const struct message *m = message_of(s->pending.first);
    if (!m || !s->conn.state || s->conn.lost || s->blocked || s->next - s->oldest >= RING) return false;
    return s->in_flight == 0 || !(m->alone || (*slot_of(s, s->oldest))->alone);
}

static bool may_send(struct amqp_sink *s) {
    return is_next_due(s) && mq_conn_writable(&s->conn);
}

static void send_one(struct amqp_sink *s, struct message *m) {
    *slot_of(s, s->next++) = m; // first: when sending fails, losing the connection settles it
    s->in_flight++;
    m->returned = false;
    const struct mq_outgoing *o = &m->out;
    int status = amqp_basic_publish(s->conn.state, CHANNEL, mq_bytes(o->exchange), mq_bytes(o->routing_key), 1, 0, &o->properties,
                                    mq_bytes(o->payload));
    (void)mq_conn_sent(&s->conn, status, &s->why);
}

static void send_pending(struct amqp_sink *s) {
    if (s->blocked) {
        struct err err;
        err_set(&err, ERR_UNAVAILABLE, "RabbitMQ takes no messages now (memory or disk alarm)");
        fail_pending(s, &err);
    }
    if (!s->pending.first) return;
    mq_conn_cork(&s->conn, true);
    for (int i = 0; i < SENDS_A_ROUND && may_send(s); i++) send_one(s, message_of(mq_list_take_first(&s->pending)));
    mq_conn_cork(&s->conn, false);
}

// --- answers --------------------------------------------------------------------------------------------------------

static void confirm_one(struct amqp_sink *s, uint64_t tag, bool ok) {
    struct message *m = take_tag(s, tag);
    struct err err = {0};
    if (!m) return;
    if (!ok) {
        err_set(&err, ERR_BUSY, "RabbitMQ refused the message: its queue is full, or cannot take it now");
    } else if (m->returned) {
        err_set(&err, ERR_NOT_FOUND, "no queue is bound to exchange '%.*s' for routing key '%.*s'", STR_ARG(m->out.exchange),
                STR_ARG(m->out.routing_key));
    }
    settle(s, m, err.code, &err);
}

static void confirm(struct amqp_sink *s, uint64_t tag, bool multiple, bool ok) {
    if (tag >= s->next) return; // not ours to confirm
    uint64_t first = multiple ? s->oldest : tag;
    if (multiple && tag == 0) tag = s->next - 1;
    for (uint64_t t = first; t <= tag && t < s->next; t++)
        if (t >= s->oldest) confirm_one(s, t, ok);
}

static size_t copy_name(char room[256], amqp_bytes_t name) {
    size_t len = name.len > 255 ? 255 : name.len;
    memcpy(room, name.bytes, len);
    return len;
}

static bool is_returned(const struct returned *r, const struct message *m, const amqp_basic_properties_t *p, uint64_t body_bytes) {
    const amqp_basic_properties_t *sent = &m->out.properties;
    struct str sent_id = sent->_flags & AMQP_BASIC_MESSAGE_ID_FLAG ? mq_str(sent->message_id) : STR_NONE;
    struct str id = p->_flags & AMQP_BASIC_MESSAGE_ID_FLAG ? mq_str(p->message_id) : STR_NONE;
    return !m->returned && m->out.payload.len == body_bytes && str_eq(id, sent_id) &&
           str_eq(m->out.exchange, (struct str){r->exchange, r->exchange_len}) &&
           str_eq(m->out.routing_key, (struct str){r->routing_key, r->routing_key_len});
}

static void note_returned(struct amqp_sink *s, const amqp_basic_properties_t *p, uint64_t body_bytes) {
    for (uint64_t t = s->oldest; t < s->next; t++) {
        struct message *m = *slot_of(s, t);
        if (!m || !is_returned(&s->returned, m, p, body_bytes)) continue;
        m->returned = true;
        return;
    }
}

static enum err_code sink_code(int code, const struct err *why) {
    if (code == ERR_NOT_FOUND || code == ERR_DENIED) return (enum err_code)code;
    return strstr(why->text, "larger than") ? ERR_TOO_LARGE : ERR_UNAVAILABLE;
}

static void handle_channel_close(struct amqp_sink *s, const amqp_frame_t *frame) {
    struct err why = {0};
    int code = mq_conn_closed_by_peer(&s->conn, frame, &why);
    s->why = why;
    s->why.code = ERR_UNAVAILABLE;
    if (s->conn.lost) return;
    struct mq_list list = {0};
    take_unconfirmed(s, &list);
    if (list.first && list.first == list.last) {
        why.code = sink_code(code, &why);
        settle(s, message_of(mq_list_take_first(&list)), why.code, &why);
    }
    for (struct mq_item *item = list.first; item; item = item->next) message_of(item)->alone = true;
    mq_list_move(&list, &s->pending);
    s->pending = list;
    s->returned.reading = false;
    if (open_channel(s, &s->why)) s->conn.lost = true;
}

static void handle_method(struct amqp_sink *s, const amqp_frame_t *frame) {
    const void *decoded = frame->payload.method.decoded;
    switch (frame->payload.method.id) {
    case AMQP_BASIC_ACK_METHOD: {
        const amqp_basic_ack_t *m = decoded;
        confirm(s, m->delivery_tag, m->multiple, true);
        return;
    }
    case AMQP_BASIC_NACK_METHOD: {
        const amqp_basic_nack_t *m = decoded;
        confirm(s, m->delivery_tag, m->multiple, false);
        return;
    }
    case AMQP_BASIC_RETURN_METHOD: {
        const amqp_basic_return_t *m = decoded;
        s->returned.reading = true;
        s->returned.exchange_len = copy_name(s->returned.exchange, m->exchange);
        s->returned.routing_key_len = copy_name(s->returned.routing_key, m->routing_key);
        return;
    }
    case AMQP_CONNECTION_BLOCKED_METHOD:
    case AMQP_CONNECTION_UNBLOCKED_METHOD: s->blocked = frame->payload.method.id == AMQP_CONNECTION_BLOCKED_METHOD; return;
    case AMQP_CHANNEL_CLOSE_METHOD:
    case AMQP_CONNECTION_CLOSE_METHOD: handle_channel_close(s, frame); return;
    default: return; // flow and late answers ask for nothing
    }
}

static void read_frames(struct amqp_sink *s) {
    amqp_frame_t frame;
    for (int i = 0; i < FRAMES_A_ROUND && mq_conn_next_frame(&s->conn, &frame, &s->why); i++) {
        if (frame.frame_type == AMQP_FRAME_METHOD) handle_method(s, &frame);
        else if (frame.frame_type == AMQP_FRAME_HEADER && s->returned.reading) {
            note_returned(s, frame.payload.properties.decoded, frame.payload.properties.body_size);
            s->returned.reading = false; // what follows is the body, which we have
        }
    }
    if (!s->conn.lost) amqp_maybe_release_buffers(s->conn.state);
}

// --- the thread -----------------------------------------------------------------------------------------------------

static void expire(struct amqp_sink *s) {
    int64_t now = clock_mono_ns();
    struct err err;
    err_set(&err, ERR_UNAVAILABLE, "RabbitMQ did not confirm the message in time; it may have arrived all the same");
    while (s->pending.first && message_of(s->pending.first)->until_ns <= now)
        settle(s, message_of(mq_list_take_first(&s->pending)), err.code, &err);
    while (s->in_flight && (*slot_of(s, s->oldest))->until_ns <= now) settle(s, take_tag(s, s->oldest), err.code, &err);
}

static void turn(struct amqp_sink *s) {
    if (!s->conn.state && clock_mono_ns() >= s->retry_ns && !s->stop) connect(s);
    if (!s->conn.state) {
        fail_pending(s, &s->why);
        return;
    }
    err_set(&s->why, ERR_UNAVAILABLE, "the connection to RabbitMQ is lost");
    read_frames(s);
    if (!s->conn.lost) send_pending(s);
    expire(s);
    if (!s->conn.lost) return;
    log_repeating(&s->connect_failures, LOG_LEVEL_WARN, "sink", "the connection to RabbitMQ is lost", s->why.text);
    drop_connection(s);
}

static void wait_for_work(struct amqp_sink *s) {
    int64_t now = clock_mono_ns();
    int64_t wait_ms = s->in_flight || s->pending.first ? DEADLINE_WAIT_MS : IDLE_WAIT_MS;
    if (!s->conn.state) wait_ms = s->retry_ns > now ? (s->retry_ns - now) / NS_PER_MS + 1 : 0;
    mq_conn_wait(&s->conn, is_next_due(s), s->inbox.wake_fd, (int)wait_ms);
}

static void *run(void *arg) {
    struct amqp_sink *s = arg;
    for (;;) {
        bool stopping = s->stop; // only set when nothing is under way
        mq_inbox_take(&s->inbox, &s->pending);
        turn(s);
        mq_outbox_put(&s->outbox, &s->settled);
        if (stopping) break;
        wait_for_work(s);
    }
    mq_conn_close(&s->conn);
    mq_list_add(&s->settled, &s->last);
    mq_outbox_put(&s->outbox, &s->settled);
    return NULL;
}

// --- the loop's side ------------------------------------------------------------------------------------------------

static void end(struct amqp_sink *s) {
    void (*on_closed)(void *) = s->on_closed;
    void *arg = s->arg;
    pthread_join(s->thread, NULL);
    loop_defer_cancel(s->room.loop, &s->hand_over);
    mq_inbox_done(&s->inbox);
    mq_outbox_done(&s->outbox);
    mq_url_done(&s->url);
    free(s);
    on_closed(arg);
}

static void on_items(void *arg, struct mq_list *items) {
    struct amqp_sink *s = arg;
    struct mq_item *item;
    while ((item = mq_list_take_first(items)) && item != &s->last) {
        struct message *m = message_of(item);
        sink_room_leave(&s->room, m->bytes);
        m->done(m->arg, m->code, m->err);
        free(m->err);
        free(m);
    }
    if (item) end(s);
}

static void hand_over(void *arg) {
    struct amqp_sink *s = arg;
    mq_inbox_put(&s->inbox, &s->batch);
}

static int accept_message(struct amqp_sink *s, const struct sink_message *from, sink_done_fn *done, void *arg, struct err *err) {
    size_t bytes = sink_message_bytes(from);
    struct mq_outgoing out;
    int rc = mq_outgoing_init(&out, from, err);
    if (rc) return rc;
    rc = sink_room_enter(&s->room, bytes, err);
    if (rc) {
        mq_outgoing_done(&out);
        return rc;
    }
    struct message *m = mem_zalloc(sizeof *m);
    m->out = out;
    m->bytes = bytes;
    m->done = done;
    m->arg = arg;
    m->until_ns = clock_mono_ns() + LIMIT_MS * NS_PER_MS;
    mq_list_add(&s->batch, &m->item);
    loop_defer(s->room.loop, &s->hand_over);
    return 0;
}

static void amqp_send(struct sink *sink, const struct sink_message *m, sink_done_fn *done, void *arg) {
    struct amqp_sink *s = container_of(sink, struct amqp_sink, sink);
    struct err err = {0};
    if (accept_message(s, m, done, arg, &err)) sink_room_refuse(&s->room, &err, done, arg);
}

static void on_empty(void *arg) {
    struct amqp_sink *s = arg;
    s->stop = true;
    mq_inbox_wake(&s->inbox);
}

static void amqp_close(struct sink *sink, void (*on_closed)(void *arg), void *arg) {
    struct amqp_sink *s = container_of(sink, struct amqp_sink, sink);
    s->on_closed = on_closed;
    s->arg = arg;
    sink_room_close(&s->room, on_empty, s); // each message has its answer by SINK_TIMEOUT_MS
}

int amqp_sink_open(struct loop *loop, const char *url, struct sink **ret, struct err *err) {
    static const struct sink_ops ops = {.ce_prefix = "cloudEvents:", .send = amqp_send, .close = amqp_close};
    struct amqp_sink *s = mem_zalloc(sizeof *s);
    int rc = mq_url_parse(url, &s->url, err);
    if (rc) {
        free(s);
        return rc;
    }
    s->sink.ops = &ops;
    s->random = (uint32_t)clock_mono_ns();
    s->oldest = s->next = 1;
    s->conn.fd = -1;
    s->hand_over = (struct defer){.fn = hand_over, .arg = s};
    sink_room_init(&s->room, loop);
    mq_inbox_init(&s->inbox);
    mq_outbox_init(&s->outbox, loop, on_items, s);
    mq_thread_start(&s->thread, run, s);
    *ret = &s->sink;
    return 0;
}
