// SPDX-License-Identifier: Apache-2.0
// One trigger at work on this node: its source, its sinks, and the binding that the workers carry out, or its relay.
//
//   active_open ──> bound ──active_close──> unbound ──> source and sinks closed ──> on_closed, freed
//
// Owns: all of it. Threads: the loop's. Blocking: never.
#ifndef TRIGGERS_ACTIVE_H
#define TRIGGERS_ACTIVE_H

#include "triggers/bindings.h"

struct active;
// Connects and begins; a broker that is away is no error. ERR_INVALID: settings that an older or newer weir took.
int active_open(const struct bindings_config *config, const struct trigger *t, struct active **ret, struct err *err) must_use;
// gone: the trigger was removed, so what weir declared for it on the broker goes too. workers_gone: they let go already.
void active_close(struct active *a, bool gone, bool workers_gone, void (*on_closed)(void *arg, struct active *a), void *arg);
bool active_is_closing(const struct active *a);
bool active_is_relay(const struct active *a);
// Was it made from what t says?
bool active_is_of(const struct active *a, const struct trigger *t);
struct source *active_source(const struct active *a);

// A trigger's settings as the sources take them; pointers into s and t. pairs: freed by the caller.
struct kafka_config spec_kafka_config(const struct bindings_config *config, const struct spec *s, const struct trigger *t,
                                      struct kafka_pair **ret_pairs) must_use;
struct amqp_source_config spec_amqp_config(const struct spec *s, const struct trigger *t) must_use;
int spec_source_open(const struct bindings_config *config, const struct spec *s, const struct trigger *t, struct source **ret, struct err *err) must_use;
// ret is NULL for SPEC_SINK_NONE.
int spec_sink_open(const struct bindings_config *config, const struct spec *s, const struct trigger *t, const struct spec_sink *sink,
                   struct sink **ret, struct err *err) must_use;

#endif
