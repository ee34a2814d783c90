// SPDX-License-Identifier: Apache-2.0
// workers/dispatch with the fires of timers, all parts real: a SQLite store, queues in memory, instances of Python. A fire is acknowledged
// after its end is durable, and one that was cancelled is stopped wherever it is, without a letter and without harm to others.
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
#include "tests/support/support.h"
#include "workers/dispatch.h"

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

#define CHANGED_MS INT64_C(1767225600000) // of the timer "tick"

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
    struct runtimes runtimes;
    struct sandbox *sandbox;
    struct dispatch *dispatch;
    int64_t scheduled_ms; // of the last fire
    int gate_fd;          // once it is open
    bool drained;
    int closed;
};

// --- the world --------------------------------------------------------------------------------------------------------

static void on_flag(void *arg) {
    *(bool *)arg = true;
}

static void on_count(void *arg) {
    ++*(int *)arg;
}

struct answer {
    bool there;
    int code;
    json_t *json;
};

static void on_answer(void *arg, int code, const struct err *err) {
    struct answer *a = arg;
    if (code) print_message("# %s\n", err->text);
    *a = (struct answer){.there = true, .code = code};
}

static void on_deployed(void *arg, int code, const struct err *err, const struct version *v) {
    (void)v;
    on_answer(arg, code, err);
}

static void on_json(void *arg, int code, const struct err *err, json_t *json) {
    on_answer(arg, code, err);
    ((struct answer *)arg)->json = json;
}

struct statement {
    struct store_job job;
    const char *sql;
    int64_t number; // in the first column of its last row
    struct answer answer;
};

static int take_number(void *arg, const struct sql_row *row) {
    *(int64_t *)arg = sql_row_int(row, 0);
    return 0;
}

static int run_statement(struct store_job *job, struct sql *sql, struct err *err) {
    struct statement *s = container_of(job, struct statement, job);
    return sql_exec(sql, s->sql, NULL, 0, take_number, &s->number, NULL, err);
}

static void statement_done(struct store_job *job, int code, const struct err *err) {
    on_answer(&container_of(job, struct statement, job)->answer, code, err);
}

// sql: a literal.
static int64_t execute(struct world *w, const char *sql) {
    struct statement s = {.job = {.run = run_statement, .done = statement_done}, .sql = sql};
    store_submit(w->store, &s.job);
    TURN_UNTIL(w->loop, s.answer.there);
    assert_int_equal(s.answer.code, 0);
    return s.number;
}

static void on_function_changed(void *arg, struct str name, struct function *fn) {
    dispatch_function_changed(((struct world *)arg)->dispatch, name, fn);
}

static void on_due(void *arg, int64_t due_ms) {
    (void)arg, (void)due_ms;
}

static void on_cancel(void *arg, const struct id *id) {
    dispatch_cancel(((struct world *)arg)->dispatch, id);
}

static void set(struct world *w, const char *name, const char *value) {
    struct err err = {0};
    if (options_set(&w->options, name, value, "test", &err)) fail_msg("%s", err.text);
}

static struct queue *open_queue(struct world *w) {
    const struct queue_config config = {.loop = w->loop, .url = "memory:", .max_messages = 10000};
    struct queue *q = NULL;
    assert_int_equal(queue_open(&config, &q, NULL), 0);
    return q;
}

static void make_parts(struct world *w) {
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
    w->dispatch = dispatch_new(&(struct dispatch_config){.loop = w->loop,
                                                         .options = &w->options,
                                                         .registry = w->registry,
                                                         .queue = w->queue,
                                                         .sync_lane = w->sync_lane,
                                                         .letters = w->letters,
                                                         .fires = w->fires,
                                                         .ingest = w->ingest,
                                                         .log = w->log,
                                                         .metrics = w->metrics,
                                                         .runtimes = &w->runtimes,
                                                         .sandbox = w->sandbox,
                                                         .on_due = on_due});
}

static char *tar_of_handler(size_t *ret_len) {
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
static void deploy(struct world *w, int retries) {
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

static int setup(void **state) {
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

static void drain(struct world *w) {
    if (w->drained) return;
    dispatch_drain(w->dispatch, 0, on_flag, &w->drained);
    TURN_UNTIL(w->loop, w->drained);
}

static int teardown(void **state) {
    struct world *w = *state;
    drain(w);
    TURN_UNTIL(w->loop, fires_stop(w->fires));
    dispatch_free(w->dispatch);
    queue_close(w->queue, on_count, &w->closed);
    queue_close(w->sync_lane, on_count, &w->closed);
    TURN_UNTIL(w->loop, w->closed == 2);
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

// --- what a test does ---------------------------------------------------------------------------------------------------

// The event of the next minute's fire of the timer "tick".
static struct ev *next_event(struct world *w, const char *shape, const char *message) {
    w->scheduled_ms += 60000;
    char time[CLOCK_TEXT_BYTES];
    clock_format_utc(w->scheduled_ms, time);
    cleanup_free char *at = mem_printf("{\"time\":\"%.19sZ\"}", time);
    return ev_new(&(struct ev_fields){.id = fire_id(STR_LIT("tick"), CHANGED_MS, w->scheduled_ms),
                                      .function = STR_LIT("f"),
                                      .source_kind = STR_LIT(FIRE_SOURCE),
                                      .source_name = STR_LIT("tick"),
                                      .source_at = str_of(at),
                                      .shape = str_of(shape),
                                      .payload = str_of(message)});
}

// By hand, with a row: known to `fires` until it has ended.
static struct id put_event(struct world *w, struct ev *ev) {
    const struct fire fire = {.scheduled_ms = w->scheduled_ms, .cause = FIRE_MANUAL, .ev = ev};
    struct id id = ev->f.id;
    struct answer a = {0};
    fires_put(w->fires, "tick", &fire, on_answer, &a);
    TURN_UNTIL(w->loop, a.there);
    assert_int_equal(a.code, 0);
    return id;
}

static struct id put(struct world *w, const char *message) {
    return put_event(w, next_event(w, "scf", message));
}

static void on_sent(void *arg, int code, const struct err *err) {
    (void)arg, (void)err;
    assert_int_equal(code, 0);
}

// On its queue at once, without a row.
static struct id send_event(struct world *w, struct ev *ev) {
    struct id id = ev->f.id;
    ingest_async(w->ingest, ev, on_sent, NULL);
    return id;
}

static struct id send(struct world *w, const char *message) {
    return send_event(w, next_event(w, "scf", message));
}

static bool exists(struct world *w, const char *name) {
    cleanup_free char *path = mem_printf("%s/%s", w->dir, name);
    return access(path, F_OK) == 0;
}

static void open_gate(struct world *w) {
    cleanup_free char *path = mem_printf("%s/gate", w->dir);
    w->gate_fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(w->gate_fd >= 0);
}

// How often a run with this message has begun.
static unsigned runs(struct world *w, const char *message) {
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

// Neither the run nor what it started is there any more.
static bool is_unlocked(struct world *w) {
    cleanup_free char *path = mem_printf("%s/lock", w->dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    bool free_now = flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return free_now;
}

struct depth {
    bool there;
    uint64_t ready, unsettled;
};

static void on_depth(void *arg, int code, uint64_t ready, uint64_t unsettled, int64_t oldest_ms) {
    (void)oldest_ms;
    assert_int_equal(code, 0);
    *(struct depth *)arg = (struct depth){true, ready, unsettled};
}

// Events that the queue has: handed out and not acknowledged, or waiting.
static uint64_t on_queue(struct world *w) {
    struct depth d = {0};
    queue_depth(w->queue, STR_LIT("f"), on_depth, &d);
    TURN_UNTIL(w->loop, d.there);
    return d.ready + d.unsettled;
}

// The outcome of the fire with this id, of those of "tick".
static bool has_ended(struct world *w, const struct id *id, const char *outcome) {
    struct answer a = {0};
    char text[ID_TEXT_BYTES];
    id_format(id, text);
    fires_history(w->fires, STR_LIT("tick"), 0, 1000, on_json, &a);
    TURN_UNTIL(w->loop, a.there);
    assert_int_equal(a.code, 0);
    bool found = false;
    size_t i;
    const json_t *fire;
    json_array_foreach(json_object_get(a.json, "fires"), i, fire) {
        const char *request = json_string_value(json_object_get(fire, "requestId"));
        if (request && strcmp(request, text) == 0) found = strcmp(json_string_value(json_object_get(fire, "outcome")), outcome) == 0;
    }
    json_decref(a.json);
    return found;
}

// Letters of "f" in this state.
static size_t letters(struct world *w, const char *state) {
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

// The store takes no letter, or no end of a fire.
static void refuse_letters(struct world *w) {
    execute(w, "CREATE TRIGGER no_letters BEFORE INSERT ON letters BEGIN SELECT RAISE(ABORT, 'no letters today'); END");
}

static void take_letters(struct world *w) {
    execute(w, "DROP TRIGGER no_letters");
}

static void refuse_ends(struct world *w) {
    execute(w, "CREATE TRIGGER no_ends BEFORE UPDATE ON fires BEGIN SELECT RAISE(ABORT, 'no ends today'); END");
}

static void take_ends(struct world *w) {
    execute(w, "DROP TRIGGER no_ends");
}

// Fires whose end is not known. It is asked after whatever the store was asked before, so what was refused has been by now.
static int64_t open_fires(struct world *w) {
    int64_t n = 0;
    for (int i = 0; i < 2; i++) n = execute(w, "SELECT count(*) FROM fires WHERE ended_ms IS NULL");
    return n;
}

static double ok(struct world *w) {
    return metrics_get(w->metrics, METRIC_EVENTS_OK, STR_LIT("f"));
}

static double failed(struct world *w) {
    return metrics_get(w->metrics, METRIC_ATTEMPTS_FAILED, STR_LIT("f"));
}

struct found {
    const char *text;
    const struct id *event;
    bool yes;
};

static void on_line(void *arg, const struct fnlog_line *line) {
    struct found *f = arg;
    if (id_eq(&line->event, f->event) && memmem(line->text.data, line->text.len, f->text, strlen(f->text))) f->yes = true;
}

static bool log_says(struct world *w, const struct id *event, const char *text) {
    struct found f = {text, event, false};
    fnlog_read(w->log, STR_LIT("f"), 0, 10000, on_line, &f);
    return f.yes;
}

// --- the end of a fire --------------------------------------------------------------------------------------------------

static void a_fire_that_returned_has_ended(void **state) {
    struct world *w = *state;
    struct id shaped = put(w, "one"), raw = put_event(w, next_event(w, "raw", "two"));
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_true(has_ended(w, &shaped, "ok"));
    assert_true(has_ended(w, &raw, "ok"));
    assert_int_equal(open_fires(w), 0);
    assert_int_equal(runs(w, "one"), 1); // it saw the shape: the message is in its place
    assert_int_equal(runs(w, "two"), 1);
    assert_true(ok(w) == 2);
}

static void a_fire_is_acknowledged_after_its_end_is_durable(void **state) {
    struct world *w = *state;
    refuse_ends(w);
    struct id id = put(w, "one");
    TURN_UNTIL(w->loop, ok(w) == 1);
    assert_int_equal(open_fires(w), 1);
    assert_int_equal(on_queue(w), 1);
    take_ends(w);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_true(has_ended(w, &id, "ok"));
    assert_int_equal(runs(w, "one"), 1); // the handler is not run again
    assert_true(ok(w) == 1);
}

static void a_dead_fire_is_acknowledged_after_its_letter_and_its_end(void **state) {
    struct world *w = *state;
    struct id id = put(w, "gate fail");
    TURN_UNTIL(w->loop, runs(w, "gate fail") == 1);
    refuse_letters(w);
    refuse_ends(w);
    open_gate(w);
    TURN_UNTIL(w->loop, failed(w) == 1);
    assert_int_equal(open_fires(w), 1);
    assert_int_equal(on_queue(w), 1);
    take_letters(w);
    TURN_UNTIL(w->loop, letters(w, "dead") == 1);
    assert_int_equal(open_fires(w), 1);
    assert_int_equal(on_queue(w), 1);
    take_ends(w);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_true(has_ended(w, &id, "dead"));
    assert_int_equal(letters(w, "dead"), 1);
    assert_int_equal(open_fires(w), 0);
    assert_int_equal(runs(w, "gate fail"), 1);
}

// Its event is not fit to run: refused.
static void a_fire_that_cannot_run_has_ended(void **state) {
    struct world *w = *state;
    struct id id = put_event(w, next_event(w, "no shape", "one"));
    TURN_UNTIL(w->loop, letters(w, "dead") == 1);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_true(has_ended(w, &id, "dead"));
    assert_int_equal(open_fires(w), 0);
    assert_int_equal(runs(w, "one"), 0);
}

static void a_fire_that_is_tried_again_goes_on(void **state) {
    struct world *w = *state;
    deploy(w, 1);
    struct id id = put(w, "fail");
    TURN_UNTIL(w->loop, letters(w, "due") == 1);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_true(has_ended(w, &id, "retrying"));
    assert_int_equal(open_fires(w), 1);
}

static void a_fire_is_no_batch(void **state) {
    struct world *w = *state;
    struct id id = put(w, "names");
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_true(has_ended(w, &id, "ok"));
}

// It has the timer as its source and its shape, but another id.
static void a_replay_ends_no_fire(void **state) {
    struct world *w = *state;
    execute(w, "ALTER TABLE fires RENAME TO away");
    struct ev *ev = next_event(w, "scf", "one");
    ev->f.origin_id = ev->f.id;
    ev->f.id = id_new();
    send_event(w, ev);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    execute(w, "ALTER TABLE away RENAME TO fires");
    assert_int_equal(runs(w, "one"), 1);
    assert_true(ok(w) == 1);
}

static void a_drain_gives_back_a_fire_that_cannot_be_ended(void **state) {
    struct world *w = *state;
    refuse_ends(w);
    put(w, "one");
    TURN_UNTIL(w->loop, ok(w) == 1);
    drain(w);
    assert_int_equal(on_queue(w), 1);
    take_ends(w);
    assert_int_equal(open_fires(w), 1);
}

// --- cancelling -----------------------------------------------------------------------------------------------------------

static size_t all_letters(struct world *w) {
    return letters(w, "due") + letters(w, "dead");
}

// Nothing of it is charged to anybody.
static void check_harmless(struct world *w) {
    assert_int_equal(all_letters(w), 0);
    assert_true(failed(w) == 0);
    json_t *status = dispatch_status(w->dispatch);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(status, 0), "failed")), 0);
    json_decref(status);
}

static void a_running_fire_is_stopped(void **state) {
    struct world *w = *state;
    struct id id = put(w, "hang");
    TURN_UNTIL(w->loop, exists(w, "hangs"));
    assert_false(is_unlocked(w));
    dispatch_cancel(w->dispatch, &id);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    TURN_UNTIL(w->loop, is_unlocked(w)); // what it had started is gone too
    check_harmless(w);
    assert_true(ok(w) == 0);
    assert_true(log_says(w, &id, "this fire was stopped"));
    put(w, "after");
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_int_equal(runs(w, "after"), 1);
}

// The next events go to an instance together once its handler is known to be fast.
static void warm_up(struct world *w) {
    for (int i = 0; i < 300; i++) send(w, "quick");
    TURN_UNTIL(w->loop, on_queue(w) == 0);
}

static void those_behind_a_stopped_one_are_not_to_blame(void **state) {
    struct world *w = *state;
    warm_up(w);
    struct id id = send(w, "hang");
    for (int i = 0; i < 5; i++) send(w, "other");
    TURN_UNTIL(w->loop, exists(w, "hangs"));
    dispatch_cancel(w->dispatch, &id);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_int_equal(runs(w, "hang"), 1);
    assert_int_equal(runs(w, "other"), 5);
    assert_true(ok(w) == 305);
    check_harmless(w);
}

static void the_one_before_a_cancelled_one_is_not_disturbed(void **state) {
    struct world *w = *state;
    warm_up(w);
    send(w, "gate");
    struct id id = send(w, "hang");
    send(w, "other");
    TURN_UNTIL(w->loop, runs(w, "gate") == 1);
    dispatch_cancel(w->dispatch, &id);
    open_gate(w);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    TURN_UNTIL(w->loop, is_unlocked(w));
    assert_int_equal(runs(w, "gate"), 1);
    assert_int_equal(runs(w, "other"), 1);
    assert_true(ok(w) == 302);
    assert_true(log_says(w, &id, "this fire was"));
    check_harmless(w);
}

static void a_waiting_fire_is_taken_out(void **state) {
    struct world *w = *state;
    send(w, "gate");
    struct id shaped = send(w, "two"), raw = send_event(w, next_event(w, "raw", "three"));
    TURN_UNTIL(w->loop, runs(w, "gate") == 1);
    dispatch_cancel(w->dispatch, &shaped);
    dispatch_cancel(w->dispatch, &raw);
    TURN_UNTIL(w->loop, on_queue(w) == 1); // while the other still runs
    open_gate(w);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_int_equal(runs(w, "two") + runs(w, "three"), 0);
    assert_true(log_says(w, &shaped, "this fire was not run"));
    assert_true(log_says(w, &raw, "this fire was not run"));
    assert_true(ok(w) == 1);
    check_harmless(w);
}

static void a_fire_that_is_not_here_concerns_nobody(void **state) {
    struct world *w = *state;
    struct id other = id_new(), gone = put(w, "one");
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    struct id id = put(w, "gate");
    TURN_UNTIL(w->loop, runs(w, "gate") == 1);
    dispatch_cancel(w->dispatch, &other);
    dispatch_cancel(w->dispatch, &gone);
    open_gate(w);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_true(has_ended(w, &id, "ok"));
    assert_true(has_ended(w, &gone, "ok"));
}

struct decided {
    bool there, made;
};

static void on_decided(void *arg, int code, const struct err *err, const struct fire_verdict *verdicts) {
    if (code) fail_msg("%s", err->text);
    *(struct decided *)arg = (struct decided){true, verdicts[0].made};
}

// The next fire, as the schedule of "tick" decides it.
static struct id decide(struct world *w, const char *message, enum fire_overlap overlap) {
    struct ev *ev = next_event(w, "scf", message);
    struct id id = ev->f.id;
    struct fire fire = {.scheduled_ms = w->scheduled_ms, .cause = FIRE_SCHEDULED, .ev = ev};
    const struct fire_plan plan = {.trigger = "tick",
                                   .changed_ms = CHANGED_MS,
                                   .from_ms = w->scheduled_ms - 60000,
                                   .to_ms = w->scheduled_ms,
                                   .overlap = overlap,
                                   .stale_ms = INT64_C(86400000),
                                   .fires = &fire,
                                   .count = 1};
    struct decided d = {0};
    fires_decide(w->fires, &plan, 1, on_decided, &d);
    TURN_UNTIL(w->loop, d.there);
    assert_true(d.made);
    return id;
}

static void the_next_fire_stops_the_one_before(void **state) {
    struct world *w = *state;
    struct id first = decide(w, "hang", FIRE_CANCEL);
    TURN_UNTIL(w->loop, exists(w, "hangs"));
    struct id second = decide(w, "one", FIRE_CANCEL);
    TURN_UNTIL(w->loop, runs(w, "one") == 1);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_true(has_ended(w, &first, "cancelled"));
    assert_true(has_ended(w, &second, "ok"));
    check_harmless(w);
    // Its queue did not learn of the acknowledgement, and delivers it again.
    w->scheduled_ms -= 2 * 60000;
    struct ev *again = next_event(w, "scf", "hang");
    assert_true(id_eq(&again->f.id, &first));
    send_event(w, again);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    assert_int_equal(runs(w, "hang"), 1);
    assert_true(log_says(w, &first, "this fire was not run"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_fire_that_returned_has_ended),
        TEST(a_fire_is_acknowledged_after_its_end_is_durable),
        TEST(a_dead_fire_is_acknowledged_after_its_letter_and_its_end),
        TEST(a_fire_that_cannot_run_has_ended),
        TEST(a_fire_that_is_tried_again_goes_on),
        TEST(a_fire_is_no_batch),
        TEST(a_replay_ends_no_fire),
        TEST(a_drain_gives_back_a_fire_that_cannot_be_ended),
        TEST(a_running_fire_is_stopped),
        TEST(those_behind_a_stopped_one_are_not_to_blame),
        TEST(the_one_before_a_cancelled_one_is_not_disturbed),
        TEST(a_waiting_fire_is_taken_out),
        TEST(a_fire_that_is_not_here_concerns_nobody),
        TEST(the_next_fire_stops_the_one_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
