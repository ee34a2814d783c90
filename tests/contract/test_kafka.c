// SPDX-License-Identifier: Apache-2.0
// The Kafka source against a real broker (WEIR_TEST_KAFKA, host:port): what a mock does not do as the broker does. Without
// the variable there is nothing to test with, and every case is skipped.
#include <unistd.h>

#include "tests/support/kafka_fixture.h"

struct place {
    struct loop *loop;
    struct kafka_config config;
    char topic[64], group[64];
};
static const char *brokers;
static int number;

static int set_up(void **state) {
    struct place *x = mem_zalloc(sizeof *x);
    x->loop = loop_new();
    assert_int_equal(text_format(x->topic, sizeof x->topic, "topic-%d-%d", (int)getpid(), ++number), 0);
    assert_int_equal(text_format(x->group, sizeof x->group, "group-%d-%d", (int)getpid(), number), 0);
    kafka_config_init(&x->config);
    x->config.brokers = brokers;
    x->config.topic = x->topic;
    x->config.group = x->group;
    x->config.from = "earliest";
    x->config.trigger = "tr";
    x->config.commit_ms = 100;
    *state = x;
    return 0;
}

static int tear_down(void **state) {
    struct place *x = *state;
    offload_wait(x->loop);
    loop_free(x->loop);
    free(x);
    return 0;
}

#define NEEDS_BROKER() \
    if (!brokers) skip()

static int64_t committed(const struct place *x, int32_t partition) {
    return plain_committed(brokers, x->group, x->topic, partition, NULL);
}

static struct str at_of(const struct reader *r, size_t i) {
    return r->msgs[i].ev->f.source_at;
}

static bool contains(struct str s, const char *part) {
    return memmem(s.data, s.len, part, strlen(part)) != NULL;
}

// --- cases ----------------------------------------------------------------------------------------------------------

static void test_consume_and_restart(void **state) {
    NEEDS_BROKER();
    struct place *x = *state;
    plain_create(brokers, x->topic, 2, NULL);
    plain_fill(brokers, x->topic, 2, 0, 1000);
    struct reader r = {0};
    reader_open(&r, x->loop, &x->config, 0, 0);
    TURN_UNTIL(x->loop, r.count == 2000);
    size_t kept = 0;
    for (size_t i = 0; i < r.count; i++)
        if (i % 100 != 50) reader_ack(&r, i);
        else kept++;
    TURN_UNTIL(x->loop, queue_unsettled(r.consumer) == 0);
    reader_close(&r);
    struct reader again = {.ack_at_once = true};
    reader_open(&again, x->loop, &x->config, 0, 0);
    TURN_UNTIL(x->loop, again.count == kept);
    plain_fill(brokers, x->topic, 2, 1000, 1);
    TURN_UNTIL(x->loop, again.count == kept + 2);
    for (size_t i = 0; i < kept; i++) { // what comes again is what was kept, under the same ids
        size_t found = 0;
        for (size_t k = 50; k < r.count; k += 100)
            found += id_eq(&r.msgs[k].ev->f.id, &again.msgs[i].ev->f.id) && str_eq(at_of(&r, k), at_of(&again, i));
        assert_int_equal(found, 1);
    }
    reader_close(&again);
    assert_int_equal(committed(x, 0), 1001);
    assert_int_equal(committed(x, 1), 1001);
    reader_done(&r);
    reader_done(&again);
}

static void test_closing_leaves_the_group(void **state) {
    NEEDS_BROKER();
    struct place *x = *state;
    plain_create(brokers, x->topic, 1, NULL);
    plain_fill(brokers, x->topic, 1, 0, 1);
    for (int i = 0; i < 2; i++) { // a member that did not leave would keep the second one waiting for 45 s
        struct reader r = {0};
        reader_open(&r, x->loop, &x->config, 0, 0);
        TURN_UNTIL_S(x->loop, 40, r.count == 1);
        reader_close(&r);
        reader_done(&r);
    }
}

static void test_compaction_gaps(void **state) {
    NEEDS_BROKER();
    struct place *x = *state;
    const char *const config[] = {"cleanup.policy", "compact", "segment.ms", "100", "min.cleanable.dirty.ratio", "0.01",
                                  "max.compaction.lag.ms", "100", NULL};
    plain_create(brokers, x->topic, 1, config);
    rd_kafka_t *rk = plain_producer(brokers, NULL);
    for (int i = 0; i < 1000; i++) {
        char key[16], value[16];
        assert_int_equal(text_format(key, sizeof key, "k%d", i % 7 == 3 ? i : 0), 0);
        assert_int_equal(text_format(value, sizeof value, "%d", i), 0);
        plain_send(rk, x->topic, 0, key, value, strlen(value));
    }
    plain_flush(rk);
    // A later record rolls the segment, and what is before it is compacted: read it until it is.
    size_t expected = 1 + 1000 / 7;
    for (int tries = 0;; tries++) {
        assert_true(tries < 60);
        plain_send(rk, x->topic, 0, "last", "last", 4);
        plain_flush(rk);
        struct reader r = {.ack_at_once = true};
        x->config.group = x->group;
        assert_int_equal(text_format(x->group, sizeof x->group, "group-%d-%d-%d", (int)getpid(), number, tries), 0);
        reader_open(&r, x->loop, &x->config, 0, 0);
        TURN_UNTIL(x->loop, r.count > 0 && str_is(r.msgs[r.count - 1].ev->f.payload, "last") &&
                                contains(at_of(&r, r.count - 1), ",\"offset\":1"));
        bool compacted = r.count < expected + 100;
        int64_t end = 1000 + tries + 1;
        if (compacted) TURN_UNTIL(x->loop, committed(x, 0) == end);
        reader_close(&r);
        reader_done(&r);
        if (compacted) break;
    }
    plain_free(rk);
}

static void transact(const char *topic, const char *id, int count, bool commit) {
    const char *extra[] = {"transactional.id", id, NULL};
    rd_kafka_t *rk = plain_producer(brokers, extra);
    assert_null(rd_kafka_init_transactions(rk, 60000));
    assert_null(rd_kafka_begin_transaction(rk));
    for (int i = 0; i < count; i++) plain_send(rk, topic, 0, "k", commit ? "good" : "aborted", commit ? 4 : 7);
    plain_flush(rk);
    assert_null(commit ? rd_kafka_commit_transaction(rk, 60000) : rd_kafka_abort_transaction(rk, 60000));
    rd_kafka_destroy(rk);
}

static void test_transactions(void **state) {
    NEEDS_BROKER();
    struct place *x = *state;
    plain_create(brokers, x->topic, 1, NULL);
    transact(x->topic, x->topic, 10, true);
    transact(x->topic, x->topic, 10, false);
    transact(x->topic, x->topic, 10, true);
    plain_fill(brokers, x->topic, 1, 0, 1);
    struct reader r = {.ack_at_once = true};
    reader_open(&r, x->loop, &x->config, 0, 0);
    TURN_UNTIL(x->loop, reader_seen(&r, "0:0") == 1);
    assert_int_equal(r.count, 21);
    assert_int_equal(reader_seen(&r, "good"), 20);
    TURN_UNTIL(x->loop, committed(x, 0) == 34); // 31 records, 3 markers
    reader_close(&r);
    reader_done(&r);
}

static void test_null_key_and_value(void **state) {
    NEEDS_BROKER();
    struct place *x = *state;
    plain_create(brokers, x->topic, 1, NULL);
    rd_kafka_t *rk = plain_producer(brokers, NULL);
    plain_send(rk, x->topic, 0, NULL, NULL, 0);
    plain_send(rk, x->topic, 0, "", "", 0);
    plain_send(rk, x->topic, 0, "k", "v", 1);
    plain_free(rk);
    struct reader r = {.ack_at_once = true};
    reader_open(&r, x->loop, &x->config, 0, 0);
    TURN_UNTIL(x->loop, r.count == 3);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(r.msgs[i].ev->f.payload.len, 0);
        assert_int_equal(r.msgs[i].ev->f.ordering_key.len, 0);
    }
    cleanup_free char *first = mem_printf("{\"topic\":\"%s\",\"partition\":0,\"offset\":0,\"timestamp\":%lld,\"timestampType\":"
                                          "\"CREATE_TIME\",\"tombstone\":true}",
                                          x->topic, (long long)id_unix_ms(&r.msgs[0].ev->f.id));
    assert_true(str_is(at_of(&r, 0), first));
    assert_false(contains(at_of(&r, 1), "tombstone"));
    assert_true(str_is(r.msgs[2].ev->f.ordering_key, "k"));
    reader_close(&r);
    reader_done(&r);
}

static void test_large_record_and_many_headers(void **state) {
    NEEDS_BROKER();
    struct place *x = *state;
    const char *const config[] = {"max.message.bytes", "12000000", NULL};
    plain_create(brokers, x->topic, 1, config);
    const char *const extra[] = {"message.max.bytes", "12000000", NULL};
    rd_kafka_t *rk = plain_producer(brokers, extra);
    size_t large = (size_t)10 << 20;
    cleanup_free char *bytes = mem_zalloc(large);
    plain_send(rk, x->topic, 0, "a", "small", 5);
    plain_send(rk, x->topic, 0, "a", bytes, large);
    const int counts[] = {1000, 1500};
    char body[] = "{}";
    for (int k = 0; k < 2; k++) {
        rd_kafka_headers_t *headers = rd_kafka_headers_new(8);
        rd_kafka_header_add(headers, "Content-Type", -1, "application/json", -1);
        rd_kafka_header_add(headers, "none", -1, NULL, 0);
        for (int i = 2; i < counts[k]; i++) rd_kafka_header_add(headers, "h", -1, "v", 1);
        assert_int_equal(rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(x->topic), RD_KAFKA_V_PARTITION(0), RD_KAFKA_V_VALUE(body, 2),
                                           RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END),
                         RD_KAFKA_RESP_ERR_NO_ERROR);
    }
    plain_free(rk);
    struct reader r = {.ack_at_once = true};
    reader_open(&r, x->loop, &x->config, 10, 1 << 20); // smaller than the record
    TURN_UNTIL(x->loop, r.count == 4);
    assert_int_equal(r.msgs[1].ev->f.payload.len, large);
    const struct ev_fields *f = &r.msgs[2].ev->f;
    assert_int_equal(f->header_count, 1000);
    assert_true(str_is(f->content_type, "application/json"));
    assert_true(str_is(f->headers[1].name, "none") && f->headers[1].value.len == 0);
    f = &r.msgs[3].ev->f;
    assert_int_equal(f->header_count, EV_HEADERS_MAX);
    assert_true(str_is(f->headers[EV_HEADERS_MAX - 1].name, "weir-headers-omitted"));
    assert_true(str_is(f->headers[EV_HEADERS_MAX - 1].value, "477"));
    reader_close(&r);
    reader_done(&r);
}

static void test_topic_deleted_and_made_again(void **state) {
    NEEDS_BROKER();
    struct place *x = *state;
    const struct kafka_pair extra[] = {{"topic.metadata.refresh.interval.ms", "500"}};
    x->config.extra = extra;
    x->config.extra_count = 1;
    plain_create(brokers, x->topic, 1, NULL);
    plain_fill(brokers, x->topic, 1, 0, 100);
    struct reader r = {.ack_at_once = true};
    reader_open(&r, x->loop, &x->config, 0, 0);
    TURN_UNTIL(x->loop, r.count == 100 && queue_unsettled(r.consumer) == 0);
    plain_delete(brokers, x->topic);
    plain_create(brokers, x->topic, 1, NULL);
    plain_fill(brokers, x->topic, 1, 1000, 10);
    TURN_UNTIL_S(x->loop, 90, r.count == 110);
    assert_true(str_is(r.msgs[100].ev->f.payload, "0:1000"));
    TURN_UNTIL(x->loop, committed(x, 0) == 10);
    reader_close(&r);
    reader_done(&r);
}

// The group is away while the topic is made again: what is committed, metadata too, is of another life.
static void test_stale_commit(void **state) {
    NEEDS_BROKER();
    struct place *x = *state;
    plain_create(brokers, x->topic, 1, NULL);
    plain_fill(brokers, x->topic, 1, 0, 100);
    struct reader r = {0};
    reader_open(&r, x->loop, &x->config, 0, 0);
    TURN_UNTIL(x->loop, r.count == 100);
    for (size_t i = 0; i < 100; i++)
        if (i != 50) reader_ack(&r, i);
    reader_close(&r);
    reader_done(&r);
    plain_delete(brokers, x->topic);
    plain_create(brokers, x->topic, 1, NULL);
    plain_fill(brokers, x->topic, 1, 1000, 20);
    if (committed(x, 0) < 0) plain_commit(brokers, x->group, x->topic, 0, 50, "");
    r.ack_at_once = true;
    reader_open(&r, x->loop, &x->config, 0, 0);
    TURN_UNTIL(x->loop, r.count == 20);
    assert_true(str_is(r.msgs[0].ev->f.payload, "0:1000"));
    reader_close(&r);
    reader_done(&r);
}

static void test_metadata_of_others_is_ignored(void **state) {
    NEEDS_BROKER();
    struct place *x = *state;
    plain_create(brokers, x->topic, 1, NULL);
    plain_fill(brokers, x->topic, 1, 0, 10);
    plain_commit(brokers, x->group, x->topic, 0, 4, "wAAAABgEC");
    struct reader r = {.ack_at_once = true};
    reader_open(&r, x->loop, &x->config, 0, 0);
    TURN_UNTIL(x->loop, r.count == 6);
    assert_true(str_is(r.msgs[0].ev->f.payload, "0:4"));
    reader_close(&r);
    reader_done(&r);
}

static size_t count_revoking(struct reader *r) {
    json_t *lag = reader_lag(r), *p;
    size_t i, n = 0;
    json_array_foreach(json_object_get(lag, "partitions"), i, p) {
        const char *why = json_string_value(json_object_get(p, "paused"));
        n += why && strcmp(why, "revoking") == 0;
    }
    json_decref(lag);
    return n;
}

// Two members: while the second joins and leaves, what runs ends first, and nothing is run twice.
static void test_rebalance_reruns_nothing(void **state) {
    NEEDS_BROKER();
    struct place *x = *state;
    plain_create(brokers, x->topic, 4, NULL);
    plain_fill(brokers, x->topic, 4, 0, 500);
    struct reader a = {0}, b = {.ack_at_once = true};
    x->config.revoke_ms = 600000; // longer than the test waits
    reader_open(&a, x->loop, &x->config, 0, 0);
    TURN_UNTIL(x->loop, a.count == 2000);
    for (size_t i = a.count; i-- > 0;)
        if (i % 10) reader_ack(&a, i); // the others run on, while
    reader_open(&b, x->loop, &x->config, 0, 0);
    TURN_UNTIL(x->loop, count_revoking(&a) == 2);
    plain_fill(brokers, x->topic, 4, 500, 1);
    assert_int_equal(count_revoking(&a), 2); // not handed over: records of them run
    assert_int_equal(b.count, 0);
    reader_ack_all(&a);
    TURN_UNTIL(x->loop, a.count == 2002 && b.count == 2); // it waited for acks, not for the time
    reader_ack_all(&a);
    a.ack_at_once = true;
    plain_fill(brokers, x->topic, 4, 501, 100);
    TURN_UNTIL(x->loop, a.count == 2202 && b.count == 202);
    reader_close(&b);
    plain_fill(brokers, x->topic, 4, 601, 100);
    TURN_UNTIL(x->loop, a.count == 2602);
    reader_close(&a);
    reader_done(&a);
    reader_done(&b);
}

static void test_lag(void **state) {
    NEEDS_BROKER();
    struct place *x = *state;
    plain_create(brokers, x->topic, 2, NULL);
    plain_fill(brokers, x->topic, 2, 0, 100);
    struct reader r = {0};
    reader_open(&r, x->loop, &x->config, 50, 0);
    TURN_UNTIL(x->loop, r.count == 50);
    json_t *lag = reader_lag(&r);
    json_t *partitions = json_object_get(lag, "partitions");
    assert_true(json_is_true(json_object_get(lag, "up")));
    assert_int_equal(json_array_size(partitions), 2);
    json_int_t sum = 0, in_flight = 0;
    for (size_t i = 0; i < 2; i++) {
        json_t *p = json_array_get(partitions, i);
        assert_int_equal(json_integer_value(json_object_get(p, "partition")), i);
        assert_true(json_is_true(json_object_get(p, "assigned")));
        assert_int_equal(json_integer_value(json_object_get(p, "end")), 100);
        assert_string_equal(json_string_value(json_object_get(p, "paused")), "credit");
        sum += json_integer_value(json_object_get(p, "lag"));
        in_flight += json_integer_value(json_object_get(p, "inFlight"));
    }
    assert_int_equal(sum, 200);
    assert_int_equal(in_flight, 50);
    json_decref(lag);
    reader_ack(&r, 49); // beyond the commit point: finished all the same
    lag = reader_lag(&r);
    sum = 0;
    for (size_t i = 0; i < 2; i++)
        sum += json_integer_value(json_object_get(json_array_get(json_object_get(lag, "partitions"), i), "lag"));
    assert_int_equal(sum, 199);
    json_decref(lag);
    reader_close(&r);
    reader_done(&r);
}

int main(void) {
    brokers = getenv("WEIR_TEST_KAFKA");
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_consume_and_restart), CASE(test_closing_leaves_the_group),
        CASE(test_compaction_gaps), CASE(test_transactions),
        CASE(test_null_key_and_value), CASE(test_large_record_and_many_headers),
        CASE(test_topic_deleted_and_made_again), CASE(test_stale_commit),
        CASE(test_metadata_of_others_is_ignored), CASE(test_rebalance_reruns_nothing),
        CASE(test_lag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
