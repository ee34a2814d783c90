// SPDX-License-Identifier: Apache-2.0
// core/sink against real brokers (WEIR_TEST_KAFKA, WEIR_TEST_AMQP_URL): what is done with ERR_OK is there and reads as it was
// sent; what the broker does not take is said so and takes nothing else with it; each send is done once.
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <librdkafka/rdkafka.h>
#include <unistd.h>

#include "core/kafka.h"
#include "core/sink_room.h"
#include "tests/support/support.h"

static struct loop *loop;

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

static void on_closed(void *arg) {
    *(bool *)arg = true;
}

static void close_sink(struct sink *s) {
    bool closed = false;
    sink_close(s, on_closed, &closed);
    assert_false(closed); // later
    TURN_UNTIL(loop, closed);
}

static struct answer send_and_wait(struct sink *s, const struct sink_message *m) {
    struct answer a = {0};
    sink_send(s, m, on_done, &a);
    assert_int_equal(a.times, 0); // never inside the call
    TURN_UNTIL(loop, a.times);
    assert_int_equal(a.times, 1);
    return a;
}

static void expect(struct sink *s, const struct sink_message *m, int code, const char *words) {
    struct answer a = send_and_wait(s, m);
    if (a.code != code) fail_msg("%d (%s) instead of %d", a.code, a.code ? a.err.text : "done", code);
    if (code && !strstr(a.err.text, words)) fail_msg("'%s' does not say '%s'", a.err.text, words);
}

static int set_up(void **state) {
    (void)state;
    loop = loop_new();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    loop_turn(loop, 0);
    loop_free(loop);
    return 0;
}

static char *unique(const char *word) {
    static int number;
    return mem_printf("%s-%d-%d", word, (int)getpid(), ++number);
}

static char *large(size_t bytes) {
    char *text = mem_alloc(bytes);
    memset(text, 'x', bytes);
    return text;
}

// Some thousand messages in one turn; one of them, to `bad`, fails.
static void burst(struct sink *s, struct sink_message m, struct str bad, int bad_code) {
    enum { COUNT = 3000, BAD = 1234 };
    struct answer *answers = mem_array(COUNT, sizeof *answers);
    struct sink_message other = m;
    other.to = bad;
    int done = 0;
    for (int i = 0; i < COUNT; i++) sink_send(s, i == BAD ? &other : &m, on_done, &answers[i]);
    while (done < COUNT) {
        int64_t until_ns = clock_mono_ns() + 60000 * NS_PER_MS;
        while (!answers[done].times) {
            if (clock_mono_ns() > until_ns) fail_msg("no answer to %d", done);
            loop_turn(loop, 20);
        }
        done++;
    }
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(answers[i].times, 1);
        if (answers[i].code != (i == BAD ? bad_code : ERR_OK)) fail_msg("%d: %d %s", i, answers[i].code, answers[i].err.text);
    }
    free(answers);
}

// Over the cap a send is refused, and there is room again afterwards.
static void overfill(struct sink *s, const struct sink_message *m) {
    enum { COUNT = SINK_MESSAGES_MAX + 50 };
    struct answer *answers = mem_array(COUNT, sizeof *answers);
    for (int i = 0; i < COUNT; i++) sink_send(s, m, on_done, &answers[i]);
    for (int i = 0; i < COUNT; i++) TURN_UNTIL(loop, answers[i].times);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(answers[i].times, 1);
        assert_int_equal(answers[i].code, i < SINK_MESSAGES_MAX ? ERR_OK : ERR_BUSY);
    }
    free(answers);
    expect(s, m, ERR_OK, "");
}

// --- Kafka ----------------------------------------------------------------------------------------------------------

static const char *brokers;

static rd_kafka_t *plain_client(rd_kafka_type_t type) {
    char why[300];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof why);
    if (type == RD_KAFKA_CONSUMER) rd_kafka_conf_set(conf, "group.id", "reader", why, sizeof why);
    rd_kafka_t *client = rd_kafka_new(type, conf, why, sizeof why);
    assert_non_null(client);
    return client;
}

static char *new_topic(const char *setting, const char *value) {
    char *name = unique("sink"), why[300];
    rd_kafka_t *client = plain_client(RD_KAFKA_PRODUCER);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(name, 1, 1, why, sizeof why);
    if (setting) rd_kafka_NewTopic_set_config(topic, setting, value);
    rd_kafka_CreateTopics(client, &topic, 1, NULL, queue);
    rd_kafka_event_t *answer = rd_kafka_queue_poll(queue, 30000);
    assert_non_null(answer);
    if (rd_kafka_event_error(answer)) fail_msg("%s", rd_kafka_event_error_string(answer));
    rd_kafka_event_destroy(answer);
    rd_kafka_NewTopic_destroy(topic);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(client);
    return name;
}

static struct sink *kafka_sink(const char *at) {
    struct kafka_config c;
    struct err err = {0};
    struct sink *s;
    kafka_config_init(&c);
    c.brokers = at;
    if (kafka_sink_open(loop, &c, &s, &err)) fail_msg("%s", err.text);
    return s;
}

static rd_kafka_t *read_from_start(const char *topic) {
    rd_kafka_t *client = plain_client(RD_KAFKA_CONSUMER);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, 0)->offset = 0;
    assert_int_equal(rd_kafka_assign(client, list), 0);
    rd_kafka_topic_partition_list_destroy(list);
    return client;
}

static rd_kafka_message_t *read_record(rd_kafka_t *client) {
    rd_kafka_message_t *m = rd_kafka_consumer_poll(client, 30000);
    assert_non_null(m);
    if (m->err) fail_msg("%s", rd_kafka_message_errstr(m));
    return m;
}

static void expect_header(const rd_kafka_message_t *m, size_t at, const char *name, const char *value) {
    rd_kafka_headers_t *headers;
    const char *got_name;
    const void *got;
    size_t len;
    assert_int_equal(rd_kafka_message_headers(m, &headers), 0);
    assert_int_equal(rd_kafka_header_get_all(headers, at, &got_name, &got, &len), 0);
    assert_string_equal(got_name, name);
    assert_true(str_is((struct str){got, len}, value));
}

static void kafka_keeps_the_record(void **state) {
    (void)state;
    cleanup_free char *topic = new_topic(NULL, NULL);
    struct sink *s = kafka_sink(brokers);
    const struct ev_header headers[] = {{STR_LIT("a"), STR_LIT("1")}, {STR_LIT("a"), STR_LIT("")}};
    const struct sink_message messages[] = {
        {.to = str_of(topic), .key = STR_LIT("k"), .content_type = STR_LIT("text/plain"), .headers = headers, .header_count = 2,
         .payload = STR_LIT("p\0q")},
        {.to = str_of(topic), .key = STR_LIT("k"), .null_payload = true},
        {.to = str_of(topic)},
    };
    for (size_t i = 0; i < array_len(messages); i++) expect(s, &messages[i], ERR_OK, "");
    close_sink(s);
    rd_kafka_t *reader = read_from_start(topic);
    rd_kafka_message_t *m = read_record(reader);
    assert_true(str_eq((struct str){m->payload, m->len}, STR_LIT("p\0q")));
    assert_true(str_is((struct str){m->key, m->key_len}, "k"));
    expect_header(m, 0, "a", "1");
    expect_header(m, 1, "a", "");
    expect_header(m, 2, "content-type", "text/plain");
    rd_kafka_message_destroy(m);
    m = read_record(reader);
    assert_null(m->payload); // a tombstone
    assert_non_null(m->key);
    rd_kafka_message_destroy(m);
    m = read_record(reader);
    assert_non_null(m->payload); // empty, which is not the same
    assert_int_equal(m->len, 0);
    assert_null(m->key);
    rd_kafka_message_destroy(m);
    rd_kafka_destroy(reader);
}

static void kafka_says_what_it_does_not_take(void **state) {
    (void)state;
    cleanup_free char *topic = new_topic("max.message.bytes", "2000");
    struct sink *s = kafka_sink(brokers);
    struct sink_message m = {.to = STR_LIT("no-such-topic"), .payload = STR_LIT("x")};
    expect(s, &m, ERR_NOT_FOUND, "no topic 'no-such-topic'");
    m.to = STR_LIT("no/topic");
    expect(s, &m, ERR_NOT_FOUND, "no topic 'no/topic'");
    cleanup_free char *text = large(20u << 20);
    m.to = str_of(topic);
    m.payload = (struct str){text, 3000};
    expect(s, &m, ERR_TOO_LARGE, "");
    m.payload = (struct str){text, 20u << 20};
    expect(s, &m, ERR_TOO_LARGE, "");
    m.payload = STR_LIT("x");
    expect(s, &m, ERR_OK, "");
    close_sink(s);
}

static void kafka_takes_many_at_once(void **state) {
    (void)state;
    cleanup_free char *topic = new_topic(NULL, NULL);
    struct sink *s = kafka_sink(brokers);
    const struct sink_message m = {.to = str_of(topic), .key = STR_LIT("k"), .payload = STR_LIT("x")};
    burst(s, m, STR_LIT("no-such-topic"), ERR_NOT_FOUND);
    overfill(s, &m);
    close_sink(s);
}

static void kafka_flushes_at_the_end(void **state) {
    (void)state;
    cleanup_free char *topic = new_topic(NULL, NULL);
    struct sink *s = kafka_sink(brokers);
    const struct sink_message m = {.to = str_of(topic), .payload = STR_LIT("x")};
    struct answer answers[10] = {0};
    for (size_t i = 0; i < array_len(answers); i++) sink_send(s, &m, on_done, &answers[i]);
    close_sink(s);
    for (size_t i = 0; i < array_len(answers); i++) assert_int_equal(answers[i].times == 1 && answers[i].code == 0, 1);
}

static void kafka_that_is_away_is_told_in_time(void **state) {
    (void)state;
    struct sink *s = kafka_sink("127.0.0.1:1");
    const struct sink_message m = {.to = STR_LIT("t"), .payload = STR_LIT("x")};
    int64_t began_ns = clock_mono_ns();
    expect(s, &m, ERR_UNAVAILABLE, "in time");
    assert_true(clock_mono_ns() - began_ns < 2 * SINK_TIMEOUT_MS * NS_PER_MS);
    close_sink(s);
}

// --- AMQP -----------------------------------------------------------------------------------------------------------

static const char *amqp_url;

static amqp_connection_state_t plain_open(void) {
    cleanup_free char *url = mem_strdup(amqp_url);
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

// A queue of this connection, with room for `most` messages (0: no limit).
static char *new_queue(amqp_connection_state_t c, int64_t most) {
    char *name = unique("sink");
    amqp_table_entry_t entries[] = {
        {amqp_cstring_bytes("x-max-length"), {AMQP_FIELD_KIND_I64, {.i64 = most}}},
        {amqp_cstring_bytes("x-overflow"), {AMQP_FIELD_KIND_UTF8, {.bytes = amqp_cstring_bytes("reject-publish")}}},
    };
    assert_non_null(amqp_queue_declare(c, 1, amqp_cstring_bytes(name), 0, 0, 1, 0, (amqp_table_t){most ? 2 : 0, entries}));
    return name;
}

static struct sink *amqp_sink(const char *url) {
    struct err err = {0};
    struct sink *s;
    if (amqp_sink_open(loop, url, &s, &err)) fail_msg("%s", err.text);
    return s;
}

static bool bytes_are(amqp_bytes_t b, const char *z) {
    return str_is((struct str){b.bytes, b.len}, z);
}

static void amqp_keeps_the_message(void **state) {
    (void)state;
    amqp_connection_state_t c = plain_open();
    cleanup_free char *queue = new_queue(c, 0);
    struct sink *s = amqp_sink(amqp_url);
    const struct ev_header headers[] = {
        {STR_LIT("correlation-id"), STR_LIT("c1")}, {STR_LIT("a"), STR_LIT("1")},       {STR_LIT("delivery-mode"), STR_LIT("1")},
        {STR_LIT("x-death"), STR_LIT("[]")},        {STR_LIT("CC"), STR_LIT("other")},  {STR_LIT("priority"), STR_LIT("7")},
        {STR_LIT("correlation-id"), STR_LIT("c2")}, {STR_LIT("user-id"), STR_LIT("x")}, {STR_LIT("expiration"), STR_LIT("soon")},
    };
    const struct sink_message m = {.to = STR_LIT(""), .key = str_of(queue), .content_type = STR_LIT("text/plain"),
                                   .message_id = STR_LIT("m1"), .headers = headers, .header_count = array_len(headers),
                                   .payload = STR_LIT("p\0q")};
    expect(s, &m, ERR_OK, "");
    close_sink(s);
    assert_int_equal(amqp_basic_get(c, 1, amqp_cstring_bytes(queue), 1).reply_type, AMQP_RESPONSE_NORMAL);
    amqp_message_t got;
    assert_int_equal(amqp_read_message(c, 1, &got, 0).reply_type, AMQP_RESPONSE_NORMAL);
    const amqp_basic_properties_t *p = &got.properties;
    assert_true(str_eq((struct str){got.body.bytes, got.body.len}, STR_LIT("p\0q")));
    assert_true(bytes_are(p->content_type, "text/plain") && bytes_are(p->message_id, "m1") && bytes_are(p->correlation_id, "c1"));
    assert_int_equal(p->delivery_mode, 2);
    assert_int_equal(p->priority, 7);
    assert_false(p->_flags & (AMQP_BASIC_USER_ID_FLAG | AMQP_BASIC_EXPIRATION_FLAG));
    assert_int_equal(p->headers.num_entries, 3); // a, the second correlation-id, the expiration that is none
    assert_true(bytes_are(p->headers.entries[0].key, "a") && bytes_are(p->headers.entries[0].value.value.bytes, "1"));
    assert_true(bytes_are(p->headers.entries[1].value.value.bytes, "c2"));
    amqp_destroy_message(&got);
    plain_close(c);
}

static void amqp_says_what_it_does_not_take(void **state) {
    (void)state;
    amqp_connection_state_t c = plain_open();
    cleanup_free char *queue = new_queue(c, 2), *text = large(300000);
    struct sink *s = amqp_sink(amqp_url);
    struct sink_message m = {.to = STR_LIT("amq.direct"), .key = STR_LIT("nobody"), .payload = STR_LIT("x")};
    expect(s, &m, ERR_NOT_FOUND, "no queue is bound to exchange 'amq.direct' for routing key 'nobody'");
    m.to = STR_LIT("no-such-exchange");
    expect(s, &m, ERR_NOT_FOUND, "no-such-exchange");
    m.to = STR_LIT("");
    m.key = (struct str){text, 300};
    expect(s, &m, ERR_TOO_LARGE, "255");
    const struct ev_header headers[] = {{STR_LIT("h"), {text, 200000}}, {{text, 256}, STR_LIT("v")}};
    m.key = str_of(queue);
    m.headers = headers;
    m.header_count = 1;
    expect(s, &m, ERR_TOO_LARGE, "200009 bytes");
    m.headers = &headers[1];
    expect(s, &m, ERR_TOO_LARGE, "name of a header");
    m.header_count = 0;
    m.payload = (struct str){text, 300000};
    expect(s, &m, ERR_OK, "");
    expect(s, &m, ERR_OK, "");
    expect(s, &m, ERR_BUSY, "full");
    close_sink(s);
    plain_close(c);
}

static void amqp_takes_many_at_once(void **state) {
    (void)state;
    amqp_connection_state_t c = plain_open();
    cleanup_free char *queue = new_queue(c, 0);
    assert_non_null(amqp_queue_bind(c, 1, amqp_cstring_bytes(queue), amqp_cstring_bytes("amq.direct"), amqp_cstring_bytes(queue),
                                    amqp_empty_table));
    struct sink *s = amqp_sink(amqp_url);
    const struct sink_message m = {.to = STR_LIT("amq.direct"), .key = str_of(queue), .payload = STR_LIT("x")};
    burst(s, m, STR_LIT("no-such-exchange"), ERR_NOT_FOUND);
    burst(s, m, STR_LIT("amq.topic"), ERR_NOT_FOUND); // nothing is bound to it
    overfill(s, &m);
    close_sink(s);
    plain_close(c);
}

static void amqp_flushes_at_the_end(void **state) {
    (void)state;
    amqp_connection_state_t c = plain_open();
    cleanup_free char *queue = new_queue(c, 0);
    struct sink *s = amqp_sink(amqp_url);
    const struct sink_message m = {.key = str_of(queue), .payload = STR_LIT("x")};
    struct answer answers[10] = {0};
    for (size_t i = 0; i < array_len(answers); i++) sink_send(s, &m, on_done, &answers[i]);
    close_sink(s);
    for (size_t i = 0; i < array_len(answers); i++) assert_int_equal(answers[i].times == 1 && answers[i].code == 0, 1);
    plain_close(c);
}

static void amqp_that_is_away_is_told(void **state) {
    (void)state;
    const struct sink_message m = {.key = STR_LIT("q"), .payload = STR_LIT("x")};
    struct sink *s = amqp_sink("amqp://guest:guest@127.0.0.1:1/");
    expect(s, &m, ERR_UNAVAILABLE, "127.0.0.1:1");
    close_sink(s);
    const char *at = strchr(amqp_url, '@');
    assert_non_null(at);
    cleanup_free char *wrong = mem_printf("amqp://guest:wrong%s", at);
    s = amqp_sink(wrong);
    expect(s, &m, ERR_DENIED, "");
    close_sink(s);
    struct err err;
    assert_int_equal(amqp_sink_open(loop, "http://x", &s, &err), ERR_INVALID);
}

// A broker that dies with messages under way and comes back: each send has its answer, and what is done with ERR_OK is there.
static void amqp_that_dies(void **state) {
    (void)state;
    enum { COUNT = 2000 };
    char *parent = temp_dir_new();
    cleanup_free char *dir = mem_printf("%s/mq", parent), *queue = unique("durable");
    cleanup_free char *url = service_run("rabbitmq", "start", dir);
    const char *shared = amqp_url;
    amqp_url = url;
    amqp_connection_state_t c = plain_open();
    assert_non_null(amqp_queue_declare(c, 1, amqp_cstring_bytes(queue), 0, 1, 0, 0, amqp_empty_table));
    plain_close(c);
    free(service_run("rabbitmq", "stop", dir)); // kill -9 may undo a declaration of the last seconds, a clean stop keeps it
    free(service_run("rabbitmq", "start", dir));
    struct sink *s = amqp_sink(url);
    const struct sink_message m = {.key = str_of(queue), .payload = STR_LIT("x")};
    struct answer *answers = mem_array(COUNT, sizeof *answers);
    for (int i = 0; i < COUNT; i++) sink_send(s, &m, on_done, &answers[i]);
    TURN_UNTIL(loop, answers[0].times);
    free(service_run("rabbitmq", "kill", dir));
    size_t good = 0;
    for (int i = 0; i < COUNT; i++) {
        TURN_UNTIL(loop, answers[i].times);
        assert_true(answers[i].times == 1 && (answers[i].code == ERR_OK || answers[i].code == ERR_UNAVAILABLE));
        good += answers[i].code == ERR_OK;
    }
    free(answers);
    free(service_run("rabbitmq", "start", dir));
    struct answer a;
    int64_t until_ns = clock_mono_ns() + 60000 * NS_PER_MS;
    while ((a = send_and_wait(s, &m)).code) {
        assert_int_equal(a.code, ERR_UNAVAILABLE);
        assert_true(clock_mono_ns() < until_ns);
        loop_turn(loop, 20);
    }
    c = plain_open();
    const amqp_queue_declare_ok_t *found = amqp_queue_declare(c, 1, amqp_cstring_bytes(queue), 1, 1, 0, 0, amqp_empty_table);
    assert_non_null(found);
    assert_true(found->message_count >= good + 1);
    plain_close(c);
    close_sink(s);
    amqp_url = shared;
    free(service_run("rabbitmq", "kill", dir));
    temp_dir_remove(parent);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void) {
    const struct CMUnitTest kafka[] = {
        CASE(kafka_keeps_the_record),   CASE(kafka_says_what_it_does_not_take),   CASE(kafka_takes_many_at_once),
        CASE(kafka_flushes_at_the_end), CASE(kafka_that_is_away_is_told_in_time),
    };
    const struct CMUnitTest amqp[] = {
        CASE(amqp_keeps_the_message),  CASE(amqp_says_what_it_does_not_take), CASE(amqp_takes_many_at_once),
        CASE(amqp_flushes_at_the_end), CASE(amqp_that_is_away_is_told),
        CASE(amqp_that_dies),
    };
    brokers = getenv("WEIR_TEST_KAFKA");
    amqp_url = getenv("WEIR_TEST_AMQP_URL");
    int failed = 0;
    if (brokers) failed += cmocka_run_group_tests_name("core/sink: Kafka", kafka, NULL, NULL);
    if (amqp_url) failed += cmocka_run_group_tests_name("core/sink: AMQP", amqp, NULL, NULL);
    return failed;
}
