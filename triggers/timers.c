// SPDX-License-Identifier: Apache-2.0
// Invariant: a timer that is active and has a next time is in the heap, or in a batch that the store decides. Its `from_ms` is what the store
// last said, or older: a plan from elsewhere is void there, and the answer tells where it stands.
#include "triggers/timers_impl.h"


#define BATCHES_MAX 8             // that the store decides at a time
#define BATCH_BYTES (4u << 20)    // messages of one batch, about
#define LOOK_NS (10 * NS_PER_MS)  // of planning, then others have their turn
#define AGE_UNKNOWN_MS (12 * 3600000LL) // of a fire whose function is gone: until it counts as over

// One transaction under way. It owns what the plans point to: a timer may change or go meanwhile.
struct timer_batch {
    struct timers *all;
    struct fire_plan *plans;
    struct fire *fires;
    size_t plan_count, fire_count, bytes;
    int64_t now_ms;
};

// --- the heap: by due_ms, the earliest first --------------------------------------------------------------------------

static void heap_put(struct timers *t, size_t at, struct timer_entry *e) {
    t->heap[at] = e;
    e->at = at;
}

static void heap_up(struct timers *t, size_t at, struct timer_entry *e) {
    for (; at > 0 && e->due_ms < t->heap[(at - 1) / 2]->due_ms; at = (at - 1) / 2) heap_put(t, at, t->heap[(at - 1) / 2]);
    heap_put(t, at, e);
}

static void heap_down(struct timers *t, size_t at, struct timer_entry *e) {
    for (size_t child; (child = 2 * at + 1) < t->heap_count; at = child) {
        if (child + 1 < t->heap_count && t->heap[child + 1]->due_ms < t->heap[child]->due_ms) child++;
        if (e->due_ms <= t->heap[child]->due_ms) break;
        heap_put(t, at, t->heap[child]);
    }
    heap_put(t, at, e);
}

void timers_heap_remove(struct timers *t, struct timer_entry *e) {
    if (e->at == TIMER_NOT_IN_HEAP) return;
    size_t at = e->at;
    struct timer_entry *last = t->heap[--t->heap_count];
    e->at = TIMER_NOT_IN_HEAP;
    if (last == e) return;
    heap_up(t, at, last);
    heap_down(t, last->at, last);
}

static void heap_add(struct timers *t, struct timer_entry *e) {
    if (t->heap_count == t->heap_room) {
        t->heap_room = t->heap_room ? 2 * t->heap_room : 64;
        t->heap = mem_realloc(t->heap, t->heap_room * sizeof(struct timer_entry *));
    }
    heap_up(t, t->heap_count++, e);
}

// --- when to look -----------------------------------------------------------------------------------------------------

// What a node that leads may do now; the others wait a while for it.
static int64_t horizon_ms(const struct timers *t) {
    int64_t now = fires_now_ms(t->c.fires);
    return fires_is_leader(t->c.fires) ? now : now - FIRES_FOLLOW_MS;
}

static void set_alarm(struct timers *t) {
    if (t->stopped || !t->loaded || t->heap_count == 0 || t->batches >= BATCHES_MAX) return;
    if (fires_is_busy(t->c.fires)) {
        timer_start(t->alarm, TIMERS_BUSY_MS);
        return;
    }
    int64_t wait = t->heap[0]->due_ms - horizon_ms(t);
    if (t->away && wait < TIMERS_AWAY_MS) wait = TIMERS_AWAY_MS;
    timer_start(t->alarm, wait < 0 ? 0 : wait < TIMERS_LOOK_MS ? wait : TIMERS_LOOK_MS);
}

void timers_enter(struct timers *t, struct timer_entry *e) {
    timers_heap_remove(t, e);
    if (e->trigger->state != TRIGGER_ACTIVE || e->deciding || !e->schedule.zone) return;
    int64_t next = schedule_next(&e->schedule, e->from_ms, NULL);
    if (next == SCHEDULE_NEVER) return;
    e->due_ms = schedule_send_ms(&e->schedule, next);
    heap_add(t, e);
    if (e->at == 0) set_alarm(t);
}

// --- plans ------------------------------------------------------------------------------------------------------------

// A fire that is older cannot be running any more: its event would have expired.
static int64_t stale_ms(const struct timers *t, const struct trigger *trigger, int64_t now_ms) {
    struct version *v;
    struct err err;
    if (registry_resolve(t->c.registry, str_of(trigger->function), STR_LIT(""), &v, &err)) return now_ms - AGE_UNKNOWN_MS;
    return now_ms - v->settings.max_age_ms - v->settings.timeout_ms - SCHEDULE_LATE_MS;
}

struct ev *timers_event(const struct timer_entry *e, int64_t scheduled_ms, struct str data) {
    const struct trigger *t = e->trigger;
    char time[CLOCK_TEXT_BYTES], at[64];
    clock_format_utc(scheduled_ms, time);
    MUST(text_format(at, sizeof at, "{\"time\":\"%.19sZ\"}", time) == 0);
    struct str message = data.data ? data : str_of(json_string_value(json_object_get(t->settings, "message")));
    json_t *parsed = json_loadb(message.data ? message.data : "", message.len, JSON_DECODE_ANY, NULL);
    const char *shape = json_string_value(json_object_get(t->settings, "shape"));
    const struct ev_fields f = {.id = fire_id(str_of(t->name), t->created_ms, scheduled_ms),
                                .function = str_of(t->function),
                                .source_kind = STR_LIT(FIRE_SOURCE),
                                .source_name = str_of(t->name),
                                .source_at = str_of(at),
                                .content_type = parsed ? STR_LIT("application/json") : STR_LIT("text/plain; charset=utf-8"),
                                .shape = str_of(shape ? shape : "scf"),
                                .payload = message};
    json_decref(parsed);
    return ev_new(&f);
}

static size_t message_len(const struct timer_entry *e) {
    return json_string_length(json_object_get(e->trigger->settings, "message"));
}

// How many fires of this timer the batch takes; one at least.
static size_t room_for(const struct timer_batch *b, const struct timer_entry *e) {
    size_t room = FIRES_BATCH - b->fire_count, len = message_len(e), left = b->bytes < BATCH_BYTES ? BATCH_BYTES - b->bytes : 0;
    if (len && left / len < room) room = left / len;
    return room ? room : 1;
}

// The plan of one timer; its fires are added to the batch. False: nothing is due after all.
static bool plan(struct timer_batch *b, struct timer_entry *e) {
    int64_t times[FIRES_BATCH];
    struct timers *t = b->all;
    struct schedule_todo todo = schedule_plan(&e->schedule, e->from_ms, b->now_ms, times, room_for(b, e));
    if (todo.to_ms == e->from_ms) return false;
    MUST(todo.count || todo.missed);
    struct fire_plan *p = &b->plans[b->plan_count++];
    *p = (struct fire_plan){.trigger = mem_strdup(e->trigger->name),
                            .changed_ms = e->trigger->changed_ms,
                            .from_ms = e->from_ms,
                            .to_ms = todo.to_ms,
                            .overlap = e->schedule.overlap,
                            .stale_ms = stale_ms(t, e->trigger, b->now_ms),
                            .fires = &b->fires[b->fire_count],
                            .count = todo.count ? todo.count : 1};
    for (size_t i = 0; i < todo.count; i++)
        p->fires[i] = (struct fire){.scheduled_ms = times[i],
                                    .cause = todo.late ? FIRE_CATCHUP : FIRE_SCHEDULED,
                                    .ev = timers_event(e, times[i], (struct str){0}),
                                    .missed = i == 0 ? todo.missed : 0};
    if (todo.count == 0) // a row that tells of what was missed
        p->fires[0] = (struct fire){.scheduled_ms = todo.to_ms, .cause = FIRE_CATCHUP, .missed = todo.missed - 1};
    b->fire_count += p->count;
    b->bytes += todo.count * message_len(e);
    e->deciding = true;
    return true;
}

// --- deciding ---------------------------------------------------------------------------------------------------------

static void batch_free(struct timer_batch *b) {
    for (size_t i = 0; i < b->plan_count; i++) free((char *)(uintptr_t)b->plans[i].trigger);
    free(b->plans);
    free(b->fires);
    free(b);
}

static void observe_lag(const struct timers *t, const struct timer_entry *e, const struct fire_plan *p, int64_t now_ms) {
    for (size_t i = 0; i < p->count; i++) {
        if (p->fires[i].cause != FIRE_SCHEDULED) continue;
        int64_t late = now_ms - schedule_send_ms(&e->schedule, p->fires[i].scheduled_ms);
        metrics_observe(t->c.metrics, METRIC_FIRE_LAG_SECONDS, str_of(e->trigger->function), late > 0 ? (double)late / 1e3 : 0);
    }
}

static void take_verdict(struct timers *t, const struct fire_plan *p, const struct fire_verdict *v, int64_t now_ms) {
    struct timer_entry *e = timers_find(t, str_of(p->trigger));
    if (!e) return; // it went meanwhile
    e->deciding = false;
    bool current = e->trigger->changed_ms == p->changed_ms;
    if (v && v->made && current) observe_lag(t, e, p, now_ms);
    if (v && v->gone && current) return; // timers_change will tell what it is now
    // The store's word counts, also when it says less than was known: it may have been restored. Times that happened have their rows.
    if (v && !v->gone && (current || v->cursor_ms > e->from_ms)) e->from_ms = v->cursor_ms;
    timers_enter(t, e);
}

static void on_decided(void *arg, int code, const struct err *err, const struct fire_verdict *verdicts) {
    struct timer_batch *b = arg;
    struct timers *t = b->all;
    t->batches--;
    t->away = code != 0;
    if (code) log_repeating(&t->trouble, LOG_LEVEL_WARN, "timer", "the store cannot take what is due; it is tried again", err->text);
    int64_t now = fires_now_ms(t->c.fires);
    for (size_t i = 0; i < b->plan_count; i++) take_verdict(t, &b->plans[i], code ? NULL : &verdicts[i], now);
    batch_free(b);
    set_alarm(t);
}

static struct timer_batch *batch_new(struct timers *t, int64_t now_ms) {
    struct timer_batch *b = mem_zalloc(sizeof *b);
    *b = (struct timer_batch){.all = t, .now_ms = now_ms};
    b->plans = mem_array(FIRES_BATCH, sizeof *b->plans);
    b->fires = mem_array(FIRES_BATCH, sizeof *b->fires);
    return b;
}

// A clock that was far ahead for a while has led the timers there. They come back; what happened meanwhile has its rows.
static void follow_clock(struct timers *t, int64_t now_ms) {
    struct timer_entry *e, *next;
    bool was_wrong = now_ms + FIRES_AHEAD_MS < t->latest_ms;
    if (was_wrong || now_ms > t->latest_ms) t->latest_ms = now_ms;
    if (!was_wrong) return;
    log_warn("timer", "the clock was set back by more than an hour: the timers follow it");
    HASH_ITER(hh, t->entries, e, next) {
        if (e->from_ms <= now_ms + FIRES_AHEAD_MS) continue;
        e->from_ms = now_ms;
        timers_enter(t, e);
    }
}

// One batch a turn, of what can be planned in a moment.
static void look(void *arg) {
    struct timers *t = arg;
    int64_t now = horizon_ms(t);
    t->away = false;
    follow_clock(t, now);
    if (t->heap_count == 0 || t->heap[0]->due_ms > now || fires_is_busy(t->c.fires)) {
        set_alarm(t);
        return;
    }
    struct timer_batch *b = batch_new(t, now);
    int64_t until_ns = clock_mono_ns() + LOOK_NS;
    while (t->heap_count && t->heap[0]->due_ms <= now && b->fire_count < FIRES_BATCH && b->bytes < BATCH_BYTES && clock_mono_ns() < until_ns) {
        struct timer_entry *e = t->heap[0];
        timers_heap_remove(t, e);
        if (!plan(b, e)) timers_enter(t, e);
    }
    if (b->plan_count) {
        t->batches++;
        fires_decide(t->c.fires, b->plans, b->plan_count, on_decided, b);
    } else batch_free(b);
    set_alarm(t);
}

// --- life -------------------------------------------------------------------------------------------------------------

struct timers *timers_new(const struct timers_config *config) {
    struct timers *t = mem_zalloc(sizeof *t);
    t->c = *config;
    t->alarm = timer_new(config->loop, look, t);
    return t;
}

void timers_stop(struct timers *t) {
    t->stopped = true;
    timer_stop(t->alarm);
}

static void on_cursor(void *arg, struct str trigger, int64_t cursor_ms) {
    struct timers *t = arg;
    struct timer_cursor *c = mem_zalloc(sizeof *c + trigger.len + 1);
    memcpy(c->trigger, trigger.data, trigger.len);
    c->cursor_ms = cursor_ms;
    HASH_ADD(hh, t->cursors, trigger, trigger.len, c);
}

static void on_cursors(void *arg, int code, const struct err *err) {
    struct timers *t = arg;
    t->loaded = code == 0;
    t->on_loaded(t->load_arg, code, err);
    set_alarm(t);
}

void timers_load(struct timers *t, void (*done)(void *arg, int code, const struct err *err), void *arg) {
    t->on_loaded = done;
    t->load_arg = arg;
    fires_cursors(t->c.fires, on_cursor, on_cursors, t);
}

void timers_free(struct timers *t) {
    if (!t) return;
    MUST(t->batches == 0);
    struct timer_cursor *c, *next_cursor;
    HASH_ITER(hh, t->cursors, c, next_cursor) {
        HASH_DEL(t->cursors, c);
        free(c);
    }
    struct timer_entry *e, *next;
    HASH_ITER(hh, t->entries, e, next) timers_drop(t, e);
    timer_free(t->alarm);
    free(t->heap);
    free(t);
}
