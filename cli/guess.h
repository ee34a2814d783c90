// SPDX-License-Identifier: Apache-2.0
// What `weir deploy PATH` need not be told: the name, the runtime and the handler, guessed from the path and the text.
//
// Errors: ERR_INVALID, the text says which option settles it. Blocking: reads the files. Memory: guess_done frees.
#ifndef CLI_GUESS_H
#define CLI_GUESS_H

#include "core/base/err.h"

struct guess {      // members that are set before guess_fill stay as they are
    char *name;     // "orders"
    char *runtime;  // "python" or "exec"
    char *handler;  // "orders.main_handler", "resize.sh"
};
int guess_name(struct guess *g, const char *path, struct err *err) must_use; // only that
int guess_fill(struct guess *g, const char *path, struct err *err) must_use;
void guess_done(struct guess *g);

// The function of a Python file's text that takes events: main_handler, else the only one with one of the usual names.
// stem: how the file is called, without .py. Caller frees *ret.
int guess_python_function(struct str text, const char *stem, char **ret, struct err *err) must_use;

#endif
