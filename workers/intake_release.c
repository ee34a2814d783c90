// SPDX-License-Identifier: Apache-2.0
// The ways back: to the gate, to rest until the next try, and to the source when the binding, or a partition of it, is let go.
#include "workers/intake_impl.h"

#include <utlist.h>

#define CLOSE_LOOK_MS 10

// --- back to the gate -----------------------------------------------------------------------------------------------

void intake_back_to_gate(struct intake *in, struct delivery *d) {
    intake_lose_probe(in, d);
    intake_unhand(in, d);
    if (d->state != DELIVERY_WAITING) delivery_move(d, DELIVERY_WAITING);
    gate_return(&in->gate, d);
    intake_wake_up(in);
}

// The last first, so that all stand in their order before the others of their keys.
void intake_all_back(struct intake *in, struct delivery *list, uint32_t joins) {
    while (list) {
        struct delivery *d = list->prev; // the last
        DL_DELETE(list, d);
        if (d->joins > joins) d->joins = joins;
        intake_back_to_gate(in, d);
    }
}

void intake_take_apart(struct intake *in, struct delivery *call, uint32_t joins) {
    struct delivery *list = call_take_all(call->batch);
    call_free(call->batch);
    intake_all_back(in, list, joins);
}

// --- the next try ---------------------------------------------------------------------------------------------------

static struct delivery *end_rest(struct rest *rest) {
    struct intake *in = rest->intake;
    struct delivery *d = rest->d;
    DL_DELETE(in->rests, rest);
    in->rest_count--;
    in->rest_records -= rest->records;
    timer_free(rest->timer);
    free(rest);
    return d;
}

static void on_rested(void *arg) {
    struct rest *rest = arg;
    struct intake *in = rest->intake;
    struct delivery *d = end_rest(rest);
    if (intake_flows(in)) {
        intake_run_again(in, d);
    } else if (d->batch) {
        intake_take_apart(in, d, UINT32_MAX);
    } else {
        DL_APPEND(in->due, d);
        in->due_count++;
        intake_wake_up(in);
    }
}

static void unhand_all(struct intake *in, struct delivery *d) {
    struct delivery *m;
    if (d->batch) DL_FOREACH(d->batch->members, m) intake_unhand(in, m);
    else intake_unhand(in, d);
}

void intake_rest(struct intake *in, struct delivery *d, int64_t delay_ms) {
    if (d->state != DELIVERY_WAITING) delivery_move(d, DELIVERY_WAITING);
    d->joins = 1;
    unhand_all(in, d);
    struct rest *rest = mem_zalloc(sizeof *rest);
    *rest = (struct rest){.intake = in, .d = d, .records = d->batch ? d->batch->count : 1, .timer = timer_new(in->c.loop, on_rested, rest)};
    timer_start(rest->timer, delay_ms > 0 ? delay_ms : 0);
    DL_APPEND(in->rests, rest);
    in->rest_count++;
    in->rest_records += rest->records;
    if (in->paused) intake_wake_up(in);
}

// --- letting go -----------------------------------------------------------------------------------------------------

// All that has been run and has not begun goes back to the gate.
static void recall(struct intake *in) {
    struct delivery *list = in->c.take_waiting(in->c.arg, in);
    while (list) {
        struct delivery *d = list->prev;
        DL_DELETE(list, d);
        if (d->batch) intake_take_apart(in, d, UINT32_MAX);
        else intake_back_to_gate(in, d);
    }
}

static void drop_tries(struct intake *in, bool all, uint32_t partition) {
    struct rest *rest, *next;
    DL_FOREACH_SAFE(in->rests, rest, next) {
        struct delivery *d = rest->d;
        if (d->batch) intake_take_apart(in, end_rest(rest), UINT32_MAX);
        else if (all || d->partition == partition) delivery_release(end_rest(rest));
    }
    struct delivery *d, *after;
    DL_FOREACH_SAFE(in->due, d, after) {
        if (!all && d->partition != partition) continue;
        DL_DELETE(in->due, d);
        in->due_count--;
        delivery_release(d);
    }
}

// Gives back all that does not run, or what of it is of one partition.
void intake_drop_waiting(struct intake *in, bool all, uint32_t partition) {
    recall(in);
    drop_tries(in, all, partition);
    struct delivery *list = gate_drop(&in->gate, all, partition), *d, *next;
    DL_FOREACH_SAFE(list, d, next) {
        DL_DELETE(list, d);
        delivery_release(d);
    }
}

void intake_pause(struct intake *in) {
    in->paused = true;
    if (!in->consumer) return;
    queue_consumer_pause(in->consumer);
    outlet_stop(in->outlet);
    intake_drop_waiting(in, true, 0);
}

void intake_look_at_end(struct intake *in) {
    if (in->closed) return;
    intake_pause(in);
    if (in->closing) settle_abandon_intake(in->c.settle, in);
    if (!intake_is_quiet(in)) {
        if (in->closing) timer_start(in->timer, CLOSE_LOOK_MS);
        return;
    }
    if (in->consumer) queue_consumer_close(in->consumer);
    in->consumer = NULL;
    if (!in->closing) return;
    in->closed = true;
    in->c.on_closed(in->c.arg, in);
}

void intake_close(struct intake *in) {
    in->closing = true;
    intake_pause(in);
    intake_wake_up(in);
}
