// SPDX-License-Identifier: Apache-2.0
// Somebody else's queue consumed in place (core/amqp_source.h), with a RabbitMQ that this program starts and ends. Without
// WEIR_TEST_AMQP_URL there is no server to test with, and only the cases that need none run.
#include "core/amqp_source.h"

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>

#include "tests/support/support.h"

static char *broker_dir, *broker_url;

static void broker(const char *command) {
    cleanup_free char *dir = mem_printf("%s/mq", broker_dir);
    free(service_run("rabbitmq", command, dir));
}

static int start_broker(void **state) {
    (void)state;
    broker_dir = temp_dir_new();
    cleanup_free char *dir = mem_printf("%s/mq", broker_dir);
    broker_url = service_run("rabbitmq", "start", dir);
    return 0;
}

static int end_broker(void **state) {
    (void)state;
    broker("kill");
    temp_dir_remove(broker_dir);
    free(broker_url);
    return 0;
}

static void rabbitmqctl(const char *words) {
    cleanup_free char *line = mem_printf(
        "d=%s/mq; exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=$d/home ERL_EPMD_PORT=$(cat $d/port-epmd) "
        "/usr/lib/rabbitmq/bin/rabbitmqctl -q -n weir$(cat $d/port)@localhost %s >/dev/null",
        broker_dir, words);
    const char *argv[] = {"sh", "-c", line, NULL};
    assert_int_equal(run_program(argv), 0);
}

// --- a plain AMQP client --------------------------------------------------------------------------------------------

#define BYTES(z) amqp_cstring_bytes(z)
#define TEXT_ENTRY(k, v) {BYTES(k), {AMQP_FIELD_KIND_UTF8, {.bytes = BYTES(v)}}}

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
    return c;
}

static void plain_close(amqp_connection_state_t c) {
    amqp_connection_close(c, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(c);
}

static void declare(const char *queue, const char *type) {
    amqp_connection_state_t c = plain_open();
    amqp_table_entry_t e[] = {TEXT_ENTRY("x-queue-type", type)};
    assert_non_null(amqp_queue_declare(c, 1, BYTES(queue), 0, 1, 0, 0, (amqp_table_t){1, e}));
    plain_close(c);
}

static void delete_queue(const char *queue) {
    amqp_connection_state_t c = plain_open();
    assert_non_null(amqp_queue_delete(c, 1, BYTES(queue), 0, 0));
    plain_close(c);
}

static uint32_t ready_in(const char *queue) {
    amqp_connection_state_t c = plain_open();
    const amqp_queue_declare_ok_t *ok = amqp_queue_declare(c, 1, BYTES(queue), 1, 0, 0, 0, amqp_empty_table);
    assert_non_null(ok);
    uint32_t n = ok->message_count;
    plain_close(c);
    return n;
}

static void publish(const char *exchange, const char *key, const amqp_basic_properties_t *p, amqp_bytes_t body) {
    amqp_connection_state_t c = plain_open();
    amqp_confirm_select(c, 1);
    assert_int_equal(amqp_basic_publish(c, 1, BYTES(exchange), BYTES(key), 1, 0, p, body), AMQP_STATUS_OK);
    amqp_frame_t frame;
    assert_int_equal(amqp_simple_wait_frame(c, &frame), AMQP_STATUS_OK);
    assert_int_equal(frame.payload.method.id, AMQP_BASIC_ACK_METHOD); // and not a return
    plain_close(c);
}

// Numbers first.. as payloads, confirmed.
static void publish_numbers(const char *exchange, const char *key, unsigned first, unsigned count) {
    amqp_connection_state_t c = plain_open();
    amqp_confirm_select(c, 1);
    for (unsigned i = 0; i < count; i++) {
        char text[16];
        snprintf(text, sizeof text, "%u", first + i);
        amqp_basic_properties_t p = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG, .delivery_mode = 2};
        assert_int_equal(amqp_basic_publish(c, 1, BYTES(exchange), BYTES(key), 1, 0, &p, BYTES(text)), AMQP_STATUS_OK);
    }
    for (uint64_t seen = 0; seen < count;) {
        amqp_frame_t frame;
        assert_int_equal(amqp_simple_wait_frame(c, &frame), AMQP_STATUS_OK);
        assert_int_equal(frame.payload.method.id, AMQP_BASIC_ACK_METHOD);
        const amqp_basic_ack_t *ack = frame.payload.method.decoded;
        seen = ack->multiple ? ack->delivery_tag : seen + 1;
    }
    plain_close(c);
}

// --- a consumer of a source that keeps what it gets -----------------------------------------------------------------

struct taker {
    struct loop *loop;
    struct source *source;
    struct queue_consumer *c;
    struct queue_msg *msgs;
    size_t count, room, lost, most_out, out;
    size_t credit_bytes; // 0: 64 MiB
    bool ack_at_once, closed;
};

static unsigned number_of(const struct ev *ev) {
    char text[16] = "";
    assert_true(ev->f.payload.len < sizeof text);
    memcpy(text, ev->f.payload.data, ev->f.payload.len);
    return (unsigned)strtoul(text, NULL, 10);
}

static void on_messages(void *arg, struct queue_msg *msgs, size_t count) {
    struct taker *t = arg;
    for (size_t i = 0; i < count; i++) {
        if (t->count == t->room) {
            t->room = t->room ? t->room * 2 : 64;
            t->msgs = mem_realloc(t->msgs, t->room * sizeof *t->msgs);
        }
        t->msgs[t->count++] = msgs[i];
        t->out++;
        if (t->out > t->most_out) t->most_out = t->out;
        if (!t->ack_at_once) continue;
        queue_ack(t->c, msgs[i].tag);
        t->out--;
    }
}

static void on_lost(void *arg) {
    struct taker *t = arg;
    t->lost++;
    t->out = 0;
}

static void open_taker(struct taker *t, const struct amqp_source_config *c, size_t credit) {
    struct err err = {0};
    t->loop = loop_new();
    struct amqp_source_config with = *c;
    if (!with.url) with.url = broker_url;
    if (!with.trigger) with.trigger = "orders";
    if (amqp_source_open(t->loop, &with, &t->source, &err)) fail_msg("%s", err.text);
    struct queue_consumer_config config = {.function = STR_LIT("fn"),
                                           .credit = credit,
                                           .credit_bytes = t->credit_bytes ? t->credit_bytes : 64u << 20,
                                           .on_messages = on_messages,
                                           .on_lost = on_lost,
                                           .arg = t};
    t->c = source_consume(t->source, &config);
}

static void on_closed(void *arg) {
    ((struct taker *)arg)->closed = true;
}

static void close_taker(struct taker *t) {
    queue_consumer_close(t->c);
    source_close(t->source, on_closed, t);
    TURN_UNTIL(t->loop, t->closed);
    for (size_t i = 0; i < t->count; i++) ev_free(t->msgs[i].ev);
    free(t->msgs);
    loop_free(t->loop);
}

static void ack_all(struct taker *t, size_t from) {
    for (size_t i = from; i < t->count; i++) queue_ack(t->c, t->msgs[i].tag);
    TURN_UNTIL(t->loop, queue_unsettled(t->c) == 0);
    t->out = 0;
}

static void on_lag(void *arg, int code, const struct err *err, json_t *result) {
    (void)err;
    assert_int_equal(code, ERR_OK);
    *(json_t **)arg = result;
}

static json_t *ask_lag(struct taker *t) {
    json_t *result = NULL;
    source_lag(t->source, on_lag, &result);
    assert_null(result);
    TURN_UNTIL(t->loop, result);
    return result;
}

static int64_t lag_number(struct taker *t, const char *name) {
    json_t *lag = ask_lag(t);
    int64_t n = json_integer_value(json_object_get(json_array_get(json_object_get(lag, "partitions"), 0), name));
    json_decref(lag);
    return n;
}

static bool lag_is_up(struct taker *t) {
    json_t *lag = ask_lag(t);
    bool up = json_is_true(json_object_get(lag, "up"));
    json_decref(lag);
    return up;
}

static bool lag_says(struct taker *t, const char *part) {
    json_t *lag = ask_lag(t);
    const char *why = json_string_value(json_object_get(lag, "error"));
    bool says = why && strstr(why, part);
    json_decref(lag);
    return says;
}

// --- cases ----------------------------------------------------------------------------------------------------------

static void take_and_ack(const char *type) {
    cleanup_free char *queue = mem_printf("take-%s", type);
    declare(queue, type);
    publish_numbers("", queue, 0, 50);
    struct taker t = {0};
    open_taker(&t, &(struct amqp_source_config){.queue = queue, .shape = "lambda"}, 100);
    TURN_UNTIL(t.loop, t.count == 50);
    for (unsigned i = 0; i < 50; i++) assert_int_equal(number_of(t.msgs[i].ev), i);
    const struct ev *ev = t.msgs[0].ev;
    assert_int_equal(t.msgs[0].content, QUEUE_RAW);
    assert_int_equal(t.msgs[0].delivery_count, 0);
    assert_true(str_is(ev->f.source_kind, "amqp") && str_is(ev->f.source_name, "orders") && str_is(ev->f.shape, "lambda"));
    assert_true(str_is(ev->f.function, "fn"));
    cleanup_free char *at =
        mem_printf("{\"queue\":\"%s\",\"exchange\":\"\",\"routingKey\":\"%s\",\"redelivered\":false}", queue, queue);
    assert_true(str_is(ev->f.source_at, at));
    // Out of order: the last first, one never, one given back.
    for (size_t i = 49; i >= 2; i--) queue_ack(t.c, t.msgs[i].tag);
    queue_release(t.c, t.msgs[1].tag);
    TURN_UNTIL(t.loop, t.count == 51 && queue_unsettled(t.c) == 0);
    assert_int_equal(number_of(t.msgs[50].ev), 1);
    assert_int_equal(t.msgs[50].delivery_count, 1);
    queue_ack(t.c, t.msgs[50].tag);
    TURN_UNTIL(t.loop, queue_unsettled(t.c) == 0);
    assert_int_equal(t.lost, 0);
    close_taker(&t);
    struct taker again = {0};
    open_taker(&again, &(struct amqp_source_config){.queue = queue}, 100);
    TURN_UNTIL(again.loop, again.count == 1);
    assert_int_equal(number_of(again.msgs[0].ev), 0); // the one that was never acked, alone
    ack_all(&again, 0);
    close_taker(&again);
    assert_int_equal(ready_in(queue), 0);
}

static void test_classic(void **state) {
    (void)state;
    take_and_ack("classic");
}

static void test_quorum(void **state) {
    (void)state;
    take_and_ack("quorum");
}

static void test_lag(void **state) {
    (void)state;
    declare("lag", "classic");
    publish_numbers("", "lag", 0, 30);
    struct taker t = {0};
    open_taker(&t, &(struct amqp_source_config){.queue = "lag", .prefetch = 10}, 100);
    TURN_UNTIL(t.loop, t.count == 10);
    json_t *lag = ask_lag(&t);
    assert_true(json_is_true(json_object_get(lag, "up")) && json_is_null(json_object_get(lag, "error")));
    const json_t *p = json_array_get(json_object_get(lag, "partitions"), 0);
    assert_string_equal(json_string_value(json_object_get(p, "queue")), "lag");
    assert_int_equal(json_integer_value(json_object_get(p, "partition")), 0);
    assert_int_equal(json_integer_value(json_object_get(p, "ready")), 20);
    assert_int_equal(json_integer_value(json_object_get(p, "lag")), 20);
    assert_int_equal(json_integer_value(json_object_get(p, "unacked")), 10);
    assert_int_equal(json_integer_value(json_object_get(p, "inFlight")), 10);
    assert_int_equal(json_integer_value(json_object_get(p, "consumers")), 1);
    assert_int_equal(json_integer_value(json_object_get(p, "prefetch")), 10);
    assert_true(json_is_null(json_object_get(p, "paused")));
    json_decref(lag);
    queue_consumer_pause(t.c);
    ack_all(&t, 0);
    assert_int_equal(lag_number(&t, "unacked"), 0);
    assert_int_equal(t.count, 10); // paused: nothing more
    close_taker(&t);
    assert_int_equal(ready_in("lag"), 20);
}

static void test_declares_queue(void **state) {
    (void)state;
    struct taker t = {.ack_at_once = true};
    open_taker(&t, &(struct amqp_source_config){.queue = "made", .declare = true}, 10);
    TURN_UNTIL(t.loop, lag_is_up(&t));
    publish_numbers("", "made", 0, 3);
    TURN_UNTIL(t.loop, t.count == 3);
    close_taker(&t);
    declare("other", "classic"); // one that is declared otherwise is used as it is
    publish_numbers("", "other", 0, 3);
    struct taker o = {.ack_at_once = true};
    open_taker(&o, &(struct amqp_source_config){.queue = "other", .declare = true}, 10);
    TURN_UNTIL(o.loop, o.count == 3);
    close_taker(&o);
}

static void declare_exchange(const char *name) {
    amqp_connection_state_t c = plain_open();
    assert_non_null(amqp_exchange_declare(c, 1, BYTES(name), BYTES("topic"), 0, 1, 0, 0, amqp_empty_table));
    plain_close(c);
}

struct answer {
    bool done;
    int code;
    struct err err;
};

static void on_answer(void *arg, int code, const struct err *err) {
    *(struct answer *)arg = (struct answer){true, code, *err};
}

static struct answer ask(void (*fn)(struct loop *, const struct amqp_source_config *, amqp_done_fn *, void *),
                         const struct amqp_source_config *c) {
    struct amqp_source_config with = *c;
    if (!with.url) with.url = broker_url;
    if (!with.trigger) with.trigger = "orders";
    struct loop *loop = loop_new();
    struct answer a = {0};
    fn(loop, &with, on_answer, &a);
    assert_false(a.done);
    TURN_UNTIL(loop, a.done);
    loop_free(loop);
    return a;
}

static void check(const struct amqp_source_config *c, int code, const char *part) {
    struct answer a = ask(amqp_check, c);
    if (a.code != code || (part && !strstr(a.err.text, part)))
        fail_msg("%d \"%s\", not %d with \"%s\"", a.code, a.err.text, code, part ? part : "");
}

static void test_binds_exchange(void **state) {
    (void)state;
    declare_exchange("shop");
    const struct amqp_source_config config = {.exchange = "shop", .binding = "order.#", .trigger = "audit"};
    check(&config, 0, NULL);
    struct taker t = {.ack_at_once = true};
    open_taker(&t, &config, 10);
    TURN_UNTIL(t.loop, lag_is_up(&t));
    publish_numbers("shop", "order.new.eu", 0, 5);
    TURN_UNTIL(t.loop, t.count == 5);
    assert_true(str_is(t.msgs[0].ev->f.source_at, "{\"queue\":\"weir.trigger.audit\",\"exchange\":\"shop\","
                                                  "\"routingKey\":\"order.new.eu\",\"redelivered\":false}"));
    delete_queue("weir.trigger.audit"); // is declared and bound again
    TURN_UNTIL(t.loop, t.lost == 1 && lag_is_up(&t));
    publish_numbers("shop", "order.x", 5, 5);
    TURN_UNTIL(t.loop, t.count == 10);
    close_taker(&t);
    publish_numbers("shop", "order.x", 10, 1); // nobody is there: it waits
    assert_int_equal(ready_in("weir.trigger.audit"), 1);
    assert_int_equal(ask(amqp_source_forget, &config).code, 0);
    check(&(struct amqp_source_config){.queue = "weir.trigger.audit"}, ERR_NOT_FOUND, "weir.trigger.audit");
    assert_int_equal(ask(amqp_source_forget, &config).code, 0); // again
    declare("mine", "classic");
    assert_int_equal(ask(amqp_source_forget, &(struct amqp_source_config){.queue = "mine"}).code, 0);
    assert_int_equal(ready_in("mine"), 0); // a queue= is left alone
}

static void test_check(void **state) {
    (void)state;
    declare("there", "quorum");
    check(&(struct amqp_source_config){.queue = "there"}, 0, NULL);
    check(&(struct amqp_source_config){.queue = "nowhere"}, ERR_NOT_FOUND, "\"nowhere\"");
    check(&(struct amqp_source_config){.queue = "nowhere", .declare = true}, 0, NULL);
    check(&(struct amqp_source_config){.exchange = "no-exchange", .binding = "#"}, ERR_NOT_FOUND, "\"no-exchange\"");
    cleanup_free char *wrong = mem_printf("amqp://guest:wrong@%s", strchr(broker_url, '@') + 1);
    check(&(struct amqp_source_config){.url = wrong, .queue = "there"}, ERR_DENIED, "ACCESS_REFUSED");
    cleanup_free char *vhost = mem_printf("%snone", broker_url);
    check(&(struct amqp_source_config){.url = vhost, .queue = "there"}, ERR_DENIED, "none");
    check(&(struct amqp_source_config){.url = "amqp://127.0.0.1:1/", .queue = "there"}, ERR_UNAVAILABLE, "127.0.0.1:1");
    check(&(struct amqp_source_config){.url = "http://x", .queue = "there"}, ERR_INVALID, "amqp://");
    rabbitmqctl("add_user reader secret");
    rabbitmqctl("set_permissions reader '' '' '^there$'");
    cleanup_free char *reader = mem_printf("amqp://reader:secret@%s", strchr(broker_url, '@') + 1);
    check(&(struct amqp_source_config){.url = reader, .queue = "there"}, 0, NULL);
    declare("secret", "classic");
    check(&(struct amqp_source_config){.url = reader, .queue = "secret"}, ERR_DENIED, "secret");
    // And the one that may read, and no more, does.
    publish_numbers("", "there", 0, 2);
    struct taker t = {.ack_at_once = true};
    open_taker(&t, &(struct amqp_source_config){.url = reader, .queue = "there"}, 10);
    TURN_UNTIL(t.loop, t.count == 2);
    assert_int_equal(t.msgs[1].delivery_count, 0); // amqp_check took nothing
    close_taker(&t);
}

static void test_stream_refused(void **state) {
    (void)state;
    declare("log", "stream");
    publish_numbers("", "log", 0, 3);
    check(&(struct amqp_source_config){.queue = "log"}, ERR_INVALID, "is a stream");
    check(&(struct amqp_source_config){.queue = "log", .declare = true}, ERR_INVALID, "is a stream");
    struct taker t = {0};
    open_taker(&t, &(struct amqp_source_config){.queue = "log", .declare = true}, 10);
    TURN_UNTIL(t.loop, lag_says(&t, "stream"));
    publish_numbers("", "log", 3, 1);
    assert_true(lag_says(&t, "stream"));
    assert_int_equal(t.count, 0);
    close_taker(&t);
    // One who may not declare is told by the first message.
    rabbitmqctl("add_user stranger secret");
    rabbitmqctl("set_permissions stranger '' '' '.*'");
    cleanup_free char *url = mem_printf("amqp://stranger:secret@%s", strchr(broker_url, '@') + 1);
    check(&(struct amqp_source_config){.url = url, .queue = "log"}, ERR_INVALID, "is a stream");
    struct taker u = {0};
    open_taker(&u, &(struct amqp_source_config){.url = url, .queue = "log"}, 10);
    TURN_UNTIL(u.loop, lag_is_up(&u));
    publish_numbers("", "log", 4, 1);
    TURN_UNTIL(u.loop, lag_says(&u, "stream"));
    assert_int_equal(u.count, 0);
    close_taker(&u);
}

static void test_deleted_and_back(void **state) {
    (void)state;
    declare("away", "quorum");
    publish_numbers("", "away", 0, 5);
    struct taker t = {.ack_at_once = true};
    open_taker(&t, &(struct amqp_source_config){.queue = "away"}, 10);
    TURN_UNTIL(t.loop, t.count == 5);
    delete_queue("away");
    TURN_UNTIL(t.loop, t.lost == 1 && lag_says(&t, "away"));
    assert_true(lag_says(&t, "NOT_FOUND"));
    declare("away", "classic");
    publish_numbers("", "away", 5, 5);
    TURN_UNTIL(t.loop, t.count == 10);
    assert_true(lag_is_up(&t));
    close_taker(&t);
}

static void test_closed_by_operator(void **state) {
    (void)state;
    declare("operated", "classic");
    publish_numbers("", "operated", 0, 10);
    struct taker t = {0};
    open_taker(&t, &(struct amqp_source_config){.queue = "operated"}, 10);
    TURN_UNTIL(t.loop, t.count == 10);
    rabbitmqctl("close_all_connections operator");
    TURN_UNTIL(t.loop, t.lost == 1);
    for (size_t i = 0; i < 10; i++) queue_ack(t.c, t.msgs[i].tag); // void
    TURN_UNTIL(t.loop, t.count == 20);
    for (size_t i = 10; i < 20; i++) {
        assert_int_equal(t.msgs[i].delivery_count, 1);
        assert_non_null(strstr(t.msgs[i].ev->f.source_at.data, "\"redelivered\":true"));
    }
    ack_all(&t, 10);
    close_taker(&t);
    assert_int_equal(ready_in("operated"), 0);
}

// A network that stalls: nothing is closed, nothing answers. The heartbeats notice.
static void test_stalled_broker(void **state) {
    (void)state;
    declare("stalled", "classic");
    struct taker t = {.ack_at_once = true};
    cleanup_free char *url = mem_printf("%s?heartbeat=1", broker_url);
    open_taker(&t, &(struct amqp_source_config){.url = url, .queue = "stalled"}, 10);
    publish_numbers("", "stalled", 0, 5);
    TURN_UNTIL(t.loop, t.count == 5);
    broker("pause");
    TURN_UNTIL(t.loop, t.lost == 1);
    json_t *lag = ask_lag(&t);
    assert_true(json_is_false(json_object_get(lag, "up")) && json_is_string(json_object_get(lag, "error")));
    json_decref(lag);
    broker("resume");
    publish_numbers("", "stalled", 5, 5);
    TURN_UNTIL(t.loop, t.count >= 10);
    assert_true(lag_is_up(&t));
    close_taker(&t);
}

static void test_broker_restarted(void **state) {
    (void)state;
    declare("restarted", "classic");
    publish_numbers("", "restarted", 0, 20);
    struct taker t = {0};
    open_taker(&t, &(struct amqp_source_config){.queue = "restarted"}, 10);
    TURN_UNTIL(t.loop, t.count == 10);
    t.ack_at_once = true; // what comes after: it may be here when the loss is told
    broker("restart");
    TURN_UNTIL(t.loop, t.lost == 1);
    TURN_UNTIL(t.loop, t.count == 30);
    bool seen[20] = {0};
    for (size_t i = 10; i < 30; i++) seen[number_of(t.msgs[i].ev)] = true;
    for (size_t i = 0; i < 20; i++) assert_true(seen[i]);
    close_taker(&t);
}

static void assert_header(const struct ev *ev, const char *name, const char *value) {
    for (size_t i = 0; i < ev->f.header_count; i++) {
        if (!str_is(ev->f.headers[i].name, name)) continue;
        if (!str_is(ev->f.headers[i].value, value))
            fail_msg("%s is \"%.*s\", not \"%s\"", name, STR_ARG(ev->f.headers[i].value), value);
        return;
    }
    fail_msg("no header %s", name);
}

static void test_properties(void **state) {
    (void)state;
    declare("props", "classic");
    amqp_field_value_t list[] = {{AMQP_FIELD_KIND_I32, {.i32 = 1}}, {AMQP_FIELD_KIND_UTF8, {.bytes = BYTES("a\"b")}}};
    amqp_table_entry_t inner[] = {{BYTES("list"), {AMQP_FIELD_KIND_ARRAY, {.array = {2, list}}}}};
    amqp_table_entry_t headers[] = {
        TEXT_ENTRY("h", "v"),
        {BYTES("n"), {AMQP_FIELD_KIND_I64, {.i64 = -5}}},
        {BYTES("yes"), {AMQP_FIELD_KIND_BOOLEAN, {.boolean = 1}}},
        {BYTES("half"), {AMQP_FIELD_KIND_F64, {.f64 = 0.5}}},
        {BYTES("deep"), {AMQP_FIELD_KIND_TABLE, {.table = {1, inner}}}},
    };
    amqp_basic_properties_t p = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG | AMQP_BASIC_HEADERS_FLAG |
                  AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_PRIORITY_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG |
                  AMQP_BASIC_REPLY_TO_FLAG | AMQP_BASIC_EXPIRATION_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG |
                  AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_TYPE_FLAG | AMQP_BASIC_USER_ID_FLAG | AMQP_BASIC_APP_ID_FLAG,
        .content_type = BYTES(EV_CONTENT_TYPE), // even then it is no event of ours
        .content_encoding = BYTES("gzip"),
        .headers = {array_len(headers), headers},
        .delivery_mode = 2,
        .priority = 3,
        .correlation_id = BYTES("c"),
        .reply_to = BYTES("r"),
        .expiration = BYTES("60000"),
        .message_id = BYTES("0192f3a4-0000-7000-8000-000000000001"),
        .timestamp = 1700000000,
        .type = BYTES("order"),
        .user_id = BYTES("guest"),
        .app_id = BYTES("shop"),
    };
    publish("", "props", &p, BYTES("\xc1 bytes"));
    publish("", "props", &p, BYTES("\xc1 bytes"));
    struct taker t = {0};
    open_taker(&t, &(struct amqp_source_config){.queue = "props"}, 10);
    TURN_UNTIL(t.loop, t.count == 2);
    const struct ev *ev = t.msgs[0].ev;
    assert_int_equal(t.msgs[0].content, QUEUE_RAW);
    assert_true(str_is(ev->f.payload, "\xc1 bytes") && str_is(ev->f.content_type, EV_CONTENT_TYPE));
    assert_false(id_eq(&ev->f.id, &t.msgs[1].ev->f.id)); // one message-id twice: two events all the same
    assert_header(ev, "content-encoding", "gzip");
    assert_header(ev, "delivery-mode", "2");
    assert_header(ev, "priority", "3");
    assert_header(ev, "correlation-id", "c");
    assert_header(ev, "reply-to", "r");
    assert_header(ev, "expiration", "60000");
    assert_header(ev, "message-id", "0192f3a4-0000-7000-8000-000000000001");
    assert_header(ev, "timestamp", "1700000000");
    assert_header(ev, "type", "order");
    assert_header(ev, "user-id", "guest");
    assert_header(ev, "app-id", "shop");
    assert_header(ev, "h", "v");
    assert_header(ev, "n", "-5");
    assert_header(ev, "yes", "true");
    assert_header(ev, "half", "0.5");
    assert_header(ev, "deep", "{\"list\":[1,\"a\\\"b\"]}");
    assert_non_null(strstr(ev->f.source_at.data, ",\"timestamp\":1700000000000}"));
    ack_all(&t, 0);
    close_taker(&t);
}

// Expired in one queue, dead-lettered into another.
static void test_x_death(void **state) {
    (void)state;
    declare("grave", "classic");
    amqp_connection_state_t c = plain_open();
    amqp_table_entry_t e[] = {TEXT_ENTRY("x-dead-letter-exchange", ""), TEXT_ENTRY("x-dead-letter-routing-key", "grave"),
                              {BYTES("x-message-ttl"), {AMQP_FIELD_KIND_I32, {.i32 = 1}}}};
    assert_non_null(amqp_queue_declare(c, 1, BYTES("life"), 0, 1, 0, 0, (amqp_table_t){3, e}));
    plain_close(c);
    publish_numbers("", "life", 7, 1);
    struct taker t = {.ack_at_once = true};
    open_taker(&t, &(struct amqp_source_config){.queue = "grave"}, 10);
    TURN_UNTIL(t.loop, t.count == 1);
    const struct ev *ev = t.msgs[0].ev;
    assert_int_equal(number_of(ev), 7);
    assert_header(ev, "x-first-death-queue", "life");
    assert_header(ev, "x-first-death-reason", "expired");
    assert_header(ev, "x-first-death-exchange", "");
    json_t *deaths = NULL;
    for (size_t i = 0; i < ev->f.header_count; i++)
        if (str_is(ev->f.headers[i].name, "x-death"))
            deaths = json_loadb(ev->f.headers[i].value.data, ev->f.headers[i].value.len, 0, NULL);
    const json_t *first = json_array_get(deaths, 0);
    assert_int_equal(json_integer_value(json_object_get(first, "count")), 1);
    assert_string_equal(json_string_value(json_object_get(first, "queue")), "life");
    assert_string_equal(json_string_value(json_array_get(json_object_get(first, "routing-keys"), 0)), "life");
    json_decref(deaths);
    close_taker(&t);
}

static void publish_zeroes(const char *queue, size_t bytes) {
    amqp_bytes_t body = amqp_bytes_malloc(bytes);
    memset(body.bytes, 0, bytes);
    publish("", queue, &(amqp_basic_properties_t){0}, body);
    amqp_bytes_free(body);
}

// Larger than an event may be: handed out. Larger than anything should be: left where it is, and told.
static void test_large_messages(void **state) {
    (void)state;
    declare("large", "classic");
    publish_zeroes("large", EV_PAYLOAD_MAX + 1);
    publish_zeroes("large", 65u << 20);
    publish_numbers("", "large", 0, 20);
    struct taker t = {0};
    open_taker(&t, &(struct amqp_source_config){.queue = "large"}, 100);
    TURN_UNTIL(t.loop, t.count == 21);
    assert_int_equal(t.msgs[0].ev->f.payload.len, EV_PAYLOAD_MAX + 1);
    assert_true(lag_says(&t, "larger than 67108864"));
    assert_true(lag_is_up(&t));
    ack_all(&t, 0);
    close_taker(&t);
    assert_int_equal(ready_in("large"), 1);
}

// Consumes all that is there; no more than the credit may ever be out.
static void drain(struct taker *t, size_t acked, size_t total, size_t credit) {
    while (acked < total) {
        TURN_UNTIL(t->loop, acked < t->count);
        for (; acked < t->count; acked++, t->out--) queue_ack(t->c, t->msgs[acked].tag);
        assert_true(t->most_out <= credit);
    }
    TURN_UNTIL(t->loop, queue_unsettled(t->c) == 0);
    assert_int_equal(t->lost, 0);
    assert_int_equal(t->count, total);
}

static void test_auto_prefetch(void **state) {
    (void)state;
    declare("auto", "classic");
    struct taker t = {0};
    open_taker(&t, &(struct amqp_source_config){.queue = "auto"}, 1000);
    TURN_UNTIL(t.loop, lag_is_up(&t));
    assert_int_equal(lag_number(&t, "prefetch"), 100);
    // How fast it is here decides how far it grows (the rule has a unit test); however far, it keeps to the credit.
    for (unsigned i = 1; i <= 8 && lag_number(&t, "prefetch") == 100; i++) {
        publish_numbers("", "auto", 0, 20000);
        drain(&t, (i - 1) * 20000, i * 20000, 1000);
    }
    print_message("prefetch %lld, at most %zu out\n", (long long)lag_number(&t, "prefetch"), t.most_out);
    close_taker(&t);
    assert_int_equal(ready_in("auto"), 0);
    struct taker few = {0};
    publish_numbers("", "auto", 0, 100);
    open_taker(&few, &(struct amqp_source_config){.queue = "auto"}, 7);
    TURN_UNTIL(few.loop, few.count == 7);
    assert_int_equal(lag_number(&few, "ready"), 93);
    assert_int_equal(few.count, 7);
    close_taker(&few);
}

// Messages turn out to be so large that the prefetch has to shrink while all of the first ones are out.
static void prefetch_shrinks(const char *type) {
    enum { CREDIT = 110, TOTAL = 200 };
    cleanup_free char *queue = mem_printf("shrinks-%s", type);
    declare(queue, type);
    for (size_t i = 0; i < TOTAL; i++) publish_zeroes(queue, 128u << 10);
    struct taker t = {.credit_bytes = 2u << 20}; // 16 of them
    open_taker(&t, &(struct amqp_source_config){.queue = queue}, CREDIT);
    TURN_UNTIL(t.loop, t.count >= 100 && lag_number(&t, "prefetch") < 50);
    assert_true(t.out <= CREDIT);
    drain(&t, 0, TOTAL, CREDIT);
    assert_true(lag_number(&t, "prefetch") <= 16);
    close_taker(&t);
    assert_int_equal(ready_in(queue), 0);
}

static void test_prefetch_shrinks(void **state) {
    (void)state;
    prefetch_shrinks("classic");
    prefetch_shrinks("quorum");
}

static void test_bad_settings(void **state) {
    (void)state;
    char *longest = mem_zalloc(300);
    memset(longest, 'q', 299);
    const struct amqp_source_config bad[] = {
        {.url = "amqp://x", .trigger = "t"},
        {.url = "amqp://x", .trigger = "t", .queue = "q", .exchange = "e"},
        {.url = "amqp://x", .trigger = "t", .queue = "q", .binding = "b"},
        {.url = "amqp://x", .trigger = "t", .queue = "q", .prefetch = 65536},
        {.url = "amqp://x", .trigger = "t", .queue = longest},
        {.url = "amqp://x", .trigger = longest, .exchange = "e"},
        {.url = "amqp://x", .queue = "q"},
        {.url = "kafka://x", .trigger = "t", .queue = "q"},
        {.url = "amqp://x?nonsense=1", .trigger = "t", .queue = "q"},
    };
    struct loop *loop = loop_new();
    for (size_t i = 0; i < array_len(bad); i++) {
        struct source *s;
        struct err err = {0};
        assert_int_equal(amqp_source_open(loop, &bad[i], &s, &err), ERR_INVALID);
        assert_true(err.text[0] != '\0');
    }
    loop_free(loop);
    free(longest);
}

int main(void) {
    const struct CMUnitTest alone[] = {cmocka_unit_test(test_bad_settings)};
    const struct CMUnitTest with_broker[] = {
        cmocka_unit_test(test_classic),
        cmocka_unit_test(test_quorum),
        cmocka_unit_test(test_lag),
        cmocka_unit_test(test_declares_queue),
        cmocka_unit_test(test_binds_exchange),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_stream_refused),
        cmocka_unit_test(test_deleted_and_back),
        cmocka_unit_test(test_closed_by_operator),
        cmocka_unit_test(test_properties),
        cmocka_unit_test(test_x_death),
        cmocka_unit_test(test_large_messages),
        cmocka_unit_test(test_auto_prefetch),
        cmocka_unit_test(test_prefetch_shrinks),
        cmocka_unit_test(test_stalled_broker),
        cmocka_unit_test(test_broker_restarted),
    };
    int failed = cmocka_run_group_tests_name("source: amqp, alone", alone, NULL, NULL);
    const char *url = getenv("WEIR_TEST_AMQP_URL");
    if (url && *url) failed += cmocka_run_group_tests_name("source: amqp", with_broker, start_broker, end_broker);
    return failed;
}
