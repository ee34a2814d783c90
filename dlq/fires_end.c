// SPDX-License-Identifier: Apache-2.0
// The end of fires: those that come while a job is under way are the next one. A fire is found by its event: the trigger is its source, the time is in its id.
#include "dlq/fires_impl.h"

#define END_JOB_MAX 1000

struct end_item {
    struct end_item *next;
    char *trigger;
    struct id id;
    enum fire_outcome outcome;
    int64_t attempts;
    letter_done_fn *done;
    void *arg;
};

struct end_job {
    struct store_job job;
    struct fires *fires;
    struct end_item *first;
    struct end_item **items; // by trigger and time, so that two nodes lock in one order
    size_t count, let_go;
};

static int by_row(const void *a, const void *b) {
    const struct end_item *const *x = a, *const *y = b;
    int order = strcmp((*x)->trigger, (*y)->trigger);
    return order ? order : memcmp(&(*x)->id, &(*y)->id, sizeof(struct id));
}

#define END_VALUES 6

static int end_rows(const struct end_job *j, struct sql *sql, int64_t now_ms, struct err *err) {
    struct sql_value *values = mem_array(j->count * END_VALUES, sizeof *values);
    for (size_t i = 0; i < j->count; i++) {
        const struct end_item *it = j->items[i];
        const struct sql_value row[END_VALUES] = {SQL_Z(fire_outcome_word(it->outcome)), SQL_I(now_ms), SQL_I(it->attempts),
                                                  SQL_Z(it->trigger), SQL_I(id_unix_ms(&it->id)), fires_sql_id(&it->id)};
        memcpy(values + i * END_VALUES, row, sizeof row);
    }
    int rc = sql_exec_many(sql,
                           "UPDATE fires SET outcome = $1, ended_ms = $2, attempts = $3"
                           " WHERE trigger = $4 AND scheduled_ms = $5 AND event_id = $6 AND ended_ms IS NULL",
                           values, END_VALUES, j->count, err);
    free(values);
    return rc;
}

#define WAITING(by_open, by_waiting)                                                                                       \
    "SELECT count(*) FROM fires" by_waiting " WHERE outcome = 'waiting' AND trigger IN (SELECT value->>'t' FROM json_each($1))"

static int end_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct end_job *j = container_of(job, struct end_job, job);
    int64_t now_ms = 0, waiting = 0;
    j->let_go = 0;
    int rc = sql_unix_ms(sql, &now_ms, err);
    if (rc == 0) rc = end_rows(j, sql, now_ms, err);
    if (rc) return rc;
    struct settle *triggers = mem_array(j->count, sizeof *triggers);
    size_t n = 0;
    for (size_t i = 0; i < j->count; i++)
        if (n == 0 || strcmp(triggers[n - 1].trigger, j->items[i]->trigger) != 0)
            triggers[n++] = (struct settle){.trigger = j->items[i]->trigger};
    cleanup_free char *names = fires_json_triggers(triggers, n);
    const struct sql_value value = SQL_Z(names);
    rc = sql_exec(sql, FIRES_TEXT(sql, WAITING), &value, 1, fires_take_int, &waiting, NULL, err);
    if (rc == 0 && waiting) rc = fires_sql_settle(sql, triggers, n, now_ms, &j->let_go, err);
    free(triggers);
    return rc;
}

static void end_done(struct store_job *job, int code, const struct err *err) {
    struct end_job *j = container_of(job, struct end_job, job);
    struct fires *f = j->fires;
    f->jobs--;
    f->ending = false;
    if (code == 0 && j->let_go) fires_tell_due(f);
    for (struct end_item *it = j->first, *next; it; it = next) {
        next = it->next;
        it->done(it->arg, code, err);
        free(it->trigger);
        free(it);
    }
    free(j->items);
    free(j);
    fires_flush_ends(f);
}

// The first of those that wait, at most END_JOB_MAX, out of the list.
static struct end_job *take_ends(struct fires *f) {
    struct end_job *j = mem_zalloc(sizeof *j);
    *j = (struct end_job){.job = {.run = end_run, .done = end_done}, .fires = f, .first = f->end_first};
    j->items = mem_array(f->end_count < END_JOB_MAX ? f->end_count : END_JOB_MAX, sizeof *j->items);
    struct end_item **link = &f->end_first;
    for (; *link && j->count < END_JOB_MAX; link = &(*link)->next) j->items[j->count++] = *link;
    f->end_first = *link;
    *link = NULL;
    if (!f->end_first) f->end_last = &f->end_first;
    f->end_count -= j->count;
    qsort(j->items, j->count, sizeof *j->items, by_row);
    return j;
}

// One job at a time: what ends meanwhile goes together in the next.
void fires_flush_ends(void *fires) {
    struct fires *f = fires;
    if (f->end_count == 0 || f->ending) return;
    f->ending = true;
    fires_submit(f, &take_ends(f)->job);
}

void fires_end(struct fires *f, const struct ev *ev, enum fire_outcome outcome, letter_done_fn *done, void *arg) {
    MUST(outcome == FIRE_OK || outcome == FIRE_DEAD);
    struct end_item *it = mem_zalloc(sizeof *it);
    *it = (struct end_item){.trigger = mem_strndup(ev->f.source_name),
                            .id = ev->f.id,
                            .outcome = outcome,
                            .attempts = outcome == FIRE_OK ? (int64_t)ev->f.attempt + 1 : 0,
                            .done = done,
                            .arg = arg};
    *f->end_last = it;
    f->end_last = &it->next;
    f->end_count++;
    loop_defer(f->c.loop, &f->end_flush);
}
