// SPDX-License-Identifier: Apache-2.0
// Fills topics and watches consumer groups, so that every consumer is measured by the same outside observer, and consumes by
// itself, to show what librdkafka can give at most.
//
//     kafka_tool fill BROKERS TOPIC PARTITIONS COUNT BYTES KEYS   makes the topic, writes COUNT records of BYTES bytes of JSON with
//                                                  KEYS different keys in turn, waits until all are acknowledged
//     kafka_tool watch BROKERS TOPIC GROUP PARTITIONS FROM TO SECONDS   asks every 5 ms how many records the group has committed;
//                                                  prints "RECORDS SECONDS" between the first answer of at least FROM and the
//                                                  first of at least TO
//     kafka_tool consume BROKERS TOPIC GROUP FROM TO   reads batches of 1000 from the consumer queue and does nothing with
//                                                  them; prints the same by its own count
//
// Commits come in steps; both ends are moments at which a step was seen, so how often a consumer commits makes its rate
// no better and no worse.
#include <err.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOOK_NS 5000000
#define CALL_MS 10000
#define PATIENCE_S 60.0
#define BATCH 1000

static int64_t undelivered;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char text[256];
    if (rd_kafka_conf_set(conf, name, value, text, sizeof text) != RD_KAFKA_CONF_OK) errx(2, "%s", text);
}

static rd_kafka_t *open_client(rd_kafka_type_t type, rd_kafka_conf_t *conf, const char *brokers) {
    char text[256];
    set(conf, "bootstrap.servers", brokers);
    rd_kafka_t *rk = rd_kafka_new(type, conf, text, sizeof text);
    if (!rk) errx(1, "%s", text);
    return rk;
}

// ---- fill ------------------------------------------------------------------------------------------------------------------

static void on_delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *arg) {
    (void)rk, (void)arg;
    if (m->err) errx(1, "a record was not written: %s", rd_kafka_err2str(m->err));
    undelivered--;
}

static void create_topic(rd_kafka_t *rk, const char *topic, int partitions) {
    char text[256];
    rd_kafka_NewTopic_t *fresh = rd_kafka_NewTopic_new(topic, partitions, 1, text, sizeof text);
    if (!fresh) errx(2, "%s", text);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_CreateTopics(rk, &fresh, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, CALL_MS);
    if (!event || rd_kafka_event_error(event)) errx(1, "no topic: %s", event ? rd_kafka_event_error_string(event) : "no answer");
    size_t count = 0;
    const rd_kafka_topic_result_t **results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    if (rd_kafka_topic_result_error(results[0])) errx(1, "no topic: %s", rd_kafka_topic_result_error_string(results[0]));
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_NewTopic_destroy(fresh);
}

static void produce(rd_kafka_t *rk, const char *topic, int64_t count, size_t bytes, int64_t keys) {
    char *body = malloc(bytes + 64), key[32];
    for (int64_t n = 0; n < count; n++) {
        size_t key_len = (size_t)snprintf(key, sizeof key, "k-%06lld", (long long)(n % keys));
        size_t used = (size_t)sprintf(body, "{\"order\":%lld,\"customer\":\"c-%06lld\",\"pad\":\"", (long long)n, (long long)n % 99991);
        if (used + 2 > bytes) errx(2, "a record has at least %zu bytes", used + 2);
        memset(body + used, 'x', bytes - used - 2);
        memcpy(body + bytes - 2, "\"}", 2);
        rd_kafka_resp_err_t e;
        while ((e = rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_KEY(key, key_len), RD_KAFKA_V_VALUE(body, bytes),
                                      RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END)) == RD_KAFKA_RESP_ERR__QUEUE_FULL)
            rd_kafka_poll(rk, 10);
        if (e) errx(1, "a record was not written: %s", rd_kafka_err2str(e));
        undelivered++;
        if (n % 1000 == 0) rd_kafka_poll(rk, 0);
    }
    free(body);
}

static void fill(char **word) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "linger.ms", "20");
    set(conf, "batch.size", "500000"); // the size of a batch is the size of a fetch's parts, for all consumers alike
    set(conf, "queue.buffering.max.messages", "500000");
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivered);
    rd_kafka_t *rk = open_client(RD_KAFKA_PRODUCER, conf, word[0]);
    create_topic(rk, word[1], atoi(word[2]));
    produce(rk, word[1], atoll(word[3]), strtoul(word[4], NULL, 10), atoll(word[5]));
    rd_kafka_flush(rk, (int)(PATIENCE_S * 1000));
    if (undelivered) errx(1, "%lld records were not acknowledged", (long long)undelivered);
    rd_kafka_destroy(rk);
}

// ---- watch -----------------------------------------------------------------------------------------------------------------

static int64_t committed(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list) {
    if (rd_kafka_committed(rk, list, CALL_MS)) return 0; // the coordinator is not there yet
    int64_t sum = 0;
    for (int i = 0; i < list->cnt; i++)
        if (list->elems[i].offset > 0) sum += list->elems[i].offset;
    return sum;
}

static void watch(char **word) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "group.id", word[2]);
    rd_kafka_t *rk = open_client(RD_KAFKA_CONSUMER, conf, word[0]);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(8);
    rd_kafka_topic_partition_list_add_range(list, word[1], 0, atoi(word[3]) - 1);
    int64_t from = atoll(word[4]), to = atoll(word[5]), done = 0, first = 0;
    double start = 0, given_up = now_s() + atof(word[6]);
    while ((done = committed(rk, list)) < to) {
        double now = now_s();
        if (start == 0 && done >= from) {
            start = now;
            first = done;
        }
        if (now > given_up) errx(1, "only %lld of %lld records were committed in time", (long long)done, (long long)to);
        nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    }
    if (start == 0) errx(1, "all was committed at once, nothing was timed");
    printf("%lld %.6f\n", (long long)(done - first), now_s() - start);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(rk);
}

// ---- consume ---------------------------------------------------------------------------------------------------------------

// How many of them are records.
static int64_t take(rd_kafka_queue_t *queue) {
    rd_kafka_message_t *batch[BATCH];
    ssize_t got = rd_kafka_consume_batch_queue(queue, 1000, batch, BATCH);
    int64_t records = 0;
    for (ssize_t i = 0; i < got; i++) {
        if (!batch[i]->err) records++;
        rd_kafka_message_destroy(batch[i]);
    }
    return records;
}

static void consume(char **word) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "group.id", word[2]);
    set(conf, "auto.offset.reset", "earliest");
    rd_kafka_t *rk = open_client(RD_KAFKA_CONSUMER, conf, word[0]);
    rd_kafka_poll_set_consumer(rk);
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, word[1], RD_KAFKA_PARTITION_UA);
    if (rd_kafka_subscribe(rk, topics)) errx(1, "cannot subscribe");
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(rk);
    int64_t from = atoll(word[3]), to = atoll(word[4]), done = 0, first = 0;
    double start = 0, given_up = now_s() + PATIENCE_S;
    while ((done += take(queue)) < to) {
        double now = now_s();
        if (start == 0 && done >= from) {
            start = now;
            first = done;
        }
        if (now > given_up) errx(1, "only %lld of %lld records came in time", (long long)done, (long long)to);
    }
    printf("%lld %.6f\n", (long long)(done - first), now_s() - start);
    rd_kafka_queue_destroy(queue);
    rd_kafka_topic_partition_list_destroy(topics);
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        int words;
        void (*run)(char **word);
    } commands[] = {{"fill", 6, fill}, {"watch", 7, watch}, {"consume", 5, consume}};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (argc == commands[i].words + 2 && strcmp(argv[1], commands[i].name) == 0) {
            commands[i].run(argv + 2);
            return 0;
        }
    errx(2, "usage: kafka_tool fill BROKERS TOPIC PARTITIONS COUNT BYTES KEYS | watch BROKERS TOPIC GROUP PARTITIONS FROM TO SECONDS"
            " | consume BROKERS TOPIC GROUP FROM TO");
}
