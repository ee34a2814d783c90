// SPDX-License-Identifier: Apache-2.0
// A message with our content type is an event. Any other becomes an event around its body, with its properties and its
// plain headers (text, numbers, booleans) as headers; tables, lists and the broker's own "x-" counters are left out.
#include "core/queue_amqp_message.h"

#include "core/base/buf.h"

#define NUMBER_BYTES 24u // a number as text
#define TEXT_CAP (NUMBER_BYTES * (EV_HEADERS_MAX + 1)) // all that is formatted for one raw message

void mq_message_properties(const struct ev *ev, int64_t now_ms, struct mq_message_text *m, amqp_basic_properties_t *ret) {
    id_format(&ev->f.id, m->id);
    *ret = (amqp_basic_properties_t){
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG |
                  AMQP_BASIC_APP_ID_FLAG | AMQP_BASIC_TIMESTAMP_FLAG,
        .content_type = amqp_cstring_bytes(EV_CONTENT_TYPE),
        .delivery_mode = ev->f.invocation == EV_SYNC ? AMQP_DELIVERY_NONPERSISTENT : AMQP_DELIVERY_PERSISTENT,
        .message_id = amqp_cstring_bytes(m->id),
        .app_id = amqp_cstring_bytes("weir"),
        .timestamp = (uint64_t)(ev->f.accepted_ms / 1000),
    };
    if (ev->f.invocation != EV_SYNC || ev->f.deadline_ms == 0) return;
    int64_t left_ms = ev->f.deadline_ms > now_ms ? ev->f.deadline_ms - now_ms : 0;
    MUST(text_format(m->expiration, sizeof m->expiration, "%lld", (long long)left_ms) == 0);
    ret->_flags |= AMQP_BASIC_EXPIRATION_FLAG;
    ret->expiration = amqp_cstring_bytes(m->expiration);
}

static bool integer_of(const amqp_field_value_t *v, int64_t *ret) {
    switch (v->kind) {
    case AMQP_FIELD_KIND_I8: *ret = v->value.i8; return true;
    case AMQP_FIELD_KIND_U8: *ret = v->value.u8; return true;
    case AMQP_FIELD_KIND_I16: *ret = v->value.i16; return true;
    case AMQP_FIELD_KIND_U16: *ret = v->value.u16; return true;
    case AMQP_FIELD_KIND_I32: *ret = v->value.i32; return true;
    case AMQP_FIELD_KIND_U32: *ret = v->value.u32; return true;
    case AMQP_FIELD_KIND_I64: *ret = v->value.i64; return true;
    case AMQP_FIELD_KIND_U64:
    case AMQP_FIELD_KIND_TIMESTAMP: *ret = (int64_t)v->value.u64; return true;
    default: return false;
    }
}

static inline struct str span(amqp_bytes_t b) {
    return (struct str){b.bytes, b.len};
}

// Quorum queues count deliveries that came back; classic ones only say that there was one.
static uint32_t delivery_count(const amqp_basic_properties_t *p, bool redelivered) {
    for (int i = 0; p->_flags & AMQP_BASIC_HEADERS_FLAG && i < p->headers.num_entries; i++) {
        const amqp_table_entry_t *e = &p->headers.entries[i];
        int64_t n;
        if (str_is(span(e->key), "x-delivery-count") && integer_of(&e->value, &n) && n >= 0)
            return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
    }
    return redelivered ? 1 : 0;
}

// The headers of a raw message; numbers are written into `text`.
struct raw {
    struct ev_header headers[EV_HEADERS_MAX];
    size_t count;
    size_t used;
    char text[TEXT_CAP];
};

static void add_header(struct raw *r, struct str name, struct str value) {
    if (r->count < EV_HEADERS_MAX) r->headers[r->count++] = (struct ev_header){name, value};
}

static void add_number(struct raw *r, struct str name, int64_t n) {
    if (r->used + NUMBER_BYTES > TEXT_CAP) return;
    int len = snprintf(r->text + r->used, NUMBER_BYTES, "%lld", (long long)n);
    add_header(r, name, (struct str){r->text + r->used, (size_t)len});
    r->used += (size_t)len;
}

static void add_value(struct raw *r, struct str name, const amqp_field_value_t *v) {
    int64_t n;
    if (v->kind == AMQP_FIELD_KIND_UTF8 || v->kind == AMQP_FIELD_KIND_BYTES) add_header(r, name, span(v->value.bytes));
    else if (v->kind == AMQP_FIELD_KIND_BOOLEAN) add_header(r, name, v->value.boolean ? STR_LIT("true") : STR_LIT("false"));
    else if (integer_of(v, &n)) add_number(r, name, n);
}

static void add_properties(struct raw *r, const amqp_basic_properties_t *p) {
    const struct {
        amqp_flags_t flag;
        struct str name;
        amqp_bytes_t value;
    } texts[] = {
        {AMQP_BASIC_CONTENT_TYPE_FLAG, STR_LIT("content-type"), p->content_type},
        {AMQP_BASIC_CONTENT_ENCODING_FLAG, STR_LIT("content-encoding"), p->content_encoding},
        {AMQP_BASIC_CORRELATION_ID_FLAG, STR_LIT("correlation-id"), p->correlation_id},
        {AMQP_BASIC_REPLY_TO_FLAG, STR_LIT("reply-to"), p->reply_to},
        {AMQP_BASIC_MESSAGE_ID_FLAG, STR_LIT("message-id"), p->message_id},
        {AMQP_BASIC_TYPE_FLAG, STR_LIT("type"), p->type},
        {AMQP_BASIC_USER_ID_FLAG, STR_LIT("user-id"), p->user_id},
        {AMQP_BASIC_APP_ID_FLAG, STR_LIT("app-id"), p->app_id},
    };
    for (size_t i = 0; i < array_len(texts); i++)
        if (p->_flags & texts[i].flag) add_header(r, texts[i].name, span(texts[i].value));
    if (p->_flags & AMQP_BASIC_TIMESTAMP_FLAG) add_number(r, STR_LIT("timestamp"), (int64_t)p->timestamp);
    for (int i = 0; p->_flags & AMQP_BASIC_HEADERS_FLAG && i < p->headers.num_entries; i++) {
        struct str name = span(p->headers.entries[i].key);
        if (!str_is(name, "x-delivery-count")) add_value(r, name, &p->headers.entries[i].value);
    }
}

// A JSON string; bytes beyond ASCII are kept, as AMQP's short strings are UTF-8.
static int put_json(struct buf *b, struct str s) {
    int rc = buf_append(b, STR_LIT("\""));
    for (size_t i = 0; i < s.len && rc == 0; i++) {
        unsigned char c = (unsigned char)s.data[i];
        if (c == '"' || c == '\\') rc = buf_printf(b, "\\%c", c);
        else if (c < 0x20) rc = buf_printf(b, "\\u%04x", c);
        else rc = buf_append(b, (struct str){&s.data[i], 1});
    }
    return rc ? rc : buf_append(b, STR_LIT("\""));
}

static char *source_at(const struct mq_message_origin *from) {
    struct buf b;
    buf_init(&b, 8192); // three short strings
    int rc = buf_append(&b, STR_LIT("{\"exchange\":"));
    if (rc == 0) rc = put_json(&b, from->exchange);
    if (rc == 0) rc = buf_append(&b, STR_LIT(",\"routing_key\":"));
    if (rc == 0) rc = put_json(&b, from->routing_key);
    if (rc == 0) rc = buf_append(&b, STR_LIT(",\"queue\":"));
    if (rc == 0) rc = put_json(&b, from->queue);
    if (rc == 0) rc = buf_append(&b, STR_LIT("}"));
    if (rc) buf_clear(&b);
    return buf_take(&b, NULL);
}

static struct ev *around(const struct mq_message_origin *from, const amqp_basic_properties_t *p, struct str body) {
    struct raw *r = mem_alloc(sizeof *r);
    r->count = r->used = 0;
    cleanup_free char *at = source_at(from);
    add_properties(r, p);
    struct ev_fields f = {
        .function = from->function,
        .source_kind = STR_LIT("amqp"),
        .source_at = str_of(at),
        .headers = r->headers,
        .header_count = r->count,
        .payload = body,
    };
    if (p->_flags & AMQP_BASIC_CONTENT_TYPE_FLAG) f.content_type = span(p->content_type);
    // A message-id that is a UUID names the message at its next delivery too.
    if (!(p->_flags & AMQP_BASIC_MESSAGE_ID_FLAG) || id_parse(span(p->message_id), &f.id)) f.id = (struct id){{0}};
    struct ev *ev = ev_new(&f);
    free(r);
    return ev;
}

static int decode(char *body, size_t bytes, struct ev **ret, struct err *err) {
    if (bytes > EV_ENCODED_MAX)
        return err_set(err, ERR_CORRUPT, "%zu bytes are more than an event may have (%u)", bytes, EV_ENCODED_MAX);
    char *copy = mem_alloc(bytes); // the decoder frees broken bytes, and a letter wants to keep them
    if (bytes) memcpy(copy, body, bytes);
    return ev_decode(copy, bytes, ret, err);
}

void mq_message_read(const struct mq_message_origin *from, const amqp_basic_properties_t *p, char *body, size_t body_bytes,
                     struct queue_msg *ret) {
    *ret = (struct queue_msg){.delivery_count = delivery_count(p, from->redelivered), .content = QUEUE_RAW};
    cleanup_free char *bytes = body;
    if (p->_flags & AMQP_BASIC_CONTENT_TYPE_FLAG && str_is(span(p->content_type), EV_CONTENT_TYPE)) {
        struct err err = {0};
        if (decode(bytes, body_bytes, &ret->ev, &err) == 0) {
            ret->content = QUEUE_EVENT;
            return;
        }
        ret->content = QUEUE_UNDECODABLE;
        ret->why = str_of(mem_strdup(err.text)); // freed after the callback
    }
    ret->ev = around(from, p, (struct str){bytes, body_bytes});
}
