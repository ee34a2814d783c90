// SPDX-License-Identifier: Apache-2.0
// The functions of this installation, their immutable versions, and the code of each, kept in the store and cached.
//
// Owns: the cache, DATA/versions/<sha256>/ (unpacked code, read-only after). Flow: deploy = unpack -> check (a real
//   instance loads it) -> store -> cache -> on_change. Other nodes see it when they poll the revision (once a second).
// Threads: the loop's; unpacking runs on a thread of its own. Blocking: never.
// Errors: ERR_NOT_FOUND, ERR_INVALID (bad name, settings, package), ERR_TOO_LARGE, and the store's.
#ifndef CORE_REGISTRY_H
#define CORE_REGISTRY_H

#include <uthash.h>

#include "core/base/loop.h"
#include "core/options.h"
#include "core/store.h"

#define FUNCTION_NAME_MAX 60 // letters, digits, - and _; starts with a letter, does not end in - or _ (SCF's rule)
#define BACKOFF_MAX 16
#define PACKAGE_FILES_MAX 20000
#define PACKAGE_UNPACKED_MAX (512u * 1024 * 1024) // bytes

struct settings {           // of one version; see docs/functions.md
    char *runtime;          // "python", "exec": a folder under runtimes/
    char *handler;          // "hello.main_handler"; exec: the file
    char *env;              // JSON object of strings, "{}" when none
    char *description;
    int64_t timeout_ms;     // of one attempt; 1..900000, default 30000
    uint32_t memory_mb;     // 16..65536, default 256
    uint32_t max_instances; // on one node; 0 (default): as options.function_instances says
    uint32_t retries;       // 0..100, default 3
    int64_t backoff_ms[BACKOFF_MAX]; // default 1000, 5000, 30000; the last one repeats
    uint32_t backoff_count;
    int64_t max_age_ms;     // an async event is not tried after; default 6 h
};
void settings_init(struct settings *s); // defaults
void settings_done(struct settings *s);
void settings_copy(struct settings *to, const struct settings *from);
// Every range above; runtime and handler must be there. ERR_INVALID names the key as the HTTP API does.
int settings_check(const struct settings *s, struct err *err) must_use;
// The settings as JSON object text (keys as in the HTTP API: runtime, handler, timeoutMs, memoryMb, maxInstances,
// retries, backoffMs, maxAgeMs, env, description); caller frees. Equal settings give equal text.
char *settings_to_json(const struct settings *s) must_use;
// Sets the keys that are in `json` and leaves the others of `s` (which was initialised). Refuses unknown keys and bad
// values by name; then `s` is as it was.
int settings_from_json(struct str json, struct settings *s, struct err *err) must_use;

struct version {
    unsigned refs;          // version_ref / version_unref; the cache holds one
    char *function;
    uint32_t number;
    char sha256[65];
    struct settings settings;
    int64_t created_ms;
    char *code_dir;         // DATA/versions/<sha256>, absolute; exists after registry_prepare
    bool prepared;          // it is there on this node
};
struct version *version_ref(struct version *v);
void version_unref(struct version *v);

struct function {
    char *name;
    uint32_t current;       // number of the version that the bare name means
    int64_t created_ms;
    struct version **versions; // ascending by number
    size_t version_count;
    UT_hash_handle hh;
};
struct version *function_version(const struct function *fn, uint32_t number); // NULL: none

struct registry;
struct registry_config {
    struct loop *loop;
    struct store *store;
    const struct options *options;
    // Proves that a version's code loads: calls done(arg, …) later. May be NULL (tests).
    void (*check)(void *check_arg, struct version *v, void (*done)(void *arg, int code, const struct err *err), void *arg);
    void *check_arg;
    // After a function came, changed its versions or current, or went (fn is NULL then).
    void (*on_change)(void *change_arg, struct str name, struct function *fn);
    // After the cache was read at another revision of the store than before: what else counts there may have changed too.
    void (*on_revision)(void *change_arg); // may be NULL
    void *change_arg;
};
typedef void registry_done_fn(void *arg, int code, const struct err *err);
typedef void registry_deploy_fn(void *arg, int code, const struct err *err, const struct version *v);

struct registry *registry_new(const struct registry_config *config) must_use;
// What is under way is dropped without its callback. The store is closed and the loop freed after it (offload_wait).
void registry_free(struct registry *r);
// Reads everything from the store, then begins to poll when the store is shared. done runs once.
void registry_load(struct registry *r, registry_done_fn *done, void *arg);

// Looks now whether other nodes changed anything, for who was told of a version that is not here: what was committed before the call is here
// after it. done runs once, with the store's error if there was one.
void registry_refresh(struct registry *r, registry_done_fn *done, void *arg);

struct function *registry_find(struct registry *r, struct str name);
struct function *registry_first(struct registry *r); // then fn->hh.next
// qualifier "" is the current version, else a number. Borrowed; use version_ref to keep it.
int registry_resolve(struct registry *r, struct str name, struct str qualifier, struct version **ret, struct err *err)
    must_use;
int function_name_check(struct str name, struct err *err) must_use;

// The done callbacks below never run inside the call. Deploys of one function are done one after the other.
// Takes settings over (settings_done inside) and archive (malloc'ed bytes of a zip, tar or tar.gz; freed inside).
// make_current: else the version that is current stays so; a function's first version becomes current in any case.
// A deploy that equals the current version (same code, same settings) is done with that version and changes nothing; one that
// does not switch, with the newest version that it equals.
void registry_deploy(struct registry *r, struct str name, struct settings *settings, char *archive, size_t archive_len,
                     bool make_current, registry_deploy_fn *done, void *arg);
// Makes an older (or newer) version the current one.
void registry_set_current(struct registry *r, struct str name, uint32_t number, registry_done_fn *done, void *arg);
// Its code stays on the disk until the last version_unref; events that run or wait are the dispatcher's.
void registry_delete(struct registry *r, struct str name, registry_done_fn *done, void *arg);
// Makes sure that the code of v is unpacked on this node, fetching its package from the store when it is not.
void registry_prepare(struct registry *r, struct version *v, registry_done_fn *done, void *arg);

#endif
