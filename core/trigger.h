// SPDX-License-Identifier: Apache-2.0
// The triggers of this installation: rows that bind a source to a function, kept in the store and cached.
//
// Owns: the cache. Does not: know what a kind's settings mean; triggers/ does, through the callbacks of the config. Flow:
//   triggers_add = check (spelling, then the network) -> store -> cache -> on_change -> done. Other nodes see changes when they
//   poll the revision of the store (the same one as core/registry's, once a second). Operations on one trigger run one after
//   the other. A trigger keeps its object in the cache while it exists.
// Threads: the loop's. Blocking: never. Memory: TRIGGERS_MAX rows, TRIGGER_SETTINGS_MAX bytes each.
// Errors: ERR_NOT_FOUND, ERR_CONFLICT (name taken), ERR_INVALID, and the store's. Secrets in settings (passwords in URLs,
//   sasl.password, …) leave the module masked: trigger_public_json.
#ifndef CORE_TRIGGER_H
#define CORE_TRIGGER_H

#include <jansson.h>
#include <uthash.h>

#include "core/base/loop.h"
#include "core/store.h"

#define TRIGGER_NAME_MAX 100 // letters, digits, . _ and -
#define TRIGGERS_MAX 100000
#define TRIGGER_SETTINGS_MAX 65536

// X(name, word)
#define TRIGGER_STATES(X)                                           \
    X(TRIGGER_ACTIVE, "active")                                     \
    X(TRIGGER_PAUSED, "paused")                                     \
    X(TRIGGER_SEEKING, "seeking") /* stopped everywhere until its offsets are set */
enum trigger_state {
#define X(name, word) name,
    TRIGGER_STATES(X)
#undef X
};
const char *trigger_state_word(enum trigger_state s);

struct trigger {
    char *name;             // unique in the installation
    char *function;
    char *kind;             // "kafka", "amqp", later "timer", …
    json_t *settings;       // object of strings, as given and completed by check
    enum trigger_state state;
    uint64_t epoch;         // raised by each seek
    int64_t created_ms, changed_ms;
    UT_hash_handle hh;      // by name
};
json_t *trigger_public_json(const struct trigger *t) must_use; // {"name","function","kind","state","settings","createdMs","changedMs"}
char *trigger_mask_setting(const char *name, const char *value) must_use; // as it may be shown; caller frees

typedef void trigger_done_fn(void *arg, int code, const struct err *err, const struct trigger *t); // t: NULL on error and after remove
typedef void trigger_json_fn(void *arg, int code, const struct err *err, json_t *result);          // owns result

struct triggers;
struct triggers_config {
    struct loop *loop;
    struct store *store;
    void *arg; // of the callbacks:
    // Does the function exist? For add.
    bool (*function_exists)(void *arg, struct str function);
    // Is it a good trigger? Completes settings (defaults that must not change later, such as the group); done runs later, once.
    // `dry` settings errors come first, then the network is tried unless settings say check=off.
    void (*check)(void *arg, const struct trigger *draft, void (*done)(void *done_arg, int code, const struct err *err), void *done_arg);
    // It came or changed; t is NULL when it went. Begins with every trigger that there is, right after triggers_load's done.
    void (*on_change)(void *arg, struct str name, const struct trigger *t);
    // The default name of a new one, malloc'ed: "kafka-<topic>".
    char *(*default_name)(void *arg, const struct trigger *draft);
    // {"source":…,"binding":…}; "trigger" and "state" are added here. t is valid until fn was called, as seek's is until done.
    void (*lag)(void *arg, const struct trigger *t, trigger_json_fn *fn, void *fn_arg);
    // Sets the offsets; every node has stopped consuming or is about to. done runs later, once.
    void (*seek)(void *arg, const struct trigger *t, const char *to, void (*done)(void *done_arg, int code, const struct err *err), void *done_arg);
    size_t max; // of triggers; 0: TRIGGERS_MAX
};

struct triggers *triggers_new(const struct triggers_config *config) must_use;
// What is under way ends without its callback, when check, seek or lag give it back. Before the store is closed.
void triggers_free(struct triggers *t);
void triggers_load(struct triggers *t, void (*done)(void *arg, int code, const struct err *err), void *arg);
// The store's revision changed (core/registry says so): read the rows again, tell the differences.
void triggers_reload(struct triggers *t);

const struct trigger *triggers_find(const struct triggers *t, struct str name);

struct trigger_filter {
    struct str function, kind; // empty: any
    int state;                 // enum trigger_state; -1: any
};
// A page by name, byte by byte: the first `most` (1 or more) of those that fit and stand behind the name `after`, which need not be there;
// empty: from the first on. Looks at every trigger, whatever the page. The array is the caller's to free, the triggers are not.
const struct trigger **triggers_page(const struct triggers *t, const struct trigger_filter *filter, struct str after, size_t most,
                                     size_t *ret_count) must_use;

// The done callbacks never run inside the call. name "" takes the default one; settings is taken over.
void triggers_add(struct triggers *t, struct str name, struct str function, struct str kind, json_t *settings, trigger_done_fn *done, void *arg);
// Changes settings that are in `changes` (taken over; null removes one): check, store, on_change. A masked value as
// trigger_public_json shows it stands for the value that is there.
void triggers_change(struct triggers *t, struct str name, json_t *changes, trigger_done_fn *done, void *arg);
void triggers_pause(struct triggers *t, struct str name, trigger_done_fn *done, void *arg);
// Also ends a seek that was left behind; the epoch rises then, since nobody knows whether it set the offsets.
void triggers_resume(struct triggers *t, struct str name, trigger_done_fn *done, void *arg);
void triggers_remove(struct triggers *t, struct str name, trigger_done_fn *done, void *arg);
// state seeking -> config.seek -> epoch + 1 and the state before; when config.seek fails, the same epoch. `to` as
// `weir trigger seek` takes it: earliest, latest, RFC 3339 time, offset:P=N[,P=N].
void triggers_seek(struct triggers *t, struct str name, struct str to, trigger_done_fn *done, void *arg);
void triggers_lag(struct triggers *t, struct str name, trigger_json_fn *fn, void *arg);
// A function was deleted, and its triggers' rows with it: on_change(NULL) for each.
void triggers_function_gone(struct triggers *t, struct str function);

#endif
