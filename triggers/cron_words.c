// SPDX-License-Identifier: Apache-2.0
// An expression as an English sentence: when in the day, on which days, in which months and years. The common forms have phrases of
// their own; whatever is left is told member by member, clumsily but in full. Nothing is rounded: what the words leave out is "every".
#include <stdarg.h>

#include "triggers/cron.h"

#define CLOCK_TIMES 4     // of a day are told one by one
#define CLOCK_TIMES_MAX 6 // also when they have no steady pace; more are told as hours and minutes

// The values of one field: bit n is base + n.
struct set {
    uint64_t bits[3];
    int base, size;       // size: how many values the field has
    const char *const *names;
};

static const char *const month_names[] = {"January", "February", "March",     "April",   "May",      "June",
                                          "July",    "August",   "September", "October", "November", "December"};
static const char *const weekday_names[] = {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"};

struct words {
    struct buf *out;
    bool full;
};

static void say(struct words *w, const char *fmt, ...) printf_like(2, 3);
static void say(struct words *w, const char *fmt, ...) {
    char text[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (buf_append(w->out, str_of(text))) w->full = true;
}

// ---- sets ------------------------------------------------------------------------------------------------------------------

static bool has(const struct set *s, int n) {
    return s->bits[n / 64] >> (n % 64) & 1;
}

static int count(const struct set *s) {
    return __builtin_popcountll(s->bits[0]) + __builtin_popcountll(s->bits[1]) + __builtin_popcountll(s->bits[2]);
}

static bool is_all(const struct set *s) {
    return count(s) == s->size;
}

static int first(const struct set *s) {
    int n = 0;
    while (!has(s, n)) n++;
    return n;
}

static int last(const struct set *s) {
    int n = s->size - 1;
    while (!has(s, n)) n--;
    return n;
}

// The distance between neighbours when it is the same everywhere and there are three members or more; 0 otherwise.
static int step_of(const struct set *s) {
    int n = count(s);
    if (n < 3 || (last(s) - first(s)) % (n - 1)) return 0;
    int step = (last(s) - first(s)) / (n - 1);
    for (int v = first(s); v < last(s); v += step)
        if (!has(s, v)) return 0;
    return step;
}

// The step when it goes on over the end of the field as if there was none: 0,15,30,45 of 60; 0 otherwise.
static int pace_of(const struct set *s) {
    int step = step_of(s);
    if (count(s) == 2 && last(s) - first(s) == s->size / 2) step = s->size / 2;
    return step > 1 && s->size % step == 0 && count(s) == s->size / step ? step : 0;
}

static void say_value(struct words *w, const struct set *s, int n) {
    if (s->names) say(w, "%s", s->names[n]);
    else say(w, "%d", s->base + n);
}

static const char *ending(int n) {
    static const char *const endings[] = {"th", "st", "nd", "rd"};
    return n % 10 > 3 || (n / 10) % 10 == 1 ? "th" : endings[n % 10];
}

static const char *between(int index, int of) {
    if (index == 0) return "";
    return index + 1 == of ? " and " : ", ";
}

// Where what begins at n ends: three neighbours or more are told as one.
static int run_end(const struct set *s, int n) {
    int end = n;
    while (end < s->size && has(s, end)) end++;
    return end - n > 2 ? end : n + 1;
}

// "1, 5 to 9 and 20"
static void say_members(struct words *w, const struct set *s) {
    int runs = 0, index = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int n = 0, end; n < s->size; n = end) {
            end = run_end(s, n);
            if (!has(s, n)) continue;
            if (pass == 0) {
                runs++;
                continue;
            }
            say(w, "%s", between(index++, runs));
            say_value(w, s, n);
            if (end - n == 1) continue;
            say(w, " to ");
            say_value(w, s, end - 1);
        }
    }
}

// "every minute", "minute 5", "minutes 1 and 5", "every 7th minute from 0 to 56"
static void say_noun(struct words *w, const char *noun, const struct set *s) {
    int step = step_of(s);
    if (is_all(s)) {
        say(w, "every %s", noun);
    } else if (step > 1) {
        say(w, "every %d%s %s from ", step, ending(step), noun);
        say_value(w, s, first(s));
        say(w, " to ");
        say_value(w, s, last(s));
    } else {
        say(w, "%s%s ", noun, count(s) > 1 ? "s" : "");
        say_members(w, s);
    }
}

// ---- the time of day -------------------------------------------------------------------------------------------------------

struct day_time {
    struct set second, minute, hour;
};

static void say_clock(struct words *w, const struct day_time *t, int hour, int minute) {
    say(w, "%02d:%02d", hour, minute);
    if (t->second.bits[0] != 1) say(w, ":%02d", first(&t->second));
}

static void say_clock_list(struct words *w, const struct day_time *t) {
    int of = count(&t->hour) * count(&t->minute), index = 0;
    say(w, "at ");
    for (int h = 0; h < 24; h++)
        for (int m = 0; m < 60; m++)
            if (has(&t->hour, h) && has(&t->minute, m)) {
                say(w, "%s", between(index++, of));
                say_clock(w, t, h, m);
            }
}

static void say_pace(struct words *w, int step, const char *noun) {
    if (step == 1) say(w, "every %s", noun);
    else say(w, "every %d %ss", step, noun);
}

static void say_from_to(struct words *w, const struct day_time *t) {
    say(w, " from ");
    say_clock(w, t, first(&t->hour), first(&t->minute));
    say(w, " to ");
    say_clock(w, t, last(&t->hour), last(&t->minute));
}

static bool is_run(const struct set *s) {
    return last(s) - first(s) + 1 == count(s);
}

// Once an hour, in hours of a steady step. True when it was said.
static bool say_hourly(struct words *w, const struct day_time *t) {
    int step = is_all(&t->hour) ? 1 : pace_of(&t->hour);
    if (count(&t->minute) != 1 || count(&t->second) != 1) return false;
    bool plain = first(&t->minute) == 0 && t->second.bits[0] == 1;
    if (step && plain && (step == 1 || first(&t->hour) == 0)) {
        say_pace(w, step, "hour");
        return true;
    }
    step = step_of(&t->hour);
    if (!step || is_all(&t->hour)) return false;
    say_pace(w, step, "hour");
    say_from_to(w, t);
    return true;
}

// Every n minutes, all day or in hours without a hole. True when it was said.
static bool say_minutely(struct words *w, const struct day_time *t) {
    int step = is_all(&t->minute) ? 1 : pace_of(&t->minute);
    if (!step || t->second.bits[0] != 1 || !is_run(&t->hour)) return false;
    if (is_all(&t->hour) && first(&t->minute) > 0) return false;
    say_pace(w, step, "minute");
    if (!is_all(&t->hour)) say_from_to(w, t);
    return true;
}

// Whatever is not a cadence of its own: "at second 5 of minutes 1 and 2 of every hour".
static void say_parts(struct words *w, const struct day_time *t) {
    int pace = is_all(&t->second) ? 1 : pace_of(&t->second);
    bool minutes = t->second.bits[0] == 1; // the second goes without saying
    if (pace && first(&t->second) == 0) {
        say_pace(w, pace, "second");
        if (is_all(&t->minute) && is_all(&t->hour)) return;
        say(w, " of ");
    } else if (!minutes) {
        say(w, "at ");
        say_noun(w, "second", &t->second);
        say(w, " of ");
    }
    if (minutes && !is_all(&t->minute)) say(w, "at ");
    say_noun(w, "minute", &t->minute);
    if (is_all(&t->minute) && is_all(&t->hour)) return;
    say(w, " of ");
    say_noun(w, "hour", &t->hour);
}

// True when it names times of a day, so that "every day" is wanted after it.
static bool say_time(struct words *w, const struct day_time *t) {
    int times = count(&t->hour) * count(&t->minute);
    bool list = count(&t->second) == 1 && times <= CLOCK_TIMES_MAX && !is_all(&t->hour);
    if (!(list && times <= CLOCK_TIMES) && (say_hourly(w, t) || say_minutely(w, t))) return false;
    if (list) say_clock_list(w, t);
    else say_parts(w, t);
    return list;
}

// ---- days ------------------------------------------------------------------------------------------------------------------

// Monday first.
static struct set weekday_set(unsigned weekdays) {
    return (struct set){{(weekdays >> 1 | weekdays << 6) & 0x7f}, 0, 7, weekday_names};
}

static void say_last_day(struct words *w, int before) {
    if (before == 0) say(w, "the last day of the month");
    else if (before == 1) say(w, "the day before the last of the month");
    else say(w, "the %d%s day before the last of the month", before, ending(before));
}

static void say_near_day(struct words *w, int day) {
    if (day == 0) say(w, "the last Monday-to-Friday day of the month");
    else say(w, "the Monday-to-Friday day nearest to day %d", day);
}

static void say_days(struct words *w, const struct cron *c) {
    struct set days = {{c->days >> 1}, 1, 31, NULL};
    int of = (c->days != 0) + __builtin_popcount(c->last_days) + __builtin_popcount(c->near_days), index = 0;
    say(w, "on ");
    if (c->days) {
        say_noun(w, "day", &days);
        if (step_of(&days) > 1 && !is_all(&days)) say(w, " of the month");
        index++;
    }
    for (uint32_t left = c->near_days; left; left &= left - 1) {
        say(w, "%s", between(index++, of));
        say_near_day(w, __builtin_ctz(left));
    }
    for (uint32_t left = c->last_days; left; left &= left - 1) {
        say(w, "%s", between(index++, of));
        say_last_day(w, __builtin_ctz(left));
    }
}

static void say_nth(struct words *w, int *index, int of, const char *which, unsigned weekdays) {
    struct set s = weekday_set(weekdays);
    for (int n = 0; n < 7; n++)
        if (has(&s, n)) say(w, "%sthe %s %s of the month", between((*index)++, of), which, weekday_names[n]);
}

static void say_weekdays(struct words *w, const struct cron *c) {
    static const char *const nth[] = {"first", "second", "third", "fourth", "fifth"};
    struct set s = weekday_set(c->weekdays);
    int of = (c->weekdays != 0) + __builtin_popcount(c->last_weekdays), index = 0;
    for (int k = 0; k < 5; k++) of += __builtin_popcount(c->nth_weekdays[k]);
    if (c->weekdays) {
        say_members(w, &s);
        index++;
    }
    for (int k = 0; k < 5; k++) say_nth(w, &index, of, nth[k], c->nth_weekdays[k]);
    say_nth(w, &index, of, "last", c->last_weekdays);
}

static bool only_weekdays(const struct cron *c) {
    unsigned others = c->last_weekdays;
    for (int k = 0; k < 5; k++) others |= c->nth_weekdays[k];
    return others == 0;
}

// times: the time of day was told, so a day must be.
static void say_day(struct words *w, const struct cron *c, bool times) {
    struct set weekdays = weekday_set(c->weekdays);
    bool run = only_weekdays(c) && count(&weekdays) > 2 && is_run(&weekdays);
    if (c->any_day && (c->any_weekday || c->weekdays == 0x7f)) {
        if (times) say(w, ", every day");
    } else if (c->any_day) {
        say(w, "%s", run ? ", " : " on ");
        say_weekdays(w, c);
    } else if (c->any_weekday) {
        say(w, " ");
        say_days(w, c);
    } else {
        say(w, " ");
        say_days(w, c);
        say(w, "%s", c->both ? " if that is " : ", and also on ");
        say_weekdays(w, c);
    }
}

static void say_months_and_years(struct words *w, const struct cron *c) {
    struct set months = {{c->months >> 1}, 1, 12, month_names};
    struct set years = {{c->years[0], c->years[1], c->years[2]}, 1970, 130, NULL};
    // With both kinds of days a comma, so that the month is not taken for the weekdays' alone.
    const char *from = !c->any_day && !c->any_weekday ? ", in " : " in ";
    if (!is_all(&months)) {
        say(w, "%s", from);
        if (step_of(&months) > 1) say_noun(w, "month", &months);
        else say_members(w, &months);
    }
    if (!is_all(&years)) {
        say(w, "%s", is_all(&months) ? from : " of ");
        if (step_of(&years) > 1) say_noun(w, "year", &years);
        else say_members(w, &years);
    }
}

static void say_every(struct words *w, int64_t s) {
    static const struct {
        int64_t s;
        const char *noun;
    } units[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
    int of = 0, index = 0;
    for (size_t u = 0; u < array_len(units); u++) of += s % (u ? units[u - 1].s : INT64_MAX) / units[u].s > 0;
    say(w, "every ");
    for (size_t u = 0; u < array_len(units); u++) {
        int64_t n = s % (u ? units[u - 1].s : INT64_MAX) / units[u].s;
        if (n == 0) continue;
        say(w, "%s", between(index++, of));
        if (n == 1 && of == 1) say(w, "%s", u == 0 ? "24 hours" : units[u].noun);
        else say(w, "%d %s%s", (int)n, units[u].noun, n == 1 ? "" : "s");
    }
}

int cron_words(const struct cron *c, struct buf *out, struct err *err) {
    struct words w = {.out = out};
    if (c->every_s) {
        say_every(&w, c->every_s);
    } else {
        struct day_time t = {
            .second = {{c->seconds}, 0, 60, NULL},
            .minute = {{c->minutes}, 0, 60, NULL},
            .hour = {{c->hours}, 0, 24, NULL},
        };
        say_day(&w, c, say_time(&w, &t));
        say_months_and_years(&w, c);
    }
    return w.full ? err_set(err, ERR_TOO_LARGE, "the words of the expression do not fit") : 0;
}
