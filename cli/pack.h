// SPDX-License-Identifier: Apache-2.0
// A file or a folder as a tar.gz in memory (libarchive). The same content gives the same bytes: names sorted, no times, no
// owners, modes reduced to 755 and 644; so a deploy that changes nothing is recognised by its SHA-256.
//
// Does not: pack .git, __pycache__, *.pyc. Links to files become the file; links to folders and special files are refused.
// Errors: ERR_NOT_FOUND, ERR_INVALID, ERR_TOO_LARGE. Blocking: reads the disk. Threads: any.
#ifndef CLI_PACK_H
#define CLI_PACK_H

#include "core/base/buf.h"

#define PACK_MAX ((size_t)45 * 1024 * 1024) // packed; in base64 it fits in the server's largest request body

// The result (buf_done frees it); a single file stands at the top under its own name.
int pack_path(const char *path, struct buf *ret, struct err *err) must_use;
// A ready archive as it is, under the same cap.
int pack_read(const char *path, struct buf *ret, struct err *err) must_use;
bool pack_is_archive(const char *path); // by its extension

#endif
