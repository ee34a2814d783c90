// SPDX-License-Identifier: Apache-2.0
// The cache of functions, and how it follows the store. After each change everything is read again and merged: a version
// that is there already keeps its object, so that pools and deliveries may hold on to it.
#include <ctype.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/package.h"
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

struct version *version_new(const struct registry *r, struct str function, uint32_t number, struct str sha256,
                            int64_t created_ms) {
    struct version *v = mem_zalloc(sizeof *v);
    *v = (struct version){.refs = 1, .function = mem_strndup(function), .number = number, .created_ms = created_ms};
    snprintf(v->sha256, sizeof v->sha256, "%.*s", STR_ARG(sha256));
    v->code_dir = mem_printf("%s/%s", r->versions_dir, v->sha256);
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

int function_name_check(struct str name, struct err *err) {
    bool good = name.len >= 1 && name.len <= FUNCTION_NAME_MAX && isalpha((unsigned char)name.data[0]);
    for (size_t i = 0; good && i < name.len; i++) {
        unsigned char c = (unsigned char)name.data[i];
        good = c < 0x80 && (isalnum(c) || c == '-' || c == '_');
    }
    if (good && (name.data[name.len - 1] == '-' || name.data[name.len - 1] == '_')) good = false;
    if (good) return 0;
    return err_set(err, ERR_INVALID,
                   "'%.80s' cannot name a function: 1 to %d letters, digits, - and _, beginning with a letter and not ending in - or _",
                   name.len ? name.data : "", FUNCTION_NAME_MAX);
}

struct function *registry_find(struct registry *r, struct str name) {
    struct function *fn;
    HASH_FIND(hh, r->functions, name.data, name.len, fn);
    return fn;
}

struct function *registry_first(struct registry *r) {
    return r->functions;
}

static bool parse_number(struct str text, uint32_t *ret) {
    uint64_t n = 0;
    if (text.len == 0 || text.len > 9) return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return false;
        n = n * 10 + (uint64_t)(text.data[i] - '0');
    }
    *ret = (uint32_t)n;
    return true;
}

int registry_resolve(struct registry *r, struct str name, struct str qualifier, struct version **ret, struct err *err) {
    struct function *fn = registry_find(r, name);
    if (!fn) return err_set(err, ERR_NOT_FOUND, "there is no function %.*s", STR_ARG(name));
    uint32_t number = fn->current;
    if (qualifier.len && !parse_number(qualifier, &number))
        return err_set(err, ERR_INVALID, "'%.*s' is not a version of %s: give a number", (int)(qualifier.len < 40 ? qualifier.len : 40),
                       qualifier.data, fn->name);
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

// The versions of a function that is gone: their code stays while somebody runs it.
static void bury(struct registry *r, const struct function *fn) {
    r->dying = mem_realloc(r->dying, (r->dying_count + fn->version_count) * sizeof *r->dying);
    for (size_t i = 0; i < fn->version_count; i++) r->dying[r->dying_count++] = version_ref(fn->versions[i]);
}

static void merge(struct registry *r, struct function *fresh) {
    struct function *old = r->functions, *fn, *next;
    r->functions = fresh;
    for (fn = fresh; fn; fn = next) {
        next = fn->hh.next;
        struct function *before;
        HASH_FIND(hh, old, fn->name, strlen(fn->name), before);
        if (before) keep_objects(fn, before);
        if ((!before || !is_same_function(fn, before)) && r->config.on_change)
            r->config.on_change(r->config.change_arg, str_of(fn->name), fn);
    }
    HASH_ITER(hh, old, fn, next) {
        HASH_DEL(old, fn);
        if (!registry_find(r, str_of(fn->name))) {
            bury(r, fn);
            if (r->config.on_change) r->config.on_change(r->config.change_arg, str_of(fn->name), NULL);
        }
        function_free(fn);
    }
}

static int load_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct registry_op *op = container_of(job, struct registry_op, job);
    struct function *fn, *next;
    HASH_ITER(hh, op->map, fn, next) { // of a run that was rolled back
        HASH_DEL(op->map, fn);
        function_free(fn);
    }
    return registry_sql_load(sql, op->r, &op->map, &op->revision, err);
}

static void load_done(struct store_job *job, int code, const struct err *err) {
    struct registry_op *op = container_of(job, struct registry_op, job);
    struct registry *r = op->r;
    if (op_is_orphan(op)) return;
    if (code) {
        op_finish(op, code, err, NULL);
        return;
    }
    r->revision = op->revision;
    merge(r, op->map);
    op->map = NULL;
    struct function *fn = registry_find(r, str_of(op->name));
    op_finish(op, 0, err, fn ? function_version(fn, op->number) : NULL);
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

static void on_polled(void *arg, int code, const struct err *err) {
    (void)code, (void)err;
    struct registry *r = arg;
    timer_start(r->poll, POLL_MS);
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
    if (!store_is_shared(r->config.store)) {
        timer_start(r->poll, POLL_MS);
        return;
    }
    struct registry_op *op = op_new(r, STR_NONE, on_polled, r);
    op_to_store(op, poll_run, poll_done);
}

// --- life -----------------------------------------------------------------------------------------------------------

struct loading {
    struct registry *r;
    registry_done_fn *done;
    void *arg;
};

static void on_loaded(void *arg, int code, const struct err *err) {
    struct loading *l = arg;
    if (code == 0) timer_start(l->r->poll, POLL_MS);
    l->done(l->arg, code, err);
    free(l);
}

void registry_load(struct registry *r, registry_done_fn *done, void *arg) {
    struct loading *l = mem_alloc(sizeof *l);
    *l = (struct loading){.r = r, .done = done, .arg = arg};
    registry_reload(op_new(r, STR_NONE, on_loaded, l));
}

struct registry *registry_new(const struct registry_config *config) {
    struct registry *r = mem_zalloc(sizeof *r);
    r->config = *config;
    LIST_INIT(&r->ops);
    STAILQ_INIT(&r->disk);
    char *data = realpath(config->options->data.text, NULL);
    r->versions_dir = mem_printf("%s/versions", data ? data : config->options->data.text);
    free(data);
    package_sweep(r->versions_dir, NULL, NULL);
    r->poll = timer_new(config->loop, on_poll, r);
    return r;
}

void registry_free(struct registry *r) {
    if (!r) return;
    struct registry_op *op, *next;
    for (op = LIST_FIRST(&r->ops); op; op = next) {
        next = LIST_NEXT(op, link);
        bool queued = op->defer.queued;
        loop_defer_cancel(r->config.loop, &op->defer);
        op->r = NULL;
        op->done = NULL;
        op->deployed = NULL;
        if (queued) op_free(op); // nobody else will
    }
    struct function *fn, *after;
    HASH_ITER(hh, r->functions, fn, after) {
        HASH_DEL(r->functions, fn);
        function_free(fn);
    }
    for (size_t i = 0; i < r->dying_count; i++) version_unref(r->dying[i]);
    free(r->dying);
    timer_free(r->poll);
    free(r->versions_dir);
    free(r);
}
