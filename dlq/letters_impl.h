// SPDX-License-Identifier: Apache-2.0
// Shared between the files that make up dlq/letters, and with dlq/fires, dlq/replays and dlq/policies, which work on the same rows.
//
//   letters.c         states, kinds, writing
//   letters_row.c     parts of a row: headers, the event without its payload, an event out of a row
//   letters_read.c    lists, one letter, counts, samples
//   letters_find.c    finding the letters that a change means, on the reader
//   letters_change.c  discard, restore, retry, purge
//   letters_edit.c    edits
//   letters_import.c  import
//   letters_move.c    claims of due letters
//   letters_upgrade.c  what letters from before a migration lack
#ifndef DLQ_LETTERS_IMPL_H
#define DLQ_LETTERS_IMPL_H

#include "core/base/buf.h"
#include "core/redact.h"
#include "dlq/letters.h"

struct put_item;
struct upgrade;

struct letters {
    struct loop *loop;
    struct store *store, *reader;
    const struct redact *redact;
    struct put_item *put_first, **put_last; // drafts that are to be written next
    size_t put_count, put_jobs; // drafts that wait; jobs that write others
    struct defer put_flush;
    struct upgrade *upgrade; // NULL: not asked for
};

void letters_flush_puts(void *letters); // at the end of a turn
// Inside run: writes them, held until lease_ms (0: by nobody).
int letters_sql_put(struct sql *sql, const struct letter_draft *drafts, size_t count, int64_t lease_ms, struct err *err) must_use;

void letters_upgrade_free(struct upgrade *u);

// --- parts of a row -------------------------------------------------------------------------------------------------
// Valid as long as the id.
static inline struct sql_value letters_sql_id(const struct id *id) {
    return SQL_B(((struct str){(const char *)id->bytes, sizeof id->bytes}));
}
struct id letters_row_id(const struct sql_row *row, int column); // none when it is NULL
sql_row_fn letters_take_int; // arg: an int64_t, the first column
// The column `headers`: names in lower case, values of one name with ", " between them; cleaned.
void letters_append_headers(struct buf *out, const struct ev_fields *f);
void letters_append_clean(struct buf *out, struct str s); // a text column
// The column `event`: the encoded event without payload and history.
int letters_append_envelope(struct buf *out, const struct ev *ev, struct err *err) must_use;
// An event out of its rows. accepted_ms: the row's, which is another than the envelope's when the letter waited for its turn.
int letter_event(struct str envelope, struct str payload, struct str history, int64_t accepted_ms, struct ev **ret, struct err *err)
    must_use;

// Whole letters out of rows whose columns begin so; unreadable ones are left out and show in a listing only.
#define LETTERS_TAKE                                                                                                        \
    "id, payload, accepted_ms, (SELECT b.event FROM letter_bodies b WHERE b.id = letters.id),"                             \
    " (SELECT b.history FROM letter_bodies b WHERE b.id = letters.id), fingerprint"
struct letter_list {
    struct letter *at;
    size_t count, room, bytes; // bytes: of payloads
    int64_t lease_ms;          // goes into each
};
sql_row_fn letters_take; // arg: struct letter_list
void letter_list_sort(struct letter_list *list); // by id
void letter_list_clear(struct letter_list *list); // frees the events
void letter_list_done(struct letter_list *list);  // and the array

// What the column `json` says of a payload: 0, or 1 when it can be asked about; in SQLite 2 when its paths do not find all names or the last of
// those that are there twice, as PostgreSQL does (dlq/select_member.c).
int64_t letters_json_column(struct str payload, bool postgres);

// --- JSON for people --------------------------------------------------------------------------------------------------
json_t *letters_json_text(struct str s) must_use;              // any bytes: what is not UTF-8 becomes U+FFFD
json_t *letters_json_id(const struct id *id) must_use;         // null for none
json_t *letters_json_patch(struct str patch) must_use;
// Sets "payload" (text) or "payloadBase64"; masked by redact. Returns whether something was masked.
bool letters_set_payload(json_t *o, struct str payload, const struct redact *redact);
json_t *letters_json_headers(const struct ev_fields *f, const struct redact *redact) must_use; // [[name, value]…], of any bytes (dlq/json_bytes.h)
// Sets "headers", "trace", "shape", and "orderingKey" and "contentType" exactly as the event has them. Returns whether something was masked.
bool letters_set_envelope(json_t *o, const struct ev_fields *f, const struct redact *redact);

// A letter out of the JSON of letters_show. ret->ev belongs to the caller; texts point into the JSON.
int letter_draft_of_json(const json_t *o, struct letter_draft *ret, struct err *err) must_use;

// --- finding: letters_find.c ------------------------------------------------------------------------------------------------
// Where a change goes on: behind this letter, with those that died (of those that are not dead: changed) no later than then.
struct letters_place {
    struct id after;
    int64_t as_of_ms;   // 0: at the beginning
};
int letters_place_parse(struct str cursor, struct letters_place *ret, struct err *err) must_use; // empty: the beginning
json_t *letters_place_json(const struct letters_place *place, const struct id *last, int64_t now_ms) must_use; // the next cursor
struct letters_which {
    const struct selection *sel;
    const char *condition;      // SQL of this program, beside sel; @ stands for now_ms
    const char *order;          // NULL: by id
    struct letters_place place;
    int64_t now_ms;
    size_t limit;
};
struct letters_found {
    struct id *ids;             // the caller frees them
    size_t count, room;
};
int letters_sql_find(struct sql *sql, const struct letters_which *which, struct letters_found *ret, struct err *err) must_use;
// The error of a job that looked for letters, in words for people. Returns the code.
int letters_find_failed(int code, const struct err *err, struct err *ret);
void letters_sql_add(struct select_sql *q, const char *text, int64_t now_ms); // text with now_ms as a value for each @
struct selection *letters_selection(const struct id *ids, size_t count) must_use; // exactly these, 1 to SELECT_IDS_MAX

// What became of ids that a change left as they were: {"id","state","why"} for each is appended to `refused`.
int letters_sql_refused(struct sql *sql, const struct id *ids, size_t count, json_t *refused, struct err *err) must_use;
// Deletes the letters' other rows.
int letters_sql_forget(struct sql *sql, const struct id *ids, size_t count, struct err *err) must_use;

#endif
