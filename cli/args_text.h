// SPDX-License-Identifier: Apache-2.0
// What is made from the tables of cli/args besides the parser: help, completion, and the nearest name to a mistyped one.
//
// Threads: one.
#ifndef CLI_ARGS_TEXT_H
#define CLI_ARGS_TEXT_H

#include "cli/args.h"

// The i-th option of a command, the common ones last; NULL: no more.
const struct arg_spec *args_spec_at(const struct command *c, size_t i);
const struct command *args_sub(const struct command *c, const char *name);

// path: the words that lead to the command, "" at the root.
void help_print(FILE *f, const struct command *c, const char *path);

// The best of the offered words, `word` NULL while none is near enough.
struct nearest {
    const char *given, *word;
    size_t distance;
};
struct nearest nearest_init(const char *given);
void nearest_offer(struct nearest *n, const char *word);

#endif
