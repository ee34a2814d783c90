// SPDX-License-Identifier: Apache-2.0
// The Kafka source's client of librdkafka: the settings that make it one, and its end.
//
// What the user set himself (kafka.*) wins over the sizes and times here, not over what the source's promises stand on.
// A client ends on a thread, when neither its source nor a work on another thread needs it any more.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "core/kafka_source.h"
#include "core/offload.h"

#define HEARTBEAT_MS 1000
#define STATISTICS_LEAST_MS 50
#define STATISTICS_MOST_MS 250
#define QUEUED_LEAST_BYTES ((size_t)1 << 20)

static void destroy_client(void *arg) { // on a thread
    struct kafka_client *c = arg;
    rd_kafka_queue_io_event_enable(c->control, -1, NULL, 0);
    rd_kafka_queue_io_event_enable(c->records, -1, NULL, 0);
    rd_kafka_queue_destroy(c->control);
    rd_kafka_queue_destroy(c->records);
    rd_kafka_destroy_flags(c->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

static void on_client_destroyed(void *arg) {
    struct kafka_client *c = arg;
    close(c->wake_fd);
    free(c);
}

static void *destroy_alone(void *arg) {
    destroy_client(arg);
    on_client_destroyed(arg);
    return NULL;
}

// A client that did not get out of its group may wait for its coordinator for minutes. Nobody waits for it, not even the
// process at its end.
static bool abandon_client(struct kafka_client *c) {
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all); // signals are the loop's
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread, NULL, destroy_alone, c);
    if (rc == 0) pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0;
}

void kafka_client_ref(struct kafka_client *c) {
    c->refs++;
}

void kafka_client_unref(struct kafka_client *c) {
    if (--c->refs > 0 || (!c->left && abandon_client(c))) return;
    offload_run(c->loop, destroy_client, on_client_destroyed, c);
}

static bool is_users(const struct kafka_config *c, const char *name) {
    for (size_t i = 0; i < c->extra_count; i++)
        if (strcmp(c->extra[i].name, name) == 0) return true;
    return false;
}

static void set_number(rd_kafka_conf_t *conf, const struct kafka_config *c, const char *name, size_t value) {
    char text[24], why[200];
    if (is_users(c, name)) return;
    MUST(text_format(text, sizeof text, "%zu", value) == 0);
    if (rd_kafka_conf_set(conf, name, text, why, sizeof why) != RD_KAFKA_CONF_OK)
        log_warn("kafka", "a setting of weir's own is refused", LOG_SPAN("why", str_of(why)));
}

// A record larger than fetch.max.bytes arrives nevertheless, alone (KIP-74).
static void set_sizes(rd_kafka_conf_t *conf, const struct kafka_config *c, size_t credit_bytes) {
    size_t queued = credit_bytes / 4 < QUEUED_LEAST_BYTES ? QUEUED_LEAST_BYTES : credit_bytes / 4;
    set_number(conf, c, "queued.max.messages.kbytes", queued >> 10);
    set_number(conf, c, "queued.min.messages", QUEUED_RECORDS);
    set_number(conf, c, "fetch.max.bytes", queued);
    set_number(conf, c, "fetch.message.max.bytes", queued < ((size_t)4 << 20) ? queued / 4 : QUEUED_LEAST_BYTES);
    set_number(conf, c, "fetch.error.backoff.ms", 200);
    if (!is_users(c, "fetch.queue.backoff.ms")) (void)rd_kafka_conf_set(conf, "fetch.queue.backoff.ms", "10", NULL, 0); // 2.2 has it
    set_number(conf, c, "socket.timeout.ms", 10000); // a broker that stalls is left for the next connection
    set_number(conf, c, "reconnect.backoff.max.ms", 2000);
    set_number(conf, c, "heartbeat.interval.ms", HEARTBEAT_MS); // it is how a member hears of a rebalance
}

static void set_fixed(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char why[200];
    MUST(rd_kafka_conf_set(conf, name, value, why, sizeof why) == RD_KAFKA_CONF_OK);
}

static void set_statistics(rd_kafka_conf_t *conf, const struct kafka_config *c) {
    int64_t ms = c->commit_ms / 4;
    if (ms < STATISTICS_LEAST_MS) ms = STATISTICS_LEAST_MS;
    if (ms > STATISTICS_MOST_MS) ms = STATISTICS_MOST_MS;
    char text[24];
    MUST(text_format(text, sizeof text, "%lld", (long long)ms) == 0);
    set_fixed(conf, "statistics.interval.ms", text);
}

rd_kafka_t *kafka_client_rk(const struct kafka_config *c, size_t credit_bytes, struct err *err) {
    rd_kafka_conf_t *conf = kafka_conf_make(c, true, err);
    if (!conf) return NULL;
    set_sizes(conf, c, credit_bytes);
    set_statistics(conf, c);
    set_fixed(conf, "auto.offset.reset", "error");
    set_fixed(conf, "enable.auto.commit", "false");
    set_fixed(conf, "enable.auto.offset.store", "false");
    set_fixed(conf, "enable.partition.eof", "false");
    set_fixed(conf, "allow.auto.create.topics", "false");
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_OFFSET_COMMIT | RD_KAFKA_EVENT_ERROR |
                                     RD_KAFKA_EVENT_STATS);
    char why[300] = "";
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (rk) return rk;
    rd_kafka_conf_destroy(conf);
    err_set(err, ERR_INVALID, "%s", why);
    return NULL;
}
