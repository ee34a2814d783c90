// SPDX-License-Identifier: Apache-2.0
// Invariant: at most one round (look, claim, publish, mark) is under way; `timer` runs only between rounds.
#include "dlq/due.h"

#include "core/base/clock.h"
#include "core/base/fault.h"
#include "core/base/log.h"

#define AWAY_MS 1000     // pause after the store or the queue was away
#define RECOVER_MS 15000 // how often replays of dead nodes are looked for

struct due {
    struct loop *loop;
    struct letters *letters;
    struct ingest *ingest;
    struct timer *timer;
    bool stopped, busy;
    int64_t hint_ms;         // earliest due time heard of during a round; 0: none
    int64_t recover_at_ms;   // Unix ms
    struct log_repeat trouble;
    // of the round
    struct letter *claimed;
    struct shipment *shipments;
    size_t count, open;      // publishes without an answer
    bool away;
};

// One claimed letter on its way to its queue.
struct shipment {
    struct due *due;
    size_t index;
    int code;
    struct err err;
    struct ev *copy; // kept to tell what became unroutable
};

// The queue will never take it, however often it is asked.
static bool is_hopeless(int code) {
    return code == ERR_NOT_FOUND || code == ERR_INVALID || code == ERR_TOO_LARGE;
}

static void look(void *arg);

static void rest(struct due *d, int64_t delay_ms) {
    d->busy = false;
    if (d->stopped) return;
    int64_t now = clock_unix_ms();
    if (d->hint_ms && d->hint_ms - now < delay_ms) delay_ms = d->hint_ms - now;
    d->hint_ms = 0;
    timer_start(d->timer, delay_ms > 0 ? delay_ms : 0);
}

static void end_round(struct due *d) {
    FAULT("due.marked");
    bool was_full = d->count == DUE_CLAIM, away = d->away;
    for (size_t i = 0; i < d->count; i++) ev_free(d->shipments[i].copy);
    free(d->claimed);
    free(d->shipments);
    d->claimed = NULL;
    d->shipments = NULL;
    d->count = 0;
    d->away = false;
    rest(d, away ? AWAY_MS : was_full ? 0 : 1); // look once more at once: what is due next sets the pause
}

static void step_done(void *arg, int code, const struct err *err) {
    struct due *d = arg;
    if (code) {
        log_repeating(&d->trouble, LOG_LEVEL_WARN, "due", "cannot mark letters; their leases will run out", err->text);
        d->away = true;
    }
    if (--d->open == 0) end_round(d);
}

static void bury(struct due *d, const struct shipment *s) {
    const struct letter_draft draft = {.ev = s->copy,
                                       .state = LETTER_DEAD,
                                       .kind = LETTER_UNROUTABLE,
                                       .error_type = STR_LIT("Unroutable"),
                                       .error_message = str_of(s->err.text)};
    d->open++;
    letters_put(d->letters, &draft, step_done, d);
}

// Those with the given kind of answer, moved to the front of a new array.
static struct letter *select_by(const struct due *d, bool delivered, size_t *ret_count) {
    struct letter *out = mem_array(d->count, sizeof *out);
    size_t n = 0;
    for (size_t i = 0; i < d->count; i++) {
        int code = d->shipments[i].code;
        if (delivered ? code == 0 : code != 0 && !is_hopeless(code)) out[n++] = d->claimed[i];
    }
    *ret_count = n;
    return out;
}

static void mark_round(struct due *d) {
    FAULT("due.published");
    d->open = 1; // held until every step has been started
    size_t delivered_count, refused_count;
    cleanup_free struct letter *delivered = select_by(d, true, &delivered_count);
    cleanup_free struct letter *refused = select_by(d, false, &refused_count);
    if (delivered_count) {
        d->open++;
        letters_delivered(d->letters, delivered, delivered_count, step_done, d);
    }
    if (refused_count) {
        d->open++;
        d->away = true;
        letters_unclaim(d->letters, refused, refused_count, clock_unix_ms() + AWAY_MS, step_done, d);
    }
    for (size_t i = 0; i < d->count; i++)
        if (is_hopeless(d->shipments[i].code)) bury(d, &d->shipments[i]);
    if (--d->open == 0) end_round(d);
}

static void on_confirm(void *arg, int code, const struct err *err) {
    struct shipment *s = arg;
    struct due *d = s->due;
    s->code = code;
    if (code) {
        s->err = *err;
        if (!is_hopeless(code))
            log_repeating(&d->trouble, LOG_LEVEL_WARN, "due", "cannot put a due event back on its queue", err->text);
    }
    if (--d->open == 0) mark_round(d);
}

static void on_claimed(void *arg, int code, const struct err *err, struct letter *letters, size_t count) {
    struct due *d = arg;
    if (code) {
        log_repeating(&d->trouble, LOG_LEVEL_WARN, "due", "cannot read due letters", err->text);
        rest(d, AWAY_MS);
        return;
    }
    if (count == 0) {
        rest(d, DUE_LOOK_MS);
        return;
    }
    FAULT("due.claimed");
    d->claimed = mem_array(count, sizeof *letters);
    memcpy(d->claimed, letters, count * sizeof *letters);
    d->shipments = mem_array(count, sizeof *d->shipments);
    d->count = d->open = count;
    for (size_t i = 0; i < count; i++) {
        struct shipment *s = &d->shipments[i];
        *s = (struct shipment){.due = d, .index = i, .copy = ev_new(&letters[i].ev->f)};
        ingest_async(d->ingest, letters[i].ev, on_confirm, s);
    }
}

static void on_next(void *arg, int code, int64_t due_ms) {
    struct due *d = arg;
    int64_t now = clock_unix_ms();
    if (code || due_ms == 0 || d->stopped) rest(d, code ? AWAY_MS : DUE_LOOK_MS);
    else if (due_ms > now) rest(d, due_ms - now < DUE_LOOK_MS ? due_ms - now : DUE_LOOK_MS);
    else letters_claim_due(d->letters, now, DUE_LEASE_MS, DUE_CLAIM, on_claimed, d);
}

static void on_recovered(void *arg, int code, const struct err *err, size_t count) {
    (void)arg, (void)err;
    if (code == 0 && count)
        log_warn("due", "letters whose replay never ended are dead again", LOG_INT("letters", count));
}

static void look(void *arg) {
    struct due *d = arg;
    if (d->stopped) return;
    d->busy = true;
    int64_t now = clock_unix_ms();
    if (now >= d->recover_at_ms) {
        d->recover_at_ms = now + RECOVER_MS;
        letters_recover(d->letters, now, on_recovered, d);
    }
    letters_next_due(d->letters, on_next, d);
}

struct due *due_new(struct loop *loop, struct letters *letters, struct ingest *ingest) {
    struct due *d = mem_zalloc(sizeof *d);
    *d = (struct due){.loop = loop, .letters = letters, .ingest = ingest};
    d->timer = timer_new(loop, look, d);
    return d;
}

void due_start(struct due *d) {
    timer_start(d->timer, 0);
}

void due_hint(struct due *d, int64_t due_ms) {
    if (d->hint_ms == 0 || due_ms < d->hint_ms) d->hint_ms = due_ms;
    if (d->busy || d->stopped) return;
    int64_t delay_ms = d->hint_ms - clock_unix_ms();
    if (delay_ms < DUE_LOOK_MS) timer_start(d->timer, delay_ms);
}

bool due_stop(struct due *d) {
    d->stopped = true;
    timer_stop(d->timer);
    return !d->busy;
}

void due_free(struct due *d) {
    if (!d) return;
    timer_free(d->timer);
    free(d);
}
