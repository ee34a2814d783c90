// SPDX-License-Identifier: Apache-2.0
// workers/breaker: opens when most records fail in one way, not for a few bad ones; probes, and closes again.
#include "workers/breaker.h"

#include "tests/support/support.h"

static const struct str ok = {NULL, 0};
#define AWAY STR_LIT("ConnectionError")
#define OTHER STR_LIT("ValueError")

static struct breaker fresh(void) {
    struct breaker b;
    breaker_init(&b, 0.5);
    return b;
}

static struct breaker opened(int64_t now_ms) {
    struct breaker b = fresh();
    for (int i = 0; i < BREAKER_LEAST; i++) breaker_note(&b, 1, AWAY, now_ms);
    assert_int_equal(b.state, BREAKER_OPEN);
    return b;
}

static void it_opens_at_the_share_and_not_before(void **state) {
    (void)state;
    struct breaker b = fresh();
    assert_false(breaker_note(&b, 10, ok, 0));
    for (int i = 0; i < 9; i++) assert_false(breaker_note(&b, 1, AWAY, 0));
    assert_true(breaker_note(&b, 1, AWAY, 0)); // 10 of 20
    assert_string_equal(breaker_word(&b), "open");
    assert_non_null(strstr(b.why, "10 of the last 20"));
    assert_non_null(strstr(b.why, "ConnectionError"));

    b = fresh();
    for (int i = 0; i < BREAKER_LEAST - 1; i++) assert_false(breaker_note(&b, 1, AWAY, 0)); // all fail, but few
    b = fresh();
    for (int i = 0; i < 1000; i++) { // one of three
        assert_false(breaker_note(&b, 2, ok, i));
        assert_false(breaker_note(&b, 1, AWAY, i));
    }
}

static void different_errors_are_bad_records(void **state) {
    (void)state;
    struct breaker b = fresh();
    for (int i = 0; i < 200; i++) assert_false(breaker_note(&b, 1, i % 3 ? AWAY : OTHER, 0));
    b = fresh();
    bool open = false;
    for (int i = 0; i < 200; i++) open |= breaker_note(&b, 1, i % 10 ? AWAY : OTHER, 0);
    assert_true(open);
}

static void what_is_old_does_not_count(void **state) {
    (void)state;
    struct breaker b = fresh();
    breaker_note(&b, 100, ok, 0);
    for (int i = 0; i < BREAKER_LEAST - 1; i++) assert_false(breaker_note(&b, 1, AWAY, BREAKER_WINDOW_MS + 1));
    assert_true(breaker_note(&b, 1, AWAY, BREAKER_WINDOW_MS + 1));
    b = fresh();
    for (int i = 0; i < 100; i++) assert_false(breaker_note(&b, 1, AWAY, i * BREAKER_WINDOW_MS / 15)); // 15 a window
}

static void it_probes_ever_more_rarely(void **state) {
    (void)state;
    int64_t now_ms = 5000;
    struct breaker b = opened(now_ms);
    for (int64_t wait_ms = BREAKER_PROBE_MS; wait_ms <= 4 * BREAKER_PROBE_MAX_MS; wait_ms *= 2) {
        int64_t wait = wait_ms < BREAKER_PROBE_MAX_MS ? wait_ms : BREAKER_PROBE_MAX_MS;
        assert_int_equal(breaker_room(&b, now_ms + wait - 1), 0);
        assert_int_equal(breaker_next_ms(&b, now_ms), now_ms + wait);
        now_ms += wait;
        assert_int_equal(breaker_room(&b, now_ms), 1);
        breaker_probe_sent(&b);
        assert_int_equal(breaker_room(&b, now_ms), 0);
        assert_int_equal(breaker_next_ms(&b, now_ms), 0);
        assert_false(breaker_probed(&b, AWAY, now_ms));
    }
}

static void a_probe_that_was_not_run_is_followed_by_another(void **state) {
    (void)state;
    struct breaker b = opened(0);
    breaker_probe_sent(&b);
    breaker_probe_lost(&b);
    assert_int_equal(breaker_room(&b, BREAKER_PROBE_MS), 1);
}

static struct breaker half_open(void) {
    struct breaker b = opened(0);
    breaker_probe_sent(&b);
    assert_true(breaker_probed(&b, ok, BREAKER_PROBE_MS));
    assert_string_equal(breaker_word(&b), "half-open");
    return b;
}

static void it_closes_after_a_trial(void **state) {
    (void)state;
    struct breaker b = half_open();
    assert_int_equal(breaker_room(&b, 0), BREAKER_TRIAL);
    for (int i = 0; i < BREAKER_TRIAL; i++) breaker_probe_sent(&b);
    assert_int_equal(breaker_room(&b, 0), 0);
    for (int i = 0; i < BREAKER_TRIAL - 1; i++) assert_false(breaker_probed(&b, i < 4 ? OTHER : ok, 2000)); // four of ten
    assert_true(breaker_probed(&b, ok, 2000));
    assert_int_equal(b.state, BREAKER_CLOSED);
    assert_true(breaker_room(&b, 2000) == BREAKER_UNLIMITED);
    for (int i = 0; i < BREAKER_LEAST - 1; i++) assert_false(breaker_note(&b, 1, AWAY, 2000)); // it begins anew
}

static void it_opens_again_after_a_bad_trial_and_waits_longer(void **state) {
    (void)state;
    struct breaker b = half_open();
    for (int i = 0; i < BREAKER_TRIAL; i++) breaker_probe_sent(&b);
    for (int i = 0; i < BREAKER_TRIAL - 1; i++) assert_false(breaker_probed(&b, AWAY, 2000));
    assert_true(breaker_probed(&b, AWAY, 2000));
    assert_int_equal(b.state, BREAKER_OPEN);
    assert_int_equal(breaker_next_ms(&b, 2000), 2000 + 2 * BREAKER_PROBE_MS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_opens_at_the_share_and_not_before),
        cmocka_unit_test(different_errors_are_bad_records),
        cmocka_unit_test(what_is_old_does_not_count),
        cmocka_unit_test(it_probes_ever_more_rarely),
        cmocka_unit_test(a_probe_that_was_not_run_is_followed_by_another),
        cmocka_unit_test(it_closes_after_a_trial),
        cmocka_unit_test(it_opens_again_after_a_bad_trial_and_waits_longer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
