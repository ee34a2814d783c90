// SPDX-License-Identifier: Apache-2.0
// Before and after a run: what a call's records become in their shape; what an outcome means for each of them; what the
// breaker is told. Only records that stand alone, or that the function named, are charged.
#include "workers/intake_impl.h"

#include <utlist.h>

#include "core/base/log.h"
#include "dlq/retry.h"

#define ESTIMATE_SLACK 1.05

// --- the breaker ----------------------------------------------------------------------------------------------------

bool intake_flows(const struct intake *in) {
    return !in->b->breaker || in->breaker.state == BREAKER_CLOSED;
}

static void tell_breaker(struct intake *in) {
    struct str name = str_of(in->b->name);
    bool open = in->breaker.state != BREAKER_CLOSED;
    metrics_set(in->c.metrics, METRIC_BREAKER_OPEN, name, open);
    if (in->breaker.state == BREAKER_OPEN) {
        metrics_add(in->c.metrics, METRIC_BREAKER_OPENED, name, 1);
        log_warn("breaker", "open: nothing is handed out but probes", LOG_SPAN("trigger", name), LOG_STR("why", in->breaker.why));
    } else if (!open) {
        log_info("breaker", "closed: records flow again", LOG_SPAN("trigger", name));
    }
    intake_wake_up(in);
}

static struct str type_of(const struct outcome_report *r) {
    if (r->outcome == OUTCOME_OK) return STR_NONE;
    return r->error_type.len ? r->error_type : str_of(outcome_word(r->outcome));
}

void intake_lose_probe(struct intake *in, struct delivery *d) {
    if (!d->probe) return;
    d->probe = false;
    breaker_probe_lost(&in->breaker);
    intake_wake_up(in);
}

// What one record's own attempt says.
static void judge(struct intake *in, struct delivery *d, const struct outcome_report *r) {
    bool says = r->outcome == OUTCOME_OK || retry_is_charged(r->outcome);
    if (!says) {
        intake_lose_probe(in, d);
    } else if (d->probe) {
        d->probe = false;
        if (breaker_probed(&in->breaker, type_of(r), intake_now_ms(in))) tell_breaker(in);
        intake_wake_up(in);
    } else if (d->ev->f.attempt == 0 && in->b->breaker) {
        if (breaker_note(&in->breaker, 1, type_of(r), intake_now_ms(in))) tell_breaker(in);
    }
}

// --- before the run -------------------------------------------------------------------------------------------------

static uint32_t half(size_t count) {
    return (uint32_t)(count + 1) / 2;
}

static void split(struct intake *in, struct delivery *call) {
    metrics_add(in->c.metrics, METRIC_CALLS_SPLIT, str_of(in->b->name), 1);
    intake_take_apart(in, call, half(call->batch->count));
}

// What its records become in their shape: up at once, down slowly.
static void learn_expansion(struct intake *in, const struct batch *b) {
    size_t before = 0;
    const struct delivery *d;
    DL_FOREACH(b->members, d) before += d->bytes;
    double now = (double)b->call.ev->f.payload.len / (double)(before + 1) * ESTIMATE_SLACK;
    in->expansion = now > in->expansion ? now : in->expansion * 0.9 + now * 0.1;
    if (in->expansion < 0.05) in->expansion = 0.05;
}

static bool render(struct intake *in, struct delivery *call) {
    struct batch *b = call->batch;
    size_t most = b->count > 1 ? in->b->batch_bytes : EV_PAYLOAD_MAX;
    struct err err = {0};
    int rc = call_render(b, most, &err);
    if (rc == 0) {
        learn_expansion(in, b);
        return true;
    }
    if (b->count > 1) {
        in->expansion *= 1.2;
        intake_take_apart(in, call, half(b->count));
    } else {
        settle_refuse(in->c.settle, call, LETTER_UNDECODABLE, ERR_TOO_LARGE, "TooLarge", str_of(CALL_TOO_LARGE));
    }
    return false;
}

static void hand(struct intake *in, struct delivery *d) {
    in->handed += !d->handed;
    d->handed = true;
}

static void hand_all(struct intake *in, struct delivery *d) {
    struct delivery *m;
    if (d->batch) DL_FOREACH(d->batch->members, m) hand(in, m);
    else hand(in, d);
    intake_tell_credit(in);
}

bool intake_handout(struct intake *in, struct delivery *d) {
    if (!intake_flows(in) && !d->probe) {
        if (d->batch) intake_take_apart(in, d, UINT32_MAX);
        else intake_back_to_gate(in, d);
        return true;
    }
    const struct ev_fields *f = &d->ev->f;
    if (f->attempt == 0)
        metrics_observe(in->c.metrics, METRIC_WAIT_SECONDS, f->function, delivery_waited_s(d, loop_unix_ms(in->c.loop)));
    if (d->batch && !render(in, d)) return true;
    hand_all(in, d);
    return false;
}

// --- after the run --------------------------------------------------------------------------------------------------

// d is FINISHED: its own attempt.
static void one_outcome(struct intake *in, struct delivery *d, const struct outcome_report *r) {
    judge(in, d, r);
    if (r->outcome == OUTCOME_OK) in->ok++;
    else if (retry_is_charged(r->outcome)) in->failed++;
    settle_outcome(in->c.settle, d, r);
}

static void take_version(struct delivery *d, struct version *v) {
    struct version *before = d->version;
    d->version = version_ref(v);
    version_unref(before);
}

static void records_ok(struct intake *in, struct delivery *list, size_t count, const struct id *id, const struct outcome_report *r) {
    struct delivery *d;
    DL_FOREACH(list, d) delivery_move(d, DELIVERY_FINISHED);
    in->ok += count;
    if (list->probe) judge(in, list, r);
    else if (in->b->breaker) breaker_note(&in->breaker, count, STR_NONE, intake_now_ms(in));
    metrics_observe(in->c.metrics, METRIC_RUN_SECONDS, str_of(in->b->function), (double)r->duration_us / 1e6);
    settle_done(in->c.settle, list, count, id, r);
}

static void call_ok(struct intake *in, struct batch *b, const struct outcome_report *r) {
    size_t count = b->count;
    const struct id id = b->call.ev->f.id;
    struct delivery *list = call_take_all(b);
    call_free(b);
    records_ok(in, list, count, &id, r);
}

// Sorts the records of a call whose result names some: what ran is done or failed; what follows a failed one of its key is
// to run again behind it.
static void some_failed(struct intake *in, struct batch *b, const bool *failed, const struct outcome_report *r) {
    struct outcome_report bad = *r;
    call_item_failed(&bad);
    const struct id id = b->call.ev->f.id;
    struct version *v = version_ref(b->call.version);
    struct delivery *all = call_take_all(b), *done = NULL, *ill = NULL, *behind = NULL, *d, *next;
    call_free(b);
    const struct gate_key *broken = NULL; // a key's records stand together
    size_t i = 0, done_count = 0;
    DL_FOREACH_SAFE(all, d, next) {
        bool is_failed = failed[i++], follows = d->key && d->key == broken;
        DL_DELETE(all, d);
        if (follows) {
            DL_APPEND(behind, d);
        } else if (is_failed) {
            broken = d->key;
            DL_APPEND(ill, d);
        } else {
            DL_APPEND(done, d);
            done_count++;
        }
    }
    intake_all_back(in, behind, UINT32_MAX);
    DL_FOREACH_SAFE(ill, d, next) {
        DL_DELETE(ill, d);
        take_version(d, v);
        delivery_move(d, DELIVERY_FINISHED);
        one_outcome(in, d, &bad);
    }
    if (done) records_ok(in, done, done_count, &id, r);
    version_unref(v);
}

static void call_failed(struct intake *in, struct delivery *call, const struct outcome_report *r) {
    struct batch *b = call->batch;
    if (b->count > 1) {
        metrics_add(in->c.metrics, METRIC_ATTEMPTS_FAILED, str_of(in->b->function), 1);
        if (retry_is_charged(r->outcome)) split(in, call);
        else intake_rest(in, call, RETRY_UNCHARGED_PACE_MS);
        return;
    }
    struct version *v = version_ref(call->version);
    struct delivery *d = call_take_all(b);
    call_free(b);
    take_version(d, v);
    delivery_move(d, DELIVERY_FINISHED);
    one_outcome(in, d, r);
    version_unref(v);
}

void intake_outcome(struct intake *in, struct delivery *d, const struct outcome_report *r) {
    struct batch *b = d->batch;
    if (!b) {
        one_outcome(in, d, r);
        return;
    }
    if (r->outcome != OUTCOME_OK) {
        call_failed(in, d, r);
        return;
    }
    cleanup_free bool *failed = mem_array(b->count, sizeof *failed);
    enum verdict v = call_verdict(b, r->result, failed);
    if (v == VERDICT_DONE) {
        call_ok(in, b, r);
    } else if (v == VERDICT_SOME) {
        some_failed(in, b, failed, r);
    } else {
        struct outcome_report bad = *r;
        call_item_failed(&bad);
        bad.error_message = STR_LIT("the batchItemFailures of the function's result do not name records that it got");
        call_failed(in, d, &bad);
    }
}
