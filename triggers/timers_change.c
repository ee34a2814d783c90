// SPDX-License-Identifier: Apache-2.0
// Timer triggers are checked, come, change and go.
#include "triggers/timers_impl.h"

#include "core/when.h"

bool timers_are_for(const struct trigger *t) {
    return strcmp(t->kind, FIRE_SOURCE) == 0;
}

struct timer_entry *timers_find(const struct timers *t, struct str name) {
    struct timer_entry *e;
    HASH_FIND(hh, t->entries, name.data, name.len, e);
    return e;
}

// --- checking ---------------------------------------------------------------------------------------------------------

static int read_schedule(const struct trigger *t, struct schedule *ret, struct err *err) {
    struct spec spec;
    int rc = spec_parse(SPEC_TIMER, t->settings, t->function, &spec, err);
    if (rc) return rc;
    rc = schedule_init(ret, &spec, t->name, t->created_ms, err);
    spec_done(&spec);
    return rc;
}

// "+10m" is written down as the time that it means now.
static void fix_time(const struct trigger *draft, const char *name) {
    const char *text = json_string_value(json_object_get(draft->settings, name));
    char fixed[CLOCK_TEXT_BYTES];
    int64_t ms;
    struct err err;
    if (!text || !(text[0] == '+' || text[0] == '-' || strcmp(text, "now") == 0)) return;
    if (when_parse(str_of(text), NULL, clock_unix_ms(), &ms, &err)) return; // schedule_init says what is wrong with it
    clock_format_utc(ms, fixed);
    MUST(json_object_set_new(draft->settings, name, json_sprintf("%.19sZ", fixed)) == 0);
}

int timers_check(const struct trigger *draft, struct err *err) {
    struct schedule s;
    fix_time(draft, "start");
    fix_time(draft, "end");
    int rc = read_schedule(draft, &s, err);
    if (rc) return rc;
    // Looked at from the beginning of time, so that a date in the past is not taken for one that cannot be.
    if (schedule_next(&s, 0, NULL) == SCHEDULE_NEVER) rc = err_set(err, ERR_INVALID, "there is no such time between 1970 and 2099: it would never fire");
    schedule_done(&s);
    return rc;
}

char *timers_default_name(const struct trigger *draft) {
    return mem_strdup(draft->function);
}

// --- changes ----------------------------------------------------------------------------------------------------------

void timers_drop(struct timers *t, struct timer_entry *e) {
    timers_heap_remove(t, e);
    HASH_DEL(t->entries, e);
    schedule_done(&e->schedule);
    free(e->error);
    free(e);
}

// What was read at the start is of use once.
static int64_t take_cursor(struct timers *t, const char *trigger) {
    struct timer_cursor *c;
    HASH_FIND(hh, t->cursors, trigger, strlen(trigger), c);
    if (!c) return 0;
    int64_t at = c->cursor_ms;
    HASH_DEL(t->cursors, c);
    free(c);
    return at;
}

// A schedule that cannot be read, for want of zone data, leaves the one before at work; the next reload tries again.
static void update(struct timers *t, struct timer_entry *e, const struct trigger *trigger) {
    struct schedule fresh;
    struct err err;
    e->trigger = trigger;
    free(e->error);
    e->error = NULL;
    if (read_schedule(trigger, &fresh, &err) == 0) {
        schedule_done(&e->schedule);
        e->schedule = fresh;
    } else {
        e->error = mem_strdup(err.text);
        log_error("timer", "a stored timer cannot be read", LOG_STR("trigger", trigger->name), LOG_STR("error", err.text));
    }
    if (e->from_ms < trigger->changed_ms) e->from_ms = trigger->changed_ms; // a change, or a resume, begins now
    timers_enter(t, e);
}

void timers_change(struct timers *t, struct str name, const struct trigger *trigger) {
    struct timer_entry *e = timers_find(t, name);
    if (!trigger) {
        if (e) timers_drop(t, e);
        return;
    }
    if (!e) {
        e = mem_zalloc(sizeof *e);
        e->trigger = trigger;
        e->at = TIMER_NOT_IN_HEAP;
        e->from_ms = take_cursor(t, trigger->name);
        HASH_ADD_KEYPTR(hh, t->entries, trigger->name, strlen(trigger->name), e);
    }
    update(t, e, trigger);
}

void timers_reload_zones(struct timers *t) {
    struct timer_entry *e, *next;
    zone_reload();
    HASH_ITER(hh, t->entries, e, next) update(t, e, e->trigger);
    log_info("timer", "zone data read anew", LOG_INT("timers", HASH_COUNT(t->entries)));
}
