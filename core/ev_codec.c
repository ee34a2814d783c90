// SPDX-License-Identifier: Apache-2.0
// The message format of schema/event.md: a msgpack array [version, {field number: value}]. The only file that knows
// msgpack. Decoding copies nothing but the header table: spans point into the received bytes, which the event keeps.
#include <msgpack.h>

#include "core/base/buf.h"
#include "core/ev.h"

#define FORMAT_VERSION 1

enum field {
    F_ID = 1,
    F_ORIGIN_ID = 2,
    F_INVOCATION = 3,
    F_ATTEMPT = 4,
    F_ACCEPTED_MS = 5,
    F_DEADLINE_MS = 6,
    F_HEADERS = 16,
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
    X(18, history, true)

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
               (f->attempt != 0) + (f->accepted_ms != 0) + (f->deadline_ms != 0) + (f->header_count != 0);
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

static bool get_span(const msgpack_object *o, struct str *ret) {
    if (o->type == MSGPACK_OBJECT_STR) *ret = (struct str){o->via.str.ptr, o->via.str.size};
    else if (o->type == MSGPACK_OBJECT_BIN) *ret = (struct str){o->via.bin.ptr, o->via.bin.size};
    else return false;
    return true;
}

static bool get_number(const msgpack_object *o, int64_t *ret) {
    if (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER && o->via.u64 <= INT64_MAX) *ret = (int64_t)o->via.u64;
    else if (o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER) *ret = o->via.i64;
    else return false;
    return true;
}

static int get_id(const msgpack_object *o, struct id *ret, struct err *err) {
    struct str s;
    if (!get_span(o, &s) || s.len != sizeof ret->bytes) return bad(err, "an id is not 16 bytes");
    memcpy(ret->bytes, s.data, s.len);
    return 0;
}

static int get_headers(const msgpack_object *o, struct ev_header *headers, struct ev_fields *f, struct err *err) {
    if (f->headers) return bad(err, "headers stand there twice");
    for (uint32_t i = 0; i < o->via.array.size; i += 2) {
        struct ev_header *h = &headers[i / 2];
        if (!get_span(&o->via.array.ptr[i], &h->name) || !get_span(&o->via.array.ptr[i + 1], &h->value))
            return bad(err, "a header is not text");
    }
    f->headers = headers;
    f->header_count = o->via.array.size / 2;
    return 0;
}

static int get_int_field(uint64_t number, int64_t value, struct ev_fields *f, struct err *err) {
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
    default: f->deadline_ms = value; return 0;
    }
}

// 1 when the field is not one of ours.
static int get_field(const msgpack_object_kv *kv, struct ev_header *headers, struct ev_fields *f, struct err *err) {
    if (kv->key.type != MSGPACK_OBJECT_POSITIVE_INTEGER) return 1;
    uint64_t number = kv->key.via.u64;
    switch (number) {
    case F_ID: return get_id(&kv->val, &f->id, err);
    case F_ORIGIN_ID: return get_id(&kv->val, &f->origin_id, err);
    case F_INVOCATION:
    case F_ATTEMPT:
    case F_ACCEPTED_MS:
    case F_DEADLINE_MS: {
        int64_t value;
        if (!get_number(&kv->val, &value)) return bad(err, "a number is not an integer");
        return get_int_field(number, value, f, err);
    }
    case F_HEADERS: return get_headers(&kv->val, headers, f, err);
    default: break;
    }
    for (size_t i = 0; i < array_len(span_fields); i++)
        if (span_fields[i].number == number)
            return get_span(&kv->val, span_at(f, &span_fields[i])) ? 0 : bad(err, "a text field is not text");
    return 1;
}

// Checks the header array's shape and returns how many headers there are, or negative.
static int64_t count_headers(const msgpack_object_map *map, struct err *err) {
    for (uint32_t i = 0; i < map->size; i++) {
        const msgpack_object_kv *kv = &map->ptr[i];
        if (kv->key.type != MSGPACK_OBJECT_POSITIVE_INTEGER || kv->key.via.u64 != F_HEADERS) continue;
        if (kv->val.type != MSGPACK_OBJECT_ARRAY || kv->val.via.array.size % 2)
            return bad(err, "headers are not an array of pairs");
        if (kv->val.via.array.size / 2 > EV_HEADERS_MAX) return bad(err, "too many headers");
        return kv->val.via.array.size / 2;
    }
    return 0;
}

static int decode_map(const msgpack_object_map *map, struct ev **ret, struct err *err) {
    int64_t header_count = count_headers(map, err);
    if (header_count < 0) return (int)header_count;
    struct buf unknown;
    buf_init(&unknown, EV_ENCODED_MAX);
    msgpack_packer keep;
    msgpack_packer_init(&keep, &unknown, write_bytes);

    size_t headers_bytes = (size_t)header_count * sizeof(struct ev_header);
    struct ev *ev = mem_zalloc(sizeof *ev + headers_bytes);
    struct ev_header *headers = (struct ev_header *)(void *)(ev + 1);
    int rc = 0;
    for (uint32_t i = 0; i < map->size && rc == 0; i++) {
        rc = get_field(&map->ptr[i], headers, &ev->f, err);
        if (rc != 1) continue;
        rc = msgpack_pack_object(&keep, map->ptr[i].key) || msgpack_pack_object(&keep, map->ptr[i].val)
                 ? bad(err, "unknown fields are too large")
                 : 0;
        ev->unknown_count++;
    }
    if (rc == 0 && id_is_none(&ev->f.id)) rc = bad(err, "it has no id");
    if (rc == 0 && ev->f.function.len == 0) rc = bad(err, "it names no function");
    if (rc == 0 && buf_len(&unknown)) {
        ev = mem_realloc(ev, sizeof *ev + headers_bytes + buf_len(&unknown));
        headers = (struct ev_header *)(void *)(ev + 1);
        if (ev->f.headers) ev->f.headers = headers;
        char *at = (char *)(ev + 1) + headers_bytes;
        ev->unknown = buf_str(&unknown);
        memcpy(at, ev->unknown.data, ev->unknown.len);
        ev->unknown.data = at;
    }
    buf_done(&unknown);
    if (rc) ev_free(ev);
    else *ret = ev;
    return rc;
}

static int decode_object(const msgpack_object *o, struct ev **ret, struct err *err) {
    if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 2) return bad(err, "it is not an array of two");
    const msgpack_object *version = &o->via.array.ptr[0], *map = &o->via.array.ptr[1];
    if (version->type != MSGPACK_OBJECT_POSITIVE_INTEGER) return bad(err, "the format version is not a number");
    if (version->via.u64 != FORMAT_VERSION)
        return err_set(err, ERR_CORRUPT, "not an event that this version of weir can read: format %llu",
                       (unsigned long long)version->via.u64);
    if (map->type != MSGPACK_OBJECT_MAP) return bad(err, "the fields are not a map");
    return decode_map(&map->via.map, ret, err);
}

int ev_decode(char *bytes, size_t len, struct ev **ret, struct err *err) {
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    size_t used = 0;
    int rc;
    if (len > EV_ENCODED_MAX) rc = bad(err, "it is too large");
    else if (msgpack_unpack_next(&unpacked, bytes, len, &used) != MSGPACK_UNPACK_SUCCESS)
        rc = bad(err, "the msgpack is broken or cut short");
    else if (used != len) rc = bad(err, "bytes follow after its end");
    else rc = decode_object(&unpacked.data, ret, err);
    msgpack_unpacked_destroy(&unpacked);
    if (rc) free(bytes);
    else (*ret)->block = bytes;
    return rc;
}
