// SPDX-License-Identifier: Apache-2.0
// Groups: the dead letters of one fingerprint, seen as one thing.
//
// Owns: the table `letter_groups` (what people said about a group); the numbers come from `letters` whenever somebody looks.
// Threads: the loop's. Errors: the store's; ERR_NOT_FOUND (a group that has no letters and nothing said about it); ERR_CONFLICT (the name is taken).
#ifndef DLQ_GROUPS_H
#define DLQ_GROUPS_H

#include "dlq/letters.h"

#define GROUPS_MAX 1000     // of one answer
#define GROUP_SPARK 24      // buckets of a sparkline
#define GROUP_NAME_MAX 100  // letters, digits, . _ and -; not 16 hex digits
#define GROUP_NOTE_MAX 4096

struct groups;
struct groups *groups_new(struct loop *loop, struct store *store, struct store *reader, const struct redact *redact) must_use;
void groups_free(struct groups *g);

struct groups_page {
    struct str function;   // only those with letters of it
    int64_t since_ms;      // only letters that died since
    bool muted;            // the muted ones too
    size_t limit;          // 1..GROUPS_MAX; those with most letters
    int64_t spark_ms;      // how far back sparklines go from now; 0: 24 h
};
// {"groups":[{"group":hex,"name","note","muted","count","functions":[…],"firstVersion","lastVersion","firstMs","lastMs","errorType","title",
// "place","spark":[n…]}…],"letters":n,"more":bool}. title: the masked message, or the newest letter's when nothing is left of it; place: the top frame of the user's code of its newest letter.
void groups_list(struct groups *g, const struct groups_page *page, letters_json_fn *fn, void *arg);
// One of them, by its 16 hex digits or its name. Without letters: count 0, and null where nothing can be told.
void groups_show(struct groups *g, struct str which, letters_json_fn *fn, void *arg);
// name, note: NULL data: as they were. muted: -1 as it was.
void groups_describe(struct groups *g, struct str which, struct str name, struct str note, int muted, struct str who, letters_json_fn *fn,
                     void *arg);

#endif
