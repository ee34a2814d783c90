// SPDX-License-Identifier: Apache-2.0
// What `weir status` shows: the lanes of this node, the count of letters, and the depth of each queue. The gateway joins them.
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

// --- functions: what this node knows by itself, and apart from it what the store and the queue must be asked for ------------

static void answer_functions(void *arg, struct status_reply *reply) {
    const struct server *s = arg;
    status_answer(reply, dispatch_status(s->dispatch));
}

static void on_letters(void *arg, int code, const struct err *err, json_t *counts) {
    (void)err;
    status_answer(arg, code ? NULL : json_incref(json_object_get(counts, "functions")));
    if (code == 0) json_decref(counts);
}

static void answer_letters(void *arg, struct status_reply *reply) {
    const struct server *s = arg;
    letters_count(s->letters, on_letters, reply);
}

struct depths_reply {
    struct status_reply *reply;
    json_t *functions, *depths;
    size_t open;
};

struct depth_reply {
    struct depths_reply *all;
    const json_t *function; // one of all->functions
};

static void depths_part_done(struct depths_reply *r) {
    if (--r->open) return;
    bool known = json_object_size(r->depths) || json_array_size(r->functions) == 0;
    status_answer(r->reply, known ? json_incref(r->depths) : NULL);
    json_decref(r->depths);
    json_decref(r->functions);
    free(r);
}

static void on_depth(void *arg, int code, uint64_t ready, uint64_t unsettled, int64_t oldest_ms) {
    (void)unsettled;
    struct depth_reply *d = arg;
    if (code == 0) {
        json_int_t handed_out = json_integer_value(json_object_get(d->function, "handedOut"));
        json_t *depth = json_pack("{sI}", "waiting", (json_int_t)ready + handed_out);
        if (oldest_ms) json_object_set_new(depth, "oldestMs", json_integer(oldest_ms));
        json_object_set_new(d->all->depths, json_string_value(json_object_get(d->function, "name")), depth);
    }
    depths_part_done(d->all);
    free(d);
}

static void answer_depths(void *arg, struct status_reply *reply) {
    const struct server *s = arg;
    struct depths_reply *r = mem_alloc(sizeof *r);
    *r = (struct depths_reply){.reply = reply, .functions = dispatch_status(s->dispatch), .depths = json_object(), .open = 1};
    size_t i;
    const json_t *fn;
    json_array_foreach(r->functions, i, fn) {
        struct depth_reply *d = mem_alloc(sizeof *d);
        *d = (struct depth_reply){.all = r, .function = fn};
        r->open++;
        queue_depth(s->queue, str_of(json_string_value(json_object_get(fn, "name"))), on_depth, d);
    }
    depths_part_done(r);
}

void server_add_status(struct server *s) {
    status_add(s->status, "version", answer_version, s);
    status_add(s->status, "startedMs", answer_started, s);
    status_add(s->status, "ready", answer_ready, s);
    status_add(s->status, "queue", answer_queue, s);
    status_add(s->status, "store", answer_store, s);
    status_add(s->status, "sandbox", answer_sandbox, s);
    status_add(s->status, "functions", answer_functions, s);
    status_add(s->status, "letters", answer_letters, s);
    status_add(s->status, "depths", answer_depths, s);
}
