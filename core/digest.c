// SPDX-License-Identifier: Apache-2.0
// The only file that knows OpenSSL's digests.
#include "core/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdint.h>

#define SHA256_BYTES 32

static void sha256(struct str bytes, unsigned char out[SHA256_BYTES]) {
    // Without a digest nothing can be stored or compared; it fails only when libcrypto is broken.
    MUST(EVP_Digest(bytes.data ? bytes.data : "", bytes.len, out, NULL, EVP_sha256(), NULL) == 1);
}

void digest_sha256_hex(struct str bytes, char out[DIGEST_HEX_BYTES]) {
    unsigned char sum[SHA256_BYTES];
    sha256(bytes, sum);
    for (size_t i = 0; i < SHA256_BYTES; i++) {
        out[2 * i] = "0123456789abcdef"[sum[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[sum[i] & 15];
    }
    out[2 * SHA256_BYTES] = '\0';
}

bool digest_equal_secret(struct str a, struct str b) {
    unsigned char sum_a[SHA256_BYTES], sum_b[SHA256_BYTES];
    sha256(a, sum_a);
    sha256(b, sum_b);
    return CRYPTO_memcmp(sum_a, sum_b, SHA256_BYTES) == 0;
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int base64_encode(struct str bytes, struct buf *out) {
    if (bytes.len > SIZE_MAX / 2) return ERR_TOO_LARGE;
    size_t len = (bytes.len + 2) / 3 * 4;
    if (len == 0) return 0;
    char *to = buf_reserve(out, len);
    if (!to) return ERR_TOO_LARGE;
    const unsigned char *from = (const unsigned char *)bytes.data;
    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t left = bytes.len - i;
        uint32_t group = (uint32_t)from[i] << 16;
        if (left > 1) group |= (uint32_t)from[i + 1] << 8;
        if (left > 2) group |= from[i + 2];
        *to++ = alphabet[group >> 18];
        *to++ = alphabet[group >> 12 & 63];
        *to++ = left > 1 ? alphabet[group >> 6 & 63] : '=';
        *to++ = left > 2 ? alphabet[group & 63] : '=';
    }
    buf_added(out, len);
    return 0;
}

// 0..63, or -1.
static int value_of(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int base64_decode(struct str text, struct buf *out, struct err *err) {
    if (text.len % 4 != 0) return err_set(err, ERR_INVALID, "Base64 text has a length that is no multiple of 4");
    if (text.len == 0) return 0;
    size_t pad = text.data[text.len - 1] != '=' ? 0 : text.data[text.len - 2] != '=' ? 1 : 2;
    size_t len = text.len / 4 * 3; // with what the padding stands for
    char *to = buf_reserve(out, len);
    if (!to) return err_set(err, ERR_TOO_LARGE, "Base64 text of %zu bytes is too large", text.len);
    uint32_t group = 0;
    for (size_t i = 0; i < text.len; i++) {
        int value = i >= text.len - pad ? 0 : value_of(text.data[i]);
        if (value < 0) return err_set(err, ERR_INVALID, "not Base64 at byte %zu", i);
        group = group << 6 | (uint32_t)value;
        if (i % 4 != 3) continue;
        *to++ = (char)(group >> 16);
        *to++ = (char)(group >> 8);
        *to++ = (char)group;
    }
    uint32_t unused = pad == 0 ? 0 : pad == 1 ? group & 0xff : group & 0xffff;
    if (unused) return err_set(err, ERR_INVALID, "the Base64 text was cut off");
    buf_added(out, len - pad);
    return 0;
}
