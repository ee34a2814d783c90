// SPDX-License-Identifier: Apache-2.0
// /v1/policies: what happens to a function's letters by itself.
#include "dlq/policies.h"
#include "gateway/reply.h"

void api_policies(struct call *call) {
    policies_list(call->gw->c.policies, reply_json_or_err, call);
}

void api_policy(struct call *call) {
    policies_show(call->gw->c.policies, call->param, reply_json_or_err, call);
}

void api_policy_change(struct call *call) {
    static const char *const members[] = {"keepMs", "cap", "autoReplay", NULL};
    json_t *body = call_body(call, members);
    if (!body) return;
    policies_change(call->gw->c.policies, call->param, body, call_who(call), reply_json_or_err, call);
    json_decref(body);
}

static void on_removed(void *arg, int code, const struct err *err) {
    struct call *call = arg;
    if (code) reply_err(call, err);
    else reply_json(call, 200, json_pack("{sb}", "removed", 1));
}

void api_policy_remove(struct call *call) {
    policies_remove(call->gw->c.policies, call->param, on_removed, call);
}
