// SPDX-License-Identifier: Apache-2.0
// The program: the table of subcommands. Each lives in a file of its own.
#include <locale.h>

#include "cli/args.h"
#include "cli/commands.h"
#include "cli/out.h"

// --- completion ---------------------------------------------------------------------------------------------------

// The shell asks the program at each Tab, so that the candidates come from the tables of this version.
static const char bash_script[] =
    "_weir() {\n"
    "    local IFS=$'\\n' words\n"
    "    words=$(\"${COMP_WORDS[0]}\" completion words -- \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null)\n"
    "    COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
    "}\n"
    "complete -o default -F _weir weir\n";

static const struct command root;

static int run_completion_bash(const struct args *a) {
    (void)a;
    fputs(bash_script, stdout);
    return EXIT_OK;
}

static int run_completion_words(int argc, char **argv) {
    int from = argc > 1 && strcmp(argv[1], "--") == 0 ? 2 : 1;
    if (argc > from) args_complete(&root, (size_t)(argc - from), argv + from);
    return EXIT_OK;
}

static const struct command completion_bash = {
    .name = "bash",
    .summary = "Prints the completion for bash",
    .about = "Put this into ~/.bashrc:  eval \"$(weir completion bash)\"\n",
    .run = run_completion_bash,
};
static const struct command completion_words = {
    .name = "words",
    .summary = "Prints what could stand at the end of a command line (called by the shell)",
    .run_raw = run_completion_words,
};
static const struct command completion_command = {
    .name = "completion",
    .summary = "Prints the completion for a shell",
    .subs = (const struct command *const[]){&completion_bash, &completion_words, NULL},
};

// --- help, version ------------------------------------------------------------------------------------------------

static int run_help(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--help") == 0) argc = 1;
    return args_help(&root, (size_t)(argc - 1), argv + 1);
}

static const struct command help_command = {
    .name = "help",
    .words = "[COMMAND]",
    .summary = "Explains a command",
    .run_raw = run_help,
};

static int run_version(const struct args *a) {
    (void)a;
    puts("weir " WEIR_VERSION);
    return EXIT_OK;
}

static const struct command version_command = {
    .name = "version",
    .summary = "Prints the version of this program",
    .run = run_version,
};

static const struct command serve_command = {
    .name = "serve",
    .summary = "Runs the server",
    .run_raw = cmd_serve,
};

static const struct command *const commands[] = {
    &serve_command,
    &deploy_command,     &invoke_command, &run_here_command, &run_at_command,  &fn_command, &trigger_command, &cron_command,
    &status_command,     &logs_command,   &dlq_command,     &audit_command,  &config_command, &doctor_command,
    &completion_command, &help_command,   &version_command, NULL,
};

static const struct command root = {
    .name = "weir",
    .summary = "Runs your function on every event, retries it, and keeps what still failed until it is replayed",
    .about = "\nThe commands talk to a running server: --server URL, WEIR_SERVER, or http://127.0.0.1:9000.\n"
             "Exit codes: 0 ok, 1 the thing failed, 2 wrong use.\n",
    .subs = commands,
};

int main(int argc, char **argv) {
    setlocale(LC_CTYPE, "");
    if (MB_CUR_MAX == 1) setlocale(LC_CTYPE, "C.UTF-8"); // file names in packages are UTF-8, also under LANG=C
    bool version = argc == 2 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0);
    int rc = version ? run_version(NULL) : args_run(&root, argc, argv);
    // A full disk or a closed pipe behind stdout is a failure too.
    if (fflush(stdout) != 0 || ferror(stdout)) return out_fail("the output could not be written");
    return rc;
}
