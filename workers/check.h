// SPDX-License-Identifier: Apache-2.0
// The check of a deploy: a real instance loads the code, and the deployer hears what it said.
//
// Threads: the loop's. Errors: ERR_INVALID with the runtime's message (syntax error, no such handler), ERR_UNAVAILABLE.
#ifndef WORKERS_CHECK_H
#define WORKERS_CHECK_H

#include "workers/fleet.h"

typedef void check_done_fn(void *arg, int code, const struct err *err);
void check_version(struct fleet *fleet, struct version *v, check_done_fn *done, void *arg);

#endif
