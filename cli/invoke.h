// SPDX-License-Identifier: Apache-2.0
// Inside of weir invoke: what its one-event form and its form for lines (cli/invoke_lines.c) share.
//
// Threads: one. Blocking: yes.
#ifndef CLI_INVOKE_H
#define CLI_INVOKE_H

#include "cli/client.h"

#define EVENT_BYTES_MAX ((size_t)6 * 1024 * 1024) // the server's cap for one payload

struct invocation {
    struct client *client;
    char *path;             // with its query
    char **headers;         // "Name: value", NULL-ended
    const char *source;     // --data as given; NULL: none
    int64_t deadline_ms;    // 0: none
    bool wants_log;
};

// The file descriptor of "@FILE" or "-"; -1: it was said why not. *ret_name is what messages call it.
int invoke_open(const char *source, const char **ret_name);
int invoke_send(const struct invocation *inv, struct str payload, const char *content_type, struct reply *ret,
                struct err *err) must_use;
const char *invoke_content_type(struct str payload);
// Prints the result, or the error with its stack; returns the exit code. where: "line 3: " or "".
int invoke_show(const struct invocation *inv, const struct reply *reply, const char *where);

// One event for each line of the source. async: in chunks, prints the ids; else one call a line, prints the results.
int invoke_each_line(const struct invocation *inv, bool async);

#endif
