// SPDX-License-Identifier: Apache-2.0
// Making a replay: its row and its letters are selected once, in one transaction; nothing is sent before that is durable.
#include <math.h>

#include "core/base/clock.h"
#include "dlq/replays_impl.h"

#define WHO_MAX 200
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
    int64_t replay, total;
    json_t *refused;
};

static int take_number(void *arg, const struct sql_row *row) {
    *(int64_t *)arg = sql_row_int(row, 0);
    return 0;
}

static int insert_job(struct make_job *m, struct sql *sql, struct err *err) {
    int64_t store_ms = 0;
    int rc = sql_unix_ms(sql, &store_ms, err);
    const struct sql_value values[] = {m->cause ? SQL_Z(m->cause) : SQL_NONE,
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
                                       SQL_Z(m->replays->c.node),
                                       SQL_I(store_ms + REPLAY_LEASE_MS)};
    return rc ? rc
              : sql_exec(sql,
                         "INSERT INTO replays (state, cause, created_ms, changed_ms, who, selection, target, to_origin, rate, ramp_ms,"
                         " abort_share, sample, in_order, total, reason, owner, lease_ms)"
                         " VALUES ('running', $1, $2, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, '', $12, $13) RETURNING id",
                         values, array_len(values), take_number, &m->replay, NULL, err);
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

static int select_letters(struct make_job *m, struct sql *sql, struct err *err) {
    struct buf text;
    struct select_sql *q = mem_alloc(sizeof *q);
    buf_init(&text, SIZE_MAX / 2);
    *q = (struct select_sql){.text = &text, .postgres = sql_is_postgres(sql)};
    const char *order = !m->row.in_order ? "id" : q->postgres ? ORDER_POSTGRES : ORDER_SQLITE;
    select_sql_add(q, "INSERT INTO replay_letters (replay, seq, letter_id, state) SELECT ");
    select_sql_value(q, SQL_I(m->replay));
    select_sql_add(q, q->postgres ? "::bigint, row_number() OVER (ORDER BY " : ", row_number() OVER (ORDER BY ");
    select_sql_add(q, order);
    select_sql_add(q, "), id, 'pending' FROM letters WHERE state = 'dead' AND ");
    selection_sql(m->sel, q);
    select_sql_add(q, " ORDER BY ");
    select_sql_add(q, order);
    select_sql_add(q, " LIMIT ");
    select_sql_value(q, SQL_I(m->limit));
    MUST(buf_append(&text, (struct str){"", 1}) == 0);
    int rc = sql_exec_once(sql, text.data + text.start, q->values, q->count, NULL, NULL, &m->total, err);
    buf_done(&text);
    free(q);
    return rc;
}

// PostgreSQL plans by what it knows of a table, and would hear of the new rows a minute later only.
static int tell_planner(const struct make_job *m, struct sql *sql, struct err *err) {
    if (!sql_is_postgres(sql) || m->total < MANY) return 0;
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
        rc = sql_exec(sql, "SELECT count(*) FROM replay_letters WHERE letter_id = $1 AND replay = $2", values, 2, take_number, &there, NULL,
                      err);
        if (rc == 0 && !there) rc = letters_sql_refused(sql, &ids[i], 1, m->refused, err);
    }
    return rc;
}

static int make_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct make_job *m = container_of(job, struct make_job, job);
    size_t asked = 0;
    const struct id *ids = selection_ids(m->sel, &asked);
    json_decref(m->refused);
    m->refused = json_array();
    m->total = 0;
    int rc = insert_job(m, sql, err);
    if (rc == ERR_CONFLICT) return err_set(err, ERR_CONFLICT, "there is a replay for %s already", m->cause);
    if (rc == 0) rc = select_letters(m, sql, err);
    if (rc == 0) rc = tell_planner(m, sql, err);
    if (rc == 0 && (size_t)m->total < asked) rc = tell_refused(m, sql, ids, asked, err);
    if (rc == 0 && m->total == 0) rc = nothing_found(m, asked, err);
    const struct sql_value values[] = {SQL_I(m->total), SQL_I(m->replay)};
    return rc ? rc : sql_exec(sql, "UPDATE replays SET total = $1 WHERE id = $2", values, 2, NULL, NULL, NULL, err);
}

static void free_make(struct make_job *m) {
    selection_free(m->sel);
    replay_row_done(&m->row);
    json_decref(m->refused);
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

static void make_done(struct store_job *job, int code, const struct err *err) {
    struct make_job *m = container_of(job, struct make_job, job);
    m->replays->jobs--;
    if (code) {
        m->fn(m->arg, code, err, NULL);
        free_make(m);
        return;
    }
    replays_look(m->replays);
    replays_show(m->replays, m->replay, on_shown, m);
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
    *m = (struct make_job){.job = {.run = make_run, .done = make_done}, .replays = r, .sel = spec->sel, .fn = fn, .arg = arg};
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
    if (check(spec, &err)) {
        fn(arg, err.code, &err, NULL);
        free_make(m);
        return;
    }
    replays_submit(r, &m->job);
}
