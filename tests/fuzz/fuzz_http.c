// SPDX-License-Identifier: Apache-2.0
// Fuzzes the parsing of HTTP requests. The first byte picks in what pieces the rest arrives.
//
// Checked: no read outside the input; what a request is does not depend on the pieces in which it arrives; paths and
// bodies keep what http.h promises; a body is never larger than its cap.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/http_parse.h"

#define HEADER_CAP 2048
#define BODY_CAP 1024

static void check(int ok) {
    if (!ok) abort();
}

static uint64_t mix(uint64_t hash, struct str s) {
    for (size_t i = 0; i < s.len; i++) hash = (hash ^ (unsigned char)s.data[i]) * UINT64_C(1099511628211);
    return (hash ^ s.len) * UINT64_C(1099511628211);
}

static uint64_t look_at(const struct http_request *req, uint64_t hash) {
    check(req->method.len > 0 && req->body.len <= BODY_CAP && req->header_count <= HTTP_HEADERS_MAX);
    check(req->path.len > 0 && (req->path.data[0] == '/' || str_is(req->path, "*")));
    hash = mix(mix(mix(hash, req->method), req->path), req->query);
    for (size_t i = 0; i < req->header_count; i++) hash = mix(mix(hash, req->headers[i].name), req->headers[i].value);
    char *out = malloc(req->query.len + 1);
    check(out && http_percent_decode(req->query, true, out) <= (long)req->query.len);
    free(out);
    return mix(hash, req->body);
}

// Parses everything, `piece` more bytes at a time, and returns a hash of all requests and of the end.
static uint64_t parse_all(struct str in, size_t piece) {
    struct http_parse p;
    struct http_request req = {0};
    uint64_t hash = 1;
    size_t start = 0, end = 0;
    http_parse_init(&p, HEADER_CAP, BODY_CAP);
    for (;;) {
        size_t used;
        char *copy = malloc(end - start + 1); // a block of its own shows reads outside
        check(copy != NULL);
        memcpy(copy, in.data + start, end - start);
        enum http_step step = http_parse_feed(&p, (struct str){copy, end - start}, &req, &used);
        check(used <= end - start);
        free(copy);
        start += used;
        if (step == HTTP_STEP_BAD) {
            check(p.why && p.status >= 400);
            hash = mix(hash, str_of(p.why));
            break;
        }
        if (step == HTTP_STEP_DONE) {
            hash = look_at(&req, hash);
            http_parse_reset(&p);
            req = (struct http_request){0};
        }
        if (step != HTTP_STEP_MORE) continue;
        if (end == in.len) break;
        end += piece < in.len - end ? piece : in.len - end;
    }
    http_parse_done(&p);
    return hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    struct str in = {(const char *)data + 1, size - 1};
    check(parse_all(in, in.len) == parse_all(in, 1 + data[0] % 64));
    return 0;
}
