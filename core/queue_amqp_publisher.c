// SPDX-License-Identifier: Apache-2.0
// The publisher's thread. Channel 1 publishes in confirm mode; channel 2 declares, counts and deletes, so that a refusal
// there does not take the unconfirmed messages of channel 1 with it.
//
// Invariants: `ring` holds the request of delivery tag t in slot t % RING while it is unconfirmed, and tags in
// [oldest, next) are all that can be; a request is in exactly one of: pending, ring, settled, the outbox.
// A basic.return comes before the ack of its message and names it by its message-id only.
// Nothing is written while the socket has no room or the broker has blocked us, so that the thread is always back
// soon to read confirms and heartbeats.
#include "core/queue_amqp_publisher.h"

#include <stdatomic.h>
#include <uthash.h>

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/queue_amqp_conn.h"
#include "core/queue_amqp_message.h"

#define RING (2u * MQ_IN_FLIGHT_MAX) // a power of two
#define CHANNEL_PUBLISH 1
#define CHANNEL_SIDE 2
#define FRAMES_A_ROUND 1024
#define SENDS_A_ROUND 512
#define IDLE_WAIT_MS 2000 // heartbeats are served at least as often
#define CLOSE_WAIT_MS 5000
#define NACK_VERDICT_MS 1000

_Static_assert((RING & (RING - 1)) == 0, "slots are found by a mask");

struct known { // a function whose queue was declared on this connection
    char *queue;
    int64_t verdict_until_ns; // how long refusals need no new look at the queue
    int verdict;
    UT_hash_handle hh;
};

struct mq_publisher {
    // Loop's side:
    struct mq_inbox inbox;
    struct mq_outbox outbox;
    pthread_t thread;
    void (*on_done)(void *arg, struct mq_list *requests);
    void (*on_stopped)(void *arg);
    void *arg;
    // Shared:
    _Atomic bool up, stop;
    // The thread's:
    const struct mq_url *url;
    struct mq_conn conn;
    bool side_open, blocked;
    struct known *known;
    struct mq_list pending, settled;
    struct mq_request last;       // in the last batch that the thread hands over
    struct err why_lost;
    struct mq_request *ring[RING];
    uint64_t oldest, next; // delivery tags
    struct buf encoded;
    unsigned failures;
    int64_t retry_ns, stop_by_ns;
    uint32_t random;
    struct log_repeat connect_failures;
    // The content that is being read after a basic.return:
    bool reading_return;
    uint64_t return_bytes_left;
};

static void settle(struct mq_publisher *p, struct mq_request *r, int code, const struct err *why) {
    r->code = code;
    if (code) {
        r->err = mem_alloc(sizeof *r->err);
        *r->err = *why;
    }
    if (r->kind == MQ_PUBLISH) {
        ev_free(r->ev);
        r->ev = NULL;
    }
    mq_list_add(&p->settled, &r->item);
}

static struct mq_request *take_request(struct mq_list *list) {
    struct mq_item *item = mq_list_take_first(list);
    return item ? container_of(item, struct mq_request, item) : NULL;
}

static void fail_all(struct mq_publisher *p, struct mq_list *list, const struct err *why) {
    struct mq_request *r;
    while ((r = take_request(list))) settle(p, r, why->code, why);
}

static void forget_known(struct mq_publisher *p) {
    struct known *k, *tmp;
    HASH_ITER(hh, p->known, k, tmp) {
        HASH_DEL(p->known, k);
        free(k->queue);
        free(k);
    }
}

// --- connection -----------------------------------------------------------------------------------------------------

static void drop_connection(struct mq_publisher *p, const struct err *why) {
    p->up = false;
    for (; p->oldest < p->next; p->oldest++) {
        struct mq_request **slot = &p->ring[p->oldest & (RING - 1)];
        if (*slot) settle(p, *slot, ERR_UNAVAILABLE, why);
        *slot = NULL;
    }
    mq_conn_close(&p->conn);
    forget_known(p);
    p->side_open = p->blocked = p->reading_return = false;
}

static uint32_t next_random(struct mq_publisher *p) {
    p->random = p->random * 1664525u + 1013904223u; // enough for jitter
    return p->random >> 8;
}

static void plan_retry(struct mq_publisher *p) {
    p->failures++;
    p->retry_ns = clock_mono_ns() + mq_backoff_ms(p->failures, next_random(p)) * NS_PER_MS;
}

static void lose_connection(struct mq_publisher *p, const struct err *why) {
    log_repeating(&p->connect_failures, LOG_LEVEL_WARN, "queue", "the publishing connection is lost", why->text);
    drop_connection(p, why);
    fail_all(p, &p->pending, why);
    plan_retry(p);
}

static int open_channels(struct mq_publisher *p, struct err *err) {
    int rc = mq_conn_channel_open(&p->conn, CHANNEL_PUBLISH, err);
    if (rc) return rc;
    amqp_confirm_select(p->conn.state, CHANNEL_PUBLISH);
    return mq_conn_reply(&p->conn, CHANNEL_PUBLISH, err);
}

static void connect(struct mq_publisher *p) {
    struct err err = {0};
    int rc = mq_conn_open(&p->conn, p->url, "weir publisher", &err);
    if (rc == 0) rc = open_channels(p, &err);
    if (rc) {
        err.code = ERR_UNAVAILABLE;
        log_repeating(&p->connect_failures, LOG_LEVEL_WARN, "queue", "cannot publish to RabbitMQ", err.text);
        drop_connection(p, &err);
        plan_retry(p);
        return;
    }
    p->oldest = p->next = 1;
    p->failures = 0;
    p->connect_failures = (struct log_repeat){0};
    p->up = true;
    log_info("queue", "publishing connection is up", LOG_STR("host", p->url->at.host), LOG_INT("port", p->url->at.port));
}

// --- the side channel -----------------------------------------------------------------------------------------------

static int open_side(struct mq_publisher *p, struct err *err) {
    if (p->side_open) return 0;
    int rc = mq_conn_channel_open(&p->conn, CHANNEL_SIDE, err);
    p->side_open = rc == 0;
    return rc;
}

static int count_ready(struct mq_publisher *p, const char *queue, uint64_t *ret, struct err *err) {
    int rc = open_side(p, err);
    if (rc == 0) rc = mq_queue_count(&p->conn, CHANNEL_SIDE, queue, ret, err);
    if (rc) p->side_open = false;
    if (p->conn.lost) p->why_lost = *err;
    return rc;
}

static struct known *find_known(struct mq_publisher *p, const char *queue) {
    struct known *k;
    HASH_FIND_STR(p->known, queue, k);
    return k;
}

static void forget(struct mq_publisher *p, const char *queue) {
    struct known *k = find_known(p, queue);
    if (!k) return;
    HASH_DEL(p->known, k);
    free(k->queue);
    free(k);
}

static int need_queue(struct mq_publisher *p, const char *queue, struct err *err) {
    if (find_known(p, queue)) return 0;
    int rc = open_side(p, err);
    if (rc == 0) rc = mq_queue_declare(&p->conn, CHANNEL_SIDE, queue, err);
    if (rc) {
        p->side_open = false;
        if (p->conn.lost) p->why_lost = *err;
        return rc;
    }
    struct known *k = mem_zalloc(sizeof *k);
    k->queue = mem_strdup(queue);
    HASH_ADD_KEYPTR(hh, p->known, k->queue, strlen(k->queue), k);
    return 0;
}

static void run_depth(struct mq_publisher *p, struct mq_request *r, const char *queue) {
    struct err err = {0};
    int rc = count_ready(p, queue, &r->ready, &err);
    settle(p, r, rc == ERR_NOT_FOUND ? ERR_OK : rc, &err);
}

static void run_delete(struct mq_publisher *p, struct mq_request *r, const char *queue) {
    struct err err = {0};
    forget(p, queue);
    int rc = open_side(p, &err);
    if (rc == 0) {
        amqp_queue_delete(p->conn.state, CHANNEL_SIDE, amqp_cstring_bytes(queue), 0, 0);
        rc = mq_conn_reply(&p->conn, CHANNEL_SIDE, &err);
        p->side_open = rc == 0;
    }
    settle(p, r, rc, &err);
}

// --- publishing -----------------------------------------------------------------------------------------------------

static int send_encoded(struct mq_publisher *p, struct mq_request *r, const char *queue, int64_t now_ms, struct err *err) {
    struct mq_message_text text;
    amqp_basic_properties_t properties;
    mq_message_properties(r->ev, now_ms, &text, &properties);
    int status = amqp_basic_publish(p->conn.state, CHANNEL_PUBLISH, amqp_empty_bytes, amqp_cstring_bytes(queue), 1, 0,
                                    &properties, mq_bytes(buf_str(&p->encoded)));
    return mq_conn_sent(&p->conn, status, err);
}

static int encode(struct mq_publisher *p, const struct mq_request *r, int64_t now_ms, struct err *err) {
    if (r->ev->f.invocation == EV_SYNC && r->ev->f.deadline_ms && r->ev->f.deadline_ms <= now_ms)
        return err_set(err, ERR_TIMEOUT, "the deadline passed before the event was sent");
    buf_clear(&p->encoded);
    return ev_encode(r->ev, &p->encoded, err);
}

static void run_publish(struct mq_publisher *p, struct mq_request *r, const char *queue) {
    struct err err = {0};
    int64_t now_ms = clock_unix_ms();
    int rc = encode(p, r, now_ms, &err);
    if (rc == 0) rc = need_queue(p, queue, &err);
    if (rc) {
        settle(p, r, rc, &err);
        return;
    }
    MUST(p->next - p->oldest < RING);
    p->ring[p->next++ & (RING - 1)] = r; // first: when sending fails, losing the connection settles it
    (void)send_encoded(p, r, queue, now_ms, &p->why_lost);
}

static void run_request(struct mq_publisher *p, struct mq_request *r) {
    cleanup_free char *queue = mq_queue_name(r->function);
    struct err long_name = {0};
    if (strlen(queue) > 255) {
        settle(p, r, err_set(&long_name, ERR_INVALID, "the function's name is too long for a queue's name"), &long_name);
        return;
    }
    switch (r->kind) {
    case MQ_PUBLISH: run_publish(p, r, queue); return;
    case MQ_DEPTH: run_depth(p, r, queue); return;
    case MQ_DELETE: run_delete(p, r, queue); return;
    }
}

static bool may_send(const struct mq_publisher *p) {
    return p->pending.first && !p->conn.lost && p->next - p->oldest < RING && mq_conn_writable(&p->conn);
}

static void send_pending(struct mq_publisher *p) {
    if (p->blocked) {
        struct err err;
        err_set(&err, ERR_UNAVAILABLE, "RabbitMQ takes no messages now (memory or disk alarm)");
        fail_all(p, &p->pending, &err);
    }
    if (!p->pending.first) return;
    mq_conn_cork(&p->conn, true);
    for (int i = 0; i < SENDS_A_ROUND && may_send(p); i++) run_request(p, take_request(&p->pending));
    mq_conn_cork(&p->conn, false);
}

// --- confirms -------------------------------------------------------------------------------------------------------

// Why a live broker refuses a message: its queue is full (x-overflow=reject-publish), or cannot take anything now.
static int nack_verdict(struct mq_publisher *p, const char *queue, struct err *err) {
    struct known *k = find_known(p, queue);
    uint64_t ready;
    if (!k) return err_set(err, ERR_UNAVAILABLE, "RabbitMQ did not take the message");
    if (clock_mono_ns() >= k->verdict_until_ns) {
        // An answer takes a quorum, so a queue that answers is refusing because of its limit.
        k->verdict = count_ready(p, queue, &ready, err) == 0 ? ERR_BUSY : ERR_UNAVAILABLE;
        k->verdict_until_ns = clock_mono_ns() + NACK_VERDICT_MS * NS_PER_MS;
    }
    return err_set(err, k->verdict, k->verdict == ERR_BUSY ? "the function's queue is full" : "the queue is not available");
}

// Its queue was deleted, or is being made anew: declared again, the message is sent once more.
static void send_again(struct mq_publisher *p, struct mq_request *r, const char *queue) {
    forget(p, queue);
    r->returned = false;
    r->retried = true;
    mq_list_add(&p->pending, &r->item);
}

static void handle_unroutable(struct mq_publisher *p, struct mq_request *r, const char *queue) {
    struct err err;
    if (r->retried) settle(p, r, err_set(&err, ERR_UNAVAILABLE, "RabbitMQ has no queue for the message"), &err);
    else send_again(p, r, queue);
}

static void handle_nack(struct mq_publisher *p, struct mq_request *r, const char *queue) {
    const struct known *k = find_known(p, queue);
    bool has_verdict = k && clock_mono_ns() < k->verdict_until_ns; // a queue that was just seen full is not tried again
    struct err err;
    if (r->retried || has_verdict) settle(p, r, nack_verdict(p, queue, &err), &err);
    else send_again(p, r, queue);
}

static void confirm_one(struct mq_publisher *p, uint64_t tag, bool ok) {
    struct mq_request **slot = &p->ring[tag & (RING - 1)], *r = *slot;
    if (!r) return;
    *slot = NULL;
    if (ok && !r->returned) {
        settle(p, r, ERR_OK, NULL);
        return;
    }
    cleanup_free char *queue = mq_queue_name(r->function);
    if (ok) handle_unroutable(p, r, queue);
    else handle_nack(p, r, queue);
}

static void confirm(struct mq_publisher *p, uint64_t tag, bool multiple, bool ok) {
    if (tag >= p->next) return; // not ours to confirm
    uint64_t first = multiple ? p->oldest : tag;
    if (multiple && tag == 0) tag = p->next - 1;
    for (uint64_t t = first; t <= tag && t >= p->oldest; t++) confirm_one(p, t, ok);
    while (p->oldest < p->next && !p->ring[p->oldest & (RING - 1)]) p->oldest++;
}

// The header frame after a basic.return: finds the oldest unconfirmed message of that id.
static void note_returned(struct mq_publisher *p, const amqp_basic_properties_t *properties) {
    struct id id;
    if (!(properties->_flags & AMQP_BASIC_MESSAGE_ID_FLAG) || id_parse(mq_str(properties->message_id), &id)) return;
    for (uint64_t t = p->oldest; t < p->next; t++) {
        struct mq_request *r = p->ring[t & (RING - 1)];
        if (!r || r->returned || !id_eq(&r->id, &id)) continue;
        r->returned = true;
        return;
    }
}

static void handle_method(struct mq_publisher *p, const amqp_frame_t *frame, struct err *err) {
    const void *decoded = frame->payload.method.decoded;
    switch (frame->payload.method.id) {
    case AMQP_BASIC_ACK_METHOD: {
        const amqp_basic_ack_t *m = decoded;
        confirm(p, m->delivery_tag, m->multiple, true);
        return;
    }
    case AMQP_BASIC_NACK_METHOD: {
        const amqp_basic_nack_t *m = decoded;
        confirm(p, m->delivery_tag, m->multiple, false);
        return;
    }
    case AMQP_BASIC_RETURN_METHOD: p->reading_return = true; return;
    case AMQP_CONNECTION_BLOCKED_METHOD:
    case AMQP_CONNECTION_UNBLOCKED_METHOD:
        p->blocked = frame->payload.method.id == AMQP_CONNECTION_BLOCKED_METHOD;
        p->up = !p->blocked;
        log_warn("queue", p->blocked ? "RabbitMQ blocks publishers (memory or disk alarm)" : "RabbitMQ takes messages again");
        return;
    case AMQP_CHANNEL_CLOSE_METHOD:
    case AMQP_CONNECTION_CLOSE_METHOD:
        mq_conn_closed_by_peer(&p->conn, frame, err);
        p->conn.lost = true; // without its publishing channel a new start is simplest
        err->code = ERR_UNAVAILABLE;
        return;
    default: return; // flow and late answers ask for nothing
    }
}

static void handle_frame(struct mq_publisher *p, const amqp_frame_t *frame, struct err *err) {
    if (frame->frame_type == AMQP_FRAME_METHOD) handle_method(p, frame, err);
    else if (frame->frame_type == AMQP_FRAME_HEADER && p->reading_return) {
        note_returned(p, frame->payload.properties.decoded);
        p->reading_return = false; // what follows is the body, which we have
    }
}

static void read_frames(struct mq_publisher *p, struct err *err) {
    amqp_frame_t frame;
    for (int i = 0; i < FRAMES_A_ROUND && mq_conn_next_frame(&p->conn, &frame, err); i++) handle_frame(p, &frame, err);
    if (!p->conn.lost) amqp_maybe_release_buffers(p->conn.state);
}

// --- the thread -----------------------------------------------------------------------------------------------------

static void turn_connected(struct mq_publisher *p) {
    err_set(&p->why_lost, ERR_UNAVAILABLE, "the connection to RabbitMQ is lost");
    read_frames(p, &p->why_lost);
    if (!p->conn.lost) send_pending(p);
    if (p->conn.lost) lose_connection(p, &p->why_lost);
}

static void turn_disconnected(struct mq_publisher *p) {
    struct err err;
    err_set(&err, ERR_UNAVAILABLE, "RabbitMQ is not connected");
    fail_all(p, &p->pending, &err);
    if (!p->stop && clock_mono_ns() >= p->retry_ns) connect(p);
}

static void wait_for_work(struct mq_publisher *p) {
    int64_t now = clock_mono_ns();
    int64_t wait_ms = IDLE_WAIT_MS;
    if (!p->conn.state) wait_ms = p->retry_ns > now ? (p->retry_ns - now) / NS_PER_MS + 1 : 0;
    else if (p->stop) wait_ms = 20;
    mq_conn_wait(&p->conn, p->pending.first && p->next - p->oldest < RING, p->inbox.wake_fd, (int)wait_ms);
}

static bool is_finished(struct mq_publisher *p) {
    if (!p->stop) return false;
    int64_t now = clock_mono_ns();
    if (p->stop_by_ns == 0) p->stop_by_ns = now + CLOSE_WAIT_MS * NS_PER_MS;
    bool idle = !p->pending.first && p->oldest == p->next;
    return !p->conn.state || idle || now >= p->stop_by_ns;
}

static void finish(struct mq_publisher *p) {
    struct err err;
    err_set(&err, ERR_UNAVAILABLE, "the queue was closed before RabbitMQ confirmed");
    fail_all(p, &p->pending, &err);
    drop_connection(p, &err);
    mq_list_add(&p->settled, &p->last.item);
    mq_outbox_put(&p->outbox, &p->settled);
}

static void *run(void *arg) {
    struct mq_publisher *p = arg;
    for (;;) {
        bool stopping = p->stop; // read before the inbox: what was submitted before the stop is in it
        mq_inbox_take(&p->inbox, &p->pending);
        if (p->conn.state) turn_connected(p);
        else turn_disconnected(p);
        mq_outbox_put(&p->outbox, &p->settled);
        if (stopping && is_finished(p)) break;
        wait_for_work(p);
    }
    finish(p);
    return NULL;
}

// --- the loop's side ------------------------------------------------------------------------------------------------

static void on_items(void *arg, struct mq_list *items) {
    struct mq_publisher *p = arg;
    struct mq_list done = {0};
    struct mq_item *item;
    while ((item = mq_list_take_first(items)) && item != &p->last.item) mq_list_add(&done, item);
    p->on_done(p->arg, &done);
    if (!item) return;
    pthread_join(p->thread, NULL);
    p->on_stopped(p->arg);
}

struct mq_publisher *mq_publisher_start(struct loop *loop, const struct mq_url *url,
                                        void (*on_done)(void *arg, struct mq_list *requests),
                                        void (*on_stopped)(void *arg), void *arg) {
    struct mq_publisher *p = mem_zalloc(sizeof *p);
    p->url = url;
    p->on_done = on_done;
    p->on_stopped = on_stopped;
    p->arg = arg;
    p->random = (uint32_t)clock_mono_ns();
    p->oldest = p->next = 1;
    p->conn.fd = -1;
    buf_init(&p->encoded, EV_ENCODED_MAX);
    mq_inbox_init(&p->inbox);
    mq_outbox_init(&p->outbox, loop, on_items, p);
    mq_thread_start(&p->thread, run, p);
    return p;
}

void mq_publisher_submit(struct mq_publisher *p, struct mq_list *requests) {
    mq_inbox_put(&p->inbox, requests);
}

bool mq_publisher_is_up(const struct mq_publisher *p) {
    return p->up;
}

void mq_publisher_stop(struct mq_publisher *p) {
    p->stop = true;
    mq_inbox_wake(&p->inbox);
}

void mq_publisher_free(struct mq_publisher *p) {
    if (!p) return;
    mq_inbox_done(&p->inbox);
    mq_outbox_done(&p->outbox);
    buf_done(&p->encoded);
    free(p);
}
