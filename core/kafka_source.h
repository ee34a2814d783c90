// SPDX-License-Identifier: Apache-2.0
// The insides of the Kafka source, for core/kafka.c, kafka_group.c, kafka_kept.c, kafka_record.c, kafka_lag.c and kafka_stir.c only.
//
// Flow: librdkafka has two queues of ours: `control` (rebalances, results of commits, errors) is always served; `records`, to which
//   every assigned partition is forwarded, only while there is credit, so that it fills up to queued.max.messages.kbytes
//   and librdkafka stops to fetch. A partition is paused only when its commit metadata is full, or it is to be revoked.
// Tags: slot of core/offsets (20 bits), partition (20), generation of its assignment (24): a tag of a partition that is gone names
//   nothing any more.
// Lives: a client outlives its source while threads work with it (refs), then it is destroyed on a thread.
#ifndef CORE_KAFKA_SOURCE_H
#define CORE_KAFKA_SOURCE_H

#include "core/base/log.h"
#include "core/kafka_impl.h"
#include "core/offsets.h"

#define KAFKA_PARTITIONS_MAX (1u << 20)
#define KAFKA_GENERATIONS (1u << 24)
#define KAFKA_CREDIT_MAX 65535u
#define KAFKA_HAND_OUT 256 // records of one on_messages

struct kafka_client {
    rd_kafka_t *rk;
    rd_kafka_queue_t *control, *records;
    struct loop *loop;
    struct kafka_source *source; // NULL: given up
    int wake_fd;                 // an eventfd
    int refs;                    // the source, and works on threads; the loop's thread only
};

struct kafka_part {
    int32_t number;
    uint32_t generation;
    struct offsets offsets;
    int64_t committed;        // -1: nothing
    bool dirty;               // something to commit
    bool revoking;            // no more of it
    bool full;                // paused: no room in the metadata
    bool resetting;           // its offset is out of range; where to go on is being asked
    uint32_t full_count;      // how many were out then
    size_t acks, acks_sent;   // not committed: since the last commit, in the one under way
    uint64_t sent_seq;        // of the commit that it is part of
    int64_t sent_offset;
    int64_t reread_ns;        // when it began to read again
    int64_t reset_again_ns;   // 0: no
    int64_t forward_until_ns;
    int reread_tries;
    char *at;                 // how source_at begins
    size_t at_len;
};

enum kafka_rebalance { REBALANCE_NONE, REBALANCE_ASSIGN, REBALANCE_REVOKE, REBALANCE_REVOKE_COMMIT };

struct kafka_source {
    struct source base;
    struct queue_consumer consumer;
    struct queue_consumer_config config; // once it is consumed from
    struct kafka_config conf;
    struct loop *loop;
    char *function;
    struct kafka_client *client; // NULL: not consumed from, closed, or to be started again
    struct io *io;
    struct timer *tick, *again, *stir;
    bool stirring;               // `stir` runs
    uint32_t stir_at;            // the partition that was asked for last
    struct defer after;
    bool consumed, paused, consumer_closed, closing, last_commit, leaving, up;
    bool stalled;                // no credit: `records` may have more
    int64_t restart_ns, close_ns; // deadlines
    void (*on_closed)(void *arg);
    void *closed_arg;
    char error[300];             // the last one; "" none

    struct kafka_part **parts;   // by number; NULL: not assigned
    struct kafka_kept **kept;    // by number; NULL: nothing (kafka_kept.c)
    uint32_t part_room, generation;
    size_t in_flight, in_flight_bytes, unsettled;
    uint64_t id_seed;
    struct queue_msg msgs[KAFKA_HAND_OUT];
    size_t msg_count;
    struct ev_header *headers;   // EV_HEADERS_MAX, room to build an event

    enum kafka_rebalance rebalance;
    rd_kafka_topic_partition_list_t *rebalance_list;
    int64_t revoke_ns, assign_again_ns, assign_wait_ms;
    struct assign_work *assign_work; // the one that counts

    bool committing, joined;     // joined: librdkafka has just said so
    int late_statistics;
    uint64_t commit_seq;
    int64_t commit_ns;           // not before; and when the one under way was sent
    struct log_repeat commit_log, error_log, record_log, assign_log;
};

static inline struct kafka_part *kafka_part_of(const struct kafka_source *s, int32_t number) {
    return number >= 0 && (uint32_t)number < s->part_room ? s->parts[number] : NULL;
}

// kafka.c
// Fetched ahead; each costs librdkafka about half a kilobyte that it does not count as bytes.
#define KAFKA_QUEUED_RECORDS 10000
// Records flow: see to it that they go on (kafka_stir.c).
void kafka_stir_soon(struct kafka_source *s);
void kafka_on_stir(void *source);
void kafka_client_ref(struct kafka_client *c);
void kafka_client_unref(struct kafka_client *c);
void kafka_source_restart(struct kafka_source *s, const char *why); // the client is beyond help: a new one, in a while
void kafka_note_error(struct kafka_source *s, const char *what, rd_kafka_resp_err_t code, const char *text);
void kafka_part_drop(struct kafka_source *s, struct kafka_part *p); // its tags are void
void kafka_part_pause(struct kafka_source *s, struct kafka_part *p, bool pause);
void kafka_part_seek(struct kafka_source *s, struct kafka_part *p, int64_t offset);

// kafka_record.c
void kafka_part_describe(struct kafka_part *p, const char *topic); // fills `at`
// The event of a record; *ret_bytes about what it occupies.
struct ev *kafka_record_event(struct kafka_source *s, const struct kafka_part *p, const rd_kafka_message_t *m, int64_t now_ms,
                              uint32_t *ret_bytes);
uint64_t kafka_id_seed(const struct kafka_config *c);

// kafka_group.c
void kafka_group_event(struct kafka_source *s, rd_kafka_event_t *event); // REBALANCE and OFFSET_COMMIT
void kafka_group_statistics(struct kafka_source *s, const char *statistics);
void kafka_group_commit_last(struct kafka_source *s); // whatever the state
void kafka_group_tick(struct kafka_source *s, int64_t now_ns);
void kafka_group_after(struct kafka_source *s); // an ack came, or an end nears: revokes and commits go on
void kafka_group_reset(struct kafka_source *s, struct kafka_part *p); // out of range
void kafka_group_drop(struct kafka_source *s); // all partitions and what is pending

// kafka_kept.c
void kafka_keep(struct kafka_source *s, const struct kafka_part *p); // it goes: keeps what of it is finished and not committed
// False: nothing was kept that fits to p->committed. Else p->offsets begins there, and there is something to commit.
bool kafka_kept_begin(struct kafka_source *s, struct kafka_part *p, struct str metadata); // of the group's commit
void kafka_kept_forget(struct kafka_source *s, int32_t number);

// kafka_lag.c
void kafka_lag(struct source *base, source_lag_fn *fn, void *arg);

#endif
