// SPDX-License-Identifier: Apache-2.0
// What changes the registry: deploy, set_current, delete; and prepare, which only changes this node's disk.
//
// A deploy: sum and unpack (disk) -> check (an instance loads it) -> store -> reload -> callback. Whatever fails on the way
// leaves nothing behind: the store is last, and a folder that this deploy made goes when nothing else needs it.
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/digest.h"
#include "core/package.h"
#include "core/registry_impl.h"

// --- deploy -----------------------------------------------------------------------------------------------------------

static void deploy_fail(struct registry_op *op, int code, const struct err *err) {
    struct registry *r = op->r;
    char sha256[65];
    memcpy(sha256, op->sha256, sizeof sha256);
    bool made = !op->was_there;
    op_finish(op, code, err, NULL);
    if (made) folder_release(r, sha256);
}

// An exec handler is a file of the package that must be executable; a Python one names a function, which is no file.
static const char *exec_handler(const struct settings *s) {
    return strcmp(s->runtime, "exec") == 0 ? s->handler : NULL;
}

static void unpack_into(struct registry_op *op, const struct settings *s) {
    struct str archive = {op->archive, op->archive_len};
    struct err err;
    if (package_unpack(archive, op->code_dir, exec_handler(s), &err)) op->err = err;
}

static void deploy_work(struct registry_op *op) {
    digest_sha256_hex((struct str){op->archive, op->archive_len}, op->sha256);
    op->code_dir = mem_printf("%s/%s", op->versions_dir, op->sha256);
    op->was_there = access(op->code_dir, F_OK) == 0;
    unpack_into(op, &op->settings);
}

static int deploy_run(struct store_job *job, struct sql *sql, struct err *err) {
    return registry_sql_deploy(sql, container_of(job, struct registry_op, job), err);
}

static void deploy_stored(struct store_job *job, int code, const struct err *err) {
    struct registry_op *op = container_of(job, struct registry_op, job);
    if (op_is_orphan(op)) return;
    if (code) {
        deploy_fail(op, code, err);
        return;
    }
    log_info("registry", "deployed", LOG_STR("function", op->name), LOG_INT("version", op->number), LOG_STR("sha256", op->sha256));
    registry_reload(op);
}

static void on_checked(void *arg, int code, const struct err *err) {
    struct registry_op *op = arg;
    if (op_is_orphan(op)) return;
    if (code) deploy_fail(op, code, err);
    else op_to_store(op, deploy_run, deploy_stored);
}

static bool is_same(const struct version *v, const struct registry_op *op) {
    if (strcmp(v->sha256, op->sha256) != 0) return false;
    cleanup_free char *theirs = settings_to_json(&v->settings);
    return strcmp(theirs, op->settings_json) == 0;
}

// The version that makes the deploy needless; NULL: none.
static struct version *same_version(const struct registry_op *op) {
    const struct function *fn = registry_find(op->r, str_of(op->name));
    for (size_t i = fn ? fn->version_count : 0; i-- > 0;) {
        struct version *v = fn->versions[i];
        if (op->make_current ? v->number == fn->current && is_same(v, op) : is_same(v, op)) return v;
    }
    return NULL;
}

static void deploy_unpacked(struct registry_op *op) {
    struct registry *r = op->r;
    if (op->err.code) {
        deploy_fail(op, op->err.code, &op->err);
        return;
    }
    op->settings_json = settings_to_json(&op->settings);
    struct version *same = same_version(op);
    if (same) {
        op_finish(op, 0, &op->err, same);
        return;
    }
    struct function *fn = registry_find(r, str_of(op->name));
    uint32_t next = fn && fn->version_count ? fn->versions[fn->version_count - 1]->number + 1 : 1;
    op->version = version_new(op->versions_dir, str_of(op->name), next, str_of(op->sha256), clock_unix_ms());
    settings_done(&op->version->settings);
    settings_copy(&op->version->settings, &op->settings);
    if (r->config.check) r->config.check(r->config.check_arg, op->version, on_checked, op);
    else on_checked(op, 0, NULL);
}

static void deploy_begin(struct registry_op *op) {
    op->begun = true;
    op->work = deploy_work;
    op->worked = deploy_unpacked;
    op_to_disk(op);
}

void deploy_next(struct registry *r, const char *name) {
    struct registry_op *op, *oldest = NULL;
    LIST_FOREACH(op, &r->ops, link) {
        if (!op->is_deploy || op->err.code || strcmp(op->name, name) != 0) continue;
        if (op->begun) return;
        oldest = op;
    }
    if (oldest) deploy_begin(oldest);
}

static int deploy_check(struct str name, const struct registry_op *op, struct err *err) {
    int rc = function_name_check(name, err);
    if (rc == 0) rc = settings_check(&op->settings, err);
    if (rc == 0 && op->archive_len == 0) rc = err_set(err, ERR_INVALID, "the package is empty");
    return rc;
}

void registry_deploy(struct registry *r, struct str name, struct settings *settings, char *archive, size_t archive_len,
                     bool make_current, registry_deploy_fn *done, void *arg) {
    struct registry_op *op = op_new(r, name, NULL, arg);
    op->deployed = done;
    op->settings = *settings; // taken over
    *settings = (struct settings){0};
    op->archive = archive;
    op->archive_len = archive_len;
    op->is_deploy = true;
    op->make_current = make_current;
    if (deploy_check(name, op, &op->err)) op_finish_later(op);
    else deploy_next(r, op->name);
}

// --- set_current, delete ------------------------------------------------------------------------------------------------

static void change_stored(struct store_job *job, int code, const struct err *err) {
    struct registry_op *op = container_of(job, struct registry_op, job);
    if (op_is_orphan(op)) return;
    if (code) op_finish(op, code, err, NULL);
    else registry_reload(op);
}

// A name that cannot be one goes no further: the store would read it up to its first NUL.
static void change(struct registry_op *op, struct str name, int (*run)(struct store_job *, struct sql *, struct err *)) {
    if (function_name_check(name, NULL)) {
        err_set(&op->err, ERR_NOT_FOUND, "there is no function of that name");
        op_finish_later(op);
        return;
    }
    op_to_store(op, run, change_stored);
}

static int set_current_run(struct store_job *job, struct sql *sql, struct err *err) {
    return registry_sql_set_current(sql, container_of(job, struct registry_op, job), err);
}

void registry_set_current(struct registry *r, struct str name, uint32_t number, registry_done_fn *done, void *arg) {
    struct registry_op *op = op_new(r, name, done, arg);
    op->number = number;
    change(op, name, set_current_run);
}

static int delete_run(struct store_job *job, struct sql *sql, struct err *err) {
    return registry_sql_delete(sql, container_of(job, struct registry_op, job), err);
}

void registry_delete(struct registry *r, struct str name, registry_done_fn *done, void *arg) {
    change(op_new(r, name, done, arg), name, delete_run);
}

// --- prepare ------------------------------------------------------------------------------------------------------------

static void prepare_done(struct registry_op *op) {
    op->version->prepared = op->err.code == ERR_OK;
    op_finish(op, op->err.code, &op->err, NULL);
}

static void unpack_work(struct registry_op *op) {
    char sum[DIGEST_HEX_BYTES];
    digest_sha256_hex((struct str){op->archive, op->archive_len}, sum);
    if (strcmp(sum, op->sha256) != 0) err_set(&op->err, ERR_CORRUPT, "the stored package %s has another sum", op->sha256);
    else unpack_into(op, &op->version->settings);
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
    op->worked = prepare_done;
    op_to_disk(op);
}

// A folder that is there may be another version's: then this one's handler is made executable now.
static void look_work(struct registry_op *op) {
    op->missing = access(op->code_dir, F_OK) != 0;
    if (!op->missing) unpack_into(op, &op->version->settings);
}

static void on_looked(struct registry_op *op) {
    if (op->missing) op_to_store(op, package_run, package_read);
    else prepare_done(op);
}

void registry_prepare(struct registry *r, struct version *v, registry_done_fn *done, void *arg) {
    struct registry_op *op = op_new(r, str_of(v->function), done, arg);
    op->version = version_ref(v);
    op->code_dir = mem_strdup(v->code_dir);
    memcpy(op->sha256, v->sha256, sizeof op->sha256);
    op->work = look_work;
    op->worked = on_looked;
    if (v->prepared) op_finish_later(op);
    else op_to_disk(op);
}
