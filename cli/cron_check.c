// SPDX-License-Identifier: Apache-2.0
// weir cron check: what an expression means, field by field. Needs no server.
#include <stdarg.h>

#include "cli/commands.h"
#include "cli/cron_expression.h"

#define NEXT_SHOWN 3
#define LIST_SHOWN 12 // values of a field; of more only the first and the last

static const struct arg_spec specs[] = {
    {"dst", 0, ARG_WORD, "RULE", "for times that daylight saving leaves out or repeats: cron, skip, once or both", "cron|skip|once|both"},
    {"tz", 0, ARG_TEXT, "ZONE", "the time zone of the next times, such as Europe/Berlin (default UTC)", NULL},
    {0},
};

// --- the fields -------------------------------------------------------------------------------------------------------

static bool has_second(const struct cron *c, int n) {
    return c->seconds >> n & 1;
}
static bool has_minute(const struct cron *c, int n) {
    return c->minutes >> n & 1;
}
static bool has_hour(const struct cron *c, int n) {
    return c->hours >> n & 1;
}
static bool has_day(const struct cron *c, int n) {
    return c->days >> n & 1;
}
static bool has_month(const struct cron *c, int n) {
    return c->months >> n & 1;
}
static bool has_weekday(const struct cron *c, int n) {
    return c->weekdays >> n & 1;
}
static bool has_year(const struct cron *c, int n) {
    return c->years[(n - 1970) / 64] >> (n - 1970) % 64 & 1;
}

enum { FIELD_DAY = 3, FIELD_WEEKDAY = 5 };
static const struct field {
    const char *name;
    int least, most;
    bool (*has)(const struct cron *c, int n);
    const char *names; // three letters each; NULL: numbers
} fields[] = {
    {"second", 0, 59, has_second, NULL},
    {"minute", 0, 59, has_minute, NULL},
    {"hour", 0, 23, has_hour, NULL},
    {"day", 1, 31, has_day, NULL},
    {"month", 1, 12, has_month, "JanFebMarAprMayJunJulAugSepOctNovDec"},
    {"weekday", 0, 6, has_weekday, "SunMonTueWedThuFriSat"},
    {"year", 1970, 2099, has_year, NULL},
};

// The first field that a form with so many has.
static size_t first_field(const struct cron *c) {
    return c->fields == 5;
}

static json_t *values_json(const struct field *f, const struct cron *c) {
    json_t *list = json_array();
    for (int n = f->least; n <= f->most; n++)
        if (f->has(c, n)) MUST(json_array_append_new(list, json_integer(n)) == 0);
    return list;
}

// --- in words ---------------------------------------------------------------------------------------------------------

static void add_item(struct buf *out, const char *fmt, ...) printf_like(2, 3);
static void add_item(struct buf *out, const char *fmt, ...) {
    char text[64];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    MUST(buf_printf(out, "%s%s", buf_len(out) ? ", " : "", text) == 0);
}

static const char *name_of(const struct field *f, int n, char out[12]) {
    if (f->names) snprintf(out, 12, "%.3s", f->names + (size_t)3 * (size_t)(n - f->least));
    else snprintf(out, 12, "%d", n);
    return out;
}

static int run_end(const struct field *f, const struct cron *c, int n) {
    while (n < f->most && f->has(c, n + 1)) n++;
    return n;
}

// "0, 15, 30, 45", "9-17", "0, 2, 4, …, 58".
static void add_values(struct buf *out, const struct field *f, const struct cron *c) {
    char a[12], b[12];
    int total = 0, at = 0;
    for (int n = f->least; n <= f->most; n++)
        if (f->has(c, n)) n = run_end(f, c, n), total++;
    for (int n = f->least; n <= f->most; n++) {
        if (!f->has(c, n)) continue;
        int end = run_end(f, c, n);
        at++;
        if (total > LIST_SHOWN && at == 4) add_item(out, "…");
        if (total <= LIST_SHOWN || at < 4 || at == total) {
            if (end == n) add_item(out, "%s", name_of(f, n, a));
            else if (end == n + 1) add_item(out, "%s, %s", name_of(f, n, a), name_of(f, end, b));
            else add_item(out, "%s-%s", name_of(f, n, a), name_of(f, end, b));
        }
        n = end;
    }
}

static void add_days(struct buf *out, const struct cron *c) {
    for (int n = 0; n < 31; n++)
        if (c->last_days >> n & 1) {
            if (n) add_item(out, "%d day%s before the last of the month", n, plural(n));
            else add_item(out, "the last of the month");
        }
    for (int n = 1; n <= 31; n++)
        if (c->near_days >> n & 1) add_item(out, "the weekday nearest to day %d", n);
    if (c->near_days & 1) add_item(out, "the last weekday of the month");
}

static void add_weekdays(struct buf *out, const struct field *f, const struct cron *c) {
    static const char *const nth[] = {"first", "second", "third", "fourth", "fifth"};
    char name[12];
    for (size_t k = 0; k < array_len(nth); k++)
        for (int n = 0; n < 7; n++)
            if (c->nth_weekdays[k] >> n & 1) add_item(out, "the %s %s of the month", nth[k], name_of(f, n, name));
    for (int n = 0; n < 7; n++)
        if (c->last_weekdays >> n & 1) add_item(out, "the last %s of the month", name_of(f, n, name));
}

// Caller frees.
static char *meaning(const struct cron *c, size_t i) {
    const struct field *f = &fields[i];
    struct buf out;
    buf_init(&out, 4096);
    bool any = i == FIELD_DAY ? c->any_day : i == FIELD_WEEKDAY ? c->any_weekday : false;
    int n = f->least;
    if (!any && f->has(c, n)) any = run_end(f, c, n) == f->most;
    if (any) {
        add_item(&out, "every");
    } else {
        add_values(&out, f, c);
        if (i == FIELD_DAY) add_days(&out, c);
        if (i == FIELD_WEEKDAY) add_weekdays(&out, f, c);
    }
    char *text = mem_strndup(buf_str(&out));
    buf_done(&out);
    return text;
}

// --- the answer -------------------------------------------------------------------------------------------------------

static json_t *fields_json(const struct expression *e) {
    json_t *list = json_array();
    const char *at = e->fields.data;
    size_t first = first_field(&e->cron);
    for (size_t i = 0; i < e->cron.fields; i++) {
        size_t n = strcspn(at, " \t");
        cleanup_free char *given = mem_strndup((struct str){at, n}), *means = meaning(&e->cron, first + i);
        json_t *field = json_pack("{s:s, s:s, s:s, s:o}", "name", fields[first + i].name, "given", given, "means", means, "values",
                                  values_json(&fields[first + i], &e->cron));
        MUST(json_array_append_new(list, field) == 0);
        at += n;
        at += strspn(at, " \t");
    }
    return list;
}

// "7 fields: second minute hour day month weekday year"; caller frees.
static char *form_of(const struct cron *c) {
    struct buf out;
    buf_init(&out, 256);
    if (c->every_s) MUST(buf_printf(&out, "a period, counted from when it begins") == 0);
    else if (c->fields == 0) MUST(buf_printf(&out, "a word") == 0);
    else MUST(buf_printf(&out, "%u fields:", c->fields) == 0);
    for (size_t i = 0; i < c->fields; i++) MUST(buf_printf(&out, " %s", fields[first_field(c) + i].name) == 0);
    char *text = mem_strndup(buf_str(&out));
    buf_done(&out);
    return text;
}

static void print_fields(const json_t *list) {
    static const char *const titles[] = {"FIELD", "GIVEN", "MEANS", NULL};
    struct table t;
    size_t i;
    const json_t *field;
    if (json_array_size(list) == 0) return;
    putchar('\n');
    table_init(&t, titles);
    json_array_foreach(list, i, field) {
        table_add(&t, TONE_PLAIN, "%s", member_text(field, "name", ""));
        table_add(&t, TONE_BOLD, "%s", member_text(field, "given", ""));
        table_add(&t, TONE_PLAIN, "%s", member_text(field, "means", ""));
    }
    table_print(&t);
}

static void print_next(const json_t *fires, const char *zone) {
    size_t i;
    const json_t *fire;
    printf("\nNext in %s:\n", zone);
    if (json_array_size(fires) == 0) puts("  never");
    json_array_foreach(fires, i, fire) {
        char local[CRON_CMD_TIME_BYTES], in[CRON_CMD_TIME_BYTES];
        cron_cmd_pretty(member_text(fire, "local", "?"), local);
        cron_cmd_in(member_int(fire, "scheduledMs", 0), in);
        printf("  %s  %s%s%s\n", local, out_tone(stdout, TONE_DIM), in, out_tone(stdout, TONE_PLAIN));
    }
}

static void show(const struct args *a, const struct expression *e) {
    cleanup_free char *form = form_of(&e->cron);
    json_auto_t *next = expression_next(e, 0, 0, NEXT_SHOWN), *list = fields_json(e);
    if (args_has(a, "json")) {
        json_object_set_new(next, "valid", json_true());
        json_object_set_new(next, "form", json_string(form));
        json_object_set(next, "fields", list);
        out_json(next);
        return;
    }
    printf("%s%s%s\n%s\n", out_tone(stdout, TONE_BOLD), member_text(next, "words", ""), out_tone(stdout, TONE_PLAIN), form);
    print_fields(list);
    print_next(json_object_get(next, "fires"), e->zone->name);
}

static int refuse(const struct args *a, const char *text, const struct cron_error *where, const struct err *err) {
    if (!args_has(a, "json")) return expression_complain(text, where, err);
    json_auto_t *answer = json_pack("{s:b, s:s, s:i, s:I, s:I}", "valid", 0, "error", err->text, "field", where->field, "begin",
                                    (json_int_t)where->begin, "end", (json_int_t)where->end);
    out_json(answer);
    return EXIT_FAILED;
}

static int run_check(const struct args *a) {
    struct err err = {0};
    struct expression e;
    struct cron_error where;
    struct str zone;
    const char *text = a->words[0];
    int rc = expression_one_word(a);
    if (rc != EXIT_OK) return rc;
    if (expression_parse(text, &e, &zone, &where, &err) < 0) return refuse(a, text, &where, &err);
    rc = expression_open(a, text, &e);
    if (rc == EXIT_OK) show(a, &e);
    expression_done(&e);
    return rc;
}

const struct command cron_cmd_check = {
    .name = "check",
    .words = "EXPRESSION",
    .summary = "Explains an expression in words and field by field, or shows where it is wrong",
    .about = "\nNeeds no server. Exit code 1 when the expression is wrong.\n\n"
             "  weir cron check '0 0 10,14,16 * * * *'      second minute hour day month weekday year\n"
             "  weir cron check '*/10 8-17 * * MON-FRI'     as in crontab(5)\n",
    .specs = specs,
    .uses = USES_JSON,
    .least = 1,
    .most = EXPRESSION_WORDS_MAX,
    .run = run_check,
};
