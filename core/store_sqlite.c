// SPDX-License-Identifier: Apache-2.0
// The store on one SQLite file. The only file that knows SQLite.
//
// Invariants: one writer. It has PATH.lock locked as long as the file is open, so that a second server on the same file is
// told so; readers, and other tools, may still read the database. WAL with synchronous=FULL: a commit is one fsync, and
// neither does a reader wait for the writer nor the writer for a reader.
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/migrate.h"
#include "core/store.h"

#define STATEMENTS_MAX 256 // a power of two; more texts than that are a bug
#define BUSY_TIMEOUT_MS 10000
#define SPACE_TRY_NS (1000 * NS_PER_MS)
#define LOG_MAX (128 * 1024 * 1024)      // bytes; from then on readers make way
#define LOG_STEP (64 * 1024 * 1024)
#define MAKE_WAY_NS (1000 * NS_PER_MS)
#define LOOK_AT_CLOCK 1000 // instructions of a reader's statement between two looks: some tens of microseconds

struct statement {
    const char *text;
    sqlite3_stmt *stmt;
};

struct sqlite {
    struct sql base;
    sqlite3 *db;
    int lock_fd;
    bool broken;
    int64_t log_patience;   // of a reader: bytes of the log until it makes way
    int64_t space_tried_ns; // when the log was last folded into the file because the disk was full
    struct statement statements[STATEMENTS_MAX];
};

struct sqlite_row {
    struct sql_row base;
    sqlite3_stmt *stmt;
};

static struct sqlite *sqlite_of(struct sql *sql) {
    return container_of(sql, struct sqlite, base);
}

static sqlite3_stmt *stmt_of(const struct sql_row *row) {
    return ((const struct sqlite_row *)(const void *)row)->stmt; // base comes first
}

// NULL before anything was read.
static sqlite3_file *log_of(struct sqlite *s) {
    sqlite3_file *log = NULL;
    if (sqlite3_file_control(s->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log) != SQLITE_OK) return NULL;
    return log && log->pMethods ? log : NULL;
}

// ---- errors ------------------------------------------------------------------------------------------------------------

static bool is_space_errno(int e) {
    return e == ENOSPC || e == EDQUOT || e == EFBIG;
}

// SQLite says SQLITE_FULL for ENOSPC only; a quota or a limit shows as an I/O error, whose reason the file keeps
// (sqlite3_system_errno is the errno of whatever came last).
static bool is_write_refused(struct sqlite *s) {
    int e = 0;
    if (sqlite3_file_control(s->db, "main", SQLITE_FCNTL_LAST_ERRNO, &e) == SQLITE_OK && is_space_errno(e)) return true;
    sqlite3_file *log = log_of(s);
    return log && log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &e) == SQLITE_OK && is_space_errno(e);
}

static bool is_out_of_space(struct sqlite *s, int code) {
    if (code == SQLITE_FULL) return true;
    if (code == SQLITE_CANTOPEN) return is_space_errno(sqlite3_system_errno(s->db));
    return code == SQLITE_IOERR && is_write_refused(s);
}

static enum err_code code_of(struct sqlite *s) {
    int code = sqlite3_errcode(s->db) & 0xff;
    if (is_out_of_space(s, code)) return ERR_FULL;
    switch (code) {
    case SQLITE_CONSTRAINT:
        switch (sqlite3_extended_errcode(s->db)) {
        case SQLITE_CONSTRAINT_NOTNULL:
        case SQLITE_CONSTRAINT_CHECK:
        case SQLITE_CONSTRAINT_DATATYPE: return ERR_INVALID;
        default: return ERR_CONFLICT;
        }
    case SQLITE_MISMATCH: return ERR_INVALID;
    case SQLITE_TOOBIG: return ERR_TOO_LARGE;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return ERR_CORRUPT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR: return ERR_UNAVAILABLE;
    case SQLITE_READONLY: // a reader that writes, or a file that became read-only
        return s->base.read_ms && sqlite3_extended_errcode(s->db) == SQLITE_READONLY ? ERR_INTERNAL : ERR_UNAVAILABLE;
    default: return ERR_INTERNAL;
    }
}

// For a statement of a transaction; `text` is what was tried.
static int fail(struct sqlite *s, const char *text, struct err *err) {
    if (sqlite3_errcode(s->db) == SQLITE_INTERRUPT) return sql_fail_late(&s->base, text, err);
    enum err_code code = code_of(s);
    if ((sqlite3_errcode(s->db) & 0xff) == SQLITE_IOERR && code != ERR_FULL) s->broken = true;
    if (!s->base.failed) s->base.failed = code;
    return err_set(err, code, "SQLite: %s (%.60s)", sqlite3_errmsg(s->db), text);
}

// ---- statements --------------------------------------------------------------------------------------------------------

static int fail_misuse(struct sqlite *s, const char *text, const char *what, struct err *err) {
    if (!s->base.failed) s->base.failed = ERR_INTERNAL;
    return err_set(err, ERR_INTERNAL, "%s: %.100s", what, text);
}

// SQLite numbers $-parameters by their first appearance; the texts promise that this is their own number.
static bool is_numbered(sqlite3_stmt *stmt) {
    for (int i = 1; i <= sqlite3_bind_parameter_count(stmt); i++) {
        const char *name = sqlite3_bind_parameter_name(stmt, i);
        if (!name || name[0] != '$' || atoi(name + 1) != i) return false;
    }
    return true;
}

static struct statement *slot_of(struct sqlite *s, const char *text) {
    size_t at = ((size_t)text >> 3) * UINT64_C(0x9E3779B97F4A7C15) >> 40;
    for (size_t i = 0; i < STATEMENTS_MAX; i++) {
        struct statement *slot = &s->statements[(at + i) % STATEMENTS_MAX];
        if (!slot->text || slot->text == text) return slot;
    }
    MUST(!"more SQL texts than the statement cache holds");
    return NULL;
}

static int compile(struct sqlite *s, const char *text, unsigned flags, sqlite3_stmt **ret, struct err *err) {
    sqlite3_stmt *stmt;
    if (sqlite3_prepare_v3(s->db, text, -1, flags, &stmt, NULL) != SQLITE_OK) return fail(s, text, err);
    if (!is_numbered(stmt)) {
        sqlite3_finalize(stmt);
        return fail_misuse(s, text, "the parameters are not $1, $2, ... in the order of their appearance", err);
    }
    *ret = stmt;
    return 0;
}

static int prepare(struct sqlite *s, const char *text, sqlite3_stmt **ret, struct err *err) {
    struct statement *slot = slot_of(s, text);
    MUST(slot);
    if (!slot->stmt) {
        int rc = compile(s, text, SQLITE_PREPARE_PERSISTENT, &slot->stmt, err);
        if (rc) return rc;
        slot->text = text;
    }
    *ret = slot->stmt;
    return 0;
}

static int bind(sqlite3_stmt *stmt, int at, const struct sql_value *v) {
    const char *data = v->bytes.data ? v->bytes.data : ""; // NULL would bind an SQL NULL
    switch (v->type) {
    case SQL_NULL: return sqlite3_bind_null(stmt, at);
    case SQL_INT: return sqlite3_bind_int64(stmt, at, v->number);
    case SQL_TEXT: return sqlite3_bind_text64(stmt, at, data, v->bytes.len, SQLITE_STATIC, SQLITE_UTF8);
    case SQL_BLOB: return sqlite3_bind_blob64(stmt, at, data, v->bytes.len, SQLITE_STATIC);
    }
    return SQLITE_MISUSE;
}

static int bind_all(struct sqlite *s, sqlite3_stmt *stmt, const struct sql_value *values, size_t count,
                    const char *text, struct err *err) {
    if ((size_t)sqlite3_bind_parameter_count(stmt) != count) return fail_misuse(s, text, "the wrong number of values", err);
    for (size_t i = 0; i < count; i++)
        if (bind(stmt, (int)i + 1, &values[i]) != SQLITE_OK) return fail(s, text, err);
    return 0;
}

// Steps to the end. A stop by fn is not a failure of the statement.
static int step_all(struct sqlite *s, sqlite3_stmt *stmt, const char *text, sql_row_fn *fn, void *arg,
                    struct err *err) {
    struct sqlite_row row = {.base.ops = &store_sqlite_ops, .stmt = stmt};
    for (;;) {
        int step = sqlite3_step(stmt);
        if (step == SQLITE_DONE) return 0;
        if (step != SQLITE_ROW) return fail(s, text, err);
        int rc = fn ? fn(arg, &row.base) : 0;
        if (rc) return rc;
    }
}

// `total_changes` would count what foreign keys did too.
static int run(struct sqlite *s, sqlite3_stmt *stmt, const char *text, const struct sql_value *values, size_t count, sql_row_fn *fn,
               void *arg, int64_t *ret_changed, struct err *err) {
    int rc = bind_all(s, stmt, values, count, text, err);
    if (rc == 0) rc = step_all(s, stmt, text, fn, arg, err);
    if (rc == 0 && ret_changed) *ret_changed = sqlite3_stmt_readonly(stmt) ? 0 : sqlite3_changes64(s->db);
    return rc;
}

static int sqlite_exec(struct sql *sql, const char *text, const struct sql_value *values, size_t count, sql_row_fn *fn,
                       void *arg, int64_t *ret_changed, struct err *err) {
    struct sqlite *s = sqlite_of(sql);
    sqlite3_stmt *stmt;
    int rc = prepare(s, text, &stmt, err);
    if (rc) return rc;
    rc = run(s, stmt, text, values, count, fn, arg, ret_changed, err);
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
    return rc;
}

static int sqlite_exec_once(struct sql *sql, const char *text, const struct sql_value *values, size_t count, sql_row_fn *fn,
                            void *arg, int64_t *ret_changed, struct err *err) {
    struct sqlite *s = sqlite_of(sql);
    sqlite3_stmt *stmt;
    int rc = compile(s, text, 0, &stmt, err);
    if (rc) return rc;
    rc = run(s, stmt, text, values, count, fn, arg, ret_changed, err);
    sqlite3_finalize(stmt);
    return rc;
}

static int sqlite_exec_many(struct sql *sql, const char *text, const struct sql_value *values, size_t count,
                            size_t rows, struct err *err) {
    struct sqlite *s = sqlite_of(sql);
    sqlite3_stmt *stmt;
    int rc = prepare(s, text, &stmt, err);
    if (rc) return rc;
    for (size_t i = 0; i < rows && rc == 0; i++) {
        rc = bind_all(s, stmt, values + i * count, count, text, err);
        if (rc == 0) rc = step_all(s, stmt, text, NULL, NULL, err);
        sqlite3_reset(stmt);
    }
    sqlite3_clear_bindings(stmt);
    return rc;
}

static int64_t sqlite_row_int(const struct sql_row *row, int column) {
    return sqlite3_column_int64(stmt_of(row), column);
}

static bool sqlite_row_is_null(const struct sql_row *row, int column) {
    return sqlite3_column_type(stmt_of(row), column) == SQLITE_NULL;
}

static struct str sqlite_row_bytes(const struct sql_row *row, int column) {
    sqlite3_stmt *stmt = stmt_of(row);
    if (sqlite3_column_type(stmt, column) == SQLITE_NULL) return STR_NONE;
    const char *data = sqlite3_column_blob(stmt, column);
    return (struct str){data ? data : "", (size_t)sqlite3_column_bytes(stmt, column)};
}

// ---- transactions --------------------------------------------------------------------------------------------------------

static int script(struct sql *sql, const char *text, struct err *err) {
    struct sqlite *s = sqlite_of(sql);
    return sqlite3_exec(s->db, text, NULL, NULL, NULL) == SQLITE_OK ? 0 : fail(s, text, err);
}

static int64_t log_bytes(struct sqlite *s) {
    sqlite3_file *log = log_of(s);
    sqlite3_int64 bytes = 0;
    return log && log->pMethods->xFileSize(log, &bytes) == SQLITE_OK ? bytes : 0;
}

// The log begins anew only when nobody reads from it. With one look after the other that time might never come, and the log
// would grow without end: so the reader waits for it, once per LOG_STEP, since a writer that rests folds nothing.
static void make_way(struct sqlite *s) {
    if (log_bytes(s) < s->log_patience) return;
    int64_t end_ns = clock_mono_ns() + MAKE_WAY_NS;
    while (log_bytes(s) >= LOG_MAX && clock_mono_ns() < end_ns) usleep(1000);
    int64_t left = log_bytes(s);
    s->log_patience = left < LOG_MAX ? LOG_MAX : left + LOG_STEP;
}

static int sqlite_begin(struct sql *sql, struct err *err) {
    sql->failed = 0;
    if (sql->read_ms) make_way(sqlite_of(sql));
    return sqlite_exec(sql, sql->read_ms ? "BEGIN" : "BEGIN IMMEDIATE", NULL, 0, NULL, NULL, NULL, err);
}

static int sqlite_commit(struct sql *sql, struct err *err) {
    return sqlite_exec(sql, "COMMIT", NULL, 0, NULL, NULL, NULL, err);
}

// On a full disk the log may hold space that is only freed when it is folded into the file; without this the store
// might never come back although rows were deleted.
static void make_space(struct sqlite *s) {
    int64_t now = clock_mono_ns();
    if (s->space_tried_ns && now - s->space_tried_ns < SPACE_TRY_NS) return;
    s->space_tried_ns = now;
    sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
}

static void sqlite_rollback(struct sql *sql) {
    struct sqlite *s = sqlite_of(sql);
    bool full = sql->failed == ERR_FULL;
    // A failed commit or a full disk may have rolled back already.
    if (!sqlite3_get_autocommit(s->db)) sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    if (full) make_space(s);
}

static bool sqlite_is_broken(const struct sql *sql) {
    return ((const struct sqlite *)(const void *)sql)->broken;
}

static bool sqlite_collided(const struct sql *sql) {
    (void)sql; // the only writer
    return false;
}

// ---- open and close ------------------------------------------------------------------------------------------------------

static void sqlite_close(struct sql *sql) {
    if (!sql) return;
    struct sqlite *s = sqlite_of(sql);
    for (size_t i = 0; i < STATEMENTS_MAX; i++) sqlite3_finalize(s->statements[i].stmt);
    if (s->db) MUST(sqlite3_close(s->db) == SQLITE_OK);
    if (s->lock_fd >= 0) close(s->lock_fd); // lets go of the lock; the file stays, removing it would race
    free(s);
}

static void read_owner(int fd, char *out, size_t bytes) {
    ssize_t n = pread(fd, out, bytes - 1, 0);
    out[n > 0 ? n : 0] = 0;
    out[strcspn(out, "\n")] = 0;
}

static int take_lock(struct sqlite *s, const char *path, struct err *err) {
    cleanup_free char *lock_path = mem_printf("%s.lock", path);
    s->lock_fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0) {
        int e = errno;
        enum err_code code = e == ENOSPC || e == EDQUOT ? ERR_FULL : ERR_INVALID;
        return err_set_errno(err, code, e, "cannot open %s", lock_path);
    }
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        char owner[32];
        read_owner(s->lock_fd, owner, sizeof owner);
        return err_set(err, ERR_CONFLICT, "%s is in use by another server (process %s): stop it, or use another file",
                       path, owner[0] ? owner : "unknown");
    }
    cleanup_free char *pid = mem_printf("%ld\n", (long)getpid());
    // Only for the message above: a full disk is no reason to stay closed.
    if (ftruncate(s->lock_fd, 0) < 0 || pwrite(s->lock_fd, pid, strlen(pid), 0) < 0) return 0;
    return 0;
}

static int migrate(struct sqlite *s, struct err *err) {
    s->base.failed = 0;
    int rc = script(&s->base, "BEGIN EXCLUSIVE", err);
    if (rc) return rc;
    rc = migrate_run(&s->base, migrations_sqlite, script, err);
    if (rc == 0) rc = sqlite_commit(&s->base, err);
    if (rc) sqlite_rollback(&s->base);
    return rc;
}

// page_size has a say only before the first table is made. 8 KiB pages and a log of about 32 MiB measured best for the
// embedded queue. The cache grows with use only.
static const char writer_settings[] = "PRAGMA page_size = 8192;"
                               "PRAGMA journal_mode = WAL;"
                               "PRAGMA synchronous = FULL;"
                               "PRAGMA foreign_keys = ON;"
                               "PRAGMA wal_autocheckpoint = 4000;"
                               "PRAGMA journal_size_limit = 67108864;"
                               "PRAGMA cache_size = -16384;"
                               "PRAGMA temp_store = MEMORY;";
// What a reader sorts and does not fit into the cache goes to a file: it may look at millions of rows.
static const char reader_settings[] = "PRAGMA query_only = ON;"
                                      "PRAGMA cache_size = -16384;"
                                      "PRAGMA temp_store = FILE;";

static int stop_when_late(void *arg) {
    return clock_mono_ns() >= ((const struct sql *)arg)->deadline_ns;
}

static int open_file(struct sqlite *s, const char *path, struct err *err) {
    bool reader = s->base.read_ms > 0;
    int rc = reader ? 0 : take_lock(s, path, err);
    if (rc) return rc;
    int flags = reader ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    if (sqlite3_open_v2(path, &s->db, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        return err_set(err, is_out_of_space(s, SQLITE_CANTOPEN) ? ERR_FULL : ERR_INVALID, "cannot open %s: %s", path,
                       s->db ? sqlite3_errmsg(s->db) : "no memory");
    sqlite3_extended_result_codes(s->db, 1);
    sqlite3_busy_timeout(s->db, BUSY_TIMEOUT_MS);
    rc = script(&s->base, reader ? reader_settings : writer_settings, err);
    if (rc || !reader) return rc ? rc : migrate(s, err);
    sqlite3_progress_handler(s->db, LOOK_AT_CLOCK, stop_when_late, &s->base);
    return 0;
}

static int sqlite_open(const char *url, int64_t read_ms, struct sql **ret, struct err *err) {
    const char *path = url + strlen("sqlite:");
    if (!path[0] || path[0] == ':') return err_set(err, ERR_INVALID, "\"%s\" names no file", url);
    struct sqlite *s = mem_zalloc(sizeof *s);
    s->base = (struct sql){.ops = &store_sqlite_ops, .read_ms = read_ms};
    s->lock_fd = -1;
    s->log_patience = LOG_MAX;
    int rc = open_file(s, path, err);
    if (rc) {
        sqlite_close(&s->base);
        return rc;
    }
    *ret = &s->base;
    return 0;
}

const struct store_ops store_sqlite_ops = {
    .scheme = "sqlite",
    .shared = false,
    .open = sqlite_open,
    .close = sqlite_close,
    .begin = sqlite_begin,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .is_broken = sqlite_is_broken,
    .collided = sqlite_collided,
    .exec = sqlite_exec,
    .exec_once = sqlite_exec_once,
    .exec_many = sqlite_exec_many,
    .row_int = sqlite_row_int,
    .row_bytes = sqlite_row_bytes,
    .row_is_null = sqlite_row_is_null,
};
