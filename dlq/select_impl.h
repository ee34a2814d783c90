// SPDX-License-Identifier: Apache-2.0
// Shared between the files that make up dlq/select: nobody else includes it.
//
//   select.c        life, the words of a spec
//   select_show.c   the text for people
//   select_parse.c  the language to a tree
//   select_value.c  what a value says to a field: ids, groups, sources, times, numbers
//   select_sql.c    the tree to SQL, with select_member.c for what is in JSON and select_write for what they share
//
// Memory: all of a selection is in its blocks and goes with it.
#ifndef DLQ_SELECT_IMPL_H
#define DLQ_SELECT_IMPL_H

#include "dlq/select.h"

#define SELECT_OWN_MAX (SELECT_VALUES_MAX - SELECT_CALLER_VALUES)
#define SELECT_DEPTH_MAX 32
#define SELECT_STEPS_MAX 32

enum select_class {
    SELECT_TEXT,
    SELECT_WORD,   // one of a few words of ours
    SELECT_NUMBER,
    SELECT_TIME,
    SELECT_ID,
    SELECT_GROUP,
    SELECT_SOURCE,
    SELECT_BYTES,  // the payload as it is
    SELECT_HEADER,
    SELECT_MEMBER, // of the payload
};

// X(name, class, column, may it be missing?)
#define SELECT_FIELDS(X)                                            \
    X("id", SELECT_ID, "letters.id", false)                         \
    X("function", SELECT_TEXT, "letters.function", false)           \
    X("version", SELECT_NUMBER, "letters.version", false)           \
    X("state", SELECT_WORD, "letters.state", false)                 \
    X("kind", SELECT_WORD, "letters.kind", false)                   \
    X("attempt", SELECT_NUMBER, "letters.attempts", false)          \
    X("error", SELECT_TEXT, "letters.error_type", false)            \
    X("message", SELECT_TEXT, "letters.error_message", false)       \
    X("why", SELECT_TEXT, "letters.why", false)                     \
    X("group", SELECT_GROUP, "letters.fingerprint", false)          \
    X("source", SELECT_SOURCE, "letters.source_kind", false)        \
    X("key", SELECT_TEXT, "letters.ordering_key", false)            \
    X("content_type", SELECT_TEXT, "letters.content_type", false)   \
    X("size", SELECT_NUMBER, "length(letters.payload)", false)      \
    X("accepted", SELECT_TIME, "letters.accepted_ms", false)        \
    X("died", SELECT_TIME, "letters.died_ms", false)                \
    X("changed", SELECT_TIME, "letters.changed_ms", false)          \
    X("due", SELECT_TIME, "letters.due_ms", true)                   \
    X("origin", SELECT_ID, "letters.origin_id", true)               \
    X("replay", SELECT_ID, "letters.replay_id", true)               \
    X("headers", SELECT_HEADER, "letters.headers", true)            \
    X("payload", SELECT_BYTES, "letters.payload", false)

struct select_column {
    const char *name;
    enum select_class class;
    const char *sql;
    bool may_miss;
};
extern const struct select_column select_columns[]; // ended by name == NULL
const struct select_column *select_column_find(struct str name); // A-Z as a-z; NULL: none

struct select_step { // into JSON: a member by name, or by number when the name's data is NULL
    struct str name;
    int64_t index;
};
struct select_field {
    const struct select_column *column;
    enum select_class class; // the column's, but for members of the payload
    struct select_step *steps;
    size_t step_count;
    struct str path;         // the steps as SQLite's functions take them; data is NULL when no path can say them
};

enum select_op {
    SELECT_IN, // one of the values
    SELECT_LESS,
    SELECT_LESS_EQUAL,
    SELECT_MORE,
    SELECT_MORE_EQUAL,
    SELECT_CONTAINS,
    SELECT_STARTS,
    SELECT_FIND, // contains, A-Z as a-z
    SELECT_IS_NULL,
    SELECT_EXISTS,
    SELECT_SEARCH, // FIND in several columns; there is no field
};

enum select_type { SELECT_IS_TEXT, SELECT_IS_NUMBER, SELECT_IS_MOMENT, SELECT_IS_TRUE, SELECT_IS_FALSE, SELECT_IS_NOTHING };

// As it was written, and, once select_value_check has seen it, as its field wants it.
struct select_value {
    enum select_type type;
    struct str text;       // of a number or a moment: as it is written; for FIND in lower case
    int64_t integer;       // a number that is `whole`; a fingerprint; the first millisecond of a moment
    int64_t end;           // and the one behind its last
    bool whole;            // it fits 64 bits
    bool is_span;          // a moment that was written as a span before now
    bool has_letters;      // FIND
    const char *word;      // state, kind: ours
    struct str kind, name; // source; empty data: any name
    struct str at;         // source: what source_at starts with; empty: that does not matter
    struct str low, high;  // id: the bytes; of a beginning, the least and the greatest id
    struct str like;       // FIND: a pattern for SQLite's LIKE
    struct str octal;      // FIND: as PostgreSQL's encode(…, 'escape') writes it
};

enum select_node_type { SELECT_ALL_OF, SELECT_ONE_OF, SELECT_NONE_OF, SELECT_TERM };
struct select_node {
    enum select_node_type type;
    struct select_node *next; // the next child of its parent
    struct select_node *first;
    // a term
    struct select_field field;
    enum select_op op;
    bool negated;
    struct select_value *values;
    size_t value_count;
};

struct select_block;
struct selection {
    struct select_block *blocks;
    struct select_node *where;           // NULL: none
    struct select_node *words;           // search, function, …: all of them hold; linked by next
    bool is_dead;                        // the state asked for: then died_ms counts for since and until, without a look at the state
    int64_t since_ms, until_ms, now_ms;
    struct id *ids;
    size_t id_count;
    const struct redact *redact;         // while the expression is read: its errors quote nothing of it
    struct str where_shown;              // the expression without its secrets
    char *text;
};

// Zeroed; lives as long as the selection.
void *select_alloc(struct selection *s, size_t count, size_t bytes) must_use __attribute__((returns_nonnull));
struct str select_copy(struct selection *s, struct str text) must_use;
struct str select_keep(struct selection *s, struct buf *b) must_use; // copies what is in it, and ends it

// The tree of an expression; sets where_shown. ERR_INVALID: "column 17: …".
int select_parse(struct selection *s, struct str where, struct select_node **ret, struct err *err) must_use;

// A number, a span or a time as it stands without quotes. False: it is none of them.
bool select_value_read(struct selection *s, struct str text, struct select_value *ret);
// Makes the values of a term what its field and operator want. ERR_INVALID, without a column; *ret_wrong is the value that is meant.
int select_values_check(struct selection *s, struct select_node *term, size_t *ret_wrong, struct err *err) must_use;

// What people are shown for a value that was `written` so and says `v`: "***", where its field is secret.
void select_show_value(const struct redact *r, const struct select_field *f, const struct select_value *v, struct str written, struct buf *out);
char *select_describe(const struct selection *s, const struct select_spec *spec) must_use; // selection_text; where_shown is there

bool select_is_blank(struct str s);

// selection_sql for a selection of any size: values over SELECT_VALUES_MAX are counted, not kept.
void select_compile(const struct selection *s, struct select_sql *q);

#endif
