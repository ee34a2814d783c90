// SPDX-License-Identifier: Apache-2.0
// /v1/triggers: list, show, add, change, remove, pause, resume, seek, lag. Settings are strings in the store; numbers,
// booleans and objects (a filter) are taken as their JSON text, so that callers need not quote them.
#include <ctype.h>

#include "gateway/reply.h"

#define PAGE_DEFAULT 100
#define PAGE_MAX 1000
#define PAGE_BYTES ((size_t)8 << 20) // settings can be large

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

static int read_state(struct call *call, int *ret, struct err *err) {
    struct str word = call_text(call, "state");
#define X(state, text) \
    if (str_is(word, text)) *ret = state;
    TRIGGER_STATES(X)
#undef X
    return word.len && *ret < 0 ? err_set(err, ERR_INVALID, "state is active, paused or seeking") : 0;
}

static int read_filter(struct call *call, struct trigger_filter *f, struct err *err) {
    *f = (struct trigger_filter){.function = call_text(call, "function"), .kind = call_text(call, "kind"), .state = -1};
    if (f->kind.len && !str_is(f->kind, "kafka") && !str_is(f->kind, "amqp") && !str_is(f->kind, "timer"))
        return err_set(err, ERR_INVALID, "kind is kafka, amqp or timer");
    return read_state(call, &f->state, err);
}

// The name that the page before ended with. That trigger may have gone since.
static int read_cursor(struct call *call, struct str *ret, struct err *err) {
    struct str name = call_text(call, "cursor");
    bool good = name.len <= TRIGGER_NAME_MAX;
    for (size_t i = 0; good && i < name.len; i++) good = isalnum((unsigned char)name.data[i]) || (name.data[i] && strchr("._-", name.data[i]));
    if (!good) return err_set(err, ERR_INVALID, "the cursor is not one that a listing gave out");
    *ret = name;
    return 0;
}

static int append_trigger(struct buf *out, const struct trigger *t) {
    json_t *json = trigger_public_json(t);
    cleanup_free char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    MUST(text);
    return buf_append(out, str_of(text));
}

// The first `limit` of them, or those that PAGE_BYTES end with. One more than `limit` says that there is a next page.
static void reply_page(struct call *call, const struct trigger *const *all, size_t count, size_t limit) {
    struct buf out;
    size_t i = 0;
    buf_init(&out, SIZE_MAX / 2);
    int rc = buf_append(&out, STR_LIT("{\"triggers\":["));
    for (; i < count && i < limit && buf_len(&out) < PAGE_BYTES; i++) rc |= (i ? buf_append(&out, STR_LIT(",")) : 0) | append_trigger(&out, all[i]);
    rc |= i < count ? buf_printf(&out, "],\"next\":\"%s\"}", all[i - 1]->name) : buf_append(&out, STR_LIT("],\"next\":null}"));
    MUST(rc == 0);
    reply_bytes(call, 200, STR_LIT("application/json"), NULL, 0, buf_str(&out));
    buf_done(&out);
}

void api_triggers(struct call *call) {
    const struct triggers *ts = triggers_of(call);
    struct err err;
    struct trigger_filter filter;
    struct str after = STR_NONE;
    int64_t limit = PAGE_DEFAULT;
    if (!ts) return;
    int rc = call_number(call, "limit", 1, PAGE_MAX, &limit, &err);
    if (rc == 0) rc = read_cursor(call, &after, &err);
    if (rc == 0) rc = read_filter(call, &filter, &err);
    if (rc) {
        reply_err(call, &err);
        return;
    }
    size_t count;
    cleanup_free const struct trigger **all = triggers_page(ts, &filter, after, (size_t)limit + 1, &count);
    reply_page(call, all, count, (size_t)limit);
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
