// SPDX-License-Identifier: Apache-2.0
// Claiming due letters and saying what came of them. A claim is a lease in the row: its end is at once the claim's name, so
// whatever changed the row meanwhile (a put sets it to 0, another node's claim to another end) makes the claimer's word void.
// Leases go by the store's clock, so that a node whose clock is ahead does not take what another holds.
#include "core/base/clock.h"
#include "dlq/letters_impl.h"

// --- claims ---------------------------------------------------------------------------------------------------------

struct claim_job {
    struct store_job job;
    int64_t now_ms;  // the caller's
    int64_t hold_ms;
    size_t limit;
    letters_claim_fn *fn;
    void *arg;
    struct letter_list list;
};

static void claim_done(struct store_job *job, int code, const struct err *err) {
    struct claim_job *c = container_of(job, struct claim_job, job);
    if (code) letter_list_clear(&c->list);
    c->fn(c->arg, code, err, c->list.at, c->list.count); // the events are the receiver's now
    free(c->list.at);
    free(c);
}

static int claim_due_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct claim_job *c = container_of(job, struct claim_job, job);
    letter_list_clear(&c->list);
    int64_t store_ms = 0;
    int rc = sql_unix_ms(sql, &store_ms, err);
    if (rc) return rc;
    c->list.lease_ms = store_ms + c->hold_ms;
    const struct sql_value values[] = {SQL_I(c->list.lease_ms), SQL_I(c->now_ms), SQL_I(store_ms), SQL_I(c->limit)};
    const char *text = sql_is_postgres(sql)
                           ? "UPDATE letters SET lease_ms = $1 WHERE id IN (SELECT id FROM letters WHERE state = 'due'"
                             " AND due_ms <= $2 AND lease_ms <= $3 ORDER BY due_ms, id LIMIT $4 FOR UPDATE SKIP LOCKED) RETURNING " LETTERS_TAKE
                           : "UPDATE letters SET lease_ms = $1 WHERE id IN (SELECT id FROM letters WHERE state = 'due'"
                             " AND due_ms <= $2 AND lease_ms <= $3 ORDER BY due_ms, id LIMIT $4) RETURNING " LETTERS_TAKE;
    rc = sql_exec(sql, text, values, array_len(values), letters_take, &c->list, NULL, err);
    letter_list_sort(&c->list);
    return rc;
}

void letters_claim_due(struct letters *l, int64_t now_ms, int64_t lease_ms, size_t limit, letters_claim_fn *fn, void *arg) {
    struct claim_job *c = mem_zalloc(sizeof *c);
    *c = (struct claim_job){.job = {.run = claim_due_run, .done = claim_done},
                            .now_ms = now_ms,
                            .hold_ms = lease_ms,
                            .limit = limit,
                            .fn = fn,
                            .arg = arg};
    store_submit(l->store, &c->job);
}

// --- what came of a claim -------------------------------------------------------------------------------------------

struct mark_job {
    struct store_job job;
    struct mark {
        struct id id;
        int64_t lease_ms;
    } *marks;
    size_t count;
    int64_t due_ms;
    int64_t hold_ms, lease_ms; // letters_renew: for how long; until when
    letter_done_fn *done;
    void (*renewed)(void *arg, int code, int64_t lease_ms); // instead
    void *arg;
};

static void mark_done(struct store_job *job, int code, const struct err *err) {
    struct mark_job *m = container_of(job, struct mark_job, job);
    if (m->renewed) m->renewed(m->arg, code, m->lease_ms);
    else m->done(m->arg, code, err);
    free(m->marks);
    free(m);
}

static struct mark_job *mark_job_new(int (*run)(struct store_job *, struct sql *, struct err *), const struct letter *claimed,
                                     size_t count, letter_done_fn *done, void *arg) {
    struct mark_job *m = mem_zalloc(sizeof *m);
    *m = (struct mark_job){.job = {.run = run, .done = mark_done}, .count = count, .done = done, .arg = arg};
    m->marks = mem_array(count, sizeof *m->marks);
    for (size_t i = 0; i < count; i++) m->marks[i] = (struct mark){.id = claimed[i].id, .lease_ms = claimed[i].lease_ms};
    return m;
}

#define MARK_VALUES_MAX 3

// Runs `text` once for each mark; `fill` gives a mark's parameters and says how many.
static int mark_each(struct mark_job *m, struct sql *sql, const char *text,
                     size_t (*fill)(const struct mark_job *m, const struct mark *mark, struct sql_value *values), struct err *err) {
    struct sql_value *values = mem_array(m->count * MARK_VALUES_MAX, sizeof *values);
    size_t width = 0;
    for (size_t i = 0; i < m->count; i++) width = fill(m, &m->marks[i], values + i * width);
    int rc = m->count ? sql_exec_many(sql, text, values, width, m->count, err) : 0;
    free(values);
    return rc;
}

static size_t fill_delivered(const struct mark_job *m, const struct mark *mark, struct sql_value *v) {
    (void)m;
    v[0] = letters_sql_id(&mark->id);
    v[1] = SQL_I(mark->lease_ms);
    return 2;
}

static size_t fill_id(const struct mark_job *m, const struct mark *mark, struct sql_value *v) {
    (void)m;
    v[0] = letters_sql_id(&mark->id);
    return 1;
}

// Edits and originals stay: the event may come back, and then it is the same letter.
static int delivered_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct mark_job *m = container_of(job, struct mark_job, job);
    int rc = mark_each(m, sql, "DELETE FROM letters WHERE id = $1 AND lease_ms = $2", fill_delivered, err);
    return rc ? rc
              : mark_each(m, sql, "DELETE FROM letter_bodies WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM letters l WHERE l.id = letter_bodies.id)",
                          fill_id, err);
}

void letters_delivered(struct letters *l, const struct letter *claimed, size_t count, letter_done_fn *done, void *arg) {
    store_submit(l->store, &mark_job_new(delivered_run, claimed, count, done, arg)->job);
}

static size_t fill_renew(const struct mark_job *m, const struct mark *mark, struct sql_value *v) {
    v[0] = SQL_I(m->lease_ms);
    v[1] = letters_sql_id(&mark->id);
    v[2] = SQL_I(mark->lease_ms);
    return 3;
}

static int renew_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct mark_job *m = container_of(job, struct mark_job, job);
    int64_t store_ms = 0;
    int rc = sql_unix_ms(sql, &store_ms, err);
    m->lease_ms = store_ms + m->hold_ms;
    return rc ? rc
              : mark_each(m, sql, "UPDATE letters SET lease_ms = $1 WHERE id = $2 AND lease_ms = $3 AND state = 'due'", fill_renew, err);
}

void letters_renew(struct letters *l, const struct letter *claimed, size_t count, int64_t lease_ms,
                   void (*fn)(void *arg, int code, int64_t lease_ms), void *arg) {
    struct mark_job *m = mark_job_new(renew_run, claimed, count, NULL, arg);
    m->hold_ms = lease_ms;
    m->renewed = fn;
    store_submit(l->store, &m->job);
}

static size_t fill_unclaim(const struct mark_job *m, const struct mark *mark, struct sql_value *v) {
    v[0] = SQL_I(m->due_ms);
    v[1] = letters_sql_id(&mark->id);
    v[2] = SQL_I(mark->lease_ms);
    return 3;
}

static int unclaim_run(struct store_job *job, struct sql *sql, struct err *err) {
    return mark_each(container_of(job, struct mark_job, job), sql,
                     "UPDATE letters SET due_ms = $1, lease_ms = 0 WHERE id = $2 AND lease_ms = $3 AND state = 'due'",
                     fill_unclaim, err);
}

void letters_unclaim(struct letters *l, const struct letter *claimed, size_t count, int64_t due_ms, letter_done_fn *done,
                     void *arg) {
    struct mark_job *m = mark_job_new(unclaim_run, claimed, count, done, arg);
    m->due_ms = due_ms;
    store_submit(l->store, &m->job);
}

// --- the clock of dlq/due -------------------------------------------------------------------------------------------

struct next_job {
    struct store_job job;
    void (*fn)(void *arg, int code, int64_t due_ms);
    void *arg;
    int64_t due_ms;
};

static int take_due(void *arg, const struct sql_row *row) {
    int64_t *due_ms = arg;
    *due_ms = sql_row_int(row, 0);
    return 0;
}

static int next_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct next_job *n = container_of(job, struct next_job, job);
    n->due_ms = 0;
    int64_t store_ms = 0;
    int rc = sql_unix_ms(sql, &store_ms, err);
    const struct sql_value now = SQL_I(store_ms);
    return rc ? rc
              : sql_exec(sql, "SELECT min(due_ms) FROM letters WHERE state = 'due' AND lease_ms <= $1", &now, 1, take_due,
                         &n->due_ms, NULL, err);
}

static void next_done(struct store_job *job, int code, const struct err *err) {
    (void)err;
    struct next_job *n = container_of(job, struct next_job, job);
    n->fn(n->arg, code, n->due_ms);
    free(n);
}

void letters_next_due(struct letters *l, void (*fn)(void *arg, int code, int64_t due_ms), void *arg) {
    struct next_job *n = mem_zalloc(sizeof *n);
    *n = (struct next_job){.job = {.run = next_run, .done = next_done}, .fn = fn, .arg = arg};
    store_submit(l->store, &n->job);
}
