// SPDX-License-Identifier: Apache-2.0
#include "triggers/spec.h"

#include "tests/support/support.h"

static int parse(enum spec_kind kind, const char *json, struct spec *s, struct err *err) {
    json_t *settings = json_loads(json, 0, NULL);
    assert_non_null(settings);
    int rc = spec_parse(kind, settings, "orders", s, err);
    json_decref(settings);
    return rc;
}

static void refused(enum spec_kind kind, const char *json, const char *because) {
    struct spec s;
    struct err err = {0};
    assert_int_equal(parse(kind, json, &s, &err), ERR_INVALID);
    if (!strstr(err.text, because)) fail_msg("\"%s\" does not say \"%s\"", err.text, because);
}

#define KAFKA "\"brokers\":\"h:9092\",\"topic\":\"t\""
#define AMQP "\"url\":\"amqp://h\""

static void test_defaults(void **state) {
    (void)state;
    struct spec s;
    struct err err = {0};
    assert_int_equal(parse(SPEC_KAFKA, "{" KAFKA "}", &s, &err), 0);
    assert_string_equal(s.group.text, "weir-orders");
    assert_string_equal(s.from.text, "earliest");
    assert_int_equal(spec_order(&s), ORDER_KEY);
    assert_int_equal(spec_shape(&s), SHAPE_SCF);
    assert_int_equal(s.batch.number, 100);
    assert_int_equal(s.commit_ms.number, 1000);
    assert_int_equal(s.max_bytes.number, 64 << 20);
    assert_int_equal(s.breaker.number, 50);
    assert_string_equal(spec_source_name(&s), "t");
    spec_done(&s);
    assert_int_equal(parse(SPEC_AMQP, "{" AMQP ",\"exchange\":\"shop\"}", &s, &err), 0);
    assert_string_equal(s.routing.text, "#");
    assert_int_equal(s.prefetch.number, 0);
    assert_int_equal(spec_order(&s), ORDER_NONE);
    assert_string_equal(spec_source_name(&s), "shop");
    spec_done(&s);
}

static void test_values(void **state) {
    (void)state;
    struct spec s;
    struct err err = {0};
    assert_int_equal(parse(SPEC_KAFKA,
                           "{" KAFKA ",\"group\":\"g\",\"from\":\"latest\",\"batch\":\"500\",\"window\":\"50ms\",\"order\":\"partition\","
                           "\"shape\":\"lambda\",\"breaker\":\"off\",\"max_bytes\":\"1GiB\",\"kafka.sasl.mechanism\":\"PLAIN\"}",
                           &s, &err),
                     0);
    assert_int_equal(s.batch.number, 500);
    assert_int_equal(s.window_ms.number, 50);
    assert_int_equal(spec_order(&s), ORDER_PARTITION);
    assert_int_equal(s.breaker.number, 0);
    assert_int_equal(s.max_bytes.number, 1 << 30);
    assert_int_equal(s.extra_count, 1);
    assert_string_equal(s.extra[0].name, "sasl.mechanism");
    assert_string_equal(s.extra[0].value, "PLAIN");
    spec_done(&s);
    assert_int_equal(parse(SPEC_KAFKA, "{" KAFKA ",\"shape\":\"raw\"}", &s, &err), 0);
    assert_int_equal(s.batch.number, 1);
    spec_done(&s);
}

static void test_refusals(void **state) {
    (void)state;
    refused(SPEC_KAFKA, "{}", "needs brokers=");
    refused(SPEC_KAFKA, "{\"brokers\":\"h:1\"}", "needs topic=");
    refused(SPEC_KAFKA, "{" KAFKA ",\"bacth\":\"3\"}", "did you mean batch?");
    refused(SPEC_KAFKA, "{" KAFKA ",\"zzzzzzz\":\"3\"}", "it takes brokers, topic, group");
    refused(SPEC_KAFKA, "{" KAFKA ",\"prefetch\":\"3\"}", "a setting of amqp triggers");
    refused(SPEC_KAFKA, "{" KAFKA ",\"batch\":\"0\"}", "from 1 to 10000");
    refused(SPEC_KAFKA, "{" KAFKA ",\"batch\":\"-1\"}", "a whole number");
    refused(SPEC_KAFKA, "{" KAFKA ",\"batch\":\"99999999999999999999\"}", "a whole number");
    refused(SPEC_KAFKA, "{" KAFKA ",\"batch\":3}", "must be a string");
    refused(SPEC_KAFKA, "{" KAFKA ",\"window\":\"soon\"}", "a time such as");
    refused(SPEC_KAFKA, "{" KAFKA ",\"batch_bytes\":\"7MiB\"}", "from 1024 to 6291456 bytes");
    refused(SPEC_KAFKA, "{" KAFKA ",\"order\":\"keys\"}", "none|partition|key");
    refused(SPEC_KAFKA, "{" KAFKA ",\"order\":\"\"}", "none|partition|key");
    refused(SPEC_KAFKA, "{" KAFKA ",\"breaker\":\"101%\"}", "off or a share");
    refused(SPEC_KAFKA, "{" KAFKA ",\"relay\":\"maybe\"}", "yes or no");
    refused(SPEC_KAFKA, "{" KAFKA ",\"relay\":\"yes\"}", "order=none");
    refused(SPEC_KAFKA, "{" KAFKA ",\"shape\":\"raw\",\"batch\":\"5\"}", "batch must be 1");
    refused(SPEC_KAFKA, "{" KAFKA ",\"filter\":\"{\"}", "");
    refused(SPEC_AMQP, "{\"queue\":\"q\"}", "needs url=");
    refused(SPEC_AMQP, "{" AMQP "}", "needs queue or exchange");
    refused(SPEC_AMQP, "{" AMQP ",\"queue\":\"q\",\"exchange\":\"e\"}", "only one of queue and exchange");
    refused(SPEC_AMQP, "{" AMQP ",\"queue\":\"q\",\"binding\":\"#\"}", "binding goes with exchange");
    refused(SPEC_AMQP, "{" AMQP ",\"queue\":\"q\",\"prefetch\":\"70000\"}", "auto or a number from 1 to 65535");
    refused(SPEC_AMQP, "{" AMQP ",\"queue\":\"q\",\"order\":\"key\"}", "a setting of kafka triggers");
}

static void test_sinks(void **state) {
    (void)state;
    struct spec_sink s;
    struct err err = {0};
    assert_int_equal(spec_sink_parse(SPEC_KAFKA, "on_success", "kafka:results", &s, &err), 0);
    assert_int_equal(s.kind, SPEC_SINK_KAFKA);
    assert_null(s.address);
    assert_string_equal(s.to, "results");
    spec_sink_done(&s);
    assert_int_equal(spec_sink_parse(SPEC_AMQP, "on_success", "amqp:shop/order.done", &s, &err), 0);
    assert_string_equal(s.to, "shop");
    assert_string_equal(s.key, "order.done");
    spec_sink_done(&s);
    assert_int_equal(spec_sink_parse(SPEC_AMQP, "on_success", "kafka://a:1,b:2/t", &s, &err), 0);
    assert_string_equal(s.address, "a:1,b:2");
    assert_string_equal(s.to, "t");
    spec_sink_done(&s);
    const char *url = "amqp://u:p@h/v?exchange=e&heartbeat=5&routing_key=k";
    assert_int_equal(spec_sink_parse(SPEC_KAFKA, "on_success", url, &s, &err), 0);
    assert_string_equal(s.address, "amqp://u:p@h/v?heartbeat=5");
    assert_string_equal(s.to, "e");
    assert_string_equal(s.key, "k");
    spec_sink_done(&s);
    assert_int_equal(spec_sink_parse(SPEC_KAFKA, "on_failure", "function:mend", &s, &err), 0);
    assert_int_equal(s.kind, SPEC_SINK_FUNCTION);
    spec_sink_done(&s);
    static const char *const bad[] = {"x", "kafka:", "amqp:e/k", "kafka://h:1", "kafka:///t", "amqp://h/v", "function:no good"};
    for (size_t i = 0; i < array_len(bad); i++) assert_int_equal(spec_sink_parse(SPEC_KAFKA, "on_failure", bad[i], &s, &err), ERR_INVALID);
    assert_int_equal(spec_sink_parse(SPEC_KAFKA, "on_failure", "amqp://u:secret@h/v", &s, &err), ERR_INVALID);
    assert_null(strstr(err.text, "secret"));
}

static void test_seek(void **state) {
    (void)state;
    static const struct {
        const char *to, *place;
    } good[] = {{"earliest", "earliest"},
                {"latest", "latest"},
                {"offset:3=17,4=0", "offset:3=17,4=0"},
                {"2026-11-20T00:00Z", "time:1795132800000"},
                {"2026-11-20", "time:1795132800000"},
                {"2026-11-20T01:00:00.250+01:00", "time:1795132800250"},
                {"2026-11-19 19:00:00-0500", "time:1795132800000"}};
    for (size_t i = 0; i < array_len(good); i++) {
        cleanup_free char *place = NULL;
        assert_int_equal(spec_seek_parse(good[i].to, &place, NULL), 0);
        assert_string_equal(place, good[i].place);
    }
    static const char *const bad[] = {"", "now", "2026-02-30", "2026-11-20T25:00Z", "2026-11-20T00:00Z!", "20261120", "2026-11-20T00:00+9"};
    for (size_t i = 0; i < array_len(bad); i++) {
        char *place;
        struct err err = {0};
        assert_int_equal(spec_seek_parse(bad[i], &place, &err), ERR_INVALID);
        assert_non_null(strstr(err.text, "a time such as"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_values), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_sinks),    cmocka_unit_test(test_seek),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
