// SPDX-License-Identifier: Apache-2.0
// The letters over both stores: what is put can be seen, listed, sampled, and claimed by one; a claim that was overtaken is void.
// Changes and edits are in test_letters_change.c, import and older databases in test_letters_import.c.
#include <stdlib.h>

#include "dlq/letters_impl.h"
#include "tests/support/letters_fixture.h"

// --- putting and showing ------------------------------------------------------------------------------------------------

static const struct ev_header two_headers[] = {{{"X-Tenant", 8}, {"acme", 4}}, {{"x-tenant", 8}, {"globex", 6}}};

static struct ev_fields full_fields(void) {
    return (struct ev_fields){.function = STR_LIT("orders"),
                              .qualifier = STR_LIT("3"),
                              .payload = STR_LIT("{\"n\":1}"),
                              .attempt = 4,
                              .accepted_ms = 1767225600123,
                              .origin_id = id_new(),
                              .source_kind = STR_LIT("kafka"),
                              .source_name = STR_LIT("t"),
                              .source_at = STR_LIT("{\"topic\":\"t\",\"partition\":3,\"offset\":7}"),
                              .ordering_key = {"k\0\xff", 3},
                              .content_type = STR_LIT("application/json"),
                              .shape = STR_LIT("scf"),
                              .trace = STR_LIT("00-ab-cd-01"),
                              .history = STR_LIT("[{\"attempt\":1},{\"attempt\":2}]"),
                              .headers = two_headers,
                              .header_count = 2};
}

static void put_draft(struct letters_fixture *lf, const struct letter_draft *draft) {
    struct answer a = {0};
    letters_put(lf->letters, draft, answer_done, &a);
    assert_false(a.done); // never inside the call
    await(lf, &a);
}

static void a_letter_shows_the_whole_event(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    const struct ev_fields f = full_fields();
    struct ev *ev = ev_new(&f);
    put_draft(&lf, &(struct letter_draft){.ev = ev, .state = LETTER_DEAD, .kind = LETTER_PLATFORM, .version = 3,
                                          .error_type = STR_LIT("KeyError"), .error_message = {"bad \xff\0 text", 11},
                                          .stack = STR_LIT("Traceback")});
    json_t *o = show_letter(&lf, &ev->f.id);
    char id[ID_TEXT_BYTES], origin[ID_TEXT_BYTES];
    id_format(&ev->f.id, id);
    id_format(&f.origin_id, origin);
    assert_string_equal(text_in(o, "id"), id);
    assert_string_equal(text_in(o, "originId"), origin);
    assert_string_equal(text_in(o, "function"), "orders");
    assert_string_equal(text_in(o, "state"), "dead");
    assert_string_equal(text_in(o, "kind"), "platform");
    assert_string_equal(text_in(o, "errorType"), "KeyError");
    assert_string_equal(text_in(o, "payload"), "{\"n\":1}");
    assert_string_equal(text_in(o, "contentType"), "application/json");
    assert_string_equal(text_in(o, "shape"), "scf");
    assert_string_equal(text_in(o, "trace"), "00-ab-cd-01");
    assert_string_equal(text_in(o, "why"), "");
    assert_string_equal(text_in(json_object_get(o, "source"), "at"), "{\"topic\":\"t\",\"partition\":3,\"offset\":7}");
    assert_int_equal(number_in(o, "version"), 3);
    assert_int_equal(number_in(o, "attempts"), 4);
    assert_int_equal(number_in(o, "acceptedMs"), 1767225600123);
    assert_int_equal(number_in(o, "payloadBytes"), 7);
    assert_int_equal(strlen(text_in(o, "group")), 16);
    assert_true(json_is_null(json_object_get(o, "dueMs")) && json_is_null(json_object_get(o, "replayId")));
    assert_true(json_is_null(json_object_get(o, "to")) && json_is_null(json_object_get(o, "original")));
    assert_false(bool_in(o, "edited") || bool_in(o, "redacted"));
    array_in(o, "history", 2);
    array_in(o, "edits", 0);
    array_in(o, "replays", 0);
    const json_t *pair = json_array_get(array_in(o, "headers", 2), 0);
    assert_string_equal(json_string_value(json_array_get(pair, 0)), "X-Tenant");
    assert_string_equal(json_string_value(json_array_get(pair, 1)), "acme");
    json_decref(o);
    ev_free(ev);
    letters_close(&lf);
}

static void a_due_letter_says_when(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    const struct ev_fields f = {.function = STR_LIT("f"), .payload = STR_LIT("p")};
    struct ev *ev = ev_new(&f);
    put_draft(&lf, &(struct letter_draft){.ev = ev, .state = LETTER_DUE, .kind = LETTER_DELAYED, .due_ms = 4102444800000});
    json_t *o = show_letter(&lf, &ev->f.id);
    assert_string_equal(text_in(o, "state"), "due");
    assert_string_equal(text_in(o, "kind"), "delayed");
    assert_int_equal(number_in(o, "dueMs"), 4102444800000);
    json_decref(o);
    ev_free(ev);
    letters_close(&lf);
}

static void an_unknown_letter_is_not_found(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct id id = id_new();
    struct answer a = {0};
    letters_show(lf.letters, &id, answer_json, &a);
    await_refusal(&lf, &a, ERR_NOT_FOUND, "there is no letter");
    letters_close(&lf);
}

// It is text in the store, and comes with the event from whoever sent it.
static void a_history_that_is_no_text_does_not_keep_a_letter_out(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    const struct str bad[] = {{"[\xff]", 3}, {"[\0]", 3}};
    for (size_t i = 0; i < array_len(bad); i++) {
        struct id id = put_letter(&lf, &(struct ev_fields){.function = STR_LIT("f"), .history = bad[i]}, LETTER_DEAD);
        json_t *o = show_letter(&lf, &id);
        array_in(o, "history", 0);
        json_decref(o);
    }
    letters_close(&lf);
}

// --- putting again --------------------------------------------------------------------------------------------------------

static void put_version(struct letters_fixture *lf, const struct id *id, const char *payload, const char *history) {
    const struct ev_header header = {STR_LIT("h"), str_of(payload)};
    const struct ev_fields f = {.id = *id, .function = STR_LIT("f"), .payload = str_of(payload), .history = str_of(history),
                                .shape = str_of(payload), .headers = &header, .header_count = 1};
    struct ev *ev = ev_new(&f);
    put_draft(lf, &(struct letter_draft){.ev = ev, .state = LETTER_DEAD, .kind = LETTER_FUNCTION, .error_type = str_of(payload)});
    ev_free(ev);
}

static void assert_version(struct letters_fixture *lf, const struct id *id, const char *payload, size_t attempts) {
    json_t *o = show_letter(lf, id);
    assert_string_equal(text_in(o, "payload"), payload);
    assert_string_equal(text_in(o, "errorType"), payload);
    assert_string_equal(text_in(o, "shape"), payload); // out of the envelope
    const json_t *header = json_array_get(array_in(o, "headers", 1), 0);
    assert_string_equal(json_string_value(json_array_get(header, 1)), payload);
    array_in(o, "history", attempts);
    json_decref(o);
}

static void a_letter_put_again_is_replaced_only_while_nobody_decided_about_it(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    const struct {
        const char *state;
        bool replaced;
    } cases[] = {{"due", true}, {"dead", true}, {"replaying", false}, {"replayed", false}, {"discarded", false}};
    for (size_t i = 0; i < array_len(cases); i++) {
        struct id id = id_new();
        put_version(&lf, &id, "old", "[{}]");
        char text[128];
        MUST(text_format(text, sizeof text, "UPDATE letters SET state = '%s', due_ms = 1 WHERE id = $1", cases[i].state) == 0);
        sql_of(&lf, text, &id);
        put_version(&lf, &id, "new", "[{},{}]");
        assert_version(&lf, &id, cases[i].replaced ? "new" : "old", cases[i].replaced ? 2 : 1);
        assert_true(letter_is(&lf, &id, cases[i].replaced ? "dead" : cases[i].state));
    }
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letters WHERE state = 'dead' AND due_ms IS NOT NULL"), 0);
    letters_close(&lf);
}

#define MANY 1500 // more than one job of the store

static void the_letters_of_one_turn_are_all_written_and_the_last_word_of_one_counts(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    static struct answer answers[MANY];
    static struct ev *evs[MANY];
    struct id twice = id_new();
    memset(answers, 0, sizeof answers);
    for (size_t i = 0; i < MANY; i++) {
        struct ev_fields f = {.function = STR_LIT("f"), .payload = STR_LIT("x")};
        if (i == 10 || i == 20 || i == MANY - 1) f.id = twice;
        if (i == MANY - 1) f.payload = STR_LIT("last");
        evs[i] = ev_new(&f);
        letters_put(lf.letters, &(struct letter_draft){.ev = evs[i], .state = LETTER_DEAD, .kind = LETTER_FUNCTION}, answer_done, &answers[i]);
    }
    for (size_t i = 0; i < MANY; i++) await(&lf, &answers[i]);
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letters"), MANY - 2);
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letter_bodies"), MANY - 2);
    json_t *o = show_letter(&lf, &twice);
    assert_string_equal(text_in(o, "payload"), "last");
    json_decref(o);
    for (size_t i = 0; i < MANY; i++) ev_free(evs[i]);
    letters_close(&lf);
}

// The loop turns between them, so that some wait while others are written.
static void the_last_word_of_one_letter_counts_however_they_come_together(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    static struct answer answers[MANY];
    static struct ev *evs[MANY];
    struct id ids[7];
    for (size_t i = 0; i < array_len(ids); i++) ids[i] = id_new();
    memset(answers, 0, sizeof answers);
    for (size_t i = 0; i < MANY; i++) {
        struct ev_fields f = {.id = ids[i % array_len(ids)], .function = STR_LIT("f"), .payload = STR_LIT("x"), .attempt = (uint32_t)i};
        evs[i] = ev_new(&f);
        letters_put(lf.letters, &(struct letter_draft){.ev = evs[i], .state = LETTER_DEAD}, answer_done, &answers[i]);
        if (i % 11 == 0) loop_turn(lf.fx->loop, 0);
    }
    for (size_t i = 0; i < MANY; i++) await(&lf, &answers[i]);
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letters"), array_len(ids));
    assert_int_equal(sql_number(&lf, "SELECT min(attempts) FROM letters"), MANY - array_len(ids));
    for (size_t i = 0; i < MANY; i++) ev_free(evs[i]);
    letters_close(&lf);
}

static int put_twice(void *arg, struct sql *sql, struct err *err) {
    struct ev *ev = arg;
    const struct letter_draft drafts[] = {{.ev = ev, .state = LETTER_DEAD, .error_type = STR_LIT("First")},
                                          {.ev = ev, .state = LETTER_DEAD, .error_type = STR_LIT("Last")}};
    return letters_sql_put(sql, drafts, array_len(drafts), 0, err);
}

static void a_job_may_write_a_letter_twice(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct ev *ev = ev_new(&(struct ev_fields){.function = STR_LIT("f")});
    assert_int_equal(call(lf.fx, put_twice, ev), 0);
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letters WHERE error_type = 'Last'"), 1);
    ev_free(ev);
    letters_close(&lf);
}

static void a_letter_that_cannot_be_stored_hurts_only_itself(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    char *big = mem_zalloc(EV_ENCODED_MAX);
    const struct ev_header header = {STR_LIT("big"), {big, EV_ENCODED_MAX}};
    struct ev *good = ev_new(&(struct ev_fields){.function = STR_LIT("f")});
    struct ev *bad = ev_new(&(struct ev_fields){.function = STR_LIT("f"), .headers = &header, .header_count = 1});
    struct answer of_good = {0}, of_bad = {0};
    letters_put(lf.letters, &(struct letter_draft){.ev = bad, .state = LETTER_DEAD}, answer_done, &of_bad);
    letters_put(lf.letters, &(struct letter_draft){.ev = good, .state = LETTER_DEAD}, answer_done, &of_good);
    await(&lf, &of_good);
    await_refusal(&lf, &of_bad, ERR_TOO_LARGE, "");
    assert_true(letter_is(&lf, &good->f.id, "dead"));
    assert_true(letter_is(&lf, &bad->f.id, ""));
    ev_free(good);
    ev_free(bad);
    free(big);
    letters_close(&lf);
}

// --- lists ------------------------------------------------------------------------------------------------------------------

static void pages_give_every_letter_once(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct id ids[25];
    for (size_t i = 0; i < array_len(ids); i++) ids[i] = put_text(&lf, "f", "x", LETTER_DEAD);
    put_text(&lf, "g", "x", LETTER_DEAD);
    put_text(&lf, "f", "x", LETTER_DUE);
    for (int oldest = 0; oldest < 2; oldest++) {
        char cursor[ID_TEXT_BYTES] = "";
        size_t seen = 0, pages = 0;
        do {
            const struct letter_page page = {.after = str_of(cursor), .limit = 10, .oldest_first = oldest};
            json_t *result = list_letters(&lf, selected(&(struct select_spec){.function = STR_LIT("f"), .state = STR_LIT("dead")}), &page), *o;
            size_t i;
            json_array_foreach(json_object_get(result, "letters"), i, o) {
                char text[ID_TEXT_BYTES];
                id_format(&ids[oldest ? seen : array_len(ids) - 1 - seen], text);
                assert_string_equal(text_in(o, "id"), text);
                assert_null(json_object_get(o, "payload")); // a summary
                seen++;
            }
            const char *next = json_string_value(json_object_get(result, "next"));
            snprintf(cursor, sizeof cursor, "%s", next ? next : "");
            json_decref(result);
        } while (cursor[0] && ++pages < 10);
        assert_int_equal(seen, array_len(ids));
        assert_int_equal(pages, 2);
    }
    letters_close(&lf);
}

static void a_wrong_page_is_refused_in_words(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    const struct {
        struct letter_page page;
        const char *says;
    } cases[] = {{{.limit = 0}, "1 to 1000"}, {{.limit = 1001}, "1 to 1000"}, {{.limit = 1, .after = STR_LIT("x")}, "cursor"}};
    for (size_t i = 0; i < array_len(cases); i++) {
        struct answer a = {0};
        letters_list(lf.letters, where(""), &cases[i].page, answer_json, &a);
        await_refusal(&lf, &a, ERR_INVALID, cases[i].says);
    }
    letters_close(&lf);
}

static void whole_letters_come_in_pages_of_bounded_size(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    enum { BYTES = 5000000, COUNT = 3 };
    char *big = mem_alloc(BYTES);
    memset(big, 'x', BYTES);
    for (int i = 0; i < COUNT; i++) put_letter(&lf, &(struct ev_fields){.function = STR_LIT("f"), .payload = {big, BYTES}}, LETTER_DEAD);
    put_text(&lf, "f", "small", LETTER_DEAD);
    free(big);
    char cursor[ID_TEXT_BYTES] = "";
    size_t pages = 0, seen = 0;
    do {
        json_t *result = list_letters(&lf, where(""), &(struct letter_page){.after = str_of(cursor), .limit = 100, .full = true, .oldest_first = true});
        size_t i, bytes = 0;
        json_t *o;
        json_array_foreach(json_object_get(result, "letters"), i, o) {
            bytes += strlen(text_in(o, "payload"));
            array_in(o, "history", 1);
            seen++;
        }
        assert_true(bytes <= LETTER_PAGE_BYTES);
        const char *next = json_string_value(json_object_get(result, "next"));
        snprintf(cursor, sizeof cursor, "%s", next ? next : "");
        json_decref(result);
    } while (++pages < 10 && cursor[0]);
    assert_int_equal(seen, COUNT + 1);
    assert_int_equal(pages, COUNT);
    letters_close(&lf);
}

enum { HEAVY = 80, HEAVY_BYTES = 240000 };

// All letters once, however many pages; none of these is much over the bound.
static void heavy_letters_come_in_pages(struct letters_fixture *lf) {
    char cursor[ID_TEXT_BYTES] = "", last[ID_TEXT_BYTES] = "";
    size_t pages = 0, seen = 0;
    do {
        json_t *result = list_letters(lf, where(""), &(struct letter_page){.after = str_of(cursor), .limit = 1000, .full = true, .oldest_first = true});
        cleanup_free char *text = json_dumps(result, JSON_COMPACT);
        assert_in_range(strlen(text), 1, LETTER_PAGE_BYTES + LETTER_PAGE_BYTES / 8);
        size_t i;
        json_t *o;
        json_array_foreach(json_object_get(result, "letters"), i, o) {
            assert_true(strcmp(text_in(o, "id"), last) > 0);
            snprintf(last, sizeof last, "%s", text_in(o, "id"));
            seen++;
        }
        const char *next = json_string_value(json_object_get(result, "next"));
        snprintf(cursor, sizeof cursor, "%s", next ? next : "");
        json_decref(result);
    } while (++pages < HEAVY && cursor[0]);
    assert_int_equal(seen, HEAVY);
    assert_in_range(pages, HEAVY * HEAVY_BYTES / LETTER_PAGE_BYTES, 5);
}

static char *filled(const char *with) {
    size_t len = strlen(with);
    char *text = mem_alloc(HEAVY_BYTES + 1);
    for (size_t i = 0; i < HEAVY_BYTES; i++) text[i] = with[i % len];
    text[HEAVY_BYTES] = '\0';
    return text;
}

static void histories_count_for_the_size_of_a_page(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    for (int i = 0; i < HEAVY; i++) put_text(&lf, "f", "{}", LETTER_DEAD);
    cleanup_free char *log = filled("€"), *text = mem_printf("UPDATE letter_bodies SET history = '[{\"logTail\":\"%s\"}]'", log);
    sql(&lf, text);
    heavy_letters_come_in_pages(&lf);
    letters_close(&lf);
}

static void edits_count_for_the_size_of_a_page(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    for (int i = 0; i < HEAVY; i++) put_text(&lf, "f", "{}", LETTER_DEAD);
    cleanup_free char *value = filled("é");
    cleanup_free char *text = mem_printf("INSERT INTO letter_edits (letter_id, revision, at_ms, who, why, patch)"
                                         " SELECT id, 1, 5, 'anna', '', '[{\"op\":\"add\",\"path\":\"/payload/x\",\"value\":\"%s\"}]' FROM letters", value);
    sql(&lf, text);
    heavy_letters_come_in_pages(&lf);
    letters_close(&lf);
}

static void originals_count_for_the_size_of_a_page(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    cleanup_free char *payload = filled("x");
    for (int i = 0; i < HEAVY; i++) put_text(&lf, "f", payload, LETTER_DEAD);
    sql(&lf, "INSERT INTO letter_originals (letter_id, payload, event) SELECT l.id, l.payload, b.event FROM letters l JOIN letter_bodies b USING (id)");
    sql(&lf, "UPDATE letters SET payload = substr(payload, 1, 1)");
    heavy_letters_come_in_pages(&lf);
    letters_close(&lf);
}

static void a_letter_over_the_size_of_a_page_has_one_of_its_own(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    char *big = mem_alloc(LETTER_PAGE_BYTES + 1);
    memset(big, 'x', LETTER_PAGE_BYTES + 1);
    for (int i = 0; i < 2; i++)
        put_letter(&lf, &(struct ev_fields){.function = STR_LIT("f"), .payload = {big, LETTER_PAGE_BYTES + 1}}, LETTER_DEAD);
    free(big);
    json_t *result = list_letters(&lf, where(""), &(struct letter_page){.limit = 10, .full = true});
    array_in(result, "letters", 1);
    cleanup_free char *next = mem_strdup(text_in(result, "next"));
    json_decref(result);
    result = list_letters(&lf, where(""), &(struct letter_page){.after = str_of(next), .limit = 10, .full = true});
    array_in(result, "letters", 1);
    assert_true(json_is_null(json_object_get(result, "next")));
    json_decref(result);
    letters_close(&lf);
}

static void a_secret_is_masked_in_what_is_shown_and_not_in_what_runs(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, "password,x-token");
    const struct ev_header header = {STR_LIT("X-Token"), STR_LIT("abracadabra")};
    const struct ev_fields f = {.function = STR_LIT("f"), .payload = STR_LIT("{\"password\":\"sesame\",\"n\":1}"), .headers = &header, .header_count = 1,
                                .history = STR_LIT("[{\"log\":\"password=sesame\"}]")};
    struct id id = put_letter(&lf, &f, LETTER_DEAD);
    struct id plain = put_text(&lf, "f", "{\"n\":1}", LETTER_DEAD);
    json_t *o = show_letter(&lf, &id);
    char *text = json_dumps(o, 0);
    assert_null(strstr(text, "sesame"));
    assert_null(strstr(text, "abracadabra"));
    assert_true(bool_in(o, "redacted"));
    assert_string_equal(text_in(o, "payload"), "{\"password\":\"***\",\"n\":1}");
    free(text);
    json_decref(o);
    o = show_letter(&lf, &plain);
    assert_false(bool_in(o, "redacted"));
    json_decref(o);
    sql(&lf, "UPDATE letters SET error_message = 'no password=sesame' WHERE length(payload) = 7");
    o = show_letter(&lf, &plain);
    assert_string_equal(text_in(o, "errorMessage"), "no password=***");
    assert_true(bool_in(o, "redacted"));
    json_decref(o);
    struct answer a = {0};
    letters_sample(lf.letters, these(&id, 1), 1, answer_claim, &a);
    await(&lf, &a);
    assert_int_equal(a.count, 1);
    assert_true(str_eq(a.letters[0].ev->f.payload, f.payload));
    assert_true(str_is(a.letters[0].ev->f.headers[0].value, "abracadabra"));
    answer_free(&a);
    letters_close(&lf);
}

static void letters_are_counted_by_function_and_state(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    static const char *const states[] = {"due", "dead", "replaying", "replayed", "discarded"};
    for (size_t i = 0; i < array_len(states); i++)
        for (size_t n = 0; n <= i; n++) {
            struct id id = put_text(&lf, "f", "x", LETTER_DEAD);
            char text[128];
            MUST(text_format(text, sizeof text, "UPDATE letters SET state = '%s' WHERE id = $1", states[i]) == 0);
            sql_of(&lf, text, &id);
        }
    put_text(&lf, "g", "x", LETTER_DEAD);
    struct answer a = {0};
    letters_count(lf.letters, answer_json, &a);
    await(&lf, &a);
    const json_t *functions = json_object_get(a.json, "functions"), *total = json_object_get(a.json, "total");
    for (size_t i = 0; i < array_len(states); i++) {
        assert_int_equal(number_in(json_object_get(functions, "f"), states[i]), i + 1);
        assert_int_equal(number_in(total, states[i]), i + 1 + (strcmp(states[i], "dead") == 0));
    }
    assert_int_equal(number_in(json_object_get(functions, "g"), "dead"), 1);
    assert_null(json_object_get(json_object_get(functions, "g"), "due"));
    answer_free(&a);
    letters_close(&lf);
}

// --- samples ----------------------------------------------------------------------------------------------------------------

static void a_sample_is_spread_over_the_selection_and_changes_nothing(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    enum { COUNT = 400, WANTED = 40 };
    for (unsigned i = 0; i < COUNT; i++) {
        char payload[8];
        snprintf(payload, sizeof payload, "%u", i);
        put_text(&lf, i % 2 ? "f" : "g", payload, LETTER_DEAD);
    }
    struct answer a = {0};
    letters_sample(lf.letters, where("function = 'f'"), WANTED, answer_claim, &a);
    await(&lf, &a);
    assert_int_equal(a.count, WANTED);
    size_t quarters[4] = {0};
    for (size_t i = 0; i < a.count; i++) {
        unsigned n = (unsigned)strtoul(a.letters[i].ev->f.payload.data, NULL, 10);
        assert_true(n % 2 == 1 && n < COUNT);
        quarters[n / (COUNT / 4)]++;
        assert_true(str_is(a.letters[i].ev->f.function, "f"));
        assert_true(i == 0 || memcmp(a.letters[i - 1].id.bytes, a.letters[i].id.bytes, sizeof(struct id)) < 0); // each once
    }
    for (size_t i = 0; i < array_len(quarters); i++) assert_true(quarters[i] > 0);
    answer_free(&a);
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letters WHERE state = 'dead' AND lease_ms = 0"), COUNT);
    letters_sample(lf.letters, where("function = 'nobody'"), WANTED, answer_claim, &a);
    await(&lf, &a);
    assert_int_equal(a.count, 0);
    answer_free(&a);
    letters_close(&lf);
}

// Whoever took every tenth letter would take all of one kind, and the same ones each time.
static void a_sample_has_some_of_what_comes_every_so_often(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    enum { COUNT = 600, WANTED = 60, PERIOD = 10 };
    for (unsigned i = 0; i < COUNT; i++) put_text(&lf, "f", i % PERIOD ? "common" : "rare", LETTER_DEAD);
    size_t rare = 0, all = 0;
    for (unsigned round = 0; round < 3; round++) {
        struct answer a = {0};
        letters_sample(lf.letters, where("function = 'f'"), WANTED, answer_claim, &a);
        await(&lf, &a);
        assert_int_equal(a.count, WANTED);
        for (size_t i = 0; i < a.count; i++) rare += str_is(a.letters[i].ev->f.payload, "rare");
        all += a.count;
        answer_free(&a);
    }
    assert_true(rare > 0 && rare < all);
    letters_close(&lf);
}

// --- claims of due letters --------------------------------------------------------------------------------------------------

static size_t claim_due(struct letters_fixture *lf, int64_t now_ms, struct answer *a) {
    *a = (struct answer){0};
    letters_claim_due(lf->letters, now_ms, 60000, 10, answer_claim, a);
    await(lf, a);
    return a->count;
}

static struct id put_due(struct letters_fixture *lf, const char *payload, int64_t due_ms) {
    struct ev *ev = ev_new(&(struct ev_fields){.function = STR_LIT("f"), .payload = str_of(payload)});
    struct id id = ev->f.id;
    put_draft(lf, &(struct letter_draft){.ev = ev, .state = LETTER_DUE, .kind = LETTER_FUNCTION, .due_ms = due_ms});
    ev_free(ev);
    return id;
}

// As if their 60 s had passed.
static void let_leases_run_out(struct letters_fixture *lf) {
    sql(lf, "UPDATE letters SET lease_ms = lease_ms - 60001 WHERE lease_ms > 0");
}

static void a_due_letter_is_claimed_by_one_and_only_when_it_is_due(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    int64_t now = clock_unix_ms();
    put_due(&lf, "soon", now - 1);
    put_due(&lf, "later", now + 3600000);
    put_text(&lf, "f", "dead", LETTER_DEAD);
    struct answer first, second, after_lease;
    assert_int_equal(claim_due(&lf, now, &first), 1);
    assert_true(str_is(first.letters[0].ev->f.payload, "soon"));
    assert_int_equal(claim_due(&lf, now, &second), 0);
    answer_free(&second);
    assert_int_equal(claim_due(&lf, now + 600000, &second), 0); // by one whose clock is ahead
    let_leases_run_out(&lf);                                     // its node died
    assert_int_equal(claim_due(&lf, now, &after_lease), 1);
    answer_free(&first);
    answer_free(&second);
    answer_free(&after_lease);
    letters_close(&lf);
}

static void what_is_claimed_is_what_was_put(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct ev_fields f = full_fields();
    f.payload = (struct str){"\0\xff\x80", 3};
    struct id id = put_letter(&lf, &f, LETTER_DUE);
    struct answer a;
    assert_int_equal(claim_due(&lf, clock_unix_ms(), &a), 1);
    const struct ev_fields *got = &a.letters[0].ev->f;
    assert_true(id_eq(&got->id, &id) && id_eq(&got->origin_id, &f.origin_id));
    assert_true(str_eq(got->payload, f.payload) && str_eq(got->ordering_key, f.ordering_key));
    assert_true(str_eq(got->history, f.history) && str_eq(got->qualifier, f.qualifier) && str_eq(got->source_at, f.source_at));
    assert_true(str_eq(got->shape, f.shape) && str_eq(got->trace, f.trace) && str_eq(got->content_type, f.content_type));
    assert_int_equal(got->attempt, 4);
    assert_int_equal(got->accepted_ms, f.accepted_ms);
    assert_int_equal(got->header_count, 2);
    assert_true(str_is(got->headers[1].name, "x-tenant") && str_is(got->headers[1].value, "globex"));
    answer_free(&a);
    letters_close(&lf);
}

static void a_delivered_letter_is_gone(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    put_due(&lf, "x", 1);
    struct answer claim, a = {0};
    assert_int_equal(claim_due(&lf, clock_unix_ms(), &claim), 1);
    letters_delivered(lf.letters, claim.letters, 1, answer_done, &a);
    await(&lf, &a);
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letters"), 0);
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letter_bodies"), 0);
    answer_free(&claim);
    letters_close(&lf);
}

// The event ran and failed again before the delivery of its last letter was marked: the new letter must stay.
static void a_letter_put_again_outlives_the_mark_of_the_old_claim(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct id id = put_due(&lf, "x", 1);
    struct answer claim, a = {0};
    assert_int_equal(claim_due(&lf, clock_unix_ms(), &claim), 1);
    put_version(&lf, &id, "again", "[{},{}]");
    letters_delivered(lf.letters, claim.letters, 1, answer_done, &a);
    await(&lf, &a);
    assert_version(&lf, &id, "again", 2);
    a = (struct answer){0};
    letters_unclaim(lf.letters, claim.letters, 1, 1, answer_done, &a);
    await(&lf, &a);
    assert_true(letter_is(&lf, &id, "dead"));
    answer_free(&claim);
    letters_close(&lf);
}

static void an_unclaimed_letter_can_be_claimed_at_its_new_time(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    int64_t now = clock_unix_ms();
    put_due(&lf, "x", 1);
    struct answer claim, a = {0}, again;
    assert_int_equal(claim_due(&lf, now, &claim), 1);
    letters_unclaim(lf.letters, claim.letters, 1, now + 5000, answer_done, &a);
    await(&lf, &a);
    assert_int_equal(claim_due(&lf, now, &again), 0);
    answer_free(&again);
    assert_int_equal(claim_due(&lf, now + 5000, &again), 1);
    answer_free(&claim);
    answer_free(&again);
    letters_close(&lf);
}

static void a_renewed_claim_has_a_new_name(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    put_due(&lf, "x", 1);
    struct answer claim, a = {0};
    assert_int_equal(claim_due(&lf, clock_unix_ms(), &claim), 1);
    letters_renew(lf.letters, claim.letters, 1, 120000, answer_number, &a);
    await(&lf, &a);
    assert_true(a.number > claim.letters[0].lease_ms);
    struct letter renewed = {.id = claim.letters[0].id, .lease_ms = a.number};
    a = (struct answer){0};
    letters_delivered(lf.letters, claim.letters, 1, answer_done, &a); // by the old name
    await(&lf, &a);
    assert_int_equal(count_letters(&lf, "due"), 1);
    a = (struct answer){0};
    letters_delivered(lf.letters, &renewed, 1, answer_done, &a);
    await(&lf, &a);
    assert_int_equal(count_letters(&lf, "due"), 0);
    answer_free(&claim);
    letters_close(&lf);
}

static void what_an_operator_gave_up_is_not_brought_back(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct id id = put_due(&lf, "old", 1);
    struct answer claim, a = {0};
    assert_int_equal(claim_due(&lf, clock_unix_ms(), &claim), 1);
    letters_discard(lf.letters, &(struct letter_change){.sel = these(&id, 1), .limit = 1}, answer_json, &a);
    await(&lf, &a);
    assert_int_equal(number_in(a.json, "discarded"), 1);
    answer_free(&a);
    letters_unclaim(lf.letters, claim.letters, 1, 1, answer_done, &a);
    await(&lf, &a);
    assert_true(letter_is(&lf, &id, "discarded"));
    put_version(&lf, &id, "late failure", "[{}]");
    assert_true(letter_is(&lf, &id, "discarded"));
    answer_free(&claim);
    letters_close(&lf);
}

static void the_next_due_time_is_that_of_the_earliest_that_nobody_holds(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    struct answer a = {0}, claim;
    letters_next_due(lf.letters, answer_number, &a);
    await(&lf, &a);
    assert_int_equal(a.number, 0);
    put_due(&lf, "x", 1000);
    put_due(&lf, "y", 4102444800000);
    a = (struct answer){0};
    letters_next_due(lf.letters, answer_number, &a);
    await(&lf, &a);
    assert_int_equal(a.number, 1000);
    assert_int_equal(claim_due(&lf, clock_unix_ms(), &claim), 1);
    a = (struct answer){0};
    letters_next_due(lf.letters, answer_number, &a);
    await(&lf, &a);
    assert_int_equal(a.number, 4102444800000);
    answer_free(&claim);
    letters_close(&lf);
}

#define CASE(fn) {#fn, fn, STORE_BOTH}

int main(void) {
    const struct store_case cases[] = {
        CASE(a_letter_shows_the_whole_event),
        CASE(a_due_letter_says_when),
        CASE(an_unknown_letter_is_not_found),
        CASE(a_history_that_is_no_text_does_not_keep_a_letter_out),
        CASE(a_letter_put_again_is_replaced_only_while_nobody_decided_about_it),
        CASE(the_letters_of_one_turn_are_all_written_and_the_last_word_of_one_counts),
        CASE(the_last_word_of_one_letter_counts_however_they_come_together),
        CASE(a_job_may_write_a_letter_twice),
        CASE(a_letter_that_cannot_be_stored_hurts_only_itself),
        CASE(pages_give_every_letter_once),
        CASE(a_wrong_page_is_refused_in_words),
        CASE(whole_letters_come_in_pages_of_bounded_size),
        CASE(histories_count_for_the_size_of_a_page),
        CASE(edits_count_for_the_size_of_a_page),
        CASE(originals_count_for_the_size_of_a_page),
        CASE(a_letter_over_the_size_of_a_page_has_one_of_its_own),
        CASE(a_secret_is_masked_in_what_is_shown_and_not_in_what_runs),
        CASE(letters_are_counted_by_function_and_state),
        CASE(a_sample_is_spread_over_the_selection_and_changes_nothing),
        CASE(a_sample_has_some_of_what_comes_every_so_often),
        CASE(a_due_letter_is_claimed_by_one_and_only_when_it_is_due),
        CASE(what_is_claimed_is_what_was_put),
        CASE(a_delivered_letter_is_gone),
        CASE(a_letter_put_again_outlives_the_mark_of_the_old_claim),
        CASE(an_unclaimed_letter_can_be_claimed_at_its_new_time),
        CASE(a_renewed_claim_has_a_new_name),
        CASE(what_an_operator_gave_up_is_not_brought_back),
        CASE(the_next_due_time_is_that_of_the_earliest_that_nobody_holds),
    };
    return store_run_cases(cases, array_len(cases));
}
