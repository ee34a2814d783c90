// SPDX-License-Identifier: Apache-2.0
// weir config: the server's options, as the running server has them or as this program knows them.
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "core/options.h"

static const struct arg_spec specs[] = {
    {"names", 0, ARG_FLAG, NULL, "only print the names of all options; asks no server", NULL},
    {"defaults", 0, ARG_FLAG, NULL, "print a configuration file with all defaults, commented out; asks no server", NULL},
    {0},
};

static int print_names(void) {
    for (const struct option_spec *o = option_specs; o->name; o++) puts(o->name);
    return EXIT_OK;
}

static int print_defaults(void) {
    puts("# Settings of weir: weir serve --config FILE. What is commented out shows the default.");
    for (const struct option_spec *o = option_specs; o->name; o++) {
        printf("\n# %s", o->help);
        if (*o->words) printf(" (%s)", o->words);
        printf("\n# %s =%s%s\n", o->name, *o->fallback ? " " : "", o->fallback);
    }
    return EXIT_OK;
}

static void print_options(const json_t *options) {
    static const char *const titles[] = {"NAME", "VALUE", "FROM", "MEANING", NULL};
    struct table t;
    table_init(&t, titles);
    size_t i;
    const json_t *o;
    json_array_foreach(options, i, o) {
        const char *origin = member_text(o, "origin", "?");
        bool changed = strcmp(origin, "default") != 0;
        table_add(&t, changed ? TONE_BOLD : TONE_PLAIN, "%s", member_text(o, "name", "?"));
        table_add(&t, changed ? TONE_BOLD : TONE_PLAIN, "%s", member_text(o, "value", ""));
        table_add(&t, changed ? TONE_PLAIN : TONE_DIM, "%s", origin);
        table_add(&t, TONE_DIM, "%s", member_text(o, "help", ""));
    }
    table_print(&t);
}

static int run_config(const struct args *a) {
    if (args_has(a, "names") && args_has(a, "defaults")) return out_misuse("config: give --names or --defaults, not both");
    if (args_has(a, "names")) return print_names();
    if (args_has(a, "defaults")) return print_defaults();
    cleanup_client struct client *c = client_new(a);
    json_auto_t *answer = NULL;
    int rc = client_json(c, "GET", "/v1/config", NULL, &answer);
    if (rc != EXIT_OK) return rc;
    if (args_has(a, "json")) out_json(answer);
    else print_options(json_object_get(answer, "options"));
    return EXIT_OK;
}

const struct command config_command = {
    .name = "config",
    .summary = "Shows the settings of the running server and where each comes from",
    .specs = specs,
    .uses = USES_SERVER | USES_JSON,
    .run = run_config,
};
