// SPDX-License-Identifier: Apache-2.0
// The HTTP client of the commands (libcurl), and readers for the JSON that comes back.
//
// Owns: one connection that is kept and reused. Flow: client_new -> client_send or client_json … -> client_free.
// Errors: client_json says what went wrong on stderr, so that its caller only returns the exit code.
// Blocking: yes. Threads: one.
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include <jansson.h>
#include <stdint.h>

#include "cli/args.h"

#define CLIENT_DEFAULT_URL "http://127.0.0.1:9000"

struct client;
// The server of --server, WEIR_SERVER or the default; never NULL.
struct client *client_new(const struct args *a) must_use;
void client_free(struct client *c);
const char *client_url(const struct client *c);

static inline void client_freep(struct client **c) {
    client_free(*c);
}
#define cleanup_client __attribute__((cleanup(client_freep)))

struct request {
    const char *method;        // "GET", …
    const char *path;          // with the query, already escaped
    struct str body;
    const char *content_type;  // NULL: none
    const char *const *headers;// "Name: value", NULL-ended; may be NULL
    int64_t timeout_ms;        // of the whole call; 0: as long as it takes
};
struct reply {
    int status;
    char *body;                // NUL-terminated
    size_t body_len;
    int64_t retry_after_s;     // -1: not said
    char *log;                 // X-Weir-Log as it came (base64); NULL: none
    char *version;             // X-Weir-Version
};
// ERR_UNAVAILABLE: nothing was sent; ERR_TIMEOUT: it was, but the answer did not come whole, so the server may have acted.
// err says what to do. An HTTP error status is an answer. reply_done frees it.
int client_send(struct client *c, const struct request *r, struct reply *ret, struct err *err) must_use;
void reply_done(struct reply *r);

// Sends body (taken over; NULL: none) and gives the answer's JSON. Returns an exit code; a failure has been said.
int client_json(struct client *c, const char *method, const char *path, json_t *body, json_t **ret) must_use;
// The error of an answer with status >= 400 as one text: the server's message when there is one. Caller frees.
char *reply_error(const struct reply *r) must_use;
// The same; the status of the answer comes back too.
int client_json_status(struct client *c, const char *method, const char *path, json_t *body, json_t **ret,
                       int *ret_status) must_use;

// Paths. Each call replaces *path.
char *path_new(const char *path) must_use;
void path_add(char **path, const char *segment);               // appends "/" and the escaped segment
void path_query(char **path, const char *key, const char *value); // nothing when value is NULL
void path_query_number(char **path, const char *key, int64_t value);

// Members that a server may leave out.
const char *member_text(const json_t *o, const char *key, const char *fallback);
int64_t member_int(const json_t *o, const char *key, int64_t fallback); // a real is cut
double member_real(const json_t *o, const char *key, double fallback);
bool member_true(const json_t *o, const char *key);
bool member_lists(const json_t *o, const char *key, const char *word); // a list that has this text in it

#endif
