// SPDX-License-Identifier: Apache-2.0
#include "dlq/pace.h"

static double allowed(const struct pace *p, int64_t now_ns) {
    double t = (double)(now_ns - p->began_ns) / 1e9, ramp = (double)p->ramp_ms / 1e3;
    return t < ramp ? p->rate * t * t / (2 * ramp) : p->rate * (t - ramp / 2);
}

size_t pace_room(struct pace *p, int64_t sent, int64_t now_ns, size_t room) {
    if (p->rate <= 0) return room;
    double left = allowed(p, now_ns) - (double)sent, most = p->rate + 1;
    if (left > most) {
        p->began_ns += (int64_t)((left - most) / p->rate * 1e9);
        left = most;
    }
    if (left < 1) return 0;
    return left < (double)room ? (size_t)left : room;
}
