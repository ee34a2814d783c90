// SPDX-License-Identifier: Apache-2.0
// The server itself: status, settings, metrics, health.
#include "core/masked_url.h"
#include "gateway/reply.h"

#define STATUS_WAIT_MS 2000
#define METRICS_MAX (64u * 1024 * 1024)
#define METRICS_TYPE STR_LIT("text/plain; version=0.0.4; charset=utf-8")
#define TEXT_TYPE STR_LIT("text/plain; charset=utf-8")

// Counts of letters and depths of queues stand at their function. Those that did not come are not there.
static void join_functions(json_t *all) {
    static const char *const states[] = {"due", "delayed", "dead"};
    const json_t *letters = json_object_get(all, "letters"), *depths = json_object_get(all, "depths");
    size_t i;
    json_t *fn;
    json_array_foreach(json_object_get(all, "functions"), i, fn) {
        const char *name = json_string_value(json_object_get(fn, "name"));
        json_t *depth = json_object_get(depths, name);
        const json_t *counts = json_object_get(letters, name); // NULL: it has no letters
        for (size_t k = 0; letters && k < array_len(states); k++)
            json_object_set_new(fn, states[k], json_integer(json_integer_value(json_object_get(counts, states[k]))));
        if (depth) json_object_update(fn, depth);
    }
    json_object_del(all, "letters");
    json_object_del(all, "depths");
}

static void on_status(void *arg, json_t *all) {
    struct call *call = arg;
    join_functions(all);
    struct gateway *gw = call->gw; // NULL: nobody will read it
    json_t *own = json_pack("{s:s, s:I}", "version", WEIR_VERSION, "startedMs", (json_int_t)(gw ? gw->started_ms : 0));
    MUST(own && json_object_update_missing(all, own) == 0); // what the server says of itself counts
    json_decref(own);
    reply_json(call, 200, all);
}

void api_status(struct call *call) {
    status_collect(call->gw->c.status, STATUS_WAIT_MS, on_status, call);
}

// The value as it may be shown: tokens and the passwords of URLs are hidden.
static json_t *shown_value(const struct option_spec *spec, const char *text) {
    if (*text && (strcmp(spec->name, "token") == 0 || strcmp(spec->name, "tokens") == 0)) return json_string(MASK);
    cleanup_free char *shown = masked_url(text);
    return reply_text(str_of(shown));
}

void api_config(struct call *call) {
    json_t *list = json_array();
    for (const struct option_spec *spec = option_specs; spec->name; spec++) {
        const struct option_value *value = options_get(call->gw->c.options, spec);
        json_t *option = json_pack("{s:s, s:o, s:s, s:s, s:s}", "name", spec->name, "value", shown_value(spec, value->text),
                                   "origin", value->origin, "default", spec->fallback, "help", spec->help);
        MUST(json_array_append_new(list, option) == 0);
    }
    reply_json(call, 200, json_pack("{s:o}", "options", list));
}

void api_metrics(struct call *call) {
    struct buf out;
    buf_init(&out, METRICS_MAX);
    if (metrics_render(call->gw->c.metrics, &out) < 0) reply_fail(call, ERR_INTERNAL, "the metrics are too many to show");
    else reply_bytes(call, 200, METRICS_TYPE, NULL, 0, buf_str(&out));
    buf_done(&out);
}

void api_health(struct call *call) {
    reply_bytes(call, 200, TEXT_TYPE, NULL, 0, STR_LIT("ok\n"));
}

void api_ready(struct call *call) {
    const struct gateway_config *c = &call->gw->c;
    const char *why = "not ready";
    if (!c->ready || c->ready(c->ready_arg, &why)) {
        reply_bytes(call, 200, TEXT_TYPE, NULL, 0, STR_LIT("ready\n"));
        return;
    }
    cleanup_free char *text = mem_printf("%s\n", why);
    reply_bytes(call, 503, TEXT_TYPE, NULL, 0, str_of(text));
}
