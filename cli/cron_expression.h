// SPDX-License-Identifier: Apache-2.0
// An expression on the command line: read, shown where it is wrong, and its next times.
//
// Errors: exit codes; the reason has been said. Threads: one.
#ifndef CLI_CRON_EXPRESSION_H
#define CLI_CRON_EXPRESSION_H

#include "cli/cron.h"

#define EXPRESSION_WORDS_MAX 1000 // that are taken, to say that it wants quotes

struct expression {
    const char *text;   // as given
    struct str fields;  // without the zone in front
    struct cron cron;
    struct zone *zone;
    enum cron_dst dst;
};

// A word with a blank in it, or with an @ in front; what else stands there names a trigger.
bool is_expression(const char *word);
// An expression that the shell has taken apart is said to need quotes.
int expression_one_word(const struct args *a);

// Of --tz and --dst, when the command has them. A wrong one is shown with a caret below what is wrong.
int expression_open(const struct args *a, const char *text, struct expression *ret);
void expression_done(struct expression *e);
char *expression_words(const struct expression *e) must_use; // caller frees
// {"zone","expression","words","fires":[…]} as the server tells it of a trigger. from_ms 0: now, to_ms 0: no end.
json_t *expression_next(const struct expression *e, int64_t from_ms, int64_t to_ms, size_t count) must_use;

// For those who show the error themselves: 0, or ERR_INVALID with *where.
int expression_parse(const char *text, struct expression *ret, struct str *ret_zone, struct cron_error *where, struct err *err) must_use;
int expression_complain(const char *text, const struct cron_error *where, const struct err *err); // EXIT_FAILED

#endif
