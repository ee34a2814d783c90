// SPDX-License-Identifier: Apache-2.0
// Who asks, and the audit around what they change: the gateway before the real core/trigger over SQLite. The audit is a stand-in that says when
// an entry is durable; tests/contract/test_audit.c has the real one.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/gateway.h"
#include "tests/support/http_client.h"
#include "tests/support/support.h"

typedef void done_fn(void *done_arg, int code, const struct err *err);

static struct loop *loop;
static struct store *store;
static struct triggers *triggers;
static struct gateway *gw;
static struct options options;
static struct metrics *metrics;
static char *dir;

// --- the stand-in -----------------------------------------------------------------------------------------------------

static struct {
    int begun, ended;
    char who[200], remote[100], action[100], target[300], outcome[700], filter[300];
    json_t *detail;
    audit_begun_fn *done; // not called yet
    void *arg;
    bool holds;           // done is called by release
    int code;             // that it is called with
} seen;

static void copy(char *to, size_t room, struct str s) {
    assert_true(s.len < room);
    if (s.len) memcpy(to, s.data, s.len);
    to[s.len] = '\0';
}

static void release(void) {
    struct err err;
    audit_begun_fn *done = TAKE_PTR(seen.done);
    if (seen.code) done(seen.arg, err_set(&err, (enum err_code)seen.code, "the store is away"), &err, 0);
    else done(seen.arg, 0, NULL, 41);
}

void audit_begin(struct audit *a, const struct audit_entry *e, audit_begun_fn *done, void *arg) {
    assert_ptr_equal(a, &seen);
    seen.begun++;
    copy(seen.who, sizeof seen.who, e->who);
    copy(seen.remote, sizeof seen.remote, e->remote);
    copy(seen.action, sizeof seen.action, e->action);
    copy(seen.target, sizeof seen.target, e->target);
    json_decref(seen.detail);
    seen.detail = e->detail;
    seen.done = done;
    seen.arg = arg;
    if (!seen.holds) release();
}

void audit_end(struct audit *a, int64_t id, struct str outcome) {
    assert_ptr_equal(a, &seen);
    assert_int_equal(id, 41);
    seen.ended++;
    copy(seen.outcome, sizeof seen.outcome, outcome);
}

void audit_list(struct audit *a, const struct audit_filter *f, audit_json_fn *fn, void *arg) {
    (void)a;
    snprintf(seen.filter, sizeof seen.filter, "%.*s|%.*s|%.*s|%lld|%lld|%lld|%zu", STR_ARG(f->who), STR_ARG(f->target), STR_ARG(f->action),
             (long long)f->since_ms, (long long)f->until_ms, (long long)f->before_id, f->limit);
    fn(arg, 0, NULL, json_pack("{s:[], s:n}", "entries", "next"));
}

void audit_show(struct audit *a, int64_t id, audit_json_fn *fn, void *arg) {
    (void)a;
    struct err err;
    if (id == 7) fn(arg, 0, NULL, json_pack("{s:i}", "id", 7));
    else fn(arg, err_set(&err, ERR_NOT_FOUND, "there is no entry"), &err, NULL);
}

// The rest of core/audit, for those who link with it.
struct audit *audit_new(const struct audit_config *config) {
    (void)config;
    return NULL;
}
bool audit_stop(struct audit *a) {
    return a == NULL;
}
void audit_free(struct audit *a) {
    (void)a;
}
void audit_note(struct audit *a, const char *action, struct str target, json_t *detail, struct str outcome) {
    (void)a, (void)action, (void)target, (void)outcome;
    json_decref(detail);
}

// --- setting up -------------------------------------------------------------------------------------------------------

static bool function_exists(void *arg, struct str function) {
    (void)arg;
    return str_is(function, "orders");
}

static void check(void *arg, const struct trigger *draft, done_fn *done, void *done_arg) {
    (void)arg, (void)draft;
    done(done_arg, 0, NULL);
}

static void seek(void *arg, const struct trigger *t, const char *to, done_fn *done, void *done_arg) {
    (void)arg, (void)t, (void)to;
    done(done_arg, 0, NULL);
}

static int insert_function(struct store_job *job, struct sql *sql, struct err *err) {
    (void)job;
    return sql_exec(sql, "INSERT INTO functions (name, current, created_ms) VALUES ('orders', 1, 1)", NULL, 0, NULL, NULL, NULL, err);
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

static int open_with(const char *name, const char *value, const char *listen, bool audited, struct err *err) {
    const struct gateway_config config = {
        .loop = loop, .options = &options, .metrics = metrics, .triggers = triggers, .audit = audited ? (struct audit *)(void *)&seen : NULL};
    assert_int_equal(options_set(&options, "listen", listen, "test", err), 0);
    if (name) assert_int_equal(options_set(&options, name, value, "test", err), 0);
    return gateway_open(&config, &gw, err);
}

static void start(const char *name, const char *value) {
    struct err err;
    if (open_with(name, value, "127.0.0.1:0", true, &err)) fail_msg("%s", err.text);
}

static int setup(void **state) {
    (void)state;
    static struct store_job job;
    job = (struct store_job){.run = insert_function, .done = on_inserted};
    struct err err;
    bool loaded = false;
    memset(&seen, 0, sizeof seen);
    loop = loop_new();
    options_init(&options);
    metrics = metrics_new();
    dir = temp_dir_new();
    cleanup_free char *url = mem_printf("sqlite:%s/weir.db", dir);
    assert_int_equal(store_open(loop, url, &store, &err), 0);
    store_submit(store, &job);
    const struct triggers_config config = {.loop = loop, .store = store, .function_exists = function_exists, .check = check, .seek = seek};
    triggers = triggers_new(&config);
    triggers_load(triggers, on_loaded, &loaded);
    TURN_UNTIL(loop, loaded);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    gateway_close(TAKE_PTR(gw));
    triggers_free(TAKE_PTR(triggers));
    store_close(TAKE_PTR(store));
    metrics_free(metrics);
    options_done(&options);
    json_decref(seen.detail);
    loop_free(loop);
    temp_dir_remove(dir);
    return 0;
}

static int post(const char *method, const char *path, const char *headers, const char *body) {
    int fd = client_dial(gateway_port(gw));
    cleanup_free char *text = mem_printf("%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n%s\r\n%s", method, path,
                                         strlen(body), headers, body);
    client_send(loop, fd, str_of(text));
    return fd;
}

static void finish(int fd, int status, const char *part) {
    cleanup_free char *answer = client_receive(loop, fd, NULL, 0);
    close(fd);
    if (client_status(answer) != status || !strstr(answer, part)) fail_msg("wanted %d with %s, got\n%s", status, part, answer);
}

static void expect(const char *method, const char *path, const char *body, int status, const char *part) {
    finish(post(method, path, "", body), status, part);
}

#define TRIGGER "{\"function\":\"orders\",\"kind\":\"kafka\",\"name\":\"t\",\"settings\":{\"topic\":\"o\"}}"

// --- entries ----------------------------------------------------------------------------------------------------------

static void changes_nothing_before_the_entry_is_durable(void **state) {
    (void)state;
    start(NULL, NULL);
    seen.holds = true;
    int fd = post("POST", "/v1/triggers", "", TRIGGER);
    TURN_UNTIL(loop, seen.begun == 1);
    expect("GET", "/v1/triggers", "", 200, "{\"triggers\":[],\"next\":null}");
    release();
    finish(fd, 201, "\"name\":\"t\"");
    expect("GET", "/v1/triggers", "", 200, "{\"triggers\":[{\"name\":\"t\"");
    assert_int_equal(seen.begun, 1);
    assert_int_equal(seen.ended, 1);
    assert_string_equal(seen.outcome, "ok");
    assert_string_equal(seen.who, "anonymous");
    assert_string_equal(seen.remote, "127.0.0.1");
    assert_string_equal(seen.action, "triggers.add");
    assert_string_equal(seen.target, "t");
    cleanup_free char *detail = json_dumps(seen.detail, JSON_COMPACT);
    assert_string_equal(detail, "{\"body\":" TRIGGER "}");
}

static void refuses_when_the_entry_cannot_be_written(void **state) {
    (void)state;
    start(NULL, NULL);
    seen.code = ERR_UNAVAILABLE;
    expect("POST", "/v1/triggers", TRIGGER, 503, "the store is away");
    expect("GET", "/v1/triggers", "", 200, "{\"triggers\":[],\"next\":null}");
    assert_int_equal(seen.ended, 0);
}

static void tells_how_it_ended(void **state) {
    (void)state;
    start(NULL, NULL);
    expect("DELETE", "/v1/triggers/none", "", 404, "NotFound");
    assert_string_equal(seen.action, "triggers.remove");
    assert_string_equal(seen.target, "none");
    assert_string_equal(seen.outcome, "NotFound: there is no trigger 'none'");
    expect("POST", "/v1/triggers", "nonsense", 400, "InvalidArgument");
    assert_true(str_starts(str_of(seen.outcome), "InvalidArgument: the body is not JSON"));
    assert_int_equal(seen.ended, 2);
}

static void a_word_in_the_body_avoids_no_entry(void **state) {
    (void)state;
    start(NULL, NULL);
    expect("POST", "/v1/triggers", TRIGGER, 201, "\"name\":\"t\"");
    expect("DELETE", "/v1/triggers/t", "{\"dryRun\":true}", 200, ""); // it has no dry run
    assert_int_equal(seen.begun, 2);
    assert_string_equal(seen.action, "triggers.remove");
    assert_string_equal(seen.outcome, "ok");
}

static void looking_leaves_no_entry(void **state) {
    (void)state;
    start("token", "s3cret");
    finish(post("GET", "/v1/triggers", "Authorization: Bearer s3cret\r\n", ""), 200, "[]");
    finish(post("HEAD", "/v1/triggers", "Authorization: Bearer s3cret\r\n", ""), 200, "");
    finish(post("PUT", "/v1/triggers", "Authorization: Bearer s3cret\r\n", ""), 405, "Allow");
    finish(post("POST", "/nothing", "Authorization: Bearer s3cret\r\n", ""), 404, "NotFound");
    expect("POST", "/v1/triggers", TRIGGER, 401, "Unauthorized");
    assert_int_equal(seen.begun, 0);
}

static void carries_on_when_the_client_leaves(void **state) {
    (void)state;
    start(NULL, NULL);
    seen.holds = true;
    int fd = post("POST", "/v1/triggers", "", TRIGGER);
    TURN_UNTIL(loop, seen.begun == 1);
    close(fd);
    TURN_UNTIL(loop, gateway_open_requests(gw) == 0);
    release();
    TURN_UNTIL(loop, seen.ended == 1);
    assert_string_equal(seen.outcome, "ok");
    expect("GET", "/v1/triggers", "", 200, "{\"triggers\":[{\"name\":\"t\"");
}

static void changes_nothing_any_more_when_it_stops(void **state) {
    (void)state;
    start(NULL, NULL);
    seen.holds = true;
    int fd = post("POST", "/v1/triggers", "", TRIGGER);
    TURN_UNTIL(loop, seen.begun == 1);
    gateway_close(TAKE_PTR(gw));
    release();
    close(fd);
    assert_int_equal(seen.ended, 1);
    assert_string_equal(seen.outcome, "Unavailable: the server is stopping");
    start(NULL, NULL);
    expect("GET", "/v1/triggers", "", 200, "{\"triggers\":[],\"next\":null}");
}

static void keeps_no_cargo(void **state) {
    (void)state;
    start(NULL, NULL);
    cleanup_free char *large = mem_alloc(70001);
    memset(large, ' ', 70000);
    memcpy(large, "{}", 2);
    large[70000] = '\0';
    const struct {
        const char *body, *detail;
    } cases[] = {
        {"", "{}"},
        {"{\"package\":\"UEsDBA==\",\"settings\":{\"env\":{\"KEY\":\"x\"}}}", "{\"bodyBytes\":53}"},
        {"{\"letters\":[{}]}", "{\"bodyBytes\":16}"},
        {"a=1&b=2", "{\"bodyBytes\":7}"},
        {"[1]", "{\"body\":[1]}"},
        {large, "{\"bodyBytes\":70000}"},
    };
    for (size_t i = 0; i < array_len(cases); i++) {
        finish(post("POST", "/v1/triggers/u/pause", "", cases[i].body), 404, "NotFound");
        cleanup_free char *detail = json_dumps(seen.detail, JSON_COMPACT);
        assert_string_equal(detail, cases[i].detail);
    }
}

static void tells_what_it_is_done_to(void **state) {
    (void)state;
    start(NULL, NULL);
    const struct {
        const char *body, *target;
    } cases[] = {
        {"{\"function\":\"f\"}", "f"}, {"{\"ids\":[\"i1\"],\"function\":\"f\"}", "i1"}, {"{\"ids\":[\"i1\",\"i2\"]}", ""},
        {"{\"name\":7}", ""},          {"\"name\"", ""},
    };
    for (size_t i = 0; i < array_len(cases); i++) {
        expect("POST", "/v1/triggers", cases[i].body, 400, "InvalidArgument");
        assert_string_equal(seen.target, cases[i].target);
    }
}

static void works_without_an_audit(void **state) {
    (void)state;
    struct err err;
    assert_int_equal(open_with(NULL, NULL, "127.0.0.1:0", false, &err), 0);
    expect("POST", "/v1/triggers", TRIGGER, 201, "\"name\":\"t\"");
    expect("GET", "/v1/audit", "", 503, "no audit");
    expect("GET", "/v1/audit/7", "", 503, "no audit");
    assert_int_equal(seen.begun, 0);
}

// --- who --------------------------------------------------------------------------------------------------------------

static void expect_who(const char *headers, int status, const char *who) {
    seen.who[0] = '\0';
    finish(post("DELETE", "/v1/triggers/none", headers, ""), status, "");
    assert_string_equal(seen.who, who);
}

static void tokens_have_names(void **state) {
    (void)state;
    struct err err;
    assert_int_equal(options_set(&options, "token", "master", "test", &err), 0);
    start("tokens", "alice:s3cr:et,ci:t0p,alice:rotated");
    expect_who("Authorization: Bearer master\r\n", 404, "token");
    expect_who("Authorization: Bearer s3cr:et\r\n", 404, "alice");
    expect_who("Authorization: Bearer rotated\r\n", 404, "alice");
    expect_who("authorization: bearer t0p\r\nX-Weir-User: bob\r\n", 404, "ci");
    expect_who("Authorization: Bearer alice:s3cr:et\r\n", 401, "");
    expect_who("Authorization: Bearer \r\n", 401, "");
    expect_who("X-Weir-User: alice\r\n", 401, "");
    int fd = post("GET", "/v1/config", "Authorization: Bearer t0p\r\n", "");
    cleanup_free char *config = client_receive(loop, fd, NULL, 0);
    close(fd);
    assert_non_null(strstr(config, "{\"name\":\"tokens\",\"value\":\"***\""));
    assert_null(strstr(config, "s3cr"));
}

static void without_tokens_nobody_vouches_for_a_name(void **state) {
    (void)state;
    start(NULL, NULL);
    expect_who("", 404, "anonymous");
    expect_who("X-Weir-User: bob\r\n", 404, "bob (unverified)");
    expect_who("X-Weir-User: b\xff\xc3\xa4\tc\r\n", 404, "b\xef\xbf\xbd\xc3\xa4?c (unverified)");
    char header[400] = "X-Weir-User: ";
    memset(header + strlen(header), 'x', 300);
    strcat(header, "\r\n");
    finish(post("DELETE", "/v1/triggers/none", header, ""), 404, "");
    assert_int_equal(strlen(seen.who), AUDIT_WHO_MAX);
    assert_true(str_starts(str_of(seen.who + 80), "xxxxxxx (unverified)"));
}

static void refuses_lists_of_tokens_that_are_none(void **state) {
    (void)state;
    static const char *const wrong[] = {"s3cret", ":s3cret", "alice:", "alice:s3cret,", "a:s3cret,,b:s3cret", "a b:s3cret",
                                        "weir:s3cret", "token:s3cret", "anonymous:s3cret", "a(unverified):s3cret"};
    for (size_t i = 0; i < array_len(wrong); i++) {
        struct err err = {0};
        int rc = open_with("tokens", wrong[i], "127.0.0.1:0", true, &err);
        if (rc != ERR_INVALID) fail_msg("'%s' was taken", wrong[i]);
        if (strstr(err.text, "s3cret")) fail_msg("%s", err.text);
    }
    struct err err;
    assert_int_equal(open_with("tokens", "", "0.0.0.0:0", true, &err), ERR_INVALID);
    assert_int_equal(open_with("tokens", "alice:x", "0.0.0.0:0", true, &err), 0);
}

// --- looking ----------------------------------------------------------------------------------------------------------

static void lists(void **state) {
    (void)state;
    start(NULL, NULL);
    expect("GET", "/v1/audit", "", 200, "{\"entries\":[],\"next\":null}");
    assert_string_equal(seen.filter, "|||0|0|0|100");
    expect("GET", "/v1/audit?who=a%20b&target=t&action=letters.&sinceMs=1&untilMs=2&cursor=3&limit=4", "", 200, "entries");
    assert_string_equal(seen.filter, "a b|t|letters.|1|2|3|4");
    expect("GET", "/v1/audit?limit=0", "", 400, "limit");
    expect("GET", "/v1/audit?limit=1001", "", 400, "limit");
    expect("GET", "/v1/audit?cursor=0", "", 400, "cursor");
    expect("GET", "/v1/audit?sinceMs=yesterday", "", 400, "sinceMs");
    expect("GET", "/v1/audit/7", "", 200, "{\"id\":7}");
    expect("GET", "/v1/audit/8", "", 404, "there is no entry");
    expect("GET", "/v1/audit/-7", "", 404, "not the number");
    expect("GET", "/v1/audit/1234567890123456789", "", 404, "not the number");
    assert_int_equal(seen.begun, 0);
}

int main(void) {
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(changes_nothing_before_the_entry_is_durable),
        T(refuses_when_the_entry_cannot_be_written),
        T(tells_how_it_ended),
        T(a_word_in_the_body_avoids_no_entry),
        T(looking_leaves_no_entry),
        T(carries_on_when_the_client_leaves),
        T(changes_nothing_any_more_when_it_stops),
        T(keeps_no_cargo),
        T(tells_what_it_is_done_to),
        T(works_without_an_audit),
        T(tokens_have_names),
        T(without_tokens_nobody_vouches_for_a_name),
        T(refuses_lists_of_tokens_that_are_none),
        T(lists),
    };
    return cmocka_run_group_tests_name("gateway/audited", tests, NULL, NULL);
}
