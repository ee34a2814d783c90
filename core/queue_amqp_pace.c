// SPDX-License-Identifier: Apache-2.0
// Sprints (rule 1), rounds and trials (rule 2). Only a round in which nearly all that may be out was out says anything: else
// the queue was empty. A sprint proves that the consumer is fast however little is out, and ends a trial.
#include "core/queue_amqp_pace.h"

#include "core/base/clock.h"

#define ROUND_NS (1000 * NS_PER_MS)
#define SPRINT_NS (MQ_PACE_MS * NS_PER_MS)
#define FULL 0.75        // share of the prefetch that was out, from which on the consumer counts as the limit
#define AS_MUCH 0.85     // of the rate before: a downward trial lost nothing
#define MORE 1.2         // an upward trial won something
#define PAUSE_FIRST 4u
#define PAUSE_MAX 32u

static size_t between(size_t least, size_t n, size_t most) {
    return n > most ? most : n < least ? least : n;
}

static void begin(struct mq_pace *p, size_t prefetch, size_t settled, int64_t now_ns) {
    p->begun_ns = p->seen_ns = p->sprint_ns = now_ns;
    p->settled_at_begin = p->sprint_settled = settled;
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
    bool room_up = prefetch * 2 <= most, room_down = prefetch / 2 >= least;
    if (!room_up && !room_down) return prefetch;
    p->up = room_up && (p->up || !room_down);
    p->before = prefetch;
    p->rate_before = rate;
    return p->up ? prefetch * 2 : prefetch / 2;
}

static size_t judge_trial(struct mq_pace *p, size_t prefetch, double rate) {
    bool good = p->up ? rate >= p->rate_before * MORE : rate >= p->rate_before * AS_MUCH;
    if (!good) return end_trial(p, p->before);
    p->before = 0; // and the next round goes on in the same direction
    p->pause = 0;
    return prefetch;
}

static size_t end_round(struct mq_pace *p, size_t prefetch, size_t most, double rate, bool full) {
    if (!full) {
        p->before = 0;
        return prefetch;
    }
    if (p->before) return judge_trial(p, prefetch, rate);
    if (p->wait) {
        p->wait--;
        return prefetch;
    }
    size_t least = between(1, (size_t)(rate * 2 * MQ_PACE_MS / 1000), most);
    return start_trial(p, prefetch, least, most, rate);
}

// What one that is fast should have; 0: it is not, or not yet.
static size_t end_sprint(struct mq_pace *p, size_t prefetch, size_t settled, int64_t now_ns) {
    int64_t took_ns = now_ns - p->sprint_ns;
    size_t count = settled - p->sprint_settled;
    bool fast = took_ns > 0 && took_ns <= SPRINT_NS && count >= prefetch * 2;
    if (!fast && took_ns < SPRINT_NS) return 0;
    p->sprint_ns = now_ns;
    p->sprint_settled = settled;
    return fast ? (size_t)((double)count * 2 * SPRINT_NS / (double)took_ns) : 0;
}

size_t mq_pace_next(struct mq_pace *p, size_t prefetch, size_t most, size_t out, size_t settled, int64_t now_ns) {
    most = between(1, most, MQ_PACE_MOST);
    if (p->begun_ns == 0 || p->prefetch != prefetch) {
        if (p->want == 0 || p->prefetch != prefetch) p->want = prefetch;
        if (out <= prefetch) begin(p, prefetch, settled, now_ns);
        return between(1, p->want, most);
    }
    double share = out >= prefetch ? 1 : (double)out / (double)prefetch;
    p->busy_ns += share * (double)(now_ns - p->seen_ns);
    p->seen_ns = now_ns;
    size_t fast = end_sprint(p, prefetch, settled, now_ns);
    int64_t took_ns = now_ns - p->begun_ns;
    size_t count = settled - p->settled_at_begin;
    if (took_ns >= ROUND_NS && count >= prefetch) {
        double rate = (double)count * 1e9 / (double)took_ns;
        bool full = p->busy_ns >= FULL * (double)took_ns;
        begin(p, prefetch, settled, now_ns);
        p->want = end_round(p, prefetch, most, rate, full);
    }
    if (fast) {
        p->before = p->wait = p->pause = 0; // when it turns slow, that is seen soon
        p->want = fast;
    }
    return between(1, p->want, most);
}
