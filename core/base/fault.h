// SPDX-License-Identifier: Apache-2.0
// Fault points: named moments at which a test lets the process die as by kill -9, or stall, to see that nothing is lost there.
//
// Flow: WEIR_CRASH_AT=delivery.finished lets it die the first time that it passes FAULT("delivery.finished"), and
//   WEIR_CRASH_AT=delivery.finished:500 the 500th time; WEIR_STALL_AT stops it there until SIGCONT. Unset, a point costs one
//   branch that is never taken.
// Threads: any, once fault_arm has been called before they start.
#ifndef CORE_BASE_FAULT_H
#define CORE_BASE_FAULT_H

#include <stdbool.h>

#define FAULT(point) FAULT2(point, "")
// The name of the point in two parts, for those of a table.
#define FAULT2(prefix, rest)                                                             \
    do {                                                                                 \
        if (__builtin_expect(fault_is_armed, false)) fault_pass(prefix, rest);           \
    } while (0)

// spec: "point" or "point:times"; NULL or "": none. Copied. sig: SIGKILL or SIGSTOP, to all of the process.
void fault_arm(const char *spec, int sig);
void fault_pass(const char *prefix, const char *rest);
extern bool fault_is_armed;

#endif
