// SPDX-License-Identifier: Apache-2.0
// How one attempt to run an event ended. Not an error of ours: a value.
#ifndef CORE_OUTCOME_H
#define CORE_OUTCOME_H

#include <stdint.h>

#include "core/base/str.h"

// X(name, word): the word is used in JSON, metrics and the history of a letter.
#define OUTCOMES(X)                                                                     \
    X(OUTCOME_OK, "ok")               /* the handler returned */                        \
    X(OUTCOME_ERROR, "error")         /* the handler failed: charged */                 \
    X(OUTCOME_TIMEOUT, "timeout")     /* it ran past its time: charged */               \
    X(OUTCOME_CRASH, "crash")         /* its process died under it: charged */          \
    X(OUTCOME_THROTTLED, "throttled") /* no room to run it: not charged */              \
    X(OUTCOME_PLATFORM, "platform")   /* weir could not run it (code missing, no process): not charged */

enum outcome {
#define X(name, word) name,
    OUTCOMES(X)
#undef X
};
const char *outcome_word(enum outcome o);

// The report on an attempt; spans are borrowed for the call that carries it.
struct outcome_report {
    enum outcome outcome;
    struct str result;        // OUTCOME_OK: what the handler returned
    struct str error_type, error_message, stack; // else
    struct str log_tail;      // at most OUTCOME_LOG_TAIL bytes of what the handler wrote
    int64_t start_unix_ms, duration_us;
    int instance_pid;
    uint32_t version;
};
#define OUTCOME_LOG_TAIL 4096

#endif
