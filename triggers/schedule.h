// SPDX-License-Identifier: Apache-2.0
// A timer's schedule: its expression in its zone between start and end, and what a node that looks at the clock has to do. Pure.
//
// Flow: struct spec (kind timer) -> schedule_new -> schedule_next, schedule_plan. Units: Unix milliseconds; scheduled times are whole seconds.
// Memory: immutable but for its zone's count of users. Threads: the loop's.
#ifndef TRIGGERS_SCHEDULE_H
#define TRIGGERS_SCHEDULE_H

#include "core/fire.h"
#include "triggers/cron.h"
#include "triggers/spec.h"

#define SCHEDULE_NEVER INT64_MAX
#define SCHEDULE_LATE_MS 60000    // a fire that is late by less is not missed
#define SCHEDULE_COUNT_MAX 10000 // missed times are counted up to it

#define SCHEDULE_CATCHUPS(X)   \
    X(CATCHUP_NONE, "none")    \
    X(CATCHUP_LAST, "last")    \
    X(CATCHUP_ALL, "all")
enum catchup {
#define X(name, word) name,
    SCHEDULE_CATCHUPS(X)
#undef X
};

struct schedule {
    struct cron cron;
    struct zone *zone;
    enum cron_dst dst;
    int64_t anchor_ms;             // where every= counts from: start, or when the trigger was made
    int64_t start_ms, end_ms;      // scheduled times in [start, end); 0 and SCHEDULE_NEVER: open
    int64_t jitter_ms;             // a fire is delayed by 0..jitter, the same on every node
    enum catchup catchup;
    size_t catchup_max;
    int64_t catchup_window_ms;     // 0: none
    enum fire_overlap overlap;
    uint64_t seed;                 // of the jitter: from the trigger's name
};

// trigger: its name, for the jitter; created_ms: when it was made.
int schedule_init(struct schedule *ret, const struct spec *s, const char *trigger, int64_t created_ms, struct err *err) must_use;
void schedule_done(struct schedule *s);

int64_t schedule_next(const struct schedule *s, int64_t after_ms, enum cron_mark *ret_mark); // ret_mark may be NULL
// When the fire of that time is sent: scheduled + jitter.
int64_t schedule_send_ms(const struct schedule *s, int64_t scheduled_ms);

// What is to be done at now_ms by one who stands at from_ms: the scheduled times that happen, at most `room` of them, ascending.
struct schedule_todo {
    int64_t to_ms;        // everything up to it is decided; from_ms: nothing to do yet
    size_t count;
    uint64_t missed;      // before the first that happens, or all when count is 0; at most SCHEDULE_COUNT_MAX
    bool late;            // they are caught up
};
struct schedule_todo schedule_plan(const struct schedule *s, int64_t from_ms, int64_t now_ms, int64_t *times, size_t room);

#endif
