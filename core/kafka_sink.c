// SPDX-License-Identifier: Apache-2.0
// The producer: one idempotent client of librdkafka, which batches by itself (linger.ms).
//
// Flow: send -> rd_kafka_producev -> delivery reports on the client's main queue -> eventfd -> drained on the loop -> done.
// librdkafka ends each message by message.timeout.ms, so that each has its report. A client that met a fatal error takes
// nothing any more: it is retired, which reports what it has as failed, and the next send makes another, at most one a second.
// A message over the broker's limit would take its batch with it if it shared one: batch.size (1,000,000) is below the default
// limit of brokers, and what is larger goes alone. Who lowers max.message.bytes of a topic lowers kafka.batch.size too.
// Destroying a client joins its threads and may wait for the network, so it is done on a thread of its own (kafka_end).
#include <librdkafka/rdkafka.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/kafka_impl.h"
#include "core/sink_room.h"

#define TIMEOUT_TEXT_MS "28000"      // librdkafka looks once a second: done before SINK_TIMEOUT_MS
#define NEW_TOPIC_WAIT_MS "1000"     // a topic that brokers do not know yet may be new
#define MESSAGE_BYTES_MAX "16777216" // the broker's own limit decides
#define REMAKE_MS 1000

struct kafka_sink;
struct producer { // a client with its queue
    struct kafka_sink *sink;
    rd_kafka_t *client;
    rd_kafka_queue_t *queue;
    int fd; // written to when the queue becomes non-empty
    struct io *io;
    size_t messages; // under way
    bool retired, ending;
};

struct kafka_sink {
    struct sink sink; // first
    struct loop *loop;
    struct kafka_config config;
    struct sink_room room;
    struct producer *now; // NULL: it could not be made
    size_t producers;     // the retired ones too
    int64_t remake_ns;    // no other client before
    struct err trouble;   // what a broker said last, for messages that time out
    bool empty;
    void (*on_closed)(void *arg);
    void *arg;
};

struct flight { // a message under way
    struct producer *producer;
    size_t bytes;
    sink_done_fn *done;
    void *arg;
};

static enum err_code code_of(rd_kafka_resp_err_t e) {
    switch (e) {
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__INVALID_ARG: // a name that no topic has
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION: return ERR_NOT_FOUND;
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE: return ERR_TOO_LARGE;
    case RD_KAFKA_RESP_ERR__QUEUE_FULL: return ERR_BUSY;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED: return ERR_DENIED;
    default: return ERR_UNAVAILABLE;
    }
}

static int describe(const struct kafka_sink *s, rd_kafka_resp_err_t e, struct str topic, struct err *err) {
    enum err_code code = code_of(e);
    if (e == RD_KAFKA_RESP_ERR__MSG_TIMED_OUT && s->trouble.code)
        return err_set(err, s->trouble.code, "Kafka did not take the message in time: %.400s", s->trouble.text);
    if (code == ERR_NOT_FOUND) return err_set(err, code, "Kafka has no topic '%.*s'", (int)(topic.len > 249 ? 249 : topic.len), topic.data);
    return err_set(err, code, "Kafka did not take the message: %s", rd_kafka_err2str(e));
}

// --- delivery reports -----------------------------------------------------------------------------------------------

static void on_report(rd_kafka_t *client, const rd_kafka_message_t *m, void *opaque) {
    (void)client, (void)opaque;
    struct flight flight = *(struct flight *)m->_private;
    free(m->_private);
    struct kafka_sink *s = flight.producer->sink;
    struct err err = {0};
    const char *topic = m->rkt ? rd_kafka_topic_name(m->rkt) : "";
    int code = m->err ? describe(s, m->err, str_of(topic), &err) : ERR_OK;
    if (code == 0) s->trouble.code = ERR_OK;
    flight.producer->messages--;
    sink_room_leave(&s->room, flight.bytes);
    flight.done(flight.arg, code, code ? &err : NULL);
}

static void on_trouble(rd_kafka_t *client, int e, const char *reason, void *opaque) {
    (void)client;
    struct producer *p = opaque;
    err_set(&p->sink->trouble, code_of((rd_kafka_resp_err_t)e), "%s", reason);
}

static bool is_fatal(const struct producer *p) {
    return rd_kafka_fatal_error(p->client, NULL, 0) != RD_KAFKA_RESP_ERR_NO_ERROR;
}

static void check_ended(struct producer *p);

static void on_signal(void *arg, int ready) {
    (void)ready;
    struct producer *p = arg;
    uint64_t count;
    if (read(p->fd, &count, sizeof count) < 0) return;
    while (rd_kafka_poll(p->client, 0) > 0) {
        // Until it is empty: only then is the next report signalled.
    }
    check_ended(p);
}

// --- a client -------------------------------------------------------------------------------------------------------

static int set(rd_kafka_conf_t *conf, const char *name, const char *value, struct err *err) {
    char why[300] = "";
    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) == RD_KAFKA_CONF_OK) return 0;
    return err_set(err, ERR_INVALID, "%s: %s", name, why);
}

// What a user's kafka.* may say otherwise.
static int set_defaults(rd_kafka_conf_t *conf, const struct kafka_config *c, struct err *err) {
    static const struct kafka_pair defaults[] = {
        {"topic.metadata.propagation.max.ms", NEW_TOPIC_WAIT_MS},
        {"message.max.bytes", MESSAGE_BYTES_MAX},
        {"partitioner", "murmur2_random"}, // a key goes where Java's clients would put it
    };
    int rc = 0;
    for (size_t i = 0; i < array_len(defaults) && rc == 0; i++) {
        bool said = false;
        for (size_t k = 0; k < c->extra_count; k++) said = said || strcmp(c->extra[k].name, defaults[i].name) == 0;
        if (!said) rc = set(conf, defaults[i].name, defaults[i].value, err);
    }
    return rc;
}

static rd_kafka_conf_t *make_conf(struct producer *p, struct err *err) {
    const struct kafka_config *c = &p->sink->config;
    rd_kafka_conf_t *conf = kafka_conf_make(c, false, err);
    if (!conf) return NULL;
    int rc = set_defaults(conf, c, err);
    if (rc == 0) rc = set(conf, "message.timeout.ms", TIMEOUT_TEXT_MS, err);
    rd_kafka_conf_set_opaque(conf, p);
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    rd_kafka_conf_set_error_cb(conf, on_trouble);
    if (rc == 0) return conf;
    rd_kafka_conf_destroy(conf);
    return NULL;
}

static int producer_new(struct kafka_sink *s, struct producer **ret, struct err *err) {
    static const uint64_t one = 1;
    char why[300] = "";
    struct producer *p = mem_zalloc(sizeof *p);
    p->sink = s;
    rd_kafka_conf_t *conf = make_conf(p, err);
    p->client = conf ? rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why) : NULL;
    if (!p->client) {
        if (conf) {
            rd_kafka_conf_destroy(conf);
            err_set(err, ERR_INVALID, "the settings of the Kafka producer do not go together: %s", why);
        }
        free(p);
        return err->code;
    }
    p->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    MUST(p->fd >= 0);
    p->queue = rd_kafka_queue_get_main(p->client);
    rd_kafka_queue_io_event_enable(p->queue, p->fd, &one, sizeof one);
    MUST(write(p->fd, &one, sizeof one) == sizeof one); // for what came before: a queue that is not empty signals nothing
    p->io = io_new(s->loop, p->fd, on_signal, p);
    io_want(p->io, IO_READ);
    s->producers++;
    *ret = p;
    return 0;
}

static void destroy_client(void *arg) { // on a thread
    struct producer *p = arg;
    rd_kafka_destroy(p->client);
    close(p->fd);
    free(p);
}

static void check_closed(struct kafka_sink *s);

static void check_ended(struct producer *p) {
    if (!p->retired || p->messages || p->ending) return;
    p->ending = true;
    rd_kafka_queue_io_event_enable(p->queue, -1, NULL, 0);
    rd_kafka_queue_destroy(p->queue);
    io_free(p->io);
    struct kafka_sink *s = p->sink;
    kafka_end(destroy_client, p);
    s->producers--;
    check_closed(s);
}

// Its messages have their reports soon; then it goes.
static void retire(struct producer *p) {
    p->retired = true;
    check_ended(p);
}

static int need_producer(struct kafka_sink *s, struct err *err) {
    int64_t now_ns = loop_now_ns(s->loop);
    if (s->now && is_fatal(s->now) && now_ns >= s->remake_ns) {
        log_warn("kafka", "a producer is made anew", LOG_STR("why", s->trouble.text));
        rd_kafka_purge(s->now->client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        retire(TAKE_PTR(s->now));
    }
    if (s->now) return 0;
    if (now_ns < s->remake_ns) return err_set(err, ERR_UNAVAILABLE, "the Kafka producer is being made anew");
    s->remake_ns = now_ns + REMAKE_MS * NS_PER_MS;
    return producer_new(s, &s->now, err);
}

// --- sending --------------------------------------------------------------------------------------------------------

static void add_header(rd_kafka_headers_t *to, struct str name, struct str value) {
    rd_kafka_header_add(to, name.data ? name.data : "", (ssize_t)name.len, value.data ? value.data : "", (ssize_t)value.len);
}

static rd_kafka_headers_t *headers_of(const struct sink_message *m) {
    bool has_type = m->content_type.len == 0;
    rd_kafka_headers_t *headers = rd_kafka_headers_new(m->header_count + 1);
    for (size_t i = 0; i < m->header_count; i++) {
        struct str name = m->headers[i].name;
        has_type = has_type || (name.len == strlen("content-type") && strncasecmp(name.data, "content-type", name.len) == 0);
        add_header(headers, name, m->headers[i].value);
    }
    if (!has_type) add_header(headers, STR_LIT("content-type"), m->content_type);
    return headers;
}

static rd_kafka_vu_t vu_bytes(rd_kafka_vtype_t type, struct str s) {
    union { // the library's type has no const; it copies
        const void *from;
        void *to;
    } p = {.from = s.data ? s.data : ""};
    return (rd_kafka_vu_t){.vtype = type, .u.mem = {p.to, s.len}};
}

static int produce(struct producer *p, const struct sink_message *m, struct flight *flight, struct err *err) {
    cleanup_free char *topic = mem_strndup(m->to);
    rd_kafka_vu_t vus[7];
    size_t count = 0;
    rd_kafka_headers_t *headers = headers_of(m);
    vus[count++] = (rd_kafka_vu_t){.vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = topic};
    vus[count++] = (rd_kafka_vu_t){.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY};
    vus[count++] = (rd_kafka_vu_t){.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = flight};
    vus[count++] = (rd_kafka_vu_t){.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers};
    if (m->to_partition) vus[count++] = (rd_kafka_vu_t){.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = (int32_t)m->partition};
    if (m->key.len) vus[count++] = vu_bytes(RD_KAFKA_VTYPE_KEY, m->key);
    if (!m->null_payload) vus[count++] = vu_bytes(RD_KAFKA_VTYPE_VALUE, m->payload);
    rd_kafka_error_t *e = rd_kafka_produceva(p->client, vus, count);
    if (!e) return 0;
    rd_kafka_headers_destroy(headers); // taken over on success only
    int rc = describe(p->sink, rd_kafka_error_code(e), m->to, err);
    rd_kafka_error_destroy(e);
    return rc;
}

static int send_message(struct kafka_sink *s, const struct sink_message *m, sink_done_fn *done, void *arg, struct err *err) {
    int rc = need_producer(s, err);
    size_t bytes = sink_message_bytes(m);
    if (rc == 0) rc = sink_room_enter(&s->room, bytes, err);
    if (rc) return rc;
    struct flight *flight = mem_alloc(sizeof *flight);
    *flight = (struct flight){.producer = s->now, .bytes = bytes, .done = done, .arg = arg};
    rc = produce(s->now, m, flight, err);
    if (rc == 0) {
        s->now->messages++;
        return 0;
    }
    free(flight);
    sink_room_leave(&s->room, bytes);
    return rc;
}

static void kafka_send(struct sink *sink, const struct sink_message *m, sink_done_fn *done, void *arg) {
    struct kafka_sink *s = container_of(sink, struct kafka_sink, sink);
    struct err err = {0};
    if (send_message(s, m, done, arg, &err)) sink_room_refuse(&s->room, &err, done, arg);
}

// --- life -----------------------------------------------------------------------------------------------------------

static void check_closed(struct kafka_sink *s) {
    if (!s->empty || s->producers) return;
    void (*on_closed)(void *) = s->on_closed;
    void *arg = s->arg;
    kafka_config_done(&s->config);
    free(s);
    on_closed(arg);
}

static void on_empty(void *arg) {
    struct kafka_sink *s = arg;
    s->empty = true;
    if (s->now) retire(TAKE_PTR(s->now)); // it may be the last, and then s is gone
    else check_closed(s);
}

static void kafka_close(struct sink *sink, void (*on_closed)(void *arg), void *arg) {
    struct kafka_sink *s = container_of(sink, struct kafka_sink, sink);
    s->on_closed = on_closed;
    s->arg = arg;
    sink_room_close(&s->room, on_empty, s); // each message has its report by SINK_TIMEOUT_MS
}

int kafka_sink_open(struct loop *loop, const struct kafka_config *c, struct sink **ret, struct err *err) {
    static const struct sink_ops ops = {.ce_prefix = "ce_", .send = kafka_send, .close = kafka_close};
    int rc = kafka_config_check_sink(c, err);
    if (rc) return rc;
    struct kafka_sink *s = mem_zalloc(sizeof *s);
    s->sink.ops = &ops;
    s->loop = loop;
    kafka_config_copy(&s->config, c);
    sink_room_init(&s->room, loop);
    rc = producer_new(s, &s->now, err);
    if (rc) {
        kafka_config_done(&s->config);
        free(s);
        return rc;
    }
    *ret = &s->sink;
    return 0;
}
