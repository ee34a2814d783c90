// SPDX-License-Identifier: Apache-2.0
// Which jobs run here: a node takes a job by its lease, renews it while it runs, and takes over those whose node has died.
//
// Invariant: a node keeps the lease of a job, whatever its state, until nothing of it is under way there. So of a job whose lease is void nobody
// sends a letter, and those that it claimed and did not mark are dead again.
#include "dlq/replays.h"

#include <utlist.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "dlq/replays_impl.h"

#define RECOVER_LOOKS 15 // how often letters are looked for that nobody sends any more

void replays_submit(struct replays *r, struct store_job *job) {
    r->jobs++;
    store_submit(r->c.store, job);
}

void replay_row_done(struct replay_row *row) {
    free(row->target);
    row->target = NULL;
}

// --- looking for jobs -------------------------------------------------------------------------------------------------------

struct look_job {
    struct store_job job;
    struct replays *replays;
    bool everyone, recover;
    bool stopped;               // takes no job any more, and keeps those that still have letters under way
    int64_t *leaving;           // jobs that are not to run any more, and have letters under way here
    size_t leaving_count;
    struct replay_row rows[REPLAY_JOBS_MAX];
    size_t count;
};

static void drop_rows(struct look_job *l) {
    for (size_t i = 0; i < l->count; i++) replay_row_done(&l->rows[i]);
    l->count = 0;
}

static int take_row(void *arg, const struct sql_row *row) {
    struct look_job *l = arg;
    if (l->count == REPLAY_JOBS_MAX) return 0;
    l->rows[l->count++] = (struct replay_row){.replay = sql_row_int(row, 0),
                                              .created_ms = sql_row_int(row, 1),
                                              .rate = sql_row_int(row, 2),
                                              .ramp_ms = sql_row_int(row, 3),
                                              .abort_share = sql_row_int(row, 4),
                                              .sample = sql_row_int(row, 5),
                                              .total = sql_row_int(row, 6),
                                              .to_origin = sql_row_int(row, 7),
                                              .in_order = sql_row_int(row, 8),
                                              .automatic = sql_row_int(row, 9),
                                              .target = mem_strndup(sql_row_bytes(row, 10))};
    return 0;
}

// Of jobs that were being made when their node ended some letters are missing, so none goes. What caused one may make it anew.
static int cancel_unmade(const struct look_job *l, struct sql *sql, int64_t now_ms, struct err *err) {
    const struct sql_value values[] = {SQL_I(clock_unix_ms()), SQL_I(now_ms), SQL_I(l->everyone ? INT64_MAX : now_ms), SQL_Z(l->replays->c.node)};
    return sql_exec(sql,
                    "UPDATE replays SET state = 'cancelled', reason = 'the server stopped while it selected; nothing was sent',"
                    " cause = cause || ':unmade:' || id, ended_ms = $1 WHERE ended_ms IS NULL AND state = 'selecting'"
                    " AND (lease_ms <= $2 OR (lease_ms <= $3 AND owner <> $4))",
                    values, array_len(values), NULL, NULL, NULL, err);
}

static int keep_leaving(const struct look_job *l, struct sql *sql, int64_t now_ms, struct err *err) {
    int rc = 0;
    for (size_t i = 0; i < l->leaving_count && rc == 0; i++) {
        const struct sql_value values[] = {SQL_I(now_ms + REPLAY_LEASE_MS), SQL_I(l->leaving[i]), SQL_Z(l->replays->c.node)};
        rc = sql_exec(sql, "UPDATE replays SET lease_ms = $1 WHERE id = $2 AND owner = $3", values, array_len(values), NULL, NULL, NULL, err);
    }
    return rc;
}

// A letter's own lease only names its claim: however long a queue takes to confirm it, it is being sent while its job is held.
static int recover(const struct look_job *l, struct sql *sql, int64_t now_ms, struct err *err) {
    const struct sql_value values[] = {SQL_I(now_ms), SQL_I(l->everyone ? INT64_MAX : now_ms), SQL_Z(l->replays->c.node)};
    return sql_exec(sql,
                    "UPDATE letters SET state = 'dead', lease_ms = 0 WHERE state = 'replaying' AND NOT EXISTS"
                    " (SELECT 1 FROM replays r WHERE r.id = letters.replay AND r.lease_ms > $1 AND (r.lease_ms > $2 OR r.owner = $3))",
                    values, array_len(values), NULL, NULL, NULL, err);
}

static int take_jobs(struct look_job *l, struct sql *sql, int64_t now_ms, struct err *err) {
    const struct sql_value values[] = {SQL_Z(l->replays->c.node), SQL_I(now_ms + REPLAY_LEASE_MS), SQL_I(l->everyone ? INT64_MAX : now_ms),
                                       SQL_I(REPLAY_JOBS_MAX)};
    return sql_exec(sql,
                    "UPDATE replays SET owner = $1, lease_ms = $2 WHERE ended_ms IS NULL AND state = 'running'"
                    " AND (owner = $1 OR lease_ms <= $3) AND id IN (SELECT id FROM replays WHERE ended_ms IS NULL AND state = 'running'"
                    " AND (owner = $1 OR lease_ms <= $3) ORDER BY owner <> $1, id LIMIT $4) RETURNING " REPLAY_COLUMNS,
                    values, array_len(values), take_row, l, NULL, err);
}

static int look_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct look_job *l = container_of(job, struct look_job, job);
    drop_rows(l);
    int64_t now_ms = 0;
    int rc = sql_unix_ms(sql, &now_ms, err);
    if (rc == 0 && !l->stopped) rc = take_jobs(l, sql, now_ms, err);
    if (rc == 0) rc = keep_leaving(l, sql, now_ms, err);
    if (rc || l->stopped) return rc;
    rc = cancel_unmade(l, sql, now_ms, err);
    return rc == 0 && l->recover ? recover(l, sql, now_ms, err) : rc;
}

static struct run *find_run(struct replays *r, int64_t replay) {
    for (struct run *run = r->runs; run; run = run->next)
        if (run->row.replay == replay) return run;
    return NULL;
}

static void on_looked(struct store_job *job, int code, const struct err *err) {
    (void)err;
    struct look_job *l = container_of(job, struct look_job, job);
    struct replays *r = l->replays;
    struct run *run, *next;
    r->jobs--;
    r->looking = false;
    if (code == 0) r->everyone = false;
    for (run = r->runs; run; run = run->next) run->owned = false;
    for (size_t i = 0; i < l->count && code == 0; i++) {
        run = find_run(r, l->rows[i].replay);
        if (run) run->owned = true;
        else if (!r->stopped) run_new(r, &(struct replay_row){.replay = l->rows[i].replay,
                                                              .created_ms = l->rows[i].created_ms,
                                                              .rate = l->rows[i].rate,
                                                              .ramp_ms = l->rows[i].ramp_ms,
                                                              .abort_share = l->rows[i].abort_share,
                                                              .sample = l->rows[i].sample,
                                                              .total = l->rows[i].total,
                                                              .to_origin = l->rows[i].to_origin,
                                                              .in_order = l->rows[i].in_order,
                                                              .automatic = l->rows[i].automatic,
                                                              .target = TAKE_PTR(l->rows[i].target)});
    }
    DL_FOREACH_SAFE(r->runs, run, next) if (code == 0 && !run->owned) run_leave(run); // paused, cancelled, or another's
    drop_rows(l);
    free(l->leaving);
    free(l);
    if (r->look_again) replays_look(r);
    else timer_start(r->timer, r->c.look_ms);
}

void replays_look(struct replays *r) {
    if (!r->started || (r->stopped && !r->runs)) return;
    r->look_again = r->looking;
    if (r->looking) return;
    r->looking = true;
    replays_read_holds(r);
    int64_t now = clock_mono_ns();
    struct look_job *l = mem_zalloc(sizeof *l);
    *l = (struct look_job){.job = {.run = look_run, .done = on_looked}, .replays = r, .everyone = r->everyone, .recover = now >= r->recover_at_ns,
                           .stopped = r->stopped};
    if (l->recover) r->recover_at_ns = now + replays_looks(r, RECOVER_LOOKS);
    const struct run *run;
    DL_FOREACH(r->runs, run) {
        if (!run->leaving) continue;
        l->leaving = mem_realloc(l->leaving, (l->leaving_count + 1) * sizeof *l->leaving);
        l->leaving[l->leaving_count++] = run->row.replay;
    }
    replays_submit(r, &l->job);
}

void replays_recover_in(struct replays *r, int64_t delay_ms) {
    int64_t at_ns = clock_mono_ns() + delay_ms * NS_PER_MS;
    if (at_ns < r->recover_at_ns) r->recover_at_ns = at_ns;
}

static void look(void *arg) {
    replays_look(arg);
}

// --- life -------------------------------------------------------------------------------------------------------------------

struct let_go_job {
    struct store_job job;
    struct replays *replays;
    int64_t replay;
    bool stopped;
};

static int let_go_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct let_go_job *l = container_of(job, struct let_go_job, job);
    const struct sql_value values[] = {SQL_I(l->replay), SQL_Z(l->replays->c.node)};
    int64_t changed = 0;
    int rc = sql_exec(sql,
                      l->stopped ? "UPDATE replays SET lease_ms = 0 WHERE id = $1 AND owner = $2"
                                 : "UPDATE replays SET lease_ms = 0 WHERE id = $1 AND owner = $2 AND state <> 'running'",
                      values, array_len(values), NULL, NULL, &changed, err);
    return rc == 0 && changed ? replays_sql_release(sql, l->replay, err) : rc;
}

static void on_let_go(struct store_job *job, int code, const struct err *err) {
    (void)code, (void)err; // then the lease runs out
    struct let_go_job *l = container_of(job, struct let_go_job, job);
    l->replays->jobs--;
    free(l);
}

// Whoever goes on with it need not wait for our lease to run out.
static void let_go(struct replays *r, int64_t replay) {
    struct let_go_job *l = mem_zalloc(sizeof *l);
    *l = (struct let_go_job){.job = {.run = let_go_run, .done = on_let_go}, .replays = r, .replay = replay, .stopped = r->stopped};
    replays_submit(r, &l->job);
}

void run_ended(struct replays *r, struct run *run) {
    let_go(r, run->row.replay);
    DL_DELETE(r->runs, run);
    run_free(run);
}

struct replays *replays_new(const struct replays_config *config) {
    struct replays *r = mem_zalloc(sizeof *r);
    r->c = *config;
    if (!r->c.look_ms) r->c.look_ms = REPLAY_LOOK_MS;
    if (!r->c.silence_ms) r->c.silence_ms = REPLAY_SILENCE_MS;
    r->everyone = !store_is_shared(config->store);
    r->timer = timer_new(config->loop, look, r);
    replays_outcomes_init(r);
    replays_holds_init(r);
    return r;
}

void replays_set_origin(struct replays *r, void (*to_origin)(void *arg, const struct ev *ev, sink_done_fn *done, void *done_arg), void *arg) {
    r->to_origin = to_origin;
    r->to_origin_arg = arg;
}

void replays_start(struct replays *r) {
    r->started = true;
    replays_look(r);
}

bool replays_stop(struct replays *r) {
    struct run *run, *next;
    r->stopped = true;
    DL_FOREACH_SAFE(r->runs, run, next) if (!run->leaving) run_leave(run);
    return !r->runs && r->jobs == 0 && r->outcome_count == 0;
}

void replays_free(struct replays *r) {
    if (!r) return;
    MUST(!r->runs);
    replays_outcomes_done(r);
    replays_holds_done(r);
    timer_free(r->timer);
    free(r);
}
