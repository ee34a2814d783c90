// SPDX-License-Identifier: Apache-2.0
// A span of bytes that somebody else owns: a pointer and a length, not NUL-terminated.
//
// Memory: never owns; valid as long as the memory it points into.
#ifndef CORE_BASE_STR_H
#define CORE_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct str {
    const char *data;
    size_t len;
};

#define STR_NONE ((struct str){NULL, 0})
#define STR_LIT(s) ((struct str){"" s, sizeof(s) - 1})
// printf("%.*s", STR_ARG(s)); for text that is known to be far below 2 GiB.
#define STR_ARG(s) (int)(s).len, (s).data ? (s).data : ""

static inline struct str str_of(const char *z) {
    return z ? (struct str){z, strlen(z)} : (struct str){"", 0};
}

static inline bool str_eq(struct str a, struct str b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool str_is(struct str a, const char *z) {
    return str_eq(a, str_of(z));
}

static inline bool str_starts(struct str a, const char *prefix) {
    size_t n = strlen(prefix);
    return a.len >= n && memcmp(a.data, prefix, n) == 0;
}

#endif
