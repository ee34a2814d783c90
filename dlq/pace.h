// SPDX-License-Identifier: Apache-2.0
// How many letters a job may have sent by now: its rate, and the ramp that leads up to it. Pure: the time is an argument.
#ifndef DLQ_PACE_H
#define DLQ_PACE_H

#include <stddef.h>
#include <stdint.h>

struct pace {
    double rate;       // letters a second, once the ramp is over; 0: as fast as it goes
    int64_t ramp_ms;   // it grows evenly from nothing for so long
    int64_t began_ns;  // any clock that does not go back
};

// How many more letters may go at now_ns, at most `room`, when `sent` have gone since it began. What was not used while nothing could go is
// not made up for in a burst: at most a second's worth (and one letter) is, and the rest of that time did not happen (began_ns moves).
size_t pace_room(struct pace *p, int64_t sent, int64_t now_ns, size_t room);

#endif
