// SPDX-License-Identifier: Apache-2.0
// What is finished of one partition of a topic: arithmetic only.
//
// Owns: the records that are out (taken, not finished), in the order of their offsets, and the runs that the committed
//   metadata says are finished. Flow: offsets_begin -> offsets_take for each record read -> offsets_finish or
//   offsets_release -> offsets_commit_point and offsets_encode for a commit.
// Every offset below the position that is not out counts as finished: gaps (compaction, control records, aborted transactions)
//   never come back. After a release: offsets_reread, read from there again, and what was finished or is out is skipped.
// Metadata: a version character, then base64 of a checksum (over the committed offset too) and of varint lengths: unfinished,
//   finished, unfinished, ... from the commit point. What others wrote, and what is broken, is ignored.
// Threads: one. Memory: 40 bytes for each record that is out; at most OFFSETS_RUNS_MAX runs. O(1) for each record.
#ifndef CORE_OFFSETS_H
#define CORE_OFFSETS_H

#include <stdint.h>

#include "core/base/mem.h"

#define OFFSETS_TEXT_MAX 4000 // brokers take 4096 (offset.metadata.max.bytes)
#define OFFSETS_RUNS_MAX 1500 // as many as the text may hold
#define OFFSETS_NONE UINT32_MAX

struct offsets_run {
    int64_t start, end; // finished; end is exclusive
};
struct offsets_out { // a record that is out
    int64_t from;    // after the record before it, so [from, offset] has no other record
    int64_t offset;
    uint32_t prev, next;
    uint32_t bytes;     // the caller's
    uint16_t deliveries; // before this one
    bool used, released;
};
struct offsets {         // a zeroed one is empty
    int64_t position;    // what is read next for the first time
    struct offsets_out *slots;
    uint32_t room, free, head, tail;
    uint32_t count;      // out, released ones included
    uint32_t released;
    uint32_t runs;       // of neighbours that are out
    uint32_t reread;     // the next slot that reading again will meet; OFFSETS_NONE: not reading again
    struct offsets_run *known; // beyond the position, of the metadata
    size_t known_at, known_count;
};

// Begins anew at `committed`. False when there is metadata, but not ours or not for this offset: it is ignored.
bool offsets_begin(struct offsets *o, int64_t committed, struct str metadata);
// Right after offsets_begin: what another commit, at `committed`, says is finished counts as finished as well. False as offsets_begin.
bool offsets_know(struct offsets *o, int64_t committed, struct str metadata);
void offsets_done(struct offsets *o); // empty again
// False: finished, or out, already; skip it. Otherwise *ret_slot names it until it is finished.
bool offsets_take(struct offsets *o, int64_t offset, uint32_t *ret_slot) must_use;
void offsets_finish(struct offsets *o, uint32_t slot);
void offsets_release(struct offsets *o, uint32_t slot); // out still; offsets_take gives it again when it is read again
static inline bool offsets_is_out(const struct offsets *o, uint32_t slot) { // and not released
    return slot < o->room && o->slots[slot].used && !o->slots[slot].released;
}
// From now on records come again from the lowest released one: its offset. There must be one.
int64_t offsets_reread(struct offsets *o);
int64_t offsets_commit_point(const struct offsets *o);
// How many offsets from the commit point on are finished.
int64_t offsets_finished_beyond(const struct offsets *o);
// Writes the metadata and a NUL; its length. "" when nothing beyond the commit point is finished. What does not
// fit is left out at the far end: it would be run again.
size_t offsets_encode(const struct offsets *o, char out[OFFSETS_TEXT_MAX + 1]);
// Whether the metadata will fit even when the worst of what is out (up to OFFSETS_SPLITS more runs) is finished next.
#define OFFSETS_SPLITS 256
bool offsets_has_room(const struct offsets *o);

#endif
