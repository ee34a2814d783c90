// SPDX-License-Identifier: Apache-2.0
// The contract of core/queue.h, over every backend. Each case runs with a queue of its own and functions of its own.
// amqp takes part when WEIR_TEST_AMQP_URL says where RabbitMQ is; what only RabbitMQ can do is in test_queue_amqp.c.
#include "tests/support/queue_fixture.h"

static int set_up(void **state) {
    const enum backend *backend = *state;
    *state = fixture_new(*backend, shared_amqp_url(), 0);
    return 0;
}

static int tear_down(void **state) {
    fixture_free(*state);
    return 0;
}

static void test_publish_consume_ack(void **state) {
    struct fixture *fx = *state;
    struct str fn = fn_name(fx, "one");
    struct sent sent = {0};
    publish_number(fx, fn, 7, &sent);
    assert_int_equal(sent.calls, 0);
    TURN_UNTIL(fx->loop, sent.calls == 1);
    assert_int_equal(sent.last_code, ERR_OK);
    struct sink s = {0};
    sink_open(&s, fx, fn, 10);
    TURN_UNTIL(fx->loop, s.count == 1);
    assert_int_equal(s.msgs[0].content, QUEUE_EVENT);
    assert_int_equal(s.msgs[0].delivery_count, 0);
    assert_int_equal(number_of(s.msgs[0].ev), 7);
    queue_ack(s.c, s.msgs[0].tag);
    queue_ack(s.c, s.msgs[0].tag); // harmless
    sink_settle_all(&s);
    sink_close(&s);
    sink_open(&s, fx, fn, 10);
    publish_numbers(fx, fn, 1);
    TURN_UNTIL(fx->loop, s.count == 1);
    assert_int_equal(number_of(s.msgs[0].ev), 0); // the acknowledged one did not come again
    sink_close(&s);
}

static void test_order(void **state) {
    struct fixture *fx = *state;
    struct str fn = fn_name(fx, "order");
    publish_numbers(fx, fn, 1000);
    struct sink s = {.ack_at_once = true};
    sink_open(&s, fx, fn, 64);
    struct sent sent = {0};
    for (unsigned i = 1000; i < 2000; i++) publish_number(fx, fn, i, &sent);
    TURN_UNTIL(fx->loop, s.count == 2000 && sent.ok == 1000);
    for (unsigned i = 0; i < 2000; i++) assert_int_equal(number_of(s.msgs[i].ev), i);
    sink_settle_all(&s);
    sink_close(&s);
}

static void test_acks_out_of_order(void **state) {
    struct fixture *fx = *state;
    struct str fn = fn_name(fx, "out-of-order");
    publish_numbers(fx, fn, 300);
    struct sink s = {0};
    sink_open(&s, fx, fn, 100);
    // From the newest to the oldest, every seventh left for the end.
    size_t acked = 0;
    for (size_t seen = 0; s.count < 200;) {
        TURN_UNTIL(fx->loop, s.count == 100 + acked);
        size_t end = s.count;
        for (size_t i = end; i > seen; i--) {
            if (i % 7 == 0) continue;
            queue_ack(s.c, s.msgs[i - 1].tag);
            acked++;
        }
        seen = end;
    }
    for (size_t i = 0; i < s.count; i++) queue_ack(s.c, s.msgs[i].tag);
    TURN_UNTIL(fx->loop, s.count >= 200);
    for (size_t settled = 0; s.count < 300; settled = s.count) {
        TURN_UNTIL(fx->loop, s.count > settled);
        for (size_t i = 0; i < s.count; i++) queue_ack(s.c, s.msgs[i].tag);
    }
    TURN_UNTIL(fx->loop, s.count == 300);
    for (size_t i = 0; i < s.count; i++) queue_ack(s.c, s.msgs[i].tag);
    sink_settle_all(&s);
    sink_close(&s);
    struct depth d = ask_depth(fx, fn);
    assert_int_equal(d.ready, 0);
}

// A message through another function shows that the backend had its chance to send too much.
static void let_backend_work(struct fixture *fx) {
    struct str fn = fn_name(fx, "barrier");
    struct sink s = {.ack_at_once = true};
    sink_open(&s, fx, fn, 10);
    publish_numbers(fx, fn, 1);
    TURN_UNTIL(fx->loop, s.count == 1);
    sink_settle_all(&s);
    sink_close(&s);
}

static void test_credit(void **state) {
    struct fixture *fx = *state;
    struct str fn = fn_name(fx, "credit");
    publish_numbers(fx, fn, 20);
    struct sink s = {0};
    sink_open(&s, fx, fn, 5);
    TURN_UNTIL(fx->loop, s.count == 5);
    let_backend_work(fx);
    assert_int_equal(s.count, 5);
    queue_ack(s.c, s.msgs[0].tag);
    queue_ack(s.c, s.msgs[1].tag);
    TURN_UNTIL(fx->loop, s.count == 7);
    let_backend_work(fx);
    assert_int_equal(s.count, 7);
    struct depth d = ask_depth(fx, fn);
    assert_int_equal(d.code, ERR_OK);
    assert_int_equal(d.ready, 13);
    assert_int_equal(d.unsettled, 5);
    sink_close(&s);
}

static void test_release(void **state) {
    struct fixture *fx = *state;
    struct str fn = fn_name(fx, "release");
    publish_numbers(fx, fn, 3);
    struct sink s = {0};
    sink_open(&s, fx, fn, 3);
    TURN_UNTIL(fx->loop, s.count == 3);
    struct id id = s.msgs[1].ev->f.id;
    queue_release(s.c, s.msgs[1].tag);
    TURN_UNTIL(fx->loop, s.count == 4);
    assert_true(id_eq(&s.msgs[3].ev->f.id, &id));
    assert_int_equal(number_of(s.msgs[3].ev), 1);
    if (fx->backend != BACKEND_AMQP) assert_int_equal(s.msgs[3].delivery_count, 0);
    for (size_t i = 0; i < s.count; i++)
        if (i != 1) queue_ack(s.c, s.msgs[i].tag);
    sink_settle_all(&s);
    assert_int_equal(ask_depth(fx, fn).ready, 0);
    sink_close(&s);
}

static void test_close_gives_back(void **state) {
    struct fixture *fx = *state;
    struct str fn = fn_name(fx, "close");
    publish_numbers(fx, fn, 10);
    struct sink s = {0};
    sink_open(&s, fx, fn, 10);
    TURN_UNTIL(fx->loop, s.count == 10);
    for (size_t i = 0; i < 3; i++) queue_ack(s.c, s.msgs[i].tag);
    sink_close(&s);
    struct sink again = {.ack_at_once = true};
    sink_open(&again, fx, fn, 20);
    TURN_UNTIL(fx->loop, again.count >= 7);
    let_backend_work(fx);
    assert_int_equal(again.count, 7);
    bool seen[10] = {false};
    for (size_t i = 0; i < again.count; i++) {
        if (fx->backend != BACKEND_AMQP) assert_int_equal(again.msgs[i].delivery_count, 0);
        seen[number_of(again.msgs[i].ev)] = true;
    }
    for (size_t i = 3; i < 10; i++) assert_true(seen[i]);
    sink_settle_all(&again);
    sink_close(&again);
}

static void test_pause(void **state) {
    struct fixture *fx = *state;
    struct str fn = fn_name(fx, "pause");
    publish_numbers(fx, fn, 10);
    struct sink s = {0};
    sink_open(&s, fx, fn, 4);
    TURN_UNTIL(fx->loop, s.count == 4);
    queue_consumer_pause(s.c);
    for (size_t i = 0; i < 4; i++) queue_ack(s.c, s.msgs[i].tag);
    sink_settle_all(&s);
    let_backend_work(fx);
    assert_int_equal(s.count, 4); // no more, though there is credit
    sink_close(&s);
    assert_int_equal(ask_depth(fx, fn).ready, 6);
}

static void test_two_consumers(void **state) {
    struct fixture *fx = *state;
    struct str fn = fn_name(fx, "two");
    struct sink a = {.ack_at_once = true}, b = {.ack_at_once = true};
    sink_open(&a, fx, fn, 4);
    sink_open(&b, fx, fn, 4);
    struct sent sent = {0};
    unsigned count = 0;
    // Both get some in the end, when messages keep coming.
    while ((a.count == 0 || b.count == 0) && count < 5000) {
        publish_number(fx, fn, count++, &sent);
        loop_turn(fx->loop, 1);
    }
    TURN_UNTIL(fx->loop, a.count + b.count == count && sent.ok == count);
    assert_true(a.count > 0 && b.count > 0);
    sink_close(&a);
    sink_close(&b);
}

#define ASSERT_STR(a, b)                                     \
    do {                                                     \
        assert_int_equal((a).len, (b).len);                  \
        if ((a).len) assert_memory_equal((a).data, (b).data, (a).len); \
    } while (0)

static void assert_same(const struct ev_fields *got, const struct ev_fields *want) {
    assert_true(id_eq(&got->id, &want->id));
    assert_true(id_eq(&got->origin_id, &want->origin_id));
    assert_int_equal(got->invocation, want->invocation);
    assert_int_equal(got->attempt, want->attempt);
    assert_int_equal(got->accepted_ms, want->accepted_ms);
    assert_int_equal(got->deadline_ms, want->deadline_ms);
    ASSERT_STR(got->function, want->function);
    ASSERT_STR(got->qualifier, want->qualifier);
    ASSERT_STR(got->source_kind, want->source_kind);
    ASSERT_STR(got->source_name, want->source_name);
    ASSERT_STR(got->source_at, want->source_at);
    ASSERT_STR(got->ordering_key, want->ordering_key);
    ASSERT_STR(got->content_type, want->content_type);
    ASSERT_STR(got->trace, want->trace);
    ASSERT_STR(got->reply_to, want->reply_to);
    ASSERT_STR(got->payload, want->payload);
    ASSERT_STR(got->history, want->history);
    assert_int_equal(got->header_count, want->header_count);
    for (size_t i = 0; i < want->header_count; i++) {
        ASSERT_STR(got->headers[i].name, want->headers[i].name);
        ASSERT_STR(got->headers[i].value, want->headers[i].value);
    }
}

static void assert_round_trip(struct fixture *fx, const struct ev_fields *want) {
    struct sink s = {.ack_at_once = true};
    struct sent sent = {0};
    sink_open(&s, fx, want->function, 2);
    publish_event(fx, ev_new(want), &sent);
    TURN_UNTIL(fx->loop, sent.calls == 1 && s.count == 1);
    assert_int_equal(sent.ok, 1);
    assert_int_equal(s.msgs[0].content, QUEUE_EVENT);
    assert_same(&s.msgs[0].ev->f, want);
    sink_settle_all(&s);
    sink_close(&s);
}

static void test_every_field(void **state) {
    struct fixture *fx = *state;
    static const char payload[] = "\0\xff\x80 binary \n\0";
    struct ev_header headers[] = {
        {STR_LIT("X-One"), STR_LIT("1")},
        {STR_LIT("x-empty"), STR_NONE},
        {STR_LIT("x-one"), STR_LIT("a second one, \xc3\xa9")},
    };
    struct ev_fields f = {
        .id = id_new(),
        .origin_id = id_new(),
        .invocation = EV_SYNC,
        .attempt = 2,
        .accepted_ms = clock_unix_ms() - 12345,
        .deadline_ms = clock_unix_ms() + 600000,
        .function = fn_name(fx, "fields"),
        .qualifier = STR_LIT("3"),
        .source_kind = STR_LIT("kafka"),
        .source_name = STR_LIT("orders"),
        .source_at = STR_LIT("{\"topic\":\"t\",\"partition\":3,\"offset\":7}"),
        .ordering_key = STR_LIT("customer\0seven"),
        .content_type = STR_LIT("application/octet-stream"),
        .trace = STR_LIT("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        .reply_to = STR_LIT("node-1"),
        .payload = {payload, sizeof payload - 1},
        .history = STR_LIT("[{\"attempt\":1}]"),
        .headers = headers,
        .header_count = array_len(headers),
    };
    assert_round_trip(fx, &f);
}

static void test_payload_sizes(void **state) {
    struct fixture *fx = *state;
    char *big = mem_alloc(EV_PAYLOAD_MAX);
    for (size_t i = 0; i < EV_PAYLOAD_MAX; i++) big[i] = (char)(i * 31 >> 3);
    const size_t sizes[] = {0, 1, 4096, 131072 - 8, 131072, EV_PAYLOAD_MAX};
    for (size_t i = 0; i < array_len(sizes); i++) {
        struct ev_fields f = {
            .id = id_new(),
            .accepted_ms = clock_unix_ms(),
            .function = fn_name(fx, "sizes"),
            .payload = {big, sizes[i]},
        };
        assert_round_trip(fx, &f);
    }
    free(big);
}

static void test_many_functions(void **state) {
    struct fixture *fx = *state;
    enum { FUNCTIONS = 20, EACH = 50 };
    struct sink sinks[FUNCTIONS] = {0};
    struct sent sent = {0};
    for (size_t i = 0; i < FUNCTIONS; i++) {
        char name[16];
        snprintf(name, sizeof name, "many%zu", i);
        sinks[i].ack_at_once = true;
        sink_open(&sinks[i], fx, fn_name(fx, name), 10);
    }
    for (unsigned n = 0; n < EACH; n++)
        for (size_t i = 0; i < FUNCTIONS; i++) {
            char name[16];
            snprintf(name, sizeof name, "many%zu", i);
            publish_number(fx, fn_name(fx, name), n, &sent);
        }
    for (size_t i = 0; i < FUNCTIONS; i++) {
        TURN_UNTIL(fx->loop, sinks[i].count == EACH);
        for (unsigned n = 0; n < EACH; n++) assert_int_equal(number_of(sinks[i].msgs[n].ev), n);
    }
    TURN_UNTIL(fx->loop, sent.ok == FUNCTIONS * EACH);
    for (size_t i = 0; i < FUNCTIONS; i++) sink_close(&sinks[i]);
}

static void test_delete(void **state) {
    struct fixture *fx = *state;
    struct str fn = fn_name(fx, "delete");
    assert_int_equal(ask_depth(fx, fn).ready, 0); // of a queue that never was
    publish_numbers(fx, fn, 12);
    struct depth d = ask_depth(fx, fn);
    assert_int_equal(d.code, ERR_OK);
    assert_int_equal(d.ready, 12);
    queue_delete(fx->q, fn);
    assert_int_equal(ask_depth(fx, fn).ready, 0);
    publish_numbers(fx, fn, 3); // the function was made again
    assert_int_equal(ask_depth(fx, fn).ready, 3);
}

static void test_cap(void **state) {
    struct fixture *own = *state;
    struct fixture *fx = fixture_new(own->backend, shared_amqp_url(), 10);
    struct str fn = fn_name(fx, "cap");
    struct sent sent = {0};
    // RabbitMQ looks at the length now and then only; the others refuse the eleventh.
    while (sent.failed == 0) {
        assert_true(sent.ok < 1000);
        publish_number(fx, fn, (unsigned)sent.ok, &sent);
        size_t calls = sent.ok + 1;
        TURN_UNTIL(fx->loop, sent.calls == calls);
    }
    assert_int_equal(sent.last_code, ERR_BUSY);
    if (fx->backend != BACKEND_AMQP) assert_int_equal(sent.ok, 10);
    struct sink s = {.ack_at_once = true};
    sink_open(&s, fx, fn, 100);
    TURN_UNTIL(fx->loop, s.count == sent.ok);
    sink_settle_all(&s);
    TURN_UNTIL(fx->loop, ask_depth(fx, fn).ready == 0);
    sent = (struct sent){0};
    publish_number(fx, fn, 0, &sent);
    TURN_UNTIL(fx->loop, sent.calls == 1);
    assert_int_equal(sent.ok, 1); // there is room again
    sink_close(&s);
    fixture_free(fx);
}

static void test_close_confirms(void **state) {
    struct fixture *fx = *state;
    struct str fn = fn_name(fx, "outstanding");
    struct sent sent = {0};
    publish_numbers(fx, fn, 1);
    for (unsigned i = 0; i < 500; i++) publish_number(fx, fn, i, &sent);
    fixture_close(fx);
    assert_int_equal(sent.calls, 500);
    assert_int_equal(sent.ok, 500);
    fixture_open(fx);
    if (fx->backend != BACKEND_MEMORY) assert_int_equal(ask_depth(fx, fn).ready, 501);
}

static void test_reopen_gives_again(void **state) {
    struct fixture *fx = *state;
    if (fx->backend == BACKEND_MEMORY) return;
    struct str fn = fn_name(fx, "reopen");
    publish_numbers(fx, fn, 10);
    struct sink s = {0};
    sink_open(&s, fx, fn, 10);
    TURN_UNTIL(fx->loop, s.count == 10);
    for (size_t i = 0; i < 10; i += 2) queue_ack(s.c, s.msgs[i].tag);
    sink_close(&s);
    fixture_close(fx);
    fixture_open(fx);
    struct sink again = {0};
    sink_open(&again, fx, fn, 10);
    TURN_UNTIL(fx->loop, again.count >= 5);
    let_backend_work(fx);
    assert_int_equal(again.count, 5);
    bool seen[10] = {false};
    for (size_t i = 0; i < 5; i++) seen[number_of(again.msgs[i].ev)] = true;
    for (size_t i = 1; i < 10; i += 2) assert_true(seen[i]);
    sink_close(&again);
}

static void test_bad_urls(void **state) {
    struct fixture *fx = *state;
    static const char *const urls[] = {
        "", "nothing", "redis://x", "memory:x", "amqp://a:b@h:port/", "amqp://h/?queue_type=odd", "amqp://h/?heartbeat=0",
        "amqp://h/?no=1", "amqp://h/?heartbeat",
    };
    for (size_t i = 0; i < array_len(urls); i++) {
        struct queue_config config = {.loop = fx->loop, .url = urls[i]};
        struct queue *q = NULL;
        struct err err = {0};
        assert_int_equal(queue_open(&config, &q, &err), ERR_INVALID);
        assert_null(q);
        assert_true(err.text[0] != '\0');
    }
}

static const struct {
    const char *name;
    CMUnitTestFunction fn;
} cases[] = {
#define CASE(name) {#name, test_##name}
    CASE(publish_consume_ack), CASE(order),          CASE(acks_out_of_order), CASE(credit),        CASE(release),
    CASE(close_gives_back),    CASE(two_consumers),  CASE(pause),  CASE(every_field),       CASE(payload_sizes), CASE(many_functions),
    CASE(delete),              CASE(cap),            CASE(close_confirms),    CASE(reopen_gives_again),
    CASE(bad_urls),
};

int main(void) {
    static enum backend backends[] = {BACKEND_MEMORY, BACKEND_EMBEDDED, BACKEND_AMQP};
    static const char *const names[] = {"memory", "embedded", "amqp"};
    size_t used = shared_amqp_url() ? 3 : 2, count = 0;
    struct CMUnitTest tests[array_len(backends) * array_len(cases)] = {0};
    for (size_t b = 0; b < used; b++)
        for (size_t i = 0; i < array_len(cases); i++)
            tests[count++] = (struct CMUnitTest){mem_printf("%s: %s", names[b], cases[i].name), cases[i].fn, set_up,
                                                 tear_down, &backends[b]};
    int failed = _cmocka_run_group_tests("queue", tests, count, NULL, NULL);
    shared_amqp_end();
    for (size_t i = 0; i < count; i++) {
        union {
            const char *from;
            void *to;
        } name = {.from = tests[i].name};
        free(name.to);
    }
    return failed;
}
