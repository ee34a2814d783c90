// SPDX-License-Identifier: Apache-2.0
#include "core/base/err.h"

#include <stdarg.h>

static void fill(struct err *err, enum err_code code, const char *fmt, va_list ap) {
    err->code = code;
    vsnprintf(err->text, sizeof err->text, fmt, ap); // a truncated message is still a message
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...) {
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        fill(err, code, fmt, ap);
        va_end(ap);
    }
    return code;
}

int err_set_errno(struct err *err, enum err_code code, int errnum, const char *fmt, ...) {
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        fill(err, code, fmt, ap);
        va_end(ap);
        size_t used = strlen(err->text);
        snprintf(err->text + used, sizeof err->text - used, ": %s", strerror(errnum));
    }
    return code;
}

const char *err_word(enum err_code code) {
    switch (code) {
    case ERR_OK: return "OK";
#define X(name, number, word) \
    case name: return word;
        ERR_CODES(X)
#undef X
    }
    return "InternalError";
}
