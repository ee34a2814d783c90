// SPDX-License-Identifier: Apache-2.0
#include "core/fire.h"
#include "core/shape_parts.h"

#include "tests/support/support.h"

#define KAFKA_AT(offset) "{\"topic\":\"orders\",\"partition\":3,\"offset\":" #offset ",\"timestamp\":1767225600000,\"timestampType\":\"CREATE_TIME\"}"
#define AMQP_AT "{\"queue\":\"q1\",\"exchange\":\"shop\",\"routingKey\":\"order.new\",\"redelivered\":true}"
#define ID_TEXT "01956f00-0000-7000-8000-000000000001"

static struct ev_fields fields(const char *kind, const char *at, struct str payload) {
    struct ev_fields f = {
        .function = STR_LIT("f"),
        .source_kind = str_of(kind),
        .source_name = STR_LIT("trig"),
        .source_at = str_of(at),
        .payload = payload,
        .accepted_ms = INT64_C(1767225601000),
    };
    assert_int_equal(id_parse(STR_LIT(ID_TEXT), &f.id), 0);
    return f;
}

static struct ev *kafka(const char *at, const char *key, struct str payload) {
    struct ev_fields f = fields("kafka", at, payload);
    f.ordering_key = str_of(key);
    return ev_new(&f);
}

static struct ev *with_headers(const char *kind, const char *at, struct str payload, const struct ev_header *headers, size_t count) {
    struct ev_fields f = fields(kind, at, payload);
    f.headers = headers;
    f.header_count = count;
    return ev_new(&f);
}

// Renders, checks that it is JSON, and frees the events.
static char *render(enum shape s, struct ev **evs, size_t count) {
    struct buf out;
    struct err err = {0};
    buf_init(&out, 1u << 20);
    assert_int_equal(shape_append(&out, s, (const struct ev *const *)evs, count, &err), 0);
    for (size_t i = 0; i < count; i++) ev_free(evs[i]);
    char *text = buf_take(&out, NULL);
    json_error_t why;
    json_t *j = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &why);
    if (!j && s != SHAPE_RAW) fail_msg("%s: %s", why.text, text);
    json_decref(j);
    return text;
}

static void expect(enum shape s, struct ev *ev, const char *wanted) {
    cleanup_free char *text = render(s, &ev, 1);
    assert_string_equal(text, wanted);
}

static void test_words(void **state) {
    (void)state;
    enum shape s;
    struct err err = {0};
    assert_int_equal(shape_parse(STR_LIT(""), &s, &err), 0);
    assert_int_equal(s, SHAPE_RAW);
    for (int i = SHAPE_RAW; i <= SHAPE_CLOUDEVENTS; i++) {
        assert_int_equal(shape_parse(str_of(shape_word((enum shape)i)), &s, &err), 0);
        assert_int_equal(s, i);
        assert_int_equal(shape_is_single((enum shape)i), i == SHAPE_RAW);
    }
    assert_int_equal(shape_parse(STR_LIT("scff"), &s, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "\"scff\""));
    assert_non_null(strstr(err.text, "raw scf lambda fc cloudevents"));
}

static void test_raw(void **state) {
    (void)state;
    expect(SHAPE_RAW, kafka(KAFKA_AT(7), "k", STR_LIT("no json \xff")), "no json \xff");
}

static void test_scf_kafka(void **state) {
    (void)state;
    struct ev *two[] = {kafka(KAFKA_AT(7), "", STR_LIT("{\"a\":1}")), kafka(KAFKA_AT(9), "k\"", STR_LIT("\xff\n"))};
    cleanup_free char *text = render(SHAPE_SCF, two, 2);
    assert_string_equal(text, "{\"Records\":[{\"Ckafka\":{\"topic\":\"orders\",\"partition\":3,\"offset\":7,\"msgKey\":\"None\",\"msgBody\":"
                              "\"{\\\"a\\\":1}\"}},{\"Ckafka\":{\"topic\":\"orders\",\"partition\":3,\"offset\":9,\"msgKey\":\"k\\\"\","
                              "\"msgBody\":\"\xef\xbf\xbd\\n\"}}]}");
}

static void test_scf_amqp(void **state) {
    (void)state;
    const struct ev_header headers[] = {{STR_LIT("message-id"), STR_LIT("m-1")}, {STR_LIT("timestamp"), STR_LIT("1767225600")}};
    expect(SHAPE_SCF, with_headers("amqp", AMQP_AT, STR_LIT("hi"), headers, 2),
           "{\"Records\":[{\"CMQ\":{\"type\":\"topic\",\"topicOwner\":0,\"topicName\":\"shop\",\"subscriptionName\":\"q1\",\"publishTime\":"
           "\"2026-01-01T00:00:00.000Z\",\"msgId\":\"m-1\",\"requestId\":\"" ID_TEXT "\",\"msgBody\":\"hi\",\"msgTag\":\"order.new\"}}]}");
    expect(SHAPE_SCF, with_headers("amqp", "{\"queue\":\"q\",\"exchange\":\"e\",\"routingKey\":\"k\",\"redelivered\":false,\"timestamp\":1767225602000}",
                                   STR_LIT("hi"), headers, 1),
           "{\"Records\":[{\"CMQ\":{\"type\":\"topic\",\"topicOwner\":0,\"topicName\":\"e\",\"subscriptionName\":\"q\",\"publishTime\":"
           "\"2026-01-01T00:00:02.000Z\",\"msgId\":\"m-1\",\"requestId\":\"" ID_TEXT "\",\"msgBody\":\"hi\",\"msgTag\":\"k\"}}]}");
    // Without a time, an id and an exchange of its own.
    expect(SHAPE_SCF, with_headers("amqp", "{\"queue\":\"q1\",\"exchange\":\"\",\"routingKey\":\"q1\"}", STR_LIT(""), NULL, 0),
           "{\"Records\":[{\"CMQ\":{\"type\":\"topic\",\"topicOwner\":0,\"topicName\":\"q1\",\"subscriptionName\":\"q1\",\"publishTime\":"
           "\"2026-01-01T00:00:01.000Z\",\"msgId\":\"" ID_TEXT "\",\"requestId\":\"" ID_TEXT "\",\"msgBody\":\"\",\"msgTag\":\"q1\"}}]}");
}

// Names of AMQP may be any text, and what stands in source_at may be anything when the event came from outside.
static void test_odd_coordinates(void **state) {
    (void)state;
    struct ev *odd = with_headers("amqp", "{\"queue\":\"a\\\"b,\\\\\",\"exchange\":\"\\u00e9\\ud83d\\ude00\",\"routingKey\":\"\\q\"}",
                                  STR_LIT(""), NULL, 0);
    cleanup_free char *text = render(SHAPE_SCF, &odd, 1);
    assert_non_null(strstr(text, "\"topicName\":\"\xc3\xa9\xf0\x9f\x98\x80\",\"subscriptionName\":\"a\\\"b,\\\\\""));
    assert_non_null(strstr(text, "\"msgTag\":\"\\\\q\""));
    expect(SHAPE_SCF, kafka("{\"topic\":\"t\",\"partition\":007,\"offset\":99999999999999999999}", "", STR_LIT("")),
           "{\"Records\":[{\"Ckafka\":{\"topic\":\"t\",\"partition\":0,\"offset\":0,\"msgKey\":\"None\",\"msgBody\":\"\"}}]}");
    expect(SHAPE_SCF, kafka("nothing", "", STR_LIT("")),
           "{\"Records\":[{\"Ckafka\":{\"topic\":\"\",\"partition\":0,\"offset\":0,\"msgKey\":\"None\",\"msgBody\":\"\"}}]}");
}

static void read_at(const char *text, struct shape_at *ret, struct ev **ret_ev) {
    const struct ev_fields f = {.function = STR_LIT("f"), .source_kind = STR_LIT("kafka"), .source_at = str_of(text)};
    *ret_ev = ev_new(&f);
    shape_at_read(*ret_ev, ret);
}

// Text in our own order is read by a shorter way; a blank at its beginning makes it go the long one.
static void test_both_ways_of_reading_agree(void **state) {
    (void)state;
    static const char *const texts[] = {
        "{\"topic\":\"t\",\"partition\":3,\"offset\":7,\"timestamp\":1767225600000,\"timestampType\":\"CREATE_TIME\"}",
        "{\"topic\":\"t.-_9\",\"partition\":0,\"offset\":9223372036854775807,\"timestamp\":0,\"timestampType\":\"LOG_APPEND_TIME\"}",
        "{\"topic\":\"t\",\"partition\":3,\"offset\":7,\"timestamp\":-1,\"timestampType\":\"NO_TIMESTAMP_TYPE\"}",
        "{\"topic\":\"t\",\"partition\":3,\"offset\":7,\"timestamp\":5,\"timestampType\":\"CREATE_TIME\",\"tombstone\":true}",
        "{\"topic\":\"t\",\"partition\":3,\"offset\":7,\"timestamp\":5,\"timestampType\":\"CREATE_TIME\",\"tombstone\":false}",
        "{\"topic\":\"t\",\"partition\":3,\"offset\":7,\"timestamp\":5,\"timestampType\":\"CREATE_TIME\",\"offset\":8}",
        "{\"topic\":\"a\\\"b\\\\\",\"partition\":3,\"offset\":7,\"timestamp\":5,\"timestampType\":\"CREATE_TIME\"}",
        "{\"topic\":\"x\\\",\"partition\":3,\"offset\":7,\"timestamp\":5,\"timestampType\":\"CREATE_TIME\"}",
        "{\"topic\":\"\",\"partition\":3,\"offset\":7,\"timestamp\":5,\"timestampType\":\"CREATE_TIME\"}",
        "{\"topic\":\"t\",\"partition\":3,\"offset\":7e2,\"timestamp\":5,\"timestampType\":\"CREATE_TIME\"}",
        "{\"topic\":\"t\",\"partition\":\"3\",\"offset\":7,\"timestamp\":5,\"timestampType\":\"CREATE_TIME\"}",
        "{\"topic\":\"t\",\"partition\":,\"offset\":7}",
        "{\"topic\":\"t\",\"partition\":3,\"offset\":7}",
        "{\"topic\":\"t\",\"partition\":3",
        "{\"topic\":\"t",
        "{\"topic\":\"",
        "{",
        "",
    };
    for (size_t i = 0; i < array_len(texts); i++) {
        struct shape_at a, b;
        struct ev *one, *other;
        char blank[200];
        assert_int_equal(text_format(blank, sizeof blank, " %s", texts[i]), 0);
        read_at(texts[i], &a, &one);
        read_at(blank, &b, &other);
        assert_true(a.amqp == b.amqp && a.redelivered == b.redelivered && a.tombstone == b.tombstone);
        assert_true(str_eq(a.topic, b.topic) && str_eq(a.partition, b.partition) && str_eq(a.offset, b.offset));
        assert_true(str_eq(a.timestamp, b.timestamp) && str_eq(a.timestamp_type, b.timestamp_type));
        assert_true(str_eq(a.queue, b.queue) && str_eq(a.exchange, b.exchange) && str_eq(a.routing_key, b.routing_key));
        ev_free(one);
        ev_free(other);
    }
}

static void check_too_large(struct ev *ev) {
    for (int s = SHAPE_RAW; s <= SHAPE_CLOUDEVENTS; s++) {
        cleanup_free char *whole = NULL;
        struct buf out;
        buf_init(&out, 1u << 20);
        assert_int_equal(shape_append(&out, (enum shape)s, (const struct ev *const *)&ev, 1, NULL), 0);
        size_t need = buf_len(&out);
        whole = buf_take(&out, NULL);
        for (size_t cap = 3; cap <= need + 3; cap++) {
            struct err err = {0};
            buf_init(&out, cap);
            assert_int_equal(buf_append(&out, STR_LIT("abc")), 0);
            int rc = shape_append(&out, (enum shape)s, (const struct ev *const *)&ev, 1, &err);
            assert_int_equal(rc, cap < need + 3 ? ERR_TOO_LARGE : 0);
            assert_int_equal(err.code, rc);
            if (rc) assert_true(str_is(buf_str(&out), "abc"));
            else assert_memory_equal(buf_str(&out).data + 3, whole, need);
            buf_done(&out);
        }
    }
    ev_free(ev);
}

static void test_too_large(void **state) {
    (void)state;
    const struct ev_fields timer = fields(FIRE_SOURCE, "{\"time\":\"2026-01-01T00:05:00Z\"}", STR_LIT("{\"a\":\"0123456789\"}"));
    check_too_large(kafka(KAFKA_AT(7), "key", STR_LIT("{\"a\":\"0123456789\"}")));
    check_too_large(ev_new(&timer));
}

static void test_source_at_member(void **state) {
    (void)state;
    struct str at = STR_LIT("{\"queue\":\"a\\\"offset\\\":1\",\"x\":\"partition\",\"partition\":3,\"offset\":-7,\"redelivered\":false}");
    assert_true(str_is(source_at_member(at, "partition"), "3"));
    assert_true(str_is(source_at_member(at, "offset"), "-7"));
    assert_true(str_is(source_at_member(at, "redelivered"), "false"));
    assert_true(str_is(source_at_member(at, "queue"), "a\\\"offset\\\":1"));
    assert_int_equal(source_at_member(at, "art").len, 0);
    assert_int_equal(source_at_member(STR_NONE, "topic").len, 0);
    assert_int_equal(source_at_member(STR_LIT("{\"topic\":\"never ends"), "topic").len, 0);
    assert_true(str_is(source_at_member(STR_LIT("{ \"topic\" : \"t\" , \"offset\" : 5 }"), "offset"), "5"));
}

static bool names(const char *json, const struct ev *ev) {
    json_t *j = json_loads(json, JSON_DECODE_ANY, NULL);
    assert_non_null(j);
    bool yes = shape_names_event(j, ev);
    json_decref(j);
    return yes;
}

static void test_names_of_kafka(void **state) {
    (void)state;
    struct ev *ev = kafka(KAFKA_AT(7), "k", STR_LIT(""));
    assert_true(names("\"orders-3-7\"", ev));
    assert_true(names("{\"partition\":\"orders-3\",\"offset\":7}", ev));
    assert_true(names("\"" ID_TEXT "\"", ev));
    const char *const others[] = {"\"orders-3-70\"", "\"orders-3\"", "\"orders-37\"", "\"\"", "7", "null", "[]", "{}",
                                  "{\"partition\":\"orders-3\",\"offset\":8}", "{\"partition\":\"orders-31\",\"offset\":7}",
                                  "{\"partition\":\"orders-3\",\"offset\":\"7\"}", "{\"partition\":\"order-3\",\"offset\":7}"};
    for (size_t i = 0; i < array_len(others); i++)
        if (names(others[i], ev)) fail_msg("%s", others[i]);
    assert_false(shape_names_event(NULL, ev));
    ev_free(ev);
}

static void test_names_of_amqp(void **state) {
    (void)state;
    const struct ev_header headers[] = {{STR_LIT("message-id"), STR_LIT("m-1")}};
    struct ev *ev = with_headers("amqp", AMQP_AT, STR_LIT(""), headers, 1);
    assert_true(names("\"m-1\"", ev));
    assert_true(names("\"" ID_TEXT "\"", ev));
    assert_false(names("\"m-2\"", ev));
    assert_false(names("\"\"", ev));
    ev_free(ev);
    ev = with_headers("amqp", AMQP_AT, STR_LIT(""), NULL, 0);
    assert_false(names("\"m-1\"", ev));
    assert_false(names("\"\"", ev));
    ev_free(ev);
}

static void test_lambda_kafka(void **state) {
    (void)state;
    const struct ev_header headers[] = {{STR_LIT("h\""), STR_LIT("a\xff\x7f")}, {STR_LIT("h\""), STR_LIT("")}};
    struct ev *three[] = {
        kafka(KAFKA_AT(7), "k", STR_LIT("hi")),
        kafka("{\"topic\":\"a\",\"partition\":0,\"offset\":1,\"timestamp\":5,\"timestampType\":\"LOG_APPEND_TIME\",\"tombstone\":true}", "", STR_LIT("")),
        with_headers("kafka", KAFKA_AT(8), STR_LIT(""), headers, 2),
    };
    cleanup_free char *text = render(SHAPE_LAMBDA, three, 3);
    assert_string_equal(
        text, "{\"eventSource\":\"aws:kafka\",\"eventSourceArn\":\"arn:weir:kafka:::trig\",\"records\":{\"orders-3\":["
              "{\"topic\":\"orders\",\"partition\":3,\"offset\":7,\"timestamp\":1767225600000,\"timestampType\":\"CREATE_TIME\","
              "\"key\":\"aw==\",\"value\":\"aGk=\",\"headers\":[]},"
              "{\"topic\":\"orders\",\"partition\":3,\"offset\":8,\"timestamp\":1767225600000,\"timestampType\":\"CREATE_TIME\","
              "\"value\":\"\",\"headers\":[{\"h\\\"\":[97,-1,127]},{\"h\\\"\":[]}]}],"
              "\"a-0\":[{\"topic\":\"a\",\"partition\":0,\"offset\":1,\"timestamp\":5,\"timestampType\":\"LOG_APPEND_TIME\",\"headers\":[]}]}}");
}

static void test_lambda_many_groups(void **state) {
    (void)state;
    enum { COUNT = 300 };
    struct ev *evs[COUNT];
    for (int i = 0; i < COUNT; i++) {
        char at[80];
        snprintf(at, sizeof at, "{\"topic\":\"t\",\"partition\":%d,\"offset\":%d}", i % 100, i);
        evs[i] = kafka(at, "", STR_LIT(""));
    }
    cleanup_free char *text = render(SHAPE_LAMBDA, evs, COUNT);
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_int_equal(json_object_size(json_object_get(j, "records")), 100);
    int g = 0;
    const char *name;
    json_t *list;
    json_object_foreach(json_object_get(j, "records"), name, list) {
        char wanted[16];
        snprintf(wanted, sizeof wanted, "t-%d", g);
        assert_string_equal(name, wanted);
        assert_int_equal(json_array_size(list), 3);
        for (size_t i = 0; i < 3; i++)
            assert_int_equal(json_integer_value(json_object_get(json_array_get(list, i), "offset")), g + 100 * (int)i);
        g++;
    }
    json_decref(j);
}

static void test_lambda_amqp(void **state) {
    (void)state;
    const struct ev_header headers[] = {
        {STR_LIT("content-type"), STR_LIT("text/plain")}, {STR_LIT("delivery-mode"), STR_LIT("2")},
        {STR_LIT("timestamp"), STR_LIT("45221")},         {STR_LIT("type"), STR_LIT("t")},
        {STR_LIT("x"), STR_LIT("v1")},                    {STR_LIT("type"), STR_LIT("mine")},
    };
    expect(SHAPE_LAMBDA, with_headers("amqp", AMQP_AT, STR_LIT("hi"), headers, array_len(headers)),
           "{\"eventSource\":\"aws:rmq\",\"eventSourceArn\":\"arn:weir:rmq:::trig\",\"rmqMessagesByQueue\":{\"q1::/\":[{\"basicProperties\":"
           "{\"contentType\":\"text/plain\",\"contentEncoding\":null,\"headers\":{\"x\":{\"bytes\":[118,49]},\"type\":{\"bytes\":"
           "[109,105,110,101]}},\"deliveryMode\":2,\"priority\":null,\"correlationId\":null,\"replyTo\":null,\"expiration\":null,"
           "\"messageId\":null,\"timestamp\":\"Jan 1, 1970, 12:33:41 PM\",\"type\":\"t\",\"userId\":null,\"appId\":null,"
           "\"clusterId\":null,\"bodySize\":2},\"redelivered\":true,\"data\":\"aGk=\"}]}}");
}

static void test_fc_kafka(void **state) {
    (void)state;
    expect(SHAPE_FC, kafka(KAFKA_AT(7), "k", STR_LIT("hi")),
           "[\"{\\\"specversion\\\":\\\"1.0\\\",\\\"id\\\":\\\"orders-3-7\\\",\\\"source\\\":\\\"acs:alikafka\\\",\\\"type\\\":"
           "\\\"alikafka:Topic:Message\\\",\\\"subject\\\":\\\"acs:alikafka:trig:topic:orders\\\",\\\"time\\\":"
           "\\\"2026-01-01T00:00:00.000Z\\\",\\\"datacontenttype\\\":\\\"application/json; charset=utf-8\\\",\\\"aliyunaccountid\\\":"
           "\\\"0\\\",\\\"data\\\":{\\\"topic\\\":\\\"orders\\\",\\\"partition\\\":3,\\\"offset\\\":7,\\\"timestamp\\\":1767225600000,"
           "\\\"headers\\\":{\\\"headers\\\":[],\\\"isReadOnly\\\":false},\\\"key\\\":\\\"k\\\",\\\"value\\\":\\\"hi\\\"}}\"]");
}

// The cloud events inside the strings, as one array. Steals nothing; the caller lets go.
static json_t *inside(const char *text) {
    json_t *outer = json_loads(text, 0, NULL), *all = json_array(), *one;
    size_t i;
    json_array_foreach(outer, i, one) {
        json_t *j = json_loads(json_string_value(one), 0, NULL);
        assert_non_null(j);
        assert_int_equal(json_array_append_new(all, j), 0);
    }
    json_decref(outer);
    return all;
}

static void test_fc_amqp(void **state) {
    (void)state;
    const struct ev_header headers[] = {{STR_LIT("content-encoding"), STR_LIT("UTF-8")}, {STR_LIT("message-id"), STR_LIT("m-1")},
                                        {STR_LIT("x"), STR_LIT("1")}};
    struct ev *two[] = {with_headers("amqp", AMQP_AT, STR_LIT(" {\"a\":[1e5]}"), headers, 3),
                        with_headers("amqp", AMQP_AT, STR_LIT("no {json"), NULL, 0)};
    cleanup_free char *text = render(SHAPE_FC, two, 2);
    json_t *all = inside(text);
    json_t *wanted = json_loads("[{\"specversion\":\"1.0\",\"id\":\"m-1\",\"source\":\"acs:amqp\",\"type\":\"amqp:Queue:SendMessage\",\"subject\":"
                                "\"acs:amqp:trig:queue:q1\",\"time\":\"2026-01-01T00:00:01.000Z\",\"datacontenttype\":"
                                "\"application/json; charset=utf-8\",\"aliyunaccountid\":\"0\",\"data\":{\"envelope\":{\"deliveryTag\":0,"
                                "\"exchange\":\"shop\",\"redeliver\":true,\"routingKey\":\"order.new\"},\"body\":{\"a\":[1e5]},"
                                "\"props\":{\"contentEncoding\":\"UTF-8\",\"messageId\":\"m-1\"},\"headers\":{\"x\":\"1\"}}}]", 0, NULL);
    assert_non_null(wanted);
    assert_true(json_equal(json_array_get(all, 0), json_array_get(wanted, 0)));
    assert_string_equal(json_string_value(json_object_get(json_object_get(json_array_get(all, 1), "data"), "body")), "no {json");
    json_decref(all);
    json_decref(wanted);
}

#define CE_KAFKA(offset, key, tail)                                                                                     \
    "{\"specversion\":\"1.0\",\"id\":\"orders-3-" #offset "\",\"type\":\"dev.weir.kafka.record\"" key                          \
    ",\"topic\":\"orders\",\"partition\":3,\"offset\":\"" #offset "\",\"source\":\"/triggers/trig\",\"time\":"                        \
    "\"2026-01-01T00:00:00.000Z\"" tail "}"

static void test_cloudevents_data(void **state) {
    (void)state;
    expect(SHAPE_CLOUDEVENTS, kafka(KAFKA_AT(7), "k", STR_LIT("{\"a\": 12345678901234567890123}")),
           CE_KAFKA(7, ",\"subject\":\"k\",\"partitionkey\":\"k\"",
                    ",\"datacontenttype\":\"application/json\",\"data\":{\"a\": 12345678901234567890123}"));
    expect(SHAPE_CLOUDEVENTS, kafka(KAFKA_AT(7), "", STR_LIT("h\"i")), CE_KAFKA(7, "", ",\"datacontenttype\":\"text/plain\",\"data\":\"h\\\"i\""));
    expect(SHAPE_CLOUDEVENTS, kafka(KAFKA_AT(7), "", STR_LIT("\xff")),
           CE_KAFKA(7, "", ",\"datacontenttype\":\"application/octet-stream\",\"data_base64\":\"/w==\""));
    expect(SHAPE_CLOUDEVENTS, kafka(KAFKA_AT(7), "", STR_LIT("a\0b")),
           CE_KAFKA(7, "", ",\"datacontenttype\":\"application/octet-stream\",\"data_base64\":\"YQBi\""));
    expect(SHAPE_CLOUDEVENTS, kafka(KAFKA_AT(7), "", STR_LIT("")), CE_KAFKA(7, "", ""));
    struct ev *two[] = {kafka(KAFKA_AT(7), "", STR_LIT("1")), kafka(KAFKA_AT(8), "", STR_LIT("[}"))};
    cleanup_free char *text = render(SHAPE_CLOUDEVENTS, two, 2);
    assert_string_equal(text, "[" CE_KAFKA(7, "", ",\"datacontenttype\":\"application/json\",\"data\":1") ","
                              CE_KAFKA(8, "", ",\"datacontenttype\":\"text/plain\",\"data\":\"[}\"") "]");
}

// What says that it is text is not JSON though it may look so.
static void test_cloudevents_content_type(void **state) {
    (void)state;
    struct ev_fields f = fields("kafka", KAFKA_AT(7), STR_LIT("42"));
    f.content_type = STR_LIT("text/plain; charset=utf-8");
    expect(SHAPE_CLOUDEVENTS, ev_new(&f), CE_KAFKA(7, "", ",\"datacontenttype\":\"text/plain; charset=utf-8\",\"data\":\"42\""));
    f.content_type = STR_LIT("application/vnd.x+json");
    expect(SHAPE_CLOUDEVENTS, ev_new(&f), CE_KAFKA(7, "", ",\"datacontenttype\":\"application/vnd.x+json\",\"data\":42"));
}

static void test_cloudevents_amqp(void **state) {
    (void)state;
    const struct ev_header headers[] = {{STR_LIT("message-id"), STR_LIT("m-1")}};
    expect(SHAPE_CLOUDEVENTS, with_headers("amqp", AMQP_AT, STR_LIT("[]"), headers, 1),
           "{\"specversion\":\"1.0\",\"id\":\"m-1\",\"type\":\"dev.weir.amqp.message\",\"subject\":\"order.new\",\"queue\":\"q1\",\"exchange\":"
           "\"shop\",\"routingkey\":\"order.new\",\"redelivered\":true,\"source\":\"/triggers/trig\",\"time\":\"2026-01-01T00:00:01.000Z\","
           "\"datacontenttype\":\"application/json\",\"data\":[]}");
}

static void test_cloudevents_pass_through(void **state) {
    (void)state;
    const struct ev_header headers[] = {
        {STR_LIT("ce_specversion"), STR_LIT("1.0")}, {STR_LIT("ce_id"), STR_LIT("e1")},   {STR_LIT("ce_source"), STR_LIT("/s")},
        {STR_LIT("ce_type"), STR_LIT("order.new")},  {STR_LIT("ce_id"), STR_LIT("no")},   {STR_LIT("ce_Bad"), STR_LIT("no")},
        {STR_LIT("ce_tenant"), STR_LIT("acme")},     {STR_LIT("other"), STR_LIT("gone")}, {STR_LIT("content-type"), STR_LIT("application/json")},
    };
    const char *own = "{\"specversion\":\"1.0\",\"id\":\"e1\",\"source\":\"/s\",\"type\":\"order.new\",\"tenant\":\"acme\",\"datacontenttype\":"
                      "\"application/json\",\"data\":{}}";
    struct ev *ev = with_headers("kafka", KAFKA_AT(7), STR_LIT("{}"), headers, array_len(headers));
    ev->f.shape = STR_LIT("cloudevents");
    assert_true(names("\"e1\"", ev));
    assert_true(names("\"orders-3-7\"", ev));
    ev->f.shape = STR_LIT("scf");
    assert_false(names("\"e1\"", ev)); // a function of another shape does not see it
    expect(SHAPE_CLOUDEVENTS, ev, own);
    const struct ev_header amqp[] = {{STR_LIT("cloudEvents:specversion"), STR_LIT("1.0")}, {STR_LIT("cloudEvents_id"), STR_LIT("e1")},
                                     {STR_LIT("cloudEvents:source"), STR_LIT("/s")}, {STR_LIT("cloudEvents:type"), STR_LIT("x")}};
    expect(SHAPE_CLOUDEVENTS, with_headers("amqp", AMQP_AT, STR_LIT(""), amqp, 4),
           "{\"specversion\":\"1.0\",\"id\":\"e1\",\"source\":\"/s\",\"type\":\"x\"}");
}

static void test_cloudevents_structured(void **state) {
    (void)state;
    struct ev_fields f = fields("kafka", KAFKA_AT(7), STR_LIT("{\"specversion\":\"1.0\", \"id\":\"e1\",\"source\":\"/s\",\"type\":\"t\",\"data\":[1]}"));
    f.content_type = STR_LIT("application/cloudevents+json; charset=utf-8");
    f.shape = STR_LIT("cloudevents");
    struct ev *ev = ev_new(&f);
    assert_true(names("\"e1\"", ev));
    assert_false(names("\"e2\"", ev));
    expect(SHAPE_CLOUDEVENTS, ev, "{\"specversion\":\"1.0\", \"id\":\"e1\",\"source\":\"/s\",\"type\":\"t\",\"data\":[1]}");
    f.payload = STR_LIT("{\"specversion\":\"1.0\",\"id\":\"e1\"}"); // not a whole one
    expect(SHAPE_CLOUDEVENTS, ev_new(&f), CE_KAFKA(7, "", ",\"datacontenttype\":\"application/cloudevents+json; charset=utf-8\",\"data\":"
                                                           "{\"specversion\":\"1.0\",\"id\":\"e1\"}"));
}

// A text that is deeper than readers go, or that only some take, is not spliced.
// --- timers: the scheduled time, whenever it is accepted or run ---------------------------------------------------------

#define FIRE_AT "{\"time\":\"2026-01-01T00:05:00Z\"}"
#define FIRE_TIME "2026-01-01T00:05:00Z"

static struct ev *fire(struct str message) {
    struct ev_fields f = fields(FIRE_SOURCE, FIRE_AT, message);
    f.source_name = STR_LIT("every5");
    return ev_new(&f);
}

static void test_timer_scf(void **state) {
    (void)state;
    expect(SHAPE_SCF, fire(STR_LIT("go")), "{\"Type\":\"Timer\",\"TriggerName\":\"every5\",\"Time\":\"" FIRE_TIME "\",\"Message\":\"go\"}");
    expect(SHAPE_SCF, fire(STR_LIT("{\"a\":1}")),
           "{\"Type\":\"Timer\",\"TriggerName\":\"every5\",\"Time\":\"" FIRE_TIME "\",\"Message\":\"{\\\"a\\\":1}\"}");
    expect(SHAPE_SCF, fire(STR_LIT("\xffx")),
           "{\"Type\":\"Timer\",\"TriggerName\":\"every5\",\"Time\":\"" FIRE_TIME "\",\"Message\":\"\xef\xbf\xbdx\"}");
}

static void test_timer_fc(void **state) {
    (void)state;
    expect(SHAPE_FC, fire(STR_LIT("go")), "{\"triggerTime\":\"" FIRE_TIME "\",\"triggerName\":\"every5\",\"payload\":\"go\"}");
    expect(SHAPE_FC, fire(STR_LIT("")), "{\"triggerTime\":\"" FIRE_TIME "\",\"triggerName\":\"every5\",\"payload\":\"\"}");
}

#define SCHEDULED(detail)                                                                                                  \
    "{\"version\":\"0\",\"id\":\"" ID_TEXT "\",\"detail-type\":\"Scheduled Event\",\"source\":\"aws.events\",\"account\":\"\","     \
    "\"time\":\"" FIRE_TIME "\",\"region\":\"\",\"resources\":[\"arn:weir:events:::rule/every5\"],\"detail\":" detail "}"

static void test_timer_lambda(void **state) {
    (void)state;
    expect(SHAPE_LAMBDA, fire(STR_LIT("")), SCHEDULED("{}"));
    expect(SHAPE_LAMBDA, fire(STR_LIT(" {\"kind\": \"daily\"}")), SCHEDULED(" {\"kind\": \"daily\"}"));
    expect(SHAPE_LAMBDA, fire(STR_LIT("go")), SCHEDULED("{\"message\":\"go\"}"));
    expect(SHAPE_LAMBDA, fire(STR_LIT("[1]")), SCHEDULED("{\"message\":\"[1]\"}"));
    expect(SHAPE_LAMBDA, fire(STR_LIT("{1}")), SCHEDULED("{\"message\":\"{1}\"}"));
    expect(SHAPE_LAMBDA, fire(STR_LIT("\xff")), SCHEDULED("{\"message\":\"\xef\xbf\xbd\"}"));
}

#define CE_FIRE(tail)                                                                                                   \
    "{\"specversion\":\"1.0\",\"id\":\"" ID_TEXT "\",\"type\":\"dev.weir.timer.fire\",\"source\":\"/triggers/every5\",\"time\":"         \
    "\"" FIRE_TIME "\"" tail "}"

static void test_timer_cloudevents(void **state) {
    (void)state;
    expect(SHAPE_CLOUDEVENTS, fire(STR_LIT("{\"a\":1}")), CE_FIRE(",\"datacontenttype\":\"application/json\",\"data\":{\"a\":1}"));
    expect(SHAPE_CLOUDEVENTS, fire(STR_LIT("go")), CE_FIRE(",\"datacontenttype\":\"text/plain\",\"data\":\"go\""));
    expect(SHAPE_CLOUDEVENTS, fire(STR_LIT("\xff")), CE_FIRE(",\"datacontenttype\":\"application/octet-stream\",\"data_base64\":\"/w==\""));
    expect(SHAPE_CLOUDEVENTS, fire(STR_LIT("")), CE_FIRE(""));
}

static void test_timer_raw(void **state) {
    (void)state;
    expect(SHAPE_RAW, fire(STR_LIT("go \xff")), "go \xff");
}

// A name of any text, and coordinates that are none: from outside.
static void test_timer_odd(void **state) {
    (void)state;
    struct ev_fields f = fields(FIRE_SOURCE, "{\"time\":\"\\q\"}", STR_LIT("m"));
    f.source_name = STR_LIT("a\"b\xff");
    expect(SHAPE_SCF, ev_new(&f), "{\"Type\":\"Timer\",\"TriggerName\":\"a\\\"b\xef\xbf\xbd\",\"Time\":\"\\\\q\",\"Message\":\"m\"}");
    f.source_at = STR_LIT("nothing");
    expect(SHAPE_FC, ev_new(&f),
           "{\"triggerTime\":\"2026-01-01T00:00:01.000Z\",\"triggerName\":\"a\\\"b\xef\xbf\xbd\",\"payload\":\"m\"}");
}

static void test_json_that_is_not_spliced(void **state) {
    (void)state;
    char deep[1300] = {0};
    memset(deep, '[', 600);
    memset(deep + 600, ']', 600);
    const char *const bodies[] = {deep, "1e999", "\"\\ud800\"", "{\"a\\u0000\":1}", "nul", "1 2"};
    for (size_t i = 0; i < array_len(bodies); i++) {
        struct ev *ev = kafka(KAFKA_AT(7), "", str_of(bodies[i]));
        cleanup_free char *text = render(SHAPE_CLOUDEVENTS, &ev, 1);
        assert_non_null(strstr(text, "text/plain"));
    }
}

// What is spliced is what jansson reads.
static void test_json_texts(void **state) {
    (void)state;
    static const char *const good[] = {"0", "-0", "-1.5e+3", "1E5", "\"\"", "\"\\u00e9\\ud83d\\ude00\\u0000\\/\\b\"", "[]", "{}", " [ 1 , {\"a\" : null} ] \n", "true",
                                       "{\"a\":{\"b\":[[],false]}}", "\"\xc3\xa9\"", "1e308", "123456789012345678901234567890"};
    static const char *const bad[] = {"", " ", "01", "-", "1.", ".5", "+1", "1e", "1e+", "0x1", "nan", "\"", "\"\n\"", "\"\\x\"", "\"\\u12g4\"", "\"\\ud800\"",
                                      "\"\\udc00\"", "\"\\ud800\\u0041\"", "\"\xff\"", "[1,]", "[,1]", "[1 2]", "{\"a\"}", "{\"a\":}", "{a:1}", "{\"a\":1,}", "[1}", "{\"\\u0000\":1}",
                                      "1e309", "tru", "truee", "[] []"};
    for (size_t i = 0; i < array_len(good) + array_len(bad); i++) {
        const char *text = i < array_len(good) ? good[i] : bad[i - array_len(good)];
        json_t *j = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
        assert_int_equal(j != NULL, i < array_len(good));
        json_decref(j);
        if (shape_is_json(str_of(text)) != (i < array_len(good))) fail_msg("%s", text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_raw),
        cmocka_unit_test(test_scf_kafka),
        cmocka_unit_test(test_scf_amqp),
        cmocka_unit_test(test_odd_coordinates),
        cmocka_unit_test(test_both_ways_of_reading_agree),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_source_at_member),
        cmocka_unit_test(test_names_of_kafka),
        cmocka_unit_test(test_names_of_amqp),
        cmocka_unit_test(test_lambda_kafka),
        cmocka_unit_test(test_lambda_many_groups),
        cmocka_unit_test(test_lambda_amqp),
        cmocka_unit_test(test_fc_kafka),
        cmocka_unit_test(test_fc_amqp),
        cmocka_unit_test(test_cloudevents_data),
        cmocka_unit_test(test_cloudevents_content_type),
        cmocka_unit_test(test_cloudevents_amqp),
        cmocka_unit_test(test_cloudevents_pass_through),
        cmocka_unit_test(test_cloudevents_structured),
        cmocka_unit_test(test_timer_scf),
        cmocka_unit_test(test_timer_fc),
        cmocka_unit_test(test_timer_lambda),
        cmocka_unit_test(test_timer_cloudevents),
        cmocka_unit_test(test_timer_raw),
        cmocka_unit_test(test_timer_odd),
        cmocka_unit_test(test_json_that_is_not_spliced),
        cmocka_unit_test(test_json_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
