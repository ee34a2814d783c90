// SPDX-License-Identifier: Apache-2.0
// The verdict is told when the instance is gone, so that a check leaves nothing behind.
#include "workers/check.h"

#include <utlist.h>

struct check {
    struct check *prev, *next, **list;
    struct instance *inst;
    struct fleet *fleet;
    check_done_fn *done;
    void *arg;
    struct err err;
    bool loaded;
};

static void on_ready(void *arg, struct instance *inst) {
    struct check *c = arg;
    c->loaded = true;
    instance_stop(inst);
}

static void on_load_failed(void *arg, struct instance *inst, const struct outcome_report *r) {
    (void)inst;
    struct check *c = arg;
    struct str detail = r->stack.len ? r->stack : r->error_message;
    err_set(&c->err, ERR_INVALID, "the code does not load: %.*s: %.*s", STR_ARG(r->error_type),
            (int)(detail.len < 400 ? detail.len : 400), detail.data ? detail.data : "");
}

static void on_gone(void *arg, struct instance *inst) {
    (void)inst;
    struct check *c = arg;
    if (!c->loaded && c->err.code == ERR_OK) err_set(&c->err, ERR_UNAVAILABLE, "the instance ended before it had loaded the code");
    DL_DELETE(*c->list, c);
    fleet_gone(c->fleet);
    c->done(c->arg, c->err.code, &c->err);
    free(c);
}

static const struct instance_host host = {.on_ready = on_ready, .on_load_failed = on_load_failed, .on_gone = on_gone};

void check_version(struct fleet *fleet, struct version *v, struct check **checks, check_done_fn *done, void *arg) {
    struct check *c = mem_zalloc(sizeof *c);
    *c = (struct check){.list = checks, .fleet = fleet, .done = done, .arg = arg};
    int rc = fleet_borrow(fleet, v->settings.runtime, &host, c, &c->inst, &c->err);
    if (rc) {
        done(arg, rc, &c->err);
        free(c);
        return;
    }
    DL_APPEND(*checks, c);
    instance_assign(c->inst, v);
}

void check_kill_all(struct check *checks) {
    for (struct check *c = checks; c; c = c->next) instance_kill(c->inst, true);
}
