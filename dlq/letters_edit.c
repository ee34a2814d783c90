// SPDX-License-Identifier: Apache-2.0
// Edits of letters: each is a revision with who, when, why and a JSON Patch; what was there before the first one is kept.
//
// Invariant: a letter is locked (PostgreSQL) from when it is read until its revision is written, and only one that waits (dead, or due and
// not on its way) is edited: a replay that claims it at the same time either finds the new content or makes the edit be refused.
#include "core/base/clock.h"
#include "dlq/edit.h"
#include "dlq/letters_impl.h"

#define EDIT_BYTES (64u * 1024 * 1024) // of the letters of one call
#define SHOWN_MAX 65536                // of a document

struct edit_job {
    struct store_job job;
    struct letters *letters;
    struct selection *sel;
    struct edit *edit;
    bool by_ids;
    struct letters_place place;
    int64_t now_ms;
    size_t limit;
    char *why, *who;
    bool dry_run;
    letters_json_fn *fn;
    void *arg;
    json_t *result;
    struct letters_found found; // by the reader; of a selection that is none of ids
    // of one run:
    struct picked {
        struct id id;
        bool due; // else dead
    } *picked;
    size_t count;
    int64_t edited, unchanged;
};

static int take_picked(void *arg, const struct sql_row *row) {
    struct edit_job *e = arg;
    e->picked[e->count++] = (struct picked){letters_row_id(row, 0), str_is(sql_row_bytes(row, 1), "due")};
    return 0;
}

#define WAITS "((state = 'dead') OR (state = 'due' AND lease_ms <= @))"

static int find_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct edit_job *e = container_of(job, struct edit_job, job);
    struct letters_which which = {.sel = e->sel, .condition = WAITS, .place = e->place, .limit = e->limit};
    int rc = sql_unix_ms(sql, &which.now_ms, err);
    return rc ? rc : letters_sql_find(sql, &which, &e->found, err);
}

// Of the letters that were found, or of the given ids behind the call before, those that wait.
static int pick(struct edit_job *e, struct sql *sql, int64_t store_ms, struct err *err) {
    if (!e->by_ids && e->found.count == 0) return 0;
    struct buf text;
    struct select_sql *q = mem_alloc(sizeof *q);
    struct selection *found = e->by_ids ? NULL : letters_selection(e->found.ids, e->found.count);
    buf_init(&text, SIZE_MAX / 2);
    *q = (struct select_sql){.text = &text, .postgres = sql_is_postgres(sql)};
    letters_sql_add(q, "SELECT id, state FROM letters WHERE " WAITS " AND id > ", store_ms);
    select_sql_value(q, letters_sql_id(&e->place.after));
    select_sql_add(q, " AND ");
    selection_sql(found ? found : e->sel, q);
    select_sql_add(q, " ORDER BY id LIMIT ");
    select_sql_value(q, SQL_I(e->limit));
    if (q->postgres && !e->dry_run) select_sql_add(q, " FOR UPDATE");
    MUST(buf_append(&text, (struct str){"", 1}) == 0);
    int rc = sql_exec_once(sql, text.data + text.start, q->values, q->count, take_picked, e, NULL, err);
    buf_done(&text);
    selection_free(found);
    free(q);
    return rc;
}

// --- one letter -------------------------------------------------------------------------------------------------------------

static void add_document(struct edit_job *e, json_t *shown, const char *name, const struct ev *ev) {
    struct buf document, masked;
    buf_init(&document, SIZE_MAX / 2);
    buf_init(&masked, SIZE_MAX / 2);
    edit_document(ev, &document);
    if (buf_len(&document) <= SHOWN_MAX) {
        bool secret = e->letters->redact && redact_append(e->letters->redact, buf_str(&document), &masked);
        json_object_set_new(shown, name, letters_json_text(buf_str(secret ? &masked : &document)));
    }
    buf_done(&document);
    buf_done(&masked);
}

static void show_edit(struct edit_job *e, const struct ev *before, const struct edited *edited, int64_t revision) {
    json_t *shown = json_pack("{so sI so}", "id", letters_json_id(&before->f.id), "revision", (json_int_t)revision, "patch",
                              letters_json_patch(str_of(edited->patch)));
    redact_json(e->letters->redact, json_object_get(shown, "patch"));
    add_document(e, shown, "before", before);
    add_document(e, shown, "after", edited->ev);
    json_array_append_new(json_object_get(e->result, "letters"), shown);
}

static int keep_original(struct sql *sql, struct sql_value id, struct err *err) {
    return sql_exec(sql,
                    "INSERT INTO letter_originals (letter_id, payload, event) SELECT l.id, l.payload, b.event FROM letters l"
                    " JOIN letter_bodies b ON b.id = l.id WHERE l.id = $1 ON CONFLICT (letter_id) DO NOTHING",
                    &id, 1, NULL, NULL, NULL, err);
}

static int write_content(struct sql *sql, struct sql_value id, const struct ev *ev, int64_t now_ms, struct err *err) {
    const struct ev_fields *f = &ev->f;
    struct buf headers, envelope, key, type;
    struct buf *all[] = {&headers, &envelope, &key, &type};
    for (size_t i = 0; i < array_len(all); i++) buf_init(all[i], SIZE_MAX / 2);
    letters_append_headers(&headers, f);
    letters_append_clean(&key, f->ordering_key);
    letters_append_clean(&type, f->content_type);
    int rc = letters_append_envelope(&envelope, ev, err);
    struct str payload = f->payload.data ? f->payload : STR_LIT("");
    const struct sql_value row[] = {SQL_B(payload), SQL_I(letters_json_column(payload, sql_is_postgres(sql))), SQL_T(buf_str(&headers)), SQL_T(buf_str(&key)),
                                    SQL_T(buf_str(&type)), SQL_I(now_ms), id};
    const struct sql_value body[] = {SQL_B(buf_str(&envelope)), id};
    if (rc == 0)
        rc = sql_exec(sql,
                      "UPDATE letters SET payload = $1, json = $2, headers = $3, ordering_key = $4, content_type = $5, changed_ms = $6"
                      " WHERE id = $7",
                      row, array_len(row), NULL, NULL, NULL, err);
    if (rc == 0) rc = sql_exec(sql, "UPDATE letter_bodies SET event = $1 WHERE id = $2", body, 2, NULL, NULL, NULL, err);
    for (size_t i = 0; i < array_len(all); i++) buf_done(all[i]);
    return rc;
}

static int write_edit(struct edit_job *e, struct sql *sql, const struct id *letter, const struct edited *edited, int64_t revision,
                      struct err *err) {
    int64_t now_ms = clock_unix_ms();
    const struct sql_value id = letters_sql_id(letter);
    const struct sql_value row[] = {id, SQL_I(revision), SQL_I(now_ms), SQL_Z(e->who), SQL_Z(e->why), SQL_Z(edited->patch)};
    int rc = keep_original(sql, id, err);
    if (rc == 0) rc = write_content(sql, id, edited->ev, now_ms, err);
    return rc ? rc
              : sql_exec(sql, "INSERT INTO letter_edits (letter_id, revision, at_ms, who, why, patch) VALUES ($1,$2,$3,$4,$5,$6)", row,
                         array_len(row), NULL, NULL, NULL, err);
}

static void refuse(struct edit_job *e, const struct picked *p, const char *why) {
    json_array_append_new(json_object_get(e->result, "refused"),
                          json_pack("{so ss ss}", "id", letters_json_id(&p->id), "state", p->due ? "due" : "dead", "why", why));
}

static int edit_one(struct edit_job *e, struct sql *sql, const struct picked *picked, const struct letter *letter, struct err *err) {
    struct edited edited = {0};
    struct err why = {0};
    if (edit_apply(e->edit, letter->ev, &edited, &why)) {
        refuse(e, picked, why.text);
        return 0;
    }
    if (!edited.ev) {
        e->unchanged++;
        edited_done(&edited);
        return 0;
    }
    int64_t revision = 0;
    const struct sql_value id = letters_sql_id(&letter->id);
    int rc = sql_exec(sql, "SELECT coalesce(max(revision), 0) + 1 FROM letter_edits WHERE letter_id = $1", &id, 1, letters_take_int, &revision,
                      NULL, err);
    if (rc == 0 && !e->dry_run) rc = write_edit(e, sql, &letter->id, &edited, revision, err);
    e->edited++;
    show_edit(e, letter->ev, &edited, revision);
    edited_done(&edited);
    return rc;
}

// --- all of a call ------------------------------------------------------------------------------------------------------------

// Of the given ids between the call before and `last` (NULL: the end), those that do not wait.
static int tell_refused(struct edit_job *e, struct sql *sql, const struct id *last, struct err *err) {
    size_t asked = 0, n = 0;
    const struct id *ids = selection_ids(e->sel, &asked);
    struct id *left = mem_array(asked ? asked : 1, sizeof *left);
    for (size_t i = 0; i < asked; i++) {
        bool told = (e->place.as_of_ms && memcmp(ids[i].bytes, e->place.after.bytes, sizeof ids[i].bytes) <= 0) ||
                    (last && memcmp(ids[i].bytes, last->bytes, sizeof last->bytes) > 0);
        for (size_t k = 0; k < e->count && !told; k++) told = id_eq(&ids[i], &e->picked[k].id);
        if (!told) left[n++] = ids[i];
    }
    int rc = letters_sql_refused(sql, left, n, json_object_get(e->result, "refused"), err);
    free(left);
    return rc;
}

static void begin_result(struct edit_job *e) {
    json_decref(e->result);
    e->result = json_pack("{s[] s[] sb sn}", "refused", "letters", "more", 0, "next");
    e->count = 0;
    e->edited = e->unchanged = 0;
}

static int edit_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct edit_job *e = container_of(job, struct edit_job, job);
    int64_t store_ms = 0;
    begin_result(e);
    int rc = sql_unix_ms(sql, &store_ms, err);
    if (rc == 0) rc = pick(e, sql, store_ms, err);
    size_t i = 0, bytes = 0;
    for (; i < e->count && rc == 0 && bytes < EDIT_BYTES; i++) {
        struct letter_list one = {0};
        const struct sql_value id = letters_sql_id(&e->picked[i].id);
        rc = sql_exec(sql, "SELECT " LETTERS_TAKE " FROM letters WHERE id = $1", &id, 1, letters_take, &one, NULL, err);
        bytes += one.bytes;
        if (rc == 0 && one.count) rc = edit_one(e, sql, &e->picked[i], &one.at[0], err);
        else if (rc == 0) refuse(e, &e->picked[i], "its event cannot be read");
        letter_list_done(&one);
    }
    if (rc) return rc;
    bool more = i < e->count || (e->by_ids ? e->count : e->found.count) == e->limit;
    const struct id *last = !more ? NULL : i < e->count ? &e->picked[i - 1].id : e->by_ids ? &e->picked[e->count - 1].id : &e->found.ids[e->limit - 1];
    json_object_set_new(e->result, "edited", json_integer(e->edited));
    json_object_set_new(e->result, "unchanged", json_integer(e->unchanged));
    json_object_set_new(e->result, "more", json_boolean(more));
    if (last) json_object_set_new(e->result, "next", letters_place_json(&e->place, last, e->now_ms));
    return e->by_ids ? tell_refused(e, sql, last, err) : 0;
}

// Nothing is written, so it runs on the reader.
static int dry_run(struct store_job *job, struct sql *sql, struct err *err) {
    int rc = container_of(job, struct edit_job, job)->by_ids ? 0 : find_run(job, sql, err);
    return rc ? rc : edit_run(job, sql, err);
}

static void edit_done(struct store_job *job, int code, const struct err *err) {
    struct edit_job *e = container_of(job, struct edit_job, job);
    struct err why;
    if (code) letters_find_failed(code, err, &why);
    e->fn(e->arg, code, code ? &why : NULL, code ? NULL : json_incref(e->result));
    json_decref(e->result);
    selection_free(e->sel);
    edit_free(e->edit);
    free(e->why);
    free(e->who);
    free(e->found.ids);
    free(e->picked);
    free(e);
}

static void find_done(struct store_job *job, int code, const struct err *err) {
    struct edit_job *e = container_of(job, struct edit_job, job);
    if (code) {
        edit_done(job, code, err);
        return;
    }
    e->job = (struct store_job){.run = edit_run, .done = edit_done};
    store_submit(e->letters->store, &e->job);
}

void letters_edit(struct letters *l, const struct letter_change *c, struct edit *edit, bool is_dry_run, letters_json_fn *fn, void *arg) {
    struct edit_job *e = mem_zalloc(sizeof *e);
    *e = (struct edit_job){.job = {.run = edit_run, .done = edit_done},
                           .now_ms = clock_unix_ms(),
                           .letters = l,
                           .sel = c->sel,
                           .edit = edit,
                           .limit = c->limit < LETTERS_EDIT_MAX ? c->limit : LETTERS_EDIT_MAX,
                           .why = mem_strndup(c->why),
                           .who = mem_strndup(c->who),
                           .dry_run = is_dry_run,
                           .fn = fn,
                           .arg = arg};
    struct err err = {0};
    size_t ids;
    (void)selection_ids(e->sel, &ids);
    e->by_ids = ids > 0;
    int rc = letters_place_parse(c->after, &e->place, &err);
    if (c->limit == 0) rc = err_set(&err, ERR_INVALID, "limit must be at least 1");
    if (rc) {
        edit_done(&e->job, rc, &err);
        return;
    }
    e->picked = mem_array(e->limit, sizeof *e->picked);
    if (is_dry_run) e->job.run = dry_run;
    else if (!e->by_ids) e->job = (struct store_job){.run = find_run, .done = find_done};
    store_submit(is_dry_run || !e->by_ids ? l->reader : l->store, &e->job);
}
