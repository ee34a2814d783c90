// SPDX-License-Identifier: Apache-2.0
// A fire by hand: its row and its letter, without a look at cursors and at what runs.
#include "dlq/due.h"
#include "dlq/fires_impl.h"
#include "dlq/letters_impl.h"

struct put_job {
    struct store_job job;
    struct fires *fires;
    char *trigger;
    struct fire fire;
    bool refused;
    int64_t lease_ms;
    letter_done_fn *done;
    void *arg;
};

static int explain(const struct put_job *p, struct sql *sql, struct err *err) {
    const struct sql_value trigger = SQL_Z(p->trigger);
    int64_t there = 0;
    int rc = sql_exec(sql, "SELECT count(*) FROM triggers WHERE name = $1", &trigger, 1, fires_take_int, &there, NULL, err);
    if (rc) return rc;
    if (!there) return err_set(err, ERR_NOT_FOUND, "there is no trigger %s any more", p->trigger);
    return err_set(err, ERR_CONFLICT, "trigger %s fired for that time already", p->trigger);
}

static int take_state(void *arg, const struct sql_row *row) {
    *(char **)arg = mem_strndup(sql_row_bytes(row, 0));
    return 0;
}

// The fire may be forgotten while its letter is still there; it would be overwritten, or keep the new one out.
static int check_letter(const struct put_job *p, struct sql *sql, struct err *err) {
    const struct sql_value id = fires_sql_id(&p->fire.ev->f.id);
    cleanup_free char *state = NULL;
    int rc = sql_exec(sql, "SELECT state FROM letters WHERE id = $1", &id, 1, take_state, &state, NULL, err);
    if (rc || !state) return rc;
    char text[ID_TEXT_BYTES];
    id_format(&p->fire.ev->f.id, text);
    return err_set(err, ERR_CONFLICT,
                   "trigger %s fired for that time already, and its event is a %s letter: see weir dlq show %s; when it is dead,"
                   " weir dlq replay %s sends it again",
                   p->trigger, state, text, text);
}

static int put_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct put_job *p = container_of(job, struct put_job, job);
    if (p->refused) return err_set(err, ERR_BUSY, "the queue is slow, and too many fires wait for it; try again in a while");
    int64_t now_ms = 0, written = 0;
    int rc = sql_unix_ms(sql, &now_ms, err);
    if (rc) return rc;
    p->lease_ms = now_ms + DUE_LEASE_MS;
    const struct sql_value values[] = {SQL_I(p->fire.scheduled_ms), fires_sql_id(&p->fire.ev->f.id),
                                       SQL_Z(fire_cause_word(p->fire.cause)), SQL_I(now_ms), SQL_I(p->fires->c.keep_ms),
                                       SQL_I(now_ms + p->fires->c.keep_ms), SQL_I(p->fire.missed), SQL_Z(p->trigger)};
    rc = sql_exec(sql,
                  "INSERT INTO fires (trigger, scheduled_ms, event_id, cause, outcome, fired_ms, lasts_ms, stale_at_ms, missed)"
                  " SELECT name, $1, $2, $3, 'running', $4, $5, $6, $7 FROM triggers WHERE name = $8"
                  " ON CONFLICT (trigger, scheduled_ms) DO UPDATE SET event_id = excluded.event_id, cause = excluded.cause,"
                  " outcome = 'running', fired_ms = excluded.fired_ms, ended_ms = NULL, lasts_ms = excluded.lasts_ms,"
                  " stale_at_ms = excluded.stale_at_ms WHERE fires.event_id IS NULL",
                  values, array_len(values), NULL, NULL, &written, err);
    if (rc) return rc;
    if (!written) return explain(p, sql, err);
    rc = check_letter(p, sql, err);
    if (rc) return rc;
    const struct letter_draft draft = {.ev = p->fire.ev, .state = LETTER_DUE, .kind = LETTER_DELAYED, .due_ms = now_ms};
    return letters_sql_put(sql, &draft, 1, p->lease_ms, err);
}

static void put_done(struct store_job *job, int code, const struct err *err) {
    struct put_job *p = container_of(job, struct put_job, job);
    p->fires->jobs--;
    if (code == 0) {
        struct letter *claimed = mem_array(1, sizeof *claimed);
        *claimed = (struct letter){.id = p->fire.ev->f.id, .lease_ms = p->lease_ms, .ev = TAKE_PTR(p->fire.ev)};
        fires_ship(p->fires, claimed, 1);
    }
    p->done(p->arg, code, err);
    ev_free(p->fire.ev);
    free(p->trigger);
    free(p);
}

void fires_put(struct fires *f, const char *trigger, const struct fire *fire, letter_done_fn *done, void *arg) {
    MUST(fire->ev);
    struct put_job *p = mem_zalloc(sizeof *p);
    *p = (struct put_job){.job = {.run = put_run, .done = put_done},
                          .fires = f,
                          .trigger = mem_strdup(trigger),
                          .fire = *fire,
                          .refused = fires_is_busy(f),
                          .done = done,
                          .arg = arg};
    fires_submit(f, &p->job);
}
