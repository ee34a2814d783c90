// SPDX-License-Identifier: Apache-2.0
// The contract of core/audit.h over both databases: nothing changes without a trace, and what people read has no secrets.
#include "core/audit.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/store_fixture.h"

static struct store *reader;
static struct redact *redact;
static struct audit *audit;

static void open_audit_with(struct store_fixture *fx, int64_t keep_ms, int64_t rows_max) {
    struct err err = {0};
    if (store_open_reader(fx->loop, fx->url, STORE_READ_MS, &reader, &err)) fail_msg("%s", err.text);
    assert_int_equal(redact_new("password,card.number", &redact, &err), 0);
    audit = audit_new(&(struct audit_config){fx->loop, fx->store, reader, redact, keep_ms, rows_max});
}

static int empty(void *arg, struct sql *sql, struct err *err) {
    (void)arg;
    return sql_exec(sql, "DELETE FROM audit", NULL, 0, NULL, NULL, NULL, err);
}

static void open_audit(struct store_fixture *fx) {
    assert_int_equal(call(fx, empty, NULL), 0); // PostgreSQL's is the same for all cases
    open_audit_with(fx, 0, 0);
}

static void close_audit(struct store_fixture *fx) {
    TURN_UNTIL(fx->loop, audit_stop(audit));
    store_close(fx->store);
    store_close(reader);
    fx->store = reader = NULL;
    audit_free(TAKE_PTR(audit));
    redact_free(TAKE_PTR(redact));
}

// --- calls that wait ----------------------------------------------------------------------------------------------------------

struct begun {
    bool done;
    int code;
    int64_t id;
};

static void on_begun(void *arg, int code, const struct err *err, int64_t id) {
    struct begun *b = arg;
    assert_false(b->done);
    assert_true((code == 0) == (id > 0));
    assert_true(code == 0 || err->code == (enum err_code)code);
    *b = (struct begun){true, code, id};
}

static void begin_entry(struct begun *b, const char *who, const char *action, const char *target, json_t *detail) {
    const struct audit_entry e = {str_of(who), STR_LIT("127.0.0.1"), str_of(action), str_of(target), detail};
    *b = (struct begun){0};
    audit_begin(audit, &e, on_begun, b);
    assert_false(b->done);
}

static int64_t begin(struct store_fixture *fx, const char *who, const char *action, const char *target, json_t *detail) {
    struct begun b;
    begin_entry(&b, who, action, target, detail);
    TURN_UNTIL(fx->loop, b.done);
    assert_int_equal(b.code, 0);
    return b.id;
}

struct looked {
    bool done;
    int code;
    json_t *result;
};

static void on_looked(void *arg, int code, const struct err *err, json_t *result) {
    struct looked *l = arg;
    (void)err;
    *l = (struct looked){true, code, result};
}

static json_t *show(struct store_fixture *fx, int64_t id) {
    struct looked l = {0};
    audit_show(audit, id, on_looked, &l);
    TURN_UNTIL(fx->loop, l.done);
    return l.result;
}

static json_t *list(struct store_fixture *fx, struct audit_filter f) {
    struct looked l = {0};
    audit_list(audit, &f, on_looked, &l);
    TURN_UNTIL(fx->loop, l.done);
    assert_int_equal(l.code, 0);
    return l.result;
}

// The targets of a list, joined.
static void expect_list(struct store_fixture *fx, struct audit_filter f, const char *wanted) {
    json_auto_t *result = list(fx, f);
    char got[256] = "";
    size_t i;
    const json_t *e;
    json_array_foreach(json_object_get(result, "entries"), i, e) {
        assert_true(strlen(got) + 20 < sizeof got);
        strcat(got, json_string_value(json_object_get(e, "target")));
        strcat(got, " ");
    }
    assert_string_equal(got, wanted);
}

static bool outcome_is(struct store_fixture *fx, int64_t id, const char *wanted) {
    json_auto_t *e = show(fx, id);
    assert_non_null(e);
    return strcmp(json_string_value(json_object_get(e, "outcome")), wanted) == 0;
}

// --- entries ------------------------------------------------------------------------------------------------------------------

static void test_begin_then_end(void **state) {
    struct store_fixture *fx = *state;
    open_audit(fx);
    int64_t before_ms = clock_unix_ms();
    int64_t id = begin(fx, "alice", "letters.discard", "orders", json_pack("{s:{s:s}}", "body", "why", "old"));
    json_auto_t *e = show(fx, id); // by another connection: what it sees is committed
    json_auto_t *wanted = json_pack("{s:I s:O s:s s:s s:s s:s s:{s:{s:s}} s:s}", "id", (json_int_t)id, "atMs", json_object_get(e, "atMs"), "who",
                                    "alice", "remote", "127.0.0.1", "action", "letters.discard", "target", "orders", "detail", "body", "why",
                                    "old", "outcome", "");
    assert_true(json_equal(e, wanted));
    int64_t at_ms = json_integer_value(json_object_get(e, "atMs"));
    assert_true(at_ms >= before_ms - 1000 && at_ms <= clock_unix_ms() + 1000);
    audit_end(audit, id, STR_LIT("ok"));
    TURN_UNTIL(fx->loop, outcome_is(fx, id, "ok"));
    close_audit(fx);
}

static void test_many_at_once(void **state) {
    struct store_fixture *fx = *state;
    open_audit(fx);
    struct begun b[500];
    for (size_t i = 0; i < array_len(b); i++) begin_entry(&b[i], "w", "a.b", "t", NULL);
    int64_t last = 0;
    for (size_t i = 0; i < array_len(b); i++) {
        TURN_UNTIL(fx->loop, b[i].done);
        assert_int_equal(b[i].code, 0);
        assert_true(b[i].id > last);
        last = b[i].id;
        cleanup_free char *outcome = mem_printf("Conflict: %zu", i);
        audit_end(audit, b[i].id, str_of(outcome));
    }
    TURN_UNTIL(fx->loop, audit_stop(audit)); // which means that all ends are written
    for (size_t i = 0; i < array_len(b); i += 100) {
        cleanup_free char *outcome = mem_printf("Conflict: %zu", i);
        assert_true(outcome_is(fx, b[i].id, outcome));
    }
    close_audit(fx);
}

static void test_notes(void **state) {
    struct store_fixture *fx = *state;
    open_audit(fx);
    audit_note(audit, "letters.purge", STR_LIT("orders"), json_pack("{s:i s:s}", "count", 7, "password", "x"), STR_LIT("ok"));
    audit_note(audit, "letters.purge", STR_LIT("refunds"), NULL, STR_LIT("ok"));
    audit_note(NULL, "letters.purge", STR_LIT("x"), json_object(), STR_LIT("ok"));
    TURN_UNTIL(fx->loop, audit_stop(audit));
    expect_list(fx, (struct audit_filter){.who = STR_LIT(AUDIT_SELF), .limit = 10}, "refunds orders ");
    json_auto_t *all = list(fx, (struct audit_filter){.target = STR_LIT("orders"), .limit = 1});
    const json_t *e = json_array_get(json_object_get(all, "entries"), 0);
    json_auto_t *detail = json_pack("{s:i s:s}", "count", 7, "password", "***");
    assert_true(json_equal(json_object_get(e, "detail"), detail));
    assert_string_equal(json_string_value(json_object_get(e, "remote")), "");
    assert_string_equal(json_string_value(json_object_get(e, "outcome")), "ok");
    close_audit(fx);
}

static void test_a_server_that_dies_leaves_the_entry(void **state) {
    struct store_fixture *fx = *state;
    int ids[2];
    store_close(fx->store); // threads do not survive a fork
    assert_int_equal(pipe(ids), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        fx->loop = loop_new();
        open_store(fx);
        open_audit(fx);
        int64_t id = begin(fx, "alice", "functions.delete", "hello", NULL);
        if (write(ids[1], &id, sizeof id) != sizeof id) _exit(1);
        kill(getpid(), SIGKILL);
    }
    int status;
    int64_t id = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(read(ids[0], &id, sizeof id), sizeof id);
    close(ids[0]);
    close(ids[1]);
    open_store(fx);
    open_audit_with(fx, 0, 0);
    assert_true(outcome_is(fx, id, ""));
    close_audit(fx);
}

static bool can_look(struct store_fixture *fx, int64_t id) {
    json_auto_t *e = show(fx, id);
    return e != NULL;
}

static void test_no_store_no_entry(void **state) {
    struct store_fixture *fx = *state;
    open_audit(fx);
    int64_t id = begin(fx, "alice", "a.b", "before", NULL);
    free(service_run("postgres", "kill", fx->dir));
    struct begun b;
    begin_entry(&b, "alice", "a.b", "while away", NULL);
    TURN_UNTIL(fx->loop, b.done);
    assert_int_equal(b.code, ERR_UNAVAILABLE);
    audit_end(audit, id, STR_LIT("ok")); // waits
    audit_note(audit, "a.note", STR_LIT("noted"), NULL, STR_LIT("ok"));
    int64_t noted_ms = clock_unix_ms();
    for (int i = 0; i < 3; i++) {
        begin_entry(&b, "alice", "a.b", "while away", NULL);
        TURN_UNTIL(fx->loop, b.done);
        assert_int_equal(b.code, ERR_UNAVAILABLE);
    }
    free(service_run("postgres", "start", fx->dir));
    TURN_UNTIL(fx->loop, can_look(fx, id));
    TURN_UNTIL(fx->loop, outcome_is(fx, id, "ok"));
    json_auto_t *all = list(fx, (struct audit_filter){.action = STR_LIT("a.note"), .limit = 10});
    const json_t *note = json_array_get(json_object_get(all, "entries"), 0);
    assert_int_equal(json_array_size(json_object_get(all, "entries")), 1);
    assert_in_range(json_integer_value(json_object_get(note, "atMs")), noted_ms - 300, noted_ms + 300); // when it happened, not when it was written
    close_audit(fx);
}

// --- detail -------------------------------------------------------------------------------------------------------------------

static void test_secrets_are_masked(void **state) {
    struct store_fixture *fx = *state;
    open_audit(fx);
    const char *detail = "{\"query\":\"a=1&password=s3cr3t\",\"body\":{\"Password\":\"s3cr3t\",\"note\":\"card.number=s3cr3t\",\"set\":"
                         "{\"payload.password\":\"s3cr3t\"},\"patch\":[{\"op\":\"add\",\"path\":\"/payload/card/number\",\"value\":\"s3cr3t\"}],"
                         "\"settings\":{\"sasl.password\":\"s3cr3t\",\"url\":\"amqp://bob:s3cr3t@mq/v\",\"topic\":\"orders\",\"api.key\":\"s3\\u0000cr3t\"},"
                         "\"urls\":[\"amqp://bob:s3cr3t@mq/v\"]}}";
    int64_t id = begin(fx, "alice", "triggers.add", "t", json_loads(detail, JSON_ALLOW_NUL, NULL));
    json_auto_t *e = show(fx, id);
    cleanup_free char *shown = json_dumps(json_object_get(e, "detail"), JSON_COMPACT);
    if (strstr(shown, "s3")) fail_msg("%s", shown);
    assert_non_null(strstr(shown, "\"topic\":\"orders\""));
    assert_non_null(strstr(shown, "amqp://bob:***@mq/v"));
    close_audit(fx);
}

static json_t *nested(size_t levels) {
    json_t *value = json_string("deep");
    while (levels--) value = json_pack("[o]", value);
    return value;
}

static void test_detail_is_cut_and_stays_json(void **state) {
    struct store_fixture *fx = *state;
    open_audit(fx);
    static const char *const pieces[] = {"x", "\xc3\xa4", "\"", "\\", "\x01", "\xf0\x9f\x98\x80"};
    for (size_t i = 0; i < array_len(pieces); i++) {
        struct buf text;
        buf_init(&text, 100000);
        while (buf_len(&text) < 20000) assert_int_equal(buf_append(&text, str_of(pieces[i])), 0);
        json_t *detail = json_pack("{s:s%}", "body", buf_str(&text).data, buf_len(&text));
        int64_t id = begin(fx, "alice", "a.b", "t", detail);
        json_auto_t *e = show(fx, id);
        const char *cut = json_string_value(json_object_get(json_object_get(e, "detail"), "cut"));
        assert_non_null(cut);
        assert_true(strncmp(cut, "{\"body\":\"", 9) == 0);
        cleanup_free char *stored = json_dumps(json_object_get(e, "detail"), JSON_COMPACT);
        assert_true(strlen(stored) <= AUDIT_DETAIL_MAX && strlen(stored) > AUDIT_DETAIL_MAX / 4);
        buf_done(&text);
    }
    json_t *fits = json_pack("{s:s}", "a", "b");
    json_auto_t *e = show(fx, begin(fx, "alice", "a.b", "t", json_incref(fits)));
    assert_true(json_equal(json_object_get(e, "detail"), fits));
    json_decref(fits);
    begin(fx, "alice", "a.b", "t", nested(1500)); // nobody nests so deep
    begin(fx, "alice", "a.b", "t", json_string("no object"));
    close_audit(fx);
}

static void test_texts_are_cleaned_and_cut(void **state) {
    struct store_fixture *fx = *state;
    open_audit(fx);
    char who[300];
    memset(who, 'w', sizeof who - 1);
    who[sizeof who - 1] = '\0';
    memcpy(who, "\xff\xc3\xa4", 3);
    int64_t id = begin(fx, who, "a.b", "it's; DROP TABLE audit --", NULL);
    audit_end(audit, id, (struct str){"Bad\0text", 8});
    TURN_UNTIL(fx->loop, outcome_is(fx, id, "Bad\xef\xbf\xbdtext"));
    json_auto_t *e = show(fx, id);
    const char *shown = json_string_value(json_object_get(e, "who"));
    assert_int_equal(strlen(shown), AUDIT_WHO_MAX);
    assert_true(strncmp(shown, "\xef\xbf\xbd\xc3\xa4www", 8) == 0);
    assert_string_equal(json_string_value(json_object_get(e, "target")), "it's; DROP TABLE audit --");
    expect_list(fx, (struct audit_filter){.who = str_of(who), .limit = 1}, "it's; DROP TABLE audit -- "); // cut alike
    close_audit(fx);
}

// --- looking ------------------------------------------------------------------------------------------------------------------

static int64_t at_of(struct store_fixture *fx, int64_t id) {
    json_auto_t *e = show(fx, id);
    return json_integer_value(json_object_get(e, "atMs"));
}

static void test_filters(void **state) {
    struct store_fixture *fx = *state;
    open_audit(fx);
    begin(fx, "alice", "letters.discard", "one", NULL);
    begin(fx, "bob", "letters.purge", "two", NULL);
    int64_t third = begin(fx, "alice", "functions.deploy", "three", NULL);
    TURN_UNTIL(fx->loop, clock_unix_ms() > at_of(fx, third) + 2);
    int64_t fourth = begin(fx, "alice", "letters_other", "four", NULL);
    expect_list(fx, (struct audit_filter){.limit = 10}, "four three two one ");
    expect_list(fx, (struct audit_filter){.limit = 2}, "four three ");
    expect_list(fx, (struct audit_filter){.before_id = third, .limit = 10}, "two one ");
    expect_list(fx, (struct audit_filter){.who = STR_LIT("alice"), .limit = 10}, "four three one ");
    expect_list(fx, (struct audit_filter){.action = STR_LIT("letters."), .limit = 10}, "two one ");
    expect_list(fx, (struct audit_filter){.action = STR_LIT("letters.purge"), .limit = 10}, "two ");
    expect_list(fx, (struct audit_filter){.action = STR_LIT("%"), .limit = 10}, "");
    expect_list(fx, (struct audit_filter){.target = STR_LIT("three"), .limit = 10}, "three ");
    expect_list(fx, (struct audit_filter){.target = STR_LIT("' OR 1=1 --"), .limit = 10}, "");
    expect_list(fx, (struct audit_filter){.who = {"a\0\xff", 3}, .limit = 10}, "");
    expect_list(fx, (struct audit_filter){.since_ms = at_of(fx, fourth), .limit = 10}, "four ");
    expect_list(fx, (struct audit_filter){.until_ms = at_of(fx, fourth), .limit = 10}, "three two one ");
    expect_list(fx, (struct audit_filter){.since_ms = INT64_MAX, .limit = 10}, "");
    close_audit(fx);
}

static void test_pages(void **state) {
    struct store_fixture *fx = *state;
    open_audit(fx);
    for (int i = 0; i < 5; i++) begin(fx, "alice", "a.b", (char[]){(char)('0' + i), '\0'}, NULL);
    json_auto_t *first = list(fx, (struct audit_filter){.limit = 3});
    int64_t next = json_integer_value(json_object_get(first, "next"));
    assert_true(next > 0);
    expect_list(fx, (struct audit_filter){.before_id = next, .limit = 3}, "1 0 ");
    json_auto_t *last = list(fx, (struct audit_filter){.before_id = next, .limit = 3});
    assert_true(json_is_null(json_object_get(last, "next")));
    struct looked l = {0};
    audit_list(audit, &(struct audit_filter){.limit = AUDIT_LIST_MAX + 1}, on_looked, &l);
    assert_int_equal(l.code, ERR_INVALID);
    audit_list(audit, &(struct audit_filter){0}, on_looked, &l);
    assert_int_equal(l.code, ERR_INVALID);
    l = (struct looked){0};
    audit_show(audit, INT64_MAX, on_looked, &l);
    TURN_UNTIL(fx->loop, l.done);
    assert_int_equal(l.code, ERR_NOT_FOUND);
    close_audit(fx);
}

// --- housekeeping -------------------------------------------------------------------------------------------------------------

static int64_t rows(struct store_fixture *fx) {
    json_auto_t *all = list(fx, (struct audit_filter){.limit = AUDIT_LIST_MAX});
    return (int64_t)json_array_size(json_object_get(all, "entries"));
}

static int fill(void *arg, struct sql *sql, struct err *err) {
    const int64_t *count_and_age = arg;
    int64_t now_ms;
    int rc = sql_unix_ms(sql, &now_ms, err);
    for (int64_t i = 0; rc == 0 && i < count_and_age[0]; i++) {
        const struct sql_value at = SQL_I(now_ms - count_and_age[1]);
        rc = sql_exec(sql, "INSERT INTO audit (at_ms, who, remote, action, target, detail, outcome) VALUES ($1, '', '', '', '', '{}', 'ok')",
                      &at, 1, NULL, NULL, NULL, err);
    }
    return rc;
}

static void test_old_entries_go(void **state) {
    struct store_fixture *fx = *state;
    assert_int_equal(call(fx, empty, NULL), 0);
    assert_int_equal(call(fx, fill, (int64_t[]){2 * AUDIT_TIDY_ROWS + 10, AUDIT_KEEP_MS + 60000}), 0); // more than one round takes
    assert_int_equal(call(fx, fill, (int64_t[]){3, AUDIT_KEEP_MS - 60000}), 0);
    open_audit_with(fx, 0, 0);
    TURN_UNTIL(fx->loop, rows(fx) == 3);
    close_audit(fx);
}

static void test_the_oldest_over_the_cap_go(void **state) {
    struct store_fixture *fx = *state;
    assert_int_equal(call(fx, empty, NULL), 0);
    assert_int_equal(call(fx, fill, (int64_t[]){AUDIT_TIDY_ROWS + 10, 0}), 0);
    open_audit_with(fx, 0, 5);
    TURN_UNTIL(fx->loop, rows(fx) == 5);
    int64_t newest = begin(fx, "alice", "a.b", "newest", NULL);
    json_auto_t *e = show(fx, newest);
    assert_non_null(e);
    close_audit(fx);
}

int main(void) {
    static const struct store_case cases[] = {
        {"an entry is there before the change, and gets its end", test_begin_then_end, STORE_BOTH},
        {"many at once", test_many_at_once, STORE_BOTH},
        {"notes of the server itself", test_notes, STORE_BOTH},
        {"a server that dies leaves the entry", test_a_server_that_dies_leaves_the_entry, STORE_BOTH},
        {"no store, no entry; ends and notes wait for it", test_no_store_no_entry, STORE_POSTGRES},
        {"secrets are masked", test_secrets_are_masked, STORE_BOTH},
        {"detail is cut and stays JSON", test_detail_is_cut_and_stays_json, STORE_BOTH},
        {"texts are cleaned and cut", test_texts_are_cleaned_and_cut, STORE_BOTH},
        {"filters", test_filters, STORE_BOTH},
        {"pages", test_pages, STORE_BOTH},
        {"old entries go", test_old_entries_go, STORE_BOTH},
        {"the oldest over the cap go", test_the_oldest_over_the_cap_go, STORE_BOTH},
    };
    return store_run_cases(cases, array_len(cases));
}
