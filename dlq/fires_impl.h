// SPDX-License-Identifier: Apache-2.0
// Shared between the files that make up dlq/fires: nobody else includes it.
//
//   fires.c          life, the clock, what is known as cancelled
//   fires_decide.c   deciding
//   fires_put.c      fires by hand
//   fires_end.c      the end of a fire
//   fires_keep.c     housekeeping
//   fires_history.c  looking
//   fires_sql.c      what several of them do in the store
//
// Locks, in this order: the triggers and their cursors by name, then rows of fires, then letters. A node that decides a trigger holds its
// cursor, so that no other does. The end of a fire takes its row: a decision that lets one wait for it has locked that row before.
#ifndef DLQ_FIRES_IMPL_H
#define DLQ_FIRES_IMPL_H

#include <uthash.h>

#include "core/base/buf.h"
#include "dlq/fires.h"
#include "dlq/ship.h"

#define FIRES_HELD_MS INT64_C(253402300799000) // the due time of a letter that waits for another fire: the end of 9999

// Of a row that counts for overlap: an open one of the schedule.
#define FIRES_COUNTS "ended_ms IS NULL AND cause IN ('schedule', 'catchup')"

// A text TEXT(by_open, by_waiting) for this database. SQLite, without statistics, would go through a timer's whole history by the
// primary key; which index is right stands behind the table's name.
#define FIRES_TEXT(sql, TEXT) (sql_is_postgres(sql) ? TEXT("", "") : TEXT(" INDEXED BY fires_open", " INDEXED BY fires_waiting"))

struct end_item;
struct cancelled;

struct fires {
    struct fires_config c;
    struct ship *ship;
    bool shared, stopped;
    size_t jobs;                // under way
    // the clock: the store's is the monotonic one plus ahead_ns
    bool clocked;
    int64_t ahead_ns;
    // housekeeping
    struct timer *timer;
    bool keeping;               // its job is under way
    uint64_t rounds;
    bool leader;
    int64_t seldom_at_ns;       // when that was done which is done seldom; 0: never yet
    int64_t excess;             // rows over the cap, as counted and not yet deleted
    int64_t cancels_since_ms;   // the store's clock at the last look for cancels; 0: none yet
    char *settled;              // the last trigger whose waiting fire was looked at; "": from the first
    // fires that ended and are not with the store yet
    bool ending;                // its job is under way
    struct end_item *end_first, **end_last;
    size_t end_count;
    struct defer end_flush;
    struct cancelled *cancelled; // uthash by id, oldest first
};

// --- the store thread ---------------------------------------------------------------------------------------------------
// Many ids, one after the other.
struct ids {
    struct id *at;
    size_t count, room;
};
void ids_add(struct ids *ids, const struct id *id);
void ids_done(struct ids *ids);
sql_row_fn fires_take_id;   // arg: struct ids; column 0
sql_row_fn fires_take_int;  // arg: int64_t; column 0
struct sql_value fires_sql_id(const struct id *id);

struct settle { // a trigger whose open fires are to be looked at
    const char *trigger;
    int64_t stale_ms; // those that were fired before are over; 0: as their rows say
};
// {"0":{"t":trigger},…}, for json_each; caller frees.
char *fires_json_triggers(const struct settle *s, size_t count) must_use;
// Ends the open fires that cannot be running any more; then lets go of those that wait for none. ret_let_go: how many.
int fires_sql_settle(struct sql *sql, const struct settle *s, size_t count, int64_t now_ms, size_t *ret_let_go, struct err *err)
    must_use;

// What one reading of the store's clock says: it is ahead of the monotonic clock by low_ns..high_ns.
struct clock_reading {
    int64_t low_ns, high_ns;
};
int fires_sql_clock(struct sql *sql, struct clock_reading *ret, struct err *err) must_use;

// --- the loop's thread ----------------------------------------------------------------------------------------------------
void fires_submit(struct fires *f, struct store_job *job);
void fires_set_clock(struct fires *f, const struct clock_reading *reading);
// Moves as little as the reading demands: a slow answer is no reason for the time to jump.
int64_t fires_clock_step(int64_t ahead_ns, const struct clock_reading *reading);
// Where a trigger stands whose stored cursor this is: one that is far ahead was written while the clock was wrong.
int64_t fires_cursor_ms(int64_t stored_ms, int64_t now_ms);
void fires_add_cancelled(struct fires *f, const struct ids *ids);
void fires_tell_due(struct fires *f);
void fires_ship(struct fires *f, struct letter *claimed, size_t count); // takes the array
void fires_flush_ends(void *fires);
void fires_keep(void *fires); // the timer's

#endif
