// SPDX-License-Identifier: Apache-2.0
// gateway/http over real sockets on loopback, client and server on one loop: framing, caps, deadlines, clients that
// vanish, and crowds.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "gateway/http.h"
#include "tests/support/http_client.h"

#define HOST "Host: x\r\n"

static struct loop *loop;
static struct http_server *srv;
static struct http_request *held; // by the handler of /later
static int gone;

static void on_gone(void *arg) {
    assert_ptr_equal(arg, held);
    held = NULL;
    gone++;
}

static void echo(struct http_request *req) {
    struct http_field field = {STR_LIT("X-Path"), req->path};
    http_respond(req, 200, &field, 1, req->body);
}

static void handle(void *arg, struct http_request *req) {
    (void)arg;
    struct str value;
    if (str_starts(req->path, "/later")) {
        held = req;
        if (str_is(req->path, "/later")) http_request_on_gone(req, on_gone, req);
    } else if (str_is(req->path, "/big")) {
        char *body = mem_zalloc(8 << 20);
        http_respond(req, 200, NULL, 0, (struct str){body, 8 << 20});
        free(body);
    } else if (http_query_param(req, "say", &value)) {
        http_respond(req, 200, NULL, 0, value);
    } else {
        echo(req);
    }
}

static void start(const struct http_server_config *changes) {
    struct err err = {0};
    struct http_server_config c = {.loop = loop, .address = "127.0.0.1:0", .max_header_bytes = 4096,
        .max_body_bytes = 100000, .max_connections = 2000, .request_timeout_ms = 10000, .keepalive_ms = 10000, .handler = handle};
    if (changes->max_connections) c.max_connections = changes->max_connections;
    if (changes->max_body_bytes) c.max_body_bytes = changes->max_body_bytes;
    if (changes->request_timeout_ms) c.request_timeout_ms = changes->request_timeout_ms;
    if (changes->keepalive_ms) c.keepalive_ms = changes->keepalive_ms;
    assert_int_equal(http_server_open(&c, &srv, &err), 0);
}

static int setup(void **state) {
    (void)state;
    loop = loop_new();
    held = NULL;
    gone = 0;
    return 0;
}

static int teardown(void **state) {
    (void)state;
    http_server_close(TAKE_PTR(srv));
    loop_turn(loop, 0);
    loop_free(loop);
    return 0;
}

// --- a client -----------------------------------------------------------------------------------------------------

static int dial(void) {
    return client_dial(http_server_port(srv));
}

static void send_bytes(int fd, struct str s) {
    client_send(loop, fd, s);
}

static void send_text(int fd, const char *text) {
    client_send(loop, fd, str_of(text));
}

static bool until(int64_t *deadline) {
    return client_wait(loop, deadline);
}

static char *receive(int fd, const char *marker, int times) {
    return client_receive(loop, fd, marker, times);
}

// Sends the text on a connection of its own and returns all that comes until the server closes.
static char *exchange_once(const char *text) {
    int fd = dial();
    send_text(fd, text);
    char *answer = receive(fd, NULL, 0);
    close(fd);
    return answer;
}

static void expect_refusal(const char *text, int status) {
    cleanup_free char *answer = exchange_once(text);
    if (client_status(answer) != status) print_message("%s\n-> %s\n", text, answer);
    assert_int_equal(client_status(answer), status);
    assert_non_null(strstr(answer, "Connection: close\r\n"));
    assert_null(strstr(answer + 1, "HTTP/1.1 "));
}

static void expect_good(void) {
    int fd = dial();
    send_text(fd, "POST /ok HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhi");
    cleanup_free char *answer = receive(fd, "\r\n\r\nhi", 1);
    assert_int_equal(client_status(answer), 200);
    close(fd);
}

// --- framing ------------------------------------------------------------------------------------------------------

static void answers_and_keeps_alive(void **state) {
    (void)state;
    start(&(struct http_server_config){0});
    int fd = dial();
    for (int i = 0; i < 3; i++) {
        send_text(fd, "POST /a%20b?x=1 HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello");
        cleanup_free char *answer = receive(fd, "hello", 1);
        assert_int_equal(client_status(answer), 200);
        assert_non_null(strstr(answer, "\r\nX-Path: /a%20b\r\n"));
        assert_non_null(strstr(answer, "\r\nContent-Length: 5\r\n"));
        assert_non_null(strstr(answer, "\r\nDate: "));
        assert_null(strstr(answer, "Connection:"));
    }
    close(fd);
}

static void answers_pipelined_requests_in_order(void **state) {
    (void)state;
    start(&(struct http_server_config){0});
    int fd = dial();
    struct buf all;
    buf_init(&all, 1 << 20);
    for (int i = 0; i < 500; i++) assert_int_equal(buf_printf(&all, "GET /?say=%04d; HTTP/1.1\r\n" HOST "\r\n", i), 0);
    send_bytes(fd, buf_str(&all));
    buf_done(&all);
    cleanup_free char *answer = receive(fd, "0499;", 1);
    const char *at = answer;
    for (int i = 0; i < 500; i++) {
        char want[32];
        snprintf(want, sizeof want, "\r\n\r\n%04d;", i);
        at = strstr(at, want);
        assert_non_null(at);
    }
    close(fd);
}

static void holds_pipelined_requests_back_while_one_runs(void **state) {
    (void)state;
    start(&(struct http_server_config){0});
    int fd = dial();
    send_text(fd, "GET /later HTTP/1.1\r\n" HOST "\r\nGET /?say=second HTTP/1.1\r\n" HOST "\r\n");
    int64_t deadline = 0;
    while (!held && until(&deadline)) continue;
    assert_non_null(held);
    assert_int_equal(http_server_running(srv), 1);
    http_respond(TAKE_PTR(held), 200, NULL, 0, STR_LIT("first"));
    cleanup_free char *answer = receive(fd, "second", 1);
    assert_non_null(strstr(answer, "first"));
    assert_true(strstr(answer, "first") < strstr(answer, "second"));
    assert_int_equal(gone, 0);
    close(fd);
}

static void joins_chunks(void **state) {
    (void)state;
    start(&(struct http_server_config){0});
    const char *text = "POST /c HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                       "3;name=value\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n";
    int fd = dial();
    for (const char *p = text; *p; p++) { // a byte at a time
        send_bytes(fd, (struct str){p, 1});
        loop_turn(loop, 0);
    }
    cleanup_free char *answer = receive(fd, NULL, 0);
    assert_int_equal(client_status(answer), 200);
    assert_non_null(strstr(answer, "\r\n\r\nabc0123456789"));
    close(fd);
}

static void says_continue_only_when_it_will(void **state) {
    (void)state;
    start(&(struct http_server_config){0});
    int fd = dial();
    send_text(fd, "POST / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    cleanup_free char *first = receive(fd, "\r\n\r\n", 1);
    assert_string_equal(first, "HTTP/1.1 100 Continue\r\n\r\n");
    send_text(fd, "abc");
    cleanup_free char *answer = receive(fd, "abc", 1);
    assert_int_equal(client_status(answer), 200);
    close(fd);
    expect_refusal("POST / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 100001\r\n\r\n", 413);
    expect_refusal("POST / HTTP/1.1\r\n" HOST "Expect: a-pony\r\nContent-Length: 3\r\n\r\n", 417);
}

static void knows_targets_methods_and_versions(void **state) {
    (void)state;
    start(&(struct http_server_config){0});
    cleanup_free char *absolute = exchange_once("GET http://h:1/p/q?say=x%2By+z HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    assert_non_null(strstr(absolute, "\r\n\r\nx+y z"));
    cleanup_free char *bare = exchange_once("GET http://h?say=1 HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    assert_non_null(strstr(bare, "\r\n\r\n1"));
    cleanup_free char *head = exchange_once("HEAD /?say=hidden HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    assert_non_null(strstr(head, "Content-Length: 6\r\n"));
    assert_null(strstr(head, "hidden"));
    cleanup_free char *old = exchange_once("GET /o HTTP/1.0\r\n\r\n");
    assert_int_equal(client_status(old), 200);
    cleanup_free char *upgrade =
        exchange_once("GET /?say=plain HTTP/1.1\r\n" HOST "Upgrade: h2c\r\nConnection: Upgrade, close\r\n\r\n");
    assert_non_null(strstr(upgrade, "plain"));
    cleanup_free char *blank = exchange_once("\r\n\r\nGET /?say=late HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    assert_non_null(strstr(blank, "late"));
}

static void refuses_what_can_be_read_two_ways(void **state) {
    (void)state;
    start(&(struct http_server_config){0});
    expect_refusal("POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400);
    expect_refusal("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400);
    expect_refusal("POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400);
    expect_refusal("POST / HTTP/1.1\r\n" HOST "Content-Length: 3, 3\r\n\r\nabc", 400);
    expect_refusal("POST / HTTP/1.1\r\n" HOST "Content-Length: -3\r\n\r\nabc", 400);
    expect_refusal("POST / HTTP/1.1\r\n" HOST "Content-Length: 0x3\r\n\r\nabc", 400);
    expect_refusal("POST / HTTP/1.1\r\n" HOST "Content-Length: \r\n\r\nabc", 400);
    expect_refusal("POST / HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n\r\nabc", 400);
    expect_refusal("POST / HTTP/1.1\r\n" HOST "Content-Length : 3\r\n\r\nabc", 400);
    expect_refusal("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501);
    expect_refusal("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", 501);
    expect_refusal("POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400);
    expect_refusal("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 400);
    expect_refusal("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400);
    expect_refusal("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n", 400);
    expect_refusal("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", 400);
    expect_refusal("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\n", 400);
    expect_refusal("GET / HTTP/1.1\r\nX: a\rY: b\r\n" HOST "\r\n", 400);
    expect_refusal("GET / HTTP/1.1\r\nX y: a\r\n" HOST "\r\n", 400);
    expect_refusal("GET / HTTP/1.1\r\nX: a\r\n b\r\n" HOST "\r\n", 400);
    expect_refusal("GET / HTTP/1.1\nHost: x\n\n", 400);
    expect_refusal("GET / HTTP/1.1\r\n\r\n", 400);
    expect_refusal("GET / HTTP/1.1\r\n" HOST HOST "\r\n", 400);
    expect_refusal("GET no-path HTTP/1.1\r\n" HOST "\r\n", 400);
    expect_refusal("GET / HTTP/2.0\r\n" HOST "\r\n", 505);
    expect_refusal("CONNECT h:1 HTTP/1.1\r\n" HOST "\r\n", 501);
    expect_refusal("BREW / HTTP/1.1\r\n" HOST "\r\n", 400);
    expect_refusal("\x16\x03\x01", 400);
    expect_good();
}

// --- caps ---------------------------------------------------------------------------------------------------------

static void caps_heads(void **state) {
    (void)state;
    start(&(struct http_server_config){0});
    struct buf text;
    buf_init(&text, 1 << 20);
    assert_int_equal(buf_append(&text, STR_LIT("GET / HTTP/1.1\r\n" HOST "X: ")), 0);
    memset(buf_reserve(&text, 300000), 'a', 300000);
    buf_added(&text, 300000);
    int fd = dial();
    send_bytes(fd, buf_str(&text));
    cleanup_free char *answer = receive(fd, NULL, 0);
    assert_int_equal(client_status(answer), 431);
    close(fd);
    buf_clear(&text);
    assert_int_equal(buf_append(&text, STR_LIT("GET / HTTP/1.1\r\n" HOST)), 0);
    for (int i = 0; i < 300; i++) assert_int_equal(buf_append(&text, STR_LIT("a: b\r\n")), 0);
    assert_int_equal(buf_append(&text, STR_LIT("\r\n\0")), 0);
    expect_refusal(buf_str(&text).data, 431);
    buf_done(&text);
}

static void caps_bodies_without_reading_them(void **state) {
    (void)state;
    start(&(struct http_server_config){0});
    expect_refusal("POST / HTTP/1.1\r\n" HOST "Content-Length: 4000000000\r\n\r\nabc", 413);
    int fd = dial();
    send_text(fd, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    char *chunk = mem_zalloc(70000);
    int head = snprintf(chunk, 70000, "10000\r\n");
    for (int i = 0; i < 3; i++) send_bytes(fd, (struct str){chunk, (size_t)head + 65536}), send_text(fd, "\r\n");
    free(chunk);
    cleanup_free char *answer = receive(fd, NULL, 0);
    assert_int_equal(client_status(answer), 413);
    close(fd);
    expect_good();
}

static void sends_large_answers_to_slow_readers(void **state) {
    (void)state;
    start(&(struct http_server_config){0});
    int fd = dial();
    send_text(fd, "GET /big HTTP/1.1\r\n" HOST "\r\nGET /?say=after HTTP/1.1\r\n" HOST "\r\n");
    size_t total = 0;
    int64_t deadline = 0;
    char last[5] = "";
    while (memcmp(last, "after", 5) != 0 && until(&deadline)) {
        char part[65536];
        ssize_t n = recv(fd, part, sizeof part, MSG_DONTWAIT);
        if (n >= 5) memcpy(last, part + n - 5, 5);
        if (n > 0) total += (size_t)n;
    }
    assert_memory_equal(last, "after", 5);
    assert_true(total > 8 << 20);
    close(fd);
}

// --- deadlines ----------------------------------------------------------------------------------------------------

static void ends_requests_that_take_too_long(void **state) {
    (void)state;
    start(&(struct http_server_config){.request_timeout_ms = 200});
    int64_t before = clock_mono_ns();
    int fd = dial();
    send_text(fd, "POST / HTTP/1.1\r\n" HOST "Content-Length: 90000\r\n\r\n");
    int64_t deadline = 0;
    char byte;
    do { // dribbling keeps nothing alive
        if (send(fd, "x", 1, MSG_NOSIGNAL) < 0) break;
    } while (recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && until(&deadline));
    cleanup_free char *answer = receive(fd, NULL, 0);
    assert_int_equal(client_status(answer), 408);
    assert_true(clock_mono_ns() - before >= 150 * NS_PER_MS);
    close(fd);
}

static void closes_idle_connections(void **state) {
    (void)state;
    start(&(struct http_server_config){.keepalive_ms = 200});
    cleanup_free char *answer = exchange_once("GET /?say=once HTTP/1.1\r\n" HOST "\r\n");
    assert_non_null(strstr(answer, "once"));
    cleanup_free char *nothing = exchange_once("");
    assert_string_equal(nothing, "");
    int64_t deadline = 0;
    while (http_server_connections(srv) && until(&deadline)) continue;
    assert_int_equal(http_server_connections(srv), 0);
}

static void closes_on_readers_that_stand_still(void **state) {
    (void)state;
    start(&(struct http_server_config){.request_timeout_ms = 200});
    int fd = dial();
    send_text(fd, "GET /big HTTP/1.1\r\n" HOST "\r\n");
    int64_t deadline = 0;
    while (!http_server_running(srv) && until(&deadline)) continue;
    while (http_server_connections(srv) && until(&deadline)) continue;
    assert_int_equal(http_server_connections(srv), 0);
    close(fd);
}

// --- clients that vanish ------------------------------------------------------------------------------------------

static void tells_when_the_client_is_gone(void **state) {
    (void)state;
    start(&(struct http_server_config){0});
    int fd = dial();
    send_text(fd, "GET /later HTTP/1.1\r\n" HOST "\r\n");
    int64_t deadline = 0;
    while (!held && until(&deadline)) continue;
    close(fd);
    while (!gone && until(&deadline)) continue;
    assert_int_equal(gone, 1);
    expect_good();
}

static void takes_answers_for_clients_that_are_gone(void **state) {
    (void)state;
    start(&(struct http_server_config){0});
    int fd = dial();
    send_text(fd, "GET /later-without-callback HTTP/1.1\r\n" HOST "\r\n");
    int64_t deadline = 0;
    while (!held && until(&deadline)) continue;
    close(fd);
    while (http_server_connections(srv) && until(&deadline)) continue;
    assert_true(str_is(held->path, "/later-without-callback"));
    http_respond(TAKE_PTR(held), 200, NULL, 0, STR_LIT("nobody"));
}

static void tells_at_close(void **state) {
    (void)state;
    start(&(struct http_server_config){0});
    int fd = dial();
    send_text(fd, "GET /later HTTP/1.1\r\n" HOST "\r\n");
    int64_t deadline = 0;
    while (!held && until(&deadline)) continue;
    http_server_close(TAKE_PTR(srv));
    assert_int_equal(gone, 1);
    close(fd);
}

static void drains(void **state) {
    (void)state;
    start(&(struct http_server_config){0});
    int idle = dial(), busy = dial();
    send_text(busy, "GET /later HTTP/1.1\r\n" HOST "\r\n");
    int64_t deadline = 0;
    while ((!held || http_server_connections(srv) < 2) && until(&deadline)) continue;
    http_server_stop_accepting(srv);
    cleanup_free char *nothing = receive(idle, NULL, 0);
    assert_string_equal(nothing, "");
    http_respond(TAKE_PTR(held), 200, NULL, 0, STR_LIT("last words"));
    cleanup_free char *answer = receive(busy, NULL, 0);
    assert_non_null(strstr(answer, "last words"));
    assert_non_null(strstr(answer, "Connection: close"));
    assert_int_equal(http_server_running(srv), 0);
    close(idle);
    close(busy);
}

// --- crowds -------------------------------------------------------------------------------------------------------

#define CROWD 1000

static void dial_crowd(int fds[CROWD], const char *text) {
    for (int i = 0; i < CROWD; i++) {
        fds[i] = dial();
        send_text(fds[i], text);
        if (i % 16 == 0) loop_turn(loop, 0);
    }
}

static void hang_up(int fds[CROWD]) {
    for (int i = 0; i < CROWD; i++) close(fds[i]);
}

static void serves_one_among_a_thousand_slow(void **state) {
    (void)state;
    static int fds[CROWD];
    start(&(struct http_server_config){0});
    dial_crowd(fds, "POST / HTTP/1.1\r\n" HOST "Content-Le");
    expect_good();
    assert_int_equal(http_server_connections(srv), CROWD + 1);
    hang_up(fds);
}

static void makes_room_in_a_full_house(void **state) {
    (void)state;
    static int fds[CROWD];
    start(&(struct http_server_config){.max_connections = 100});
    dial_crowd(fds, ""); // idle ones give way
    expect_good();
    hang_up(fds);
    int64_t deadline = 0;
    while (http_server_connections(srv) && until(&deadline)) continue;
    dial_crowd(fds, "POST / HTTP/1.1\r\n" HOST "Content-Le"); // those that dribble do so after a second
    bool served = false;
    while (!served && until(&deadline)) {
        int fd = dial();
        send_text(fd, "GET /?say=yes HTTP/1.1\r\n" HOST "\r\n");
        cleanup_free char *answer = receive(fd, "\r\n\r\n", 1);
        served = client_status(answer) == 200;
        if (!served && answer[0]) assert_int_equal(client_status(answer), 503);
        close(fd);
    }
    assert_true(served);
    hang_up(fds);
}

// The process has few descriptors left: accepting pauses, and goes on by itself.
static void outlives_a_lack_of_descriptors(void **state) {
    (void)state;
    start(&(struct http_server_config){0});
    int fd = dial();
    struct rlimit was, few = {0};
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    few = (struct rlimit){.rlim_cur = (rlim_t)fd + 1, .rlim_max = was.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    send_text(fd, "GET /?say=patience HTTP/1.1\r\n" HOST "\r\n");
    for (int i = 0; i < 5; i++) loop_turn(loop, 10);
    assert_int_equal(http_server_connections(srv), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    cleanup_free char *answer = receive(fd, "patience", 1);
    assert_int_equal(client_status(answer), 200);
    close(fd);
}

static void reads_addresses(void **state) {
    (void)state;
    struct err err;
    bool loopback = false;
    assert_int_equal(http_address_is_loopback("127.8.0.1:1", &loopback, &err), 0);
    assert_true(loopback);
    assert_int_equal(http_address_is_loopback("[::1]:1", &loopback, &err), 0);
    assert_true(loopback);
    assert_int_equal(http_address_is_loopback("localhost:1", &loopback, &err), 0);
    assert_true(loopback);
    assert_int_equal(http_address_is_loopback("0.0.0.0:9000", &loopback, &err), 0);
    assert_false(loopback);
    assert_int_equal(http_address_is_loopback("9000", &loopback, &err), ERR_INVALID);
    assert_int_equal(http_address_is_loopback("::1:9000", &loopback, &err), ERR_INVALID);
    assert_int_equal(http_address_is_loopback("example.org:80", &loopback, &err), ERR_INVALID);
    assert_int_equal(http_address_is_loopback("127.0.0.1:http", &loopback, &err), ERR_INVALID);
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        test(answers_and_keeps_alive),
        test(answers_pipelined_requests_in_order),
        test(holds_pipelined_requests_back_while_one_runs),
        test(joins_chunks),
        test(says_continue_only_when_it_will),
        test(knows_targets_methods_and_versions),
        test(refuses_what_can_be_read_two_ways),
        test(caps_heads),
        test(caps_bodies_without_reading_them),
        test(sends_large_answers_to_slow_readers),
        test(ends_requests_that_take_too_long),
        test(closes_idle_connections),
        test(closes_on_readers_that_stand_still),
        test(tells_when_the_client_is_gone),
        test(takes_answers_for_clients_that_are_gone),
        test(tells_at_close),
        test(drains),
        test(serves_one_among_a_thousand_slow),
        test(makes_room_in_a_full_house),
        test(outlives_a_lack_of_descriptors),
        test(reads_addresses),
    };
    struct rlimit files = {4096, 4096};
    (void)setrlimit(RLIMIT_NOFILE, &files); // the crowd needs both ends of a thousand sockets
    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
