// SPDX-License-Identifier: Apache-2.0
// Replays in order: which letters of a run may go, and which live events wait for them.
//
// Invariant: of each key at most one letter is busy, from when it is taken until its event has ended; the others of the key wait behind it in
// the job's order. A key whose letter failed again takes no further part.
#include <stdlib.h>
#include <uthash.h>
#include <utlist.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "dlq/replays_impl.h"

#define HOLDS_MS 1000         // how often the held keys are read
#define HOLDS_MAX 100000
#define NO_KEY 0              // an event that nothing orders

static uint64_t hash_more(uint64_t h, struct str s) {
    for (size_t i = 0; i < s.len; i++) h = (h ^ (unsigned char)s.data[i]) * 0x100000001b3;
    return (h ^ 0xff) * 0x100000001b3;
}

// FNV-1a. Two keys of one hash are ordered as if they were one: harmless.
static uint64_t key_hash(struct str function, struct str key) {
    uint64_t h = hash_more(hash_more(0xcbf29ce484222325, function), key);
    return h == NO_KEY ? 1 : h;
}

// --- the order of one run ---------------------------------------------------------------------------------------------------

struct order_key {
    uint64_t hash;
    size_t next;               // of its items, the first that was not taken; SIZE_MAX: none
    size_t last;
    int64_t busy;              // seq of its letter that is on its way; 0: none
    bool ready;
    struct order_key *prev_ready, *next_ready;
    UT_hash_handle hh;
};

struct order_item {
    int64_t seq;
    struct order_key *key;
    size_t next;               // item of the same key
};

struct order {
    struct order_item *items;  // ascending by seq
    size_t count, room, busy, left;
    struct order_key *keys, *ready;
};

static void make_ready(struct order *o, struct order_key *k) {
    if (k->ready || k->busy || k->next == SIZE_MAX) return;
    k->ready = true;
    DL_APPEND2(o->ready, k, prev_ready, next_ready);
}

static struct order_key *key_of(struct order *o, uint64_t hash) {
    struct order_key *k = NULL;
    if (hash != NO_KEY) HASH_FIND(hh, o->keys, &hash, sizeof hash, k);
    if (k) return k;
    k = mem_zalloc(sizeof *k);
    *k = (struct order_key){.hash = hash, .next = SIZE_MAX, .last = SIZE_MAX};
    if (hash == NO_KEY) k->hash = (uint64_t)(uintptr_t)k; // one of its own
    HASH_ADD(hh, o->keys, hash, sizeof k->hash, k);
    return k;
}

static uint64_t row_key(const struct sql_row *row) {
    struct str key = sql_row_bytes(row, 3);
    if (key.len == 0 && sql_row_is_null(row, 4)) return NO_KEY;
    return key_hash(sql_row_bytes(row, 2), key.len ? key : sql_row_bytes(row, 4));
}

// seq, state, function, ordering key, source
static int add_item(void *arg, const struct sql_row *row) {
    struct order *o = arg;
    if (o->count == o->room) {
        o->room = o->room ? 2 * o->room : 256;
        o->items = mem_realloc(o->items, o->room * sizeof *o->items);
    }
    bool pending = str_is(sql_row_bytes(row, 1), "pending");
    size_t at = o->count++;
    struct order_key *k = key_of(o, row_key(row));
    o->items[at] = (struct order_item){.seq = sql_row_int(row, 0), .key = k, .next = SIZE_MAX};
    if (!pending) { // sent by a node that died, and not at its end
        k->busy = o->items[at].seq;
        o->busy++;
        return 0;
    }
    if (k->next == SIZE_MAX) k->next = at;
    else o->items[k->last].next = at;
    k->last = at;
    o->left++;
    return 0;
}

void order_free(struct order *o) {
    struct order_key *k, *next;
    if (!o) return;
    HASH_ITER(hh, o->keys, k, next) {
        HASH_DEL(o->keys, k);
        free(k);
    }
    free(o->items);
    free(o);
}

// A partition is named by the part of source_at before the offset; without an offset nothing orders the letters that have no key.
int order_sql_read(struct sql *sql, int64_t replay, struct order **ret, struct err *err) {
    struct order *o = mem_zalloc(sizeof *o);
    const struct sql_value id = SQL_I(replay);
    const char *text =
        sql_is_postgres(sql)
            ? "SELECT r.seq, r.state, l.function, l.ordering_key, l.source_name || '/' || substring(l.source_at from '^(.*)\"offset\"')"
              " FROM replay_letters r LEFT JOIN letters l ON l.id = r.letter_id WHERE r.replay = $1 AND (r.state = 'pending' OR (r.state = 'sent'"
              " AND coalesce(r.outcome, 'failing') = 'failing')) ORDER BY r.seq"
            : "SELECT r.seq, r.state, l.function, l.ordering_key, CASE WHEN instr(l.source_at, '\"offset\"') > 0"
              " THEN l.source_name || '/' || substr(l.source_at, 1, instr(l.source_at, '\"offset\"')) END"
              " FROM replay_letters r LEFT JOIN letters l ON l.id = r.letter_id WHERE r.replay = $1 AND (r.state = 'pending' OR (r.state = 'sent'"
              " AND coalesce(r.outcome, 'failing') = 'failing')) ORDER BY r.seq";
    int rc = sql_exec(sql, text, &id, 1, add_item, o, NULL, err);
    struct order_key *k, *next;
    HASH_ITER(hh, o->keys, k, next) make_ready(o, k);
    if (rc) order_free(o);
    else *ret = o;
    return rc;
}

static int by_number(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

size_t order_take(struct order *o, int64_t *seqs, size_t room) {
    size_t n = 0;
    while (n < room && o->ready) {
        struct order_key *k = o->ready;
        DL_DELETE2(o->ready, k, prev_ready, next_ready);
        k->ready = false;
        k->busy = o->items[k->next].seq;
        seqs[n++] = k->busy;
        o->busy++;
    }
    if (n) qsort(seqs, n, sizeof *seqs, by_number);
    return n;
}

static struct order_item *find_item(struct order *o, int64_t seq) {
    size_t low = 0, high = o->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (o->items[middle].seq < seq) low = middle + 1;
        else high = middle;
    }
    return low < o->count && o->items[low].seq == seq ? &o->items[low] : NULL;
}

void order_return(struct order *o, int64_t seq) {
    struct order_item *item = find_item(o, seq);
    if (!item || item->key->busy != seq) return;
    item->key->busy = 0;
    o->busy--;
    make_ready(o, item->key);
}

// The first of the key's items went, or was left out.
static void step(struct order *o, const struct order_item *item) {
    struct order_key *k = item->key;
    if (k->next == SIZE_MAX || o->items[k->next].seq != item->seq) return; // one that a former owner sent
    k->next = o->items[k->next].next;
    o->left--;
}

void order_done(struct order *o, int64_t seq) {
    struct order_item *item = find_item(o, seq);
    if (!item || item->key->busy != seq) return;
    step(o, item);
    item->key->busy = 0;
    o->busy--;
    make_ready(o, item->key);
}

size_t order_stop(struct order *o, int64_t seq, int64_t **ret_seqs) {
    struct order_item *item = find_item(o, seq);
    size_t n = 0, room = 0;
    *ret_seqs = NULL;
    if (!item || item->key->busy != seq) return 0;
    step(o, item);
    item->key->busy = 0;
    o->busy--;
    for (; item->key->next != SIZE_MAX; item->key->next = o->items[item->key->next].next) {
        if (n == room) {
            room = room ? 2 * room : 16;
            *ret_seqs = mem_realloc(*ret_seqs, room * sizeof **ret_seqs);
        }
        (*ret_seqs)[n++] = o->items[item->key->next].seq;
        o->left--;
    }
    return n;
}

size_t order_may_take(const struct order *o, size_t room) {
    if (!o->ready || o->busy >= REPLAY_ORDER_BUSY) return 0;
    return room < REPLAY_ORDER_BUSY - o->busy ? room : REPLAY_ORDER_BUSY - o->busy;
}

size_t order_busy_count(const struct order *o) {
    return o->busy;
}

bool order_is_over(const struct order *o) {
    return o->left == 0 && o->busy == 0;
}

char *order_busy(const struct order *o) {
    struct buf text;
    struct order_key *k, *next;
    size_t len, n = 0;
    buf_init(&text, SIZE_MAX / 2);
    int rc = buf_append(&text, STR_LIT("{"));
    HASH_ITER(hh, o->keys, k, next)
        if (k->busy) {
            rc |= buf_printf(&text, "%s\"%zu\":{\"s\":%lld}", n ? "," : "", n, (long long)k->busy);
            n++;
        }
    MUST((rc | buf_append(&text, STR_LIT("}"))) == 0);
    return buf_take(&text, &len);
}

// --- what the workers ask ---------------------------------------------------------------------------------------------------------

struct hold {
    uint64_t hash;
    UT_hash_handle hh;
};
struct holds {
    struct hold *at;
    bool reading;
    int64_t read_at_ns;
};

struct holds_job {
    struct store_job job;
    struct replays *replays;
    uint64_t *hashes;
    size_t count;
};

// The function that the event of a letter goes to, and its key.
static int take_hold(void *arg, const struct sql_row *row) {
    struct holds_job *h = arg;
    struct str target = sql_row_bytes(row, 0), own = sql_row_bytes(row, 1);
    const char *colon = target.len ? memchr(target.data, ':', target.len) : NULL;
    if (colon) target.len = (size_t)(colon - target.data);
    h->hashes[h->count++] = key_hash(target.len ? target : own, sql_row_bytes(row, 2));
    return 0;
}

static int take_number(void *arg, const struct sql_row *row) {
    *(int64_t *)arg = sql_row_int(row, 0);
    return 0;
}

static int holds_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct holds_job *h = container_of(job, struct holds_job, job);
    const struct sql_value most = SQL_I(HOLDS_MAX);
    int64_t jobs = 0;
    h->count = 0;
    // Mostly there are none, which PostgreSQL would find out by a look at all letters.
    int rc = sql_exec(sql, "SELECT count(*) FROM replays WHERE ended_ms IS NULL AND in_order = 1 AND to_origin = 0", NULL, 0, take_number, &jobs,
                      NULL, err);
    if (rc || !jobs) return rc;
    return sql_exec(sql,
                    "SELECT DISTINCT j.target, l.function, l.ordering_key FROM replays j JOIN replay_letters r ON r.replay = j.id"
                    " JOIN letters l ON l.id = r.letter_id WHERE j.ended_ms IS NULL AND j.in_order = 1 AND j.to_origin = 0"
                    " AND l.ordering_key <> '' AND (r.state = 'pending' OR (r.state = 'sent' AND coalesce(r.outcome, 'failing') = 'failing'))"
                    " LIMIT $1",
                    &most, 1, take_hold, h, NULL, err);
}

static void clear_holds(struct holds *holds) {
    struct hold *it, *next;
    HASH_ITER(hh, holds->at, it, next) {
        HASH_DEL(holds->at, it);
        free(it);
    }
}

static void add_hold(struct holds *holds, uint64_t hash) {
    struct hold *it;
    HASH_FIND(hh, holds->at, &hash, sizeof hash, it);
    if (it) return;
    it = mem_zalloc(sizeof *it);
    it->hash = hash;
    HASH_ADD(hh, holds->at, hash, sizeof it->hash, it);
}

static void on_holds(struct store_job *job, int code, const struct err *err) {
    (void)err;
    struct holds_job *h = container_of(job, struct holds_job, job);
    struct holds *holds = h->replays->holds;
    h->replays->jobs--;
    holds->reading = false;
    if (code == 0) {
        clear_holds(holds);
        for (size_t i = 0; i < h->count; i++) add_hold(holds, h->hashes[i]);
    }
    free(h->hashes);
    free(h);
}

void replays_read_holds(struct replays *r) {
    int64_t now = clock_mono_ns();
    if (r->holds->reading || now - r->holds->read_at_ns < HOLDS_MS * NS_PER_MS / 2) return;
    struct holds_job *h = mem_zalloc(sizeof *h);
    *h = (struct holds_job){.job = {.run = holds_run, .done = on_holds}, .replays = r};
    h->hashes = mem_array(HOLDS_MAX, sizeof *h->hashes);
    r->holds->reading = true;
    r->holds->read_at_ns = now;
    r->jobs++;
    store_submit(r->c.reader, &h->job);
}

// As it stands in the column, which has well-formed text only.
static uint64_t event_hash(const struct ev *ev) {
    struct buf clean;
    if (text_is_utf8(ev->f.ordering_key) && !memchr(ev->f.ordering_key.data, '\0', ev->f.ordering_key.len))
        return key_hash(ev->f.function, ev->f.ordering_key);
    buf_init(&clean, SIZE_MAX / 2);
    letters_append_clean(&clean, ev->f.ordering_key);
    uint64_t hash = key_hash(ev->f.function, buf_str(&clean));
    buf_done(&clean);
    return hash;
}

bool replays_holds(const struct replays *r, const struct ev *ev) {
    struct hold *it = NULL;
    if (!r->holds->at || ev->f.ordering_key.len == 0 || ev->f.replay) return false;
    uint64_t hash = event_hash(ev);
    HASH_FIND(hh, r->holds->at, &hash, sizeof hash, it);
    return it != NULL;
}

void replays_holds_init(struct replays *r) {
    r->holds = mem_zalloc(sizeof *r->holds);
}

void replays_holds_done(struct replays *r) {
    clear_holds(r->holds);
    free(r->holds);
}
