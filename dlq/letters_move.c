// SPDX-License-Identifier: Apache-2.0
// Claiming letters and saying what came of them. A claim is a lease in the row: its end is at once the claim's name, so
// whatever changed the row meanwhile (a put sets it to 0, another node's claim to another end) makes the claimer's word void.
// Leases go by the store's clock, so that a node whose clock is ahead does not take what another holds.
#include "core/base/clock.h"
#include "dlq/letters_impl.h"

int letter_event(struct str envelope, struct str payload, struct str history, int64_t accepted_ms, struct ev **ret, struct err *err) {
    struct ev *shell;
    int rc = ev_decode(mem_strndup(envelope), envelope.len, &shell, err);
    if (rc) return rc;
    struct ev_fields f = shell->f;
    f.payload = payload;
    f.history = history;
    f.accepted_ms = accepted_ms;
    *ret = ev_new(&f);
    ev_free(shell);
    return 0;
}

// --- claims ---------------------------------------------------------------------------------------------------------

struct claim_job {
    struct store_job job;
    struct filter_copy filter;
    int64_t now_ms;           // the caller's
    int64_t hold_ms, lease_ms; // for how long; until when
    size_t limit;
    letters_claim_fn *fn;
    void *arg;
    struct letter *letters;
    size_t count, room;
};

static void drop_letters(struct claim_job *c) {
    for (size_t i = 0; i < c->count; i++) ev_free(c->letters[i].ev);
    c->count = 0;
}

static void claim_done(struct store_job *job, int code, const struct err *err) {
    struct claim_job *c = container_of(job, struct claim_job, job);
    if (code) drop_letters(c);
    c->fn(c->arg, code, err, c->letters, c->count);
    free(c->letters);
    filter_copy_done(&c->filter);
    free(c);
}

#define CLAIMED " RETURNING id, event, payload, history, accepted_ms"

static int add_claimed(void *arg, const struct sql_row *row) {
    struct claim_job *c = arg;
    if (c->count == c->room) {
        c->room = c->room ? c->room * 2 : 64;
        c->letters = mem_realloc(c->letters, c->room * sizeof *c->letters);
    }
    struct letter *letter = &c->letters[c->count];
    struct str id = sql_row_bytes(row, 0);
    *letter = (struct letter){.lease_ms = c->lease_ms};
    memcpy(letter->id.bytes, id.data, id.len < sizeof letter->id.bytes ? id.len : sizeof letter->id.bytes);
    struct err err = {0};
    int rc = letter_event(sql_row_bytes(row, 1), sql_row_bytes(row, 2), sql_row_bytes(row, 3), sql_row_int(row, 4), &letter->ev, &err);
    if (rc == 0) c->count++;
    return 0; // an unreadable row stays claimed and shows in the listing; the others go on
}

static int by_id(const void *a, const void *b) {
    const struct letter *x = a, *y = b;
    return memcmp(x->id.bytes, y->id.bytes, sizeof x->id.bytes);
}

static void sort_claimed(struct claim_job *c) {
    if (c->count) qsort(c->letters, c->count, sizeof *c->letters, by_id);
}

static int claim_due_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct claim_job *c = container_of(job, struct claim_job, job);
    drop_letters(c);
    int64_t store_ms = 0;
    int rc = sql_unix_ms(sql, &store_ms, err);
    if (rc) return rc;
    c->lease_ms = store_ms + c->hold_ms;
    const struct sql_value values[] = {SQL_I(c->lease_ms), SQL_I(c->now_ms), SQL_I(store_ms), SQL_I(c->limit)};
    const char *text = sql_is_postgres(sql)
                           ? "UPDATE letters SET lease_ms = $1 WHERE id IN (SELECT id FROM letters WHERE state = 'due'"
                             " AND due_ms <= $2 AND lease_ms <= $3 ORDER BY due_ms LIMIT $4 FOR UPDATE SKIP LOCKED)" CLAIMED
                           : "UPDATE letters SET lease_ms = $1 WHERE id IN (SELECT id FROM letters WHERE state = 'due'"
                             " AND due_ms <= $2 AND lease_ms <= $3 ORDER BY due_ms LIMIT $4)" CLAIMED;
    rc = sql_exec(sql, text, values, array_len(values), add_claimed, c, NULL, err);
    sort_claimed(c);
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

static int claim_dead_some(struct claim_job *c, struct sql *sql, const struct sql_value *filter, struct err *err) {
    struct sql_value values[FILTER_VALUES + 2];
    memcpy(values, filter, FILTER_VALUES * sizeof *values);
    values[FILTER_VALUES] = SQL_I(c->lease_ms);
    values[FILTER_VALUES + 1] = SQL_I(c->now_ms);
    // The inner statement stands first so that parameters appear in order.
    const char *text = sql_is_postgres(sql)
                           ? "WITH picked AS (SELECT id FROM letters" LETTERS_WHERE
                             " AND state = 'dead' ORDER BY id LIMIT $8 FOR UPDATE SKIP LOCKED)"
                             " UPDATE letters SET state = 'replaying', lease_ms = $9, changed_ms = $10"
                             " WHERE id IN (SELECT id FROM picked)" CLAIMED
                           : "WITH picked AS (SELECT id FROM letters" LETTERS_WHERE
                             " AND state = 'dead' ORDER BY id LIMIT $8)"
                             " UPDATE letters SET state = 'replaying', lease_ms = $9, changed_ms = $10"
                             " WHERE id IN (SELECT id FROM picked)" CLAIMED;
    return sql_exec(sql, text, values, array_len(values), add_claimed, c, NULL, err);
}

static int claim_dead_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct claim_job *c = container_of(job, struct claim_job, job);
    drop_letters(c);
    struct sql_value filter[FILTER_VALUES];
    filter_values(&c->filter, filter);
    size_t rounds = c->filter.ids ? c->filter.f.id_count : 1;
    int64_t store_ms = 0;
    int rc = sql_unix_ms(sql, &store_ms, err);
    c->lease_ms = store_ms + c->hold_ms;
    for (size_t i = 0; i < rounds && rc == 0; i++) {
        if (c->filter.ids) filter[6] = SQL_B(((struct str){(const char *)c->filter.ids[i].bytes, sizeof(struct id)}));
        rc = claim_dead_some(c, sql, filter, err);
    }
    sort_claimed(c);
    return rc;
}

void letters_claim_dead(struct letters *l, const struct letter_filter *f, int64_t lease_ms, letters_claim_fn *fn, void *arg) {
    struct claim_job *c = mem_zalloc(sizeof *c);
    *c = (struct claim_job){.job = {.run = claim_dead_run, .done = claim_done},
                            .now_ms = clock_unix_ms(),
                            .hold_ms = lease_ms,
                            .fn = fn,
                            .arg = arg};
    struct err err = {0};
    int rc = filter_copy_init(&c->filter, f, "dead", &err);
    if (rc == 0 && !str_is(c->filter.f.state, "dead"))
        rc = err_set(&err, ERR_CONFLICT, "only dead letters can be replayed; these are %.*s", STR_ARG(f->state));
    if (rc) claim_done(&c->job, rc, &err);
    else store_submit(l->store, &c->job);
}

// --- what came of a claim -------------------------------------------------------------------------------------------

struct mark_job {
    struct store_job job;
    struct mark {
        struct id id, replay_id;
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

#define MARK_VALUES_MAX 4

static struct sql_value sql_id(const struct id *id) {
    return SQL_B(((struct str){(const char *)id->bytes, sizeof id->bytes}));
}

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
    v[0] = sql_id(&mark->id);
    v[1] = SQL_I(mark->lease_ms);
    return 2;
}

static int delivered_run(struct store_job *job, struct sql *sql, struct err *err) {
    return mark_each(container_of(job, struct mark_job, job), sql, "DELETE FROM letters WHERE id = $1 AND lease_ms = $2",
                     fill_delivered, err);
}

void letters_delivered(struct letters *l, const struct letter *claimed, size_t count, letter_done_fn *done, void *arg) {
    store_submit(l->store, &mark_job_new(delivered_run, claimed, count, done, arg)->job);
}

static size_t fill_replayed(const struct mark_job *m, const struct mark *mark, struct sql_value *v) {
    v[0] = id_is_none(&mark->replay_id) ? SQL_NONE : sql_id(&mark->replay_id);
    v[1] = SQL_I(m->due_ms); // the time of the call
    v[2] = sql_id(&mark->id);
    v[3] = SQL_I(mark->lease_ms);
    return 4;
}

static int replayed_run(struct store_job *job, struct sql *sql, struct err *err) {
    return mark_each(container_of(job, struct mark_job, job), sql,
                     "UPDATE letters SET state = 'replayed', replay_id = $1, changed_ms = $2, lease_ms = 0"
                     " WHERE id = $3 AND lease_ms = $4 AND state = 'replaying'",
                     fill_replayed, err);
}

void letters_replayed(struct letters *l, const struct letter *claimed, const struct id *replay_ids, size_t count,
                      letter_done_fn *done, void *arg) {
    struct mark_job *m = mark_job_new(replayed_run, claimed, count, done, arg);
    m->due_ms = clock_unix_ms();
    for (size_t i = 0; i < count; i++) m->marks[i].replay_id = replay_ids[i];
    store_submit(l->store, &m->job);
}

static size_t fill_renew(const struct mark_job *m, const struct mark *mark, struct sql_value *v) {
    v[0] = SQL_I(m->lease_ms);
    v[1] = sql_id(&mark->id);
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
    v[1] = sql_id(&mark->id);
    v[2] = SQL_I(mark->lease_ms);
    return 3;
}

static int unclaim_run(struct store_job *job, struct sql *sql, struct err *err) {
    return mark_each(container_of(job, struct mark_job, job), sql,
                     "UPDATE letters SET state = CASE state WHEN 'replaying' THEN 'dead' ELSE state END,"
                     " due_ms = CASE state WHEN 'due' THEN $1 ELSE due_ms END, lease_ms = 0"
                     " WHERE id = $2 AND lease_ms = $3",
                     fill_unclaim, err);
}

void letters_unclaim(struct letters *l, const struct letter *claimed, size_t count, int64_t due_ms, letter_done_fn *done,
                     void *arg) {
    struct mark_job *m = mark_job_new(unclaim_run, claimed, count, done, arg);
    m->due_ms = due_ms;
    store_submit(l->store, &m->job);
}

// --- changes by state -----------------------------------------------------------------------------------------------

struct change_job {
    struct store_job job;
    struct filter_copy filter;
    int64_t now_ms;
    bool dead_too;
    letters_changed_fn *fn;
    void *arg;
    int64_t changed;
};

static void change_done(struct store_job *job, int code, const struct err *err) {
    struct change_job *c = container_of(job, struct change_job, job);
    c->fn(c->arg, code, err, code ? 0 : (size_t)c->changed);
    filter_copy_done(&c->filter);
    free(c);
}

static struct change_job *change_job_new(int (*run)(struct store_job *, struct sql *, struct err *), letters_changed_fn *fn,
                                         void *arg) {
    struct change_job *c = mem_zalloc(sizeof *c);
    *c = (struct change_job){.job = {.run = run, .done = change_done}, .fn = fn, .arg = arg};
    return c;
}

static int discard_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct change_job *c = container_of(job, struct change_job, job);
    c->changed = 0;
    struct sql_value values[FILTER_VALUES + 1];
    filter_values(&c->filter, values);
    values[FILTER_VALUES] = SQL_I(c->now_ms);
    size_t rounds = c->filter.ids ? c->filter.f.id_count : 1;
    int rc = 0;
    for (size_t i = 0; i < rounds && rc == 0; i++) {
        int64_t n = 0;
        if (c->filter.ids) values[6] = sql_id(&c->filter.ids[i]);
        rc = sql_exec(sql,
                      "WITH picked AS (SELECT id FROM letters" LETTERS_WHERE
                      " AND state IN ('due', 'dead') ORDER BY id LIMIT $8)"
                      " UPDATE letters SET state = 'discarded', changed_ms = $9, lease_ms = 0"
                      " WHERE id IN (SELECT id FROM picked)",
                      values, array_len(values), NULL, NULL, &n, err);
        c->changed += n;
    }
    return rc;
}

void letters_discard(struct letters *l, const struct letter_filter *f, letters_changed_fn *fn, void *arg) {
    struct change_job *c = change_job_new(discard_run, fn, arg);
    c->now_ms = clock_unix_ms();
    struct err err = {0};
    int rc = filter_copy_init(&c->filter, f, f->id_count ? "" : "dead", &err);
    if (rc) change_done(&c->job, rc, &err);
    else store_submit(l->store, &c->job);
}

static int purge_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct change_job *c = container_of(job, struct change_job, job);
    const struct sql_value values[] = {SQL_I(c->now_ms), SQL_Z(c->dead_too ? "dead" : "")};
    return sql_exec(sql,
                    "DELETE FROM letters WHERE id IN (SELECT id FROM letters WHERE changed_ms < $1"
                    " AND state IN ('replayed', 'discarded', $2) LIMIT 10000)",
                    values, array_len(values), NULL, NULL, &c->changed, err);
}

void letters_purge(struct letters *l, int64_t before_ms, bool dead, letters_changed_fn *fn, void *arg) {
    struct change_job *c = change_job_new(purge_run, fn, arg);
    c->now_ms = before_ms;
    c->dead_too = dead;
    store_submit(l->store, &c->job);
}

static int recover_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct change_job *c = container_of(job, struct change_job, job);
    int64_t store_ms = 0;
    int rc = sql_unix_ms(sql, &store_ms, err);
    const struct sql_value now = SQL_I(store_ms);
    return rc ? rc
              : sql_exec(sql, "UPDATE letters SET state = 'dead', lease_ms = 0 WHERE state = 'replaying' AND lease_ms < $1", &now, 1,
                         NULL, NULL, &c->changed, err);
}

void letters_recover(struct letters *l, letters_changed_fn *fn, void *arg) {
    store_submit(l->store, &change_job_new(recover_run, fn, arg)->job);
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
