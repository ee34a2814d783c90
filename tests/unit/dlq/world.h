// SPDX-License-Identifier: Apache-2.0
// Letters on SQLite, a memory queue behind core/ingest, and a stand-in for the registry: for test_due, test_ship and test_try.
//
// The registry has the functions "f", "g" and "full" (whose queue takes nothing until room_for is called) until a test
// removes one. Threads: the test's.
#ifndef TESTS_UNIT_DLQ_WORLD_H
#define TESTS_UNIT_DLQ_WORLD_H

#include <jansson.h>

#include "core/ingest.h"
#include "core/store.h"
#include "dlq/letters.h"
#include "tests/support/registry_look.h"
#include "tests/support/support.h"

#define GOT_MAX 16

struct world {
    struct loop *loop;
    char *dir;
    struct store *store;
    struct letters *letters;
    struct queue *queue;
    struct metrics *metrics;
    struct registry registry;
    struct ingest *ingest;
    struct queue_consumer *consumers[2];
    struct ev *got[GOT_MAX]; // from the queue, acknowledged
    size_t got_count;
    bool closed;
};

// --- the registry -----------------------------------------------------------------------------------------------------

static struct version version_1 = {.refs = 1, .function = (char[]){"f"}, .number = 1, .settings = {.timeout_ms = 30000}};
static bool f_is_gone;

int registry_resolve(struct registry *r, struct str name, struct str qualifier, struct version **ret, struct err *err) {
    (void)r;
    bool known = (str_is(name, "f") && !f_is_gone) || str_is(name, "g") || str_is(name, "full");
    if (!known) return err_set(err, ERR_NOT_FOUND, "there is no function %.*s", STR_ARG(name));
    if (qualifier.len && !str_is(qualifier, "1")) return err_set(err, ERR_NOT_FOUND, "function f has no such version");
    *ret = &version_1;
    return 0;
}

struct version *version_ref(struct version *v) {
    v->refs++;
    return v;
}

void version_unref(struct version *v) {
    v->refs--;
}

// --- life -------------------------------------------------------------------------------------------------------------

static inline void on_messages(void *arg, struct queue_msg *msgs, size_t count) {
    struct world *w = arg;
    for (size_t i = 0; i < count; i++) {
        assert_true(w->got_count < GOT_MAX);
        w->got[w->got_count++] = msgs[i].ev;
        queue_ack(w->consumers[str_is(msgs[i].ev->f.function, "f") ? 0 : 1], msgs[i].tag);
    }
}

static inline void on_filled(void *arg, int code, const struct err *err) {
    (void)err;
    assert_int_equal(code, 0);
    ++*(int *)arg;
}

static inline void on_queue_closed(void *arg) {
    *(bool *)arg = true;
}

// The queue of "full" has one place, which is taken.
static inline void fill(struct world *w) {
    const struct ev_fields f = {.function = STR_LIT("full")};
    int filled = 0;
    queue_publish(w->queue, ev_new(&f), on_filled, &filled);
    TURN_UNTIL(w->loop, filled);
}

static inline void room_for(struct world *w, const char *function) {
    queue_delete(w->queue, str_of(function));
}

static inline int setup(void **state) {
    struct world *w = mem_zalloc(sizeof *w);
    struct err err = {0};
    f_is_gone = false;
    w->loop = loop_new();
    w->dir = temp_dir_new();
    cleanup_free char *url = mem_printf("sqlite:%s/weir.db", w->dir);
    if (store_open(w->loop, url, &w->store, &err)) fail_msg("%s", err.text);
    w->letters = letters_new(w->loop, w->store, w->store, NULL);
    const struct queue_config queue = {.loop = w->loop, .url = "memory:", .max_messages = 8};
    assert_int_equal(queue_open(&queue, &w->queue, &err), 0);
    w->metrics = metrics_new();
    registry_look_init(&w->registry, w->loop);
    const struct ingest_config ingest = {.loop = w->loop, .registry = &w->registry, .queue = w->queue, .sync_lane = w->queue, .metrics = w->metrics};
    w->ingest = ingest_new(&ingest);
    static const char *const names[] = {"f", "g"};
    for (size_t i = 0; i < array_len(names); i++) {
        const struct queue_consumer_config consumer = {.function = str_of(names[i]), .credit = 8, .credit_bytes = 64 << 20,
                                                       .on_messages = on_messages, .arg = w};
        w->consumers[i] = queue_consume(w->queue, &consumer);
    }
    for (int i = 0; i < 8; i++) fill(w);
    *state = w;
    return 0;
}

// The user of the letters was freed before.
static inline int teardown(void **state) {
    struct world *w = *state;
    for (size_t i = 0; i < array_len(w->consumers); i++) queue_consumer_close(w->consumers[i]);
    for (size_t i = 0; i < w->got_count; i++) ev_free(w->got[i]);
    queue_close(w->queue, on_queue_closed, &w->closed);
    TURN_UNTIL(w->loop, w->closed);
    ingest_free(w->ingest);
    registry_look_done(&w->registry);
    letters_free(w->letters);
    store_close(w->store);
    metrics_free(w->metrics);
    loop_free(w->loop);
    temp_dir_remove(w->dir);
    assert_int_equal(version_1.refs, 1);
    free(w);
    return 0;
}

// --- letters ----------------------------------------------------------------------------------------------------------

struct answer {
    bool done;
    int code;
    struct err err;
    json_t *json;
};

static inline void on_done(void *arg, int code, const struct err *err) {
    struct answer *a = arg;
    assert_false(a->done);
    a->done = true;
    a->code = code;
    if (code) a->err = *err;
}

static inline void on_json(void *arg, int code, const struct err *err, json_t *json) {
    on_done(arg, code, err);
    ((struct answer *)arg)->json = json;
}

static inline void await(struct world *w, struct answer *a) {
    TURN_UNTIL(w->loop, a->done);
    if (a->code) fail_msg("%s", a->err.text);
}

static inline struct id put(struct world *w, const struct ev_fields *f, enum letter_state state, int64_t due_ms) {
    struct answer a = {0};
    struct ev *ev = ev_new(f);
    struct id id = ev->f.id;
    const struct letter_draft draft = {.ev = ev, .state = state, .kind = LETTER_FUNCTION, .due_ms = due_ms,
                                       .error_type = STR_LIT("KeyError"), .error_message = STR_LIT("'x'")};
    letters_put(w->letters, &draft, on_done, &a);
    await(w, &a);
    ev_free(ev);
    return id;
}

static inline struct id put_simple(struct world *w, const char *function, enum letter_state state) {
    const struct ev_fields f = {.function = str_of(function), .payload = STR_LIT("p"), .attempt = 2,
                                .history = STR_LIT("[{\"attempt\":1},{\"attempt\":2}]")};
    return put(w, &f, state, clock_unix_ms() - 1);
}

// The letter with its payload and attempts, or NULL; the caller lets go of it.
static inline json_t *show(struct world *w, const struct id *id) {
    struct answer a = {0};
    letters_show(w->letters, id, on_json, &a);
    TURN_UNTIL(w->loop, a.done);
    if (a.code == ERR_NOT_FOUND) return NULL;
    assert_int_equal(a.code, 0);
    return a.json;
}

// Whether a member of the letter is `want`; NULL: whether there is no such letter.
static inline bool is(struct world *w, const struct id *id, const char *member, const char *want) {
    json_t *letter = show(w, id);
    const char *got = json_string_value(json_object_get(letter, member));
    bool same = want ? got && strcmp(got, want) == 0 : !letter;
    json_decref(letter);
    return same;
}

#endif
