// SPDX-License-Identifier: Apache-2.0
// Rounds.
#include "dlq/policies_impl.h"

void policies_keep(void *policies) {
    (void)policies;
}

void policies_tell(struct policies *p, bool all) {
    (void)p;
    (void)all;
}

void policies_round_free(struct round *round) {
    free(round);
}
