// SPDX-License-Identifier: Apache-2.0
// The contract of dlq/policies.h over both databases: what a policy says is kept, nothing else is deleted, and of several nodes one does it.
#include "dlq/policies.h"

#include <stdio.h>
#include <unistd.h>

#include "dlq/policies_impl.h"
#include "tests/support/letter_rows.h"

#define DAY_MS INT64_C(86400000)
#define MINUTE_MS INT64_C(60000)

// One process of weir: the policies, and what they stand on.
struct node {
    struct letters_fixture *lf;
    struct store *store, *reader; // own ones, of the second node; NULL: the fixture's
    struct metrics *metrics;
    struct audit *audit;
    struct replays *replays;
    struct policies *policies;
};

static struct node *node_new(struct letters_fixture *lf, bool own_stores) {
    struct node *n = mem_zalloc(sizeof *n);
    struct err err = {0};
    n->lf = lf;
    struct loop *loop = lf->fx->loop;
    if (own_stores && (store_open(loop, lf->fx->url, &n->store, &err) || store_open_reader(loop, lf->fx->url, STORE_READ_MS, &n->reader, &err)))
        fail_msg("%s", err.text);
    struct store *store = own_stores ? n->store : lf->fx->store, *reader = own_stores ? n->reader : lf->reader;
    n->metrics = metrics_new();
    n->audit = audit_new(&(struct audit_config){.loop = loop, .store = store, .reader = reader});
    const struct replays_config replays = {
        .loop = loop, .store = store, .reader = reader, .letters = lf->letters, .metrics = n->metrics, .node = "test"};
    n->replays = replays_new(&replays); // never started: it makes replays, and runs none
    const struct policies_config policies = {.loop = loop,
                                             .store = store,
                                             .reader = reader,
                                             .letters = lf->letters,
                                             .replays = n->replays,
                                             .audit = n->audit,
                                             .metrics = n->metrics};
    n->policies = policies_new(&policies);
    return n;
}

static bool is_idle(const struct node *n) {
    return n->policies->jobs == 0 && !n->policies->round;
}

// A round from its beginning to its end.
static void keep(struct node *n) {
    struct policies *p = n->policies;
    timer_stop(p->timer);
    policies_keep(p);
    TURN_UNTIL(n->lf->fx->loop, is_idle(n));
    timer_stop(p->timer);
}

static void node_stop(struct node *n) {
    TURN_UNTIL(n->lf->fx->loop, policies_stop(n->policies));
    TURN_UNTIL(n->lf->fx->loop, replays_stop(n->replays) && audit_stop(n->audit));
}

static void node_free(struct node *n) {
    if (!n->policies->stopped) node_stop(n);
    policies_free(n->policies);
    replays_free(n->replays);
    if (n->reader) store_close(n->reader);
    if (n->store) store_close(n->store);
    audit_free(n->audit);
    metrics_free(n->metrics);
    free(n);
}

static struct node *open_node(struct letters_fixture *lf, void **state) {
    letters_open(lf, *state, NULL);
    sql(lf, "DELETE FROM functions");
    sql(lf, "DELETE FROM audit");
    sql(lf, "INSERT INTO functions (name, current, created_ms) VALUES ('orders', 1, 0), ('billing', 1, 0), ('mail', 1, 0)");
    return node_new(lf, false);
}

static void close_node(struct node *n) {
    struct letters_fixture *lf = n->lf;
    node_free(n);
    letters_close(lf);
}

static void change(struct node *n, const char *function, const char *settings, struct answer *a) {
    json_auto_t *o = json_loads(settings, JSON_DECODE_ANY, NULL);
    *a = (struct answer){0};
    policies_change(n->policies, str_of(function), o, STR_LIT("ana"), answer_json, a);
}

static void set_policy(struct node *n, const char *function, const char *settings) {
    struct answer a;
    change(n, function, settings, &a);
    await(n->lf, &a);
    answer_free(&a);
}

static int64_t count_of(struct node *n, const char *table) {
    cleanup_free char *text = mem_printf("SELECT count(*) FROM %s", table);
    return sql_number(n->lf, text);
}

// --- settings -----------------------------------------------------------------------------------------------------------------

static void expect_policy(struct node *n, const char *wanted) {
    struct answer a = {0};
    policies_show(n->policies, STR_LIT("orders"), answer_json, &a);
    await(n->lf, &a);
    assert_true(llabs(number_in(a.json, "changedMs") - clock_unix_ms()) < 60000);
    json_object_del(a.json, "changedMs");
    json_auto_t *o = json_loads(wanted, 0, NULL);
    assert_non_null(o);
    if (!json_equal(a.json, o)) {
        cleanup_free char *text = json_dumps(a.json, 0);
        fail_msg("%s is not %s", text, wanted);
    }
    answer_free(&a);
}

static void test_members_stay_or_are_taken_away(void **state) {
    struct letters_fixture lf;
    struct node *n = open_node(&lf, state);
    set_policy(n, "orders", "{\"keepMs\":86400000,\"cap\":40}");
    expect_policy(n, "{\"function\":\"orders\",\"keepMs\":86400000,\"cap\":40,\"autoReplay\":null,\"who\":\"ana\",\"dead\":0,\"usedShare\":0.0}");
    set_policy(n, "orders", "{\"autoReplay\":{\"sample\":50,\"rate\":100,\"abortShare\":0.02}}");
    put_text(&lf, "orders", "{}", LETTER_DEAD);
    put_text(&lf, "billing", "{}", LETTER_DEAD);
    put_text(&lf, "orders", "{}", LETTER_DUE);
    expect_policy(n, "{\"function\":\"orders\",\"keepMs\":86400000,\"cap\":40,\"autoReplay\":{\"sample\":50,\"rate\":100,\"abortShare\":0.02},"
                     "\"who\":\"ana\",\"dead\":1,\"usedShare\":0.025}");
    set_policy(n, "orders", "{\"keepMs\":null,\"cap\":null}");
    expect_policy(n, "{\"function\":\"orders\",\"keepMs\":null,\"cap\":null,\"autoReplay\":{\"sample\":50,\"rate\":100,\"abortShare\":0.02},"
                     "\"who\":\"ana\",\"dead\":1,\"usedShare\":null}");
    set_policy(n, "billing", "{\"cap\":1}");
    struct answer a = {0};
    policies_list(n->policies, answer_json, &a);
    await(&lf, &a);
    const json_t *all = array_in(a.json, "policies", 2);
    assert_string_equal(text_in(json_array_get(all, 0), "function"), "billing");
    assert_string_equal(text_in(json_array_get(all, 1), "function"), "orders");
    answer_free(&a);
    close_node(n);
}

static void test_wrong_settings_are_refused(void **state) {
    static const struct {
        const char *settings, *says;
    } wrong[] = {
        {"{\"keepMs\":59999}", "keepMs is a whole number from 60000"},
        {"{\"keepMs\":-1}", "keepMs"},
        {"{\"keepMs\":86400000.5}", "keepMs"},
        {"{\"keepMs\":9223372036854775807}", "keepMs"},
        {"{\"keepMs\":\"1d\"}", "keepMs"},
        {"{\"cap\":0}", "cap is a whole number from 1 to 100000000"},
        {"{\"cap\":100000001}", "cap"},
        {"{\"cap\":true}", "cap"},
        {"{\"autoReplay\":[]}", "autoReplay is a JSON object"},
        {"{\"autoReplay\":{\"sample\":-1}}", "sample"},
        {"{\"autoReplay\":{\"sample\":100001}}", "sample"},
        {"{\"autoReplay\":{\"rate\":0}}", "rate is a number from 0.001"},
        {"{\"autoReplay\":{\"rate\":1000001}}", "rate"},
        {"{\"autoReplay\":{\"abortShare\":1.5}}", "abortShare is a number from 0 to 1"},
        {"{\"autoReplay\":{\"speed\":1}}", "autoReplay has no 'speed'"},
        {"{\"kept\":1}", "a policy has no 'kept'"},
        {"[]", "a policy is a JSON object"},
    };
    struct letters_fixture lf;
    struct node *n = open_node(&lf, state);
    set_policy(n, "orders", "{\"cap\":7}");
    for (size_t i = 0; i < array_len(wrong); i++) {
        struct answer a;
        change(n, "orders", wrong[i].settings, &a);
        await_refusal(&lf, &a, ERR_INVALID, wrong[i].says);
    }
    expect_policy(n, "{\"function\":\"orders\",\"keepMs\":null,\"cap\":7,\"autoReplay\":null,\"who\":\"ana\",\"dead\":0,\"usedShare\":0.0}");
    close_node(n);
}

static void test_what_is_not_there(void **state) {
    const struct str names[] = {STR_LIT("nobody"), STR_LIT(""), STR_LIT("orders\0x"), STR_LIT("\xff\xfe"), STR_LIT("' OR '1'='1"),
                                       STR_LIT("%"), STR_LIT("$1"), STR_LIT("orders; DROP TABLE letter_policies --")};
    struct letters_fixture lf;
    struct node *n = open_node(&lf, state);
    json_auto_t *cap = json_pack("{si}", "cap", 1);
    set_policy(n, "orders", "{\"cap\":7}");
    for (size_t i = 0; i < array_len(names); i++) {
        struct answer a = {0}, b = {0}, c = {0};
        policies_show(n->policies, names[i], answer_json, &a);
        await_refusal(&lf, &a, ERR_NOT_FOUND, "there is no function");
        policies_remove(n->policies, names[i], answer_done, &b);
        await_refusal(&lf, &b, ERR_NOT_FOUND, "there is no function");
        policies_change(n->policies, names[i], cap, STR_LIT("x"), answer_json, &c);
        await_refusal(&lf, &c, ERR_NOT_FOUND, "there is no function");
    }
    struct answer a = {0}, b = {0}, c = {0};
    policies_show(n->policies, STR_LIT("billing"), answer_json, &a);
    await_refusal(&lf, &a, ERR_NOT_FOUND, "billing has no policy");
    policies_remove(n->policies, STR_LIT("orders"), answer_done, &b);
    await(&lf, &b);
    policies_remove(n->policies, STR_LIT("orders"), answer_done, &c);
    await_refusal(&lf, &c, ERR_NOT_FOUND, "orders has no policy");
    assert_int_equal(count_of(n, "letter_policies"), 0);
    close_node(n);
}

// --- keepMs -------------------------------------------------------------------------------------------------------------------

#define MANY 4500 // more than two steps

// Letters of three functions, around the horizons of a day and of three days; ids of a few are ahead of their time.
static struct letter_row *random_rows(int64_t now_ms) {
    static const char *const functions[] = {"orders", "billing", "mail"};
    static const char *const states[] = {"dead", "dead", "dead", "dead", "replayed", "discarded", "replaying"};
    struct letter_row *rows = mem_zalloc(MANY * sizeof *rows);
    uint64_t seed = 1;
    for (size_t i = 0; i < MANY; i++) {
        int64_t days = next_random(&seed) % 5, off_ms = MINUTE_MS + next_random(&seed) % (8 * 3600000);
        struct letter_row *r = &rows[i];
        r->function = functions[next_random(&seed) % 3];
        r->state = states[next_random(&seed) % array_len(states)];
        r->died_ms = now_ms - days * DAY_MS + (next_random(&seed) % 2 ? off_ms : -off_ms);
        r->changed_ms = r->died_ms + (next_random(&seed) % 3 ? 0 : (int64_t)(next_random(&seed) % 2 ? DAY_MS : 2 * DAY_MS));
        r->accepted_ms = next_random(&seed) % 50 ? r->died_ms - next_random(&seed) % 3600000 : now_ms + DAY_MS;
    }
    return rows;
}

static bool is_too_old(const struct letter_row *r, const char *function, int64_t before_ms) {
    if (strcmp(r->function, function) != 0 || strcmp(r->state, "replaying") == 0) return false;
    return (strcmp(r->state, "dead") == 0 ? r->died_ms : r->changed_ms) < before_ms;
}

static void add_edits(struct letters_fixture *lf, int64_t at_ms) {
    cleanup_free char *edits = mem_printf("INSERT INTO letter_edits (letter_id, revision, at_ms, who, why, patch)"
                                          " SELECT id, 1, %lld, 'ana', '', '[]' FROM letters UNION ALL"
                                          " SELECT id, 2, %lld, 'ana', '', '[]' FROM letters",
                                          (long long)at_ms, (long long)at_ms);
    sql(lf, edits);
    sql(lf, "INSERT INTO letter_originals (letter_id, payload, event) SELECT id, payload, payload FROM letters");
}

static void test_exactly_what_is_older_goes(void **state) {
    struct letters_fixture lf;
    struct node *n = open_node(&lf, state);
    int64_t now_ms = clock_unix_ms(), left = 0;
    struct letter_row *rows = random_rows(now_ms);
    letter_rows_add(&lf, rows, MANY);
    add_edits(&lf, now_ms);
    set_policy(n, "orders", "{\"keepMs\":86400000}");
    set_policy(n, "billing", "{\"keepMs\":259200000}");
    keep(n);
    for (size_t i = 0; i < MANY; i++) {
        bool gone = is_too_old(&rows[i], "orders", now_ms - DAY_MS) || is_too_old(&rows[i], "billing", now_ms - 3 * DAY_MS);
        left += !gone;
        if (letter_row_is_there(&lf, &rows[i]) == gone)
            fail_msg("a letter that is %s of %s, %lld ms old, is %s", rows[i].state, rows[i].function, (long long)(now_ms - rows[i].died_ms),
                     gone ? "still there" : "gone");
    }
    assert_true(left > 1000 && left < MANY - 1000);
    assert_int_equal(count_of(n, "letters"), left);
    assert_int_equal(count_of(n, "letter_bodies"), left);
    assert_int_equal(count_of(n, "letter_originals"), left);
    assert_int_equal(count_of(n, "letter_edits"), 2 * left);
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letters l JOIN letter_bodies b ON b.id = l.id JOIN letter_originals o"
                                     " ON o.letter_id = l.id JOIN letter_edits e ON e.letter_id = l.id"),
                     2 * left);
    free(rows);
    close_node(n);
}

// Rounds within an hour after a thorough one look at less, but miss nothing that becomes too old by and by.
static void test_later_rounds(void **state) {
    struct letters_fixture lf;
    struct node *n = open_node(&lf, state);
    set_policy(n, "orders", "{\"keepMs\":86400000}");
    keep(n);
    int64_t old_ms = clock_unix_ms() - DAY_MS - MINUTE_MS, young_ms = old_ms + 2 * MINUTE_MS;
    enum { DEAD, DEAD_YOUNG, CLOSED, CLOSED_YOUNG, AHEAD };
    struct letter_row rows[] = {[DEAD] = {.died_ms = old_ms},
                                [DEAD_YOUNG] = {.accepted_ms = old_ms, .died_ms = young_ms},
                                [CLOSED] = {.died_ms = old_ms - 9 * DAY_MS, .changed_ms = old_ms, .state = "discarded"},
                                [CLOSED_YOUNG] = {.died_ms = old_ms, .changed_ms = young_ms, .state = "replayed"},
                                [AHEAD] = {.died_ms = old_ms, .accepted_ms = young_ms + 5 * DAY_MS}};
    letter_rows_add(&lf, rows, array_len(rows));
    keep(n);
    assert_false(letter_row_is_there(&lf, &rows[DEAD]));
    assert_true(letter_row_is_there(&lf, &rows[DEAD_YOUNG]));
    assert_false(letter_row_is_there(&lf, &rows[CLOSED]));
    assert_true(letter_row_is_there(&lf, &rows[CLOSED_YOUNG]));
    assert_true(letter_row_is_there(&lf, &rows[AHEAD]));
    n->policies->thorough_at_ns -= 3600001 * NS_PER_MS; // an hour later
    keep(n);
    assert_false(letter_row_is_there(&lf, &rows[AHEAD]));
    assert_int_equal(count_of(n, "letters"), 2);
    close_node(n);
}

// --- cap ----------------------------------------------------------------------------------------------------------------------

static int by_id(const void *a, const void *b) {
    return memcmp(&((const struct letter_row *)a)->id, &((const struct letter_row *)b)->id, sizeof(struct id));
}

// MANY dead letters of orders, in the order of their ids, and others that do not count.
static struct letter_row *fill_over_cap(struct letters_fixture *lf) {
    struct letter_row *rows = mem_zalloc(MANY * sizeof *rows);
    struct letter_row others[] = {{.died_ms = 1, .state = "replayed"}, {.died_ms = 1, .state = "discarded"}, {.died_ms = 1, .state = "replaying"},
                                  {.died_ms = 1, .state = "due"}, {.died_ms = 1, .function = "billing"}};
    uint64_t seed = 2;
    for (size_t i = 0; i < MANY; i++) rows[i].died_ms = 1 + next_random(&seed) % 1000000000;
    letter_rows_add(lf, rows, MANY);
    letter_rows_add(lf, others, array_len(others));
    qsort(rows, MANY, sizeof *rows, by_id);
    return rows;
}
#define OTHERS 5

static void expect_newest(struct letters_fixture *lf, const struct letter_row *rows, size_t cap) {
    for (size_t i = 0; i < MANY; i++)
        if (letter_row_is_there(lf, &rows[i]) != (i >= MANY - cap)) fail_msg("letter %zu of %d", i, MANY);
    assert_int_equal(sql_number(lf, "SELECT count(*) FROM letters"), cap + OTHERS);
    assert_int_equal(sql_number(lf, "SELECT count(*) FROM letter_bodies"), cap + OTHERS);
}

static void test_cap_takes_the_oldest_and_no_more(void **state) {
    struct letters_fixture lf;
    struct node *n = open_node(&lf, state);
    struct letter_row *rows = fill_over_cap(&lf);
    set_policy(n, "orders", "{\"cap\":4500}");
    keep(n);
    expect_newest(&lf, rows, MANY);
    set_policy(n, "orders", "{\"cap\":4499}");
    keep(n);
    expect_newest(&lf, rows, 4499);
    set_policy(n, "orders", "{\"cap\":321}");
    keep(n);
    expect_newest(&lf, rows, 321);
    keep(n);
    expect_newest(&lf, rows, 321);
    free(rows);
    close_node(n);
}

static void test_a_step_has_an_end(void **state) {
    struct letters_fixture lf;
    struct node *n = open_node(&lf, state);
    struct letter_row *rows = fill_over_cap(&lf);
    set_policy(n, "orders", "{\"cap\":1}");
    int64_t left = MANY + OTHERS, most = 0;
    policies_keep(n->policies);
    while (!is_idle(n)) { // the reader's answer comes after each step: none is missed
        loop_turn(lf.fx->loop, 20);
        int64_t now = count_of(n, "letters");
        if (left - now > most) most = left - now;
        left = now;
    }
    assert_int_equal(most, POLICY_STEP);
    expect_newest(&lf, rows, 1);
    free(rows);
    close_node(n);
}

// A change of a policy begins a round.
static void test_a_new_policy_works_at_once(void **state) {
    struct letters_fixture lf;
    struct node *n = open_node(&lf, state);
    struct letter_row rows[] = {{.died_ms = 1}, {.died_ms = 2}, {.died_ms = 3}};
    letter_rows_add(&lf, rows, array_len(rows));
    policies_start(n->policies);
    TURN_UNTIL(lf.fx->loop, n->policies->thorough_at_ns && is_idle(n));
    assert_int_equal(count_of(n, "letters"), 3); // without a policy
    set_policy(n, "orders", "{\"cap\":1}");
    TURN_UNTIL(lf.fx->loop, count_of(n, "letters") == 1);
    assert_true(letter_row_is_there(&lf, &rows[2]));
    close_node(n);
}

// --- several nodes ------------------------------------------------------------------------------------------------------------

static int64_t told(struct node *n, const char *member) {
    cleanup_free char *text = mem_printf(n->lf->fx->postgres
                                             ? "SELECT coalesce(sum((detail::json->>'%s')::bigint), 0)::bigint FROM audit"
                                               " WHERE action = 'policies.delete' AND who = 'weir' AND outcome = 'ok' AND target = 'orders'"
                                             : "SELECT coalesce(sum(json_extract(detail, '$.%s')), 0) FROM audit"
                                               " WHERE action = 'policies.delete' AND who = 'weir' AND outcome = 'ok' AND target = 'orders'",
                                         member);
    return sql_number(n->lf, text);
}

static void test_two_nodes_delete_once(void **state) {
    struct letters_fixture lf;
    struct node *n = open_node(&lf, state), *other = node_new(&lf, true);
    struct letter_row *rows = fill_over_cap(&lf);
    set_policy(n, "orders", "{\"cap\":100}");
    policies_keep(n->policies);
    policies_keep(other->policies);
    TURN_UNTIL(lf.fx->loop, is_idle(n) && is_idle(other));
    keep(n); // each may have given way to the other at its last step
    expect_newest(&lf, rows, 100);
    node_stop(other);
    node_stop(n);
    assert_int_equal(told(n, "overCap"), MANY - 100);
    node_free(other);
    free(rows);
    close_node(n);
}

static int lock(void *arg, struct sql *s, struct err *err) {
    return sql_exec_once(s, arg ? "SELECT pg_advisory_lock(1464158546, 6)" : "SELECT pg_advisory_unlock(1464158546, 6)", NULL, 0, NULL, NULL, NULL,
                         err);
}

static void lock_elsewhere(struct node *other, bool locked) {
    struct call c;
    submit(other->store, &c, lock, locked ? other : NULL);
    TURN_UNTIL(other->lf->fx->loop, c.done);
    assert_int_equal(c.code, 0);
}

static void test_one_node_at_a_time(void **state) {
    struct letters_fixture lf;
    struct node *n = open_node(&lf, state), *other = node_new(&lf, true);
    struct letter_row rows[] = {{.died_ms = 1}, {.died_ms = 2}, {.died_ms = 3}};
    letter_rows_add(&lf, rows, array_len(rows));
    set_policy(n, "orders", "{\"cap\":1}");
    lock_elsewhere(other, true);
    keep(n);
    assert_int_equal(count_of(n, "letters"), 3);
    lock_elsewhere(other, false);
    keep(n);
    assert_int_equal(count_of(n, "letters"), 1);
    node_free(other);
    close_node(n);
}

// --- the audit ----------------------------------------------------------------------------------------------------------------

static void test_the_audit_is_told_once_an_hour(void **state) {
    struct letters_fixture lf;
    struct node *n = open_node(&lf, state);
    struct letter_row rows[] = {{.died_ms = 1}, {.died_ms = 2}, {.died_ms = 3}, {.died_ms = 4}};
    set_policy(n, "orders", "{\"keepMs\":60000}");
    letter_rows_add(&lf, rows, 2);
    keep(n);
    TURN_UNTIL(lf.fx->loop, told(n, "overAge") == 2);
    letter_rows_add(&lf, rows + 2, 1);
    keep(n);
    letter_rows_add(&lf, rows + 3, 1);
    keep(n);
    assert_int_equal(count_of(n, "letters"), 0);
    assert_int_equal(count_of(n, "audit"), 1);
    node_stop(n); // what is not told yet is told at the end
    assert_int_equal(told(n, "overAge"), 4);
    assert_int_equal(told(n, "overCap"), 0);
    assert_int_equal(count_of(n, "audit"), 2);
    close_node(n);
}

// --- gauges and the warning ---------------------------------------------------------------------------------------------------

// What a round writes to the log: how often it warns.
static size_t warnings_of(struct node *n) {
    char line[4096], path[] = "/tmp/weir-test-log-XXXXXX";
    size_t warnings = 0;
    int fd = mkstemp(path), before = dup(STDERR_FILENO);
    assert_true(fd >= 0 && before >= 0);
    unlink(path);
    assert_true(dup2(fd, STDERR_FILENO) >= 0);
    keep(n);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    close(before);
    FILE *f = fdopen(fd, "r");
    rewind(f);
    while (fgets(line, sizeof line, f)) warnings += strstr(line, "90 % of their cap") != NULL;
    fclose(f);
    return warnings;
}

static void add_dead(struct letters_fixture *lf, const char *function, size_t count) {
    struct letter_row rows[100] = {0};
    for (size_t i = 0; i < count; i++) rows[i] = (struct letter_row){.died_ms = clock_unix_ms(), .function = function};
    letter_rows_add(lf, rows, count);
}

static void expect_gauges(struct node *n, double dead, double ratio) {
    assert_true(metrics_get(n->metrics, METRIC_DEAD, STR_LIT("orders")) == dead);
    assert_true(metrics_get(n->metrics, METRIC_DEAD_CAP_RATIO, STR_LIT("orders")) == ratio);
}

static void test_warning_and_gauges(void **state) {
    struct letters_fixture lf;
    struct node *n = open_node(&lf, state);
    set_policy(n, "orders", "{\"cap\":100}");
    add_dead(&lf, "orders", 89);
    add_dead(&lf, "nobody", 7);
    assert_int_equal(warnings_of(n), 0);
    expect_gauges(n, 89, 0.89);
    assert_true(metrics_get(n->metrics, METRIC_DEAD, STR_LIT("nobody")) == 7);
    add_dead(&lf, "orders", 1);
    assert_int_equal(warnings_of(n), 1);
    expect_gauges(n, 90, 0.9);
    add_dead(&lf, "orders", 9);
    assert_int_equal(warnings_of(n), 0);
    sql(&lf, "UPDATE letters SET state = 'discarded' WHERE function = 'orders' OR function = 'nobody'");
    assert_int_equal(warnings_of(n), 0);
    expect_gauges(n, 0, 0);
    assert_true(metrics_get(n->metrics, METRIC_DEAD, STR_LIT("nobody")) == 0);
    add_dead(&lf, "orders", 95);
    assert_int_equal(warnings_of(n), 1);
    set_policy(n, "orders", "{\"cap\":null}");
    assert_int_equal(warnings_of(n), 0);
    expect_gauges(n, 95, 0);
    close_node(n);
}

// --- what belongs to nothing --------------------------------------------------------------------------------------------------

static void add_replay(struct letters_fixture *lf, int64_t replay, const char *ended_ms, int letters) {
    cleanup_free char *row = mem_printf("INSERT INTO replays (id, state, created_ms, ran_ms, ended_ms, who, selection, target, to_origin, rate,"
                                        " ramp_ms, abort_share, sample, in_order, total, reason, owner, lease_ms)"
                                        " VALUES (%lld, 'done', 1, 1, %s, '', '', '', 0, 0, 0, -1, 0, 0, %d, '', '', 0)",
                                        (long long)replay, ended_ms, letters);
    cleanup_free char *of = mem_printf("INSERT INTO replay_letters (replay, seq, letter_id, state) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL"
                                       " SELECT i + 1 FROM n WHERE i < %d) SELECT %lld, i, CAST('x' AS %s), 'sent' FROM n",
                                       letters, (long long)replay, lf->fx->postgres ? "BYTEA" : "BLOB");
    sql(lf, row);
    sql(lf, of);
}

static void test_nothing_grows_for_ever(void **state) {
    struct letters_fixture lf;
    struct node *n = open_node(&lf, state);
    int64_t now_ms = clock_unix_ms();
    struct letter_row gone[2100] = {0}, edited = {.died_ms = 1}, closed = {.died_ms = 1, .state = "replayed"}, young[] = {{.died_ms = 1}};
    for (size_t i = 0; i < array_len(gone); i++) gone[i].died_ms = 1;
    letter_rows_add(&lf, young, 1);
    add_edits(&lf, now_ms - 29 * DAY_MS);
    sql(&lf, "DELETE FROM letters"); // its event was delivered: it may come back
    letter_rows_add(&lf, gone, array_len(gone));
    add_edits(&lf, now_ms - 31 * DAY_MS);
    sql(&lf, "DELETE FROM letters");
    letter_rows_add(&lf, &edited, 1);
    letter_rows_add(&lf, &closed, 1);
    add_edits(&lf, now_ms - 400 * DAY_MS);
    cleanup_free char *old = mem_printf("%lld", (long long)(now_ms - 91 * DAY_MS)), *recent = mem_printf("%lld", (long long)(now_ms - 89 * DAY_MS));
    add_replay(&lf, 1, "NULL", 3);
    add_replay(&lf, 2, old, 4500);
    add_replay(&lf, 3, recent, 5);
    add_replay(&lf, 4, old, 1);
    add_replay(&lf, 5, old, 2000);
    keep(n);
    assert_int_equal(count_of(n, "letters"), 2); // nobody said that these are to go
    assert_int_equal(count_of(n, "letter_originals"), 3);
    assert_int_equal(count_of(n, "letter_edits"), 6);
    assert_int_equal(count_of(n, "replays"), 2);
    assert_int_equal(sql_number(&lf, "SELECT sum(id) FROM replays"), 1 + 3);
    assert_int_equal(count_of(n, "replay_letters"), 3 + 5);
    assert_int_equal(count_of(n, "audit"), 0);
    close_node(n);
}

// --- deploys ------------------------------------------------------------------------------------------------------------------

static void use(struct letters_fixture *lf, const char *function, int number) {
    cleanup_free char *text = mem_printf("UPDATE functions SET current = %d WHERE name = '%s'", number, function);
    sql(lf, text);
}

static int64_t replays_after_a_look(struct node *n) {
    policies_look(n->policies);
    TURN_UNTIL(n->lf->fx->loop, !n->policies->deploys);
    return count_of(n, "replays");
}

static int64_t replays_after(struct node *n, const char *function, int number) {
    use(n->lf, function, number);
    return replays_after_a_look(n);
}

static int64_t done_version(struct node *n, const char *function) {
    cleanup_free char *text = mem_printf("SELECT done_version FROM letter_policies WHERE function = '%s'", function);
    return sql_number(n->lf, text);
}

// Its rounds run.
static struct node *open_started(struct letters_fixture *lf, void **state) {
    struct node *n = open_node(lf, state);
    policies_start(n->policies);
    TURN_UNTIL(lf->fx->loop, n->policies->thorough_at_ns && is_idle(n));
    return n;
}

// A process of weir that begins now, beside the other one or after it.
static struct node *start_node(struct letters_fixture *lf) {
    struct node *n = node_new(lf, lf->fx->postgres);
    policies_start(n->policies);
    TURN_UNTIL(lf->fx->loop, n->policies->thorough_at_ns && is_idle(n));
    return n;
}

static void test_a_deploy_replays_the_dead_letters(void **state) {
    struct letters_fixture lf;
    struct node *n = open_started(&lf, state);
    use(&lf, "orders", 7);
    set_policy(n, "orders", "{\"autoReplay\":{\"sample\":2,\"rate\":2.5,\"abortShare\":0.02}}");
    for (int i = 0; i < 3; i++) put_text(&lf, "orders", "{}", LETTER_DEAD);
    put_text(&lf, "orders", "{}", LETTER_DUE);
    put_text(&lf, "billing", "{}", LETTER_DEAD);
    assert_int_equal(replays_after(n, "orders", 7), 0); // it was current before the policy
    assert_int_equal(replays_after(n, "orders", 6), 0); // another version is no new one
    assert_int_equal(replays_after(n, "orders", 7), 0);
    assert_int_equal(replays_after(n, "orders", 9), 1);
    assert_int_equal(replays_after(n, "orders", 6), 1);
    assert_int_equal(replays_after(n, "orders", 8), 1);
    assert_int_equal(replays_after(n, "orders", 9), 1);
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM replays WHERE cause = 'deploy:orders:9:0' AND who = 'weir (policy)' AND total = 3"
                                     " AND sample = 2 AND rate = 2500 AND abort_share = 20000 AND target = 'orders:9' AND to_origin = 0"),
                     1);
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM replay_letters r JOIN letters l ON l.id = r.letter_id WHERE l.function = 'orders'"), 3);
    TURN_UNTIL(lf.fx->loop, count_of(n, "audit") == 1);
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM audit WHERE who = 'weir' AND action = 'policies.replay' AND target = 'orders'"), 1);
    close_node(n);
}

static void test_deploys_that_replay_nothing(void **state) {
    struct letters_fixture lf;
    struct node *n = open_started(&lf, state);
    put_text(&lf, "billing", "{}", LETTER_DEAD);
    put_text(&lf, "mail", "{}", LETTER_DEAD);
    set_policy(n, "orders", "{\"autoReplay\":{}}"); // has no letters
    set_policy(n, "billing", "{\"cap\":100}");      // is not replayed; mail has no policy
    const char *const functions[] = {"orders", "billing", "mail"};
    for (size_t i = 0; i < array_len(functions); i++) assert_int_equal(replays_after(n, functions[i], 2), 0);
    put_text(&lf, "orders", "{}", LETTER_DEAD); // after the deploy
    assert_int_equal(replays_after_a_look(n), 0);
    set_policy(n, "billing", "{\"autoReplay\":{}}");
    set_policy(n, "mail", "{\"autoReplay\":{}}");
    assert_int_equal(replays_after_a_look(n), 0); // of the deploys before
    assert_int_equal(replays_after(n, "mail", 3), 1);
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM replays WHERE sample = 0 AND rate = 0 AND abort_share = -1"), 1);
    close_node(n);
}

static void test_policies_come_change_and_go(void **state) {
    struct letters_fixture lf;
    struct node *n = open_started(&lf, state);
    put_text(&lf, "orders", "{}", LETTER_DEAD);
    set_policy(n, "orders", "{\"autoReplay\":{}}");
    TURN_UNTIL(lf.fx->loop, is_idle(n));
    use(&lf, "orders", 2);                                                // nobody looks
    set_policy(n, "orders", "{\"autoReplay\":{\"rate\":7},\"cap\":9}"); // a round comes with it
    TURN_UNTIL(lf.fx->loop, count_of(n, "replays") == 1 && done_version(n, "orders") == 2);
    assert_int_equal(sql_number(&lf, "SELECT rate FROM replays"), 7000);
    set_policy(n, "orders", "{\"autoReplay\":null}");
    assert_int_equal(replays_after(n, "orders", 5), 1);
    set_policy(n, "orders", "{\"autoReplay\":{}}");
    assert_int_equal(replays_after_a_look(n), 1);
    set_policy(n, "orders", "{\"autoReplay\":null}");
    use(&lf, "orders", 3);
    set_policy(n, "orders", "{\"autoReplay\":{}}");
    assert_int_equal(done_version(n, "orders"), 5); // 5 is no deploy when it comes back
    assert_int_equal(replays_after(n, "orders", 6), 2);
    sql(&lf, "DELETE FROM functions WHERE name = 'orders'"); // with its policy; another one of its name begins anew
    sql(&lf, "INSERT INTO functions (name, current, created_ms) VALUES ('orders', 1, 77)");
    assert_int_equal(replays_after(n, "orders", 2), 2);
    set_policy(n, "orders", "{\"autoReplay\":{}}");
    assert_int_equal(replays_after(n, "orders", 6), 3);
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM replays WHERE cause = 'deploy:orders:6:77'"), 1);
    close_node(n);
}

// The version is current, and then nobody looks, or who looked did not come far.
static void test_who_comes_next_makes_the_replay(void **state) {
    struct letters_fixture lf;
    struct node *n = open_started(&lf, state), *next;
    put_text(&lf, "orders", "{}", LETTER_DEAD);
    set_policy(n, "orders", "{\"autoReplay\":{}}");
    TURN_UNTIL(lf.fx->loop, is_idle(n));
    use(&lf, "orders", 2);
    next = start_node(&lf);
    assert_int_equal(count_of(n, "replays"), 1);
    assert_int_equal(done_version(n, "orders"), 2);
    node_free(next);
    use(&lf, "orders", 3);
    keep(n); // a round of one that was there before
    assert_int_equal(count_of(n, "replays"), 2);
    sql(&lf, "UPDATE letter_policies SET done_version = 2"); // made, and not done with
    next = start_node(&lf);
    assert_int_equal(count_of(n, "replays"), 2);
    assert_int_equal(done_version(n, "orders"), 3);
    node_free(next);
    close_node(n);
}

// A replay whose node ended while it selected sends nothing: it is not the one.
static void test_a_replay_that_selects_is_not_made_yet(void **state) {
    struct letters_fixture lf;
    struct node *n = open_started(&lf, state);
    put_text(&lf, "orders", "{}", LETTER_DEAD);
    set_policy(n, "orders", "{\"autoReplay\":{}}");
    add_replay(&lf, 1000, "NULL", 1);
    sql(&lf, "UPDATE replays SET state = 'selecting', cause = 'deploy:orders:2:0'");
    assert_int_equal(replays_after(n, "orders", 2), 1);
    assert_int_equal(done_version(n, "orders"), 1);
    sql(&lf, "UPDATE replays SET state = 'cancelled', cause = cause || ':unmade:' || id"); // as a look leaves it whose node has died
    assert_int_equal(replays_after_a_look(n), 2);
    assert_int_equal(done_version(n, "orders"), 2);
    add_replay(&lf, 2000, "1", 1);
    sql(&lf, "UPDATE replays SET state = 'cancelled', cause = 'deploy:orders:3:0' WHERE id = 2000"); // by an operator
    assert_int_equal(replays_after(n, "orders", 3), 3);
    assert_int_equal(done_version(n, "orders"), 3);
    close_node(n);
}

static void test_what_cannot_be_made_is_made_later(void **state) {
    struct letters_fixture lf;
    struct node *n = open_started(&lf, state);
    put_text(&lf, "billing", "{}", LETTER_DEAD);
    put_text(&lf, "orders", "{}", LETTER_DEAD);
    set_policy(n, "billing", "{\"autoReplay\":{}}");
    set_policy(n, "orders", "{\"autoReplay\":{}}");
    TURN_UNTIL(lf.fx->loop, is_idle(n));
    sql(&lf, lf.fx->postgres ? "ALTER TABLE replays ADD CONSTRAINT broken CHECK (CASE WHEN target LIKE 'billing%' THEN 1 / (id - id) ELSE 1 END = 1)"
                             : "CREATE TRIGGER broken BEFORE INSERT ON replays WHEN NEW.target LIKE 'billing%' BEGIN SELECT json('{'); END");
    use(&lf, "billing", 2);
    assert_int_equal(replays_after(n, "orders", 2), 1); // in spite of the one before it
    assert_int_equal(done_version(n, "billing"), 1);
    sql(&lf, lf.fx->postgres ? "ALTER TABLE replays DROP CONSTRAINT broken" : "DROP TRIGGER broken");
    assert_int_equal(replays_after_a_look(n), 2);
    assert_int_equal(done_version(n, "billing"), 2);
    close_node(n);
}

static int use_orders_2(void *arg, struct sql *sql, struct err *err) {
    (void)arg;
    return sql_exec(sql, "UPDATE functions SET current = 2 WHERE name = 'orders'", NULL, 0, NULL, NULL, NULL, err);
}

static void test_a_deploy_during_a_look(void **state) {
    struct letters_fixture lf;
    struct call c;
    struct node *n = open_started(&lf, state);
    put_text(&lf, "billing", "{}", LETTER_DEAD);
    put_text(&lf, "orders", "{}", LETTER_DEAD);
    set_policy(n, "billing", "{\"autoReplay\":{}}");
    set_policy(n, "orders", "{\"autoReplay\":{}}");
    TURN_UNTIL(lf.fx->loop, is_idle(n));
    use(&lf, "billing", 2);
    policies_look(n->policies);
    submit(lf.fx->store, &c, use_orders_2, NULL); // before the replay of the other one
    policies_look(n->policies);
    TURN_UNTIL(lf.fx->loop, c.done && !n->policies->deploys);
    assert_int_equal(count_of(n, "replays"), 2);
    close_node(n);
}

static void test_nodes_make_one_replay(void **state) {
    struct letters_fixture lf;
    struct node *n = open_started(&lf, state), *other = start_node(&lf);
    put_text(&lf, "orders", "{}", LETTER_DEAD);
    set_policy(n, "orders", "{\"autoReplay\":{}}");
    for (int number = 2; number <= 5; number++) {
        use(&lf, "orders", number);
        policies_look(n->policies);
        policies_look(other->policies);
        TURN_UNTIL(lf.fx->loop, !n->policies->deploys && !other->policies->deploys);
        assert_int_equal(count_of(n, "replays"), number - 1);
        assert_int_equal(done_version(n, "orders"), number);
    }
    node_stop(n);
    node_stop(other);
    assert_int_equal(count_of(n, "audit"), 4);
    node_free(other);
    close_node(n);
}

int main(void) {
    static const struct store_case cases[] = {
        {"members stay, or are taken away", test_members_stay_or_are_taken_away, STORE_BOTH},
        {"wrong settings are refused", test_wrong_settings_are_refused, STORE_BOTH},
        {"what is not there", test_what_is_not_there, STORE_BOTH},
        {"exactly what is older goes", test_exactly_what_is_older_goes, STORE_BOTH},
        {"later rounds", test_later_rounds, STORE_BOTH},
        {"a cap takes the oldest, and no more", test_cap_takes_the_oldest_and_no_more, STORE_BOTH},
        {"a step has an end", test_a_step_has_an_end, STORE_BOTH},
        {"a new policy works at once", test_a_new_policy_works_at_once, STORE_BOTH},
        {"two nodes delete once", test_two_nodes_delete_once, STORE_POSTGRES},
        {"one node at a time", test_one_node_at_a_time, STORE_POSTGRES},
        {"the audit is told once an hour", test_the_audit_is_told_once_an_hour, STORE_BOTH},
        {"a warning, and gauges", test_warning_and_gauges, STORE_BOTH},
        {"nothing grows for ever", test_nothing_grows_for_ever, STORE_BOTH},
        {"a deploy replays the dead letters", test_a_deploy_replays_the_dead_letters, STORE_BOTH},
        {"deploys that replay nothing", test_deploys_that_replay_nothing, STORE_BOTH},
        {"policies come, change and go", test_policies_come_change_and_go, STORE_BOTH},
        {"who comes next makes the replay", test_who_comes_next_makes_the_replay, STORE_BOTH},
        {"a replay that selects is not made yet", test_a_replay_that_selects_is_not_made_yet, STORE_BOTH},
        {"what cannot be made is made later", test_what_cannot_be_made_is_made_later, STORE_BOTH},
        {"a deploy during a look", test_a_deploy_during_a_look, STORE_BOTH},
        {"nodes make one replay", test_nodes_make_one_replay, STORE_BOTH},
    };
    return store_run_cases(cases, array_len(cases));
}
