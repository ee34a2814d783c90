// SPDX-License-Identifier: Apache-2.0
// One struct run a call: claim -> publish a new event for each letter, or its record to its origin -> mark what was
// confirmed, let go of the rest.
#include "dlq/replay.h"

#include <utlist.h>

#include "core/base/clock.h"
#include "core/base/fault.h"
#include "core/base/log.h"

#define REPLAY_LEASE_MS 60000

struct replay {
    struct replay_config c;
    struct run *runs; // under way
};

typedef void replay_done_fn(void *arg, int code, const struct err *err, const struct replay_result *result);

struct run {
    struct run *prev, *next;
    struct replay *replay; // NULL: it is gone; what is still claimed is dead again when its lease has run out
    char *to_function, *to_qualifier; // NULL: each letter's own function, its current version
    bool to_origin;
    size_t limit;
    replay_done_fn *done;
    void *arg;
    struct letter *claimed;
    struct piece {
        struct run *run;
        struct id replay_id;
        char *function; // that the event was sent to, or whose letter it was
        size_t bytes;   // while under way to the origin
        int code;
    } *pieces;
    size_t count, open;
    size_t sent, under_way, bytes_under_way; // to the origin
    int64_t send_until_ns;
    bool sending;
    struct replay_result result;
    struct err mark_error;
};

struct replay *replay_new(const struct replay_config *config) {
    struct replay *r = mem_zalloc(sizeof *r);
    r->c = *config;
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
    for (size_t i = 0; i < run->count; i++) {
        ev_free(run->claimed[i].ev);
        free(run->pieces[i].function);
    }
    free(run->claimed);
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
        letters_replayed(run->replay->c.letters, good, replay_ids, good_count, on_marked, run);
    }
    if (bad_count) {
        run->open++;
        letters_unclaim(run->replay->c.letters, bad, bad_count, clock_unix_ms(), on_marked, run);
    }
    on_marked(run, 0, NULL);
}

static void end_stopped(struct run *run) {
    struct err stopped = {0};
    end_run(run, err_set(&stopped, ERR_UNAVAILABLE, "the server is stopping"), &stopped);
}

// Each letter holds a run, and so does whoever must find it still there afterwards.
static void let_go(struct run *run) {
    if (--run->open) return;
    if (run->replay) mark(run);
    else end_stopped(run);
}

static void settle(struct piece *p, int code, const struct err *err) {
    struct run *run = p->run;
    p->code = code;
    if (code == 0 && run->replay) metrics_add(run->replay->c.metrics, METRIC_REPLAYS, str_of(p->function), 1);
    if (code && run->result.first_error.code == ERR_OK) run->result.first_error = *err;
    let_go(run);
}

static void on_confirm(void *arg, int code, const struct err *err) {
    settle(arg, code, err);
}

// --- to the origin --------------------------------------------------------------------------------------------------

static void send_more(struct run *run);

static void on_origin_done(void *arg, int code, const struct err *err) {
    struct piece *p = arg;
    struct run *run = p->run;
    run->open++;
    run->under_way--;
    run->bytes_under_way -= p->bytes;
    settle(p, code, err);
    send_more(run);
    let_go(run);
}

static int check_origin(const struct run *run, const struct id *id, const struct ev_fields *f, struct err *err) {
    if (!run->replay) return err_set(err, ERR_UNAVAILABLE, "the server is stopping");
    if (!run->replay->c.to_origin)
        return err_set(err, ERR_INVALID, "this server has no triggers, so nothing can go back to where it came from");
    if (clock_mono_ns() > run->send_until_ns)
        return err_set(err, ERR_TIMEOUT, "the origin took too long with the letters before; replay the rest again");
    if (str_is(f->source_kind, "kafka") || str_is(f->source_kind, "amqp")) return 0;
    char text[ID_TEXT_BYTES];
    id_format(id, text);
    return err_set(err, ERR_INVALID,
                   "letter %s cannot go back to where it came from: its source is '%.*s', not a Kafka topic or an AMQP queue",
                   text, f->source_kind.len > 60 ? 60 : (int)f->source_kind.len, f->source_kind.len ? f->source_kind.data : "");
}

static void send_to_origin(struct run *run, size_t i) {
    struct piece *p = &run->pieces[i];
    struct err err = {0};
    struct ev *ev = TAKE_PTR(run->claimed[i].ev);
    p->bytes = ev_memory_bytes(ev);
    p->function = mem_strndup(ev->f.function);
    run->under_way++;
    run->bytes_under_way += p->bytes;
    if (check_origin(run, &run->claimed[i].id, &ev->f, &err)) on_origin_done(p, err.code, &err);
    else run->replay->c.to_origin(run->replay->c.to_origin_arg, ev, on_origin_done, p);
    ev_free(ev);
}

// Sends while there is room. A letter whose answer is known at once comes back here from inside, and leaves it to the loop.
static void send_more(struct run *run) {
    if (run->sending) return;
    run->sending = true;
    while (run->sent < run->count && run->under_way < REPLAY_ORIGIN_MAX && run->bytes_under_way < REPLAY_ORIGIN_BYTES)
        send_to_origin(run, run->sent++);
    run->sending = false;
}

// --- as a new event -------------------------------------------------------------------------------------------------

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

static void send_events(struct run *run) {
    for (size_t i = 0; i < run->count; i++) {
        struct ev *ev = new_event(run, &run->claimed[i]);
        ev_free(run->claimed[i].ev);
        run->claimed[i].ev = NULL;
        run->pieces[i].replay_id = ev->f.id;
        run->pieces[i].function = mem_strndup(ev->f.function);
        ingest_async(run->replay->c.ingest, ev, on_confirm, &run->pieces[i]);
    }
}

static void on_claimed(void *arg, int code, const struct err *err, struct letter *letters, size_t count) {
    struct run *run = arg;
    if (code || count == 0) {
        end_run(run, code, err);
        return;
    }
    run->result.more = count >= run->limit;
    run->claimed = mem_array(count, sizeof *letters);
    memcpy(run->claimed, letters, count * sizeof *letters);
    run->pieces = mem_array(count, sizeof *run->pieces);
    run->count = count;
    run->open = count + 1;
    for (size_t i = 0; i < count; i++) run->pieces[i].run = run;
    if (!run->replay) {
        end_stopped(run);
        return;
    }
    FAULT("replay.claimed");
    run->send_until_ns = clock_mono_ns() + REPLAY_ORIGIN_MS * NS_PER_MS;
    if (run->to_origin) send_more(run);
    else send_events(run);
    let_go(run);
}

void replay_run(struct replay *r, const struct letter_filter *filter, struct str to, bool to_origin, replay_done_fn *done,
                void *arg) {
    struct run *run = mem_zalloc(sizeof *run);
    *run = (struct run){.replay = r, .to_origin = to_origin, .limit = filter->limit, .done = done, .arg = arg};
    DL_APPEND(r->runs, run);
    if (to.len) {
        const char *colon = memchr(to.data, ':', to.len);
        size_t name_len = colon ? (size_t)(colon - to.data) : to.len;
        run->to_function = mem_strndup((struct str){to.data, name_len});
        if (colon) run->to_qualifier = mem_strndup((struct str){colon + 1, to.len - name_len - 1});
    }
    letters_claim_dead(r->c.letters, filter, REPLAY_LEASE_MS, on_claimed, run);
}
