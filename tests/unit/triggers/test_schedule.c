// SPDX-License-Identifier: Apache-2.0
// Which scheduled times happen: on time, late, caught up, missed.
#include "triggers/schedule.h"

#include "tests/support/support.h"

#define S 1000LL
#define MINUTE (60 * S)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define BEGIN 1767225600000LL // 2026-01-01T00:00:00Z, a Thursday
#define ROOM 2000

static int try_make(struct schedule *ret, const char *settings, struct err *err) {
    json_t *json = json_loads(settings, 0, NULL);
    assert_non_null(json);
    struct spec spec;
    int rc = spec_parse(SPEC_TIMER, json, "f", &spec, err);
    json_decref(json);
    if (rc) return rc;
    rc = schedule_init(ret, &spec, "report", BEGIN + 500, err);
    spec_done(&spec);
    return rc;
}

static struct schedule make(const char *settings) {
    struct schedule s;
    struct err err = {0};
    if (try_make(&s, settings, &err)) fail_msg("%s: %s", settings, err.text);
    return s;
}

static void refused(const char *settings, const char *because) {
    struct schedule s;
    struct err err = {0};
    assert_int_equal(try_make(&s, settings, &err), ERR_INVALID);
    if (!strstr(err.text, because)) fail_msg("%s: \"%s\" does not say \"%s\"", settings, err.text, because);
}

static void test_what_is_refused(void **state) {
    (void)state;
    refused("{\"cron\":\"0 0 25 * * * *\"}", "cron: field 3 (hour)");
    refused("{\"every\":\"soon\"}", "every:");
    refused("{\"cron\":\"@daily\",\"tz\":\"Europe/Berln\"}", "tz: ");
    refused("{\"cron\":\"CRON_TZ=Asia/Tokyo 0 0 * * *\",\"tz\":\"UTC\"}", "given twice");
    refused("{\"every\":\"5m\",\"start\":\"tomorrow\"}", "start: ");
    refused("{\"every\":\"5m\",\"start\":\"2026-02-01\",\"end\":\"2026-01-01\"}", "end must be after start");
}

static void test_times(void **state) {
    (void)state;
    struct schedule s = make("{\"cron\":\"0 30 2 * * * *\",\"tz\":\"Europe/Berlin\",\"start\":\"2026-01-03\",\"end\":\"2026-01-05T02:30\"}");
    int64_t first = BEGIN + 2 * DAY + HOUR + 30 * MINUTE; // 02:30 in Berlin is 01:30 UTC
    assert_int_equal(schedule_next(&s, 0, NULL), first);
    assert_int_equal(schedule_next(&s, first - 1, NULL), first);
    assert_int_equal(schedule_next(&s, first, NULL), first + DAY);
    assert_true(schedule_next(&s, first + DAY, NULL) == SCHEDULE_NEVER); // the end itself is no time of it
    schedule_done(&s);
    s = make("{\"every\":\"90s\"}");
    assert_int_equal(schedule_next(&s, BEGIN, NULL), BEGIN + 90 * S); // since it was made, in whole seconds
    assert_int_equal(schedule_next(&s, BEGIN + 90 * S, NULL), BEGIN + 180 * S);
    schedule_done(&s);
    s = make("{\"every\":\"90s\",\"start\":\"2026-01-01T00:00:10Z\"}");
    assert_int_equal(schedule_next(&s, 0, NULL), BEGIN + 10 * S);
    assert_int_equal(schedule_next(&s, BEGIN + 10 * S, NULL), BEGIN + 100 * S);
    schedule_done(&s);
}

static void test_jitter(void **state) {
    (void)state;
    struct schedule s = make("{\"cron\":\"* * * * *\",\"jitter\":\"10s\"}"), again = make("{\"cron\":\"* * * * *\",\"jitter\":\"10s\"}");
    int64_t least = INT64_MAX, most = 0;
    for (int64_t t = BEGIN; t < BEGIN + 1000 * MINUTE; t += MINUTE) {
        int64_t delay = schedule_send_ms(&s, t) - t;
        assert_int_equal(delay, schedule_send_ms(&again, t) - t);
        assert_in_range(delay, 0, 10 * S);
        if (delay < least) least = delay;
        if (delay > most) most = delay;
    }
    assert_true(least < S && most > 9 * S);
    schedule_done(&s);
    schedule_done(&again);
}

// What happens at `now` for one who stands at `from`: "count missed first last to", the last three in minutes since BEGIN; - for none.
static void check_plan(const char *settings, int64_t from, int64_t now, size_t room, const char *expected) {
    struct schedule s = make(settings);
    int64_t times[ROOM];
    struct schedule_todo todo = schedule_plan(&s, BEGIN + from, BEGIN + now, times, room);
    char text[200];
    int n = snprintf(text, sizeof text, "%zu %llu ", todo.count, (unsigned long long)todo.missed);
    if (todo.count)
        n += snprintf(text + n, sizeof text - (size_t)n, "%g %g ", (double)(times[0] - BEGIN) / MINUTE,
                      (double)(times[todo.count - 1] - BEGIN) / MINUTE);
    snprintf(text + n, sizeof text - (size_t)n, "%g", (double)(todo.to_ms - BEGIN) / MINUTE);
    assert_string_equal(text, expected);
    schedule_done(&s);
}

static void test_on_time(void **state) {
    (void)state;
    check_plan("{\"cron\":\"* * * * *\"}", 0, MINUTE - 1, ROOM, "0 0 0");
    check_plan("{\"cron\":\"* * * * *\"}", 0, MINUTE, ROOM, "1 0 1 1 1");
    // Late by less than a minute: nothing is missed, whatever catchup says.
    check_plan("{\"cron\":\"* * * * * *\",\"catchup\":\"none\"}", 0, 60 * S, ROOM, "60 0 0.0166667 1 1");
    check_plan("{\"cron\":\"* * * * * *\",\"catchup\":\"none\"}", 0, 60 * S, 30, "30 0 0.0166667 0.5 0.5");
}

static void test_catching_up(void **state) {
    (void)state;
    int64_t down = 14 * DAY; // 20160 minutes
    check_plan("{\"cron\":\"0 * * * *\",\"catchup\":\"none\"}", 0, down + MINUTE / 2, ROOM, "0 336 20160");
    check_plan("{\"cron\":\"0 * * * *\"}", 0, down + MINUTE / 2, ROOM, "1 335 20160 20160 20160");
    check_plan("{\"cron\":\"0 * * * *\",\"catchup\":\"all\"}", 0, down + MINUTE / 2, ROOM, "336 0 60 20160 20160");
    check_plan("{\"cron\":\"0 * * * *\",\"catchup\":\"all\",\"max\":\"10\"}", 0, down + MINUTE / 2, ROOM, "10 326 19620 20160 20160");
    check_plan("{\"cron\":\"0 * * * *\",\"catchup\":\"all\",\"catchup_window\":\"1d\"}", 0, down + MINUTE / 2, ROOM, "24 312 18780 20160 20160");
    check_plan("{\"cron\":\"0 0 1 * *\",\"catchup_window\":\"1d\"}", 0, 33 * DAY, ROOM, "0 1 44640");
    // What does not fit comes next time.
    check_plan("{\"cron\":\"0 * * * *\",\"catchup\":\"all\"}", 0, down, 100, "100 0 60 6000 6000");
    check_plan("{\"cron\":\"0 * * * *\",\"catchup\":\"all\"}", 6000 * MINUTE, down, 100, "100 0 6060 12000 12000");
    // Years of seconds are neither listed nor counted to the end.
    check_plan("{\"cron\":\"* * * * * *\"}", 0, 2000 * DAY, ROOM, "1 10000 2.88e+06 2.88e+06 2.88e+06");
    check_plan("{\"cron\":\"* * * * * *\",\"catchup\":\"all\",\"max\":\"500\"}", 0, 2000 * DAY, ROOM, "500 10000 2.87999e+06 2.88e+06 2.88e+06");
}

static void test_catching_up_with_jitter(void **state) {
    (void)state;
    // A time whose delay may not be over is left for later.
    check_plan("{\"cron\":\"0 * * * *\",\"jitter\":\"30m\"}", 0, 10 * HOUR + 10 * MINUTE, ROOM, "1 8 540 540 540");
}

// Whatever the delay of the last one is.
static void test_catching_up_forgets_none(void **state) {
    (void)state;
    static const char *const settings[] = {"{\"cron\":\"0 2 * * *\",\"jitter\":\"1h\"}", "{\"cron\":\"0 2 * * *\",\"jitter\":\"1h\",\"catchup\":\"all\"}"};
    for (size_t k = 0; k < array_len(settings); k++) {
        struct schedule s = make(settings[k]);
        for (int64_t day = 0; day < 365; day++) {
            int64_t times[4], midnight = BEGIN + day * DAY;
            struct schedule_todo todo = schedule_plan(&s, midnight, midnight + 190 * MINUTE, times, array_len(times));
            assert_int_equal(todo.count, 1);
            assert_int_equal(times[0], midnight + 2 * HOUR);
            assert_int_equal(todo.missed, 0);
        }
        schedule_done(&s);
    }
}

// Against a list of everything, for many moments.
static void test_no_time_is_forgotten(void **state) {
    (void)state;
    static const char *const settings[] = {"{\"cron\":\"*/7 * * * *\",\"catchup\":\"all\",\"max\":\"100000\"}",
                                           "{\"cron\":\"13 */3 * * * *\",\"catchup\":\"all\",\"max\":\"100000\",\"jitter\":\"25s\"}",
                                           "{\"every\":\"17m\",\"catchup\":\"all\",\"max\":\"100000\"}"};
    for (size_t k = 0; k < array_len(settings); k++) {
        struct schedule s = make(settings[k]);
        unsigned random = 7;
        int64_t at = BEGIN, expected = schedule_next(&s, at, NULL), now = BEGIN;
        for (int turn = 0; turn < 2000; turn++) {
            now += (int64_t)(rand_r(&random) % (turn % 50 == 0 ? 20 * HOUR : 3 * MINUTE));
            int64_t times[40];
            struct schedule_todo todo;
            do {
                todo = schedule_plan(&s, at, now, times, array_len(times));
                for (size_t i = 0; i < todo.count; i++) {
                    assert_int_equal(times[i], expected);
                    assert_true(schedule_send_ms(&s, expected) <= now);
                    expected = schedule_next(&s, expected, NULL);
                }
                assert_int_equal(todo.missed, 0);
                at = todo.to_ms;
            } while (todo.count);
        }
        schedule_done(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_jitter),
        cmocka_unit_test(test_on_time),
        cmocka_unit_test(test_catching_up),
        cmocka_unit_test(test_catching_up_with_jitter),
        cmocka_unit_test(test_catching_up_forgets_none),
        cmocka_unit_test(test_no_time_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
