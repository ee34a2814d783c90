// SPDX-License-Identifier: Apache-2.0
// One struct run a call: claim -> publish a new event for each letter -> mark what was confirmed, let go of the rest.
#include "dlq/replay.h"

#include <utlist.h>

#include "core/base/clock.h"
#include "core/base/fault.h"
#include "core/base/log.h"

#define REPLAY_LEASE_MS 60000

struct replay {
    struct loop *loop;
    struct letters *letters;
    struct ingest *ingest;
    struct metrics *metrics;
    struct run *runs; // under way
};

typedef void replay_done_fn(void *arg, int code, const struct err *err, const struct replay_result *result);

struct run {
    struct run *prev, *next;
    struct replay *replay; // NULL: it is gone; what is still claimed is dead again when its lease has run out
    char *to_function, *to_qualifier; // NULL: each letter's own function, its current version
    size_t limit;
    replay_done_fn *done;
    void *arg;
    struct letter *claimed;
    struct piece {
        struct run *run;
        struct id replay_id;
        char *function; // that the event was sent to
        int code;
    } *pieces;
    size_t count, open;
    struct replay_result result;
    struct err mark_error;
};

struct replay *replay_new(struct loop *loop, struct letters *letters, struct ingest *ingest, struct metrics *metrics) {
    struct replay *r = mem_zalloc(sizeof *r);
    *r = (struct replay){.loop = loop, .letters = letters, .ingest = ingest, .metrics = metrics};
    return r;
}

void replay_free(struct replay *r) {
    if (!r) return;
    for (struct run *run = r->runs; run; run = run->next) run->replay = NULL;
    free(r);
}

static void end_run(struct run *run, int code, const struct err *err) {
    if (run->replay) DL_DELETE(run->replay->runs, run);
    run->done(run->arg, code, err, code ? NULL : &run->result);
    free(run->to_function);
    free(run->to_qualifier);
    free(run->claimed);
    for (size_t i = 0; i < run->count; i++) free(run->pieces[i].function);
    free(run->pieces);
    free(run);
}

static void on_marked(void *arg, int code, const struct err *err) {
    struct run *run = arg;
    if (code) run->mark_error = *err;
    if (--run->open) return;
    FAULT("replay.marked");
    if (run->mark_error.code) log_warn("replay", "cannot mark replayed letters", LOG_STR("error", run->mark_error.text));
    end_run(run, run->mark_error.code, &run->mark_error);
}

static void mark(struct run *run) {
    FAULT("replay.published");
    cleanup_free struct letter *good = mem_array(run->count, sizeof *good);
    cleanup_free struct letter *bad = mem_array(run->count, sizeof *bad);
    cleanup_free struct id *replay_ids = mem_array(run->count, sizeof *replay_ids);
    size_t good_count = 0, bad_count = 0;
    for (size_t i = 0; i < run->count; i++) {
        if (run->pieces[i].code) {
            bad[bad_count++] = run->claimed[i];
        } else {
            replay_ids[good_count] = run->pieces[i].replay_id;
            good[good_count++] = run->claimed[i];
        }
    }
    run->result.replayed = good_count;
    run->result.failed = bad_count;
    run->open = 1;
    if (good_count) {
        run->open++;
        letters_replayed(run->replay->letters, good, replay_ids, good_count, on_marked, run);
    }
    if (bad_count) {
        run->open++;
        letters_unclaim(run->replay->letters, bad, bad_count, clock_unix_ms(), on_marked, run);
    }
    on_marked(run, 0, NULL);
}

static void on_confirm(void *arg, int code, const struct err *err) {
    struct piece *p = arg;
    struct run *run = p->run;
    p->code = code;
    if (code == 0) metrics_add(run->replay->metrics, METRIC_REPLAYS, str_of(p->function), 1);
    if (code && run->result.first_error.code == ERR_OK) run->result.first_error = *err;
    if (--run->open == 0) mark(run);
}

// The same event again, from the beginning: a new id, no attempts, linked to the letter.
static struct ev *new_event(const struct run *run, const struct letter *letter) {
    struct ev_fields f = letter->ev->f;
    f.id = (struct id){{0}};
    f.origin_id = letter->id;
    f.attempt = 0;
    f.accepted_ms = 0;
    f.history = STR_NONE;
    f.qualifier = str_of(run->to_qualifier);
    if (run->to_function) f.function = str_of(run->to_function);
    return ev_new(&f);
}

static void on_claimed(void *arg, int code, const struct err *err, struct letter *letters, size_t count) {
    struct run *run = arg;
    if (code || count == 0) {
        end_run(run, code, err);
        return;
    }
    if (!run->replay) {
        for (size_t i = 0; i < count; i++) ev_free(letters[i].ev);
        struct err stopped = {0};
        end_run(run, err_set(&stopped, ERR_UNAVAILABLE, "the server is stopping"), &stopped);
        return;
    }
    FAULT("replay.claimed");
    run->result.more = count >= run->limit;
    run->count = run->open = count;
    run->claimed = mem_array(count, sizeof *letters);
    run->pieces = mem_array(count, sizeof *run->pieces);
    memcpy(run->claimed, letters, count * sizeof *letters);
    for (size_t i = 0; i < count; i++) {
        struct ev *ev = new_event(run, &letters[i]);
        ev_free(letters[i].ev);
        run->claimed[i].ev = NULL;
        run->pieces[i] = (struct piece){.run = run, .replay_id = ev->f.id, .function = mem_strndup(ev->f.function)};
        ingest_async(run->replay->ingest, ev, on_confirm, &run->pieces[i]);
    }
}

void replay_run(struct replay *r, const struct letter_filter *filter, struct str to, replay_done_fn *done, void *arg) {
    struct run *run = mem_zalloc(sizeof *run);
    *run = (struct run){.replay = r, .limit = filter->limit, .done = done, .arg = arg};
    DL_APPEND(r->runs, run);
    if (to.len) {
        const char *colon = memchr(to.data, ':', to.len);
        size_t name_len = colon ? (size_t)(colon - to.data) : to.len;
        run->to_function = mem_strndup((struct str){to.data, name_len});
        if (colon) run->to_qualifier = mem_strndup((struct str){colon + 1, to.len - name_len - 1});
    }
    letters_claim_dead(r->letters, filter, REPLAY_LEASE_MS, on_claimed, run);
}
