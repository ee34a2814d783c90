// SPDX-License-Identifier: Apache-2.0
// What librdkafka calls its properties.
//
// Threads: any. Memory: see each.
#ifndef CORE_KAFKA_NAMES_H
#define CORE_KAFKA_NAMES_H

#include "core/base/buf.h"

struct kafka_properties {
    char *text;          // what `names` point into
    struct kafka_property {
        const char *name;
        bool consumer, producer; // which clients take it
    } *list;
    size_t count;
};
// The properties of the library that this program runs with, global and topic ones; it has no other way to ask.
void kafka_properties_init(struct kafka_properties *p);
void kafka_properties_done(struct kafka_properties *p);
const struct kafka_property *kafka_properties_find(const struct kafka_properties *p, const char *name);
const char *kafka_properties_nearest(const struct kafka_properties *p, const char *name); // NULL: none is near

#endif
