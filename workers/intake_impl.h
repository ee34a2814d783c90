// SPDX-License-Identifier: Apache-2.0
// What the files of workers/intake share: intake.c (arrival, running, life), intake_outcome.c (before and after a run) and
// intake_release.c (the next try, letting go). Only they include it.
#ifndef WORKERS_INTAKE_IMPL_H
#define WORKERS_INTAKE_IMPL_H

#include "workers/breaker.h"
#include "workers/gate.h"
#include "workers/intake.h"

// A record, or a call that is to go again whole, until its next try.
struct rest {
    struct rest *prev, *next;
    struct intake *intake;
    struct delivery *d;
    size_t records;
    struct timer *timer;
};

struct intake {
    struct intake_config c;
    const struct binding *b;
    struct queue_consumer *consumer; // NULL: closed
    struct gate gate;
    struct breaker breaker;
    struct outlet *outlet;
    struct rest *rests;
    struct delivery *due;            // their time has come, but the breaker is not closed
    size_t rest_count, due_count;
    size_t rest_records;             // of rests; a call has several
    size_t handed;                   // records with d->handed
    size_t open;
    size_t credit;                   // as the consumer knows it
    bool paused, closing, closed;
    int64_t ready_since_ns;          // records wait in the gate since then; 0: none
    double expansion;                // bytes that the function gets for one of ev_memory_bytes
    uint64_t ok, failed, filtered;
    struct defer pump;
    struct timer *timer;             // window, probe, the look at the end
};

int64_t intake_now_ms(const struct intake *in);
void intake_wake_up(struct intake *in);                 // intake_pump at the end of the turn
void intake_pump(void *arg);
void intake_run_again(struct intake *in, struct delivery *d); // a record alone, or a call whole
// Before more are handed out, or after they went elsewhere: the consumer hears how many may be out now. Cheap.
void intake_tell_credit(struct intake *in);
void intake_unhand(struct intake *in, struct delivery *d);
// The breaker lets all through.
bool intake_flows(const struct intake *in);
void intake_lose_probe(struct intake *in, struct delivery *d); // it was not run after all; fine when it is none
// Records that were taken from the gate go back there, before the others of their keys.
void intake_back_to_gate(struct intake *in, struct delivery *d);
void intake_all_back(struct intake *in, struct delivery *list, uint32_t joins);
void intake_take_apart(struct intake *in, struct delivery *call, uint32_t joins);
// Gives back all that does not run, or what of it is of one partition.
void intake_drop_waiting(struct intake *in, bool all, uint32_t partition);
void intake_look_at_end(struct intake *in);             // it is paused

#endif
