// SPDX-License-Identifier: Apache-2.0
// dlq/try: letters run on a version as sync events with a mark, and nothing comes of it but a report.
#include "dlq/try.h"

#include "tests/unit/dlq/world.h"

static struct trials *trials;

static struct selection *letters_where(const char *expression) {
    struct selection *sel = NULL;
    struct err err = {0};
    if (selection_new(&(struct select_spec){.where = str_of(expression), .now_ms = 1}, &sel, &err)) fail_msg("%s", err.text);
    return sel;
}

static struct id put_failed(struct world *w, const char *function, const char *payload) {
    return put(w, &(struct ev_fields){.function = str_of(function), .payload = str_of(payload), .attempt = 4, .qualifier = STR_LIT("1"),
                                      .ordering_key = STR_LIT("k"),
                                      .history = STR_LIT("[{\"attempt\":1,\"errorType\":\"Early\"},"
                                                         "{\"attempt\":2,\"errorType\":\"KeyError\"}]")},
               LETTER_DEAD, 0);
}

static void begin(struct world *w, const char *where, size_t sample, const char *to, struct answer *a) {
    *a = (struct answer){0};
    if (!trials) trials = trials_new(w->loop, w->letters, w->ingest, NULL);
    trials_run(trials, letters_where(where), sample, str_of(to), on_json, a);
}

static void end(void) {
    trials_free(trials);
    trials = NULL;
}

// The worker's answer to the oldest event: "ok…" returns its payload, "same" and "other" fail as before and otherwise.
static void answer(struct world *w) {
    struct ev *ev = w->got[0];
    struct str payload = ev->f.payload;
    bool same = str_is(payload, "same"), other = str_is(payload, "other");
    const struct outcome_report report = {.outcome = same || other ? OUTCOME_ERROR : OUTCOME_OK,
                                          .result = payload,
                                          .error_type = same ? STR_LIT("KeyError") : other ? STR_LIT("ValueError") : STR_LIT(""),
                                          .error_message = same ? STR_LIT("'another'") : STR_LIT(""),
                                          .log_tail = STR_LIT("a line"),
                                          .duration_us = 1500,
                                          .version = 1};
    assert_true(ingest_reply(w->ingest, &ev->f.id, ERR_OK, NULL, &report));
    ev_free(ev);
    memmove(w->got, w->got + 1, --w->got_count * sizeof(struct ev *));
}

static void answer_all(struct world *w, struct answer *a) {
    while (!a->done) {
        TURN_UNTIL(w->loop, a->done || w->got_count);
        if (!a->done) answer(w);
    }
    assert_int_equal(a->code, 0);
}

static int64_t number_of(const json_t *o, const char *name) {
    return json_integer_value(json_object_get(o, name));
}

static const json_t *result_of(const json_t *report, const struct id *id) {
    char text[ID_TEXT_BYTES];
    size_t i;
    const json_t *o;
    id_format(id, text);
    json_array_foreach(json_object_get(report, "results"), i, o)
        if (strcmp(json_string_value(json_object_get(o, "id")), text) == 0) return o;
    fail_msg("%s has no result", text);
    return NULL;
}

static void expect(const json_t *result, const char *member, const char *want) {
    assert_string_equal(json_string_value(json_object_get(result, member)), want);
}

static void each_letter_has_a_verdict(void **state) {
    struct world *w = *state;
    struct id ok = put_failed(w, "f", "ok"), same = put_failed(w, "f", "same"), other = put_failed(w, "f", "other");
    struct id gone = put_failed(w, "nobody", "x");
    struct answer a;
    begin(w, "state = 'dead'", 20, "", &a);
    answer_all(w, &a);
    assert_int_equal(number_of(a.json, "tried"), 4);
    assert_int_equal(number_of(a.json, "passed"), 1);
    assert_int_equal(number_of(a.json, "failed"), 2);
    assert_int_equal(number_of(a.json, "notRun"), 1);
    const json_t *result = result_of(a.json, &ok);
    expect(result, "verdict", "passes");
    expect(result, "outcome", "ok");
    expect(result, "result", "ok");
    expect(result, "log", "a line");
    expect(result, "function", "f");
    assert_int_equal(number_of(result, "version"), 1);
    assert_true(json_real_value(json_object_get(result, "durationMs")) == 1.5);
    result = result_of(a.json, &same);
    expect(result, "verdict", "same"); // a quoted part of the message does not make it another
    expect(result, "errorType", "KeyError");
    assert_true(json_is_null(json_object_get(result, "result")));
    assert_int_equal(json_string_length(json_object_get(result, "group")), 16);
    expect(result_of(a.json, &other), "verdict", "other");
    result = result_of(a.json, &gone);
    expect(result, "verdict", "not-run");
    assert_non_null(strstr(json_string_value(json_object_get(result, "errorMessage")), "no function nobody"));
    json_decref(a.json);
    end();
}

static void the_event_is_marked_and_otherwise_the_letters(void **state) {
    struct world *w = *state;
    struct id id = put_failed(w, "f", "ok");
    struct answer a;
    begin(w, "", 1, "", &a);
    TURN_UNTIL(w->loop, w->got_count);
    const struct ev_fields *f = &w->got[0]->f;
    assert_true(f->dry_run && f->invocation == EV_SYNC);
    assert_true(f->attempt == 0 && f->history.len == 0 && f->replay == 0 && id_is_none(&f->origin_id) && !id_eq(&f->id, &id));
    assert_true(f->qualifier.len == 0); // the current version
    assert_true(str_is(f->payload, "ok") && str_is(f->ordering_key, "k"));
    answer_all(w, &a);
    json_decref(a.json);
    begin(w, "", 1, "g:1", &a);
    TURN_UNTIL(w->loop, w->got_count);
    assert_true(str_is(w->got[0]->f.function, "g") && str_is(w->got[0]->f.qualifier, "1"));
    answer_all(w, &a);
    json_decref(a.json);
    end();
}

static void nothing_changes_in_the_store(void **state) {
    struct world *w = *state;
    const char *const payloads[] = {"ok", "same", "other"};
    struct id ids[3];
    json_t *before[3];
    for (size_t i = 0; i < 3; i++) ids[i] = put_failed(w, "f", payloads[i]);
    for (size_t i = 0; i < 3; i++) before[i] = show(w, &ids[i]);
    struct answer a, list = {0};
    begin(w, "", 20, "", &a);
    answer_all(w, &a);
    json_decref(a.json);
    for (size_t i = 0; i < 3; i++) {
        json_t *after = show(w, &ids[i]);
        assert_true(json_equal(before[i], after));
        json_decref(before[i]);
        json_decref(after);
    }
    letters_list(w->letters, letters_where(""), &(struct letter_page){.limit = 100}, on_json, &list);
    await(w, &list);
    assert_int_equal(json_array_size(json_object_get(list.json, "letters")), 3);
    json_decref(list.json);
    end();
}

static void only_so_many_run_at_a_time(void **state) {
    struct world *w = *state;
    enum { COUNT = 3 * TRY_AT_A_TIME };
    for (int i = 0; i < COUNT; i++) put_failed(w, i % 2 ? "f" : "g", "ok");
    struct answer a;
    begin(w, "", COUNT, "", &a);
    for (size_t i = 0; i < COUNT; i++) {
        size_t most = COUNT - i < TRY_AT_A_TIME ? COUNT - i : TRY_AT_A_TIME;
        TURN_UNTIL(w->loop, w->got_count == most);
        for (int turn = 0; turn < 3; turn++) loop_turn(w->loop, 0);
        assert_int_equal(w->got_count, most);
        assert_false(a.done);
        answer(w);
    }
    TURN_UNTIL(w->loop, a.done);
    assert_int_equal(number_of(a.json, "passed"), COUNT);
    json_decref(a.json);
    end();
}

static void a_sample_has_a_most(void **state) {
    struct world *w = *state;
    for (int i = 0; i < TRY_MAX + 5; i++) put_failed(w, "f", "ok");
    struct answer a;
    begin(w, "", 100000, "", &a);
    answer_all(w, &a);
    assert_int_equal(number_of(a.json, "tried"), TRY_MAX);
    json_decref(a.json);
    end();
}

static void what_cannot_run_at_all_says_why(void **state) {
    struct world *w = *state;
    struct answer a;
    begin(w, "function = 'f'", 5, "", &a);
    TURN_UNTIL(w->loop, a.done);
    assert_int_equal(a.code, ERR_NOT_FOUND);
    for (int i = 0; i < TRY_AT_A_TIME + 2; i++) put_failed(w, "f", "ok");
    begin(w, "", 20, "f:9", &a);
    answer_all(w, &a);
    assert_int_equal(number_of(a.json, "notRun"), TRY_AT_A_TIME + 2);
    expect(json_array_get(json_object_get(a.json, "results"), 0), "errorMessage", "function f has no such version");
    json_decref(a.json);
    end();
}

static void a_long_result_is_cut(void **state) {
    struct world *w = *state;
    char *text = mem_alloc(10001);
    memset(text, 'x', 10000);
    text[10000] = '\0';
    struct id id = put_failed(w, "f", text);
    free(text);
    struct answer a;
    begin(w, "", 1, "", &a);
    answer_all(w, &a);
    assert_int_equal(json_string_length(json_object_get(result_of(a.json, &id), "result")), 4096);
    json_decref(a.json);
    end();
}

static void secrets_are_masked(void **state) {
    struct world *w = *state;
    struct redact *redact = NULL;
    assert_int_equal(redact_new("password", &redact, NULL), 0);
    trials = trials_new(w->loop, w->letters, w->ingest, redact);
    struct id id = put_failed(w, "f", "{\"password\":\"sesame\"}");
    struct answer a;
    begin(w, "", 1, "", &a);
    answer_all(w, &a);
    assert_null(strstr(json_string_value(json_object_get(result_of(a.json, &id), "result")), "sesame"));
    json_decref(a.json);
    end();
    redact_free(redact);
}

// Its caller hears nothing of it any more.
static void a_try_can_be_left_at_any_time(void **state) {
    struct world *w = *state;
    for (int i = 0; i < 3; i++) put_failed(w, "f", "ok");
    put_failed(w, "nobody", "x");
    struct answer sampling, running, refused;
    begin(w, "function = 'f'", 2, "", &running);
    TURN_UNTIL(w->loop, w->got_count == 2);
    begin(w, "function = 'nobody'", 2, "", &refused);
    begin(w, "", 2, "", &sampling);
    end();
    for (int turn = 0; turn < 100; turn++) loop_turn(w->loop, 1);
    assert_false(sampling.done || running.done || refused.done);
    assert_false(ingest_is_awaited(w->ingest, &w->got[0]->f.id));
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(each_letter_has_a_verdict),
        CASE(the_event_is_marked_and_otherwise_the_letters),
        CASE(nothing_changes_in_the_store),
        CASE(only_so_many_run_at_a_time),
        CASE(a_sample_has_a_most),
        CASE(what_cannot_run_at_all_says_why),
        CASE(a_long_result_is_cut),
        CASE(secrets_are_masked),
        CASE(a_try_can_be_left_at_any_time),
    };
    return cmocka_run_group_tests_name("dlq/try", tests, NULL, NULL);
}
