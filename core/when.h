// SPDX-License-Identifier: Apache-2.0
// Times as people write them: all of weir reads them here.
//
// Forms: RFC 3339 with an offset ("2026-12-24T18:00:00+01:00", "…T17:00Z"); a local time ("2026-12-24T18:00", "2026-12-24 18:00:30.5"); a date,
//   which is its midnight; a local time or a date, a blank and a zone ("2026-12-24T18:00 Europe/Berlin"); "now"; from now "+10m", "-2h", "+3d"
//   (a day is 24 hours). A local time that a change of the clocks leaves out is the end of that gap, one that it repeats is the first.
// Range of when_parse: 1970-01-01T00:00:00Z to 2099-12-31T23:59:59.999Z. Units: Unix milliseconds; what is below them is cut off.
// Errors: ERR_INVALID says what is wrong and how it is written. Threads: when_parse the loop's, for its zones; the others any.
#ifndef CORE_WHEN_H
#define CORE_WHEN_H

#include "core/zone.h"

#define WHEN_END_MS INT64_C(4102444800000) // 2100-01-01T00:00:00Z, the first that is too late

// zone: of a local time that names none; NULL: UTC.
int when_parse(struct str text, const struct zone *zone, int64_t now_ms, int64_t *ret_ms, struct err *err) must_use;

// For those who take less than all of this, or want more than the moment. Pure.
struct when {
    struct civil civil; // as it is written; what is not written is 0
    int ms;
    int64_t unit_ms;    // of the last part of it that is written: a day, a minute, a second or 1
    bool has_offset;
    int offset_s;       // east of UTC
};
// Takes the date, and the time of day and the offset where they follow it, off the front of *text. NULL, or why it is none.
const char *when_take(struct str *text, struct when *ret) must_use;
int64_t when_unix_ms(const struct when *w); // UTC where it has no offset; year 0 to 9999

#endif
