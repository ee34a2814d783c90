// SPDX-License-Identifier: Apache-2.0
// The queue backend on the SQLite store: the loop's side. core/queue_embedded_jobs.c has the SQL.
//
// A function's queue is a lane. Its messages are on disk from their confirm to their ack, in the order of their ids. Some
// of them are also *held* in memory, ready to be handed out: those that were just published while nothing older was only
// on disk (the very event of the publisher goes on to the consumer), and those that were fetched.
// Invariants:
// - every message up to lane.cursor was handed out, is held, or is in `backs` (given back, its event is gone);
//   lane.on_disk says that there may be others after the cursor;
// - a message is handed out only when lane.mark, which is durable, has reached it: an unclean end is then seen at the
//   next start, and those messages count one more delivery;
// - done callbacks come in the order of submission, so what a fetch did not see is confirmed after it.
// Everything that a turn gathers (publishes, acks) is submitted at its end, as one job each.
#include "core/queue_embedded.h"

#define PUBLISHES_MAX 65536                 // in flight; over it, or over the bytes, a publish is refused
#define PUBLISH_BYTES_MAX (256u * 1024 * 1024)
#define RETRY_MIN_MS 50
#define RETRY_MAX_MS 2000

struct early_delete {
    struct early_delete *next;
    char *function;
};

// ---- jobs ----------------------------------------------------------------------------------------------------------------

void embedded_submit(struct embedded *q, struct embedded_job *job, embedded_run_fn *run, embedded_done_fn *done) {
    job->q = q;
    job->job.run = run;
    job->job.done = done;
    q->jobs++;
    store_submit(q->store, &job->job);
}

static void finish_close(struct store_job *job, int code, const struct err *err);

// When the last job of a closing queue is done, one more tells the database that the end was clean.
static void close_when_idle(struct embedded *q) {
    if (!q->closing || q->ending || q->jobs > 0 || q->flush.queued || q->again_set || q->phase) return;
    q->ending = true;
    struct embedded_job *end = mem_zalloc(sizeof *end);
    embedded_submit(q, end, embedded_run_end, finish_close);
}

void embedded_job_done(struct embedded *q, int code) {
    q->jobs--;
    if (code == 0 && !q->backing_off) q->retry_ms = 0;
    close_when_idle(q);
}

// Tries again later; what the job carries is kept. At the end there is no later: the messages come back then.
bool embedded_retry_job(struct embedded *q, struct embedded_job *job, const char *what, const struct err *err) {
    log_repeating(&q->trouble_log, LOG_LEVEL_ERROR, "queue", what, err ? err->text : "");
    if (q->closing) return false;
    job->next = NULL;
    *q->failed_last = job;
    q->failed_last = &job->next;
    embedded_back_off(q);
    return true;
}

void embedded_back_off(struct embedded *q) {
    if (q->backing_off) return;
    q->backing_off = true;
    q->retry_ms = q->retry_ms ? q->retry_ms * 2 : RETRY_MIN_MS;
    if (q->retry_ms > RETRY_MAX_MS) q->retry_ms = RETRY_MAX_MS;
    timer_start(q->retry, q->retry_ms);
}

static void on_retry(void *arg) {
    struct embedded *q = arg;
    q->backing_off = false;
    struct embedded_job *job = q->failed;
    q->failed = NULL;
    q->failed_last = &q->failed;
    while (job) {
        struct embedded_job *next = job->next;
        embedded_submit(q, job, job->job.run, job->job.done);
        job = next;
    }
    for (struct lane *lane = q->lanes; lane; lane = lane->hh.next) embedded_touch(lane);
}

// ---- lanes ---------------------------------------------------------------------------------------------------------------

static struct lane *find_lane(struct embedded *q, struct str function) {
    struct lane *lane;
    HASH_FIND(hh, q->lanes, function.data, function.len, lane);
    return lane;
}

static struct lane *add_lane(struct embedded *q, struct str function, int64_t queue_id) {
    struct lane *lane = mem_zalloc(sizeof *lane);
    *lane = (struct lane){.q = q, .function = mem_strndup(function), .queue_id = queue_id};
    lane->cursor = lane->last_id = queue_id << EMBEDDED_QUEUE_SHIFT;
    HASH_ADD_KEYPTR(hh, q->lanes, lane->function, function.len, lane);
    if (queue_id >= q->next_queue_id) q->next_queue_id = queue_id + 1;
    return lane;
}

struct lane *embedded_lane(struct embedded *q, struct str function) {
    struct lane *lane = find_lane(q, function);
    // Before the load nobody knows the ids: 0 until then.
    return lane ? lane : add_lane(q, function, q->loaded ? q->next_queue_id : 0);
}

static void free_lane(struct lane *lane) {
    MUST(!lane->consumers);
    embedded_drop_held(lane);
    free(lane->held);
    free(lane->backs);
    free(lane->function);
    free(lane);
}

void embedded_touch(struct lane *lane) {
    struct embedded *q = lane->q;
    if (lane->serving) return; // it goes on by itself
    if (!lane->touched) {
        lane->touched = true;
        lane->next_touched = q->touched;
        q->touched = lane;
        if (q->phase == PHASE_SERVING) {
            q->again_set = true;
            timer_start(q->again, 0);
        }
    }
    embedded_wake(q);
}

// What callbacks ask for while a flush sends waits for the next turn, or a publisher that answers each refusal with
// another try would keep the loop from everything else.
void embedded_wake(struct embedded *q) {
    if (q->phase == PHASE_SERVING) return; // sending comes next
    if (q->phase == PHASE_IDLE) {
        loop_defer(q->loop, &q->flush);
        return;
    }
    q->again_set = true;
    timer_start(q->again, 0);
}

static void on_again(void *arg) {
    struct embedded *q = arg;
    q->again_set = false;
    embedded_wake(q);
}

// ---- publish -------------------------------------------------------------------------------------------------------------

static void add_item(struct embedded *q, const struct embedded_item *item) {
    if (q->item_count == q->item_room) {
        q->item_room = q->item_room ? q->item_room * 2 : 64;
        q->items = mem_realloc(q->items, q->item_room * sizeof *q->items);
    }
    q->items[q->item_count++] = *item;
}

static bool has_room(const struct embedded *q, const struct lane *lane, size_t bytes) {
    if (q->publishing >= PUBLISHES_MAX || q->publishing_bytes + bytes > PUBLISH_BYTES_MAX) return false;
    return q->max_messages == 0 || lane->count + lane->publishing < q->max_messages;
}

static void embedded_publish(struct queue *base, struct ev *ev, queue_confirm_fn *confirm, void *arg) {
    struct embedded *q = embedded_of(base);
    struct lane *lane = embedded_lane(q, ev->f.function);
    struct embedded_item item = {
        .ev = ev, .lane = lane, .confirm = confirm, .arg = arg, .bytes = ev_memory_bytes(ev)};
    if (q->closing) item.code = ERR_UNAVAILABLE;
    else if (!has_room(q, lane, item.bytes)) item.code = ERR_BUSY;
    if (item.code == 0) {
        q->publishing++;
        q->publishing_bytes += item.bytes;
        lane->publishing++;
    }
    add_item(q, &item);
    embedded_wake(q);
}

// What became of one published event, in the order of the ids.
static void settle_item(struct embedded *q, struct embedded_item *item, int code, const struct err *err) {
    struct lane *lane = item->lane;
    q->publishing--;
    q->publishing_bytes -= item->bytes;
    lane->publishing--;
    if (code == 0 && !lane->deleted) {
        lane->count++;
        struct embedded_held held = {.ev = item->ev, .id = item->id, .bytes = item->bytes};
        if (!lane->on_disk && embedded_hold(lane, &held)) {
            item->ev = NULL;
            lane->cursor = item->id;
        } else {
            lane->on_disk = true;
        }
        embedded_touch(lane);
    }
    struct err own;
    if (item->code) {
        err_set(&own, (enum err_code)item->code, "the event is too large to be stored");
        err = &own;
    }
    item->confirm(item->arg, code, err);
}

static void on_inserted(struct store_job *job, int code, const struct err *err) {
    struct embedded_insert *in = container_of(job, struct embedded_insert, base.job);
    struct embedded *q = in->base.q;
    if (code) log_repeating(&q->trouble_log, LOG_LEVEL_ERROR, "queue", "cannot store events", err->text);
    for (size_t i = 0; i < in->mark_count && code == 0; i++) {
        struct embedded_mark *mark = &in->marks[i];
        mark->lane->stored = true;
        if (mark->delivered_id > mark->lane->mark) mark->lane->mark = mark->delivered_id;
    }
    for (size_t i = 0; i < in->count; i++)
        settle_item(q, &in->items[i], code ? code : in->items[i].code, err);
    embedded_free_insert(in);
    embedded_job_done(q, code);
}

// With consumers waiting, the mark goes to disk together with the messages, so that they can be handed out at once.
static void add_mark(struct embedded_insert *in, struct lane *lane) {
    int64_t target = embedded_mark_target(lane);
    lane->in_batch = false;
    if (target <= lane->mark && lane->stored) return;
    in->marks[in->mark_count++] = (struct embedded_mark){
        .lane = lane, .queue_id = lane->queue_id, .function = str_of(lane->function), .delivered_id = target};
}

static void refuse(struct embedded_item *item) {
    struct err err;
    if (item->code == ERR_BUSY)
        err_set(&err, ERR_BUSY, "the queue of %s has no room now", item->lane->function);
    else err_set(&err, ERR_UNAVAILABLE, "the queue is closing");
    item->confirm(item->arg, err.code, &err);
    ev_free(item->ev);
}

static void submit_items(struct embedded *q, struct embedded_item *items, size_t count) {
    struct embedded_insert *in = mem_zalloc(sizeof *in);
    in->items = items;
    in->count = count;
    size_t lanes = 0;
    for (size_t i = 0; i < count; i++) {
        struct lane *lane = items[i].lane;
        items[i].id = ++lane->last_id;
        if (!lane->in_batch) lanes++;
        lane->in_batch = true;
    }
    in->marks = mem_array(lanes, sizeof *in->marks);
    for (size_t i = 0; i < count; i++)
        if (items[i].lane->in_batch) add_mark(in, items[i].lane);
    embedded_submit(q, &in->base, embedded_run_insert, on_inserted);
}

// The accepted ones of this turn become one job; the refused ones stay for answer_refused.
static void submit_accepted(struct embedded *q) {
    if (!q->loaded || q->item_count == 0) return;
    struct embedded_item *accepted = mem_array(q->item_count, sizeof *accepted);
    size_t count = 0, refused = 0;
    for (size_t i = 0; i < q->item_count; i++) {
        if (q->items[i].code == 0) accepted[count++] = q->items[i];
        else q->items[refused++] = q->items[i];
    }
    q->item_count = refused;
    if (count) submit_items(q, accepted, count);
    else free(accepted);
}

// Callbacks may publish again: what they add is not looked at now.
static void answer_refused(struct embedded *q) {
    size_t count = q->item_count, kept = 0, refused = 0;
    if (count == 0) return;
    struct embedded_item *out = mem_array(count, sizeof *out);
    for (size_t i = 0; i < count; i++) {
        if (q->items[i].code) out[refused++] = q->items[i];
        else q->items[kept++] = q->items[i];
    }
    q->item_count = kept;
    for (size_t i = 0; i < refused; i++) refuse(&out[i]);
    free(out);
}

// ---- the end of a turn -----------------------------------------------------------------------------------------------------

static void on_flush(void *arg) {
    struct embedded *q = arg;
    q->phase = PHASE_SERVING;
    struct lane *lane = q->touched;
    q->touched = NULL;
    while (lane) {
        struct lane *next = lane->next_touched;
        lane->touched = false;
        embedded_serve(lane);
        lane = next;
    }
    q->phase = PHASE_SENDING;
    submit_accepted(q);
    answer_refused(q);
    embedded_flush_acks(q);
    q->phase = PHASE_IDLE;
    close_when_idle(q);
}

// ---- open and close --------------------------------------------------------------------------------------------------------

static void adopt_row(struct embedded *q, const struct embedded_queue_row *row) {
    struct lane *lane = find_lane(q, str_of(row->function));
    if (!lane) lane = add_lane(q, str_of(row->function), row->queue_id);
    lane->queue_id = row->queue_id;
    lane->cursor = row->queue_id << EMBEDDED_QUEUE_SHIFT;
    lane->last_id = row->last_id;
    lane->count = (uint64_t)row->count;
    lane->on_disk = row->count > 0;
    lane->stored = true;
    if (row->queue_id >= q->next_queue_id) q->next_queue_id = row->queue_id + 1;
}

static void delete_lane(struct embedded *q, struct str function);

static void adopt_rows(struct embedded *q, const struct embedded_load *l) {
    for (size_t i = 0; i < l->count; i++) adopt_row(q, &l->rows[i]);
    // Those that were asked for before, and are new.
    for (struct lane *lane = q->lanes; lane; lane = lane->hh.next) {
        if (lane->queue_id == 0) {
            lane->queue_id = q->next_queue_id++;
            lane->cursor = lane->last_id = lane->queue_id << EMBEDDED_QUEUE_SHIFT;
        }
        embedded_touch(lane);
    }
    q->loaded = true;
    while (q->early_deletes) {
        struct early_delete *d = q->early_deletes;
        q->early_deletes = d->next;
        delete_lane(q, str_of(d->function));
        free(d->function);
        free(d);
    }
}

// The queue closes without ever having known its ids.
static void give_up_items(struct embedded *q) {
    for (size_t i = 0; i < q->item_count; i++) {
        struct embedded_item *item = &q->items[i];
        if (item->code) continue;
        item->code = ERR_UNAVAILABLE;
        q->publishing--;
        q->publishing_bytes -= item->bytes;
        item->lane->publishing--;
    }
    embedded_wake(q);
}

static void on_loaded(struct store_job *job, int code, const struct err *err) {
    struct embedded_load *l = container_of(job, struct embedded_load, base.job);
    struct embedded *q = l->base.q;
    if (code && embedded_retry_job(q, &l->base, "cannot read the queues", err)) {
        embedded_job_done(q, code);
        return;
    }
    if (code) give_up_items(q);
    else adopt_rows(q, l);
    embedded_free_load(l);
    embedded_job_done(q, code);
}

static int embedded_open(const struct queue_config *config, struct queue **ret, struct err *err) {
    if (!config->store || store_is_shared(config->store))
        return err_set(err, ERR_INVALID, "the embedded queue needs a SQLite store; with PostgreSQL use amqp://");
    struct embedded *q = mem_zalloc(sizeof *q);
    *q = (struct embedded){.base.ops = &queue_embedded_ops,
                           .loop = config->loop,
                           .store = config->store,
                           .max_messages = config->max_messages,
                           .next_queue_id = 1};
    q->failed_last = &q->failed;
    q->flush = (struct defer){.fn = on_flush, .arg = q};
    q->retry = timer_new(q->loop, on_retry, q);
    q->again = timer_new(q->loop, on_again, q);
    struct embedded_load *load = mem_zalloc(sizeof *load);
    embedded_submit(q, &load->base, embedded_run_load, on_loaded);
    *ret = &q->base;
    return 0;
}

static void drop_failed(struct embedded *q) {
    while (q->failed) {
        struct embedded_job *job = q->failed;
        q->failed = job->next;
        // Its own done frees it: closing queues try nothing again.
        q->jobs++;
        struct err err;
        job->job.done(&job->job, err_set(&err, ERR_UNAVAILABLE, "the queue is closing"), &err);
    }
    q->failed_last = &q->failed;
}

static void embedded_close(struct queue *base, void (*on_closed)(void *arg), void *arg) {
    struct embedded *q = embedded_of(base);
    MUST(!q->closing && !q->open_consumers);
    q->on_closed = on_closed;
    q->on_closed_arg = arg;
    timer_stop(q->retry);
    q->closing = true;
    embedded_wake(q); // first, so that giving up the failed ones does not look like the end
    drop_failed(q);
}

static void destroy(struct embedded *q) {
    answer_refused(q); // published while it closed
    while (q->early_deletes) {
        struct early_delete *d = q->early_deletes;
        q->early_deletes = d->next;
        free(d->function);
        free(d);
    }
    struct lane *lane, *next;
    HASH_ITER(hh, q->lanes, lane, next) {
        HASH_DEL(q->lanes, lane);
        free_lane(lane);
    }
    for (lane = q->graveyard; lane; lane = next) {
        next = lane->next_dead;
        free_lane(lane);
    }
    loop_defer_cancel(q->loop, &q->flush);
    timer_free(q->retry);
    timer_free(q->again);
    free(q->items);
    free(q);
}

static void finish_close(struct store_job *job, int code, const struct err *err) {
    struct embedded_job *end = container_of(job, struct embedded_job, job);
    struct embedded *q = end->q;
    if (code) log_warn("queue", "the end could not be noted; deliveries will count one more", LOG_STR("error", err->text));
    free(end);
    void (*on_closed)(void *) = q->on_closed;
    void *arg = q->on_closed_arg;
    destroy(q);
    if (on_closed) on_closed(arg);
}

static bool embedded_is_up(const struct queue *base) {
    const struct embedded *q = (const struct embedded *)(const void *)base;
    return q->loaded && !q->closing && store_is_up(q->store);
}

// ---- depth and delete --------------------------------------------------------------------------------------------------------

static void on_depth(struct store_job *job, int code, const struct err *err) {
    (void)err;
    struct embedded_depth *d = container_of(job, struct embedded_depth, base.job);
    struct embedded *q = d->base.q;
    struct lane *lane = find_lane(q, str_of(d->function));
    uint64_t count = lane ? lane->count : 0, out = lane ? lane->unsettled : 0;
    if (out > count) out = count;
    d->fn(d->arg, code ? code : q->loaded ? 0 : ERR_UNAVAILABLE, count - out, out, d->oldest_ms);
    free(d->function);
    free(d);
    embedded_job_done(q, code);
}

static void embedded_depth(struct queue *base, struct str function, queue_depth_fn *fn, void *arg) {
    struct embedded_depth *d = mem_zalloc(sizeof *d);
    *d = (struct embedded_depth){.function = mem_strndup(function), .fn = fn, .arg = arg};
    embedded_submit(embedded_of(base), &d->base, embedded_run_depth, on_depth);
}

static void on_dropped(struct store_job *job, int code, const struct err *err) {
    struct embedded_drop *d = container_of(job, struct embedded_drop, base.job);
    struct embedded *q = d->base.q;
    if (!code || !embedded_retry_job(q, &d->base, "cannot delete a queue", err)) free(d);
    embedded_job_done(q, code);
}

// Its publishes go to the store before the deletion, so that their confirms come and nothing of them is left; a new
// queue of the same name comes after it.
static void delete_lane(struct embedded *q, struct str function) {
    struct lane *lane = find_lane(q, function);
    if (!lane) return;
    submit_accepted(q);
    HASH_DEL(q->lanes, lane);
    lane->next_dead = q->graveyard;
    q->graveyard = lane;
    lane->deleted = true;
    embedded_drop_held(lane);
    struct embedded_drop *d = mem_zalloc(sizeof *d);
    d->queue_id = lane->queue_id;
    embedded_submit(q, &d->base, embedded_run_drop, on_dropped);
}

static void embedded_delete(struct queue *base, struct str function) {
    struct embedded *q = embedded_of(base);
    if (q->loaded) {
        delete_lane(q, function);
        return;
    }
    struct early_delete *d = mem_alloc(sizeof *d);
    *d = (struct early_delete){.next = q->early_deletes, .function = mem_strndup(function)};
    q->early_deletes = d;
}

const struct queue_ops queue_embedded_ops = {
    .scheme = "embedded",
    .open = embedded_open,
    .close = embedded_close,
    .is_up = embedded_is_up,
    .publish = embedded_publish,
    .consume = embedded_consume,
    .depth = embedded_depth,
    .delete = embedded_delete,
};
