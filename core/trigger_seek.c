// SPDX-License-Identifier: Apache-2.0
// Seek: stop everywhere, set the offsets, go on. The state `seeking` in the store is what stops the other nodes; whoever
// sets the offsets waits until the group is empty. A server that dies in between leaves it, and resume ends it.
// And lag, which changes nothing and so waits for nothing.
#include "core/base/log.h"
#include "core/trigger_impl.h"

#define SEEK_TO_MAX 10000

// --- where to -----------------------------------------------------------------------------------------------------------

static size_t digits(const char *s) {
    return strspn(s, "0123456789");
}

// 2026-11-20, 2026-11-20T00:00Z, 2026-11-20T00:00:00.000+01:00: the form only; the source's reader knows the calendar.
static bool looks_like_time(const char *s) {
    return digits(s) == 4 && s[4] == '-' && digits(s + 5) == 2 && s[7] == '-' && digits(s + 8) == 2;
}

static bool is_offset_list(const char *s) {
    for (;; s++) {
        size_t n = digits(s);
        if (n == 0 || n > 9 || s[n] != '=') return false;
        s += n + 1;
        n = digits(s);
        if (n == 0 || n > 18) return false;
        s += n;
        if (*s != ',') return *s == '\0';
    }
}

static int seek_check(const char *to, struct err *err) {
    if (strlen(to) <= SEEK_TO_MAX) {
        if (strcmp(to, "earliest") == 0 || strcmp(to, "latest") == 0 || looks_like_time(to)) return 0;
        if (strncmp(to, "offset:", 7) == 0 && is_offset_list(to + 7)) return 0;
    }
    return err_set(err, ERR_INVALID,
                   "'%.60s' is no place to seek to: give earliest, latest, a time like 2026-11-20T00:00Z, or offset:PARTITION=OFFSET "
                   "with more PARTITION=OFFSET behind commas", to);
}

// --- seek ---------------------------------------------------------------------------------------------------------------

static int decide_end(const struct trigger_op *op, struct trigger *row, struct err *err) {
    if (row->state != TRIGGER_SEEKING || row->epoch != op->draft->epoch || row->created_ms != op->draft->created_ms)
        return err_set(err, ERR_CONFLICT, "trigger %s is %s: somebody ended this seek; look with weir trigger lag %s where it stands",
                       row->name, trigger_state_word(row->state), row->name);
    row->state = op->former;
    if (op->raise_epoch) row->epoch++;
    return 0;
}

static int end_run(struct store_job *job, struct sql *sql, struct err *err) {
    return trigger_sql_change(sql, container_of(job, struct trigger_op, job), err);
}

// The seek's own failure is the news; that the state could not be put back is seen in the listing.
static void end_stored(struct store_job *job, int code, const struct err *err) {
    struct trigger_op *op = container_of(job, struct trigger_op, job);
    if (trigger_op_is_orphan(op)) return;
    if (code == 0) triggers_apply(op->ts, op->row);
    else log_warn("trigger", "a seek could not be ended: resume ends it", LOG_STR("trigger", op->draft->name), LOG_STR("error", err->text));
    bool failed = op->err.code != ERR_OK;
    trigger_op_finish(op, failed ? (int)op->err.code : code, failed ? &op->err : err, op->row, NULL);
}

static void on_sought(void *arg, int code, const struct err *err) {
    struct trigger_op *op = arg;
    if (trigger_op_is_orphan(op)) return;
    if (code) op->err = *err;
    op->raise_epoch = code == 0;
    op->decide = decide_end;
    trigger_op_to_store(op, end_run, end_stored);
}

static int decide_seeking(const struct trigger_op *op, struct trigger *row, struct err *err) {
    if (row->state == TRIGGER_SEEKING)
        return err_set(err, ERR_CONFLICT, "trigger %s is seeking already: wait for that, or end it with weir trigger resume %s",
                       row->name, row->name);
    if (row->state != op->draft->state)
        return err_set(err, ERR_CONFLICT, "trigger %s is %s since a moment ago: try again", row->name, trigger_state_word(row->state));
    row->state = TRIGGER_SEEKING;
    return 0;
}

static int seeking_run(struct store_job *job, struct sql *sql, struct err *err) {
    return trigger_sql_change(sql, container_of(job, struct trigger_op, job), err);
}

// From here on draft is the row while it seeks: what is given to the source, and what must be there at the end.
static void seeking_stored(struct store_job *job, int code, const struct err *err) {
    struct trigger_op *op = container_of(job, struct trigger_op, job);
    if (trigger_op_is_orphan(op)) return;
    struct triggers *ts = op->ts;
    if (code) {
        trigger_op_finish(op, code, err, NULL, NULL);
        return;
    }
    op->former = op->draft->state;
    trigger_free(op->draft);
    op->draft = TAKE_PTR(op->row);
    triggers_apply(ts, op->draft);
    struct err none;
    if (ts->config.seek) ts->config.seek(ts->config.arg, op->draft, op->to, on_sought, op);
    else on_sought(op, err_set(&none, ERR_INVALID, "this server cannot seek"), &none);
}

static void begin_seek(struct trigger_op *op) {
    struct err err;
    const struct trigger *t = trigger_op_find(op);
    if (!t) return;
    int rc = seek_check(op->to, &err);
    if (rc) {
        trigger_op_finish(op, rc, &err, NULL, NULL);
        return;
    }
    trigger_free(op->draft);
    op->draft = trigger_copy(t);
    op->decide = decide_seeking;
    trigger_op_to_store(op, seeking_run, seeking_stored);
}

void triggers_seek(struct triggers *ts, struct str name, struct str to, trigger_done_fn *done, void *arg) {
    struct trigger_op *op = trigger_op_new(ts, trigger_new(name, STR_NONE, STR_NONE, json_object()), begin_seek, arg);
    op->done = done;
    op->to = mem_strndup(to);
    trigger_op_start(op);
}

// --- lag ----------------------------------------------------------------------------------------------------------------

static void on_lag(void *arg, int code, const struct err *err, json_t *result) {
    struct trigger_op *op = arg;
    if (!op->ts) json_decref(result);
    if (trigger_op_is_orphan(op)) return;
    if (code) {
        json_decref(result);
        trigger_op_finish(op, code, err, NULL, NULL);
        return;
    }
    json_t *lag = json_pack("{s:s, s:s}", "trigger", op->draft->name, "state", trigger_state_word(op->draft->state));
    MUST(lag && json_object_update(lag, result) == 0);
    json_decref(result);
    trigger_op_finish(op, 0, NULL, NULL, lag);
}

static void begin_lag(struct trigger_op *op) {
    struct triggers *ts = op->ts;
    const struct trigger *t = trigger_op_find(op);
    if (!t) return;
    trigger_free(op->draft);
    op->draft = trigger_copy(t);
    if (ts->config.lag) ts->config.lag(ts->config.arg, op->draft, on_lag, op);
    else on_lag(op, 0, NULL, json_pack("{s:n, s:n}", "source", "binding"));
}

void triggers_lag(struct triggers *ts, struct str name, trigger_json_fn *fn, void *arg) {
    struct trigger_op *op = trigger_op_new(ts, trigger_new(name, STR_NONE, STR_NONE, json_object()), begin_lag, arg);
    op->json_done = fn;
    op->beside = true;
    trigger_op_start(op);
}
