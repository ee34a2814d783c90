// SPDX-License-Identifier: Apache-2.0
// The event of a Kafka record. Hot: hundreds of thousands a second on the loop's thread, so coordinates are written digit by
// digit after a beginning that is made once for each partition, and one allocation makes the event.
//
// The id comes from the group, the topic, the source's epoch, the partition, the offset and the record's time, so a record that is
// read again has the same one; two functions, whose groups differ, do not share ids.
#include "core/base/text.h"
#include "core/kafka_source.h"

#define AT_MAX 900 // topic (249 bytes, escaped at worst) and numbers

static char *put_number(char *at, int64_t n) {
    char digits[20];
    int count = 0;
    uint64_t v = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
    do digits[count++] = (char)('0' + v % 10);
    while (v /= 10);
    if (n < 0) *at++ = '-';
    while (count) *at++ = digits[--count];
    return at;
}

static char *put_text(char *at, const char *text, size_t len) {
    memcpy(at, text, len);
    return at + len;
}
#define PUT(at, literal) put_text(at, literal, sizeof(literal) - 1)

void kafka_part_describe(struct kafka_part *p, const char *topic) {
    struct buf b;
    buf_init(&b, AT_MAX);
    MUST(buf_printf(&b, "{\"topic\":") == 0); // kafka_config_check has seen the topic: letters, digits, ._-
    MUST(text_append_json(&b, str_of(topic)) == 0 && buf_printf(&b, ",\"partition\":%d,\"offset\":", p->number) == 0);
    p->at = buf_take(&b, &p->at_len);
}

static struct str source_at(const struct kafka_part *p, const rd_kafka_message_t *m, int64_t timestamp,
                            rd_kafka_timestamp_type_t type, char *out) {
    char *at = put_text(out, p->at, p->at_len);
    at = put_number(at, m->offset);
    at = PUT(at, ",\"timestamp\":");
    at = put_number(at, timestamp);
    if (type == RD_KAFKA_TIMESTAMP_CREATE_TIME) at = PUT(at, ",\"timestampType\":\"CREATE_TIME\"");
    else if (type == RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME) at = PUT(at, ",\"timestampType\":\"LOG_APPEND_TIME\"");
    else at = PUT(at, ",\"timestampType\":\"NO_TIMESTAMP_TYPE\"");
    if (!m->payload) at = PUT(at, ",\"tombstone\":true");
    *at++ = '}';
    return (struct str){out, (size_t)(at - out)};
}

// "weir-headers-omitted" takes the place of the last one that would fit.
static size_t add_omitted(struct ev_header *headers, size_t total, char *text, size_t text_bytes) {
    MUST(text_format(text, text_bytes, "%zu", total - (EV_HEADERS_MAX - 1)) == 0);
    headers[EV_HEADERS_MAX - 1] = (struct ev_header){STR_LIT("weir-headers-omitted"), str_of(text)};
    return EV_HEADERS_MAX;
}

static bool is_content_type(const char *name) {
    return (name[0] | 32) == 'c' && strcasecmp(name, "content-type") == 0;
}

static void take_headers(struct ev_fields *f, struct ev_header *headers, const rd_kafka_message_t *m, char *text,
                         size_t text_bytes, size_t *bytes) {
    rd_kafka_headers_t *list;
    if (rd_kafka_message_headers(m, &list) != RD_KAFKA_RESP_ERR_NO_ERROR) return;
    size_t total = rd_kafka_header_cnt(list), count = total > EV_HEADERS_MAX ? EV_HEADERS_MAX - 1 : total;
    for (size_t i = 0; i < count; i++) {
        const char *name;
        const void *value;
        size_t len;
        if (rd_kafka_header_get_all(list, i, &name, &value, &len) != RD_KAFKA_RESP_ERR_NO_ERROR) {
            count = total = i;
            break;
        }
        headers[i] = (struct ev_header){str_of(name), value ? (struct str){value, len} : STR_LIT("")};
        if (is_content_type(name)) f->content_type = headers[i].value;
        *bytes += sizeof *headers + headers[i].name.len + headers[i].value.len;
    }
    f->header_count = total > count ? add_omitted(headers, total, text, text_bytes) : count;
    f->headers = headers;
}

struct ev *kafka_record_event(struct kafka_source *s, const struct kafka_part *p, const rd_kafka_message_t *m, int64_t now_ms,
                              uint32_t *ret_bytes) {
    char at[AT_MAX + 128], omitted[24];
    size_t bytes = sizeof(struct ev) + m->len + m->key_len;
    rd_kafka_timestamp_type_t type;
    int64_t timestamp = rd_kafka_message_timestamp(m, &type);
    struct ev_fields f = {
        .id = id_derive(timestamp > 0 ? timestamp : 0, s->id_seed + (uint64_t)m->partition * 0x9e3779b97f4a7c15u,
                        (uint64_t)m->offset),
        .invocation = EV_ASYNC,
        .accepted_ms = now_ms,
        .function = s->config.function,
        .source_kind = STR_LIT("kafka"),
        .source_name = str_of(s->conf.trigger),
        .source_at = source_at(p, m, timestamp, type, at),
        .shape = str_of(s->conf.shape),
        .payload = {m->payload ? m->payload : "", m->payload ? m->len : 0},
    };
    if (m->key && m->key_len) f.ordering_key = (struct str){m->key, m->key_len};
    take_headers(&f, s->headers, m, omitted, sizeof omitted, &bytes);
    bytes += f.source_at.len;
    *ret_bytes = bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes;
    return ev_new(&f);
}

uint64_t kafka_id_seed(const struct kafka_config *c) { // FNV-1a
    uint64_t h = 0xcbf29ce484222325u;
    const char *const texts[] = {c->group, c->topic};
    for (size_t i = 0; i < array_len(texts); i++)
        for (const char *t = texts[i];; t++) {
            h = (h ^ (uint8_t)*t) * 0x100000001b3u;
            if (!*t) break;
        }
    for (int i = 0; i < 8; i++) h = (h ^ (uint8_t)(c->epoch >> (8 * i))) * 0x100000001b3u;
    return h;
}
