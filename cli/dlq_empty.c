// SPDX-License-Identifier: Apache-2.0
// Why nothing was found: a name that is not there must not look as if all were well.
#include <inttypes.h>

#include "cli/commands.h"
#include "cli/dlq.h"

#define ASK_MS 10000
#define TYPES_SHOWN 5
#define GROUP_ID_CHARS 16

// The server says that there is no such thing.
static bool is_missing(struct client *c, const char *root, const char *name) {
    cleanup_free char *path = path_new(root);
    path_add(&path, name);
    const struct request request = {.method = "GET", .path = path, .timeout_ms = ASK_MS};
    struct reply reply;
    struct err err;
    if (client_send(c, &request, &reply, &err) < 0) return false;
    bool missing = reply.status == 404;
    reply_done(&reply);
    return missing;
}

// In any state; letters outlive their function.
static bool has_letters(struct client *c, const char *function) {
    static const char *const states[] = {"dead", "due", "replaying", "replayed", "discarded"};
    bool found = false;
    for (size_t i = 0; i < array_len(states) && !found; i++) {
        cleanup_free char *path = path_new("/v1/letters");
        path_query(&path, "function", function);
        path_query(&path, "state", states[i]);
        path_query(&path, "limit", "1");
        json_auto_t *page = dlq_ask_quietly(c, path);
        found = !page || json_array_size(json_object_get(page, "letters"));
    }
    return found;
}

// {"KeyError": 400, …} of the groups, most letters first. NULL: not known.
static json_t *error_types(struct client *c, const char *function) {
    cleanup_free char *path = path_new("/v1/groups");
    path_query(&path, "function", function);
    json_auto_t *answer = dlq_ask_quietly(c, path);
    if (!answer) return NULL;
    json_t *types = json_object();
    size_t i;
    const json_t *group;
    json_array_foreach(json_object_get(answer, "groups"), i, group) {
        const char *type = member_text(group, "errorType", "");
        if (*type) json_object_set_new(types, type, json_integer(member_int(types, type, 0) + member_int(group, "count", 0)));
    }
    return types;
}

static void hint_types(struct client *c, const char *wanted, const char *function) {
    json_auto_t *types = error_types(c, function);
    if (json_object_size(types) == 0 || json_object_get(types, wanted)) return;
    cleanup_free char *text = mem_strdup("");
    char n[OUT_NUMBER_BYTES];
    size_t shown = 0;
    const char *type;
    json_t *count;
    json_object_foreach(types, type, count) {
        if (shown++ == TYPES_SHOWN) break;
        cleanup_free char *before = text;
        text = mem_printf("%s%s%s has %s", before, *before ? ", " : "", type, out_number(json_integer_value(count), n));
    }
    out_note("no dead letter has the error type %s; %s%s", wanted, text, shown > TYPES_SHOWN ? ", …" : "");
}

// A group's own name, which outlives its letters, rather than one that somebody gave it.
static bool is_group_id(const char *group) {
    return strlen(group) == GROUP_ID_CHARS && strspn(group, "0123456789abcdefABCDEF") == GROUP_ID_CHARS;
}

int dlq_explain_empty(struct client *c, const struct args *a) {
    const char *function = args_text(a, "function"), *group = args_takes(a, "group") ? args_text(a, "group") : NULL;
    const char *error = args_takes(a, "error") ? args_text(a, "error") : NULL;
    if (function && is_missing(c, "/v1/functions", function) && !has_letters(c, function))
        return out_fail("there is no function %s, nor a letter of it", function);
    if (group && is_missing(c, "/v1/groups", group)) {
        if (!is_group_id(group)) return out_fail("there is no group %s; weir dlq groups lists them", group);
        out_note("there is no group %s, or not any more; weir dlq groups lists them", group);
    }
    if (error) hint_types(c, error, function);
    return EXIT_OK;
}
