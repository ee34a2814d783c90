// SPDX-License-Identifier: Apache-2.0
// Changes by people: discard, restore, retry, purge. The reader finds the letters, the writer changes these, some at a time. The state is
// asked once more where the row is changed, so that of two who change one letter at the same time one wins and the other is told, or counts
// one less. Letters that are named by their ids are found and changed in one go.
#include "core/base/clock.h"
#include "dlq/letters_impl.h"

#define PORTION SELECT_IDS_MAX         // letters of one store job
#define HELD_UNTIL_MS 253402300799000 // the due time of a fire's letter that waits for another fire (dlq/fires_impl.h)
#define TEXT_OF2(n) #n
#define TEXT_OF(n) TEXT_OF2(n)
#define HELD_MS TEXT_OF(HELD_UNTIL_MS)

enum change { CHANGE_discarded, CHANGE_restored, CHANGE_retried, CHANGE_purged, CHANGE_purged_dead };
// states: that it takes; also: a further condition, in which @ is the time of the call; begin: $1 is that time, $2 why.
static const struct change_text {
    const char *verb, *states, *also, *begin;
} change_texts[] = {
    [CHANGE_discarded] = {"discarded", " IN ('dead', 'due')", "",
                          "UPDATE letters SET state = 'discarded', changed_ms = $1, lease_ms = 0, why = $2 WHERE "},
    [CHANGE_restored] = {"restored", " IN ('discarded', 'replayed')", "",
                         "UPDATE letters SET state = 'dead', changed_ms = $1, lease_ms = 0, due_ms = NULL, replay_id = NULL, why = $2 WHERE "},
    [CHANGE_retried] = {"retried", " = 'due'", " AND due_ms > @ AND due_ms <> " HELD_MS " AND lease_ms <= @",
                        "UPDATE letters SET due_ms = $1, changed_ms = $1, why = $2 WHERE "},
    // What was changed since the call is not what was meant to go for ever.
    [CHANGE_purged] = {"purged", " IN ('replayed', 'discarded')", " AND changed_ms <= @", "DELETE FROM letters WHERE "},
    [CHANGE_purged_dead] = {"purged", " IN ('replayed', 'discarded', 'dead')", " AND changed_ms <= @", "DELETE FROM letters WHERE "},
};

struct change_job {
    struct store_job job;
    struct letters *letters;
    enum change change;
    struct selection *sel;
    bool by_ids;
    bool spares_delayed;        // a retry: what was put off on purpose is only meant by its id, or by a filter that asks for that kind
    struct letters_place place;
    size_t limit;
    char *why;
    int64_t now_ms;
    letters_json_fn *fn;
    void *arg;
    struct letters_found found;
    size_t at;                  // so many of them were gone through
    int64_t total;              // changed
    json_t *refused;
    // of one portion:
    size_t size;
    struct id changed[PORTION];
    size_t count;
};

static int take_changed(void *arg, const struct sql_row *row) {
    struct change_job *c = arg;
    MUST(c->count < PORTION);
    c->changed[c->count++] = letters_row_id(row, 0);
    return 0;
}

static int by_bytes(const void *a, const void *b) {
    return memcmp(a, b, sizeof(struct id));
}

// --- what was not changed -------------------------------------------------------------------------------------------------

struct state_found {
    char state[16]; // "": there is no such letter
    int64_t replay, due_ms, lease_ms;
};

static int take_state(void *arg, const struct sql_row *row) {
    struct state_found *found = arg;
    struct str state = sql_row_bytes(row, 0);
    snprintf(found->state, sizeof found->state, "%.*s", STR_ARG(state));
    found->replay = sql_row_int(row, 1);
    found->due_ms = sql_row_int(row, 2);
    found->lease_ms = sql_row_int(row, 3);
    return 0;
}

static char *why_refused(const struct state_found *found, int64_t now_ms) {
    bool due = strcmp(found->state, "due") == 0;
    if (!found->state[0]) return mem_strdup("there is no such letter");
    if (strcmp(found->state, "replaying") == 0)
        return mem_printf("it is being sent back right now by replay %lld", (long long)found->replay);
    if (due && found->lease_ms > now_ms) return mem_strdup("it is on its way to its queue right now");
    if (due && found->due_ms == HELD_UNTIL_MS) return mem_strdup("it waits for another fire of its timer");
    if (due && found->due_ms <= now_ms) return mem_strdup("it is due already");
    return mem_printf("it is %s", found->state);
}

int letters_sql_refused(struct sql *sql, const struct id *ids, size_t count, json_t *refused, struct err *err) {
    int64_t now_ms = 0;
    int rc = count ? sql_unix_ms(sql, &now_ms, err) : 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        struct state_found found = {.replay = 0};
        const struct sql_value id = letters_sql_id(&ids[i]);
        rc = sql_exec(sql, "SELECT state, replay, due_ms, lease_ms FROM letters WHERE id = $1", &id, 1, take_state, &found, NULL, err);
        cleanup_free char *why = why_refused(&found, now_ms);
        json_array_append_new(refused, json_pack("{so ss ss}", "id", letters_json_id(&ids[i]), "state",
                                                 found.state[0] ? found.state : "missing", "why", why));
    }
    return rc;
}

// Of the given ids between the call before and `last` (NULL: the end), those that were not changed.
static int tell_refused(struct change_job *c, struct sql *sql, const struct id *last, struct err *err) {
    size_t asked = 0, n = 0;
    const struct id *ids = selection_ids(c->sel, &asked);
    struct id *left = mem_array(asked, sizeof *left);
    if (c->count) qsort(c->changed, c->count, sizeof *c->changed, by_bytes);
    for (size_t i = 0; i < asked; i++) {
        bool elsewhere = (c->place.as_of_ms && by_bytes(&ids[i], &c->place.after) <= 0) || (last && by_bytes(&ids[i], last) > 0);
        if (!elsewhere && !(c->count && bsearch(&ids[i], c->changed, c->count, sizeof *c->changed, by_bytes))) left[n++] = ids[i];
    }
    int rc = letters_sql_refused(sql, left, n, c->refused, err);
    free(left);
    return rc;
}

// --- the statements ---------------------------------------------------------------------------------------------------------

static int find(struct change_job *c, struct sql *sql, struct err *err) {
    const struct change_text *t = &change_texts[c->change];
    cleanup_free char *condition = mem_printf("state%s%s%s", t->states, t->also, c->spares_delayed ? " AND kind <> 'delayed'" : "");
    const struct letters_which which = {.sel = c->sel, .condition = condition, .place = c->place, .now_ms = c->now_ms, .limit = c->limit};
    return letters_sql_find(sql, &which, &c->found, err);
}

// PostgreSQL goes by the ids, not by an index of the letters in some state, when the state is an expression.
static int change_these(struct change_job *c, struct sql *sql, const struct selection *these, struct err *err) {
    const struct change_text *t = &change_texts[c->change];
    struct buf text;
    struct select_sql *q = mem_alloc(sizeof *q);
    buf_init(&text, SIZE_MAX / 2);
    *q = (struct select_sql){.text = &text, .postgres = sql_is_postgres(sql)};
    select_sql_add(q, t->begin);
    if (c->change < CHANGE_purged) {
        q->values[q->count++] = SQL_I(c->now_ms); // $1 and $2 stand in the text
        q->values[q->count++] = SQL_Z(c->why);
    }
    select_sql_add(q, "state || ''");
    select_sql_add(q, t->states);
    letters_sql_add(q, t->also, c->now_ms);
    select_sql_add(q, " AND ");
    selection_sql(these, q);
    select_sql_add(q, " RETURNING id");
    MUST(buf_append(&text, (struct str){"", 1}) == 0);
    int rc = sql_exec_once(sql, text.data + text.start, q->values, q->count, take_changed, c, NULL, err);
    buf_done(&text);
    free(q);
    return rc == 0 && c->change >= CHANGE_purged ? letters_sql_forget(sql, c->changed, c->count, err) : rc;
}

static int portion_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct change_job *c = container_of(job, struct change_job, job);
    c->count = 0;
    json_array_clear(c->refused);
    int rc = c->by_ids ? find(c, sql, err) : 0;
    size_t left = c->found.count - c->at;
    c->size = left < PORTION ? left : PORTION;
    if (rc == 0 && c->size) {
        struct selection *these = letters_selection(&c->found.ids[c->at], c->size);
        rc = change_these(c, sql, these, err);
        selection_free(these);
    }
    if (rc || !c->by_ids) return rc;
    return tell_refused(c, sql, c->found.count == c->limit ? &c->found.ids[c->found.count - 1] : NULL, err);
}

int letters_sql_forget(struct sql *sql, const struct id *ids, size_t count, struct err *err) {
    if (count == 0) return 0;
    struct sql_value *values = mem_array(count, sizeof *values);
    for (size_t i = 0; i < count; i++) values[i] = letters_sql_id(&ids[i]);
    int rc = sql_exec_many(sql, "DELETE FROM letter_bodies WHERE id = $1", values, 1, count, err);
    if (rc == 0) rc = sql_exec_many(sql, "DELETE FROM letter_originals WHERE letter_id = $1", values, 1, count, err);
    if (rc == 0) rc = sql_exec_many(sql, "DELETE FROM letter_edits WHERE letter_id = $1", values, 1, count, err);
    free(values);
    return rc;
}

// --- jobs -----------------------------------------------------------------------------------------------------------

static void finish(struct change_job *c, int code, const struct err *err) {
    json_t *result = NULL;
    if (code == 0) {
        bool more = c->at < c->found.count || c->found.count == c->limit;
        json_t *next = more && c->at ? letters_place_json(&c->place, &c->found.ids[c->at - 1], c->now_ms) : json_null();
        result = json_pack("{sI sb so sO}", change_texts[c->change].verb, (json_int_t)c->total, "more", more, "next", next, "refused", c->refused);
    }
    c->fn(c->arg, code, err, result);
    json_decref(c->refused);
    selection_free(c->sel);
    free(c->found.ids);
    free(c->why);
    free(c);
}

// When a later portion fails, the answer is what was done before; the next call meets the error.
static void portion_done(struct store_job *job, int code, const struct err *err) {
    struct change_job *c = container_of(job, struct change_job, job);
    if (code == 0) {
        c->at += c->size;
        c->total += (int64_t)c->count;
    }
    if (code == 0 && c->at < c->found.count) store_submit(c->letters->store, &c->job);
    else if (code && c->at) finish(c, 0, NULL);
    else finish(c, code, err);
}

static void change_portions(struct change_job *c) {
    c->job = (struct store_job){.run = portion_run, .done = portion_done};
    store_submit(c->letters->store, &c->job);
}

static int find_run(struct store_job *job, struct sql *sql, struct err *err) {
    return find(container_of(job, struct change_job, job), sql, err);
}

static void find_done(struct store_job *job, int code, const struct err *err) {
    struct change_job *c = container_of(job, struct change_job, job);
    struct err why;
    if (code) finish(c, letters_find_failed(code, err, &why), &why);
    else if (c->found.count) change_portions(c);
    else finish(c, 0, NULL);
}

static void submit(struct letters *l, enum change change, const struct letter_change *given, letters_json_fn *fn, void *arg) {
    struct change_job *c = mem_zalloc(sizeof *c);
    *c = (struct change_job){.job = {.run = find_run, .done = find_done},
                             .letters = l,
                             .change = change,
                             .sel = given->sel,
                             .limit = given->limit,
                             .why = mem_strndup(given->why),
                             .now_ms = clock_unix_ms(),
                             .fn = fn,
                             .arg = arg,
                             .refused = json_array()};
    struct err err = {0};
    size_t ids;
    (void)selection_ids(c->sel, &ids);
    c->by_ids = ids > 0;
    c->spares_delayed = change == CHANGE_retried && !c->by_ids && !selection_names_kind(c->sel, letter_kind_word(LETTER_DELAYED));
    int rc = letters_place_parse(given->after, &c->place, &err);
    if (given->limit < 1 || given->limit > LETTERS_CHANGE_MAX)
        rc = err_set(&err, ERR_INVALID, "limit is a number from 1 to %d", LETTERS_CHANGE_MAX);
    if (rc) finish(c, rc, &err);
    else if (c->by_ids) change_portions(c);
    else store_submit(l->reader, &c->job);
}

void letters_discard(struct letters *l, const struct letter_change *c, letters_json_fn *fn, void *arg) {
    submit(l, CHANGE_discarded, c, fn, arg);
}

void letters_restore(struct letters *l, const struct letter_change *c, letters_json_fn *fn, void *arg) {
    submit(l, CHANGE_restored, c, fn, arg);
}

void letters_retry(struct letters *l, const struct letter_change *c, letters_json_fn *fn, void *arg) {
    submit(l, CHANGE_retried, c, fn, arg);
}

void letters_purge(struct letters *l, const struct letter_change *c, bool dead, letters_json_fn *fn, void *arg) {
    submit(l, dead ? CHANGE_purged_dead : CHANGE_purged, c, fn, arg);
}
