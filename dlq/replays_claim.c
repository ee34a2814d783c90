// SPDX-License-Identifier: Apache-2.0
// What a run does in the store: claims letters (dead -> replaying), and marks what was confirmed (replaying -> replayed).
//
// Invariant: a letter is marked only under the lease of the claim that it was sent with; who lost the lease marks nothing, and the letter,
// still pending in its job, is sent again.
#include "core/base/clock.h"
#include "core/base/fault.h"
#include "dlq/columns.h"
#include "dlq/replays_impl.h"

#define WINDOW 5000 // places of a job that are looked at together

// --- claims -------------------------------------------------------------------------------------------------------------

struct candidate {
    int64_t seq, bytes;
    struct id id;
    char state[16];     // "": there is no such letter any more
    bool claimed;
};
struct candidates {
    struct candidate *at;
    size_t count, room;
};

static int take_candidate(void *arg, const struct sql_row *row) {
    struct candidates *list = arg;
    if (list->count == list->room) {
        list->room = list->room ? 2 * list->room : 64;
        list->at = mem_realloc(list->at, list->room * sizeof *list->at);
    }
    struct candidate *c = &list->at[list->count++];
    *c = (struct candidate){.seq = sql_row_int(row, 0), .id = letters_row_id(row, 1), .bytes = sql_row_int(row, 2)};
    snprintf(c->state, sizeof c->state, "%.*s", STR_ARG(sql_row_bytes(row, 3)));
    return 0;
}

#define CANDIDATE                                                                                                         \
    "SELECT r.seq, r.letter_id, coalesce(length(l.payload), 0), coalesce(l.state, '') FROM (SELECT seq, letter_id FROM replay_letters" \
    " WHERE replay = $1 AND state = 'pending' AND "
#define WITH_LETTER ") r LEFT JOIN letters l ON l.id = r.letter_id ORDER BY r.seq"

// Window by window: PostgreSQL, that knows nothing yet of so many new rows, would sort all that are behind `after`. And the limit comes
// first: it would look at the letters of a whole window.
static int find_next(struct claim_job *c, struct sql *sql, struct candidates *list, struct err *err) {
    int rc = 0;
    int64_t from = c->after;
    for (; rc == 0 && list->count == 0 && from < c->run->row.total; from += WINDOW) {
        const struct sql_value values[] = {SQL_I(c->replay), SQL_I(from), SQL_I(from + WINDOW), SQL_I(c->limit)};
        rc = sql_exec(sql, CANDIDATE "seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4" WITH_LETTER, values, array_len(values), take_candidate, list,
                      NULL, err);
    }
    return rc;
}

static int find_candidates(struct claim_job *c, struct sql *sql, struct candidates *list, struct err *err) {
    int rc = 0;
    if (!c->seqs) return find_next(c, sql, list, err);
    for (size_t i = 0; i < c->seq_count && rc == 0; i++) {
        const struct sql_value values[] = {SQL_I(c->replay), SQL_I(c->seqs[i])};
        rc = sql_exec(sql, CANDIDATE "seq = $2" WITH_LETTER, values, array_len(values), take_candidate, list, NULL, err);
    }
    return rc;
}

// As many as fit into memory at a time, and at least one. Returns the place of the first that was left out.
static int64_t cut_candidates(struct candidates *list, size_t room) {
    size_t bytes = 0;
    for (size_t i = 0; i < list->count; i++) {
        bytes += (size_t)list->at[i].bytes;
        if (i == 0 || bytes <= room) continue;
        list->count = i;
        return list->at[i].seq;
    }
    return INT64_MAX;
}

static int by_id(const void *a, const void *b) {
    return memcmp(((const struct candidate *)a)->id.bytes, ((const struct candidate *)b)->id.bytes, sizeof(struct id));
}

static int by_seq(const void *a, const void *b) {
    int64_t x = ((const struct claimed *)a)->seq, y = ((const struct claimed *)b)->seq;
    return (x > y) - (x < y);
}

// The claimed letters with their places, in order. Takes the events.
static void keep_claimed(struct claim_job *c, struct letter_list *list, struct candidates *candidates) {
    if (candidates->count) qsort(candidates->at, candidates->count, sizeof *candidates->at, by_id);
    c->claimed = mem_array(list->count ? list->count : 1, sizeof *c->claimed);
    c->count = 0;
    for (size_t i = 0; i < list->count; i++) {
        const struct candidate key = {.id = list->at[i].id};
        struct candidate *found = bsearch(&key, candidates->at, candidates->count, sizeof key, by_id);
        MUST(found);
        found->claimed = true;
        c->claimed[c->count++] = (struct claimed){.letter = list->at[i], .seq = found->seq};
    }
    list->count = 0;
    if (c->count) qsort(c->claimed, c->count, sizeof *c->claimed, by_seq);
}

static const char *why_skipped(const struct candidate *c) {
    if (!c->state[0]) return "there is no such letter any more";
    if (strcmp(c->state, "dead") == 0) return "its event cannot be read";
    return strcmp(c->state, "replaying") == 0 ? "another replay is sending it" : c->state;
}

static int skip_others(const struct claim_job *c, struct sql *sql, const struct candidates *list, struct err *err) {
    int rc = 0;
    for (size_t i = 0; i < list->count && rc == 0; i++) {
        const struct candidate *it = &list->at[i];
        if (it->claimed) continue;
        const struct sql_value values[] = {SQL_Z(why_skipped(it)), SQL_I(c->replay), SQL_I(it->seq)};
        rc = sql_exec(sql, "UPDATE replay_letters SET state = 'skipped', why = $1 WHERE replay = $2 AND seq = $3 AND state = 'pending'", values,
                      array_len(values), NULL, NULL, NULL, err);
    }
    return rc;
}

void replays_drop_claimed(struct claim_job *c) {
    for (size_t i = 0; i < c->count; i++) ev_free(c->claimed[i].letter.ev);
    free(c->claimed);
    c->claimed = NULL;
    c->count = 0;
}

// A replay begins anew, so the attempts so far stay where they are. What this job holds already is of a claim whose answer was lost: a letter
// that is on its way is never claimed (replays_run.c).
#define CLAIM                                                                                                          \
    "UPDATE letters SET state = 'replaying', lease_ms = $1, changed_ms = $2, replay = $3"                                  \
    " WHERE (state = 'dead' OR (state = 'replaying' AND replay = $3)) AND "
#define TAKE " RETURNING id, payload, accepted_ms, (SELECT b.event FROM letter_bodies b WHERE b.id = letters.id), NULL, fingerprint"

static int claim_dead(const struct candidates *candidates, int64_t replay, struct sql *sql, struct letter_list *list, struct err *err) {
    struct sql_value values[] = {SQL_I(list->lease_ms), SQL_I(clock_unix_ms()), SQL_I(replay), SQL_NONE};
    int rc = 0;
    if (sql_is_postgres(sql)) {
        struct column ids;
        column_init(&ids);
        for (size_t i = 0; i < candidates->count; i++) column_add_id(&ids, &candidates->at[i].id);
        values[3] = column_value(&ids);
        rc = sql_exec(sql, CLAIM "id = ANY ($4::bytea[])" TAKE, values, array_len(values), letters_take, list, NULL, err);
        column_done(&ids);
        return rc;
    }
    for (size_t i = 0; i < candidates->count && rc == 0; i++) {
        values[3] = letters_sql_id(&candidates->at[i].id);
        rc = sql_exec(sql, CLAIM "id = $4" TAKE, values, array_len(values), letters_take, list, NULL, err);
    }
    return rc;
}

static int claim_candidates(struct claim_job *c, struct sql *sql, struct candidates *candidates, struct err *err) {
    int64_t store_ms = 0;
    int rc = sql_unix_ms(sql, &store_ms, err);
    struct letter_list list = {.lease_ms = store_ms + REPLAY_LETTER_LEASE_MS};
    if (rc == 0) rc = claim_dead(candidates, c->replay, sql, &list, err);
    if (rc == 0) {
        keep_claimed(c, &list, candidates);
        rc = skip_others(c, sql, candidates, err);
    }
    letter_list_done(&list);
    return rc;
}

static int take_ours(void *arg, const struct sql_row *row) {
    (void)row;
    *(bool *)arg = true;
    return 0;
}

// Another node may have taken the job since the last look, or an operator paused it. Shared until the claim is written: else a node that takes the
// job meanwhile could claim first, and lose its letters to this claim.
static int is_ours(const struct claim_job *c, struct sql *sql, bool *ret_ours, struct err *err) {
    const struct sql_value values[] = {SQL_I(c->replay), SQL_Z(c->run->replays->c.node)};
    *ret_ours = false;
    return sql_exec(sql,
                    sql_is_postgres(sql) ? "SELECT 1 FROM replays WHERE id = $1 AND owner = $2 AND state = 'running' FOR SHARE"
                                         : "SELECT 1 FROM replays WHERE id = $1 AND owner = $2 AND state = 'running'",
                    values, array_len(values), take_ours, ret_ours, NULL, err);
}

int replays_claim_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct claim_job *c = container_of(job, struct claim_job, job);
    struct candidates candidates = {0};
    bool ours;
    replays_drop_claimed(c);
    c->last_seq = c->after;
    c->found = false;
    int rc = is_ours(c, sql, &ours, err);
    c->lost = rc == 0 && !ours;
    if (rc || c->lost) return rc;
    rc = find_candidates(c, sql, &candidates, err);
    c->first_left = cut_candidates(&candidates, c->bytes);
    c->found = candidates.count > 0;
    if (c->found) c->last_seq = candidates.at[candidates.count - 1].seq;
    if (rc == 0 && c->found) rc = claim_candidates(c, sql, &candidates, err);
    free(candidates.at);
    return rc;
}

// --- marks --------------------------------------------------------------------------------------------------------------

// PostgreSQL: all at once; they are of one claim and have one lease.
static int mark_columns(struct sql *sql, struct sql_value letters, struct sql_value events, struct sql_value seqs, int64_t lease_ms, int64_t replay,
                        int64_t *ret_marked, struct err *err) {
    const struct sql_value values[] = {SQL_I(clock_unix_ms()), letters, events, seqs, SQL_I(lease_ms), SQL_I(replay)};
    return sql_exec(sql,
                    "WITH marked AS (UPDATE letters SET state = 'replayed', replay_id = u.event, changed_ms = $1, lease_ms = 0"
                    " FROM unnest($2::bytea[], $3::bytea[], $4::bigint[]) AS u(letter, event, seq)"
                    " WHERE id = u.letter AND lease_ms = $5 AND state || '' = 'replaying' RETURNING u.seq, u.event)"
                    " UPDATE replay_letters AS r SET state = 'sent', event_id = m.event FROM marked m"
                    " WHERE r.replay = $6 AND r.seq = m.seq AND r.state = 'pending'",
                    values, array_len(values), NULL, NULL, ret_marked, err);
}

static int mark_sent_together(struct marks_job *m, struct sql *sql, struct err *err) {
    struct column letters, events, seqs;
    int64_t lease_ms = 0;
    int64_t count = 0, marked = 0;
    column_init(&letters);
    column_init(&events);
    column_init(&seqs);
    for (size_t i = 0; i < m->count; i++) {
        const struct mark_row *row = &m->rows[i];
        if (!row->sent) continue;
        column_add_id(&letters, &row->letter);
        column_add_id(&events, &row->event_id);
        column_add_number(&seqs, row->seq);
        lease_ms = row->lease_ms;
        count++;
    }
    int rc = 0;
    if (count) rc = mark_columns(sql, column_value(&letters), column_value(&events), column_value(&seqs), lease_ms, m->replay, &marked, err);
    m->not_marked = count - marked;
    column_done(&letters);
    column_done(&events);
    column_done(&seqs);
    return rc;
}

static struct sql_value event_of(const struct mark_row *row) {
    return id_is_none(&row->event_id) ? SQL_NONE : letters_sql_id(&row->event_id);
}

static int mark_sent(struct marks_job *m, struct sql *sql, struct err *err) {
    int rc = 0;
    int64_t now_ms = clock_unix_ms();
    if (sql_is_postgres(sql)) return mark_sent_together(m, sql, err);
    m->not_marked = 0; // the job may run again
    for (size_t i = 0; i < m->count && rc == 0; i++) {
        const struct mark_row *row = &m->rows[i];
        const struct sql_value letter[] = {event_of(row), SQL_I(now_ms), letters_sql_id(&row->letter), SQL_I(row->lease_ms)};
        const struct sql_value place[] = {letter[0], SQL_I(m->replay), SQL_I(row->seq)};
        int64_t marked = 0;
        if (!row->sent) continue;
        rc = sql_exec(sql,
                      "UPDATE letters SET state = 'replayed', replay_id = $1, changed_ms = $2, lease_ms = 0"
                      " WHERE id = $3 AND lease_ms = $4 AND state = 'replaying'",
                      letter, array_len(letter), NULL, NULL, &marked, err);
        if (rc == 0 && marked)
            rc = sql_exec(sql, "UPDATE replay_letters SET state = 'sent', event_id = $1 WHERE replay = $2 AND seq = $3 AND state = 'pending'",
                          place, array_len(place), NULL, NULL, &marked, err);
        m->not_marked += !marked;
    }
    return rc;
}

static int mark_dead(const struct marks_job *m, struct sql *sql, struct sql_value *v, struct err *err) {
    size_t n = 0;
    int64_t now_ms = clock_unix_ms();
    for (size_t i = 0; i < m->count; i++) {
        const struct mark_row *row = &m->rows[i];
        if (row->sent) continue;
        v[n++] = SQL_I(now_ms);
        v[n++] = letters_sql_id(&row->letter);
        v[n++] = SQL_I(row->lease_ms);
    }
    return n ? sql_exec_many(sql,
                             "UPDATE letters SET state = 'dead', lease_ms = 0, changed_ms = $1"
                             " WHERE id = $2 AND lease_ms = $3 AND state || '' = 'replaying'", // by its id
                             v, 3, n / 3, err)
             : 0;
}

static int mark_failed_rows(const struct marks_job *m, struct sql *sql, struct sql_value *v, struct err *err) {
    size_t n = 0;
    for (size_t i = 0; i < m->count; i++) {
        const struct mark_row *row = &m->rows[i];
        if (row->sent || !row->failed) continue;
        v[n++] = SQL_Z(row->why);
        v[n++] = SQL_I(m->replay);
        v[n++] = SQL_I(row->seq);
    }
    return n ? sql_exec_many(sql, "UPDATE replay_letters SET state = 'failed', why = $1 WHERE replay = $2 AND seq = $3 AND state = 'pending'", v, 3,
                             n / 3, err)
             : 0;
}

int replays_mark_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct marks_job *m = container_of(job, struct marks_job, job);
    struct sql_value *values = mem_array(m->count * 3, sizeof *values);
    int rc = mark_sent(m, sql, err);
    if (rc == 0) rc = mark_dead(m, sql, values, err);
    if (rc == 0) rc = mark_failed_rows(m, sql, values, err);
    free(values);
    return rc;
}

void replays_marks_free(struct marks_job *m) {
    for (size_t i = 0; i < m->count; i++) free(m->rows[i].why);
    free(m->rows);
    free(m);
}

int replays_sql_release(struct sql *sql, int64_t replay, struct err *err) {
    const struct sql_value values[] = {SQL_I(clock_unix_ms()), SQL_I(replay)};
    return sql_exec(sql,
                    "UPDATE letters SET state = 'dead', lease_ms = 0, changed_ms = $1 WHERE state = 'replaying' AND replay = $2", values,
                    array_len(values), NULL, NULL, NULL, err);
}
