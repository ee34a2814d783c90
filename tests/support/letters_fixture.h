// SPDX-License-Identifier: Apache-2.0
// Letters over a store of one kind, empty at the start, with a reader beside it; answers that are waited for.
//
// Flow: letters_open at the beginning of a case of store_fixture -> … -> letters_close at its end. Threads: the test's.
#ifndef TESTS_SUPPORT_LETTERS_FIXTURE_H
#define TESTS_SUPPORT_LETTERS_FIXTURE_H

#include <jansson.h>

#include "core/redact.h"
#include "dlq/letters.h"
#include "tests/support/store_fixture.h"

struct letters_fixture {
    struct store_fixture *fx;
    struct store *reader;
    struct redact *redact;
    struct letters *letters;
};
void letters_open(struct letters_fixture *lf, struct store_fixture *fx, const char *redact); // names that are masked, or NULL
void letters_close(struct letters_fixture *lf);

// --- answers ------------------------------------------------------------------------------------------------------------
struct answer {
    bool done;
    int code;
    struct err err;
    json_t *json;
    struct letter *letters;
    size_t count;
    int64_t number;
};
letter_done_fn answer_done;
letters_json_fn answer_json;
letters_claim_fn answer_claim;
void answer_number(void *arg, int code, int64_t number); // a time
void await(struct letters_fixture *lf, struct answer *a); // fails the test on an error
void await_refusal(struct letters_fixture *lf, struct answer *a, int code, const char *says);
void answer_free(struct answer *a); // its JSON, its letters and their events; it is empty again

// Of an object; a member that is not there, or is of another type, fails the test.
int64_t number_in(const json_t *o, const char *name);
const char *text_in(const json_t *o, const char *name);
bool bool_in(const json_t *o, const char *name);
const json_t *array_in(const json_t *o, const char *name, size_t count); // of exactly so many

// --- letters ------------------------------------------------------------------------------------------------------------
struct selection *selected(const struct select_spec *spec); // fails the test when it is wrong
struct selection *where(const char *expression);
struct selection *these(const struct id *ids, size_t count);

// Dead or due (an hour ago) of KeyError('x') in version 3, with a history of one attempt when f has none.
struct id put_letter(struct letters_fixture *lf, const struct ev_fields *f, enum letter_state state);
struct id put_text(struct letters_fixture *lf, const char *function, const char *payload, enum letter_state state);
json_t *show_letter(struct letters_fixture *lf, const struct id *id);
bool letter_is(struct letters_fixture *lf, const struct id *id, const char *state); // "": it is not there
json_t *list_letters(struct letters_fixture *lf, struct selection *sel, const struct letter_page *page);
size_t count_letters(struct letters_fixture *lf, const char *state); // up to 1000

// --- behind their back ----------------------------------------------------------------------------------------------------
void sql(struct letters_fixture *lf, const char *text);               // one statement, without values
int64_t sql_number(struct letters_fixture *lf, const char *text);     // the first column of its last row; -1: none
void sql_of(struct letters_fixture *lf, const char *text, const struct id *id); // $1 is the id

#endif
