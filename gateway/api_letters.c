// SPDX-License-Identifier: Apache-2.0
// /v1/letters and /v1/replays: look at letters, give them up, send them back.
//
// A change must say which letters it means: an empty selection is an error, so that a forgotten field does not hit all.
#include "core/base/clock.h"
#include "gateway/reply.h"

#define PAGE_DEFAULT 100
#define PAGE_MAX 1000

// --- looking ------------------------------------------------------------------------------------------------------

static void on_letters(void *arg, int code, const struct err *err, json_t *result) {
    struct call *call = arg;
    if (code) reply_err(call, err);
    else reply_json(call, 200, result);
}

void api_letters(struct call *call) {
    struct err err;
    int64_t limit = PAGE_DEFAULT;
    struct letter_filter f = {
        .function = call_text(call, "function"),
        .error_type = call_text(call, "error"),
        .state = call_text(call, "state"),
        .after = call_text(call, "cursor"),
    };
    if (call_number(call, "limit", 1, PAGE_MAX, &limit, &err) < 0 ||
        call_number(call, "sinceMs", 0, INT64_MAX, &f.since_ms, &err) < 0 ||
        call_number(call, "untilMs", 0, INT64_MAX, &f.until_ms, &err) < 0) {
        reply_err(call, &err);
        return;
    }
    f.limit = (size_t)limit;
    letters_list(call->gw->c.letters, &f, on_letters, call);
}

void api_letter(struct call *call) {
    struct id id;
    if (id_parse(call->param, &id) < 0) {
        reply_fail(call, ERR_NOT_FOUND, "'%.*s' is not the id of a letter", STR_ARG(call->param));
        return;
    }
    letters_show(call->gw->c.letters, &id, on_letters, call);
}

// --- selecting ----------------------------------------------------------------------------------------------------

// A filter read from a body; its spans point into the body.
struct selection {
    struct letter_filter f;
    struct id *ids; // freed by selection_done
};

static void selection_done(struct selection *s) {
    free(s->ids);
}

static int take_text(json_t *body, const char *name, struct str *ret, struct err *err) {
    json_t *value = json_object_get(body, name);
    if (!value) return 0;
    if (!json_is_string(value)) return err_set(err, ERR_INVALID, "%s must be a string", name);
    *ret = (struct str){json_string_value(value), json_string_length(value)};
    return 0;
}

static int take_number(json_t *body, const char *name, int64_t least, int64_t most, int64_t *ret, struct err *err) {
    json_t *value = json_object_get(body, name);
    if (!value) return 0;
    int64_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < least || n > most) {
        return err_set(err, ERR_INVALID, "%s must be a whole number from %lld to %lld", name, (long long)least, (long long)most);
    }
    *ret = n;
    return 0;
}

static int take_ids(json_t *list, struct selection *s, struct err *err) {
    size_t count = json_array_size(list);
    if (count == 0 || count > PAGE_MAX) return err_set(err, ERR_INVALID, "ids must be a list of 1 to %d ids", PAGE_MAX);
    s->ids = mem_array(count, sizeof *s->ids);
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (!text || id_parse(str_of(text), &s->ids[i]) < 0) {
            return err_set(err, ERR_INVALID, "ids: '%.60s' is not an id", text ? text : "");
        }
    }
    s->f.ids = s->ids;
    s->f.id_count = count;
    return 0;
}

static int read_selection(json_t *body, struct selection *s, struct err *err) {
    int64_t limit = PAGE_MAX;
    json_t *ids = json_object_get(body, "ids");
    json_t *others[] = {json_object_get(body, "function"), json_object_get(body, "error"), json_object_get(body, "state"),
                        json_object_get(body, "sinceMs"), json_object_get(body, "untilMs")};
    bool any = false;
    for (size_t i = 0; i < array_len(others); i++) any |= others[i] != NULL;
    if (!ids && !any) return err_set(err, ERR_INVALID, "say which letters: ids, or function, error, sinceMs, untilMs");
    if (ids && any) return err_set(err, ERR_INVALID, "give either ids or a filter, not both");
    int rc = take_number(body, "limit", 1, PAGE_MAX, &limit, err);
    if (rc == 0) rc = take_text(body, "function", &s->f.function, err);
    if (rc == 0) rc = take_text(body, "error", &s->f.error_type, err);
    if (rc == 0) rc = take_text(body, "state", &s->f.state, err);
    if (rc == 0) rc = take_number(body, "sinceMs", 0, INT64_MAX, &s->f.since_ms, err);
    if (rc == 0) rc = take_number(body, "untilMs", 0, INT64_MAX, &s->f.until_ms, err);
    if (rc == 0 && ids) rc = take_ids(ids, s, err);
    s->f.limit = (size_t)limit;
    return rc;
}

// --- changing -----------------------------------------------------------------------------------------------------

static void reply_count(struct call *call, const char *member, int code, const struct err *err, size_t count) {
    if (code) reply_err(call, err);
    else reply_json(call, 200, json_pack("{s:I}", member, (json_int_t)count));
}

static void on_discarded(void *arg, int code, const struct err *err, size_t count) {
    reply_count(arg, "discarded", code, err, count);
}

static void on_purged(void *arg, int code, const struct err *err, size_t count) {
    reply_count(arg, "purged", code, err, count);
}

void api_discard(struct call *call) {
    static const char *const members[] = {"ids", "function", "error", "state", "sinceMs", "untilMs", "limit", NULL};
    struct err err;
    struct selection s = {0};
    json_t *body = call_body(call, members);
    if (!body) return;
    int rc = read_selection(body, &s, &err);
    if (rc == 0) letters_discard(call->gw->c.letters, &s.f, on_discarded, call);
    else reply_err(call, &err);
    selection_done(&s);
    json_decref(body);
}

void api_purge(struct call *call) {
    static const char *const members[] = {"olderThanMs", "dead", NULL};
    struct err err;
    int64_t age_ms = -1;
    json_t *body = call_body(call, members);
    if (!body) return;
    json_t *dead = json_object_get(body, "dead");
    int rc = take_number(body, "olderThanMs", 0, INT64_MAX, &age_ms, &err);
    if (rc == 0 && age_ms < 0) rc = err_set(&err, ERR_INVALID, "olderThanMs is needed: the least age of what is deleted");
    if (rc == 0 && dead && !json_is_boolean(dead)) rc = err_set(&err, ERR_INVALID, "dead must be true or false");
    int64_t now_ms = clock_unix_ms();
    int64_t before_ms = age_ms < now_ms ? now_ms - age_ms : 0;
    if (rc == 0) letters_purge(call->gw->c.letters, before_ms, json_is_true(dead), on_purged, call);
    else reply_err(call, &err);
    json_decref(body);
}

static void on_replayed(void *arg, int code, const struct err *err, const struct replay_result *r) {
    struct call *call = arg;
    if (code) {
        reply_err(call, err);
        return;
    }
    json_t *why = r->failed ? reply_text(str_of(r->first_error.text)) : json_null();
    reply_json(call, 200, json_pack("{s:I, s:I, s:b, s:o}", "replayed", (json_int_t)r->replayed, "failed", (json_int_t)r->failed,
                                    "more", (int)r->more, "error", why));
}

void api_replay(struct call *call) {
    static const char *const members[] = {"ids", "function", "error", "sinceMs", "untilMs", "limit", "to", "toOrigin", NULL};
    struct err err;
    struct str to = STR_LIT("");
    struct selection s = {0};
    json_t *body = call_body(call, members);
    if (!body) return;
    json_t *origin = json_object_get(body, "toOrigin");
    int rc = read_selection(body, &s, &err);
    if (rc == 0) rc = take_text(body, "to", &to, &err);
    if (rc == 0 && origin && !json_is_boolean(origin)) rc = err_set(&err, ERR_INVALID, "toOrigin must be true or false");
    if (rc == 0 && json_is_true(origin) && to.len)
        rc = err_set(&err, ERR_INVALID, "give either to or toOrigin: a letter goes to a function or to where it came from");
    if (rc == 0) replay_run(call->gw->c.replay, &s.f, to, json_is_true(origin), on_replayed, call);
    else reply_err(call, &err);
    selection_done(&s);
    json_decref(body);
}
