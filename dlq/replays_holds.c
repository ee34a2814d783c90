// SPDX-License-Identifier: Apache-2.0
// Which live events wait for letters that a replay in order sends first.
//
// Invariant: the letters of a key end in the order of their places, so that a key is free when its last letter has ended, or is left out. Thus
// all letters of a job are read once, when it is first seen, and later only the last ones of its keys.
#include <stdlib.h>
#include <uthash.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "dlq/columns.h"
#include "dlq/replays_impl.h"

#define READ_LOOKS 0.5
#define READ_SHARE 10  // reading takes at most one part in so many
#define JOBS_MAX 1000  // open ones in order

struct held_key {
    uint64_t hash;
    int64_t last;      // seq
    UT_hash_handle hh;
};
struct held_job {
    struct replay_row row;
    struct held_key *keys;
    int64_t read_to;   // seq
    bool open;
    bool over, told;   // some of its keys are not held; that was said
};
struct holds {
    uint64_t *keys;    // ascending
    size_t count;
    int64_t read_at_ns, known_ns;
    bool reading;      // then the jobs are the store thread's, else the loop's
    struct held_job *jobs;
    size_t job_count;
};

// --- the store thread -------------------------------------------------------------------------------------------------------

struct holds_job {
    struct store_job job;
    struct replays *replays;
    int64_t began_ns, took_ns;
    // results:
    uint64_t *keys;
    size_t count;
    bool all;          // no job is left whose letters must be read
    struct order_row rows[REPLAY_ORDER_WINDOW];
};

static void drop_job(struct held_job *j) {
    struct held_key *k, *next;
    HASH_ITER(hh, j->keys, k, next) {
        HASH_DEL(j->keys, k);
        free(k);
    }
    replay_row_done(&j->row);
}

static size_t count_keys(const struct holds *holds) {
    size_t n = 0;
    for (size_t i = 0; i < holds->job_count; i++) n += HASH_COUNT(holds->jobs[i].keys);
    return n;
}

static int take_job(void *arg, const struct sql_row *row) {
    struct holds *holds = arg;
    int64_t replay = sql_row_int(row, 0);
    for (size_t i = 0; i < holds->job_count; i++) {
        if (holds->jobs[i].row.replay != replay) continue;
        holds->jobs[i].open = true;
        return 0;
    }
    holds->jobs = mem_realloc(holds->jobs, (holds->job_count + 1) * sizeof *holds->jobs);
    holds->jobs[holds->job_count++] = (struct held_job){
        .row = {.replay = replay, .total = sql_row_int(row, 1), .target = mem_strndup(sql_row_bytes(row, 2))}, .open = true};
    return 0;
}

static int list_jobs(struct holds *holds, struct sql *sql, struct err *err) {
    const struct sql_value most = SQL_I(JOBS_MAX);
    size_t kept = 0;
    for (size_t i = 0; i < holds->job_count; i++) holds->jobs[i].open = false;
    int rc = sql_exec(sql,
                      "SELECT id, total, target FROM replays WHERE ended_ms IS NULL AND state <> 'selecting' AND in_order = 1 AND to_origin = 0"
                      " ORDER BY id LIMIT $1",
                      &most, 1, take_job, holds, NULL, err);
    if (rc) return rc;
    for (size_t i = 0; i < holds->job_count; i++) {
        if (holds->jobs[i].open) holds->jobs[kept++] = holds->jobs[i];
        else drop_job(&holds->jobs[i]);
    }
    holds->job_count = kept;
    return 0;
}

static int read_window(struct holds_job *h, struct held_job *j, struct sql *sql, struct err *err) {
    size_t n = 0, room = REPLAY_HOLDS_MAX - count_keys(h->replays->holds);
    int rc = order_sql_read(sql, &j->row, j->read_to, h->rows, &n, err);
    if (rc) return rc;
    j->read_to += REPLAY_ORDER_WINDOW;
    for (size_t i = 0; i < n; i++) {
        struct held_key *k;
        if (!h->rows[i].key || h->rows[i].is_partition) continue;
        HASH_FIND(hh, j->keys, &h->rows[i].key, sizeof k->hash, k);
        if (!k && room == 0) {
            j->over = true;
            continue;
        }
        if (!k) {
            k = mem_zalloc(sizeof *k);
            k->hash = h->rows[i].key;
            HASH_ADD(hh, j->keys, hash, sizeof k->hash, k);
            room--;
        }
        k->last = h->rows[i].seq;
    }
    return 0;
}

struct ended {
    int64_t *seqs;     // ascending
    size_t count;
};

static int take_ended(void *arg, const struct sql_row *row) {
    struct ended *e = arg;
    e->seqs[e->count++] = sql_row_int(row, 0);
    return 0;
}

static int by_number(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int by_hash(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

// JSON is of SQLite, arrays are of PostgreSQL.
static int find_ended(const struct held_job *j, struct sql *sql, struct ended *e, struct err *err) {
    struct buf json;
    struct column column;
    buf_init(&json, SIZE_MAX / 2);
    column_init(&column);
    for (const struct held_key *k = j->keys; k; k = k->hh.next) {
        if (sql_is_postgres(sql)) column_add_number(&column, k->last);
        else MUST(buf_printf(&json, "%c%lld", k == j->keys ? '[' : ',', (long long)k->last) == 0);
    }
    MUST(buf_append(&json, STR_LIT("]")) == 0);
    const struct sql_value values[] = {SQL_I(j->row.replay), sql_is_postgres(sql) ? column_value(&column) : SQL_T(buf_str(&json))};
    int rc = sql_exec(sql,
                      sql_is_postgres(sql) ? "SELECT seq FROM replay_letters WHERE replay = $1 AND seq = ANY ($2::bigint[])"
                                             " AND (state IN ('skipped', 'failed') OR outcome IN ('ok', 'dead'))"
                                           : "SELECT seq FROM replay_letters WHERE replay = $1 AND seq IN (SELECT value FROM json_each($2))"
                                             " AND (state IN ('skipped', 'failed') OR outcome IN ('ok', 'dead'))",
                      values, array_len(values), take_ended, e, NULL, err);
    buf_done(&json);
    column_done(&column);
    return rc;
}

static int drop_ended(struct held_job *j, struct sql *sql, struct err *err) {
    struct held_key *k, *next;
    if (!j->keys) return 0;
    struct ended e = {.seqs = mem_array(HASH_COUNT(j->keys), sizeof *e.seqs)};
    int rc = find_ended(j, sql, &e, err);
    if (rc == 0 && e.count) {
        qsort(e.seqs, e.count, sizeof *e.seqs, by_number);
        HASH_ITER(hh, j->keys, k, next) {
            if (!bsearch(&k->last, e.seqs, e.count, sizeof *e.seqs, by_number)) continue;
            HASH_DEL(j->keys, k);
            free(k);
        }
    }
    free(e.seqs);
    return rc;
}

static void collect_keys(struct holds_job *h) {
    const struct holds *holds = h->replays->holds;
    size_t n = count_keys(holds);
    free(h->keys);
    h->keys = mem_array(n ? n : 1, sizeof *h->keys);
    h->count = 0;
    for (size_t i = 0; i < holds->job_count; i++)
        for (const struct held_key *k = holds->jobs[i].keys; k; k = k->hh.next) h->keys[h->count++] = k->hash;
    if (n) qsort(h->keys, n, sizeof *h->keys, by_hash);
}

static int holds_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct holds_job *h = container_of(job, struct holds_job, job);
    struct holds *holds = h->replays->holds;
    int64_t began_ns = clock_mono_ns();
    size_t i = 0;
    int rc = list_jobs(holds, sql, err);
    while (i < holds->job_count && holds->jobs[i].read_to >= holds->jobs[i].row.total) i++;
    h->all = i == holds->job_count;
    if (rc == 0 && !h->all) rc = read_window(h, &holds->jobs[i], sql, err);
    for (i = 0; i < holds->job_count && rc == 0 && h->all; i++) rc = drop_ended(&holds->jobs[i], sql, err);
    if (rc == 0) collect_keys(h);
    h->took_ns = clock_mono_ns() - began_ns;
    return rc;
}

// --- the loop's thread --------------------------------------------------------------------------------------------------------

struct tell_job {
    struct store_job job;
    struct replays *replays;
    int64_t replay;
};

static int tell_run(struct store_job *job, struct sql *sql, struct err *err) {
    cleanup_free char *why = mem_printf("more than %d keys wait; live events of the others do not wait for their letters", REPLAY_HOLDS_MAX);
    const struct sql_value values[] = {SQL_Z(why), SQL_I(container_of(job, struct tell_job, job)->replay)};
    return sql_exec(sql, "UPDATE replays SET reason = $1 WHERE id = $2 AND ended_ms IS NULL AND reason = ''", values, 2, NULL, NULL, NULL, err);
}

static void on_told(struct store_job *job, int code, const struct err *err) {
    (void)code, (void)err; // it is in the log
    struct tell_job *t = container_of(job, struct tell_job, job);
    t->replays->jobs--;
    free(t);
}

static void tell_over(struct replays *r) {
    for (size_t i = 0; i < r->holds->job_count; i++) {
        struct held_job *j = &r->holds->jobs[i];
        if (!j->over || j->told) continue;
        j->told = true;
        log_warn("replay", "too many keys: live events of some do not wait for the letters before them", LOG_INT("replay", j->row.replay),
                 LOG_INT("most", REPLAY_HOLDS_MAX));
        struct tell_job *t = mem_zalloc(sizeof *t);
        *t = (struct tell_job){.job = {.run = tell_run, .done = on_told}, .replays = r, .replay = j->row.replay};
        replays_submit(r, &t->job);
    }
}

static void submit(struct holds_job *h) {
    h->began_ns = clock_mono_ns();
    h->replays->jobs++;
    store_submit(h->replays->c.reader, &h->job);
}

static void on_holds(struct store_job *job, int code, const struct err *err) {
    static struct log_repeat trouble;
    struct holds_job *h = container_of(job, struct holds_job, job);
    struct replays *r = h->replays;
    struct holds *holds = r->holds;
    int64_t pause_ns = READ_SHARE * h->took_ns;
    r->jobs--;
    if (code == 0) {
        free(holds->keys);
        holds->keys = TAKE_PTR(h->keys);
        holds->count = h->count;
        tell_over(r);
        if (h->all) holds->known_ns = h->began_ns;
    } else if (!r->stopped) {
        log_repeating(&trouble, LOG_LEVEL_WARN, "replay", "cannot read which live events must wait; tried again", err->text);
    }
    if (code == 0 && !h->all && !r->stopped) {
        submit(h);
        return;
    }
    holds->reading = false;
    if (pause_ns < replays_looks(r, READ_LOOKS)) pause_ns = replays_looks(r, READ_LOOKS);
    holds->read_at_ns = clock_mono_ns() + pause_ns;
    free(h->keys);
    free(h);
}

void replays_read_holds(struct replays *r) {
    if (r->holds->reading || clock_mono_ns() < r->holds->read_at_ns) return;
    struct holds_job *h = mem_zalloc(sizeof *h);
    *h = (struct holds_job){.job = {.run = holds_run, .done = on_holds}, .replays = r};
    r->holds->reading = true;
    submit(h);
}

int64_t replays_holds_known_ns(const struct replays *r) {
    return r->holds->known_ns;
}

// As it stands in the column, which has well-formed text only.
static uint64_t event_hash(const struct ev *ev) {
    struct buf clean;
    if (text_is_utf8(ev->f.ordering_key) && !memchr(ev->f.ordering_key.data, '\0', ev->f.ordering_key.len))
        return order_hash(ev->f.function, ev->f.ordering_key);
    buf_init(&clean, SIZE_MAX / 2);
    letters_append_clean(&clean, ev->f.ordering_key);
    uint64_t hash = order_hash(ev->f.function, buf_str(&clean));
    buf_done(&clean);
    return hash;
}

bool replays_holds(const struct replays *r, const struct ev *ev) {
    if (!r->holds->count || ev->f.ordering_key.len == 0 || ev->f.replay) return false;
    uint64_t hash = event_hash(ev);
    return bsearch(&hash, r->holds->keys, r->holds->count, sizeof hash, by_hash) != NULL;
}

void replays_holds_init(struct replays *r) {
    r->holds = mem_zalloc(sizeof *r->holds);
}

void replays_holds_done(struct replays *r) {
    for (size_t i = 0; i < r->holds->job_count; i++) drop_job(&r->holds->jobs[i]);
    free(r->holds->jobs);
    free(r->holds->keys);
    free(r->holds);
}
