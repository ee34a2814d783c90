// SPDX-License-Identifier: Apache-2.0
// The server's settings: one table that makes the parser, the environment, `weir config` and the check of docs/config.md.
//
// Flow: defaults <- configuration file (INI: `name = value`) <- environment (WEIR_NAME) <- command line (--name value).
// Errors: an unknown name or a value out of range is ERR_INVALID; in a file the text says file and line. A missing file
//   is ERR_NOT_FOUND.
// Memory: options_done frees the strings. Threads: read-only after parsing.
#ifndef CORE_OPTIONS_H
#define CORE_OPTIONS_H

#include <stdint.h>

#include "core/base/err.h"

enum option_type {
    OPTION_TEXT,
    OPTION_PATH,
    OPTION_COUNT,    // a whole number
    OPTION_BYTES,    // 4096, 64KiB, 6MiB, 10GiB; stored in bytes
    OPTION_DURATION, // 250ms, 5s, 10m, 6h, 30d; stored in milliseconds
    OPTION_DURATIONS,// a list: 1s,5s,30s; kept as text after it was checked
    OPTION_WORD,     // one of `words`
};

// X(member, "name", type, "default", least, most, "words", "help")
// least and most bound numbers in the stored unit; words are separated by '|'.
#define OPTIONS(X)                                                                                                      \
    X(listen, "listen", OPTION_TEXT, "127.0.0.1:9000", 0, 0, "", "address and port of the HTTP API")                     \
    X(data, "data", OPTION_PATH, "./weir-data", 0, 0, "", "folder for the database and the unpacked code")               \
    X(queue, "queue", OPTION_TEXT, "embedded:", 0, 0, "", "where events wait: embedded: or amqp://user:pass@host/vhost") \
    X(store, "store", OPTION_TEXT, "", 0, 0, "",                                                                         \
      "where functions and letters are kept: sqlite:PATH or postgresql://...; empty: sqlite in the data folder")         \
    X(token, "token", OPTION_TEXT, "", 0, 0, "", "clients must send it as a bearer token; needed off loopback")          \
    X(tokens, "tokens", OPTION_TEXT, "", 0, 0, "", "more tokens, with names for the audit: alice:SECRET,ci:SECRET")      \
    X(redact, "redact", OPTION_TEXT, "", 0, 0, "",                                                                       \
      "names of fields whose values are masked in lists, logs, exports and the audit: password,card.number")             \
    X(node, "node", OPTION_TEXT, "", 0, 0, "",                                                                           \
      "stable name of this node: Kafka triggers keep their partitions over a quick restart; differs on each node")       \
    X(log_level, "log-level", OPTION_WORD, "info", 0, 0, "error|warn|info|debug", "least level that is logged")          \
    X(log_format, "log-format", OPTION_WORD, "text", 0, 0, "text|json", "form of log lines")                             \
    X(grace_ms, "grace", OPTION_DURATION, "30s", 0, 3600000, "", "time for running events when the server stops")        \
    X(max_instances, "max-instances", OPTION_COUNT, "0", 0, 4096, "",                                                    \
      "most instances of all functions together; 0: four a processor")                                                   \
    X(function_instances, "function-instances", OPTION_COUNT, "0", 0, 4096, "",                                          \
      "most instances of one function when its deploy names no number; 0: one a processor")                              \
    X(spare_instances, "spare-instances", OPTION_COUNT, "1", 0, 64, "",                                                  \
      "pre-started instances kept for each runtime in use, so that a cold start only loads the code")                    \
    X(instance_idle_ms, "instance-idle", OPTION_DURATION, "60s", 100, 86400000, "", "an idle instance is let go after")  \
    X(sandbox, "sandbox", OPTION_WORD, "auto", 0, 0, "auto|bubblewrap|none",                                             \
      "how instances are fenced in; auto: bubblewrap where it works")                                                    \
    X(runtimes, "runtimes", OPTION_PATH, "", 0, 0, "", "folder of the language runtimes; empty: beside the program")     \
    X(credit, "credit", OPTION_COUNT, "2000", 1, 65535, "", "most unsettled events of one function on this node")        \
    X(credit_bytes, "credit-bytes", OPTION_BYTES, "64MiB", 1048576, 17179869184, "", "the same in bytes")                \
    X(sync_backlog, "sync-backlog", OPTION_COUNT, "1000", 1, 1000000, "",                                                \
      "most sync calls of one function that wait for an instance; more get 429")                                         \
    X(queue_max_messages, "queue-max-messages", OPTION_COUNT, "10000000", 1, 10000000000, "",                            \
      "most events that wait in one function's embedded queue; more get 429")                                            \
    X(max_deliveries, "max-deliveries", OPTION_COUNT, "20", 1, 1000, "",                                                 \
      "an event whose delivery ended that often with a dead server becomes a letter of kind platform")                   \
    X(max_body_bytes, "max-body", OPTION_BYTES, "64MiB", 1024, 1073741824, "", "largest HTTP request body")              \
    X(max_header_bytes, "max-header", OPTION_BYTES, "64KiB", 1024, 1048576, "", "largest HTTP request head")             \
    X(max_connections, "max-connections", OPTION_COUNT, "4096", 1, 1000000, "", "most HTTP connections at a time")       \
    X(request_timeout_ms, "request-timeout", OPTION_DURATION, "30s", 100, 3600000, "",                                   \
      "a request must have arrived whole within")                                                                        \
    X(keepalive_ms, "keepalive", OPTION_DURATION, "75s", 100, 3600000, "", "an idle HTTP connection is closed after")    \
    X(timer_history_ms, "timer-history", OPTION_DURATION, "30d", 60000, 31622400000, "", "fires of timers are kept for weir cron history") \
    X(log_bytes, "log-bytes", OPTION_BYTES, "1MiB", 4096, 1073741824, "", "handler output kept for one function")

struct option_value {
    char *text;         // as given
    int64_t number;     // COUNT, BYTES (bytes), DURATION (ms)
    const char *origin; // "default", "file", "environment", "command line"
};
struct options {
#define X(member, name, type, fallback, least, most, words, help) struct option_value member;
    OPTIONS(X)
#undef X
};

struct option_spec {
    const char *name;
    enum option_type type;
    const char *fallback;
    int64_t least, most;
    const char *words, *help;
    size_t offset; // of the struct option_value in struct options
};
extern const struct option_spec option_specs[]; // ended by name == NULL

void options_init(struct options *o); // all defaults
void options_done(struct options *o);
// `origin` is not copied: a literal.
int options_set(struct options *o, const char *name, const char *value, const char *origin, struct err *err) must_use;
int options_read_file(struct options *o, const char *path, struct err *err) must_use;
// The names in upper case with _ for -: WEIR_LOG_LEVEL. Other WEIR_… variables are not looked at.
int options_read_environment(struct options *o, struct err *err) must_use;
const struct option_value *options_get(const struct options *o, const struct option_spec *spec);

// The value syntax, for others that take such values (deploy settings, CLI flags).
int parse_duration_ms(struct str text, int64_t *ret, struct err *err) must_use;
int parse_bytes(struct str text, int64_t *ret, struct err *err) must_use;
// "1s,5s,30s" -> up to `room` numbers; returns the count or ERR_INVALID.
int parse_durations_ms(struct str text, int64_t *out, size_t room, struct err *err) must_use;

#endif
