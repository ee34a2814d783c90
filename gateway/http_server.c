// SPDX-License-Identifier: Apache-2.0
// The listening socket, the cap on connections, and the one timer that ends those that take too long.
//
// Why this server is not libevent's evhttp: it has no cap on connections, its time limits are per read and write
// instead of for the whole request, and it decides itself about caps, headers and half-read bodies.
//
// A full house never locks good clients out: the connection that has been idle longest makes room, or else the one that
// has been dribbling its request longest (past a second); only when every connection does honest work is a new one told 503.
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "gateway/http_internal.h"

#define BACKLOG 1024
#define ACCEPTS_A_TURN 64         // then the others on the loop get their turn
#define ACCEPT_PAUSE_MS 100       // after EMFILE
#define LINGER_MS 2000
#define DRIBBLE_MS 1000           // a request that takes longer may be sacrificed when the house is full
#define REFUSED_MAX 64            // connections over the cap that are told so at a time; the rest are just closed
#define TICK_MAX_MS 250

static struct log_repeat accept_failures;

// --- time ---------------------------------------------------------------------------------------------------------

static struct http_conn *overdue(struct http_server *srv, enum conn_state state, int64_t limit_ms) {
    struct http_conn *c = srv->conns[state].first;
    return c && loop_now_ns(srv->config.loop) - c->since_ns >= limit_ms * NS_PER_MS ? c : NULL;
}

static void end_slow_answers(struct http_server *srv) {
    struct http_conn *c;
    while ((c = overdue(srv, CONN_SENDING, srv->config.request_timeout_ms))) {
        size_t unsent = stream_unsent(c->stream);
        if (unsent < c->unsent) { // it moves
            c->unsent = unsent;
            conn_set_state(c, CONN_SENDING);
        } else {
            conn_close(c);
        }
    }
}

static void start_tick(struct http_server *srv) {
    srv->ticking = true;
    timer_start(srv->tick, srv->tick_ms);
}

static void free_dead(struct http_server *srv) {
    while (srv->dead) {
        struct http_conn *c = srv->dead;
        srv->dead = c->next;
        free(c);
    }
}

static void tick_server(void *arg) {
    struct http_server *srv = arg;
    struct http_conn *c;
    srv->ticking = false;
    free_dead(srv);
    while ((c = overdue(srv, CONN_IDLE, srv->config.keepalive_ms))) conn_close(c);
    while ((c = overdue(srv, CONN_READING, srv->config.request_timeout_ms))) {
        conn_refuse(c, 408, "the request did not arrive whole within request-timeout");
    }
    while ((c = overdue(srv, CONN_LINGER, LINGER_MS))) conn_close(c);
    end_slow_answers(srv);
    if (srv->accept_again_ns && loop_now_ns(srv->config.loop) >= srv->accept_again_ns) {
        srv->accept_again_ns = 0;
        if (srv->io) io_want(srv->io, IO_READ);
    }
    if (srv->count || srv->refused || srv->dead || srv->accept_again_ns) start_tick(srv);
}

void server_wake_tick(struct http_server *srv) {
    if (!srv->ticking) start_tick(srv);
}

// --- accepting ----------------------------------------------------------------------------------------------------

static bool make_room(struct http_server *srv) {
    if (srv->count < srv->config.max_connections) return true;
    struct http_conn *c = srv->conns[CONN_IDLE].first;
    if (!c) c = overdue(srv, CONN_READING, DRIBBLE_MS);
    if (!c) return false;
    conn_close(c);
    return true;
}

static void take_connection(struct http_server *srv, int fd) {
    if (make_room(srv)) conn_new(srv, fd, false);
    else if (srv->refused < REFUSED_MAX) conn_new(srv, fd, true);
    else close(fd);
}

static void on_acceptable(void *arg, int ready) {
    (void)ready;
    struct http_server *srv = arg;
    free_dead(srv);
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = accept4(srv->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            take_connection(srv, fd);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED) continue;
        if (errno == EAGAIN) return;
        log_repeating(&accept_failures, LOG_LEVEL_ERROR, "http", "cannot accept connections", strerror(errno));
        srv->accept_again_ns = loop_now_ns(srv->config.loop) + ACCEPT_PAUSE_MS * NS_PER_MS;
        io_want(srv->io, 0);
        server_wake_tick(srv);
        return;
    }
}

// --- address ------------------------------------------------------------------------------------------------------

static int split_address(const char *address, char host[256], char port[16], struct err *err) {
    const char *colon = strrchr(address, ':');
    size_t host_len = colon ? (size_t)(colon - address) : 0;
    bool bracketed = host_len >= 2 && address[0] == '[' && address[host_len - 1] == ']';
    const char *from = bracketed ? address + 1 : address;
    if (bracketed) host_len -= 2;
    if (!colon || host_len == 0 || host_len >= 256 || strlen(colon + 1) >= 16 ||
        (!bracketed && memchr(from, ':', host_len))) {
        return err_set(err, ERR_INVALID, "listen address '%s' is not HOST:PORT such as 127.0.0.1:9000 or [::1]:9000", address);
    }
    memcpy(host, from, host_len);
    host[host_len] = '\0';
    snprintf(port, 16, "%s", colon + 1);
    return 0;
}

// A name other than localhost is not looked up: what it listens on must not depend on a name server.
static int resolve(const char *address, struct addrinfo **ret, struct err *err) {
    char host[256], port[16];
    int rc = split_address(address, host, port, err);
    if (rc < 0) return rc;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    const char *name = strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
    int gai = getaddrinfo(name, port, &hints, ret);
    if (gai == 0) return 0;
    return err_set(err, ERR_INVALID, "listen address '%s': %s (give the IP address of an interface, and a port number)",
                   address, gai_strerror(gai));
}

int http_address_is_loopback(const char *address, bool *ret, struct err *err) {
    struct addrinfo *ai;
    int rc = resolve(address, &ai, err);
    if (rc < 0) return rc;
    if (ai->ai_family == AF_INET) {
        const struct sockaddr_in *sin = (const void *)ai->ai_addr;
        *ret = ntohl(sin->sin_addr.s_addr) >> 24 == 127;
    } else {
        const struct sockaddr_in6 *sin6 = (const void *)ai->ai_addr;
        *ret = IN6_IS_ADDR_LOOPBACK(&sin6->sin6_addr);
    }
    freeaddrinfo(ai);
    return 0;
}

static int fail_socket(int fd, const char *address, struct err *err) {
    int errnum = errno;
    if (fd >= 0) close(fd);
    enum err_code code = errnum == EADDRINUSE ? ERR_CONFLICT : errnum == EACCES ? ERR_DENIED : ERR_INVALID;
    return err_set_errno(err, code, errnum, "cannot listen on %s", address);
}

static int listen_on(const struct addrinfo *ai, const char *address, int *ret_fd, struct err *err) {
    int one = 1;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return fail_socket(fd, address, err);
    // Accepted sockets inherit TCP_NODELAY: an answer leaves with its write.
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0 ||
        bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        return fail_socket(fd, address, err);
    }
    *ret_fd = fd;
    return 0;
}

static int port_of(int fd) {
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    MUST(getsockname(fd, (struct sockaddr *)&at, &len) == 0);
    in_port_t port = at.ss_family == AF_INET ? ((const struct sockaddr_in *)(const void *)&at)->sin_port
                                             : ((const struct sockaddr_in6 *)(const void *)&at)->sin6_port;
    return ntohs(port);
}

// --- life ---------------------------------------------------------------------------------------------------------

static void refuse_in_text(void *arg, struct http_request *req, int status, const char *why) {
    (void)arg;
    struct http_field type = {STR_LIT("Content-Type"), STR_LIT("text/plain; charset=utf-8")};
    http_respond(req, status, &type, 1, str_of(why));
}

// Often enough for the shortest limit, and at least as often as a pause of accepting needs.
static int64_t tick_ms_for(const struct http_server_config *config) {
    int64_t least = config->request_timeout_ms < config->keepalive_ms ? config->request_timeout_ms : config->keepalive_ms;
    int64_t ms = least / 4;
    return ms < 10 ? 10 : ms > TICK_MAX_MS ? TICK_MAX_MS : ms;
}

int http_server_open(const struct http_server_config *config, struct http_server **ret, struct err *err) {
    struct addrinfo *ai;
    int fd = -1;
    int rc = resolve(config->address, &ai, err);
    if (rc < 0) return rc;
    rc = listen_on(ai, config->address, &fd, err);
    freeaddrinfo(ai);
    if (rc < 0) return rc;
    struct http_server *srv = mem_zalloc(sizeof *srv);
    srv->config = *config;
    srv->config.address = NULL; // the caller's
    if (!srv->config.refuse) srv->config.refuse = refuse_in_text;
    srv->fd = fd;
    srv->port = port_of(fd);
    srv->tick_ms = tick_ms_for(config);
    srv->tick = timer_new(config->loop, tick_server, srv);
    srv->io = io_new(config->loop, fd, on_acceptable, srv);
    io_want(srv->io, IO_READ);
    *ret = srv;
    return 0;
}

int http_server_port(const struct http_server *srv) {
    return srv->port;
}

void http_server_stop_accepting(struct http_server *srv) {
    if (srv->stopping) return;
    srv->stopping = true;
    io_free(TAKE_PTR(srv->io));
    close(srv->fd);
    srv->fd = -1;
    for (struct http_conn *c = srv->conns[CONN_IDLE].first, *next; c; c = next) {
        next = c->next;
        if (stream_unsent(c->stream) == 0) {
            conn_close(c);
        } else { // its last answer goes out first
            c->close_after = true;
            conn_set_state(c, CONN_SENDING);
        }
    }
}

size_t http_server_running(const struct http_server *srv) {
    return srv->conns[CONN_RUNNING].count + srv->conns[CONN_SENDING].count;
}

size_t http_server_connections(const struct http_server *srv) {
    return srv->count + srv->refused;
}

void http_server_close(struct http_server *srv) {
    if (!srv) return;
    http_server_stop_accepting(srv);
    for (int state = 0; state < CONN_STATES; state++) {
        while (srv->conns[state].first) conn_close(srv->conns[state].first);
    }
    free_dead(srv);
    timer_free(srv->tick);
    buf_done(&srv->scratch);
    free(srv);
}
