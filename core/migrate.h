// SPDX-License-Identifier: Apache-2.0
// Brings a database to the schema of this program.
//
// Owns: the table schema_migrations (number, name, applied_ms). Flow: the backend opens a transaction, takes the lock
//   that keeps other processes out, calls migrate_run, and commits: all of it happens or nothing.
// Threads: the one that opens the store. Errors: ERR_CONFLICT when the database is newer than the program.
#ifndef CORE_MIGRATE_H
#define CORE_MIGRATE_H

#include "core/migrations.h"
#include "core/store.h"

// Runs one or more statements without parameters.
typedef int migrate_script_fn(struct sql *sql, const char *text, struct err *err);

// Applies what the database lacks of `table`, in order. Inside the caller's transaction and lock.
int migrate_run(struct sql *sql, const struct migration *table, migrate_script_fn *script, struct err *err) must_use;

#endif
