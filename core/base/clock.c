// SPDX-License-Identifier: Apache-2.0
#include "core/base/clock.h"

#include <stdio.h>
#include <time.h>

int64_t clock_mono_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t clock_unix_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void clock_format_utc(int64_t unix_ms, char out[CLOCK_TEXT_BYTES]) {
    time_t sec = (time_t)(unix_ms / 1000);
    int ms = (int)(unix_ms % 1000);
    if (ms < 0) {
        ms += 1000;
        sec -= 1;
    }
    struct tm tm;
    char day[32];
    if (!gmtime_r(&sec, &tm) || strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm) != 19) {
        snprintf(out, CLOCK_TEXT_BYTES, "out-of-range");
        return;
    }
    snprintf(out, CLOCK_TEXT_BYTES, "%.19s.%03dZ", day, ms % 1000);
}
