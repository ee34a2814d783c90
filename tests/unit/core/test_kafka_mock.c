// SPDX-License-Identifier: Apache-2.0
// The Kafka source on librdkafka's mock cluster: no broker, and errors on order.
#include "tests/support/kafka_fixture.h"

#include <librdkafka/rdkafka_mock.h>

struct mock {
    struct loop *loop;
    rd_kafka_t *rk;
    rd_kafka_mock_cluster_t *cluster;
    struct kafka_config config;
};

static int set_up(void **state) {
    struct mock *m = mem_zalloc(sizeof *m);
    char why[300];
    m->loop = loop_new();
    m->rk = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), why, sizeof why);
    m->cluster = rd_kafka_mock_cluster_new(m->rk, 1);
    assert_int_equal(rd_kafka_mock_topic_create(m->cluster, "t", 4, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
    kafka_config_init(&m->config);
    m->config.brokers = rd_kafka_mock_cluster_bootstraps(m->cluster);
    m->config.topic = "t";
    m->config.group = "g";
    m->config.from = "earliest";
    m->config.trigger = "tr";
    m->config.shape = "raw";
    m->config.commit_ms = 100;
    // The mock keeps a member that has left until its session is over, and lets the first one wait for 3 s.
    static const struct kafka_pair extra[] = {{"session.timeout.ms", "6000"}, {"heartbeat.interval.ms", "500"}};
    m->config.extra = extra;
    m->config.extra_count = array_len(extra);
    *state = m;
    return 0;
}

static int tear_down(void **state) {
    struct mock *m = *state;
    offload_wait(m->loop);
    loop_free(m->loop);
    rd_kafka_mock_cluster_destroy(m->cluster);
    rd_kafka_destroy(m->rk);
    free(m);
    return 0;
}

// --- cases ----------------------------------------------------------------------------------------------------------

static void test_all_records_come(void **state) {
    struct mock *m = *state;
    plain_fill(m->config.brokers, "t", 4, 0, 500);
    struct reader r = {.ack_at_once = true};
    reader_open(&r, m->loop, &m->config, 0, 0);
    TURN_UNTIL(m->loop, r.count == 2000);
    TURN_UNTIL(m->loop, queue_unsettled(r.consumer) == 0);
    const struct ev_fields *f = &r.msgs[0].ev->f;
    assert_int_equal(r.msgs[0].content, QUEUE_RAW);
    assert_true(str_is(f->function, "fn"));
    assert_true(str_is(f->source_kind, "kafka"));
    assert_true(str_is(f->source_name, "tr"));
    assert_true(str_is(f->shape, "raw"));
    assert_true(str_is(f->ordering_key, "key"));
    for (size_t i = 0; i < r.count; i++) {
        cleanup_free char *payload = mem_strndup(r.msgs[i].ev->f.payload);
        assert_int_equal(reader_seen(&r, payload), 1);
    }
    for (int p = 0; p < 4; p++) assert_int_equal(plain_committed(m->config.brokers, "g", "t", p, NULL), 500);
    reader_close(&r);
    reader_done(&r);
}

static void test_credit_is_kept(void **state) {
    struct mock *m = *state;
    plain_fill(m->config.brokers, "t", 4, 0, 200);
    struct reader r = {0};
    reader_open(&r, m->loop, &m->config, 70, 0);
    while (r.count < 800) {
        size_t before = r.count;
        TURN_UNTIL(m->loop, r.count > before && reader_in_flight(&r) == (r.count < 800 ? 70 : reader_in_flight(&r)));
        assert_true(reader_in_flight(&r) <= 70);
        for (int i = 0; i < 3; i++) loop_turn(m->loop, 1);
        assert_true(reader_in_flight(&r) <= 70);
        for (size_t i = 0; i < r.count; i++)
            if (!r.settled[i] && i % 3) reader_ack(&r, i); // some hold on to theirs
        for (size_t i = 0; i < before; i++)
            if (!r.settled[i]) reader_ack(&r, i);
    }
    reader_close(&r);
    reader_done(&r);
}

static void test_bytes_are_kept(void **state) {
    struct mock *m = *state;
    plain_fill(m->config.brokers, "t", 1, 0, 100);
    struct reader r = {0};
    reader_open(&r, m->loop, &m->config, 0, 1); // less than any record
    for (size_t i = 0; i < 100; i++) {
        TURN_UNTIL(m->loop, r.count == i + 1);
        loop_turn(m->loop, 1);
        assert_int_equal(r.count, i + 1);
        reader_ack(&r, i);
    }
    reader_close(&r);
    reader_done(&r);
}

static void test_released_comes_again(void **state) {
    struct mock *m = *state;
    plain_fill(m->config.brokers, "t", 1, 0, 100);
    struct reader r = {0};
    reader_open(&r, m->loop, &m->config, 0, 0);
    TURN_UNTIL(m->loop, r.count == 100);
    for (size_t i = 0; i < 100; i++)
        if (i % 10 == 5) reader_release(&r, i);
        else if (i % 10 != 6) reader_ack(&r, i); // ...6 run on
    TURN_UNTIL(m->loop, r.count == 110);
    for (size_t i = 0; i < 10; i++) {
        assert_true(str_eq(r.msgs[100 + i].ev->f.payload, r.msgs[10 * i + 5].ev->f.payload));
        assert_true(id_eq(&r.msgs[100 + i].ev->f.id, &r.msgs[10 * i + 5].ev->f.id));
        assert_int_equal(r.msgs[100 + i].delivery_count, 1);
    }
    plain_fill(m->config.brokers, "t", 1, 100, 1);
    TURN_UNTIL(m->loop, r.count == 111);
    reader_ack_all(&r);
    queue_consumer_pause(r.consumer);
    TURN_UNTIL(m->loop, queue_unsettled(r.consumer) == 0);
    assert_int_equal(plain_committed(m->config.brokers, "g", "t", 0, NULL), 101);
    reader_close(&r);
    reader_done(&r);
}

static void test_failing_requests(void **state) {
    struct mock *m = *state;
    enum { FETCH = 1, OFFSET_COMMIT = 8, OFFSET_FETCH = 9, FIND_COORDINATOR = 10 };
    plain_fill(m->config.brokers, "t", 1, 0, 100);
    rd_kafka_mock_push_request_errors(m->cluster, FIND_COORDINATOR, 2, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
                                      RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE);
    rd_kafka_mock_push_request_errors(m->cluster, OFFSET_FETCH, 3, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
                                      RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    rd_kafka_mock_push_request_errors(m->cluster, FETCH, 2, RD_KAFKA_RESP_ERR_UNKNOWN, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION);
    rd_kafka_mock_push_request_errors(m->cluster, OFFSET_COMMIT, 2, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
                                      RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE);
    struct reader r = {.ack_at_once = true};
    reader_open(&r, m->loop, &m->config, 0, 0);
    TURN_UNTIL(m->loop, r.count == 100);
    TURN_UNTIL(m->loop, queue_unsettled(r.consumer) == 0);
    assert_int_equal(plain_committed(m->config.brokers, "g", "t", 0, NULL), 100);
    reader_close(&r);
    reader_done(&r);
}

// As long as the committed offsets are not known, nothing is read, and what was committed before stays.
static void test_no_commit_before_the_committed_is_known(void **state) {
    struct mock *m = *state;
    plain_fill(m->config.brokers, "t", 1, 0, 100);
    plain_commit(m->config.brokers, "g", "t", 0, 60, "");
    rd_kafka_resp_err_t errors[12];
    for (size_t i = 0; i < array_len(errors); i++) errors[i] = RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
    enum { OFFSET_FETCH = 9 };
    rd_kafka_mock_push_request_errors_array(m->cluster, OFFSET_FETCH, 4, errors);
    struct reader r = {.ack_at_once = true};
    reader_open(&r, m->loop, &m->config, 0, 0);
    TURN_UNTIL(m->loop, r.count == 40);
    assert_true(str_is(r.msgs[0].ev->f.payload, "0:60"));
    TURN_UNTIL(m->loop, queue_unsettled(r.consumer) == 0);
    assert_int_equal(plain_committed(m->config.brokers, "g", "t", 0, NULL), 100);
    reader_close(&r);
    reader_done(&r);
}

// A broker that is gone for good does not keep anybody waiting.
static void test_close_without_a_broker(void **state) {
    struct mock *m = *state;
    plain_fill(m->config.brokers, "t", 1, 0, 10);
    struct reader r = {0};
    reader_open(&r, m->loop, &m->config, 0, 0);
    TURN_UNTIL(m->loop, r.count == 10);
    rd_kafka_mock_broker_set_down(m->cluster, 1);
    reader_ack_all(&r);
    reader_close(&r); // fails the test when it takes a minute
    reader_done(&r);
}

// Restarted while some are unfinished: exactly these come again.
static void test_restart_runs_only_what_is_unfinished(void **state) {
    struct mock *m = *state;
    plain_fill(m->config.brokers, "t", 1, 0, 300);
    struct reader r = {0};
    reader_open(&r, m->loop, &m->config, 0, 0);
    TURN_UNTIL(m->loop, r.count == 300);
    for (size_t i = 300; i-- > 0;)
        if (i != 10 && i != 77 && i != 78) reader_ack(&r, i);
    TURN_UNTIL(m->loop, queue_unsettled(r.consumer) == 0);
    struct id first = r.msgs[10].ev->f.id;
    reader_close(&r);
    reader_done(&r);
    assert_int_equal(plain_committed(m->config.brokers, "g", "t", 0, NULL), 10);

    plain_fill(m->config.brokers, "t", 1, 300, 10);
    reader_open(&r, m->loop, &m->config, 0, 0);
    TURN_UNTIL(m->loop, r.count == 13);
    assert_true(str_is(r.msgs[0].ev->f.payload, "0:10"));
    assert_true(str_is(r.msgs[1].ev->f.payload, "0:77"));
    assert_true(str_is(r.msgs[2].ev->f.payload, "0:78"));
    assert_true(str_is(r.msgs[3].ev->f.payload, "0:300"));
    assert_true(id_eq(&first, &r.msgs[0].ev->f.id));
    reader_ack_all(&r);
    reader_close(&r); // commits what was acked
    reader_done(&r);
    assert_int_equal(plain_committed(m->config.brokers, "g", "t", 0, NULL), 310);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_records_come, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_credit_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bytes_are_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_released_comes_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failing_requests, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_commit_before_the_committed_is_known, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_close_without_a_broker, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_restart_runs_only_what_is_unfinished, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
