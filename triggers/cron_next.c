// SPDX-License-Identifier: Apache-2.0
// When an expression matches next. Local time is searched by its calendar alone (match_local), as bits of months, days, hours,
// minutes and seconds; the zone is walked span by span, for within one the offset is the same. What a change of the offset takes
// away or gives twice is decided between two spans and nowhere else.
#include "triggers/cron.h"

#define DAY_S 86400
#define YEAR_FIRST 1970
#define YEAR_LAST 2099
#define LOCAL_LAST 4102444799 // 2099-12-31T23:59:59

// ---- local time ------------------------------------------------------------------------------------------------------------

// The first bit of `set` at or after `from`; -1: none.
static int next_bit(uint64_t set, int from) {
    set = from < 64 ? set & (~0ULL << from) : 0;
    return set ? __builtin_ctzll(set) : -1;
}

// Second of the day of the first match at or after h:m:s; -1: none on that day.
static int next_time(const struct cron *c, int h, int m, int s) {
    int hour = next_bit(c->hours, h), minute = next_bit(c->minutes, 0), second = next_bit(c->seconds, 0);
    if (hour == h) {
        int later = next_bit(c->minutes, m);
        if (later == m) {
            int now = next_bit(c->seconds, s);
            if (now >= 0) return (h * 60 + m) * 60 + now;
            later = next_bit(c->minutes, m + 1);
        }
        if (later >= 0) return (h * 60 + later) * 60 + second;
        hour = next_bit(c->hours, h + 1);
    }
    return hour < 0 ? -1 : (hour * 60 + minute) * 60 + second;
}

// A month: its number of days, and the weekday of the first.
struct month {
    int days, first;
};

// Bits 1.. of the days whose weekday is in the set.
static uint64_t days_of_weekdays(struct month m, unsigned weekdays) {
    uint64_t week = (weekdays | weekdays << 7) >> m.first & 0x7f;
    return (week | week << 7 | week << 14 | week << 21 | week << 28) << 1;
}

// The weekday from Monday to Friday that is nearest to the day, in the same month.
static int nearest_weekday(struct month m, int day) {
    int weekday = (m.first + day - 1) % 7;
    if (weekday == 6) return day > 1 ? day - 1 : day + 2;
    if (weekday == 0) return day < m.days ? day + 1 : day - 2;
    return day;
}

static uint64_t matching_days(const struct cron *c, struct month m) {
    uint64_t days = c->days;
    for (uint32_t left = c->last_days; left; left &= left - 1) {
        int day = m.days - __builtin_ctz(left);
        if (day > 0) days |= 1ULL << day;
    }
    for (uint32_t left = c->near_days; left; left &= left - 1) {
        int day = __builtin_ctz(left);
        if (day <= m.days) days |= 1ULL << nearest_weekday(m, day ? day : m.days);
    }
    return days;
}

static uint64_t matching_weekdays(const struct cron *c, struct month m) {
    uint64_t days = days_of_weekdays(m, c->weekdays);
    if (c->last_weekdays) days |= days_of_weekdays(m, c->last_weekdays) & (~0ULL << (m.days - 6));
    for (int k = 0; k < 5; k++)
        if (c->nth_weekdays[k]) days |= days_of_weekdays(m, c->nth_weekdays[k]) & (0x7fULL << (7 * k + 1));
    return days;
}

// Bits 1.. of the days of the month that match.
static uint64_t month_days(const struct cron *c, int year, int month) {
    int days = civil_days_of_month(year, month);
    uint64_t all = (2ULL << days) - 2;
    if (c->any_day && c->any_weekday) return all;
    struct month m = {days, civil_weekday(civil_seconds(&(struct civil){.year = year, .month = month, .day = 1}))};
    if (c->any_weekday) return matching_days(c, m) & all;
    if (c->any_day) return matching_weekdays(c, m) & all;
    uint64_t by_day = matching_days(c, m), by_weekday = matching_weekdays(c, m);
    return (c->both ? by_day & by_weekday : by_day | by_weekday) & all;
}

static bool year_matches(const struct cron *c, int year) {
    int bit = year - YEAR_FIRST;
    return c->years[bit / 64] >> (bit % 64) & 1;
}

// The first matching day at or after the date (whose day may be one past the month's end), as seconds; CRON_NEVER.
static int64_t next_day(const struct cron *c, int year, int month, int day) {
    for (; year <= YEAR_LAST; year++, month = day = 1) {
        if (!year_matches(c, year)) continue;
        for (int m = month; (m = next_bit(c->months, m)) > 0; m++) {
            int found = next_bit(month_days(c, year, m), m == month ? day : 1);
            if (found > 0) return civil_seconds(&(struct civil){.year = year, .month = m, .day = found});
        }
    }
    return CRON_NEVER;
}

// The first match at or after a local time, in seconds as if it were UTC; CRON_NEVER.
static int64_t match_local(const struct cron *c, int64_t local) {
    if (local < 0) local = 0;
    if (local > LOCAL_LAST) return CRON_NEVER;
    struct civil t = civil_of(local);
    int64_t today = local - local % DAY_S;
    int time = next_time(c, t.hour, t.minute, t.second);
    int64_t day = next_day(c, t.year, t.month, time < 0 ? t.day + 1 : t.day);
    if (day == CRON_NEVER) return CRON_NEVER;
    return day + (day == today ? time : next_time(c, 0, 0, 0));
}

// ---- the zone --------------------------------------------------------------------------------------------------------------

// The last answer, which is the answer too for all that lies between question and answer: far matches are found once, however many
// spans are walked until there.
struct search {
    const struct cron *c;
    int64_t from, found;
};

static int64_t search(struct search *s, int64_t local) {
    if (local < s->from || local > s->found) *s = (struct search){s->c, local, match_local(s->c, local)};
    return s->found;
}

static enum cron_mark mark_of(const struct zone *z, size_t i, int64_t unix_s) {
    const struct zone_span *span = &z->spans[i];
    if (i > 0 && unix_s + span->offset < span->begin + span[-1].offset) return CRON_SECOND;
    if (i + 1 < z->count && unix_s + span->offset >= span[1].begin + span[1].offset) return CRON_FIRST;
    return CRON_PLAIN;
}

static int64_t next_match(const struct cron *c, const struct zone *z, enum cron_dst dst, int64_t from, enum cron_mark *ret_mark) {
    bool moved = dst == CRON_DST_ONCE || dst == CRON_DST_BOTH || (dst == CRON_DST_CRON && c->fixed);
    bool twice = dst == CRON_DST_BOTH || (dst == CRON_DST_CRON && !c->fixed);
    struct search s = {c, 1, 0};
    for (size_t i = zone_span_at(z, from); i < z->count; i++) {
        const struct zone_span *span = &z->spans[i];
        int64_t local = from + span->offset;
        if (i > 0) {
            int64_t before = span->begin + span[-1].offset, begin = span->begin + span->offset;
            if (moved && before < begin && from <= span->begin && search(&s, before) < begin) {
                *ret_mark = CRON_GAP_END;
                return span->begin;
            }
            if (local < begin) local = begin;
            if (!twice && local < before) local = before;
        }
        int64_t found = search(&s, local);
        if (found == CRON_NEVER || (i + 1 < z->count && found - span->offset >= span[1].begin)) continue;
        *ret_mark = mark_of(z, i, found - span->offset);
        return found - span->offset;
    }
    return CRON_NEVER;
}

static int64_t next_every(const struct cron *c, const struct zone *z, int64_t anchor, int64_t after, enum cron_mark *ret_mark) {
    if (after < anchor) after = anchor;
    int64_t passed, next;
    if (__builtin_sub_overflow(after, anchor, &passed)) return CRON_NEVER;
    if (__builtin_add_overflow(after, c->every_s - passed % c->every_s, &next)) return CRON_NEVER;
    size_t i = zone_span_at(z, next);
    if (next > LOCAL_LAST - z->spans[i].offset) return CRON_NEVER;
    *ret_mark = mark_of(z, i, next);
    return next;
}

int64_t cron_next(const struct cron *c, const struct zone *z, enum cron_dst dst, int64_t anchor_s, int64_t after_s, enum cron_mark *ret_mark) {
    enum cron_mark ignored;
    if (!ret_mark) ret_mark = &ignored;
    *ret_mark = CRON_PLAIN;
    if (after_s < -1) after_s = -1;
    if (after_s > LOCAL_LAST + DAY_S) return CRON_NEVER;
    if (c->every_s) return next_every(c, z, anchor_s, after_s, ret_mark);
    return next_match(c, z, dst, after_s + 1, ret_mark);
}
