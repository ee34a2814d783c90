// SPDX-License-Identifier: Apache-2.0
// workers/intake with its gate, calls, settling and letters in a real store, over a source and a pool that are played here: whatever
// the keys, the failures and the sizes of batches, keys keep their order, every record ends once, and every bad one is one letter.
#include "workers/intake.h"

#include <utlist.h>

#include "tests/support/support.h"

#define RECORDS_MAX 6000
#define RETRIES 2u

struct record {
    unsigned key, partition; // key 0: none
    bool poison, transient;  // fails always; fails when it is run for the first time
    unsigned runs_alone, completions, acks;
    bool waiting;            // at the source, to be delivered (again)
    uint64_t tag;
};

struct world {
    struct loop *loop;
    char *dir;
    struct store *store;
    struct letters *letters;
    struct metrics *metrics;
    struct settle *settle;
    struct version *version;
    struct intake *intake;
    struct binding binding;
    // the source
    struct source source;
    struct queue_consumer consumer;
    struct queue_consumer_config config;
    bool paused, consumer_closed;
    struct record records[RECORDS_MAX];
    size_t record_count, unacked, credit;
    uint64_t next_tag;
    // the pool
    struct delivery *waiting, *running;
    size_t running_count, instances, biggest_call, calls;
    bool names_failures;     // the function uses batchItemFailures
    bool closed;
    unsigned seed;
    unsigned last_done[65][8]; // by key and partition: number of the last record that completed, + 1
    bool disorder;
    // the sink
    struct sink sink;
    size_t sent, sink_fails;
    char last_type[64], last_key[64];
};

static unsigned draw(struct world *w, unsigned below) {
    return (unsigned)rand_r(&w->seed) % below;
}

// --- the source -------------------------------------------------------------------------------------------------------

static struct world *of_consumer(struct queue_consumer *c) {
    return container_of(c, struct world, consumer);
}

static struct record *by_tag(struct world *w, uint64_t tag) {
    for (size_t i = 0; i < w->record_count; i++)
        if (w->records[i].tag == tag) return &w->records[i];
    return NULL; // void
}

static void src_ack(struct queue_consumer *c, uint64_t tag) {
    struct record *r = by_tag(of_consumer(c), tag);
    if (!r) return;
    r->acks++;
    r->tag = 0;
    of_consumer(c)->unacked--;
}

static void src_release(struct queue_consumer *c, uint64_t tag) {
    struct record *r = by_tag(of_consumer(c), tag);
    if (!r) return;
    r->waiting = true;
    r->tag = 0;
    of_consumer(c)->unacked--;
}

static void src_pause(struct queue_consumer *c) {
    of_consumer(c)->paused = true;
}

static void src_close(struct queue_consumer *c) {
    of_consumer(c)->consumer_closed = true;
}

static size_t src_unsettled(const struct queue_consumer *c) {
    (void)c;
    return 0;
}

static void src_set_credit(struct queue_consumer *c, size_t credit) {
    of_consumer(c)->credit = credit;
}

static const struct queue_consumer_ops consumer_ops = {.ack = src_ack,
                                                       .release = src_release,
                                                       .pause = src_pause,
                                                       .close = src_close,
                                                       .unsettled = src_unsettled,
                                                       .set_credit = src_set_credit};

static struct queue_consumer *src_consume(struct source *s, const struct queue_consumer_config *config) {
    struct world *w = container_of(s, struct world, source);
    w->consumer.ops = &consumer_ops;
    w->config = *config;
    w->credit = config->credit;
    return &w->consumer;
}

static const struct source_ops source_ops = {.consume = src_consume};

static struct ev *event_of(const struct world *w, size_t i) {
    const struct record *r = &w->records[i];
    char key[24] = "", at[160], payload[32];
    if (r->key) snprintf(key, sizeof key, "key-%u", r->key);
    snprintf(at, sizeof at, "{\"topic\":\"t\",\"partition\":%u,\"offset\":%zu,\"timestamp\":1,\"timestampType\":\"CREATE_TIME\"}",
             r->partition, i);
    snprintf(payload, sizeof payload, "{\"n\":%zu}", i);
    const struct ev_fields f = {.id = id_derive(1767225600000, r->partition, i),
                                .function = STR_LIT("f"),
                                .source_kind = STR_LIT("kafka"),
                                .source_name = STR_LIT("t"),
                                .source_at = str_of(at),
                                .ordering_key = str_of(key),
                                .shape = str_of(shape_word(w->binding.shape)),
                                .payload = str_of(payload)};
    return ev_new(&f);
}

static size_t number_of(const struct ev *ev) {
    return strtoul(ev->f.payload.data + strlen("{\"n\":"), NULL, 10);
}

// Up to `most` of the records that wait, in order.
static void deliver(struct world *w, size_t most) {
    struct queue_msg msgs[64];
    size_t n = 0;
    if (w->paused) return;
    for (size_t i = 0; i < w->record_count && n < most && n < array_len(msgs) && w->unacked < w->credit; i++) {
        struct record *r = &w->records[i];
        if (!r->waiting) continue;
        r->waiting = false;
        r->tag = ++w->next_tag;
        w->unacked++;
        msgs[n++] = (struct queue_msg){.tag = r->tag, .ev = event_of(w, i), .content = QUEUE_RAW, .partition = r->partition};
    }
    if (n) w->config.on_messages(w->config.arg, msgs, n);
}

// As when a connection breaks: tags are void, what was not acknowledged comes again.
static void lose(struct world *w) {
    for (size_t i = 0; i < w->record_count; i++) {
        struct record *r = &w->records[i];
        if (r->tag == 0) continue;
        r->tag = 0;
        r->waiting = true;
    }
    w->unacked = 0;
    w->config.on_lost(w->config.arg);
}

// --- the pool ---------------------------------------------------------------------------------------------------------

static void pool_run(void *arg, struct delivery *d) {
    struct world *w = arg;
    if (d->state != DELIVERY_WAITING) delivery_move(d, DELIVERY_WAITING);
    if (!d->version) d->version = version_ref(w->version);
    DL_APPEND(w->waiting, d);
}

static bool pool_has_room(void *arg) {
    const struct world *w = arg;
    return !w->waiting && w->running_count < w->instances;
}

static bool pool_is_waiting(void *arg, const struct intake *in) {
    (void)in;
    return ((struct world *)arg)->waiting != NULL;
}

static struct delivery *pool_take(void *arg, struct intake *in) {
    (void)in;
    struct world *w = arg;
    return TAKE_PTR(w->waiting);
}

static void pump(struct world *w) {
    while (w->waiting && w->running_count < w->instances) {
        struct delivery *d = w->waiting;
        DL_DELETE(w->waiting, d);
        if (intake_handout(w->intake, d)) continue;
        delivery_move(d, DELIVERY_SENT);
        DL_APPEND(w->running, d);
        w->running_count++;
        size_t count = d->batch ? d->batch->count : 1;
        if (count > w->biggest_call) w->biggest_call = count;
        w->calls++;
    }
}

static bool fails(const struct world *w, const struct delivery *d) {
    const struct record *r = &w->records[number_of(d->ev)];
    return r->poison || (r->transient && d->ev->f.attempt == 0);
}

static void completed(struct world *w, const struct delivery *d) {
    size_t n = number_of(d->ev);
    struct record *r = &w->records[n];
    if (r->completions++ || r->key == 0) return;
    unsigned *last = &w->last_done[w->binding.order == ORDER_PARTITION ? 0 : r->key][r->partition];
    if (n + 1 < *last) w->disorder = true;
    *last = (unsigned)n + 1;
}

// The records of the call in order, as the function goes through them.
static bool go_through(struct world *w, struct delivery *d, struct buf *names) {
    struct delivery *m, *list = d->batch ? d->batch->members : d;
    bool any = false;
    size_t count = d->batch ? d->batch->count : 1;
    const struct gate_key *broken = NULL;
    for (m = list; m; m = d->batch ? m->next : NULL) {
        const struct record *r = &w->records[number_of(m->ev)];
        if (count == 1) w->records[number_of(m->ev)].runs_alone++;
        if (fails(w, m)) {
            if (buf_printf(names, "%s{\"itemIdentifier\":\"t-%u-%zu\"}", any ? "," : "", r->partition, number_of(m->ev))) fail();
            any = true;
            broken = m->key;
        }
    }
    if (any && !w->names_failures) return false;
    broken = NULL;
    for (m = list; m; m = d->batch ? m->next : NULL) {
        if (broken && m->key == broken) continue; // runs again
        if (fails(w, m)) broken = m->key;
        else completed(w, m);
    }
    return true;
}

static void finish(struct world *w, struct delivery *d) {
    DL_DELETE(w->running, d);
    w->running_count--;
    struct buf names, result;
    buf_init(&names, 1 << 20);
    buf_init(&result, 1 << 20);
    delivery_move(d, DELIVERY_FINISHED);
    struct outcome_report r = {.outcome = OUTCOME_OK, .result = STR_LIT("null"), .version = 1, .start_unix_ms = 1};
    bool named = go_through(w, d, &names);
    if (!named || (!d->batch && buf_len(&names))) {
        r = (struct outcome_report){.outcome = draw(w, 4) ? OUTCOME_ERROR : OUTCOME_CRASH,
                                    .error_type = STR_LIT("ValueError"),
                                    .error_message = STR_LIT("bad"),
                                    .version = 1};
    } else if (w->names_failures) {
        if (buf_printf(&result, "{\"batchItemFailures\":[%.*s]}", STR_ARG(buf_str(&names)))) fail();
        r.result = buf_str(&result);
    }
    intake_outcome(w->intake, d, &r);
    buf_done(&names);
    buf_done(&result);
}

static void finish_one(struct world *w) {
    if (!w->running) return;
    struct delivery *d = w->running;
    for (unsigned skip = draw(w, (unsigned)w->running_count); skip; skip--) d = d->next;
    finish(w, d);
}

// --- the sink ---------------------------------------------------------------------------------------------------------

struct send_job {
    struct timer *timer;
    struct world *w;
    sink_done_fn *done;
    void *arg;
};

static void on_sent(void *arg) {
    struct send_job *job = arg;
    struct err err = {0};
    struct world *w = job->w;
    int code = ERR_OK;
    if (w->sink_fails) {
        w->sink_fails--;
        code = err_set(&err, ERR_UNAVAILABLE, "the broker is away");
    } else {
        w->sent++;
    }
    timer_free(job->timer);
    job->done(job->arg, code, &err);
    free(job);
}

static void snk_send(struct sink *s, const struct sink_message *m, sink_done_fn *done, void *arg) {
    struct world *w = container_of(s, struct world, sink);
    struct send_job *job = mem_zalloc(sizeof *job);
    *job = (struct send_job){.timer = timer_new(w->loop, on_sent, job), .w = w, .done = done, .arg = arg};
    snprintf(w->last_key, sizeof w->last_key, "%.*s", STR_ARG(m->key));
    for (size_t i = 0; i < m->header_count; i++)
        if (str_is(m->headers[i].name, "ce_type") || str_is(m->headers[i].name, "weir-error-type"))
            snprintf(w->last_type, sizeof w->last_type, "%.*s", STR_ARG(m->headers[i].value));
    timer_start(job->timer, 0);
}

static const struct sink_ops sink_ops = {.send = snk_send};

// --- the world --------------------------------------------------------------------------------------------------------

static void on_due(void *arg, int64_t due_ms) {
    (void)arg, (void)due_ms;
}

static void on_rest(void *arg, struct delivery *d, int64_t delay_ms) {
    (void)arg;
    intake_rest(d->intake, d, delay_ms);
}

static struct outlet *outlet_of(void *arg, const struct delivery *d, bool failure) {
    (void)arg;
    const struct binding *b = intake_binding(d->intake);
    return (failure ? b->on_failure : b->on_success) ? intake_outlet(d->intake) : NULL;
}

static void on_closed(void *arg, struct intake *in) {
    (void)in;
    ((struct world *)arg)->closed = true;
}

static char name_text[] = "t", kind_text[] = "kafka", function_text[] = "f", to_text[] = "out", no_text[] = "";

static int setup(void **state) {
    struct world *w = mem_zalloc(sizeof *w);
    struct err err = {0};
    w->loop = loop_new();
    w->dir = temp_dir_new();
    cleanup_free char *url = mem_printf("sqlite:%s/weir.db", w->dir);
    if (store_open(w->loop, url, &w->store, &err)) fail_msg("%s", err.text);
    w->letters = letters_new(w->loop, w->store, w->store, NULL);
    w->metrics = metrics_new();
    const struct settle_config settle = {.loop = w->loop,
                                         .letters = w->letters,
                                         .metrics = w->metrics,
                                         .on_due = on_due,
                                         .on_rest = on_rest,
                                         .outlet_of = outlet_of,
                                         .arg = w};
    w->settle = settle_new(&settle);
    w->version = mem_zalloc(sizeof *w->version);
    w->version->refs = 1;
    settings_init(&w->version->settings);
    w->version->settings.retries = RETRIES;
    w->version->settings.backoff_ms[0] = 1;
    w->version->settings.backoff_count = 1;
    w->source.ops = &source_ops;
    w->sink.ops = &sink_ops;
    w->instances = 3;
    w->binding = (struct binding){.name = name_text,
                                  .kind = kind_text,
                                  .function = function_text,
                                  .source = &w->source,
                                  .order = ORDER_KEY,
                                  .shape = SHAPE_SCF,
                                  .batch = 10,
                                  .batch_bytes = EV_PAYLOAD_MAX,
                                  .credit = 500,
                                  .credit_bytes = 1 << 26,
                                  .success_to = to_text,
                                  .success_key = no_text,
                                  .failure_to = to_text,
                                  .failure_key = no_text};
    *state = w;
    return 0;
}

static void start(struct world *w) {
    const struct intake_config config = {.loop = w->loop,
                                         .binding = &w->binding,
                                         .metrics = w->metrics,
                                         .settle = w->settle,
                                         .max_deliveries = 10,
                                         .run = pool_run,
                                         .has_room = pool_has_room,
                                         .is_waiting = pool_is_waiting,
                                         .take_waiting = pool_take,
                                         .on_closed = on_closed,
                                         .arg = w};
    w->intake = intake_new(&config);
}

static void stop(struct world *w) {
    if (!w->intake) return;
    intake_close(w->intake);
    while (w->running) finish(w, w->running);
    TURN_UNTIL(w->loop, w->closed);
    assert_true(w->consumer_closed);
    intake_free(w->intake);
    w->intake = NULL;
}

static int teardown(void **state) {
    struct world *w = *state;
    stop(w);
    settle_free(w->settle);
    letters_free(w->letters);
    store_close(w->store);
    metrics_free(w->metrics);
    version_unref(w->version);
    loop_free(w->loop);
    temp_dir_remove(w->dir);
    free(w);
    return 0;
}

static void add_records(struct world *w, size_t count, unsigned keys, unsigned partitions, unsigned poison_percent) {
    for (size_t i = 0; i < count; i++) {
        struct record *r = &w->records[w->record_count++];
        *r = (struct record){.key = keys ? draw(w, keys + 1) : 0, .partition = draw(w, partitions), .waiting = true};
        if (w->binding.order == ORDER_PARTITION) r->key = 1;
        r->poison = draw(w, 100) < poison_percent;
        r->transient = !r->poison && w->binding.order != ORDER_NONE && draw(w, 100) < 3;
    }
}

static bool all_acked(const struct world *w) {
    for (size_t i = 0; i < w->record_count; i++)
        if (!w->records[i].acks) return false;
    return true;
}

static void turn(struct world *w) {
    deliver(w, 1 + draw(w, 60));
    pump(w);
    if (draw(w, 3)) finish_one(w);
    loop_turn(w->loop, 0);
}

static void run_until_acked(struct world *w) {
    int64_t until_ns = clock_mono_ns() + 60000 * NS_PER_MS;
    while (!all_acked(w)) {
        if (clock_mono_ns() > until_ns) {
            json_t *o = intake_status(w->intake);
            char *text = json_dumps(o, 0);
            fail_msg("stuck: %s", text);
        }
        turn(w);
    }
}

struct dead {
    size_t count, wrong_attempts;
    bool done;
    size_t of[RECORDS_MAX];
};

static void on_dead(void *arg, int code, const struct err *err, struct letter *letters, size_t count) {
    struct dead *dead = arg;
    if (code) fail_msg("%s", err->text);
    for (size_t i = 0; i < count; i++) {
        dead->of[number_of(letters[i].ev)]++;
        dead->wrong_attempts += letters[i].ev->f.attempt != RETRIES + 1;
        ev_free(letters[i].ev);
    }
    dead->count += count;
    dead->done = true;
}

static void count_dead(struct world *w, struct dead *dead) {
    struct err err = {0};
    struct selection *sel = NULL;
    if (selection_new(&(struct select_spec){.state = STR_LIT("dead")}, &sel, &err)) fail_msg("%s", err.text);
    *dead = (struct dead){0};
    letters_sample(w->letters, sel, 1000, on_dead, dead);
    TURN_UNTIL(w->loop, dead->done);
}

static void check_ends(struct world *w, bool lost) {
    struct dead *dead = mem_zalloc(sizeof *dead);
    count_dead(w, dead);
    if (!lost) assert_int_equal(dead->wrong_attempts, 0);
    for (size_t i = 0; i < w->record_count; i++) {
        const struct record *r = &w->records[i];
        assert_int_equal(r->acks, 1);
        assert_int_equal(dead->of[i], r->poison);
        if (r->poison) assert_int_equal(r->completions, 0);
        else if (lost) assert_true(r->completions >= 1);
        else if (r->completions < 1) fail_msg("record %zu was acknowledged and never completed", i);
    }
    if (w->disorder && w->binding.order != ORDER_NONE) fail_msg("a key's records completed out of order");
    free(dead);
}

// --- promises ---------------------------------------------------------------------------------------------------------

static void play(struct world *w, unsigned seed, bool lossy) {
    w->seed = seed;
    static const enum order orders[] = {ORDER_KEY, ORDER_KEY, ORDER_PARTITION, ORDER_NONE};
    w->binding.order = orders[seed % 4];
    w->names_failures = seed % 3 == 0;
    w->binding.batch = 1 + draw(w, 40);
    if (seed % 5 == 0) {
        w->binding.shape = SHAPE_RAW;
        w->binding.batch = 1;
    }
    w->binding.credit = 1 + draw(w, 400);
    w->instances = 1 + draw(w, 5);
    if (w->binding.order == ORDER_NONE) w->version->settings.retries = 0;
    add_records(w, 300, 1 + draw(w, 40), 1 + draw(w, 4), 4);
    start(w);
    if (lossy)
        for (int i = 0; i < 40; i++) {
            for (unsigned n = draw(w, 12); n; n--) turn(w);
            lose(w);
        }
    run_until_acked(w);
    if (w->binding.order == ORDER_NONE) w->version->settings.retries = RETRIES;
}

static void reset(void **state) {
    teardown(state);
    setup(state);
}

static void whatever_happens_keys_keep_their_order_and_records_end_once(void **state) {
    for (unsigned seed = 1; seed <= 40; seed++) {
        struct world *w = *state;
        play(w, seed, false);
        check_ends(w, w->binding.order == ORDER_NONE); // which has one attempt
        reset(state);
    }
}

static void what_a_lost_connection_brings_again_ends_too(void **state) {
    for (unsigned seed = 1; seed <= 24; seed++) {
        struct world *w = *state;
        play(w, seed, true);
        check_ends(w, true);
        reset(state);
    }
}

// --- one thing at a time ----------------------------------------------------------------------------------------------

// Turns the world until `cond`; what runs is finished as it comes.
#define PLAY_UNTIL(w, cond)                                                        \
    do {                                                                           \
        int64_t until_ns_ = clock_mono_ns() + 30000 * NS_PER_MS;                   \
        while (!(cond)) {                                                          \
            if (clock_mono_ns() > until_ns_) fail_msg("no %s within 30 s", #cond); \
            deliver(w, 64);                                                        \
            pump(w);                                                               \
            finish_one(w);                                                         \
            loop_turn((w)->loop, 1);                                               \
        }                                                                          \
    } while (0)

static json_int_t status_of(const struct world *w, const char *member) {
    json_t *o = intake_status(w->intake);
    json_int_t n = json_integer_value(json_object_get(o, member));
    json_decref(o);
    return n;
}

static void add(struct world *w, unsigned key, bool poison) {
    w->records[w->record_count++] = (struct record){.key = key, .poison = poison, .waiting = true};
}

static void deliver_all(struct world *w) {
    size_t before;
    do {
        before = w->unacked;
        deliver(w, 64);
    } while (w->unacked != before);
    loop_turn(w->loop, 0);
}

static void good_records_go_in_full_calls(void **state) {
    struct world *w = *state;
    w->instances = 1;
    for (int i = 0; i < 100; i++) add(w, 1 + (unsigned)i % 20, false);
    start(w);
    deliver_all(w);
    PLAY_UNTIL(w, all_acked(w));
    assert_int_equal(w->biggest_call, 10);
    assert_true(w->calls <= 20);
    assert_int_equal(status_of(w, "ok"), 100);
    assert_int_equal(status_of(w, "failed"), 0);
    assert_int_equal(status_of(w, "inFlight"), 0);
}

static void a_bad_record_is_found_and_only_it_is_charged(void **state) {
    struct world *w = *state;
    w->instances = 1;
    w->binding.batch = 64;
    for (int i = 0; i < 64; i++) add(w, (unsigned)i % 2 ? 1 + (unsigned)i : 0, i == 37);
    start(w);
    deliver_all(w);
    PLAY_UNTIL(w, all_acked(w));
    check_ends(w, false);
    assert_int_equal(w->records[37].runs_alone, RETRIES + 1);
    assert_int_equal(status_of(w, "failed"), RETRIES + 1);
    assert_true(w->calls < 30); // by halves: 1 + 2 for each of six levels, and the retries
    for (size_t i = 0; i < 64; i++) assert_int_equal(w->records[i].completions, i != 37); // nobody ran twice
}

static void other_keys_go_on_while_one_is_tried_again(void **state) {
    struct world *w = *state;
    w->version->settings.backoff_ms[0] = 3600 * 1000;
    w->binding.batch = 1;
    add(w, 1, true);
    for (int i = 0; i < 5; i++) add(w, 1, false);
    for (int i = 0; i < 5; i++) add(w, 2, false);
    start(w);
    PLAY_UNTIL(w, w->records[10].acks);
    assert_int_equal(status_of(w, "retrying"), 1);
    assert_int_equal(status_of(w, "parkedKeys"), 1);
    assert_int_equal(status_of(w, "waiting"), 5);
    for (int i = 1; i < 6; i++) assert_int_equal(w->records[i].completions, 0);
    stop(w); // gives all of it back
    for (int i = 0; i < 6; i++) assert_true(w->records[i].waiting);
    assert_int_equal(w->unacked, 0);
}

static void a_call_that_is_not_full_waits_for_its_window(void **state) {
    struct world *w = *state;
    w->binding.window_ms = 200;
    int64_t began_ns = clock_mono_ns();
    for (int i = 0; i < 4; i++) add(w, 0, false);
    start(w);
    PLAY_UNTIL(w, all_acked(w));
    assert_true(clock_mono_ns() - began_ns >= 190 * NS_PER_MS);
    assert_int_equal(w->calls, 1);
    assert_int_equal(w->biggest_call, 4);
}

static void a_call_that_is_not_full_does_not_wait_for_ever(void **state) {
    struct world *w = *state;
    w->instances = 0; // never an idle one
    add(w, 0, false);
    start(w);
    deliver_all(w);
    assert_null(w->waiting);
    TURN_UNTIL(w->loop, w->waiting);
    w->instances = 1;
    PLAY_UNTIL(w, all_acked(w));
}

// A source brings only what may be handed out soon, as more would only lie in memory.
static void what_nobody_can_take_yet_stays_at_the_source(void **state) {
    struct world *w = *state;
    w->binding.credit = 20000;
    w->instances = 0;
    start(w);
    add_records(w, 5000, 0, 2, 0);
    for (int i = 0; i < 100; i++) deliver(w, 64);
    assert_int_equal(w->unacked, INTAKE_FRESH_LEAST);
    w->instances = 3;
    run_until_acked(w);
}

// Neither what waits for its next try, nor what waits behind that for its key, takes the place of others.
static void a_window_full_of_retries_does_not_stop_the_flow(void **state) {
    struct world *w = *state;
    w->binding.shape = SHAPE_RAW;
    w->binding.batch = 1;
    w->binding.credit = 20000;
    w->version->settings.backoff_ms[0] = 3600000;
    start(w);
    add_records(w, 5500, 0, 1, 0);
    for (size_t i = 0; i < 5500; i++) w->records[i].transient = false;
    for (size_t i = 0; i < 5000; i++) {
        w->records[i].poison = i % 2 == 0;
        w->records[i].key = (unsigned)(i / 2 % 60) + 1;
    }
    size_t left = 500;
    int64_t until_ns = clock_mono_ns() + 60000 * NS_PER_MS;
    while (left) {
        assert_true(clock_mono_ns() < until_ns);
        turn(w);
        left = 0;
        for (size_t i = 5000; i < 5500; i++) left += !w->records[i].acks;
    }
    assert_true(w->unacked > 2 * INTAKE_FRESH_LEAST);
    assert_true(w->credit > w->unacked);
}

static void a_credit_never_passes_the_binding_s(void **state) {
    struct world *w = *state;
    w->binding.credit = 100;
    w->version->settings.backoff_ms[0] = 3600000;
    start(w);
    add_records(w, 300, 0, 1, 100);
    for (int i = 0; i < 2000; i++) turn(w);
    assert_int_equal(w->credit, 100);
    assert_int_equal(w->unacked, 100);
}

static void a_filter_lets_records_pass_by(void **state) {
    struct world *w = *state;
    struct err err = {0};
    if (filter_parse(STR_LIT("{\"key\":[\"key-1\"]}"), &w->binding.filter, &err)) fail_msg("%s", err.text);
    for (unsigned i = 0; i < 10; i++) add(w, i % 2, false);
    start(w);
    PLAY_UNTIL(w, all_acked(w));
    for (size_t i = 0; i < 10; i++) assert_int_equal(w->records[i].completions, i % 2);
    assert_int_equal(status_of(w, "filtered"), 5);
    assert_true(metrics_get(w->metrics, METRIC_RECORDS_FILTERED, STR_LIT("t")) == 5.0);
    filter_free(w->binding.filter);
    w->binding.filter = NULL;
}

static void a_revoked_partition_is_given_back_and_others_stay(void **state) {
    struct world *w = *state;
    w->version->settings.backoff_ms[0] = 3600 * 1000;
    w->instances = 1;
    w->binding.batch = 1;
    for (int i = 0; i < 12; i++) {
        add(w, 1 + (unsigned)i % 3, i < 2);
        w->records[i].partition = (unsigned)i % 2;
    }
    start(w);
    PLAY_UNTIL(w, status_of(w, "retrying") == 2); // one of each
    while (w->running) finish_one(w);
    loop_turn(w->loop, 0);
    w->config.on_revoked(w->config.arg, 1);
    for (size_t i = 0; i < 12; i++) {
        const struct record *r = &w->records[i];
        if (r->partition == 1) assert_true(r->acks || r->waiting);
        else assert_false(r->waiting);
    }
    assert_int_equal(status_of(w, "retrying"), 1);
    PLAY_UNTIL(w, w->records[10].acks && w->records[11].acks);
}

// The answer of the function is what `result` says, for all calls.
static void answer_all(struct world *w, const char *result) {
    while (w->running) {
        struct delivery *d = w->running;
        DL_DELETE(w->running, d);
        w->running_count--;
        delivery_move(d, DELIVERY_FINISHED);
        const struct outcome_report r = {.outcome = OUTCOME_OK, .result = str_of(result), .version = 1};
        intake_outcome(w->intake, d, &r);
    }
}

static void an_identifier_of_no_record_fails_the_whole_call(void **state) {
    struct world *w = *state;
    static const char *const results[] = {"{\"batchItemFailures\":[{\"itemIdentifier\":\"t-0-99\"}]}",
                                          "{\"batchItemFailures\":[{\"itemIdentifier\":\"\"}]}",
                                          "{\"batchItemFailures\":[{\"itemIdentifier\":null}]}", "{\"batchItemFailures\":[{}]}",
                                          "{\"batchItemFailures\":\"t-0-0\"}"};
    start(w);
    for (size_t i = 0; i < array_len(results); i++) {
        add(w, 0, false);
        add(w, 0, false);
        deliver_all(w);
        pump(w);
        assert_int_equal(w->running_count, 1);
        answer_all(w, results[i]);
        loop_turn(w->loop, 0);
        assert_int_equal(w->unacked, 2);
        pump(w);
        assert_int_equal(w->running_count, 2); // each alone
        answer_all(w, i % 2 ? "{\"batchItemFailures\":[]}" : "\"all is well, no batchItemFailures\"");
        assert_int_equal(w->unacked, 0);
    }
    assert_int_equal(status_of(w, "failed"), 0);
}

static void what_weir_itself_could_not_run_goes_again_whole(void **state) {
    struct world *w = *state;
    for (int i = 0; i < 6; i++) add(w, 0, false);
    start(w);
    deliver_all(w);
    pump(w);
    struct delivery *d = w->running;
    w->running = NULL;
    w->running_count = 0;
    delivery_move(d, DELIVERY_FINISHED);
    const struct outcome_report r = {.outcome = OUTCOME_PLATFORM, .error_type = STR_LIT("CodeUnavailable")};
    intake_outcome(w->intake, d, &r);
    assert_int_equal(status_of(w, "retrying"), 1);
    PLAY_UNTIL(w, all_acked(w));
    assert_int_equal(w->biggest_call, 6);
    assert_int_equal(w->calls, 2);
    assert_int_equal(status_of(w, "failed"), 0);
}

static void a_record_that_is_too_large_in_its_shape_is_a_letter_that_says_so(void **state) {
    struct world *w = *state;
    for (int i = 0; i < 3; i++) add(w, 0, false);
    w->binding.batch_bytes = 300; // two fit by no means
    start(w);
    PLAY_UNTIL(w, all_acked(w));
    assert_int_equal(w->biggest_call, 1);
    struct ev_fields f = {.function = STR_LIT("f"), .source_kind = STR_LIT("kafka"), .shape = STR_LIT("scf"),
                          .source_at = STR_LIT("{\"topic\":\"t\",\"partition\":0,\"offset\":7}")};
    size_t len = EV_PAYLOAD_MAX - 10;
    cleanup_free char *payload = mem_alloc(len);
    memset(payload, '"', len); // two bytes each in JSON
    f.payload = (struct str){payload, len};
    w->records[w->record_count++].tag = ++w->next_tag;
    w->unacked++;
    struct queue_msg msg = {.tag = w->next_tag, .ev = ev_new(&f), .content = QUEUE_RAW};
    w->config.on_messages(w->config.arg, &msg, 1);
    PLAY_UNTIL(w, all_acked(w));
    assert_true(metrics_get(w->metrics, METRIC_LETTERS_DEAD, STR_LIT("f")) == 1.0);
    assert_int_equal(w->calls, 3);
}

// --- the breaker ------------------------------------------------------------------------------------------------------

static bool is_breaker_open(const struct world *w) {
    return metrics_get(w->metrics, METRIC_BREAKER_OPEN, STR_LIT("t")) == 1.0;
}

static void the_breaker_stops_what_all_fails_and_starts_again(void **state) {
    struct world *w = *state;
    w->binding.breaker = true;
    w->binding.breaker_share = 0.5;
    w->binding.batch = 1;
    w->instances = 4;
    for (unsigned i = 0; i < 200; i++) add(w, 0, true);
    start(w);
    PLAY_UNTIL(w, is_breaker_open(w));
    while (w->running) finish(w, w->running);
    size_t calls = w->calls;
    assert_true(calls < 60);
    for (int i = 0; i < 20; i++) {
        deliver_all(w);
        pump(w);
        while (w->running) finish(w, w->running);
    }
    assert_true(w->calls <= calls + 1); // a probe at most
    json_t *o = intake_status(w->intake);
    assert_string_equal(json_string_value(json_object_get(json_object_get(o, "breaker"), "state")), "open");
    assert_non_null(strstr(json_string_value(json_object_get(o, "why")), "ValueError"));
    json_decref(o);
    for (size_t i = 0; i < 200; i++) w->records[i].poison = false; // what the function needs is back
    PLAY_UNTIL(w, all_acked(w));
    assert_false(is_breaker_open(w));
    assert_true(metrics_get(w->metrics, METRIC_BREAKER_OPENED, STR_LIT("t")) == 1.0);
    struct dead *dead = mem_zalloc(sizeof *dead);
    count_dead(w, dead);
    assert_int_equal(dead->count, 0);
    free(dead);
}

// --- sinks ------------------------------------------------------------------------------------------------------------

static void a_result_is_sent_before_the_record_is_acknowledged(void **state) {
    struct world *w = *state;
    w->binding.on_success = &w->sink;
    w->binding.batch = 5;
    w->sink_fails = 1;
    for (int i = 0; i < 5; i++) add(w, 3, false);
    add(w, 3, false);
    start(w);
    deliver_all(w);
    pump(w);
    finish_one(w);
    TURN_UNTIL(w->loop, w->sink_fails == 0);
    loop_turn(w->loop, 0);
    pump(w);
    assert_int_equal(w->running_count, 0); // the key is held
    assert_int_equal(w->unacked, 6);
    PLAY_UNTIL(w, all_acked(w));
    assert_int_equal(w->sent, 2);
    assert_int_equal(w->records[0].completions, 1); // the handler is not run again
    assert_string_equal(w->last_type, "dev.weir.function.result");
    assert_string_equal(w->last_key, "key-3"); // one record alone
}

static void a_dead_record_is_sent_after_its_letter(void **state) {
    struct world *w = *state;
    w->binding.on_failure = &w->sink;
    add(w, 2, true);
    add(w, 2, false);
    start(w);
    PLAY_UNTIL(w, all_acked(w));
    check_ends(w, false);
    assert_int_equal(w->sent, 1);
    assert_string_equal(w->last_type, "ValueError");
    assert_string_equal(w->last_key, "key-2");
}

static void a_sink_that_fails_for_good_gives_back_at_the_end(void **state) {
    struct world *w = *state;
    w->binding.on_success = &w->sink;
    w->sink_fails = SIZE_MAX;
    add(w, 0, false);
    start(w);
    PLAY_UNTIL(w, outlet_trouble(intake_outlet(w->intake)));
    stop(w);
    assert_true(w->records[0].waiting);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(good_records_go_in_full_calls),
        TEST(a_bad_record_is_found_and_only_it_is_charged),
        TEST(other_keys_go_on_while_one_is_tried_again),
        TEST(a_call_that_is_not_full_waits_for_its_window),
        TEST(a_call_that_is_not_full_does_not_wait_for_ever),
        TEST(what_nobody_can_take_yet_stays_at_the_source),
        TEST(a_window_full_of_retries_does_not_stop_the_flow),
        TEST(a_credit_never_passes_the_binding_s),
        TEST(a_filter_lets_records_pass_by),
        TEST(a_revoked_partition_is_given_back_and_others_stay),
        TEST(an_identifier_of_no_record_fails_the_whole_call),
        TEST(what_weir_itself_could_not_run_goes_again_whole),
        TEST(a_record_that_is_too_large_in_its_shape_is_a_letter_that_says_so),
        TEST(the_breaker_stops_what_all_fails_and_starts_again),
        TEST(a_result_is_sent_before_the_record_is_acknowledged),
        TEST(a_dead_record_is_sent_after_its_letter),
        TEST(a_sink_that_fails_for_good_gives_back_at_the_end),
        TEST(whatever_happens_keys_keep_their_order_and_records_end_once),
        TEST(what_a_lost_connection_brings_again_ends_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
