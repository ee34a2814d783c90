// SPDX-License-Identifier: Apache-2.0
// Invariants: a key is in `keys` while it has holders or records that wait. Its first record is in `fresh` or `suspect`
// (which of them, its own `joins` says) exactly while the key has no holder; the others hang behind it. So nothing is
// ever searched, and a hot key costs no more than others.
#include "workers/gate.h"

#include <utlist.h>

#define SPARES_MAX 4096

static uint64_t mix(uint64_t h, uint64_t word) {
    h = (h ^ word) * UINT64_C(0x9E3779B97F4A7C15);
    return h ^ (h >> 29);
}

static uint64_t hash_of(const struct gate *g, const struct delivery *d) {
    struct str key = g->order == ORDER_KEY ? d->ev->f.ordering_key : STR_NONE;
    uint64_t h = mix(UINT64_C(0x51ED270B9F3D4A65), d->partition), word;
    size_t at = 0;
    for (; at + sizeof word <= key.len; at += sizeof word) {
        memcpy(&word, key.data + at, sizeof word);
        h = mix(h, word);
    }
    word = 0;
    if (at < key.len) memcpy(&word, key.data + at, key.len - at);
    return mix(mix(h, word), key.len);
}

static struct gate_key *key_new(struct gate *g) {
    struct gate_key *k = g->spares;
    if (!k) return mem_zalloc(sizeof *k);
    g->spares = k->next_spare;
    g->spare_count--;
    return k;
}

static struct gate_key *need_key(struct gate *g, const struct delivery *d) {
    if (g->order == ORDER_NONE || (g->order == ORDER_KEY && d->ev->f.ordering_key.len == 0)) return NULL;
    uint64_t hash = hash_of(g, d);
    unsigned bucket = (unsigned)(hash >> 32);
    struct gate_key *k;
    HASH_FIND_BYHASHVALUE(hh, g->keys, &hash, sizeof hash, bucket, k);
    if (k) return k;
    k = key_new(g);
    *k = (struct gate_key){.hash = hash};
    HASH_ADD_BYHASHVALUE(hh, g->keys, hash, sizeof k->hash, bucket, k);
    return k;
}

static void drop_idle_key(struct gate *g, struct gate_key *k) {
    if (k->holders || k->first) return;
    HASH_DEL(g->keys, k);
    if (g->spare_count == SPARES_MAX) {
        free(k);
        return;
    }
    k->next_spare = g->spares;
    g->spares = k;
    g->spare_count++;
}

static struct delivery **list_of(struct gate *g, const struct delivery *d) {
    return d->joins < g->most ? &g->suspect : &g->fresh;
}

// The key's first record may go, and with it all that wait behind.
static void key_ready(struct gate *g, struct gate_key *k, bool in_front) {
    struct delivery **list = list_of(g, k->first);
    if (in_front) DL_PREPEND(*list, k->first);
    else DL_APPEND(*list, k->first);
    g->ready += k->count;
    g->ready_bytes += k->bytes;
}

static void key_not_ready(struct gate *g, struct gate_key *k) {
    struct delivery **list = list_of(g, k->first);
    DL_DELETE(*list, k->first);
    g->ready -= k->count;
    g->ready_bytes -= k->bytes;
}

static void add_keyless(struct gate *g, struct delivery *d, bool in_front) {
    struct delivery **list = list_of(g, d);
    if (in_front) DL_PREPEND(*list, d);
    else DL_APPEND(*list, d);
    g->ready++;
    g->ready_bytes += d->bytes;
}

void gate_init(struct gate *g, enum order order, size_t most) {
    *g = (struct gate){.order = order, .most = (uint32_t)most};
}

void gate_add(struct gate *g, struct delivery *d) {
    struct gate_key *k = need_key(g, d);
    d->key = k;
    d->behind = NULL;
    g->waiting++;
    if (!k) {
        add_keyless(g, d, false);
        return;
    }
    k->count++;
    k->bytes += d->bytes;
    if (k->first) {
        k->last->behind = d;
        k->last = d;
        if (k->holders == 0) {
            g->ready++;
            g->ready_bytes += d->bytes;
        }
    } else {
        k->first = k->last = d;
        if (k->holders == 0) key_ready(g, k, false);
    }
}

// --- taking ---------------------------------------------------------------------------------------------------------

struct call_list {
    struct delivery *list;
    size_t count, most, bytes, most_bytes;
    uint32_t joins;
};

static bool fits(const struct call_list *c, const struct delivery *d) {
    if (c->count == 0) return true;
    return c->count < c->most && d->joins == c->joins && c->bytes + d->bytes <= c->most_bytes;
}

static void put(struct gate *g, struct call_list *c, struct delivery *d) {
    DL_APPEND(c->list, d);
    c->count++;
    c->bytes += d->bytes;
    g->waiting--;
}

// As many of the key as fit; the key is held then.
static void take_key(struct gate *g, struct call_list *c, struct gate_key *k) {
    key_not_ready(g, k);
    while (k->first && fits(c, k->first)) {
        struct delivery *d = k->first;
        k->first = d->behind;
        d->behind = NULL;
        k->count--;
        k->bytes -= d->bytes;
        k->holders++;
        put(g, c, d);
    }
    if (!k->first) k->last = NULL;
}

static void take_head(struct gate *g, struct call_list *c, struct delivery *d) {
    if (d->key) {
        take_key(g, c, d->key);
        return;
    }
    struct delivery **list = list_of(g, d);
    DL_DELETE(*list, d);
    g->ready--;
    g->ready_bytes -= d->bytes;
    put(g, c, d);
}

static struct delivery *take_from(struct gate *g, struct delivery **list, struct call_list *c) {
    c->joins = (*list)->joins;
    if (c->joins < c->most) c->most = c->joins;
    while (*list && fits(c, *list)) take_head(g, c, *list);
    return c->list;
}

struct delivery *gate_take(struct gate *g, size_t most, size_t bytes, size_t *ret_count) {
    struct delivery **list = g->suspect ? &g->suspect : &g->fresh;
    if (!*list) return NULL;
    struct call_list c = {.most = most, .most_bytes = bytes};
    struct delivery *taken = take_from(g, list, &c);
    *ret_count = c.count;
    return taken;
}

struct delivery *gate_take_probe(struct gate *g) {
    struct delivery **list = g->fresh ? &g->fresh : &g->suspect;
    if (!*list) return NULL;
    struct call_list c = {.most = 1};
    return take_from(g, list, &c);
}

// --- after the run --------------------------------------------------------------------------------------------------

static void let_go(struct gate *g, struct gate_key *k, bool in_front) {
    MUST(k->holders > 0);
    if (--k->holders) return;
    if (k->first) key_ready(g, k, in_front);
    else drop_idle_key(g, k);
}

void gate_return(struct gate *g, struct delivery *d) {
    struct gate_key *k = d->key;
    g->waiting++;
    if (!k) {
        add_keyless(g, d, true);
        return;
    }
    d->behind = k->first;
    k->first = d;
    if (!k->last) k->last = d;
    k->count++;
    k->bytes += d->bytes;
    let_go(g, k, true);
}

void gate_done(struct gate *g, struct delivery *d) {
    if (d->key) let_go(g, d->key, false);
    d->key = NULL;
}

// --- letting go -----------------------------------------------------------------------------------------------------

static bool has_of(const struct gate_key *k, bool all, uint32_t partition) {
    for (const struct delivery *d = k->first; d; d = d->behind)
        if (all || d->partition == partition) return true;
    return false;
}

// Key by key; records of one key may be of several partitions only when two keys have the same hash.
static void drop_of_key(struct gate *g, struct gate_key *k, bool all, uint32_t partition, struct delivery **out) {
    if (!has_of(k, all, partition)) return;
    struct delivery *d = k->first, *next;
    if (k->holders == 0) key_not_ready(g, k);
    k->first = k->last = NULL;
    for (; d; d = next) {
        next = d->behind;
        d->behind = NULL;
        if (all || d->partition == partition) {
            k->count--;
            k->bytes -= d->bytes;
            g->waiting--;
            d->key = NULL;
            DL_APPEND(*out, d);
        } else {
            if (k->last) k->last->behind = d;
            else k->first = d;
            k->last = d;
        }
    }
    if (k->first && k->holders == 0) key_ready(g, k, false);
    drop_idle_key(g, k);
}

static void drop_keyless(struct gate *g, struct delivery **list, bool all, uint32_t partition, struct delivery **out) {
    struct delivery *d, *next;
    DL_FOREACH_SAFE(*list, d, next) {
        if (d->key || !(all || d->partition == partition)) continue;
        DL_DELETE(*list, d);
        g->ready--;
        g->ready_bytes -= d->bytes;
        g->waiting--;
        DL_APPEND(*out, d);
    }
}

struct delivery *gate_drop(struct gate *g, bool all, uint32_t partition) {
    struct delivery *out = NULL;
    struct gate_key *k, *next;
    HASH_ITER(hh, g->keys, k, next) drop_of_key(g, k, all, partition, &out);
    drop_keyless(g, &g->fresh, all, partition, &out);
    drop_keyless(g, &g->suspect, all, partition, &out);
    return out;
}

bool gate_has_suspects(const struct gate *g) {
    return g->suspect != NULL;
}

size_t gate_parked_keys(const struct gate *g) {
    size_t n = 0;
    for (const struct gate_key *k = g->keys; k; k = k->hh.next) n += k->holders && k->first;
    return n;
}

void gate_free(struct gate *g) {
    MUST(g->waiting == 0 && !g->keys);
    while (g->spares) {
        struct gate_key *k = g->spares;
        g->spares = k->next_spare;
        free(k);
    }
}
