// SPDX-License-Identifier: Apache-2.0
// The handler's side of a request: looking at it, and answering it.
#include <netdb.h>
#include <sys/socket.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/metrics.h"
#include "gateway/http_internal.h"

#define ANSWER_HEAD_MAX (256 * 1024)

struct exchange *exchange_new(struct http_conn *c) {
    struct exchange *ex = mem_zalloc(sizeof *ex);
    ex->conn = c;
    http_parse_init(&ex->parse, c->srv->config.max_header_bytes, c->srv->config.max_body_bytes);
    return ex;
}

static void free_texts(struct exchange *ex) {
    while (ex->texts) {
        struct text *next = ex->texts->next;
        free(ex->texts);
        ex->texts = next;
    }
}

void exchange_reset(struct exchange *ex) {
    free_texts(ex);
    http_parse_reset(&ex->parse);
    ex->r = (struct http_request){0};
    ex->on_gone = NULL;
}

void exchange_free(struct exchange *ex) {
    if (!ex) return;
    free_texts(ex);
    http_parse_done(&ex->parse);
    free(ex);
}

static struct exchange *exchange_of(struct http_request *req) {
    return container_of(req, struct exchange, r);
}

void http_request_on_gone(struct http_request *req, void (*fn)(void *arg), void *arg) {
    struct exchange *ex = exchange_of(req);
    ex->on_gone = fn;
    ex->gone_arg = arg;
}

void http_request_close_after(struct http_request *req) {
    struct http_conn *c = exchange_of(req)->conn;
    if (c) c->close_after = true;
}

// --- reading ------------------------------------------------------------------------------------------------------

void http_request_peer(struct http_request *req, char ret[HTTP_PEER_BYTES]) {
    const struct http_conn *c = exchange_of(req)->conn;
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    ret[0] = '\0';
    if (!c || getpeername(c->fd, (struct sockaddr *)&address, &len) < 0) return;
    if (getnameinfo((struct sockaddr *)&address, len, ret, HTTP_PEER_BYTES, NULL, 0, NI_NUMERICHOST)) ret[0] = '\0';
}

struct str http_header(const struct http_request *req, const char *name) {
    for (size_t i = 0; i < req->header_count; i++) {
        if (http_name_is(req->headers[i].name, name)) return req->headers[i].value;
    }
    return STR_NONE;
}

long http_percent_decode(struct str in, bool plus_is_space, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < in.len; i++) {
        char c = in.data[i];
        if (c == '%') {
            int high = in.len - i > 2 ? http_hex_digit(in.data[i + 1]) : -1;
            int low = in.len - i > 2 ? http_hex_digit(in.data[i + 2]) : -1;
            if (high < 0 || low < 0) return ERR_INVALID;
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        out[n++] = c;
    }
    return (long)n;
}

// Decoded into memory of the exchange; bytes that cannot be decoded are given as they are.
static struct str decode_param(struct exchange *ex, struct str raw) {
    if (raw.len == 0 || (!memchr(raw.data, '%', raw.len) && !memchr(raw.data, '+', raw.len))) return raw;
    struct text *t = mem_alloc(sizeof *t + raw.len);
    t->next = ex->texts;
    ex->texts = t;
    long len = http_percent_decode(raw, true, t->data);
    return len < 0 ? raw : (struct str){t->data, (size_t)len};
}

static struct str span_until(struct str s, char stop) {
    const char *end = s.len ? memchr(s.data, stop, s.len) : NULL;
    return (struct str){s.data, end ? (size_t)(end - s.data) : s.len};
}

// The next pair that is not empty, raw; *left goes behind it.
static bool next_pair(struct str *left, struct str *ret_key, struct str *ret_value) {
    struct str pair = {0};
    while (left->len > 0 && pair.len == 0) {
        pair = span_until(*left, '&');
        size_t used = pair.len < left->len ? pair.len + 1 : pair.len;
        *left = (struct str){left->data + used, left->len - used};
    }
    *ret_key = span_until(pair, '=');
    size_t skip = ret_key->len < pair.len ? ret_key->len + 1 : ret_key->len;
    *ret_value = (struct str){pair.data + skip, pair.len - skip};
    return pair.len > 0;
}

bool http_query_next(struct http_request *req, struct str *left, struct str *ret_name) {
    struct str key, value;
    if (!next_pair(left, &key, &value)) return false;
    *ret_name = decode_param(exchange_of(req), key);
    return true;
}

bool http_query_param(struct http_request *req, const char *name, struct str *ret) {
    struct exchange *ex = exchange_of(req);
    struct str left = req->query, key, value;
    while (next_pair(&left, &key, &value)) {
        if (!str_is(decode_param(ex, key), name)) continue;
        *ret = decode_param(ex, value);
        return true;
    }
    return false;
}

// --- answering ----------------------------------------------------------------------------------------------------

static const struct {
    int status;
    const char *line;
} statuses[] = {
    {200, "200 OK"}, {201, "201 Created"}, {202, "202 Accepted"}, {204, "204 No Content"}, {304, "304 Not Modified"},
    {400, "400 Bad Request"}, {401, "401 Unauthorized"}, {403, "403 Forbidden"}, {404, "404 Not Found"},
    {405, "405 Method Not Allowed"}, {408, "408 Request Timeout"}, {409, "409 Conflict"},
    {413, "413 Content Too Large"}, {417, "417 Expectation Failed"}, {429, "429 Too Many Requests"},
    {431, "431 Request Header Fields Too Large"}, {500, "500 Internal Server Error"}, {501, "501 Not Implemented"},
    {502, "502 Bad Gateway"}, {503, "503 Service Unavailable"}, {504, "504 Gateway Timeout"},
    {505, "505 HTTP Version Not Supported"}, {507, "507 Insufficient Storage"},
};

static void put(struct buf *b, struct str s) {
    MUST(buf_append(b, s) == 0); // handlers' headers are few and short
}

static void put_status(struct buf *head, int status) {
    char other[16];
    const char *line = NULL;
    for (size_t i = 0; i < array_len(statuses) && !line; i++) {
        if (statuses[i].status == status) line = statuses[i].line;
    }
    if (!line) {
        snprintf(other, sizeof other, "%d Status", status);
        line = other;
    }
    put(head, STR_LIT("HTTP/1.1 "));
    put(head, str_of(line));
    put(head, STR_LIT("\r\n"));
}

static struct str date_line(struct http_server *srv) {
    int64_t second = loop_now_ns(srv->config.loop) / (1000 * NS_PER_MS);
    if (second != srv->date_second || srv->date[0] == '\0') {
        time_t now = time(NULL);
        struct tm tm;
        gmtime_r(&now, &tm);
        strftime(srv->date, sizeof srv->date, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
        srv->date_second = second;
    }
    return str_of(srv->date);
}

static void put_field(struct buf *head, const struct http_field *f) {
    put(head, f->name);
    put(head, STR_LIT(": "));
    put(head, f->value);
    char *value = head->data + head->end - f->value.len;
    for (size_t i = 0; i < f->value.len; i++) {
        if ((unsigned char)value[i] < 0x20 || value[i] == 0x7f) value[i] = ' ';
    }
    put(head, STR_LIT("\r\n"));
}

static void put_head(struct exchange *ex, int status, const struct http_field *headers, size_t count, size_t body_len) {
    struct http_conn *c = ex->conn;
    struct buf *head = &c->srv->scratch;
    if (!head->cap) buf_init(head, ANSWER_HEAD_MAX);
    buf_clear(head);
    put_status(head, status);
    put(head, date_line(c->srv));
    for (size_t i = 0; i < count; i++) put_field(head, &headers[i]);
    if (status != 204 && status != 304) {
        char length[48];
        int n = snprintf(length, sizeof length, "Content-Length: %zu\r\n", body_len);
        put(head, (struct str){length, (size_t)n});
    }
    if (c->close_after) put(head, STR_LIT("Connection: close\r\n"));
    else if (ex->parse.old) put(head, STR_LIT("Connection: keep-alive\r\n"));
    put(head, STR_LIT("\r\n"));
}

static void count_answer(const struct http_server *srv, int status) {
    if (!srv->config.metrics) return;
    char label[] = {(char)('0' + status / 100 % 10), (char)('0' + status / 10 % 10), (char)('0' + status % 10)};
    metrics_add(srv->config.metrics, METRIC_HTTP_REQUESTS, (struct str){label, sizeof label}, 1);
}

void http_respond(struct http_request *req, int status, const struct http_field *headers, size_t header_count,
                  struct str body) {
    struct exchange *ex = exchange_of(req);
    struct http_conn *c = ex->conn;
    if (!c) {
        exchange_free(ex);
        return;
    }
    MUST(c->state == CONN_RUNNING);
    c->close_after |= c->srv->stopping;
    count_answer(c->srv, status);
    put_head(ex, status, headers, header_count, body.len);
    if (str_is(req->method, "HEAD") || status == 204 || status == 304) body = STR_NONE;
    if (stream_write(c->stream, buf_str(&c->srv->scratch)) < 0 || stream_write(c->stream, body) < 0) {
        conn_set_state(c, CONN_SENDING);
        conn_close(c);
        return;
    }
    conn_answered(c);
}
