// SPDX-License-Identifier: Apache-2.0
#include "triggers/later.h"

struct call {
    struct post post;
    void (*done)(void *arg, int code, const struct err *err);
    void *arg;
    int code;
    struct err err;
};

static void run(struct post *post) {
    struct call *c = container_of(post, struct call, post);
    c->done(c->arg, c->code, &c->err);
    free(c);
}

void later(struct loop *loop, void (*done)(void *arg, int code, const struct err *err), void *arg, int code, const struct err *err) {
    struct call *c = mem_zalloc(sizeof *c);
    *c = (struct call){.post.fn = run, .done = done, .arg = arg, .code = code, .err = *err};
    loop_post(loop, &c->post);
}
