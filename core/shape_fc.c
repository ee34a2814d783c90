// SPDX-License-Identifier: Apache-2.0
// Alibaba Cloud FC: a JSON array of strings, each a cloud event as EventBridge hands them to a function
// (alikafka:Topic:Message, amqp:Queue:SendMessage).
#include "core/base/text.h"
#include "core/shape_parts.h"

// acs:alikafka:<trigger>:topic:<topic>, where the vendor has the instance and its topic.
static int put_subject(struct buf *out, const struct ev *ev, const struct shape_at *at) {
    int rc = buf_append(out, at->amqp ? STR_LIT(",\"subject\":\"acs:amqp:\"") : STR_LIT(",\"subject\":\"acs:alikafka:\""));
    rc = shape_more_text(out, rc, ev->f.source_name);
    rc = shape_more_escaped(out, rc, at->amqp ? STR_LIT(":queue:") : STR_LIT(":topic:"));
    return shape_more_escaped(out, rc, at->amqp ? at->queue : at->topic);
}

static int put_envelope(struct buf *out, const struct ev *ev, const struct shape_at *at) {
    int rc = buf_append(out, STR_LIT("{\"specversion\":\"1.0\",\"id\":"));
    rc |= at->amqp ? shape_put_message_id(out, ev) : shape_put_coordinates(out, at);
    rc |= buf_append(out, at->amqp ? STR_LIT(",\"source\":\"acs:amqp\",\"type\":\"amqp:Queue:SendMessage\"")
                                   : STR_LIT(",\"source\":\"acs:alikafka\",\"type\":\"alikafka:Topic:Message\""));
    rc |= put_subject(out, ev, at);
    rc |= buf_append(out, STR_LIT(",\"time\":"));
    rc |= shape_put_time(out, shape_unix_ms(ev, at));
    return rc | buf_append(out, STR_LIT(",\"datacontenttype\":\"application/json; charset=utf-8\",\"aliyunaccountid\":\"0\",\"data\":{"));
}

// ---- Kafka -----------------------------------------------------------------------------------------------------------------

static int put_headers(struct buf *out, const struct ev *ev) {
    int rc = buf_append(out, STR_LIT(",\"headers\":{\"headers\":["));
    for (size_t i = 0; i < ev->f.header_count && rc == 0; i++) {
        rc |= buf_append(out, i ? STR_LIT(",{\"key\":") : STR_LIT("{\"key\":"));
        rc |= text_append_json(out, ev->f.headers[i].name);
        rc |= buf_append(out, STR_LIT(",\"value\":"));
        rc |= text_append_json(out, ev->f.headers[i].value);
        rc |= buf_append(out, STR_LIT("}"));
    }
    return rc | buf_append(out, STR_LIT("],\"isReadOnly\":false}"));
}

static int put_kafka(struct buf *out, const struct ev *ev, const struct shape_at *at) {
    char ms[24];
    MUST(text_format(ms, sizeof ms, "%lld", (long long)shape_unix_ms(ev, at)) == 0);
    int rc = buf_append(out, STR_LIT("\"topic\":"));
    rc |= shape_put_escaped(out, at->topic);
    rc |= buf_append(out, STR_LIT(",\"partition\":"));
    rc |= shape_put_integer(out, at->partition);
    rc |= buf_append(out, STR_LIT(",\"offset\":"));
    rc |= shape_put_integer(out, at->offset);
    rc |= buf_append(out, STR_LIT(",\"timestamp\":"));
    rc |= buf_append(out, str_of(ms));
    rc |= put_headers(out, ev);
    if (ev->f.ordering_key.len) {
        rc |= buf_append(out, STR_LIT(",\"key\":"));
        rc |= text_append_json(out, ev->f.ordering_key);
    }
    rc |= buf_append(out, STR_LIT(",\"value\":"));
    return rc | (at->tombstone ? buf_append(out, STR_LIT("null")) : text_append_json(out, ev->f.payload));
}

// ---- RabbitMQ --------------------------------------------------------------------------------------------------------------

static const struct {
    const char *header, *member;
    bool number;
} props[] = {
    {"content-type", "contentType", false},     {"content-encoding", "contentEncoding", false},
    {"delivery-mode", "deliveryMode", true},    {"priority", "priority", true},
    {"correlation-id", "correlationId", false}, {"reply-to", "replyTo", false},
    {"expiration", "expiration", false},        {"message-id", "messageId", false},
    {"timestamp", "timestamp", true},           {"type", "type", false},
    {"user-id", "userId", false},               {"app-id", "appId", false},
};

static const char *prop_name(struct str header) {
    for (size_t i = 0; i < array_len(props); i++)
        if (str_is(header, props[i].header)) return props[i].member;
    return NULL;
}

static bool seen_before(const struct ev *ev, size_t i) {
    for (size_t j = 0; j < i; j++)
        if (str_eq(ev->f.headers[j].name, ev->f.headers[i].name)) return true;
    return false;
}

static int put_props(struct buf *out, const struct ev *ev) {
    int rc = buf_append(out, STR_LIT(",\"props\":{"));
    const char *before = "\"";
    for (size_t i = 0; i < array_len(props); i++) {
        int64_t n;
        struct str value = shape_header(ev, props[i].header);
        if (!value.data || (props[i].number && !shape_integer(value, &n))) continue;
        rc |= buf_append(out, str_of(before));
        rc |= buf_append(out, str_of(props[i].member));
        rc |= buf_append(out, STR_LIT("\":"));
        rc |= props[i].number ? buf_append(out, value) : text_append_json(out, value);
        before = ",\"";
    }
    return rc | buf_append(out, STR_LIT("}"));
}

static int put_amqp_headers(struct buf *out, const struct ev *ev) {
    int rc = buf_append(out, STR_LIT(",\"headers\":{"));
    bool any = false;
    for (size_t i = 0; i < ev->f.header_count && rc == 0; i++) {
        if ((prop_name(ev->f.headers[i].name) != NULL) != seen_before(ev, i)) continue;
        if (any) rc |= buf_append(out, STR_LIT(","));
        rc |= text_append_json(out, ev->f.headers[i].name);
        rc |= buf_append(out, STR_LIT(":"));
        rc |= text_append_json(out, ev->f.headers[i].value);
        any = true;
    }
    return rc | buf_append(out, STR_LIT("}"));
}

static int put_amqp(struct buf *out, const struct ev *ev, const struct shape_at *at) {
    int rc = buf_append(out, STR_LIT("\"envelope\":{\"deliveryTag\":0,\"exchange\":"));
    rc |= shape_put_escaped(out, at->exchange);
    rc |= buf_append(out, at->redelivered ? STR_LIT(",\"redeliver\":true") : STR_LIT(",\"redeliver\":false"));
    rc |= buf_append(out, STR_LIT(",\"routingKey\":"));
    rc |= shape_put_escaped(out, at->routing_key);
    rc |= buf_append(out, STR_LIT("},\"body\":"));
    rc |= shape_is_json(ev->f.payload) ? buf_append(out, ev->f.payload) : text_append_json(out, ev->f.payload);
    rc |= put_props(out, ev);
    return rc | put_amqp_headers(out, ev);
}

// ---- both ------------------------------------------------------------------------------------------------------------------

static int put_one(struct buf *out, const struct ev *ev) {
    struct shape_at at;
    shape_at_read(ev, &at);
    int rc = put_envelope(out, ev, &at);
    rc |= at.amqp ? put_amqp(out, ev, &at) : put_kafka(out, ev, &at);
    return rc | buf_append(out, STR_LIT("}}"));
}

int shape_put_fc(struct buf *out, const struct ev *const *evs, size_t count) {
    struct buf one; // a cloud event is text within the text
    buf_init(&one, out->cap);
    int rc = buf_append(out, STR_LIT("["));
    for (size_t i = 0; i < count && rc == 0; i++) {
        buf_clear(&one);
        if (i) rc |= buf_append(out, STR_LIT(","));
        rc |= put_one(&one, evs[i]);
        rc |= text_append_json(out, buf_str(&one));
    }
    buf_done(&one);
    return rc | buf_append(out, STR_LIT("]"));
}
