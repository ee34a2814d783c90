// SPDX-License-Identifier: Apache-2.0
// Deciding: one transaction that moves the cursors, looks at what is still running, and writes the rows and their letters.
//
// Invariant: run may run again, so it changes nothing but the job's own notes; the events become letters when it is committed.
#include <jansson.h>

#include "core/base/fault.h"
#include "core/base/log.h"
#include "dlq/due.h"
#include "dlq/fires_impl.h"
#include "dlq/letters_impl.h"

struct decide_job {
    struct store_job job;
    struct fires *fires;
    const struct fire_plan *plans;
    size_t plan_count;
    struct fire_verdict *verdicts;     // one for each plan
    struct standing {
        bool seen;                     // it has a trigger and a cursor
        bool running, waiting;         // a fire that counts
    } *standings;                      // likewise
    struct entry {
        size_t plan;
        struct fire *fire;
        enum fire_outcome outcome;     // FIRE_RUNNING, FIRE_WAITING, or why it never runs
        bool written;                  // its row is
    } *entries;                        // of plans that are carried out
    size_t entry_count;
    int64_t now_ms, lease_ms;          // the store's clock
    const char *astray;                // one of the triggers whose cursors were far ahead of it
    struct ids cancelled;
    size_t let_go;
    fires_decided_fn *done;
    void *arg;
};

// --- cursors ----------------------------------------------------------------------------------------------------------

// Columns: the plan's number, the cursor, the trigger's changed_ms, its state.
static int take_cursor(void *arg, const struct sql_row *row) {
    struct decide_job *d = arg;
    size_t at = (size_t)sql_row_int(row, 0);
    if (at >= d->plan_count) return ERR_INTERNAL;
    const struct fire_plan *p = &d->plans[at];
    int64_t stored_ms = sql_row_int(row, 1), changed_ms = sql_row_int(row, 2), cursor_ms = fires_cursor_ms(stored_ms, d->now_ms);
    if (cursor_ms != stored_ms) { // wrong; a plan that begins before now is believed, for the rows know what happened
        d->astray = p->trigger;
        if (cursor_ms > p->from_ms) cursor_ms = p->from_ms;
    }
    struct fire_verdict *v = &d->verdicts[at];
    v->cursor_ms = cursor_ms > changed_ms ? cursor_ms : changed_ms;
    v->gone = changed_ms != p->changed_ms || !str_is(sql_row_bytes(row, 3), "active");
    v->made = !v->gone && v->cursor_ms == p->from_ms;
    d->standings[at].seen = true;
    return 0;
}

// The trigger's row first, as whoever deletes it does.
#define CURSORS                                                                                                             \
    "SELECT CAST(p.key AS BIGINT), c.cursor_ms, t.changed_ms, t.state FROM json_each($1) p CROSS JOIN triggers t"           \
    " CROSS JOIN fire_cursors c WHERE t.name = p.value->>'t' AND c.trigger = t.name ORDER BY t.name"

static int lock_cursors(struct decide_job *d, struct sql *sql, const char *triggers, struct err *err) {
    const struct sql_value value = SQL_Z(triggers);
    const char *text = sql_is_postgres(sql) ? CURSORS " FOR KEY SHARE OF t FOR UPDATE OF c" : CURSORS;
    return sql_exec(sql, text, &value, 1, take_cursor, d, NULL, err);
}

static bool are_all_seen(const struct decide_job *d) {
    for (size_t i = 0; i < d->plan_count; i++)
        if (!d->standings[i].seen) return false;
    return true;
}

static int write_cursors(const struct decide_job *d, struct sql *sql, struct err *err) {
    json_t *all = json_object();
    for (size_t i = 0; i < d->plan_count; i++) {
        if (!d->verdicts[i].made) continue;
        char key[24];
        MUST(text_format(key, sizeof key, "%zu", i) == 0);
        json_object_set_new(all, key, json_pack("{ss sI}", "t", d->plans[i].trigger, "to", (json_int_t)d->plans[i].to_ms));
    }
    cleanup_free char *cursors = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    const struct sql_value value = SQL_Z(cursors);
    return sql_exec(sql,
                    "UPDATE fire_cursors SET cursor_ms = CAST(p.value->>'to' AS BIGINT) FROM json_each($1) p WHERE trigger = p.value->>'t'",
                    &value, 1, NULL, NULL, NULL, err);
}

static int move_cursors(struct decide_job *d, struct sql *sql, struct err *err) {
    for (size_t i = 0; i < d->plan_count; i++) {
        d->verdicts[i] = (struct fire_verdict){.gone = true}; // until it is seen
        d->standings[i] = (struct standing){0};
    }
    struct settle *names = mem_array(d->plan_count, sizeof *names);
    for (size_t i = 0; i < d->plan_count; i++) names[i] = (struct settle){.trigger = d->plans[i].trigger};
    cleanup_free char *triggers = fires_json_triggers(names, d->plan_count);
    free(names);
    int rc = lock_cursors(d, sql, triggers, err);
    if (rc) return rc;
    if (!are_all_seen(d)) { // the first time of a trigger, or it is gone
        const struct sql_value value = SQL_Z(triggers);
        rc = sql_exec(sql,
                      "INSERT INTO fire_cursors (trigger, cursor_ms) SELECT t.name, 0 FROM json_each($1) p CROSS JOIN triggers t"
                      " WHERE t.name = p.value->>'t' ORDER BY t.name ON CONFLICT (trigger) DO NOTHING",
                      &value, 1, NULL, NULL, NULL, err);
        if (rc == 0) rc = lock_cursors(d, sql, triggers, err);
    }
    if (rc) return rc;
    for (size_t i = 0; i < d->plan_count; i++)
        if (d->verdicts[i].made) d->verdicts[i].cursor_ms = d->plans[i].to_ms;
    return write_cursors(d, sql, err);
}

// --- what is still running --------------------------------------------------------------------------------------------

// The plans that are carried out and have one of the ways (bits), as triggers; all of them are held.
static size_t select_plans(const struct decide_job *d, unsigned ways, struct settle *out) {
    size_t n = 0;
    for (size_t i = 0; i < d->plan_count; i++) {
        const struct fire_plan *p = &d->plans[i];
        if (d->verdicts[i].made && p->count && (ways & 1u << p->overlap))
            out[n++] = (struct settle){.trigger = p->trigger, .stale_ms = p->stale_ms};
    }
    return n;
}

static int discard_letters(struct sql *sql, const struct ids *ids, int64_t now_ms, struct err *err) {
    struct sql_value *values = mem_array(ids->count * 2, sizeof *values);
    for (size_t i = 0; i < ids->count; i++) {
        values[2 * i] = SQL_I(now_ms);
        values[2 * i + 1] = fires_sql_id(&ids->at[i]);
    }
    int rc = sql_exec_many(
        sql, "UPDATE letters SET state = 'discarded', changed_ms = $1, lease_ms = 0 WHERE id = $2 AND state = 'due'", values, 2,
        ids->count, err);
    free(values);
    return rc;
}

#define CANCEL(by_open, by_waiting)                                                                                        \
    "UPDATE fires" by_open " SET outcome = 'cancelled', ended_ms = $1 WHERE " FIRES_COUNTS                                  \
    " AND trigger IN (SELECT value->>'t' FROM json_each($2)) RETURNING event_id"

static int cancel_open(struct decide_job *d, struct sql *sql, const struct settle *which, size_t count, struct err *err) {
    if (count == 0) return 0;
    cleanup_free char *triggers = fires_json_triggers(which, count);
    const struct sql_value values[] = {SQL_I(d->now_ms), SQL_Z(triggers)};
    int rc = sql_exec(sql, FIRES_TEXT(sql, CANCEL), values, array_len(values), fires_take_id, &d->cancelled, NULL, err);
    return rc ? rc : discard_letters(sql, &d->cancelled, d->now_ms, err);
}

// The end of one of these fires comes before this decision, or sees the one that waits for it.
static int lock_open(struct sql *sql, const struct settle *which, size_t count, struct err *err) {
    if (count == 0 || !sql_is_postgres(sql)) return 0;
    cleanup_free char *triggers = fires_json_triggers(which, count);
    const struct sql_value value = SQL_Z(triggers);
    return sql_exec(sql,
                    "SELECT 1 FROM fires WHERE " FIRES_COUNTS " AND trigger IN (SELECT value->>'t' FROM json_each($1))"
                    " ORDER BY trigger, scheduled_ms FOR UPDATE",
                    &value, 1, NULL, NULL, NULL, err);
}

// Columns: the plan's number, how many wait, how many there are.
static int take_standing(void *arg, const struct sql_row *row) {
    struct decide_job *d = arg;
    size_t at = (size_t)sql_row_int(row, 0);
    if (at >= d->plan_count) return ERR_INTERNAL;
    struct standing *s = &d->standings[at];
    s->waiting = sql_row_int(row, 1) > 0;
    s->running = sql_row_int(row, 2) > sql_row_int(row, 1);
    return 0;
}

#define STANDINGS(by_open, by_waiting)                                                                                     \
    "SELECT CAST(p.key AS BIGINT), sum(CASE f.outcome WHEN 'waiting' THEN 1 ELSE 0 END), count(*) FROM json_each($1) p"     \
    " CROSS JOIN fires f" by_open " WHERE f.trigger = p.value->>'t' AND f." FIRES_COUNTS " GROUP BY p.key"

static int read_standings(struct decide_job *d, struct sql *sql, struct err *err) {
    json_t *all = json_object();
    for (size_t i = 0; i < d->plan_count; i++) {
        if (!d->verdicts[i].made || d->plans[i].overlap == FIRE_ALLOW) continue;
        char key[24];
        MUST(text_format(key, sizeof key, "%zu", i) == 0);
        json_object_set_new(all, key, json_pack("{ss}", "t", d->plans[i].trigger));
    }
    cleanup_free char *triggers = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    const struct sql_value value = SQL_Z(triggers);
    return sql_exec(sql, FIRES_TEXT(sql, STANDINGS), &value, 1, take_standing, d, NULL, err);
}

static int look_at_running(struct decide_job *d, struct sql *sql, struct err *err) {
    d->cancelled.count = 0;
    d->let_go = 0;
    struct settle *some = mem_array(d->plan_count, sizeof *some);
    size_t n = select_plans(d, 1u << FIRE_SKIP | 1u << FIRE_QUEUE | 1u << FIRE_CANCEL, some);
    int rc = 0;
    if (n) {
        rc = fires_sql_settle(sql, some, n, d->now_ms, &d->let_go, err);
        if (rc == 0) rc = cancel_open(d, sql, some, select_plans(d, 1u << FIRE_CANCEL, some), err);
        if (rc == 0) rc = lock_open(sql, some, select_plans(d, 1u << FIRE_QUEUE, some), err);
        if (rc == 0) rc = read_standings(d, sql, err);
    }
    free(some);
    return rc;
}

// --- what becomes of each ---------------------------------------------------------------------------------------------

// Its standing goes on from fire to fire. A later one of a plan that cancels stops an earlier one before it begins.
static enum fire_outcome outcome_of(enum fire_overlap overlap, const struct fire *fire, bool is_last, struct standing *s) {
    if (!fire->ev) return FIRE_MISSED;
    switch (overlap) {
    case FIRE_ALLOW: return FIRE_RUNNING;
    case FIRE_CANCEL: return is_last ? FIRE_RUNNING : FIRE_CANCELLED;
    case FIRE_SKIP:
        if (s->running || s->waiting) return FIRE_SKIPPED;
        break;
    case FIRE_QUEUE:
        if (s->waiting) return FIRE_SKIPPED;
        if (!s->running) break;
        s->waiting = true;
        return FIRE_WAITING;
    }
    s->running = true;
    return FIRE_RUNNING;
}

static size_t last_with_event(const struct fire_plan *p) {
    size_t last = 0;
    for (size_t i = 0; i < p->count; i++)
        if (p->fires[i].ev) last = i;
    return last;
}

static void fill_entries(struct decide_job *d) {
    d->entry_count = 0;
    for (size_t i = 0; i < d->plan_count; i++) {
        const struct fire_plan *p = &d->plans[i];
        if (!d->verdicts[i].made) continue;
        size_t last = last_with_event(p);
        for (size_t k = 0; k < p->count; k++) {
            enum fire_outcome outcome = outcome_of(p->overlap, &p->fires[k], k == last, &d->standings[i]);
            d->entries[d->entry_count++] = (struct entry){.plan = i, .fire = &p->fires[k], .outcome = outcome};
        }
    }
}

// --- rows -------------------------------------------------------------------------------------------------------------

static bool is_open(const struct entry *e) {
    return e->outcome == FIRE_RUNNING || e->outcome == FIRE_WAITING;
}

// {"0":{"t":trigger,"at":scheduled,"id":its place among the ids or absent,…},…}; the ids are appended.
static char *rows_json(const struct decide_job *d, struct ids *ids) {
    json_t *all = json_object();
    for (size_t i = 0; i < d->entry_count; i++) {
        const struct entry *e = &d->entries[i];
        const struct fire_plan *p = &d->plans[e->plan];
        int64_t lasts_ms = p->stale_ms < d->now_ms ? d->now_ms - p->stale_ms : 0;
        json_t *row = json_pack("{ss sI ss ss sI sI}", "t", p->trigger, "at", (json_int_t)e->fire->scheduled_ms, "c",
                                fire_cause_word(e->fire->cause), "o", fire_outcome_word(e->outcome), "l", (json_int_t)lasts_ms, "m",
                                (json_int_t)e->fire->missed);
        if (is_open(e)) {
            json_object_set_new(row, "id", json_integer((json_int_t)(ids->count * sizeof(struct id) + 1)));
            ids_add(ids, &e->fire->ev->f.id);
        } else json_object_set_new(row, "end", json_integer(d->now_ms));
        char key[24];
        MUST(text_format(key, sizeof key, "%zu", i) == 0);
        json_object_set_new(all, key, row);
    }
    char *text = json_dumps(all, JSON_COMPACT);
    MUST(text);
    json_decref(all);
    return text;
}

struct written {
    struct decide_job *job;
    size_t next; // they come in the order in which they were given, as good as always
};

static int take_written(void *arg, const struct sql_row *row) {
    struct written *w = arg;
    struct decide_job *d = w->job;
    struct str trigger = sql_row_bytes(row, 0);
    int64_t scheduled_ms = sql_row_int(row, 1);
    for (size_t tried = 0; tried < d->entry_count; tried++) {
        struct entry *e = &d->entries[w->next];
        w->next = (w->next + 1) % d->entry_count;
        if (e->written || e->fire->scheduled_ms != scheduled_ms || !str_is(trigger, d->plans[e->plan].trigger)) continue;
        e->written = true;
        return 0;
    }
    return ERR_INTERNAL;
}

#define ROWS(ids)                                                                                                           \
    "INSERT INTO fires (event_id, fired_ms, trigger, scheduled_ms, cause, outcome, ended_ms, lasts_ms, stale_at_ms, missed)" \
    " SELECT substr(" ids ", CAST(p.value->>'id' AS INTEGER), 16), $2, p.value->>'t', CAST(p.value->>'at' AS BIGINT),"       \
    " p.value->>'c', p.value->>'o', CAST(p.value->>'end' AS BIGINT), CAST(p.value->>'l' AS BIGINT),"                         \
    " $2 + CAST(p.value->>'l' AS BIGINT), CAST(p.value->>'m' AS BIGINT) FROM json_each($3) p WHERE true"                     \
    " ON CONFLICT (trigger, scheduled_ms) DO NOTHING RETURNING trigger, scheduled_ms"

// One that is there already has happened: by hand, or before the trigger's cursor was lost.
static int write_rows(struct decide_job *d, struct sql *sql, struct err *err) {
    if (d->entry_count == 0) return 0;
    struct ids ids = {0};
    cleanup_free char *rows = rows_json(d, &ids);
    const struct str bytes = {(const char *)ids.at, ids.count * sizeof(struct id)};
    const struct sql_value values[] = {SQL_B(bytes), SQL_I(d->now_ms), SQL_Z(rows)};
    struct written w = {.job = d};
    const char *text = sql_is_postgres(sql) ? ROWS("CAST($1 AS BYTEA)") : ROWS("$1");
    int rc = sql_exec(sql, text, values, array_len(values), take_written, &w, NULL, err);
    ids_done(&ids);
    return rc;
}

static int write_letters(const struct decide_job *d, struct sql *sql, enum fire_outcome outcome, int64_t due_ms, int64_t lease_ms,
                         struct err *err) {
    struct letter_draft *drafts = mem_array(d->entry_count, sizeof *drafts);
    size_t n = 0;
    for (size_t i = 0; i < d->entry_count; i++) {
        const struct entry *e = &d->entries[i];
        if (e->written && e->outcome == outcome)
            drafts[n++] = (struct letter_draft){.ev = e->fire->ev, .state = LETTER_DUE, .kind = LETTER_DELAYED, .due_ms = due_ms};
    }
    int rc = n ? letters_sql_put(sql, drafts, n, lease_ms, err) : 0;
    free(drafts);
    return rc;
}

// A node that stalls while it holds the cursors' locks has lost them when another one takes over, after FIRES_FOLLOW_MS.
static int limit_stall(struct sql *sql, struct err *err) {
    if (!sql_is_postgres(sql)) return 0;
    return sql_exec(sql, "SELECT set_config('idle_in_transaction_session_timeout', '4000', true)", NULL, 0, NULL, NULL, NULL, err);
}

static int decide_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct decide_job *d = container_of(job, struct decide_job, job);
    int rc = sql_unix_ms(sql, &d->now_ms, err);
    if (rc == 0) rc = limit_stall(sql, err);
    d->astray = NULL;
    d->lease_ms = d->now_ms + DUE_LEASE_MS;
    if (rc == 0) rc = move_cursors(d, sql, err);
    if (rc == 0) rc = look_at_running(d, sql, err);
    if (rc) return rc;
    fill_entries(d);
    rc = write_rows(d, sql, err);
    FAULT("fires.written");
    if (rc == 0) rc = write_letters(d, sql, FIRE_RUNNING, d->now_ms, d->lease_ms, err);
    if (rc == 0) rc = write_letters(d, sql, FIRE_WAITING, FIRES_HELD_MS, 0, err);
    return rc;
}

// --- after ------------------------------------------------------------------------------------------------------------

static void ship_running(struct decide_job *d) {
    struct letter *claimed = mem_array(d->entry_count, sizeof *claimed);
    size_t n = 0;
    for (size_t i = 0; i < d->entry_count; i++) {
        struct entry *e = &d->entries[i];
        if (!e->written || e->outcome != FIRE_RUNNING) continue;
        claimed[n++] = (struct letter){.id = e->fire->ev->f.id, .lease_ms = d->lease_ms, .ev = e->fire->ev};
        e->fire->ev = NULL;
    }
    fires_ship(d->fires, claimed, n);
}

static void free_events(const struct decide_job *d) {
    for (size_t i = 0; i < d->plan_count; i++)
        for (size_t k = 0; k < d->plans[i].count; k++) {
            ev_free(d->plans[i].fires[k].ev);
            d->plans[i].fires[k].ev = NULL;
        }
}

static void decide_done(struct store_job *job, int code, const struct err *err) {
    struct decide_job *d = container_of(job, struct decide_job, job);
    struct fires *f = d->fires;
    f->jobs--;
    if (code == 0) {
        FAULT("fires.decided");
        if (d->astray)
            log_warn("fires", "times far ahead were decided while the clock was wrong; the timer goes on from now",
                     LOG_STR("trigger", d->astray));
        ship_running(d);
        fires_add_cancelled(f, &d->cancelled);
        if (d->let_go) fires_tell_due(f);
    }
    free_events(d);
    d->done(d->arg, code, err, code ? NULL : d->verdicts);
    ids_done(&d->cancelled);
    free(d->verdicts);
    free(d->standings);
    free(d->entries);
    free(d);
}

void fires_decide(struct fires *f, const struct fire_plan *plans, size_t count, fires_decided_fn *done, void *arg) {
    struct decide_job *d = mem_zalloc(sizeof *d);
    *d = (struct decide_job){.job = {.run = decide_run, .done = decide_done},
                             .fires = f,
                             .plans = plans,
                             .plan_count = count,
                             .done = done,
                             .arg = arg};
    size_t fires = 0;
    for (size_t i = 0; i < count; i++) fires += plans[i].count;
    MUST(count > 0 && fires <= FIRES_BATCH);
    d->verdicts = mem_array(count, sizeof *d->verdicts);
    d->standings = mem_array(count, sizeof *d->standings);
    d->entries = mem_array(fires ? fires : 1, sizeof *d->entries);
    fires_submit(f, &d->job);
}
