// SPDX-License-Identifier: Apache-2.0
// What the contract suite does not see of the embedded queue: kill -9 with messages in every state, which messages count
// a delivery then, broken rows, deletions while others work, and a store that fails.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/queue_fixture.h"

#define FN STR_LIT("hello")

// ---- the store behind the queue ----------------------------------------------------------------------------------------

struct call {
    struct store_job job;
    int (*fn)(struct sql *sql, void *arg, struct err *err);
    void *arg;
    bool done;
    int code;
};

static int call_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct call *c = container_of(job, struct call, job);
    return c->fn(sql, c->arg, err);
}

static void call_done(struct store_job *job, int code, const struct err *err) {
    struct call *c = container_of(job, struct call, job);
    if (code) print_message("# %s\n", err->text);
    c->code = code;
    c->done = true;
}

static void on_store(struct fixture *fx, int (*fn)(struct sql *, void *, struct err *), void *arg) {
    struct call c = {.job = {.run = call_run, .done = call_done}, .fn = fn, .arg = arg};
    store_submit(fx->store, &c.job);
    TURN_UNTIL(fx->loop, c.done);
    assert_int_equal(c.code, 0);
}

static int read_int(void *arg, const struct sql_row *row) {
    *(int64_t *)arg = sql_row_int(row, 0);
    return 0;
}

static int count_rows(struct sql *sql, void *arg, struct err *err) {
    return sql_exec(sql, "SELECT count(*) FROM queue_messages", NULL, 0, read_int, arg, NULL, err);
}

static int64_t rows_on_disk(struct fixture *fx) {
    int64_t n = -1;
    on_store(fx, count_rows, &n);
    return n;
}

static void ack_all(struct sink *s) {
    for (size_t i = 0; i < s->count; i++) queue_ack(s->c, s->msgs[i].tag); // settled before: no harm
    sink_settle_all(s);
}

// ---- kill -9 -----------------------------------------------------------------------------------------------------------

#define PUBLISHED 100
#define CREDIT 10
#define ACKED 4

// Publishes, is handed CREDIT, settles ACKED of them, gets as many more, and dies there.
static void live_and_die(const char *dir, bool consume_first) {
    struct fixture fx = {.backend = BACKEND_EMBEDDED, .loop = loop_new(), .dir = mem_strdup(dir)};
    fixture_open(&fx);
    struct sink s = {0};
    if (consume_first) sink_open(&s, &fx, FN, CREDIT);
    publish_numbers(&fx, FN, PUBLISHED);
    if (!consume_first) sink_open(&s, &fx, FN, CREDIT);
    TURN_UNTIL(fx.loop, s.count == CREDIT);
    for (size_t i = 0; i < ACKED; i++) queue_ack(s.c, s.msgs[i].tag);
    TURN_UNTIL(fx.loop, queue_unsettled(s.c) == 0 && s.count == CREDIT + ACKED);
    kill(getpid(), SIGKILL);
}

static void in_child(void (*life)(const char *dir, bool consume_first), const char *dir, bool consume_first) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        life(dir, consume_first);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void check_survivors(const struct sink *s, uint32_t before) {
    assert_int_equal(s->count, PUBLISHED - ACKED);
    for (size_t i = 0; i < s->count; i++) {
        assert_int_equal(number_of(s->msgs[i].ev), i + ACKED); // in order, none lost, none twice
        uint32_t n = s->msgs[i].delivery_count;
        if (i < CREDIT) assert_int_equal(n, before + 1); // those that were handed out
        // The mark may be one credit ahead of them, not more.
        else if (i < 2 * CREDIT) assert_in_range(n, 0, before + 1);
        else assert_int_equal(n, 0);
    }
}

static void kill_and_count(bool consume_first) {
    char *dir = temp_dir_new();
    in_child(live_and_die, dir, consume_first);
    struct fixture fx = {.backend = BACKEND_EMBEDDED, .loop = loop_new(), .dir = dir};
    fixture_open(&fx);
    struct sink s = {0};
    sink_open(&s, &fx, FN, 1000);
    TURN_UNTIL(fx.loop, s.count >= PUBLISHED - ACKED);
    assert_int_equal(rows_on_disk(&fx), PUBLISHED - ACKED);
    check_survivors(&s, 0);
    sink_close(&s);
    // A clean end counts nothing, though all of them were handed out.
    fixture_close(&fx);
    fixture_open(&fx);
    struct sink again = {0};
    sink_open(&again, &fx, FN, 1000);
    TURN_UNTIL(fx.loop, again.count >= PUBLISHED - ACKED);
    check_survivors(&again, 0);
    ack_all(&again);
    assert_int_equal(rows_on_disk(&fx), 0);
    sink_close(&again);
    fixture_close(&fx);
    loop_free(fx.loop);
    temp_dir_remove(dir);
}

static void test_kill_fast_path(void **state) {
    (void)state;
    kill_and_count(true);
}

static void test_kill_from_disk(void **state) {
    (void)state;
    kill_and_count(false);
}

// The process dies in the callback: even what was handed out a moment ago counts.
struct killer {
    struct queue_consumer *c;
    unsigned seen;
};

static void die_at_30(void *arg, struct queue_msg *msgs, size_t count) {
    struct killer *k = arg;
    for (size_t i = 0; i < count; i++) {
        if (++k->seen == 30) kill(getpid(), SIGKILL);
        ev_free(msgs[i].ev);
        queue_ack(k->c, msgs[i].tag);
    }
}

static void die_in_callback(const char *dir, bool consume_first) {
    struct fixture fx = {.backend = BACKEND_EMBEDDED, .loop = loop_new(), .dir = mem_strdup(dir)};
    fixture_open(&fx);
    struct killer k = {0};
    struct queue_consumer_config config = {.function = FN, .credit = 2, .credit_bytes = 1024, .on_messages = die_at_30, .arg = &k};
    if (consume_first) k.c = queue_consume(fx.q, &config);
    struct sent sent = {0};
    for (unsigned i = 0; i < PUBLISHED; i++) publish_number(&fx, FN, i, &sent);
    if (!consume_first) TURN_UNTIL(fx.loop, sent.ok == PUBLISHED);
    if (!consume_first) k.c = queue_consume(fx.q, &config);
    TURN_UNTIL(fx.loop, k.seen > 30);
}

static void kill_in_callback(bool consume_first) {
    char *dir = temp_dir_new();
    in_child(die_in_callback, dir, consume_first);
    struct fixture fx = {.backend = BACKEND_EMBEDDED, .loop = loop_new(), .dir = dir};
    fixture_open(&fx);
    struct sink s = {0};
    sink_open(&s, &fx, FN, 1000);
    int64_t left = rows_on_disk(&fx);
    assert_in_range(left, PUBLISHED - 29, PUBLISHED);
    TURN_UNTIL(fx.loop, s.count == (size_t)left);
    for (size_t i = 0; i < s.count; i++) {
        unsigned n = number_of(s.msgs[i].ev);
        if (n < 30) assert_int_equal(s.msgs[i].delivery_count, 1);
        if (n >= 32) assert_int_equal(s.msgs[i].delivery_count, 0);
    }
    sink_close(&s);
    fixture_close(&fx);
    loop_free(fx.loop);
    temp_dir_remove(dir);
}

static void test_kill_in_callback(void **state) {
    (void)state;
    kill_in_callback(true);
    kill_in_callback(false);
}

// ---- broken rows -------------------------------------------------------------------------------------------------------

static int break_rows(struct sql *sql, void *arg, struct err *err) {
    (void)arg;
    int rc = sql_exec(sql, "UPDATE queue_messages SET body = x'c1ff00' WHERE id = (SELECT min(id) + 1 FROM queue_messages)",
                      NULL, 0, NULL, NULL, NULL, err);
    return rc ? rc
              : sql_exec(sql, "UPDATE queue_messages SET body = x'' WHERE id = (SELECT min(id) + 3 FROM queue_messages)", NULL,
                         0, NULL, NULL, NULL, err);
}

static void test_undecodable(void **state) {
    struct fixture *fx = *state;
    publish_numbers(fx, FN, 5);
    on_store(fx, break_rows, NULL);
    struct sink s = {0};
    sink_open(&s, fx, FN, 10);
    TURN_UNTIL(fx->loop, s.count == 5);
    for (unsigned i = 0; i < 5; i++) {
        bool broken = i == 1 || i == 3;
        assert_int_equal(s.msgs[i].content, broken ? QUEUE_UNDECODABLE : QUEUE_EVENT);
        if (!broken) assert_int_equal(number_of(s.msgs[i].ev), i);
        if (broken) assert_true(s.msgs[i].why.len > 0);
        assert_true(str_eq(s.msgs[i].ev->f.function, FN));
    }
    assert_true(str_eq(s.msgs[1].ev->f.payload, STR_LIT("\xc1\xff\0")));
    assert_int_equal(s.msgs[3].ev->f.payload.len, 0);
    ack_all(&s);
    assert_int_equal(rows_on_disk(fx), 0);
    sink_close(&s);
}

// ---- deletions ---------------------------------------------------------------------------------------------------------

// Neighbours are deleted as one range: nothing between two acknowledged messages may go with them.
static void test_acks_leave_others(void **state) {
    struct fixture *fx = *state;
    publish_numbers(fx, FN, 200);
    struct sink s = {0};
    sink_open(&s, fx, FN, 200);
    TURN_UNTIL(fx->loop, s.count == 200);
    size_t left = 0;
    for (size_t i = 200; i-- > 0;) {
        if (i % 7 == 3 || i == 0 || i == 199) left++;
        else queue_ack(s.c, s.msgs[i].tag);
    }
    TURN_UNTIL(fx->loop, queue_unsettled(s.c) == 0);
    assert_int_equal(rows_on_disk(fx), left);
    sink_close(&s);
    struct sink again = {0};
    sink_open(&again, fx, FN, 200);
    TURN_UNTIL(fx->loop, again.count >= left);
    for (size_t i = 0; i < again.count; i++) {
        unsigned n = number_of(again.msgs[i].ev);
        assert_true(n % 7 == 3 || n == 0 || n == 199);
    }
    assert_int_equal(again.count, left);
    sink_close(&again);
}

// The same name right after: the new queue has only what came after the deletion.
static void test_delete_and_again(void **state) {
    struct fixture *fx = *state;
    struct sent early = {0};
    publish_numbers(fx, FN, 10);
    publish_number(fx, FN, 77, &early);
    queue_delete(fx->q, FN);
    publish_numbers(fx, FN, 3);
    assert_int_equal(early.calls, 1);
    assert_int_equal(rows_on_disk(fx), 3);
    struct sink s = {0};
    sink_open(&s, fx, FN, 10);
    TURN_UNTIL(fx->loop, s.count == 3);
    for (unsigned i = 0; i < 3; i++) assert_int_equal(number_of(s.msgs[i].ev), i);
    ack_all(&s);
    sink_close(&s);
}

static void test_cap_after_restart(void **state) {
    struct fixture *fx = *state;
    publish_numbers(fx, FN, 8);
    fixture_close(fx);
    fx->max_messages = 10;
    fixture_open(fx);
    struct sent sent = {0};
    for (unsigned i = 0; i < 5; i++) publish_number(fx, FN, i, &sent);
    TURN_UNTIL(fx->loop, sent.calls == 5);
    assert_int_equal(sent.ok, 2);
    assert_int_equal(sent.failed, 3);
    assert_int_equal(rows_on_disk(fx), 10);
}

// Much more than is held in memory, through a small credit and in order, with one slow and one fast half.
static void test_backlog(void **state) {
    struct fixture *fx = *state;
    publish_numbers(fx, FN, 3000);
    struct sink s = {.ack_at_once = true};
    sink_open(&s, fx, FN, 16);
    struct sent sent = {0};
    for (unsigned i = 3000; i < 6000; i++) {
        publish_number(fx, FN, i, &sent);
        if (i % 50 == 0) loop_turn(fx->loop, 0);
    }
    TURN_UNTIL(fx->loop, s.count == 6000 && queue_unsettled(s.c) == 0);
    for (unsigned i = 0; i < 6000; i++) assert_int_equal(number_of(s.msgs[i].ev), i);
    assert_int_equal(rows_on_disk(fx), 0);
    sink_close(&s);
}

// ---- a store that fails ------------------------------------------------------------------------------------------------

static int lock_out(struct sql *sql, void *arg, struct err *err) {
    (void)arg;
    int rc = sql_exec(sql,
                      "CREATE TRIGGER no_delete BEFORE DELETE ON queue_messages BEGIN SELECT raise(ABORT, 'not now'); END",
                      NULL, 0, NULL, NULL, NULL, err);
    return rc ? rc
              : sql_exec(sql,
                         "CREATE TRIGGER no_insert BEFORE INSERT ON queue_messages BEGIN SELECT raise(ABORT, 'not now'); END",
                         NULL, 0, NULL, NULL, NULL, err);
}

static int let_in(struct sql *sql, void *arg, struct err *err) {
    (void)arg;
    int rc = sql_exec(sql, "DROP TRIGGER no_delete", NULL, 0, NULL, NULL, NULL, err);
    return rc ? rc : sql_exec(sql, "DROP TRIGGER no_insert", NULL, 0, NULL, NULL, NULL, err);
}

// Publishes fail at once and are told so; acks are kept until they succeed.
static void test_failing_store(void **state) {
    struct fixture *fx = *state;
    publish_numbers(fx, FN, 20);
    struct sink s = {0};
    sink_open(&s, fx, FN, 20);
    TURN_UNTIL(fx->loop, s.count == 20);
    on_store(fx, lock_out, NULL);
    for (size_t i = 0; i < 10; i++) queue_ack(s.c, s.msgs[i].tag);
    struct sent sent = {0};
    publish_number(fx, FN, 1000, &sent);
    TURN_UNTIL(fx->loop, sent.calls == 1);
    assert_int_equal(sent.ok, 0);
    assert_int_equal(queue_unsettled(s.c), 10);
    assert_int_equal(rows_on_disk(fx), 20);
    on_store(fx, let_in, NULL);
    TURN_UNTIL(fx->loop, queue_unsettled(s.c) == 0);
    assert_int_equal(rows_on_disk(fx), 10);
    publish_numbers(fx, FN, 1);
    TURN_UNTIL(fx->loop, s.count == 21);
    ack_all(&s);
    sink_close(&s);
}

// A queue that closes while its acks cannot be stored gives up, and the messages come again.
static void test_close_with_failing_acks(void **state) {
    struct fixture *fx = *state;
    publish_numbers(fx, FN, 5);
    struct sink s = {0};
    sink_open(&s, fx, FN, 5);
    TURN_UNTIL(fx->loop, s.count == 5);
    on_store(fx, lock_out, NULL);
    for (size_t i = 0; i < 5; i++) queue_ack(s.c, s.msgs[i].tag);
    loop_turn(fx->loop, 0);
    sink_close(&s);
    fixture_close(fx);
    fixture_open(fx);
    on_store(fx, let_in, NULL);
    struct sink again = {0};
    sink_open(&again, fx, FN, 5);
    TURN_UNTIL(fx->loop, again.count == 5);
    ack_all(&again);
    sink_close(&again);
}

// Everything is asked for before the queue has read what is there.
static void test_before_loaded(void **state) {
    struct fixture *fx = *state;
    publish_numbers(fx, FN, 3);
    publish_numbers(fx, STR_LIT("old"), 4);
    fixture_close(fx);
    struct err err = {0};
    cleanup_free char *url = mem_printf("sqlite:%s/weir.db", fx->dir);
    assert_int_equal(store_open(fx->loop, url, &fx->store, &err), 0);
    struct queue_config config = {.loop = fx->loop, .url = "embedded:", .store = fx->store};
    assert_int_equal(queue_open(&config, &fx->q, &err), 0);
    assert_false(queue_is_up(fx->q));
    struct sink s = {0}, fresh = {0};
    sink_open(&s, fx, FN, 10);
    sink_open(&fresh, fx, STR_LIT("new"), 10);
    queue_delete(fx->q, STR_LIT("old"));
    struct sent sent = {0};
    publish_number(fx, FN, 3, &sent);
    publish_number(fx, STR_LIT("new"), 0, &sent);
    TURN_UNTIL(fx->loop, sent.ok == 2 && s.count == 4 && fresh.count == 1);
    for (unsigned i = 0; i < 4; i++) assert_int_equal(number_of(s.msgs[i].ev), i);
    assert_int_equal(rows_on_disk(fx), 5);
    ack_all(&s);
    ack_all(&fresh);
    sink_close(&fresh);
    sink_close(&s);
}

// ---- all of them -------------------------------------------------------------------------------------------------------

static int set_up(void **state) {
    *state = fixture_new(BACKEND_EMBEDDED, NULL, 0);
    return 0;
}

static int tear_down(void **state) {
    fixture_free(*state);
    return 0;
}

#define WITH_QUEUE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill_fast_path),   cmocka_unit_test(test_kill_from_disk),
        cmocka_unit_test(test_kill_in_callback),
        WITH_QUEUE(test_undecodable),            WITH_QUEUE(test_acks_leave_others),
        WITH_QUEUE(test_delete_and_again),       WITH_QUEUE(test_cap_after_restart),
        WITH_QUEUE(test_backlog),                WITH_QUEUE(test_failing_store),
        WITH_QUEUE(test_close_with_failing_acks), WITH_QUEUE(test_before_loaded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
