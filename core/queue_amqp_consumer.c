// SPDX-License-Identifier: Apache-2.0
// The consumer's thread. Invariants: `channels[n]` is the link that reads channel n, `closing` while RabbitMQ has not
// answered our channel.close (its late deliveries are dropped: they go back to their queue), or NULL when n is free.
// A quorum queue may take in the end of a channel before the acks that the channel sent just before it, and deliver those
// messages again. So the channel of a consumer that is closed lingers: cancelled, and closed LINGER_MS later.
// Notices leave in the order in which things happened: messages of a channel before its MQ_LOST.
#include "core/queue_amqp_consumer.h"

#include <stdatomic.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/queue_amqp_link.h"

#define CHANNELS 2047
#define FRAMES_A_ROUND 2048
#define LINGER_MS 200
#define IDLE_WAIT_MS 2000 // heartbeats are served at least as often
#define REFUSED_MS 60000  // until a stream is looked at again

struct mq_consumer {
    // Loop's side:
    struct mq_inbox inbox;
    struct mq_outbox outbox;
    pthread_t thread;
    void (*on_notice)(void *arg, struct mq_notice *notice);
    void (*on_stopped)(void *arg);
    void *arg;
    // Shared:
    _Atomic bool stop;
    // The thread's:
    const struct mq_url *url;
    struct mq_conn conn;
    struct mq_link *links;
    struct mq_link *channels[CHANNELS + 1];
    amqp_channel_t last_channel;
    struct mq_list lingering;
    struct mq_list out;
    unsigned failures;
    int64_t retry_ns;
    uint32_t random;
    struct err why_lost;
    struct log_repeat connect_failures, link_failures;
};

static struct mq_link closing; // only its address means something

struct lingering { // a cancelled channel
    struct mq_item item; // first
    amqp_channel_t channel;
    int64_t until_ns;
};

static int64_t retry_at(struct mq_consumer *t, unsigned failures) {
    t->random = t->random * 1664525u + 1013904223u; // enough for jitter
    return clock_mono_ns() + mq_backoff_ms(failures, t->random >> 8) * NS_PER_MS;
}

// --- connection -----------------------------------------------------------------------------------------------------

static void drop_connection(struct mq_consumer *t) {
    for (struct mq_link *l = t->links; l; l = l->next) {
        l->why = t->why_lost;
        mq_link_shut(l, &t->out);
    }
    memset(t->channels, 0, sizeof t->channels);
    struct mq_item *item;
    while ((item = mq_list_take_first(&t->lingering))) free(container_of(item, struct lingering, item));
    mq_conn_close(&t->conn);
}

static void lose_connection(struct mq_consumer *t, const char *what) {
    log_repeating(&t->connect_failures, LOG_LEVEL_WARN, "queue", what, t->why_lost.text);
    drop_connection(t);
    t->retry_ns = retry_at(t, ++t->failures);
}

static void connect(struct mq_consumer *t) {
    if (mq_conn_open(&t->conn, t->url, "weir consumer", &t->why_lost)) {
        lose_connection(t, "cannot consume from RabbitMQ");
        return;
    }
    t->failures = 0;
    t->connect_failures = (struct log_repeat){0};
    log_info("queue", "consuming connection is up", LOG_STR("host", t->url->at.host), LOG_INT("port", t->url->at.port));
}

// --- channels -------------------------------------------------------------------------------------------------------

// The least recently used one, so that a late frame of an old channel is not taken for one of a new.
static amqp_channel_t free_channel(struct mq_consumer *t) {
    for (int i = 0; i < CHANNELS; i++) {
        t->last_channel = (amqp_channel_t)(t->last_channel % CHANNELS + 1);
        if (!t->channels[t->last_channel]) return t->last_channel;
    }
    return 0;
}

static void plan_link(struct mq_consumer *t, struct mq_link *l, const char *what, const char *why) {
    char text[1200];
    if (l->refused) why = "it is a stream, which is read by offset and keeps what was consumed: use a stream client or Kafka";
    if (text_format(text, sizeof text, "%s: %s", l->queue, why)) text[0] = '\0';
    log_repeating(&t->link_failures, LOG_LEVEL_WARN, "queue", what, text);
    err_set(&l->why, l->refused ? ERR_INVALID : ERR_UNAVAILABLE, "%s: %s", what, text);
    l->retry_ns = retry_at(t, ++l->failures);
    if (l->refused) l->retry_ns = clock_mono_ns() + REFUSED_MS * NS_PER_MS;
}

static void open_link(struct mq_consumer *t, struct mq_link *l) {
    struct err err = {0};
    amqp_channel_t channel = free_channel(t);
    int rc = channel ? mq_link_open(l, &t->conn, channel, &err)
                     : err_set(&err, ERR_BUSY, "one connection has no more than %d consumers", CHANNELS);
    if (rc == 0) t->channels[channel] = l;
    else if (t->conn.lost) t->why_lost = err;
    else plan_link(t, l, "cannot consume from a queue", err.text);
}

// RabbitMQ closed the channel.
static void lose_link(struct mq_consumer *t, struct mq_link *l, const struct err *why) {
    bool at_once = mq_link_learn(l, why);
    enum mq_probe probe = l->probe;
    bool probed = at_once && l->trigger && probe != MQ_PROBE_NEEDED;
    t->channels[l->channel] = NULL;
    if (probed) l->probe = MQ_PROBE_NEEDED; // this channel consumed nothing
    mq_link_shut(l, &t->out);
    if (probed) l->probe = probe;
    if (!at_once) plan_link(t, l, "a consumer's channel is lost", why->text);
}

static void send_channel_close(struct mq_consumer *t, amqp_channel_t channel) {
    amqp_channel_close_t m = {.reply_code = AMQP_REPLY_SUCCESS};
    t->channels[channel] = &closing;
    (void)mq_conn_sent(&t->conn, amqp_send_method(t->conn.state, channel, AMQP_CHANNEL_CLOSE_METHOD, &m), &t->why_lost);
}

// Ends the channel at once; what it held goes back to its queue.
static void close_channel(struct mq_consumer *t, struct mq_link *l) {
    if (!l->open) return;
    if (!t->conn.lost) send_channel_close(t, l->channel);
    mq_link_shut(l, &t->out);
}

static void leave_channel(struct mq_consumer *t, struct mq_link *l) {
    if (!l->open) return;
    if (!t->conn.lost && mq_link_cancel(l, &t->conn, &t->why_lost) == 0) {
        struct lingering *w = mem_zalloc(sizeof *w);
        w->channel = l->channel;
        w->until_ns = clock_mono_ns() + LINGER_MS * NS_PER_MS;
        mq_list_add(&t->lingering, &w->item);
        t->channels[l->channel] = &closing;
    }
    mq_link_shut(l, &t->out);
}

static void end_lingering(struct mq_consumer *t, int64_t now_ns) {
    while (t->lingering.first && !t->conn.lost) {
        struct lingering *w = container_of(t->lingering.first, struct lingering, item);
        if (w->until_ns > now_ns) return;
        (void)mq_list_take_first(&t->lingering);
        if (t->channels[w->channel] == &closing) send_channel_close(t, w->channel); // or RabbitMQ closed it
        free(w);
    }
}

static void tend_link(struct mq_consumer *t, struct mq_link *l, int64_t now_ns) {
    if (l->paused) return;
    if (!l->open) {
        if (now_ns >= l->retry_ns) open_link(t, l);
        return;
    }
    int rc = mq_link_retune(l, &t->conn, now_ns, &t->why_lost);
    if (rc == 0) rc = mq_link_watch(l, &t->conn, now_ns, &t->why_lost);
    if (rc || !l->stuck) return;
    bool was_ready = l->ready && !l->refused;
    close_channel(t, l);
    if (was_ready) l->replaced++;
    if (was_ready)
        log_warn("queue", "a consumer got nothing while its queue has messages; replacing it", LOG_STR("queue", l->queue));
    else plan_link(t, l, "cannot consume from a queue", "RabbitMQ does not answer");
}

// --- frames ---------------------------------------------------------------------------------------------------------

static void handle_method(struct mq_consumer *t, struct mq_link *l, const amqp_frame_t *frame) {
    struct err err = {0};
    switch (frame->payload.method.id) {
    case AMQP_CHANNEL_CLOSE_OK_METHOD: t->channels[frame->channel] = NULL; return;
    case AMQP_BASIC_CANCEL_METHOD:
        if (!l) return;
        log_warn("queue", "RabbitMQ cancelled a consumer (queue deleted or moved); starting it again",
                 LOG_STR("queue", l->queue));
        close_channel(t, l);
        l->retry_ns = retry_at(t, 1);
        return;
    case AMQP_CHANNEL_CLOSE_METHOD:
        mq_conn_closed_by_peer(&t->conn, frame, &err);
        if (l) lose_link(t, l, &err);
        else t->channels[frame->channel] = NULL;
        return;
    case AMQP_CONNECTION_CLOSE_METHOD: mq_conn_closed_by_peer(&t->conn, frame, &t->why_lost); return;
    default:
        if (l) mq_link_frame(l, &t->conn, frame, &t->out);
        return;
    }
}

static void read_frames(struct mq_consumer *t) {
    amqp_frame_t frame;
    for (int i = 0; i < FRAMES_A_ROUND && mq_conn_next_frame(&t->conn, &frame, &t->why_lost); i++) {
        struct mq_link *l = frame.channel <= CHANNELS ? t->channels[frame.channel] : NULL;
        if (l == &closing) l = NULL;
        if (frame.frame_type == AMQP_FRAME_METHOD) handle_method(t, l, &frame);
        else if (l) mq_link_frame(l, &t->conn, &frame, &t->out);
        // A link releases after each message; the others' frames are done with.
        if (!l && !t->conn.lost) amqp_maybe_release_buffers_on_channel(t->conn.state, frame.channel);
    }
}

// --- commands -------------------------------------------------------------------------------------------------------

static void tell_settled(struct mq_consumer *t, struct mq_link *l) {
    if (l->told == 0) return;
    struct mq_notice *n = mq_notice_new(MQ_SETTLED, l->owner);
    n->count = l->told;
    l->told = 0;
    mq_list_add(&t->out, &n->item);
}

static void unsubscribe(struct mq_consumer *t, struct mq_link *l) {
    leave_channel(t, l);
    tell_settled(t, l);
    struct mq_link **at = &t->links;
    while (*at != l) at = &(*at)->next;
    *at = l->next;
    mq_list_add(&t->out, &mq_notice_new(MQ_UNSUBSCRIBED, l->owner)->item);
    mq_link_free(l);
}

static void pause_link(struct mq_consumer *t, struct mq_link *l) {
    if (!t->conn.lost) (void)mq_link_pause(l, &t->conn, &t->why_lost);
    l->paused = true;
}

static void settle(struct mq_consumer *t, const struct mq_command *cmd) {
    (void)mq_link_settle(cmd->link, &t->conn, cmd->settles, cmd->count, &t->why_lost); // t->conn.lost says it
}

static void run_commands(struct mq_consumer *t) {
    struct mq_list commands = {0};
    mq_inbox_take(&t->inbox, &commands);
    struct mq_item *item;
    if (!commands.first) return;
    while ((item = mq_list_take_first(&commands))) {
        struct mq_command *cmd = container_of(item, struct mq_command, item);
        switch (cmd->kind) {
        case MQ_SUBSCRIBE:
            cmd->link->next = t->links;
            t->links = cmd->link;
            break;
        case MQ_SETTLE: settle(t, cmd); break;
        case MQ_PAUSE: pause_link(t, cmd->link); break;
        case MQ_LOOK: (void)mq_link_look(cmd->link, &t->conn, &t->out, &t->why_lost); break;
        case MQ_UNSUBSCRIBE: unsubscribe(t, cmd->link); break;
        }
        free(cmd->settles);
        free(cmd);
    }
}

// --- the thread -----------------------------------------------------------------------------------------------------

static void turn_connected(struct mq_consumer *t) {
    int64_t now_ns = clock_mono_ns();
    for (struct mq_link *l = t->links; l && !t->conn.lost; l = l->next) tend_link(t, l, now_ns);
    end_lingering(t, now_ns);
    if (!t->conn.lost) read_frames(t);
    int rc = 0;
    for (struct mq_link *l = t->links; l && rc == 0; l = l->next)
        rc = mq_link_send_acks(l, &t->conn, now_ns, l->paused, &t->why_lost); // on failure t->conn.lost is set too
    for (struct mq_link *l = t->links; l; l = l->next) {
        if (l->batch) l->quiet_ns = now_ns;
        mq_link_flush(l, &t->out);
    }
    if (t->conn.lost) lose_connection(t, "the consuming connection is lost");
}

static int wait_ms(const struct mq_consumer *t) {
    int64_t now = clock_mono_ns(), until = now + IDLE_WAIT_MS * NS_PER_MS;
    if (t->lingering.first) {
        const struct lingering *w = container_of(t->lingering.first, struct lingering, item);
        if (w->until_ns < until) until = w->until_ns;
    }
    if (t->links && !t->conn.state && t->retry_ns < until) until = t->retry_ns;
    for (const struct mq_link *l = t->links; t->conn.state && l; l = l->next)
        if (!l->open && !l->paused && l->retry_ns < until) until = l->retry_ns;
    for (const struct mq_link *l = t->links; t->conn.state && l; l = l->next)
        if (mq_link_acks_due_ns(l) < until) until = mq_link_acks_due_ns(l);
    return until > now ? (int)((until - now) / NS_PER_MS) + 1 : 0;
}

static void *run(void *arg) {
    struct mq_consumer *t = arg;
    for (;;) {
        bool stopping = t->stop; // before the inbox: what was submitted before the stop is in it
        err_set(&t->why_lost, ERR_UNAVAILABLE, "the connection to RabbitMQ is lost");
        run_commands(t);
        if (!t->conn.state && t->links && !stopping && clock_mono_ns() >= t->retry_ns) connect(t);
        if (t->conn.state) turn_connected(t);
        for (struct mq_link *l = t->links; l; l = l->next) tell_settled(t, l);
        if (stopping && !t->lingering.first) break;
        mq_outbox_put(&t->outbox, &t->out);
        mq_conn_wait(&t->conn, false, t->inbox.wake_fd, wait_ms(t));
    }
    drop_connection(t); // RabbitMQ answers it after it has taken all acks
    mq_list_add(&t->out, &mq_notice_new(MQ_STOPPED, NULL)->item);
    mq_outbox_put(&t->outbox, &t->out);
    return NULL;
}

// --- the loop's side ------------------------------------------------------------------------------------------------

static void on_items(void *arg, struct mq_list *items) {
    struct mq_consumer *t = arg;
    struct mq_item *item;
    while ((item = mq_list_take_first(items))) {
        struct mq_notice *n = container_of(item, struct mq_notice, item);
        bool stopped = n->kind == MQ_STOPPED;
        if (!stopped) t->on_notice(t->arg, n);
        mq_notice_free(n);
        if (!stopped) continue;
        pthread_join(t->thread, NULL);
        t->on_stopped(t->arg); // frees t
        return;
    }
}

struct mq_consumer *mq_consumer_start(struct loop *loop, const struct mq_url *url,
                                      void (*on_notice)(void *arg, struct mq_notice *notice),
                                      void (*on_stopped)(void *arg), void *arg) {
    struct mq_consumer *t = mem_zalloc(sizeof *t);
    t->url = url;
    t->on_notice = on_notice;
    t->on_stopped = on_stopped;
    t->arg = arg;
    t->conn.fd = -1;
    t->random = (uint32_t)clock_mono_ns();
    mq_inbox_init(&t->inbox);
    mq_outbox_init(&t->outbox, loop, on_items, t);
    mq_thread_start(&t->thread, run, t);
    return t;
}

void mq_consumer_submit(struct mq_consumer *t, struct mq_list *commands) {
    mq_inbox_put(&t->inbox, commands);
}

void mq_consumer_stop(struct mq_consumer *t) {
    t->stop = true;
    mq_inbox_wake(&t->inbox);
}

void mq_consumer_free(struct mq_consumer *t) {
    if (!t) return;
    mq_inbox_done(&t->inbox);
    mq_outbox_done(&t->outbox);
    free(t);
}
