// SPDX-License-Identifier: Apache-2.0
// What the timers will do, and fires by hand.
#include "triggers/later.h"
#include "triggers/timers_impl.h"

#define HAND_TRIES 100 // fires by hand in one millisecond

static int find(const struct timers *t, struct str name, struct timer_entry **ret, struct err *err) {
    *ret = timers_find(t, name);
    if (!*ret) return err_set(err, ERR_NOT_FOUND, "there is no timer '%.*s' here", STR_ARG(name));
    return (*ret)->schedule.zone ? 0 : err_set(err, ERR_UNAVAILABLE, "the schedule of %s cannot be read: %s", (*ret)->trigger->name, (*ret)->error);
}

// --- the next times ---------------------------------------------------------------------------------------------------

static json_t *mark_json(enum cron_mark mark) {
    switch (mark) {
    case CRON_GAP_END: return json_string("gap-end");
    case CRON_FIRST: return json_string("first");
    case CRON_SECOND: return json_string("second");
    case CRON_PLAIN: break;
    }
    return json_null();
}

static json_t *time_json(const struct schedule *s, int64_t ms, enum cron_mark mark) {
    char local[ZONE_TEXT_BYTES], utc[CLOCK_TEXT_BYTES];
    zone_format(s->zone, ms / 1000, local);
    clock_format_utc(ms, utc);
    return json_pack("{s:I, s:s, s:o, s:o}", "scheduledMs", (json_int_t)ms, "local", local, "utc", json_sprintf("%.19sZ", utc), "mark",
                     mark_json(mark));
}

static json_t *times_json(const struct schedule *s, int64_t after_ms, int64_t until_ms, size_t count) {
    json_t *list = json_array();
    enum cron_mark mark = CRON_PLAIN;
    for (int64_t t = after_ms; json_array_size(list) < count;) {
        t = schedule_next(s, t, &mark);
        if (t == SCHEDULE_NEVER || (until_ms && t >= until_ms)) break;
        MUST(json_array_append_new(list, time_json(s, t, mark)) == 0);
    }
    return list;
}

static char *words_of(const struct schedule *s) {
    struct buf words;
    struct err err;
    buf_init(&words, 4096);
    int rc = cron_words(&s->cron, &words, &err);
    char *text = rc ? mem_strdup("") : mem_strndup(buf_str(&words));
    buf_done(&words);
    return text;
}

static json_t *expression_of(const struct trigger *t) {
    const char *cron = json_string_value(json_object_get(t->settings, "cron"));
    return cron && *cron ? json_string(cron) : json_sprintf("@every %s", json_string_value(json_object_get(t->settings, "every")));
}

int timers_next(struct timers *t, struct str name, int64_t after_ms, int64_t until_ms, size_t count, json_t **ret, struct err *err) {
    struct timer_entry *e;
    int rc = find(t, name, &e, err);
    if (rc) return rc;
    cleanup_free char *words = words_of(&e->schedule);
    if (count > TIMERS_SHOW_MAX) count = TIMERS_SHOW_MAX;
    if (after_ms == 0) after_ms = fires_now_ms(t->c.fires);
    *ret = json_pack("{s:s, s:s, s:s, s:s, s:o, s:s, s:o}", "trigger", e->trigger->name, "function", e->trigger->function, "state",
                     trigger_state_word(e->trigger->state), "zone", e->schedule.zone->name, "expression", expression_of(e->trigger), "words",
                     words, "fires", times_json(&e->schedule, after_ms, until_ms, count));
    return 0;
}

// --- answers to others ------------------------------------------------------------------------------------------------

// An answer that is known at once, to one who was promised that it comes later.
struct answer {
    trigger_json_fn *fn;
    void *arg;
    json_t *json;
};

static void give_answer(void *arg, int code, const struct err *err) {
    struct answer a = *(struct answer *)arg;
    free(arg);
    a.fn(a.arg, code, err, a.json);
}

static void answer_later(const struct timers *t, trigger_json_fn *fn, void *arg, int code, const struct err *err, json_t *json) {
    struct answer *a = mem_alloc(sizeof *a);
    *a = (struct answer){.fn = fn, .arg = arg, .json = json};
    later(t->c.loop, give_answer, a, code, err);
}

void timers_lag(struct timers *t, const struct trigger *trigger, trigger_json_fn *fn, void *arg) {
    const struct timer_entry *e = timers_find(t, str_of(trigger->name));
    bool runs = e && e->at != TIMER_NOT_IN_HEAP;
    json_t *timer = json_pack("{s:o, s:o, s:s?}", "nextMs", runs ? json_integer(e->due_ms) : json_null(), "decidedMs",
                              e && e->from_ms ? json_integer(e->from_ms) : json_null(), "error", e ? e->error : NULL);
    json_t *answer = json_pack("{s:s, s:s, s:s, s:s, s:o}", "trigger", trigger->name, "function", trigger->function, "kind", trigger->kind,
                               "state", trigger_state_word(trigger->state), "timer", timer);
    const struct err none = {0};
    answer_later(t, fn, arg, ERR_OK, &none, answer);
}

// --- by hand ----------------------------------------------------------------------------------------------------------

struct hand {
    struct timers *all;
    char *trigger;
    int64_t scheduled_ms;
    enum fire_cause cause;
    char *data;       // NULL: the trigger's message
    size_t data_len;
    struct id id;
    int tries;
    trigger_json_fn *fn;
    void *arg;
};

static void hand_done(struct hand *h, int code, const struct err *err) {
    char id[ID_TEXT_BYTES];
    id_format(&h->id, id);
    json_t *answer = code ? NULL : json_pack("{s:s, s:I, s:s}", "trigger", h->trigger, "scheduledMs", (json_int_t)h->scheduled_ms, "requestId", id);
    h->fn(h->arg, code, err, answer);
    free(h->trigger);
    free(h->data);
    free(h);
}

static void put(struct hand *h, const struct timer_entry *e);

static void on_put(void *arg, int code, const struct err *err) {
    struct hand *h = arg;
    const struct timer_entry *e = timers_find(h->all, str_of(h->trigger));
    if (code == ERR_CONFLICT && h->cause == FIRE_MANUAL && e && h->tries++ < HAND_TRIES) { // another one of this millisecond
        h->scheduled_ms++;
        put(h, e);
    } else hand_done(h, code, err);
}

// Whole seconds belong to the schedule.
static void put(struct hand *h, const struct timer_entry *e) {
    if (h->cause == FIRE_MANUAL && h->scheduled_ms % 1000 == 0) h->scheduled_ms++;
    struct fire fire = {.scheduled_ms = h->scheduled_ms, .cause = h->cause};
    fire.ev = timers_event(e, h->scheduled_ms, (struct str){h->data, h->data_len});
    h->id = fire.ev->f.id;
    fires_put(h->all->c.fires, h->trigger, &fire, on_put, h);
}

// A time that is still to come would not fire when it does: it would have a fire already.
static int check_time(const struct timer_entry *e, int64_t scheduled_ms, int64_t now_ms, struct err *err) {
    if (scheduled_ms == 0) return 0;
    char utc[CLOCK_TEXT_BYTES];
    clock_format_utc(scheduled_ms, utc);
    if (scheduled_ms > now_ms) return err_set(err, ERR_INVALID, "%s has not come yet; leave it out to fire now", utc);
    if (schedule_next(&e->schedule, scheduled_ms - 1, NULL) == scheduled_ms) return 0;
    return err_set(err, ERR_INVALID, "%s is no time of the schedule of %s; leave it out to fire now", utc, e->trigger->name);
}

void timers_fire(struct timers *t, struct str name, int64_t scheduled_ms, struct str data, trigger_json_fn *fn, void *arg) {
    struct timer_entry *e;
    struct err err = {0};
    int rc = find(t, name, &e, &err);
    if (rc == 0) rc = check_time(e, scheduled_ms, fires_now_ms(t->c.fires), &err);
    if (rc) {
        answer_later(t, fn, arg, rc, &err, NULL);
        return;
    }
    struct hand *h = mem_zalloc(sizeof *h);
    *h = (struct hand){.all = t, .trigger = mem_strndup(name), .fn = fn, .arg = arg, .data_len = data.len};
    h->data = data.data ? mem_strndup(data) : NULL;
    h->cause = scheduled_ms ? FIRE_BACKFILL : FIRE_MANUAL;
    h->scheduled_ms = scheduled_ms ? scheduled_ms : fires_now_ms(t->c.fires);
    put(h, e);
}
