// SPDX-License-Identifier: Apache-2.0
// Replays in order: which letters of a run may go.
//
// Invariant: of each key at most one letter is busy, from when it is taken until its event has ended; the others of the key wait behind it in
// the job's order. A key whose letter failed again takes no further part. Letters that nothing orders have no key: they go as there is room.
#include <stdlib.h>
#include <uthash.h>
#include <utlist.h>

#include "dlq/replays_impl.h"

#define NO_KEY 0
#define NONE SIZE_MAX

static uint64_t hash_more(uint64_t h, struct str s) {
    for (size_t i = 0; i < s.len; i++) h = (h ^ (unsigned char)s.data[i]) * 0x100000001b3;
    return (h ^ 0xff) * 0x100000001b3;
}

// FNV-1a.
uint64_t order_hash(struct str function, struct str key) {
    uint64_t h = hash_more(hash_more(0xcbf29ce484222325, function), key);
    return h == NO_KEY ? 1 : h;
}

// That the event of a letter goes to.
static struct str function_of(struct str target, struct str own) {
    const char *colon = target.len ? memchr(target.data, ':', target.len) : NULL;
    if (colon) target.len = (size_t)(colon - target.data);
    return target.len ? target : own;
}

// --- reading it -------------------------------------------------------------------------------------------------------------

struct order_read {
    struct str target;
    struct order_row *rows;
    size_t count;
};

// seq, state, function, ordering key, partition
static int take_row(void *arg, const struct sql_row *row) {
    struct order_read *o = arg;
    struct str key = sql_row_bytes(row, 3), function = function_of(o->target, sql_row_bytes(row, 2));
    bool is_partition = key.len == 0;
    if (is_partition) key = sql_row_bytes(row, 4);
    MUST(o->count < REPLAY_ORDER_WINDOW);
    o->rows[o->count++] = (struct order_row){.seq = sql_row_int(row, 0),
                                             .key = key.len ? order_hash(function, key) : NO_KEY,
                                             .is_partition = is_partition,
                                             .sent = str_is(sql_row_bytes(row, 1), "sent")};
    return 0;
}

// A partition is named by the part of source_at before the offset; without an offset nothing orders the letters that have no key.
#define ROWS                                                                                                              \
    " FROM replay_letters r LEFT JOIN letters l ON l.id = r.letter_id WHERE r.replay = $1 AND r.seq > $2 AND r.seq <= $3" \
    " AND (r.state = 'pending' OR (r.state = 'sent' AND coalesce(r.outcome, 'failing') = 'failing')) ORDER BY r.seq"

int order_sql_read(struct sql *sql, const struct replay_row *row, int64_t after, struct order_row *rows, size_t *ret_count, struct err *err) {
    const struct sql_value values[] = {SQL_I(row->replay), SQL_I(after), SQL_I(after + REPLAY_ORDER_WINDOW)};
    struct order_read o = {.target = str_of(row->target), .rows = rows};
    const char *text = sql_is_postgres(sql) ? "SELECT r.seq, r.state, l.function, l.ordering_key, CASE WHEN l.ordering_key = ''"
                                              " THEN l.source_name || '/' || substring(l.source_at from '^(.*)\"offset\"') END" ROWS
                                            : "SELECT r.seq, r.state, l.function, l.ordering_key, CASE WHEN l.ordering_key = ''"
                                              " AND instr(l.source_at, '\"offset\"') > 0"
                                              " THEN l.source_name || '/' || substr(l.source_at, 1, instr(l.source_at, '\"offset\"')) END" ROWS;
    int rc = sql_exec(sql, text, values, array_len(values), take_row, &o, NULL, err);
    if (rc == 0) *ret_count = o.count;
    return rc;
}

// --- the order of one run ---------------------------------------------------------------------------------------------------

struct order_key {
    uint64_t hash;
    size_t next, last;         // of its items that wait; NONE: none
    bool busy, ready;
    struct order_key *prev_ready, *next_ready;
    UT_hash_handle hh;
};

struct order_item {
    int64_t seq;
    size_t next;               // item of the same key
};

struct order_busy {            // a letter on its way
    int64_t seq;
    struct order_key *key;     // NULL: nothing orders it
    size_t item;               // of the key; NONE: a node sent it that died, and it is not at its end
    UT_hash_handle hh;
};

struct order {
    struct order_item *items;  // of letters with a key
    size_t count, room;
    int64_t *free;             // seqs of letters without one
    size_t free_next, free_count, free_room;
    bool free_turn;            // keys and free ones take turns
    size_t left;               // of both, those that wait
    struct order_key *keys, *ready;
    struct order_busy *busy;
};

struct order *order_new(void) {
    return mem_zalloc(sizeof(struct order));
}

void order_free(struct order *o) {
    struct order_key *k, *next_key;
    struct order_busy *b, *next_busy;
    if (!o) return;
    HASH_ITER(hh, o->busy, b, next_busy) {
        HASH_DEL(o->busy, b);
        free(b);
    }
    HASH_ITER(hh, o->keys, k, next_key) {
        HASH_DEL(o->keys, k);
        free(k);
    }
    free(o->items);
    free(o->free);
    free(o);
}

static void set_ready(struct order *o, struct order_key *k) {
    bool ready = !k->busy && k->next != NONE;
    if (ready && !k->ready) DL_APPEND2(o->ready, k, prev_ready, next_ready);
    if (!ready && k->ready) DL_DELETE2(o->ready, k, prev_ready, next_ready);
    k->ready = ready;
}

static struct order_key *key_of(struct order *o, uint64_t hash) {
    struct order_key *k;
    HASH_FIND(hh, o->keys, &hash, sizeof hash, k);
    if (k) return k;
    k = mem_zalloc(sizeof *k);
    *k = (struct order_key){.hash = hash, .next = NONE};
    HASH_ADD(hh, o->keys, hash, sizeof k->hash, k);
    return k;
}

static void add_busy(struct order *o, int64_t seq, struct order_key *k, size_t item) {
    struct order_busy *b = mem_zalloc(sizeof *b);
    *b = (struct order_busy){.seq = seq, .key = k, .item = item};
    HASH_ADD(hh, o->busy, seq, sizeof b->seq, b);
    if (!k) return;
    k->busy = true;
    set_ready(o, k);
}

static void add_free(struct order *o, int64_t seq) {
    if (o->free_count == o->free_room) {
        o->free_room = o->free_room ? 2 * o->free_room : 256;
        o->free = mem_realloc(o->free, o->free_room * sizeof *o->free);
    }
    o->free[o->free_count++] = seq;
    o->left++;
}

static void add_item(struct order *o, int64_t seq, struct order_key *k) {
    if (o->count == o->room) {
        o->room = o->room ? 2 * o->room : 256;
        o->items = mem_realloc(o->items, o->room * sizeof *o->items);
    }
    size_t at = o->count++;
    o->items[at] = (struct order_item){.seq = seq, .next = NONE};
    if (k->next == NONE) k->next = at;
    else o->items[k->last].next = at;
    k->last = at;
    o->left++;
    set_ready(o, k);
}

void order_add(struct order *o, const struct order_row *row) {
    struct order_key *k = row->key == NO_KEY ? NULL : key_of(o, row->key);
    if (row->sent) add_busy(o, row->seq, k, NONE);
    else if (k) add_item(o, row->seq, k);
    else add_free(o, row->seq);
}

static int by_number(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int64_t take_free(struct order *o) {
    int64_t seq = o->free[o->free_next++];
    add_busy(o, seq, NULL, NONE);
    return seq;
}

static int64_t take_ready(struct order *o) {
    struct order_key *k = o->ready;
    size_t at = k->next;
    k->next = o->items[at].next;
    add_busy(o, o->items[at].seq, k, at);
    return o->items[at].seq;
}

size_t order_take(struct order *o, int64_t *seqs, size_t room) {
    size_t n = 0;
    for (; n < room && (o->ready || o->free_next < o->free_count); n++) {
        bool from_free = o->free_next < o->free_count && (o->free_turn || !o->ready);
        seqs[n] = from_free ? take_free(o) : take_ready(o);
        o->free_turn = !from_free;
        o->left--;
    }
    if (n) qsort(seqs, n, sizeof *seqs, by_number);
    return n;
}

// The letter is not on its way any more; false: it was not.
static bool take_busy(struct order *o, int64_t seq, struct order_busy *ret) {
    struct order_busy *b;
    HASH_FIND(hh, o->busy, &seq, sizeof seq, b);
    if (!b) return false;
    *ret = *b;
    HASH_DEL(o->busy, b);
    free(b);
    if (ret->key) ret->key->busy = false;
    return true;
}

void order_return(struct order *o, int64_t seq) {
    struct order_busy b;
    if (!take_busy(o, seq, &b)) return;
    o->left++;
    if (!b.key) {
        MUST(o->free_next > 0);
        o->free[--o->free_next] = seq;
        return;
    }
    MUST(b.item != NONE);
    b.key->next = b.item; // and behind it what was behind it
    set_ready(o, b.key);
}

void order_done(struct order *o, int64_t seq) {
    struct order_busy b;
    if (take_busy(o, seq, &b) && b.key) set_ready(o, b.key);
}

size_t order_stop(struct order *o, int64_t seq, int64_t **ret_seqs) {
    struct order_busy b;
    size_t n = 0, room = 0;
    *ret_seqs = NULL;
    if (!take_busy(o, seq, &b) || !b.key) return 0;
    for (; b.key->next != NONE; b.key->next = o->items[b.key->next].next) {
        if (n == room) {
            room = room ? 2 * room : 16;
            *ret_seqs = mem_realloc(*ret_seqs, room * sizeof **ret_seqs);
        }
        (*ret_seqs)[n++] = o->items[b.key->next].seq;
        o->left--;
    }
    return n;
}

size_t order_may_take(const struct order *o, size_t room) {
    size_t busy = order_busy_count(o);
    if ((!o->ready && o->free_next == o->free_count) || busy >= REPLAY_ORDER_BUSY) return 0;
    return room < REPLAY_ORDER_BUSY - busy ? room : REPLAY_ORDER_BUSY - busy;
}

size_t order_busy_count(const struct order *o) {
    return HASH_COUNT(o->busy);
}

bool order_is_over(const struct order *o) {
    return o->left == 0 && !o->busy;
}

char *order_busy(const struct order *o) {
    struct buf text;
    size_t len, n = 0;
    buf_init(&text, SIZE_MAX / 2);
    int rc = buf_append(&text, STR_LIT("{"));
    for (const struct order_busy *b = o->busy; b; b = b->hh.next, n++)
        rc |= buf_printf(&text, "%s\"%zu\":{\"s\":%lld}", n ? "," : "", n, (long long)b->seq);
    MUST((rc | buf_append(&text, STR_LIT("}"))) == 0);
    return buf_take(&text, &len);
}
