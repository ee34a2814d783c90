// SPDX-License-Identifier: Apache-2.0
#include "dlq/retry.h"
#include "tests/support/support.h"

static const int64_t backoff[] = {1000, 5000, 30000};
static const struct retry_policy policy = {.retries = 3, .backoff_ms = backoff, .backoff_count = 3, .max_age_ms = 3600000};

static struct retry_case case_of(enum outcome outcome, uint32_t attempts) {
    return (struct retry_case){.outcome = outcome, .attempts = attempts, .accepted_ms = 1000000, .now_ms = 1000000, .random = 0.5};
}

static void three_retries_after_1_5_30_seconds_then_dead(void **state) {
    (void)state;
    for (uint32_t attempt = 1; attempt <= 3; attempt++) {
        struct retry_case c = case_of(OUTCOME_ERROR, attempt);
        struct retry_decision d = retry_decide(&policy, &c);
        assert_true(d.again);
        assert_int_equal(d.at_ms, c.now_ms + backoff[attempt - 1]);
    }
    struct retry_case fourth = case_of(OUTCOME_ERROR, 4);
    struct retry_decision d = retry_decide(&policy, &fourth);
    assert_false(d.again);
    assert_false(d.expired);
}

static void jitter_stays_within_a_fifth(void **state) {
    (void)state;
    for (double r = 0; r < 1.0; r += 0.01) {
        struct retry_case c = case_of(OUTCOME_CRASH, 2);
        c.random = r;
        int64_t delay = retry_decide(&policy, &c).at_ms - c.now_ms;
        assert_in_range(delay, 4000, 6000);
    }
}

static void the_last_backoff_repeats(void **state) {
    (void)state;
    struct retry_policy many = policy;
    many.retries = 10;
    struct retry_case c = case_of(OUTCOME_TIMEOUT, 9);
    assert_int_equal(retry_decide(&many, &c).at_ms - c.now_ms, 30000);
}

static void no_room_is_never_charged_and_ends_with_the_age(void **state) {
    (void)state;
    assert_false(retry_is_charged(OUTCOME_THROTTLED));
    assert_false(retry_is_charged(OUTCOME_PLATFORM));
    assert_true(retry_is_charged(OUTCOME_ERROR) && retry_is_charged(OUTCOME_TIMEOUT) && retry_is_charged(OUTCOME_CRASH));
    struct retry_case c = case_of(OUTCOME_THROTTLED, 0);
    struct retry_decision d = retry_decide(&policy, &c);
    assert_true(d.again);
    assert_int_equal(d.at_ms - c.now_ms, RETRY_UNCHARGED_PACE_MS);
    c.now_ms = c.accepted_ms + policy.max_age_ms - 1;
    d = retry_decide(&policy, &c);
    assert_false(d.again);
    assert_true(d.expired);
}

static void a_sync_event_is_tried_only_within_its_callers_deadline(void **state) {
    (void)state;
    struct retry_case c = case_of(OUTCOME_ERROR, 1);
    c.sync = true;
    assert_false(retry_decide(&policy, &c).again); // no deadline given: one attempt
    c.deadline_ms = c.now_ms + 999;
    assert_false(retry_decide(&policy, &c).again);
    c.deadline_ms = c.now_ms + 1001;
    assert_true(retry_decide(&policy, &c).again);
}

static void no_retries_means_dead_at_once(void **state) {
    (void)state;
    struct retry_policy none = policy;
    none.retries = 0;
    struct retry_case c = case_of(OUTCOME_ERROR, 1);
    assert_false(retry_decide(&none, &c).again);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_retries_after_1_5_30_seconds_then_dead),
        cmocka_unit_test(jitter_stays_within_a_fifth),
        cmocka_unit_test(the_last_backoff_repeats),
        cmocka_unit_test(no_room_is_never_charged_and_ends_with_the_age),
        cmocka_unit_test(a_sync_event_is_tried_only_within_its_callers_deadline),
        cmocka_unit_test(no_retries_means_dead_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
