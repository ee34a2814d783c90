// SPDX-License-Identifier: Apache-2.0
// Helpers of the tests of the Kafka source: topics with records, and a reader that keeps what a source hands out.
//
// Threads: the test's. Errors: what cannot be done fails the running cmocka test.
#ifndef TESTS_SUPPORT_KAFKA_FIXTURE_H
#define TESTS_SUPPORT_KAFKA_FIXTURE_H

#include "tests/support/support.h"

#include <librdkafka/rdkafka.h>

#include "core/kafka.h"
#include "core/offload.h"

// A plain producer; `extra` is pairs of names and values, ended by NULL; may be NULL.
rd_kafka_t *plain_producer(const char *brokers, const char *const *extra);
void plain_send(rd_kafka_t *rk, const char *topic, int32_t partition, const char *key, const char *value, size_t len);
void plain_flush(rd_kafka_t *rk);
void plain_free(rd_kafka_t *rk);
// Values "<partition>:<n>" with n from `first`, count of them in each partition.
void plain_fill(const char *brokers, const char *topic, int partitions, int first, int count);
void plain_create(const char *brokers, const char *topic, int partitions, const char *const *config);
void plain_delete(const char *brokers, const char *topic);
// What the group has committed; -1 nothing. ret_metadata may be NULL; the caller frees it.
int64_t plain_committed(const char *brokers, const char *group, const char *topic, int32_t partition, char **ret_metadata);
void plain_commit(const char *brokers, const char *group, const char *topic, int32_t partition, int64_t offset,
                  const char *metadata);

struct reader {
    struct loop *loop;
    struct source *source;
    struct queue_consumer *consumer;
    struct queue_msg *msgs; // all that came, in order
    size_t count, room;
    bool *settled;
    bool ack_at_once, closed;
};
// Opens and consumes. credit 0: 10000.
void reader_open(struct reader *r, struct loop *loop, const struct kafka_config *config, size_t credit, size_t credit_bytes);
void reader_ack(struct reader *r, size_t i);
void reader_release(struct reader *r, size_t i);
void reader_ack_all(struct reader *r); // those not settled yet
void reader_close(struct reader *r);   // consumer and source; waits until it is closed; keeps msgs
void reader_done(struct reader *r);    // frees what it keeps
// How often the payload came.
size_t reader_seen(const struct reader *r, const char *payload);
size_t reader_in_flight(const struct reader *r);
// The answer of source_lag; the caller owns it.
json_t *reader_lag(struct reader *r);

#endif
