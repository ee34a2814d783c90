// SPDX-License-Identifier: Apache-2.0
// The store's thread: takes whatever waits as one group (of a reader: one job, so that a long one does not hold up the answer of a
// short one), runs it in one transaction, commits, and hands the finished jobs to the loop as one batch.
//
// Invariants: `sql` belongs to the thread (to store_open before and store_close after it); a job is in exactly one of
// the waiting list, the thread's group, or the finished list; finished jobs keep their order. Wake-ups go through an
// eventfd of its own rather than loop_post, so that closing leaves nothing behind in the loop.
#include "core/store.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/fault.h"
#include "core/base/log.h"

#define GROUP_MAX 4096          // jobs of one transaction
#define COLLISIONS_MAX 8        // how often a transaction that lost a race runs again
#define RECONNECT_MIN_MS 100
#define RECONNECT_MAX_MS 5000

struct jobs {
    struct store_job *first, **last;
};

struct store {
    struct loop *loop;
    const struct store_ops *ops;
    char *url;
    int64_t read_ms;        // of a reader; 0: a writer
    pthread_t thread;
    _Atomic bool up;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct jobs waiting;    // under lock
    size_t waiting_count;   // under lock
    struct jobs finished;   // under lock
    bool closing;           // under lock

    int done_fd;
    struct io *done_io;
    struct jobs ready;      // the loop's: taken from finished, not yet told
    bool telling, closed;   // a done callback may close the store: then on_done frees it

    struct sql *sql;        // the thread's; NULL while the database is away
    bool leaving;           // the thread's: a reader that closes runs no more
    struct store_job *group[GROUP_MAX];
    int64_t reconnect_at_ns;
    int64_t reconnect_ms;
    unsigned jitter_seed;
    struct log_repeat lost_log;
};

// ---- lists -----------------------------------------------------------------------------------------------------------

static void jobs_init(struct jobs *list) {
    *list = (struct jobs){.last = &list->first};
}

static void jobs_add(struct jobs *list, struct store_job *job) {
    job->next = NULL;
    *list->last = job;
    list->last = &job->next;
}

static struct store_job *jobs_take_first(struct jobs *list) {
    struct store_job *job = list->first;
    if (!job) return NULL;
    list->first = job->next;
    if (!list->first) list->last = &list->first;
    return job;
}

static void jobs_move(struct jobs *to, struct jobs *from) {
    if (!from->first) return;
    *to->last = from->first;
    to->last = from->last;
    jobs_init(from);
}

// ---- the connection ----------------------------------------------------------------------------------------------------

static void plan_reconnect(struct store *s) {
    s->reconnect_ms = s->reconnect_ms ? s->reconnect_ms * 2 : RECONNECT_MIN_MS;
    if (s->reconnect_ms > RECONNECT_MAX_MS) s->reconnect_ms = RECONNECT_MAX_MS;
    // Between half and all of it, so that many nodes do not come back in step.
    int64_t wait_ms = s->reconnect_ms / 2 + rand_r(&s->jitter_seed) % (s->reconnect_ms / 2 + 1);
    s->reconnect_at_ns = clock_mono_ns() + wait_ms * NS_PER_MS;
}

// A reader's database is its writer's, which tells; whoever asked a reader is told by the answer.
static enum log_level trouble_level(const struct store *s) {
    return s->read_ms ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR;
}

static void drop_connection(struct store *s, const char *why) {
    s->up = false;
    s->ops->close(s->sql);
    s->sql = NULL;
    log_repeating(&s->lost_log, trouble_level(s), "store", "the database is away", why);
    s->reconnect_ms = 0;
    plan_reconnect(s);
}

static void reconnect(struct store *s) {
    struct err err = {0};
    if (s->ops->open(s->url, s->read_ms, &s->sql, &err) == 0) {
        s->reconnect_ms = 0;
        s->lost_log = (struct log_repeat){0};
        s->up = true;
        if (!s->read_ms) log_info("store", "the database is back");
        return;
    }
    s->sql = NULL;
    log_repeating(&s->lost_log, trouble_level(s), "store", "the database is away", err.text);
    plan_reconnect(s);
}

// ---- groups ------------------------------------------------------------------------------------------------------------

static void fail_jobs(struct store_job **jobs, size_t count, const struct err *err) {
    for (size_t i = 0; i < count; i++) {
        jobs[i]->code = err->code;
        jobs[i]->err = *err;
    }
}

// A statement's failure counts even when `run` hid it: the transaction is lost with it.
static int run_job(struct store *s, struct store_job *job) {
    job->err = (struct err){0};
    job->code = job->run(job, s->sql, &job->err);
    if (job->code == 0 && s->sql->failed) job->code = s->sql->failed;
    if (job->code && job->err.code == ERR_OK)
        err_set(&job->err, (enum err_code)job->code, "the job failed: %s", err_word((enum err_code)job->code));
    return job->code;
}

// One transaction. Returns 0 when committed; else *ret_bad is the index of the job that failed, or `count` when the
// transaction itself did, and *err says why.
static int run_transaction(struct store *s, struct store_job **jobs, size_t count, size_t *ret_bad, struct err *err) {
    *ret_bad = count;
    s->sql->deadline_ns = clock_mono_ns() + s->read_ms * NS_PER_MS;
    int rc = s->ops->begin(s->sql, err);
    if (rc) return rc;
    for (size_t i = 0; i < count; i++) {
        rc = run_job(s, jobs[i]);
        if (rc == 0) continue;
        *ret_bad = i;
        *err = jobs[i]->err;
        s->ops->rollback(s->sql);
        return rc;
    }
    FAULT("store.ran");
    rc = s->ops->commit(s->sql, err);
    if (rc) s->ops->rollback(s->sql);
    if (rc == 0) FAULT("store.committed");
    return rc;
}

static int run_with_retries(struct store *s, struct store_job **jobs, size_t count, size_t *ret_bad, struct err *err) {
    for (int tries = 1;; tries++) {
        int rc = run_transaction(s, jobs, count, ret_bad, err);
        if (rc == 0 || tries == COLLISIONS_MAX || s->ops->is_broken(s->sql) || !s->ops->collided(s->sql)) return rc;
        usleep((useconds_t)(rand_r(&s->jitter_seed) % (2000 << tries))); // so that the two do not meet again
    }
}

// Runs the jobs in order, all of them committed or each failed with its own reason. When one fails, those before it
// run again without it; as they are fewer every time, this ends.
static void run_jobs(struct store *s, struct store_job **jobs, size_t count) {
    while (count > 0) {
        struct err err = {0};
        size_t bad;
        if (!s->sql || s->leaving) {
            err_set(&err, ERR_UNAVAILABLE, s->leaving ? "the store is closing" : "the database is away");
            fail_jobs(jobs, count, &err);
            return;
        }
        if (run_with_retries(s, jobs, count, &bad, &err) == 0) return;
        if (s->ops->is_broken(s->sql)) {
            drop_connection(s, err.text);
            err.code = ERR_UNAVAILABLE;
            fail_jobs(jobs, count, &err);
            return;
        }
        if (count == 1) {
            fail_jobs(jobs, 1, &err);
            return;
        }
        size_t before = bad < count ? bad : count / 2;
        run_jobs(s, jobs, before);
        jobs += before;
        count -= before;
        if (bad >= before + count) continue;
        run_jobs(s, jobs, 1);
        jobs++;
        count--;
    }
}

static struct timespec wake_time(int64_t mono_ns) {
    return (struct timespec){.tv_sec = mono_ns / 1000000000, .tv_nsec = mono_ns % 1000000000};
}

// Waits for jobs, for the time of a connection attempt, or for the end (false).
static bool take_group(struct store *s, size_t *ret_count) {
    pthread_mutex_lock(&s->lock);
    while (!s->waiting.first && !s->closing) {
        if (s->sql) {
            pthread_cond_wait(&s->wake, &s->lock);
            continue;
        }
        if (clock_mono_ns() >= s->reconnect_at_ns) break;
        struct timespec until = wake_time(s->reconnect_at_ns);
        pthread_cond_timedwait(&s->wake, &s->lock, &until);
    }
    size_t count = 0, most = s->read_ms ? 1 : GROUP_MAX;
    while (count < most && s->waiting.first) s->group[count++] = jobs_take_first(&s->waiting);
    s->waiting_count -= count;
    s->leaving = s->closing && s->read_ms;
    bool go_on = count > 0 || !s->closing;
    pthread_mutex_unlock(&s->lock);
    *ret_count = count;
    return go_on;
}

static void wake_loop(struct store *s) {
    uint64_t one = 1;
    while (write(s->done_fd, &one, sizeof one) < 0) {
        // Only EINTR or a full counter, which means awake already; the next try settles it.
    }
}

static void finish_group(struct store *s, size_t count) {
    pthread_mutex_lock(&s->lock);
    bool was_empty = s->finished.first == NULL;
    for (size_t i = 0; i < count; i++) jobs_add(&s->finished, s->group[i]);
    pthread_mutex_unlock(&s->lock);
    if (was_empty) wake_loop(s);
}

static void *thread_main(void *arg) {
    struct store *s = arg;
    size_t count;
    while (take_group(s, &count)) {
        if (!s->sql && clock_mono_ns() >= s->reconnect_at_ns) reconnect(s);
        if (count == 0) continue;
        run_jobs(s, s->group, count);
        finish_group(s, count);
    }
    return NULL;
}

// ---- the loop's side ---------------------------------------------------------------------------------------------------

static void tell(struct store *s) {
    pthread_mutex_lock(&s->lock);
    jobs_move(&s->ready, &s->finished);
    pthread_mutex_unlock(&s->lock);
    for (struct store_job *job; (job = jobs_take_first(&s->ready));)
        job->done(job, job->code, job->code ? &job->err : NULL);
}

static void on_done(void *arg, int ready) {
    (void)ready;
    struct store *s = arg;
    uint64_t count;
    if (read(s->done_fd, &count, sizeof count) < 0) return;
    s->telling = true;
    tell(s);
    s->telling = false;
    if (s->closed) free(s);
}

static const struct store_ops *find_ops(const char *url) {
    static const struct store_ops *const all[] = {&store_sqlite_ops, &store_postgres_ops};
    for (size_t i = 0; i < array_len(all); i++) {
        size_t n = strlen(all[i]->scheme);
        if (strncmp(url, all[i]->scheme, n) == 0 && url[n] == ':') return all[i];
    }
    return strncmp(url, "postgres:", 9) == 0 ? &store_postgres_ops : NULL;
}

// The thread takes no signals: they belong to the loop.
static int start_thread(struct store *s) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&s->thread, NULL, thread_main, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static void init_locks(struct store *s) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, &attr);
    pthread_condattr_destroy(&attr);
}

static int open_with(struct loop *loop, const char *url, int64_t read_ms, struct store **ret, struct err *err) {
    const struct store_ops *ops = find_ops(url);
    if (!ops) return err_set(err, ERR_INVALID, "the store is sqlite:PATH or postgresql://..., not \"%s\"", url);
    struct sql *sql;
    int rc = ops->open(url, read_ms, &sql, err);
    if (rc) return rc;
    struct store *s = mem_zalloc(sizeof *s);
    *s = (struct store){.loop = loop, .ops = ops, .url = mem_strdup(url), .read_ms = read_ms, .sql = sql, .up = true};
    s->jitter_seed = (unsigned)clock_mono_ns() ^ (unsigned)getpid();
    init_locks(s);
    jobs_init(&s->waiting);
    jobs_init(&s->finished);
    jobs_init(&s->ready);
    s->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    MUST(s->done_fd >= 0);
    s->done_io = io_new(loop, s->done_fd, on_done, s);
    io_want(s->done_io, IO_READ);
    MUST(start_thread(s) == 0);
    *ret = s;
    return 0;
}

int store_open(struct loop *loop, const char *url, struct store **ret, struct err *err) {
    return open_with(loop, url, 0, ret, err);
}

int store_open_reader(struct loop *loop, const char *url, int64_t read_ms, struct store **ret, struct err *err) {
    MUST(read_ms > 0);
    return open_with(loop, url, read_ms, ret, err);
}

void store_close(struct store *s) {
    if (!s) return;
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    do tell(s); // twice when a done callback submitted another job
    while (s->finished.first);
    if (s->sql) s->ops->close(s->sql);
    io_free(s->done_io);
    close(s->done_fd);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    free(s->url);
    s->closed = true;
    if (!s->telling) free(s);
}

void store_submit(struct store *s, struct store_job *job) {
    job->code = 0;
    bool wake = false;
    pthread_mutex_lock(&s->lock);
    if (s->waiting_count >= STORE_JOBS_MAX || s->closing) {
        job->code = err_set(&job->err, s->closing ? ERR_UNAVAILABLE : ERR_BUSY,
                            s->closing ? "the store is closing" : "%d jobs wait for the store", STORE_JOBS_MAX);
        wake = s->finished.first == NULL;
        jobs_add(&s->finished, job);
    } else {
        if (!s->waiting.first) pthread_cond_signal(&s->wake);
        jobs_add(&s->waiting, job);
        s->waiting_count++;
    }
    pthread_mutex_unlock(&s->lock);
    if (wake) wake_loop(s);
}

bool store_is_up(const struct store *s) {
    return s->up;
}

bool store_is_shared(const struct store *s) {
    return s->ops->shared;
}

// ---- SQL ---------------------------------------------------------------------------------------------------------------

int sql_fail_late(struct sql *sql, const char *text, struct err *err) {
    if (!sql->failed) sql->failed = ERR_TIMEOUT;
    return err_set(err, ERR_TIMEOUT, "the job took longer than %" PRId64 " ms (%.60s)", sql->read_ms, text);
}

static bool is_late(const struct sql *sql) {
    return sql->read_ms && clock_mono_ns() >= sql->deadline_ns;
}

int sql_exec(struct sql *sql, const char *text, const struct sql_value *values, size_t count, sql_row_fn *fn, void *arg,
             int64_t *ret_changed, struct err *err) {
    if (is_late(sql)) return sql_fail_late(sql, text, err);
    return sql->ops->exec(sql, text, values, count, fn, arg, ret_changed, err);
}

int sql_exec_many(struct sql *sql, const char *text, const struct sql_value *values, size_t count, size_t rows,
                  struct err *err) {
    if (is_late(sql)) return sql_fail_late(sql, text, err);
    return rows ? sql->ops->exec_many(sql, text, values, count, rows, err) : 0;
}

int sql_exec_arrays(struct sql *sql, const char *text, const struct sql_value *values, size_t count, size_t rows,
                    struct err *err) {
    MUST(sql->ops->exec_arrays);
    if (is_late(sql)) return sql_fail_late(sql, text, err);
    return rows ? sql->ops->exec_arrays(sql, text, values, count, rows, err) : 0;
}

int sql_exec_once(struct sql *sql, const char *text, const struct sql_value *values, size_t count, sql_row_fn *fn, void *arg,
                  int64_t *ret_changed, struct err *err) {
    if (is_late(sql)) return sql_fail_late(sql, text, err);
    if (count > SQL_PARAMETERS_MAX) {
        if (!sql->failed) sql->failed = ERR_TOO_LARGE;
        return err_set(err, ERR_TOO_LARGE, "a statement with %zu values: at most %d", count, SQL_PARAMETERS_MAX);
    }
    return sql->ops->exec_once(sql, text, values, count, fn, arg, ret_changed, err);
}

bool sql_is_postgres(const struct sql *sql) {
    return sql->ops == &store_postgres_ops;
}

static int take_ms(void *arg, const struct sql_row *row) {
    *(int64_t *)arg = sql_row_int(row, 0);
    return 0;
}

// now() would be the time at which the transaction began.
int sql_unix_ms(struct sql *sql, int64_t *ret, struct err *err) {
    if (!sql_is_postgres(sql)) {
        *ret = clock_unix_ms();
        return 0;
    }
    int64_t now_ms = 0;
    int rc = sql_exec(sql, "SELECT CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)", NULL, 0, take_ms, &now_ms,
                      NULL, err);
    if (rc == 0) *ret = now_ms;
    return rc;
}

int64_t sql_row_int(const struct sql_row *row, int column) {
    return row->ops->row_int(row, column);
}

struct str sql_row_bytes(const struct sql_row *row, int column) {
    return row->ops->row_bytes(row, column);
}

bool sql_row_is_null(const struct sql_row *row, int column) {
    return row->ops->row_is_null(row, column);
}
