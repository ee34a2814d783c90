// SPDX-License-Identifier: Apache-2.0
#include <jansson.h>

#include "dlq/history.h"
#include "tests/support/support.h"

static json_t *append(struct buf *history, uint32_t attempt, const struct outcome_report *r) {
    struct buf next;
    buf_init(&next, 2 * HISTORY_MAX);
    history_append(&next, buf_str(history), attempt, r);
    buf_done(history);
    *history = next;
    json_error_t e;
    json_t *all = json_loadb(history->data + history->start, buf_len(history), 0, &e);
    if (!all) fail_msg("not JSON: %s", e.text);
    return all;
}

static void each_attempt_is_a_member_with_its_facts(void **state) {
    (void)state;
    struct buf history;
    buf_init(&history, 2 * HISTORY_MAX);
    struct outcome_report r = {.outcome = OUTCOME_ERROR,
                               .error_type = STR_LIT("KeyError"),
                               .error_message = STR_LIT("'currency'"),
                               .stack = STR_LIT("Traceback\n  line \"x\""),
                               .log_tail = STR_LIT("hello\n"),
                               .start_unix_ms = 1767225600000,
                               .duration_us = 1500,
                               .instance_pid = 42,
                               .version = 7};
    json_decref(append(&history, 1, &r));
    r.outcome = OUTCOME_TIMEOUT;
    json_t *all = append(&history, 2, &r);
    assert_int_equal(json_array_size(all), 2);
    json_t *first = json_array_get(all, 0);
    assert_string_equal(json_string_value(json_object_get(first, "errorType")), "KeyError");
    assert_string_equal(json_string_value(json_object_get(first, "stack")), "Traceback\n  line \"x\"");
    assert_int_equal(json_integer_value(json_object_get(first, "startMs")), 1767225600000);
    assert_int_equal(json_integer_value(json_object_get(first, "version")), 7);
    assert_string_equal(json_string_value(json_object_get(json_array_get(all, 1), "outcome")), "timeout");
    json_decref(all);
    buf_done(&history);
}

static void hostile_text_is_still_json(void **state) {
    (void)state;
    struct buf history;
    buf_init(&history, 2 * HISTORY_MAX);
    const struct outcome_report r = {.outcome = OUTCOME_CRASH,
                                     .error_type = STR_LIT("A\"\\\x01"),
                                     .error_message = {"\xff\xfe\0\xed\xa0\x80\xf5", 7},
                                     .log_tail = STR_LIT("\xe2\x82")};
    json_decref(append(&history, 1, &r));
    buf_done(&history);
}

static void it_never_outgrows_its_cap(void **state) {
    (void)state;
    struct buf history;
    buf_init(&history, 2 * HISTORY_MAX);
    size_t bytes = 64 * 1024;
    char *big = mem_alloc(bytes);
    memset(big, '\x01', bytes); // six bytes each in JSON
    const struct outcome_report r = {.outcome = OUTCOME_ERROR,
                                     .stack = {big, bytes},
                                     .error_message = {big, bytes},
                                     .log_tail = {big, OUTCOME_LOG_TAIL}};
    bool omitted = false;
    for (uint32_t i = 1; i < 100; i++) {
        json_t *all = append(&history, i, &r);
        omitted |= json_object_get(json_array_get(all, 0), "omitted") != NULL;
        assert_in_range(buf_len(&history), 1, HISTORY_MAX + 64);
        json_decref(all);
    }
    assert_true(omitted);
    free(big);
    buf_done(&history);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_attempt_is_a_member_with_its_facts),
        cmocka_unit_test(hostile_text_is_still_json),
        cmocka_unit_test(it_never_outgrows_its_cap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
