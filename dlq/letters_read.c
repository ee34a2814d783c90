// SPDX-License-Identifier: Apache-2.0
// Looking at letters: filters, pages, one whole letter, counts. JSON is made on the store's thread and handed over.
#include "core/base/text.h"
#include "core/digest.h"
#include "dlq/letters_impl.h"

#define SUMMARY                                                                                                         \
    "SELECT id, function, version, state, kind, attempts, error_type, error_message, accepted_ms, changed_ms, due_ms,"  \
    " source_kind, source_name, source_at, ordering_key, origin_id, replay_id, length(payload)"

// --- filters --------------------------------------------------------------------------------------------------------

static struct str copy_into(char **at, struct str s) {
    struct str copy = {*at, s.len};
    if (s.len) memcpy(*at, s.data, s.len);
    *at += s.len;
    return copy;
}

static int parse_after(struct str after, char out[sizeof(struct id)], size_t *ret_len, struct err *err) {
    struct id id;
    *ret_len = 0;
    if (after.len == 0) return 0;
    if (id_parse(after, &id)) return err_set(err, ERR_INVALID, "the cursor is not one that a listing gave out");
    memcpy(out, id.bytes, sizeof id.bytes);
    *ret_len = sizeof id.bytes;
    return 0;
}

int filter_copy_init(struct filter_copy *copy, const struct letter_filter *f, const char *default_state, struct err *err) {
    enum letter_state state;
    struct str wanted = f->state.len ? f->state : str_of(default_state);
    if (wanted.len && letter_state_parse(wanted, &state))
        return err_set(err, ERR_INVALID, "unknown state '%.*s'; states are due, dead, replaying, replayed, discarded",
                       STR_ARG(wanted));
    char after[sizeof(struct id)];
    size_t after_len;
    int rc = parse_after(f->after, after, &after_len, err);
    if (rc) return rc;
    if (f->limit < 1 || f->limit > 1000) return err_set(err, ERR_INVALID, "limit is a number from 1 to 1000");
    copy->text = mem_alloc(f->function.len + f->error_type.len + wanted.len + after_len);
    char *at = copy->text;
    copy->f = *f;
    copy->f.function = copy_into(&at, f->function);
    copy->f.error_type = copy_into(&at, f->error_type);
    copy->f.state = copy_into(&at, wanted);
    copy->f.after = copy_into(&at, (struct str){after, after_len});
    copy->ids = NULL;
    if (f->id_count) {
        copy->ids = mem_array(f->id_count, sizeof *copy->ids);
        memcpy(copy->ids, f->ids, f->id_count * sizeof *copy->ids);
    }
    copy->f.ids = copy->ids;
    return 0;
}

void filter_copy_done(struct filter_copy *copy) {
    free(copy->text);
    free(copy->ids);
}

void filter_values(const struct filter_copy *copy, struct sql_value values[FILTER_VALUES]) {
    const struct letter_filter *f = &copy->f;
    values[0] = SQL_T(f->function);
    values[1] = SQL_T(f->state);
    values[2] = SQL_T(f->error_type);
    values[3] = SQL_I(f->since_ms);
    values[4] = SQL_I(f->until_ms ? f->until_ms : INT64_MAX);
    values[5] = SQL_B(f->after);
    values[6] = SQL_B(STR_LIT(""));
    values[7] = SQL_I(f->limit);
}

// --- JSON -----------------------------------------------------------------------------------------------------------

static json_t *json_text(struct str s) {
    json_t *j = json_stringn(s.data ? s.data : "", s.len);
    return j ? j : json_string("");
}

static json_t *json_id(struct str bytes) {
    if (bytes.len != sizeof(struct id)) return json_null();
    struct id id;
    char text[ID_TEXT_BYTES];
    memcpy(id.bytes, bytes.data, sizeof id.bytes);
    id_format(&id, text);
    return json_string(text);
}

// Replayed, and no event replays it.
static json_t *json_to(const struct sql_row *row) {
    bool origin = str_is(sql_row_bytes(row, 3), "replayed") && sql_row_bytes(row, 16).len == 0;
    return origin ? json_string("origin") : json_null();
}

static json_t *summary_of(const struct sql_row *row) {
    json_t *source = json_pack("{so so so}", "kind", json_text(sql_row_bytes(row, 11)), "name",
                               json_text(sql_row_bytes(row, 12)), "at", json_text(sql_row_bytes(row, 13)));
    return json_pack("{so so sI so so sI so so sI sI so so so so so so sI}",                                //
                     "id", json_id(sql_row_bytes(row, 0)), "function", json_text(sql_row_bytes(row, 1)),    //
                     "version", (json_int_t)sql_row_int(row, 2), "state", json_text(sql_row_bytes(row, 3)), //
                     "kind", json_text(sql_row_bytes(row, 4)), "attempts", (json_int_t)sql_row_int(row, 5), //
                     "errorType", json_text(sql_row_bytes(row, 6)), "errorMessage", json_text(sql_row_bytes(row, 7)),
                     "acceptedMs", (json_int_t)sql_row_int(row, 8), "changedMs", (json_int_t)sql_row_int(row, 9), //
                     "dueMs", sql_row_is_null(row, 10) ? json_null() : json_integer(sql_row_int(row, 10)),        //
                     "source", source, "orderingKey", json_text(sql_row_bytes(row, 14)),                          //
                     "originId", json_id(sql_row_bytes(row, 15)), "replayId", json_id(sql_row_bytes(row, 16)),    //
                     "to", json_to(row), "payloadBytes", (json_int_t)sql_row_int(row, 17));
}

// --- jobs -----------------------------------------------------------------------------------------------------------

struct read_job {
    struct store_job job;
    struct filter_copy filter;
    struct id id;
    letters_json_fn *fn;
    void *arg;
    json_t *result;
};

static void read_done(struct store_job *job, int code, const struct err *err) {
    struct read_job *r = container_of(job, struct read_job, job);
    json_t *result = code ? NULL : json_incref(r->result);
    r->fn(r->arg, code, err, result);
    json_decref(r->result);
    filter_copy_done(&r->filter);
    free(r);
}

static struct read_job *read_job_new(int (*run)(struct store_job *, struct sql *, struct err *), letters_json_fn *fn,
                                     void *arg) {
    struct read_job *r = mem_zalloc(sizeof *r);
    *r = (struct read_job){.job = {.run = run, .done = read_done}, .fn = fn, .arg = arg};
    return r;
}

static int add_summary(void *arg, const struct sql_row *row) {
    json_array_append_new(arg, summary_of(row));
    return 0;
}

static int list_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct read_job *r = container_of(job, struct read_job, job);
    json_decref(r->result);
    json_t *letters = json_array();
    r->result = json_pack("{so sn}", "letters", letters, "next");
    struct sql_value values[FILTER_VALUES];
    filter_values(&r->filter, values);
    size_t rounds = r->filter.f.id_count ? r->filter.f.id_count : 1;
    int rc = 0;
    for (size_t i = 0; i < rounds && rc == 0; i++) {
        if (r->filter.ids) values[6] = SQL_B(((struct str){(const char *)r->filter.ids[i].bytes, sizeof(struct id)}));
        rc = sql_exec(sql, SUMMARY " FROM letters" LETTERS_WHERE " ORDER BY id LIMIT $8", values, FILTER_VALUES, add_summary,
                      letters, NULL, err);
    }
    size_t n = json_array_size(letters);
    if (rc == 0 && !r->filter.ids && n == r->filter.f.limit)
        json_object_set(r->result, "next", json_object_get(json_array_get(letters, n - 1), "id"));
    return rc;
}

void letters_list(struct letters *l, const struct letter_filter *f, letters_json_fn *fn, void *arg) {
    struct read_job *r = read_job_new(list_run, fn, arg);
    struct err err = {0};
    int rc = filter_copy_init(&r->filter, f, f->id_count ? "" : "dead", &err);
    if (rc) read_done(&r->job, rc, &err);
    else store_submit(l->store, &r->job);
}

static void add_payload(json_t *o, struct str payload) {
    json_t *text = text_is_utf8(payload) ? json_stringn(payload.data ? payload.data : "", payload.len) : NULL;
    if (text) {
        json_object_set_new(o, "payload", text);
        return;
    }
    struct buf b64;
    buf_init(&b64, payload.len * 2 + 64);
    MUST(base64_encode(payload, &b64) == 0);
    json_object_set_new(o, "payloadBase64", json_text(buf_str(&b64)));
    buf_done(&b64);
}

static json_t *headers_of(const struct ev *ev) {
    json_t *headers = json_array();
    for (size_t i = 0; i < ev->f.header_count; i++) {
        const struct ev_header *h = &ev->f.headers[i];
        json_array_append_new(headers, json_pack("[oo]", json_text(h->name), json_text(h->value)));
    }
    return headers;
}

// Columns after the summary, whose 8 is accepted_ms: 18 history, 19 payload, 20 event.
static int whole_letter(void *arg, const struct sql_row *row) {
    json_t **ret = arg;
    json_t *o = summary_of(row);
    struct str history = sql_row_bytes(row, 18);
    json_t *attempts = json_loadb(history.data, history.len, 0, NULL);
    json_object_set_new(o, "history", attempts ? attempts : json_array());
    add_payload(o, sql_row_bytes(row, 19));
    struct ev *ev = NULL;
    if (letter_event(sql_row_bytes(row, 20), STR_NONE, STR_NONE, sql_row_int(row, 8), &ev, NULL) == 0) {
        json_object_set_new(o, "headers", headers_of(ev));
        json_object_set_new(o, "contentType", json_text(ev->f.content_type));
    }
    ev_free(ev);
    json_decref(*ret);
    *ret = o;
    return 0;
}

static int show_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct read_job *r = container_of(job, struct read_job, job);
    json_decref(r->result);
    r->result = NULL;
    struct sql_value id = SQL_B(((struct str){(const char *)r->id.bytes, sizeof r->id.bytes}));
    int rc = sql_exec(sql, SUMMARY ", history, payload, event FROM letters WHERE id = $1", &id, 1, whole_letter, &r->result,
                      NULL, err);
    if (rc || r->result) return rc;
    char text[ID_TEXT_BYTES];
    id_format(&r->id, text);
    return err_set(err, ERR_NOT_FOUND, "there is no letter %s", text);
}

void letters_show(struct letters *l, const struct id *id, letters_json_fn *fn, void *arg) {
    struct read_job *r = read_job_new(show_run, fn, arg);
    r->id = *id;
    store_submit(l->store, &r->job);
}

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
    return sql_exec(sql, "SELECT function, state, count(*) FROM letters GROUP BY function, state ORDER BY function, state",
                    NULL, 0, add_count, r->result, NULL, err);
}

void letters_count(struct letters *l, letters_json_fn *fn, void *arg) {
    struct read_job *r = read_job_new(count_run, fn, arg);
    store_submit(l->store, &r->job);
}
