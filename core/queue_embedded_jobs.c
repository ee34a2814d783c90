// SPDX-License-Identifier: Apache-2.0
// The SQL of the embedded queue. Every run function gives the same effect when it runs again: it begins by letting go
// of what an earlier run left in the job.
#include "core/queue_embedded_jobs.h"

#include "core/base/buf.h"

#define CHUNK_ROWS 256
#define CHUNK_BYTES (1024u * 1024)

static int64_t first_id(int64_t queue_id) {
    return queue_id * (INT64_C(1) << EMBEDDED_QUEUE_SHIFT);
}

int embedded_set_mark(struct sql *sql, const struct embedded_mark *mark, struct err *err) {
    struct sql_value values[] = {SQL_I(mark->queue_id), SQL_T(mark->function), SQL_I(mark->delivered_id)};
    return sql_exec(sql,
                    "INSERT INTO queues (id, function, delivered_id) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE "
                    "SET delivered_id = max(delivered_id, excluded.delivered_id)",
                    values, 3, NULL, NULL, NULL, err);
}

// ---- load ----------------------------------------------------------------------------------------------------------------

static void drop_rows(struct embedded_load *l) {
    for (size_t i = 0; i < l->count; i++) free(l->rows[i].function);
    l->count = 0;
}

static int read_queue(void *arg, const struct sql_row *row) {
    struct embedded_load *l = arg;
    if (l->count == l->room) {
        l->room = l->room ? l->room * 2 : 16;
        l->rows = mem_realloc(l->rows, l->room * sizeof *l->rows);
    }
    l->rows[l->count++] =
        (struct embedded_queue_row){.queue_id = sql_row_int(row, 0), .function = mem_strndup(sql_row_bytes(row, 1))};
    return 0;
}

static int read_extent(void *arg, const struct sql_row *row) {
    struct embedded_queue_row *q = arg;
    q->count = sql_row_int(row, 0);
    q->last_id = q->count ? sql_row_int(row, 1) : first_id(q->queue_id);
    return 0;
}

static int load_extents(struct embedded_load *l, struct sql *sql, struct err *err) {
    for (size_t i = 0; i < l->count; i++) {
        int64_t id = l->rows[i].queue_id;
        struct sql_value values[] = {SQL_I(first_id(id)), SQL_I(first_id(id + 1))};
        int rc = sql_exec(sql, "SELECT count(*), max(id) FROM queue_messages WHERE id > $1 AND id < $2", values, 2,
                          read_extent, &l->rows[i], NULL, err);
        if (rc) return rc;
    }
    return 0;
}

int embedded_run_load(struct store_job *job, struct sql *sql, struct err *err) {
    struct embedded_load *l = container_of(job, struct embedded_load, base.job);
    drop_rows(l);
    int rc = sql_exec(sql,
                      "UPDATE queue_messages SET deliveries = deliveries + 1 WHERE id IN (SELECT m.id FROM queues q, "
                      "queue_messages m WHERE q.delivered_id > 0 AND m.id > q.id << 40 AND m.id <= q.delivered_id)",
                      NULL, 0, NULL, NULL, NULL, err);
    if (rc == 0) rc = embedded_run_end(job, sql, err);
    if (rc == 0) rc = sql_exec(sql, "SELECT id, function FROM queues", NULL, 0, read_queue, l, NULL, err);
    return rc ? rc : load_extents(l, sql, err);
}

void embedded_free_load(struct embedded_load *l) {
    drop_rows(l);
    free(l->rows);
    free(l);
}

// ---- insert --------------------------------------------------------------------------------------------------------------

static size_t encode_chunk(struct embedded_item *items, size_t count, struct buf *bytes, struct sql_value *values,
                           size_t *ret_rows) {
    size_t rows = 0, i = 0, ends[CHUNK_ROWS];
    for (; i < count && rows < CHUNK_ROWS && buf_len(bytes) < CHUNK_BYTES; i++) {
        size_t start = buf_len(bytes);
        items[i].code = ev_encode(items[i].ev, bytes, NULL);
        if (items[i].code) {
            bytes->end = bytes->start + start;
            continue;
        }
        values[3 * rows] = SQL_I(items[i].id);
        values[3 * rows + 1] = SQL_I(items[i].ev->f.accepted_ms);
        ends[rows++] = buf_len(bytes);
    }
    // Only now is it known where the bytes are: the buffer may have moved.
    const char *data = buf_str(bytes).data;
    for (size_t r = 0, at = 0; r < rows; at = ends[r++])
        values[3 * r + 2] = SQL_B(((struct str){data + at, ends[r] - at}));
    *ret_rows = rows;
    return i;
}

static int insert_items(struct embedded_insert *in, struct buf *bytes, struct sql *sql, struct err *err) {
    struct sql_value values[3 * CHUNK_ROWS];
    for (size_t i = 0; i < in->count;) {
        size_t rows;
        buf_clear(bytes);
        i += encode_chunk(in->items + i, in->count - i, bytes, values, &rows);
        int rc = sql_exec_many(sql, "INSERT INTO queue_messages (id, accepted_ms, body) VALUES ($1, $2, $3)", values,
                               3, rows, err);
        if (rc) return rc;
    }
    return 0;
}

int embedded_run_insert(struct store_job *job, struct sql *sql, struct err *err) {
    struct embedded_insert *in = container_of(job, struct embedded_insert, base.job);
    for (size_t i = 0; i < in->mark_count; i++) {
        int rc = embedded_set_mark(sql, &in->marks[i], err);
        if (rc) return rc;
    }
    struct buf bytes;
    buf_init(&bytes, (size_t)EV_ENCODED_MAX + CHUNK_BYTES);
    int rc = insert_items(in, &bytes, sql, err);
    buf_done(&bytes);
    return rc;
}

void embedded_free_insert(struct embedded_insert *in) {
    for (size_t i = 0; i < in->count; i++) ev_free(in->items[i].ev);
    free(in->items);
    free(in->marks);
    free(in);
}

// ---- ack -----------------------------------------------------------------------------------------------------------------

static int by_id(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

// Neighbours leave together: one range.
int embedded_run_ack(struct store_job *job, struct sql *sql, struct err *err) {
    struct embedded_ack *a = container_of(job, struct embedded_ack, base.job);
    qsort(a->ids, a->count, sizeof *a->ids, by_id);
    struct sql_value *values = mem_array(2 * a->count, sizeof *values);
    size_t ranges = 0;
    for (size_t i = 0, end; i < a->count; i = end) {
        for (end = i + 1; end < a->count && a->ids[end] <= a->ids[end - 1] + 1; end++) continue;
        values[2 * ranges] = SQL_I(a->ids[i]);
        values[2 * ranges + 1] = SQL_I(a->ids[end - 1]);
        ranges++;
    }
    int rc = sql_exec_many(sql, "DELETE FROM queue_messages WHERE id BETWEEN $1 AND $2", values, 2, ranges, err);
    free(values);
    return rc;
}

void embedded_free_ack(struct embedded_ack *a) {
    free(a->ids);
    free(a->parts);
    free(a);
}

// ---- fetch ---------------------------------------------------------------------------------------------------------------

void embedded_held_done(struct embedded_held *held) {
    ev_free(held->ev);
    free(held->why);
}

static void drop_got(struct embedded_fetch *f) {
    for (size_t i = 0; i < f->got_count; i++) embedded_held_done(&f->got[i]);
    f->got_count = f->got_bytes = f->ranged = 0;
}

static char *copy_bytes(struct str s) {
    char *copy = mem_alloc(s.len + 1);
    if (s.len) memcpy(copy, s.data, s.len);
    return copy;
}

// Bytes that cannot be decoded become the payload of an event of their own, so that somebody can look at them.
static void wrap_broken(struct embedded_held *held, struct str function, struct str body, int64_t accepted_ms,
                        const struct err *why) {
    struct ev_fields fields = {.function = function,
                               .accepted_ms = accepted_ms,
                               .source_kind = STR_LIT("queue"),
                               .content_type = STR_LIT("application/octet-stream"),
                               .payload = body};
    held->ev = ev_new(&fields);
    held->content = QUEUE_UNDECODABLE;
    held->why = mem_strdup(why->text);
}

// Columns: id, deliveries, accepted_ms, body.
static int read_message(void *arg, const struct sql_row *row) {
    struct embedded_fetch *f = arg;
    struct str body = sql_row_bytes(row, 3);
    struct embedded_held *held = &f->got[f->got_count++];
    *held = (struct embedded_held){.id = sql_row_int(row, 0), .deliveries = (uint32_t)sql_row_int(row, 1)};
    struct err why = {0};
    if (ev_decode(copy_bytes(body), body.len, &held->ev, &why))
        wrap_broken(held, f->mark.function, body, sql_row_int(row, 2), &why);
    held->bytes = ev_memory_bytes(held->ev);
    f->got_bytes += held->bytes;
    return 0;
}

static int read_ranged(void *arg, const struct sql_row *row) {
    struct embedded_fetch *f = arg;
    if (f->got_count && f->got_bytes >= f->bytes_limit) return ERR_BUSY; // enough for now
    f->ranged++;
    return read_message(f, row);
}

static int fetch_backs(struct embedded_fetch *f, struct sql *sql, struct err *err) {
    for (size_t i = 0; i < f->back_count; i++) {
        struct sql_value id = SQL_I(f->backs[i].id);
        size_t before = f->got_count;
        int rc = sql_exec(sql, "SELECT id, deliveries, accepted_ms, body FROM queue_messages WHERE id = $1", &id, 1,
                          read_message, f, NULL, err);
        if (rc) return rc;
        if (f->got_count > before) f->got[before].deliveries = f->backs[i].deliveries;
    }
    return 0;
}

static int fetch_range(struct embedded_fetch *f, struct sql *sql, struct err *err) {
    if (f->limit == 0) return 0;
    struct sql_value values[] = {SQL_I(f->cursor), SQL_I(first_id(f->mark.queue_id + 1)), SQL_I(f->limit)};
    int rc = sql_exec(sql,
                      "SELECT id, deliveries, accepted_ms, body FROM queue_messages WHERE id > $1 AND id < $2 "
                      "ORDER BY id LIMIT $3",
                      values, 3, read_ranged, f, NULL, err);
    if (rc == ERR_BUSY && !sql->failed) return 0;
    if (rc == 0 && f->ranged < f->limit) f->reached_end = true;
    return rc;
}

int embedded_run_fetch(struct store_job *job, struct sql *sql, struct err *err) {
    struct embedded_fetch *f = container_of(job, struct embedded_fetch, base.job);
    drop_got(f);
    f->reached_end = false;
    if (!f->got) f->got = mem_array(f->back_count + f->limit + 1, sizeof *f->got);
    int rc = fetch_backs(f, sql, err);
    if (rc == 0) rc = fetch_range(f, sql, err);
    if (rc) return rc;
    struct embedded_mark *mark = &f->mark;
    for (size_t i = 0; i < f->got_count && i < f->mark_rows; i++)
        if (f->got[i].id > mark->delivered_id) mark->delivered_id = f->got[i].id;
    return embedded_set_mark(sql, mark, err);
}

void embedded_free_fetch(struct embedded_fetch *f) {
    drop_got(f);
    free(f->got);
    free(f->backs);
    free(f);
}

// ---- the rest ------------------------------------------------------------------------------------------------------------

static int read_oldest(void *arg, const struct sql_row *row) {
    struct embedded_depth *d = arg;
    d->oldest_ms = sql_row_int(row, 0);
    return 0;
}

int embedded_run_depth(struct store_job *job, struct sql *sql, struct err *err) {
    struct embedded_depth *d = container_of(job, struct embedded_depth, base.job);
    struct sql_value function = SQL_Z(d->function);
    d->oldest_ms = 0;
    return sql_exec(sql,
                    "SELECT m.accepted_ms FROM queues q, queue_messages m WHERE q.function = $1 AND m.id > q.id << 40 "
                    "AND m.id < (q.id + 1) << 40 ORDER BY m.id LIMIT 1",
                    &function, 1, read_oldest, d, NULL, err);
}

int embedded_run_drop(struct store_job *job, struct sql *sql, struct err *err) {
    struct embedded_drop *d = container_of(job, struct embedded_drop, base.job);
    struct sql_value range[] = {SQL_I(first_id(d->queue_id)), SQL_I(first_id(d->queue_id + 1))};
    int rc = sql_exec(sql, "DELETE FROM queue_messages WHERE id > $1 AND id < $2", range, 2, NULL, NULL, NULL, err);
    struct sql_value id = SQL_I(d->queue_id);
    return rc ? rc : sql_exec(sql, "DELETE FROM queues WHERE id = $1", &id, 1, NULL, NULL, NULL, err);
}

int embedded_run_end(struct store_job *job, struct sql *sql, struct err *err) {
    (void)job;
    return sql_exec(sql, "UPDATE queues SET delivered_id = 0 WHERE delivered_id <> 0", NULL, 0, NULL, NULL, NULL, err);
}
