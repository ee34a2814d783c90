// SPDX-License-Identifier: Apache-2.0
// Invariants: every accepted callback and every result callback runs exactly once, and never inside the call that asked
// for it; a sync call is in `calls` until its result was given or it was cancelled. One look at the store is under way at a
// time, for all events in `looked_for`, which came before it began.
#include "core/ingest.h"

#include <utlist.h>

#include "core/base/clock.h"
#include "core/base/fault.h"

#define SWEEP_MS 100          // how exact the waiting limit of sync calls is
#define STOPPING "the server is stopping; try again"
#define SYNC_SLACK_MS 5000    // a call without a deadline waits for two timeouts of the function and this
#define UNKNOWN_BYTES_MAX (64u * 1024 * 1024) // of events whose function or version is looked for

struct sync_call {
    struct ingest *ingest;
    struct id id;
    ingest_result_fn *fn;
    void *arg;
    int64_t limit_ms;         // Unix ms
    bool late;                // in `late` rather than in `calls`
    UT_hash_handle hh;
};

struct ingest {
    struct ingest_config c;
    bool stopped;
    size_t publishing;        // publishes without an answer
    struct publish *unknown;  // of a function or version that is not known here: they wait for a look that begins later
    struct publish *looked_for; // and these for the one that is under way
    size_t unknown_bytes;     // of both
    bool looking;
    struct sync_call *calls;  // by id
    struct sync_call *late;   // whose callers hear now that it is over
    struct timer *sweep;
    bool sweeping;
    struct refusal *refusals, **last_refusal; // to be told at the end of the turn
    struct defer refuse;
};

// An answer that was known at once, kept for the end of the turn.
struct refusal {
    struct refusal *next;
    struct err err;
    ingest_accepted_fn *accepted;
    ingest_result_fn *result;
    void *arg;
    struct sync_call *call;   // freed with it
};

// An event that was taken and has no answer yet.
struct publish {
    struct publish *prev, *next;
    struct ingest *ingest;
    struct ev *ev;           // NULL: its queue has it
    struct version *version; // that was resolved: names the function; NULL: it is looked for
    ingest_accepted_fn *accepted; // async; NULL: sync
    void *arg;
    struct id id;            // sync: names the call, which may be gone by then
};

static void tell_refusals(void *arg) {
    struct ingest *in = arg;
    struct refusal *r;
    while ((r = in->refusals)) { // one at a time: a callback may cancel another call
        in->refusals = r->next;
        if (!in->refusals) in->last_refusal = &in->refusals;
        if (r->accepted) r->accepted(r->arg, r->err.code, &r->err);
        if (r->result) r->result(r->arg, r->err.code, &r->err, NULL);
        free(r->call);
        free(r);
    }
}

static void count_refused(struct ingest *in, int code) {
    metrics_add(in->c.metrics, METRIC_EVENTS_REFUSED, str_of(err_word((enum err_code)code)), 1);
}

static struct refusal *refuse(struct ingest *in, const struct err *err) {
    count_refused(in, err->code);
    struct refusal *r = mem_zalloc(sizeof *r);
    r->err = *err;
    *in->last_refusal = r;
    in->last_refusal = &r->next;
    loop_defer(in->c.loop, &in->refuse);
    return r;
}

static int resolve(struct ingest *in, const struct ev *ev, struct version **ret, struct err *err) {
    return registry_resolve(in->c.registry, ev->f.function, ev->f.qualifier, ret, err);
}

// Is it an event that this installation takes? *ret: NULL when another node may have made its version a moment ago, so that it is
// to be looked for.
static int admit(struct ingest *in, const struct ev *ev, struct version **ret, struct err *err) {
    if (in->stopped) return err_set(err, ERR_UNAVAILABLE, STOPPING);
    if (ev->f.payload.len > EV_PAYLOAD_MAX)
        return err_set(err, ERR_TOO_LARGE, "the payload has %zu bytes; the limit is %u", ev->f.payload.len, EV_PAYLOAD_MAX);
    if (ev->f.header_count > EV_HEADERS_MAX)
        return err_set(err, ERR_TOO_LARGE, "the event has %zu headers; the limit is %u", ev->f.header_count, EV_HEADERS_MAX);
    int rc = resolve(in, ev, ret, err);
    if (rc != ERR_NOT_FOUND) return rc;
    if (in->unknown_bytes >= UNKNOWN_BYTES_MAX)
        return err_set(err, ERR_BUSY, "too many events of functions and versions that are not known here; try again");
    *ret = NULL;
    return 0;
}

static struct publish *publish_new(struct ingest *in, struct ev *ev) {
    struct publish *p = mem_alloc(sizeof *p);
    *p = (struct publish){.ingest = in, .ev = ev, .id = ev->f.id};
    in->publishing++;
    return p;
}

static void publish_free(struct publish *p) {
    p->ingest->publishing--;
    if (p->version) version_unref(p->version);
    ev_free(p->ev);
    free(p);
}

// The queue has it, or it never will. A sync call goes on waiting unless the memory queue is full.
static void answer(struct publish *p, int code, const struct err *err) {
    struct ingest *in = p->ingest;
    struct publish last = *p;
    if (code) count_refused(in, code);
    else metrics_add(in->c.metrics, METRIC_EVENTS_ACCEPTED, str_of(p->version->function), 1);
    publish_free(p);
    if (last.accepted) last.accepted(last.arg, code, err);
    else if (code) ingest_reply(in, &last.id, code, err, NULL);
}

static void on_confirm(void *arg, int code, const struct err *err) {
    struct publish *p = arg;
    if (p->accepted) FAULT("ingest.published");
    answer(p, code, err);
}

static void call_may_last(struct sync_call *call, const struct ev *ev, const struct version *v) {
    int64_t patience_ms = (v ? 2 * v->settings.timeout_ms : 0) + SYNC_SLACK_MS;
    call->limit_ms = ev->f.deadline_ms ? ev->f.deadline_ms : ev->f.accepted_ms + patience_ms;
}

static void send(struct publish *p, struct version *v) {
    struct ingest *in = p->ingest;
    p->version = version_ref(v);
    queue_publish(p->accepted ? in->c.queue : in->c.sync_lane, TAKE_PTR(p->ev), on_confirm, p);
}

// --- versions that are not known here -------------------------------------------------------------------------------

static void look_for_unknown(struct ingest *in);

static void send_found(struct publish *p, int code, const struct err *err) {
    struct ingest *in = p->ingest;
    struct err none = {0};
    struct version *v = NULL;
    struct sync_call *call = NULL;
    if (!p->accepted) {
        HASH_FIND(hh, in->calls, &p->id, sizeof p->id, call);
        if (!call) { // its caller went away
            publish_free(p);
            return;
        }
    }
    if (code == 0 && (code = resolve(in, p->ev, &v, &none)) != 0) err = &none;
    if (code) {
        answer(p, code, err);
        return;
    }
    if (call) call_may_last(call, p->ev, v);
    send(p, v);
}

static struct publish *take_first(struct ingest *in, struct publish **list) {
    struct publish *p = *list;
    if (!p) return NULL;
    DL_DELETE(*list, p);
    in->unknown_bytes -= ev_memory_bytes(p->ev);
    return p;
}

static void on_looked(void *arg, int code, const struct err *err) {
    struct ingest *in = arg;
    struct publish *p;
    while ((p = take_first(in, &in->looked_for))) send_found(p, code, err); // one at a time: a callback may stop us
    in->looking = false;
    look_for_unknown(in);
}

static void look_for_unknown(struct ingest *in) {
    if (in->looking || !in->unknown) return;
    in->looked_for = TAKE_PTR(in->unknown);
    in->looking = true;
    registry_refresh(in->c.registry, on_looked, in);
}

static void begin(struct publish *p, struct version *v) {
    struct ingest *in = p->ingest;
    if (v) {
        send(p, v);
        return;
    }
    in->unknown_bytes += ev_memory_bytes(p->ev);
    DL_APPEND(in->unknown, p);
    look_for_unknown(in);
}

static void turn_away_unknown(struct ingest *in) {
    struct err err = {0};
    struct publish *p;
    err_set(&err, ERR_UNAVAILABLE, STOPPING);
    while ((p = take_first(in, &in->looked_for)) || (p = take_first(in, &in->unknown))) {
        if (p->accepted) answer(p, err.code, &err);
        else publish_free(p); // its call has ended
    }
}

// --- async calls ----------------------------------------------------------------------------------------------------

void ingest_async(struct ingest *in, struct ev *ev, ingest_accepted_fn *accepted, void *arg) {
    struct err err = {0};
    struct version *v;
    if (admit(in, ev, &v, &err)) {
        struct refusal *r = refuse(in, &err);
        r->accepted = accepted;
        r->arg = arg;
        ev_free(ev);
        return;
    }
    struct publish *p = publish_new(in, ev);
    p->accepted = accepted;
    p->arg = arg;
    begin(p, v);
}

// --- sync calls -----------------------------------------------------------------------------------------------------

// Ends the calls whose limit is not after `until_ms`. A callback may cancel another of them.
static void end_calls(struct ingest *in, int64_t until_ms, const struct err *why) {
    struct sync_call *call, *next;
    HASH_ITER(hh, in->calls, call, next) {
        if (call->limit_ms > until_ms) continue;
        HASH_DEL(in->calls, call);
        call->late = true;
        HASH_ADD(hh, in->late, id, sizeof call->id, call);
    }
    while ((call = in->late)) {
        HASH_DEL(in->late, call);
        call->fn(call->arg, why->code, why, NULL);
        free(call);
    }
}

static void sweep(void *arg) {
    struct ingest *in = arg;
    struct err err = {0};
    err_set(&err, ERR_TIMEOUT, "no instance finished the call in the time that its caller waits");
    end_calls(in, clock_unix_ms(), &err);
    in->sweeping = in->calls != NULL;
    if (in->sweeping) timer_start(in->sweep, SWEEP_MS);
}

struct sync_call *ingest_sync(struct ingest *in, struct ev *ev, ingest_result_fn *fn, void *arg) {
    struct sync_call *call = mem_zalloc(sizeof *call);
    *call = (struct sync_call){.ingest = in, .id = ev->f.id, .fn = fn, .arg = arg};
    struct err err = {0};
    struct version *v;
    if (admit(in, ev, &v, &err)) {
        struct refusal *r = refuse(in, &err);
        r->result = fn;
        r->arg = arg;
        r->call = call;
        ev_free(ev);
        return call;
    }
    ev->f.invocation = EV_SYNC;
    call_may_last(call, ev, v);
    HASH_ADD(hh, in->calls, id, sizeof call->id, call);
    if (!in->sweeping) {
        in->sweeping = true;
        timer_start(in->sweep, SWEEP_MS);
    }
    begin(publish_new(in, ev), v);
    return call;
}

void ingest_sync_cancel(struct sync_call *call) {
    struct ingest *in = call->ingest;
    for (struct refusal *r = in->refusals; r; r = r->next)
        if (r->call == call) {
            r->result = NULL;
            return;
        }
    if (call->late) HASH_DEL(in->late, call);
    else HASH_DEL(in->calls, call);
    free(call);
}

bool ingest_is_awaited(struct ingest *in, const struct id *id) {
    struct sync_call *call;
    HASH_FIND(hh, in->calls, id, sizeof *id, call);
    return call != NULL;
}

bool ingest_reply(struct ingest *in, const struct id *id, int code, const struct err *err, const struct outcome_report *result) {
    struct sync_call *call;
    HASH_FIND(hh, in->calls, id, sizeof *id, call);
    if (!call) return false;
    HASH_DEL(in->calls, call);
    call->fn(call->arg, code, err, result);
    free(call);
    return true;
}

// --- life -----------------------------------------------------------------------------------------------------------

struct ingest *ingest_new(const struct ingest_config *config) {
    struct ingest *in = mem_zalloc(sizeof *in);
    in->c = *config;
    in->last_refusal = &in->refusals;
    in->sweep = timer_new(config->loop, sweep, in);
    in->refuse = (struct defer){.fn = tell_refusals, .arg = in};
    return in;
}

void ingest_stop(struct ingest *in) {
    in->stopped = true;
    struct err err = {0};
    err_set(&err, ERR_UNAVAILABLE, STOPPING);
    end_calls(in, INT64_MAX, &err);
    turn_away_unknown(in);
}

size_t ingest_waiting(const struct ingest *in) {
    return HASH_COUNT(in->calls) + in->publishing;
}

void ingest_free(struct ingest *in) {
    if (!in) return;
    tell_refusals(in);
    loop_defer_cancel(in->c.loop, &in->refuse);
    struct sync_call *call, *next;
    HASH_ITER(hh, in->calls, call, next) {
        HASH_DEL(in->calls, call);
        free(call);
    }
    turn_away_unknown(in);
    timer_free(in->sweep);
    free(in);
}
