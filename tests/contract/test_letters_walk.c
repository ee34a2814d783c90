// SPDX-License-Identifier: Apache-2.0
// Pages of a selection that finds few among many, over both stores: each letter once and in order, wherever PostgreSQL's walks begin and end.
#include <stdlib.h>

#include "tests/support/letter_rows.h"

#define COUNT 60000 // more than the walks of dlq/letters_read.c see; the others are looked at in another way
#define WALK 10000

static struct letter_row rows[COUNT]; // the oldest first

// Around the ends of walks, from both sides and for a function that has every second letter; and some that no walk comes to.
static bool is_rare(size_t i) {
    for (size_t walk = 0; walk <= 5; walk++)
        for (size_t step = 1; step <= 2; step++) {
            size_t at = walk * WALK * step;
            if (i == at || i + 1 == at || COUNT - 1 - i == at || COUNT - i == at) return true;
        }
    return i % 7001 == 5;
}

static const char *const functions[] = {"orders", "mail"};

static void fill(struct letters_fixture *lf) {
    for (size_t i = 0; i < COUNT; i++)
        rows[i] = (struct letter_row){.function = functions[i % 2],
                                      .died_ms = 1700000000000 + (int64_t)i,
                                      .fingerprint = 1 + i % 3,
                                      .version = 1,
                                      .error_type = is_rare(i) ? "Rare" : "Often"};
    letter_rows_add(lf, rows, COUNT);
}

static size_t next_expected(const struct select_spec *spec, bool oldest, size_t from) {
    for (size_t i = from; i < COUNT; i++) {
        const struct letter_row *row = &rows[oldest ? i : COUNT - 1 - i];
        bool function = !spec->function.len || str_is(spec->function, row->function);
        bool group = !spec->group.len || row->fingerprint == 2;
        if (function && group && str_is(spec->error_type, row->error_type)) return i;
    }
    return COUNT;
}

// Goes through all pages.
static void expect_pages(struct letters_fixture *lf, const struct select_spec *spec, bool oldest, size_t limit) {
    char cursor[ID_TEXT_BYTES] = "", id[ID_TEXT_BYTES];
    size_t at = 0;
    for (bool more = true; more;) {
        json_t *page = list_letters(lf, selected(spec), &(struct letter_page){.after = str_of(cursor), .oldest_first = oldest, .limit = limit});
        const json_t *letters = json_object_get(page, "letters"), *letter;
        size_t i;
        json_array_foreach(letters, i, letter) {
            at = next_expected(spec, oldest, at);
            assert_true(at < COUNT);
            id_format(&rows[oldest ? at : COUNT - 1 - at].id, id);
            assert_string_equal(text_in(letter, "id"), id);
            at++;
        }
        const json_t *next = json_object_get(page, "next");
        more = json_is_string(next);
        if (more) MUST(text_format(cursor, sizeof cursor, "%s", json_string_value(next)) == 0);
        json_decref(page);
    }
    assert_int_equal(next_expected(spec, oldest, at), COUNT);
}

static void a_rare_letter_is_found_once_and_in_order(void **state) {
    struct letters_fixture lf;
    letters_open(&lf, *state, NULL);
    fill(&lf);
    const struct select_spec specs[] = {
        {.error_type = STR_LIT("Rare"), .state = STR_LIT("dead")},
        {.error_type = STR_LIT("Rare"), .function = STR_LIT("mail"), .state = STR_LIT("dead")},
        {.error_type = STR_LIT("Rare"), .group = STR_LIT("0000000000000002")},
        {.error_type = STR_LIT("None")},
    };
    for (size_t i = 0; i < array_len(specs); i++)
        for (int oldest = 0; oldest < 2; oldest++) {
            expect_pages(&lf, &specs[i], oldest, 1000);
            expect_pages(&lf, &specs[i], oldest, 3);
        }
    letters_close(&lf);
}

int main(void) {
    const struct store_case cases[] = {{"a_rare_letter_is_found_once_and_in_order", a_rare_letter_is_found_once_and_in_order, STORE_BOTH}};
    return store_run_cases(cases, array_len(cases));
}
