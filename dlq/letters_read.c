// SPDX-License-Identifier: Apache-2.0
// Looking at letters: pages, one whole letter, counts, samples. All on the reader; JSON is made on its thread and handed over.
#include "core/base/clock.h"
#include "dlq/fingerprint.h"
#include "dlq/letters_impl.h"

#define SAMPLE_BYTES (64u * 1024 * 1024)

#define SUMMARY                                                                                                         \
    "SELECT id, function, version, state, kind, attempts, error_type, error_message, accepted_ms, died_ms, changed_ms, due_ms,"  \
    " source_kind, source_name, source_at, ordering_key, content_type, origin_id, replay_id, length(payload), fingerprint, why," \
    " (SELECT count(*) FROM letter_edits e WHERE e.letter_id = letters.id)"
#define SUMMARY_COLUMNS 23

struct read_job {
    struct store_job job;
    struct letters *letters;
    struct selection *sel;
    struct letter_page page;
    struct id after, id;
    size_t count;             // of a sample
    uint32_t seed;            // another one each time
    letters_json_fn *fn;
    letters_claim_fn *sampled; // instead
    void *arg;
    json_t *result;
    struct letter_list list;
};

static struct read_job *read_job_new(struct letters *l, int (*run)(struct store_job *, struct sql *, struct err *),
                                     letters_json_fn *fn, void *arg);

// --- one letter's JSON --------------------------------------------------------------------------------------------------

static json_t *id_or_null(const struct sql_row *row, int column) {
    struct id id = letters_row_id(row, column);
    return letters_json_id(&id);
}

static json_t *ms_or_null(const struct sql_row *row, int column) {
    return sql_row_is_null(row, column) ? json_null() : json_integer(sql_row_int(row, column));
}

static void set_text(json_t *o, const char *name, const struct sql_row *row, int column) {
    json_object_set_new(o, name, letters_json_text(sql_row_bytes(row, column)));
}

static void set_number(json_t *o, const char *name, const struct sql_row *row, int column) {
    json_object_set_new(o, name, json_integer(sql_row_int(row, column)));
}

// Replayed, and no event replays it: its record went back to its topic or queue.
static json_t *to_of(const struct sql_row *row) {
    bool origin = str_is(sql_row_bytes(row, 3), "replayed") && sql_row_is_null(row, 18);
    return origin ? json_string("origin") : json_null();
}

static json_t *summary_of(const struct sql_row *row, const struct redact *redact, bool *ret_masked) {
    json_t *o = json_object(), *source = json_object();
    char group[FINGERPRINT_TEXT_BYTES];
    fingerprint_format((uint64_t)sql_row_int(row, 20), group);
    json_object_set_new(o, "id", id_or_null(row, 0));
    set_text(o, "function", row, 1);
    set_number(o, "version", row, 2);
    set_text(o, "state", row, 3);
    set_text(o, "kind", row, 4);
    set_number(o, "attempts", row, 5);
    set_text(o, "errorType", row, 6);
    set_text(o, "errorMessage", row, 7);
    json_object_set_new(o, "group", json_string(group));
    set_number(o, "acceptedMs", row, 8);
    set_number(o, "diedMs", row, 9);
    set_number(o, "changedMs", row, 10);
    json_object_set_new(o, "dueMs", ms_or_null(row, 11));
    set_text(source, "kind", row, 12);
    set_text(source, "name", row, 13);
    set_text(source, "at", row, 14);
    json_object_set_new(o, "source", source);
    set_text(o, "orderingKey", row, 15);
    set_text(o, "contentType", row, 16);
    json_object_set_new(o, "originId", id_or_null(row, 17));
    json_object_set_new(o, "replayId", id_or_null(row, 18));
    json_object_set_new(o, "to", to_of(row));
    set_number(o, "payloadBytes", row, 19);
    set_text(o, "why", row, 21);
    json_object_set_new(o, "edited", json_boolean(sql_row_int(row, 22) != 0));
    *ret_masked = redact_json(redact, o);
    return o;
}

// Columns behind the summary: history, payload, event.
struct whole {
    const struct redact *redact;
    json_t *result;
};

static int take_whole(void *arg, const struct sql_row *row) {
    struct whole *w = arg;
    json_decref(w->result);
    bool masked;
    json_t *o = w->result = summary_of(row, w->redact, &masked);
    struct str history = sql_row_bytes(row, SUMMARY_COLUMNS);
    json_t *attempts = json_loadb(history.data ? history.data : "", history.len, 0, NULL);
    masked |= redact_json(w->redact, attempts);
    json_object_set_new(o, "history", attempts ? attempts : json_array());
    masked |= letters_set_payload(o, sql_row_bytes(row, SUMMARY_COLUMNS + 1), w->redact);
    struct ev *ev = NULL;
    struct err err = {0};
    if (letter_event(sql_row_bytes(row, SUMMARY_COLUMNS + 2), STR_NONE, STR_NONE, sql_row_int(row, 8), &ev, &err) == 0)
        masked |= letters_set_envelope(o, &ev->f, w->redact);
    ev_free(ev);
    json_object_set_new(o, "redacted", json_boolean(masked));
    return 0;
}

static int take_edit(void *arg, const struct sql_row *row) {
    const struct whole *w = arg;
    json_t *edit = json_object();
    set_number(edit, "revision", row, 0);
    set_number(edit, "atMs", row, 1);
    set_text(edit, "who", row, 2);
    set_text(edit, "why", row, 3);
    json_object_set_new(edit, "patch", letters_json_patch(sql_row_bytes(row, 4)));
    redact_json(w->redact, edit);
    json_array_append_new(json_object_get(w->result, "edits"), edit);
    return 0;
}

static int take_original(void *arg, const struct sql_row *row) {
    const struct whole *w = arg;
    json_t *original = json_object();
    struct ev *ev = NULL;
    struct err err = {0};
    letters_set_payload(original, sql_row_bytes(row, 0), w->redact);
    if (letter_event(sql_row_bytes(row, 1), STR_NONE, STR_NONE, 0, &ev, &err) == 0)
        json_object_set_new(original, "headers", letters_json_headers(&ev->f, w->redact));
    ev_free(ev);
    json_object_set_new(w->result, "original", original);
    return 0;
}

static int take_replay(void *arg, const struct sql_row *row) {
    const struct whole *w = arg;
    json_t *replay = json_object();
    set_number(replay, "replay", row, 0);
    set_text(replay, "state", row, 1);
    json_object_set_new(replay, "eventId", id_or_null(row, 2));
    json_object_set_new(replay, "outcome", sql_row_is_null(row, 3) ? json_null() : letters_json_text(sql_row_bytes(row, 3)));
    set_text(replay, "why", row, 4);
    set_number(replay, "atMs", row, 5);
    json_array_append_new(json_object_get(w->result, "replays"), replay);
    return 0;
}

// The whole letter, or NULL when there is none.
static int read_whole(struct letters *l, struct sql *sql, const struct id *id, json_t **ret, struct err *err) {
    struct whole w = {.redact = l->redact};
    const struct sql_value v = letters_sql_id(id);
    int rc = sql_exec(sql, SUMMARY ", b.history, payload, b.event FROM letters JOIN letter_bodies b USING (id) WHERE id = $1", &v, 1,
                      take_whole, &w, NULL, err);
    if (rc == 0 && w.result) {
        json_object_set_new(w.result, "edits", json_array());
        json_object_set_new(w.result, "original", json_null());
        json_object_set_new(w.result, "replays", json_array());
        rc = sql_exec(sql, "SELECT revision, at_ms, who, why, patch FROM letter_edits WHERE letter_id = $1 ORDER BY revision", &v, 1,
                      take_edit, &w, NULL, err);
        if (rc == 0)
            rc = sql_exec(sql, "SELECT payload, event FROM letter_originals WHERE letter_id = $1", &v, 1, take_original, &w, NULL, err);
        if (rc == 0)
            rc = sql_exec(sql,
                          "SELECT l.replay, l.state, l.event_id, l.outcome, coalesce(l.why, ''), r.created_ms FROM replay_letters l"
                          " JOIN replays r ON r.id = l.replay WHERE l.letter_id = $1 ORDER BY l.replay",
                          &v, 1, take_replay, &w, NULL, err);
    }
    *ret = w.result;
    return rc;
}

// --- pages ----------------------------------------------------------------------------------------------------------------

struct page_rows {
    const struct redact *redact;
    json_t *letters;
    struct id last;
};

// When a condition finds many letters, a walk in order of the ids is the fastest way to a full page; when it finds few, the slowest.
// PostgreSQL chooses by guesses that are far off for most conditions. So it walks first, WALK letters at a time: for more it would rather sort;
// and what is not found in WALKS of them it looks for among the others, in whatever order and with as many processes as it likes.
#define WALK 10000
#define WALKS 5

static int add_summary(void *arg, const struct sql_row *row) {
    struct page_rows *p = arg;
    bool masked;
    json_array_append_new(p->letters, summary_of(row, p->redact, &masked));
    p->last = letters_row_id(row, 0);
    return 0;
}

// A statement that begins with `head`; run_page_sql frees it.
static struct select_sql *page_sql_new(struct sql *sql, struct buf *text, const char *head) {
    struct select_sql *q = mem_alloc(sizeof *q);
    buf_init(text, SIZE_MAX / 2);
    *q = (struct select_sql){.text = text, .postgres = sql_is_postgres(sql)};
    select_sql_add(q, head);
    return q;
}

static void add_after(struct select_sql *q, const struct read_job *r, const struct id *after) {
    if (id_is_none(after)) return;
    select_sql_add(q, r->page.oldest_first ? " AND id > " : " AND id < ");
    select_sql_value(q, letters_sql_id(after));
}

static void add_order(struct select_sql *q, const struct read_job *r, const char *by, size_t limit) {
    select_sql_add(q, " ORDER BY ");
    select_sql_add(q, by);
    select_sql_add(q, r->page.oldest_first ? " LIMIT " : " DESC LIMIT ");
    select_sql_value(q, SQL_I(limit));
}

static int run_page_sql(struct sql *sql, struct select_sql *q, sql_row_fn *fn, void *arg, struct err *err) {
    MUST(buf_append(q->text, (struct str){"", 1}) == 0);
    int rc = sql_exec_once(sql, q->text->data + q->text->start, q->values, q->count, fn, arg, NULL, err);
    buf_done(q->text);
    free(q);
    return rc;
}

static int query_all(const struct read_job *r, struct sql *sql, struct page_rows *rows, struct err *err) {
    struct buf text;
    struct select_sql *q = page_sql_new(sql, &text, SUMMARY " FROM letters WHERE ");
    selection_sql(r->sel, q);
    add_after(q, r, &r->after);
    add_order(q, r, "id", r->page.limit);
    return run_page_sql(sql, q, add_summary, rows, err);
}

// No index has that order.
static int query_others(const struct read_job *r, struct sql *sql, struct page_rows *rows, const struct id *after, struct err *err) {
    struct buf text;
    struct select_sql *q = page_sql_new(sql, &text, SUMMARY " FROM letters WHERE id IN (SELECT id FROM letters WHERE ");
    selection_sql(r->sel, q);
    add_after(q, r, after);
    add_order(q, r, "id || '\\x'::bytea", r->page.limit - json_array_size(rows->letters));
    select_sql_add(q, r->page.oldest_first ? ") ORDER BY id" : ") ORDER BY id DESC");
    return run_page_sql(sql, q, add_summary, rows, err);
}

static int query_walk(const struct read_job *r, struct sql *sql, struct page_rows *rows, const struct id *after, struct err *err) {
    struct buf text;
    struct select_sql *q = page_sql_new(sql, &text, SUMMARY " FROM (SELECT * FROM letters WHERE ");
    selection_keys_sql(r->sel, q);
    add_after(q, r, after);
    add_order(q, r, "id", WALK);
    select_sql_add(q, ") letters WHERE ");
    selection_sql(r->sel, q);
    add_order(q, r, "id", r->page.limit - json_array_size(rows->letters));
    return run_page_sql(sql, q, add_summary, rows, err);
}

static int take_edge(void *arg, const struct sql_row *row) {
    *(struct id *)arg = letters_row_id(row, 0);
    return 0;
}

// The last letter of a walk; none when it saw all there are.
static int find_edge(const struct read_job *r, struct sql *sql, const struct id *after, struct id *ret, struct err *err) {
    struct buf text;
    struct select_sql *q = page_sql_new(sql, &text, "SELECT id FROM letters WHERE ");
    struct id edge = {{0}};
    selection_keys_sql(r->sel, q);
    add_after(q, r, after);
    add_order(q, r, "id", 1);
    select_sql_add(q, " OFFSET ");
    select_sql_value(q, SQL_I(WALK - 1));
    int rc = run_page_sql(sql, q, take_edge, &edge, err);
    *ret = edge;
    return rc;
}

// SQLite always walks. Of ids and groups PostgreSQL's guesses are good.
static int query_page(const struct read_job *r, struct sql *sql, struct page_rows *rows, struct err *err) {
    struct id at = r->after;
    if (!sql_is_postgres(sql) || selection_is_narrow(r->sel)) return query_all(r, sql, rows, err);
    int rc = sql_exec(sql, "SET LOCAL jit = off", NULL, 0, NULL, NULL, NULL, err); // it takes longer than most of these questions
    for (int i = 0; i < WALKS && rc == 0; i++) {
        rc = query_walk(r, sql, rows, &at, err);
        if (rc || json_array_size(rows->letters) == r->page.limit) return rc;
        rc = find_edge(r, sql, &at, &at, err);
        if (rc || id_is_none(&at)) return rc;
    }
    if (rc == 0) rc = sql_exec(sql, "SET LOCAL parallel_tuple_cost = 0", NULL, 0, NULL, NULL, NULL, err); // so few are handed over
    return rc ? rc : query_others(r, sql, rows, &at, err);
}

// What read_whole will read of a letter, before it does. OCTETS: the bytes of a text.
#define WHOLE_BYTES(OCTETS)                                                                                                             \
    "SELECT length(letters.payload) + " OCTETS("b.history") " + length(b.event)"                                                        \
    " + coalesce((SELECT length(o.payload) + length(o.event) FROM letter_originals o WHERE o.letter_id = letters.id), 0)"               \
    " + coalesce((SELECT sum(" OCTETS("e.patch") " + " OCTETS("e.why") ") FROM letter_edits e WHERE e.letter_id = letters.id), 0)"      \
    " FROM letters JOIN letter_bodies b USING (id) WHERE id = $1"
#define OCTETS_POSTGRES(column) "octet_length(" column ")"
#define OCTETS_SQLITE(column) "length(CAST(" column " AS BLOB))"

static int whole_bytes(struct sql *sql, const struct id *id, size_t *ret, struct err *err) {
    const char *text = sql_is_postgres(sql) ? WHOLE_BYTES(OCTETS_POSTGRES) : WHOLE_BYTES(OCTETS_SQLITE);
    const struct sql_value v = letters_sql_id(id);
    int64_t bytes = 0;
    int rc = sql_exec(sql, text, &v, 1, letters_take_int, &bytes, NULL, err);
    *ret = (size_t)bytes;
    return rc;
}

// Each summary becomes the whole letter, until that is enough for one answer. Returns whether some were left out.
static int make_whole(struct read_job *r, struct sql *sql, struct page_rows *rows, bool *ret_cut, struct err *err) {
    size_t bytes = 0, n = json_array_size(rows->letters), i = 0;
    int rc = 0;
    for (; i < n && rc == 0; i++) {
        json_t *summary = json_array_get(rows->letters, i), *whole = NULL;
        struct id id;
        size_t one;
        if (id_parse(str_of(json_string_value(json_object_get(summary, "id"))), &id)) continue;
        if ((rc = whole_bytes(sql, &id, &one, err))) break;
        bytes += one;
        if (i && bytes > LETTER_PAGE_BYTES) break;
        rc = read_whole(r->letters, sql, &id, &whole, err);
        if (whole) json_array_set_new(rows->letters, i, whole);
        rows->last = id;
    }
    *ret_cut = i < n;
    while (json_array_size(rows->letters) > i) json_array_remove(rows->letters, i);
    return rc;
}

static int count_all(const struct read_job *r, struct sql *sql, json_t *result, struct err *err) {
    struct buf text;
    struct select_sql *q = page_sql_new(sql, &text, "SELECT count(*) FROM letters WHERE ");
    int64_t count = 0;
    selection_sql(r->sel, q);
    int rc = run_page_sql(sql, q, letters_take_int, &count, err);
    if (rc == 0) json_object_set_new(result, "count", json_integer(count));
    return rc;
}

static int list_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct read_job *r = container_of(job, struct read_job, job);
    json_decref(r->result);
    struct page_rows rows = {.redact = r->letters->redact, .letters = json_array()};
    r->result = json_pack("{so sn}", "letters", rows.letters, "next");
    int rc = r->page.count ? count_all(r, sql, r->result, err) : 0;
    if (rc == 0) rc = query_page(r, sql, &rows, err);
    bool more = json_array_size(rows.letters) == r->page.limit, cut = false;
    if (rc == 0 && r->page.full) rc = make_whole(r, sql, &rows, &cut, err);
    if (rc == 0 && (more || cut)) json_object_set_new(r->result, "next", letters_json_id(&rows.last));
    return rc;
}

static int show_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct read_job *r = container_of(job, struct read_job, job);
    json_decref(r->result);
    r->result = NULL;
    int rc = read_whole(r->letters, sql, &r->id, &r->result, err);
    if (rc || r->result) return rc;
    char text[ID_TEXT_BYTES];
    id_format(&r->id, text);
    return err_set(err, ERR_NOT_FOUND, "there is no letter %s", text);
}

// --- jobs -----------------------------------------------------------------------------------------------------------

static void read_done(struct store_job *job, int code, const struct err *err) {
    struct read_job *r = container_of(job, struct read_job, job);
    if (code) letter_list_clear(&r->list);
    if (r->sampled) r->sampled(r->arg, code, err, r->list.at, r->list.count);
    else r->fn(r->arg, code, err, code ? NULL : json_incref(r->result));
    json_decref(r->result);
    free(r->list.at);
    selection_free(r->sel);
    free(r);
}

static struct read_job *read_job_new(struct letters *l, int (*run)(struct store_job *, struct sql *, struct err *),
                                     letters_json_fn *fn, void *arg) {
    struct read_job *r = mem_zalloc(sizeof *r);
    *r = (struct read_job){.job = {.run = run, .done = read_done}, .letters = l, .fn = fn, .arg = arg};
    return r;
}

void letters_list(struct letters *l, struct selection *sel, const struct letter_page *page, letters_json_fn *fn, void *arg) {
    struct read_job *r = read_job_new(l, list_run, fn, arg);
    struct err err = {0};
    int rc = 0;
    r->sel = sel;
    r->page = *page;
    if (page->limit < 1 || page->limit > 1000) rc = err_set(&err, ERR_INVALID, "limit is a number from 1 to 1000");
    else if (page->after.len && id_parse(page->after, &r->after))
        rc = err_set(&err, ERR_INVALID, "the cursor is not one that a listing gave out");
    if (rc) read_done(&r->job, rc, &err);
    else store_submit(l->reader, &r->job);
}

void letters_show(struct letters *l, const struct id *id, letters_json_fn *fn, void *arg) {
    struct read_job *r = read_job_new(l, show_run, fn, arg);
    r->id = *id;
    store_submit(l->reader, &r->job);
}

// --- samples --------------------------------------------------------------------------------------------------------

struct ids_found {
    struct id *at;
    size_t count;
};

static int take_id(void *arg, const struct sql_row *row) {
    struct ids_found *found = arg;
    found->at[found->count++] = letters_row_id(row, 0);
    return 0;
}

// Of the letters in order, as many parts as are wanted, and of each part one at random: all of the time between first and last, and no
// period of theirs can keep one kind of them out.
static int query_sample(struct read_job *r, struct sql *sql, struct ids_found *found, struct err *err) {
    struct buf text;
    struct select_sql *q = mem_alloc(sizeof *q);
    buf_init(&text, SIZE_MAX / 2);
    *q = (struct select_sql){.text = &text, .postgres = sql_is_postgres(sql)};
    select_sql_add(q, "WITH wanted AS (SELECT CAST(");
    select_sql_value(q, SQL_I(r->count));
    select_sql_add(q, " AS BIGINT) AS count, CAST(");
    select_sql_value(q, SQL_I(r->seed));
    select_sql_add(q, " AS BIGINT) AS seed), numbered AS (SELECT id, row_number() OVER (ORDER BY id) - 1 AS n, count(*) OVER () AS total"
                      " FROM letters WHERE ");
    selection_sql(r->sel, q);
    select_sql_add(q, "), parted AS (SELECT id, n, total, count, seed, n * count / total AS part FROM numbered CROSS JOIN wanted)"
                      " SELECT id FROM parted WHERE n - (part * total + count - 1) / count"
                      " = (part * 2654435761 + seed) % 4294967296 / 256 % CASE WHEN total > count THEN total / count ELSE 1 END ORDER BY id");
    MUST(buf_append(&text, (struct str){"", 1}) == 0);
    int rc = sql_exec_once(sql, text.data + text.start, q->values, q->count, take_id, found, NULL, err);
    buf_done(&text);
    free(q);
    return rc;
}

static int sample_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct read_job *r = container_of(job, struct read_job, job);
    letter_list_clear(&r->list);
    struct ids_found found = {.at = mem_array(r->count, sizeof *found.at)};
    int rc = query_sample(r, sql, &found, err);
    for (size_t i = 0; i < found.count && rc == 0 && r->list.bytes < SAMPLE_BYTES; i++) {
        const struct sql_value id = letters_sql_id(&found.at[i]);
        rc = sql_exec(sql, "SELECT " LETTERS_TAKE " FROM letters WHERE id = $1", &id, 1, letters_take, &r->list, NULL, err);
    }
    free(found.at);
    letter_list_sort(&r->list);
    return rc;
}

void letters_sample(struct letters *l, struct selection *sel, size_t count, letters_claim_fn *fn, void *arg) {
    MUST(count > 0);
    struct read_job *r = read_job_new(l, sample_run, NULL, arg);
    r->sampled = fn;
    r->sel = sel;
    r->count = count;
    r->seed = (uint32_t)clock_mono_ns();
    store_submit(l->reader, &r->job);
}

// --- counts ---------------------------------------------------------------------------------------------------------

static void count_into(json_t *o, struct str state, int64_t n) {
    cleanup_free char *key = mem_strndup(state);
    json_int_t before = json_integer_value(json_object_get(o, key));
    json_object_set_new(o, key, json_integer(before + n));
}

static int add_count(void *arg, const struct sql_row *row) {
    json_t *result = arg;
    json_t *functions = json_object_get(result, "functions");
    cleanup_free char *name = mem_strndup(sql_row_bytes(row, 0));
    json_t *fn = json_object_get(functions, name);
    if (!fn) {
        fn = json_object();
        json_object_set_new(functions, name, fn);
    }
    count_into(fn, sql_row_bytes(row, 1), sql_row_int(row, 2));
    count_into(json_object_get(result, "total"), sql_row_bytes(row, 1), sql_row_int(row, 2));
    return 0;
}

static int count_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct read_job *r = container_of(job, struct read_job, job);
    json_decref(r->result);
    r->result = json_pack("{s{} s{}}", "functions", "total");
    // Each state by its own index.
    return sql_exec(sql,
                    "SELECT function, 'dead', count(*) FROM letters WHERE state = 'dead' GROUP BY function"
                    " UNION ALL SELECT function, 'due', count(*) FROM letters WHERE state = 'due' GROUP BY function"
                    " UNION ALL SELECT function, 'delayed', count(*) FROM letters WHERE state = 'due' AND kind = 'delayed' GROUP BY function"
                    " UNION ALL SELECT function, 'replaying', count(*) FROM letters WHERE state = 'replaying' GROUP BY function"
                    " UNION ALL SELECT function, state, count(*) FROM letters WHERE state IN ('replayed', 'discarded')"
                    " GROUP BY function, state ORDER BY 1, 2",
                    NULL, 0, add_count, r->result, NULL, err);
}

void letters_count(struct letters *l, letters_json_fn *fn, void *arg) {
    store_submit(l->reader, &read_job_new(l, count_run, fn, arg)->job);
}
