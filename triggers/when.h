// SPDX-License-Identifier: Apache-2.0
// Times as people write them.
//
// Forms: RFC 3339 with an offset ("2026-12-24T18:00:00+01:00", "…T17:00Z"); a local time ("2026-12-24T18:00", "2026-12-24 18:00:30.5"); a date,
//   which is its midnight; a local time or a date, a blank and a zone ("2026-12-24T18:00 Europe/Berlin"); "now"; from now "+10m", "-2h", "+3d"
//   (a day is 24 hours). A local time that a change of the clocks leaves out is the end of that gap, one that it repeats is the first.
// Range: 1970-01-01T00:00:00Z to 2099-12-31T23:59:59.999Z. Units: Unix milliseconds; what is below them is cut off.
// Errors: ERR_INVALID says what is wrong and how it is written. Threads: the loop's, for its zones.
#ifndef TRIGGERS_WHEN_H
#define TRIGGERS_WHEN_H

#include "triggers/zone.h"

#define WHEN_END_MS INT64_C(4102444800000) // 2100-01-01T00:00:00Z, the first that is too late

// zone: of a local time that names none; NULL: UTC.
int when_parse(struct str text, const struct zone *zone, int64_t now_ms, int64_t *ret_ms, struct err *err) must_use;

#endif
