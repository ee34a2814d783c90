// SPDX-License-Identifier: Apache-2.0
// Every metric has a map from label value to series; the label "_other" takes what comes past the cap. A metric without
// a label has one series that needs no look-up.
//
// Invariant: adding costs one map look-up (none when the label is the one of the last call for this metric).
#include "core/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <uthash.h>

// Upper bounds in seconds: a warm handler takes under a millisecond, a slow one a minute.
static const double bounds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                0.25,   0.5,   1,      2.5,   5,    10,    30,   60};
#define BOUNDS array_len(bounds)

struct series {
    char *label;
    size_t label_len;
    double value;                // histograms: the sum
    uint64_t count;              // histograms
    uint64_t buckets[BOUNDS];    // not cumulative
    UT_hash_handle hh;
};

struct table {
    struct series *map;
    struct series *last;         // of the last call
    struct series *single;       // of a metric without a label
    struct series *other;        // in the map too
};

struct metrics {
    struct table tables[METRIC_COUNT];
};

static const struct {
    enum metric_type type;
    const char *name, *label, *help;
} specs[METRIC_COUNT] = {
#define X(id, type, name, label, help) [id] = {type, name, label, help},
    METRICS(X)
#undef X
};

#define OTHER STR_LIT("_other")

static struct series *series_add(struct table *t, struct str label) {
    struct series *s = mem_zalloc(sizeof *s);
    s->label = mem_strndup(label);
    s->label_len = label.len;
    HASH_ADD_KEYPTR(hh, t->map, s->label, s->label_len, s);
    return s;
}

static struct series *series_make(struct table *t, struct str label) {
    if (HASH_COUNT(t->map) - (t->other ? 1 : 0) < METRIC_SERIES_MAX) return series_add(t, label);
    if (!t->other) HASH_FIND(hh, t->map, "_other", OTHER.len, t->other);
    if (!t->other) t->other = series_add(t, OTHER);
    return t->other;
}

static struct series *series_get(struct metrics *m, enum metric metric, struct str label) {
    struct table *t = &m->tables[metric];
    if (t->single) return t->single;
    struct series *s = t->last;
    if (s && s->label_len == label.len && memcmp(s->label, label.data ? label.data : "", label.len) == 0) return s;
    if (!label.data) label = STR_LIT("");
    HASH_FIND(hh, t->map, label.data, label.len, s);
    if (!s) s = series_make(t, label);
    t->last = s;
    return s;
}

struct metrics *metrics_new(void) {
    struct metrics *m = mem_zalloc(sizeof *m);
    for (size_t i = 0; i < METRIC_COUNT; i++)
        if (!*specs[i].label) m->tables[i].single = series_add(&m->tables[i], STR_LIT(""));
    return m;
}

void metrics_free(struct metrics *m) {
    if (!m) return;
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        struct series *s, *next;
        HASH_ITER(hh, m->tables[i].map, s, next) {
            HASH_DELETE(hh, m->tables[i].map, s);
            free(s->label);
            free(s);
        }
    }
    free(m);
}

void metrics_add(struct metrics *m, enum metric metric, struct str label, double n) {
    MUST(specs[metric].type == METRIC_COUNTER);
    series_get(m, metric, label)->value += n;
}

void metrics_set(struct metrics *m, enum metric metric, struct str label, double value) {
    MUST(specs[metric].type == METRIC_GAUGE);
    series_get(m, metric, label)->value = value;
}

void metrics_observe(struct metrics *m, enum metric metric, struct str label, double seconds) {
    MUST(specs[metric].type == METRIC_HISTOGRAM);
    struct series *s = series_get(m, metric, label);
    s->value += seconds;
    s->count++;
    for (size_t i = 0; i < BOUNDS; i++)
        if (seconds <= bounds[i]) {
            s->buckets[i]++;
            return;
        }
}

double metrics_get(const struct metrics *m, enum metric metric, struct str label) {
    const struct table *t = &m->tables[metric];
    const struct series *s = t->single;
    if (!s) HASH_FIND(hh, t->map, label.data ? label.data : "", label.len, s);
    if (!s) return 0;
    return specs[metric].type == METRIC_HISTOGRAM ? (double)s->count : s->value;
}

// Whole numbers without a point; others with the digits that a double has for certain.
static int put_number(struct buf *out, double v) {
    if (isnan(v)) return buf_append(out, STR_LIT("NaN"));
    if (isinf(v)) return buf_append(out, v > 0 ? STR_LIT("+Inf") : STR_LIT("-Inf"));
    if (fabs(v) < 9e15 && v == (double)(int64_t)v) return buf_printf(out, "%" PRId64, (int64_t)v);
    return buf_printf(out, "%.15g", v);
}

static int put_label_value(struct buf *out, const struct series *s) {
    for (size_t i = 0; i < s->label_len; i++) {
        char c = s->label[i];
        int rc = c == '\n'               ? buf_append(out, STR_LIT("\\n"))
                 : c == '"' || c == '\\' ? buf_printf(out, "\\%c", c)
                                         : buf_append(out, (struct str){&s->label[i], 1});
        if (rc) return rc;
    }
    return 0;
}

// `name_suffix{label="value",le="bound"} value`; without bound there is no le.
static int put_sample(struct buf *out, enum metric metric, const struct series *s, const char *suffix, const char *bound,
                      double value) {
    const char *label = specs[metric].label;
    int rc = buf_printf(out, "%s%s", specs[metric].name, suffix);
    if (rc == 0 && (*label || bound)) rc = buf_append(out, STR_LIT("{"));
    if (rc == 0 && *label) rc = buf_printf(out, "%s=\"", label);
    if (rc == 0 && *label) rc = put_label_value(out, s);
    if (rc == 0 && *label) rc = buf_append(out, STR_LIT("\""));
    if (rc == 0 && bound) rc = buf_printf(out, "%sle=\"%s\"", *label ? "," : "", bound);
    if (rc == 0 && (*label || bound)) rc = buf_append(out, STR_LIT("}"));
    if (rc == 0) rc = buf_append(out, STR_LIT(" "));
    if (rc == 0) rc = put_number(out, value);
    return rc ? rc : buf_append(out, STR_LIT("\n"));
}

static int put_histogram(struct buf *out, enum metric metric, const struct series *s) {
    uint64_t below = 0;
    for (size_t i = 0; i < BOUNDS; i++) {
        char bound[32];
        MUST(text_format(bound, sizeof bound, "%g", bounds[i]) == 0);
        below += s->buckets[i];
        int rc = put_sample(out, metric, s, "_bucket", bound, (double)below);
        if (rc) return rc;
    }
    int rc = put_sample(out, metric, s, "_bucket", "+Inf", (double)s->count);
    if (rc == 0) rc = put_sample(out, metric, s, "_sum", NULL, s->value);
    return rc ? rc : put_sample(out, metric, s, "_count", NULL, (double)s->count);
}

int metrics_render(const struct metrics *m, struct buf *out) {
    static const char *const types[] = {"counter", "gauge", "histogram"};
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        int rc = buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", specs[i].name, specs[i].help, specs[i].name,
                            types[specs[i].type]);
        if (rc) return rc;
        for (const struct series *s = m->tables[i].map; s; s = s->hh.next) {
            rc = specs[i].type == METRIC_HISTOGRAM ? put_histogram(out, (enum metric)i, s)
                                                   : put_sample(out, (enum metric)i, s, "", NULL, s->value);
            if (rc) return rc;
        }
    }
    return 0;
}
