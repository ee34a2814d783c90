// SPDX-License-Identifier: Apache-2.0
// Import: letters as letters_show gives them become dead letters again, with the id, the times, the attempts and the content they had.
#include "core/base/clock.h"
#include "core/digest.h"
#include "core/registry.h"
#include "dlq/fingerprint.h"
#include "dlq/history.h"
#include "dlq/json_bytes.h"
#include "dlq/letters_impl.h"

#define IMPORT_MAX 1000

#define ATTEMPTS_MAX 1000000
#define AHEAD_MS (24 * INT64_C(3600000)) // clocks differ, and people import what another server exported a moment ago

struct import_job {
    struct store_job job;
    json_t *letters;
    letters_json_fn *fn;
    void *arg;
    json_t *result;
};

// What an event's fields point to until it is made.
struct scratch {
    struct buf payload; // out of base64
    struct buf texts;   // never moves: there is room for all from the beginning
    char *history;
    struct ev_header *headers;
};

// Nothing, or a whole number in this range.
static int read_number(const json_t *o, const char *name, int64_t most, int64_t *ret, struct err *err) {
    const json_t *value = json_object_get(o, name);
    if (!value || json_is_null(value)) return 0;
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < 0 || n > most)
        return err_set(err, ERR_INVALID, "%s must be a whole number from 0 to %lld", name, (long long)most);
    *ret = n;
    return 0;
}

static int read_text(const json_t *o, const char *name, struct scratch *im, struct str *ret, struct err *err) {
    struct err why;
    int rc = json_bytes_read(json_object_get(o, name), &im->texts, ret, &why);
    return rc ? err_set(err, (enum err_code)rc, "%s: %s", name, why.text) : 0;
}

static int read_payload(const json_t *o, struct scratch *im, struct ev_fields *f, struct err *err) {
    const json_t *b64 = json_object_get(o, "payloadBase64");
    f->payload = json_member_text(o, "payload");
    if (!b64) return json_is_string(json_object_get(o, "payload")) ? 0 : err_set(err, ERR_INVALID, "it has no payload");
    int rc = base64_decode(json_member_text(o, "payloadBase64"), &im->payload, err);
    f->payload = buf_str(&im->payload);
    return rc ? err_set(err, ERR_INVALID, "payloadBase64 is not base64") : 0;
}

static int read_headers(const json_t *o, struct scratch *im, struct ev_fields *f, struct err *err) {
    const json_t *list = json_object_get(o, "headers"), *pair;
    size_t i, n = json_array_size(list);
    if (list && !json_is_array(list)) return err_set(err, ERR_INVALID, "headers must be pairs of texts");
    if (n > EV_HEADERS_MAX) return err_set(err, ERR_TOO_LARGE, "it has more than %d headers", EV_HEADERS_MAX);
    im->headers = mem_array(n ? n : 1, sizeof *im->headers);
    json_array_foreach(list, i, pair) {
        const json_t *name = json_array_get(pair, 0), *value = json_array_get(pair, 1);
        struct ev_header *to = &im->headers[i];
        if (json_array_size(pair) != 2 || json_is_null(name) || json_is_null(value) || json_bytes_read(name, &im->texts, &to->name, err) ||
            json_bytes_read(value, &im->texts, &to->value, err))
            return err_set(err, ERR_INVALID, "headers must be pairs of texts");
    }
    f->headers = im->headers;
    f->header_count = n;
    return 0;
}

static int read_kind(const json_t *o, enum letter_kind *ret, struct err *err) {
    struct str word = json_member_text(o, "kind");
    *ret = LETTER_FUNCTION;
    if (!json_object_get(o, "kind")) return 0;
#define X(name, text)        \
    if (str_is(word, text)) { \
        *ret = name;         \
        return 0;            \
    }
    LETTER_KINDS(X)
#undef X
    return err_set(err, ERR_INVALID, "kind is not one that there is");
}

static int read_source(const json_t *o, struct ev_fields *f, struct err *err) {
    const json_t *source = json_object_get(o, "source");
    if (source && !json_is_object(source) && !json_is_null(source)) return err_set(err, ERR_INVALID, "source must be an object");
    f->source_kind = json_member_text(source, "kind");
    f->source_name = json_member_text(source, "name");
    f->source_at = json_member_text(source, "at");
    return 0;
}

static int read_ids(const json_t *o, struct ev_fields *f, struct err *err) {
    const json_t *origin = json_object_get(o, "originId");
    if (id_parse(json_member_text(o, "id"), &f->id) || id_is_none(&f->id)) return err_set(err, ERR_INVALID, "its id is not one");
    if (origin && !json_is_null(origin) && id_parse(json_member_text(o, "originId"), &f->origin_id)) return err_set(err, ERR_INVALID, "originId is not an id");
    return function_name_check(f->function, err);
}

static int read_history(const json_t *o, struct scratch *im, struct ev_fields *f, struct err *err) {
    const json_t *history = json_object_get(o, "history");
    if (history && !json_is_array(history)) return err_set(err, ERR_INVALID, "its history is not a list");
    im->history = json_dumps(history, JSON_COMPACT);
    f->history = str_of(im->history ? im->history : "[]");
    return 0;
}

static int read_event(const json_t *o, struct scratch *im, struct ev_fields *f, struct err *err) {
    int64_t attempts = 0;
    f->function = json_member_text(o, "function");
    f->shape = json_member_text(o, "shape");
    int rc = read_ids(o, f, err);
    if (rc == 0) rc = read_number(o, "attempts", ATTEMPTS_MAX, &attempts, err);
    if (rc == 0) rc = read_number(o, "acceptedMs", INT64_MAX, &f->accepted_ms, err);
    if (rc == 0) rc = read_text(o, "orderingKey", im, &f->ordering_key, err);
    if (rc == 0) rc = read_text(o, "contentType", im, &f->content_type, err);
    if (rc == 0) rc = read_text(o, "trace", im, &f->trace, err);
    if (rc == 0) rc = read_source(o, f, err);
    if (rc == 0) rc = read_history(o, im, f, err);
    if (rc == 0) rc = read_payload(o, im, f, err);
    if (rc == 0) rc = read_headers(o, im, f, err);
    if (rc == 0 && f->payload.len > EV_PAYLOAD_MAX) rc = err_set(err, ERR_TOO_LARGE, "its payload is larger than %u bytes", EV_PAYLOAD_MAX);
    f->attempt = (uint32_t)attempts;
    return rc;
}

static int read_letter(const json_t *o, struct scratch *im, struct letter_draft *ret, struct err *err) {
    struct ev_fields f = {0};
    struct letter_draft draft = {.state = LETTER_DEAD,
                                 .error_type = json_member_text(o, "errorType"),
                                 .error_message = json_member_text(o, "errorMessage"),
                                 .stack = history_last_stack(json_object_get(o, "history"))};
    int64_t version = 0;
    if (!json_is_object(o)) return err_set(err, ERR_INVALID, "it is not an object");
    int rc = read_event(o, im, &f, err);
    if (rc == 0) rc = read_number(o, "version", UINT32_MAX, &version, err);
    if (rc == 0) rc = read_kind(o, &draft.kind, err);
    if (rc) return rc;
    if (fingerprint_parse(json_member_text(o, "group"), &draft.fingerprint)) draft.fingerprint = 0;
    draft.version = (uint32_t)version;
    draft.ev = ev_new(&f);
    *ret = draft;
    return 0;
}

int letter_draft_of_json(const json_t *o, struct letter_draft *ret, struct err *err) {
    struct scratch scratch = {.history = NULL};
    buf_init(&scratch.payload, EV_PAYLOAD_MAX + 3); // base64 is decoded in steps of 3
    buf_init(&scratch.texts, EV_ENCODED_MAX);
    MUST(buf_reserve(&scratch.texts, EV_ENCODED_MAX));
    int rc = read_letter(o, &scratch, ret, err);
    buf_done(&scratch.payload);
    buf_done(&scratch.texts);
    free(scratch.history);
    free(scratch.headers);
    return rc;
}

// A time of the past; one that is a little ahead is now.
static int read_past(const json_t *o, const char *name, int64_t now_ms, int64_t *ret, struct err *err) {
    int64_t at_ms = 0;
    int rc = read_number(o, name, INT64_MAX, &at_ms, err);
    if (rc == 0 && at_ms - now_ms > AHEAD_MS) rc = err_set(err, ERR_INVALID, "%s is in the future", name);
    if (rc == 0) *ret = at_ms == 0 || at_ms > now_ms ? now_ms : at_ms;
    return rc;
}

static int read_importable(const json_t *o, struct letter_draft *ret, int64_t *ret_died_ms, struct err *err) {
    int64_t now_ms = clock_unix_ms(), accepted_ms = now_ms;
    if (json_is_true(json_object_get(o, "redacted")))
        return err_set(err, ERR_INVALID, "parts of it are masked; export it from a server without --redact");
    int rc = read_past(o, "acceptedMs", now_ms, &accepted_ms, err);
    if (rc == 0) rc = read_past(o, "diedMs", now_ms, ret_died_ms, err);
    if (rc == 0) rc = letter_draft_of_json(o, ret, err);
    if (rc == 0) ret->ev->f.accepted_ms = accepted_ms;
    return rc;
}

static int note_there(void *arg, const struct sql_row *row) {
    (void)row;
    *(bool *)arg = true;
    return 0;
}

// Written as one that died now, then given its time.
static int import_one(struct sql *sql, const struct letter_draft *draft, int64_t died_ms, bool *ret_there, struct err *err) {
    const struct sql_value values[] = {SQL_I(died_ms), letters_sql_id(&draft->ev->f.id)};
    *ret_there = false;
    int rc = sql_exec(sql, "SELECT 1 FROM letters WHERE id = $1", values + 1, 1, note_there, ret_there, NULL, err);
    if (rc || *ret_there) return rc;
    rc = letters_sql_put(sql, draft, 1, 0, err);
    return rc ? rc : sql_exec(sql, "UPDATE letters SET died_ms = $1 WHERE id = $2", values, array_len(values), NULL, NULL, NULL, err);
}

static int import_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct import_job *j = container_of(job, struct import_job, job);
    json_t *refused = json_array();
    size_t i;
    const json_t *o;
    int64_t count = 0, there_count = 0, died_ms;
    int rc = 0;
    json_array_foreach(j->letters, i, o) {
        struct letter_draft draft = {.ev = NULL};
        struct err why = {0};
        bool there = false;
        if (read_importable(o, &draft, &died_ms, &why))
            json_array_append_new(refused, json_pack("{sI so ss}", "line", (json_int_t)i + 1, "id", letters_json_text(json_member_text(o, "id")), "why", why.text));
        else if ((rc = import_one(sql, &draft, died_ms, &there, err)) == 0) ++*(there ? &there_count : &count);
        ev_free(draft.ev);
        if (rc) break;
    }
    json_decref(j->result);
    j->result = json_pack("{sI sI so}", "imported", (json_int_t)count, "there", (json_int_t)there_count, "refused", refused);
    return rc;
}

static void import_done(struct store_job *job, int code, const struct err *err) {
    struct import_job *j = container_of(job, struct import_job, job);
    j->fn(j->arg, code, err, code ? NULL : json_incref(j->result));
    json_decref(j->result);
    json_decref(j->letters);
    free(j);
}

void letters_import(struct letters *l, json_t *letters, letters_json_fn *fn, void *arg) {
    struct import_job *j = mem_zalloc(sizeof *j);
    *j = (struct import_job){.job = {.run = import_run, .done = import_done}, .letters = letters, .fn = fn, .arg = arg};
    struct err err = {0};
    if (json_is_array(letters) && json_array_size(letters) <= IMPORT_MAX) store_submit(l->store, &j->job);
    else import_done(&j->job, err_set(&err, ERR_INVALID, "letters must be a list of at most %d letters", IMPORT_MAX), &err);
}
