// SPDX-License-Identifier: Apache-2.0
// Names that the server knows, for the shell's completion.
//
// Prints a name a line, and nothing when the server does not answer at once. A shell may expand what it is given: only names of letters,
// digits and `_ - .` are printed. Blocking: COMPLETE_MS. Threads: one.
#ifndef CLI_COMPLETE_H
#define CLI_COMPLETE_H

#include "cli/args.h"

#define COMPLETE_MS 300

// Of a value of this option, or with NULL of a word of the command.
void complete_names(const struct command *c, const struct arg_spec *option);

#endif
