// SPDX-License-Identifier: Apache-2.0
// An operation of the registry, from its call to its callback. Its callback never runs inside the call. When the registry
// is freed, what is under way becomes an orphan: it ends without a callback.
#include "core/offload.h"
#include "core/registry_impl.h"

static void on_defer(void *arg) {
    struct registry_op *op = arg;
    op_finish(op, op->err.code, &op->err, op->version);
}

struct registry_op *op_new(struct registry *r, struct str name, registry_done_fn *done, void *arg) {
    struct registry_op *op = mem_zalloc(sizeof *op);
    *op = (struct registry_op){
        .r = r, .name = mem_strndup(name), .versions_dir = mem_strdup(r->versions_dir), .done = done, .arg = arg};
    op->defer = (struct defer){.fn = on_defer, .arg = op};
    LIST_INSERT_HEAD(&r->ops, op, link);
    return op;
}

void op_free(struct registry_op *op) {
    if (op->r) LIST_REMOVE(op, link);
    version_unref(op->version);
    settings_done(&op->settings);
    function_map_free(op->map);
    free(op->name);
    free(op->settings_json);
    free(op->archive);
    free(op->versions_dir);
    free(op->code_dir);
    free(op->known);
    free(op);
}

void op_finish(struct registry_op *op, int code, const struct err *err, const struct version *v) {
    LIST_REMOVE(op, link);
    if (op->is_deploy) deploy_next(op->r, op->name);
    op->r = NULL;
    if (op->done) op->done(op->arg, code, err);
    if (op->deployed) op->deployed(op->arg, code, err, code ? NULL : v);
    op_free(op);
}

void op_finish_later(struct registry_op *op) {
    loop_defer(op->r->config.loop, &op->defer);
}

bool op_is_orphan(struct registry_op *op) {
    if (op->r) return false;
    op_free(op);
    return true;
}

// --- the disk -------------------------------------------------------------------------------------------------------
// One op at a time, so that no folder is removed while another op has just found it there.

static void next_at_disk(struct registry *r);

static void do_work(void *arg) {
    struct registry_op *op = arg;
    op->work(op);
}

static void on_worked(void *arg) {
    struct registry_op *op = arg;
    if (op_is_orphan(op)) return;
    struct registry *r = op->r;
    r->at_disk = NULL;
    op->worked(op);
    next_at_disk(r);
}

static void next_at_disk(struct registry *r) {
    struct registry_op *op;
    while (!r->at_disk && (op = STAILQ_FIRST(&r->disk))) {
        STAILQ_REMOVE_HEAD(&r->disk, disk_link);
        if (op->needed && !op->needed(op)) {
            op_finish(op, 0, &op->err, NULL);
            continue;
        }
        r->at_disk = op;
        offload_run(r->config.loop, do_work, on_worked, op);
    }
}

void op_to_disk(struct registry_op *op) {
    STAILQ_INSERT_TAIL(&op->r->disk, op, disk_link);
    next_at_disk(op->r);
}

// --- the store ------------------------------------------------------------------------------------------------------

void op_to_store(struct registry_op *op, int (*run)(struct store_job *, struct sql *, struct err *),
                 void (*done)(struct store_job *, int, const struct err *)) {
    op->job = (struct store_job){.run = run, .done = done};
    store_submit(op->r->config.store, &op->job);
}
