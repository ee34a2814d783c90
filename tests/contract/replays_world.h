// SPDX-License-Identifier: Apache-2.0
// Replays over the letters of one store, for the tests of dlq/replays: nodes that each have their replays, a real ingest and a gate before
// the memory queue that they share, and a worker that tells what became of each event.
//
// The registry is a stand-in: it has every function whose name begins with f, with versions 1 and 3, until a test removes them.
// Threads: the test's.
#ifndef TESTS_CONTRACT_REPLAYS_WORLD_H
#define TESTS_CONTRACT_REPLAYS_WORLD_H

#include <stdlib.h>

#include "core/ingest.h"
#include "dlq/replays.h"
#include "tests/support/letters_fixture.h"
#include "tests/support/registry_look.h"

// --- the registry -----------------------------------------------------------------------------------------------------

static struct version version_3 = {.refs = 1, .function = (char[]){"f"}, .number = 3, .settings = {.timeout_ms = 30000}};
static bool functions_are_gone;
static size_t functions_missed; // how often

int registry_resolve(struct registry *r, struct str name, struct str qualifier, struct version **ret, struct err *err) {
    (void)r;
    if (functions_are_gone || !name.len || name.data[0] != 'f') {
        functions_missed++;
        return err_set(err, ERR_NOT_FOUND, "there is no function %.*s", STR_ARG(name));
    }
    if (qualifier.len && !str_is(qualifier, "3") && !str_is(qualifier, "1"))
        return err_set(err, ERR_NOT_FOUND, "function f has no version %.*s", STR_ARG(qualifier));
    *ret = &version_3;
    return 0;
}

struct version *version_ref(struct version *v) {
    v->refs++;
    return v;
}

void version_unref(struct version *v) {
    v->refs--;
}

// --- the gate -------------------------------------------------------------------------------------------------------------
// A queue before the real one: lets events pass, keeps them, keeps what the real one says of them, or refuses them.

enum gate_mode { GATE_OPEN, GATE_KEEP, GATE_KEEP_ANSWERS, GATE_REFUSE };
struct gate {
    struct queue base;
    struct queue *real;
    struct loop *loop;
    enum gate_mode mode;
    enum err_code code;       // GATE_REFUSE: with which
    struct kept {
        struct kept *next;
        struct gate *gate;
        struct ev *ev;        // NULL: it is on the real queue
        bool answered;
        queue_confirm_fn *confirm;
        void *arg;
    } *kept, **last;
    size_t kept_count, kept_bytes, refused;
    struct defer refuse;
};

static inline void gate_answer(void *arg, int code, const struct err *err) {
    struct kept *k = arg;
    (void)err;
    assert_int_equal(code, 0);
    k->answered = true;
}

static inline void gate_refuse(void *arg) {
    struct gate *g = arg;
    struct err err = {0};
    err_set(&err, g->code, "the queue is away");
    for (struct kept *k; (k = g->kept);) {
        g->kept = k->next;
        if (!g->kept) g->last = &g->kept;
        ev_free(k->ev);
        k->confirm(k->arg, g->code, &err);
        free(k);
        g->refused++;
    }
    g->kept_count = g->kept_bytes = 0;
}

static inline void gate_publish(struct queue *q, struct ev *ev, queue_confirm_fn *confirm, void *arg) {
    struct gate *g = container_of(q, struct gate, base);
    if (g->mode == GATE_OPEN) {
        queue_publish(g->real, ev, confirm, arg);
        return;
    }
    struct kept *k = mem_zalloc(sizeof *k);
    *k = (struct kept){.gate = g, .ev = ev, .confirm = confirm, .arg = arg};
    *g->last = k;
    g->last = &k->next;
    g->kept_count++;
    g->kept_bytes += ev->f.payload.len;
    if (g->mode == GATE_REFUSE) loop_defer(g->loop, &g->refuse);
    if (g->mode == GATE_KEEP_ANSWERS) queue_publish(g->real, TAKE_PTR(k->ev), gate_answer, k);
}

static const struct queue_ops gate_ops = {.scheme = "gate", .publish = gate_publish};

static inline void gate_init(struct gate *g, struct loop *loop, struct queue *real) {
    *g = (struct gate){.base = {&gate_ops}, .real = real, .loop = loop};
    g->last = &g->kept;
    g->refuse = (struct defer){.fn = gate_refuse, .arg = g};
}

// Opens it for everything that it kept.
static inline void gate_open(struct gate *g) {
    struct kept *k = g->kept, *next;
    g->mode = GATE_OPEN;
    g->kept = NULL;
    g->last = &g->kept;
    g->kept_count = g->kept_bytes = 0;
    for (; k; k = next) {
        next = k->next;
        if (k->ev) queue_publish(g->real, k->ev, k->confirm, k->arg);
        else TURN_UNTIL(g->loop, k->answered);
        if (k->answered) k->confirm(k->arg, ERR_OK, NULL);
        free(k);
    }
}

// --- the world --------------------------------------------------------------------------------------------------------------

enum telling { TELL_NOTHING, TELL_OK, TELL_DEAD, TELL_BY_PAYLOAD }; // by payload: bad is dead, slow is nothing, all else is ok

#define WORLD_LOOK_MS 40     // all that a node waits for is some looks
struct node {
    struct gate gate;
    struct registry registry;
    struct ingest *ingest;
    struct metrics *metrics;
    struct replays *replays;
};

struct world {
    struct letters_fixture lf;
    struct loop *loop;
    struct queue *queue;
    struct queue_consumer *consumers[2];
    struct node a, b;         // b when a test wants it
    struct ev **got;          // of the consumers, in order of arrival; acknowledged
    size_t got_count, got_room, told;
    enum telling telling;
    bool dies_as_before;      // a dead event has a letter with the error of its origin
};

static int64_t world_silence_ms, world_look_ms; // of nodes that are opened from now on; 0: as a server has it; WORLD_LOOK_MS

// For what must not happen meanwhile.
static inline void turn_looks(struct world *w, int looks) {
    int64_t until_ns = clock_mono_ns() + looks * WORLD_LOOK_MS * NS_PER_MS;
    while (clock_mono_ns() < until_ns) loop_turn(w->loop, 5);
}

static inline void on_told(void *arg, int code, const struct err *err) {
    struct world *w = arg;
    (void)err;
    assert_int_equal(code, 0);
    w->told++;
}

static inline void tell(struct world *w, const struct ev *ev, enum replay_outcome outcome) {
    replays_outcome(w->b.replays ? w->b.replays : w->a.replays, ev, outcome, on_told, w);
}

static inline void on_letter_put(void *arg, int code, const struct err *err) {
    struct ev *ev = arg;
    (void)err;
    assert_int_equal(code, 0);
    ev_free(ev);
}

static inline void die(struct world *w, const struct ev *ev) {
    struct ev *copy = ev_new(&ev->f);
    const struct letter_draft draft = {.ev = copy, .state = LETTER_DEAD, .kind = LETTER_FUNCTION,
                                       .error_type = w->dies_as_before ? STR_LIT("KeyError") : STR_LIT("ValueError"),
                                       .error_message = STR_LIT("'x'")};
    letters_put(w->lf.letters, &draft, on_letter_put, copy);
    tell(w, ev, REPLAY_OUTCOME_DEAD);
}

static inline void on_messages(void *arg, struct queue_msg *msgs, size_t count) {
    struct world *w = arg;
    for (size_t i = 0; i < count; i++) {
        struct ev *ev = msgs[i].ev;
        bool bad = w->telling == TELL_DEAD, ok = w->telling == TELL_OK;
        if (w->telling == TELL_BY_PAYLOAD) {
            bad = str_is(ev->f.payload, "bad");
            ok = !bad && !str_is(ev->f.payload, "slow");
        }
        if (w->got_count == w->got_room) {
            w->got_room = w->got_room ? 2 * w->got_room : 64;
            w->got = mem_realloc(w->got, w->got_room * sizeof(struct ev *));
        }
        w->got[w->got_count++] = ev;
        queue_ack(w->consumers[str_is(ev->f.function, "f") ? 0 : 1], msgs[i].tag);
        if (ev->f.replay && bad) die(w, ev);
        if (ev->f.replay && ok) tell(w, ev, REPLAY_OUTCOME_OK);
    }
}

static inline void node_open(struct world *w, struct node *n, const char *name) {
    n->metrics = metrics_new();
    gate_init(&n->gate, w->loop, w->queue);
    registry_look_init(&n->registry, w->loop);
    n->ingest = ingest_new(&(struct ingest_config){
        .loop = w->loop, .registry = &n->registry, .queue = &n->gate.base, .sync_lane = w->queue, .metrics = n->metrics});
    n->replays = replays_new(&(struct replays_config){.loop = w->loop, .store = w->lf.fx->store, .reader = w->lf.reader, .letters = w->lf.letters,
                                                      .ingest = n->ingest, .metrics = n->metrics, .node = name,
                                                      .look_ms = world_look_ms ? world_look_ms : WORLD_LOOK_MS, .silence_ms = world_silence_ms});
}

static inline void node_close(struct world *w, struct node *n) {
    if (!n->replays) return;
    gate_open(&n->gate);
    TURN_UNTIL(w->loop, replays_stop(n->replays));
    replays_free(n->replays);
    loop_defer_cancel(w->loop, &n->gate.refuse);
    ingest_free(n->ingest);
    registry_look_done(&n->registry);
    metrics_free(n->metrics);
    *n = (struct node){.replays = NULL};
}

// Node a is there, and starts nothing yet.
static inline void world_open(struct world *w, struct store_fixture *fx) {
    static const char *const names[] = {"f", "f2"};
    *w = (struct world){.loop = fx->loop, .telling = TELL_OK};
    functions_are_gone = false;
    world_silence_ms = world_look_ms = 0;
    letters_open(&w->lf, fx, NULL);
    struct err err = {0};
    if (queue_open(&(struct queue_config){.loop = w->loop, .url = "memory:"}, &w->queue, &err)) fail_msg("%s", err.text);
    for (size_t i = 0; i < array_len(names); i++)
        w->consumers[i] = queue_consume(w->queue, &(struct queue_consumer_config){.function = str_of(names[i]), .credit = 10000,
                                                                                  .credit_bytes = 1 << 30, .on_messages = on_messages, .arg = w});
    node_open(w, &w->a, "a");
}

static inline void on_queue_closed(void *arg) {
    *(bool *)arg = true;
}

static inline void world_close(struct world *w) {
    bool closed = false;
    node_close(w, &w->a);
    node_close(w, &w->b);
    for (size_t i = 0; i < array_len(w->consumers); i++) queue_consumer_close(w->consumers[i]);
    for (size_t i = 0; i < w->got_count; i++) ev_free(w->got[i]);
    free(w->got);
    queue_close(w->queue, on_queue_closed, &closed);
    TURN_UNTIL(w->loop, closed);
    assert_int_equal(version_3.refs, 1);
    letters_close(&w->lf);
}

// Another node takes the jobs of a, which does not hear of its death; what it sent is confirmed to it later.
static inline void take_over(struct world *w) {
    sql(&w->lf, "UPDATE replays SET owner = 'b', lease_ms = 4102444800000 WHERE ended_ms IS NULL"); // else a, which lives, may be first
    node_open(w, &w->b, "b");
    replays_start(w->b.replays);
}

// --- jobs ---------------------------------------------------------------------------------------------------------------------

static inline json_t *create_json(struct world *w, struct replay_spec spec) {
    struct answer a = {0};
    if (spec.abort_share == 0) spec.abort_share = -1;
    replays_create(w->a.replays, &spec, answer_json, &a);
    await(&w->lf, &a);
    return a.json;
}

static inline int64_t create(struct world *w, struct replay_spec spec) {
    json_t *o = create_json(w, spec);
    int64_t replay = number_in(o, "replay");
    json_decref(o);
    return replay;
}

static inline void create_refused(struct world *w, struct replay_spec spec, int code, const char *says) {
    struct answer a = {0};
    if (spec.abort_share == 0) spec.abort_share = -1;
    replays_create(w->a.replays, &spec, answer_json, &a);
    await_refusal(&w->lf, &a, code, says);
}

static inline json_t *show_replay(struct world *w, int64_t replay) {
    struct answer a = {0};
    replays_show(w->a.replays ? w->a.replays : w->b.replays, replay, answer_json, &a);
    await(&w->lf, &a);
    return a.json;
}

static inline bool replay_is(struct world *w, int64_t replay, const char *state) {
    json_t *o = show_replay(w, replay);
    bool is = strcmp(text_in(o, "state"), state) == 0;
    json_decref(o);
    return is;
}

static inline int64_t replay_number(struct world *w, int64_t replay, const char *member) {
    json_t *o = show_replay(w, replay);
    int64_t n = number_in(o, member);
    json_decref(o);
    return n;
}

static inline void until_state(struct world *w, int64_t replay, const char *state) {
    TURN_UNTIL(w->loop, replay_is(w, replay, state));
}

typedef void replay_act_fn(struct replays *r, int64_t replay, letters_json_fn *fn, void *arg);
static inline void act(struct world *w, replay_act_fn *fn, int64_t replay) {
    struct answer a = {0};
    fn(w->b.replays ? w->b.replays : w->a.replays, replay, answer_json, &a);
    await(&w->lf, &a);
    answer_free(&a);
}

// All counts of a job; those of outcomes are not looked at when negative.
static inline void expect_counts(struct world *w, int64_t replay, int64_t pending, int64_t sent, int64_t skipped, int64_t failed) {
    json_t *o = show_replay(w, replay);
    const int64_t want[] = {pending, sent, skipped, failed};
    static const char *const names[] = {"pending", "sent", "skipped", "failed"};
    for (size_t i = 0; i < array_len(want); i++)
        if (number_in(o, names[i]) != want[i]) fail_msg("%s: %lld, not %lld", names[i], (long long)number_in(o, names[i]), (long long)want[i]);
    assert_int_equal(number_in(o, "total"), pending + sent + skipped + failed);
    json_decref(o);
}

// The letters of a job in one state; the caller lets go of it.
static inline json_t *letters_of(struct world *w, int64_t replay, const char *state) {
    struct answer a = {0};
    replays_letters(w->a.replays ? w->a.replays : w->b.replays, replay, str_of(state), 0, 1000, answer_json, &a);
    await(&w->lf, &a);
    return a.json;
}

// In one go.
static inline void put_many_of(struct world *w, struct id *ids, size_t count, const struct ev_fields *f) {
    struct answer *answers = mem_zalloc(count * sizeof *answers);
    struct ev **evs = mem_array(count, sizeof *evs);
    for (size_t i = 0; i < count; i++) {
        evs[i] = ev_new(f);
        if (ids) ids[i] = evs[i]->f.id;
        const struct letter_draft draft = {.ev = evs[i], .state = LETTER_DEAD, .kind = LETTER_FUNCTION, .version = 3,
                                           .error_type = STR_LIT("KeyError"), .error_message = STR_LIT("'x'")};
        letters_put(w->lf.letters, &draft, answer_done, &answers[i]);
    }
    for (size_t i = 0; i < count; i++) await(&w->lf, &answers[i]);
    for (size_t i = 0; i < count; i++) ev_free(evs[i]);
    free(answers);
    free(evs);
}

static inline void put_many(struct world *w, struct id *ids, size_t count, const char *function, const char *payload) {
    put_many_of(w, ids, count, &(struct ev_fields){.function = str_of(function), .payload = str_of(payload), .attempt = 4});
}

// How often the letter came as an event.
static inline size_t times(const struct world *w, const struct id *letter) {
    size_t n = 0;
    for (size_t i = 0; i < w->got_count; i++) n += id_eq(&w->got[i]->f.origin_id, letter);
    return n;
}

#endif
