// SPDX-License-Identifier: Apache-2.0
// INVOKE's meta is written by hand: it is made for every event.
#include "workers/invoke_meta.h"

#include <jansson.h>

#include "core/base/text.h"
#include "workers/frames.h"

#define HEAD_BYTES 192 // of the members that every event has: their names, an id, three numbers

static char *put_number(char *at, int64_t n) {
    char digits[20];
    int count = 0;
    uint64_t v = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
    do digits[count++] = (char)('0' + v % 10);
    while (v /= 10);
    if (n < 0) *at++ = '-';
    while (count) *at++ = digits[--count];
    return at;
}

#define PUT(at, literal) ((char *)memcpy(at, literal, sizeof(literal) - 1) + sizeof(literal) - 1)

static int put_head(struct buf *out, const struct ev_fields *f, int64_t deadline_ms, int64_t now_ms) {
    char *head = buf_reserve(out, HEAD_BYTES), *at = head;
    if (!head) return ERR_TOO_LARGE;
    at = PUT(at, "{\"request_id\":\"");
    id_format(&f->id, at);
    at = PUT(at + ID_TEXT_BYTES - 1, "\",\"attempt\":");
    at = put_number(at, (int64_t)f->attempt + 1);
    at = PUT(at, ",\"deadline_ms\":");
    at = put_number(at, deadline_ms);
    at = PUT(at, ",\"time_limit_in_ms\":");
    at = put_number(at, deadline_ms - now_ms);
    if (f->dry_run) at = PUT(at, ",\"dry_run\":true");
    buf_added(out, (size_t)(at - head));
    return 0;
}

static int put_headers(struct buf *out, const struct ev_fields *f) {
    int rc = buf_append(out, STR_LIT(",\"headers\":{"));
    for (size_t i = 0; i < f->header_count && rc == 0; i++) {
        if (i) rc |= buf_append(out, STR_LIT(","));
        rc |= text_append_json(out, f->headers[i].name);
        rc |= buf_append(out, STR_LIT(":"));
        rc |= text_append_json(out, f->headers[i].value);
    }
    return rc | buf_append(out, STR_LIT("}"));
}

static int put_source(struct buf *out, const struct ev_fields *f) {
    int rc = buf_append(out, STR_LIT(",\"source\":{\"kind\":"));
    rc |= text_append_json(out, f->source_kind);
    rc |= buf_append(out, STR_LIT(",\"name\":"));
    rc |= text_append_json(out, f->source_name);
    if (f->source_at.len) {
        rc |= buf_append(out, STR_LIT(",\"at\":"));
        rc |= text_append_json(out, f->source_at);
    }
    return rc | buf_append(out, STR_LIT("}"));
}

static int64_t deadline_of(const struct ev_fields *f, const struct settings *settings, int64_t now_ms) {
    int64_t deadline_ms = now_ms + settings->timeout_ms;
    return f->deadline_ms && f->deadline_ms < deadline_ms ? f->deadline_ms : deadline_ms;
}

// What of an event is put in; the parts whose size others choose are left out when the whole would be too large.
enum parts { PARTS_ALL, PARTS_NO_HEADERS, PARTS_OURS };

static int put_meta(struct buf *out, const struct ev *ev, const struct settings *settings, int64_t now_ms, enum parts parts) {
    const struct ev_fields *f = &ev->f;
    int rc = put_head(out, f, deadline_of(f, settings, now_ms), now_ms);
    if (parts == PARTS_ALL && f->header_count) rc |= put_headers(out, f);
    if (parts != PARTS_OURS && f->source_kind.len) rc |= put_source(out, f);
    return rc | buf_append(out, STR_LIT("}"));
}

void invoke_meta_append(struct buf *out, const struct ev *ev, const struct settings *settings, int64_t now_ms) {
    size_t before = buf_len(out);
    for (int parts = PARTS_ALL; parts <= PARTS_OURS; parts++) {
        int rc = put_meta(out, ev, settings, now_ms, (enum parts)parts);
        size_t added = buf_len(out) - before;
        if (rc == 0 && added <= FRAME_META_MAX) return;
        out->end -= added;
    }
    MUST(!"the meta's own fields fit"); // `out` has room for FRAME_META_MAX
}

void init_body_append(struct buf *out, const struct version *v) {
    const struct settings *s = &v->settings;
    json_t *env = json_loads(s->env ? s->env : "{}", 0, NULL);
    json_t *init = json_pack("{ss si ss ss so sI si s{ss ss}}", "function", v->function, "version", (int)v->number, "handler",
                             s->handler, "code_dir", v->code_dir, "env", env ? env : json_object(), "timeout_ms",
                             (json_int_t)s->timeout_ms, "memory_mb", (int)s->memory_mb, "context", "namespace", "default",
                             "tencentcloud_region", "local");
    MUST(init);
    char *text = json_dumps(init, JSON_COMPACT);
    MUST(text && buf_append(out, str_of(text)) == 0);
    free(text);
    json_decref(init);
}
