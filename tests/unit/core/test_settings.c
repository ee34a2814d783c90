// SPDX-License-Identifier: Apache-2.0
// core/settings: defaults, the JSON form there and back, and errors that name the key.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/registry.h"

static void round_trip(void **state) {
    (void)state;
    struct settings s, t;
    struct err err;
    settings_init(&s);
    const char *json = "{\"runtime\":\"python\",\"handler\":\"a.b\",\"timeoutMs\":5000,\"memoryMb\":64,\"maxInstances\":2,\"retries\":0,"
                       "\"backoffMs\":[1,2,3],\"maxAgeMs\":60000,\"env\":{\"B\":\"2\",\"A\":\"1\"},\"description\":\"\xc3\xa4\"}";
    assert_int_equal(settings_from_json(str_of(json), &s, &err), 0);
    assert_int_equal(settings_check(&s, &err), 0);
    cleanup_free char *text = settings_to_json(&s);
    settings_init(&t);
    assert_int_equal(settings_from_json(str_of(text), &t, &err), 0);
    cleanup_free char *again = settings_to_json(&t);
    assert_string_equal(text, again);
    assert_string_equal(t.env, "{\"A\":\"1\",\"B\":\"2\"}");
    assert_int_equal(t.backoff_count, 3);
    assert_int_equal(t.timeout_ms, 5000);
    struct settings copy;
    settings_copy(&copy, &t);
    assert_string_equal(copy.handler, "a.b");
    settings_done(&copy);
    settings_done(&s);
    settings_done(&t);
}

static void defaults(void **state) {
    (void)state;
    struct settings s;
    struct err err;
    settings_init(&s);
    assert_int_equal(settings_check(&s, &err), ERR_INVALID); // no runtime
    assert_int_equal(settings_from_json(STR_LIT("{\"runtime\":\"exec\",\"handler\":\"run.sh\"}"), &s, &err), 0);
    assert_int_equal(settings_check(&s, &err), 0);
    assert_int_equal(s.timeout_ms, 30000);
    assert_int_equal(s.memory_mb, 256);
    assert_int_equal(s.retries, 3);
    assert_int_equal(s.backoff_count, 3);
    assert_int_equal(s.backoff_ms[2], 30000);
    assert_int_equal(s.max_age_ms, 6 * 3600 * 1000);
    settings_done(&s);
}

static void refuse(const char *json, const char *word) {
    struct settings s;
    struct err err = {0};
    settings_init(&s);
    cleanup_free char *before = settings_to_json(&s);
    int rc = settings_from_json(str_of(json), &s, &err);
    cleanup_free char *after = settings_to_json(&s);
    if (rc != ERR_INVALID || !strstr(err.text, word)) fail_msg("%s: %d %s", json, rc, err.text);
    assert_string_equal(before, after);
    settings_done(&s);
}

static void errors_name_the_key(void **state) {
    (void)state;
    refuse("", "JSON");
    refuse("{", "JSON");
    refuse("[]", "object");
    refuse("{\"retrys\":1}", "retrys");
    refuse("{\"retries\":1,\"retries\":2}", "JSON");
    refuse("{\"handler\":\"x\",\"timeoutMs\":0}", "timeoutMs");
    refuse("{\"timeoutMs\":900001}", "timeoutMs");
    refuse("{\"timeoutMs\":1.5}", "timeoutMs");
    refuse("{\"timeoutMs\":\"1s\"}", "timeoutMs");
    refuse("{\"timeoutMs\":99999999999999999999}", "JSON");
    refuse("{\"memoryMb\":15}", "memoryMb");
    refuse("{\"retries\":-1}", "retries");
    refuse("{\"backoffMs\":[]}", "backoffMs");
    refuse("{\"backoffMs\":5}", "backoffMs");
    refuse("{\"backoffMs\":[1,-1]}", "backoffMs");
    refuse("{\"backoffMs\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}", "backoffMs");
    refuse("{\"env\":[]}", "env");
    refuse("{\"env\":{\"A\":1}}", "env.A");
    refuse("{\"env\":{\"A=B\":\"1\"}}", "env");
    refuse("{\"env\":{\"\":\"1\"}}", "env");
    refuse("{\"runtime\":7}", "runtime");
    refuse("{\"handler\":null}", "handler");
    refuse("{\"description\":[]}", "description");
    refuse("{\"memoryMb\":4294967552}", "memoryMb"); // 256 in 32 bits
    refuse("{\"maxInstances\":4097}", "maxInstances");
    refuse("{\"retries\":101}", "retries");
    refuse("{\"retries\":null}", "retries");
    refuse("{\"maxAgeMs\":999}", "maxAgeMs");
    refuse("{\"maxAgeMs\":2592000001}", "maxAgeMs");
    refuse("{\"backoffMs\":[604800001]}", "backoffMs");
}

static void must_read(struct settings *s, const char *json) {
    struct err err;
    if (settings_from_json(str_of(json), s, &err)) fail_msg("%s: %s", json, err.text);
}

static void the_largest_values_are_taken(void **state) {
    (void)state;
    struct settings s;
    settings_init(&s);
    must_read(&s, "{\"timeoutMs\":900000,\"memoryMb\":65536,\"maxInstances\":4096,\"retries\":100,\"maxAgeMs\":2592000000,"
                  "\"backoffMs\":[0,604800000]}");
    assert_int_equal(s.memory_mb, 65536);
    assert_int_equal(s.max_age_ms, INT64_C(2592000000));
    assert_int_equal(s.backoff_ms[1], 604800000);
    settings_done(&s);
}

// Whether a deploy changes anything is decided by this text.
static void equal_settings_have_equal_text(void **state) {
    (void)state;
    struct settings a, b;
    settings_init(&a);
    settings_init(&b);
    must_read(&a, "{\"env\":{\"X\":\"1\",\"Y\":\"2\"},\"handler\":\"h.f\",\"runtime\":\"python\",\"retries\":3}");
    must_read(&b, "{\"runtime\":\"python\",\"env\":{\"Y\":\"2\",\"X\":\"1\"},\"handler\":\"h.f\"}");
    cleanup_free char *x = settings_to_json(&a), *y = settings_to_json(&b);
    assert_string_equal(x, y);
    must_read(&b, "{\"retries\":4}");
    cleanup_free char *z = settings_to_json(&b);
    assert_string_not_equal(x, z);
    settings_done(&a);
    settings_done(&b);
}

static void what_is_not_given_stays(void **state) {
    (void)state;
    struct settings s;
    settings_init(&s);
    must_read(&s, "{\"handler\":\"h.f\",\"timeoutMs\":7,\"retries\":1}");
    must_read(&s, "{\"retries\":9,\"backoffMs\":[5]}");
    must_read(&s, "{}");
    assert_int_equal(s.retries, 9);
    assert_int_equal(s.timeout_ms, 7);
    assert_string_equal(s.handler, "h.f");
    assert_int_equal(s.backoff_count, 1);
    assert_int_equal(s.backoff_ms[1], 0); // nothing of the longer list is left
    settings_done(&s);
}

static void long_texts_are_refused(void **state) {
    (void)state;
    struct settings s;
    struct err err;
    settings_init(&s);
    must_read(&s, "{\"runtime\":\"python\",\"handler\":\"a.b\"}");
    cleanup_free char *xs = mem_zalloc(70001);
    memset(xs, 'x', 70000);
    cleanup_free char *env = mem_printf("{\"env\":{\"A\":\"%s\"}}", xs);
    assert_int_equal(settings_from_json(str_of(env), &s, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "env"));
    xs[1001] = '\0';
    cleanup_free char *description = mem_printf("{\"description\":\"%s\"}", xs);
    must_read(&s, description);
    assert_int_equal(settings_check(&s, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "description"));
    must_read(&s, "{\"description\":\"\"}");
    xs[256] = '\0';
    free(s.handler);
    s.handler = mem_strdup(xs);
    assert_int_equal(settings_check(&s, &err), ERR_INVALID);
    s.handler[255] = '\0';
    assert_int_equal(settings_check(&s, &err), 0);
    settings_done(&s);
}

static void check_texts(const char *runtime, const char *handler, int want) {
    struct settings s;
    struct err err;
    settings_init(&s);
    free(s.runtime);
    free(s.handler);
    s.runtime = mem_strdup(runtime);
    s.handler = mem_strdup(handler);
    assert_int_equal(settings_check(&s, &err), want);
    settings_done(&s);
}

static void runtime_and_handler_stay_inside(void **state) {
    (void)state;
    check_texts("python", "a/b.main", 0);
    check_texts("python", "a..b.main", 0);
    check_texts("../python", "a.b", ERR_INVALID);
    check_texts("py/thon", "a.b", ERR_INVALID);
    check_texts("", "a.b", ERR_INVALID);
    check_texts("exec", "", ERR_INVALID);
    check_texts("exec", "/bin/sh", ERR_INVALID);
    check_texts("exec", "../run.sh", ERR_INVALID);
    check_texts("exec", "a/../../run.sh", ERR_INVALID);
    check_texts("exec", "a/..", ERR_INVALID);
    check_texts("exec", "a\nb", ERR_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(defaults),
        cmocka_unit_test(errors_name_the_key),
        cmocka_unit_test(runtime_and_handler_stay_inside),
        cmocka_unit_test(the_largest_values_are_taken),
        cmocka_unit_test(equal_settings_have_equal_text),
        cmocka_unit_test(what_is_not_given_stays),
        cmocka_unit_test(long_texts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
