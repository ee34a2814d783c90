// SPDX-License-Identifier: Apache-2.0
// /v1/replays: make a replay, follow it, pause it, end it.
#include "dlq/replays.h"
#include "gateway/reply.h"
#include "gateway/selection.h"

#define PAGE_DEFAULT 20
#define PAGE_MAX 100
#define LETTERS_DEFAULT 100
#define LETTERS_MAX 1000

static void on_made(void *arg, int code, const struct err *err, json_t *result) {
    struct call *call = arg;
    if (code) {
        reply_err(call, err);
        return;
    }
    cleanup_free char *made = mem_printf("replay %lld", (long long)json_integer_value(json_object_get(result, "replay")));
    call_audit_end(call, "ok", str_of(made));
    reply_json(call, 201, result);
}

static int read_spec(struct call *call, const json_t *body, struct replay_spec *spec, struct err *err) {
    int64_t limit = 0, sample = 0;
    int rc = body_number(body, "limit", 1, REPLAY_LETTERS_MAX, &limit, err);
    if (rc == 0) rc = body_text(body, "to", &spec->to, err);
    if (rc == 0) rc = call_check_target(call, spec->to, err);
    if (rc == 0) rc = body_flag(body, "toOrigin", &spec->to_origin, err);
    if (rc == 0) rc = body_flag(body, "inOrder", &spec->in_order, err);
    if (rc == 0) rc = body_real(body, "rate", 0, REPLAY_RATE_MAX, &spec->rate, err);
    if (rc == 0) rc = body_number(body, "rampMs", 0, 86400000, &spec->ramp_ms, err);
    if (rc == 0) rc = body_real(body, "abortShare", 0, 1, &spec->abort_share, err);
    if (rc == 0) rc = body_number(body, "sample", 0, 100000, &sample, err);
    if (rc == 0) rc = selection_of_body(call, body, "dead", &spec->sel, err);
    spec->limit = (size_t)limit;
    spec->sample = (size_t)sample;
    spec->who = call_who(call);
    return rc;
}

void api_replay_make(struct call *call) {
    static const char *const members[] = {SELECTION_MEMBERS, "limit",  "to",         "toOrigin", "rate",
                                          "rampMs",          "abortShare", "sample", "inOrder",  NULL};
    struct err err;
    struct replay_spec spec = {.abort_share = -1};
    json_t *body = call_body(call, members);
    if (!body) return;
    int rc = read_spec(call, body, &spec, &err);
    if (rc == 0) replays_create(call->gw->c.replays, &spec, on_made, call);
    else if (!call_look_for(call, rc, api_replay_make)) reply_err(call, &err);
    json_decref(body);
}

void api_replays(struct call *call) {
    struct err err;
    int64_t limit = PAGE_DEFAULT, before = 0;
    bool open = false;
    int rc = call_number(call, "limit", 1, PAGE_MAX, &limit, &err);
    if (rc == 0) rc = call_number(call, "cursor", 1, INT64_MAX, &before, &err);
    if (rc == 0) rc = call_flag(call, "open", &open, &err);
    if (rc) reply_err(call, &err);
    else replays_list(call->gw->c.replays, open, before, (size_t)limit, reply_json_or_err, call);
}

// The number in the path; false: it was replied to.
static bool read_number(struct call *call, int64_t *ret) {
    int64_t n = 0;
    bool good = call->param.len > 0 && call->param.len <= 18;
    for (size_t i = 0; good && i < call->param.len; i++) {
        good = call->param.data[i] >= '0' && call->param.data[i] <= '9';
        n = 10 * n + (call->param.data[i] - '0');
    }
    *ret = n;
    if (!good) reply_fail(call, ERR_NOT_FOUND, "'%.*s' is not the number of a replay", STR_ARG(call->param));
    return good;
}

typedef void replay_fn(struct replays *r, int64_t replay, letters_json_fn *fn, void *arg);

static void with_number(struct call *call, replay_fn *fn) {
    int64_t replay;
    if (read_number(call, &replay)) fn(call->gw->c.replays, replay, reply_json_or_err, call);
}

void api_replay(struct call *call) {
    with_number(call, replays_show);
}

void api_replay_pause(struct call *call) {
    with_number(call, replays_pause);
}

void api_replay_resume(struct call *call) {
    with_number(call, replays_resume);
}

void api_replay_cancel(struct call *call) {
    with_number(call, replays_cancel);
}

static bool is_letters_state(struct str word) {
    static const char *const words[] = {"", "pending", "sent", "skipped", "failed", "ok", "failing", "dead"};
    for (size_t i = 0; i < array_len(words); i++)
        if (str_is(word, words[i])) return true;
    return false;
}

void api_replay_letters(struct call *call) {
    struct err err;
    int64_t replay, limit = LETTERS_DEFAULT, after = 0;
    struct str state = call_text(call, "state");
    if (!read_number(call, &replay)) return;
    int rc = call_number(call, "limit", 1, LETTERS_MAX, &limit, &err);
    if (rc == 0) rc = call_number(call, "cursor", 0, INT64_MAX, &after, &err);
    if (rc == 0 && !is_letters_state(state))
        rc = err_set(&err, ERR_INVALID, "state is pending, sent, skipped or failed, or an outcome: ok, failing or dead");
    if (rc) reply_err(call, &err);
    else replays_letters(call->gw->c.replays, replay, state, after, (size_t)limit, reply_json_or_err, call);
}
