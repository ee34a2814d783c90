// SPDX-License-Identifier: Apache-2.0
// Invariant: every delivery taken is in `pending` until it was settled or released.
#include "workers/settle.h"

#include <utlist.h>

#include "core/base/clock.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "dlq/history.h"
#include "dlq/retry.h"
#include "workers/batch.h"

// A delivery whose end is not reached: a step of it is on the way to the store (its letter, then the end of its fire), or it
// waits for its next sync attempt.
struct pending {
    struct pending *prev, *next;
    struct settle *settle;
    struct delivery *d;
    void (*step)(struct pending *p);
    struct ev *ev;             // as the letter keeps it: attempt and history brought up to date; NULL: no letter
    struct letter_draft draft; // its error spans point into `text`
    char *text;
    struct timer *again;       // sync: the next attempt
    bool again_later;          // the store was away: the step is to be done again
};

struct settle {
    struct settle_config c;
    struct pending *pending;
    size_t count;
    struct timer *retry;       // of what could not be stored
    bool retry_armed;
    struct log_repeat trouble;
    unsigned random;
};

static void pending_done(struct pending *p) {
    struct settle *s = p->settle;
    DL_DELETE(s->pending, p);
    s->count--;
    timer_free(p->again);
    ev_free(p->ev);
    free(p->text);
    free(p);
}

static struct pending *pending_new(struct settle *s, struct delivery *d) {
    struct pending *p = mem_zalloc(sizeof *p);
    *p = (struct pending){.settle = s, .d = d};
    DL_APPEND(s->pending, p);
    s->count++;
    return p;
}

// --- steps in the store ----------------------------------------------------------------------------------------------

static void take_step(struct pending *p, void (*step)(struct pending *p)) {
    p->again_later = false;
    p->step = step;
    step(p);
}

// Is the step done? If not, it is done again later.
static bool step_done(struct pending *p, int code, const struct err *err) {
    struct settle *s = p->settle;
    if (code == ERR_OK) return true;
    log_repeating(&s->trouble, LOG_LEVEL_ERROR, "settle", "cannot store what became of events; they stay on the queue", err->text);
    p->again_later = true;
    if (!s->retry_armed) timer_start(s->retry, SETTLE_AGAIN_MS);
    s->retry_armed = true;
    return false;
}

static void on_retry(void *arg) {
    struct settle *s = arg;
    s->retry_armed = false;
    struct pending *p, *next;
    DL_FOREACH_SAFE(s->pending, p, next) if (p->again_later) take_step(p, p->step);
}

static bool ends_fire(const struct settle *s, const struct delivery *d) {
    return s->c.fires && !d->intake && !delivery_is_sync(d) && fires_is_fire(d->ev);
}

static void on_fire_ended(void *arg, int code, const struct err *err) {
    struct pending *p = arg;
    if (!step_done(p, code, err)) return;
    FAULT("fire.ended");
    delivery_settle(p->d);
    pending_done(p);
}

static void end_fire(struct pending *p) {
    fires_end(p->settle->c.fires, p->d->ev, p->ev ? FIRE_DEAD : FIRE_OK, on_fire_ended, p);
}

// --- replays: their job hears what became of an event before it is acknowledged

static bool ends_replay(const struct settle *s, const struct delivery *d) {
    return s->c.replays && !d->intake && !delivery_is_sync(d) && replays_is_replay(d->ev);
}

static void on_replay_told(void *arg, int code, const struct err *err) {
    struct pending *p = arg;
    if (!step_done(p, code, err)) return;
    delivery_settle(p->d);
    pending_done(p);
}

static void tell_replay(struct pending *p) {
    replays_outcome(p->settle->c.replays, p->d->ev, p->ev ? REPLAY_OUTCOME_DEAD : REPLAY_OUTCOME_OK, on_replay_told, p);
}

// Only the last word must be durable before the acknowledgement.
static void on_failing_told(void *arg, int code, const struct err *err) {
    (void)arg, (void)code, (void)err;
}

static void on_dead(struct pending *p) {
    struct settle *s = p->settle;
    if (ends_fire(s, p->d)) {
        take_step(p, end_fire);
        return;
    }
    if (ends_replay(s, p->d)) {
        take_step(p, tell_replay);
        return;
    }
    struct outlet *o = s->c.outlet_of(s->c.arg, p->d, true);
    if (o) outlet_failure(o, p->d, &p->draft);
    else delivery_settle(p->d);
    pending_done(p);
}

static void on_put(void *arg, int code, const struct err *err) {
    struct pending *p = arg;
    struct settle *s = p->settle;
    if (!step_done(p, code, err)) return;
    FAULT2("letter.", letter_state_word(p->draft.state));
    bool dead = p->draft.state == LETTER_DEAD;
    bool held = p->draft.kind == LETTER_DELAYED; // by settle_hold, again and again
    if (!held) metrics_add(s->c.metrics, dead ? METRIC_LETTERS_DEAD : METRIC_LETTERS_DUE, p->ev->f.function, 1);
    if (dead) {
        on_dead(p);
        return;
    }
    s->c.on_due(s->c.arg, p->draft.due_ms);
    if (ends_replay(s, p->d)) replays_outcome(s->c.replays, p->ev, REPLAY_OUTCOME_FAILING, on_failing_told, NULL);
    delivery_settle(p->d);
    pending_done(p);
}

static void put_letter(struct pending *p) {
    letters_put(p->settle->c.letters, &p->draft, on_put, p);
}

// --- letters --------------------------------------------------------------------------------------------------------

static void keep_error(struct pending *p, struct str type, struct str message, struct str stack) {
    p->text = mem_alloc(type.len + message.len + stack.len);
    if (type.len) memcpy(p->text, type.data, type.len);
    if (message.len) memcpy(p->text + type.len, message.data, message.len);
    if (stack.len) memcpy(p->text + type.len + message.len, stack.data, stack.len);
    p->draft.error_type = (struct str){p->text, type.len};
    p->draft.error_message = (struct str){p->text + type.len, message.len};
    p->draft.stack = (struct str){p->text + type.len + message.len, stack.len};
}

// The event with the attempt charged (or not) and told in its history.
static struct ev *event_after(const struct ev *ev, const struct outcome_report *report, bool charged, bool tell) {
    struct ev_fields f = ev->f;
    struct buf history;
    buf_init(&history, 2 * HISTORY_MAX);
    if (charged) f.attempt++;
    if (tell) {
        history_append(&history, f.history, charged ? f.attempt : 0, report);
        f.history = buf_str(&history);
    }
    struct ev *after = ev_new(&f);
    buf_done(&history);
    return after;
}

static enum letter_kind kind_of(const struct outcome_report *report) {
    if (report->outcome == OUTCOME_THROTTLED) return LETTER_THROTTLED;
    if (report->outcome == OUTCOME_PLATFORM) return LETTER_PLATFORM;
    return LETTER_FUNCTION;
}

static void write_letter(struct settle *s, struct delivery *d, const struct outcome_report *report,
                         const struct retry_decision *decision) {
    struct pending *p = pending_new(s, d);
    bool charged = retry_is_charged(report->outcome);
    p->ev = event_after(d->ev, report, charged, charged || !decision->again);
    p->draft = (struct letter_draft){.ev = p->ev,
                                     .state = decision->again ? LETTER_DUE : LETTER_DEAD,
                                     .kind = kind_of(report),
                                     .due_ms = decision->at_ms,
                                     .version = report->version};
    keep_error(p, report->error_type, report->error_message, report->stack);
    delivery_move(d, DELIVERY_STORING);
    take_step(p, put_letter);
}

// --- again in memory ------------------------------------------------------------------------------------------------

static void replace_event(struct delivery *d, const struct outcome_report *report, bool tell) {
    struct ev *after = event_after(d->ev, report, retry_is_charged(report->outcome), tell);
    ev_free(d->ev);
    d->ev = after;
}

static void on_again(void *arg) {
    struct pending *p = arg;
    struct settle *s = p->settle;
    struct delivery *d = p->d;
    pending_done(p);
    s->c.on_again(s->c.arg, d);
}

static void again_in_memory(struct settle *s, struct delivery *d, const struct outcome_report *report, int64_t delay_ms) {
    struct pending *p = pending_new(s, d);
    replace_event(d, report, false);
    p->again = timer_new(s->c.loop, on_again, p);
    timer_start(p->again, delay_ms);
}

static void answer(struct settle *s, struct delivery *d, const struct outcome_report *report) {
    struct err err = {0};
    int code = ERR_OK;
    if (report->outcome == OUTCOME_PLATFORM)
        code = err_set(&err, ERR_UNAVAILABLE, "%.*s", STR_ARG(report->error_message));
    ingest_reply(s->c.ingest, &d->ev->f.id, code, &err, report);
}

// --- the way ----------------------------------------------------------------------------------------------------------

static double draw(struct settle *s) {
    return rand_r(&s->random) / ((double)RAND_MAX + 1.0);
}

static struct retry_decision decide(struct settle *s, const struct delivery *d, const struct outcome_report *report) {
    const struct settings *set = &d->version->settings;
    const struct retry_policy policy = {.retries = set->retries,
                                        .backoff_ms = set->backoff_ms,
                                        .backoff_count = set->backoff_count,
                                        .max_age_ms = set->max_age_ms};
    const struct retry_case c = {.outcome = report->outcome,
                                 .attempts = d->ev->f.attempt + retry_is_charged(report->outcome),
                                 .sync = delivery_is_sync(d),
                                 .accepted_ms = d->ev->f.accepted_ms,
                                 .deadline_ms = d->ev->f.deadline_ms,
                                 .now_ms = loop_unix_ms(s->c.loop),
                                 .random = draw(s)};
    return retry_decide(&policy, &c);
}

static void end_ok(struct settle *s, struct delivery *d, const struct outcome_report *report) {
    metrics_add(s->c.metrics, METRIC_EVENTS_OK, d->ev->f.function, 1);
    if (ends_fire(s, d)) {
        delivery_move(d, DELIVERY_STORING);
        take_step(pending_new(s, d), end_fire);
        return;
    }
    if (ends_replay(s, d)) {
        delivery_move(d, DELIVERY_STORING);
        take_step(pending_new(s, d), tell_replay);
        return;
    }
    struct outlet *o = NULL;
    if (delivery_is_sync(d)) answer(s, d, report);
    else o = s->c.outlet_of(s->c.arg, d, false);
    if (!o) {
        delivery_settle(d);
        return;
    }
    struct delivery *list = NULL;
    DL_APPEND(list, d);
    outlet_result(o, list, &d->ev->f.id, report->result);
}

void settle_done(struct settle *s, struct delivery *list, size_t count, const struct id *id, const struct outcome_report *report) {
    metrics_add(s->c.metrics, METRIC_EVENTS_OK, list->ev->f.function, (double)count);
    struct outlet *o = s->c.outlet_of(s->c.arg, list, false);
    if (o) {
        outlet_result(o, list, id, report->result);
        return;
    }
    struct delivery *d, *next;
    DL_FOREACH_SAFE(list, d, next) {
        DL_DELETE(list, d);
        delivery_settle(d);
    }
}

void settle_outcome(struct settle *s, struct delivery *d, const struct outcome_report *report) {
    struct str function = d->ev->f.function;
    bool sync = delivery_is_sync(d);
    metrics_observe(s->c.metrics, METRIC_RUN_SECONDS, function, (double)report->duration_us / 1e6);
    if (report->outcome == OUTCOME_OK) {
        end_ok(s, d, report);
        return;
    }
    metrics_add(s->c.metrics, METRIC_ATTEMPTS_FAILED, function, 1);
    struct retry_decision decision = decide(s, d, report);
    if (!sync && d->in_place && decision.again) {
        replace_event(d, report, retry_is_charged(report->outcome));
        s->c.on_rest(s->c.arg, d, decision.at_ms - loop_unix_ms(s->c.loop));
    } else if (!sync) {
        write_letter(s, d, report, &decision);
    } else if (decision.again && ingest_is_awaited(s->c.ingest, &d->ev->f.id)) {
        again_in_memory(s, d, report, decision.at_ms - loop_unix_ms(s->c.loop));
    } else {
        answer(s, d, report);
        delivery_settle(d);
    }
}

static void refuse_records(struct settle *s, struct batch *b, enum letter_kind kind, int code, const char *type, struct str why) {
    struct delivery *list = call_take_all(b), *d, *next;
    call_free(b);
    DL_FOREACH_SAFE(list, d, next) {
        DL_DELETE(list, d);
        settle_refuse(s, d, kind, code, type, why);
    }
}

void settle_refuse(struct settle *s, struct delivery *d, enum letter_kind kind, int code, const char *type, struct str why) {
    if (d->batch) {
        refuse_records(s, d->batch, kind, code, type, why);
        return;
    }
    if (delivery_is_sync(d)) {
        struct err err = {0};
        err_set(&err, code, "%.*s", STR_ARG(why));
        ingest_reply(s->c.ingest, &d->ev->f.id, code, &err, NULL);
        delivery_settle(d);
        return;
    }
    struct pending *p = pending_new(s, d);
    p->ev = ev_new(&d->ev->f);
    p->draft = (struct letter_draft){.ev = p->ev, .state = LETTER_DEAD, .kind = kind};
    keep_error(p, str_of(type), why, STR_NONE);
    delivery_move(d, DELIVERY_STORING);
    take_step(p, put_letter);
}

void settle_hold(struct settle *s, struct delivery *d, struct str why, bool age_anew) {
    struct pending *p = pending_new(s, d);
    struct ev_fields f = d->ev->f;
    int64_t now_ms = loop_unix_ms(s->c.loop);
    if (age_anew) f.accepted_ms = now_ms;
    p->ev = ev_new(&f);
    p->draft = (struct letter_draft){.ev = p->ev,
                                     .state = LETTER_DUE,
                                     .kind = LETTER_DELAYED,
                                     .due_ms = (now_ms / SETTLE_HOLD_MS + 1) * SETTLE_HOLD_MS}; // of all at once, so that they go in their order
    keep_error(p, STR_LIT("Held"), why, STR_NONE);
    delivery_move(d, DELIVERY_STORING);
    take_step(p, put_letter);
}

size_t settle_pending(const struct settle *s) {
    return s->count;
}

void settle_abandon(struct settle *s) {
    struct pending *p, *next;
    DL_FOREACH_SAFE(s->pending, p, next) {
        if (p->again_later) {
            delivery_release(p->d);
            pending_done(p);
        } else if (p->again) {
            struct err err = {0};
            err_set(&err, ERR_UNAVAILABLE, "the server stopped before the next attempt");
            ingest_reply(s->c.ingest, &p->d->ev->f.id, err.code, &err, NULL);
            delivery_settle(p->d);
            pending_done(p);
        }
    }
}

void settle_abandon_intake(struct settle *s, const struct intake *in) {
    struct pending *p, *next;
    DL_FOREACH_SAFE(s->pending, p, next) {
        if (p->d->intake != in || !p->again_later) continue;
        delivery_release(p->d);
        pending_done(p);
    }
}

struct settle *settle_new(const struct settle_config *config) {
    struct settle *s = mem_zalloc(sizeof *s);
    s->c = *config;
    s->retry = timer_new(config->loop, on_retry, s);
    s->random = (unsigned)clock_mono_ns();
    return s;
}

void settle_free(struct settle *s) {
    if (!s) return;
    MUST(s->count == 0);
    timer_free(s->retry);
    free(s);
}
