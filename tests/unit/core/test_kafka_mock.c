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
        cmocka_unit_test_setup_teardown(test_restart_runs_only_what_is_unfinished, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
