// SPDX-License-Identifier: Apache-2.0
// weir dlq pull: a letter and the settings of its function as a case, which weir run takes.
#include <errno.h>

#include "cli/case.h"
#include "cli/commands.h"
#include "cli/dlq.h"
#include "cli/dlq_replay.h"
#include "cli/out.h"
#include "core/base/buf.h"

// *ret is NULL when there is no such function any more.
static int fetch_function(struct client *c, const char *name, json_t **ret) {
    cleanup_free char *path = path_new("/v1/functions");
    path_add(&path, name);
    const struct request request = {.method = "GET", .path = path};
    struct reply reply;
    struct err err;
    if (client_send(c, &request, &reply, &err) < 0) return out_fail("%s", err.text);
    cleanup_free char *why = reply.status >= 400 ? reply_error(&reply) : NULL;
    json_t *function = why ? NULL : json_loadb(reply.body, reply.body_len, JSON_ALLOW_NUL, NULL);
    bool gone = reply.status == 404;
    reply_done(&reply);
    if (!function && !gone) return out_fail("function '%s': %s", name, why ? why : "the answer is not JSON");
    if (gone) out_note("there is no function '%s' any more; the case is without its settings", name);
    *ret = function;
    return EXIT_OK;
}

static int print_case(const json_t *letter, const json_t *function) {
    struct buf out;
    struct err err;
    buf_init(&out, CASE_BYTES_MAX);
    int rc = EXIT_OK;
    if (case_write(letter, function, &out, &err) < 0) {
        rc = out_fail("%s", err.text);
    } else {
        struct str text = buf_str(&out);
        bool ended = text.len && text.data[text.len - 1] == '\n';
        if (fwrite(text.data, 1, text.len, stdout) != text.len || (!ended && putchar('\n') == EOF) || fflush(stdout) != 0)
            rc = out_fail("stdout: %s", strerror(errno));
    }
    buf_done(&out);
    return rc;
}

static int run_pull(const struct args *a) {
    cleanup_client struct client *c = client_new(a);
    json_auto_t *letter = NULL, *function = NULL;
    int rc = dlq_fetch_one(c, a->words[0], &letter);
    if (rc == EXIT_OK) rc = fetch_function(c, member_text(letter, "function", ""), &function);
    if (rc != EXIT_OK) return rc;
    if (member_true(letter, "redacted"))
        out_note("parts of the letter are masked (the server's option redact); the function sees \"***\" there");
    return print_case(letter, function);
}

const struct command dlq_pull = {
    .name = "pull",
    .words = "ID",
    .summary = "Writes the event of a letter, with the settings of its function, as a case for weir run",
    .about = "\n  weir dlq pull 0192f3c4-… > case.json\n"
             "  weir run handler.py --event case.json\n",
    .uses = USES_SERVER,
    .least = 1,
    .most = 1,
    .run = run_pull,
};
