// SPDX-License-Identifier: Apache-2.0
// The letters' life: names of states and kinds, and writing. Drafts of one turn of the loop, and those that come
// while the store is busy with others, become one job with multi-row statements. Reading is in letters_read.c, moving in letters_move.c.
//
// Invariant: a put only replaces a row that is due or dead. What an operator has replayed or discarded stays.
#include "core/base/clock.h"
#include "core/base/text.h"
#include "dlq/fingerprint.h"
#include "dlq/letters_impl.h"

#define PUT_COLUMNS 22
#define BODY_COLUMNS 3
#define PUT_JOB_MAX 1000       // drafts a job
#define PUT_JOBS 2             // at work, before drafts wait for more of them
#define TOGETHER_MAX 200       // rows of one statement
#define ERROR_TYPE_MAX 256
#define ERROR_MESSAGE_MAX 4096
#define COLUMN_TEXT_MAX 65536

struct put_item {
    struct put_item *next;
    struct letter_draft draft; // error spans point into `text`
    char *text;
    letter_done_fn *done;
    void *arg;
};

struct put_job {
    struct store_job job;
    struct letters *letters;
    struct put_item *items;
    size_t count;
};

const char *letter_state_word(enum letter_state s) {
    switch (s) {
#define X(name, word) \
    case name: return word;
        LETTER_STATES(X)
#undef X
    }
    return "unknown";
}

int letter_state_parse(struct str word, enum letter_state *ret) {
#define X(name, text)        \
    if (str_is(word, text)) { \
        *ret = name;         \
        return 0;            \
    }
    LETTER_STATES(X)
#undef X
    return ERR_INVALID;
}

const char *letter_kind_word(enum letter_kind k) {
    switch (k) {
#define X(name, word) \
    case name: return word;
        LETTER_KINDS(X)
#undef X
    }
    return "unknown";
}

struct letters *letters_new(struct loop *loop, struct store *store, struct store *reader, const struct redact *redact) {
    struct letters *l = mem_zalloc(sizeof *l);
    *l = (struct letters){.loop = loop, .store = store, .reader = reader, .redact = redact};
    l->put_last = &l->put_first;
    l->put_flush = (struct defer){.fn = letters_flush_puts, .arg = l};
    return l;
}

void letters_free(struct letters *l) {
    if (!l) return;
    MUST(l->put_count == 0);
    loop_defer_cancel(l->loop, &l->put_flush);
    letters_upgrade_free(l->upgrade);
    free(l);
}

// --- rows -----------------------------------------------------------------------------------------------------------

// The variable-length parts of a job's rows. Spans are taken only after the last append, when the buffer is at rest.
struct row_text {
    struct buf buf;
    struct span {
        size_t start, len;
    } *spans;
    size_t count;
};

#define ROW_TEXTS 10 // function, error type and message, source kind, name and at, content type, ordering key, headers, envelope

static void add_clean(struct row_text *t, struct str s, size_t max) {
    size_t start = t->buf.end;
    MUST(text_append_clean(&t->buf, s, max) == 0);
    t->spans[t->count++] = (struct span){start, t->buf.end - start};
}

static void add_headers(struct row_text *t, const struct ev_fields *f) {
    size_t start = t->buf.end;
    letters_append_headers(&t->buf, f);
    t->spans[t->count++] = (struct span){start, t->buf.end - start};
}

static int add_envelope(struct row_text *t, const struct ev *ev, struct err *err) {
    size_t start = t->buf.end;
    int rc = letters_append_envelope(&t->buf, ev, err);
    t->spans[t->count++] = (struct span){start, t->buf.end - start};
    return rc;
}

static int add_row_text(struct row_text *t, const struct letter_draft *d, struct err *err) {
    const struct ev_fields *f = &d->ev->f;
    add_clean(t, f->function, COLUMN_TEXT_MAX);
    add_clean(t, d->error_type, ERROR_TYPE_MAX);
    add_clean(t, d->error_message, ERROR_MESSAGE_MAX);
    add_clean(t, f->source_kind, COLUMN_TEXT_MAX);
    add_clean(t, f->source_name, COLUMN_TEXT_MAX);
    add_clean(t, f->source_at, COLUMN_TEXT_MAX);
    add_clean(t, f->ordering_key, COLUMN_TEXT_MAX);
    add_clean(t, f->content_type, COLUMN_TEXT_MAX);
    add_headers(t, f);
    return add_envelope(t, d->ev, err);
}

// A history comes with the event, from whoever sent it, and stands in a text column.
static struct str history_of(const struct ev_fields *f) {
    bool good = f->history.len && text_is_utf8(f->history) && !memchr(f->history.data, '\0', f->history.len);
    return good ? f->history : STR_LIT("[]");
}

// The row of `letters` and that of `letter_bodies`. `at`: its ROW_TEXTS spans in the order of add_row_text.
static void fill_row(struct sql_value *v, struct sql_value *body, const struct letter_draft *d, const struct row_text *t, size_t at,
                     int64_t now_ms, int64_t lease_ms, bool postgres) {
    const struct ev_fields *f = &d->ev->f;
    struct str s[ROW_TEXTS];
    for (size_t i = 0; i < ROW_TEXTS; i++) s[i] = (struct str){t->buf.data + t->spans[at + i].start, t->spans[at + i].len};
    struct str payload = f->payload.data ? f->payload : STR_LIT("");
    const struct sql_value row[PUT_COLUMNS] = {
        letters_sql_id(&f->id),
        SQL_T(s[0]),
        SQL_Z(letter_state_word(d->state)),
        SQL_Z(letter_kind_word(d->kind)),
        d->state == LETTER_DUE ? SQL_I(d->due_ms) : SQL_NONE,
        SQL_I(f->accepted_ms),
        SQL_I(now_ms),
        SQL_I(f->attempt),
        SQL_I(d->version),
        SQL_I(d->fingerprint ? d->fingerprint : fingerprint_of(f->function, d->error_type, d->error_message, d->stack)),
        SQL_T(s[1]),
        SQL_T(s[2]),
        SQL_T(s[3]),
        SQL_T(s[4]),
        SQL_T(s[5]),
        SQL_T(s[6]),
        SQL_T(s[7]),
        id_is_none(&f->origin_id) ? SQL_NONE : letters_sql_id(&f->origin_id),
        SQL_T(s[8]),
        SQL_I(letters_json_column(payload, postgres)),
        SQL_B(payload),
        SQL_I(lease_ms),
    };
    memcpy(v, row, sizeof row);
    body[0] = row[0];
    body[1] = SQL_T(history_of(f));
    body[2] = SQL_B(s[9]);
}

#define INTO_LETTERS                                                                                                          \
    "INSERT INTO letters (id, function, state, kind, due_ms, accepted_ms, died_ms, changed_ms, attempts, version, fingerprint," \
    " error_type, error_message, source_kind, source_name, source_at, ordering_key, content_type, origin_id, headers, json,"   \
    " payload, lease_ms)"
#define OVER_LETTERS                                                                                                      \
    " ON CONFLICT (id) DO UPDATE SET state = excluded.state, kind = excluded.kind, due_ms = excluded.due_ms,"            \
    " lease_ms = excluded.lease_ms, accepted_ms = excluded.accepted_ms, died_ms = excluded.died_ms,"                     \
    " changed_ms = excluded.changed_ms,"                                                                                 \
    " attempts = excluded.attempts, version = excluded.version, fingerprint = excluded.fingerprint,"                     \
    " error_type = excluded.error_type, error_message = excluded.error_message, ordering_key = excluded.ordering_key,"   \
    " content_type = excluded.content_type, headers = excluded.headers, json = excluded.json,"                           \
    " payload = excluded.payload WHERE letters.state IN ('due', 'dead')"
#define INTO_BODIES "INSERT INTO letter_bodies (id, history, event)"
#define OVER_BODIES                                                                             \
    " ON CONFLICT (id) DO UPDATE SET history = excluded.history, event = excluded.event"       \
    " WHERE (SELECT l.state FROM letters l WHERE l.id = excluded.id) IN ('due', 'dead')"

static int write_each(struct sql *sql, const struct sql_value *values, const struct sql_value *bodies, size_t count, struct err *err) {
    int rc = sql_exec_many(sql,
                           INTO_LETTERS " VALUES ($1,$2,$3,$4,$5,$6,$7,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22)"
                           OVER_LETTERS, values, PUT_COLUMNS, count, err);
    return rc ? rc : sql_exec_many(sql, INTO_BODIES " VALUES ($1,$2,$3)" OVER_BODIES, bodies, BODY_COLUMNS, count, err);
}

// PostgreSQL sets a statement up anew for each execution, with what makes the column `body`, at more than the row itself costs. unnest() stands
// in the list and not behind FROM, where PostgreSQL would write large payloads to a file first.
static int write_together(struct sql *sql, const struct sql_value *values, const struct sql_value *bodies, size_t count, struct err *err) {
    int rc = sql_exec_arrays(sql,
                             INTO_LETTERS
                             " SELECT unnest($1::bytea[]), unnest($2::text[]), unnest($3::text[]), unnest($4::text[]), unnest($5::bigint[]),"
                             " unnest($6::bigint[]), unnest($7::bigint[]), unnest($7::bigint[]), unnest($8::bigint[]), unnest($9::bigint[]),"
                             " unnest($10::bigint[]), unnest($11::text[]), unnest($12::text[]), unnest($13::text[]), unnest($14::text[]),"
                             " unnest($15::text[]), unnest($16::text[]), unnest($17::text[]), unnest($18::bytea[]), unnest($19::text[])::jsonb,"
                             " unnest($20::bigint[]), unnest($21::bytea[]), unnest($22::bigint[])"
                             OVER_LETTERS, values, PUT_COLUMNS, count, err);
    if (rc) return rc;
    return sql_exec_arrays(sql, INTO_BODIES " SELECT unnest($1::bytea[]), unnest($2::text[]), unnest($3::bytea[])" OVER_BODIES, bodies,
                           BODY_COLUMNS, count, err);
}

// How many, from the first on, are of different letters.
static size_t different_rows(const struct sql_value *bodies, size_t count) {
    size_t n = 1;
    for (; n < count && n < TOGETHER_MAX; n++)
        for (size_t i = 0; i < n; i++)
            if (memcmp(bodies[i * BODY_COLUMNS].bytes.data, bodies[n * BODY_COLUMNS].bytes.data, sizeof(struct id)) == 0) return n;
    return n;
}

static int write_rows(struct sql *sql, const struct sql_value *values, const struct sql_value *bodies, size_t count, struct err *err) {
    if (!sql_is_postgres(sql)) return write_each(sql, values, bodies, count, err);
    int rc = 0;
    for (size_t n; count && rc == 0; values += n * PUT_COLUMNS, bodies += n * BODY_COLUMNS, count -= n) {
        n = different_rows(bodies, count);
        rc = write_together(sql, values, bodies, n, err);
    }
    return rc;
}

int letters_sql_put(struct sql *sql, const struct letter_draft *drafts, size_t count, int64_t lease_ms, struct err *err) {
    struct row_text t = {.spans = mem_array(count * ROW_TEXTS, sizeof(struct span))};
    buf_init(&t.buf, SIZE_MAX / 2);
    struct sql_value *values = mem_array(count * PUT_COLUMNS, sizeof *values);
    struct sql_value *bodies = mem_array(count * BODY_COLUMNS, sizeof *bodies);
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) rc = add_row_text(&t, &drafts[i], err);
    int64_t now_ms = clock_unix_ms();
    for (size_t i = 0; i < count && rc == 0; i++)
        fill_row(values + i * PUT_COLUMNS, bodies + i * BODY_COLUMNS, &drafts[i], &t, i * ROW_TEXTS, now_ms, lease_ms, sql_is_postgres(sql));
    if (rc == 0) rc = write_rows(sql, values, bodies, count, err);
    free(values);
    free(bodies);
    free(t.spans);
    buf_done(&t.buf);
    return rc;
}

static int put_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct put_job *p = container_of(job, struct put_job, job);
    cleanup_free struct letter_draft *drafts = mem_array(p->count, sizeof *drafts);
    size_t n = 0;
    for (struct put_item *it = p->items; it; it = it->next) drafts[n++] = it->draft;
    return letters_sql_put(sql, drafts, n, 0, err);
}

// --- batching -------------------------------------------------------------------------------------------------------

static void submit_put(struct letters *l, struct put_item *items, size_t count);

static bool is_bad_data(int code) {
    return code == ERR_INVALID || code == ERR_CONFLICT || code == ERR_TOO_LARGE || code == ERR_CORRUPT || code == ERR_INTERNAL;
}

static void put_done(struct store_job *job, int code, const struct err *err) {
    struct put_job *p = container_of(job, struct put_job, job);
    struct letters *l = p->letters;
    bool alone = p->count == 1;
    struct put_item *next;
    l->put_jobs--;
    for (struct put_item *it = p->items; it; it = next) {
        next = it->next;
        if (!alone && is_bad_data(code)) { // one row may be to blame: each on its own
            it->next = NULL;
            submit_put(l, it, 1);
            continue;
        }
        it->done(it->arg, code, err);
        free(it->text);
        free(it);
    }
    free(p);
    letters_flush_puts(l);
}

static void submit_put(struct letters *l, struct put_item *items, size_t count) {
    struct put_job *p = mem_zalloc(sizeof *p);
    *p = (struct put_job){.job = {.run = put_run, .done = put_done}, .letters = l, .items = items, .count = count};
    l->put_jobs++;
    store_submit(l->store, &p->job);
}

// What comes while jobs are at work goes together into the next one.
void letters_flush_puts(void *letters) {
    struct letters *l = letters;
    if (l->put_count == 0 || (l->put_jobs >= PUT_JOBS && l->put_count < PUT_JOB_MAX)) return;
    submit_put(l, l->put_first, l->put_count);
    l->put_first = NULL;
    l->put_last = &l->put_first;
    l->put_count = 0;
}

// Moves a copy of `s` to *at and on.
static struct str keep(char **at, struct str s) {
    struct str copy = {*at, s.len};
    if (s.len) memcpy(*at, s.data, s.len);
    *at += s.len;
    return copy;
}

void letters_put(struct letters *l, const struct letter_draft *draft, letter_done_fn *done, void *arg) {
    MUST(draft->state == LETTER_DUE || draft->state == LETTER_DEAD);
    struct put_item *it = mem_zalloc(sizeof *it);
    *it = (struct put_item){.draft = *draft, .done = done, .arg = arg};
    it->text = mem_alloc(draft->error_type.len + draft->error_message.len + draft->stack.len);
    char *at = it->text;
    it->draft.error_type = keep(&at, draft->error_type);
    it->draft.error_message = keep(&at, draft->error_message);
    it->draft.stack = keep(&at, draft->stack);
    *l->put_last = it;
    l->put_last = &it->next;
    if (++l->put_count >= PUT_JOB_MAX) letters_flush_puts(l);
    else loop_defer(l->loop, &l->put_flush);
}
