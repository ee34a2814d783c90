// SPDX-License-Identifier: Apache-2.0
// A test's HTTP client that shares the loop with the server under test.
//
// Memory: texts that are returned belong to the caller. Errors: a failed cmocka assertion.
#ifndef TESTS_SUPPORT_HTTP_CLIENT_H
#define TESTS_SUPPORT_HTTP_CLIENT_H

#include <stdint.h>

#include "core/base/loop.h"

int client_dial(int port); // on 127.0.0.1
// Runs the loop while the server does not take it. A connection that the server closed is no failure.
void client_send(struct loop *loop, int fd, struct str bytes);
// Reads until `marker` was seen `times` times, or (marker NULL) until the server closes.
char *client_receive(struct loop *loop, int fd, const char *marker, int times);
int client_status(const char *answer); // -1: it is no answer
// One turn of the loop; false when ten seconds have passed since *deadline was 0.
bool client_wait(struct loop *loop, int64_t *deadline);

#endif
