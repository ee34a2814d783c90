// SPDX-License-Identifier: Apache-2.0
// Changes of letters by people, over both stores: each letter is changed or its refusal is told; edits keep what was there before.
#include <sched.h>
#include <stdatomic.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "dlq/edit.h"
#include "tests/support/letters_fixture.h"

#define CURSOR_BYTES 64

typedef void change_fn(struct letters *l, const struct letter_change *c, letters_json_fn *fn, void *arg);

static void purge(struct letters *l, const struct letter_change *c, letters_json_fn *fn, void *arg) {
    letters_purge(l, c, false, fn, arg);
}

static void purge_dead_too(struct letters *l, const struct letter_change *c, letters_json_fn *fn, void *arg) {
    letters_purge(l, c, true, fn, arg);
}

static json_t *change(struct letters_fixture *lf, change_fn *fn, struct selection *sel, size_t limit, const char *why) {
    struct answer a = {0};
    fn(lf->letters, &(struct letter_change){.sel = sel, .limit = limit, .why = str_of(why)}, answer_json, &a);
    await(lf, &a);
    return a.json;
}

static void expect_change(json_t *result, const char *verb, int64_t count, bool more, size_t refused) {
    assert_int_equal(number_in(result, verb), count);
    assert_int_equal(bool_in(result, "more"), more);
    array_in(result, "refused", refused);
    json_decref(result);
}

static void expect_refusal(const json_t *result, size_t at, const struct id *id, const char *state, const char *says) {
    const json_t *refused = json_array_get(json_object_get(result, "refused"), at);
    char text[ID_TEXT_BYTES];
    id_format(id, text);
    assert_string_equal(text_in(refused, "id"), text);
    assert_string_equal(text_in(refused, "state"), state);
    if (!strstr(text_in(refused, "why"), says)) fail_msg("'%s' does not say '%s'", text_in(refused, "why"), says);
}

// One letter of each state; the one that is replaying is so by replay 7, that which is being sent has a claim.
struct one_each {
    struct id dead, due, sending, replaying, replayed, discarded, missing;
};

static struct one_each put_one_each(struct letters_fixture *lf) {
    struct one_each e = {.missing = id_new()};
    e.sending = put_text(lf, "f", "{\"n\":1}", LETTER_DUE);
    struct answer a = {0};
    letters_claim_due(lf->letters, clock_unix_ms(), 60000, 10, answer_claim, &a);
    await(lf, &a);
    assert_int_equal(a.count, 1);
    answer_free(&a);
    struct id *const dead[] = {&e.dead, &e.replaying, &e.replayed, &e.discarded};
    for (size_t i = 0; i < array_len(dead); i++) *dead[i] = put_text(lf, "f", "{\"n\":1}", LETTER_DEAD);
    e.due = put_text(lf, "f", "{\"n\":1}", LETTER_DUE);
    sql_of(lf, "UPDATE letters SET due_ms = 4102444800000 WHERE id = $1", &e.due);
    sql_of(lf, "UPDATE letters SET state = 'replaying', replay = 7, lease_ms = 4102444800000 WHERE id = $1", &e.replaying);
    sql_of(lf, "UPDATE letters SET state = 'replayed', replay = 7, replay_id = id WHERE id = $1", &e.replayed);
    sql_of(lf, "UPDATE letters SET state = 'discarded' WHERE id = $1", &e.discarded);
    return e;
}

#define ALL_OF(e) (const struct id[]){(e).dead, (e).due, (e).replaying, (e).replayed, (e).discarded, (e).missing}

// --- discard, restore, retry, purge -----------------------------------------------------------------------------------------

static void of_given_letters_each_is_discarded_or_its_refusal_is_told(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct one_each e = put_one_each(&lf);
    json_t *result = change(&lf, letters_discard, these(ALL_OF(e), 6), 100, "a test; DROP TABLE letters");
    expect_refusal(result, 0, &e.replaying, "replaying", "replay 7");
    expect_refusal(result, 1, &e.replayed, "replayed", "");
    expect_refusal(result, 2, &e.discarded, "discarded", "");
    expect_refusal(result, 3, &e.missing, "missing", "no such letter");
    expect_change(result, "discarded", 2, false, 4);
    assert_true(letter_is(&lf, &e.dead, "discarded"));
    assert_true(letter_is(&lf, &e.due, "discarded"));
    assert_true(letter_is(&lf, &e.replaying, "replaying"));
    assert_true(letter_is(&lf, &e.replayed, "replayed"));
    json_t *o = show_letter(&lf, &e.dead);
    assert_string_equal(text_in(o, "why"), "a test; DROP TABLE letters");
    assert_true(number_in(o, "changedMs") >= number_in(o, "diedMs"));
    json_decref(o);
    letters_close(&lf);
}

static void a_selection_is_changed_in_steps_and_nothing_else_is(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    for (int i = 0; i < 25; i++) put_text(&lf, i < 5 ? "g" : "f", "{\"n\":1}", LETTER_DEAD);
    const char *mine = "function = 'f' and payload.n = 1";
    expect_change(change(&lf, letters_discard, where(mine), 8, ""), "discarded", 8, true, 0);
    expect_change(change(&lf, letters_discard, where(mine), 8, ""), "discarded", 8, true, 0);
    expect_change(change(&lf, letters_discard, where(mine), 8, ""), "discarded", 4, false, 0);
    expect_change(change(&lf, letters_discard, where(mine), 8, ""), "discarded", 0, false, 0);
    assert_int_equal(count_letters(&lf, "dead"), 5);
    expect_change(change(&lf, letters_discard, where("function = 'nobody'"), 8, ""), "discarded", 0, false, 0);
    letters_close(&lf);
}

static json_t *change_on(struct letters_fixture *lf, change_fn *fn, struct selection *sel, size_t limit, char cursor[CURSOR_BYTES]) {
    struct answer a = {0};
    fn(lf->letters, &(struct letter_change){.sel = sel, .limit = limit, .after = str_of(cursor)}, answer_json, &a);
    await(lf, &a);
    const char *next = json_string_value(json_object_get(a.json, "next"));
    assert_int_equal(next != NULL, bool_in(a.json, "more"));
    snprintf(cursor, CURSOR_BYTES, "%s", next ? next : "");
    return a.json;
}

// Who says yes to the letters that there are does not mean those that come while they are changed.
static void a_call_goes_on_where_the_last_one_ended_and_leaves_out_what_died_since(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    char cursor[CURSOR_BYTES] = "", edits[CURSOR_BYTES] = "";
    struct id first = {0}, last = {0};
    for (int i = 0; i < 10; i++) {
        last = put_text(&lf, "f", "{\"n\":1}", LETTER_DEAD);
        if (i == 0) first = last;
    }
    struct letter_change anna = {.sel = where("function = 'f'"), .limit = 4, .who = STR_LIT("anna")};
    struct edit *e = NULL;
    struct answer edited = {0};
    struct err err;
    assert_int_equal(edit_parse(STR_LIT("{\"set\":{\"payload.n\":2}}"), &e, &err), 0);
    letters_edit(lf.letters, &anna, e, false, answer_json, &edited);
    await(&lf, &edited);
    snprintf(edits, sizeof edits, "%s", text_in(edited.json, "next"));
    answer_free(&edited);
    expect_change(change_on(&lf, letters_discard, where("function = 'f'"), 4, cursor), "discarded", 4, true, 0);
    int64_t now_ms = clock_unix_ms();
    TURN_UNTIL(lf.fx->loop, clock_unix_ms() > now_ms + 1);
    for (int i = 0; i < 10; i++) put_text(&lf, "f", "{\"n\":1}", LETTER_DEAD);
    sql_of(&lf, "UPDATE letters SET state = 'dead' WHERE id = $1", &first); // it was gone through already
    anna = (struct letter_change){.sel = where("function = 'f'"), .limit = 100, .who = STR_LIT("anna"), .after = str_of(edits)};
    assert_int_equal(edit_parse(STR_LIT("{\"set\":{\"payload.n\":2}}"), &e, &err), 0);
    letters_edit(lf.letters, &anna, e, false, answer_json, &edited);
    await(&lf, &edited);
    assert_int_equal(number_in(edited.json, "edited"), 6);
    answer_free(&edited);
    expect_change(change_on(&lf, letters_discard, where("function = 'f'"), 4, cursor), "discarded", 4, true, 0);
    expect_change(change_on(&lf, letters_discard, where("function = 'f'"), 4, cursor), "discarded", 2, false, 0);
    assert_true(letter_is(&lf, &first, "dead"));
    assert_true(letter_is(&lf, &last, "discarded"));
    assert_int_equal(count_letters(&lf, "dead"), 11);
    letters_close(&lf);
}

static void a_cursor_of_something_else_is_refused(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    static const char *const wrong[] = {"x", "01a1ff26-6856-7029-8000-021775727e21", "01a1ff26-6856-7029-8000-021775727e21.",
                                        "01a1ff26-6856-7029-8000-021775727e21.0", "01a1ff26-6856-7029-8000-021775727e21.1x",
                                        "01a1ff26-6856-7029-8000-021775727e21.99999999999999999999", "01a1ff26_6856-7029-8000-021775727e21.12"};
    for (size_t i = 0; i < array_len(wrong); i++) {
        struct answer a = {0};
        letters_discard(lf.letters, &(struct letter_change){.sel = where(""), .limit = 1, .after = str_of(wrong[i])}, answer_json, &a);
        await_refusal(&lf, &a, ERR_INVALID, "the cursor is not one");
    }
    letters_close(&lf);
}

static void put_many(struct letters_fixture *lf, size_t count) {
    struct answer *answers = mem_zalloc(count * sizeof *answers);
    struct ev **evs = mem_array(count, sizeof *evs);
    for (size_t i = 0; i < count; i++) {
        evs[i] = ev_new(&(struct ev_fields){.function = STR_LIT("f"), .payload = STR_LIT("x")});
        letters_put(lf->letters, &(struct letter_draft){.ev = evs[i], .state = LETTER_DEAD, .kind = LETTER_FUNCTION}, answer_done, &answers[i]);
    }
    for (size_t i = 0; i < count; i++) {
        await(lf, &answers[i]);
        ev_free(evs[i]);
    }
    free(answers);
    free(evs);
}

static void more_letters_than_go_at_once_are_all_changed(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    enum { COUNT = 2 * SELECT_IDS_MAX + 1 };
    put_many(&lf, COUNT);
    expect_change(change(&lf, letters_discard, where(""), LETTERS_CHANGE_MAX, ""), "discarded", COUNT, false, 0);
    expect_change(change(&lf, purge, where(""), LETTERS_CHANGE_MAX, ""), "purged", COUNT, false, 0);
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letter_bodies"), 0);
    letters_close(&lf);
}

struct meanwhile {
    struct id id;
    atomic_bool found;
};

static int take_letter(void *arg, struct sql *sql, struct err *err) {
    struct meanwhile *m = arg;
    const struct sql_value id = SQL_B(((struct str){(const char *)m->id.bytes, sizeof m->id.bytes}));
    while (!m->found) sched_yield();
    return sql_exec(sql, "UPDATE letters SET state = 'replaying', replay = 7 WHERE id = $1", &id, 1, NULL, NULL, NULL, err);
}

static int say_found(void *arg, struct sql *sql, struct err *err) {
    (void)sql, (void)err;
    ((struct meanwhile *)arg)->found = true;
    return 0;
}

// Between the look for them and their change.
static void a_letter_that_something_else_takes_meanwhile_counts_less(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct meanwhile m = {.id = put_text(&lf, "f", "{\"n\":1}", LETTER_DEAD)};
    put_text(&lf, "f", "{\"n\":1}", LETTER_DEAD);
    struct call taking, saying;
    struct answer a = {0};
    submit(lf.fx->store, &taking, take_letter, &m);
    letters_discard(lf.letters, &(struct letter_change){.sel = where("function = 'f'"), .limit = 10}, answer_json, &a);
    submit(lf.reader, &saying, say_found, &m);
    TURN_UNTIL(lf.fx->loop, taking.done && saying.done);
    await(&lf, &a);
    expect_change(a.json, "discarded", 1, false, 0);
    assert_true(letter_is(&lf, &m.id, "replaying"));
    letters_close(&lf);
}

static void letters_that_are_not_found_in_time_are_not_changed_and_it_is_told(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    put_many(&lf, 10000);
    struct store *hasty;
    struct err err;
    struct answer a = {0};
    assert_int_equal(store_open_reader(lf.fx->loop, lf.fx->url, 1, &hasty, &err), 0);
    struct letters *letters = letters_new(lf.fx->loop, lf.fx->store, hasty, NULL);
    struct selection *sel = selected(&(struct select_spec){.search = STR_LIT("nothing like that"), .now_ms = clock_unix_ms()});
    letters_discard(letters, &(struct letter_change){.sel = sel, .limit = 10}, answer_json, &a);
    await_refusal(&lf, &a, ERR_TIMEOUT, "narrow the selection");
    letters_free(letters);
    store_close(hasty);
    letters_close(&lf);
}

static void a_restored_letter_is_dead_again_and_not_replayed_by_anything(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct one_each e = put_one_each(&lf);
    json_t *result = change(&lf, letters_restore, these(ALL_OF(e), 6), 100, "again");
    expect_refusal(result, 0, &e.dead, "dead", "");
    expect_refusal(result, 1, &e.due, "due", "");
    expect_refusal(result, 2, &e.replaying, "replaying", "replay 7");
    expect_refusal(result, 3, &e.missing, "missing", "");
    expect_change(result, "restored", 2, false, 4);
    assert_true(letter_is(&lf, &e.replayed, "dead"));
    assert_true(letter_is(&lf, &e.discarded, "dead"));
    json_t *o = show_letter(&lf, &e.replayed);
    assert_true(json_is_null(json_object_get(o, "replayId")) && json_is_null(json_object_get(o, "dueMs")));
    assert_string_equal(text_in(o, "why"), "again");
    json_decref(o);
    letters_close(&lf);
}

static void a_due_letter_that_was_discarded_comes_back_dead_and_is_not_sent_by_itself(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct id id = put_text(&lf, "f", "x", LETTER_DUE);
    expect_change(change(&lf, letters_discard, these(&id, 1), 1, ""), "discarded", 1, true, 0);
    expect_change(change(&lf, letters_restore, these(&id, 1), 1, ""), "restored", 1, true, 0);
    struct answer a = {0};
    letters_claim_due(lf.letters, clock_unix_ms(), 60000, 10, answer_claim, &a);
    await(&lf, &a);
    assert_int_equal(a.count, 0);
    answer_free(&a);
    letters_close(&lf);
}

static void a_retried_letter_is_due_now(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct one_each e = put_one_each(&lf);
    struct id waits = put_text(&lf, "f", "x", LETTER_DUE), overdue = put_text(&lf, "f", "x", LETTER_DUE);
    sql_of(&lf, "UPDATE letters SET due_ms = 253402300799000 WHERE id = $1", &waits); // for another fire of its timer
    const struct id ids[] = {e.due, e.dead, e.sending, waits, overdue};
    json_t *result = change(&lf, letters_retry, these(ids, 5), 100, "");
    expect_refusal(result, 0, &e.dead, "dead", "");
    expect_refusal(result, 1, &e.sending, "due", "on its way");
    expect_refusal(result, 2, &waits, "due", "waits for");
    expect_refusal(result, 3, &overdue, "due", "due already");
    expect_change(result, "retried", 1, false, 4);
    struct answer a = {0};
    letters_claim_due(lf.letters, clock_unix_ms(), 60000, 10, answer_claim, &a);
    await(&lf, &a);
    assert_int_equal(a.count, 2);
    answer_free(&a);
    letters_close(&lf);
}

// Nobody means a job of next December with "retry all".
static void what_was_put_off_on_purpose_is_retried_only_when_it_is_named(void **state) {
    static const char *const not_named[] = {"function = 'f'", "not (kind = 'delayed')", "kind != 'delayed'", "kind = 'function'"};
    static const char *const named[] = {"kind = 'delayed'", "kind in ('function', 'delayed') and function = 'f'", ""};
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct id delayed = put_text(&lf, "f", "x", LETTER_DUE), retry = put_text(&lf, "f", "x", LETTER_DUE);
    sql_of(&lf, "UPDATE letters SET due_ms = 4102444800000 WHERE id = $1", &retry);
    sql_of(&lf, "UPDATE letters SET due_ms = 4102444800000, kind = 'delayed' WHERE id = $1", &delayed);
    expect_change(change(&lf, letters_retry, where(""), 100, ""), "retried", 1, false, 0);
    for (size_t i = 0; i < array_len(not_named); i++)
        expect_change(change(&lf, letters_retry, where(not_named[i]), 100, ""), "retried", 0, false, 0);
    for (size_t i = 0; i < array_len(named); i++) {
        struct selection *sel = *named[i] ? where(named[i]) : these(&delayed, 1);
        expect_change(change(&lf, letters_retry, sel, 100, ""), "retried", 1, false, 0);
        sql_of(&lf, "UPDATE letters SET due_ms = 4102444800000 WHERE id = $1", &delayed);
    }
    letters_close(&lf);
}

static void edit_in_place(struct letters_fixture *lf, const struct id *id);

static void purge_takes_what_is_done_with_and_all_of_it(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct one_each e = put_one_each(&lf);
    edit_in_place(&lf, &e.dead);
    expect_change(change(&lf, purge, these(ALL_OF(e), 6), 100, ""), "purged", 2, false, 4);
    assert_true(letter_is(&lf, &e.replayed, ""));
    assert_true(letter_is(&lf, &e.discarded, ""));
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letter_bodies"), 4);
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letter_originals"), 1);
    expect_change(change(&lf, purge, where(""), 100, ""), "purged", 0, false, 0);
    expect_change(change(&lf, purge_dead_too, where(""), 100, ""), "purged", 1, false, 0);
    assert_true(letter_is(&lf, &e.due, "due"));
    assert_true(letter_is(&lf, &e.replaying, "replaying"));
    assert_true(letter_is(&lf, &e.sending, "due"));
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letter_bodies"), 3);
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letter_originals"), 0);
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letter_edits"), 0);
    letters_close(&lf);
}

static void a_limit_is_from_1_to_its_most(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    change_fn *const all[] = {letters_discard, letters_restore, letters_retry, purge};
    const size_t limits[] = {0, LETTERS_CHANGE_MAX + 1};
    for (size_t i = 0; i < array_len(all); i++)
        for (size_t k = 0; k < array_len(limits); k++) {
            struct answer a = {0};
            all[i](lf.letters, &(struct letter_change){.sel = where(""), .limit = limits[k]}, answer_json, &a);
            await_refusal(&lf, &a, ERR_INVALID, "1 to 10000");
        }
    letters_close(&lf);
}

// --- edits ------------------------------------------------------------------------------------------------------------------

static void begin_edit(struct letters_fixture *lf, const struct letter_change *c, const char *edit, bool dry_run, struct answer *a) {
    struct edit *e = NULL;
    struct err err = {0};
    if (edit_parse(str_of(edit), &e, &err)) fail_msg("%s", err.text);
    letters_edit(lf->letters, c, e, dry_run, answer_json, a);
}

static json_t *edit(struct letters_fixture *lf, const struct letter_change *c, const char *text, bool dry_run) {
    struct answer a = {0};
    begin_edit(lf, c, text, dry_run, &a);
    await(lf, &a);
    return a.json;
}

static struct letter_change by_anna(struct selection *sel, const char *why) {
    return (struct letter_change){.sel = sel, .limit = LETTERS_EDIT_MAX, .who = STR_LIT("anna"), .why = str_of(why)};
}

static void edit_in_place(struct letters_fixture *lf, const struct id *id) {
    const struct letter_change c = by_anna(these(id, 1), "");
    json_t *result = edit(lf, &c, "{\"set\":{\"payload.n\":2}}", false);
    assert_int_equal(number_in(result, "edited"), 1);
    json_decref(result);
}

static void assert_payload(struct letters_fixture *lf, const struct id *id, const char *payload) {
    json_t *o = show_letter(lf, id);
    assert_string_equal(text_in(o, "payload"), payload);
    json_decref(o);
}

static void every_edit_is_a_revision_and_the_original_stays(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    const struct ev_header header = {STR_LIT("x-tenant"), STR_LIT("acme")};
    struct id id = put_letter(&lf, &(struct ev_fields){.function = STR_LIT("f"), .payload = STR_LIT("{\"a\": 1.0,\"b\":12345678901234567890123}"),
                                                       .headers = &header, .header_count = 1}, LETTER_DEAD);
    struct letter_change c = by_anna(these(&id, 1), "the customer said so");
    json_t *result = edit(&lf, &c, "{\"set\":{\"payload.a\":\"EUR\"}}", false);
    const json_t *shown = json_array_get(array_in(result, "letters", 1), 0);
    assert_int_equal(number_in(shown, "revision"), 1);
    assert_non_null(strstr(text_in(shown, "before"), "1.0"));
    assert_non_null(strstr(text_in(shown, "after"), "\"EUR\""));
    json_decref(result);
    c = by_anna(these(&id, 1), "");
    c.who = STR_LIT("bert");
    json_decref(edit(&lf, &c, "{\"set\":{\"headers.x-tenant\":\"globex\",\"orderingKey\":\"k2\",\"contentType\":\"text/x\"},\"unset\":[\"payload.a\"]}", false));
    json_t *o = show_letter(&lf, &id);
    assert_string_equal(text_in(o, "payload"), "{\"b\":12345678901234567890123}");
    assert_string_equal(text_in(o, "orderingKey"), "k2");
    assert_string_equal(text_in(o, "contentType"), "text/x");
    assert_true(bool_in(o, "edited"));
    const json_t *first = json_array_get(array_in(o, "edits", 2), 0), *second = json_array_get(json_object_get(o, "edits"), 1);
    assert_int_equal(number_in(first, "revision"), 1);
    assert_int_equal(number_in(second, "revision"), 2);
    assert_string_equal(text_in(first, "who"), "anna");
    assert_string_equal(text_in(first, "why"), "the customer said so");
    assert_string_equal(text_in(second, "who"), "bert");
    assert_true(number_in(second, "atMs") >= number_in(first, "atMs"));
    const json_t *operation = json_array_get(array_in(first, "patch", 1), 0);
    assert_string_equal(text_in(operation, "op"), "replace");
    assert_string_equal(text_in(operation, "path"), "/payload/a");
    assert_string_equal(text_in(operation, "value"), "EUR");
    const json_t *original = json_object_get(o, "original");
    assert_string_equal(text_in(original, "payload"), "{\"a\": 1.0,\"b\":12345678901234567890123}");
    assert_string_equal(json_string_value(json_array_get(json_array_get(array_in(original, "headers", 1), 0), 1)), "acme");
    json_decref(o);
    letters_close(&lf);
}

static void an_edited_letter_is_found_and_run_as_it_is_now(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct id id = put_text(&lf, "f", "not JSON", LETTER_DEAD);
    struct letter_change c = by_anna(these(&id, 1), "");
    json_decref(edit(&lf, &c, "{\"set\":{\"payload\":{\"n\":[1,2]},\"headers.h\":\"v\",\"orderingKey\":\"k\"}}", false));
    struct answer a = {0};
    letters_sample(lf.letters, where("payload.n[1] = 2 and headers.h = 'v' and key = 'k'"), 10, answer_claim, &a);
    await(&lf, &a);
    assert_int_equal(a.count, 1);
    const struct ev_fields *f = &a.letters[0].ev->f;
    assert_true(str_is(f->payload, "{\"n\":[1,2]}") && str_is(f->ordering_key, "k"));
    assert_int_equal(f->header_count, 1);
    answer_free(&a);
    c = by_anna(these(&id, 1), "");
    json_decref(edit(&lf, &c, "{\"set\":{\"payloadText\":\"no JSON again\"}}", false));
    letters_sample(lf.letters, where("payload.n[1] = 2"), 10, answer_claim, &a);
    await(&lf, &a);
    assert_int_equal(a.count, 0);
    answer_free(&a);
    letters_close(&lf);
}

static void a_dry_run_shows_and_changes_nothing(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct id id = put_text(&lf, "f", "{\"n\":1}", LETTER_DEAD);
    json_t *before = show_letter(&lf, &id);
    struct letter_change c = by_anna(these(&id, 1), "");
    json_t *result = edit(&lf, &c, "{\"set\":{\"payload.n\":2}}", true);
    assert_int_equal(number_in(result, "edited"), 1);
    assert_non_null(strstr(text_in(json_array_get(array_in(result, "letters", 1), 0), "after"), "\"n\":2"));
    json_decref(result);
    json_t *after = show_letter(&lf, &id);
    assert_true(json_equal(before, after));
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letter_originals"), 0);
    json_decref(before);
    json_decref(after);
    letters_close(&lf);
}

static void what_an_edit_does_not_change_is_told_and_has_no_revision(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    put_text(&lf, "f", "{\"n\":2}", LETTER_DEAD);
    put_text(&lf, "f", "{\"n\":1}", LETTER_DEAD);
    struct letter_change c = by_anna(where("state = 'dead'"), "");
    json_t *result = edit(&lf, &c, "{\"set\":{\"payload.n\":2}}", false);
    assert_int_equal(number_in(result, "edited"), 1);
    assert_int_equal(number_in(result, "unchanged"), 1);
    json_decref(result);
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letter_edits"), 1);
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letter_originals"), 1);
    letters_close(&lf);
}

static void a_letter_that_the_edit_does_not_fit_is_refused_and_stays(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct id bad = put_text(&lf, "f", "no JSON", LETTER_DEAD), good = put_text(&lf, "f", "{\"n\":1}", LETTER_DEAD);
    struct letter_change c = by_anna(where("state = 'dead'"), "");
    json_t *result = edit(&lf, &c, "{\"patch\":[{\"op\":\"test\",\"path\":\"/payload/n\",\"value\":1},{\"op\":\"replace\",\"path\":\"/payload/n\",\"value\":2}]}", false);
    expect_refusal(result, 0, &bad, "dead", "");
    array_in(result, "refused", 1);
    assert_int_equal(number_in(result, "edited"), 1);
    json_decref(result);
    assert_payload(&lf, &bad, "no JSON");
    assert_payload(&lf, &good, "{\"n\":2}");
    letters_close(&lf);
}

static void only_a_letter_that_waits_is_edited(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct one_each e = put_one_each(&lf);
    const struct id ids[] = {e.dead, e.due, e.replaying, e.replayed, e.discarded, e.missing, e.sending};
    struct letter_change c = by_anna(these(ids, array_len(ids)), "");
    json_t *result = edit(&lf, &c, "{\"set\":{\"payload.n\":2}}", false);
    expect_refusal(result, 0, &e.replaying, "replaying", "replay 7");
    expect_refusal(result, 1, &e.replayed, "replayed", "");
    expect_refusal(result, 2, &e.discarded, "discarded", "");
    expect_refusal(result, 3, &e.missing, "missing", "");
    expect_refusal(result, 4, &e.sending, "due", "on its way");
    assert_int_equal(number_in(result, "edited"), 2);
    json_decref(result);
    assert_payload(&lf, &e.replaying, "{\"n\":1}");
    assert_payload(&lf, &e.sending, "{\"n\":1}");
    assert_int_equal(sql_number(&lf, "SELECT lease_ms FROM letters WHERE state = 'replaying'"), 4102444800000);
    letters_close(&lf);
}

static void a_due_letter_goes_back_as_it_was_edited(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct id id = put_text(&lf, "f", "{\"n\":1}", LETTER_DUE);
    edit_in_place(&lf, &id);
    struct answer a = {0};
    letters_claim_due(lf.letters, clock_unix_ms(), 60000, 10, answer_claim, &a);
    await(&lf, &a);
    assert_int_equal(a.count, 1);
    assert_true(str_is(a.letters[0].ev->f.payload, "{\"n\":2}"));
    answer_free(&a);
    letters_close(&lf);
}

// Calls of at most 100 each, as the server makes them; what becomes of each letter is told once.
static void many_are_edited_in_steps_and_each_refusal_is_told_once(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    enum { COUNT = 230, REFUSED = 6 };
    struct id ids[COUNT];
    const size_t refused_at[REFUSED] = {0, 1, 50, 105, 200, COUNT - 1};
    for (size_t i = 0; i < COUNT; i++) ids[i] = put_text(&lf, "f", "{\"n\":1}", LETTER_DEAD);
    for (size_t i = 0; i < REFUSED; i++) sql_of(&lf, "UPDATE letters SET state = 'replaying', replay = 7 WHERE id = $1", &ids[refused_at[i]]);
    char cursor[CURSOR_BYTES] = "";
    int64_t edited = 0;
    size_t refused = 0, calls = 0;
    bool more = true;
    while (more && calls++ < 10) {
        struct letter_change c = by_anna(these(ids, COUNT), "");
        c.after = str_of(cursor);
        c.limit = LETTERS_CHANGE_MAX;
        json_t *result = edit(&lf, &c, "{\"set\":{\"payload.n\":2}}", false);
        edited += number_in(result, "edited");
        assert_true(number_in(result, "edited") <= LETTERS_EDIT_MAX);
        assert_int_equal(number_in(result, "unchanged"), 0);
        for (size_t n = json_array_size(json_object_get(result, "refused")), i = 0; i < n; i++)
            expect_refusal(result, i, &ids[refused_at[refused++]], "replaying", "replay 7");
        more = bool_in(result, "more");
        if (more) snprintf(cursor, sizeof cursor, "%s", text_in(result, "next"));
        json_decref(result);
    }
    assert_int_equal(edited, COUNT - REFUSED);
    assert_int_equal(refused, REFUSED);
    assert_int_equal(calls, 3);
    letters_close(&lf);
}

static void a_call_edits_a_bounded_number_of_bytes(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    enum { BYTES = 6000000, COUNT = 13 };
    char *big = mem_alloc(BYTES);
    memset(big, 'x', BYTES);
    for (int i = 0; i < COUNT; i++) put_letter(&lf, &(struct ev_fields){.function = STR_LIT("f"), .payload = {big, BYTES}}, LETTER_DEAD);
    free(big);
    char cursor[CURSOR_BYTES] = "";
    int64_t edited = 0;
    for (int i = 0; i < 2; i++) {
        struct letter_change c = by_anna(where("state = 'dead'"), "");
        c.after = str_of(cursor);
        json_t *result = edit(&lf, &c, "{\"set\":{\"headers.h\":\"v\"}}", false);
        const json_t *shown = json_array_get(json_object_get(result, "letters"), 0);
        assert_null(json_object_get(shown, "before")); // too large to be shown
        edited += number_in(result, "edited");
        assert_int_equal(bool_in(result, "more"), i == 0);
        if (i == 0) snprintf(cursor, sizeof cursor, "%s", text_in(result, "next"));
        json_decref(result);
    }
    assert_int_equal(edited, COUNT);
    letters_close(&lf);
}

static void a_wrong_call_of_edit_is_refused_in_words(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct answer a = {0};
    begin_edit(&lf, &(struct letter_change){.sel = where("")}, "{\"unset\":[\"payload\"]}", false, &a);
    await_refusal(&lf, &a, ERR_INVALID, "at least 1");
    begin_edit(&lf, &(struct letter_change){.sel = where(""), .limit = 1, .after = STR_LIT("x")}, "{\"unset\":[\"payload\"]}", false, &a);
    await_refusal(&lf, &a, ERR_INVALID, "cursor");
    letters_close(&lf);
}

static void secrets_of_an_edit_are_masked_in_what_is_shown(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, "password");
    struct id id = put_text(&lf, "f", "{\"password\":\"sesame\"}", LETTER_DEAD);
    struct letter_change c = by_anna(these(&id, 1), "");
    json_t *result = edit(&lf, &c, "{\"set\":{\"payload.password\":\"abracadabra\"}}", false);
    json_t *shown = show_letter(&lf, &id);
    char *texts[] = {json_dumps(result, 0), json_dumps(shown, 0)};
    for (size_t i = 0; i < array_len(texts); i++) {
        assert_null(strstr(texts[i], "sesame"));
        assert_null(strstr(texts[i], "abracadabra"));
        free(texts[i]);
    }
    json_decref(result);
    json_decref(shown);
    struct answer a = {0};
    letters_sample(lf.letters, these(&id, 1), 1, answer_claim, &a);
    await(&lf, &a);
    assert_true(str_is(a.letters[0].ev->f.payload, "{\"password\":\"abracadabra\"}"));
    answer_free(&a);
    letters_close(&lf);
}

// --- two at a time ------------------------------------------------------------------------------------------------------------

// Through stores of their own, as two nodes have them; a file has one.
static void of_two_changes_of_one_letter_one_wins_and_the_other_is_told(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct store *other_store;
    struct err err = {0};
    if (store_open(lf.fx->loop, lf.fx->url, &other_store, &err)) fail_msg("%s", err.text);
    struct letters *other = letters_new(lf.fx->loop, other_store, lf.reader, NULL);
    int edits = 0;
    for (int round = 0; round < 20; round++) {
        struct id id = put_text(&lf, "f", "{\"n\":1}", LETTER_DEAD);
        struct answer discarded = {0}, edited = {0};
        struct edit *e = NULL;
        if (edit_parse(STR_LIT("{\"set\":{\"payload.n\":2}}"), &e, &err)) fail_msg("%s", err.text);
        if (round % 2) letters_discard(lf.letters, &(struct letter_change){.sel = these(&id, 1), .limit = 2}, answer_json, &discarded);
        letters_edit(other, &(struct letter_change){.sel = these(&id, 1), .limit = 2}, e, false, answer_json, &edited);
        if (!(round % 2)) letters_discard(lf.letters, &(struct letter_change){.sel = these(&id, 1), .limit = 2}, answer_json, &discarded);
        await(&lf, &discarded);
        await(&lf, &edited);
        assert_int_equal(number_in(discarded.json, "discarded"), 1);
        bool was_first = number_in(edited.json, "edited") == 1;
        if (!was_first) expect_refusal(edited.json, 0, &id, "discarded", "it is discarded");
        assert_payload(&lf, &id, was_first ? "{\"n\":2}" : "{\"n\":1}");
        edits += was_first;
        answer_free(&discarded);
        answer_free(&edited);
    }
    print_message("# the edit was first %d times of 20\n", edits);
    store_close(other_store);
    letters_free(other);
    letters_close(&lf);
}

// A claim that is not committed yet: who wants the letter waits for it, and finds it claimed.
struct slow_claim {
    struct id id;
    atomic_bool claimed;
    sem_t may_commit;
};

static int claim_slowly(void *arg, struct sql *s, struct err *err) {
    struct slow_claim *c = arg;
    const struct sql_value id = SQL_B(((struct str){(const char *)c->id.bytes, sizeof c->id.bytes}));
    int rc = sql_exec(s, "UPDATE letters SET state = 'replaying', replay = 7 WHERE id = $1", &id, 1, NULL, NULL, NULL, err);
    atomic_store(&c->claimed, true);
    while (sem_wait(&c->may_commit)) continue;
    return rc;
}

static int count_waiting(void *arg, struct sql *s, struct err *err) {
    return sql_exec(s, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'", NULL, 0, read_int, arg, NULL, err);
}

static bool somebody_waits_for_a_lock(struct letters_fixture *lf) {
    struct call look;
    int64_t n = 0;
    submit(lf->reader, &look, count_waiting, &n);
    TURN_UNTIL(lf->fx->loop, look.done);
    assert_int_equal(look.code, 0);
    return n > 0;
}

static void an_edit_waits_for_a_claim_that_was_first_and_is_refused(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct store *other_store;
    struct err err = {0};
    if (store_open(lf.fx->loop, lf.fx->url, &other_store, &err)) fail_msg("%s", err.text);
    struct letters *other = letters_new(lf.fx->loop, other_store, lf.reader, NULL);
    struct slow_claim claim = {.id = put_text(&lf, "f", "{\"n\":1}", LETTER_DEAD)};
    sem_init(&claim.may_commit, 0, 0);
    struct call held;
    submit(lf.fx->store, &held, claim_slowly, &claim);
    TURN_UNTIL(lf.fx->loop, atomic_load(&claim.claimed));
    struct answer edited = {0};
    struct edit *e = NULL;
    if (edit_parse(STR_LIT("{\"set\":{\"payload.n\":2}}"), &e, &err)) fail_msg("%s", err.text);
    letters_edit(other, &(struct letter_change){.sel = these(&claim.id, 1), .limit = 1}, e, false, answer_json, &edited);
    TURN_UNTIL(lf.fx->loop, somebody_waits_for_a_lock(&lf));
    sem_post(&claim.may_commit);
    await(&lf, &edited);
    TURN_UNTIL(lf.fx->loop, held.done);
    assert_int_equal(number_in(edited.json, "edited"), 0);
    expect_refusal(edited.json, 0, &claim.id, "replaying", "replay 7");
    assert_payload(&lf, &claim.id, "{\"n\":1}");
    answer_free(&edited);
    sem_destroy(&claim.may_commit);
    store_close(other_store);
    letters_free(other);
    letters_close(&lf);
}

#define CASE(fn) {#fn, fn, STORE_BOTH}

int main(void) {
    const struct store_case cases[] = {
        CASE(of_given_letters_each_is_discarded_or_its_refusal_is_told),
        CASE(a_selection_is_changed_in_steps_and_nothing_else_is),
        CASE(a_call_goes_on_where_the_last_one_ended_and_leaves_out_what_died_since),
        CASE(a_cursor_of_something_else_is_refused),
        CASE(more_letters_than_go_at_once_are_all_changed),
        CASE(a_letter_that_something_else_takes_meanwhile_counts_less),
        CASE(letters_that_are_not_found_in_time_are_not_changed_and_it_is_told),
        CASE(a_restored_letter_is_dead_again_and_not_replayed_by_anything),
        CASE(a_due_letter_that_was_discarded_comes_back_dead_and_is_not_sent_by_itself),
        CASE(a_retried_letter_is_due_now),
        CASE(what_was_put_off_on_purpose_is_retried_only_when_it_is_named),
        CASE(purge_takes_what_is_done_with_and_all_of_it),
        CASE(a_limit_is_from_1_to_its_most),
        CASE(every_edit_is_a_revision_and_the_original_stays),
        CASE(an_edited_letter_is_found_and_run_as_it_is_now),
        CASE(a_dry_run_shows_and_changes_nothing),
        CASE(what_an_edit_does_not_change_is_told_and_has_no_revision),
        CASE(a_letter_that_the_edit_does_not_fit_is_refused_and_stays),
        CASE(only_a_letter_that_waits_is_edited),
        CASE(a_due_letter_goes_back_as_it_was_edited),
        CASE(many_are_edited_in_steps_and_each_refusal_is_told_once),
        CASE(a_call_edits_a_bounded_number_of_bytes),
        CASE(a_wrong_call_of_edit_is_refused_in_words),
        CASE(secrets_of_an_edit_are_masked_in_what_is_shown),
        {"an_edit_waits_for_a_claim_that_was_first_and_is_refused", an_edit_waits_for_a_claim_that_was_first_and_is_refused, STORE_POSTGRES},
        {"of_two_changes_of_one_letter_one_wins_and_the_other_is_told", of_two_changes_of_one_letter_one_wins_and_the_other_is_told, STORE_POSTGRES},
    };
    return store_run_cases(cases, array_len(cases));
}
