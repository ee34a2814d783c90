// SPDX-License-Identifier: Apache-2.0
// The question before many letters are changed: it tells how many of how many; where nobody can answer, nothing is done.
#include <inttypes.h>
#include <termios.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/dlq.h"

#define QUIET_MS 10000 // for answers that a command can do without

// --- counting -----------------------------------------------------------------------------------------------------

json_t *dlq_ask_quietly(struct client *c, const char *path) {
    const struct request request = {.method = "GET", .path = path, .timeout_ms = QUIET_MS};
    struct reply reply;
    struct err err;
    if (client_send(c, &request, &reply, &err) < 0) return NULL;
    json_t *answer = reply.status < 400 ? json_loadb(reply.body, reply.body_len, JSON_ALLOW_NUL, NULL) : NULL;
    reply_done(&reply);
    return answer;
}

int64_t dlq_count_quietly(struct client *c, const char *state, const char *where) {
    cleanup_free char *path = path_new("/v1/letters");
    path_query(&path, "state", state);
    path_query(&path, "where", where);
    path_query(&path, "limit", "1");
    path_query(&path, "count", "true");
    json_auto_t *answer = dlq_ask_quietly(c, path);
    return member_int(answer, "count", -1);
}

static char *count_path(const struct args *a, const char *state, const char *also) {
    char *path = path_new("/v1/letters");
    dlq_selection_query(a, state, also, &path);
    path_query(&path, "limit", "1");
    path_query(&path, "count", "true");
    return path;
}

static int64_t limited(const struct args *a, int64_t count) {
    int64_t limit = args_takes(a, "limit") ? args_number(a, "limit", INT64_MAX) : INT64_MAX;
    return count < limit ? count : limit;
}

int dlq_count(struct client *c, const struct args *a, const char *state, int64_t *ret) {
    cleanup_free char *path = count_path(a, state, NULL), *why = NULL;
    const struct request request = {.method = "GET", .path = path};
    struct reply reply;
    struct err err;
    *ret = -1;
    int rc = client_send(c, &request, &reply, &err);
    if (rc == ERR_TIMEOUT) return EXIT_OK;
    if (rc < 0) return out_fail("%s", err.text);
    json_auto_t *answer = reply.status < 400 ? json_loadb(reply.body, reply.body_len, JSON_ALLOW_NUL, NULL) : NULL;
    if (reply.status >= 400 && reply.status < 500) why = reply_error(&reply);
    reply_done(&reply);
    if (why) return out_fail("%s", why);
    *ret = limited(a, member_int(answer, "count", -1));
    return EXIT_OK;
}

int64_t dlq_count_also(struct client *c, const struct args *a, const char *state, const char *also) {
    cleanup_free char *path = count_path(a, state, also);
    json_auto_t *answer = dlq_ask_quietly(c, path);
    return limited(a, member_int(answer, "count", -1));
}

// Of the letters that it is about.
static int count_asked(struct client *c, const struct args *a, const struct dlq_question *q, int64_t *ret) {
    int64_t all;
    if (!q->only) return dlq_count(c, a, q->state, ret);
    *ret = dlq_count_also(c, a, q->state, q->only);
    return *ret < 0 ? dlq_count(c, a, q->state, &all) : EXIT_OK; // which says what is wrong with the selection
}

// --- a path that nothing has --------------------------------------------------------------------------------------

// The word before " is null"; NULL: there is none. Caller frees.
static char *path_said_null(const char *where) {
    const char *end = where ? strcasestr(where, " is null") : NULL, *begin = end;
    while (begin && begin > where && !strchr(" \t\n(", begin[-1])) begin--;
    return begin && begin < end ? mem_strndup((struct str){begin, (size_t)(end - begin)}) : NULL;
}

void dlq_hint_missing(struct client *c, const struct args *a, const char *state) {
    cleanup_free char *path = path_said_null(args_text(a, "where"));
    if (!path) return;
    cleanup_free char *where = mem_printf("%s is not null", path);
    if (dlq_count_quietly(c, state, where) == 0)
        out_note("none of the %s letters has %s: is it spelled right?", state ? state : "dead", path);
}

// --- asking -------------------------------------------------------------------------------------------------------

bool dlq_can_ask(void) {
    return out_is_terminal(stdin) && out_is_terminal(stdout) && out_is_terminal(stderr);
}

void dlq_forget_typed(void) {
    (void)tcflush(STDIN_FILENO, TCIFLUSH);
}

int dlq_refuse(int64_t count, const char *done) {
    char n[OUT_NUMBER_BYTES];
    if (count < 0) return out_misuse("nothing is done without an answer: add --yes");
    return out_misuse("nothing is done without an answer: add --yes (%s letter%s would be %s)", out_number(count, n), plural(count), done);
}

// ": 595 of 40,000 dead letters"; caller frees.
static char *share_text(struct client *c, const struct args *a, const char *state, int64_t count) {
    char n[OUT_NUMBER_BYTES], all[OUT_NUMBER_BYTES];
    if (count < 0) return mem_strdup("");
    int64_t of = dlq_has_selection(a) ? dlq_count_quietly(c, state, NULL) : -1;
    if (of < count) return mem_printf(": %s %s letter%s", out_number(count, n), state ? state : "dead", plural(count));
    return mem_printf(": %s of %s %s letter%s", out_number(count, n), out_number(of, all), state ? state : "dead", plural(of));
}

int dlq_confirm(struct client *c, const struct args *a, const struct dlq_question *q) {
    if (a->word_count == 1 || args_has(a, "yes") || (a->word_count && !dlq_can_ask())) return EXIT_OK;
    cleanup_free char *which = dlq_selection_text(a), *share = NULL;
    if (a->word_count == 0) {
        int64_t count = -1;
        out_progress("looking …");
        int rc = count_asked(c, a, q, &count);
        out_progress(NULL);
        if (rc != EXIT_OK) return rc;
        if (!dlq_can_ask()) return dlq_refuse(count, q->done);
        share = share_text(c, a, q->state, count);
        if (count >= 0) dlq_hint_missing(c, a, q->state);
    }
    dlq_forget_typed();
    return out_confirm("%s %s%s?", q->verb, which, share ? share : "") ? EXIT_OK : out_fail("nothing was %s", q->done);
}
