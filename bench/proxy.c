// SPDX-License-Identifier: Apache-2.0
// The limit that sync calls are measured against: the smallest libevent HTTP server in front of two Python processes.
//
//     proxy PORT PYTHON CHILD.py
//
// It forwards each request body, behind a 4-byte length, over a socket pair to the child with the fewest requests, and
// returns the answer. No ids, no time limits, no accounting, no sandbox, no log, no recovery: whatever weir does beyond
// this is what weir costs. A child answers in order; a request whose client has gone is answered into the void by evhttp
// (connections are not watched: wrk keeps them open).
#include <err.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHILDREN 2
#define WAITING_MAX 4096 // a power of two

static struct child {
    struct bufferevent *bev;
    struct evhttp_request *waiting[WAITING_MAX]; // a ring, oldest first
    uint32_t head, tail;
} children[CHILDREN];

static void on_request(struct evhttp_request *req, void *arg) {
    (void)arg;
    struct child *c = &children[0];
    for (int i = 1; i < CHILDREN; i++)
        if (children[i].tail - children[i].head < c->tail - c->head) c = &children[i];
    if (c->tail - c->head == WAITING_MAX) {
        evhttp_send_error(req, HTTP_SERVUNAVAIL, NULL);
        return;
    }
    c->waiting[c->tail++ % WAITING_MAX] = req;
    struct evbuffer *body = evhttp_request_get_input_buffer(req);
    uint32_t length = (uint32_t)evbuffer_get_length(body);
    evbuffer_add(bufferevent_get_output(c->bev), &length, sizeof length);
    evbuffer_add_buffer(bufferevent_get_output(c->bev), body);
}

static void on_answer(struct bufferevent *bev, void *arg) {
    struct child *c = arg;
    struct evbuffer *in = bufferevent_get_input(bev);
    uint32_t length;
    while (evbuffer_copyout(in, &length, sizeof length) == sizeof length && evbuffer_get_length(in) >= sizeof length + length) {
        struct evhttp_request *req = c->waiting[c->head++ % WAITING_MAX];
        evbuffer_drain(in, sizeof length);
        evbuffer_remove_buffer(in, evhttp_request_get_output_buffer(req), length);
        evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Type", "application/json");
        evhttp_send_reply(req, HTTP_OK, "OK", NULL);
    }
}

static void on_end(struct bufferevent *bev, short what, void *arg) {
    (void)bev, (void)what, (void)arg;
    errx(1, "a child ended");
}

static void start_child(struct event_base *base, struct child *c, const char *python, const char *script) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds)) err(1, "socketpair");
    pid_t pid = fork();
    if (pid < 0) err(1, "fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (dup2(fds[1], 3) < 0) _exit(127);
        closefrom(4);
        execl(python, python, script, (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    evutil_make_socket_nonblocking(fds[0]);
    c->bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(c->bev, on_answer, NULL, on_end, c);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
}

int main(int argc, char **argv) {
    if (argc != 4) errx(2, "usage: proxy PORT PYTHON CHILD.py");
    signal(SIGPIPE, SIG_IGN);
    struct event_config *config = event_config_new();
    event_config_set_flag(config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST); // fewer epoll_ctl calls
    struct event_base *base = event_base_new_with_config(config);
    for (int i = 0; i < CHILDREN; i++) start_child(base, &children[i], argv[2], argv[3]);
    struct evhttp *http = evhttp_new(base);
    evhttp_set_gencb(http, on_request, NULL);
    if (evhttp_bind_socket(http, "127.0.0.1", (uint16_t)atoi(argv[1]))) err(1, "cannot listen");
    return event_base_dispatch(base);
}
