// SPDX-License-Identifier: Apache-2.0
// Encoding and decoding of frames; see frames.h and schema/frames.md.
//
// All that a peer sent is checked here, once, so that the code behind it can trust type, direction and length. Lengths are
// compared before they are added, and a body is never looked at before all of it is there.

#include "workers/frames.h"

static const struct {
    const char *name;
    enum frame_side side;
} types[] = {
#define X(name, code, side) [code] = {#name, side},
    FRAME_TYPES(X)
#undef X
};

const char *frame_type_name(uint8_t type) {
    return type < array_len(types) && types[type].name ? types[type].name : "unknown";
}

static void put_u16(uint8_t *out, uint16_t v) {
    out[0] = (uint8_t)v;
    out[1] = (uint8_t)(v >> 8);
}

static void put_u32(uint8_t *out, uint32_t v) {
    put_u16(out, (uint16_t)v);
    put_u16(out + 2, (uint16_t)(v >> 16));
}

static uint16_t get_u16(const uint8_t *in) {
    return (uint16_t)(in[0] | in[1] << 8);
}

static uint32_t get_u32(const uint8_t *in) {
    return get_u16(in) | (uint32_t)get_u16(in + 2) << 16;
}

void frame_header_encode(const struct frame_header *header, uint8_t out[FRAME_HEADER_BYTES]) {
    put_u32(out, header->body_len);
    out[4] = header->version;
    out[5] = header->type;
    put_u16(out + 6, header->flags);
    put_u32(out + 8, header->seq);
}

int frame_header_fill(enum frame_type type, uint32_t seq, size_t body_len, uint8_t out[FRAME_HEADER_BYTES],
                      struct err *err) {
    if (body_len > FRAME_BODY_MAX)
        return err_set(err, ERR_TOO_LARGE, "a %s frame of %zu bytes; at most %u are allowed", frame_type_name((uint8_t)type),
                       body_len, FRAME_BODY_MAX);
    struct frame_header header = {
        .body_len = (uint32_t)body_len, .version = FRAME_VERSION, .type = (uint8_t)type, .seq = seq};
    frame_header_encode(&header, out);
    return 0;
}

int frame_invoke_fill(uint32_t seq, size_t meta_len, size_t payload_len, uint8_t out[FRAME_INVOKE_HEAD_BYTES],
                      struct err *err) {
    if (meta_len > FRAME_META_MAX)
        return err_set(err, ERR_TOO_LARGE, "an event's meta of %zu bytes; at most %u are allowed", meta_len, FRAME_META_MAX);
    if (payload_len > FRAME_BODY_MAX)
        return err_set(err, ERR_TOO_LARGE, "a payload of %zu bytes; at most %u are allowed", payload_len, FRAME_BODY_MAX);
    int rc = frame_header_fill(FRAME_INVOKE, seq, 2 + meta_len + payload_len, out, err);
    if (rc < 0) return rc;
    put_u16(out + FRAME_HEADER_BYTES, (uint16_t)meta_len);
    return 0;
}

static bool needs_seq(uint8_t type) {
    return type == FRAME_INVOKE || type == FRAME_RESULT;
}

int frame_header_decode(const uint8_t in[FRAME_HEADER_BYTES], enum frame_side from, struct frame_header *ret,
                        struct err *err) {
    struct frame_header header = {
        .body_len = get_u32(in), .version = in[4], .type = in[5], .flags = get_u16(in + 6), .seq = get_u32(in + 8)};
    if (header.version != FRAME_VERSION)
        return err_set(err, ERR_INVALID, "frame version %u; this server speaks %u", header.version, FRAME_VERSION);
    if (header.type >= array_len(types) || !types[header.type].name)
        return err_set(err, ERR_INVALID, "frame of unknown type %u", header.type);
    if (types[header.type].side != from)
        return err_set(err, ERR_INVALID, "%s frame from the side that does not send it", frame_type_name(header.type));
    if (header.flags != 0)
        return err_set(err, ERR_INVALID, "%s frame with unknown flags 0x%04x", frame_type_name(header.type), header.flags);
    if (header.body_len > FRAME_BODY_MAX)
        return err_set(err, ERR_TOO_LARGE, "%s frame of %u bytes; at most %u are allowed", frame_type_name(header.type),
                       header.body_len, FRAME_BODY_MAX);
    if (needs_seq(header.type) && header.seq == 0)
        return err_set(err, ERR_INVALID, "%s frame without the number of its invocation", frame_type_name(header.type));
    *ret = header;
    return 0;
}

int frame_parse(struct str in, enum frame_side from, struct frame *ret, size_t *ret_used, struct err *err) {
    if (in.len < FRAME_HEADER_BYTES) return 0;
    struct frame_header header;
    int rc = frame_header_decode((const uint8_t *)in.data, from, &header, err);
    if (rc < 0) return rc;
    if (in.len - FRAME_HEADER_BYTES < header.body_len) return 0;
    *ret = (struct frame){.header = header, .body = {in.data + FRAME_HEADER_BYTES, header.body_len}};
    *ret_used = FRAME_HEADER_BYTES + (size_t)header.body_len;
    return 1;
}

int frame_invoke_split(struct str body, struct str *ret_meta, struct str *ret_payload, struct err *err) {
    if (body.len < 2) return err_set(err, ERR_INVALID, "an INVOKE of %zu bytes has no meta", body.len);
    size_t meta_len = get_u16((const uint8_t *)body.data);
    if (meta_len > body.len - 2)
        return err_set(err, ERR_INVALID, "an INVOKE's meta of %zu bytes in a body of %zu", meta_len, body.len);
    *ret_meta = (struct str){body.data + 2, meta_len};
    *ret_payload = (struct str){body.data + 2 + meta_len, body.len - 2 - meta_len};
    return 0;
}
