// SPDX-License-Identifier: Apache-2.0
// The parts are made from the bottom (store) to the top (gateway) and taken apart in the opposite order. Making one may
// fail; server_free takes apart whatever there is.
#include "cli/server.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/runtimes_folder.h"
#include "cli/server_parts.h"
#include "core/base/clock.h"
#include "core/base/fault.h"
#include "core/base/log.h"
#include "core/masked_url.h"
#include "core/offload.h"

#define DRAIN_LOOK_MS 10
#define KAFKA_LAST_MS 3000
#define GATEWAY_LAST_MS 2000 // for answers to go out, after the workers are done

// --- folders --------------------------------------------------------------------------------------------------------

static int make_folder(const char *path, struct err *err) {
    if (mkdir(path, 0700) == 0 || errno == EEXIST) return 0;
    return err_set_errno(err, errno == ENOSPC ? ERR_FULL : ERR_INVALID, errno, "cannot make the folder %s", path);
}

static int make_folders(struct server *s, struct err *err) {
    int rc = make_folder(s->options->data.text, err);
    if (rc) return rc;
    s->data_dir = realpath(s->options->data.text, NULL);
    if (!s->data_dir) return err_set_errno(err, ERR_INVALID, errno, "cannot use the data folder %s", s->options->data.text);
    s->code_dir = mem_printf("%s/versions", s->data_dir);
    return make_folder(s->code_dir, err);
}

// --- making ---------------------------------------------------------------------------------------------------------

static int open_stores(struct server *s, struct err *err) {
    const char *url = s->options->store.text;
    cleanup_free char *own = url[0] ? NULL : mem_printf("sqlite:%s/weir.db", s->data_dir);
    int rc = store_open(s->loop, own ? own : url, &s->store, err);
    if (rc == 0) rc = store_open_reader(s->loop, own ? own : url, STORE_READ_MS, &s->reader, err);
    if (rc == 0) rc = store_open_reader(s->loop, own ? own : url, STORE_READ_MS, &s->watcher, err);
    if (rc) {
        const struct err why = *err;
        cleanup_free char *shown = masked_url(own ? own : url);
        (void)err_set(err, rc, "the store %s: %s", shown, why.text);
    }
    bool embedded = strncmp(s->options->queue.text, "embedded:", 9) == 0;
    if (rc || !embedded || !store_is_shared(s->store)) return rc;
    cleanup_free char *queue_url = mem_printf("sqlite:%s/queue.db", s->data_dir);
    return store_open(s->loop, queue_url, &s->queue_store, err);
}

static int open_queues(struct server *s, struct err *err) {
    const struct queue_config durable = {.loop = s->loop,
                                         .url = s->options->queue.text,
                                         .store = s->queue_store ? s->queue_store : s->store,
                                         .max_messages = (uint64_t)s->options->queue_max_messages.number};
    const struct queue_config lane = {
        .loop = s->loop, .url = "memory:", .max_messages = (uint64_t)s->options->sync_backlog.number};
    int rc = queue_open(&durable, &s->queue, err);
    return rc ? rc : queue_open(&lane, &s->sync_lane, err);
}

static int open_sandbox(struct server *s, struct err *err) {
    cleanup_free char *dir = runtimes_folder(s->options->runtimes.text);
    int rc = runtimes_load(dir, &s->runtimes, err);
    return rc ? rc : sandbox_open(s->options->sandbox.text, s->data_dir, s->code_dir, &s->runtimes, &s->sandbox, err);
}

static void on_function_changed(void *arg, struct str name, struct function *fn) {
    struct server *s = arg;
    dispatch_function_changed(s->dispatch, name, fn);
    if (fn) {
        policies_look(s->policies);
        return;
    }
    triggers_function_gone(s->triggers, name);
    fnlog_forget(s->log, name);
}

static void check_version(void *arg, struct version *v, registry_done_fn *done, void *done_arg) {
    struct server *s = arg;
    dispatch_check(s->dispatch, v, done, done_arg);
}

static void on_due(void *arg, int64_t due_ms) {
    struct server *s = arg;
    due_hint(s->due, due_ms);
}

static void make_parts(struct server *s) {
    s->log = fnlog_new(s->loop, (size_t)s->options->log_bytes.number);
    s->metrics = metrics_new();
    s->status = status_new(s->loop);
    const struct registry_config registry = {.loop = s->loop,
                                             .store = s->store,
                                             .options = s->options,
                                             .check = check_version,
                                             .check_arg = s,
                                             .on_change = on_function_changed,
                                             .on_revision = server_on_revision,
                                             .change_arg = s};
    s->registry = registry_new(&registry);
    const struct ingest_config ingest = {.loop = s->loop,
                                         .registry = s->registry,
                                         .queue = s->queue,
                                         .sync_lane = s->sync_lane,
                                         .metrics = s->metrics};
    s->ingest = ingest_new(&ingest);
    server_make_replays(s);
    s->due = due_new(s->loop, s->letters, s->ingest);
    server_make_fires(s);
    const struct dispatch_config dispatch = {.loop = s->loop,
                                             .options = s->options,
                                             .registry = s->registry,
                                             .queue = s->queue,
                                             .sync_lane = s->sync_lane,
                                             .letters = s->letters,
                                             .fires = s->fires,
                                             .replays = s->replays,
                                             .ingest = s->ingest,
                                             .log = s->log,
                                             .metrics = s->metrics,
                                             .runtimes = &s->runtimes,
                                             .sandbox = s->sandbox,
                                             .on_due = on_due,
                                             .due_arg = s};
    s->dispatch = dispatch_new(&dispatch);
    server_make_bindings(s);
    server_add_status(s);
}

// The registry and the triggers are there: open the door.
static void on_triggers_loaded(void *arg, int code, const struct err *err) {
    struct server *s = arg;
    if (s->draining) return;
    struct gateway_config gateway = {.loop = s->loop,
                                           .options = s->options,
                                           .registry = s->registry,
                                           .ingest = s->ingest,
                                           .triggers = s->triggers,
                                           .fnlog = s->log,
                                           .metrics = s->metrics,
                                           .status = s->status,
                                           .ready = server_is_ready,
                                           .ready_arg = s};
    server_give_timers(s, &gateway);
    server_give_letters(s, &gateway);
    if (code) s->failed = *err;
    else if (gateway_open(&gateway, &s->gateway, &s->failed) == 0) {
        due_start(s->due);
        server_start_letters(s);
        log_info("server", "listening", LOG_STR("address", s->options->listen.text), LOG_INT("port", gateway_port(s->gateway)),
                 LOG_STR("data", s->data_dir), LOG_STR("sandbox", sandbox_kind(s->sandbox)), LOG_STR("version", WEIR_VERSION));
        return;
    }
    raise(SIGTERM); // the orderly way out
}

static void on_timers_loaded(void *arg, int code, const struct err *err) {
    struct server *s = arg;
    if (s->draining) return;
    if (code) on_triggers_loaded(s, code, err);
    else triggers_load(s->triggers, on_triggers_loaded, s);
}

static void on_loaded(void *arg, int code, const struct err *err) {
    struct server *s = arg;
    if (s->draining) return;
    if (code) {
        on_triggers_loaded(s, code, err);
        return;
    }
    fires_start(s->fires);
    timers_load(s->timers, on_timers_loaded, s);
}

static int make(struct server *s, struct err *err) {
    int rc = make_folders(s, err);
    if (rc == 0) rc = open_sandbox(s, err);
    if (rc == 0) rc = open_stores(s, err);
    if (rc == 0) rc = open_queues(s, err);
    if (rc == 0) rc = server_make_letters(s, err);
    if (rc == 0) make_parts(s);
    return rc;
}

// --- the end --------------------------------------------------------------------------------------------------------

static void on_queue_closed(void *arg) {
    struct server *s = arg;
    s->queue = NULL;
    loop_stop(s->loop);
}

static void on_lane_closed(void *arg) {
    struct server *s = arg;
    s->sync_lane = NULL;
    queue_close(s->queue, on_queue_closed, s);
}

static void on_bindings_stopped(void *arg) {
    struct server *s = arg;
    queue_close(s->sync_lane, on_lane_closed, s);
}

// Consumers are closed by now; the sources leave their groups, the queue tells what is still unconfirmed, then the loop ends.
static void close_queues(struct server *s) {
    gateway_close(s->gateway);
    s->gateway = NULL;
    dispatch_free(s->dispatch);
    s->dispatch = NULL;
    bindings_stop(s->bindings, on_bindings_stopped, s);
}

static void on_workers_done(void *arg) {
    struct server *s = arg;
    s->workers_done = true;
    s->drain_until_ns = loop_now_ns(s->loop) + GATEWAY_LAST_MS * NS_PER_MS;
}

static void look_at_drain(void *arg) {
    struct server *s = arg;
    bool late = loop_now_ns(s->loop) >= s->drain_until_ns;
    bool answered = !s->gateway || gateway_open_requests(s->gateway) == 0;
    bool sent = due_stop(s->due), fired = fires_stop(s->fires), stored = server_stop_letters(s) && sent && fired;
    if (s->workers_done && stored && (answered || late)) close_queues(s);
    else timer_start(s->drain_timer, DRAIN_LOOK_MS);
}

static void on_stop_signal(void *arg, int signo) {
    struct server *s = arg;
    if (s->draining) {
        log_warn("server", "stopped at once by a second signal", LOG_INT("signal", signo));
        _exit(128 + signo); // what is not acknowledged is still on its queue
    }
    log_info("server", "stopping: running events may finish", LOG_INT("grace_ms", s->options->grace_ms.number));
    s->draining = true;
    if (s->gateway) gateway_drain(s->gateway);
    due_stop(s->due);
    timers_stop(s->timers);
    fires_stop(s->fires);
    replays_stop(s->replays);
    bindings_drain(s->bindings);
    dispatch_drain(s->dispatch, s->options->grace_ms.number, on_workers_done, s);
    timer_start(s->drain_timer, DRAIN_LOOK_MS);
}

// Who asks a store must outlive it, since its last answers come while it is closed; who needs one to end comes before.
static void free_parts(struct server *s) {
    if (s->reader) store_close(s->reader);
    if (s->watcher) store_close(s->watcher);
    server_free_letters(s);
    due_free(s->due);
    timers_free(s->timers);
    triggers_free(s->triggers);
    fires_free(s->fires);
    bindings_free(s->bindings);
    ingest_free(s->ingest);
    registry_free(s->registry);
    status_free(s->status);
    if (s->queue_store) store_close(s->queue_store);
    if (s->store) store_close(s->store);
    server_free_readers(s);
    audit_free(s->audit);
    redact_free(s->redact);
    metrics_free(s->metrics);
    fnlog_free(s->log);
    sandbox_free(s->sandbox);
    runtimes_done(&s->runtimes);
    timer_free(s->drain_timer);
    offload_wait(s->loop); // an unpacking may still be at work
    loop_free(s->loop);
    free(s->data_dir);
    free(s->code_dir);
    free(s->node);
}

static void raise_file_limit(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

int server_run(const struct options *options, struct err *err) {
    struct server s = {.options = options, .started_ms = clock_unix_ms()};
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    const char *stall_at = getenv("WEIR_STALL_AT");
    fault_arm(stall_at ? stall_at : getenv("WEIR_CRASH_AT"), stall_at ? SIGSTOP : SIGKILL);
    json_object_seed(0);
    s.loop = loop_new();
    s.drain_timer = timer_new(s.loop, look_at_drain, &s);
    int rc = make(&s, err);
    if (rc == 0) {
        loop_on_signal(s.loop, SIGTERM, on_stop_signal, &s);
        loop_on_signal(s.loop, SIGINT, on_stop_signal, &s);
        loop_on_signal(s.loop, SIGHUP, server_on_reload_signal, &s);
        registry_load(s.registry, on_loaded, &s);
        loop_run(s.loop);
        log_info("server", "stopped");
        if (s.failed.code) {
            *err = s.failed;
            rc = s.failed.code;
        }
    }
    free_parts(&s);
    if (kafka_ended(KAFKA_LAST_MS) || rc) return rc;
    log_warn("server", "clients of Kafka are still waiting for their broker; nothing depends on them");
    _exit(0); // all that is ours is closed; the ordinary way out would pull the ground from under their threads
}
