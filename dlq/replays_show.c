// SPDX-License-Identifier: Apache-2.0
// Looking at replays, and pause, resume, cancel: a change of the row, which the node that runs the job notices at its next look.
#include "core/base/clock.h"
#include "dlq/replays_impl.h"

#define LIST_MAX 100
#define LETTERS_LIST_MAX 1000

struct show_job {
    struct store_job job;
    struct replays *replays;
    int64_t replay, before, after;
    bool open_only;
    char *state;
    size_t limit;
    const char *to;          // of a change
    int64_t lease_ms;        // of a change: so long somebody may have letters of the job under way
    letters_json_fn *fn;
    void *arg;
    json_t *result;
};

// A node runs so many jobs at a time; one that waits for its turn says so.
static void tell_waiting(const struct replays *r, json_t *o) {
    const struct run *run = r->runs;
    bool here = json_is_string(json_object_get(o, "node")) && strcmp(json_string_value(json_object_get(o, "node")), r->c.node) == 0;
    size_t count = 0;
    for (; run && run->row.replay != json_integer_value(json_object_get(o, "replay")); run = run->next) count++;
    bool running = strcmp(json_string_value(json_object_get(o, "state")), "running") == 0;
    if (here && running && !run && count >= REPLAY_JOBS_MAX)
        json_object_set_new(o, "reason", json_sprintf("waits for its turn: %zu replays run on this node", count));
}

static void show_done(struct store_job *job, int code, const struct err *err) {
    struct show_job *s = container_of(job, struct show_job, job);
    s->replays->jobs--;
    json_t *list = json_object_get(s->result, "replays"), *o;
    size_t i;
    json_array_foreach(list, i, o) tell_waiting(s->replays, o);
    if (json_object_get(s->result, "replay")) tell_waiting(s->replays, s->result);
    if (s->to && code == 0) replays_recover_in(s->replays, s->lease_ms);
    if (s->to) replays_look(s->replays);
    s->fn(s->arg, code, err, code ? NULL : json_incref(s->result));
    json_decref(s->result);
    free(s->state);
    free(s);
}

static struct show_job *show_job_new(struct replays *r, int (*run)(struct store_job *, struct sql *, struct err *), letters_json_fn *fn,
                                     void *arg) {
    struct show_job *s = mem_zalloc(sizeof *s);
    *s = (struct show_job){.job = {.run = run, .done = show_done}, .replays = r, .fn = fn, .arg = arg};
    return s;
}

static void look_at(struct show_job *s) {
    s->replays->jobs++;
    store_submit(s->replays->c.reader, &s->job);
}

// --- a job ----------------------------------------------------------------------------------------------------------------

#define COLUMNS                                                                                                          \
    "SELECT id, state, who, selection, target, to_origin, rate, ramp_ms, abort_share, sample, in_order, created_ms, ended_ms, reason," \
    " owner, total, cause IS NOT NULL, ran_ms FROM replays "

static json_t *text_at(const struct sql_row *row, int column) {
    return letters_json_text(sql_row_bytes(row, column));
}

static int64_t ran_ms(const struct sql_row *row) {
    int64_t told_ms = sql_row_int(row, 17);
    if (str_is(sql_row_bytes(row, 1), "paused")) return told_ms;
    return (sql_row_is_null(row, 12) ? clock_unix_ms() : sql_row_int(row, 12)) - told_ms;
}

static int add_replay(void *arg, const struct sql_row *row) {
    json_t *o = json_object();
    int64_t share = sql_row_int(row, 8);
    json_object_set_new(o, "replay", json_integer(sql_row_int(row, 0)));
    json_object_set_new(o, "state", text_at(row, 1));
    json_object_set_new(o, "who", text_at(row, 2));
    json_object_set_new(o, "selection", text_at(row, 3));
    json_object_set_new(o, "to", text_at(row, 4));
    json_object_set_new(o, "toOrigin", json_boolean(sql_row_int(row, 5)));
    json_object_set_new(o, "rate", json_real((double)sql_row_int(row, 6) / 1000));
    json_object_set_new(o, "rampMs", json_integer(sql_row_int(row, 7)));
    json_object_set_new(o, "abortShare", share < 0 ? json_null() : json_real((double)share / 1e6));
    json_object_set_new(o, "sample", json_integer(sql_row_int(row, 9)));
    json_object_set_new(o, "inOrder", json_boolean(sql_row_int(row, 10)));
    json_object_set_new(o, "createdMs", json_integer(sql_row_int(row, 11)));
    json_object_set_new(o, "endedMs", sql_row_is_null(row, 12) ? json_null() : json_integer(sql_row_int(row, 12)));
    json_object_set_new(o, "ranMs", json_integer(ran_ms(row))); // for set_progress
    json_object_set_new(o, "reason", text_at(row, 13));
    json_object_set_new(o, "node", text_at(row, 14));
    json_object_set_new(o, "total", json_integer(sql_row_int(row, 15)));
    json_object_set_new(o, "automatic", json_boolean(sql_row_int(row, 16)));
    json_array_append_new(arg, o);
    return 0;
}

static void set_progress(json_t *o, const struct replay_counts *c) {
    json_int_t ran_ms = json_integer_value(json_object_get(o, "ranMs"));
    json_object_del(o, "ranMs");
    double sent_a_second = ran_ms > 0 ? (double)c->sent * 1e3 / (double)ran_ms : 0;
    double done_a_second = ran_ms > 0 ? (double)(c->sent + c->failed + c->skipped) * 1e3 / (double)ran_ms : 0;
    bool running = strcmp(json_string_value(json_object_get(o, "state")), "running") == 0;
    json_object_set_new(o, "pending", json_integer(c->pending));
    json_object_set_new(o, "sent", json_integer(c->sent));
    json_object_set_new(o, "skipped", json_integer(c->skipped));
    json_object_set_new(o, "failed", json_integer(c->failed));
    json_object_set_new(o, "ok", json_integer(c->ok));
    json_object_set_new(o, "failing", json_integer(c->failing));
    json_object_set_new(o, "dead", json_integer(c->dead));
    json_object_set_new(o, "perSecond", json_real(sent_a_second));
    json_object_set_new(o, "etaMs", running && done_a_second > 0 ? json_integer((json_int_t)((double)c->pending * 1e3 / done_a_second)) : json_null());
}

static int add_progress(struct sql *sql, json_t *o, struct err *err) {
    struct replay_counts counts;
    int rc = replays_sql_counts(sql, json_integer_value(json_object_get(o, "replay")), false, &counts, err);
    if (rc == 0) set_progress(o, &counts);
    return rc;
}

static int read_replay(struct sql *sql, int64_t replay, json_t **ret, struct err *err) {
    json_t *found = json_array();
    const struct sql_value id = SQL_I(replay);
    int rc = sql_exec(sql, COLUMNS "WHERE id = $1", &id, 1, add_replay, found, NULL, err);
    if (rc == 0 && json_array_size(found) == 0) rc = err_set(err, ERR_NOT_FOUND, "there is no replay %lld", (long long)replay);
    if (rc == 0) rc = add_progress(sql, json_array_get(found, 0), err);
    json_decref(*ret);
    *ret = rc ? NULL : json_incref(json_array_get(found, 0));
    json_decref(found);
    return rc;
}

static int show_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct show_job *s = container_of(job, struct show_job, job);
    return read_replay(sql, s->replay, &s->result, err);
}

void replays_show(struct replays *r, int64_t replay, letters_json_fn *fn, void *arg) {
    struct show_job *s = show_job_new(r, show_run, fn, arg);
    s->replay = replay;
    look_at(s);
}

// --- lists ----------------------------------------------------------------------------------------------------------------

static int list_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct show_job *s = container_of(job, struct show_job, job);
    json_decref(s->result);
    json_t *list = json_array();
    s->result = json_pack("{so sn}", "replays", list, "next");
    const struct sql_value values[] = {SQL_I(s->before ? s->before : INT64_MAX), SQL_I(s->limit)};
    const char *text = s->open_only ? COLUMNS "WHERE ended_ms IS NULL AND id < $1 ORDER BY id DESC LIMIT $2"
                                    : COLUMNS "WHERE id < $1 ORDER BY id DESC LIMIT $2";
    int rc = sql_exec(sql, text, values, 2, add_replay, list, NULL, err);
    size_t i, n = json_array_size(list);
    json_t *o;
    json_array_foreach(list, i, o) if (rc == 0) rc = add_progress(sql, o, err);
    if (n == s->limit) json_object_set(s->result, "next", json_object_get(json_array_get(list, n - 1), "replay"));
    return rc;
}

void replays_list(struct replays *r, bool open_only, int64_t before, size_t limit, letters_json_fn *fn, void *arg) {
    struct show_job *s = show_job_new(r, list_run, fn, arg);
    s->open_only = open_only;
    s->before = before;
    s->limit = limit < LIST_MAX ? limit : LIST_MAX;
    look_at(s);
}

static int add_letter(void *arg, const struct sql_row *row) {
    struct id letter = letters_row_id(row, 1), event = letters_row_id(row, 3);
    json_array_append_new(arg, json_pack("{sI so so so so so}", "seq", (json_int_t)sql_row_int(row, 0), "id", letters_json_id(&letter), "state",
                                         text_at(row, 2), "eventId", letters_json_id(&event), "outcome",
                                         sql_row_is_null(row, 4) ? json_null() : text_at(row, 4), "why", text_at(row, 5)));
    return 0;
}

static int letters_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct show_job *s = container_of(job, struct show_job, job);
    json_decref(s->result);
    json_t *list = json_array();
    s->result = json_pack("{so sn}", "letters", list, "next");
    const struct sql_value values[] = {SQL_I(s->replay), SQL_I(s->after), SQL_Z(s->state), SQL_I(s->limit)};
    int rc = sql_exec(sql,
                      "SELECT seq, letter_id, state, event_id, outcome, coalesce(why, '') FROM replay_letters WHERE replay = $1 AND seq > $2"
                      " AND ($3 = '' OR state = $3 OR outcome = $3) ORDER BY seq LIMIT $4",
                      values, array_len(values), add_letter, list, NULL, err);
    size_t n = json_array_size(list);
    if (n == s->limit) json_object_set(s->result, "next", json_object_get(json_array_get(list, n - 1), "seq"));
    json_t *replay = NULL;
    if (rc == 0 && n == 0) rc = read_replay(sql, s->replay, &replay, err); // is there such a one?
    json_decref(replay);
    return rc;
}

void replays_letters(struct replays *r, int64_t replay, struct str state, int64_t after, size_t limit, letters_json_fn *fn, void *arg) {
    struct show_job *s = show_job_new(r, letters_run, fn, arg);
    s->replay = replay;
    s->after = after;
    s->state = mem_strndup(state);
    s->limit = limit < LETTERS_LIST_MAX ? limit : LETTERS_LIST_MAX;
    look_at(s);
}

// --- changes --------------------------------------------------------------------------------------------------------------

static int take_lease(void *arg, const struct sql_row *row) {
    *(int64_t *)arg = sql_row_int(row, 0);
    return 0;
}

// It is not to run any more: whoever has it, lets it go when nothing is under way; when nobody has it, nothing is.
static int free_letters(struct show_job *s, struct sql *sql, struct err *err) {
    const struct sql_value id = SQL_I(s->replay);
    int64_t now_ms = 0, lease_ms = 0;
    int rc = sql_unix_ms(sql, &now_ms, err);
    if (rc == 0) rc = sql_exec(sql, "SELECT lease_ms FROM replays WHERE id = $1", &id, 1, take_lease, &lease_ms, NULL, err);
    s->lease_ms = lease_ms > now_ms ? lease_ms - now_ms : 0;
    return rc == 0 && s->lease_ms == 0 ? replays_sql_release(sql, s->replay, err) : rc;
}

static int change_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct show_job *s = container_of(job, struct show_job, job);
    bool ends = strcmp(s->to, "cancelled") == 0;
    int64_t changed = 0, now_ms = clock_unix_ms();
    const struct sql_value values[] = {SQL_Z(s->to), SQL_I(now_ms), ends ? SQL_I(now_ms) : SQL_NONE, SQL_I(s->replay)};
    int rc = sql_exec(sql, "UPDATE replays SET state = $1, " REPLAY_TELL_TIME ", ended_ms = $3 WHERE id = $4 AND ended_ms IS NULL"
                      " AND (state <> 'selecting' OR $1 = 'cancelled')",
                      values, array_len(values), NULL, NULL, &changed, err);
    if (rc == 0 && changed && strcmp(s->to, "running") != 0) rc = free_letters(s, sql, err);
    if (rc == 0) rc = read_replay(sql, s->replay, &s->result, err);
    if (rc || changed) return rc;
    if (json_is_null(json_object_get(s->result, "endedMs")))
        return err_set(err, ERR_CONFLICT, "replay %lld still selects its letters; it can be cancelled", (long long)s->replay);
    return err_set(err, ERR_CONFLICT, "replay %lld has ended: it is %s", (long long)s->replay,
                   json_string_value(json_object_get(s->result, "state")));
}

static void change(struct replays *r, int64_t replay, const char *to, letters_json_fn *fn, void *arg) {
    struct show_job *s = show_job_new(r, change_run, fn, arg);
    s->replay = replay;
    s->to = to;
    replays_submit(r, &s->job);
}

void replays_pause(struct replays *r, int64_t replay, letters_json_fn *fn, void *arg) {
    change(r, replay, "paused", fn, arg);
}

void replays_resume(struct replays *r, int64_t replay, letters_json_fn *fn, void *arg) {
    change(r, replay, "running", fn, arg);
}

void replays_cancel(struct replays *r, int64_t replay, letters_json_fn *fn, void *arg) {
    change(r, replay, "cancelled", fn, arg);
}
