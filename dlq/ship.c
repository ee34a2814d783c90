// SPDX-License-Identifier: Apache-2.0
// Invariant: a sending is done when all its letters have an answer from their queues and all marks one from the store; `open` counts them.
#include "dlq/ship.h"

#include <utlist.h>

#include "core/base/clock.h"
#include "core/base/fault.h"
#include "core/base/log.h"

struct ship {
    struct letters *letters;
    struct ingest *ingest;
    int64_t lease_ms;
    struct timer *renewal;    // runs while a sending is open
    struct sending *sendings;
    size_t open, letters_open; // sendings; the letters in them
    struct log_repeat trouble;
};

struct sending {
    struct sending *prev, *next;
    struct ship *ship;
    struct letter *claimed;
    struct shipment *shipments;
    size_t count, open;       // letters; answers that are missing, of the queue, a renewal, or the store
    bool renewing, marking;
    bool away;
    void (*done)(void *arg, bool away);
    void *arg;
};

// One claimed letter on its way to its queue.
struct shipment {
    struct sending *sending;
    int code;
    struct err err;
    struct ev *copy; // kept to tell what became unroutable
};

// The queue will never take it, however often it is asked.
static bool is_hopeless(int code) {
    return code == ERR_NOT_FOUND || code == ERR_INVALID || code == ERR_TOO_LARGE;
}

static void sending_end(struct sending *g) {
    void (*done)(void *arg, bool away) = g->done;
    void *arg = g->arg;
    bool away = g->away;
    DL_DELETE(g->ship->sendings, g);
    g->ship->letters_open -= g->count;
    if (--g->ship->open == 0) timer_stop(g->ship->renewal);
    for (size_t i = 0; i < g->count; i++) ev_free(g->shipments[i].copy);
    free(g->claimed);
    free(g->shipments);
    free(g);
    done(arg, away);
}

static void on_marked(void *arg, int code, const struct err *err) {
    struct sending *g = arg;
    if (code) {
        log_repeating(&g->ship->trouble, LOG_LEVEL_WARN, "ship", "cannot mark letters; their leases will run out", err->text);
        g->away = true;
    }
    if (--g->open == 0) sending_end(g);
}

static void bury(struct sending *g, const struct shipment *s) {
    const struct letter_draft draft = {.ev = s->copy,
                                       .state = LETTER_DEAD,
                                       .kind = LETTER_UNROUTABLE,
                                       .error_type = STR_LIT("Unroutable"),
                                       .error_message = str_of(s->err.text)};
    g->open++;
    letters_put(g->ship->letters, &draft, on_marked, g);
}

// Those with the given kind of answer, moved to the front of a new array.
static struct letter *select_by(const struct sending *g, bool delivered, size_t *ret_count) {
    struct letter *out = mem_array(g->count, sizeof *out);
    size_t n = 0;
    for (size_t i = 0; i < g->count; i++) {
        int code = g->shipments[i].code;
        if (delivered ? code == 0 : code != 0 && !is_hopeless(code)) out[n++] = g->claimed[i];
    }
    *ret_count = n;
    return out;
}

static void mark(struct sending *g) {
    FAULT("due.published");
    g->marking = true;
    g->open = 1; // held until every step has been started
    size_t delivered_count, refused_count;
    cleanup_free struct letter *delivered = select_by(g, true, &delivered_count);
    cleanup_free struct letter *refused = select_by(g, false, &refused_count);
    if (delivered_count) {
        g->open++;
        letters_delivered(g->ship->letters, delivered, delivered_count, on_marked, g);
    }
    if (refused_count) {
        g->open++;
        g->away = true;
        letters_unclaim(g->ship->letters, refused, refused_count, clock_unix_ms() + SHIP_AGAIN_MS, on_marked, g);
    }
    for (size_t i = 0; i < g->count; i++)
        if (is_hopeless(g->shipments[i].code)) bury(g, &g->shipments[i]);
    if (--g->open == 0) sending_end(g);
}

static void on_confirm(void *arg, int code, const struct err *err) {
    struct shipment *s = arg;
    struct sending *g = s->sending;
    s->code = code;
    if (code) {
        s->err = *err;
        if (!is_hopeless(code))
            log_repeating(&g->ship->trouble, LOG_LEVEL_WARN, "ship", "cannot put a due event on its queue", err->text);
    }
    if (--g->open == 0) mark(g);
}

// --- leases -----------------------------------------------------------------------------------------------------------

static void on_renewed(void *arg, int code, int64_t lease_ms) {
    struct sending *g = arg;
    g->renewing = false;
    for (size_t i = 0; code == 0 && i < g->count; i++) g->claimed[i].lease_ms = lease_ms;
    if (--g->open == 0) mark(g);
}

// A mark names the lease: it waits for the renewal.
static void renew_all(void *arg) {
    struct ship *s = arg;
    struct sending *g;
    timer_start(s->renewal, s->lease_ms / 3);
    DL_FOREACH(s->sendings, g) {
        if (g->renewing || g->marking) continue;
        g->renewing = true;
        g->open++;
        letters_renew(s->letters, g->claimed, g->count, s->lease_ms, on_renewed, g);
    }
}

// --- sending ----------------------------------------------------------------------------------------------------------

void ship_send(struct ship *s, struct letter *claimed, size_t count, void (*done)(void *arg, bool away), void *arg) {
    MUST(count > 0);
    struct sending *g = mem_alloc(sizeof *g);
    *g = (struct sending){.ship = s, .claimed = claimed, .count = count, .open = count, .done = done, .arg = arg};
    g->shipments = mem_array(count, sizeof *g->shipments);
    DL_APPEND(s->sendings, g);
    s->letters_open += count;
    if (s->open++ == 0) timer_start(s->renewal, s->lease_ms / 3);
    for (size_t i = 0; i < count; i++) {
        struct ev *ev = TAKE_PTR(claimed[i].ev);
        g->shipments[i] = (struct shipment){.sending = g, .copy = ev_new(&ev->f)};
        ingest_async(s->ingest, ev, on_confirm, &g->shipments[i]);
    }
}

size_t ship_open(const struct ship *s) {
    return s->open;
}

size_t ship_letters(const struct ship *s) {
    return s->letters_open;
}

struct ship *ship_new(struct loop *loop, struct letters *letters, struct ingest *ingest, int64_t lease_ms) {
    struct ship *s = mem_alloc(sizeof *s);
    *s = (struct ship){.letters = letters, .ingest = ingest, .lease_ms = lease_ms};
    s->renewal = timer_new(loop, renew_all, s);
    return s;
}

void ship_free(struct ship *s) {
    if (!s) return;
    MUST(s->open == 0);
    timer_free(s->renewal);
    free(s);
}
