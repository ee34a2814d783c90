// SPDX-License-Identifier: Apache-2.0
// What is made from the tables of cli/args besides the parser: help, completion, and the nearest name to a mistyped one.
//
// Threads: one.
#ifndef CLI_ARGS_TEXT_H
#define CLI_ARGS_TEXT_H

#include "cli/args.h"
#include "core/base/text.h"

// The i-th option of a command, the common ones last; NULL: no more.
const struct arg_spec *args_spec_at(const struct command *c, size_t i);
const struct command *args_sub(const struct command *c, const char *name);

// path: the words that lead to the command, "" at the root.
void help_print(FILE *f, const struct command *c, const char *path);

// text_nearest_offer, for which a word is one letter away too when what was given is its beginning.
void args_offer(struct text_nearest *n, const char *word);

#endif
