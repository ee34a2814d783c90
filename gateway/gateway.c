// SPDX-License-Identifier: Apache-2.0
// From a request to its handler: the token, the table of routes, and the list of calls that are open.
//
// Invariant: a call is in the list until its reply or until its client is gone; after gateway_close the calls that are
// left know no gateway any more, and their replies go nowhere.
#include "gateway/gateway.h"

#include "core/base/clock.h"
#include "core/base/text.h"
#include "gateway/reply.h"

enum {
    OPEN = 1,    // no token needed
    DRY_RUN = 2, // "dryRun": true in the body asks for nothing to be changed
};

static const struct route {
    const char *method;
    const char *pattern; // {} stands for one segment, which becomes call->param
    call_fn *fn;
    const char *action;  // its word in the audit; NULL: it changes nothing, or is an invocation
    unsigned flags;
    const char *params;  // the names that its query may have, one space between; NULL: none. Same in schema/openapi.yaml
} routes[] = {
    {"POST", "/v1/functions/{}/invocations", api_invoke, NULL, 0, "invokeType qualifier deadlineMs logType each runAt"},
    {"GET", "/v1/functions", api_functions, NULL, 0, "limit cursor"},
    {"GET", "/v1/functions/{}", api_function, NULL, 0, NULL},
    {"PUT", "/v1/functions/{}", api_deploy, "functions.deploy", 0, "switch"},
    {"DELETE", "/v1/functions/{}", api_delete, "functions.delete", 0, NULL},
    {"POST", "/v1/functions/{}/current", api_set_current, "functions.current", 0, NULL},
    {"GET", "/v1/functions/{}/logs", api_logs, NULL, 0, "after limit waitMs"},
    {"GET", "/v1/letters", api_letters, NULL, 0,
     "function error group state source where search sinceMs untilMs limit cursor order full count as"},
    {"POST", "/v1/letters/discard", api_discard, "letters.discard", 0, NULL},
    {"POST", "/v1/letters/restore", api_restore, "letters.restore", 0, NULL},
    {"POST", "/v1/letters/retry", api_retry, "letters.retry", 0, NULL},
    {"POST", "/v1/letters/purge", api_purge, "letters.purge", 0, NULL},
    {"POST", "/v1/letters/edit", api_edit, "letters.edit", DRY_RUN, NULL},
    {"POST", "/v1/letters/try", api_try, "letters.try", 0, NULL},
    {"POST", "/v1/letters/import", api_import, "letters.import", 0, NULL},
    {"GET", "/v1/letters/{}", api_letter, NULL, 0, NULL},
    {"GET", "/v1/groups", api_groups, NULL, 0, "function sinceMs muted limit sparkMs"},
    {"GET", "/v1/groups/{}", api_group, NULL, 0, NULL},
    {"PATCH", "/v1/groups/{}", api_group_describe, "groups.describe", 0, NULL},
    {"GET", "/v1/replays", api_replays, NULL, 0, "open limit cursor"},
    {"POST", "/v1/replays", api_replay_make, "replays.start", 0, NULL},
    {"GET", "/v1/replays/{}", api_replay, NULL, 0, NULL},
    {"GET", "/v1/replays/{}/letters", api_replay_letters, NULL, 0, "state limit cursor"},
    {"POST", "/v1/replays/{}/pause", api_replay_pause, "replays.pause", 0, NULL},
    {"POST", "/v1/replays/{}/resume", api_replay_resume, "replays.resume", 0, NULL},
    {"POST", "/v1/replays/{}/cancel", api_replay_cancel, "replays.cancel", 0, NULL},
    {"GET", "/v1/policies", api_policies, NULL, 0, NULL},
    {"GET", "/v1/policies/{}", api_policy, NULL, 0, NULL},
    {"PUT", "/v1/policies/{}", api_policy_change, "policies.change", 0, NULL},
    {"DELETE", "/v1/policies/{}", api_policy_remove, "policies.remove", 0, NULL},
    {"GET", "/v1/triggers", api_triggers, NULL, 0, "function kind state limit cursor"},
    {"POST", "/v1/triggers", api_trigger_add, "triggers.add", 0, NULL},
    {"GET", "/v1/triggers/{}", api_trigger, NULL, 0, NULL},
    {"PATCH", "/v1/triggers/{}", api_trigger_change, "triggers.change", 0, NULL},
    {"DELETE", "/v1/triggers/{}", api_trigger_remove, "triggers.remove", 0, NULL},
    {"POST", "/v1/triggers/{}/pause", api_trigger_pause, "triggers.pause", 0, NULL},
    {"POST", "/v1/triggers/{}/resume", api_trigger_resume, "triggers.resume", 0, NULL},
    {"POST", "/v1/triggers/{}/seek", api_trigger_seek, "triggers.seek", 0, NULL},
    {"GET", "/v1/triggers/{}/lag", api_trigger_lag, NULL, 0, NULL},
    {"GET", "/v1/triggers/{}/next", api_timer_next, NULL, 0, "count after until"},
    {"GET", "/v1/triggers/{}/fires", api_timer_fires, NULL, 0, "limit before"},
    {"POST", "/v1/triggers/{}/fires", api_timer_fire, "triggers.fire", 0, NULL},
    {"GET", "/v1/audit", api_audit, NULL, 0, "who action target sinceMs untilMs cursor limit"},
    {"GET", "/v1/audit/{}", api_audit_entry, NULL, 0, NULL},
    {"GET", "/v1/status", api_status, NULL, 0, NULL},
    {"GET", "/v1/config", api_config, NULL, 0, NULL},
    {"GET", "/metrics", api_metrics, NULL, 0, NULL},
    {"GET", "/healthz", api_health, NULL, OPEN, NULL},
    {"GET", "/readyz", api_ready, NULL, OPEN, NULL},
};

// --- calls --------------------------------------------------------------------------------------------------------

static struct call *call_new(struct gateway *gw, struct http_request *req) {
    struct call *call = mem_zalloc(sizeof *call);
    call->gw = gw;
    call->req = req;
    call->id = id_new();
    id_format(&call->id, call->id_text);
    call->next = gw->calls;
    if (gw->calls) gw->calls->prev = call;
    gw->calls = call;
    return call;
}

void call_end(struct call *call) {
    if (call->prev) call->prev->next = call->next;
    else if (call->gw) call->gw->calls = call->next;
    if (call->next) call->next->prev = call->prev;
    free(call);
}

static void on_client_gone(void *arg) {
    struct call *call = arg;
    call->on_gone(call->gone_arg);
    call_end(call);
}

void call_on_gone(struct call *call, void (*fn)(void *arg), void *arg) {
    call->on_gone = fn;
    call->gone_arg = arg;
    http_request_on_gone(call->req, on_client_gone, call);
}

struct str call_text(struct call *call, const char *name) {
    struct str text = STR_LIT("");
    (void)http_query_param(call->req, name, &text);
    return text;
}

int call_number(struct call *call, const char *name, int64_t least, int64_t most, int64_t *ret, struct err *err) {
    struct str text;
    if (!http_query_param(call->req, name, &text)) return 0;
    int64_t n = 0;
    bool good = text.len > 0 && text.len <= 18;
    for (size_t i = 0; good && i < text.len; i++) {
        good = text.data[i] >= '0' && text.data[i] <= '9';
        n = n * 10 + (text.data[i] - '0');
    }
    if (!good || n < least || n > most) {
        return err_set(err, ERR_INVALID, "%s must be a whole number from %lld to %lld", name, (long long)least, (long long)most);
    }
    *ret = n;
    return 0;
}

int call_flag(struct call *call, const char *name, bool *ret, struct err *err) {
    struct str word;
    if (!http_query_param(call->req, name, &word)) return 0;
    if (!str_is(word, "true") && !str_is(word, "false")) return err_set(err, ERR_INVALID, "%s must be true or false", name);
    *ret = str_is(word, "true");
    return 0;
}

static const char *unknown_member(json_t *body, const char *const members[]) {
    const char *key;
    json_t *value;
    json_object_foreach(body, key, value) {
        size_t i = 0;
        while (members[i] && strcmp(members[i], key) != 0) i++;
        if (!members[i]) return key;
    }
    return NULL;
}

json_t *call_body(struct call *call, const char *const members[]) {
    return call_body_of(call, call->req->body, 0, members);
}

json_t *call_body_of(struct call *call, struct str text, size_t flags, const char *const members[]) {
    json_error_t why;
    json_t *body = json_loadb(text.data ? text.data : "", text.len, flags | JSON_REJECT_DUPLICATES, &why);
    if (!body) {
        char *quoted = call->gw->c.redact ? strstr(why.text, " near '") : NULL;
        if (quoted) *quoted = '\0'; // it may be a secret's text
        reply_fail(call, ERR_INVALID, "the body is not JSON: line %d: %s", why.line, why.text);
        return NULL;
    }
    const char *unknown = json_is_object(body) ? unknown_member(body, members) : NULL;
    if (json_is_object(body) && !unknown) return body;
    if (unknown) reply_fail(call, ERR_INVALID, "the body has an unknown member '%.100s'", unknown);
    else reply_fail(call, ERR_INVALID, "the body must be a JSON object");
    json_decref(body);
    return NULL;
}

struct str call_who(const struct call *call) {
    return str_of(call->who);
}

// --- routing ------------------------------------------------------------------------------------------------------

// True when the path is of that pattern; the segment at {} goes to *ret_param.
static bool route_matches(const char *pattern, struct str path, struct str *ret_param) {
    *ret_param = STR_NONE;
    while (*pattern) {
        if (pattern[0] == '{') {
            const char *end = path.len ? memchr(path.data, '/', path.len) : NULL;
            *ret_param = (struct str){path.data, end ? (size_t)(end - path.data) : path.len};
            if (ret_param->len == 0) return false;
            path = (struct str){path.data + ret_param->len, path.len - ret_param->len};
            pattern += 2;
        } else {
            if (path.len == 0 || path.data[0] != *pattern) return false;
            path = (struct str){path.data + 1, path.len - 1};
            pattern++;
        }
    }
    return path.len == 0;
}

static const struct route *find_route(struct str method, struct str path, struct str *ret_param, char allow[64]) {
    const char *wanted = str_is(method, "HEAD") ? "GET" : NULL;
    allow[0] = '\0';
    for (size_t i = 0; i < array_len(routes); i++) {
        if (!route_matches(routes[i].pattern, path, ret_param)) continue;
        if (wanted ? strcmp(wanted, routes[i].method) == 0 : str_is(method, routes[i].method)) return &routes[i];
        size_t used = strlen(allow);
        snprintf(allow + used, 64 - used, "%s%s", used ? ", " : "", routes[i].method);
    }
    return NULL;
}

static void reply_no_route(struct call *call, const char *allow) {
    const struct http_field field = {STR_LIT("Allow"), str_of(allow)};
    if (!allow[0]) {
        reply_fail(call, ERR_NOT_FOUND, "there is nothing at %.*s", call->req->path.len > 200 ? 200 : STR_ARG(call->req->path));
        return;
    }
    char body[256];
    int n = snprintf(body, sizeof body,
                     "{\"code\":\"MethodNotAllowed\",\"message\":\"this path takes %s\",\"requestId\":\"%s\"}", allow, call->id_text);
    reply_bytes(call, 405, STR_LIT("application/json"), &field, 1, (struct str){body, (size_t)n});
}

static bool decode_param(struct call *call, struct str raw) {
    if (raw.len >= CALL_PARAM_BYTES) return false;
    long len = http_percent_decode(raw, false, call->param_text);
    call->param = (struct str){call->param_text, len < 0 ? 0 : (size_t)len};
    return len >= 0 && !memchr(call->param_text, '\0', (size_t)len); // no name has a NUL, and to half of the code it would end there
}

#define PARAM_SHOWN 100 // bytes of an unknown name

static int unknown_param(const struct route *route, struct str name, struct err *err) {
    char given[PARAM_SHOWN + 1], best[32] = "", word[32];
    snprintf(given, sizeof given, "%.*s", (int)(name.len < PARAM_SHOWN ? name.len : PARAM_SHOWN), name.data);
    struct text_nearest n = text_nearest_init(given);
    for (const char *at = route->params; at && *at; at += strcspn(at, " "), at += *at == ' ') {
        snprintf(word, sizeof word, "%.*s", (int)strcspn(at, " "), at);
        if (text_nearest_offer(&n, word)) memcpy(best, word, sizeof best);
    }
    if (best[0]) return err_set(err, ERR_INVALID, "unknown parameter '%s', did you mean '%s'?", given, best);
    if (route->params) return err_set(err, ERR_INVALID, "unknown parameter '%s'; there are: %s", given, route->params);
    return err_set(err, ERR_INVALID, "unknown parameter '%s'; this path takes none", given);
}

static bool is_param(const struct route *route, struct str name) {
    for (const char *at = route->params; at && *at; at += strcspn(at, " "), at += *at == ' ')
        if (strcspn(at, " ") == name.len && memcmp(at, name.data, name.len) == 0) return true;
    return false;
}

// Under /v1 a name that is misspelt is an error, not a filter that is not there.
static int check_query(const struct route *route, struct http_request *req, struct err *err) {
    struct str left = req->query, name;
    if (strncmp(route->pattern, "/v1/", 4) != 0) return 0;
    while (http_query_next(req, &left, &name))
        if (!is_param(route, name)) return unknown_param(route, name, err);
    return 0;
}

static void on_request(void *arg, struct http_request *req) {
    struct gateway *gw = arg;
    struct call *call = call_new(gw, req);
    struct str param;
    char allow[64];
    struct err err;
    const struct route *route = find_route(req->method, req->path, &param, allow);
    bool allowed = access_check(gw->access, req, call->who);
    if (!allowed && !(route && route->flags & OPEN)) {
        reply_fail(call, ERR_DENIED, "send the server's token: Authorization: Bearer TOKEN (weir: --token or WEIR_TOKEN)");
    } else if (!route) {
        reply_no_route(call, allow);
    } else if (!decode_param(call, param)) {
        reply_fail(call, ERR_NOT_FOUND, "the path has a part that is too long, not percent-encoded, or has a NUL in it");
    } else if (check_query(route, req, &err)) {
        reply_err(call, &err);
    } else if (route->action && gw->c.audit) {
        call_audit_begin(call, route->action, route->flags & DRY_RUN, route->fn);
    } else {
        route->fn(call);
    }
}

static const char *refusal_word(int status) {
    switch (status) {
    case 408: return "RequestTimeout";
    case 413: return err_word(ERR_TOO_LARGE);
    case 431: return "HeaderTooLarge";
    case 501:
    case 505: return "NotSupported";
    case 503: return err_word(ERR_UNAVAILABLE);
    default: return err_word(ERR_INVALID);
    }
}

static void on_refuse(void *arg, struct http_request *req, int status, const char *why) {
    reply_problem(call_new(arg, req), status, refusal_word(status), str_of(why), NULL);
}

// --- life ---------------------------------------------------------------------------------------------------------

static int check_exposure(const struct options *o, const struct access *access, struct err *err) {
    bool loopback = false;
    int rc = http_address_is_loopback(o->listen.text, &loopback, err);
    if (rc < 0 || loopback || !access_is_open(access)) return rc;
    return err_set(err, ERR_INVALID,
                   "listen %s is reachable from other machines: set a token (--token or WEIR_TOKEN) that clients must "
                   "send, or listen on 127.0.0.1", o->listen.text);
}

// No change goes without a word for the audit; an invocation has its own life.
static void check_routes(void) {
    for (size_t i = 0; i < array_len(routes); i++)
        MUST(routes[i].action || strcmp(routes[i].method, "GET") == 0 || routes[i].fn == api_invoke);
}

static int open_http(struct gateway *gw, struct err *err) {
    const struct options *o = gw->c.options;
    const struct http_server_config http = {
        .loop = gw->c.loop,
        .address = o->listen.text,
        .max_header_bytes = (size_t)o->max_header_bytes.number,
        .max_body_bytes = (size_t)o->max_body_bytes.number,
        .max_connections = (size_t)o->max_connections.number,
        .request_timeout_ms = o->request_timeout_ms.number,
        .keepalive_ms = o->keepalive_ms.number,
        .handler = on_request,
        .refuse = on_refuse,
        .arg = gw,
        .metrics = gw->c.metrics,
    };
    return http_server_open(&http, &gw->http, err);
}

int gateway_open(const struct gateway_config *config, struct gateway **ret, struct err *err) {
    struct gateway *gw = mem_zalloc(sizeof *gw);
    gw->c = *config;
    gw->started_ms = clock_unix_ms();
    check_routes();
    int rc = access_new(config->options, &gw->access, err);
    if (rc == 0) rc = check_exposure(config->options, gw->access, err);
    if (rc == 0) rc = open_http(gw, err);
    if (rc < 0) {
        access_free(gw->access);
        free(gw);
        return rc;
    }
    *ret = gw;
    return 0;
}

int gateway_port(const struct gateway *gw) {
    return http_server_port(gw->http);
}

void gateway_drain(struct gateway *gw) {
    http_server_stop_accepting(gw->http);
}

size_t gateway_open_requests(const struct gateway *gw) {
    return http_server_running(gw->http);
}

void gateway_close(struct gateway *gw) {
    if (!gw) return;
    http_server_close(gw->http);
    for (struct call *call = gw->calls; call; call = call->next) call->gw = NULL;
    access_free(gw->access);
    free(gw);
}
