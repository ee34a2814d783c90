// SPDX-License-Identifier: Apache-2.0
// Makes one request at a time out of bytes: finds the whole head, checks it, gathers the body.
//
// Owns: a copy of the head, the header list, the body. Flow: http_parse_feed until it says DONE or BAD, then
//   http_parse_reset for the next request. Threads: one at a time. Blocking: never.
// Memory: head and body are capped; the spans in the message live until the reset.
#ifndef GATEWAY_HTTP_PARSE_H
#define GATEWAY_HTTP_PARSE_H

#include "core/base/buf.h"
#include "gateway/http.h"


enum http_step {
    HTTP_STEP_MORE, // all input was used or more of the head is needed
    HTTP_STEP_HEAD, // the head is there, its body follows
    HTTP_STEP_DONE, // the request is whole
    HTTP_STEP_BAD,  // refuse with `status` and `why`, then close
};

enum http_phase {
    HTTP_PHASE_HEAD,
    HTTP_PHASE_LENGTH,     // a body of known length
    HTTP_PHASE_CHUNK_SIZE, // at the line that opens a chunk
    HTTP_PHASE_CHUNK,
    HTTP_PHASE_CHUNK_END,  // at the line end behind a chunk
    HTTP_PHASE_TRAILER,
    HTTP_PHASE_DONE,
    HTTP_PHASE_BAD
};

struct http_parser; // the library's
struct http_parse {
    size_t max_header_bytes, max_body_bytes;
    struct http_parser *parser;
    enum http_phase phase;
    size_t scanned;          // start of the first line of the head that is not complete
    char *head;              // copy of the head
    size_t head_room;
    struct http_field *fields;
    size_t field_count, field_room;
    bool field_open;         // a name has come, its value has not
    struct str target;
    struct buf body;
    uint64_t left;           // of the body, or of the chunk
    size_t line_bytes;       // chunk headers and trailers so far
    // Results:
    bool keep_alive;         // the client wants to send more
    bool old;                // HTTP/1.0
    bool expects_continue;
    int status;              // of a refusal
    const char *why;
};

void http_parse_init(struct http_parse *p, size_t max_header_bytes, size_t max_body_bytes);
void http_parse_done(struct http_parse *p);
void http_parse_reset(struct http_parse *p); // keeps small buffers
// Uses bytes of `in` (ret_used: how many) and fills req once the head is there, its body at HTTP_STEP_DONE. Input that
// was not used must be offered again, with more behind it.
enum http_step http_parse_feed(struct http_parse *p, struct str in, struct http_request *req, size_t *ret_used);
int http_hex_digit(char c); // -1: none
bool http_name_is(struct str name, const char *word); // in any case

#endif
