// SPDX-License-Identifier: Apache-2.0
// weir invoke: hands one event, or one event a line, to a function.
#include "cli/invoke.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/out.h"
#include "core/base/buf.h"
#include "core/digest.h"

// Time for the way there and back on top of the deadline that the server keeps.
#define DEADLINE_SLACK_MS 5000

static const struct arg_spec specs[] = {
    {"data", 'd', ARG_TEXT, "TEXT|@FILE|-", "the payload: as it stands, of a file, or of stdin (default: empty)", NULL},
    {"async", 'a', ARG_FLAG, NULL, "only hand it over; prints the event's id", NULL},
    {"each-line", 'l', ARG_FLAG, NULL, "every line of the data is an event", NULL},
    {"deadline", 0, ARG_DURATION, "TIME", "how long to wait in all, retries included (default: one attempt)", NULL},
    {"header", 'H', ARG_TEXT, "K=V", "header of the event; may be repeated", NULL},
    {"key", 'k', ARG_TEXT, "KEY", "ordering key: given to the function, kept by retries and replays", NULL},
    {"log", 0, ARG_FLAG, NULL, "print also what the function wrote, on stderr", NULL},
    {0},
};

// --- payloads -----------------------------------------------------------------------------------------------------

int invoke_open(const char *source, const char **ret_name) {
    if (strcmp(source, "-") == 0) {
        *ret_name = "stdin";
        return STDIN_FILENO;
    }
    *ret_name = source + 1;
    int fd = open(source + 1, O_RDONLY | O_CLOEXEC);
    if (fd < 0) out_fail("%s: %s", source + 1, strerror(errno));
    return fd;
}

static bool names_file(const char *source) {
    return source[0] == '@' || strcmp(source, "-") == 0;
}

static int read_all(const char *source, struct buf *ret) {
    const char *name;
    int fd = invoke_open(source, &name);
    if (fd < 0) return EXIT_FAILED;
    int rc = EXIT_OK;
    char chunk[65536];
    for (ssize_t n = 1; rc == EXIT_OK && n > 0;) {
        n = read(fd, chunk, sizeof chunk);
        if (n < 0) rc = out_fail("%s: %s", name, strerror(errno));
        else if (buf_append(ret, (struct str){chunk, (size_t)n}) < 0)
            rc = out_fail("%s is over %zu MiB, the most that one event can carry; put it elsewhere and send its address", name,
                          EVENT_BYTES_MAX >> 20);
    }
    if (fd != STDIN_FILENO) close(fd);
    return rc;
}

static int read_payload(const struct invocation *inv, struct buf *ret) {
    buf_init(ret, EVENT_BYTES_MAX);
    if (!inv->source) return EXIT_OK;
    if (names_file(inv->source)) return read_all(inv->source, ret);
    if (buf_append(ret, str_of(inv->source)) < 0) return out_fail("--data is too long for one event");
    return EXIT_OK;
}

const char *invoke_content_type(struct str payload) {
    if (payload.len == 0) return NULL;
    json_t *value = json_loadb(payload.data, payload.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (!value) return "application/octet-stream";
    json_decref(value);
    return "application/json";
}

// --- sending ------------------------------------------------------------------------------------------------------

int invoke_send(const struct invocation *inv, struct str payload, const char *content_type, struct reply *ret,
                struct err *err) {
    struct request request = {
        .method = "POST",
        .path = inv->path,
        .body = payload,
        .content_type = content_type,
        .headers = (const char *const *)inv->headers,
        .timeout_ms = inv->deadline_ms ? inv->deadline_ms + DEADLINE_SLACK_MS : 0,
    };
    return client_send(inv->client, &request, ret, err);
}

static void show_log(const struct reply *reply) {
    if (!reply->log) return;
    struct buf text;
    buf_init(&text, 1 << 20);
    if (base64_decode(str_of(reply->log), &text, NULL) == 0) out_block(stderr, "", buf_str(&text));
    buf_done(&text);
}

static int show_failure(const struct invocation *inv, const struct reply *reply, const char *where) {
    json_auto_t *answer = json_loadb(reply->body, reply->body_len, 0, NULL);
    const char *type = member_text(answer, "errorType", ""), *stack = member_text(answer, "stack", "");
    const char *log = member_text(answer, "log", "");
    if (inv->wants_log) out_block(stderr, "", str_of(log));
    cleanup_free char *message = reply_error(reply);
    out_fail("%s%s%s%s", where, type, *type ? ": " : "", message);
    out_block(stderr, "  ", str_of(stack));
    return EXIT_FAILED;
}

int invoke_show(const struct invocation *inv, const struct reply *reply, const char *where) {
    if (reply->status >= 400) return show_failure(inv, reply, where);
    if (inv->wants_log) show_log(reply);
    struct str result = {reply->body, reply->body_len};
    out_text(stdout, result);
    if (result.len == 0 || result.data[result.len - 1] != '\n') putchar('\n');
    fflush(stdout);
    return EXIT_OK;
}

static int show_accepted(const struct reply *reply) {
    json_auto_t *answer = json_loadb(reply->body, reply->body_len, 0, NULL);
    puts(member_text(answer, "requestId", ""));
    return EXIT_OK;
}

static int invoke_once(const struct invocation *inv, bool async) {
    struct buf payload;
    int rc = read_payload(inv, &payload);
    if (rc == EXIT_OK) {
        struct err err;
        struct reply reply;
        struct str bytes = buf_str(&payload);
        if (invoke_send(inv, bytes, invoke_content_type(bytes), &reply, &err) < 0) {
            rc = out_fail("%s", err.text);
        } else {
            rc = async && reply.status < 400 ? show_accepted(&reply) : invoke_show(inv, &reply, "");
            reply_done(&reply);
        }
    }
    buf_done(&payload);
    return rc;
}

// --- the command line ---------------------------------------------------------------------------------------------

static char *make_path(const struct args *a, bool async) {
    const char *colon = strchr(a->words[0], ':');
    cleanup_free char *name =
        colon ? mem_strndup((struct str){a->words[0], (size_t)(colon - a->words[0])}) : mem_strdup(a->words[0]);
    char *path = path_new("/v1/functions");
    path_add(&path, name);
    path_add(&path, "invocations");
    path_query(&path, "invokeType", async ? "Event" : "RequestResponse");
    path_query(&path, "qualifier", colon ? colon + 1 : NULL);
    if (async && args_has(a, "each-line")) path_query(&path, "each", "line");
    if (args_has(a, "deadline")) path_query_number(&path, "deadlineMs", args_number(a, "deadline", 0));
    if (!async && args_has(a, "log")) path_query(&path, "logType", "Tail");
    return path;
}

static bool is_one_line(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 && *text != '\t') return false;
    return true;
}

static int make_headers(const struct args *a, char ***ret) {
    size_t count = 0;
    const char *pair, *key = args_text(a, "key");
    char **headers = mem_array(a->value_count + 2, sizeof *headers);
    *ret = headers;
    for (size_t i = 0; (pair = args_nth(a, "header", i)); i++) {
        const char *equals = strchr(pair, '=');
        if (!equals || equals == pair || !is_one_line(pair) || strcspn(pair, " \t:") < (size_t)(equals - pair))
            return out_misuse("--header '%s' is not of the form NAME=VALUE", pair);
        headers[count++] = mem_printf("X-Weir-Header-%.*s: %s", (int)(equals - pair), pair, equals + 1);
    }
    if (key && (!is_one_line(key) || !*key)) return out_misuse("--key: it must be text of one line");
    if (key) headers[count++] = mem_printf("X-Weir-Ordering-Key: %s", key);
    return EXIT_OK;
}

static int check_use(const struct args *a, bool async) {
    if (async && args_has(a, "log")) return out_misuse("--log needs the result; leave --async out, or see weir logs");
    if (async && args_has(a, "deadline")) return out_misuse("--deadline is for calls that wait; leave --async out");
    if (args_has(a, "each-line") && !args_has(a, "data"))
        return out_misuse("--each-line needs the lines: --data @FILE, or --data - for stdin");
    return EXIT_OK;
}

static int run_invoke(const struct args *a) {
    bool async = args_has(a, "async");
    int rc = check_use(a, async);
    if (rc != EXIT_OK) return rc;
    struct invocation inv = {
        .path = make_path(a, async),
        .source = args_text(a, "data"),
        .deadline_ms = args_number(a, "deadline", 0),
        .wants_log = args_has(a, "log"),
        .client = client_new(a),
    };
    rc = make_headers(a, &inv.headers);
    if (rc == EXIT_OK) rc = args_has(a, "each-line") ? invoke_each_line(&inv, async) : invoke_once(&inv, async);
    for (char **h = inv.headers; *h; h++) free(*h);
    free(inv.headers);
    free(inv.path);
    client_free(inv.client);
    return rc;
}

const struct command invoke_command = {
    .name = "invoke",
    .words = "NAME[:VERSION]",
    .summary = "Runs a function on an event and prints what it returned",
    .about = "\n  weir invoke hello --data '{\"n\": 1}'\n"
             "  weir invoke hello --data @orders.ndjson --async --each-line     one event a line; prints the ids\n",
    .specs = specs,
    .uses = USES_SERVER,
    .least = 1,
    .most = 1,
    .run = run_invoke,
};
