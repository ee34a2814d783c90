// SPDX-License-Identifier: Apache-2.0
// What the files of the registry share: the cache, the operations under way, and the SQL. Nobody else includes it.
//
//   registry.c         the cache, look-ups, loading and polling
//   registry_change.c  operations that change something: set_current, delete; the life of an operation
//   registry_deploy.c  deploy and prepare: everything that touches the code folders
//   registry_sql.c     the statements; runs on the store thread
#ifndef CORE_REGISTRY_IMPL_H
#define CORE_REGISTRY_IMPL_H

#include <sys/queue.h>

#include "core/registry.h"

struct registry_op;
LIST_HEAD(registry_ops, registry_op);
STAILQ_HEAD(registry_disk, registry_op);

struct registry {
    struct registry_config config;
    char *versions_dir;          // absolute
    struct function *functions;  // uthash by name
    int64_t revision;            // of the store, that the cache shows; 0: never loaded
    bool loading;
    struct timer *poll;          // NULL: the store is ours alone
    struct registry_ops ops;     // under way
    struct registry_disk disk;   // wait for their turn at the code folders; one works at a time
    struct registry_op *at_disk;
    struct version **dying;      // of deleted functions: their code goes when nobody else has them
    size_t dying_count;
    struct timer *reaper;        // runs while there are dying versions
};

// One deploy, prepare, change or removal of a folder, from its call to its callback.
struct registry_op {
    struct registry *r;          // NULL: the registry is gone
    LIST_ENTRY(registry_op) link;
    STAILQ_ENTRY(registry_op) disk_link;
    struct store_job job;
    struct defer defer;
    char *name;
    uint32_t number;
    struct version *version;
    struct settings settings;
    char *settings_json;
    char *archive;
    size_t archive_len;
    char sha256[65];             // "" until known
    char *code_dir;
    bool was_there;              // the code folder, before this op
    bool missing;                // prepare: the code folder
    int64_t revision, fn_created_ms;
    struct function *map;        // what a load read
    struct err err;
    void (*work)(struct registry_op *op);   // on the disk thread
    void (*worked)(struct registry_op *op); // on the loop
    registry_done_fn *done;      // one of the two, or none
    registry_deploy_fn *deployed;
    void *arg;
};

struct registry_op *op_new(struct registry *r, struct str name, registry_done_fn *done, void *arg);
void op_free(struct registry_op *op);
// Calls back and frees. `v` for deploys.
void op_finish(struct registry_op *op, int code, const struct err *err, const struct version *v);
// The same at the end of the turn.
void op_finish_later(struct registry_op *op);
// True when the registry went away meanwhile: the op is freed then.
bool op_is_orphan(struct registry_op *op);
// The op's turn at the code folders: op->work on a thread, then op->worked on the loop.
void op_to_disk(struct registry_op *op);
void op_to_store(struct registry_op *op, int (*run)(struct store_job *, struct sql *, struct err *),
                 void (*done)(struct store_job *, int, const struct err *));
// Removes the code folder when no version and no operation needs it.
void folder_release(struct registry *r, const char *sha256);
void version_bury(struct registry *r, struct version *v); // takes the cache's reference

struct version *version_new(const struct registry *r, struct str function, uint32_t number, struct str sha256,
                            int64_t created_ms);
struct function *function_new(struct str name, uint32_t current, int64_t created_ms);
void function_free(struct function *fn);
void function_add(struct function *fn, struct version *v); // takes the reference
void registry_changed(struct registry *r, struct function *fn);
// Takes note that a change of ours led to this revision; loads when others changed something before it.
void registry_reload(struct registry_op *op);
void registry_drop(struct registry *r, struct function *fn); // from the cache, with on_change

// --- SQL; each is one job's whole work. ERR_NOT_FOUND when the function or version is not there. ----------------------
int registry_sql_revision(struct sql *sql, int64_t *ret, struct err *err) must_use;
// Functions into a uthash map; their versions come with settings and code folder.
int registry_sql_load(struct sql *sql, const struct registry *r, struct function **map, int64_t *ret_revision, struct err *err)
    must_use;
// Reads name, sha256, archive, settings_json and version->created_ms; writes number, revision and fn_created_ms.
int registry_sql_deploy(struct sql *sql, struct registry_op *op, struct err *err) must_use;
int registry_sql_set_current(struct sql *sql, struct registry_op *op, struct err *err) must_use;
int registry_sql_delete(struct sql *sql, struct registry_op *op, struct err *err) must_use;
// Fills op->archive.
int registry_sql_package(struct sql *sql, struct registry_op *op, struct err *err) must_use;

#endif
