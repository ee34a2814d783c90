// SPDX-License-Identifier: Apache-2.0
// Invariant: a trial is in `trials` until all its runs have an answer; `open` counts those that are under way.
#include "dlq/try.h"

#include <utlist.h>

#include "core/base/clock.h"
#include "dlq/fingerprint.h"
#include "dlq/letters_impl.h"

#define RESULT_SHOWN 4096

struct trials {
    struct loop *loop;
    struct letters *letters;
    struct ingest *ingest;
    const struct redact *redact;
    struct trial *list;
};

struct trial {
    struct trial *prev, *next;
    struct trials *trials;      // NULL: it is gone
    char *function, *qualifier; // NULL: each letter's own
    struct shot {
        struct trial *trial;
        struct sync_call *call;
        struct ev *before;      // as the letter has it
        uint64_t fingerprint;   // of what it died of
    } *shots;
    size_t count, begun, open;
    bool starting;
    int64_t tally[3];           // passed, failed, not run
    json_t *results;
    letters_json_fn *fn;
    void *arg;
};

enum { PASSED, FAILED, NOT_RUN };

static void end_trial(struct trial *t) {
    if (t->trials) {
        DL_DELETE(t->trials->list, t);
        json_t *o = json_pack("{sI sI sI sI sO}", "tried", (json_int_t)t->count, "passed", (json_int_t)t->tally[PASSED], "failed",
                              (json_int_t)t->tally[FAILED], "notRun", (json_int_t)t->tally[NOT_RUN], "results", t->results);
        t->fn(t->arg, ERR_OK, NULL, o);
    }
    for (size_t i = 0; i < t->count; i++) ev_free(t->shots[i].before);
    json_decref(t->results);
    free(t->function);
    free(t->qualifier);
    free(t->shots);
    free(t);
}

// --- one result -------------------------------------------------------------------------------------------------------------

static json_t *cut_text(struct str s) {
    if (s.len > RESULT_SHOWN) s.len = RESULT_SHOWN;
    return letters_json_text(s);
}

static json_t *result_of(const struct shot *s, int code, const struct err *err, const struct outcome_report *r) {
    const struct ev_fields *f = &s->before->f;
    char group[FINGERPRINT_TEXT_BYTES] = "";
    const char *verdict = code ? "not-run" : "passes";
    bool failed = code == 0 && r->outcome != OUTCOME_OK;
    if (failed) {
        uint64_t now = fingerprint_of(f->function, r->error_type, r->error_message, r->stack);
        fingerprint_format(now, group);
        verdict = now == s->fingerprint ? "same" : "other";
    }
    json_t *o = json_pack("{so so so ss so ss}", "id", letters_json_id(&f->id), "function", letters_json_text(f->function), "version",
                          json_integer(code ? 0 : r->version), "outcome", code ? "none" : outcome_word(r->outcome), "result",
                          code || failed ? json_null() : cut_text(r->result), "verdict", verdict);
    json_object_set_new(o, "durationMs", json_real(code ? 0 : (double)r->duration_us / 1e3));
    json_object_set_new(o, "errorType", code ? json_string(err_word((enum err_code)code)) : letters_json_text(r->error_type));
    json_object_set_new(o, "errorMessage", code ? letters_json_text(str_of(err->text)) : letters_json_text(r->error_message));
    json_object_set_new(o, "stack", code ? json_string("") : letters_json_text(r->stack));
    json_object_set_new(o, "log", code ? json_string("") : letters_json_text(r->log_tail));
    json_object_set_new(o, "group", json_string(group));
    redact_json(s->trial->trials->redact, o);
    return o;
}

static void start_more(struct trial *t);

static void on_result(void *arg, int code, const struct err *err, const struct outcome_report *r) {
    struct shot *s = arg;
    struct trial *t = s->trial;
    s->call = NULL;
    t->open--;
    t->tally[code ? NOT_RUN : r->outcome == OUTCOME_OK ? PASSED : FAILED]++;
    json_array_append_new(t->results, result_of(s, code, err, r));
    start_more(t);
}

// --- running ----------------------------------------------------------------------------------------------------------------

static void start(struct shot *s) {
    const struct trial *t = s->trial;
    struct ev_fields f = s->before->f;
    f.id = f.origin_id = (struct id){{0}};
    f.invocation = EV_SYNC;
    f.dry_run = true;
    f.attempt = 0;
    f.replay = f.replay_seq = 0;
    f.accepted_ms = f.deadline_ms = 0;
    f.history = f.reply_to = STR_NONE;
    f.qualifier = str_of(t->qualifier);
    if (t->function) f.function = str_of(t->function);
    s->call = ingest_sync(t->trials->ingest, ev_new(&f), on_result, s);
}

// A run whose answer is known at once comes back here from inside, and leaves it to the loop.
static void start_more(struct trial *t) {
    if (t->starting) return;
    t->starting = true;
    while (t->begun < t->count && t->open < TRY_AT_A_TIME) {
        t->open++;
        start(&t->shots[t->begun++]);
    }
    t->starting = false;
    if (t->open == 0) end_trial(t);
}

static void on_sampled(void *arg, int code, const struct err *err, struct letter *letters, size_t count) {
    struct trial *t = arg;
    t->shots = mem_array(count ? count : 1, sizeof *t->shots);
    for (size_t i = 0; i < count; i++) t->shots[i] = (struct shot){.trial = t, .before = letters[i].ev, .fingerprint = letters[i].fingerprint};
    t->count = count;
    struct err none = {0};
    if (code == 0 && count == 0) code = err_set(&none, ERR_NOT_FOUND, "there is no such letter");
    if (code && t->trials) {
        DL_DELETE(t->trials->list, t);
        t->fn(t->arg, code, none.code ? &none : err, NULL);
        t->trials = NULL;
    }
    if (t->trials) start_more(t);
    else end_trial(t);
}

void trials_run(struct trials *trials, struct selection *sel, size_t sample, struct str to, letters_json_fn *fn, void *arg) {
    struct trial *t = mem_zalloc(sizeof *t);
    *t = (struct trial){.trials = trials, .results = json_array(), .fn = fn, .arg = arg};
    const char *colon = to.len ? memchr(to.data, ':', to.len) : NULL;
    size_t name_len = colon ? (size_t)(colon - to.data) : to.len;
    if (to.len) t->function = mem_strndup((struct str){to.data, name_len});
    if (colon) t->qualifier = mem_strndup((struct str){colon + 1, to.len - name_len - 1});
    DL_APPEND(trials->list, t);
    letters_sample(trials->letters, sel, sample < TRY_MAX ? sample : TRY_MAX, on_sampled, t);
}

struct trials *trials_new(struct loop *loop, struct letters *letters, struct ingest *ingest, const struct redact *redact) {
    struct trials *t = mem_zalloc(sizeof *t);
    *t = (struct trials){.loop = loop, .letters = letters, .ingest = ingest, .redact = redact};
    return t;
}

void trials_free(struct trials *trials) {
    if (!trials) return;
    struct trial *t, *next;
    DL_FOREACH_SAFE(trials->list, t, next) {
        bool sampled = t->shots != NULL;
        for (size_t i = 0; i < t->begun; i++)
            if (t->shots[i].call) ingest_sync_cancel(t->shots[i].call);
        DL_DELETE(trials->list, t);
        t->trials = NULL;
        if (sampled) end_trial(t); // else when its letters come
    }
    free(trials);
}
