// SPDX-License-Identifier: Apache-2.0
// Invariants: `io` wants IO_WRITE only while output is left over from a short write; a freed stream is closed at once, and
// its memory goes at the end of the turn, so that the frames above a callback may still look at it.
#include "core/base/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES (64 * 1024)

struct stream {
    struct loop *loop;
    int fd;
    struct io *io;
    struct buf in, out;
    struct defer flush, destroy;
    const struct stream_events *events;
    void *arg;
    bool paused;
    bool broken; // on_close was called, or the owner has freed it
};

static void on_destroy(void *arg) {
    struct stream *s = arg;
    buf_done(&s->in);
    buf_done(&s->out);
    free(s);
}

static void watch(struct stream *s) {
    if (!s->io) return;
    if (s->broken) io_want(s->io, 0);
    else io_want(s->io, (s->paused ? 0 : IO_READ) | (buf_len(&s->out) ? IO_WRITE : 0));
}

static void fail(struct stream *s, const struct err *why) {
    if (s->broken) return;
    s->broken = true;
    watch(s);
    s->events->on_close(s->arg, why);
}

static void fail_errno(struct stream *s, const char *what) {
    struct err err = {0};
    err_set_errno(&err, ERR_UNAVAILABLE, errno, "%s", what);
    fail(s, &err);
}

static void on_readable(struct stream *s) {
    size_t free_bytes = s->in.cap - buf_len(&s->in);
    size_t want = free_bytes < READ_BYTES ? free_bytes : READ_BYTES;
    if (want == 0) {
        struct err err = {0};
        err_set(&err, ERR_TOO_LARGE, "the peer sent more than %zu bytes without a complete message", s->in.cap);
        fail(s, &err);
        return;
    }
    char *at = buf_reserve(&s->in, want);
    ssize_t n = read(s->fd, at, want);
    if (n > 0) {
        buf_added(&s->in, (size_t)n);
        s->events->on_read(s->arg);
    } else if (n == 0) {
        struct err ok = {.code = ERR_OK, .text = "closed by the peer"};
        fail(s, &ok);
    } else if (errno != EAGAIN && errno != EINTR) {
        fail_errno(s, "read");
    }
}

void stream_flush(struct stream *s) {
    while (!s->broken && buf_len(&s->out) > 0) {
        struct str left = buf_str(&s->out);
        ssize_t n = send(s->fd, left.data, left.len, MSG_NOSIGNAL);
        if (n >= 0) {
            buf_consume(&s->out, (size_t)n);
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR) {
            fail_errno(s, "write");
            return;
        }
    }
    watch(s);
    if (buf_len(&s->out) == 0 && !s->broken && s->events->on_drained) s->events->on_drained(s->arg);
}

static void on_ready(void *arg, int ready) {
    struct stream *s = arg;
    if (ready & IO_READ && !s->paused && !s->broken) on_readable(s);
    else if (ready & IO_WRITE) stream_flush(s);
}

static void on_flush(void *arg) {
    stream_flush(arg);
}

struct stream *stream_new(struct loop *loop, int fd, size_t in_cap, size_t out_cap, const struct stream_events *events,
                          void *arg) {
    struct stream *s = mem_zalloc(sizeof *s);
    *s = (struct stream){.loop = loop, .fd = fd, .events = events, .arg = arg};
    s->flush = (struct defer){.fn = on_flush, .arg = s};
    s->destroy = (struct defer){.fn = on_destroy, .arg = s};
    buf_init(&s->in, in_cap);
    buf_init(&s->out, out_cap);
    int flags = fcntl(fd, F_GETFL);
    MUST(flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
    s->io = io_new(loop, fd, on_ready, s);
    watch(s);
    return s;
}

void stream_free(struct stream *s) {
    if (!s || !s->io) return;
    s->broken = true;
    loop_defer_cancel(s->loop, &s->flush);
    io_free(s->io);
    s->io = NULL;
    close(s->fd);
    loop_defer(s->loop, &s->destroy);
}

struct str stream_input(const struct stream *s) {
    return buf_str(&s->in);
}

void stream_consume(struct stream *s, size_t bytes) {
    buf_consume(&s->in, bytes);
}

bool stream_read_now(struct stream *s) {
    size_t free_bytes = s->in.cap - buf_len(&s->in);
    size_t want = free_bytes < READ_BYTES ? free_bytes : READ_BYTES;
    if (want == 0) return false;
    char *at = buf_reserve(&s->in, want);
    ssize_t n = read(s->fd, at, want);
    if (n > 0) buf_added(&s->in, (size_t)n);
    return n > 0;
}

void stream_pause(struct stream *s, bool paused) {
    s->paused = paused;
    watch(s);
}

int stream_write(struct stream *s, struct str bytes) {
    if (s->broken) return 0; // on_close has told or will tell
    int rc = buf_append(&s->out, bytes);
    if (rc == 0) loop_defer(s->loop, &s->flush);
    return rc;
}

size_t stream_unsent(const struct stream *s) {
    return buf_len(&s->out);
}
