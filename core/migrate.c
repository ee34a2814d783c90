// SPDX-License-Identifier: Apache-2.0
// Migrations are numbered without gaps, so the highest applied number says everything.
#include "core/migrate.h"

#include <inttypes.h>

#include "core/base/clock.h"
#include "core/base/log.h"

static int read_number(void *arg, const struct sql_row *row) {
    int64_t *number = arg;
    *number = sql_row_int(row, 0);
    return 0;
}

static int highest_applied(struct sql *sql, int64_t *ret, struct err *err) {
    int rc = sql_exec(sql,
                      "CREATE TABLE IF NOT EXISTS schema_migrations ("
                      "number BIGINT PRIMARY KEY, name TEXT NOT NULL, applied_ms BIGINT NOT NULL)",
                      NULL, 0, NULL, NULL, NULL, err);
    if (rc) return rc;
    return sql_exec(sql, "SELECT max(number) FROM schema_migrations", NULL, 0, read_number, ret, NULL, err);
}

static int apply(struct sql *sql, const struct migration *m, migrate_script_fn *script, struct err *err) {
    int rc = script(sql, m->sql, err);
    if (rc) return rc;
    struct sql_value values[] = {SQL_I(m->number), SQL_Z(m->name), SQL_I(clock_unix_ms())};
    rc = sql_exec(sql, "INSERT INTO schema_migrations (number, name, applied_ms) VALUES ($1, $2, $3)", values, 3, NULL,
                  NULL, NULL, err);
    if (rc == 0) log_info("store", "migration applied", LOG_INT("number", m->number), LOG_STR("name", m->name),
                          LOG_STR("store", sql_is_postgres(sql) ? "postgresql" : "sqlite"));
    return rc;
}

int migrate_run(struct sql *sql, const struct migration *table, migrate_script_fn *script, struct err *err) {
    int64_t applied = 0;
    int rc = highest_applied(sql, &applied, err);
    if (rc) return rc;
    int64_t known = 0;
    for (const struct migration *m = table; m->sql; m++) {
        known = m->number;
        if (known <= applied) continue;
        rc = apply(sql, m, script, err);
        if (rc) return rc;
    }
    if (applied > known)
        return err_set(err, ERR_CONFLICT,
                       "the database has migration %" PRId64 ", this program knows them up to %" PRId64
                       ": use a newer program",
                       applied, known);
    return 0;
}
