// SPDX-License-Identifier: Apache-2.0
// The contract of core/store.h over both databases: values, groups, order, closing. test_store_faults.c has what breaks.
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/store_fixture.h"

// ---- values ------------------------------------------------------------------------------------------------------------

struct thing {
    int64_t n;
    struct str s, b;
    bool no_n, no_s, no_b;
};

static struct sql_value or_null(bool none, struct sql_value v) {
    return none ? SQL_NONE : v;
}

static int put_thing(void *arg, struct sql *sql, struct err *err) {
    const struct thing *t = arg;
    struct sql_value values[] = {or_null(t->no_n, SQL_I(t->n)), or_null(t->no_s, SQL_T(t->s)),
                                 or_null(t->no_b, SQL_B(t->b))};
    return sql_exec(sql, "INSERT INTO things (id, n, s, b) VALUES (1, $1, $2, $3)", values, 3, NULL, NULL, NULL, err);
}

static int compare_thing(void *arg, const struct sql_row *row) {
    const struct thing *t = arg;
    struct str s = sql_row_bytes(row, 1), b = sql_row_bytes(row, 2);
    bool same = sql_row_is_null(row, 0) == t->no_n && sql_row_is_null(row, 1) == t->no_s &&
                sql_row_is_null(row, 2) == t->no_b && sql_row_int(row, 0) == (t->no_n ? 0 : t->n) &&
                (t->no_s ? !s.data : s.data && str_eq(s, t->s)) && (t->no_b ? !b.data : b.data && str_eq(b, t->b));
    return same ? 0 : ERR_CORRUPT;
}

static int take_thing(void *arg, struct sql *sql, struct err *err) {
    int64_t changed = 0;
    int rc = sql_exec(sql, "SELECT n, s, b FROM things WHERE id = 1", NULL, 0, compare_thing, arg, NULL, err);
    if (rc == 0) rc = sql_exec(sql, "DELETE FROM things WHERE id = 1", NULL, 0, NULL, NULL, &changed, err);
    return rc ? rc : changed == 1 ? 0 : ERR_NOT_FOUND;
}

static void test_values(void **state) {
    struct store_fixture *fx = *state;
    size_t big = 6 * 1024 * 1024;
    char *bytes = mem_alloc(big);
    for (size_t i = 0; i < big; i++) bytes[i] = (char)(i * 2654435761u >> 13);
    struct thing things[] = {
        {.no_n = true, .no_s = true, .no_b = true},
        {.n = 0, .s = STR_NONE, .b = STR_NONE}, // empty, which is not NULL
        {.n = INT64_MAX, .s = STR_LIT("h\xc3\xa9 \xf0\x9f\x8c\x8a '\"\\;--"), .b = STR_LIT("\0\1\xff\0")},
        {.n = INT64_MIN, .s = STR_LIT(" "), .b = {bytes, big}},
        {.n = -1, .s = STR_LIT("x"), .b = STR_LIT("\\x00")},
    };
    for (size_t i = 0; i < array_len(things); i++) {
        assert_int_equal(call(fx, put_thing, &things[i]), 0);
        assert_int_equal(call(fx, take_thing, &things[i]), 0);
    }
    free(bytes);
}

static int run_sql(void *arg, struct sql *sql, struct err *err) {
    return sql_exec_once(sql, *(const char **)arg, NULL, 0, NULL, NULL, NULL, err);
}

static int sums(void *arg, struct sql *sql, struct err *err) {
    int64_t *got = arg;
    int rc = insert_thing(sql, 1, 9000000000, err);
    if (rc == 0) rc = insert_thing(sql, 2, -10000, err);
    if (rc == 0) rc = sql_exec(sql, "SELECT sum(n) FROM things", NULL, 0, read_int, &got[0], NULL, err);
    if (rc == 0) rc = sql_exec(sql, "SELECT sum(n) FROM things WHERE id = 2", NULL, 0, read_int, &got[1], NULL, err);
    if (rc == 0) rc = sql_exec(sql, "SELECT max(id) FROM things WHERE id > 2", NULL, 0, read_int, &got[2], NULL, err);
    return rc;
}

static void test_sums(void **state) {
    int64_t got[3] = {1, 1, 1};
    assert_int_equal(call(*state, sums, got), 0);
    assert_int_equal(got[0], 8999990000);
    assert_int_equal(got[1], -10000);
    assert_int_equal(got[2], 0); // NULL
}

static int count_to_two(void *arg, const struct sql_row *row) {
    (void)row;
    int *n = arg;
    return ++*n == 2 ? ERR_BUSY : 0;
}

struct counts {
    int64_t updated, returned, upserted;
    int rows;
};

static int count_changes(void *arg, struct sql *sql, struct err *err) {
    struct counts *c = arg;
    *c = (struct counts){0};
    for (int64_t i = 0; i < 5; i++)
        if (insert_thing(sql, i, i, err)) return ERR_INTERNAL;
    struct sql_value v[] = {SQL_I(3), SQL_I(77)};
    int rc = sql_exec(sql, "UPDATE things SET n = n + 1 WHERE id < $1", v, 1, NULL, NULL, &c->updated, err);
    if (rc == 0)
        rc = sql_exec(sql, "INSERT INTO things (id, n) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET n = excluded.n RETURNING n",
                      v, 2, read_int, &c->returned, &c->upserted, err);
    if (rc) return rc;
    // A callback that stops is no failure: the job goes on.
    rc = sql_exec(sql, "SELECT id FROM things ORDER BY id", NULL, 0, count_to_two, &c->rows, NULL, err);
    return rc == ERR_BUSY ? insert_thing(sql, 10, 0, err) : ERR_INTERNAL;
}

static void test_changes(void **state) {
    struct counts c;
    assert_int_equal(call(*state, count_changes, &c), 0);
    assert_int_equal(c.updated, 3);
    assert_int_equal(c.returned, 77);
    assert_int_equal(c.upserted, 1);
    assert_int_equal(c.rows, 2);
    assert_int_equal(thing_count(*state), 6);
}

// ---- texts for one call ------------------------------------------------------------------------------------------------

typedef int exec_fn(struct sql *sql, const char *text, const struct sql_value *values, size_t count, sql_row_fn *fn, void *arg,
                    int64_t *ret_changed, struct err *err);

// Runs a text that is gone afterwards.
static int exec_gone(struct sql *sql, const char *text, const struct sql_value *values, size_t count, sql_row_fn *fn, void *arg,
                     int64_t *ret_changed, struct err *err) {
    cleanup_free char *copy = mem_strdup(text);
    int rc = sql_exec_once(sql, copy, values, count, fn, arg, ret_changed, err);
    memset(copy, 'x', strlen(text));
    return rc;
}

static int put_thing_once(void *arg, struct sql *sql, struct err *err) {
    const struct thing *t = arg;
    struct sql_value values[] = {or_null(t->no_n, SQL_I(t->n)), or_null(t->no_s, SQL_T(t->s)), or_null(t->no_b, SQL_B(t->b))};
    int64_t changed = 0;
    int rc = exec_gone(sql, "INSERT INTO things (id, n, s, b) VALUES (1, $1, $2, $3)", values, 3, NULL, NULL, &changed, err);
    if (rc == 0) rc = exec_gone(sql, "SELECT n, s, b FROM things WHERE id = 1", NULL, 0, compare_thing, arg, NULL, err);
    return rc ? rc : changed == 1 ? 0 : ERR_NOT_FOUND;
}

static void test_once_values(void **state) {
    struct thing things[] = {
        {.no_n = true, .no_s = true, .no_b = true},
        {.n = 0, .s = STR_NONE, .b = STR_NONE},
        {.n = INT64_MIN, .s = STR_LIT("h\xc3\xa9 \xf0\x9f\x8c\x8a '\"\\;--"), .b = STR_LIT("\0\1\xff\\x00")},
    };
    for (size_t i = 0; i < array_len(things); i++) {
        assert_int_equal(call(*state, put_thing_once, &things[i]), 0);
        assert_int_equal(call(*state, take_thing, &things[i]), 0);
    }
}

// More texts than a cache holds, all at one address.
static int run_many_texts(void *arg, struct sql *sql, struct err *err) {
    char text[64];
    for (int64_t i = 0; i < 2000; i++) {
        int64_t got = -1;
        struct sql_value v = SQL_I(i);
        if (text_format(text, sizeof text, "SELECT %d + CAST($1 AS BIGINT)", (int)i)) return ERR_INTERNAL;
        int rc = sql_exec_once(sql, text, &v, 1, read_int, &got, NULL, err);
        if (rc) return rc;
        if (got != 2 * i) return err_set(err, ERR_CORRUPT, "%d: %d", (int)i, (int)got);
    }
    return insert_one(arg, sql, err);
}

static void test_once_many_texts(void **state) {
    assert_int_equal(call(*state, run_many_texts, &(int64_t){1}), 0);
    assert_int_equal(thing_count(*state), 1);
}

static int find_hostile(void *arg, struct sql *sql, struct err *err) {
    const struct sql_value v = SQL_Z(*(const char **)arg), again[] = {v, SQL_I(0)};
    int64_t found = 0;
    int rc = exec_gone(sql, "INSERT INTO things (id, s) SELECT count(*), $1 FROM things", &v, 1, NULL, NULL, NULL, err);
    if (rc == 0) rc = exec_gone(sql, "SELECT count(*) FROM things WHERE s = $1 AND id >= $2", again, 2, read_int, &found, NULL, err);
    return rc ? rc : found == 1 ? 0 : err_set(err, ERR_CORRUPT, "%d found", (int)found);
}

static void test_once_hostile_text(void **state) {
    static const char *texts[] = {"'; DROP TABLE things; --", "' OR '1'='1", "$1", "$2", "?", ":s", "\\'; DELETE FROM things; --", "%_", "\\x27",
                                  "E'\\''", "/* */", "\xe2\x80\xa8\xef\xbc\x87"};
    for (size_t i = 0; i < array_len(texts); i++) assert_int_equal(call(*state, find_hostile, &texts[i]), 0);
    assert_int_equal(thing_count(*state), array_len(texts));
}

struct counted {
    exec_fn *exec;
    size_t count;
};

static int insert_counted(void *arg, struct sql *sql, struct err *err) {
    const struct counted *c = arg;
    struct sql_value values[] = {SQL_I(1), SQL_I(2), SQL_I(3)};
    return c->exec(sql, "INSERT INTO things (id, n) VALUES ($1, $2)", values, c->count, NULL, NULL, NULL, err);
}

static int exec_as_many(struct sql *sql, const char *text, const struct sql_value *values, size_t count, sql_row_fn *fn, void *arg,
                        int64_t *ret_changed, struct err *err) {
    (void)fn, (void)arg, (void)ret_changed;
    return sql_exec_many(sql, text, values, count, 1, err);
}

static void test_wrong_counts(void **state) {
    struct store_fixture *fx = *state;
    exec_fn *const all[] = {sql_exec, sql_exec_once, exec_as_many};
    for (size_t i = 0; i < array_len(all); i++) {
        for (size_t count = 0; count <= 3; count++)
            if (count != 2) assert_int_equal(call(fx, insert_counted, &(struct counted){all[i], count}), ERR_INTERNAL);
        assert_true(store_is_up(fx->store));
        assert_int_equal(thing_count(fx), i);
        assert_int_equal(call(fx, insert_counted, &(struct counted){all[i], 2}), 0);
        assert_int_equal(call(fx, run_sql, &(const char *){"UPDATE things SET id = id + 100"}), 0);
    }
}

static int count_parameters(void *arg, struct sql *sql, struct err *err) {
    int count = *(int *)arg;
    struct sql_value *values = mem_array((size_t)count, sizeof *values);
    char *text = mem_alloc((size_t)count * 24 + 64), *at = text + sprintf(text, "SELECT count(*) FROM (VALUES ");
    for (int i = 0; i < count; i++) {
        values[i] = SQL_I(i);
        at += sprintf(at, "%s(CAST($%d AS BIGINT))", i ? "," : "", i + 1);
    }
    sprintf(at, ") AS v");
    int64_t got = 0;
    int rc = sql_exec_once(sql, text, values, (size_t)count, read_int, &got, NULL, err);
    free(text);
    free(values);
    return rc ? rc : got == count ? 0 : ERR_CORRUPT;
}

static void test_once_many_parameters(void **state) {
    assert_int_equal(call(*state, count_parameters, &(int){SQL_PARAMETERS_MAX}), 0);
    assert_int_equal(call(*state, count_parameters, &(int){SQL_PARAMETERS_MAX + 1}), ERR_TOO_LARGE);
    assert_int_equal(call(*state, insert_one, &(int64_t){1}), 0);
}

static int once_fails_late(void *arg, struct sql *sql, struct err *err) {
    struct err hidden;
    int rc = insert_one(arg, sql, err);
    if (sql_exec_once(sql, "SELEKT 1", NULL, 0, NULL, NULL, NULL, &hidden) != ERR_INTERNAL) return ERR_CORRUPT;
    return rc;
}

static void test_once_dooms_its_job(void **state) {
    struct store_fixture *fx = *state;
    struct call good[2], bad;
    submit(fx->store, &good[0], insert_one, &(int64_t){1});
    submit(fx->store, &bad, once_fails_late, &(int64_t){2});
    submit(fx->store, &good[1], insert_one, &(int64_t){3});
    TURN_UNTIL(fx->loop, good[1].done);
    assert_int_equal(good[0].code, 0);
    assert_int_equal(bad.code, ERR_INTERNAL);
    assert_int_equal(good[1].code, 0);
    assert_int_equal(thing_count(fx), 2);
}

// ---- PostgreSQL's JSONB ------------------------------------------------------------------------------------------------

static int put_documents(void *arg, struct sql *sql, struct err *err) {
    const struct sql_value *v = arg; // four documents
    const struct sql_value rows[] = {SQL_I(2), v[1], SQL_I(3), v[2]};
    int rc = sql_exec(sql, "INSERT INTO documents (id, doc) VALUES (1, $1)", v, 1, NULL, NULL, NULL, err);
    if (rc == 0) rc = sql_exec_many(sql, "INSERT INTO documents (id, doc) VALUES ($1, $2)", rows, 2, 2, err);
    if (rc == 0) rc = sql_exec_once(sql, "INSERT INTO documents (id, doc) VALUES (4, $1)", &v[3], 1, NULL, NULL, NULL, err);
    return rc;
}

static int compare_document(void *arg, const struct sql_row *row) {
    const struct str *expected = arg;
    int64_t id = sql_row_int(row, 0);
    for (int column = 1; column <= 2; column++)
        if (!str_eq(sql_row_bytes(row, column), expected[id - 1])) return ERR_CORRUPT;
    return sql_row_is_null(row, 1) == !expected[id - 1].data ? 0 : ERR_CORRUPT;
}

static int compare_documents(void *arg, struct sql *sql, struct err *err) {
    return sql_exec(sql, "SELECT id, doc, CAST(doc AS TEXT) FROM documents", NULL, 0, compare_document, arg, NULL, err);
}

static void test_jsonb(void **state) {
    struct store_fixture *fx = *state;
    assert_int_equal(call(fx, run_sql, &(const char *){"CREATE TABLE documents (id BIGINT PRIMARY KEY, doc JSONB)"}), 0);
    struct sql_value good[] = {SQL_Z("{\"a\":[1,2.50]}"), SQL_Z("\"h\xc3\xa9 \\\\ \\\"\""), SQL_NONE, SQL_Z("12345678901234567890.123")};
    struct str expected[] = {STR_LIT("{\"a\": [1, 2.50]}"), STR_LIT("\"h\xc3\xa9 \\\\ \\\"\""), STR_NONE,
                             STR_LIT("12345678901234567890.123")};
    static const char *const bad[] = {"", "{", "{\"a\":1}}", "\"\\u0000\"", "\xff", "\1{}"};
    for (size_t at = 0; at < array_len(good); at++) {
        for (size_t i = 0; i < array_len(bad); i++) {
            struct sql_value values[array_len(good)];
            memcpy(values, good, sizeof values);
            values[at] = SQL_Z(bad[i]);
            struct call broken, whole;
            submit(fx->store, &broken, put_documents, values);
            submit(fx->store, &whole, insert_one, &(int64_t){(int64_t)(at * 100 + i)});
            TURN_UNTIL(fx->loop, whole.done);
            assert_int_equal(broken.code, ERR_INVALID);
            assert_int_equal(whole.code, 0);
        }
    }
    assert_int_equal(call(fx, put_documents, good), 0);
    assert_int_equal(call(fx, compare_documents, expected), 0);
    assert_int_equal(call(fx, run_sql, &(const char *){"DROP TABLE documents"}), 0);
}

static int put_nul(void *arg, struct sql *sql, struct err *err) {
    const struct sql_value rows[] = {SQL_I(1), SQL_Z("fine"), SQL_I(2), SQL_T(STR_LIT("cut\0here"))};
    const char *text = "INSERT INTO things (id, s) VALUES ($1, $2)";
    switch (*(int *)arg) {
    case 0: return sql_exec(sql, "INSERT INTO things (id, s) VALUES ($1, $2)", rows + 2, 2, NULL, NULL, NULL, err);
    case 1: return sql_exec_many(sql, "INSERT INTO things (id, s) VALUES ($1, $2)", rows, 2, 2, err);
    case 2: return sql_exec_arrays(sql, "INSERT INTO things (id, s) SELECT unnest($1::bigint[]), unnest($2::text[])", rows, 2, 2, err);
    default: return sql_exec_once(sql, text, rows + 2, 2, NULL, NULL, NULL, err);
    }
}

static void test_nul_in_text(void **state) {
    struct store_fixture *fx = *state;
    for (int how = 0; how < 4; how++)
        if (how != 2 || fx->postgres) assert_int_equal(call(fx, put_nul, &how), ERR_INVALID);
    assert_int_equal(thing_count(*state), 0);
}

// ---- many --------------------------------------------------------------------------------------------------------------

#define MANY 30000

struct many {
    size_t rows, twice; // row `twice` has the id of the one before; 0: none has
};

static int insert_many(void *arg, struct sql *sql, struct err *err) {
    const struct many *m = arg;
    struct sql_value *values = mem_array(m->rows * 3, sizeof *values);
    for (size_t i = 0; i < m->rows; i++) {
        values[3 * i] = SQL_I(m->twice && i == m->twice ? i - 1 : i);
        values[3 * i + 1] = i % 2 ? SQL_NONE : SQL_I(i);
        values[3 * i + 2] = SQL_B(STR_LIT("sixty-four bytes of payload, or about that, as a letter has them"));
    }
    int rc = sql_exec_many(sql, "INSERT INTO things (id, n, b) VALUES ($1, $2, $3)", values, 3, m->rows, err);
    free(values);
    return rc;
}

static void test_many(void **state) {
    struct store_fixture *fx = *state;
    assert_int_equal(call(fx, insert_many, &(struct many){.rows = 1000, .twice = 700}), ERR_CONFLICT);
    assert_int_equal(thing_count(fx), 0);
    assert_int_equal(call(fx, insert_many, &(struct many){.rows = 0}), 0);
    int64_t start_ns = clock_mono_ns();
    assert_int_equal(call(fx, insert_many, &(struct many){.rows = MANY}), 0);
    print_message("# %.0f rows a second\n", MANY / ((double)(clock_mono_ns() - start_ns) / 1e9));
    assert_int_equal(thing_count(fx), MANY);
}

static int big_many(void *arg, struct sql *sql, struct err *err) {
    char *bytes = mem_zalloc(1024 * 1024);
    struct sql_value values[40];
    for (int i = 0; i < 20; i++) {
        values[2 * i] = SQL_I(i);
        values[2 * i + 1] = SQL_B(((struct str){bytes, 1024 * 1024}));
    }
    (void)arg;
    int rc = sql_exec_many(sql, "INSERT INTO things (id, b) VALUES ($1, $2)", values, 2, 20, err);
    free(bytes);
    return rc;
}

static void test_big_many(void **state) {
    assert_int_equal(call(*state, big_many, NULL), 0);
    assert_int_equal(thing_count(*state), 20);
}

// ---- arrays ------------------------------------------------------------------------------------------------------------

#define INSERT_ARRAYS                                                                             \
    "INSERT INTO things (id, n, s, b) SELECT unnest($1::bigint[]), unnest($2::bigint[]),"        \
    " unnest($3::text[]), unnest($4::bytea[]) ON CONFLICT (id) DO UPDATE SET n = excluded.n"

// Rows that a text form would have to quote, and NULLs at either end.
#define ODD_ROWS 5
static void fill_odd(struct sql_value (*to)[4]) {
    const struct sql_value rows[ODD_ROWS][4] = {
        {SQL_I(1), SQL_NONE, SQL_T(STR_LIT("{\"a\",b}")), SQL_B(STR_LIT("\0\\\xff"))},
        {SQL_I(2), SQL_I(INT64_MIN), SQL_T(STR_LIT("NULL")), SQL_B(STR_LIT(""))},
        {SQL_I(3), SQL_I(INT64_MAX), SQL_NONE, SQL_NONE},
        {SQL_I(4), SQL_I(-1), SQL_T(STR_LIT("")), SQL_NONE},
        {SQL_I(INT64_MAX), SQL_NONE, SQL_T(STR_LIT("\\ é, '")), SQL_NONE},
    };
    memcpy(to, rows, sizeof rows);
}

static int insert_arrays(void *arg, struct sql *sql, struct err *err) {
    struct sql_value rows[ODD_ROWS][4];
    fill_odd(rows);
    return sql_exec_arrays(sql, INSERT_ARRAYS, rows[0], 4, *(size_t *)arg, err);
}

static void assert_same(const struct sql_value *want, const struct sql_row *row, int column) {
    assert_int_equal(sql_row_is_null(row, column), want->type == SQL_NULL);
    if (want->type == SQL_INT) assert_int_equal(sql_row_int(row, column), want->number);
    else assert_true(str_eq(sql_row_bytes(row, column), want->bytes));
}

static int compare_odd(void *arg, const struct sql_row *row) {
    size_t *at = arg;
    struct sql_value rows[ODD_ROWS][4];
    fill_odd(rows);
    for (int i = 0; i < 4; i++) assert_same(&rows[*at][i], row, i);
    ++*at;
    return 0;
}

static int compare_arrays(void *arg, struct sql *sql, struct err *err) {
    return sql_exec(sql, "SELECT id, n, s, b FROM things ORDER BY id", NULL, 0, compare_odd, arg, NULL, err);
}

static void test_arrays(void **state) {
    struct store_fixture *fx = *state;
    for (size_t rows = 0; rows <= ODD_ROWS; rows++) {
        size_t seen = 0;
        assert_int_equal(call(fx, insert_arrays, &rows), 0);
        assert_int_equal(call(fx, compare_arrays, &seen), 0);
        assert_int_equal(seen, rows);
    }
}

static int insert_many_arrays(void *arg, struct sql *sql, struct err *err) {
    const struct many *m = arg;
    struct sql_value *values = mem_array(m->rows * 2, sizeof *values);
    size_t bytes = 6 * 1024 * 1024;
    char *big = mem_zalloc(bytes);
    for (size_t i = 0; i < m->rows; i++) {
        values[2 * i] = SQL_I(m->twice && i == m->twice ? i - 1 : i);
        values[2 * i + 1] = i % 400 == 7 ? SQL_B(((struct str){big, bytes})) : SQL_B(STR_LIT("small"));
    }
    int rc = sql_exec_arrays(sql, "INSERT INTO things (id, b) SELECT unnest($1::bigint[]), unnest($2::bytea[])", values, 2, m->rows, err);
    free(big);
    free(values);
    return rc;
}

static void test_many_arrays(void **state) {
    struct store_fixture *fx = *state;
    assert_int_equal(call(fx, insert_many_arrays, &(struct many){.rows = 1000, .twice = 700}), ERR_CONFLICT);
    assert_int_equal(thing_count(fx), 0);
    assert_int_equal(call(fx, insert_many_arrays, &(struct many){.rows = 1000}), 0);
    assert_int_equal(thing_count(fx), 1000);
}

// ---- the clock ---------------------------------------------------------------------------------------------------------

static int64_t wall_ahead_s; // of this process

int clock_gettime(clockid_t id, struct timespec *ts) {
    int rc = (int)syscall(SYS_clock_gettime, id, ts);
    if (id == CLOCK_REALTIME) ts->tv_sec += wall_ahead_s;
    return rc;
}

static int read_clock(void *arg, struct sql *sql, struct err *err) {
    return sql_unix_ms(sql, arg, err);
}

static int busy_while(void *arg, struct sql *sql, struct err *err) { // so long that the clock moves within a transaction
    int64_t *got = arg;
    int rc = sql_unix_ms(sql, &got[0], err);
    int64_t end_ns = clock_mono_ns() + 20 * NS_PER_MS;
    while (clock_mono_ns() < end_ns) {}
    return rc ? rc : sql_unix_ms(sql, &got[1], err);
}

static void test_clock(void **state) {
    struct store_fixture *fx = *state;
    int64_t right = clock_unix_ms(), got[2] = {0};
    wall_ahead_s = 3600;
    assert_int_equal(call(fx, read_clock, got), 0);
    wall_ahead_s = 0;
    assert_in_range(got[0] - (fx->postgres ? 0 : 3600000) - right + 1, 0, 60000);
    assert_int_equal(call(fx, busy_while, got), 0);
    assert_true(got[1] > got[0]);
}

// ---- groups ------------------------------------------------------------------------------------------------------------

#define GROUP 300

// Some of the group fail, on a constraint or by their own word; the others are there, and all are told in order.
static void test_bad_jobs(void **state) {
    struct store_fixture *fx = *state;
    static struct call calls[GROUP];
    static int64_t ids[GROUP];
    for (int i = 0; i < GROUP; i++) {
        ids[i] = i % 50 == 49 ? i - 1 : i;
        submit(fx->store, &calls[i], insert_one, &ids[i]);
    }
    TURN_UNTIL(fx->loop, calls[GROUP - 1].done);
    for (int i = 0; i < GROUP; i++) {
        assert_true(calls[i].done);
        assert_int_equal(calls[i].code, i % 50 == 49 ? ERR_CONFLICT : 0);
        if (i) assert_int_equal(calls[i].place, calls[i - 1].place + 1);
    }
    assert_int_equal(thing_count(fx), GROUP - GROUP / 50);
}

static int fail_late(void *arg, struct sql *sql, struct err *err) {
    int rc = insert_one(arg, sql, err);
    return rc ? rc : err_set(err, ERR_NOT_FOUND, "changed its mind");
}

static int hide_failure(void *arg, struct sql *sql, struct err *err) {
    struct err hidden;
    int64_t *id = arg;
    int rc = insert_thing(sql, *id, 0, err);
    if (rc == 0 && insert_thing(sql, *id, 0, &hidden) == 0) return ERR_INTERNAL;
    return rc;
}

static void test_job_fails_whole(void **state) {
    struct store_fixture *fx = *state;
    assert_int_equal(call(fx, fail_late, &(int64_t){1}), ERR_NOT_FOUND);
    assert_int_equal(call(fx, hide_failure, &(int64_t){2}), ERR_CONFLICT);
    assert_int_equal(thing_count(fx), 0);
}

static int broken_sql(void *arg, struct sql *sql, struct err *err) {
    (void)arg;
    return sql_exec(sql, "SELEKT 1", NULL, 0, NULL, NULL, NULL, err);
}

static int not_null(void *arg, struct sql *sql, struct err *err) {
    (void)arg;
    struct sql_value v = SQL_NONE;
    return sql_exec(sql, "INSERT INTO revision (number) VALUES ($1)", &v, 1, NULL, NULL, NULL, err);
}

static void test_error_codes(void **state) {
    assert_int_equal(call(*state, broken_sql, NULL), ERR_INTERNAL);
    assert_int_equal(call(*state, not_null, NULL), ERR_INVALID);
    assert_int_equal(call(*state, insert_one, &(int64_t){1}), 0);
}

static int read_last(void *arg, struct sql *sql, struct err *err) {
    return sql_exec(sql, "SELECT max(id) FROM things", NULL, 0, read_int, arg, NULL, err);
}

// A job sees what the jobs before it did, in its own group or an earlier one.
static void test_order(void **state) {
    struct store_fixture *fx = *state;
    static struct call writes[GROUP], reads[GROUP];
    static int64_t ids[GROUP], seen[GROUP];
    for (int i = 0; i < GROUP; i++) {
        ids[i] = i;
        submit(fx->store, &writes[i], insert_one, &ids[i]);
        submit(fx->store, &reads[i], read_last, &seen[i]);
    }
    TURN_UNTIL(fx->loop, reads[GROUP - 1].done);
    for (int i = 0; i < GROUP; i++) {
        assert_int_equal(reads[i].code, 0);
        assert_int_equal(seen[i], i);
        assert_int_equal(reads[i].place, writes[i].place + 1);
    }
}

static int wait_for_gate(void *arg, struct sql *sql, struct err *err) {
    (void)sql, (void)err;
    pthread_mutex_lock(arg);
    pthread_mutex_unlock(arg);
    return 0;
}

static int do_nothing(void *arg, struct sql *sql, struct err *err) {
    (void)arg, (void)sql, (void)err;
    return 0;
}

static void test_too_many(void **state) {
    struct store_fixture *fx = *state;
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&gate);
    struct call first, *calls = mem_array(2 * STORE_JOBS_MAX, sizeof *calls);
    submit(fx->store, &first, wait_for_gate, &gate);
    for (size_t i = 0; i < 2 * STORE_JOBS_MAX; i++) submit(fx->store, &calls[i], do_nothing, NULL);
    TURN_UNTIL(fx->loop, calls[2 * STORE_JOBS_MAX - 1].done);
    assert_int_equal(calls[2 * STORE_JOBS_MAX - 1].code, ERR_BUSY);
    pthread_mutex_unlock(&gate);
    size_t busy = 0;
    for (size_t i = 0; i < 2 * STORE_JOBS_MAX; i++) {
        TURN_UNTIL(fx->loop, calls[i].done);
        if (calls[i].code) busy++;
    }
    assert_in_range(busy, STORE_JOBS_MAX - 4097, STORE_JOBS_MAX);
    free(calls);
}

static void test_close_runs_all(void **state) {
    struct store_fixture *fx = *state;
    static struct call calls[GROUP];
    static int64_t ids[GROUP];
    for (int i = 0; i < GROUP; i++) {
        ids[i] = i;
        submit(fx->store, &calls[i], insert_one, &ids[i]);
    }
    store_close(fx->store);
    for (int i = 0; i < GROUP; i++) assert_true(calls[i].done && calls[i].code == 0);
    loop_turn(fx->loop, 0);
    open_store(fx);
    assert_int_equal(thing_count(fx), GROUP);
}

struct closer {
    struct store_job job;
    struct store_fixture *fx;
    bool closed;
};

static int closer_run(struct store_job *job, struct sql *sql, struct err *err) {
    (void)job, (void)sql, (void)err;
    return 0;
}

static void close_inside(struct store_job *job, int code, const struct err *err) {
    (void)err;
    struct closer *c = container_of(job, struct closer, job);
    assert_int_equal(code, 0);
    store_close(c->fx->store);
    c->closed = true;
}

static void test_close_inside_done(void **state) {
    struct store_fixture *fx = *state;
    static struct call after;
    struct closer c = {.job = {.run = closer_run, .done = close_inside}, .fx = fx};
    store_submit(fx->store, &c.job);
    submit(fx->store, &after, insert_one, &(int64_t){1});
    TURN_UNTIL(fx->loop, c.closed);
    assert_true(after.done);
    assert_int_equal(after.code, 0);
    open_store(fx);
    assert_int_equal(thing_count(fx), 1);
}

struct again {
    struct store_job job;
    struct store *store;
    int left;
    int code;
};

static void submit_again(struct store_job *job, int code, const struct err *err) {
    (void)err;
    struct again *a = container_of(job, struct again, job);
    a->code = code;
    if (a->left-- > 0) store_submit(a->store, &a->job);
}

static void test_what_is_submitted_while_it_closes_is_told(void **state) {
    struct store_fixture *fx = *state;
    struct again a = {.job = {.run = closer_run, .done = submit_again}, .store = fx->store, .left = 2};
    store_submit(fx->store, &a.job);
    store_close(fx->store);
    assert_int_equal(a.left, -1);
    assert_int_equal(a.code, ERR_UNAVAILABLE);
    open_store(fx);
}

// ---- all of them -------------------------------------------------------------------------------------------------------

int main(void) {
    static const struct store_case cases[] = {
        {"values", test_values, STORE_BOTH},
        {"arrays", test_arrays, STORE_POSTGRES},
        {"many_arrays", test_many_arrays, STORE_POSTGRES},
        {"what_is_submitted_while_it_closes_is_told", test_what_is_submitted_while_it_closes_is_told, STORE_BOTH},
        {"sums", test_sums, STORE_BOTH},
        {"changes", test_changes, STORE_BOTH},
        {"once_values", test_once_values, STORE_BOTH},
        {"once_many_texts", test_once_many_texts, STORE_BOTH},
        {"once_hostile_text", test_once_hostile_text, STORE_BOTH},
        {"once_many_parameters", test_once_many_parameters, STORE_BOTH},
        {"once_dooms_its_job", test_once_dooms_its_job, STORE_BOTH},
        {"wrong_counts", test_wrong_counts, STORE_BOTH},
        {"jsonb", test_jsonb, STORE_POSTGRES},
        {"nul_in_text", test_nul_in_text, STORE_POSTGRES},
        {"many", test_many, STORE_BOTH},
        {"big_many", test_big_many, STORE_BOTH},
        {"clock", test_clock, STORE_BOTH},
        {"bad_jobs", test_bad_jobs, STORE_BOTH},
        {"job_fails_whole", test_job_fails_whole, STORE_BOTH},
        {"error_codes", test_error_codes, STORE_BOTH},
        {"order", test_order, STORE_BOTH},
        {"too_many", test_too_many, STORE_BOTH},
        {"close_runs_all", test_close_runs_all, STORE_BOTH},
        {"close_inside_done", test_close_inside_done, STORE_BOTH},
    };
    return store_run_cases(cases, array_len(cases));
}
