// SPDX-License-Identifier: Apache-2.0
// Parts of a letter's rows: headers as a JSON object, the event without what stands in columns of its own, and back.
#include "core/base/text.h"
#include "core/digest.h"
#include "core/json_text.h"
#include "dlq/json_bytes.h"
#include "dlq/letters_impl.h"

#define COLUMN_TEXT_MAX 65536
#define HEADERS_TEXT_MAX 65536 // of all headers that can be asked about; the rest is in the event only

struct id letters_row_id(const struct sql_row *row, int column) {
    struct id id = {{0}};
    struct str bytes = sql_row_bytes(row, column);
    if (bytes.len == sizeof id.bytes) memcpy(id.bytes, bytes.data, sizeof id.bytes);
    return id;
}

int letters_take_int(void *arg, const struct sql_row *row) {
    *(int64_t *)arg = sql_row_int(row, 0);
    return 0;
}

// --- headers ----------------------------------------------------------------------------------------------------------

static void append_lower(struct buf *out, struct str name) {
    size_t start = out->end;
    MUST(text_append_clean(out, name, 1024) == 0);
    for (size_t i = start; i < out->end; i++)
        if (out->data[i] >= 'A' && out->data[i] <= 'Z') out->data[i] += 'a' - 'A';
}

static void add_header(json_t *headers, struct buf *text, const struct ev_header *h) {
    buf_clear(text);
    append_lower(text, h->name);
    MUST(buf_append(text, (struct str){"", 1}) == 0);
    size_t name_bytes = buf_len(text);
    const char *before = json_string_value(json_object_get(headers, text->data + text->start));
    if (before) MUST(buf_append(text, str_of(before)) == 0 && buf_append(text, STR_LIT(", ")) == 0);
    MUST(text_append_clean(text, h->value, HEADERS_TEXT_MAX) == 0);
    const char *name = text->data + text->start;
    json_object_set_new(headers, name, json_stringn(name + name_bytes, buf_len(text) - name_bytes));
}

void letters_append_headers(struct buf *out, const struct ev_fields *f) {
    json_t *headers = json_object();
    struct buf text;
    buf_init(&text, SIZE_MAX / 2);
    size_t bytes = 0;
    for (size_t i = 0; i < f->header_count && bytes < HEADERS_TEXT_MAX; i++) {
        bytes += f->headers[i].name.len + f->headers[i].value.len;
        add_header(headers, &text, &f->headers[i]);
    }
    char *dump = json_dumps(headers, JSON_COMPACT);
    MUST(dump && buf_append(out, str_of(dump)) == 0);
    free(dump);
    buf_done(&text);
    json_decref(headers);
}

void letters_append_clean(struct buf *out, struct str s) {
    MUST(text_append_clean(out, s, COLUMN_TEXT_MAX) == 0);
}

int64_t letters_json_column(struct str payload, bool postgres) {
    bool plain = true;
    bool queryable = postgres ? json_text_is_queryable(payload) : json_text_queryable_names(payload, &plain);
    return !queryable ? 0 : plain ? 1 : 2;
}

// --- events -----------------------------------------------------------------------------------------------------------

int letters_append_envelope(struct buf *out, const struct ev *ev, struct err *err) {
    struct ev envelope = *ev;
    envelope.f.payload = envelope.f.history = STR_NONE;
    return ev_encode(&envelope, out, err);
}

int letter_event(struct str envelope, struct str payload, struct str history, int64_t accepted_ms, struct ev **ret, struct err *err) {
    struct ev *shell;
    int rc = ev_decode(mem_strndup(envelope), envelope.len, &shell, err);
    if (rc) return rc;
    struct ev_fields f = shell->f;
    f.payload = payload;
    f.history = history;
    f.accepted_ms = accepted_ms;
    *ret = ev_new(&f);
    ev_free(shell);
    return 0;
}

int letters_take(void *arg, const struct sql_row *row) {
    struct letter_list *list = arg;
    if (list->count == list->room) {
        list->room = list->room ? list->room * 2 : 64;
        list->at = mem_realloc(list->at, list->room * sizeof *list->at);
    }
    struct letter *letter = &list->at[list->count];
    struct err err = {0};
    struct str payload = sql_row_bytes(row, 1);
    *letter = (struct letter){
        .id = letters_row_id(row, 0), .lease_ms = list->lease_ms, .fingerprint = (uint64_t)sql_row_int(row, 5)};
    int rc = letter_event(sql_row_bytes(row, 3), payload, sql_row_bytes(row, 4), sql_row_int(row, 2), &letter->ev, &err);
    if (rc) return 0;
    list->count++;
    list->bytes += payload.len;
    return 0;
}

static int by_id(const void *a, const void *b) {
    const struct letter *x = a, *y = b;
    return memcmp(x->id.bytes, y->id.bytes, sizeof x->id.bytes);
}

void letter_list_sort(struct letter_list *list) {
    if (list->count) qsort(list->at, list->count, sizeof *list->at, by_id);
}

void letter_list_clear(struct letter_list *list) {
    for (size_t i = 0; i < list->count; i++) ev_free(list->at[i].ev);
    list->count = list->bytes = 0;
}

void letter_list_done(struct letter_list *list) {
    letter_list_clear(list);
    free(list->at);
}

// --- JSON ---------------------------------------------------------------------------------------------------------------

json_t *letters_json_text(struct str s) {
    json_t *j = json_stringn(s.data ? s.data : "", s.len);
    if (j) return j;
    struct buf clean;
    buf_init(&clean, SIZE_MAX / 2);
    MUST(text_append_clean(&clean, s, SIZE_MAX / 4) == 0);
    j = json_stringn(clean.data + clean.start, buf_len(&clean));
    buf_done(&clean);
    return j ? j : json_string("");
}

json_t *letters_json_id(const struct id *id) {
    char text[ID_TEXT_BYTES];
    if (id_is_none(id)) return json_null();
    id_format(id, text);
    return json_string(text);
}

// A number that is written with a point, an exponent or many digits would not come out as it went in.
static bool has_real(const json_t *value) {
    const char *name;
    const json_t *member;
    size_t i;
    if (json_is_real(value)) return true;
    json_array_foreach(value, i, member) if (has_real(member)) return true;
    json_object_foreach((json_t *)(uintptr_t)value, name, member) if (has_real(member)) return true;
    return false;
}

// A list; a text when jansson would not tell its numbers as they are.
json_t *letters_json_patch(struct str patch) {
    json_t *list = json_loadb(patch.data ? patch.data : "", patch.len, JSON_ALLOW_NUL, NULL);
    if (list && !has_real(list)) return list;
    json_decref(list);
    return letters_json_text(patch);
}

static bool set_text(json_t *o, struct str payload, const struct redact *redact) {
    struct buf masked;
    buf_init(&masked, SIZE_MAX / 2);
    bool was_masked = redact && redact_append(redact, payload, &masked);
    if (was_masked) payload = buf_str(&masked);
    json_object_set_new(o, "payload", json_stringn(payload.data ? payload.data : "", payload.len));
    buf_done(&masked);
    return was_masked;
}

bool letters_set_payload(json_t *o, struct str payload, const struct redact *redact) {
    if (text_is_utf8(payload)) return set_text(o, payload, redact);
    struct buf b64;
    buf_init(&b64, payload.len * 2 + 64);
    MUST(base64_encode(payload, &b64) == 0);
    json_object_set_new(o, "payloadBase64", letters_json_text(buf_str(&b64)));
    buf_done(&b64);
    return false;
}

json_t *letters_json_headers(const struct ev_fields *f, const struct redact *redact) {
    json_t *headers = json_array();
    for (size_t i = 0; i < f->header_count; i++) {
        const struct ev_header *h = &f->headers[i];
        bool secret = redact_is_secret(redact, h->name);
        json_array_append_new(headers, json_pack("[oo]", json_bytes_new(h->name), secret ? json_string(REDACT_MASK) : json_bytes_new(h->value)));
    }
    return headers;
}

bool letters_set_envelope(json_t *o, const struct ev_fields *f, const struct redact *redact) {
    json_t *exact = json_pack("{so so so so}", "orderingKey", json_bytes_new(f->ordering_key), "contentType", json_bytes_new(f->content_type), "trace",
                              json_bytes_new(f->trace), "shape", letters_json_text(f->shape));
    bool masked = redact_json(redact, exact);
    json_object_update_new(o, exact);
    json_object_set_new(o, "headers", letters_json_headers(f, redact));
    for (size_t i = 0; i < f->header_count; i++) masked |= redact_is_secret(redact, f->headers[i].name);
    return masked;
}
