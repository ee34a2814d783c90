// SPDX-License-Identifier: Apache-2.0
// source_at is text of our own writing, but an event may also come from outside with any: so what is spliced into JSON is
// looked at first. Plain text, which it nearly always is, is copied; the rest is decoded and written anew.
#include "core/shape_parts.h"

#include "core/base/clock.h"
#include "core/base/text.h"
#include "core/digest.h"

#define LATEST_MS INT64_C(253402300799999) // the last millisecond of the year 9999

static struct str skip(struct str s, size_t n) {
    return (struct str){s.data + n, s.len - n};
}

static inline struct str skip_blanks(struct str s) {
    while (s.len && (*s.data == ' ' || *s.data == '\n' || *s.data == '\t' || *s.data == '\r')) s = skip(s, 1);
    return s;
}

// The inside of the JSON string at the start of *s, which is moved behind its closing quote.
static bool take_string(struct str *s, struct str *ret) {
    if (s->len == 0 || *s->data != '"') return false;
    for (size_t i = 1; i < s->len; i++) {
        if (s->data[i] == '\\') {
            i++;
        } else if (s->data[i] == '"') {
            *ret = (struct str){s->data + 1, i - 1};
            *s = skip(*s, i + 1);
            return true;
        }
    }
    return false;
}

// Of a number, true, false or null.
static inline bool is_scalar(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-' || c == '+' || c == '.' || c == 'E';
}

bool shape_at_next(struct str *rest, struct str *ret_name, struct str *ret_value) {
    struct str s = skip_blanks(*rest);
    if (s.len == 0 || (*s.data != '{' && *s.data != ',')) return false;
    s = skip_blanks(skip(s, 1));
    if (!take_string(&s, ret_name)) return false;
    s = skip_blanks(s);
    if (s.len == 0 || *s.data != ':') return false;
    s = skip_blanks(skip(s, 1));
    if (!take_string(&s, ret_value)) {
        size_t n = 0;
        while (n < s.len && is_scalar(s.data[n])) n++;
        if (n == 0) return false;
        *ret_value = (struct str){s.data, n};
        s = skip(s, n);
    }
    *rest = s;
    return true;
}

// --- source_at of a Kafka record ------------------------------------------------------------------------------------

static inline bool take_literal(struct str *s, const char *literal, size_t len) {
    if (s->len < len || memcmp(s->data, literal, len) != 0) return false;
    *s = skip(*s, len);
    return true;
}
#define TAKE(s, literal) take_literal(s, literal, sizeof(literal) - 1)

static inline struct str take_digits(struct str *s) {
    size_t n = 0;
    while (n < s->len && s->data[n] >= '0' && s->data[n] <= '9') n++;
    struct str digits = {s->data, n};
    *s = skip(*s, n);
    return digits;
}

// The text as core/kafka_record.c writes it, up to its end; false: it is otherwise, and nothing is known of it.
static bool read_own(struct str s, struct shape_at *ret) {
    struct shape_at at = {0};
    if (!TAKE(&s, "{\"topic\":\"")) return false;
    const char *quote = memchr(s.data, '"', s.len);
    if (!quote) return false;
    at.topic = (struct str){s.data, (size_t)(quote - s.data)};
    if (memchr(at.topic.data, '\\', at.topic.len)) return false;
    s = skip(s, at.topic.len);
    if (!TAKE(&s, "\",\"partition\":") || !(at.partition = take_digits(&s)).len) return false;
    if (!TAKE(&s, ",\"offset\":") || !(at.offset = take_digits(&s)).len) return false;
    if (!TAKE(&s, ",\"timestamp\":") || !(at.timestamp = take_digits(&s)).len) return false;
    if (TAKE(&s, ",\"timestampType\":\"CREATE_TIME\"")) at.timestamp_type = STR_LIT("CREATE_TIME");
    else if (TAKE(&s, ",\"timestampType\":\"LOG_APPEND_TIME\"")) at.timestamp_type = STR_LIT("LOG_APPEND_TIME");
    else return false;
    at.tombstone = TAKE(&s, ",\"tombstone\":true");
    if (!TAKE(&s, "}") || s.len) return false;
    *ret = at;
    return true;
}

void shape_at_read(const struct ev *ev, struct shape_at *ret) {
    if (str_is(ev->f.source_kind, "kafka") && read_own(ev->f.source_at, ret)) return;
    *ret = (struct shape_at){.amqp = str_is(ev->f.source_kind, "amqp")};
    struct str rest = ev->f.source_at, name, value;
    while (shape_at_next(&rest, &name, &value)) {
        switch (name.len) {
        case 5:
            if (str_is(name, "topic")) ret->topic = value;
            else if (str_is(name, "queue")) ret->queue = value;
            else if (str_is(name, "vhost")) ret->vhost = value;
            break;
        case 6:
            if (str_is(name, "offset")) ret->offset = value;
            break;
        case 8:
            if (str_is(name, "exchange")) ret->exchange = value;
            break;
        case 9:
            if (str_is(name, "partition")) ret->partition = value;
            else if (str_is(name, "timestamp")) ret->timestamp = value;
            else if (str_is(name, "tombstone")) ret->tombstone = str_is(value, "true");
            break;
        case 10:
            if (str_is(name, "routingKey")) ret->routing_key = value;
            break;
        case 11:
            if (str_is(name, "redelivered")) ret->redelivered = str_is(value, "true");
            else if (str_is(name, "routing_key")) ret->routing_key = value;
            break;
        case 13:
            if (str_is(name, "timestampType")) ret->timestamp_type = value;
            break;
        default: break;
        }
    }
}

struct str shape_header(const struct ev *ev, const char *name) {
    for (size_t i = 0; i < ev->f.header_count; i++)
        if (str_is(ev->f.headers[i].name, name)) {
            struct str value = ev->f.headers[i].value;
            return value.data ? value : STR_LIT("");
        }
    return STR_NONE;
}

bool shape_integer(struct str digits, int64_t *ret) {
    bool minus = digits.len && *digits.data == '-';
    if (minus) digits = skip(digits, 1);
    if (digits.len == 0 || (digits.len > 1 && *digits.data == '0')) return false;
    int64_t n = 0;
    for (size_t i = 0; i < digits.len; i++) {
        int digit = digits.data[i] - '0';
        if (digit < 0 || digit > 9 || __builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, digit, &n)) return false;
    }
    *ret = minus ? -n : n;
    return true;
}

static bool is_time(int64_t ms) {
    return ms >= 0 && ms <= LATEST_MS;
}

int64_t shape_unix_ms(const struct ev *ev, const struct shape_at *at) {
    int64_t n;
    if (shape_integer(at->timestamp, &n) && is_time(n)) return n;
    // The property has seconds.
    if (at->amqp && shape_integer(shape_header(ev, "timestamp"), &n) && n >= 0 && n <= LATEST_MS / 1000)
        return n * 1000;
    return is_time(ev->f.accepted_ms) ? ev->f.accepted_ms : 0;
}

static bool plain(struct str s) {
    for (size_t i = 0; i < s.len; i++)
        if (s.data[i] < 0x20 || s.data[i] > 0x7e || s.data[i] == '"' || s.data[i] == '\\') return false;
    return true;
}

json_t *shape_decode(struct str escaped) {
    struct buf text;
    buf_init(&text, escaped.len + 2);
    int rc = buf_append(&text, STR_LIT("\""));
    rc |= buf_append(&text, escaped);
    rc |= buf_append(&text, STR_LIT("\""));
    struct str s = buf_str(&text);
    json_t *j = rc ? NULL : json_loadb(s.data, s.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    buf_done(&text);
    return j;
}

static int put_decoded(struct buf *out, struct str escaped) {
    json_t *j = shape_decode(escaped);
    int rc = text_append_json(out, j ? (struct str){json_string_value(j), json_string_length(j)} : escaped);
    json_decref(j);
    return rc;
}

int shape_put_escaped(struct buf *out, struct str escaped) {
    if (!plain(escaped)) return put_decoded(out, escaped);
    char *to = buf_reserve(out, escaped.len + 2);
    if (!to) return ERR_TOO_LARGE;
    *to = '"';
    if (escaped.len) memcpy(to + 1, escaped.data, escaped.len);
    to[escaped.len + 1] = '"';
    buf_added(out, escaped.len + 2);
    return 0;
}

int shape_put_integer(struct buf *out, struct str digits) {
    int64_t n;
    return buf_append(out, shape_integer(digits, &n) ? digits : STR_LIT("0"));
}

int shape_put_time(struct buf *out, int64_t unix_ms) {
    char text[CLOCK_TEXT_BYTES];
    clock_format_utc(unix_ms, text);
    return shape_put_escaped(out, str_of(text));
}

int shape_put_base64(struct buf *out, struct str bytes) {
    int rc = buf_append(out, STR_LIT("\""));
    rc |= base64_encode(bytes, out);
    return rc | buf_append(out, STR_LIT("\""));
}

int shape_put_id(struct buf *out, const struct ev *ev) {
    char text[ID_TEXT_BYTES];
    id_format(&ev->f.id, text);
    return shape_put_escaped(out, (struct str){text, ID_TEXT_BYTES - 1});
}

int shape_put_message_id(struct buf *out, const struct ev *ev) {
    struct str id = shape_header(ev, "message-id");
    return id.len ? text_append_json(out, id) : shape_put_id(out, ev);
}

// Two strings that follow each other, the second `from` here on, become one.
static int join(struct buf *out, int rc, size_t from) {
    if (rc) return rc;
    char *second = out->data + out->start + from;
    memmove(second - 1, second + 1, buf_len(out) - from - 1);
    out->end -= 2;
    return 0;
}

int shape_more_text(struct buf *out, int rc, struct str text) {
    size_t from = buf_len(out);
    return rc ? rc : join(out, text_append_json(out, text), from);
}

int shape_more_escaped(struct buf *out, int rc, struct str escaped) {
    size_t from = buf_len(out);
    return rc ? rc : join(out, shape_put_escaped(out, escaped), from);
}

int shape_put_coordinates(struct buf *out, const struct shape_at *at) {
    int64_t n;
    int rc = shape_put_escaped(out, at->topic);
    rc = shape_more_escaped(out, rc, STR_LIT("-"));
    rc = shape_more_escaped(out, rc, shape_integer(at->partition, &n) ? at->partition : STR_LIT("0"));
    rc = shape_more_escaped(out, rc, STR_LIT("-"));
    return shape_more_escaped(out, rc, shape_integer(at->offset, &n) ? at->offset : STR_LIT("0"));
}
