// SPDX-License-Identifier: Apache-2.0
// Many rows in one statement, for PostgreSQL: their columns go as arrays, which unnest() makes rows of again. A statement for each row
// costs several times as much there; on SQLite, which has no arrays, sql_exec_many is as good.
//
// Such a statement must name its rows by a whole key, and no condition beside that may be one that a partial index has: PostgreSQL knows
// little of what letters do this minute, and would go through that index for each row.
// Threads: any. Memory: the caller's rows bound it.
#ifndef DLQ_COLUMNS_H
#define DLQ_COLUMNS_H

#include "core/base/buf.h"
#include "core/id.h"
#include "core/store.h"

struct column {
    struct buf text;        // {1,2,3} or {"\\x0198…",NULL}
};
void column_init(struct column *c);
void column_done(struct column *c);
void column_add_number(struct column *c, int64_t n);
void column_add_word(struct column *c, const char *word); // lower-case letters
void column_add_id(struct column *c, const struct id *id); // none: NULL
struct sql_value column_value(struct column *c);           // once, after the last row; lives as long as c

#endif
