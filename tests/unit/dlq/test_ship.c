// SPDX-License-Identifier: Apache-2.0
// dlq/ship: what it sends is held for as long as the queue takes.
#include "dlq/ship.h"

#include <semaphore.h>

#include "tests/support/store_fixture.h"
#include "tests/unit/dlq/world.h"

#define LEASE_MS 1500

// A queue that answers nothing until it may: its store's thread waits.
struct slow {
    struct store *store;
    struct queue *queue;
    struct ingest *ingest;
    struct call held;
    sem_t may;
};

static int wait_until_it_may(void *arg, struct sql *sql, struct err *err) {
    (void)sql, (void)err;
    sem_t *may = arg;
    sem_wait(may);
    return 0;
}

static void slow_open(struct slow *s, struct world *w) {
    struct err err = {0};
    cleanup_free char *url = mem_printf("sqlite:%s/queue.db", w->dir);
    if (store_open(w->loop, url, &s->store, &err)) fail_msg("%s", err.text);
    const struct queue_config queue = {.loop = w->loop, .url = "embedded:", .store = s->store};
    if (queue_open(&queue, &s->queue, &err)) fail_msg("%s", err.text);
    const struct ingest_config ingest = {.loop = w->loop, .registry = &w->registry, .queue = s->queue, .sync_lane = w->queue, .metrics = w->metrics};
    s->ingest = ingest_new(&ingest);
    sem_init(&s->may, 0, 0);
    submit(s->store, &s->held, wait_until_it_may, &s->may);
}

static void slow_close(struct slow *s, struct world *w) {
    bool closed = false;
    queue_close(s->queue, on_queue_closed, &closed);
    TURN_UNTIL(w->loop, closed);
    ingest_free(s->ingest);
    store_close(s->store);
    sem_destroy(&s->may);
}

struct claimed {
    bool done;
    struct letter *letters;
    size_t count;
};

static void on_claimed(void *arg, int code, const struct err *err, struct letter *letters, size_t count) {
    (void)err;
    struct claimed *c = arg;
    assert_int_equal(code, 0);
    *c = (struct claimed){.done = true, .letters = mem_array(count ? count : 1, sizeof *letters), .count = count};
    if (count) memcpy(c->letters, letters, count * sizeof *letters);
}

static struct claimed claim(struct world *w) {
    struct claimed c = {0};
    letters_claim_due(w->letters, clock_unix_ms(), LEASE_MS, 16, on_claimed, &c);
    TURN_UNTIL(w->loop, c.done);
    return c;
}

static int read_lease(void *arg, struct sql *sql, struct err *err) {
    return sql_exec(sql, "SELECT min(lease_ms) FROM letters", NULL, 0, read_int, arg, NULL, err);
}

static int64_t lease_of_all(struct world *w) {
    struct store_fixture fx = {.loop = w->loop, .store = w->store};
    int64_t lease_ms = 0;
    assert_int_equal(call(&fx, read_lease, &lease_ms), 0);
    return lease_ms;
}

static void on_shipped(void *arg, bool away) {
    assert_false(away);
    *(bool *)arg = true;
}

static void what_is_sent_is_held_while_the_queue_is_slow(void **state) {
    struct world *w = *state;
    struct slow slow;
    slow_open(&slow, w);
    struct id ids[2] = {put_simple(w, "f", LETTER_DUE), put_simple(w, "g", LETTER_DUE)};
    struct claimed claimed = claim(w);
    assert_int_equal(claimed.count, 2);
    int64_t first_ms = claimed.letters[0].lease_ms;
    struct ship *ship = ship_new(w->loop, w->letters, slow.ingest, LEASE_MS);
    bool shipped = false;
    ship_send(ship, claimed.letters, claimed.count, on_shipped, &shipped);
    assert_int_equal(ship_letters(ship), 2);
    TURN_UNTIL(w->loop, lease_of_all(w) > first_ms + LEASE_MS); // the first one has run out
    struct claimed by_another = claim(w);
    assert_int_equal(by_another.count, 0);
    free(by_another.letters);
    assert_false(shipped);
    sem_post(&slow.may);
    TURN_UNTIL(w->loop, shipped);
    for (size_t i = 0; i < array_len(ids); i++) assert_true(is(w, &ids[i], "", NULL));
    assert_true(ship_open(ship) == 0 && ship_letters(ship) == 0);
    ship_free(ship);
    slow_close(&slow, w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_sent_is_held_while_the_queue_is_slow, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
