// SPDX-License-Identifier: Apache-2.0
// What the files core/kafka*.c share. Nobody else includes this, nor librdkafka.
//
// Threads: kafka_conf_make and what it sets up may be used from any thread.
#ifndef CORE_KAFKA_IMPL_H
#define CORE_KAFKA_IMPL_H

#include <librdkafka/rdkafka.h>

#include "core/kafka.h"

// librdkafka's configuration with brokers, extra and the log callback applied; for a consumer with the group, the member's
// name and `from` (auto.offset.reset) too. NULL and err ERR_INVALID when librdkafka refuses a setting.
// The caller owns it; rd_kafka_new takes it over on success.
rd_kafka_conf_t *kafka_conf_make(const struct kafka_config *c, bool consumer, struct err *err) must_use;

// Runs work, which destroys a client, on a thread of its own that nobody waits for.
void kafka_end(void (*work)(void *arg), void *arg);

// An owning copy of everything that c points to, and its end.
void kafka_config_copy(struct kafka_config *to, const struct kafka_config *c);
void kafka_config_done(struct kafka_config *c);
// kafka_config_check for a producer: brokers and extra only.
int kafka_config_check_sink(const struct kafka_config *c, struct err *err) must_use;

#endif
