// SPDX-License-Identifier: Apache-2.0
// URLs as people and logs may see them: without the password. Threads: any.
#ifndef CORE_MASKED_URL_H
#define CORE_MASKED_URL_H

#include "core/base/mem.h"

// "amqp://guest:***@host/v" of "amqp://guest:secret@host/v"; any other text as it is. Caller frees.
char *masked_url(struct str url) must_use;

#endif
