// SPDX-License-Identifier: Apache-2.0
// Unpacks an uploaded code package into a folder, whole or not at all.
//
// Flow: a folder beside the destination is filled, flushed to the disk, and renamed: a crash never leaves half a
//   version. Such folders of a crash are removed by package_sweep.
// Threads: any; two that unpack to the same destination do not harm each other. Blocking: disk.
// Errors: ERR_INVALID (the package is broken or hostile: absolute paths, "..", links that leave the folder, hard links,
//   devices, encrypted), ERR_TOO_LARGE (files, bytes, depth), ERR_FULL (disk), ERR_INTERNAL (other system errors).
// Limits: PACKAGE_FILES_MAX files and folders, PACKAGE_UNPACKED_MAX bytes of core/registry.h; the sizes are those that
//   come out, so that a small archive cannot fill the disk.
#ifndef CORE_PACKAGE_H
#define CORE_PACKAGE_H

#include "core/base/err.h"

// archive: a zip, tar or tar.gz, told apart by content. dest_dir: absolute; its parent exists. A destination that is
// there already is left as it is (it has the same code: its name is the sum). Files get mode 0644 or, when the
// archive says that one is executable, 0755; folders 0755.
// exec_handler (may be NULL): a file of the package that is made executable, also when dest_dir was there already.
int package_unpack(struct str archive, const char *dest_dir, const char *exec_handler, struct err *err) must_use;
// Removes the folder and all in it; half of it stays only under a name that package_sweep removes.
int package_remove(const char *dir, struct err *err) must_use;
// Removes from `parent` what a crash left: temporary folders older than an hour. Calls keep (may be NULL) for every other
// folder that is older than that, and removes those for which it says false.
void package_sweep(const char *parent, bool (*keep)(void *arg, const char *name), void *arg);

#endif
