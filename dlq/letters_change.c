// SPDX-License-Identifier: Apache-2.0
// Changes by people: discard, restore, retry, purge. One statement selects and changes; the state is asked once more where the row is
// changed, so that of two who change one letter at the same time one wins and the other is told.
#include "core/base/clock.h"
#include "dlq/letters_impl.h"

#define HELD_UNTIL_MS 253402300799000 // the due time of a fire's letter that waits for another fire (dlq/fires_impl.h)
#define TEXT_OF2(n) #n
#define TEXT_OF(n) TEXT_OF2(n)
#define HELD_MS TEXT_OF(HELD_UNTIL_MS)

// X(verb, states it takes, assignments, further condition); $1 is the time, $2 why.
#define CHANGES(X)                                                                                                              \
    X(discarded, "state IN ('dead', 'due')", "state = 'discarded', changed_ms = $1, lease_ms = 0, why = $2", "")               \
    X(restored, "state IN ('discarded', 'replayed')",                                                                           \
      "state = 'dead', changed_ms = $1, lease_ms = 0, due_ms = NULL, replay_id = NULL, why = $2", "")                           \
    X(retried, "state = 'due'", "due_ms = $1, changed_ms = $1, why = $2", " AND due_ms > $1 AND due_ms <> " HELD_MS " AND lease_ms <= $1")
enum change {
#define X(verb, states, assignments, condition) CHANGE_##verb,
    CHANGES(X)
#undef X
    CHANGE_purged,
};
static const struct change_text {
    const char *verb, *update;
} change_texts[] = {
#define X(verb, states, assignments, condition)                                                                             \
    {#verb, "UPDATE letters SET " assignments " WHERE " states condition " AND id IN (SELECT id FROM letters WHERE " states \
            condition " AND "},
    CHANGES(X)
#undef X
};

struct change_job {
    struct store_job job;
    struct letters *letters;
    enum change change;
    struct selection *sel;
    size_t limit;
    char *why;
    bool dead_too;
    int64_t now_ms;
    letters_json_fn *fn;
    void *arg;
    struct id *changed;
    size_t count;
    json_t *result;
};

static int take_changed(void *arg, const struct sql_row *row) {
    struct change_job *c = arg;
    MUST(c->count < c->limit);
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

static int tell_refused(struct change_job *c, struct sql *sql, json_t *refused, struct err *err) {
    size_t asked = 0, n = 0;
    const struct id *ids = selection_ids(c->sel, &asked);
    struct id *left = mem_array(asked ? asked : 1, sizeof *left);
    if (c->count) qsort(c->changed, c->count, sizeof *c->changed, by_bytes);
    for (size_t i = 0; i < asked; i++)
        if (!c->count || !bsearch(&ids[i], c->changed, c->count, sizeof *c->changed, by_bytes)) left[n++] = ids[i];
    int rc = letters_sql_refused(sql, left, n, refused, err);
    free(left);
    return rc;
}

// --- the statements ---------------------------------------------------------------------------------------------------------

static void begin_statement(struct change_job *c, struct select_sql *q) {
    if (c->change == CHANGE_purged) {
        const char *states = c->dead_too ? "state IN ('replayed', 'discarded', 'dead')" : "state IN ('replayed', 'discarded')";
        select_sql_add(q, "DELETE FROM letters WHERE ");
        select_sql_add(q, states);
        select_sql_add(q, " AND id IN (SELECT id FROM letters WHERE ");
        select_sql_add(q, states);
        select_sql_add(q, " AND ");
        return;
    }
    select_sql_add(q, change_texts[c->change].update);
    q->values[q->count++] = SQL_I(c->now_ms); // $1 and $2 stand in the text
    q->values[q->count++] = SQL_Z(c->why);
}

static int change_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct change_job *c = container_of(job, struct change_job, job);
    c->count = 0;
    json_decref(c->result);
    const char *verb = c->change == CHANGE_purged ? "purged" : change_texts[c->change].verb;
    c->result = json_pack("{si sb s[]}", verb, 0, "more", 0, "refused");
    struct buf text;
    struct select_sql *q = mem_alloc(sizeof *q);
    buf_init(&text, SIZE_MAX / 2);
    *q = (struct select_sql){.text = &text, .postgres = sql_is_postgres(sql)};
    begin_statement(c, q);
    selection_sql(c->sel, q);
    select_sql_add(q, " ORDER BY id LIMIT ");
    select_sql_value(q, SQL_I(c->limit));
    select_sql_add(q, ") RETURNING id");
    MUST(buf_append(&text, (struct str){"", 1}) == 0);
    int rc = sql_exec_once(sql, text.data + text.start, q->values, q->count, take_changed, c, NULL, err);
    buf_done(&text);
    free(q);
    if (rc == 0 && c->change == CHANGE_purged) rc = letters_sql_forget(sql, c->changed, c->count, err);
    json_object_set_new(c->result, verb, json_integer((json_int_t)c->count));
    json_object_set_new(c->result, "more", json_boolean(c->count == c->limit));
    return rc ? rc : tell_refused(c, sql, json_object_get(c->result, "refused"), err);
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

static void change_done(struct store_job *job, int code, const struct err *err) {
    struct change_job *c = container_of(job, struct change_job, job);
    c->fn(c->arg, code, err, code ? NULL : json_incref(c->result));
    json_decref(c->result);
    selection_free(c->sel);
    free(c->changed);
    free(c->why);
    free(c);
}

static void submit(struct letters *l, enum change change, const struct letter_change *given, bool dead, letters_json_fn *fn, void *arg) {
    struct change_job *c = mem_zalloc(sizeof *c);
    *c = (struct change_job){.job = {.run = change_run, .done = change_done},
                             .letters = l,
                             .change = change,
                             .sel = given->sel,
                             .limit = given->limit,
                             .why = mem_strndup(given->why),
                             .dead_too = dead,
                             .now_ms = clock_unix_ms(),
                             .fn = fn,
                             .arg = arg};
    struct err err = {0};
    if (given->limit < 1 || given->limit > LETTERS_CHANGE_MAX) {
        change_done(&c->job, err_set(&err, ERR_INVALID, "limit is a number from 1 to %d", LETTERS_CHANGE_MAX), &err);
        return;
    }
    c->changed = mem_array(c->limit, sizeof *c->changed);
    store_submit(l->store, &c->job);
}

void letters_discard(struct letters *l, const struct letter_change *c, letters_json_fn *fn, void *arg) {
    submit(l, CHANGE_discarded, c, false, fn, arg);
}

void letters_restore(struct letters *l, const struct letter_change *c, letters_json_fn *fn, void *arg) {
    submit(l, CHANGE_restored, c, false, fn, arg);
}

void letters_retry(struct letters *l, const struct letter_change *c, letters_json_fn *fn, void *arg) {
    submit(l, CHANGE_retried, c, false, fn, arg);
}

void letters_purge(struct letters *l, const struct letter_change *c, bool dead, letters_json_fn *fn, void *arg) {
    submit(l, CHANGE_purged, c, dead, fn, arg);
}
