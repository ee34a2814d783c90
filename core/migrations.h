// SPDX-License-Identifier: Apache-2.0
//
// migrations - the SQL files of schema/sqlite and schema/postgres, built into the binary.
//
// Owns: the two tables. scripts/embed-migrations writes their definition to gen/migrations.c below the build directory.
// Does not: run anything; each store backend applies its own table, in order, once, under a lock.
// Memory: constant data, never freed.
#ifndef WEIR_CORE_MIGRATIONS_H
#define WEIR_CORE_MIGRATIONS_H

struct migration {
    int number;       // 1, 2, 3, ... without gaps
    const char *name; // "init" for 0001_init.sql
    const char *sql;  // one or more statements; NULL in the entry after the last
};

extern const struct migration migrations_sqlite[];
extern const struct migration migrations_postgres[];

#endif
