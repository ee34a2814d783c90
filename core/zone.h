// SPDX-License-Identifier: Apache-2.0
// Time zones: when the offset from UTC of a place changes, 1970 to 2099, as a table that is read without locks or calls.
//
// Flow: name -> GLib's GTimeZone, which reads the system's zone data (TZif files in $TZDIR or /usr/share/zoneinfo, and past their last
//   transition the rule in their footer) -> table. Zones are shared: zone_open of the same name gives the same table until zone_reload.
// Names: those of the zone data ("Europe/Berlin"), letters, digits and /_+- only; never a path out of it or a rule of POSIX. "UTC", "Etc/UTC"
//   and "Z" need no zone data.
// Units: Unix seconds; offsets in seconds east of UTC.
// Memory: a table is some kilobytes and takes some milliseconds to make; it lives as long as somebody holds it.
// Threads: the loop's; the functions of struct zone any.
// Errors: ERR_INVALID: no such zone; the message names the nearest that exists.
#ifndef CORE_ZONE_H
#define CORE_ZONE_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/base/str.h"

#define ZONE_NAME_MAX 64 // bytes

struct zone_span {         // the same offset from `begin` to the begin of the next
    int64_t begin;         // Unix seconds; of the first: INT64_MIN
    int32_t offset;
    bool dst;
    char abbreviation[8];  // "CET"; "" when there is none
};
struct zone {
    char *name;
    struct zone_span *spans; // ascending; spans that change neither offset nor abbreviation are joined
    size_t count;            // at least 1
    unsigned users;
};

int zone_open(struct str name, struct zone **ret, struct err *err) must_use;
struct zone *zone_ref(struct zone *z);
void zone_close(struct zone *z); // NULL is fine
// The system's zone data may have changed: what is opened from now on is read anew. Held tables stay as they are.
void zone_reload(void);
size_t zone_span_at(const struct zone *z, int64_t unix_s); // index
// RFC 3339 with the offset there: "2026-03-29T03:00:00+02:00" (25 characters and a NUL); "" outside of the years 0 to 9999.
#define ZONE_TEXT_BYTES 32
void zone_format(const struct zone *z, int64_t unix_s, char out[ZONE_TEXT_BYTES]);

// --- the calendar (proleptic Gregorian) -----------------------------------------------------------------------------
struct civil {
    int year, month, day;        // month 1..12
    int hour, minute, second;
};
int64_t civil_seconds(const struct civil *c);     // as if it were UTC; what is not a month may be out of its range and is carried over
struct civil civil_of(int64_t seconds);
int civil_weekday(int64_t seconds);               // 0 Sunday
int civil_days_of_month(int year, int month);
// A local time as it is meant in the zone: in a gap the gap's end, in a repeated hour the first.
int64_t zone_unix_of(const struct zone *z, const struct civil *local);

#endif
