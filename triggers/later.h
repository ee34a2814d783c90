// SPDX-License-Identifier: Apache-2.0
// Calls done(arg, code, err) at the next turn of the loop: for answers that are known at once, to callers that were promised
// a callback that never runs inside their call.
#ifndef TRIGGERS_LATER_H
#define TRIGGERS_LATER_H

#include "core/base/loop.h"

void later(struct loop *loop, void (*done)(void *arg, int code, const struct err *err), void *arg, int code, const struct err *err);

#endif
