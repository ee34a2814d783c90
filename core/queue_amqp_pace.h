// SPDX-License-Identifier: Apache-2.0
// How many messages of a queue should be out with a consumer whose speed nobody tells: by what it settles.
//
// Flow: mq_pace_next at every turn; what it says changes at most once a round. A round begins when no more than `prefetch`
//   are out and ends when as many were settled as may be out, a second later at the earliest.
// The rule: (1) at least what is settled in MQ_PACE_MS, so that a fast consumer never waits for the broker. (2) What is out
//   beyond that either runs or waits, which looks the same from here. So it is tried: half as many out; when as much is settled
//   as before, that was waiting, and it stays there for other nodes; when not, everything is as before. From time to time
//   twice as many is tried the same way, for a consumer that has grown.
// Threads: one at a time. Pure: the clock is an argument.
#ifndef CORE_QUEUE_AMQP_PACE_H
#define CORE_QUEUE_AMQP_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MQ_PACE_FIRST 100u
#define MQ_PACE_MS 200

struct mq_pace { // a zeroed one knows nothing yet
    int64_t begun_ns, seen_ns;
    size_t settled_at_begin;
    double busy_ns;        // of the round, weighted with the share of the prefetch that was out
    size_t before;         // the trial's way back; 0: none is on
    double rate_before;    // settled in a second, before the trial
    unsigned wait, pause;  // rounds until the next trial, and how many it will be after that
    int up;                // the next trial is upward
    size_t prefetch, want; // of this round, and what came out of the last
};
// What to have out now, 1..most. `settled` counts all that ever was; `out` is what is unsettled.
size_t mq_pace_next(struct mq_pace *p, size_t prefetch, size_t most, size_t out, size_t settled, int64_t now_ns);

#endif
