// SPDX-License-Identifier: Apache-2.0
// Times in a query: Unix milliseconds, or RFC 3339.
#include <time.h>

#include "gateway/call.h"

// What stands in place of each character; the offset or Z follows. A fraction may stand before it.
static const char shape[] = "dddd-dd-ddTdd:dd:dd";

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool has_shape(struct str text) {
    if (text.len < sizeof shape) return false;
    for (size_t i = 0; i < sizeof shape - 1; i++) {
        char c = text.data[i];
        bool good = shape[i] == 'd' ? is_digit(c) : c == shape[i] || (shape[i] == 'T' && (c == 't' || c == ' '));
        if (!good) return false;
    }
    return true;
}

static int two_digits(const char *at) {
    return (at[0] - '0') * 10 + (at[1] - '0');
}

static int take_fraction(struct str *left) {
    int ms = 0, weight = 100;
    if (left->len < 2 || left->data[0] != '.' || !is_digit(left->data[1])) return 0;
    size_t n = 1;
    for (; n < left->len && is_digit(left->data[n]); n++, weight /= 10) ms += weight * (left->data[n] - '0');
    *left = (struct str){left->data + n, left->len - n};
    return ms;
}

// "Z", "+01:00"; the + of a query that was not escaped arrives as a blank.
static bool read_offset(struct str text, int *ret_minutes) {
    *ret_minutes = 0;
    if (text.len == 1) return text.data[0] == 'Z' || text.data[0] == 'z';
    if (text.len != 6 || !memchr("+- ", text.data[0], 3) || text.data[3] != ':') return false;
    const char *at = text.data + 1;
    if (!is_digit(at[0]) || !is_digit(at[1]) || !is_digit(at[3]) || !is_digit(at[4])) return false;
    int hours = two_digits(at), minutes = two_digits(at + 3);
    *ret_minutes = (text.data[0] == '-' ? -1 : 1) * (hours * 60 + minutes);
    return hours < 24 && minutes < 60;
}

static bool read_rfc3339(struct str text, int64_t *ret_ms) {
    int offset;
    if (!has_shape(text)) return false;
    const char *at = text.data;
    const struct tm given = {.tm_year = two_digits(at) * 100 + two_digits(at + 2) - 1900,
                             .tm_mon = two_digits(at + 5) - 1,
                             .tm_mday = two_digits(at + 8),
                             .tm_hour = two_digits(at + 11),
                             .tm_min = two_digits(at + 14),
                             .tm_sec = two_digits(at + 17)};
    struct str left = {at + sizeof shape - 1, text.len - (sizeof shape - 1)};
    int ms = take_fraction(&left);
    struct tm tm = given;
    int64_t seconds = timegm(&tm); // puts a 31 April right, which shows that it was wrong
    bool real = tm.tm_mon == given.tm_mon && tm.tm_mday == given.tm_mday && tm.tm_hour == given.tm_hour &&
                tm.tm_min == given.tm_min && tm.tm_sec == given.tm_sec;
    if (!real || !read_offset(left, &offset)) return false;
    *ret_ms = (seconds - offset * 60) * 1000 + ms;
    return *ret_ms >= 0;
}

int call_time(struct call *call, const char *name, int64_t *ret, struct err *err) {
    struct str text;
    if (!http_query_param(call->req, name, &text)) return 0;
    if (read_rfc3339(text, ret) || call_number(call, name, 0, INT64_MAX, ret, NULL) == 0) return 0;
    return err_set(err, ERR_INVALID, "%s must be Unix milliseconds, or a time like 2026-12-24T18:00:00Z or 2026-12-24T18:00:00+01:00", name);
}
