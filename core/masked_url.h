// SPDX-License-Identifier: Apache-2.0
// URLs as people and logs may see them: without their passwords. Threads: any.
#ifndef CORE_MASKED_URL_H
#define CORE_MASKED_URL_H

#include "core/base/mem.h"

#define MASK "***"

// "amqp://guest:***@host/v" of "amqp://guest:secret@host/v", and "***" for the values of password= and sslpassword= in a query; of every URL
// in a text, and the rest as it is. Rather a character too many than one too few. Caller frees.
char *masked_url(const char *text) must_use;

#endif
