// SPDX-License-Identifier: Apache-2.0
// The cache of functions, and how it follows the store. After each change everything is read again and merged: a version
// that is there already keeps its object, so that pools and deliveries may hold on to it.
#include <errno.h>
#include <limits.h>
#include <sys/stat.h>

#include "core/base/log.h"
#include "core/registry_impl.h"

#define POLL_MS 1000

// --- versions and functions -----------------------------------------------------------------------------------------

struct version *version_ref(struct version *v) {
    v->refs++;
    return v;
}

void version_unref(struct version *v) {
    if (!v || --v->refs) return;
    settings_done(&v->settings);
    free(v->function);
    free(v->code_dir);
    free(v);
}

struct version *version_new(const char *versions_dir, struct str function, uint32_t number, struct str sha256,
                            int64_t created_ms) {
    struct version *v = mem_zalloc(sizeof *v);
    *v = (struct version){.refs = 1, .function = mem_strndup(function), .number = number, .created_ms = created_ms};
    snprintf(v->sha256, sizeof v->sha256, "%.*s", STR_ARG(sha256));
    v->code_dir = mem_printf("%s/%s", versions_dir, v->sha256);
    settings_init(&v->settings);
    return v;
}

struct function *function_new(struct str name, uint32_t current, int64_t created_ms) {
    struct function *fn = mem_zalloc(sizeof *fn);
    *fn = (struct function){.name = mem_strndup(name), .current = current, .created_ms = created_ms};
    return fn;
}

void function_free(struct function *fn) {
    for (size_t i = 0; i < fn->version_count; i++) version_unref(fn->versions[i]);
    free(fn->versions);
    free(fn->name);
    free(fn);
}

void function_map_free(struct function *map) {
    struct function *fn, *next;
    HASH_ITER(hh, map, fn, next) {
        HASH_DEL(map, fn);
        function_free(fn);
    }
}

void function_add(struct function *fn, struct version *v) {
    fn->versions = mem_realloc(fn->versions, (fn->version_count + 1) * sizeof *fn->versions);
    fn->versions[fn->version_count++] = v;
}

struct version *function_version(const struct function *fn, uint32_t number) {
    size_t low = 0, high = fn->version_count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (fn->versions[mid]->number < number) low = mid + 1;
        else high = mid;
    }
    return low < fn->version_count && fn->versions[low]->number == number ? fn->versions[low] : NULL;
}

// --- looking up -----------------------------------------------------------------------------------------------------

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

int function_name_check(struct str name, struct err *err) {
    bool good = name.len >= 1 && name.len <= FUNCTION_NAME_MAX && is_letter(name.data[0]);
    for (size_t i = 0; good && i < name.len; i++) {
        char c = name.data[i];
        bool joins = (c == '-' || c == '_') && i + 1 < name.len;
        good = is_letter(c) || (c >= '0' && c <= '9') || joins;
    }
    if (good) return 0;
    // The name itself is left out: it may be anything, and of any length.
    return err_set(err, ERR_INVALID,
                   "a function's name is 1 to %d letters, digits, - and _, begins with a letter and does not end in - or _",
                   FUNCTION_NAME_MAX);
}

struct function *registry_find(struct registry *r, struct str name) {
    struct function *fn = NULL;
    if (name.len > 0) HASH_FIND(hh, r->functions, name.data, name.len, fn);
    return fn;
}

struct function *registry_first(struct registry *r) {
    return r->functions;
}

// A version as it is written: 1..999999999, no sign, no leading zero. 0: it is none.
static uint32_t parse_number(struct str text) {
    uint32_t n = 0;
    if (text.len == 0 || text.len > 9 || text.data[0] == '0') return 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return 0;
        n = n * 10 + (uint32_t)(text.data[i] - '0');
    }
    return n;
}

int registry_resolve(struct registry *r, struct str name, struct str qualifier, struct version **ret, struct err *err) {
    struct function *fn = registry_find(r, name);
    if (!fn && function_name_check(name, NULL)) return err_set(err, ERR_NOT_FOUND, "there is no function of that name");
    if (!fn) return err_set(err, ERR_NOT_FOUND, "there is no function %.*s", STR_ARG(name));
    uint32_t number = qualifier.len ? parse_number(qualifier) : fn->current;
    if (!number) return err_set(err, ERR_INVALID, "that is no version of %s: give a number, such as %s:%u", fn->name, fn->name, fn->current);
    struct version *v = function_version(fn, number);
    if (!v) return err_set(err, ERR_NOT_FOUND, "function %s has no version %u", fn->name, number);
    *ret = v;
    return 0;
}

// --- following the store --------------------------------------------------------------------------------------------

static bool is_same_version(const struct version *a, const struct version *b) {
    return a->number == b->number && a->created_ms == b->created_ms && strcmp(a->sha256, b->sha256) == 0;
}

// Puts the objects that we have in the place of the equal ones that were read.
static void keep_objects(struct function *fresh, const struct function *old) {
    for (size_t i = 0; i < fresh->version_count; i++) {
        struct version *have = function_version(old, fresh->versions[i]->number);
        if (!have || !is_same_version(have, fresh->versions[i])) continue;
        version_unref(fresh->versions[i]);
        fresh->versions[i] = version_ref(have);
    }
}

static bool is_same_function(const struct function *a, const struct function *b) {
    if (a->current != b->current || a->version_count != b->version_count) return false;
    return memcmp(a->versions, b->versions, a->version_count * sizeof(struct version *)) == 0;
}

// Those of a function's versions that are no more: their code stays while somebody runs it. `fresh` may be NULL.
static void bury(struct registry *r, const struct function *old, const struct function *fresh) {
    for (size_t i = 0; i < old->version_count; i++) {
        struct version *v = old->versions[i];
        if (fresh && function_version(fresh, v->number) == v) continue;
        r->dying = mem_realloc(r->dying, (r->dying_count + 1) * sizeof(struct version *));
        r->dying[r->dying_count++] = version_ref(v);
    }
}

static void tell(struct registry *r, const char *name, struct function *fn) {
    if (r->config.on_change) r->config.on_change(r->config.change_arg, str_of(name), fn);
}

// The whole cache is the new one before the first callback.
static void merge(struct registry *r, struct function *fresh) {
    struct function *old = r->functions, *fn, *next, *before;
    r->functions = fresh;
    for (fn = fresh; fn; fn = fn->hh.next) {
        HASH_FIND(hh, old, fn->name, strlen(fn->name), before);
        if (before) keep_objects(fn, before);
    }
    for (fn = fresh; fn; fn = fn->hh.next) {
        HASH_FIND(hh, old, fn->name, strlen(fn->name), before);
        if (!before || !is_same_function(fn, before)) tell(r, fn->name, fn);
    }
    HASH_ITER(hh, old, fn, next) {
        HASH_DEL(old, fn);
        struct function *now = registry_find(r, str_of(fn->name));
        bury(r, fn, now);
        if (!now) tell(r, fn->name, NULL);
        function_free(fn);
    }
}

static void poll_again(struct registry *r) {
    if (r->dying_count > 0 || store_is_shared(r->config.store)) timer_start(r->poll, POLL_MS);
}

static int load_run(struct store_job *job, struct sql *sql, struct err *err) {
    return registry_sql_load(sql, container_of(job, struct registry_op, job), err);
}

static void load_done(struct store_job *job, int code, const struct err *err) {
    struct registry_op *op = container_of(job, struct registry_op, job);
    if (op_is_orphan(op)) return;
    struct registry *r = op->r;
    if (code) {
        op_finish(op, code, err, NULL);
        return;
    }
    bool moved = op->revision != r->revision;
    r->revision = op->revision;
    merge(r, TAKE_PTR(op->map));
    if (moved && r->config.on_revision) r->config.on_revision(r->config.change_arg);
    if (!r->loaded) folder_sweep(r);
    r->loaded = true;
    poll_again(r);
    struct function *fn = registry_find(r, str_of(op->name));
    struct version *v = fn ? function_version(fn, op->number) : NULL;
    if (op->is_deploy && !v) code = err_set(&op->err, ERR_CONFLICT, "function %s was deleted meanwhile", op->name);
    op_finish(op, code, &op->err, v);
}

void registry_reload(struct registry_op *op) {
    op_to_store(op, load_run, load_done);
}

static int poll_run(struct store_job *job, struct sql *sql, struct err *err) {
    return registry_sql_revision(sql, &container_of(job, struct registry_op, job)->revision, err);
}

static void poll_done(struct store_job *job, int code, const struct err *err) {
    struct registry_op *op = container_of(job, struct registry_op, job);
    struct registry *r = op->r;
    if (op_is_orphan(op)) return;
    if (code == 0 && op->revision != r->revision) registry_reload(op);
    else op_finish(op, code, err, NULL); // the store says itself that it is away
}

void registry_refresh(struct registry *r, registry_done_fn *done, void *arg) {
    op_to_store(op_new(r, STR_NONE, done, arg), poll_run, poll_done);
}

static void on_polled(void *arg, int code, const struct err *err) {
    (void)code, (void)err;
    poll_again(arg);
}

static void reap(struct registry *r) {
    for (size_t i = 0; i < r->dying_count;) {
        struct version *v = r->dying[i];
        if (v->refs > 1) {
            i++;
            continue;
        }
        r->dying[i] = r->dying[--r->dying_count];
        folder_release(r, v->sha256);
        version_unref(v);
    }
}

static void on_poll(void *arg) {
    struct registry *r = arg;
    reap(r);
    if (store_is_shared(r->config.store)) registry_refresh(r, on_polled, r);
    else poll_again(r);
}

void registry_load(struct registry *r, registry_done_fn *done, void *arg) {
    registry_reload(op_new(r, STR_NONE, done, arg));
}

// --- life -----------------------------------------------------------------------------------------------------------

static bool make_folder(const char *path, mode_t mode) {
    if (mkdir(path, mode) == 0 || errno == EEXIST) return true;
    log_error("registry", "cannot make a folder", LOG_STR("path", path), LOG_STR("error", strerror(errno)));
    return false;
}

// A folder that cannot be made is logged here; each deploy then says so to its caller.
static char *open_versions_dir(const char *data) {
    cleanup_free char *path = mem_printf("%s/versions", data);
    if (make_folder(data, 0700)) (void)make_folder(path, 0700);
    char whole[PATH_MAX];
    return mem_strdup(realpath(path, whole) ? whole : path);
}

struct registry *registry_new(const struct registry_config *config) {
    struct registry *r = mem_zalloc(sizeof *r);
    r->config = *config;
    LIST_INIT(&r->ops);
    STAILQ_INIT(&r->disk);
    r->versions_dir = open_versions_dir(config->options->data.text);
    r->poll = timer_new(config->loop, on_poll, r);
    return r;
}

// What nobody else has is freed; what the store, a thread or a check has is left to op_is_orphan.
static void let_go_of_ops(struct registry *r) {
    struct registry_op *op;
    while ((op = STAILQ_FIRST(&r->disk))) {
        STAILQ_REMOVE_HEAD(&r->disk, disk_link);
        op_free(op);
    }
    while ((op = LIST_FIRST(&r->ops))) {
        LIST_REMOVE(op, link);
        bool is_ours = op->defer.queued || (op->is_deploy && !op->begun);
        loop_defer_cancel(r->config.loop, &op->defer);
        op->r = NULL;
        if (is_ours) op_free(op);
    }
}

void registry_free(struct registry *r) {
    if (!r) return;
    let_go_of_ops(r);
    function_map_free(r->functions);
    for (size_t i = 0; i < r->dying_count; i++) version_unref(r->dying[i]);
    free(r->dying);
    timer_free(r->poll);
    free(r->versions_dir);
    free(r);
}
