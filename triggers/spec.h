// SPDX-License-Identifier: Apache-2.0
// What the settings of a trigger mean: one table that makes the parser, its errors, the defaults and the check of
// docs/kafka.md, docs/amqp.md and docs/timers.md.
//
// Flow: settings (an object of strings, as `weir trigger add … name=value` gives them) -> spec_parse -> struct spec.
// Errors: ERR_INVALID names the setting and says what it may be; an unknown one is answered with the nearest that exists.
// Memory: spec_done frees. Threads: any.
#ifndef TRIGGERS_SPEC_H
#define TRIGGERS_SPEC_H

#include <jansson.h>
#include <stdint.h>

#include "core/binding.h"

enum spec_kind { SPEC_KAFKA = 1, SPEC_AMQP = 2, SPEC_TIMER = 4 }; // bits, for the table

// X(member, "name", type, "default", kinds, required, least, most, "words", "help"). Numbers are in the unit of their type.
#define SPEC_SETTINGS(X)                                                                                                        \
    X(brokers, "brokers", SPEC_TEXT, "", SPEC_KAFKA, true, 0, 0, "", "addresses to begin with: host:port,host:port")            \
    X(topic, "topic", SPEC_TEXT, "", SPEC_KAFKA, true, 0, 0, "", "the topic")                                                   \
    X(group, "group", SPEC_TEXT, "", SPEC_KAFKA, false, 0, 0, "", "consumer group; by default weir-<function>")                 \
    X(from, "from", SPEC_WORD, "earliest", SPEC_KAFKA, false, 0, 0, "earliest|latest", "where a new group begins")              \
    X(commit_ms, "commit", SPEC_DURATION, "1s", SPEC_KAFKA, false, 100, 60000, "", "offsets are committed so often")            \
    X(revoke_ms, "revoke", SPEC_DURATION, "30s", SPEC_KAFKA, false, 0, 240000, "",                                              \
      "how long a partition that moves to another node waits for what runs")                                                    \
    X(order, "order", SPEC_WORD, "key", SPEC_KAFKA, false, 0, 0, "none|partition|key", "what must run one after the other")     \
    X(url, "url", SPEC_TEXT, "", SPEC_AMQP, true, 0, 0, "", "amqp[s]://user:password@host:port/vhost")                          \
    X(queue, "queue", SPEC_TEXT, "", SPEC_AMQP, false, 0, 0, "", "the queue to consume from; or name an exchange")              \
    X(exchange, "exchange", SPEC_TEXT, "", SPEC_AMQP, false, 0, 0, "", "declares a queue of its own, bound to this exchange")   \
    X(routing, "binding", SPEC_TEXT, "#", SPEC_AMQP, false, 0, 0, "", "binding key to the exchange")                            \
    X(declare, "declare", SPEC_FLAG, "no", SPEC_AMQP, false, 0, 0, "", "make the queue when it is not there")                   \
    X(prefetch, "prefetch", SPEC_AUTO, "auto", SPEC_AMQP, false, 1, 65535, "", "most messages taken ahead; auto follows the pool") \
    X(cron, "cron", SPEC_TEXT, "", SPEC_TIMER, false, 0, 0, "", "expression of 5, 6 or 7 fields, or @daily and the like; or say every")  \
    X(every, "every", SPEC_TEXT, "", SPEC_TIMER, false, 0, 0, "", "a period, such as 90s, 5m or 1h30m, counted from start or when it was added") \
    X(tz, "tz", SPEC_TEXT, "UTC", SPEC_TIMER, false, 0, 0, "", "time zone of cron, start and end, such as Europe/Berlin")        \
    X(dst, "dst", SPEC_WORD, "cron", SPEC_TIMER, false, 0, 0, "cron|skip|once|both", "times that daylight saving leaves out or repeats") \
    X(catchup, "catchup", SPEC_WORD, "last", SPEC_TIMER, false, 0, 0, "none|last|all", "fires whose time passed while nothing ran") \
    X(catchup_max, "max", SPEC_COUNT, "1000", SPEC_TIMER, false, 1, 100000, "", "most fires of catchup=all, the newest")           \
    X(catchup_window_ms, "catchup_window", SPEC_DURATION, "", SPEC_TIMER, false, 1000, 31622400000, "",                         \
      "older ones are not caught up; by default there is no limit")                                                            \
    X(overlap, "overlap", SPEC_WORD, "allow", SPEC_TIMER, false, 0, 0, "allow|skip|queue|cancel", "when the fire before is not over") \
    X(jitter_ms, "jitter", SPEC_DURATION, "0ms", SPEC_TIMER, false, 0, 86400000, "", "each fire is delayed by up to so much")    \
    X(start, "start", SPEC_TEXT, "", SPEC_TIMER, false, 0, 0, "", "no fire before: 2026-12-01 or 2026-12-01T08:00")             \
    X(end, "end", SPEC_TEXT, "", SPEC_TIMER, false, 0, 0, "", "no fire from then on")                                           \
    X(message, "message", SPEC_TEXT, "", SPEC_TIMER, false, 0, 0, "", "what the function gets: text or JSON")                   \
    X(shape, "shape", SPEC_WORD, "scf", SPEC_KAFKA | SPEC_AMQP | SPEC_TIMER, false, 0, 0, "scf|lambda|fc|cloudevents|raw",                   \
      "what the function sees")                                                                                                 \
    X(batch, "batch", SPEC_COUNT, "", SPEC_KAFKA | SPEC_AMQP, false, 1, BINDING_BATCH_MAX, "",                                  \
      "most records of one call; by default 100, with shape=raw 1")                                                             \
    X(batch_bytes, "batch_bytes", SPEC_BYTES, "6MiB", SPEC_KAFKA | SPEC_AMQP, false, 1024, EV_PAYLOAD_MAX, "",                  \
      "most bytes of one call")                                                                                                 \
    X(window_ms, "window", SPEC_DURATION, "0ms", SPEC_KAFKA | SPEC_AMQP, false, 0, 300000, "", "how long a batch waits to be filled") \
    X(max_records, "max_records", SPEC_COUNT, "20000", SPEC_KAFKA | SPEC_AMQP, false, 1, 1000000, "", "most records in flight") \
    X(max_bytes, "max_bytes", SPEC_BYTES, "64MiB", SPEC_KAFKA | SPEC_AMQP, false, 4194304, 17179869184, "",                     \
      "memory of this trigger on a node")                                                                                       \
    X(filter, "filter", SPEC_TEXT, "", SPEC_KAFKA | SPEC_AMQP, false, 0, 0, "", "JSON pattern; the others are passed over (docs/filters.md)") \
    X(breaker, "breaker", SPEC_SHARE, "50%", SPEC_KAFKA | SPEC_AMQP, false, 1, 100, "",                                         \
      "pauses when so many of the records fail alike; off: never")                                                              \
    X(on_success, "on_success", SPEC_TEXT, "", SPEC_KAFKA | SPEC_AMQP, false, 0, 0, "",                                         \
      "results go there: kafka:TOPIC, amqp:EXCHANGE/KEY, function:NAME or a URL")                                               \
    X(on_failure, "on_failure", SPEC_TEXT, "", SPEC_KAFKA | SPEC_AMQP, false, 0, 0, "", "dead letters go there too")            \
    X(failure_shape, "on_failure_shape", SPEC_WORD, "record", SPEC_KAFKA | SPEC_AMQP, false, 0, 0, "record|scf|lambda",         \
      "the record itself, or the dead-letter message of these platforms")                                                       \
    X(relay, "relay", SPEC_FLAG, "no", SPEC_KAFKA | SPEC_AMQP, false, 0, 0, "",                                                 \
      "copy into the function's own queue instead of running in place; needs order=none")                                       \
    X(check, "check", SPEC_FLAG, "yes", SPEC_KAFKA | SPEC_AMQP, false, 0, 0, "", "ask the broker before the trigger is added")

#define SPEC_MESSAGE_MAX 49152 // bytes of a timer's message

enum spec_type { SPEC_TEXT, SPEC_WORD, SPEC_FLAG, SPEC_COUNT, SPEC_BYTES, SPEC_DURATION, SPEC_AUTO, SPEC_SHARE };

struct spec_value {
    char *text;      // as given, or the default; never NULL after spec_parse
    int64_t number;  // FLAG 0 or 1; COUNT; BYTES; DURATION ms; AUTO 0 is auto; SHARE percent, 0 is off
    bool given;
};

struct spec_pair {
    char *name, *value;
};

struct spec {
    enum spec_kind kind;
#define X(member, ...) struct spec_value member;
    SPEC_SETTINGS(X)
#undef X
    struct spec_pair *extra; // kafka.*, without the prefix
    size_t extra_count;
};

const char *spec_kind_word(enum spec_kind kind);
int spec_kind_parse(struct str word, enum spec_kind *ret, struct err *err) must_use;
// Everything but the network and what librdkafka says of kafka.* settings. function fills the default of `group`.
int spec_parse(enum spec_kind kind, const json_t *settings, const char *function, struct spec *ret, struct err *err) must_use;
void spec_done(struct spec *s);

enum order spec_order(const struct spec *s);
enum shape spec_shape(const struct spec *s);
// What it consumes from, for names and messages: topic, queue or exchange.
const char *spec_source_name(const struct spec *s);

// A sink as on_success and on_failure name it. Short forms use the trigger's own broker.
enum spec_sink_kind { SPEC_SINK_NONE, SPEC_SINK_KAFKA, SPEC_SINK_AMQP, SPEC_SINK_FUNCTION };
struct spec_sink {
    enum spec_sink_kind kind;
    char *address;   // brokers or URL; NULL: the trigger's own, with its kafka.* settings
    char *to, *key;  // topic; exchange and routing key; function
};
int spec_sink_parse(enum spec_kind kind, const char *name, const char *text, struct spec_sink *ret, struct err *err) must_use;
void spec_sink_done(struct spec_sink *s);

// "earliest", "latest", "offset:…" as they are; a time of RFC 3339 (seconds and zone may be left out: UTC) as "time:<ms>".
int spec_seek_parse(const char *to, char **ret, struct err *err) must_use;

#endif
