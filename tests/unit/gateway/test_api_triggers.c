// SPDX-License-Identifier: Apache-2.0
// /v1/triggers: the gateway before the real core/trigger over a SQLite store in a temporary folder; the kinds' knowledge is faked.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>
#include <ftw.h>

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

static void open_gateway(void) {
    struct err err;
    const struct gateway_config config = {.loop = loop, .options = &options, .metrics = metrics, .triggers = triggers};
    assert_int_equal(gateway_open(&config, &gw, &err), 0);
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

// Asks, and demands the status and a part of the answer.
static void expect(const char *method, const char *path, const char *body, int code, const char *part) {
    int fd = client_dial(gateway_port(gw));
    cleanup_free char *text = mem_printf("%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s", method, path,
                                         strlen(body), body);
    client_send(loop, fd, str_of(text));
    cleanup_free char *answer = client_receive(loop, fd, NULL, 0);
    close(fd);
    if (client_status(answer) != code || !strstr(answer, part)) print_message("%s %s %s ->\n%s\n", method, path, body, answer);
    assert_int_equal(client_status(answer), code);
    assert_non_null(strstr(answer, part));
}

static void add_one(void) {
    expect("POST", "/v1/triggers", "{\"function\":\"orders\",\"kind\":\"kafka\",\"name\":\"t\",\"settings\":{\"topic\":\"o\",\"url\":\"amqp://u:p@h\"}}",
           201, "\"name\":\"t\",\"function\":\"orders\",\"kind\":\"kafka\",\"state\":\"active\",\"settings\":{\"topic\":\"o\",\"url\":\"amqp://u:***@h\"}");
}

static void adds_and_lists(void **state) {
    (void)state;
    expect("GET", "/v1/triggers", "", 200, "{\"triggers\":[]}");
    add_one();
    expect("POST", "/v1/triggers", "{\"function\":\"audit\",\"kind\":\"kafka\",\"settings\":{\"topic\":\"a\",\"batch\":5,\"filter\":{\"body\":{\"a\":[1]}}}}", 201,
           "\"settings\":{\"topic\":\"a\",\"batch\":\"5\",\"filter\":\"{\\\"body\\\":{\\\"a\\\":[1]}}\"}");
    expect("GET", "/v1/triggers", "", 200, "[{\"name\":\"kafka-audit\"");
    expect("GET", "/v1/triggers?function=orders", "", 200, "[{\"name\":\"t\"");
    expect("GET", "/v1/triggers/t", "", 200, "\r\n\r\n{\"name\":\"t\"");
    expect("GET", "/v1/triggers/t%00x", "", 404, "there is no trigger");
    expect("GET", "/v1/triggers/t/lag", "", 200, "{\"trigger\":\"t\",\"state\":\"active\",\"source\":null,\"binding\":null}");
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
    expect("GET", "/v1/triggers", "", 200, "{\"triggers\":[]}");
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
        T(tells_what_is_wrong),
        T(changes),
        T(a_server_without_triggers_says_so),
    };
    return cmocka_run_group_tests_name("gateway/api_triggers", tests, NULL, NULL);
}
