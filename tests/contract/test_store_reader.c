// SPDX-License-Identifier: Apache-2.0
// The contract of store_open_reader over both databases: what it sees, that it cannot write, its time limit, closing, and
// the server that dies.
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/store_fixture.h"

#define LONG_MS 60000
#define SHORT_MS 300

static struct store *open_reader(struct store_fixture *fx, int64_t read_ms) {
    struct store *reader = NULL;
    struct err err = {0};
    if (store_open_reader(fx->loop, fx->url, read_ms, &reader, &err)) fail_msg("store_open_reader: %s", err.text);
    return reader;
}

static int call_on(struct store_fixture *fx, struct store *s, call_fn *fn, void *arg) {
    struct call c;
    submit(s, &c, fn, arg);
    TURN_UNTIL(fx->loop, c.done);
    if (c.code) print_message("# %s\n", c.err.text);
    return c.code;
}

static int count_rows(void *arg, struct sql *sql, struct err *err) {
    return sql_exec(sql, "SELECT count(*) FROM things", NULL, 0, read_int, arg, NULL, err);
}

static int64_t seen_by(struct store_fixture *fx, struct store *s) {
    int64_t n = -1;
    assert_int_equal(call_on(fx, s, count_rows, &n), 0);
    return n;
}

// By a reader of SHORT_MS, which on a slow machine may be over before a short look is.
static int64_t seen_in_time_by(struct store_fixture *fx, struct store *s) {
    int64_t n = -1;
    TURN_UNTIL(fx->loop, call_on(fx, s, count_rows, &n) != ERR_TIMEOUT);
    return n;
}

// ---- a job that stops in the middle until the test lets it go on -----------------------------------------------------------

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool reached, open; // under lock
};
#define GATE_CLOSED ((struct gate){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER})

static void gate_pass(struct gate *g) {
    pthread_mutex_lock(&g->lock);
    g->reached = true;
    while (!g->open) pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

static bool gate_is_reached(struct gate *g) {
    pthread_mutex_lock(&g->lock);
    bool reached = g->reached;
    pthread_mutex_unlock(&g->lock);
    return reached;
}

static void gate_open(struct gate *g) {
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_signal(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static int stand_at_gate(void *arg, struct sql *sql, struct err *err) {
    (void)sql, (void)err;
    gate_pass(arg);
    return 0;
}

// ---- what it sees --------------------------------------------------------------------------------------------------------

static int insert_then_stand(void *arg, struct sql *sql, struct err *err) {
    int rc = insert_thing(sql, 1, 0, err);
    gate_pass(arg);
    return rc;
}

static void test_sees_what_is_committed(void **state) {
    struct store_fixture *fx = *state;
    struct store *reader = open_reader(fx, LONG_MS);
    assert_true(store_is_up(reader));
    assert_int_equal(store_is_shared(reader), store_is_shared(fx->store));
    struct gate gate = GATE_CLOSED;
    struct call write;
    submit(fx->store, &write, insert_then_stand, &gate);
    TURN_UNTIL(fx->loop, gate_is_reached(&gate));
    assert_int_equal(seen_by(fx, reader), 0); // and does not wait for the writer
    assert_false(write.done);
    gate_open(&gate);
    TURN_UNTIL(fx->loop, write.done);
    assert_int_equal(write.code, 0);
    assert_int_equal(seen_by(fx, reader), 1);
    for (int64_t id = 2; id < 50; id++) {
        assert_int_equal(call(fx, insert_one, &id), 0);
        assert_int_equal(seen_by(fx, reader), id);
    }
    store_close(reader);
}

struct two_looks {
    struct gate gate;
    int64_t first, second;
};

static int look_twice(void *arg, struct sql *sql, struct err *err) {
    struct two_looks *t = arg;
    int rc = count_rows(&t->first, sql, err);
    gate_pass(&t->gate);
    return rc ? rc : count_rows(&t->second, sql, err);
}

static void test_sees_one_moment(void **state) {
    struct store_fixture *fx = *state;
    struct store *reader = open_reader(fx, LONG_MS);
    struct two_looks looks = {.gate = GATE_CLOSED, .first = -1, .second = -1};
    struct call look;
    submit(reader, &look, look_twice, &looks);
    TURN_UNTIL(fx->loop, gate_is_reached(&looks.gate));
    assert_int_equal(call(fx, insert_one, &(int64_t){1}), 0); // which does not wait for the reader
    assert_false(look.done);
    gate_open(&looks.gate);
    TURN_UNTIL(fx->loop, look.done);
    assert_int_equal(look.code, 0);
    assert_int_equal(looks.first, 0);
    assert_int_equal(looks.second, 0);
    assert_int_equal(seen_by(fx, reader), 1);
    store_close(reader);
}

// ---- what it cannot do -----------------------------------------------------------------------------------------------------

static int write_something(void *arg, struct sql *sql, struct err *err) {
    return sql_exec_once(sql, *(const char **)arg, NULL, 0, NULL, NULL, NULL, err);
}

static int write_many(void *arg, struct sql *sql, struct err *err) {
    (void)arg;
    struct sql_value ids[] = {SQL_I(10), SQL_I(11)};
    return sql_exec_many(sql, "INSERT INTO things (id) VALUES ($1)", ids, 1, 2, err);
}

static void test_cannot_write(void **state) {
    struct store_fixture *fx = *state;
    struct store *reader = open_reader(fx, LONG_MS);
    assert_int_equal(call(fx, insert_one, &(int64_t){1}), 0);
    static const char *texts[] = {"INSERT INTO things (id) VALUES (2)", "UPDATE things SET id = 3", "DELETE FROM things",
                                  "CREATE TABLE more (id BIGINT)", "DROP TABLE things"};
    for (size_t i = 0; i < array_len(texts); i++) {
        assert_int_equal(call_on(fx, reader, write_something, &texts[i]), ERR_INTERNAL);
        assert_true(store_is_up(reader));
    }
    assert_int_equal(call_on(fx, reader, insert_one, &(int64_t){4}), ERR_INTERNAL);
    assert_int_equal(call_on(fx, reader, write_many, NULL), ERR_INTERNAL);
    assert_int_equal(seen_by(fx, reader), 1);
    assert_int_equal(call(fx, insert_one, &(int64_t){2}), 0); // 3 and 4 were not taken either
    assert_int_equal(thing_count(fx), 2);
    store_close(reader);
}

// ---- the time limit --------------------------------------------------------------------------------------------------------

static int look_for_ever(void *arg, struct sql *sql, struct err *err) {
    struct gate *gate = arg;
    pthread_mutex_lock(&gate->lock);
    gate->reached = true;
    pthread_mutex_unlock(&gate->lock);
    int64_t n;
    return sql_exec(sql, "WITH RECURSIVE n (i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n", NULL,
                    0, read_int, &n, NULL, err);
}

static int look_again_and_again(void *arg, struct sql *sql, struct err *err) {
    for (;;) {
        int rc = sql_exec_once(sql, "SELECT count(*) FROM things", NULL, 0, read_int, arg, NULL, err);
        if (rc) return rc;
    }
}

// A long look and many short ones in one job; neither the writer nor the connection suffers.
static void test_a_long_look_ends(void **state) {
    struct store_fixture *fx = *state;
    struct store *reader = open_reader(fx, SHORT_MS);
    for (int64_t round = 0; round < 3; round++) {
        struct gate gate = GATE_CLOSED;
        struct call look;
        int64_t since_ns = clock_mono_ns();
        submit(reader, &look, look_for_ever, &gate);
        TURN_UNTIL(fx->loop, gate_is_reached(&gate));
        assert_int_equal(call(fx, insert_one, &round), 0);
        assert_true(!look.done || clock_mono_ns() - since_ns >= SHORT_MS * NS_PER_MS);
        TURN_UNTIL(fx->loop, look.done);
        assert_int_equal(look.code, ERR_TIMEOUT);
        assert_non_null(strstr(look.err.text, "300 ms"));
        assert_true(store_is_up(reader));
        assert_int_equal(seen_in_time_by(fx, reader), round + 1);
    }
    int64_t n;
    assert_int_equal(call_on(fx, reader, look_again_and_again, &n), ERR_TIMEOUT);
    assert_int_equal(seen_in_time_by(fx, reader), 3);
    store_close(reader);
}

// What a job has used up its later statements do not get again.
static int ask_limit(void *arg, struct sql *sql, struct err *err) {
    int64_t used_until_ns = clock_mono_ns() + 100 * NS_PER_MS;
    while (clock_mono_ns() < used_until_ns) {}
    return sql_exec(sql, "SELECT CAST(setting AS BIGINT) FROM pg_settings WHERE name = 'statement_timeout'", NULL, 0, read_int, arg,
                    NULL, err);
}

static void test_the_limit_is_of_the_job(void **state) {
    struct store_fixture *fx = *state;
    struct store *reader = open_reader(fx, LONG_MS);
    int64_t limit_ms = 0;
    assert_int_equal(call_on(fx, reader, ask_limit, &limit_ms), 0);
    assert_in_range(limit_ms, 1, LONG_MS - 100);
    store_close(reader);
}

// ---- jobs side by side -----------------------------------------------------------------------------------------------------

static int count_and_fail(void *arg, struct sql *sql, struct err *err) {
    (void)sql;
    ++*(int *)arg;
    return err_set(err, ERR_NOT_FOUND, "nothing there");
}

// Jobs that wait together are answered one by one, in order, and run once each although one of them fails.
static void test_one_job_at_a_time(void **state) {
    struct store_fixture *fx = *state;
    struct store *reader = open_reader(fx, LONG_MS);
    struct gate first = GATE_CLOSED, last = GATE_CLOSED;
    struct call calls[4];
    int runs = 0;
    int64_t n = -1;
    submit(reader, &calls[0], stand_at_gate, &first);
    submit(reader, &calls[1], count_rows, &n);
    submit(reader, &calls[2], count_and_fail, &runs);
    submit(reader, &calls[3], stand_at_gate, &last);
    gate_open(&first);
    TURN_UNTIL(fx->loop, calls[2].done);
    assert_true(calls[1].done && calls[1].code == 0 && n == 0);
    assert_int_equal(calls[2].code, ERR_NOT_FOUND);
    assert_int_equal(runs, 1);
    assert_false(calls[3].done);
    gate_open(&last);
    TURN_UNTIL(fx->loop, calls[3].done);
    for (int i = 1; i < 4; i++) assert_int_equal(calls[i].place, calls[i - 1].place + 1);
    store_close(reader);
}

static struct gate *opened_by_join; // NULL: none

// store_close has begun to close when it joins its thread.
int pthread_join(pthread_t thread, void **ret) {
    static int (*next)(pthread_t, void **);
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "pthread_join");
    if (opened_by_join) gate_open(opened_by_join);
    opened_by_join = NULL;
    return next(thread, ret);
}

static void test_close(void **state) {
    struct store_fixture *fx = *state;
    struct store *reader = open_reader(fx, LONG_MS);
    struct gate gate = GATE_CLOSED;
    struct call begun, waiting[20];
    int runs = 0;
    submit(reader, &begun, stand_at_gate, &gate);
    TURN_UNTIL(fx->loop, gate_is_reached(&gate));
    for (size_t i = 0; i < array_len(waiting); i++) submit(reader, &waiting[i], count_and_fail, &runs);
    opened_by_join = &gate;
    store_close(reader);
    assert_true(begun.done && begun.code == 0);
    for (size_t i = 0; i < array_len(waiting); i++) assert_true(waiting[i].done && waiting[i].code == ERR_UNAVAILABLE);
    assert_int_equal(runs, 0);
    assert_int_equal(call(fx, insert_one, &(int64_t){1}), 0);
}

static void test_outlives_the_writer(void **state) {
    struct store_fixture *fx = *state;
    struct store *reader = open_reader(fx, LONG_MS);
    assert_int_equal(call(fx, insert_one, &(int64_t){1}), 0);
    assert_int_equal(seen_by(fx, reader), 1);
    store_close(fx->store);
    assert_int_equal(seen_by(fx, reader), 1);
    open_store(fx);
    assert_int_equal(call(fx, insert_one, &(int64_t){2}), 0);
    assert_int_equal(seen_by(fx, reader), 2);
    store_close(fx->store);
    store_close(reader);
    open_store(fx);
    assert_int_equal(thing_count(fx), 2);
}

// ---- SQLite's log --------------------------------------------------------------------------------------------------------

#define BLOB_BYTES (4 * 1024 * 1024)
#define WRITES 500
#define LOG_BYTES_MAX (300ll * 1024 * 1024)

struct writes {
    char *blob;
    _Atomic int64_t done;
};

static int write_blob(void *arg, struct sql *sql, struct err *err) {
    struct writes *w = arg;
    memset(w->blob, (int)w->done & 0xff, BLOB_BYTES); // SQLite does not write what is there already
    struct sql_value v = SQL_B(((struct str){w->blob, BLOB_BYTES}));
    int rc = sql_exec(sql, "INSERT INTO things (id, b) VALUES (0, $1) ON CONFLICT (id) DO UPDATE SET b = excluded.b", &v, 1, NULL, NULL,
                      NULL, err);
    w->done++;
    return rc;
}

// Looks until the writer has done twenty more, so that it is in the middle of something when a look ends and the next begins.
static int look_while_written(void *arg, struct sql *sql, struct err *err) {
    struct writes *w = arg;
    int64_t n, until = w->done + 20;
    int rc = count_rows(&n, sql, err);
    while (rc == 0 && w->done < until && w->done < WRITES) sched_yield();
    return rc;
}

static void test_the_log_stays_small(void **state) {
    struct store_fixture *fx = *state;
    struct store *reader = open_reader(fx, LONG_MS);
    cleanup_free char *path = mem_printf("%s/weir.db-wal", fx->dir);
    struct writes w = {.blob = mem_zalloc(BLOB_BYTES)};
    static struct call writes[WRITES], looks[4 * WRITES];
    int64_t most = 0;
    size_t looked = 0;
    for (size_t i = 0; i < WRITES; i++) {
        submit(fx->store, &writes[i], write_blob, &w);
        for (; looked < array_len(looks) && (looked < 4 || looks[looked - 4].done); looked++)
            submit(reader, &looks[looked], look_while_written, &w);
        if (i >= 4) TURN_UNTIL(fx->loop, writes[i - 4].done);
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        if (st.st_size > most) most = st.st_size;
    }
    store_close(reader);
    print_message("# %zu looks, the log had at most %lld MiB\n", looked, (long long)most >> 20);
    assert_true(most < LOG_BYTES_MAX);
    TURN_UNTIL(fx->loop, writes[WRITES - 1].done);
    for (size_t i = 0; i < WRITES; i++) assert_int_equal(writes[i].code, 0);
    free(w.blob);
}

// ---- opening -----------------------------------------------------------------------------------------------------------

static void test_opening(void **state) {
    struct store_fixture *fx = *state;
    cleanup_free char *path = mem_printf("%s/none.db", fx->dir), *lock = mem_printf("%s.lock", path);
    cleanup_free char *missing = mem_printf("sqlite:%s", path);
    const struct {
        const char *url;
        int code;
    } cases[] = {
        {"mysql://x", ERR_INVALID},
        {"sqlite:", ERR_INVALID},
        {missing, ERR_INVALID},
        {"postgresql://127.0.0.1/weir?nonsense=1", ERR_INVALID},
        {"postgresql://weir@127.0.0.1:1/weir", ERR_UNAVAILABLE},
    };
    for (size_t i = 0; i < array_len(cases); i++) {
        struct store *reader = NULL;
        struct err err = {0};
        assert_int_equal(store_open_reader(fx->loop, cases[i].url, LONG_MS, &reader, &err), cases[i].code);
        assert_true(err.text[0]);
        assert_null(reader);
    }
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(lock, F_OK), -1);
}

// ---- a server that dies ------------------------------------------------------------------------------------------------------

static void test_server_dies(void **state) {
    struct store_fixture *fx = *state;
    struct store *reader = open_reader(fx, LONG_MS);
    assert_int_equal(call(fx, insert_one, &(int64_t){1}), 0);
    struct gate gate = GATE_CLOSED;
    struct call look;
    submit(reader, &look, look_for_ever, &gate);
    TURN_UNTIL(fx->loop, gate_is_reached(&gate));
    free(service_run("postgres", "kill", fx->dir));
    TURN_UNTIL(fx->loop, look.done);
    assert_int_equal(look.code, ERR_UNAVAILABLE);
    assert_false(store_is_up(reader));
    int64_t n;
    assert_int_equal(call_on(fx, reader, count_rows, &n), ERR_UNAVAILABLE);
    free(service_run("postgres", "start", fx->dir));
    TURN_UNTIL(fx->loop, store_is_up(reader) && store_is_up(fx->store)); // by itself, with nothing submitted
    assert_int_equal(seen_by(fx, reader), 1);
    assert_int_equal(call_on(fx, reader, insert_one, &(int64_t){2}), ERR_INTERNAL); // a reader still
    store_close(reader);
}

// ---- all of them -------------------------------------------------------------------------------------------------------

int main(void) {
    static const struct store_case cases[] = {
        {"sees_what_is_committed", test_sees_what_is_committed, STORE_BOTH},
        {"sees_one_moment", test_sees_one_moment, STORE_BOTH},
        {"cannot_write", test_cannot_write, STORE_BOTH},
        {"a_long_look_ends", test_a_long_look_ends, STORE_BOTH},
        {"the_limit_is_of_the_job", test_the_limit_is_of_the_job, STORE_POSTGRES},
        {"one_job_at_a_time", test_one_job_at_a_time, STORE_BOTH},
        {"close", test_close, STORE_BOTH},
        {"outlives_the_writer", test_outlives_the_writer, STORE_BOTH},
        {"the_log_stays_small", test_the_log_stays_small, STORE_SQLITE},
        {"opening", test_opening, STORE_SQLITE},
        {"server_dies", test_server_dies, STORE_POSTGRES},
    };
    return store_run_cases(cases, array_len(cases));
}
