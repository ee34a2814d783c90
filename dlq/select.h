// SPDX-License-Identifier: Apache-2.0
// A selection: which letters. Words, times and an expression of the selection language, checked and compiled to SQL.
//
// The language (docs/selecting.md):
//   expression := or; or := and ("or" and)*; and := not ("and" not)*; not := "not" not | "(" or ")" | comparison
//   comparison := field op value | field ["not"] "in" "(" value, … ")" | field ["not"] "contains" text | field ["not"] "starts" "with" text
//                 | field "is" ["not"] "null" | "exists" "(" field ")" | "search" "(" text ")"
//   op := "=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=" | "~" (contains, letters A-Z as a-z) | "!~"
//   value := "text" | 'text' (escapes as in JSON) | number | true | false | null | for fields that are times a span before now (2h,
//            1h30m, 7d; "ago" may follow, "ahead" turns it round) or a time (2026-01-31, RFC 3339), with or without quotes
//   field := id function version state kind attempt error message group source key content_type size accepted died changed due origin replay
//            | headers.NAME | headers."NAME" | payload | payload.a.b[0]."c d"   (payload alone: its text)
//   Words of the language and names of fields do not regard case; texts do, but for ~ and search. A comparison with a field that is not
//   there is neither true nor false (so are its "!=" and its "not", as in SQL; `is null` and `exists` ask).
// JSON: a number compares with numbers, a text with texts; what is of another type is not equal, and neither less nor more. A payload that is
//   no JSON that the store can read (core/json_text) has no members.
// Times stand for all that they name: `died = 2026-01-31` is the whole day, `died > 2026-01-31` begins on the next one.
// Safety: everything a user gave reaches SQL as a parameter; the only text in the statement is of this module.
// Errors: ERR_INVALID: "column 17: …" of the expression (in characters, from 1), with what may stand there; or which word of the spec is wrong.
// Secrets: with `redact`, what people are shown of the expression has "***" for values that are compared with a header or a member that it
//   names, and errors of the expression quote nothing of it. A text to search for is in no field: it is shown.
// Threads: any, one at a time; it may move between threads. Memory: owns copies of all it was given. Cap: SELECT_TEXT_MAX, SELECT_TERMS_MAX,
//   SELECT_SQL_MAX, SELECT_VALUES_MAX, 32 levels of brackets.
#ifndef DLQ_SELECT_H
#define DLQ_SELECT_H

#include "core/base/buf.h"
#include "core/id.h"
#include "core/store.h"

#define SELECT_TEXT_MAX 16384
#define SELECT_TERMS_MAX 200
#define SELECT_VALUES_MAX 1500 // parameters of one statement, those of 1,000 ids included
#define SELECT_CALLER_VALUES 60  // of them are left to whoever builds the statement around the condition
#define SELECT_SQL_MAX 262144    // bytes of a selection's condition: what the cap of select_sql.text must have room for
#define SELECT_IDS_MAX 1000

// Every span may be empty and every number 0: no restriction.
struct redact;      // core/redact.h
struct select_spec {
    struct str where;               // the language
    struct str search;              // in error type, message, ordering key, name of the source, and the payload's text; A-Z as a-z
    struct str function, error_type;
    struct str state;               // a word of LETTER_STATES; empty: any
    struct str group;               // 16 hex digits, or the name of a group
    struct str source;              // kind, kind:name, kafka:TOPIC/PARTITION; of triggers: kind:TRIGGER
    int64_t since_ms, until_ms;     // died_ms (of those that are not dead: changed_ms) within [since, until)
    const struct id *ids;           // or exactly these, at most SELECT_IDS_MAX
    size_t id_count;
    int64_t now_ms;                 // what spans in the language count from
    const struct redact *redact;    // NULL: nothing is secret; of no use once the selection is made
};

struct selection;
int selection_new(const struct select_spec *spec, struct selection **ret, struct err *err) must_use;
void selection_free(struct selection *s);
bool selection_is_all(const struct selection *s); // it restricts nothing
const struct id *selection_ids(const struct selection *s, size_t *ret_count); // as given; count 0: it is none of ids
// The selection as its user wrote it but for secrets, one line: for people, jobs and the audit. Owned by the selection.
const char *selection_text(const struct selection *s);
struct str selection_where(const struct selection *s); // the same of the expression alone, in as many lines as it has

// The statement under construction: text and parameters in the order in which they appear ($1, $2, …; the store wants that order).
struct select_sql {
    struct buf *text;
    struct sql_value values[SELECT_VALUES_MAX]; // point into the selection, or are the caller's
    size_t count;
    bool postgres;
};
void select_sql_add(struct select_sql *q, const char *text);              // a literal
void select_sql_value(struct select_sql *q, struct sql_value v);         // appends "$n"
// Appends a condition on the table `letters` (that is its name there): "(…)", or "true" when it restricts nothing. With a wish for
// one state, `letters.state = 'dead'` stands in it as a literal, for the partial indexes.
void selection_sql(const struct selection *s, struct select_sql *q);
// The part of it that an index narrows down by, at most three values: the function, the state and the group that were asked for beside the
// expression. All letters of the selection have them, and others may.
void selection_keys_sql(const struct selection *s, struct select_sql *q);
// Its expression asks for this kind of letters: kind = "…", or one of several, and not below a `not`.
bool selection_names_kind(const struct selection *s, const char *kind);
bool selection_is_narrow(const struct selection *s); // it asks for ids or a group

#endif
