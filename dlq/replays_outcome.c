// SPDX-License-Identifier: Apache-2.0
// What became of the events that replays sent: told by the workers, written in batches, counted for whoever looks.
#include "core/base/fault.h"
#include "dlq/columns.h"
#include "dlq/replays_impl.h"

struct outcome_item {
    struct outcome_item *next;
    int64_t replay, seq;
    struct id letter;
    enum replay_outcome outcome;
    letter_done_fn *done;
    void *arg;
};

struct outcome_job {
    struct store_job job;
    struct replays *replays;
    struct outcome_item **items; // by job and place, so that two nodes lock rows in one order; failing before the last word
    size_t count;
};

static const char *outcome_name(enum replay_outcome o) {
    return o == REPLAY_OUTCOME_OK ? "ok" : o == REPLAY_OUTCOME_DEAD ? "dead" : "failing";
}

// The last word of several about one letter; they stand one behind the other.
static bool is_last_word(const struct outcome_job *o, size_t i) {
    const struct outcome_item *it = o->items[i], *next = i + 1 < o->count ? o->items[i + 1] : NULL;
    return !next || next->replay != it->replay || next->seq != it->seq || !id_eq(&next->letter, &it->letter);
}

static int write_together(const struct outcome_job *o, struct sql *sql, struct err *err) {
    struct column outcomes, replays, seqs, letters;
    column_init(&outcomes);
    column_init(&replays);
    column_init(&seqs);
    column_init(&letters);
    for (size_t i = 0; i < o->count; i++) {
        const struct outcome_item *it = o->items[i];
        if (!is_last_word(o, i)) continue;
        column_add_word(&outcomes, outcome_name(it->outcome));
        column_add_number(&replays, it->replay);
        column_add_number(&seqs, it->seq);
        column_add_id(&letters, &it->letter);
    }
    const struct sql_value values[] = {column_value(&outcomes), column_value(&replays), column_value(&seqs), column_value(&letters)};
    int rc = sql_exec(sql,
                      "UPDATE replay_letters AS r SET outcome = u.outcome"
                      " FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bytea[]) AS u(outcome, replay, seq, letter)"
                      " WHERE r.replay = u.replay AND r.seq = u.seq AND r.letter_id = u.letter"
                      " AND (r.outcome IS NULL OR r.outcome = 'failing')",
                      values, array_len(values), NULL, NULL, NULL, err);
    column_done(&outcomes);
    column_done(&replays);
    column_done(&seqs);
    column_done(&letters);
    return rc;
}

static int outcomes_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct outcome_job *o = container_of(job, struct outcome_job, job);
    if (sql_is_postgres(sql)) return write_together(o, sql, err);
    struct sql_value *values = mem_array(o->count * 4, sizeof *values);
    for (size_t i = 0; i < o->count; i++) {
        const struct outcome_item *it = o->items[i];
        values[4 * i] = SQL_Z(outcome_name(it->outcome));
        values[4 * i + 1] = SQL_I(it->replay);
        values[4 * i + 2] = SQL_I(it->seq);
        values[4 * i + 3] = letters_sql_id(&it->letter);
    }
    int rc = sql_exec_many(sql,
                           "UPDATE replay_letters SET outcome = $1 WHERE replay = $2 AND seq = $3 AND letter_id = $4"
                           " AND (outcome IS NULL OR outcome = 'failing')",
                           values, 4, o->count, err);
    free(values);
    return rc;
}

static void flush(void *arg);

static void on_written(struct store_job *job, int code, const struct err *err) {
    struct outcome_job *o = container_of(job, struct outcome_job, job);
    struct replays *r = o->replays;
    r->jobs--;
    if (code == 0) FAULT("replay.outcome");
    for (size_t i = 0; i < o->count; i++) {
        struct outcome_item *it = o->items[i];
        if (code == 0) replays_event_ended(r, it->replay, it->seq, it->outcome);
        it->done(it->arg, code, err);
        free(it);
    }
    free(o->items);
    free(o);
    r->outcome_busy = false;
    flush(r);
}

static int by_place(const void *a, const void *b) {
    const struct outcome_item *x = *(struct outcome_item *const *)a, *y = *(struct outcome_item *const *)b;
    if (x->replay != y->replay) return x->replay < y->replay ? -1 : 1;
    if (x->seq != y->seq) return x->seq < y->seq ? -1 : 1;
    int order = memcmp(x->letter.bytes, y->letter.bytes, sizeof x->letter.bytes);
    return order ? order : (x->outcome > y->outcome) - (x->outcome < y->outcome);
}

// One job at a time: what is told while it runs goes together into the next.
static void flush(void *arg) {
    struct replays *r = arg;
    if (r->outcome_count == 0 || r->outcome_busy) return;
    r->outcome_busy = true;
    struct outcome_job *o = mem_zalloc(sizeof *o);
    *o = (struct outcome_job){.job = {.run = outcomes_run, .done = on_written}, .replays = r};
    o->items = mem_array(r->outcome_count, sizeof(struct outcome_item *));
    for (struct outcome_item *it = r->outcome_first; it; it = it->next) o->items[o->count++] = it;
    qsort(o->items, o->count, sizeof(struct outcome_item *), by_place);
    r->outcome_first = NULL;
    r->outcome_last = &r->outcome_first;
    r->outcome_count = 0;
    replays_submit(r, &o->job);
}

void replays_outcome(struct replays *r, const struct ev *ev, enum replay_outcome outcome, letter_done_fn *done, void *arg) {
    struct outcome_item *it = mem_zalloc(sizeof *it);
    *it = (struct outcome_item){.replay = ev->f.replay,
                                .seq = ev->f.replay_seq,
                                .letter = ev->f.origin_id,
                                .outcome = outcome,
                                .done = done,
                                .arg = arg};
    *r->outcome_last = it;
    r->outcome_last = &it->next;
    r->outcome_count++;
    loop_defer(r->c.loop, &r->outcome_flush);
}

void replays_outcomes_init(struct replays *r) {
    r->outcome_last = &r->outcome_first;
    r->outcome_flush = (struct defer){.fn = flush, .arg = r};
}

void replays_outcomes_done(struct replays *r) {
    MUST(r->outcome_count == 0);
    loop_defer_cancel(r->c.loop, &r->outcome_flush);
}

// --- counts -------------------------------------------------------------------------------------------------------------------

static int add_count(void *arg, const struct sql_row *row) {
    struct replay_counts *c = arg;
    struct str state = sql_row_bytes(row, 0), outcome = sql_row_bytes(row, 1);
    int64_t n = sql_row_int(row, 2);
    if (str_is(state, "pending")) c->pending += n;
    else if (str_is(state, "sent")) c->sent += n;
    else if (str_is(state, "skipped")) c->skipped += n;
    else c->failed += n;
    if (str_is(outcome, "ok")) c->ok += n;
    else if (str_is(outcome, "dead")) c->dead += n;
    else if (str_is(outcome, "failing")) c->failing += n;
    return 0;
}

int replays_sql_counts(struct sql *sql, int64_t replay, bool automatic, struct replay_counts *ret, struct err *err) {
    const struct sql_value id = SQL_I(replay);
    *ret = (struct replay_counts){0};
    int rc = sql_exec(sql, "SELECT state, coalesce(outcome, ''), count(*) FROM replay_letters WHERE replay = $1 GROUP BY 1, 2", &id, 1, add_count,
                      ret, NULL, err);
    if (rc || !automatic || ret->failing + ret->dead == 0) return rc;
    return sql_exec(sql,
                    "SELECT count(*) FROM replay_letters r JOIN letters before ON before.id = r.letter_id JOIN letters after"
                    " ON after.id = r.event_id WHERE r.replay = $1 AND r.outcome IN ('failing', 'dead')"
                    " AND before.fingerprint = after.fingerprint",
                    &id, 1, letters_take_int, &ret->same, NULL, err);
}
