// SPDX-License-Identifier: Apache-2.0
// The contract of core/store.h over both databases. PostgreSQL runs when WEIR_TEST_POSTGRES_URL is set; its tests start
// a server of their own, because they kill it.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/store.h"
#include "tests/support/support.h"

struct fixture {
    bool postgres;
    char *dir, *url;
    struct loop *loop;
    struct store *store;
};

// ---- one call on the store's thread ------------------------------------------------------------------------------------

typedef int call_fn(void *arg, struct sql *sql, struct err *err);
struct call {
    struct store_job job;
    call_fn *fn;
    void *arg;
    bool done;
    int code;
    unsigned place; // among all that are done
    struct err err;
};
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

static void submit(struct store *s, struct call *c, call_fn *fn, void *arg) {
    *c = (struct call){.job = {.run = call_run, .done = call_done}, .fn = fn, .arg = arg};
    store_submit(s, &c->job);
}

static int call(struct fixture *fx, call_fn *fn, void *arg) {
    struct call c;
    submit(fx->store, &c, fn, arg);
    assert_false(c.done); // never inside the call
    TURN_UNTIL(fx->loop, c.done);
    if (c.code) print_message("# %s\n", c.err.text);
    return c.code;
}

// ---- the table ---------------------------------------------------------------------------------------------------------

static int make_table(void *arg, struct sql *sql, struct err *err) {
    (void)arg;
    int rc = sql_exec(sql, "DROP TABLE IF EXISTS things", NULL, 0, NULL, NULL, NULL, err);
    return rc ? rc : sql_exec(sql, "CREATE TABLE things (id BIGINT PRIMARY KEY, n BIGINT, s TEXT, b BYTEA)", NULL, 0, NULL,
                              NULL, NULL, err);
}

static int insert(struct sql *sql, int64_t id, int64_t n, struct err *err) {
    struct sql_value values[] = {SQL_I(id), SQL_I(n)};
    return sql_exec(sql, "INSERT INTO things (id, n) VALUES ($1, $2)", values, 2, NULL, NULL, NULL, err);
}

static int insert_one(void *arg, struct sql *sql, struct err *err) {
    return insert(sql, *(int64_t *)arg, 0, err);
}

static int read_int(void *arg, const struct sql_row *row) {
    *(int64_t *)arg = sql_row_int(row, 0);
    return 0;
}

static int count_things(void *arg, struct sql *sql, struct err *err) {
    return sql_exec(sql, "SELECT count(*) FROM things", NULL, 0, read_int, arg, NULL, err);
}

static int64_t thing_count(struct fixture *fx) {
    int64_t n = -1;
    assert_int_equal(call(fx, count_things, &n), 0);
    return n;
}

static void open_store(struct fixture *fx) {
    struct err err = {0};
    if (store_open(fx->loop, fx->url, &fx->store, &err)) fail_msg("store_open: %s", err.text);
}

static int set_up(void **state) {
    struct fixture *fx = *state;
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
    struct fixture *fx = *state;
    store_close(fx->store);
    fx->store = NULL;
    loop_free(fx->loop);
    if (fx->postgres) return 0;
    temp_dir_remove(fx->dir);
    free(fx->url);
    return 0;
}

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
    struct fixture *fx = *state;
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

static int sums(void *arg, struct sql *sql, struct err *err) {
    int64_t *got = arg;
    int rc = insert(sql, 1, 9000000000, err);
    if (rc == 0) rc = insert(sql, 2, -10000, err);
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
        if (insert(sql, i, i, err)) return ERR_INTERNAL;
    struct sql_value v[] = {SQL_I(3), SQL_I(77)};
    int rc = sql_exec(sql, "UPDATE things SET n = n + 1 WHERE id < $1", v, 1, NULL, NULL, &c->updated, err);
    if (rc == 0)
        rc = sql_exec(sql, "INSERT INTO things (id, n) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET n = excluded.n RETURNING n",
                      v, 2, read_int, &c->returned, &c->upserted, err);
    if (rc) return rc;
    // A callback that stops is no failure: the job goes on.
    rc = sql_exec(sql, "SELECT id FROM things ORDER BY id", NULL, 0, count_to_two, &c->rows, NULL, err);
    return rc == ERR_BUSY ? insert(sql, 10, 0, err) : ERR_INTERNAL;
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
    struct fixture *fx = *state;
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

// ---- groups ------------------------------------------------------------------------------------------------------------

#define GROUP 300

// Some of the group fail, on a constraint or by their own word; the others are there, and all are told in order.
static void test_bad_jobs(void **state) {
    struct fixture *fx = *state;
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
    int rc = insert(sql, *id, 0, err);
    if (rc == 0 && insert(sql, *id, 0, &hidden) == 0) return ERR_INTERNAL;
    return rc;
}

static void test_job_fails_whole(void **state) {
    struct fixture *fx = *state;
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
    struct fixture *fx = *state;
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
    struct fixture *fx = *state;
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
    struct fixture *fx = *state;
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
    struct fixture *fx;
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
    struct fixture *fx = *state;
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

// ---- opening -----------------------------------------------------------------------------------------------------------

static int add_migration(void *arg, struct sql *sql, struct err *err) {
    struct sql_value number = SQL_I(*(int64_t *)arg);
    return sql_exec(sql, "INSERT INTO schema_migrations (number, name, applied_ms) VALUES ($1, 'later', 0)", &number, 1, NULL,
                    NULL, NULL, err);
}

static int count_migrations(void *arg, struct sql *sql, struct err *err) {
    return sql_exec(sql, "SELECT count(*) FROM schema_migrations", NULL, 0, read_int, arg, NULL, err);
}

static void test_migrations(void **state) {
    struct fixture *fx = *state;
    int64_t before = 0, after = 0;
    assert_int_equal(call(fx, count_migrations, &before), 0);
    assert_true(before > 0);
    store_close(fx->store);
    open_store(fx); // nothing to do
    assert_int_equal(call(fx, count_migrations, &after), 0);
    assert_int_equal(after, before);
    assert_int_equal(call(fx, add_migration, &(int64_t){before + 1}), 0);
    store_close(fx->store);
    fx->store = NULL;
    struct err err = {0};
    assert_int_equal(store_open(fx->loop, fx->url, &fx->store, &err), ERR_CONFLICT);
    assert_non_null(strstr(err.text, "newer"));
}

static void test_bad_urls(void **state) {
    struct fixture *fx = *state;
    static const struct {
        const char *url;
        int code;
    } cases[] = {
        {"", ERR_INVALID},
        {"mysql://x", ERR_INVALID},
        {"sqlite:", ERR_INVALID},
        {"sqlite:/no/such/directory/weir.db", ERR_INVALID},
        {"postgresql://[::1/weir", ERR_INVALID},
        {"postgresql://127.0.0.1/weir?nonsense=1", ERR_INVALID},
        {"postgresql://weir@127.0.0.1:1/weir", ERR_UNAVAILABLE},
        {"postgres://weir@127.0.0.1:1/weir", ERR_UNAVAILABLE},
    };
    for (size_t i = 0; i < array_len(cases); i++) {
        struct store *s = NULL;
        struct err err = {0};
        int rc = store_open(fx->loop, cases[i].url, &s, &err);
        if (rc != cases[i].code) fail_msg("%s: %d %s", cases[i].url, rc, err.text);
        assert_int_equal(err.code, cases[i].code);
        assert_true(err.text[0]);
        assert_null(s);
    }
}

// ---- SQLite only -------------------------------------------------------------------------------------------------------

static void test_second_server(void **state) {
    struct fixture *fx = *state;
    struct store *second = NULL;
    struct err err = {0};
    assert_int_equal(store_open(fx->loop, fx->url, &second, &err), ERR_CONFLICT);
    cleanup_free char *pid = mem_printf("process %d", (int)getpid());
    assert_non_null(strstr(err.text, "in use"));
    assert_non_null(strstr(err.text, pid));
    assert_int_equal(call(fx, insert_one, &(int64_t){1}), 0);
}

static void test_not_a_database(void **state) {
    struct fixture *fx = *state;
    cleanup_free char *path = mem_printf("%s/text", fx->dir);
    cleanup_free char *url = mem_printf("sqlite:%s", path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < 1000; i++) fputs("this is no database\n", f);
    fclose(f);
    struct store *s = NULL;
    struct err err = {0};
    assert_int_equal(store_open(fx->loop, url, &s, &err), ERR_CORRUPT);
}

static int insert_big(void *arg, struct sql *sql, struct err *err) {
    char *bytes = mem_zalloc(512 * 1024);
    struct sql_value v[] = {SQL_I(*(int64_t *)arg), SQL_B(((struct str){bytes, 512 * 1024}))};
    int rc = sql_exec(sql, "INSERT INTO things (id, b) VALUES ($1, $2)", v, 2, NULL, NULL, NULL, err);
    free(bytes);
    return rc;
}

// A disk of 8 MiB that a file beside the database fills; or, where nothing may be mounted, a limit on the size of a file.
struct small_disk {
    bool mounted;
    char *ballast;
};

static void make_small(struct small_disk *d, const char *dir) {
    d->ballast = mem_printf("%s/ballast", dir);
    int flags = geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER;
    d->mounted = unshare(flags) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                 mount("tmpfs", dir, "tmpfs", 0, "size=8m") == 0;
    signal(SIGXFSZ, SIG_IGN);
}

static void fill(const struct small_disk *d) {
    if (!d->mounted) {
        struct rlimit limit = {4u * 1024 * 1024, RLIM_INFINITY};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        return;
    }
    int fd = open(d->ballast, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    static const char block[4096];
    while (write(fd, block, sizeof block) > 0) continue;
    assert_int_equal(errno, ENOSPC);
    close(fd);
}

static void make_room(const struct small_disk *d) {
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    if (d->mounted) unlink(d->ballast);
    else assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

// 0 when all went as it should; otherwise the number of the step that did not. Runs in a child, which may end as it is.
static int full_disk_steps(const char *dir) {
    struct small_disk disk;
    make_small(&disk, dir);
    struct fixture fx = {.loop = loop_new(), .url = mem_printf("sqlite:%s/weir.db", dir)};
    open_store(&fx);
    int64_t id = 1, stored = 1;
    if (call(&fx, make_table, NULL) || call(&fx, insert_big, &id)) return 1;
    fill(&disk);
    int code = 0;
    for (id = 2; id < 50 && code == 0; id++) {
        code = call(&fx, insert_big, &id);
        if (code == 0) stored++;
    }
    if (code != ERR_FULL) return 2;
    if (!store_is_up(fx.store)) return 3;
    if (thing_count(&fx) != stored) return 4; // what was told OK, and nothing else
    make_room(&disk);
    if (call(&fx, insert_big, &id)) return 5;
    if (thing_count(&fx) != stored + 1) return 6;
    store_close(fx.store);
    open_store(&fx);
    if (thing_count(&fx) != stored + 1) return 7;
    store_close(fx.store);
    loop_free(fx.loop);
    free(fx.url);
    free(disk.ballast);
    return 0;
}

static void test_full_disk(void **state) {
    struct fixture *fx = *state;
    store_close(fx->store); // the child begins without threads
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) _exit(full_disk_steps(fx->dir));
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    open_store(fx);
    assert_int_equal(status, 0);
}

// ---- PostgreSQL only ---------------------------------------------------------------------------------------------------

// A load that goes on while the server dies: every job that was told OK is there afterwards.
struct load {
    struct fixture *fx;
    struct call *calls;
    int64_t *ids;
    size_t count, submitted;
};

static void submit_some(struct load *l, size_t n) {
    for (; n > 0 && l->submitted < l->count; n--, l->submitted++) {
        l->ids[l->submitted] = (int64_t)l->submitted;
        submit(l->fx->store, &l->calls[l->submitted], insert_one, &l->ids[l->submitted]);
    }
}

static int mark_seen(void *arg, const struct sql_row *row) {
    bool *seen = arg;
    seen[sql_row_int(row, 0)] = true;
    return 0;
}

static int see_things(void *arg, struct sql *sql, struct err *err) {
    return sql_exec(sql, "SELECT id FROM things", NULL, 0, mark_seen, arg, NULL, err);
}

static void check_load(struct load *l) {
    bool *seen = mem_array(l->count, sizeof *seen);
    assert_int_equal(call(l->fx, see_things, seen), 0);
    size_t lost = 0, away = 0;
    for (size_t i = 0; i < l->count; i++) {
        if (l->calls[i].code == 0) lost += !seen[i];
        else if (l->calls[i].code == ERR_UNAVAILABLE) away++;
        else fail_msg("job %zu: %s", i, l->calls[i].err.text);
    }
    free(seen);
    print_message("# %zu of %zu jobs met the dead server\n", away, l->count);
    assert_int_equal(lost, 0);
    assert_true(away > 0);
}

static void test_kill_server(void **state) {
    struct fixture *fx = *state;
    struct load l = {.fx = fx, .count = 62000};
    l.calls = mem_array(l.count, sizeof *l.calls);
    l.ids = mem_array(l.count, sizeof *l.ids);
    submit_some(&l, 1000);
    TURN_UNTIL(fx->loop, l.calls[200].done);
    submit_some(&l, 60000);
    TURN_UNTIL(fx->loop, l.calls[10000].done);
    free(service_run("postgres", "kill", fx->dir));
    TURN_UNTIL(fx->loop, l.calls[60999].done);
    struct call refused;
    submit(fx->store, &refused, insert_one, &(int64_t){-1});
    TURN_UNTIL(fx->loop, refused.done);
    assert_int_equal(refused.code, ERR_UNAVAILABLE);
    assert_false(store_is_up(fx->store));
    free(service_run("postgres", "start", fx->dir));
    TURN_UNTIL(fx->loop, store_is_up(fx->store)); // by itself, with nothing submitted
    submit_some(&l, 1000);
    TURN_UNTIL(fx->loop, l.calls[l.count - 1].done);
    check_load(&l);
    for (size_t i = 61000; i < l.count; i++) assert_int_equal(l.calls[i].code, 0);
    free(l.calls);
    free(l.ids);
}

// Two processes lock two rows in opposite order. The barrier makes sure that they meet; the loser runs again.
struct crossing {
    pthread_barrier_t *barrier;
    int64_t first, second;
    int runs;
};

static int cross(void *arg, struct sql *sql, struct err *err) {
    struct crossing *c = arg;
    struct sql_value first = SQL_I(c->first), second = SQL_I(c->second);
    int rc = sql_exec(sql, "UPDATE things SET n = n + 1 WHERE id = $1", &first, 1, NULL, NULL, NULL, err);
    if (c->runs++ == 0) pthread_barrier_wait(c->barrier);
    return rc ? rc : sql_exec(sql, "UPDATE things SET n = n + 1 WHERE id = $1", &second, 1, NULL, NULL, NULL, err);
}

static int sum_things(void *arg, struct sql *sql, struct err *err) {
    return sql_exec(sql, "SELECT sum(n) FROM things", NULL, 0, read_int, arg, NULL, err);
}

static void test_deadlock(void **state) {
    struct fixture *fx = *state;
    struct store *other;
    struct err err = {0};
    assert_int_equal(store_open(fx->loop, fx->url, &other, &err), 0);
    assert_int_equal(call(fx, insert_one, &(int64_t){1}), 0);
    assert_int_equal(call(fx, insert_one, &(int64_t){2}), 0);
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, 2);
    struct crossing a = {&barrier, 1, 2, 0}, b = {&barrier, 2, 1, 0};
    struct call one, two;
    submit(fx->store, &one, cross, &a);
    submit(other, &two, cross, &b);
    TURN_UNTIL(fx->loop, one.done && two.done);
    assert_int_equal(one.code, 0);
    assert_int_equal(two.code, 0);
    assert_int_equal(a.runs + b.runs, 3);
    int64_t sum = 0;
    assert_int_equal(call(fx, sum_things, &sum), 0);
    assert_int_equal(sum, 4);
    pthread_barrier_destroy(&barrier);
    store_close(other);
}

// ---- all of them -------------------------------------------------------------------------------------------------------

enum where { BOTH, SQLITE, POSTGRES };
static const struct {
    const char *name;
    CMUnitTestFunction fn;
    enum where where;
} cases[] = {
    {"values", test_values, BOTH},
    {"sums", test_sums, BOTH},
    {"changes", test_changes, BOTH},
    {"many", test_many, BOTH},
    {"big_many", test_big_many, BOTH},
    {"bad_jobs", test_bad_jobs, BOTH},
    {"job_fails_whole", test_job_fails_whole, BOTH},
    {"error_codes", test_error_codes, BOTH},
    {"order", test_order, BOTH},
    {"too_many", test_too_many, BOTH},
    {"close_runs_all", test_close_runs_all, BOTH},
    {"close_inside_done", test_close_inside_done, BOTH},
    {"bad_urls", test_bad_urls, SQLITE},
    {"second_server", test_second_server, SQLITE},
    {"not_a_database", test_not_a_database, SQLITE},
    {"full_disk", test_full_disk, SQLITE},
    {"kill_server", test_kill_server, POSTGRES},
    {"deadlock", test_deadlock, POSTGRES},
    {"migrations", test_migrations, BOTH}, // last: PostgreSQL's database cannot be opened after it
};

static int run_cases(struct fixture *fx, enum where where, const char *name) {
    struct CMUnitTest tests[array_len(cases)] = {0};
    char names[array_len(cases)][64];
    size_t count = 0;
    for (size_t i = 0; i < array_len(cases); i++) {
        if (cases[i].where != BOTH && cases[i].where != where) continue;
        MUST(text_format(names[count], sizeof names[count], "%s: %s", name, cases[i].name) == 0);
        tests[count] = (struct CMUnitTest){names[count], cases[i].fn, set_up, tear_down, fx};
        count++;
    }
    return _cmocka_run_group_tests(name, tests, count, NULL, NULL);
}

int main(void) {
    struct fixture sqlite = {0};
    int failed = run_cases(&sqlite, SQLITE, "sqlite");
    const char *wanted = getenv("WEIR_TEST_POSTGRES_URL");
    if (!wanted || !*wanted) return failed;
    struct fixture postgres = {.postgres = true, .dir = temp_dir_new()};
    postgres.url = service_run("postgres", "start", postgres.dir);
    failed += run_cases(&postgres, POSTGRES, "postgres");
    free(service_run("postgres", "kill", postgres.dir));
    temp_dir_remove(postgres.dir);
    free(postgres.url);
    return failed;
}
