// SPDX-License-Identifier: Apache-2.0
// A trigger as anybody may see it. What a name or a URL says to be secret is masked: rather a value too many than one too
// few, since listings end up in tickets and logs.
#include <strings.h>

#include "core/base/buf.h"
#include "core/trigger_impl.h"

#define MASK "***"

// Parts of the names of settings whose values are secret, in any case.
static const char *const secret_names[] = {"password", "passwd", "secret", "token", "credential",
                                           "ssl.key.pem", "private.key", "api.key", "apikey", "oauthbearer.config"};

static bool is_secret_name(const char *name) {
    for (size_t i = 0; i < array_len(secret_names); i++)
        if (strcasestr(name, secret_names[i])) return true;
    return false;
}

static bool is_port(const char *from, const char *end) {
    while (from < end && *from >= '0' && *from <= '9') from++;
    return from == end;
}

// The password of the URL that begins behind "://": from *ret_from up to *ret_end, which is its '@'.
static bool find_password(const char *authority, const char **ret_from, const char **ret_end) {
    size_t whole = strcspn(authority, " \t\r\n\",");
    const char *end = authority + whole, *slash = memchr(authority, '/', whole);
    const char *at = memrchr(authority, '@', (size_t)((slash ? slash : end) - authority));
    if (!at) at = memrchr(authority, '@', whole); // a password with a raw '/' is none of a URL, but one all the same
    const char *colon = at ? memchr(authority, ':', (size_t)(at - authority)) : NULL;
    if (!colon || (slash && slash < at && colon < slash && is_port(colon + 1, slash))) return false;
    *ret_from = colon + 1;
    *ret_end = at;
    return true;
}

static char *mask_urls(const char *value) {
    struct buf out;
    size_t n = strlen(value);
    buf_init(&out, (n + 4) * sizeof MASK);
    const char *scheme;
    while ((scheme = strstr(value, "://"))) {
        const char *from = scheme + 3, *end = from;
        bool found = find_password(scheme + 3, &from, &end);
        MUST(buf_append(&out, (struct str){value, (size_t)(from - value)}) == 0);
        if (found) MUST(buf_append(&out, STR_LIT(MASK)) == 0);
        value = end;
    }
    MUST(buf_append(&out, str_of(value)) == 0);
    return buf_take(&out, &n);
}

char *trigger_mask_setting(const char *name, const char *value) {
    if (is_secret_name(name)) return mem_strdup(*value ? MASK : "");
    return mask_urls(value);
}

static json_t *masked_settings(json_t *settings) {
    json_t *shown = json_object(), *value;
    const char *key;
    json_object_foreach(settings, key, value) {
        const char *text = json_string_value(value);
        cleanup_free char *masked = trigger_mask_setting(key, text ? text : "");
        MUST(json_object_set_new(shown, key, json_string(masked)) == 0);
    }
    return shown;
}

json_t *trigger_public_json(const struct trigger *t) {
    json_t *json = json_pack("{s:s, s:s, s:s, s:s, s:o, s:I, s:I}", "name", t->name, "function", t->function, "kind", t->kind,
                             "state", trigger_state_word(t->state), "settings", masked_settings(t->settings), "createdMs",
                             (json_int_t)t->created_ms, "changedMs", (json_int_t)t->changed_ms);
    MUST(json);
    return json;
}
