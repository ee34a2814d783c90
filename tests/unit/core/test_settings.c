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
    refuse("{\"runtime\":7}", "runtime");
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
