// SPDX-License-Identifier: Apache-2.0
// /v1/functions: list, show, deploy, delete, and which version is the current one.
#include "core/digest.h"
#include "gateway/reply.h"

#define PAGE_DEFAULT 100
#define PAGE_MAX 1000

static json_t *settings_json(const struct settings *s) {
    cleanup_free char *text = settings_to_json(s);
    json_t *json = json_loads(text, 0, NULL);
    MUST(json);
    return json;
}

static int by_name(const void *a, const void *b) {
    const struct function *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static json_t *function_summary(const struct function *fn) {
    const struct version *v = function_version(fn, fn->current);
    return json_pack("{s:s, s:I, s:s, s:s, s:I, s:I, s:s}", "name", fn->name, "current", (json_int_t)fn->current, "runtime",
                     v && v->settings.runtime ? v->settings.runtime : "", "handler",
                     v && v->settings.handler ? v->settings.handler : "", "versions", (json_int_t)fn->version_count,
                     "createdMs", (json_int_t)fn->created_ms, "sha256", v ? v->sha256 : "");
}

// Those whose names stand behind `after`, by name. Caller frees the array.
static const struct function **functions_behind(struct registry *r, const char *after, size_t *ret_count) {
    size_t most = 0, count = 0;
    for (const struct function *fn = registry_first(r); fn; fn = fn->hh.next) most++;
    const struct function **all = mem_array(most, sizeof(struct function *));
    for (const struct function *fn = registry_first(r); fn; fn = fn->hh.next)
        if (strcmp(fn->name, after) > 0) all[count++] = fn;
    qsort(all, count, sizeof all[0], by_name);
    *ret_count = count;
    return all;
}

// The name that the page before ended with. That function may have gone since.
static int read_cursor(struct call *call, char ret[FUNCTION_NAME_MAX + 1], struct err *err) {
    struct str name = call_text(call, "cursor");
    if (name.len && function_name_check(name, NULL)) return err_set(err, ERR_INVALID, "the cursor is not one that a listing gave out");
    snprintf(ret, FUNCTION_NAME_MAX + 1, "%.*s", STR_ARG(name));
    return 0;
}

void api_functions(struct call *call) {
    struct err err;
    char after[FUNCTION_NAME_MAX + 1];
    int64_t limit = PAGE_DEFAULT;
    size_t count, i = 0;
    int rc = call_number(call, "limit", 1, PAGE_MAX, &limit, &err);
    if (rc == 0) rc = read_cursor(call, after, &err);
    if (rc) {
        reply_err(call, &err);
        return;
    }
    cleanup_free const struct function **all = functions_behind(call->gw->c.registry, after, &count);
    json_t *list = json_array();
    for (; i < count && i < (size_t)limit; i++) MUST(json_array_append_new(list, function_summary(all[i])) == 0);
    reply_json(call, 200, json_pack("{s:o, s:s?}", "functions", list, "next", i < count ? all[i - 1]->name : NULL));
}

// The function of the route; NULL: it was replied to.
static struct function *function_of(struct call *call) {
    struct function *fn = registry_find(call->gw->c.registry, call->param);
    if (!fn) reply_fail(call, ERR_NOT_FOUND, "there is no function '%.*s'", STR_ARG(call->param));
    return fn;
}

static json_t *version_json(const struct function *fn, const struct version *v) {
    return json_pack("{s:I, s:s, s:I, s:b, s:o}", "number", (json_int_t)v->number, "sha256", v->sha256, "createdMs",
                     (json_int_t)v->created_ms, "current", v->number == fn->current, "settings", settings_json(&v->settings));
}

void api_function(struct call *call) {
    const struct function *fn = function_of(call);
    if (!fn) return;
    json_t *versions = json_array();
    for (size_t i = 0; i < fn->version_count; i++) {
        MUST(json_array_append_new(versions, version_json(fn, fn->versions[i])) == 0);
    }
    reply_json(call, 200, json_pack("{s:s, s:I, s:I, s:o}", "name", fn->name, "current", (json_int_t)fn->current, "createdMs",
                                    (json_int_t)fn->created_ms, "versions", versions));
}

// --- deploy -------------------------------------------------------------------------------------------------------

struct deploy {
    struct call *call;
    struct registry *registry;
    uint32_t newest; // version before
};

static void on_deployed(void *arg, int code, const struct err *err, const struct version *v) {
    struct deploy *d = arg;
    if (code) {
        reply_err(d->call, err);
    } else {
        const struct function *fn = registry_find(d->registry, str_of(v->function));
        json_t *body = json_pack("{s:s, s:I, s:s, s:I}", "name", v->function, "version", (json_int_t)v->number, "sha256", v->sha256,
                                 "current", (json_int_t)(fn ? fn->current : v->number));
        reply_json(d->call, v->number > d->newest ? 201 : 200, body);
    }
    free(d);
}

// Settings and archive out of the body; on success both belong to the caller.
static int read_deploy(json_t *body, struct settings *settings, struct buf *archive, struct err *err) {
    json_t *given = json_object_get(body, "settings"), *package = json_object_get(body, "package");
    if (!json_is_string(package)) return err_set(err, ERR_INVALID, "package must be the code as Base64 of a zip, tar or tar.gz");
    if (given && !json_is_object(given)) return err_set(err, ERR_INVALID, "settings must be an object");
    struct str base64 = {json_string_value(package), json_string_length(package)};
    int rc = base64_decode(base64, archive, err);
    if (rc < 0) return rc;
    cleanup_free char *text = given ? json_dumps(given, JSON_COMPACT) : mem_strdup("{}");
    return settings_from_json(str_of(text), settings, err);
}

static void deploy(struct call *call, bool make_current, struct settings *settings, struct buf *archive) {
    struct registry *registry = call->gw->c.registry;
    const struct function *fn = registry_find(registry, call->param);
    struct deploy *d = mem_alloc(sizeof *d);
    *d = (struct deploy){call, registry, fn && fn->version_count ? fn->versions[fn->version_count - 1]->number : 0};
    size_t len;
    char *bytes = buf_take(archive, &len);
    registry_deploy(registry, call->param, settings, bytes, len, make_current, on_deployed, d);
}

static int read_switch(struct call *call, bool *ret, struct err *err) {
    struct str word = call_text(call, "switch");
    if (word.len && !str_is(word, "true") && !str_is(word, "false")) return err_set(err, ERR_INVALID, "switch must be true or false");
    *ret = !str_is(word, "false");
    return 0;
}

void api_deploy(struct call *call) {
    static const char *const members[] = {"settings", "package", NULL};
    struct err err;
    struct settings settings;
    struct buf archive;
    bool make_current = true;
    if (function_name_check(call->param, &err) < 0 || read_switch(call, &make_current, &err) < 0) {
        reply_err(call, &err);
        return;
    }
    json_t *body = call_body(call, members);
    if (!body) return;
    settings_init(&settings);
    buf_init(&archive, call->req->body.len);
    int rc = read_deploy(body, &settings, &archive, &err);
    json_decref(body);
    if (rc == 0) {
        deploy(call, make_current, &settings, &archive);
        return;
    }
    settings_done(&settings);
    buf_done(&archive);
    reply_err(call, &err);
}

// --- change -------------------------------------------------------------------------------------------------------

struct change {
    struct call *call;
    uint32_t current; // 0: it was deleted
};

static void on_changed(void *arg, int code, const struct err *err) {
    struct change *c = arg;
    json_t *body = json_pack("{s:s}", "name", c->call->param_text);
    if (c->current) MUST(json_object_set_new(body, "current", json_integer(c->current)) == 0);
    if (code == 0) {
        reply_json(c->call, 200, body);
    } else {
        json_decref(body);
        reply_err(c->call, err);
    }
    free(c);
}

static struct change *change_new(struct call *call, uint32_t current) {
    struct change *c = mem_alloc(sizeof *c);
    *c = (struct change){call, current};
    return c;
}

void api_delete(struct call *call) {
    if (function_of(call)) registry_delete(call->gw->c.registry, call->param, on_changed, change_new(call, 0));
}

void api_set_current(struct call *call) {
    static const char *const members[] = {"version", NULL};
    json_t *body = call_body(call, members);
    if (!body) return;
    json_int_t number = json_integer_value(json_object_get(body, "version"));
    json_decref(body);
    const struct function *fn = function_of(call);
    if (!fn) return;
    if (number < 1 || number > UINT32_MAX || !function_version(fn, (uint32_t)number)) {
        reply_fail(call, number < 1 ? ERR_INVALID : ERR_NOT_FOUND, "version must be the number of a version of '%s'", fn->name);
        return;
    }
    registry_set_current(call->gw->c.registry, call->param, (uint32_t)number, on_changed, change_new(call, (uint32_t)number));
}
