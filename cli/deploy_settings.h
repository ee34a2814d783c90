// SPDX-License-Identifier: Apache-2.0
// Settings of the version before: what a deploy keeps of them, and what differs. A deploy takes the default for what is left out, so that
// an `env` or a `timeout` is easily lost.
//
// Threads: one. Memory: JSON that comes back belongs to the caller.
#ifndef CLI_DEPLOY_SETTINGS_H
#define CLI_DEPLOY_SETTINGS_H

#include <jansson.h>

#include "cli/client.h"

// The function as the server tells it; NULL: there is none of this name. Returns 0 or an error.
int deploy_fetch(struct client *c, const char *name, json_t **ret, struct err *err) must_use;
// Of this version of it, borrowed; NULL: it has none.
json_t *deploy_settings_of(const json_t *function, int64_t version);
// Members of `kept` that `settings` lacks go into it, variables of `env` one by one.
void deploy_keep(json_t *settings, const json_t *kept);
// [{"name","what":"changed"|"added"|"gone","before","after"}…]; "env.NAME" for a variable, whose values are not told.
json_t *deploy_differences(const json_t *before, const json_t *after) must_use;
// One line on stdout: "env SINK gone, timeout 10s -> 60s"; nothing when nothing differs.
void deploy_print_differences(int64_t version, const json_t *differences);

#endif
