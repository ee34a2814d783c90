// SPDX-License-Identifier: Apache-2.0
// One connection: whole requests to the handler, one at a time, answers back in order, then a clean end.
//
// The end of a connection takes two steps: our side is shut down, then what the client still sends is thrown away for
// a moment, because closing with unread input would make the kernel drop an answer that the client has not read yet.
#include <sys/socket.h>

#include "core/metrics.h"
#include "gateway/http_internal.h"

#define INPUT_EXTRA (64 * 1024) // input room beyond the head's cap
#define PAUSE_BYTES (16 * 1024) // so much waiting input stops reading while a request runs
#define OUTPUT_HIGH (64 * 1024) // so much unsent output stops the next request
#define CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"
#define OUTPUT_CAP (SIZE_MAX / 4) // one answer at a time is in it, and its size is the handler's business

static void list_remove(struct conn_list *list, struct http_conn *c) {
    *(c->prev ? &c->prev->next : &list->first) = c->next;
    *(c->next ? &c->next->prev : &list->last) = c->prev;
    list->count--;
}

static void list_append(struct conn_list *list, struct http_conn *c) {
    c->next = NULL;
    c->prev = list->last;
    *(list->last ? &list->last->next : &list->first) = c;
    list->last = c;
    list->count++;
}

void conn_set_state(struct http_conn *c, enum conn_state state) {
    list_remove(&c->srv->conns[c->state], c);
    c->state = state;
    c->since_ns = loop_now_ns(c->srv->config.loop);
    list_append(&c->srv->conns[state], c);
}

static void count_connections(const struct http_server *srv) {
    if (srv->config.metrics) metrics_set(srv->config.metrics, METRIC_HTTP_CONNECTIONS, STR_NONE, (double)srv->count);
}

// The client is gone: whoever runs its request is told, or keeps it until the answer that goes nowhere.
static void let_go_of_exchange(struct http_conn *c) {
    struct exchange *ex = TAKE_PTR(c->ex);
    if (c->state != CONN_RUNNING) {
        exchange_free(ex);
        return;
    }
    ex->conn = NULL;
    if (!ex->on_gone) return;
    ex->on_gone(ex->gone_arg);
    exchange_free(ex);
}

void conn_close(struct http_conn *c) {
    struct http_server *srv = c->srv;
    if (c->dead) return;
    c->dead = true;
    list_remove(&srv->conns[c->state], c);
    (*(c->refused ? &srv->refused : &srv->count))--;
    stream_free(c->stream);
    let_go_of_exchange(c);
    count_connections(srv);
    c->next = srv->dead; // its own callbacks may be on the stack
    srv->dead = c;
}

void conn_refuse(struct http_conn *c, int status, const char *why) {
    conn_set_state(c, CONN_RUNNING);
    c->close_after = true;
    c->srv->config.refuse(c->srv->config.arg, &c->ex->r, status, why);
    MUST(c->dead || c->state != CONN_RUNNING);
}

static void set_paused(struct http_conn *c, bool paused) {
    if (c->paused == paused) return;
    c->paused = paused;
    stream_pause(c->stream, paused);
}

static void run_request(struct http_conn *c) {
    c->close_after = c->srv->stopping || !c->ex->parse.keep_alive;
    conn_set_state(c, CONN_RUNNING);
    c->srv->config.handler(c->srv->config.arg, &c->ex->r);
}

// Takes one step with the input that is there; false when there is nothing to do until more arrives.
static bool take_step(struct http_conn *c) {
    size_t used;
    struct http_parse *parse = &c->ex->parse;
    enum http_step step = http_parse_feed(parse, stream_input(c->stream), &c->ex->r, &used);
    stream_consume(c->stream, used);
    bool empty = stream_input(c->stream).len == 0;
    switch (step) {
    case HTTP_STEP_DONE: run_request(c); return true;
    case HTTP_STEP_BAD: conn_refuse(c, parse->status, parse->why); return true;
    case HTTP_STEP_HEAD:
        if (parse->expects_continue && empty && stream_write(c->stream, STR_LIT(CONTINUE)) < 0) {
            conn_close(c);
            return true;
        }
        break;
    case HTTP_STEP_MORE: break;
    }
    bool begun = !empty || parse->phase != HTTP_PHASE_HEAD;
    if (c->state == CONN_IDLE && begun) conn_set_state(c, CONN_READING);
    return step == HTTP_STEP_HEAD;
}

// Runs the requests that are whole. An answer that comes inside the handler leads back to the loop here.
static void conn_work(struct http_conn *c) {
    if (c->working) return;
    c->working = true;
    while (!c->dead && c->state <= CONN_READING && stream_input(c->stream).len > 0) {
        if (!take_step(c)) break;
    }
    c->working = false;
    if (!c->dead && c->state <= CONN_READING) set_paused(c, false);
}

void conn_answered(struct http_conn *c) {
    exchange_reset(c->ex);
    c->unsent = stream_unsent(c->stream);
    bool wait = c->close_after || c->unsent > OUTPUT_HIGH;
    conn_set_state(c, wait ? CONN_SENDING : CONN_IDLE);
    if (!wait) conn_work(c);
}

static void on_read(void *arg) {
    struct http_conn *c = arg;
    size_t waiting = stream_input(c->stream).len;
    if (c->close_after && c->state != CONN_RUNNING) stream_consume(c->stream, waiting);
    else if (c->state <= CONN_READING) conn_work(c);
    else if (waiting >= PAUSE_BYTES) set_paused(c, true);
}

static void on_drained(void *arg) {
    struct http_conn *c = arg;
    if (c->state != CONN_SENDING) return;
    if (c->close_after) {
        conn_set_state(c, CONN_LINGER);
        stream_consume(c->stream, stream_input(c->stream).len);
        set_paused(c, false);
        if (shutdown(c->fd, SHUT_WR) < 0) conn_close(c);
        return;
    }
    conn_set_state(c, CONN_IDLE);
    conn_work(c);
}

static void on_close(void *arg, const struct err *why) {
    (void)why;
    conn_close(arg);
}

static const struct stream_events events = {.on_read = on_read, .on_close = on_close, .on_drained = on_drained};

void conn_new(struct http_server *srv, int fd, bool refused) {
    struct http_conn *c = mem_zalloc(sizeof *c);
    *c = (struct http_conn){.srv = srv, .fd = fd, .refused = refused, .state = CONN_IDLE};
    c->since_ns = loop_now_ns(srv->config.loop);
    c->stream = stream_new(srv->config.loop, fd, srv->config.max_header_bytes + INPUT_EXTRA, OUTPUT_CAP, &events, c);
    c->ex = exchange_new(c);
    list_append(&srv->conns[CONN_IDLE], c);
    (*(refused ? &srv->refused : &srv->count))++;
    count_connections(srv);
    server_wake_tick(srv);
    if (refused) conn_refuse(c, 503, "the server has as many connections as max-connections allows");
}
