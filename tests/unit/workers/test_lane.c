// SPDX-License-Identifier: Apache-2.0
// workers/lane where it meets the end of a drain, versions of other nodes, and replays in order, all parts real.
#include <semaphore.h>

#include "tests/unit/workers/dispatch_world.h"
#include "workers/fleet.h"
#include "workers/lane.h"
#include "workers/settle.h"

static struct ev *event_of_key(const char *key, const char *message) {
    cleanup_free char *payload = mem_printf("{\"Message\":\"%s\"}", message);
    return ev_new(&(struct ev_fields){.function = STR_LIT("f"), .ordering_key = str_of(key), .payload = str_of(payload),
                                      .content_type = STR_LIT("application/json")});
}

static void on_sent(void *arg, int code, const struct err *err) {
    (void)err;
    assert_int_equal(code, 0);
    if (arg) ++*(int *)arg;
}

static void send(struct world *w, const char *key, const char *message) {
    ingest_async(w->ingest, event_of_key(key, message), on_sent, NULL);
}

// --- a drain --------------------------------------------------------------------------------------------------------------

static bool on_no_hunger(void *arg) {
    (void)arg;
    return false;
}

static void on_room(void *arg) {
    (void)arg;
}

static struct outlet *no_outlet(void *arg, const struct delivery *d, bool failure) {
    (void)arg, (void)d, (void)failure;
    return NULL;
}

// A lane as dispatch has it, when its drain is over, and its queue hands it what was on the way.
struct own_lane {
    struct fleet *fleet;
    struct settle *settle;
    struct lane *lane;
};

static struct own_lane own_lane_open(struct world *w) {
    struct own_lane o = {
        .fleet = fleet_new(&(struct fleet_config){.loop = w->loop,
                                                  .options = &w->options,
                                                  .runtimes = &w->runtimes,
                                                  .sandbox = w->sandbox,
                                                  .log = w->log,
                                                  .on_room = on_room,
                                                  .on_pressure = on_no_hunger,
                                                  .on_hunger = on_no_hunger}),
        .settle = settle_new(&(struct settle_config){
            .loop = w->loop, .letters = w->letters, .ingest = w->config.ingest, .metrics = w->metrics, .outlet_of = no_outlet})};
    o.lane = lane_new(&w->config, o.fleet, o.settle, STR_LIT("f"));
    lane_open(o.lane);
    return o;
}

static void own_lane_close(struct world *w, struct own_lane *o) {
    bool quiet = lane_is_quiet(o->lane);
    lane_free(o->lane); // no pool of it has anything
    assert_true(quiet);
    settle_free(o->settle);
    TURN_UNTIL(w->loop, fleet_stop(o->fleet));
    fleet_free(o->fleet);
}

static void what_comes_after_the_end_of_a_drain_goes_back(void **state) {
    struct world *w = *state;
    drain(w);
    struct own_lane o = own_lane_open(w);
    int published = 0;
    lane_kill(o.lane);
    queue_publish(w->queue, event_of_key("", "late"), on_sent, &published);
    TURN_UNTIL(w->loop, published); // and the same turn hands it out
    lane_pause(o.lane);
    loop_turn(w->loop, 5);
    own_lane_close(w, &o);
    assert_int_equal(on_queue(w), 1);
    assert_int_equal(runs(w, "late"), 0);
}

// --- versions of other nodes -------------------------------------------------------------------------------------------------

static struct ev *event_for(const char *version, const char *message) {
    struct ev *plain = event_of_key("", message);
    struct ev_fields f = plain->f;
    f.qualifier = str_of(version);
    struct ev *ev = ev_new(&f);
    ev_free(plain);
    return ev;
}

// As a node that knows the version sends it.
static void publish_for(struct world *w, const char *version, const char *message) {
    int published = 0;
    queue_publish(w->queue, event_for(version, message), on_sent, &published);
    TURN_UNTIL(w->loop, published);
}

static void a_version_that_another_node_just_made_is_looked_for(void **state) {
    struct world *w = *state;
    execute(w, "INSERT INTO versions (function, number, sha256, settings, created_ms)"
               " SELECT function, 2, sha256, settings, created_ms FROM versions WHERE number = 1");
    execute(w, "UPDATE revision SET number = number + 1");
    publish_for(w, "2", "second");
    publish_for(w, "2", "second again");
    publish_for(w, "9", "ninth"); // there is none
    TURN_UNTIL(w->loop, runs(w, "second") == 1 && runs(w, "second again") == 1);
    TURN_UNTIL(w->loop, letters(w, "dead") == 1);
    assert_int_equal(execute(w, "SELECT count(*) FROM letters WHERE state = 'dead' AND kind = 'unroutable'"), 1);
    assert_int_equal(runs(w, "ninth"), 0);
    TURN_UNTIL(w->loop, on_queue(w) == 0);
}

// The look itself shows that the function is gone: what waits for it stays with the queue, as all that waits does.
static void what_is_looked_for_goes_back_when_its_function_is_gone(void **state) {
    struct world *w = *state;
    execute(w, "DELETE FROM versions");
    execute(w, "DELETE FROM functions");
    execute(w, "UPDATE revision SET number = number + 1");
    publish_for(w, "2", "second");
    TURN_UNTIL(w->loop, !registry_find(w->registry, STR_LIT("f")));
    loop_turn(w->loop, 5);
    assert_int_equal(execute(w, "SELECT count(*) FROM letters"), 0);
    assert_int_equal(on_queue(w), 1);
}

// A queue before the real one, which can lose its connection.
struct losing {
    struct queue base;
    struct queue *real;
    void (*on_lost)(void *arg);
    void *arg;
};

static struct queue_consumer *consume_of_losing(struct queue *q, const struct queue_consumer_config *config) {
    struct losing *l = container_of(q, struct losing, base);
    l->on_lost = config->on_lost;
    l->arg = config->arg;
    return queue_consume(l->real, config);
}

static const struct queue_ops losing_ops = {.scheme = "losing", .consume = consume_of_losing};

static sem_t store_may;

static int wait_until_it_may(struct store_job *job, struct sql *sql, struct err *err) {
    (void)job, (void)sql, (void)err;
    while (sem_wait(&store_may)) {}
    return 0;
}

static bool nobody_waits(const struct lookup *l) {
    return !l->next && !l->under_way;
}

// The queue delivers all of it again: what waits for a look, or for the next one, must not run beside that.
static void what_is_looked_for_goes_back_when_its_queue_is_lost(void **state) {
    struct world *w = *state;
    struct losing losing = {.base = {&losing_ops}, .real = w->queue};
    struct statement s = {.job = {.run = wait_until_it_may, .done = statement_done}};
    drain(w);
    w->config.queue = &losing.base;
    struct own_lane o = own_lane_open(w);
    sem_init(&store_may, 0, 0);
    store_submit(w->store, &s.job);
    publish_for(w, "2", "first");
    TURN_UNTIL(w->loop, o.lane->lookup.under_way);
    publish_for(w, "2", "second");
    TURN_UNTIL(w->loop, o.lane->lookup.next);
    lane_pause(o.lane); // so that nothing comes again
    losing.on_lost(losing.arg);
    bool next_went = !o.lane->lookup.next;
    sem_post(&store_may);
    TURN_UNTIL(w->loop, s.answer.there && nobody_waits(&o.lane->lookup));
    assert_true(next_went);
    assert_int_equal(execute(w, "SELECT count(*) FROM letters"), 0);
    assert_int_equal(on_queue(w), 2);
    own_lane_close(w, &o);
    sem_destroy(&store_may);
}

// It came after the look had begun, so that one cannot answer for it.
static void what_comes_during_a_look_has_the_next_one(void **state) {
    struct world *w = *state;
    struct statement s = {.job = {.run = wait_until_it_may, .done = statement_done}};
    drain(w);
    struct own_lane o = own_lane_open(w);
    sem_init(&store_may, 0, 0);
    store_submit(w->store, &s.job);
    publish_for(w, "2", "first");
    TURN_UNTIL(w->loop, o.lane->lookup.under_way);
    publish_for(w, "3", "second");
    TURN_UNTIL(w->loop, o.lane->lookup.next);
    sem_post(&store_may);
    TURN_UNTIL(w->loop, s.answer.there && letters(w, "dead") == 2); // there is neither
    assert_true(nobody_waits(&o.lane->lookup));
    TURN_UNTIL(w->loop, on_queue(w) == 0);
    lane_pause(o.lane);
    own_lane_close(w, &o);
    sem_destroy(&store_may);
}

static void on_result(void *arg, int code, const struct err *err, const struct outcome_report *report) {
    on_answer(arg, code, err);
    assert_true(code == 0 && report->outcome == OUTCOME_OK);
}

static void what_waits_for_an_instance_goes_back_when_its_queue_is_lost(void **state) {
    struct world *w = *state;
    struct losing losing = {.base = {&losing_ops}, .real = w->queue};
    struct answer sync = {0};
    drain(w); // which ends its ingest too
    struct ingest *ingest = ingest_new(&(struct ingest_config){
        .loop = w->loop, .registry = w->registry, .queue = w->queue, .sync_lane = w->sync_lane, .metrics = w->metrics});
    w->config.ingest = ingest;
    w->config.queue = &losing.base;
    struct own_lane o = own_lane_open(w);
    publish_for(w, "", "gate");
    TURN_UNTIL(w->loop, runs(w, "gate") == 1); // and has the only instance
    publish_for(w, "", "durable");
    ingest_sync(ingest, event_of_key("", "sync"), on_result, &sync);
    TURN_UNTIL(w->loop, pools_count(&o.lane->pools).waiting == 2);
    queue_consumer_pause(o.lane->durable); // so that nothing comes again
    losing.on_lost(losing.arg);
    assert_int_equal(pools_count(&o.lane->pools).waiting, 1); // the one that no queue delivers again
    open_gate(w);
    TURN_UNTIL(w->loop, sync.there && on_queue(w) == 1);
    assert_int_equal(runs(w, "sync"), 1);
    assert_int_equal(runs(w, "durable"), 0);
    lane_kill(o.lane);
    TURN_UNTIL(w->loop, lane_instances(o.lane) == 0);
    own_lane_close(w, &o);
    ingest_free(ingest);
}

// By the way of all events: HTTP, due letters, replays.
static void ingest_looks_for_a_version_too(void **state) {
    struct world *w = *state;
    struct answer there = {0}, missing = {0};
    execute(w, "INSERT INTO versions (function, number, sha256, settings, created_ms)"
               " SELECT function, 2, sha256, settings, created_ms FROM versions WHERE number = 1");
    execute(w, "UPDATE revision SET number = number + 1");
    ingest_async(w->ingest, event_for("2", "second"), on_answer, &there);
    ingest_async(w->ingest, event_for("9", "ninth"), on_answer, &missing);
    TURN_UNTIL(w->loop, there.there && missing.there);
    assert_int_equal(there.code, 0);
    assert_int_equal(missing.code, ERR_NOT_FOUND);
    TURN_UNTIL(w->loop, runs(w, "second") == 1);
}

static int forget_table(struct store_job *job, struct sql *sql, struct err *err) {
    (void)job;
    return sql_exec(sql, "ALTER TABLE revision RENAME TO elsewhere", NULL, 0, NULL, NULL, NULL, err);
}

// The store cannot say whether there is such a version: the event waits, says why, and is as old as it was.
static void what_could_not_be_looked_for_waits_and_grows_older(void **state) {
    struct world *w = *state;
    struct statement s = {.job = {.run = forget_table, .done = statement_done}};
    store_submit(w->store, &s.job);
    TURN_UNTIL(w->loop, s.answer.there);
    struct ev *young = event_for("2", "second");
    struct ev_fields f = young->f;
    int published = 0;
    f.accepted_ms = 1000;
    queue_publish(w->queue, ev_new(&f), on_sent, &published);
    ev_free(young);
    TURN_UNTIL(w->loop, letters(w, "due") == 1);
    assert_int_equal(execute(w, "SELECT count(*) FROM letters WHERE error_message LIKE '%revision%'"), 1);
    assert_int_equal(execute(w, "SELECT accepted_ms FROM letters"), 1000);
}

// --- replays in order --------------------------------------------------------------------------------------------------------

static bool is_held(struct world *w, const char *key) {
    struct ev *ev = event_of_key(key, "");
    bool held = replays_holds(w->replays, ev);
    ev_free(ev);
    return held;
}

static void replay_in_order(struct world *w) {
    struct replay_spec spec = {.abort_share = -1, .in_order = true, .who = STR_LIT("anna")};
    struct err err = {0};
    struct answer a = {0};
    if (selection_new(&(struct select_spec){.state = STR_LIT("dead")}, &spec.sel, &err)) fail_msg("%s", err.text);
    replays_create(w->replays, &spec, on_json, &a);
    TURN_UNTIL(w->loop, a.there);
    assert_int_equal(a.code, 0);
    json_decref(a.json);
}

// It was at hand before anybody held its key.
static void a_live_event_that_waits_for_its_turn_waits_for_letters_of_its_key_too(void **state) {
    struct world *w = *state;
    struct ev *dead = event_of_key("k", "letter");
    struct answer a = {0};
    letters_put(w->letters, &(struct letter_draft){.ev = dead, .state = LETTER_DEAD, .kind = LETTER_FUNCTION}, on_answer, &a);
    TURN_UNTIL(w->loop, a.there);
    ev_free(dead);
    send(w, "", "gate");
    TURN_UNTIL(w->loop, runs(w, "gate") == 1);
    send(w, "k", "live");
    send(w, "other", "other");
    TURN_UNTIL(w->loop, on_queue(w) == 3);
    replays_start(w->replays);
    replay_in_order(w);
    TURN_UNTIL(w->loop, is_held(w, "k"));
    assert_int_equal(letters(w, "due"), 0);
    open_gate(w);
    TURN_UNTIL(w->loop, letters(w, "due") == 1);
    TURN_UNTIL(w->loop, runs(w, "letter") == 1 && runs(w, "other") == 1);
    assert_int_equal(runs(w, "live"), 0);
    assert_int_equal(execute(w, "SELECT count(*) FROM letters WHERE state = 'due' AND ordering_key = 'k' AND attempts = 0"), 1);
    TURN_UNTIL(w->loop, !is_held(w, "k"));
    assert_true(metrics_get(w->metrics, METRIC_ATTEMPTS_FAILED, STR_LIT("f")) == 0);
}

// It arrives when its key is held.
static void a_live_event_of_a_held_key_waits(void **state) {
    struct world *w = *state;
    struct ev *dead = event_of_key("k", "gate");
    struct answer a = {0};
    letters_put(w->letters, &(struct letter_draft){.ev = dead, .state = LETTER_DEAD, .kind = LETTER_FUNCTION}, on_answer, &a);
    TURN_UNTIL(w->loop, a.there);
    ev_free(dead);
    replays_start(w->replays);
    replay_in_order(w);
    TURN_UNTIL(w->loop, runs(w, "gate") == 1);
    assert_true(is_held(w, "k"));
    send(w, "k", "live");
    TURN_UNTIL(w->loop, letters(w, "due") == 1);
    open_gate(w);
    TURN_UNTIL(w->loop, !is_held(w, "k"));
    send(w, "k", "later");
    TURN_UNTIL(w->loop, runs(w, "later") == 1);
    assert_int_equal(runs(w, "live"), 0);
    assert_int_equal(letters(w, "due"), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(what_comes_after_the_end_of_a_drain_goes_back),
        TEST(a_version_that_another_node_just_made_is_looked_for),
        TEST(what_is_looked_for_goes_back_when_its_function_is_gone),
        TEST(what_is_looked_for_goes_back_when_its_queue_is_lost),
        TEST(what_comes_during_a_look_has_the_next_one),
        TEST(what_waits_for_an_instance_goes_back_when_its_queue_is_lost),
        TEST(ingest_looks_for_a_version_too),
        TEST(what_could_not_be_looked_for_waits_and_grows_older),
        TEST(a_live_event_that_waits_for_its_turn_waits_for_letters_of_its_key_too),
        TEST(a_live_event_of_a_held_key_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
