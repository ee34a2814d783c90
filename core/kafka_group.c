// SPDX-License-Identifier: Apache-2.0
// The Kafka source as a member of its group: partitions come and go, and what is finished is committed.
//
// librdkafka waits for the answer to a rebalance, so it is given when it is right:
//   assigned -> on a thread: committed offsets and metadata, and the ends of partitions without any -> parts, assign;
//     until then nothing of these partitions is read, nor committed. Failing, it is tried again with back-off.
//   revoked -> no more records of them; what runs may end (at most revoke_ms) -> commit -> unassign. Lost: no commit; what it
//     would have said is kept (kafka_kept.c). Until then librdkafka 2.0 pauses the partitions that stay, too.
// No commit while librdkafka joins anew: the broker would see it after the join, with a generation that is over, and librdkafka would
//   take the whole assignment for lost. Only its statistics tell, so a commit goes out right when they say that it does not
//   join, or when librdkafka waits for our answer to a revocation.
// One commit is under way at a time; its result comes to the control queue. A commit that failed is tried again with the next.
// An offset out of range (a topic deleted and made again, records that retention took): the log is told, and reading goes on
//   where the partition begins, or, when the offset is beyond the end, as `from` says.
#include "core/base/clock.h"
#include "core/kafka_source.h"
#include "core/offload.h"

#define ASK_MS 5000
#define ASSIGN_AGAIN_FIRST_MS 200
#define ASSIGN_AGAIN_MAX_MS 5000
#define COMMIT_AGAIN_MS 200       // after a failure, when it is urgent
#define REVOKE_COMMIT_MS 15000    // longer than a request goes without an answer (socket.timeout.ms)
#define FORWARD_MS 10000
#define STATISTICS_FRESH_MS 50
#define STATISTICS_LATE 10

typedef rd_kafka_topic_partition_list_t plist;

static bool is_eager(const struct kafka_source *s) {
    const char *protocol = rd_kafka_rebalance_protocol(s->client->rk);
    return protocol && strcmp(protocol, "EAGER") == 0;
}

static void failed(struct kafka_source *s, const char *what, rd_kafka_error_t *error) {
    if (!error) return;
    kafka_note_error(s, what, rd_kafka_error_code(error), rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
}

static void note_up(struct kafka_source *s) {
    s->up = true;
    s->error[0] = '\0';
}

// --- where partitions begin, asked on a thread ----------------------------------------------------------------------

struct ask_work {
    struct kafka_client *client;
    plist *committed, *low, *high; // low and high: of those without a committed offset, or of the one to be reset
    rd_kafka_resp_err_t code;
};
struct assign_work {
    struct ask_work ask;
};
struct reset_work {
    struct ask_work ask;
    int32_t number;
    uint32_t generation;
};

static void ask_done(struct ask_work *a) {
    if (a->committed) rd_kafka_topic_partition_list_destroy(a->committed);
    if (a->low) rd_kafka_topic_partition_list_destroy(a->low);
    if (a->high) rd_kafka_topic_partition_list_destroy(a->high);
    kafka_client_unref(a->client);
}

// The first and the last offset of each: what offsets_for_times says to these two "times".
static rd_kafka_resp_err_t ask_ends(struct ask_work *a, const char *topic) {
    for (int i = 0; i < a->low->cnt; i++) {
        a->low->elems[i].offset = RD_KAFKA_OFFSET_BEGINNING;
        rd_kafka_topic_partition_list_add(a->high, topic, a->low->elems[i].partition)->offset = RD_KAFKA_OFFSET_END;
    }
    if (a->low->cnt == 0) return RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_resp_err_t code = rd_kafka_offsets_for_times(a->client->rk, a->low, ASK_MS);
    if (!code) code = rd_kafka_offsets_for_times(a->client->rk, a->high, ASK_MS);
    for (int i = 0; i < a->low->cnt && !code; i++) {
        code = a->low->elems[i].err ? a->low->elems[i].err : a->high->elems[i].err;
        if (!code && (a->low->elems[i].offset < 0 || a->high->elems[i].offset < 0)) code = RD_KAFKA_RESP_ERR__NO_OFFSET;
    }
    return code;
}

static void work_assign(void *arg) { // on a thread
    struct ask_work *a = &((struct assign_work *)arg)->ask;
    a->code = rd_kafka_committed(a->client->rk, a->committed, ASK_MS);
    const char *topic = NULL;
    for (int i = 0; i < a->committed->cnt && !a->code; i++) {
        const rd_kafka_topic_partition_t *e = &a->committed->elems[i];
        a->code = e->err;
        topic = e->topic;
        if (e->offset < 0) rd_kafka_topic_partition_list_add(a->low, topic, e->partition);
    }
    if (!a->code && topic) a->code = ask_ends(a, topic);
}

static void work_reset(void *arg) { // on a thread
    struct ask_work *a = &((struct reset_work *)arg)->ask;
    a->code = ask_ends(a, a->low->elems[0].topic);
}

// --- assigned -------------------------------------------------------------------------------------------------------

static void rebalance_done(struct kafka_source *s) {
    if (s->rebalance_list) rd_kafka_topic_partition_list_destroy(s->rebalance_list);
    s->rebalance_list = NULL;
    s->rebalance = REBALANCE_NONE;
    s->assign_work = NULL;
    s->assign_again_ns = 0;
}

static void make_room(struct kafka_source *s, uint32_t count) {
    if (count <= s->part_room) return;
    uint32_t room = s->part_room ? s->part_room : 16;
    while (room < count) room *= 2;
    s->parts = mem_realloc(s->parts, room * sizeof *s->parts);
    memset(s->parts + s->part_room, 0, (room - s->part_room) * sizeof *s->parts);
    s->kept = mem_realloc(s->kept, room * sizeof *s->kept);
    memset(s->kept + s->part_room, 0, (room - s->part_room) * sizeof *s->kept);
    s->part_room = room;
}

static void forward_records(struct kafka_source *s, int32_t number) {
    rd_kafka_queue_t *q = rd_kafka_queue_get_partition(s->client->rk, s->conf.topic, number);
    if (!q) return;
    rd_kafka_queue_forward(q, s->client->records);
    rd_kafka_queue_destroy(q);
}

// Stopping to fetch from a partition ends the forwarding of its queue, some time after unassign, so it is said more than once.
static void forward_for_a_while(struct kafka_source *s, struct kafka_part *p) {
    forward_records(s, p->number);
    p->forward_until_ns = clock_mono_ns() + FORWARD_MS * NS_PER_MS;
}

static struct str metadata_of(const rd_kafka_topic_partition_t *e) {
    return (struct str){e->metadata ? e->metadata : "", e->metadata ? e->metadata_size : 0};
}

static struct kafka_part *add_part(struct kafka_source *s, const rd_kafka_topic_partition_t *e, int64_t start) {
    make_room(s, (uint32_t)e->partition + 1);
    if (s->parts[e->partition]) kafka_part_drop(s, s->parts[e->partition]);
    struct kafka_part *p = s->parts[e->partition] = mem_zalloc(sizeof *p);
    p->number = e->partition;
    s->generation = (s->generation + 1) % KAFKA_GENERATIONS;
    p->generation = s->generation;
    p->committed = e->offset >= 0 ? e->offset : -1;
    p->dirty = e->offset < 0; // where a group begins is committed, so that "latest" is the same place the next time
    kafka_part_describe(p, s->conf.topic);
    struct str metadata = e->offset >= 0 ? metadata_of(e) : STR_LIT("");
    if (!kafka_kept_begin(s, p, metadata) && !offsets_begin(&p->offsets, start, metadata))
        log_info("kafka", "the metadata of a commit is not weir's and is ignored", LOG_STR("trigger", s->conf.trigger),
                 LOG_INT("partition", p->number));
    forward_for_a_while(s, p);
    return p;
}

static int64_t start_of(const struct kafka_source *s, const struct ask_work *a, const rd_kafka_topic_partition_t *e) {
    if (e->offset >= 0) return e->offset;
    const plist *ends = strcmp(s->conf.from, "earliest") == 0 ? a->low : a->high;
    for (int i = 0; i < ends->cnt; i++)
        if (ends->elems[i].partition == e->partition) return ends->elems[i].offset;
    return RD_KAFKA_OFFSET_INVALID; // not reached: without committed offset it was asked for
}

static void assign(struct kafka_source *s, const plist *list) {
    if (is_eager(s)) {
        rd_kafka_resp_err_t code = rd_kafka_assign(s->client->rk, list);
        if (code) kafka_note_error(s, "cannot assign", code, NULL);
    } else {
        failed(s, "cannot assign", rd_kafka_incremental_assign(s->client->rk, list));
    }
    log_info("kafka", "partitions assigned", LOG_STR("trigger", s->conf.trigger), LOG_STR("topic", s->conf.topic),
             LOG_INT("count", list->cnt));
    rebalance_done(s);
}

static void finish_assign(struct kafka_source *s, const struct ask_work *a) {
    plist *list = rd_kafka_topic_partition_list_new(a->committed->cnt);
    for (int i = 0; i < a->committed->cnt; i++) {
        const rd_kafka_topic_partition_t *e = &a->committed->elems[i];
        if (e->partition < 0 || (uint32_t)e->partition >= KAFKA_PARTITIONS_MAX) continue;
        const struct kafka_part *p = add_part(s, e, start_of(s, a, e));
        rd_kafka_topic_partition_list_add(list, e->topic, e->partition)->offset = p->offsets.position;
    }
    note_up(s);
    s->assign_wait_ms = 0;
    assign(s, list);
    rd_kafka_topic_partition_list_destroy(list);
}

static void on_assign_asked(void *arg) {
    struct assign_work *w = arg;
    struct kafka_source *s = w->ask.client->source;
    if (s && s->assign_work == w) {
        s->assign_work = NULL;
        if (w->ask.code == RD_KAFKA_RESP_ERR_NO_ERROR) {
            finish_assign(s, &w->ask);
        } else {
            s->assign_wait_ms = s->assign_wait_ms ? s->assign_wait_ms * 2 : ASSIGN_AGAIN_FIRST_MS;
            if (s->assign_wait_ms > ASSIGN_AGAIN_MAX_MS) s->assign_wait_ms = ASSIGN_AGAIN_MAX_MS;
            s->assign_again_ns = clock_mono_ns() + s->assign_wait_ms * NS_PER_MS;
            kafka_note_error(s, "cannot fetch committed offsets", w->ask.code, NULL);
        }
    }
    ask_done(&w->ask);
    free(w);
}

static void start_assign(struct kafka_source *s) {
    s->assign_again_ns = 0;
    struct assign_work *w = s->assign_work = mem_zalloc(sizeof *w);
    w->ask = (struct ask_work){.client = s->client,
                               .committed = rd_kafka_topic_partition_list_new(s->rebalance_list->cnt),
                               .low = rd_kafka_topic_partition_list_new(1),
                               .high = rd_kafka_topic_partition_list_new(1)};
    for (int i = 0; i < s->rebalance_list->cnt; i++)
        rd_kafka_topic_partition_list_add(w->ask.committed, s->conf.topic, s->rebalance_list->elems[i].partition);
    kafka_client_ref(s->client);
    offload_run(s->loop, work_assign, on_assign_asked, w);
}

// --- out of range ---------------------------------------------------------------------------------------------------

// librdkafka has stopped to fetch from the partition, and a seek does not begin it anew: only another assignment does.
static void assign_anew(struct kafka_source *s, struct kafka_part *p) {
    forward_for_a_while(s, p);
    plist *list = rd_kafka_topic_partition_list_new(1);
    for (uint32_t i = 0; i < s->part_room; i++)
        if (s->parts[i] && (s->parts[i] == p || is_eager(s)))
            rd_kafka_topic_partition_list_add(list, s->conf.topic, (int32_t)i)->offset = s->parts[i]->offsets.position;
    if (is_eager(s)) {
        rd_kafka_resp_err_t code = rd_kafka_assign(s->client->rk, list);
        if (code) kafka_note_error(s, "cannot assign", code, NULL);
    } else {
        failed(s, "cannot unassign", rd_kafka_incremental_unassign(s->client->rk, list));
        failed(s, "cannot assign", rd_kafka_incremental_assign(s->client->rk, list));
    }
    rd_kafka_topic_partition_list_destroy(list);
}

static void reset_part(struct kafka_source *s, struct kafka_part *p, int64_t low, int64_t high) {
    int64_t was = p->offsets.position;
    if (was >= low && was <= high) { // in range by now
        assign_anew(s, p);
        return;
    }
    bool at_end = was > high && strcmp(s->conf.from, "latest") == 0;
    int64_t start = at_end ? high : low;
    log_warn("kafka", "the offset is out of range: the topic was made anew, or retention was faster; going on elsewhere",
             LOG_STR("trigger", s->conf.trigger), LOG_INT("partition", p->number), LOG_INT("offset", was), LOG_INT("first", low),
             LOG_INT("end", high), LOG_INT("goes_on_at", start));
    struct offsets *o = &p->offsets;
    for (uint32_t i = 0; i < o->room; i++)
        if (offsets_is_out(o, i)) {
            s->in_flight--;
            s->in_flight_bytes -= o->slots[i].bytes;
        }
    s->generation = (s->generation + 1) % KAFKA_GENERATIONS; // acks for records of the old topic mean nothing
    p->generation = s->generation;
    (void)offsets_begin(o, start, STR_LIT(""));
    p->dirty = true;
    if (p->full) kafka_part_pause(s, p, false);
    p->full = false;
    assign_anew(s, p);
}

static void on_reset_asked(void *arg) {
    struct reset_work *w = arg;
    struct kafka_source *s = w->ask.client->source;
    struct kafka_part *p = s ? kafka_part_of(s, w->number) : NULL;
    if (p && p->generation == w->generation) {
        p->resetting = false;
        if (w->ask.code) {
            kafka_note_error(s, "cannot find the ends of a partition", w->ask.code, NULL);
            p->reset_again_ns = clock_mono_ns() + ASSIGN_AGAIN_MAX_MS / 5 * NS_PER_MS;
        } else {
            reset_part(s, p, w->ask.low->elems[0].offset, w->ask.high->elems[0].offset);
        }
    }
    ask_done(&w->ask);
    free(w);
}

void kafka_group_reset(struct kafka_source *s, struct kafka_part *p) {
    if (p->resetting || p->revoking) return;
    p->resetting = true;
    p->reset_again_ns = 0;
    struct reset_work *w = mem_zalloc(sizeof *w);
    *w = (struct reset_work){.number = p->number, .generation = p->generation};
    w->ask = (struct ask_work){.client = s->client,
                               .low = rd_kafka_topic_partition_list_new(1),
                               .high = rd_kafka_topic_partition_list_new(1)};
    rd_kafka_topic_partition_list_add(w->ask.low, s->conf.topic, p->number);
    kafka_client_ref(s->client);
    offload_run(s->loop, work_reset, on_reset_asked, w);
}

// --- commits --------------------------------------------------------------------------------------------------------

static void add_commit(struct kafka_source *s, struct kafka_part *p, plist *list) {
    char text[OFFSETS_TEXT_MAX + 1];
    rd_kafka_topic_partition_t *e = rd_kafka_topic_partition_list_add(list, s->conf.topic, p->number);
    e->offset = p->sent_offset = offsets_commit_point(&p->offsets);
    e->metadata_size = offsets_encode(&p->offsets, text);
    if (e->metadata_size) e->metadata = mem_strndup((struct str){text, e->metadata_size}); // librdkafka frees it
    p->dirty = false;
    p->acks_sent = p->acks;
    p->acks = 0;
    p->sent_seq = s->commit_seq;
}

static void commit_ended(struct kafka_source *s, struct kafka_part *p, rd_kafka_resp_err_t code) {
    p->sent_seq = 0;
    if (code) {
        p->acks += p->acks_sent;
        p->dirty = true;
    } else {
        p->committed = p->sent_offset;
        s->unsettled -= p->acks_sent;
    }
    p->acks_sent = 0;
}

static void commit_failed(struct kafka_source *s, rd_kafka_resp_err_t code) {
    s->commit_ns = clock_mono_ns() + COMMIT_AGAIN_MS * NS_PER_MS;
    switch (code) {
    case RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION: // a rebalance is on its way
    case RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID:
    case RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS:
        log_debug("kafka", "a commit came between", LOG_STR("why", rd_kafka_err2str(code)));
        return;
    default: log_repeating(&s->commit_log, LOG_LEVEL_WARN, "kafka", "a commit failed; it is tried again", rd_kafka_err2str(code));
    }
    kafka_note_error(s, "a commit failed", code, NULL);
}

static bool wants_commit(const struct kafka_source *s) {
    for (uint32_t i = 0; i < s->part_room; i++)
        if (s->parts[i] && s->parts[i]->dirty && !s->parts[i]->resetting) return true;
    return false;
}

static void commit(struct kafka_source *s) {
    if (s->committing || !s->client || !(s->joined || s->rebalance == REBALANCE_REVOKE_COMMIT)) return;
    plist *list = rd_kafka_topic_partition_list_new(8);
    s->commit_seq++;
    for (uint32_t i = 0; i < s->part_room; i++)
        if (s->parts[i] && s->parts[i]->dirty && !s->parts[i]->resetting) add_commit(s, s->parts[i], list);
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
    if (list->cnt) {
        union { // an opaque that is a number
            uint64_t number;
            void *pointer;
        } opaque = {.number = s->commit_seq};
        s->commit_ns = clock_mono_ns() + s->conf.commit_ms * NS_PER_MS;
        code = rd_kafka_commit_queue(s->client->rk, list, s->client->control, NULL, opaque.pointer);
        s->committing = code == RD_KAFKA_RESP_ERR_NO_ERROR;
        for (int i = 0; code && i < list->cnt; i++) commit_ended(s, s->parts[list->elems[i].partition], code);
        if (code) commit_failed(s, code);
    }
    rd_kafka_topic_partition_list_destroy(list);
}

static void on_committed(struct kafka_source *s, rd_kafka_event_t *event) {
    union {
        void *pointer;
        uint64_t number;
    } opaque = {.pointer = rd_kafka_event_opaque(event)};
    if (!s->committing || opaque.number != s->commit_seq) return;
    s->committing = false;
    rd_kafka_resp_err_t code = rd_kafka_event_error(event), first = code;
    const plist *list = rd_kafka_event_topic_partition_list(event);
    for (int i = 0; list && i < list->cnt; i++) {
        const rd_kafka_topic_partition_t *e = &list->elems[i];
        struct kafka_part *p = kafka_part_of(s, e->partition);
        rd_kafka_resp_err_t own = code ? code : e->err;
        if (p && p->sent_seq == s->commit_seq) commit_ended(s, p, own);
        if (own && !first) first = own;
    }
    for (uint32_t i = 0; i < s->part_room; i++) // what the answer does not name
        if (s->parts[i] && s->parts[i]->sent_seq == s->commit_seq)
            commit_ended(s, s->parts[i], code ? code : RD_KAFKA_RESP_ERR__NO_OFFSET);
    if (first) commit_failed(s, first);
    else note_up(s);
}

// --- revoked --------------------------------------------------------------------------------------------------------

static void unassign(struct kafka_source *s) {
    plist *list = rd_kafka_topic_partition_list_new(s->rebalance_list->cnt);
    for (int i = 0; i < s->rebalance_list->cnt; i++) {
        const rd_kafka_topic_partition_t *e = &s->rebalance_list->elems[i];
        struct kafka_part *p = kafka_part_of(s, e->partition);
        if (!p) continue;
        if (p->full) kafka_part_pause(s, p, false); // it would be paused still when it comes back
        kafka_part_drop(s, p);
        rd_kafka_topic_partition_list_add(list, e->topic, e->partition);
    }
    log_info("kafka", "partitions revoked", LOG_STR("trigger", s->conf.trigger), LOG_STR("topic", s->conf.topic),
             LOG_INT("count", list->cnt));
    if (is_eager(s)) {
        rd_kafka_resp_err_t code = rd_kafka_assign(s->client->rk, NULL);
        if (code) kafka_note_error(s, "cannot unassign", code, NULL);
    } else {
        failed(s, "cannot unassign", rd_kafka_incremental_unassign(s->client->rk, list));
    }
    rd_kafka_topic_partition_list_destroy(list);
    rebalance_done(s);
}

struct revoked {
    bool runs, dirty, in_commit;
};

static struct revoked look_at_revoked(const struct kafka_source *s) {
    struct revoked r = {0};
    for (int i = 0; i < s->rebalance_list->cnt; i++) {
        const struct kafka_part *p = kafka_part_of(s, s->rebalance_list->elems[i].partition);
        if (!p) continue;
        r.runs = r.runs || p->offsets.count > p->offsets.released;
        r.dirty = r.dirty || p->dirty;
        r.in_commit = r.in_commit || p->sent_seq;
    }
    return r;
}

static void go_on_revoking(struct kafka_source *s, int64_t now_ns) {
    bool lost = rd_kafka_assignment_lost(s->client->rk);
    struct revoked r = look_at_revoked(s);
    if (s->rebalance == REBALANCE_REVOKE) {
        if (r.runs && !s->consumer_closed && now_ns < s->revoke_ns) return;
        s->rebalance = REBALANCE_REVOKE_COMMIT;
        s->revoke_ns = now_ns + REVOKE_COMMIT_MS * NS_PER_MS;
        if (!lost) commit(s);
        r = look_at_revoked(s);
    }
    if (lost) log_warn("kafka", "partitions are lost: others may have them already", LOG_STR("trigger", s->conf.trigger));
    if (lost || now_ns >= s->revoke_ns || (s->leaving && !r.in_commit) || !(r.dirty || r.in_commit)) unassign(s);
    else if (!s->committing && now_ns >= s->commit_ns) commit(s);
}

static void on_revoked(struct kafka_source *s) {
    int64_t now_ns = clock_mono_ns();
    s->rebalance = REBALANCE_REVOKE;
    s->revoke_ns = now_ns + s->conf.revoke_ms * NS_PER_MS;
    for (int i = 0; i < s->rebalance_list->cnt; i++) {
        struct kafka_part *p = kafka_part_of(s, s->rebalance_list->elems[i].partition);
        if (!p || p->revoking) continue;
        p->revoking = true;
        if (!s->consumer_closed && s->config.on_revoked) s->config.on_revoked(s->config.arg, (uint32_t)p->number); // what waits is released here
    }
    go_on_revoking(s, now_ns);
}

static void on_rebalance(struct kafka_source *s, rd_kafka_event_t *event) {
    rd_kafka_resp_err_t kind = rd_kafka_event_error(event);
    const plist *list = rd_kafka_event_topic_partition_list(event);
    rebalance_done(s); // a newer one takes the place of one that was not answered yet
    s->rebalance_list = list ? rd_kafka_topic_partition_list_copy(list) : rd_kafka_topic_partition_list_new(1);
    if (kind == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        s->rebalance = REBALANCE_ASSIGN;
        if (s->rebalance_list->cnt == 0) assign(s, s->rebalance_list);
        else start_assign(s);
    } else if (kind == RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS) {
        on_revoked(s);
    } else {
        kafka_note_error(s, "a rebalance failed", kind, NULL);
        for (uint32_t i = 0; i < s->part_room; i++)
            if (s->parts[i]) kafka_part_drop(s, s->parts[i]);
        rd_kafka_assign(s->client->rk, NULL);
        rebalance_done(s);
    }
}

// --- for kafka.c ----------------------------------------------------------------------------------------------------

void kafka_group_event(struct kafka_source *s, rd_kafka_event_t *event) {
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE) on_rebalance(s, event);
    else on_committed(s, event);
    if (s->rebalance >= REBALANCE_REVOKE) go_on_revoking(s, clock_mono_ns());
}

void kafka_group_after(struct kafka_source *s) {
    int64_t now_ns = clock_mono_ns();
    if (s->rebalance >= REBALANCE_REVOKE) go_on_revoking(s, now_ns);
}

static void ask_again(struct kafka_source *s, int64_t now_ns) {
    if (s->assign_again_ns && now_ns >= s->assign_again_ns && s->rebalance == REBALANCE_ASSIGN && !s->assign_work) start_assign(s);
    for (uint32_t i = 0; i < s->part_room; i++) {
        struct kafka_part *p = s->parts[i];
        if (p && p->reset_again_ns && now_ns >= p->reset_again_ns) kafka_group_reset(s, p);
        if (p && now_ns < p->forward_until_ns) forward_records(s, p->number);
    }
}

void kafka_group_tick(struct kafka_source *s, int64_t now_ns) {
    ask_again(s, now_ns);
    kafka_group_after(s);
}

static bool is_joined(const char *statistics) {
    static const char *const states[] = {"steady", "wait-assign-call", "wait-unassign-call", "wait-incr-unassign-to-complete"};
    static const char key[] = "\"join_state\":";
    const char *at = strstr(statistics, key);
    if (!at) return false;
    at += sizeof key - 1 + strspn(at + sizeof key - 1, " \"");
    for (size_t i = 0; i < array_len(states); i++)
        if (strncmp(at, states[i], strlen(states[i])) == 0 && at[strlen(states[i])] == '"') return true;
    return false;
}

// Whether they are so new that no join can have begun since; on a loop that is always late they have to do.
static bool is_new(struct kafka_source *s, const char *statistics) {
    const char *at = strstr(statistics, "\"ts\":");
    long long us = at ? strtoll(at + 5, NULL, 10) : 0; // of the monotonic clock
    bool fresh = clock_mono_ns() / 1000 - us < STATISTICS_FRESH_MS * 1000;
    s->late_statistics = fresh ? 0 : s->late_statistics + 1;
    return fresh || s->late_statistics >= STATISTICS_LATE;
}

void kafka_group_statistics(struct kafka_source *s, const char *statistics) {
    int64_t now_ns = clock_mono_ns();
    bool urgent = s->paused || s->consumer_closed;
    if (s->committing || (now_ns < s->commit_ns && !urgent) || !wants_commit(s)) return;
    s->joined = is_joined(statistics) && is_new(s, statistics);
    commit(s);
    s->joined = false;
}

void kafka_group_commit_last(struct kafka_source *s) {
    s->joined = true;
    commit(s);
    s->joined = false;
}

void kafka_group_drop(struct kafka_source *s) {
    for (uint32_t i = 0; i < s->part_room; i++)
        if (s->parts[i]) kafka_part_drop(s, s->parts[i]);
    rebalance_done(s);
    s->committing = false;
}
