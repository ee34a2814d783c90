// SPDX-License-Identifier: Apache-2.0
// Cron expressions: read, explained in words, and the next time they match. Pure.
//
// Forms (docs/timers.md has the rules): 7 fields `second minute hour day month weekday year` (Tencent SCF), 6 without the year (Alibaba FC,
//   robfig/cron with seconds), 5 without the second (crontab(5)); @yearly @annually @monthly @weekly @daily @midnight @hourly; `@every 5m`;
//   in front of any `CRON_TZ=Zone ` or `TZ=Zone `. Fields: * ? a a-b a-b/n */n a/n lists, names of months and weekdays; day: L L-n LW nW;
//   weekday: 0..7 (0 and 7 Sunday), nL (last), n#k (k-th). ? only as a whole day or weekday. a/n ends with the field, a weekday's
//   with 6; a step is no larger than the field's last value, as it would not do what it says. nW is in no month without a day n.
//   Day and weekday both restricted: either matches. Restricted is what is not * or ?; in the form with 5 fields also what begins with *
//   is not (crontab(5)), so that there `*/2` and a weekday must both match.
// Daylight saving (Debian's cron, crontab(5); enum cron_dst): an expression is *fixed* unless its second, minute or hour field begins with *
//   (a second that is not written is 0).
// Units: Unix seconds. Range: 1970-01-01T00:00:00 to 2099-12-31T23:59:59 local, and nothing before 0 Unix. Threads: any. Memory: none is kept.
// Errors: ERR_INVALID: "field 3 (hour): 24 is above 23", and cron_error says where.
#ifndef TRIGGERS_CRON_H
#define TRIGGERS_CRON_H

#include "core/base/buf.h"
#include "core/zone.h"

#define CRON_TEXT_MAX 500 // bytes of an expression
#define CRON_NEVER INT64_MAX

// X(name, word, in a gap once at its end, in the repeated hour both times; for fixed expressions and for the others)
#define CRON_DSTS(X)                                                                             \
    X(CRON_DST_CRON, "cron") /* fixed: gap's end, first; others keep their cadence: not, both */ \
    X(CRON_DST_SKIP, "skip") /* what falls in the gap is left out; first */                      \
    X(CRON_DST_ONCE, "once") /* gap's end; first */                                              \
    X(CRON_DST_BOTH, "both") /* gap's end; both */
enum cron_dst {
#define X(name, word) name,
    CRON_DSTS(X)
#undef X
};
const char *cron_dst_word(enum cron_dst d);
int cron_dst_parse(struct str word, enum cron_dst *ret, struct err *err) must_use;

struct cron {
    int64_t every_s;        // @every: the period; 0: an expression of fields, below
    uint64_t seconds, minutes; // bit n: n
    uint32_t hours, days;   // days: bit 1..31
    uint16_t months;        // bit 1..12
    uint8_t weekdays;       // bit 0..6, 0 Sunday
    uint64_t years[3];      // bit n: 1970 + n; 130 of them
    uint32_t last_days;     // bit n: the n-th day before the month's last (L is bit 0)
    uint32_t near_days;     // bit 1..31: nW; bit 0: LW
    uint8_t last_weekdays;  // bit 0..6: nL
    uint8_t nth_weekdays[5];// [k-1] bit 0..6: n#k
    bool any_day, any_weekday; // not restricted
    bool both;              // both are restricted, and both must match
    bool fixed;             // no wildcard in second, minute, hour
    uint8_t fields;         // 5, 6, 7; 0: an @word
};

struct cron_error {         // where the expression is wrong; a caller may give NULL
    int field;              // 1..7 in the order of the form; 0: the expression as a whole
    size_t begin, end;      // bytes of the text
};

// ret_zone (may be NULL when err must say that a zone is not wanted here): of CRON_TZ=, a span of text; empty: none is given.
int cron_parse(struct str text, struct cron *ret, struct str *ret_zone, struct cron_error *where, struct err *err) must_use;

// How a time came about, for those who look.
enum cron_mark { CRON_PLAIN, CRON_GAP_END /* moved out of a gap */, CRON_FIRST, CRON_SECOND /* of a repeated local time */ };

// The first time after `after_s` (exclusive), CRON_NEVER when there is none. anchor_s: where @every counts from (the first is anchor + every).
// ret_mark may be NULL.
int64_t cron_next(const struct cron *c, const struct zone *z, enum cron_dst dst, int64_t anchor_s, int64_t after_s, enum cron_mark *ret_mark);

// "at 10:00, 14:00 and 16:00, every day" – one English sentence without an end mark. ERR_TOO_LARGE of out.
int cron_words(const struct cron *c, struct buf *out, struct err *err) must_use;

#endif
