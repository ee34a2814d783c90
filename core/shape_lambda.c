// SPDX-License-Identifier: Apache-2.0
// AWS Lambda: {"eventSource":"aws:kafka","records":{"topic-0":[…]}} of Kafka event sources, and
// {"eventSource":"aws:rmq","rmqMessagesByQueue":{"queue::/":[…]}} of RabbitMQ brokers.
//
// Records stand in groups, one a topic and partition (or queue) in the order in which it first appears. A table that is
// made once a call chains the records of each group.
#include <stdint.h>
#include <time.h>

#include "core/base/text.h"
#include "core/shape_parts.h"

#define NONE UINT32_MAX

struct record {
    struct shape_at at;
    uint32_t next;      // of the same group, or NONE
    uint32_t last;      // in the first record of a group: its last one
    bool first;
};

static struct str group_name(const struct shape_at *at) {
    return at->amqp ? at->queue : at->topic;
}

static struct str group_part(const struct shape_at *at) {
    return at->amqp ? at->vhost : at->partition;
}

static bool same_group(const struct shape_at *a, const struct shape_at *b) {
    return str_eq(group_name(a), group_name(b)) && str_eq(group_part(a), group_part(b));
}

static uint64_t hash(uint64_t h, struct str s) { // FNV-1a
    for (size_t i = 0; i < s.len; i++) h = (h ^ (unsigned char)s.data[i]) * UINT64_C(1099511628211);
    return h;
}

// Chains the records of each group. `slots` (a power of two, more than the records) holds the first record of each.
static void group(struct record *records, size_t count, uint32_t *slots, size_t slot_count) {
    for (size_t i = 0; i < count; i++) {
        const struct shape_at *at = &records[i].at;
        size_t slot = hash(hash(UINT64_C(14695981039346656037), group_name(at)), group_part(at)) & (slot_count - 1);
        while (slots[slot] != NONE && !same_group(&records[slots[slot]].at, at)) slot = (slot + 1) & (slot_count - 1);
        records[i].next = NONE;
        records[i].last = (uint32_t)i;
        records[i].first = slots[slot] == NONE;
        if (records[i].first) {
            slots[slot] = (uint32_t)i;
        } else {
            struct record *head = &records[slots[slot]];
            records[head->last].next = (uint32_t)i;
            head->last = (uint32_t)i;
        }
    }
}

// The platform's own bytes are signed (they are Java's): 0xff is -1.
static int put_bytes(struct buf *out, struct str bytes) {
    int rc = buf_append(out, STR_LIT("["));
    for (size_t i = 0; i < bytes.len && rc == 0; i++) {
        char text[8];
        int n = (signed char)bytes.data[i], len = 0;
        if (i) text[len++] = ',';
        if (n < 0) text[len++] = '-';
        unsigned u = (unsigned)(n < 0 ? -n : n);
        if (u >= 100) text[len++] = '1';
        if (u >= 10) text[len++] = (char)('0' + u / 10 % 10);
        text[len++] = (char)('0' + u % 10);
        rc = buf_append(out, (struct str){text, (size_t)len});
    }
    return rc | buf_append(out, STR_LIT("]"));
}

// ---- Kafka -----------------------------------------------------------------------------------------------------------------

static int put_kafka_headers(struct buf *out, const struct ev *ev) {
    int rc = buf_append(out, STR_LIT(",\"headers\":["));
    for (size_t i = 0; i < ev->f.header_count && rc == 0; i++) {
        rc |= buf_append(out, i ? STR_LIT(",{") : STR_LIT("{"));
        rc |= text_append_json(out, ev->f.headers[i].name);
        rc |= buf_append(out, STR_LIT(":"));
        rc |= put_bytes(out, ev->f.headers[i].value);
        rc |= buf_append(out, STR_LIT("}"));
    }
    return rc | buf_append(out, STR_LIT("]"));
}

static int put_number(struct buf *out, const char *fmt, int64_t n) {
    char text[48];
    MUST(text_format(text, sizeof text, "%s%lld", fmt, (long long)n) == 0);
    return buf_append(out, str_of(text));
}

static int put_kafka(struct buf *out, const struct ev *ev, const struct shape_at *at) {
    int rc = buf_append(out, STR_LIT("{\"topic\":"));
    rc |= shape_put_escaped(out, at->topic);
    rc |= buf_append(out, STR_LIT(",\"partition\":"));
    rc |= shape_put_integer(out, at->partition);
    rc |= buf_append(out, STR_LIT(",\"offset\":"));
    rc |= shape_put_integer(out, at->offset);
    rc |= put_number(out, ",\"timestamp\":", shape_unix_ms(ev, at));
    rc |= buf_append(out, STR_LIT(",\"timestampType\":"));
    rc |= shape_put_escaped(out, at->timestamp_type.len ? at->timestamp_type : STR_LIT("CREATE_TIME"));
    if (ev->f.ordering_key.len) {
        rc |= buf_append(out, STR_LIT(",\"key\":"));
        rc |= shape_put_base64(out, ev->f.ordering_key);
    }
    if (!at->tombstone) {
        rc |= buf_append(out, STR_LIT(",\"value\":"));
        rc |= shape_put_base64(out, ev->f.payload);
    }
    rc |= put_kafka_headers(out, ev);
    return rc | buf_append(out, STR_LIT("}"));
}

// ---- RabbitMQ --------------------------------------------------------------------------------------------------------------

// The properties, in the order of the vendor's objects. A property is the first header of its name.
static const struct property {
    const char *header, *member;
    enum { TEXT, NUMBER, DATE } kind;
} properties[] = {
    {"delivery-mode", "deliveryMode", NUMBER}, {"priority", "priority", NUMBER},
    {"correlation-id", "correlationId", TEXT}, {"reply-to", "replyTo", TEXT},
    {"expiration", "expiration", TEXT},        {"message-id", "messageId", TEXT},
    {"timestamp", "timestamp", DATE},          {"type", "type", TEXT},
    {"user-id", "userId", TEXT},               {"app-id", "appId", TEXT},
    {"cluster-id", "clusterId", TEXT},
};

static bool is_property(struct str name) {
    if (str_is(name, "content-type") || str_is(name, "content-encoding")) return true;
    for (size_t i = 0; i < array_len(properties); i++)
        if (str_is(name, properties[i].header)) return true;
    return false;
}

// As the vendor writes it: "Jan 1, 1970, 12:33:41 AM".
static int put_date(struct buf *out, struct str seconds) {
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    int64_t unix_s;
    struct tm tm;
    char text[64];
    if (!shape_integer(seconds, &unix_s) || unix_s < 0 || unix_s > INT64_C(253402300799)) return buf_append(out, STR_LIT("null"));
    time_t t = (time_t)unix_s;
    MUST(gmtime_r(&t, &tm) != NULL);
    MUST(text_format(text, sizeof text, "\"%s %d, %d, %02d:%02d:%02d %s\"", months[tm.tm_mon], tm.tm_mday, tm.tm_year + 1900,
                     tm.tm_hour % 12 ? tm.tm_hour % 12 : 12, tm.tm_min, tm.tm_sec, tm.tm_hour < 12 ? "AM" : "PM") == 0);
    return buf_append(out, str_of(text));
}

static int put_property(struct buf *out, const char *member, struct str value, int kind) {
    int64_t n;
    int rc = buf_append(out, STR_LIT(",\""));
    rc |= buf_append(out, str_of(member));
    rc |= buf_append(out, STR_LIT("\":"));
    if (!value.data) return rc | buf_append(out, STR_LIT("null"));
    if (kind == TEXT) return rc | text_append_json(out, value);
    if (kind == DATE) return rc | put_date(out, value);
    return rc | buf_append(out, shape_integer(value, &n) ? value : STR_LIT("null"));
}

static bool seen_before(const struct ev *ev, size_t i) {
    for (size_t j = 0; j < i; j++)
        if (str_eq(ev->f.headers[j].name, ev->f.headers[i].name)) return true;
    return false;
}

// A table of AMQP has no name twice but may have one that is a property's too.
static int put_rmq_headers(struct buf *out, const struct ev *ev) {
    bool any = false;
    int rc = buf_append(out, STR_LIT(",\"headers\":{"));
    for (size_t i = 0; i < ev->f.header_count && rc == 0; i++) {
        const struct ev_header *h = &ev->f.headers[i];
        if (is_property(h->name) != seen_before(ev, i)) continue;
        rc |= any ? buf_append(out, STR_LIT(",")) : 0;
        rc |= text_append_json(out, h->name);
        rc |= buf_append(out, STR_LIT(":{\"bytes\":"));
        rc |= put_bytes(out, h->value);
        rc |= buf_append(out, STR_LIT("}"));
        any = true;
    }
    return rc | buf_append(out, STR_LIT("}"));
}

static int put_rmq(struct buf *out, const struct ev *ev, const struct shape_at *at) {
    struct str type = shape_header(ev, "content-type");
    if (!type.data && ev->f.content_type.len) type = ev->f.content_type;
    int rc = buf_append(out, STR_LIT("{\"basicProperties\":{\"contentType\":"));
    rc |= type.data ? text_append_json(out, type) : buf_append(out, STR_LIT("null"));
    rc |= put_property(out, "contentEncoding", shape_header(ev, "content-encoding"), TEXT);
    rc |= put_rmq_headers(out, ev);
    for (size_t i = 0; i < array_len(properties); i++)
        rc |= put_property(out, properties[i].member, shape_header(ev, properties[i].header), (int)properties[i].kind);
    rc |= put_number(out, ",\"bodySize\":", (int64_t)ev->f.payload.len);
    rc |= buf_append(out, at->redelivered ? STR_LIT("},\"redelivered\":true,\"data\":") : STR_LIT("},\"redelivered\":false,\"data\":"));
    rc |= shape_put_base64(out, ev->f.payload);
    return rc | buf_append(out, STR_LIT("}"));
}

// ---- both ------------------------------------------------------------------------------------------------------------------

// "topic-0" or "queue::/".
static int put_group_name(struct buf *out, const struct shape_at *at) {
    int64_t n;
    int rc = shape_put_escaped(out, group_name(at));
    if (at->amqp) {
        rc = shape_more_escaped(out, rc, STR_LIT("::"));
        return shape_more_escaped(out, rc, at->vhost.len ? at->vhost : STR_LIT("/"));
    }
    rc = shape_more_escaped(out, rc, STR_LIT("-"));
    return shape_more_escaped(out, rc, shape_integer(at->partition, &n) ? at->partition : STR_LIT("0"));
}

static int put_group(struct buf *out, const struct ev *const *evs, const struct record *records, size_t i) {
    int rc = put_group_name(out, &records[i].at);
    const char *before = ":[";
    for (uint32_t r = (uint32_t)i; r != NONE && rc == 0; r = records[r].next) {
        rc |= buf_append(out, str_of(before));
        rc |= records[r].at.amqp ? put_rmq(out, evs[r], &records[r].at) : put_kafka(out, evs[r], &records[r].at);
        before = ",";
    }
    return rc | buf_append(out, STR_LIT("]"));
}

static int put_opening(struct buf *out, const struct ev *ev, bool amqp) {
    int rc = buf_append(out, amqp ? STR_LIT("{\"eventSource\":\"aws:rmq\",\"eventSourceArn\":\"arn:weir:rmq:::\"")
                                  : STR_LIT("{\"eventSource\":\"aws:kafka\",\"eventSourceArn\":\"arn:weir:kafka:::\""));
    rc = shape_more_text(out, rc, ev->f.source_name);
    return rc | buf_append(out, amqp ? STR_LIT(",\"rmqMessagesByQueue\":{") : STR_LIT(",\"records\":{"));
}

static int put_all(struct buf *out, const struct ev *const *evs, const struct record *records, size_t count) {
    int rc = put_opening(out, evs[0], records[0].at.amqp);
    for (size_t i = 0; i < count && rc == 0; i++) {
        if (!records[i].first) continue;
        if (i) rc |= buf_append(out, STR_LIT(","));
        rc |= put_group(out, evs, records, i);
    }
    return rc | buf_append(out, STR_LIT("}}"));
}

int shape_put_lambda(struct buf *out, const struct ev *const *evs, size_t count) {
    MUST(count < NONE / 4);
    size_t slot_count = 2;
    while (slot_count <= count) slot_count *= 2;
    struct record *records = mem_alloc(count * sizeof *records + slot_count * sizeof(uint32_t));
    uint32_t *slots = (uint32_t *)(void *)(records + count);
    memset(slots, 0xff, slot_count * sizeof *slots);
    bool amqp = str_is(evs[0]->f.source_kind, "amqp");
    for (size_t i = 0; i < count; i++) {
        shape_at_read(evs[i], &records[i].at);
        records[i].at.amqp = amqp; // one trigger's
    }
    group(records, count, slots, slot_count);
    int rc = put_all(out, evs, records, count);
    free(records);
    return rc;
}
