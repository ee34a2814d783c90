// SPDX-License-Identifier: Apache-2.0
// The store on PostgreSQL. The only file that knows libpq.
//
// Invariants: the connection is non-blocking and every wait has an end, so that a server that is connected but silent
// counts as lost. Every statement but those of exec_once is prepared on its first use. Integers and texts go to the server in
// text form, because the type of a parameter is the server's to infer (BIGINT or NUMERIC, TEXT or JSONB); bytes go as they
// are; all results come in binary.
#include <errno.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <poll.h>

#include "core/base/clock.h"
#include "core/migrate.h"
#include "core/store.h"
#include "core/store_postgres_array.h"

#define STATEMENTS_MAX 256         // a power of two; more texts than that are a bug
#define SILENCE_MS 30000           // a server that says nothing for so long is lost; to a reader it may have nothing to say for read_ms
#define WRITER_STALLED_MS "20000"   // inside a transaction, between two statements: others wait for its locks; a large one takes long to send
#define READER_STALLED_MS "60000"   // it holds up only VACUUM and migrations
#define CHUNK_ROWS 256             // of exec_many, between two syncs
#define CHUNK_BYTES (4u * 1024 * 1024)
#define LOCK_KEY "5027917318435173" // of the advisory lock around migrations; any number that nobody else takes

enum oid { OID_BOOL = 16, OID_INT8 = 20, OID_INT2 = 21, OID_INT4 = 23, OID_NUMERIC = 1700, OID_JSONB = 3802 };

struct statement {
    const char *text;
    char name[16];
};

struct postgres {
    struct sql base;
    PGconn *conn;
    bool broken;   // for what PQstatus does not see: silence, a server that is shutting down
    bool collided;
    unsigned names;
    struct statement statements[STATEMENTS_MAX];
};

struct postgres_row {
    struct sql_row base;
    const PGresult *result;
    int number;
};

// The parameters of one execution as libpq wants them.
struct parameters {
    const char *values[SQL_PARAMETERS_MAX];
    int lengths[SQL_PARAMETERS_MAX];
    int formats[SQL_PARAMETERS_MAX];
};

static struct postgres *postgres_of(struct sql *sql) {
    return container_of(sql, struct postgres, base);
}

// ---- errors ------------------------------------------------------------------------------------------------------------

// PostgreSQL's manual, appendix A.
#define READ_ONLY "25006"
#define CANCELLED "57014"

// The longest matching prefix comes first.
static const struct {
    const char *prefix;
    enum err_code code;
} states[] = {
    {"23502", ERR_INVALID},     // not null
    {"23514", ERR_INVALID},     // check
    {"23", ERR_CONFLICT},       // unique, foreign key, exclusion
    {"22", ERR_INVALID},        // data
    {"53100", ERR_FULL},        // disk full
    {"53", ERR_UNAVAILABLE},    // out of memory, too many connections
    {"54", ERR_TOO_LARGE},      // program limit exceeded
    {"08P01", ERR_INTERNAL},    // wrong number of parameters
    {"08", ERR_UNAVAILABLE},    // connection
    {"57", ERR_UNAVAILABLE},    // shut down, starting up, cancelled
    {"58", ERR_UNAVAILABLE},    // system error
    {READ_ONLY, ERR_UNAVAILABLE}, // a standby
    {"40", ERR_UNAVAILABLE},    // serialization, deadlock, still so after all retries
    {"XX001", ERR_CORRUPT},
    {"XX002", ERR_CORRUPT},
};

static enum err_code code_of_state(const char *state) {
    for (size_t i = 0; i < array_len(states); i++)
        if (strncmp(state, states[i].prefix, strlen(states[i].prefix)) == 0) return states[i].code;
    return ERR_INTERNAL;
}

static int fail_with(struct postgres *p, enum err_code code) {
    if (!p->base.failed) p->base.failed = code;
    return code;
}

// libpq's messages end in a newline and may have several lines: the first says what happened.
static int first_line(const char *message) {
    return (int)strcspn(message, "\n");
}

static int fail_connection(struct postgres *p, struct err *err) {
    p->broken = true;
    const char *message = PQerrorMessage(p->conn);
    return fail_with(p, err_set(err, ERR_UNAVAILABLE, "PostgreSQL: %.*s", first_line(message), message));
}

static bool breaks_connection(const char *state) {
    return strncmp(state, "57P", 3) == 0 || strncmp(state, "08", 2) == 0 || strcmp(state, READ_ONLY) == 0;
}

static int fail_result(struct postgres *p, const PGresult *result, const char *text, struct err *err) {
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (!state || PQstatus(p->conn) == CONNECTION_BAD) return fail_connection(p, err);
    if (strcmp(state, "40001") == 0 || strcmp(state, "40P01") == 0) p->collided = true;
    if (p->base.read_ms && strcmp(state, CANCELLED) == 0) return sql_fail_late(&p->base, text, err);
    bool reader_writes = p->base.read_ms && strcmp(state, READ_ONLY) == 0;
    enum err_code code = reader_writes ? ERR_INTERNAL : code_of_state(state);
    if (code == ERR_UNAVAILABLE && breaks_connection(state)) p->broken = true;
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    return fail_with(p, err_set(err, code, "PostgreSQL %s: %s (%.60s)", state, message ? message : "?", text));
}

// ---- waiting -------------------------------------------------------------------------------------------------------------

static int wait_for(struct postgres *p, short events, struct err *err) {
    struct pollfd fd = {.fd = PQsocket(p->conn), .events = events};
    int64_t silence_ms = SILENCE_MS + p->base.read_ms;
    int64_t end_ns = clock_mono_ns() + silence_ms * NS_PER_MS;
    for (;;) {
        int64_t left_ms = (end_ns - clock_mono_ns()) / NS_PER_MS;
        int n = poll(&fd, 1, left_ms > 0 ? (int)left_ms : 0);
        if (n > 0) break;
        if (n < 0 && errno == EINTR) continue;
        p->broken = true;
        return fail_with(p, err_set(err, ERR_UNAVAILABLE, "PostgreSQL was silent for %d s", (int)(silence_ms / 1000)));
    }
    if ((fd.revents & ~POLLOUT) && !PQconsumeInput(p->conn)) return fail_connection(p, err);
    return 0;
}

// Sends what is queued; reads meanwhile, so that the server never waits for us while we wait for it.
static int flush(struct postgres *p, struct err *err) {
    for (;;) {
        int left = PQflush(p->conn);
        if (left == 0) return 0;
        if (left < 0) return fail_connection(p, err);
        int rc = wait_for(p, POLLIN | POLLOUT, err);
        if (rc) return rc;
    }
}

// The next result, or NULL at the end of a command.
static int next_result(struct postgres *p, PGresult **ret, struct err *err) {
    while (PQisBusy(p->conn)) {
        int rc = wait_for(p, POLLIN, err);
        if (rc) return rc;
    }
    *ret = PQgetResult(p->conn);
    return 0;
}

static bool is_good(const PGresult *result) {
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
}

// Reads a command to its end. *ret is its last good result (for the caller to clear), or NULL.
static int collect(struct postgres *p, const char *text, PGresult **ret, struct err *err) {
    PGresult *kept = NULL;
    int failed = 0;
    for (;;) {
        PGresult *result;
        int rc = next_result(p, &result, err);
        if (rc) {
            PQclear(kept);
            return rc;
        }
        if (!result) break;
        if (is_good(result)) {
            PQclear(kept);
            kept = result;
            continue;
        }
        if (!failed) failed = fail_result(p, result, text, err);
        PQclear(result);
    }
    if (failed) PQclear(kept);
    else *ret = kept;
    return failed;
}

static int finish(struct postgres *p, int sent, const char *text, PGresult **ret, struct err *err) {
    if (!sent) return fail_connection(p, err);
    int rc = flush(p, err);
    return rc ? rc : collect(p, text, ret, err);
}

static int script(struct sql *sql, const char *text, struct err *err) {
    struct postgres *p = postgres_of(sql);
    PGresult *result = NULL;
    int rc = finish(p, PQsendQuery(p->conn, text), text, &result, err);
    PQclear(result);
    return rc;
}

// ---- statements ----------------------------------------------------------------------------------------------------------

static struct statement *slot_of(struct postgres *p, const char *text) {
    size_t at = ((size_t)text >> 3) * UINT64_C(0x9E3779B97F4A7C15) >> 40;
    for (size_t i = 0; i < STATEMENTS_MAX; i++) {
        struct statement *slot = &p->statements[(at + i) % STATEMENTS_MAX];
        if (!slot->text || slot->text == text) return slot;
    }
    MUST(!"more SQL texts than the statement cache holds");
    return NULL;
}

static int prepare(struct postgres *p, const char *text, size_t count, const char **ret_name, struct err *err) {
    MUST(count <= SQL_PARAMETERS_MAX);
    struct statement *slot = slot_of(p, text);
    MUST(slot);
    if (!slot->text) {
        MUST(text_format(slot->name, sizeof slot->name, "weir%u", p->names++) == 0);
        PGresult *result = NULL;
        int rc = finish(p, PQsendPrepare(p->conn, slot->name, text, 0, NULL), text, &result, err);
        PQclear(result);
        if (rc) return rc;
        slot->text = text;
    }
    *ret_name = slot->name;
    return 0;
}

// libpq reads a text up to its NUL, so that one inside would cut it.
static int check_texts(struct postgres *p, const struct sql_value *values, size_t count, const char *text, struct err *err) {
    for (size_t i = 0; i < count; i++)
        if (values[i].type == SQL_TEXT && values[i].bytes.len && memchr(values[i].bytes.data, 0, values[i].bytes.len))
            return fail_with(p, err_set(err, ERR_INVALID, "a text with a NUL byte (%.60s)", text));
    return 0;
}

#define NUMBER_BYTES sizeof "-9223372036854775808"

// Returns what holds the texts and numbers, to be freed after sending.
static char *set_parameters(struct parameters *to, const struct sql_value *values, size_t count) {
    size_t bytes = 1;
    for (size_t i = 0; i < count; i++) bytes += values[i].type == SQL_TEXT ? values[i].bytes.len + 1 : NUMBER_BYTES;
    char *texts = mem_alloc(bytes), *at = texts;
    for (size_t i = 0; i < count; i++) {
        const struct sql_value *v = &values[i];
        to->formats[i] = v->type == SQL_BLOB;
        to->lengths[i] = (int)v->bytes.len;
        to->values[i] = at;
        switch (v->type) {
        case SQL_NULL: to->values[i] = NULL; break;
        case SQL_INT:
            MUST(text_format(at, NUMBER_BYTES, "%" PRId64, v->number) == 0);
            at += NUMBER_BYTES;
            break;
        case SQL_TEXT:
            if (v->bytes.len) memcpy(at, v->bytes.data, v->bytes.len);
            at += v->bytes.len;
            *at++ = 0;
            break;
        case SQL_BLOB: to->values[i] = v->bytes.data ? v->bytes.data : ""; break;
        }
    }
    return texts;
}

// name: NULL for a text that is not prepared.
static int send_execute(struct postgres *p, const char *name, const char *text, const struct sql_value *values, size_t count) {
    struct parameters to;
    cleanup_free char *texts = set_parameters(&to, values, count);
    return name ? PQsendQueryPrepared(p->conn, name, (int)count, to.values, to.lengths, to.formats, 1)
                : PQsendQueryParams(p->conn, text, (int)count, NULL, to.values, to.lengths, to.formats, 1);
}

// A reader's job has one deadline, the server's limit is for one statement.
static int limit_statement(struct postgres *p, struct err *err) {
    if (!p->base.read_ms) return 0;
    int64_t left_ms = (p->base.deadline_ns - clock_mono_ns()) / NS_PER_MS;
    char text[64]; // 0 would be no limit
    MUST(text_format(text, sizeof text, "SET LOCAL statement_timeout = %" PRId64, left_ms > 0 ? left_ms : 1) == 0);
    return script(&p->base, text, err);
}

static int each_row(const PGresult *result, sql_row_fn *fn, void *arg) {
    struct postgres_row row = {.base.ops = &store_postgres_ops, .result = result};
    int rows = PQntuples(result);
    for (row.number = 0; row.number < rows; row.number++) {
        int rc = fn(arg, &row.base);
        if (rc) return rc;
    }
    return 0;
}

static int64_t changed_rows(PGresult *result) {
    if (strncmp(PQcmdStatus(result), "SELECT", 6) == 0) return 0;
    return strtoll(PQcmdTuples(result), NULL, 10); // "" for a command without rows
}

static int execute(struct postgres *p, const char *name, const char *text, const struct sql_value *values, size_t count,
                   sql_row_fn *fn, void *arg, int64_t *ret_changed, struct err *err) {
    PGresult *result = NULL;
    int rc = check_texts(p, values, count, text, err);
    if (rc == 0) rc = limit_statement(p, err);
    if (rc == 0) rc = finish(p, send_execute(p, name, text, values, count), text, &result, err);
    if (rc || !result) return rc;
    if (ret_changed) *ret_changed = changed_rows(result);
    if (fn) rc = each_row(result, fn, arg);
    PQclear(result);
    return rc;
}

static int postgres_exec(struct sql *sql, const char *text, const struct sql_value *values, size_t count,
                         sql_row_fn *fn, void *arg, int64_t *ret_changed, struct err *err) {
    const char *name;
    int rc = prepare(postgres_of(sql), text, count, &name, err);
    return rc ? rc : execute(postgres_of(sql), name, text, values, count, fn, arg, ret_changed, err);
}

static int postgres_exec_once(struct sql *sql, const char *text, const struct sql_value *values, size_t count,
                              sql_row_fn *fn, void *arg, int64_t *ret_changed, struct err *err) {
    return execute(postgres_of(sql), NULL, text, values, count, fn, arg, ret_changed, err);
}

// ---- many ----------------------------------------------------------------------------------------------------------------

static size_t chunk_rows(const struct sql_value *values, size_t count, size_t rows) {
    size_t bytes = 0, n = 0;
    while (n < rows && n < CHUNK_ROWS && bytes < CHUNK_BYTES) {
        for (size_t i = 0; i < count; i++) bytes += values[n * count + i].bytes.len;
        n++;
    }
    return n;
}

// Reads up to the answer to the sync. Once a statement has failed, the server skips the others.
static int collect_chunk(struct postgres *p, const char *text, struct err *err) {
    int failed = 0;
    for (;;) {
        PGresult *result;
        int rc = next_result(p, &result, err);
        if (rc) return rc;
        if (!result) { // between two commands
            if (PQstatus(p->conn) == CONNECTION_BAD) return fail_connection(p, err);
            continue;
        }
        ExecStatusType status = PQresultStatus(result);
        if (!failed && !is_good(result) && status != PGRES_PIPELINE_SYNC && status != PGRES_PIPELINE_ABORTED)
            failed = fail_result(p, result, text, err);
        PQclear(result);
        if (status == PGRES_PIPELINE_SYNC) return failed;
        if (p->broken) return failed;
    }
}

static int run_chunk(struct postgres *p, const char *name, const char *text, const struct sql_value *values,
                     size_t count, size_t rows, struct err *err) {
    for (size_t i = 0; i < rows; i++)
        if (!send_execute(p, name, text, values + i * count, count)) return fail_connection(p, err);
    if (!PQpipelineSync(p->conn)) return fail_connection(p, err);
    int rc = flush(p, err);
    return rc ? rc : collect_chunk(p, text, err);
}

static int postgres_exec_many(struct sql *sql, const char *text, const struct sql_value *values, size_t count,
                              size_t rows, struct err *err) {
    struct postgres *p = postgres_of(sql);
    const char *name;
    int rc = check_texts(p, values, rows * count, text, err);
    if (rc == 0) rc = prepare(p, text, count, &name, err);
    if (rc == 0) rc = limit_statement(p, err);
    if (rc) return rc;
    if (!PQenterPipelineMode(p->conn)) return fail_connection(p, err);
    while (rows > 0 && rc == 0) {
        size_t n = chunk_rows(values, count, rows);
        rc = run_chunk(p, name, text, values, count, n, err);
        values += n * count;
        rows -= n;
    }
    if (!p->broken && !PQexitPipelineMode(p->conn)) return fail_connection(p, err);
    return rc;
}

static int run_arrays(struct postgres *p, const char *name, const char *text, const struct sql_value *values, size_t count,
                      size_t rows, struct err *err) {
    struct sql_value *arrays = mem_array(count, sizeof *arrays);
    struct buf *bytes = mem_array(count, sizeof *bytes);
    for (size_t i = 0; i < count; i++) {
        buf_init(&bytes[i], SIZE_MAX / 2);
        MUST(postgres_array_append(&bytes[i], values + i, count, rows) == 0);
        arrays[i] = buf_len(&bytes[i]) ? SQL_B(buf_str(&bytes[i])) : SQL_NONE;
    }
    int rc = execute(p, name, text, arrays, count, NULL, NULL, NULL, err);
    for (size_t i = 0; i < count; i++) buf_done(&bytes[i]);
    free(bytes);
    free(arrays);
    return rc;
}

static int postgres_exec_arrays(struct sql *sql, const char *text, const struct sql_value *values, size_t count, size_t rows,
                                struct err *err) {
    struct postgres *p = postgres_of(sql);
    const char *name;
    int rc = prepare(p, text, count, &name, err);
    for (size_t n; rows > 0 && rc == 0; values += n * count, rows -= n) {
        n = chunk_rows(values, count, rows);
        rc = run_arrays(p, name, text, values, count, n, err);
    }
    return rc;
}

// ---- rows ----------------------------------------------------------------------------------------------------------------

static const struct postgres_row *row_of(const struct sql_row *row) {
    return (const struct postgres_row *)(const void *)row; // base comes first
}

static uint64_t big_endian(const char *data, size_t bytes) {
    uint64_t n = 0;
    for (size_t i = 0; i < bytes; i++) n = n << 8 | (unsigned char)data[i];
    return n;
}

// sum() of a BIGINT is NUMERIC: groups of four decimal digits after count, weight, sign and scale, 16 bits each.
static int64_t numeric_value(const char *data, size_t bytes) {
    if (bytes < 8) return 0;
    int groups = (int)big_endian(data, 2), weight = (int16_t)big_endian(data + 2, 2);
    uint64_t n = 0;
    for (int i = 0; i <= weight; i++) {
        bool given = i < groups && (size_t)(8 + 2 * i + 2) <= bytes;
        n = n * 10000 + (given ? big_endian(data + 8 + 2 * i, 2) : 0);
    }
    return big_endian(data + 4, 2) == 0x4000 ? (int64_t)-n : (int64_t)n;
}

static bool postgres_row_is_null(const struct sql_row *row, int column) {
    const struct postgres_row *r = row_of(row);
    return PQgetisnull(r->result, r->number, column);
}

static struct str postgres_row_bytes(const struct sql_row *row, int column) {
    const struct postgres_row *r = row_of(row);
    if (PQgetisnull(r->result, r->number, column)) return STR_NONE;
    struct str s = {PQgetvalue(r->result, r->number, column), (size_t)PQgetlength(r->result, r->number, column)};
    if (PQftype(r->result, column) != OID_JSONB || !s.len) return s;
    return (struct str){s.data + 1, s.len - 1}; // behind the version of its format: text
}

static int64_t postgres_row_int(const struct sql_row *row, int column) {
    struct str s = postgres_row_bytes(row, column);
    if (!s.data) return 0;
    switch (PQftype(row_of(row)->result, column)) {
    case OID_BOOL: return s.data[0] != 0;
    case OID_INT2: return (int16_t)big_endian(s.data, 2);
    case OID_INT4: return (int32_t)big_endian(s.data, 4);
    case OID_INT8: return (int64_t)big_endian(s.data, 8);
    case OID_NUMERIC: return numeric_value(s.data, s.len);
    default: return strtoll(s.data, NULL, 10); // text; libpq puts a NUL behind every value
    }
}

// ---- transactions ----------------------------------------------------------------------------------------------------------

static int postgres_begin(struct sql *sql, struct err *err) {
    struct postgres *p = postgres_of(sql);
    sql->failed = 0;
    p->collided = false;
    return script(sql, sql->read_ms ? "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" : "BEGIN", err);
}

// A COMMIT in a failed transaction is answered with ROLLBACK, which is no error to libpq.
static int postgres_commit(struct sql *sql, struct err *err) {
    struct postgres *p = postgres_of(sql);
    PGresult *result = NULL;
    int rc = finish(p, PQsendQuery(p->conn, "COMMIT"), "COMMIT", &result, err);
    if (rc == 0 && (!result || strcmp(PQcmdStatus(result), "COMMIT") != 0))
        rc = fail_with(p, err_set(err, ERR_INTERNAL, "PostgreSQL rolled back instead of committing"));
    PQclear(result);
    return rc;
}

static void postgres_rollback(struct sql *sql) {
    struct postgres *p = postgres_of(sql);
    struct err err;
    // Should it fail, the connection is in a state that nobody knows.
    if (!p->broken && PQtransactionStatus(p->conn) != PQTRANS_IDLE && script(sql, "ROLLBACK", &err)) p->broken = true;
}

static bool postgres_is_broken(const struct sql *sql) {
    const struct postgres *p = (const struct postgres *)(const void *)sql;
    return p->broken || PQstatus(p->conn) == CONNECTION_BAD;
}

static bool postgres_collided(const struct sql *sql) {
    return ((const struct postgres *)(const void *)sql)->collided;
}

// ---- open and close ----------------------------------------------------------------------------------------------------------

static void postgres_close(struct sql *sql) {
    if (!sql) return;
    struct postgres *p = postgres_of(sql);
    PQfinish(p->conn);
    free(p);
}

static void ignore_notice(void *arg, const PGresult *result) {
    (void)arg, (void)result;
}

static int check_url(const char *url, struct err *err) {
    char *why = NULL;
    PQconninfoOption *options = PQconninfoParse(url, &why);
    int rc = 0;
    if (!options) rc = err_set(err, ERR_INVALID, "the store's URL: %.*s", why ? first_line(why) : 0, why ? why : "");
    PQconninfoFree(options);
    PQfreemem(why);
    return rc;
}

// The server ends the session of a process that stalls between two statements, and of a host that vanished. Of a process that stalls inside a
// pipeline it knows nothing: its locks stay until it goes on or dies.
#define LEAVING(stalled_ms)                                                                                          \
    "SET idle_in_transaction_session_timeout = " stalled_ms                                                          \
    "; SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 3; SET tcp_keepalives_count = 3"

// What stands before dbname is a default that the URL may change. The keepalives and tcp_user_timeout find a host that
// vanished, in about 20 s. Nothing goes by `options`: they are the URL's, and PgBouncer refuses those that it does not know.
static int connect_to(struct postgres *p, const char *url, struct err *err) {
    static const char *const keys[] = {"connect_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count",
                                       "tcp_user_timeout", "application_name", "dbname", "client_encoding", NULL};
    const char *values[] = {"3", "10", "3", "3", "15000", "weir", url, "UTF8", NULL};
    p->conn = PQconnectdbParams(keys, values, 1);
    MUST(p->conn); // NULL means no memory
    if (PQstatus(p->conn) != CONNECTION_OK) return fail_connection(p, err);
    PQsetNoticeReceiver(p->conn, ignore_notice, NULL);
    if (PQsetnonblocking(p->conn, 1) != 0) return fail_connection(p, err);
    return script(&p->base, p->base.read_ms ? LEAVING(READER_STALLED_MS) : LEAVING(WRITER_STALLED_MS), err);
}

static int migrate(struct postgres *p, struct err *err) {
    int rc = postgres_begin(&p->base, err);
    if (rc == 0) rc = script(&p->base, "SELECT pg_advisory_xact_lock(" LOCK_KEY ")", err);
    if (rc == 0) rc = migrate_run(&p->base, migrations_postgres, script, err);
    if (rc == 0) rc = postgres_commit(&p->base, err);
    if (rc) postgres_rollback(&p->base);
    return rc;
}

static int postgres_open(const char *url, int64_t read_ms, struct sql **ret, struct err *err) {
    int rc = check_url(url, err);
    if (rc) return rc;
    struct postgres *p = mem_zalloc(sizeof *p);
    p->base = (struct sql){.ops = &store_postgres_ops, .read_ms = read_ms};
    rc = connect_to(p, url, err);
    if (rc == 0 && !read_ms) rc = migrate(p, err);
    if (rc) {
        postgres_close(&p->base);
        return rc;
    }
    *ret = &p->base;
    return 0;
}

const struct store_ops store_postgres_ops = {
    .scheme = "postgresql",
    .shared = true,
    .open = postgres_open,
    .close = postgres_close,
    .begin = postgres_begin,
    .commit = postgres_commit,
    .rollback = postgres_rollback,
    .is_broken = postgres_is_broken,
    .collided = postgres_collided,
    .exec = postgres_exec,
    .exec_once = postgres_exec_once,
    .exec_many = postgres_exec_many,
    .exec_arrays = postgres_exec_arrays,
    .row_int = postgres_row_int,
    .row_bytes = postgres_row_bytes,
    .row_is_null = postgres_row_is_null,
};
