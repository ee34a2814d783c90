// SPDX-License-Identifier: Apache-2.0
// The letters over both stores: what is put can be seen, claimed by one, and moved; a claim that was overtaken is void.
#include <jansson.h>
#include <stdlib.h>

#include "dlq/letters.h"
#include "tests/support/store_fixture.h"

struct world {
    struct loop *loop;
    struct store *store;
    struct letters *letters;
    char *dir, *function;
};

static const char *postgres_url;

static struct world *world_new(bool postgres) {
    struct world *w = mem_zalloc(sizeof *w);
    struct err err = {0};
    w->loop = loop_new();
    w->dir = temp_dir_new();
    cleanup_free char *sqlite_url = mem_printf("sqlite:%s/weir.db", w->dir);
    if (store_open(w->loop, postgres ? postgres_url : sqlite_url, &w->store, &err)) fail_msg("%s", err.text);
    w->letters = letters_new(w->loop, w->store);
    struct id id = id_new();
    char text[ID_TEXT_BYTES];
    id_format(&id, text);
    w->function = mem_printf("f%s", text); // no test meets another's letters in a shared database
    return w;
}

static int setup_sqlite(void **state) {
    *state = world_new(false);
    return 0;
}

static int setup_postgres(void **state) {
    *state = world_new(true);
    return 0;
}

static int teardown(void **state) {
    struct world *w = *state;
    letters_free(w->letters);
    store_close(w->store);
    loop_free(w->loop);
    temp_dir_remove(w->dir);
    free(w->function);
    free(w);
    return 0;
}

// --- waiting for answers ----------------------------------------------------------------------------------------------

struct answer {
    bool done;
    int code;
    struct err err;
    json_t *json;
    size_t count;
    struct letter letters[16];
};

static void on_done(void *arg, int code, const struct err *err) {
    struct answer *a = arg;
    a->done = true;
    a->code = code;
    if (code) a->err = *err;
}

static void on_json(void *arg, int code, const struct err *err, json_t *json) {
    on_done(arg, code, err);
    ((struct answer *)arg)->json = json;
}

static void on_count(void *arg, int code, const struct err *err, size_t count) {
    on_done(arg, code, err);
    ((struct answer *)arg)->count = count;
}

static void on_claim(void *arg, int code, const struct err *err, struct letter *letters, size_t count) {
    struct answer *a = arg;
    on_done(a, code, err);
    assert_true(count <= array_len(a->letters));
    a->count = count;
    if (count) memcpy(a->letters, letters, count * sizeof *letters);
}

static void await(struct world *w, struct answer *a) {
    TURN_UNTIL(w->loop, a->done);
    if (a->code) fail_msg("%s", a->err.text);
}

static struct ev *event(struct world *w, const char *payload, uint32_t attempt) {
    const struct ev_header header = {STR_LIT("h"), STR_LIT("v")};
    const struct ev_fields f = {.function = str_of(w->function),
                                .payload = str_of(payload),
                                .attempt = attempt,
                                .history = STR_LIT("[{\"attempt\":1}]"),
                                .source_kind = STR_LIT("http"),
                                .ordering_key = {"k\0\xff", 3},
                                .headers = &header,
                                .header_count = 1};
    return ev_new(&f);
}

static void put(struct world *w, struct ev *ev, enum letter_state state, int64_t due_ms) {
    struct answer a = {0};
    const struct letter_draft draft = {.ev = ev,
                                       .state = state,
                                       .kind = LETTER_FUNCTION,
                                       .due_ms = due_ms,
                                       .version = 3,
                                       .error_type = STR_LIT("KeyError"),
                                       .error_message = {"bad \xff\0 text", 11}};
    letters_put(w->letters, &draft, on_done, &a);
    await(w, &a);
}

static struct letter_filter mine(const struct world *w, const char *state) {
    return (struct letter_filter){.function = str_of(w->function), .state = str_of(state), .limit = 10};
}

static json_t *list(struct world *w, const struct letter_filter *f) {
    struct answer a = {0};
    letters_list(w->letters, f, on_json, &a);
    await(w, &a);
    return a.json;
}

static size_t count_of(struct world *w, const char *state) {
    struct letter_filter f = mine(w, state);
    json_t *all = list(w, &f);
    size_t n = json_array_size(json_object_get(all, "letters"));
    json_decref(all);
    return n;
}

// Only this test's due letters; those of others are let go again by their lease.
static size_t claim_due(struct world *w, int64_t now_ms, struct answer *a) {
    *a = (struct answer){0};
    letters_claim_due(w->letters, now_ms, 60000, 10, on_claim, a);
    await(w, a);
    size_t kept = 0;
    for (size_t i = 0; i < a->count; i++) {
        struct letter *l = &a->letters[i];
        if (str_is(l->ev->f.function, w->function)) a->letters[kept++] = *l;
        else ev_free(l->ev);
    }
    a->count = kept;
    return kept;
}

static int shorten_leases(void *arg, struct sql *sql, struct err *err) {
    const struct world *w = arg;
    const struct sql_value function = SQL_Z(w->function);
    return sql_exec(sql, "UPDATE letters SET lease_ms = lease_ms - 60001 WHERE function = $1 AND lease_ms > 0", &function, 1, NULL, NULL,
                    NULL, err);
}

// As if their 60 s had passed.
static void let_leases_run_out(struct world *w) {
    struct store_fixture fx = {.loop = w->loop, .store = w->store};
    assert_int_equal(call(&fx, shorten_leases, w), 0);
}

static void free_claimed(struct answer *a) {
    for (size_t i = 0; i < a->count; i++) ev_free(a->letters[i].ev);
}

// --- promises ---------------------------------------------------------------------------------------------------------

static void a_letter_shows_the_whole_event(void **state) {
    struct world *w = *state;
    struct ev *ev = event(w, "{\"n\":1}", 4);
    put(w, ev, LETTER_DEAD, 0);
    struct answer a = {0};
    letters_show(w->letters, &ev->f.id, on_json, &a);
    await(w, &a);
    assert_string_equal(json_string_value(json_object_get(a.json, "payload")), "{\"n\":1}");
    assert_string_equal(json_string_value(json_object_get(a.json, "errorType")), "KeyError");
    assert_int_equal(json_integer_value(json_object_get(a.json, "attempts")), 4);
    assert_int_equal(json_integer_value(json_object_get(a.json, "version")), 3);
    assert_int_equal(json_array_size(json_object_get(a.json, "history")), 1);
    assert_int_equal(json_array_size(json_object_get(a.json, "headers")), 1);
    json_decref(a.json);
    ev_free(ev);
}

// It is text in the store, and comes with the event from whoever sent it.
static void a_history_that_is_no_text_does_not_keep_a_letter_out(void **state) {
    struct world *w = *state;
    const struct str bad[] = {{"[\xff]", 3}, {"[\0]", 3}};
    for (size_t i = 0; i < array_len(bad); i++) {
        const struct ev_fields f = {.function = str_of(w->function), .payload = STR_LIT("p"), .history = bad[i]};
        struct ev *ev = ev_new(&f);
        put(w, ev, LETTER_DEAD, 0);
        ev_free(ev);
    }
    assert_int_equal(count_of(w, "dead"), array_len(bad));
}

static void an_unknown_letter_is_not_found(void **state) {
    struct world *w = *state;
    struct id id = id_new();
    struct answer a = {0};
    letters_show(w->letters, &id, on_json, &a);
    TURN_UNTIL(w->loop, a.done);
    assert_int_equal(a.code, ERR_NOT_FOUND);
}

static void binary_payloads_survive(void **state) {
    struct world *w = *state;
    struct ev *ev = event(w, "", 1);
    ev->f.payload = (struct str){"\0\xff\x80", 3};
    put(w, ev, LETTER_DUE, 1);
    struct answer a;
    assert_int_equal(claim_due(w, clock_unix_ms(), &a), 1);
    const struct ev_fields *f = &a.letters[0].ev->f;
    assert_true(str_eq(f->payload, ev->f.payload) && str_eq(f->ordering_key, ev->f.ordering_key));
    assert_true(id_eq(&f->id, &ev->f.id) && str_is(f->history, "[{\"attempt\":1}]"));
    free_claimed(&a);
    ev_free(ev);
}

static void pages_give_every_letter_once(void **state) {
    struct world *w = *state;
    for (int i = 0; i < 25; i++) {
        struct ev *ev = event(w, "x", 1);
        put(w, ev, LETTER_DEAD, 0);
        ev_free(ev);
    }
    struct letter_filter f = mine(w, "dead");
    char cursor[ID_TEXT_BYTES] = "";
    size_t seen = 0, pages = 0;
    do {
        f.after = str_of(cursor);
        json_t *page = list(w, &f);
        seen += json_array_size(json_object_get(page, "letters"));
        const char *next = json_string_value(json_object_get(page, "next"));
        snprintf(cursor, sizeof cursor, "%s", next ? next : "");
        json_decref(page);
    } while (cursor[0] && ++pages < 10);
    assert_int_equal(seen, 25);
    assert_int_equal(pages, 2);
}

static void a_due_letter_is_claimed_by_one_and_only_when_it_is_due(void **state) {
    struct world *w = *state;
    int64_t now = clock_unix_ms();
    struct ev *soon = event(w, "soon", 1), *later = event(w, "later", 1);
    put(w, soon, LETTER_DUE, now - 1);
    put(w, later, LETTER_DUE, now + 3600000);
    struct answer first, second;
    assert_int_equal(claim_due(w, now, &first), 1);
    assert_true(str_is(first.letters[0].ev->f.payload, "soon"));
    assert_int_equal(claim_due(w, now, &second), 0);
    struct answer after_lease;
    assert_int_equal(claim_due(w, now + 600000, &second), 0); // by one whose clock is ahead
    let_leases_run_out(w);                                     // its node died
    assert_int_equal(claim_due(w, now, &after_lease), 1);
    free_claimed(&first);
    free_claimed(&after_lease);
    ev_free(soon);
    ev_free(later);
}

static void a_delivered_letter_is_gone(void **state) {
    struct world *w = *state;
    struct ev *ev = event(w, "x", 1);
    put(w, ev, LETTER_DUE, 1);
    struct answer claim, a = {0};
    assert_int_equal(claim_due(w, clock_unix_ms(), &claim), 1);
    letters_delivered(w->letters, claim.letters, 1, on_done, &a);
    await(w, &a);
    assert_int_equal(count_of(w, "due"), 0);
    free_claimed(&claim);
    ev_free(ev);
}

// The event ran and failed again before the delivery of its last letter was marked: the new letter must stay.
static void a_letter_put_again_outlives_the_mark_of_the_old_claim(void **state) {
    struct world *w = *state;
    struct ev *ev = event(w, "x", 1);
    put(w, ev, LETTER_DUE, 1);
    struct answer claim, a = {0};
    assert_int_equal(claim_due(w, clock_unix_ms(), &claim), 1);
    ev->f.attempt = 2;
    put(w, ev, LETTER_DUE, 2);
    letters_delivered(w->letters, claim.letters, 1, on_done, &a);
    await(w, &a);
    assert_int_equal(count_of(w, "due"), 1);
    free_claimed(&claim);
    ev_free(ev);
}

static void an_unclaimed_letter_can_be_claimed_at_its_new_time(void **state) {
    struct world *w = *state;
    int64_t now = clock_unix_ms();
    struct ev *ev = event(w, "x", 1);
    put(w, ev, LETTER_DUE, 1);
    struct answer claim, a = {0}, again;
    assert_int_equal(claim_due(w, now, &claim), 1);
    letters_unclaim(w->letters, claim.letters, 1, now + 5000, on_done, &a);
    await(w, &a);
    assert_int_equal(claim_due(w, now, &again), 0);
    assert_int_equal(claim_due(w, now + 5000, &again), 1);
    free_claimed(&claim);
    free_claimed(&again);
    ev_free(ev);
}

static void claim_dead(struct world *w, struct answer *a) {
    struct letter_filter f = mine(w, "dead");
    *a = (struct answer){0};
    letters_claim_dead(w->letters, &f, 60000, on_claim, a);
    await(w, a);
}

static void a_dead_letter_is_replayed_by_one(void **state) {
    struct world *w = *state;
    struct ev *ev = event(w, "x", 4);
    put(w, ev, LETTER_DEAD, 0);
    struct answer first, second, a = {0};
    claim_dead(w, &first);
    claim_dead(w, &second);
    assert_int_equal(first.count, 1);
    assert_int_equal(second.count, 0);
    struct id replay_id = id_new();
    letters_replayed(w->letters, first.letters, &replay_id, 1, on_done, &a);
    await(w, &a);
    assert_int_equal(count_of(w, "replayed"), 1);
    free_claimed(&first);
    ev_free(ev);
}

static void a_replay_that_never_ended_is_dead_again(void **state) {
    struct world *w = *state;
    struct ev *ev = event(w, "x", 4);
    put(w, ev, LETTER_DEAD, 0);
    struct answer claim, a = {0};
    claim_dead(w, &claim);
    letters_recover(w->letters, on_count, &a);
    await(w, &a);
    assert_int_equal(count_of(w, "replaying"), 1); // the lease still runs
    a = (struct answer){0};
    let_leases_run_out(w);
    letters_recover(w->letters, on_count, &a);
    await(w, &a);
    assert_int_equal(count_of(w, "dead"), 1);
    free_claimed(&claim);
    ev_free(ev);
}

static void what_an_operator_gave_up_is_not_brought_back_by_a_late_failure(void **state) {
    struct world *w = *state;
    struct ev *ev = event(w, "x", 1);
    put(w, ev, LETTER_DUE, clock_unix_ms() + 3600000);
    struct letter_filter f = mine(w, "due");
    struct answer a = {0};
    letters_discard(w->letters, &f, on_count, &a);
    await(w, &a);
    assert_int_equal(a.count, 1);
    put(w, ev, LETTER_DEAD, 0);
    assert_int_equal(count_of(w, "discarded"), 1);
    assert_int_equal(count_of(w, "dead"), 0);
    ev_free(ev);
}

static void purge_takes_only_what_is_done_with(void **state) {
    struct world *w = *state;
    struct ev *dead = event(w, "x", 1), *gone = event(w, "y", 1);
    put(w, gone, LETTER_DEAD, 0);
    struct letter_filter f = mine(w, "dead");
    struct answer a = {0};
    letters_discard(w->letters, &f, on_count, &a);
    await(w, &a);
    put(w, dead, LETTER_DEAD, 0);
    a = (struct answer){0};
    letters_purge(w->letters, clock_unix_ms() + 1000, false, on_count, &a);
    await(w, &a);
    assert_int_equal(count_of(w, "discarded"), 0);
    assert_int_equal(count_of(w, "dead"), 1);
    ev_free(dead);
    ev_free(gone);
}

static void a_wrong_filter_is_refused_in_words(void **state) {
    struct world *w = *state;
    struct letter_filter f = mine(w, "undead");
    struct answer a = {0};
    letters_list(w->letters, &f, on_json, &a);
    TURN_UNTIL(w->loop, a.done);
    assert_int_equal(a.code, ERR_INVALID);
    assert_non_null(strstr(a.err.text, "undead"));
}

#define ALL(X)                                                                                                          \
    X(a_letter_shows_the_whole_event)                                                                                   \
    X(a_history_that_is_no_text_does_not_keep_a_letter_out)                                                             \
    X(an_unknown_letter_is_not_found)                                                                                   \
    X(binary_payloads_survive)                                                                                          \
    X(pages_give_every_letter_once)                                                                                     \
    X(a_due_letter_is_claimed_by_one_and_only_when_it_is_due)                                                           \
    X(a_delivered_letter_is_gone)                                                                                       \
    X(a_letter_put_again_outlives_the_mark_of_the_old_claim)                                                            \
    X(an_unclaimed_letter_can_be_claimed_at_its_new_time)                                                               \
    X(a_dead_letter_is_replayed_by_one)                                                                                 \
    X(a_replay_that_never_ended_is_dead_again)                                                                          \
    X(what_an_operator_gave_up_is_not_brought_back_by_a_late_failure)                                                   \
    X(purge_takes_only_what_is_done_with)                                                                               \
    X(a_wrong_filter_is_refused_in_words)

int main(void) {
    const struct CMUnitTest sqlite[] = {
#define X(test) {"sqlite: " #test, test, setup_sqlite, teardown, NULL},
        ALL(X)
#undef X
    };
    const struct CMUnitTest postgres[] = {
#define X(test) {"postgres: " #test, test, setup_postgres, teardown, NULL},
        ALL(X)
#undef X
    };
    int failed = cmocka_run_group_tests_name("letters on SQLite", sqlite, NULL, NULL);
    postgres_url = getenv("WEIR_TEST_POSTGRES_URL");
    if (postgres_url) failed += cmocka_run_group_tests_name("letters on PostgreSQL", postgres, NULL, NULL);
    return failed;
}
