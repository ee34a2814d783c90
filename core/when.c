// SPDX-License-Identifier: Apache-2.0
// The functions that take something off the front of a text say why they could not, or NULL.
#include "core/when.h"

#include <ctype.h>

#include "core/options.h"

static bool take(struct str *s, const char *any) {
    if (s->len == 0 || !s->data[0] || !strchr(any, s->data[0])) return false;
    *s = (struct str){s->data + 1, s->len - 1};
    return true;
}

static bool is_digit_at(struct str s, size_t i) {
    return i < s.len && isdigit((unsigned char)s.data[i]);
}

static bool take_number(struct str *s, size_t digits, int *ret) {
    int n = 0;
    for (size_t i = 0; i < digits; i++) {
        if (!is_digit_at(*s, i)) return false;
        n = n * 10 + (s->data[i] - '0');
    }
    *s = (struct str){s->data + digits, s->len - digits};
    *ret = n;
    return true;
}

static const char *take_date(struct str *s, struct civil *c) {
    if (!take_number(s, 4, &c->year) || !take(s, "-") || !take_number(s, 2, &c->month) || !take(s, "-") || !take_number(s, 2, &c->day))
        return "it does not begin with a date";
    if (c->month < 1 || c->month > 12 || c->day < 1 || c->day > civil_days_of_month(c->year, c->month)) return "there is no such day";
    return NULL;
}

// "18:00", "18:00:30", "18:00:30.250"
static const char *take_clock(struct str *s, struct when *w) {
    struct civil *c = &w->civil;
    if (!take_number(s, 2, &c->hour) || !take(s, ":") || !take_number(s, 2, &c->minute)) return "the time of day needs hours and minutes";
    w->unit_ms = 60000;
    if (take(s, ":")) {
        if (!take_number(s, 2, &c->second)) return "seconds have two digits";
        w->unit_ms = 1000;
        if (take(s, ".")) {
            if (!is_digit_at(*s, 0)) return "digits must follow the point";
            w->unit_ms = 1;
            int digit;
            for (int weight = 100; take_number(s, 1, &digit); weight /= 10) w->ms += digit * weight;
        }
    }
    return c->hour > 23 || c->minute > 59 || c->second > 60 /* a leap second */ ? "there is no such time of day" : NULL;
}

// "Z", "+01:00", "+0100", "+01"
static const char *take_offset(struct str *s, struct when *w) {
    int hours, minutes = 0, sign = s->len && s->data[0] == '-' ? -1 : 1;
    w->has_offset = true;
    if (take(s, "Zz")) return NULL;
    w->has_offset = take(s, "+-");
    if (!w->has_offset) return NULL;
    if (!take_number(s, 2, &hours) || ((take(s, ":") || s->len) && !take_number(s, 2, &minutes)) || hours > 23 || minutes > 59)
        return "the offset from UTC is wrong";
    w->offset_s = sign * (hours * 3600 + minutes * 60);
    return NULL;
}

const char *when_take(struct str *text, struct when *ret) {
    struct when w = {.unit_ms = 86400000};
    struct str rest = *text;
    const char *why = take_date(&rest, &w.civil);
    bool clock = !why && take(&rest, is_digit_at(rest, 1) ? "Tt " : "Tt");
    if (clock) why = take_clock(&rest, &w);
    if (!why) why = take_offset(&rest, &w);
    if (why) return why;
    *text = rest;
    *ret = w;
    return NULL;
}

int64_t when_unix_ms(const struct when *w) {
    return (civil_seconds(&w->civil) - w->offset_s) * 1000 + w->ms;
}

static int64_t in_zone(const struct zone *zone, const struct when *w) {
    return zone_unix_of(zone, &w->civil) * 1000 + w->ms;
}

static int refuse(struct str text, const char *why, struct err *err) {
    return err_set(err, ERR_INVALID,
                   "\"%.*s\" is no time: %s; give a time such as 2026-12-24T18:00+01:00, \"2026-12-24T18:00 Europe/Berlin\", 2026-12-24, now or +10m",
                   (int)(text.len < 80 ? text.len : 80), text.data ? text.data : "", why);
}

static int in_named_zone(struct str name, const struct when *w, int64_t *ret_ms, struct err *err) {
    struct zone *zone;
    int rc = zone_open(name, &zone, err);
    if (rc) return rc;
    *ret_ms = in_zone(zone, w);
    zone_close(zone);
    return 0;
}

static int parse_date(struct str text, const struct zone *zone, int64_t *ret_ms, struct err *err) {
    struct when w;
    struct str rest = text;
    const char *why = when_take(&rest, &w);
    if (why) return refuse(text, why, err);
    if (!w.has_offset && take(&rest, " ")) return in_named_zone(rest, &w, ret_ms, err);
    if (rest.len)
        return refuse(text, w.has_offset ? "something follows the offset from UTC" : "something follows that is no offset from UTC", err);
    *ret_ms = zone && !w.has_offset ? in_zone(zone, &w) : when_unix_ms(&w);
    return 0;
}

static int parse_from_now(struct str text, int64_t now_ms, int64_t *ret_ms, struct err *err) {
    int64_t ms;
    if (parse_duration_ms((struct str){text.data + 1, text.len - 1}, &ms, NULL)) return refuse(text, "+ and - are followed by a duration", err);
    bool beyond = text.data[0] == '-' ? __builtin_sub_overflow(now_ms, ms, ret_ms) : __builtin_add_overflow(now_ms, ms, ret_ms);
    return beyond ? refuse(text, "it is too far from now", err) : 0;
}

int when_parse(struct str text, const struct zone *zone, int64_t now_ms, int64_t *ret_ms, struct err *err) {
    int64_t ms = now_ms;
    int rc = 0;
    if (text.len && (text.data[0] == '+' || text.data[0] == '-')) rc = parse_from_now(text, now_ms, &ms, err);
    else if (!str_is(text, "now")) rc = parse_date(text, zone, &ms, err);
    if (rc) return rc;
    if (ms < 0 || ms >= WHEN_END_MS) return refuse(text, "it is not in the years 1970 to 2099", err);
    *ret_ms = ms;
    return 0;
}
