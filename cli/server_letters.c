// SPDX-License-Identifier: Apache-2.0
// The parts of the server around dead letters, and how they are joined.
#include <unistd.h>

#include "cli/server_parts.h"

// host/pid/start: two processes never have the same, and a restarted one is another.
static char *node_name(const struct server *s) {
    char host[65] = "";
    gethostname(host, sizeof host - 1);
    return mem_printf("%s/%ld/%lld", s->options->node.text[0] ? s->options->node.text : host, (long)getpid(), (long long)s->started_ms);
}

int server_make_letters(struct server *s, struct err *err) {
    int rc = redact_new(s->options->redact.text, &s->redact, err);
    if (rc) return rc;
    s->node = node_name(s);
    s->letters = letters_new(s->loop, s->store, s->reader, s->redact);
    const struct audit_config audit = {.loop = s->loop, .store = s->store, .reader = s->reader, .redact = s->redact};
    s->audit = audit_new(&audit);
    return 0;
}

void server_make_replays(struct server *s) {
    const struct replays_config replays = {.loop = s->loop,
                                           .store = s->store,
                                           .reader = s->watcher,
                                           .letters = s->letters,
                                           .ingest = s->ingest,
                                           .metrics = s->metrics,
                                           .node = s->node};
    s->replays = replays_new(&replays);
    s->groups = groups_new(s->loop, s->store, s->reader, s->redact);
    s->trials = trials_new(s->loop, s->letters, s->ingest, s->redact);
    const struct policies_config policies = {.loop = s->loop,
                                             .store = s->store,
                                             .reader = s->reader,
                                             .letters = s->letters,
                                             .replays = s->replays,
                                             .audit = s->audit,
                                             .metrics = s->metrics};
    s->policies = policies_new(&policies);
}

void server_start_letters(struct server *s) {
    replays_set_origin(s->replays, bindings_to_origin, s->bindings);
    replays_start(s->replays);
    policies_start(s->policies);
    letters_upgrade(s->letters);
}

bool server_stop_letters(struct server *s) {
    bool replays = replays_stop(s->replays), policies = policies_stop(s->policies), letters = letters_stop(s->letters);
    return audit_stop(s->audit) && replays && policies && letters;
}

void server_free_letters(struct server *s) {
    if (s->letters) letters_stop(s->letters);
    trials_free(s->trials);
    policies_free(s->policies);
    replays_free(s->replays);
    s->trials = NULL;
}

void server_free_readers(struct server *s) {
    groups_free(s->groups);
    letters_free(s->letters);
}

void server_give_letters(struct server *s, struct gateway_config *gateway) {
    gateway->letters = s->letters;
    gateway->groups = s->groups;
    gateway->replays = s->replays;
    gateway->trials = s->trials;
    gateway->policies = s->policies;
    gateway->audit = s->audit;
    gateway->redact = s->redact;
}
