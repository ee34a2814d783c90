// SPDX-License-Identifier: Apache-2.0
// The consumers of the embedded queue: handing out what is held, fetching what is not, acknowledging.
//
// A consumer's tag is a slot of its table and the slot's generation, so that a tag that was settled is known as such.
// A consumer that is closed stays until the last of its acks has reached the disk.
#include "core/queue_embedded.h"

#define BATCH_MAX 256
#define HELD_MIN 256          // messages of a lane in memory beyond those that are handed out
#define HELD_MAX 8192
#define HELD_BYTES_MIN (1024u * 1024)
#define HELD_BYTES_MAX (64u * 1024 * 1024)
#define NO_SLOT UINT32_MAX

struct slot {
    int64_t id;
    size_t bytes;
    uint32_t deliveries;
    uint32_t generation;
    uint32_t next_free;
    bool used;
};

struct embedded_consumer {
    struct queue_consumer base;
    struct lane *lane;
    struct embedded_consumer *next;        // of the lane
    struct queue_consumer_config config;
    struct slot *slots;
    uint32_t slot_count, slot_room, free_slot;
    size_t out, out_bytes;                 // handed out and not settled
    int64_t *acks;                         // of this turn
    size_t ack_count, ack_room;
    struct embedded_consumer *next_acking;
    size_t committing;                     // acks on their way to the disk
    bool busy;                             // in its callback
    bool closed, paused;
};

static struct embedded_consumer *consumer_of(struct queue_consumer *c) {
    return container_of(c, struct embedded_consumer, base);
}

static void reap(struct embedded_consumer *c) {
    if (!c->closed || c->busy || c->ack_count || c->committing) return;
    free(c->slots);
    free(c->acks);
    free(c);
}

// ---- held and given back ---------------------------------------------------------------------------------------------------

size_t embedded_held_cap(const struct lane *lane) {
    size_t cap = lane->credit * 2;
    return cap < HELD_MIN ? HELD_MIN : cap > HELD_MAX ? HELD_MAX : cap;
}

static size_t held_bytes_cap(const struct lane *lane) {
    size_t cap = lane->credit_bytes > HELD_BYTES_MAX / 2 ? HELD_BYTES_MAX : lane->credit_bytes * 2;
    return cap < HELD_BYTES_MIN ? HELD_BYTES_MIN : cap;
}

static void add_held(struct lane *lane, const struct embedded_held *held) {
    size_t end = lane->held_start + lane->held_count;
    if (end == lane->held_room && lane->held_start > lane->held_room / 2) {
        memmove(lane->held, lane->held + lane->held_start, lane->held_count * sizeof *lane->held);
        lane->held_start = 0;
        end = lane->held_count;
    }
    if (end == lane->held_room) {
        lane->held_room = lane->held_room ? lane->held_room * 2 : 64;
        lane->held = mem_realloc(lane->held, lane->held_room * sizeof *lane->held);
    }
    lane->held[end] = *held;
    lane->held_count++;
    lane->held_bytes += held->bytes;
}

static struct embedded_held take_held(struct lane *lane) {
    struct embedded_held held = lane->held[lane->held_start++];
    lane->held_bytes -= held.bytes;
    if (--lane->held_count == 0) lane->held_start = 0;
    return held;
}

bool embedded_hold(struct lane *lane, const struct embedded_held *held) {
    if (!lane->consumers || lane->held_count >= embedded_held_cap(lane)) return false;
    if (lane->held_count && lane->held_bytes + held->bytes > held_bytes_cap(lane)) return false;
    add_held(lane, held);
    return true;
}

static void add_back(struct lane *lane, int64_t id, uint32_t deliveries) {
    if (lane->deleted) return;
    if (lane->back_count == lane->back_room) {
        lane->back_room = lane->back_room ? lane->back_room * 2 : 64;
        lane->backs = mem_realloc(lane->backs, lane->back_room * sizeof *lane->backs);
    }
    lane->backs[lane->back_count++] = (struct embedded_back){id, deliveries};
}

void embedded_drop_held(struct lane *lane) {
    while (lane->held_count) {
        struct embedded_held held = take_held(lane);
        add_back(lane, held.id, held.deliveries);
        embedded_held_done(&held);
    }
}

// ---- handing out -------------------------------------------------------------------------------------------------------------

static bool has_credit(const struct embedded_consumer *c) {
    return !c->paused && c->out < c->config.credit && (c->out == 0 || c->out_bytes < c->config.credit_bytes);
}

static uint32_t take_slot(struct embedded_consumer *c) {
    if (c->free_slot != NO_SLOT) {
        uint32_t at = c->free_slot;
        c->free_slot = c->slots[at].next_free;
        return at;
    }
    if (c->slot_count == c->slot_room) {
        c->slot_room = c->slot_room ? c->slot_room * 2 : 16;
        c->slots = mem_realloc(c->slots, c->slot_room * sizeof *c->slots);
    }
    c->slots[c->slot_count] = (struct slot){0};
    return c->slot_count++;
}

static uint64_t give_slot(struct embedded_consumer *c, const struct embedded_held *held) {
    uint32_t at = take_slot(c);
    struct slot *slot = &c->slots[at];
    *slot = (struct slot){.id = held->id,
                          .bytes = held->bytes,
                          .deliveries = held->deliveries,
                          .generation = slot->generation + 1,
                          .used = true};
    c->out++;
    c->out_bytes += held->bytes;
    c->lane->unsettled++;
    return (uint64_t)slot->generation << 32 | at;
}

// The slot of a tag, now free; false when the tag was settled before.
static bool settle_slot(struct embedded_consumer *c, uint64_t tag, struct slot *ret) {
    uint32_t at = (uint32_t)tag;
    if (at >= c->slot_count || !c->slots[at].used || c->slots[at].generation != tag >> 32) return false;
    struct slot *slot = &c->slots[at];
    *ret = *slot;
    slot->used = false;
    slot->next_free = c->free_slot;
    c->free_slot = at;
    c->out--;
    c->out_bytes -= slot->bytes;
    return true;
}

static bool may_hand_out(const struct lane *lane) {
    return lane->held_count && lane->held[lane->held_start].id <= lane->mark;
}

// The next consumer with credit; it goes to the end of the line.
static struct embedded_consumer *next_consumer(struct lane *lane) {
    struct embedded_consumer **at = &lane->consumers;
    while (*at && !has_credit(*at)) at = &(*at)->next;
    struct embedded_consumer *c = *at;
    if (!c) return NULL;
    *at = c->next;
    c->next = NULL;
    for (at = &lane->consumers; *at; at = &(*at)->next) continue;
    *at = c;
    return c;
}

// One batch to one consumer; false when there is nothing to hand out or nobody to take it.
static bool hand_out(struct lane *lane) {
    struct embedded_consumer *c = may_hand_out(lane) ? next_consumer(lane) : NULL;
    if (!c) return false;
    struct queue_msg msgs[BATCH_MAX];
    char *whys[BATCH_MAX];
    size_t n = 0;
    while (n < BATCH_MAX && may_hand_out(lane) && has_credit(c)) {
        struct embedded_held held = take_held(lane);
        whys[n] = held.why;
        msgs[n++] = (struct queue_msg){.tag = give_slot(c, &held),
                                       .ev = held.ev,
                                       .delivery_count = held.deliveries,
                                       .content = held.content,
                                       .why = str_of(held.why)};
    }
    c->busy = true;
    c->config.on_messages(c->config.arg, msgs, n);
    c->busy = false;
    for (size_t i = 0; i < n; i++) free(whys[i]);
    reap(c);
    return true;
}

// ---- fetching ----------------------------------------------------------------------------------------------------------------

static int by_id(const void *a, const void *b) {
    const struct embedded_back *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

// Moves the oldest of what was given back into the job.
static void take_backs(struct lane *lane, struct embedded_fetch *f, size_t room) {
    f->back_count = lane->back_count < room ? lane->back_count : room;
    if (f->back_count == 0) return;
    qsort(lane->backs, lane->back_count, sizeof *lane->backs, by_id);
    f->backs = mem_array(f->back_count, sizeof *f->backs);
    memcpy(f->backs, lane->backs, f->back_count * sizeof *f->backs);
    lane->back_count -= f->back_count;
    memmove(lane->backs, lane->backs + f->back_count, lane->back_count * sizeof *lane->backs);
}

static void adopt_fetched(struct lane *lane, struct embedded_fetch *f) {
    size_t first_ranged = f->got_count - f->ranged;
    for (size_t i = 0; i < f->got_count; i++) {
        add_held(lane, &f->got[i]);
        if (i >= first_ranged) lane->cursor = f->got[i].id;
    }
    f->got_count = 0;
    if (f->reached_end) lane->on_disk = false;
    if (f->mark.delivered_id > lane->mark) lane->mark = f->mark.delivered_id;
    lane->stored = true;
    if (!lane->consumers) embedded_drop_held(lane);
}

static void on_fetched(struct store_job *job, int code, const struct err *err) {
    struct embedded_fetch *f = container_of(job, struct embedded_fetch, base.job);
    struct lane *lane = f->mark.lane;
    struct embedded *q = lane->q;
    lane->fetching = false;
    if (code) {
        log_repeating(&q->trouble_log, LOG_LEVEL_ERROR, "queue", "cannot read events", err->text);
        for (size_t i = 0; i < f->back_count; i++) add_back(lane, f->backs[i].id, f->backs[i].deliveries);
        if (!q->closing) embedded_back_off(q);
    } else if (!lane->deleted) {
        adopt_fetched(lane, f);
        embedded_touch(lane);
    }
    embedded_free_fetch(f);
    embedded_job_done(q, code);
}

static bool wants_rows(const struct lane *lane) {
    if (!lane->on_disk && lane->back_count == 0) return false;
    return lane->held_count <= embedded_held_cap(lane) / 2 && lane->held_bytes <= held_bytes_cap(lane) / 2;
}

int64_t embedded_mark_target(const struct lane *lane) {
    int64_t target = lane->mark;
    size_t n = lane->held_count < lane->credit ? lane->held_count : lane->credit;
    if (n > 0) {
        const struct embedded_held *held = lane->held + lane->held_start;
        // Only messages that were given back are out of order, and the mark has passed them.
        if (held[0].id > target) target = held[0].id;
        if (held[n - 1].id > target) target = held[n - 1].id;
    }
    if (lane->on_disk || n == lane->credit) return target;
    int64_t ahead = lane->cursor + (int64_t)(lane->credit - n); // those that are on their way to the disk
    if (ahead > lane->last_id) ahead = lane->last_id;
    return ahead > target ? ahead : target;
}

// Before the mark stops the handing out: when half of it is used up.
static bool wants_mark(const struct lane *lane) {
    size_t half = lane->credit / 2 + 1;
    size_t n = lane->held_count < half ? lane->held_count : half;
    return n > 0 && (!may_hand_out(lane) || lane->held[lane->held_start + n - 1].id > lane->mark);
}

static void fetch(struct lane *lane) {
    struct embedded *q = lane->q;
    if (lane->fetching || !lane->consumers || q->backing_off || q->closing) return;
    bool rows = wants_rows(lane);
    if (!rows && !wants_mark(lane)) return;
    struct embedded_fetch *f = mem_zalloc(sizeof *f);
    f->mark = (struct embedded_mark){
        .lane = lane, .queue_id = lane->queue_id, .function = str_of(lane->function)};
    f->mark.delivered_id = embedded_mark_target(lane);
    f->mark_rows = lane->credit > lane->held_count ? lane->credit - lane->held_count : 0;
    if (rows) {
        size_t room = embedded_held_cap(lane) - lane->held_count;
        take_backs(lane, f, room);
        f->cursor = lane->cursor;
        f->limit = lane->on_disk ? room - f->back_count : 0;
        f->bytes_limit = held_bytes_cap(lane) - lane->held_bytes;
    }
    lane->fetching = true;
    embedded_submit(q, &f->base, embedded_run_fetch, on_fetched);
}

void embedded_serve(struct lane *lane) {
    if (lane->deleted || !lane->q->loaded) return;
    lane->serving = true;
    while (!lane->deleted && hand_out(lane)) continue;
    lane->serving = false;
    if (!lane->deleted) fetch(lane);
}

// ---- settling ----------------------------------------------------------------------------------------------------------------

static void ack(struct queue_consumer *base, uint64_t tag) {
    struct embedded_consumer *c = consumer_of(base);
    struct embedded *q = c->lane->q;
    struct slot slot;
    if (!settle_slot(c, tag, &slot)) return;
    if (c->ack_count == c->ack_room) {
        c->ack_room = c->ack_room ? c->ack_room * 2 : 64;
        c->acks = mem_realloc(c->acks, c->ack_room * sizeof *c->acks);
    }
    if (c->ack_count == 0) {
        c->next_acking = q->acking;
        q->acking = c;
    }
    c->acks[c->ack_count++] = slot.id;
    embedded_touch(c->lane);
    embedded_wake(q);
}

static void release(struct queue_consumer *base, uint64_t tag) {
    struct embedded_consumer *c = consumer_of(base);
    struct slot slot;
    if (!settle_slot(c, tag, &slot)) return;
    c->lane->unsettled--;
    add_back(c->lane, slot.id, slot.deliveries); // not counted: it did not kill anybody
    embedded_touch(c->lane);
}

static size_t unsettled(const struct queue_consumer *base) {
    const struct embedded_consumer *c = (const struct embedded_consumer *)(const void *)base;
    return c->ack_count + c->committing;
}

static void on_acked(struct store_job *job, int code, const struct err *err) {
    struct embedded_ack *a = container_of(job, struct embedded_ack, base.job);
    struct embedded *q = a->base.q;
    if (code && embedded_retry_job(q, &a->base, "cannot delete finished events", err)) {
        embedded_job_done(q, code);
        return;
    }
    for (size_t i = 0; i < a->part_count; i++) {
        struct embedded_consumer *c = a->parts[i].consumer;
        struct lane *lane = c->lane;
        size_t n = a->parts[i].count;
        c->committing -= n;
        lane->unsettled -= n;
        if (code == 0) lane->count -= n;
        reap(c);
    }
    embedded_free_ack(a);
    embedded_job_done(q, code);
}

void embedded_flush_acks(struct embedded *q) {
    size_t count = 0, parts = 0;
    for (struct embedded_consumer *c = q->acking; c; c = c->next_acking) {
        count += c->ack_count;
        parts++;
    }
    if (count == 0) return;
    struct embedded_ack *a = mem_zalloc(sizeof *a);
    a->ids = mem_array(count, sizeof *a->ids);
    a->parts = mem_array(parts, sizeof *a->parts);
    for (struct embedded_consumer *c = q->acking; c; c = c->next_acking) {
        memcpy(a->ids + a->count, c->acks, c->ack_count * sizeof *a->ids);
        a->count += c->ack_count;
        a->parts[a->part_count++] = (struct embedded_ack_part){c, c->ack_count};
        c->committing += c->ack_count;
        c->ack_count = 0;
    }
    q->acking = NULL;
    embedded_submit(q, &a->base, embedded_run_ack, on_acked);
}

// ---- open and close ------------------------------------------------------------------------------------------------------------

// It keeps its tags and leaves its place to others.
static void leave_lane(struct embedded_consumer *c) {
    struct lane *lane = c->lane;
    if (c->paused) return;
    c->paused = true;
    struct embedded_consumer **at = &lane->consumers;
    while (*at != c) at = &(*at)->next;
    *at = c->next;
    lane->credit -= c->config.credit;
    lane->credit_bytes -= c->config.credit_bytes;
    if (!lane->consumers) embedded_drop_held(lane);
    else embedded_touch(lane);
}

static void consumer_pause(struct queue_consumer *base) {
    leave_lane(consumer_of(base));
}

static void consumer_close(struct queue_consumer *base) {
    struct embedded_consumer *c = consumer_of(base);
    struct lane *lane = c->lane;
    leave_lane(c);
    lane->q->open_consumers--;
    for (uint32_t i = 0; i < c->slot_count; i++) {
        if (!c->slots[i].used) continue;
        lane->unsettled--;
        add_back(lane, c->slots[i].id, c->slots[i].deliveries);
    }
    if (lane->consumers) embedded_touch(lane);
    c->closed = true;
    reap(c);
}

static const struct queue_consumer_ops consumer_ops = {
    .pause = consumer_pause, .close = consumer_close, .ack = ack, .release = release, .unsettled = unsettled};

struct queue_consumer *embedded_consume(struct queue *base, const struct queue_consumer_config *config) {
    struct embedded *q = embedded_of(base);
    struct lane *lane = embedded_lane(q, config->function);
    struct embedded_consumer *c = mem_zalloc(sizeof *c);
    *c = (struct embedded_consumer){.base.ops = &consumer_ops, .lane = lane, .config = *config, .free_slot = NO_SLOT};
    c->config.function = str_of(lane->function);
    c->next = lane->consumers;
    lane->consumers = c;
    lane->credit += config->credit;
    lane->credit_bytes += config->credit_bytes;
    q->open_consumers++;
    embedded_touch(lane);
    return &c->base;
}
