// SPDX-License-Identifier: Apache-2.0
// What is finished of partitions that are gone, and that could not be committed: the session ended while the broker was away, a commit
// was not answered in time, the client was made anew. It is the commit that was not made: an offset and its metadata.
// When the partition comes back, and the group's offset is still the one that was known, or lies between it and this one, then both say
//   what is finished: it begins where this one says, and does not run what either of them tells beyond. When others went on past it, it is
//   forgotten, as it is when the source ends.
#include "core/kafka_source.h"

struct kafka_kept {
    int64_t committed, offset; // what was known to be committed; what should have been
    size_t len;
    char text[]; // the metadata
};

void kafka_kept_forget(struct kafka_source *s, int32_t number) {
    free(s->kept[number]);
    s->kept[number] = NULL;
}

void kafka_keep(struct kafka_source *s, const struct kafka_part *p) {
    int64_t offset = offsets_commit_point(&p->offsets);
    kafka_kept_forget(s, p->number);
    if (!(p->dirty || p->sent_seq) || p->resetting || p->committed < 0 || offset < p->committed) return;
    char text[OFFSETS_TEXT_MAX + 1];
    size_t len = offsets_encode(&p->offsets, text);
    struct kafka_kept *k = s->kept[p->number] = mem_alloc(sizeof *k + len);
    *k = (struct kafka_kept){.committed = p->committed, .offset = offset, .len = len};
    memcpy(k->text, text, len);
}

bool kafka_kept_begin(struct kafka_source *s, struct kafka_part *p, struct str metadata) {
    const struct kafka_kept *k = s->kept[p->number];
    bool is_ours = k && p->committed >= k->committed && p->committed <= k->offset;
    if (is_ours) {
        MUST(offsets_begin(&p->offsets, k->offset, (struct str){k->text, k->len}));
        (void)offsets_know(&p->offsets, p->committed, metadata);
        p->dirty = true;
        log_info("kafka", "goes on where it was, which is further than what is committed", LOG_STR("trigger", s->conf.trigger),
                 LOG_INT("partition", p->number), LOG_INT("committed", p->committed), LOG_INT("goes_on_at", k->offset));
    }
    kafka_kept_forget(s, p->number);
    return is_ours;
}
