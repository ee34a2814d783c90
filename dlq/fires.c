// SPDX-License-Identifier: Apache-2.0
// Invariant: `jobs` and the sendings count everything that still needs the fires; they are freed at zero only.
#include "core/base/clock.h"
#include "core/base/text.h"
#include "core/trigger.h"
#include "dlq/due.h"
#include "dlq/fires_impl.h"


struct cancelled {
    struct id id;
    UT_hash_handle hh;
};

// --- life -------------------------------------------------------------------------------------------------------------

struct fires *fires_new(const struct fires_config *config) {
    struct fires *f = mem_zalloc(sizeof *f);
    f->c = *config;
    if (!f->c.rows_max) f->c.rows_max = FIRES_ROWS_MAX;
    f->ship = ship_new(config->loop, config->letters, config->ingest, DUE_LEASE_MS);
    f->shared = store_is_shared(config->store);
    f->timer = timer_new(config->loop, fires_keep, f);
    f->end_last = &f->end_first;
    f->end_flush = (struct defer){.fn = fires_flush_ends, .arg = f};
    f->settled = mem_strdup("");
    return f;
}

void fires_start(struct fires *f) {
    timer_start(f->timer, 0);
}

bool fires_stop(struct fires *f) {
    bool first = !f->stopped;
    f->stopped = true;
    timer_stop(f->timer);
    if (first && f->leader && !f->keeping) fires_keep(f); // so that another leads
    return f->jobs == 0 && f->end_count == 0 && ship_open(f->ship) == 0;
}

void fires_free(struct fires *f) {
    if (!f) return;
    MUST(f->jobs == 0 && f->end_count == 0);
    struct cancelled *c, *next;
    HASH_ITER(hh, f->cancelled, c, next) {
        HASH_DEL(f->cancelled, c);
        free(c);
    }
    timer_free(f->timer);
    ship_free(f->ship);
    loop_defer_cancel(f->c.loop, &f->end_flush);
    free(f->settled);
    free(f);
}

void fires_submit(struct fires *f, struct store_job *job) {
    f->jobs++;
    store_submit(f->c.store, job);
}

static void on_shipped(void *arg, bool away) {
    (void)arg, (void)away; // what was refused is due again, and dlq/due's
}

void fires_ship(struct fires *f, struct letter *claimed, size_t count) {
    if (count) ship_send(f->ship, claimed, count, on_shipped, f);
    else free(claimed);
}

bool fires_is_busy(const struct fires *f) {
    return ship_letters(f->ship) >= FIRES_SHIPPED_MAX;
}

void fires_tell_due(struct fires *f) {
    if (f->c.on_due) f->c.on_due(f->c.arg, clock_unix_ms());
}

// --- the clock --------------------------------------------------------------------------------------------------------

int64_t fires_clock_step(int64_t ahead_ns, const struct clock_reading *reading) {
    if (ahead_ns < reading->low_ns) return reading->low_ns;
    return ahead_ns > reading->high_ns ? reading->high_ns : ahead_ns;
}

void fires_set_clock(struct fires *f, const struct clock_reading *reading) {
    f->ahead_ns = f->clocked ? fires_clock_step(f->ahead_ns, reading) : reading->low_ns / 2 + reading->high_ns / 2;
    f->clocked = true;
}

int64_t fires_cursor_ms(int64_t stored_ms, int64_t now_ms) {
    return stored_ms > now_ms + FIRES_AHEAD_MS ? now_ms : stored_ms;
}

int64_t fires_now_ms(const struct fires *f) {
    return f->shared && f->clocked ? (loop_now_ns(f->c.loop) + f->ahead_ns) / NS_PER_MS : loop_unix_ms(f->c.loop);
}

bool fires_is_leader(const struct fires *f) {
    return !f->shared || (f->leader && store_is_up(f->c.store));
}

// --- which are cancelled ----------------------------------------------------------------------------------------------

bool fires_is_fire(const struct ev *ev) {
    struct str trigger = ev->f.source_name; // from whoever wrote the message
    bool named = trigger.len && trigger.len <= TRIGGER_NAME_MAX && text_is_utf8(trigger) && !memchr(trigger.data, '\0', trigger.len);
    return named && str_is(ev->f.source_kind, FIRE_SOURCE) && id_is_none(&ev->f.origin_id);
}

bool fires_is_cancelled(const struct fires *f, const struct id *id) {
    const struct cancelled *c;
    HASH_FIND(hh, f->cancelled, id, sizeof *id, c);
    return c;
}

void fires_add_cancelled(struct fires *f, const struct ids *ids) {
    for (size_t i = 0; i < ids->count; i++) {
        if (fires_is_cancelled(f, &ids->at[i])) continue;
        if (HASH_COUNT(f->cancelled) >= FIRES_CANCELLED_MAX) {
            struct cancelled *oldest = f->cancelled;
            HASH_DEL(f->cancelled, oldest);
            free(oldest);
        }
        struct cancelled *c = mem_zalloc(sizeof *c);
        c->id = ids->at[i];
        HASH_ADD(hh, f->cancelled, id, sizeof c->id, c);
        if (f->c.on_cancel) f->c.on_cancel(f->c.arg, &ids->at[i]);
    }
}
