// SPDX-License-Identifier: Apache-2.0
// The triggers' statements. Every change begins with the revision row, as the registry's do: its lock makes the changes
// of all nodes come one after the other, so that what is read here is what is changed.
#include "core/base/log.h"
#include "core/trigger_impl.h"

static int read_int(void *arg, const struct sql_row *row) {
    *(int64_t *)arg = sql_row_int(row, 0);
    return 0;
}

static int bump_revision(struct sql *sql, int64_t *ret, struct err *err) {
    return sql_exec(sql, "UPDATE revision SET number = number + 1 RETURNING number", NULL, 0, read_int, ret, NULL, err);
}

static bool parse_state(struct str word, enum trigger_state *ret) {
#define X(state, text)       \
    if (str_is(word, text)) { \
        *ret = state;        \
        return true;         \
    }
    TRIGGER_STATES(X)
#undef X
    return false;
}

// NULL, and a line in the log, for a row that this program cannot read.
static struct trigger *read_trigger(const struct sql_row *row) {
    struct str text = sql_row_bytes(row, 3), name = sql_row_bytes(row, 0);
    enum trigger_state state = TRIGGER_ACTIVE;
    json_t *settings = json_loadb(text.data ? text.data : "", text.len, 0, NULL);
    if (!json_is_object(settings) || !parse_state(sql_row_bytes(row, 4), &state)) {
        json_decref(settings);
        log_error("trigger", "a stored trigger cannot be read by this program", LOG_SPAN("trigger", name));
        return NULL;
    }
    struct trigger *t = trigger_new(name, sql_row_bytes(row, 1), sql_row_bytes(row, 2), settings);
    t->state = state;
    t->epoch = (uint64_t)sql_row_int(row, 5);
    t->created_ms = sql_row_int(row, 6);
    t->changed_ms = sql_row_int(row, 7);
    return t;
}

static int on_load_row(void *arg, const struct sql_row *row) {
    struct trigger **map = arg, *t = read_trigger(row);
    if (t) HASH_ADD_KEYPTR(hh, *map, t->name, strlen(t->name), t);
    return 0;
}

int trigger_sql_load(struct sql *sql, struct trigger_op *op, struct err *err) {
    trigger_map_free(op->map); // of a run that was rolled back
    op->map = NULL;
    // The number first: what is changed after it was read is read again the next time.
    int rc = sql_exec(sql, "SELECT number FROM revision", NULL, 0, read_int, &op->revision, NULL, err);
    struct sql_value since = SQL_I(op->since);
    if (rc == 0)
        rc = sql_exec(sql,
                      "SELECT name, function, kind, settings, state, epoch, created_ms, changed_ms FROM triggers WHERE revision > $1",
                      &since, 1, on_load_row, &op->map, NULL, err);
    if (rc == 0) rc = sql_exec(sql, "SELECT count(*) FROM triggers", NULL, 0, read_int, &op->count, NULL, err);
    return rc;
}

static int on_one_row(void *arg, const struct sql_row *row) {
    struct trigger **ret = arg;
    trigger_free(*ret);
    *ret = read_trigger(row);
    return 0;
}

// What there is at that name, NULL when nothing is.
static int select_one(struct sql *sql, const char *name, struct trigger **ret, struct err *err) {
    struct sql_value value = SQL_Z(name);
    trigger_free(*ret);
    *ret = NULL;
    return sql_exec(sql,
                    "SELECT name, function, kind, settings, state, epoch, created_ms, changed_ms FROM triggers WHERE name = $1",
                    &value, 1, on_one_row, ret, NULL, err);
}

static int insert_row(struct sql *sql, const struct trigger *t, int64_t revision, struct err *err) {
    int64_t now_ms = 0, changed = 0;
    int rc = sql_unix_ms(sql, &now_ms, err);
    if (rc) return rc;
    cleanup_free char *settings = json_dumps(t->settings, JSON_COMPACT);
    struct sql_value values[] = {SQL_Z(t->name),  SQL_Z(t->function), SQL_Z(t->kind), SQL_Z(settings),
                                 SQL_Z(trigger_state_word(t->state)), SQL_I(t->epoch), SQL_I(now_ms), SQL_I(now_ms),
                                 SQL_I(revision)};
    rc = sql_exec(sql,
                  "INSERT INTO triggers (name, function, kind, settings, state, epoch, created_ms, changed_ms, revision) "
                  "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (name) DO NOTHING",
                  values, array_len(values), NULL, NULL, &changed, err);
    if (rc == 0 && changed != 1) rc = err_set(err, ERR_CONFLICT, "there is a trigger %s already: give another name (--name)", t->name);
    return rc;
}

int trigger_sql_insert(struct sql *sql, struct trigger_op *op, struct err *err) {
    int64_t there = 0, revision = 0;
    struct sql_value function = SQL_Z(op->draft->function);
    int rc = bump_revision(sql, &revision, err);
    if (rc == 0) rc = sql_exec(sql, "SELECT count(*) FROM functions WHERE name = $1", &function, 1, read_int, &there, NULL, err);
    if (rc == 0 && !there) rc = err_set(err, ERR_NOT_FOUND, "there is no function %s any more", op->draft->function);
    if (rc == 0) rc = insert_row(sql, op->draft, revision, err);
    if (rc == 0) rc = select_one(sql, op->draft->name, &op->row, err);
    return rc;
}

static int update_row(struct sql *sql, const struct trigger *before, const struct trigger *t, int64_t revision, struct err *err) {
    cleanup_free char *settings = json_dumps(t->settings, JSON_COMPACT);
    int64_t changed = 0;
    struct sql_value values[] = {SQL_Z(settings), SQL_Z(trigger_state_word(t->state)), SQL_I(t->epoch), SQL_I(t->changed_ms),
                                 SQL_I(revision), SQL_Z(t->name), SQL_Z(trigger_state_word(before->state)), SQL_I(before->changed_ms)};
    int rc = sql_exec(sql,
                      "UPDATE triggers SET settings = $1, state = $2, epoch = $3, changed_ms = $4, revision = $5 "
                      "WHERE name = $6 AND state = $7 AND changed_ms = $8",
                      values, array_len(values), NULL, NULL, &changed, err);
    if (rc == 0 && changed != 1) rc = err_set(err, ERR_CONFLICT, "trigger %s was changed meanwhile: try again", t->name);
    return rc;
}

static bool is_unchanged(const struct trigger *a, const struct trigger *b) {
    return a->state == b->state && a->epoch == b->epoch && json_equal(a->settings, b->settings);
}

static int decide_and_update(struct sql *sql, struct trigger_op *op, const struct trigger *before, int64_t revision, struct err *err) {
    int rc = op->decide(op, op->row, err);
    if (rc) return rc;
    if (is_unchanged(before, op->row)) return 0; // so that nobody stops and starts for nothing
    int64_t now_ms = 0;
    rc = sql_unix_ms(sql, &now_ms, err);
    if (rc) return rc;
    // A change is known by its time, so two of one millisecond must differ.
    op->row->changed_ms = now_ms > before->changed_ms ? now_ms : before->changed_ms + 1;
    return update_row(sql, before, op->row, revision, err);
}

int trigger_sql_change(struct sql *sql, struct trigger_op *op, struct err *err) {
    int64_t revision = 0;
    int rc = bump_revision(sql, &revision, err);
    if (rc == 0) rc = select_one(sql, op->draft->name, &op->row, err);
    if (rc) return rc;
    if (!op->row) return err_set(err, ERR_NOT_FOUND, "there is no trigger %s", op->draft->name);
    struct trigger *before = trigger_copy(op->row);
    rc = decide_and_update(sql, op, before, revision, err);
    trigger_free(before);
    return rc;
}

int trigger_sql_delete(struct sql *sql, struct trigger_op *op, struct err *err) {
    int64_t changed = 0, revision = 0;
    struct sql_value name = SQL_Z(op->draft->name);
    int rc = bump_revision(sql, &revision, err);
    if (rc == 0) rc = sql_exec(sql, "DELETE FROM triggers WHERE name = $1", &name, 1, NULL, NULL, &changed, err);
    if (rc == 0 && changed != 1) rc = err_set(err, ERR_NOT_FOUND, "there is no trigger %s", op->draft->name);
    return rc;
}
