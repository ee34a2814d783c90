// SPDX-License-Identifier: Apache-2.0
// /v1/triggers/{name}/next and /fires: what a timer is going to do, what it did, and a fire by hand.
#include "dlq/fires.h"
#include "gateway/reply.h"

#define COUNT_DEFAULT 10
#define COUNT_MAX 1000
#define LIMIT_DEFAULT 20
#define LIMIT_MAX 1000

// Is the trigger of the route a timer, and does this server have timers? If not, it was replied to.
static bool is_timer(struct call *call) {
    const struct gateway_config *c = &call->gw->c;
    const struct trigger *t = c->triggers ? triggers_find(c->triggers, call->param) : NULL;
    if (!c->triggers || !c->timer_next || !c->timer_fire || !c->fires) {
        reply_fail(call, ERR_UNAVAILABLE, "this server has no timers");
    } else if (!t) {
        reply_fail(call, ERR_NOT_FOUND, "there is no trigger '%.*s'", STR_ARG(call->param));
    } else if (strcmp(t->kind, FIRE_SOURCE) != 0) {
        reply_fail(call, ERR_INVALID, "trigger %s is of kind %s; only timers have fires", t->name, t->kind);
    } else {
        return true;
    }
    return false;
}

// --- looking ----------------------------------------------------------------------------------------------------------

void api_timer_next(struct call *call) {
    struct err err;
    int64_t count = COUNT_DEFAULT, after_ms = 0, until_ms = 0;
    json_t *result;
    if (!is_timer(call)) return;
    const struct gateway_config *c = &call->gw->c;
    int rc = call_number(call, "count", 1, COUNT_MAX, &count, &err);
    if (rc == 0) rc = call_time(call, "after", &after_ms, &err);
    if (rc == 0) rc = call_time(call, "until", &until_ms, &err);
    if (rc == 0) rc = c->timer_next(c->timer_arg, call->param, after_ms, until_ms, (size_t)count, &result, &err);
    if (rc == 0) reply_json(call, 200, result);
    else reply_err(call, &err);
}

void api_timer_fires(struct call *call) {
    struct err err;
    int64_t limit = LIMIT_DEFAULT, before_ms = 0;
    if (!is_timer(call)) return;
    int rc = call_number(call, "limit", 1, LIMIT_MAX, &limit, &err);
    if (rc == 0) rc = call_time(call, "before", &before_ms, &err);
    if (rc == 0) fires_history(call->gw->c.fires, call->param, before_ms, (size_t)limit, reply_json_or_err, call);
    else reply_err(call, &err);
}

// --- by hand ----------------------------------------------------------------------------------------------------------

static void on_fired(void *arg, int code, const struct err *err, json_t *result) {
    struct call *call = arg;
    if (code) reply_err(call, err);
    else reply_json(call, 202, result);
}

// What goes to the function in place of the trigger's message: a string as it is, any other value as its JSON. STR_NONE:
// nothing. *ret_dumped keeps the bytes.
static struct str data_of(json_t *value, char **ret_dumped) {
    if (!value || json_is_null(value)) return STR_NONE;
    if (json_is_string(value)) return (struct str){json_string_value(value), json_string_length(value)};
    *ret_dumped = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(17));
    return str_of(*ret_dumped);
}

static void fire(struct call *call, json_t *body) {
    const struct gateway_config *c = &call->gw->c;
    cleanup_free char *dumped = NULL;
    struct str data = data_of(json_object_get(body, "data"), &dumped);
    json_t *when = json_object_get(body, "scheduledMs");
    int64_t scheduled_ms = json_integer_value(when);
    if (when && (!json_is_integer(when) || scheduled_ms < 1)) {
        reply_fail(call, ERR_INVALID, "scheduledMs must be one of the schedule's times in Unix milliseconds; leave it out to fire now");
    } else if (data.len > EV_PAYLOAD_MAX) {
        reply_fail(call, ERR_TOO_LARGE, "data has %zu bytes; the limit is %u", data.len, EV_PAYLOAD_MAX);
    } else {
        c->timer_fire(c->timer_arg, call->param, scheduled_ms, data, on_fired, call);
    }
}

void api_timer_fire(struct call *call) {
    static const char *const members[] = {"scheduledMs", "data", NULL};
    if (!is_timer(call)) return;
    json_t *body = call->req->body.len ? call_body(call, members) : json_object();
    if (!body) return;
    fire(call, body);
    json_decref(body);
}
