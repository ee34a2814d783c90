// SPDX-License-Identifier: Apache-2.0
// Invariant: at most one round (look, claim, ship) is under way; `timer` runs only between rounds.
#include "dlq/due.h"

#include "core/base/clock.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "dlq/ship.h"

#define AWAY_MS 1000     // pause after the store or the queue was away

struct due {
    struct loop *loop;
    struct letters *letters;
    struct ship *ship;
    struct timer *timer;
    bool stopped, busy;
    int64_t hint_ms;         // earliest due time heard of during a round; 0: none
    struct log_repeat trouble;
    bool was_full;           // of the round: there may be more
};

static void look(void *arg);

static void rest(struct due *d, int64_t delay_ms) {
    d->busy = false;
    if (d->stopped) return;
    int64_t now = clock_unix_ms();
    if (d->hint_ms && d->hint_ms - now < delay_ms) delay_ms = d->hint_ms - now;
    d->hint_ms = 0;
    timer_start(d->timer, delay_ms > 0 ? delay_ms : 0);
}

static void on_shipped(void *arg, bool away) {
    struct due *d = arg;
    FAULT("due.marked");
    rest(d, away ? AWAY_MS : d->was_full ? 0 : 1); // look once more at once: what is due next sets the pause
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
    d->was_full = count == DUE_CLAIM;
    struct letter *claimed = mem_array(count, sizeof *claimed);
    memcpy(claimed, letters, count * sizeof *claimed);
    ship_send(d->ship, claimed, count, on_shipped, d);
}

static void on_next(void *arg, int code, int64_t due_ms) {
    struct due *d = arg;
    int64_t now = clock_unix_ms();
    if (code || due_ms == 0 || d->stopped) rest(d, code ? AWAY_MS : DUE_LOOK_MS);
    else if (due_ms > now) rest(d, due_ms - now < DUE_LOOK_MS ? due_ms - now : DUE_LOOK_MS);
    else letters_claim_due(d->letters, now, DUE_LEASE_MS, DUE_CLAIM, on_claimed, d);
}

static void look(void *arg) {
    struct due *d = arg;
    if (d->stopped) return;
    d->busy = true;
    letters_next_due(d->letters, on_next, d);
}

struct due *due_new(struct loop *loop, struct letters *letters, struct ingest *ingest) {
    struct due *d = mem_zalloc(sizeof *d);
    *d = (struct due){.loop = loop, .letters = letters, .ship = ship_new(loop, letters, ingest, DUE_LEASE_MS)};
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
    ship_free(d->ship);
    free(d);
}
