// SPDX-License-Identifier: Apache-2.0
// Requests out of bytes, on the http-parser library; the only file that knows that library.
//
// The head goes to the library in one piece, from a copy that stays in place, so that every span is whole. What a proxy
// in front might read differently is refused instead of guessed at: lines that do not end with CRLF, folded headers,
// spaces in names, two lengths, a length and a transfer coding, a coding other than chunked, sloppy chunks. Debian's
// library is built without its strict mode, so those checks, and the chunks altogether, are done here.
#include "gateway/http_parse.h"

#include <http_parser.h>
#include <strings.h>

#define KEEP_BYTES 16384           // a larger head or body buffer is not kept for the next request
#define LINE_BYTES 4096            // of a chunk header or trailer
#define LINES_EXTRA (256u * 1024)  // all of them together, beyond five bytes for each byte of a full body

static const http_parser_settings settings;

int http_hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool http_name_is(struct str name, const char *word) {
    return name.len == strlen(word) && strncasecmp(name.data, word, name.len) == 0;
}

void http_parse_init(struct http_parse *p, size_t max_header_bytes, size_t max_body_bytes) {
    *p = (struct http_parse){.max_header_bytes = max_header_bytes, .max_body_bytes = max_body_bytes};
    // The library's own cap is one for the whole process and cannot follow the option: the caps here stand in for it.
    http_parser_set_max_header_size(0x7fffffff);
    p->parser = mem_zalloc(sizeof *p->parser);
    buf_init(&p->body, max_body_bytes);
}

void http_parse_done(struct http_parse *p) {
    free(p->parser);
    free(p->head);
    free(p->fields);
    buf_done(&p->body);
}

void http_parse_reset(struct http_parse *p) {
    p->phase = HTTP_PHASE_HEAD;
    p->scanned = 0;
    p->field_count = 0;
    p->field_open = false;
    p->target = STR_NONE;
    p->line_bytes = 0;
    p->status = 0;
    p->why = NULL;
    if (p->head_room > KEEP_BYTES) {
        free(TAKE_PTR(p->head));
        p->head_room = 0;
    }
    if (p->body.room > KEEP_BYTES) buf_done(&p->body);
    else buf_clear(&p->body);
}

static int bad(struct http_parse *p, int status, const char *why) {
    if (!p->why) { // the first reason is the one to tell
        p->status = status;
        p->why = why;
    }
    p->phase = HTTP_PHASE_BAD;
    return -1;
}

// --- the library's callbacks: 0 to go on --------------------------------------------------------------------------

static int on_url(http_parser *parser, const char *at, size_t len) {
    struct http_parse *p = parser->data;
    p->target = (struct str){at, len};
    return 0;
}

// RFC 9110, 5.6.2.
static bool is_token(struct str s) {
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.data[i];
        if (c <= ' ' || c >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", c)) return false;
    }
    return s.len > 0;
}

static int on_field(http_parser *parser, const char *at, size_t len) {
    struct http_parse *p = parser->data;
    if (!is_token((struct str){at, len})) return bad(p, 400, "a header name has a character that is not allowed");
    if (p->field_count == HTTP_HEADERS_MAX) return bad(p, 431, "too many header fields");
    if (p->field_count == p->field_room) {
        p->field_room = p->field_room ? p->field_room * 2 : 16;
        p->fields = mem_realloc(p->fields, p->field_room * sizeof *p->fields);
    }
    p->fields[p->field_count++] = (struct http_field){.name = {at, len}};
    p->field_open = true;
    return 0;
}

static int on_value(http_parser *parser, const char *at, size_t len) {
    struct http_parse *p = parser->data;
    if (!p->field_open) return bad(p, 400, "a header line is folded");
    p->field_open = false;
    while (len > 0 && (at[len - 1] == ' ' || at[len - 1] == '\t')) len--;
    p->fields[p->field_count - 1].value = (struct str){at, len};
    return 0;
}

// The value of the one field of that name; ret_count tells how many there are.
static struct str field_value(const struct http_parse *p, const char *name, size_t *ret_count) {
    struct str value = STR_NONE;
    *ret_count = 0;
    for (size_t i = 0; i < p->field_count; i++) {
        if (!http_name_is(p->fields[i].name, name)) continue;
        value = p->fields[i].value;
        (*ret_count)++;
    }
    return value;
}

static bool is_digits(struct str s) {
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] < '0' || s.data[i] > '9') return false;
    }
    return s.len > 0;
}

static int check_lengths(struct http_parse *p) {
    size_t lengths, codings;
    struct str length = field_value(p, "content-length", &lengths);
    struct str coding = field_value(p, "transfer-encoding", &codings);
    if (lengths && codings) return bad(p, 400, "Content-Length and Transfer-Encoding exclude each other");
    if (lengths > 1) return bad(p, 400, "more than one Content-Length");
    if (lengths && !is_digits(length)) return bad(p, 400, "Content-Length is not a number");
    if (codings > 1) return bad(p, 400, "more than one Transfer-Encoding");
    if (codings && p->old) return bad(p, 400, "Transfer-Encoding does not exist in HTTP/1.0");
    if (codings && !http_name_is(coding, "chunked")) return bad(p, 501, "the only transfer coding known here is chunked");
    if (lengths && p->parser->content_length > p->max_body_bytes) return bad(p, 413, "the body is larger than max-body");
    p->left = lengths ? p->parser->content_length : 0;
    p->phase = codings ? HTTP_PHASE_CHUNK_SIZE : p->left ? HTTP_PHASE_LENGTH : HTTP_PHASE_DONE;
    return 0;
}

static int check_fields(struct http_parse *p) {
    size_t count;
    field_value(p, "host", &count);
    if (count > 1 || (count == 0 && !p->old)) return bad(p, 400, "exactly one Host header is needed");
    struct str expect = field_value(p, "expect", &count);
    p->expects_continue = count > 0 && !p->old;
    if (count && !http_name_is(expect, "100-continue")) return bad(p, 417, "the only expectation known here is 100-continue");
    return check_lengths(p);
}

static int on_headers_complete(http_parser *parser) {
    struct http_parse *p = parser->data;
    if (parser->http_major != 1) return bad(p, 505, "this server speaks HTTP/1.1");
    if (parser->method == HTTP_CONNECT) return bad(p, 501, "this server is no proxy");
    p->old = parser->http_minor == 0;
    p->keep_alive = http_should_keep_alive(parser);
    parser->upgrade = 0; // not offered, so the request is taken as if it had not asked
    return check_fields(p) < 0 ? -1 : 1; // 1: the body is not for the library
}

static const http_parser_settings settings = {
    .on_url = on_url,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_headers_complete = on_headers_complete,
};

// --- head ---------------------------------------------------------------------------------------------------------

// Bytes of the head when all of it is in `in`, 0 when not yet, negative when refused.
static long head_bytes(struct http_parse *p, struct str in) {
    if (in.data[0] < 'A' || in.data[0] > 'Z') return bad(p, 400, "this is not HTTP/1.1"); // TLS, most often
    for (;;) {
        const char *line = in.data + p->scanned;
        const char *end = memchr(line, '\n', in.len - p->scanned);
        size_t seen = end ? (size_t)(end - in.data) + 1 : in.len;
        if (seen > p->max_header_bytes) return bad(p, 431, "the request's head is larger than max-header");
        if (!end) return 0;
        if (memchr(line, '\r', (size_t)(end - line)) != end - 1) return bad(p, 400, "a line does not end with CR LF");
        p->scanned = seen;
        if (end == line + 1) return (long)seen;
    }
}

static int split_target(struct http_parse *p, struct http_request *req) {
    struct str t = req->target = p->target;
    if (str_starts(t, "http://") || str_starts(t, "https://")) {
        size_t at = t.data[4] == 's' ? 8 : 7;
        while (at < t.len && t.data[at] != '/' && t.data[at] != '?') at++;
        t = (struct str){t.data + at, t.len - at};
    } else if (t.len == 0 || (t.data[0] != '/' && !str_is(t, "*"))) {
        return bad(p, 400, "the request target is neither a path nor a URL");
    }
    if (t.len && memchr(t.data, '#', t.len)) return bad(p, 400, "the request target has a fragment");
    const char *mark = t.len ? memchr(t.data, '?', t.len) : NULL;
    req->path = (struct str){t.data, mark ? (size_t)(mark - t.data) : t.len};
    if (req->path.len == 0) req->path = STR_LIT("/");
    req->query = mark ? (struct str){mark + 1, t.len - req->path.len - 1} : STR_NONE;
    if (mark == t.data) req->query = (struct str){mark + 1, t.len - 1};
    return 0;
}

static const char *library_says(const struct http_parse *p) {
    return http_errno_description(HTTP_PARSER_ERRNO(p->parser));
}

static enum http_step parse_head(struct http_parse *p, struct str head, struct http_request *req) {
    if (head.len > p->head_room) {
        p->head_room = head.len < 1024 ? 1024 : head.len;
        free(p->head);
        p->head = mem_alloc(p->head_room);
    }
    memcpy(p->head, head.data, head.len);
    http_parser_init(p->parser, HTTP_REQUEST);
    p->parser->data = p;
    size_t used = http_parser_execute(p->parser, &settings, p->head, head.len);
    if (HTTP_PARSER_ERRNO(p->parser) != HPE_OK || used != head.len || p->phase == HTTP_PHASE_HEAD) bad(p, 400, library_says(p));
    if (p->phase == HTTP_PHASE_BAD) return HTTP_STEP_BAD;
    req->method = str_of(http_method_str((enum http_method)p->parser->method));
    req->headers = p->fields;
    req->header_count = p->field_count;
    if (split_target(p, req) < 0) return HTTP_STEP_BAD;
    return p->phase == HTTP_PHASE_DONE ? HTTP_STEP_DONE : HTTP_STEP_HEAD;
}

// --- body ---------------------------------------------------------------------------------------------------------

// Each of these uses bytes of `in`: how many, 0 when it needs more, negative when refused.

static long take_bytes(struct http_parse *p, struct str in, enum http_phase after) {
    size_t n = in.len < p->left ? in.len : (size_t)p->left;
    if (buf_append(&p->body, (struct str){in.data, n}) < 0) return bad(p, 413, "the body is larger than max-body");
    p->left -= n;
    if (p->left == 0) p->phase = after;
    return (long)n;
}

// A whole line with its CR LF.
static long line_in(struct http_parse *p, struct str in) {
    const char *end = in.len ? memchr(in.data, '\n', in.len) : NULL;
    size_t len = end ? (size_t)(end - in.data) + 1 : in.len;
    if (len > LINE_BYTES) return bad(p, 400, "a line among the chunks is too long");
    if (!end) return 0;
    if (memchr(in.data, '\r', len) != end - 1) return bad(p, 400, "a line among the chunks does not end with CR LF");
    p->line_bytes += len;
    if (p->line_bytes > p->max_body_bytes * 5 + LINES_EXTRA) return bad(p, 413, "the chunks' lines are larger than max-body");
    return (long)len;
}

// HEXDIG… [; extensions] CR LF
static long chunk_size(struct http_parse *p, struct str in) {
    long len = line_in(p, in);
    if (len <= 0) return len;
    uint64_t size = 0;
    size_t digits = 0;
    for (int digit; (digit = http_hex_digit(in.data[digits])) >= 0; digits++) {
        size = size * 16 + (unsigned)digit;
        if (size > p->max_body_bytes) return bad(p, 413, "the body is larger than max-body");
    }
    char next = in.data[digits];
    if (digits == 0 || digits > 16 || (next != '\r' && next != ';')) return bad(p, 400, "a chunk's size is not a hex number");
    p->left = size;
    p->phase = size ? HTTP_PHASE_CHUNK : HTTP_PHASE_TRAILER;
    return len;
}

static long chunk_end(struct http_parse *p, struct str in) {
    if (in.data[0] != '\r' || (in.len > 1 && in.data[1] != '\n')) return bad(p, 400, "a chunk is longer than its size");
    if (in.len == 1) return 0;
    p->phase = HTTP_PHASE_CHUNK_SIZE;
    return 2;
}

static long trailer(struct http_parse *p, struct str in) {
    long len = line_in(p, in);
    if (len == 2) p->phase = HTTP_PHASE_DONE;
    return len; // trailers are not used
}

static long body_piece(struct http_parse *p, struct str in) {
    switch (p->phase) {
    case HTTP_PHASE_LENGTH: return take_bytes(p, in, HTTP_PHASE_DONE);
    case HTTP_PHASE_CHUNK_SIZE: return chunk_size(p, in);
    case HTTP_PHASE_CHUNK: return take_bytes(p, in, HTTP_PHASE_CHUNK_END);
    case HTTP_PHASE_CHUNK_END: return chunk_end(p, in);
    case HTTP_PHASE_TRAILER: return trailer(p, in);
    case HTTP_PHASE_HEAD:
    case HTTP_PHASE_DONE:
    case HTTP_PHASE_BAD: break;
    }
    return 0;
}

static enum http_step parse_body(struct http_parse *p, struct str in, struct http_request *req, size_t *ret_used) {
    long used = 1;
    while (in.len > 0 && used > 0 && p->phase < HTTP_PHASE_DONE) {
        used = body_piece(p, in);
        if (used < 0) return HTTP_STEP_BAD;
        in = (struct str){in.data + used, in.len - (size_t)used};
        *ret_used += (size_t)used;
    }
    if (p->phase != HTTP_PHASE_DONE) return HTTP_STEP_MORE;
    req->body = buf_str(&p->body);
    return HTTP_STEP_DONE;
}

enum http_step http_parse_feed(struct http_parse *p, struct str in, struct http_request *req, size_t *ret_used) {
    size_t skip = 0;
    *ret_used = 0;
    MUST(p->phase < HTTP_PHASE_DONE);
    if (p->phase != HTTP_PHASE_HEAD) return parse_body(p, in, req, ret_used);
    // Old clients send an empty line after a body (RFC 9112, 2.2).
    while (p->scanned == 0 && in.len - skip >= 2 && memcmp(in.data + skip, "\r\n", 2) == 0) skip += 2;
    *ret_used = skip;
    in = (struct str){in.data + skip, in.len - skip};
    if (in.len == 0 || str_is(in, "\r")) return HTTP_STEP_MORE;
    long head = head_bytes(p, in);
    if (head < 0) return HTTP_STEP_BAD;
    if (head == 0) return HTTP_STEP_MORE;
    *ret_used += (size_t)head;
    return parse_head(p, (struct str){in.data, (size_t)head}, req);
}
