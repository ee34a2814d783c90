// SPDX-License-Identifier: Apache-2.0
// Allocation that ends the process when memory runs out. Weir holds nothing in memory that its queue or
// its store does not hold too, so ending is safe, and no caller carries an error path that is never tested.
#include "core/base/mem.h"

#include <stdarg.h>

static void *need(void *p) {
    if (!p) {
        fputs("weir: out of memory\n", stderr);
        abort();
    }
    return p;
}

void *mem_alloc(size_t bytes) {
    return need(malloc(bytes ? bytes : 1));
}

void *mem_zalloc(size_t bytes) {
    return need(calloc(1, bytes ? bytes : 1));
}

void *mem_array(size_t count, size_t member_bytes) {
    return need(calloc(count ? count : 1, member_bytes ? member_bytes : 1));
}

void *mem_realloc(void *p, size_t bytes) {
    return need(realloc(p, bytes ? bytes : 1));
}

char *mem_strdup(const char *z) {
    return z ? need(strdup(z)) : NULL;
}

char *mem_strndup(struct str s) {
    char *z = mem_alloc(s.len + 1);
    if (s.len) memcpy(z, s.data, s.len);
    z[s.len] = '\0';
    return z;
}

char *mem_printf(const char *fmt, ...) {
    char *out = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&out, fmt, ap);
    va_end(ap);
    return need(n < 0 ? NULL : out);
}

int text_format(char *out, size_t out_bytes, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(out, out_bytes, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < out_bytes) return 0;
    if (out_bytes) out[0] = '\0';
    return -1;
}

void must_failed(const char *cond, const char *file, int line) {
    fprintf(stderr, "weir: %s:%d: broken invariant: %s\n", file, line, cond);
    abort();
}
