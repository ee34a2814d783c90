// SPDX-License-Identifier: Apache-2.0
// The two clocks: monotonic nanoseconds for durations, Unix milliseconds for what is stored or shown.
//
// Threads: any.
#ifndef CORE_BASE_CLOCK_H
#define CORE_BASE_CLOCK_H

#include <stdint.h>

#define NS_PER_MS INT64_C(1000000)

int64_t clock_mono_ns(void);
int64_t clock_unix_ms(void);
// RFC 3339 in UTC with milliseconds: "2026-01-01T00:00:00.000Z" (24 characters and a NUL).
#define CLOCK_TEXT_BYTES 25
void clock_format_utc(int64_t unix_ms, char out[CLOCK_TEXT_BYTES]);

#endif
