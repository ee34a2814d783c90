// SPDX-License-Identifier: Apache-2.0
// The times of a schedule are never listed from the beginning: the last one before now is found by halving, since schedule_next only
// rises, and counting stops at a cap. So weeks without a server cost no more than minutes.
#include "triggers/schedule.h"

#include "core/when.h"

#define S 1000 // milliseconds

// --- from settings ----------------------------------------------------------------------------------------------------

static int read_expression(struct schedule *c, const struct spec *s, struct str *ret_zone, struct err *err) {
    struct cron_error where;
    struct err said = {0};
    bool period = s->every.text[0];
    cleanup_free char *every = period ? mem_printf("@every %s", s->every.text) : NULL;
    int rc = cron_parse(str_of(every ? every : s->cron.text), &c->cron, ret_zone, &where, &said);
    if (rc) return err_set(err, rc, "%s: %s", period ? "every" : "cron", said.text);
    if (ret_zone->len && period) return err_set(err, ERR_INVALID, "every: a period has no time zone");
    if (ret_zone->len && s->tz.given) return err_set(err, ERR_INVALID, "the time zone is given twice: in the expression and by tz=%s", s->tz.text);
    return 0;
}

static int read_zone(struct schedule *c, const struct spec *s, struct str inside, struct err *err) {
    struct err said = {0};
    int rc = zone_open(inside.len ? inside : str_of(s->tz.text), &c->zone, &said);
    return rc ? err_set(err, rc, "%s: %s", inside.len ? "cron" : "tz", said.text) : 0;
}

// A relative time would mean another one each time that it is read; triggers/timers writes it down as a fixed one when it is given.
static int read_bound(const struct schedule *c, const char *name, const char *text, int64_t none, int64_t *ret_ms, struct err *err) {
    struct err said = {0};
    *ret_ms = none;
    if (!text[0]) return 0;
    int rc = when_parse(str_of(text), c->zone, 0, ret_ms, &said);
    return rc ? err_set(err, rc, "%s: %s", name, said.text) : 0;
}

static uint64_t mix(uint64_t x) { // splitmix64 (Steele, Lea, Flood 2014)
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static enum catchup catchup_of(const char *word) {
#define X(name, text) \
    if (strcmp(word, text) == 0) return name;
    SCHEDULE_CATCHUPS(X)
#undef X
    return CATCHUP_LAST;
}

static enum fire_overlap overlap_of(const char *word) {
#define X(name, text) \
    if (strcmp(word, text) == 0) return name;
    FIRE_OVERLAPS(X)
#undef X
    return FIRE_ALLOW;
}

static void read_rest(struct schedule *c, const struct spec *s, const char *trigger, int64_t created_ms) {
    c->jitter_ms = s->jitter_ms.number;
    c->catchup = catchup_of(s->catchup.text);
    c->catchup_max = (size_t)s->catchup_max.number;
    c->catchup_window_ms = s->catchup_window_ms.number;
    c->overlap = overlap_of(s->overlap.text);
    c->anchor_ms = c->start_ms ? c->start_ms - c->cron.every_s * S : created_ms;
    for (const char *at = trigger; *at; at++) c->seed = mix(c->seed ^ (unsigned char)*at);
}

int schedule_init(struct schedule *ret, const struct spec *s, const char *trigger, int64_t created_ms, struct err *err) {
    struct schedule c = {0};
    struct str inside = {0};
    int rc = read_expression(&c, s, &inside, err);
    if (rc == 0) rc = cron_dst_parse(str_of(s->dst.text), &c.dst, err);
    if (rc == 0) rc = read_zone(&c, s, inside, err);
    if (rc == 0) rc = read_bound(&c, "start", s->start.text, 0, &c.start_ms, err);
    if (rc == 0) rc = read_bound(&c, "end", s->end.text, SCHEDULE_NEVER, &c.end_ms, err);
    if (rc == 0 && c.end_ms <= c.start_ms) rc = err_set(err, ERR_INVALID, "end must be after start");
    if (rc == 0) read_rest(&c, s, trigger, created_ms);
    if (rc) schedule_done(&c);
    else *ret = c;
    return rc;
}

void schedule_done(struct schedule *s) {
    zone_close(s->zone);
    *s = (struct schedule){0};
}

// --- times ------------------------------------------------------------------------------------------------------------

static int64_t floor_s(int64_t ms) {
    return ms >= 0 ? ms / S : -((-ms + S - 1) / S);
}

int64_t schedule_next(const struct schedule *s, int64_t after_ms, enum cron_mark *ret_mark) {
    if (after_ms < s->start_ms) after_ms = s->start_ms - 1;
    int64_t next = cron_next(&s->cron, s->zone, s->dst, floor_s(s->anchor_ms), floor_s(after_ms), ret_mark);
    return next == CRON_NEVER || next * S >= s->end_ms ? SCHEDULE_NEVER : next * S;
}

int64_t schedule_send_ms(const struct schedule *s, int64_t scheduled_ms) {
    if (s->jitter_ms == 0 || scheduled_ms == SCHEDULE_NEVER) return scheduled_ms;
    return scheduled_ms + (int64_t)(mix(s->seed ^ (uint64_t)scheduled_ms) % (uint64_t)(s->jitter_ms + 1));
}

// Times in (from_ms, to_ms], counted up to `most`.
static uint64_t count_times(const struct schedule *s, int64_t from_ms, int64_t to_ms, uint64_t most) {
    uint64_t n = 0;
    for (int64_t t = schedule_next(s, from_ms, NULL); t <= to_ms && n < most; t = schedule_next(s, t, NULL)) n++;
    return n;
}

// The last time in (from_ms, to_ms], of which there is one.
static int64_t last_time(const struct schedule *s, int64_t from_ms, int64_t to_ms) {
    int64_t low = from_ms, high = to_ms; // next(low) <= to_ms < next(high)
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (schedule_next(s, middle, NULL) <= to_ms) low = middle;
        else high = middle;
    }
    return schedule_next(s, low, NULL);
}

// The latest moment after which, up to to_ms, there are `most` times; from_ms when there are fewer.
static int64_t newest(const struct schedule *s, int64_t from_ms, int64_t to_ms, uint64_t most) {
    int64_t span = 60 * S;
    while (span < to_ms - from_ms && count_times(s, to_ms - span, to_ms, most) < most) span *= 2;
    if (span >= to_ms - from_ms && count_times(s, from_ms, to_ms, most + 1) <= most) return from_ms;
    int64_t low = span < to_ms - from_ms ? to_ms - span : from_ms, high = to_ms; // count(low) >= most > count(high)
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (count_times(s, middle, to_ms, most) >= most) low = middle;
        else high = middle;
    }
    return low;
}

// --- plans ------------------------------------------------------------------------------------------------------------

// Times in (from_ms, last_ms] that are to be sent by now.
static size_t list_times(const struct schedule *s, int64_t from_ms, int64_t last_ms, int64_t now_ms, int64_t *times, size_t room) {
    size_t n = 0;
    for (int64_t t = schedule_next(s, from_ms, NULL); n < room && t <= last_ms && schedule_send_ms(s, t) <= now_ms; t = schedule_next(s, t, NULL))
        times[n++] = t;
    return n;
}

// Where catching up begins: everything in (from_ms, it] is missed.
static int64_t missed_until(const struct schedule *s, int64_t from_ms, int64_t until_ms, int64_t now_ms) {
    int64_t last = last_time(s, from_ms, until_ms);
    if (s->catchup == CATCHUP_NONE) return last;
    int64_t begin = s->catchup == CATCHUP_LAST ? last - 1 : newest(s, from_ms, until_ms, s->catchup_max);
    int64_t oldest = s->catchup_window_ms ? now_ms - s->catchup_window_ms - 1 : from_ms;
    if (begin < oldest) begin = oldest;
    return begin < last ? begin : last;
}

static struct schedule_todo catch_up(const struct schedule *s, int64_t from_ms, int64_t now_ms, int64_t *times, size_t room) {
    int64_t until_ms = now_ms - s->jitter_ms; // all of them are due
    int64_t begin = missed_until(s, from_ms, until_ms, now_ms);
    struct schedule_todo todo = {.late = true, .missed = count_times(s, from_ms, begin, SCHEDULE_COUNT_MAX)};
    todo.count = list_times(s, begin, until_ms, now_ms, times, room);
    todo.to_ms = todo.count ? times[todo.count - 1] : last_time(s, from_ms, begin);
    return todo;
}

struct schedule_todo schedule_plan(const struct schedule *s, int64_t from_ms, int64_t now_ms, int64_t *times, size_t room) {
    int64_t first = schedule_next(s, from_ms, NULL);
    if (first == SCHEDULE_NEVER || schedule_send_ms(s, first) > now_ms) return (struct schedule_todo){.to_ms = from_ms};
    if (first + s->jitter_ms + SCHEDULE_LATE_MS <= now_ms) return catch_up(s, from_ms, now_ms, times, room);
    struct schedule_todo todo = {.count = list_times(s, from_ms, now_ms, now_ms, times, room)};
    todo.to_ms = todo.count ? times[todo.count - 1] : from_ms;
    return todo;
}
