// SPDX-License-Identifier: Apache-2.0
// The cache of triggers, and how it follows the store. What this node changes goes to the cache as the store gave it
// back; what others change is read with everything else when the revision says so, and the differences are told.
//
// Invariant: a trigger keeps its object from on_change that it came to on_change that it went.
#include "core/base/log.h"
#include "core/trigger_impl.h"

#define RELOAD_AGAIN_MS 1000

const char *trigger_state_word(enum trigger_state s) {
    static const char *const words[] = {
#define X(name, word) [name] = word,
        TRIGGER_STATES(X)
#undef X
    };
    return words[s];
}

// --- one trigger --------------------------------------------------------------------------------------------------------

struct trigger *trigger_new(struct str name, struct str function, struct str kind, json_t *settings) {
    struct trigger *t = mem_zalloc(sizeof *t);
    *t = (struct trigger){.name = mem_strndup(name), .function = mem_strndup(function), .kind = mem_strndup(kind), .settings = settings};
    return t;
}

// Deep, as the copy may be read by the store's thread.
struct trigger *trigger_copy(const struct trigger *from) {
    struct trigger *t = trigger_new(str_of(from->name), str_of(from->function), str_of(from->kind), json_deep_copy(from->settings));
    t->state = from->state;
    t->epoch = from->epoch;
    t->created_ms = from->created_ms;
    t->changed_ms = from->changed_ms;
    return t;
}

void trigger_free(struct trigger *t) {
    if (!t) return;
    json_decref(t->settings);
    free(t->name);
    free(t->function);
    free(t->kind);
    free(t);
}

void trigger_map_free(struct trigger *map) {
    struct trigger *t, *next;
    HASH_ITER(hh, map, t, next) {
        HASH_DEL(map, t);
        trigger_free(t);
    }
}

// The change times of a row differ from change to change, its creation from row to row.
static bool is_same(const struct trigger *a, const struct trigger *b) {
    return a->created_ms == b->created_ms && a->changed_ms == b->changed_ms && a->state == b->state && a->epoch == b->epoch &&
           strcmp(a->function, b->function) == 0;
}

// Everything but the name, into the object that others may have seen.
static void take_over(struct trigger *t, struct trigger *from) {
    free(t->function);
    free(t->kind);
    json_decref(t->settings);
    t->function = TAKE_PTR(from->function);
    t->kind = TAKE_PTR(from->kind);
    t->settings = TAKE_PTR(from->settings);
    t->state = from->state;
    t->epoch = from->epoch;
    t->created_ms = from->created_ms;
    t->changed_ms = from->changed_ms;
}

// --- the cache ----------------------------------------------------------------------------------------------------------

const struct trigger *triggers_find(const struct triggers *ts, struct str name) {
    struct trigger *t = NULL;
    if (name.len > 0) HASH_FIND(hh, ts->map, name.data, name.len, t);
    return t;
}

static bool is_behind(const char *name, struct str after) {
    int order = after.len ? strncmp(name, after.data, after.len) : 1;
    return order > 0 || (order == 0 && name[after.len]);
}

static bool fits(const struct trigger *t, const struct trigger_filter *filter) {
    return (filter->function.len == 0 || str_is(filter->function, t->function)) &&
           (filter->kind.len == 0 || str_is(filter->kind, t->kind)) && (filter->state < 0 || t->state == (enum trigger_state)filter->state);
}

static int by_name(const void *a, const void *b) {
    const struct trigger *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

// The cache has no order, so a page is gathered in room for two: when that is full, the second half is let go.
const struct trigger **triggers_page(const struct triggers *ts, const struct trigger_filter *filter, struct str after, size_t most,
                                     size_t *ret_count) {
    const struct trigger **page = mem_array(2 * most, sizeof(struct trigger *));
    const struct trigger *last = NULL; // of the first half; what stands behind it is not on the page
    size_t count = 0;
    for (const struct trigger *t = ts->map; t; t = t->hh.next) {
        if (!is_behind(t->name, after) || (last && strcmp(t->name, last->name) > 0) || !fits(t, filter)) continue;
        page[count++] = t;
        if (count < 2 * most) continue;
        qsort(page, count, sizeof page[0], by_name);
        count = most;
        last = page[most - 1];
    }
    qsort(page, count, sizeof page[0], by_name);
    *ret_count = count < most ? count : most;
    return page;
}

static void tell(struct triggers *ts, const char *name, const struct trigger *t) {
    if (ts->config.on_change) ts->config.on_change(ts->config.arg, str_of(name), t);
}

// Takes `fresh` over. Its object in the cache; NULL: it is there as it is.
static struct trigger *put(struct triggers *ts, struct trigger *fresh) {
    struct trigger *t;
    HASH_FIND(hh, ts->map, fresh->name, strlen(fresh->name), t);
    if (!t) {
        HASH_ADD_KEYPTR(hh, ts->map, fresh->name, strlen(fresh->name), fresh);
        return fresh;
    }
    bool differs = !is_same(t, fresh);
    if (differs) take_over(t, fresh);
    trigger_free(fresh);
    return differs ? t : NULL;
}

void triggers_apply(struct triggers *ts, const struct trigger *row) {
    const struct trigger *t = put(ts, trigger_copy(row));
    if (t) tell(ts, t->name, t);
}

void triggers_drop(struct triggers *ts, struct str name) {
    struct trigger *t = NULL;
    HASH_FIND(hh, ts->map, name.data, name.len, t);
    if (!t) return;
    HASH_DEL(ts->map, t);
    tell(ts, t->name, NULL);
    trigger_free(t);
}

void triggers_function_gone(struct triggers *ts, struct str function) {
    struct trigger *t, *next;
    HASH_ITER(hh, ts->map, t, next) {
        if (str_is(function, t->function)) triggers_drop(ts, str_of(t->name)); // the rows went with the function's
    }
}

// --- following the store ------------------------------------------------------------------------------------------------

static void drop_missing(struct triggers *ts, const struct trigger *fresh) {
    struct trigger *t, *next, *now;
    HASH_ITER(hh, ts->map, t, next) {
        HASH_FIND(hh, fresh, t->name, strlen(t->name), now);
        if (!now) triggers_drop(ts, str_of(t->name));
    }
}

// `all`: every row there is. What went is told before what came, so that two names never have the same source at once.
static void merge(struct triggers *ts, struct trigger *fresh, bool all) {
    struct trigger *t, *next;
    if (all) drop_missing(ts, fresh);
    HASH_ITER(hh, fresh, t, next) {
        HASH_DEL(fresh, t);
        const struct trigger *changed = put(ts, t);
        if (changed) tell(ts, changed->name, changed);
    }
}

// With the rows that changed the cache has every row of the store, so it has others besides when it has more.
static bool has_gone_ones(const struct triggers *ts, const struct trigger_op *op) {
    size_t more = 0;
    for (const struct trigger *t = op->map; t; t = t->hh.next) more += !triggers_find(ts, str_of(t->name));
    return HASH_COUNT(ts->map) + more != (size_t)op->count;
}

static void take_rows(struct triggers *ts, struct trigger_op *op) {
    bool all = op->since < 0;
    if (!all && has_gone_ones(ts, op)) {
        ts->revision = -1;
        triggers_reload(ts);
        return;
    }
    merge(ts, TAKE_PTR(op->map), all);
    ts->revision = op->revision;
}

static int load_run(struct store_job *job, struct sql *sql, struct err *err) {
    return trigger_sql_load(sql, container_of(job, struct trigger_op, job), err);
}

// Before the first load nothing is told; after its callback, everything.
static void load_stored(struct store_job *job, int code, const struct err *err) {
    struct trigger_op *op = container_of(job, struct trigger_op, job);
    if (trigger_op_is_orphan(op)) return;
    struct triggers *ts = op->ts;
    bool first = !ts->loaded && op->load_done;
    if (code) {
        log_warn("trigger", "the triggers could not be read", LOG_STR("error", err->text));
        if (ts->loaded) timer_start(ts->again, RELOAD_AGAIN_MS); // the revision is told once
    } else if (first) ts->map = TAKE_PTR(op->map);
    else if (ts->loaded) take_rows(ts, op);
    if (code == 0 && first) ts->revision = op->revision;
    ts->loaded |= first && code == 0;
    trigger_op_finish(op, code, err, NULL, NULL);
    if (code || !first) return;
    struct trigger *t, *next;
    HASH_ITER(hh, ts->map, t, next) tell(ts, t->name, t);
}

static void begin_load(struct trigger_op *op) {
    op->since = op->ts->revision;
    trigger_op_to_store(op, load_run, load_stored);
}

static struct trigger_op *load_op_new(struct triggers *ts, void *arg) {
    struct trigger *nobody = trigger_new(STR_NONE, STR_NONE, STR_NONE, json_object());
    struct trigger_op *op = trigger_op_new(ts, nobody, begin_load, arg);
    op->beside = true;
    return op;
}

void triggers_load(struct triggers *ts, void (*done)(void *arg, int code, const struct err *err), void *arg) {
    struct trigger_op *op = load_op_new(ts, arg);
    op->load_done = done;
    trigger_op_start(op);
}

// One that has not begun reads what this one would.
static bool reload_waits(const struct triggers *ts) {
    const struct trigger_op *op;
    TAILQ_FOREACH(op, &ts->ops, link) {
        if (op->begin == begin_load && !op->begun) return true;
    }
    return false;
}

void triggers_reload(struct triggers *ts) {
    timer_stop(ts->again);
    if (!reload_waits(ts)) trigger_op_start(load_op_new(ts, NULL));
}

static void reload_again(void *arg) {
    triggers_reload(arg);
}

// --- life ---------------------------------------------------------------------------------------------------------------

struct triggers *triggers_new(const struct triggers_config *config) {
    struct triggers *ts = mem_zalloc(sizeof *ts);
    ts->config = *config;
    ts->revision = -1;
    ts->again = timer_new(config->loop, reload_again, ts);
    TAILQ_INIT(&ts->ops);
    return ts;
}

// What has not begun is freed; what the store, a check or a seek has is left to trigger_op_is_orphan.
static void let_go_of_ops(struct triggers *ts) {
    struct trigger_op *op;
    while ((op = TAILQ_FIRST(&ts->ops))) {
        TAILQ_REMOVE(&ts->ops, op, link);
        loop_defer_cancel(ts->config.loop, &op->defer);
        op->ts = NULL;
        if (!op->begun) trigger_op_free(op);
    }
}

void triggers_free(struct triggers *ts) {
    if (!ts) return;
    let_go_of_ops(ts);
    timer_free(ts->again);
    trigger_map_free(ts->map);
    free(ts);
}
