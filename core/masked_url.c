// SPDX-License-Identifier: Apache-2.0
#include "core/masked_url.h"

#include <ctype.h>
#include <strings.h>

#include "core/base/buf.h"

static bool is_port(const char *from, const char *end) {
    while (from < end && *from >= '0' && *from <= '9') from++;
    return from == end;
}

// A space ends a URL, and so does the next one of a list; a comma alone may stand in a password.
static const char *url_end(const char *url) {
    const char *end = url + strcspn(url, " \t\r\n\""), *next = strstr(url, "://");
    if (!next || next >= end) return end;
    while (next > url && isalnum((unsigned char)next[-1])) next--;
    return next > url && next[-1] == ',' ? next - 1 : end;
}

// The password before the host: from *ret_from up to *ret_end, which is its '@'.
static bool find_password(const char *authority, const char *end, const char **ret_from, const char **ret_end) {
    const char *slash = memchr(authority, '/', (size_t)(end - authority));
    const char *at = memrchr(authority, '@', (size_t)((slash ? slash : end) - authority));
    if (!at) at = memrchr(authority, '@', (size_t)(end - authority)); // a password with a raw '/' is none of a URL, but one all the same
    const char *colon = at ? memchr(authority, ':', (size_t)(at - authority)) : NULL;
    if (!colon || (slash && slash < at && colon < slash && is_port(colon + 1, slash))) return false;
    *ret_from = colon + 1;
    *ret_end = at;
    return true;
}

// The next value in a query of which the name ends in "password".
static bool find_query_password(const char *from, const char *end, const char **ret_from, const char **ret_end) {
    static const char word[] = "password=";
    const size_t n = sizeof word - 1;
    while ((size_t)(end - from) > n && strncasecmp(from, word, n) != 0) from++;
    if ((size_t)(end - from) <= n) return false;
    const char *and = memchr(from + n, '&', (size_t)(end - from) - n);
    *ret_from = from + n;
    *ret_end = and ? and : end;
    return true;
}

// Appends the text from *done up to the secret, and the mask in its place.
static void mask(struct buf *out, const char **done, const char *from, const char *end) {
    MUST(buf_append(out, (struct str){*done, (size_t)(from - *done)}) == 0);
    MUST(buf_append(out, STR_LIT(MASK)) == 0);
    *done = end;
}

char *masked_url(const char *text) {
    struct buf out;
    size_t n = strlen(text);
    const char *scheme, *from, *to, *value, *value_end;
    buf_init(&out, (n + 4) * sizeof MASK);
    for (const char *at = text; (scheme = strstr(at, "://")); at = url_end(scheme + 3)) {
        const char *end = url_end(scheme + 3), *query = memchr(scheme, '?', (size_t)(end - scheme));
        bool found = query && find_query_password(query, end, &value, &value_end);
        if (find_password(scheme + 3, found ? value : end, &from, &to)) mask(&out, &text, from, to);
        while (found) {
            mask(&out, &text, value, value_end);
            found = find_query_password(value_end, end, &value, &value_end);
        }
    }
    MUST(buf_append(&out, str_of(text)) == 0);
    return buf_take(&out, &n);
}
