// SPDX-License-Identifier: Apache-2.0
// What the files of triggers/timers share: timers.c (the heap, plans, deciding), timers_change.c (triggers come and go),
// timers_show.c (next times, fires by hand).
#ifndef TRIGGERS_TIMERS_IMPL_H
#define TRIGGERS_TIMERS_IMPL_H

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "triggers/schedule.h"
#include "triggers/timers.h"

#define TIMER_NOT_IN_HEAP SIZE_MAX
#define TIMERS_BUSY_MS 10 // the queues take their time: look again then

struct timer_entry {
    const struct trigger *trigger; // core/trigger keeps it while it exists
    struct schedule schedule;
    char *error;                   // why the schedule cannot be read now; NULL: it can. Then it is the last that could, or empty
    int64_t from_ms;               // decided up to here, as far as is known
    int64_t due_ms;                // when its next fire is sent
    size_t at;                     // in the heap
    bool deciding;                 // a plan of it is with the store
    UT_hash_handle hh;             // by the trigger's name
};

struct timer_cursor { // as read at the start, until its trigger comes
    int64_t cursor_ms;
    UT_hash_handle hh;
    char trigger[];
};

struct timers {
    struct timers_config c;
    struct timer_entry *entries;   // all timer triggers, the paused ones too
    struct timer_cursor *cursors;
    struct timer_entry **heap;
    size_t heap_count, heap_room;
    size_t batches;                // that the store decides
    struct timer *alarm;
    int64_t latest_ms;             // that the clock has shown
    bool loaded, stopped;
    bool away;                     // the store did not answer last time
    struct log_repeat trouble;
    void (*on_loaded)(void *arg, int code, const struct err *err);
    void *load_arg;
};

struct timer_entry *timers_find(const struct timers *t, struct str name);
void timers_drop(struct timers *t, struct timer_entry *e); // out of everything, and freed
// Puts it into the heap by its next time, or takes it out when it has none.
void timers_enter(struct timers *t, struct timer_entry *e);
void timers_heap_remove(struct timers *t, struct timer_entry *e);
// data.data NULL: the trigger's message.
struct ev *timers_event(const struct timer_entry *e, int64_t scheduled_ms, struct str data) must_use;

#endif
