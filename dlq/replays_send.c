// SPDX-License-Identifier: Apache-2.0
// Sending a batch of claimed letters: each as a new event through core/ingest, or its record to the topic or queue it was read from.
//
// Invariant: `open` counts the pieces without an answer, and who must find the batch still there afterwards.
#include "core/base/clock.h"
#include "core/base/fault.h"
#include "dlq/replays_impl.h"

#define ORIGIN_AT_A_TIME 256
#define ORIGIN_MS 20000 // no letter is sent to its origin later after its claim, which is for three times that

static void let_go(struct batch_out *b) {
    if (--b->open == 0) run_batch_sent(b);
}

static void settle(struct piece *p, int code, const struct err *err) {
    struct batch_out *b = p->batch;
    p->code = code;
    if (code) p->err = *err;
    else metrics_add(b->run->replays->c.metrics, METRIC_REPLAYS, str_of(p->function), 1);
    let_go(b);
}

static void on_confirm(void *arg, int code, const struct err *err) {
    settle(arg, code, err);
}

// --- to the origin --------------------------------------------------------------------------------------------------------

static void send_more(struct batch_out *b);

static void on_origin_done(void *arg, int code, const struct err *err) {
    struct piece *p = arg;
    struct batch_out *b = p->batch;
    b->open++;
    b->under_way--;
    settle(p, code, err);
    send_more(b);
    let_go(b);
}

static int check_origin(const struct batch_out *b, const struct ev_fields *f, struct err *err) {
    if (!b->run->replays->to_origin)
        return err_set(err, ERR_INVALID, "this server has no triggers, so nothing can go back to where it came from");
    if (clock_mono_ns() > b->send_until_ns) return err_set(err, ERR_TIMEOUT, "the origin took too long with the letters before");
    if (str_is(f->source_kind, "kafka") || str_is(f->source_kind, "amqp")) return 0;
    return err_set(err, ERR_INVALID, "it did not come from a Kafka topic or an AMQP queue but from '%.*s'",
                   f->source_kind.len > 60 ? 60 : (int)f->source_kind.len, f->source_kind.len ? f->source_kind.data : "");
}

static void send_to_origin(struct batch_out *b, size_t i) {
    struct piece *p = &b->pieces[i];
    struct err err = {0};
    struct ev *ev = TAKE_PTR(b->claimed[i].letter.ev);
    const struct replays *r = b->run->replays;
    p->function = mem_strndup(ev->f.function);
    b->under_way++;
    if (check_origin(b, &ev->f, &err)) on_origin_done(p, err.code, &err);
    else r->to_origin(r->to_origin_arg, ev, on_origin_done, p);
    ev_free(ev);
}

// Sends while there is room. A letter whose answer is known at once comes back here from inside, and leaves it to the loop.
static void send_more(struct batch_out *b) {
    if (b->sending) return;
    b->sending = true;
    while (b->sent < b->count && b->under_way < ORIGIN_AT_A_TIME) send_to_origin(b, b->sent++);
    b->sending = false;
}

// --- as new events ----------------------------------------------------------------------------------------------------------

static uint64_t half(const uint8_t *bytes) {
    uint64_t n;
    memcpy(&n, bytes, sizeof n);
    return n;
}

// The same event again, from the beginning: no attempts, linked to the letter and to its place in the job. A second sending of the same
// letter by the same job is the same event.
static struct ev *new_event(const struct run *run, const struct claimed *c) {
    struct ev_fields f = c->letter.ev->f;
    f.id = id_derive(run->row.created_ms, half(c->letter.id.bytes) ^ (uint64_t)run->row.replay, half(c->letter.id.bytes + 8));
    f.origin_id = c->letter.id;
    f.invocation = EV_ASYNC;
    f.replay = run->row.replay;
    f.replay_seq = c->seq;
    f.dry_run = false;
    f.attempt = 0;
    f.accepted_ms = f.deadline_ms = 0;
    f.history = f.qualifier = f.reply_to = STR_NONE;
    struct str target = str_of(run->row.target);
    const char *colon = target.len ? memchr(target.data, ':', target.len) : NULL;
    if (target.len) f.function = (struct str){target.data, colon ? (size_t)(colon - target.data) : target.len};
    if (colon) f.qualifier = (struct str){colon + 1, target.len - f.function.len - 1};
    return ev_new(&f);
}

static void send_event(struct batch_out *b, size_t i) {
    struct piece *p = &b->pieces[i];
    struct ev *ev = new_event(b->run, &b->claimed[i]);
    ev_free(b->claimed[i].letter.ev);
    b->claimed[i].letter.ev = NULL;
    p->event_id = ev->f.id;
    p->function = mem_strndup(ev->f.function);
    ingest_async(b->run->replays->c.ingest, ev, on_confirm, p);
}

void replays_send(struct batch_out *b) {
    FAULT("replay.claimed");
    b->open = b->count + 1;
    b->send_until_ns = clock_mono_ns() + ORIGIN_MS * NS_PER_MS;
    if (b->run->row.to_origin) send_more(b);
    else
        for (size_t i = 0; i < b->count; i++) send_event(b, i);
    let_go(b);
}
