// SPDX-License-Identifier: Apache-2.0
// gateway: routes, the token, and every handler, with stand-ins for the parts behind them.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "dlq/edit.h"
#include "dlq/fires.h"
#include "dlq/vendor_letter.h"
#include "gateway/gateway.h"
#include "tests/support/http_client.h"
#include "tests/support/registry_look.h"

static struct loop *loop;
static struct gateway *gw;
static struct options options;
static struct fnlog *fnlog;
static struct metrics *metrics;
static struct status *status;
static const char *not_ready;
static struct registry registry;
static bool made_elsewhere; // another node has version 4: it is known here after a look
static bool others; // functions, besides hello

// --- stand-ins ----------------------------------------------------------------------------------------------------

static struct version version_3 = {.function = (char[]){"hello"}, .number = 3, .sha256 = "aa", .created_ms = 5};
static struct version *versions[] = {&version_3};
static struct function zebra = {.name = (char[]){"zebra"}, .current = 3, .created_ms = 5, .versions = versions, .version_count = 1};
static struct function apple = {.name = (char[]){"apple"}, .hh.next = &zebra, .current = 3, .created_ms = 5, .versions = versions, .version_count = 1};
static struct function hello = {.name = (char[]){"hello"}, .current = 3, .created_ms = 5, .versions = versions, .version_count = 1};

// What the gateway handed over last.
static struct {
    char text[512];
    ingest_result_fn *result;
    void *arg;
    bool cancelled;
    int accepts;  // so many async events are taken, the next are refused
    int deployed; // version number that a deploy ends with
} seen;

static void note(const char *fmt, ...) {
    va_list ap;
    size_t used = strlen(seen.text);
    va_start(ap, fmt);
    vsnprintf(seen.text + used, sizeof seen.text - used, fmt, ap);
    va_end(ap);
}

struct function *registry_find(struct registry *r, struct str name) {
    (void)r;
    return str_is(name, "hello") ? &hello : NULL;
}

struct function *registry_first(struct registry *r) {
    (void)r;
    hello.hh.next = others ? &apple : NULL;
    return &hello;
}

struct version *function_version(const struct function *fn, uint32_t number) {
    return number == 3 ? fn->versions[0] : NULL;
}

int registry_resolve(struct registry *r, struct str name, struct str qualifier, struct version **ret, struct err *err) {
    bool known = qualifier.len == 0 || str_is(qualifier, "3") || (str_is(qualifier, "4") && made_elsewhere && r->looks > 0);
    if (!str_is(name, "hello") || !known) return err_set(err, ERR_NOT_FOUND, "no such version");
    *ret = &version_3;
    return 0;
}

int function_name_check(struct str name, struct err *err) {
    return str_is(name, "hello") || str_is(name, "apple") || str_is(name, "kiwi") ? 0 : err_set(err, ERR_INVALID, "bad name");
}

void registry_deploy(struct registry *r, struct str name, struct settings *settings, char *archive, size_t archive_len,
                     bool make_current, registry_deploy_fn *done, void *arg) {
    (void)r;
    note("deploy %.*s %s %.*s%s", STR_ARG(name), settings->runtime, (int)archive_len, archive, make_current ? "" : " aside");
    settings_done(settings);
    free(archive);
    struct version v = version_3;
    v.number = (uint32_t)seen.deployed;
    done(arg, 0, NULL, &v);
}

void registry_set_current(struct registry *r, struct str name, uint32_t number, registry_done_fn *done, void *arg) {
    (void)r;
    note("current %.*s %u", STR_ARG(name), number);
    done(arg, 0, NULL);
}

void registry_delete(struct registry *r, struct str name, registry_done_fn *done, void *arg) {
    (void)r;
    note("delete %.*s", STR_ARG(name));
    struct err err = {0};
    err_set(&err, ERR_UNAVAILABLE, "the store is away");
    done(arg, err.code, &err);
}

static void note_event(const struct ev *ev) {
    note("[%.*s|%.*s|%.*s|%.*s|%.*s]", STR_ARG(ev->f.function), STR_ARG(ev->f.qualifier), STR_ARG(ev->f.ordering_key),
         STR_ARG(ev->f.content_type), STR_ARG(ev->f.payload));
    for (size_t i = 0; i < ev->f.header_count; i++) {
        note("{%.*s=%.*s}", STR_ARG(ev->f.headers[i].name), STR_ARG(ev->f.headers[i].value));
    }
}

void ingest_async(struct ingest *in, struct ev *ev, ingest_accepted_fn *accepted, void *arg) {
    (void)in;
    struct err err = {0};
    note_event(ev);
    ev_free(ev);
    if (seen.accepts-- > 0) accepted(arg, 0, NULL);
    else accepted(arg, err_set(&err, ERR_BUSY, "the queue is full"), &err);
}

struct sync_call *ingest_sync(struct ingest *in, struct ev *ev, ingest_result_fn *fn, void *arg) {
    (void)in;
    note_event(ev);
    note("deadline %d", ev->f.deadline_ms > 0);
    ev_free(ev);
    seen.result = fn;
    seen.arg = arg;
    return (struct sync_call *)&seen;
}

void ingest_sync_cancel(struct sync_call *call) {
    assert_ptr_equal(call, &seen);
    seen.cancelled = true;
}

void letters_put(struct letters *l, const struct letter_draft *draft, letter_done_fn *done, void *arg) {
    (void)l;
    struct err err = {0};
    note_event(draft->ev);
    note("%s %s due in %lld min, %lld ms old then", letter_state_word(draft->state), letter_kind_word(draft->kind),
         (long long)(draft->due_ms - clock_unix_ms() + 30000) / 60000, (long long)(draft->due_ms - draft->ev->f.accepted_ms));
    if (seen.accepts-- > 0) done(arg, 0, NULL);
    else done(arg, err_set(&err, ERR_FULL, "the disk is full"), &err);
}

const char *letter_state_word(enum letter_state s) {
    return s == LETTER_DUE ? "due" : "dead";
}

const char *letter_kind_word(enum letter_kind k) {
    return k == LETTER_DELAYED ? "delayed" : "other";
}

void fires_history(struct fires *f, struct str trigger, int64_t before_ms, size_t limit, letters_json_fn *fn, void *arg) {
    (void)f, (void)trigger, (void)before_ms, (void)limit, (void)fn, (void)arg;
    fail(); // there are no triggers here
}

// Notes and frees a selection.
static void note_selection(struct selection *sel) {
    note("(%s)", selection_text(sel));
    selection_free(sel);
}

void letters_list(struct letters *l, struct selection *sel, const struct letter_page *page, letters_json_fn *fn, void *arg) {
    (void)l;
    note("list");
    note_selection(sel);
    note(" %zu after '%.*s'%s%s", page->limit, STR_ARG(page->after), page->oldest_first ? " oldest" : "", page->full ? " full" : "");
    fn(arg, 0, NULL, json_pack("{s:[], s:n}", "letters", "next"));
}

int vendor_letter_append_json(struct buf *out, enum vendor v, const json_t *letter) {
    (void)out, (void)v, (void)letter;
    fail(); // there are no letters here
    return 0;
}

void letters_show(struct letters *l, const struct id *id, letters_json_fn *fn, void *arg) {
    (void)l, (void)id;
    struct err err = {0};
    fn(arg, err_set(&err, ERR_NOT_FOUND, "there is no such letter"), &err, NULL);
}

static void note_change(const char *what, const struct letter_change *c, letters_json_fn *fn, void *arg) {
    note("%s", what);
    note_selection(c->sel);
    note(" %zu '%.*s' by %.*s", c->limit, STR_ARG(c->why), STR_ARG(c->who));
    fn(arg, 0, NULL, json_pack("{s:i}", what, 7));
}

void letters_discard(struct letters *l, const struct letter_change *c, letters_json_fn *fn, void *arg) {
    (void)l;
    note_change("discarded", c, fn, arg);
}

void letters_restore(struct letters *l, const struct letter_change *c, letters_json_fn *fn, void *arg) {
    (void)l;
    note_change("restored", c, fn, arg);
}

void letters_retry(struct letters *l, const struct letter_change *c, letters_json_fn *fn, void *arg) {
    (void)l;
    note_change("retried", c, fn, arg);
}

void letters_purge(struct letters *l, const struct letter_change *c, bool dead, letters_json_fn *fn, void *arg) {
    (void)l;
    note(dead ? "dead too: " : "");
    selection_free(c->sel); // with the time of now in it
    fn(arg, 0, NULL, json_pack("{s:i}", "purged", 8));
}

void letters_edit(struct letters *l, const struct letter_change *c, struct edit *e, bool dry_run, letters_json_fn *fn, void *arg) {
    (void)l;
    edit_free(e);
    note(dry_run ? "dry run: " : "");
    note_change("edited", c, fn, arg);
}

void letters_import(struct letters *l, json_t *letters, letters_json_fn *fn, void *arg) {
    (void)l;
    note("import %zu", json_array_size(letters));
    json_decref(letters);
    fn(arg, 0, NULL, json_pack("{s:i}", "imported", 1));
}

void trials_run(struct trials *t, struct selection *sel, size_t sample, struct str to, letters_json_fn *fn, void *arg) {
    (void)t;
    note("try");
    note_selection(sel);
    note(" %zu on '%.*s'", sample, STR_ARG(to));
    fn(arg, 0, NULL, json_pack("{s:i}", "tried", 0));
}

void replays_create(struct replays *r, const struct replay_spec *spec, letters_json_fn *fn, void *arg) {
    (void)r;
    note("replay");
    note_selection(spec->sel);
    note(" %zu to '%.*s'%s%s rate %g ramp %lld abort %g sample %zu by %.*s", spec->limit, STR_ARG(spec->to), spec->to_origin ? " origin" : "",
         spec->in_order ? " in order" : "", spec->rate, (long long)spec->ramp_ms, spec->abort_share, spec->sample, STR_ARG(spec->who));
    fn(arg, 0, NULL, json_pack("{s:i}", "replay", 1));
}

static void note_replay(const char *what, int64_t replay, letters_json_fn *fn, void *arg) {
    note("%s %lld", what, (long long)replay);
    fn(arg, 0, NULL, json_pack("{s:I}", "replay", (json_int_t)replay));
}

void replays_show(struct replays *r, int64_t replay, letters_json_fn *fn, void *arg) {
    (void)r;
    note_replay("show", replay, fn, arg);
}

void replays_pause(struct replays *r, int64_t replay, letters_json_fn *fn, void *arg) {
    (void)r;
    note_replay("pause", replay, fn, arg);
}

void replays_resume(struct replays *r, int64_t replay, letters_json_fn *fn, void *arg) {
    (void)r;
    note_replay("resume", replay, fn, arg);
}

void replays_cancel(struct replays *r, int64_t replay, letters_json_fn *fn, void *arg) {
    (void)r;
    note_replay("cancel", replay, fn, arg);
}

void replays_list(struct replays *r, bool open_only, int64_t before, size_t limit, letters_json_fn *fn, void *arg) {
    (void)r;
    note("replays%s %lld %zu", open_only ? " open" : "", (long long)before, limit);
    fn(arg, 0, NULL, json_pack("{s:[]}", "replays"));
}

void replays_letters(struct replays *r, int64_t replay, struct str state, int64_t after, size_t limit, letters_json_fn *fn, void *arg) {
    (void)r;
    note("letters of %lld '%.*s' %lld %zu", (long long)replay, STR_ARG(state), (long long)after, limit);
    fn(arg, 0, NULL, json_pack("{s:[]}", "letters"));
}

void groups_list(struct groups *g, const struct groups_page *page, letters_json_fn *fn, void *arg) {
    (void)g;
    note("groups '%.*s' %lld%s %zu %lld", STR_ARG(page->function), (long long)page->since_ms, page->muted ? " muted" : "", page->limit,
         (long long)page->spark_ms);
    fn(arg, 0, NULL, json_pack("{s:[]}", "groups"));
}

void groups_show(struct groups *g, struct str which, letters_json_fn *fn, void *arg) {
    (void)g;
    note("group %.*s", STR_ARG(which));
    fn(arg, 0, NULL, json_object());
}

void groups_describe(struct groups *g, struct str which, struct str name, struct str note_text, int muted, struct str who, letters_json_fn *fn,
                     void *arg) {
    (void)g;
    note("describe %.*s %s%.*s %s%.*s %d by %.*s", STR_ARG(which), name.data ? "=" : "-", STR_ARG(name), note_text.data ? "=" : "-",
         STR_ARG(note_text), muted, STR_ARG(who));
    fn(arg, 0, NULL, json_object());
}

void policies_list(struct policies *p, letters_json_fn *fn, void *arg) {
    (void)p;
    fn(arg, 0, NULL, json_pack("{s:[]}", "policies"));
}

void policies_show(struct policies *p, struct str function, letters_json_fn *fn, void *arg) {
    (void)p;
    note("policy %.*s", STR_ARG(function));
    fn(arg, 0, NULL, json_object());
}

void policies_change(struct policies *p, struct str function, const json_t *settings, struct str who, letters_json_fn *fn, void *arg) {
    (void)p;
    note("policy %.*s of %zu by %.*s", STR_ARG(function), json_object_size(settings), STR_ARG(who));
    fn(arg, 0, NULL, json_object());
}

void policies_remove(struct policies *p, struct str function, letter_done_fn *done, void *arg) {
    (void)p;
    note("no policy %.*s", STR_ARG(function));
    done(arg, 0, NULL);
}

// --- setting up ---------------------------------------------------------------------------------------------------

static bool ready(void *arg, const char **why) {
    (void)arg;
    if (not_ready) *why = not_ready;
    return !not_ready;
}

static int open_with(const char *name, const char *value, const char *listen, struct err *err) {
    struct gateway_config config = {.loop = loop, .options = &options, .fnlog = fnlog, .metrics = metrics, .status = status,
        .registry = &registry, .ready = ready};
    assert_int_equal(options_set(&options, "listen", listen, "command line", err), 0);
    if (name) assert_int_equal(options_set(&options, name, value, "command line", err), 0);
    return gateway_open(&config, &gw, err);
}

static void start(const char *name, const char *value) {
    struct err err;
    assert_int_equal(open_with(name, value, "127.0.0.1:0", &err), 0);
}

static int setup(void **state) {
    (void)state;
    loop = loop_new();
    options_init(&options);
    fnlog = fnlog_new(loop, 65536);
    metrics = metrics_new();
    status = status_new(loop);
    settings_init(&version_3.settings);
    free(version_3.settings.runtime);
    version_3.settings.runtime = mem_strdup("python");
    memset(&seen, 0, sizeof seen);
    not_ready = NULL;
    registry_look_init(&registry, loop);
    made_elsewhere = false;
    return 0;
}

static int teardown(void **state) {
    (void)state;
    gateway_close(TAKE_PTR(gw));
    loop_turn(loop, 0);
    registry_look_done(&registry);
    settings_done(&version_3.settings);
    status_free(status);
    metrics_free(metrics);
    fnlog_free(fnlog);
    options_done(&options);
    loop_free(loop);
    return 0;
}

static int post(const char *method, const char *path, const char *headers, const char *body) {
    int fd = client_dial(gateway_port(gw));
    cleanup_free char *text = mem_printf("%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n%s\r\n%s", method,
                                         path, strlen(body), headers, body);
    client_send(loop, fd, str_of(text));
    return fd;
}

static char *finish(int fd) {
    char *answer = client_receive(loop, fd, NULL, 0);
    close(fd);
    assert_non_null(strstr(answer, "\r\nX-Weir-Request-Id: "));
    return answer;
}

static char *ask(const char *method, const char *path, const char *body) {
    return finish(post(method, path, "", body));
}

// Asks, and demands the status and a part of the answer.
static void expect(const char *method, const char *path, const char *body, int code, const char *part) {
    cleanup_free char *answer = ask(method, path, body);
    if (client_status(answer) != code || !strstr(answer, part)) print_message("%s %s %s ->\n%s\n", method, path, body, answer);
    assert_int_equal(client_status(answer), code);
    assert_non_null(strstr(answer, part));
}

static void expect_seen(const char *text) {
    assert_string_equal(seen.text, text);
    seen.text[0] = '\0';
}

static void wait_for_call(void) {
    int64_t deadline = 0;
    while (!seen.result && client_wait(loop, &deadline)) continue;
    assert_non_null(seen.result);
}

// --- tests --------------------------------------------------------------------------------------------------------

static void routes(void **state) {
    (void)state;
    start(NULL, NULL);
    expect("GET", "/nothing", "", 404, "\"code\":\"NotFound\"");
    expect("GET", "/v1/functions/", "", 404, "NotFound");
    expect("GET", "/v1/functions/hello/other", "", 404, "NotFound");
    expect("GET", "/v1/functions/hel%zzo", "", 404, "NotFound");
    expect("PATCH", "/v1/functions/hello", "", 405, "Allow: GET, PUT, DELETE\r\n");
    expect("GET", "/v1/letters/purge", "", 404, "not the id");
    expect("GET", "/healthz", "", 200, "\r\n\r\nok\n");
    expect("HEAD", "/healthz", "", 200, "Content-Length: 3\r\n");
    expect("GET", "/readyz", "", 200, "\r\n\r\nready\n");
    not_ready = "the queue is away";
    expect("GET", "/readyz", "", 503, "\r\n\r\nthe queue is away\n");
}

static void wants_the_token(void **state) {
    (void)state;
    start("token", "s3cret");
    expect("GET", "/v1/functions", "", 401, "WWW-Authenticate: Bearer\r\n");
    expect("GET", "/nothing", "", 401, "Unauthorized");
    expect("GET", "/healthz", "", 200, "ok");
    expect("GET", "/readyz", "", 200, "ready");
    const char *headers[] = {"Authorization: Bearer s3cret\r\n", "authorization: bearer s3cret\r\n", "Authorization: Bearer s3cre\r\n",
        "Authorization: Basic s3cret\r\n", "Authorization: Bearer s3cret2\r\n"};
    for (size_t i = 0; i < array_len(headers); i++) {
        cleanup_free char *answer = finish(post("GET", "/v1/functions", headers[i], ""));
        assert_int_equal(client_status(answer), i < 2 ? 200 : 401);
    }
}

static void does_not_listen_off_loopback_without_token(void **state) {
    (void)state;
    struct err err;
    assert_int_equal(open_with(NULL, NULL, "0.0.0.0:0", &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "token"));
    assert_int_equal(open_with(NULL, NULL, "[::]:0", &err), ERR_INVALID);
    assert_int_equal(open_with(NULL, NULL, "nonsense", &err), ERR_INVALID);
    assert_null(gw);
    assert_int_equal(open_with("token", "t", "0.0.0.0:0", &err), 0);
}

static void invokes_and_waits(void **state) {
    (void)state;
    start(NULL, NULL);
    int fd = post("POST", "/v1/functions/hello/invocations?qualifier=3&deadlineMs=500&logType=Tail",
                  "X-Weir-Header-Trace: t1\r\nX-Weir-Ordering-Key: k\r\nContent-Type: text/plain\r\n", "payload");
    wait_for_call();
    assert_int_equal(gateway_open_requests(gw), 1);
    expect_seen("[hello|3|k|text/plain|payload]{Trace=t1}deadline 1");
    struct outcome_report r = {.outcome = OUTCOME_OK, .result = STR_LIT("{\"a\":1}"), .log_tail = STR_LIT("hi"), .duration_us = 1234, .version = 3};
    seen.result(seen.arg, 0, NULL, &r);
    cleanup_free char *answer = finish(fd);
    assert_int_equal(client_status(answer), 200);
    assert_non_null(strstr(answer, "\r\nX-Weir-Version: 3\r\nX-Weir-Duration-Ms: 1.234\r\nX-Weir-Log: aGk=\r\n"));
    assert_non_null(strstr(answer, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(answer, "\r\n\r\n{\"a\":1}"));
    assert_int_equal(gateway_open_requests(gw), 0);
}

static void tells_how_a_function_failed(void **state) {
    (void)state;
    static const struct {
        enum outcome outcome;
        int status;
        const char *code;
    } cases[] = {
        {OUTCOME_ERROR, 502, "\"code\":\"FunctionError\""}, {OUTCOME_CRASH, 502, "\"code\":\"FunctionCrashed\""},
        {OUTCOME_TIMEOUT, 504, "\"code\":\"FunctionTimeout\""}, {OUTCOME_THROTTLED, 429, "\"code\":\"TooManyRequests\""},
        {OUTCOME_PLATFORM, 503, "\"code\":\"Unavailable\""},
    };
    start(NULL, NULL);
    for (size_t i = 0; i < array_len(cases); i++) {
        seen.result = NULL;
        int fd = post("POST", "/v1/functions/hello/invocations", "", "");
        wait_for_call();
        struct outcome_report r = {.outcome = cases[i].outcome, .error_type = STR_LIT("KeyError"), .error_message = STR_LIT("'x'\xff"),
            .stack = STR_LIT("at"), .log_tail = STR_LIT("log")};
        seen.result(seen.arg, 0, NULL, &r);
        cleanup_free char *answer = finish(fd);
        assert_int_equal(client_status(answer), cases[i].status);
        assert_non_null(strstr(answer, cases[i].code));
        assert_non_null(strstr(answer, "'x'\xef\xbf\xbd"));
        bool function_failed = cases[i].status == 502 || cases[i].status == 504;
        assert_true(!!strstr(answer, "\"errorType\":\"KeyError\"") == function_failed);
        assert_true(!!strstr(answer, "Retry-After: 1") == !function_failed);
    }
}

static void cancels_when_the_caller_leaves(void **state) {
    (void)state;
    start(NULL, NULL);
    int fd = post("POST", "/v1/functions/hello/invocations", "", "");
    wait_for_call();
    close(fd);
    int64_t deadline = 0;
    while (!seen.cancelled && client_wait(loop, &deadline)) continue;
    assert_true(seen.cancelled);
    assert_int_equal(gateway_open_requests(gw), 0);
}

static void cancels_at_close(void **state) {
    (void)state;
    start(NULL, NULL);
    int fd = post("POST", "/v1/functions/hello/invocations", "", "");
    wait_for_call();
    gateway_close(TAKE_PTR(gw));
    assert_true(seen.cancelled);
    close(fd);
}

static void drains(void **state) {
    (void)state;
    start(NULL, NULL);
    int fd = post("POST", "/v1/functions/hello/invocations", "", "");
    wait_for_call();
    gateway_drain(gw);
    struct outcome_report r = {.outcome = OUTCOME_OK, .result = STR_LIT("1"), .version = 3};
    seen.result(seen.arg, 0, NULL, &r);
    assert_int_equal(gateway_open_requests(gw), 1);
    cleanup_free char *answer = finish(fd);
    assert_int_equal(client_status(answer), 200);
    assert_int_equal(gateway_open_requests(gw), 0);
}

static void accepts_events(void **state) {
    (void)state;
    start(NULL, NULL);
    seen.accepts = 1;
    expect("POST", "/v1/functions/hello/invocations?invokeType=Event", "p", 202, "{\"requestId\":\"0");
    expect_seen("[hello||||p]");
    expect("POST", "/v1/functions/hello/invocations?invokeType=Event", "p", 429, "Retry-After: 1\r\n");
    expect("POST", "/v1/functions/hello/invocations?invokeType=Other", "p", 400, "invokeType");
    expect("POST", "/v1/functions/hello/invocations?deadlineMs=0", "p", 400, "deadlineMs");
    expect("POST", "/v1/functions/hello/invocations?deadlineMs=1x", "p", 400, "deadlineMs");
    expect("POST", "/v1/functions/hello/invocations?each=line", "p", 400, "each");
}

#define LATER "/v1/functions/hello/invocations?invokeType=Event&runAt="

static void keeps_an_event_until_it_is_due(void **state) {
    (void)state;
    int64_t hour_ms = 3600000, due_ms = clock_unix_ms() + hour_ms;
    char at[CLOCK_TEXT_BYTES];
    start(NULL, NULL);
    seen.accepts = 3;
    cleanup_free char *path = mem_printf(LATER "%lld&qualifier=3", (long long)due_ms);
    cleanup_free char *answer = mem_printf("\",\"dueMs\":%lld}", (long long)due_ms);
    expect("POST", path, "p", 202, answer);
    expect_seen("[hello|3|||p]due delayed due in 60 min, 0 ms old then");
    clock_format_utc(due_ms, at);
    cleanup_free char *as_utc = mem_printf(LATER "%s", at); // in RFC 3339
    expect("POST", as_utc, "p", 202, answer);
    clock_format_utc(due_ms + 2 * hour_ms, at);
    cleanup_free char *as_local = mem_printf(LATER "%.19s.5+02:00", at);
    cleanup_free char *half_a_second = mem_printf("\"dueMs\":%lld}", (long long)(due_ms / 1000 * 1000 + 500));
    expect("POST", as_local, "p", 202, half_a_second);
    seen.text[0] = '\0';
    expect("POST", path, "p", 507, "the disk is full");
}

static void runs_at_once_what_is_due(void **state) {
    (void)state;
    start(NULL, NULL);
    seen.accepts = 2;
    expect("POST", LATER "2020-02-29T12:00:00Z", "p", 202, "\"dueMs\":1582977600000}");
    expect_seen("[hello||||p]");
    expect("POST", LATER "0", "p", 202, "\"dueMs\":0}");
    expect("POST", LATER "0", "p", 429, "the queue is full");
}

static void refuses_a_time_that_is_none(void **state) {
    (void)state;
    static const char *const bad[] = {"", "tomorrow", "-1", "2026-12-24", "2026-12-24T18:00:00", "2026-12-24T18:00Z", "2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z",
                                      "2026-12-24T24:00:00Z", "2026-12-24T18:00:00%2B24:00", "2026-12-24T18:00:00Zx", "1960-01-01T00:00:00Z"};
    start(NULL, NULL);
    seen.accepts = 99;
    for (size_t i = 0; i < array_len(bad); i++) {
        cleanup_free char *path = mem_printf(LATER "%s", bad[i]);
        expect("POST", path, "p", 400, "runAt must be Unix milliseconds, or a time like");
    }
    cleanup_free char *far = mem_printf(LATER "%lld", (long long)clock_unix_ms() + INT64_C(367) * 86400000);
    expect("POST", far, "p", 400, "more than a year ahead");
    cleanup_free char *soon = mem_printf("runAt=%lld", (long long)clock_unix_ms() + 60000);
    cleanup_free char *sync = mem_printf("/v1/functions/hello/invocations?%s", soon);
    expect("POST", sync, "p", 400, "invokeType=Event");
    cleanup_free char *each = mem_printf("/v1/functions/hello/invocations?invokeType=Event&each=line&%s", soon);
    expect("POST", each, "p", 400, "no each");
    cleanup_free char *nobody = mem_printf("/v1/functions/nobody/invocations?invokeType=Event&%s", soon);
    expect("POST", nobody, "p", 404, "no such version");
    cleanup_free char *version = mem_printf("/v1/functions/hello/invocations?invokeType=Event&qualifier=4&%s", soon);
    expect("POST", version, "p", 404, "no such version");
    expect_seen("");
}

#define TRY "/v1/letters/try"
#define ON_4 "{\"function\":\"f\",\"to\":\"hello:4\"}"

static char *later_on_4(void) {
    return mem_printf(LATER "%lld&qualifier=4", (long long)clock_unix_ms() + 3600000);
}

static void looks_for_a_version_of_another_node(void **state) {
    (void)state;
    start(NULL, NULL);
    seen.accepts = 1;
    made_elsewhere = true;
    cleanup_free char *path = later_on_4();
    expect("POST", path, "p", 202, "requestId");
    expect_seen("[hello|4|||p]due delayed due in 60 min, 0 ms old then");
    assert_int_equal(registry.looks, 1);
    registry.looks = 0;
    expect("POST", TRY, ON_4, 200, "tried");
    expect_seen("try(state=dead function=f) 20 on 'hello:4'");
    assert_int_equal(registry.looks, 1);
    registry.looks = 0;
    expect("POST", "/v1/replays", ON_4, 201, "replay");
    assert_int_equal(registry.looks, 1);
}

static void refuses_a_version_that_nobody_has_after_one_look(void **state) {
    (void)state;
    start(NULL, NULL);
    cleanup_free char *path = later_on_4();
    expect("POST", path, "p", 404, "no such version");
    assert_int_equal(registry.looks, 1);
    expect("POST", TRY, ON_4, 404, "no such version");
    assert_int_equal(registry.looks, 2);
    expect("POST", "/v1/replays", ON_4, 404, "no such version");
    assert_int_equal(registry.looks, 3);
    registry.code = ERR_UNAVAILABLE;
    expect("POST", path, "p", 503, "the store is away");
    expect("POST", TRY, ON_4, 503, "the store is away");
    expect_seen("");
}

static void stops_while_it_looks(void **state) {
    (void)state;
    start(NULL, NULL);
    registry.held = true;
    made_elsewhere = true;
    cleanup_free char *path = later_on_4();
    int later = post("POST", path, "", "p");
    int64_t deadline = 0;
    while (!registry.done && client_wait(loop, &deadline)) continue;
    gateway_close(TAKE_PTR(gw));
    registry_look_end(&registry);
    close(later);
    start(NULL, NULL);
    registry.looks = 0;
    int trial = post("POST", TRY, "", ON_4);
    for (deadline = 0; !registry.done && client_wait(loop, &deadline);) continue;
    gateway_close(TAKE_PTR(gw));
    registry_look_end(&registry);
    close(trial);
    expect_seen("");
}

static void makes_an_event_of_each_line(void **state) {
    (void)state;
    start(NULL, NULL);
    seen.accepts = 3;
    expect("POST", "/v1/functions/hello/invocations?invokeType=Event&each=line", "a\r\n\nb\n\n\nc", 202, "{\"requestIds\":[\"0");
    expect_seen("[hello||||a][hello||||b][hello||||c]");
    seen.accepts = 2;
    expect("POST", "/v1/functions/hello/invocations?invokeType=Event&each=line", "a\nb\nc\nd\n", 429, "\"refused\":2,\"refusedAt\":[2,3]}");
    expect("POST", "/v1/functions/hello/invocations?invokeType=Event&each=line", "\n\n", 202, "{\"requestIds\":[]}");
    char *many = mem_alloc(20005);
    for (int i = 0; i < 20004; i++) many[i] = i % 2 ? '\n' : 'x';
    many[20004] = '\0';
    expect("POST", "/v1/functions/hello/invocations?invokeType=Event&each=line", many, 413, "TooLarge");
    free(many);
}

static void serves_functions(void **state) {
    (void)state;
    start(NULL, NULL);
    expect("GET", "/v1/functions", "", 200, "\"runtime\":\"python\"");
    expect("GET", "/v1/functions/hello", "", 200, "\"timeoutMs\":30000");
    expect("GET", "/v1/functions/h%65llo", "", 200, "\"name\":\"hello\"");
    expect("GET", "/v1/functions/other", "", 404, "there is no function 'other'");
    expect("POST", "/v1/functions/hello/current", "{\"version\":3}", 200, "{\"name\":\"hello\",\"current\":3}");
    expect_seen("current hello 3");
    expect("POST", "/v1/functions/hello/current", "{\"version\":4}", 404, "NotFound");
    expect("POST", "/v1/functions/hello/current", "{\"version\":\"3\"}", 400, "InvalidArgument");
    expect("POST", "/v1/functions/hello/current", "{\"version\":3,\"versoin\":3}", 400, "unknown member 'versoin'");
    expect("POST", "/v1/functions/hello/current", "[3]", 400, "must be a JSON object");
    expect("POST", "/v1/functions/hello/current", "{\"version\"", 400, "not JSON");
    expect("DELETE", "/v1/functions/other", "", 404, "NotFound");
    expect("DELETE", "/v1/functions/hello", "", 503, "the store is away");
}

static void deploys(void **state) {
    (void)state;
    start(NULL, NULL);
    seen.deployed = 4;
    const char *good = "{\"settings\":{\"runtime\":\"exec\",\"handler\":\"run.sh\"},\"package\":\"Y29kZQ==\"}";
    expect("PUT", "/v1/functions/hello", good, 201, "{\"name\":\"hello\",\"version\":4,\"sha256\":\"aa\",\"current\":3}");
    expect_seen("deploy hello exec code");
    expect("PUT", "/v1/functions/hello?switch=false", good, 201, "\"current\":3");
    expect_seen("deploy hello exec code aside");
    expect("PUT", "/v1/functions/hello?switch=no", good, 400, "switch must be true or false");
    seen.deployed = 3;
    expect("PUT", "/v1/functions/hello", good, 200, "\"version\":3");
    expect("PUT", "/v1/functions/bad..name", good, 400, "bad name");
    expect("PUT", "/v1/functions/hello", "{\"settings\":{}}", 400, "package");
    expect("PUT", "/v1/functions/hello", "{\"package\":\"%%%\"}", 400, "InvalidArgument");
    expect("PUT", "/v1/functions/hello", "{\"settings\":{\"timeout\":1},\"package\":\"\"}", 400, "timeout");
    expect("PUT", "/v1/functions/hello", "{\"settings\":3,\"package\":\"\"}", 400, "settings");
}

#define AN_ID "0192f3c4-0000-7000-8000-000000000001"

static void lists_letters(void **state) {
    (void)state;
    start(NULL, NULL);
    expect("GET", "/v1/letters?function=f&error=Key+Error&state=dead&limit=3&cursor=c&order=oldest&full=true", "", 200,
           "{\"letters\":[],\"next\":null}");
    expect_seen("list(state=dead function=f error=\"Key Error\") 3 after 'c' oldest full");
    expect("GET", "/v1/letters", "", 200, "letters");
    expect_seen("list(state=dead) 100 after ''");
    expect("GET", "/v1/letters?limit=1001", "", 400, "limit");
    expect("GET", "/v1/letters?order=up", "", 400, "order");
    expect("GET", "/v1/letters?full=1", "", 400, "full");
    expect("GET", "/v1/letters?as=nobody", "", 400, "InvalidArgument");
    expect("GET", "/v1/letters?where=nonsense", "", 400, "InvalidArgument");
    expect("GET", "/v1/letters/" AN_ID, "", 404, "no such letter");
    expect_seen("");
}

static void changes_letters(void **state) {
    (void)state;
    start(NULL, NULL);
    expect("POST", "/v1/letters/discard", "{\"ids\":[\"" AN_ID "\"],\"why\":\"old\"}", 200, "{\"discarded\":7}");
    expect_seen("discarded(id=" AN_ID ") 1000 'old' by anonymous");
    expect("POST", "/v1/letters/restore", "{\"function\":\"f\",\"limit\":5}", 200, "{\"restored\":7}");
    expect_seen("restored(state=discarded function=f) 5 '' by anonymous");
    expect("POST", "/v1/letters/retry", "{\"all\":true}", 200, "{\"retried\":7}");
    expect_seen("retried(state=due) 1000 '' by anonymous");
    expect("POST", "/v1/letters/edit", "{\"function\":\"f\",\"set\":{\"payload.a\":1},\"dryRun\":true}", 200, "{\"edited\":7}");
    expect_seen("dry run: edited(state=dead function=f) 1000 '' by anonymous");
    expect("POST", "/v1/letters/edit", "{\"function\":\"f\"}", 400, "InvalidArgument");
    expect("POST", "/v1/letters/discard", "{}", 400, "say which letters");
    expect("POST", "/v1/letters/discard", "{\"limit\":5}", 400, "say which letters");
    expect("POST", "/v1/letters/discard", "{\"ids\":[]}", 400, "ids");
    expect("POST", "/v1/letters/discard", "{\"ids\":[\"x\"]}", 400, "'x' is not an id");
    expect("POST", "/v1/letters/discard", "{\"ids\":[\"" AN_ID "\"],\"function\":\"f\"}", 400, "not both");
    expect("POST", "/v1/letters/purge", "{\"olderThanMs\":1000,\"dead\":true}", 200, "{\"purged\":8}");
    expect_seen("dead too: ");
    expect("POST", "/v1/letters/purge", "{}", 400, "olderThanMs");
    expect("POST", "/v1/letters/purge", "{\"olderThanMs\":1,\"dead\":1}", 400, "dead");
    expect("POST", "/v1/letters/import", "{\"letters\":[{}]}", 200, "imported");
    expect_seen("import 1");
    expect("POST", "/v1/letters/try", "{\"function\":\"f\",\"sample\":3,\"to\":\"hello:3\"}", 200, "tried");
    expect_seen("try(state=dead function=f) 3 on 'hello:3'");
    expect("POST", "/v1/letters/try", "{\"function\":\"f\",\"to\":\"hello:4\"}", 404, "no such version");
}

static void replays_letters_again(void **state) {
    (void)state;
    start(NULL, NULL);
    expect("POST", "/v1/replays",
           "{\"function\":\"f\",\"limit\":9,\"to\":\"hello\",\"rate\":2.5,\"rampMs\":4,\"abortShare\":0.5,\"sample\":6,\"inOrder\":true}", 201,
           "{\"replay\":1}");
    expect_seen("replay(state=dead function=f) 9 to 'hello' in order rate 2.5 ramp 4 abort 0.5 sample 6 by anonymous");
    expect("POST", "/v1/replays", "{\"function\":\"f\",\"toOrigin\":true}", 201, "{\"replay\":1}");
    expect_seen("replay(state=dead function=f) 0 to '' origin rate 0 ramp 0 abort -1 sample 0 by anonymous");
    expect("POST", "/v1/replays", "{\"function\":\"f\",\"toOrigin\":1}", 400, "toOrigin must be true or false");
    expect("POST", "/v1/replays", "{\"function\":1}", 400, "function must be a string");
    expect("POST", "/v1/replays", "{\"function\":\"f\",\"to\":\"hello:4\"}", 404, "no such version");
    expect("GET", "/v1/replays?open=true&cursor=5&limit=2", "", 200, "replays");
    expect("GET", "/v1/replays/7", "", 200, "{\"replay\":7}");
    expect("POST", "/v1/replays/7/pause", "", 200, "{\"replay\":7}");
    expect("POST", "/v1/replays/7/resume", "", 200, "{\"replay\":7}");
    expect("POST", "/v1/replays/7/cancel", "", 200, "{\"replay\":7}");
    expect("GET", "/v1/replays/7/letters?state=sent&cursor=2", "", 200, "letters");
    expect_seen("replays open 5 2show 7pause 7resume 7cancel 7letters of 7 'sent' 2 100");
    expect("GET", "/v1/replays/7/letters?state=other", "", 400, "state");
    expect("GET", "/v1/replays/x", "", 404, "not the number");
}

static void serves_groups_and_policies(void **state) {
    (void)state;
    start(NULL, NULL);
    expect("GET", "/v1/groups?function=f&sinceMs=4&muted=true&limit=5&sparkMs=6000", "", 200, "groups");
    expect_seen("groups 'f' 4 muted 5 6000");
    expect("GET", "/v1/groups/some", "", 200, "{}");
    expect("PATCH", "/v1/groups/some", "{\"name\":\"n\",\"muted\":false}", 200, "{}");
    expect("PATCH", "/v1/groups/some", "{\"note\":\"\"}", 200, "{}");
    expect_seen("group somedescribe some =n - 0 by anonymousdescribe some - = -1 by anonymous");
    expect("PATCH", "/v1/groups/some", "{\"muted\":1}", 400, "muted");
    expect("GET", "/v1/policies", "", 200, "policies");
    expect("GET", "/v1/policies/f", "", 200, "{}");
    expect("PUT", "/v1/policies/f", "{\"cap\":1}", 200, "{}");
    expect("DELETE", "/v1/policies/f", "", 200, "removed");
    expect_seen("policy fpolicy f of 1 by anonymousno policy f");
    expect("PUT", "/v1/policies/f", "{\"other\":1}", 400, "other");
}

static void serves_logs(void **state) {
    (void)state;
    start(NULL, NULL);
    expect("GET", "/v1/functions/other/logs", "", 404, "NotFound");
    expect("GET", "/v1/functions/hello/logs?waitMs=1", "", 200, "{\"lines\":[],\"next\":0}");
    int fd = post("GET", "/v1/functions/hello/logs?after=99&waitMs=9000", "", "");
    for (int i = 0; i < 5; i++) loop_turn(loop, 1);
    struct id none = {0};
    fnlog_append(fnlog, STR_LIT("hello"), 3, &none, STR_LIT("a line\n"));
    cleanup_free char *answer = finish(fd);
    assert_non_null(strstr(answer, "\"requestId\":null,\"version\":3,\"text\":\"a line\"}],\"next\":1}"));
    fd = post("GET", "/v1/functions/hello/logs?after=1&waitMs=9000", "", "");
    int64_t deadline = 0;
    while (!gateway_open_requests(gw) && client_wait(loop, &deadline)) continue;
    close(fd); // the wait is taken back
    while (gateway_open_requests(gw) && client_wait(loop, &deadline)) continue;
    assert_int_equal(gateway_open_requests(gw), 0);
}

static void serves_the_rest(void **state) {
    (void)state;
    start("queue", "amqp://guest:secret@127.0.0.1/v");
    expect("GET", "/v1/status", "", 200, "\"version\":\"" WEIR_VERSION "\"");
    cleanup_free char *answer = ask("GET", "/v1/config", "");
    assert_non_null(strstr(answer, "amqp://guest:***@127.0.0.1/v"));
    assert_null(strstr(answer, "secret"));
    expect("GET", "/metrics", "", 200, "\nweir_http_requests_total{status=\"200\"} 2\n");
    expect("GET", "/metrics", "", 200, "text/plain; version=0.0.4");
    expect("POST", "/healthz", "", 405, "MethodNotAllowed");
}

// A listing has these names in this order, and this next; NULL: none.
static void expect_functions(const char *query, const char *names, const char *next) {
    cleanup_free char *path = mem_printf("/v1/functions?%s", query), *text = mem_strdup("");
    cleanup_free char *answer = finish(post("GET", path, "", ""));
    json_t *page = json_loads(strstr(answer, "\r\n\r\n") + 4, 0, NULL), *one;
    size_t i;
    assert_int_equal(client_status(answer), 200);
    json_array_foreach(json_object_get(page, "functions"), i, one) {
        char *longer = mem_printf("%s%s ", text, json_string_value(json_object_get(one, "name")));
        free(text);
        text = longer;
    }
    assert_string_equal(text, names);
    if (next) assert_string_equal(json_string_value(json_object_get(page, "next")), next);
    else assert_true(json_is_null(json_object_get(page, "next")));
    json_decref(page);
}

static void lists_functions_by_page(void **state) {
    (void)state;
    start(NULL, NULL);
    others = true;
    expect_functions("", "apple hello zebra ", NULL);
    expect_functions("limit=3", "apple hello zebra ", NULL);
    expect_functions("limit=2", "apple hello ", "hello");
    expect_functions("limit=2&cursor=hello", "zebra ", NULL);
    expect_functions("limit=1&cursor=apple", "hello ", "hello");
    expect_functions("limit=1&cursor=kiwi", "zebra ", NULL); // which went meanwhile
    others = false;
    expect_functions("cursor=hello", "", NULL);
    expect("GET", "/v1/functions?limit=0", "", 400, "limit must be a whole number from 1 to 1000");
    expect("GET", "/v1/functions?limit=1001", "", 400, "limit must be");
    expect("GET", "/v1/functions?cursor=-", "", 400, "the cursor is not one that a listing gave out");
}

static void refuses_unknown_parameters(void **state) {
    (void)state;
    static const struct {
        const char *method, *path, *part;
    } cases[] = {
        {"GET", "/v1/letters?fuction=bill", "unknown parameter 'fuction', did you mean 'function'?"},
        {"GET", "/v1/letters?limit=1&&untilms=5", "unknown parameter 'untilms', did you mean 'untilMs'?"},
        {"GET", "/v1/letters?%66uction=bill", "unknown parameter 'fuction'"},
        {"GET", "/v1/letters?=bill", "unknown parameter ''"},
        {"GET", "/v1/groups?colour", "unknown parameter 'colour'; there are: function sinceMs"},
        {"GET", "/v1/functions?full=true", "unknown parameter 'full'; there are: limit cursor"},
        {"GET", "/v1/functions/hello?full=true", "unknown parameter 'full'; this path takes none"},
        {"POST", "/v1/letters/discard?function=bill", "unknown parameter 'function'; this path takes none"},
        {"POST", "/v1/functions/hello/invocations?invoketype=Event", "did you mean 'invokeType'?"},
        {"PUT", "/v1/functions/hello?swich=false", "did you mean 'switch'?"},
    };
    start(NULL, NULL);
    for (size_t i = 0; i < array_len(cases); i++) expect(cases[i].method, cases[i].path, "{}", 400, cases[i].part);
    expect_seen("");
    expect("GET", "/v1/functions?&", "", 200, "hello");
    expect("GET", "/healthz?at=now", "", 200, "ok"); // health checks put many things there
}

static void answer_text(void *arg, struct status_reply *reply) {
    status_answer(reply, json_loads(arg, 0, NULL));
}

static void joins_what_is_known_of_functions(void **state) {
    (void)state;
    status_add(status, "functions", answer_text, (char[]){"[{\"name\":\"a\",\"busy\":1},{\"name\":\"b\",\"busy\":2}]"});
    status_add(status, "letters", answer_text, (char[]){"{\"a\":{\"due\":3,\"delayed\":1,\"replayed\":9}}"});
    status_add(status, "depths", answer_text, (char[]){"{\"b\":{\"waiting\":7}}"});
    start(NULL, NULL);
    expect("GET", "/v1/status", "", 200,
           "{\"functions\":[{\"name\":\"a\",\"busy\":1,\"due\":3,\"delayed\":1,\"dead\":0},"
           "{\"name\":\"b\",\"busy\":2,\"due\":0,\"delayed\":0,\"dead\":0,\"waiting\":7}],\"version\"");
}

static void shows_functions_without_their_letters(void **state) {
    (void)state;
    status_add(status, "functions", answer_text, (char[]){"[{\"name\":\"a\",\"busy\":1}]"});
    status_add(status, "letters", answer_text, (char[]){""}); // not known
    start(NULL, NULL);
    expect("GET", "/v1/status", "", 200, "{\"functions\":[{\"name\":\"a\",\"busy\":1}],\"missing\":[\"letters\"],\"version\"");
}

static void refuses_in_json(void **state) {
    (void)state;
    start(NULL, NULL);
    int fd = client_dial(gateway_port(gw));
    client_send(loop, fd, STR_LIT("nonsense\r\n\r\n"));
    cleanup_free char *answer = finish(fd);
    assert_int_equal(client_status(answer), 400);
    assert_non_null(strstr(answer, "\"code\":\"InvalidArgument\""));
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        test(routes),
        test(wants_the_token),
        test(does_not_listen_off_loopback_without_token),
        test(invokes_and_waits),
        test(tells_how_a_function_failed),
        test(cancels_when_the_caller_leaves),
        test(cancels_at_close),
        test(drains),
        test(accepts_events),
        test(keeps_an_event_until_it_is_due),
        test(runs_at_once_what_is_due),
        test(refuses_a_time_that_is_none),
        test(looks_for_a_version_of_another_node),
        test(refuses_a_version_that_nobody_has_after_one_look),
        test(stops_while_it_looks),
        test(makes_an_event_of_each_line),
        test(serves_functions),
        test(deploys),
        test(lists_letters),
        test(changes_letters),
        test(replays_letters_again),
        test(serves_groups_and_policies),
        test(serves_logs),
        test(serves_the_rest),
        test(lists_functions_by_page),
        test(refuses_unknown_parameters),
        test(joins_what_is_known_of_functions),
        test(shows_functions_without_their_letters),
        test(refuses_in_json),
    };
    return cmocka_run_group_tests_name("gateway", tests, NULL, NULL);
}
