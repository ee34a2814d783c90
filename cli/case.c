// SPDX-License-Identifier: Apache-2.0
#include "cli/case.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "core/base/text.h"
#include "core/digest.h"
#include "core/json_text.h"
#include "dlq/json_bytes.h"

// --- bytes in JSON ------------------------------------------------------------------------------------------------------

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

// JSON that comes back from a member as it is.
static bool is_bare_json(struct str s) {
    return s.len && !is_blank(s.data[0]) && !is_blank(s.data[s.len - 1]) && json_text_check(s, NULL) == 0;
}

static int append_dump(const json_t *root, struct buf *out) {
    cleanup_free char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    return buf_append(out, str_of(text));
}

// False: not in this way, as the levels around it are too many.
static bool put_json(json_t *root, json_t *o, const char *into, const char *name, struct str bytes, struct buf *out) {
    cleanup_free char *path = mem_printf("%s%s/%s", *into ? "/" : "", into, name);
    struct buf text;
    buf_init(&text, out->cap);
    json_object_set_new(o, name, json_null());
    bool done = append_dump(root, &text) == 0 && json_text_set(buf_str(&text), str_of(path), bytes, out, NULL) == 0;
    buf_done(&text);
    if (!done) json_object_del(o, name);
    return done;
}

int case_put_bytes(json_t *root, const char *into, const char *name, struct str bytes, struct buf *out, struct err *err) {
    json_t *o = *into ? json_object_get(root, into) : root;
    if (is_bare_json(bytes) && put_json(root, o, into, name, bytes, out)) return 0;
    bool text = text_is_utf8(bytes);
    cleanup_free char *member = mem_printf("%s%s", name, text ? "Text" : "Base64");
    if (text) {
        json_object_set_new(o, member, json_stringn(bytes.len ? bytes.data : "", bytes.len));
    } else {
        struct buf base64;
        buf_init(&base64, CASE_BYTES_MAX);
        if (base64_encode(bytes, &base64) == 0)
            json_object_set_new(o, member, json_stringn(buf_str(&base64).data, buf_len(&base64)));
        buf_done(&base64);
    }
    if (json_object_get(o, member) && append_dump(root, out) == 0) return 0;
    return err_set(err, ERR_TOO_LARGE, "%s has %zu bytes, which is too much", name, bytes.len);
}

// --- reading: members ---------------------------------------------------------------------------------------------------

static struct str str_of_json(const json_t *value) {
    return (struct str){json_string_value(value), json_string_length(value)};
}

static int take_text(const json_t *o, const char *name, struct str *ret, struct err *err) {
    const json_t *value = json_object_get(o, name);
    if (!value || json_is_null(value)) return 0;
    if (!json_is_string(value)) return err_set(err, ERR_INVALID, "event: %s must be a string", name);
    *ret = str_of_json(value);
    return 0;
}

// Of any bytes; they stand in `room`.
static int take_bytes(const json_t *o, const char *name, struct buf *room, struct str *ret, struct err *err) {
    struct err why;
    int rc = json_bytes_read(json_object_get(o, name), room, ret, &why);
    return rc ? err_set(err, (enum err_code)rc, "event: %s: %s", name, why.text) : 0;
}

static int take_number(const json_t *o, const char *name, int64_t least, int64_t most, int64_t *ret, struct err *err) {
    const json_t *value = json_object_get(o, name);
    if (!value || json_is_null(value)) return 0;
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < least || n > most)
        return err_set(err, ERR_INVALID, "event: %s must be a whole number from %lld to %lld", name, (long long)least, (long long)most);
    *ret = n;
    return 0;
}

static int add_header(struct ev_fields *f, struct ev_header *to, const json_t *name, const json_t *value, struct buf *room, struct err *err) {
    if (!name || json_is_null(name) || !value || json_is_null(value) || json_bytes_read(name, room, &to->name, err) ||
        json_bytes_read(value, room, &to->value, err))
        return err_set(err, ERR_INVALID, "event: headers must be {NAME: VALUE} or a list of [NAME, VALUE], all strings");
    f->header_count++;
    return 0;
}

// As a list: an object cannot hold a name twice.
static json_t *header_list(json_t *headers) {
    if (!json_is_object(headers)) return json_incref(headers);
    json_t *list = json_array(), *value;
    const char *name;
    json_object_foreach(headers, name, value) json_array_append_new(list, json_pack("[s, O]", name, value));
    return list;
}

static int take_headers(const json_t *event, struct ev_fields *f, struct ev_header to[EV_HEADERS_MAX], struct buf *room, struct err *err) {
    json_t *headers = json_object_get(event, "headers");
    if (!headers || json_is_null(headers)) return 0;
    json_auto_t *list = header_list(headers);
    if (json_array_size(list) > EV_HEADERS_MAX) return err_set(err, ERR_INVALID, "event: at most %d headers", EV_HEADERS_MAX);
    if (!json_is_array(list)) return add_header(f, to, NULL, NULL, room, err);
    f->headers = to;
    int rc = 0;
    size_t i;
    const json_t *pair;
    json_array_foreach(list, i, pair) {
        if (rc == 0) rc = add_header(f, &to[i], json_array_get(pair, 0), json_array_get(pair, 1), room, err);
    }
    return rc;
}

static int take_source(const json_t *event, struct ev_fields *f, struct err *err) {
    const json_t *source = json_object_get(event, "source");
    if (!source || json_is_null(source)) return 0;
    if (!json_is_object(source)) return err_set(err, ERR_INVALID, "event: source must be an object");
    int rc = take_text(source, "kind", &f->source_kind, err);
    if (rc == 0) rc = take_text(source, "name", &f->source_name, err);
    return rc ? rc : take_text(source, "at", &f->source_at, err);
}

static int take_id(const json_t *event, struct id *ret, struct err *err) {
    struct str text = STR_NONE;
    int rc = take_text(event, "id", &text, err);
    if (rc || !text.len) return rc;
    return id_parse(text, ret) ? err_set(err, ERR_INVALID, "event: id must be a UUID") : 0;
}

static int check_names(json_t *event, struct err *err) {
    static const char *const names[] = {"id",          "function",    "version", "attempt",    "headers", "source",
                                        "orderingKey", "contentType", "shape",   "acceptedMs", "payload", "payloadText",
                                        "payloadBase64"};
    const char *name;
    json_t *value;
    json_object_foreach(event, name, value) {
        size_t i = 0;
        while (i < array_len(names) && strcmp(names[i], name) != 0) i++;
        if (i == array_len(names)) return err_set(err, ERR_INVALID, "event: a case has no member '%.100s'", name);
    }
    return 0;
}

// --- reading: the payload -----------------------------------------------------------------------------------------------

// What a case can hold its payload in.
enum carrier { AS_JSON, AS_TEXT, AS_BASE64, CARRIERS };
static const char *const carrier_names[CARRIERS] = {"payload", "payloadText", "payloadBase64"};

static int find_payload(struct str event, enum carrier *ret, struct str *ret_json, struct err *err) {
    size_t found = 0;
    for (size_t i = 0; i < CARRIERS; i++) {
        cleanup_free char *path = mem_printf("/%s", carrier_names[i]);
        struct str value;
        if (json_text_find(event, str_of(path), &value, NULL)) continue;
        *ret = (enum carrier)i;
        *ret_json = value;
        found++;
    }
    if (found == 1) return 0;
    return err_set(err, found ? ERR_INVALID : ERR_NOT_FOUND, "event: give %s payload, payloadText, payloadBase64",
                   found ? "only one of" : "one of");
}

static int decode_payload(const json_t *event, enum carrier as, struct buf *to, struct err *err) {
    struct str text = STR_NONE;
    int rc = take_text(event, carrier_names[as], &text, err);
    if (rc == 0) rc = as == AS_TEXT ? buf_append(to, text) : base64_decode(text, to, err);
    return rc ? err_set(err, ERR_INVALID, "event: %s cannot be read", carrier_names[as]) : 0;
}

static int check_size(struct str payload, struct err *err) {
    if (payload.len <= EV_PAYLOAD_MAX) return 0;
    return err_set(err, ERR_TOO_LARGE, "the payload has %zu bytes; an event carries at most %u", payload.len, EV_PAYLOAD_MAX);
}

// --- reading: the whole -------------------------------------------------------------------------------------------------

// The event without a payload that only its text keeps exactly.
static json_t *parse_event(struct str event, enum carrier as, struct err *err) {
    struct buf rest;
    buf_init(&rest, CASE_BYTES_MAX);
    json_error_t why;
    json_t *o = NULL;
    int rc = as == AS_JSON ? json_text_set(event, STR_LIT("/payload"), STR_LIT("null"), &rest, err) : buf_append(&rest, event);
    if (rc == 0 && !(o = json_loadb(buf_str(&rest).data, buf_len(&rest), JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &why)))
        err_set(err, ERR_INVALID, "event: %s", why.text);
    buf_done(&rest);
    return o;
}

static int make_event(json_t *event, struct str payload, struct case_file *c, struct err *err) {
    struct ev_fields f = {.payload = payload};
    int64_t version = 0, attempt = 1;
    cleanup_free struct ev_header *headers = mem_array(EV_HEADERS_MAX, sizeof *headers);
    struct buf room;
    buf_init(&room, EV_ENCODED_MAX);
    MUST(buf_reserve(&room, EV_ENCODED_MAX));
    int rc = check_names(event, err);
    if (rc == 0) rc = check_size(payload, err);
    if (rc == 0) rc = take_id(event, &f.id, err);
    if (rc == 0) rc = take_text(event, "function", &f.function, err);
    if (rc == 0) rc = take_bytes(event, "orderingKey", &room, &f.ordering_key, err);
    if (rc == 0) rc = take_bytes(event, "contentType", &room, &f.content_type, err);
    if (rc == 0) rc = take_text(event, "shape", &f.shape, err);
    if (rc == 0) rc = take_number(event, "version", 0, UINT32_MAX, &version, err);
    if (rc == 0) rc = take_number(event, "attempt", 1, UINT32_MAX, &attempt, err);
    if (rc == 0) rc = take_number(event, "acceptedMs", 0, INT64_MAX, &f.accepted_ms, err);
    if (rc == 0) rc = take_source(event, &f, err);
    if (rc == 0) rc = take_headers(event, &f, headers, &room, err);
    if (rc == 0) {
        f.attempt = (uint32_t)attempt - 1;
        c->version = (uint32_t)version;
        c->ev = ev_new(&f);
    }
    buf_done(&room);
    return rc;
}

static int read_event(struct str event, struct case_file *c, struct err *err) {
    enum carrier as;
    struct str payload;
    int rc = find_payload(event, &as, &payload, err);
    json_t *o = rc ? NULL : parse_event(event, as, err);
    if (!o) return ERR_INVALID;
    struct buf decoded;
    buf_init(&decoded, CASE_BYTES_MAX);
    if (as != AS_JSON) {
        rc = decode_payload(o, as, &decoded, err);
        payload = buf_str(&decoded);
    }
    if (rc == 0) rc = make_event(o, payload, c, err);
    buf_done(&decoded);
    json_decref(o);
    return rc;
}

static int read_rest(struct str text, struct case_file *c, struct err *err) {
    struct str part;
    if (json_text_find(text, STR_LIT("/function"), &part, NULL) == 0 && !str_is(part, "null")) {
        struct err why;
        if (settings_from_json(part, &c->settings, &why)) return err_set(err, ERR_INVALID, "function: %s", why.text);
    }
    if (json_text_find(text, STR_LIT("/error"), &part, NULL) == 0) {
        c->error = json_loadb(part.data, part.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        if (json_is_null(c->error)) c->error = NULL;
        if (c->error && !json_is_object(c->error)) return err_set(err, ERR_INVALID, "error must be an object");
    }
    return 0;
}

static int read_case(struct str text, struct case_file *c, struct err *err) {
    struct str number, event;
    if (json_text_find(text, STR_LIT("/case"), &number, NULL) == 0 && !str_is(number, "1"))
        return err_set(err, ERR_INVALID, "this is a case of format %.*s; this weir reads format %d", number.len < 40 ? (int)number.len : 40,
                       number.data, CASE_VERSION);
    int rc = json_text_find(text, STR_LIT("/event"), &event, err);
    if (rc) return err_set(err, ERR_INVALID, "the case has no event");
    rc = read_event(event, c, err);
    return rc ? rc : read_rest(text, c, err);
}

static bool is_case(struct str text) {
    struct str found;
    enum carrier as;
    if (json_text_find(text, STR_LIT("/case"), &found, NULL) == 0) return true;
    return json_text_find(text, STR_LIT("/event"), &found, NULL) == 0 && find_payload(found, &as, &found, NULL) != ERR_NOT_FOUND;
}

// What looks like JSON and is not was meant to be a case, or a JSON payload.
static int check_payload_only(struct str text, struct err *err) {
    size_t i = 0;
    struct err why;
    if (text.len == 0) return err_set(err, ERR_INVALID, "it is empty");
    while (i < text.len && is_blank(text.data[i])) i++;
    if (i < text.len && text.data[i] == '{' && json_text_check(text, &why))
        return err_set(err, ERR_INVALID, "%s (a payload that is no JSON goes into event.payloadText)", why.text);
    return check_size(text, err);
}

static int read_file(const char *path, struct buf *ret, struct err *err) {
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_INVALID, errno, "%s", path);
    int rc = 0;
    char chunk[65536];
    for (ssize_t n = 1; rc == 0 && n > 0;) {
        n = read(fd, chunk, sizeof chunk);
        if (n < 0) rc = err_set_errno(err, ERR_INVALID, errno, "%s", path);
        else if (buf_append(ret, (struct str){chunk, (size_t)n})) rc = err_set(err, ERR_TOO_LARGE, "%s is too large for one event", path);
    }
    if (!is_stdin) close(fd);
    return rc;
}

void case_init(struct case_file *c) {
    const struct ev_fields f = {0};
    *c = (struct case_file){.ev = ev_new(&f)};
    settings_init(&c->settings);
}

int case_read(const char *path, struct case_file *ret, struct err *err) {
    struct case_file c = {0};
    struct buf file;
    struct err why = {0};
    settings_init(&c.settings);
    buf_init(&file, CASE_BYTES_MAX);
    int rc = read_file(path, &file, err);
    struct str text = buf_str(&file);
    const struct ev_fields payload_only = {.payload = text};
    if (rc == 0) {
        bool whole = is_case(text);
        rc = whole ? read_case(text, &c, &why) : check_payload_only(text, &why);
        if (rc) err_set(err, rc, "%s: %s", path, why.text);
        else if (!whole) c.ev = ev_new(&payload_only);
    }
    buf_done(&file);
    if (rc) case_done(&c);
    else *ret = c;
    return rc;
}

void case_done(struct case_file *c) {
    ev_free(c->ev);
    settings_done(&c->settings);
    json_decref(c->error);
    *c = (struct case_file){0};
}

// --- writing ------------------------------------------------------------------------------------------------------------

// The settings of the letter's version, else of the current one.
static const json_t *settings_of(const json_t *function, json_int_t number) {
    const json_t *best = NULL, *v;
    size_t i;
    json_array_foreach(json_object_get(function, "versions"), i, v) {
        json_int_t n = json_integer_value(json_object_get(v, "number"));
        if (n == number || (!best && n == json_integer_value(json_object_get(function, "current")))) best = v;
    }
    return json_object_get(best, "settings");
}

static void copy_members(json_t *to, const json_t *from, const char *const names[]) {
    for (size_t i = 0; names[i]; i++) {
        json_t *value = json_object_get(from, names[i]);
        if (value && !json_is_null(value)) json_object_set(to, names[i], value);
    }
}

static json_t *event_of(const json_t *letter) {
    static const char *const before[] = {"id", "function", "version", NULL};
    static const char *const after[] = {"headers", "source", "orderingKey", "contentType", "shape", "acceptedMs", NULL};
    json_int_t attempts = json_integer_value(json_object_get(letter, "attempts"));
    json_t *event = json_object();
    copy_members(event, letter, before);
    json_object_set_new(event, "attempt", json_integer(attempts > 1 ? attempts : 1));
    copy_members(event, letter, after);
    return event;
}

static json_t *error_of(const json_t *letter) {
    const json_t *history = json_object_get(letter, "history");
    const json_t *last = json_array_get(history, json_array_size(history) ? json_array_size(history) - 1 : 0);
    json_t *type = json_object_get(letter, "errorType"), *message = json_object_get(letter, "errorMessage");
    if (json_string_length(type) == 0) return NULL;
    json_t *error = json_pack("{s:O, s:O*}", "type", type, "message", message);
    json_t *stack = json_object_get(last, "stack");
    if (stack) json_object_set(error, "stack", stack);
    return error;
}

int case_write(const json_t *letter, const json_t *function, struct buf *out, struct err *err) {
    static const char *const settings_names[] = {"runtime", "handler", "timeoutMs", "memoryMb", "env", NULL};
    const json_t *text = json_object_get(letter, "payload"), *base64 = json_object_get(letter, "payloadBase64");
    const json_t *settings = settings_of(function, json_integer_value(json_object_get(letter, "version")));
    struct buf payload;
    buf_init(&payload, CASE_BYTES_MAX);
    if (!json_is_string(text) && !json_is_string(base64)) return err_set(err, ERR_INVALID, "the letter came without its payload");
    int rc = json_is_string(text) ? buf_append(&payload, str_of_json(text)) : base64_decode(str_of_json(base64), &payload, err);
    json_t *event = event_of(letter), *error = error_of(letter);
    json_t *root = json_pack("{s:i, s:O*, s:o}", "case", CASE_VERSION, "letter", json_object_get(letter, "id"), "event", event);
    if (settings) {
        json_t *kept = json_object();
        copy_members(kept, settings, settings_names);
        json_object_set_new(root, "function", kept);
    }
    if (error) json_object_set_new(root, "error", error);
    if (rc == 0) rc = case_put_bytes(root, "event", "payload", buf_str(&payload), out, err);
    if (rc == 0) rc = buf_append(out, STR_LIT("\n"));
    buf_done(&payload);
    json_decref(root);
    return rc;
}
