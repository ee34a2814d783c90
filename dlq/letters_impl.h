// SPDX-License-Identifier: Apache-2.0
// Shared between the files that make up dlq/letters, and with dlq/fires, whose letters are written with their rows.
#ifndef DLQ_LETTERS_IMPL_H
#define DLQ_LETTERS_IMPL_H

#include "core/base/buf.h"
#include "dlq/letters.h"

struct put_item;

struct letters {
    struct loop *loop;
    struct store *store;
    struct put_item *put_first, **put_last; // drafts of this turn
    size_t put_count;
    struct defer put_flush;
};

void letters_flush_puts(void *letters); // at the end of a turn
// Inside run: writes them, held until lease_ms (0: by nobody).
int letters_sql_put(struct sql *sql, const struct letter_draft *drafts, size_t count, int64_t lease_ms, struct err *err) must_use;

// A filter that outlives its caller's spans. Its text has one owner: `text`.
struct filter_copy {
    struct letter_filter f;
    char *text;
    struct id *ids;
};
int filter_copy_init(struct filter_copy *copy, const struct letter_filter *f, const char *default_state, struct err *err)
    must_use;
void filter_copy_done(struct filter_copy *copy);
// The eight parameters of LETTERS_WHERE.
#define FILTER_VALUES 8
void filter_values(const struct filter_copy *copy, struct sql_value values[FILTER_VALUES]);
// $1 function, $2 state, $3 error type, $4 since, $5 until, $6 after, $7 only this id, $8 limit.
#define LETTERS_WHERE                                                                                                   \
    " WHERE ($1 = '' OR function = $1) AND ($2 = '' OR state = $2) AND ($3 = '' OR error_type = $3)"                    \
    " AND changed_ms >= $4 AND changed_ms < $5 AND id > $6 AND (id = $7 OR length($7) = 0)"

// An event out of its row: `envelope` is the encoded event without payload and history. accepted_ms: the row's, which is another when the
// letter waited for its turn.
int letter_event(struct str envelope, struct str payload, struct str history, int64_t accepted_ms, struct ev **ret, struct err *err)
    must_use;

#endif
