// SPDX-License-Identifier: Apache-2.0
// core/kafka_tools against a real broker (WEIR_TEST_KAFKA): a check says which thing is wrong, and a seek sets every partition of
// a group that has no members.
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <unistd.h>

#include "core/kafka.h"
#include "core/offload.h"
#include "tests/support/support.h"

#define PARTITIONS 3
#define RECORDS 5           // in each partition
#define FIRST_MS 1700000000000 // of the first record; the others follow by a second

static struct loop *loop;
static const char *brokers;
static char *topic;

struct answer {
    bool done;
    int code;
    struct err err;
};

static void on_done(void *arg, int code, const struct err *err) {
    struct answer *a = arg;
    assert_false(a->done);
    *a = (struct answer){.done = true, .code = code};
    if (code) a->err = *err;
}

static void expect(const struct answer *a, int code, const char *words) {
    if (a->code != code) fail_msg("%d (%s) instead of %d", a->code, a->code ? a->err.text : "done", code);
    if (code && !strstr(a->err.text, words)) fail_msg("'%s' does not say '%s'", a->err.text, words);
}

static struct kafka_config config(const char *group) {
    struct kafka_config c;
    kafka_config_init(&c);
    c.brokers = brokers;
    c.topic = topic;
    c.group = group;
    return c;
}

// --- a plain client -------------------------------------------------------------------------------------------------

static rd_kafka_t *plain_client(rd_kafka_type_t type, const char *group) {
    char why[300];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof why);
    rd_kafka_conf_set(conf, "session.timeout.ms", "6000", why, sizeof why);
    if (group) rd_kafka_conf_set(conf, "group.id", group, why, sizeof why);
    rd_kafka_t *client = rd_kafka_new(type, conf, why, sizeof why);
    assert_non_null(client);
    return client;
}

static void fill_topic(rd_kafka_t *client) {
    static char value[] = "x";
    for (int i = 0; i < PARTITIONS * RECORDS; i++) {
        rd_kafka_resp_err_t e = rd_kafka_producev(client, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(i % PARTITIONS),
                                                  RD_KAFKA_V_TIMESTAMP(FIRST_MS + i / PARTITIONS * 1000), RD_KAFKA_V_VALUE(value, 1),
                                                  RD_KAFKA_V_END);
        assert_int_equal(e, 0);
    }
    assert_int_equal(rd_kafka_flush(client, 30000), 0);
}

static int start(void **state) {
    (void)state;
    char why[300];
    topic = mem_printf("tools-%d", (int)getpid());
    rd_kafka_t *client = plain_client(RD_KAFKA_PRODUCER, NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_NewTopic_t *wanted = rd_kafka_NewTopic_new(topic, PARTITIONS, 1, why, sizeof why);
    rd_kafka_CreateTopics(client, &wanted, 1, NULL, queue);
    rd_kafka_event_t *answer = rd_kafka_queue_poll(queue, 30000);
    assert_non_null(answer);
    rd_kafka_event_destroy(answer);
    rd_kafka_NewTopic_destroy(wanted);
    rd_kafka_queue_destroy(queue);
    fill_topic(client);
    rd_kafka_destroy(client);
    return 0;
}

static int end(void **state) {
    (void)state;
    free(topic);
    return 0;
}

static int set_up(void **state) {
    (void)state;
    loop = loop_new();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    offload_wait(loop);
    loop_free(loop);
    return 0;
}

// What the group's committed offsets are, as "a b c"; - where there is none.
static void expect_committed(const char *group, const char *want) {
    rd_kafka_t *client = plain_client(RD_KAFKA_CONSUMER, group);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(PARTITIONS);
    for (int i = 0; i < PARTITIONS; i++) rd_kafka_topic_partition_list_add(list, topic, i);
    assert_int_equal(rd_kafka_committed(client, list, 30000), 0);
    char text[100] = "";
    for (int i = 0; i < PARTITIONS; i++) {
        size_t len = strlen(text);
        cleanup_free char *offset = list->elems[i].offset < 0 ? mem_strdup("-") : mem_printf("%" PRId64, list->elems[i].offset);
        assert_int_equal(text_format(text + len, sizeof text - len, "%s%s", i ? " " : "", offset), 0);
        assert_int_equal(list->elems[i].metadata_size, 0);
    }
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(client);
    assert_string_equal(text, want);
}

// --- check ----------------------------------------------------------------------------------------------------------

static struct answer check(const struct kafka_config *c) {
    struct answer a = {0};
    kafka_check(loop, c, on_done, &a);
    assert_false(a.done); // later
    TURN_UNTIL(loop, a.done);
    return a;
}

static void a_good_trigger(void **state) {
    (void)state;
    struct kafka_config c = config("g");
    struct answer a = check(&c);
    expect(&a, ERR_OK, "");
}

static void a_topic_that_is_not_there(void **state) {
    (void)state;
    struct kafka_config c = config("g");
    cleanup_free char *near = mem_printf("%sx", topic);
    c.topic = near;
    struct answer a = check(&c);
    expect(&a, ERR_NOT_FOUND, "no topic");
    cleanup_free char *similar = mem_printf("similar ones are: %s", topic);
    expect(&a, ERR_NOT_FOUND, similar);
    c.topic = "quite-another-word";
    a = check(&c);
    expect(&a, ERR_NOT_FOUND, "no topic 'quite-another-word'");
    assert_null(strstr(a.err.text, "similar"));
    c.topic = "a b";
    a = check(&c);
    expect(&a, ERR_INVALID, "topic: ");
}

static void brokers_that_do_not_answer(void **state) {
    (void)state;
    struct kafka_config c = config("g");
    c.brokers = "127.0.0.1:1";
    struct answer a = check(&c);
    expect(&a, ERR_UNAVAILABLE, "Connection refused");
    c.brokers = "no-such-host.invalid:9092";
    a = check(&c);
    expect(&a, ERR_UNAVAILABLE, "no-such-host.invalid");
    expect(&a, ERR_UNAVAILABLE, "resolve");
}

static void brokers_of_another_protocol(void **state) {
    (void)state;
    struct kafka_config c = config("g");
    const struct kafka_pair ssl[] = {{"security.protocol", "ssl"}};
    c.extra = ssl;
    c.extra_count = 1;
    struct answer a = check(&c);
    expect(&a, ERR_UNAVAILABLE, "SSL");
    const struct kafka_pair sasl[] = {{"security.protocol", "sasl_plaintext"}, {"sasl.mechanism", "PLAIN"},
                                      {"sasl.username", "me"}, {"sasl.password", "secret"}};
    c.extra = sasl;
    c.extra_count = array_len(sasl);
    a = check(&c);
    assert_true(a.code == ERR_UNAVAILABLE || a.code == ERR_DENIED);
    assert_null(strstr(a.err.text, "secret"));
    assert_non_null(strstr(a.err.text, "SASL"));
}

// --- seek -----------------------------------------------------------------------------------------------------------

static struct answer seek(const char *group, const char *to, int64_t wait_ms) {
    struct kafka_config c = config(group);
    struct answer a = {0};
    kafka_seek(loop, &c, to, wait_ms, on_done, &a);
    TURN_UNTIL(loop, a.done);
    return a;
}

static void seeks_every_partition(void **state) {
    (void)state;
    struct answer a = seek("g1", "latest", 0);
    expect(&a, ERR_OK, "");
    expect_committed("g1", "5 5 5");
    a = seek("g1", "earliest", 0);
    expect(&a, ERR_OK, "");
    expect_committed("g1", "0 0 0");
    a = seek("g1", "time:1700000001500", 0); // between the second record and the third
    expect(&a, ERR_OK, "");
    expect_committed("g1", "2 2 2");
    a = seek("g1", "time:1800000000000", 0); // after the last
    expect(&a, ERR_OK, "");
    expect_committed("g1", "5 5 5");
    a = seek("g1", "offset:1=3,2=0", 0); // the others stay
    expect(&a, ERR_OK, "");
    expect_committed("g1", "5 3 0");
}

static void refuses_where_nothing_is(void **state) {
    (void)state;
    static const struct {
        const char *to, *says;
    } wrong[] = {{"offset:1=6", "has the offsets 0 to 5; 6 is outside"},
                 {"offset:3=0", "has no partition 3: it has 0 to 2"},
                 {"offset:1=2,1=3", "named twice"},
                 {"offset:", "PARTITION=OFFSET"},
                 {"offset:1=", "PARTITION=OFFSET"},
                 {"offset:1=2;2=3", "PARTITION=OFFSET"},
                 {"offset:1=2,", "PARTITION=OFFSET"},
                 {"offset:-1=2", "PARTITION=OFFSET"},
                 {"offset:99999999999=2", "is none"},
                 {"time:soon", "no time"},
                 {"time:-5", "no time"},
                 {"middle", "no place to go to"}};
    for (size_t i = 0; i < array_len(wrong); i++) {
        struct answer a = seek("g2", wrong[i].to, 0);
        expect(&a, ERR_INVALID, wrong[i].says);
    }
    expect_committed("g2", "- - -");
}

static rd_kafka_t *member_of(const char *group) {
    rd_kafka_t *member = plain_client(RD_KAFKA_CONSUMER, group);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, RD_KAFKA_PARTITION_UA);
    assert_int_equal(rd_kafka_subscribe(member, list), 0);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_topic_partition_list_t *now = NULL;
    int64_t until_ns = clock_mono_ns() + 60000 * NS_PER_MS;
    do {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(member, 20);
        if (m) rd_kafka_message_destroy(m);
        if (now) rd_kafka_topic_partition_list_destroy(now);
        assert_int_equal(rd_kafka_assignment(member, &now), 0);
        assert_true(clock_mono_ns() < until_ns);
    } while (now->cnt == 0);
    rd_kafka_topic_partition_list_destroy(now);
    return member;
}

static void waits_until_the_members_are_gone(void **state) {
    (void)state;
    rd_kafka_t *member = member_of("g3");
    struct answer a = seek("g3", "earliest", 300);
    expect(&a, ERR_CONFLICT, "still has members");
    expect_committed("g3", "- - -");
    struct kafka_config c = config("g3");
    a = (struct answer){0};
    kafka_seek(loop, &c, "offset:0=1", 60000, on_done, &a);
    for (int i = 0; i < 20; i++) loop_turn(loop, 20);
    assert_false(a.done);
    rd_kafka_consumer_close(member);
    TURN_UNTIL(loop, a.done);
    expect(&a, ERR_OK, "");
    expect_committed("g3", "1 - -");
    rd_kafka_destroy(member);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(a_good_trigger),        CASE(a_topic_that_is_not_there), CASE(brokers_that_do_not_answer), CASE(brokers_of_another_protocol),
        CASE(seeks_every_partition), CASE(refuses_where_nothing_is),  CASE(waits_until_the_members_are_gone),
    };
    brokers = getenv("WEIR_TEST_KAFKA");
    return brokers ? cmocka_run_group_tests_name("core/kafka_tools", tests, start, end) : 0;
}
