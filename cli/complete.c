// SPDX-License-Identifier: Apache-2.0
#include "cli/complete.h"

#include "cli/client.h"

static const struct kind {
    const char *path, *list, *member, *other; // other: stands for a thing without a name
} functions = {"/v1/functions", "functions", "name", "name"}, groups = {"/v1/groups", "groups", "name", "group"};

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

static void ask(const struct command *c, const struct kind *kind) {
    const struct args a = {.command = c};
    const struct request request = {.method = "GET", .path = kind->path, .timeout_ms = COMPLETE_MS};
    cleanup_client struct client *client = client_new(&a);
    struct reply reply;
    struct err err;
    if (client_send(client, &request, &reply, &err) < 0) return;
    json_auto_t *answer = reply.status < 400 ? json_loadb(reply.body, reply.body_len, 0, NULL) : NULL;
    print_names(kind, answer);
    reply_done(&reply);
}

void complete_names(const struct command *c, const struct arg_spec *option) {
    const char *called = option ? option->value : c->words;
    if (!called || !(c->uses & USES_SERVER)) return;
    struct str what = str_of(*called == '[' ? called + 1 : called);
    if (str_starts(what, "FUNCTION") || str_starts(what, "NAME[:VERSION]")) ask(c, &functions);
    else if (str_starts(what, "GROUP")) ask(c, &groups);
}
