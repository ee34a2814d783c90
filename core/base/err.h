// SPDX-License-Identifier: Apache-2.0
// What went wrong: a code for the caller's decision and a text for the reader.
//
// Errors: fallible functions return 0 or a negative enum err_code and fill `struct err`; outputs named ret_x are
//   written on success only. One code per decision that a caller makes; the text says what to do.
// Memory: struct err is a plain value; copy it freely. Threads: any.
#ifndef CORE_BASE_ERR_H
#define CORE_BASE_ERR_H

#include "core/base/mem.h"

// X(name, code, word): the word is the stable name in logs and in JSON error bodies.
#define ERR_CODES(X)                                                                    \
    X(ERR_INVALID, -1, "InvalidArgument")         /* the input is wrong: mend it */     \
    X(ERR_NOT_FOUND, -2, "NotFound")              /* no such thing */                   \
    X(ERR_CONFLICT, -3, "Conflict")               /* exists, or is in another state */  \
    X(ERR_TOO_LARGE, -4, "TooLarge")              /* over a cap */                      \
    X(ERR_BUSY, -5, "TooManyRequests")            /* no room now: come again */         \
    X(ERR_UNAVAILABLE, -6, "Unavailable")         /* a server we need is away: later */ \
    X(ERR_FULL, -7, "StorageFull")                /* disk or quota is full */           \
    X(ERR_TIMEOUT, -8, "Timeout")                 /* the deadline passed */             \
    X(ERR_DENIED, -9, "Unauthorized")             /* not allowed */                     \
    X(ERR_CORRUPT, -10, "Corrupt")                /* stored or received bytes broken */ \
    X(ERR_INTERNAL, -11, "InternalError")         /* a bug or a system call's failure */

enum err_code {
    ERR_OK = 0,
#define X(name, code, word) name = code,
    ERR_CODES(X)
#undef X
};

struct err {
    enum err_code code;
    char text[500];
};

// Fills err (which may be NULL) and returns the code: `return err_set(err, ERR_INVALID, "…", …)`.
int err_set(struct err *err, enum err_code code, const char *fmt, ...) printf_like(3, 4);
// The same with ": <strerror>" after the text.
int err_set_errno(struct err *err, enum err_code code, int errnum, const char *fmt, ...) printf_like(4, 5);
const char *err_word(enum err_code code);

#endif
