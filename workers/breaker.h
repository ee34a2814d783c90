// SPDX-License-Identifier: Apache-2.0
// The circuit breaker of a binding: stops handing out records while (nearly) all of them fail in the same way, which says
// that what the function needs is away, and not that the records are bad.
//
//   closed ──too many fail──> open ──a probe succeeds──> half open ──ten records, few of them fail──> closed
//                              ^ └──a probe fails (waits twice as long)──^ └──────too many fail──────┘ (open again)
//
// Policy: of the last BREAKER_WINDOW records that were tried for the first time, none older than BREAKER_WINDOW_MS, at least
//   BREAKER_LEAST, the share that failed is at least `share`, and BREAKER_SAME of these failed with one error type. Open:
//   one record at a time, after 1 s, then after 2, 4, … 60 s. Pure: the clock is an argument. Threads: any.
// Units: milliseconds of any clock that does not go back.
#ifndef WORKERS_BREAKER_H
#define WORKERS_BREAKER_H

#include <stdint.h>

#include "core/base/mem.h"

#define BREAKER_WINDOW 100
#define BREAKER_WINDOW_MS 10000
#define BREAKER_LEAST 20
#define BREAKER_SAME 0.8
#define BREAKER_PROBE_MS 1000
#define BREAKER_PROBE_MAX_MS 60000
#define BREAKER_TRIAL 10 // records of the half open state
#define BREAKER_UNLIMITED SIZE_MAX

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

struct breaker {
    double share;
    enum breaker_state state;
    struct {
        int64_t ms;
        uint32_t type; // hash of the error type; 0: it succeeded
    } window[BREAKER_WINDOW];
    size_t at, count;
    int64_t since_ms;          // of the state
    int64_t probe_at_ms, probe_wait_ms;
    size_t out;                // probes under way
    size_t passed, failed;     // of the half open state
    char why[160];             // it opened
};

void breaker_init(struct breaker *b, double share);
const char *breaker_word(const struct breaker *b); // "closed", "open", "half-open"
// How many records may be handed out now: BREAKER_UNLIMITED when it is closed; else they are probes, one record a call.
size_t breaker_room(const struct breaker *b, int64_t now_ms);
// When to ask again; 0: when a probe comes back.
int64_t breaker_next_ms(const struct breaker *b, int64_t now_ms);
void breaker_probe_sent(struct breaker *b);
void breaker_probe_lost(struct breaker *b); // it was not run after all
// Records that were tried for the first time; type is empty when they succeeded. True: the state changed.
bool breaker_note(struct breaker *b, size_t records, struct str type, int64_t now_ms);
bool breaker_probed(struct breaker *b, struct str type, int64_t now_ms);

#endif
