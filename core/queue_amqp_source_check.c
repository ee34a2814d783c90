// SPDX-License-Identifier: Apache-2.0
// One-off questions to somebody else's broker: is that queue there, may we consume it, is it one that can be; and the end of
// a queue that weir declared. Each runs on a thread and a connection of its own and is answered on the loop.
// What is refused closes the channel, so each question has its own. None of them changes anything or takes a message.
#include <pthread.h>

#include "core/queue_amqp_box.h"
#include "core/queue_amqp_source.h"

struct job {
    struct post post;
    pthread_t thread;
    bool started;
    struct mq_source_config *config;
    struct mq_conn conn;
    amqp_channel_t channel;
    int (*run)(struct job *j, struct err *err);
    amqp_done_fn *fn;
    void *arg;
    struct loop *loop;
    int code;
    struct err err;
};

// --- settings -------------------------------------------------------------------------------------------------------

static int check_names(const struct amqp_source_config *c, struct err *err) {
    bool queue = c->queue && *c->queue, exchange = c->exchange && *c->exchange;
    if (queue == exchange) return err_set(err, ERR_INVALID, "an AMQP trigger has either queue= or exchange= (with binding=)");
    if (!c->trigger || !*c->trigger) return err_set(err, ERR_INVALID, "an AMQP trigger needs a name");
    if (!exchange && c->binding && *c->binding)
        return err_set(err, ERR_INVALID, "binding= belongs to exchange=; a queue= is consumed as it is bound already");
    if (queue && strlen(c->queue) > 255) return err_set(err, ERR_INVALID, "queue= is longer than AMQP allows (255 bytes)");
    if (exchange && strlen(c->exchange) > 255)
        return err_set(err, ERR_INVALID, "exchange= is longer than AMQP allows (255 bytes)");
    if (c->binding && strlen(c->binding) > 255)
        return err_set(err, ERR_INVALID, "binding= is longer than AMQP allows (255 bytes)");
    if (exchange && strlen(c->trigger) > 255 - strlen("weir.trigger."))
        return err_set(err, ERR_INVALID, "the trigger's name is too long for the name of its queue (242 bytes)");
    if (c->prefetch > UINT16_MAX) return err_set(err, ERR_INVALID, "prefetch= is 1 to 65535, or auto");
    return 0;
}

int mq_source_config_read(const struct amqp_source_config *c, struct mq_source_config **ret, struct err *err) {
    struct mq_url url;
    int rc = check_names(c, err);
    if (rc == 0) rc = mq_url_parse(c->url ? c->url : "", &url, err);
    if (rc) return rc;
    struct mq_source_config *s = mem_zalloc(sizeof *s);
    const char *texts[] = {c->queue, c->exchange, c->binding, c->trigger, c->shape};
    struct str spans[array_len(texts)];
    for (size_t i = 0; i < array_len(texts); i++) {
        s->texts[i] = mem_strdup(texts[i] ? texts[i] : "");
        spans[i] = str_of(s->texts[i]);
    }
    s->url = url;
    s->from = (struct mq_foreign){.queue = spans[0],
                                  .exchange = spans[1],
                                  .binding = spans[2],
                                  .trigger = spans[3],
                                  .shape = spans[4],
                                  .declare = c->declare,
                                  .prefetch = (uint16_t)c->prefetch};
    *ret = s;
    return 0;
}

void mq_source_config_free(struct mq_source_config *s) {
    if (!s) return;
    for (size_t i = 0; i < array_len(s->texts); i++) free(s->texts[i]);
    mq_url_done(&s->url);
    free(s);
}

// --- questions ------------------------------------------------------------------------------------------------------

static int open_channel(struct job *j, struct err *err) {
    if (j->conn.lost) return ERR_UNAVAILABLE;
    return mq_conn_channel_open(&j->conn, ++j->channel, err);
}

static int look_for_exchange(struct job *j, const char *name, struct err *err) {
    int rc = open_channel(j, err);
    if (rc) return rc;
    amqp_exchange_declare(j->conn.state, j->channel, amqp_cstring_bytes(name), amqp_cstring_bytes("direct"), 1, 0, 0, 0,
                          amqp_empty_table);
    rc = mq_conn_reply(&j->conn, j->channel, err);
    if (rc == ERR_NOT_FOUND)
        return err_set(err, rc, "there is no exchange \"%.255s\" on %.80s; declare it first", name, j->config->url.at.host);
    return rc;
}

static int look_for_queue(struct job *j, const char *name, struct err *err) {
    int rc = open_channel(j, err);
    if (rc) return rc;
    uint64_t count;
    rc = mq_queue_count(&j->conn, j->channel, name, &count, err);
    if (rc == ERR_NOT_FOUND)
        return err_set(err, rc, "there is no queue \"%.255s\" on %.80s; declare it first, or say declare=true", name,
                       j->config->url.at.host);
    if (rc == ERR_CONFLICT)
        return err_set(err, ERR_INVALID, "queue \"%.255s\" is exclusive to another connection and cannot be consumed", name);
    return rc;
}

static int refuse_stream(const char *name, struct err *err) {
    return err_set(err, ERR_INVALID,
                   "queue \"%.255s\" is a stream: it is read by offset and keeps what was acknowledged, so it cannot be consumed "
                   "as a queue; use a stream client, or a Kafka trigger",
                   name);
}

// A priority that is none: RabbitMQ looks at the permission first, and then refuses.
static int may_consume(struct job *j, const char *name, struct err *err) {
    int rc = open_channel(j, err);
    if (rc) return rc;
    amqp_table_entry_t bad = {amqp_cstring_bytes("x-priority"),
                              {AMQP_FIELD_KIND_UTF8, {.bytes = amqp_cstring_bytes("none")}}};
    amqp_table_t arguments = {1, &bad};
    amqp_basic_qos(j->conn.state, j->channel, 0, 1, 0);
    rc = mq_conn_reply(&j->conn, j->channel, err);
    if (rc) return rc;
    amqp_basic_consume(j->conn.state, j->channel, amqp_cstring_bytes(name), amqp_empty_bytes, 0, 0, 0, arguments);
    rc = mq_conn_reply(&j->conn, j->channel, err);
    if (rc == ERR_CONFLICT && strstr(err->text, "stream_queue")) return refuse_stream(name, err);
    return rc == ERR_CONFLICT ? 0 : rc;
}

// As core/queue_amqp_link does: a queue type that there is not, and the refusal names the one that the queue has.
static int is_no_stream(struct job *j, const char *name, struct err *err) {
    int rc = open_channel(j, err);
    if (rc) return rc;
    amqp_table_entry_t none = {amqp_cstring_bytes("x-queue-type"),
                               {AMQP_FIELD_KIND_UTF8, {.bytes = amqp_cstring_bytes("weir-probe")}}};
    amqp_table_t arguments = {1, &none};
    amqp_queue_declare(j->conn.state, j->channel, amqp_cstring_bytes(name), 0, 1, 0, 0, arguments);
    rc = mq_conn_reply(&j->conn, j->channel, err);
    if (rc == ERR_CONFLICT && strstr(err->text, "current is 'stream'")) return refuse_stream(name, err);
    return rc == ERR_CONFLICT || rc == ERR_DENIED || rc == ERR_NOT_FOUND ? 0 : rc; // it only means: not known
}

static int run_check(struct job *j, struct err *err) {
    const struct mq_foreign *from = &j->config->from;
    cleanup_free char *queue = mq_foreign_queue_name(from);
    int rc = from->exchange.len ? look_for_exchange(j, from->exchange.data, err) : 0;
    if (rc) return rc;
    rc = look_for_queue(j, queue, err);
    if (rc == ERR_NOT_FOUND && (from->exchange.len || from->declare)) return 0;
    if (rc == 0) rc = may_consume(j, queue, err);
    if (rc == 0) rc = is_no_stream(j, queue, err);
    return rc;
}

static int run_forget(struct job *j, struct err *err) {
    cleanup_free char *queue = mq_foreign_queue_name(&j->config->from);
    int rc = open_channel(j, err);
    if (rc) return rc;
    amqp_queue_delete(j->conn.state, j->channel, amqp_cstring_bytes(queue), 0, 0);
    rc = mq_conn_reply(&j->conn, j->channel, err);
    return rc == ERR_NOT_FOUND ? 0 : rc;
}

// --- the thread -----------------------------------------------------------------------------------------------------

static void *run(void *arg) {
    struct job *j = arg;
    int rc = mq_conn_open(&j->conn, &j->config->url, "weir check", &j->err);
    if (rc && j->conn.refused) rc = j->conn.refused;
    if (rc == 0) {
        j->err = (struct err){0};
        rc = j->run(j, &j->err);
        mq_conn_close(&j->conn);
    }
    j->err.code = (enum err_code)rc;
    j->code = rc;
    loop_post(j->loop, &j->post);
    return NULL;
}

static void on_done(struct post *post) {
    struct job *j = container_of(post, struct job, post);
    static const struct err none = {0};
    if (j->started) pthread_join(j->thread, NULL);
    j->fn(j->arg, j->code, j->code ? &j->err : &none);
    mq_source_config_free(j->config);
    free(j);
}

static struct job *new_job(struct loop *loop, const struct amqp_source_config *c, amqp_done_fn *fn, void *arg) {
    struct job *j = mem_zalloc(sizeof *j);
    *j = (struct job){.post = {.fn = on_done}, .fn = fn, .arg = arg, .loop = loop, .conn = {.fd = -1}};
    j->code = mq_source_config_read(c, &j->config, &j->err);
    return j;
}

static void start_job(struct job *j) {
    if (j->code || !j->run) {
        loop_post(j->loop, &j->post);
        return;
    }
    j->started = true;
    mq_thread_start(&j->thread, run, j);
}

void amqp_check(struct loop *loop, const struct amqp_source_config *c, amqp_done_fn *fn, void *arg) {
    struct job *j = new_job(loop, c, fn, arg);
    j->run = run_check;
    start_job(j);
}

void amqp_source_forget(struct loop *loop, const struct amqp_source_config *c, amqp_done_fn *fn, void *arg) {
    struct job *j = new_job(loop, c, fn, arg);
    if (j->code == 0 && j->config->from.exchange.len) j->run = run_forget; // a queue= is not ours to delete
    start_job(j);
}
