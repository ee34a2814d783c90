// SPDX-License-Identifier: Apache-2.0
// The two small languages inside settings: where a sink is, and where a seek goes.
#include <ctype.h>

#include "core/registry.h"
#include "core/when.h"
#include "triggers/spec.h"

// --- sinks ------------------------------------------------------------------------------------------------------------

static int bad_sink(const char *name, const char *text, struct err *err) {
    return err_set(err, ERR_INVALID,
                   "%s must be kafka:TOPIC, amqp:EXCHANGE/KEY, function:NAME, kafka://host:port/TOPIC or "
                   "amqp://user:password@host/vhost?exchange=NAME&routing_key=KEY, not \"%.80s\"",
                   name, text);
}

// kafka://host:port,host:port/topic
static int parse_kafka_url(const char *rest, struct spec_sink *s) {
    const char *slash = strchr(rest, '/');
    if (!slash || slash == rest || !slash[1]) return -1;
    s->address = mem_strndup((struct str){rest, (size_t)(slash - rest)});
    s->to = mem_strdup(slash + 1);
    return 0;
}

// Takes exchange and routing_key out of the query; what else is there stays in the address.
static int parse_amqp_url(const char *text, struct spec_sink *s) {
    const char *query = strchr(text, '?');
    if (!query) return -1;
    cleanup_free char *options = mem_strdup(query + 1);
    char *address = mem_strndup((struct str){text, (size_t)(query - text)}), *state = NULL;
    char joint = '?';
    for (char *at = strtok_r(options, "&", &state); at; at = strtok_r(NULL, "&", &state)) {
        if (strncmp(at, "exchange=", 9) == 0 && !s->to) s->to = mem_strdup(at + 9);
        else if (strncmp(at, "routing_key=", 12) == 0 && !s->key) s->key = mem_strdup(at + 12);
        else {
            char *longer = mem_printf("%s%c%s", address, joint, at);
            free(address);
            address = longer;
            joint = '&';
        }
    }
    s->address = address;
    return s->to || s->key ? 0 : -1;
}

static int parse_short(enum spec_kind kind, const char *name, const char *text, struct spec_sink *s, struct err *err) {
    struct err why = {0};
    const char *rest = strchr(text, ':') + 1;
    if (strncmp(text, "function:", 9) == 0) {
        s->kind = SPEC_SINK_FUNCTION;
        s->to = mem_strdup(rest);
        if (function_name_check(str_of(rest), &why)) return err_set(err, ERR_INVALID, "%s: %.300s", name, why.text);
        return 0;
    }
    bool kafka = strncmp(text, "kafka:", 6) == 0;
    if (kafka != (kind == SPEC_KAFKA))
        return err_set(err, ERR_INVALID, "%s: this trigger has no %s broker to send to: give the whole URL, %s", name,
                       kafka ? "Kafka" : "AMQP",
                       kafka ? "kafka://host:port/TOPIC" : "amqp://user:password@host/vhost?exchange=NAME&routing_key=KEY");
    s->kind = kafka ? SPEC_SINK_KAFKA : SPEC_SINK_AMQP;
    const char *slash = kafka ? NULL : strchr(rest, '/');
    s->to = mem_strndup((struct str){rest, slash ? (size_t)(slash - rest) : strlen(rest)});
    if (slash) s->key = mem_strdup(slash + 1);
    return kafka && !s->to[0] ? bad_sink(name, text, err) : 0;
}

static int parse_sink(enum spec_kind kind, const char *name, const char *text, struct spec_sink *s, struct err *err) {
    if (strncmp(text, "kafka://", 8) == 0) {
        s->kind = SPEC_SINK_KAFKA;
        return parse_kafka_url(text + 8, s) ? bad_sink(name, text, err) : 0;
    }
    if (strncmp(text, "amqp://", 7) == 0 || strncmp(text, "amqps://", 8) == 0) {
        s->kind = SPEC_SINK_AMQP;
        return parse_amqp_url(text, s) ? bad_sink(name, "(an AMQP URL)", err) : 0; // it may hold a password
    }
    bool known = strncmp(text, "kafka:", 6) == 0 || strncmp(text, "amqp:", 5) == 0 || strncmp(text, "function:", 9) == 0;
    return known ? parse_short(kind, name, text, s, err) : bad_sink(name, text, err);
}

int spec_sink_parse(enum spec_kind kind, const char *name, const char *text, struct spec_sink *ret, struct err *err) {
    struct spec_sink s = {0};
    int rc = text[0] ? parse_sink(kind, name, text, &s, err) : 0;
    if (rc) {
        spec_sink_done(&s);
        return rc;
    }
    if (!s.to) s.to = mem_strdup("");
    if (!s.key) s.key = mem_strdup("");
    *ret = s;
    return 0;
}

void spec_sink_done(struct spec_sink *s) {
    free(s->address);
    free(s->to);
    free(s->key);
    *s = (struct spec_sink){0};
}

// --- seeking ----------------------------------------------------------------------------------------------------------

int spec_seek_parse(const char *to, char **ret, struct err *err) {
    int64_t ms;
    if (strcmp(to, "earliest") == 0 || strcmp(to, "latest") == 0 || strncmp(to, "offset:", 7) == 0) *ret = mem_strdup(to);
    else if (isdigit((unsigned char)to[0]) && when_parse(str_of(to), NULL, 0, &ms, NULL) == 0) *ret = mem_printf("time:%lld", (long long)ms);
    else
        return err_set(err, ERR_INVALID,
                       "to must be earliest, latest, a time such as 2026-11-20T00:00Z, or offset:PARTITION=OFFSET[,…], not \"%.80s\"", to);
    return 0;
}
