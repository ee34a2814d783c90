// SPDX-License-Identifier: Apache-2.0
// An HTTP/1.0 and HTTP/1.1 server on the loop: whole requests in, answers out, now or later.
//
// Owns: the listening socket and all connections. Flow: bytes -> a whole request (head and body within their caps and
//   within the deadline) -> handler -> http_respond, inside the handler or any time later. One request of a connection
//   runs at a time; pipelined ones wait and are answered in order.
// Does not: TLS, HTTP/2, compression, streaming of bodies, upgrades (an Upgrade header is ignored).
// Threads: the loop's. Blocking: never.
// Memory: a request belongs to the server; its spans live until http_respond or its on_gone. Bodies are held in memory,
//   so max_connections times max_body_bytes is the most that senders can make it hold.
// Errors: what is wrong with a request is answered through `refuse`: 400, 408, 413, 417, 431, 501, 503, 505.
#ifndef GATEWAY_HTTP_H
#define GATEWAY_HTTP_H

#include "core/base/loop.h"

#define HTTP_HEADERS_MAX 256 // of one request

struct metrics;
struct http_server;

struct http_field {
    struct str name, value;
};

struct http_request {
    struct str method;         // "GET", ...
    struct str target;         // as it was sent
    struct str path;           // of the target, raw: not percent-decoded; starts with / (or is "*")
    struct str query;          // raw, without the ?; empty when none
    const struct http_field *headers; // in the order sent, names as sent
    size_t header_count;
    struct str body;           // whole; chunks are joined
};

typedef void http_handler_fn(void *arg, struct http_request *req);
// A request that cannot be run. Must call http_respond before it returns; the connection is closed after. Fields of req
// that did not arrive are empty.
typedef void http_refuse_fn(void *arg, struct http_request *req, int status, const char *why);

struct http_server_config {
    struct loop *loop;
    const char *address;       // "127.0.0.1:9000", "[::1]:0", "0.0.0.0:9000", "localhost:9000"
    size_t max_header_bytes, max_body_bytes;
    size_t max_connections;
    int64_t request_timeout_ms; // from a request's first byte to its last; also the longest standstill of an answer
    int64_t keepalive_ms;       // an idle connection is closed after
    http_handler_fn *handler;
    http_refuse_fn *refuse;    // NULL: plain text
    void *arg;
    struct metrics *metrics;   // may be NULL
};

// ERR_INVALID: the address cannot be understood; ERR_CONFLICT: it is in use; ERR_DENIED: not allowed.
int http_server_open(const struct http_server_config *config, struct http_server **ret, struct err *err) must_use;
int http_server_port(const struct http_server *srv);
// The listening socket and idle connections are closed; every answer from now on closes its connection.
void http_server_stop_accepting(struct http_server *srv);
// Requests whose answer has not been handed to the kernel.
size_t http_server_running(const struct http_server *srv);
size_t http_server_connections(const struct http_server *srv);
// Running requests see on_gone.
void http_server_close(struct http_server *srv);
// True for 127.0.0.0/8, ::1 and localhost. ERR_INVALID as in http_server_open.
int http_address_is_loopback(const char *address, bool *ret, struct err *err) must_use;

// Answers and ends req: it must not be used after. Content-Length, Date and Connection are added; control characters in
// header values become spaces. Everything is copied. The body is left out for HEAD, 204 and 304.
void http_respond(struct http_request *req, int status, const struct http_field *headers, size_t header_count,
                  struct str body);
// fn(arg) runs when the client goes away before the answer; req is void after. Without it req stays usable, and its
// answer goes nowhere.
void http_request_on_gone(struct http_request *req, void (*fn)(void *arg), void *arg);
// After http_respond its connection is closed.
void http_request_close_after(struct http_request *req);

#define HTTP_PEER_BYTES 64
// The address of the client, without its port; empty when it is gone.
void http_request_peer(struct http_request *req, char ret[HTTP_PEER_BYTES]);
// The first header of that name, in any case; data is NULL when there is none.
struct str http_header(const struct http_request *req, const char *name);
// The first such parameter of the query, percent-decoded ('+' is a space); false: there is none. Lives as long as req.
bool http_query_param(struct http_request *req, const char *name, struct str *ret);
// The name of the parameter at the begin of *left (at first req->query), decoded, as long as req lives; *left goes behind it. false: the end.
bool http_query_next(struct http_request *req, struct str *left, struct str *ret_name);
// Decodes %XX (and '+' when plus_is_space) into out, which has in.len bytes of room; returns the length or ERR_INVALID.
long http_percent_decode(struct str in, bool plus_is_space, char *out);

#endif
