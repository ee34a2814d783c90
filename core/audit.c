// SPDX-License-Identifier: Apache-2.0
// Entries are written one by one, as somebody waits for each; ends and notes wait in one list, and one job at a time writes all of it.
//
// Invariant: what waits or is being written is in `waiting` or in the one write_job; what the store did not take goes back in front.
#include "core/audit.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "core/trigger.h"

#define RETRY_MS 1000
#define TIDY_MS 60000
#define TIDY_MORE_MS 100   // while there is more to delete

// An end (id), or a note (id 0) whose texts are its row.
struct record {
    struct record *next;
    int64_t id, noted_ns;
    char *who, *remote, *action, *target, *detail, *outcome;
};

struct audit {
    struct audit_config c;
    struct record *waiting, **last;
    size_t waiting_count;
    bool writing, tidying, stopped;
    size_t jobs;
    struct defer write;
    struct timer *retry, *tidy;
    struct log_repeat lost;
};

static void start_write(void *audit);
static void start_tidy(void *audit);

struct audit *audit_new(const struct audit_config *config) {
    struct audit *a = mem_zalloc(sizeof *a);
    a->c = *config;
    if (!a->c.keep_ms) a->c.keep_ms = AUDIT_KEEP_MS;
    if (!a->c.rows_max) a->c.rows_max = AUDIT_ROWS_MAX;
    a->last = &a->waiting;
    a->write = (struct defer){.fn = start_write, .arg = a};
    a->retry = timer_new(config->loop, start_write, a);
    a->tidy = timer_new(config->loop, start_tidy, a);
    timer_start(a->tidy, 0);
    return a;
}

bool audit_stop(struct audit *a) {
    a->stopped = true;
    timer_stop(a->tidy);
    return a->jobs == 0 && !a->waiting;
}

static void record_free(struct record *r) {
    free(r->who);
    free(r->remote);
    free(r->action);
    free(r->target);
    free(r->detail);
    free(r->outcome);
    free(r);
}

void audit_free(struct audit *a) {
    if (!a) return;
    MUST(a->jobs == 0);
    while (a->waiting) {
        struct record *r = a->waiting;
        a->waiting = r->next;
        record_free(r);
    }
    loop_defer_cancel(a->c.loop, &a->write);
    timer_free(a->retry);
    timer_free(a->tidy);
    free(a);
}

static void submit(struct audit *a, struct store *store, struct store_job *job) {
    a->jobs++;
    store_submit(store, job);
}

// --- texts ----------------------------------------------------------------------------------------------------------------

static char *clean(struct str s, size_t max_bytes) {
    struct buf out;
    buf_init(&out, max_bytes);
    MUST(text_append_clean(&out, s, max_bytes) == 0);
    return buf_take(&out, NULL);
}

static void mask_by_names(json_t *value);

static json_t *masked_by_name(const char *name, json_t *value) {
    const char *text = json_string_value(value);
    if (!text) {
        mask_by_names(value);
        return json_incref(value);
    }
    cleanup_free char *shown = trigger_mask_setting(name, text);
    return json_string(shown);
}

// What says itself to be secret: {"settings": {"sasl.password": "x", "url": "amqp://a:b@c"}}.
static void mask_by_names(json_t *value) {
    for (void *i = json_object_iter(value); i; i = json_object_iter_next(value, i))
        json_object_iter_set_new(value, i, masked_by_name(json_object_iter_key(i), json_object_iter_value(i)));
    for (size_t i = 0; i < json_array_size(value); i++) json_array_set_new(value, i, masked_by_name("", json_array_get(value, i)));
}

// {"cut": "…"} of the longest beginning of the text that has room.
static char *cut_detail(struct str text) {
    struct buf out, part;
    buf_init(&out, AUDIT_DETAIL_MAX);
    buf_init(&part, AUDIT_DETAIL_MAX);
    for (size_t keep = AUDIT_DETAIL_MAX - 20;; keep = keep / 8 * 7) {
        buf_clear(&out);
        buf_clear(&part);
        MUST(text_append_clean(&part, text, keep) == 0);
        if (buf_append(&out, STR_LIT("{\"cut\":")) == 0 && text_append_json(&out, buf_str(&part)) == 0 && buf_append(&out, STR_LIT("}")) == 0)
            break;
    }
    buf_done(&part);
    return buf_take(&out, NULL);
}

// Takes detail over.
static char *detail_text(const struct audit *a, json_t *detail) {
    if (!detail) return mem_strdup("{}");
    mask_by_names(detail);
    redact_json(a->c.redact, detail);
    char *text = json_dumps(detail, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(detail);
    MUST(text);
    struct str whole = str_of(text);
    if (whole.len <= AUDIT_DETAIL_MAX) return text;
    char *cut = cut_detail(whole);
    free(text);
    return cut;
}

static struct record *record_new(const struct audit *a, const struct audit_entry *e) {
    struct record *r = mem_zalloc(sizeof *r);
    r->who = clean(e->who, AUDIT_WHO_MAX);
    r->remote = clean(e->remote, AUDIT_WHO_MAX);
    r->action = clean(e->action, AUDIT_WHO_MAX);
    r->target = clean(e->target, AUDIT_TARGET_MAX);
    r->detail = detail_text(a, e->detail);
    r->noted_ns = clock_mono_ns();
    return r;
}

// --- entries ------------------------------------------------------------------------------------------------------------------

#define COLUMNS 7
#define INSERT "INSERT INTO audit (at_ms, who, remote, action, target, detail, outcome) VALUES ($1, $2, $3, $4, $5, $6, $7)"

static void set_row(struct sql_value *row, const struct record *r, int64_t at_ms) {
    const struct sql_value values[COLUMNS] = {SQL_I(at_ms),       SQL_Z(r->who),    SQL_Z(r->remote),  SQL_Z(r->action),
                                              SQL_Z(r->target), SQL_Z(r->detail), SQL_Z(r->outcome)};
    memcpy(row, values, sizeof values);
}

struct begin_job {
    struct store_job job;
    struct audit *audit;
    struct record *record;
    int64_t id;
    audit_begun_fn *done;
    void *arg;
};

static int take_id(void *arg, const struct sql_row *row) {
    *(int64_t *)arg = sql_row_int(row, 0);
    return 0;
}

static int begin_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct begin_job *b = container_of(job, struct begin_job, job);
    struct sql_value row[COLUMNS];
    int64_t now_ms;
    int rc = sql_unix_ms(sql, &now_ms, err);
    if (rc) return rc;
    set_row(row, b->record, now_ms);
    return sql_exec(sql, INSERT " RETURNING id", row, COLUMNS, take_id, &b->id, NULL, err);
}

static void begin_done(struct store_job *job, int code, const struct err *err) {
    struct begin_job *b = container_of(job, struct begin_job, job);
    b->audit->jobs--;
    b->done(b->arg, code, err, code ? 0 : b->id);
    record_free(b->record);
    free(b);
}

void audit_begin(struct audit *a, const struct audit_entry *entry, audit_begun_fn *done, void *arg) {
    struct begin_job *b = mem_zalloc(sizeof *b);
    *b = (struct begin_job){.job = {.run = begin_run, .done = begin_done}, .audit = a, .record = record_new(a, entry), .done = done, .arg = arg};
    b->record->outcome = mem_strdup("");
    submit(a, a->c.store, &b->job);
}

// --- ends and notes -----------------------------------------------------------------------------------------------------------

struct write_job {
    struct store_job job;
    struct audit *audit;
    struct record *records;
    size_t ends, notes;
};

static int write_notes(const struct write_job *w, struct sql *sql, struct err *err) {
    int64_t now_ms;
    int rc = sql_unix_ms(sql, &now_ms, err);
    if (rc) return rc;
    struct sql_value *values = mem_array(w->notes * COLUMNS, sizeof *values), *row = values;
    for (const struct record *r = w->records; r; r = r->next) {
        if (r->id) continue;
        set_row(row, r, now_ms - (clock_mono_ns() - r->noted_ns) / NS_PER_MS);
        row += COLUMNS;
    }
    rc = sql_exec_many(sql, INSERT, values, COLUMNS, w->notes, err);
    free(values);
    return rc;
}

static int write_ends(const struct write_job *w, struct sql *sql, struct err *err) {
    struct sql_value *values = mem_array(w->ends * 2, sizeof *values), *row = values;
    for (const struct record *r = w->records; r; r = r->next) {
        if (!r->id) continue;
        *row++ = SQL_Z(r->outcome);
        *row++ = SQL_I(r->id);
    }
    int rc = sql_exec_many(sql, "UPDATE audit SET outcome = $1 WHERE id = $2", values, 2, w->ends, err);
    free(values);
    return rc;
}

static int write_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct write_job *w = container_of(job, struct write_job, job);
    int rc = w->notes ? write_notes(w, sql, err) : 0;
    return rc == 0 && w->ends ? write_ends(w, sql, err) : rc;
}

static void lose(struct audit *a, struct record *r, const char *why) {
    log_repeating(&a->lost, LOG_LEVEL_ERROR, "audit", "an end or a note is lost", why);
    record_free(r);
}

// The store may take them later; but at the end of the server there is no later.
static bool is_worth_a_retry(const struct audit *a, int code) {
    return !a->stopped && (code == ERR_UNAVAILABLE || code == ERR_BUSY || code == ERR_FULL || code == ERR_TIMEOUT);
}

static void write_done(struct store_job *job, int code, const struct err *err) {
    struct write_job *w = container_of(job, struct write_job, job);
    struct audit *a = w->audit;
    bool again = code && is_worth_a_retry(a, code);
    struct record **end = &w->records;
    a->jobs--;
    a->writing = false;
    if (again) {
        while (*end) end = &(*end)->next;
        *end = a->waiting;
        if (!a->waiting) a->last = end;
        a->waiting = w->records;
        a->waiting_count += w->ends + w->notes;
        timer_start(a->retry, RETRY_MS);
    }
    while (!again && w->records) {
        struct record *r = w->records;
        w->records = r->next;
        if (code) lose(a, r, err->text);
        else record_free(r);
    }
    if (!again && a->waiting) start_write(a);
    free(w);
}

static void start_write(void *audit) {
    struct audit *a = audit;
    if (a->writing || !a->waiting) return;
    struct write_job *w = mem_zalloc(sizeof *w);
    *w = (struct write_job){.job = {.run = write_run, .done = write_done}, .audit = a, .records = a->waiting};
    for (const struct record *r = w->records; r; r = r->next) (*(r->id ? &w->ends : &w->notes))++;
    a->waiting = NULL;
    a->last = &a->waiting;
    a->waiting_count = 0;
    a->writing = true;
    submit(a, a->c.store, &w->job);
}

static void add_record(struct audit *a, struct record *r, struct str outcome) {
    r->outcome = clean(outcome, AUDIT_OUTCOME_MAX);
    if (a->waiting_count >= AUDIT_WAITING_MAX) {
        lose(a, r, "too many wait for the store");
        return;
    }
    *a->last = r;
    a->last = &r->next;
    a->waiting_count++;
    loop_defer(a->c.loop, &a->write);
}

void audit_end(struct audit *a, int64_t id, struct str outcome) {
    MUST(id > 0 && outcome.len > 0);
    struct record *r = mem_zalloc(sizeof *r);
    r->id = id;
    add_record(a, r, outcome);
}

void audit_note(struct audit *a, const char *action, struct str target, json_t *detail, struct str outcome) {
    if (!a) {
        json_decref(detail);
        return;
    }
    const struct audit_entry e = {.who = STR_LIT(AUDIT_SELF), .action = str_of(action), .target = target, .detail = detail};
    add_record(a, record_new(a, &e), outcome);
}

// --- housekeeping ---------------------------------------------------------------------------------------------------------------

struct tidy_job {
    struct store_job job;
    struct audit *audit;
    bool more;
};

static int delete_some(struct tidy_job *t, struct sql *sql, const char *text, int64_t bound, struct err *err) {
    const struct sql_value values[] = {SQL_I(bound), SQL_I(AUDIT_TIDY_ROWS)};
    int64_t deleted = 0;
    int rc = sql_exec(sql, text, values, array_len(values), NULL, NULL, &deleted, err);
    t->more |= deleted == AUDIT_TIDY_ROWS;
    return rc;
}

static int tidy_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct tidy_job *t = container_of(job, struct tidy_job, job);
    const struct audit_config *c = &t->audit->c;
    int64_t now_ms;
    t->more = false;
    int rc = sql_unix_ms(sql, &now_ms, err);
    if (rc == 0)
        rc = delete_some(t, sql, "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at_ms < $1 ORDER BY at_ms LIMIT $2)",
                         now_ms - c->keep_ms, err);
    // Ids only grow, so there are at most as many rows as the newest id is away from the bound; nothing need be counted.
    if (rc == 0)
        rc = delete_some(t, sql,
                         "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id <= (SELECT max(id) FROM audit) - $1 ORDER BY id LIMIT $2)",
                         c->rows_max, err);
    return rc;
}

static void tidy_done(struct store_job *job, int code, const struct err *err) {
    (void)err; // the next round tries again
    struct tidy_job *t = container_of(job, struct tidy_job, job);
    struct audit *a = t->audit;
    a->jobs--;
    if (!a->stopped) timer_start(a->tidy, code == 0 && t->more ? TIDY_MORE_MS : TIDY_MS);
    free(t);
}

static void start_tidy(void *audit) {
    struct audit *a = audit;
    struct tidy_job *t = mem_zalloc(sizeof *t);
    *t = (struct tidy_job){.job = {.run = tidy_run, .done = tidy_done}, .audit = a};
    submit(a, a->c.store, &t->job);
}

// --- looking --------------------------------------------------------------------------------------------------------------------

struct list_job {
    struct store_job job;
    struct audit *audit;
    char *who, *action, *target;
    struct audit_filter f;
    int64_t id;     // of the one that is asked for; 0: a list
    json_t *result;
    audit_json_fn *fn;
    void *arg;
};

static json_t *text_json(struct str s) {
    json_t *text = json_stringn(s.data ? s.data : "", s.len);
    return text ? text : json_string("");
}

static int add_entry(void *arg, const struct sql_row *row) {
    struct str detail = sql_row_bytes(row, 6);
    json_t *value = json_loadb(detail.data ? detail.data : "", detail.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    json_t *entry = json_pack("{sI sI so so so so so so}", "id", (json_int_t)sql_row_int(row, 0), "atMs", (json_int_t)sql_row_int(row, 1),
                              "who", text_json(sql_row_bytes(row, 2)), "remote", text_json(sql_row_bytes(row, 3)), "action",
                              text_json(sql_row_bytes(row, 4)), "target", text_json(sql_row_bytes(row, 5)), "detail",
                              value ? value : text_json(detail), "outcome", text_json(sql_row_bytes(row, 7)));
    json_array_append_new(arg, entry);
    return 0;
}

#define SELECT "SELECT id, at_ms, who, remote, action, target, detail, outcome FROM audit "

static int list_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct list_job *l = container_of(job, struct list_job, job);
    json_decref(l->result);
    json_t *entries = json_array();
    l->result = json_pack("{so sn}", "entries", entries, "next");
    const struct sql_value values[] = {SQL_I(l->f.before_id ? l->f.before_id : INT64_MAX),
                                       SQL_I(l->f.since_ms),
                                       SQL_I(l->f.until_ms ? l->f.until_ms : INT64_MAX),
                                       SQL_Z(l->who),
                                       SQL_Z(l->target),
                                       SQL_Z(l->action),
                                       SQL_I(l->f.limit)};
    int rc = sql_exec(sql,
                      SELECT "WHERE id < $1 AND at_ms >= $2 AND at_ms < $3 AND ($4 = '' OR who = $4) AND ($5 = '' OR target = $5)"
                             " AND substr(action, 1, length($6)) = $6 ORDER BY id DESC LIMIT $7",
                      values, array_len(values), add_entry, entries, NULL, err);
    size_t n = json_array_size(entries);
    if (rc == 0 && n == l->f.limit) json_object_set(l->result, "next", json_object_get(json_array_get(entries, n - 1), "id"));
    return rc;
}

static int show_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct list_job *l = container_of(job, struct list_job, job);
    json_decref(l->result);
    l->result = NULL;
    json_auto_t *found = json_array();
    const struct sql_value id = SQL_I(l->id);
    int rc = sql_exec(sql, SELECT "WHERE id = $1", &id, 1, add_entry, found, NULL, err);
    if (rc) return rc;
    l->result = json_incref(json_array_get(found, 0));
    return l->result ? 0 : err_set(err, ERR_NOT_FOUND, "there is no entry %lld in the audit", (long long)l->id);
}

static void list_done(struct store_job *job, int code, const struct err *err) {
    struct list_job *l = container_of(job, struct list_job, job);
    l->audit->jobs--;
    l->fn(l->arg, code, err, code ? NULL : json_incref(l->result));
    json_decref(l->result);
    free(l->who);
    free(l->action);
    free(l->target);
    free(l);
}

static struct list_job *list_job_new(struct audit *a, int (*run)(struct store_job *, struct sql *, struct err *), audit_json_fn *fn, void *arg) {
    struct list_job *l = mem_zalloc(sizeof *l);
    *l = (struct list_job){.job = {.run = run, .done = list_done}, .audit = a, .fn = fn, .arg = arg};
    return l;
}

void audit_list(struct audit *a, const struct audit_filter *f, audit_json_fn *fn, void *arg) {
    if (f->limit < 1 || f->limit > AUDIT_LIST_MAX) {
        struct err err = {0};
        fn(arg, err_set(&err, ERR_INVALID, "limit must be from 1 to %d", AUDIT_LIST_MAX), &err, NULL);
        return;
    }
    struct list_job *l = list_job_new(a, list_run, fn, arg);
    l->f = *f;
    l->who = clean(f->who, AUDIT_WHO_MAX);
    l->action = clean(f->action, AUDIT_WHO_MAX);
    l->target = clean(f->target, AUDIT_TARGET_MAX);
    submit(a, a->c.reader, &l->job);
}

void audit_show(struct audit *a, int64_t id, audit_json_fn *fn, void *arg) {
    struct list_job *l = list_job_new(a, show_run, fn, arg);
    l->id = id;
    submit(a, a->c.reader, &l->job);
}
