// SPDX-License-Identifier: Apache-2.0
// One table says how each first byte goes on; everything else reads through it.
#include "core/unpack.h"

enum kind { KIND_INVALID, KIND_NIL, KIND_BOOL, KIND_INT, KIND_FLOAT, KIND_BYTES, KIND_ARRAY, KIND_MAP, KIND_EXT };

struct head {
    enum kind kind;
    bool is_signed;
    size_t bytes;   // of the head: the first byte and the number after it
    uint64_t value; // the number, as bits; of a fix type: what the first byte holds
};

// The forms with a first byte of their own, 0xc0..0xdf.
static const struct {
    uint8_t kind, number_bytes;
    bool is_signed;
} forms[32] = {
    [0x00] = {KIND_NIL, 0, false},   [0x02] = {KIND_BOOL, 0, false},  [0x03] = {KIND_BOOL, 0, false},
    [0x04] = {KIND_BYTES, 1, false}, [0x05] = {KIND_BYTES, 2, false}, [0x06] = {KIND_BYTES, 4, false},
    [0x07] = {KIND_EXT, 1, false},   [0x08] = {KIND_EXT, 2, false},   [0x09] = {KIND_EXT, 4, false},
    [0x0a] = {KIND_FLOAT, 4, false}, [0x0b] = {KIND_FLOAT, 8, false}, [0x0c] = {KIND_INT, 1, false},
    [0x0d] = {KIND_INT, 2, false},   [0x0e] = {KIND_INT, 4, false},   [0x0f] = {KIND_INT, 8, false},
    [0x10] = {KIND_INT, 1, true},    [0x11] = {KIND_INT, 2, true},    [0x12] = {KIND_INT, 4, true},
    [0x13] = {KIND_INT, 8, true},    [0x14] = {KIND_EXT, 0, false},   [0x15] = {KIND_EXT, 0, false},
    [0x16] = {KIND_EXT, 0, false},   [0x17] = {KIND_EXT, 0, false},   [0x18] = {KIND_EXT, 0, false},
    [0x19] = {KIND_BYTES, 1, false}, [0x1a] = {KIND_BYTES, 2, false}, [0x1b] = {KIND_BYTES, 4, false},
    [0x1c] = {KIND_ARRAY, 2, false}, [0x1d] = {KIND_ARRAY, 4, false}, [0x1e] = {KIND_MAP, 2, false},
    [0x1f] = {KIND_MAP, 4, false},
};

static uint64_t big_endian(const uint8_t *p, size_t n, bool is_signed) {
    uint64_t v = is_signed && (p[0] & 0x80) ? UINT64_MAX : 0;
    for (size_t i = 0; i < n; i++) v = v << 8 | p[i];
    return v;
}

static struct head read_head(struct str in) {
    if (in.len == 0) return (struct head){0};
    const uint8_t *p = (const uint8_t *)in.data;
    uint8_t b = p[0];
    if (b < 0x80) return (struct head){KIND_INT, false, 1, b};
    if (b < 0x90) return (struct head){KIND_MAP, false, 1, b & 0x0f};
    if (b < 0xa0) return (struct head){KIND_ARRAY, false, 1, b & 0x0f};
    if (b < 0xc0) return (struct head){KIND_BYTES, false, 1, b & 0x1f};
    if (b >= 0xe0) return (struct head){KIND_INT, true, 1, (uint64_t)(int64_t)(int8_t)b};
    size_t n = forms[b - 0xc0].number_bytes;
    if (in.len < 1 + n) return (struct head){0};
    struct head h = {(enum kind)forms[b - 0xc0].kind, forms[b - 0xc0].is_signed, 1 + n, 0};
    if (n) h.value = big_endian(p + 1, n, h.is_signed);
    else if (h.kind == KIND_EXT) h.value = UINT64_C(1) << (b - 0xd4); // fixext 1, 2, 4, 8, 16
    return h;
}

static void advance(struct unpack *u, size_t n) {
    u->left.data += n;
    u->left.len -= n;
}

// Every member takes at least a byte: a count beyond what is left is a lie.
static bool read_count(struct unpack *u, enum kind kind, uint64_t bytes_each, uint32_t *ret) {
    struct head h = read_head(u->left);
    if (h.kind != kind || h.value * bytes_each > u->left.len - h.bytes) return false;
    advance(u, h.bytes);
    *ret = (uint32_t)h.value;
    return true;
}

bool unpack_array(struct unpack *u, uint32_t *ret_count) {
    return read_count(u, KIND_ARRAY, 1, ret_count);
}

bool unpack_map(struct unpack *u, uint32_t *ret_pairs) {
    return read_count(u, KIND_MAP, 2, ret_pairs);
}

bool unpack_int(struct unpack *u, int64_t *ret) {
    struct head h = read_head(u->left);
    if (h.kind != KIND_INT || (!h.is_signed && h.value > INT64_MAX)) return false;
    advance(u, h.bytes);
    *ret = (int64_t)h.value;
    return true;
}

bool unpack_bytes(struct unpack *u, struct str *ret) {
    struct head h = read_head(u->left);
    if (h.kind != KIND_BYTES || h.value > u->left.len - h.bytes) return false;
    *ret = (struct str){u->left.data + h.bytes, (size_t)h.value};
    advance(u, h.bytes + (size_t)h.value);
    return true;
}

// What follows the head of a value without members.
static uint64_t body_bytes(const struct head *h) {
    if (h->kind == KIND_BYTES) return h->value;
    if (h->kind == KIND_EXT) return h->value + 1; // its type
    return 0;
}

bool unpack_skip(struct unpack *u) {
    uint64_t open[UNPACK_DEPTH_MAX]; // values still to come, at each level
    int depth = 0;
    struct unpack at = *u;
    open[0] = 1;
    while (depth >= 0) {
        if (open[depth] == 0) {
            depth--;
            continue;
        }
        open[depth]--;
        struct head h = read_head(at.left);
        if (h.kind == KIND_INVALID || body_bytes(&h) > at.left.len - h.bytes) return false;
        advance(&at, h.bytes + (size_t)body_bytes(&h));
        if (h.kind != KIND_ARRAY && h.kind != KIND_MAP) continue;
        if (++depth == UNPACK_DEPTH_MAX) return false;
        open[depth] = h.kind == KIND_MAP ? h.value * 2 : h.value;
    }
    *u = at;
    return true;
}
