// SPDX-License-Identifier: Apache-2.0
// A Kafka topic as a source (core/source.h): a member of a consumer group, on librdkafka.
//
// Files: kafka.c this source's life and its consumer; kafka_group.c rebalances, commits;
//   kafka_record.c the event of a record; kafka_lag.c source_lag; kafka_conf.c settings of librdkafka
//   and the check; kafka_tools.c offsets of a group (seek) and topic metadata; kafka_sink.c producing; core/offsets the
//   arithmetic of what is finished. Only files core/kafka*.c include librdkafka.
// Flow: librdkafka signals the loop (rd_kafka_queue_io_event_enable) -> drained until empty -> events -> acks -> offsets ->
//   commit every commit_ms: the oldest unfinished record's offset, with what is finished beyond it in the metadata.
// Assignment: no commit of a partition before its committed offset and metadata were fetched; records that
//   the metadata says are finished are skipped. Revoked: no new deliveries from it, wait for what runs (at most
//   revoke_ms), commit, hand over. Lost: no commit; when they come back and nobody went on meanwhile, what was finished is known still.
// Back-pressure: without credit nothing is taken from librdkafka, whose fetch queue fills up to its cap; a partition is paused
//   (rd_kafka_pause_partitions) while the metadata's room is used up; polling goes on, so max.poll.interval.ms is never tripped
//   however long handlers run.
// Memory: fetched and not delivered: queued.max.messages.kbytes is a quarter of the consumer's credit_bytes, at least 1 MiB.
#ifndef CORE_KAFKA_H
#define CORE_KAFKA_H

#include "core/sink.h"
#include "core/source.h"

struct kafka_pair {
    const char *name, *value; // of librdkafka, without "kafka."
};
struct kafka_config {          // copied
    const char *brokers;       // host:port,host:port
    const char *topic;
    const char *group;
    const char *from;          // "earliest", "latest": where a group without committed offsets begins
    const char *member;        // group.instance.id (static membership); NULL: dynamic
    const char *trigger;       // source_name of the events
    const char *shape;         // of the events
    uint64_t epoch;            // goes into the event ids: another one after each seek
    int64_t commit_ms;         // 100..60000, default 1000
    int64_t revoke_ms;         // how long a revoked partition waits for what runs; default 30000
    const struct kafka_pair *extra; // kafka.*: what librdkafka takes, TLS and SASL included
    size_t extra_count;
};
void kafka_config_init(struct kafka_config *c); // defaults

// Checks every setting without the network: ERR_INVALID names the wrong one and says what it may be. Refuses those that weir
// sets itself (enable.auto.commit, …) with the reason.
int kafka_config_check(const struct kafka_config *c, struct err *err) must_use;
// The same with the network, on a thread of its own: brokers answer, the topic exists. fn runs later, once.
// ERR_UNAVAILABLE, ERR_NOT_FOUND (lists similar topics), ERR_DENIED (SASL, ACL), ERR_INVALID.
typedef void kafka_done_fn(void *arg, int code, const struct err *err);
void kafka_check(struct loop *loop, const struct kafka_config *c, kafka_done_fn *fn, void *arg);

// ERR_INVALID as kafka_config_check. Joins the group when it is consumed from.
int kafka_source_open(struct loop *loop, const struct kafka_config *c, struct source **ret, struct err *err) must_use;

// Sets the group's offsets of all partitions, without metadata; the group must have no members (it is asked again until
// they are gone, at most wait_ms). to: "earliest", "latest", Unix ms as "time:<ms>", "offset:<partition>=<n>[,…]".
// ERR_CONFLICT: it still has members; ERR_INVALID; ERR_UNAVAILABLE. fn runs later, once.
void kafka_seek(struct loop *loop, const struct kafka_config *c, const char *to, int64_t wait_ms, kafka_done_fn *fn, void *arg);

// True when no client is being destroyed any more. Blocks, at most wait_ms: for the end of the process.
bool kafka_ended(int64_t wait_ms) must_use;

// For sinks and replays to the origin: a producer with acks=all and idempotence for the brokers (and extra) of c.
// A message's `to` is the topic.
int kafka_sink_open(struct loop *loop, const struct kafka_config *c, struct sink **ret, struct err *err) must_use;

#endif
