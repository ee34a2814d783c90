// SPDX-License-Identifier: Apache-2.0
#include "tests/support/http_client.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "core/base/buf.h"
#include "core/base/clock.h"

#define WAIT_MS 10000

int client_dial(int port) {
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

void client_send(struct loop *loop, int fd, struct str s) {
    while (s.len > 0) {
        ssize_t n = send(fd, s.data, s.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) return;
        if (n > 0) s = (struct str){s.data + n, s.len - (size_t)n};
        else loop_turn(loop, 1);
    }
}

bool client_wait(struct loop *loop, int64_t *deadline) {
    if (*deadline == 0) *deadline = clock_mono_ns() + WAIT_MS * NS_PER_MS;
    loop_turn(loop, 5);
    return clock_mono_ns() < *deadline;
}

static int count_of(struct str text, const char *marker) {
    int count = 0;
    const char *at = text.data, *end = text.data + text.len;
    while (at && (at = memmem(at, (size_t)(end - at), marker, strlen(marker)))) {
        at++;
        count++;
    }
    return count;
}

char *client_receive(struct loop *loop, int fd, const char *marker, int times) {
    struct buf in;
    buf_init(&in, 64 << 20);
    int64_t deadline = 0;
    bool ended = false;
    do {
        ssize_t n;
        do {
            char *at = buf_reserve(&in, 65536);
            assert_non_null(at);
            n = recv(fd, at, 65536, MSG_DONTWAIT);
            if (n > 0) buf_added(&in, (size_t)n);
        } while (n > 0);
        ended = n == 0 || (errno != EAGAIN && errno != EINTR);
    } while (!ended && !(marker && count_of(buf_str(&in), marker) >= times) && client_wait(loop, &deadline));
    if (!marker) assert_true(ended);
    return buf_take(&in, NULL);
}

int client_status(const char *answer) {
    return strncmp(answer, "HTTP/1.1 ", 9) == 0 ? atoi(answer + 9) : -1;
}
