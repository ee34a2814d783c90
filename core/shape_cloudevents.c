// SPDX-License-Identifier: Apache-2.0
// CloudEvents 1.0 in the JSON format: the object when one record is alone, an array of them otherwise.
//
// A record that is a cloud event itself keeps its attributes: in the binary mode they are its headers (ce_… of the Kafka
// binding; cloudEvents:… and cloudEvents_… of the AMQP binding), in the structured mode it is the JSON object as it came.
// Any other record becomes one, with its coordinates as attributes; so does the fire of a timer.
#include <strings.h>

#include "core/base/text.h"
#include "core/fire.h"
#include "core/shape_parts.h"

#define ATTRIBUTES_MAX 64 // of a record's own
#define ATTRIBUTE_NAME_MAX 20

// ---- what a record says of itself ------------------------------------------------------------------------------------------

static struct str content_type(const struct ev *ev) {
    struct str type = ev->f.content_type.len ? ev->f.content_type : shape_header(ev, "content-type");
    return type.len ? type : STR_LIT("");
}

static bool media_type_is(struct str type, const char *wanted) {
    size_t n = strlen(wanted);
    return type.len >= n && strncasecmp(type.data, wanted, n) == 0 && (type.len == n || type.data[n] == ';' || type.data[n] == ' ');
}

// application/json, text/json, application/vnd.x+json; and what says nothing may be JSON.
static bool may_be_json(struct str type) {
    size_t n = 0;
    while (n < type.len && type.data[n] != ';' && type.data[n] != ' ') n++;
    if (n == 0) return true;
    return n >= 5 && (strncasecmp(type.data + n - 5, "/json", 5) == 0 || strncasecmp(type.data + n - 5, "+json", 5) == 0);
}

// The name of the attribute that a header is, without its prefix; len 0 when it is none.
static struct str attribute_of(struct str header, bool amqp) {
    size_t n = amqp && (str_starts(header, "cloudEvents:") || str_starts(header, "cloudEvents_")) ? 12
               : !amqp && str_starts(header, "ce_")                                               ? 3
                                                                                                  : 0;
    struct str name = {header.data + n, header.len - n};
    if (n == 0 || name.len == 0 || name.len > ATTRIBUTE_NAME_MAX) return STR_NONE;
    for (size_t i = 0; i < name.len; i++)
        if (!(name.data[i] >= 'a' && name.data[i] <= 'z') && !(name.data[i] >= '0' && name.data[i] <= '9')) return STR_NONE;
    if (str_is(name, "data") || str_is(name, "datacontenttype")) return STR_NONE;
    return name;
}

static struct str own_attribute(const struct ev *ev, bool amqp, const char *name) {
    for (size_t i = 0; i < ev->f.header_count; i++)
        if (str_is(attribute_of(ev->f.headers[i].name, amqp), name)) return ev->f.headers[i].value;
    return STR_LIT("");
}

static bool is_binary_mode(const struct ev *ev, bool amqp) {
    static const char *const required[] = {"specversion", "id", "source", "type"};
    for (size_t i = 0; i < array_len(required); i++)
        if (own_attribute(ev, amqp, required[i]).len == 0) return false;
    return str_starts(own_attribute(ev, amqp, "specversion"), "1.");
}

// The object of a record in structured mode, to be let go by the caller; NULL when it is none.
static json_t *structured(const struct ev *ev) {
    static const char *const required[] = {"specversion", "id", "source", "type"};
    if (!media_type_is(content_type(ev), "application/cloudevents+json") || !shape_is_json(ev->f.payload)) return NULL;
    json_t *j = json_loadb(ev->f.payload.data, ev->f.payload.len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
    bool whole = json_is_object(j);
    for (size_t i = 0; i < array_len(required) && whole; i++) whole = json_is_string(json_object_get(j, required[i]));
    if (whole) return j;
    json_decref(j);
    return NULL;
}

bool shape_cloudevents_names(struct str text, const struct ev *ev) {
    bool amqp = str_is(ev->f.source_kind, "amqp");
    json_t *j = structured(ev);
    const json_t *id = json_object_get(j, "id");
    bool same = j ? str_eq(text, (struct str){json_string_value(id), json_string_length(id)})
                  : is_binary_mode(ev, amqp) && str_eq(text, own_attribute(ev, amqp, "id"));
    json_decref(j);
    return same;
}

// ---- members ---------------------------------------------------------------------------------------------------------------

static int put_text(struct buf *out, struct str opening, struct str text) {
    if (text.len == 0) return 0; // an attribute is not empty, it is absent
    int rc = buf_append(out, opening);
    return rc | text_append_json(out, text);
}

static int put_escaped(struct buf *out, struct str opening, struct str escaped) {
    if (escaped.len == 0) return 0;
    int rc = buf_append(out, opening);
    return rc | shape_put_escaped(out, escaped);
}

static int put_data(struct buf *out, const struct ev *ev, bool nothing) {
    struct str type = content_type(ev), body = ev->f.payload;
    bool json = may_be_json(type) && shape_is_json(body);
    bool text = !json && text_is_utf8(body) && (body.len == 0 || !memchr(body.data, '\0', body.len));
    if (nothing || body.len == 0) return put_text(out, STR_LIT(",\"datacontenttype\":"), type);
    if (type.len == 0) type = json ? STR_LIT("application/json") : text ? STR_LIT("text/plain") : STR_LIT("application/octet-stream");
    int rc = put_text(out, STR_LIT(",\"datacontenttype\":"), type);
    if (json) {
        rc |= buf_append(out, STR_LIT(",\"data\":"));
        return rc | buf_append(out, body);
    }
    if (text) return rc | put_text(out, STR_LIT(",\"data\":"), body);
    rc |= buf_append(out, STR_LIT(",\"data_base64\":"));
    return rc | shape_put_base64(out, body);
}

static int put_own_attributes(struct buf *out, const struct ev *ev, bool amqp) {
    struct str seen[ATTRIBUTES_MAX];
    size_t count = 0;
    int rc = 0;
    for (size_t i = 0; i < ev->f.header_count && count < ATTRIBUTES_MAX && rc == 0; i++) {
        struct str name = attribute_of(ev->f.headers[i].name, amqp);
        if (name.len == 0 || ev->f.headers[i].value.len == 0) continue;
        bool again = false;
        for (size_t j = 0; j < count && !again; j++) again = str_eq(seen[j], name);
        if (again) continue;
        rc |= buf_append(out, count ? STR_LIT(",\"") : STR_LIT("{\""));
        rc |= buf_append(out, name);
        rc |= buf_append(out, STR_LIT("\":"));
        rc |= text_append_json(out, ev->f.headers[i].value);
        seen[count++] = name;
    }
    return rc;
}

static int put_kafka(struct buf *out, const struct ev *ev, const struct shape_at *at) {
    int rc = buf_append(out, STR_LIT("{\"specversion\":\"1.0\",\"id\":"));
    rc |= shape_put_coordinates(out, at);
    rc |= buf_append(out, STR_LIT(",\"type\":\"dev.weir.kafka.record\""));
    rc |= put_text(out, STR_LIT(",\"subject\":"), ev->f.ordering_key);
    rc |= put_text(out, STR_LIT(",\"partitionkey\":"), ev->f.ordering_key);
    rc |= put_escaped(out, STR_LIT(",\"topic\":"), at->topic);
    rc |= buf_append(out, STR_LIT(",\"partition\":"));
    rc |= shape_put_integer(out, at->partition);
    return rc | put_escaped(out, STR_LIT(",\"offset\":"), at->offset); // text: an integer of the format has 32 bits
}

static int put_amqp(struct buf *out, const struct ev *ev, const struct shape_at *at) {
    int rc = buf_append(out, STR_LIT("{\"specversion\":\"1.0\",\"id\":"));
    rc |= shape_put_message_id(out, ev);
    rc |= buf_append(out, STR_LIT(",\"type\":\"dev.weir.amqp.message\""));
    rc |= put_escaped(out, STR_LIT(",\"subject\":"), at->routing_key);
    rc |= put_escaped(out, STR_LIT(",\"queue\":"), at->queue);
    rc |= put_escaped(out, STR_LIT(",\"exchange\":"), at->exchange);
    rc |= put_escaped(out, STR_LIT(",\"routingkey\":"), at->routing_key);
    return rc | buf_append(out, at->redelivered ? STR_LIT(",\"redelivered\":true") : STR_LIT(",\"redelivered\":false"));
}

static int put_new(struct buf *out, const struct ev *ev, const struct shape_at *at) {
    int rc = at->amqp ? put_amqp(out, ev, at) : put_kafka(out, ev, at);
    rc |= buf_append(out, STR_LIT(",\"source\":\"/triggers/\""));
    rc = shape_more_text(out, rc, ev->f.source_name);
    rc |= buf_append(out, STR_LIT(",\"time\":"));
    return rc | shape_put_time(out, shape_unix_ms(ev, at));
}

static int put_timer(struct buf *out, const struct ev *ev) {
    int rc = buf_append(out, STR_LIT("{\"specversion\":\"1.0\",\"id\":"));
    rc |= shape_put_id(out, ev);
    rc |= buf_append(out, STR_LIT(",\"type\":\"dev.weir.timer.fire\",\"source\":\"/triggers/\""));
    rc = shape_more_text(out, rc, ev->f.source_name);
    rc |= shape_put_scheduled(out, STR_LIT(",\"time\":"), ev);
    rc |= put_data(out, ev, false);
    return rc | buf_append(out, STR_LIT("}"));
}

static int put_one(struct buf *out, const struct ev *ev) {
    if (str_is(ev->f.source_kind, FIRE_SOURCE)) return put_timer(out, ev);
    struct shape_at at;
    shape_at_read(ev, &at);
    json_t *j = structured(ev);
    json_decref(j);
    if (j) return buf_append(out, ev->f.payload);
    int rc = is_binary_mode(ev, at.amqp) ? put_own_attributes(out, ev, at.amqp) : put_new(out, ev, &at);
    rc |= put_data(out, ev, at.tombstone);
    return rc | buf_append(out, STR_LIT("}"));
}

int shape_put_cloudevents(struct buf *out, const struct ev *const *evs, size_t count) {
    int rc = count > 1 ? buf_append(out, STR_LIT("[")) : 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        if (i) rc |= buf_append(out, STR_LIT(","));
        rc |= put_one(out, evs[i]);
    }
    return rc | (count > 1 ? buf_append(out, STR_LIT("]")) : 0);
}
