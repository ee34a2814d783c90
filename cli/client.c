// SPDX-License-Identifier: Apache-2.0
// One easy handle for the life of the command: curl keeps its connection open between calls.
#include "cli/client_curl.h"

#include <strings.h>

#include "cli/commands.h"
#include "cli/out.h"
#include "core/base/buf.h"

#define CONNECT_TIMEOUT_MS 5000L

struct client {
    CURL *curl;
    char *url;
    char *bearer; // whole header line, NULL without a token
    char *user;   // the same: who the audit names where there are no tokens
};

static char *normal_url(const char *given) {
    char *url = strstr(given, "://") ? mem_strdup(given) : mem_printf("http://%s", given);
    for (size_t n = strlen(url); n > 0 && url[n - 1] == '/'; n--) url[n - 1] = '\0';
    return url;
}

static const char *setting(const struct args *a, const char *option, const char *variable) {
    const char *value = args_text(a, option);
    if (!value) value = getenv(variable);
    return value && *value ? value : NULL;
}

struct client *client_new(const struct args *a) {
    struct client *c = mem_zalloc(sizeof *c);
    const char *url = setting(a, "server", "WEIR_SERVER");
    const char *token = setting(a, "token", "WEIR_TOKEN");
    c->url = normal_url(url ? url : CLIENT_DEFAULT_URL);
    if (token) c->bearer = mem_printf("Authorization: Bearer %s", token);
    const char *user = getenv("USER");
    if (user && *user && !user[strcspn(user, "\r\n")]) c->user = mem_printf("X-Weir-User: %s", user);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    c->curl = curl_easy_init();
    MUST(c->curl);
    return c;
}

void client_free(struct client *c) {
    if (!c) return;
    curl_easy_cleanup(c->curl);
    curl_global_cleanup();
    free(c->url);
    free(c->bearer);
    free(c->user);
    free(c);
}

const char *client_url(const struct client *c) {
    return c->url;
}

// --- one call -----------------------------------------------------------------------------------------------------

struct call {
    struct buf body;
    struct reply reply;
};

static size_t on_body(char *data, size_t one, size_t len, void *arg) {
    struct call *call = arg;
    return buf_append(&call->body, (struct str){data, one * len}) < 0 ? 0 : len;
}

// The value of the header line when it has this name; caller frees.
static char *header_value(struct str line, const char *name) {
    size_t n = strlen(name);
    if (line.len <= n || strncasecmp(line.data, name, n) != 0 || line.data[n] != ':') return NULL;
    struct str v = {line.data + n + 1, line.len - n - 1};
    while (v.len && (*v.data == ' ' || *v.data == '\t')) v = (struct str){v.data + 1, v.len - 1};
    while (v.len && (v.data[v.len - 1] == '\r' || v.data[v.len - 1] == '\n' || v.data[v.len - 1] == ' ')) v.len--;
    return mem_strndup(v);
}

static void take_header(struct str line, const char *name, char **into) {
    char *value = header_value(line, name);
    if (!value) return;
    free(*into);
    *into = value;
}

static size_t on_header(char *data, size_t one, size_t len, void *arg) {
    struct call *call = arg;
    struct str line = {data, one * len};
    cleanup_free char *after = header_value(line, "Retry-After");
    if (after) call->reply.retry_after_s = strtoll(after, NULL, 10);
    take_header(line, "X-Weir-Log", &call->reply.log);
    take_header(line, "X-Weir-Version", &call->reply.version);
    return len;
}

static bool is_loopback(const char *url) {
    const char *host = strstr(url, "://") + 3;
    return strncmp(host, "127.", 4) == 0 || strncmp(host, "localhost", 9) == 0 || strncmp(host, "[::1]", 5) == 0;
}

static struct curl_slist *header_list(const struct client *c, const struct request *r) {
    struct curl_slist *list = curl_slist_append(NULL, "Expect:"); // no waiting for 100 Continue
    if (c->bearer) list = curl_slist_append(list, c->bearer);
    if (c->user) list = curl_slist_append(list, c->user);
    cleanup_free char *type = mem_printf("Content-Type:%s%s", r->content_type ? " " : "",
                                         r->content_type ? r->content_type : "");
    list = curl_slist_append(list, type);
    for (const char *const *h = r->headers; h && *h; h++) list = curl_slist_append(list, *h);
    return list;
}

struct curl_slist *client_prepare(const struct client *c, const struct request *r, CURL *h) {
    cleanup_free char *url = mem_printf("%s%s", c->url, r->path);
    curl_easy_reset(h); // keeps the connection
    curl_easy_setopt(h, CURLOPT_URL, url);
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, (long)r->timeout_ms);
    curl_easy_setopt(h, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(h, CURLOPT_USERAGENT, "weir/" WEIR_VERSION);
    if (is_loopback(url)) curl_easy_setopt(h, CURLOPT_PROXY, "");
    struct curl_slist *headers = header_list(c, r);
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
    if (strcmp(r->method, "GET") == 0) return headers;
    // A POST with a body that is named otherwise: the way that keeps the length known.
    curl_easy_setopt(h, CURLOPT_POST, 1L);
    curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, r->method);
    curl_easy_setopt(h, CURLOPT_POSTFIELDS, r->body.data ? r->body.data : "");
    curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.len);
    return headers;
}

static int explain(const struct client *c, CURLcode code, struct err *err) {
    const char *why = curl_easy_strerror(code);
    if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST)
        return err_set(err, ERR_UNAVAILABLE,
                       "no server answers at %s (%s)\n      start one with 'weir serve', or name another with --server URL "
                       "or WEIR_SERVER",
                       c->url, why);
    if (code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL)
        return err_set(err, ERR_INVALID, "'%s' is not the address of a server; it looks like %s", c->url,
                       CLIENT_DEFAULT_URL);
    if (code == CURLE_OPERATION_TIMEDOUT)
        return err_set(err, ERR_TIMEOUT, "the server at %s did not answer in time", c->url);
    return err_set(err, ERR_TIMEOUT, "the connection to %s broke before the answer was complete (%s)", c->url, why);
}

int client_send(struct client *c, const struct request *r, struct reply *ret, struct err *err) {
    struct call call = {.reply = {.retry_after_s = -1}};
    buf_init(&call.body, CLIENT_ANSWER_MAX);
    struct curl_slist *headers = client_prepare(c, r, c->curl);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, &call);
    curl_easy_setopt(c->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c->curl, CURLOPT_HEADERDATA, &call);
    CURLcode code = curl_easy_perform(c->curl);
    curl_slist_free_all(headers);
    if (code != CURLE_OK) {
        buf_done(&call.body);
        reply_done(&call.reply);
        return explain(c, code, err);
    }
    long status = 0;
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    call.reply.status = (int)status;
    call.reply.body = buf_take(&call.body, &call.reply.body_len);
    *ret = call.reply;
    return 0;
}

void reply_done(struct reply *r) {
    free(r->body);
    free(r->log);
    free(r->version);
    *r = (struct reply){0};
}

// --- JSON calls ---------------------------------------------------------------------------------------------------

char *reply_error(const struct reply *r) {
    json_auto_t *answer = json_loadb(r->body, r->body_len, 0, NULL);
    const char *message = member_text(answer, "message", NULL);
    if (r->status == 401)
        return mem_printf("%s (give the server's token with --token or WEIR_TOKEN)",
                          message ? message : "the server refuses this client");
    if (message) return mem_strdup(message);
    return mem_printf("the server answered with HTTP status %d and no reason; is it a weir server?", r->status);
}

static int read_answer(const struct client *c, const struct reply *reply, json_t **ret) {
    if (reply->status >= 400) {
        cleanup_free char *why = reply_error(reply);
        return out_fail("%s", why);
    }
    json_t *answer = json_loadb(reply->body, reply->body_len, JSON_ALLOW_NUL, NULL);
    if (!answer) return out_fail("the answer of %s is not JSON; is it a weir server?", c->url);
    *ret = answer;
    return EXIT_OK;
}

int client_json_status(struct client *c, const char *method, const char *path, json_t *body, json_t **ret,
                       int *ret_status) {
    cleanup_free char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    struct request request = {.method = method, .path = path, .body = str_of(text),
                              .content_type = text ? "application/json" : NULL};
    struct reply reply;
    struct err err;
    if (client_send(c, &request, &reply, &err) < 0) return out_fail("%s", err.text);
    *ret_status = reply.status;
    int rc = read_answer(c, &reply, ret);
    reply_done(&reply);
    return rc;
}

int client_json(struct client *c, const char *method, const char *path, json_t *body, json_t **ret) {
    int status;
    return client_json_status(c, method, path, body, ret, &status);
}

// --- paths --------------------------------------------------------------------------------------------------------

char *path_new(const char *path) {
    return mem_strdup(path);
}

static void path_append(char **path, const char *between, const char *key, const char *value) {
    char *escaped = curl_easy_escape(NULL, value, 0);
    MUST(escaped);
    char *longer = mem_printf("%s%s%s%s%s", *path, between, key, *key ? "=" : "", escaped);
    curl_free(escaped);
    free(*path);
    *path = longer;
}

void path_add(char **path, const char *segment) {
    path_append(path, "/", "", segment);
}

void path_query(char **path, const char *key, const char *value) {
    if (value) path_append(path, strchr(*path, '?') ? "&" : "?", key, value);
}

void path_query_number(char **path, const char *key, int64_t value) {
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    path_query(path, key, text);
}

// --- members ------------------------------------------------------------------------------------------------------

const char *member_text(const json_t *o, const char *key, const char *fallback) {
    const char *text = json_string_value(json_object_get(o, key));
    return text ? text : fallback;
}

int64_t member_int(const json_t *o, const char *key, int64_t fallback) {
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? (int64_t)json_number_value(v) : fallback;
}

double member_real(const json_t *o, const char *key, double fallback) {
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

bool member_true(const json_t *o, const char *key) {
    return json_is_true(json_object_get(o, key));
}

bool member_lists(const json_t *o, const char *key, const char *word) {
    const json_t *list = json_object_get(o, key);
    bool found = false;
    for (size_t i = 0; i < json_array_size(list) && !found; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        found = text && strcmp(text, word) == 0;
    }
    return found;
}
