// SPDX-License-Identifier: Apache-2.0
// What is not an event of ours becomes an event around its body (see the header for what its headers are called).
// Nothing is left out in silence: what an event has no room for makes the message undecodable, and the workers keep it as a
// letter that says why.
#include "core/queue_amqp_message.h"

#include <math.h>

#include "core/base/text.h"

#define JSON_MAX (1u << 20)  // a header as JSON text; the frame that it came in has 128 KiB
#define DEPTH_MAX 16         // of lists and tables in each other
#define SECONDS_MAX 9999999999999ull // timestamps beyond are no times

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

// The headers of a raw message; what is formatted for them is in `texts`.
struct raw {
    struct ev_header headers[EV_HEADERS_MAX];
    size_t count;
    char *texts[EV_HEADERS_MAX];
    size_t text_count;
    const char *why; // what cannot be kept
};

static void add_header(struct raw *r, struct str name, struct str value) {
    if (r->count == EV_HEADERS_MAX) r->why = "it has more headers than an event may have (1024)";
    else r->headers[r->count++] = (struct ev_header){name, value};
}

static void add_text(struct raw *r, struct str name, char *text) {
    if (r->text_count == EV_HEADERS_MAX) { // then there are more headers than that too
        free(text);
        r->why = "it has more headers than an event may have (1024)";
        return;
    }
    r->texts[r->text_count++] = text;
    add_header(r, name, str_of(text));
}

static void add_number(struct raw *r, struct str name, int64_t n) {
    add_text(r, name, mem_printf("%lld", (long long)n));
}

static int put_table(struct buf *b, const amqp_table_t *t, int depth);

static int put_list(struct buf *b, const amqp_array_t *a, int depth);

static int put_real(struct buf *b, double n) {
    return isfinite(n) ? buf_printf(b, "%.17g", n) : buf_append(b, STR_LIT("null"));
}

static int put_value(struct buf *b, const amqp_field_value_t *v, int depth) {
    int64_t n;
    switch (v->kind) {
    case AMQP_FIELD_KIND_UTF8:
    case AMQP_FIELD_KIND_BYTES: return text_append_json(b, span(v->value.bytes));
    case AMQP_FIELD_KIND_BOOLEAN: return buf_append(b, v->value.boolean ? STR_LIT("true") : STR_LIT("false"));
    case AMQP_FIELD_KIND_F32: return put_real(b, (double)v->value.f32);
    case AMQP_FIELD_KIND_F64: return put_real(b, v->value.f64);
    case AMQP_FIELD_KIND_DECIMAL: return buf_printf(b, "%ue-%u", v->value.decimal.value, v->value.decimal.decimals);
    case AMQP_FIELD_KIND_TABLE: return put_table(b, &v->value.table, depth + 1);
    case AMQP_FIELD_KIND_ARRAY: return put_list(b, &v->value.array, depth + 1);
    default: return integer_of(v, &n) ? buf_printf(b, "%lld", (long long)n) : buf_append(b, STR_LIT("null"));
    }
}

static int put_table(struct buf *b, const amqp_table_t *t, int depth) {
    int rc = depth > DEPTH_MAX ? ERR_TOO_LARGE : buf_append(b, STR_LIT("{"));
    for (int i = 0; i < t->num_entries && rc == 0; i++) {
        if (i) rc = buf_append(b, STR_LIT(","));
        if (rc == 0) rc = text_append_json(b, span(t->entries[i].key));
        if (rc == 0) rc = buf_append(b, STR_LIT(":"));
        if (rc == 0) rc = put_value(b, &t->entries[i].value, depth);
    }
    return rc ? rc : buf_append(b, STR_LIT("}"));
}

static int put_list(struct buf *b, const amqp_array_t *a, int depth) {
    int rc = depth > DEPTH_MAX ? ERR_TOO_LARGE : buf_append(b, STR_LIT("["));
    for (int i = 0; i < a->num_entries && rc == 0; i++) {
        if (i) rc = buf_append(b, STR_LIT(","));
        if (rc == 0) rc = put_value(b, &a->entries[i], depth);
    }
    return rc ? rc : buf_append(b, STR_LIT("]"));
}

static void add_value(struct raw *r, struct str name, const amqp_field_value_t *v) {
    if (v->kind == AMQP_FIELD_KIND_VOID) return;
    if (v->kind == AMQP_FIELD_KIND_UTF8 || v->kind == AMQP_FIELD_KIND_BYTES) {
        add_header(r, name, span(v->value.bytes));
        return;
    }
    struct buf b;
    buf_init(&b, JSON_MAX);
    if (put_value(&b, v, 0)) r->why = "a header of it is nested too deep or too long";
    else add_text(r, name, buf_take(&b, NULL));
    buf_done(&b);
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
        {AMQP_BASIC_EXPIRATION_FLAG, STR_LIT("expiration"), p->expiration},
        {AMQP_BASIC_MESSAGE_ID_FLAG, STR_LIT("message-id"), p->message_id},
        {AMQP_BASIC_TYPE_FLAG, STR_LIT("type"), p->type},
        {AMQP_BASIC_USER_ID_FLAG, STR_LIT("user-id"), p->user_id},
        {AMQP_BASIC_APP_ID_FLAG, STR_LIT("app-id"), p->app_id},
    };
    for (size_t i = 0; i < array_len(texts); i++)
        if (p->_flags & texts[i].flag) add_header(r, texts[i].name, span(texts[i].value));
    if (p->_flags & AMQP_BASIC_DELIVERY_MODE_FLAG) add_number(r, STR_LIT("delivery-mode"), p->delivery_mode);
    if (p->_flags & AMQP_BASIC_PRIORITY_FLAG) add_number(r, STR_LIT("priority"), p->priority);
    if (p->_flags & AMQP_BASIC_TIMESTAMP_FLAG) add_number(r, STR_LIT("timestamp"), (int64_t)p->timestamp);
    for (int i = 0; p->_flags & AMQP_BASIC_HEADERS_FLAG && i < p->headers.num_entries; i++) {
        struct str name = span(p->headers.entries[i].key);
        if (!str_is(name, "x-delivery-count")) add_value(r, name, &p->headers.entries[i].value);
    }
}

static char *source_at(const struct mq_message_origin *from, const amqp_basic_properties_t *p) {
    struct buf b;
    buf_init(&b, 8192); // three short strings
    int rc = buf_append(&b, STR_LIT("{\"queue\":"));
    if (rc == 0) rc = text_append_json(&b, from->queue);
    if (rc == 0) rc = buf_append(&b, STR_LIT(",\"exchange\":"));
    if (rc == 0) rc = text_append_json(&b, from->exchange);
    if (rc == 0) rc = buf_append(&b, STR_LIT(",\"routingKey\":"));
    if (rc == 0) rc = text_append_json(&b, from->routing_key);
    if (rc == 0) rc = buf_printf(&b, ",\"redelivered\":%s", from->redelivered ? "true" : "false");
    if (rc == 0 && p->_flags & AMQP_BASIC_TIMESTAMP_FLAG && p->timestamp <= SECONDS_MAX)
        rc = buf_printf(&b, ",\"timestamp\":%lld", (long long)p->timestamp * 1000);
    if (rc == 0 && from->vhost.len && !str_is(from->vhost, "/")) {
        rc = buf_append(&b, STR_LIT(",\"vhost\":"));
        if (rc == 0) rc = text_append_json(&b, from->vhost);
    }
    if (rc == 0) rc = buf_append(&b, STR_LIT("}"));
    if (rc) buf_clear(&b);
    return buf_take(&b, NULL);
}

static struct ev *new_event(const struct mq_message_origin *from, const amqp_basic_properties_t *p, struct str body,
                            const struct raw *r) {
    cleanup_free char *at = source_at(from, p);
    struct ev_fields f = {
        .function = from->function,
        .source_kind = STR_LIT("amqp"),
        .source_name = from->trigger,
        .source_at = str_of(at),
        .shape = from->shape,
        .headers = r->headers,
        .header_count = r->count,
        .payload = body,
    };
    if (p->_flags & AMQP_BASIC_CONTENT_TYPE_FLAG) f.content_type = span(p->content_type);
    // A message-id that is a UUID names the message at its next delivery too.
    bool named = !from->foreign && p->_flags & AMQP_BASIC_MESSAGE_ID_FLAG;
    if (!named || id_parse(span(p->message_id), &f.id)) f.id = (struct id){{0}};
    return ev_new(&f);
}

static void read_raw(const struct mq_message_origin *from, const amqp_basic_properties_t *p, struct str body,
                     struct queue_msg *ret) {
    struct raw *r = mem_alloc(sizeof *r);
    r->count = r->text_count = 0;
    r->why = NULL;
    add_properties(r, p);
    ret->ev = new_event(from, p, body, r);
    if (r->why && ret->content == QUEUE_RAW) {
        ret->content = QUEUE_UNDECODABLE;
        ret->why = str_of(mem_strdup(r->why)); // freed after the callback
    }
    for (size_t i = 0; i < r->text_count; i++) free(r->texts[i]);
    free(r);
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
    bool ours = !from->foreign && p->_flags & AMQP_BASIC_CONTENT_TYPE_FLAG;
    if (ours && str_is(span(p->content_type), EV_CONTENT_TYPE)) {
        struct err err = {0};
        if (decode(bytes, body_bytes, &ret->ev, &err) == 0) {
            ret->content = QUEUE_EVENT;
            return;
        }
        ret->content = QUEUE_UNDECODABLE;
        ret->why = str_of(mem_strdup(err.text)); // freed after the callback
    }
    read_raw(from, p, (struct str){bytes, body_bytes}, ret);
}
