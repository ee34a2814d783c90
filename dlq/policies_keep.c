// SPDX-License-Identifier: Apache-2.0
// Rounds, one a minute: count, then for one rule after the other look and delete in steps until there is nothing left, then what belongs to
// nothing. Between two steps that write there is a pause as long as the step was, so others have the writer half the time at least.
#include "core/base/clock.h"
#include "core/base/log.h"
#include "dlq/policies_impl.h"

#define ROUND_MS 60000
#define PAUSE_LEAST_MS 10
#define THOROUGH_NS (INT64_C(3600000) * NS_PER_MS)
#define TELL_NS (INT64_C(3600000) * NS_PER_MS)
#define WARN_SHARE 0.9

// --- gauges ---------------------------------------------------------------------------------------------------------------------

// One that is 0 and was not shown stays unknown to Prometheus.
static void show(struct policies *p, enum metric metric, const struct function_note *note, double value, bool *shown) {
    if (value > 0 || *shown) metrics_set(p->c.metrics, metric, str_of(note->name), value);
    *shown = value > 0;
}

static void warn(struct function_note *note, double share) {
    if (share >= WARN_SHARE && !note->warned)
        log_warn("policy", "dead letters have reached 90 % of their cap; over it the oldest are deleted",
                 LOG_STR("function", note->name), LOG_INT("dead", note->dead), LOG_INT("cap", note->cap));
    note->warned = share >= WARN_SHARE;
}

static void forget(struct policies *p, struct function_note *note) {
    if (note->dead || note->cap || note->over_age || note->over_cap) return;
    HASH_DELETE(hh, p->functions, note);
    free(note->name);
    free(note);
}

static void take_counts(struct policies *p, const struct round *r) {
    struct function_note *note, *next;
    for (note = p->functions; note; note = note->hh.next) note->dead = note->cap = 0;
    for (size_t i = 0; i < r->count_count; i++) policies_note(p, str_of(r->counts[i].function))->dead = r->counts[i].dead;
    for (size_t i = 0; i < r->rule_count; i++) {
        note = policies_note(p, str_of(r->rules[i].function));
        note->dead = r->rules[i].dead;
        note->cap = r->rules[i].cap;
    }
    HASH_ITER(hh, p->functions, note, next) {
        double share = note->cap ? (double)note->dead / (double)note->cap : 0;
        show(p, METRIC_DEAD, note, (double)note->dead, &note->shown_dead);
        show(p, METRIC_DEAD_CAP_RATIO, note, share, &note->shown_cap);
        warn(note, share);
        forget(p, note);
    }
}

// --- the audit ------------------------------------------------------------------------------------------------------------------

void policies_tell(struct policies *p, bool all) {
    int64_t now_ns = clock_mono_ns();
    for (struct function_note *note = p->functions; note; note = note->hh.next) {
        if (note->over_age + note->over_cap == 0) continue;
        if (!all && note->told_ns && now_ns - note->told_ns < TELL_NS) continue;
        audit_note(p->c.audit, "policies.delete", str_of(note->name),
                   json_pack("{sI sI}", "overAge", (json_int_t)note->over_age, "overCap", (json_int_t)note->over_cap), STR_LIT("ok"));
        log_info("policy", "letters deleted", LOG_STR("function", note->name), LOG_INT("over_age", note->over_age),
                 LOG_INT("over_cap", note->over_cap));
        note->over_age = note->over_cap = 0;
        note->told_ns = now_ns;
    }
}

// --- stages -----------------------------------------------------------------------------------------------------------------------

enum stage { COUNT, FIND, DELETE, FIND_ORPHANS, DELETE_ORPHANS, FIND_REPLAY, DELETE_REPLAY, OVER };

// The rule at r->rule or the next one that has something to say.
static enum stage next_rule(struct round *r) {
    while (r->rule < r->rule_count && !r->rules[r->rule].keep_ms && !r->rules[r->rule].cap) r->rule++;
    if (r->rule < r->rule_count) return FIND;
    return r->thorough ? FIND_ORPHANS : FIND_REPLAY;
}

static enum stage after_count(struct round *r) {
    take_counts(r->policies, r);
    return next_rule(r);
}

static enum stage after_find(struct round *r) {
    if (r->found) return DELETE;
    r->rule++;
    return next_rule(r);
}

// Nothing deleted: it is another node's turn, or others were faster.
static enum stage after_delete(struct round *r) {
    struct function_note *note = policies_note(r->policies, str_of(r->rules[r->rule].function));
    *(r->over_cap ? &note->over_cap : &note->over_age) += (int64_t)r->deleted;
    if (r->deleted) return FIND;
    r->rule++;
    return next_rule(r);
}

static enum stage after_find_orphans(struct round *r) {
    return r->found ? DELETE_ORPHANS : r->more ? FIND_ORPHANS : FIND_REPLAY;
}

static enum stage after_delete_orphans(struct round *r) {
    return r->more ? FIND_ORPHANS : FIND_REPLAY;
}

static enum stage after_find_replay(struct round *r) {
    return r->replay ? DELETE_REPLAY : OVER;
}

static enum stage after_delete_replay(struct round *r) {
    (void)r;
    return FIND_REPLAY;
}

static const struct {
    int (*run)(struct round *r, struct sql *sql, struct err *err);
    enum stage (*after)(struct round *r);
    bool writes;
} stages[] = {
    [COUNT] = {policies_sql_count, after_count, false},
    [FIND] = {policies_sql_find, after_find, false},
    [DELETE] = {policies_sql_delete, after_delete, true},
    [FIND_ORPHANS] = {policies_sql_find_orphans, after_find_orphans, false},
    [DELETE_ORPHANS] = {policies_sql_delete_orphans, after_delete_orphans, true},
    [FIND_REPLAY] = {policies_sql_find_replay, after_find_replay, false},
    [DELETE_REPLAY] = {policies_sql_delete_replay, after_delete_replay, true},
};

// --- a round ----------------------------------------------------------------------------------------------------------------------

void policies_round_free(struct round *round) {
    if (!round) return;
    policies_sql_clear(round);
    free(round);
}

static void end_round(struct policies *p) {
    struct round *r = TAKE_PTR(p->round);
    if (r->stage == OVER && r->thorough) p->thorough_at_ns = r->began_ns;
    policies_tell(p, p->stopped);
    if (!p->stopped) timer_start(p->timer, ROUND_MS);
    policies_round_free(r);
}

static int stage_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct round *r = container_of(job, struct round, job);
    return stages[r->stage].run(r, sql, err);
}

static void stage_done(struct store_job *job, int code, const struct err *err) {
    (void)err; // the store has told it, and the next round tries again
    struct round *r = container_of(job, struct round, job);
    struct policies *p = r->policies;
    bool wrote = stages[r->stage].writes;
    int64_t took_ms = (clock_mono_ns() - r->job_began_ns) / NS_PER_MS;
    p->jobs--;
    if (code == 0) r->stage = (int)stages[r->stage].after(r);
    if (code || p->stopped || r->stage == OVER) end_round(p);
    else timer_start(p->timer, !wrote ? 0 : took_ms > PAUSE_LEAST_MS ? took_ms : PAUSE_LEAST_MS);
}

static struct round *round_new(struct policies *p) {
    struct round *r = mem_zalloc(sizeof *r);
    r->job = (struct store_job){.run = stage_run, .done = stage_done};
    r->policies = p;
    r->stage = COUNT;
    r->began_ns = clock_mono_ns();
    r->thorough = p->thorough_at_ns == 0 || r->began_ns - p->thorough_at_ns >= THOROUGH_NS;
    return r;
}

void policies_keep(void *policies) {
    struct policies *p = policies;
    if (!p->round) {
        p->round = round_new(p);
        policies_look(p);
    }
    struct round *r = p->round;
    r->job_began_ns = clock_mono_ns();
    policies_submit(p, stages[r->stage].writes ? p->c.store : p->c.reader, &r->job);
}
