// SPDX-License-Identifier: Apache-2.0
// Method 1 of RFC 9562 section 6.2: within a millisecond, the 12 bits after the version count up from a random
// start; when they run over, the time part is pushed ahead by one. Randomness comes in blocks from getrandom(2).
#include "core/id.h"

#include <pthread.h>
#include <sys/random.h>

#include "core/base/clock.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int64_t last_ms;
static uint32_t counter; // 26 bits: rand_a and the first 14 bits of rand_b
static uint8_t pool[4096];
static size_t pool_used = sizeof pool;

static void take_random(uint8_t *out, size_t n) {
    if (pool_used + n > sizeof pool) {
        MUST(getrandom(pool, sizeof pool, 0) == (ssize_t)sizeof pool);
        pool_used = 0;
    }
    memcpy(out, pool + pool_used, n);
    pool_used += n;
}

struct id id_new(void) {
    struct id id;
    pthread_mutex_lock(&lock);
    int64_t now = clock_unix_ms();
    uint8_t r[10];
    take_random(r, sizeof r);
    if (now > last_ms) {
        last_ms = now;
        counter = ((uint32_t)r[8] << 17) | ((uint32_t)r[9] << 9); // below half, so that counting up has room
    } else if (++counter >= (1u << 26)) {
        last_ms++;
        counter = 0;
    }
    int64_t ms = last_ms;
    uint32_t count = counter;
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < 6; i++) id.bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
    id.bytes[6] = (uint8_t)(0x70 | (count >> 22));
    id.bytes[7] = (uint8_t)(count >> 14);
    id.bytes[8] = (uint8_t)(0x80 | ((count >> 8) & 0x3f));
    id.bytes[9] = (uint8_t)count;
    memcpy(id.bytes + 10, r, 6);
    return id;
}

static uint64_t mix(uint64_t x) { // the finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

struct id id_derive(int64_t unix_ms, uint64_t a, uint64_t b) {
    struct id id;
    uint64_t low = mix(mix(a) ^ b), high = mix(low + a);
    for (int i = 0; i < 6; i++) id.bytes[i] = (uint8_t)(unix_ms >> (40 - 8 * i));
    id.bytes[6] = (uint8_t)(0x70 | (high & 0x0f));
    id.bytes[7] = (uint8_t)(high >> 8);
    for (int i = 0; i < 8; i++) id.bytes[8 + i] = (uint8_t)(low >> (8 * i));
    id.bytes[8] = (uint8_t)(0x80 | (id.bytes[8] & 0x3f));
    return id;
}

bool id_is_none(const struct id *id) {
    static const struct id none;
    return id_eq(id, &none);
}

bool id_eq(const struct id *a, const struct id *b) {
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

void id_format(const struct id *id, char out[ID_TEXT_BYTES]) {
    static const char hex[] = "0123456789abcdef";
    char *p = out;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) *p++ = '-';
        *p++ = hex[id->bytes[i] >> 4];
        *p++ = hex[id->bytes[i] & 15];
    }
    *p = '\0';
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

int id_parse(struct str text, struct id *ret) {
    if (text.len != ID_TEXT_BYTES - 1) return ERR_INVALID;
    struct id id;
    size_t at = 0;
    for (int i = 0; i < 16; i++) {
        if (at == 8 || at == 13 || at == 18 || at == 23) {
            if (text.data[at++] != '-') return ERR_INVALID;
        }
        int hi = hex_value(text.data[at]), lo = hex_value(text.data[at + 1]);
        if (hi < 0 || lo < 0) return ERR_INVALID;
        id.bytes[i] = (uint8_t)(hi << 4 | lo);
        at += 2;
    }
    *ret = id;
    return 0;
}

int64_t id_unix_ms(const struct id *id) {
    int64_t ms = 0;
    for (int i = 0; i < 6; i++) ms = ms << 8 | id->bytes[i];
    return ms;
}
