// SPDX-License-Identifier: Apache-2.0
#include "cli/complete.h"

#include "cli/client.h"
#include "core/base/clock.h"

static const struct kind {
    const char *path, *list, *member, *other; // other: stands for a thing without a name
} functions = {"/v1/functions?limit=1000", "functions", "name", "name"}, groups = {"/v1/groups", "groups", "name", "group"};

static bool is_plain(const char *name) {
    return *name && !name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.")];
}

static void print_names(const struct kind *kind, const json_t *answer) {
    size_t i;
    const json_t *one;
    json_array_foreach(json_object_get(answer, kind->list), i, one) {
        const char *name = member_text(one, kind->member, "");
        if (!*name) name = member_text(one, kind->other, "");
        if (is_plain(name)) puts(name);
    }
}

static json_t *ask_page(struct client *client, const char *path, int64_t timeout_ms) {
    const struct request request = {.method = "GET", .path = path, .timeout_ms = timeout_ms};
    struct reply reply;
    struct err err;
    if (client_send(client, &request, &reply, &err) < 0) return NULL;
    json_t *page = reply.status < 400 ? json_loadb(reply.body, reply.body_len, 0, NULL) : NULL;
    reply_done(&reply);
    return page;
}

static void ask(const struct command *c, const struct kind *kind) {
    const struct args a = {.command = c};
    int64_t end_ns = clock_mono_ns() + COMPLETE_MS * INT64_C(1000000), left_ms;
    cleanup_client struct client *client = client_new(&a);
    cleanup_free char *path = path_new(kind->path);
    while (path && (left_ms = (end_ns - clock_mono_ns()) / 1000000) > 0) {
        json_auto_t *page = ask_page(client, path, left_ms);
        const char *next = member_text(page, "next", NULL);
        print_names(kind, page);
        free(path);
        path = next ? path_new(kind->path) : NULL;
        if (next) path_query(&path, "cursor", next);
    }
}

void complete_names(const struct command *c, const struct arg_spec *option) {
    const char *called = option ? option->value : c->words;
    if (!called || !(c->uses & USES_SERVER)) return;
    struct str what = str_of(*called == '[' ? called + 1 : called);
    if (str_starts(what, "FUNCTION") || str_starts(what, "NAME[:VERSION]")) ask(c, &functions);
    else if (str_starts(what, "GROUP")) ask(c, &groups);
}
