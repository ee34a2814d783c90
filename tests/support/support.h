// SPDX-License-Identifier: Apache-2.0
// Helpers of the C tests: waiting without sleeping, temporary folders, real servers.
//
// Threads: the test's. Errors: what cannot be done fails the running cmocka test.
#ifndef TESTS_SUPPORT_SUPPORT_H
#define TESTS_SUPPORT_SUPPORT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/loop.h"

// Turns the loop until `cond` holds; fails the test after `seconds`.
#define TURN_UNTIL_S(loop, seconds, cond)                                              \
    do {                                                                               \
        int64_t until_ns_ = clock_mono_ns() + (int64_t)(seconds) * 1000 * NS_PER_MS;    \
        while (!(cond)) {                                                              \
            if (clock_mono_ns() > until_ns_) fail_msg("no %s within %d s", #cond, seconds); \
            loop_turn(loop, 20);                                                       \
        }                                                                              \
    } while (0)
#define TURN_UNTIL(loop, cond) TURN_UNTIL_S(loop, 60, cond)

// A new folder below TMPDIR that every user may pass through; temp_dir_remove deletes it with what is in it and frees.
char *temp_dir_new(void);
void temp_dir_remove(char *dir);

// tests/services/<name> <command> DIR; the tests run in the repository's root. Returns the first line of its output
// (the URL, for `start`); the caller frees. Fails the test when the command fails.
char *service_run(const char *name, const char *command, const char *dir);

// Runs a program and waits for it; its exit code, or -1.
int run_program(const char *const argv[]);

#endif
