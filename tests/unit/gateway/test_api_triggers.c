// SPDX-License-Identifier: Apache-2.0
// /v1/triggers: the gateway before the real core/trigger over a SQLite store in a temporary folder; the kinds' knowledge is faked.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>
#include <ftw.h>

#include "dlq/fires.h"
#include "gateway/gateway.h"
#include "tests/support/http_client.h"

typedef void done_fn(void *done_arg, int code, const struct err *err);

static struct loop *loop;
static struct store *store;
static struct triggers *triggers;
static struct gateway *gw;
static struct options options;
static struct metrics *metrics;
static char dir[64], sought[100];

static bool function_exists(void *arg, struct str function) {
    (void)arg;
    return str_is(function, "orders") || str_is(function, "audit");
}

static void check(void *arg, const struct trigger *draft, done_fn *done, void *done_arg) {
    (void)arg;
    struct err err;
    if (json_object_get(draft->settings, "topic")) done(done_arg, 0, NULL);
    else done(done_arg, err_set(&err, ERR_INVALID, "topic is needed:\n  topic=orders"), &err);
}

static void seek(void *arg, const struct trigger *t, const char *to, done_fn *done, void *done_arg) {
    (void)arg, (void)t;
    snprintf(sought, sizeof sought, "%s", to);
    done(done_arg, 0, NULL);
}

// --- timers, faked: what was asked of them is in `asked` -------------------------------------------------------------

static char asked[200];

static int timer_next(void *arg, struct str name, int64_t after_ms, int64_t until_ms, size_t count, json_t **ret, struct err *err) {
    (void)arg;
    snprintf(asked, sizeof asked, "next %.*s %lld %lld %zu", STR_ARG(name), (long long)after_ms, (long long)until_ms, count);
    if (count == 999) return err_set(err, ERR_NOT_FOUND, "it went");
    *ret = json_pack("{s:[]}", "fires");
    return 0;
}

static void timer_fire(void *arg, struct str name, int64_t scheduled_ms, struct str data, trigger_json_fn *fn, void *fn_arg) {
    (void)arg;
    struct err err;
    snprintf(asked, sizeof asked, "fire %.*s %lld %s", STR_ARG(name), (long long)scheduled_ms, data.data ? data.data : "(message)");
    if (scheduled_ms == 7) fn(fn_arg, err_set(&err, ERR_CONFLICT, "that time has a fire"), &err, NULL);
    else fn(fn_arg, 0, NULL, json_pack("{s:I}", "scheduledMs", (json_int_t)scheduled_ms));
}

void fires_history(struct fires *f, struct str trigger, int64_t before_ms, size_t limit, letters_json_fn *fn, void *arg) {
    (void)f;
    snprintf(asked, sizeof asked, "history %.*s %lld %zu", STR_ARG(trigger), (long long)before_ms, limit);
    fn(arg, 0, NULL, json_pack("{s:[], s:n}", "fires", "next"));
}

static int insert_functions(struct store_job *job, struct sql *sql, struct err *err) {
    (void)job;
    return sql_exec(sql, "INSERT INTO functions (name, current, created_ms) VALUES ('orders', 1, 1), ('audit', 1, 1)", NULL, 0, NULL,
                    NULL, NULL, err);
}

static void on_inserted(struct store_job *job, int code, const struct err *err) {
    (void)job, (void)err;
    assert_int_equal(code, 0);
}

static void on_loaded(void *arg, int code, const struct err *err) {
    (void)err;
    assert_int_equal(code, 0);
    *(bool *)arg = true;
}

static void open_triggers(void) {
    static struct store_job job = {.run = insert_functions, .done = on_inserted};
    const struct triggers_config config = {
        .loop = loop, .store = store, .function_exists = function_exists, .check = check, .seek = seek};
    bool loaded = false;
    int64_t deadline = 0;
    store_submit(store, &job);
    triggers = triggers_new(&config);
    triggers_load(triggers, on_loaded, &loaded);
    while (!loaded && client_wait(loop, &deadline)) continue;
    assert_true(loaded);
}

static void open_gateway_with(bool timers) {
    struct err err;
    struct gateway_config config = {.loop = loop, .options = &options, .metrics = metrics, .triggers = triggers};
    if (timers) {
        config.timer_next = timer_next;
        config.timer_fire = timer_fire;
        config.fires = (struct fires *)&asked;
    }
    assert_int_equal(gateway_open(&config, &gw, &err), 0);
}

static void open_gateway(void) {
    open_gateway_with(true);
}

static int setup(void **state) {
    (void)state;
    struct err err;
    loop = loop_new();
    options_init(&options);
    metrics = metrics_new();
    assert_int_equal(options_set(&options, "listen", "127.0.0.1:0", "test", &err), 0);
    snprintf(dir, sizeof dir, "/tmp/weir-triggers-XXXXXX");
    assert_non_null(mkdtemp(dir));
    cleanup_free char *url = mem_printf("sqlite:%s/weir.db", dir);
    assert_int_equal(store_open(loop, url, &store, &err), 0);
    open_triggers();
    open_gateway();
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int teardown(void **state) {
    (void)state;
    gateway_close(TAKE_PTR(gw));
    triggers_free(TAKE_PTR(triggers));
    store_close(TAKE_PTR(store));
    metrics_free(metrics);
    options_done(&options);
    loop_free(loop);
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}

// Asks, and demands the status. The whole answer; caller frees.
static char *ask(const char *method, const char *path, const char *body, int code) {
    int fd = client_dial(gateway_port(gw));
    cleanup_free char *text = mem_printf("%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s", method, path,
                                         strlen(body), body);
    client_send(loop, fd, str_of(text));
    char *answer = client_receive(loop, fd, NULL, 0);
    close(fd);
    if (client_status(answer) != code) print_message("%s %s %s ->\n%s\n", method, path, body, answer);
    assert_int_equal(client_status(answer), code);
    return answer;
}

// And a part of the answer.
static void expect(const char *method, const char *path, const char *body, int code, const char *part) {
    cleanup_free char *answer = ask(method, path, body, code);
    if (!strstr(answer, part)) print_message("%s %s %s ->\n%s\n", method, path, body, answer);
    assert_non_null(strstr(answer, part));
}

static void add_one(void) {
    expect("POST", "/v1/triggers", "{\"function\":\"orders\",\"kind\":\"kafka\",\"name\":\"t\",\"settings\":{\"topic\":\"o\",\"url\":\"amqp://u:p@h\"}}",
           201, "\"name\":\"t\",\"function\":\"orders\",\"kind\":\"kafka\",\"state\":\"active\",\"settings\":{\"topic\":\"o\",\"url\":\"amqp://u:***@h\"}");
}

static void adds_and_lists(void **state) {
    (void)state;
    expect("GET", "/v1/triggers", "", 200, "{\"triggers\":[],\"next\":null}");
    add_one();
    expect("POST", "/v1/triggers", "{\"function\":\"audit\",\"kind\":\"kafka\",\"settings\":{\"topic\":\"a\",\"batch\":5,\"filter\":{\"body\":{\"a\":[1]}}}}", 201,
           "\"settings\":{\"topic\":\"a\",\"batch\":\"5\",\"filter\":\"{\\\"body\\\":{\\\"a\\\":[1]}}\"}");
    expect("GET", "/v1/triggers", "", 200, "[{\"name\":\"kafka-audit\"");
    expect("GET", "/v1/triggers?function=orders", "", 200, "[{\"name\":\"t\"");
    expect("GET", "/v1/triggers/t", "", 200, "\r\n\r\n{\"name\":\"t\"");
    expect("GET", "/v1/triggers/t%00x", "", 404, "the path has a part");
    expect("GET", "/v1/triggers/t/lag", "", 200, "{\"trigger\":\"t\",\"state\":\"active\",\"source\":null,\"binding\":null}");
}

static void add_named(const char *name, const char *function, const char *kind, const char *settings) {
    cleanup_free char *body = mem_printf("{\"function\":\"%s\",\"kind\":\"%s\",\"name\":\"%s\",\"settings\":{\"topic\":\"%s\"}}", function, kind,
                                         name, settings);
    expect("POST", "/v1/triggers", body, 201, name);
}

// Asks for a listing, and demands its names and next: "a b >b", "a b >-".
static void expect_page(const char *query, const char *names) {
    cleanup_free char *path = mem_printf("/v1/triggers?%s", query);
    cleanup_free char *answer = ask("GET", path, "", 200);
    json_t *page = json_loads(strstr(answer, "\r\n\r\n") + 4, 0, NULL), *one;
    char text[1000] = "";
    size_t i, used = 0;
    assert_non_null(page);
    json_array_foreach(json_object_get(page, "triggers"), i, one)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s ", json_string_value(json_object_get(one, "name")));
    const char *next = json_string_value(json_object_get(page, "next"));
    snprintf(text + used, sizeof text - used, ">%s", next ? next : "-");
    if (!next) assert_true(json_is_null(json_object_get(page, "next")));
    assert_int_equal(json_object_size(page), 2);
    assert_string_equal(text, names);
    json_decref(page);
}

static void lists_by_page(void **state) {
    (void)state;
    add_named("c", "orders", "timer", "x");
    add_named("a", "orders", "kafka", "x");
    add_named("d.1_-Z", "audit", "kafka", "x");
    add_named("b", "orders", "kafka", "x");
    expect("POST", "/v1/triggers/b/pause", "", 200, "paused");
    expect_page("", "a b c d.1_-Z >-");
    expect_page("limit=4", "a b c d.1_-Z >-");
    expect_page("limit=2", "a b >b");
    expect_page("limit=2&cursor=b", "c d.1_-Z >-");
    expect_page("limit=1&cursor=c", "d.1_-Z >-");
    expect_page("cursor=d.1_-Z", ">-");
    expect_page("cursor=&limit=1", "a >a");
    expect("DELETE", "/v1/triggers/b", "", 200, "b");
    expect_page("limit=1&cursor=b", "c >c"); // that of the page before went
    expect_page("kind=kafka&limit=1", "a >a");
    expect_page("kind=kafka&limit=1&cursor=a", "d.1_-Z >-");
    expect_page("kind=amqp", ">-");
    expect_page("function=orders&kind=timer&state=active", "c >-");
    expect_page("state=paused", ">-");
    expect_page("function=", "a c d.1_-Z >-");
}

// A page of large settings ends before its limit.
static void ends_a_page_by_its_bytes(void **state) {
    (void)state;
    char name[16], text[65000 + 1];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (int i = 0; i < 150; i++) {
        snprintf(name, sizeof name, "t%03d", i);
        add_named(name, "orders", "kafka", text);
    }
    cleanup_free char *first = ask("GET", "/v1/triggers?limit=1000", "", 200), *rest = ask("GET", "/v1/triggers?limit=1000&cursor=t128", "", 200);
    assert_non_null(strstr(first, "],\"next\":\"t128\"}"));
    assert_null(strstr(first, "\"name\":\"t129\""));
    assert_non_null(strstr(rest, "{\"triggers\":[{\"name\":\"t129\""));
    assert_non_null(strstr(rest, "],\"next\":null}"));
}

static void tells_what_is_wrong_with_a_listing(void **state) {
    (void)state;
    cleanup_free char *longest = mem_zalloc(TRIGGER_NAME_MAX + 2);
    memset(longest, 'n', TRIGGER_NAME_MAX);
    cleanup_free char *good = mem_printf("/v1/triggers?cursor=%s", longest), *bad = mem_printf("/v1/triggers?cursor=%sn", longest);
    static const struct {
        const char *query, *part;
    } cases[] = {
        {"limit=0", "limit must be a whole number from 1 to 1000"}, {"limit=1001", "limit must be"}, {"limit=", "limit must be"},
        {"limit=-1", "limit must be"}, {"limit=1e2", "limit must be"}, {"limit=99999999999999999999", "limit must be"},
        {"cursor=a%20b", "the cursor is not one that a listing gave out"}, {"cursor=%22", "the cursor"}, {"cursor=%C3%A4", "the cursor"},
        {"cursor=a%00b", "InvalidArgument"}, {"kind=mqtt", "kind is kafka, amqp or timer"}, {"kind=Kafka", "kind is"},
        {"state=gone", "state is active, paused or seeking"}, {"name=t", "unknown parameter 'name'; there are: function kind state limit cursor"},
    };
    for (size_t i = 0; i < array_len(cases); i++) {
        cleanup_free char *path = mem_printf("/v1/triggers?%s", cases[i].query);
        expect("GET", path, "", 400, cases[i].part);
    }
    expect("GET", good, "", 200, "[]");
    expect("GET", bad, "", 400, "the cursor is not one");
}

static void tells_what_is_wrong(void **state) {
    (void)state;
    static const struct {
        const char *body, *part;
        int code;
    } cases[] = {
        {"{", "not JSON", 400},
        {"{\"kind\":\"kafka\",\"settings\":{}}", "function and kind are needed", 400},
        {"{\"function\":\"orders\",\"kind\":\"kafka\"}", "settings must be an object", 400},
        {"{\"function\":\"orders\",\"kind\":\"kafka\",\"settings\":{\"a\":null}}", "setting a is null", 400},
        {"{\"function\":\"orders\",\"kind\":\"kafka\",\"settings\":{},\"nam\":1}", "unknown member 'nam'", 400},
        {"{\"function\":\"orders\",\"kind\":\"kafka\",\"settings\":{},\"name\":1}", "name must be a string", 400},
        {"{\"function\":\"orders\",\"kind\":\"kafka\",\"settings\":{}}", "topic is needed:\\n  topic=orders", 400},
        {"{\"function\":\"nobody\",\"kind\":\"kafka\",\"settings\":{}}", "no function 'nobody'", 404},
    };
    for (size_t i = 0; i < array_len(cases); i++) expect("POST", "/v1/triggers", cases[i].body, cases[i].code, cases[i].part);
    add_one();
    expect("POST", "/v1/triggers", "{\"function\":\"orders\",\"kind\":\"kafka\",\"name\":\"t\",\"settings\":{\"topic\":\"o\"}}", 409, "Conflict");
    static const char *const verbs[] = {"/pause", "/resume", "/seek"};
    for (size_t i = 0; i < array_len(verbs); i++) {
        cleanup_free char *path = mem_printf("/v1/triggers/u%s", verbs[i]);
        expect("POST", path, "{\"to\":\"latest\"}", 404, "there is no trigger 'u'");
    }
    expect("PATCH", "/v1/triggers/u", "{\"settings\":{}}", 404, "NotFound");
    expect("DELETE", "/v1/triggers/u", "", 404, "NotFound");
    expect("GET", "/v1/triggers/u/lag", "", 404, "NotFound");
    expect("PUT", "/v1/triggers/t", "", 405, "Allow: GET, PATCH, DELETE\r\n");
}

static void changes(void **state) {
    (void)state;
    add_one();
    expect("PATCH", "/v1/triggers/t", "{\"settings\":{\"batch\":7,\"url\":null}}", 200, "\"settings\":{\"topic\":\"o\",\"batch\":\"7\"}");
    expect("PATCH", "/v1/triggers/t", "{\"settings\":{\"topic\":null}}", 400, "topic is needed");
    expect("PATCH", "/v1/triggers/t", "{}", 400, "settings must be");
    expect("POST", "/v1/triggers/t/pause", "", 200, "\"state\":\"paused\"");
    expect("POST", "/v1/triggers/t/seek", "{\"to\":\"offset:0=1\"}", 200, "\"state\":\"paused\"");
    assert_string_equal(sought, "offset:0=1");
    expect("POST", "/v1/triggers/t/seek", "{\"to\":\"nowhere\"}", 400, "no place to seek to");
    expect("POST", "/v1/triggers/t/seek", "{}", 400, "to is needed");
    expect("POST", "/v1/triggers/t/resume", "", 200, "\"state\":\"active\"");
    expect("DELETE", "/v1/triggers/t", "", 200, "{\"name\":\"t\"}");
    expect("GET", "/v1/triggers", "", 200, "{\"triggers\":[],\"next\":null}");
}

static void expect_asked(const char *text) {
    assert_string_equal(asked, text);
    asked[0] = '\0';
}

static void add_timer(void) {
    expect("POST", "/v1/triggers", "{\"function\":\"orders\",\"kind\":\"timer\",\"name\":\"c\",\"settings\":{\"topic\":\"o\"}}", 201, "\"c\"");
    asked[0] = '\0';
}

static void tells_when_a_timer_fires(void **state) {
    (void)state;
    add_timer();
    expect("GET", "/v1/triggers/c/next", "", 200, "{\"fires\":[]}");
    expect_asked("next c 0 0 10");
    expect("GET", "/v1/triggers/c/next?count=1000&after=5&until=1970-01-01T01:00:01%2B01:00", "", 200, "{\"fires\":[]}");
    expect_asked("next c 5 1000 1000");
    expect("GET", "/v1/triggers/c/next?after=1970-01-01T01:00:01+01:00", "", 200, "{\"fires\":[]}"); // the + as a query has it
    expect_asked("next c 1000 0 10");
    expect("GET", "/v1/triggers/c/next?count=999", "", 404, "it went");
    asked[0] = '\0';
    expect("GET", "/v1/triggers/c/next?count=1001", "", 400, "count must be");
    expect("GET", "/v1/triggers/c/next?count=0", "", 400, "count must be");
    expect("GET", "/v1/triggers/c/next?after=soon", "", 400, "after must be Unix milliseconds");
    expect("GET", "/v1/triggers/c/next?until=soon", "", 400, "until must be Unix milliseconds");
    expect_asked("");
}

static void tells_what_a_timer_did(void **state) {
    (void)state;
    add_timer();
    expect("GET", "/v1/triggers/c/fires", "", 200, "{\"fires\":[],\"next\":null}");
    expect_asked("history c 0 20");
    expect("GET", "/v1/triggers/c/fires?limit=3&before=1970-01-01T00:00:00.25Z", "", 200, "fires");
    expect_asked("history c 250 3");
    expect("GET", "/v1/triggers/c/fires?limit=1001", "", 400, "limit must be");
    expect("GET", "/v1/triggers/c/fires?before=x", "", 400, "before must be");
    expect_asked("");
}

static void fires_by_hand(void **state) {
    (void)state;
    add_timer();
    expect("POST", "/v1/triggers/c/fires", "", 202, "{\"scheduledMs\":0}");
    expect_asked("fire c 0 (message)");
    expect("POST", "/v1/triggers/c/fires", "{}", 202, "scheduledMs");
    expect_asked("fire c 0 (message)");
    expect("POST", "/v1/triggers/c/fires", "{\"scheduledMs\":60000,\"data\":\"text\"}", 202, "{\"scheduledMs\":60000}");
    expect_asked("fire c 60000 text");
    expect("POST", "/v1/triggers/c/fires", "{\"data\":\"\"}", 202, "scheduledMs");
    expect_asked("fire c 0 ");
    expect("POST", "/v1/triggers/c/fires", "{\"data\":{\"a\":[1, 0.1]}}", 202, "scheduledMs");
    expect_asked("fire c 0 {\"a\":[1,0.10000000000000001]}");
    expect("POST", "/v1/triggers/c/fires", "{\"scheduledMs\":7}", 409, "that time has a fire");
    asked[0] = '\0';
    static const char *const bad[] = {"[]", "{\"scheduledMs\":0}", "{\"scheduledMs\":-5}", "{\"scheduledMs\":1.5}", "{\"scheduledMs\":\"now\"}", "{\"at\":1}"};
    for (size_t i = 0; i < array_len(bad); i++) expect("POST", "/v1/triggers/c/fires", bad[i], 400, "InvalidArgument");
    cleanup_free char *big = mem_alloc(EV_PAYLOAD_MAX + 20);
    memset(big, 'x', EV_PAYLOAD_MAX + 20);
    memcpy(big, "{\"data\":\"", 9);
    memcpy(big + 9 + EV_PAYLOAD_MAX + 1, "\"}", 3);
    expect("POST", "/v1/triggers/c/fires", big, 413, "the limit is 6291456");
    expect_asked("");
}

static void only_timers_have_fires(void **state) {
    (void)state;
    add_one();
    static const char *const paths[] = {"next", "fires"};
    for (size_t i = 0; i < array_len(paths); i++) {
        cleanup_free char *other = mem_printf("/v1/triggers/t/%s", paths[i]), *none = mem_printf("/v1/triggers/u/%s", paths[i]);
        expect("GET", other, "", 400, "trigger t is of kind kafka; only timers have fires");
        expect("GET", none, "", 404, "there is no trigger 'u'");
    }
    expect("POST", "/v1/triggers/t/fires", "", 400, "only timers");
    expect("POST", "/v1/triggers/u/fires", "", 404, "there is no trigger 'u'");
    gateway_close(gw);
    open_gateway_with(false);
    expect("GET", "/v1/triggers/t/next", "", 503, "this server has no timers");
    expect("POST", "/v1/triggers/t/fires", "", 503, "this server has no timers");
}

static void a_server_without_triggers_says_so(void **state) {
    (void)state;
    gateway_close(gw);
    triggers_free(TAKE_PTR(triggers));
    open_gateway();
    expect("GET", "/v1/triggers", "", 503, "this server has no triggers");
    expect("GET", "/v1/triggers/t", "", 503, "this server has no triggers");
    expect("POST", "/v1/triggers", "{}", 503, "this server has no triggers");
}

int main(void) {
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(adds_and_lists),
        T(lists_by_page),
        T(ends_a_page_by_its_bytes),
        T(tells_what_is_wrong_with_a_listing),
        T(tells_what_is_wrong),
        T(changes),
        T(tells_when_a_timer_fires),
        T(tells_what_a_timer_did),
        T(fires_by_hand),
        T(only_timers_have_fires),
        T(a_server_without_triggers_says_so),
    };
    return cmocka_run_group_tests_name("gateway/api_triggers", tests, NULL, NULL);
}
