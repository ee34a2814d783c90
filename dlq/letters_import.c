// SPDX-License-Identifier: Apache-2.0
// Import: letters as letters_show gives them become dead letters again, with the id, the attempts and the content they had.
#include "core/digest.h"
#include "core/registry.h"
#include "dlq/fingerprint.h"
#include "dlq/letters_impl.h"

#define IMPORT_MAX 1000

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
    char *history;
    struct ev_header *headers;
};

static struct str text_of(const json_t *o, const char *name) {
    const json_t *value = json_object_get(o, name);
    return json_is_string(value) ? (struct str){json_string_value(value), json_string_length(value)} : STR_LIT("");
}

static int read_payload(const json_t *o, struct scratch *im, struct ev_fields *f, struct err *err) {
    const json_t *b64 = json_object_get(o, "payloadBase64");
    f->payload = text_of(o, "payload");
    if (!b64) return json_is_string(json_object_get(o, "payload")) ? 0 : err_set(err, ERR_INVALID, "it has no payload");
    int rc = base64_decode(text_of(o, "payloadBase64"), &im->payload, err);
    f->payload = buf_str(&im->payload);
    return rc ? err_set(err, ERR_INVALID, "payloadBase64 is not base64") : 0;
}

static int read_headers(const json_t *o, struct scratch *im, struct ev_fields *f, struct err *err) {
    const json_t *list = json_object_get(o, "headers"), *pair;
    size_t i, n = json_array_size(list);
    if (n > EV_HEADERS_MAX) return err_set(err, ERR_TOO_LARGE, "it has more than %d headers", EV_HEADERS_MAX);
    im->headers = mem_array(n ? n : 1, sizeof *im->headers);
    json_array_foreach(list, i, pair) {
        const json_t *name = json_array_get(pair, 0), *value = json_array_get(pair, 1);
        if (!json_is_string(name) || !json_is_string(value)) return err_set(err, ERR_INVALID, "headers must be pairs of texts");
        im->headers[i] = (struct ev_header){{json_string_value(name), json_string_length(name)},
                                            {json_string_value(value), json_string_length(value)}};
    }
    f->headers = im->headers;
    f->header_count = n;
    return 0;
}

static enum letter_kind kind_of(struct str word) {
#define X(name, text) \
    if (str_is(word, text)) return name;
    LETTER_KINDS(X)
#undef X
    return LETTER_FUNCTION;
}

// The last attempt's stack is part of the fingerprint.
static struct str last_stack(const json_t *o) {
    const json_t *history = json_object_get(o, "history");
    size_t n = json_array_size(history);
    return n ? text_of(json_array_get(history, n - 1), "stack") : STR_LIT("");
}

static int read_letter(const json_t *o, struct scratch *im, struct letter_draft *ret, struct err *err) {
    const json_t *source = json_object_get(o, "source");
    struct ev_fields f = {.function = text_of(o, "function"),
                          .attempt = (uint32_t)json_integer_value(json_object_get(o, "attempts")),
                          .accepted_ms = json_integer_value(json_object_get(o, "acceptedMs")),
                          .source_kind = text_of(source, "kind"),
                          .source_name = text_of(source, "name"),
                          .source_at = text_of(source, "at"),
                          .ordering_key = text_of(o, "orderingKey"),
                          .content_type = text_of(o, "contentType"),
                          .shape = text_of(o, "shape"),
                          .trace = text_of(o, "trace")};
    if (!json_is_object(o)) return err_set(err, ERR_INVALID, "it is not an object");
    if (id_parse(text_of(o, "id"), &f.id) || id_is_none(&f.id)) return err_set(err, ERR_INVALID, "its id is not one");
    if (id_parse(text_of(o, "originId"), &f.origin_id)) f.origin_id = (struct id){{0}};
    const json_t *history = json_object_get(o, "history");
    if (history && !json_is_array(history)) return err_set(err, ERR_INVALID, "its history is not a list");
    if (f.accepted_ms < 0) return err_set(err, ERR_INVALID, "acceptedMs must not be negative");
    int rc = function_name_check(f.function, err);
    if (rc == 0) rc = read_payload(o, im, &f, err);
    if (rc == 0) rc = read_headers(o, im, &f, err);
    if (rc == 0 && f.payload.len > EV_PAYLOAD_MAX) rc = err_set(err, ERR_TOO_LARGE, "its payload is larger than %u bytes", EV_PAYLOAD_MAX);
    if (rc) return rc;
    im->history = json_dumps(history, JSON_COMPACT);
    f.history = str_of(im->history ? im->history : "[]");
    *ret = (struct letter_draft){.ev = ev_new(&f),
                                 .state = LETTER_DEAD,
                                 .kind = kind_of(text_of(o, "kind")),
                                 .version = (uint32_t)json_integer_value(json_object_get(o, "version")),
                                 .error_type = text_of(o, "errorType"),
                                 .error_message = text_of(o, "errorMessage"),
                                 .stack = last_stack(o)};
    if (fingerprint_parse(text_of(o, "group"), &ret->fingerprint)) ret->fingerprint = 0;
    return 0;
}

int letter_draft_of_json(const json_t *o, struct letter_draft *ret, struct err *err) {
    struct scratch scratch = {.history = NULL};
    buf_init(&scratch.payload, EV_PAYLOAD_MAX);
    int rc = read_letter(o, &scratch, ret, err);
    buf_done(&scratch.payload);
    free(scratch.history);
    free(scratch.headers);
    return rc;
}

static int read_importable(const json_t *o, struct letter_draft *ret, struct err *err) {
    if (json_is_true(json_object_get(o, "redacted")))
        return err_set(err, ERR_INVALID, "parts of it are masked; export it from a server without --redact");
    return letter_draft_of_json(o, ret, err);
}

static int note_there(void *arg, const struct sql_row *row) {
    (void)row;
    *(bool *)arg = true;
    return 0;
}

static int import_one(struct sql *sql, const struct letter_draft *draft, bool *ret_there, struct err *err) {
    const struct sql_value id = letters_sql_id(&draft->ev->f.id);
    *ret_there = false;
    int rc = sql_exec(sql, "SELECT 1 FROM letters WHERE id = $1", &id, 1, note_there, ret_there, NULL, err);
    return rc || *ret_there ? rc : letters_sql_put(sql, draft, 1, 0, err);
}

static int import_run(struct store_job *job, struct sql *sql, struct err *err) {
    struct import_job *j = container_of(job, struct import_job, job);
    json_t *refused = json_array();
    size_t i;
    const json_t *o;
    int64_t count = 0;
    int rc = 0;
    json_array_foreach(j->letters, i, o) {
        struct letter_draft draft = {.ev = NULL};
        struct err why = {0};
        bool there = false;
        int bad = read_importable(o, &draft, &why);
        if (!bad) rc = import_one(sql, &draft, &there, err);
        if (there) bad = err_set(&why, ERR_CONFLICT, "a letter with this id is there already");
        if (bad) json_array_append_new(refused, json_pack("{sI so ss}", "line", (json_int_t)i + 1, "id", letters_json_text(text_of(o, "id")),
                                                          "why", why.text));
        else count++;
        ev_free(draft.ev);
        if (rc) break;
    }
    json_decref(j->result);
    j->result = json_pack("{sI so}", "imported", (json_int_t)count, "refused", refused);
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
