// SPDX-License-Identifier: Apache-2.0
// Housekeeping: with a store that is shared the clock, the leadership and the cancels of other nodes, each second; on one node of all, and
// less often, what nobody else would end, let go or delete. The first round of all reads what was cancelled before it.
//
// Invariant: one job at a time. Leadership is a lock of the store's session: with the session it goes by itself.
#include "core/base/clock.h"
#include "core/base/log.h"
#include "dlq/fires_impl.h"

#define ROUND_MS 1000
#define ROUND_ALONE_MS 5000   // a store of its own
#define TIDY_ROUNDS 5         // of ROUND_MS
#define PORTION 5000          // rows that one round deletes
#define SETTLE_PORTION 1000   // triggers of one round
#define SELDOM_NS (600000 * NS_PER_MS)
#define CANCELS_SLACK_MS 60000   // a cancel may be committed so long after its time
#define CANCELS_FIRST_MS 86400000 // at the start: those of a day
#define LOCK "1464158546, 5"  // of the advisory lock; any pair that nobody else takes

struct keep_job {
    struct store_job job;
    struct fires *fires;
    bool shared, resign, tidy;
    bool seldom; // what goes through many rows is done too
    int64_t cancels_since_ms, excess_before;
    char *settle_after;
    // what came of it
    struct clock_reading clock;
    bool leader, full; // full: there is more to delete
    int64_t now_ms, excess;
    struct ids cancelled;
    char *settled;
    size_t let_go;
};

// --- shared -----------------------------------------------------------------------------------------------------------

// The locks of one session add up: it is asked for only when it is not held.
static int lead(struct keep_job *k, struct sql *sql, struct err *err) {
    int64_t held = 0;
    int rc = k->resign ? sql_exec(sql, "SELECT pg_advisory_unlock(" LOCK ")", NULL, 0, NULL, NULL, NULL, err)
                       : sql_exec(sql,
                                  "SELECT CASE WHEN EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
                                  " AND (classid::bigint, objid::bigint, objsubid) = (" LOCK ", 2)) THEN true"
                                  " ELSE pg_try_advisory_lock(" LOCK ") END",
                                  NULL, 0, fires_take_int, &held, NULL, err);
    k->leader = rc == 0 && held;
    return rc;
}

// The oldest first: those that the others push out.
static int read_cancels(struct keep_job *k, struct sql *sql, struct err *err) {
    k->cancelled.count = 0;
    const struct sql_value values[] = {SQL_I(k->cancels_since_ms ? k->cancels_since_ms - CANCELS_SLACK_MS : k->now_ms - CANCELS_FIRST_MS),
                                       SQL_I(FIRES_CANCELLED_MAX)};
    return sql_exec(sql,
                    "SELECT event_id FROM (SELECT event_id, ended_ms FROM fires WHERE outcome = 'cancelled' AND ended_ms >= $1"
                    " AND event_id IS NOT NULL ORDER BY ended_ms DESC LIMIT $2) newest ORDER BY ended_ms",
                    values, array_len(values), fires_take_id, &k->cancelled, NULL, err);
}

// --- tidying ----------------------------------------------------------------------------------------------------------

struct names {
    struct settle at[SETTLE_PORTION];
    size_t count;
};

static int take_name(void *arg, const struct sql_row *row) {
    struct names *names = arg;
    if (names->count < SETTLE_PORTION) names->at[names->count++].trigger = mem_strndup(sql_row_bytes(row, 0));
    return 0;
}

// The fires that wait for one which vanished: a portion of the triggers a round, in turn.
static int settle_waiting(struct keep_job *k, struct sql *sql, struct err *err) {
    struct names *names = mem_zalloc(sizeof *names);
    const struct sql_value values[] = {SQL_Z(k->settle_after), SQL_I(SETTLE_PORTION)};
    int rc = sql_exec(sql, "SELECT DISTINCT trigger FROM fires WHERE outcome = 'waiting' AND trigger > $1 ORDER BY trigger LIMIT $2",
                      values, array_len(values), take_name, names, NULL, err);
    if (rc == 0) rc = fires_sql_settle(sql, names->at, names->count, k->now_ms, &k->let_go, err);
    free(k->settled);
    k->settled = mem_strdup(names->count == SETTLE_PORTION ? names->at[names->count - 1].trigger : "");
    for (size_t i = 0; i < names->count; i++) free((void *)(uintptr_t)names->at[i].trigger);
    free(names);
    return rc;
}

#define ORPHANS(by_open, by_waiting)                                                                                       \
    "UPDATE letters SET state = 'discarded', changed_ms = $1 WHERE state = 'due' AND due_ms = $2 AND NOT EXISTS"            \
    " (SELECT 1 FROM fires f" by_waiting " WHERE f.trigger = letters.source_name AND f.outcome = 'waiting' AND f.event_id = letters.id)"

// The letters of waiting fires whose trigger was removed.
static int discard_orphans(const struct keep_job *k, struct sql *sql, struct err *err) {
    const struct sql_value values[] = {SQL_I(k->now_ms), SQL_I(FIRES_HELD_MS)};
    return sql_exec(sql, FIRES_TEXT(sql, ORPHANS), values, array_len(values), NULL, NULL, NULL, err);
}

static int end_stale(const struct keep_job *k, struct sql *sql, struct err *err) {
    const struct sql_value values[] = {SQL_I(k->now_ms), SQL_I(PORTION)};
    return sql_exec(sql,
                    "UPDATE fires SET ended_ms = $1, outcome = coalesce((SELECT CASE l.state WHEN 'due' THEN NULL"
                    " WHEN 'discarded' THEN 'discarded' ELSE 'dead' END FROM letters l WHERE l.id = fires.event_id), 'unknown')"
                    " WHERE ended_ms IS NULL AND outcome = 'running' AND (trigger, scheduled_ms) IN (SELECT trigger, scheduled_ms FROM"
                    " fires WHERE ended_ms IS NULL AND stale_at_ms > 0 AND stale_at_ms < $1 AND outcome = 'running' ORDER BY stale_at_ms LIMIT $2)",
                    values, array_len(values), NULL, NULL, NULL, err);
}

static int delete_ended(struct sql *sql, int64_t before_ms, int64_t limit, int64_t *ret_deleted, struct err *err) {
    const struct sql_value values[] = {SQL_I(before_ms), SQL_I(limit)};
    return sql_exec(sql,
                    "DELETE FROM fires WHERE (trigger, scheduled_ms) IN (SELECT trigger, scheduled_ms FROM fires"
                    " WHERE ended_ms IS NOT NULL AND ended_ms < $1 ORDER BY ended_ms LIMIT $2)",
                    values, array_len(values), NULL, NULL, ret_deleted, err);
}

static int delete_old(struct keep_job *k, struct sql *sql, struct err *err) {
    int64_t old = 0, over = 0, count = 0, excess = k->excess_before;
    int rc = delete_ended(sql, k->now_ms - k->fires->c.keep_ms, PORTION, &old, err);
    if (rc == 0 && k->seldom) {
        rc = sql_exec(sql, "SELECT count(*) FROM fires WHERE ended_ms IS NOT NULL", NULL, 0, fires_take_int, &count, NULL, err);
        excess = count - (int64_t)k->fires->c.rows_max;
    } else excess -= old;
    if (rc == 0 && excess > 0) rc = delete_ended(sql, INT64_MAX, excess < PORTION ? excess : PORTION, &over, err);
    k->excess = excess > over ? excess - over : 0;
    k->full = old == PORTION || k->excess > 0;
    return rc;
}

// --- a round ----------------------------------------------------------------------------------------------------------

static int keep_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct keep_job *k = container_of(job, struct keep_job, job);
    k->let_go = 0;
    int rc = fires_sql_clock(sql, &k->clock, err);
    if (rc == 0) rc = sql_unix_ms(sql, &k->now_ms, err);
    if (rc == 0 && k->shared) rc = lead(k, sql, err);
    if (rc == 0 && (k->shared || !k->cancels_since_ms)) rc = read_cancels(k, sql, err);
    if (rc || !k->tidy || (k->shared && !k->leader)) return rc;
    rc = settle_waiting(k, sql, err);
    if (rc == 0) rc = end_stale(k, sql, err);
    if (rc == 0 && k->seldom) rc = discard_orphans(k, sql, err);
    return rc ? rc : delete_old(k, sql, err);
}

static void take_round(struct fires *f, struct keep_job *k) {
    if (f->shared) fires_set_clock(f, &k->clock);
    if (f->shared && k->leader != f->leader) log_info("fires", k->leader ? "this node leads the timers" : "this node follows");
    f->leader = k->leader;
    f->cancels_since_ms = k->now_ms;
    fires_add_cancelled(f, &k->cancelled);
    if (k->let_go) fires_tell_due(f);
    if (!k->settled) return; // it was not this node's to tidy
    f->excess = k->excess;
    if (k->seldom) f->seldom_at_ns = clock_mono_ns();
    free(f->settled);
    f->settled = TAKE_PTR(k->settled);
}

static void keep_done(struct store_job *job, int code, const struct err *err) {
    struct keep_job *k = container_of(job, struct keep_job, job);
    struct fires *f = k->fires;
    (void)err; // the store has told it
    f->jobs--;
    f->keeping = false;
    if (code == 0) take_round(f, k);
    else f->leader = false;
    if (!f->stopped) timer_start(f->timer, !f->shared && !k->full ? ROUND_ALONE_MS : ROUND_MS);
    else if (f->leader) fires_keep(f);
    ids_done(&k->cancelled);
    free(k->settle_after);
    free(k->settled);
    free(k);
}

void fires_keep(void *fires) {
    struct fires *f = fires;
    struct keep_job *k = mem_zalloc(sizeof *k);
    *k = (struct keep_job){.job = {.run = keep_run, .done = keep_done},
                           .fires = f,
                           .shared = f->shared,
                           .resign = f->stopped,
                           .cancels_since_ms = f->cancels_since_ms,
                           .excess_before = f->excess,
                           .settle_after = mem_strdup(f->settled)};
    k->tidy = !f->stopped && (!f->shared || f->excess || f->rounds % TIDY_ROUNDS == 0);
    k->seldom = f->seldom_at_ns == 0 || clock_mono_ns() - f->seldom_at_ns > SELDOM_NS;
    f->rounds++;
    f->keeping = true;
    fires_submit(f, &k->job);
}
