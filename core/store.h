// SPDX-License-Identifier: Apache-2.0
// The store: one SQL database, SQLite or PostgreSQL, worked by one thread in group commits.
//
// Owns: a thread and its connection. Flow: store_submit(job) -> job->run on the store thread, together with other
//   jobs in one transaction -> commit -> job->done on the loop thread. Jobs run in the order of submission.
// Delivery: done with ERR_OK means committed and durable. When a job of a group fails, the group is rolled back and
//   runs again in parts (those before it, it alone, those after it), so that a bad job hurts only itself and the order
//   stays: `run` must give the same effect when it runs again. While the database is away, jobs fail with
//   ERR_UNAVAILABLE, at once or after a connection attempt of a few seconds, and the store reconnects with back-off.
//   When the connection breaks during a commit nobody knows its outcome: that is ERR_UNAVAILABLE too, so submitting
//   such a job again must do no harm.
// Threads: store_* on the loop's thread; sql_* only inside run. Blocking: only the store thread.
// Memory: at most STORE_JOBS_MAX jobs wait; over it a job is done with ERR_BUSY.
// Errors: ERR_UNAVAILABLE (away), ERR_FULL (disk full), ERR_CONFLICT (unique violation), ERR_CORRUPT, ERR_BUSY.
#ifndef CORE_STORE_H
#define CORE_STORE_H

#include "core/base/loop.h"

struct store;
struct sql;

#define STORE_JOBS_MAX 65536

struct store_job {
    int (*run)(struct store_job *job, struct sql *sql, struct err *err);
    void (*done)(struct store_job *job, int code, const struct err *err); // may free the job
    // For the store:
    struct store_job *next;
    struct err err;
    int code;
};

// url: "sqlite:PATH" (created when missing, directory must exist) or "postgresql://…" (libpq URI).
// Opens and migrates before it returns: ERR_UNAVAILABLE when the server is away, ERR_INVALID for a bad URL,
// ERR_CONFLICT when the database is newer than this program.
int store_open(struct loop *loop, const char *url, struct store **ret, struct err *err) must_use;
// A second connection to the database of `url`, which store_open has opened, with a thread of its own, for long looks that must not hold
// up the writers. Each job is a transaction: it sees one moment of the database, with all that was committed before the job began,
// cannot write (ERR_INTERNAL), and ends with ERR_TIMEOUT at the statement that would take it over read_ms (STORE_READ_MS, but in tests).
// SQLite's log grows while a job looks: over 128 MiB the next job waits, up to a second, until the writer has begun the log anew.
#define STORE_READ_MS 30000
int store_open_reader(struct loop *loop, const char *url, int64_t read_ms, struct store **ret, struct err *err) must_use;
// Runs what was submitted (of a reader's jobs only the one that has begun; the others are done with ERR_UNAVAILABLE), then closes and
// joins the thread. Blocks; done callbacks have run when it returns.
void store_close(struct store *s);
void store_submit(struct store *s, struct store_job *job);
bool store_is_up(const struct store *s);     // the last word of the store thread
bool store_is_shared(const struct store *s); // other processes may write to it (PostgreSQL)

// --- SQL, inside run ------------------------------------------------------------------------------------------------
// One text for both databases: parameters $1, $2, … whose first appearances are in order; types BIGINT, TEXT, and
// BLOB/BYTEA only (TEXT is valid UTF-8 without NUL: PostgreSQL refuses anything else); ON CONFLICT … DO UPDATE and
// RETURNING work on both. SQL_TEXT is for TEXT and SQL_BLOB for BLOB/BYTEA, never the other way. A JSONB column of PostgreSQL takes
// SQL_TEXT (ERR_INVALID when that is no JSON) and reads as its text, in the form that PostgreSQL gives it.
// Statements are prepared once and cached by the address of `text`, which must be a string literal. A statement that fails dooms its
// job, whatever run returns.
#define SQL_PARAMETERS_MAX 2048 // of one statement
enum sql_type { SQL_NULL, SQL_INT, SQL_TEXT, SQL_BLOB };
struct sql_value {
    enum sql_type type;
    int64_t number;
    struct str bytes; // not copied: must live until the call returns
};
#define SQL_I(n) ((struct sql_value){.type = SQL_INT, .number = (int64_t)(n)})
#define SQL_T(s) ((struct sql_value){.type = SQL_TEXT, .bytes = (s)})
#define SQL_Z(z) ((struct sql_value){.type = SQL_TEXT, .bytes = str_of(z)})
#define SQL_B(s) ((struct sql_value){.type = SQL_BLOB, .bytes = (s)})
#define SQL_NONE ((struct sql_value){.type = SQL_NULL})

// A row of a result; valid during the callback.
struct sql_row;
int64_t sql_row_int(const struct sql_row *row, int column);    // NULL reads as 0
struct str sql_row_bytes(const struct sql_row *row, int column); // TEXT or BLOB; NULL reads as {NULL, 0}
bool sql_row_is_null(const struct sql_row *row, int column);
typedef int sql_row_fn(void *arg, const struct sql_row *row);  // 0 to go on, negative to stop with that code

// Runs a statement; fn (may be NULL) gets its rows. ret_changed (may be NULL): rows inserted, updated or deleted.
int sql_exec(struct sql *sql, const char *text, const struct sql_value *values, size_t count, sql_row_fn *fn, void *arg,
             int64_t *ret_changed, struct err *err) must_use;
// Runs one statement for many parameter sets (rows × count values), in as few round trips as the database allows.
int sql_exec_many(struct sql *sql, const char *text, const struct sql_value *values, size_t count, size_t rows,
                  struct err *err) must_use;
// The same in one execution, on PostgreSQL only: each parameter is an array, the rows' values of one column, for
// SELECT unnest($1::bytea[]), unnest($2::bigint[]), … A column's values have one type, or are NULL; its array is NULL when they all are.
// What one statement cannot do to a row twice, it cannot do to two rows of one key.
int sql_exec_arrays(struct sql *sql, const char *text, const struct sql_value *values, size_t count, size_t rows, struct err *err) must_use;
// sql_exec for a text that was put together for this one call, with its values as parameters all the same; it is not kept.
// ERR_TOO_LARGE over SQL_PARAMETERS_MAX.
int sql_exec_once(struct sql *sql, const char *text, const struct sql_value *values, size_t count, sql_row_fn *fn, void *arg,
                  int64_t *ret_changed, struct err *err) must_use;
// The store's clock: PostgreSQL's, so that nodes whose clocks differ agree; with SQLite this process's.
int sql_unix_ms(struct sql *sql, int64_t *ret, struct err *err) must_use;
bool sql_is_postgres(const struct sql *sql); // for the rare clause that only one knows, such as FOR UPDATE SKIP LOCKED

// --- for backends ---------------------------------------------------------------------------------------------------
// All on the store thread.
struct store_ops {
    const char *scheme;
    bool shared;
    // Connects; with read_ms 0 also migrates, else for reading only.
    int (*open)(const char *url, int64_t read_ms, struct sql **ret, struct err *err);
    void (*close)(struct sql *sql);
    int (*begin)(struct sql *sql, struct err *err);
    int (*commit)(struct sql *sql, struct err *err);
    void (*rollback)(struct sql *sql);
    bool (*is_broken)(const struct sql *sql); // the connection is lost: close and open again
    bool (*collided)(const struct sql *sql);  // the transaction lost a race with another process: run it again
    int (*exec)(struct sql *sql, const char *text, const struct sql_value *values, size_t count, sql_row_fn *fn,
                void *arg, int64_t *ret_changed, struct err *err);
    int (*exec_once)(struct sql *sql, const char *text, const struct sql_value *values, size_t count, sql_row_fn *fn,
                     void *arg, int64_t *ret_changed, struct err *err);
    int (*exec_many)(struct sql *sql, const char *text, const struct sql_value *values, size_t count, size_t rows,
                     struct err *err);
    int (*exec_arrays)(struct sql *sql, const char *text, const struct sql_value *values, size_t count, size_t rows,
                       struct err *err); // NULL: it has no arrays
    int64_t (*row_int)(const struct sql_row *row, int column);
    struct str (*row_bytes)(const struct sql_row *row, int column);
    bool (*row_is_null)(const struct sql_row *row, int column);
};
struct sql {
    const struct store_ops *ops;
    int failed; // set by the backend to the code of the first statement that failed in this transaction; 0 by begin
    int64_t read_ms;     // of a reader: how long a job may take; 0: a writer
    int64_t deadline_ns; // of a reader's job
};
struct sql_row {
    const struct store_ops *ops;
};
int sql_fail_late(struct sql *sql, const char *text, struct err *err); // the deadline has passed; returns ERR_TIMEOUT
extern const struct store_ops store_sqlite_ops, store_postgres_ops;

#endif
