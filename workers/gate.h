// SPDX-License-Identifier: Apache-2.0
// The gate: which of a binding's records may run now, so that those of one key (or partition) run one after the other.
//
// Owns: the keys, and the records that wait (from gate_add or gate_return until gate_take or gate_drop). Flow: gate_add ->
//   gate_take makes the list of one call, whose records *hold* their keys -> gate_done for each that came to its end, or
//   gate_return for each that is to run again before all others of its key.
// Order: a key is held by at most one call; what it has in that call is contiguous and in order; what comes meanwhile
//   waits behind. Records that nothing orders go as they come. Keys take turns.
// A record that was in a call that failed may join only calls of d->joins records (workers/intake halves it): such
//   *suspects* go first and never mix with records of another number of joins.
// Two keys of the same hash (64 bits) are ordered as if they were one: harmless. Threads: the loop's. Memory: a key occupies
//   about 100 bytes while it has records here; what waits is bounded by the consumer's credit. Per record: one hash look-up.
#ifndef WORKERS_GATE_H
#define WORKERS_GATE_H

#include <uthash.h>

#include "core/binding.h"
#include "workers/delivery.h"

struct gate_key {
    uint64_t hash;
    size_t holders;                // records of it that were taken and have not ended
    struct delivery *first, *last; // what waits, in order (d->behind)
    size_t count, bytes;           // of what waits
    struct gate_key *next_spare;
    UT_hash_handle hh;
};

struct gate {
    enum order order;
    uint32_t most;                    // records of a call
    struct gate_key *keys, *spares;
    size_t spare_count;
    struct delivery *fresh, *suspect; // may go: the first of each key that nobody holds, and records without a key
    size_t ready, ready_bytes;        // records that may go, those behind the first of their key included
    size_t waiting;                   // all, those whose key is held included
};

void gate_init(struct gate *g, enum order order, size_t most);
void gate_add(struct gate *g, struct delivery *d);
// The records of the next call as a list (utlist DL), at least one and at most `most`; past the first, no more than
// `bytes` of them. NULL: none may go. `probe`: one record, of those that have not failed when there is one.
struct delivery *gate_take(struct gate *g, size_t most, size_t bytes, size_t *ret_count);
struct delivery *gate_take_probe(struct gate *g);
void gate_return(struct gate *g, struct delivery *d); // several of one key: the last of them first
void gate_done(struct gate *g, struct delivery *d);
// Takes out all that waits, or of one partition: a list. Keys that are held stay so.
struct delivery *gate_drop(struct gate *g, bool all, uint32_t partition);
bool gate_has_suspects(const struct gate *g);
size_t gate_parked_keys(const struct gate *g);        // held keys behind which something waits; walks over all
void gate_free(struct gate *g);                       // nothing waits and nothing is held

#endif
