// SPDX-License-Identifier: Apache-2.0
// What the files of the registry share: the cache, the operations under way, and the SQL. Nobody else includes it.
//
//   registry.c         the cache, look-ups, loading and polling
//   registry_op.c      the life of an operation, its turns at the disk and the store
//   registry_change.c  deploy, set_current, delete; prepare
//   registry_folder.c  removing code folders that nobody needs
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
    bool loaded;
    struct timer *poll;          // runs when others may change the store, and while there are dying versions
    struct registry_ops ops;     // under way, the newest first
    struct registry_disk disk;   // wait for their turn at the code folders; one works at a time
    struct registry_op *at_disk;
    struct version **dying;      // of deleted functions: their code goes when nobody else has them
    size_t dying_count;
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
    struct version *version;     // one reference
    struct settings settings;
    char *settings_json;
    char *archive;
    size_t archive_len;
    char sha256[65];             // "" until known
    char *versions_dir;          // a copy: the registry may go while a thread works
    char *code_dir;              // NULL until the sum is known
    char *known;                 // a sweep: the sums of all versions, one after the other
    bool is_deploy, begun;       // a deploy that has not begun waits for another one of the same function
    bool make_current;           // a deploy
    bool was_there;              // a deploy: the code folder, before it
    bool missing;                // a prepare: found no code folder
    bool (*needed)(struct registry_op *op); // asked when its turn at the disk comes; NULL: yes
    int64_t revision, fn_created_ms;
    struct function *map;        // what a load read
    struct err err;              // what a check or the disk thread found wrong; ERR_OK: nothing
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
// Begins the oldest waiting deploy of this function when none is under way.
void deploy_next(struct registry *r, const char *name);
// Removes the code folder when no version and no operation needs it.
void folder_release(struct registry *r, const char *sha256);
// Removes the folders that a crash left.
void folder_sweep(struct registry *r);

struct version *version_new(const char *versions_dir, struct str function, uint32_t number, struct str sha256,
                            int64_t created_ms); // with default settings
struct function *function_new(struct str name, uint32_t current, int64_t created_ms);
void function_free(struct function *fn);
void function_map_free(struct function *map);
void function_add(struct function *fn, struct version *v); // takes the reference; by ascending number
// Reads everything again, merges it into the cache, and finishes the op.
void registry_reload(struct registry_op *op);

// --- SQL; each is one job's whole work. ERR_NOT_FOUND when the function or version is not there. ----------------------
int registry_sql_revision(struct sql *sql, int64_t *ret, struct err *err) must_use;
// Fills op->map and op->revision.
int registry_sql_load(struct sql *sql, struct registry_op *op, struct err *err) must_use;
// Reads name, sha256, archive, settings_json, make_current and version->created_ms; writes number, revision and fn_created_ms.
int registry_sql_deploy(struct sql *sql, struct registry_op *op, struct err *err) must_use;
int registry_sql_set_current(struct sql *sql, struct registry_op *op, struct err *err) must_use;
int registry_sql_delete(struct sql *sql, struct registry_op *op, struct err *err) must_use;
// Fills op->archive.
int registry_sql_package(struct sql *sql, struct registry_op *op, struct err *err) must_use;

#endif
