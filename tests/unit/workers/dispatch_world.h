// SPDX-License-Identifier: Apache-2.0
// A dispatch with all its parts real, for the tests of workers: a SQLite store, queues in memory, instances of Python; the function "f" with one
// instance, and the timer "tick" of it. Replays and fires are there; replays are not started.
//
// Flow: setup -> a test -> teardown, which drains unless the test did. Threads: the test's.
#ifndef TESTS_UNIT_WORKERS_DISPATCH_WORLD_H
#define TESTS_UNIT_WORKERS_DISPATCH_WORLD_H

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fire.h"
#include "core/fnlog.h"
#include "core/offload.h"
#include "dlq/fires.h"
#include "dlq/letters.h"
#include "dlq/replays.h"
#include "tests/support/support.h"
#include "workers/dispatch.h"

#define CHANGED_MS INT64_C(1767225600000) // of the timer "tick"

// What a run does stands in its message: words apart by blanks. It tells its start in `runs`; `gate` is a FIFO, which opens when the
// test opens it too; `hang` holds a lock with a child until both are gone.
static const char handler[] =
    "import fcntl, os, subprocess\n"
    "DIR = os.environ['DIR']\n"
    "def run(event, context):\n"
    "    message = event['Message'] if isinstance(event, dict) else event\n"
    "    if message == 'quick': return\n"
    "    with open(DIR + '/runs', 'a') as f: f.write(message + '\\n')\n"
    "    if 'gate' in message: open(DIR + '/gate').close()\n"
    "    if 'names' in message: return {'batchItemFailures': [{'itemIdentifier': 'of somebody else'}]}\n"
    "    if 'fail' in message: raise ValueError('no')\n"
    "    if 'hang' in message:\n"
    "        lock = open(DIR + '/lock', 'w')\n"
    "        fcntl.flock(lock, fcntl.LOCK_EX)\n"
    "        open(DIR + '/hangs', 'w').close()\n"
    "        subprocess.run(['sleep', '600'], pass_fds=[lock.fileno()])\n";

struct world {
    char *dir;
    struct loop *loop;
    struct options options;
    struct store *store;
    struct queue *queue, *sync_lane;
    struct registry *registry;
    struct metrics *metrics;
    struct fnlog *log;
    struct ingest *ingest;
    struct letters *letters;
    struct fires *fires;
    struct replays *replays;
    struct dispatch_config config; // of dispatch
    struct runtimes runtimes;
    struct sandbox *sandbox;
    struct dispatch *dispatch;
    int64_t scheduled_ms; // of the last fire
    int gate_fd;          // once it is open
    bool drained;
    int closed;
};

// --- the world --------------------------------------------------------------------------------------------------------

static inline void on_flag(void *arg) {
    *(bool *)arg = true;
}

static inline void on_count(void *arg) {
    ++*(int *)arg;
}

struct answer {
    bool there;
    int code;
    json_t *json;
};

static inline void on_answer(void *arg, int code, const struct err *err) {
    struct answer *a = arg;
    if (code) print_message("# %s\n", err->text);
    *a = (struct answer){.there = true, .code = code};
}

static inline void on_deployed(void *arg, int code, const struct err *err, const struct version *v) {
    (void)v;
    on_answer(arg, code, err);
}

static inline void on_json(void *arg, int code, const struct err *err, json_t *json) {
    on_answer(arg, code, err);
    ((struct answer *)arg)->json = json;
}

struct statement {
    struct store_job job;
    const char *sql;
    int64_t number; // in the first column of its last row
    struct answer answer;
};

static inline int take_number(void *arg, const struct sql_row *row) {
    *(int64_t *)arg = sql_row_int(row, 0);
    return 0;
}

static inline int run_statement(struct store_job *job, struct sql *sql, struct err *err) {
    struct statement *s = container_of(job, struct statement, job);
    return sql_exec(sql, s->sql, NULL, 0, take_number, &s->number, NULL, err);
}

static inline void statement_done(struct store_job *job, int code, const struct err *err) {
    on_answer(&container_of(job, struct statement, job)->answer, code, err);
}

// sql: a literal.
static inline int64_t execute(struct world *w, const char *sql) {
    struct statement s = {.job = {.run = run_statement, .done = statement_done}, .sql = sql};
    store_submit(w->store, &s.job);
    TURN_UNTIL(w->loop, s.answer.there);
    assert_int_equal(s.answer.code, 0);
    return s.number;
}

static inline void on_function_changed(void *arg, struct str name, struct function *fn) {
    dispatch_function_changed(((struct world *)arg)->dispatch, name, fn);
}

static inline void on_due(void *arg, int64_t due_ms) {
    (void)arg, (void)due_ms;
}

static inline void on_cancel(void *arg, const struct id *id) {
    dispatch_cancel(((struct world *)arg)->dispatch, id);
}

static inline void set(struct world *w, const char *name, const char *value) {
    struct err err = {0};
    if (options_set(&w->options, name, value, "test", &err)) fail_msg("%s", err.text);
}

static inline struct queue *open_queue(struct world *w) {
    const struct queue_config config = {.loop = w->loop, .url = "memory:", .max_messages = 10000};
    struct queue *q = NULL;
    assert_int_equal(queue_open(&config, &q, NULL), 0);
    return q;
}

static inline void make_parts(struct world *w) {
    w->registry = registry_new(&(struct registry_config){.loop = w->loop,
                                                         .store = w->store,
                                                         .options = &w->options,
                                                         .on_change = on_function_changed,
                                                         .change_arg = w});
    w->ingest = ingest_new(&(struct ingest_config){
        .loop = w->loop, .registry = w->registry, .queue = w->queue, .sync_lane = w->sync_lane, .metrics = w->metrics});
    w->letters = letters_new(w->loop, w->store, w->store, NULL);
    w->fires = fires_new(&(struct fires_config){.loop = w->loop,
                                                .store = w->store,
                                                .letters = w->letters,
                                                .ingest = w->ingest,
                                                .keep_ms = INT64_C(86400000),
                                                .on_cancel = on_cancel,
                                                .arg = w});
    w->replays = replays_new(&(struct replays_config){.loop = w->loop,
                                                      .store = w->store,
                                                      .reader = w->store,
                                                      .letters = w->letters,
                                                      .ingest = w->ingest,
                                                      .metrics = w->metrics,
                                                      .node = "n",
                                                      .look_ms = 40});
    w->config = (struct dispatch_config){.loop = w->loop,
                                         .options = &w->options,
                                         .registry = w->registry,
                                         .queue = w->queue,
                                         .sync_lane = w->sync_lane,
                                         .letters = w->letters,
                                         .fires = w->fires,
                                         .replays = w->replays,
                                         .ingest = w->ingest,
                                         .log = w->log,
                                         .metrics = w->metrics,
                                         .runtimes = &w->runtimes,
                                         .sandbox = w->sandbox,
                                                         .on_due = on_due};
    w->dispatch = dispatch_new(&w->config);
}

static inline char *tar_of_handler(size_t *ret_len) {
    size_t room = 65536;
    char *out = mem_alloc(room);
    struct archive *a = archive_write_new();
    archive_write_set_format_ustar(a);
    archive_write_set_bytes_in_last_block(a, 1);
    assert_int_equal(archive_write_open_memory(a, out, room, ret_len), ARCHIVE_OK);
    struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, "timer.py");
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_perm(e, 0644);
    archive_entry_set_size(e, (la_int64_t)strlen(handler));
    assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
    assert_int_equal(archive_write_data(a, handler, strlen(handler)), strlen(handler));
    archive_entry_free(e);
    archive_write_close(a);
    archive_write_free(a);
    return out;
}

// The function "f", one instance.
static inline void deploy(struct world *w, int retries) {
    struct settings s;
    struct err err = {0};
    size_t len;
    cleanup_free char *json = mem_printf("{\"runtime\":\"python\",\"handler\":\"timer.run\",\"maxInstances\":1,\"retries\":%d,"
                                         "\"timeoutMs\":900000,\"env\":{\"DIR\":\"%s\"}}", retries, w->dir);
    settings_init(&s);
    if (settings_from_json(str_of(json), &s, &err)) fail_msg("%s", err.text);
    char *tar = tar_of_handler(&len);
    struct answer a = {0};
    registry_deploy(w->registry, STR_LIT("f"), &s, tar, len, true, on_deployed, &a);
    TURN_UNTIL(w->loop, a.there);
    assert_int_equal(a.code, 0);
}

static inline int setup(void **state) {
    struct world *w = mem_zalloc(sizeof *w);
    struct err err = {0};
    w->dir = temp_dir_new();
    w->loop = loop_new();
    w->gate_fd = -1;
    cleanup_free char *gate = mem_printf("%s/gate", w->dir);
    assert_int_equal(mkfifo(gate, 0600), 0);
    options_init(&w->options);
    set(w, "data", w->dir);
    set(w, "spare-instances", "0");
    cleanup_free char *url = mem_printf("sqlite:%s/weir.db", w->dir), *code = mem_printf("%s/versions", w->dir);
    if (store_open(w->loop, url, &w->store, &err)) fail_msg("%s", err.text);
    if (runtimes_load("runtimes", &w->runtimes, &err)) fail_msg("%s", err.text);
    if (sandbox_open("none", w->dir, code, &w->runtimes, &w->sandbox, &err)) fail_msg("%s", err.text);
    w->queue = open_queue(w);
    w->sync_lane = open_queue(w);
    w->metrics = metrics_new();
    w->log = fnlog_new(w->loop, 1 << 20);
    w->scheduled_ms = CHANGED_MS;
    make_parts(w);
    struct answer a = {0};
    registry_load(w->registry, on_answer, &a);
    TURN_UNTIL(w->loop, a.there);
    fires_start(w->fires);
    deploy(w, 0);
    execute(w, "INSERT INTO triggers (name, function, kind, settings, state, epoch, created_ms, changed_ms)"
               " VALUES ('tick', 'f', 'timer', '{}', 'active', 0, 1767225600000, 1767225600000)");
    *state = w;
    return 0;
}

static inline void drain(struct world *w) {
    if (w->drained) return;
    dispatch_drain(w->dispatch, 0, on_flag, &w->drained);
    TURN_UNTIL(w->loop, w->drained);
}

static inline int teardown(void **state) {
    struct world *w = *state;
    drain(w);
    TURN_UNTIL(w->loop, replays_stop(w->replays));
    TURN_UNTIL(w->loop, fires_stop(w->fires));
    dispatch_free(w->dispatch);
    queue_close(w->queue, on_count, &w->closed);
    queue_close(w->sync_lane, on_count, &w->closed);
    TURN_UNTIL(w->loop, w->closed == 2);
    replays_free(w->replays);
    fires_free(w->fires);
    letters_free(w->letters);
    ingest_free(w->ingest);
    registry_free(w->registry);
    store_close(w->store);
    metrics_free(w->metrics);
    fnlog_free(w->log);
    sandbox_free(w->sandbox);
    runtimes_done(&w->runtimes);
    offload_wait(w->loop);
    loop_free(w->loop);
    options_done(&w->options);
    if (w->gate_fd >= 0) close(w->gate_fd);
    temp_dir_remove(w->dir);
    free(w);
    return 0;
}

static inline bool exists(struct world *w, const char *name) {
    cleanup_free char *path = mem_printf("%s/%s", w->dir, name);
    return access(path, F_OK) == 0;
}

static inline void open_gate(struct world *w) {
    cleanup_free char *path = mem_printf("%s/gate", w->dir);
    w->gate_fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(w->gate_fd >= 0);
}

// How often a run with this message has begun.
static inline unsigned runs(struct world *w, const char *message) {
    cleanup_free char *path = mem_printf("%s/runs", w->dir);
    cleanup_file FILE *f = fopen(path, "re");
    char line[100];
    unsigned n = 0;
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        n += strcmp(line, message) == 0;
    }
    return n;
}

struct depth {
    bool there;
    uint64_t ready, unsettled;
};

static inline void on_depth(void *arg, int code, uint64_t ready, uint64_t unsettled, int64_t oldest_ms) {
    (void)oldest_ms;
    assert_int_equal(code, 0);
    *(struct depth *)arg = (struct depth){true, ready, unsettled};
}

// Events that the queue has: handed out and not acknowledged, or waiting.
static inline uint64_t on_queue(struct world *w) {
    struct depth d = {0};
    queue_depth(w->queue, STR_LIT("f"), on_depth, &d);
    TURN_UNTIL(w->loop, d.there);
    return d.ready + d.unsettled;
}

// Letters of "f" in this state.
static inline size_t letters(struct world *w, const char *state) {
    struct answer a = {0};
    struct err err = {0};
    struct selection *sel = NULL;
    if (selection_new(&(struct select_spec){.state = str_of(state)}, &sel, &err)) fail_msg("%s", err.text);
    letters_list(w->letters, sel, &(struct letter_page){.limit = 1000}, on_json, &a);
    TURN_UNTIL(w->loop, a.there);
    assert_int_equal(a.code, 0);
    size_t n = json_array_size(json_object_get(a.json, "letters"));
    json_decref(a.json);
    return n;
}

#endif
