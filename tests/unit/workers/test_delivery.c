// SPDX-License-Identifier: Apache-2.0
// workers/delivery: every move that is allowed, every other one ends the process, and what the ends do.
#include "workers/delivery.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/support.h"

// The allowed moves once more, from the drawing in the header.
static const struct {
    enum delivery_state from, to;
} allowed[] = {
    {DELIVERY_RECEIVED, DELIVERY_WAITING},  {DELIVERY_RECEIVED, DELIVERY_STORING}, {DELIVERY_RECEIVED, DELIVERY_SETTLED},
    {DELIVERY_RECEIVED, DELIVERY_RELEASED}, {DELIVERY_WAITING, DELIVERY_SENT},     {DELIVERY_WAITING, DELIVERY_FINISHED},
    {DELIVERY_WAITING, DELIVERY_RELEASED},  {DELIVERY_SENT, DELIVERY_FINISHED},    {DELIVERY_SENT, DELIVERY_WAITING},
    {DELIVERY_SENT, DELIVERY_RELEASED},     {DELIVERY_FINISHED, DELIVERY_STORING}, {DELIVERY_FINISHED, DELIVERY_SETTLED},
    {DELIVERY_FINISHED, DELIVERY_WAITING},  {DELIVERY_STORING, DELIVERY_SETTLED},  {DELIVERY_STORING, DELIVERY_RELEASED},
    {DELIVERY_WAITING, DELIVERY_STORING},   {DELIVERY_WAITING, DELIVERY_SETTLED},  {DELIVERY_RECEIVED, DELIVERY_JOINED},
    {DELIVERY_WAITING, DELIVERY_JOINED},    {DELIVERY_JOINED, DELIVERY_FINISHED},  {DELIVERY_JOINED, DELIVERY_WAITING},
    {DELIVERY_JOINED, DELIVERY_STORING},    {DELIVERY_JOINED, DELIVERY_RELEASED},  {DELIVERY_FINISHED, DELIVERY_SENDING},
    {DELIVERY_STORING, DELIVERY_SENDING},   {DELIVERY_SENDING, DELIVERY_STORING},  {DELIVERY_SENDING, DELIVERY_SETTLED},
    {DELIVERY_SENDING, DELIVERY_RELEASED},
};
#define STATES (DELIVERY_RELEASED + 1)

static bool is_allowed(enum delivery_state from, enum delivery_state to) {
    for (size_t i = 0; i < array_len(allowed); i++)
        if (allowed[i].from == from && allowed[i].to == to) return true;
    return false;
}

// Whether the move ends its process.
static bool is_fatal(enum delivery_state from, enum delivery_state to) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL); // cmocka has taken it
        dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
        struct delivery d = {.state = from};
        delivery_move(&d, to);
        _exit(d.state == to ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status)) return WTERMSIG(status) == SIGABRT;
    assert_int_equal(WEXITSTATUS(status), 0);
    return false;
}

static void only_the_allowed_moves_are_made(void **state) {
    (void)state;
    for (enum delivery_state from = DELIVERY_RECEIVED; from < STATES; from++)
        for (enum delivery_state to = DELIVERY_RECEIVED; to < STATES; to++)
            if (is_fatal(from, to) == is_allowed(from, to))
                fail_msg("%s -> %s is %s", delivery_state_word(from), delivery_state_word(to),
                         is_allowed(from, to) ? "refused" : "allowed");
}

static void every_state_has_a_word_of_its_own(void **state) {
    (void)state;
    for (enum delivery_state a = DELIVERY_RECEIVED; a < STATES; a++) {
        assert_true(*delivery_state_word(a));
        for (enum delivery_state b = DELIVERY_RECEIVED; b < a; b++)
            assert_string_not_equal(delivery_state_word(a), delivery_state_word(b));
    }
}

// --- the two ends -----------------------------------------------------------------------------------------------------

struct settled {
    struct queue_consumer consumer;
    uint64_t acked, released;
    int calls;
};

static void fake_ack(struct queue_consumer *c, uint64_t tag) {
    struct settled *s = container_of(c, struct settled, consumer);
    s->acked = tag;
    s->calls++;
}

static void fake_release(struct queue_consumer *c, uint64_t tag) {
    struct settled *s = container_of(c, struct settled, consumer);
    s->released = tag;
    s->calls++;
}

static const struct queue_consumer_ops fake_ops = {.ack = fake_ack, .release = fake_release};

static void init(struct settled *s) {
    *s = (struct settled){.consumer.ops = &fake_ops};
}

static struct delivery *receive(struct settled *s, uint64_t tag, size_t *open) {
    const struct ev_fields f = {.function = STR_LIT("f"), .payload = STR_LIT("x")};
    const struct queue_msg msg = {.tag = tag, .ev = ev_new(&f)};
    struct delivery *d = delivery_new(&msg, &s->consumer, NULL, open);
    assert_int_equal(d->state, DELIVERY_RECEIVED);
    assert_false(delivery_is_sync(d));
    return d;
}

static void settling_acknowledges_and_lets_go(void **state) {
    (void)state;
    struct settled s;
    init(&s);
    size_t open = 0;
    struct version *v = mem_zalloc(sizeof *v);
    v->refs = 1;
    struct delivery *d = receive(&s, 7, &open), *other = receive(&s, 8, &open);
    assert_int_equal(open, 2);
    d->version = version_ref(v);
    delivery_move(d, DELIVERY_WAITING);
    delivery_move(d, DELIVERY_SENT);
    delivery_move(d, DELIVERY_FINISHED);
    assert_int_equal(s.calls, 0);
    delivery_settle(d);
    assert_int_equal(s.acked, 7);
    assert_int_equal(s.calls, 1);
    assert_int_equal(open, 1);
    assert_int_equal(v->refs, 1);
    version_unref(v);
    delivery_release(other);
    assert_int_equal(s.released, 8);
    assert_int_equal(s.calls, 2);
    assert_int_equal(open, 0);
}

static void an_event_that_ran_before_its_instance_ended_waits_again(void **state) {
    (void)state;
    struct settled s;
    init(&s);
    size_t open = 0;
    struct delivery *d = receive(&s, 1, &open);
    delivery_move(d, DELIVERY_WAITING);
    delivery_move(d, DELIVERY_SENT);
    delivery_move(d, DELIVERY_WAITING);
    delivery_move(d, DELIVERY_SENT);
    delivery_release(d); // a drain
    assert_int_equal(s.released, 1);
    assert_int_equal(s.acked, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_allowed_moves_are_made),
        cmocka_unit_test(every_state_has_a_word_of_its_own),
        cmocka_unit_test(settling_acknowledges_and_lets_go),
        cmocka_unit_test(an_event_that_ran_before_its_instance_ended_waits_again),
    };
    return cmocka_run_group_tests_name("workers/delivery", tests, NULL, NULL);
}
