// SPDX-License-Identifier: Apache-2.0
// weir logs: what a function's handlers wrote, the newest lines, and then what comes.
#include <time.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/out.h"

#define PAGE_LINES 1000
#define POLL_WAIT_MS 25000

static const struct arg_spec specs[] = {
    {"follow", 'f', ARG_FLAG, NULL, "go on with new lines, until Ctrl-C", NULL},
    {"lines", 'n', ARG_COUNT, "N", "how many of the newest lines (default 50)", NULL},
    {0},
};

static void print_line(const json_t *line) {
    int64_t ms = member_int(line, "timeMs", 0);
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    char clock[32];
    localtime_r(&s, &tm);
    strftime(clock, sizeof clock, "%Y-%m-%d %H:%M:%S", &tm);
    printf("%s%s.%03d :%lld %s%s ", out_tone(stdout, TONE_DIM), clock, (int)(ms % 1000),
           (long long)member_int(line, "version", 0), member_text(line, "requestId", "-"), out_tone(stdout, TONE_PLAIN));
    out_text(stdout, str_of(member_text(line, "text", "")));
    putchar('\n');
}

static void print_lines(const json_t *lines, bool as_json) {
    size_t i;
    const json_t *line;
    json_array_foreach(lines, i, line) {
        if (as_json) out_json_line(line);
        else print_line(line);
    }
}

// One page behind the cursor, which is moved. The server's cursors are handed back as they came.
static int read_page(struct client *c, const char *name, char **cursor, int wait_ms, json_t **ret) {
    cleanup_free char *path = path_new("/v1/functions");
    path_add(&path, name);
    path_add(&path, "logs");
    path_query(&path, "after", *cursor);
    path_query_number(&path, "limit", PAGE_LINES);
    if (wait_ms) path_query_number(&path, "waitMs", wait_ms);
    int rc = client_json(c, "GET", path, NULL, ret);
    if (rc != EXIT_OK) return rc;
    const json_t *next = json_object_get(*ret, "next");
    if (!next || json_is_null(next)) return EXIT_OK;
    free(*cursor);
    *cursor = json_is_string(next) ? mem_strdup(json_string_value(next)) : json_dumps(next, JSON_ENCODE_ANY);
    return EXIT_OK;
}

// The pages come oldest first, so that the newest lines are known only at the end; the server keeps few.
static int show_newest(struct client *c, const struct args *a, char **cursor) {
    json_auto_t *newest = json_array();
    size_t wanted = (size_t)args_number(a, "lines", 50), got;
    do {
        json_auto_t *page = NULL;
        int rc = read_page(c, a->words[0], cursor, 0, &page);
        if (rc != EXIT_OK) return rc;
        json_t *lines = json_object_get(page, "lines");
        got = json_array_size(lines);
        json_array_extend(newest, lines);
        size_t over = json_array_size(newest) > wanted ? json_array_size(newest) - wanted : 0;
        json_auto_t *kept = json_array();
        for (size_t i = over; i < json_array_size(newest); i++) json_array_append(kept, json_array_get(newest, i));
        json_decref(newest);
        newest = json_incref(kept);
    } while (got >= PAGE_LINES);
    print_lines(newest, args_has(a, "json"));
    if (json_array_size(newest) == 0 && !args_has(a, "follow")) out_note("%s has written nothing yet", a->words[0]);
    return EXIT_OK;
}

static int run_logs(const struct args *a) {
    cleanup_client struct client *c = client_new(a);
    cleanup_free char *cursor = NULL;
    int rc = show_newest(c, a, &cursor);
    while (rc == EXIT_OK && args_has(a, "follow") && fflush(stdout) == 0) {
        json_auto_t *page = NULL;
        rc = read_page(c, a->words[0], &cursor, POLL_WAIT_MS, &page);
        if (rc == EXIT_OK) print_lines(json_object_get(page, "lines"), args_has(a, "json"));
    }
    return rc;
}

const struct command logs_command = {
    .name = "logs",
    .words = "FUNCTION",
    .summary = "Prints what a function wrote to stdout and stderr",
    .about = "Each line: time, version, id of the event, text. With --json one object a line.\n",
    .specs = specs,
    .uses = USES_SERVER | USES_JSON,
    .least = 1,
    .most = 1,
    .run = run_logs,
};
