// SPDX-License-Identifier: Apache-2.0
// How many messages of a queue should be out with a consumer whose speed nobody tells: by what it settles.
//
// Flow: mq_pace_next at every turn. It begins small, as a slow consumer would keep from other nodes what it has taken.
// The rules: (1) One that settles twice the prefetch in MQ_PACE_MS is fast: at once it gets what it settles in twice that time,
//   so that it never waits for the broker. Twice the prefetch, as then something was taken and settled in that time; once may
//   be a pool that ends all its long calls together.
//   (2) What is out beyond MQ_PACE_MS of work either runs or waits, which looks the same from here. So it is tried, in rounds in
//   which as many are settled as may be out, a second at the least: half as many out; when as much is settled as before, that was
//   waiting, and it stays there for other nodes; when not, everything is as before. Never below what is settled in twice
//   MQ_PACE_MS: a fast one is left alone. From time to time twice as many is tried the same way, for a consumer that has grown.
// Threads: one at a time. Pure: the clock is an argument.
#ifndef CORE_QUEUE_AMQP_PACE_H
#define CORE_QUEUE_AMQP_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MQ_PACE_FIRST 100u
#define MQ_PACE_MOST 4000u // more was not seen to be faster, and is much to sit on for one that turns slow
#define MQ_PACE_MS 250

struct mq_pace { // a zeroed one knows nothing yet
    int64_t begun_ns, seen_ns;
    size_t settled_at_begin;
    int64_t sprint_ns;     // since when rule (1) counts, and from what on
    size_t sprint_settled;
    double busy_ns;        // of the round, weighted with the share of the prefetch that was out
    size_t before;         // the trial's way back; 0: none is on
    double rate_before;    // settled in a second, before the trial
    unsigned wait, pause;  // rounds until the next trial, and how many it will be after that
    bool up;               // the next trial is upward
    size_t prefetch, want; // of this round, and what came out of the last
};
// What to have out now, 1..most and no more than MQ_PACE_MOST. `settled` counts all that ever was; `out` is what is unsettled.
size_t mq_pace_next(struct mq_pace *p, size_t prefetch, size_t most, size_t out, size_t settled, int64_t now_ns);

#endif
