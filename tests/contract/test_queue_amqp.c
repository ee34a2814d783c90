// SPDX-License-Identifier: Apache-2.0
// What only the amqp backend can meet: foreign and broken messages, queues deleted by others, connections closed by an
// operator, a broker that is killed. Each case has a RabbitMQ that this program starts and ends. Without
// WEIR_TEST_AMQP_URL there is no server to test with, and only the case that needs none runs.
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <pthread.h>

#include "core/queue_amqp_unacked.h"
#include "tests/support/queue_fixture.h"

static char *broker_dir, *broker_url;

static int start_broker(void **state) {
    (void)state;
    broker_dir = temp_dir_new();
    cleanup_free char *dir = mem_printf("%s/mq", broker_dir);
    broker_url = service_run("rabbitmq", "start", dir);
    return 0;
}

static void broker(const char *command) {
    cleanup_free char *dir = mem_printf("%s/mq", broker_dir);
    free(service_run("rabbitmq", command, dir));
}

static int end_broker(void **state) {
    (void)state;
    broker("kill");
    temp_dir_remove(broker_dir);
    free(broker_url);
    return 0;
}

static int set_up(void **state) {
    *state = fixture_new(BACKEND_AMQP, broker_url, 0);
    return 0;
}

static int tear_down(void **state) {
    fixture_free(*state);
    return 0;
}

// --- a plain AMQP client --------------------------------------------------------------------------------------------

static amqp_connection_state_t plain_open(void) {
    cleanup_free char *url = mem_strdup(broker_url);
    struct amqp_connection_info at;
    amqp_default_connection_info(&at);
    assert_int_equal(amqp_parse_url(url, &at), AMQP_STATUS_OK);
    amqp_connection_state_t c = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(c);
    assert_int_equal(amqp_socket_open(socket, at.host, at.port), AMQP_STATUS_OK);
    amqp_rpc_reply_t r = amqp_login(c, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, at.user, at.password);
    assert_int_equal(r.reply_type, AMQP_RESPONSE_NORMAL);
    amqp_channel_open(c, 1);
    amqp_confirm_select(c, 1);
    return c;
}

static void plain_close(amqp_connection_state_t c) {
    amqp_connection_close(c, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(c);
}

static char *queue_of(struct str fn) {
    return mem_printf("weir.fn.%.*s", STR_ARG(fn));
}

static void plain_publish(amqp_connection_state_t c, struct str fn, const amqp_basic_properties_t *p, amqp_bytes_t body) {
    cleanup_free char *queue = queue_of(fn);
    assert_int_equal(amqp_basic_publish(c, 1, amqp_empty_bytes, amqp_cstring_bytes(queue), 1, 0, p, body), AMQP_STATUS_OK);
    amqp_frame_t frame;
    assert_int_equal(amqp_simple_wait_frame(c, &frame), AMQP_STATUS_OK);
    assert_int_equal(frame.payload.method.id, AMQP_BASIC_ACK_METHOD);
}

static void plain_delete(struct str fn) {
    cleanup_free char *queue = queue_of(fn);
    amqp_connection_state_t c = plain_open();
    assert_non_null(amqp_queue_delete(c, 1, amqp_cstring_bytes(queue), 0, 0));
    plain_close(c);
}

// --- cases ----------------------------------------------------------------------------------------------------------

static const struct ev_header *find_header(const struct ev *ev, const char *name) {
    for (size_t i = 0; i < ev->f.header_count; i++)
        if (str_is(ev->f.headers[i].name, name)) return &ev->f.headers[i];
    return NULL;
}

static void assert_header(const struct ev *ev, const char *name, const char *value) {
    const struct ev_header *h = find_header(ev, name);
    if (!h) fail_msg("no header %s", name);
    else if (!str_is(h->value, value)) fail_msg("%s is \"%.*s\", not \"%s\"", name, STR_ARG(h->value), value);
}

static void test_raw_message(void **state) {
    struct fixture *fx = *state;
    struct str fn = fn_name(fx, "raw");
    publish_numbers(fx, fn, 1); // makes the queue
    amqp_table_entry_t headers[] = {
        {amqp_cstring_bytes("x-text"), {AMQP_FIELD_KIND_UTF8, {.bytes = amqp_cstring_bytes("hello")}}},
        {amqp_cstring_bytes("x-int"), {AMQP_FIELD_KIND_I64, {.i64 = -42}}},
        {amqp_cstring_bytes("x-bool"), {AMQP_FIELD_KIND_BOOLEAN, {.boolean = 1}}},
        {amqp_cstring_bytes("x-void"), {AMQP_FIELD_KIND_VOID, {.boolean = 0}}},
    };
    amqp_basic_properties_t p = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG |
                  AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_APP_ID_FLAG | AMQP_BASIC_TYPE_FLAG | AMQP_BASIC_HEADERS_FLAG,
        .content_type = amqp_cstring_bytes("application/json"),
        .correlation_id = amqp_cstring_bytes("c-1"),
        .message_id = amqp_cstring_bytes("m-1"),
        .timestamp = 1700000000,
        .app_id = amqp_cstring_bytes("shop"),
        .type = amqp_cstring_bytes("order"),
        .headers = {array_len(headers), headers},
    };
    amqp_connection_state_t c = plain_open();
    plain_publish(c, fn, &p, amqp_cstring_bytes("{\"n\": 1}"));
    plain_publish(c, fn, &(amqp_basic_properties_t){0}, amqp_empty_bytes);
    plain_close(c);
    struct sink s = {.ack_at_once = true};
    sink_open(&s, fx, fn, 10);
    TURN_UNTIL(fx->loop, s.count == 3);
    assert_int_equal(s.msgs[0].content, QUEUE_EVENT);
    const struct ev *ev = s.msgs[1].ev;
    assert_int_equal(s.msgs[1].content, QUEUE_RAW);
    assert_true(str_is(ev->f.payload, "{\"n\": 1}"));
    assert_true(str_is(ev->f.content_type, "application/json"));
    assert_true(str_is(ev->f.source_kind, "amqp"));
    assert_true(str_eq(ev->f.function, fn));
    cleanup_free char *at = mem_printf("{\"queue\":\"weir.fn.%.*s\",\"exchange\":\"\",\"routingKey\":\"weir.fn.%.*s\",\"redelivered\":false,"
                                       "\"timestamp\":1700000000000}", STR_ARG(fn), STR_ARG(fn));
    assert_true(str_is(ev->f.source_at, at));
    assert_header(ev, "content-type", "application/json");
    assert_header(ev, "correlation-id", "c-1");
    assert_header(ev, "message-id", "m-1");
    assert_header(ev, "timestamp", "1700000000");
    assert_header(ev, "app-id", "shop");
    assert_header(ev, "type", "order");
    assert_header(ev, "x-text", "hello");
    assert_header(ev, "x-int", "-42");
    assert_header(ev, "x-bool", "true");
    assert_int_equal(s.msgs[2].content, QUEUE_RAW);
    assert_int_equal(s.msgs[2].ev->f.payload.len, 0);
    sink_close(&s);
}

static void test_undecodable_message(void **state) {
    struct fixture *fx = *state;
    struct str fn = fn_name(fx, "broken");
    publish_numbers(fx, fn, 1);
    amqp_basic_properties_t p = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG,
        .content_type = amqp_cstring_bytes(EV_CONTENT_TYPE),
    };
    amqp_connection_state_t c = plain_open();
    plain_publish(c, fn, &p, amqp_cstring_bytes("\xc1 not msgpack"));
    amqp_bytes_t huge = amqp_bytes_malloc(EV_ENCODED_MAX + 1);
    memset(huge.bytes, 0x90, huge.len);
    plain_publish(c, fn, &p, huge);
    amqp_bytes_free(huge);
    plain_close(c);
    publish_numbers(fx, fn, 1);
    struct sink s = {.ack_at_once = true};
    sink_open(&s, fx, fn, 10);
    TURN_UNTIL(fx->loop, s.count == 4);
    assert_int_equal(s.msgs[1].content, QUEUE_UNDECODABLE);
    assert_true(str_is(s.msgs[1].ev->f.payload, "\xc1 not msgpack"));
    assert_true(s.msgs[1].why.len > 0);
    assert_int_equal(s.msgs[2].content, QUEUE_UNDECODABLE);
    assert_int_equal(s.msgs[2].ev->f.payload.len, EV_ENCODED_MAX + 1);
    assert_int_equal(s.msgs[3].content, QUEUE_EVENT); // its neighbours are untouched
    sink_close(&s);
}

static void test_queue_deleted_under_it(void **state) {
    struct fixture *fx = *state;
    struct str fn = fn_name(fx, "deleted");
    struct sink s = {.ack_at_once = true};
    sink_open(&s, fx, fn, 10);
    publish_numbers(fx, fn, 5);
    TURN_UNTIL(fx->loop, s.count == 5);
    plain_delete(fn);
    TURN_UNTIL(fx->loop, s.lost == 1);
    publish_numbers(fx, fn, 5);
    TURN_UNTIL(fx->loop, s.count == 10);
    sink_close(&s);
    // And with nobody who consumes: what the publisher gets back makes the queue anew.
    plain_delete(fn);
    publish_numbers(fx, fn, 100);
    assert_int_equal(ask_depth(fx, fn).ready, 100);
}

static void test_queue_declared_otherwise(void **state) {
    struct fixture *fx = *state;
    struct str fn = fn_name(fx, "classic");
    cleanup_free char *queue = queue_of(fn);
    amqp_connection_state_t c = plain_open();
    assert_non_null(amqp_queue_declare(c, 1, amqp_cstring_bytes(queue), 0, 1, 0, 0, amqp_empty_table));
    plain_close(c);
    struct sink s = {.ack_at_once = true};
    sink_open(&s, fx, fn, 10);
    publish_numbers(fx, fn, 5); // used as it is
    TURN_UNTIL(fx->loop, s.count == 5);
    plain_delete(fn);
    TURN_UNTIL(fx->loop, s.lost >= 1);
    publish_numbers(fx, fn, 5); // and made anew as ours
    TURN_UNTIL(fx->loop, s.count == 10);
    sink_close(&s);
}

static void close_all_connections(void) {
    cleanup_free char *line = mem_printf(
        "d=%s/mq; exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=$d/home ERL_EPMD_PORT=$(cat $d/port-epmd) "
        "/usr/lib/rabbitmq/bin/rabbitmqctl -q -n weir$(cat $d/port)@localhost close_all_connections operator >/dev/null",
        broker_dir);
    const char *argv[] = {"sh", "-c", line, NULL};
    assert_int_equal(run_program(argv), 0);
}

static void test_closed_by_operator(void **state) {
    struct fixture *fx = *state;
    struct str fn = fn_name(fx, "operator");
    struct sink s = {0};
    sink_open(&s, fx, fn, 10);
    publish_numbers(fx, fn, 10);
    TURN_UNTIL(fx->loop, s.count == 10);
    close_all_connections();
    TURN_UNTIL(fx->loop, s.lost == 1 && queue_is_up(fx->q));
    for (size_t i = 0; i < 10; i++) queue_ack(s.c, s.msgs[i].tag); // void: they come again all the same
    TURN_UNTIL(fx->loop, s.count == 20);
    for (size_t i = 10; i < 20; i++) {
        assert_int_equal(s.msgs[i].delivery_count, 1);
        queue_ack(s.c, s.msgs[i].tag);
    }
    sink_settle_all(&s);
    publish_numbers(fx, fn, 1);
    TURN_UNTIL(fx->loop, s.count == 21);
    sink_close(&s);
}

// Confirmed numbers and delivered ones; numbers of publishes that failed are not needed, and may come.
enum { LOAD = 20000, IN_FLIGHT = 1000 };
struct load {
    struct fixture *fx;
    bool confirmed[LOAD], delivered[LOAD];
    size_t confirms, failures, delivered_again;
};
struct load_publish {
    struct load *load;
    unsigned number;
};

static void on_load_confirm(void *arg, int code, const struct err *err) {
    (void)err;
    struct load_publish *p = arg;
    p->load->confirms++;
    if (code == ERR_OK) p->load->confirmed[p->number] = true;
    else p->load->failures++;
    free(p);
}

static void publish_load(struct load *load, struct str fn, unsigned number) {
    char text[16];
    int len = snprintf(text, sizeof text, "%u", number);
    struct ev_fields f = {.function = fn, .payload = {text, (size_t)len}};
    struct load_publish *p = mem_alloc(sizeof *p);
    *p = (struct load_publish){load, number};
    queue_publish(load->fx->q, ev_new(&f), on_load_confirm, p);
}

static size_t take_in(struct load *load, const struct sink *s, size_t seen) {
    for (; seen < s->count; seen++) {
        unsigned n = number_of(s->msgs[seen].ev);
        if (load->delivered[n]) load->delivered_again++;
        load->delivered[n] = true;
    }
    return seen;
}

static bool all_delivered(const struct load *load) {
    for (size_t i = 0; i < LOAD; i++)
        if (load->confirmed[i] && !load->delivered[i]) return false;
    return true;
}

static void *kill_broker(void *arg) {
    cleanup_free char *dir = mem_printf("%s/mq", broker_dir);
    const char *argv[] = {"tests/services/rabbitmq", "kill", dir, NULL};
    *(int *)arg = run_program(argv);
    return NULL;
}

static void run_load(struct load *load, struct str fn) {
    struct fixture *fx = load->fx;
    struct sink s = {.ack_at_once = true};
    sink_open(&s, fx, fn, 200);
    unsigned next = 0;
    size_t seen = 0;
    bool struck = false, restarted = false;
    pthread_t killer;
    int code = -1;
    while (next < LOAD) {
        while (next < LOAD && next - load->confirms < IN_FLIGHT && queue_is_up(fx->q)) publish_load(load, fn, next++);
        loop_turn(fx->loop, 20);
        seen = take_in(load, &s, seen);
        if (!struck && next >= LOAD / 4) { // publishing goes on meanwhile
            struck = true;
            assert_int_equal(pthread_create(&killer, NULL, kill_broker, &code), 0);
        }
        if (!struck || restarted || queue_is_up(fx->q)) continue;
        restarted = true;
        pthread_join(killer, NULL);
        assert_int_equal(code, 0);
        broker("start");
    }
    assert_true(restarted);
    TURN_UNTIL(fx->loop, load->confirms == LOAD);
    TURN_UNTIL_S(fx->loop, 120, (seen = take_in(load, &s, seen), all_delivered(load)));
    print_message("%zu confirmed, %zu failed, %zu delivered again, %zu times lost\n", load->confirms - load->failures,
                  load->failures, load->delivered_again, s.lost);
    assert_true(s.lost >= 1);
    assert_true(load->confirms - load->failures > LOAD / 2);
    sink_close(&s);
}

static void test_broker_killed_under_load(void **state) {
    struct fixture *fx = *state;
    struct load *load = mem_zalloc(sizeof *load);
    load->fx = fx;
    struct str fn = fn_name(fx, "killed");
    // RabbitMQ writes the directory of its quorum queues half a second after a change: a node that is killed before
    // that comes back with an empty queue under the same name. A clean restart makes this one old enough.
    publish_numbers(fx, fn, 1);
    broker("restart");
    TURN_UNTIL(fx->loop, queue_is_up(fx->q));
    run_load(load, fn);
    free(load);
}

static void test_fails_at_once_while_down(void **state) {
    struct fixture *fx = *state;
    struct str fn = fn_name(fx, "down");
    publish_numbers(fx, fn, 1);
    broker("stop");
    TURN_UNTIL(fx->loop, !queue_is_up(fx->q));
    struct sent sent = {0};
    publish_number(fx, fn, 0, &sent);
    TURN_UNTIL_S(fx->loop, 15, sent.calls == 1); // not after the time that an answer of the broker has
    assert_int_equal(sent.last_code, ERR_UNAVAILABLE);
    broker("start");
    TURN_UNTIL(fx->loop, queue_is_up(fx->q));
    assert_int_equal(ask_depth(fx, fn).ready, 1);
}

static void test_too_much_in_flight(void **state) {
    struct fixture *fx = *state;
    struct str fn = fn_name(fx, "in-flight");
    struct sent sent = {0};
    for (unsigned i = 0; i < 20000; i++) publish_number(fx, fn, i, &sent);
    TURN_UNTIL(fx->loop, sent.calls == 20000);
    assert_true(sent.failed > 0 && sent.ok >= 16384);
    assert_int_equal(ask_depth(fx, fn).ready, sent.ok);
}

static void test_prefetch_follows_size(void **state) {
    struct fixture *fx = *state;
    struct str fn = fn_name(fx, "sizes");
    char *big = mem_zalloc(1u << 20);
    struct sent sent = {0};
    for (unsigned i = 0; i < 200; i++) {
        struct ev_fields f = {.function = fn, .payload = {big, 1u << 20}};
        publish_event(fx, ev_new(&f), &sent);
        if (i % 32 == 31) TURN_UNTIL(fx->loop, sent.ok == i + 1);
    }
    TURN_UNTIL(fx->loop, sent.calls == 200);
    assert_int_equal(sent.ok, 200);
    struct sink s = {.ack_at_once = true};
    sink_open(&s, fx, fn, 1000); // 64 MiB of credit_bytes
    TURN_UNTIL(fx->loop, s.count == 200);
    assert_int_equal(s.lost, 0);
    sink_settle_all(&s);
    sink_close(&s);
    TURN_UNTIL(fx->loop, ask_depth(fx, fn).ready == 0);
    free(big);
}

static void test_unacked_window(void **state) {
    (void)state;
    struct mq_unacked u = {0};
    uint64_t tag;
    size_t count;
    for (uint64_t t = 1; t <= 10; t++) mq_unacked_add(&u, t);
    assert_true(mq_unacked_settle(&u, 3, false));
    assert_false(mq_unacked_settle(&u, 3, false));
    assert_false(mq_unacked_settle(&u, 11, false));
    assert_false(mq_unacked_take_prefix(&u, &tag, &count));
    assert_int_equal(u.held, 1);
    size_t at = 0;
    assert_true(mq_unacked_take_next(&u, &at, &tag) && tag == 3);
    assert_false(mq_unacked_take_next(&u, &at, &tag));
    assert_int_equal(u.held, 0);
    // 1 and 2 acked, 4 released: the multiple ack ends at 2, for 3 and 4 are gone.
    assert_true(mq_unacked_settle(&u, 1, false) && mq_unacked_settle(&u, 2, false) && mq_unacked_settle(&u, 4, true));
    assert_true(mq_unacked_take_prefix(&u, &tag, &count));
    assert_int_equal(tag, 2);
    assert_int_equal(count, 2);
    assert_int_equal(u.waiting, 6);
    for (uint64_t t = 11; t <= 100000; t++) { // 5 stays: memory must not grow with what passes it
        mq_unacked_add(&u, t);
        assert_true(mq_unacked_settle(&u, t, false));
        assert_false(mq_unacked_take_prefix(&u, &tag, &count));
        at = 0;
        assert_true(mq_unacked_take_next(&u, &at, &tag) && tag == t);
    }
    assert_true(u.room <= 128);
    for (uint64_t t = 5; t <= 10; t++) assert_true(mq_unacked_settle(&u, t, false));
    assert_true(mq_unacked_take_prefix(&u, &tag, &count));
    assert_int_equal(tag, 10);
    assert_int_equal(u.waiting, 0);
    mq_unacked_done(&u);
}

int main(void) {
    const struct CMUnitTest alone[] = {cmocka_unit_test(test_unacked_window)};
#define CASE(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)
    const struct CMUnitTest with_broker[] = {
        CASE(raw_message),      CASE(undecodable_message),  CASE(queue_deleted_under_it), CASE(queue_declared_otherwise), CASE(closed_by_operator),
        CASE(too_much_in_flight), CASE(prefetch_follows_size), CASE(fails_at_once_while_down),
        CASE(broker_killed_under_load),
    };
    int failed = cmocka_run_group_tests_name("queue: amqp, alone", alone, NULL, NULL);
    const char *url = getenv("WEIR_TEST_AMQP_URL");
    if (url && *url) failed += cmocka_run_group_tests_name("queue: amqp", with_broker, start_broker, end_broker);
    return failed;
}
