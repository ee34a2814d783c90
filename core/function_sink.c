// SPDX-License-Identifier: Apache-2.0
// Another function as a sink: an async event through core/ingest, as from any other source. ingest refuses over its queue's
// cap by itself, and its answer is the sink's.
#include "core/ingest.h"
#include "core/sink_room.h"

struct function_sink {
    struct sink sink; // first
    struct sink_room room;
    struct ingest *ingest;
    char *source_name;
    void (*on_closed)(void *arg);
    void *arg;
};

struct flight {
    struct function_sink *sink;
    size_t bytes;
    sink_done_fn *done;
    void *arg;
};

static void on_accepted(void *arg, int code, const struct err *err) {
    struct flight flight = *(struct flight *)arg;
    free(arg);
    sink_room_leave(&flight.sink->room, flight.bytes);
    flight.done(flight.arg, code, err);
}

static struct ev *event_of(const struct function_sink *s, const struct sink_message *m) {
    const struct ev_fields f = {.function = m->to,
                                .invocation = EV_ASYNC,
                                .source_kind = STR_LIT("function"),
                                .source_name = str_of(s->source_name),
                                .ordering_key = m->key,
                                .content_type = m->content_type,
                                .payload = m->payload,
                                .headers = m->headers,
                                .header_count = m->header_count};
    return ev_new(&f);
}

static void function_send(struct sink *sink, const struct sink_message *m, sink_done_fn *done, void *arg) {
    struct function_sink *s = container_of(sink, struct function_sink, sink);
    struct err err = {0};
    size_t bytes = sink_message_bytes(m);
    if (sink_room_enter(&s->room, bytes, &err)) {
        sink_room_refuse(&s->room, &err, done, arg);
        return;
    }
    struct flight *flight = mem_alloc(sizeof *flight);
    *flight = (struct flight){.sink = s, .bytes = bytes, .done = done, .arg = arg};
    ingest_async(s->ingest, event_of(s, m), on_accepted, flight);
}

static void on_empty(void *arg) {
    struct function_sink *s = arg;
    void (*on_closed)(void *) = s->on_closed;
    void *closed_arg = s->arg;
    free(s->source_name);
    free(s);
    on_closed(closed_arg);
}

static void function_close(struct sink *sink, void (*on_closed)(void *arg), void *arg) {
    struct function_sink *s = container_of(sink, struct function_sink, sink);
    s->on_closed = on_closed;
    s->arg = arg;
    sink_room_close(&s->room, on_empty, s);
}

struct sink *function_sink_open(struct loop *loop, struct ingest *ingest, struct str source_name) {
    static const struct sink_ops ops = {.ce_prefix = "ce-", .send = function_send, .close = function_close};
    struct function_sink *s = mem_zalloc(sizeof *s);
    s->sink.ops = &ops;
    s->ingest = ingest;
    s->source_name = mem_strndup(source_name);
    sink_room_init(&s->room, loop);
    return &s->sink;
}
