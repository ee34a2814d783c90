// SPDX-License-Identifier: Apache-2.0
// What changes the registry: deploy, set_current, delete; and prepare, which only changes this node's disk.
//
// A deploy: sum and unpack (disk) -> check (an instance loads it) -> store -> reload -> callback. When it fails, the folder
// is removed again unless somebody else has the same code.
#include <unistd.h>

#include "core/base/clock.h"
#include "core/digest.h"
#include "core/package.h"
#include "core/registry_impl.h"

// --- code folders -----------------------------------------------------------------------------------------------------

static bool is_used(const struct registry *r, const char *sha256, const struct registry_op *except) {
    for (const struct function *fn = r->functions; fn; fn = fn->hh.next)
        for (size_t i = 0; i < fn->version_count; i++)
            if (strcmp(fn->versions[i]->sha256, sha256) == 0) return true;
    for (size_t i = 0; i < r->dying_count; i++)
        if (strcmp(r->dying[i]->sha256, sha256) == 0 && r->dying[i]->refs > 1) return true;
    const struct registry_op *op;
    LIST_FOREACH(op, &r->ops, link)
    if (op != except && strcmp(op->sha256, sha256) == 0) return true;
    return false;
}

static void remove_work(struct registry_op *op) {
    if (package_remove(op->code_dir, &op->err)) return;
}

static void remove_worked(struct registry_op *op) {
    op_finish(op, 0, &op->err, NULL);
}

static void release_folder(struct registry *r, const char *sha256, const struct registry_op *except) {
    if (!sha256[0] || is_used(r, sha256, except)) return;
    struct registry_op *op = op_new(r, STR_NONE, NULL, NULL);
    op->code_dir = mem_printf("%s/%s", r->versions_dir, sha256);
    op->work = remove_work;
    op->worked = remove_worked;
    op_to_disk(op);
}

void folder_release(struct registry *r, const char *sha256) {
    release_folder(r, sha256, NULL);
}

// --- deploy -----------------------------------------------------------------------------------------------------------

static void deploy_fail(struct registry_op *op, int code, const struct err *err) {
    release_folder(op->r, op->sha256, op);
    op_finish(op, code, err, NULL);
}

// An exec handler is a file of the package that must be executable; a Python one names a function, which is no file.
static void unpack_work(struct registry_op *op) {
    struct str archive = {op->archive, op->archive_len};
    if (!op->sha256[0]) digest_sha256_hex(archive, op->sha256);
    if (!op->code_dir) op->code_dir = mem_printf("%s/%s", op->r->versions_dir, op->sha256);
    const struct settings *s = op->version ? &op->version->settings : &op->settings;
    const char *file = strcmp(s->runtime, "exec") == 0 ? s->handler : NULL;
    if (package_unpack(archive, op->code_dir, file, &op->err)) return;
}

static int deploy_run(struct store_job *job, struct sql *sql, struct err *err) {
    return registry_sql_deploy(sql, container_of(job, struct registry_op, job), err);
}

static void deploy_stored(struct store_job *job, int code, const struct err *err) {
    struct registry_op *op = container_of(job, struct registry_op, job);
    if (op_is_orphan(op)) return;
    if (code) deploy_fail(op, code, err);
    else registry_reload(op);
}

static void on_checked(void *arg, int code, const struct err *err) {
    struct registry_op *op = arg;
    if (op_is_orphan(op)) return;
    if (code) deploy_fail(op, code, err);
    else op_to_store(op, deploy_run, deploy_stored);
}

static struct version *same_as_current(const struct registry_op *op) {
    struct function *fn = registry_find(op->r, str_of(op->name));
    struct version *v = fn ? function_version(fn, fn->current) : NULL;
    if (!v || strcmp(v->sha256, op->sha256) != 0) return NULL;
    cleanup_free char *theirs = settings_to_json(&v->settings);
    return strcmp(theirs, op->settings_json) == 0 ? v : NULL;
}

static void deploy_unpacked(struct registry_op *op) {
    struct registry *r = op->r;
    if (op->err.code) {
        deploy_fail(op, op->err.code, &op->err);
        return;
    }
    struct version *current = same_as_current(op);
    if (current) {
        op_finish(op, 0, &op->err, current);
        return;
    }
    struct function *fn = registry_find(r, str_of(op->name));
    uint32_t next = fn && fn->version_count ? fn->versions[fn->version_count - 1]->number + 1 : 1;
    op->version = version_new(r, str_of(op->name), next, str_of(op->sha256), clock_unix_ms());
    settings_copy(&op->version->settings, &op->settings);
    if (r->config.check) r->config.check(r->config.check_arg, op->version, on_checked, op);
    else op_to_store(op, deploy_run, deploy_stored);
}

void registry_deploy(struct registry *r, struct str name, struct settings *settings, char *archive, size_t archive_len,
                     registry_deploy_fn *done, void *arg) {
    struct registry_op *op = op_new(r, name, NULL, arg);
    op->deployed = done;
    op->settings = *settings; // taken over
    op->archive = archive;
    op->archive_len = archive_len;
    int rc = function_name_check(name, &op->err);
    if (rc == 0 && (!op->settings.runtime || !op->settings.runtime[0]))
        rc = err_set(&op->err, ERR_INVALID, "the settings name no runtime, such as python or exec");
    if (rc == 0 && (!op->settings.handler || !op->settings.handler[0]))
        rc = err_set(&op->err, ERR_INVALID, "the settings name no handler, such as hello.main_handler");
    if (rc) {
        op_finish_later(op);
        return;
    }
    op->settings_json = settings_to_json(&op->settings);
    op->work = unpack_work;
    op->worked = deploy_unpacked;
    op_to_disk(op);
}

// --- set_current, delete ------------------------------------------------------------------------------------------------

static void change_stored(struct store_job *job, int code, const struct err *err) {
    struct registry_op *op = container_of(job, struct registry_op, job);
    if (op_is_orphan(op)) return;
    if (code) op_finish(op, code, err, NULL);
    else registry_reload(op);
}

static int set_current_run(struct store_job *job, struct sql *sql, struct err *err) {
    return registry_sql_set_current(sql, container_of(job, struct registry_op, job), err);
}

void registry_set_current(struct registry *r, struct str name, uint32_t number, registry_done_fn *done, void *arg) {
    struct registry_op *op = op_new(r, name, done, arg);
    op->number = number;
    op_to_store(op, set_current_run, change_stored);
}

static int delete_run(struct store_job *job, struct sql *sql, struct err *err) {
    return registry_sql_delete(sql, container_of(job, struct registry_op, job), err);
}

void registry_delete(struct registry *r, struct str name, registry_done_fn *done, void *arg) {
    op_to_store(op_new(r, name, done, arg), delete_run, change_stored);
}

// --- prepare ------------------------------------------------------------------------------------------------------------

static void prepare_unpacked(struct registry_op *op) {
    op_finish(op, op->err.code, &op->err, NULL);
}

static int package_run(struct store_job *job, struct sql *sql, struct err *err) {
    return registry_sql_package(sql, container_of(job, struct registry_op, job), err);
}

static void package_read(struct store_job *job, int code, const struct err *err) {
    struct registry_op *op = container_of(job, struct registry_op, job);
    if (op_is_orphan(op)) return;
    if (code) {
        op_finish(op, code, err, NULL);
        return;
    }
    op->work = unpack_work;
    op->worked = prepare_unpacked;
    op_to_disk(op);
}

void registry_prepare(struct registry *r, struct version *v, registry_done_fn *done, void *arg) {
    struct registry_op *op = op_new(r, str_of(v->function), done, arg);
    op->version = version_ref(v);
    op->code_dir = mem_strdup(v->code_dir);
    memcpy(op->sha256, v->sha256, sizeof op->sha256);
    if (access(v->code_dir, R_OK) == 0) op_finish_later(op);
    else op_to_store(op, package_run, package_read);
}
