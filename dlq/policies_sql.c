// SPDX-License-Identifier: Apache-2.0
// What a round does in the store: looking for what is to go, on the reader, and deleting it by id, on the writer.
//
// Invariant: letters over the cap are always the oldest of one moment, as many as there were too many then. So a second look, of this node or of
// another, that comes before or after the deletion never adds to it.
#include "dlq/policies_impl.h"

#define LOCK "1464158546, 6"      // of the advisory lock; any pair that nobody else takes
#define LOOKED_AT_MAX 1000        // replays
#define RECENT_MS INT64_C(7200000) // of closed letters, in a round that is not thorough: longer than thorough rounds are apart

// --- counting -----------------------------------------------------------------------------------------------------------------

void policies_sql_clear(struct round *r) {
    for (size_t i = 0; i < r->rule_count; i++) free(r->rules[i].function);
    for (size_t i = 0; i < r->count_count; i++) free(r->counts[i].function);
    free(r->rules);
    free(r->counts);
    r->rules = NULL;
    r->counts = NULL;
    r->rule_count = r->count_count = 0;
}

static int take_rule(void *arg, const struct sql_row *row) {
    struct round *r = arg;
    json_auto_t *settings = policies_settings(sql_row_bytes(row, 1));
    r->rules = mem_realloc(r->rules, (r->rule_count + 1) * sizeof *r->rules);
    r->rules[r->rule_count++] = (struct policy){.function = mem_strndup(sql_row_bytes(row, 0)),
                                                .keep_ms = json_integer_value(json_object_get(settings, "keepMs")),
                                                .cap = json_integer_value(json_object_get(settings, "cap")),
                                                .dead = sql_row_int(row, 2)};
    return 0;
}

static int take_count(void *arg, const struct sql_row *row) {
    struct round *r = arg;
    if (r->count_count == POLICY_FUNCTIONS_MAX) return 0;
    r->counts[r->count_count++] = (struct counted){mem_strndup(sql_row_bytes(row, 0)), sql_row_int(row, 1)};
    return 0;
}

int policies_sql_count(struct round *r, struct sql *sql, struct err *err) {
    policies_sql_clear(r);
    r->counts = mem_array(POLICY_FUNCTIONS_MAX, sizeof *r->counts);
    int rc = sql_exec(sql,
                      "SELECT p.function, p.settings, (SELECT count(*) FROM letters l WHERE l.state = 'dead' AND l.function = p.function)"
                      " FROM letter_policies p ORDER BY p.function",
                      NULL, 0, take_rule, r, NULL, err);
    const struct sql_value most = SQL_I(POLICY_FUNCTIONS_MAX);
    return rc ? rc
              : sql_exec(sql, "SELECT function, count(*) FROM letters WHERE state = 'dead' GROUP BY function LIMIT $1", &most, 1, take_count, r,
                         NULL, err);
}

// --- letters --------------------------------------------------------------------------------------------------------------------

static int take_id(void *arg, const struct sql_row *row) {
    struct round *r = arg;
    MUST(r->found < POLICY_STEP);
    r->ids[r->found++] = letters_row_id(row, 0);
    return 0;
}

// The last id of a time: ids begin with it.
static struct id id_until(int64_t unix_ms) {
    struct id id;
    memset(id.bytes, 0xff, sizeof id.bytes);
    if (unix_ms < 0) unix_ms = 0;
    for (int i = 0; i < 6; i++) id.bytes[i] = (uint8_t)(unix_ms >> (40 - 8 * i));
    return id;
}

// Nobody died before it was accepted; but a record's time, which its id has, may be ahead.
static int find_dead(struct round *r, struct sql *sql, const struct policy *rule, struct err *err) {
    struct id until = id_until(r->thorough ? INT64_MAX : r->before_ms);
    const struct sql_value values[] = {SQL_Z(rule->function), letters_sql_id(&until), SQL_I(r->before_ms), SQL_I(POLICY_STEP)};
    return sql_exec(sql, "SELECT id FROM letters WHERE state = 'dead' AND function = $1 AND id <= $2 AND died_ms < $3 ORDER BY id LIMIT $4",
                    values, array_len(values), take_id, r, NULL, err);
}

static int find_closed(struct round *r, struct sql *sql, const struct policy *rule, struct err *err) {
    const struct sql_value values[] = {SQL_I(r->thorough ? 0 : r->before_ms - RECENT_MS), SQL_I(r->before_ms), SQL_Z(rule->function),
                                       SQL_I(POLICY_STEP - r->found)};
    return sql_exec(sql,
                    "SELECT id FROM letters WHERE state IN ('replayed', 'discarded') AND changed_ms >= $1 AND changed_ms < $2"
                    " AND function = $3 ORDER BY changed_ms LIMIT $4",
                    values, array_len(values), take_id, r, NULL, err);
}

static int find_excess(struct round *r, struct sql *sql, const struct policy *rule, struct err *err) {
    int64_t dead = 0;
    const struct sql_value name = SQL_Z(rule->function);
    int rc = sql_exec(sql, "SELECT count(*) FROM letters WHERE state = 'dead' AND function = $1", &name, 1, letters_take_int, &dead, NULL, err);
    if (rc || dead <= rule->cap) return rc;
    int64_t excess = dead - rule->cap;
    const struct sql_value values[] = {name, SQL_I(excess < POLICY_STEP ? excess : POLICY_STEP)};
    r->over_cap = true;
    return sql_exec(sql, "SELECT id FROM letters WHERE state = 'dead' AND function = $1 ORDER BY id LIMIT $2", values, array_len(values),
                    take_id, r, NULL, err);
}

int policies_sql_find(struct round *r, struct sql *sql, struct err *err) {
    const struct policy *rule = &r->rules[r->rule];
    int64_t now_ms = 0;
    r->found = 0;
    r->over_cap = false;
    int rc = sql_unix_ms(sql, &now_ms, err);
    r->before_ms = now_ms - rule->keep_ms;
    if (rc == 0 && rule->keep_ms) rc = find_dead(r, sql, rule, err);
    if (rc == 0 && rule->keep_ms && r->found < POLICY_STEP) rc = find_closed(r, sql, rule, err);
    if (rc == 0 && rule->cap && r->found == 0) rc = find_excess(r, sql, rule, err);
    return rc;
}

// --- deleting -------------------------------------------------------------------------------------------------------------------

static int my_turn(struct sql *sql, bool *ret, struct err *err) {
    int64_t mine = 1;
    int rc = sql_is_postgres(sql) ? sql_exec(sql, "SELECT CASE WHEN pg_try_advisory_xact_lock(" LOCK ") THEN 1::bigint ELSE 0::bigint END", NULL,
                                             0, letters_take_int, &mine, NULL, err)
                                  : 0;
    *ret = mine;
    return rc;
}

static int take_gone(void *arg, const struct sql_row *row) {
    struct round *r = arg;
    MUST(r->deleted < r->found);
    r->gone[r->deleted++] = letters_row_id(row, 0);
    return 0;
}

// Those that are still what they were when they were found.
int policies_sql_delete(struct round *r, struct sql *sql, struct err *err) {
    bool mine;
    struct buf text;
    struct sql_value values[POLICY_STEP + 2] = {SQL_I(r->before_ms), SQL_I(r->before_ms)};
    size_t count = r->over_cap ? 0 : 2;
    int rc = my_turn(sql, &mine, err);
    r->deleted = 0;
    if (rc || !mine) return rc;
    buf_init(&text, SELECT_SQL_MAX);
    MUST(buf_printf(&text, "DELETE FROM letters WHERE %s AND id IN (",
                    r->over_cap ? "state = 'dead'"
                                : "((state = 'dead' AND died_ms < $1) OR (state IN ('replayed', 'discarded') AND changed_ms < $2))") == 0);
    for (size_t i = 0; i < r->found; i++) {
        values[count++] = letters_sql_id(&r->ids[i]);
        MUST(buf_printf(&text, "%s$%zu", i ? ", " : "", count) == 0);
    }
    MUST(buf_append(&text, STR_LIT(") RETURNING id\0")) == 0);
    rc = sql_exec_once(sql, text.data + text.start, values, count, take_gone, r, NULL, err);
    buf_done(&text);
    return rc ? rc : letters_sql_forget(sql, r->gone, r->deleted, err);
}

// --- what belongs to nothing ----------------------------------------------------------------------------------------------------

struct orphans {
    struct round *round;
    int64_t before_ms;
    size_t looked_at;
};

static int take_edited(void *arg, const struct sql_row *row) {
    struct orphans *o = arg;
    o->looked_at++;
    o->round->after = letters_row_id(row, 0);
    bool there = sql_row_int(row, 2) != 0;
    return there || sql_row_int(row, 1) >= o->before_ms ? 0 : take_id(o->round, row);
}

int policies_sql_find_orphans(struct round *r, struct sql *sql, struct err *err) {
    int64_t now_ms = 0;
    const struct id after = r->after;
    const struct sql_value values[] = {letters_sql_id(&after), SQL_I(POLICY_STEP)};
    int rc = sql_unix_ms(sql, &now_ms, err);
    struct orphans o = {r, now_ms - POLICY_EDITS_KEEP_MS, 0};
    r->found = 0;
    if (rc == 0)
        rc = sql_exec(sql,
                      "SELECT e.letter_id, max(e.at_ms), (SELECT count(*) FROM letters l WHERE l.id = e.letter_id) FROM letter_edits e"
                      " WHERE e.letter_id > $1 GROUP BY e.letter_id ORDER BY e.letter_id LIMIT $2",
                      values, array_len(values), take_edited, &o, NULL, err);
    r->more = o.looked_at == POLICY_STEP;
    return rc;
}

int policies_sql_delete_orphans(struct round *r, struct sql *sql, struct err *err) {
    struct sql_value ids[POLICY_STEP];
    for (size_t i = 0; i < r->found; i++) ids[i] = letters_sql_id(&r->ids[i]);
    int rc = sql_exec_many(sql, "DELETE FROM letter_originals WHERE letter_id = $1 AND NOT EXISTS (SELECT 1 FROM letters WHERE id = $1)", ids, 1,
                           r->found, err);
    return rc ? rc
              : sql_exec_many(sql, "DELETE FROM letter_edits WHERE letter_id = $1 AND NOT EXISTS (SELECT 1 FROM letters WHERE id = $1)", ids, 1,
                              r->found, err);
}

// The oldest replays are looked through: those that ended long ago are among them.
int policies_sql_find_replay(struct round *r, struct sql *sql, struct err *err) {
    int64_t now_ms = 0;
    int rc = sql_unix_ms(sql, &now_ms, err);
    const struct sql_value values[] = {SQL_I(LOOKED_AT_MAX), SQL_I(now_ms - POLICY_REPLAYS_KEEP_MS)};
    r->replay = 0;
    return rc ? rc
              : sql_exec(sql,
                         "SELECT o.id FROM (SELECT id, ended_ms FROM replays ORDER BY id LIMIT $1) o WHERE o.ended_ms < $2 ORDER BY o.id LIMIT 1",
                         values, array_len(values), letters_take_int, &r->replay, NULL, err);
}

// Its letters go before it does.
int policies_sql_delete_replay(struct round *r, struct sql *sql, struct err *err) {
    const struct sql_value values[] = {SQL_I(r->replay), SQL_I(POLICY_STEP)};
    int64_t deleted = 0;
    int rc = sql_exec(sql,
                      "DELETE FROM replay_letters WHERE replay = $1 AND seq IN"
                      " (SELECT seq FROM replay_letters WHERE replay = $1 ORDER BY seq LIMIT $2)",
                      values, array_len(values), NULL, NULL, &deleted, err);
    if (rc || deleted == POLICY_STEP) return rc;
    return sql_exec(sql, "DELETE FROM replays WHERE id = $1", values, 1, NULL, NULL, NULL, err);
}
