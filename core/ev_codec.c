// SPDX-License-Identifier: Apache-2.0
// The message format of schema/event.md: a msgpack array [version, {field number: value}]. Writing is msgpack-c's, reading
// is core/unpack. Decoding copies nothing: spans point into the received bytes, which the event keeps; only the header
// table and the unknown fields (gathered into one piece) are made anew.
#include <msgpack.h>

#include "core/base/buf.h"
#include "core/ev.h"
#include "core/unpack.h"

#define FORMAT_VERSION 1

enum field {
    F_ID = 1,
    F_ORIGIN_ID = 2,
    F_INVOCATION = 3,
    F_ATTEMPT = 4,
    F_ACCEPTED_MS = 5,
    F_DEADLINE_MS = 6,
    F_HEADERS = 16,
    F_REPLAY = 20,
    F_REPLAY_SEQ = 21,
    F_DRY_RUN = 22,
};

// The text and byte fields: number, member, written as bin (payloads) or as str.
#define SPAN_FIELDS(X)                                                                                                  \
    X(7, function, false)                                                                                               \
    X(8, qualifier, false)                                                                                              \
    X(9, source_kind, false)                                                                                            \
    X(10, source_name, false)                                                                                           \
    X(11, source_at, false)                                                                                             \
    X(12, ordering_key, true)                                                                                           \
    X(13, content_type, false)                                                                                          \
    X(14, trace, false)                                                                                                 \
    X(15, reply_to, false)                                                                                              \
    X(17, payload, true)                                                                                                \
    X(18, history, true)                                                                                                \
    X(19, shape, false)

static const struct span_field {
    uint32_t number;
    size_t offset; // of the struct str in struct ev_fields
    bool binary;
} span_fields[] = {
#define X(number, member, binary) {number, offsetof(struct ev_fields, member), binary},
    SPAN_FIELDS(X)
#undef X
};

static struct str *span_at(struct ev_fields *f, const struct span_field *field) {
    return (struct str *)(void *)((char *)f + field->offset);
}

static const struct str *span_of(const struct ev_fields *f, const struct span_field *field) {
    return (const struct str *)(const void *)((const char *)f + field->offset);
}

// --- encoding -------------------------------------------------------------------------------------------------------

static int write_bytes(void *arg, const char *data, size_t len) {
    return buf_append(arg, (struct str){data, len});
}

// Errors of the writer stay in `failed`: the buffer refuses once, and all after it is refused too.
struct packer {
    msgpack_packer pk;
    int failed;
};

static void pack_span(struct packer *p, struct str s, bool binary) {
    if (binary) p->failed |= msgpack_pack_bin_with_body(&p->pk, s.data ? s.data : "", s.len);
    else p->failed |= msgpack_pack_str_with_body(&p->pk, s.data ? s.data : "", s.len);
}

static void pack_id(struct packer *p, enum field number, const struct id *id) {
    if (id_is_none(id)) return;
    p->failed |= msgpack_pack_int(&p->pk, (int)number);
    pack_span(p, (struct str){(const char *)id->bytes, sizeof id->bytes}, true);
}

static void pack_number(struct packer *p, enum field number, int64_t value) {
    if (value == 0) return;
    p->failed |= msgpack_pack_int(&p->pk, (int)number);
    p->failed |= msgpack_pack_int64(&p->pk, value);
}

static size_t count_fields(const struct ev *ev) {
    const struct ev_fields *f = &ev->f;
    size_t n = ev->unknown_count + !id_is_none(&f->id) + !id_is_none(&f->origin_id) + (f->invocation != 0) +
               (f->attempt != 0) + (f->accepted_ms != 0) + (f->deadline_ms != 0) + (f->header_count != 0) +
               (f->replay != 0) + (f->replay_seq != 0) + f->dry_run;
    for (size_t i = 0; i < array_len(span_fields); i++) n += span_of(f, &span_fields[i])->len != 0;
    return n;
}

static void pack_headers(struct packer *p, const struct ev_fields *f) {
    if (f->header_count == 0) return;
    p->failed |= msgpack_pack_int(&p->pk, F_HEADERS);
    p->failed |= msgpack_pack_array(&p->pk, f->header_count * 2);
    for (size_t i = 0; i < f->header_count; i++) {
        pack_span(p, f->headers[i].name, true);
        pack_span(p, f->headers[i].value, true);
    }
}

int ev_encode(const struct ev *ev, struct buf *out, struct err *err) {
    const struct ev_fields *f = &ev->f;
    size_t before = buf_len(out);
    struct packer p = {.failed = 0};
    msgpack_packer_init(&p.pk, out, write_bytes);
    p.failed |= msgpack_pack_array(&p.pk, 2);
    p.failed |= msgpack_pack_int(&p.pk, FORMAT_VERSION);
    p.failed |= msgpack_pack_map(&p.pk, count_fields(ev));
    pack_id(&p, F_ID, &f->id);
    pack_id(&p, F_ORIGIN_ID, &f->origin_id);
    pack_number(&p, F_INVOCATION, f->invocation);
    pack_number(&p, F_ATTEMPT, f->attempt);
    pack_number(&p, F_ACCEPTED_MS, f->accepted_ms);
    pack_number(&p, F_DEADLINE_MS, f->deadline_ms);
    pack_number(&p, F_REPLAY, f->replay);
    pack_number(&p, F_REPLAY_SEQ, f->replay_seq);
    pack_number(&p, F_DRY_RUN, f->dry_run);
    for (size_t i = 0; i < array_len(span_fields); i++) {
        struct str s = *span_of(f, &span_fields[i]);
        if (s.len == 0) continue;
        p.failed |= msgpack_pack_int(&p.pk, (int)span_fields[i].number);
        pack_span(&p, s, span_fields[i].binary);
    }
    pack_headers(&p, f);
    p.failed |= buf_append(out, ev->unknown);
    if (p.failed == 0 && buf_len(out) - before <= EV_ENCODED_MAX) return 0;
    if (buf_len(out) > before) out->end -= buf_len(out) - before;
    return err_set(err, ERR_TOO_LARGE, "the event is larger than %u bytes when encoded", EV_ENCODED_MAX);
}

// --- decoding -------------------------------------------------------------------------------------------------------

static int bad(struct err *err, const char *what) {
    return err_set(err, ERR_CORRUPT, "not an event: %s", what);
}

static int get_id(struct unpack *u, struct id *ret, struct err *err) {
    struct str s;
    if (!unpack_bytes(u, &s) || s.len != sizeof ret->bytes) return bad(err, "an id is not 16 bytes");
    memcpy(ret->bytes, s.data, s.len);
    return 0;
}

static int get_number(struct unpack *u, enum field number, struct ev_fields *f, struct err *err) {
    int64_t value;
    if (!unpack_int(u, &value)) return bad(err, "a number is not an integer");
    switch (number) {
    case F_INVOCATION:
        if (value != EV_ASYNC && value != EV_SYNC) return bad(err, "unknown invocation type");
        f->invocation = (enum ev_invocation)value;
        return 0;
    case F_ATTEMPT:
        if (value < 0 || value > UINT32_MAX) return bad(err, "attempt is out of range");
        f->attempt = (uint32_t)value;
        return 0;
    case F_ACCEPTED_MS: f->accepted_ms = value; return 0;
    case F_REPLAY: f->replay = value; return 0;
    case F_REPLAY_SEQ: f->replay_seq = value; return 0;
    case F_DRY_RUN: f->dry_run = value != 0; return 0;
    default: f->deadline_ms = value; return 0;
    }
}

// What the first pass over the map finds out: how much memory the event needs.
struct sizes {
    uint32_t headers, unknown_count;
    size_t unknown_bytes;
};

static int get_headers(struct unpack *u, struct ev *ev, struct ev_header *table, struct err *err) {
    uint32_t values;
    if (!unpack_array(u, &values) || values % 2) return bad(err, "headers are not an array of pairs");
    if (values / 2 > EV_HEADERS_MAX) return bad(err, "too many headers");
    for (uint32_t i = 0; table && i < values / 2; i++)
        if (!unpack_bytes(u, &table[i].name) || !unpack_bytes(u, &table[i].value)) return bad(err, "a header is not text");
    for (uint32_t i = 0; !table && i < values; i++)
        if (!unpack_skip(u)) return bad(err, "the msgpack is broken or cut short");
    ev->f.headers = table;
    ev->f.header_count = values / 2;
    return 0;
}

// 1 when the field is not one of ours.
static int get_field(struct unpack *u, int64_t number, struct ev *ev, struct ev_header *table, struct err *err) {
    switch (number) {
    case F_ID: return get_id(u, &ev->f.id, err);
    case F_ORIGIN_ID: return get_id(u, &ev->f.origin_id, err);
    case F_INVOCATION:
    case F_ATTEMPT:
    case F_ACCEPTED_MS:
    case F_DEADLINE_MS:
    case F_REPLAY:
    case F_REPLAY_SEQ:
    case F_DRY_RUN: return get_number(u, (enum field)number, &ev->f, err);
    case F_HEADERS: return get_headers(u, ev, table, err);
    default: break;
    }
    for (size_t i = 0; i < array_len(span_fields); i++)
        if (span_fields[i].number == number)
            return unpack_bytes(u, span_at(&ev->f, &span_fields[i])) ? 0 : bad(err, "a text field is not text");
    return 1;
}

// One pass over the map. Without a header table and a place for unknown pairs it only measures.
static int read_map(struct unpack u, struct ev *ev, struct ev_header *table, char *unknown, struct sizes *sizes, struct err *err) {
    uint32_t pairs;
    bool has_headers = false;
    *sizes = (struct sizes){0};
    if (!unpack_map(&u, &pairs)) return bad(err, "the fields are not a map");
    for (uint32_t i = 0; i < pairs; i++) {
        const char *pair = u.left.data;
        int64_t number = 0;
        int rc = unpack_int(&u, &number) ? get_field(&u, number, ev, table, err) : unpack_skip(&u) ? 1 : -1;
        if (rc == 1 && !unpack_skip(&u)) rc = -1;
        if (rc == -1) rc = bad(err, "the msgpack is broken or cut short");
        if (rc < 0) return rc;
        if (number == F_HEADERS && rc == 0) {
            if (has_headers) return bad(err, "headers stand there twice");
            has_headers = true;
            sizes->headers = (uint32_t)ev->f.header_count;
        }
        if (rc != 1) continue;
        size_t bytes = (size_t)(u.left.data - pair);
        if (unknown) memcpy(unknown + sizes->unknown_bytes, pair, bytes);
        sizes->unknown_bytes += bytes;
        sizes->unknown_count++;
    }
    return u.left.len ? bad(err, "bytes follow after its end") : 0;
}

static int decode_map(struct unpack u, struct ev **ret, struct err *err) {
    struct ev shape = {.f = {.accepted_ms = 0}};
    struct sizes sizes;
    int rc = read_map(u, &shape, NULL, NULL, &sizes, err);
    if (rc == 0 && id_is_none(&shape.f.id)) rc = bad(err, "it has no id");
    if (rc == 0 && shape.f.function.len == 0) rc = bad(err, "it names no function");
    if (rc) return rc;
    size_t table_bytes = sizes.headers * sizeof(struct ev_header);
    struct ev *ev = mem_zalloc(sizeof *ev + table_bytes + sizes.unknown_bytes);
    struct ev_header *table = (struct ev_header *)(void *)(ev + 1);
    char *unknown = (char *)(ev + 1) + table_bytes;
    rc = read_map(u, ev, table, unknown, &sizes, err);
    if (rc) {
        ev_free(ev);
        return rc;
    }
    ev->unknown = (struct str){unknown, sizes.unknown_bytes};
    ev->unknown_count = sizes.unknown_count;
    *ret = ev;
    return 0;
}

static int decode_message(struct str bytes, struct ev **ret, struct err *err) {
    struct unpack u = {bytes};
    uint32_t members;
    int64_t version;
    if (bytes.len > EV_ENCODED_MAX) return bad(err, "it is too large");
    if (!unpack_array(&u, &members) || members != 2) return bad(err, "it is not an array of two");
    if (!unpack_int(&u, &version)) return bad(err, "the format version is not a number");
    if (version != FORMAT_VERSION)
        return err_set(err, ERR_CORRUPT, "not an event that this version of weir can read: format %lld", (long long)version);
    return decode_map(u, ret, err);
}

int ev_decode(char *bytes, size_t len, struct ev **ret, struct err *err) {
    int rc = decode_message((struct str){bytes, len}, ret, err);
    if (rc) free(bytes);
    else (*ret)->block = bytes;
    return rc;
}
