// SPDX-License-Identifier: Apache-2.0
#include "cli/env.h"

#include "cli/commands.h"
#include "cli/out.h"

int env_read(const struct args *a, json_t *env) {
    const char *pair;
    for (size_t i = 0; (pair = args_nth(a, "env", i)); i++) {
        const char *equals = strchr(pair, '=');
        if (!equals || equals == pair) return out_misuse("--env '%s' is not of the form NAME=VALUE", pair);
        json_t *value = json_string(equals + 1);
        if (!value) return out_misuse("--env %.*s: the value is not UTF-8", (int)(equals - pair), pair);
        json_object_setn_new(env, pair, (size_t)(equals - pair), value);
    }
    return EXIT_OK;
}
