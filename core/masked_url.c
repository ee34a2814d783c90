// SPDX-License-Identifier: Apache-2.0
#include "core/masked_url.h"

char *masked_url(struct str url) {
    const char *scheme = url.len ? memmem(url.data, url.len, "://", 3) : NULL;
    if (!scheme) return mem_strndup(url);
    const char *from = scheme + 3, *end = url.data + url.len;
    const char *slash = memchr(from, '/', (size_t)(end - from));
    const char *at = memrchr(from, '@', (size_t)((slash ? slash : end) - from));
    const char *colon = at ? memchr(from, ':', (size_t)(at - from)) : NULL;
    if (!colon) return mem_strndup(url);
    return mem_printf("%.*s:***%.*s", (int)(colon - url.data), url.data, (int)(end - at), at);
}
