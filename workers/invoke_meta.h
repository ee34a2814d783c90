// SPDX-License-Identifier: Apache-2.0
// The JSON of INIT and INVOKE frames (schema/frames.md).
//
// Errors: a meta that would pass FRAME_META_MAX leaves the headers out, then the source too. Threads: any.
// Memory: `out` has room for FRAME_META_MAX, or for the body of INIT.
#ifndef WORKERS_INVOKE_META_H
#define WORKERS_INVOKE_META_H

#include "core/base/buf.h"
#include "core/ev.h"
#include "core/registry.h"

void invoke_meta_append(struct buf *out, const struct ev *ev, const struct settings *settings, int64_t now_ms);
void init_body_append(struct buf *out, const struct version *v);

#endif
