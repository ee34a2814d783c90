// SPDX-License-Identifier: Apache-2.0
// What a run does for the sake of its order: reads it when it begins, hears of ends, stops keys whose letter failed again.
//
// Invariant: nothing is sent before live events wait for the run's keys.
#include "core/base/clock.h"
#include "dlq/replays_impl.h"

#define WAIT_LOOKS 2.5 // until every node knows which live events wait
#define ENDS_LOOKS 0.5 // how often ends of events on other nodes are looked for

// --- the begin --------------------------------------------------------------------------------------------------------------

struct read_job {
    struct store_job job;
    struct run *run;
    struct order *order;
    int64_t after;
    size_t count;
    struct order_row rows[REPLAY_ORDER_WINDOW];
};

static int read_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct read_job *r = container_of(job, struct read_job, job);
    return order_sql_read(sql, &r->run->row, r->after, r->rows, &r->count, err);
}

static void submit_read(struct read_job *r) {
    r->run->jobs++;
    r->run->replays->jobs++;
    store_submit(r->run->replays->c.reader, &r->job);
}

// A window at a time: neither the loop nor others who read wait long for a job of millions.
static void on_read(struct store_job *job, int code, const struct err *err) {
    struct read_job *r = container_of(job, struct read_job, job);
    struct run *run = r->run;
    run->replays->jobs--;
    run->jobs--;
    for (size_t i = 0; i < r->count && code == 0; i++) order_add(r->order, &r->rows[i]);
    r->after += REPLAY_ORDER_WINDOW;
    if (code == 0 && !run->leaving && r->after < run->row.total) {
        submit_read(r);
        return;
    }
    if (code) {
        run_cannot_begin(run, err);
    } else if (!run->leaving) {
        run->order = TAKE_PTR(r->order);
        run->taken_ns = clock_mono_ns();
        run_begin(run);
    }
    order_free(r->order);
    free(r);
    run_go(run);
}

void run_order_begin(struct run *run) {
    struct read_job *r = mem_zalloc(sizeof *r);
    *r = (struct read_job){.job = {.run = read_run, .done = on_read}, .run = run, .order = order_new()};
    submit_read(r);
}

bool run_order_may_begin(const struct run *run, int64_t now_ns) {
    return now_ns - run->taken_ns >= replays_looks(run->replays, WAIT_LOOKS) && replays_holds_known_ns(run->replays) >= run->taken_ns;
}

// --- claims, marks and ends ---------------------------------------------------------------------------------------------------

// Those that were not claimed are no more dead, and let the next of their key go; or there was no room for them.
void run_order_claimed(struct run *run, const struct claim_job *c, bool failed) {
    size_t k = 0;
    for (size_t i = 0; i < c->seq_count; i++) {
        while (k < c->count && c->claimed[k].seq < c->seqs[i]) k++;
        if (failed || c->seqs[i] >= c->first_left) order_return(run->order, c->seqs[i]);
        else if (k == c->count || c->claimed[k].seq != c->seqs[i]) order_done(run->order, c->seqs[i]);
    }
}

struct skip_job {
    struct store_job job;
    struct run *run;
    int64_t *seqs;
    size_t count;
    char *why;
};

static int skip_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct skip_job *s = container_of(job, struct skip_job, job);
    struct sql_value *values = mem_array(s->count * 3, sizeof *values);
    for (size_t i = 0; i < s->count; i++) {
        values[3 * i] = SQL_Z(s->why);
        values[3 * i + 1] = SQL_I(s->run->row.replay);
        values[3 * i + 2] = SQL_I(s->seqs[i]);
    }
    int rc = sql_exec_many(sql, "UPDATE replay_letters SET state = 'skipped', why = $1 WHERE replay = $2 AND seq = $3 AND state = 'pending'", values,
                           3, s->count, err);
    free(values);
    return rc;
}

// What was not marked is pending: the job is taken up anew.
static void on_skipped(struct store_job *job, int code, const struct err *err) {
    struct skip_job *s = container_of(job, struct skip_job, job);
    struct run *run = s->run;
    run->replays->jobs--;
    run->jobs--;
    if (code) {
        run_pause(run, err->text);
        run->leaving = true;
    }
    free(s->seqs);
    free(s->why);
    free(s);
    run_go(run);
}

// The letter failed again: those behind it of the same key stay dead.
static void stop_key(struct run *run, int64_t seq, const char *what) {
    struct skip_job *s = mem_zalloc(sizeof *s);
    *s = (struct skip_job){.job = {.run = skip_run, .done = on_skipped}, .run = run};
    s->count = order_stop(run->order, seq, &s->seqs);
    if (s->count == 0) {
        free(s->seqs);
        free(s);
        return;
    }
    s->why = mem_printf("a letter of its key before it (number %lld) %s", (long long)seq, what);
    run->jobs++;
    replays_submit(run->replays, &s->job);
}

void run_order_marked(struct run *run, const struct marks_job *m) {
    for (size_t i = 0; i < m->count; i++) {
        const struct mark_row *row = &m->rows[i];
        if (row->failed) stop_key(run, row->seq, "could not be sent");
        else if (!row->sent) order_return(run->order, row->seq);
        else if (run->row.to_origin) order_done(run->order, row->seq);
    }
}

void replays_event_ended(struct replays *r, int64_t replay, int64_t seq, enum replay_outcome outcome) {
    struct run *run = r->runs;
    while (run && run->row.replay != replay) run = run->next;
    if (!run || !run->order || outcome == REPLAY_OUTCOME_FAILING) return;
    run->quiet_since_ns = clock_mono_ns();
    if (outcome == REPLAY_OUTCOME_OK) order_done(run->order, seq);
    else stop_key(run, seq, "failed again");
    timer_start(run->timer, 0);
}

struct ends_job {
    struct store_job job;
    struct run *run;
    char *busy;
    struct end_found {
        int64_t seq;
        bool dead;
    } found[REPLAY_ORDER_BUSY];
    size_t count;
};

static int take_end(void *arg, const struct sql_row *row) {
    struct ends_job *e = arg;
    if (!sql_row_is_null(row, 1) && e->count < REPLAY_ORDER_BUSY)
        e->found[e->count++] = (struct end_found){sql_row_int(row, 0), str_is(sql_row_bytes(row, 1), "dead")};
    return 0;
}

static int ends_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct ends_job *e = container_of(job, struct ends_job, job);
    const struct sql_value values[] = {SQL_I(e->run->row.replay), SQL_Z(e->busy)};
    e->count = 0;
    return sql_exec(sql,
                    "SELECT CAST(value->>'s' AS BIGINT), (SELECT r.outcome FROM replay_letters r WHERE r.replay = $1"
                    " AND r.seq = CAST(value->>'s' AS BIGINT) AND r.outcome IN ('ok', 'dead')) FROM json_each($2)",
                    values, 2, take_end, e, NULL, err);
}

static void on_ends(struct store_job *job, int code, const struct err *err) {
    (void)err;
    struct ends_job *e = container_of(job, struct ends_job, job);
    struct run *run = e->run;
    run->replays->jobs--;
    run->jobs--;
    run->looking = false;
    run->look_at_ns = clock_mono_ns() + replays_looks(run->replays, ENDS_LOOKS);
    for (size_t i = 0; i < e->count && code == 0; i++)
        replays_event_ended(run->replays, run->row.replay, e->found[i].seq, e->found[i].dead ? REPLAY_OUTCOME_DEAD : REPLAY_OUTCOME_OK);
    free(e->busy);
    free(e);
    run_go(run);
}

// Events that ran on other nodes.
void run_order_look(struct run *run, int64_t now_ns) {
    if (!run->order || !order_busy_count(run->order) || run->looking || now_ns < run->look_at_ns) return;
    struct ends_job *e = mem_zalloc(sizeof *e);
    *e = (struct ends_job){.job = {.run = ends_run, .done = on_ends}, .run = run, .busy = order_busy(run->order)};
    run->looking = true;
    run->jobs++;
    run->replays->jobs++;
    store_submit(run->replays->c.reader, &e->job);
}
