// SPDX-License-Identifier: Apache-2.0
// One connection to RabbitMQ, for the thread that owns it: address, login, frames, errors and reconnect times.
//
// Owns: the socket. Does not: know what is published or consumed. Flow: mq_conn_open -> mq_conn_wait and
//   mq_conn_next_frame -> mq_conn_close; after `lost` was set the owner closes, waits mq_backoff_ms and opens again.
// Threads: one. Blocking: opening and synchronous methods do (MQ_RPC_TIMEOUT_MS each); frames do not.
// Errors: ERR_UNAVAILABLE connection lost (and `lost` is set); ERR_NOT_FOUND, ERR_CONFLICT, ERR_DENIED, ERR_INVALID the
//   broker refused and closed the channel (which must be opened again), the connection lives.
#ifndef CORE_QUEUE_AMQP_CONN_H
#define CORE_QUEUE_AMQP_CONN_H

#include <amqp.h>
#include <amqp_framing.h>
#include <stdint.h>

#include "core/base/err.h"

#define MQ_RPC_TIMEOUT_MS 20000
#define MQ_CONNECT_TIMEOUT_MS 5000

struct mq_url {
    char *text;        // what the pointers below point into
    char *ca_text;     // file of CA certificates, amqps only
    struct amqp_connection_info at;
    bool classic;      // ?queue_type=classic
    int heartbeat_s;   // ?heartbeat=
    int64_t max_length; // ?max_length=: x-max-length with reject-publish; 0: the broker's policies alone
};
// amqp[s]://user:password@host:port/vhost?queue_type=quorum|classic&heartbeat=10&max_length=N&cacert=FILE
int mq_url_parse(const char *url, struct mq_url *ret, struct err *err) must_use;
void mq_url_done(struct mq_url *url);

// Pure. Doubles from 100 ms to 5 s with the number of failures (from 1), then 50 to 100 % of that by `random`.
int64_t mq_backoff_ms(unsigned failures, uint32_t random);

struct mq_conn {
    const struct mq_url *url;
    amqp_connection_state_t state; // NULL while closed
    int fd;
    bool lost;
    int refused; // after a failed mq_conn_open: ERR_DENIED the login or the vhost; else 0
};
int mq_conn_open(struct mq_conn *c, const struct mq_url *url, const char *name, struct err *err) must_use;
void mq_conn_close(struct mq_conn *c); // says good-bye when it is not lost

// Waits until there is something to read, room to write (when want_write), `wake_fd` is readable, or timeout_ms.
void mq_conn_wait(struct mq_conn *c, bool want_write, int wake_fd, int timeout_ms);
bool mq_conn_writable(const struct mq_conn *c);
// True with the next frame; false when there is none or the connection is lost. Sends and checks heartbeats.
bool mq_conn_next_frame(struct mq_conn *c, amqp_frame_t *ret, struct err *err) must_use;
// Joins the small packets that are written until it is switched off.
void mq_conn_cork(struct mq_conn *c, bool on);

int mq_conn_sent(struct mq_conn *c, int status, struct err *err); // of amqp_send_method and amqp_basic_publish
int mq_conn_reply(struct mq_conn *c, amqp_channel_t channel, struct err *err); // of the synchronous methods
int mq_conn_channel_open(struct mq_conn *c, amqp_channel_t channel, struct err *err) must_use;
// Answers a channel.close or connection.close that came as a frame; the same codes as mq_conn_reply.
int mq_conn_closed_by_peer(struct mq_conn *c, const amqp_frame_t *frame, struct err *err);

// The durable queue of a function: "weir.fn.<function>". Caller frees.
char *mq_queue_name(struct str function) must_use;
// The arguments that it is declared with; they point into `room`.
struct mq_queue_arguments {
    amqp_table_entry_t entries[3];
};
amqp_table_t mq_queue_arguments(const struct mq_url *url, struct mq_queue_arguments *room) must_use;
// Declares it on an open channel. A queue that exists with other arguments is taken as it is. The channel is open after
// success, and closed after errors other than ERR_UNAVAILABLE.
int mq_queue_declare(struct mq_conn *c, amqp_channel_t channel, const char *queue, struct err *err) must_use;
// Asks for the messages ready. ERR_NOT_FOUND when there is no such queue.
int mq_queue_count(struct mq_conn *c, amqp_channel_t channel, const char *queue, uint64_t *ret, struct err *err) must_use;

static inline struct str mq_str(amqp_bytes_t b) {
    return (struct str){b.bytes, b.len};
}
amqp_bytes_t mq_bytes(struct str s); // not written to by the library

#endif
