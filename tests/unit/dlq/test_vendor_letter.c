// SPDX-License-Identifier: Apache-2.0
#include "dlq/vendor_letter.h"

#include <jansson.h>

#include "tests/support/support.h"

#define ID_TEXT "019b76da-a800-7c3a-8b2e-5f1d7a9c0e42"
#define KAFKA_AT "{\"topic\":\"orders\",\"partition\":3,\"offset\":7,\"timestamp\":1767225600000,\"timestampType\":\"CREATE_TIME\"}"
#define DIED_MS INT64_C(1767225636000)

static struct ev *event(const char *kind, const char *at, struct str payload) {
    struct ev_fields f = {
        .function = STR_LIT("orders"),
        .source_kind = str_of(kind),
        .source_name = str_of(*at ? "trig" : ""),
        .source_at = str_of(at),
        .payload = payload,
        .attempt = 4,
        .accepted_ms = INT64_C(1767225600123),
        .history = STR_LIT("[{\"attempt\":1,\"outcome\":\"timeout\"},{\"attempt\":4,\"outcome\":\"error\"}]"),
    };
    assert_int_equal(id_parse(STR_LIT(ID_TEXT), &f.id), 0);
    return ev_new(&f);
}

static struct vendor_failure failure(const struct ev *ev) {
    return (struct vendor_failure){
        .ev = ev,
        .kind = STR_LIT("function"),
        .error_type = STR_LIT("KeyError"),
        .error_message = STR_LIT("'total'"),
        .stack = STR_LIT("Traceback:\n  line 3\nKeyError: 'total'"),
        .version = 2,
        .died_ms = DIED_MS,
    };
}

// The line, which must be one and JSON; caller frees.
static char *render(enum vendor v, const struct vendor_failure *f) {
    struct buf out;
    struct err err = {0};
    buf_init(&out, 1u << 20);
    assert_int_equal(vendor_letter_append(&out, v, f, &err), 0);
    size_t len;
    char *text = buf_take(&out, &len);
    json_error_t why;
    json_t *j = json_loadb(text, len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &why);
    if (!j) fail_msg("%s: %s", why.text, text);
    if (memchr(text, '\n', len) || memchr(text, '\r', len)) fail_msg("more than one line: %s", text);
    json_decref(j);
    return text;
}

static void expect(enum vendor v, const struct vendor_failure *f, const char *wanted) {
    cleanup_free char *text = render(v, f);
    assert_string_equal(text, wanted);
}

// Of the line as JSON, the member at a path "a.b".
static json_t *member_of(const json_t *o, const char *path) {
    char name[64];
    const char *dot = strchr(path, '.');
    MUST(text_format(name, sizeof name, "%.*s", dot ? (int)(dot - path) : (int)strlen(path), path) == 0);
    json_t *m = json_object_get(o, name);
    return dot ? member_of(m, dot + 1) : m;
}

static void expect_text(enum vendor v, const struct vendor_failure *f, const char *path, const char *wanted) {
    cleanup_free char *text = render(v, f);
    json_auto_t *j = json_loads(text, JSON_ALLOW_NUL, NULL);
    const char *found = json_string_value(member_of(j, path));
    if (!found || strcmp(found, wanted) != 0) fail_msg("%s is %s, not %s", path, found ? found : "no text", wanted);
}

static void expect_number(enum vendor v, const struct vendor_failure *f, const char *path, int wanted) {
    cleanup_free char *text = render(v, f);
    json_auto_t *j = json_loads(text, JSON_ALLOW_NUL, NULL);
    assert_true(json_is_integer(member_of(j, path)));
    assert_int_equal(json_integer_value(member_of(j, path)), wanted);
}

static void test_words(void **state) {
    (void)state;
    enum vendor v;
    struct err err = {0};
    assert_int_equal(vendor_parse(STR_LIT("lambda"), &v, &err), 0);
    assert_int_equal(v, VENDOR_LAMBDA);
    assert_int_equal(vendor_parse(STR_LIT("fc"), &v, &err), ERR_INVALID);
    assert_string_equal(err.text, "no form of a letter is called \"fc\"; there are: weir scf lambda");
}

static void test_scf_golden(void **state) {
    (void)state;
    struct ev *ev = event("http", "", STR_LIT("{\"n\":1}"));
    struct vendor_failure f = failure(ev);
    expect(VENDOR_SCF, &f,
           "{\"RequestId\":\"" ID_TEXT "\",\"ErrorCode\":-1,\"ErrorMessage\":\"Traceback:\\n  line 3\\nKeyError: 'total'\","
           "\"Body\":{\"AppId\":0,\"Uin\":\"0\",\"SubAccountUin\":\"0\",\"RequestSource\":\"TRIGGER_HTTP\",\"FunctionName\":\"orders\","
           "\"Namespace\":\"default\",\"Qualifier\":\"$LATEST\",\"InvocationType\":\"Event\",\"ClientContext\":\"{\\\"n\\\":1}\","
           "\"LogType\":\"None\",\"TimeStampForInvoker\":\"1767225600123\",\"RequestId\":\"" ID_TEXT "\","
           "\"PushTime\":\"2026-01-01T00:00:36.000Z\",\"RetryNum\":3,\"Ttl\":0}}");
    ev_free(ev);
}

static void test_scf_sees_a_fire_and_a_record_in_its_own_shape(void **state) {
    (void)state;
    struct ev *ev = event("timer", "{\"time\":\"2026-01-01T00:00:00Z\"}", STR_LIT("nightly"));
    struct vendor_failure f = failure(ev);
    expect_text(VENDOR_SCF, &f, "Body.RequestSource", "TRIGGER_TIMER");
    expect_text(VENDOR_SCF, &f, "Body.ClientContext",
                "{\"Type\":\"Timer\",\"TriggerName\":\"trig\",\"Time\":\"2026-01-01T00:00:00Z\",\"Message\":\"nightly\"}");
    ev_free(ev);
    ev = event("kafka", KAFKA_AT, STR_LIT("x"));
    f = failure(ev);
    expect_text(VENDOR_SCF, &f, "Body.RequestSource", "TRIGGER_CKAFKA");
    expect_text(VENDOR_SCF, &f, "Body.ClientContext",
                "{\"Records\":[{\"Ckafka\":{\"topic\":\"orders\",\"partition\":3,\"offset\":7,\"msgKey\":\"None\",\"msgBody\":\"x\"}}]}");
    ev_free(ev);
}

static void test_scf_codes(void **state) {
    (void)state;
    static const struct {
        const char *kind, *outcome, *type;
        int code;
    } cases[] = {
        {"function", "error", "KeyError", -1},   {"function", "timeout", "Timeout", 433}, {"function", "crash", "ProcessExited", 439},
        {"function", "error", "MemoryError", 434}, {"throttled", "throttled", "", 432},   {"platform", "platform", "", 500},
        {"expired", "", "", 432},                {"undecodable", "", "", 436},            {"unroutable", "", "", 435},
        {"delayed", "", "", 202},                {"function", "", "", -1},
    };
    for (size_t i = 0; i < array_len(cases); i++) {
        struct ev *ev = event("http", "", STR_LIT("1"));
        cleanup_free char *history = mem_printf("[{\"omitted\":true},{\"attempt\":4,\"outcome\":\"%s\"}]", cases[i].outcome);
        if (!*cases[i].outcome) strcpy(history, "[]");
        ev->f.history = str_of(history);
        struct vendor_failure f = failure(ev);
        f.kind = str_of(cases[i].kind);
        f.error_type = str_of(cases[i].type);
        expect_number(VENDOR_SCF, &f, "ErrorCode", cases[i].code);
        ev_free(ev);
    }
}

static void test_scf_message_without_a_traceback(void **state) {
    (void)state;
    struct ev *ev = event("http", "", STR_LIT("1"));
    struct vendor_failure f = failure(ev);
    f.stack = STR_NONE;
    expect_text(VENDOR_SCF, &f, "ErrorMessage", "KeyError: 'total'");
    f.error_message = STR_NONE;
    expect_text(VENDOR_SCF, &f, "ErrorMessage", "KeyError");
    ev_free(ev);
}

static void test_lambda_golden(void **state) {
    (void)state;
    struct ev *ev = event("http", "", STR_LIT("{\"n\":\n1e5}\r\n"));
    struct vendor_failure f = failure(ev);
    expect(VENDOR_LAMBDA, &f,
           "{\"version\":\"1.0\",\"timestamp\":\"2026-01-01T00:00:36.000Z\",\"requestContext\":{\"requestId\":\"" ID_TEXT "\","
           "\"functionArn\":\"arn:weir:lambda:::function:orders:$LATEST\",\"condition\":\"RetriesExhausted\","
           "\"approximateInvokeCount\":4},\"requestPayload\":{\"n\": 1e5}  ,"
           "\"responseContext\":{\"statusCode\":200,\"executedVersion\":\"2\",\"functionError\":\"Unhandled\"},"
           "\"responsePayload\":{\"errorMessage\":\"'total'\",\"errorType\":\"KeyError\","
           "\"stackTrace\":[\"Traceback:\",\"  line 3\",\"KeyError: 'total'\"]}}");
    ev_free(ev);
}

static void test_lambda_kafka_golden(void **state) {
    (void)state;
    struct ev *ev = event("kafka", KAFKA_AT, STR_LIT("\xff\x00"));
    struct vendor_failure f = failure(ev);
    f.stack = STR_NONE;
    expect(VENDOR_LAMBDA, &f,
           "{\"version\":\"1.0\",\"timestamp\":\"2026-01-01T00:00:36.000Z\",\"requestContext\":{\"requestId\":\"" ID_TEXT "\","
           "\"functionArn\":\"arn:weir:lambda:::function:orders:$LATEST\",\"condition\":\"RetriesExhausted\","
           "\"approximateInvokeCount\":4},"
           "\"responseContext\":{\"statusCode\":200,\"executedVersion\":\"2\",\"functionError\":\"Unhandled\"},"
           "\"responsePayload\":{\"errorMessage\":\"'total'\",\"errorType\":\"KeyError\"},"
           "\"KafkaBatchInfo\":{\"batchSize\":1,\"eventSourceArn\":\"arn:weir:kafka:::trig\",\"payloadSize\":221,"
           "\"recordInfo\":{\"offset\":\"7\",\"timestamp\":\"2026-01-01T00:00:00.000Z\"}},"
           "\"payload\":{\"eventSource\":\"aws:kafka\",\"eventSourceArn\":\"arn:weir:kafka:::trig\",\"records\":{\"orders-3\":["
           "{\"topic\":\"orders\",\"partition\":3,\"offset\":7,\"timestamp\":1767225600000,\"timestampType\":\"CREATE_TIME\","
           "\"value\":\"/wA=\",\"headers\":[]}]}}}");
    ev_free(ev);
}

static void test_lambda_says_when_no_version_ran(void **state) {
    (void)state;
    struct ev *ev = event("http", "", STR_LIT("1"));
    struct vendor_failure f = failure(ev);
    f.kind = STR_LIT("throttled");
    f.version = 0;
    expect_text(VENDOR_LAMBDA, &f, "requestContext.condition", "EventAgeExceeded");
    cleanup_free char *text = render(VENDOR_LAMBDA, &f);
    assert_non_null(strstr(text, "\"responseContext\":null"));
    ev_free(ev);
}

static void expect_payload(struct str payload, const char *scf, const char *lambda) {
    struct ev *ev = event("http", "", payload);
    struct vendor_failure f = failure(ev);
    cleanup_free char *text = render(VENDOR_SCF, &f);
    cleanup_free char *other = render(VENDOR_LAMBDA, &f);
    if (!strstr(text, scf)) fail_msg("no %s in %s", scf, text);
    if (!strstr(other, lambda)) fail_msg("no %s in %s", lambda, other);
    ev_free(ev);
}

static void test_payloads_that_are_no_json_or_no_text(void **state) {
    (void)state;
    expect_payload(STR_LIT("hello \"x\""), "\"ClientContext\":\"hello \\\"x\\\"\",\"LogType\"",
                   "\"requestPayload\":\"hello \\\"x\\\"\",\"responseContext\"");
    expect_payload(STR_LIT(""), "\"ClientContext\":\"\",\"LogType\"", "\"requestPayload\":\"\",\"responseContext\"");
    expect_payload(STR_LIT("\xff\xfe"), "\"ClientContext\":\"//4=\",\"isBase64Encoded\":true,",
                   "\"requestPayload\":\"//4=\",\"isBase64Encoded\":true,");
    expect_payload(STR_LIT("a\0b"), "\"ClientContext\":\"YQBi\",\"isBase64Encoded\":true,",
                   "\"requestPayload\":\"YQBi\",\"isBase64Encoded\":true,");
    expect_payload(STR_LIT("123456789012345678901234567890.10"), "\"ClientContext\":\"123456789012345678901234567890.10\"",
                   "\"requestPayload\":123456789012345678901234567890.10,");
    expect_payload(STR_LIT("1e999"), "\"ClientContext\":\"1e999\"", "\"requestPayload\":\"1e999\",\"responseContext\"");
}

static void test_undecodable_bytes_are_as_they_are(void **state) {
    (void)state;
    struct ev *ev = event("amqp", "{\"queue\":\"q1\"}", STR_LIT("\x91\xff"));
    struct vendor_failure f = failure(ev);
    f.kind = STR_LIT("undecodable");
    f.version = 0;
    expect_text(VENDOR_SCF, &f, "Body.ClientContext", "kf8=");
    expect_text(VENDOR_LAMBDA, &f, "requestPayload", "kf8=");
    ev_free(ev);
}

static void test_a_full_buffer_is_as_it_was(void **state) {
    (void)state;
    struct ev *ev = event("http", "", STR_LIT("0123456789"));
    struct vendor_failure f = failure(ev);
    struct err err = {0};
    for (enum vendor v = VENDOR_SCF; v <= VENDOR_LAMBDA; v++) {
        cleanup_free char *whole = render(v, &f);
        for (size_t cap = 3; cap < strlen(whole) + 3; cap++) {
            struct buf out;
            buf_init(&out, cap);
            assert_int_equal(buf_append(&out, STR_LIT("abc")), 0);
            assert_int_equal(vendor_letter_append(&out, v, &f, &err), ERR_TOO_LARGE);
            assert_true(str_is(buf_str(&out), "abc"));
            buf_done(&out);
        }
    }
    ev_free(ev);
}

// Every field is any bytes; the numbers are from a fixed seed.
static struct str noise(char *out, size_t max) {
    static uint64_t n = 88172645463325252u;
    static const char likely[] = "\"\\{}[]:,\n\r\0\x01 \x7f\xc2\x80\xff" "a0e-";
    n ^= n << 13;
    n ^= n >> 7;
    n ^= n << 17;
    size_t len = n % max;
    for (size_t i = 0; i < len; i++) {
        n = n * 6364136223846793005u + 1442695040888963407u;
        out[i] = n >> 63 ? likely[(n >> 40) % (sizeof likely - 1)] : (char)(n >> 33);
    }
    return (struct str){out, len};
}

static void test_odd_coordinates_make_valid_json(void **state) {
    (void)state;
    static const char *const ats[] = {
        "{\"topic\":\"a\\\"\\u0000\",\"partition\":\"x\\ny\",\"offset\":\"7\\\"\",\"timestamp\":\"never\"}",
        "{\"topic\":1,\"partition\":1e5,\"offset\":-1e5,\"timestamp\":99999999999999999999}",
        "{\"topic\":true,\"offset\":null}", "{\"offset\":007}", "{\"offset\":\"\\q\\ud800\"}", "{\"topic\":\"\\ud800\",\"offset\":7", "[]", "",
    };
    static const char *const kinds[] = {"kafka", "amqp", "timer"};
    for (size_t i = 0; i < array_len(ats) * array_len(kinds); i++) {
        struct ev *ev = event(kinds[i % array_len(kinds)], ats[i / array_len(kinds)], STR_LIT("\xff{}"));
        struct vendor_failure f = failure(ev);
        free(render(VENDOR_SCF, &f));
        free(render(VENDOR_LAMBDA, &f));
        ev_free(ev);
    }
}

static void test_any_bytes_make_valid_json(void **state) {
    (void)state;
    static const char *const kinds[] = {"kafka", "amqp", "timer", "http", NULL};
    char bytes[9][200];
    for (int i = 0; i < 20000; i++) {
        const char *kind = kinds[i % 5];
        struct ev_header header = {noise(bytes[0], 20), noise(bytes[1], 20)};
        struct ev_fields f = {
            .function = noise(bytes[2], 20), .source_at = noise(bytes[3], 60), .payload = noise(bytes[4], 200),
            .history = noise(bytes[5], 60),  .source_kind = kind ? str_of(kind) : noise(bytes[6], 120),
            .headers = &header,              .header_count = 1,
            .qualifier = header.name,        .ordering_key = header.value, .source_name = header.name,
        };
        struct ev *ev = ev_new(&f);
        struct vendor_failure fail = {.ev = ev, .kind = STR_LIT("function"), .error_type = noise(bytes[7], 30),
                                      .error_message = header.value, .stack = noise(bytes[8], 100), .version = (uint32_t)i,
                                      .died_ms = i % 7 ? DIED_MS : INT64_MAX};
        free(render(VENDOR_SCF, &fail));
        free(render(VENDOR_LAMBDA, &fail));
        ev_free(ev);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_scf_golden),
        cmocka_unit_test(test_scf_sees_a_fire_and_a_record_in_its_own_shape),
        cmocka_unit_test(test_scf_codes),
        cmocka_unit_test(test_scf_message_without_a_traceback),
        cmocka_unit_test(test_lambda_golden),
        cmocka_unit_test(test_lambda_kafka_golden),
        cmocka_unit_test(test_lambda_says_when_no_version_ran),
        cmocka_unit_test(test_payloads_that_are_no_json_or_no_text),
        cmocka_unit_test(test_undecodable_bytes_are_as_they_are),
        cmocka_unit_test(test_a_full_buffer_is_as_it_was),
        cmocka_unit_test(test_odd_coordinates_make_valid_json),
        cmocka_unit_test(test_any_bytes_make_valid_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
