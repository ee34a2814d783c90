// SPDX-License-Identifier: Apache-2.0
// What becomes of an event after a failed attempt: again later, or no more. A pure function.
//
// Flow: three kinds of failure are told apart. The handler failed, timed out or crashed: charged, tried again after the
//   back-off until the retries are used up. No room (throttled) and failures of weir itself (platform): never charged,
//   tried again at a fixed pace. An event is not tried after its maximum age. A sync event is tried again only if its
//   caller's deadline leaves the time, and never waits in the store.
// Units: milliseconds; times are Unix ms. Threads: any.
#ifndef DLQ_RETRY_H
#define DLQ_RETRY_H

#include <stdint.h>

#include "core/base/mem.h"
#include "core/outcome.h"

#define RETRY_UNCHARGED_PACE_MS 5000
#define RETRY_JITTER 0.2 // the back-off is spread evenly over ±20 %

struct retry_policy {
    uint32_t retries;           // after the first attempt
    const int64_t *backoff_ms;  // before the first, second, ... retry; the last one repeats
    uint32_t backoff_count;     // at least 1
    int64_t max_age_ms;         // since it was accepted
};

struct retry_case {
    enum outcome outcome;       // not OUTCOME_OK
    uint32_t attempts;          // charged so far, this one included when it is charged
    bool sync;
    int64_t accepted_ms, deadline_ms, now_ms; // deadline_ms: of a sync caller; 0: none was given
    double random;              // [0, 1)
};

struct retry_decision {
    bool again;
    int64_t at_ms;              // when, if again
    bool expired;               // not again because of its age or deadline, rather than its attempts
};

bool retry_is_charged(enum outcome outcome);
struct retry_decision retry_decide(const struct retry_policy *policy, const struct retry_case *c);

#endif
