// SPDX-License-Identifier: Apache-2.0
// Where the runtimes are: the folder that was named, else the one beside the program: PREFIX/bin/weir -> PREFIX/share/weir/runtimes, or
// build/weir -> runtimes/.
#ifndef CLI_RUNTIMES_FOLDER_H
#define CLI_RUNTIMES_FOLDER_H

#include "core/base/mem.h"

char *runtimes_folder(const char *given) must_use; // given: NULL or "" when none was named. Caller frees.

#endif
