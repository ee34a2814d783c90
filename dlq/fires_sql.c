// SPDX-License-Identifier: Apache-2.0
// What several files of dlq/fires do in the store. Sets go there as one JSON object, whose members json_each makes rows in both databases.
#include <jansson.h>

#include "core/base/clock.h"
#include "dlq/fires_impl.h"

void ids_add(struct ids *ids, const struct id *id) {
    if (ids->count == ids->room) {
        ids->room = ids->room ? ids->room * 2 : 16;
        ids->at = mem_realloc(ids->at, ids->room * sizeof *ids->at);
    }
    ids->at[ids->count++] = *id;
}

void ids_done(struct ids *ids) {
    free(ids->at);
    *ids = (struct ids){0};
}

int fires_take_id(void *arg, const struct sql_row *row) {
    struct str bytes = sql_row_bytes(row, 0);
    struct id id;
    if (bytes.len != sizeof id.bytes) return 0;
    memcpy(id.bytes, bytes.data, sizeof id.bytes);
    ids_add(arg, &id);
    return 0;
}

int fires_take_int(void *arg, const struct sql_row *row) {
    *(int64_t *)arg = sql_row_int(row, 0);
    return 0;
}

struct sql_value fires_sql_id(const struct id *id) {
    return SQL_B(((struct str){(const char *)id->bytes, sizeof id->bytes}));
}

int fires_sql_clock(struct sql *sql, struct clock_reading *ret, struct err *err) {
    int64_t before_ns = clock_mono_ns(), ms = 0;
    int rc = sql_unix_ms(sql, &ms, err);
    if (rc == 0) *ret = (struct clock_reading){ms * NS_PER_MS - clock_mono_ns(), (ms + 1) * NS_PER_MS - before_ns};
    return rc;
}

char *fires_json_triggers(const struct settle *s, size_t count) {
    json_t *all = json_object();
    for (size_t i = 0; i < count; i++) {
        char key[24];
        MUST(text_format(key, sizeof key, "%zu", i) == 0);
        json_object_set_new(all, key, json_pack("{ss}", "t", s[i].trigger));
    }
    char *text = json_dumps(all, JSON_COMPACT);
    MUST(text);
    json_decref(all);
    return text;
}

#define END_OVER(by_open, by_waiting)                                                                                       \
    "UPDATE fires" by_open " SET ended_ms = $1, outcome = coalesce((SELECT CASE l.state WHEN 'due' THEN NULL"               \
    " WHEN 'discarded' THEN 'discarded' ELSE 'dead' END FROM letters l WHERE l.id = fires.event_id), 'unknown')"            \
    " WHERE trigger = $2 AND ended_ms IS NULL AND ((outcome = 'running' AND (fired_ms < $3 OR stale_at_ms < $1))"           \
    " OR EXISTS (SELECT 1 FROM letters l WHERE l.id = fires.event_id AND l.state <> 'due'))"

// Ends what is too old, and what an operator or its last failure ended by its letter. One that waits is never too old.
static int end_over(struct sql *sql, const struct settle *s, size_t count, int64_t now_ms, struct err *err) {
    struct sql_value *values = mem_array(count * 3, sizeof *values);
    for (size_t i = 0; i < count; i++) {
        values[3 * i] = SQL_I(now_ms);
        values[3 * i + 1] = SQL_Z(s[i].trigger);
        values[3 * i + 2] = SQL_I(s[i].stale_ms);
    }
    int rc = sql_exec_many(sql, FIRES_TEXT(sql, END_OVER), values, 3, count, err);
    free(values);
    return rc;
}

// They count as accepted only now: their maximum age is for the time after they waited.
static int let_letters_go(struct sql *sql, const struct ids *ids, int64_t now_ms, struct err *err) {
    // dlq/due goes by its node's clock.
    int64_t here_ms = clock_unix_ms(), due_ms = here_ms < now_ms ? here_ms : now_ms;
    struct sql_value *values = mem_array(ids->count * 2, sizeof *values);
    for (size_t i = 0; i < ids->count; i++) {
        values[2 * i] = SQL_I(due_ms);
        values[2 * i + 1] = fires_sql_id(&ids->at[i]);
    }
    int rc = sql_exec_many(sql, "UPDATE letters SET due_ms = $1, accepted_ms = $1, changed_ms = $1 WHERE id = $2 AND state = 'due'",
                           values, 2, ids->count, err);
    free(values);
    return rc;
}

#define LET_GO(by_open, by_waiting)                                                                                         \
    "UPDATE fires" by_waiting " SET outcome = 'running', fired_ms = $1, stale_at_ms = $1 + lasts_ms WHERE outcome = 'waiting'" \
    " AND trigger IN (SELECT value->>'t' FROM json_each($2)) AND NOT EXISTS (SELECT 1 FROM fires r" by_open                 \
    " WHERE r.trigger = fires.trigger AND r.outcome = 'running' AND r." FIRES_COUNTS ") RETURNING event_id"

int fires_sql_settle(struct sql *sql, const struct settle *s, size_t count, int64_t now_ms, size_t *ret_let_go, struct err *err) {
    *ret_let_go = 0;
    if (count == 0) return 0;
    int rc = end_over(sql, s, count, now_ms, err);
    cleanup_free char *triggers = fires_json_triggers(s, count);
    const struct sql_value values[] = {SQL_I(now_ms), SQL_Z(triggers)};
    struct ids let_go = {0};
    if (rc == 0)
        rc = sql_exec(sql, FIRES_TEXT(sql, LET_GO), values, array_len(values), fires_take_id, &let_go, NULL, err);
    if (rc == 0) rc = let_letters_go(sql, &let_go, now_ms, err);
    *ret_let_go = let_go.count;
    ids_done(&let_go);
    return rc;
}
