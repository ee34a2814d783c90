// SPDX-License-Identifier: Apache-2.0
// The subcommands: one `struct command` each, joined to a tree that cli/main.c owns.
//
// Errors: a command returns the exit code of the process: 0 ok, 1 the thing failed, 2 wrong use. It has said why.
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "cli/args.h"

// Exit codes.
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_MISUSE = 2 };

extern const struct command deploy_command;
extern const struct command invoke_command;
extern const struct command run_here_command;
extern const struct command fn_command;
extern const struct command trigger_command;
extern const struct command cron_command;
extern const struct command run_at_command;
extern const struct command dlq_command;
extern const struct command audit_command;
extern const struct command logs_command;
extern const struct command status_command;
extern const struct command config_command;
extern const struct command doctor_command;

// cli/serve.c; argv[0] is "serve". It parses the server's options (core/options) itself.
int cmd_serve(int argc, char **argv);

#endif
