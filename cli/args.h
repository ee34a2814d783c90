// SPDX-License-Identifier: Apache-2.0
// Options of a subcommand: one table makes the parser, the text of --help and the shell's completion.
//
// Flow: args_run finds the command in the tree, parses its options, and calls it. Options may stand before and after the
//   other words, as --name value, --name=value, -n value; `--` ends them.
// Errors: a wrong option is said on stderr with the nearest right one, and the exit code is 2.
// Memory: values point into argv. Threads: one.
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include <stdint.h>

#include "core/base/err.h"

enum arg_kind {
    ARG_FLAG,
    ARG_TEXT,
    ARG_COUNT,     // a whole number, not negative
    ARG_BYTES,     // 256MiB
    ARG_DURATION,  // 30s; milliseconds
    ARG_DURATIONS, // 1s,5s,30s
    ARG_WHEN,      // 2h (ago) or 2026-01-31 or 2026-01-31T12:00:00Z; Unix milliseconds
    ARG_WORD,      // one of `words`
    ARG_RATE,      // 50/s, 600/m or 50; a second
    ARG_SHARE,     // 5% or 2.5%; 0..1
};

struct arg_spec {
    const char *name;  // without the dashes; NULL ends a table
    char letter;       // 0: none
    enum arg_kind kind;
    const char *value; // how help calls the value; NULL for ARG_FLAG
    const char *help;
    const char *words; // ARG_WORD: "a|b|c"
};

// What else a command takes.
enum { USES_SERVER = 1, USES_JSON = 2 };

struct args;
struct command {
    const char *name;
    const char *words;   // how help calls what it takes besides options: "NAME[:VERSION]"
    const char *summary; // one line, no full stop
    const char *about;   // more for --help, whole lines; may be NULL
    const struct arg_spec *specs; // may be NULL
    unsigned uses;
    size_t least, most;  // number of words
    int (*run)(const struct args *a);
    int (*run_raw)(int argc, char **argv); // parses by itself; takes --help
    const struct command *const *subs;     // NULL-ended; then there is no run
};

struct args_value {
    const struct arg_spec *spec;
    const char *text;
    int64_t number;
    double real; // ARG_RATE, ARG_SHARE
};

struct args {
    const struct command *command;
    const char *path; // "dlq list"
    const char **words;
    size_t word_count;
    struct args_value *values;
    size_t value_count;
};

// Runs the command that argv[1…] names below root; returns the exit code.
int args_run(const struct command *root, int argc, char **argv);
// Prints the help of the command that the words name.
int args_help(const struct command *root, size_t count, char **words);
// Prints what could stand in place of the last of the words (which may be empty), one candidate a line.
void args_complete(const struct command *root, size_t count, char **words);

bool args_takes(const struct args *a, const char *name); // is the option in the command's table?
// Asking for a name that is not in the table is an error of the programmer.
bool args_has(const struct args *a, const char *name);
const char *args_text(const struct args *a, const char *name);                   // NULL: not given
int64_t args_number(const struct args *a, const char *name, int64_t fallback);
double args_real(const struct args *a, const char *name, double fallback);
const char *args_nth(const struct args *a, const char *name, size_t i);          // i-th use; NULL: no more

// The texts of ARG_RATE and ARG_SHARE where they are part of another value. ERR_INVALID.
int args_parse_rate(const char *text, double *ret, struct err *err) must_use;
int args_parse_share(const char *text, double *ret, struct err *err) must_use;

#endif
