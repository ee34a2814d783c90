// SPDX-License-Identifier: Apache-2.0
// Counters, gauges and histograms, from one table, in Prometheus' text format (version 0.0.4).
//
// Threads: the loop's. Memory: one series for each metric and label value; at most METRIC_SERIES_MAX label values a
// metric, the rest are counted under "_other".
#ifndef CORE_METRICS_H
#define CORE_METRICS_H

#include "core/base/buf.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

#define METRIC_SERIES_MAX 10000

// X(id, type, "name", "label" or "", "help"). Units are in the names: seconds, bytes.
#define METRICS(X)                                                                                                      \
    X(METRIC_EVENTS_ACCEPTED, METRIC_COUNTER, "weir_events_accepted_total", "function",                                  \
      "Events let in, retries and replays included.")                                                                   \
    X(METRIC_EVENTS_REFUSED, METRIC_COUNTER, "weir_events_refused_total", "reason", "Events not let in.")                \
    X(METRIC_EVENTS_OK, METRIC_COUNTER, "weir_events_ok_total", "function", "Events whose handler returned.")            \
    X(METRIC_ATTEMPTS_FAILED, METRIC_COUNTER, "weir_attempts_failed_total", "function", "Attempts that failed.")         \
    X(METRIC_LETTERS_DUE, METRIC_COUNTER, "weir_letters_due_total", "function", "Events put off to be tried again.")     \
    X(METRIC_LETTERS_DEAD, METRIC_COUNTER, "weir_letters_dead_total", "function", "Events that became dead letters.")    \
    X(METRIC_DEAD, METRIC_GAUGE, "weir_letters_dead", "function", "Dead letters, as of the last minute.")                \
    X(METRIC_DEAD_CAP_RATIO, METRIC_GAUGE, "weir_letters_cap_ratio", "function", "Dead letters of those that the policy's cap allows.") \
    X(METRIC_REPLAYS, METRIC_COUNTER, "weir_replays_total", "function", "Dead letters sent back.")                       \
    X(METRIC_COLD_STARTS, METRIC_COUNTER, "weir_cold_starts_total", "function", "Instances started.")                    \
    X(METRIC_INSTANCES, METRIC_GAUGE, "weir_instances", "function", "Instances alive.")                                  \
    X(METRIC_RUN_SECONDS, METRIC_HISTOGRAM, "weir_run_seconds", "function", "Time a handler ran.")                       \
    X(METRIC_WAIT_SECONDS, METRIC_HISTOGRAM, "weir_wait_seconds", "function", "Time from acceptance to the first run.")  \
    X(METRIC_TRIGGER_LAG, METRIC_GAUGE, "weir_trigger_lag", "trigger", "Records behind: of the partitions of this node, or in the queue.") \
    X(METRIC_RECORDS_FILTERED, METRIC_COUNTER, "weir_records_filtered_total", "trigger", "Records that a filter let pass by.") \
    X(METRIC_CALLS_SPLIT, METRIC_COUNTER, "weir_calls_split_total", "trigger", "Calls of several records that failed and were split.") \
    X(METRIC_BREAKER_OPEN, METRIC_GAUGE, "weir_breaker_open", "trigger", "1 while the circuit breaker is open or half open.") \
    X(METRIC_BREAKER_OPENED, METRIC_COUNTER, "weir_breaker_opened_total", "trigger", "Times that the circuit breaker opened.") \
    X(METRIC_FIRE_LAG_SECONDS, METRIC_HISTOGRAM, "weir_timer_fire_lag_seconds", "function", "How late fires are decided, after their jitter.") \
    X(METRIC_HTTP_REQUESTS, METRIC_COUNTER, "weir_http_requests_total", "status", "HTTP requests answered.")             \
    X(METRIC_HTTP_CONNECTIONS, METRIC_GAUGE, "weir_http_connections", "", "HTTP connections open.")

enum metric {
#define X(id, type, name, label, help) id,
    METRICS(X)
#undef X
    METRIC_COUNT
};

struct metrics;
struct metrics *metrics_new(void) must_use;
void metrics_free(struct metrics *m);
void metrics_add(struct metrics *m, enum metric metric, struct str label, double n);     // counters
void metrics_set(struct metrics *m, enum metric metric, struct str label, double value); // gauges
void metrics_observe(struct metrics *m, enum metric metric, struct str label, double seconds);
double metrics_get(const struct metrics *m, enum metric metric, struct str label); // histograms: the count
int metrics_render(const struct metrics *m, struct buf *out) must_use;

#endif
