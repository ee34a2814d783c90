// SPDX-License-Identifier: Apache-2.0
// The connection on rabbitmq-c. Invariant: once `lost` is set nothing is written or read any more.
// TCP_CORK joins the three packets that rabbitmq-c makes of each message, and those of a batch.
#include "core/queue_amqp_conn.h"

#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "core/base/log.h"

#define CHANNELS_MAX 2047 // RabbitMQ's default limit
#define FRAME_BYTES 131072

amqp_bytes_t mq_bytes(struct str s) {
    union { // the library's type has no const
        const void *from;
        void *to;
    } p = {.from = s.data};
    return (amqp_bytes_t){s.len, p.to};
}

int64_t mq_backoff_ms(unsigned failures, uint32_t random) {
    int64_t whole = failures >= 7 ? 5000 : INT64_C(100) << (failures ? failures - 1 : 0);
    if (whole > 5000) whole = 5000;
    return whole / 2 + (int64_t)(random % (uint32_t)(whole / 2 + 1));
}

static struct timeval to_timeval(int ms) {
    return (struct timeval){.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
}

static int lost(struct mq_conn *c, int status, struct err *err) {
    c->lost = true;
    return err_set(err, ERR_UNAVAILABLE, "the connection to RabbitMQ is lost: %s", amqp_error_string2(status));
}

int mq_conn_sent(struct mq_conn *c, int status, struct err *err) {
    return status == AMQP_STATUS_OK ? 0 : lost(c, status, err);
}

static enum err_code code_of(uint16_t reply_code) {
    switch (reply_code) {
    case AMQP_ACCESS_REFUSED: return ERR_DENIED;
    case AMQP_NOT_FOUND: return ERR_NOT_FOUND;
    case AMQP_RESOURCE_LOCKED:
    case AMQP_PRECONDITION_FAILED: return ERR_CONFLICT;
    default: return ERR_INVALID;
    }
}

static int handle_close(struct mq_conn *c, amqp_channel_t channel, amqp_method_t method, struct err *err) {
    if (method.id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *m = method.decoded;
        int code = err_set(err, code_of(m->reply_code), "RabbitMQ: %.*s", STR_ARG(mq_str(m->reply_text)));
        amqp_channel_close_ok_t ok = {0};
        int rc = mq_conn_sent(c, amqp_send_method(c->state, channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok), err);
        return rc ? rc : code;
    }
    c->lost = true;
    if (method.id != AMQP_CONNECTION_CLOSE_METHOD)
        return err_set(err, ERR_UNAVAILABLE, "RabbitMQ sent an unexpected method 0x%08X", method.id);
    const amqp_connection_close_t *m = method.decoded;
    amqp_connection_close_ok_t ok = {0};
    (void)amqp_send_method(c->state, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
    if (m->reply_code == AMQP_ACCESS_REFUSED || m->reply_code == AMQP_NOT_ALLOWED) c->refused = ERR_DENIED;
    return err_set(err, ERR_UNAVAILABLE, "RabbitMQ closed the connection: %.*s", STR_ARG(mq_str(m->reply_text)));
}

int mq_conn_closed_by_peer(struct mq_conn *c, const amqp_frame_t *frame, struct err *err) {
    return handle_close(c, frame->channel, frame->payload.method, err);
}

static int check_reply(struct mq_conn *c, amqp_channel_t channel, amqp_rpc_reply_t reply, struct err *err) {
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) return 0;
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION) return handle_close(c, channel, reply.reply, err);
    return lost(c, reply.library_error, err);
}

int mq_conn_reply(struct mq_conn *c, amqp_channel_t channel, struct err *err) {
    return check_reply(c, channel, amqp_get_rpc_reply(c->state), err);
}

static amqp_socket_t *new_socket(struct mq_conn *c, struct err *err) {
    if (!c->url->at.ssl) return amqp_tcp_socket_new(c->state);
    amqp_socket_t *s = amqp_ssl_socket_new(c->state);
    if (s && amqp_ssl_socket_set_cacert(s, c->url->ca_text) != AMQP_STATUS_OK) {
        err_set(err, ERR_UNAVAILABLE, "cannot read the CA certificates in %s; ?cacert=FILE in the URL names another file",
                c->url->ca_text);
        return NULL;
    }
    return s;
}

static int cannot_connect(const struct mq_conn *c, int status, struct err *err) {
    const char *host = c->url->at.host;
    int port = c->url->at.port;
    switch (status) {
    case AMQP_STATUS_SSL_PEER_VERIFY_FAILED:
        return err_set(err, ERR_UNAVAILABLE,
                       "the certificate of RabbitMQ at %s:%d has expired, or none of the authorities in %s has signed it; ?cacert=FILE in "
                       "the URL names another file of them",
                       host, port, c->url->ca_text);
    case AMQP_STATUS_SSL_HOSTNAME_VERIFY_FAILED:
        return err_set(err, ERR_UNAVAILABLE,
                       "the certificate of RabbitMQ at %s:%d does not name that host; the URL needs one of its DNS names, an address in it "
                       "does not count",
                       host, port);
    case AMQP_STATUS_SSL_CONNECTION_FAILED:
        return err_set(err, ERR_UNAVAILABLE,
                       "no TLS handshake with RabbitMQ at %s:%d; is the port one for TLS (5671 as a rule)? Without TLS the URL is amqp://",
                       host, port);
    default:
        return err_set(err, ERR_UNAVAILABLE, "cannot connect to RabbitMQ at %s:%d: %s", host, port, amqp_error_string2(status));
    }
}

// Timeouts tell enough themselves. Who hangs up before there is a login may have wanted to hear something else.
static int cannot_log_in(const struct mq_conn *c, int status, struct err *err) {
    const char *advice = status == AMQP_STATUS_TIMEOUT ? ""
                         : c->url->at.ssl ? "; if it wants a certificate of its clients: weir has none to show"
                                          : "; is the port one for TLS? Then the URL is amqps://";
    return err_set(err, ERR_UNAVAILABLE, "no login at RabbitMQ at %s:%d: %s%s", c->url->at.host, c->url->at.port,
                   amqp_error_string2(status), advice);
}

static int log_in(struct mq_conn *c, const char *name, struct err *err) {
#define CAPABLE(k) {.key = {sizeof(k) - 1, k}, .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}}
    static char blocked[] = "connection.blocked", cancel[] = "consumer_cancel_notify", nack[] = "basic.nack",
                confirms[] = "publisher_confirms", auth[] = "authentication_failure_close";
    amqp_table_entry_t capable[] = {CAPABLE(blocked), CAPABLE(cancel), CAPABLE(nack), CAPABLE(confirms), CAPABLE(auth)};
    amqp_table_entry_t entries[] = {
        {.key = amqp_cstring_bytes("product"), .value = {AMQP_FIELD_KIND_UTF8, {.bytes = mq_bytes(STR_LIT("weir"))}}},
        {.key = amqp_cstring_bytes("version"), .value = {AMQP_FIELD_KIND_UTF8, {.bytes = mq_bytes(str_of(WEIR_VERSION))}}},
        {.key = amqp_cstring_bytes("connection_name"), .value = {AMQP_FIELD_KIND_UTF8, {.bytes = mq_bytes(str_of(name))}}},
        {.key = amqp_cstring_bytes("capabilities"),
         .value = {AMQP_FIELD_KIND_TABLE, {.table = {(int)array_len(capable), capable}}}},
    };
    amqp_table_t properties = {(int)array_len(entries), entries};
    const char *vhost = c->url->at.vhost[0] ? c->url->at.vhost : "/";
    amqp_rpc_reply_t reply = amqp_login_with_properties(c->state, vhost, CHANNELS_MAX, FRAME_BYTES, c->url->heartbeat_s, &properties,
                                                        AMQP_SASL_METHOD_PLAIN, c->url->at.user, c->url->at.password);
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) return cannot_log_in(c, reply.library_error, err);
    return check_reply(c, 0, reply, err);
}

static int connect_and_log_in(struct mq_conn *c, const char *name, struct err *err) {
    struct timeval connect = to_timeval(MQ_CONNECT_TIMEOUT_MS), rpc = to_timeval(MQ_RPC_TIMEOUT_MS);
    err_set(err, ERR_UNAVAILABLE, "no memory for a socket");
    amqp_socket_t *socket = new_socket(c, err);
    if (!socket) return ERR_UNAVAILABLE;
    int status = amqp_socket_open_noblock(socket, c->url->at.host, c->url->at.port, &connect);
    if (status != AMQP_STATUS_OK) return cannot_connect(c, status, err);
    amqp_set_handshake_timeout(c->state, &connect);
    amqp_set_rpc_timeout(c->state, &rpc);
    c->fd = amqp_get_sockfd(c->state);
    return log_in(c, name, err);
}

int mq_conn_open(struct mq_conn *c, const struct mq_url *url, const char *name, struct err *err) {
    *c = (struct mq_conn){.url = url, .state = amqp_new_connection(), .fd = -1};
    MUST(c->state);
    int rc = connect_and_log_in(c, name, err);
    if (rc) {
        c->lost = true;
        mq_conn_close(c);
        // Whatever the broker says about a login, the next try may succeed: users are made after servers start.
        return ERR_UNAVAILABLE;
    }
    return 0;
}

void mq_conn_close(struct mq_conn *c) {
    if (!c->state) return;
    if (!c->lost) (void)amqp_connection_close(c->state, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(c->state);
    *c = (struct mq_conn){.url = c->url, .fd = -1, .refused = c->refused};
}

void mq_conn_wait(struct mq_conn *c, bool want_write, int wake_fd, int timeout_ms) {
    struct pollfd fds[] = {
        {.fd = wake_fd, .events = POLLIN},
        {.fd = c->state ? c->fd : -1, .events = (short)(want_write ? POLLIN | POLLOUT : POLLIN)},
    };
    if (c->state && (amqp_frames_enqueued(c->state) || amqp_data_in_buffer(c->state))) timeout_ms = 0;
    (void)poll(fds, array_len(fds), timeout_ms); // the caller looks at everything again
}

bool mq_conn_writable(const struct mq_conn *c) {
    struct pollfd fd = {.fd = c->fd, .events = POLLOUT};
    return poll(&fd, 1, 0) == 1;
}

void mq_conn_cork(struct mq_conn *c, bool on) {
    int value = on;
    if (c->state) (void)setsockopt(c->fd, IPPROTO_TCP, TCP_CORK, &value, sizeof value); // only a matter of speed
}

bool mq_conn_next_frame(struct mq_conn *c, amqp_frame_t *ret, struct err *err) {
    if (c->lost) return false;
    struct timeval now = {0};
    int status = amqp_simple_wait_frame_noblock(c->state, ret, &now);
    if (status == AMQP_STATUS_OK) return true;
    if (status != AMQP_STATUS_TIMEOUT) lost(c, status, err);
    return false;
}

int mq_conn_channel_open(struct mq_conn *c, amqp_channel_t channel, struct err *err) {
    amqp_channel_open(c->state, channel);
    return mq_conn_reply(c, channel, err);
}

char *mq_queue_name(struct str function) {
    return mem_printf("weir.fn.%.*s", STR_ARG(function));
}

amqp_table_t mq_queue_arguments(const struct mq_url *url, struct mq_queue_arguments *room) {
    int count = 0;
    if (!url->classic)
        room->entries[count++] = (amqp_table_entry_t){
            amqp_cstring_bytes("x-queue-type"), {AMQP_FIELD_KIND_UTF8, {.bytes = amqp_cstring_bytes("quorum")}}};
    if (url->max_length) {
        room->entries[count++] = (amqp_table_entry_t){amqp_cstring_bytes("x-max-length"),
                                                      {AMQP_FIELD_KIND_I64, {.i64 = url->max_length}}};
        room->entries[count++] = (amqp_table_entry_t){
            amqp_cstring_bytes("x-overflow"), {AMQP_FIELD_KIND_UTF8, {.bytes = amqp_cstring_bytes("reject-publish")}}};
    }
    return (amqp_table_t){count, room->entries};
}

static int declare_new(struct mq_conn *c, amqp_channel_t channel, const char *queue, struct err *err) {
    struct mq_queue_arguments room;
    amqp_queue_declare(c->state, channel, amqp_cstring_bytes(queue), 0, 1, 0, 0, mq_queue_arguments(c->url, &room));
    return mq_conn_reply(c, channel, err);
}

int mq_queue_count(struct mq_conn *c, amqp_channel_t channel, const char *queue, uint64_t *ret, struct err *err) {
    const amqp_queue_declare_ok_t *ok =
        amqp_queue_declare(c->state, channel, amqp_cstring_bytes(queue), 1, 0, 0, 0, amqp_empty_table);
    int rc = mq_conn_reply(c, channel, err);
    if (rc) return rc;
    if (!ok) return lost(c, AMQP_STATUS_UNEXPECTED_STATE, err);
    *ret = ok->message_count;
    return 0;
}

int mq_queue_declare(struct mq_conn *c, amqp_channel_t channel, const char *queue, struct err *err) {
    int rc = declare_new(c, channel, queue, err);
    if (rc != ERR_CONFLICT) return rc;
    log_warn("queue", "a queue exists with other arguments and is used as it is", LOG_STR("queue", queue),
             LOG_STR("broker", err->text));
    rc = mq_conn_channel_open(c, channel, err);
    uint64_t count;
    return rc ? rc : mq_queue_count(c, channel, queue, &count, err);
}
