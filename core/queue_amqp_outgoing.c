// SPDX-License-Identifier: Apache-2.0
// Lengths are checked here: rabbitmq-c would cut a long name, and a header frame that is too large ends the connection.
#include "core/queue_amqp_outgoing.h"

#include <errno.h>

#include "core/queue_amqp_conn.h"

#define SHORT_TEXT_MAX 255
#define HEADER_FRAME_MAX (120 * 1024) // of the 128 KiB of a frame

#define PERSISTENT 2

struct copier {
    char *at;
    const char *end;
};

static struct str copy(struct copier *c, struct str s) {
    MUST((size_t)(c->end - c->at) >= s.len);
    if (s.len) memcpy(c->at, s.data, s.len);
    struct str copied = {c->at, s.len};
    c->at += s.len;
    return copied;
}

static bool is_brokers(struct str name) {
    static const char *const names[] = {"delivery-mode", "user-id", "CC", "BCC", "x-death", "x-delivery-count"};
    for (size_t i = 0; i < array_len(names); i++)
        if (str_is(name, names[i])) return true;
    return str_starts(name, "x-first-death-") || str_starts(name, "x-last-death-");
}

static bool to_number(struct str s, uint64_t most, uint64_t *ret) {
    char text[24];
    if (s.len == 0 || s.len >= sizeof text) return false;
    memcpy(text, s.data, s.len);
    text[s.len] = '\0';
    if (strspn(text, "0123456789") != s.len) return false;
    errno = 0;
    *ret = strtoull(text, NULL, 10);
    return errno == 0 && *ret <= most;
}

// True when the header is taken as a property.
static bool take_property(amqp_basic_properties_t *p, struct str name, struct str value) {
    const struct {
        const char *name;
        amqp_flags_t flag;
        amqp_bytes_t *to;
    } texts[] = {
        {"content-type", AMQP_BASIC_CONTENT_TYPE_FLAG, &p->content_type},
        {"content-encoding", AMQP_BASIC_CONTENT_ENCODING_FLAG, &p->content_encoding},
        {"correlation-id", AMQP_BASIC_CORRELATION_ID_FLAG, &p->correlation_id},
        {"reply-to", AMQP_BASIC_REPLY_TO_FLAG, &p->reply_to},
        {"expiration", AMQP_BASIC_EXPIRATION_FLAG, &p->expiration},
        {"message-id", AMQP_BASIC_MESSAGE_ID_FLAG, &p->message_id},
        {"type", AMQP_BASIC_TYPE_FLAG, &p->type},
        {"app-id", AMQP_BASIC_APP_ID_FLAG, &p->app_id},
    };
    uint64_t n;
    for (size_t i = 0; i < array_len(texts); i++) {
        if (!str_is(name, texts[i].name)) continue;
        // An expiration that is no number is an error to the broker.
        if (p->_flags & texts[i].flag || value.len > SHORT_TEXT_MAX) return false;
        if (texts[i].flag == AMQP_BASIC_EXPIRATION_FLAG && !to_number(value, UINT32_MAX, &n)) return false;
        p->_flags |= texts[i].flag;
        *texts[i].to = mq_bytes(value);
        return true;
    }
    if (str_is(name, "priority") && !(p->_flags & AMQP_BASIC_PRIORITY_FLAG) && to_number(value, 255, &n)) {
        p->_flags |= AMQP_BASIC_PRIORITY_FLAG;
        p->priority = (uint8_t)n;
        return true;
    }
    if (str_is(name, "timestamp") && !(p->_flags & AMQP_BASIC_TIMESTAMP_FLAG) && to_number(value, INT64_MAX, &n)) {
        p->_flags |= AMQP_BASIC_TIMESTAMP_FLAG;
        p->timestamp = n;
        return true;
    }
    return false;
}

static int check(const struct sink_message *m, size_t *ret_bytes, struct err *err) {
    if (m->to.len > SHORT_TEXT_MAX || m->key.len > SHORT_TEXT_MAX || m->content_type.len > SHORT_TEXT_MAX ||
        m->message_id.len > SHORT_TEXT_MAX)
        return err_set(err, ERR_TOO_LARGE, "exchange, routing key, content type and message id have 255 bytes at most in AMQP");
    size_t bytes = 0;
    for (size_t i = 0; i < m->header_count; i++) {
        if (m->headers[i].name.len > SHORT_TEXT_MAX)
            return err_set(err, ERR_TOO_LARGE, "the name of a header has 255 bytes at most in AMQP; '%.40s…' is longer",
                           m->headers[i].name.data);
        bytes += m->headers[i].name.len + m->headers[i].value.len + 8;
    }
    if (bytes > HEADER_FRAME_MAX)
        return err_set(err, ERR_TOO_LARGE, "the headers have %zu bytes; AMQP takes %d", bytes, HEADER_FRAME_MAX);
    *ret_bytes = bytes + m->to.len + m->key.len + m->content_type.len + m->message_id.len + m->payload.len;
    return 0;
}

static void add_headers(struct mq_outgoing *o, const struct sink_message *m, struct copier *c) {
    amqp_basic_properties_t *p = &o->properties;
    int count = 0;
    for (size_t i = 0; i < m->header_count; i++) {
        if (is_brokers(m->headers[i].name)) continue;
        struct str value = copy(c, m->headers[i].value);
        if (take_property(p, m->headers[i].name, value)) continue;
        o->entries[count++] = (amqp_table_entry_t){mq_bytes(copy(c, m->headers[i].name)),
                                                   {AMQP_FIELD_KIND_UTF8, {.bytes = mq_bytes(value)}}};
    }
    if (count == 0) return;
    p->_flags |= AMQP_BASIC_HEADERS_FLAG;
    p->headers = (amqp_table_t){count, o->entries};
}

int mq_outgoing_init(struct mq_outgoing *o, const struct sink_message *m, struct err *err) {
    size_t bytes = 0;
    int rc = check(m, &bytes, err);
    if (rc) return rc;
    *o = (struct mq_outgoing){.block = mem_alloc(bytes + 1)};
    struct copier c = {o->block, o->block + bytes};
    if (m->header_count) o->entries = mem_array(m->header_count, sizeof *o->entries);
    o->exchange = copy(&c, m->to);
    o->routing_key = copy(&c, m->key);
    o->payload = copy(&c, m->null_payload ? STR_NONE : m->payload);
    o->properties._flags = AMQP_BASIC_DELIVERY_MODE_FLAG;
    o->properties.delivery_mode = PERSISTENT;
    if (m->content_type.len) (void)take_property(&o->properties, STR_LIT("content-type"), copy(&c, m->content_type));
    if (m->message_id.len) (void)take_property(&o->properties, STR_LIT("message-id"), copy(&c, m->message_id));
    add_headers(o, m, &c);
    return 0;
}

void mq_outgoing_done(struct mq_outgoing *o) {
    free(o->entries);
    free(o->block);
    *o = (struct mq_outgoing){0};
}
