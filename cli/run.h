// SPDX-License-Identifier: Apache-2.0
// Inside of weir run: one event in one process of its language's runtime, without a server.
//
// Does not: fence the process in, as the server's sandbox does. Its environment, its frames (schema/frames.md), its limits and the words
//   for how it ended are the server's.
// Blocking: yes. Threads: one.
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include <jansson.h>

#include "core/base/buf.h"
#include "core/ev.h"
#include "core/outcome.h"
#include "core/registry.h"
#include "workers/runtime.h"

struct run_plan {
    const struct runtime *runtime;
    const struct version *version; // what INIT says; the time limit is its timeout_ms
    const struct ev *ev;           // with the payload that the function sees
    bool debug;                    // under the runtime's debugger, which has the terminal; without limits
};

struct run_end {
    enum outcome outcome;    // OUTCOME_OK, _ERROR, _TIMEOUT, _CRASH
    struct buf result;       // OUTCOME_OK
    json_t *error;           // {"type", "message", "stack"}; NULL: there is a result, or none was waited for
    int64_t duration_us;     // of the handler alone
    bool left;               // the debugger was left before the handler ended
    int signal;              // it was interrupted by this one; 0: no
};

// Runs it; what the function writes goes to stderr as it comes. ERR_UNAVAILABLE: the process cannot be started. run_end_done frees.
int run_event(const struct run_plan *plan, struct run_end *ret, struct err *err) must_use; // run_child.c
void run_end_done(struct run_end *end);

// Tells how it ended, on stdout and stderr, against the error of the case (NULL: it has none). Returns the exit code.
int run_report(const struct run_end *end, struct str function, const json_t *case_error, bool json); // run_report.c

#endif
