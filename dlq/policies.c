// SPDX-License-Identifier: Apache-2.0
// Policies: their settings, which are checked when they are given and read leniently after.
#include "dlq/policies.h"

#include <math.h>

#include "core/base/clock.h"
#include "core/base/text.h"
#include "dlq/policies_impl.h"

#define KEEP_LEAST_MS 60000
#define KEEP_MOST_MS (INT64_C(36500) * 86400000)
#define SAMPLE_MAX 100000
#define NAME_MAX_BYTES 200
#define WHO_MAX 100

struct policy_job {
    struct store_job job;
    struct policies *policies;
    char *function, *who; // function: NULL: all
    json_t *settings;
    int64_t now_ms;
    letters_json_fn *fn;
    letter_done_fn *done;
    void *arg;
    json_t *result;
};

static char *clean(struct str s, size_t max_bytes) {
    struct buf out;
    buf_init(&out, max_bytes);
    MUST(text_append_clean(&out, s, max_bytes) == 0);
    return buf_take(&out, NULL);
}

static struct policy_job *policy_job_new(struct policies *p, int (*run)(struct store_job *, struct sql *, struct err *),
                                         void (*done)(struct store_job *, int, const struct err *), struct str function, void *arg) {
    struct policy_job *j = mem_zalloc(sizeof *j);
    *j = (struct policy_job){.job = {.run = run, .done = done}, .policies = p, .now_ms = clock_unix_ms(), .arg = arg};
    if (function.data) j->function = clean(function, NAME_MAX_BYTES);
    return j;
}

static void policy_job_free(struct policy_job *j) {
    json_decref(j->settings);
    json_decref(j->result);
    free(j->function);
    free(j->who);
    free(j);
}

void policies_submit(struct policies *p, struct store *store, struct store_job *job) {
    p->jobs++;
    store_submit(store, job);
}

static int check_function(const struct policy_job *j, struct sql *sql, struct err *err) {
    int64_t there = 0;
    const struct sql_value name = SQL_Z(j->function);
    int rc = sql_exec(sql, "SELECT count(*) FROM functions WHERE name = $1", &name, 1, letters_take_int, &there, NULL, err);
    return rc || there ? rc : err_set(err, ERR_NOT_FOUND, "there is no function '%s'", j->function);
}

// --- settings ---------------------------------------------------------------------------------------------------------------

static const char *const members[] = {"keepMs", "cap", "autoReplay"};

static bool is_one_of(const char *name, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

static int check_members(const json_t *o, const char *const *names, size_t count, const char *what, struct err *err) {
    if (!json_is_object(o)) return err_set(err, ERR_INVALID, "%s is a JSON object", what);
    for (void *i = json_object_iter((json_t *)(uintptr_t)o); i; i = json_object_iter_next((json_t *)(uintptr_t)o, i))
        if (!is_one_of(json_object_iter_key(i), names, count))
            return err_set(err, ERR_INVALID, "%s has no '%.100s'", what, json_object_iter_key(i));
    return 0;
}

static int check_whole(const json_t *o, const char *name, int64_t least, int64_t most, struct err *err) {
    const json_t *v = json_object_get(o, name);
    if (!v || json_is_null(v) || (json_is_integer(v) && json_integer_value(v) >= least && json_integer_value(v) <= most)) return 0;
    return err_set(err, ERR_INVALID, "%s is a whole number from %lld to %lld", name, (long long)least, (long long)most);
}

static int check_real(const json_t *o, const char *name, double least, double most, struct err *err) {
    const json_t *v = json_object_get(o, name);
    if (!v || json_is_null(v)) return 0;
    double n = json_number_value(v);
    if (json_is_number(v) && isfinite(n) && n >= least && n <= most) return 0;
    return err_set(err, ERR_INVALID, "%s is a number from %g to %g", name, least, most);
}

static int check_settings(const json_t *o, struct err *err) {
    static const char *const parts[] = {"sample", "rate", "abortShare"};
    const json_t *replay = json_object_get(o, "autoReplay");
    int rc = check_members(o, members, array_len(members), "a policy", err);
    if (rc == 0) rc = check_whole(o, "keepMs", KEEP_LEAST_MS, KEEP_MOST_MS, err);
    if (rc == 0) rc = check_whole(o, "cap", 1, POLICY_CAP_MAX, err);
    if (rc || !replay || json_is_null(replay)) return rc;
    rc = check_members(replay, parts, array_len(parts), "autoReplay", err);
    if (rc == 0) rc = check_whole(replay, "sample", 0, SAMPLE_MAX, err);
    if (rc == 0) rc = check_real(replay, "rate", 0.001, REPLAY_RATE_MAX, err);
    return rc ? rc : check_real(replay, "abortShare", 0, 1, err);
}

json_t *policies_settings(struct str text) {
    json_t *o = json_loadb(text.data ? text.data : "", text.len, 0, NULL);
    struct err err;
    if (o && check_settings(o, &err) == 0) return o;
    json_decref(o);
    return json_object();
}

// --- looking ----------------------------------------------------------------------------------------------------------------

static int add_policy(void *arg, const struct sql_row *row) {
    json_auto_t *settings = policies_settings(sql_row_bytes(row, 1));
    json_t *o = json_pack("{so}", "function", letters_json_text(sql_row_bytes(row, 0)));
    json_int_t dead = sql_row_int(row, 4), cap = json_integer_value(json_object_get(settings, "cap"));
    for (size_t i = 0; i < array_len(members); i++) {
        json_t *v = json_object_get(settings, members[i]);
        json_object_set_new(o, members[i], v ? json_incref(v) : json_null());
    }
    json_object_set_new(o, "changedMs", json_integer(sql_row_int(row, 2)));
    json_object_set_new(o, "who", letters_json_text(sql_row_bytes(row, 3)));
    json_object_set_new(o, "dead", json_integer(dead));
    json_object_set_new(o, "usedShare", cap ? json_real((double)dead / (double)cap) : json_null());
    json_array_append_new(arg, o);
    return 0;
}

#define SHOW                                                                                                                \
    "SELECT p.function, p.settings, p.changed_ms, p.who, (SELECT count(*) FROM letters l WHERE l.state = 'dead' AND l.function = p.function)" \
    " FROM letter_policies p "

static int list_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct policy_job *j = container_of(job, struct policy_job, job);
    json_decref(j->result);
    j->result = json_pack("{s[]}", "policies");
    return sql_exec(sql, SHOW "ORDER BY p.function", NULL, 0, add_policy, json_object_get(j->result, "policies"), NULL, err);
}

static int show_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct policy_job *j = container_of(job, struct policy_job, job);
    json_auto_t *found = json_array();
    const struct sql_value name = SQL_Z(j->function);
    int rc = sql_exec(sql, SHOW "WHERE p.function = $1", &name, 1, add_policy, found, NULL, err);
    json_decref(j->result);
    j->result = json_incref(json_array_get(found, 0));
    if (rc || j->result) return rc;
    rc = check_function(j, sql, err);
    return rc ? rc : err_set(err, ERR_NOT_FOUND, "function %s has no policy", j->function);
}

static void look_done(struct store_job *job, int code, const struct err *err) {
    struct policy_job *j = container_of(job, struct policy_job, job);
    j->policies->jobs--;
    j->fn(j->arg, code, err, code ? NULL : json_incref(j->result));
    policy_job_free(j);
}

void policies_list(struct policies *p, letters_json_fn *fn, void *arg) {
    struct policy_job *j = policy_job_new(p, list_run, look_done, STR_NONE, arg);
    j->fn = fn;
    policies_submit(p, p->c.reader, &j->job);
}

void policies_show(struct policies *p, struct str function, letters_json_fn *fn, void *arg) {
    struct policy_job *j = policy_job_new(p, show_run, look_done, function, arg);
    j->fn = fn;
    policies_submit(p, p->c.reader, &j->job);
}

// --- changing ---------------------------------------------------------------------------------------------------------------

struct merged {
    json_t *settings;
    int64_t done_version; // at least
};

// What is current when automatic replays are turned on is no deploy; while they are on, one may be waiting for its replay.
static int take_before(void *arg, const struct sql_row *row) {
    struct merged *m = arg;
    json_auto_t *before = policies_settings(sql_row_bytes(row, 0));
    m->done_version = sql_row_int(row, json_is_object(json_object_get(before, "autoReplay")) ? 1 : 2);
    json_object_update(m->settings, before);
    return 0;
}

static void drop_nulls(json_t *o) {
    const char *name;
    void *next;
    json_t *v;
    json_object_foreach_safe(o, next, name, v) if (json_is_null(v)) json_object_del(o, name);
}

static int change_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct policy_job *j = container_of(job, struct policy_job, job);
    const struct sql_value name = SQL_Z(j->function);
    json_auto_t *settings = json_object();
    struct merged m = {.settings = settings};
    int rc = check_function(j, sql, err);
    if (rc == 0)
        rc = sql_exec(sql,
                      "SELECT p.settings, p.done_version, f.current FROM functions f LEFT JOIN letter_policies p ON p.function = f.name"
                      " WHERE f.name = $1",
                      &name, 1, take_before, &m, NULL, err);
    if (rc) return rc;
    json_object_update(settings, j->settings);
    drop_nulls(settings);
    cleanup_free char *text = json_dumps(settings, JSON_COMPACT | JSON_SORT_KEYS);
    const struct sql_value values[] = {name, SQL_Z(text), SQL_I(m.done_version), SQL_I(j->now_ms), SQL_Z(j->who)};
    return sql_exec(sql,
                    "INSERT INTO letter_policies (function, settings, done_version, changed_ms, who) VALUES ($1, $2, $3, $4, $5)"
                    " ON CONFLICT (function) DO UPDATE SET settings = excluded.settings, changed_ms = excluded.changed_ms, who = excluded.who,"
                    " done_version = CASE WHEN excluded.done_version > letter_policies.done_version THEN excluded.done_version"
                    " ELSE letter_policies.done_version END",
                    values, array_len(values), NULL, NULL, NULL, err);
}

static void change_done(struct store_job *job, int code, const struct err *err) {
    struct policy_job *j = container_of(job, struct policy_job, job);
    struct policies *p = j->policies;
    p->jobs--;
    if (code) j->fn(j->arg, code, err, NULL);
    else policies_show(p, str_of(j->function), j->fn, j->arg);
    if (code == 0 && p->started && !p->stopped && !p->round) timer_start(p->timer, 0);
    policy_job_free(j);
}

void policies_change(struct policies *p, struct str function, const json_t *settings, struct str who, letters_json_fn *fn, void *arg) {
    struct err err = {0};
    if (check_settings(settings, &err)) {
        fn(arg, err.code, &err, NULL);
        return;
    }
    struct policy_job *j = policy_job_new(p, change_run, change_done, function, arg);
    j->who = clean(who, WHO_MAX);
    j->settings = json_deep_copy(settings);
    j->fn = fn;
    policies_submit(p, p->c.store, &j->job);
}

static int remove_run(struct store_job *job, struct sql *sql, struct err *err) {
    const struct policy_job *j = container_of(job, struct policy_job, job);
    const struct sql_value name = SQL_Z(j->function);
    int64_t removed = 0;
    int rc = sql_exec(sql, "DELETE FROM letter_policies WHERE function = $1", &name, 1, NULL, NULL, &removed, err);
    if (rc || removed) return rc;
    rc = check_function(j, sql, err);
    return rc ? rc : err_set(err, ERR_NOT_FOUND, "function %s has no policy", j->function);
}

static void remove_done(struct store_job *job, int code, const struct err *err) {
    struct policy_job *j = container_of(job, struct policy_job, job);
    j->policies->jobs--;
    j->done(j->arg, code, err);
    policy_job_free(j);
}

void policies_remove(struct policies *p, struct str function, letter_done_fn *done, void *arg) {
    struct policy_job *j = policy_job_new(p, remove_run, remove_done, function, arg);
    j->done = done;
    policies_submit(p, p->c.store, &j->job);
}

// --- life -------------------------------------------------------------------------------------------------------------------

struct function_note *policies_note(struct policies *p, struct str function) {
    struct function_note *note = NULL;
    HASH_FIND(hh, p->functions, function.data, function.len, note);
    if (note) return note;
    note = mem_zalloc(sizeof *note);
    note->name = mem_strndup(function);
    HASH_ADD_KEYPTR(hh, p->functions, note->name, function.len, note);
    return note;
}

struct policies *policies_new(const struct policies_config *config) {
    struct policies *p = mem_zalloc(sizeof *p);
    p->c = *config;
    p->timer = timer_new(config->loop, policies_keep, p);
    return p;
}

void policies_start(struct policies *p) {
    p->started = true;
    timer_start(p->timer, 0);
}

bool policies_stop(struct policies *p) {
    if (!p->stopped) policies_tell(p, true);
    p->stopped = true;
    timer_stop(p->timer);
    return p->jobs == 0;
}

void policies_free(struct policies *p) {
    if (!p) return;
    MUST(p->jobs == 0);
    policies_round_free(p->round);
    struct function_note *note, *next;
    HASH_ITER(hh, p->functions, note, next) {
        HASH_DELETE(hh, p->functions, note);
        free(note->name);
        free(note);
    }
    timer_free(p->timer);
    free(p);
}
