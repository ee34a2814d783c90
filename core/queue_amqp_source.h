// SPDX-License-Identifier: Apache-2.0
// The settings of an AMQP source, read and kept, for the files that carry out core/amqp_source.h.
//
// Threads: any. Memory: a copy of everything; the spans of `from` point into it.
#ifndef CORE_QUEUE_AMQP_SOURCE_H
#define CORE_QUEUE_AMQP_SOURCE_H

#include "core/amqp_source.h"
#include "core/queue_amqp_conn.h"
#include "core/queue_amqp_consumer.h"

struct mq_source_config {
    struct mq_url url;
    struct mq_foreign from;
    char *texts[5]; // that `from` points into
};
// ERR_INVALID says what to do.
int mq_source_config_read(const struct amqp_source_config *c, struct mq_source_config **ret, struct err *err) must_use;
void mq_source_config_free(struct mq_source_config *c);

#endif
