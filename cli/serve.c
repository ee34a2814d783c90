// SPDX-License-Identifier: Apache-2.0
// `weir serve`: settings from file, environment and command line, then the server.
#include <stdio.h>

#include "cli/commands.h"
#include "cli/server.h"
#include "core/base/log.h"

static void print_help(void) {
    puts("Usage: weir serve [--config FILE] [--OPTION VALUE]...\n"
         "\n"
         "Runs the server. With no option at all everything is kept in ./weir-data, and the HTTP API is on\n"
         "127.0.0.1:9000. Each option can also stand in the file (name = value) or in the environment (WEIR_NAME).\n"
         "\n"
         "  --config FILE          settings in INI form");
    for (const struct option_spec *o = option_specs; o->name; o++) {
        char name[64];
        snprintf(name, sizeof name, "--%s", o->name);
        printf("  %-22s %s", name, o->help);
        if (o->words[0]) printf(" (%s)", o->words);
        if (o->fallback[0]) printf(" [%s]", o->fallback);
        putchar('\n');
    }
    puts("\nExamples:\n"
         "  weir serve\n"
         "  weir serve --queue amqp://guest:guest@127.0.0.1/ --store postgresql://weir@127.0.0.1/weir\n"
         "\n"
         "SIGTERM or Ctrl-C stops it in order; a second one at once. Exit codes: 0 ok, 1 it failed, 2 wrong use.");
}

// The value of argv[*i], which is "--name=value" or "--name" followed by it. NULL: there is none.
static const char *value_of(int argc, char **argv, int *i, char name[64]) {
    const char *word = argv[*i] + 2;
    size_t len = strcspn(word, "=");
    if (text_format(name, 64, "%.*s", (int)len, word)) name[0] = '\0';
    if (word[len] == '=') return word + len + 1;
    return *i + 1 < argc ? argv[++*i] : NULL;
}

// One pass over the command line: --config only, or all the others.
static int read_arguments(struct options *o, int argc, char **argv, bool config_pass, struct err *err) {
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0 || !argv[i][2])
            return err_set(err, ERR_INVALID, "'%s' is not an option; see weir serve --help", argv[i]);
        char name[64];
        const char *value = value_of(argc, argv, &i, name);
        if (!value) return err_set(err, ERR_INVALID, "--%s needs a value", name);
        bool is_config = strcmp(name, "config") == 0;
        int rc = 0;
        if (is_config && config_pass) rc = options_read_file(o, value, err);
        else if (!is_config && !config_pass) rc = options_set(o, name, value, "command line", err);
        if (rc) return rc;
    }
    return 0;
}

static int read_options(struct options *o, int argc, char **argv, struct err *err) {
    int rc = read_arguments(o, argc, argv, true, err);
    if (rc == 0) rc = options_read_environment(o, err);
    if (rc == 0) rc = read_arguments(o, argc, argv, false, err);
    return rc;
}

int cmd_serve(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help();
            return EXIT_OK;
        }
    struct options o;
    struct err err = {0};
    options_init(&o);
    int rc = read_options(&o, argc, argv, &err);
    int exit_code = rc ? EXIT_MISUSE : EXIT_OK;
    enum log_level level = LOG_LEVEL_INFO;
    if (rc == 0) rc = log_level_parse(o.log_level.text, &level);
    if (rc == 0) {
        log_setup(level, strcmp(o.log_format.text, "json") == 0);
        rc = server_run(&o, &err);
        exit_code = rc ? EXIT_FAILED : EXIT_OK;
    }
    if (rc) fprintf(stderr, "weir: %s%s\n", err.text, exit_code == EXIT_FAILED ? "\n      the server has ended" : "");
    options_done(&o);
    return exit_code;
}
