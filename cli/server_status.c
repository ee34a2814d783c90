// SPDX-License-Identifier: Apache-2.0
// What `weir status` shows: the lanes of this node, with the depth of each queue and the count of letters.
#include "cli/server_parts.h"

#include "core/base/clock.h"

bool server_is_ready(void *server, const char **why) {
    struct server *s = server;
    *why = s->draining                 ? "the server is stopping"
           : !queue_is_up(s->queue)    ? "the queue is away"
           : !store_is_up(s->store)    ? "the store is away"
                                       : NULL;
    return *why == NULL;
}

static void answer_version(void *arg, struct status_reply *reply) {
    (void)arg;
    status_answer(reply, json_string(WEIR_VERSION));
}

static void answer_started(void *arg, struct status_reply *reply) {
    const struct server *s = arg;
    status_answer(reply, json_integer(s->started_ms));
}

static void answer_ready(void *arg, struct status_reply *reply) {
    const char *why;
    status_answer(reply, json_boolean(server_is_ready(arg, &why)));
}

// "amqp" of "amqp://user:pass@host": a URL may hold a password.
static json_t *part_json(const char *url, bool up) {
    size_t scheme_len = strcspn(url, ":");
    return json_pack("{ss% sb}", "kind", url, scheme_len, "up", up);
}

static void answer_queue(void *arg, struct status_reply *reply) {
    const struct server *s = arg;
    status_answer(reply, part_json(s->options->queue.text, queue_is_up(s->queue)));
}

static void answer_store(void *arg, struct status_reply *reply) {
    const struct server *s = arg;
    status_answer(reply, part_json(store_is_shared(s->store) ? "postgresql:" : "sqlite:", store_is_up(s->store)));
}

static void answer_sandbox(void *arg, struct status_reply *reply) {
    const struct server *s = arg;
    status_answer(reply, json_string(sandbox_kind(s->sandbox)));
}

// --- functions: lanes, then letters, then the depth of each queue -----------------------------------------------------

struct functions_reply {
    struct server *server;
    struct status_reply *reply;
    json_t *functions;
    size_t open;
};

struct depth_reply {
    struct functions_reply *all;
    json_t *function; // borrowed
};

static void functions_part_done(struct functions_reply *r) {
    if (--r->open) return;
    status_answer(r->reply, r->functions);
    free(r);
}

static void on_depth(void *arg, int code, uint64_t ready, uint64_t unsettled, int64_t oldest_ms) {
    (void)unsettled;
    struct depth_reply *d = arg;
    if (code == 0) {
        json_int_t handed_out = json_integer_value(json_object_get(d->function, "handedOut"));
        json_object_set_new(d->function, "waiting", json_integer((json_int_t)ready + handed_out));
        if (oldest_ms) json_object_set_new(d->function, "oldestMs", json_integer(oldest_ms));
    }
    functions_part_done(d->all);
    free(d);
}

static void on_letters(void *arg, int code, const struct err *err, json_t *counts) {
    (void)err;
    struct functions_reply *r = arg;
    size_t i;
    json_t *fn;
    json_array_foreach(r->functions, i, fn) {
        const char *name = json_string_value(json_object_get(fn, "name"));
        json_t *mine = code ? NULL : json_object_get(json_object_get(counts, "functions"), name);
        if (code) continue;
        json_object_set_new(fn, "due", json_integer(json_integer_value(json_object_get(mine, "due"))));
        json_object_set_new(fn, "dead", json_integer(json_integer_value(json_object_get(mine, "dead"))));
    }
    if (code == 0) json_decref(counts);
    functions_part_done(r);
}

static void answer_functions(void *arg, struct status_reply *reply) {
    struct server *s = arg;
    struct functions_reply *r = mem_zalloc(sizeof *r);
    *r = (struct functions_reply){.server = s, .reply = reply, .functions = dispatch_status(s->dispatch)};
    r->open = json_array_size(r->functions) + 1;
    size_t i;
    json_t *fn;
    json_array_foreach(r->functions, i, fn) {
        struct depth_reply *d = mem_zalloc(sizeof *d);
        *d = (struct depth_reply){.all = r, .function = fn};
        queue_depth(s->queue, str_of(json_string_value(json_object_get(fn, "name"))), on_depth, d);
    }
    letters_count(s->letters, on_letters, r);
}

void server_add_status(struct server *s) {
    status_add(s->status, "version", answer_version, s);
    status_add(s->status, "startedMs", answer_started, s);
    status_add(s->status, "ready", answer_ready, s);
    status_add(s->status, "queue", answer_queue, s);
    status_add(s->status, "store", answer_store, s);
    status_add(s->status, "sandbox", answer_sandbox, s);
    status_add(s->status, "functions", answer_functions, s);
}
