// SPDX-License-Identifier: Apache-2.0
// Invariants: `flight` is in the order of the socket, its head is the event that runs (the runtime answers an event
// before the code of the next begins); the process is reaped only when pid_fd says that it has ended, and what it had
// written before is read first, so the head is blamed for a crash only when its answer really is missing.
#include "workers/instance.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utlist.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/stream.h"
#include "workers/frames.h"
#include "workers/invoke_meta.h"

#define OUT_CAP (4u * FRAME_BODY_MAX)
#define OUT_SOFT_CAP (1u << 20) // no more events are put behind so many unsent bytes
#define OUTPUT_BYTES 65536      // read at a time from descriptors 1 and 2
#define LAST_READS 64           // of the socket and of these, once the process has ended: more than the kernel holds

struct instance {
    struct instance_links links;
    struct loop *loop;
    const struct runtime *runtime;
    const struct instance_host *host;
    void *arg;
    struct fnlog *log;
    enum instance_state state;
    struct child child;
    struct stream *socket;
    bool socket_broken;    // nothing can be sent; what it sent before may still be there to read
    bool retiring;         // no more events; stops when the last is answered
    bool loading;          // INIT was sent, and neither READY nor ERROR came
    struct io *output, *end;
    struct timer *timer;   // the deadline of what is going on: load, head, stop
    struct version *version;
    struct delivery *flight;
    size_t flight_count;
    uint32_t next_seq, head_seq;
    uint32_t kill_seq;     // the head when we killed it
    int64_t head_ns;       // when the head began, as far as we know
    int64_t burst_ns;      // start of the work whose answers come next
    size_t burst_count;    // answers of this read
    int64_t service_ns;
    int64_t idle_since_ns;
    int64_t started_ns;
    struct buf log_tail;   // what the head has written
    struct buf scratch;    // for frames
    bool timed_out, blameless, killed;
    struct err broken;     // why we ended it, for the report
};

// --- reports --------------------------------------------------------------------------------------------------------

static struct outcome_report report_base(const struct instance *inst, enum outcome outcome, int64_t began_ns) {
    int64_t now_ns = loop_now_ns(inst->loop);
    int64_t ran_ns = now_ns > began_ns ? now_ns - began_ns : 0;
    return (struct outcome_report){
        .outcome = outcome,
        .start_unix_ms = loop_unix_ms(inst->loop) - ran_ns / NS_PER_MS,
        .duration_us = ran_ns / 1000,
        .instance_pid = inst->child.pid,
        .version = inst->version ? inst->version->number : 0,
        .log_tail = buf_str(&inst->log_tail),
    };
}

static void add_log(struct instance *inst, struct str text, bool of_head) {
    if (!inst->version) return;
    const struct id none = {{0}};
    const struct id *event = of_head && inst->flight ? &inst->flight->ev->f.id : &none;
    fnlog_append(inst->log, str_of(inst->version->function), inst->version->number, event, text);
    if (text.len > OUTCOME_LOG_TAIL)
        text = (struct str){text.data + text.len - OUTCOME_LOG_TAIL, OUTCOME_LOG_TAIL};
    size_t have = buf_len(&inst->log_tail);
    if (have + text.len > OUTCOME_LOG_TAIL) buf_consume(&inst->log_tail, have + text.len - OUTCOME_LOG_TAIL);
    MUST(buf_append(&inst->log_tail, text) == 0);
}

// --- the head -------------------------------------------------------------------------------------------------------

static void arm_head(struct instance *inst) {
    const struct delivery *head = inst->flight;
    if (!head) {
        timer_stop(inst->timer);
        return;
    }
    int64_t limit_ms = inst->version->settings.timeout_ms;
    timer_start(inst->timer, limit_ms - (clock_mono_ns() - inst->head_ns) / NS_PER_MS + 1);
}

// 0 stands for no invocation.
static uint32_t seq_after(uint32_t seq) {
    return seq == UINT32_MAX ? 1 : seq + 1;
}

static struct delivery *take(struct instance *inst, struct delivery *d) {
    DL_DELETE(inst->flight, d);
    inst->flight_count--;
    return d;
}

// The head is done: the next one begins now.
static void finish_head(struct instance *inst, const struct outcome_report *report) {
    struct delivery *d = take(inst, inst->flight);
    inst->head_seq = seq_after(inst->head_seq);
    delivery_move(d, DELIVERY_FINISHED);
    inst->head_ns = loop_now_ns(inst->loop);
    inst->burst_count++;
    inst->host->on_outcome(inst->arg, inst, d, report);
    buf_clear(&inst->log_tail);
    if (!inst->flight) inst->idle_since_ns = inst->head_ns;
}

// The last first: each goes back in front of the others that wait.
static void return_unbegun(struct instance *inst) {
    while (inst->flight) {
        struct delivery *d = take(inst, inst->flight->prev);
        delivery_move(d, DELIVERY_WAITING);
        inst->host->on_unbegun(inst->arg, inst, d);
    }
}

// --- ending ---------------------------------------------------------------------------------------------------------

static void kill_group(struct instance *inst) {
    if (inst->killed) return;
    inst->killed = true;
    inst->kill_seq = inst->head_seq;
    kill(-inst->child.pid, SIGKILL);
    kill(inst->child.pid, SIGKILL); // in case it has not called setsid yet
}

void instance_kill(struct instance *inst, bool blameless) {
    inst->state = INSTANCE_ENDING;
    inst->blameless |= blameless;
    if (blameless) inst->loading = false;
    kill_group(inst);
}

static void kill_cancelled(struct instance *inst) {
    if (inst->flight && inst->flight->cancelled) instance_kill(inst, false);
}

bool instance_cancel(struct instance *inst, const struct id *id) {
    struct delivery *d;
    DL_FOREACH(inst->flight, d)
        if (id_eq(&d->ev->f.id, id)) {
            d->cancelled = true;
            kill_cancelled(inst);
            return true;
        }
    return false;
}

static void protocol_error(struct instance *inst, const struct err *why) {
    if (inst->broken.code == ERR_OK) inst->broken = *why;
    instance_kill(inst, false);
}

void instance_stop(struct instance *inst) {
    MUST(!inst->flight);
    if (inst->state == INSTANCE_ENDING) return;
    inst->state = INSTANCE_ENDING;
    inst->loading = false;
    uint8_t frame[FRAME_HEADER_BYTES];
    bool sent = !inst->socket_broken && frame_header_fill(FRAME_STOP, 0, 0, frame, NULL) == 0 &&
                stream_write(inst->socket, (struct str){(const char *)frame, sizeof frame}) == 0;
    if (sent) timer_start(inst->timer, INSTANCE_STOP_MS);
    else kill_group(inst);
}

static void describe_end(struct instance *inst, int status, char out[160], const char **ret_type) {
    int signo = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    // bubblewrap passes its child's signal on as a shell would
    if (WIFEXITED(status) && WEXITSTATUS(status) > 128 && WEXITSTATUS(status) < 128 + NSIG) signo = WEXITSTATUS(status) - 128;
    *ret_type = "InstanceCrashed";
    if (inst->timed_out) {
        *ret_type = "Timeout";
        snprintf(out, 160, "it ran longer than its limit of %lld ms and was killed",
                 (long long)(inst->state == INSTANCE_ENDING && inst->version ? inst->version->settings.timeout_ms : 0));
    } else if (inst->broken.code) {
        *ret_type = "ProtocolError";
        snprintf(out, 160, "%.150s", inst->broken.text);
    } else if (signo) {
        const char *name = sigabbrev_np(signo);
        snprintf(out, 160, "the process was ended by SIG%s%s", name ? name : "?",
                 signo == SIGKILL ? " (killed, or out of memory)" : "");
    } else {
        snprintf(out, 160, "the process ended with status %d before the handler returned", WEXITSTATUS(status));
    }
}

static void blame_head(struct instance *inst, int status) {
    char text[160];
    const char *type;
    describe_end(inst, status, text, &type);
    struct outcome_report r = report_base(inst, inst->timed_out ? OUTCOME_TIMEOUT : OUTCOME_CRASH, inst->head_ns);
    r.error_type = str_of(type);
    r.error_message = str_of(text);
    finish_head(inst, &r);
}

static void blame_load(struct instance *inst, int status) {
    char text[160];
    const char *type;
    describe_end(inst, status, text, &type);
    struct outcome_report r = report_base(inst, inst->timed_out ? OUTCOME_TIMEOUT : OUTCOME_CRASH, inst->started_ns);
    r.error_type = str_of(type);
    r.error_message = str_of(inst->timed_out ? "the code did not load within 60 s" : text);
    inst->loading = false;
    inst->host->on_load_failed(inst->arg, inst, &r);
}

static void destroy(struct instance *inst) {
    stream_free(inst->socket);
    io_free(inst->output);
    io_free(inst->end);
    timer_free(inst->timer);
    close(inst->child.pid_fd);
    close(inst->child.output_fd);
    buf_done(&inst->log_tail);
    buf_done(&inst->scratch);
    version_unref(inst->version);
    free(inst);
}

static void drain_socket(struct instance *inst);
static void on_output(void *arg, int ready);

static void on_end(void *arg, int ready) {
    (void)ready;
    struct instance *inst = arg;
    kill(-inst->child.pid, SIGKILL); // what it left behind in its session, and might go on writing to us
    drain_socket(inst);
    for (int i = 0; i < LAST_READS && inst->output; i++) on_output(inst, IO_READ);
    int status = 0;
    waitpid(inst->child.pid, &status, 0);
    if (inst->loading) blame_load(inst, status);
    // Its answer came after all, just before the kill: the one behind it is not to blame.
    if (inst->killed && inst->head_seq != inst->kill_seq) inst->blameless = true;
    if (inst->flight && !inst->blameless) blame_head(inst, status);
    return_unbegun(inst);
    inst->host->on_gone(inst->arg, inst);
    destroy(inst);
}

// --- frames from the instance ---------------------------------------------------------------------------------------

static struct str json_str(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    return json_is_string(v) ? (struct str){json_string_value(v), json_string_length(v)} : STR_NONE;
}

static void handle_ready(struct instance *inst, const struct frame *f) {
    (void)f;
    if (inst->state != INSTANCE_LOADING) return;
    timer_stop(inst->timer);
    inst->state = INSTANCE_READY;
    inst->loading = false;
    inst->idle_since_ns = loop_now_ns(inst->loop);
    inst->host->on_ready(inst->arg, inst);
}

static bool is_head(struct instance *inst, const struct frame *f) {
    if (inst->flight && f->header.seq == inst->head_seq) return true;
    struct err err = {0};
    err_set(&err, ERR_INVALID, "it answered invocation %u, but %s", f->header.seq,
            inst->flight ? "another one is running" : "none is running");
    protocol_error(inst, &err);
    return false;
}

static void handle_result(struct instance *inst, const struct frame *f) {
    if (!is_head(inst, f)) return;
    struct outcome_report r = report_base(inst, OUTCOME_OK, inst->head_ns);
    r.result = f->body;
    finish_head(inst, &r);
}

static void handle_error(struct instance *inst, const struct frame *f) {
    json_t *o = json_loadb(f->body.data, f->body.len, JSON_ALLOW_NUL, NULL);
    bool load = f->header.seq == 0;
    if (load ? inst->state == INSTANCE_LOADING : is_head(inst, f)) {
        struct outcome_report r = report_base(inst, OUTCOME_ERROR, load ? inst->started_ns : inst->head_ns);
        r.error_type = json_str(o, "type");
        r.error_message = json_str(o, "message");
        r.stack = json_str(o, "stack");
        if (r.error_type.len == 0) r.error_type = STR_LIT("Error");
        if (load) {
            inst->state = INSTANCE_ENDING;
            inst->loading = false;
            timer_start(inst->timer, INSTANCE_STOP_MS);
            inst->host->on_load_failed(inst->arg, inst, &r);
        } else {
            finish_head(inst, &r);
        }
        // It ends by itself, and what comes after this event in its socket is not begun.
        if (json_is_true(json_object_get(o, "fatal"))) {
            inst->blameless = true;
            inst->state = INSTANCE_ENDING;
            timer_start(inst->timer, INSTANCE_STOP_MS);
        }
    }
    json_decref(o);
}

static void handle_log(struct instance *inst, const struct frame *f) {
    add_log(inst, f->body, f->header.seq == inst->head_seq);
}

static void handle_pong(struct instance *inst, const struct frame *f) {
    (void)inst, (void)f; // it lives: nothing else to learn
}

static void (*const handlers[])(struct instance *, const struct frame *) = {
    [FRAME_READY] = handle_ready, [FRAME_RESULT] = handle_result, [FRAME_ERROR] = handle_error,
    [FRAME_LOG] = handle_log,     [FRAME_PONG] = handle_pong,
};

// Mean time of the events that this read answered, into the running mean.
static void learn_service_time(struct instance *inst) {
    int64_t now = loop_now_ns(inst->loop);
    if (inst->burst_count) {
        int64_t sample = (now - inst->burst_ns) / (int64_t)inst->burst_count;
        inst->service_ns = inst->service_ns ? (inst->service_ns * 7 + sample) / 8 : sample;
        if (inst->service_ns < 1) inst->service_ns = 1;
        inst->burst_ns = now;
    }
    inst->burst_count = 0;
}

static void parse_frames(struct instance *inst) {
    while (!inst->broken.code) {
        struct frame f;
        size_t used;
        struct err err = {0};
        int rc = frame_parse(stream_input(inst->socket), FRAME_FROM_INSTANCE, &f, &used, &err);
        if (rc == 0) return;
        if (rc < 0) {
            protocol_error(inst, &err);
            return;
        }
        handlers[f.header.type](inst, &f);
        stream_consume(inst->socket, used);
    }
}

static void on_read(void *arg) {
    struct instance *inst = arg;
    size_t before = inst->flight_count;
    parse_frames(inst);
    learn_service_time(inst);
    if (inst->flight_count == before || inst->state != INSTANCE_READY) return;
    arm_head(inst);
    kill_cancelled(inst);
    if (inst->retiring && !inst->flight) instance_stop(inst);
    inst->host->on_room(inst->arg, inst);
}

// The process has ended: what the kernel still holds of its words, before anybody is blamed.
static void drain_socket(struct instance *inst) {
    for (int i = 0; i < LAST_READS && stream_read_now(inst->socket); i++) parse_frames(inst);
}

static void on_close(void *arg, const struct err *why) {
    struct instance *inst = arg;
    inst->socket_broken = true;
    if (inst->state == INSTANCE_ENDING && !why->code) return;
    if (why->code == ERR_TOO_LARGE) inst->broken = *why;
    timer_start(inst->timer, INSTANCE_STOP_MS); // it should be ending by itself; on_end comes then
}

static const struct stream_events socket_events = {.on_read = on_read, .on_close = on_close};

// Descriptors 1 and 2: of no certain event, but most likely of the head.
static void on_output(void *arg, int ready) {
    (void)ready;
    struct instance *inst = arg;
    if (!inst->output) return;
    char chunk[OUTPUT_BYTES];
    ssize_t n = read(inst->child.output_fd, chunk, sizeof chunk);
    if (n > 0) {
        add_log(inst, (struct str){chunk, (size_t)n}, true);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        io_free(inst->output);
        inst->output = NULL;
    }
}

// --- frames to the instance -----------------------------------------------------------------------------------------

// A socket that takes no more is broken or its instance hangs: the deadline settles it.
static void send_bytes(struct instance *inst, struct str bytes) {
    if (stream_write(inst->socket, bytes) == 0) return;
    struct err err = {0};
    err_set(&err, ERR_INTERNAL, "its socket is full");
    protocol_error(inst, &err);
}

void instance_assign(struct instance *inst, struct version *v) {
    MUST(inst->state == INSTANCE_GENERIC);
    inst->version = version_ref(v);
    inst->state = INSTANCE_LOADING;
    inst->loading = true;
    inst->started_ns = loop_now_ns(inst->loop);
    buf_clear(&inst->scratch);
    init_body_append(&inst->scratch, v);
    uint8_t head[FRAME_HEADER_BYTES];
    MUST(frame_header_fill(FRAME_INIT, 0, buf_len(&inst->scratch), head, NULL) == 0);
    send_bytes(inst, (struct str){(const char *)head, sizeof head});
    send_bytes(inst, buf_str(&inst->scratch));
    timer_start(inst->timer, INSTANCE_LOAD_MS);
}

void instance_invoke(struct instance *inst, struct delivery *d) {
    MUST(inst->state == INSTANCE_READY);
    delivery_move(d, DELIVERY_SENT);
    buf_clear(&inst->scratch);
    invoke_meta_append(&inst->scratch, d->ev, &inst->version->settings, loop_unix_ms(inst->loop));
    uint8_t head[FRAME_INVOKE_HEAD_BYTES];
    MUST(frame_invoke_fill(inst->next_seq, buf_len(&inst->scratch), d->ev->f.payload.len, head, NULL) == 0);
    inst->next_seq = seq_after(inst->next_seq);
    DL_APPEND(inst->flight, d);
    if (inst->flight_count++ == 0) {
        inst->head_ns = inst->burst_ns = loop_now_ns(inst->loop);
        buf_clear(&inst->log_tail);
        arm_head(inst);
    }
    send_bytes(inst, (struct str){(const char *)head, sizeof head});
    send_bytes(inst, buf_str(&inst->scratch));
    send_bytes(inst, d->ev->f.payload);
}

// --- time -----------------------------------------------------------------------------------------------------------

static void on_timer(void *arg) {
    struct instance *inst = arg;
    if (inst->socket_broken && inst->state != INSTANCE_ENDING) {
        struct err err = {0};
        err_set(&err, ERR_INVALID, "it closed its socket to the server, but did not end");
        protocol_error(inst, &err);
        return;
    }
    if (inst->state == INSTANCE_READY && inst->flight) {
        int64_t left_ms = inst->version->settings.timeout_ms - (clock_mono_ns() - inst->head_ns) / NS_PER_MS;
        if (left_ms > 0) { // the head has changed since the timer was set
            arm_head(inst);
            return;
        }
    }
    inst->timed_out = inst->flight || inst->state == INSTANCE_LOADING;
    instance_kill(inst, false);
}

// --- life -----------------------------------------------------------------------------------------------------------

int instance_start(struct loop *loop, const struct sandbox *sandbox, const struct runtime *rt, struct fnlog *log,
                   const struct instance_host *host, void *arg, struct instance **ret, struct err *err) {
    struct child child;
    int rc = sandbox_spawn(sandbox, rt, &child, err);
    if (rc) return rc;
    struct instance *inst = mem_zalloc(sizeof *inst);
    *inst = (struct instance){
        .loop = loop, .runtime = rt, .host = host, .arg = arg, .log = log, .child = child, .next_seq = 1, .head_seq = 1};
    buf_init(&inst->log_tail, OUTCOME_LOG_TAIL);
    buf_init(&inst->scratch, FRAME_BODY_MAX);
    inst->socket = stream_new(loop, child.socket_fd, FRAME_HEADER_BYTES + FRAME_BODY_MAX, OUT_CAP, &socket_events, inst);
    fcntl(child.output_fd, F_SETFL, O_NONBLOCK);
    inst->output = io_new(loop, child.output_fd, on_output, inst);
    io_want(inst->output, IO_READ);
    inst->end = io_new(loop, child.pid_fd, on_end, inst);
    io_want(inst->end, IO_READ);
    inst->timer = timer_new(loop, on_timer, inst);
    inst->idle_since_ns = inst->started_ns = loop_now_ns(loop);
    *ret = inst;
    return 0;
}

void instance_move(struct instance *inst, const struct instance_host *host, void *arg) {
    inst->host = host;
    inst->arg = arg;
}

size_t instance_room(const struct instance *inst) {
    if (inst->retiring || inst->state != INSTANCE_READY || inst->socket_broken || stream_unsent(inst->socket) > OUT_SOFT_CAP) return 0;
    int64_t window = inst->service_ns ? INSTANCE_PIPELINE_NS / inst->service_ns : 1;
    if (window < 1) window = 1;
    if (window > INSTANCE_PIPELINE_MAX) window = INSTANCE_PIPELINE_MAX;
    return (size_t)window > inst->flight_count ? (size_t)window - inst->flight_count : 0;
}

void instance_retire(struct instance *inst) {
    inst->retiring = true;
    if (inst->state == INSTANCE_READY && !inst->flight) instance_stop(inst);
}

bool instance_is_retiring(const struct instance *inst) {
    return inst->retiring;
}

size_t instance_in_flight(const struct instance *inst) {
    return inst->flight_count;
}

int64_t instance_service_ns(const struct instance *inst) {
    return inst->service_ns;
}

int64_t instance_idle_since_ns(const struct instance *inst) {
    return inst->idle_since_ns;
}

enum instance_state instance_state(const struct instance *inst) {
    return inst->state;
}

int instance_pid(const struct instance *inst) {
    return inst->child.pid;
}

const struct runtime *instance_runtime(const struct instance *inst) {
    return inst->runtime;
}

struct instance_links *instance_links(struct instance *inst) {
    return &inst->links;
}
