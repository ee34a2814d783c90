// SPDX-License-Identifier: Apache-2.0
#include "gateway/call.h"
#include "gateway/reply.h"

int call_check_target(struct call *call, struct str to, struct err *err) {
    struct version *version;
    if (to.len == 0) return 0;
    const char *colon = memchr(to.data, ':', to.len);
    struct str name = {to.data, colon ? (size_t)(colon - to.data) : to.len};
    struct str qualifier = colon ? (struct str){colon + 1, to.len - name.len - 1} : STR_LIT("");
    return registry_resolve(call->gw->c.registry, name, qualifier, &version, err);
}

static void on_looked(void *arg, int code, const struct err *err) {
    struct call *call = arg;
    if (code) reply_err(call, err);
    else if (call->gw) call->looking(call);
    else reply_fail(call, ERR_UNAVAILABLE, "the server is stopping; try again");
}

bool call_look_for(struct call *call, int rc, call_fn *fn) {
    if (rc != ERR_NOT_FOUND || call->looking) return false;
    call->looking = fn;
    registry_refresh(call->gw->c.registry, on_looked, call);
    return true;
}
