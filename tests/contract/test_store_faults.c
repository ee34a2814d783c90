// SPDX-License-Identifier: Apache-2.0
// The contract of core/store.h when something is wrong: URLs, versions, other servers, full disks, servers that die.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/store_fixture.h"

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
    struct store_fixture *fx = *state;
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
    struct store_fixture *fx = *state;
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
    struct store_fixture *fx = *state;
    struct store *second = NULL;
    struct err err = {0};
    assert_int_equal(store_open(fx->loop, fx->url, &second, &err), ERR_CONFLICT);
    cleanup_free char *pid = mem_printf("process %d", (int)getpid());
    assert_non_null(strstr(err.text, "in use"));
    assert_non_null(strstr(err.text, pid));
    assert_int_equal(call(fx, insert_one, &(int64_t){1}), 0);
}

static void test_not_a_database(void **state) {
    struct store_fixture *fx = *state;
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
    struct store_fixture fx = {.loop = loop_new(), .url = mem_printf("sqlite:%s/weir.db", dir)};
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
    struct store_fixture *fx = *state;
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
    struct store_fixture *fx;
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
    struct store_fixture *fx = *state;
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

static int read_work_mem(void *arg, struct sql *sql, struct err *err) {
    return sql_exec(sql, "SELECT CAST(setting AS BIGINT) FROM pg_settings WHERE name = 'work_mem'", NULL, 0, read_int, arg, NULL, err);
}

static void test_options_in_url(void **state) {
    struct store_fixture *fx = *state;
    cleanup_free char *url = mem_printf("%s%coptions=-c%%20work_mem%%3D7777", fx->url, strchr(fx->url, '?') ? '&' : '?');
    struct store *plain = fx->store;
    struct err err = {0};
    if (store_open(fx->loop, url, &fx->store, &err)) fail_msg("%s", err.text);
    int64_t work_mem = 0;
    assert_int_equal(call(fx, read_work_mem, &work_mem), 0);
    assert_int_equal(work_mem, 7777);
    store_close(fx->store);
    fx->store = plain;
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
    struct store_fixture *fx = *state;
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
    assert_in_range(a.runs + b.runs, 3, 20); // the loser may be quicker to its row than the winner that waits for it, and lose again
    int64_t sum = 0;
    assert_int_equal(call(fx, sum_things, &sum), 0);
    assert_int_equal(sum, 4);
    pthread_barrier_destroy(&barrier);
    store_close(other);
}

// ---- all of them -------------------------------------------------------------------------------------------------------

int main(void) {
    static const struct store_case cases[] = {
        {"bad_urls", test_bad_urls, STORE_SQLITE},
        {"second_server", test_second_server, STORE_SQLITE},
        {"not_a_database", test_not_a_database, STORE_SQLITE},
        {"full_disk", test_full_disk, STORE_SQLITE},
        {"kill_server", test_kill_server, STORE_POSTGRES},
        {"deadlock", test_deadlock, STORE_POSTGRES},
        {"options_in_url", test_options_in_url, STORE_POSTGRES},
        {"migrations", test_migrations, STORE_BOTH}, // last: PostgreSQL's database cannot be opened after it
    };
    return store_run_cases(cases, array_len(cases));
}
