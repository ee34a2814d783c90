// SPDX-License-Identifier: Apache-2.0
// Running one job: pace, claim, send, mark; a sample first; an end when too many fail.
//
// Invariants: one claim is under way at a time, so that batches are claimed in order; a batch is in `batches` from its claim until it is
// marked, however long the store is away; a run that leaves takes no more letters, tries once more to mark what it sent, and is over when
// nothing of it is under way.
#include <math.h>
#include <utlist.h>

#include "core/base/clock.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "dlq/replays_impl.h"

#define TICK_MS 20
#define TEND_LOOKS 5          // how often events are looked for that nobody will tell the end of
#define COUNT_SHARE 20        // and the look takes at most one part in so many

// --- pace -----------------------------------------------------------------------------------------------------------------

// All of the sample went, by this run or before it; or all that there is, when that is less.
static bool sample_is_out(const struct run *run) {
    int64_t sent = run->before + run->sent;
    return run->row.sample && (sent >= run->row.sample || (run->exhausted && !run->left && sent > 0));
}

static size_t may_send(struct run *run, int64_t now_ns) {
    if (sample_is_out(run)) return 0; // its outcomes come first
    int64_t left = run->row.sample ? run->row.sample - run->before - run->sent : REPLAY_BATCH;
    return pace_room(&run->pace, run->sent, now_ns, left < REPLAY_BATCH ? (size_t)left : REPLAY_BATCH);
}

// --- outcomes ---------------------------------------------------------------------------------------------------------------

struct count_job {
    struct store_job job;
    struct run *run;
    int64_t began_ns;
    struct replay_counts counts;
};

static int count_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct count_job *c = container_of(job, struct count_job, job);
    return replays_sql_counts(sql, c->run->row.replay, c->run->row.automatic, &c->counts, err);
}

struct end_job {
    struct store_job job;
    struct run *run;
    const char *state;
    char *reason;
    int64_t ended;
};

static int end_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct end_job *e = container_of(job, struct end_job, job);
    int64_t now_ms = clock_unix_ms();
    const struct sql_value values[] = {SQL_Z(e->state), SQL_I(now_ms), strcmp(e->state, "paused") == 0 ? SQL_NONE : SQL_I(now_ms),
                                       SQL_Z(e->reason), SQL_I(e->run->row.replay), SQL_Z(e->run->replays->c.node)};
    int rc = sql_exec(sql,
                      "UPDATE replays SET state = $1, " REPLAY_TELL_TIME ", ended_ms = $3, reason = $4, lease_ms = 0 WHERE id = $5 AND owner = $6"
                      " AND state = 'running' AND ($1 <> 'done' OR NOT EXISTS (SELECT 1 FROM replay_letters r WHERE r.replay = replays.id"
                      " AND r.state = 'pending'))",
                      values, array_len(values), NULL, NULL, &e->ended, err);
    return rc || !e->ended ? rc : replays_sql_release(sql, e->run->row.replay, err);
}

static void on_ended(struct store_job *job, int code, const struct err *err) {
    (void)err;
    struct end_job *e = container_of(job, struct end_job, job);
    struct run *run = e->run;
    run->replays->jobs--;
    run->jobs--;
    run->ending = false;
    if (code == 0) {
        FAULT("replay.ended");
        run->leaving = true; // taken up anew when it has not ended after all
    }
    if (code == 0 && e->ended) {
        log_info("replay", "ended", LOG_INT("replay", run->row.replay), LOG_STR("state", e->state), LOG_STR("reason", e->reason));
    }
    free(e->reason);
    free(e);
    if (code) run->again_at_ns = clock_mono_ns() + replays_looks(run->replays, 1);
    run_go(run);
}

// The job's last word, once nothing of it is under way.
static void end_with(struct run *run, const char *state, char *reason) {
    struct end_job *e = mem_zalloc(sizeof *e);
    *e = (struct end_job){.job = {.run = end_run, .done = on_ended}, .run = run, .state = state, .reason = reason};
    run->ending = true;
    run->jobs++;
    replays_submit(run->replays, &e->job);
}

// A sample is judged as a whole, as soon as its failures are too many whatever becomes of the others.
static bool fails_too_much(const struct run *run, char **ret_reason) {
    const struct replay_counts *c = &run->counts;
    int64_t failed = c->failing + c->dead, ended = failed + c->ok, out = run->before + run->sent - c->failed;
    bool sampling = sample_is_out(run);
    int64_t of = sampling && out > ended ? out : ended;
    double share = (double)run->row.abort_share / 1e6, is = of ? (double)failed / (double)of : 0;
    if (run->row.automatic && c->same) {
        *ret_reason = mem_printf("%lld of %lld failed of the same thing as before", (long long)c->same, (long long)ended);
        return true;
    }
    if (sampling && run->row.abort_share < 0) share = 0;
    else if (run->row.abort_share < 0) return false;
    if (!sampling && ended < REPLAY_ABORT_LEAST) return false;
    if (failed == 0 || is <= share) return false;
    *ret_reason = mem_printf("%lld of %lld failed (%.1f %%), more than %.1f %%", (long long)failed, (long long)of, 100 * is, 100 * share);
    return true;
}

static void on_counted(struct store_job *job, int code, const struct err *err) {
    (void)err;
    struct count_job *c = container_of(job, struct count_job, job);
    struct run *run = c->run;
    int64_t now = clock_mono_ns(), pause = COUNT_SHARE * (now - c->began_ns);
    run->replays->jobs--;
    run->jobs--;
    run->counting = false;
    if (pause < replays_looks(run->replays, 0.5)) pause = replays_looks(run->replays, 0.5);
    run->count_at_ns = now + pause;
    if (code == 0) {
        if (memcmp(&run->counts, &c->counts, sizeof c->counts) != 0) run->quiet_since_ns = now;
        run->counts = c->counts;
        run->counted = true;
    }
    free(c);
    run_go(run);
}

static void count(struct run *run) {
    struct count_job *c = mem_zalloc(sizeof *c);
    *c = (struct count_job){.job = {.run = count_run, .done = on_counted}, .run = run, .began_ns = clock_mono_ns()};
    run->counting = true;
    run->jobs++;
    run->replays->jobs++;
    store_submit(run->replays->c.reader, &c->job);
}

static bool outcomes_matter(const struct run *run) {
    return run->row.abort_share >= 0 || run->row.sample || run->row.automatic;
}

// Of all that was sent.
static bool outcomes_are_known(const struct run *run) {
    const struct replay_counts *c = &run->counts;
    return run->batch_count == 0 && c->sent + c->failed >= run->before + run->sent && c->ok + c->failing + c->dead >= c->sent;
}

// Sampled letters have all come to an end: the rest may go.
static void judge_sample(struct run *run) {
    const struct replay_counts *c = &run->counts;
    if (!sample_is_out(run) || !outcomes_are_known(run)) return;
    log_info("replay", "the sample is through; the rest follows", LOG_INT("replay", run->row.replay), LOG_INT("letters", c->ok));
    run->row.sample = 0;
}

// --- claims and marks ---------------------------------------------------------------------------------------------------------

// Several batches that fail together are one trouble.
void run_pause(struct run *run, const char *why) {
    static struct log_repeat trouble;
    int64_t now = clock_mono_ns();
    if (now >= run->again_at_ns) run->again_looks = run->again_looks ? 2 * run->again_looks : 1;
    if (run->again_looks > REPLAY_AGAIN_LOOKS_MAX) run->again_looks = REPLAY_AGAIN_LOOKS_MAX;
    run->again_at_ns = now + replays_looks(run->replays, run->again_looks);
    log_repeating(&trouble, LOG_LEVEL_WARN, "replay", "cannot send letters for now; tried again", why);
}

static void begin_batch(struct run *run, struct claim_job *c) {
    struct batch_out *b = mem_zalloc(sizeof *b);
    *b = (struct batch_out){.run = run, .claimed = c->claimed, .count = c->count, .pieces = mem_array(c->count, sizeof *b->pieces)};
    for (size_t i = 0; i < b->count; i++) {
        b->pieces[i] = (struct piece){.batch = b};
        b->bytes += ev_memory_bytes(c->claimed[i].letter.ev);
    }
    c->claimed = NULL;
    c->count = 0;
    DL_APPEND(run->batches, b);
    run->batch_count++;
    run->bytes += b->bytes;
    run->sent += (int64_t)b->count;
    replays_send(b);
}

static void on_claimed(struct store_job *job, int code, const struct err *err) {
    struct claim_job *c = container_of(job, struct claim_job, job);
    struct run *run = c->run;
    run->replays->jobs--;
    run->jobs--;
    run->claiming = false;
    if (run->order) run_order_claimed(run, c, code || c->lost);
    if (code) {
        run_pause(run, err->text);
    } else if (c->lost) {
        run->leaving = true;
    } else {
        run->after = c->last_seq;
        run->exhausted = !run->order && !c->found;
        if (c->count) begin_batch(run, c);
    }
    replays_drop_claimed(c); // nothing when they were handed on
    free(c->seqs);
    free(c);
    run_go(run);
}

static void claim(struct run *run, size_t limit) {
    struct claim_job *c = mem_zalloc(sizeof *c);
    *c = (struct claim_job){.job = {.run = replays_claim_run, .done = on_claimed},
                            .run = run,
                            .replay = run->row.replay,
                            .after = run->after,
                            .limit = limit,
                            .bytes = REPLAY_BYTES - run->bytes};
    if (run->order) {
        c->seqs = mem_array(limit, sizeof *c->seqs);
        c->seq_count = order_take(run->order, c->seqs, limit);
    }
    run->claiming = true;
    run->jobs++;
    replays_submit(run->replays, &c->job);
}

static void batch_done(struct batch_out *b) {
    struct run *run = b->run;
    DL_DELETE(run->batches, b);
    run->batch_count--;
    run->bytes -= b->bytes;
    for (size_t i = 0; i < b->count; i++) {
        ev_free(b->claimed[i].letter.ev);
        free(b->pieces[i].function);
    }
    free(b->claimed);
    free(b->pieces);
    free(b);
}

// --- marks --------------------------------------------------------------------------------------------------------------------

static void on_marked(struct store_job *job, int code, const struct err *err) {
    struct marks_job *m = container_of(job, struct marks_job, job);
    struct run *run = m->run;
    run->replays->jobs--;
    run->jobs--;
    FAULT("replay.marked");
    run->quiet_since_ns = clock_mono_ns();
    if (code) run_pause(run, err->text);
    if (code && m->any_sent && !run->leaving) {
        LL_APPEND(run->unmarked, m); // they shall not go twice
    } else {
        // What was not marked is pending, and sent again, or skipped, when the job is taken up anew.
        if (code || m->not_marked) run->leaving = true;
        if (run->order && code == ERR_OK) run_order_marked(run, m);
        batch_done(m->batch);
        replays_marks_free(m);
    }
    run_go(run);
}

static void mark(struct marks_job *m) {
    m->run->jobs++;
    replays_submit(m->run->replays, &m->job);
}

static void mark_again(struct run *run) {
    struct marks_job *m, *next;
    LL_FOREACH_SAFE(TAKE_PTR(run->unmarked), m, next) mark(m);
}

// The queue will never take it, however often it is asked.
static bool is_hopeless(int code) {
    return code == ERR_NOT_FOUND || code == ERR_INVALID || code == ERR_TOO_LARGE || code == ERR_DENIED;
}

void run_batch_sent(struct batch_out *b) {
    struct run *run = b->run;
    struct marks_job *m = mem_zalloc(sizeof *m);
    const char *trouble = NULL;
    FAULT("replay.published");
    *m = (struct marks_job){.job = {.run = replays_mark_run, .done = on_marked}, .run = run, .batch = b, .replay = run->row.replay};
    m->rows = mem_array(b->count, sizeof *m->rows);
    m->count = b->count;
    for (size_t i = 0; i < b->count; i++) {
        const struct piece *p = &b->pieces[i];
        const struct letter *letter = &b->claimed[i].letter;
        bool failed = is_hopeless(p->code);
        m->rows[i] = (struct mark_row){.letter = letter->id,
                                       .event_id = p->event_id,
                                       .lease_ms = letter->lease_ms,
                                       .seq = b->claimed[i].seq,
                                       .sent = p->code == ERR_OK,
                                       .failed = failed,
                                       .why = failed ? mem_strdup(p->err.text) : NULL};
        m->any_sent |= p->code == ERR_OK;
        if (!p->code || failed) continue;
        trouble = p->err.text;
        run->sent--;
    }
    if (trouble) {
        run->left = !run->order;
        run_pause(run, trouble);
    } else {
        run->again_looks = 0;
    }
    mark(m);
}

// --- events whose end nobody tells ----------------------------------------------------------------------------------------------

static bool waits_for_ends(const struct run *run) {
    if (run->claiming || run->batch_count || run->ending || !run->ready) return false;
    return sample_is_out(run) || (run->order && order_busy_count(run->order));
}

static int tend_run(struct store_job *job, struct sql *sql, struct err *err) {
    const struct sql_value id = SQL_I(container_of(job, struct claim_job, job)->replay);
    return sql_exec(sql,
                    "UPDATE replay_letters SET outcome = 'dead' WHERE replay = $1 AND outcome = 'failing' AND EXISTS"
                    " (SELECT 1 FROM letters l WHERE l.id = replay_letters.event_id AND l.state = 'discarded')",
                    &id, 1, NULL, NULL, NULL, err);
}

static void on_tended(struct store_job *job, int code, const struct err *err) {
    (void)code, (void)err;
    struct claim_job *c = container_of(job, struct claim_job, job);
    struct run *run = c->run;
    run->replays->jobs--;
    run->jobs--;
    run->tending = false;
    run->tend_at_ns = clock_mono_ns() + replays_looks(run->replays, TEND_LOOKS);
    free(c);
    run_go(run);
}

// An operator discarded the retry of an event: that is its end.
static void tend(struct run *run) {
    struct claim_job *c = mem_zalloc(sizeof *c);
    *c = (struct claim_job){.job = {.run = tend_run, .done = on_tended}, .run = run, .replay = run->row.replay};
    run->tending = true;
    run->jobs++;
    replays_submit(run->replays, &c->job);
}

// Their queue was purged, or their function deleted; or they wait long. The operator decides.
static void give_up_waiting(struct run *run) {
    int64_t open = run->order ? (int64_t)order_busy_count(run->order) : run->counts.sent - run->counts.ok - run->counts.failing - run->counts.dead;
    end_with(run, "paused", mem_printf("%lld events came to no end for %lld minutes; resume waits again, cancel leaves the rest dead",
                                       (long long)open, (long long)run->replays->c.silence_ms / 60000));
}

// --- the turn -----------------------------------------------------------------------------------------------------------------

static bool can_claim(const struct run *run, int64_t now) {
    if (run->order && !run_order_may_begin(run, now)) return false;
    return run->ready && !run->leaving && !run->aborting && !run->claiming && !run->exhausted && !run->ending && now >= run->again_at_ns &&
           run->batch_count < REPLAY_BATCHES && run->bytes < REPLAY_BYTES;
}

// Everything behind `after` was looked at and nothing is under way: the end, or once more from the start.
static void come_to_an_end(struct run *run, int64_t now) {
    if (!run->exhausted || run->claiming || run->batch_count || run->ending || run->leaving || run->aborting || now < run->again_at_ns) return;
    if (run->left) {
        run->left = run->exhausted = false;
        run->after = 0;
        return;
    }
    if (sample_is_out(run)) return; // its outcomes come first
    end_with(run, "done", mem_strdup(""));
}

void run_go(void *arg) {
    struct run *run = arg;
    int64_t now = clock_mono_ns();
    char *reason = NULL;
    if (run->leaving || now >= run->again_at_ns) mark_again(run);
    if (run->leaving) {
        if (run_is_over(run)) run_ended(run->replays, run);
        return;
    }
    if (run->order) run->exhausted = order_is_over(run->order);
    if (run->counted && !run->ending && !run->aborting && fails_too_much(run, &reason)) run->aborting = reason;
    if (run->aborting && !run->ending && !run->claiming && run->batch_count == 0) end_with(run, "aborted", mem_strdup(run->aborting));
    if (run->counted) judge_sample(run);
    size_t room = can_claim(run, now) ? may_send(run, now) : 0;
    if (run->order) room = order_may_take(run->order, room);
    if (room) claim(run, room);
    run_order_look(run, now);
    if (waits_for_ends(run) && !run->tending && now >= run->tend_at_ns) tend(run);
    if (waits_for_ends(run) && now - run->quiet_since_ns > run->replays->c.silence_ms * NS_PER_MS) give_up_waiting(run);
    come_to_an_end(run, now);
    if (outcomes_matter(run) && !run->counting && now >= run->count_at_ns && run->before + run->sent) count(run);
    timer_start(run->timer, TICK_MS);
}

void run_begin(struct run *run) {
    run->ready = true;
    run->quiet_since_ns = clock_mono_ns();
    run->pace = (struct pace){.rate = (double)run->row.rate / 1000, .ramp_ms = run->row.ramp_ms, .began_ns = run->quiet_since_ns};
}

static int release_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct count_job *c = container_of(job, struct count_job, job);
    int rc = replays_sql_release(sql, c->run->row.replay, err);
    return rc == 0 && c->run->row.sample ? replays_sql_counts(sql, c->run->row.replay, false, &c->counts, err) : rc;
}

// The sample goes on where it was. More than it went only when it was through.
static void resume_sample(struct run *run, const struct replay_counts *c) {
    run->before = c->sent + c->failed;
    if (run->before <= run->row.sample) return;
    run->before = run->row.sample = 0;
}

void run_cannot_begin(struct run *run, const struct err *err) {
    run->leaving = true; // the next look takes it up again
    log_warn("replay", "cannot take a replay over", LOG_INT("replay", run->row.replay), LOG_STR("why", err->text));
}

static void on_released(struct store_job *job, int code, const struct err *err) {
    struct count_job *c = container_of(job, struct count_job, job);
    struct run *run = c->run;
    run->replays->jobs--;
    run->jobs--;
    if (code == 0 && run->row.sample) resume_sample(run, &c->counts);
    free(c);
    if (code) run_cannot_begin(run, err);
    else if (run->row.in_order) run_order_begin(run);
    else run_begin(run);
    run_go(run);
}

struct run *run_new(struct replays *r, struct replay_row *row) {
    struct run *run = mem_zalloc(sizeof *run);
    *run = (struct run){.replays = r, .row = *row, .owned = true};
    run->timer = timer_new(r->c.loop, run_go, run);
    DL_APPEND(r->runs, run);
    struct count_job *c = mem_zalloc(sizeof *c);
    *c = (struct count_job){.job = {.run = release_run, .done = on_released}, .run = run};
    run->jobs++;
    replays_submit(r, &c->job);
    return run;
}

void run_leave(struct run *run) {
    run->leaving = true;
    timer_start(run->timer, 0);
}

bool run_is_over(const struct run *run) {
    return run->leaving && run->jobs == 0 && run->batch_count == 0;
}

void run_free(struct run *run) {
    MUST(run->batch_count == 0 && run->jobs == 0);
    timer_free(run->timer);
    order_free(run->order);
    free(run->aborting);
    replay_row_done(&run->row);
    free(run);
}
