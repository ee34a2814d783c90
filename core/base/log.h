// SPDX-License-Identifier: Apache-2.0
// The server's log: one line = one event, `key=value` pairs or JSON, on stderr.
//
// Flow: log_info("pool", "instance started", LOG_STR("function", name), LOG_INT("pid", pid));
//   Repeating failures go through log_repeating, which counts them and reports once an interval.
// Threads: any; a line is written with one write(2). Blocking: as stderr does.
#ifndef CORE_BASE_LOG_H
#define CORE_BASE_LOG_H

#include <stdint.h>

#include "core/base/err.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

struct log_field {
    const char *key;      // NULL ends a list
    struct str text;      // used when text.data is set
    int64_t number;
};

#define LOG_STR(k, v) ((struct log_field){.key = (k), .text = str_of((v) ? (v) : "")})
#define LOG_SPAN(k, v) ((struct log_field){.key = (k), .text = (v).data ? (v) : STR_LIT("")})
#define LOG_INT(k, v) ((struct log_field){.key = (k), .number = (int64_t)(v)})

void log_setup(enum log_level least, bool json);
int log_level_parse(const char *word, enum log_level *ret) must_use; // 0 or ERR_INVALID
void log_write(enum log_level level, const char *module, const char *what, const struct log_field *fields);

#define LOG_FIELDS(...) ((const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ) {0}})
#define log_error(module, what, ...) log_write(LOG_LEVEL_ERROR, module, what, LOG_FIELDS(__VA_ARGS__))
#define log_warn(module, what, ...) log_write(LOG_LEVEL_WARN, module, what, LOG_FIELDS(__VA_ARGS__))
#define log_info(module, what, ...) log_write(LOG_LEVEL_INFO, module, what, LOG_FIELDS(__VA_ARGS__))
#define log_debug(module, what, ...) log_write(LOG_LEVEL_DEBUG, module, what, LOG_FIELDS(__VA_ARGS__))

// A failure that may repeat thousands of times a second: the first is logged, then one line an interval with the
// count. One static instance a place; not shared between threads.
struct log_repeat {
    int64_t next_ns;   // monotonic; nothing is logged before
    uint64_t unsaid;   // failures since the last line
};
#define LOG_REPEAT_INTERVAL_MS 10000
void log_repeating(struct log_repeat *r, enum log_level level, const char *module, const char *what, const char *why);

#endif
