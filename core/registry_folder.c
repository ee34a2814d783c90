// SPDX-License-Identifier: Apache-2.0
// Removing code folders: that of a version that is gone, that of a deploy that failed, and what a crash left.
//
// Invariant: whether a folder is needed is asked when the removal has its turn at the disk, and a deploy knows its sum
// when its own turn is over: so no folder goes away under a deploy that found it there.
#include "core/base/buf.h"
#include "core/base/log.h"
#include "core/package.h"
#include "core/registry_impl.h"

static bool has_sum(const struct function *fn, const char *sha256) {
    for (size_t i = 0; i < fn->version_count; i++)
        if (strcmp(fn->versions[i]->sha256, sha256) == 0) return true;
    return false;
}

static bool is_unneeded(struct registry_op *removal) {
    const struct registry *r = removal->r;
    for (const struct function *fn = r->functions; fn; fn = fn->hh.next)
        if (has_sum(fn, removal->sha256)) return false;
    for (size_t i = 0; i < r->dying_count; i++)
        if (strcmp(r->dying[i]->sha256, removal->sha256) == 0) return false;
    const struct registry_op *op;
    LIST_FOREACH(op, &r->ops, link) {
        if (op->needed == is_unneeded) continue; // another removal
        if (strcmp(op->sha256, removal->sha256) == 0) return false;
    }
    return true;
}

static void remove_work(struct registry_op *op) {
    struct err err;
    if (package_remove(op->code_dir, &err)) log_warn("registry", "cannot remove code", LOG_STR("error", err.text));
}

static void just_finish(struct registry_op *op) {
    op_finish(op, 0, &op->err, NULL);
}

void folder_release(struct registry *r, const char *sha256) {
    struct registry_op *op = op_new(r, STR_NONE, NULL, NULL);
    memcpy(op->sha256, sha256, sizeof op->sha256);
    op->code_dir = mem_printf("%s/%s", r->versions_dir, sha256);
    op->needed = is_unneeded;
    op->work = remove_work;
    op->worked = just_finish;
    op_to_disk(op);
}

static bool is_known(void *arg, const char *name) {
    const struct registry_op *op = arg;
    return strlen(name) != 64 || strstr(op->known, name); // what else is in the folder is not ours
}

static void sweep_work(struct registry_op *op) {
    package_sweep(op->versions_dir, is_known, op);
}

void folder_sweep(struct registry *r) {
    struct buf known;
    buf_init(&known, SIZE_MAX / 2);
    int rc = 0;
    for (const struct function *fn = r->functions; fn; fn = fn->hh.next)
        for (size_t i = 0; i < fn->version_count; i++) rc |= buf_append(&known, str_of(fn->versions[i]->sha256));
    MUST(rc == 0);
    struct registry_op *op = op_new(r, STR_NONE, NULL, NULL);
    op->known = buf_take(&known, NULL);
    op->work = sweep_work;
    op->worked = just_finish;
    op_to_disk(op);
}
