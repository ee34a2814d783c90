// SPDX-License-Identifier: Apache-2.0
// An operation on a trigger, from its call to its callback. It begins at the end of the turn at the earliest, so its
// callback never runs inside the call. When the triggers are freed, what is under way becomes an orphan: it ends without
// a callback, when whoever has it (the store, a check, a seek) gives it back.
#include <stdarg.h>

#include "core/trigger_impl.h"

static void on_turn(void *arg) {
    struct trigger_op *op = arg;
    op->begun = true;
    op->begin(op);
}

struct trigger_op *trigger_op_new(struct triggers *ts, struct trigger *draft, void (*begin)(struct trigger_op *), void *arg) {
    struct trigger_op *op = mem_zalloc(sizeof *op);
    *op = (struct trigger_op){.ts = ts, .draft = draft, .begin = begin, .arg = arg};
    op->defer = (struct defer){.fn = on_turn, .arg = op};
    TAILQ_INSERT_TAIL(&ts->ops, op, link);
    return op;
}

void trigger_op_free(struct trigger_op *op) {
    trigger_free(op->draft);
    trigger_free(op->row);
    trigger_map_free(op->map);
    json_decref(op->changes);
    free(op->to);
    free(op);
}

static bool are_alike(const struct trigger_op *a, const struct trigger_op *b) {
    return !a->beside && !b->beside && strcmp(a->draft->name, b->draft->name) == 0;
}

void trigger_op_start(struct trigger_op *op) {
    for (struct trigger_op *before = TAILQ_PREV(op, trigger_ops, link); before; before = TAILQ_PREV(before, trigger_ops, link))
        if (are_alike(before, op)) return;
    loop_defer(op->ts->config.loop, &op->defer);
}

void trigger_op_finish(struct trigger_op *op, int code, const struct err *err, const struct trigger *t, json_t *json) {
    struct trigger_op *next = TAILQ_NEXT(op, link);
    while (next && !are_alike(op, next)) next = TAILQ_NEXT(next, link);
    TAILQ_REMOVE(&op->ts->ops, op, link);
    if (next) trigger_op_start(next);
    op->ts = NULL;
    if (op->done) op->done(op->arg, code, err, code ? NULL : t);
    if (op->load_done) op->load_done(op->arg, code, err);
    if (op->json_done) op->json_done(op->arg, code, err, json);
    else json_decref(json);
    trigger_op_free(op);
}

void trigger_op_fail(struct trigger_op *op, enum err_code code, const char *fmt, ...) {
    struct err err = {.code = code};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err.text, sizeof err.text, fmt, ap); // a truncated message is still a message
    va_end(ap);
    trigger_op_finish(op, code, &err, NULL, NULL);
}

bool trigger_op_is_orphan(struct trigger_op *op) {
    if (op->ts) return false;
    trigger_op_free(op);
    return true;
}

void trigger_op_to_store(struct trigger_op *op, int (*run)(struct store_job *, struct sql *, struct err *),
                         void (*done)(struct store_job *, int, const struct err *)) {
    op->job = (struct store_job){.run = run, .done = done};
    store_submit(op->ts->config.store, &op->job);
}

static int change_run(struct store_job *job, struct sql *sql, struct err *err) {
    return trigger_sql_change(sql, container_of(job, struct trigger_op, job), err);
}

static void change_stored(struct store_job *job, int code, const struct err *err) {
    struct trigger_op *op = container_of(job, struct trigger_op, job);
    if (trigger_op_is_orphan(op)) return;
    if (code == 0) triggers_apply(op->ts, op->row);
    trigger_op_finish(op, code, err, op->row, NULL);
}

void trigger_op_change(struct trigger_op *op, int (*decide)(const struct trigger_op *, struct trigger *, struct err *)) {
    op->decide = decide;
    trigger_op_to_store(op, change_run, change_stored);
}

const struct trigger *trigger_op_find(struct trigger_op *op) {
    const struct trigger *t = triggers_find(op->ts, str_of(op->draft->name));
    if (!t) trigger_op_fail(op, ERR_NOT_FOUND, "there is no trigger %.*s", TRIGGER_NAME_MAX, op->draft->name);
    return t;
}
