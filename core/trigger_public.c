// SPDX-License-Identifier: Apache-2.0
// A trigger as anybody may see it. What a name or a URL says to be secret is masked: rather a value too many than one too
// few, since listings end up in tickets and logs.
#include <strings.h>

#include "core/masked_url.h"
#include "core/trigger_impl.h"

// Parts of the names of settings whose values are secret, in any case.
static const char *const secret_names[] = {"password", "passwd", "secret", "token", "credential",
                                           "ssl.key.pem", "private.key", "api.key", "apikey", "oauthbearer.config"};

static bool is_secret_name(const char *name) {
    for (size_t i = 0; i < array_len(secret_names); i++)
        if (strcasestr(name, secret_names[i])) return true;
    return false;
}

char *trigger_mask_setting(const char *name, const char *value) {
    if (is_secret_name(name)) return mem_strdup(*value ? MASK : "");
    return masked_url(value);
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
