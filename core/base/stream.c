// SPDX-License-Identifier: Apache-2.0
// Invariants: `io` wants IO_WRITE only while output is left over from a short write; callbacks run with `busy`
// raised, so that a stream_free in them only marks the stream and the outermost frame frees it.
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
    struct defer flush;
    const struct stream_events *events;
    void *arg;
    bool paused, broken, freed;
    int busy; // callbacks under way
};

static void destroy(struct stream *s) {
    loop_defer_cancel(s->loop, &s->flush);
    io_free(s->io);
    close(s->fd);
    buf_done(&s->in);
    buf_done(&s->out);
    free(s);
}

// Ends a callback: frees the stream when it was freed inside. True while it still lives.
static bool leave(struct stream *s) {
    s->busy--;
    if (!s->freed) return true;
    if (s->busy == 0) destroy(s);
    return false;
}

static void watch(struct stream *s) {
    if (s->broken) {
        io_want(s->io, 0);
        return;
    }
    io_want(s->io, (s->paused ? 0 : IO_READ) | (buf_len(&s->out) ? IO_WRITE : 0));
}

static void fail(struct stream *s, const struct err *why) {
    if (s->broken) return;
    s->broken = true;
    watch(s);
    s->busy++;
    s->events->on_close(s->arg, why);
    leave(s);
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
        s->busy++;
        s->events->on_read(s->arg);
        leave(s);
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
    if (buf_len(&s->out) == 0 && !s->broken && s->events->on_drained) {
        s->busy++;
        s->events->on_drained(s->arg);
        leave(s);
    }
}

static void on_ready(void *arg, int ready) {
    struct stream *s = arg;
    s->busy++;
    if (ready & IO_READ && !s->paused && !s->broken) on_readable(s);
    else if (ready & IO_WRITE && !s->freed) stream_flush(s);
    leave(s);
}

static void on_flush(void *arg) {
    struct stream *s = arg;
    s->busy++;
    stream_flush(s);
    leave(s);
}

struct stream *stream_new(struct loop *loop, int fd, size_t in_cap, size_t out_cap, const struct stream_events *events,
                          void *arg) {
    struct stream *s = mem_zalloc(sizeof *s);
    *s = (struct stream){.loop = loop, .fd = fd, .events = events, .arg = arg};
    s->flush = (struct defer){.fn = on_flush, .arg = s};
    buf_init(&s->in, in_cap);
    buf_init(&s->out, out_cap);
    int flags = fcntl(fd, F_GETFL);
    MUST(flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
    s->io = io_new(loop, fd, on_ready, s);
    watch(s);
    return s;
}

void stream_free(struct stream *s) {
    if (!s || s->freed) return;
    s->freed = true;
    s->broken = true;
    if (s->busy == 0) destroy(s);
    else watch(s);
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
