// SPDX-License-Identifier: Apache-2.0
#include "tests/support/queue_fixture.h"

#include <unistd.h>

static char *own_dir, *own_url;

const char *shared_amqp_url(void) {
    const char *url = getenv("WEIR_TEST_AMQP_URL");
    if (!url || !*url) return NULL;
    if (strcmp(url, "start") != 0) return url;
    if (!own_url) {
        own_dir = temp_dir_new();
        own_url = service_run("rabbitmq", "start", own_dir);
    }
    return own_url;
}

void shared_amqp_end(void) {
    if (!own_url) return;
    free(service_run("rabbitmq", "kill", own_dir));
    temp_dir_remove(own_dir);
    free(own_url);
    own_dir = own_url = NULL;
}

struct fixture *fixture_new(enum backend backend, const char *amqp_url, uint64_t max_messages) {
    static unsigned serial;
    struct fixture *fx = mem_zalloc(sizeof *fx);
    fx->backend = backend;
    fx->max_messages = max_messages;
    fx->amqp_url = mem_strdup(amqp_url);
    fx->loop = loop_new();
    if (backend == BACKEND_EMBEDDED) fx->dir = temp_dir_new();
    assert_int_equal(text_format(fx->prefix, sizeof fx->prefix, "t%d-%u-", (int)getpid(), ++serial), 0);
    fixture_open(fx);
    return fx;
}

static char *queue_url(const struct fixture *fx) {
    if (fx->backend == BACKEND_MEMORY) return mem_strdup("memory:");
    if (fx->backend == BACKEND_EMBEDDED) return mem_strdup("embedded:");
    if (!fx->max_messages) return mem_strdup(fx->amqp_url);
    return mem_printf("%s%cmax_length=%llu", fx->amqp_url, strchr(fx->amqp_url, '?') ? '&' : '?',
                      (unsigned long long)fx->max_messages);
}

void fixture_open(struct fixture *fx) {
    struct err err = {0};
    if (fx->backend == BACKEND_EMBEDDED) {
        cleanup_free char *url = mem_printf("sqlite:%s/weir.db", fx->dir);
        if (store_open(fx->loop, url, &fx->store, &err)) fail_msg("store_open: %s", err.text);
    }
    cleanup_free char *url = queue_url(fx);
    struct queue_config config = {.loop = fx->loop, .url = url, .store = fx->store, .max_messages = fx->max_messages};
    if (queue_open(&config, &fx->q, &err)) fail_msg("queue_open: %s", err.text);
    TURN_UNTIL(fx->loop, queue_is_up(fx->q));
}

static void on_closed(void *arg) {
    struct fixture *fx = arg;
    fx->closed = true;
}

void fixture_close(struct fixture *fx) {
    fx->closed = false;
    queue_close(fx->q, on_closed, fx);
    TURN_UNTIL(fx->loop, fx->closed);
    fx->q = NULL;
    if (fx->store) store_close(fx->store);
    fx->store = NULL;
}

void fixture_free(struct fixture *fx) {
    if (fx->sinks) return; // the test failed and left them, on its stack: nothing here may be touched any more
    if (fx->q) fixture_close(fx);
    loop_free(fx->loop);
    temp_dir_remove(fx->dir);
    free(fx->amqp_url);
    free(fx);
}

struct str fn_name(const struct fixture *fx, const char *name) {
    static char names[8][64];
    static unsigned next;
    char *out = names[next++ % array_len(names)];
    assert_int_equal(text_format(out, sizeof names[0], "%s%s", fx->prefix, name), 0);
    return str_of(out);
}

static void on_confirm(void *arg, int code, const struct err *err) {
    struct sent *sent = arg;
    assert_false(sent->inside);
    sent->calls++;
    sent->last_code = code;
    if (code == ERR_OK) {
        sent->ok++;
        return;
    }
    sent->failed++;
    assert_non_null(err);
    assert_true(err->text[0] != '\0');
    snprintf(sent->last_error, sizeof sent->last_error, "%.190s", err->text);
}

void publish_event(struct fixture *fx, struct ev *ev, struct sent *sent) {
    sent->inside = true;
    queue_publish(fx->q, ev, on_confirm, sent);
    sent->inside = false;
}

void publish_number(struct fixture *fx, struct str function, unsigned number, struct sent *sent) {
    char text[16];
    int len = snprintf(text, sizeof text, "%u", number);
    struct ev_fields f = {.function = function, .payload = {text, (size_t)len}};
    publish_event(fx, ev_new(&f), sent);
}

void publish_numbers(struct fixture *fx, struct str function, unsigned count) {
    struct sent sent = {0};
    for (unsigned i = 0; i < count; i++) publish_number(fx, function, i, &sent);
    TURN_UNTIL(fx->loop, sent.calls == count);
    if (sent.ok != count) fail_msg("%zu publishes failed: %s", sent.failed, sent.last_error);
}

unsigned number_of(const struct ev *ev) {
    char text[16] = "";
    assert_true(ev->f.payload.len < sizeof text);
    if (ev->f.payload.len) memcpy(text, ev->f.payload.data, ev->f.payload.len);
    return (unsigned)strtoul(text, NULL, 10);
}

static void on_messages(void *arg, struct queue_msg *msgs, size_t count) {
    struct sink *s = arg;
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++) {
        if (s->count == s->room) {
            s->room = s->room ? s->room * 2 : 64;
            s->msgs = mem_realloc(s->msgs, s->room * sizeof *s->msgs);
        }
        struct queue_msg *m = &s->msgs[s->count++];
        *m = msgs[i];
        m->why = msgs[i].why.data ? str_of(mem_strndup(msgs[i].why)) : STR_NONE;
        if (s->ack_at_once) queue_ack(s->c, m->tag);
    }
    if (count > s->most_at_once) s->most_at_once = count;
}

static void on_lost(void *arg) {
    struct sink *s = arg;
    s->lost++;
}

void sink_open(struct sink *s, struct fixture *fx, struct str function, size_t credit) {
    bool ack_at_once = s->ack_at_once;
    *s = (struct sink){.fx = fx, .ack_at_once = ack_at_once};
    struct queue_consumer_config config = {
        .function = function,
        .credit = credit,
        .credit_bytes = 64u * 1024 * 1024,
        .on_messages = on_messages,
        .on_lost = on_lost,
        .arg = s,
    };
    s->c = queue_consume(fx->q, &config);
    s->next = fx->sinks;
    fx->sinks = s;
}

void sink_settle_all(struct sink *s) {
    TURN_UNTIL(s->fx->loop, queue_unsettled(s->c) == 0);
}

void sink_close(struct sink *s) {
    queue_consumer_close(s->c);
    struct sink **at = &s->fx->sinks;
    while (*at != s) at = &(*at)->next;
    *at = s->next;
    for (size_t i = 0; i < s->count; i++) {
        union {
            const char *from;
            void *to;
        } why = {.from = s->msgs[i].why.data};
        free(why.to);
        ev_free(s->msgs[i].ev);
    }
    free(s->msgs);
    *s = (struct sink){0};
}

static void on_depth(void *arg, int code, uint64_t ready, uint64_t unsettled, int64_t oldest_ms) {
    (void)oldest_ms;
    *(struct depth *)arg = (struct depth){true, code, ready, unsettled};
}

struct depth ask_depth(struct fixture *fx, struct str function) {
    struct depth d = {0};
    queue_depth(fx->q, function, on_depth, &d);
    assert_false(d.done);
    TURN_UNTIL(fx->loop, d.done);
    return d;
}
