// SPDX-License-Identifier: Apache-2.0
// Every plain client is made for the call and gone after it, so that it minds no restart of the broker.
#include "tests/support/kafka_fixture.h"

#define WAIT_MS 60000

static rd_kafka_conf_t *plain_conf(const char *brokers, const char *const *extra) {
    char why[300];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    assert_int_equal(rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof why), RD_KAFKA_CONF_OK);
    for (; extra && *extra; extra += 2)
        if (rd_kafka_conf_set(conf, extra[0], extra[1], why, sizeof why) != RD_KAFKA_CONF_OK) fail_msg("%s", why);
    return conf;
}

static void on_delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque) {
    (void)rk, (void)opaque;
    if (m->err && m->err != RD_KAFKA_RESP_ERR__PURGE_QUEUE && m->err != RD_KAFKA_RESP_ERR__PURGE_INFLIGHT)
        fail_msg("a record was not taken: %s", rd_kafka_err2str(m->err));
}

rd_kafka_t *plain_producer(const char *brokers, const char *const *extra) {
    char why[300];
    rd_kafka_conf_t *conf = plain_conf(brokers, extra);
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivered);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (!rk) fail_msg("%s", why);
    return rk;
}

void plain_send(rd_kafka_t *rk, const char *topic, int32_t partition, const char *key, const char *value, size_t len) {
    rd_kafka_resp_err_t code;
    union { // librdkafka copies it, and would rather not say const
        const char *from;
        char *to;
    } v = {.from = value};
    while ((code = rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
                                     RD_KAFKA_V_KEY(key, key ? strlen(key) : 0), RD_KAFKA_V_VALUE(v.to, len),
                                     RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END)) == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        rd_kafka_poll(rk, 100);
    if (code) fail_msg("produce: %s", rd_kafka_err2str(code));
}

void plain_flush(rd_kafka_t *rk) {
    assert_int_equal(rd_kafka_flush(rk, WAIT_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
}

void plain_free(rd_kafka_t *rk) {
    plain_flush(rk);
    rd_kafka_destroy(rk);
}

void plain_fill(const char *brokers, const char *topic, int partitions, int first, int count) {
    rd_kafka_t *rk = plain_producer(brokers, NULL);
    for (int p = 0; p < partitions; p++)
        for (int i = first; i < first + count; i++) {
            char text[32];
            assert_int_equal(text_format(text, sizeof text, "%d:%d", p, i), 0);
            plain_send(rk, topic, p, "key", text, strlen(text));
        }
    plain_free(rk);
}

// --- topics ---------------------------------------------------------------------------------------------------------

static rd_kafka_event_t *admin_wait(rd_kafka_queue_t *q) {
    rd_kafka_event_t *event = rd_kafka_queue_poll(q, WAIT_MS);
    assert_non_null(event);
    assert_int_equal(rd_kafka_event_error(event), RD_KAFKA_RESP_ERR_NO_ERROR);
    return event;
}

static bool has_leaders(rd_kafka_t *rk, const char *topic, int partitions) {
    rd_kafka_topic_t *t = rd_kafka_topic_new(rk, topic, NULL);
    const struct rd_kafka_metadata *md = NULL;
    bool good = rd_kafka_metadata(rk, 0, t, &md, WAIT_MS) == RD_KAFKA_RESP_ERR_NO_ERROR && md->topics[0].partition_cnt == partitions;
    for (int i = 0; good && i < partitions; i++) good = md->topics[0].partitions[i].leader >= 0;
    if (md) rd_kafka_metadata_destroy(md);
    rd_kafka_topic_destroy(t);
    return good;
}

static void wait_leaders(rd_kafka_t *rk, const char *topic, int partitions) {
    int64_t until_ns = clock_mono_ns() + WAIT_MS * NS_PER_MS;
    while (!has_leaders(rk, topic, partitions))
        if (clock_mono_ns() > until_ns) fail_msg("topic %s does not get its %d leaders", topic, partitions);
}

void plain_create(const char *brokers, const char *topic, int partitions, const char *const *config) {
    rd_kafka_t *rk = plain_producer(brokers, NULL);
    rd_kafka_queue_t *q = rd_kafka_queue_new(rk);
    rd_kafka_NewTopic_t *t = rd_kafka_NewTopic_new(topic, partitions, 1, NULL, 0);
    for (; config && *config; config += 2) rd_kafka_NewTopic_set_config(t, config[0], config[1]);
    rd_kafka_CreateTopics(rk, &t, 1, NULL, q);
    rd_kafka_event_t *event = admin_wait(q);
    size_t count;
    const rd_kafka_topic_result_t **results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    assert_int_equal(rd_kafka_topic_result_error(results[0]), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_event_destroy(event);
    rd_kafka_NewTopic_destroy(t);
    wait_leaders(rk, topic, partitions);
    rd_kafka_queue_destroy(q);
    rd_kafka_destroy(rk);
}

void plain_delete(const char *brokers, const char *topic) {
    rd_kafka_t *rk = plain_producer(brokers, NULL);
    rd_kafka_queue_t *q = rd_kafka_queue_new(rk);
    rd_kafka_DeleteTopic_t *t = rd_kafka_DeleteTopic_new(topic);
    rd_kafka_DeleteTopics(rk, &t, 1, NULL, q);
    rd_kafka_event_destroy(admin_wait(q));
    rd_kafka_DeleteTopic_destroy(t);
    wait_leaders(rk, topic, 0);
    rd_kafka_queue_destroy(q);
    rd_kafka_destroy(rk);
}

// --- groups ---------------------------------------------------------------------------------------------------------

static rd_kafka_t *group_client(const char *brokers, const char *group) {
    char why[300];
    const char *extra[] = {"group.id", group, "enable.auto.commit", "false", NULL};
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, plain_conf(brokers, extra), why, sizeof why);
    assert_non_null(rk);
    return rk;
}

int64_t plain_committed(const char *brokers, const char *group, const char *topic, int32_t partition, char **ret_metadata) {
    rd_kafka_t *rk = group_client(brokers, group);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *e = rd_kafka_topic_partition_list_add(list, topic, partition);
    assert_int_equal(rd_kafka_committed(rk, list, WAIT_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
    int64_t offset = e->offset < 0 ? -1 : e->offset;
    if (ret_metadata) *ret_metadata = mem_strndup((struct str){e->metadata, e->metadata_size});
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(rk);
    return offset;
}

void plain_commit(const char *brokers, const char *group, const char *topic, int32_t partition, int64_t offset,
                  const char *metadata) {
    rd_kafka_t *rk = group_client(brokers, group);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *e = rd_kafka_topic_partition_list_add(list, topic, partition);
    e->offset = offset;
    e->metadata = mem_strdup(metadata);
    e->metadata_size = metadata ? strlen(metadata) : 0;
    assert_int_equal(rd_kafka_commit(rk, list, 0), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(rk);
}

// --- the reader -----------------------------------------------------------------------------------------------------

static void on_messages(void *arg, struct queue_msg *msgs, size_t count) {
    struct reader *r = arg;
    for (size_t i = 0; i < count; i++) {
        if (r->count == r->room) {
            r->room = r->room ? r->room * 2 : 256;
            r->msgs = mem_realloc(r->msgs, r->room * sizeof *r->msgs);
            r->settled = mem_realloc(r->settled, r->room * sizeof *r->settled);
        }
        r->msgs[r->count] = msgs[i];
        r->settled[r->count++] = false;
        if (r->ack_at_once) reader_ack(r, r->count - 1);
    }
}

void reader_open(struct reader *r, struct loop *loop, const struct kafka_config *config, size_t credit, size_t credit_bytes) {
    struct err err;
    bool ack_at_once = r->ack_at_once;
    *r = (struct reader){.loop = loop, .ack_at_once = ack_at_once};
    if (kafka_source_open(loop, config, &r->source, &err)) fail_msg("%s", err.text);
    struct queue_consumer_config consumer = {.function = STR_LIT("fn"),
                                             .credit = credit ? credit : 10000,
                                             .credit_bytes = credit_bytes ? credit_bytes : (size_t)64 << 20,
                                             .on_messages = on_messages,
                                             .arg = r};
    r->consumer = source_consume(r->source, &consumer);
}

void reader_ack(struct reader *r, size_t i) {
    assert_false(r->settled[i]);
    r->settled[i] = true;
    queue_ack(r->consumer, r->msgs[i].tag);
}

void reader_release(struct reader *r, size_t i) {
    assert_false(r->settled[i]);
    r->settled[i] = true;
    queue_release(r->consumer, r->msgs[i].tag);
}

void reader_ack_all(struct reader *r) {
    for (size_t i = 0; i < r->count; i++)
        if (!r->settled[i]) reader_ack(r, i);
}

static void on_closed(void *arg) {
    *(bool *)arg = true;
}

void reader_close(struct reader *r) {
    queue_consumer_close(r->consumer);
    source_close(r->source, on_closed, &r->closed);
    TURN_UNTIL(r->loop, r->closed);
    offload_wait(r->loop);
}

void reader_done(struct reader *r) {
    for (size_t i = 0; i < r->count; i++) ev_free(r->msgs[i].ev);
    free(r->msgs);
    free(r->settled);
    *r = (struct reader){0};
}

size_t reader_seen(const struct reader *r, const char *payload) {
    size_t n = 0;
    for (size_t i = 0; i < r->count; i++) n += str_is(r->msgs[i].ev->f.payload, payload);
    return n;
}

size_t reader_in_flight(const struct reader *r) {
    size_t n = 0;
    for (size_t i = 0; i < r->count; i++) n += !r->settled[i];
    return n;
}

static void on_lag(void *arg, int code, const struct err *err, json_t *result) {
    (void)err;
    assert_int_equal(code, ERR_OK);
    *(json_t **)arg = result;
}

json_t *reader_lag(struct reader *r) {
    json_t *result = NULL;
    source_lag(r->source, on_lag, &result);
    TURN_UNTIL(r->loop, result);
    return result;
}
