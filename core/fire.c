// SPDX-License-Identifier: Apache-2.0
#include "core/fire.h"

const char *fire_overlap_word(enum fire_overlap o) {
    switch (o) {
#define X(name, word) \
    case name: return word;
        FIRE_OVERLAPS(X)
#undef X
    }
    return "unknown";
}

const char *fire_cause_word(enum fire_cause c) {
    switch (c) {
#define X(name, word) \
    case name: return word;
        FIRE_CAUSES(X)
#undef X
    }
    return "unknown";
}

const char *fire_outcome_word(enum fire_outcome o) {
    switch (o) {
#define X(name, word) \
    case name: return word;
        FIRE_OUTCOMES(X)
#undef X
    }
    return "unknown";
}

// FNV-1a, from two beginnings: id_derive keeps more bits than one has.
static uint64_t hash(struct str s, uint64_t from) {
    for (size_t i = 0; i < s.len; i++) from = (from ^ (unsigned char)s.data[i]) * 0x100000001b3;
    return from;
}

struct id fire_id(struct str trigger, int64_t created_ms, int64_t scheduled_ms) {
    return id_derive(scheduled_ms, hash(trigger, 0xcbf29ce484222325), hash(trigger, 0x84222325cbf29ce4) + (uint64_t)created_ms);
}
