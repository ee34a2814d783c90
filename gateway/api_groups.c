// SPDX-License-Identifier: Apache-2.0
// /v1/groups: what letters died of, and what people say about it.
#include "dlq/groups.h"
#include "gateway/reply.h"
#include "gateway/selection.h"

#define PAGE_DEFAULT 50

void api_groups(struct call *call) {
    struct err err;
    int64_t limit = PAGE_DEFAULT;
    struct groups_page page = {.function = call_text(call, "function")};
    int rc = call_number(call, "limit", 1, GROUPS_MAX, &limit, &err);
    if (rc == 0) rc = call_flag(call, "muted", &page.muted, &err);
    if (rc == 0) rc = call_number(call, "sinceMs", 0, INT64_MAX, &page.since_ms, &err);
    if (rc == 0) rc = call_number(call, "sparkMs", 1000, INT64_C(31622400000), &page.spark_ms, &err);
    page.limit = (size_t)limit;
    if (rc) reply_err(call, &err);
    else groups_list(call->gw->c.groups, &page, reply_json_or_err, call);
}

void api_group(struct call *call) {
    groups_show(call->gw->c.groups, call->param, reply_json_or_err, call);
}

void api_group_describe(struct call *call) {
    static const char *const members[] = {"name", "note", "muted", NULL};
    struct err err;
    struct str name = STR_NONE, note = STR_NONE;
    bool muted = false;
    json_t *body = call_body(call, members);
    if (!body) return;
    int rc = body_text(body, "name", &name, &err);
    if (rc == 0) rc = body_text(body, "note", &note, &err);
    if (rc == 0) rc = body_flag(body, "muted", &muted, &err);
    int mute = json_object_get(body, "muted") ? muted : -1;
    if (rc) reply_err(call, &err);
    else groups_describe(call->gw->c.groups, call->param, name, note, mute, call_who(call), reply_json_or_err, call);
    json_decref(body);
}
