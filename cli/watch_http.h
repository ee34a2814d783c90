// SPDX-License-Identifier: Apache-2.0
// Two requests at a time, one that looks and one that changes, without waiting for them (libcurl's multi interface).
//
// Flow: http_start -> http_wait, which returns when something happened -> http_take. A request can be let go of at any time.
// Threads: one. Memory: answers are at most 512 MiB.
#ifndef CLI_WATCH_HTTP_H
#define CLI_WATCH_HTTP_H

#include "cli/watch.h"

enum http_lane { HTTP_LOOK, HTTP_CHANGE, HTTP_LANES };

struct http;
struct client;
struct http *http_new(const struct client *c) must_use; // requests go to its server, as its user; its own connection is not used
void http_free(struct http *h);
// The lane is free. timeout_ms: of the whole request; 0: as long as it takes. body: NULL: none.
void http_start(struct http *h, enum http_lane lane, const char *method, const char *path, const json_t *body, int64_t timeout_ms);
void http_cancel(struct http *h, enum http_lane lane); // nothing when nothing is under way
// true: the request ended; its answer is to be given to answer_done.
bool http_take(struct http *h, enum http_lane lane, struct watch_answer *ret);
// Until something happened to a request, one of the fds can be read, or the time is over.
void http_wait(struct http *h, const int *fds, size_t fd_count, int64_t timeout_ms);
void answer_done(struct watch_answer *a);

#endif
