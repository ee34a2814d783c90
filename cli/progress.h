// SPDX-License-Identifier: Apache-2.0
// How far a long command is, on stderr: one line that is rewritten in place on a terminal, else a line every ten seconds.
//
// Threads: one. Units: counts; ended by progress_end, so that what follows begins on a line of its own.
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdint.h>

#include "core/base/mem.h"

struct progress {
    int64_t shown_ns; // when it was shown last
};

void progress_begin(struct progress *p);
// Is it time to show something? Then progress_show follows.
bool progress_due(struct progress *p);
void progress_show(const char *fmt, ...) printf_like(1, 2); // cut to the terminal's width
void progress_end(void);

// "[########------------]"
#define PROGRESS_BAR_BYTES 23
const char *progress_bar(int64_t done, int64_t total, char out[PROGRESS_BAR_BYTES]);

#endif
