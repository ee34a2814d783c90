// SPDX-License-Identifier: Apache-2.0
// /v1/triggers: list, show, add, change, remove, pause, resume, seek, lag. Settings are strings in the store; numbers,
// booleans and objects (a filter) are taken as their JSON text, so that callers need not quote them.
#include "gateway/reply.h"

static struct triggers *triggers_of(struct call *call) {
    struct triggers *ts = call->gw->c.triggers;
    if (!ts) reply_fail(call, ERR_UNAVAILABLE, "this server has no triggers");
    return ts;
}

// The trigger of the route; NULL: it was replied to.
static const struct trigger *trigger_of(struct call *call, struct triggers **ret) {
    *ret = triggers_of(call);
    if (!*ret) return NULL;
    const struct trigger *t = triggers_find(*ret, call->param);
    if (!t) reply_fail(call, ERR_NOT_FOUND, "there is no trigger '%.*s'", STR_ARG(call->param));
    return t;
}

// --- reading ------------------------------------------------------------------------------------------------------

static int by_name(const void *a, const void *b) {
    const struct trigger *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

void api_triggers(struct call *call) {
    const struct triggers *ts = triggers_of(call);
    if (!ts) return;
    struct str function = call_text(call, "function");
    size_t count = 0, at = 0;
    for (const struct trigger *t = triggers_first(ts); t; t = t->hh.next) count++;
    cleanup_free const struct trigger **all = mem_array(count, sizeof(struct trigger *));
    for (const struct trigger *t = triggers_first(ts); t; t = t->hh.next)
        if (function.len == 0 || str_is(function, t->function)) all[at++] = t;
    qsort(all, at, sizeof all[0], by_name);
    json_t *list = json_array();
    for (size_t i = 0; i < at; i++) MUST(json_array_append_new(list, trigger_public_json(all[i])) == 0);
    reply_json(call, 200, json_pack("{s:o}", "triggers", list));
}

void api_trigger(struct call *call) {
    struct triggers *ts;
    const struct trigger *t = trigger_of(call, &ts);
    if (t) reply_json(call, 200, trigger_public_json(t));
}

void api_trigger_lag(struct call *call) {
    struct triggers *ts;
    if (trigger_of(call, &ts)) triggers_lag(ts, call->param, reply_json_or_err, call);
}

// --- settings -----------------------------------------------------------------------------------------------------

static json_t *setting_text(json_t *value) {
    if (json_is_string(value)) return json_incref(value);
    cleanup_free char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15));
    return json_string(text);
}

// Every value as a string; null stays, when it means something.
static int read_settings(json_t *body, bool takes_null, json_t **ret, struct err *err) {
    json_t *given = json_object_get(body, "settings"), *value;
    const char *key;
    if (!json_is_object(given)) return err_set(err, ERR_INVALID, "settings must be an object: {\"topic\":\"orders\",…}");
    json_t *settings = json_object();
    json_object_foreach(given, key, value) {
        if (json_is_null(value) && !takes_null) {
            json_decref(settings);
            return err_set(err, ERR_INVALID, "setting %.100s is null: leave it out", key);
        }
        MUST(json_object_set_new(settings, key, json_is_null(value) ? json_null() : setting_text(value)) == 0);
    }
    *ret = settings;
    return 0;
}

// A string of the body; NULL: it is missing or none.
static const char *text_of(json_t *body, const char *name) {
    return json_string_value(json_object_get(body, name));
}

// --- changing -----------------------------------------------------------------------------------------------------

static void on_added(void *arg, int code, const struct err *err, const struct trigger *t) {
    if (code) reply_err(arg, err);
    else reply_json(arg, 201, trigger_public_json(t));
}

static void add(struct call *call, struct triggers *ts, json_t *body) {
    struct err err;
    json_t *settings, *name = json_object_get(body, "name");
    const char *function = text_of(body, "function"), *kind = text_of(body, "kind");
    if (!function || !kind) {
        reply_fail(call, ERR_INVALID, "function and kind are needed: {\"function\":\"orders\",\"kind\":\"kafka\",\"settings\":{…}}");
    } else if (name && !json_is_string(name)) {
        reply_fail(call, ERR_INVALID, "name must be a string");
    } else if (read_settings(body, false, &settings, &err)) {
        reply_err(call, &err);
    } else {
        triggers_add(ts, str_of(json_string_value(name)), str_of(function), str_of(kind), settings, on_added, call);
    }
}

void api_trigger_add(struct call *call) {
    static const char *const members[] = {"function", "kind", "name", "settings", NULL};
    struct triggers *ts = triggers_of(call);
    json_t *body = ts ? call_body(call, members) : NULL;
    if (!body) return;
    add(call, ts, body);
    json_decref(body);
}

static void on_changed(void *arg, int code, const struct err *err, const struct trigger *t) {
    if (code) reply_err(arg, err);
    else reply_json(arg, 200, trigger_public_json(t));
}

void api_trigger_change(struct call *call) {
    static const char *const members[] = {"settings", NULL};
    struct err err;
    struct triggers *ts;
    json_t *settings;
    json_t *body = trigger_of(call, &ts) ? call_body(call, members) : NULL;
    if (!body) return;
    if (read_settings(body, true, &settings, &err)) reply_err(call, &err);
    else triggers_change(ts, call->param, settings, on_changed, call);
    json_decref(body);
}

void api_trigger_pause(struct call *call) {
    struct triggers *ts;
    if (trigger_of(call, &ts)) triggers_pause(ts, call->param, on_changed, call);
}

void api_trigger_resume(struct call *call) {
    struct triggers *ts;
    if (trigger_of(call, &ts)) triggers_resume(ts, call->param, on_changed, call);
}

void api_trigger_seek(struct call *call) {
    static const char *const members[] = {"to", NULL};
    struct triggers *ts;
    json_t *body = trigger_of(call, &ts) ? call_body(call, members) : NULL;
    if (!body) return;
    const char *to = text_of(body, "to");
    if (to) triggers_seek(ts, call->param, str_of(to), on_changed, call);
    else reply_fail(call, ERR_INVALID, "to is needed: earliest, latest, a time like 2026-11-20T00:00Z, or offset:PARTITION=OFFSET");
    json_decref(body);
}

static void on_removed(void *arg, int code, const struct err *err, const struct trigger *t) {
    struct call *call = arg;
    (void)t;
    if (code) reply_err(call, err);
    else reply_json(call, 200, json_pack("{s:s}", "name", call->param_text));
}

void api_trigger_remove(struct call *call) {
    struct triggers *ts;
    if (trigger_of(call, &ts)) triggers_remove(ts, call->param, on_removed, call);
}
