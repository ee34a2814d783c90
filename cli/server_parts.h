// SPDX-License-Identifier: Apache-2.0
// The parts of the server, for the files that make up cli/server.
#ifndef CLI_SERVER_PARTS_H
#define CLI_SERVER_PARTS_H

#include "cli/server.h"
#include "core/status.h"
#include "dlq/due.h"
#include "dlq/groups.h"
#include "dlq/policies.h"
#include "dlq/replays.h"
#include "dlq/try.h"
#include "gateway/gateway.h"
#include "triggers/bindings.h"
#include "triggers/timers.h"
#include "workers/dispatch.h"

struct server {
    const struct options *options;
    struct loop *loop;
    char *data_dir, *code_dir; // absolute
    struct store *store;
    struct store *reader;      // the same database, for what people ask
    struct store *watcher;     // and for the short looks of the server's own, which do not wait behind those
    struct store *queue_store; // the embedded queue's, when the store is not SQLite; else NULL
    struct queue *queue, *sync_lane;
    struct runtimes runtimes;
    struct sandbox *sandbox;
    struct registry *registry;
    struct triggers *triggers;
    struct bindings *bindings;
    struct ingest *ingest;
    struct letters *letters;
    struct due *due;
    struct fires *fires;
    struct timers *timers;
    struct redact *redact; // NULL: nothing is masked
    struct audit *audit;
    struct groups *groups;
    struct replays *replays;
    struct trials *trials;
    struct policies *policies;
    char *node;            // unique name of this process
    struct fnlog *log;
    struct metrics *metrics;
    struct status *status;
    struct dispatch *dispatch;
    struct gateway *gateway;
    struct timer *drain_timer;
    int64_t started_ms, drain_until_ns;
    bool draining, workers_done;
    struct err failed; // why the start failed
};

void server_add_status(struct server *s);
void server_make_bindings(struct server *s);
void server_make_fires(struct server *s);
// Dead letters: server_letters.c.
int server_make_letters(struct server *s, struct err *err) must_use; // letters, before what works on them
void server_make_replays(struct server *s);                          // and groups, tries, policies: after ingest and bindings
void server_start_letters(struct server *s);
bool server_stop_letters(struct server *s); // true when nothing is under way
void server_free_letters(struct server *s); // but what may still be asking a store:
void server_free_readers(struct server *s); // after the stores are closed
void server_give_letters(struct server *s, struct gateway_config *gateway);
struct triggers_config server_triggers_config(struct server *s);
void server_give_timers(struct server *s, struct gateway_config *gateway);
void server_on_reload_signal(void *server, int signo);
void server_on_revision(void *server);
bool server_is_ready(void *server, const char **why);

#endif
