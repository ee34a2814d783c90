// SPDX-License-Identifier: Apache-2.0
#include "dlq/retry.h"

#include "core/base/mem.h"

bool retry_is_charged(enum outcome outcome) {
    return outcome == OUTCOME_ERROR || outcome == OUTCOME_TIMEOUT || outcome == OUTCOME_CRASH;
}

// The back-off before the retry that follows attempt number `attempts`.
static int64_t backoff(const struct retry_policy *policy, uint32_t attempts, double random) {
    MUST(policy->backoff_count > 0 && attempts > 0);
    uint32_t i = attempts - 1 < policy->backoff_count ? attempts - 1 : policy->backoff_count - 1;
    double spread = 1.0 + RETRY_JITTER * (2.0 * random - 1.0);
    return (int64_t)((double)policy->backoff_ms[i] * spread);
}

static int64_t last_moment(const struct retry_policy *policy, const struct retry_case *c) {
    if (c->sync) return c->deadline_ms; // 0 when the caller gave none: nothing is later than never
    return c->accepted_ms + policy->max_age_ms;
}

struct retry_decision retry_decide(const struct retry_policy *policy, const struct retry_case *c) {
    bool charged = retry_is_charged(c->outcome);
    if (charged && c->attempts > policy->retries) return (struct retry_decision){.again = false};
    int64_t delay_ms = charged ? backoff(policy, c->attempts, c->random) : RETRY_UNCHARGED_PACE_MS;
    int64_t at_ms = c->now_ms + delay_ms;
    if (at_ms >= last_moment(policy, c)) return (struct retry_decision){.again = false, .expired = true};
    return (struct retry_decision){.again = true, .at_ms = at_ms};
}
