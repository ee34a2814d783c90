// SPDX-License-Identifier: Apache-2.0
// Rounds and trials. Only a round in which nearly all that may be out was out says anything: else the queue was empty.
#include "core/queue_amqp_pace.h"

#include "core/base/clock.h"

#define ROUND_NS (1000 * NS_PER_MS)
#define FULL 0.75        // share of the prefetch that was out, from which on the consumer counts as the limit
#define AS_MUCH 0.85     // of the rate before: a downward trial lost nothing
#define MORE 1.2         // an upward trial won something
#define PAUSE_FIRST 4u
#define PAUSE_MAX 32u

static size_t between(size_t least, size_t n, size_t most) {
    return n > most ? most : n < least ? least : n;
}

static void begin(struct mq_pace *p, size_t prefetch, size_t settled, int64_t now_ns) {
    p->begun_ns = p->seen_ns = now_ns;
    p->settled_at_begin = settled;
    p->busy_ns = 0;
    p->prefetch = prefetch;
}

// The trial showed nothing that is worth a change: wait longer until the next, which goes the other way.
static size_t end_trial(struct mq_pace *p, size_t back) {
    p->before = 0;
    p->pause = p->pause ? (p->pause * 2 > PAUSE_MAX ? PAUSE_MAX : p->pause * 2) : PAUSE_FIRST;
    p->wait = p->pause;
    p->up = !p->up;
    return back;
}

static size_t start_trial(struct mq_pace *p, size_t prefetch, size_t least, size_t most, double rate) {
    size_t to = p->up ? between(1, prefetch * 2, most) : between(least, prefetch / 2, most);
    if (p->up ? to < prefetch * 2 : to > prefetch / 2) return end_trial(p, prefetch); // no room that way
    p->before = prefetch;
    p->rate_before = rate;
    return to;
}

static size_t judge_trial(struct mq_pace *p, size_t prefetch, double rate) {
    bool good = p->up ? rate >= p->rate_before * MORE : rate >= p->rate_before * AS_MUCH;
    if (!good) return end_trial(p, p->before);
    p->before = 0; // and the next round goes on in the same direction
    p->pause = 0;
    return prefetch;
}

static size_t end_round(struct mq_pace *p, size_t prefetch, size_t most, double rate, bool full) {
    size_t least = between(1, (size_t)(rate * MQ_PACE_MS / 1000), most);
    if (least >= prefetch * 2) { // it is faster than we are
        p->before = 0;
        return between(1, least, prefetch * 4);
    }
    if (!full) {
        p->before = 0;
        return prefetch;
    }
    if (p->before) return judge_trial(p, prefetch, rate);
    if (p->wait) {
        p->wait--;
        return prefetch;
    }
    return start_trial(p, prefetch, least, most, rate);
}

size_t mq_pace_next(struct mq_pace *p, size_t prefetch, size_t most, size_t out, size_t settled, int64_t now_ns) {
    if (p->begun_ns == 0 || p->prefetch != prefetch) {
        if (p->want == 0 || p->prefetch != prefetch) p->want = prefetch;
        if (out <= prefetch) begin(p, prefetch, settled, now_ns);
        return between(1, p->want, most);
    }
    double share = out >= prefetch ? 1 : (double)out / (double)prefetch;
    p->busy_ns += share * (double)(now_ns - p->seen_ns);
    p->seen_ns = now_ns;
    int64_t took_ns = now_ns - p->begun_ns;
    size_t count = settled - p->settled_at_begin;
    if (took_ns >= ROUND_NS && count >= prefetch) {
        double rate = (double)count * 1e9 / (double)took_ns;
        bool full = p->busy_ns >= FULL * (double)took_ns;
        begin(p, prefetch, settled, now_ns);
        p->want = end_round(p, prefetch, most, rate, full);
    }
    return between(1, p->want, most);
}
