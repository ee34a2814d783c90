// SPDX-License-Identifier: Apache-2.0
// Between cli/client.c and cli/watch_http.c: how a handle of libcurl becomes a request to the server.
#ifndef CLI_CLIENT_CURL_H
#define CLI_CLIENT_CURL_H

#include <curl/curl.h>

#include "cli/client.h"

#define CLIENT_ANSWER_MAX ((size_t)512 * 1024 * 1024) // bytes

// All but what takes the answer; r's body is not copied. The headers are the caller's, to be freed after the request.
struct curl_slist *client_prepare(const struct client *c, const struct request *r, CURL *easy) must_use;

#endif
