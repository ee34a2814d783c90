// SPDX-License-Identifier: Apache-2.0
// core/trigger over a SQLite store in a temporary folder, with the kinds' knowledge faked: what is stored, what is told,
// what is refused, and what a seek leaves behind.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>

#include "core/base/clock.h"
#include "core/trigger.h"

#define WAIT_NS (INT64_C(20) * 1000 * 1000000)
typedef void done_fn(void *done_arg, int code, const struct err *err);

struct fixture {
    char dir[64];
    struct loop *loop;
    struct store *store;
    struct triggers *ts, *other; // two nodes on one store
    bool refuse, hold_check;
    done_fn *checked; // of a check that is held
    void *check_arg;
    unsigned checks;
    char log[2000]; // what on_change of `ts` was told
    done_fn *sought;
    void *seek_arg;
    char seek_to[100];
    const char *lag; // what the fake answers; NULL: an error
};

struct answer {
    bool there;
    int code;
    struct err err;
    json_t *json; // public, or the lag
    uint64_t epoch;
};

// --- fakes ------------------------------------------------------------------------------------------------------------

static bool function_exists(void *arg, struct str function) {
    (void)arg;
    return !str_is(function, "nobody");
}

static void check(void *arg, const struct trigger *draft, done_fn *done, void *done_arg) {
    struct fixture *f = arg;
    struct err err;
    f->checks++;
    if (!json_object_get(draft->settings, "group")) json_object_set_new(draft->settings, "group", json_string("weir-group"));
    if (f->hold_check) {
        f->checked = done;
        f->check_arg = done_arg;
    } else if (f->refuse) {
        done(done_arg, err_set(&err, ERR_INVALID, "brokers: give one\ntopic: give one"), &err);
    } else {
        done(done_arg, 0, NULL);
    }
}

static void on_change(void *arg, struct str name, const struct trigger *t) {
    struct fixture *f = arg;
    size_t used = strlen(f->log);
    snprintf(f->log + used, sizeof f->log - used, "%.*s %s %d\n", STR_ARG(name), t ? trigger_state_word(t->state) : "gone",
             t ? (int)t->epoch : -1);
}

static void on_other_change(void *arg, struct str name, const struct trigger *t) {
    (void)arg, (void)name, (void)t;
}

static char *default_name(void *arg, const struct trigger *draft) {
    (void)arg;
    const char *topic = json_string_value(json_object_get(draft->settings, "topic"));
    return topic ? mem_printf("%s-%s", draft->kind, topic) : NULL;
}

static void lag(void *arg, const struct trigger *t, trigger_json_fn *fn, void *fn_arg) {
    struct fixture *f = arg;
    struct err err;
    (void)t;
    if (f->lag) fn(fn_arg, 0, NULL, json_loads(f->lag, 0, NULL));
    else fn(fn_arg, err_set(&err, ERR_UNAVAILABLE, "the broker is away"), &err, NULL);
}

static void seek(void *arg, const struct trigger *t, const char *to, done_fn *done, void *done_arg) {
    struct fixture *f = arg;
    assert_int_equal(t->state, TRIGGER_SEEKING);
    snprintf(f->seek_to, sizeof f->seek_to, "%s", to);
    f->sought = done;
    f->seek_arg = done_arg;
}

// --- the world --------------------------------------------------------------------------------------------------------

static void on_done(void *arg, int code, const struct err *err, const struct trigger *t) {
    struct answer *a = arg;
    assert_false(a->there);
    a->there = true;
    a->code = code;
    if (code) a->err = *err;
    if (code) assert_null(t);
    if (t) a->json = trigger_public_json(t);
    if (t) a->epoch = t->epoch;
}

static void on_loaded(void *arg, int code, const struct err *err) {
    on_done(arg, code, err, NULL);
}

static void on_json(void *arg, int code, const struct err *err, json_t *result) {
    struct answer *a = arg;
    on_done(a, code, err, NULL);
    a->json = result;
}

static void wait_for(struct fixture *f, struct answer *a) {
    int64_t limit = clock_mono_ns() + WAIT_NS;
    assert_false(a->there); // never inside the call
    while (!a->there && clock_mono_ns() < limit) loop_turn(f->loop, 20);
    assert_true(a->there);
}

static void answer_done(struct answer *a) {
    json_decref(a->json);
}
#define cleanup_answer __attribute__((cleanup(answer_done)))

struct sql_job {
    struct store_job job;
    const char *text;
    struct answer answer;
};
static int sql_run(struct store_job *job, struct sql *sql, struct err *err) {
    return sql_exec(sql, container_of(job, struct sql_job, job)->text, NULL, 0, NULL, NULL, NULL, err);
}
static void sql_done(struct store_job *job, int code, const struct err *err) {
    on_done(&container_of(job, struct sql_job, job)->answer, code, err, NULL);
}
static void run_sql(struct fixture *f, const char *text) {
    struct sql_job j = {.job = {.run = sql_run, .done = sql_done}, .text = text};
    store_submit(f->store, &j.job);
    wait_for(f, &j.answer);
    assert_int_equal(j.answer.code, 0);
}

static struct triggers *open_node(struct fixture *f, void (*change)(void *, struct str, const struct trigger *)) {
    const struct triggers_config config = {.loop = f->loop, .store = f->store, .arg = f, .function_exists = function_exists,
                                           .check = check, .on_change = change, .default_name = default_name, .lag = lag,
                                           .seek = seek, .max = 5};
    struct triggers *ts = triggers_new(&config);
    struct answer a = {0};
    triggers_load(ts, on_loaded, &a);
    wait_for(f, &a);
    assert_int_equal(a.code, 0);
    return ts;
}

static int setup(void **state) {
    struct fixture *f = mem_zalloc(sizeof *f);
    struct err err;
    snprintf(f->dir, sizeof f->dir, "/tmp/weir-trigger-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->loop = loop_new();
    cleanup_free char *url = mem_printf("sqlite:%s/weir.db", f->dir);
    assert_int_equal(store_open(f->loop, url, &f->store, &err), 0);
    run_sql(f, "INSERT INTO functions (name, current, created_ms) VALUES ('orders', 1, 1), ('audit', 1, 1)");
    f->ts = open_node(f, on_change);
    f->other = open_node(f, on_other_change);
    *state = f;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int teardown(void **state) {
    struct fixture *f = *state;
    triggers_free(f->ts);
    triggers_free(f->other);
    store_close(f->store);
    loop_free(f->loop);
    nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static void start_add(struct fixture *f, const char *name, const char *function, const char *settings, struct answer *a) {
    json_t *json = json_loads(settings, 0, NULL);
    assert_non_null(json);
    *a = (struct answer){0};
    triggers_add(f->ts, str_of(name), str_of(function), STR_LIT("kafka"), json, on_done, a);
}

static struct answer add(struct fixture *f, const char *name, const char *function, const char *settings) {
    struct answer a;
    start_add(f, name, function, settings, &a);
    wait_for(f, &a);
    return a;
}

static void must_add(struct fixture *f, const char *name, const char *settings) {
    cleanup_answer struct answer a = add(f, name, "orders", settings);
    assert_int_equal(a.code, 0);
}

typedef void act_fn(struct triggers *ts, struct str name, trigger_done_fn *done, void *arg);
static struct answer act(struct fixture *f, struct triggers *ts, act_fn *fn, const char *name) {
    struct answer a = {0};
    fn(ts, str_of(name), on_done, &a);
    wait_for(f, &a);
    json_decref(TAKE_PTR(a.json));
    return a;
}

static struct answer change(struct fixture *f, const char *name, const char *changes) {
    struct answer a = {0};
    triggers_change(f->ts, str_of(name), json_loads(changes, 0, NULL), on_done, &a);
    wait_for(f, &a);
    return a;
}

static const char *setting(const struct triggers *ts, const char *name, const char *key) {
    const struct trigger *t = triggers_find(ts, str_of(name));
    return t ? json_string_value(json_object_get(t->settings, key)) : NULL;
}

static enum trigger_state state_at(const struct triggers *ts, const char *name) {
    const struct trigger *t = triggers_find(ts, str_of(name));
    assert_non_null(t);
    return t->state;
}

static void reload(struct fixture *f, struct triggers *ts) {
    triggers_reload(ts);
    for (int i = 0; i < 2; i++) { // when rows went, all are read once more
        loop_turn(f->loop, 0);    // it begins
        run_sql(f, "SELECT 1");   // behind it
    }
}

// The names of a page: "a b ".
static const char *page(const struct triggers *ts, struct trigger_filter filter, const char *after, size_t most) {
    static char names[4000];
    size_t count, used = 0;
    const struct trigger **all = triggers_page(ts, &filter, str_of(after), most, &count);
    assert_true(count <= most);
    names[0] = '\0';
    for (size_t i = 0; i < count; i++) used += (size_t)snprintf(names + used, sizeof names - used, "%s ", all[i]->name);
    free(all);
    return names;
}
#define ANY ((struct trigger_filter){.state = -1})

// --- adding -----------------------------------------------------------------------------------------------------------

static void adds_and_completes(void **state) {
    struct fixture *f = *state;
    cleanup_answer struct answer a = add(f, "", "orders", "{\"topic\":\"shop/eu\",\"brokers\":\"h:1\"}");
    assert_int_equal(a.code, 0);
    assert_string_equal(json_string_value(json_object_get(a.json, "name")), "kafka-shop-eu");
    assert_string_equal(json_string_value(json_object_get(a.json, "state")), "active");
    assert_string_equal(setting(f->ts, "kafka-shop-eu", "group"), "weir-group"); // of the check
    assert_string_equal(f->log, "kafka-shop-eu active 0\n");
    reload(f, f->other);
    assert_string_equal(setting(f->other, "kafka-shop-eu", "topic"), "shop/eu");
    assert_int_equal(f->checks, 1);
}

static void tells_after_load(void **state) {
    struct fixture *f = *state;
    must_add(f, "one", "{}");
    must_add(f, "two", "{}");
    triggers_free(f->ts);
    f->log[0] = '\0';
    const struct triggers_config config = {.loop = f->loop, .store = f->store, .arg = f, .on_change = on_change};
    f->ts = triggers_new(&config);
    struct answer a = {0};
    triggers_reload(f->ts); // before the first load: nothing to compare with
    triggers_load(f->ts, on_loaded, &a);
    wait_for(f, &a);
    assert_non_null(strstr(f->log, "one active 0\n"));
    assert_non_null(strstr(f->log, "two active 0\n"));
    reload(f, f->ts);
    assert_int_equal(strlen(f->log), 2 * strlen("one active 0\n")); // no difference, nothing told
}

static void refuses_a_wrong_one_and_stores_nothing(void **state) {
    struct fixture *f = *state;
    f->refuse = true;
    struct answer a = add(f, "t", "orders", "{}");
    assert_int_equal(a.code, ERR_INVALID);
    assert_non_null(strstr(a.err.text, "\ntopic")); // whole
    f->refuse = false;
    assert_int_equal(add(f, "t", "nobody", "{}").code, ERR_NOT_FOUND);
    assert_int_equal(add(f, "t", "ghost", "{}").code, ERR_NOT_FOUND); // gone between the check and the store
    assert_int_equal(add(f, "a b", "orders", "{}").code, ERR_INVALID);
    assert_int_equal(add(f, "-x", "orders", "{}").code, ERR_INVALID);
    assert_int_equal(add(f, "t", "orders", "{\"batch\":1}").code, ERR_INVALID);
    assert_int_equal(add(f, "t", "orders", "[]").code, ERR_INVALID);
    assert_int_equal(add(f, "", "orders", "[]").code, ERR_INVALID);
    char *big = mem_alloc(TRIGGER_SETTINGS_MAX + 100);
    memset(big, 'x', TRIGGER_SETTINGS_MAX + 100);
    memcpy(big, "{\"a\":\"", 6);
    memcpy(big + TRIGGER_SETTINGS_MAX + 97, "\"}", 3);
    assert_int_equal(add(f, "t", "orders", big).code, ERR_TOO_LARGE);
    free(big);
    reload(f, f->ts);
    assert_string_equal(page(f->ts, ANY, "", 1), "");
    assert_string_equal(f->log, "");
}

static void one_name_one_trigger(void **state) {
    struct fixture *f = *state;
    must_add(f, "t", "{}");
    struct answer a = add(f, "t", "audit", "{}");
    assert_int_equal(a.code, ERR_CONFLICT);
    assert_non_null(strstr(a.err.text, "orders"));
    // Another node does not know it yet: the store refuses.
    struct answer b = {0};
    triggers_add(f->other, STR_LIT("t"), STR_LIT("audit"), STR_LIT("kafka"), json_object(), on_done, &b);
    wait_for(f, &b);
    assert_int_equal(b.code, ERR_CONFLICT);
}

static void has_a_cap(void **state) {
    struct fixture *f = *state;
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    for (size_t i = 0; i < array_len(names); i++) must_add(f, names[i], "{}");
    assert_int_equal(add(f, "f", "orders", "{}").code, ERR_TOO_LARGE);
    assert_int_equal(act(f, f->ts, triggers_remove, "c").code, 0);
    must_add(f, "f", "{}");
}

// --- pages ------------------------------------------------------------------------------------------------------------

static void pages_by_name(void **state) {
    struct fixture *f = *state;
    static const char *const names[] = {"b", "B", "a-", "ab", "a"};
    assert_string_equal(page(f->ts, ANY, "", 2), "");
    for (size_t i = 0; i < array_len(names); i++) must_add(f, names[i], "{}");
    assert_string_equal(page(f->ts, ANY, "", 9), "B a a- ab b ");
    assert_string_equal(page(f->ts, ANY, NULL, 5), "B a a- ab b ");
    assert_string_equal(page(f->ts, ANY, "", 1), "B ");
    assert_string_equal(page(f->ts, ANY, "B", 2), "a a- ");
    assert_string_equal(page(f->ts, ANY, "a", 2), "a- ab ");
    assert_string_equal(page(f->ts, ANY, "ab", 2), "b ");
    assert_string_equal(page(f->ts, ANY, "b", 2), "");
    assert_string_equal(page(f->ts, ANY, "aa", 1), "ab "); // which is not there
    assert_int_equal(act(f, f->ts, triggers_remove, "a-").code, 0);
    assert_string_equal(page(f->ts, ANY, "a-", 1), "ab "); // not any more
}

static void pages_of_some(void **state) {
    struct fixture *f = *state;
    must_add(f, "a", "{}");
    must_add(f, "b", "{}");
    must_add(f, "c", "{}");
    cleanup_answer struct answer d = add(f, "d", "audit", "{}");
    assert_int_equal(act(f, f->ts, triggers_pause, "b").code, 0);
    assert_string_equal(page(f->ts, (struct trigger_filter){.function = STR_LIT("orders"), .state = -1}, "a", 9), "b c ");
    assert_string_equal(page(f->ts, (struct trigger_filter){.function = STR_LIT("order"), .state = -1}, "", 9), "");
    assert_string_equal(page(f->ts, (struct trigger_filter){.state = TRIGGER_PAUSED}, "", 9), "b ");
    assert_string_equal(page(f->ts, (struct trigger_filter){.state = TRIGGER_ACTIVE}, "", 2), "a c ");
    assert_string_equal(page(f->ts, (struct trigger_filter){.kind = STR_LIT("kafka"), .state = TRIGGER_ACTIVE}, "c", 9), "d ");
    assert_string_equal(page(f->ts, (struct trigger_filter){.kind = STR_LIT("timer"), .state = -1}, "", 9), "");
    assert_string_equal(page(f->ts, (struct trigger_filter){.function = STR_LIT("audit"), .kind = STR_LIT("kafka")}, "", 9), "d ");
}

static const char insert_many[] = // in a mixed order
    "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 499) "
    "INSERT INTO triggers (name, function, kind, settings, state, epoch, created_ms, changed_ms, revision) "
    "SELECT printf('t%03d', i * 271 % 500), 'orders', 'kafka', '{}', 'active', 0, 1, 1, 1 FROM n";

static void pages_join_to_the_whole(void **state) {
    struct fixture *f = *state;
    run_sql(f, insert_many);
    triggers_free(f->ts);
    f->ts = open_node(f, on_other_change);
    static const size_t sizes[] = {1, 7, 100, 249, 250, 251, 499, 500, 501};
    for (size_t i = 0; i < array_len(sizes); i++) {
        char after[TRIGGER_NAME_MAX] = "", expected[TRIGGER_NAME_MAX];
        int seen = 0;
        for (size_t count = 1; count; ) {
            const struct trigger_filter any = ANY;
            const struct trigger **all = triggers_page(f->ts, &any, str_of(after), sizes[i], &count);
            for (size_t at = 0; at < count; at++) {
                snprintf(expected, sizeof expected, "t%03d", seen++);
                assert_string_equal(all[at]->name, expected);
            }
            if (count) snprintf(after, sizeof after, "%s", all[count - 1]->name);
            free(all);
        }
        assert_int_equal(seen, 500);
    }
}

// --- changing ---------------------------------------------------------------------------------------------------------

static void changes_settings(void **state) {
    struct fixture *f = *state;
    must_add(f, "t", "{\"url\":\"amqp://u:pw@h/\",\"batch\":\"1\"}");
    cleanup_answer struct answer a = change(f, "t", "{\"batch\":\"5\",\"order\":\"key\",\"url\":\"amqp://u:***@h/\"}");
    assert_int_equal(a.code, 0);
    assert_string_equal(setting(f->ts, "t", "batch"), "5");
    assert_string_equal(setting(f->ts, "t", "url"), "amqp://u:pw@h/"); // the mask that was shown stands for it
    cleanup_answer struct answer b = change(f, "t", "{\"order\":null}");
    assert_int_equal(b.code, 0);
    assert_null(setting(f->ts, "t", "order"));
    assert_int_equal(change(f, "t", "{\"order\":null}").code, ERR_INVALID);
    assert_int_equal(change(f, "t", "{\"order\":1}").code, ERR_INVALID);
    assert_int_equal(change(f, "u", "{}").code, ERR_NOT_FOUND);
    f->refuse = true;
    assert_int_equal(change(f, "t", "{\"batch\":\"6\"}").code, ERR_INVALID);
    assert_string_equal(setting(f->ts, "t", "batch"), "5");
    assert_string_equal(f->log, "t active 0\nt active 0\nt active 0\n");
}

static void does_not_overwrite_anothers_change(void **state) {
    struct fixture *f = *state;
    must_add(f, "t", "{\"batch\":\"1\"}");
    reload(f, f->other);
    cleanup_answer struct answer a = change(f, "t", "{\"batch\":\"2\"}");
    struct answer b = {0};
    triggers_change(f->other, STR_LIT("t"), json_pack("{s:s}", "batch", "3"), on_done, &b);
    wait_for(f, &b);
    assert_int_equal(b.code, ERR_CONFLICT);
    reload(f, f->other);
    assert_string_equal(setting(f->other, "t", "batch"), "2");
}

static void pauses_and_resumes(void **state) {
    struct fixture *f = *state;
    must_add(f, "t", "{}");
    reload(f, f->other);
    assert_int_equal(act(f, f->ts, triggers_pause, "t").code, 0);
    assert_int_equal(act(f, f->ts, triggers_pause, "t").code, 0); // says again what is so; nothing is told
    assert_string_equal(f->log, "t active 0\nt paused 0\n");
    assert_int_equal(act(f, f->other, triggers_resume, "t").code, 0); // whose cache still says active
    reload(f, f->ts);
    assert_string_equal(f->log, "t active 0\nt paused 0\nt active 0\n");
    assert_int_equal(act(f, f->ts, triggers_pause, "nobody").code, ERR_NOT_FOUND);
}

// The revision is told once; what could not be read then is read later.
static void reads_again_when_it_failed(void **state) {
    struct fixture *f = *state;
    must_add(f, "t", "{}");
    run_sql(f, "ALTER TABLE triggers RENAME TO hidden");
    reload(f, f->other);
    run_sql(f, "ALTER TABLE hidden RENAME TO triggers");
    assert_null(triggers_find(f->other, STR_LIT("t")));
    int64_t until_ns = clock_mono_ns() + 60000 * NS_PER_MS;
    while (!triggers_find(f->other, STR_LIT("t"))) {
        assert_true(clock_mono_ns() < until_ns);
        loop_turn(f->loop, 20);
    }
}

static void removes(void **state) {
    struct fixture *f = *state;
    must_add(f, "t", "{}");
    reload(f, f->other);
    assert_int_equal(act(f, f->other, triggers_remove, "t").code, 0);
    assert_int_equal(act(f, f->ts, triggers_pause, "t").code, ERR_NOT_FOUND); // the cache is late, the store is not
    reload(f, f->ts);
    assert_string_equal(f->log, "t active 0\nt gone -1\n");
    assert_int_equal(act(f, f->ts, triggers_remove, "t").code, ERR_NOT_FOUND);
}

// What changed is read alone; one that went, in the same moment as another came, is noticed all the same.
static void follows_a_swap(void **state) {
    struct fixture *f = *state;
    must_add(f, "t", "{}");
    must_add(f, "u", "{\"batch\":\"1\"}");
    reload(f, f->other);
    assert_int_equal(act(f, f->ts, triggers_remove, "t").code, 0);
    must_add(f, "v", "{}");
    cleanup_answer struct answer a = change(f, "u", "{\"batch\":\"2\"}");
    reload(f, f->other);
    assert_null(triggers_find(f->other, STR_LIT("t")));
    assert_non_null(triggers_find(f->other, STR_LIT("v")));
    assert_string_equal(setting(f->other, "u", "batch"), "2");
}

static void goes_with_its_function(void **state) {
    struct fixture *f = *state;
    must_add(f, "t", "{}");
    must_add(f, "u", "{}");
    cleanup_answer struct answer a = add(f, "v", "audit", "{}");
    run_sql(f, "DELETE FROM functions WHERE name = 'orders'");
    triggers_function_gone(f->ts, STR_LIT("orders"));
    assert_non_null(strstr(f->log, "t gone"));
    assert_non_null(strstr(f->log, "u gone"));
    reload(f, f->ts); // the rows went too
    assert_null(triggers_find(f->ts, STR_LIT("t")));
    assert_non_null(triggers_find(f->ts, STR_LIT("v")));
}

static void one_after_the_other(void **state) {
    struct fixture *f = *state;
    struct answer added, paused = {0}, removed = {0};
    f->hold_check = true;
    start_add(f, "t", "orders", "{}", &added);
    triggers_pause(f->ts, STR_LIT("t"), on_done, &paused);
    triggers_remove(f->ts, STR_LIT("t"), on_done, &removed);
    loop_turn(f->loop, 0);
    assert_non_null(f->checked);
    {
        struct answer other = {0};
        f->hold_check = false;
        triggers_add(f->ts, STR_LIT("u"), STR_LIT("orders"), STR_LIT("kafka"), json_object(), on_done, &other);
        wait_for(f, &other); // another trigger does not wait
        json_decref(other.json);
    }
    assert_false(added.there || paused.there || removed.there);
    f->checked(f->check_arg, 0, NULL);
    wait_for(f, &removed);
    assert_true(added.there && paused.there);
    assert_int_equal(added.code + paused.code + removed.code, 0);
    assert_string_equal(f->log, "u active 0\nt active 0\nt paused 0\nt gone -1\n");
    json_decref(added.json);
    json_decref(paused.json);
}

static void outlives_what_is_under_way(void **state) {
    struct fixture *f = *state;
    struct answer a, b = {0};
    f->hold_check = true;
    start_add(f, "t", "orders", "{}", &a);
    loop_turn(f->loop, 0);
    triggers_pause(f->ts, STR_LIT("t"), on_done, &b);
    triggers_free(TAKE_PTR(f->ts));
    f->checked(f->check_arg, 0, NULL);
    loop_turn(f->loop, 0);
    assert_false(a.there || b.there);
}

// --- seek -------------------------------------------------------------------------------------------------------------

static void start_seek(struct fixture *f, const char *to, struct answer *a) {
    *a = (struct answer){0};
    f->sought = NULL;
    triggers_seek(f->ts, STR_LIT("t"), str_of(to), on_done, a);
    int64_t limit = clock_mono_ns() + WAIT_NS;
    while (!f->sought && !a->there && clock_mono_ns() < limit) loop_turn(f->loop, 20);
}

static void seeks(void **state) {
    struct fixture *f = *state;
    must_add(f, "t", "{}");
    assert_int_equal(act(f, f->ts, triggers_pause, "t").code, 0);
    struct answer a;
    start_seek(f, "offset:0=5,1=7", &a);
    assert_non_null(f->sought);
    assert_string_equal(f->seek_to, "offset:0=5,1=7");
    reload(f, f->other);
    assert_int_equal(state_at(f->other, "t"), TRIGGER_SEEKING); // the other node stops too
    assert_int_equal(act(f, f->other, triggers_pause, "t").code, ERR_CONFLICT);
    f->sought(f->seek_arg, 0, NULL);
    wait_for(f, &a);
    assert_int_equal(a.code, 0);
    assert_int_equal(a.epoch, 1);
    json_decref(a.json);
    assert_string_equal(f->log, "t active 0\nt paused 0\nt seeking 0\nt paused 1\n");
}

static void a_failed_seek_changes_nothing(void **state) {
    struct fixture *f = *state;
    must_add(f, "t", "{}");
    struct answer a;
    struct err err;
    start_seek(f, "latest", &a);
    f->sought(f->seek_arg, err_set(&err, ERR_UNAVAILABLE, "the broker is away"), &err);
    wait_for(f, &a);
    assert_int_equal(a.code, ERR_UNAVAILABLE);
    assert_string_equal(a.err.text, "the broker is away");
    assert_string_equal(f->log, "t active 0\nt seeking 0\nt active 0\n");
}

static void knows_where_one_can_seek(void **state) {
    struct fixture *f = *state;
    must_add(f, "t", "{}");
    static const char *const wrong[] = {"", "yesterday", "offset:", "offset:1", "offset:1=2,", "offset:=2", "offset:-1=2", "20261120"};
    for (size_t i = 0; i < array_len(wrong); i++) {
        struct answer a;
        start_seek(f, wrong[i], &a);
        assert_true(a.there);
        assert_int_equal(a.code, ERR_INVALID);
    }
    assert_string_equal(f->log, "t active 0\n"); // nobody was stopped
    static const char *const good[] = {"earliest", "latest", "2026-11-20", "2026-11-20T00:00Z", "offset:12=0"};
    for (size_t i = 0; i < array_len(good); i++) {
        struct answer a;
        start_seek(f, good[i], &a);
        assert_non_null(f->sought);
        f->sought(f->seek_arg, 0, NULL);
        wait_for(f, &a);
        assert_int_equal(a.epoch, i + 1);
        json_decref(a.json);
    }
}

// A server died while it set the offsets: the next one finds `seeking`.
static void resume_ends_a_seek_that_was_left(void **state) {
    struct fixture *f = *state;
    must_add(f, "t", "{}");
    run_sql(f, "UPDATE triggers SET state = 'seeking', changed_ms = changed_ms + 1");
    reload(f, f->ts);
    struct answer a;
    start_seek(f, "latest", &a);
    assert_int_equal(a.code, ERR_CONFLICT);
    assert_non_null(strstr(a.err.text, "resume"));
    a = act(f, f->ts, triggers_resume, "t");
    assert_int_equal(a.code, 0);
    assert_int_equal(a.epoch, 1); // its offsets may be set
    assert_int_equal(state_at(f->ts, "t"), TRIGGER_ACTIVE);
}

// Somebody resumed it elsewhere and began another seek: the first one must not end the second.
static void a_late_seek_ends_nobody_elses(void **state) {
    struct fixture *f = *state;
    must_add(f, "t", "{}");
    struct answer a;
    start_seek(f, "latest", &a);
    run_sql(f, "UPDATE triggers SET epoch = epoch + 1, changed_ms = changed_ms + 1");
    f->sought(f->seek_arg, 0, NULL);
    wait_for(f, &a);
    assert_int_equal(a.code, ERR_CONFLICT);
    reload(f, f->ts);
    assert_int_equal(state_at(f->ts, "t"), TRIGGER_SEEKING);
}

// --- lag, masks -------------------------------------------------------------------------------------------------------

static void lags(void **state) {
    struct fixture *f = *state;
    must_add(f, "t", "{}");
    struct answer a = {0}, b = {0}, c = {0};
    f->lag = "{\"source\":{\"up\":true},\"binding\":null}";
    triggers_lag(f->ts, STR_LIT("t"), on_json, &a);
    wait_for(f, &a);
    cleanup_free char *text = json_dumps(a.json, JSON_COMPACT);
    assert_string_equal(text, "{\"trigger\":\"t\",\"state\":\"active\",\"source\":{\"up\":true},\"binding\":null}");
    json_decref(a.json);
    f->lag = NULL;
    triggers_lag(f->ts, STR_LIT("t"), on_json, &b);
    wait_for(f, &b);
    assert_int_equal(b.code, ERR_UNAVAILABLE);
    triggers_lag(f->ts, STR_LIT("u"), on_json, &c);
    wait_for(f, &c);
    assert_int_equal(c.code, ERR_NOT_FOUND);
}

static void masks_secrets(void **state) {
    (void)state;
    static const struct {
        const char *name, *value, *shown;
    } cases[] = {
        {"url", "amqp://user:pass@host/vhost", "amqp://user:***@host/vhost"},
        {"url", "amqps://user:p@ss@host", "amqps://user:***@host"},
        {"url", "amqp://user:pa/ss@host/v", "amqp://user:***@host/v"},
        {"url", "amqp://host:5672/v", "amqp://host:5672/v"},
        {"url", "amqp://host:5672/a@b", "amqp://host:5672/a@b"},
        {"url", "amqp://user@host:5672", "amqp://user@host:5672"},
        {"on_failure", "amqp://a:1@h, amqp://b:2@i/x", "amqp://a:***@h, amqp://b:***@i/x"},
        {"kafka.sasl.password", "hunter2", "***"},
        {"kafka.SSL.Key.Password", "x", "***"},
        {"kafka.ssl.key.pem", "-----BEGIN", "***"},
        {"client_secret", "x", "***"},
        {"token", "x", "***"},
        {"token", "", ""},
        {"topic", "orders", "orders"},
        {"key", "order.#", "order.#"},
        {"filter", "{\"body\":{\"a\":[\"x:y@z\"]}}", "{\"body\":{\"a\":[\"x:y@z\"]}}"},
    };
    for (size_t i = 0; i < array_len(cases); i++) {
        cleanup_free char *shown = trigger_mask_setting(cases[i].name, cases[i].value);
        assert_string_equal(shown, cases[i].shown);
    }
}

int main(void) {
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(adds_and_completes),
        T(tells_after_load),
        T(refuses_a_wrong_one_and_stores_nothing),
        T(one_name_one_trigger),
        T(has_a_cap),
        T(pages_by_name),
        T(pages_of_some),
        T(pages_join_to_the_whole),
        T(changes_settings),
        T(does_not_overwrite_anothers_change),
        T(pauses_and_resumes),
        T(removes),
        T(follows_a_swap),
        T(reads_again_when_it_failed),
        T(goes_with_its_function),
        T(one_after_the_other),
        T(outlives_what_is_under_way),
        T(seeks),
        T(a_failed_seek_changes_nothing),
        T(knows_where_one_can_seek),
        T(resume_ends_a_seek_that_was_left),
        T(a_late_seek_ends_nobody_elses),
        T(lags),
        T(masks_secrets),
    };
    return cmocka_run_group_tests_name("core/trigger", tests, NULL, NULL);
}
