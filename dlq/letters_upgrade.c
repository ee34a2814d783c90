// SPDX-License-Identifier: Apache-2.0
// What a migration cannot tell about letters from before it: the fingerprint, the headers, and whether the payload can be asked about.
//
// Invariant: a portion is locked (PostgreSQL) before it is read, and written in the same transaction, so that no edit is undone. What was read
// has a fingerprint afterwards, readable or not: each portion is another one, on several nodes too.
#include "core/base/log.h"
#include "core/json_text.h"
#include "dlq/fingerprint.h"
#include "dlq/history.h"
#include "dlq/letters_impl.h"

#define PORTION 50          // letters a job, for which other jobs wait
#define COLUMNS 4
#define AGAIN_MS 5000       // pause after the store was away

struct known {              // what is told of a letter
    struct id id;
    uint64_t fingerprint;
    bool postgres;
    int64_t json;
    char *headers;
};

struct upgrade {
    struct store_job job;
    struct letters *letters;
    struct timer *timer;
    bool stopped, busy;
    struct known known[PORTION];
    size_t count;           // of this portion
    size_t total;           // of those before
};

static void forget(struct upgrade *u) {
    for (size_t i = 0; i < u->count; i++) free(u->known[i].headers);
    u->count = 0;
}

static char *headers_of(struct str envelope) {
    struct buf text;
    struct err err;
    struct ev *ev = NULL;
    buf_init(&text, SIZE_MAX / 2);
    if (ev_decode(mem_strndup(envelope), envelope.len, &ev, &err) == 0) letters_append_headers(&text, &ev->f);
    else MUST(buf_append(&text, STR_LIT("{}")) == 0);
    ev_free(ev);
    return buf_take(&text, NULL);
}

static int take_id(void *arg, const struct sql_row *row) {
    struct upgrade *u = arg;
    u->known[u->count++] = (struct known){.id = letters_row_id(row, 0)};
    return 0;
}

static int take_before(void *arg, const struct sql_row *row) {
    struct known *k = arg;
    json_auto_t *history = history_parse(sql_row_bytes(row, 5));
    k->fingerprint = fingerprint_of(sql_row_bytes(row, 0), sql_row_bytes(row, 1), sql_row_bytes(row, 2), history_last_stack(history));
    k->json = letters_json_column(sql_row_bytes(row, 3), k->postgres);
    k->headers = headers_of(sql_row_bytes(row, 4));
    return 0;
}

// A payload of more than can be asked about is not read.
static int read_before(struct known *k, struct sql *sql, struct err *err) {
    const struct sql_value values[] = {SQL_I(JSON_TEXT_QUERYABLE_MAX), letters_sql_id(&k->id)};
    k->postgres = sql_is_postgres(sql);
    return sql_exec(sql,
                    "SELECT l.function, l.error_type, l.error_message, CASE WHEN length(l.payload) <= $1 THEN l.payload END, b.event, b.history"
                    " FROM letters l LEFT JOIN letter_bodies b ON b.id = l.id WHERE l.id = $2",
                    values, array_len(values), take_before, k, NULL, err);
}

#define BEFORE "SELECT id FROM letters WHERE fingerprint = 0 ORDER BY id LIMIT $1"

static int upgrade_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct upgrade *u = container_of(job, struct upgrade, job);
    const struct sql_value most = SQL_I(PORTION);
    struct sql_value values[PORTION * COLUMNS];
    forget(u);
    int rc = sql_exec(sql, sql_is_postgres(sql) ? BEFORE " FOR UPDATE" : BEFORE, &most, 1, take_id, u, NULL, err);
    for (size_t i = 0; i < u->count && rc == 0; i++) {
        struct known *k = &u->known[i];
        rc = read_before(k, sql, err);
        if (rc) break;
        const struct sql_value row[COLUMNS] = {SQL_I(k->fingerprint), SQL_Z(k->headers), SQL_I(k->json), letters_sql_id(&k->id)};
        memcpy(values + i * COLUMNS, row, sizeof row);
    }
    if (rc || u->count == 0) return rc;
    return sql_exec_many(sql, "UPDATE letters SET fingerprint = $1, headers = $2, json = $3 WHERE id = $4", values, COLUMNS, u->count, err);
}

static void next(void *arg) {
    struct upgrade *u = arg;
    u->busy = true;
    store_submit(u->letters->store, &u->job);
}

static void upgrade_done(struct store_job *job, int code, const struct err *err) {
    struct upgrade *u = container_of(job, struct upgrade, job);
    size_t count = u->count;
    u->busy = false;
    forget(u);
    if (u->stopped) return;
    if (code == ERR_UNAVAILABLE || code == ERR_BUSY || code == ERR_FULL) {
        timer_start(u->timer, AGAIN_MS);
    } else if (code) {
        log_warn("letters", "letters from before groups stay without one", LOG_INT("done", u->total), LOG_STR("error", err->text));
    } else if (count) {
        u->total += count;
        next(u);
    } else if (u->total) {
        log_info("letters", "letters from before groups have theirs now", LOG_INT("letters", u->total));
    }
}

void letters_upgrade(struct letters *l) {
    struct upgrade *u = mem_zalloc(sizeof *u);
    *u = (struct upgrade){.job = {.run = upgrade_run, .done = upgrade_done}, .letters = l};
    u->timer = timer_new(l->loop, next, u);
    l->upgrade = u;
    next(u);
}

bool letters_stop(struct letters *l) {
    struct upgrade *u = l->upgrade;
    if (!u) return true;
    u->stopped = true;
    timer_stop(u->timer);
    return !u->busy;
}

void letters_upgrade_free(struct upgrade *u) {
    if (!u) return;
    MUST(!u->busy);
    timer_free(u->timer);
    free(u);
}
