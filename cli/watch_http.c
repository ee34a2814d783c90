// SPDX-License-Identifier: Apache-2.0
#include "cli/watch_http.h"

#include "cli/client_curl.h"

#define FDS_MAX 4

struct lane {
    CURL *easy;
    struct curl_slist *headers;
    char *body;
    struct buf answer;
    bool open, ended;
    CURLcode code;
};
struct http {
    CURLM *multi;
    const struct client *client;
    struct lane lanes[HTTP_LANES];
};

struct http *http_new(const struct client *c) {
    struct http *h = mem_zalloc(sizeof *h);
    h->client = c;
    h->multi = curl_multi_init();
    MUST(h->multi);
    for (size_t i = 0; i < HTTP_LANES; i++) {
        h->lanes[i].easy = curl_easy_init();
        MUST(h->lanes[i].easy);
        buf_init(&h->lanes[i].answer, CLIENT_ANSWER_MAX);
    }
    return h;
}

void http_free(struct http *h) {
    if (!h) return;
    for (enum http_lane i = 0; i < HTTP_LANES; i++) {
        http_cancel(h, i);
        curl_easy_cleanup(h->lanes[i].easy);
        buf_done(&h->lanes[i].answer);
    }
    curl_multi_cleanup(h->multi);
    free(h);
}

// --- a request ----------------------------------------------------------------------------------------------------

static size_t on_body(char *data, size_t one, size_t len, void *arg) {
    return buf_append(arg, (struct str){data, one * len}) < 0 ? 0 : len;
}

void http_start(struct http *h, enum http_lane lane, const char *method, const char *path, const json_t *body, int64_t timeout_ms) {
    struct lane *l = &h->lanes[lane];
    MUST(!l->open);
    buf_clear(&l->answer);
    l->body = body ? json_dumps(body, JSON_COMPACT) : NULL;
    l->ended = false;
    l->open = true;
    const struct request r = {.method = method, .path = path, .body = str_of(l->body), .timeout_ms = timeout_ms,
                              .content_type = l->body ? "application/json" : NULL};
    l->headers = client_prepare(h->client, &r, l->easy);
    curl_easy_setopt(l->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(l->easy, CURLOPT_WRITEDATA, &l->answer);
    MUST(curl_multi_add_handle(h->multi, l->easy) == CURLM_OK);
}

static void end_lane(struct http *h, struct lane *l) {
    curl_multi_remove_handle(h->multi, l->easy);
    curl_slist_free_all(l->headers);
    l->headers = NULL;
    free(l->body);
    l->body = NULL;
    l->open = false;
}

void http_cancel(struct http *h, enum http_lane lane) {
    if (h->lanes[lane].open) end_lane(h, &h->lanes[lane]);
}

// --- its end ------------------------------------------------------------------------------------------------------

static void go_on(struct http *h) {
    int running, left;
    const CURLMsg *m;
    (void)curl_multi_perform(h->multi, &running);
    while ((m = curl_multi_info_read(h->multi, &left)))
        for (size_t i = 0; i < HTTP_LANES; i++)
            if (m->msg == CURLMSG_DONE && h->lanes[i].easy == m->easy_handle) {
                h->lanes[i].ended = true;
                h->lanes[i].code = m->data.result;
            }
}

static void read_answer(const struct http *h, struct lane *l, struct watch_answer *ret) {
    long status = 0;
    *ret = (struct watch_answer){0};
    if (l->code != CURLE_OK) {
        ret->why = mem_printf("no answer from %s (%s)", client_url(h->client), curl_easy_strerror(l->code));
        return;
    }
    curl_easy_getinfo(l->easy, CURLINFO_RESPONSE_CODE, &status);
    struct str text = buf_str(&l->answer);
    cleanup_free char *body = mem_strndup(text);
    const struct reply reply = {.status = (int)status, .body = body, .body_len = text.len};
    ret->status = (int)status;
    if (status >= 400) ret->why = reply_error(&reply);
    else ret->json = json_loadb(text.data, text.len, JSON_ALLOW_NUL, NULL);
}

bool http_take(struct http *h, enum http_lane lane, struct watch_answer *ret) {
    struct lane *l = &h->lanes[lane];
    go_on(h);
    if (!l->open || !l->ended) return false;
    read_answer(h, l, ret);
    end_lane(h, l);
    return true;
}

void http_wait(struct http *h, const int *fds, size_t fd_count, int64_t timeout_ms) {
    struct curl_waitfd wanted[FDS_MAX];
    MUST(fd_count <= FDS_MAX);
    for (size_t i = 0; i < fd_count; i++) wanted[i] = (struct curl_waitfd){.fd = fds[i], .events = CURL_WAIT_POLLIN};
    go_on(h); // what was just started
    for (size_t i = 0; i < HTTP_LANES; i++)
        if (h->lanes[i].open && h->lanes[i].ended) return;
    (void)curl_multi_poll(h->multi, wanted, (unsigned)fd_count, (int)timeout_ms, NULL);
}

void answer_done(struct watch_answer *a) {
    free(a->why);
    json_decref(a->json);
    *a = (struct watch_answer){0};
}
