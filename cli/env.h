// SPDX-License-Identifier: Apache-2.0
// --env NAME=VALUE, as deploy and run take it.
//
// Errors: said on stderr; an exit code comes back. Threads: one.
#ifndef CLI_ENV_H
#define CLI_ENV_H

#include <jansson.h>

#include "cli/args.h"

// Sets a string in `env` for each --env.
int env_read(const struct args *a, json_t *env) must_use;

#endif
