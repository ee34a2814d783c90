// SPDX-License-Identifier: Apache-2.0
// A filter when it is compiled: what core/filter_parse.c makes of the pattern and core/filter.c runs.
//
// Memory: the filter owns everything below it; nothing of the pattern's JSON is kept.
#ifndef CORE_FILTER_IMPL_H
#define CORE_FILTER_IMPL_H

#include "core/filter.h"

struct filter_text { // owned, NUL-terminated
    char *data;
    size_t len;
};
static inline struct str filter_span(const struct filter_text *t) {
    return (struct str){t->data, t->len};
}

struct filter_number {
    bool is_integer;
    int64_t integer;
    double real; // always there
};

enum filter_op {
    FILTER_NULL,
    FILTER_TRUE,
    FILTER_FALSE,
    FILTER_TEXT,     // text
    FILTER_NUMBER,   // numbers[0]
    FILTER_PREFIX,   // text
    FILTER_SUFFIX,   // text
    FILTER_WILDCARD, // parts, of `text`: the literals between the stars; the first is at the start, the last at the end
    FILTER_NUMERIC,  // compares and numbers, `count` of them
    FILTER_EXISTS,   // yes
    FILTER_CIDR,     // address, address_bytes, bits
    FILTER_NOT,      // tests, of which none may match
};
enum filter_compare { FILTER_LESS, FILTER_LESS_EQUAL, FILTER_EQUAL, FILTER_MORE_EQUAL, FILTER_MORE };

struct filter_test {
    enum filter_op op;
    bool yes;
    bool fold; // text: letters A-Z are those of a-z
    struct filter_text text;
    size_t count;
    struct str *parts;
    struct filter_test *tests;
    enum filter_compare compares[2];
    struct filter_number numbers[2];
    unsigned char address[16];
    size_t address_bytes;
    unsigned bits;
};

// X(name, word): the members of a record
#define FILTER_FIELDS(X)                                                                                                 \
    X(FILTER_KEY, "key")                                                                                                 \
    X(FILTER_HEADERS, "headers")                                                                                         \
    X(FILTER_TOPIC, "topic")                                                                                             \
    X(FILTER_PARTITION, "partition")                                                                                     \
    X(FILTER_OFFSET, "offset")                                                                                           \
    X(FILTER_TIMESTAMP, "timestamp")                                                                                     \
    X(FILTER_QUEUE, "queue")                                                                                             \
    X(FILTER_EXCHANGE, "exchange")                                                                                       \
    X(FILTER_ROUTING_KEY, "routing_key")                                                                                 \
    X(FILTER_BODY, "body")
enum filter_field {
#define X(name, word) name,
    FILTER_FIELDS(X)
#undef X
};

struct filter_object { // all members and one of each choice must match
    struct filter_member *members;
    size_t member_count;
    struct filter_choice *choices; // "$or"
    size_t choice_count;
};
struct filter_choice {
    struct filter_object *objects;
    size_t count;
};
struct filter_member {
    struct filter_text name;
    enum filter_field field; // of the record's own members
    bool is_leaf;
    struct filter_test *tests; // a leaf: one must match
    size_t test_count;
    struct filter_object object; // else
};

struct filter {
    struct filter_object record;
};

void filter_object_done(struct filter_object *o);

#endif
