// SPDX-License-Identifier: Apache-2.0
// Reads an INI file: `[section]`, `name = value`, comments after ; or #.
//
// Errors: ERR_NOT_FOUND (cannot be opened), ERR_INVALID with file and line. Threads: any. Blocking: file reads.
#ifndef CORE_INI_FILE_H
#define CORE_INI_FILE_H

#include "core/base/err.h"

// 0 to go on; negative, with err set, ends the reading (file and line are put before the text).
typedef int ini_file_fn(void *arg, const char *section, const char *name, const char *value, struct err *err);
int ini_file_read(const char *path, ini_file_fn *fn, void *arg, struct err *err) must_use;

#endif
