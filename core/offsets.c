// SPDX-License-Identifier: Apache-2.0
// The records that are out are a doubly linked list in slots of one array: added at the tail, for reading is in order, and
// taken out anywhere. What is finished needs no memory of its own.
//
// Invariants: head..tail ascend in offset; `runs` counts the maximal groups of neighbours, where b is a's neighbour when
//   b.from == a.offset + 1; while reading again, `reread` is the first slot whose offset was not read again yet.
#include "core/offsets.h"

#define VERSION 'w'
#define BYTES_MAX ((OFFSETS_TEXT_MAX - 1) / 4 * 3)
#define CHECK_BYTES 4
#define VARINT_MAX 10

static bool is_linked(const struct offsets *o, uint32_t a, uint32_t b) {
    return a != OFFSETS_NONE && b != OFFSETS_NONE && o->slots[b].from == o->slots[a].offset + 1;
}

// --- metadata -------------------------------------------------------------------------------------------------------

static uint32_t checksum(int64_t committed, const uint8_t *bytes, size_t count) { // FNV-1a
    uint64_t h = 0xcbf29ce484222325u;
    for (int i = 0; i < 8; i++) h = (h ^ (uint8_t)((uint64_t)committed >> (8 * i))) * 0x100000001b3u;
    for (size_t i = 0; i < count; i++) h = (h ^ bytes[i]) * 0x100000001b3u;
    return (uint32_t)(h ^ (h >> 32));
}

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static size_t to_base64(const uint8_t *bytes, size_t count, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < count; i += 3) {
        size_t have = count - i < 3 ? count - i : 3;
        uint32_t v = (uint32_t)bytes[i] << 16 | (have > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) | (have > 2 ? bytes[i + 2] : 0u);
        for (size_t k = 0; k <= have; k++) out[n++] = digits[v >> (18 - 6 * k) & 63];
    }
    return n;
}

static int digit_value(char c) {
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static bool from_base64(struct str text, uint8_t *out, size_t *ret_count) {
    uint32_t v = 0;
    size_t n = 0;
    int bits = 0;
    for (size_t i = 0; i < text.len; i++) {
        int d = digit_value(text.data[i]);
        if (d < 0) return false;
        v = v << 6 | (uint32_t)d;
        bits += 6;
        if (bits < 8) continue;
        bits -= 8;
        out[n++] = (uint8_t)(v >> bits);
    }
    *ret_count = n;
    return true;
}

static size_t put_varint(uint8_t *out, uint64_t v) {
    size_t n = 0;
    for (; v >= 128; v >>= 7) out[n++] = (uint8_t)(v | 128);
    out[n++] = (uint8_t)v;
    return n;
}

static bool take_varint(const uint8_t **at, const uint8_t *end, int64_t *ret) {
    uint64_t v = 0;
    for (int shift = 0; shift < 63 && *at < end; shift += 7) {
        uint8_t b = *(*at)++;
        v |= (uint64_t)(b & 127) << shift;
        if (b & 128) continue;
        if (v > INT64_MAX / 4) return false;
        *ret = (int64_t)v;
        return true;
    }
    return false;
}

static bool take_runs(struct offsets *o, int64_t committed, const uint8_t *at, const uint8_t *end) {
    int64_t offset = committed, unfinished, finished;
    while (at < end) {
        if (o->known_count == OFFSETS_RUNS_MAX) return false;
        if (!take_varint(&at, end, &unfinished) || !take_varint(&at, end, &finished)) return false;
        if (finished == 0 || offset > INT64_MAX / 2 - unfinished - finished) return false;
        o->known[o->known_count++] = (struct offsets_run){offset + unfinished, offset + unfinished + finished};
        offset += unfinished + finished;
    }
    return true;
}

static bool decode(struct offsets *o, int64_t committed, struct str text) {
    uint8_t bytes[BYTES_MAX + 3];
    size_t count = 0;
    if (text.len > OFFSETS_TEXT_MAX || text.data[0] != VERSION) return false;
    if (!from_base64((struct str){text.data + 1, text.len - 1}, bytes, &count) || count < CHECK_BYTES) return false;
    uint32_t check = 0;
    for (int i = 0; i < CHECK_BYTES; i++) check |= (uint32_t)bytes[i] << (8 * i);
    if (check != checksum(committed, bytes + CHECK_BYTES, count - CHECK_BYTES)) return false;
    o->known = mem_array(OFFSETS_RUNS_MAX, sizeof *o->known);
    if (take_runs(o, committed, bytes + CHECK_BYTES, bytes + count)) return true;
    free(o->known);
    o->known = NULL;
    o->known_count = 0;
    return false;
}

struct writer {
    uint8_t bytes[BYTES_MAX];
    size_t count;
    int64_t at;                 // written up to here
    struct offsets_run pending; // not written yet, for the next one may join it
    bool full;
};

static void flush_run(struct writer *w) {
    struct offsets_run r = w->pending;
    if (r.start == r.end || w->full) return;
    uint8_t pair[2 * VARINT_MAX];
    size_t n = put_varint(pair, (uint64_t)(r.start - w->at));
    n += put_varint(pair + n, (uint64_t)(r.end - r.start));
    w->full = w->count + n > sizeof w->bytes;
    if (w->full) return;
    memcpy(w->bytes + w->count, pair, n);
    w->count += n;
    w->at = r.end;
}

static void write_run(struct writer *w, int64_t start, int64_t end) {
    if (start >= end) return;
    if (w->pending.end == start && w->pending.start < w->pending.end) {
        w->pending.end = end;
        return;
    }
    flush_run(w);
    w->pending = (struct offsets_run){start, end};
}

size_t offsets_encode(const struct offsets *o, char out[OFFSETS_TEXT_MAX + 1]) {
    int64_t committed = offsets_commit_point(o);
    struct writer w = {.count = CHECK_BYTES, .at = committed, .pending = {committed, committed}};
    uint32_t last = OFFSETS_NONE;
    for (uint32_t i = o->count ? o->head : OFFSETS_NONE; i != OFFSETS_NONE && !w.full; i = o->slots[i].next) {
        if (last != OFFSETS_NONE && !is_linked(o, last, i)) write_run(&w, o->slots[last].offset + 1, o->slots[i].offset);
        last = i;
    }
    if (last != OFFSETS_NONE) write_run(&w, o->slots[last].offset + 1, o->position);
    for (size_t i = o->known_at; i < o->known_count && !w.full; i++)
        write_run(&w, o->known[i].start > o->position ? o->known[i].start : o->position, o->known[i].end);
    flush_run(&w);
    out[0] = '\0';
    if (w.count == CHECK_BYTES) return 0;
    uint32_t check = checksum(committed, w.bytes + CHECK_BYTES, w.count - CHECK_BYTES);
    for (int i = 0; i < CHECK_BYTES; i++) w.bytes[i] = (uint8_t)(check >> (8 * i));
    out[0] = VERSION;
    size_t n = 1 + to_base64(w.bytes, w.count, out + 1);
    out[n] = '\0';
    return n;
}

// Of k numbers whose sum is `span`, at most span/128 need a second byte, span/16384 a third, and so on.
bool offsets_has_room(const struct offsets *o) {
    int64_t span = o->position - offsets_commit_point(o);
    if (o->known_at < o->known_count) span = o->known[o->known_count - 1].end - offsets_commit_point(o);
    uint64_t runs = o->count < o->runs + OFFSETS_SPLITS ? o->count : o->runs + OFFSETS_SPLITS;
    uint64_t numbers = 2 * (runs + (o->known_count - o->known_at)), bytes = CHECK_BYTES + numbers;
    for (uint64_t more = (uint64_t)span >> 7; more; more >>= 7) bytes += more < numbers ? more : numbers;
    return bytes + 2 * (size_t)VARINT_MAX <= BYTES_MAX;
}

// --- records --------------------------------------------------------------------------------------------------------

bool offsets_begin(struct offsets *o, int64_t committed, struct str metadata) {
    offsets_done(o);
    o->position = committed;
    return metadata.len == 0 || decode(o, committed, metadata);
}

// Adds a run that begins no earlier than those before it.
static void know_run(struct offsets *o, struct offsets_run run) {
    struct offsets_run *last = o->known_count ? &o->known[o->known_count - 1] : NULL;
    if (run.start < o->position) run.start = o->position;
    if (run.start >= run.end) return;
    if (last && run.start <= last->end) last->end = run.end > last->end ? run.end : last->end;
    else if (o->known_count < OFFSETS_RUNS_MAX) o->known[o->known_count++] = run;
}

bool offsets_know(struct offsets *o, int64_t committed, struct str metadata) {
    struct offsets mine = *o, other = {0};
    bool good = offsets_begin(&other, committed, metadata);
    if (other.known_count) {
        o->known = mem_array(OFFSETS_RUNS_MAX, sizeof *o->known);
        o->known_count = 0;
        for (size_t m = 0, n = 0; m < mine.known_count || n < other.known_count;) {
            bool is_mine = n == other.known_count || (m < mine.known_count && mine.known[m].start <= other.known[n].start);
            know_run(o, is_mine ? mine.known[m++] : other.known[n++]);
        }
        free(mine.known);
    }
    offsets_done(&other);
    return good;
}

void offsets_done(struct offsets *o) {
    free(o->slots);
    free(o->known);
    *o = (struct offsets){.free = OFFSETS_NONE, .head = OFFSETS_NONE, .tail = OFFSETS_NONE, .reread = OFFSETS_NONE};
}

static void grow(struct offsets *o) {
    uint32_t room = o->room ? o->room * 2 : 64;
    o->slots = mem_realloc(o->slots, room * sizeof *o->slots);
    for (uint32_t i = room; i-- > o->room;) {
        o->slots[i] = (struct offsets_out){.next = o->free};
        o->free = i;
    }
    o->room = room;
}

static uint32_t add(struct offsets *o, int64_t from, int64_t offset) {
    if (o->free == OFFSETS_NONE) grow(o);
    uint32_t slot = o->free;
    struct offsets_out *r = &o->slots[slot];
    o->free = r->next;
    *r = (struct offsets_out){.from = from, .offset = offset, .prev = o->tail, .next = OFFSETS_NONE, .used = true};
    if (o->tail == OFFSETS_NONE) o->head = slot;
    else o->slots[o->tail].next = slot;
    if (!is_linked(o, o->tail, slot)) o->runs++;
    o->tail = slot;
    o->count++;
    return slot;
}

void offsets_finish(struct offsets *o, uint32_t slot) {
    MUST(slot < o->room && o->slots[slot].used);
    struct offsets_out *r = &o->slots[slot];
    o->runs += (uint32_t)is_linked(o, r->prev, slot) + (uint32_t)is_linked(o, slot, r->next) - 1u;
    if (r->released) o->released--;
    if (o->reread == slot) o->reread = r->next;
    if (r->prev == OFFSETS_NONE) o->head = r->next;
    else o->slots[r->prev].next = r->next;
    if (r->next == OFFSETS_NONE) o->tail = r->prev;
    else o->slots[r->next].prev = r->prev;
    o->count--;
    *r = (struct offsets_out){.next = o->free};
    o->free = slot;
}

void offsets_release(struct offsets *o, uint32_t slot) {
    MUST(offsets_is_out(o, slot));
    o->slots[slot].released = true;
    if (o->slots[slot].deliveries < UINT16_MAX) o->slots[slot].deliveries++;
    o->released++;
}

int64_t offsets_reread(struct offsets *o) {
    MUST(o->released > 0);
    o->reread = o->head;
    while (!o->slots[o->reread].released) o->reread = o->slots[o->reread].next;
    return o->slots[o->reread].offset;
}

// Reading again has come to `offset`: released records below it were not there any more.
static void pass_reread(struct offsets *o, int64_t offset) {
    while (o->reread != OFFSETS_NONE && o->slots[o->reread].offset < offset) {
        uint32_t slot = o->reread;
        o->reread = o->slots[slot].next;
        if (o->slots[slot].released) offsets_finish(o, slot);
    }
}

static bool take_again(struct offsets *o, int64_t offset, uint32_t *ret_slot) {
    uint32_t slot = o->reread;
    if (slot == OFFSETS_NONE || o->slots[slot].offset != offset) return false;
    o->reread = o->slots[slot].next;
    if (!o->slots[slot].released) return false;
    o->slots[slot].released = false;
    o->released--;
    *ret_slot = slot;
    return true;
}

bool offsets_take(struct offsets *o, int64_t offset, uint32_t *ret_slot) {
    if (o->reread != OFFSETS_NONE) pass_reread(o, offset);
    if (offset < o->position) return take_again(o, offset, ret_slot);
    int64_t from = o->position;
    o->position = offset + 1;
    while (o->known_at < o->known_count && o->known[o->known_at].end <= offset) from = o->known[o->known_at++].end;
    if (o->known_at < o->known_count && o->known[o->known_at].start <= offset) return false;
    *ret_slot = add(o, from, offset);
    return true;
}

int64_t offsets_commit_point(const struct offsets *o) {
    return o->count ? o->slots[o->head].offset : o->position;
}

int64_t offsets_finished_beyond(const struct offsets *o) {
    int64_t n = o->position - offsets_commit_point(o) - (int64_t)o->count;
    for (size_t i = o->known_at; i < o->known_count; i++) {
        int64_t start = o->known[i].start > o->position ? o->known[i].start : o->position;
        if (o->known[i].end > start) n += o->known[i].end - start;
    }
    return n;
}
