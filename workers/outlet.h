// SPDX-License-Identifier: Apache-2.0
// The outlet of a binding: what leaves by its sinks, on_success and on_failure.
//
// Flow: outlet_result (the function returned; records FINISHED) or outlet_failure (its dead letter is durable; STORING) ->
//   records are SENDING -> sink_send -> confirmed -> each record is acknowledged. A sink that fails is asked again
//   after 1 s, 2 s, … 30 s, for ever, without running the handler again; meanwhile the records stay unacknowledged and hold their keys.
// Messages: a result has the CloudEvents attributes as headers (CloudEvents 1.0, Kafka and AMQP protocol bindings) and the
//   type dev.weir.function.result; a failed record has its own headers, and weir-error-type, weir-error-message, weir-attempts,
//   weir-letter-id, weir-function, weir-source-at; with failure_shape scf or lambda it is that platform's dead-letter message (dlq/vendor_letter).
// Delivery: at least once: acknowledged last. A result that is too large for the sink makes a dead letter of its records (on_refused);
//   a failed record that is too large for its sink is told in the log: its letter is there.
// Threads: the loop's. Memory: a copy of each message under way; records under way are bounded by the consumer's credit.
#ifndef WORKERS_OUTLET_H
#define WORKERS_OUTLET_H

#include "core/binding.h"
#include "dlq/letters.h"
#include "workers/delivery.h"

#define OUTLET_AGAIN_MS 1000
#define OUTLET_AGAIN_MAX_MS 30000

struct outlet;
struct outlet_config {
    struct loop *loop;
    const struct binding *binding;
    // d is SENDING: its sink will never take the message; owned by the callee.
    void (*on_refused)(void *arg, struct delivery *d, const struct err *why);
    void (*on_idle)(void *arg); // nothing is under way any more
    void *arg;
};

struct outlet *outlet_new(const struct outlet_config *config) must_use;
// Takes the list (utlist DL); id is the call's.
void outlet_result(struct outlet *o, struct delivery *list, const struct id *id, struct str result);
// Takes d; its letter is durable.
void outlet_failure(struct outlet *o, struct delivery *d, const struct letter_draft *letter);
size_t outlet_pending(const struct outlet *o);     // messages
const char *outlet_trouble(const struct outlet *o); // what the sink said last, while something is to be sent again; or NULL
// From now on nothing is sent again: records whose message fails go back to their queue or source.
void outlet_stop(struct outlet *o);
void outlet_free(struct outlet *o); // nothing is pending

#endif
