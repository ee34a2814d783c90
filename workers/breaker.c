// SPDX-License-Identifier: Apache-2.0
#include "workers/breaker.h"

void breaker_init(struct breaker *b, double share) {
    *b = (struct breaker){.share = share};
}

const char *breaker_word(const struct breaker *b) {
    static const char *const words[] = {"closed", "open", "half-open"};
    return words[b->state];
}

static uint32_t type_hash(struct str type) {
    uint32_t h = 2166136261u; // FNV-1a
    for (size_t i = 0; i < type.len; i++) h = (h ^ (unsigned char)type.data[i]) * 16777619u;
    return type.len == 0 ? 0 : h ? h : 1;
}

static void enter(struct breaker *b, enum breaker_state state, int64_t now_ms) {
    b->state = state;
    b->since_ms = now_ms;
    b->passed = b->failed = 0;
    b->count = 0;
}

static void open_again(struct breaker *b, int64_t now_ms) {
    b->probe_wait_ms *= 2;
    if (b->probe_wait_ms > BREAKER_PROBE_MAX_MS) b->probe_wait_ms = BREAKER_PROBE_MAX_MS;
    b->probe_at_ms = now_ms + b->probe_wait_ms;
}

// --- closed ---------------------------------------------------------------------------------------------------------

static void remember(struct breaker *b, uint32_t type, int64_t now_ms) {
    b->window[b->at].ms = now_ms;
    b->window[b->at].type = type;
    b->at = (b->at + 1) % BREAKER_WINDOW;
    if (b->count < BREAKER_WINDOW) b->count++;
}

struct tally {
    size_t tried, failed, same;
};

static struct tally count_window(const struct breaker *b, uint32_t type, int64_t now_ms) {
    struct tally t = {0};
    for (size_t i = 0; i < b->count; i++) {
        size_t at = (b->at + BREAKER_WINDOW - 1 - i) % BREAKER_WINDOW;
        if (now_ms - b->window[at].ms > BREAKER_WINDOW_MS) break;
        t.tried++;
        t.failed += b->window[at].type != 0;
        t.same += b->window[at].type == type;
    }
    return t;
}

bool breaker_note(struct breaker *b, size_t records, struct str type, int64_t now_ms) {
    if (b->state != BREAKER_CLOSED) return false; // what was on its way when it opened
    uint32_t hash = type_hash(type);
    for (size_t i = 0; i < records && i < BREAKER_WINDOW; i++) remember(b, hash, now_ms);
    if (hash == 0) return false;
    struct tally t = count_window(b, hash, now_ms);
    bool many = t.tried >= BREAKER_LEAST && (double)t.failed >= b->share * (double)t.tried;
    if (!many || (double)t.same < BREAKER_SAME * (double)t.failed) return false;
    if (text_format(b->why, sizeof b->why, "%zu of the last %zu records failed, %zu of them with %.*s", t.failed, t.tried, t.same,
                    (int)(type.len < 80 ? type.len : 80), type.data))
        b->why[0] = '\0';
    enter(b, BREAKER_OPEN, now_ms);
    b->probe_wait_ms = BREAKER_PROBE_MS;
    b->probe_at_ms = now_ms + BREAKER_PROBE_MS;
    return true;
}

// --- open -----------------------------------------------------------------------------------------------------------

size_t breaker_room(const struct breaker *b, int64_t now_ms) {
    if (b->state == BREAKER_CLOSED) return BREAKER_UNLIMITED;
    if (b->state == BREAKER_OPEN) return b->out == 0 && now_ms >= b->probe_at_ms;
    size_t used = b->out + b->passed + b->failed;
    return used < BREAKER_TRIAL ? BREAKER_TRIAL - used : 0;
}

int64_t breaker_next_ms(const struct breaker *b, int64_t now_ms) {
    return b->state == BREAKER_OPEN && b->out == 0 && b->probe_at_ms > now_ms ? b->probe_at_ms : 0;
}

void breaker_probe_sent(struct breaker *b) {
    b->out++;
}

void breaker_probe_lost(struct breaker *b) {
    MUST(b->out > 0);
    b->out--;
}

static bool trial_goes_on(struct breaker *b, bool failed, int64_t now_ms) {
    if (failed) b->failed++;
    else b->passed++;
    if (b->passed + b->failed < BREAKER_TRIAL) return false;
    if ((double)b->failed >= b->share * BREAKER_TRIAL) {
        enter(b, BREAKER_OPEN, now_ms);
        open_again(b, now_ms);
    } else {
        enter(b, BREAKER_CLOSED, now_ms);
    }
    return true;
}

bool breaker_probed(struct breaker *b, struct str type, int64_t now_ms) {
    breaker_probe_lost(b);
    bool failed = type.len > 0;
    if (b->state == BREAKER_HALF_OPEN) return trial_goes_on(b, failed, now_ms);
    if (b->state == BREAKER_CLOSED || now_ms < b->probe_at_ms) return false; // of an earlier trial
    if (failed) {
        open_again(b, now_ms);
        return false;
    }
    enter(b, BREAKER_HALF_OPEN, now_ms);
    return true;
}
