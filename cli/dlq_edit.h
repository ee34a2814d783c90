// SPDX-License-Identifier: Apache-2.0
// Inside of weir dlq edit: the change as its user wrote it, and the one that an editor makes.
//
// Values go as text into the request, so that numbers stay as they are written.
// Errors: functions that return int give an exit code, and have said what is wrong. Threads: one. Blocking: yes.
#ifndef CLI_DLQ_EDIT_H
#define CLI_DLQ_EDIT_H

#include "cli/client.h"
#include "core/base/buf.h"

#define EDIT_CHANGE_MAX ((size_t)16 << 20) // bytes of a request's change

// Appends ,"set":{…},"unset":[…],"patch":[…] of the options; nothing when none was given.
int edit_read_options(const struct args *a, struct buf *ret_members) must_use;
// Opens $EDITOR with the letter's payload, laid out for reading, and appends ,"patch":[…] that leads to what was saved; nothing when it
// was left as it is.
int edit_in_editor(const json_t *letter, struct buf *ret_members) must_use;
// The JSON Patch operations that lead from one JSON text to another, at `path` of the document, as JSON text without the brackets. Each
// replaced or removed value is tested first, so that an edit in between is not undone. An array whose items differ is replaced whole.
int edit_patch(const char *path, struct str from, struct str to, struct buf *out) must_use;

#endif
