// SPDX-License-Identifier: Apache-2.0
// The contract of dlq/groups.h over both databases: the numbers are those that one gets by counting, and what people say of a group stays.
#include "dlq/groups.h"

#include <stdlib.h>

#include "dlq/fingerprint.h"
#include "tests/support/letter_rows.h"

#define HOUR_MS INT64_C(3600000)
#define GROUP_COUNT 80 // more than are asked for at once
#define ROWS 3000

static struct groups *groups;

static void open_groups(struct letters_fixture *lf, void **state, const char *redact) {
    letters_open(lf, *state, redact);
    groups = groups_new(lf->fx->loop, lf->fx->store, lf->reader, lf->redact);
}

static void close_groups(struct letters_fixture *lf) {
    groups_free(TAKE_PTR(groups));
    letters_close(lf);
}

static json_t *list(struct letters_fixture *lf, struct groups_page page) {
    struct answer a = {0};
    if (!page.limit) page.limit = GROUPS_MAX;
    groups_list(groups, &page, answer_json, &a);
    await(lf, &a);
    return a.json;
}

static json_t *show(struct letters_fixture *lf, const char *which) {
    struct answer a = {0};
    groups_show(groups, str_of(which), answer_json, &a);
    await(lf, &a);
    return a.json;
}

struct said {
    struct str name, note;
    int muted;
};
#define UNSAID -1

static void say(const char *which, struct said said, struct answer *a) {
    *a = (struct answer){0};
    groups_describe(groups, str_of(which), said.name, said.note, said.muted, STR_LIT("ana"), answer_json, a);
}

static json_t *describe(struct letters_fixture *lf, const char *which, struct said said) {
    struct answer a;
    say(which, said, &a);
    await(lf, &a);
    return a.json;
}

static void expect_refused(struct letters_fixture *lf, const char *which, struct said said, int code, const char *says) {
    struct answer a;
    say(which, said, &a);
    await_refusal(lf, &a, code, says);
}

static struct said name_of(const char *name) {
    return (struct said){.name = str_of(name), .muted = UNSAID};
}

// --- numbers ------------------------------------------------------------------------------------------------------------------

static uint64_t fingerprint_nr(size_t group) {
    return (group + 1) * UINT64_C(0x9e3779b97f4a7c15); // about half of them are negative in the store
}

static const char *const functions[] = {"orders", "billing", "mail"};

static const char *function_of(size_t group) {
    return functions[group % array_len(functions)];
}

// Letters that died within the last two days, in the middle of some bucket of a sparkline, and a few that died in future; big groups and small ones.
static struct letter_row *random_rows(int64_t now_ms, int64_t bucket_ms) {
    static const char *const states[] = {"dead", "dead", "dead", "dead", "dead", "replayed", "discarded", "due", "replaying"};
    struct letter_row *rows = mem_zalloc(ROWS * sizeof *rows);
    uint64_t seed = 3;
    for (size_t i = 0; i < ROWS; i++) {
        size_t group = next_random(&seed) % (1 + next_random(&seed) % GROUP_COUNT);
        rows[i].function = function_of(group);
        rows[i].state = states[next_random(&seed) % array_len(states)];
        rows[i].fingerprint = fingerprint_nr(group);
        rows[i].version = next_random(&seed) % 20;
        rows[i].died_ms = now_ms - (int64_t)(next_random(&seed) % 49) * bucket_ms + bucket_ms / 2 + next_random(&seed) % (bucket_ms / 4);
    }
    return rows;
}

struct counted {
    int64_t count, first_ms, last_ms, first_version, last_version, spark[GROUP_SPARK];
};

static struct counted count_rows(const struct letter_row *rows, uint64_t fingerprint, int64_t now_ms, int64_t bucket_ms, int64_t since_ms) {
    struct counted c = {.first_ms = INT64_MAX, .first_version = INT64_MAX};
    for (size_t i = 0; i < ROWS; i++) {
        const struct letter_row *r = &rows[i];
        if (r->fingerprint != fingerprint || strcmp(r->state, "dead") != 0 || r->died_ms < since_ms) continue;
        int64_t begins_ms = now_ms - GROUP_SPARK * bucket_ms, at = (r->died_ms - begins_ms) / bucket_ms;
        c.count++;
        if (r->died_ms < c.first_ms) c.first_ms = r->died_ms;
        if (r->died_ms > c.last_ms) c.last_ms = r->died_ms;
        if (r->version < c.first_version) c.first_version = r->version;
        if (r->version > c.last_version) c.last_version = r->version;
        if (r->died_ms >= begins_ms) c.spark[at < GROUP_SPARK ? at : GROUP_SPARK - 1]++;
    }
    return c;
}

static void expect_numbers(const json_t *group, const struct counted *c) {
    const json_t *spark = array_in(group, "spark", GROUP_SPARK);
    assert_int_equal(number_in(group, "count"), c->count);
    assert_int_equal(number_in(group, "firstMs"), c->first_ms);
    assert_int_equal(number_in(group, "lastMs"), c->last_ms);
    assert_int_equal(number_in(group, "firstVersion"), c->first_version);
    assert_int_equal(number_in(group, "lastVersion"), c->last_version);
    for (size_t i = 0; i < GROUP_SPARK; i++)
        if (json_integer_value(json_array_get(spark, i)) != c->spark[i])
            fail_msg("bucket %zu of %s: %lld is not %lld", i, text_in(group, "group"), json_integer_value(json_array_get(spark, i)),
                     (long long)c->spark[i]);
}

static const json_t *group_in(const json_t *answer, uint64_t fingerprint) {
    char text[FINGERPRINT_TEXT_BYTES];
    size_t i;
    const json_t *group;
    fingerprint_format(fingerprint, text);
    json_array_foreach(json_object_get(answer, "groups"), i, group) if (strcmp(text_in(group, "group"), text) == 0) return group;
    return NULL;
}

// Every group that has letters, with its numbers, and nothing else; those with most letters first.
static void expect_all(const json_t *answer, const struct letter_row *rows, int64_t now_ms, int64_t bucket_ms, int64_t since_ms,
                       const char *function) {
    const json_t *all = json_object_get(answer, "groups");
    int64_t found = 0, letters = 0;
    for (size_t g = 0; g < GROUP_COUNT; g++) {
        struct counted c = count_rows(rows, fingerprint_nr(g), now_ms, bucket_ms, since_ms);
        const json_t *group = group_in(answer, fingerprint_nr(g));
        bool wanted = c.count && (!function || strcmp(function, function_of(g)) == 0);
        assert_int_equal(wanted, group != NULL);
        if (!wanted) continue;
        expect_numbers(group, &c);
        assert_string_equal(json_string_value(json_array_get(array_in(group, "functions", 1), 0)), function_of(g));
        found++;
        letters += c.count;
    }
    assert_int_equal(json_array_size(all), found);
    assert_int_equal(number_in(answer, "letters"), letters);
    assert_false(bool_in(answer, "more"));
    for (size_t i = 1; i < json_array_size(all); i++)
        assert_true(number_in(json_array_get(all, i - 1), "count") >= number_in(json_array_get(all, i), "count"));
}

static void test_numbers_are_those_of_counting(void **state) {
    struct letters_fixture lf;
    open_groups(&lf, state, NULL);
    int64_t now_ms = clock_unix_ms(), spans_ms[] = {0, 12 * HOUR_MS, 48 * HOUR_MS}, since_ms[] = {0, now_ms - 30 * HOUR_MS, now_ms - 5 * HOUR_MS};
    struct letter_row *rows = random_rows(now_ms, HOUR_MS);
    letter_rows_add(&lf, rows, ROWS);
    for (size_t i = 0; i < array_len(since_ms); i++) {
        json_auto_t *all = list(&lf, (struct groups_page){.since_ms = since_ms[i]});
        json_auto_t *of_mail = list(&lf, (struct groups_page){.since_ms = since_ms[i], .function = STR_LIT("mail")});
        expect_all(all, rows, now_ms, HOUR_MS, since_ms[i], NULL);
        expect_all(of_mail, rows, now_ms, HOUR_MS, since_ms[i], "mail");
    }
    free(rows);
    for (size_t i = 0; i < array_len(spans_ms); i++) {
        int64_t bucket_ms = (spans_ms[i] ? spans_ms[i] : 24 * HOUR_MS) / GROUP_SPARK;
        sql(&lf, "DELETE FROM letters");
        rows = random_rows(now_ms, bucket_ms);
        letter_rows_add(&lf, rows, ROWS);
        json_auto_t *all = list(&lf, (struct groups_page){.spark_ms = spans_ms[i]});
        expect_all(all, rows, now_ms, bucket_ms, 0, NULL);
        free(rows);
    }
    close_groups(&lf);
}

static void test_one_group_has_the_numbers_of_the_list(void **state) {
    struct letters_fixture lf;
    open_groups(&lf, state, NULL);
    struct letter_row *rows = random_rows(clock_unix_ms(), HOUR_MS);
    letter_rows_add(&lf, rows, ROWS);
    json_auto_t *all = list(&lf, (struct groups_page){0});
    size_t i;
    const json_t *group;
    json_array_foreach(json_object_get(all, "groups"), i, group) {
        json_auto_t *one = show(&lf, text_in(group, "group"));
        assert_true(json_equal(one, group));
    }
    assert_true(i > GROUP_COUNT / 2);
    free(rows);
    close_groups(&lf);
}

// Whether there are more groups than are shown or not makes no difference to those that are.
static void test_every_limit_shows_the_beginning(void **state) {
    struct letters_fixture lf;
    open_groups(&lf, state, NULL);
    int64_t now_ms = clock_unix_ms();
    struct letter_row *rows = random_rows(now_ms, HOUR_MS);
    letter_rows_add(&lf, rows, ROWS);
    const struct groups_page pages[] = {{.since_ms = 0}, {.since_ms = now_ms - 3 * HOUR_MS}, {.function = STR_LIT("mail")}};
    for (size_t p = 0; p < array_len(pages); p++) {
        struct groups_page page = pages[p];
        json_auto_t *all = list(&lf, page);
        size_t there = json_array_size(json_object_get(all, "groups"));
        assert_in_range(there, 5, GROUP_COUNT);
        for (page.limit = 1; page.limit <= there + 1; page.limit += 1 + page.limit / 4) {
            json_auto_t *some = list(&lf, page);
            size_t shown = page.limit < there ? page.limit : there;
            assert_int_equal(json_array_size(json_object_get(some, "groups")), shown);
            assert_int_equal(bool_in(some, "more"), shown < there);
            for (size_t i = 0; i < shown; i++)
                assert_true(json_equal(json_array_get(json_object_get(some, "groups"), i), json_array_get(json_object_get(all, "groups"), i)));
        }
    }
    free(rows);
    close_groups(&lf);
}

static void test_limit(void **state) {
    struct letters_fixture lf;
    open_groups(&lf, state, NULL);
    struct letter_row rows[] = {{.fingerprint = 1, .died_ms = 1}, {.fingerprint = 2, .died_ms = 1}, {.fingerprint = 2, .died_ms = 1},
                                {.fingerprint = 3, .died_ms = 1}, {.fingerprint = 3, .died_ms = 1}, {.fingerprint = 3, .died_ms = 1},
                                {.fingerprint = 4, .died_ms = 1, .function = "mail"}};
    letter_rows_add(&lf, rows, array_len(rows));
    json_auto_t *two = list(&lf, (struct groups_page){.limit = 2}), *three = list(&lf, (struct groups_page){.limit = 3, .function = STR_LIT("orders")}),
                *less = list(&lf, (struct groups_page){.limit = 2, .function = STR_LIT("orders")}),
                *none = list(&lf, (struct groups_page){.function = STR_LIT("o' OR 1=1 --\xff")});
    const json_t *shown = array_in(two, "groups", 2);
    assert_string_equal(text_in(json_array_get(shown, 0), "group"), "0000000000000003");
    assert_string_equal(text_in(json_array_get(shown, 1), "group"), "0000000000000002");
    assert_int_equal(number_in(two, "letters"), 5);
    assert_true(bool_in(two, "more"));
    array_in(three, "groups", 3);
    assert_false(bool_in(three, "more"));
    array_in(less, "groups", 2);
    assert_true(bool_in(less, "more"));
    array_in(none, "groups", 0);
    close_groups(&lf);
}

// --- what it died of ------------------------------------------------------------------------------------------------------------

#define STACK                                                                                                                \
    "Traceback (most recent call last):\\n  File \\\"/code/orders.py\\\", line 12, in total\\n    return a\\nKeyError: 'x'\\n"

static void test_a_group_is_told_by_its_newest_letter(void **state) {
    struct letters_fixture lf;
    open_groups(&lf, state, "card");
    struct letter_row rows[] = {
        {.fingerprint = 5, .died_ms = 100, .error_type = "Old", .error_message = "old"},
        {.fingerprint = 5, .died_ms = 900, .error_type = "KeyError", .error_message = "no total for order 4711, card=4111222233334444",
         .history = "[{\"attempt\":1,\"stack\":\"\"},{\"attempt\":2,\"stack\":\"" STACK "\"}]"},
        {.fingerprint = 5, .died_ms = 950, .error_type = "Gone", .state = "replayed"},
        {.fingerprint = 6, .died_ms = 1, .error_type = "\xef\xbf\xbd", .history = "no JSON"},
        {.fingerprint = 7, .died_ms = 1, .error_type = "KeyError", .error_message = "'currency'"},
    };
    letter_rows_add(&lf, rows, array_len(rows));
    json_auto_t *group = show(&lf, "0000000000000005"), *broken = show(&lf, "0000000000000006"), *bare_name = show(&lf, "0000000000000007");
    char id[ID_TEXT_BYTES];
    id_format(&rows[1].id, id);
    assert_string_equal(text_in(group, "letter"), id);
    assert_string_equal(text_in(group, "errorType"), "KeyError");
    assert_non_null(strstr(text_in(group, "title"), "no total for order"));
    assert_null(strstr(text_in(group, "title"), "4711"));
    assert_null(strstr(text_in(group, "title"), "4111"));
    assert_non_null(strstr(text_in(group, "place"), "total"));
    assert_non_null(strstr(text_in(group, "place"), "orders.py"));
    assert_string_equal(text_in(broken, "place"), "");
    assert_string_equal(text_in(bare_name, "title"), "'currency'"); // masked, nothing is left of it
    sql(&lf, "DELETE FROM letter_bodies");
    json_auto_t *bare = show(&lf, "0000000000000005");
    assert_string_equal(text_in(bare, "errorType"), "KeyError");
    close_groups(&lf);
}

// --- what people say ------------------------------------------------------------------------------------------------------------

#define A "000000000000000a"
#define B "000000000000000b"
static void add_two(struct letters_fixture *lf) {
    struct letter_row rows[] = {{.fingerprint = 10, .died_ms = 1}, {.fingerprint = 11, .died_ms = 2}, {.fingerprint = 11, .died_ms = 3}};
    letter_rows_add(lf, rows, array_len(rows));
}

static void test_what_is_not_said_stays(void **state) {
    struct letters_fixture lf;
    open_groups(&lf, state, NULL);
    add_two(&lf);
    json_auto_t *named = describe(&lf, A, name_of("no-total.v1_X"));
    assert_string_equal(text_in(named, "name"), "no-total.v1_X");
    assert_string_equal(text_in(named, "note"), "");
    assert_int_equal(number_in(named, "count"), 1);
    json_auto_t *noted = describe(&lf, "no-total.v1_X", (struct said){.note = STR_LIT("look at \xc3\xa4\n'; DROP TABLE letters --"), .muted = UNSAID});
    assert_string_equal(text_in(noted, "name"), "no-total.v1_X");
    json_auto_t *muted = describe(&lf, A, (struct said){.muted = 1});
    assert_string_equal(text_in(muted, "group"), A);
    assert_string_equal(text_in(muted, "name"), "no-total.v1_X");
    assert_string_equal(text_in(muted, "note"), "look at \xc3\xa4\n'; DROP TABLE letters --");
    assert_true(bool_in(muted, "muted"));
    json_auto_t *renamed = describe(&lf, A, name_of("other"));
    assert_true(bool_in(renamed, "muted"));
    assert_string_equal(text_in(renamed, "note"), text_in(muted, "note"));
    json_auto_t *unnamed = describe(&lf, "other", name_of(""));
    assert_string_equal(text_in(unnamed, "name"), "");
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letter_groups WHERE who = 'ana' AND changed_ms > 0"), 1);
    close_groups(&lf);
}

static void test_names_are_unique(void **state) {
    struct letters_fixture lf;
    open_groups(&lf, state, NULL);
    add_two(&lf);
    json_auto_t *a = describe(&lf, A, name_of("total"));
    expect_refused(&lf, B, name_of("total"), ERR_CONFLICT, "another group has the name total");
    json_auto_t *again = describe(&lf, A, name_of("total")), *b = describe(&lf, B, name_of("Total")); // names regard case
    json_auto_t *shown = show(&lf, "total");
    assert_string_equal(text_in(shown, "group"), A);
    json_auto_t *free_a = describe(&lf, A, name_of("")), *free_b = describe(&lf, B, name_of("")); // having none is no name
    json_auto_t *now_b = describe(&lf, B, name_of("total"));
    assert_string_equal(text_in(now_b, "group"), B);
    close_groups(&lf);
}

static void test_names_that_are_none(void **state) {
    struct letters_fixture lf;
    char longest[GROUP_NAME_MAX + 2];
    open_groups(&lf, state, NULL);
    add_two(&lf);
    const struct str wrong[] = {STR_LIT("a b"), STR_LIT("a'b"), STR_LIT("a\"; --"), STR_LIT("a\0b"), STR_LIT("\xc3\xa4"), STR_LIT("\xff"),
                                STR_LIT("a/b"), STR_LIT("a\n"), STR_LIT("%")};
    for (size_t i = 0; i < array_len(wrong); i++)
        expect_refused(&lf, A, (struct said){.name = wrong[i], .muted = UNSAID}, ERR_INVALID, "a group's name has up to 100 letters");
    expect_refused(&lf, A, name_of("0123456789abcdef"), ERR_INVALID, "16 hex digits");
    expect_refused(&lf, A, name_of("DEADBEEFDEADBEEF"), ERR_INVALID, "16 hex digits");
    memset(longest, 'x', sizeof longest);
    longest[GROUP_NAME_MAX + 1] = 0;
    expect_refused(&lf, A, name_of(longest), ERR_INVALID, "a group's name has up to 100 letters");
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letter_groups"), 0);
    longest[GROUP_NAME_MAX] = 0;
    json_auto_t *a = describe(&lf, A, name_of(longest)), *b = describe(&lf, B, name_of("0123456789abcde"));
    json_auto_t *by_name = show(&lf, longest);
    assert_string_equal(text_in(by_name, "group"), A);
    close_groups(&lf);
}

static void test_groups_that_are_none(void **state) {
    static const char *const nobodys[] = {"0000000000000007", "", "nobody", "' OR '1'='1", "\xff\xfe", "%", "$1", "10", "000000000000000"};
    struct letters_fixture lf;
    open_groups(&lf, state, NULL);
    add_two(&lf);
    json_auto_t *a = describe(&lf, A, name_of("total")), *b = describe(&lf, B, (struct said){.muted = 1});
    for (size_t i = 0; i < array_len(nobodys); i++) {
        struct answer answer = {0};
        groups_show(groups, str_of(nobodys[i]), answer_json, &answer);
        await_refusal(&lf, &answer, ERR_NOT_FOUND, "there is no group");
        expect_refused(&lf, nobodys[i], name_of("x"), ERR_NOT_FOUND, "there is no group");
    }
    struct answer answer = {0};
    groups_show(groups, STR_LIT("total\0x"), answer_json, &answer);
    await_refusal(&lf, &answer, ERR_NOT_FOUND, "there is no group");
    assert_int_equal(sql_number(&lf, "SELECT count(*) FROM letter_groups"), 2);
    close_groups(&lf);
}

static void test_notes_have_an_end(void **state) {
    struct letters_fixture lf;
    char note[GROUP_NOTE_MAX + 1];
    open_groups(&lf, state, NULL);
    add_two(&lf);
    memset(note, 'n', sizeof note);
    expect_refused(&lf, A, (struct said){.note = {note, GROUP_NOTE_MAX + 1}, .muted = UNSAID}, ERR_TOO_LARGE, "at most 4096 bytes");
    json_auto_t *whole = describe(&lf, A, (struct said){.note = {note, GROUP_NOTE_MAX}, .muted = UNSAID});
    assert_int_equal(strlen(text_in(whole, "note")), GROUP_NOTE_MAX);
    memset(note, 0xff, sizeof note); // each becomes three bytes
    json_auto_t *cut = describe(&lf, A, (struct said){.note = {note, GROUP_NOTE_MAX}, .muted = UNSAID});
    assert_int_equal(strlen(text_in(cut, "note")), GROUP_NOTE_MAX / 3 * 3);
    json_auto_t *none = describe(&lf, A, (struct said){.note = STR_LIT(""), .muted = UNSAID});
    assert_string_equal(text_in(none, "note"), "");
    close_groups(&lf);
}

static void test_muted_ones_are_hidden_unless_asked_for(void **state) {
    struct letters_fixture lf;
    open_groups(&lf, state, NULL);
    add_two(&lf);
    json_auto_t *muted = describe(&lf, B, (struct said){.muted = 1});
    json_auto_t *few = list(&lf, (struct groups_page){.limit = 1}), *all = list(&lf, (struct groups_page){.muted = true});
    array_in(few, "groups", 1);
    assert_non_null(group_in(few, 10));
    assert_int_equal(number_in(few, "letters"), 1);
    assert_false(bool_in(few, "more"));
    array_in(all, "groups", 2);
    assert_true(bool_in(group_in(all, 11), "muted"));
    json_auto_t *shown = show(&lf, B);
    assert_int_equal(number_in(shown, "count"), 2);
    json_auto_t *heard = describe(&lf, B, (struct said){.muted = 0});
    json_auto_t *both = list(&lf, (struct groups_page){0});
    array_in(both, "groups", 2);
    close_groups(&lf);
}

// What was said of a group outlives its letters, for when it comes back.
static void test_a_group_without_letters(void **state) {
    struct letters_fixture lf;
    open_groups(&lf, state, NULL);
    add_two(&lf);
    json_auto_t *named = describe(&lf, A, name_of("total"));
    sql(&lf, "UPDATE letters SET state = 'replayed'");
    json_auto_t *shown = show(&lf, "total"), *all = list(&lf, (struct groups_page){.muted = true});
    assert_string_equal(text_in(shown, "group"), A);
    assert_int_equal(number_in(shown, "count"), 0);
    assert_true(json_is_null(json_object_get(shown, "lastMs")));
    assert_true(json_is_null(json_object_get(shown, "letter")));
    assert_true(json_is_null(json_object_get(shown, "firstVersion")));
    assert_string_equal(text_in(shown, "title"), "");
    array_in(shown, "functions", 0);
    array_in(shown, "spark", GROUP_SPARK);
    array_in(all, "groups", 0);
    struct answer a = {0};
    groups_show(groups, STR_LIT(B), answer_json, &a); // of that nobody said anything
    await_refusal(&lf, &a, ERR_NOT_FOUND, "there is no group");
    close_groups(&lf);
}

int main(void) {
    static const struct store_case cases[] = {
        {"numbers are those of counting", test_numbers_are_those_of_counting, STORE_BOTH},
        {"one group has the numbers of the list", test_one_group_has_the_numbers_of_the_list, STORE_BOTH},
        {"every limit shows the beginning", test_every_limit_shows_the_beginning, STORE_BOTH},
        {"limit", test_limit, STORE_BOTH},
        {"a group is told by its newest letter", test_a_group_is_told_by_its_newest_letter, STORE_BOTH},
        {"what is not said stays", test_what_is_not_said_stays, STORE_BOTH},
        {"names are unique", test_names_are_unique, STORE_BOTH},
        {"names that are none", test_names_that_are_none, STORE_BOTH},
        {"groups that are none", test_groups_that_are_none, STORE_BOTH},
        {"notes have an end", test_notes_have_an_end, STORE_BOTH},
        {"muted ones are hidden unless asked for", test_muted_ones_are_hidden_unless_asked_for, STORE_BOTH},
        {"a group without letters", test_a_group_without_letters, STORE_BOTH},
    };
    return store_run_cases(cases, array_len(cases));
}
