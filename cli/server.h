// SPDX-License-Identifier: Apache-2.0
// The server process: makes the parts, joins them, runs the loop, and takes them apart in order.
//
// Flow: server_run returns when the server has stopped: SIGTERM or SIGINT drains (gateway, then what is due, then the
//   workers, then queue and store), a second signal stops at once.
// Threads: the calling one becomes the loop's.
#ifndef CLI_SERVER_H
#define CLI_SERVER_H

#include "core/options.h"

int server_run(const struct options *options, struct err *err) must_use;

#endif
