// SPDX-License-Identifier: Apache-2.0
// Invariant: on_empty is told from a deferred call only, so that whoever reports the last answer still finds the sink.
#include "core/sink_room.h"

struct sink_refusal {
    struct sink_refusal *next;
    struct err err;
    sink_done_fn *done;
    void *arg;
};

static void tell(void *arg) {
    struct sink_room *room = arg;
    struct sink_refusal *r;
    while ((r = room->refusals)) { // one at a time: a callback may send again
        room->refusals = r->next;
        if (!room->refusals) room->last_refusal = &room->refusals;
        r->done(r->arg, r->err.code, &r->err);
        free(r);
    }
    if (!room->closing || room->messages || !room->on_empty) return;
    void (*on_empty)(void *) = room->on_empty;
    room->on_empty = NULL;
    loop_defer_cancel(room->loop, &room->tell); // a callback above may have asked for it again
    on_empty(room->arg);
}

void sink_room_init(struct sink_room *room, struct loop *loop) {
    *room = (struct sink_room){.loop = loop, .tell = {.fn = tell, .arg = room}};
    room->last_refusal = &room->refusals;
}

size_t sink_message_bytes(const struct sink_message *m) {
    size_t bytes = 256 + m->to.len + m->key.len + m->content_type.len + m->message_id.len + m->payload.len;
    for (size_t i = 0; i < m->header_count; i++) bytes += m->headers[i].name.len + m->headers[i].value.len + 32;
    return bytes;
}

int sink_room_enter(struct sink_room *room, size_t bytes, struct err *err) {
    if (room->closing) return err_set(err, ERR_UNAVAILABLE, "the sink is being closed");
    if (room->messages >= SINK_MESSAGES_MAX || (room->messages && room->bytes + bytes > SINK_BYTES_MAX))
        return err_set(err, ERR_BUSY, "too much is under way to the broker already; try again");
    room->messages++;
    room->bytes += bytes;
    return 0;
}

void sink_room_leave(struct sink_room *room, size_t bytes) {
    MUST(room->messages && room->bytes >= bytes);
    room->messages--;
    room->bytes -= bytes;
    sink_room_check(room);
}

void sink_room_refuse(struct sink_room *room, const struct err *err, sink_done_fn *done, void *arg) {
    struct sink_refusal *r = mem_alloc(sizeof *r);
    *r = (struct sink_refusal){.err = *err, .done = done, .arg = arg};
    *room->last_refusal = r;
    room->last_refusal = &r->next;
    loop_defer(room->loop, &room->tell);
}

void sink_room_close(struct sink_room *room, void (*on_empty)(void *arg), void *arg) {
    room->closing = true;
    room->on_empty = on_empty;
    room->arg = arg;
    sink_room_check(room);
}

void sink_room_check(struct sink_room *room) {
    if (room->closing && room->messages == 0) loop_defer(room->loop, &room->tell);
}
