// SPDX-License-Identifier: Apache-2.0
// An event made here lives in one allocation: the struct, then the header array, then all the text.
#include "core/ev.h"

#include "core/base/clock.h"

#define SPANS(X)                                                                                                        \
    X(function) X(qualifier) X(source_kind) X(source_name) X(source_at) X(ordering_key) X(content_type) X(shape) X(trace)         \
        X(reply_to) X(payload) X(history)

static size_t text_bytes(const struct ev_fields *f) {
    size_t n = 0;
#define X(field) n += f->field.len;
    SPANS(X)
#undef X
    for (size_t i = 0; i < f->header_count; i++) n += f->headers[i].name.len + f->headers[i].value.len;
    return n;
}

static struct str put(char **at, struct str s) {
    struct str copy = {*at, s.len};
    if (s.len) memcpy(*at, s.data, s.len);
    *at += s.len;
    return copy;
}

struct ev *ev_new(const struct ev_fields *f) {
    size_t headers_bytes = f->header_count * sizeof(struct ev_header);
    struct ev *ev = mem_alloc(sizeof *ev + headers_bytes + text_bytes(f));
    *ev = (struct ev){.f = *f};
    struct ev_header *headers = (struct ev_header *)(void *)(ev + 1);
    char *at = (char *)(ev + 1) + headers_bytes;
#define X(field) ev->f.field = put(&at, f->field);
    SPANS(X)
#undef X
    for (size_t i = 0; i < f->header_count; i++)
        headers[i] = (struct ev_header){put(&at, f->headers[i].name), put(&at, f->headers[i].value)};
    ev->f.headers = headers;
    if (id_is_none(&ev->f.id)) ev->f.id = id_new();
    if (ev->f.accepted_ms == 0) ev->f.accepted_ms = clock_unix_ms();
    return ev;
}

void ev_free(struct ev *ev) {
    if (!ev) return;
    free(ev->block);
    free(ev);
}

size_t ev_memory_bytes(const struct ev *ev) {
    return sizeof *ev + ev->f.header_count * sizeof(struct ev_header) + text_bytes(&ev->f);
}
