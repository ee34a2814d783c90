// SPDX-License-Identifier: Apache-2.0
// Fills a queue and times its draining, so that every consumer is measured by the same outside observer.
//
//     amqp fill URL QUEUE COUNT BYTES    declares the quorum queue if it is not there, empties it, publishes COUNT
//                                        persistent JSON messages with confirms, waits for all of them
//     amqp drain URL QUEUE COUNT         asks the broker every 5 ms how many messages are ready; prints
//                                        "MESSAGES SECONDS" for the part from 90 % of COUNT down to none
//
// The first tenth is left out: it holds the consumer's start (a JIT compiler, instances).
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHANNEL 1
#define UNCONFIRMED_MAX 5000
#define LOOK_NS 5000000
#define PATIENCE_S 120.0

static amqp_connection_state_t conn;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void check(amqp_rpc_reply_t reply, const char *what) {
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) return;
    errx(1, "%s failed: %s", what,
         reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION ? "RabbitMQ refuses it" : amqp_error_string2(reply.library_error));
}

static void dial(const char *url) {
    struct amqp_connection_info at;
    char *text = strdup(url);
    if (amqp_parse_url(text, &at)) errx(2, "not an AMQP URL");
    conn = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(conn);
    if (amqp_socket_open(socket, at.host, at.port)) errx(1, "cannot connect");
    const char *vhost = at.vhost[0] ? at.vhost : "/"; // "amqp://host/" means the default one to most clients
    check(amqp_login(conn, vhost, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, at.user, at.password), "login");
    amqp_channel_open(conn, CHANNEL);
    check(amqp_get_rpc_reply(conn), "channel");
    free(text);
}

static uint32_t declare(const char *queue, int passive) {
    amqp_table_entry_t type = {amqp_cstring_bytes("x-queue-type"),
                               {AMQP_FIELD_KIND_UTF8, {.bytes = amqp_cstring_bytes("quorum")}}};
    amqp_table_t arguments = {passive ? 0 : 1, &type};
    amqp_queue_declare_ok_t *ok = amqp_queue_declare(conn, CHANNEL, amqp_cstring_bytes(queue), passive, 1, 0, 0, arguments);
    check(amqp_get_rpc_reply(conn), "declare");
    uint32_t count = ok->message_count;
    amqp_maybe_release_buffers(conn);
    return count;
}

// Waits for one confirm; returns the tag up to which all are confirmed.
static uint64_t next_confirm(uint64_t confirmed) {
    amqp_frame_t frame;
    if (amqp_simple_wait_frame(conn, &frame)) errx(1, "the connection was lost");
    if (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
        errx(1, "a message was not confirmed");
    const amqp_basic_ack_t *ack = frame.payload.method.decoded;
    uint64_t tag = ack->multiple ? ack->delivery_tag - confirmed : 1;
    amqp_maybe_release_buffers(conn);
    return confirmed + tag;
}

static void publish(const char *queue, uint64_t count, size_t bytes) {
    char *body = malloc(bytes + 64);
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG,
                                          .content_type = amqp_cstring_bytes("application/json"),
                                          .delivery_mode = AMQP_DELIVERY_PERSISTENT};
    amqp_confirm_select(conn, CHANNEL);
    check(amqp_get_rpc_reply(conn), "confirm.select");
    uint64_t confirmed = 0; // how many; the order of single acks does not matter for a count
    for (uint64_t n = 0; n < count; n++) {
        size_t used = (size_t)sprintf(body, "{\"order\":%llu,\"customer\":\"c-%06llu\",\"pad\":\"", (unsigned long long)n,
                                      (unsigned long long)n % 99991);
        memset(body + used, 'x', bytes - used - 2);
        memcpy(body + bytes - 2, "\"}", 2);
        while (n - confirmed >= UNCONFIRMED_MAX) confirmed = next_confirm(confirmed);
        if (amqp_basic_publish(conn, CHANNEL, amqp_empty_bytes, amqp_cstring_bytes(queue), 0, 0, &properties,
                               (amqp_bytes_t){bytes, body}))
            errx(1, "publish failed");
    }
    while (confirmed < count) confirmed = next_confirm(confirmed);
    free(body);
}

static void drain(const char *queue, uint32_t count) {
    uint32_t from = count - count / 10, ready = 0;
    double start = 0, given_up = now_s() + PATIENCE_S;
    uint32_t first = 0;
    while ((ready = declare(queue, 1)) > 0) {
        double now = now_s();
        if (start == 0 && ready <= from) {
            start = now;
            first = ready;
        }
        if (now > given_up) errx(1, "the queue still has %u messages", ready);
        nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    }
    if (start == 0) errx(1, "the queue was empty too soon");
    printf("%u %.6f\n", first, now_s() - start);
}

int main(int argc, char **argv) {
    if (argc == 6 && strcmp(argv[1], "fill") == 0) {
        dial(argv[2]);
        declare(argv[3], 0);
        amqp_queue_purge(conn, CHANNEL, amqp_cstring_bytes(argv[3]));
        check(amqp_get_rpc_reply(conn), "purge");
        publish(argv[3], strtoull(argv[4], NULL, 10), strtoull(argv[5], NULL, 10));
    } else if (argc == 5 && strcmp(argv[1], "drain") == 0) {
        dial(argv[2]);
        drain(argv[3], (uint32_t)strtoul(argv[4], NULL, 10));
    } else {
        errx(2, "usage: amqp fill URL QUEUE COUNT BYTES | amqp drain URL QUEUE COUNT");
    }
    return 0;
}
