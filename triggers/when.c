// SPDX-License-Identifier: Apache-2.0
// The functions that take something off the front of a text say why they could not, or NULL.
#include "triggers/when.h"

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
static const char *take_clock(struct str *s, struct civil *c, int *ret_ms) {
    if (!take_number(s, 2, &c->hour) || !take(s, ":") || !take_number(s, 2, &c->minute)) return "the time of day needs hours and minutes";
    if (take(s, ":")) {
        if (!take_number(s, 2, &c->second)) return "seconds have two digits";
        if (take(s, ".")) {
            if (!is_digit_at(*s, 0)) return "digits must follow the point";
            int digit;
            for (int weight = 100; take_number(s, 1, &digit); weight /= 10) *ret_ms += digit * weight;
        }
    }
    return c->hour > 23 || c->minute > 59 || c->second > 60 /* a leap second */ ? "there is no such time of day" : NULL;
}

// "Z", "+01:00", "+0100", "+01"
static const char *take_offset(struct str *s, int *ret_s) {
    int hours, minutes = 0, sign = s->data[0] == '-' ? -1 : 1;
    *ret_s = 0;
    if (take(s, "Zz")) return NULL;
    if (!take(s, "+-")) return "something follows that is no offset from UTC";
    if (!take_number(s, 2, &hours) || ((take(s, ":") || s->len) && !take_number(s, 2, &minutes)) || hours > 23 || minutes > 59)
        return "the offset from UTC is wrong";
    *ret_s = sign * (hours * 3600 + minutes * 60);
    return NULL;
}

static int refuse(struct str text, const char *why, struct err *err) {
    return err_set(err, ERR_INVALID,
                   "\"%.*s\" is no time: %s; give a time such as 2026-12-24T18:00+01:00, \"2026-12-24T18:00 Europe/Berlin\", 2026-12-24, now or +10m",
                   (int)(text.len < 80 ? text.len : 80), text.data ? text.data : "", why);
}

static int in_named_zone(struct str name, const struct civil *c, int64_t *ret_s, struct err *err) {
    struct zone *zone;
    int rc = zone_open(name, &zone, err);
    if (rc) return rc;
    *ret_s = zone_unix_of(zone, c);
    zone_close(zone);
    return 0;
}

static int parse_date(struct str text, const struct zone *zone, int64_t *ret_ms, struct err *err) {
    struct civil c = {0};
    struct str rest = text;
    int ms = 0, offset_s = 0;
    int64_t s;
    const char *why = take_date(&rest, &c);
    bool clock = !why && (is_digit_at(rest, 1) ? take(&rest, "Tt ") : take(&rest, "Tt"));
    if (clock) why = take_clock(&rest, &c, &ms);
    if (why) return refuse(text, why, err);
    if (rest.len == 0) {
        s = zone ? zone_unix_of(zone, &c) : civil_seconds(&c);
    } else if (take(&rest, " ")) {
        int rc = in_named_zone(rest, &c, &s, err);
        if (rc) return rc;
    } else {
        why = take_offset(&rest, &offset_s);
        if (!why && rest.len) why = "something follows the offset from UTC";
        if (why) return refuse(text, why, err);
        s = civil_seconds(&c) - offset_s;
    }
    *ret_ms = s * 1000 + ms;
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
