// SPDX-License-Identifier: Apache-2.0
// A binding: how one function consumes one source in place: order, batches, filter, breaker, sinks. Made by triggers/ from a
// trigger's settings, carried out by workers/.
//
// Memory: belongs to triggers/, which keeps it until the workers' `unbound` callback. Threads: the loop's.
#ifndef CORE_BINDING_H
#define CORE_BINDING_H

#include "core/filter.h"
#include "core/shape.h"
#include "core/sink.h"
#include "core/source.h"

enum order {
    ORDER_NONE,      // as parallel as the pool; failures wait in the store, as those of the function's own queue
    ORDER_PARTITION, // one call at a time for each partition
    ORDER_KEY,       // one call at a time for each key of a partition; records without a key have no order
};

#define BINDING_BATCH_MAX 10000

struct binding {
    char *name;            // the trigger's
    char *kind;            // "kafka", "amqp"
    char *function;
    struct source *source;
    enum order order;
    enum shape shape;
    size_t batch;          // most records of a call, 1..BINDING_BATCH_MAX
    size_t batch_bytes;    // most bytes of a call, as the function gets it; at most EV_PAYLOAD_MAX
    int64_t window_ms;     // how long a batch waits to be filled; 0: not at all
    size_t credit;         // most records in flight
    size_t credit_bytes;   // most bytes of them
    struct filter *filter; // NULL: all
    bool breaker;
    double breaker_share;  // of failed records in the window that opens it; 0..1
    struct sink *on_success, *on_failure; // NULL: none
    char *success_to, *success_key; // topic, or exchange and routing key, or function; "" none
    char *failure_to, *failure_key;
    const char *failure_shape; // "record", or the platform whose dead-letter message on_failure carries; NULL: record
};

#endif
