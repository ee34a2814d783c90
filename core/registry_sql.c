// SPDX-License-Identifier: Apache-2.0
// The registry's statements. Every change begins with the revision row, whose lock makes the changes of all nodes come
// one after the other: the next version number and the packages that nobody needs are computed without a race.
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/registry_impl.h"

static int read_int(void *arg, const struct sql_row *row) {
    *(int64_t *)arg = sql_row_int(row, 0);
    return 0;
}

int registry_sql_revision(struct sql *sql, int64_t *ret, struct err *err) {
    return sql_exec(sql, "SELECT number FROM revision", NULL, 0, read_int, ret, NULL, err);
}

static int bump_revision(struct sql *sql, int64_t *ret, struct err *err) {
    return sql_exec(sql, "UPDATE revision SET number = number + 1 RETURNING number", NULL, 0, read_int, ret, NULL, err);
}

// --- load -------------------------------------------------------------------------------------------------------------

struct load {
    const char *versions_dir;
    struct function *map;
};

static int on_function_row(void *arg, const struct sql_row *row) {
    struct load *load = arg;
    struct function *fn = function_new(sql_row_bytes(row, 0), (uint32_t)sql_row_int(row, 1), sql_row_int(row, 2));
    HASH_ADD_KEYPTR(hh, load->map, fn->name, strlen(fn->name), fn);
    return 0;
}

static int on_version_row(void *arg, const struct sql_row *row) {
    struct load *load = arg;
    struct str name = sql_row_bytes(row, 0);
    struct function *fn;
    HASH_FIND(hh, load->map, name.data, name.len, fn);
    if (!fn) return 0; // made after the functions were read; the next poll sees it
    struct version *v = version_new(load->versions_dir, name, (uint32_t)sql_row_int(row, 1), sql_row_bytes(row, 2), sql_row_int(row, 4));
    struct err why;
    if (settings_from_json(sql_row_bytes(row, 3), &v->settings, &why)) {
        log_error("registry", "a stored version has settings that this program cannot read", LOG_STR("function", v->function),
                  LOG_INT("version", v->number), LOG_STR("error", why.text));
        version_unref(v);
        return 0;
    }
    function_add(fn, v);
    return 0;
}

int registry_sql_load(struct sql *sql, struct registry_op *op, struct err *err) {
    struct load load = {.versions_dir = op->versions_dir};
    // The revision first: what changes while we read makes it older than the store's, and the next poll loads again.
    int rc = registry_sql_revision(sql, &op->revision, err);
    if (rc == 0)
        rc = sql_exec(sql, "SELECT name, current, created_ms FROM functions", NULL, 0, on_function_row, &load, NULL, err);
    if (rc == 0)
        rc = sql_exec(sql, "SELECT function, number, sha256, settings, created_ms FROM versions ORDER BY function, number", NULL,
                      0, on_version_row, &load, NULL, err);
    function_map_free(op->map); // of a run that was rolled back
    op->map = load.map;
    return rc;
}

// --- changes ----------------------------------------------------------------------------------------------------------

static int insert_package(struct sql *sql, const struct registry_op *op, struct err *err) {
    struct sql_value values[] = {SQL_Z(op->sha256), SQL_B(((struct str){op->archive, op->archive_len})), SQL_I(clock_unix_ms())};
    return sql_exec(sql,
                    "INSERT INTO packages (sha256, archive, created_ms) VALUES ($1, $2, $3) ON CONFLICT (sha256) DO NOTHING",
                    values, 3, NULL, NULL, NULL, err);
}

// The function's row, made when it is new.
static int insert_function(struct sql *sql, struct registry_op *op, struct err *err) {
    struct sql_value values[] = {SQL_Z(op->name), SQL_I(op->version->created_ms)};
    return sql_exec(sql,
                    "INSERT INTO functions (name, current, created_ms) VALUES ($1, 0, $2) "
                    "ON CONFLICT (name) DO UPDATE SET created_ms = functions.created_ms RETURNING created_ms",
                    values, 2, read_int, &op->fn_created_ms, NULL, err);
}

static int insert_version(struct sql *sql, struct registry_op *op, struct err *err) {
    int64_t number = 0;
    struct sql_value name = SQL_Z(op->name);
    int rc = sql_exec(sql, "SELECT COALESCE(MAX(number), 0) + 1 FROM versions WHERE function = $1", &name, 1, read_int, &number,
                      NULL, err);
    if (rc) return rc;
    if (number < 1 || number > UINT32_MAX) return err_set(err, ERR_CORRUPT, "function %s has a wrong version number", op->name);
    op->number = (uint32_t)number;
    struct sql_value values[] = {SQL_Z(op->name), SQL_I(number), SQL_Z(op->sha256), SQL_Z(op->settings_json),
                                 SQL_I(op->version->created_ms)};
    return sql_exec(sql, "INSERT INTO versions (function, number, sha256, settings, created_ms) VALUES ($1, $2, $3, $4, $5)",
                    values, 5, NULL, NULL, NULL, err);
}

static int update_current(struct sql *sql, const struct registry_op *op, int64_t *changed, struct err *err) {
    struct sql_value values[] = {SQL_I(op->number), SQL_Z(op->name)};
    return sql_exec(sql,
                    "UPDATE functions SET current = $1 WHERE name = $2 "
                    "AND EXISTS (SELECT 1 FROM versions WHERE function = $2 AND number = $1)",
                    values, 2, NULL, NULL, changed, err);
}

// 1 in *changed when there is a current version now.
static int begin_current(struct sql *sql, const struct registry_op *op, int64_t *changed, struct err *err) {
    struct sql_value values[] = {SQL_I(op->number), SQL_Z(op->name)};
    return sql_exec(sql, "UPDATE functions SET current = CASE current WHEN 0 THEN $1 ELSE current END WHERE name = $2", values, 2,
                    NULL, NULL, changed, err);
}

int registry_sql_deploy(struct sql *sql, struct registry_op *op, struct err *err) {
    int64_t changed = 0;
    int rc = bump_revision(sql, &op->revision, err);
    if (rc == 0) rc = insert_package(sql, op, err);
    if (rc == 0) rc = insert_function(sql, op, err);
    if (rc == 0) rc = insert_version(sql, op, err);
    if (rc == 0) rc = (op->make_current ? update_current : begin_current)(sql, op, &changed, err);
    if (rc == 0 && changed != 1) rc = err_set(err, ERR_CONFLICT, "function %s changed meanwhile; deploy again", op->name);
    return rc;
}

int registry_sql_set_current(struct sql *sql, struct registry_op *op, struct err *err) {
    int64_t changed = 0;
    int rc = bump_revision(sql, &op->revision, err);
    if (rc == 0) rc = update_current(sql, op, &changed, err);
    if (rc == 0 && changed != 1) rc = err_set(err, ERR_NOT_FOUND, "function %s has no version %u", op->name, op->number);
    return rc;
}

int registry_sql_delete(struct sql *sql, struct registry_op *op, struct err *err) {
    int64_t changed = 0;
    struct sql_value name = SQL_Z(op->name);
    int rc = bump_revision(sql, &op->revision, err);
    if (rc == 0) rc = sql_exec(sql, "DELETE FROM versions WHERE function = $1", &name, 1, NULL, NULL, NULL, err);
    if (rc == 0) rc = sql_exec(sql, "DELETE FROM functions WHERE name = $1", &name, 1, NULL, NULL, &changed, err);
    if (rc == 0 && changed != 1) rc = err_set(err, ERR_NOT_FOUND, "there is no function %s", op->name);
    if (rc) return rc;
    return sql_exec(sql,
                    "DELETE FROM packages WHERE NOT EXISTS (SELECT 1 FROM versions WHERE versions.sha256 = packages.sha256)",
                    NULL, 0, NULL, NULL, NULL, err);
}

static int take_archive(void *arg, const struct sql_row *row) {
    struct registry_op *op = arg;
    struct str bytes = sql_row_bytes(row, 0);
    free(op->archive);
    op->archive = mem_strndup(bytes);
    op->archive_len = bytes.len;
    return 0;
}

int registry_sql_package(struct sql *sql, struct registry_op *op, struct err *err) {
    struct sql_value sha = SQL_Z(op->sha256);
    int rc = sql_exec(sql, "SELECT archive FROM packages WHERE sha256 = $1", &sha, 1, take_archive, op, NULL, err);
    if (rc == 0 && !op->archive) rc = err_set(err, ERR_NOT_FOUND, "the store has no package %s", op->sha256);
    return rc;
}
