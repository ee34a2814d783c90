// SPDX-License-Identifier: Apache-2.0
// Looking: the history of a trigger, each fire with what its letter adds; and the cursors.
#include "core/base/text.h"
#include "dlq/fires_impl.h"

// --- the history ------------------------------------------------------------------------------------------------------

struct history_job {
    struct store_job job;
    struct fires *fires;
    char *trigger;
    int64_t before_ms;
    size_t limit;
    json_t *result;
    letters_json_fn *fn;
    void *arg;
};

enum column { SCHEDULED, FIRED, CAUSE, OUTCOME, ENDED, EVENT, MISSED, ATTEMPTS, STATE, LETTER_ATTEMPTS, CHANGED, ERROR_TYPE, MESSAGE };

// The row says what ended it; while it is open, or nobody heard of its end, its letter knows more.
static const char *outcome_by_letter(const struct sql_row *row) {
    struct str outcome = sql_row_bytes(row, OUTCOME), state = sql_row_bytes(row, STATE);
    bool open = sql_row_is_null(row, ENDED);
    if (!state.data || !(open || str_is(outcome, "unknown"))) return NULL;
    if (str_is(state, "discarded")) return fire_outcome_word(FIRE_DISCARDED);
    if (!str_is(state, "due")) return fire_outcome_word(FIRE_DEAD);
    return open && sql_row_int(row, LETTER_ATTEMPTS) > 0 ? fire_outcome_word(FIRE_RETRYING) : NULL;
}

static json_t *text_json(struct str s) {
    json_t *text = json_stringn(s.data ? s.data : "", s.len);
    return text ? text : json_string("");
}

static json_t *error_of(const struct sql_row *row) {
    struct str type = sql_row_bytes(row, ERROR_TYPE), message = sql_row_bytes(row, MESSAGE);
    if (!type.len && !message.len) return json_null();
    json_t *text = json_sprintf("%.*s%s%.*s", STR_ARG(type), type.len && message.len ? ": " : "", STR_ARG(message));
    return text ? text : json_null();
}

static json_t *id_json(struct str bytes) {
    if (bytes.len != sizeof(struct id)) return json_null();
    struct id id;
    char text[ID_TEXT_BYTES];
    memcpy(id.bytes, bytes.data, sizeof id.bytes);
    id_format(&id, text);
    return json_string(text);
}

static json_t *ms_or_null(int64_t ms, bool there) {
    return there ? json_integer(ms) : json_null();
}

static int add_fire(void *arg, const struct sql_row *row) {
    int64_t scheduled_ms = sql_row_int(row, SCHEDULED), fired_ms = sql_row_int(row, FIRED);
    const char *by_letter = outcome_by_letter(row);
    bool ended = !sql_row_is_null(row, ENDED), is_over = ended || (by_letter && strcmp(by_letter, "retrying") != 0);
    int64_t ended_ms = sql_row_int(row, ended ? ENDED : CHANGED);
    bool has_letter = !sql_row_is_null(row, STATE), ran = !sql_row_is_null(row, EVENT);
    json_t *fire = json_pack("{sI sI sI so so so so so sI sI so}",                                                       //
                             "scheduledMs", (json_int_t)scheduled_ms, "firedMs", (json_int_t)fired_ms, "lagMs",          //
                             (json_int_t)(fired_ms - scheduled_ms), "cause", text_json(sql_row_bytes(row, CAUSE)),       //
                             "outcome", by_letter ? json_string(by_letter) : text_json(sql_row_bytes(row, OUTCOME)),     //
                             "endedMs", ms_or_null(ended_ms, is_over),                                                   //
                             "durationMs", ms_or_null(ended_ms - fired_ms, is_over && ran),                              //
                             "requestId", id_json(sql_row_bytes(row, EVENT)),                                            //
                             "missed", (json_int_t)sql_row_int(row, MISSED),                                             //
                             "attempts", (json_int_t)sql_row_int(row, has_letter ? LETTER_ATTEMPTS : ATTEMPTS),          //
                             "error", error_of(row));
    json_array_append_new(arg, fire);
    return 0;
}

static int history_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct history_job *h = container_of(job, struct history_job, job);
    json_decref(h->result);
    json_t *fires = json_array();
    h->result = json_pack("{so sn}", "fires", fires, "next");
    const struct sql_value values[] = {SQL_Z(h->trigger), SQL_I(h->before_ms ? h->before_ms : INT64_MAX), SQL_I(h->limit)};
    int rc = sql_exec(sql,
                      "SELECT f.scheduled_ms, f.fired_ms, f.cause, f.outcome, f.ended_ms, f.event_id, f.missed, f.attempts, l.state,"
                      " l.attempts, l.changed_ms, l.error_type, l.error_message FROM fires f LEFT JOIN letters l ON l.id = f.event_id"
                      " WHERE f.trigger = $1 AND f.scheduled_ms < $2 ORDER BY f.scheduled_ms DESC LIMIT $3",
                      values, array_len(values), add_fire, fires, NULL, err);
    size_t n = json_array_size(fires);
    if (rc == 0 && n == h->limit)
        json_object_set(h->result, "next", json_object_get(json_array_get(fires, n - 1), "scheduledMs"));
    return rc;
}

static void history_done(struct store_job *job, int code, const struct err *err) {
    struct history_job *h = container_of(job, struct history_job, job);
    h->fires->jobs--;
    h->fn(h->arg, code, err, code ? NULL : json_incref(h->result));
    json_decref(h->result);
    free(h->trigger);
    free(h);
}

void fires_history(struct fires *f, struct str trigger, int64_t before_ms, size_t limit, letters_json_fn *fn, void *arg) {
    MUST(limit >= 1 && limit <= 1000);
    struct history_job *h = mem_zalloc(sizeof *h);
    *h = (struct history_job){.job = {.run = history_run, .done = history_done},
                              .fires = f,
                              .trigger = mem_strndup(text_is_utf8(trigger) ? trigger : STR_NONE),
                              .before_ms = before_ms,
                              .limit = limit,
                              .fn = fn,
                              .arg = arg};
    fires_submit(f, &h->job);
}

// --- the cursors ------------------------------------------------------------------------------------------------------

struct cursors_job {
    struct store_job job;
    struct fires *fires;
    struct cursor {
        char *trigger;
        int64_t cursor_ms;
    } *cursors;
    size_t count, room;
    struct clock_reading clock;
    fires_cursor_fn *fn;
    void (*done)(void *arg, int code, const struct err *err);
    void *arg;
};

static void drop_cursors(struct cursors_job *c) {
    while (c->count) free(c->cursors[--c->count].trigger);
}

static int add_cursor(void *arg, const struct sql_row *row) {
    struct cursors_job *c = arg;
    if (c->count == c->room) {
        c->room = c->room ? c->room * 2 : 64;
        c->cursors = mem_realloc(c->cursors, c->room * sizeof *c->cursors);
    }
    c->cursors[c->count++] = (struct cursor){mem_strndup(sql_row_bytes(row, 0)), sql_row_int(row, 1)};
    return 0;
}

static int cursors_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct cursors_job *c = container_of(job, struct cursors_job, job);
    drop_cursors(c);
    int rc = fires_sql_clock(sql, &c->clock, err);
    return rc ? rc : sql_exec(sql, "SELECT trigger, cursor_ms FROM fire_cursors", NULL, 0, add_cursor, c, NULL, err);
}

static void cursors_done(struct store_job *job, int code, const struct err *err) {
    struct cursors_job *c = container_of(job, struct cursors_job, job);
    c->fires->jobs--;
    if (code == 0 && c->fires->shared) fires_set_clock(c->fires, &c->clock);
    int64_t now_ms = fires_now_ms(c->fires);
    for (size_t i = 0; code == 0 && i < c->count; i++)
        c->fn(c->arg, str_of(c->cursors[i].trigger), fires_cursor_ms(c->cursors[i].cursor_ms, now_ms));
    c->done(c->arg, code, err);
    drop_cursors(c);
    free(c->cursors);
    free(c);
}

void fires_cursors(struct fires *f, fires_cursor_fn *fn, void (*done)(void *arg, int code, const struct err *err), void *arg) {
    struct cursors_job *c = mem_zalloc(sizeof *c);
    *c = (struct cursors_job){.job = {.run = cursors_run, .done = cursors_done}, .fires = f, .fn = fn, .done = done, .arg = arg};
    fires_submit(f, &c->job);
}
