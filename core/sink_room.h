// SPDX-License-Identifier: Apache-2.0
// What is under way in a sink: its cap, and answers that were known at once and are told at the end of the turn.
//
// Owns: the refusals. Flow: sink_room_enter -> … -> sink_room_leave and the caller's done; or sink_room_refuse, which tells done
//   later. Threads: the loop's. Memory: SINK_MESSAGES_MAX messages and about SINK_BYTES_MAX of them.
#ifndef CORE_SINK_ROOM_H
#define CORE_SINK_ROOM_H

#include "core/base/loop.h"
#include "core/sink.h"

#define SINK_MESSAGES_MAX 16384
#define SINK_BYTES_MAX (64u * 1024 * 1024)

struct sink_refusal;
struct sink_room {
    struct loop *loop;
    size_t messages, bytes;          // under way
    struct sink_refusal *refusals, **last_refusal;
    struct defer tell;
    void (*on_empty)(void *arg);     // once, after sink_room_close, when nothing is left; may free the room's owner
    void *arg;
    bool closing;
};
void sink_room_init(struct sink_room *room, struct loop *loop);

// About what a message takes.
size_t sink_message_bytes(const struct sink_message *m);
// ERR_BUSY when there is no room; a message that is larger than all the room goes alone.
int sink_room_enter(struct sink_room *room, size_t bytes, struct err *err) must_use;
void sink_room_leave(struct sink_room *room, size_t bytes); // before done is told
// done hears err at the end of this turn.
void sink_room_refuse(struct sink_room *room, const struct err *err, sink_done_fn *done, void *arg);
// on_empty runs once nothing is under way and every refusal was told, never inside the call.
void sink_room_close(struct sink_room *room, void (*on_empty)(void *arg), void *arg);
void sink_room_check(struct sink_room *room); // after the last done of a batch

#endif
