// SPDX-License-Identifier: Apache-2.0
// The settings of a version: defaults, ranges, and their JSON form. One table of the numbers makes parser, check and
// writer.
#include <inttypes.h>
#include <jansson.h>

#include "core/registry.h"

#define ENV_MAX_BYTES (64 * 1024)
#define DESCRIPTION_MAX_BYTES 1000
#define HANDLER_MAX_BYTES 255
#define RUNTIME_MAX_BYTES 40

// X(key, member, type, default, least, most)
#define NUMBERS(X)                                                  \
    X("timeoutMs", timeout_ms, int64_t, 30000, 1, 900000)           \
    X("memoryMb", memory_mb, uint32_t, 256, 16, 65536)              \
    X("maxInstances", max_instances, uint32_t, 0, 0, 4096)          \
    X("retries", retries, uint32_t, 3, 0, 100)                      \
    X("maxAgeMs", max_age_ms, int64_t, 21600000, 1000, 2592000000)
#define BACKOFF_MOST_MS INT64_C(604800000)

// X(key, member, default)
#define TEXTS(X)                    \
    X("runtime", runtime, "")       \
    X("handler", handler, "")       \
    X("description", description, "")

void settings_init(struct settings *s) {
    *s = (struct settings){.backoff_ms = {1000, 5000, 30000}, .backoff_count = 3, .env = mem_strdup("{}")};
#define X(key, member, type, fallback, least, most) s->member = (type)(fallback);
    NUMBERS(X)
#undef X
#define X(key, member, fallback) s->member = mem_strdup(fallback);
    TEXTS(X)
#undef X
}

void settings_done(struct settings *s) {
    free(s->runtime);
    free(s->handler);
    free(s->env);
    free(s->description);
    *s = (struct settings){0};
}

void settings_copy(struct settings *to, const struct settings *from) {
    *to = *from;
    to->runtime = mem_strdup(from->runtime);
    to->handler = mem_strdup(from->handler);
    to->env = mem_strdup(from->env);
    to->description = mem_strdup(from->description);
}

// --- checks -----------------------------------------------------------------------------------------------------------

static int out_of_range(const char *key, int64_t least, int64_t most, struct err *err) {
    return err_set(err, ERR_INVALID, "%s must be a whole number from %" PRId64 " to %" PRId64, key, least, most);
}

static int check_numbers(const struct settings *s, struct err *err) {
#define X(key, member, type, fallback, least, most) \
    if ((int64_t)s->member < (least) || (int64_t)s->member > (most)) return out_of_range(key, least, most, err);
    NUMBERS(X)
#undef X
    if (s->backoff_count < 1 || s->backoff_count > BACKOFF_MAX)
        return err_set(err, ERR_INVALID, "backoffMs must be a list of 1 to %d numbers", BACKOFF_MAX);
    for (size_t i = 0; i < s->backoff_count; i++)
        if (s->backoff_ms[i] < 0 || s->backoff_ms[i] > BACKOFF_MOST_MS) return out_of_range("backoffMs", 0, BACKOFF_MOST_MS, err);
    return 0;
}

// It names a folder.
static int check_runtime(const char *runtime, struct err *err) {
    if (!runtime || !*runtime) return err_set(err, ERR_INVALID, "runtime is missing");
    size_t plain = strspn(runtime, "abcdefghijklmnopqrstuvwxyz0123456789-_");
    if (runtime[plain] || plain > RUNTIME_MAX_BYTES)
        return err_set(err, ERR_INVALID, "runtime must be at most %d lower-case letters, digits, - and _", RUNTIME_MAX_BYTES);
    return 0;
}

static bool has_control(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) return true;
    return false;
}

// It names something inside the code folder.
static int check_handler(const char *handler, struct err *err) {
    if (!handler || !*handler) return err_set(err, ERR_INVALID, "handler is missing");
    if (strlen(handler) > HANDLER_MAX_BYTES || has_control(handler))
        return err_set(err, ERR_INVALID, "handler must be at most %d bytes without control characters", HANDLER_MAX_BYTES);
    bool leaves = *handler == '/';
    for (const char *at = handler; *at && !leaves; at += strcspn(at, "/"), at += *at == '/')
        leaves = strcspn(at, "/") == 2 && at[0] == '.' && at[1] == '.';
    return leaves ? err_set(err, ERR_INVALID, "handler must be a name inside the package, without '..'") : 0;
}

static int check_env(json_t *env, struct err *err) {
    if (!json_is_object(env)) return err_set(err, ERR_INVALID, "env must be an object of strings");
    const char *name;
    json_t *value;
    size_t bytes = 0;
    json_object_foreach(env, name, value) {
        if (!*name || strchr(name, '=')) return err_set(err, ERR_INVALID, "env has a name that is empty or has a '='");
        if (!json_is_string(value)) return err_set(err, ERR_INVALID, "env.%.100s must be a string", name);
        bytes += strlen(name) + json_string_length(value) + 2;
    }
    if (bytes > ENV_MAX_BYTES) return err_set(err, ERR_INVALID, "env must be at most %d bytes", ENV_MAX_BYTES);
    return 0;
}

static int check_env_text(const char *text, struct err *err) {
    json_t *env = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    int rc = check_env(env, err);
    json_decref(env);
    return rc;
}

int settings_check(const struct settings *s, struct err *err) {
    int rc = check_runtime(s->runtime, err);
    if (rc == 0) rc = check_handler(s->handler, err);
    if (rc == 0) rc = check_numbers(s, err);
    if (rc == 0) rc = check_env_text(s->env, err);
    if (rc == 0 && s->description && strlen(s->description) > DESCRIPTION_MAX_BYTES)
        rc = err_set(err, ERR_INVALID, "description must be at most %d bytes", DESCRIPTION_MAX_BYTES);
    return rc;
}

// --- JSON -------------------------------------------------------------------------------------------------------------

static json_t *env_or_empty(const char *text) {
    json_t *env = text ? json_loads(text, 0, NULL) : NULL;
    return env ? env : json_object();
}

char *settings_to_json(const struct settings *s) {
    json_t *all = json_object(), *backoff = json_array();
    int rc = 0;
#define X(key, member, type, fallback, least, most) rc |= json_object_set_new(all, key, json_integer((json_int_t)s->member));
    NUMBERS(X)
#undef X
#define X(key, member, fallback) rc |= json_object_set_new(all, key, json_string(s->member ? s->member : fallback));
    TEXTS(X)
#undef X
    for (size_t i = 0; i < s->backoff_count; i++) rc |= json_array_append_new(backoff, json_integer(s->backoff_ms[i]));
    rc |= json_object_set_new(all, "backoffMs", backoff);
    rc |= json_object_set_new(all, "env", env_or_empty(s->env));
    MUST(rc == 0); // the texts came through settings_from_json or settings_check
    char *text = json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS);
    MUST(text);
    json_decref(all);
    return text;
}

static int take_number(json_t *value, const char *key, int64_t least, int64_t most, int64_t *ret, struct err *err) {
    if (!json_is_integer(value)) return out_of_range(key, least, most, err);
    int64_t n = json_integer_value(value);
    if (n < least || n > most) return out_of_range(key, least, most, err);
    *ret = n;
    return 0;
}

static int take_text(json_t *value, const char *key, char **member, struct err *err) {
    if (!json_is_string(value)) return err_set(err, ERR_INVALID, "%s must be a string", key);
    free(*member);
    *member = mem_strdup(json_string_value(value));
    return 0;
}

static int take_backoff(json_t *value, struct settings *s, struct err *err) {
    size_t count = json_array_size(value); // 0 when it is no array
    if (count < 1 || count > BACKOFF_MAX)
        return err_set(err, ERR_INVALID, "backoffMs must be a list of 1 to %d numbers", BACKOFF_MAX);
    for (size_t i = 0; i < count; i++) {
        int rc = take_number(json_array_get(value, i), "backoffMs", 0, BACKOFF_MOST_MS, &s->backoff_ms[i], err);
        if (rc) return rc;
    }
    for (size_t i = count; i < BACKOFF_MAX; i++) s->backoff_ms[i] = 0;
    s->backoff_count = (uint32_t)count;
    return 0;
}

static int take_env(json_t *value, struct settings *s, struct err *err) {
    int rc = check_env(value, err);
    if (rc) return rc;
    free(s->env);
    s->env = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS);
    MUST(s->env);
    return 0;
}

static int take_key(struct settings *s, const char *key, json_t *value, struct err *err) {
    int64_t n;
#define X(name, member, type, fallback, least, most)                                  \
    if (strcmp(key, name) == 0) {                                                     \
        if (take_number(value, name, least, most, &n, err)) return ERR_INVALID;       \
        s->member = (type)n;                                                          \
        return 0;                                                                     \
    }
    NUMBERS(X)
#undef X
#define X(name, member, fallback) \
    if (strcmp(key, name) == 0) return take_text(value, name, &s->member, err);
    TEXTS(X)
#undef X
    if (strcmp(key, "backoffMs") == 0) return take_backoff(value, s, err);
    if (strcmp(key, "env") == 0) return take_env(value, s, err);
    return err_set(err, ERR_INVALID, "there is no setting '%.100s'", key);
}

int settings_from_json(struct str json, struct settings *s, struct err *err) {
    json_error_t why;
    json_t *all = json_loadb(json.data ? json.data : "", json.len, JSON_REJECT_DUPLICATES, &why);
    if (!all) return err_set(err, ERR_INVALID, "the settings are not JSON: %s (line %d, column %d)", why.text, why.line, why.column);
    struct settings next;
    settings_copy(&next, s);
    int rc = json_is_object(all) ? 0 : err_set(err, ERR_INVALID, "the settings must be a JSON object");
    const char *key;
    json_t *value;
    json_object_foreach(all, key, value) {
        if (rc == 0) rc = take_key(&next, key, value, err);
    }
    json_decref(all);
    if (rc == 0) {
        settings_done(s);
        *s = next;
    } else {
        settings_done(&next);
    }
    return rc;
}
