// SPDX-License-Identifier: Apache-2.0
// The language runtimes: what can run inside an instance, read from runtimes/<name>/manifest.ini at the start.
//
// Owns: the table. Blocking: runtimes_load reads files and runs each manifest's probe. Threads: read-only after.
#ifndef WORKERS_RUNTIME_H
#define WORKERS_RUNTIME_H

#include "core/base/err.h"

struct runtime {
    char *name;
    char *dir;          // absolute
    char *interpreter;  // absolute path that the probe printed; NULL: the language is not installed here
    char *missing;      // why, when it is NULL
    char **argv;        // command of an instance, NULL-terminated
};

struct runtimes {
    char *dir;          // absolute; the parent of all
    struct runtime *list;
    size_t count;
};

int runtimes_load(const char *dir, struct runtimes *ret, struct err *err) must_use;
void runtimes_done(struct runtimes *r);
// ERR_INVALID: no such runtime, or its language is not installed; the text says which there are.
int runtimes_find(const struct runtimes *r, const char *name, const struct runtime **ret, struct err *err) must_use;

#endif
