// SPDX-License-Identifier: Apache-2.0
// The difference of two texts, line by line, as a unified diff: what `diff -U` prints without the names of files.
//
// The shortest script (Myers, "An O(ND) Difference Algorithm and Its Variations", 1986) while it has at most DIFF_CHANGES_MAX
//   lines; beyond that the lines that differ are shown as taken out and put in as a whole, which is right too, only longer.
// Threads: any; pure. Errors: ERR_TOO_LARGE: a text is longer than DIFF_BYTES_MAX, or `out` is full.
#ifndef CLI_DIFF_H
#define CLI_DIFF_H

#include "core/base/buf.h"

#define DIFF_BYTES_MAX 65536
#define DIFF_CHANGES_MAX 1000

// Appends the hunks, with `context` lines around what changed; nothing when the texts are alike. Each line begins with '@', ' ',
// '-' or '+' and ends with a line feed.
int diff_unified(struct str before, struct str after, size_t context, struct buf *out) must_use;

#endif
