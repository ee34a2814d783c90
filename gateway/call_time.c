// SPDX-License-Identifier: Apache-2.0
// Times in a query: Unix milliseconds, or RFC 3339.
#include "core/when.h"
#include "gateway/call.h"

#define TIME_BYTES 40 // "2026-12-24T18:00:00.123456789+01:00" has 35
#define DATE_BYTES 10

// The + of a query that was not escaped arrives as a blank; the blank behind the date may be one.
static bool read_rfc3339(struct str text, int64_t *ret_ms) {
    char escaped[TIME_BYTES];
    struct when w;
    if (text.len <= DATE_BYTES || text.len > sizeof escaped) return false;
    memcpy(escaped, text.data, text.len);
    char *blank = memchr(escaped + DATE_BYTES + 1, ' ', text.len - DATE_BYTES - 1);
    if (blank) *blank = '+';
    struct str rest = {escaped, text.len};
    if (when_take(&rest, &w) || rest.len || !w.has_offset || w.unit_ms > 1000 || when_unix_ms(&w) < 0) return false;
    *ret_ms = when_unix_ms(&w);
    return true;
}

int call_time(struct call *call, const char *name, int64_t *ret, struct err *err) {
    struct str text;
    if (!http_query_param(call->req, name, &text)) return 0;
    if (read_rfc3339(text, ret) || call_number(call, name, 0, INT64_MAX, ret, NULL) == 0) return 0;
    return err_set(err, ERR_INVALID, "%s must be Unix milliseconds, or a time like 2026-12-24T18:00:00Z or 2026-12-24T18:00:00+01:00", name);
}
