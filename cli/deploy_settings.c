// SPDX-License-Identifier: Apache-2.0
#include "cli/deploy_settings.h"

#include "cli/commands.h"
#include "cli/out.h"

int deploy_fetch(struct client *c, const char *name, json_t **ret, struct err *err) {
    cleanup_free char *path = path_new("/v1/functions");
    struct reply reply;
    *ret = NULL;
    path_add(&path, name);
    const struct request request = {.method = "GET", .path = path};
    int rc = client_send(c, &request, &reply, err);
    if (rc < 0) return rc;
    if (reply.status == 200) {
        *ret = json_loadb(reply.body, reply.body_len, 0, NULL);
    } else if (reply.status != 404) {
        cleanup_free char *why = reply_error(&reply);
        rc = err_set(err, ERR_UNAVAILABLE, "%s", why);
    }
    reply_done(&reply);
    return rc;
}

json_t *deploy_settings_of(const json_t *function, int64_t version) {
    size_t i;
    json_t *v;
    json_array_foreach(json_object_get(function, "versions"), i, v)
        if (member_int(v, "number", -1) == version) return json_object_get(v, "settings");
    return NULL;
}

void deploy_keep(json_t *settings, const json_t *kept) {
    json_t *env = json_object_get(settings, "env"), *kept_env = json_object_get(kept, "env");
    if (env) json_object_update_missing(env, kept_env);
    json_object_update_missing(settings, (json_t *)(uintptr_t)kept);
}

// --- what differs -------------------------------------------------------------------------------------------------

static void add_difference(json_t *list, const char *prefix, const char *name, json_t *before, json_t *after) {
    if (before && after && json_equal(before, after)) return;
    cleanup_free char *whole = mem_printf("%s%s", prefix, name);
    json_t *o = json_pack("{ss ss}", "name", whole, "what", !before ? "added" : !after ? "gone" : "changed");
    if (before && !*prefix) json_object_set(o, "before", before);
    if (after && !*prefix) json_object_set(o, "after", after);
    json_array_append_new(list, o);
}

static void add_all(json_t *list, const char *prefix, const json_t *before, const json_t *after) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)before, name, value)
        if (*prefix || strcmp(name, "env") != 0) add_difference(list, prefix, name, value, json_object_get(after, name));
    json_object_foreach((json_t *)(uintptr_t)after, name, value)
        if (!json_object_get(before, name) && (*prefix || strcmp(name, "env") != 0)) add_difference(list, prefix, name, NULL, value);
}

json_t *deploy_differences(const json_t *before, const json_t *after) {
    json_t *list = json_array();
    add_all(list, "env.", json_object_get(before, "env"), json_object_get(after, "env"));
    add_all(list, "", before, after);
    return list;
}

// --- for people ---------------------------------------------------------------------------------------------------

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

// As the options of deploy take it: 1s,5s,30s, 256MiB.
static char *value_text(const char *name, const json_t *value) {
    char span[OUT_SHORT_BYTES];
    if (ends_with(name, "Ms") && json_is_integer(value)) return mem_strdup(out_span(json_integer_value(value), span));
    if (ends_with(name, "Mb") && json_is_integer(value)) return mem_printf("%lldMiB", (long long)json_integer_value(value));
    if (!ends_with(name, "Ms") || !json_is_array(value)) {
        char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
        return text ? text : mem_strdup("-");
    }
    char *text = mem_strdup("");
    for (size_t i = 0; i < json_array_size(value); i++) {
        cleanup_free char *before = text;
        text = mem_printf("%s%s%s", before, i ? "," : "", out_span(json_integer_value(json_array_get(value, i)), span));
    }
    return text;
}

static void print_difference(const json_t *o) {
    const char *name = member_text(o, "name", "?"), *what = member_text(o, "what", "?");
    bool unit = ends_with(name, "Ms") || ends_with(name, "Mb");
    cleanup_free char *shown = strncmp(name, "env.", 4) == 0 ? mem_printf("env %s", name + 4)
                                                             : mem_printf("%.*s", (int)strlen(name) - (unit ? 2 : 0), name);
    cleanup_free char *before = value_text(name, json_object_get(o, "before")), *after = value_text(name, json_object_get(o, "after"));
    bool values = json_object_get(o, "before") && json_object_get(o, "after");
    cleanup_free char *text = values ? mem_printf("%s %s -> %s", shown, before, after) : mem_printf("%s %s", shown, what);
    out_text(stdout, str_of(text));
}

void deploy_print_differences(int64_t version, const json_t *differences) {
    size_t i;
    const json_t *o;
    if (json_array_size(differences) == 0) return;
    printf("settings differ from version %lld: ", (long long)version);
    json_array_foreach(differences, i, o) {
        if (i) fputs(", ", stdout);
        print_difference(o);
    }
    putchar('\n');
}
