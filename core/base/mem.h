// SPDX-License-Identifier: Apache-2.0
// Memory helpers: allocation that does not fail, and scope-bound cleanup.
//
// Errors: out of memory ends the process (the queue still has every message that was not acknowledged).
// Threads: any.
#ifndef CORE_BASE_MEM_H
#define CORE_BASE_MEM_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/str.h"

#define must_use __attribute__((warn_unused_result))
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))
#define array_len(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

void *mem_alloc(size_t bytes) must_use __attribute__((malloc, alloc_size(1), returns_nonnull));
void *mem_zalloc(size_t bytes) must_use __attribute__((malloc, alloc_size(1), returns_nonnull));
// An array of `count` zeroed members; an overflow of the product ends the process.
void *mem_array(size_t count, size_t member_bytes) must_use __attribute__((malloc, alloc_size(1, 2), returns_nonnull));
void *mem_realloc(void *p, size_t bytes) must_use __attribute__((alloc_size(2), returns_nonnull));
char *mem_strdup(const char *z) must_use;        // NULL gives NULL
char *mem_strndup(struct str s) must_use;        // NUL-terminated copy, never NULL
char *mem_printf(const char *fmt, ...) must_use printf_like(1, 2);

// snprintf whose truncation is an error: 0, or -1 when `out` was too small (then it holds "").
int text_format(char *out, size_t out_bytes, const char *fmt, ...) must_use printf_like(3, 4);

static inline void mem_freep(void *pp) {
    void **p = (void **)pp;
    free(*p);
    *p = NULL;
}
static inline void mem_fclosep(FILE **f) {
    if (*f) fclose(*f);
}
#define cleanup_free __attribute__((cleanup(mem_freep)))
#define cleanup_file __attribute__((cleanup(mem_fclosep)))

// Moves the value out of `p` and leaves NULL behind, so that cleanup_free lets go of it.
#define TAKE_PTR(p)                \
    __extension__({                \
        __auto_type take_ = (p);   \
        (p) = NULL;                \
        take_;                     \
    })

// For errors of the programmer, in release builds too. Outside input never reaches it.
#define MUST(cond) ((cond) ? (void)0 : must_failed(#cond, __FILE__, __LINE__))
void must_failed(const char *cond, const char *file, int line) __attribute__((noreturn, cold));

#endif
