// SPDX-License-Identifier: Apache-2.0
// Inside of weir dlq: the options that select letters, as a query and as members of a body, and what several commands share.
//
// A selection is ids (the command's words), or options that all must hold, or --all. --limit is not part of it.
// Errors: functions that return int give an exit code, and have said what is wrong.
// Threads: one. Blocking: yes.
#ifndef CLI_DLQ_H
#define CLI_DLQ_H

#include "cli/client.h"
#include "cli/out.h"

#define DLQ_PAGE 1000    // letters a call
#define DLQ_IDS_MAX 1000 // ids of one selection

// Rows for the tables of commands that select letters; DLQ_FIELD_SPECS for those without --limit.
#define DLQ_FIELD_SPECS                                                                                                      \
    {"group", 'g', ARG_TEXT, "GROUP", "only of this group: its 16 hex digits or its name", NULL},                             \
        {"function", 'f', ARG_TEXT, "FUNCTION", "only letters of this function", NULL},                                           \
        {"error", 'E', ARG_TEXT, "TYPE", "only with this error type, such as KeyError", NULL},                                \
        {"since", 0, ARG_WHEN, "WHEN", "only died since then: 2h (ago) or 2026-01-31T12:00:00Z", NULL},                       \
        {"until", 0, ARG_WHEN, "WHEN", "only died before", NULL},                                                             \
        {"where", 'w', ARG_TEXT, "EXPR", "only where this holds: 'payload.customer = \"acme\" and attempt >= 3'", NULL},      \
        {"search", 0, ARG_TEXT, "TEXT", "only with this text in error, key, source or payload", NULL},                        \
        {"source", 0, ARG_TEXT, "SOURCE", "only from there: kafka, kafka:orders/3, timer:report", NULL}
#define DLQ_SELECT_SPECS DLQ_FIELD_SPECS, {"limit", 0, ARG_COUNT, "N", "at most so many", NULL}
#define DLQ_ALL_SPEC {"all", 0, ARG_FLAG, NULL, "all of them, said on purpose", NULL}
#define DLQ_WHY_SPEC {"why", 0, ARG_TEXT, "TEXT", "the reason, which the letters and the audit keep", NULL}
#define DLQ_YES_SPEC {"yes", 'y', ARG_FLAG, NULL, "do not ask; needed for a selection where there is no terminal", NULL}
#define DLQ_STATE_SPEC(what) \
    {"state", 's', ARG_WORD, "STATE", what, "due|dead|replaying|replayed|discarded"}

// --- the selection (cli/dlq_select.c); the command's table has DLQ_SELECT_SPECS, and DLQ_ALL_SPEC if it takes --all --------

// Does it say which letters, in one way? verb: the command, for the message: "discard".
int dlq_check_selection(const struct args *a, const char *verb) must_use;
// Only that no option was given twice and --limit is not 0: for commands that may do without a selection.
int dlq_check_options(const struct args *a, const char *verb) must_use;
// Members of a request's body: {"ids":[…]}, or the options given and the state, or with --all {"all":true} and the state.
// state: NULL for the server's default; ids have none.
json_t *dlq_selection_json(const struct args *a, const char *state) must_use;
// Adds the options (not the ids) to the query of *path. also: an expression that must hold too, or NULL.
void dlq_selection_query(const struct args *a, const char *state, const char *also, char **path);
// An option of the selection was given (--limit and --all are none).
bool dlq_has_selection(const struct args *a);
// "letters of orders with error KeyError", "2 letters"; for questions. Caller frees.
char *dlq_selection_text(const struct args *a) must_use;

// --- asking (cli/dlq_confirm.c); the command's table has DLQ_YES_SPEC --------------------------------------------------------

struct dlq_question {
    const char *verb;    // "Discard"
    const char *state;   // NULL is dead
    const char *done;    // "discarded"
    const char *only;    // an expression that holds for those of the selection that it changes; NULL: it changes them all
};
// Goes on at once with --yes or one id, asks "verb letters of …: 5 of 900 dead letters?" on a terminal, without the numbers when the server cannot
// tell them, and refuses a selection where there is none. EXIT_OK: go on; else that was said.
int dlq_confirm(struct client *c, const struct args *a, const struct dlq_question *q) must_use;
// How many letters the selection has, at most --limit; *ret is -1 when the server cannot tell, such as for want of time.
int dlq_count(struct client *c, const struct args *a, const char *state, int64_t *ret) must_use;
// The same of those of the selection for which `also` holds too; -1: not known, or it is wrong, which dlq_count says.
int64_t dlq_count_also(struct client *c, const struct args *a, const char *state, const char *also);
// Refuses a change of `count` letters (-1: not known) for want of an answer. Never EXIT_OK.
int dlq_refuse(int64_t count, const char *done) must_use;
bool dlq_can_ask(void);      // stdin, stdout and stderr are a terminal
void dlq_forget_typed(void); // what was typed before a question is no answer to it
// Says so when --where asks for `PATH is null` and no letter of that state has the path.
void dlq_hint_missing(struct client *c, const struct args *a, const char *state);
// Letters for which `where` (NULL: any) holds; -1: not known.
int64_t dlq_count_quietly(struct client *c, const char *state, const char *where);
json_t *dlq_ask_quietly(struct client *c, const char *path) must_use; // NULL: no answer, or an error

// --- reading (cli/dlq.c) --------------------------------------------------------------------------------------------------

// Fetches up to `limit` summaries (0: all), newest first, over as many pages as that takes. *ret_more: there are others.
int dlq_fetch(struct client *c, const struct args *a, const char *state, int64_t limit, json_t **ret_letters, bool *ret_more)
    must_use;
int dlq_fetch_one(struct client *c, const char *id, json_t **ret) must_use; // the whole letter
void dlq_print_table(const json_t *letters);
char *dlq_error_text(const json_t *letter) must_use; // "KeyError: 'total'"; of an attempt or a group too. Caller frees
enum tone dlq_state_tone(const char *state);
// What happened to a whole letter, a line each; with all_attempts every stack and log (cli/dlq_life.c).
void dlq_print_life(const json_t *letter, bool all_attempts);
void dlq_print_patch(const json_t *patch, const char *indent); // a line an operation
// For an answer without letters: says which function or group there is not (EXIT_FAILED), and which error types there are (cli/dlq_empty.c).
int dlq_explain_empty(struct client *c, const struct args *a) must_use;
// Each of "refused":[{"id","state","why"}…] on stderr. Returns how many.
size_t dlq_print_refused(const json_t *refused);

extern const struct command dlq_groups, dlq_group, dlq_show, dlq_edit, dlq_discard, dlq_restore, dlq_retry, dlq_purge, dlq_policy;

#endif
