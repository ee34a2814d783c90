// SPDX-License-Identifier: Apache-2.0
// core/metrics: the numbers, their text form line by line, and the cap on series.
#include "core/metrics.h"
#include "tests/support/support.h"

static char *render(const struct metrics *m) {
    struct buf out;
    buf_init(&out, 64u << 20);
    assert_int_equal(metrics_render(m, &out), 0);
    return buf_take(&out, NULL);
}

static bool has_line(const char *text, const char *line) {
    size_t len = strlen(line);
    for (const char *at = text; (at = strstr(at, line)); at++)
        if ((at == text || at[-1] == '\n') && at[len] == '\n') return true;
    return false;
}

#define assert_line(text, line)                                             \
    do {                                                                    \
        if (!has_line(text, line)) fail_msg("no line %s in\n%s", line, text); \
    } while (0)

static void counters_add_up_for_each_label(void **state) {
    (void)state;
    struct metrics *m = metrics_new();
    metrics_add(m, METRIC_EVENTS_OK, STR_LIT("a"), 1);
    metrics_add(m, METRIC_EVENTS_OK, STR_LIT("b"), 5);
    metrics_add(m, METRIC_EVENTS_OK, STR_LIT("a"), 2);
    assert_float_equal(metrics_get(m, METRIC_EVENTS_OK, STR_LIT("a")), 3, 0);
    assert_float_equal(metrics_get(m, METRIC_EVENTS_OK, STR_LIT("b")), 5, 0);
    assert_float_equal(metrics_get(m, METRIC_EVENTS_OK, STR_LIT("c")), 0, 0);
    assert_float_equal(metrics_get(m, METRIC_ATTEMPTS_FAILED, STR_LIT("a")), 0, 0);
    cleanup_free char *text = render(m);
    assert_line(text, "# HELP weir_events_ok_total Events whose handler returned.");
    assert_line(text, "# TYPE weir_events_ok_total counter");
    assert_line(text, "weir_events_ok_total{function=\"a\"} 3");
    assert_line(text, "weir_events_ok_total{function=\"b\"} 5");
    assert_null(strstr(text, "function=\"c\""));
    metrics_free(m);
}

static void a_gauge_is_what_was_set_last(void **state) {
    (void)state;
    struct metrics *m = metrics_new();
    metrics_set(m, METRIC_INSTANCES, STR_LIT("f"), 7);
    metrics_set(m, METRIC_INSTANCES, STR_LIT("f"), 2.5);
    assert_float_equal(metrics_get(m, METRIC_INSTANCES, STR_LIT("f")), 2.5, 0);
    cleanup_free char *text = render(m);
    assert_line(text, "weir_instances{function=\"f\"} 2.5");
    metrics_free(m);
}

// A scrape must find it also before the first connection, and whatever label a caller gives it.
static void a_metric_without_a_label_is_one_series_from_the_start(void **state) {
    (void)state;
    struct metrics *m = metrics_new();
    cleanup_free char *before = render(m);
    assert_line(before, "weir_http_connections 0");
    metrics_set(m, METRIC_HTTP_CONNECTIONS, STR_LIT("ignored"), 4);
    assert_float_equal(metrics_get(m, METRIC_HTTP_CONNECTIONS, STR_NONE), 4, 0);
    cleanup_free char *after = render(m);
    assert_line(after, "weir_http_connections 4");
    metrics_free(m);
}

static void a_histogram_is_cumulative(void **state) {
    (void)state;
    struct metrics *m = metrics_new();
    struct str f = STR_LIT("f");
    metrics_observe(m, METRIC_RUN_SECONDS, f, 0.0005); // a bound belongs to its bucket
    metrics_observe(m, METRIC_RUN_SECONDS, f, 0.002);
    metrics_observe(m, METRIC_RUN_SECONDS, f, 90);     // above all bounds
    assert_float_equal(metrics_get(m, METRIC_RUN_SECONDS, f), 3, 0);
    cleanup_free char *text = render(m);
    assert_line(text, "# TYPE weir_run_seconds histogram");
    assert_line(text, "weir_run_seconds_bucket{function=\"f\",le=\"0.0005\"} 1");
    assert_line(text, "weir_run_seconds_bucket{function=\"f\",le=\"0.001\"} 1");
    assert_line(text, "weir_run_seconds_bucket{function=\"f\",le=\"0.0025\"} 2");
    assert_line(text, "weir_run_seconds_bucket{function=\"f\",le=\"60\"} 2");
    assert_line(text, "weir_run_seconds_bucket{function=\"f\",le=\"+Inf\"} 3");
    assert_line(text, "weir_run_seconds_sum{function=\"f\"} 90.0025");
    assert_line(text, "weir_run_seconds_count{function=\"f\"} 3");
    metrics_free(m);
}

static void label_values_are_escaped(void **state) {
    (void)state;
    struct metrics *m = metrics_new();
    metrics_add(m, METRIC_EVENTS_REFUSED, STR_LIT("a\"b\\c\nd"), 1);
    cleanup_free char *text = render(m);
    assert_line(text, "weir_events_refused_total{reason=\"a\\\"b\\\\c\\nd\"} 1");
    metrics_free(m);
}

static void series_past_the_cap_are_counted_together(void **state) {
    (void)state;
    struct metrics *m = metrics_new();
    for (unsigned i = 0; i < METRIC_SERIES_MAX + 7; i++) {
        char name[32];
        assert_int_equal(text_format(name, sizeof name, "f%u", i), 0);
        metrics_add(m, METRIC_EVENTS_ACCEPTED, str_of(name), 1);
    }
    assert_float_equal(metrics_get(m, METRIC_EVENTS_ACCEPTED, STR_LIT("f0")), 1, 0);
    assert_float_equal(metrics_get(m, METRIC_EVENTS_ACCEPTED, STR_LIT("_other")), 7, 0);
    metrics_add(m, METRIC_EVENTS_ACCEPTED, STR_LIT("f3"), 1); // known ones go on by themselves
    assert_float_equal(metrics_get(m, METRIC_EVENTS_ACCEPTED, STR_LIT("f3")), 2, 0);
    metrics_add(m, METRIC_EVENTS_OK, STR_LIT("new"), 1); // the cap is each metric's own
    assert_float_equal(metrics_get(m, METRIC_EVENTS_OK, STR_LIT("new")), 1, 0);
    metrics_free(m);
}

static void large_numbers_stay_exact(void **state) {
    (void)state;
    struct metrics *m = metrics_new();
    metrics_add(m, METRIC_EVENTS_OK, STR_LIT("f"), 4503599627370497.0);
    cleanup_free char *text = render(m);
    assert_line(text, "weir_events_ok_total{function=\"f\"} 4503599627370497");
    metrics_free(m);
}

static void a_full_buffer_is_told(void **state) {
    (void)state;
    struct metrics *m = metrics_new();
    struct buf out;
    buf_init(&out, 100);
    assert_int_equal(metrics_render(m, &out), ERR_TOO_LARGE);
    buf_done(&out);
    metrics_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_add_up_for_each_label),
        cmocka_unit_test(a_gauge_is_what_was_set_last),
        cmocka_unit_test(a_metric_without_a_label_is_one_series_from_the_start),
        cmocka_unit_test(a_histogram_is_cumulative),
        cmocka_unit_test(label_values_are_escaped),
        cmocka_unit_test(series_past_the_cap_are_counted_together),
        cmocka_unit_test(large_numbers_stay_exact),
        cmocka_unit_test(a_full_buffer_is_told),
    };
    return cmocka_run_group_tests_name("core/metrics", tests, NULL, NULL);
}
