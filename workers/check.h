// SPDX-License-Identifier: Apache-2.0
// The check of a deploy: a real instance loads the code, and the deployer hears what it said.
//
// Threads: the loop's. Errors: ERR_INVALID with the runtime's message (syntax error, no such handler), ERR_UNAVAILABLE.
#ifndef WORKERS_CHECK_H
#define WORKERS_CHECK_H

#include "workers/fleet.h"

struct check;
typedef void check_done_fn(void *arg, int code, const struct err *err);
// `checks` is the caller's list of those under way, empty at first.
void check_version(struct fleet *fleet, struct version *v, struct check **checks, check_done_fn *done, void *arg);
void check_kill_all(struct check *checks); // the server stops: each ends with ERR_UNAVAILABLE

#endif
