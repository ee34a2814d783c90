// SPDX-License-Identifier: Apache-2.0
// core/kafka_conf: what is wrong with a setting is said by its name, and what weir sets itself is refused.
#include <librdkafka/rdkafka.h>

#include "core/kafka_impl.h"
#include "core/kafka_names.h"
#include "tests/support/support.h"

static struct kafka_config good(void) {
    struct kafka_config c;
    kafka_config_init(&c);
    c.brokers = "127.0.0.1:9092";
    c.topic = "orders";
    c.group = "weir-orders";
    return c;
}

static void expect_good(const struct kafka_config *c) {
    struct err err = {0};
    if (kafka_config_check(c, &err)) fail_msg("refused: %s", err.text);
}

static void expect_bad(const struct kafka_config *c, const char *words) {
    struct err err = {0};
    if (kafka_config_check(c, &err) != ERR_INVALID) fail_msg("taken, though wrong: %s", words);
    assert_int_equal(err.code, ERR_INVALID);
    if (!strstr(err.text, words)) fail_msg("'%s' does not say '%s'", err.text, words);
}

static void defaults_are_good(void **state) {
    (void)state;
    struct kafka_config c = good();
    expect_good(&c);
    assert_int_equal(c.commit_ms, 1000);
    assert_int_equal(c.revoke_ms, 30000);
}

static void broker_lists(void **state) {
    (void)state;
    static const char *const takes[] = {"k1:9092", "k1:9092,k2.example.com:9093", "[::1]:9092", "localhost", "10.0.0.1:65535"};
    static const char *const refuses[] = {"k1:9092;k2:9092", "k1:", ":9092", "k1:0", "k1:65536", "k1:9092, k2:9092",
                                          "k1:9092,", "k1:nine", "kafka://k1:9092", "[::1", "k1:090909", "[]:9092", "a b:1"};
    for (size_t i = 0; i < array_len(takes); i++) {
        struct kafka_config c = good();
        c.brokers = takes[i];
        expect_good(&c);
    }
    for (size_t i = 0; i < array_len(refuses); i++) {
        struct kafka_config c = good();
        c.brokers = refuses[i];
        expect_bad(&c, "is not host:port");
    }
    struct kafka_config c = good();
    c.brokers = NULL;
    expect_bad(&c, "brokers is missing");
}

static void names(void **state) {
    (void)state;
    char longest[251];
    memset(longest, 'a', sizeof longest);
    longest[250] = '\0';
    static const char *const refuses[] = {"..", ".", "a b", "^orders.*", "a/b", "caf\xc3\xa9"};
    struct kafka_config c = good();
    for (size_t i = 0; i < array_len(refuses); i++) {
        c = good();
        c.topic = refuses[i];
        expect_bad(&c, "topic: ");
    }
    c.topic = longest;
    expect_bad(&c, "topic: ");
    c.topic = longest + 1;
    expect_good(&c);
    c.topic = "";
    expect_bad(&c, "topic is missing");
    c = good();
    c.group = "";
    expect_bad(&c, "group is missing");
    c.group = "a\nb";
    expect_bad(&c, "group: ");
    c.group = "a \xc3\xa9";
    expect_good(&c);
    c.member = "node/1";
    expect_bad(&c, "node: ");
    c.member = "node-1";
    expect_good(&c);
}

static void ranges_and_words(void **state) {
    (void)state;
    struct kafka_config c = good();
    c.from = "beginning";
    expect_bad(&c, "from: must be earliest or latest");
    c.from = NULL;
    expect_bad(&c, "from: ");
    c = good();
    c.commit_ms = 99;
    expect_bad(&c, "commit: must be 100 to 60000 ms, not 99");
    c.commit_ms = 60001;
    expect_bad(&c, "commit: ");
    c.commit_ms = 100;
    c.revoke_ms = -1;
    expect_bad(&c, "revoke: ");
}

static struct kafka_config with(struct kafka_pair *pair, const char *name, const char *value) {
    struct kafka_config c = good();
    *pair = (struct kafka_pair){name, value};
    c.extra = pair;
    c.extra_count = 1;
    return c;
}

static void users_settings(void **state) {
    (void)state;
    static const struct kafka_pair takes[] = {
        {"session.timeout.ms", "10000"}, {"fetch.max.bytes", "1048576"},     {"isolation.level", "read_uncommitted"},
        {"client.id", "mine"},           {"compression.type", "lz4"},        {"linger.ms", "50"},
        {"debug", "consumer"},           {"partitioner", "murmur2_random"},  {"request.timeout.ms", "5000"},
        {"security.protocol", "ssl"},    {"max.poll.interval.ms", "600000"}, {"fetch.wait.max.ms", "10"},
    };
    struct kafka_pair pair;
    for (size_t i = 0; i < array_len(takes); i++) {
        struct kafka_config c = with(&pair, takes[i].name, takes[i].value);
        expect_good(&c);
    }
}

static void wrong_settings(void **state) {
    (void)state;
    static const struct {
        const char *name, *value, *says;
    } wrong[] = {
        {"max.pol.interval.ms", "1000", "did you mean kafka.max.poll.interval.ms?"},
        {"Session.Timeout.Ms", "1000", "did you mean kafka.session.timeout.ms?"},
        {"sasl.user", "me", "did you mean kafka.sasl.username?"},
        {"nothing.like.it.at.all", "1", "no such setting of librdkafka"},
        {"session.timeout.ms", "0", "session.timeout.ms"},
        {"session.timeout.ms", "soon", "session.timeout.ms"},
        {"isolation.level", "dirty", "isolation.level"},
        {"compression.type", "rar", "compression.type"},
        {"partitioner", "", "kafka.partitioner"},
        {"request.timeout.ms", "0", "request.timeout.ms"},
        {"security.protocol", "tls", "security.protocol"},
        {"session.timeout.ms", "400000", "do not go together"},
        {"ssl.ca.location", "/no/such/file", "/no/such/file"},
    };
    struct kafka_pair pairs[2] = {{0}, {"security.protocol", "ssl"}};
    for (size_t i = 0; i < array_len(wrong); i++) {
        struct kafka_config c = with(pairs, wrong[i].name, wrong[i].value);
        if (strstr(wrong[i].name, "ssl.")) c.extra_count = 2;
        expect_bad(&c, wrong[i].says);
    }
}

static void weirs_own(void **state) {
    (void)state;
    static const char *const own[] = {"enable.auto.commit", "auto.commit.enable", "enable.auto.offset.store", "group.id",
                                      "bootstrap.servers", "metadata.broker.list", "partition.assignment.strategy", "acks",
                                      "auto.offset.reset", "group.instance.id", "rebalance_cb", "opaque", "ssl_key",
                                      "plugin.library.paths", "enable.idempotence", "queued.max.messages.kbytes"};
    struct kafka_pair pair;
    for (size_t i = 0; i < array_len(own); i++) {
        struct kafka_config c = with(&pair, own[i], "1");
        expect_bad(&c, "is weir's to set: ");
        expect_bad(&c, own[i]);
    }
}

static void expect_set(const rd_kafka_conf_t *conf, const char *name, const char *value) {
    char text[200];
    size_t size = sizeof text;
    assert_int_equal(rd_kafka_conf_get(conf, name, text, &size), RD_KAFKA_CONF_OK);
    assert_string_equal(text, value);
}

static void made_for_a_consumer(void **state) {
    (void)state;
    struct kafka_pair extra[] = {{"session.timeout.ms", "9000"}, {"linger.ms", "77"}};
    struct kafka_config c = good();
    c.extra = extra;
    c.extra_count = 2;
    c.member = "node-1";
    c.from = "earliest";
    struct err err = {0};
    rd_kafka_conf_t *conf = kafka_conf_make(&c, true, &err);
    assert_non_null(conf);
    expect_set(conf, "bootstrap.servers", "127.0.0.1:9092");
    expect_set(conf, "group.id", "weir-orders");
    expect_set(conf, "group.instance.id", "node-1");
    expect_set(conf, "enable.auto.commit", "false");
    expect_set(conf, "enable.auto.offset.store", "false");
    expect_set(conf, "partition.assignment.strategy", "cooperative-sticky");
    expect_set(conf, "session.timeout.ms", "9000");
    expect_set(conf, "linger.ms", "5"); // a producer's
    rd_kafka_conf_destroy(conf);
}

static void made_for_a_producer(void **state) {
    (void)state;
    struct kafka_pair extra[] = {{"session.timeout.ms", "9000"}, {"linger.ms", "77"}};
    struct kafka_config c = good();
    c.extra = extra;
    c.extra_count = 2;
    c.topic = c.group = NULL;
    struct err err = {0};
    rd_kafka_conf_t *conf = kafka_conf_make(&c, false, &err);
    assert_non_null(conf);
    expect_set(conf, "enable.idempotence", "true");
    expect_set(conf, "linger.ms", "77");
    expect_set(conf, "session.timeout.ms", "45000");
    rd_kafka_conf_destroy(conf);
    assert_int_equal(kafka_config_check_sink(&c, &err), 0);
    extra[1] = (struct kafka_pair){"max.in.flight", "100"}; // more than idempotence allows
    assert_int_equal(kafka_config_check_sink(&c, &err), ERR_INVALID);
    extra[1].name = "max.inflight";
    assert_null(kafka_conf_make(&c, false, &err));
    assert_non_null(strstr(err.text, "kafka.max.inflight"));
}

static void copies_own_their_text(void **state) {
    (void)state;
    struct kafka_pair pair;
    struct kafka_config c = with(&pair, "client.id", "mine"), copy;
    kafka_config_copy(&copy, &c);
    pair.value = "other";
    assert_string_equal(copy.extra[0].value, "mine");
    assert_string_equal(copy.topic, "orders");
    assert_ptr_not_equal(copy.topic, c.topic);
    assert_null(copy.member);
    kafka_config_done(&copy);
    assert_null(copy.topic);
    kafka_config_done(&copy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_good),   cmocka_unit_test(broker_lists),        cmocka_unit_test(names),
        cmocka_unit_test(ranges_and_words),    cmocka_unit_test(users_settings),      cmocka_unit_test(wrong_settings),
        cmocka_unit_test(weirs_own),           cmocka_unit_test(made_for_a_consumer), cmocka_unit_test(made_for_a_producer),
        cmocka_unit_test(copies_own_their_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
