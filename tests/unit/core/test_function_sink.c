// SPDX-License-Identifier: Apache-2.0
// core/function_sink: a message becomes an event of the function; what core/ingest refuses, and what is too much, is told later
// and once; closing waits for the answers.
#include "core/ingest.h"
#include "core/sink_room.h"
#include "tests/support/registry_look.h"
#include "tests/support/support.h"

// --- a registry of one function "f" -----------------------------------------------------------------------------------

static struct version version_1 = {.refs = 1, .function = (char[]){"f"}, .number = 1, .settings = {.timeout_ms = 30000}};

int registry_resolve(struct registry *r, struct str name, struct str qualifier, struct version **ret, struct err *err) {
    (void)r, (void)qualifier;
    if (!str_is(name, "f")) return err_set(err, ERR_NOT_FOUND, "there is no function %.*s", STR_ARG(name));
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

// --- the world --------------------------------------------------------------------------------------------------------

struct world {
    struct loop *loop;
    struct queue *queue;
    struct metrics *metrics;
    struct registry registry;
    struct ingest *in;
    struct queue_consumer *consumer;
    struct ev *got;
    struct sink *sink;
    bool queue_closed, sink_closed;
};

static void on_closed(void *arg) {
    *(bool *)arg = true;
}

static void on_messages(void *arg, struct queue_msg *msgs, size_t count) {
    struct world *w = arg;
    assert_int_equal(count, 1);
    assert_null(w->got);
    w->got = msgs[0].ev;
    queue_ack(w->consumer, msgs[0].tag);
}

static int setup(void **state) {
    struct world *w = mem_zalloc(sizeof *w);
    w->loop = loop_new();
    const struct queue_config queue = {.loop = w->loop, .url = "memory:"};
    assert_int_equal(queue_open(&queue, &w->queue, NULL), 0);
    w->metrics = metrics_new();
    registry_look_init(&w->registry, w->loop);
    const struct ingest_config config = {.loop = w->loop, .registry = &w->registry, .queue = w->queue, .sync_lane = w->queue, .metrics = w->metrics};
    w->in = ingest_new(&config);
    w->sink = function_sink_open(w->loop, w->in, STR_LIT("t"));
    *state = w;
    return 0;
}

static int teardown(void **state) {
    struct world *w = *state;
    if (!w->sink_closed) sink_close(w->sink, on_closed, &w->sink_closed);
    TURN_UNTIL(w->loop, w->sink_closed);
    if (w->consumer) queue_consumer_close(w->consumer);
    queue_close(w->queue, on_closed, &w->queue_closed);
    TURN_UNTIL(w->loop, w->queue_closed);
    ev_free(w->got);
    ingest_free(w->in);
    registry_look_done(&w->registry);
    metrics_free(w->metrics);
    loop_free(w->loop);
    free(w);
    return 0;
}

struct answer {
    int times, code;
    struct err err;
};

static void on_done(void *arg, int code, const struct err *err) {
    struct answer *a = arg;
    a->times++;
    a->code = code;
    if (code) a->err = *err;
}

// --- the cases --------------------------------------------------------------------------------------------------------

static void a_message_becomes_an_event(void **state) {
    struct world *w = *state;
    const struct queue_consumer_config consumer = {
        .function = STR_LIT("f"), .credit = 8, .credit_bytes = 1 << 20, .on_messages = on_messages, .arg = w};
    w->consumer = queue_consume(w->queue, &consumer);
    const struct ev_header header = {STR_LIT("ce-type"), STR_LIT("x")};
    const struct sink_message m = {.to = STR_LIT("f"), .key = STR_LIT("k"), .content_type = STR_LIT("text/plain"),
                                   .headers = &header, .header_count = 1, .payload = STR_LIT("p")};
    struct answer a = {0};
    sink_send(w->sink, &m, on_done, &a);
    assert_int_equal(a.times, 0);
    TURN_UNTIL(w->loop, a.times && w->got);
    assert_int_equal(a.code, 0);
    const struct ev_fields *f = &w->got->f;
    assert_int_equal(f->invocation, EV_ASYNC);
    assert_true(str_is(f->function, "f") && str_is(f->payload, "p") && str_is(f->content_type, "text/plain"));
    assert_true(str_is(f->source_kind, "function") && str_is(f->source_name, "t") && str_is(f->ordering_key, "k"));
    assert_int_equal(f->header_count, 1);
    assert_true(str_is(f->headers[0].name, "ce-type") && str_is(f->headers[0].value, "x"));
}

static void a_function_that_is_not_there(void **state) {
    struct world *w = *state;
    const struct sink_message m = {.to = STR_LIT("g"), .payload = STR_LIT("p")};
    struct answer a = {0};
    sink_send(w->sink, &m, on_done, &a);
    assert_int_equal(a.times, 0);
    TURN_UNTIL(w->loop, a.times);
    assert_int_equal(a.code, ERR_NOT_FOUND);
    assert_non_null(strstr(a.err.text, "no function g"));
}

static void too_much_at_once(void **state) {
    struct world *w = *state;
    static char large[SINK_BYTES_MAX / 16];
    struct answer answers[17] = {0}, one = {0};
    const struct sink_message m = {.to = STR_LIT("g"), .payload = {large, sizeof large}};
    for (size_t i = 0; i < array_len(answers); i++) sink_send(w->sink, &m, on_done, &answers[i]);
    TURN_UNTIL(w->loop, answers[16].times);
    loop_turn(w->loop, 0);
    for (size_t i = 0; i < array_len(answers); i++) assert_int_equal(answers[i].times, 1);
    for (size_t i = 0; i < array_len(answers); i++) assert_int_equal(answers[i].code, i < 15 ? ERR_NOT_FOUND : ERR_BUSY);
    sink_send(w->sink, &m, on_done, &one);
    TURN_UNTIL(w->loop, one.times);
    assert_int_equal(one.code, ERR_NOT_FOUND); // there is room again
}

static void closing_tells_everything_first(void **state) {
    struct world *w = *state;
    struct answer good = {0}, bad = {0}, late = {0};
    struct sink_message m = {.to = STR_LIT("f"), .payload = STR_LIT("p")};
    sink_send(w->sink, &m, on_done, &good);
    m.to = STR_LIT("g");
    sink_send(w->sink, &m, on_done, &bad);
    sink_close(w->sink, on_closed, &w->sink_closed);
    sink_send(w->sink, &m, on_done, &late);
    assert_false(w->sink_closed);
    TURN_UNTIL(w->loop, w->sink_closed);
    assert_true(good.times == 1 && good.code == ERR_OK);
    assert_true(bad.times == 1 && bad.code == ERR_NOT_FOUND);
    assert_true(late.times == 1 && late.code == ERR_UNAVAILABLE);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(a_message_becomes_an_event),
        CASE(a_function_that_is_not_there),
        CASE(too_much_at_once),
        CASE(closing_tells_everything_first),
    };
    return cmocka_run_group_tests_name("core/function_sink", tests, NULL, NULL);
}
