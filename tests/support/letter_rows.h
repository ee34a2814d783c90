// SPDX-License-Identifier: Apache-2.0
// Rows of letters as a test wants them, thousands at a time: with times, states and fingerprints that dlq/letters would not write.
//
// Threads: the test's. Errors: what cannot be done fails the running test.
#ifndef TESTS_SUPPORT_LETTER_ROWS_H
#define TESTS_SUPPORT_LETTER_ROWS_H

#include "tests/support/letters_fixture.h"

struct letter_row {
    struct id id;                     // set by letter_rows_add when it is none: of accepted_ms
    const char *function, *state;     // NULL: "orders", "dead"
    int64_t accepted_ms, died_ms, changed_ms; // accepted_ms 0: died_ms; changed_ms 0: died_ms
    uint64_t fingerprint;
    int64_t version;
    const char *error_type, *error_message, *history; // NULL: "", "", "[]"
};
void letter_rows_add(struct letters_fixture *lf, struct letter_row *rows, size_t count);
bool letter_row_is_there(struct letters_fixture *lf, const struct letter_row *row);

// The next of a row of numbers that look random; *state is its place in it.
uint32_t next_random(uint64_t *state);

#endif
