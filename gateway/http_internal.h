// SPDX-License-Identifier: Apache-2.0
// What the files of the HTTP server share among themselves: server, connection, exchange.
//
// Invariants: a connection is in exactly one list, that of its state; each list is in order of since_ns, so that the
//   timer looks at the front only. An exchange belongs to its connection until the client goes away while the request
//   runs; then it belongs to whoever will answer.
#ifndef GATEWAY_HTTP_INTERNAL_H
#define GATEWAY_HTTP_INTERNAL_H

#include "core/base/stream.h"
#include "gateway/http.h"
#include "gateway/http_parse.h"

enum conn_state {
    CONN_IDLE,    // between requests; closed after keepalive_ms
    CONN_READING, // part of a request is there; 408 after request_timeout_ms
    CONN_RUNNING, // the handler has the request
    CONN_SENDING, // an answer is on its way and nothing is read until it is out
    CONN_LINGER,  // all is said: what still arrives is thrown away until the peer closes too
    CONN_STATES
};

struct conn_list {
    struct http_conn *first, *last;
    size_t count;
};

struct http_server {
    struct http_server_config config;
    struct conn_list conns[CONN_STATES];
    struct http_conn *dead;  // closed, freed when none of their callbacks can be on the stack
    size_t count;            // connections, without the refused ones
    size_t refused;          // connections over the cap that are being told so
    int fd;                  // listening; -1: not any more
    int port;
    struct io *io;
    struct timer *tick;
    int64_t tick_ms;
    bool ticking;
    int64_t accept_again_ns; // out of file descriptors: no accept before
    bool stopping;
    struct buf scratch;      // head of the answer that is being written
    char date[40];           // "Date: ...\r\n"
    int64_t date_second;     // monotonic
};

struct text { // a decoded parameter
    struct text *next;
    char data[];
};

struct exchange {
    struct http_request r;   // first: what the handler sees
    struct http_parse parse;
    struct http_conn *conn;  // NULL: the client is gone
    void (*on_gone)(void *arg);
    void *gone_arg;
    struct text *texts;
};

struct http_conn {
    struct http_server *srv;
    struct http_conn *prev, *next;
    enum conn_state state;
    int64_t since_ns;        // in this state; SENDING: of the last progress
    struct stream *stream;
    int fd;                  // the stream's
    struct exchange *ex;
    size_t unsent;           // SENDING: at the last look
    bool close_after;        // the answer is the last one
    bool paused;
    bool refused;            // over the cap: counted apart
    bool working;            // conn_work is on the stack
    bool dead;               // closed; in srv->dead until it is freed
};

// http_conn.c
void conn_new(struct http_server *srv, int fd, bool refused);
void conn_close(struct http_conn *c);
void conn_refuse(struct http_conn *c, int status, const char *why);
void conn_answered(struct http_conn *c);
void conn_set_state(struct http_conn *c, enum conn_state state);
// http_request.c
struct exchange *exchange_new(struct http_conn *c);
void exchange_free(struct exchange *ex);
void exchange_reset(struct exchange *ex);
// http_server.c
void server_wake_tick(struct http_server *srv);

#endif
