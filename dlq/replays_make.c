// SPDX-License-Identifier: Apache-2.0
// Making a replay: the reader finds its letters once, the writer writes them down, some at a time. Until the last of them is durable the
// replay is "selecting" and nothing is sent; one whose node ended meanwhile is cancelled (replays.c), never run with a part of its letters.
#include <math.h>

#include "core/base/clock.h"
#include "dlq/columns.h"
#include "dlq/replays_impl.h"

#define PORTION 5000 // letters of one store job
#define MANY 1000 // rows that make a difference to a plan

struct make_job {
    struct store_job job;
    struct replays *replays;
    struct selection *sel;
    struct replay_row row;
    size_t limit;
    char *who, *cause;
    letters_json_fn *fn;
    void *arg;
    struct letters_found found;
    size_t at, size;            // written down; of the portion that is
    int64_t replay;
    json_t *refused;
};

static bool is_last(const struct make_job *m) {
    return m->at + m->size == m->found.count;
}

static const char *state_of(const struct make_job *m) {
    return is_last(m) ? "running" : "selecting";
}

static int insert_job(struct make_job *m, int64_t store_ms, struct sql *sql, struct err *err) {
    const struct sql_value values[] = {SQL_Z(state_of(m)),
                                       m->cause ? SQL_Z(m->cause) : SQL_NONE,
                                       SQL_I(m->row.created_ms),
                                       SQL_Z(m->who),
                                       SQL_Z(selection_text(m->sel)),
                                       SQL_Z(m->row.target),
                                       SQL_I(m->row.to_origin),
                                       SQL_I(m->row.rate),
                                       SQL_I(m->row.ramp_ms),
                                       SQL_I(m->row.abort_share),
                                       SQL_I(m->row.sample),
                                       SQL_I(m->row.in_order),
                                       SQL_I(m->size),
                                       SQL_Z(m->replays->c.node),
                                       SQL_I(store_ms + REPLAY_LEASE_MS)};
    int rc = sql_exec(sql,
                      "INSERT INTO replays (state, cause, created_ms, ran_ms, who, selection, target, to_origin, rate, ramp_ms,"
                      " abort_share, sample, in_order, total, reason, owner, lease_ms)"
                      " VALUES ($1, $2, $3, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, '', $14, $15) RETURNING id",
                      values, array_len(values), letters_take_int, &m->replay, NULL, err);
    return rc == ERR_CONFLICT ? err_set(err, ERR_CONFLICT, "there is a replay for %s already", m->cause) : rc;
}

static int continue_job(struct make_job *m, int64_t store_ms, struct sql *sql, struct err *err) {
    int64_t changed = 0;
    const struct sql_value values[] = {SQL_Z(state_of(m)), SQL_I(m->at + m->size), SQL_I(store_ms + REPLAY_LEASE_MS), SQL_I(m->replay)};
    int rc = sql_exec(sql, "UPDATE replays SET state = $1, total = $2, lease_ms = $3 WHERE id = $4 AND state = 'selecting'", values,
                      array_len(values), NULL, NULL, &changed, err);
    if (rc || changed) return rc;
    return err_set(err, ERR_CONFLICT, "replay %lld was cancelled while it selected", (long long)m->replay);
}

// Of one topic and partition by offset; else by id, which is by the time of acceptance. A source that is no JSON sorts first.
#define ORDER_SQLITE                                                                                                      \
    "source_kind, source_name, CASE WHEN json_valid(source_at) THEN json_extract(source_at, '$.topic') END,"              \
    " CASE WHEN json_valid(source_at) THEN json_extract(source_at, '$.partition') END,"                                   \
    " CASE WHEN json_valid(source_at) THEN json_extract(source_at, '$.offset') END, id"
#define ORDER_POSTGRES                                                                                                    \
    "source_kind, source_name, substring(source_at from '\"topic\":\"([^\"]*)\"'),"                                       \
    " CAST(substring(source_at from '\"partition\":([0-9]{1,9})') AS BIGINT),"                                            \
    " CAST(substring(source_at from '\"offset\":([0-9]{1,18})') AS BIGINT), id"

static int find(struct make_job *m, struct sql *sql, struct err *err) {
    const char *by_place = sql_is_postgres(sql) ? ORDER_POSTGRES : ORDER_SQLITE;
    const struct letters_which which = {.sel = m->sel, .condition = "state = 'dead'", .order = m->row.in_order ? by_place : NULL,
                                        .limit = m->limit};
    return letters_sql_find(sql, &which, &m->found, err);
}

static int insert_together(const struct make_job *m, struct sql *sql, struct err *err) {
    struct column ids;
    column_init(&ids);
    for (size_t i = 0; i < m->size; i++) column_add_id(&ids, &m->found.ids[m->at + i]);
    const struct sql_value values[] = {SQL_I(m->replay), SQL_I(m->at), column_value(&ids)};
    int rc = sql_exec(sql,
                      "INSERT INTO replay_letters (replay, seq, letter_id, state)"
                      " SELECT $1::bigint, $2::bigint + u.place, u.id, 'pending' FROM unnest($3::bytea[]) WITH ORDINALITY AS u(id, place)",
                      values, array_len(values), NULL, NULL, NULL, err);
    column_done(&ids);
    return rc;
}

static int insert_letters(const struct make_job *m, struct sql *sql, struct err *err) {
    if (sql_is_postgres(sql)) return insert_together(m, sql, err);
    struct sql_value *values = mem_array(3 * m->size, sizeof *values);
    for (size_t i = 0; i < m->size; i++) {
        values[3 * i] = SQL_I(m->replay);
        values[3 * i + 1] = SQL_I(m->at + i + 1);
        values[3 * i + 2] = letters_sql_id(&m->found.ids[m->at + i]);
    }
    int rc = sql_exec_many(sql, "INSERT INTO replay_letters (replay, seq, letter_id, state) VALUES ($1, $2, $3, 'pending')", values, 3, m->size,
                           err);
    free(values);
    return rc;
}

// PostgreSQL plans by what it knows of a table, and would hear of the new rows a minute later only.
static int tell_planner(const struct make_job *m, struct sql *sql, struct err *err) {
    if (!sql_is_postgres(sql) || m->found.count < MANY) return 0;
    return sql_exec(sql, "ANALYZE replay_letters", NULL, 0, NULL, NULL, NULL, err);
}

static int nothing_found(const struct make_job *m, size_t asked, struct err *err) {
    const char *why = json_string_value(json_object_get(json_array_get(m->refused, 0), "why"));
    if (asked == 1) return err_set(err, ERR_CONFLICT, "the letter cannot be sent back: %s", why ? why : "it is not dead");
    if (asked) return err_set(err, ERR_CONFLICT, "none of the %zu letters is dead; the first one: %s", asked, why ? why : "?");
    return err_set(err, ERR_NOT_FOUND, "there is no dead letter with %.300s", selection_text(m->sel));
}

// Those of the ids that are not in the job.
static int tell_refused(struct make_job *m, struct sql *sql, const struct id *ids, size_t count, struct err *err) {
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        int64_t there = 0;
        const struct sql_value values[] = {letters_sql_id(&ids[i]), SQL_I(m->replay)};
        rc = sql_exec(sql, "SELECT count(*) FROM replay_letters WHERE letter_id = $1 AND replay = $2", values, 2, letters_take_int, &there, NULL,
                      err);
        if (rc == 0 && !there) rc = letters_sql_refused(sql, &ids[i], 1, m->refused, err);
    }
    return rc;
}

static int write_portion(struct make_job *m, struct sql *sql, struct err *err) {
    int64_t store_ms = 0;
    int rc = sql_unix_ms(sql, &store_ms, err);
    if (rc == 0) rc = m->at ? continue_job(m, store_ms, sql, err) : insert_job(m, store_ms, sql, err);
    if (rc == 0) rc = insert_letters(m, sql, err);
    return rc == 0 && is_last(m) ? tell_planner(m, sql, err) : rc;
}

static void cut_portion(struct make_job *m) {
    size_t left = m->found.count - m->at;
    m->size = left < PORTION ? left : PORTION;
}

static int portion_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct make_job *m = container_of(job, struct make_job, job);
    cut_portion(m);
    return write_portion(m, sql, err);
}

// Of given letters, which are no more than a portion, all in one go.
static int given_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct make_job *m = container_of(job, struct make_job, job);
    size_t asked = 0;
    const struct id *ids = selection_ids(m->sel, &asked);
    json_array_clear(m->refused);
    int rc = find(m, sql, err);
    cut_portion(m);
    if (rc == 0 && m->size) rc = write_portion(m, sql, err);
    if (rc == 0 && m->size < asked) rc = tell_refused(m, sql, ids, asked, err);
    return rc == 0 && m->size == 0 ? nothing_found(m, asked, err) : rc;
}

static int find_run(struct store_job *job, struct sql *sql, struct err *err) {
    return find(container_of(job, struct make_job, job), sql, err);
}

static void free_make(struct make_job *m) {
    selection_free(m->sel);
    replay_row_done(&m->row);
    json_decref(m->refused);
    free(m->found.ids);
    free(m->who);
    free(m->cause);
    free(m);
}

static void on_shown(void *arg, int code, const struct err *err, json_t *result) {
    struct make_job *m = arg;
    if (code == 0) json_object_set(result, "refused", m->refused);
    m->fn(m->arg, code, err, result);
    free_make(m);
}

static void fail(struct make_job *m, int code, const struct err *err) {
    m->fn(m->arg, code, err, NULL);
    free_make(m);
}

static void portion_done(struct store_job *job, int code, const struct err *err) {
    struct make_job *m = container_of(job, struct make_job, job);
    struct replays *r = m->replays;
    struct err stopping = {0};
    r->jobs--;
    if (code == 0) m->at += m->size;
    if (code == 0 && m->at == m->found.count) {
        replays_look(r);
        replays_show(r, m->replay, on_shown, m);
    } else if (code) {
        fail(m, code, err);
    } else if (r->stopped) {
        fail(m, err_set(&stopping, ERR_UNAVAILABLE, "the server is stopping; nothing was sent"), &stopping);
    } else {
        replays_submit(r, &m->job);
    }
}

static void find_done(struct store_job *job, int code, const struct err *err) {
    struct make_job *m = container_of(job, struct make_job, job);
    struct err why;
    m->replays->jobs--;
    if (code) code = letters_find_failed(code, err, &why);
    else if (m->found.count == 0) code = nothing_found(m, 0, &why);
    if (code) {
        fail(m, code, &why);
        return;
    }
    m->job = (struct store_job){.run = portion_run, .done = portion_done};
    replays_submit(m->replays, &m->job);
}

static int check(const struct replay_spec *s, struct err *err) {
    if (s->rate < 0 || s->rate > REPLAY_RATE_MAX || !isfinite(s->rate) || (s->rate > 0 && s->rate < 0.001))
        return err_set(err, ERR_INVALID, "rate is a number of letters a second, from 0.001 to %d", REPLAY_RATE_MAX);
    if (s->ramp_ms < 0 || s->ramp_ms > 86400000) return err_set(err, ERR_INVALID, "the ramp is at most 24 hours");
    if (s->ramp_ms && s->rate == 0) return err_set(err, ERR_INVALID, "a ramp leads up to a rate: say which rate");
    if (!(s->abort_share <= 1)) return err_set(err, ERR_INVALID, "abortShare is from 0 to 1");
    if (s->to_origin && s->to.len) return err_set(err, ERR_INVALID, "give either to or toOrigin: a letter goes to a function or to where it came from");
    if (s->to_origin && (s->sample || s->abort_share >= 0))
        return err_set(err, ERR_INVALID, "what becomes of letters that went to their origin is not known, so no sample or abortShare with toOrigin");
    if (s->sample > 100000) return err_set(err, ERR_INVALID, "a sample has at most 100000 letters");
    return 0;
}

void replays_create(struct replays *r, const struct replay_spec *spec, letters_json_fn *fn, void *arg) {
    struct make_job *m = mem_zalloc(sizeof *m);
    struct err err = {0};
    *m = (struct make_job){.job = {.run = find_run, .done = find_done}, .replays = r, .sel = spec->sel, .fn = fn, .arg = arg};
    m->row = (struct replay_row){.created_ms = clock_unix_ms(),
                                 .rate = (int64_t)(spec->rate * 1000),
                                 .ramp_ms = spec->ramp_ms,
                                 .abort_share = spec->abort_share < 0 ? -1 : (int64_t)(spec->abort_share * 1e6),
                                 .sample = (int64_t)spec->sample,
                                 .to_origin = spec->to_origin,
                                 .in_order = spec->in_order,
                                 .target = mem_strndup(spec->to)};
    m->limit = spec->limit && spec->limit < REPLAY_LETTERS_MAX ? spec->limit : REPLAY_LETTERS_MAX;
    m->who = mem_strndup(spec->who);
    m->cause = spec->cause.len ? mem_strndup(spec->cause) : NULL;
    m->refused = json_array();
    size_t ids;
    (void)selection_ids(m->sel, &ids);
    if (check(spec, &err)) {
        fail(m, err.code, &err);
    } else if (ids) {
        m->job = (struct store_job){.run = given_run, .done = portion_done};
        replays_submit(r, &m->job);
    } else {
        r->jobs++;
        store_submit(r->c.reader, &m->job);
    }
}
