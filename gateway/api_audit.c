// SPDX-License-Identifier: Apache-2.0
// The audit: an entry around each call that changes something, and /v1/audit.
//
// A dry run, which changes nothing, has no entry; but one whose body cannot be read here has one, with the outcome "ok" and no counts.
// Invariant: the handler of an audited call runs only when its entry is durable. The reply ends the entry; a call whose client went away and
// that was taken back has none, and its entry stays without an outcome.
#include "core/base/clock.h"
#include "core/base/fault.h"
#include "dlq/select.h"
#include "gateway/reply.h"

#define PAGE_DEFAULT 100
#define BODY_MAX (64u * 1024) // a larger body is only counted

// --- entries ------------------------------------------------------------------------------------------------------

// Members whose values are cargo: a code package, exported letters.
static bool has_cargo(const json_t *body) {
    return json_object_get(body, "package") || json_object_get(body, "letters");
}

// NULL: none, or not one for people.
static json_t *read_body(struct str text) {
    json_t *body = text.len && text.len <= BODY_MAX ? json_loadb(text.data, text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
    if (!has_cargo(body)) return body;
    json_decref(body);
    return NULL;
}

// What the path names, or else the body.
static struct str target_of(const struct call *call, const json_t *body) {
    static const char *const names[] = {"name", "function", "group"};
    const json_t *ids = json_object_get(body, "ids"), *value = json_array_size(ids) == 1 ? json_array_get(ids, 0) : NULL;
    if (call->param.len) return call->param;
    for (size_t i = 0; !value && i < array_len(names); i++) value = json_object_get(body, names[i]);
    return (struct str){json_string_value(value), json_string_length(value)};
}

// An expression without its secrets, or, when it is none and nobody knows where they stand, how long it is.
static void set_where(json_t *o, struct str where, const struct redact *redact) {
    const struct select_spec spec = {.where = where, .now_ms = clock_unix_ms(), .redact = redact};
    struct selection *sel = NULL;
    struct err why;
    if (selection_new(&spec, &sel, &why) == 0) {
        struct str shown = selection_where(sel);
        json_object_set_new(o, "where", json_stringn(shown.data, shown.len));
    } else {
        json_object_del(o, "where");
        json_object_set_new(o, "whereBytes", json_integer((json_int_t)where.len));
    }
    selection_free(sel);
}

static json_t *detail_of(struct call *call, json_t *body) {
    const struct http_request *req = call->req;
    const struct redact *redact = call->gw->c.redact;
    const json_t *where = json_object_get(body, "where");
    json_t *detail = json_object();
    if (redact && json_is_string(where)) set_where(body, (struct str){json_string_value(where), json_string_length(where)}, redact);
    struct str in_query;
    if (redact && http_query_param(call->req, "where", &in_query)) set_where(detail, in_query, redact); // and no other words of it
    else if (req->query.len) json_object_set_new(detail, "query", reply_text(req->query));
    if (body) json_object_set(detail, "body", body);
    else if (req->body.len) json_object_set_new(detail, "bodyBytes", json_integer((json_int_t)req->body.len));
    return detail;
}

static void on_begun(void *arg, int code, const struct err *err, int64_t id) {
    struct call *call = arg;
    if (code) {
        reply_err(call, err);
        return;
    }
    FAULT("audit.begun");
    call->audit_id = id;
    if (call->gw) call->audited(call);
    else reply_fail(call, ERR_UNAVAILABLE, "the server is stopping"); // nothing was changed
}

void call_audit_begin(struct call *call, const char *action, bool dry_run, call_fn *fn) {
    char remote[HTTP_PEER_BYTES];
    json_auto_t *body = read_body(call->req->body);
    if (dry_run && json_is_true(json_object_get(body, "dryRun"))) {
        fn(call);
        return;
    }
    http_request_peer(call->req, remote);
    const struct audit_entry entry = {.who = call_who(call),
                                      .remote = str_of(remote),
                                      .action = str_of(action),
                                      .target = target_of(call, body),
                                      .detail = detail_of(call, body)};
    call->audited = fn;
    call->audit = call->gw->c.audit;
    audit_begin(call->audit, &entry, on_begun, call);
}

void call_audit_end(struct call *call, const char *code, struct str message) {
    if (!call->audit_id) return;
    FAULT("audit.changed");
    cleanup_free char *outcome = message.len ? mem_printf("%s: %.*s", code, STR_ARG(message)) : mem_strdup(code);
    audit_end(call->audit, call->audit_id, str_of(outcome));
    call->audit_id = 0;
}

// Caller frees.
static char *counts_text(const json_t *result) {
    static const char *const names[] = {"discarded", "restored", "retried", "purged", "edited", "unchanged", "imported", "there", "refused"};
    char *text = mem_strdup("");
    for (size_t i = 0; i < array_len(names); i++) {
        const json_t *value = json_object_get(result, names[i]);
        json_int_t n = json_is_array(value) ? (json_int_t)json_array_size(value) : json_integer_value(value);
        if (!value || (n == 0 && *text)) continue;
        cleanup_free char *before = text;
        text = mem_printf("%s%s%lld %s", before, *before ? ", " : "", (long long)n, names[i]);
    }
    return text;
}

void call_changed(void *arg, int code, const struct err *err, json_t *result) {
    struct call *call = arg;
    cleanup_free char *counts = code ? NULL : counts_text(result);
    if (code == 0) call_audit_end(call, "ok", str_of(counts));
    reply_json_or_err(call, code, err, result);
}

// --- looking ------------------------------------------------------------------------------------------------------

static bool has_audit(struct call *call) {
    if (call->gw->c.audit) return true;
    reply_fail(call, ERR_UNAVAILABLE, "this server keeps no audit");
    return false;
}

void api_audit(struct call *call) {
    struct err err;
    int64_t limit = PAGE_DEFAULT;
    struct audit_filter f = {.who = call_text(call, "who"), .target = call_text(call, "target"), .action = call_text(call, "action")};
    if (!has_audit(call)) return;
    int rc = call_number(call, "limit", 1, AUDIT_LIST_MAX, &limit, &err);
    if (rc == 0) rc = call_number(call, "cursor", 1, INT64_MAX, &f.before_id, &err);
    if (rc == 0) rc = call_number(call, "sinceMs", 0, INT64_MAX, &f.since_ms, &err);
    if (rc == 0) rc = call_number(call, "untilMs", 0, INT64_MAX, &f.until_ms, &err);
    f.limit = (size_t)limit;
    if (rc) reply_err(call, &err);
    else audit_list(call->gw->c.audit, &f, reply_json_or_err, call);
}

void api_audit_entry(struct call *call) {
    int64_t id = 0;
    bool good = call->param.len <= 18;
    for (size_t i = 0; good && i < call->param.len; i++) {
        good = call->param.data[i] >= '0' && call->param.data[i] <= '9';
        id = 10 * id + (call->param.data[i] - '0');
    }
    if (!good) reply_fail(call, ERR_NOT_FOUND, "'%.*s' is not the number of an entry", STR_ARG(call->param));
    else if (has_audit(call)) audit_show(call->gw->c.audit, id, reply_json_or_err, call);
}
