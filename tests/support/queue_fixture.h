// SPDX-License-Identifier: Apache-2.0
// An open queue of one backend, publishers that count their confirms, and consumers that keep what they get.
//
// Flow: fixture_open -> publish / sink_open -> TURN_UNTIL(...) -> sink_close -> fixture_close.
// Threads: the test's.
#ifndef TESTS_SUPPORT_QUEUE_FIXTURE_H
#define TESTS_SUPPORT_QUEUE_FIXTURE_H

#include "core/queue.h"
#include "core/store.h"
#include "tests/support/support.h"

enum backend { BACKEND_MEMORY, BACKEND_EMBEDDED, BACKEND_AMQP };

struct fixture {
    enum backend backend;
    struct loop *loop;
    struct queue *q;
    struct store *store; // embedded
    char *dir, *amqp_url;
    uint64_t max_messages;
    char prefix[32];     // of function names: no test meets another's messages
    bool closed;
    struct sink *sinks;  // open ones; a failed test leaves some
};

// The broker that all tests share; NULL when there is none. From WEIR_TEST_AMQP_URL: an URL, or "start".
const char *shared_amqp_url(void);
void shared_amqp_end(void);

struct fixture *fixture_new(enum backend backend, const char *amqp_url, uint64_t max_messages);
void fixture_open(struct fixture *fx);  // waits until it is up
void fixture_close(struct fixture *fx); // waits until it is closed; may be opened again
void fixture_free(struct fixture *fx);  // closes when it is open
// "<prefix><name>"; lives as long as the fixture's next 8 calls.
struct str fn_name(const struct fixture *fx, const char *name);

struct sent { // counts of confirms
    size_t calls, ok, failed;
    int last_code;
    char last_error[200];
    bool inside; // a publish is on the stack: no confirm may come
};
void publish_event(struct fixture *fx, struct ev *ev, struct sent *sent);
// An event with the number as its payload.
void publish_number(struct fixture *fx, struct str function, unsigned number, struct sent *sent);
void publish_numbers(struct fixture *fx, struct str function, unsigned count); // and waits for OK
unsigned number_of(const struct ev *ev);

struct sink {
    struct sink *next;
    struct fixture *fx;
    struct queue_consumer *c;
    struct queue_msg *msgs; // in order of arrival; `why` is a copy
    size_t count, room, lost, most_at_once;
    bool ack_at_once;
};
void sink_open(struct sink *s, struct fixture *fx, struct str function, size_t credit);
void sink_close(struct sink *s); // and frees what it got
void sink_settle_all(struct sink *s); // waits until the backend knows

struct depth {
    bool done;
    int code;
    uint64_t ready, unsettled;
};
struct depth ask_depth(struct fixture *fx, struct str function);

#endif
