// SPDX-License-Identifier: Apache-2.0
// core/metrics: sums, buckets, escaping, and the cap on series.

#include "core/metrics.h"
#include "tests/support/support.h"

static char *render(const struct metrics *m) {
    struct buf out;
    buf_init(&out, 1 << 24);
    assert_int_equal(metrics_render(m, &out), 0);
    return buf_take(&out, NULL);
}

static void expect(const struct metrics *m, const char *line) {
    cleanup_free char *text = render(m);
    cleanup_free char *whole = mem_printf("\n%s\n", line);
    if (!strstr(text, whole)) fail_msg("no line `%s` in\n%s", line, text);
}

static void counts(void **state) {
    (void)state;
    struct metrics *m = metrics_new();
    metrics_add(m, METRIC_EVENTS_OK, STR_LIT("hello"), 1);
    metrics_add(m, METRIC_EVENTS_OK, STR_LIT("other"), 5);
    metrics_add(m, METRIC_EVENTS_OK, STR_LIT("hello"), 2);
    metrics_set(m, METRIC_INSTANCES, STR_LIT("hello"), 4);
    metrics_set(m, METRIC_INSTANCES, STR_LIT("hello"), 2.5);
    metrics_set(m, METRIC_HTTP_CONNECTIONS, STR_NONE, 7);
    assert_true(metrics_get(m, METRIC_EVENTS_OK, STR_LIT("hello")) == 3);
    assert_true(metrics_get(m, METRIC_EVENTS_OK, STR_LIT("nobody")) == 0);
    assert_true(metrics_get(m, METRIC_HTTP_CONNECTIONS, STR_NONE) == 7);
    expect(m, "# TYPE weir_events_ok_total counter");
    expect(m, "weir_events_ok_total{function=\"hello\"} 3");
    expect(m, "weir_events_ok_total{function=\"other\"} 5");
    expect(m, "weir_instances{function=\"hello\"} 2.5");
    expect(m, "weir_http_connections 7");
    metrics_free(m);
}

static void large_counts_are_exact(void **state) {
    (void)state;
    struct metrics *m = metrics_new();
    metrics_add(m, METRIC_EVENTS_OK, STR_LIT("a"), 4503599627370497.0);
    expect(m, "weir_events_ok_total{function=\"a\"} 4503599627370497");
    metrics_free(m);
}

static void histograms(void **state) {
    (void)state;
    struct metrics *m = metrics_new();
    metrics_observe(m, METRIC_RUN_SECONDS, STR_LIT("f"), 0.0005);
    metrics_observe(m, METRIC_RUN_SECONDS, STR_LIT("f"), 0.0006);
    metrics_observe(m, METRIC_RUN_SECONDS, STR_LIT("f"), 100);
    assert_true(metrics_get(m, METRIC_RUN_SECONDS, STR_LIT("f")) == 3);
    expect(m, "# TYPE weir_run_seconds histogram");
    expect(m, "weir_run_seconds_bucket{function=\"f\",le=\"0.0005\"} 1");
    expect(m, "weir_run_seconds_bucket{function=\"f\",le=\"0.001\"} 2");
    expect(m, "weir_run_seconds_bucket{function=\"f\",le=\"60\"} 2");
    expect(m, "weir_run_seconds_bucket{function=\"f\",le=\"+Inf\"} 3");
    expect(m, "weir_run_seconds_sum{function=\"f\"} 100.0011");
    expect(m, "weir_run_seconds_count{function=\"f\"} 3");
    metrics_free(m);
}

static void labels_are_escaped(void **state) {
    (void)state;
    struct metrics *m = metrics_new();
    metrics_add(m, METRIC_EVENTS_REFUSED, STR_LIT("a\"b\\c\nd"), 1);
    metrics_add(m, METRIC_EVENTS_REFUSED, STR_NONE, 1);
    expect(m, "weir_events_refused_total{reason=\"a\\\"b\\\\c\\nd\"} 1");
    expect(m, "weir_events_refused_total{reason=\"\"} 1");
    metrics_free(m);
}

static void series_are_capped(void **state) {
    (void)state;
    struct metrics *m = metrics_new();
    for (int i = 0; i < METRIC_SERIES_MAX + 50; i++) {
        char label[32];
        assert_int_equal(text_format(label, sizeof label, "f%d", i), 0);
        metrics_add(m, METRIC_EVENTS_OK, str_of(label), 1);
    }
    assert_true(metrics_get(m, METRIC_EVENTS_OK, STR_LIT("f0")) == 1);
    assert_true(metrics_get(m, METRIC_EVENTS_OK, STR_LIT("_other")) == 50);
    metrics_add(m, METRIC_EVENTS_OK, STR_LIT("f0"), 1);
    assert_true(metrics_get(m, METRIC_EVENTS_OK, STR_LIT("f0")) == 2);
    metrics_free(m);
}

static void a_full_buffer_is_an_error(void **state) {
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
        cmocka_unit_test(counts),           cmocka_unit_test(large_counts_are_exact), cmocka_unit_test(histograms),
        cmocka_unit_test(labels_are_escaped), cmocka_unit_test(series_are_capped),    cmocka_unit_test(a_full_buffer_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
