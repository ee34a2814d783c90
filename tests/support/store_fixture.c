// SPDX-License-Identifier: Apache-2.0
#include "tests/support/store_fixture.h"

static unsigned places;

static int call_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct call *c = container_of(job, struct call, job);
    return c->fn(c->arg, sql, err);
}

static void call_done(struct store_job *job, int code, const struct err *err) {
    struct call *c = container_of(job, struct call, job);
    assert_false(c->done);
    c->done = true;
    c->code = code;
    c->place = places++;
    if (code) {
        assert_non_null(err);
        assert_int_equal(err->code, code);
        c->err = *err;
    }
}

void submit(struct store *s, struct call *c, call_fn *fn, void *arg) {
    *c = (struct call){.job = {.run = call_run, .done = call_done}, .fn = fn, .arg = arg};
    store_submit(s, &c->job);
}

int call(struct store_fixture *fx, call_fn *fn, void *arg) {
    struct call c;
    submit(fx->store, &c, fn, arg);
    assert_false(c.done); // never inside the call
    TURN_UNTIL(fx->loop, c.done);
    if (c.code) print_message("# %s\n", c.err.text);
    return c.code;
}

// ---- the table ---------------------------------------------------------------------------------------------------------

int make_table(void *arg, struct sql *sql, struct err *err) {
    (void)arg;
    int rc = sql_exec(sql, "DROP TABLE IF EXISTS things", NULL, 0, NULL, NULL, NULL, err);
    return rc ? rc : sql_exec(sql, "CREATE TABLE things (id BIGINT PRIMARY KEY, n BIGINT, s TEXT, b BYTEA)", NULL, 0, NULL,
                              NULL, NULL, err);
}

int insert_thing(struct sql *sql, int64_t id, int64_t n, struct err *err) {
    struct sql_value values[] = {SQL_I(id), SQL_I(n)};
    return sql_exec(sql, "INSERT INTO things (id, n) VALUES ($1, $2)", values, 2, NULL, NULL, NULL, err);
}

int insert_one(void *arg, struct sql *sql, struct err *err) {
    return insert_thing(sql, *(int64_t *)arg, 0, err);
}

int read_int(void *arg, const struct sql_row *row) {
    *(int64_t *)arg = sql_row_int(row, 0);
    return 0;
}

static int count_things(void *arg, struct sql *sql, struct err *err) {
    return sql_exec(sql, "SELECT count(*) FROM things", NULL, 0, read_int, arg, NULL, err);
}

int64_t thing_count(struct store_fixture *fx) {
    int64_t n = -1;
    assert_int_equal(call(fx, count_things, &n), 0);
    return n;
}

void open_store(struct store_fixture *fx) {
    struct err err = {0};
    if (store_open(fx->loop, fx->url, &fx->store, &err)) fail_msg("store_open: %s", err.text);
}

static int set_up(void **state) {
    struct store_fixture *fx = *state;
    if (!fx->postgres) {
        fx->dir = temp_dir_new();
        fx->url = mem_printf("sqlite:%s/weir.db", fx->dir);
    }
    fx->loop = loop_new();
    open_store(fx);
    assert_int_equal(call(fx, make_table, NULL), 0);
    return 0;
}

static int tear_down(void **state) {
    struct store_fixture *fx = *state;
    store_close(fx->store);
    fx->store = NULL;
    loop_free(fx->loop);
    if (fx->postgres) return 0;
    temp_dir_remove(fx->dir);
    free(fx->url);
    return 0;
}

// ---- all cases of one kind ----------------------------------------------------------------------------------------------

static int run_kind(struct store_fixture *fx, enum store_kind kind, const struct store_case *cases, size_t case_count) {
    const char *kind_name = kind == STORE_SQLITE ? "sqlite" : "postgres";
    struct CMUnitTest *tests = mem_array(case_count, sizeof *tests);
    char(*names)[128] = mem_array(case_count, sizeof *names);
    size_t count = 0;
    for (size_t i = 0; i < case_count; i++) {
        if (cases[i].kind != STORE_BOTH && cases[i].kind != kind) continue;
        MUST(text_format(names[count], sizeof names[count], "%s: %s", kind_name, cases[i].name) == 0);
        tests[count] = (struct CMUnitTest){names[count], cases[i].fn, set_up, tear_down, fx};
        count++;
    }
    int failed = _cmocka_run_group_tests(kind_name, tests, count, NULL, NULL);
    free(tests);
    free(names);
    return failed;
}

int store_run_cases(const struct store_case *cases, size_t count) {
    struct store_fixture sqlite = {0};
    int failed = run_kind(&sqlite, STORE_SQLITE, cases, count);
    const char *wanted = getenv("WEIR_TEST_POSTGRES_URL");
    if (!wanted || !*wanted) return failed;
    struct store_fixture postgres = {.postgres = true, .dir = temp_dir_new()};
    postgres.url = service_run("postgres", "start", postgres.dir);
    failed += run_kind(&postgres, STORE_POSTGRES, cases, count);
    free(service_run("postgres", "kill", postgres.dir));
    temp_dir_remove(postgres.dir);
    free(postgres.url);
    return failed;
}
