// SPDX-License-Identifier: Apache-2.0
// What the files of the triggers share: the cache, the operations under way, and the SQL. Nobody else includes it.
//
//   trigger.c         the cache, look-ups, loading and following the store
//   trigger_op.c      the life of an operation: its turn, the store, its callback
//   trigger_change.c  add, change, pause, resume, remove
//   trigger_seek.c    seek; lag
//   trigger_public.c  the public JSON, with secrets masked
//   trigger_sql.c     the statements; runs on the store thread
#ifndef CORE_TRIGGER_IMPL_H
#define CORE_TRIGGER_IMPL_H

#include <sys/queue.h>

#include "core/trigger.h"

struct trigger_op;
TAILQ_HEAD(trigger_ops, trigger_op);

struct triggers {
    struct triggers_config config;
    struct trigger *map;        // uthash by name
    bool loaded;
    int64_t revision;           // of the store, that the cache has everything of; -1: none
    struct timer *again;        // a reload failed
    struct trigger_ops ops;     // under way, the oldest first
};

// One call of triggers_*, from its call to its callback. Those of one trigger run one after the other.
struct trigger_op {
    struct triggers *ts;        // NULL: the triggers are gone
    TAILQ_ENTRY(trigger_op) link;
    struct store_job job;
    struct defer defer;
    void (*begin)(struct trigger_op *op);
    bool begun;
    bool beside;                // waits for no other one, and none for it
    struct trigger *draft;      // the name; add and change: what is to be stored; else the row as it was
    json_t *changes;
    char *to;                   // a seek's
    enum trigger_state former;  // a seek: the state before it
    bool raise_epoch;           // a seek came to its end
    int64_t since, revision;    // a load: rows changed after this revision, -1 all; the store's
    int64_t count;              // a load: rows in all
    // What becomes of the row: changes *row, or refuses. On the store thread, perhaps more than once.
    int (*decide)(const struct trigger_op *op, struct trigger *row, struct err *err);
    struct trigger *row;        // as it is in the store now; NULL: it is not
    struct trigger *map;        // what a load read
    struct err err;             // a seek's failure, while the row is put back
    trigger_done_fn *done;      // one of the three, or none
    trigger_json_fn *json_done;
    void (*load_done)(void *arg, int code, const struct err *err);
    void *arg;
};

struct trigger *trigger_new(struct str name, struct str function, struct str kind, json_t *settings); // takes settings over
struct trigger *trigger_copy(const struct trigger *t);
void trigger_free(struct trigger *t);
void trigger_map_free(struct trigger *map);
// The row goes to the cache, and on_change is told.
void triggers_apply(struct triggers *ts, const struct trigger *row);
void triggers_drop(struct triggers *ts, struct str name);

struct trigger_op *trigger_op_new(struct triggers *ts, struct trigger *draft, void (*begin)(struct trigger_op *), void *arg);
void trigger_op_free(struct trigger_op *op);
// Its turn comes at the end of this turn of the loop, or when those of the same trigger that came before it are done.
void trigger_op_start(struct trigger_op *op);
// Calls back and frees. t: for `done`, json: for `json_done`; taken over.
void trigger_op_finish(struct trigger_op *op, int code, const struct err *err, const struct trigger *t, json_t *json);
void trigger_op_fail(struct trigger_op *op, enum err_code code, const char *fmt, ...) printf_like(3, 4);
// True when the triggers went away meanwhile: the op is freed then.
bool trigger_op_is_orphan(struct trigger_op *op);
void trigger_op_to_store(struct trigger_op *op, int (*run)(struct store_job *, struct sql *, struct err *),
                         void (*done)(struct store_job *, int, const struct err *));
// trigger_sql_change with op->decide, then the cache, then the callback.
void trigger_op_change(struct trigger_op *op, int (*decide)(const struct trigger_op *, struct trigger *, struct err *));
// The op's trigger as the cache has it; NULL: the op was failed.
const struct trigger *trigger_op_find(struct trigger_op *op);

// --- SQL; each is one job's whole work -----------------------------------------------------------------------------------
int trigger_sql_load(struct sql *sql, struct trigger_op *op, struct err *err) must_use;   // op->since -> op->map, op->revision, op->count
int trigger_sql_insert(struct sql *sql, struct trigger_op *op, struct err *err) must_use; // op->draft -> op->row
int trigger_sql_change(struct sql *sql, struct trigger_op *op, struct err *err) must_use; // op->decide -> op->row
int trigger_sql_delete(struct sql *sql, struct trigger_op *op, struct err *err) must_use;

#endif
