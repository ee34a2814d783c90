// SPDX-License-Identifier: Apache-2.0
// Fires over both stores: of all nodes one decides a scheduled time, once, and what became of it is known.
#include <dlfcn.h>
#include <semaphore.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/fault.h"
#include "core/ingest.h"
#include "dlq/due.h"
#include "dlq/fires.h"
#include "tests/support/registry_look.h"
#include "tests/support/store_fixture.h"

#define HOUR_MS INT64_C(3600000)
#define CREATED_MS INT64_C(1000)

static char *postgres_url, *postgres_dir;

// --- the wall clock of this process -----------------------------------------------------------------------------------

static int64_t wall_ahead_s;

int clock_gettime(clockid_t id, struct timespec *ts) {
    int rc = (int)syscall(SYS_clock_gettime, id, ts);
    if (id == CLOCK_REALTIME) ts->tv_sec += wall_ahead_s;
    return rc;
}

// --- how SQLite goes about the statements on fires ----------------------------------------------------------------------

static size_t plans_seen, plans_bad;

// All rows of a timer, or of those behind it.
static bool is_through_history(const char *step) {
    return strstr(step, "USING PRIMARY KEY (trigger=?)") || strstr(step, "USING PRIMARY KEY (trigger>?)");
}

int sqlite3_prepare_v3(sqlite3 *db, const char *text, int bytes, unsigned flags, sqlite3_stmt **ret, const char **tail) {
    int (*real)(sqlite3 *, const char *, int, unsigned, sqlite3_stmt **, const char **);
    *(void **)&real = dlsym(RTLD_NEXT, "sqlite3_prepare_v3");
    sqlite3_stmt *plan;
    cleanup_free char *question = mem_printf("EXPLAIN QUERY PLAN %s", text);
    if (strstr(text, "fires") && real(db, question, -1, 0, &plan, NULL) == SQLITE_OK) {
        while (sqlite3_step(plan) == SQLITE_ROW) {
            plans_seen++;
            if (!is_through_history((const char *)sqlite3_column_text(plan, 3))) continue;
            plans_bad++;
            print_message("# %s: %s\n", sqlite3_column_text(plan, 3), text);
        }
        sqlite3_finalize(plan);
    }
    return real(db, text, bytes, flags, ret, tail);
}

// --- a registry that has every function whose name begins with f ---------------------------------------------------------

static struct version version_1 = {.refs = 1, .function = (char[]){"f"}, .number = 1, .settings = {.timeout_ms = 30000}};

int registry_resolve(struct registry *r, struct str name, struct str qualifier, struct version **ret, struct err *err) {
    (void)r, (void)qualifier;
    if (!str_starts(name, "f")) return err_set(err, ERR_NOT_FOUND, "there is no function %.*s", STR_ARG(name));
    *ret = &version_1;
    return 0;
}

struct version *version_ref(struct version *v) {
    v->refs++;
    return v;
}

void version_unref(struct version *v) {
    v->refs--;
}

// --- nodes ------------------------------------------------------------------------------------------------------------

struct got { // events from all queues
    struct ev *ev[32768];
    size_t count;
};

struct node {
    struct world *world;
    struct store *store;
    struct letters *letters;
    struct queue *queue;
    struct queue_consumer *consumer;
    struct metrics *metrics;
    struct registry registry;
    struct ingest *ingest;
    struct due *due;
    struct fires *fires;
    struct id cancelled[16];  // the first of them
    size_t cancelled_count;
    size_t hints;            // to dlq/due
};

struct world {
    struct store_fixture fx; // for call(): its store is the first node's
    bool postgres;
    char *dir, *url, *function;
    struct node *a, *b;      // b only when a test wants it
    struct got *got;
    int64_t keep_ms;
    size_t rows_max;
    const char *queue_url;
    struct store *queue_store; // NULL: the node's
};

static void on_messages(void *arg, struct queue_msg *msgs, size_t count) {
    struct node *n = arg;
    for (size_t i = 0; i < count; i++) {
        struct got *got = n->world->got;
        assert_true(got->count < array_len(got->ev));
        got->ev[got->count++] = msgs[i].ev;
        queue_ack(n->consumer, msgs[i].tag);
    }
}

static void on_cancel(void *arg, const struct id *id) {
    struct node *n = arg;
    if (n->cancelled_count < array_len(n->cancelled)) n->cancelled[n->cancelled_count] = *id;
    n->cancelled_count++;
}

static void on_due(void *arg, int64_t due_ms) {
    struct node *n = arg;
    n->hints++;
    due_hint(n->due, due_ms);
}

static struct node *node_new(struct world *w) {
    struct node *n = mem_zalloc(sizeof *n);
    n->world = w;
    struct err err = {0};
    if (store_open(w->fx.loop, w->url, &n->store, &err)) fail_msg("%s", err.text);
    n->letters = letters_new(w->fx.loop, n->store, n->store, NULL);
    const struct queue_config queue = {.loop = w->fx.loop, .url = w->queue_url,
                                       .store = w->queue_store ? w->queue_store : n->store};
    if (queue_open(&queue, &n->queue, &err)) fail_msg("%s", err.text);
    n->metrics = metrics_new();
    registry_look_init(&n->registry, w->fx.loop);
    const struct ingest_config ingest = {.loop = w->fx.loop, .registry = &n->registry, .queue = n->queue, .sync_lane = n->queue, .metrics = n->metrics};
    n->ingest = ingest_new(&ingest);
    const struct queue_consumer_config consumer = {.function = str_of(w->function), .credit = 60000, .credit_bytes = 64 << 20,
                                                   .on_messages = on_messages, .arg = n};
    n->consumer = queue_consume(n->queue, &consumer);
    n->due = due_new(w->fx.loop, n->letters, n->ingest);
    const struct fires_config fires = {.loop = w->fx.loop, .store = n->store, .letters = n->letters, .ingest = n->ingest,
                                       .keep_ms = w->keep_ms, .rows_max = w->rows_max, .on_cancel = on_cancel, .on_due = on_due,
                                       .arg = n};
    n->fires = fires_new(&fires);
    return n;
}

static void on_queue_closed(void *arg) {
    *(bool *)arg = true;
}

static void node_free(struct node *n) {
    if (!n) return;
    struct loop *loop = n->world->fx.loop;
    bool closed = false;
    TURN_UNTIL(loop, due_stop(n->due));
    TURN_UNTIL(loop, fires_stop(n->fires));
    queue_consumer_close(n->consumer);
    queue_close(n->queue, on_queue_closed, &closed);
    TURN_UNTIL(loop, closed);
    fires_free(n->fires);
    due_free(n->due);
    ingest_free(n->ingest);
    registry_look_done(&n->registry);
    letters_free(n->letters);
    store_close(n->store);
    metrics_free(n->metrics);
    free(n);
}

static void open_a(struct world *w) {
    w->a = node_new(w);
    w->fx.store = w->a->store;
}

static struct world *world_new(bool postgres) {
    struct world *w = mem_zalloc(sizeof *w);
    *w = (struct world){.postgres = postgres, .dir = temp_dir_new(), .keep_ms = 24 * HOUR_MS, .queue_url = "memory:"};
    w->fx.loop = loop_new();
    w->url = postgres ? mem_strdup(postgres_url) : mem_printf("sqlite:%s/weir.db", w->dir);
    w->got = mem_zalloc(sizeof *w->got);
    struct id id = id_new();
    char text[ID_TEXT_BYTES];
    id_format(&id, text);
    w->function = mem_printf("f%s", text);
    open_a(w);
    return w;
}

static int setup_sqlite(void **state) {
    *state = world_new(false);
    return 0;
}

static int setup_postgres(void **state) {
    *state = world_new(true);
    return 0;
}

struct question {
    const char *text;
    int64_t n;
};

static int ask(void *arg, struct sql *sql, struct err *err) {
    struct question *q = arg;
    return sql_exec(sql, q->text, NULL, 0, read_int, &q->n, NULL, err);
}

static int64_t number(struct world *w, const char *text) {
    struct question q = {text, 0};
    assert_int_equal(call(&w->fx, ask, &q), 0);
    return q.n;
}

static void change(struct world *w, const char *text) {
    number(w, text);
}

static int teardown(void **state) {
    struct world *w = *state;
    wall_ahead_s = 0;
    change(w, "DELETE FROM functions"); // and all that hangs on them
    change(w, "DELETE FROM letters");
    node_free(w->b);
    node_free(w->a);
    if (w->queue_store) store_close(w->queue_store);
    for (size_t i = 0; i < w->got->count; i++) ev_free(w->got->ev[i]);
    loop_free(w->fx.loop);
    temp_dir_remove(w->dir);
    free(w->url);
    free(w->function);
    free(w->got);
    free(w);
    assert_int_equal(version_1.refs, 1);
    return 0;
}

// --- triggers and plans -----------------------------------------------------------------------------------------------

struct named {
    const struct world *world;
    const char *name;
    size_t count;
};

// "<name>", or "<name>0"… when there are several.
static int insert_triggers(void *arg, struct sql *sql, struct err *err) {
    const struct named *n = arg;
    const struct sql_value fn = SQL_Z(n->world->function);
    int rc = sql_exec(sql, "INSERT INTO functions (name, current, created_ms) VALUES ($1, 1, 1) ON CONFLICT (name) DO NOTHING", &fn, 1,
                      NULL, NULL, NULL, err);
    for (size_t i = 0; i < (n->count ? n->count : 1) && rc == 0; i++) {
        cleanup_free char *name = n->count ? mem_printf("%s%zu", n->name, i) : mem_strdup(n->name);
        const struct sql_value v[] = {SQL_Z(name), fn, SQL_I(CREATED_MS)};
        rc = sql_exec(sql,
                      "INSERT INTO triggers (name, function, kind, settings, state, epoch, created_ms, changed_ms)"
                      " VALUES ($1, $2, 'timer', '{}', 'active', 0, $3, $3)",
                      v, 3, NULL, NULL, NULL, err);
    }
    return rc;
}

static void add_triggers(struct world *w, const char *name, size_t count) {
    struct named n = {w, name, count};
    assert_int_equal(call(&w->fx, insert_triggers, &n), 0);
}

static struct ev *fire_event(const struct world *w, const char *trigger, int64_t at_ms) {
    const struct ev_fields f = {.id = fire_id(str_of(trigger), CREATED_MS, at_ms), .function = str_of(w->function), .accepted_ms = at_ms,
                                .source_kind = STR_LIT(FIRE_SOURCE), .source_name = str_of(trigger), .payload = STR_LIT("p")};
    return ev_new(&f);
}

struct decision {
    bool done;
    int code;
    struct err err;
    struct fire_plan *plans;
    struct fire fires[8];
    struct fire_verdict *verdicts;
    size_t count;
};

static void on_decided(void *arg, int code, const struct err *err, const struct fire_verdict *verdicts) {
    struct decision *d = arg;
    assert_false(d->done);
    d->done = true;
    d->code = code;
    if (code) d->err = *err;
    else memcpy(d->verdicts, verdicts, d->count * sizeof *verdicts);
}

// One plan of one trigger: every time of `times` (ended by 0) happens.
struct one {
    const char *trigger;
    int64_t from_ms, to_ms;
    enum fire_overlap overlap;
    int64_t stale_ms, changed_ms;
    int64_t times[8];
};

static void start_one(struct node *n, const struct one *o, struct decision *d, struct fire_plan *p, struct fire_verdict *v) {
    *d = (struct decision){.plans = p, .verdicts = v, .count = 1};
    *p = (struct fire_plan){.trigger = o->trigger,
                            .changed_ms = o->changed_ms ? o->changed_ms : CREATED_MS,
                            .from_ms = o->from_ms,
                            .to_ms = o->to_ms,
                            .overlap = o->overlap,
                            .stale_ms = o->stale_ms,
                            .fires = d->fires};
    for (; o->times[p->count]; p->count++)
        d->fires[p->count] = (struct fire){.scheduled_ms = o->times[p->count], .ev = fire_event(n->world, o->trigger, o->times[p->count])};
    fires_decide(n->fires, p, 1, on_decided, d);
}

static struct fire_verdict decide(struct node *n, struct one o) {
    struct decision d;
    struct fire_plan p;
    struct fire_verdict v;
    start_one(n, &o, &d, &p, &v);
    TURN_UNTIL(n->world->fx.loop, d.done);
    if (d.code) fail_msg("%s", d.err.text);
    return v;
}

// The next plan of a trigger: it fires at at_ms.
static void fire_at(struct node *n, const char *trigger, int64_t from_ms, int64_t at_ms, enum fire_overlap overlap) {
    struct fire_verdict v = decide(n, (struct one){.trigger = trigger, .from_ms = from_ms, .to_ms = at_ms, .overlap = overlap, .times = {at_ms}});
    assert_true(v.made && !v.gone);
    assert_int_equal(v.cursor_ms, at_ms);
}

// --- looking ----------------------------------------------------------------------------------------------------------

struct answer {
    bool done;
    int code;
    struct err err;
    json_t *json;
    size_t count;
    struct letter letters[16];
};

static void on_done(void *arg, int code, const struct err *err) {
    struct answer *a = arg;
    assert_false(a->done);
    a->done = true;
    a->code = code;
    if (code) a->err = *err;
}

static void on_json(void *arg, int code, const struct err *err, json_t *json) {
    on_done(arg, code, err);
    ((struct answer *)arg)->json = json;
}

static json_t *history(struct world *w, const char *trigger, int64_t before_ms, size_t limit) {
    struct answer a = {0};
    fires_history(w->a->fires, str_of(trigger), before_ms, limit, on_json, &a);
    TURN_UNTIL(w->fx.loop, a.done);
    assert_int_equal(a.code, 0);
    return a.json;
}

static json_t *fire_of(struct world *w, const char *trigger, int64_t at_ms) {
    json_t *all = history(w, trigger, at_ms + 1, 1);
    json_t *fire = json_incref(json_array_get(json_object_get(all, "fires"), 0));
    json_decref(all);
    if (json_integer_value(json_object_get(fire, "scheduledMs")) == at_ms) return fire;
    json_decref(fire);
    return NULL;
}

static bool is(struct world *w, const char *trigger, int64_t at_ms, const char *outcome) {
    json_t *fire = fire_of(w, trigger, at_ms);
    const char *got = json_string_value(json_object_get(fire, "outcome"));
    bool same = outcome ? got && strcmp(got, outcome) == 0 : !fire;
    if (!same) print_message("# %s %lld is %s\n", trigger, (long long)at_ms, got ? got : "not there");
    json_decref(fire);
    return same;
}

// Its event, which came once or not at all.
static const struct ev *got_event(const struct world *w, const char *trigger, int64_t at_ms) {
    struct id id = fire_id(str_of(trigger), CREATED_MS, at_ms);
    const struct ev *found = NULL;
    for (size_t i = 0; i < w->got->count; i++) {
        if (!id_eq(&w->got->ev[i]->f.id, &id)) continue;
        assert_null(found);
        found = w->got->ev[i];
    }
    return found;
}

static void end_fire(struct node *n, const char *trigger, int64_t at_ms, enum fire_outcome outcome) {
    struct answer a = {0};
    struct ev *ev = fire_event(n->world, trigger, at_ms);
    assert_true(fires_is_fire(ev));
    fires_end(n->fires, ev, outcome, on_done, &a);
    TURN_UNTIL(n->world->fx.loop, a.done);
    assert_int_equal(a.code, 0);
    ev_free(ev);
}

// Its delivered letter is gone and a new one is there, as after an attempt that failed.
static void put_letter(struct node *n, const char *trigger, int64_t at_ms, enum letter_state state) {
    struct loop *loop = n->world->fx.loop;
    TURN_UNTIL(loop, number(n->world, "SELECT count(*) FROM letters WHERE lease_ms > 0") == 0);
    struct answer a = {0};
    struct ev *ev = fire_event(n->world, trigger, at_ms);
    ev->f.attempt = 2;
    const struct letter_draft draft = {.ev = ev, .state = state, .kind = LETTER_FUNCTION, .due_ms = clock_unix_ms() + HOUR_MS,
                                       .error_type = STR_LIT("KeyError"), .error_message = STR_LIT("'x'")};
    letters_put(n->letters, &draft, on_done, &a);
    TURN_UNTIL(loop, a.done);
    assert_int_equal(a.code, 0);
    ev_free(ev);
}

static void discard_letter(struct node *n, const char *trigger, int64_t at_ms) {
    struct id id = fire_id(str_of(trigger), CREATED_MS, at_ms);
    struct letter_change change = {.limit = 1};
    struct err err = {0};
    struct answer a = {0};
    if (selection_new(&(struct select_spec){.ids = &id, .id_count = 1}, &change.sel, &err)) fail_msg("%s", err.text);
    letters_discard(n->letters, &change, on_json, &a);
    TURN_UNTIL(n->world->fx.loop, a.done);
    assert_int_equal(json_integer_value(json_object_get(a.json, "discarded")), 1);
    json_decref(a.json);
}

// --- deciding ---------------------------------------------------------------------------------------------------------

static void a_time_happens_once_and_is_told(void **state) {
    struct world *w = *state;
    add_triggers(w, "t", 0);
    struct fire_verdict v = decide(w->a, (struct one){.trigger = "t", .from_ms = CREATED_MS, .to_ms = 9000, .times = {5000, 7000, 9000}});
    assert_true(v.made);
    TURN_UNTIL(w->fx.loop, w->got->count == 3);
    v = decide(w->a, (struct one){.trigger = "t", .from_ms = CREATED_MS, .to_ms = 9000, .times = {5000, 7000, 9000}});
    assert_true(!v.made && !v.gone);
    assert_int_equal(v.cursor_ms, 9000);
    TURN_UNTIL(w->fx.loop, number(w, "SELECT count(*) FROM letters") == 0);
    assert_int_equal(w->got->count, 3);
    assert_true(got_event(w, "t", 5000) && got_event(w, "t", 7000) && got_event(w, "t", 9000));
    assert_true(is(w, "t", 7000, "running"));
    end_fire(w->a, "t", 7000, FIRE_OK);
    end_fire(w->a, "t", 7000, FIRE_DEAD); // it ended before
    assert_true(is(w, "t", 7000, "ok"));
}

static void one_that_never_happens_has_a_row_and_no_event(void **state) {
    struct world *w = *state;
    add_triggers(w, "t", 0);
    struct fire fires[] = {{.scheduled_ms = 5000, .cause = FIRE_CATCHUP, .missed = 6}};
    const struct fire_plan p = {.trigger = "t", .changed_ms = CREATED_MS, .from_ms = CREATED_MS, .to_ms = 5000, .fires = fires, .count = 1};
    struct fire_verdict v;
    struct decision d = {.verdicts = &v, .count = 1};
    fires_decide(w->a->fires, &p, 1, on_decided, &d);
    TURN_UNTIL(w->fx.loop, d.done);
    assert_true(v.made);
    json_t *fire = fire_of(w, "t", 5000);
    assert_string_equal(json_string_value(json_object_get(fire, "outcome")), "missed");
    assert_string_equal(json_string_value(json_object_get(fire, "cause")), "catchup");
    assert_int_equal(json_integer_value(json_object_get(fire, "missed")), 6);
    assert_true(json_is_null(json_object_get(fire, "requestId")) && json_is_null(json_object_get(fire, "durationMs")));
    json_decref(fire);
    assert_int_equal(number(w, "SELECT count(*) FROM letters"), 0);
}

static void a_plan_from_an_older_state_of_things_is_void(void **state) {
    struct world *w = *state;
    add_triggers(w, "t", 0);
    fire_at(w->a, "t", CREATED_MS, 5000, FIRE_ALLOW);
    struct fire_verdict v = decide(w->a, (struct one){.trigger = "t", .from_ms = 4000, .to_ms = 6000, .times = {6000}});
    assert_true(!v.made && !v.gone && v.cursor_ms == 5000);
    v = decide(w->a, (struct one){.trigger = "t", .from_ms = 5000, .to_ms = 6000, .changed_ms = 999, .times = {6000}});
    assert_true(!v.made && v.gone);
    v = decide(w->a, (struct one){.trigger = "nobody", .from_ms = CREATED_MS, .to_ms = 6000, .times = {6000}});
    assert_true(!v.made && v.gone);
    change(w, "UPDATE triggers SET state = 'paused'");
    v = decide(w->a, (struct one){.trigger = "t", .from_ms = 5000, .to_ms = 6000, .times = {6000}});
    assert_true(!v.made && v.gone);
    // What was scheduled while it was paused is no more.
    change(w, "UPDATE triggers SET state = 'active', changed_ms = 8000");
    v = decide(w->a, (struct one){.trigger = "t", .from_ms = 5000, .to_ms = 9000, .changed_ms = 8000, .times = {9000}});
    assert_true(!v.made && !v.gone && v.cursor_ms == 8000);
    v = decide(w->a, (struct one){.trigger = "t", .from_ms = 8000, .to_ms = 9000, .changed_ms = 8000, .times = {9000}});
    assert_true(v.made);
    TURN_UNTIL(w->fx.loop, w->got->count == 2);
    assert_int_equal(number(w, "SELECT count(*) FROM fires"), 2);
}

static void one_void_plan_does_not_hurt_its_neighbours(void **state) {
    struct world *w = *state;
    add_triggers(w, "t", 3);
    fire_at(w->a, "t1", CREATED_MS, 5000, FIRE_ALLOW);
    struct fire fires[3];
    struct fire_plan plans[3];
    const char *names[] = {"t2", "t1", "t0"};
    for (size_t i = 0; i < 3; i++) {
        fires[i] = (struct fire){.scheduled_ms = 5000, .ev = fire_event(w, names[i], 5000)};
        plans[i] = (struct fire_plan){.trigger = names[i], .changed_ms = CREATED_MS, .from_ms = CREATED_MS, .to_ms = 5000,
                                      .fires = &fires[i], .count = 1};
    }
    struct fire_verdict v[3];
    struct decision d = {.verdicts = v, .count = 3};
    fires_decide(w->a->fires, plans, 3, on_decided, &d);
    TURN_UNTIL(w->fx.loop, d.done);
    assert_true(v[0].made && !v[1].made && v[2].made && v[1].cursor_ms == 5000);
    TURN_UNTIL(w->fx.loop, w->got->count == 3);
    assert_true(got_event(w, "t0", 5000) && got_event(w, "t1", 5000) && got_event(w, "t2", 5000));
}

// --- overlap ----------------------------------------------------------------------------------------------------------

static void skip_leaves_out_what_comes_while_one_runs(void **state) {
    struct world *w = *state;
    add_triggers(w, "t", 0);
    decide(w->a, (struct one){.trigger = "t", .from_ms = CREATED_MS, .to_ms = 6000, .overlap = FIRE_SKIP, .times = {5000, 6000}});
    fire_at(w->a, "t", 6000, 7000, FIRE_SKIP);
    assert_true(is(w, "t", 5000, "running") && is(w, "t", 6000, "skipped") && is(w, "t", 7000, "skipped"));
    end_fire(w->a, "t", 5000, FIRE_OK);
    fire_at(w->a, "t", 7000, 8000, FIRE_SKIP);
    TURN_UNTIL(w->fx.loop, w->got->count == 2);
    assert_true(is(w, "t", 8000, "running") && got_event(w, "t", 8000));
}

static void one_that_is_retried_is_running_and_one_that_died_is_not(void **state) {
    struct world *w = *state;
    add_triggers(w, "t", 0);
    fire_at(w->a, "t", CREATED_MS, 5000, FIRE_SKIP);
    put_letter(w->a, "t", 5000, LETTER_DUE);
    assert_true(is(w, "t", 5000, "retrying"));
    fire_at(w->a, "t", 5000, 6000, FIRE_SKIP);
    assert_true(is(w, "t", 6000, "skipped"));
    put_letter(w->a, "t", 5000, LETTER_DEAD); // and nobody said that the fire is over
    assert_true(is(w, "t", 5000, "dead"));
    fire_at(w->a, "t", 6000, 7000, FIRE_SKIP);
    assert_true(is(w, "t", 7000, "running") && is(w, "t", 5000, "dead"));
    put_letter(w->a, "t", 7000, LETTER_DUE);
    discard_letter(w->a, "t", 7000);
    assert_true(is(w, "t", 7000, "discarded"));
    fire_at(w->a, "t", 7000, 8000, FIRE_SKIP);
    assert_true(is(w, "t", 8000, "running") && is(w, "t", 7000, "discarded"));
    assert_int_equal(number(w, "SELECT count(*) FROM fires WHERE ended_ms IS NULL"), 1);
}

static void one_that_was_not_heard_of_for_too_long_is_not_running(void **state) {
    struct world *w = *state;
    add_triggers(w, "t", 0);
    fire_at(w->a, "t", CREATED_MS, 5000, FIRE_SKIP);
    decide(w->a, (struct one){.trigger = "t", .from_ms = 5000, .to_ms = 6000, .overlap = FIRE_SKIP, .stale_ms = clock_unix_ms() + 60000,
                              .times = {6000}});
    assert_true(is(w, "t", 5000, "unknown") && is(w, "t", 6000, "running"));
}

static void queue_lets_one_wait_until_the_other_is_over(void **state) {
    struct world *w = *state;
    due_start(w->a->due);
    add_triggers(w, "t", 0);
    decide(w->a, (struct one){.trigger = "t", .from_ms = CREATED_MS, .to_ms = 6000, .overlap = FIRE_QUEUE, .times = {5000, 6000}});
    fire_at(w->a, "t", 6000, 7000, FIRE_QUEUE);
    assert_true(is(w, "t", 5000, "running") && is(w, "t", 6000, "waiting") && is(w, "t", 7000, "skipped"));
    TURN_UNTIL(w->fx.loop, number(w, "SELECT count(*) FROM letters") == 1);
    assert_int_equal(number(w, "SELECT count(*) FROM letters WHERE due_ms > 250000000000000"), 1); // nobody's turn before the year 9892
    assert_int_equal(w->got->count, 1);
    put_letter(w->a, "t", 5000, LETTER_DUE); // a failed attempt is not the end
    assert_int_equal(w->got->count, 1);
    int64_t before_ms = clock_unix_ms();
    end_fire(w->a, "t", 5000, FIRE_DEAD);
    assert_int_equal(w->a->hints, 1);
    TURN_UNTIL(w->fx.loop, got_event(w, "t", 6000));
    assert_true(is(w, "t", 6000, "running"));
    assert_true(got_event(w, "t", 6000)->f.accepted_ms >= before_ms); // its maximum age begins now
    fire_at(w->a, "t", 7000, 8000, FIRE_QUEUE);
    assert_true(is(w, "t", 8000, "waiting"));
    end_fire(w->a, "t", 6000, FIRE_OK);
    TURN_UNTIL(w->fx.loop, got_event(w, "t", 8000));
}

static void one_that_waits_for_what_vanished_is_let_go(void **state) {
    struct world *w = *state;
    due_start(w->a->due);
    add_triggers(w, "t", 0);
    fire_at(w->a, "t", CREATED_MS, 5000, FIRE_QUEUE);
    put_letter(w->a, "t", 5000, LETTER_DUE);
    fire_at(w->a, "t", 5000, 6000, FIRE_QUEUE);
    assert_true(is(w, "t", 6000, "waiting"));
    discard_letter(w->a, "t", 5000);
    fires_start(w->a->fires);
    TURN_UNTIL(w->fx.loop, got_event(w, "t", 6000));
    assert_true(is(w, "t", 5000, "discarded") && is(w, "t", 6000, "running"));
}

static void one_that_waits_goes_with_its_trigger(void **state) {
    struct world *w = *state;
    add_triggers(w, "t", 2);
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "t1" : "t0";
        decide(w->a, (struct one){.trigger = name, .from_ms = CREATED_MS, .to_ms = 6000, .overlap = FIRE_QUEUE, .times = {5000, 6000}});
    }
    TURN_UNTIL(w->fx.loop, number(w, "SELECT count(*) FROM letters") == 2);
    change(w, "DELETE FROM triggers WHERE name = 't0'");
    fires_start(w->a->fires);
    TURN_UNTIL(w->fx.loop, number(w, "SELECT count(*) FROM letters WHERE source_name = 't0' AND state = 'discarded'") == 1);
    assert_int_equal(number(w, "SELECT count(*) FROM letters WHERE source_name = 't1' AND state = 'due'"), 1);
}

static void cancel_stops_what_runs(void **state) {
    struct world *w = *state;
    add_triggers(w, "t", 0);
    fire_at(w->a, "t", CREATED_MS, 5000, FIRE_CANCEL);
    struct id first = fire_id(STR_LIT("t"), CREATED_MS, 5000), second = fire_id(STR_LIT("t"), CREATED_MS, 7000);
    assert_false(fires_is_cancelled(w->a->fires, &first));
    put_letter(w->a, "t", 5000, LETTER_DUE);
    decide(w->a, (struct one){.trigger = "t", .from_ms = 5000, .to_ms = 7000, .overlap = FIRE_CANCEL, .times = {6000, 7000}});
    assert_true(is(w, "t", 5000, "cancelled") && is(w, "t", 6000, "cancelled") && is(w, "t", 7000, "running"));
    assert_int_equal(w->a->cancelled_count, 1);
    assert_true(id_eq(&w->a->cancelled[0], &first));
    assert_true(fires_is_cancelled(w->a->fires, &first) && !fires_is_cancelled(w->a->fires, &second));
    assert_int_equal(number(w, "SELECT count(*) FROM letters WHERE state = 'discarded'"), 1);
    end_fire(w->a, "t", 5000, FIRE_OK); // too late
    assert_true(is(w, "t", 5000, "cancelled"));
}

static void reopen(struct world *w) {
    node_free(w->a);
    open_a(w);
}

static void what_was_cancelled_is_known_after_a_restart(void **state) {
    struct world *w = *state;
    add_triggers(w, "t", 0);
    fire_at(w->a, "t", CREATED_MS, 5000, FIRE_CANCEL);
    fire_at(w->a, "t", 5000, 6000, FIRE_CANCEL);
    reopen(w);
    fires_start(w->a->fires);
    TURN_UNTIL(w->fx.loop, w->a->cancelled_count);
    struct id first = fire_id(STR_LIT("t"), CREATED_MS, 5000), second = fire_id(STR_LIT("t"), CREATED_MS, 6000);
    assert_true(fires_is_cancelled(w->a->fires, &first) && !fires_is_cancelled(w->a->fires, &second));
}

// Fires of the times 1, 2, …, cancelled in this order; their ids are those numbers in 16 bytes.
static int insert_cancelled(void *arg, struct sql *sql, struct err *err) {
    const int64_t *count = arg;
    const struct sql_value v[] = {SQL_I(*count), SQL_I(clock_unix_ms() - *count)};
#define INSERT(id)                                                                                                          \
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) INSERT INTO fires (trigger, scheduled_ms,"  \
    " event_id, cause, outcome, fired_ms, ended_ms, lasts_ms, stale_at_ms, missed)"                                         \
    " SELECT 't', i, " id ", 'schedule', 'cancelled', 0, CAST($2 AS BIGINT) + i, 0, 0, 0 FROM n"
    const char *text = sql_is_postgres(sql) ? INSERT("convert_to(lpad(CAST(i AS TEXT), 16, '0'), 'UTF8')")
                                            : INSERT("CAST(printf('%016d', i) AS BLOB)");
#undef INSERT
    return sql_exec(sql, text, v, array_len(v), NULL, NULL, NULL, err);
}

static bool is_known_as_cancelled(const struct world *w, int64_t number_of) {
    char text[17];
    MUST(text_format(text, sizeof text, "%016lld", (long long)number_of) == 0);
    struct id id;
    memcpy(id.bytes, text, sizeof id.bytes);
    return fires_is_cancelled(w->a->fires, &id);
}

static void of_too_many_cancelled_the_newest_stay_known(void **state) {
    struct world *w = *state;
    add_triggers(w, "t", 0);
    int64_t count = FIRES_CANCELLED_MAX + 1;
    assert_int_equal(call(&w->fx, insert_cancelled, &count), 0);
    fires_start(w->a->fires);
    TURN_UNTIL(w->fx.loop, w->a->cancelled_count == FIRES_CANCELLED_MAX);
    assert_true(!is_known_as_cancelled(w, 1) && is_known_as_cancelled(w, 2) && is_known_as_cancelled(w, count));
    decide(w->a, (struct one){.trigger = "t", .from_ms = CREATED_MS, .to_ms = 100000, .times = {90000}});
    decide(w->a, (struct one){.trigger = "t", .from_ms = 100000, .to_ms = 200000, .overlap = FIRE_CANCEL, .times = {200000}});
    assert_int_equal(w->a->cancelled_count, FIRES_CANCELLED_MAX + 1);
    assert_true(!is_known_as_cancelled(w, 2) && is_known_as_cancelled(w, 3) && is_known_as_cancelled(w, count));
}

// --- by hand ----------------------------------------------------------------------------------------------------------

static struct err try_put(struct node *n, const char *trigger, int64_t at_ms) {
    struct answer a = {0};
    const struct fire fire = {.scheduled_ms = at_ms, .cause = FIRE_MANUAL, .ev = fire_event(n->world, trigger, at_ms)};
    fires_put(n->fires, trigger, &fire, on_done, &a);
    TURN_UNTIL(n->world->fx.loop, a.done);
    return a.err;
}

static int put(struct node *n, const char *trigger, int64_t at_ms) {
    return try_put(n, trigger, at_ms).code;
}

static void a_fire_by_hand_happens_once_beside_the_schedule(void **state) {
    struct world *w = *state;
    add_triggers(w, "t", 0);
    assert_int_equal(put(w->a, "t", 5000), 0);
    assert_int_equal(put(w->a, "t", 5000), ERR_CONFLICT);
    assert_int_equal(put(w->a, "nobody", 5000), ERR_NOT_FOUND);
    // The schedule comes to the same time, and to another: what was done by hand does not count as running.
    decide(w->a, (struct one){.trigger = "t", .from_ms = CREATED_MS, .to_ms = 6000, .overlap = FIRE_SKIP, .times = {6000}});
    assert_true(is(w, "t", 6000, "running"));
    assert_int_equal(put(w->a, "t", 7000), 0);
    fire_at(w->a, "t", 6000, 7000, FIRE_ALLOW);
    TURN_UNTIL(w->fx.loop, w->got->count == 3);
    TURN_UNTIL(w->fx.loop, number(w, "SELECT count(*) FROM letters") == 0);
    assert_true(got_event(w, "t", 7000));
    assert_int_equal(number(w, "SELECT count(*) FROM fires"), 3);
}

static void what_was_skipped_can_be_made_up_for(void **state) {
    struct world *w = *state;
    add_triggers(w, "t", 0);
    decide(w->a, (struct one){.trigger = "t", .from_ms = CREATED_MS, .to_ms = 6000, .overlap = FIRE_SKIP, .times = {5000, 6000}});
    assert_true(is(w, "t", 6000, "skipped"));
    assert_int_equal(put(w->a, "t", 6000), 0);
    assert_int_equal(put(w->a, "t", 6000), ERR_CONFLICT);
    assert_true(is(w, "t", 6000, "running"));
    TURN_UNTIL(w->fx.loop, got_event(w, "t", 6000));
}

static void a_fire_whose_letter_is_still_there_is_not_put_again(void **state) {
    struct world *w = *state;
    add_triggers(w, "t", 0);
    assert_int_equal(put(w->a, "t", 5000), 0);
    TURN_UNTIL(w->fx.loop, w->got->count == 1);
    put_letter(w->a, "t", 5000, LETTER_DEAD);
    change(w, "DELETE FROM fires"); // as after a while
    struct err err = try_put(w->a, "t", 5000);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_non_null(strstr(err.text, "weir dlq replay "));
    assert_int_equal(number(w, "SELECT count(*) FROM letters WHERE state = 'dead' AND attempts = 2"), 1);
    discard_letter(w->a, "t", 5000);
    assert_int_equal(put(w->a, "t", 5000), ERR_CONFLICT);
    assert_int_equal(number(w, "SELECT count(*) FROM fires"), 0);
    assert_int_equal(w->got->count, 1);
}

// --- looking ----------------------------------------------------------------------------------------------------------

static void the_history_has_pages_and_tells_what_its_letters_know(void **state) {
    struct world *w = *state;
    add_triggers(w, "t", 0);
    decide(w->a, (struct one){.trigger = "t", .from_ms = CREATED_MS, .to_ms = 8000, .times = {5000, 6000, 7000, 8000}});
    put_letter(w->a, "t", 6000, LETTER_DEAD);
    end_fire(w->a, "t", 6000, FIRE_DEAD);
    end_fire(w->a, "t", 7000, FIRE_OK);
    json_t *page = history(w, "t", 0, 3);
    json_t *fires = json_object_get(page, "fires");
    assert_int_equal(json_array_size(fires), 3);
    assert_int_equal(json_integer_value(json_object_get(page, "next")), 6000);
    json_t *ok = json_array_get(fires, 1), *dead = json_array_get(fires, 2);
    assert_int_equal(json_integer_value(json_object_get(ok, "scheduledMs")), 7000);
    int64_t fired = json_integer_value(json_object_get(ok, "firedMs")), ended = json_integer_value(json_object_get(ok, "endedMs"));
    assert_true(ended >= fired && fired > 7000);
    assert_int_equal(json_integer_value(json_object_get(ok, "lagMs")), fired - 7000);
    assert_int_equal(json_integer_value(json_object_get(ok, "durationMs")), ended - fired);
    assert_int_equal(json_integer_value(json_object_get(ok, "attempts")), 1);
    assert_true(json_is_null(json_object_get(ok, "error")));
    char id_text[ID_TEXT_BYTES];
    struct id id = fire_id(STR_LIT("t"), CREATED_MS, 7000);
    id_format(&id, id_text);
    assert_string_equal(json_string_value(json_object_get(ok, "requestId")), id_text);
    assert_string_equal(json_string_value(json_object_get(dead, "outcome")), "dead");
    assert_string_equal(json_string_value(json_object_get(dead, "error")), "KeyError: 'x'");
    assert_int_equal(json_integer_value(json_object_get(dead, "attempts")), 2);
    json_decref(page);
    page = history(w, "t", 6000, 3);
    assert_int_equal(json_array_size(json_object_get(page, "fires")), 1);
    assert_true(json_is_null(json_object_get(page, "next")));
    json_decref(page);
}

static void count_cursor(void *arg, struct str trigger, int64_t cursor_ms) {
    if (str_is(trigger, "t1")) *(int64_t *)arg = cursor_ms;
}

struct cursors {
    int64_t of_t1;
    bool done;
};

static void on_cursors(void *arg, int code, const struct err *err) {
    (void)err;
    assert_int_equal(code, 0);
    ((struct cursors *)arg)->done = true;
}

static void the_cursors_are_there_at_the_start(void **state) {
    struct world *w = *state;
    add_triggers(w, "t", 2);
    fire_at(w->a, "t1", CREATED_MS, 5000, FIRE_ALLOW);
    struct cursors c = {0};
    fires_cursors(w->a->fires, count_cursor, on_cursors, &c);
    TURN_UNTIL(w->fx.loop, c.done);
    assert_int_equal(c.of_t1, 5000);
}

static int write_cursor(void *arg, struct sql *sql, struct err *err) {
    const struct sql_value cursor = SQL_I(*(int64_t *)arg);
    return sql_exec(sql, "UPDATE fire_cursors SET cursor_ms = $1", &cursor, 1, NULL, NULL, NULL, err);
}

// Less than the clocks of a test differ by, more than a slow machine takes between two looks.
static bool is_near(int64_t a, int64_t b) {
    return a - b < 20000 && b - a < 20000;
}

static void a_cursor_far_ahead_of_the_clock_is_not_believed(void **state) {
    struct world *w = *state;
    add_triggers(w, "t", 2);
    fire_at(w->a, "t1", CREATED_MS, 5000, FIRE_ALLOW);
    int64_t begin_ms = clock_unix_ms(), ahead_ms = begin_ms + 2 * HOUR_MS;
    assert_int_equal(call(&w->fx, write_cursor, &ahead_ms), 0);
    struct cursors c = {0};
    fires_cursors(w->a->fires, count_cursor, on_cursors, &c);
    TURN_UNTIL(w->fx.loop, c.done);
    assert_true(is_near(c.of_t1, begin_ms));
    // A node that believed it is told where it stands; what it plans from there is carried out, with what happened already left out.
    struct fire_verdict v = decide(w->a, (struct one){.trigger = "t1", .from_ms = ahead_ms, .to_ms = ahead_ms + 1, .times = {ahead_ms + 1}});
    assert_true(!v.made && !v.gone && is_near(v.cursor_ms, begin_ms));
    v = decide(w->a, (struct one){.trigger = "t1", .from_ms = 4000, .to_ms = 6000, .times = {5000, 6000}});
    assert_true(v.made && v.cursor_ms == 6000);
    TURN_UNTIL(w->fx.loop, w->got->count == 2);
    assert_true(got_event(w, "t1", 5000) && got_event(w, "t1", 6000));
    int64_t little_ms = clock_unix_ms() + HOUR_MS / 2;
    assert_int_equal(call(&w->fx, write_cursor, &little_ms), 0);
    v = decide(w->a, (struct one){.trigger = "t1", .from_ms = 6000, .to_ms = 7000, .times = {7000}});
    assert_true(!v.made && v.cursor_ms == little_ms);
}

// --- housekeeping -----------------------------------------------------------------------------------------------------

// Times 5000, 6000 and 7000 ended, the first the longest ago; 8000 runs.
static void end_three(struct world *w) {
    add_triggers(w, "t", 0);
    decide(w->a, (struct one){.trigger = "t", .from_ms = CREATED_MS, .to_ms = 8000, .times = {5000, 6000, 7000, 8000}});
    for (int64_t at_ms = 5000; at_ms <= 7000; at_ms += 1000) end_fire(w->a, "t", at_ms, FIRE_OK);
    change(w, "UPDATE fires SET ended_ms = ended_ms - 90000000 WHERE scheduled_ms = 5000");
    change(w, "UPDATE fires SET ended_ms = ended_ms - 1000 WHERE scheduled_ms = 6000");
}

static void old_fires_are_deleted(void **state) {
    struct world *w = *state;
    end_three(w);
    fires_start(w->a->fires);
    TURN_UNTIL(w->fx.loop, number(w, "SELECT count(*) FROM fires") == 3);
    assert_true(is(w, "t", 5000, NULL) && is(w, "t", 6000, "ok") && is(w, "t", 7000, "ok") && is(w, "t", 8000, "running"));
}

static void the_oldest_over_the_cap_are_deleted(void **state) {
    struct world *w = *state;
    end_three(w);
    w->keep_ms = 1000 * HOUR_MS;
    w->rows_max = 1;
    reopen(w);
    fires_start(w->a->fires);
    TURN_UNTIL(w->fx.loop, number(w, "SELECT count(*) FROM fires") == 2);
    assert_true(is(w, "t", 5000, NULL) && is(w, "t", 6000, NULL) && is(w, "t", 7000, "ok") && is(w, "t", 8000, "running"));
}

static void an_open_fire_does_not_stay_open_for_ever(void **state) {
    struct world *w = *state;
    add_triggers(w, "t", 0);
    fire_at(w->a, "t", CREATED_MS, 5000, FIRE_ALLOW);
    change(w, "UPDATE fires SET stale_at_ms = 1");
    fires_start(w->a->fires);
    TURN_UNTIL(w->fx.loop, number(w, "SELECT count(*) FROM fires WHERE outcome = 'unknown' AND ended_ms IS NOT NULL") == 1);
}

static void nothing_goes_through_a_timers_history(void **state) {
    struct world *w = *state;
    plans_seen = plans_bad = 0;
    reopen(w);
    add_triggers(w, "t", 0);
    decide(w->a, (struct one){.trigger = "t", .from_ms = CREATED_MS, .to_ms = 6000, .overlap = FIRE_QUEUE, .times = {5000, 6000}});
    end_fire(w->a, "t", 5000, FIRE_OK);
    fire_at(w->a, "t", 6000, 7000, FIRE_SKIP);
    fire_at(w->a, "t", 7000, 8000, FIRE_CANCEL);
    change(w, "UPDATE fires SET stale_at_ms = 1");
    fires_start(w->a->fires);
    TURN_UNTIL(w->fx.loop, number(w, "SELECT count(*) FROM fires WHERE outcome = 'unknown' AND ended_ms IS NOT NULL") == 1);
    TURN_UNTIL(w->fx.loop, fires_stop(w->a->fires));
    assert_true(plans_seen > 20 && plans_bad == 0);
}

// --- a node that dies -------------------------------------------------------------------------------------------------

static void die_after_deciding(struct world *w) {
    fault_arm("fires.decided", SIGKILL);
    w->fx.loop = loop_new(); // the threads of the parent are not here
    open_a(w);
    fire_at(w->a, "t", CREATED_MS, 5000, FIRE_ALLOW);
    _exit(0);
}

static void on_claim(void *arg, int code, const struct err *err, struct letter *letters, size_t count) {
    struct answer *a = arg;
    on_done(a, code, err);
    a->count = count;
    if (count) memcpy(a->letters, letters, count * sizeof *letters);
}

static size_t claim(struct world *w, int64_t now_ms, struct answer *a) {
    *a = (struct answer){0};
    letters_claim_due(w->a->letters, now_ms, 60000, 16, on_claim, a);
    TURN_UNTIL(w->fx.loop, a->done);
    return a->count;
}

static void what_a_dead_node_had_decided_is_sent_when_its_lease_runs_out(void **state) {
    struct world *w = *state;
    add_triggers(w, "t", 0);
    node_free(w->a);
    pid_t child = fork();
    if (child == 0) die_after_deciding(w);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    open_a(w);
    assert_true(is(w, "t", 5000, "running"));
    struct answer a;
    assert_int_equal(claim(w, clock_unix_ms(), &a), 0);
    change(w, "UPDATE letters SET lease_ms = lease_ms - 60001");
    assert_int_equal(claim(w, clock_unix_ms(), &a), 1);
    struct id id = fire_id(STR_LIT("t"), CREATED_MS, 5000);
    assert_true(id_eq(&a.letters[0].id, &id) && id_eq(&a.letters[0].ev->f.id, &id));
    ev_free(a.letters[0].ev);
    struct fire_verdict v = decide(w->a, (struct one){.trigger = "t", .from_ms = CREATED_MS, .to_ms = 5000, .times = {5000}});
    assert_true(!v.made && v.cursor_ms == 5000);
}

// --- many -------------------------------------------------------------------------------------------------------------

#define MANY 10000

struct batch {
    struct decision d;
    struct fire_plan plans[FIRES_BATCH];
    struct fire fires[FIRES_BATCH];
    struct fire_verdict verdicts[FIRES_BATCH];
    char names[FIRES_BATCH][16];
};

static struct batch *batch_start(struct node *n, size_t first, size_t count, int64_t from_ms, int64_t at_ms) {
    struct batch *b = mem_zalloc(sizeof *b);
    b->d = (struct decision){.verdicts = b->verdicts, .count = count};
    for (size_t i = 0; i < count; i++) {
        MUST(text_format(b->names[i], sizeof b->names[i], "m%zu", first + i) == 0);
        b->fires[i] = (struct fire){.scheduled_ms = at_ms, .ev = fire_event(n->world, b->names[i], at_ms)};
        b->plans[i] = (struct fire_plan){.trigger = b->names[i], .changed_ms = CREATED_MS, .from_ms = from_ms, .to_ms = at_ms,
                                         .fires = &b->fires[i], .count = 1};
    }
    fires_decide(n->fires, b->plans, count, on_decided, &b->d);
    return b;
}

static size_t batch_end(struct node *n, struct batch *b) {
    TURN_UNTIL(n->world->fx.loop, b->d.done);
    if (b->d.code) fail_msg("%s", b->d.err.text);
    size_t made = 0;
    for (size_t i = 0; i < b->d.count; i++) {
        made += b->verdicts[i].made;
        assert_int_equal(b->verdicts[i].cursor_ms, b->plans[i].to_ms);
    }
    free(b);
    return made;
}

static void ten_thousand(struct world *w, int64_t from_ms, int64_t at_ms) {
    size_t before = w->got->count;
    struct batch *batches[MANY / FIRES_BATCH];
    int64_t began_ns = clock_mono_ns();
    for (size_t i = 0; i < array_len(batches); i++) batches[i] = batch_start(w->a, i * FIRES_BATCH, FIRES_BATCH, from_ms, at_ms);
    for (size_t i = 0; i < array_len(batches); i++) assert_int_equal(batch_end(w->a, batches[i]), FIRES_BATCH);
    int64_t decided_ns = clock_mono_ns();
    TURN_UNTIL(w->fx.loop, w->got->count == before + MANY);
    print_message("# %d fires of as many triggers: durable after %lld ms, on the queue after %lld ms\n", MANY,
                  (long long)((decided_ns - began_ns) / NS_PER_MS), (long long)((clock_mono_ns() - began_ns) / NS_PER_MS));
    TURN_UNTIL(w->fx.loop, number(w, "SELECT count(*) FROM letters") == 0);
}

static int wait_until_it_may(void *arg, struct sql *sql, struct err *err) {
    (void)sql, (void)err;
    sem_wait(arg);
    return 0;
}

static void a_slow_queue_makes_it_busy(void **state) {
    struct world *w = *state;
    node_free(w->a);
    cleanup_free char *url = mem_printf("sqlite:%s/queue.db", w->dir);
    struct err err = {0};
    if (store_open(w->fx.loop, url, &w->queue_store, &err)) fail_msg("%s", err.text);
    w->queue_url = "embedded:";
    open_a(w);
    add_triggers(w, "m", FIRES_SHIPPED_MAX);
    sem_t may;
    sem_init(&may, 0, 0);
    struct call held;
    submit(w->queue_store, &held, wait_until_it_may, &may);
    for (size_t first = 0; first < FIRES_SHIPPED_MAX; first += FIRES_BATCH) {
        assert_false(fires_is_busy(w->a->fires));
        assert_int_equal(batch_end(w->a, batch_start(w->a, first, FIRES_BATCH, CREATED_MS, 60000)), FIRES_BATCH);
    }
    assert_true(fires_is_busy(w->a->fires));
    assert_int_equal(put(w->a, "m0", 70000), ERR_BUSY);
    sem_post(&may);
    TURN_UNTIL(w->fx.loop, w->got->count == FIRES_SHIPPED_MAX && number(w, "SELECT count(*) FROM letters") == 0);
    TURN_UNTIL(w->fx.loop, !fires_is_busy(w->a->fires));
    assert_int_equal(put(w->a, "m0", 70000), 0);
    TURN_UNTIL(w->fx.loop, got_event(w, "m0", 70000));
    sem_destroy(&may);
}

static void ten_thousand_at_once(void **state) {
    struct world *w = *state;
    if (!w->postgres) {
        w->queue_url = "embedded:";
        reopen(w);
    }
    add_triggers(w, "m", MANY);
    ten_thousand(w, CREATED_MS, 60000);
    ten_thousand(w, 60000, 120000);
    assert_int_equal(w->got->count, 2 * MANY);
}

// --- several nodes ----------------------------------------------------------------------------------------------------

#define SHARED 200

static void of_two_nodes_one_decides_each_time(void **state) {
    struct world *w = *state;
    w->b = node_new(w);
    wall_ahead_s = 30;
    add_triggers(w, "m", SHARED);
    size_t made_by_a = 0, made_by_b = 0;
    for (int64_t at_ms = 60000; at_ms <= 600000; at_ms += 60000) {
        int64_t from_ms = at_ms == 60000 ? CREATED_MS : at_ms - 60000;
        // Batches of other cuts, so that they meet in the middle.
        struct batch *a1 = batch_start(w->a, 0, 150, from_ms, at_ms), *b1 = batch_start(w->b, 100, 100, from_ms, at_ms);
        struct batch *a2 = batch_start(w->a, 150, 50, from_ms, at_ms), *b2 = batch_start(w->b, 0, 100, from_ms, at_ms);
        made_by_a += batch_end(w->a, a1) + batch_end(w->a, a2);
        made_by_b += batch_end(w->b, b1) + batch_end(w->b, b2);
    }
    assert_int_equal(made_by_a + made_by_b, 10 * SHARED);
    print_message("# one node decided %zu, the other %zu\n", made_by_a, made_by_b);
    TURN_UNTIL(w->fx.loop, number(w, "SELECT count(*) FROM letters") == 0);
    assert_int_equal(w->got->count, 10 * SHARED);
    assert_int_equal(number(w, "SELECT count(*) FROM fires"), 10 * SHARED);
    for (int64_t at_ms = 60000; at_ms <= 600000; at_ms += 60000) assert_true(got_event(w, "m7", at_ms));
}

static void another_node_hears_of_a_cancel(void **state) {
    struct world *w = *state;
    w->b = node_new(w);
    fires_start(w->b->fires);
    add_triggers(w, "t", 0);
    fire_at(w->a, "t", CREATED_MS, 5000, FIRE_CANCEL);
    fire_at(w->a, "t", 5000, 6000, FIRE_CANCEL);
    TURN_UNTIL(w->fx.loop, w->b->cancelled_count);
    struct id first = fire_id(STR_LIT("t"), CREATED_MS, 5000);
    assert_true(fires_is_cancelled(w->b->fires, &first));
    assert_int_equal(w->b->cancelled_count, 1);
}

static void the_end_on_one_node_lets_go_what_waits(void **state) {
    struct world *w = *state;
    w->b = node_new(w);
    due_start(w->b->due);
    add_triggers(w, "t", 0);
    fire_at(w->a, "t", CREATED_MS, 5000, FIRE_QUEUE);
    fire_at(w->a, "t", 5000, 6000, FIRE_QUEUE);
    end_fire(w->b, "t", 5000, FIRE_OK);
    TURN_UNTIL(w->fx.loop, got_event(w, "t", 6000));
}

static void one_node_leads_until_it_goes(void **state) {
    struct world *w = *state;
    fires_start(w->a->fires);
    TURN_UNTIL(w->fx.loop, fires_is_leader(w->a->fires));
    w->b = node_new(w);
    fires_start(w->b->fires);
    add_triggers(w, "t", 0);
    fire_at(w->a, "t", CREATED_MS, 5000, FIRE_CANCEL);
    fire_at(w->a, "t", 5000, 6000, FIRE_CANCEL);
    TURN_UNTIL(w->fx.loop, w->b->cancelled_count); // it has been round
    assert_true(fires_is_leader(w->a->fires) && !fires_is_leader(w->b->fires));
    TURN_UNTIL(w->fx.loop, fires_stop(w->a->fires)); // its session stays
    TURN_UNTIL(w->fx.loop, fires_is_leader(w->b->fires));
    assert_false(fires_is_leader(w->a->fires));
}

static void the_clock_is_the_stores(void **state) {
    struct world *w = *state;
    wall_ahead_s = -90;
    loop_turn(w->fx.loop, 0);
    struct cursors c = {0};
    fires_cursors(w->a->fires, count_cursor, on_cursors, &c);
    TURN_UNTIL(w->fx.loop, c.done);
    for (int turn = 0; turn < 2; turn++) {
        int64_t stores = number(w, "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)");
        loop_turn(w->fx.loop, 0);
        assert_true(is_near(fires_now_ms(w->a->fires), stores));
        assert_false(is_near(clock_unix_ms(), stores));
        wall_ahead_s = 3600; // it is set
    }
}

static void take_next_due(void *arg, int code, int64_t due_ms) {
    struct answer *a = arg;
    a->done = true;
    a->code = code;
    a->count = (size_t)due_ms;
}

static void leases_go_by_the_stores_clock(void **state) {
    struct world *w = *state;
    add_triggers(w, "t", 0);
    put_letter(w->a, "t", 5000, LETTER_DUE);
    wall_ahead_s = -90;
    struct answer due, a = {0};
    assert_int_equal(claim(w, clock_unix_ms() + 2 * HOUR_MS, &due), 1);
    wall_ahead_s = 90;
    letters_next_due(w->a->letters, take_next_due, &a);
    TURN_UNTIL(w->fx.loop, a.done);
    assert_true(a.code == 0 && a.count == 0);
    assert_int_equal(claim(w, clock_unix_ms() + 2 * HOUR_MS, &a), 0);
    ev_free(due.letters[0].ev);
}

static void while_the_store_is_away_nothing_is_decided_and_nothing_lost(void **state) {
    struct world *w = *state;
    fires_start(w->a->fires);
    TURN_UNTIL(w->fx.loop, fires_is_leader(w->a->fires));
    add_triggers(w, "t", 0);
    free(service_run("postgres", "kill", postgres_dir));
    struct one o = {.trigger = "t", .from_ms = CREATED_MS, .to_ms = 5000, .times = {5000}};
    struct decision d;
    struct fire_plan p;
    struct fire_verdict v;
    start_one(w->a, &o, &d, &p, &v);
    TURN_UNTIL(w->fx.loop, d.done);
    assert_int_equal(d.code, ERR_UNAVAILABLE);
    assert_false(fires_is_leader(w->a->fires));
    free(service_run("postgres", "start", postgres_dir));
    TURN_UNTIL(w->fx.loop, fires_is_leader(w->a->fires));
    fire_at(w->a, "t", CREATED_MS, 5000, FIRE_ALLOW);
    TURN_UNTIL(w->fx.loop, got_event(w, "t", 5000));
}

// --- all of them ------------------------------------------------------------------------------------------------------

#define ALL(X)                                                              \
    X(a_time_happens_once_and_is_told)                                      \
    X(one_that_never_happens_has_a_row_and_no_event)                        \
    X(a_plan_from_an_older_state_of_things_is_void)                         \
    X(one_void_plan_does_not_hurt_its_neighbours)                           \
    X(skip_leaves_out_what_comes_while_one_runs)                            \
    X(one_that_is_retried_is_running_and_one_that_died_is_not)              \
    X(one_that_was_not_heard_of_for_too_long_is_not_running)                \
    X(queue_lets_one_wait_until_the_other_is_over)                          \
    X(one_that_waits_for_what_vanished_is_let_go)                           \
    X(one_that_waits_goes_with_its_trigger)                                 \
    X(cancel_stops_what_runs)                                               \
    X(what_was_cancelled_is_known_after_a_restart)                          \
    X(of_too_many_cancelled_the_newest_stay_known)                          \
    X(a_fire_by_hand_happens_once_beside_the_schedule)                      \
    X(what_was_skipped_can_be_made_up_for)                                  \
    X(a_fire_whose_letter_is_still_there_is_not_put_again)                  \
    X(the_history_has_pages_and_tells_what_its_letters_know)                \
    X(a_cursor_far_ahead_of_the_clock_is_not_believed)                      \
    X(the_cursors_are_there_at_the_start)                                   \
    X(old_fires_are_deleted)                                                \
    X(the_oldest_over_the_cap_are_deleted)                                  \
    X(an_open_fire_does_not_stay_open_for_ever)                             \
    X(what_a_dead_node_had_decided_is_sent_when_its_lease_runs_out)         \
    X(a_slow_queue_makes_it_busy)                                           \
    X(ten_thousand_at_once)
#define OWN_STORE(X)                                                        \
    X(nothing_goes_through_a_timers_history)
#define SHARED_STORE(X)                                                     \
    X(of_two_nodes_one_decides_each_time)                                   \
    X(another_node_hears_of_a_cancel)                                       \
    X(the_end_on_one_node_lets_go_what_waits)                               \
    X(one_node_leads_until_it_goes)                                         \
    X(the_clock_is_the_stores)                                              \
    X(leases_go_by_the_stores_clock)                                        \
    X(while_the_store_is_away_nothing_is_decided_and_nothing_lost)

int main(void) {
    const struct CMUnitTest sqlite[] = {
#define X(test) {"sqlite: " #test, test, setup_sqlite, teardown, NULL},
        ALL(X) OWN_STORE(X)
#undef X
    };
    const struct CMUnitTest postgres[] = {
#define X(test) {"postgres: " #test, test, setup_postgres, teardown, NULL},
        ALL(X) SHARED_STORE(X)
#undef X
    };
    int failed = cmocka_run_group_tests_name("fires on SQLite", sqlite, NULL, NULL);
    const char *wanted = getenv("WEIR_TEST_POSTGRES_URL");
    if (!wanted || !*wanted) return failed;
    postgres_dir = temp_dir_new();
    postgres_url = service_run("postgres", "start", postgres_dir);
    failed += cmocka_run_group_tests_name("fires on PostgreSQL", postgres, NULL, NULL);
    free(service_run("postgres", "kill", postgres_dir));
    temp_dir_remove(postgres_dir);
    free(postgres_url);
    return failed;
}
