// SPDX-License-Identifier: Apache-2.0
// The Kafka source: its life, its consumer, and the way of a record from librdkafka's queue to on_messages and back as an ack.
//
// Invariants: a record is handed out once while it is out (core/offsets); the sum of what partitions have out and not released
//   is in_flight; no record of a partition is handed out before its committed offset is known, nor after it is revoked.
// Positions are this module's, not librdkafka's: auto.offset.reset is "error", so that a start at another offset never happens
//   behind the back of core/offsets, where a jump ahead would look like a gap, that is like finished records.
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/kafka_source.h"

#define TICK_MS 100
#define AGAIN_MS 20              // a released record is read again after it, with others that are released meanwhile
#define REREAD_MS 5000           // reading again that does not come is asked for again
#define REREAD_TRIES 3
#define TURN_RECORDS 1024        // then others have their turn
#define RESTART_MS 10000
#define OUT_MAX (1u << 19)         // of one partition, released ones included: half of what a tag can name
#define CLOSE_MS 5000
#define HEARTBEAT_MS 1000
#define STATISTICS_LEAST_MS 50
#define STATISTICS_MOST_MS 250
#define QUEUED_LEAST_BYTES ((size_t)1 << 20)

// --- the client -----------------------------------------------------------------------------------------------------

static void destroy_client(void *arg) { // on a thread
    struct kafka_client *c = arg;
    rd_kafka_queue_io_event_enable(c->control, -1, NULL, 0);
    rd_kafka_queue_io_event_enable(c->records, -1, NULL, 0);
    rd_kafka_queue_destroy(c->control);
    rd_kafka_queue_destroy(c->records);
    rd_kafka_destroy_flags(c->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    close(c->wake_fd);
    free(c);
}

void kafka_client_ref(struct kafka_client *c) {
    c->refs++;
}

void kafka_client_unref(struct kafka_client *c) {
    if (--c->refs == 0) kafka_end(destroy_client, c);
}

static bool is_users(const struct kafka_config *c, const char *name) {
    for (size_t i = 0; i < c->extra_count; i++)
        if (strcmp(c->extra[i].name, name) == 0) return true;
    return false;
}

static void set_number(rd_kafka_conf_t *conf, const struct kafka_config *c, const char *name, size_t value) {
    char text[24], why[200];
    if (is_users(c, name)) return;
    MUST(text_format(text, sizeof text, "%zu", value) == 0);
    if (rd_kafka_conf_set(conf, name, text, why, sizeof why) != RD_KAFKA_CONF_OK)
        log_warn("kafka", "a setting of weir's own is refused", LOG_SPAN("why", str_of(why)));
}

// A record larger than fetch.max.bytes arrives nevertheless, alone (KIP-74).
static void set_sizes(rd_kafka_conf_t *conf, const struct kafka_config *c, size_t credit_bytes) {
    size_t queued = credit_bytes / 4 < QUEUED_LEAST_BYTES ? QUEUED_LEAST_BYTES : credit_bytes / 4;
    set_number(conf, c, "queued.max.messages.kbytes", queued >> 10);
    set_number(conf, c, "queued.min.messages", KAFKA_QUEUED_RECORDS);
    set_number(conf, c, "fetch.max.bytes", queued);
    set_number(conf, c, "fetch.message.max.bytes", queued < ((size_t)4 << 20) ? queued / 4 : QUEUED_LEAST_BYTES);
    set_number(conf, c, "fetch.error.backoff.ms", 200);
    set_number(conf, c, "socket.timeout.ms", 10000); // a broker that stalls is left for the next connection
    set_number(conf, c, "reconnect.backoff.max.ms", 2000);
    set_number(conf, c, "heartbeat.interval.ms", HEARTBEAT_MS); // it is how a member hears of a rebalance
}

static void set_fixed(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char why[200];
    MUST(rd_kafka_conf_set(conf, name, value, why, sizeof why) == RD_KAFKA_CONF_OK);
}

static void set_statistics(rd_kafka_conf_t *conf, const struct kafka_config *c) {
    int64_t ms = c->commit_ms / 4;
    if (ms < STATISTICS_LEAST_MS) ms = STATISTICS_LEAST_MS;
    if (ms > STATISTICS_MOST_MS) ms = STATISTICS_MOST_MS;
    char text[24];
    MUST(text_format(text, sizeof text, "%lld", (long long)ms) == 0);
    set_fixed(conf, "statistics.interval.ms", text);
}

static rd_kafka_t *new_rk(struct kafka_source *s, struct err *err) {
    rd_kafka_conf_t *conf = kafka_conf_make(&s->conf, true, err);
    if (!conf) return NULL;
    set_sizes(conf, &s->conf, s->config.credit_bytes);
    set_statistics(conf, &s->conf);
    set_fixed(conf, "auto.offset.reset", "error");
    set_fixed(conf, "enable.auto.commit", "false");
    set_fixed(conf, "enable.auto.offset.store", "false");
    set_fixed(conf, "enable.partition.eof", "false");
    set_fixed(conf, "allow.auto.create.topics", "false");
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_OFFSET_COMMIT | RD_KAFKA_EVENT_ERROR |
                                     RD_KAFKA_EVENT_STATS);
    char why[300] = "";
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (rk) return rk;
    rd_kafka_conf_destroy(conf);
    err_set(err, ERR_INVALID, "%s", why);
    return NULL;
}

static void wake(struct kafka_source *s) {
    uint64_t one = 1;
    ssize_t n = write(s->client->wake_fd, &one, sizeof one);
    (void)n; // full means that a wake-up waits already
}

static void on_ready(void *arg, int ready);

static void start_client(struct kafka_source *s) {
    struct err err = {0};
    s->restart_ns = clock_mono_ns() + RESTART_MS * NS_PER_MS;
    rd_kafka_t *rk = new_rk(s, &err);
    if (!rk) {
        kafka_note_error(s, "cannot make a client", RD_KAFKA_RESP_ERR__FAIL, err.text);
        return;
    }
    struct kafka_client *c = s->client = mem_zalloc(sizeof *c);
    *c = (struct kafka_client){.rk = rk, .loop = s->loop, .source = s, .refs = 1};
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    MUST(c->wake_fd >= 0);
    rd_kafka_poll_set_consumer(rk);
    c->control = rd_kafka_queue_get_consumer(rk);
    c->records = rd_kafka_queue_new(rk);
    uint64_t one = 1;
    rd_kafka_queue_io_event_enable(c->control, c->wake_fd, &one, sizeof one);
    rd_kafka_queue_io_event_enable(c->records, c->wake_fd, &one, sizeof one);
    wake(s); // for what came before: a queue that is not empty signals nothing
    s->io = io_new(s->loop, c->wake_fd, on_ready, s);
    io_want(s->io, IO_READ);
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, s->conf.topic, RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t code = rd_kafka_subscribe(rk, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    if (code) kafka_note_error(s, "cannot subscribe", code, NULL);
    wake(s);
}

static void give_up_client(struct kafka_source *s) {
    kafka_group_drop(s);
    if (!s->client) return;
    io_free(s->io);
    s->io = NULL;
    s->client->source = NULL;
    kafka_client_unref(s->client);
    s->client = NULL;
    s->up = s->stalled = false;
}

void kafka_source_restart(struct kafka_source *s, const char *why) {
    log_error("kafka", "the consumer is beyond help; another one in a while", LOG_STR("trigger", s->conf.trigger),
              LOG_STR("why", why));
    give_up_client(s);
    s->restart_ns = clock_mono_ns() + RESTART_MS * NS_PER_MS;
}

void kafka_note_error(struct kafka_source *s, const char *what, rd_kafka_resp_err_t code, const char *text) {
    if (text_format(s->error, sizeof s->error, "%s: %s", what, text ? text : rd_kafka_err2str(code)))
        (void)!text_format(s->error, sizeof s->error, "%s: %s", what, rd_kafka_err2str(code));
    log_repeating(&s->error_log, LOG_LEVEL_WARN, "kafka", s->conf.trigger ? s->conf.trigger : "", s->error);
}

// --- partitions -----------------------------------------------------------------------------------------------------

void kafka_part_drop(struct kafka_source *s, struct kafka_part *p) {
    s->parts[p->number] = NULL;
    kafka_keep(s, p);
    struct offsets *o = &p->offsets;
    for (uint32_t i = 0; i < o->room; i++)
        if (offsets_is_out(o, i)) {
            s->in_flight--;
            s->in_flight_bytes -= o->slots[i].bytes;
        }
    s->unsettled -= p->acks + p->acks_sent;
    offsets_done(o);
    free(p->at);
    free(p);
}

static rd_kafka_topic_partition_list_t *one_partition(const struct kafka_source *s, int32_t number, int64_t offset) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, s->conf.topic, number)->offset = offset;
    return list;
}

void kafka_part_pause(struct kafka_source *s, struct kafka_part *p, bool pause) {
    rd_kafka_topic_partition_list_t *list = one_partition(s, p->number, RD_KAFKA_OFFSET_INVALID);
    if (pause) rd_kafka_pause_partitions(s->client->rk, list);
    else rd_kafka_resume_partitions(s->client->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
}

// Without a wait: what was fetched for the old position is out of date from here on, and librdkafka drops it.
void kafka_part_seek(struct kafka_source *s, struct kafka_part *p, int64_t offset) {
    rd_kafka_topic_partition_list_t *list = one_partition(s, p->number, offset);
    rd_kafka_error_t *error = rd_kafka_seek_partitions(s->client->rk, list, 0);
    if (error) kafka_note_error(s, "cannot seek", rd_kafka_error_code(error), rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    rd_kafka_topic_partition_list_destroy(list);
}

// librdkafka drops what it has fetched of a paused partition, and where it goes on is said here.
static void check_room(struct kafka_source *s, struct kafka_part *p) {
    if (!p->full) {
        if (offsets_has_room(&p->offsets) && p->offsets.count < OUT_MAX) return;
        p->full = true;
        p->full_count = p->offsets.count;
        kafka_part_pause(s, p, true);
        return;
    }
    if (p->revoking) return;
    if (p->offsets.count > 0 && (p->offsets.count > p->full_count / 4 * 3 || !offsets_has_room(&p->offsets))) return;
    p->full = false;
    kafka_part_pause(s, p, false);
    kafka_part_seek(s, p, p->offsets.position);
    if (p->offsets.released) timer_start(s->again, AGAIN_MS);
}

static void reread(struct kafka_source *s, struct kafka_part *p, int64_t now_ns) {
    p->reread_ns = now_ns;
    kafka_part_seek(s, p, offsets_reread(&p->offsets));
}

static void on_again(void *arg) {
    struct kafka_source *s = arg;
    bool more = false;
    if (!s->client || s->consumer_closed || s->paused) return;
    for (uint32_t i = 0; i < s->part_room; i++) {
        struct kafka_part *p = s->parts[i];
        if (!p || !p->offsets.released || p->revoking || p->full || p->resetting) continue;
        int64_t now_ns = clock_mono_ns();
        bool reading = p->offsets.reread != OFFSETS_NONE && (s->stalled || now_ns - p->reread_ns < REREAD_MS * NS_PER_MS);
        if (!reading) reread(s, p, now_ns);
        else more = true;
    }
    if (more) timer_start(s->again, AGAIN_MS);
}

// --- records --------------------------------------------------------------------------------------------------------

static void hand_out(struct kafka_source *s) {
    size_t count = s->msg_count;
    s->msg_count = 0;
    if (count) s->config.on_messages(s->config.arg, s->msgs, count);
}

// After a seek back to a released record the records between it and the position come first. If none does, this one
// may have been on its way since before the seek: rather ask again than take the released ones for vanished.
static bool is_too_early(struct kafka_source *s, struct kafka_part *p, int64_t offset) {
    if (p->offsets.reread == OFFSETS_NONE || !p->offsets.released || offset < p->offsets.position) {
        p->reread_tries = 0;
        return false;
    }
    if (p->reread_tries++ >= REREAD_TRIES) return false;
    reread(s, p, clock_mono_ns());
    return true;
}

static void take_record(struct kafka_source *s, struct kafka_part *p, const rd_kafka_message_t *m, int64_t now_ms) {
    uint32_t slot;
    if (p->revoking || p->resetting || p->full || is_too_early(s, p, m->offset)) return;
    p->dirty = true;
    if (!offsets_take(&p->offsets, m->offset, &slot)) return;
    struct offsets_out *out = &p->offsets.slots[slot];
    struct queue_msg *msg = &s->msgs[s->msg_count++];
    *msg = (struct queue_msg){
        .tag = slot | (uint64_t)p->number << 20 | (uint64_t)p->generation << 40,
        .ev = kafka_record_event(s, p, m, now_ms, &out->bytes),
        .delivery_count = out->deliveries,
        .content = QUEUE_RAW,
        .partition = (uint32_t)p->number,
    };
    s->in_flight++;
    s->in_flight_bytes += out->bytes;
    check_room(s, p);
    if (s->msg_count == KAFKA_HAND_OUT) hand_out(s);
}

static bool is_out_of_range(rd_kafka_resp_err_t code) {
    return code == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET || code == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE;
}

static void take_message(struct kafka_source *s, const rd_kafka_message_t *m, int64_t now_ms) {
    struct kafka_part *p = kafka_part_of(s, m->partition);
    if (m->err) {
        if (p && is_out_of_range(m->err)) kafka_group_reset(s, p);
        else kafka_note_error(s, "a partition", m->err, rd_kafka_message_errstr(m));
        return;
    }
    s->up = true;
    s->error[0] = '\0';
    if (p) take_record(s, p, m, now_ms);
}

// Of the client, of the topic, or of one partition: with ERROR events these come here, not as a message.
static void take_error(struct kafka_source *s, rd_kafka_event_t *event) {
    rd_kafka_resp_err_t code = rd_kafka_event_error(event);
    if (is_out_of_range(code)) {
        rd_kafka_topic_partition_t *at = rd_kafka_event_topic_partition(event);
        struct kafka_part *p = at ? kafka_part_of(s, at->partition) : NULL;
        if (p) kafka_group_reset(s, p);
        if (at) rd_kafka_topic_partition_destroy(at);
        if (p) return;
    }
    if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) s->up = false;
    if (rd_kafka_event_error_is_fatal(event)) code = RD_KAFKA_RESP_ERR__FATAL;
    kafka_note_error(s, "Kafka", code, rd_kafka_event_error_string(event));
}

// False: the client is gone.
static bool take_event(struct kafka_source *s, rd_kafka_event_t *event, int64_t now_ms) {
    struct kafka_client *c = s->client;
    const rd_kafka_message_t *m;
    bool fatal = false;
    switch (rd_kafka_event_type(event)) {
    case RD_KAFKA_EVENT_FETCH:
        while ((m = rd_kafka_event_message_next(event))) take_message(s, m, now_ms);
        kafka_stir_soon(s);
        break;
    case RD_KAFKA_EVENT_REBALANCE:
    case RD_KAFKA_EVENT_OFFSET_COMMIT: kafka_group_event(s, event); break;
    case RD_KAFKA_EVENT_STATS: kafka_group_statistics(s, rd_kafka_event_stats(event)); break;
    case RD_KAFKA_EVENT_ERROR:
        take_error(s, event);
        fatal = rd_kafka_event_error_is_fatal(event) != 0;
        break;
    default: break;
    }
    rd_kafka_event_destroy(event);
    if (fatal && s->client == c && !s->closing) kafka_source_restart(s, s->error);
    return s->client == c;
}

static bool has_credit(const struct kafka_source *s) {
    return s->in_flight < s->config.credit && s->in_flight_bytes < s->config.credit_bytes;
}

static void drain_records(struct kafka_source *s) {
    int64_t now_ms = clock_unix_ms();
    int left = TURN_RECORDS;
    s->stalled = false;
    while (!s->paused && !s->consumer_closed && s->client) {
        if (!has_credit(s)) {
            s->stalled = true;
            break;
        }
        if (left-- == 0) {
            wake(s); // go on in the next turn
            break;
        }
        rd_kafka_event_t *event = rd_kafka_queue_poll(s->client->records, 0);
        if (!event || !take_event(s, event, now_ms)) break;
    }
    hand_out(s);
}

static void drain(struct kafka_source *s) {
    int64_t now_ms = clock_unix_ms();
    rd_kafka_event_t *event;
    for (int left = TURN_RECORDS; left > 0 && s->client && (event = rd_kafka_queue_poll(s->client->control, 0)); left--)
        if (!take_event(s, event, now_ms)) break;
    hand_out(s);
    drain_records(s);
}

static void on_ready(void *arg, int ready) {
    struct kafka_source *s = arg;
    uint64_t count;
    (void)ready;
    ssize_t n = read(s->client->wake_fd, &count, sizeof count);
    (void)n;
    drain(s);
}

// --- the consumer ---------------------------------------------------------------------------------------------------

static struct kafka_source *source_of(struct queue_consumer *c) {
    return container_of(c, struct kafka_source, consumer);
}

static struct kafka_part *part_of_tag(const struct kafka_source *s, uint64_t tag, uint32_t *ret_slot) {
    struct kafka_part *p = kafka_part_of(s, (int32_t)(tag >> 20 & (KAFKA_PARTITIONS_MAX - 1)));
    *ret_slot = (uint32_t)(tag & 0xfffff);
    return p && p->generation == tag >> 40 && offsets_is_out(&p->offsets, *ret_slot) ? p : NULL;
}

static void settled(struct kafka_source *s, struct kafka_part *p, uint32_t slot) {
    s->in_flight--;
    s->in_flight_bytes -= p->offsets.slots[slot].bytes;
    if (s->stalled || s->paused || s->rebalance || p->full) loop_defer(s->loop, &s->after);
}

static void ack(struct queue_consumer *c, uint64_t tag) {
    struct kafka_source *s = source_of(c);
    uint32_t slot;
    struct kafka_part *p = part_of_tag(s, tag, &slot);
    if (!p || s->consumer_closed) return;
    settled(s, p, slot);
    offsets_finish(&p->offsets, slot);
    p->dirty = true;
    p->acks++;
    s->unsettled++;
}

static void release(struct queue_consumer *c, uint64_t tag) {
    struct kafka_source *s = source_of(c);
    uint32_t slot;
    struct kafka_part *p = part_of_tag(s, tag, &slot);
    if (!p || s->consumer_closed) return;
    settled(s, p, slot);
    if (p->offsets.released == 0) timer_start(s->again, AGAIN_MS);
    offsets_release(&p->offsets, slot);
}

static void on_after(void *arg) {
    struct kafka_source *s = arg;
    if (!s->client) return;
    for (uint32_t i = 0; i < s->part_room; i++)
        if (s->parts[i] && s->parts[i]->full) check_room(s, s->parts[i]);
    kafka_group_after(s);
    if (s->stalled && has_credit(s)) wake(s);
}

static void consumer_pause(struct queue_consumer *c) {
    struct kafka_source *s = source_of(c);
    s->paused = true;
    loop_defer(s->loop, &s->after);
}

static void consumer_close(struct queue_consumer *c) {
    struct kafka_source *s = source_of(c);
    MUST(!s->consumer_closed);
    s->consumer_closed = true;
    timer_stop(s->again);
    loop_defer(s->loop, &s->after);
}

static void set_credit(struct queue_consumer *c, size_t credit) {
    struct kafka_source *s = source_of(c);
    s->config.credit = credit < KAFKA_CREDIT_MAX ? credit : KAFKA_CREDIT_MAX;
    if (s->stalled) loop_defer(s->loop, &s->after);
}

static size_t unsettled(const struct queue_consumer *c) {
    const struct kafka_source *s =
        (const struct kafka_source *)(const void *)((const char *)c - offsetof(struct kafka_source, consumer));
    return s->unsettled;
}

static const struct queue_consumer_ops consumer_ops = {
    .pause = consumer_pause, .close = consumer_close, .ack = ack, .release = release, .unsettled = unsettled, .set_credit = set_credit};

// --- life -----------------------------------------------------------------------------------------------------------

static void end(struct kafka_source *s) {
    void (*on_closed)(void *arg) = s->on_closed;
    void *arg = s->closed_arg;
    if (s->unsettled)
        log_warn("kafka", "the end came before the last commit: what is finished runs again", LOG_STR("trigger", s->conf.trigger),
                 LOG_INT("records", s->unsettled));
    give_up_client(s);
    timer_free(s->tick);
    timer_free(s->again);
    timer_free(s->stir);
    loop_defer_cancel(s->loop, &s->after);
    kafka_config_done(&s->conf);
    for (uint32_t i = 0; i < s->part_room; i++) kafka_kept_forget(s, (int32_t)i);
    free(s->kept);
    free(s->parts);
    free(s->headers);
    free(s->function);
    free(s);
    if (on_closed) on_closed(arg);
}

static bool has_parts(const struct kafka_source *s) {
    for (uint32_t i = 0; i < s->part_room; i++)
        if (s->parts[i]) return true;
    return false;
}

// First the last commit, then the group is left, then the end; whatever does not come in time is not waited for.
static void go_on_closing(struct kafka_source *s, int64_t now_ns) {
    int64_t left_ms = (s->close_ns - now_ns) / NS_PER_MS;
    if (!s->client || left_ms <= 0 || (s->leaving && rd_kafka_consumer_closed(s->client->rk))) {
        end(s);
        return;
    }
    if (s->leaving || ((s->committing || s->unsettled) && left_ms > CLOSE_MS / 4)) return;
    if (s->unsettled && !s->committing && !s->last_commit) { // the group joins anew for so long: there is nothing to lose
        s->last_commit = true;
        kafka_group_commit_last(s);
        return;
    }
    s->leaving = true;
    // With nothing to be revoked a close tells the group nothing, and the others wait until the session ends.
    if (!has_parts(s)) rd_kafka_unsubscribe(s->client->rk);
    rd_kafka_error_t *error = rd_kafka_consumer_close_queue(s->client->rk, s->client->control);
    if (error) s->close_ns = now_ns;
    rd_kafka_error_destroy(error);
}

static void on_tick(void *arg) {
    struct kafka_source *s = arg;
    int64_t now_ns = clock_mono_ns();
    timer_start(s->tick, s->closing ? TICK_MS / 10 : TICK_MS);
    if (s->client) drain(s);
    if (s->client) kafka_group_tick(s, now_ns);
    if (s->closing) {
        go_on_closing(s, now_ns);
        return;
    }
    if (!s->client && s->consumed && !s->consumer_closed && now_ns >= s->restart_ns) start_client(s);
}

static struct queue_consumer *consume(struct source *base, const struct queue_consumer_config *config) {
    struct kafka_source *s = container_of(base, struct kafka_source, base);
    MUST(!s->consumed && !s->closing);
    s->consumed = true;
    s->config = *config;
    s->function = mem_strndup(config->function);
    s->config.function = (struct str){s->function, config->function.len};
    if (s->config.credit < 1) s->config.credit = 1;
    if (s->config.credit > KAFKA_CREDIT_MAX) s->config.credit = KAFKA_CREDIT_MAX;
    if (s->config.credit_bytes < 1) s->config.credit_bytes = 1;
    s->consumer.ops = &consumer_ops;
    start_client(s);
    timer_start(s->tick, TICK_MS);
    return &s->consumer;
}

static void close_source(struct source *base, void (*on_closed)(void *arg), void *arg) {
    struct kafka_source *s = container_of(base, struct kafka_source, base);
    MUST(!s->closing && (!s->consumed || s->consumer_closed));
    s->closing = true;
    s->on_closed = on_closed;
    s->closed_arg = arg;
    s->close_ns = clock_mono_ns() + CLOSE_MS * NS_PER_MS;
    timer_start(s->tick, 0);
}

static const struct source_ops kafka_source_ops = {.consume = consume, .lag = kafka_lag, .close = close_source};

int kafka_source_open(struct loop *loop, const struct kafka_config *c, struct source **ret, struct err *err) {
    int rc = kafka_config_check(c, err);
    if (rc) return rc;
    struct kafka_source *s = mem_zalloc(sizeof *s);
    s->base.ops = &kafka_source_ops;
    s->loop = loop;
    kafka_config_copy(&s->conf, c);
    s->id_seed = kafka_id_seed(c);
    s->headers = mem_array(EV_HEADERS_MAX, sizeof *s->headers);
    s->tick = timer_new(loop, on_tick, s);
    s->again = timer_new(loop, on_again, s);
    s->stir = timer_new(loop, kafka_on_stir, s);
    s->after = (struct defer){.fn = on_after, .arg = s};
    *ret = &s->base;
    return 0;
}
